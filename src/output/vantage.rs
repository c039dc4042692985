//! The places where an old credential is used in the end, and what each answered.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::style::clock;
use crate::clock::since;
use crate::plan::{Plan, rejects};
use crate::rotation::{State, Vantage};

/// A table with more rows than this hides what it is for.
const SHOWN: usize = 12;

/// A place in words: its issuer, or which check, and whom that asks.
pub(crate) fn place(plan: &Plan, vantage: &Vantage) -> String {
    let Some(probe) = vantage.probe else { return "its issuer".to_owned() };
    let credential = plan.credential(vantage.credential).1;
    match rejects(credential).get(probe).and_then(|probe| probe.asks()) {
        Some(asks) => format!("check {} ({asks})", probe + 1),
        None => format!("check {}", probe + 1),
    }
}

/// Whether the place accepted the old credential after the call that was to end it.
fn accepted_again(at: &Vantage) -> bool {
    !at.proved && at.called.is_some_and(|called| at.accepted > Some(called))
}

/// The table of the proof, once the old credential was used somewhere in the end.
pub fn vantages(state: &State) -> Vec<String> {
    let (plan, places) = (state.plan(), state.vantages());
    if places.iter().all(|place| place.refused.is_none() && !accepted_again(place)) {
        return Vec::new();
    }
    let after = |at: Option<Timestamp>| at.map_or("–".to_owned(), |at| clock_of(at, state.opened()));
    let row = |at: &Vantage| {
        let called = match (at.refused, at.called) {
            (Some(refused), Some(called)) => clock_of(refused, called),
            _ => "–".to_owned(),
        };
        let word = match at.proved {
            true => "refused",
            false if accepted_again(at) => "accepted",
            false => "not proved",
        };
        let place = format!("{}, {}", plan.credentials[at.credential].name, place(plan, at));
        [place, word.to_owned(), after(at.accepted), after(at.refused), called]
    };
    let head = ["old credential, place", "answer", "last accepted", "first refused", "after revoke"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(places.iter().take(SHOWN).map(row));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2), width(3), width(4)];
    let line = |row: &[String; 5]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    if places.len() > SHOWN {
        lines.push(format!("… and {} more: stanch report", places.len() - SHOWN));
    }
    lines
}

/// The same for programs.
pub(super) fn json(state: &State) -> Vec<serde_json::Value> {
    let one = |at: Vantage| {
        json!({
            "credential": state.plan().credentials[at.credential].name,
            "place": place(state.plan(), &at),
            "last_accepted": at.accepted,
            "first_refused": at.refused,
            "revoke_called": at.called,
            "proved": at.proved,
        })
    };
    state.vantages().into_iter().map(one).collect()
}

/// A time after another one; a short one in milliseconds.
fn clock_of(at: Timestamp, from: Timestamp) -> String {
    fine(since(at, from))
}

/// A time as people say it, a short one in milliseconds.
pub(crate) fn fine(time: Duration) -> String {
    match time.as_millis() {
        ms @ 0..1000 => format!("{ms}ms"),
        ms @ 1000..10_000 => format!("{}.{}s", ms / 1000, ms % 1000 / 100),
        _ => clock(time),
    }
}
