//! `accept`: uses incoming, until the answer is sure.

use std::time::Duration;

use async_trait::async_trait;

use super::job::Job;
use super::{Look, OWN_PATIENCE};
use crate::domain::Phase;
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
        job.inquiry(self.probe, false, Phase::Verify).await?.accepted(&incoming.material).await
    }
}
