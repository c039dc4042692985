//! `reload`: tells a consumer to read its store again; on the way back it is waited for.

use std::time::Duration;

use async_trait::async_trait;

use super::job::{Job, nothing};
use super::{Effect, OWN_PATIENCE, Observed, applied};
use crate::domain::ErrorKind;
use crate::engine::yields::Yield;
use crate::gate::{self, Watched};
use crate::provider::CallError;

/// How long a consumer may take to go back to the outgoing version during rollback, before the
/// incoming one is revoked under it.
const RETURN_PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Reload {
    pub(super) consumer: usize,
}

#[async_trait]
impl Effect for Reload {
    fn limit(&self, _: Duration) -> Duration {
        OWN_PATIENCE
    }

    async fn perform(&self, job: &Job) -> Result<Yield, CallError> {
        let (_, name, credential) = job.credential()?;
        let consumer = job.provider.consumer(name, credential, self.consumer).await?;
        consumer.reload(&job.context).await.map(nothing)
    }

    async fn undo(&self, job: &Job) -> Result<Yield, CallError> {
        self.perform(job).await?;
        self.wait_for_return(job).await
    }

    async fn observe(&self, _: &Job) -> Observed {
        // It can be repeated.
        applied(false)
    }

    async fn observe_undo(&self, _: &Job) -> Observed {
        applied(false)
    }
}

impl Reload {
    /// After a swap back: incoming must not be revoked under a consumer that still uses it.
    async fn wait_for_return(&self, job: &Job) -> Result<Yield, CallError> {
        let (_, name, credential) = job.credential()?;
        let spec = &credential.consumers[self.consumer];
        if spec.attest.is_none() {
            return Ok(Yield::default());
        }
        let stored = !credential.stores.is_empty();
        let watched = Watched {
            credential: name.to_owned(),
            consumer: spec.name.clone(),
            ask: job.provider.consumer(name, credential, self.consumer).await?,
            // Where no store held the old value, it is told by the absence of the new one.
            wanted: if stored { job.outgoing(0)?.material } else { job.incoming()?.material },
        };
        let deadline = job.plan.runbook.limits.deadline.get();
        let start = job.clock.now().mono_ms;
        loop {
            let found = gate::adoption(&watched, deadline).await;
            let moved = if stored {
                found.instances == found.of
            } else {
                found.instances == 0 && found.trouble.is_none()
            };
            if found.of > 0 && moved {
                return Ok(Yield::default());
            }
            let waited = Duration::from_millis(job.clock.now().mono_ms.saturating_sub(start));
            if waited >= RETURN_PATIENCE {
                let (instances, of, consumer) = (found.instances, found.of, &found.consumer);
                let message = if stored {
                    format!("only {instances} of {of} instances of {consumer} use the old {name} again")
                } else {
                    format!(
                        "{instances} of {of} instances of {consumer} still use the new {name}, or give no answer"
                    )
                };
                let hint = "restart the other instances, then roll back again";
                return Err(CallError::rejected(ErrorKind::Declined, message).hint(hint));
            }
            job.clock.sleep(Duration::from_millis(500)).await;
        }
    }
}
