//! The program itself, as a user runs it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

/// How long anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(120);

/// The program under test: cargo's, or a release's that the environment names.
/// How far apart the points are that are tried, where there are very many: all of them with `STANCH_TEST_ALL_FAULTS`.
pub(crate) fn apart(points: usize) -> usize {
    if std::env::var_os("STANCH_TEST_ALL_FAULTS").is_some() { 1 } else { points }
}

fn binary() -> std::ffi::OsString {
    std::env::var_os("STANCH_TEST_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_stanch").into())
}

/// A state folder, a runbook, and the environment that the program gets.
pub(crate) struct Tool {
    pub(crate) folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

impl Tool {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("folder"), environment: Vec::new() }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Writes a runbook and returns its path.
    pub(crate) fn runbook(&self, text: &str) -> PathBuf {
        let path = self.folder.path().join("runbook.yaml");
        std::io::Write::write_all(&mut std::fs::File::create(&path).expect("runbook"), text.as_bytes())
            .expect("runbook");
        path
    }

    /// The program with these arguments, nothing inherited that could make a difference.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("LANG", "C.UTF-8")
            .env("USER", "tester")
            .env("STANCH_STATE", self.state())
            .envs(self.environment.iter().map(|(n, v)| (n, v)))
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end, while servers of the test's own go on.
    pub(crate) async fn done(&self, arguments: &[&str]) -> Ran {
        let command = tokio::process::Command::from(self.command(arguments)).output();
        Ran::of(command.await.expect("the program starts"))
    }

    /// Runs it until one of its threads makes one of these system calls for the nth time, at which the kernel kills it.
    /// Whether that was before its end.
    pub(crate) async fn killed_in(&self, arguments: &[&str], calls: &str, nth: u32) -> bool {
        let command = tokio::process::Command::from(self.to_be_killed_in(arguments, calls, nth)).output();
        Self::was_killed(&command.await.expect("strace starts (install strace)"))
    }

    /// The command for that.
    pub(crate) fn to_be_killed_in(&self, arguments: &[&str], calls: &str, nth: u32) -> Command {
        let own = self.command(arguments);
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
        command.args(["-e", &format!("inject={calls}:signal=KILL:when={nth}"), "--"]);
        command.arg(own.get_program()).args(own.get_args()).env_clear();
        command.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdin(Stdio::null());
        command
    }

    /// Whether such a command was killed; else it ended well.
    pub(crate) fn was_killed(ended: &Output) -> bool {
        let code = ended.status.code().filter(|code| *code != 128 + 9);
        assert!(code.is_none_or(|code| code == 0), "{ended:?}");
        code.is_none()
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().expect("the program starts"))
    }

    /// Starts it and goes on.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        let child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        Running { child }
    }

    /// The newest run's journal, once it is there.
    pub(crate) fn journal(&self) -> Option<PathBuf> {
        newest_journal(&self.state())
    }

    /// The newest run's id.
    pub(crate) fn newest(&self) -> String {
        let journal = self.journal().expect("a run");
        let folder = journal.parent().and_then(Path::file_name).expect("a folder");
        folder.to_string_lossy().into_owned()
    }

    /// Waits until the newest run's journal contains a text.
    pub(crate) fn wait_for(&self, text: &str) {
        self.wait_until(|lines| lines.contains(text), text);
    }

    /// Waits until the newest run's journal is as wanted.
    pub(crate) fn wait_until(&self, wanted: impl Fn(&str) -> bool, what: &str) {
        let mut waited = Duration::ZERO;
        loop {
            let text = self.journal().and_then(|p| std::fs::read_to_string(p).ok()).unwrap_or_default();
            // The plan stands in the first line and names everything.
            let rest = text.split_once('\n').map(|(_, rest)| rest).unwrap_or_default();
            if wanted(rest) {
                return;
            }
            assert!(waited < PATIENCE, "the journal never got to `{what}`: {rest}");
            std::thread::sleep(Duration::from_millis(5));
            waited += Duration::from_millis(5);
        }
    }

    /// What `status --json` says.
    pub(crate) fn status(&self) -> Value {
        let run = self.newest();
        let ran = self.run(&["status", "--json", &run]);
        serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran:?}"))
    }
}

/// The newest journal in a state folder.
pub(crate) fn newest_journal(state: &Path) -> Option<PathBuf> {
    let mut runs: Vec<_> = std::fs::read_dir(state.join("runs"))
        .ok()?
        .flatten()
        .map(|e| e.path().join("journal.jsonl"))
        .filter(|p| p.exists())
        .collect();
    runs.sort_by_key(|p| std::fs::metadata(p).and_then(|m| m.modified()).ok());
    runs.pop()
}

/// Bounds what a process that runs may use.
pub(crate) fn limit(pid: Option<u32>, what: rustix::process::Resource, most: u64) {
    let pid = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
    let most = rustix::process::Rlimit { current: Some(most), maximum: Some(most) };
    // Without a pid it would be the test's own process.
    rustix::process::prlimit(Some(pid.expect("it runs")), what, most).expect("limit");
}

/// How the program ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// How a run ends whose runbook has no check that could prove the old credential dead.
pub(crate) const NOT_PROVED: i32 = 15;

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    /// What a program says to this on its standard input.
    pub(crate) fn fed(command: &mut Command, input: &str) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let mut stdin = child.stdin.take().expect("input");
        std::io::Write::write_all(&mut stdin, input.as_bytes()).expect("written");
        drop(stdin);
        Self::of(child.wait_with_output().expect("it ends"))
    }

    /// Panics unless the program ended with this code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

/// The program, running.
pub(crate) struct Running {
    child: Child,
}

impl Running {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, by its name.
    pub(crate) fn signal(&self, name: &str) {
        let done = Command::new("kill").args(["-s", name, &self.id().to_string()]).status();
        assert!(done.expect("kill").success());
    }

    pub(crate) fn wait(self) -> Ran {
        Ran::of(self.child.wait_with_output().expect("wait"))
    }
}

/// The consumer process of `examples/consumer.rs`. Ends with the test.
pub(crate) struct Consumer {
    child: Child,
    pub(crate) url: String,
}

impl Consumer {
    pub(crate) fn start(environment: &[(&str, &str)]) -> Self {
        // Cargo builds examples with the tests, two folders up from the test's own binary.
        let tests = std::env::current_exe().expect("test binary");
        let debug = tests.parent().and_then(Path::parent).expect("target folder");
        let mut child = Command::new(debug.join("examples/consumer"))
            .env_clear()
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the consumer starts: cargo build --examples");
        let mut url = String::new();
        BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut url).expect("its address");
        assert!(url.starts_with("http://"), "the consumer did not start");
        Self { child, url: url.trim().to_owned() }
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = crate::servers::plain_http().get(format!("{}{path}", self.url)).send().await;
        let text = answer.expect("the consumer answers").text().await.expect("body");
        serde_json::from_str(&text).expect("JSON")
    }

    pub(crate) async fn post(&self, path: &str) {
        let answer = crate::servers::plain_http().post(format!("{}{path}", self.url)).send().await;
        assert!(answer.expect("the consumer answers").status().is_success());
    }

    /// What it did so far. Panics when it was slower than 50 requests a second.
    pub(crate) async fn stats(&self) -> Value {
        let stats = self.get("/-/stats").await;
        eprintln!("consumer: {stats}");
        assert!(
            stats["per_second"].as_f64().is_some_and(|r| r >= 50.0),
            "too slow to prove anything: {stats}"
        );
        stats
    }

    /// Panics when one request failed.
    pub(crate) async fn never_failed(&self) {
        let stats = self.stats().await;
        assert_eq!(stats["failed"], 0, "the consumer had an outage: {stats}");
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Panics when a file below a folder contains one of these texts, plain, in base64 or in hex.
pub(crate) fn search(folder: &Path, secrets: &[String]) {
    use base64::Engine as _;
    let mut files = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("folder") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            files += 1;
            let bytes = std::fs::read(&path).expect("file");
            for secret in secrets {
                let base64 = base64::engine::general_purpose::STANDARD_NO_PAD.encode(secret);
                for form in [secret.clone(), base64, hex::encode(secret)] {
                    let found = bytes.windows(form.len()).any(|w| w == form.as_bytes());
                    assert!(!found, "a secret stands in {}", path.display());
                }
            }
        }
    }
    assert!(files > 3, "the state folder was searched");
}

/// Whether any file below a folder, but those that are sealed, holds a text.
pub(crate) fn holds(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).expect("folder").map(|entry| entry.expect("entry").path()).any(|path| {
        if path.is_dir() {
            holds(&path, text)
        } else {
            String::from_utf8_lossy(&std::fs::read(&path).expect("file")).contains(text)
        }
    })
}
