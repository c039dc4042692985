//! Gates, checks and attesting consumers that cannot be asked are found before anything is issued.
#![expect(clippy::disallowed_methods, reason = "a test writes what it likes")]

use std::fs;

use crate::tool::{NOT_PROVED, Ran, Tool};

/// A value in a file, with what is asked in later phases, and what the phases say.
fn plan(tool: &Tool, arguments: &[&str], asked: &str, phases: &str, gates: &str) -> Ran {
    let (file, ran) = (tool.folder.path().join("app.env"), tool.folder.path().join("issued"));
    fs::write(&file, "PW=old-value-0123456789\n").expect("file");
    let text = format!(
        "version: 1\nname: t\nenvironments: {{ test: {{}} }}\ncredentials:\n  pw:\n    \
         issuer: {{ type: random, apply: {{ exec: [touch, \"{}\"] }}, revoke: {{ exec: [\"true\"] }} }}\n    \
         stores: [{{ type: file, path: \"{}\", format: dotenv, key: PW }}]\n    rejects: [{{ exec: [\"false\"] }}]\n    \
         {asked}\nphases:\n  verify: {{ times: 1, every: 10ms }}\n  proof: {{ times: 1, every: 10ms }}\n{phases}{gates}",
        ran.display(),
        file.display()
    );
    let path = tool.runbook(&text).display().to_string();
    tool.run(&[&["run", &path, "--env", "test", "--yes", "--no-wait"], arguments].concat())
}

const ACCEPTS: &str = "accepts: [{ exec: [\"true\"] }]";
const WAITS: &str = "  overlap: { until: [g] }\n";

fn gate(code: u8) -> String {
    format!("gates:\n  g: {{ exec: {{ argv: [sh, -c, \"exit {code}\"], every: 10ms }} }}\n")
}

/// Nothing was issued, and no run was begun.
fn refused(tool: &Tool, ran: &Ran, words: &[&str]) {
    for word in words.iter().chain(&["nothing was changed", "make it answer"]) {
        assert!(ran.stderr.contains(word), "no `{word}` in {}", ran.stderr);
    }
    assert!(tool.journal().is_none() && !tool.folder.path().join("issued").exists(), "{ran:?}");
}

#[test]
fn a_gate_that_cannot_be_evaluated_refuses_the_run() {
    let tool = Tool::new();
    refused(&tool, &plan(&tool, &[], ACCEPTS, WAITS, &gate(2)).expect(69), &["gate `g`", "`sh`"]);
    let http = "gates:\n  g: { http: { url: 'http://127.0.0.1:1/n', json: /v, at_most: 1 } }\n";
    let ran = plan(&tool, &[], ACCEPTS, WAITS, http).expect(69);
    refused(&tool, &ran, &["gate `g`", "cannot connect to http://127.0.0.1:1/n"]);
}

#[test]
fn a_gate_that_does_not_pass_yet_is_told_and_refuses_nothing() {
    let tool = Tool::new();
    let ran = plan(&tool, &[], ACCEPTS, WAITS, &gate(1)).expect(12);
    assert!(ran.stderr.contains("gate `g`: it says fail before the run"), "{}", ran.stderr);
}

#[test]
fn a_gate_that_a_custom_step_may_bring_up_is_told_and_refuses_nothing() {
    let tool = Tool::new();
    let up = tool.folder.path().join("up").display().to_string();
    let gate =
        format!("gates:\n  g: {{ exec: {{ argv: [sh, -c, \"[ -e {up} ] || exit 2\"], every: 10ms }} }}\n");
    let phases =
        format!("{WAITS}  prepare: {{ before: [{{ name: start, exec: [touch, \"{up}\"], undo: none }}] }}\n");
    let ran = plan(&tool, &[], ACCEPTS, &phases, &gate).expect(NOT_PROVED);
    assert!(ran.stderr.contains("(custom step `start` runs first)"), "{}", ran.stderr);
    // One that comes after it does not excuse it.
    let other = Tool::new();
    let later = format!("{WAITS}  revoke: {{ before: [{{ name: start, exec: [\"true\"], undo: none }}] }}\n");
    refused(&other, &plan(&other, &[], ACCEPTS, &later, &self::gate(2)).expect(69), &["gate `g`"]);
}

#[test]
fn a_check_that_cannot_be_reached_refuses_the_run() {
    let tool = Tool::new();
    let asked = "accepts: [{ exec: [\"true\"] }, { http: { url: 'http://127.0.0.1:1/x', bearer: true } }]";
    let ran = plan(&tool, &[], asked, "", "").expect(69);
    refused(&tool, &ran, &["pw, accepts 2", "cannot connect to http://127.0.0.1:1/"]);
}

#[test]
fn an_instance_that_does_not_answer_is_named() {
    let tool = Tool::new();
    let consumer =
        "consumers: [{ name: api, attest: { http: { urls: ['http://127.0.0.1:1/f'], fingerprint: /f } } }]";
    let ran = plan(&tool, &[], &format!("{ACCEPTS}\n    {consumer}"), "", "").expect(69);
    refused(&tool, &ran, &["pw, attest of api", "http://127.0.0.1:1/f"]);
}

/// In hostile hands: whatever does not answer, the kill is not held up, and nothing is sent on its way.
#[test]
fn under_contain_none_of_them_is_asked_before_the_kill() {
    let tool = Tool::new();
    let asked = tool.folder.path().join("asked").display().to_string();
    let gate =
        format!("gates:\n  g: {{ exec: {{ argv: [sh, -c, \"touch {asked}; exit 2\"], every: 10ms }} }}\n");
    let ran = plan(&tool, &["--strategy", "contain"], ACCEPTS, "  sunset: { until: [g] }\n", &gate);
    ran.expect(NOT_PROVED);
    assert!(!fs::exists(&asked).expect("looked"), "the gate was asked");
}
