//! What does not change while a run lasts is asked once, and what many need at the same moment is asked
//! in one request.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;
use tokio::time::{Duration, Instant};

use super::acl::Acl;
use super::kv2_secret::{Metadata, Mount, MountConfig, Seen};
use super::token_info::{Birth, Login, Role, TokenInfo};
use crate::provider::outcome::CallError;

/// The answers that are kept, for as long as the client: one run. Only good answers are: whoever asks
/// again after a failure asks the server.
#[derive(Default)]
pub(super) struct Facts {
    /// The operator's own token, as the last look at the connection found it.
    pub(super) own: Latest<TokenInfo>,
    /// Held while the operator's token is looked up: who wants it at that moment waits for it.
    pub(super) asking_own: tokio::sync::Mutex<()>,
    /// Held while the server is asked for its name.
    pub(super) asking_server: tokio::sync::Mutex<()>,
    /// The server's own name for itself, whatever it is addressed by.
    pub(super) server: OnceCell<String>,
    pub(super) mounts: Once<Mount>,
    pub(super) configs: Once<MountConfig>,
    /// How a secret is set up, by its path.
    pub(super) secrets: Once<Metadata>,
    pub(super) roles: Once<Role>,
    /// What a plan's look found in each secret, for the look of the run that begins a moment later.
    pub(super) looked: Recent<Seen>,
    /// What the operator's policies say of parameters; `None` where they may not be read.
    pub(super) acl: OnceCell<Option<Acl>>,
    pub(super) held: Held,
    /// When a token was made, and with which policies: both never change.
    pub(super) births: Keyed<Birth>,
    /// The accessor of each token that a store held, by the token's SHA-256: whoever is refused later is told apart
    /// by what is known of the accessor.
    pub(super) identified: Keyed<String>,
    /// Whether a token that a store held was revoked by this client, by its accessor.
    pub(super) revoked: Keyed<bool>,
    /// Which of those the server did not know a moment ago. A revoked token does not come back under its accessor.
    pub(super) gone: Recent<()>,
    /// Whether the tokens that were there while the run was planned are known: they are none of its.
    pub(super) strangers: OnceCell<()>,
    /// Which step of which run a token was made for; `None` of another's. It never changes.
    pub(super) tags: Keyed<Option<(String, String)>>,
    /// What tells whose login a token is; `None` of one that carries nothing of a credential. It never changes.
    pub(super) logins: Keyed<Option<Arc<Login>>>,
}

/// One answer a key.
pub(super) struct Once<T>(Mutex<HashMap<String, Arc<OnceCell<Arc<T>>>>>);

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Once<T> {
    /// The answer that is known, or that `ask` gives; who asks at the same moment waits for it.
    pub(super) async fn get(
        &self,
        key: &str,
        ask: impl Future<Output = Result<T, CallError>>,
    ) -> Result<Arc<T>, CallError> {
        let cell = Arc::clone(lock(&self.0).entry(key.to_owned()).or_default());
        cell.get_or_try_init(|| async { ask.await.map(Arc::new) }).await.cloned()
    }
}

/// The last answer to a question that is asked again now and then.
pub(super) struct Latest<T>(Mutex<Option<Arc<T>>>);

impl<T> Default for Latest<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Latest<T> {
    pub(super) fn get(&self) -> Option<Arc<T>> {
        lock(&self.0).clone()
    }

    pub(super) fn set(&self, value: T) -> Arc<T> {
        Arc::clone(lock(&self.0).insert(Arc::new(value)))
    }
}

/// How long a look counts as one that was taken just now.
const RECENT: Duration = Duration::from_secs(5);

/// What was found a moment ago, by key.
pub(super) struct Recent<T>(Mutex<HashMap<String, (Instant, T)>>);

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Recent<T> {
    pub(super) fn take(&self, key: &str) -> Option<T> {
        let (at, found) = lock(&self.0).remove(key)?;
        (at.elapsed() <= RECENT).then_some(found)
    }

    /// Whether something was found a moment ago; it is left there.
    pub(super) fn has(&self, key: &str) -> bool {
        lock(&self.0).get(key).is_some_and(|(at, _)| at.elapsed() <= RECENT)
    }

    pub(super) fn set(&self, key: &str, value: T) {
        lock(&self.0).insert(key.to_owned(), (Instant::now(), value));
    }
}

/// What is known of each key.
pub(super) struct Keyed<T>(Mutex<HashMap<String, T>>);

impl<T> Default for Keyed<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Keyed<T> {
    pub(super) fn get(&self, key: &str) -> Option<T> {
        lock(&self.0).get(key).cloned()
    }

    pub(super) fn set(&self, key: &str, value: T) {
        lock(&self.0).insert(key.to_owned(), value);
    }
}

/// What the operator may do, by path.
#[derive(Default)]
pub(super) struct Held {
    known: Keyed<Vec<String>>,
    wanted: Mutex<BTreeSet<String>>,
    asking: tokio::sync::Mutex<()>,
}

impl Held {
    /// What the operator may do on each path, in the order of the paths. While one request is on its
    /// way the paths of all others gather, and the next one asks for all of them.
    pub(super) async fn get<F: Future<Output = Result<Vec<Vec<String>>, CallError>>>(
        &self,
        paths: &[&str],
        ask: impl FnOnce(Vec<String>) -> F,
    ) -> Result<Vec<Vec<String>>, CallError> {
        let known = || paths.iter().map(|path| self.known.get(path)).collect::<Option<Vec<_>>>();
        if let Some(held) = known() {
            return Ok(held);
        }
        lock(&self.wanted).extend(paths.iter().map(|path| (*path).to_owned()));
        // Others that were started at the same moment add theirs first.
        tokio::task::yield_now().await;
        let _turn = self.asking.lock().await;
        if let Some(held) = known() {
            return Ok(held);
        }
        let mut all = std::mem::take(&mut *lock(&self.wanted));
        all.extend(paths.iter().map(|path| (*path).to_owned()));
        let all: Vec<String> = all.into_iter().collect();
        for (path, held) in all.iter().zip(ask(all.clone()).await?) {
            self.known.set(path, held);
        }
        Ok(known().unwrap_or_default())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ErrorKind;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn a_failure_is_not_kept_and_an_answer_is() {
        let once = Once::default();
        let fails = once.get("k", async { Err::<u8, _>(CallError::rejected(ErrorKind::NotReady, "sealed")) });
        assert!(fails.await.is_err());
        assert_eq!(*once.get("k", async { Ok(1) }).await.expect("first"), 1);
        assert_eq!(*once.get("k", async { Ok(2) }).await.expect("kept"), 1);
        assert_eq!(*once.get("other", async { Ok(2) }).await.expect("another key"), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_counts_for_a_moment_and_once() {
        let recent = Recent::default();
        recent.set("k", 1);
        tokio::time::advance(RECENT).await;
        assert_eq!((recent.take("other"), recent.take("k"), recent.take("k")), (None, Some(1), None));
        recent.set("k", 2);
        assert!(recent.has("k") && recent.has("k") && !recent.has("other"));
        tokio::time::advance(RECENT + Duration::from_millis(1)).await;
        assert!(!recent.has("k"));
        assert_eq!(recent.take("k"), None);
    }

    #[tokio::test]
    async fn paths_that_are_wanted_at_one_moment_go_in_one_request() {
        let (held, asked) = (Arc::new(Held::default()), Arc::new(AtomicUsize::new(0)));
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..50 {
            let (held, asked) = (Arc::clone(&held), Arc::clone(&asked));
            tasks.spawn(async move {
                let (own, shared) = (format!("secret/data/{n}"), "auth/token/lookup");
                let answer = held
                    .get(&[&own, shared], |paths| async move {
                        asked.fetch_add(1, Ordering::SeqCst);
                        tokio::task::yield_now().await;
                        Ok(paths.iter().map(|path| vec![path.clone()]).collect())
                    })
                    .await;
                assert_eq!(answer.expect("answer"), [vec![own], vec![shared.to_owned()]]);
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.expect("a task");
        }
        assert!(asked.load(Ordering::SeqCst) <= 2, "{asked:?}");
    }
}
