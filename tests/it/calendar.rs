//! `stanch calendar`: what is due, from the records of the runs.
#![expect(clippy::disallowed_methods, reason = "a test writes what it likes")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::report::{at, ran};
use crate::tool::Tool;

/// Gives the tool's runbook a cadence.
fn paced(tool: &Tool, cadence: &str) -> String {
    let path = at(tool, "runbook.yaml");
    let text = fs::read_to_string(&path).expect("runbook");
    let rest: Vec<&str> = text.lines().filter(|line| !line.starts_with("cadence:")).collect();
    fs::write(&path, format!("cadence: {cadence}\n{}\n", rest.join("\n"))).expect("written");
    path.display().to_string()
}

fn entries(tool: &Tool, arguments: &[&str]) -> Vec<Value> {
    let ran = tool.run(&[&["calendar", "--json", "--env", "sandbox"], arguments].concat()).expect(0);
    serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran:?}"))
}

#[test]
fn a_done_run_is_evidence_and_one_that_was_rolled_back_is_not() {
    let tool = ran(&["--until", "cutover"], 0);
    let path = paced(&tool, "1d");
    let open = entries(&tool, &[&path]);
    assert_eq!((open.len(), &open[0]["status"], &open[0]["due"]), (1, &"unknown".into(), &Value::Null));
    assert!(
        open[0]["findings"][0].as_str().is_some_and(|f| f.contains("is open: stanch status")),
        "{open:?}"
    );
    tool.run(&["rollback", "--yes"]).expect(0);
    let back = entries(&tool, &[&path]);
    assert_eq!(
        (&back[0]["status"], back[0]["findings"].as_array().map(Vec::len)),
        (&"unknown".into(), Some(0))
    );
    tool.run(&["calendar", &path, "--env", "sandbox", "--fail-overdue"]).expect(1);
    tool.run(&["run", &path, "--env", "sandbox", "--yes"]).expect(0);
    let done = entries(&tool, &[&path, "--fail-overdue"]);
    assert_eq!((&done[0]["status"], &done[0]["days"]), (&"upcoming".into(), &1.into()), "{done:?}");
    assert_eq!(done[0]["last"]["of"], tool.newest());
    assert_eq!(done[0]["credential"], "demo-key");
    // Without a cadence it is listed, and nothing is due.
    let text = fs::read_to_string(&path).expect("runbook").replace("cadence: 1d\n", "");
    fs::write(&path, text).expect("written");
    let none = entries(&tool, &[&path, "--fail-overdue"]);
    assert_eq!((&none[0]["status"], &none[0]["due"]), (&"no-cadence".into(), &Value::Null));
}

#[test]
fn a_table_a_feed_and_json_say_the_same() {
    let tool = ran(&[], 0);
    let path = paced(&tool, "90d Europe/Berlin");
    assert_eq!(entries(&tool, &[&path, &path]).len(), 1, "a file that is named twice is one runbook");
    let due = entries(&tool, &[&path])[0]["due"].as_str().expect("due")[..10].to_owned();
    let table = tool.run(&["calendar", &path, "--env", "sandbox"]).expect(0).stdout;
    assert!(table.starts_with("UPCOMING") && table.contains(&format!("{due} Europe/Berlin")), "{table}");
    assert!(table.contains("in 90 days") && table.contains("demo-key"), "{table}");
    let file = at(&tool, "rotations.ics");
    tool.run(&["calendar", &path, "--env", "sandbox", "-o", &file.display().to_string()]).expect(0);
    let feed = fs::read_to_string(&file).expect("the file");
    let day = due.replace('-', "");
    assert!(feed.contains(&format!("DTSTART;VALUE=DATE:{day}\r\n")), "{feed}");
    assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o644);
    assert_eq!(ical::IcalParser::new(feed.as_bytes()).count(), 1);
    // The sandbox is a rehearsal: it is shown only where it is asked for.
    let none = tool.run(&["calendar", &path, "--json"]).expect(0);
    assert!(!none.stdout.contains("sandbox"), "{none:?}");
}

#[test]
fn what_cannot_be_shown_is_said() {
    let tool = ran(&[], 0);
    let path = paced(&tool, "0d");
    let zero = tool.run(&["calendar", &path]).expect(65);
    assert!(zero.stderr.contains("is not a number of days from 1 to 3650"), "{zero:?}");
    assert!(zero.stderr.contains("cadence: 0d") && zero.stderr.contains(":1:10"), "{zero:?}");
    let path = paced(&tool, "90d");
    // One that is wrong does not hide the others.
    let other = at(&tool, "other.yaml").display().to_string();
    fs::write(&other, "version: 1\n").expect("written");
    let both = tool.run(&["calendar", &other, &path, "--env", "sandbox"]).expect(65);
    assert!(both.stdout.starts_with("UPCOMING") && both.stderr.contains("1 runbook not valid"), "{both:?}");
    let env = tool.run(&["calendar", &path, "--env", "staging"]).expect(2);
    assert!(env.stderr.contains("no runbook here has the environment `staging`"), "{env:?}");
    let empty = at(&tool, "empty");
    fs::create_dir(&empty).expect("made");
    tool.run(&["calendar", &empty.display().to_string()]).expect(2);
    tool.run(&["calendar", "nowhere.yaml"]).expect(65);
    let mut nothing = tool.command(&["calendar"]);
    let ran = nothing.current_dir(&empty).output().expect("ran");
    assert_eq!(ran.status.code(), Some(2));
    // A run whose record is not valid is no evidence, and is named.
    let journal = tool.state().join("runs").join(tool.newest()).join("journal.jsonl");
    let text = fs::read_to_string(&journal).expect("journal");
    fs::write(&journal, text.replacen("\"cutover\"", "\"sunset\"", 1)).expect("written");
    let bad = tool.run(&["calendar", &path, "--env", "sandbox", "--fail-overdue"]).expect(1);
    assert!(bad.stderr.contains("not counted") && bad.stdout.starts_with("UNKNOWN"), "{bad:?}");
}

/// A runbook of a file, as old as its modification time says.
fn of_file(tool: &Tool, days_ago: i64) -> String {
    let file = at(tool, "app.env");
    fs::write(&file, "PW=an-old-value\n").expect("written");
    let now = std::time::SystemTime::now();
    let day = std::time::Duration::from_secs(24 * 60 * 60);
    let span = day * u32::try_from(days_ago.abs()).expect("days");
    let then = if days_ago < 0 { now + span } else { now - span };
    let times = fs::FileTimes::new().set_modified(then);
    fs::File::options().write(true).open(&file).expect("open").set_times(times).expect("times");
    let text = format!(
        "version: 1\nname: mail\ncadence: 90d\nenvironments: {{ test: {{}} }}\ncredentials:\n  pw:\n    issuer: {{ type: random }}\n    \
         stores: [{{ type: file, path: \"{}\", format: dotenv, key: PW }}]\n    \
         accepts: [{{ exec: [\"true\"] }}]\n    rejects: [{{ exec: [\"false\"] }}]\n\
         phases:\n  verify: {{ times: 1, every: 0s }}\n  proof: {{ times: 1, every: 0s }}\n",
        file.display()
    );
    tool.runbook(&text).display().to_string()
}

#[test]
fn stores_are_asked_only_on_request_and_no_value_is_shown() {
    let tool = Tool::new();
    let path = of_file(&tool, 100);
    let asked = |code| tool.run(&["calendar", &path, "--ask", "--fail-overdue"]).expect(code);
    assert!(tool.run(&["calendar", &path]).expect(0).stdout.starts_with("UNKNOWN"));
    let late = asked(1);
    assert!(late.stdout.starts_with("OVERDUE") && late.stdout.contains("10 days ago"), "{late:?}");
    assert!(late.stdout.contains("(store file ") && !late.stdout.contains("an-old-value"), "{late:?}");
    of_file(&tool, 10);
    assert!(asked(0).stdout.contains("in 80 days"));
    of_file(&tool, -10);
    let future = asked(1);
    assert!(future.stdout.starts_with("ERROR") && future.stdout.contains("is in the future"), "{future:?}");
    assert!(future.stderr.contains("the last rotation of 1 credential is in the future"), "{future:?}");
    // A run and a store that are days apart.
    of_file(&tool, 10);
    tool.run(&["run", &path, "--env", "test", "--yes"]).expect(crate::tool::NOT_PROVED);
    assert!(!asked(0).stdout.contains("disagrees"));
    of_file(&tool, 10);
    let apart = asked(0).stdout;
    assert!(apart.contains("the evidence disagrees: store file ") && apart.contains("in 80 days"), "{apart}");
    // What cannot be asked is said, and the run's record still counts.
    fs::remove_file(at(&tool, "app.env")).expect("removed");
    let gone = asked(0).stdout;
    assert!(gone.contains("could not ask file ") && gone.contains("in 90 days"), "{gone}");
}
