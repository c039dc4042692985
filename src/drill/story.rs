//! What has happened in a drill: a fold over the events of its record, from which triggers, expectations and the
//! score are read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::model::{Act, Condition, Doing, Ends, How, Why};
use crate::clock::add;
use crate::domain::{Phase, Verdict};
use crate::plan::{Action, Plan};
use crate::rotation::{End, Ended, Event, Found, Op, Stop};

/// Something that counts in a drill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Happening {
    Entered(Phase),
    Moved(u32),
    Step { doing: Doing, credential: Option<String>, how: How },
    Gate { name: String, verdict: Verdict },
    Stopped(Why),
    Person(Act),
    Turned,
    Injected { name: String, by: Option<String> },
    Skipped { name: String, by: String },
    Answered { inject: String, answer: String },
    Ended(Ends),
}

/// When something happened, and in which record.
#[derive(Debug, Clone)]
pub(super) struct Happened {
    pub(super) at: Timestamp,
    pub(super) record: u64,
    pub(super) who: String,
    pub(super) what: Happening,
}

/// The story so far.
#[derive(Debug, Default)]
pub(super) struct Story {
    pub(super) plan: Option<Arc<Plan>>,
    pub(super) opened: Option<Timestamp>,
    pub(super) begun: Option<Timestamp>,
    pub(super) happened: Vec<Happened>,
    /// Which session of work on the run this is, or, where none is at work, the next one.
    pub(super) session: usize,
    at_work: bool,
    pub(super) ended: bool,
    records: u64,
    who: String,
    adopted: BTreeMap<(String, String), bool>,
}

impl Story {
    /// Begins a run.
    pub(super) fn open(&mut self, plan: Arc<Plan>, at: Timestamp, who: &str) {
        (self.plan, self.opened, self.at_work, self.records) = (Some(plan), Some(at), true, 1);
        self.who = who.to_owned();
    }

    /// Whoever worked on the run is gone: what happens now, happens to the next session.
    pub(super) fn idle(&mut self) {
        if self.at_work {
            self.at_work = false;
            self.session += 1;
        }
    }

    /// Which record follows, and who wrote it.
    pub(super) fn written(&mut self, record: u64, who: &str) {
        self.records = record;
        who.clone_into(&mut self.who);
    }

    /// Folds an event in.
    pub(super) fn take(&mut self, at: Timestamp, event: &Event) {
        let record = self.records;
        self.records += 1;
        let Some(what) = self.happening(event) else { return };
        // What others asked for, the process that works on the run writes down.
        let who = match event {
            Event::Halted { by, .. } | Event::HaltCleared { by } | Event::Answered { by, .. } => {
                by.split('@').next().unwrap_or(by).to_owned()
            }
            _ => self.who.clone(),
        };
        self.happened.push(Happened { at, record, who, what });
    }

    fn happening(&mut self, event: &Event) -> Option<Happening> {
        Some(match event {
            Event::Entered { phase } => Happening::Entered(*phase),
            Event::Outcome { step, op, result, .. } => {
                let how = match (op, result) {
                    (Op::Do, Ended::Succeeded) => How::Succeeded,
                    (Op::Do, Ended::Rejected) => How::Rejected,
                    (_, Ended::Unknown) => How::Unknown,
                    (Op::Undo, Ended::Succeeded) => How::Undone,
                    _ => return None,
                };
                self.step(step, how)?
            }
            Event::Judged { gate, verdict, .. } => Happening::Gate { name: gate.clone(), verdict: *verdict },
            Event::Adopted { credential, consumer, instances, of } => {
                let all = *of > 0 && instances == of;
                self.adopted.insert((credential.clone(), consumer.clone()), all);
                let moved = self.adopted.values().filter(|all| **all).count();
                Happening::Moved(u32::try_from(moved).unwrap_or(u32::MAX))
            }
            Event::Stopped { reason } => {
                self.idle();
                Happening::Stopped(why(reason)?)
            }
            Event::Resumed {} => {
                self.idle();
                self.at_work = true;
                Happening::Person(Act::Resume)
            }
            Event::Halted { .. } => Happening::Person(Act::Halt),
            Event::HaltCleared { .. } => Happening::Person(Act::ClearHalt),
            Event::Turned { by_gate: false, .. } => Happening::Person(Act::Rollback),
            Event::Turned { by_gate: true, .. } => Happening::Turned,
            Event::Forward { .. } => Happening::Person(Act::Forward),
            Event::Reissue { .. } => Happening::Person(Act::Reissue),
            Event::Rewrite { .. } => Happening::Person(Act::Rewrite),
            Event::Resolved { .. } | Event::Vouched { .. } => Happening::Person(Act::Resolve),
            Event::Injected { inject, by, .. } => {
                Happening::Injected { name: inject.clone(), by: by.clone() }
            }
            Event::Skipped { inject, by } => Happening::Skipped { name: inject.clone(), by: by.clone() },
            Event::Answered { inject, answer, .. } => {
                Happening::Answered { inject: inject.clone(), answer: answer.clone() }
            }
            Event::Closed { end } => {
                self.ended = true;
                Happening::Ended(ends(*end))
            }
            Event::Drill { begun, .. } => {
                self.begun = Some(*begun);
                return None;
            }
            Event::Settled { step, op: Op::Do, found: Found::Applied, .. } => {
                self.step(step, How::Succeeded)?
            }
            Event::Opened { .. }
            | Event::Requested { .. }
            | Event::Approved { .. }
            | Event::BrokeGlass { .. }
            | Event::WindowOverridden { .. }
            | Event::Identified { .. }
            | Event::Traced { .. }
            | Event::Intent { .. }
            | Event::Settled { .. }
            | Event::Returned { .. }
            | Event::Deferred {}
            | Event::Seen { .. }
            | Event::LetIn { .. }
            | Event::Heartbeat {}
            | Event::Noted { .. }
            | Event::Repaired { .. }
            | Event::Checkpoint { .. } => return None,
        })
    }

    fn step(&self, id: &str, how: How) -> Option<Happening> {
        let plan = self.plan.as_ref()?;
        let action = &plan.steps.iter().find(|known| known.id == id)?.action;
        let credential = action.credential().map(|c| plan.credentials[c].name.clone());
        Some(Happening::Step { doing: doing(action)?, credential, how })
    }

    /// The first thing that fits, from a record on.
    pub(super) fn first(&self, condition: &Condition, from: u64) -> Option<&Happened> {
        self.happened.iter().filter(|h| h.record >= from).find(|h| fits(&h.what, condition))
    }

    /// When what waits so long after a condition is due; `None` where its event has not come yet.
    pub(super) fn due(&self, when: &Condition, after: Option<Duration>) -> Option<Timestamp> {
        Some(add(self.first(when, 0)?.at, after.unwrap_or_default()))
    }

    /// The record in which an inject happened.
    pub(super) fn injected(&self, name: &str) -> Option<&Happened> {
        let is = |what: &Happening| matches!(what, Happening::Injected { name: other, .. } if other == name);
        self.happened.iter().find(|h| is(&h.what))
    }

    /// Whether an inject happened, or was skipped.
    pub(super) fn is_over(&self, name: &str) -> bool {
        let is = |what: &Happening| matches!(what, Happening::Skipped { name: other, .. } if other == name);
        self.injected(name).is_some() || self.happened.iter().any(|h| is(&h.what))
    }

    /// Whether a question was answered.
    pub(super) fn answered(&self, name: &str) -> bool {
        let is = |what: &Happening| matches!(what, Happening::Answered { inject, .. } if inject == name);
        self.happened.iter().any(|h| is(&h.what))
    }
}

fn fits(what: &Happening, condition: &Condition) -> bool {
    match (what, condition) {
        (Happening::Entered(now), Condition::Phase(phase)) => now == phase,
        (Happening::Moved(now), Condition::Moved(least)) => now >= least,
        (Happening::Step { doing, credential, how }, Condition::Step(wanted)) => {
            let same = |wanted: &String| credential.as_ref() == Some(wanted);
            *doing == wanted.action && *how == wanted.outcome && wanted.credential.as_ref().is_none_or(same)
        }
        (Happening::Gate { name, verdict }, Condition::Gate(says)) => {
            *name == says.name && *verdict == says.verdict
        }
        (Happening::Stopped(now), Condition::Stopped(why)) => *why == Why::Any || now == why,
        (Happening::Person(now), Condition::Person(act)) => now == act,
        (Happening::Ended(Ends::Abandoned), Condition::Person(Act::Abandon)) => true,
        (Happening::Turned, Condition::RollsBack(_)) => true,
        (Happening::Injected { name, .. }, Condition::Inject(wanted)) => name == wanted,
        (Happening::Answered { inject, answer }, Condition::Answer(wanted)) => {
            *inject == wanted.inject && wanted.choice.as_ref().is_none_or(|choice| choice == answer)
        }
        (Happening::Ended(now), Condition::Ended(end)) => now == end,
        _ => false,
    }
}

/// What a step's action is called in a scenario; `None` for looks that none waits for.
pub(super) fn doing(action: &Action) -> Option<Doing> {
    Some(match action {
        Action::Capture { .. } => Doing::Capture,
        Action::Issue { .. } => Doing::Issue,
        Action::Inspect { .. } => Doing::Inspect,
        Action::Stage { .. } => Doing::Stage,
        Action::Accept { .. } => Doing::Accept,
        Action::Promote { .. } => Doing::Promote,
        Action::Reload { .. } => Doing::Reload,
        Action::Disable { .. } => Doing::Disable,
        Action::Revoke { .. } => Doing::Revoke,
        Action::Reject { .. } => Doing::Reject,
        Action::Own { .. } => Doing::Own,
        Action::Connection { .. }
        | Action::Permission { .. }
        | Action::Baseline { .. }
        | Action::Destroy { .. }
        | Action::Sweep { .. } => return None,
    })
}

fn why(stop: &Stop) -> Option<Why> {
    Some(match stop {
        Stop::Failed { .. } => Why::Failed,
        Stop::Unknown { .. } => Why::Unknown,
        Stop::Inconclusive { .. } => Why::Inconclusive,
        Stop::GateFailed { .. } => Why::GateFailed,
        Stop::Halted => Why::Halted,
        Stop::Stuck { .. } => Why::Stuck,
        Stop::Unanswered { .. } | Stop::Unapproved { .. } => Why::Unanswered,
        Stop::Overtaken { .. } | Stop::Unread { .. } | Stop::LetIn { .. } => Why::Overtaken,
        Stop::FellBack { .. } | Stop::Silent { .. } => Why::FellBack,
        Stop::Returned { .. }
        | Stop::Until { .. }
        | Stop::Waiting { .. }
        | Stop::OutsideWindow { .. }
        | Stop::Interrupted => Why::Asked,
    })
}

fn ends(end: End) -> Ends {
    match end {
        End::Done => Ends::Done,
        End::RolledBack | End::GateRolledBack => Ends::RolledBack,
        End::Failed => Ends::Failed,
        End::NotProved => Ends::NotProved,
        End::Abandoned => Ends::Abandoned,
    }
}
