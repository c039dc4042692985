//! The course of a run: from phase to phase, back, and forward again.

use std::collections::BTreeSet;

use std::sync::Arc;

use jiff::Timestamp;

use super::apply::{IllegalTransition, illegal};
use super::event::Event;
use super::outcome::Op;
use super::state::{Direction, State};
use super::step::{Status, StepState, fresh};
use crate::domain::{ErrorKind, Phase, Strategy};
use crate::plan::Action;
use crate::sabotage::{Sabotage, is_on};

impl State {
    /// The phase after this one. What was deferred under `contain` is done once the old one is killed.
    pub(super) fn after(&self, phase: Phase) -> Option<Phase> {
        if phase == Phase::Sunset && self.plan.strategy == Strategy::Contain && self.is_unprepared() {
            return Some(Phase::Prepare);
        }
        self.plan.after(phase)
    }

    /// Whether steps of `prepare` remain to be done.
    fn is_unprepared(&self) -> bool {
        self.of(Phase::Prepare).any(|at| self.steps[at].status != Status::Done)
    }

    /// Whether something in `sunset` was, or may have been, done.
    pub(super) fn has_killed(&self) -> bool {
        self.of(Phase::Sunset).any(|at| self.may_be_in_effect(at) || self.steps[at].irrevocable)
    }

    /// Whether a step has, or may have, its effect.
    fn may_be_in_effect(&self, at: usize) -> bool {
        !matches!(
            self.steps[at].status,
            Status::Pending { .. } | Status::Undone | Status::Failed { op: Op::Do, .. }
        )
    }

    /// Whether a new credential took, or may have taken, the old one's place at its issuer.
    pub(super) fn has_replaced(&self) -> bool {
        self.of(Phase::Prepare).any(|at| match self.plan.steps[at].action {
            Action::Issue { credential } => {
                self.plan.credentials[credential].issuer.replaces() && self.may_be_in_effect(at)
            }
            _ => false,
        })
    }

    /// Whether the kill may go on before the new credential is ready: under `contain` it is only waited
    /// for so long.
    pub(crate) fn may_defer(&self) -> bool {
        self.plan.strategy == Strategy::Contain
            && self.phase == Some(Phase::Prepare)
            && self.direction == Direction::Forward
            && self.of(Phase::Sunset).next().is_some()
            && !self.has_killed()
    }

    /// A phase's place in the order of the strategy.
    fn rank(&self, phase: Phase) -> Option<usize> {
        Phase::order(self.plan.strategy).iter().position(|p| *p == phase)
    }

    fn of(&self, phase: Phase) -> impl Iterator<Item = usize> + '_ {
        (0..self.plan.steps.len()).filter(move |at| self.plan.steps[*at].phase == phase)
    }

    pub(super) fn defer(&mut self, event: &Event) -> Result<(), IllegalTransition> {
        if !self.may_defer() || !self.work.started.is_empty() || !self.is_unprepared() {
            return Err(self.misplaced(event));
        }
        self.deferred = true;
        Ok(())
    }

    pub(super) fn enter(
        &mut self,
        event: &Event,
        phase: Phase,
        at: Timestamp,
    ) -> Result<(), IllegalTransition> {
        let expected = match (&self.direction, self.phase) {
            (Direction::Forward, None) => Some(Phase::Preflight),
            (Direction::Forward, Some(now)) => self.after(now),
            (Direction::Back { .. }, Some(now)) => self.before(now),
            (Direction::Back { .. }, None) => None,
        };
        let left_open = self.deferred && self.phase == Some(Phase::Prepare);
        let idle = self.work.open == 0 || (left_open && self.work.started.is_empty());
        if expected != Some(phase) || !idle {
            return Err(self.misplaced(event));
        }
        if self.direction == Direction::Forward && !self.lacks(phase, None).is_empty() {
            return Err(illegal(event, format!("the phase {phase}"), "not approved".into()));
        }
        self.phase = Some(phase);
        // A person's word to go on was meant for this time.
        self.hurries &= phase != Phase::Cutover;
        (self.entered, self.patience) = (at, at);
        self.judged.clear();
        self.vouched.clear();
        self.deferred = false;
        self.rebuild_work();
        Ok(())
    }

    /// The phase before this one, in the order of the strategy.
    pub(super) fn before(&self, phase: Phase) -> Option<Phase> {
        let order = Phase::order(self.plan.strategy);
        let at = order.iter().position(|p| *p == phase)?;
        if is_on(Sabotage::Outage) && phase == Phase::Overlap {
            return Some(Phase::Verify);
        }
        at.checked_sub(1).map(|at| order[at])
    }

    pub(super) fn turn(
        &mut self,
        event: &Event,
        to: Option<Phase>,
        why: &str,
        by_gate: bool,
        from: Option<Phase>,
    ) -> Result<(), IllegalTransition> {
        if self.is_past_return() {
            return Err(illegal(event, "the run".into(), "past the point of no return".into()));
        }
        if !self.work.started.is_empty() {
            return Err(illegal(event, "the run".into(), "in the middle of calls".into()));
        }
        if self.phase.zip(from).is_some_and(|(now, from)| self.rank(from) < self.rank(now)) {
            return Err(illegal(event, "the run".into(), "in a later phase".into()));
        }
        self.direction = Direction::Back { to, why: why.to_owned(), by_gate };
        self.hurries = false;
        self.deferred = false;
        self.thorough = from.is_some();
        self.returned = None;
        self.judged.clear();
        self.vouched.clear();
        self.phase = match from {
            // So versions did it that recorded no `from`: what was killed first is revived first.
            None if self.phase == Some(Phase::Prepare) && self.has_killed() => Some(Phase::Sunset),
            from => from.or(self.phase),
        };
        let swapped = self.swapped();
        for (step, known) in self.plan.steps.iter().zip(&mut self.steps) {
            known.overwrites = false;
            // A reload that surely never reached its consumer needs no undo, unless the consumer can say
            // what it uses: it may have read the swapped store by itself.
            let reload_of_swapped = match step.action {
                Action::Reload { credential, consumer } => {
                    let spec = &self.plan.credential(credential).1.consumers[consumer];
                    swapped.contains(&credential) && (spec.attest.is_some() || spec.reload.is_none())
                }
                _ => false,
            };
            let status = &mut known.status;
            match status {
                // It may have happened, or a consumer may have read the swapped store by itself: it is
                // taken back, and waited for, as if it had.
                Status::Pending { .. } | Status::Failed { op: Op::Do, .. }
                    if known.touched || reload_of_swapped =>
                {
                    *status = Status::Done;
                }
                // Definitely nothing happened: there is nothing to take back.
                Status::Pending { .. } | Status::Failed { op: Op::Do, .. } => *status = Status::Undone,
                Status::Failed { op, orphans, .. } => *status = fresh(*op, std::mem::take(orphans)),
                Status::Started { .. } | Status::Unknown { .. } if !step.is_effect() => {
                    *status = Status::Undone;
                }
                _ => {}
            }
        }
        self.rebuild_work();
        Ok(())
    }

    /// The phase in which a rollback begins: this one, or a later one where something is in effect already, under
    /// `contain` or since a person had something done again. What was done last is undone first: the old credential
    /// is alive before a store hands it out, or the new one goes.
    pub(crate) fn undone_first(&self) -> Option<Phase> {
        let done = (0..self.plan.steps.len()).filter(|at| {
            self.plan.steps[*at].is_effect() && (self.steps[*at].touched || self.may_be_in_effect(*at))
        });
        done.map(|at| self.plan.steps[at].phase).chain(self.phase).max_by_key(|phase| self.rank(*phase))
    }

    /// The credentials of which some store has, or may have, the incoming version as its current one.
    fn swapped(&self) -> BTreeSet<usize> {
        let promoted = |status: &Status| {
            matches!(
                status,
                Status::Done | Status::Undoing { .. } | Status::Unknown { .. } | Status::Started { .. }
            )
        };
        let steps = self.plan.steps.iter().zip(&self.steps);
        steps
            .filter_map(|(step, known)| match step.action {
                Action::Promote { credential, .. } if known.touched || promoted(&known.status) => {
                    Some(credential)
                }
                _ => None,
            })
            .collect()
    }

    /// Whether this run wrote, or may have written, into a store, and did not take that back.
    pub fn has_swapped(&self) -> bool {
        let stands = |known: &StepState| matches!(known.status, Status::Failed { op: Op::Undo, .. });
        let mut steps = self.plan.steps.iter().zip(&self.steps);
        !self.swapped().is_empty()
            || steps.any(|(step, known)| matches!(step.action, Action::Promote { .. }) && stands(known))
    }

    /// The end of a rollback that did not go all the way.
    pub(super) fn return_to(
        &mut self,
        event: &Event,
        phase: Phase,
        at: Timestamp,
    ) -> Result<(), IllegalTransition> {
        if !matches!(self.direction, Direction::Back { to: Some(to), .. } if to == phase)
            || self.work.open > 0
        {
            return Err(self.misplaced(event));
        }
        self.direction = Direction::Forward;
        (self.phase, self.returned) = (Some(phase), Some(phase));
        (self.entered, self.patience) = (at, at);
        let order = Phase::order(self.plan.strategy);
        let rank = |p: Phase| order.iter().position(|o| *o == p);
        if rank(phase) < rank(Phase::Cutover) {
            // The consumers were told to leave the version that these counts speak of.
            self.adopted.clear();
        }
        for (step, StepState { status, .. }) in self.plan.steps.iter().zip(&mut self.steps) {
            // What comes after is to be done once more, looks included: the world has moved on.
            if rank(step.phase) > rank(phase) || *status == Status::Undone {
                *status = Status::pending();
            }
        }
        self.rebuild_work();
        Ok(())
    }

    /// A rollback that cannot be finished is given up. What it undid is done once more, what it did not
    /// stays done.
    pub(super) fn forward(&mut self, event: &Event, at: Timestamp) -> Result<(), IllegalTransition> {
        let fits = self.direction != Direction::Forward
            && self.work.started.is_empty()
            && self.work.unknown.is_empty();
        if !fits {
            return Err(self.misplaced(event));
        }
        self.direction = Direction::Forward;
        (self.entered, self.patience) = (at, at);
        for StepState { status, .. } in &mut self.steps {
            match status {
                Status::Undone => *status = Status::pending(),
                Status::Undoing { .. } | Status::Failed { op: Op::Undo, .. } => *status = Status::Done,
                Status::Failed { op, orphans, .. } => *status = fresh(*op, std::mem::take(orphans)),
                _ => {}
            }
        }
        // What the way back undid may lie behind this phase, in the order of `contain`; and what it did not
        // undo was told to the consumers, who are waited for once more.
        let order = Phase::order(self.plan.strategy);
        let open = |phase: &Phase| {
            Some(*phase) == self.phase || self.of(*phase).any(|at| self.steps[at].status != Status::Done)
        };
        self.phase = order.iter().copied().find(open);
        self.rebuild_work();
        Ok(())
    }

    /// The new credential of this name is revoked, and another one issued in its place.
    pub(super) fn reissue(
        &mut self,
        event: &Event,
        name: &str,
        takes_back: bool,
    ) -> Result<(), IllegalTransition> {
        let refuse = |state: &str| Err(illegal(event, format!("credential `{name}`"), state.into()));
        let Some(c) = self.plan.credentials.iter().position(|p| p.name == name) else {
            return refuse("not in the plan");
        };
        if !self.may_reissue(c) {
            return refuse("in the stores, or in doubt");
        }
        for at in 0..self.plan.steps.len() {
            match self.plan.steps[at].action {
                // Another one takes the place of this one, and the way back sets the old one again.
                Action::Issue { credential }
                    if credential == c && takes_back && self.plan.credentials[c].issuer.replaces() =>
                {
                    self.steps[at].touched = true;
                    self.steps[at].status = Status::pending();
                    self.steps[at].next_round();
                }
                Action::Issue { credential } if credential == c => {
                    let handle = self.fact(at, "handle").map(str::to_owned);
                    self.steps[at].status = Status::Orphaned {
                        attempt: 0,
                        handles: handle.into_iter().collect(),
                        discard: 1,
                        not_before: None,
                    };
                }
                Action::Inspect { credential } | Action::Accept { credential, .. } if credential == c => {
                    self.steps[at].status = Status::pending();
                }
                Action::Stage { credential, .. } if credential == c => {
                    // What is staged stays there if no other one is issued.
                    self.steps[at].touched |= takes_back && self.steps[at].status == Status::Done;
                    self.steps[at].status = Status::pending();
                    // Another value needs another idempotency token.
                    self.steps[at].next_round();
                }
                // A repeated request may make two of the next one as well.
                Action::Sweep { credential } if takes_back && self.sweeps(credential, c) => {
                    self.steps[at].status = Status::pending();
                }
                _ => {}
            }
        }
        self.deferred = false;
        self.phase = Some(Phase::Prepare);
        self.rebuild_work();
        Ok(())
    }

    /// Whether a step used outgoing in the end, and it was accepted.
    pub(super) fn is_let_in(&self, step: usize) -> bool {
        matches!(self.plan.steps[step].action, Action::Reject { .. })
            && self.failure(step).is_some_and(|failure| failure.kind == ErrorKind::Declined)
    }

    /// Whether a kill that is done can be done once more, on the word of a person: its server said that it did it,
    /// and a check accepts the old credential all the same, or something that was made with it lives on.
    pub fn may_repeat(&self, step: usize) -> bool {
        let (Action::Disable { credential: killed } | Action::Revoke { credential: killed }) =
            self.plan.steps[step].action
        else {
            return false;
        };
        let idle = self.work.started.is_empty() && self.work.unknown.is_empty();
        idle && self.direction == Direction::Forward
            && self.end.is_none()
            && self.steps[step].status == Status::Done
            && (self.lives_on(&self.plan.credentials[killed].name)
                || self.was_let_in(&self.plan.credentials[killed].name)
                || self
                    .plan
                    .steps
                    .iter()
                    .enumerate()
                    .any(|(at, ask)| ask.action.credential() == Some(killed) && self.is_let_in(at)))
    }

    /// A kill is done once more, and what it is to prove is asked once more. There is no way back from it.
    pub(super) fn repeat(&mut self, step: usize, at: Timestamp) {
        let killed = self.plan.steps[step].action.credential();
        // It may have taken effect after all.
        self.steps[step].touched = true;
        self.steps[step].status = Status::pending();
        for (ask, known) in self.plan.steps.iter().zip(&mut self.steps) {
            if matches!(ask.action, Action::Reject { credential, .. } if Some(credential) == killed) {
                known.status = Status::pending();
            }
        }
        let plan = Arc::clone(&self.plan);
        self.let_in.retain(|proof, _| plan.steps[*proof].action.credential() != killed);
        self.phase = Some(self.plan.steps[step].phase);
        (self.entered, self.patience) = (at, at);
        self.judged.clear();
        self.vouched.clear();
        self.stopped = None;
        self.rebuild_work();
    }

    pub(super) fn rewrite(
        &mut self,
        event: &Event,
        name: &str,
        takes_back: bool,
        at: Timestamp,
    ) -> Result<(), IllegalTransition> {
        let c = self.plan.credentials.iter().position(|p| p.name == name);
        let Some(c) = c.filter(|c| self.may_rewrite(*c)) else {
            return Err(illegal(
                event,
                format!("credential `{name}`"),
                "not in its stores, or in doubt".into(),
            ));
        };
        for (step, known) in self.plan.steps.iter().zip(&mut self.steps) {
            match step.action {
                Action::Promote { credential, .. } if credential == c => known.overwrites = true,
                // Its consumers may have read what stood there meanwhile.
                Action::Reload { credential, .. } if credential == c => {}
                _ => continue,
            }
            // If it fails now, other stores and the consumers still have what they got before.
            known.touched |= takes_back && known.status == Status::Done;
            known.status = Status::pending();
        }
        self.phase = Some(Phase::Cutover);
        (self.entered, self.patience) = (at, at);
        self.judged.clear();
        self.vouched.clear();
        self.rebuild_work();
        Ok(())
    }

    /// Whether a new credential can be written again: this run wrote it into its stores, or tried.
    pub fn may_rewrite(&self, credential: usize) -> bool {
        let idle = self.work.started.is_empty() && self.work.unknown.is_empty();
        let tried = |at: &usize| match self.plan.steps[*at].action {
            Action::Promote { credential: c, .. } => c == credential && self.steps[*at].since.is_some(),
            _ => false,
        };
        idle && self.direction == Direction::Forward
            && self.end.is_none()
            && (0..self.plan.steps.len()).any(|at| tried(&at))
    }

    /// Whether the sweep for a credential looks for what was made of another one as well.
    fn sweeps(&self, credential: usize, other: usize) -> bool {
        let issuer = |c: usize| &self.plan.credential(c).1.issuer;
        let shared = issuer(credential).finds_by_run()
            && issuer(other).finds_by_run()
            && issuer(credential).connection() == issuer(other).connection();
        credential == other || shared
    }

    /// Whether a custom step delivers the new version of this credential.
    fn delivers(&self, step: &str, credential: usize) -> bool {
        let own = self.plan.runbook.phases.own_step(step);
        own.is_some_and(|own| own.credential.as_ref() == Some(&self.plan.credentials[credential].name))
    }

    /// Whether a new credential can still be replaced: it was issued, and no store hands it out, nor was it
    /// delivered.
    pub fn may_reissue(&self, credential: usize) -> bool {
        let idle = self.work.started.is_empty() && self.work.unknown.is_empty();
        idle && self.direction == Direction::Forward
            && self.end.is_none()
            && self.plan.steps.iter().zip(&self.steps).all(|(step, known)| match step.action {
                Action::Issue { credential: c } if c == credential => known.status == Status::Done,
                Action::Promote { credential: c, store } if c == credential => {
                    // Where it cannot be read, a try whose reply was lost may have written it all the same.
                    let doubted = known.doubted && !self.plan.credentials[c].reads(store);
                    !known.touched
                        && !doubted
                        && matches!(known.status, Status::Pending { .. } | Status::Failed { op: Op::Do, .. })
                }
                Action::Own { ref name } if self.delivers(name, credential) => {
                    matches!(known.status, Status::Pending { .. } | Status::Failed { op: Op::Do, .. })
                }
                _ => true,
            })
    }
}
