//! `capture`: looks at a store, and reads and seals the outgoing value.

use std::time::Duration;

use async_trait::async_trait;

use super::Look;
use super::job::{FINGERPRINT, Job, VERSION, checked, unsealed};
use crate::domain::ErrorKind;
use crate::engine::safe;
use crate::engine::yields::{Yield, facts};
use crate::provider::CallError;
use crate::secret::Material;

pub(super) struct Capture {
    pub(super) store: usize,
}

#[async_trait]
impl Look for Capture {
    fn limit(&self, deadline: Duration) -> Duration {
        deadline
    }

    async fn perform(&self, job: &Job) -> Result<Yield, CallError> {
        let (c, name, _) = job.credential()?;
        let store = job.store(self.store).await?;
        let mut out = checked(store.preflight().await)?;
        let versions = store.observe().await?;
        versions.all().try_for_each(|version| job.safe.refuse_telling(version))?;
        let planned = &job.plan.credentials[c];
        let reads = job.reads(self.store);
        let material = if reads { Some(store.read(versions.current.as_deref()).await?) } else { None };
        let known = &planned.stores[self.store].versions.current;
        // A neighbour in the same secret may have been written since; another credential may not.
        let same = match &material {
            _ if versions.current == *known => true,
            Some(material) => is_the_planned_one(job, c, material).await?,
            None => false,
        };
        if !same {
            let (was, is) = (shown(known), shown(&versions.current));
            let message = format!("the plan saw version {was} as current; the current version is now {is}");
            let hint = "another process has changed it since; make a new plan";
            return Err(CallError::rejected(ErrorKind::Conflict, message).hint(hint));
        }
        let version = versions.current.unwrap_or_default();
        let Some(material) = material else {
            out.facts = facts([(VERSION, version)]).facts;
            return Ok(out);
        };
        let fingerprint = job.safe.fingerprint(&material).to_string();
        let place = safe::outgoing(name, self.store);
        let sealed = job.safe.put(&place, material, planned.outgoing.clone()).map_err(|e| unsealed(&e))?;
        out.facts = facts([(VERSION, version), (FINGERPRINT, fingerprint)]).facts;
        out.sealed.push(sealed);
        Ok(out)
    }
}

/// Whether a value that was written since the plan was made is still the credential that it names. One
/// whose issuer knows no names is what its only store holds.
async fn is_the_planned_one(job: &Job, c: usize, material: &Material) -> Result<bool, CallError> {
    let planned = &job.plan.credentials[c];
    if !planned.issuer.tries {
        return Ok(planned.stores.len() == 1);
    }
    let standing = job.issuer().await?.identify(material).await?;
    Ok(standing.map(|s| s.identity.handle) == planned.outgoing.as_ref().map(|o| o.handle.clone()))
}

fn shown(version: &Option<String>) -> &str {
    version.as_deref().unwrap_or("none")
}
