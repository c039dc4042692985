//! The capacity drill: the same answer for the same input, times that follow the quotas, and every shipped runbook.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::tool::Tool;

fn runbook(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("runbooks").join(name).display().to_string()
}

/// What a capacity drill says, as JSON, with all of its text.
fn capacity(tool: &Tool, name: &str, more: &[&str]) -> (Value, String) {
    let path = runbook(name);
    let arguments = [&["drill", "capacity", &path, "--json"][..], more].concat();
    let ran = tool.run(&arguments).expect(0);
    (serde_json::from_str(&ran.stdout).expect("JSON"), ran.stdout)
}

const QUICK: [&str; 6] = ["--env", "sandbox", "--credentials", "20", "--strategy", "contain"];

#[test]
fn the_same_input_has_the_same_answer_and_nothing_is_left() {
    let tool = Tool::new();
    let arguments = [&QUICK[..], &["--quota", "world=40/s"]].concat();
    let (_, first) = capacity(&tool, "quickstart.yaml", &arguments);
    let (answer, second) = capacity(&tool, "quickstart.yaml", &arguments);
    assert_eq!(first, second);
    assert!(!tool.state().exists(), "it has a state directory of its own, which is gone");
    let strategy = &answer["strategies"][0];
    assert_eq!((&strategy["strategy"], &strategy["unfinished"]), (&"contain".into(), &Value::Null));
    // The kill comes before the rest.
    let (contained, revoked) = (strategy["contained_ms"].as_u64(), strategy["revoked_ms"].as_u64());
    assert!(
        contained > Some(0) && contained < revoked && revoked <= strategy["total_ms"].as_u64(),
        "{strategy:#}"
    );
    let phases = strategy["phases"].as_array().expect("phases").iter();
    let all: u64 = phases.clone().filter_map(|phase| phase["ms"].as_u64()).sum();
    assert_eq!(Some(all), strategy["total_ms"].as_u64());
    assert!(phases.clone().any(|phase| phase["slowed_by"] == serde_json::json!({ "quota": "world" })));
    // What it would come to otherwise.
    let instead = strategy["instead"].as_array().expect("changes");
    assert_eq!(instead[0]["change"], "quota world=80/s");
    assert!(instead[0]["total_ms"].as_u64() < strategy["total_ms"].as_u64(), "{strategy:#}");
}

#[test]
fn twice_the_quota_takes_about_half_as_long_where_the_quota_is_what_slows_it() {
    let tool = Tool::new();
    let revoked = |quota: &str, more: &[&str]| {
        let arguments = [&QUICK[..], &["--no-advice", "--concurrency", "1", "--quota", quota], more].concat();
        let (answer, _) = capacity(&tool, "quickstart.yaml", &arguments);
        answer["strategies"][0]["revoked_ms"].as_u64().expect("a time")
    };
    let fast = ["--latency", "10ms"];
    let (slow, twice, plenty) =
        (revoked("world=40/s", &fast), revoked("world=80/s", &fast), revoked("world=100000/s", &fast));
    let share = twice as f64 / slow as f64;
    assert!((0.4..0.6).contains(&share), "{slow} ms, and {twice} ms with twice the quota");
    // Where it is not, it changes nothing; latency does.
    assert_eq!(plenty, revoked("world=200000/s", &fast));
    assert!(revoked("world=100000/s", &["--latency", "500ms"]) > 2 * plenty);
}

/// A hundred credentials that are looked at together, begun again at each refusal, would never be planned; and a run
/// whose refused calls count as attempts would stop in preflight, and not end its proof.
#[test]
fn a_run_ends_though_the_server_refuses_half_of_the_requests() {
    let tool = Tool::new();
    let path = runbook("vault-token-in-kv2.yaml");
    let arguments = ["drill", "capacity", &path, "--json", "--env", "production", "--no-advice"];
    let more = ["--credentials", "100", "--quota", "vault=50/s", "--strategy", "overlap"];
    let ran = tool.run(&[&arguments[..], &more].concat());
    let answer: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(answer["strategies"][0]["plans_given_up"], 0, "{ran:?}");
    let plan = &answer["strategies"][0]["phases"][0];
    assert!(plan["phase"] == "plan" && plan["sent"]["vault"]["refused"].as_u64() > Some(0), "{ran:?}");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let strategy = &answer["strategies"][0];
    assert_eq!((&strategy["unfinished"], &strategy["stops"]), (&Value::Null, &0.into()), "{ran:?}");
}

#[test]
fn every_shipped_runbook_is_answered_for() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("runbooks");
    let files = fs::read_dir(folder).expect("runbooks").map(|entry| entry.expect("an entry").path());
    let files: Vec<PathBuf> = files.filter(|path| path.is_file()).collect();
    assert!(files.len() >= 8, "{files:?}");
    for path in files {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        let text = fs::read_to_string(&path).expect("a runbook");
        let env = ["production", "dev", "staging", "sandbox"]
            .into_iter()
            .find(|env| text.contains(&format!("  {env}:")));
        let tool = Tool::new();
        let path = path.display().to_string();
        let arguments =
            ["drill", "capacity", &path, "--env", env.expect("an environment"), "--no-advice", "--json"];
        let ran = tool.run(&[&arguments[..], &["--credentials", "3"]].concat()).expect(0);
        let answer: Value = serde_json::from_str(&ran.stdout).expect("JSON");
        for strategy in answer["strategies"].as_array().expect("strategies") {
            assert!(strategy["contained_ms"].as_u64().is_some(), "{name}: {strategy:#}");
        }
    }
}

#[test]
fn what_cannot_be_answered_is_said_with_its_place() {
    let tool = Tool::new();
    let quick = runbook("quickstart.yaml");
    for (more, said) in [
        (&["--credentials", "0"][..], "0 is not in 1..=5000"),
        (&["-n", "5", "--quota", "world=0/s"], "a quota of 0 lets no request through"),
        (&["-n", "5", "--quota", "world"], "write CONNECTION=NUMBER/UNIT"),
        (&["-n", "5", "--quota", "world=5/d"], "the units are s, m and h"),
        (&["-n", "5", "--quota", "world=+5/s"], "write CONNECTION=NUMBER/UNIT"),
        (&["-n", "5", "--quota", "vault=5/s"], "its connections: world"),
        (&["-n", "5", "--quota", "world=5/s", "--quota", "world=6/s"], "has a quota already"),
        (&["-n", "5", "--latency", "5"], "write a number with a unit"),
        (&["-n", "5", "--concurrency", "0"], "0 is not in 1..=1024"),
    ] {
        let arguments = [&["drill", "capacity", &quick, "--env", "sandbox"][..], more].concat();
        let refused = tool.run(&arguments).expect(2);
        assert!(refused.stderr.contains(said) && refused.stdout.is_empty(), "{more:?}: {refused:?}");
    }
    let refused = tool.run(&["drill", "capacity", &quick, "-n", "5"]).expect(2);
    assert!(refused.stderr.contains("--env is missing") && refused.stderr.contains("sandbox"), "{refused:?}");
    let bad = tool.runbook("version: 1\nname: x\n").display().to_string();
    tool.run(&["drill", "capacity", &bad, "--env", "sandbox", "-n", "5"]).expect(65);
}
