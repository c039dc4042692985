//! What is true now, and what to type next.

use std::fmt::Write as _;

use console::Color;
use jiff::Timestamp;
use serde_json::json;

use super::approvals::{self, missing_approvals};
use super::next::{Around, Seals, next_commands};
use super::outgoing::{counts, exposure, leaked, outgoing_words};
use super::style::{Style, clock};
use super::vantage;
use super::wait;
use super::words::{end_word, sentence};
use crate::clock::since;
use crate::rotation::{End, Incoming, Outgoing, State, Status, Stop, Truth};

/// How many credentials are listed one by one.
const SHOWN: usize = 20;

/// What is true now, and what to type next.
pub fn summary(style: Style, run: &str, state: &State, around: Around, now: Timestamp) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut out, style, run, state, around, now);
    style.plain(&out)
}

fn write(
    out: &mut String,
    style: Style,
    run: &str,
    state: &State,
    around: Around,
    now: Timestamp,
) -> std::fmt::Result {
    let (word, color) = headline(state);
    let took = clock(since(state.ended().unwrap_or(now), state.opened()));
    writeln!(out, "{}  run {run} ({took})", style.paint(word, color, true))?;
    if let Some(drill) = &state.plan().drill {
        writeln!(out, "  DRILL `{drill}`: practice, no server was contacted")?;
    }
    if let Some(words) = state.broke_glass() {
        writeln!(out, "  {} BREAK-GLASS: went on without approvals, by {words}", style.bad())?;
    }
    for waived in state.plan().waived() {
        writeln!(out, "  waived: {waived}")?;
    }
    if let Some(words) = state.hurried() {
        writeln!(out, "  cutover did not wait for a deployment window, by {words}")?;
    }
    if let (None, Some(stop)) = (state.end(), state.stopped()) {
        writeln!(out, "  {}", sentence(stop))?;
    }
    let said = matches!(state.stopped(), Some(Stop::OutsideWindow { .. }));
    if let Some(when) = wait::window(state, now).filter(|_| !said) {
        writeln!(out, "  cutover waits for a deployment window; {when}")?;
    }
    for at in 0..state.plan().steps.len() {
        if let Some(failure) = state.failure(at) {
            writeln!(out, "  {} {}: {}", style.bad(), state.plan().steps[at].id, failure.message)?;
            if let Some(hint) = &failure.hint {
                writeln!(out, "    {hint}")?;
            }
        }
    }
    match around.seals {
        Seals::Whole => {}
        Seals::Gone => writeln!(
            out,
            "  {} the sealed secrets of the run are gone: restore them from a backup (in a state directory: runs/{run}/sealed.jsonl), or close the run",
            style.bad()
        )?,
        Seals::Shut => writeln!(
            out,
            "  {} cannot open the sealed secrets of the run: restore keys/seal.key from a backup of the state directory, or close the run",
            style.bad()
        )?,
    }
    let mut truths = state.truths();
    // What keeps the run open comes first; what is finished may be left out.
    truths.sort_by_key(rank);
    // A bare revocation has a line for each, for whoever must know which of them are dead.
    let shown = if truths.iter().all(|truth| truth.replaced) { SHOWN } else { usize::MAX };
    for truth in truths.iter().take(shown) {
        writeln!(out, "  {}", credential(truth))?;
    }
    if truths.len() > shown {
        let left = &truths[shown..];
        let same = left.iter().all(|truth| rank(truth) == FINISHED);
        writeln!(out, "  … and {} more{}", left.len(), if same { ", all finished" } else { "" })?;
    }
    if let Some(counts) = counts(&truths) {
        writeln!(out, "  {counts}")?;
    }
    if state.end().is_none() {
        let lagging = wait::lagging(state);
        if !lagging.is_empty() {
            writeln!(out, "  not moved yet: {}", wait::some(&lagging))?;
        }
    }
    for (gate, phase) in state.vouches() {
        writeln!(out, "  gate {gate} passed in {phase} on a person's word, not on its own")?;
    }
    if state.end() == Some(End::NotProved) {
        for (c, why) in state.unproved().into_iter().take(SHOWN) {
            writeln!(out, "  {}: not proved dead: {why}", state.plan().credentials[c].name)?;
        }
        writeln!(
            out,
            "  until that is proved, {} may still work, and sessions and tokens that it opened may live on",
            leaked(state)
        )?;
    }
    if let Some(at) = truths.iter().filter_map(|t| t.seen).min() {
        writeln!(out, "  stores and issuers: last checked {} ago", clock(since(now, at)))?;
    }
    for missing in missing_approvals(state, Some(now)) {
        writeln!(out, "  {missing}")?;
    }
    writeln!(out, "  {}", exposure(state, now))?;
    for (what, command) in next_commands(run, state, around) {
        writeln!(out, "  {what:<9} {}", style.paint(&command, Color::Cyan, false))?;
    }
    Ok(())
}

/// The rank of a credential of which nothing is left to do.
const FINISHED: (u8, u8) = (4, 0);

/// Where a credential stands in the list: in doubt, with consumers that lag, with stores that do, otherwise
/// not proved dead, finished.
fn rank(truth: &Truth) -> (u8, u8) {
    let unknown = truth.incoming == Incoming::Unknown || truth.outgoing == Outgoing::Unknown;
    let first = match truth {
        _ if unknown => 0,
        _ if truth.adopted < truth.instances => 1,
        _ if truth.delivered() < truth.stores => 2,
        _ if truth.outgoing != Outgoing::Dead => 3,
        _ => return FINISHED,
    };
    let left = match truth.outgoing {
        Outgoing::Accepted | Outgoing::Unknown => 0,
        Outgoing::Disabled | Outgoing::Deleted => 1,
        Outgoing::Revoked | Outgoing::Replaced | Outgoing::Gone | Outgoing::Refused | Outgoing::Waived => 2,
        Outgoing::Dead => 3,
    };
    (first, left)
}

fn headline(state: &State) -> (&'static str, Color) {
    match (state.end(), state.stopped()) {
        (Some(End::Done), _) => ("DONE", Color::Green),
        (Some(End::RolledBack | End::GateRolledBack), _) => ("ROLLED BACK", Color::Yellow),
        (Some(End::Failed), _) => ("FAILED, nothing changed", Color::Red),
        (Some(End::NotProved), _) => ("CLOSED, NOT PROVED", Color::Yellow),
        (Some(End::Abandoned), _) => ("ABANDONED", Color::Red),
        (None, Some(Stop::Halted)) => ("HALTED", Color::Red),
        (None, Some(Stop::Stuck { .. })) => ("STUCK", Color::Red),
        (None, Some(Stop::Unknown { .. })) => ("UNKNOWN OUTCOME", Color::Red),
        (None, Some(Stop::Interrupted)) => ("INTERRUPTED", Color::Yellow),
        (None, Some(_)) => ("PAUSED", Color::Yellow),
        (None, None) => ("OPEN", Color::Yellow),
    }
}

/// One credential's truth in a line that fits a narrow terminal.
pub(super) fn short_summary(truth: &Truth) -> String {
    let incoming = match truth.incoming {
        Incoming::None => "not issued",
        Incoming::Issued => "issued",
        Incoming::Revoked => "revoked",
        Incoming::Dead => "DEAD",
        Incoming::Unknown => "UNKNOWN",
    };
    let outgoing = match truth.outgoing {
        Outgoing::Accepted => "accepted",
        Outgoing::Disabled => "disabled",
        Outgoing::Deleted => "deleted, NOT GONE",
        Outgoing::Revoked => "revoked",
        Outgoing::Replaced => "replaced",
        Outgoing::Dead => "dead",
        Outgoing::Gone => "gone",
        Outgoing::Refused => "refused",
        Outgoing::Waived => "not revoked",
        Outgoing::Unknown => "UNKNOWN",
    };
    let mut line = format!("new {incoming}  stores {}/{}", truth.current, truth.stores);
    if truth.written > 0 {
        let _ = write!(line, "  sent {}", truth.written);
    }
    if truth.instances > 0 {
        let _ = write!(line, "  used {}/{}", truth.adopted, truth.instances);
    }
    let _ = write!(line, "  old {outgoing}  {}", truth.credential);
    line
}

/// One credential's truth in a line.
pub(crate) fn credential(truth: &Truth) -> String {
    let incoming = match truth.incoming {
        Incoming::None => "not issued",
        Incoming::Issued => "issued",
        Incoming::Revoked => "revoked",
        Incoming::Dead => "issued, NO LONGER ACCEPTED",
        Incoming::Unknown => "UNKNOWN",
    };
    let outgoing = outgoing_words(truth);
    if !truth.replaced {
        return format!("{}: {outgoing}", truth.credential);
    }
    let stores = match truth.stores {
        0 => "no store".to_owned(),
        n => format!("current in {} of {n} store{}", truth.current, if n == 1 { "" } else { "s" }),
    };
    let mut line = format!("{}: new {incoming}, {stores}", truth.credential);
    if truth.written > 0 {
        let _ = write!(line, ", written to {} that cannot be read", truth.written);
    }
    if truth.instances > 0 {
        let _ = write!(line, ", used by {} of {} instances", truth.adopted, truth.instances);
    }
    if truth.strange > truth.nothing {
        let _ = write!(line, ", ANOTHER VALUE in {}", truth.strange - truth.nothing);
    }
    if truth.nothing > 0 {
        let _ = write!(line, ", NO VALUE in {}", truth.nothing);
    }
    if truth.incomparable > 0 {
        let _ = write!(line, ", A LATER VERSION in {}", truth.incomparable);
    }
    if truth.unread > 0 {
        let _ = write!(line, ", NOT CHECKED in {}", truth.unread);
    }
    let _ = write!(line, "; old {outgoing}");
    line
}

/// The same for programs.
pub fn summary_json(run: &str, state: &State, around: Around) -> serde_json::Value {
    let credentials: Vec<_> = state
        .truths()
        .into_iter()
        .map(|t| {
            json!({
                "credential": t.credential,
                "incoming": <&str>::from(t.incoming),
                "handle": t.handle,
                "current_in": t.current,
                "written_to": t.written,
                "held_by_others": t.strange - t.nothing,
                "nothing_in": t.nothing,
                "later_version_in": t.incomparable,
                "not_checked_in": t.unread,
                "seen": t.seen,
                "stores": t.stores,
                "adopted": t.adopted,
                "instances": t.instances,
                "outgoing": <&str>::from(t.outgoing),
            })
        })
        .collect();
    let plan = state.plan();
    let unfinished: Vec<_> = (0..plan.steps.len())
        .filter(|s| !matches!(state.status(*s), Status::Done | Status::Undone | Status::Pending { .. }))
        .map(|s| json!({ "step": plan.steps[s].id, "status": state.status(s).word(), "failure": state.failure(s) }))
        .collect();
    json!({
        "run": run,
        "runbook": plan.runbook.name,
        "environment": plan.environment,
        "drill": plan.drill,
        "strategy": plan.strategy,
        "live": around.live,
        "phase": state.phase(),
        "opened": state.opened(),
        "entered": state.entered(),
        "end": state.end(),
        "end_words": state.end().map(end_word),
        "stopped": state.stopped(),
        "halted": state.halted(),
        "run_is_halted": around.halted,
        "all_are_halted": around.all_halted,
        "past_point_of_no_return": state.is_past_return(),
        "exposed_until": state.exposed_until(),
        "window": approvals::window_json(state),
        "credentials": credentials,
        "vantages": vantage::json(state),
        "consumers": state.adopted().iter().map(|((credential, consumer), (instances, of))| json!({
            "credential": credential, "consumer": consumer, "instances": instances, "of": of,
        })).collect::<Vec<_>>(),
        "approvals": approvals::json(state),
        "people": state.people(),
        "identities": state.identities(),
        "unfinished_steps": unfinished,
        "next": next_commands(run, state, around).into_iter().map(|(_, c)| c).collect::<Vec<_>>(),
    })
}
