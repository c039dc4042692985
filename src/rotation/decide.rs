//! What may happen next.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::end::{End, Stop};
use super::event::Event;
use super::outcome::Op;
use super::state::{Direction, State};
use super::step::Status;
use crate::clock::add;
use crate::domain::{ErrorKind, Observation, Opening, Phase, REFUSED, Strategy, Verdict};
use crate::plan::Action;

/// How often an unknown outcome is looked into in one session before the run stops and asks.
const MAX_LOOKS: u32 = 5;

/// How long the kill waits, under `contain`, for the new credential to be issued, inspected and sealed.
pub(crate) const KILL_WAITS: Duration = Duration::from_secs(2);

/// How long a wait for approvals is, before what is missing is looked at again; whatever comes ends it sooner.
const APPROVAL: Duration = Duration::from_secs(1);

/// What whoever runs this session wants.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// No new intents: Ctrl-C, SIGTERM, or the latch.
    pub interrupted: bool,
    /// Stop after this phase.
    pub until: Option<Phase>,
    /// Stop wherever the run would only wait.
    pub no_wait: bool,
    /// How many calls may be started.
    pub capacity: usize,
    /// The steps that are being observed.
    pub observing: BTreeSet<usize>,
    /// Nothing here waits for approvals that are missing.
    pub unattended: bool,
}

/// What may be done now, and what follows when nothing is under way any more.
#[derive(Debug)]
pub struct Decision {
    /// What may be started.
    pub tasks: Vec<Task>,
    /// What follows.
    pub next: Next,
}

/// Something that may be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Record the intent, then make the call.
    Perform {
        /// The step.
        step: usize,
        /// What to do with it.
        op: Op,
        /// Which try it is.
        attempt: u32,
    },
    /// Look what became of an earlier try.
    Observe {
        /// The step.
        step: usize,
        /// What was done with it.
        op: Op,
        /// Which try it was.
        attempt: u32,
    },
}

/// What follows when the tasks have been started.
#[derive(Debug)]
pub enum Next {
    /// Wait for what is under way.
    InFlight,
    /// Record this, and decide again.
    Record(Event),
    /// Wait until a moment, for a try that must not come sooner.
    Sleep(Timestamp),
    /// The phase waits: for its gates, and at the longest until the moment.
    Wait(Timestamp),
    /// Nothing: the run is closed.
    Over,
}

impl State {
    /// What may happen next.
    pub fn decide(&self, now: Timestamp, wishes: &Wishes) -> Decision {
        if self.end.is_some() {
            return Decision { tasks: vec![], next: Next::Over };
        }
        let stopping = wishes.interrupted || self.halted.is_some();
        let mut delayed: Option<Timestamp> = None;
        let kill = self.deferred || self.kills_at().is_some_and(|at| now >= at);
        // Nothing new is begun for a new credential that took too long, unless it failed for good.
        let kill = kill && !stopping && self.work.open > 0 && self.work.failed.is_empty();
        let kill = kill && self.is_approved(Phase::Sunset, now);
        let idle = stopping || self.returned.is_some() || kill;
        let tasks = if idle { vec![] } else { self.tasks(now, wishes, &mut delayed) };
        // Work for which there is no room now is still work.
        let crowded = !idle && wishes.capacity == 0 && self.could_work(now);
        let busy = self.under_way() > 0 || !wishes.observing.is_empty() || !tasks.is_empty() || crowded;
        let next = if busy {
            Next::InFlight
        } else if stopping {
            let reason = if self.halted.is_some() { Stop::Halted } else { Stop::Interrupted };
            stop(reason)
        } else if kill {
            Next::Record(match self.deferred {
                true => Event::Entered { phase: Phase::Sunset },
                false => Event::Deferred {},
            })
        } else if let Some(phase) = self.returned {
            stop(Stop::Returned { phase })
        } else {
            self.settle_down(now, wishes, delayed)
        };
        Decision { tasks, next }
    }

    /// Whether something could be started if there were room.
    fn could_work(&self, now: Timestamp) -> bool {
        let room = Wishes { capacity: 1, ..Wishes::default() };
        !self.tasks(now, &room, &mut None).is_empty()
    }

    fn tasks(&self, now: Timestamp, wishes: &Wishes, delayed: &mut Option<Timestamp>) -> Vec<Task> {
        let mut tasks = Vec::new();
        let mut later = |at: &Option<Timestamp>| match at {
            Some(at) if *at > now => {
                *delayed = Some(delayed.map_or(*at, |d| d.min(*at)));
                true
            }
            _ => false,
        };
        for &step in self.work.unknown.iter().filter(|s| !wishes.observing.contains(s)) {
            if let Status::Unknown { op, attempt, not_before, .. } = &self.steps[step].status
                && !self.is_blocked(step)
                && !later(not_before)
                && tasks.len() < wishes.capacity
            {
                tasks.push(Task::Observe { step, op: *op, attempt: *attempt });
            }
        }
        if !self.failure_holds() {
            for &step in &self.work.ready {
                if tasks.len() >= wishes.capacity {
                    break;
                }
                let (op, attempt, not_before) = match &self.steps[step].status {
                    Status::Pending { attempt, not_before } => (Op::Do, *attempt, not_before),
                    Status::Undoing { attempt, not_before } => (Op::Undo, *attempt, not_before),
                    Status::Orphaned { discard, not_before, .. } => (Op::Discard, *discard, not_before),
                    _ => continue,
                };
                if !later(not_before) {
                    tasks.push(Task::Perform { step, op, attempt });
                }
            }
        }
        tasks
    }

    /// Whether a step that failed keeps others from being begun: what is under way is awaited. Of a bare revocation each
    /// credential is its own: one that cannot be revoked must not keep the others alive.
    fn failure_holds(&self) -> bool {
        !self.work.failed.is_empty() && self.plan.strategy != Strategy::Revoke
    }

    /// Whether nothing but a person can say what became of the step.
    fn is_blocked(&self, step: usize) -> bool {
        let opaque = matches!(self.plan.steps[step].class, None | Some(Observation::Opaque));
        opaque || matches!(self.steps[step].status, Status::Unknown { looks, .. } if looks >= MAX_LOOKS)
    }

    /// When the kill stops waiting for the new credential.
    fn kills_at(&self) -> Option<Timestamp> {
        self.may_defer().then(|| add(self.entered, KILL_WAITS))
    }

    /// What follows when nothing is, or can be, under way.
    fn settle_down(&self, now: Timestamp, wishes: &Wishes, delayed: Option<Timestamp>) -> Next {
        let id = |step: usize| self.plan.steps[step].id.clone();
        let blocked: Vec<usize> = self.work.unknown.iter().copied().filter(|s| self.is_blocked(*s)).collect();
        if let (Some(at), false) = (delayed, self.failure_holds()) {
            // The kill does not wait for the next try.
            let kill = self.kills_at().filter(|kill| *kill > now);
            return Next::Sleep(kill.map_or(at, |kill| kill.min(at)));
        }
        if !blocked.is_empty() {
            return stop(Stop::Unknown { steps: blocked.into_iter().map(id).collect() });
        }
        if let Some(&step) = self.work.failed.first() {
            return self.after_failure(step);
        }
        let Some(phase) = self.phase else {
            return match self.direction {
                Direction::Forward => Next::Record(Event::Entered { phase: Phase::Preflight }),
                Direction::Back { .. } => self.rolled_back(),
            };
        };
        match &self.direction {
            // What was enabled again is not used before everybody knows that it is valid.
            Direction::Back { .. } if phase == Phase::Sunset && now < self.settled(phase) => {
                match (wishes.no_wait, self.settled(phase)) {
                    (true, resume_at) => stop(Stop::Waiting { resume_at }),
                    (false, at) => Next::Sleep(at),
                }
            }
            Direction::Back { to, .. } => match self.before(phase) {
                None => self.rolled_back(),
                Some(before) if Some(before) == *to => Next::Record(Event::Returned { phase: before }),
                Some(before) => Next::Record(Event::Entered { phase: before }),
            },
            Direction::Forward => self.wait(phase, now, wishes),
        }
    }

    fn rolled_back(&self) -> Next {
        let by_gate = matches!(self.direction, Direction::Back { by_gate: true, .. });
        let end = if by_gate { End::GateRolledBack } else { End::RolledBack };
        Next::Record(Event::Closed { end })
    }

    fn after_failure(&self, step: usize) -> Next {
        let id = self.plan.steps[step].id.clone();
        let Status::Failed { failure, .. } = &self.steps[step].status else {
            return stop(Stop::Failed { step: id });
        };
        if failure.kind == ErrorKind::Unanswered {
            return stop(Stop::Unanswered { step: id });
        }
        if self.direction != Direction::Forward {
            return stop(Stop::Stuck { step: id });
        }
        if !self.changed {
            return Next::Record(Event::Closed { end: End::Failed });
        }
        // Incoming is not what it should be. Under overlap nobody depends on it yet, or everybody
        // can go back; under contain, once the old one is killed, going back would hand the attacker the
        // credential again.
        let refused = matches!(self.plan.steps[step].action, Action::Accept { .. } | Action::Inspect { .. })
            && matches!(failure.kind, ErrorKind::Declined | ErrorKind::Refused);
        if refused && self.may_turn() {
            return Next::Record(self.turned(failure.message.clone()));
        }
        stop(Stop::Failed { step: id })
    }

    /// Whether the engine may begin a rollback by itself.
    fn may_turn(&self) -> bool {
        let killed = self.has_killed() || self.has_replaced();
        (self.plan.strategy == Strategy::Overlap || !killed) && !self.is_past_return()
    }

    /// The engine's own word to go back.
    fn turned(&self, why: String) -> Event {
        Event::Turned { to: None, why, by_gate: true, from: self.undone_first() }
    }

    /// The phase's steps are done: what does it wait for?
    fn wait(&self, phase: Phase, now: Timestamp, wishes: &Wishes) -> Next {
        let Some(waits) = self.plan.phase(phase) else {
            return self.leave(phase, now, wishes);
        };
        let verdict = |gate: &String| self.judged.get(gate).map(|(v, _)| *v);
        if let Some(gate) = waits.until.iter().find(|g| verdict(g) == Some(Verdict::Fail)) {
            let detail = self.judged.get(gate).map(|(_, d)| d.clone()).unwrap_or_default();
            // A credential that was proved dead and works again is not answered by giving it back.
            if gate == REFUSED {
                let mut names: Vec<String> =
                    self.let_in_again().map(|c| self.plan.credentials[c].name.clone()).collect();
                names.dedup();
                return stop(Stop::LetIn { credentials: names });
            }
            return if self.may_turn() {
                Next::Record(self.turned(format!("gate `{gate}` failed: {detail}")))
            } else {
                stop(Stop::GateFailed { gate: gate.clone() })
            };
        }
        let open = |g: &&String| verdict(g) != Some(Verdict::Pass) && !self.is_vouched(g);
        let missing: Vec<String> = waits.until.iter().filter(open).cloned().collect();
        let earliest = self.earliest(waits);
        let latest = add(self.patience.max(self.entered), waits.at_most.get()).max(earliest);
        if now >= earliest && missing.is_empty() {
            return self.leave(phase, now, wishes);
        }
        if now >= latest && !missing.is_empty() {
            return stop(Stop::Inconclusive { phase, gates: missing });
        }
        // Every gate is asked at least once before a session gives up waiting.
        let asked = waits.until.iter().all(|g| verdict(g).is_some());
        if wishes.no_wait && asked {
            return stop(Stop::Waiting { resume_at: earliest.max(now) });
        }
        Next::Wait(if now < earliest { earliest } else { latest })
    }

    fn leave(&self, phase: Phase, now: Timestamp, wishes: &Wishes) -> Next {
        let order = Phase::order(self.plan.strategy);
        let rank = |p: Phase| order.iter().position(|o| *o == p);
        if wishes.until.is_some_and(|until| rank(until) <= rank(phase)) {
            return stop(Stop::Until { phase });
        }
        if let Some(phase) = self.after(phase)
            && !self.is_approved(phase, now)
        {
            return match wishes.unattended || wishes.no_wait {
                true => stop(Stop::Unapproved { phase }),
                false => Next::Wait(add(now, APPROVAL)),
            };
        }
        if self.after(phase) == Some(Phase::Cutover) {
            match self.window(now) {
                Opening::Now => {}
                Opening::At(at) if !wishes.no_wait => return Next::Wait(at),
                Opening::At(at) => return stop(Stop::OutsideWindow { opens: Some(at) }),
                Opening::Never => return stop(Stop::OutsideWindow { opens: None }),
            }
        }
        Next::Record(match self.after(phase) {
            Some(phase) => Event::Entered { phase },
            None if self.unproved().is_empty() => Event::Closed { end: End::Done },
            None => Event::Closed { end: End::NotProved },
        })
    }
}

fn stop(reason: Stop) -> Next {
    Next::Record(Event::Stopped { reason })
}
