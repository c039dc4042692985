//! `revoke`: revokes outgoing and what was minted from it. And how any credential is revoked.

use std::time::Duration;

use async_trait::async_trait;

use super::job::{Job, nothing};
use super::{Effect, LOOK_BEFORE, Observed, applied, nothing_to_undo};
use crate::clock;
use crate::domain::{Life, Observation};
use crate::engine::yields::Yield;
use crate::provider::{CallError, Issuer};
use crate::rotation::{Facts, Found, SETTLE};
use crate::sabotage::{Sabotage, is_on};
use crate::secret::Material;

/// How long after *gone* the issuer of a young credential is asked once more.
const SECOND_LOOK: Duration = Duration::from_millis(500);

pub(super) struct Revoke;

#[async_trait]
impl Effect for Revoke {
    fn limit(&self, deadline: Duration) -> Duration {
        deadline + LOOK_BEFORE
    }

    async fn perform(&self, job: &Job) -> Result<Yield, CallError> {
        let handle = job.outgoing_handle()?;
        let outgoing = job.outgoing(0).ok().map(|h| h.material);
        let issuer = job.issuer().await?;
        job.look_before_the_end().await?;
        job.revoke(issuer.as_ref(), handle, outgoing.as_deref()).await.map(nothing)
    }

    async fn undo(&self, _: &Job) -> Result<Yield, CallError> {
        Err(nothing_to_undo())
    }

    async fn observe(&self, job: &Job) -> Observed {
        if is_on(Sabotage::Survivor) {
            return applied(true);
        }
        let issuer = job.issuer().await?;
        match issuer.life(job.outgoing_handle()?).await? {
            Life::Gone => applied(true),
            // The way back is closed, and the rest is to be done.
            Life::Deleted if is_on(Sabotage::Descendants) => applied(true),
            Life::Deleted => Ok((Found::Repeatable, Facts::new())),
            Life::Active | Life::Disabled => applied(false),
        }
    }

    async fn observe_undo(&self, _: &Job) -> Observed {
        applied(false)
    }
}

impl Job {
    /// Revokes, and believes it when the issuer does not know the credential any more: some answer and do
    /// nothing, and a refusal at the end may be that of a disabled one.
    pub(super) async fn revoke(
        &self,
        issuer: &dyn Issuer,
        handle: &str,
        material: Option<&Material>,
    ) -> Result<(), CallError> {
        issuer.revoke(&self.context, handle, material).await?;
        // Where an authority tells nothing, the proof is all there is; the embedded one always tells.
        let told = issuer.traits().change == Observation::Readable && !is_on(Sabotage::Control);
        if !told || is_on(Sabotage::Survivor) {
            return Ok(());
        }
        let mut life = self.read(|| issuer.life(handle)).await;
        if matches!(life, Ok(Life::Gone)) && self.is_young(handle) {
            // To a view that is older than the credential it was never there, and not even its revocation
            // makes a difference.
            self.clock.sleep(SECOND_LOOK).await;
            life = self.read(|| issuer.life(handle)).await;
        }
        match life {
            Ok(Life::Gone) => Ok(()),
            Ok(Life::Deleted) if is_on(Sabotage::Descendants) => Ok(()),
            Ok(_) => {
                let message = format!("its issuer accepted the revocation of {handle}, but still knows it");
                Err(CallError::unknown(message))
            }
            Err(error) => Err(error.doubtful()),
        }
    }

    /// Whether this run made the credential so lately that a view of its issuer may be older.
    fn is_young(&self, handle: &str) -> bool {
        // Handles are unique within one issuer only: another credential's may read the same.
        let outgoing =
            self.credential().ok().and_then(|(c, _, _)| self.plan.credentials[c].outgoing.as_ref());
        let known = outgoing.is_some_and(|outgoing| outgoing.handle == handle);
        let since = self.known.issued.unwrap_or(self.context.since);
        !known && clock::since(self.clock.now().wall, since) < SETTLE
    }
}
