//! What the world shows of a credential at a session's end, and between sessions. Read-only.

use super::job::{Job, OldAndNew};
use super::last_look::nothing_is_an_answer;
use crate::domain::{ErrorKind, Life, Observation};
use crate::gate::{self, Adoption};
use crate::provider::{CallError, Use};
use crate::rotation::{Holds, Seen, Sight};
use crate::runbook::model::Probe;
use crate::sabotage::{Sabotage, is_on};
use crate::secret::Material;

/// Who is asked beside stores and issuers.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Asked {
    /// The consumers that attest.
    pub(in crate::engine) consumers: bool,
    /// The checks under `rejects`, with the old credential.
    pub(in crate::engine) old: bool,
}

/// What was seen of a credential, and of those who use it.
#[derive(Debug, Clone)]
pub(in crate::engine) struct Look {
    pub(in crate::engine) seen: Seen,
    pub(in crate::engine) used: Vec<Adoption>,
}

impl Job {
    /// What the world shows of the step's credential, read-only; whatever cannot be seen says so. `versions`
    /// tells what stores hold once the values are destroyed: the new version of each, and the old one.
    async fn sight(&self, versions: Option<&[OldAndNew]>) -> Option<Seen> {
        let (c, _, credential) = self.credential().ok()?;
        let mut stores = Vec::with_capacity(credential.stores.len());
        for store in 0..credential.stores.len() {
            let holds = match versions {
                None => self.holds(store).await,
                Some(versions) => nothing_is_an_answer(self.holds_version(store, &versions[store]).await),
            };
            stores.push(holds.unwrap_or(Holds::Unreadable));
        }
        let planned = &self.plan.credentials[c];
        let outgoing = planned.outgoing.as_ref().map(|o| o.handle.as_str());
        if planned.issuer.change != Observation::Readable {
            return Some(Seen { stores, outgoing: Sight::Unseen, incoming: Sight::Unseen });
        }
        let outgoing = self.life_of(outgoing).await;
        Some(Seen { stores, outgoing, incoming: self.life_of(self.known.incoming.as_deref()).await })
    }

    /// What the world shows of the step's credential, and of what else is `asked`. `versions` as for [`Self::sight`].
    pub(in crate::engine) async fn look(&self, versions: Option<&[OldAndNew]>, asked: Asked) -> Option<Look> {
        let (seen, used, let_in) = tokio::join!(
            self.sight(versions),
            async { if asked.consumers { self.uses().await } else { Vec::new() } },
            async { asked.old && self.is_let_in().await },
        );
        let seen = seen?;
        let outgoing = if let_in { Sight::Accepted } else { seen.outgoing };
        Some(Look { seen: Seen { outgoing, ..seen }, used })
    }

    /// What each consumer that attests says it uses now, measured by the new value. None once that is destroyed.
    async fn uses(&self) -> Vec<Adoption> {
        let (Ok((_, _, credential)), Ok(incoming)) = (self.credential(), self.incoming()) else {
            return Vec::new();
        };
        let mut watched = Vec::new();
        for at in (0..credential.consumers.len()).filter(|at| credential.consumers[*at].attest.is_some()) {
            watched.extend(self.watched(at, &incoming.material).await);
        }
        gate::adoptions(&watched, self.plan.runbook.limits.deadline.get()).await
    }

    /// Whether a check under `rejects` accepts the old credential, though the proof is over: a custom step behind it
    /// may have let it in again. Asked where its issuer cannot tell, and where such steps are.
    async fn is_let_in(&self) -> bool {
        let (Ok((c, _, credential)), Ok(outgoing)) = (self.credential(), self.outgoing(0)) else {
            return false;
        };
        let planned = &self.plan.credentials[c];
        let asked = planned.issuer.change != Observation::Readable || self.plan.has_steps_after_proof();
        if !asked || planned.waived.is_some() || is_on(Sabotage::Survivor) {
            return false;
        }
        self.is_accepted_by_any(crate::plan::rejects(credential), &outgoing.material).await
    }

    /// Whether one of these checks of the step's credential accepts a value. One that cannot be asked does not.
    pub(super) async fn is_accepted_by_any(&self, probes: &[Probe], material: &Material) -> bool {
        let Ok((_, name, credential)) = self.credential() else { return false };
        for probe in probes {
            let Ok(probe) = self.provider.probe(name, credential, probe).await else { continue };
            if matches!(probe.attempt(material).await, Ok(Use::Accepted)) {
                return true;
            }
        }
        false
    }

    async fn life_of(&self, handle: Option<&str>) -> Sight {
        let Some(handle) = handle else { return Sight::Unseen };
        match self.life(handle).await {
            Ok(Life::Active) => Sight::Alive,
            Ok(Life::Deleted) if is_on(Sabotage::Descendants) => Sight::Gone,
            Ok(Life::Disabled) => Sight::Disabled,
            Ok(Life::Deleted) => Sight::Deleted,
            Ok(Life::Gone) => Sight::Gone,
            Err(_) => Sight::Unseen,
        }
    }

    /// What a store hands out, told by the version that this run wrote, and by the one that it found there.
    pub(super) async fn holds_version(&self, store: usize, known: &OldAndNew) -> Result<Holds, CallError> {
        let stored = self.store(store).await?;
        let current = self.read(|| stored.observe()).await?.current;
        Ok(match &current {
            None => Holds::Nothing,
            Some(_) if !self.reads(store) && current == known.new => Holds::Written,
            Some(_) if !self.reads(store) && current == known.old => Holds::Unwritten,
            Some(_) if !self.reads(store) => Holds::Other,
            Some(_) if current == known.new => Holds::Incoming,
            Some(_) if current == known.old => Holds::Outgoing,
            Some(version) => self.holds_identity(store, version).await?,
        })
    }

    /// What a store hands out at a version that this run did not write, as far as its issuer tells one credential
    /// from another: a neighbour may have been written, or the own field.
    async fn holds_identity(&self, store: usize, version: &str) -> Result<Holds, CallError> {
        let planned = &self.plan.credentials[self.credential()?.0];
        let stored = self.store(store).await?;
        let value = match self.read(|| stored.read(Some(version))).await {
            Ok(value) => value,
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(Holds::Nothing),
            Err(error) => return Err(error),
        };
        self.safe.learn(&value);
        if planned.issuer.change != Observation::Readable {
            return Ok(Holds::Incomparable);
        }
        let issuer = self.issuer().await?;
        let Ok(standing) = self.read(|| issuer.identify(&value)).await else {
            return Ok(Holds::Incomparable);
        };
        let is = |handle: Option<&str>| {
            standing.as_ref().is_some_and(|standing| Some(standing.identity.handle.as_str()) == handle)
        };
        Ok(if is(self.known.incoming.as_deref()) {
            Holds::Incoming
        } else if is(planned.outgoing.as_ref().map(|outgoing| outgoing.handle.as_str())) {
            Holds::Outgoing
        } else {
            Holds::Other
        })
    }
}
