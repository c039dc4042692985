//! Outcomes that nobody knows: what `status` says of them, and what `resolve` takes.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::tool::{NOT_PROVED, Tool};

/// A rotation of a file's value with an own step in `prepare`, which nobody can look into.
pub(crate) fn runbook(tool: &Tool, step: &str) -> PathBuf {
    let file = tool.folder.path().join("app.env");
    std::fs::File::create(&file).expect("file").write_all(b"KEY=the-old-value\n").expect("file");
    tool.runbook(&format!(
        "version: 1\nname: files\nenvironments: {{ test: {{}} }}\ncredentials:\n  key:\n    issuer: {{ type: random }}\n    \
         stores: [{{ type: file, path: \"{}\", format: dotenv, key: KEY }}]\n    \
         accepts: [{{ exec: [\"true\"] }}]\n    rejects: [{{ exec: [\"false\"] }}]\n\
         phases:\n  prepare:\n    before:\n      - {step}\n  \
         verify: {{ times: 1, every: 0s }}\n  proof: {{ times: 1, every: 0s }}\n",
        file.display()
    ))
}

/// A program that notes that it ran, and is killed the first time.
fn killed_once(folder: &Path, name: &str) -> String {
    let ran = folder.join(name);
    format!("[sh, -c, \"echo ran >> {0}; [ $(wc -l < {0}) -gt 1 ] || kill -9 $$\"]", ran.display())
}

fn times(tool: &Tool, name: &str) -> usize {
    std::fs::read_to_string(tool.folder.path().join(name)).unwrap_or_default().lines().count()
}

fn run(tool: &Tool, path: &Path, code: i32) {
    tool.run(&["run", path.to_str().expect("path"), "--env", "test", "--yes"]).expect(code);
}

const STEP: &str = "prepare/own/tell";

#[test]
fn status_says_what_is_unknown_why_and_how_to_find_out() {
    let tool = Tool::new();
    let exec = killed_once(tool.folder.path(), "tell");
    let path = runbook(&tool, &format!("{{ name: tell, exec: {exec}, undo: none }}"));
    let ran = tool.run(&["run", path.to_str().expect("path"), "--env", "test", "--yes"]).expect(11);
    let name = tool.newest();
    assert!(ran.stderr.contains(&format!("stanch status {name}")), "{ran:?}");
    assert!(!ran.stdout.contains("stanch resume"), "looking again would be in vain: {ran:?}");
    let text = tool.run(&["status"]).expect(0).stdout;
    let resolve = format!("stanch resolve {name} {STEP} --as");
    for words in [
        &format!("unknown: {STEP} (custom step tell)"),
        "try 1",
        "`sh` was ended by signal 9",
        "cannot check: the runbook gives this step neither `observe:`",
        "the step runs `sh -c 'echo ran",
        &format!("{resolve} applied --evidence"),
        &format!("{resolve} not-applied --evidence"),
    ] {
        assert!(text.contains(words), "no `{words}` in:\n{text}");
    }
    let unknown = tool.status()["unknown"][0].clone();
    assert_eq!(
        (&unknown["step"], &unknown["op"], &unknown["attempt"]),
        (&STEP.into(), &"do".into(), &1.into())
    );
    assert!(unknown["tried"].as_str().is_some_and(|t| t.ends_with('Z')), "{unknown}");
    assert_eq!(unknown["resume_looks"], false);
    assert_eq!(unknown["commands"].as_array().map(Vec::len), Some(2));
    // Looking changes nothing: it stays unknown however often the run is taken up.
    tool.run(&["resume"]).expect(11);
    assert_eq!(times(&tool, "tell"), 1, "what may have happened is not done again");
}

#[test]
fn an_answer_is_kept_and_the_run_goes_on_with_it() {
    for (answer, ran) in [("applied", 1), ("not-applied", 2)] {
        let tool = Tool::new();
        let exec = killed_once(tool.folder.path(), "tell");
        let path = runbook(&tool, &format!("{{ name: tell, exec: {exec}, undo: none }}"));
        run(&tool, &path, 11);
        let name = tool.newest();
        let resolve = |step: &str, evidence: &str| {
            tool.run(&["resolve", &name, step, "--as", answer, "--evidence", evidence, "--json"])
        };
        let wrong = resolve("prepare/own/tel", "x").expect(2);
        assert!(wrong.stderr.contains("no step") && wrong.stderr.contains(STEP), "{wrong:?}");
        let known = resolve("prepare/key/issue", "x").expect(2);
        assert!(known.stderr.contains("is pending") && known.stderr.contains(STEP), "{known:?}");
        let empty = resolve(STEP, " \t").expect(2);
        assert!(empty.stderr.contains("--evidence"), "{empty:?}");
        let said = resolve(STEP, "  the \u{1b}[31mqueue's page ").expect(0);
        let said: Value = serde_json::from_str(&said.stdout).expect("JSON");
        assert_eq!(said["applied"], answer == "applied");
        assert_eq!(said["next"], format!("stanch resume {name}"));
        assert_eq!(tool.status()["unknown"], serde_json::json!([]));
        // Once is enough, and nothing else is asked.
        resolve(STEP, "again").expect(2);
        tool.run(&["resume"]).expect(NOT_PROVED);
        assert_eq!(times(&tool, "tell"), ran, "{answer}");
        let shown = tool.run(&["audit", "show", "--type", "resolved"]).expect(0).stdout;
        let words =
            if answer == "applied" { "resolved as applied: the" } else { "resolved as not applied: the" };
        assert!(shown.contains(words) && shown.contains("queue's page"), "{shown}");
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
        tool.run(&["audit", "verify"]).expect(0);
        let over = resolve(STEP, "late").expect(2);
        assert!(over.stderr.contains("has ended"), "{over:?}");
    }
}

#[test]
fn a_step_under_way_when_its_process_was_killed_can_be_answered_for_at_once() {
    let tool = Tool::new();
    let path = runbook(&tool, "{ name: tell, exec: [sleep, \"30\"], undo: none }");
    let running = tool.start(&["run", path.to_str().expect("path"), "--env", "test", "--yes"]);
    tool.wait_for("\"type\":\"intent\",\"step\":\"prepare/own/tell\"");
    let name = tool.newest();
    let resolve = ["resolve", &name, STEP, "--as", "applied", "--evidence", "the page shows it"];
    // While a process works on it, that process may still learn the answer.
    let live = tool.run(&resolve).expect(21);
    assert!(live.stderr.contains("nothing was recorded"), "{live:?}");
    assert!(!tool.run(&["status"]).expect(0).stdout.contains("unknown:"));
    running.signal("KILL");
    running.wait();
    let text = tool.run(&["status"]).expect(0).stdout;
    assert!(text.contains("its process ended before it recorded an answer"), "{text}");
    assert!(!text.contains("in progress: "), "it is not listed twice: {text}");
    // The only open run need not be named.
    tool.run(&["resolve", STEP, "--as", "applied", "--evidence", "the page shows it"]).expect(0);
    tool.run(&["resume"]).expect(NOT_PROVED);
    tool.run(&["audit", "verify"]).expect(0);
}

#[test]
fn the_way_back_asks_too_and_goes_on_with_the_answer() {
    for (answer, undone) in [("applied", 1), ("not-applied", 2)] {
        let tool = Tool::new();
        let undo = killed_once(tool.folder.path(), "undo");
        let path = runbook(&tool, &format!("{{ name: tell, exec: [\"true\"], undo: {{ exec: {undo} }} }}"));
        let path = path.to_str().expect("path");
        tool.run(&["run", path, "--env", "test", "--yes", "--until", "cutover"]).expect(0);
        tool.run(&["rollback", "--yes"]).expect(11);
        let name = tool.newest();
        let text = tool.run(&["status"]).expect(0).stdout;
        assert!(
            text.contains("(undo: custom step tell)") && text.contains("the step runs `sh -c 'echo ran"),
            "{text}"
        );
        assert_eq!(tool.status()["unknown"][0]["op"], "undo");
        tool.run(&["resolve", &name, "--as", answer, STEP, "--evidence", "looked"]).expect(0);
        tool.run(&["resume"]).expect(1);
        assert_eq!(tool.status()["end"], "rolled-back");
        assert_eq!(times(&tool, "undo"), undone, "{answer}");
    }
}

#[test]
fn on_the_way_back_what_was_done_after_all_is_taken_back() {
    for (answer, undone) in [("applied", 1), ("not-applied", 0)] {
        let tool = Tool::new();
        let exec = killed_once(tool.folder.path(), "tell");
        let undo = format!("[sh, -c, \"echo ran >> {}\"]", tool.folder.path().join("undo").display());
        let path = runbook(&tool, &format!("{{ name: tell, exec: {exec}, undo: {{ exec: {undo} }} }}"));
        run(&tool, &path, 11);
        let name = tool.newest();
        tool.run(&["rollback", "--yes"]).expect(11);
        tool.run(&["resolve", &name, STEP, "--as", answer, "--evidence", "looked"]).expect(0);
        tool.run(&["resume"]).expect(1);
        assert_eq!((times(&tool, "tell"), times(&tool, "undo")), (1, undone), "{answer}");
        assert_eq!(tool.status()["end"], "rolled-back");
    }
}

/// What a step's own `observe:` program says settles it, both ways, and nobody is asked.
#[test]
fn a_step_is_observed_with_its_own_program_and_so_is_its_undo() {
    let tool = Tool::new();
    let folder = tool.folder.path().display().to_string();
    let mark = format!("{folder}/mark");
    // Both do their work once and are killed before they can say so.
    let exec = format!("[sh, -c, \"echo ran >> {folder}/tell; touch {mark}; kill -9 $$\"]");
    let undo = format!("[sh, -c, \"echo ran >> {folder}/undo; rm {mark}; kill -9 $$\"]");
    let observe = format!("[test, -e, \"{mark}\"]");
    let step = format!("{{ name: tell, exec: {exec}, undo: {{ exec: {undo} }}, observe: {observe} }}");
    let path = runbook(&tool, &step);
    let path = path.to_str().expect("path");
    tool.run(&["run", path, "--env", "test", "--yes", "--until", "cutover"]).expect(0);
    assert_eq!(times(&tool, "tell"), 1, "it took effect, as the program says");
    tool.run(&["rollback", "--yes"]).expect(0);
    assert_eq!(times(&tool, "undo"), 1, "so did its undo");
}

/// Where even `observe:` gives no answer, the run asks, and says what came of looking.
#[test]
fn a_look_that_is_in_vain_is_named_and_taken_again() {
    let tool = Tool::new();
    let folder = tool.folder.path().display().to_string();
    let exec = killed_once(tool.folder.path(), "tell");
    let answer = format!("{folder}/answer");
    let observe = format!("[sh, -c, \"test -e {answer} || exit 7\"]");
    let path = runbook(&tool, &format!("{{ name: tell, exec: {exec}, undo: none, observe: {observe} }}"));
    run(&tool, &path, 11);
    let text = tool.run(&["status"]).expect(0).stdout;
    for words in [
        "`observe:` program: `sh -c",
        "checked 5 times without a result: `sh` ended with status 7",
        "recheck   stanch resume",
    ] {
        assert!(text.contains(words), "no `{words}` in:\n{text}");
    }
    std::fs::File::create(&answer).expect("file");
    tool.run(&["resume"]).expect(NOT_PROVED);
    assert_eq!(times(&tool, "tell"), 1);
}

/// A value that was made here is known without its authority's answer: a person can say that it is in force, or not.
#[test]
fn a_value_that_was_made_here_is_settled_either_way() {
    settled_as("applied", 1);
    settled_as("not-applied", 2);
}

fn settled_as(answer: &str, applied: usize) {
    let tool = Tool::new();
    let apply = killed_once(tool.folder.path(), "apply");
    let path = runbook(&tool, "{ name: tell, exec: [\"true\"], undo: none }");
    let text = std::fs::read_to_string(&path).expect("runbook");
    let path = tool.runbook(&text.replace(
        "{ type: random }",
        &format!("{{ type: random, apply: {{ exec: {apply} }}, revoke: {{ exec: [\"true\"] }} }}"),
    ));
    run(&tool, &path, 11);
    let name = tool.newest();
    let unknown = tool.status()["unknown"][0].clone();
    assert_eq!(unknown["step"], "prepare/key/issue");
    assert_eq!(unknown["commands"].as_array().map(Vec::len), Some(2), "{unknown}");
    let text = tool.run(&["status"]).expect(0).stdout;
    assert!(text.contains("only the system that this step calls knows") && text.contains("wc -l"), "{text}");
    tool.run(&["resolve", &name, "prepare/key/issue", "--as", answer, "--evidence", "looked"]).expect(0);
    tool.run(&["resume"]).expect(NOT_PROVED);
    assert_eq!(times(&tool, "apply"), applied);
}
