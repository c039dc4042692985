//! How old the credentials in use are: what their stores and issuers say, read-only.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use super::learnt::Learnt;
use super::patience::{Places, patiently};
use crate::provider::{CallError, Provider};
use crate::runbook::model::{Credential, Runbook};
use crate::secret::Material;

/// How old a credential is.
#[derive(Debug, Clone, Default)]
pub struct Age {
    /// What its issuer calls the credential in use, and when it made it.
    pub issued: Option<(String, Timestamp)>,
    /// The stores, and when the current version of each was written.
    pub written: Vec<(String, Timestamp)>,
    /// What could not be asked, each a sentence.
    pub unseen: Vec<String>,
}

/// Asks every store and issuer of a runbook, in the order of its credentials.
pub async fn ages(provider: &Arc<dyn Provider>, runbook: &Runbook) -> Vec<Age> {
    let learnt = Mutex::new(Learnt::default());
    let secrets = provider.secrets().into_iter();
    let known = || learnt.lock().unwrap_or_else(PoisonError::into_inner);
    secrets.for_each(|secret| known().scrubber.add(&Material::single("value", secret)));
    let mut ages = Vec::with_capacity(runbook.credentials.len());
    for (name, credential) in &runbook.credentials {
        ages.push(one(provider.as_ref(), name, credential, &learnt).await);
    }
    for age in &mut ages {
        age.unseen.iter_mut().for_each(|text| *text = known().clean(text));
    }
    ages
}

async fn one(provider: &dyn Provider, name: &str, credential: &Credential, learnt: &Mutex<Learnt>) -> Age {
    let mut age = Age::default();
    let mut value = None;
    for (index, store) in credential.stores.iter().enumerate() {
        let target = store.target();
        match patiently(&Places::new(1), || stored(provider, name, credential, index)).await {
            Ok((material, at)) => {
                if let Some(material) = &material {
                    learnt.lock().unwrap_or_else(PoisonError::into_inner).add(name, material);
                }
                age.written.extend(at.map(|at| (target, at)));
                value = value.or(material);
            }
            Err(error) => age.unseen.push(format!("could not ask {target}: {}", error.message)),
        }
    }
    match patiently(&Places::new(1), || issued(provider, name, credential, value.as_ref())).await {
        Ok(issued) => age.issued = issued,
        Err(error) => age.unseen.push(format!("could not ask the issuer: {}", error.message)),
    }
    age
}

/// What a store hands out, where it can be read, and when it was written.
async fn stored(
    provider: &dyn Provider,
    name: &str,
    credential: &Credential,
    index: usize,
) -> Result<(Option<Material>, Option<Timestamp>), CallError> {
    let store = provider.store(name, credential, index).await?;
    let current = store.observe().await?.current;
    let material = match store.traits().reads {
        true => Some(store.read(current.as_deref()).await?),
        false => None,
    };
    let at = match &current {
        Some(version) => store.written(version).await?,
        None => None,
    };
    Ok((material, at))
}

/// What the issuer calls the credential in use, and when it made it.
async fn issued(
    provider: &dyn Provider,
    name: &str,
    credential: &Credential,
    value: Option<&Material>,
) -> Result<Option<(String, Timestamp)>, CallError> {
    let issuer = provider.issuer(name, credential).await?;
    let handle = match (value, &credential.outgoing) {
        (Some(value), _) => issuer.identify(value).await?.map(|standing| standing.identity.handle),
        (None, outgoing) => outgoing.clone(),
    };
    let Some(handle) = handle else { return Ok(None) };
    Ok(issuer.created(&handle).await?.map(|at| (handle, at)))
}
