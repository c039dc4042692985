//! The state of a run: a fold over its events.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::event::{End, Ended, Event, Facts, Failure, Found, Holds, Op, Sight, Stop};
use super::status::{Direction, Status, StepState, fresh};
use super::work::Work;
use crate::clock::add;
use crate::domain::Phase;
use crate::domain::{ErrorKind, Observation, Verdict};
use crate::plan::{Action, Plan, Step};

/// An event does not fit the state: the journal is damaged, or the program is wrong.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{event} cannot follow here: {subject} is {state}")]
pub struct IllegalTransition {
    /// The event.
    pub event: &'static str,
    /// What it concerns.
    pub subject: String,
    /// The state that it met.
    pub state: String,
}

/// What was seen of one credential's place in the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What each of its stores hands out.
    pub stores: Vec<Holds>,
    /// The old credential.
    pub outgoing: Sight,
    /// The new credential.
    pub incoming: Sight,
}

/// The state of a run.
#[derive(Debug, Clone)]
pub struct State {
    pub(super) plan: Arc<Plan>,
    index: Arc<HashMap<String, usize>>,
    /// By the plan's index.
    pub(super) steps: Vec<StepState>,
    pub(super) opened: Timestamp,
    pub(super) phase: Option<Phase>,
    pub(super) entered: Timestamp,
    /// When this session's patience began: entering the phase, or resuming in it.
    pub(super) patience: Timestamp,
    pub(super) direction: Direction,
    pub(super) halted: Option<String>,
    pub(super) end: Option<End>,
    stopped: Option<Stop>,
    /// The phase that a rollback led back to, until somebody resumes.
    pub(super) returned: Option<Phase>,
    pub(super) judged: BTreeMap<String, (Verdict, String)>,
    pub(super) adopted: BTreeMap<(String, String), (usize, usize)>,
    pub(super) changed: bool,
    /// Under `contain`: the kill goes on although the new credential is not ready.
    pub(super) deferred: bool,
    /// What was last seen of each credential, and when.
    seen: BTreeMap<String, (Timestamp, Seen)>,
    pub(super) work: Work,
}

/// How long after a call that was not answered its target is looked at. Until then the server may still
/// do what it was asked (a proxy or a queue held it), and then its reads and lists may still show for a
/// while what was before: IAM's did for 3 to 4 s in one published measurement. So much for each.
pub(crate) const SETTLE: Duration = Duration::from_secs(8);
/// The first wait after a failure that may pass; doubled with each try.
const BACKOFF: Duration = Duration::from_millis(500);
/// The longest wait that doubling leads to.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

impl State {
    /// The state right after a run was opened.
    pub fn new(plan: Arc<Plan>, opened: Timestamp) -> Self {
        let steps = vec![StepState::new(); plan.steps.len()];
        let index = plan.steps.iter().enumerate().map(|(at, s)| (s.id.clone(), at)).collect();
        Self {
            plan,
            index: Arc::new(index),
            steps,
            opened,
            phase: None,
            entered: opened,
            patience: opened,
            direction: Direction::Forward,
            halted: None,
            end: None,
            stopped: None,
            returned: None,
            judged: BTreeMap::new(),
            adopted: BTreeMap::new(),
            changed: false,
            deferred: false,
            seen: BTreeMap::new(),
            work: Work::default(),
        }
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// When the run was opened.
    pub fn opened(&self) -> Timestamp {
        self.opened
    }

    /// The phase that the run is in; `None` before the first.
    pub fn phase(&self) -> Option<Phase> {
        self.phase
    }

    /// When the phase began.
    pub fn entered(&self) -> Timestamp {
        self.entered
    }

    /// When this session's patience began: entering the phase, or resuming in it.
    pub fn patience(&self) -> Timestamp {
        self.patience
    }

    /// When a check of a new credential passed, if that was in this process.
    pub fn verified(&self, step: usize) -> Option<Timestamp> {
        self.steps[step].verified
    }

    /// Which way the run goes.
    pub fn direction(&self) -> &Direction {
        &self.direction
    }

    /// Who set the latch and why, while it is set.
    pub fn halted(&self) -> Option<&str> {
        self.halted.as_deref()
    }

    /// How the run ended, once it has.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// Why the last process stopped, if it said so.
    pub fn stopped(&self) -> Option<&Stop> {
        self.stopped.as_ref()
    }

    /// How many steps have an intent and no outcome, in this process.
    pub fn under_way(&self) -> usize {
        self.work.started.len()
    }

    /// How many of those only ask, with waits in between.
    pub fn asking(&self) -> usize {
        self.work.started.iter().filter(|at| self.plan.steps[**at].action.asks()).count()
    }

    /// Where a step stands.
    pub fn status(&self, step: usize) -> &Status {
        &self.steps[step].status
    }

    /// A step by its id.
    pub fn step(&self, id: &str) -> Option<usize> {
        self.index.get(id).copied()
    }

    /// What a finished step left for later ones.
    pub fn fact(&self, step: usize, name: &str) -> Option<&str> {
        self.steps[step].facts.get(name).map(String::as_str)
    }

    /// How often a step was taken back.
    pub fn round(&self, step: usize) -> u32 {
        self.steps[step].round
    }

    /// When the first intent of a step's present round was recorded.
    pub fn since(&self, step: usize) -> Option<Timestamp> {
        self.steps[step].since
    }

    /// When the last intent to do a step in its present round was recorded.
    pub fn last(&self, step: usize) -> Option<Timestamp> {
        self.steps[step].last
    }

    /// The gates' last verdicts in this session.
    pub fn judged(&self) -> &BTreeMap<String, (Verdict, String)> {
        &self.judged
    }

    /// Of each credential and consumer: how many instances use the wanted version, of how many.
    pub fn adopted(&self) -> &BTreeMap<(String, String), (usize, usize)> {
        &self.adopted
    }

    /// Whether something was done that cannot be taken back.
    pub fn is_past_return(&self) -> bool {
        self.steps.iter().any(|step| step.irrevocable)
    }

    /// Whether anything outside was, or may have been, changed.
    pub fn has_changed_anything(&self) -> bool {
        self.changed
    }

    /// What was last seen of a credential's place in the world, and when.
    pub fn seen(&self, credential: &str) -> Option<&(Timestamp, Seen)> {
        self.seen.get(credential)
    }

    /// Takes in a look that is not on record.
    pub fn see(&mut self, credential: &str, at: Timestamp, seen: Seen) {
        self.seen.insert(credential.to_owned(), (at, seen));
    }

    /// Whether a promotion is to be done over whatever its store holds.
    pub fn is_rewritten(&self, step: usize) -> bool {
        self.steps[step].overwrites
    }

    /// The steps whose outcome nobody knows.
    pub fn unknown(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.steps.len()).filter(|s| matches!(self.status(*s), Status::Unknown { .. }))
    }

    /// Whether later steps need to know of an unknown step what only its server's answer says (which
    /// credential, which version), so that nobody's word that it took effect is enough.
    pub fn needs_its_answer(&self, step: usize) -> bool {
        let (Status::Unknown { op, .. } | Status::Started { op, .. } | Status::Failed { op, .. }) =
            self.steps[step].status
        else {
            return false;
        };
        match self.plan.steps[step].action {
            Action::Issue { .. } | Action::Stage { .. } => op == Op::Do,
            // What a swap back wrote is what the next way there starts from.
            Action::Promote { .. } => true,
            _ => false,
        }
    }

    /// The failure that a step ended in.
    pub fn failure(&self, step: usize) -> Option<&Failure> {
        match &self.steps[step].status {
            Status::Failed { failure, .. } => Some(failure),
            _ => None,
        }
    }

    /// Folds one event in.
    ///
    /// # Errors
    /// When the event cannot follow in this state. The state is then unchanged.
    pub fn apply(&mut self, event: &Event, at: Timestamp) -> Result<(), IllegalTransition> {
        if let (Some(end), false) =
            (self.end, matches!(event, Event::Checkpoint { .. } | Event::Repaired { .. }))
        {
            return Err(illegal(event, "the run".into(), format!("closed ({end:?})")));
        }
        match event {
            Event::Opened { .. } => return Err(illegal(event, "the run".into(), "open".into())),
            Event::Resumed {} => self.resume(at),
            Event::Entered { phase } => self.enter(event, *phase, at)?,
            Event::Intent { step, op, attempt, round } => {
                self.intend(event, step, *op, *attempt, *round, at)?;
            }
            Event::Outcome { step, op, attempt, result, facts, error, .. } => {
                let step = self.started(event, step, *op, *attempt)?;
                match result {
                    Ended::Succeeded => {
                        if let Action::Accept { .. } = self.plan.steps[step].action {
                            self.steps[step].verified = Some(at);
                        }
                        self.succeed(step, *op, facts.clone());
                    }
                    Ended::Rejected => self.reject(step, *op, *attempt, error.as_ref(), at),
                    Ended::Unknown => {
                        let wait = if *op == Op::Discard {
                            backoff(*attempt)
                        } else {
                            settling(&self.plan.steps[step])
                        };
                        self.doubt(step, *op, *attempt, 0, Some(add(at, wait)));
                    }
                }
            }
            Event::Settled { step, op, attempt, found, facts, .. } => {
                let (step, looks) = self.in_doubt(event, step, *op, *attempt)?;
                self.settle(step, *op, *attempt, found, facts, looks, at);
            }
            Event::Resolved { step, applied, .. } => {
                let at_step = self.find(event, step)?;
                if let Status::Failed { op, .. } = self.steps[at_step].status {
                    return self.overrule(event, at_step, op, *applied);
                }
                let Status::Unknown { op, attempt, .. } = self.steps[at_step].status else {
                    return Err(self.misfit(event, at_step));
                };
                let found = if *applied { Found::Applied } else { Found::Absent };
                self.settle(at_step, op, attempt, &found, &Facts::new(), 0, at);
            }
            Event::Judged { gate, verdict, detail } => {
                self.judged.insert(gate.clone(), (*verdict, detail.clone()));
            }
            Event::Adopted { credential, consumer, instances, of } => {
                self.adopted.insert((credential.clone(), consumer.clone()), (*instances, *of));
            }
            Event::Turned { to, why, by_gate } => self.turn(event, *to, why, *by_gate)?,
            Event::Returned { phase } => self.arrive(event, *phase, at)?,
            Event::Forward { .. } => self.forward(event, at)?,
            Event::Deferred {} => self.defer(event)?,
            Event::Reissue { credential } => self.reissue(event, credential)?,
            Event::Rewrite { credential } => self.rewrite(event, credential, at)?,
            Event::Seen { credential, stores, outgoing, incoming } => {
                let seen = Seen { stores: stores.clone(), outgoing: *outgoing, incoming: *incoming };
                self.seen.insert(credential.clone(), (at, seen));
            }
            Event::Halted { by, reason } => self.halted = Some(format!("{by}: {reason}")),
            Event::HaltCleared { .. } => self.halted = None,
            Event::Stopped { reason } => self.stopped = Some(reason.clone()),
            Event::Closed { end } => self.close(event, *end)?,
            Event::Heartbeat {} | Event::Noted { .. } | Event::Repaired { .. } | Event::Checkpoint { .. } => {
            }
        }
        Ok(())
    }

    fn close(&mut self, event: &Event, end: End) -> Result<(), IllegalTransition> {
        let last = self.phase.is_some_and(|p| self.plan.after(p).is_none());
        let finished = self.work.open == 0 && last && self.direction == Direction::Forward;
        if matches!(end, End::Done | End::NotProved) && !finished
            || (end == End::Done && !self.unproved().is_empty())
        {
            let state = format!("in {:?} with {} open steps", self.phase, self.work.open);
            return Err(illegal(event, "the run".into(), state));
        }
        self.end = Some(end);
        Ok(())
    }

    fn resume(&mut self, at: Timestamp) {
        (self.stopped, self.returned) = (None, None);
        self.seen.clear();
        // Yesterday's verdicts prove nothing today.
        self.judged.clear();
        self.patience = at;
        let plan = Arc::clone(&self.plan);
        for (step, known) in plan.steps.iter().zip(&mut self.steps) {
            // Another process may have another clock.
            known.verified = None;
            let status = &mut known.status;
            let settled = Some(add(at, settling(step)));
            match status {
                Status::Started { .. } if !step.is_effect() => {
                    *status = Status::pending();
                }
                Status::Started { op, attempt } => {
                    self.changed = true;
                    *status = Status::Unknown { op: *op, attempt: *attempt, looks: 0, not_before: settled };
                }
                Status::Unknown { looks, not_before, .. } => (*looks, *not_before) = (0, settled),
                // Somebody who resumes has mended what was broken: everything gets its tries again.
                Status::Failed { op: Op::Do, .. } if self.direction != Direction::Forward => {
                    *status = Status::Undone;
                }
                Status::Failed { op, orphans, .. } => *status = fresh(*op, std::mem::take(orphans)),
                Status::Pending { not_before, .. }
                | Status::Undoing { not_before, .. }
                | Status::Orphaned { not_before, .. } => *not_before = None,
                // What was refused yesterday may be let in today.
                Status::Done if matches!(step.action, Action::Reject { .. }) => {
                    *status = fresh(Op::Do, Vec::new())
                }
                Status::Done | Status::Undone => {}
            }
        }
        self.draw_up();
    }

    fn intend(
        &mut self,
        event: &Event,
        id: &str,
        op: Op,
        attempt: u32,
        round: u32,
        at: Timestamp,
    ) -> Result<(), IllegalTransition> {
        let step = self.find(event, id)?;
        let fits = self.halted.is_none()
            && round == self.round(step)
            && match (&self.steps[step].status, op) {
                (Status::Pending { attempt: next, .. }, Op::Do)
                | (Status::Undoing { attempt: next, .. }, Op::Undo)
                | (Status::Orphaned { discard: next, .. }, Op::Discard) => attempt == *next,
                _ => false,
            };
        if !fits {
            return Err(self.misfit(event, step));
        }
        if self.plan.steps[step].is_effect() {
            let known = &mut self.steps[step];
            known.since.get_or_insert(at);
            if op == Op::Do {
                known.last = Some(at);
                known.irrevocable |= self.plan.steps[step].irreversible;
            }
        }
        self.work.ready.remove(&step);
        self.work.started.insert(step);
        if op != Op::Discard {
            self.steps[step].status = Status::Started { op, attempt };
        }
        Ok(())
    }

    fn succeed(&mut self, step: usize, op: Op, facts: Facts) {
        self.forget_work(step);
        self.changed |= self.plan.steps[step].is_effect();
        let known = &mut self.steps[step];
        known.conflict = None;
        match op {
            Op::Do => {
                if !facts.is_empty() {
                    known.facts = facts;
                }
                known.status = Status::Done;
                // Said for what stood there then, and not for what others write later.
                known.overwrites = false;
                self.finish(step);
            }
            Op::Undo => {
                known.status = Status::Undone;
                // What the way back left (a restored version) is what the next way there starts from.
                known.facts = facts;
                known.touched = false;
                known.next_round();
                self.finish(step);
            }
            Op::Discard => {
                let attempt = match known.status {
                    Status::Orphaned { attempt, .. } => attempt + 1,
                    _ => 1,
                };
                known.next_round();
                if self.direction != Direction::Forward {
                    self.steps[step].status = Status::Undone;
                    self.finish(step);
                } else if attempt > self.plan.runbook.limits.attempts {
                    self.fail(step, Op::Do, exhausted("the response to every attempt was lost"));
                } else {
                    self.steps[step].status = Status::Pending { attempt, not_before: None };
                    self.work.ready.insert(step);
                }
            }
        }
    }

    /// The call definitely changed nothing.
    fn reject(&mut self, step: usize, op: Op, attempt: u32, failure: Option<&Failure>, at: Timestamp) {
        self.forget_work(step);
        let failure =
            failure.cloned().unwrap_or_else(|| exhausted("the server rejected it without a reason"));
        if failure.kind == ErrorKind::Cancelled {
            self.again(step, op, attempt, None);
            return;
        }
        // A mismatch may be our own write: an earlier try's, an earlier session's, or this one's, when
        // something on the way repeats requests. On the way back somebody may have restored by hand
        // what is to be restored.
        let observable = self.plan.steps[step].class.is_some_and(|c| c != Observation::Opaque);
        // And so may be the credential that leaves no room for another one.
        let full =
            failure.kind == ErrorKind::Limit && matches!(self.plan.steps[step].action, Action::Issue { .. });
        if (failure.kind == ErrorKind::Conflict || full) && observable && op != Op::Discard {
            self.steps[step].conflict = Some(Box::new(failure));
            self.doubt(step, op, attempt, 0, Some(add(at, settling(&self.plan.steps[step]))));
            return;
        }
        // A look that got no answer changed nothing and can be taken again.
        let passing = failure.kind.is_transient() || failure.kind == ErrorKind::NoAnswer;
        // Steps that ask have their own patience, which `at_most` bounds.
        let passing = passing && !self.plan.steps[step].action.asks();
        if passing && attempt < self.plan.runbook.limits.attempts {
            let asked = failure.retry_after_ms.map(Duration::from_millis).unwrap_or_default();
            self.again(step, op, attempt + 1, Some(add(at, backoff(attempt).max(asked).min(MAX_BACKOFF))));
            return;
        }
        self.fail(step, op, failure);
    }

    fn fail(&mut self, step: usize, op: Op, failure: Failure) {
        if op == Op::Do {
            self.spare(step);
        }
        let orphans = match &mut self.steps[step].status {
            Status::Orphaned { handles, .. } => std::mem::take(handles),
            _ => Vec::new(),
        };
        self.steps[step].status = Status::Failed { op, failure, orphans };
        self.work.failed.insert(step);
    }

    /// A try that definitely did not take effect leaves the way back open, unless an earlier one may have.
    fn spare(&mut self, step: usize) {
        let known = &mut self.steps[step];
        known.irrevocable &= known.touched;
    }

    /// A person says of a failed step what it is like now.
    fn overrule(
        &mut self,
        event: &Event,
        step: usize,
        op: Op,
        applied: bool,
    ) -> Result<(), IllegalTransition> {
        if op == Op::Discard || (applied && self.needs_its_answer(step)) {
            return Err(self.misfit(event, step));
        }
        self.forget_work(step);
        self.changed = true;
        match (op, applied) {
            // It is done, or undone, by hand.
            (_, true) => self.succeed(step, op, self.steps[step].facts.clone()),
            // It never took effect: on the way back there is nothing to undo.
            (_, false) if self.direction != Direction::Forward => {
                self.steps[step].status = Status::Undone;
                self.finish(step);
            }
            (_, false) => self.again(step, op, 1, None),
        }
        Ok(())
    }

    /// The step gets another try.
    fn again(&mut self, step: usize, op: Op, attempt: u32, not_before: Option<Timestamp>) {
        match op {
            Op::Do if self.direction != Direction::Forward => {
                // It did not take effect, and nobody wants it any more.
                self.steps[step].status = Status::Undone;
                self.finish(step);
                return;
            }
            Op::Do => {
                self.spare(step);
                self.steps[step].status = Status::Pending { attempt, not_before };
            }
            Op::Undo => self.steps[step].status = Status::Undoing { attempt, not_before },
            Op::Discard => {
                if let Status::Orphaned { discard, not_before: wait, .. } = &mut self.steps[step].status {
                    (*discard, *wait) = (attempt, not_before);
                }
            }
        }
        self.work.ready.insert(step);
    }

    fn doubt(&mut self, step: usize, op: Op, attempt: u32, looks: u32, not_before: Option<Timestamp>) {
        self.forget_work(step);
        if op == Op::Discard {
            // Revoking what is dead succeeds: it is simply done again, after a while and not for ever.
            if attempt >= self.plan.runbook.limits.attempts {
                self.fail(step, op, exhausted("the credential of a lost response could not be revoked"));
            } else {
                self.again(step, op, attempt + 1, not_before);
            }
            return;
        }
        self.changed |= self.plan.steps[step].is_effect();
        self.steps[step].status = Status::Unknown { op, attempt, looks, not_before };
        self.work.unknown.insert(step);
    }

    #[expect(clippy::too_many_arguments, reason = "they are the fields of one event")]
    fn settle(
        &mut self,
        step: usize,
        op: Op,
        attempt: u32,
        found: &Found,
        facts: &Facts,
        looks: u32,
        at: Timestamp,
    ) {
        match found {
            Found::Applied => self.succeed(step, op, facts.clone()),
            // A reload that may have been made is taken back as if it had been: else a consumer would
            // keep a credential that the way back revokes.
            Found::Repeatable if op == Op::Do && self.direction != Direction::Forward => {
                self.succeed(step, op, facts.clone());
            }
            Found::Absent | Found::Repeatable => {
                self.forget_work(step);
                if *found == Found::Repeatable && op == Op::Do {
                    self.steps[step].touched = true;
                    // Turned before its next try, it is taken back with what was found now.
                    if !facts.is_empty() {
                        self.steps[step].facts = facts.clone();
                    }
                }
                let unwanted = op == Op::Do && self.direction != Direction::Forward;
                let conflict = self.steps[step].conflict.take().filter(|_| *found == Found::Absent);
                if let (Some(conflict), false) = (conflict, unwanted) {
                    // Somebody else's write it is, and another try would meet it again.
                    self.fail(step, op, *conflict);
                } else if attempt < self.plan.runbook.limits.attempts || unwanted {
                    let wait = add(at, backoff(attempt));
                    self.again(step, op, attempt + 1, Some(wait));
                } else {
                    self.fail(step, op, exhausted("no try took effect"));
                }
            }
            Found::Orphans(handles) => {
                self.forget_work(step);
                self.steps[step].status =
                    Status::Orphaned { attempt, handles: handles.clone(), discard: 1, not_before: None };
                self.work.ready.insert(step);
            }
            Found::Undecided => {
                let looks = looks + 1;
                self.doubt(step, op, attempt, looks, Some(add(at, backoff(looks))));
            }
        }
    }

    fn find(&self, event: &Event, id: &str) -> Result<usize, IllegalTransition> {
        self.step(id).ok_or_else(|| illegal(event, format!("step `{id}`"), "not in the plan".into()))
    }

    fn started(&self, event: &Event, id: &str, op: Op, attempt: u32) -> Result<usize, IllegalTransition> {
        let step = self.find(event, id)?;
        let fits = match &self.steps[step].status {
            Status::Started { op: o, attempt: a } => *o == op && *a == attempt,
            Status::Orphaned { discard, .. } => {
                op == Op::Discard && *discard == attempt && self.work.started.contains(&step)
            }
            _ => false,
        };
        if fits { Ok(step) } else { Err(self.misfit(event, step)) }
    }

    fn in_doubt(
        &self,
        event: &Event,
        id: &str,
        op: Op,
        attempt: u32,
    ) -> Result<(usize, u32), IllegalTransition> {
        let step = self.find(event, id)?;
        match self.steps[step].status {
            Status::Unknown { op: o, attempt: a, looks, .. } if o == op && a == attempt => Ok((step, looks)),
            _ => Err(self.misfit(event, step)),
        }
    }

    fn misfit(&self, event: &Event, step: usize) -> IllegalTransition {
        let subject = format!("step `{}`", self.plan.steps[step].id);
        let halted = if self.halted.is_some() { ", and the run is halted" } else { "" };
        illegal(event, subject, format!("{:?}{halted}", self.steps[step].status))
    }
}

/// How long after an unanswered call a step's target is looked at. What is merely done again needs no wait.
fn settling(step: &Step) -> Duration {
    match step.class {
        None | Some(Observation::Idempotent | Observation::Opaque) => Duration::ZERO,
        Some(_) => SETTLE,
    }
}

pub(super) fn illegal(event: &Event, subject: String, state: String) -> IllegalTransition {
    IllegalTransition { event: event.name(), subject, state }
}

fn exhausted(message: &str) -> Failure {
    Failure {
        kind: ErrorKind::Invalid,
        message: message.into(),
        hint: None,
        request_id: None,
        retry_after_ms: None,
    }
}

/// The wait before the try after this one.
fn backoff(attempt: u32) -> Duration {
    BACKOFF.saturating_mul(1 << attempt.saturating_sub(1).min(10)).min(MAX_BACKOFF)
}
