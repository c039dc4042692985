//! Whether a plan that was read holds together, and follows from its runbook.

use std::collections::HashSet;

use serde::Deserialize;

use super::compile::waits;
use super::order::steps;
use super::{FORMAT, Plan, SANDBOX};
use crate::domain::{ADOPTED, IssuerTraits, Observation, Phase, REFUSED};
use crate::runbook::{MAX_BYTES, Severity, Source, check};

/// The plan cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// It is not a plan.
    #[error("this is not a stanch plan: {0}")]
    Malformed(String),
    /// It was made by another version.
    #[error("the plan has format {found}; this version of stanch reads format {FORMAT}")]
    Format {
        /// The format found.
        found: u64,
    },
    /// What it says of itself does not fit together.
    #[error("the plan contradicts itself: {0}")]
    Inconsistent(String),
}

impl Plan {
    /// Reads a plan and checks that it holds together, so that nothing later can be surprised
    /// by an index or a name that leads nowhere.
    ///
    /// # Errors
    /// When the text is no plan, has another format, or contradicts itself.
    pub fn from_json(text: &str) -> Result<Self, PlanError> {
        #[derive(Deserialize)]
        struct Head {
            format: u64,
        }
        let malformed = |e: serde_json::Error| PlanError::Malformed(e.to_string());
        let head: Head = serde_json::from_str(text).map_err(malformed)?;
        if head.format != u64::from(FORMAT) {
            return Err(PlanError::Format { found: head.format });
        }
        let plan: Self = serde_json::from_str(text).map_err(malformed)?;
        plan.consistent().map_err(PlanError::Inconsistent)?;
        Ok(plan)
    }

    /// As [`Plan::from_json`], but phases and steps are compiled from the rest, so that what comes
    /// behind the comparison is reached as well.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn mended(text: &str) -> Result<Self, PlanError> {
        let mut plan: Self = serde_json::from_str(text).map_err(|e| PlanError::Malformed(e.to_string()))?;
        plan.names_lead_somewhere().map_err(PlanError::Inconsistent)?;
        plan.format = FORMAT;
        plan.strategy = plan.runbook.strategy;
        plan.phases = Phase::order(plan.strategy).iter().map(|p| waits(*p, &plan.runbook)).collect();
        plan.steps = steps(&plan.runbook, plan.strategy, &plan.credentials);
        plan.consistent().map_err(PlanError::Inconsistent)?;
        Ok(plan)
    }

    fn consistent(&self) -> Result<(), String> {
        self.names_lead_somewhere()?;
        self.runbook_is_right()?;
        if self.sandbox != (self.environment == SANDBOX || self.drill.is_some()) {
            return Err(format!("its environment is `{}`, but it says otherwise", self.environment));
        }
        for (planned, credential) in self.credentials.iter().zip(self.runbook.credentials.values()) {
            let stores = planned.stores.iter().map(|s| s.traits);
            let issuer = credential.issuer.traits();
            // Plans of earlier versions let the sandbox find what its real counterpart cannot.
            let kinder =
                IssuerTraits { issue: Observation::Listable, change: Observation::Readable, ..issuer };
            if planned.issuer != issuer && !(self.sandbox && planned.issuer == kinder)
                || !stores.eq(credential.stores.iter().map(|store| store.traits()))
            {
                return Err(format!(
                    "the abilities that it lists for `{}` do not follow from its runbook",
                    planned.name
                ));
            }
            match (&planned.outgoing, &planned.waived) {
                (None, None) => {
                    return Err(format!("it neither revokes the old `{}` nor says why not", planned.name));
                }
                (Some(_), Some(_)) => {
                    return Err(format!(
                        "it revokes the old `{}` and says why there is nothing to revoke",
                        planned.name
                    ));
                }
                _ => {}
            }
        }
        let phases: Vec<_> = Phase::order(self.strategy).iter().map(|p| waits(*p, &self.runbook)).collect();
        if self.strategy != self.runbook.strategy || self.phases != phases {
            return Err("its phases do not follow from its runbook".into());
        }
        // The steps are a function of the rest. A plan in which they differ was edited by hand, and
        // a hand may have left out the step that revokes.
        if self.steps != steps(&self.runbook, self.strategy, &self.credentials) {
            return Err("its steps do not follow from its runbook and observations".into());
        }
        self.approvals_follow()?;
        self.ids_are_unique()
    }

    /// Whether the runbook in it would be taken from a file: a hand may have changed what the steps do not
    /// show, such as its name or its limits.
    fn runbook_is_right(&self) -> Result<(), String> {
        let text = serde_json::to_string(&self.runbook).map_err(|error| error.to_string())?;
        // Variables were put in already: what looks like one is text.
        let text = text.replace("${", "$${");
        if text.len() > MAX_BYTES {
            // No file holds so many credentials; only a program compiles such a plan.
            return Ok(());
        }
        let checked = check(&Source { name: "runbook".into(), text });
        let wrong = checked.findings.into_iter().find(|finding| finding.severity == Severity::Error);
        wrong.map_or(Ok(()), |finding| Err(format!("its runbook is not valid: {}", finding.message)))
    }

    /// Whether every index and every name leads somewhere, and no step waits for ever, whichever version
    /// of this program compiled the steps: what a journal's plan must hold for the journal to be read.
    ///
    /// # Errors
    /// A sentence, when one does not.
    pub(crate) fn validate(&self) -> Result<(), String> {
        self.names_lead_somewhere()?;
        for step in &self.steps {
            let undo = step.undo.iter().flat_map(|undo| &undo.after);
            let known = step.after.iter().chain(undo).all(|at| *at < self.steps.len())
                && step.action.leads_somewhere(self);
            if !known {
                return Err(format!("its step `{}` refers to something that does not exist", step.id));
            }
        }
        self.no_step_waits_for_ever()?;
        self.ids_are_unique()
    }

    /// Steps stand in an order in which they can be done: phase by phase, each behind those that it waits
    /// for. Taking them back has an order, too, which does not reach into an earlier phase.
    fn no_step_waits_for_ever(&self) -> Result<(), String> {
        let waits = |at: usize| Err(format!("its step `{}` can never be done or undone", self.steps[at].id));
        let order = Phase::order(self.strategy);
        let mut ranks = Vec::with_capacity(self.steps.len());
        for (at, step) in self.steps.iter().enumerate() {
            let Some(rank) = order.iter().position(|phase| *phase == step.phase) else { return waits(at) };
            if ranks.last().is_some_and(|last| *last > rank) || step.after.iter().any(|before| *before >= at)
            {
                return waits(at);
            }
            ranks.push(rank);
        }
        // One taken back after the other, until only those are left that wait for each other.
        let mut unmet: Vec<usize> = vec![0; ranks.len()];
        let mut then: Vec<Vec<usize>> = vec![Vec::new(); ranks.len()];
        for (at, step) in self.steps.iter().enumerate() {
            for &before in step.undo.iter().flat_map(|undo| &undo.after) {
                if ranks[before] < ranks[at] {
                    return waits(at);
                }
                unmet[at] += 1;
                then[before].push(at);
            }
        }
        let mut free: Vec<usize> = (0..ranks.len()).filter(|at| unmet[*at] == 0).collect();
        while let Some(at) = free.pop() {
            for next in std::mem::take(&mut then[at]) {
                unmet[next] -= 1;
                if unmet[next] == 0 {
                    free.push(next);
                }
            }
        }
        unmet.iter().position(|n| *n > 0).map_or(Ok(()), waits)
    }

    fn names_lead_somewhere(&self) -> Result<(), String> {
        // A hand may also have left out a whole credential.
        if !self.credentials.iter().map(|c| &c.name).eq(self.runbook.credentials.keys()) {
            return Err("its credentials are not those of its runbook".into());
        }
        for (planned, credential) in self.credentials.iter().zip(self.runbook.credentials.values()) {
            if credential.stores.len() != planned.stores.len() {
                return Err(format!("`{}` has a different number of stores", planned.name));
            }
        }
        for (phase, gate) in self.phases.iter().flat_map(|p| p.until.iter().map(|gate| (p.phase, gate))) {
            let built_in = gate == ADOPTED || gate == REFUSED && phase == Phase::Proof;
            if !built_in && !self.runbook.gates.contains_key(gate) {
                return Err(format!("it does not have the gate `{gate}`"));
            }
        }
        Ok(())
    }

    fn ids_are_unique(&self) -> Result<(), String> {
        let mut ids = HashSet::with_capacity(self.steps.len());
        match self.steps.iter().find(|step| !ids.insert(step.id.as_str())) {
            Some(twice) => Err(format!("two of its steps are called `{}`", twice.id)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Strategy;
    use crate::plan::tests::planned;

    /// A plan whose issuers can do what earlier versions let the sandbox do, compiled for that.
    fn legacy(sandbox: bool) -> Result<Plan, PlanError> {
        let mut plan = planned("tests/plans/every-kind.yaml", "test", Strategy::Overlap);
        plan.sandbox = sandbox;
        plan.environment = if sandbox { SANDBOX } else { "test" }.into();
        let before: Vec<IssuerTraits> = plan.credentials.iter().map(|planned| planned.issuer).collect();
        for planned in &mut plan.credentials {
            planned.issuer.issue = Observation::Listable;
            planned.issuer.change = Observation::Readable;
        }
        assert!(plan.credentials.iter().map(|planned| planned.issuer).ne(before), "no issuer can do less");
        Plan::mended(&serde_json::to_string(&plan).expect("JSON"))
    }

    #[test]
    fn a_sandbox_that_found_more_than_the_real_one_is_taken_from_earlier_versions_only() {
        legacy(true).expect("the sandbox's plan of an earlier version");
        let refused = legacy(false).expect_err("no version gave a real issuer these").to_string();
        assert!(refused.contains("do not follow from its runbook"), "{refused}");
    }

    /// Plans of earlier versions say nothing of it, and keep their digests.
    #[test]
    fn what_can_be_read_is_not_said_and_what_cannot_is_no_claim_of_the_plans_own() {
        let plan = planned("tests/plans/every-kind.yaml", "test", Strategy::Overlap);
        let text = serde_json::to_string(&plan).expect("JSON");
        assert!(!text.contains("\"reads\":true,\"change\""), "a store that can be read says so");
        let bot = plan.credentials.iter().position(|planned| planned.has_unreadable()).expect("one");
        assert_eq!([0, 1].map(|store| plan.credentials[bot].source(store)), [0, 0]);
        Plan::mended(&text).expect("the plan");
        let claimed = text.replace(",\"reads\":false,\"change\"", ",\"change\"");
        let refused = Plan::mended(&claimed).expect_err("it claims to be readable").to_string();
        assert!(refused.contains("do not follow from its runbook"), "{refused}");
    }

    #[test]
    fn a_sandbox_has_no_other_abilities_than_those_of_now_or_of_earlier_versions() {
        let mut plan = planned("tests/plans/every-kind.yaml", "test", Strategy::Overlap);
        (plan.sandbox, plan.environment) = (true, SANDBOX.into());
        plan.credentials[0].issuer.mints = !plan.credentials[0].issuer.mints;
        let refused = Plan::mended(&serde_json::to_string(&plan).expect("JSON")).expect_err("an ability");
        assert!(refused.to_string().contains("do not follow from its runbook"), "{refused}");
    }
}
