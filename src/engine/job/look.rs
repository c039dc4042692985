//! Looks at the world: before anything is changed, right before what cannot be undone, and at the end.

use std::sync::Arc;
use std::time::Duration;

use super::{Job, OldAndNew, bug};
use crate::clock::since;
use crate::domain::Phase;
use crate::domain::Strategy;
use crate::domain::{Check, ErrorKind, Life, Observation};
use crate::engine::ask::{self, Asked, Inquiry};
use crate::engine::safe;
use crate::engine::yields::{Yield, facts};
use crate::gate::{self, Watched};
use crate::provider::{CallError, Issuer};
use crate::rotation::{Holds, Seen, Sight};
use crate::runbook::model::Probe;
use crate::sabotage::{Sabotage, is_on};
use crate::secret::Material;

/// For how long a new credential counts as verified once the first of its checks in `verify` has passed.
const VERIFIED: Duration = Duration::from_millis(500);
/// How many leftovers were found and revoked.
const TWINS: &str = "twins";

impl Job {
    /// How one place is asked: the issuer, or a check.
    async fn inquiry(
        &self,
        probe: Option<usize>,
        rejects: bool,
        phase: Phase,
    ) -> Result<Inquiry<'_>, CallError> {
        let (_, name, credential) = self.credential()?;
        let (who, place) = match probe {
            None => (Asked::Issuer(self.issuer().await?), "its issuer".to_owned()),
            Some(p) => {
                let probes: &[Probe] =
                    if rejects { crate::plan::rejects(credential) } else { &credential.accepts };
                let probe = probes.get(p).ok_or_else(|| bug("the plan does not have this check"))?;
                (
                    Asked::Probe(self.provider.probe(name, credential, probe).await?),
                    format!("check {}", p + 1),
                )
            }
        };
        let waits = self.plan.phase(phase).ok_or_else(|| bug("the plan does not have this phase"))?;
        Ok(Inquiry {
            who,
            place,
            waits,
            deadline: self.plan.runbook.limits.deadline.get(),
            clock: self.clock.as_ref(),
            cancel: &self.cancel,
            places: &self.places,
            say: &*self.say,
        })
    }

    /// Uses outgoing before anything is changed.
    pub(super) async fn baseline(&self, probe: Option<usize>, rejects: bool) -> Result<Yield, CallError> {
        let outgoing = self.outgoing(0)?;
        let inquiry = self.inquiry(probe, rejects, Phase::Verify).await?;
        inquiry.before(&outgoing.material, !rejects).await
    }

    /// Uses incoming, until the answer is sure.
    pub(super) async fn accept(&self, probe: Option<usize>) -> Result<Yield, CallError> {
        let incoming = self.incoming()?;
        self.inquiry(probe, false, Phase::Verify).await?.accepted(&incoming.material).await
    }

    /// Uses outgoing beside incoming, until the refusal is sure.
    pub(super) async fn reject(&self, probe: Option<usize>) -> Result<Yield, CallError> {
        let (c, _, _) = self.credential()?;
        let planned = &self.plan.credentials[c];
        let inquiry = self.inquiry(probe, true, Phase::Proof).await?;
        let known = self.needs.before.as_deref() == Some("accepted") || is_on(Sabotage::Control);
        if planned.has_baseline() && !known {
            let place = &inquiry.place;
            return Ok(ask::proves_nothing(format!(
                "{place} never accepted the old credential in this run, so its refusal proves nothing"
            )));
        }
        let (outgoing, incoming) = (self.outgoing(0)?, self.incoming()?);
        let found = inquiry.refused(&outgoing.material, &incoming.material).await?;
        // One that could not be used beforehand is dead only if its issuer says so as well.
        if let (false, Some(identity)) = (planned.has_baseline(), &planned.outgoing)
            && planned.issuer.change == Observation::Readable
            && self.issuer().await?.life(&identity.handle).await? != Life::Gone
        {
            return Ok(ask::proves_nothing("its issuer still knows the old credential".to_owned()));
        }
        Ok(found)
    }

    /// Looks once more, right before a credential dies: every store hands out the one that is to stay,
    /// that one is accepted everywhere, consumers use it, and what was disabled still is. Under `contain`
    /// the outgoing one dies before it is replaced, knowingly.
    pub(super) async fn look_before_the_end(&self) -> Result<(), CallError> {
        let contain = self.plan.strategy == Strategy::Contain;
        if (contain && self.step().phase == Phase::Sunset) || is_on(Sabotage::LastLook) {
            return self.refuse_stopped();
        }
        let (c, name, credential) = self.credential()?;
        let incoming = self.incoming()?;
        self.is_accepted(&incoming.material, "new").await.map_err(|e| {
            let message = format!("the old {name} was not changed: {}", e.message);
            CallError { message, ..e }
                .hint("fix the new credential, then resume; for other ways: stanch status")
        })?;
        if !contain {
            for at in 0..credential.consumers.len() {
                self.still_adopted(at, &incoming.material).await?;
            }
        }
        if self.needs.disabled && self.step().phase == Phase::Revoke {
            let handle = self.outgoing_handle(c)?;
            if self.issuer().await?.life(handle).await.map_err(CallError::read_only)? == Life::Active {
                let message = format!(
                    "another client enabled the old {name} again after this run disabled it; it was not revoked"
                );
                let hint = "find out which client needs it, and move it to the new one; disable the old one again by hand, then resume";
                return Err(CallError::rejected(ErrorKind::Declined, message).hint(hint));
            }
        }
        // Last: a check may take its time, and somebody else may write meanwhile.
        for store in 0..credential.stores.len() {
            let holds = self.holds(store).await.map_err(CallError::read_only)?;
            if holds != Holds::Incoming {
                let target = credential.stores[store].target();
                let message = match holds {
                    Holds::Outgoing => {
                        format!("{target} holds the old {name} again; nothing was changed")
                    }
                    Holds::Unreadable => {
                        return Err(super::lost(format!(
                            "cannot compare the value in {target}: the old {name} is not among the sealed secrets"
                        )));
                    }
                    Holds::Nothing => format!("{target} no longer holds a value; nothing was changed"),
                    _ => format!("{target} holds a value that this run did not write; nothing was changed"),
                };
                return Err(CallError::rejected(ErrorKind::Declined, message).hint(self.how_to_rewrite()));
            }
            self.store(store).await?.in_sync().await.map_err(CallError::read_only)?;
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
    pub(super) async fn look_before_cutover(&self, incoming: &Material) -> Result<(), CallError> {
        let now = self.clock.now().wall;
        let fresh = self.needs.verified.is_some_and(|at| since(now, at) <= VERIFIED);
        let wanted = self.plan.strategy == Strategy::Overlap || self.needs.rewrites;
        if wanted && !fresh && !is_on(Sabotage::LastLook) {
            self.is_accepted(incoming, "new").await?;
            self.refuse_stopped()?;
        }
        Ok(())
    }

    /// Uses a credential once, at its issuer and at every check under `accepts`.
    async fn is_accepted(&self, material: &Material, which: &str) -> Result<(), CallError> {
        let (c, _, credential) = self.credential()?;
        let issuer = self.plan.credentials[c].issuer.tries.then_some(None);
        for probe in issuer.into_iter().chain((0..credential.accepts.len()).map(Some)) {
            self.inquiry(probe, false, Phase::Verify).await?.still_accepted(material, which).await?;
        }
        Ok(())
    }

    async fn still_adopted(&self, at: usize, incoming: &Arc<Material>) -> Result<(), CallError> {
        let (_, name, credential) = self.credential()?;
        let spec = &credential.consumers[at];
        if spec.attest.is_none() {
            return Ok(());
        }
        let watched = Watched {
            credential: name.to_owned(),
            consumer: spec.name.clone(),
            ask: self.provider.consumer(name, credential, at).await?,
            wanted: Arc::clone(incoming),
        };
        let found = gate::adoption(&watched, self.plan.runbook.limits.deadline.get()).await;
        if found.of > 0 && found.instances == found.of {
            return Ok(());
        }
        let message = format!(
            "only {} of {} instances of {} use the new {name}; the old one was not changed",
            found.instances, found.of, found.consumer
        );
        Err(CallError::rejected(ErrorKind::Declined, message)
            .hint("find out why the others do not, and fix that; then resume"))
    }

    /// Uses outgoing once more, right before it takes the place of incoming again, or is all that is left.
    pub(super) async fn outgoing_is_accepted(&self) -> Result<(), CallError> {
        let (c, name, _) = self.credential()?;
        let planned = &self.plan.credentials[c];
        // What its issuer never knew was not alive before the run either.
        if planned.waived.is_some() || is_on(Sabotage::ReturnLook) {
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
            match self.issuer().await?.life(&identity.handle).await.map_err(CallError::read_only)? {
                Life::Gone => return Err(dead("gone".into())),
                // What this run itself disabled is enabled again further back.
                Life::Disabled if self.needs.disabled => return Ok(()),
                Life::Disabled => return Err(dead("disabled".into())),
                Life::Active => {}
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

    /// What a store hands out.
    async fn holds(&self, store: usize) -> Result<Holds, CallError> {
        let current = self.store(store).await?.read(None).await?;
        let same = |held: &Option<crate::engine::safe::Held>| {
            held.as_ref().is_some_and(|held| held.material.same_as(&current))
        };
        // After a way back the last one that was issued may still be written somewhere.
        let (_, name, _) = self.credential()?;
        let last = (0..=self.needs.round).rev().find_map(|round| self.safe.get(&safe::incoming(name, round)));
        let old = self.outgoing(store).ok();
        Ok(if same(&last) {
            Holds::Incoming
        } else if same(&old) {
            Holds::Outgoing
        } else {
            // Whoever wrote it: a server may quote it in its next answer.
            self.safe.learn(&current);
            // What is not there any more to compare with makes nobody a stranger.
            let lost = old.is_none() || last.is_none() && self.needs.incoming.is_some();
            if lost { Holds::Unreadable } else { Holds::Other }
        })
    }

    /// What a store hands out, told by the version that this run wrote, and by the one that it found there.
    async fn holds_version(&self, store: usize, known: &OldAndNew) -> Result<Holds, CallError> {
        let current = self.store(store).await?.observe().await?.current;
        Ok(match current {
            None => Holds::Nothing,
            Some(_) if current == known.new => Holds::Incoming,
            Some(_) if current == known.old => Holds::Outgoing,
            // A neighbour may have been written, or the own field: that cannot be told.
            _ => Holds::Unreadable,
        })
    }

    /// What the world shows of the step's credential, read-only; whatever cannot be seen says so. `versions`
    /// tells what stores hold once the values are destroyed: the new version of each, and the old one.
    pub(in crate::engine) async fn sight(&self, versions: Option<&[OldAndNew]>) -> Option<Seen> {
        let (c, _, credential) = self.credential().ok()?;
        let mut stores = Vec::with_capacity(credential.stores.len());
        for store in 0..credential.stores.len() {
            let holds = match versions {
                None => self.holds(store).await,
                Some(versions) => self.holds_version(store, &versions[store]).await,
            };
            stores.push(holds.unwrap_or_else(|e| match e.kind {
                // The store was asked, and has no such secret: that is an answer.
                ErrorKind::NotFound => Holds::Nothing,
                _ => Holds::Unreadable,
            }));
        }
        let planned = &self.plan.credentials[c];
        let outgoing = planned.outgoing.as_ref().map(|o| o.handle.as_str());
        if planned.issuer.change != Observation::Readable {
            return Some(Seen { stores, outgoing: Sight::Unseen, incoming: Sight::Unseen });
        }
        let outgoing = self.life_of(outgoing).await;
        Some(Seen { stores, outgoing, incoming: self.life_of(self.needs.incoming.as_deref()).await })
    }

    async fn life_of(&self, handle: Option<&str>) -> Sight {
        let (Some(handle), Ok(issuer)) = (handle, self.issuer().await) else { return Sight::Unseen };
        match issuer.life(handle).await {
            Ok(Life::Active) => Sight::Alive,
            Ok(Life::Disabled) => Sight::Disabled,
            Ok(Life::Gone) => Sight::Gone,
            Err(_) => Sight::Unseen,
        }
    }

    /// What carries this run's tag and is not to be kept: something on the way may have repeated a request,
    /// or held it back. The inner error says why the issuer cannot tell.
    /// Handles that the run keeps, or is about to revoke, tell whether the issuer's list is new enough.
    pub(super) async fn leftovers(
        &self,
        keep: &[String],
        incoming: Option<&str>,
    ) -> Result<Result<Vec<String>, String>, CallError> {
        let (c, _, credential) = self.credential()?;
        let Some(context) = self.needs.issue.as_ref().filter(|_| !is_on(Sabotage::Sweep)) else {
            return Ok(Ok(Vec::new()));
        };
        let mut context = context.clone();
        let mut before = self.plan.credentials[c].existing.clone();
        let mut expected: Vec<String> = incoming.map(str::to_owned).into_iter().collect();
        if !keep.is_empty() && credential.issuer.finds_by_run() {
            context.step.clear();
            before.extend_from_slice(keep);
            expected = keep.to_vec();
        }
        if self.plan.credentials[c].issuer.change != Observation::Readable {
            // Such an issuer keeps no list that could be too old, and says of no credential whether it lives.
            expected.clear();
        }
        let ours = |handle: &String| keep.contains(handle) || Some(handle.as_str()) == incoming;
        match self.issuer().await?.twins(&context, &before, &expected).await {
            Ok(found) => Ok(Ok(found.into_iter().filter(|handle| !ours(handle)).collect())),
            Err(e) if matches!(e.kind, ErrorKind::Denied | ErrorKind::Unsupported | ErrorKind::Conflict) => {
                Ok(Err(e.message))
            }
            Err(e) => Err(e.read_only()),
        }
    }

    /// Revokes what a repeated request to create left behind.
    pub(super) async fn sweep(&self, keep: &[String], incoming: Option<&str>) -> Result<Yield, CallError> {
        let found = match self.leftovers(keep, incoming).await? {
            Ok(found) => found,
            Err(why) => {
                let (_, name, _) = self.credential()?;
                let detail =
                    format!("stanch cannot see whether a repeated request created a second {name}: {why}");
                // Readers of the record go by the name, not by the words.
                return Ok(Yield {
                    checks: vec![Check::warn("leftovers unseen", detail)],
                    ..Yield::default()
                });
            }
        };
        let issuer = self.issuer().await?;
        let strangers = self.strangers(issuer.as_ref(), &[keep, &found].concat()).await?;
        let mut twins = Vec::new();
        for handle in found {
            self.refuse_stopped()?;
            self.end(issuer.as_ref(), &handle, None).await?;
            twins.push(handle);
        }
        if twins.is_empty() {
            return Ok(Yield { checks: strangers, ..Yield::default() });
        }
        let detail = format!("a repeated request created {}; stanch revoked it", twins.join(", "));
        let mut checks = vec![Check::warn("leftovers", detail)];
        checks.extend(strangers);
        Ok(Yield { checks, ..facts([(TWINS, twins.join(" "))]) })
    }

    /// What is at the issuer and not known to this run. It is never touched: it may be another's.
    async fn strangers(&self, issuer: &dyn Issuer, ours: &[String]) -> Result<Vec<Check>, CallError> {
        let (c, name, _) = self.credential()?;
        // A list may still name what this run has just revoked.
        let incoming = self.needs.incoming.as_slice();
        let known = [self.plan.credentials[c].existing.as_slice(), incoming, ours].concat();
        let found = match issuer.strangers(&known).await {
            Ok(found) => found,
            Err(e) if matches!(e.kind, ErrorKind::Denied | ErrorKind::Unsupported) => {
                let why = e.message;
                let detail = format!("stanch cannot see whether another {name} exists: {why}");
                return Ok(vec![Check::warn("leftovers", detail)]);
            }
            Err(e) => return Err(e.read_only()),
        };
        let hint = "find out which client uses it, and delete it if it is not needed";
        let warning = |detail: String| {
            // A check stands in the record alone; a person must see this one, too.
            (self.say)(format!("leftovers: {detail}; {hint}"));
            Check { hint: Some(hint.to_owned()), ..Check::warn("leftovers", detail) }
        };
        Ok(found.into_iter().map(warning).collect())
    }
}
