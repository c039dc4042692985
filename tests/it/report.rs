//! `stanch report`: what it says, and that it says nothing else than the record.
#![expect(clippy::disallowed_methods, reason = "a test writes what it likes")]

use std::fs;
use std::path::{Path, PathBuf};

use stanch::follow::report::differs;

use crate::tool::{Ran, Tool};

const FORMS: [&str; 3] = ["report.md", "report.html", "report.json"];

fn shipped(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("runbooks").join(name).display().to_string()
}

/// A run of the sandbox that ends at once, with this around it.
pub(crate) fn ran(more: &[&str], code: i32) -> Tool {
    let tool = Tool::new();
    let text = fs::read_to_string(shipped("quickstart.yaml")).expect("runbook");
    let quick: Vec<String> = text
        .lines()
        .map(|line| match line.split_once("at_least:") {
            Some((before, _)) => format!("{before}at_least: 10ms"),
            None => line.to_owned(),
        })
        .collect();
    let path = tool.runbook(&quick.join("\n")).display().to_string();
    let mut arguments = vec!["run", &path, "--env", "sandbox", "--yes"];
    arguments.extend(more);
    tool.run(&arguments).expect(code);
    tool
}

pub(crate) fn at(tool: &Tool, name: &str) -> PathBuf {
    tool.folder.path().join(name)
}

pub(crate) fn write(tool: &Tool, name: &str) -> String {
    let path = at(tool, name);
    tool.run(&["report", "-o", &path.display().to_string()]).expect(0);
    fs::read_to_string(path).expect("the report")
}

pub(crate) fn check(tool: &Tool, name: &str) -> Ran {
    tool.run(&["report", "--check", &at(tool, name).display().to_string()])
}

#[test]
fn every_form_says_what_the_record_says() {
    let done = ran(&["--reason", "it leaked"], 0);
    let rolled_back = ran(&["--until", "cutover"], 0);
    let halted = ran(&["--until", "prepare"], 0);
    halted.run(&["halt", "--reason", "wait"]).expect(0);
    halted.run(&["resume"]).expect(23);
    rolled_back.run(&["rollback", "--yes", "--reason", "too early"]).expect(0);
    for (tool, words) in [(done, "it leaked"), (rolled_back, "too early"), (halted, "halted by")] {
        for form in FORMS {
            let text = write(&tool, form);
            assert!(text.contains(words), "{form}: {text}");
            check(&tool, form).expect(0);
        }
    }
}

/// What goes on after a report was written is not its error.
#[test]
fn a_report_of_an_open_run_stays_right() {
    let tool = ran(&["--until", "cutover"], 0);
    let early = write(&tool, "report.md");
    assert!(early.contains("The run is open"), "{early}");
    tool.run(&["resume"]).expect(0);
    check(&tool, "report.md").expect(0);
    assert!(write(&tool, "report.md").contains("The run ended: done."));
}

/// Every number in a report is compared.
#[test]
fn no_number_can_be_changed() {
    let tool = ran(&[], 0);
    for form in FORMS {
        let text = write(&tool, form);
        let mut places = 0;
        for (place, _) in text.char_indices().filter(|(_, c)| c.is_ascii_digit()) {
            let digit = if &text[place..=place] == "7" { "3" } else { "7" };
            let changed = format!("{}{digit}{}", &text[..place], &text[place + 1..]);
            assert!(differs(&changed, &text).is_some(), "{form}: a digit at {place} is not compared");
            places += 1;
        }
        assert!(places > 200, "{form} has {places} digits");
        // And through the program, for one in each.
        let place =
            text.rfind("s after the start").or_else(|| text.rfind("took_ms")).or_else(|| text.rfind("#6"));
        let place = text[place.expect("a number")..].find(|c: char| c.is_ascii_digit()).expect("a digit")
            + place.expect("a number");
        let changed = format!("{}9{}9{}", &text[..place], &text[place..=place], &text[place + 1..]);
        fs::write(at(&tool, form), changed).expect("written");
        let ran = check(&tool, form).expect(65);
        assert!(ran.stderr.contains("is not what the record of"), "{ran:?}");
    }
}

#[test]
fn what_people_wrote_is_kept_and_nothing_else_is_replaced() {
    let tool = ran(&[], 0);
    for form in ["report.md", "report.html"] {
        let text = write(&tool, form);
        let (before, rest) = text.split_once("<!-- lessons: begin -->").expect("a mark");
        let (_, after) = rest.split_once("<!-- lessons: end -->").expect("a mark");
        let ours = "<!-- lessons: begin -->\nRehearse it: 42 times.\n<!-- lessons: end -->";
        fs::write(at(&tool, form), format!("{before}{ours}{after}")).expect("written");
        assert!(write(&tool, form).contains("Rehearse it: 42 times."));
        check(&tool, form).expect(0);
    }
    for text in ["my notes\n", "{}", "<!-- stanch-report format=1 form=markdown run=x records=1 -->\n"] {
        fs::write(at(&tool, "notes.md"), text).expect("written");
        let path = at(&tool, "notes.md").display().to_string();
        let ran = tool.run(&["report", "-o", &path]).expect(2);
        assert!(ran.stderr.contains("nothing was changed"), "{ran:?}");
        assert_eq!(fs::read_to_string(&path).expect("there"), text);
        assert_ne!(tool.run(&["report", "--check", &path]).code, Some(0));
    }
}

/// Texts of people and servers are texts in every form.
#[test]
fn a_text_stays_a_text() {
    let reason = "<script>alert(1)</script> | `x` [a](b) & \"q\"";
    let tool = ran(&["--reason", reason], 0);
    let page = write(&tool, "report.html");
    assert!(!page.contains("<script") && page.contains("&lt;script&gt;"), "{page}");
    let text = write(&tool, "report.md");
    assert!(!text.contains("<script") && text.contains("\\|") && text.contains("\\[a\\](b)"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&write(&tool, "report.json")).expect("JSON");
    assert!(json["summary"].to_string().contains("<script>"));
}

#[test]
fn a_record_that_is_not_valid_makes_no_report() {
    let tool = ran(&[], 0);
    write(&tool, "report.md");
    let journal = tool.state().join("runs").join(tool.newest()).join("journal.jsonl");
    let text = fs::read_to_string(&journal).expect("journal");
    fs::write(&journal, text.replacen("\"cutover\"", "\"sunset\"", 1)).expect("written");
    let path = at(&tool, "new.md").display().to_string();
    let ran = tool.run(&["report", "-o", &path]).expect(30);
    assert!(ran.stderr.contains("audit verify"), "{ran:?}");
    assert!(!Path::new(&path).exists());
    check(&tool, "report.md").expect(30);
}

/// The reports in `docs/samples` are those of the records in `tests/samples`, to the byte. A run of each end:
/// done, rolled back, halted, stuck, killed and resumed, and a drill.
#[test]
fn the_samples_are_what_their_records_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let approve = std::env::var_os("STANCH_APPROVE").is_some();
    let mut names: Vec<String> = fs::read_dir(root.join("tests/samples"))
        .expect("the samples")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    assert_eq!(names, ["crashed", "done", "drill", "halted", "rolled-back", "stuck"]);
    for name in names {
        let tool = Tool::new();
        crate::record::copy(&root.join("tests/samples").join(&name), &tool.state());
        for form in ["md", "html"] {
            let kept = root.join("docs/samples").join(format!("{name}.{form}"));
            let made = tool.folder.path().join(format!("made.{form}"));
            let run = tool.newest();
            tool.run(&["report", &run, "-o", made.to_str().expect("UTF-8")]).expect(0);
            if approve {
                fs::copy(&made, &kept).expect("approved");
            }
            let read = |path: &Path| fs::read_to_string(path).expect("a report");
            assert!(
                read(&made) == read(&kept),
                "{name}.{form} differs; see it, then STANCH_APPROVE=1 cargo test"
            );
            tool.run(&["report", "--check", kept.to_str().expect("UTF-8")]).expect(0);
        }
    }
}
