//! What the version before wrote stays good: its plans keep their digests, its journals verify, and its runs
//! that were cut off end as they did then.
//!
//! `tests/before` holds state directories of the sandbox, one a case, and in `expected.json` what the program
//! that wrote them said about them. To record them anew, from a release that the environment names (only when
//! a format changes, and then beside the old ones, never instead of them):
//!
//! ```text
//! STANCH_TEST_BINARY=/path/of/stanch STANCH_RECORD_BEFORE=1 unshare --uts sh -c \
//!     'hostname recorder && exec cargo test --test it before::'
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::record::copy;
use crate::tool::{Ran, Tool, limit};

/// The phases, in order.
const PHASES: [&str; 9] =
    ["preflight", "prepare", "distribute", "verify", "cutover", "overlap", "sunset", "revoke", "proof"];
/// Sentences that are worded otherwise since, as they were recorded and as they are now.
const REWORDED: [(&str, &str); 3] =
    [(", 1 runs, ", ", 1 run, "), (", 1 keys, ", ", 1 key, "), ("; to resume: stanch resume", "")];
/// How often a death is tried until it comes in the wanted phase.
const ROUNDS: usize = 40;

fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/before")
}

fn runbook() -> String {
    home().join("runbook.yaml").to_str().expect("path").to_owned()
}

/// The program, with a copy of what the version before left behind.
fn tool(case: &Path) -> Tool {
    let tool = Tool::new();
    copy(&case.join("state"), &tool.state());
    // git keeps no empty directory.
    for name in ["open", "runs"] {
        fs::create_dir_all(tool.state().join(name)).expect("directory");
    }
    tool
}

/// The runs' plans: of each its digest, as the record states it.
fn digests(state: &Path) -> BTreeMap<String, String> {
    let runs = fs::read_dir(state.join("runs")).expect("runs");
    let of = |run: PathBuf| {
        let text = fs::read_to_string(run.join("journal.jsonl")).expect("journal");
        let first: Value = serde_json::from_str(text.lines().next().expect("a record")).expect("JSON");
        let name = run.file_name().expect("name").to_string_lossy().into_owned();
        (name, first["plan"].as_str().expect("digest").to_owned())
    };
    runs.map(|entry| of(entry.expect("entry").path())).collect()
}

fn said(ran: &Ran) -> Value {
    json!({ "code": ran.code, "said": ran.stdout })
}

/// How a session ended: its exit code, and how the run stands then.
fn ended(tool: &Tool, arguments: &[&str]) -> Value {
    let ran = tool.run(arguments);
    let run = tool.newest();
    let status: Value = serde_json::from_str(&tool.run(&["status", "--json", &run]).stdout).expect("JSON");
    let credentials: Vec<_> = status["credentials"]
        .as_array()
        .expect("credentials")
        .iter()
        .map(|c| json!([c["credential"], c["incoming"], c["outgoing"], c["current_in"]]))
        .collect();
    json!({ "code": ran.code, "end": status["end"], "credentials": credentials })
}

/// All that is compared, said by the program about the state directory of a case.
fn facts(case: &Path) -> Value {
    let verified = said(&tool(case).run(&["audit", "verify", "--all"]));
    let listed = tool(case).run(&["runs", "--json"]);
    let runs: Value = serde_json::from_str(&listed.stdout).expect("JSON");
    let listed = |run: &Value| json!([run["run"], run["state"]]);
    let runs: Vec<_> = runs.as_array().expect("runs").iter().map(listed).collect();
    json!({
        "verified": verified,
        "runs": runs,
        "digests": digests(&case.join("state")),
        "resumed": ended(&tool(case), &["resume"]),
        "cleared and resumed": ended(&cleared(case), &["resume"]),
        "rolled back": ended(&cleared(case), &["rollback", "--yes"]),
    })
}

/// Without a latch, where there was one.
fn cleared(case: &Path) -> Tool {
    let tool = tool(case);
    let run = tool.newest();
    let _ = tool.run(&["halt", &run, "--clear"]);
    tool
}

/// The saved plans run as they are, under the digest that they have.
fn plans() -> Value {
    let mut plans = BTreeMap::new();
    for strategy in ["overlap", "contain"] {
        let file = home().join(format!("plan-{strategy}.json"));
        let tool = Tool::new();
        let ran = tool.run(&["run", file.to_str().expect("path"), "--yes"]);
        plans.insert(strategy, json!([ran.code, digests(&tool.state()).into_values().collect::<Vec<_>>()]));
    }
    json!(plans)
}

#[test]
fn what_the_version_before_wrote_stays_good() {
    if std::env::var_os("STANCH_RECORD_BEFORE").is_some() {
        return record();
    }
    let text = fs::read_to_string(home().join("expected.json")).expect("recorded");
    let text = REWORDED.iter().fold(text, |text, (then, now)| text.replace(then, now));
    let expected: BTreeMap<String, Value> = serde_json::from_str(&text).expect("JSON");
    assert!(expected.len() > PHASES.len(), "the cases are there");
    // They wait more than they work.
    std::thread::scope(|scope| {
        for (case, expected) in &expected {
            scope.spawn(move || {
                let now = if case == "plans" { plans() } else { facts(&home().join(case)) };
                assert_eq!(now, *expected, "{case}");
            });
        }
    });
}

/// Lets the program die in the middle of the record that ends with the byte `more` of what it adds.
fn die(tool: &Tool, arguments: &[&str], most: u64) {
    let mut command = tool.command(arguments);
    command.current_dir("/").stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut child = command.spawn().expect("the program starts");
    limit(Some(child.id()), rustix::process::Resource::Fsize, most);
    child.wait().expect("wait");
}

/// A run, from a directory that is everywhere.
fn go(tool: &Tool, arguments: &[&str], code: i32) {
    let ran = tool.command(arguments).current_dir("/").output().expect("the program starts");
    Ran::of(ran).expect(code);
}

fn journal(tool: &Tool) -> String {
    fs::read_to_string(tool.journal().expect("a journal")).expect("journal")
}

/// Where in a journal something is told: the middle of the second record after it.
fn after(journal: &str, told: &str) -> u64 {
    let at = journal.rfind(told).unwrap_or_else(|| panic!("{told}"));
    let rest = &journal[at..];
    let ends: Vec<usize> = rest.match_indices('\n').map(|(at, _)| at).collect();
    (at + (ends[0] + ends[1]) / 2) as u64
}

#[expect(clippy::disallowed_methods, reason = "a fixture, not a state directory")]
fn record() {
    let runbook = runbook();
    let run = ["run", &runbook, "--env", "sandbox", "--yes"];
    let keep = |case: &str, tool: &Tool| {
        let to = home().join(case).join("state");
        let _ = fs::remove_dir_all(&to);
        copy(&tool.state(), &to);
    };
    let mut cases = Vec::new();
    let calm = Tool::new();
    go(&calm, &run, 0);
    let undisturbed = journal(&calm);
    // Two runs, and keys that changed between them.
    go(&calm, &["audit", "key", "rotate"], 0);
    go(&calm, &run, 0);
    keep("done-twice-rotated-keys", &calm);
    let contain = Tool::new();
    go(&contain, &[&run[..], &["--strategy", "contain"]].concat(), 0);
    keep("done-contain", &contain);
    let back = Tool::new();
    go(&back, &[&run[..], &["--until", "sunset"]].concat(), 0);
    keep("waits-in-sunset", &back);
    let before = journal(&back);
    go(&back, &["rollback", "--yes"], 0);
    keep("rolled-back", &back);
    let way = journal(&back);
    for (at, case) in
        ["\"phase\":\"overlap\"}", "\"phase\":\"distribute\"}"].into_iter().zip(["late", "early"])
    {
        let case = format!("crashed-on-the-way-back-{case}");
        let tool = Tool::new();
        copy(&home().join("waits-in-sunset/state"), &tool.state());
        die(&tool, &["rollback", "--yes"], after(&way, at));
        assert!(journal(&tool).len() > before.len() && !journal(&tool).contains("\"closed\""), "{case}");
        keep(&case, &tool);
        cases.push(case);
    }
    let halted = Tool::new();
    let mut command = halted.command(&run);
    let mut child = command.current_dir("/").stderr(std::process::Stdio::null()).spawn().expect("starts");
    halted.wait_for("\"phase\":\"overlap\"");
    go(&halted, &["halt", &halted.newest(), "--reason", "recorded"], 0);
    child.wait().expect("wait");
    keep("halted", &halted);
    let given_up = Tool::new();
    go(&given_up, &[&run[..], &["--until", "cutover"]].concat(), 0);
    go(&given_up, &["abandon", &given_up.newest(), "--reason", "recorded", "--yes"], 0);
    keep("abandoned", &given_up);
    for phase in PHASES {
        let told = format!("\"phase\":\"{phase}\"}}");
        let case = format!("crashed-in-{phase}");
        let found = (0..ROUNDS).find(|_| {
            let tool = Tool::new();
            die(&tool, &run, after(&undisturbed, &told));
            std::thread::sleep(Duration::from_millis(50));
            let here = tool.status()["phase"] == phase;
            if here {
                keep(&case, &tool);
            }
            here
        });
        assert!(found.is_some(), "no death in {phase}");
        cases.push(case);
    }
    for strategy in ["overlap", "contain"] {
        let file = home().join(format!("plan-{strategy}.json"));
        let file = file.to_str().expect("path");
        go(&Tool::new(), &["plan", &runbook, "--env", "sandbox", "--strategy", strategy, "-o", file], 0);
    }
    cases.extend(
        ["done-twice-rotated-keys", "done-contain", "waits-in-sunset", "rolled-back", "halted", "abandoned"]
            .map(str::to_owned),
    );
    let mut expected: BTreeMap<String, Value> =
        cases.into_iter().map(|case| (case.clone(), facts(&home().join(&case)))).collect();
    expected.insert("plans".into(), plans());
    let text = serde_json::to_string_pretty(&expected).expect("JSON") + "\n";
    fs::write(home().join("expected.json"), text).expect("written");
}
