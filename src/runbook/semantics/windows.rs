//! Deployment windows: times that are times, zones that exist, and windows that can open.

use super::{Context, cadence, twice};
#[cfg(feature = "tool")]
use crate::domain::Window;
use crate::domain::{BadDay, BadTime, Day, TimeOfDay, Weekday};
use crate::runbook::read::finding::Finding;
#[cfg(feature = "tool")]
use crate::runbook::read::finding::Severity;
use crate::runbook::read::span::Span;
use crate::runbook::read::tree::{Entry, Node};
use crate::runbook::read::words::quote_or;

pub(super) fn check(context: &mut Context<'_>) {
    if let Some(section) = context.root.entry("windows") {
        list(section, &mut context.found);
    }
}

/// A list of windows.
pub(crate) fn list(section: &Entry, found: &mut Vec<Finding>) {
    if section.value.kind() == "a list" && section.value.items().is_empty() {
        found.push(
            Finding::error("no-window", section.at, "no window is here, so it would never open")
                .hint("remove the section, or write a window, such as `- {days: [mon], from: 09:00, to: 16:00, zone: Europe/Berlin}`"),
        );
    }
    section.value.items().iter().for_each(|node| window(node, found));
}

fn window(node: &Node, found: &mut Vec<Finding>) {
    zone(node, found);
    let (from, to) = (time(node, "from", found), time(node, "to", found));
    let (first, last) = (day(node, "first", found), day(node, "last", found));
    let empty = |at: Span, message: &str, hint: &str| Finding::error("empty-window", at, message).hint(hint);
    if let (Some(from), Some(to)) = (from, to) {
        let end = "24:00".parse::<TimeOfDay>() == Ok(from);
        if from == to || end {
            found.push(empty(
                node.span,
                "this window closes when it opens, so it is never open",
                "for the whole day, write `from: 00:00` and `to: 24:00`",
            ));
        }
    }
    let Some(days) = node.get("days") else { return in_order(node, first, last, found) };
    let named = || days.items().iter().filter_map(|day| Some((day.text()?, day.span)));
    for (name, at) in twice(named()) {
        let message = format!("{} is there twice", quote_or(name, "this day"));
        found.push(Finding::error("duplicate-name", at, message).hint("keep one of them"));
    }
    if days.items().is_empty() {
        found.push(empty(
            days.span,
            "no day is here, so this window never opens",
            "name days, such as `days: [mon, tue]`, or leave `days` out",
        ));
    }
    if !in_order_says(first, last) {
        return in_order(node, first, last, found);
    }
    // Within a week there may be none of its days.
    let (Some(first), Some(last)) = (first, last) else { return };
    let known: Vec<&str> = named().map(|(name, _)| name).collect();
    let mut at = first.0;
    let mut opens = known.is_empty();
    for _ in 0..7 {
        if at > last.0 {
            break;
        }
        opens |= known.contains(&Weekday::of(at).name());
        let Ok(next) = at.tomorrow() else { break };
        at = next;
    }
    if !opens {
        found.push(empty(
            node.span,
            "none of its days is between `first` and `last`, so this window never opens",
            "correct the days or the dates",
        ));
    }
}

fn in_order_says(first: Option<Day>, last: Option<Day>) -> bool {
    !matches!((first, last), (Some(first), Some(last)) if first > last)
}

/// Whether the last day comes before the first.
pub(crate) fn in_order(node: &Node, first: Option<Day>, last: Option<Day>, found: &mut Vec<Finding>) {
    if !in_order_says(first, last) {
        found.push(
            Finding::error(
                "empty-window",
                node.span,
                "the last day is before the first, so this never holds",
            )
            .hint("exchange `first` and `last`, or correct the year"),
        );
    }
}

pub(crate) fn zone(node: &Node, found: &mut Vec<Finding>) {
    if let Some(zone) = node.get("zone")
        && let Some(name) = zone.text()
    {
        found.extend(cadence::zone(zone, name));
    }
}

fn time(node: &Node, field: &str, found: &mut Vec<Finding>) -> Option<TimeOfDay> {
    let node = node.get(field)?;
    let text = node.text()?;
    let read = text.parse();
    if let Err(BadTime) = read {
        found.push(
            Finding::error(
                "bad-time",
                node.span,
                format!("{} is not a time of the day", quote_or(text, "this")),
            )
            .hint("write hours and minutes, such as 09:00; 24:00 is the end of the day"),
        );
    }
    read.ok()
}

pub(crate) fn day(node: &Node, field: &str, found: &mut Vec<Finding>) -> Option<Day> {
    let node = node.get(field)?;
    let text = node.text()?;
    let read = text.parse();
    if let Err(BadDay) = read {
        found.push(
            Finding::error(
                "bad-day",
                node.span,
                format!("{} is not a day of the calendar", quote_or(text, "this")),
            )
            .hint("write year, month and day, such as 2026-12-24"),
        );
    }
    read.ok()
}

/// The windows of a list that never open again. Where that are all of them, and they are waited for, it is an error.
#[cfg(feature = "tool")]
pub(crate) fn past(section: &Entry, is_past: &dyn Fn(&Window) -> bool, waits: bool) -> Vec<Finding> {
    let over = |node: &&Node| serde_json::from_value(node.to_json()).is_ok_and(|window| is_past(&window));
    let items = section.value.items();
    let past: Vec<&Node> = items.iter().filter(over).collect();
    if past.len() == items.len() && !items.is_empty() {
        let message = "every window here is over: none opens again";
        let hint = "correct the dates, or remove the section";
        let mut finding = Finding::error("no-window", section.at, message).hint(hint);
        if !waits {
            finding.severity = Severity::Warning;
        }
        return vec![finding];
    }
    let warn = |node: &Node| {
        Finding::warning("past-window", node.span, "this window is over: it does not open again")
            .hint("remove it")
    };
    past.into_iter().map(warn).collect()
}
