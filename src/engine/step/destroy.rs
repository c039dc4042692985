//! `destroy`: destroys the version of a store that holds outgoing.

use std::time::Duration;

use async_trait::async_trait;

use super::earlier::Earlier;
use super::job::{Job, first_version, nothing};
use super::{Effect, Observed, applied, nothing_to_undo};
use crate::domain::ErrorKind;
use crate::engine::yields::Yield;
use crate::provider::CallError;

pub(super) struct Destroy {
    store: usize,
    /// The version that was current when the run began, or was restored since.
    base: Option<String>,
}

impl Destroy {
    pub(super) fn new(earlier: &Earlier<'_>, credential: usize, store: usize) -> Self {
        Self { store, base: earlier.base(credential, store) }
    }
}

#[async_trait]
impl Effect for Destroy {
    fn limit(&self, deadline: Duration) -> Duration {
        deadline
    }

    async fn perform(&self, job: &Job) -> Result<Yield, CallError> {
        let (base, outgoing) = (first_version(&self.base)?, job.outgoing(self.store)?.material);
        job.store(self.store).await?.destroy(&job.context, base, &outgoing).await.map(nothing)
    }

    async fn undo(&self, _: &Job) -> Result<Yield, CallError> {
        Err(nothing_to_undo())
    }

    async fn observe(&self, job: &Job) -> Observed {
        let base = first_version(&self.base)?;
        match job.store(self.store).await?.read(Some(base)).await {
            Ok(_) => applied(false),
            Err(e) if e.kind == ErrorKind::NotFound => applied(true),
            Err(e) => Err(e),
        }
    }

    async fn observe_undo(&self, _: &Job) -> Observed {
        applied(false)
    }
}
