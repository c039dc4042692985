//! Folds events into the state, and refuses those that cannot follow.

use std::sync::Arc;

use jiff::Timestamp;

use super::end::End;
use super::event::Event;
use super::outcome::{Ended, Facts, Found, Op};
use super::seen::Seen;
use super::state::{Direction, State};
use super::step::{Status, fresh};
use super::transition::settling;
use crate::clock::add;
use crate::domain::{Check, Phase, REFUSED, Verdict};
use crate::plan::Action;

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

pub(super) fn illegal(event: &Event, subject: String, state: String) -> IllegalTransition {
    IllegalTransition { event: event.name(), subject, state }
}

impl State {
    /// Folds one event in.
    ///
    /// # Errors
    /// When the event cannot follow in this state. The state is then unchanged.
    pub fn apply(&mut self, event: &Event, at: Timestamp) -> Result<(), IllegalTransition> {
        if let (Some(end), false) =
            (self.end, matches!(event, Event::Checkpoint { .. } | Event::Repaired { .. }))
        {
            return Err(illegal(event, "the run".into(), format!("closed ({end})")));
        }
        if matches!(event, Event::Outcome { .. } | Event::Settled { .. } | Event::Resolved { .. }) {
            self.moved = at;
        }
        match event {
            Event::Opened { .. } => return Err(illegal(event, "the run".into(), "open".into())),
            Event::Resumed {} => self.resume(at),
            Event::Entered { phase } => self.enter(event, *phase, at)?,
            Event::Intent { step, op, attempt, round } => {
                self.intend(event, step, *op, *attempt, *round, at)?;
            }
            Event::Outcome { step, op, attempt, result, facts, error, checks, .. } => {
                let step = self.started(event, step, *op, *attempt)?;
                self.learn_identity(step, checks);
                match result {
                    Ended::Succeeded => {
                        if let Action::Accept { .. } = self.plan.steps[step].action {
                            self.steps[step].verified = Some(at);
                        }
                        self.succeed(step, *op, facts.clone());
                    }
                    Ended::Rejected => self.reject(step, *op, *attempt, error.as_ref(), at),
                    Ended::Unknown => self.lose_reply(step, *op, *attempt, error.as_ref(), at),
                }
            }
            Event::Settled { step, op, attempt, found, facts, .. } => {
                let (step, looks) = self.in_doubt(event, step, *op, *attempt)?;
                self.settle(step, *op, *attempt, found, facts, looks, at);
            }
            Event::Resolved { step, applied, facts, .. } => {
                let at_step = self.find(event, step)?;
                if let Status::Failed { op, .. } = self.steps[at_step].status {
                    return self.overrule(event, at_step, op, *applied, facts);
                }
                if !applied && self.may_repeat(at_step) {
                    self.repeat(at_step, at);
                    return Ok(());
                }
                let Status::Unknown { op, attempt, .. } = self.steps[at_step].status else {
                    return Err(self.mismatch(event, at_step));
                };
                let found = if *applied { Found::Applied } else { Found::Absent };
                self.settle(at_step, op, attempt, &found, facts, 0, at);
            }
            Event::Judged { gate, verdict, detail } => {
                // What was accepted once is not refused by the next answer: the session stops for it.
                let sticks = gate == REFUSED
                    && self.judged.get(gate).is_some_and(|(before, _)| *before == Verdict::Fail);
                if !sticks {
                    self.judged.insert(gate.clone(), (*verdict, detail.clone()));
                    if gate == REFUSED && *verdict == Verdict::Pass {
                        self.let_in.clear();
                    }
                }
            }
            Event::LetIn { step, .. } => {
                let step = self.find(event, step)?;
                let proves = matches!(self.plan.steps[step].action, Action::Reject { .. });
                if !proves || self.phase != Some(Phase::Proof) {
                    return Err(self.misplaced(event));
                }
                self.let_in.insert(step, at);
            }
            Event::Vouched { gate, phase, .. } => {
                if self.phase != Some(*phase) || !self.may_vouch(gate) {
                    return Err(illegal(event, format!("gate `{gate}`"), "not waited for".into()));
                }
                self.vouched.insert(gate.clone());
                self.vouches.push((gate.clone(), *phase));
            }
            Event::Adopted { credential, consumer, instances, of } => {
                self.adopted.insert((credential.clone(), consumer.clone()), (*instances, *of));
            }
            Event::Turned { to, why, by_gate, from } => self.turn(event, *to, why, *by_gate, *from)?,
            Event::Returned { phase } => self.return_to(event, *phase, at)?,
            Event::Forward { .. } => self.forward(event, at)?,
            Event::Deferred {} => self.defer(event)?,
            Event::Reissue { credential, takes_back } => self.reissue(event, credential, *takes_back)?,
            Event::Rewrite { credential, takes_back } => self.rewrite(event, credential, *takes_back, at)?,
            Event::Seen { credential, stores, outgoing, incoming } => {
                let seen = Seen { stores: stores.clone(), outgoing: *outgoing, incoming: *incoming };
                self.seen.insert(credential.clone(), (at, seen));
            }
            Event::Requested { .. } => self.request(event)?,
            Event::Approved { .. } => self.approve(event, at)?,
            Event::BrokeGlass { .. } => self.break_glass(event)?,
            Event::WindowOverridden { by, reason } => {
                if !self.may_hurry() {
                    return Err(self.misplaced(event));
                }
                self.hurries = true;
                self.hurried = Some(format!("{by}: {reason}"));
            }
            Event::Identified { who } => self.people.push(who.clone()),
            Event::Halted { by, reason } => self.halted = Some(format!("{by}: {reason}")),
            Event::HaltCleared { .. } => self.halted = None,
            Event::Stopped { reason } => self.stopped = Some(reason.clone()),
            Event::Closed { end } => {
                self.close(event, *end)?;
                self.ended = Some(at);
            }
            // What a drill does to people changes nothing that the run knows.
            Event::Drill { .. }
            | Event::Injected { .. }
            | Event::Skipped { .. }
            | Event::Answered { .. }
            | Event::Traced { .. }
            | Event::Heartbeat {}
            | Event::Noted { .. }
            | Event::Repaired { .. }
            | Event::Checkpoint { .. } => {}
        }
        Ok(())
    }

    /// Keeps who the run is to a server, where the server said so.
    fn learn_identity(&mut self, step: usize, checks: &[Check]) {
        let Action::Connection { connection } = &self.plan.steps[step].action else { return };
        if let Some(check) = checks.iter().find(|check| check.name == "identity") {
            self.identities.insert(connection.clone(), check.detail.clone());
        }
    }

    fn close(&mut self, event: &Event, end: End) -> Result<(), IllegalTransition> {
        let last = self.phase.is_some_and(|p| self.plan.after(p).is_none());
        let finished = self.work.open == 0 && last && self.direction == Direction::Forward;
        if matches!(end, End::Done | End::NotProved) && !finished
            || (end == End::Done && !self.unproved().is_empty())
        {
            return Err(self.misplaced(event));
        }
        self.end = Some(end);
        Ok(())
    }

    fn resume(&mut self, at: Timestamp) {
        if !self.let_in.is_empty() {
            // The time for which the old credential was refused begins anew.
            self.entered = at;
        }
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
            let mut wait = settling(step);
            if plan.runs_program(step) {
                // It was left running, and may write for as long as a call may take.
                wait += plan.runbook.limits.deadline.get();
            }
            let settled = Some(add(at, wait));
            match status {
                Status::Started { .. } if !step.is_effect() => {
                    *status = Status::pending();
                }
                Status::Started { op, attempt } => {
                    self.changed = true;
                    known.doubted |= *op == Op::Do;
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
        self.rebuild_work();
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
            return Err(self.mismatch(event, step));
        }
        if self.plan.steps[step].is_effect() {
            let known = &mut self.steps[step];
            known.begun.get_or_insert(at);
            known.since.get_or_insert(at);
            if op == Op::Undo {
                known.last_undo = Some(at);
            }
            if op == Op::Do {
                known.last = Some(at);
                known.irrevocable |= self.plan.steps[step].irreversible;
            }
        }
        if attempt == 1 && op != Op::Discard {
            // An earlier session's tries were told something else.
            self.steps[step].told = None;
        }
        self.work.ready.remove(&step);
        self.work.started.insert(step);
        if op != Op::Discard {
            self.steps[step].status = Status::Started { op, attempt };
        }
        Ok(())
    }

    /// A person says of a failed step what it is like now.
    fn overrule(
        &mut self,
        event: &Event,
        step: usize,
        op: Op,
        applied: bool,
        facts: &Facts,
    ) -> Result<(), IllegalTransition> {
        if op == Op::Discard || (applied && self.needs_its_answer(step)) {
            return Err(self.mismatch(event, step));
        }
        self.forget_work(step);
        self.changed = true;
        match (op, applied) {
            // It is done, or undone, by hand.
            (_, true) => {
                let facts = if facts.is_empty() { self.steps[step].facts.clone() } else { facts.clone() };
                self.succeed(step, op, facts);
            }
            // It never took effect: on the way back there is nothing to undo.
            (_, false) if self.direction != Direction::Forward => {
                self.steps[step].status = Status::Undone;
                self.finish(step);
            }
            (_, false) => self.retry(step, op, 1, None),
        }
        Ok(())
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
        if fits { Ok(step) } else { Err(self.mismatch(event, step)) }
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
            _ => Err(self.mismatch(event, step)),
        }
    }

    fn mismatch(&self, event: &Event, step: usize) -> IllegalTransition {
        let subject = format!("step `{}`", self.plan.steps[step].id);
        let halted = if self.halted.is_some() { ", and the run is halted" } else { "" };
        illegal(event, subject, format!("{}{halted}", self.steps[step].status.word()))
    }

    /// The event does not fit where the run is.
    pub(super) fn misplaced(&self, event: &Event) -> IllegalTransition {
        let phase =
            self.phase.map_or_else(|| "before the first phase".to_owned(), |phase| format!("in {phase}"));
        let (open, direction) = (self.work.open, &self.direction);
        illegal(event, "the run".into(), format!("{phase} with {open} open steps, going {direction}"))
    }
}
