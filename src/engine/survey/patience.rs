//! Looking again after what may pass.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::failure::may_pass;
use crate::domain::ErrorKind;
use crate::provider::CallError;

/// How often a look that may pass is taken, and the wait after the first; it doubles.
pub(super) const TRIES: u32 = 4;
pub(super) const WAIT: Duration = Duration::from_millis(250);
/// The longest of those waits: eight times the first.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// How often a look is taken that a server refuses for the number of requests. Five refusals leave one look at a time;
/// the rest is for whoever else asks that server.
const REFUSALS: u32 = 10;
/// A server that asks to wait for longer is named instead.
const MAX_WAIT: Duration = Duration::from_secs(20);

/// How many looks may be under way. A server that refuses requests for their number gets fewer at once: all of them
/// together, begun again and again, would never be answered.
pub(super) struct Places {
    free: Semaphore,
    refusals: AtomicUsize,
    left: AtomicUsize,
}

impl Places {
    /// So many of them.
    pub(super) fn new(places: usize) -> Self {
        Self { free: Semaphore::new(places), refusals: AtomicUsize::new(0), left: AtomicUsize::new(places) }
    }

    /// Every other refusal takes a place away, but for the last: those who look at once are halved each time.
    fn refused<'a>(&self, place: Option<SemaphorePermit<'a>>) -> Option<SemaphorePermit<'a>> {
        let halves = self.refusals.fetch_add(1, Ordering::Relaxed) % 2 == 1;
        let fewer = |left: usize| left.checked_sub(1).filter(|left| *left > 0);
        if halves && self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).is_ok() {
            place.into_iter().for_each(SemaphorePermit::forget);
            return None;
        }
        place
    }
}

/// Looks again after what may pass, as a run does.
pub(super) async fn patiently<T, F: Future<Output = Result<T, CallError>>>(
    places: &Places,
    look: impl Fn() -> F,
) -> Result<T, CallError> {
    let (mut wait, mut tries, mut refusals) = (WAIT, 1, 1);
    loop {
        let mut place = places.free.acquire().await.ok();
        let error = match look().await {
            Err(e) if may_pass(e.kind) => e,
            other => return other,
        };
        let asked = error.retry_after.unwrap_or_default();
        let throttled = error.kind == ErrorKind::Throttled;
        let given_up = if throttled { refusals >= REFUSALS } else { tries >= TRIES };
        if given_up || asked > MAX_WAIT {
            return Err(error);
        }
        if throttled {
            refusals += 1;
            place = places.refused(place);
        } else {
            tries += 1;
        }
        // In its place: another look in it would only be refused as well.
        tokio::time::sleep(wait.max(asked)).await;
        wait = (wait * 2).min(LONGEST_WAIT);
        drop(place);
    }
}
