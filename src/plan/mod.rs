//! The plan: runbook and observations, compiled to steps. Immutable, with a digest.
//!
//! Everything is decided here; the engine has no choices left. The plan holds the resolved
//! runbook, what was observed of every target, and the steps with what each waits for. It holds
//! no secret, and nothing derived from one.

mod compile;
mod preview;
mod step;

use std::collections::{BTreeMap, HashSet};
use std::io::{BufWriter, Write as _};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::domain::{
    Check, Identity, IssuerTraits, Observation, Period, Phase, StoreTraits, Strategy, Versions,
};
use crate::runbook::model::{Credential, Runbook};
use crate::runbook::{MAX_BYTES, Severity, Source, check};

pub use compile::{CompileError, Observed, ObservedCredential, ObservedStore, Outgoing, Request, compile};
pub use preview::{caveats, preview};
#[cfg(feature = "tool")]
pub(crate) use preview::{describe, describe_undo};
pub(crate) use step::rejects;
pub use step::{Action, Step, Undo};

/// The version of the plan's format.
pub const FORMAT: u32 = 2;

/// The environment in which the sandbox replaces every connection.
pub const SANDBOX: &str = "sandbox";

/// Built in: every consumer attests that it uses the incoming credential.
pub const ADOPTED: &str = "adopted";

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
    /// The directory that relative paths of the runbook start from, wherever the run is resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
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
    /// The plan's digest: SHA-256 over its canonical JSON (RFC 8785), in hex.
    pub fn digest(&self) -> String {
        // Destructured, so that a new field cannot be forgotten.
        let Self {
            checks,
            credentials,
            directory,
            environment,
            format,
            phases,
            runbook,
            runbook_sha256,
            sandbox,
            steps,
            strategy,
            tool,
            unchecked,
        } = self;
        let mut digest = CanonicalObject::new();
        digest.field("checks", checks);
        digest.field("credentials", credentials);
        if let Some(directory) = directory {
            digest.field("directory", directory);
        }
        digest.field("environment", environment);
        digest.field("format", format);
        digest.field("phases", phases);
        digest.field("runbook", runbook);
        digest.field("runbook_sha256", runbook_sha256);
        digest.field("sandbox", sandbox);
        digest.field_in_order("steps", steps);
        digest.field("strategy", strategy);
        digest.field("tool", tool);
        digest.field("unchecked", unchecked);
        digest.finish()
    }

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
        plan.phases = Phase::order(plan.strategy).iter().map(|p| compile::waits(*p, &plan.runbook)).collect();
        plan.steps = step::steps(&plan.runbook, plan.strategy, &plan.credentials);
        plan.consistent().map_err(PlanError::Inconsistent)?;
        Ok(plan)
    }

    fn consistent(&self) -> Result<(), String> {
        self.names_lead_somewhere()?;
        self.runbook_is_right()?;
        if self.sandbox != (self.environment == SANDBOX) {
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
        let phases: Vec<_> =
            Phase::order(self.strategy).iter().map(|p| compile::waits(*p, &self.runbook)).collect();
        if self.strategy != self.runbook.strategy || self.phases != phases {
            return Err("its phases do not follow from its runbook".into());
        }
        // The steps are a function of the rest. A plan in which they differ was edited by hand, and
        // a hand may have left out the step that revokes.
        if self.steps != step::steps(&self.runbook, self.strategy, &self.credentials) {
            return Err("its steps do not follow from its runbook and observations".into());
        }
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
    pub(crate) fn whole(&self) -> Result<(), String> {
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
        for gate in self.phases.iter().flat_map(|p| &p.until) {
            if gate != ADOPTED && !self.runbook.gates.contains_key(gate) {
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

    /// A phase's waits.
    pub fn phase(&self, phase: Phase) -> Option<&PlannedPhase> {
        self.phases.iter().find(|p| p.phase == phase)
    }

    /// The phase after this one.
    pub fn after(&self, phase: Phase) -> Option<Phase> {
        let at = self.phases.iter().position(|p| p.phase == phase)?;
        self.phases.get(at + 1).map(|p| p.phase)
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
            let places = planned.stores.iter().map(|s| &s.place).chain(&planned.shares);
            for place in places.filter(|place| !place.is_empty()) {
                let sandbox = if self.sandbox { "sandbox: " } else { "" };
                holds.insert(format!("{sandbox}{place}"), planned.name.clone());
            }
        }
        holds
    }

    /// The first step that cannot be taken back: steps stand in the order of their phases.
    pub fn point_of_no_return(&self) -> Option<&Step> {
        self.steps.iter().find(|step| step.irreversible)
    }
}

/// SHA-256 over an object's canonical JSON, field by field. The canonicalizer holds every object in
/// memory to sort it, and reads each name back to do so; both are felt where there are a hundred
/// thousand steps.
struct CanonicalObject {
    hashed: BufWriter<Sha256>,
    /// What comes before the next field.
    before: &'static str,
}

impl CanonicalObject {
    fn new() -> Self {
        Self { hashed: BufWriter::with_capacity(1 << 16, Sha256::new()), before: "{" }
    }

    /// The next field, in the order of their names.
    fn field(&mut self, name: &str, value: &impl Serialize) {
        self.name(name);
        serde_json_canonicalizer::to_writer(value, &mut self.hashed).expect("a plan is always JSON");
    }

    /// The next field, whose value has its own fields in order, and no number but indexes.
    fn field_in_order(&mut self, name: &str, value: &impl Serialize) {
        self.name(name);
        serde_json::to_writer(&mut self.hashed, value).expect("a plan is always JSON");
    }

    fn name(&mut self, name: &str) {
        write!(self.hashed, "{}\"{name}\":", self.before).expect("a hasher takes everything");
        self.before = ",";
    }

    fn finish(mut self) -> String {
        write!(self.hashed, "}}").expect("a hasher takes everything");
        let hasher = self
            .hashed
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error)
            .expect("a hasher takes everything");
        hex::encode(hasher.finalize())
    }
}

#[cfg(test)]
pub(crate) mod tests;
