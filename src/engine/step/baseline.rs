//! `baseline`: uses outgoing before anything is changed, so that its refusal at the end means something.

use std::time::Duration;

use async_trait::async_trait;

use super::job::Job;
use super::{Look, OWN_PATIENCE};
use crate::domain::Phase;
use crate::engine::yields::Yield;
use crate::provider::CallError;

pub(super) struct Baseline {
    pub(super) probe: Option<usize>,
    pub(super) rejects: bool,
}

#[async_trait]
impl Look for Baseline {
    fn limit(&self, _: Duration) -> Duration {
        OWN_PATIENCE
    }

    async fn perform(&self, job: &Job) -> Result<Yield, CallError> {
        let outgoing = job.outgoing(0)?;
        let inquiry = job.inquiry(self.probe, self.rejects, Phase::Verify).await?;
        inquiry.before(&outgoing.material, !self.rejects).await
    }
}
