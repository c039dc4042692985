//! `reject`: uses outgoing beside incoming, until its refusal is sure.

use std::time::Duration;

use async_trait::async_trait;

use super::earlier::Earlier;
use super::inquiry::proves_nothing;
use super::job::Job;
use super::{Look, OWN_PATIENCE};
use crate::domain::{Life, Observation, Phase, Strategy};
use crate::engine::yields::Yield;
use crate::provider::CallError;
use crate::sabotage::{Sabotage, is_on};

pub(super) struct Reject {
    probe: Option<usize>,
    /// How the same place answered before anything was changed.
    before: Option<String>,
}

impl Reject {
    pub(super) fn new(earlier: &Earlier<'_>, credential: usize, probe: Option<usize>) -> Self {
        Self { probe, before: earlier.baseline(credential, probe) }
    }
}

#[async_trait]
impl Look for Reject {
    fn limit(&self, _: Duration) -> Duration {
        OWN_PATIENCE
    }

    async fn perform(&self, job: &Job) -> Result<Yield, CallError> {
        let planned = &job.plan.credentials[job.credential()?.0];
        if planned.stores.is_empty() {
            let inquiry = job.inquiry(None, true, Phase::Proof).await?;
            // Nothing replaces what is only revoked: what its issuer said of it before is the control.
            let control = match job.plan.strategy {
                Strategy::Revoke => None,
                Strategy::Overlap | Strategy::Contain => Some(job.incoming_handle()?),
            };
            return inquiry.gone(job.outgoing_handle()?, control).await;
        }
        let inquiry = job.inquiry(self.probe, true, Phase::Proof).await?;
        let known = self.before.as_deref() == Some("accepted") || is_on(Sabotage::Control);
        if planned.has_baseline() && !known {
            let place = &inquiry.place;
            return Ok(proves_nothing(format!(
                "{place} never accepted the old credential in this run, so its refusal proves nothing"
            )));
        }
        let (outgoing, incoming) = (job.outgoing(0)?, job.incoming()?);
        let found = inquiry.refused(&outgoing.material, &incoming.material).await?;
        // One that could not be used beforehand is dead only if its issuer says so as well.
        if let (false, Some(identity)) = (planned.has_baseline(), &planned.outgoing)
            && planned.issuer.change == Observation::Readable
            && job.issuer().await?.life(&identity.handle).await? != Life::Gone
        {
            return Ok(proves_nothing("its issuer still knows the old credential".to_owned()));
        }
        Ok(found)
    }
}
