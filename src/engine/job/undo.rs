//! Taking a step back, and discarding what a try left behind.

use std::time::Duration;

use super::{Job, VERSION, bug, nothing};
use crate::clock;
use crate::domain::{ErrorKind, Life, Observation};
use crate::engine::yields::{Yield, facts};
use crate::gate::{self, Watched};
use crate::plan::Action;
use crate::provider::{CallError, Issuer};
use crate::rotation::SETTLE;
use crate::runbook::model;
use crate::sabotage::{Sabotage, is_on};
use crate::secret::Material;

/// How long a consumer may take to go back to the outgoing version during rollback, before the
/// incoming one is revoked under it.
const RETURN_PATIENCE: Duration = Duration::from_secs(60);

/// How long after *gone* the issuer of a young credential is asked once more.
const SECOND_LOOK: Duration = Duration::from_millis(500);

impl Job {
    /// Takes the step back.
    pub(in crate::engine) async fn undo(&self) -> Result<Yield, CallError> {
        match &self.step().action {
            Action::Issue { .. } => {
                let handle = self.incoming_handle()?;
                let incoming = self.incoming().ok().map(|h| h.material);
                if is_on(Sabotage::Orphan) {
                    return Ok(Yield::default());
                }
                let issuer = self.issuer().await?;
                // One that was disabled before the run is so again after it.
                if !self.plan.credentials[self.credential()?.0].disabled {
                    self.outgoing_is_accepted().await?;
                }
                self.refuse_handed_out().await?;
                // While the new one still lives, a list without it is known to be too old.
                let swept = self.sweep(&[], Some(handle)).await?;
                self.refuse_stopped()?;
                self.end(issuer.as_ref(), handle, incoming.as_deref()).await?;
                Ok(swept)
            }
            Action::Stage { store, .. } => {
                let staged = self.needs.staged.as_deref().ok_or_else(|| bug("nothing is staged"))?;
                self.store(*store).await?.retire(&self.context, staged).await.map(nothing)
            }
            Action::Promote { store, .. } => {
                let (outgoing, incoming) = (self.outgoing(*store)?, self.incoming()?);
                let was = self.needs.base.as_deref();
                let store = self.store(*store).await?;
                self.outgoing_is_accepted().await?;
                self.refuse_stopped()?;
                let done = store.promote(&self.context, &outgoing.material, &incoming.material, was).await?;
                Ok(facts([(VERSION, done.version)]))
            }
            Action::Reload { consumer, .. } => {
                self.reload(*consumer).await?;
                self.wait_for_return(*consumer).await
            }
            Action::Disable { credential } => {
                let handle = self.outgoing_handle(*credential)?;
                if is_on(Sabotage::WayBack) {
                    return Ok(Yield::default());
                }
                self.issuer().await?.enable(&self.context, handle).await.map(nothing)
            }
            Action::Own { name } => {
                let call = match &self.own(name)?.undo {
                    None | Some(model::Undo::None) => return Ok(Yield::default()),
                    Some(model::Undo::Manual(question)) => return self.manual(name, question).await,
                    Some(model::Undo::Exec(exec)) => model::Call::Exec(exec.clone()),
                    Some(model::Undo::Http(http)) => model::Call::Http(http.clone()),
                };
                self.provider.call(&call).await?.perform(&self.context, None).await.map(nothing)
            }
            _ => Err(bug("the step has nothing to undo")),
        }
    }

    /// Revokes what an attempt left behind.
    pub(in crate::engine) async fn discard(&self) -> Result<Yield, CallError> {
        let issuer = self.issuer().await?;
        let orphans = &self.needs.orphans;
        for (revoked, handle) in orphans.iter().enumerate() {
            let one = async {
                self.refuse_stopped()?;
                self.end(issuer.as_ref(), handle, None).await
            };
            one.await.map_err(|mut e| {
                if revoked > 0 {
                    // The step as a whole did change something.
                    e.in_doubt = true;
                    e.message = format!("after {revoked} of {} were revoked: {}", orphans.len(), e.message);
                }
                e
            })?;
        }
        Ok(Yield::default())
    }

    /// Revokes, and believes it when the issuer does not know the credential any more: some answer and do
    /// nothing, and a refusal at the end may be that of a disabled one.
    pub(super) async fn end(
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
        let mut life = issuer.life(handle).await;
        if matches!(life, Ok(Life::Gone)) && self.is_young(handle) {
            // To a view that is older than the credential it was never there, and not even its revocation
            // makes a difference.
            self.clock.sleep(SECOND_LOOK).await;
            life = issuer.life(handle).await;
        }
        match life {
            Ok(Life::Gone) => Ok(()),
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
        let since = self.needs.issue.as_ref().map_or(self.context.since, |issue| issue.since);
        !known && clock::since(self.clock.now().wall, since) < SETTLE
    }

    /// After a swap back: incoming must not be revoked under a consumer that still uses it.
    async fn wait_for_return(&self, consumer: usize) -> Result<Yield, CallError> {
        let (_, name, credential) = self.credential()?;
        let spec = &credential.consumers[consumer];
        if spec.attest.is_none() {
            return Ok(Yield::default());
        }
        let watched = Watched {
            credential: name.to_owned(),
            consumer: spec.name.clone(),
            ask: self.provider.consumer(name, credential, consumer).await?,
            wanted: self.outgoing(0)?.material,
        };
        let deadline = self.plan.runbook.limits.deadline.get();
        let start = self.clock.now().mono_ms;
        loop {
            let found = gate::adoption(&watched, deadline).await;
            if found.of > 0 && found.instances == found.of {
                return Ok(Yield::default());
            }
            let waited = Duration::from_millis(self.clock.now().mono_ms.saturating_sub(start));
            if waited >= RETURN_PATIENCE {
                let message = format!(
                    "only {} of {} instances of {} use the old {name} again",
                    found.instances, found.of, found.consumer
                );
                let hint = "restart the other instances, then roll back again";
                return Err(CallError::rejected(ErrorKind::Declined, message).hint(hint));
            }
            self.clock.sleep(Duration::from_millis(500)).await;
        }
    }

    /// Refuses to revoke incoming while a store hands it out. The record says that none does; but another
    /// process may have written there since, and a server may have forgotten.
    async fn refuse_handed_out(&self) -> Result<(), CallError> {
        if is_on(Sabotage::Outage) {
            return Ok(());
        }
        let (_, name, credential) = self.credential()?;
        // What cannot be opened any more cannot be compared.
        if let Ok(held) = self.incoming() {
            for store in 0..credential.stores.len() {
                if self.current_is(store, &held.material).await.map_err(CallError::read_only)?.0 {
                    let target = credential.stores[store].target();
                    let message = format!("{target} holds the new {name}; it was not revoked");
                    let hint = "find out which process wrote there; then resume, or roll back";
                    return Err(CallError::rejected(ErrorKind::Declined, message).hint(hint));
                }
            }
        }
        self.refuse_stopped()
    }
}
