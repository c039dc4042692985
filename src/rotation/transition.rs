//! What becomes of a step when a call, or a look into an unknown outcome, has ended.

use std::time::Duration;

use jiff::Timestamp;

use super::outcome::{Facts, Failure, Found, Op};
use super::state::{Direction, State};
use super::step::Status;
use crate::clock::add;
use crate::domain::{ErrorKind, Observation};
use crate::plan::{Action, Step};

/// How long after a call that was not answered its target is looked at. Until then the server may still
/// do what it was asked (a proxy or a queue held it), and then its reads and lists may still show for a
/// while what was before: IAM's did for 3 to 4 s in one published measurement. So much for each.
pub(crate) const SETTLE: Duration = Duration::from_secs(8);
/// How often a server may refuse a step for the number of requests before that counts as a failed attempt: with the
/// waits between them some 16 minutes. It changed nothing and says when to come again, and every other step of a large
/// rotation meets it as well.
const REFUSALS: u16 = 120;
/// The doubling of the wait after such a refusal ends here, at 8 s: quotas fill up by the second.
const LAST_DOUBLING: u32 = 5;
/// The first wait after a failure that may pass; doubled with each try.
const BACKOFF: Duration = Duration::from_millis(500);
/// The longest wait that doubling leads to.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// The longest wait that a server may ask for. A limit that is hit again and again may become a ban; but a kill does not wait
/// an hour for one answer.
const MAX_ASKED: Duration = Duration::from_secs(120);

impl State {
    pub(super) fn succeed(&mut self, step: usize, op: Op, facts: Facts) {
        self.forget_work(step);
        self.changed |= self.plan.steps[step].is_effect();
        let known = &mut self.steps[step];
        let told = known.told.take().filter(|_| op == Op::Discard);
        (known.conflict, known.refusals) = (None, 0);
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
                } else if let Some(told) = told.filter(|told| told.is_definite()) {
                    // The response came, and cannot be used: the next would be like it.
                    self.fail(step, Op::Do, *told);
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
    pub(super) fn reject(
        &mut self,
        step: usize,
        op: Op,
        attempt: u32,
        failure: Option<&Failure>,
        at: Timestamp,
    ) {
        self.forget_work(step);
        let failure =
            failure.cloned().unwrap_or_else(|| exhausted("the server rejected it without a reason"));
        if failure.kind == ErrorKind::Cancelled {
            self.retry(step, op, attempt, None);
            return;
        }
        // A mismatch may be our own write: an earlier try's, an earlier session's, or this one's, when
        // something on the way repeats requests. On the way back somebody may have restored by hand
        // what is to be restored.
        // Of a store that cannot be read no look would tell whose write it is.
        let blind = match self.plan.steps[step].action {
            Action::Promote { credential, store } => !self.plan.credentials[credential].reads(store),
            _ => false,
        };
        let observable = !blind && self.plan.steps[step].class.is_some_and(|c| c != Observation::Opaque);
        // And so may be the credential that leaves no room for another one.
        let full =
            failure.kind == ErrorKind::Limit && matches!(self.plan.steps[step].action, Action::Issue { .. });
        if (failure.kind == ErrorKind::Conflict || full) && observable && op != Op::Discard {
            self.steps[step].conflict = Some(Box::new(failure));
            self.mark_unknown(step, op, attempt, 0, Some(add(at, settling(&self.plan.steps[step]))));
            return;
        }
        // A look that got no answer changed nothing and can be taken again.
        let passing = failure.kind.is_transient() || failure.kind == ErrorKind::NoAnswer;
        // Steps that ask have their own patience, which `at_most` bounds.
        let passing = passing && !self.plan.steps[step].action.asks();
        let refusals = self.steps[step].refusals;
        if passing && failure.kind == ErrorKind::Throttled && refusals < REFUSALS {
            let known = &mut self.steps[step];
            known.tell(op, &failure);
            known.refusals += 1;
            let wait = wait((u32::from(refusals) + 1).min(LAST_DOUBLING), &failure);
            self.retry(step, op, attempt, Some(add(at, wait)));
            return;
        }
        if passing && attempt < self.plan.runbook.limits.attempts {
            self.steps[step].tell(op, &failure);
            self.retry(step, op, attempt + 1, Some(add(at, wait(attempt, &failure))));
            return;
        }
        self.fail(step, op, failure);
    }

    fn fail(&mut self, step: usize, op: Op, failure: Failure) {
        if op == Op::Do {
            self.clear_irrevocable(step);
        }
        let orphans = match &mut self.steps[step].status {
            Status::Orphaned { handles, .. } => std::mem::take(handles),
            _ => Vec::new(),
        };
        self.steps[step].refusals = 0;
        self.steps[step].status = Status::Failed { op, failure, orphans };
        self.work.failed.insert(step);
    }

    /// A try that definitely did not take effect leaves the way back open, unless an earlier one may have.
    fn clear_irrevocable(&mut self, step: usize) {
        let known = &mut self.steps[step];
        known.irrevocable &= known.touched;
    }

    /// The step gets another try.
    pub(super) fn retry(&mut self, step: usize, op: Op, attempt: u32, not_before: Option<Timestamp>) {
        match op {
            Op::Do if self.direction != Direction::Forward => {
                // It did not take effect, and nobody wants it any more. An earlier try may have.
                let undo = self.thorough && self.steps[step].touched;
                self.steps[step].status = if undo { Status::Done } else { Status::Undone };
                self.finish(step);
                return;
            }
            Op::Do => {
                self.clear_irrevocable(step);
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

    /// There was no answer to the call, or none that says whether it took effect. What was said all the same tells a
    /// person more than that no try took effect, in the end.
    pub(super) fn lose_reply(
        &mut self,
        step: usize,
        op: Op,
        attempt: u32,
        said: Option<&Failure>,
        at: Timestamp,
    ) {
        if let Some(said) = said {
            self.steps[step].tell(op, said);
            // What is in the way is there at the next try, too.
            if said.kind == ErrorKind::Conflict && op != Op::Discard {
                self.steps[step].conflict = Some(Box::new(said.clone()));
            }
        }
        let wait = if op == Op::Discard { backoff(attempt) } else { settling(&self.plan.steps[step]) };
        self.mark_unknown(step, op, attempt, 0, Some(add(at, wait)));
    }

    fn mark_unknown(&mut self, step: usize, op: Op, attempt: u32, looks: u32, not_before: Option<Timestamp>) {
        self.forget_work(step);
        if op == Op::Discard {
            // Revoking what is dead succeeds: it is simply done again, after a while and not for ever.
            if attempt >= self.plan.runbook.limits.attempts {
                self.fail(step, op, exhausted("the credential of a lost response could not be revoked"));
            } else {
                self.retry(step, op, attempt + 1, not_before);
            }
            return;
        }
        self.changed |= self.plan.steps[step].is_effect();
        self.steps[step].doubted |= op == Op::Do;
        self.steps[step].status = Status::Unknown { op, attempt, looks, not_before };
        self.work.unknown.insert(step);
    }

    #[expect(clippy::too_many_arguments, reason = "they are the fields of one event")]
    pub(super) fn settle(
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
                    self.retry(step, op, attempt + 1, Some(wait));
                } else {
                    let told = self.steps[step].told.take();
                    self.fail(step, op, without_effect(told.map(|told| *told)));
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
                self.mark_unknown(step, op, attempt, looks, Some(add(at, backoff(looks))));
            }
        }
    }
}

/// How long after an unanswered call a step's target is looked at. What is merely done again needs no wait.
pub(super) fn settling(step: &Step) -> Duration {
    match step.class {
        None | Some(Observation::Idempotent | Observation::Opaque) => Duration::ZERO,
        Some(_) => SETTLE,
    }
}

/// No try took effect: with what the server said of the last one that it said something of.
fn without_effect(told: Option<Failure>) -> Failure {
    let ended = exhausted("no try took effect");
    match told {
        None => ended,
        Some(told) => {
            let message = format!("{}; the last try: {}", ended.message, told.message);
            let kind = if told.is_definite() { told.kind } else { ended.kind };
            Failure { kind, message, retry_after_ms: None, ..told }
        }
    }
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

/// The wait before the try after this one, which the server may want to be longer.
fn wait(attempt: u32, failure: &Failure) -> Duration {
    let asked = failure.retry_after_ms.map(Duration::from_millis).unwrap_or_default();
    backoff(attempt).max(asked.min(MAX_ASKED))
}

/// The wait before the try after this one.
fn backoff(attempt: u32) -> Duration {
    BACKOFF.saturating_mul(1 << attempt.saturating_sub(1).min(10)).min(MAX_BACKOFF)
}
