//! The calendar as iCalendar (RFC 5545), for the calendars of people. Written here: it is four kinds of lines, and
//! the crate for it folds a last line at 76 octets instead of 75.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use sha2::{Digest as _, Sha256};

use super::entry::{Entry, Standing};

/// The longest line, in octets, without its end (RFC 5545, 3.1).
const LINE: usize = 75;

/// Each due rotation as an event. It keeps its identity when its day changes, so that a calendar moves it.
pub fn to_icalendar(entries: &[Entry], now: Timestamp) -> String {
    let mut out = String::new();
    let product = concat!("PRODID:-//stanch//calendar ", env!("CARGO_PKG_VERSION"), "//EN");
    for line in ["BEGIN:VCALENDAR", "VERSION:2.0", product, "X-WR-CALNAME:Rotations"] {
        fold(&mut out, line);
    }
    for line in entries.iter().filter_map(|entry| event(entry, now)).flatten() {
        fold(&mut out, &line);
    }
    fold(&mut out, "END:VCALENDAR");
    out
}

/// The lines of an event; `None` where nothing is due.
fn event(entry: &Entry, now: Timestamp) -> Option<[String; 8]> {
    let due = entry.due.as_ref()?;
    let Entry { runbook, environment, credential, cadence, .. } = entry;
    let id = hex::encode(Sha256::digest(format!("{runbook}\n{environment}\n{credential}")));
    let utc = |at: Timestamp| at.to_zoned_datetime(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
    let late = if entry.status == Standing::Overdue { "OVERDUE: " } else { "" };
    let cadence = cadence.as_deref().unwrap_or_default();
    let mut about = vec![format!("Runbook {runbook}, environment {environment}, cadence {cadence}.")];
    about.extend(entry.last.as_ref().map(|last| {
        let day = last.at.to_zoned_datetime(due.time_zone().clone()).date();
        format!("Last rotated on {day} ({} {}).", last.source, last.of)
    }));
    about.extend(entry.owner.as_ref().map(|owner| format!("Owner: {owner}.")));
    about.extend(entry.findings.iter().cloned());
    Some([
        "BEGIN:VEVENT".to_owned(),
        format!("UID:{}@stanch", &id[..32]),
        format!("DTSTAMP:{}", utc(now)),
        match entry.timed {
            true => format!("DTSTART:{}", utc(due.timestamp())),
            false => format!("DTSTART;VALUE=DATE:{}", due.strftime("%Y%m%d")),
        },
        "TRANSP:TRANSPARENT".to_owned(),
        format!("SUMMARY:{}", escape(&format!("{late}Rotate {credential} ({environment})"))),
        format!("DESCRIPTION:{}", escape(&about.join("\n"))),
        "END:VEVENT".to_owned(),
    ])
}

/// A text as the value of a property (RFC 5545, 3.3.11). Control characters have no place in one.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | ';' | ',' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// Appends a line, broken between characters where it is too long, and where it can be not beside a space: some
/// readers trim the parts.
fn fold(out: &mut String, line: &str) {
    let (mut length, mut before) = (0, ' ');
    for (at, c) in line.char_indices() {
        let need = if splits(before, c) { unit(&line[at..]) } else { c.len_utf8() };
        if length + need > LINE {
            out.push_str("\r\n ");
            length = 1;
        }
        out.push(c);
        (length, before) = (length + c.len_utf8(), c);
    }
    out.push_str("\r\n");
}

/// Whether a line may be broken between these two.
fn splits(before: char, after: char) -> bool {
    !before.is_whitespace() && !after.is_whitespace()
}

/// How many octets there are up to the next place where the line may be broken; no more than half a line, so that
/// one is found in any text.
fn unit(text: &str) -> usize {
    let pairs = text.char_indices().zip(text.chars().skip(1));
    let end = pairs.map(|((at, c), next)| (at + c.len_utf8(), splits(c, next))).find(|(_, splits)| *splits);
    end.map_or(text.len(), |(at, _)| at).min(LINE / 2)
}
