//! A look at the world between sessions: asks, changes nothing, and records nothing.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::job::{self, Index, Job};
use super::safe::Safe;
use super::{Answer, LOOKED_AT_ONCE, Operator, SafeError};
use crate::clock::Clock;
use crate::journal::{JournalError, Latch, Latches, SealedEntry};
use crate::provider::Provider;
use crate::rotation::{Holds, Seen, Sight, State};
use crate::secret::Sealer;

/// How long all looks may take together.
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
    let (index, safe, places) = (Index::of(&plan), Arc::new(safe), Arc::new(Semaphore::new(LOOKED_AT_ONCE)));
    let mut looks = JoinSet::new();
    for (c, &step) in index.issues().iter().enumerate() {
        let planned = &plan.steps[step];
        let now = with.clock.now().wall;
        let job = Job {
            plan: Arc::clone(&plan),
            provider: Arc::clone(&with.provider),
            safe: Arc::clone(&safe),
            clock: Arc::clone(&with.clock),
            operator: Arc::new(Absent),
            cancel: CancellationToken::new(),
            latches: Arc::new(Absent),
            places: Arc::clone(&places),
            say: Arc::new(drop),
            step,
            context: job::context(state, &with.run, step, now),
            needs: index.needs(state, &with.run, planned),
        };
        let versions = with.sealed.is_empty().then(|| index.versions(state, c));
        let places = Arc::clone(&places);
        looks.spawn(async move {
            let _place = places.acquire_owned().await;
            let sight = job.sight(versions.as_deref()).await;
            (c, sight)
        });
    }
    let mut seen = Vec::with_capacity(looks.len());
    // A server that does not answer is not waited for longer, and a look that crashed saw nothing.
    let _ = tokio::time::timeout(PATIENCE, async {
        while let Some(done) = looks.join_next().await {
            seen.extend(done);
        }
    })
    .await;
    let now = with.clock.now().wall;
    for (c, credential) in plan.credentials.iter().enumerate() {
        let sight = seen.iter().find_map(|(at, sight)| (*at == c).then_some(sight.clone()?));
        let (stores, outgoing, incoming) = sight.unwrap_or_else(|| {
            (vec![Holds::Unreadable; credential.stores.len()], Sight::Unseen, Sight::Unseen)
        });
        state.see(&credential.name, now, Seen { stores, outgoing, incoming });
    }
    Ok(())
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
    fn latch(&self) -> Result<Option<Latch>, JournalError> {
        Ok(None)
    }
}
