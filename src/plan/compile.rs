//! From a runbook and what was observed to a plan.

use super::{ADOPTED, FORMAT, Phase, Plan, Planned, PlannedPhase, PlannedStore, step};
use crate::provider::{Check, CheckVerdict, Identity, IssuerTraits, StoreTraits, Versions};
use crate::runbook::Period;
use crate::runbook::model::{Issuer, Runbook, Strategy};

/// What the person who asked for the plan chose.
#[derive(Debug, Clone)]
pub struct Request {
    /// The environment.
    pub environment: String,
    /// Whether the sandbox replaces every connection.
    pub sandbox: bool,
    /// SHA-256 of the runbook's text, in hex.
    pub runbook_sha256: String,
    /// The program that makes the plan.
    pub tool: String,
}

/// What was observed, read-only.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Of each credential of the runbook, in the order of their names.
    pub credentials: Vec<ObservedCredential>,
    /// What was found of connections and permissions.
    pub checks: Vec<Check>,
}

/// What was observed of one credential.
#[derive(Debug, Clone)]
pub struct ObservedCredential {
    /// What its issuer can do.
    pub issuer: IssuerTraits,
    /// The outgoing version as the issuer names it; `None` when the issuer refuses it already.
    pub outgoing: Option<Identity>,
    /// The handles that exist, where telling ours from others' needs that.
    pub existing: Vec<String>,
    /// What was observed of its stores.
    pub stores: Vec<ObservedStore>,
    /// The stores, by index, whose current value differs from the first one's.
    pub disagree: Vec<usize>,
}

/// What was observed of one store.
#[derive(Debug, Clone)]
pub struct ObservedStore {
    /// What it can do.
    pub traits: StoreTraits,
    /// The versions it holds.
    pub versions: Versions,
}

/// No plan can be made.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The stores of one credential hold different values, so it is not clear which one leaked.
    #[error("credential `{credential}`: the value in {second} differs from the one in {first}")]
    Disagree {
        /// The credential.
        credential: String,
        /// The first store.
        first: String,
        /// The store that differs.
        second: String,
    },
    /// A store holds nothing to rotate.
    #[error("credential `{credential}`: {store} holds no current version, so there is nothing to rotate")]
    Empty {
        /// The credential.
        credential: String,
        /// The store.
        store: String,
    },
    /// An issuer that replaces the value at once cannot overlap.
    #[error(
        "credential `{credential}`: its authority keeps one value only, so the old one dies when the new one is applied"
    )]
    NoOverlap {
        /// The credential.
        credential: String,
    },
}

impl CompileError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Disagree { .. } => {
                "find out which one its consumers use; rotate the two as separate credentials, or make them equal first"
            }
            Self::Empty { .. } => {
                "check the path and the environment; to put a first value there is not a rotation"
            }
            Self::NoOverlap { .. } => {
                "give the issuer a `revoke:` if the authority can hold two values; else say `strategy: contain` and expect an outage"
            }
        }
    }
}

/// Compiles a plan.
///
/// # Errors
/// When what was observed leaves nothing sensible to do.
pub fn compile(runbook: Runbook, request: &Request, observed: Observed) -> Result<Plan, CompileError> {
    let strategy = runbook.strategy;
    let mut unchecked = Vec::new();
    let mut credentials = Vec::with_capacity(observed.credentials.len());
    for ((name, credential), seen) in runbook.credentials.iter().zip(observed.credentials) {
        let target = |index: usize| step::store_target(&credential.stores[index]);
        if let Some(empty) = seen.stores.iter().position(|s| s.versions.current.is_none()) {
            return Err(CompileError::Empty { credential: name.clone(), store: target(empty) });
        }
        if let Some(&second) = seen.disagree.first() {
            return Err(CompileError::Disagree {
                credential: name.clone(),
                first: target(0),
                second: target(second),
            });
        }
        if strategy == Strategy::Overlap && !seen.issuer.coexists {
            return Err(CompileError::NoOverlap { credential: name.clone() });
        }
        gaps(name, credential, &seen, &mut unchecked);
        let stores = seen
            .stores
            .into_iter()
            .map(|s| PlannedStore { traits: s.traits, versions: s.versions })
            .collect();
        credentials.push(Planned {
            name: name.clone(),
            issuer: seen.issuer,
            outgoing: seen.outgoing,
            existing: seen.existing,
            stores,
        });
    }
    unchecked.extend(
        observed
            .checks
            .iter()
            .filter(|c| c.verdict == CheckVerdict::Warn)
            .map(|c| format!("{}: {}", c.name, c.detail)),
    );
    let phases = Phase::order(strategy).iter().map(|p| waits(*p, &runbook)).collect();
    let steps = step::steps(&runbook, strategy, &credentials);
    Ok(Plan {
        format: FORMAT,
        tool: request.tool.clone(),
        environment: request.environment.clone(),
        sandbox: request.sandbox,
        strategy,
        runbook_sha256: request.runbook_sha256.clone(),
        runbook,
        credentials,
        phases,
        steps,
        checks: observed.checks,
        unchecked,
    })
}

/// How long a phase waits for its gates beyond `at_least`, when the runbook does not say.
const PATIENCE: Period = Period::seconds(3600);
/// How often in a row an answer must come, when the runbook does not say: one yes or no may come
/// from a server that did not hear of the change yet (IAM is eventually consistent).
const TIMES: u32 = 3;
/// How long between two answers, when the runbook does not say.
const EVERY: Period = Period::seconds(1);

pub(super) fn waits(phase: Phase, runbook: &Runbook) -> PlannedPhase {
    let mut spec = phase.spec(&runbook.phases).cloned().unwrap_or_default();
    if phase == Phase::Sunset && runbook.strategy == Strategy::Contain {
        // Consumers are down from here until cutover, knowingly: watching them fail, or waiting,
        // would only make that longer.
        (spec.at_least, spec.until) = (None, None);
    }
    let at_least = spec.at_least.unwrap_or_default();
    let attested = runbook.credentials.values().any(|c| step::attesting(c).next().is_some());
    let until = match (spec.until, phase) {
        (Some(until), _) => until,
        (None, Phase::Overlap) if attested => vec![ADOPTED.to_owned()],
        (None, _) => vec![],
    };
    let later = u64::try_from((at_least.get() + PATIENCE.get()).as_millis()).unwrap_or(u64::MAX);
    PlannedPhase {
        phase,
        at_least,
        at_most: spec.at_most.unwrap_or(Period::millis(later)),
        until,
        times: spec.times.unwrap_or(TIMES),
        // The sandbox is one process: it has no propagation that many short polls could miss.
        every: spec.every.unwrap_or(EVERY),
    }
}

/// What nothing in this plan will check, in sentences.
fn gaps(
    name: &str,
    credential: &crate::runbook::model::Credential,
    seen: &ObservedCredential,
    unchecked: &mut Vec<String>,
) {
    for consumer in credential.consumers.iter().filter(|c| c.attest.is_none()) {
        unchecked.push(format!(
            "{name}: consumer `{}` cannot say which version it uses; nobody will know whether it moved",
            consumer.name
        ));
    }
    if credential.consumers.is_empty() {
        unchecked
            .push(format!("{name}: no consumers are named; nobody will know who still uses the old one"));
    }
    if seen.outgoing.is_none() && seen.issuer.tries {
        unchecked.push(format!(
            "{name}: its issuer refuses the outgoing version already; there is nothing to revoke, only to prove"
        ));
    }
    if !seen.issuer.revokes && !seen.issuer.disables {
        unchecked.push(format!(
            "{name}: its issuer cannot be told to refuse the outgoing value; its consumers must stop accepting it"
        ));
    }
    if step::rejects(credential).is_empty() && !seen.issuer.tries {
        unchecked
            .push(format!("{name}: no check uses the outgoing value at the end; nothing will prove it dead"));
    }
    if matches!(credential.issuer, Issuer::IamAccessKey { .. }) {
        unchecked.push(format!(
            "{name}: sessions that were made with the outgoing key (sts:AssumeRole, sts:GetSessionToken) live on, up to 36 hours; deny them on the user and the roles"
        ));
        if credential.scope.policies.is_none() {
            unchecked.push(format!(
                "{name}: `scope.policies` does not say what the user may carry; it is not compared"
            ));
        }
    }
}
