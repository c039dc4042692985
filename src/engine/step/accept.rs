//! `accept`: uses incoming, until the answer is sure.

use std::time::Duration;

use async_trait::async_trait;

use super::job::Job;
use super::{Look, OWN_PATIENCE};
use crate::domain::{ErrorKind, Phase};
use crate::engine::safe::Held;
use crate::engine::yields::Yield;
use crate::provider::CallError;

pub(super) struct Accept {
    pub(super) probe: Option<usize>,
}

#[async_trait]
impl Look for Accept {
    fn limit(&self, _: Duration) -> Duration {
        OWN_PATIENCE
    }

    async fn perform(&self, job: &Job) -> Result<Yield, CallError> {
        let incoming = job.incoming()?;
        let accepted =
            job.inquiry(self.probe, false, Phase::Verify).await?.accepted(&incoming.material).await?;
        if self.probe.is_none() {
            job.refuse_another(&incoming).await?;
        }
        Ok(accepted)
    }
}

impl Job {
    /// What is accepted must be the credential that the run recorded: it is the one that a rollback, and the next
    /// rotation, revoke.
    async fn refuse_another(&self, incoming: &Held) -> Result<(), CallError> {
        let issuer = self.issuer().await?;
        let handle = self.incoming_handle()?;
        match self.read(|| issuer.shown_handle(&incoming.material)).await? {
            Some(shown) if shown != handle => {
                let message = format!(
                    "its issuer calls the new credential {shown}, and named it {handle} when it was created: one of them belongs to something else"
                );
                Err(CallError::rejected(ErrorKind::Invalid, message)
                    .hint("look at both at the issuer before a rollback: it revokes the one that was named"))
            }
            _ => Ok(()),
        }
    }
}
