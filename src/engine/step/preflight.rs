//! `connection`, `permission`: looks at a server, and whether the issuer will permit every later step.

use std::time::Duration;

use async_trait::async_trait;

use super::Look;
use super::job::{Job, checked};
use crate::domain::Strategy;
use crate::engine::yields::Yield;
use crate::provider::CallError;

pub(super) struct Connection {
    pub(super) connection: String,
}

#[async_trait]
impl Look for Connection {
    fn limit(&self, deadline: Duration) -> Duration {
        deadline
    }

    async fn perform(&self, job: &Job) -> Result<Yield, CallError> {
        checked(job.provider.preflight(&self.connection).await)
    }
}

pub(super) struct Permission;

#[async_trait]
impl Look for Permission {
    fn limit(&self, deadline: Duration) -> Duration {
        deadline
    }

    async fn perform(&self, job: &Job) -> Result<Yield, CallError> {
        let outgoing = job.plan.credentials[job.credential()?.0].outgoing.as_ref();
        let issuer = job.issuer().await?;
        checked(match (job.plan.strategy, outgoing) {
            (Strategy::Revoke, Some(outgoing)) => vec![issuer.before_revoking(outgoing).await],
            _ => issuer.preflight(outgoing).await,
        })
    }
}
