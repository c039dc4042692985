//! For how long a step goes on asking.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::ErrorKind;
use crate::provider::CallError;

/// The first wait after a server refused a request for the number of requests, where it asks for no longer one. It
/// doubles up to the longest: quotas fill up by the second.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(8);

/// Asks, and again where the server refuses the number of requests, as long as `may_wait` says so of the next wait.
///
/// # Errors
/// What the last answer was, read-only; of kind `Cancelled` when a wait was cut short.
pub(super) async fn unthrottled<T, F: Future<Output = Result<T, CallError>>>(
    clock: &dyn Clock,
    cancel: &CancellationToken,
    mut may_wait: impl FnMut(Duration) -> bool,
    call: impl Fn() -> F,
) -> Result<T, CallError> {
    let mut wait = FIRST_WAIT;
    loop {
        let error = match call().await.map_err(CallError::read_only) {
            Err(error) if error.kind == ErrorKind::Throttled => error,
            other => return other,
        };
        let asked = wait.max(error.retry_after.unwrap_or_default());
        if !may_wait(asked) {
            return Err(error);
        }
        pause(clock, cancel, asked).await?;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Waits, unless the step is cancelled.
pub(super) async fn pause(
    clock: &dyn Clock,
    cancel: &CancellationToken,
    time: Duration,
) -> Result<(), CallError> {
    tokio::select! {
        biased;
        () = clock.sleep(time) => Ok(()),
        () = cancel.cancelled() => Err(CallError::rejected(ErrorKind::Cancelled, "stopped while asking")),
    }
}

/// For how long to go on asking. Time in which the server refused requests for their number says nothing of the
/// credential: it counts for the limit of the phase alone.
pub(super) struct Patience<'a> {
    clock: &'a dyn Clock,
    began_ms: u64,
    phase: Duration,
    own: Duration,
    throttled_ms: AtomicU64,
}

impl<'a> Patience<'a> {
    /// From now, for no longer than the phase, and for so long with the answers that come.
    pub(super) fn new(clock: &'a dyn Clock, phase: Duration, own: Duration) -> Self {
        Self { clock, began_ms: clock.now().mono_ms, phase, own, throttled_ms: AtomicU64::new(0) }
    }

    /// The server made this much time pass.
    pub(super) fn throttled(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.throttled_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Since the first question.
    pub(super) fn since(&self) -> Duration {
        Duration::from_millis(self.clock.now().mono_ms.saturating_sub(self.began_ms))
    }

    /// Until the end of the phase.
    pub(super) fn of_phase(&self) -> Duration {
        self.phase.saturating_sub(self.since())
    }

    /// Until the answers so far are believed, or the phase ends.
    pub(super) fn left(&self) -> Duration {
        let throttled = Duration::from_millis(self.throttled_ms.load(Ordering::Relaxed));
        self.own.saturating_sub(self.since().saturating_sub(throttled)).min(self.of_phase())
    }
}
