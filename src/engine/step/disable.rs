//! `disable`: disables outgoing, reversibly.

use std::time::Duration;

use async_trait::async_trait;

use super::job::{Job, nothing};
use super::{Effect, LOOK_BEFORE, Observed};
use crate::domain::{Check, ErrorKind, Life};
use crate::engine::yields::Yield;
use crate::provider::CallError;
use crate::sabotage::{Sabotage, is_on};

pub(super) struct Disable;

#[async_trait]
impl Effect for Disable {
    fn limit(&self, deadline: Duration) -> Duration {
        deadline + LOOK_BEFORE
    }

    async fn perform(&self, job: &Job) -> Result<Yield, CallError> {
        let handle = job.outgoing_handle()?;
        let issuer = job.issuer().await?;
        job.look_before_the_end().await?;
        match issuer.disable(&job.context, handle).await {
            // One that is gone is as good as disabled; what it made ends when it is revoked.
            Err(e) if e.kind == ErrorKind::NotFound => match issuer.life(handle).await? {
                life @ (Life::Gone | Life::Deleted) => Ok(Yield {
                    checks: vec![Check::warn("old credential", format!("it is already {life}"))],
                    ..Yield::default()
                }),
                Life::Active | Life::Disabled => Err(e),
            },
            other => other.map(nothing),
        }
    }

    async fn undo(&self, job: &Job) -> Result<Yield, CallError> {
        let handle = job.outgoing_handle()?;
        if is_on(Sabotage::WayBack) {
            return Ok(Yield::default());
        }
        job.issuer().await?.enable(&job.context, handle).await.map(nothing)
    }

    async fn observe(&self, job: &Job) -> Observed {
        job.observe_outgoing(Life::Disabled).await
    }

    async fn observe_undo(&self, job: &Job) -> Observed {
        job.observe_outgoing(Life::Active).await
    }
}
