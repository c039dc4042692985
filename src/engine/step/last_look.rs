//! Looks at the world right before what cannot be undone: a credential dies, or the one that is to stay takes
//! its place.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::job::{Job, lost};
use super::patience::unthrottled;
use crate::clock::since;
use crate::domain::{ErrorKind, Life, Observation, Phase, Strategy};
use crate::engine::safe::{self, Held};
use crate::gate;
use crate::provider::CallError;
use crate::rotation::Holds;
use crate::sabotage::{Sabotage, is_on};
use crate::secret::Material;

/// For how long a new credential counts as verified once the first of its checks in `verify` has passed.
const VERIFIED: Duration = Duration::from_millis(500);
/// How often one question may be refused for the number of requests: with the waits between, 23 s.
const REFUSALS: u32 = 6;

/// The longest wait for a server that refuses the number of requests, in the middle of a look.
const SHORT: Duration = Duration::from_secs(10);

impl Job {
    /// Looks once more, right before a credential dies: every store hands out the one that is to stay,
    /// that one is accepted everywhere, consumers use it, and what was disabled still is. Under `contain`
    /// the outgoing one dies before it is replaced, knowingly, and a bare revocation replaces nothing.
    pub(super) async fn look_before_the_end(&self) -> Result<(), CallError> {
        let contain = self.plan.strategy == Strategy::Contain;
        let bare = self.plan.strategy == Strategy::Revoke;
        if bare || (contain && self.step().phase == Phase::Sunset) || is_on(Sabotage::LastLook) {
            return self.refuse_stopped();
        }
        let (c, name, credential) = self.credential()?;
        let incoming = self.incoming()?;
        self.is_accepted(&incoming.material, "new").await.map_err(|e| {
            let message = format!("the old {name} was not changed: {}", e.message);
            // Without an answer nothing is wrong with it, as far as stanch knows.
            let hint = match e.kind {
                ErrorKind::NoAnswer | ErrorKind::Unreachable => {
                    "make the server or the check that gave no answer work, then resume"
                }
                _ => "fix the new credential, then resume; for other ways: stanch status",
            };
            CallError { message, ..e }.hint(hint)
        })?;
        // Of a store that cannot be read, nothing else shows that the new value arrived.
        if !contain || self.plan.credentials[c].has_unreadable() {
            for at in 0..credential.consumers.len() {
                self.still_adopted(at, &incoming.material).await?;
            }
        }
        if self.known.disabled && self.step().phase == Phase::Revoke {
            let handle = self.outgoing_handle()?;
            if self.life(handle).await? == Life::Active {
                let message = format!(
                    "another client enabled the old {name} again after this run disabled it; it was not revoked"
                );
                let hint = "find out which client needs it, and move it to the new one; disable the old one again by hand, then resume";
                return Err(CallError::rejected(ErrorKind::Declined, message).hint(hint));
            }
        }
        // Last: a check may take its time, and somebody else may write meanwhile.
        for store in 0..credential.stores.len() {
            let holds = self.holds(store).await?;
            if !matches!(holds, Holds::Incoming | Holds::Written) {
                let target = credential.stores[store].target();
                let message = match holds {
                    Holds::Outgoing => {
                        format!("{target} holds the old {name} again; nothing was changed")
                    }
                    Holds::Unwritten => {
                        format!(
                            "{target} has the version again that it had without the new {name}; nothing was changed"
                        )
                    }
                    Holds::Unreadable => {
                        return Err(lost(format!(
                            "cannot compare the value in {target}: the old {name} is not among the sealed secrets"
                        )));
                    }
                    Holds::Nothing => format!("{target} no longer holds a value; nothing was changed"),
                    _ => format!("{target} holds a value that this run did not write; nothing was changed"),
                };
                return Err(CallError::rejected(ErrorKind::Declined, message).hint(self.how_to_rewrite()));
            }
            let stored = self.store(store).await?;
            self.read(|| stored.in_sync()).await?;
        }
        self.refuse_stopped()
    }

    /// What to do about a store that holds what this run did not write.
    pub(super) fn how_to_rewrite(&self) -> String {
        let name = self.credential().map(|(_, name, _)| name).unwrap_or_default();
        format!(
            "find out which process wrote there, and stop it; then overwrite its value: stanch resume --rewrite {name}"
        )
    }

    /// Uses incoming once more where `verify` was a while ago: it may have died since.
    pub(super) async fn look_before_cutover(
        &self,
        incoming: &Material,
        verified: Option<Timestamp>,
        overwrites: bool,
    ) -> Result<(), CallError> {
        let now = self.clock.now().wall;
        let fresh = verified.is_some_and(|at| since(now, at) <= VERIFIED);
        let wanted = self.plan.strategy == Strategy::Overlap || overwrites;
        if wanted && !fresh && !is_on(Sabotage::LastLook) {
            self.is_accepted(incoming, "new").await?;
            self.refuse_stopped()?;
        }
        Ok(())
    }

    /// Uses a credential once, at its issuer and at every check under `accepts`.
    pub(super) async fn is_accepted(&self, material: &Material, which: &str) -> Result<(), CallError> {
        let (c, _, credential) = self.credential()?;
        let issuer = self.plan.credentials[c].issuer.tries.then_some(None);
        for probe in issuer.into_iter().chain((0..credential.accepts.len()).map(Some)) {
            self.inquiry(probe, false, Phase::Verify).await?.still_accepted(material, which).await?;
        }
        Ok(())
    }

    async fn still_adopted(&self, at: usize, incoming: &Arc<Material>) -> Result<(), CallError> {
        let (_, name, credential) = self.credential()?;
        if credential.consumers[at].attest.is_none() {
            return Ok(());
        }
        let watched = self.watched(at, incoming).await?;
        let found = gate::adoption(&watched, self.plan.runbook.limits.deadline.get()).await;
        if found.of > 0 && found.instances == found.of {
            return Ok(());
        }
        let message = format!(
            "only {} of {} instances of {} use the new {name}; the old one was not changed{}",
            found.instances,
            found.of,
            found.consumer,
            found.behind().unwrap_or_default()
        );
        Err(CallError::rejected(ErrorKind::Declined, message)
            .hint("find out why the others do not, and fix that; then resume"))
    }

    /// Uses outgoing once more, right before it takes the place of incoming again, or is all that is left.
    pub(super) async fn look_before_return(&self) -> Result<(), CallError> {
        let (c, name, _) = self.credential()?;
        let planned = &self.plan.credentials[c];
        // What its issuer never knew was not alive before the run either; and where the new one took the old one's
        // place, the old one is set again last.
        if planned.waived.is_some() || planned.issuer.replaces() || is_on(Sabotage::ReturnLook) {
            return Ok(());
        }
        let dead = |how: String| {
            CallError::rejected(
                ErrorKind::Declined,
                format!("the old {name} is {how}: without the new one, no valid credential would be left; the new one stays"),
            )
            .hint("go forward again: stanch resume --forward")
        };
        if let (Observation::Readable, Some(identity)) = (planned.issuer.change, &planned.outgoing) {
            match self.life(&identity.handle).await? {
                Life::Active => {}
                // What this run itself disabled is enabled again further back.
                Life::Disabled if self.known.disabled => return Ok(()),
                life => return Err(dead(life.to_string())),
            }
        }
        if planned.uses_left.is_some() {
            return Ok(());
        }
        // What is not among the sealed secrets any more cannot be used: the issuer's word is all there is.
        let Ok(outgoing) = self.outgoing(0) else { return Ok(()) };
        self.is_accepted(&outgoing.material, "old").await.map_err(|e| match e.kind {
            ErrorKind::Declined => dead(format!("not accepted ({})", e.message)),
            _ => e,
        })
    }

    /// What the issuer says of a credential.
    pub(super) async fn life(&self, handle: &str) -> Result<Life, CallError> {
        let issuer = self.issuer().await?;
        self.read(|| issuer.life(handle)).await
    }

    /// Asks without changing anything, a few times where the server refuses the number of requests: to begin the step
    /// anew would ask all the rest again.
    pub(in crate::engine) async fn read<T, F>(&self, call: impl Fn() -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let mut refusals = 0;
        // A longer wait is the step's own: within this one it would end as an outcome that is not known.
        let may_wait = |asked| {
            refusals += 1;
            refusals <= REFUSALS && asked <= SHORT
        };
        unthrottled(self.clock.as_ref(), &self.cancel, may_wait, call).await
    }

    /// What a store hands out.
    pub(super) async fn holds(&self, store: usize) -> Result<Holds, CallError> {
        nothing_is_an_answer(match self.known.versions.get(store).filter(|_| !self.reads(store)) {
            Some(versions) => self.holds_version(store, versions).await,
            None => self.compare(store).await,
        })
    }

    async fn compare(&self, store: usize) -> Result<Holds, CallError> {
        let stored = self.store(store).await?;
        let current = self.read(|| stored.read(None)).await?;
        let same = |held: &Option<Held>| held.as_ref().is_some_and(|held| held.material.same_as(&current));
        // After a way back the last one that was issued may still be written somewhere.
        let (_, name, _) = self.credential()?;
        let last = (0..=self.known.round).rev().find_map(|round| self.safe.get(&safe::incoming(name, round)));
        let old = self.outgoing(store).ok();
        Ok(if same(&last) {
            Holds::Incoming
        } else if same(&old) {
            Holds::Outgoing
        } else {
            // Whoever wrote it: a server may quote it in its next answer.
            self.safe.learn(&current);
            // What is not there any more to compare with makes nobody a stranger.
            let lost = old.is_none() || last.is_none() && self.known.incoming.is_some();
            if lost { Holds::Unreadable } else { Holds::Other }
        })
    }
}

/// A store that was asked and has no such secret, or no such field in it, holds nothing.
pub(super) fn nothing_is_an_answer(found: Result<Holds, CallError>) -> Result<Holds, CallError> {
    match found {
        Err(e) if e.kind == ErrorKind::NotFound => Ok(Holds::Nothing),
        other => other,
    }
}
