//! The plan: runbook and observations, compiled to steps. Immutable, with a digest.
//!
//! Everything is decided here; the engine has no choices left. The plan holds the resolved
//! runbook, what was observed of every target, and the steps with what each waits for. It holds
//! no secret, and nothing derived from one.

mod approvals;
mod compile;
mod digest;
mod order;
mod preview;
mod step;
mod validate;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::approve::{Approvals, Signed};
use crate::domain::{
    Check, Freeze, Identity, IssuerTraits, Period, Phase, StoreTraits, Strategy, Versions, Window,
};
use crate::kind::spec::Names;
use crate::runbook::model::{Credential, Runbook};

pub use approvals::{SignersError, requirements};
pub use compile::{CompileError, Observed, ObservedCredential, ObservedStore, Outgoing, Request, compile};
pub(crate) use preview::irreversible;
pub use preview::{caveats, preview};
#[cfg(feature = "tool")]
pub(crate) use preview::{costs, describe, describe_undo};
pub(crate) use step::rejects;
pub use step::{Action, Step, Undo};
pub use validate::PlanError;

/// The version of the plan's format.
pub const FORMAT: u32 = 2;

/// The environment in which the sandbox replaces every connection.
pub const SANDBOX: &str = "sandbox";

/// An immutable plan.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The format's version.
    pub format: u32,
    /// The program that made it.
    pub tool: String,
    /// The environment that it is for.
    pub environment: String,
    /// Whether every connection is replaced by the sandbox.
    pub sandbox: bool,
    /// The order of the phases.
    pub strategy: Strategy,
    /// SHA-256 of the runbook's text, in hex.
    pub runbook_sha256: String,
    /// The runbook, with the environment's values in place, and only what this plan rotates.
    pub runbook: Runbook,
    /// The credentials with what was observed of them, in the order of their names.
    pub credentials: Vec<Planned>,
    /// The phases in the order in which they are walked.
    pub phases: Vec<PlannedPhase>,
    /// The steps. A step is named by its index here, and by its id everywhere else.
    pub steps: Vec<Step>,
    /// What was found while observing.
    pub checks: Vec<Check>,
    /// What nobody checked, each a sentence.
    pub unchecked: Vec<String>,
    /// Who must approve which phase before it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approvals: Option<Approvals>,
    /// The directory that relative paths of the runbook start from, wherever the run is resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// The policy that it was made under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Governed>,
    /// The drill's scenario, where this is practice: the sandbox then replaces every connection, whatever the
    /// environment is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<String>,
}

/// What a policy adds to a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Governed {
    /// The policy's revision.
    pub revision: u32,
    /// Its file, when the plan was made.
    pub file: String,
    /// SHA-256 of its text, in hex.
    pub sha256: String,
    /// Its deployment windows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
    /// The days on which no window opens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub freezes: Vec<Freeze>,
    /// The rules that were waived for this runbook.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waived: Vec<Waived>,
}

/// A rule that was waived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waived {
    /// The rule.
    pub rule: String,
    /// Who waived it, as a principal.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Until when.
    pub expires: Timestamp,
    /// What was signed.
    pub signed: Signed,
}

/// In words for people.
impl std::fmt::Display for Waived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rule, by, reason, expires, .. } = self;
        write!(f, "rule `{rule}` by {by}, until {expires:.0}: {reason}")
    }
}

/// A credential, with what was observed of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planned {
    /// Its name in the runbook.
    pub name: String,
    /// What its issuer can do.
    pub issuer: IssuerTraits,
    /// The outgoing version, as its issuer names it; `None` only where `waived` says why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outgoing: Option<Identity>,
    /// Whether somebody disabled outgoing before the run: then no check can accept it beforehand.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// How often outgoing can still be used; then it is not used beforehand. `None` is without limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses_left: Option<u64>,
    /// Whether a person named outgoing by its handle: what the stores hold is another value.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub named: bool,
    /// Why there is nothing to revoke, in a person's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waived: Option<String>,
    /// What two runs must not both change beyond the credential itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<String>,
    /// The handles that existed, where telling ours from others' needs that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub existing: Vec<String>,
    /// Its stores, in the runbook's order.
    pub stores: Vec<PlannedStore>,
}

/// A store, with what was observed of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedStore {
    /// What it can do.
    pub traits: StoreTraits,
    /// The versions it had. The run refuses to begin when the current one has moved.
    pub versions: Versions,
    /// What its name leads to, however it is spelt.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub place: String,
}

impl Planned {
    /// The store whose value counts as a store's old one: itself, or the first that can be read where it cannot.
    pub(crate) fn source(&self, store: usize) -> usize {
        let itself = self.reads(store).then_some(store);
        itself.or_else(|| self.stores.iter().position(|s| s.traits.reads)).unwrap_or(store)
    }

    /// Whether a store gives back what was written.
    pub(crate) fn reads(&self, store: usize) -> bool {
        self.stores.get(store).is_none_or(|store| store.traits.reads)
    }

    /// Whether it has a store that cannot be read: then only those who use the credential show that it arrived.
    pub(crate) fn has_unreadable(&self) -> bool {
        self.stores.iter().any(|store| !store.traits.reads)
    }

    /// Whether outgoing is used in preflight, so that a refusal at the end means something: one that is
    /// disabled already, has few uses left, or is not in the stores cannot be.
    pub(crate) fn has_baseline(&self) -> bool {
        self.outgoing.is_some() && !self.disabled && self.uses_left.is_none() && !self.named
    }
}

/// A phase, with what it waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedPhase {
    /// The phase.
    pub phase: Phase,
    /// It lasts at least this long.
    pub at_least: Period,
    /// Its gates must pass by then, or the run pauses.
    pub at_most: Period,
    /// The gates that must pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub until: Vec<String>,
    /// How many answers in a row count, for steps that ask.
    pub times: u32,
    /// How long between two answers.
    pub every: Period,
}

impl PlannedPhase {
    /// Whether there is anything to wait for once its steps are done.
    pub fn waits(&self) -> bool {
        !self.at_least.get().is_zero() || !self.until.is_empty()
    }
}

impl Plan {
    /// A phase's waits.
    pub fn phase(&self, phase: Phase) -> Option<&PlannedPhase> {
        self.phases.iter().find(|p| p.phase == phase)
    }

    /// For how long a phase lasts after whatever a step did last, because others may go by what they read before it.
    pub fn settles(&self, phase: Phase) -> Period {
        // Under `contain` the kill waits for nothing, so that both waits are before the new credential is used.
        let settling: &[Phase] = match self.strategy {
            Strategy::Overlap => &[Phase::Prepare, Phase::Sunset],
            Strategy::Contain => &[Phase::Distribute],
            Strategy::Revoke => &[Phase::Revoke],
        };
        if settling.contains(&phase) { self.lags() } else { Period::default() }
    }

    /// Whether a store is written by a program, which goes on when the process that started it dies.
    pub(crate) fn runs_program(&self, step: &Step) -> bool {
        let Action::Promote { credential, store } = step.action else { return false };
        let names = self.credential(credential).1.stores[store].names();
        names.iter().any(|name| matches!(name, Names::Program(_) | Names::Exec(_)))
    }

    /// For how long somebody may go by what they read at an issuer before.
    pub fn lags(&self) -> Period {
        self.runbook
            .credentials
            .values()
            .map(|credential| credential.issuer.settles())
            .max()
            .unwrap_or_default()
    }

    /// How long a phase lasts at least, however soon its steps are done.
    pub fn least(&self, waits: &PlannedPhase) -> Period {
        waits.at_least.max(self.settles(waits.phase))
    }

    /// The phase after this one.
    pub fn after(&self, phase: Phase) -> Option<Phase> {
        let at = self.phases.iter().position(|p| p.phase == phase)?;
        self.phases.get(at + 1).map(|p| p.phase)
    }

    /// Whether the runbook has a step of its own behind the proof, which may undo what was proved.
    pub fn has_steps_after_proof(&self) -> bool {
        self.steps.iter().any(|step| step.phase == Phase::Proof && matches!(step.action, Action::Own { .. }))
    }

    /// The runbook's words on a planned credential.
    pub fn credential(&self, index: usize) -> (&Planned, &Credential) {
        let planned = &self.credentials[index];
        (planned, &self.runbook.credentials[&planned.name])
    }

    /// What the run holds while it is open, so that no other run touches it: the places that its targets'
    /// names lead to, whatever the environment is called and however they are spelt.
    pub fn holds(&self) -> BTreeMap<String, String> {
        let mut holds = BTreeMap::new();
        for planned in &self.credentials {
            // Without a store, the credential itself: a handle that two servers share is held once too often.
            let named = planned.outgoing.as_ref().map_or(&planned.name, |outgoing| &outgoing.handle);
            let itself = planned.stores.is_empty().then(|| format!("credential {named}"));
            let places = planned.stores.iter().map(|s| &s.place).chain(&planned.shares).chain(&itself);
            for place in places.filter(|place| !place.is_empty()) {
                let sandbox = if self.sandbox { "sandbox: " } else { "" };
                holds.insert(format!("{sandbox}{place}"), planned.name.clone());
            }
        }
        holds
    }

    /// The deployment windows in lists: one window of each list must be open for cutover to begin.
    pub fn windows(&self) -> impl Iterator<Item = &[Window]> {
        let policy = self.policy.iter().map(|policy| policy.windows.as_slice());
        [self.runbook.windows.as_slice()].into_iter().chain(policy).filter(|windows| !windows.is_empty())
    }

    /// The days on which no window opens.
    pub fn freezes(&self) -> &[Freeze] {
        self.policy.as_ref().map_or(&[], |policy| &policy.freezes)
    }

    /// The rules of the policy that were waived.
    pub fn waived(&self) -> &[Waived] {
        self.policy.as_ref().map_or(&[], |policy| &policy.waived)
    }

    /// Whether cutover waits for deployment windows. Practice does not depend on the hour at which it is held.
    pub fn waits_for_windows(&self) -> bool {
        let restricted = self.windows().next().is_some() || !self.freezes().is_empty();
        self.strategy == Strategy::Overlap && self.drill.is_none() && restricted
    }

    /// Whether a phase has a step that cannot be taken back.
    pub fn is_irreversible(&self, phase: Phase) -> bool {
        self.steps.iter().any(|step| step.phase == phase && step.irreversible)
    }

    /// The first step that cannot be taken back: steps stand in the order of their phases.
    pub fn point_of_no_return(&self) -> Option<&Step> {
        self.steps.iter().find(|step| step.irreversible)
    }
}

#[cfg(test)]
pub(crate) mod tests;
