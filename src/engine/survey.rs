//! Observing, read-only, what a plan needs to know.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinSet;

use crate::plan::{Observed, ObservedCredential, ObservedStore, Plan};
use crate::provider::{CallError, Check, CheckVerdict, Identity, Kind, Provider};
use crate::runbook::model::{Credential, Runbook};
use crate::secret::{Material, Scrubber};

/// How many credentials are observed at once.
const AT_ONCE: usize = 32;

/// A target could not be observed.
#[derive(Debug, thiserror::Error)]
#[error("{target}: {source}")]
pub struct SurveyError {
    /// The connection or the credential, by its name.
    pub target: String,
    /// Why.
    pub source: CallError,
}

/// Observes every target of a runbook.
///
/// # Errors
/// When a target cannot be read: no sensible plan can be made without it.
pub async fn survey(provider: &Arc<dyn Provider>, runbook: &Runbook) -> Result<Observed, SurveyError> {
    let mut scrubber = Scrubber::default();
    let secrets = provider.secrets().into_iter();
    secrets.for_each(|secret| scrubber.add(&Material::single("value", secret)));
    let scrubber = Arc::new(Mutex::new(scrubber));
    let clean = |text: &str| scrubber.lock().unwrap_or_else(PoisonError::into_inner).clean(text);
    let found = observe(provider, runbook, &scrubber).await;
    let mut observed = found.map_err(|e| SurveyError { source: e.source.scrubbed(&clean), ..e })?;
    observed.checks.iter_mut().for_each(|check| check.scrub(&clean));
    Ok(observed)
}

async fn observe(
    provider: &Arc<dyn Provider>,
    runbook: &Runbook,
    scrubber: &Arc<Mutex<Scrubber>>,
) -> Result<Observed, SurveyError> {
    let mut observed = Observed::default();
    for connection in runbook.connections.keys() {
        let checks = provider.preflight(connection).await;
        // A server that is not fit makes every later message about it noise.
        if let Some(failed) = checks.iter().find(|c| c.verdict == crate::provider::CheckVerdict::Fail) {
            let mut source = CallError::rejected(failed.kind.unwrap_or(Kind::Invalid), failed.detail.clone());
            source.hint.clone_from(&failed.hint);
            return Err(SurveyError { target: format!("connection `{connection}`"), source });
        }
        observed.checks.extend(checks);
    }
    observed.checks.extend(provider.reach(runbook).await);
    let mut asking = JoinSet::new();
    let mut found: Vec<Option<(ObservedCredential, Vec<Check>)>> = Vec::new();
    found.resize_with(runbook.credentials.len(), || None);
    for (at, (name, credential)) in runbook.credentials.iter().enumerate() {
        if asking.len() >= AT_ONCE {
            take(&mut asking, &mut found).await?;
        }
        let (provider, name, credential) = (Arc::clone(provider), name.clone(), credential.clone());
        let scrubber = Arc::clone(scrubber);
        asking.spawn(async move {
            let result = one(provider.as_ref(), &name, &credential, &scrubber).await;
            (at, result.map_err(|source| SurveyError { target: format!("credential `{name}`"), source }))
        });
    }
    while !asking.is_empty() {
        take(&mut asking, &mut found).await?;
    }
    for (credential, checks) in found.into_iter().flatten() {
        observed.credentials.push(credential);
        observed.checks.extend(checks);
    }
    Ok(observed)
}

type Found = (usize, Result<(ObservedCredential, Vec<Check>), SurveyError>);

async fn take(
    asking: &mut JoinSet<Found>,
    found: &mut [Option<(ObservedCredential, Vec<Check>)>],
) -> Result<(), SurveyError> {
    if let Some(Ok((at, result))) = asking.join_next().await {
        found[at] = Some(result?);
    }
    Ok(())
}

/// A server or a store that is not fit makes every later message about it noise.
pub(super) fn first_failure(checks: &[Check]) -> Option<CallError> {
    let failed = checks.iter().find(|c| c.verdict == CheckVerdict::Fail)?;
    let message = format!("{}: {}", failed.name, failed.detail);
    let error = CallError::rejected(failed.kind.unwrap_or(Kind::Invalid), message);
    Some(CallError { hint: failed.hint.clone(), ..error })
}

async fn one(
    provider: &dyn Provider,
    name: &str,
    credential: &Credential,
    scrubber: &Mutex<Scrubber>,
) -> Result<(ObservedCredential, Vec<Check>), CallError> {
    let issuer = provider.issuer(name, credential).await?;
    let mut checks = Vec::new();
    let mut stores = Vec::with_capacity(credential.stores.len());
    let mut first = None;
    let mut disagree = Vec::new();
    for index in 0..credential.stores.len() {
        let store = provider.store(name, credential, index).await?;
        let found = store.preflight().await;
        if let Some(error) = first_failure(&found) {
            return Err(error);
        }
        checks.extend(found);
        let versions = store.observe().await?;
        if versions.current.is_some() {
            let material = store.read(versions.current.as_deref()).await?;
            scrubber.lock().unwrap_or_else(PoisonError::into_inner).add(&material);
            match &first {
                None => first = Some(material),
                Some(first) if material.same_as(first) => {}
                Some(_) => disagree.push(index),
            }
        }
        stores.push(ObservedStore { traits: store.traits(), versions });
    }
    let traits = issuer.traits();
    let outgoing = match &first {
        None => None,
        Some(material) => match issuer.identify(material).await {
            Ok(standing) => standing.map(|s| s.identity),
            // The authority knows no names: it is told by the value itself.
            Err(e) if e.kind == Kind::Unsupported && traits.revokes => {
                Some(Identity { handle: "(by its value)".into(), principal: name.to_owned() })
            }
            // It is dead already, or there is nobody who could be asked.
            Err(e) if matches!(e.kind, Kind::Refused | Kind::Unsupported) => None,
            Err(e) => return Err(e),
        },
    };
    checks.extend(issuer.preflight(outgoing.as_ref()).await);
    let existing = issuer.existing().await?;
    Ok((ObservedCredential { issuer: traits, outgoing, existing, stores, disagree }, checks))
}

/// The first difference between what a plan saw and what is there now, in a sentence.
pub fn drift(plan: &Plan, now: &Observed) -> Option<String> {
    for (planned, seen) in plan.credentials.iter().zip(&now.credentials) {
        for (at, (was, is)) in planned.stores.iter().zip(&seen.stores).enumerate() {
            if was.versions.current != is.versions.current {
                let word = |v: &Option<String>| v.clone().unwrap_or_else(|| "none".into());
                return Some(format!(
                    "credential `{}`, store {}: the plan saw version {} as current; now it is {}",
                    planned.name,
                    at + 1,
                    word(&was.versions.current),
                    word(&is.versions.current)
                ));
            }
        }
        if planned.outgoing != seen.outgoing {
            return Some(format!(
                "credential `{}`: its issuer knows another outgoing version now",
                planned.name
            ));
        }
    }
    None
}
