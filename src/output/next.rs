//! What to type next.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::domain::{Observation, Strategy};
use crate::plan::{Action, FORMAT};
use crate::rotation::{Direction, State, Stop};
use crate::text::shell_word;

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
        // The last kill of each credential is the one that counts: what was disabled and then revoked is revoked again.
        let repeat: BTreeMap<_, usize> = (0..state.plan().steps.len())
            .filter(|step| state.may_repeat(*step))
            .map(|step| (state.plan().steps[step].action.credential(), step))
            .collect();
        for step in repeat.into_values() {
            let id = shell_word(&state.plan().steps[step].id);
            next.push(("kill again", format!("stanch resolve {run} {id} --as not-applied --evidence \"…\"")));
        }
    }
    for (c, truth) in state.truths().iter().enumerate() {
        let displaced = match state.stopped() {
            Some(Stop::Failed { .. } | Stop::Overtaken { .. } | Stop::LetIn { .. }) => truth.is_displaced(),
            // A gate may wait for consumers that another's value keeps away.
            Some(Stop::Inconclusive { .. }) => truth.strange > 0,
            _ => false,
        };
        if displaced && state.may_rewrite(c) {
            next.push(("rewrite", format!("{lift}stanch resume {run} --rewrite {}", truth.credential)));
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
