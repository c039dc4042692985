//! The program on the sandbox, as people and pipelines use it: signals, the kill switch, locks,
//! waiting, questions, saved plans, bad input, and canaries.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::tool::{NOT_PROVED, Ran, Tool, search};

/// A runbook of the sandbox, with these phases.
fn runbook(name: &str, path: &str, phases: &str) -> String {
    format!(
        "version: 1\nname: {name}\nenvironments: {{ sandbox: {{}} }}\nconnections: {{ world: {{ type: sandbox }} }}\n\
         credentials:\n  key:\n    issuer: {{ type: sandbox, connection: world, policies: [read], ttl: 1h }}\n    \
         scope: {{ max_ttl: 1h, policies: [read] }}\n    stores: [{{ type: sandbox, connection: world, path: {path} }}]\n    \
         consumers: [{{ name: web, reload: {{ sandbox: {{}} }}, attest: {{ sandbox: {{ instances: 2 }} }} }}]\n    \
         accepts: [{{ sandbox: {{ policy: read }} }}]\n\
         phases:\n  verify: {{ times: 1, every: 0s }}\n  proof: {{ times: 2, every: 10ms }}\n{phases}"
    )
}

const LONG_OVERLAP: &str = "  overlap: { at_least: 60s }\n";

fn ready(phases: &str) -> (Tool, String) {
    let tool = Tool::new();
    let path = tool.runbook(&runbook("cli", "a", phases));
    let path = path.to_str().expect("path").to_owned();
    (tool, path)
}

fn run(tool: &Tool, path: &str, more: &[&str]) -> Ran {
    let mut arguments = vec!["run", path, "--env", "sandbox", "--yes"];
    arguments.extend(more);
    tool.run(&arguments)
}

#[test]
fn the_quickstart_is_done_and_verified() {
    let tool = Tool::new();
    let quickstart = Path::new(env!("CARGO_MANIFEST_DIR")).join("runbooks/quickstart.yaml");
    let ran = run(&tool, quickstart.to_str().expect("path"), &[]).expect(0);
    assert!(ran.stdout.starts_with("DONE"), "{ran:?}");
    let verified = tool.run(&["audit", "verify", &tool.newest()]).expect(0);
    assert!(verified.stdout.starts_with("OK"), "{verified:?}");
    // The seals are gone, and nobody holds the targets any more.
    assert!(!tool.journal().expect("journal").with_file_name("sealed.jsonl").exists());
    assert_eq!(std::fs::read_dir(tool.state().join("open")).expect("open").count(), 0);
    // Private files in private folders.
    for (path, mode) in [("", 0o700), ("runs", 0o700), ("keys/journal.key", 0o600), ("keys/seal.key", 0o600)]
    {
        let found = std::fs::metadata(tool.state().join(path)).expect(path).permissions().mode() & 0o777;
        assert_eq!(found, mode, "{path}");
    }
    let journal = std::fs::metadata(tool.journal().expect("journal")).expect("journal");
    assert_eq!(journal.permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_second_run_on_a_held_credential_is_refused_and_names_the_first() {
    let (tool, path) = ready(LONG_OVERLAP);
    let first = tool.start(&["run", &path, "--env", "sandbox", "--yes"]);
    tool.wait_for("\"phase\":\"overlap\"");
    let name = tool.newest();
    let second = run(&tool, &path, &[]).expect(21);
    assert!(second.stderr.contains(&name), "{second:?}");
    // Another runbook that writes the same store is refused as well; one that does not is not.
    let other = tool.folder.path().join("other.yaml");
    let write = |text: String| {
        std::fs::File::create(&other).expect("file").write_all(text.as_bytes()).expect("write")
    };
    write(runbook("other", "a", ""));
    run(&tool, other.to_str().expect("path"), &[]).expect(21);
    let resumed = tool.run(&["resume", &name]).expect(21);
    assert!(resumed.stderr.contains("another process"), "{resumed:?}");
    write(runbook("other", "b", "").replace("  key:", "  other:"));
    run(&tool, other.to_str().expect("path"), &[]).expect(0);
    first.signal("INT");
    first.wait().expect(130);
    // Nobody works on it, and it still holds its targets.
    let third = run(&tool, &path, &[]).expect(21);
    assert!(third.stderr.contains(&name), "{third:?}");
    tool.run(&["rollback", &name, "--yes"]).expect(0);
}

#[test]
fn the_first_ctrl_c_stops_and_prints_the_resume_command() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let (tool, path) = ready("  overlap: { at_least: 2s }\n");
        let running = tool.start(&["run", &path, "--env", "sandbox", "--yes"]);
        tool.wait_for("\"phase\":\"overlap\"");
        running.signal(signal);
        let ran = running.wait().expect(code);
        let resume = format!("stanch resume {}", tool.newest());
        assert!(ran.stdout.contains(&resume) && ran.stderr.contains(&resume), "{ran:?}");
        tool.run(&["audit", "verify"]).expect(0);
        tool.run(&["resume"]).expect(0);
    }
}

#[test]
fn the_second_ctrl_c_stops_at_once() {
    // A step of the runbook's own would hang the first one: it is awaited.
    let tool = Tool::new();
    let text = slow_file_runbook(&tool, "sleep 30");
    let path = tool.runbook(&text);
    let running = tool.start(&["run", path.to_str().expect("path"), "--env", "test", "--yes"]);
    tool.wait_for("\"type\":\"intent\",\"step\":\"prepare/own/slow\"");
    running.signal("INT");
    std::thread::sleep(std::time::Duration::from_millis(700));
    running.signal("INT");
    let ran = running.wait().expect(130);
    assert!(ran.stderr.contains("at once"), "{ran:?}");
    let status = tool.status();
    assert_eq!(status["end"], serde_json::Value::Null);
    // What became of the program nobody knows: it is asked for, and a person can say.
    let ran = tool.run(&["resume"]).expect(11);
    assert!(ran.stdout.contains("stanch resolve"), "{ran:?}");
    let run = tool.newest();
    let resolve =
        ["resolve", &run, "prepare/own/slow", "--as", "applied", "--evidence", "the ticket says so"];
    tool.run(&resolve).expect(0);
    tool.run(&resolve).expect(2);
    tool.run(&["resume"]).expect(NOT_PROVED);
    let shown = tool.run(&["audit", "show", &run]).expect(0);
    assert!(shown.stdout.contains("the ticket says so"), "{}", shown.stdout);
}

/// A runbook over a file and a generated value, on the real provider, with a step of its own.
fn slow_file_runbook(tool: &Tool, command: &str) -> String {
    let file = tool.folder.path().join("app.env");
    std::fs::File::create(&file)
        .expect("file")
        .write_all(b"# kept\nKEY=the-old-value-of-the-key\n")
        .expect("file");
    format!(
        "version: 1\nname: files\nenvironments: {{ test: {{}} }}\ncredentials:\n  key:\n    issuer: {{ type: random }}\n    \
         stores: [{{ type: file, path: \"{}\", format: dotenv, key: KEY }}]\n    \
         accepts: [{{ exec: [\"true\"] }}]\n    rejects: [{{ exec: [\"false\"] }}]\n\
         phases:\n  prepare: {{ before: [{{ name: slow, exec: [sh, -c, \"{command}\"], undo: none }}] }}\n  \
         verify: {{ times: 1, every: 0s }}\n  proof: {{ times: 1, every: 0s }}\n",
        file.display()
    )
}

#[test]
fn halt_from_another_terminal_holds_until_it_is_cleared() {
    let (tool, path) = ready(LONG_OVERLAP);
    let running = tool.start(&["run", &path, "--env", "sandbox", "--yes"]);
    tool.wait_for("\"phase\":\"overlap\"");
    let name = tool.newest();
    let halted = tool.run(&["halt", &name, "--reason", "something smells"]).expect(0);
    assert!(halted.stderr.contains("halted"), "{halted:?}");
    let ran = running.wait().expect(23);
    assert!(ran.stdout.contains("HALTED"), "{ran:?}");
    let refused = tool.run(&["resume", &name]).expect(23);
    assert!(refused.stderr.contains("something smells") && refused.stderr.contains("--clear"), "{refused:?}");
    tool.run(&["rollback", &name, "--yes"]).expect(23);
    tool.run(&["halt", "--clear", &name]).expect(0);
    tool.run(&["rollback", &name, "--yes"]).expect(0);
    let shown = tool.run(&["audit", "show", &name]).expect(0);
    assert!(
        shown.stdout.contains("halted by tester") && shown.stdout.contains("cleared by tester"),
        "{}",
        shown.stdout
    );
    // The latch on everything: no run begins.
    tool.run(&["halt", "--all", "--reason", "freeze"]).expect(0);
    run(&tool, &path, &[]).expect(23);
    tool.run(&["halt", "--all", "--clear"]).expect(0);
    run(&tool, &path, &["--until", "verify"]).expect(0);
}

#[test]
fn a_pipeline_runs_a_long_overlap_as_short_steps() {
    let (tool, path) = ready("  overlap: { at_least: 2s }\n");
    let ran = run(&tool, &path, &["--no-wait"]).expect(10);
    assert!(ran.stdout.contains("nothing to do before"), "{ran:?}");
    tool.run(&["resume", "--no-wait"]).expect(10);
    std::thread::sleep(std::time::Duration::from_millis(2100));
    // The two seconds are seconds of the wall clock, not two more after each resume.
    tool.run(&["resume", "--no-wait"]).expect(0);
}

#[test]
fn until_stops_after_a_phase_and_resume_goes_on() {
    let (tool, path) = ready("");
    let ran = run(&tool, &path, &["--until", "distribute"]).expect(0);
    assert!(ran.stdout.contains("PAUSED"), "{ran:?}");
    assert_eq!(tool.status()["phase"], "distribute");
    tool.run(&["resume"]).expect(0);
    assert_eq!(tool.status()["end"], "done");
}

#[test]
fn rollback_to_a_phase_and_forward_again() {
    let (tool, path) = ready("");
    run(&tool, &path, &["--until", "sunset"]).expect(0);
    tool.run(&["rollback", "--to", "verify", "--yes"]).expect(0);
    let status = tool.status();
    assert_eq!(
        (&status["phase"], &status["credentials"][0]["current_in"]),
        (&"verify".into(), &0.into()),
        "{status}"
    );
    let shown = tool.run(&["status"]).expect(0);
    assert!(shown.stdout.contains("phase verify; no process"), "{shown:?}");
    let wrong = tool.run(&["rollback", "--to", "overlap", "--yes"]).expect(2);
    assert!(wrong.stderr.contains("has not passed"), "{wrong:?}");
    tool.run(&["resume"]).expect(0);
    assert_eq!(tool.status()["credentials"][0]["outgoing"], "dead");
    tool.run(&["audit", "verify"]).expect(0);
    let over = tool.run(&["rollback", &tool.newest(), "--yes"]).expect(2);
    assert!(over.stderr.contains("has ended"), "{over:?}");
}

#[test]
fn a_manual_step_waits_for_a_person() {
    let steps = "  cutover: { before: [{ name: tell-support, manual: \"Is the desk told?\" }] }\n";
    let (tool, path) = ready(steps);
    let ran = run(&tool, &path, &[]).expect(20);
    assert!(ran.stdout.contains("--confirm tell-support"), "{ran:?}");
    tool.run(&["resume"]).expect(20);
    tool.run(&["resume", "--confirm", "tell-support"]).expect(0);
}

#[test]
fn a_saved_plan_is_run_exactly_or_refused() {
    let (tool, path) = ready("");
    let saved = tool.folder.path().join("plan.json");
    let saved = saved.to_str().expect("path");
    let shown = tool.run(&["plan", &path, "--env", "sandbox", "-o", saved]).expect(0);
    assert!(shown.stdout.contains("point of no return"), "{}", shown.stdout);
    let digest = shown.stdout.split_whitespace().nth(1).expect("digest").to_owned();
    tool.run(&["run", saved, "--yes", "--strategy", "contain"]).expect(2);
    tool.run(&["run", saved, "--yes"]).expect(0);
    let journal = std::fs::read_to_string(tool.journal().expect("journal")).expect("journal");
    assert!(journal.contains(&format!("\"plan\":\"{digest}")), "it ran with the plan's own digest");
    // The rotation itself moved the versions: the plan is stale now.
    let stale = tool.run(&["run", saved, "--yes"]).expect(22);
    assert!(stale.stderr.contains("hold a different credential than the plan saw"), "{stale:?}");
    // A plan that was edited, for example to leave out the step that revokes, is refused.
    let text = std::fs::read_to_string(saved).expect("plan");
    let edited = text.replace("\"id\":\"revoke/key/revoke\"", "\"id\":\"revoke/key/revokx\"");
    assert_ne!(text, edited);
    std::fs::File::create(saved).expect("file").write_all(edited.as_bytes()).expect("write");
    tool.run(&["run", saved, "--yes"]).expect(65);
}

#[test]
fn nothing_is_begun_without_an_environment_or_a_yes() {
    let (tool, path) = ready("");
    let ran = tool.run(&["run", &path, "--yes"]).expect(2);
    assert!(ran.stderr.contains("--env") && ran.stderr.contains("sandbox"), "{ran:?}");
    let ran = tool.run(&["run", &path, "--env", "sandbx", "--yes"]).expect(2);
    assert!(ran.stderr.contains("sandbox"), "{ran:?}");
    let ran = tool.run(&["run", &path, "--env", "sandbox"]).expect(2);
    assert!(ran.stderr.contains("--yes"), "{ran:?}");
    tool.run(&["run", &path, "--env", "sandbox", "--yes", "--only", "kye"]).expect(2);
    assert!(tool.journal().is_none(), "no run was opened");
}

#[test]
fn a_wrong_runbook_is_refused_with_all_its_mistakes() {
    let tool = Tool::new();
    let text = runbook("cli", "a", "")
        .replace("policies: [read], ttl", "polices: [read], ttl")
        .replace("web,", "web, port: 1,");
    let path = tool.runbook(&text);
    let path = path.to_str().expect("path");
    let ran = tool.run(&["run", path, "--env", "sandbox", "--yes"]).expect(65);
    assert!(ran.stderr.contains("polices") && ran.stderr.contains("did you mean"), "{}", ran.stderr);
    assert!(ran.stderr.contains("port"), "{}", ran.stderr);
    assert!(!tool.state().exists(), "nothing was made");
    let json = tool.run(&["validate", "--json", path]).expect(65);
    let findings: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert!(findings.as_array().is_some_and(|f| f.len() >= 2 && f[0]["line"].is_number()), "{findings}");
    tool.run(&["validate", "/nowhere.yaml"]).expect(65);
}

#[test]
fn a_bad_state_folder_is_refused_before_any_effect() {
    let (tool, path) = ready("");
    run(&tool, &path, &["--until", "prepare"]).expect(0);
    let run_name = tool.newest();
    let journal = tool.journal().expect("journal");
    let good = std::fs::read(&journal).expect("journal");
    let put = |bytes: &[u8]| std::fs::File::create(&journal).expect("file").write_all(bytes).expect("write");

    // One changed byte in the middle.
    let mut bad = good.clone();
    let at = good.len() / 2;
    bad[at] = if bad[at] == b'a' { b'b' } else { b'a' };
    put(&bad);
    tool.run(&["resume", &run_name]).expect(30);
    let verified = tool.run(&["audit", "verify", &run_name]).expect(30);
    assert!(verified.stdout.contains("line "), "{verified:?}");

    // A line that is missing.
    let lines: Vec<&[u8]> = good.split_inclusive(|b| *b == b'\n').collect();
    put(&[&lines[..3], &lines[4..]].concat().concat());
    tool.run(&["resume", &run_name]).expect(30);

    // A torn end past the last checkpoint is cut off, on the record, and the run goes on.
    put(&[good.as_slice(), b"{\"v\":1,\"run\":"].concat());
    tool.run(&["audit", "verify", &run_name]).expect(32);
    tool.run(&["resume", &run_name]).expect(0);
    let shown = tool.run(&["audit", "show", &run_name]).expect(0);
    assert!(shown.stdout.contains("torn by a crash"), "{}", shown.stdout);

    // Another layout, and a folder that cannot be written.
    let version = tool.state().join("version");
    std::fs::File::create(&version).expect("file").write_all(b"99\n").expect("write");
    let other = run(&tool, &path, &[]).expect(31);
    assert!(other.stderr.contains("version 99"), "{other:?}");
    let ran = tool.run(&["run", &path, "--env", "sandbox", "--yes", "--state", "/proc/stanch"]).expect(31);
    assert!(ran.stderr.contains("/proc/stanch"), "{ran:?}");
}

#[test]
fn a_full_disk_stops_the_run_and_a_resume_goes_on() {
    // The shell's limit on the size of a file stands in for the disk: the write fails in the middle.
    let (tool, path) = ready("");
    let limit = "trap '' XFSZ; ulimit -f 20; exec \"$0\" \"$@\"";
    let mut command = std::process::Command::new("bash");
    command.args(["-c", limit, env!("CARGO_BIN_EXE_stanch"), "run", &path, "--env", "sandbox", "--yes"]);
    let plain = tool.command(&[]);
    command.env_clear().envs(plain.get_envs().filter_map(|(n, v)| Some((n, v?))));
    let output = command.output().expect("bash");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(31), "{stderr}");
    assert!(stderr.contains("journal") && stderr.contains("free space"), "{stderr}");
    tool.run(&["resume"]).expect(0);
    tool.run(&["audit", "verify"]).expect(0);
}

#[test]
fn json_output_is_json_and_lines_are_plain() {
    let (tool, path) = ready("");
    let ran = run(&tool, &path, &["--json"]).expect(0);
    let events: Vec<&str> = ran.stdout.lines().take_while(|l| l.starts_with("{\"run\"")).collect();
    assert!(events.len() > 20 && events.iter().all(|l| serde_json::from_str::<serde_json::Value>(l).is_ok()));
    let result = ran.stdout.lines().nth(events.len()).expect("the result is a line, too");
    assert!(serde_json::from_str::<serde_json::Value>(result).expect("JSON")["credentials"].is_array());
    assert_eq!(ran.stdout.lines().count(), events.len() + 1, "{ran:?}");
    assert_eq!(ran.stderr, "", "nothing but JSON");
    let (tool, path) = ready("");
    let ran = run(&tool, &path, &[]).expect(0);
    assert!(
        !ran.stderr.contains('\u{1b}') && !ran.stdout.contains('\u{1b}'),
        "no escape sequences off a terminal"
    );
    let ascii = Tool::new().with("LANG", "C");
    let path = ascii.runbook(&runbook("cli", "a", ""));
    let plan = ascii.run(&["plan", path.to_str().expect("path"), "--env", "sandbox"]).expect(0);
    assert!(plan.stdout.is_ascii(), "{}", plan.stdout);
}

#[test]
fn what_is_generated_is_there() {
    let tool = Tool::new();
    let schema = tool.run(&["schema"]).expect(0);
    assert!(serde_json::from_str::<serde_json::Value>(&schema.stdout).expect("JSON")["$defs"].is_object());
    for shell in ["bash", "zsh", "fish"] {
        assert!(tool.run(&["completions", shell]).expect(0).stdout.contains("stanch"));
    }
    assert!(tool.run(&["man"]).expect(0).stdout.contains(".TH"));
    for kind in stanch::kind::ISSUERS.iter().map(|kind| kind.name) {
        let path = tool.folder.path().join(format!("{kind}.yaml"));
        let path = path.to_str().expect("path");
        tool.run(&["init", path, "--kind", kind]).expect(0);
        tool.run(&["init", path, "--kind", kind]).expect(2);
        tool.run(&["validate", path]).expect(0);
        let elsewhere = Tool::new();
        elsewhere.run(&["plan", path, "--env", "sandbox"]).expect(0);
    }
    let unknown = tool.run(&["init", "--kind", "password"]).expect(2);
    assert!(stanch::kind::ISSUERS.iter().all(|kind| unknown.stderr.contains(kind.name)), "{unknown:?}");
    assert!(!tool.state().exists(), "none of these needs a state folder");
}

/// The debug log goes where it is asked to go, for its user alone, and a level that does not exist is named.
#[test]
fn a_debug_log_tells_what_was_called() {
    use std::os::unix::fs::PermissionsExt as _;
    let tool = Tool::new();
    let store = tool.folder.path().join("app.env");
    let book = tool.runbook(&format!(
        "version: 1\nname: log\nenvironments: {{ test: {{}} }}\ncredentials:\n  key:\n    issuer: {{ type: random }}\n    \
         stores: [{{ type: file, path: {}, format: dotenv, key: KEY }}]\n    \
         accepts: [{{ http: {{ url: 'http://127.0.0.1:9/health?key=4711' }} }}]\n",
        store.display()
    ));
    let (book, log) = (book.to_str().expect("path"), tool.folder.path().join("stanch.log"));
    std::fs::File::create(&store).expect("file").write_all(b"KEY=before-1\n").expect("file");
    let file = log.to_str().expect("path");
    let ran =
        tool.run(&["run", book, "--env", "test", "--yes", "-v", "--log-file", file, "--strategy", "contain"]);
    let lines = std::fs::read_to_string(&log).expect("a log");
    assert!(lines.contains("GET http://127.0.0.1:9/health: no connection in "), "{lines}{ran:?}");
    assert!(
        !lines.contains('…') && !lines.contains("4711"),
        "-v tells of ends only, without queries: {lines}"
    );
    assert_eq!(std::fs::metadata(&log).expect("a log").permissions().mode() & 0o777, 0o600);
    assert!(!ran.stderr.contains("no connection in"), "it went into the file: {ran:?}");
    let loud = tool.run(&["-vv", "run", book, "--env", "test", "--yes", "--strategy", "contain"]);
    assert!(loud.stderr.contains("DEBUG GET http://127.0.0.1:9/health …"), "{loud:?}");
    // A log that cannot be had stops nothing: not even a word that is no level, nor a file that cannot be made.
    Tool::new().with("STANCH_LOG", "loud").run(&["runs"]).expect(0);
    let none = tool.run(&["runs", "--log-file", "/nowhere/log"]).expect(0);
    assert!(none.stderr.contains("goes on without a log file"), "{none:?}");
}

/// Runs a rotation of a generated value in a file, with programs that see it, and looks for it in
/// every file of the state folder, in all output, and in the arguments and environment of every
/// process.
#[test]
fn canaries_appear_nowhere() {
    let tool = Tool::new()
        .with("VAULT_TOKEN", "canary-operator-token")
        .with("AWS_SECRET_ACCESS_KEY", "canary-aws")
        .with("STANCH_LOG", "debug");
    let folder = tool.folder.path();
    let file = folder.join("app.env");
    std::fs::File::create(&file).expect("file").write_all(b"KEY=canary-outgoing-value-1\n").expect("file");
    // Each program keeps what it gets on standard input, and shows its own arguments and environment.
    let spy = |name: &str| {
        format!(
            "[sh, -c, \"cat >> {0}/{name}.in; cat /proc/$$/cmdline /proc/$$/environ >> {0}/{name}.seen; echo noise\"]",
            folder.display()
        )
    };
    let text = format!(
        "version: 1\nname: canary\nenvironments: {{ test: {{}} }}\ncredentials:\n  key:\n    issuer:\n      type: random\n      \
         apply: {{ exec: {apply} }}\n      revoke: {{ exec: {revoke} }}\n    \
         stores: [{{ type: file, path: \"{file}\", format: dotenv, key: KEY }}]\n    \
         accepts: [{{ exec: {accept} }}]\n    rejects: [{{ exec: [sh, -c, \"cat >&2; exit 1\"] }}]\n\
         phases:\n  verify: {{ times: 1, every: 0s }}\n  proof: {{ times: 1, every: 0s }}\n",
        apply = spy("apply"),
        revoke = spy("revoke"),
        accept = spy("accept"),
        file = file.display(),
    );
    let path = tool.runbook(&text);
    let path = path.to_str().expect("path");
    let mut outputs = vec![
        tool.run(&["plan", path, "--env", "test"]),
        tool.run(&["plan", path, "--env", "test", "--json"]),
    ];
    // Stopped in the middle, the seals are there: they must not be readable either.
    outputs.push(tool.run(&["run", path, "--env", "test", "--yes", "--until", "cutover"]).expect(0));
    let incoming = std::fs::read_to_string(&file).expect("file").trim().trim_start_matches("KEY=").to_owned();
    assert!(incoming.len() >= 40 && incoming != "canary-outgoing-value-1", "a new value");
    let mut secrets = vec!["canary-outgoing-value-1".to_owned(), incoming.clone()];
    search(&tool.state(), &secrets);
    outputs.push(tool.run(&["resume"]).expect(NOT_PROVED));
    assert!(outputs[2].stderr.contains("run `sh`: exit status: 0 in "), "{:?}", outputs[2]);
    outputs.push(tool.run(&["status", "--json", &tool.newest()]));
    outputs.push(tool.run(&["audit", "show", &tool.newest()]));
    for format in ["jsonl", "ocsf", "csv"] {
        outputs.push(tool.run(&["audit", "export", "--format", format]).expect(0));
    }
    secrets.extend(["canary-operator-token".to_owned(), "canary-aws".to_owned()]);
    search(&tool.state(), &secrets);
    for ran in &outputs {
        for secret in &secrets {
            assert!(!ran.stdout.contains(secret) && !ran.stderr.contains(secret), "in the output: {ran:?}");
        }
    }
    // The programs did get the values, on standard input, and only there.
    let got = |name: &str| std::fs::read_to_string(folder.join(name)).expect(name);
    assert_eq!(got("apply.in"), incoming);
    // The old one before anything was changed, the new one in `verify` and right before the revocation.
    assert_eq!(got("accept.in"), format!("canary-outgoing-value-1{incoming}{incoming}"));
    assert_eq!(got("revoke.in"), "canary-outgoing-value-1");
    for name in ["apply.seen", "accept.seen", "revoke.seen"] {
        let seen = String::from_utf8_lossy(&std::fs::read(folder.join(name)).expect(name)).into_owned();
        assert!(seen.contains("PATH="), "the environment was looked at");
        for secret in &secrets {
            assert!(!seen.contains(secret), "{name} saw a secret in its arguments or environment");
        }
    }
}

/// Without what opens the seals nothing is known to anybody but the servers: a run waits for it.
#[test]
fn a_sealing_key_that_is_lost_stops_a_run_until_it_is_restored() {
    let tool = Tool::new();
    let path = crate::unknown::runbook(&tool, "{ name: tell, exec: [\"true\"], undo: none }");
    let begin = ["run", path.to_str().expect("path"), "--env", "test", "--yes", "--until", "cutover"];
    tool.run(&begin).expect(0);
    let key = tool.state().join("keys/seal.key");
    let kept = tool.state().with_extension("seal.key");
    std::fs::rename(&key, &kept).expect("lost");
    for command in [&["resume"][..], &["rollback", "--yes"]] {
        let ran = tool.run(command).expect(30);
        assert!(ran.stderr.contains("restore keys/seal.key") && ran.stderr.contains("audit show"), "{ran:?}");
    }
    std::fs::rename(&kept, &key).expect("restored");
    tool.run(&["resume"]).expect(NOT_PROVED);
}

/// The sandbox's world stands in the state folder, too: its values must not be readable there.
#[test]
fn the_sandboxs_values_are_not_in_the_state_folder() {
    let (tool, path) = ready("  overlap: { at_least: 60s }\n");
    run(&tool, &path, &["--no-wait"]).expect(10);
    let world = std::fs::read_to_string(tool.state().join("sandbox/world.jsonl")).expect("world");
    assert!(world.contains("\"number\":1"), "an incoming value was minted");
    // Every value that the sandbox mints looks like this.
    assert!(!regex_like(&world), "a value stands in the world");
}

/// Whether a text contains `sbx-DIGITS-` and forty hexadecimal digits.
fn regex_like(text: &str) -> bool {
    text.match_indices("sbx-").any(|(at, _)| {
        let rest = text[at + 4..].trim_start_matches(|c: char| c.is_ascii_digit());
        rest.strip_prefix('-').is_some_and(|r| r.bytes().take(40).filter(u8::is_ascii_hexdigit).count() == 40)
    })
}
