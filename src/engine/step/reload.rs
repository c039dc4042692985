//! `reload`: tells a consumer to read its store again; on the way back it is waited for.

use std::time::Duration;

use async_trait::async_trait;

use super::job::{Job, nothing};
use super::{Effect, OWN_PATIENCE, Observed, applied};
use crate::domain::ErrorKind;
use crate::engine::yields::Yield;
use crate::gate;
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
        // Where no store held it, the old value is not known: before the new one is revoked, it is asked for that one.
        if spec.attest.is_none() || credential.stores.is_empty() {
            return Ok(Yield::default());
        }
        let watched = job.watched(self.consumer, &job.outgoing(0)?.material).await?;
        let deadline = job.plan.runbook.limits.deadline.get();
        let start = job.clock.now().mono_ms;
        loop {
            let found = gate::adoption(&watched, deadline).await;
            if found.of > 0 && found.instances == found.of {
                return Ok(Yield::default());
            }
            let waited = Duration::from_millis(job.clock.now().mono_ms.saturating_sub(start));
            if waited >= RETURN_PATIENCE {
                let message = format!(
                    "only {} of {} instances of {} use the old {name} again{}",
                    found.instances,
                    found.of,
                    found.consumer,
                    found.behind().unwrap_or_default()
                );
                let hint = "restart the other instances, then roll back again".to_owned();
                let hint = job.or_write_again(hint)?;
                return Err(CallError::rejected(ErrorKind::Declined, message).hint(hint));
            }
            job.clock.sleep(Duration::from_millis(500)).await;
        }
    }
}
