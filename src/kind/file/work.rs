//! Files are read and written off the event loop, within a deadline, and one after the other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use crate::domain::ErrorKind;
use crate::provider::outcome::CallError;

/// A disk that is this late is not one that a rotation can wait for; a network mount whose server is
/// gone would never come back.
const DEADLINE: Duration = Duration::from_secs(30);

/// Does a piece of work on a thread of its own: what hangs there holds up neither the other steps nor
/// the end of the process.
///
/// # Errors
/// Those of the work; and *unknown* when it did not end in time, for it may do so later.
pub(super) async fn run_on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CallError> + Send + 'static,
) -> Result<T, CallError> {
    let (done, waiting) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("file".to_owned())
        .spawn(move || {
            // The other side is gone when it waited too long.
            let _ = done.send(work());
        })
        .map_err(|error| from_io(&error))?;
    match tokio::time::timeout(DEADLINE, waiting).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(CallError::unknown("the work on the file was cut short")),
        Err(_) => Err(late("the file system has not answered")),
    }
}

fn late(what: &str) -> CallError {
    CallError::unknown(format!("{what} for {}s", DEADLINE.as_secs()))
        .hint("check the disk or the network mount that the file is on")
}

/// Waits until no other step of this process replaces the file. Other processes are kept out by the
/// run's holds.
///
/// # Errors
/// When a replacement does not end in time: this one then did not begin.
pub(super) async fn alone_on(target: &Path) -> Result<OwnedMutexGuard<()>, CallError> {
    type Locks = BTreeMap<PathBuf, Arc<tokio::sync::Mutex<()>>>;
    static LOCKS: LazyLock<Mutex<Locks>> = LazyLock::new(Mutex::default);
    let lock = {
        let mut locks = LOCKS.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(locks.entry(target.to_owned()).or_default())
    };
    tokio::time::timeout(DEADLINE, lock.lock_owned())
        .await
        .map_err(|_| late("another step has been writing the file").read_only())
}

pub(super) fn from_io(error: &std::io::Error) -> CallError {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::NotFound,
        std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
        _ => ErrorKind::Local,
    };
    CallError::rejected(kind, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_that_hangs_is_not_waited_for_and_leaves_doubt() {
        let (release, hung) = std::sync::mpsc::channel::<()>();
        let error = run_on_thread(move || Ok(hung.recv())).await.expect_err("late");
        assert!(error.in_doubt && error.message.contains("30s"), "{error:?}");
        drop(release);

        let path = Path::new("/one/file");
        let held = alone_on(path).await.expect("free");
        let error = alone_on(path).await.expect_err("late");
        assert!(!error.in_doubt, "it did not begin: {error:?}");
        alone_on(Path::new("/another")).await.expect("another file");
        drop(held);
        alone_on(path).await.expect("free again");
    }
}
