//! What is proved of the outgoing credentials, and until when they were usable.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::seen::{Seen, Sight};
use super::state::State;
use super::step::Status;
use crate::plan::{Action, Step};

/// The fact of a step that used outgoing in the end: whether that proves anything.
pub(crate) const PROVED: &str = "proved";
/// Why it does not.
pub(crate) const WHY: &str = "why";
/// When the first refusal came of the row that counts.
pub(crate) const REFUSED_AT: &str = "refused_at";
/// When it was last accepted, as far as this step saw.
pub(crate) const ACCEPTED_AT: &str = "accepted_at";
/// The fact of a step that used outgoing beforehand: how it was answered.
pub(crate) const BEFORE: &str = "before";

/// Plans of this format know of no proof but that outgoing was refused.
pub(super) const WITHOUT_CONTROLS: u32 = 1;

/// A place where the old credential is used in the end, and what it answered so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vantage {
    /// The credential, by the plan's index.
    pub credential: usize,
    /// The check of the plan; `None` is its issuer.
    pub probe: Option<usize>,
    /// The step that uses the old one in the end.
    pub step: usize,
    /// The step that used it before anything was changed, where the plan has one.
    pub before: Option<usize>,
    /// When it was last accepted there; `None` where no step saw that, or an older version kept no time.
    pub accepted: Option<Timestamp>,
    /// When the first refusal came of the row that counts.
    pub refused: Option<Timestamp>,
    /// When the last call began that was to end it.
    pub called: Option<Timestamp>,
    /// Whether its refusal proves that the old credential is dead there.
    pub proved: bool,
}

impl State {
    /// Every place where an old credential is used in the end, in the plan's order.
    pub fn vantages(&self) -> Vec<Vantage> {
        let (mut before, mut called) = (BTreeMap::new(), BTreeMap::new());
        for (at, step) in self.plan.steps.iter().enumerate() {
            match step.action {
                Action::Baseline { credential, probe, rejects } => {
                    before.insert((credential, probe, rejects), at);
                }
                Action::Revoke { credential } => {
                    called.insert(credential, self.steps[at].last);
                }
                _ => {}
            }
        }
        let time = |at: usize, fact: &str| self.fact(at, fact)?.parse().ok();
        let steps = self.plan.steps.iter().enumerate();
        let vantage = |(step, planned): (usize, &Step)| {
            let Action::Reject { credential, probe } = planned.action else { return None };
            // Without a list of their own, the checks under `accepts` must refuse.
            let listed = probe.is_some() && self.plan.credential(credential).1.rejects.is_some();
            let before = before.get(&(credential, probe, listed)).copied();
            let again = self.let_in.get(&step).copied();
            let accepted = again.or_else(|| time(step, ACCEPTED_AT)).or_else(|| time(before?, ACCEPTED_AT));
            let proved = self.proves(step).is_ok() && again.is_none();
            let called = called.get(&credential).copied().flatten();
            let refused = time(step, REFUSED_AT).filter(|_| proved);
            Some(Vantage { credential, probe, step, before, accepted, refused, called, proved })
        };
        steps.filter_map(vantage).collect()
    }

    /// The credentials whose outgoing version is not proved dead, each with the reason: every check
    /// must have refused it, and accepted the incoming one in the same round.
    pub fn unproved(&self) -> Vec<(usize, String)> {
        let mut asks: Vec<Vec<usize>> = vec![Vec::new(); self.plan.credentials.len()];
        for (at, step) in self.plan.steps.iter().enumerate() {
            if let Action::Reject { credential, .. } = step.action {
                asks[credential].push(at);
            }
        }
        let why = |(c, asks): (usize, &Vec<usize>)| Some((c, self.why_unproved(c, asks)?));
        asks.iter().enumerate().filter_map(why).collect()
    }

    /// Why one credential's outgoing version is not proved dead; `steps` are its steps, or those of them
    /// that use it in the end.
    pub(super) fn why_unproved(&self, credential: usize, steps: &[usize]) -> Option<String> {
        let mut asks =
            steps.iter().filter(|at| matches!(self.plan.steps[**at].action, Action::Reject { .. }));
        let waived = self.plan.credentials[credential].waived.is_some();
        if asks.clone().next().is_none() && !waived && self.plan.format != WITHOUT_CONTROLS {
            return Some("no check uses the old credential".to_owned());
        }
        let again = self.let_in_again().any(|c| c == credential);
        let again = again.then(|| "a place accepted it again after it had refused it".to_owned());
        again.or_else(|| asks.find_map(|at| self.proves(*at).err()))
    }

    fn proves(&self, at: usize) -> Result<(), String> {
        if self.steps[at].status != Status::Done {
            return Err("not every check has refused it yet".into());
        }
        match self.fact(at, PROVED) {
            Some("yes") => Ok(()),
            None if self.plan.format == WITHOUT_CONTROLS => Ok(()),
            _ => Err(self.fact(at, WHY).unwrap_or("its refusal proves nothing").to_owned()),
        }
    }

    /// Whether there is no outgoing version whose exposure could be counted: their issuers knew none of them.
    pub fn is_unexposed(&self) -> bool {
        self.plan.credentials.iter().all(|planned| planned.waived.is_some())
    }

    /// The credentials, by the plan's index, whose old version a place accepted after its proof.
    pub(super) fn let_in_again(&self) -> impl Iterator<Item = usize> {
        self.let_in.keys().filter_map(|step| self.plan.steps[*step].action.credential())
    }

    /// Whether a check accepted the old credential when the world was last looked at, or a place did while the run went
    /// on using it after the proof.
    pub fn was_let_in(&self, credential: &str) -> bool {
        self.let_in_again().any(|c| self.plan.credentials[c].name == credential)
            || self.seen(credential).is_some_and(|(_, seen)| seen.outgoing == Sight::Accepted)
    }

    /// Whether its issuer did not call the old credential gone when the world was last looked at, although it was revoked:
    /// something that was made with it, at the last moment, lives on.
    pub fn lives_on(&self, credential: &str) -> bool {
        let known = |(_, seen): &(Timestamp, Seen)| {
            matches!(seen.outgoing, Sight::Alive | Sight::Disabled | Sight::Deleted)
        };
        // Seldom, and so the steps are gone through for few.
        self.seen(credential).is_some_and(known)
            && self.plan.steps.iter().enumerate().any(|(at, step)| {
                matches!(step.action, Action::Revoke { credential: c } if self.plan.credentials[c].name == credential)
                    && self.is_in_effect(at)
            })
    }

    /// When the last outgoing version was first refused by the last check of it, as far as that is
    /// proved: until then it counts as usable.
    pub fn exposed_until(&self) -> Option<Timestamp> {
        let lives = self.plan.credentials.iter().any(|planned| self.was_let_in(&planned.name));
        if self.plan.format == WITHOUT_CONTROLS || lives || !self.unproved().is_empty() {
            return None;
        }
        let steps = self.plan.steps.iter().enumerate();
        // A value that its issuer did not know when the run began was not usable during the run.
        let refused = steps.filter(|(_, step)| match step.action {
            Action::Reject { credential, .. } => self.plan.credentials[credential].waived.is_none(),
            _ => false,
        });
        refused.filter_map(|(at, _)| self.fact(at, REFUSED_AT)?.parse().ok()).max()
    }
}
