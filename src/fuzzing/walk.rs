//! Walks a run without an engine: every decision is taken, every call ends in some way.

use jiff::{SignedDuration, Timestamp};

use super::Dice;
use crate::domain::{ErrorKind, Verdict};
use crate::plan::Action;
use crate::rotation::{Ended, Event, Facts, Failure, Found, Next, Op, State, Task, Wishes};

/// Enough for the runs that are worth it; a run that is always torn back and forth never ends.
const TURNS: usize = 400;

/// Goes on until the run is over, or long enough. What the state decides must fit the state.
pub(super) fn walk(mut state: State, dice: &mut Dice) {
    let mut now = state.entered();
    for _ in 0..TURNS {
        state.truths();
        let wishes = Wishes {
            interrupted: dice.roll(40) == 0,
            no_wait: dice.roll(8) == 0,
            capacity: 1 + usize::try_from(dice.roll(3)).unwrap_or_default(),
            ..Wishes::default()
        };
        let decision = state.decide(now, &wishes);
        for task in &decision.tasks {
            act(&mut state, task, now, dice);
        }
        match decision.next {
            Next::Over => return,
            Next::Record(event) => {
                let stopped = matches!(event, Event::Stopped { .. });
                follow(&mut state, &event, now);
                if stopped {
                    apply_random_event(&mut state, now, dice);
                    follow(&mut state, &Event::Resumed {}, now);
                }
            }
            Next::Sleep(at) => now = at,
            Next::Wait(at) => {
                let gates = state.phase().and_then(|p| state.plan().phase(p)).map(|p| p.until.clone());
                for gate in gates.unwrap_or_default() {
                    let verdict = match dice.roll(10) {
                        0 => Verdict::Fail,
                        1 => Verdict::Inconclusive,
                        _ => Verdict::Pass,
                    };
                    follow(&mut state, &Event::Judged { gate, verdict, detail: String::new() }, now);
                }
                now = at;
            }
            Next::InFlight => {
                // Every task above ended at once; only a whole turn of calls that never end would be left.
                now = now.checked_add(SignedDuration::from_secs(1)).unwrap_or(Timestamp::MAX);
                if decision.tasks.is_empty() {
                    follow(&mut state, &Event::Resumed {}, now);
                }
            }
        }
    }
}

fn follow(state: &mut State, event: &Event, now: Timestamp) {
    if let Err(error) = state.apply(event, now) {
        panic!("{event:?} was decided, and does not fit: {error}");
    }
}

/// What a person may do while a run is stopped; the state may refuse it.
fn apply_random_event(state: &mut State, now: Timestamp, dice: &mut Dice) {
    let who = || "somebody".to_owned();
    match dice.roll(6) {
        0 => {
            drop(state.apply(
                &Event::Turned { to: None, why: who(), by_gate: false, from: state.undone_first() },
                now,
            ))
        }
        1 => drop(state.apply(&Event::Halted { by: who(), reason: who() }, now)),
        2 => {
            let unknown: Vec<usize> = state.unknown().collect();
            for at in unknown {
                let step = state.plan().steps[at].id.clone();
                let applied = dice.roll(2) == 0;
                follow(
                    state,
                    &Event::Resolved { step, applied, evidence: who(), facts: Default::default() },
                    now,
                );
            }
        }
        _ => {}
    }
    follow(state, &Event::HaltCleared { by: who() }, now);
}

fn act(state: &mut State, task: &Task, now: Timestamp, dice: &mut Dice) {
    match *task {
        Task::Perform { step: at, op, attempt } => {
            let step = state.plan().steps[at].id.clone();
            let round = state.round(at);
            follow(state, &Event::Intent { step: step.clone(), op, attempt, round }, now);
            let (result, kind) = match dice.roll(12) {
                0 if state.plan().steps[at].is_effect() => (Ended::Unknown, Some(ErrorKind::NoAnswer)),
                1 => (Ended::Rejected, Some(ErrorKind::Throttled)),
                2 if dice.roll(3) == 0 => (Ended::Rejected, Some(ErrorKind::Conflict)),
                3 if dice.roll(3) == 0 => (Ended::Rejected, Some(ErrorKind::Refused)),
                // The process died.
                4 if dice.roll(3) == 0 => return follow(state, &Event::Resumed {}, now),
                _ => (Ended::Succeeded, None),
            };
            let error = kind.map(|kind| Failure {
                kind,
                message: "it failed".to_owned(),
                hint: None,
                request_id: None,
                retry_after_ms: None,
            });
            let (facts, checks) = (Facts::new(), Vec::new());
            follow(
                state,
                &Event::Outcome { step, op, attempt, result, facts, checks, error, latency_ms: 0 },
                now,
            );
        }
        Task::Observe { step: at, op, attempt } => {
            let issues = op == Op::Do && matches!(state.plan().steps[at].action, Action::Issue { .. });
            let found = match dice.roll(5) {
                0 => Found::Absent,
                1 => Found::Undecided,
                2 => Found::Repeatable,
                3 if issues => Found::Orphans(vec!["handle".to_owned()]),
                _ => Found::Applied,
            };
            let step = state.plan().steps[at].id.clone();
            let (facts, detail) = (Facts::new(), String::new());
            follow(state, &Event::Settled { step, op, attempt, found, facts, detail }, now);
        }
    }
}
