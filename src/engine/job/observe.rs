//! Finding out what became of an earlier try.

use super::{FINGERPRINT, HANDLE, Job, VERSION, WAS, bug};
use crate::domain::{ErrorKind, Identity, Life, Observation, Versions};
use crate::engine::safe::{self, Held};
use crate::engine::yields::facts;
use crate::plan::Action;
use crate::provider::{CallError, Use};
use crate::rotation::{Facts, Found};
use crate::runbook::model;
use crate::sabotage::{Sabotage, is_on};
use crate::secret::Material;

impl Job {
    /// Finds out what became of an earlier try to do the step.
    pub(in crate::engine) async fn observe_do(&self) -> Result<(Found, Facts), CallError> {
        let applied = |yes: bool| (if yes { Found::Applied } else { Found::Absent }, Facts::new());
        if self.step().class == Some(Observation::Idempotent)
            && !matches!(self.step().action, Action::Issue { .. })
        {
            return Ok((Found::Repeatable, Facts::new()));
        }
        match &self.step().action {
            Action::Issue { credential } => self.observe_issue(*credential).await,
            Action::Stage { store, .. } => {
                let incoming = self.incoming()?;
                let store = self.store(*store).await?;
                let Some(pending) = store.observe().await?.pending else { return Ok(applied(false)) };
                let same = store.read(Some(&pending)).await?.same_as(&incoming.material);
                Ok(if same { (Found::Applied, facts([(VERSION, pending)]).facts) } else { applied(false) })
            }
            Action::Promote { store, .. } => {
                let incoming = self.incoming()?;
                let base = self.base()?.to_owned();
                let (same, versions) = self.current_is(*store, &incoming.material).await?;
                // Where the mark of a staged version still stands, the promotion is to be finished.
                let half = versions.pending.is_some() && versions.pending == versions.current;
                let found = if half { Found::Repeatable } else { Found::Applied };
                let version = versions.current.unwrap_or_default();
                Ok(if same {
                    (found, facts([(VERSION, version), (WAS, base)]).facts)
                } else {
                    applied(false)
                })
            }
            Action::Disable { credential } => self.observe_life(*credential, Life::Disabled).await,
            Action::Revoke { credential } => self.observe_life(*credential, Life::Gone).await,
            Action::Destroy { store, .. } => {
                let base = self.base()?;
                match self.store(*store).await?.read(Some(base)).await {
                    Ok(_) => Ok(applied(false)),
                    Err(e) if e.kind == ErrorKind::NotFound => Ok(applied(true)),
                    Err(e) => Err(e),
                }
            }
            Action::Own { name } => Ok(applied(self.is_in_effect(name).await?)),
            // Looks change nothing, and a reload can be repeated.
            _ => Ok(applied(false)),
        }
    }

    /// Finds out what became of an earlier try to take the step back.
    pub(in crate::engine) async fn observe_undo(&self) -> Result<(Found, Facts), CallError> {
        let applied = |yes: bool| (if yes { Found::Applied } else { Found::Absent }, Facts::new());
        match &self.step().action {
            Action::Issue { .. } => {
                let life = self.issuer().await?.life(self.incoming_handle()?).await?;
                let gone = life == Life::Gone;
                // What a repeated request made goes in the same step. Who cannot see it is warned by `do`.
                Ok(applied(gone && self.leftovers(&[], None).await?.is_ok_and(|left| left.is_empty())))
            }
            Action::Stage { store, .. } => {
                let versions = self.store(*store).await?.observe().await?;
                Ok(applied(versions.pending != self.needs.staged))
            }
            Action::Promote { store, .. } => {
                let outgoing = self.outgoing(*store)?;
                let (same, versions) = self.current_is(*store, &outgoing.material).await?;
                let version = versions.current.unwrap_or_default();
                Ok(if same { (Found::Applied, facts([(VERSION, version)]).facts) } else { applied(false) })
            }
            Action::Disable { credential } => self.observe_life(*credential, Life::Active).await,
            Action::Own { name } if self.own(name)?.observe.is_some() => {
                Ok(applied(!self.is_in_effect(name).await?))
            }
            _ => Ok(applied(false)),
        }
    }

    /// Whether an own step is in effect, as its `observe:` program says.
    async fn is_in_effect(&self, name: &str) -> Result<bool, CallError> {
        let Some(observe) = self.own(name)?.observe.clone() else {
            return Err(bug("the step cannot be observed"));
        };
        let nobody = &self.plan.runbook.credentials;
        let (name, credential) = nobody.first_key_value().ok_or_else(|| bug("the plan has no credential"))?;
        let probe = self
            .provider
            .probe(name, credential, &model::Probe::Exec(crate::kind::exec::ExecProbe(observe)))
            .await?;
        Ok(probe.attempt(&Material::default()).await? == Use::Accepted)
    }

    async fn observe_issue(&self, c: usize) -> Result<(Found, Facts), CallError> {
        if is_on(Sabotage::Twin) {
            return Ok((Found::Absent, Facts::new()));
        }
        let (_, name, _) = self.credential()?;
        let issuer = self.issuer().await?;
        let held = self.safe.get(&safe::incoming(name, self.needs.round));
        let kept = |held: &Held, identity: &Identity| {
            let fingerprint = self.safe.fingerprint(&held.material).to_string();
            (Found::Applied, facts([(HANDLE, identity.handle.clone()), (FINGERPRINT, fingerprint)]).facts)
        };
        // The reply was sealed, and the process died before it could say so.
        if let Some((held, identity)) = held.as_ref().and_then(|h| Some((h, h.identity.as_ref()?)))
            && issuer.life(&identity.handle).await? == Life::Active
        {
            return Ok(kept(held, identity));
        }
        let before = &self.plan.credentials[c].existing;
        let found = issuer.find(&self.context, before).await?;
        match (found.first(), held) {
            (None, _) => Ok((Found::Absent, Facts::new())),
            // The value was made here and is still known: what was found is as good as issued.
            (Some(handle), Some(held)) if !issuer.traits().mints => {
                let identity = Identity { handle: handle.clone(), principal: name.to_owned() };
                Ok(kept(&held, &identity))
            }
            (Some(_), _) => Ok((Found::Orphans(found), Facts::new())),
        }
    }

    async fn observe_life(&self, c: usize, wanted: Life) -> Result<(Found, Facts), CallError> {
        let life = self.issuer().await?.life(self.outgoing_handle(c)?).await?;
        if is_on(Sabotage::Survivor) {
            return Ok((Found::Applied, Facts::new()));
        }
        Ok((if life == wanted { Found::Applied } else { Found::Absent }, Facts::new()))
    }

    /// Whether a store's current version has this value, and which versions there are.
    pub(super) async fn current_is(
        &self,
        store: usize,
        material: &Material,
    ) -> Result<(bool, Versions), CallError> {
        let store = self.store(store).await?;
        let versions = store.observe().await?;
        let same = match &versions.current {
            None => false,
            Some(current) => store.read(Some(current)).await?.same_as(material),
        };
        Ok((same, versions))
    }
}
