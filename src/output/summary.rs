//! What is true now, and what to type next.

use std::fmt::Write as _;

use console::Color;
use jiff::Timestamp;
use serde_json::json;

use super::approvals::{self, missing_approvals};
use super::outgoing::{counts, exposure, leaked, outgoing_words};
use super::style::{Style, clock};
use super::wait;
use super::words::{end_word, sentence};
use crate::clock::since;
use crate::domain::{Observation, Strategy};
use crate::plan::{Action, FORMAT};
use crate::rotation::{Direction, End, Incoming, Outgoing, State, Status, Stop, Truth};
use crate::text::shell_word;

/// How many credentials are listed one by one.
const SHOWN: usize = 20;

/// What stands around a run and decides, with its state, which commands are refused now.
#[derive(Debug, Clone, Copy, Default)]
pub struct Around {
    /// A process is working on the run.
    pub live: bool,
    /// The latch of the run is set.
    pub halted: bool,
    /// The latch of all runs is set.
    pub all_halted: bool,
    /// What became of its sealed secrets.
    pub seals: Seals,
    /// The present moment: an approval that has expired by then is missing. Without it, none has expired.
    pub now: Option<jiff::Timestamp>,
}

/// What became of the sealed secrets of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Seals {
    /// They are there, and can be opened.
    #[default]
    Whole,
    /// They are not there any more.
    Gone,
    /// They cannot be opened: the key is another one, or gone.
    Shut,
}

impl Around {
    /// Whether a resume would be taken where no process works on the run: no latch is set, the plan is
    /// of this version's format, and the run's secrets can be used.
    pub fn lets_resume(&self, state: &State) -> bool {
        let free = !self.halted && !self.all_halted;
        free && self.seals == Seals::Whole && state.plan().format == FORMAT
    }
}

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
        _ if truth.current < truth.stores => 2,
        _ if truth.outgoing != Outgoing::Dead => 3,
        _ => return FINISHED,
    };
    let left = match truth.outgoing {
        Outgoing::Accepted | Outgoing::Unknown => 0,
        Outgoing::Disabled => 1,
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
        Outgoing::Revoked => "revoked",
        Outgoing::Replaced => "replaced",
        Outgoing::Dead => "dead",
        Outgoing::Gone => "gone",
        Outgoing::Refused => "refused",
        Outgoing::Waived => "not revoked",
        Outgoing::Unknown => "UNKNOWN",
    };
    let mut line = format!("new {incoming}  stores {}/{}", truth.current, truth.stores);
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

/// What to type next: what for, and the command. No command stands here that would be refused.
pub fn next_commands(run: &str, state: &State, around: Around) -> Vec<(&'static str, String)> {
    let mut next = Vec::new();
    if state.end().is_none() {
        // A plan of another format is neither resumed nor rolled back.
        let ours = state.plan().format == FORMAT;
        if around.live {
            next.push(("watch", format!("stanch status {run} --watch")));
            if !around.halted && !around.all_halted {
                next.push(("stop", format!("stanch halt {run}")));
            }
        } else if ours && around.seals == Seals::Whole {
            resume_commands(&mut next, run, state, &clear_latches(run, state, around), around.now);
        }
        let back = next.iter().any(|(_, c)| c.contains("stanch rollback"));
        // It would turn, and stop again at what only a person can settle.
        let opaque = |s: usize| matches!(state.plan().steps[s].class, None | Some(Observation::Opaque));
        // Nor has a bare revocation a way back.
        let back = back || state.unknown().any(opaque) || state.plan().strategy == Strategy::Revoke;
        if ours && !back && lets_back(state, around.seals) && state.has_changed_anything() {
            next.push(("roll back", format!("{}stanch rollback {run}", clear_latches(run, state, around))));
        }
        let stopped = matches!(
            state.stopped(),
            Some(
                Stop::Stuck { .. }
                    | Stop::Inconclusive { .. }
                    | Stop::Failed { .. }
                    | Stop::GateFailed { .. }
                    | Stop::Unread { .. }
                    | Stop::LetIn { .. }
                    | Stop::FellBack { .. }
                    | Stop::Silent { .. }
            )
        );
        if !around.live && (stopped || !ours || around.seals != Seals::Whole) {
            next.push(("give up", format!("stanch abandon {run} --reason TEXT")));
        }
    }
    next.push(("evidence", format!("stanch audit verify {run}")));
    next
}

/// Whether a rollback would be taken, as far as the run's secrets go: without the old value nothing can be written
/// back, while what no store hands out yet can still be revoked.
fn lets_back(state: &State, seals: Seals) -> bool {
    !state.is_past_return()
        && match seals {
            Seals::Whole => true,
            Seals::Gone => !state.has_swapped(),
            Seals::Shut => false,
        }
}

/// What takes off every latch that is set, before a command that they refuse.
fn clear_latches(run: &str, state: &State, around: Around) -> String {
    let mut lift = String::new();
    if around.all_halted {
        lift.push_str("stanch halt --all --clear && ");
    }
    if around.halted || (state.halted().is_some() && !around.all_halted) {
        let _ = write!(lift, "stanch halt --clear {run} && ");
    }
    lift
}

/// What takes an open run up again, where no process works on it.
fn resume_commands(
    next: &mut Vec<(&'static str, String)>,
    run: &str,
    state: &State,
    lift: &str,
    now: Option<jiff::Timestamp>,
) {
    match state.stopped() {
        Some(Stop::Unapproved { phase }) => {
            if !state.lacks(*phase, now).is_empty() {
                next.push((
                    "approve",
                    format!("stanch approve {run} --key FILE --reason TEXT --ticket TEXT"),
                ));
            }
            next.push(("resume", format!("{lift}stanch resume {run}")));
        }
        Some(Stop::OutsideWindow { opens }) => {
            // Before it opens, a resume waits; where none opens, it would only stop again.
            if opens.is_some() {
                next.push(("resume", format!("{lift}stanch resume {run}")));
            }
            next.push(("or now", format!("{lift}stanch resume {run} --now --reason TEXT")));
        }
        Some(Stop::Unanswered { step }) => {
            let name = step.rsplit('/').next().unwrap_or(step);
            next.push(("resume", format!("{lift}stanch resume {run} --confirm {name}")));
        }
        Some(Stop::Stuck { .. }) => {
            next.push(("retry", format!("{lift}stanch rollback {run}")));
            // Forward goes only what is going back, and not with a step in doubt.
            if state.direction() != &Direction::Forward && state.unknown().next().is_none() {
                next.push(("or resume", format!("{lift}stanch resume {run} --forward")));
            }
        }
        Some(Stop::Unknown { .. }) => {
            let opaque = |s: usize| matches!(state.plan().steps[s].class, None | Some(Observation::Opaque));
            if state.unknown().any(|s| !opaque(s)) {
                next.push(("recheck", format!("{lift}stanch resume {run}")));
            }
            for step in state.unknown() {
                let words: &[&str] =
                    if state.needs_its_answer(step) { &["not-applied"] } else { &["applied", "not-applied"] };
                let id = &state.plan().steps[step].id;
                for (nth, word) in words.iter().enumerate() {
                    let id = shell_word(id);
                    let command = format!("stanch resolve {run} {id} --as {word} --evidence \"…\"");
                    next.push((if nth == 0 { "resolve" } else { "or" }, command));
                }
            }
        }
        _ => next.push(("resume", format!("{lift}stanch resume {run}"))),
    }
    if let Some(Stop::Inconclusive { gates, .. }) = state.stopped() {
        for gate in gates.iter().filter(|gate| state.may_vouch(gate)) {
            next.push(("vouch", format!("stanch resolve {run} {gate} --as passed --evidence \"…\"")));
        }
    }
    if matches!(state.stopped(), Some(Stop::Failed { .. } | Stop::Overtaken { .. } | Stop::LetIn { .. })) {
        for c in
            (0..state.plan().credentials.len()).filter(|c| is_refused(state, *c) && state.may_reissue(*c))
        {
            let name = &state.plan().credentials[c].name;
            next.push(("replace", format!("{lift}stanch resume {run} --reissue {name}")));
        }
        for step in (0..state.plan().steps.len()).filter(|step| state.may_repeat(*step)) {
            let id = shell_word(&state.plan().steps[step].id);
            next.push(("kill again", format!("stanch resolve {run} {id} --as not-applied --evidence \"…\"")));
        }
        for (c, truth) in state.truths().iter().enumerate() {
            if truth.is_displaced() && state.may_rewrite(c) {
                next.push(("rewrite", format!("{lift}stanch resume {run} --rewrite {}", truth.credential)));
            }
        }
    }
}

/// Whether a step that looks at the new credential failed.
fn is_refused(state: &State, credential: usize) -> bool {
    state.plan().steps.iter().enumerate().any(|(at, step)| match step.action {
        Action::Accept { credential: c, .. } | Action::Inspect { credential: c } => {
            c == credential && state.failure(at).is_some()
        }
        _ => false,
    })
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
