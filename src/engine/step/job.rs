//! One step's call, with all that it needs, so that it can run beside others. It never writes the journal: it
//! returns what to record.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Handler;
use crate::clock::{Clock, add};
use crate::domain::{Check, ErrorKind, Life, Versions};
use crate::engine::Operator;
use crate::engine::safe::{self, Held, Safe, SafeError};
use crate::engine::survey::first_failure;
use crate::engine::yields::Yield;
use crate::gate::Watched;
use crate::journal::Latches;
use crate::plan::{Plan, Step};
use crate::provider::{CallContext, CallError, Issuer, Provider, Store};
use crate::rotation::Facts;
use crate::runbook::model;
use crate::sabotage::{Sabotage, is_on};
use crate::secret::Material;

/// The fact that carries an issuer's name for the incoming credential.
pub(super) const HANDLE: &str = "handle";
/// The fact that carries a store's version.
pub(super) const VERSION: &str = "version";
/// The fact that carries the version that was current before.
pub(super) const WAS: &str = "was";
/// The fact that carries a keyed fingerprint.
pub(super) const FINGERPRINT: &str = "fingerprint";

/// How far two clocks may be apart.
const SKEW: Duration = Duration::from_secs(5);

/// What a step's call works with.
#[derive(Clone)]
pub(in crate::engine) struct Job {
    pub(in crate::engine) plan: Arc<Plan>,
    pub(in crate::engine) provider: Arc<dyn Provider>,
    pub(in crate::engine) safe: Arc<Safe>,
    pub(in crate::engine) clock: Arc<dyn Clock>,
    pub(in crate::engine) operator: Arc<dyn Operator>,
    pub(in crate::engine) cancel: CancellationToken,
    pub(in crate::engine) latches: Arc<dyn Latches>,
    /// How many steps that ask may ask at once.
    pub(in crate::engine) places: Arc<Semaphore>,
    /// Puts a sentence on the record.
    pub(in crate::engine) say: Arc<dyn Fn(String) + Send + Sync>,
    pub(in crate::engine) step: usize,
    pub(in crate::engine) context: CallContext,
    pub(in crate::engine) known: Known,
    pub(in crate::engine) handler: Handler,
}

/// The versions of one store that a run knows: the one that it found there, and the one that it wrote.
#[derive(Debug, Clone)]
pub(in crate::engine) struct OldAndNew {
    pub(super) old: Option<String>,
    pub(super) new: Option<String>,
    /// Whether the run wrote there, or may have.
    pub(super) touched: bool,
}

/// What earlier steps found of the step's credential.
#[derive(Debug, Clone, Default)]
pub(in crate::engine) struct Known {
    /// The issuer's name for incoming.
    pub(super) incoming: Option<String>,
    /// In which round incoming was, or is being, issued.
    pub(super) round: u32,
    /// When the first try of that round began.
    pub(super) issued: Option<Timestamp>,
    /// The contexts of every round in which one was issued, or was to be, from the first on.
    pub(super) rounds: Vec<CallContext>,
    /// What an attempt to issue it left behind.
    pub(super) orphans: Vec<String>,
    /// Whether this run disabled outgoing.
    pub(super) disabled: bool,
    /// What tells the versions of its stores apart, where one of them cannot be read.
    pub(super) versions: Vec<OldAndNew>,
}

impl Job {
    pub(super) fn step(&self) -> &Step {
        &self.plan.steps[self.step]
    }

    /// The credential that the step concerns.
    pub(super) fn credential(&self) -> Result<(usize, &str, &model::Credential), CallError> {
        let c = self.step().action.credential().ok_or_else(|| bug("the step concerns no credential"))?;
        let (planned, credential) = self.plan.credential(c);
        Ok((c, &planned.name, credential))
    }

    pub(super) async fn issuer(&self) -> Result<Arc<dyn Issuer>, CallError> {
        let (_, name, credential) = self.credential()?;
        self.provider.issuer(name, credential).await
    }

    /// A consumer of the step's credential, to be asked how many of its instances use `wanted`.
    pub(super) async fn watched(
        &self,
        consumer: usize,
        wanted: &Arc<Material>,
    ) -> Result<Watched, CallError> {
        let (_, name, credential) = self.credential()?;
        Ok(Watched {
            credential: name.to_owned(),
            consumer: credential.consumers[consumer].name.clone(),
            ask: self.provider.consumer(name, credential, consumer).await?,
            wanted: Arc::clone(wanted),
        })
    }

    pub(super) async fn store(&self, store: usize) -> Result<Arc<dyn Store>, CallError> {
        let (c, name, credential) = self.credential()?;
        let made = self.provider.store(name, credential, store).await?;
        if let Some(path) = credential.stores[store].local_path() {
            let planned = &self.plan.credentials[c].stores[store].place;
            refuse_moved(path, planned, made.as_ref()).await?;
        }
        Ok(made)
    }

    pub(super) fn incoming(&self) -> Result<Held, CallError> {
        let (_, name, _) = self.credential()?;
        self.safe
            .get(&safe::incoming(name, self.known.round))
            .ok_or_else(|| lost(format!("the new {name} is not among the sealed secrets")))
    }

    pub(super) fn outgoing(&self, store: usize) -> Result<Held, CallError> {
        let (c, name, _) = self.credential()?;
        self.safe
            .get(&safe::outgoing(name, self.plan.credentials[c].source(store)))
            .ok_or_else(|| lost(format!("the old {name} is not among the sealed secrets")))
    }

    pub(super) fn incoming_handle(&self) -> Result<&str, CallError> {
        self.known.incoming.as_deref().ok_or_else(|| bug("the new credential has no handle"))
    }

    pub(super) fn outgoing_handle(&self) -> Result<&str, CallError> {
        let outgoing = self.plan.credentials[self.credential()?.0].outgoing.as_ref();
        outgoing.map(|o| o.handle.as_str()).ok_or_else(|| bug("the old credential has no handle"))
    }

    /// What may stand in this step's messages and must not.
    pub(in crate::engine) fn scrub(&self, text: &str) -> String {
        self.safe.clean(text)
    }

    /// Refuses facts with a version that tells a secret of the run, before they are recorded.
    pub(in crate::engine) fn refuse_telling(&self, facts: &Facts) -> Result<(), CallError> {
        [VERSION, WAS]
            .iter()
            .filter_map(|name| facts.get(*name))
            .try_for_each(|v| self.safe.refuse_telling(v))
    }

    /// Refuses, right before an effect and after whatever was looked at for it, when the latch is set or
    /// somebody asked to stop. A latch that cannot be looked at counts as set.
    pub(in crate::engine) fn refuse_stopped(&self) -> Result<(), CallError> {
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

    /// Whether a store of the step's credential can be read.
    pub(super) fn reads(&self, store: usize) -> bool {
        let c = self.step().action.credential();
        c.is_none_or(|c| self.plan.credentials[c].reads(store))
    }

    /// Whether a store that cannot be read has another version than this one, written from the moment `asked` of the last
    /// try on, for as long as it may take; and which versions there are. An earlier or later one is another's.
    pub(super) async fn has_moved(
        &self,
        store: usize,
        from: &str,
        asked: Timestamp,
        limit: Duration,
    ) -> Result<(bool, Versions), CallError> {
        let stored = self.store(store).await?;
        let versions = stored.observe().await?;
        let Some(now) = versions.current.as_deref().filter(|now| *now != from) else {
            return Ok((false, versions));
        };
        let at = stored.written(now).await?;
        let ours = |at: Timestamp| add(at, SKEW) >= asked && at <= add(add(asked, limit), SKEW);
        Ok((at.is_none_or(ours), versions))
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

    /// Whether the issuer says of outgoing that it is as wanted.
    pub(super) async fn observe_outgoing(&self, wanted: Life) -> super::Observed {
        let life = self.issuer().await?.life(self.outgoing_handle()?).await?;
        super::applied(life == wanted)
    }
}

/// Refuses a file whose path leads elsewhere than when the plan was made: the run holds the file of the plan,
/// and another run may hold the other one.
async fn refuse_moved(path: &str, planned: &str, store: &dyn Store) -> Result<(), CallError> {
    let now = store.place().await.map_err(|e| match e.kind {
        ErrorKind::NotFound => e.read_only().hint(
            "make the file again, with its owner and mode (it may be empty), then type the command again; it says how to fill it",
        ),
        _ => e.read_only(),
    })?;
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

/// The checks as a result: the first that fails decides.
pub(super) fn checked(checks: Vec<Check>) -> Result<Yield, CallError> {
    match first_failure(&checks) {
        None => Ok(Yield { checks, ..Yield::default() }),
        Some(error) => Err(error),
    }
}

pub(super) fn nothing((): ()) -> Yield {
    Yield::default()
}

/// The version of a store to which the way back leads.
pub(super) fn first_version(base: &Option<String>) -> Result<&str, CallError> {
    base.as_deref().ok_or_else(|| bug("the store's first version is not known"))
}

pub(super) fn bug(what: &str) -> CallError {
    CallError::rejected(ErrorKind::Invalid, format!("this plan is not consistent: {what}"))
}

pub(super) fn lost(what: String) -> CallError {
    CallError::rejected(ErrorKind::Local, what).hint(
        "restore the sealed secrets of the run from a backup, or close the run (its journal names the credentials that it issued): stanch abandon --reason TEXT",
    )
}

pub(super) fn unsealed(error: &SafeError) -> CallError {
    CallError::rejected(ErrorKind::Local, error.to_string())
}
