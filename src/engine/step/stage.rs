//! `stage`: writes incoming as a version that is not yet current.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::earlier::Earlier;
use super::job::{Job, VERSION, bug, nothing};
use super::{Effect, Observed, applied};
use crate::engine::yields::{Yield, facts};
use crate::provider::{CallContext, CallError};
use crate::rotation::Found;

pub(super) struct Stage {
    store: usize,
    /// The version that it staged.
    staged: Option<String>,
    siblings: Vec<Uuid>,
}

impl Stage {
    pub(super) fn new(earlier: &Earlier<'_>, credential: usize, store: usize) -> Self {
        let (staged, siblings) = (earlier.staged(credential, store), earlier.siblings(credential, store));
        Self { store, staged, siblings }
    }

    fn context(&self, job: &Job) -> CallContext {
        CallContext { siblings: self.siblings.clone(), ..job.context.clone() }
    }
}

#[async_trait]
impl Effect for Stage {
    fn limit(&self, deadline: Duration) -> Duration {
        deadline
    }

    async fn perform(&self, job: &Job) -> Result<Yield, CallError> {
        let incoming = job.incoming()?;
        let version = job.store(self.store).await?.stage(&self.context(job), &incoming.material).await?;
        Ok(facts([(VERSION, version)]))
    }

    async fn undo(&self, job: &Job) -> Result<Yield, CallError> {
        let staged = self.staged.as_deref().ok_or_else(|| bug("nothing is staged"))?;
        job.store(self.store).await?.retire(&self.context(job), staged).await.map(nothing)
    }

    async fn observe(&self, job: &Job) -> Observed {
        let incoming = job.incoming()?;
        let store = job.store(self.store).await?;
        let Some(pending) = store.observe().await?.pending else { return applied(false) };
        let same = store.read(Some(&pending)).await?.same_as(&incoming.material);
        if same { Ok((Found::Applied, facts([(VERSION, pending)]).facts)) } else { applied(false) }
    }

    async fn observe_undo(&self, job: &Job) -> Observed {
        let versions = job.store(self.store).await?.observe().await?;
        applied(versions.pending != self.staged)
    }
}
