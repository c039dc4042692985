//! CSV as RFC 4180 has it: one row a record.
//!
//! A spreadsheet takes a cell that begins with `=`, `+`, `-`, `@`, a tab or a carriage return for a
//! formula, and a formula can send what stands in other cells anywhere. Such a cell gets a single quote
//! before it. Control characters are replaced, so that a row is always one line.

use std::io::Write;

use crate::cli::audit::words;
use crate::journal::Record;
use crate::rotation::{Event, State};
use crate::text::printable;

const COLUMNS: [&str; 17] = [
    "seq",
    "time",
    "run",
    "actor",
    "host",
    "plan",
    "type",
    "phase",
    "credential",
    "step",
    "op",
    "attempt",
    "result",
    "latency_ms",
    "request_id",
    "error_kind",
    "message",
];

pub(super) fn header(out: &mut impl Write) -> std::io::Result<()> {
    write!(out, "{}\r\n", COLUMNS.join(","))
}

/// One record. `state` is that before it.
pub(super) fn row(out: &mut impl Write, record: &Record, state: Option<&State>) -> std::io::Result<()> {
    let (envelope, event) = (&record.envelope, &record.event);
    // The words of serde are the journal's.
    let value = serde_json::to_value(event).unwrap_or_default();
    let text = |name: &str| match &value[name] {
        serde_json::Value::Null => String::new(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let planned = state.and_then(|s| Some(&s.plan().steps[s.step(event.step()?)?]));
    let phase = match event {
        Event::Entered { phase } | Event::Returned { phase } => Some(*phase),
        _ => planned.map(|s| s.phase).or_else(|| state?.phase()),
    };
    let credential = match event {
        Event::Adopted { credential, .. } => Some(credential.as_str()),
        _ => planned
            .and_then(|s| s.action.credential())
            .zip(state)
            .map(|(c, state)| state.plan().credentials[c].name.as_str()),
    };
    let message = match (event, state) {
        (Event::Opened { reason, .. }, _) => reason.clone().unwrap_or_default(),
        (event, Some(state)) => words(event, state),
        (_, None) => String::new(),
    };
    let result = match event {
        Event::Settled { found: crate::rotation::Found::Orphans(_), .. } => "orphans".into(),
        Event::Settled { .. } => text("found"),
        Event::Resolved { applied, .. } => if *applied { "applied" } else { "not-applied" }.into(),
        Event::Judged { .. } => text("verdict"),
        Event::Closed { .. } => text("end"),
        _ => text("result"),
    };
    let cells = [
        envelope.seq.to_string(),
        envelope.wall.to_string(),
        envelope.run.clone(),
        envelope.actor.clone(),
        envelope.host.clone(),
        envelope.plan.clone(),
        event.name().to_owned(),
        phase.map(|p| p.to_string()).unwrap_or_default(),
        credential.unwrap_or_default().to_owned(),
        event.step().unwrap_or_default().to_owned(),
        text("op"),
        text("attempt"),
        result,
        text("latency_ms"),
        value["error"]["request_id"].as_str().unwrap_or_default().to_owned(),
        value["error"]["kind"].as_str().unwrap_or_default().to_owned(),
        message,
    ];
    let cells: Vec<String> = cells.iter().map(|c| cell(c)).collect();
    write!(out, "{}\r\n", cells.join(","))
}

/// A cell: no formula, one line, in quotation marks where it must be.
fn cell(text: &str) -> String {
    // Before they are replaced: a tab and a line's end at the beginning count as well.
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']);
    let text: String = formula.then_some('\'').into_iter().chain(text.chars().map(printable)).collect();
    if formula || text.contains([',', '"', ' ', ';', '\'']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::cell;

    #[test]
    fn a_cell_is_text_on_one_line() {
        assert_eq!(cell("plain/step-1"), "plain/step-1");
        assert_eq!(cell("a,\"b\"\r\nc"), "\"a,\"\"b\"\"\u{fffd} c\"");
        assert_eq!(cell("\u{1b}[2Jx"), "\u{fffd}[2Jx");
        for formula in ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1", "＝1"] {
            assert!(cell(formula).starts_with("\"'"), "{formula:?}: {}", cell(formula));
        }
        assert_eq!(cell("=HYPERLINK(\"x\")"), "\"'=HYPERLINK(\"\"x\"\")\"");
    }
}
