//! A look at the world between sessions: asks, changes nothing, and records nothing.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::safe::Safe;
use super::step::{Asked, Earlier, Handler, Index, Job, OldAndNew, Sighted};
use super::{Answer, Operator, SafeError};
use crate::clock::Clock;
use crate::journal::{Latch, Latches, LedgerError, SealedEntry};
use crate::plan::Plan;
use crate::provider::Provider;
use crate::rotation::{Holds, Seen, Sight, State, Stop};
use crate::secret::Sealer;

/// How many credentials are looked at once.
const LOOKED_AT_ONCE: usize = 32;
/// How long the next look may take between sessions.
const PATIENCE: Duration = Duration::from_secs(30);

/// What [`check`] works with.
pub struct Check {
    /// Makes the plan's parts callable.
    pub provider: Arc<dyn Provider>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Opens secrets.
    pub sealer: Arc<Sealer>,
    /// The run's id.
    pub run: String,
    /// The run's sealed secrets; none once it is over.
    pub sealed: Vec<SealedEntry>,
}

/// Looks at every store and issuer of a run, and folds what it sees into `state`. The stores of a run that
/// is over are told by their versions: the values to compare with are destroyed.
///
/// # Errors
/// When the run's secrets cannot be opened.
pub async fn check(with: Check, state: &mut State) -> Result<(), SafeError> {
    let plan = Arc::clone(state.plan());
    let (safe, _) = Safe::open(with.sealer, &with.sealed)?;
    with.provider.secrets().into_iter().for_each(|secret| safe.know(secret));
    let (index, safe) = (Index::of(&plan), Arc::new(safe));
    let mut jobs = Vec::with_capacity(plan.credentials.len());
    let earlier = Earlier { index: &index, state, run: &with.run };
    for (c, step) in index.looks() {
        let job = Job {
            plan: Arc::clone(&plan),
            provider: Arc::clone(&with.provider),
            safe: Arc::clone(&safe),
            clock: Arc::clone(&with.clock),
            operator: Arc::new(Absent),
            cancel: CancellationToken::new(),
            latches: Arc::new(Absent),
            places: Arc::new(Semaphore::new(1)),
            say: Arc::new(drop),
            step,
            context: earlier.context(step, with.clock.now().wall),
            known: earlier.known(step),
            handler: Handler::of(&plan.steps[step].action, &earlier),
        };
        jobs.push((c, job, with.sealed.is_empty().then(|| earlier.versions(c))));
    }
    let asked = Asked {
        consumers: !with.sealed.is_empty(),
        old: matches!(state.stopped(), Some(Stop::LetIn { .. })),
    };
    let found = sights(&plan, jobs, PATIENCE, asked).await;
    let now = with.clock.now().wall;
    for (credential, seen) in plan.credentials.iter().zip(found) {
        let unseen = || Seen {
            stores: vec![Holds::Unreadable; credential.stores.len()],
            outgoing: Sight::Unseen,
            incoming: Sight::Unseen,
        };
        let (seen, used) = seen.map_or_else(|| (unseen(), Vec::new()), |look| (look.seen, look.used));
        state.see(&credential.name, now, seen);
        for one in used {
            state.count_adopted(&one.credential, &one.consumer, one.instances, one.of);
        }
    }
    Ok(())
}

/// What each job sees of its credential, in the plan's order, and with the versions that tell its stores apart where
/// no values do. `None` where a look crashed, or did not end in time: a server that does not answer is not waited
/// for. `patience` is for the next look that sees its stores, and many looks may take long under a small quota.
pub(super) async fn sights(
    plan: &Plan,
    jobs: Vec<(usize, Job, Option<Vec<OldAndNew>>)>,
    patience: Duration,
    asked: Asked,
) -> Vec<Option<Sighted>> {
    let places = Arc::new(Semaphore::new(LOOKED_AT_ONCE));
    let mut found = vec![None; plan.credentials.len()];
    let mut looks = JoinSet::new();
    for (at, job, versions) in jobs {
        let places = Arc::clone(&places);
        looks.spawn(async move {
            let _place = places.acquire_owned().await;
            (at, job.look(versions.as_deref(), asked).await)
        });
    }
    let mut until = Instant::now() + patience;
    while let Ok(Some(done)) = timeout_at(until, looks.join_next()).await {
        let Ok((at, look)) = done else { continue };
        if look.as_ref().is_some_and(|look| !look.seen.stores.contains(&Holds::Unreadable)) {
            until = Instant::now() + patience;
        }
        found[at] = look;
    }
    found
}

/// Stands for those whom a look does not need.
struct Absent;

#[async_trait]
impl Operator for Absent {
    async fn ask(&self, _: &str, _: &str) -> Answer {
        Answer::Nobody
    }
}

impl Latches for Absent {
    fn latch(&self) -> Result<Option<Latch>, LedgerError> {
        Ok(None)
    }
}
