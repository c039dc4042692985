//! From a runbook and what was observed to a plan.

use super::approvals::SignersError;
use super::{FORMAT, Plan, Planned, PlannedPhase, PlannedStore, approvals, order, step};
use crate::domain::{
    ADOPTED, Check, CheckVerdict, IssuerTraits, Life, Period, Phase, REFUSED, Standing, StoreTraits,
    Strategy, Versions,
};
use crate::runbook::model::Runbook;

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
    /// The directory that relative paths start from.
    pub directory: Option<String>,
}

/// What is known of the outgoing version.
#[derive(Debug, Clone)]
pub enum Outgoing {
    /// Its issuer, asked as the operator, knows it.
    Known(Standing),
    /// A person named it by its handle, and its issuer knows that.
    Named(Standing),
    /// Its issuer does not know what the stores hold: it is gone, or never was.
    Gone {
        /// The handles of the same principal's credentials that live.
        living: Vec<String>,
    },
    /// A person says that there is nothing to revoke, and why.
    Waived(String),
}

/// What was observed, read-only.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Of each credential of the runbook, in the order of their names.
    pub credentials: Vec<ObservedCredential>,
    /// What was found of connections and permissions.
    pub checks: Vec<Check>,
    /// The text of the file of signers, where the runbook names one.
    pub signers: Option<String>,
}

/// What was observed of one credential.
#[derive(Debug, Clone)]
pub struct ObservedCredential {
    /// What its issuer can do.
    pub issuer: IssuerTraits,
    /// The outgoing version.
    pub outgoing: Outgoing,
    /// The handles that exist, where telling ours from others' needs that.
    pub existing: Vec<String>,
    /// What two runs must not both change beyond the credential itself.
    pub shares: Option<String>,
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
    /// What its name leads to.
    pub place: String,
}

/// No plan can be made.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The stores of one credential hold different values, so it is not clear which one leaked.
    #[error("credential `{credential}`: the value in {second} differs from the value in {first}")]
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
    /// What the stores hold is no credential that its issuer knows: revoking it would revoke nothing.
    #[error(
        "credential `{credential}`: its issuer does not know the value in {store}, so this is not the credential that leaked{}",
        siblings(.living)
    )]
    Gone {
        /// The credential.
        credential: String,
        /// The first store.
        store: String,
        /// The handles of the same principal's credentials that live.
        living: Vec<String>,
    },
    /// Not every credential of the runbook was observed.
    #[error("the plan would leave out a credential of its runbook")]
    Incomplete,
    /// The file of signers cannot be used.
    #[error(transparent)]
    Signers(#[from] SignersError),
    /// An issuer that replaces the value at once cannot overlap.
    #[error(
        "credential `{credential}`: its authority keeps only one value, so the old credential dies when stanch applies the new one"
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
                "find out which value its consumers use; rotate the two as separate credentials, or make them equal first"
            }
            Self::Empty { .. } => {
                "check the path and the environment; writing a first value is not a rotation"
            }
            Self::Gone { living, .. } if living.is_empty() => {
                "correct the store; or, to replace a dead value: --nothing-to-revoke --reason TEXT"
            }
            Self::Gone { .. } => {
                "find out which of them leaked, then: --outgoing HANDLE; or, to replace a dead value: --nothing-to-revoke --reason TEXT"
            }
            Self::Signers(error) => error.hint(),
            Self::Incomplete => "nothing was changed; please report this",
            Self::NoOverlap { .. } => {
                "add `revoke:` to the issuer if the authority can hold two values; otherwise use `strategy: contain` and expect an outage"
            }
        }
    }
}

fn siblings(handles: &[String]) -> String {
    match handles {
        [] => String::new(),
        handles => {
            format!(
                "; the same principal has these credentials, which no store here holds: {}",
                handles.join(", ")
            )
        }
    }
}

/// Compiles a plan.
///
/// # Errors
/// When what was observed leaves nothing sensible to do.
pub fn compile(runbook: Runbook, request: &Request, observed: Observed) -> Result<Plan, CompileError> {
    let strategy = runbook.strategy;
    if observed.credentials.len() != runbook.credentials.len() {
        return Err(CompileError::Incomplete);
    }
    let mut unchecked = Vec::new();
    if strategy == Strategy::Revoke {
        // They are all of one kind.
        unchecked
            .extend(runbook.credentials.values().take(1).flat_map(|credential| credential.issuer.lasting()));
    }
    let mut credentials = Vec::with_capacity(observed.credentials.len());
    for ((name, credential), seen) in runbook.credentials.iter().zip(observed.credentials) {
        let target = |index: usize| {
            credential.stores.get(index).map_or_else(|| "the runbook".to_owned(), |store| store.target())
        };
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
        if strategy != Strategy::Revoke {
            gaps(name, credential, &seen, &mut unchecked);
        }
        let mut planned = Planned {
            name: name.clone(),
            issuer: seen.issuer,
            outgoing: None,
            disabled: false,
            uses_left: None,
            named: false,
            waived: None,
            existing: seen.existing,
            shares: seen.shares,
            stores: seen
                .stores
                .into_iter()
                .map(|s| PlannedStore { traits: s.traits, versions: s.versions, place: s.place })
                .collect(),
        };
        match seen.outgoing {
            Outgoing::Known(standing) => {
                planned.disabled = standing.life != Life::Active;
                planned.uses_left = standing.uses_left;
                planned.outgoing = Some(standing.identity);
            }
            Outgoing::Named(standing) => {
                planned.disabled = standing.life != Life::Active;
                planned.named = true;
                planned.outgoing = Some(standing.identity);
            }
            Outgoing::Waived(reason) => planned.waived = Some(reason),
            Outgoing::Gone { living } => {
                return Err(CompileError::Gone { credential: name.clone(), store: target(0), living });
            }
        }
        credentials.push(planned);
    }
    unchecked.extend(
        observed
            .checks
            .iter()
            .filter(|c| c.verdict == CheckVerdict::Warn)
            .map(|c| format!("{}: {}", c.name, c.detail)),
    );
    let approvals = approvals::planned(&runbook, request.sandbox, observed.signers)?;
    let phases = Phase::order(strategy).iter().map(|p| waits(*p, &runbook)).collect();
    let steps = order::steps(&runbook, strategy, &credentials);
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
        approvals,
        directory: request.directory.clone(),
        policy: None,
        drill: None,
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
    let mut spec = runbook.phases.of(phase).cloned().unwrap_or_default();
    if phase == Phase::Sunset && runbook.strategy == Strategy::Contain {
        // Consumers are down from here until cutover, knowingly: watching them fail, or waiting,
        // would only make that longer.
        (spec.at_least, spec.until) = (None, None);
    }
    let at_least = spec.at_least.unwrap_or_default().max(spec.watch.unwrap_or_default());
    let attested = runbook.credentials.values().any(|c| step::attesting(c).next().is_some());
    let mut until = match (spec.until, phase) {
        (Some(until), _) => until,
        (None, Phase::Overlap) if attested => vec![ADOPTED.to_owned()],
        (None, _) => vec![],
    };
    if spec.watch.is_some() && !until.iter().any(|gate| gate == REFUSED) {
        until.push(REFUSED.to_owned());
    }
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
            "{name}: consumer `{}` has no `attest`, so stanch cannot tell whether it moves",
            consumer.name
        ));
    }
    if credential.consumers.is_empty() {
        unchecked
            .push(format!("{name}: the runbook names no consumers, so stanch cannot tell which ones still use the old credential"));
    }
    match &seen.outgoing {
        Outgoing::Known(standing) if standing.life == Life::Disabled => unchecked.push(format!(
            "{name}: the old credential {} is already disabled; stanch will still revoke it",
            standing.identity.handle
        )),
        Outgoing::Known(standing) if standing.life == Life::Deleted => unchecked.push(format!(
            "{name}: the old credential {} is already deleted, and what was made with it lives on; stanch will still revoke that",
            standing.identity.handle
        )),
        Outgoing::Known(Standing { uses_left: Some(left), identity, .. }) => unchecked.push(format!(
            "{name}: the old credential {} has {left} uses left; stanch does not use it before revoking it",
            identity.handle
        )),
        Outgoing::Named(standing) if credential.stores.is_empty() => unchecked.push(format!(
            "{name}: no store holds the old credential {}, and stanch does not know its value: {}",
            standing.identity.handle,
            if step::told_dead(&seen.issuer) {
                "only its issuer can say that it is dead"
            } else {
                "nothing can prove it dead, and the run can only end as CLOSED, NOT PROVED"
            }
        )),
        Outgoing::Named(standing) => unchecked.push(format!(
            "{name}: you named {} as the old credential; stanch does not know its value, so no check can prove it dead",
            standing.identity.handle
        )),
        Outgoing::Waived(reason) => {
            unchecked.push(format!("{name}: stanch revokes nothing ({reason})"));
        }
        Outgoing::Known(_) | Outgoing::Gone { .. } => {}
    }
    if seen.issuer.replaces() {
        unchecked.push(format!(
            "{name}: its issuer keeps only one value: it rejects the old credential as soon as stanch issues the new one"
        ));
    } else if !seen.issuer.revokes && !seen.issuer.disables {
        unchecked.push(format!(
            "{name}: stanch cannot tell its issuer to refuse the old value; its consumers must stop accepting it"
        ));
    }
    for store in credential.stores.iter().filter(|store| !store.traits().reads) {
        let source = credential.stores.iter().find(|store| store.traits().reads);
        unchecked.push(format!(
            "{name}: {} cannot be read: stanch takes it to hold the value of {}, and only consumers that attest show that the new value arrived",
            store.target(),
            source.map_or_else(|| "no other store".to_owned(), |store| store.target())
        ));
    }
    if credential.stores.is_empty() {
        unchecked.push(format!(
            "{name}: no store holds the credential, so stanch cannot see whether the new one arrived where it is used"
        ));
    } else if step::rejects(credential).is_empty() && !seen.issuer.tries {
        unchecked
            .push(format!("{name}: no check uses the old value at the end, so nothing will prove it dead"));
    }
    unchecked.extend(credential.issuer.gaps(name, &credential.scope));
    unchecked.extend(credential.stores.iter().flat_map(|store| store.gaps(name)));
}
