//! Events in words.

use super::wait;
use crate::domain::Phase;
use crate::plan::{Action, Plan, Step, describe, describe_undo};
use crate::rotation::{End, Ended, Event, Found, Op, State, Stop};

/// One transition as one line, or `None` where there is nothing for a person to see.
pub fn line(event: &Event, state: &State) -> Option<String> {
    let plan = state.plan();
    let of = |id: &str| step_words(plan, state, id);
    Some(match event {
        Event::Opened { .. } => "run opened".into(),
        Event::Resumed {} => "run resumed".into(),
        Event::Entered { phase } => format!("phase {phase}"),
        Event::Intent { .. } | Event::Heartbeat {} | Event::Checkpoint { .. } => return None,
        Event::Outcome { step, op, result, error, latency_ms, .. } => {
            let at = state.step(step);
            let what = at.map_or_else(|| step.clone(), |at| describe_op(plan, &plan.steps[at], *op));
            match (result, error) {
                (Ended::Succeeded, _) => format!("{what} ({latency_ms} ms)"),
                (Ended::Rejected, Some(e)) => {
                    let again = e.retry_after_ms.and_then(|_| again(state, step)).unwrap_or_default();
                    format!("{what}: rejected: {}{again}", e.message)
                }
                (Ended::Unknown, Some(e)) => format!("{what}: outcome unknown: {}", e.message),
                (Ended::Rejected, None) => format!("{what}: rejected"),
                (Ended::Unknown, None) => format!("{what}: outcome unknown"),
            }
        }
        Event::Settled { step, found, detail, .. } => {
            let word = match found {
                Found::Applied => "it took effect",
                Found::Absent => "it did not take effect",
                Found::Repeatable => "it is safe to repeat",
                Found::Orphans(_) => "it created a credential whose secret was lost; stanch will revoke it",
                Found::Undecided => "stanch could not find out",
            };
            format!("{}: {word} ({detail})", of(step))
        }
        Event::Resolved { step, applied, evidence, .. } => {
            let word = if *applied { "applied" } else { "not applied" };
            format!("{}: resolved as {word}: {evidence}", of(step))
        }
        Event::Judged { gate, verdict, detail } => {
            format!("gate {gate}: {} ({detail})", verdict.name())
        }
        Event::Vouched { gate, evidence, .. } => {
            format!("gate {gate}: passed on a person's word: {evidence}")
        }
        Event::LetIn { detail, .. } => format!("after the proof, {detail}"),
        Event::Adopted { credential, consumer, instances, of } => {
            format!("{credential}: {instances} of {of} instances of {consumer} use the new one")
        }
        Event::Turned { to, why, .. } => format!("{}: {why}", rolling_back(*to)),
        Event::Returned { phase } => format!("rolled back to the end of {phase}"),
        Event::Forward { why } => format!("going forward again: {why}"),
        Event::Deferred {} => {
            "the new credential is not ready yet; stanch kills the old one first, and consumers fail until the new one is ready"
                .into()
        }
        Event::Rewrite { credential, .. } => format!("writing the new {credential} into its stores again"),
        Event::Reissue { credential, .. } => format!("revoking the new {credential} and issuing another one"),
        Event::Seen { .. } | Event::Traced { .. } => return None,
        Event::Requested { by, key, .. } => format!("requested by {by}, signed with {key}"),
        Event::Approved { by, key, phases, .. } => {
            let names: Vec<&str> = phases.iter().map(|phase| phase.name()).collect();
            let why = state.standing().given.iter().rev().find(|(_, given)| given.by == *by);
            let why = why.map(|(_, given)| why_words(&given.reason, given.ticket.as_deref())).unwrap_or_default();
            format!("{by} approved {}, signed with {key}: {why}", names.join(", "))
        }
        Event::BrokeGlass { by, reason, ticket } => {
            format!("BREAK-GLASS: {by} goes on without approvals: {}", why_words(reason, Some(ticket)))
        }
        Event::WindowOverridden { by, reason } => {
            format!("{by} lets cutover begin outside of the deployment windows: {reason}")
        }
        Event::Identified { who } => format!("run by {} (as the environment says)", who.words()),
        Event::Halted { by, reason } => format!("halted by {by}: {reason}"),
        Event::HaltCleared { by } => format!("halt cleared by {by}"),
        Event::Noted { text } => text.clone(),
        Event::Drill { begun, .. } => format!("DRILL, begun at {begun:.0}: practice, no server is contacted"),
        // What is not announced is to be noticed by its effect.
        Event::Injected { text, .. } if text.is_empty() => return None,
        Event::Injected { text, by, .. } => {
            let by = by.as_ref().map(|by| format!(" (by hand, {by})")).unwrap_or_default();
            format!("DRILL: {}{by}", text.split_whitespace().collect::<Vec<_>>().join(" "))
        }
        Event::Skipped { inject, by } => format!("DRILL: {by} skipped `{inject}`"),
        Event::Answered { inject, answer, by } => format!("DRILL: {by} answered `{inject}`: {answer}"),
        Event::Repaired { bytes, .. } => {
            format!("removed a line torn by a crash from the end of the journal ({bytes} bytes)")
        }
        Event::Stopped { reason } => format!("stopped: {}", sentence(reason)),
        Event::Closed { end } => format!("closed: {}", end_word(*end)),
    })
}

/// Where a rollback leads, in words.
pub(crate) fn rolling_back(to: Option<Phase>) -> String {
    match to {
        Some(phase) => format!("rolling back to the end of {phase}"),
        None => "rolling back".to_owned(),
    }
}

/// A reason, with where it is written down.
fn why_words(reason: &str, ticket: Option<&str>) -> String {
    ticket.map_or_else(|| reason.to_owned(), |ticket| format!("{reason} ({ticket})"))
}

/// When a step that was told to wait is tried again.
fn again(state: &State, id: &str) -> Option<String> {
    let then = wait::not_before(state.status(state.step(id)?))?;
    // On the record, long after: the moment says itself which day it was.
    Some(format!("; retry at {}", wait::local(then, state.entered())))
}

/// A step in words, with what is done about it: what takes it back is another action than the step itself.
pub(crate) fn describe_op(plan: &Plan, step: &Step, op: Op) -> String {
    match (op, &step.action) {
        (Op::Do, _) => describe(plan, step),
        (Op::Undo, _) => format!("undo: {}", describe_undo(plan, step)),
        // After a lost response, or when another credential is issued in its place.
        (Op::Discard, Action::Issue { credential }) => {
            let name = &plan.credentials[*credential].name;
            format!("clean up: revoke the new {name} that this run does not use")
        }
        (Op::Discard, _) => format!("clean up: {}", describe(plan, step)),
    }
}

fn step_words(plan: &Plan, state: &State, id: &str) -> String {
    state.step(id).map_or_else(|| id.to_owned(), |at| describe(plan, &plan.steps[at]))
}

/// How a run ended, in words.
pub fn end_word(end: End) -> &'static str {
    match end {
        End::Done => "done",
        End::RolledBack => "rolled back",
        End::GateRolledBack => "rolled back automatically",
        End::Failed => "failed before anything was changed",
        End::NotProved => "closed, not proved",
        End::Abandoned => "abandoned",
    }
}

/// Why a session stopped, in a sentence.
pub fn sentence(stop: &Stop) -> String {
    match stop {
        Stop::Failed { step } => format!("{step} failed; paused, earlier steps stay in effect"),
        Stop::Unknown { steps } => format!("the outcome of {} is unknown; paused", steps.join(", ")),
        Stop::Inconclusive { phase, gates } => {
            format!(
                "timed out in {phase} waiting for gate {}; paused, nothing was rolled back",
                gates.join(" and gate ")
            )
        }
        Stop::GateFailed { gate } => {
            format!("gate {gate} failed; paused, no automatic rollback at this point")
        }
        Stop::Halted => "the halt is set".into(),
        Stop::Interrupted => "interrupted".into(),
        Stop::Until { phase } => format!("stopped after {phase}, as requested"),
        Stop::Waiting { resume_at } => {
            format!("nothing to do before {resume_at:.0}; resume the run then")
        }
        Stop::OutsideWindow { opens: Some(at) } => {
            format!("cutover waits for a deployment window, which opens at {at:.0}; resume the run then")
        }
        Stop::OutsideWindow { opens: None } => {
            "cutover waits for a deployment window, and none opens any more; paused, nothing was rolled back"
                .into()
        }
        Stop::Stuck { step } => format!("{step} could not be undone; the rollback is stuck"),
        Stop::Unapproved { phase } => {
            format!("{phase} needs approvals that are missing; paused, nothing of it began")
        }
        Stop::Unanswered { step } => format!("{step} needs your answer"),
        Stop::Overtaken { credentials } => format!(
            "every step is done, but others have since changed values that this run wrote: {}; the run stays open",
            credentials.join(", ")
        ),
        Stop::Unread { credentials } => format!(
            "every step is done, but stanch could not read at the end what the stores hold: {}; the run stays open",
            credentials.join(", ")
        ),
        Stop::LetIn { credentials } => format!(
            "every step is done, but the old credential is not dead: {}; the run stays open. A check accepts it again, or its issuer does not call it gone: find out why (a cache or a replica that is behind? a person or a custom step that enabled it? a login at the last moment?) and undo that",
            credentials.join(", ")
        ),
        Stop::FellBack { consumers } => format!(
            "every step is done, but these consumers use another value than the new credential: {}; the run stays open. Restart them",
            consumers.join(", ")
        ),
        Stop::Silent { consumers } => format!(
            "every step is done, but these consumers did not say which value they use: {}; the run stays open. Start them, then resume",
            consumers.join(", ")
        ),
        Stop::Returned { phase } => format!("rolled back to the end of {phase}"),
    }
}
