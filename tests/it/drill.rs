//! Drills: every shipped scenario is played, scored and scored again; what cannot come is found with its place; three
//! terminals play one; nothing outside is reached.
#![expect(clippy::disallowed_methods, reason = "a test writes what it likes")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::tool::Tool;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn scenarios() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(root().join("runbooks/drills"))
        .expect("scenarios")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    all.sort();
    assert!(all.len() >= 8, "{all:?}");
    all
}

fn scenario(name: &str) -> String {
    root().join("runbooks/drills").join(name).display().to_string()
}

/// The state directory of the newest drill of a tool.
fn newest_drill(tool: &Tool) -> PathBuf {
    let drills = fs::read_dir(tool.state().join("drills")).expect("drills");
    drills.map(|entry| entry.expect("an entry").path()).max().expect("a drill")
}

/// The records of a drill's only run.
fn records(drill: &Path) -> Vec<Value> {
    let run =
        fs::read_dir(drill.join("runs")).expect("runs").next().expect("a run").expect("an entry").path();
    let text = fs::read_to_string(run.join("journal.jsonl")).expect("a journal");
    text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
}

/// What happened, without what differs from run to run.
fn course(drill: &Path) -> Vec<String> {
    let words = |record: &Value| {
        let fields = ["type", "phase", "step", "op", "result", "inject", "answer", "verdict", "gate", "end"];
        fields.iter().filter_map(|field| record[field].as_str()).collect::<Vec<_>>().join(" ")
    };
    let kept =
        |record: &&Value| !matches!(record["type"].as_str(), Some("heartbeat" | "checkpoint" | "opened"));
    records(drill).iter().filter(kept).map(words).collect()
}

#[test]
fn every_scenario_is_played_and_met_and_scored_alike_from_its_record() {
    for path in scenarios() {
        let tool = Tool::new();
        let path = path.display().to_string();
        tool.run(&["drill", "lint", &path]).expect(0);
        let played = tool.run(&["drill", "run", &path, "--instant", "--yes", "--json"]).expect(0);
        let score: Value = serde_json::from_str(&played.stdout).expect("a score");
        assert_eq!(score["points"][0], score["points"][1], "{path}: {score:#}");
        assert!(score["points"][1].as_u64() >= Some(4), "{path}: {score:#}");
        assert_eq!(score["deviations"], serde_json::json!([]), "{path}");
        let state = newest_drill(&tool).display().to_string();
        let again = tool.run(&["--state", &state, "drill", "score", "--json"]).expect(0);
        assert_eq!(serde_json::from_str::<Value>(&again.stdout).expect("a score"), score, "{path}");
        let run = score["run"].as_str().expect("a run");
        assert!(run.starts_with("drill-"), "{run}");
        let verified = tool.run(&["--state", &state, "audit", "verify", run]).expect(0);
        assert!(verified.stdout.contains("OK"), "{}", verified.stdout);
        for command in ["status", "report"] {
            let shown = tool.run(&["--state", &state, command, run]).expect(0);
            assert!(shown.stdout.contains("DRILL"), "{command}: {}", shown.stdout);
        }
        let html = tool.run(&["--state", &state, "report", run, "--form", "html"]).expect(0);
        assert!(html.stdout.contains("practice. No server was touched"), "{}", html.stdout);
    }
}

#[test]
fn a_drill_takes_the_same_course_at_any_speed() {
    let courses: Vec<Vec<String>> = [&["--instant"][..], &["--speed", "6000x"]]
        .into_iter()
        .map(|speed| {
            let tool = Tool::new();
            let path = scenario("sealed-vault.yaml");
            let arguments = [&["drill", "run", &path, "--yes"][..], speed].concat();
            tool.run(&arguments).expect(0);
            course(&newest_drill(&tool))
        })
        .collect();
    assert_eq!(courses[0], courses[1]);
    assert!(courses[0].iter().any(|what| what.starts_with("injected sealed")), "{:?}", courses[0]);
}

/// What a scenario is made to say, instead of what, and what the lint says of it.
const CANNOT_COME: [(&str, &str, &str); 12] = [
    ("when: {phase: cutover}", "when: {phase: overlapp}", "did you mean `overlap`?"),
    ("when: {phase: cutover}", "when: {gate: {name: errors, verdict: fail}}", "waits for the gate `errors`"),
    ("when: {phase: cutover}", "when: {moved: 2}", "1 consumers of the runbook can say"),
    ("when: {phase: cutover}", "when: {ended: done}", "nothing can happen after it"),
    ("when: {phase: cutover}", "when: {inject: skip-approval}", "waits for itself"),
    ("when: {phase: cutover}", "when: {inject: skip-aproval}", "did you mean `skip-approval`?"),
    ("when: {phase: cutover}", "when: {step: {do: own}}", "has no step `own`"),
    ("when: {phase: cutover}", "when: {step: {do: issue, credential: exporter}}", "no credential `exporter`"),
    ("ignores-reload: exporter", "ignores-reload: importer", "tells no consumer `importer` to reload"),
    ("choice: wait}}\n        within", "choice: no-way}}\n        within", "`no-way` is not a choice"),
    ("environment: production", "environment: prod", "does not declare the environment `prod`"),
    ("never: {person: rollback}", "within: 5m", "exactly one of `did` and `never`"),
];

#[test]
fn what_cannot_come_is_a_finding_with_its_place() {
    let tool = Tool::new();
    let runbook = root().join("runbooks/iam-access-key-in-secrets-manager.yaml").display().to_string();
    let text = fs::read_to_string(scenario("deaf-consumer.yaml")).expect("a scenario");
    let text = text.replace("../iam-access-key-in-secrets-manager.yaml", &runbook);
    let path = tool.folder.path().join("scenario.yaml");
    for (from, to, says) in CANNOT_COME {
        assert!(text.contains(from), "{from}");
        let bad = text.replacen(from, to, 1);
        fs::write(&path, &bad).expect("written");
        let found = tool.run(&["drill", "lint", &path.display().to_string()]).expect(65);
        assert!(found.stderr.contains(says), "{to}: {}", found.stderr);
        // The line that is shown is the one that was changed, or for a circle one of its own.
        let line = 1 + bad[..bad.find(to).expect("the change")].matches('\n').count();
        let shown = format!("scenario.yaml:{line}:");
        let near = format!("scenario.yaml:{}:", line - 1);
        assert!(found.stderr.contains(&shown) || found.stderr.contains(&near), "{shown}: {}", found.stderr);
        // And nothing begins.
        tool.run(&["drill", "run", &path.display().to_string(), "--instant", "--yes"]).expect(65);
        assert!(!tool.state().exists(), "{to}");
    }
}

#[test]
fn a_scaffold_a_schema_and_bad_files() {
    let tool = Tool::new();
    let path = tool.folder.path().join("drill.yaml");
    tool.run(&["drill", "init", &path.display().to_string()]).expect(0);
    let runbook = root().join("runbooks/quickstart.yaml").display().to_string();
    let text = fs::read_to_string(&path).expect("a scenario").replace("../quickstart.yaml", &runbook);
    fs::write(&path, text).expect("written");
    tool.run(&["drill", "run", &path.display().to_string(), "--instant", "--yes"]).expect(0);
    let schema: Value = serde_json::from_str(&tool.run(&["drill", "schema"]).expect(0).stdout).expect("JSON");
    let valid = jsonschema::validator_for(&schema).expect("a schema");
    for path in scenarios() {
        let value: Value = serde_yaml::from_str(&fs::read_to_string(&path).expect("read")).expect("YAML");
        assert!(valid.is_valid(&value), "{}", path.display());
    }
    for bad in ["", "[", "version: 2", "a: &a [*a]", "\0"] {
        fs::write(&path, bad).expect("written");
        let found = tool.run(&["drill", "lint", &path.display().to_string()]).expect(65);
        assert!(found.stderr.contains("error"), "{bad}: {}", found.stderr);
    }
}

/// Two participants and a facilitator, each at a terminal of their own, in drill's time a hundred times faster.
#[test]
fn three_terminals_play_a_tabletop() {
    let tool = Tool::new();
    let path = scenario("wider-leak.yaml");
    let started = tool.run(&["drill", "start", &path, "--speed", "100x", "--json"]).expect(0);
    let started: Value = serde_json::from_str(&started.stdout).expect("JSON");
    let state = started["state"].as_str().expect("a state directory").to_owned();
    let runbook = started["runbook"].as_str().expect("a runbook").to_owned();
    let at = |arguments: &[&str]| [&["--state", &state][..], arguments].concat().join("\u{1}");
    let split = |line: String| line.split('\u{1}').map(str::to_owned).collect::<Vec<_>>();
    let command = |arguments: &[&str]| {
        let words = split(at(arguments));
        tool.command(&words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let mut facilitator = command(&["drill", "facilitate"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a facilitator");
    let begin = ["run", &runbook, "--env", "production", "--yes", "--confirm", "tell-support"];
    let first = command(&begin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a participant");
    let wait = |text: &str| {
        for _ in 0..2400 {
            let runs = fs::read_dir(Path::new(&state).join("runs")).into_iter().flatten().flatten();
            let all: String = runs
                .filter_map(|run| fs::read_to_string(run.path().join("journal.jsonl")).ok())
                .flat_map(|text| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>())
                .collect();
            if all.contains(text) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(25));
        }
        panic!("`{text}` never came");
    };
    wait("\"inject\":\"more-bundles\"");
    let refused = command(&["drill", "answer", "more-bundles", "nothing"]).output().expect("a participant");
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let early =
        command(&["drill", "answer", "reporter-asks", "in-progress"]).output().expect("a participant");
    assert_eq!(early.status.code(), Some(2), "{early:?}");
    let answered =
        command(&["drill", "answer", "more-bundles", "everything"]).output().expect("a participant");
    assert!(answered.status.success(), "{answered:?}");
    wait("\"type\":\"answered\"");
    let typed = facilitator.stdin.as_mut().expect("a terminal");
    typed.write_all(b"note they asked for the inventory first\nskip reporter-asks\n").expect("typed");
    wait("\"type\":\"skipped\"");
    let status = command(&["status"]).output().expect("a participant");
    assert!(String::from_utf8_lossy(&status.stdout).contains("DRILL"), "{status:?}");
    let first = first.wait_with_output().expect("a participant");
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    assert!(String::from_utf8_lossy(&first.stderr).contains("nobody recognises"), "{first:?}");
    let shown = facilitator.wait_with_output().expect("a facilitator");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    for words in [
        "right move",
        "INJECT more-bundles happened",
        "skipped `reporter-asks`",
        "inventory first",
        "The run is over",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let score = command(&["drill", "score"]).output().expect("a score");
    let score = String::from_utf8_lossy(&score.stdout).into_owned();
    for words in ["4 of 4 met", "skipped  reporter-asks", "tester skipped `reporter-asks`", "by tester"] {
        assert!(score.contains(words), "{words}: {score}");
    }
    // The next drill of the same scenario is compared with this one.
    let next = tool.run(&["drill", "run", &path, "--instant", "--yes"]).expect(0);
    assert!(next.stdout.contains("Trend") && next.stdout.contains("4 of 4"), "{}", next.stdout);
}

/// A plan for real servers is refused in a drill, and a damaged marker opens no way to them.
#[test]
fn a_drills_state_directory_reaches_nothing_else() {
    let tool = Tool::new();
    let path = scenario("sealed-vault.yaml");
    let started = tool.run(&["drill", "start", &path, "--json"]).expect(0);
    let started: Value = serde_json::from_str(&started.stdout).expect("JSON");
    let state = started["state"].as_str().expect("a state directory").to_owned();
    let runbook = started["runbook"].as_str().expect("a runbook").to_owned();
    let plan = tool.folder.path().join("plan.json").display().to_string();
    let planned = ["--state", &state, "plan", &runbook, "--env", "production", "-o", &plan];
    assert!(tool.run(&planned).expect(0).stdout.contains("DRILL `sealed-vault`"));
    let mut real: Value = serde_json::from_str(&fs::read_to_string(&plan).expect("a plan")).expect("JSON");
    real["sandbox"] = false.into();
    real.as_object_mut().expect("a plan").remove("drill");
    fs::write(&plan, real.to_string()).expect("written");
    let refused = tool.run(&["--state", &state, "run", &plan, "--yes"]).expect(2);
    assert!(refused.stderr.contains("nothing was contacted"), "{}", refused.stderr);
    let key = ["--state", &state, "audit", "anchor", "--http", "http://127.0.0.1:9/"];
    let refused = tool.run(&key).expect(2);
    assert!(refused.stderr.contains("not sent anywhere"), "{}", refused.stderr);
    fs::write(Path::new(&state).join("drill.json"), "{}").expect("written");
    for command in [&["status"][..], &["run", &runbook, "--env", "production", "--yes"]] {
        let refused = tool.run(&[&["--state", &state][..], command].concat()).expect(1);
        assert!(refused.stderr.contains("drill.json"), "{}", refused.stderr);
    }
}

/// In a network namespace without an interface that is up, where every socket fails, every scenario ends as it does elsewhere: rollbacks and
/// resumes too. The environment names servers and secrets, as an operator's does.
#[test]
fn nothing_outside_is_reached() {
    let folder = tempfile::tempdir().expect("a folder");
    // A program that a runbook names stands first on the path, and says when it is started.
    let trap = folder.path().join("trap");
    fs::create_dir(&trap).expect("a folder");
    let started = folder.path().join("started");
    for program in ["ci", "curl", "mail-admin", "systemctl", "vault", "aws", "sh", "git"] {
        let path = trap.join(program);
        fs::write(&path, format!("#!/bin/sh\n: > {}\n", started.display())).expect("written");
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    }
    for path in scenarios() {
        let state = folder.path().join("state");
        let (log, trace) = (folder.path().join("log"), folder.path().join("trace"));
        let program =
            std::env::var_os("STANCH_TEST_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_stanch").into());
        let ran = Command::new("unshare")
            .args(["--map-root-user", "--net", "strace", "-f", "-qq", "-o"])
            .arg(&trace)
            .args(["-e", "trace=execve,execveat,socket,connect", "-e", "inject=socket,connect:error=EACCES"])
            .arg(program)
            .args(["drill", "run", &path.display().to_string(), "--instant", "--yes", "-vv", "--log-file"])
            .arg(&log)
            .env_clear()
            .env("PATH", std::env::join_paths([&trap, Path::new("/usr/bin")]).expect("a path"))
            .env("STANCH_STATE", &state)
            .env("VAULT_ADDR", "http://127.0.0.1:8200")
            .env("VAULT_TOKEN", "canary-of-the-operator")
            .env("AWS_ACCESS_KEY_ID", "AKIACANARY")
            .env("AWS_SECRET_ACCESS_KEY", "canary-of-the-operator")
            .output()
            .expect("unshare starts (install util-linux and strace)");
        let err = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(ran.status.success(), "{}: {err}", path.display());
        assert!(!started.exists(), "{} started a program", path.display());
        // Its own start is all that is ever executed, and it asks for no socket.
        let trace = fs::read_to_string(&trace).expect("a trace");
        assert_eq!(trace.lines().count(), 1, "{}: {trace}", path.display());
        assert!(trace.contains("execve("), "{trace}");
        let log = fs::read_to_string(&log).unwrap_or_default();
        assert!(!log.contains("http://") && !log.contains("https://"), "{log}");
    }
}
