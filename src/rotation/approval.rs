//! Approvals: what is on the record of them, and which phases they let begin.

use jiff::Timestamp;

use super::apply::{IllegalTransition, illegal};
use super::event::Event;
use super::state::{Direction, State};
use crate::approve::{Approval, Lack, Refused, Request, Signed, Statement, admit, request};
use crate::domain::Phase;

impl State {
    /// What a phase still needs at a moment; without one, what it never had.
    pub fn lacks(&self, phase: Phase, now: Option<Timestamp>) -> Vec<Lack<'_>> {
        let Some(approvals) = &self.plan.approvals else { return Vec::new() };
        let mut lacks = approvals.lacks(phase, &self.standing, now);
        // Where issuing is the kill, whoever lets the old one die is asked before that.
        if phase == Phase::Prepare && self.plan.credentials.iter().any(|planned| planned.issuer.replaces()) {
            lacks.extend(approvals.lacks(Phase::Sunset, &self.standing, now));
            lacks.extend(approvals.lacks(Phase::Revoke, &self.standing, now));
        }
        lacks
    }

    /// Whether a phase may begin at a moment, as far as approvals go.
    pub(crate) fn is_approved(&self, phase: Phase, now: Timestamp) -> bool {
        self.lacks(phase, Some(now)).is_empty()
    }

    /// The phases that are still to begin, in their order.
    pub fn phases_ahead(&self) -> Vec<Phase> {
        let order = Phase::order(self.plan.strategy);
        let passed =
            self.phase.and_then(|phase| order.iter().position(|o| *o == phase)).map_or(0, |at| at + 1);
        // A phase that was put off under `contain` begins later, and none behind it has.
        order[passed..].to_vec()
    }

    /// The next phase that cannot begin for want of approvals, where the run goes forward to it; without a moment, one that
    /// never had them.
    pub fn unapproved(&self, now: Option<Timestamp>) -> Option<Phase> {
        if self.end.is_some() || self.direction != Direction::Forward {
            return None;
        }
        self.phases_ahead().into_iter().find(|phase| !self.lacks(*phase, now).is_empty())
    }

    /// Verifies an approval, without taking it in. `run` is the run's name, `at` the moment at which it comes on the record;
    /// both are left out where they were checked.
    ///
    /// # Errors
    /// When it does not count.
    pub fn admit(
        &self,
        signed: &Signed,
        run: Option<&str>,
        at: Option<Timestamp>,
    ) -> Result<Approval, Refused> {
        let plan = &self.plan;
        let Some(approvals) = &plan.approvals else {
            return Err(Refused::Unreadable("the plan asks for no approvals".into()));
        };
        self.shows(signed, at)?;
        let irreversible = |phase| plan.is_irreversible(phase);
        admit(approvals, (&plan.digest(), run), irreversible, &self.standing, signed, at)
    }

    /// Verifies the request to run the plan, without taking it in.
    ///
    /// # Errors
    /// When it is not one.
    pub fn requested_by(&self, signed: &Signed, at: Option<Timestamp>) -> Result<Request, Refused> {
        let Some(approvals) = &self.plan.approvals else {
            return Err(Refused::Unreadable("the plan asks for no approvals".into()));
        };
        let found = request(approvals, &self.plan.digest(), signed, at)?;
        self.shows(signed, at)?;
        Ok(found)
    }

    /// Whether a statement shows what this plan does. The digest says which plan it is; but who signs on another machine
    /// sees the text alone. The words for steps may change between versions, so they count when it comes on the record.
    fn shows(&self, signed: &Signed, at: Option<Timestamp>) -> Result<(), Refused> {
        let plan = &self.plan;
        let Ok(statement) = Statement::read(&signed.statement) else { return Ok(()) };
        if statement.plan != plan.digest() {
            return Ok(());
        }
        let said = |name: &str| -> Vec<String> {
            let lines = statement.shown.iter().filter(|(shown, _)| shown == name);
            lines.map(|(_, value)| value.clone()).collect()
        };
        let one = |text: &str| vec![text.to_owned()];
        let mut wanted = vec![
            ("runbook", one(&plan.runbook.name)),
            ("environment", one(&plan.environment)),
            ("strategy", one(plan.strategy.name())),
        ];
        if at.is_some() {
            wanted.push(("cannot be undone", crate::plan::irreversible(plan)));
        }
        match wanted.into_iter().find(|(name, lines)| said(name) != *lines) {
            None => Ok(()),
            Some((name, _)) => {
                let said = said(name).join("; ");
                let said = if said.is_empty() { "nothing".to_owned() } else { format!("`{said}`") };
                Err(Refused::Misleads { name: name.to_owned(), said })
            }
        }
    }

    /// Takes an approval in. It is verified again, but for the moment, which was right when it was recorded.
    pub(super) fn approve(&mut self, event: &Event, at: Timestamp) -> Result<(), IllegalTransition> {
        let Event::Approved { by, key, phases, signed } = event else { return Err(self.misplaced(event)) };
        let refuse = |why: String| illegal(event, format!("the approval of {}", by), why);
        let approval = self.admit(signed, None, None).map_err(|refused| refuse(refused.to_string()))?;
        if (&approval.by, &approval.signer.fingerprint(), &approval.phases) != (by, key, phases) {
            return Err(refuse("not what its record says".into()));
        }
        self.standing.given.push((at, approval));
        Ok(())
    }

    /// Takes the request in.
    pub(super) fn request(&mut self, event: &Event) -> Result<(), IllegalTransition> {
        let Event::Requested { by, key, signed } = event else { return Err(self.misplaced(event)) };
        if self.phase.is_some() || self.standing.request.is_some() {
            return Err(self.misplaced(event));
        }
        let refuse = |why: String| illegal(event, "the request".into(), why);
        let request = self.requested_by(signed, None).map_err(|refused| refuse(refused.to_string()))?;
        if (&request.by, &request.key) != (by, key) {
            return Err(refuse("not what its record says".into()));
        }
        self.standing.request = Some(request);
        Ok(())
    }

    /// Goes on without approvals, where the plan allows it.
    pub(super) fn break_glass(&mut self, event: &Event) -> Result<(), IllegalTransition> {
        let Event::BrokeGlass { by, reason, ticket } = event else { return Err(self.misplaced(event)) };
        if !self.plan.approvals.as_ref().is_some_and(|approvals| approvals.break_glass) {
            return Err(illegal(event, "the plan".into(), "one that needs its approvals".into()));
        }
        self.standing.broken = true;
        self.broke_glass = Some(format!("{by}: {reason} ({ticket})"));
        Ok(())
    }
}
