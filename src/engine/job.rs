//! One step's call: what is done, taken back or discarded, and how that is observed.
//!
//! A [`Job`] holds all that its step needs, so that it can run beside others. It never writes the
//! journal: it returns what to record.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::ask;
use super::safe::{self, Held, Safe, SafeError};
use super::{Answer, Operator};
use crate::clock::Clock;
use crate::gate::{self, Watched};
use crate::journal::{Latches, SealedEntry};
use crate::plan::{Action, Phase, Plan, Step};
use crate::provider::{
    CallContext, CallError, Check, Grant, Identity, Issuer, Kind, Life, Observation, Provider, Store, Use,
    Versions,
};
use crate::rotation::{Facts, Found, State};
use crate::runbook::model;
use crate::sabotage::{Sabotage, is_on};
use crate::secret::Material;

/// The fact that carries an issuer's name for the incoming credential.
const HANDLE: &str = "handle";
/// The fact that carries a store's version.
const VERSION: &str = "version";
/// The fact that carries the version that was current before.
const WAS: &str = "was";
/// The fact that carries a keyed fingerprint.
const FINGERPRINT: &str = "fingerprint";

/// How long a consumer may take to go back to the outgoing version during rollback, before the
/// incoming one is revoked under it.
const RETURN_PATIENCE: Duration = Duration::from_secs(60);

/// What a step needs.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) plan: Arc<Plan>,
    pub(super) provider: Arc<dyn Provider>,
    pub(super) safe: Arc<Safe>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) operator: Arc<dyn Operator>,
    pub(super) cancel: CancellationToken,
    pub(super) latches: Arc<dyn Latches>,
    pub(super) step: usize,
    pub(super) context: CallContext,
    pub(super) needs: Needs,
}

/// What earlier steps found.
#[derive(Debug, Clone, Default)]
pub(super) struct Needs {
    /// The issuer's name for incoming.
    incoming: Option<String>,
    /// In which round incoming was, or is being, issued.
    round: u32,
    /// The version that was current when the run began, or was restored since.
    base: Option<String>,
    /// The version that was staged.
    staged: Option<String>,
    /// What an attempt left behind.
    pub(super) orphans: Vec<String>,
}

/// One of a credential's two versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Outgoing,
    Incoming,
}

/// What a call gives back to the journal and to the safe.
#[derive(Debug, Default)]
pub(super) struct Yield {
    pub(super) facts: Facts,
    pub(super) checks: Vec<Check>,
    pub(super) sealed: Vec<SealedEntry>,
}

/// The steps that other steps need facts of, by credential and store.
#[derive(Debug, Default)]
pub(super) struct Index {
    issue: Vec<usize>,
    capture: Vec<Vec<usize>>,
    stage: Vec<Vec<Option<usize>>>,
    promote: Vec<Vec<usize>>,
}

impl Index {
    pub(super) fn of(plan: &Plan) -> Self {
        let stores = |n: usize| plan.credentials[n].stores.len();
        let mut index = Self {
            issue: vec![0; plan.credentials.len()],
            capture: (0..plan.credentials.len()).map(|n| vec![0; stores(n)]).collect(),
            stage: (0..plan.credentials.len()).map(|n| vec![None; stores(n)]).collect(),
            promote: (0..plan.credentials.len()).map(|n| vec![0; stores(n)]).collect(),
        };
        for (at, step) in plan.steps.iter().enumerate() {
            match step.action {
                Action::Issue { credential } => index.issue[credential] = at,
                Action::Capture { credential, store } => index.capture[credential][store] = at,
                Action::Stage { credential, store } => index.stage[credential][store] = Some(at),
                Action::Promote { credential, store } => index.promote[credential][store] = at,
                _ => {}
            }
        }
        index
    }

    /// The round in which a credential's incoming version was, or is being, issued.
    pub(super) fn round(&self, state: &State, credential: usize) -> u32 {
        state.round(self.issue[credential])
    }

    /// What a step needs of the steps before it.
    pub(super) fn needs(&self, state: &State, step: &Step) -> Needs {
        let Some(c) = step.action.credential() else { return Needs::default() };
        let text = |at: usize, name: &str| state.fact(at, name).map(str::to_owned);
        let mut needs = Needs {
            incoming: text(self.issue[c], HANDLE),
            round: state.round(self.issue[c]),
            ..Needs::default()
        };
        if let Action::Capture { store: s, .. }
        | Action::Stage { store: s, .. }
        | Action::Promote { store: s, .. }
        | Action::Destroy { store: s, .. } = step.action
        {
            let promote = self.promote[c][s];
            let promoted = text(promote, VERSION);
            // After a rollback the promotion's fact is the version that it restored.
            let restored = promoted.filter(|_| text(promote, WAS).is_none());
            needs.base = text(promote, WAS).or(restored).or_else(|| text(self.capture[c][s], VERSION));
            needs.staged = self.stage[c][s].and_then(|at| text(at, VERSION));
        }
        needs
    }
}

/// The idempotency token of a step: a UUIDv5 of run, step and round.
pub(super) fn token(run: &str, step: &str, round: u32) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("stanch:{run}/{step}/{round}").as_bytes())
}

impl Job {
    fn step(&self) -> &Step {
        &self.plan.steps[self.step]
    }

    /// The credential that the step concerns.
    fn credential(&self) -> Result<(usize, &str, &model::Credential), CallError> {
        let c = self.step().action.credential().ok_or_else(|| bug("the step concerns no credential"))?;
        let (planned, credential) = self.plan.credential(c);
        Ok((c, &planned.name, credential))
    }

    async fn issuer(&self) -> Result<Arc<dyn Issuer>, CallError> {
        let (_, name, credential) = self.credential()?;
        self.provider.issuer(name, credential).await
    }

    async fn store(&self, store: usize) -> Result<Arc<dyn Store>, CallError> {
        let (_, name, credential) = self.credential()?;
        self.provider.store(name, credential, store).await
    }

    fn incoming(&self) -> Result<Held, CallError> {
        let (_, name, _) = self.credential()?;
        self.safe
            .get(&safe::incoming(name, self.needs.round))
            .ok_or_else(|| lost(format!("the incoming {name} is not among the sealed secrets")))
    }

    fn outgoing(&self, store: usize) -> Result<Held, CallError> {
        let (_, name, _) = self.credential()?;
        self.safe
            .get(&safe::outgoing(name, store))
            .ok_or_else(|| lost(format!("the outgoing {name} is not among the sealed secrets")))
    }

    fn incoming_handle(&self) -> Result<&str, CallError> {
        self.needs.incoming.as_deref().ok_or_else(|| bug("the incoming credential has no handle"))
    }

    fn outgoing_handle(&self, c: usize) -> Result<&str, CallError> {
        let outgoing = self.plan.credentials[c].outgoing.as_ref();
        outgoing.map(|o| o.handle.as_str()).ok_or_else(|| bug("the outgoing credential has no handle"))
    }

    /// What may stand in this step's messages and must not.
    pub(super) fn scrub(&self, text: &str) -> String {
        if is_on(Sabotage::Leak) {
            return text.to_owned();
        }
        let mut clean = text.to_owned();
        if let Ok((c, name, _)) = self.credential() {
            for store in 0..self.plan.credentials[c].stores.len() {
                if let Some(held) = self.safe.get(&safe::outgoing(name, store)) {
                    clean = held.material.scrub(&clean);
                }
            }
            for round in 0..=self.needs.round {
                if let Some(held) = self.safe.get(&safe::incoming(name, round)) {
                    clean = held.material.scrub(&clean);
                }
            }
        }
        clean
    }

    /// Does the step.
    pub(super) async fn perform(&self) -> Result<Yield, CallError> {
        match &self.step().action {
            Action::Connection { connection } => checked(self.provider.preflight(connection).await),
            Action::Permission { credential } => {
                let outgoing = self.plan.credentials[*credential].outgoing.as_ref();
                checked(self.issuer().await?.preflight(outgoing).await)
            }
            Action::Capture { credential, store } => self.capture(*credential, *store).await,
            Action::Issue { .. } => self.issue().await,
            Action::Inspect { .. } => self.inspect().await,
            Action::Stage { store, .. } => {
                let incoming = self.incoming()?;
                let version = self.store(*store).await?.stage(&self.context, &incoming.material).await?;
                Ok(facts([(VERSION, version)]))
            }
            Action::Accept { probe, .. } => {
                let incoming = self.incoming()?;
                self.ask(*probe, &incoming.material, true).await
            }
            Action::Promote { store, .. } => {
                let (incoming, outgoing) = (self.incoming()?, self.outgoing(*store)?);
                let base = self.base()?;
                let staged = self.needs.staged.as_deref();
                let store = self.store(*store).await?;
                let done =
                    store.promote(&self.context, &incoming.material, &outgoing.material, staged).await?;
                let was = done.was.unwrap_or_else(|| base.to_owned());
                Ok(facts([(VERSION, done.version), (WAS, was)]))
            }
            Action::Reload { consumer, .. } => self.reload(*consumer).await,
            Action::Disable { credential } => {
                let handle = self.outgoing_handle(*credential)?;
                let issuer = self.issuer().await?;
                self.refuse_handed_out(Which::Outgoing).await?;
                issuer.disable(&self.context, handle).await.map(nothing)
            }
            Action::Revoke { credential } => {
                let handle = self.outgoing_handle(*credential)?;
                let outgoing = self.outgoing(0).ok().map(|h| h.material);
                let issuer = self.issuer().await?;
                self.refuse_handed_out(Which::Outgoing).await?;
                issuer.revoke(&self.context, handle, outgoing.as_deref()).await.map(nothing)
            }
            Action::Destroy { store, .. } => {
                let (base, outgoing) = (self.base()?, self.outgoing(*store)?.material);
                self.store(*store).await?.destroy(&self.context, base, &outgoing).await.map(nothing)
            }
            Action::Reject { probe, .. } => {
                let outgoing = self.outgoing(0)?;
                self.ask(*probe, &outgoing.material, false).await
            }
            Action::Own { name } => {
                let own = self.own(name)?;
                if let Some(question) = &own.manual {
                    return self.manual(name, question).await;
                }
                let call = match (&own.exec, &own.http) {
                    (Some(exec), _) => model::Call::Exec(exec.clone()),
                    (None, Some(http)) => model::Call::Http(http.clone()),
                    (None, None) => return Ok(Yield::default()),
                };
                self.provider.call(&call).await?.perform(&self.context, None).await.map(nothing)
            }
        }
    }

    /// Takes the step back.
    pub(super) async fn undo(&self) -> Result<Yield, CallError> {
        match &self.step().action {
            Action::Issue { .. } => {
                let handle = self.incoming_handle()?;
                let incoming = self.incoming().ok().map(|h| h.material);
                if is_on(Sabotage::Orphan) {
                    return Ok(Yield::default());
                }
                let issuer = self.issuer().await?;
                self.refuse_handed_out(Which::Incoming).await?;
                issuer.revoke(&self.context, handle, incoming.as_deref()).await.map(nothing)
            }
            Action::Stage { store, .. } => {
                let staged = self.needs.staged.as_deref().ok_or_else(|| bug("nothing is staged"))?;
                self.store(*store).await?.retire(&self.context, staged).await.map(nothing)
            }
            Action::Promote { store, .. } => {
                let (outgoing, incoming) = (self.outgoing(*store)?, self.incoming()?);
                let was = self.needs.base.as_deref();
                let store = self.store(*store).await?;
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
            _ => Err(bug("the step has nothing to take back")),
        }
    }

    /// Refuses, before a credential dies, while a store still hands it out. The record says that none
    /// does; but somebody may have written there since, and a server may have forgotten. Under `contain`
    /// the outgoing one dies before it is replaced, knowingly.
    async fn refuse_handed_out(&self, which: Which) -> Result<(), CallError> {
        let knowingly = which == Which::Outgoing && self.step().phase == Phase::Sunset;
        if (knowingly && self.plan.strategy == model::Strategy::Contain) || is_on(Sabotage::Outage) {
            return Ok(());
        }
        let (c, name, _) = self.credential()?;
        for store in 0..self.plan.credentials[c].stores.len() {
            // What cannot be opened any more cannot be compared.
            let held = if which == Which::Outgoing { self.outgoing(store) } else { self.incoming() };
            let Ok(held) = held else { continue };
            if self.current_is(store, &held.material).await.map_err(CallError::read_only)?.0 {
                let (_, credential) = self.plan.credential(c);
                let word = if which == Which::Outgoing { "old" } else { "new" };
                let message = format!(
                    "{} hands out the {word} {name} again, which was about to be refused; nothing was changed",
                    crate::plan::store_target(&credential.stores[store])
                );
                let hint = "find out who wrote there; then go on, or roll back";
                return Err(CallError::rejected(Kind::Declined, message).hint(hint));
            }
        }
        self.refuse_stopped()
    }

    /// Refuses, right before an effect and after whatever was looked at for it, when the latch is set or
    /// somebody asked to stop. A latch that cannot be looked at counts as set.
    pub(super) fn refuse_stopped(&self) -> Result<(), CallError> {
        if is_on(Sabotage::Halt) {
            return Ok(());
        }
        let why = match self.latches.latch() {
            Ok(None) if !self.cancel.is_cancelled() => return Ok(()),
            Ok(None) => "stopped before it began",
            Ok(Some(_)) => "halted before it began",
            Err(_) => "the latch cannot be looked at, so it did not begin",
        };
        Err(CallError::rejected(Kind::Cancelled, why))
    }

    /// Revokes what an attempt left behind.
    pub(super) async fn discard(&self) -> Result<Yield, CallError> {
        let issuer = self.issuer().await?;
        let orphans = &self.needs.orphans;
        for (revoked, handle) in orphans.iter().enumerate() {
            let one = async {
                self.refuse_stopped()?;
                issuer.revoke(&self.context, handle, None).await
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

    async fn capture(&self, c: usize, s: usize) -> Result<Yield, CallError> {
        let (_, name, _) = self.credential()?;
        let store = self.store(s).await?;
        let mut out = checked(store.preflight().await)?;
        let versions = store.observe().await?;
        let planned = &self.plan.credentials[c].stores[s].versions;
        if versions.current != planned.current {
            let (was, is) = (shown(&planned.current), shown(&versions.current));
            let message = format!("the plan saw version {was} as current; now it is {is}");
            let hint = "somebody changed it since: make a new plan";
            return Err(CallError::rejected(Kind::Conflict, message).hint(hint));
        }
        let material = store.read(versions.current.as_deref()).await?;
        let fingerprint = self.safe.fingerprint(&material).to_string();
        let identity = self.plan.credentials[c].outgoing.clone();
        let sealed = self.safe.put(&safe::outgoing(name, s), material, identity).map_err(|e| unsealed(&e))?;
        out.facts =
            facts([(VERSION, versions.current.unwrap_or_default()), (FINGERPRINT, fingerprint)]).facts;
        out.sealed.push(sealed);
        Ok(out)
    }

    async fn issue(&self) -> Result<Yield, CallError> {
        let (_, name, _) = self.credential()?;
        let issuer = self.issuer().await?;
        let place = safe::incoming(name, self.needs.round);
        // A value made here was sealed before this call, by the engine.
        let candidate = if issuer.traits().mints { None } else { self.safe.get(&place) };
        let issued = issuer.issue(&self.context, candidate.as_ref().map(|h| h.material.as_ref())).await?;
        if issued.material.is_blank() {
            return Err(CallError::unknown("the issuer answered with an empty credential"));
        }
        let fingerprint = self.safe.fingerprint(&issued.material).to_string();
        let handle = issued.identity.handle.clone();
        let sealed = self
            .safe
            .put(&place, issued.material, Some(issued.identity))
            // It exists, and cannot be kept: found again by its tag, it will be revoked.
            .map_err(|e| CallError::unknown(e.to_string()))?;
        let mut out = facts([(HANDLE, handle), (FINGERPRINT, fingerprint)]);
        out.sealed.push(sealed);
        Ok(out)
    }

    /// Whether incoming is no wider than the runbook says.
    async fn inspect(&self) -> Result<Yield, CallError> {
        let (_, name, credential) = self.credential()?;
        let grant = self.issuer().await?.inspect(self.incoming_handle()?).await?;
        match too_wide(&credential.scope, &grant) {
            None => {
                let about = format!("scope of the new {name}");
                let mut checks = vec![Check::pass(about.clone(), "no wider than the runbook says")];
                checks.extend(grant.notes.into_iter().map(|note| Check::warn(about.clone(), note)));
                Ok(Yield { checks, ..Yield::default() })
            }
            Some(wider) => Err(CallError::rejected(
                Kind::Declined,
                format!("the new {name} is wider than asked: {wider}"),
            )
            .hint("narrow the issuer's role or policies, or widen `scope` after a review")),
        }
    }

    async fn ask(&self, probe: Option<usize>, material: &Material, accept: bool) -> Result<Yield, CallError> {
        let (_, name, credential) = self.credential()?;
        let who: ask::Asked = match probe {
            None => ask::Asked::Issuer(self.issuer().await?),
            Some(p) => {
                let probes = if accept { &credential.accepts[..] } else { crate::plan::rejects(credential) };
                let probe = probes.get(p).ok_or_else(|| bug("the plan has no such check"))?;
                ask::Asked::Probe(self.provider.probe(name, credential, probe).await?)
            }
        };
        let phase = if accept { Phase::Verify } else { Phase::Proof };
        let waits = self.plan.phase(phase).ok_or_else(|| bug("the plan has no such phase"))?;
        let deadline = self.plan.runbook.limits.deadline.get();
        ask::until_sure(&who, material, accept, waits, deadline, self.clock.as_ref(), &self.cancel).await
    }

    async fn reload(&self, consumer: usize) -> Result<Yield, CallError> {
        let (_, name, credential) = self.credential()?;
        self.provider.consumer(name, credential, consumer).await?.reload(&self.context).await.map(nothing)
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
                    "{} went back to the old {name} in {} of {} instances only",
                    found.consumer, found.instances, found.of
                );
                let hint = "restart the instances that did not, then roll back again";
                return Err(CallError::rejected(Kind::Declined, message).hint(hint));
            }
            self.clock.sleep(Duration::from_millis(500)).await;
        }
    }

    async fn manual(&self, name: &str, question: &str) -> Result<Yield, CallError> {
        let answer = tokio::select! {
            biased;
            answer = self.operator.ask(name, question) => answer,
            () = self.cancel.cancelled() => {
                return Err(CallError::rejected(Kind::Cancelled, format!("stopped before `{question}` was answered")));
            }
        };
        match answer {
            Answer::Yes => Ok(Yield::default()),
            Answer::No => {
                Err(CallError::rejected(Kind::Declined, format!("`{question}` was answered with no")))
            }
            Answer::Nobody => {
                Err(CallError::rejected(Kind::Unanswered, format!("nobody answered `{question}`"))
                    .hint(format!("say `--confirm {name}` when the answer is yes")))
            }
        }
    }

    fn own(&self, name: &str) -> Result<&model::OwnStep, CallError> {
        let phase = self.step().phase;
        phase
            .spec(&self.plan.runbook.phases)
            .and_then(|p| p.before.iter().chain(&p.after).find(|s| s.name == name))
            .ok_or_else(|| bug("the plan has no such own step"))
    }

    fn base(&self) -> Result<&str, CallError> {
        self.needs.base.as_deref().ok_or_else(|| bug("the store's first version is not known"))
    }

    /// Finds out what became of an earlier try to do the step.
    pub(super) async fn observe_do(&self) -> Result<(Found, Facts), CallError> {
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
                    Err(e) if e.kind == Kind::NotFound => Ok(applied(true)),
                    Err(e) => Err(e),
                }
            }
            Action::Own { name } => Ok(applied(self.is_in_effect(name).await?)),
            // Looks change nothing, and a reload can be repeated.
            _ => Ok(applied(false)),
        }
    }

    /// Finds out what became of an earlier try to take the step back.
    pub(super) async fn observe_undo(&self) -> Result<(Found, Facts), CallError> {
        let applied = |yes: bool| (if yes { Found::Applied } else { Found::Absent }, Facts::new());
        match &self.step().action {
            Action::Issue { .. } => {
                let life = self.issuer().await?.life(self.incoming_handle()?).await?;
                Ok(applied(life == Life::Gone))
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
        let probe = self.provider.probe(name, credential, &model::Probe::Exec(observe)).await?;
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
    async fn current_is(&self, store: usize, material: &Material) -> Result<(bool, Versions), CallError> {
        let store = self.store(store).await?;
        let versions = store.observe().await?;
        let same = match &versions.current {
            None => false,
            Some(current) => store.read(Some(current)).await?.same_as(material),
        };
        Ok((same, versions))
    }
}

/// What makes a grant wider than a scope, in a sentence; `None` when nothing does.
fn too_wide(scope: &model::Scope, grant: &Grant) -> Option<String> {
    if let (Some(allowed), Some(has)) = (&scope.policies, &grant.policies)
        && let Some(extra) = has.iter().find(|p| !allowed.contains(p))
    {
        return Some(format!("it carries the policy `{extra}`"));
    }
    if let Some(max) = scope.max_ttl {
        match grant.ttl {
            None => return Some(format!("it never expires; at most {max} is allowed")),
            Some(ttl) if ttl > max.get() => {
                let ttl = crate::runbook::Period::seconds(ttl.as_secs());
                return Some(format!("it lives for {ttl}; at most {max} is allowed"));
            }
            Some(_) => {}
        }
    }
    if let (Some(wanted), Some(is)) = (&scope.audience, &grant.audience)
        && wanted != is
    {
        return Some(format!("it is for `{is}` and not for `{wanted}`"));
    }
    grant.wider.first().cloned()
}

/// The checks as a result: the first that fails decides.
fn checked(checks: Vec<Check>) -> Result<Yield, CallError> {
    match super::survey::first_failure(&checks) {
        None => Ok(Yield { checks, ..Yield::default() }),
        Some(error) => Err(error),
    }
}

fn facts<const N: usize>(pairs: [(&str, String); N]) -> Yield {
    let facts = pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    Yield { facts, ..Yield::default() }
}

fn nothing((): ()) -> Yield {
    Yield::default()
}

fn shown(version: &Option<String>) -> &str {
    version.as_deref().unwrap_or("none")
}

fn bug(what: &str) -> CallError {
    CallError::rejected(Kind::Invalid, format!("this plan does not hold together: {what}"))
}

fn lost(what: String) -> CallError {
    CallError::rejected(Kind::Local, what).hint("roll the run back; what it issued is named in its journal")
}

pub(super) fn unsealed(error: &SafeError) -> CallError {
    CallError::rejected(Kind::Local, error.to_string())
}

/// The context of a step's call.
pub(super) fn context(run: &str, step: &Step, round: u32, since: Timestamp) -> CallContext {
    CallContext {
        run: run.to_owned(),
        step: step.id.clone(),
        token: token(run, &step.id, round),
        since,
        siblings: Vec::new(),
    }
}
