//! One step's call: what is done (here), undone and discarded, and how that is observed.
//!
//! A [`Job`] holds all that its step needs, so that it can run beside others. It never writes the
//! journal: it returns what to record.

mod look;
mod observe;
mod undo;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::safe::{self, Held, Safe, SafeError};
use super::yields::{Yield, facts};
use super::{Answer, Operator};
use crate::clock::Clock;
use crate::domain::Phase;
use crate::domain::{Check, ErrorKind, Life};
use crate::journal::Latches;
use crate::plan::{Action, Plan, Step};
use crate::provider::{CallContext, CallError, Grant, Issuer, Provider, Store};
use crate::rotation::{BEFORE, State, Status};
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
    /// How many steps that ask may ask at once.
    pub(super) places: Arc<Semaphore>,
    /// Puts a sentence on the record.
    pub(super) say: Arc<dyn Fn(String) + Send + Sync>,
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
    /// Whether a person wants the store written over whatever it holds.
    rewrites: bool,
    /// How the place where outgoing is used answered beforehand.
    before: Option<String>,
    /// Whether this run disabled outgoing.
    disabled: bool,
    /// When the first of its checks under `verify` passed, if all of them passed in this process.
    verified: Option<Timestamp>,
    /// The context of the call that issued incoming.
    issue: Option<CallContext>,
    /// Every handle that the run issued and keeps: what a look by the run's tag finds and must not touch.
    kept: Vec<String>,
}

/// The versions of one store that a run knows: the one that it found there, and the one that it wrote.
#[derive(Debug)]
pub(super) struct OldAndNew {
    old: Option<String>,
    new: Option<String>,
}

/// The steps that other steps need facts of, by credential and store.
#[derive(Debug, Default)]
pub(super) struct Index {
    issue: Vec<usize>,
    capture: Vec<Vec<usize>>,
    stage: Vec<Vec<Option<usize>>>,
    promote: Vec<Vec<usize>>,
    disable: Vec<Option<usize>>,
    accept: Vec<Vec<usize>>,
    /// By credential, check, and whether it is one under `rejects`.
    baseline: HashMap<(usize, Option<usize>, bool), usize>,
    /// The steps that stage in each place.
    stagers: HashMap<String, Vec<usize>>,
}

impl Index {
    pub(super) fn of(plan: &Plan) -> Self {
        let stores = |n: usize| plan.credentials[n].stores.len();
        let mut index = Self {
            issue: vec![0; plan.credentials.len()],
            capture: (0..plan.credentials.len()).map(|n| vec![0; stores(n)]).collect(),
            stage: (0..plan.credentials.len()).map(|n| vec![None; stores(n)]).collect(),
            promote: (0..plan.credentials.len()).map(|n| vec![0; stores(n)]).collect(),
            disable: vec![None; plan.credentials.len()],
            accept: vec![Vec::new(); plan.credentials.len()],
            baseline: HashMap::new(),
            stagers: HashMap::new(),
        };
        for (at, step) in plan.steps.iter().enumerate() {
            match step.action {
                Action::Issue { credential } => index.issue[credential] = at,
                Action::Capture { credential, store } => index.capture[credential][store] = at,
                Action::Stage { credential, store } => {
                    index.stage[credential][store] = Some(at);
                    let place = plan.credentials[credential].stores[store].place.clone();
                    index.stagers.entry(place).or_default().push(at);
                }
                Action::Disable { credential } => index.disable[credential] = Some(at),
                Action::Baseline { credential, probe, rejects } => {
                    index.baseline.insert((credential, probe, rejects), at);
                }
                Action::Promote { credential, store } => index.promote[credential][store] = at,
                Action::Accept { credential, .. } => index.accept[credential].push(at),
                _ => {}
            }
        }
        index
    }

    /// The round in which a credential's incoming version was, or is being, issued.
    pub(super) fn round(&self, state: &State, credential: usize) -> u32 {
        state.round(self.issue[credential])
    }

    /// The steps that issue, by credential.
    pub(super) fn issues(&self) -> &[usize] {
        &self.issue
    }

    /// What tells the versions of a credential's stores apart where no value does.
    pub(super) fn versions(&self, state: &State, c: usize) -> Vec<OldAndNew> {
        let stores = state.plan().credentials[c].stores.iter().zip(&self.promote[c]);
        stores
            .map(|(store, promote)| {
                let written = state.fact(*promote, VERSION).map(str::to_owned);
                match state.fact(*promote, WAS) {
                    Some(was) => OldAndNew { old: Some(was.to_owned()), new: written },
                    // After a rollback the promotion's fact is the version that it restored.
                    None => OldAndNew { old: written.or_else(|| store.versions.current.clone()), new: None },
                }
            })
            .collect()
    }

    /// What a step needs of the steps before it.
    pub(super) fn needs(&self, state: &State, run: &str, step: &Step) -> Needs {
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
            needs.rewrites = matches!(step.action, Action::Promote { .. }) && state.is_rewritten(promote);
        }
        if let Action::Reject { probe, .. } = step.action {
            // Without a list of their own, the checks under `accepts` must refuse.
            let listed = state.plan().credential(c).1.rejects.is_some() && probe.is_some();
            needs.before = self.baseline.get(&(c, probe, listed)).and_then(|at| text(*at, BEFORE));
        }
        let verified: Option<Vec<_>> = self.accept[c].iter().map(|at| state.verified(*at)).collect();
        needs.verified = verified.and_then(|all| all.into_iter().min());
        needs.disabled = self.disable[c].is_some_and(|at| *state.status(at) == Status::Done);
        if let Action::Sweep { .. } = step.action {
            needs.kept = self.issue.iter().filter_map(|at| text(*at, HANDLE)).collect();
        }
        let issue = self.issue[c];
        needs.issue = state.since(issue).map(|since| context(state, run, issue, since));
        needs
    }

    /// The tokens of every step that stages in the place that this one stages in, whatever the round: what
    /// carries one of them is the run's own.
    pub(super) fn siblings(&self, state: &State, run: &str, step: &Step) -> Vec<Uuid> {
        let (Action::Stage { credential, store } | Action::Promote { credential, store }) = step.action
        else {
            return Vec::new();
        };
        let plan = state.plan();
        let place = &plan.credentials[credential].stores[store].place;
        let stagers = self.stagers.get(place).map(Vec::as_slice).unwrap_or_default();
        let tokens = |at: &usize| {
            let id = plan.steps[*at].id.clone();
            (0..=state.round(*at)).map(move |round| token(run, &id, round))
        };
        stagers.iter().flat_map(tokens).collect()
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
        let (c, name, credential) = self.credential()?;
        let made = self.provider.store(name, credential, store).await?;
        if let Some(path) = credential.stores[store].local_path() {
            let planned = &self.plan.credentials[c].stores[store].place;
            refuse_moved(path, planned, made.as_ref()).await?;
        }
        Ok(made)
    }

    fn incoming(&self) -> Result<Held, CallError> {
        let (_, name, _) = self.credential()?;
        self.safe
            .get(&safe::incoming(name, self.needs.round))
            .ok_or_else(|| lost(format!("the new {name} is not among the sealed secrets")))
    }

    fn outgoing(&self, store: usize) -> Result<Held, CallError> {
        let (_, name, _) = self.credential()?;
        self.safe
            .get(&safe::outgoing(name, store))
            .ok_or_else(|| lost(format!("the old {name} is not among the sealed secrets")))
    }

    fn incoming_handle(&self) -> Result<&str, CallError> {
        self.needs.incoming.as_deref().ok_or_else(|| bug("the new credential has no handle"))
    }

    fn outgoing_handle(&self, c: usize) -> Result<&str, CallError> {
        let outgoing = self.plan.credentials[c].outgoing.as_ref();
        outgoing.map(|o| o.handle.as_str()).ok_or_else(|| bug("the old credential has no handle"))
    }

    /// What may stand in this step's messages and must not.
    pub(super) fn scrub(&self, text: &str) -> String {
        self.safe.clean(text)
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
            Action::Baseline { probe, rejects, .. } => self.baseline(*probe, *rejects).await,
            Action::Issue { .. } => self.issue().await,
            Action::Inspect { .. } => self.inspect().await,
            Action::Stage { store, .. } => {
                let incoming = self.incoming()?;
                let version = self.store(*store).await?.stage(&self.context, &incoming.material).await?;
                Ok(facts([(VERSION, version)]))
            }
            Action::Accept { probe, .. } => self.accept(*probe).await,
            Action::Sweep { .. } => {
                let incoming = self.needs.incoming.as_deref();
                self.sweep(&self.needs.kept, incoming).await
            }
            Action::Promote { store, .. } => {
                let (incoming, outgoing) = (self.incoming()?, self.outgoing(*store)?);
                let base = self.base()?;
                let staged = self.needs.staged.as_deref();
                let store = self.store(*store).await?;
                self.look_before_cutover(&incoming.material).await?;
                let from = if self.needs.rewrites {
                    let theirs = store.read(None).await.map_err(CallError::read_only)?;
                    self.safe.learn(&theirs);
                    Arc::new(theirs)
                } else {
                    outgoing.material
                };
                let done = store.promote(&self.context, &incoming.material, &from, staged).await.map_err(
                    |e| match e.kind {
                        ErrorKind::Conflict => e.hint(self.how_to_rewrite()),
                        _ => e,
                    },
                )?;
                // The way back leads to what stood there before the run, whatever was written meanwhile.
                let was = done.was.filter(|_| !self.needs.rewrites).unwrap_or_else(|| base.to_owned());
                Ok(facts([(VERSION, done.version), (WAS, was)]))
            }
            Action::Reload { consumer, .. } => self.reload(*consumer).await,
            Action::Disable { credential } => {
                let handle = self.outgoing_handle(*credential)?;
                let issuer = self.issuer().await?;
                self.look_before_the_end().await?;
                match issuer.disable(&self.context, handle).await {
                    // One that is gone is as good as disabled.
                    Err(e) if e.kind == ErrorKind::NotFound && issuer.life(handle).await? == Life::Gone => {
                        Ok(Yield {
                            checks: vec![Check::warn("old credential", "it is already gone")],
                            ..Yield::default()
                        })
                    }
                    other => other.map(nothing),
                }
            }
            Action::Revoke { credential } => {
                let handle = self.outgoing_handle(*credential)?;
                let outgoing = self.outgoing(0).ok().map(|h| h.material);
                let issuer = self.issuer().await?;
                self.look_before_the_end().await?;
                self.end(issuer.as_ref(), handle, outgoing.as_deref()).await.map(nothing)
            }
            Action::Destroy { store, .. } => {
                let (base, outgoing) = (self.base()?, self.outgoing(*store)?.material);
                self.store(*store).await?.destroy(&self.context, base, &outgoing).await.map(nothing)
            }
            Action::Reject { probe, .. } => self.reject(*probe).await,
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

    /// Refuses, right before an effect and after whatever was looked at for it, when the latch is set or
    /// somebody asked to stop. A latch that cannot be looked at counts as set.
    pub(super) fn refuse_stopped(&self) -> Result<(), CallError> {
        if is_on(Sabotage::Halt) {
            return Ok(());
        }
        let why = match self.latches.latch() {
            Ok(None) if !self.cancel.is_cancelled() => return Ok(()),
            Ok(None) => "stopped before the step began",
            Ok(Some(_)) => "halted before the step began",
            Err(_) => "cannot read the halt, so the step did not begin",
        };
        Err(CallError::rejected(ErrorKind::Cancelled, why))
    }

    async fn capture(&self, c: usize, s: usize) -> Result<Yield, CallError> {
        let (_, name, _) = self.credential()?;
        let store = self.store(s).await?;
        let mut out = checked(store.preflight().await)?;
        let versions = store.observe().await?;
        let planned = &self.plan.credentials[c];
        let material = store.read(versions.current.as_deref()).await?;
        let known = &planned.stores[s].versions.current;
        // A neighbour in the same secret may have been written since; another credential may not.
        if versions.current != *known && !self.is_the_planned_one(c, &material).await? {
            let (was, is) = (shown(known), shown(&versions.current));
            let message = format!("the plan saw version {was} as current; the current version is now {is}");
            let hint = "another process has changed it since; make a new plan";
            return Err(CallError::rejected(ErrorKind::Conflict, message).hint(hint));
        }
        let fingerprint = self.safe.fingerprint(&material).to_string();
        let identity = self.plan.credentials[c].outgoing.clone();
        let sealed = self.safe.put(&safe::outgoing(name, s), material, identity).map_err(|e| unsealed(&e))?;
        out.facts =
            facts([(VERSION, versions.current.unwrap_or_default()), (FINGERPRINT, fingerprint)]).facts;
        out.sealed.push(sealed);
        Ok(out)
    }

    /// Whether a value that was written since the plan was made is still the credential that it names. One
    /// whose issuer knows no names is what its only store holds.
    async fn is_the_planned_one(&self, c: usize, material: &Material) -> Result<bool, CallError> {
        let planned = &self.plan.credentials[c];
        if !planned.issuer.tries {
            return Ok(planned.stores.len() == 1);
        }
        let standing = self.issuer().await?.identify(material).await?;
        Ok(standing.map(|s| s.identity.handle) == planned.outgoing.as_ref().map(|o| o.handle.clone()))
    }

    async fn issue(&self) -> Result<Yield, CallError> {
        let (_, name, _) = self.credential()?;
        let issuer = self.issuer().await?;
        let place = safe::incoming(name, self.needs.round);
        // A value made here was sealed before this call, by the engine.
        let candidate = if issuer.traits().mints { None } else { self.safe.get(&place) };
        let issued = issuer.issue(&self.context, candidate.as_ref().map(|h| h.material.as_ref())).await?;
        if issued.material.is_blank() {
            return Err(CallError::unknown("the issuer returned an empty credential"));
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

    /// Whether incoming is not wider than the runbook allows.
    async fn inspect(&self) -> Result<Yield, CallError> {
        let (_, name, credential) = self.credential()?;
        let grant = self.issuer().await?.inspect(self.incoming_handle()?).await?;
        self.refuse_short(&grant)?;
        match too_wide(&credential.scope, &grant) {
            None => {
                let about = format!("scope of the new {name}");
                let mut checks = vec![Check::pass(about.clone(), "not wider than the runbook allows")];
                checks.extend(grant.notes.into_iter().map(|note| Check::warn(about.clone(), note)));
                Ok(Yield { checks, ..Yield::default() })
            }
            Some(wider) => Err(CallError::rejected(
                ErrorKind::Declined,
                format!("the new {name} is wider than the runbook allows: {wider}"),
            )
            .hint("narrow the issuer's role or policies, or widen `scope` after a review")),
        }
    }

    /// Refuses a new credential that ends before the phases are over in which it must work.
    fn refuse_short(&self, grant: &Grant) -> Result<(), CallError> {
        let (_, name, _) = self.credential()?;
        let phases =
            self.plan.phases.iter().filter(|p| p.phase >= Phase::Distribute && p.phase <= Phase::Sunset);
        let needed: Duration = phases.map(|p| p.at_least.get()).sum();
        match grant.lives {
            Some(lives) if lives <= needed => {
                let (lives, needed) = (lives.as_secs(), needed.as_secs());
                let message =
                    format!("the new {name} lives for {lives}s, but the phases take at least {needed}s");
                Err(CallError::rejected(ErrorKind::Declined, message)
                    .hint("give it a longer life at its server, or shorten `overlap` and `sunset`"))
            }
            _ => Ok(()),
        }
    }

    async fn reload(&self, consumer: usize) -> Result<Yield, CallError> {
        let (_, name, credential) = self.credential()?;
        self.provider.consumer(name, credential, consumer).await?.reload(&self.context).await.map(nothing)
    }

    async fn manual(&self, name: &str, question: &str) -> Result<Yield, CallError> {
        let answer = tokio::select! {
            biased;
            answer = self.operator.ask(name, question) => answer,
            () = self.cancel.cancelled() => {
                return Err(CallError::rejected(ErrorKind::Cancelled, format!("stopped before you answered `{question}`")));
            }
        };
        match answer {
            Answer::Yes => Ok(Yield::default()),
            Answer::No => {
                Err(CallError::rejected(ErrorKind::Declined, format!("the answer to `{question}` was no")))
            }
            Answer::Nobody => {
                Err(CallError::rejected(ErrorKind::Unanswered, format!("`{question}` is not answered"))
                    .hint(format!("pass --confirm {name} if the answer is yes")))
            }
        }
    }

    fn own(&self, name: &str) -> Result<&model::OwnStep, CallError> {
        let spec = self.plan.runbook.phases.of(self.step().phase);
        spec.and_then(|p| p.before.iter().chain(&p.after).find(|s| s.name == name))
            .ok_or_else(|| bug("the plan does not have this custom step"))
    }

    fn base(&self) -> Result<&str, CallError> {
        self.needs.base.as_deref().ok_or_else(|| bug("the store's first version is not known"))
    }
}

/// Refuses a file whose path leads elsewhere than when the plan was made: the run holds the file of the plan,
/// and another run may hold the other one.
async fn refuse_moved(path: &str, planned: &str, store: &dyn Store) -> Result<(), CallError> {
    let now = store.place().await.map_err(CallError::read_only)?;
    // Plans of earlier versions name no place.
    if planned.is_empty() || now == planned {
        return Ok(());
    }
    let (planned, now) = (planned.trim_start_matches("file "), now.trim_start_matches("file "));
    let message = format!(
        "{path}: the path led to {planned} when the plan was made and now leads to {now}; this step wrote to neither"
    );
    let hint = format!("make the path lead to {planned} again (a symbolic link, or a mount), then resume");
    Err(CallError::rejected(ErrorKind::Local, message).hint(hint))
}

/// What makes a grant wider than a scope, in a sentence; `None` when nothing does.
fn too_wide(scope: &model::Scope, grant: &Grant) -> Option<String> {
    if let (Some(allowed), Some(has)) = (&scope.policies, &grant.policies)
        && let Some(extra) = has.iter().find(|p| !allowed.contains(p))
    {
        return Some(format!("it has the policy `{extra}`"));
    }
    if let Some(max) = scope.max_ttl {
        match grant.ttl {
            None => return Some(format!("it never expires; at most {max} is allowed")),
            Some(ttl) if ttl > max.get() => {
                let ttl = crate::domain::Period::seconds(ttl.as_secs());
                return Some(format!("it lives for {ttl}; at most {max} is allowed"));
            }
            Some(_) => {}
        }
    }
    if let (Some(wanted), Some(is)) = (&scope.audience, &grant.audience)
        && wanted != is
    {
        return Some(format!("its audience is `{is}`, not `{wanted}`"));
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

fn nothing((): ()) -> Yield {
    Yield::default()
}

fn shown(version: &Option<String>) -> &str {
    version.as_deref().unwrap_or("none")
}

fn bug(what: &str) -> CallError {
    CallError::rejected(ErrorKind::Invalid, format!("this plan is not consistent: {what}"))
}

fn lost(what: String) -> CallError {
    CallError::rejected(ErrorKind::Local, what).hint(
        "restore sealed.jsonl of the run from a backup of the state directory, or close the run (its journal names the credentials that it issued): stanch abandon --reason TEXT",
    )
}

pub(super) fn unsealed(error: &SafeError) -> CallError {
    CallError::rejected(ErrorKind::Local, error.to_string())
}

/// The context of a step's call; `now` where it was not tried yet.
pub(super) fn context(state: &State, run: &str, at: usize, now: Timestamp) -> CallContext {
    let id = &state.plan().steps[at].id;
    CallContext {
        run: run.to_owned(),
        step: id.clone(),
        token: token(run, id, state.round(at)),
        since: state.since(at).unwrap_or(now),
        last: state.last(at).unwrap_or(now),
        siblings: Vec::new(),
        before: Default::default(),
    }
}
