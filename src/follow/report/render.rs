//! The report as Markdown, as a page, or as JSON; and whether a report that was kept still says what the record says.

use std::time::Duration;

use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};

use super::{Report, junit};
use crate::output::{clock, fine};

/// What stands around the section that people write. It is kept when a report is made again.
pub const LESSONS: (&str, &str) = ("<!-- lessons: begin -->", "<!-- lessons: end -->");
/// What stands before a report's run and extent, for `--check`.
const MARK: &str = "stanch-report ";

/// What a report is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString)]
#[strum(serialize_all = "lowercase")]
pub enum Form {
    /// Markdown.
    Markdown,
    /// One page of HTML that needs nothing else.
    Html,
    /// JSON.
    Json,
    /// JUnit's XML.
    Junit,
}

impl Form {
    /// The text of a report. The same records always give the same text.
    pub fn write(self, report: &Report) -> String {
        let template = match self {
            Self::Json => {
                return serde_json::to_string_pretty(report).expect("a report is always JSON") + "\n";
            }
            // A word behind the numbers: `named_in` reads words.
            Self::Junit => {
                let (run, records) = (&report.run, report.read.records);
                let mark = format!("{MARK}format={} form=junit run={run} records={records} ;", report.format);
                return junit::write(report, &mark);
            }
            Self::Markdown => "report.md",
            Self::Html => "report.html",
        };
        render(template, report)
    }
}

/// The few lines of a report that stand in a job's summary, as Markdown.
pub fn short(report: &Report) -> String {
    render("summary.md", report)
}

fn render(template: &str, report: &Report) -> String {
    let environment = environment();
    let template = environment.get_template(template).expect("it was just added");
    let text = template.render(Value::from_serialize(report));
    text.expect("the templates name only what a report has: a test renders each")
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_keep_trailing_newline(true);
    environment.set_auto_escape_callback(|name| match name.ends_with(".html") {
        true => AutoEscape::Html,
        false => AutoEscape::None,
    });
    environment.add_filter("time", |ms: u64| time(ms));
    environment.add_filter("fine", |ms: u64| fine(Duration::from_millis(ms)));
    environment.add_filter("md", |text: String| markdown(&text));
    environment.add_filter("second", |text: String| {
        text.split('.').next().unwrap_or_default().trim_end_matches('Z').to_owned() + "Z"
    });
    for (name, text) in [
        ("report.md", include_str!("../../../templates/report/report.md")),
        ("summary.md", include_str!("../../../templates/report/summary.md")),
        ("report.html", include_str!("../../../templates/report/report.html")),
    ] {
        environment.add_template(name, text).expect("the templates are whole: a test renders each");
    }
    environment
}

/// A duration as people say it; below ten seconds with its tenths.
fn time(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{}.{}s", ms / 1000, ms % 1000 / 100),
        _ => clock(Duration::from_millis(ms)),
    }
}

/// A text that means nothing to a reader of Markdown but itself, on one line.
fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' => out.push(' '),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

/// What a kept report says that it is of: its form, its run, and how many records it was made of. `None` where the
/// text is not a report.
pub fn named_in(text: &str) -> Option<(Form, String, u64)> {
    if text.trim_start().starts_with('{') {
        let report: serde_json::Value = serde_json::from_str(text).ok()?;
        let records = report["read"]["records"].as_u64()?;
        return Some((Form::Json, report["run"].as_str()?.to_owned(), records));
    }
    let line = text.lines().find_map(|line| line.split_once(MARK).map(|(_, rest)| rest))?;
    let word = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name));
    // JSON says it in its fields.
    let form = word("form=")?.parse().ok().filter(|form| *form != Form::Json)?;
    Some((form, word("run=")?.to_owned(), word("records=")?.parse().ok()?))
}

/// What people wrote in a kept report; `None` where its marks are gone.
pub fn between_marks(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once(LESSONS.0)?;
    Some(rest.rsplit_once(LESSONS.1)?.0)
}

/// A new report with what people wrote in the kept one.
pub fn with_lessons(made: &str, kept: &str) -> String {
    match (between_marks(made), between_marks(kept)) {
        (Some(ours), Some(theirs)) => {
            made.replacen(&format!("{}{ours}", LESSONS.0), &format!("{}{theirs}", LESSONS.0), 1)
        }
        _ => made.to_owned(),
    }
}

/// The first line in which a kept report differs from what the record says: its number, what it says, and what the
/// record says. What people wrote does not count.
pub fn differs(kept: &str, made: &str) -> Option<(usize, String, String)> {
    let made = with_lessons(made, kept);
    let (mut kept, mut made) = (kept.lines(), made.lines());
    let mut at = 0;
    loop {
        at += 1;
        match (kept.next(), made.next()) {
            (None, None) => return None,
            (kept, made) if kept == made => {}
            (kept, made) => {
                return Some((at, kept.unwrap_or_default().to_owned(), made.unwrap_or_default().to_owned()));
            }
        }
    }
}
