//! OpenSSH's server, as its administrator sees it: what is set up and asked here goes by `ssh-keygen`, `ssh` and the files
//! themselves, and not through the code under test.
#![expect(clippy::disallowed_methods, reason = "a test writes what it likes")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::servers::closed_port;

/// Where Debian has it. `scripts/test` says where else.
const INSTALLED: &str = "/usr/sbin/sshd";
/// What a retired line begins with.
pub(crate) const RETIRED: &str = "#stanch-retired ";
/// The user that it runs as, and that logs in, where the tests run as root: its number and name.
const NOBODY: (u32, &str) = (65534, "nobody");

/// A server of one test, with the keys that it goes by.
pub(crate) struct Sshd {
    child: Child,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) folder: tempfile::TempDir,
    /// The host key, as a runbook has it.
    pub(crate) host_key: String,
    /// Each file of authorized keys before anything was changed.
    pub(crate) first: Vec<String>,
    files: usize,
    /// None where the server lets no key in.
    session: Mutex<Option<Session>>,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An open login: a subsystem that answers.
struct Session {
    child: Child,
    sends: ChildStdin,
    says: ChildStdout,
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Session {
    /// Whether the server answers in it: `SSH_FXP_INIT` first, later `SSH_FXP_REALPATH`.
    fn asks(&mut self, request: &[u8]) -> bool {
        let mut length = [0; 4];
        let sent = self.sends.write_all(request).and_then(|()| self.sends.flush());
        if sent.and_then(|()| self.says.read_exact(&mut length)).is_err() {
            return false;
        }
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        self.says.read_exact(&mut answer).is_ok()
    }
}

fn keygen(arguments: &[&str]) -> Command {
    let mut command = Command::new("ssh-keygen");
    command.args(arguments).env_remove("SSH_AUTH_SOCK").stdin(Stdio::null());
    command
}

fn root() -> bool {
    Path::new("/proc/self").metadata().expect("a process").uid() == 0
}

fn ran(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

impl Sshd {
    /// One that goes by so many files, each with the old key.
    pub(crate) fn start(files: usize, settings: &str) -> Self {
        let started = Self::with_old(files, settings, &["-t", "ed25519"]);
        assert!(started.session_is_alive(), "the old key opens no session: {}", started.log());
        started
    }

    /// One whose settings let no key in by itself.
    pub(crate) fn start_closed(files: usize, settings: &str) -> Self {
        Self::with_old(files, settings, &["-t", "ed25519"])
    }

    /// The same, with an old key of this kind.
    pub(crate) fn with_old(files: usize, settings: &str, kind: &[&str]) -> Self {
        let program = std::env::var("STANCH_TEST_SSHD").unwrap_or_else(|_| INSTALLED.to_owned());
        assert!(
            Path::new(&program).exists(),
            "no {program}: run scripts/test, or install the package openssh-server (apt-get install openssh-server)"
        );
        let folder = tempfile::tempdir().expect("folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("mode");
        let at = |name: &str| folder.path().join(name);
        for (name, kind) in [
            ("host", &["-t", "ed25519"][..]),
            ("old", kind),
            ("neighbour", &["-t", "ed25519"]),
            ("authority", &["-t", "ed25519"]),
        ] {
            let path = at(name).display().to_string();
            ran(keygen(&["-q", "-N", "", "-C", "made by hand", "-f", &path]).args(kind));
        }
        let public = |name: &str| {
            let text = fs::read_to_string(at(&format!("{name}.pub"))).expect("a public key");
            text.split(' ').take(2).collect::<Vec<_>>().join(" ")
        };
        let (old, neighbour, authority) = (public("old"), public("neighbour"), public("authority"));
        let text = format!(
            "# managed by hand\n\n{neighbour} neighbour\r\n\
             from=\"127.0.0.1,::1\",no-x11-forwarding,command=\"internal-sftp\" {old} made by hand\n\
             cert-authority,principals=\"app\" {authority} authority\n\
             not a key\n  no-pty {old} duplicate\n\t# the end"
        );
        let paths: Vec<PathBuf> = (0..files).map(|n| at(&format!("authorized_keys{n}"))).collect();
        let mut all: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        // Nothing is in it, unless a test puts something there.
        all.push(at("elsewhere").display().to_string());
        for path in &paths {
            fs::write(path, &text).expect("file");
            fs::set_permissions(path, fs::Permissions::from_mode(0o640)).expect("mode");
        }
        let user =
            if root() { NOBODY.1.to_owned() } else { ran(Command::new("id").arg("-un")).trim().to_owned() };
        if root() {
            for path in paths.iter().chain([&at("host")]) {
                chown(path, Some(NOBODY.0), Some(NOBODY.0)).expect("owner");
            }
        }
        let port = closed_port().port();
        // An account without a password counts as locked where PAM is not asked.
        let pam = if root() { "yes" } else { "no" };
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nPidFile none\nUsePAM {pam}\nStrictModes no\nAuthorizedKeysFile {}\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nSubsystem sftp internal-sftp\nMaxStartups 100\n\
             LogLevel VERBOSE\n{settings}\n",
            at("host").display(),
            all.join(" ")
        );
        fs::write(at("config"), config).expect("file");
        let mut command = Command::new(&program);
        command.args(["-D", "-e", "-f"]).arg(at("config")).current_dir("/").stdin(Stdio::null());
        command.stderr(Stdio::piped());
        if root() {
            command.uid(NOBODY.0).gid(NOBODY.0);
        }
        let mut child = command.spawn().expect("sshd starts");
        let mut log = BufReader::new(child.stderr.take().expect("its log"));
        let mut said = String::new();
        while !said.contains("Server listening on") {
            let read = log.read_line(&mut said).expect("its log");
            assert!(read > 0, "sshd ended at its start: {said}");
        }
        let kept = at("log");
        std::thread::spawn(move || {
            let mut file = fs::File::create(kept).expect("file");
            std::io::copy(&mut log, &mut file)
        });
        let known = format!("server {}", public("host"));
        fs::write(at("known_hosts"), &known).expect("file");
        fs::copy(at("old"), at("key")).expect("the key's file");
        let session = Mutex::new(Self::open(folder.path(), port, &user, &at("old")));
        let first = paths.iter().map(|_| text.clone()).collect();
        Self { child, port, user, host_key: public("host"), first, files, session, folder }
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The files of authorized keys.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        (0..self.files).map(|n| self.at(&format!("authorized_keys{n}"))).collect()
    }

    pub(crate) fn texts(&self) -> Vec<String> {
        self.files().iter().map(|path| fs::read_to_string(path).expect("file")).collect()
    }

    /// What the server wrote into its log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.at("log")).expect("its log")
    }

    fn ssh(folder: &Path, port: u16, user: &str, key: &Path) -> Command {
        let mut command = Command::new("ssh");
        command.args([
            "-F",
            "none",
            "-o",
            "BatchMode=yes",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "StrictHostKeyChecking=yes",
        ]);
        command.args(["-o", "GlobalKnownHostsFile=none", "-o", "HostKeyAlias=server", "-o"]);
        command.arg(format!("UserKnownHostsFile={}", folder.join("known_hosts").display()));
        command.args(["-p", &port.to_string(), "-l", user, "-i"]).arg(key).args(["-s", "127.0.0.1", "sftp"]);
        command.env_remove("SSH_AUTH_SOCK");
        command
    }

    fn open(folder: &Path, port: u16, user: &str, key: &Path) -> Option<Session> {
        let mut command = Self::ssh(folder, port, user, key);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("ssh");
        let (sends, says) = (child.stdin.take().expect("input"), child.stdout.take().expect("output"));
        let mut session = Session { child, sends, says };
        session.asks(&[0, 0, 0, 5, 1, 0, 0, 0, 3]).then_some(session)
    }

    /// Whether the session that was opened with the old key before the run still is.
    pub(crate) fn session_is_alive(&self) -> bool {
        let request = [0, 0, 0, 10, 16, 0, 0, 0, 1, 0, 0, 0, 1, b'.'];
        self.session.lock().expect("lock").as_mut().is_some_and(|session| session.asks(&request))
    }

    /// Whether the server lets this private key in. Panics when it says neither.
    pub(crate) fn accepts(&self, pem: &str) -> bool {
        let mut key = tempfile::NamedTempFile::new().expect("file");
        key.write_all(pem.as_bytes()).expect("file");
        let mut command = Self::ssh(self.folder.path(), self.port, &self.user, key.path());
        let output = command.stdin(Stdio::null()).output().expect("ssh");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() || said.contains("Permission denied (publickey)"), "{said}");
        output.status.success()
    }

    /// The fingerprints in a text of authorized keys, as `ssh-keygen` finds them, without those of others.
    fn names(&self, text: &str) -> Vec<String> {
        let mut child = keygen(&["-l", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("ssh-keygen");
        child.stdin.take().expect("input").write_all(text.as_bytes()).expect("input");
        let output = child.wait_with_output().expect("its end");
        let listed = |name: &str| {
            let path = self.at(&format!("{name}.pub")).display().to_string();
            ran(&mut keygen(&["-l", "-f", &path])).split(' ').nth(1).expect("a fingerprint").to_owned()
        };
        let others = [listed("neighbour"), listed("authority")];
        let text = String::from_utf8(output.stdout).expect("text");
        let names = text.lines().filter_map(|line| line.split(' ').nth(1).map(str::to_owned));
        names.filter(|name| !others.contains(name)).collect()
    }

    /// The keys that the server goes by.
    pub(crate) fn valid(&self) -> Vec<String> {
        self.texts().iter().flat_map(|text| self.names(text)).collect()
    }

    /// The keys that are kept as a comment.
    pub(crate) fn retired(&self) -> Vec<String> {
        let lines = |text: &String| {
            text.lines().filter_map(|line| line.strip_prefix(RETIRED)).collect::<Vec<_>>().join("\n")
        };
        self.texts().iter().flat_map(|text| self.names(&lines(text))).collect()
    }

    /// The private key, as its client reads it.
    pub(crate) fn current(&self) -> Value {
        json!({ "private_key": fs::read_to_string(self.at("key")).expect("file") })
    }

    /// The handle of the old key.
    pub(crate) fn old(&self) -> String {
        let path = self.at("old.pub").display().to_string();
        ran(&mut keygen(&["-l", "-f", &path])).split(' ').nth(1).expect("a fingerprint").to_owned()
    }

    /// Panics unless all but stanch's own lines is as it was, to the byte, and the files are whose they were.
    pub(crate) fn neighbours_are_kept(&self) {
        for (path, (now, first)) in self.files().iter().zip(self.texts().iter().zip(&self.first)) {
            let old = fs::read_to_string(self.at("old.pub")).expect("file");
            let old = old.split(' ').nth(1).expect("base64").to_owned();
            let others = |text: &str| -> Vec<String> {
                text.split('\n')
                    .filter(|line| !line.contains(&old) && !line.contains(" stanch:"))
                    .map(str::to_owned)
                    .collect()
            };
            assert_eq!(others(now), others(first));
            let found = path.metadata().expect("file");
            let owner = if root() { NOBODY.0 } else { self.folder.path().metadata().expect("folder").uid() };
            assert_eq!(
                (found.uid(), found.mode() & 0o7777),
                (owner, 0o640),
                "sshd's StrictModes looks at both"
            );
        }
    }

    /// Panics unless everything is as it was, to the byte.
    pub(crate) fn is_as_before(&self) {
        assert_eq!(self.texts(), self.first);
        self.neighbours_are_kept();
        assert!(self.session_is_alive(), "a session was ended");
    }

    /// The issuer, as a runbook has it, and its check.
    pub(crate) fn issuer(&self, more: &str) -> String {
        let files: Vec<String> =
            self.files().iter().map(|path| format!("{{ file: {} }}", path.display())).collect();
        format!(
            "issuer:\n      type: ssh-key\n      authorized_keys: [{}]{more}\n    accepts:\n      - {}",
            files.join(", "),
            self.check()
        )
    }

    /// The check, as a runbook has it.
    pub(crate) fn check(&self) -> String {
        let Self { port, user, host_key, .. } = self;
        format!("ssh: {{ host: 127.0.0.1, port: {port}, user: {user}, host_keys: [\"{host_key}\"] }}")
    }

    /// The store of the private key, as a runbook has it.
    pub(crate) fn store(&self) -> String {
        format!("{{ type: file, path: {}, format: text }}", self.at("key").display())
    }
}
