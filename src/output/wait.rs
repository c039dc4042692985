//! What a run waits for, and who keeps it waiting.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::approvals::missing_approvals;
use super::style::clock;
use crate::clock::{add, since};
use crate::domain::{ADOPTED, Opening, Phase};
use crate::plan::PlannedPhase;
use crate::rotation::{Direction, State, Status};

/// How many steps, or consumers, are named one by one.
const NAMED: usize = 5;

/// A moment as a clock on this machine shows it: `14:05 CET`, with the day where it is another one.
pub(super) fn local(at: Timestamp, now: Timestamp) -> String {
    in_zone(at, now, TimeZone::system())
}

fn in_zone(at: Timestamp, now: Timestamp, zone: TimeZone) -> String {
    let (at, now) = (at.to_zoned_datetime(zone.clone()), now.to_zoned_datetime(zone));
    let day = if at.date() == now.date() { "" } else { "%Y-%m-%d " };
    // Within minutes the second matters.
    let second = if since(at.timestamp(), now.timestamp()).as_secs() < 300 { ":%S" } else { "" };
    at.strftime(&format!("{day}%H:%M{second} %Z")).to_string()
}

/// The moment before which a step is not tried or looked at again.
pub(super) fn not_before(status: &Status) -> Option<Timestamp> {
    match status {
        Status::Pending { not_before, .. }
        | Status::Undoing { not_before, .. }
        | Status::Unknown { not_before, .. }
        | Status::Orphaned { not_before, .. } => *not_before,
        Status::Started { .. } | Status::Done | Status::Undone | Status::Failed { .. } => None,
    }
}

/// The consumers that do not use the wanted version everywhere, each with its count.
pub(super) fn lagging(state: &State) -> Vec<String> {
    if *state.direction() != Direction::Forward {
        return Vec::new();
    }
    let behind = state.adopted().iter().filter(|(_, (instances, of))| instances < of || *of == 0);
    behind
        .map(|((credential, consumer), (instances, of))| {
            format!("{instances} of {of} instances of {consumer} use the new {credential}")
        })
        .collect()
}

/// Some of a list, and how many more there are.
pub(super) fn some(all: &[String]) -> String {
    let named = all.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if all.len() > NAMED { format!("{named} and {} more", all.len() - NAMED) } else { named }
}

/// What the run waits for now, in a sentence.
pub(super) fn waiting(state: &State, now: Timestamp) -> Option<String> {
    let steps = &state.plan().steps;
    let mut parts = Vec::new();
    let (mut begun, mut later) = (Vec::new(), Vec::new());
    for (at, step) in steps.iter().enumerate() {
        match (state.status(at), not_before(state.status(at))) {
            (Status::Started { .. }, _) => {
                // A step that only asks has no moment at which it took effect.
                let long = state.since(at).map(|begun| format!(" ({})", clock(since(now, begun))));
                begun.push(format!("{}{}", step.id, long.unwrap_or_default()));
            }
            (_, Some(then)) if then > now => later.push((then, step.id.clone())),
            _ => {}
        }
    }
    if !begun.is_empty() {
        parts.push(format!("for a response: {}", some(&begun)));
    }
    if let Some(then) = later.iter().map(|(then, _)| *then).min() {
        let names: Vec<String> = later.into_iter().map(|(_, id)| id).collect();
        parts.push(format!("to retry {} at {}", some(&names), local(then, now)));
    }
    let waits = state.phase().and_then(|phase| state.plan().phase(phase));
    if let (true, Some(waits)) = (parts.is_empty(), waits) {
        parts.extend(phase(state, waits, now));
    }
    (!parts.is_empty()).then(|| format!("waiting {}", parts.join("; ")))
}

/// When the deployment window opens that cutover waits for, in words; `None` where nothing keeps it waiting.
pub(super) fn window(state: &State, now: Timestamp) -> Option<String> {
    match state.window(now) {
        Opening::Now => None,
        Opening::At(at) => Some(format!("the next one opens at {}", local(at, now))),
        Opening::Never => Some("none opens any more".into()),
    }
}

/// What a phase waits for whose steps are done.
fn phase(state: &State, waits: &PlannedPhase, now: Timestamp) -> Vec<String> {
    let mut parts = Vec::new();
    let until = state.earliest(waits);
    if until > now {
        parts.push(format!("in {} until {}", waits.phase, local(until, now)));
    }
    for gate in &waits.until {
        if state.vouched().contains(gate) {
            continue;
        }
        let (word, detail) = match state.judged().get(gate) {
            None => ("not asked yet", String::new()),
            Some((verdict, _)) if *verdict == crate::domain::Verdict::Pass => continue,
            // The record has the detail of the moment at which the verdict changed; the counts go on.
            Some((verdict, _)) if gate == ADOPTED => (verdict.name(), some(&lagging(state))),
            Some((verdict, detail)) => (verdict.name(), detail.clone()),
        };
        let detail = if detail.is_empty() { detail } else { format!(" ({detail})") };
        parts.push(format!("for gate {gate}: {word}{detail}"));
    }
    if parts.is_empty() && waits.phase == Phase::Verify {
        parts.extend(window(state, now).map(|when| format!("for a deployment window: {when}")));
    }
    if parts.is_empty()
        && state.unapproved(Some(now)).is_some_and(|phase| state.phases_ahead().first() == Some(&phase))
    {
        parts.push(format!("for approvals: {}", missing_approvals(state, Some(now)).join("; ")));
    }
    if parts.iter().any(|part| part.starts_with("for gate")) {
        let last = add(state.patience().max(state.entered()), waits.at_most.get()).max(until);
        parts.push(format!("pauses at {}", local(last, now)));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_shown_as_on_the_clock_here() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a timestamp");
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let now = at("2026-11-26T12:00:00Z");
        assert_eq!(in_zone(at("2026-11-26T12:05:00Z"), now, zone.clone()), "14:05 +02");
        assert_eq!(in_zone(at("2026-11-26T12:00:09Z"), now, zone.clone()), "14:00:09 +02");
        assert_eq!(in_zone(at("2026-11-26T22:05:00Z"), now, zone), "2026-11-27 00:05 +02");
        assert_eq!(in_zone(at("2026-11-26T12:05:00Z"), now, TimeZone::UTC), "12:05 UTC");
    }

    #[test]
    fn a_long_list_is_cut() {
        let all: Vec<String> = (0..8).map(|n| format!("s{n}")).collect();
        assert_eq!(some(&all), "s0, s1, s2, s3, s4 and 3 more");
        assert_eq!(some(&all[..2]), "s0, s1");
    }
}
