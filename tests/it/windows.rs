//! Deployment windows, as a user meets them: cutover waits for them, and for nothing longer.
#![expect(
    clippy::disallowed_methods,
    reason = "a test looks at the clock of this machine, and writes what it likes"
)]

use std::fs;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use crate::report::at;
use crate::tool::Tool;

/// The quickstart, without its waits, with this line before everything else.
fn runbook(tool: &Tool, windows: &str) -> String {
    let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("runbooks/quickstart.yaml");
    let text = fs::read_to_string(shipped).expect("the quickstart");
    let quick = |line: &str| match line.split_once("at_least:") {
        Some((before, _)) => format!("{before}at_least: 10ms"),
        None => line.to_owned(),
    };
    let lines: Vec<String> = text.lines().map(quick).collect();
    tool.runbook(&format!("windows: {windows}\n{}\n", lines.join("\n"))).display().to_string()
}

/// A window on the whole of the day that is so many days from now, in UTC.
fn on_day(days: i64) -> String {
    let day = (Timestamp::now().to_zoned_datetime(TimeZone::UTC).date() + days.days()).strftime("%a");
    format!("[{{days: [{}], from: 00:00, to: 24:00, zone: UTC}}]", day.to_string().to_lowercase())
}

const OPEN: &str = "[{from: 00:00, to: 24:00, zone: Europe/Berlin}]";
const OVER: &str = "[{from: 09:00, to: 16:00, zone: UTC, last: 2020-01-31}]";

fn phases(tool: &Tool) -> Vec<String> {
    let journal = fs::read_to_string(tool.journal().expect("a run")).expect("journal");
    let records = journal.lines().skip(1).map(serde_json::from_str::<serde_json::Value>);
    let entered = records.flatten().filter(|record| record["type"] == "entered");
    entered.filter_map(|record| record["phase"].as_str().map(str::to_owned)).collect()
}

#[test]
fn cutover_does_not_begin_outside_of_a_window() {
    let tool = Tool::new();
    let path = runbook(&tool, &on_day(3));
    let plan = tool.run(&["plan", &path, "--env", "sandbox"]).expect(0).stdout;
    assert!(plan.contains("waits for a deployment window: ") && plan.contains("00:00-24:00 UTC"), "{plan}");
    assert!(plan.contains("Deployment window  the next one opens at "), "{plan}");
    let stopped = tool.run(&["run", &path, "--env", "sandbox", "--yes", "--no-wait"]).expect(10);
    let day = (Timestamp::now().to_zoned_datetime(TimeZone::UTC).date() + 3.days()).to_string();
    let opens = format!("cutover waits for a deployment window, which opens at {day}T00:00:00Z");
    assert!(stopped.stdout.contains(&opens), "{stopped:?}");
    assert_eq!(phases(&tool), ["preflight", "prepare", "distribute", "verify"]);
    let status = tool.run(&["status"]).expect(0).stdout;
    assert!(status.matches("opens at ").count() == 1 && status.contains(&opens), "{status}");
    assert!(status.contains("--now --reason TEXT"), "{status}");
    assert_eq!(tool.status()["window"]["opens"], format!("{day}T00:00:00Z"));
    // A resume before it opens waits again; what it waits for is shown while it does.
    tool.run(&["resume", "--no-wait"]).expect(10);
    let waiting = tool.start(&["resume", "--json"]);
    tool.wait_until(|lines| lines.matches("\"resumed\"").count() == 2, "a second resume");
    std::thread::sleep(Duration::from_millis(600));
    let live = tool.run(&["status"]).expect(0).stdout;
    assert!(live.contains("a process is working on it") && live.contains("the next one opens at "), "{live}");
    waiting.signal("INT");
    assert_eq!(waiting.wait().code, Some(130));
    assert_eq!(phases(&tool), ["preflight", "prepare", "distribute", "verify"]);
    // A way back does not wait.
    tool.run(&["rollback", "--yes"]).expect(0);
}

#[test]
fn a_persons_word_begins_cutover_now_and_stays_on_the_record() {
    let tool = Tool::new();
    let path = runbook(&tool, &on_day(3));
    let run = |more: &[&str]| tool.run(&[&["run", &path, "--env", "sandbox", "--yes"], more].concat());
    let refused = run(&["--now"]).expect(2);
    assert!(refused.stderr.contains("--now requires a reason"), "{refused:?}");
    assert!(tool.journal().is_none(), "nothing was begun");
    let secret = run(&[
        "--now",
        "--reason",
        "the key AKIAIOSFODNN7EXAMPLE leaked, and ghp_0123456789abcdefghijABCDEFGHIJ0123456",
    ]);
    assert_eq!((secret.code, tool.journal()), (Some(2), None), "{secret:?}");
    run(&["--no-wait"]).expect(10);
    let resume = |more: &[&str]| tool.run(&[&["resume"], more].concat());
    assert!(resume(&["--now"]).expect(2).stderr.contains("--now requires a reason"));
    assert!(resume(&["--reason", "because"]).expect(2).stderr.contains("--reason does not apply"));
    let done = resume(&["--now", "--reason", "INC-7: it leaked"]).expect(0);
    let words = "cutover did not wait for a deployment window, by tester@";
    assert!(done.stdout.contains(words) && done.stdout.contains("INC-7: it leaked"), "{done:?}");
    let journal = fs::read_to_string(tool.journal().expect("a run")).expect("journal");
    assert!(journal.contains("\"type\":\"window-overridden\""), "{journal}");
    for form in ["report.md", "report.json"] {
        let report = crate::report::write(&tool, form);
        assert!(
            report.contains("did not wait for a deployment window") && report.contains("INC-7"),
            "{report}"
        );
        crate::report::check(&tool, form).expect(0);
    }
    tool.run(&["audit", "verify", "--all"]).expect(0);
    // It is for what is there to wait for.
    let open = Tool::new();
    let path = runbook(&open, OPEN);
    let begun = ["run", &path, "--env", "sandbox", "--yes", "--until", "cutover"];
    open.run(&begun).expect(0);
    let late = open.run(&["resume", "--now", "--reason", "quick"]).expect(2);
    assert!(late.stderr.contains("cutover does not lie ahead of this run"), "{late:?}");
    let contain = ["run", &path, "--env", "sandbox", "--yes", "--strategy", "contain"];
    let none = tool.run(&[&contain[..], &["--now", "--reason", "quick"]].concat()).expect(2);
    assert!(none.stderr.contains("waits for no deployment window"), "{none:?}");
}

/// The process that waits has the run: a person who does not want to wait is told to end it first.
#[test]
fn a_word_to_begin_now_names_the_process_that_waits() {
    let tool = Tool::new();
    let path = runbook(&tool, &on_day(3));
    let waits = tool.start(&["run", &path, "--env", "sandbox", "--yes"]);
    tool.wait_for("\"phase\":\"verify\"");
    let now = tool.run(&["resume", "--now", "--reason", "INC-7"]).expect(21);
    assert!(now.stderr.contains("end it with Ctrl-C, then: stanch resume"), "{now:?}");
    waits.signal("INT");
    waits.wait().expect(130);
    tool.run(&["resume", "--now", "--reason", "INC-7"]).expect(0);
}

#[test]
fn who_contains_a_leak_waits_for_no_window() {
    for windows in [on_day(3), OVER.to_owned()] {
        let tool = Tool::new();
        let path = runbook(&tool, &windows);
        let contain = [path.as_str(), "--env", "sandbox", "--strategy", "contain"];
        let plan = tool.run(&[&["plan"], &contain[..]].concat()).expect(0).stdout;
        assert!(plan.contains("does not wait for a deployment window: "), "{plan}");
        assert!(!plan.contains("opens at"), "{plan}");
        tool.run(&[&["run"], &contain[..], &["--yes", "--no-wait"]].concat()).expect(0);
    }
}

/// Waits for up to a minute: windows open on the minute.
#[test]
fn a_run_that_waits_goes_on_when_the_window_opens() {
    let tool = Tool::new();
    // Far enough ahead that the run is there before it opens.
    let opens = Timestamp::now() + 65.seconds();
    let opens = opens.to_zoned_datetime(TimeZone::UTC);
    let from = opens.strftime("%H:%M").to_string();
    let to = (opens.datetime() + 3.hours()).strftime("%H:%M").to_string();
    let path = runbook(&tool, &format!("[{{from: \"{from}\", to: \"{to}\", zone: UTC}}]"));
    let ran = tool.run(&["run", &path, "--env", "sandbox", "--yes"]).expect(0);
    assert!(ran.stdout.starts_with("DONE"), "{ran:?}");
    let journal = fs::read_to_string(tool.journal().expect("a run")).expect("journal");
    let records = journal.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let cutover = |record: &serde_json::Value| record["type"] == "entered" && record["phase"] == "cutover";
    let record = records.into_iter().find(cutover).expect("cutover");
    let wall: Timestamp = record["wall"].as_str().expect("wall").parse().expect("a moment");
    let minute = format!("T{from}:");
    assert!(wall.to_string().contains(&minute), "it began at {wall}, and the window opens at {from}");
}

/// It was begun outside of every window, as one is that was begun inside of one that closed since.
#[test]
fn a_window_that_closes_does_not_cut_cutover_off() {
    let tool = Tool::new();
    let path = runbook(&tool, &on_day(3));
    let slow = fs::read_to_string(&path)
        .expect("runbook")
        .replace("{type: sandbox}", "{type: sandbox, latency: 200ms}");
    fs::write(&path, slow).expect("written");
    let running = tool.start(&["run", &path, "--env", "sandbox", "--yes", "--now", "--reason", "in time"]);
    tool.wait_until(
        |lines| lines.lines().any(|line| line.contains("\"intent\"") && line.contains("cutover/")),
        "an intent of cutover",
    );
    running.signal("KILL");
    running.wait();
    assert_eq!(phases(&tool).last().map(String::as_str), Some("cutover"));
    // It would stop with 10 if it waited for a window.
    tool.run(&["resume", "--no-wait", "--until", "cutover"]).expect(0);
    tool.run(&["resume"]).expect(0);
}

#[test]
fn windows_that_never_open_are_found_with_their_place() {
    let tool = Tool::new();
    let path = runbook(&tool, OVER);
    for arguments in [vec!["validate", &path], vec!["plan", &path, "--env", "sandbox"]] {
        let found = tool.run(&arguments).expect(65);
        assert!(found.stderr.contains("error[no-window]: every window here is over"), "{found:?}");
        assert!(found.stderr.contains(":1:1"), "{found:?}");
    }
    let run = ["run", &path, "--env", "sandbox", "--yes"];
    let found = tool.run(&run).expect(65);
    assert!(found.stderr.contains("error[no-window]") && tool.journal().is_none(), "{found:?}");
    // A person's word helps; and one that is over beside one that is not is only old.
    tool.run(&[&run[..], &["--now", "--reason", "no window is left"]].concat()).expect(0);
    let both = format!("[{}, {}]", OVER.trim_matches(['[', ']']), OPEN.trim_matches(['[', ']']));
    let path = runbook(&tool, &both);
    let warned = tool.run(&["validate", &path]).expect(0);
    assert!(warned.stderr.contains("warning[past-window]: this window is over"), "{warned:?}");
    for (windows, code) in [
        ("[{from: 09:00, to: 09:00, zone: UTC}]", "empty-window"),
        ("[]", "no-window"),
        ("[{from: 9, to: 10:00, zone: UTC}]", "wrong-type"),
        ("[{from: 09:00, to: 10:00}]", "missing-field"),
        ("[{from: 09:00, to: 10:00, zone: Mars/Phobos}]", "unknown-zone"),
    ] {
        let found = tool.run(&["validate", &runbook(&tool, windows)]).expect(65);
        assert!(found.stderr.contains(&format!("error[{code}]")), "{windows}: {found:?}");
    }
}

/// The last window closes between the plan and the run.
#[test]
fn a_saved_plan_whose_windows_are_over_is_refused() {
    let tool = Tool::new();
    let path = runbook(&tool, "[{from: 00:00, to: 24:00, zone: UTC, last: 2999-01-31}]");
    let plan = at(&tool, "plan.json").display().to_string();
    tool.run(&["plan", &path, "--env", "sandbox", "-o", &plan]).expect(0);
    let text = fs::read_to_string(&plan).expect("the plan");
    assert_eq!(text.matches("2999-01-31").count(), 1);
    fs::write(&plan, text.replace("2999-01-31", "2020-01-31")).expect("written");
    let refused = tool.run(&["run", &plan, "--yes"]).expect(65);
    assert!(refused.stderr.contains("no deployment window opens any more"), "{refused:?}");
    assert!(tool.journal().is_none());
}

/// Practice does not depend on the hour at which it is held.
#[test]
fn a_drill_waits_for_no_window() {
    let tool = Tool::new();
    runbook(&tool, &on_day(3));
    let path = at(&tool, "drill.yaml").display().to_string();
    tool.run(&["drill", "init", &path]).expect(0);
    let text = fs::read_to_string(&path).expect("a scenario").replace("../quickstart.yaml", "runbook.yaml");
    fs::write(&path, text).expect("written");
    let played = tool.run(&["drill", "run", &path, "--instant", "--yes"]).expect(0);
    assert!(!played.stderr.contains("waits for a deployment window"), "{played:?}");
}
