//! `issue`: issues incoming; the way back revokes it. A try whose reply was lost is found by its tag, and what
//! nobody can use of it is discarded before the next.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::job::{FINGERPRINT, HANDLE, Job};
use super::promote::write_again;
use super::{Effect, Observed, applied};
use crate::domain::{ErrorKind, Identity, Life};
use crate::engine::safe::{self, Held, SafeError};
use crate::engine::yields::{Yield, facts};
use crate::gate;
use crate::journal::SealedEntry;
use crate::plan::Action;
use crate::provider::{CallContext, CallError, Issued, Issuer, Use};
use crate::rotation::{Facts, Found, Holds};
use crate::sabotage::{Sabotage, is_on};
use crate::secret::Material;

/// How long a consumer may take to stop using incoming before that is revoked, where no store shows it.
const MOVES_BACK: Duration = Duration::from_secs(10);

pub(super) struct Issue;

#[async_trait]
impl Effect for Issue {
    fn limit(&self, deadline: Duration) -> Duration {
        // What a lost reply left may have to be looked for in long lists, and consumers are waited for.
        deadline.max(Duration::from_secs(10)) * 2 + MOVES_BACK
    }

    async fn perform(&self, job: &Job) -> Result<Yield, CallError> {
        let (_, name, _) = job.credential()?;
        let issuer = job.issuer().await?;
        let place = safe::incoming(name, job.known.round);
        // A value made here was sealed before this call.
        let candidate = if issuer.traits().mints { None } else { job.safe.get(&place) };
        let issued = issuer.issue(&job.context, candidate.as_ref().map(|h| h.material.as_ref())).await?;
        if issued.material.is_blank() {
            return Err(CallError::unknown("the issuer returned an empty credential"));
        }
        job.refuse_the_old_one(&issued)?;
        let fingerprint = job.safe.fingerprint(&issued.material).to_string();
        let handle = issued.identity.handle.clone();
        let sealed = job
            .safe
            .put(&place, issued.material, Some(issued.identity))
            // It exists, and cannot be kept: found again by its tag, it will be revoked.
            .map_err(|e| CallError::unknown(e.to_string()))?;
        let mut out = facts([(HANDLE, handle), (FINGERPRINT, fingerprint)]);
        out.sealed.push(sealed);
        Ok(out)
    }

    async fn undo(&self, job: &Job) -> Result<Yield, CallError> {
        let handle = job.incoming_handle()?;
        let incoming = job.incoming().ok().map(|h| h.material);
        if is_on(Sabotage::Orphan) {
            return Ok(Yield::default());
        }
        let issuer = job.issuer().await?;
        if issuer.traits().replaces() {
            return job.restore(issuer.as_ref()).await;
        }
        // One that was disabled before the run is so again after it.
        if !job.plan.credentials[job.credential()?.0].disabled {
            job.look_before_return().await?;
        }
        refuse_handed_out(job).await?;
        // While the new one still lives, a list without it is known to be too old.
        let swept = job.sweep(&[], Some(handle)).await?;
        job.refuse_stopped()?;
        job.revoke(issuer.as_ref(), handle, incoming.as_deref()).await?;
        Ok(swept)
    }

    async fn observe(&self, job: &Job) -> Observed {
        if is_on(Sabotage::Twin) {
            return applied(false);
        }
        let (c, name, credential) = job.credential()?;
        let issuer = job.issuer().await?;
        let held = job.safe.get(&safe::incoming(name, job.known.round));
        let kept = |held: &Held, identity: &Identity| {
            let fingerprint = job.safe.fingerprint(&held.material).to_string();
            (Found::Applied, facts([(HANDLE, identity.handle.clone()), (FINGERPRINT, fingerprint)]).facts)
        };
        // The reply was sealed, and the process died before it could say so.
        if let Some((held, identity)) = held.as_ref().and_then(|h| Some((h, h.identity.as_ref()?)))
            && issuer.life(&identity.handle).await? == Life::Active
        {
            return Ok(kept(held, identity));
        }
        let before = &job.plan.credentials[c].existing;
        let context =
            CallContext { held: held.as_ref().map(|h| Arc::clone(&h.material)), ..job.context.clone() };
        let found = issuer.find(&context, before).await?;
        // Of what was made here, the server may add a part: with the response that is lost, and so is the credential.
        let whole =
            |held: &Held| credential.issuer.parts().iter().all(|part| held.material.part(part).is_some());
        match (found.first(), held) {
            (None, _) => applied(false),
            // The value was made here and is still known: what was found is as good as issued.
            (Some(handle), Some(held)) if !issuer.traits().mints && whole(&held) => {
                let identity = Identity { handle: handle.clone(), principal: name.to_owned() };
                Ok(kept(&held, &identity))
            }
            (Some(_), _) => Ok((Found::Orphans(found), Facts::new())),
        }
    }

    async fn observe_undo(&self, job: &Job) -> Observed {
        let issuer = job.issuer().await?;
        if issuer.traits().replaces() {
            let outgoing = job.outgoing(0)?;
            return applied(matches!(issuer.attempt(&outgoing.material).await?, Use::Accepted));
        }
        let life = issuer.life(job.incoming_handle()?).await?;
        let gone = life == Life::Gone;
        // What a repeated request made goes in the same step. Who cannot see it is warned by `undo`.
        applied(gone && job.leftovers(&[], None).await?.is_ok_and(|left| left.is_empty()))
    }
}

impl Job {
    /// What to do about a consumer that does not go back; a store that cannot be read may hold the new value still.
    pub(super) fn or_write_again(&self, hint: String) -> Result<String, CallError> {
        let (c, name, _) = self.credential()?;
        Ok(match self.plan.credentials[c].has_unreadable() {
            false => hint,
            true => format!("{hint}; or, if what it reads holds the new value still: {}", write_again(name)),
        })
    }

    /// Some issuers return what is there already when they are asked for a new credential: revoked as the old one, it
    /// would be the end of both. Nothing is looked for and revoked after such an answer.
    fn refuse_the_old_one(&self, issued: &Issued) -> Result<(), CallError> {
        let (c, name, credential) = self.credential()?;
        let outgoing = self.plan.credentials[c].outgoing.as_ref();
        let named = outgoing.is_some_and(|outgoing| outgoing.handle == issued.identity.handle);
        let held = (0..credential.stores.len())
            .any(|store| self.outgoing(store).is_ok_and(|old| old.material.same_as(&issued.material)));
        if !named && !held {
            return Ok(());
        }
        let same = if named { "under its own name" } else { "with its value" };
        let message = format!(
            "its issuer returned the old {name} as the new one, {same} ({}); nothing was revoked",
            issued.identity.handle
        );
        Err(CallError::rejected(ErrorKind::Invalid, message)
            .hint("make the issuer create another credential, then resume; it may have made one that only you can find"))
    }

    /// A value that is made here is sealed before the first call that carries it, and every later attempt
    /// sends the same one.
    pub(in crate::engine) async fn seal_candidate(&self) -> Result<Option<SealedEntry>, SafeError> {
        let Action::Issue { credential } = self.step().action else { return Ok(None) };
        let (planned, spec) = self.plan.credential(credential);
        let name = safe::incoming(&planned.name, self.known.round);
        if planned.issuer.mints || self.safe.get(&name).is_some() {
            return Ok(None);
        }
        // An issuer that cannot be made now cannot be made for the call either, and says so there.
        let Ok(issuer) = self.provider.issuer(&planned.name, spec).await else { return Ok(None) };
        issuer.candidate(&self.context).map(|candidate| self.safe.put(&name, candidate, None)).transpose()
    }

    /// Sets the old value again where the new one took its place, once the stores hand the old one out, and uses it.
    async fn restore(&self, issuer: &dyn Issuer) -> Result<Yield, CallError> {
        let (_, name, credential) = self.credential()?;
        refuse_handed_out(self).await?;
        let outgoing = self.outgoing(0)?;
        issuer.restore(&self.context, &outgoing.material).await?;
        self.is_accepted(&outgoing.material, "old").await.map_err(|e| {
            let message =
                format!("the old {name} was set again at its issuer, but is not accepted: {}", e.message);
            CallError { message, ..e }.doubtful()
        })?;
        if let Ok(incoming) = self.incoming()
            && self.is_accepted_by_any(&credential.accepts, &incoming.material).await
        {
            let message =
                format!("the old {name} was set again at its issuer, which still accepts the new one");
            return Err(CallError::unknown(message)
                .hint("its issuer keeps both: make it refuse the new one by hand, then roll back again"));
        }
        Ok(Yield::default())
    }

    /// Revokes what an attempt left behind.
    pub(in crate::engine) async fn discard(&self) -> Result<Yield, CallError> {
        // What a person wants replaced may have been written by another since.
        refuse_handed_out(self).await?;
        let issuer = self.issuer().await?;
        let orphans = &self.known.orphans;
        for (revoked, handle) in orphans.iter().enumerate() {
            let one = async {
                self.refuse_stopped()?;
                self.revoke(issuer.as_ref(), handle, None).await
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
}

/// Refuses to revoke incoming while a store hands it out. The record says that none does; but another
/// process may have written there since, and a server may have forgotten.
async fn refuse_handed_out(job: &Job) -> Result<(), CallError> {
    if is_on(Sabotage::Outage) {
        return Ok(());
    }
    let (c, name, credential) = job.credential()?;
    let unreadable = job.plan.credentials[c].has_unreadable();
    for store in (0..credential.stores.len()).filter(|store| !job.reads(*store)) {
        let holds = job.holds(store).await.map_err(CallError::read_only)?;
        let touched = job.known.versions.get(store).is_none_or(|versions| versions.touched);
        // Who lost the permission to look is told that there is nothing, too.
        if touched && holds != Holds::Unwritten {
            let message = format!(
                "{} cannot be read, and was written since: it may hold the new {name}, which was not revoked",
                credential.stores[store].target()
            );
            return Err(CallError::rejected(ErrorKind::Declined, message).hint(format!(
                "find out which process wrote there, and stop it; then {}",
                write_again(name)
            )));
        }
    }
    // What cannot be opened any more cannot be compared.
    if let Ok(held) = job.incoming() {
        for store in (0..credential.stores.len()).filter(|store| job.reads(*store)) {
            let target = credential.stores[store].target();
            if job.current_is(store, &held.material).await.map_err(CallError::read_only)?.0 {
                let message = format!("{target} holds the new {name}; it was not revoked");
                let hint = "find out which process wrote there; then resume, or roll back";
                return Err(CallError::rejected(ErrorKind::Declined, message).hint(hint));
            }
        }
        if credential.stores.is_empty() || unreadable {
            refuse_used(job, &held.material).await?;
        }
    }
    job.refuse_stopped()
}

/// Refuses while an instance of a consumer says that it uses incoming, or says nothing: no store shows whether
/// it went back.
async fn refuse_used(job: &Job, incoming: &Arc<Material>) -> Result<(), CallError> {
    let (_, name, credential) = job.credential()?;
    let deadline = job.plan.runbook.limits.deadline.get();
    for (at, spec) in credential.consumers.iter().enumerate().filter(|(_, spec)| spec.attest.is_some()) {
        let watched = job.watched(at, incoming).await?;
        let start = job.clock.now().mono_ms;
        loop {
            let found = gate::adoption(&watched, deadline).await;
            if found.of > 0 && found.instances == 0 && found.trouble.is_none() {
                break;
            }
            if job.clock.now().mono_ms.saturating_sub(start) >= MOVES_BACK.as_millis() as u64 {
                let (instances, of) = (found.instances, found.of);
                let message = format!(
                    "{instances} of {of} instances of {} use the new {name}{}; it was not revoked",
                    spec.name,
                    found.trouble.map(|trouble| format!(" ({trouble})")).unwrap_or_default()
                );
                let hint = "give it the old value again, then roll back again".to_owned();
                return Err(CallError::rejected(ErrorKind::Declined, message).hint(job.or_write_again(hint)?));
            }
            job.clock.sleep(Duration::from_millis(500)).await;
        }
    }
    Ok(())
}
