//! `audit show` with filters, and `audit export`, over journals in which everything happened.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use stanch::clock::{Moment, add, since};
use stanch::domain::ErrorKind;
use stanch::engine::{Choices, survey};
use stanch::journal::{Journal as _, StateDir};
use stanch::plan::{Plan, Request, compile};
use stanch::provider::Provider;
use stanch::provider::sandbox::Sandbox;
use stanch::rotation::{Ended, Event, Facts, Failure, Found, Next, Op, State, Stop, Task, Wishes};
use stanch::runbook::{Source, check};

use crate::tool::{Ran, Tool};

const RUNBOOK: &str = r#"
version: 1
name: all
environments: { sandbox: {} }
connections: { world: { type: sandbox } }
credentials:
  key:
    issuer: { type: sandbox, connection: world, ttl: 1h }
    scope: { max_ttl: 1h }
    stores: [{ type: sandbox, connection: world, path: a }, { type: sandbox, connection: world, path: b, labels: false }]
    consumers: [{ name: web, reload: { sandbox: {} } }]
  other:
    issuer: { type: sandbox, connection: world, ttl: 1h }
    scope: { max_ttl: 1h }
    stores: [{ type: sandbox, connection: world, path: c }]
phases:
  prepare: { before: [{ name: tell, exec: ["true"], undo: { exec: ["true"] } }] }
"#;

/// What a spreadsheet would take for a formula, and a terminal for a command.
const REASON: &str = "=HYPERLINK(\"http://x\"),\r\n\u{1b}[2J";

/// A state folder with a run that was played by a script.
struct Played {
    tool: Tool,
    run: String,
}

/// How a call ends, and what is found of it when that is unknown. `nth` counts the step's calls.
fn script(id: &str, op: Op, nth: usize) -> (Ended, Vec<Found>) {
    let verb = id.split('/').nth(2).unwrap_or_default();
    match (verb, op, nth) {
        ("issue", Op::Do, 1) => (Ended::Unknown, vec![Found::Orphans(vec!["lost-1".into()])]),
        ("stage", Op::Do, 1) => (Ended::Rejected, vec![]),
        ("promote", Op::Do, 1) => (Ended::Unknown, vec![Found::Undecided, Found::Applied]),
        ("promote" | "disable", Op::Undo, 1) | ("disable" | "revoke", Op::Do, 1) => {
            (Ended::Unknown, vec![Found::Absent])
        }
        ("reload", Op::Do, 1) => (Ended::Unknown, vec![Found::Repeatable]),
        ("tell", _, 1) => (Ended::Unknown, vec![]),
        _ => (Ended::Succeeded, vec![]),
    }
}

fn facts(id: &str) -> Facts {
    let of = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    match id.split('/').nth(2) {
        Some("issue") => of(&[("handle", "new-1"), ("fingerprint", "f")]),
        Some("capture" | "stage") => of(&[("version", "7")]),
        Some("promote") => of(&[("version", "8"), ("was", "7")]),
        _ => Facts::new(),
    }
}

impl Played {
    /// Plays a run to its end; `back` turns it before it revokes.
    fn new(back: bool) -> Self {
        let tool = Tool::new();
        let dir = StateDir::open(&tool.state()).expect("state");
        let plan = Arc::new(plan(&dir));
        let begin: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().expect("moment");
        let mut now = begin;
        let moment =
            |now| Moment { wall: now, mono_ms: u64::try_from(since(now, begin).as_millis()).expect("small") };
        let who = ("tester", "here");
        let mut journal = dir.create(&plan, Some(REASON.into()), who, moment(now)).expect("create");
        let mut state = State::new(Arc::clone(&plan), now);
        let mut calls: BTreeMap<(String, Op), usize> = BTreeMap::new();
        let mut findings: BTreeMap<String, Vec<Found>> = BTreeMap::new();
        let mut turned = false;
        loop {
            now = add(now, std::time::Duration::from_millis(5));
            let decision = state.decide(now, &Wishes { capacity: 1, ..Wishes::default() });
            let rounds: Vec<u32> = (0..plan.steps.len()).map(|s| state.round(s)).collect();
            let mut record = |event: Event| {
                state.apply(&event, now).unwrap_or_else(|e| panic!("{e}: {event:?}"));
                journal.commit(moment(now), std::slice::from_ref(&event)).expect("commit");
            };
            match (decision.tasks.first(), decision.next) {
                (Some(Task::Perform { step, op, attempt }), _) => {
                    let id = plan.steps[*step].id.clone();
                    let nth = calls.entry((id.clone(), *op)).or_default();
                    *nth += 1;
                    let (result, found) = script(&id, *op, *nth);
                    let (op, attempt, round) = (*op, *attempt, rounds[*step]);
                    findings.insert(id.clone(), found);
                    record(Event::Intent { step: id.clone(), op, attempt, round });
                    record(Event::Outcome {
                        facts: if result == Ended::Succeeded { facts(&id) } else { Facts::new() },
                        error: (result != Ended::Succeeded).then(|| failure(result)),
                        step: id,
                        op,
                        attempt,
                        result,
                        checks: vec![],
                        latency_ms: 3,
                    });
                }
                (Some(Task::Observe { step, op, attempt }), _) => {
                    let id = plan.steps[*step].id.clone();
                    let found =
                        findings.get_mut(&id).map(|f| f.remove(0)).expect("the script says what is found");
                    let facts = if found == Found::Applied { facts(&id) } else { Facts::new() };
                    let detail = "as the script says".into();
                    record(Event::Settled { step: id, op: *op, attempt: *attempt, found, facts, detail });
                }
                (None, Next::Record(Event::Entered { phase }))
                    if back && !turned && phase.name() == "revoke" =>
                {
                    turned = true;
                    record(Event::Turned {
                        to: None,
                        why: "as the script says".into(),
                        by_gate: false,
                        from: None,
                    });
                }
                (None, Next::Record(event)) => {
                    let over = matches!(event, Event::Closed { .. });
                    let unknown = match &event {
                        Event::Stopped { reason: Stop::Unknown { steps } } => steps.clone(),
                        _ => vec![],
                    };
                    record(event);
                    if over {
                        break;
                    }
                    for step in unknown {
                        record(Event::Resumed {});
                        record(Event::Resolved {
                            step,
                            applied: !turned,
                            evidence: "looked".into(),
                            facts: Default::default(),
                        });
                    }
                }
                (None, Next::Sleep(at) | Next::Wait(at)) => now = at,
                (None, other) => panic!("{other:?}"),
            }
        }
        let run = journal.run().to_owned();
        journal.close().expect("close");
        Self { tool, run }
    }

    fn export(&self, format: &str) -> Ran {
        self.tool.run(&["audit", "export", "--format", format, &self.run])
    }

    fn journal(&self) -> Vec<u8> {
        std::fs::read(self.tool.journal().expect("journal")).expect("journal")
    }

    fn put(&self, bytes: &[u8]) {
        let path = self.tool.journal().expect("journal");
        std::fs::File::create(path).expect("file").write_all(bytes).expect("write");
    }
}

fn failure(result: Ended) -> Failure {
    let (kind, message) = match result {
        Ended::Unknown => (ErrorKind::NoAnswer, "no answer within 30 s"),
        _ => (ErrorKind::Throttled, "too many requests"),
    };
    Failure {
        kind,
        message: message.into(),
        hint: None,
        request_id: Some("request-1".into()),
        retry_after_ms: None,
    }
}

fn plan(dir: &StateDir) -> Plan {
    let world = Sandbox::open(Path::new(&dir.sandbox()), dir.sealer().expect("sealer")).expect("world");
    let checked = check(&Source { name: "test".into(), text: RUNBOOK.into() });
    let template = checked.runbook.unwrap_or_else(|| panic!("{:?}", checked.findings));
    let runbook = template.instantiate("sandbox").expect("sandbox");
    for (name, credential) in &runbook.credentials {
        world.seed(name, credential).expect("seed");
    }
    let provider: Arc<dyn Provider> = Arc::new(world);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let observed = runtime.block_on(survey(&provider, &runbook, &Choices::default())).expect("survey");
    let request = Request {
        environment: "sandbox".into(),
        sandbox: true,
        runbook_sha256: template.sha256().into(),
        tool: "test".into(),
        directory: None,
    };
    compile(runbook, &request, observed).expect("plan")
}

fn records(bytes: &[u8]) -> Vec<Value> {
    let lines = bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty());
    lines.map(|l| serde_json::from_slice(l).expect("JSON")).collect()
}

#[test]
fn every_event_of_an_ocsf_export_is_one() {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ocsf/entity_management-1.3.0.schema.json");
    let schema: Value = serde_json::from_slice(&std::fs::read(schema).expect("schema")).expect("JSON");
    let schema = jsonschema::validator_for(&schema).expect("a schema");
    let mut seen = BTreeSet::new();
    for back in [false, true] {
        let played = Played::new(back);
        let events = records(played.export("ocsf").expect(0).stdout.as_bytes());
        let journal = records(&played.journal());
        let plan = &journal[0]["plan_body"]["steps"];
        let effect = |id: &Value| {
            let step = plan.as_array().expect("steps").iter().find(|s| s["id"] == *id);
            step.is_some_and(|s| !s["class"].is_null())
        };
        let expected = journal.iter().filter(|r| {
            ["outcome", "settled", "resolved"].iter().any(|t| r["type"] == *t) && effect(&r["step"])
        });
        let sequences =
            |all: &[Value]| all.iter().map(|e| e["metadata"]["sequence"].clone()).collect::<Vec<_>>();
        let expected: Vec<Value> = expected.map(|r| r["seq"].clone()).collect();
        assert_eq!(sequences(&events), expected, "each outcome of an effect, once and in order");
        for event in &events {
            let errors: Vec<String> =
                schema.iter_errors(event).map(|e| format!("{e} at {}", e.instance_path())).collect();
            assert!(errors.is_empty(), "{errors:?} in {event:#}");
            let sum =
                event["class_uid"].as_u64().zip(event["activity_id"].as_u64()).map(|(c, a)| c * 100 + a);
            assert_eq!(event["type_uid"].as_u64(), sum);
            let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
            let op = event["unmapped"]["op"].as_str().unwrap_or_default().to_owned();
            seen.insert((text("activity_name"), op, text("status_code")));
        }
        // The entity is the credential, the new one or the old one, by the name that its issuer has for it.
        let old = &journal[0]["plan_body"]["credentials"][0]["outgoing"]["handle"];
        let of = |step: &str, op: &str| {
            let is = |e: &&Value| e["unmapped"]["step"] == step && e["unmapped"]["op"] == op;
            events.iter().rfind(is).unwrap_or_else(|| panic!("no {op} of {step}"))["entity"].clone()
        };
        assert_eq!(of("prepare/key/issue", "do")["uid"], "new-1");
        assert_eq!(of("sunset/key/disable", "do")["uid"], *old);
        assert_eq!(of("cutover/key/promote/sandbox", "do")["version"], "8");
        if back {
            assert_eq!(of("prepare/key/issue", "undo")["uid"], "new-1", "which one was revoked again");
        }
    }
    let codes: BTreeSet<&str> = seen.iter().map(|(_, _, code)| code.as_str()).collect();
    let all = [
        "rejected",
        "resolved: applied",
        "resolved: not applied",
        "settled: absent",
        "settled: applied",
        "settled: orphans",
        "settled: repeatable",
        "settled: undecided",
        "succeeded",
        "unknown",
    ];
    assert_eq!(codes, all.into(), "the script plays everything that can happen");
    for (activity, op) in [
        ("Create", "do"),
        ("Delete", "undo"),
        ("Delete", "discard"),
        ("Delete", "do"),
        ("Update", "do"),
        ("Update", "undo"),
        ("Disable", "do"),
        ("Enable", "undo"),
        ("Reload", "do"),
        ("Reload", "undo"),
        ("Own step", "do"),
        ("Own step", "undo"),
    ] {
        assert!(seen.iter().any(|(a, o, _)| a == activity && o == op), "no {activity} by {op}");
    }
}

/// Rows of RFC 4180.
fn rows(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), String::new());
    let (mut quoted, mut chars) = (false, text.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => cell.extend(chars.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\r' if !quoted => {
                assert_eq!(chars.next(), Some('\n'), "a row ends with CR LF");
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            c => cell.push(c),
        }
    }
    assert!(row.is_empty() && cell.is_empty(), "the last row has an end, too");
    rows
}

#[test]
fn a_spreadsheet_gets_one_row_a_record_and_no_formula() {
    let played = Played::new(true);
    let text = played.export("csv").expect(0).stdout;
    let rows = rows(&text);
    let journal = records(&played.journal());
    assert_eq!(rows.len(), journal.len() + 1);
    assert!(rows.iter().all(|r| r.len() == rows[0].len()));
    let column = |name: &str| rows[0].iter().position(|c| c == name).expect(name);
    for (row, record) in rows[1..].iter().zip(&journal) {
        assert_eq!(row[column("seq")], record["seq"].to_string());
        assert_eq!(row[column("type")], record["type"].as_str().expect("type"));
        assert_eq!(row[column("step")], record["step"].as_str().unwrap_or_default());
        for cell in row {
            assert!(!cell.starts_with(['=', '+', '-', '@']), "a formula: {cell}");
            assert!(!cell.chars().any(char::is_control), "{cell:?}");
        }
    }
    assert!(rows[1][column("message")].starts_with("'=HYPERLINK(\"http://x\")"), "{:?}", rows[1]);
    let first = |kind: &str| rows.iter().find(|r| r[column("type")] == kind).expect("a row");
    assert_eq!(first("outcome")[column("phase")], "preflight");
    assert_eq!(first("settled")[column("result")], "orphans");
    assert_eq!(first("settled")[column("credential")], "key");
    assert_eq!(first("resolved")[column("result")], "applied");
    assert_eq!(first("closed")[column("result")], "rolled-back");
}

#[test]
fn what_is_exported_as_it_is_is_what_was_recorded() {
    let played = Played::new(false);
    let bytes = played.journal();
    assert_eq!(played.export("jsonl").expect(0).stdout.as_bytes(), bytes);
    let file = played.tool.folder.path().join("out.jsonl");
    let path = file.to_str().expect("path");
    let ran = played.tool.run(&["audit", "export", "--format", "jsonl", "-o", path]).expect(0);
    assert_eq!((ran.stdout.as_str(), std::fs::read(&file).expect("file")), ("", bytes));
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).expect("file").permissions());
    assert_eq!(mode & 0o777, 0o600);
    let nowhere = played.tool.run(&["audit", "export", "--format", "csv", "-o", "/nowhere/x.csv"]).expect(1);
    assert!(nowhere.stderr.contains("/nowhere/x.csv"), "{nowhere:?}");
    let wrong = played.export("xml").expect(2);
    assert!(wrong.stderr.contains("jsonl") && wrong.stderr.contains("ocsf"), "{wrong:?}");
}

#[test]
fn a_bad_journal_is_exported_up_to_its_first_bad_record() {
    let played = Played::new(false);
    let good = played.journal();
    let lines: Vec<&[u8]> = good.split_inclusive(|b| *b == b'\n').collect();
    // A byte inside of the tenth line's event; the next line's hash tells.
    let mut bad = good.clone();
    let start: usize = lines[..9].iter().map(|l| l.len()).sum();
    let at = start + lines[9].len() - 3;
    bad[at] ^= 1;
    played.put(&bad);
    for format in ["jsonl", "ocsf", "csv"] {
        let ran = played.export(format).expect(30);
        assert!(ran.stderr.contains("NOT VALID") && ran.stderr.contains("stanch exported the 1"), "{ran:?}");
        let exported: Vec<u64> = match format {
            "jsonl" => records(ran.stdout.as_bytes()).iter().filter_map(|r| r["seq"].as_u64()).collect(),
            "ocsf" => {
                let all = records(ran.stdout.as_bytes());
                all.iter().filter_map(|r| r["metadata"]["sequence"].as_u64()).collect()
            }
            _ => rows(&ran.stdout)[1..].iter().map(|r| r[0].parse().expect("a number")).collect(),
        };
        assert!(exported.iter().all(|seq| *seq <= 10), "{format}: {exported:?}");
        if format != "ocsf" {
            assert!(exported.len() >= 9, "{format}: {exported:?}");
        }
    }
}

#[test]
fn an_end_that_nothing_covers_is_exported_and_named() {
    let tool = Tool::new();
    let quickstart = Path::new(env!("CARGO_MANIFEST_DIR")).join("runbooks/quickstart.yaml");
    let running = tool.start(&["run", quickstart.to_str().expect("path"), "--env", "sandbox", "--yes"]);
    tool.wait_for("\"type\":\"judged\"");
    running.signal("KILL");
    running.wait();
    let ran = tool.run(&["audit", "export", "--format", "jsonl"]).expect(32);
    assert!(
        ran.stderr.contains("UNANCHORED") && ran.stderr.contains("no signature covers the last"),
        "{ran:?}"
    );
    assert_eq!(ran.stdout.as_bytes(), std::fs::read(tool.journal().expect("journal")).expect("journal"));
}

/// What `audit show` prints with these filters, as JSON.
fn shown(played: &Played, filters: &[&str]) -> Vec<Value> {
    let arguments = [&["audit", "show", "--json", played.run.as_str()], filters].concat();
    records(played.tool.run(&arguments).expect(0).stdout.as_bytes())
}

#[test]
fn show_takes_filters_that_narrow_each_other() {
    let played = Played::new(true);
    let all = shown(&played, &[]);
    assert_eq!(all.len(), records(&played.journal()).len());
    let count = |wanted: &dyn Fn(&Value) -> bool| all.iter().filter(|r| wanted(r)).count();
    let step = |r: &Value| r["event"]["step"].as_str().unwrap_or_default().to_owned();
    let unknown = |r: &Value| {
        r["event"]["result"] == "unknown"
            || r["event"]["type"] == "settled"
                && r["event"]["found"] != "applied"
                && r["event"]["found"] != "absent"
    };
    let cases: [(&[&str], usize); 7] = [
        (&["--type", "intent"], count(&|r| r["event"]["type"] == "intent")),
        (&["--type", "opened,closed"], 2),
        (&["--step", "cutover/key"], count(&|r| step(r).starts_with("cutover/key/"))),
        (&["--step", "prepare/own/tell"], count(&|r| step(r) == "prepare/own/tell")),
        (&["--credential", "other"], count(&|r| step(r).contains("/other/"))),
        (&["--outcome", "unknown"], count(&unknown)),
        (
            &["--outcome", "unknown", "--credential", "key", "--type", "outcome"],
            count(&|r| r["event"]["result"] == "unknown" && step(r).contains("/key/")),
        ),
    ];
    for (filters, expected) in cases {
        assert!(expected > 0, "{filters:?}");
        assert_eq!(shown(&played, filters).len(), expected, "{filters:?}");
    }
    let sunset = shown(&played, &["--phase", "sunset"]);
    assert!(
        sunset.len() > 4 && sunset.iter().any(|r| r["event"]["op"] == "undo"),
        "both ways through it: {sunset:?}"
    );
    assert!(sunset.iter().all(|r| step(r).is_empty() || step(r).starts_with("sunset/")));
    // Both ends count.
    let at = all[all.len() / 2]["at"].as_str().expect("a moment").to_owned();
    let (late, early) = (shown(&played, &["--since", &at]), shown(&played, &["--until", &at]));
    assert!(late.iter().chain(&early).filter(|r| r["at"] == at.as_str()).count() >= 2);
    assert_eq!(late.len() + early.len(), all.len() + all.iter().filter(|r| r["at"] == at.as_str()).count());
    assert_eq!(shown(&played, &["--until", "1m"]).len(), all.len(), "it all happened longer ago");
    // In words, and safe for a terminal.
    let text = played.tool.run(&["audit", "show", "--type", "opened"]).expect(0).stdout;
    assert!(text.contains("opened with plan") && text.lines().count() == 1, "{text:?}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn a_filter_that_fits_nothing_says_so_and_a_wrong_one_says_what_there_is() {
    let played = Played::new(false);
    let none = played.tool.run(&["audit", "show", "--phase", "preflight", "--type", "closed"]).expect(0);
    assert_eq!(none.stdout, "");
    assert!(none.stderr.contains("none of the"), "{none:?}");
    for (filter, value, there) in [
        ("--phase", "cutoff", "cutover"),
        ("--type", "outcom", "outcome"),
        ("--outcome", "failed", "rejected"),
        ("--credential", "kee", "key, other"),
        ("--step", "cutover/key/promo", "cutover/key/promote/sandbox"),
        ("--since", "yesterday", "2026-11-24T01:02:03Z"),
    ] {
        let ran = played.tool.run(&["audit", "show", filter, value]).expect(2);
        assert!(ran.stderr.contains(there) && ran.stderr.contains(value), "{filter}: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{filter}");
    }
}
