//! `promote`: makes incoming current; the way back makes outgoing current again.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::earlier::Earlier;
use super::job::{Job, VERSION, WAS, first_version};
use super::{Effect, LOOK_BEFORE, Observed, applied};
use crate::domain::{ErrorKind, Versions};
use crate::engine::yields::{Yield, facts};
use crate::provider::{Ahead, CallContext, CallError, Store};
use crate::rotation::{Facts, Found};
use crate::secret::Material;

/// How a store that cannot be read is made this run's own again, and then taken back.
pub(super) fn write_again(name: &str) -> String {
    format!(
        "go forward to write the new value once more, then back: stanch resume --forward --until cutover, stanch resume --rewrite {name} --until cutover, stanch rollback"
    )
}

pub(super) struct Promote {
    store: usize,
    /// The version that was current when the run began, or was restored since.
    base: Option<String>,
    /// The version that this run wrote, or that it restored since.
    wrote: Option<String>,
    /// When the last try to take it back began.
    returned: Option<Timestamp>,
    /// The version that was staged.
    staged: Option<String>,
    /// Whether a person wants the store written over whatever it holds.
    overwrites: bool,
    /// When the first of the credential's checks under `verify` passed, if all of them passed in this process.
    verified: Option<Timestamp>,
    siblings: Vec<Uuid>,
    /// The versions that there were when the plan was made.
    before: Versions,
}

impl Promote {
    pub(super) fn new(earlier: &Earlier<'_>, credential: usize, store: usize) -> Self {
        Self {
            store,
            base: earlier.base(credential, store),
            wrote: earlier.wrote(credential, store),
            returned: earlier.returned(credential, store),
            staged: earlier.staged(credential, store),
            overwrites: earlier.overwrites(credential, store),
            verified: earlier.verified(credential),
            siblings: earlier.siblings(credential, store),
            before: earlier.planned(credential, store),
        }
    }

    /// The version that the way back meets, where nobody else wrote.
    fn met(&self) -> Option<String> {
        // Written over without a version on record, it may be another's.
        self.wrote.clone().or_else(|| self.base.clone())
    }

    /// Whether what was written shows, after a try that began at `asked`: by its value, or by another version than
    /// `from` where the store cannot be read.
    async fn shows(
        &self,
        job: &Job,
        value: &Material,
        from: Option<String>,
        asked: Timestamp,
    ) -> Result<(bool, Versions), CallError> {
        if job.reads(self.store) {
            return job.current_is(self.store, value).await;
        }
        let limit = self.limit(job.plan.runbook.limits.deadline.get());
        job.has_moved(self.store, first_version(&from)?, asked, limit).await
    }

    fn context(&self, job: &Job, expected: Option<String>) -> CallContext {
        let (siblings, before) = (self.siblings.clone(), self.before.clone());
        let asked = job.clone();
        let ahead = Ahead::asking(move || asked.refuse_stopped());
        CallContext { siblings, before, expected, ahead, ..job.context.clone() }
    }

    /// What a store is to be written over with, where a person wants that: the value in it; `None` where it holds none.
    /// Of one that cannot be read, the old value stands for it.
    async fn theirs(&self, job: &Job, store: &dyn Store) -> Result<Option<Arc<Material>>, CallError> {
        let found = match job.reads(self.store) {
            true => store.read(None).await.map(Arc::new),
            false => store.observe().await.and_then(|_| Ok(job.outgoing(self.store)?.material)),
        };
        match found {
            Ok(theirs) => {
                job.safe.learn(&theirs);
                Ok(Some(theirs))
            }
            Err(e) if e.kind == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e.read_only()),
        }
    }
}

#[async_trait]
impl Effect for Promote {
    fn limit(&self, deadline: Duration) -> Duration {
        deadline + LOOK_BEFORE
    }

    async fn perform(&self, job: &Job) -> Result<Yield, CallError> {
        let (incoming, outgoing) = (job.incoming()?, job.outgoing(self.store)?);
        let base = first_version(&self.base)?;
        let staged = self.staged.as_deref();
        let store = job.store(self.store).await?;
        job.look_before_cutover(&incoming.material, self.verified, self.overwrites).await?;
        let theirs = match self.overwrites {
            false => Some(outgoing.material),
            true => self.theirs(job, store.as_ref()).await?,
        };
        job.refuse_stopped()?;
        let context = self.context(job, self.base.clone().filter(|_| !self.overwrites));
        let done = match theirs {
            Some(from) => store.promote(&context, &incoming.material, &from, staged).await,
            None => store.refill(&context, &incoming.material).await,
        };
        let done = done.map_err(|e| match e.kind {
            ErrorKind::Conflict => e.hint(job.how_to_rewrite()),
            _ => e,
        })?;
        // The way back leads to what stood there before the run, whatever was written meanwhile.
        let was = done.was.filter(|_| !self.overwrites).unwrap_or_else(|| base.to_owned());
        Ok(facts([(VERSION, done.version), (WAS, was)]))
    }

    async fn undo(&self, job: &Job) -> Result<Yield, CallError> {
        let (outgoing, incoming) = (job.outgoing(self.store)?, job.incoming()?);
        let (_, name, _) = job.credential()?;
        let was = self.base.as_deref();
        let store = job.store(self.store).await?;
        job.look_before_return().await?;
        job.refuse_stopped()?;
        let done = store
            .promote(&self.context(job, self.met()), &outgoing.material, &incoming.material, was)
            .await
            .map_err(|e| match e.kind {
                ErrorKind::Conflict if !job.reads(self.store) => e.hint(format!(
                    "find out which process wrote there, and stop it; then {}",
                    write_again(name)
                )),
                // A new plan is refused while this run holds the place.
                ErrorKind::NotFound => e.hint(
                    "only stanch still has the value; go forward to write the new one there, then back: stanch resume --forward --until cutover, stanch resume --rewrite NAME --until cutover, stanch rollback",
                ),
                ErrorKind::Conflict => e.hint(
                    "find out which process wrote there, and stop it; write the old value there by hand, then: stanch rollback; or go forward again: stanch resume --forward",
                ),
                _ => e,
            })?;
        Ok(facts([(VERSION, done.version)]))
    }

    async fn observe(&self, job: &Job) -> Observed {
        let incoming = job.incoming()?;
        let base = first_version(&self.base)?.to_owned();
        if self.overwrites && !job.reads(self.store) {
            return Ok((Found::Repeatable, Facts::new()));
        }
        let last = job.context.last;
        let (same, versions) = self.shows(job, &incoming.material, Some(base.clone()), last).await?;
        if !same {
            return applied(false);
        }
        Ok((found(&versions), facts([(VERSION, versions.current.unwrap_or_default()), (WAS, base)]).facts))
    }

    async fn observe_undo(&self, job: &Job) -> Observed {
        let outgoing = job.outgoing(self.store)?;
        let asked = self.returned.unwrap_or(job.context.last);
        let (same, versions) = self.shows(job, &outgoing.material, self.met(), asked).await?;
        if !same {
            return applied(false);
        }
        Ok((found(&versions), facts([(VERSION, versions.current.unwrap_or_default())]).facts))
    }
}

/// What is found of a promotion whose value is current. While the current version is still pending too, it is to be
/// finished: the mark of a staged version, or labels that must follow.
fn found(versions: &Versions) -> Found {
    match versions.pending.is_some() && versions.pending == versions.current {
        true => Found::Repeatable,
        false => Found::Applied,
    }
}
