//! Time, as the engine sees it.
//!
//! This is the only module that may read a clock (`clippy.toml` bans it elsewhere), so that a
//! simulation can put another one in its place.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

/// A moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Wall clock, UTC. Comparable across hosts and restarts, but it may jump.
    pub wall: Timestamp,
    /// Milliseconds since the clock was made. Never goes back, means nothing in another process.
    pub mono_ms: u64,
}

/// Where the engine gets time from, and how it waits.
#[async_trait]
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Moment;
    /// Waits for `duration`.
    async fn sleep(&self, duration: Duration);
}

/// The clock of this machine.
///
/// Within one process its wall time is the time at its making plus what a monotonic clock
/// measured since: somebody who sets the machine's clock in the middle of an overlap neither
/// cuts the overlap short nor stretches it. Across a restart the wall clock decides.
#[derive(Debug)]
pub struct SystemClock {
    wall: Timestamp,
    mono: Instant,
}

impl SystemClock {
    /// Reads the machine's clocks once.
    #[expect(clippy::disallowed_methods, reason = "this is the clock module")]
    pub fn new() -> Self {
        Self { wall: Timestamp::now(), mono: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Moment {
        let elapsed = self.mono.elapsed();
        Moment {
            wall: add(self.wall, elapsed),
            mono_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        }
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// The clock of a drill: its runtime's own time, which may pass at any speed, from a moment on.
#[derive(Debug)]
pub struct VirtualClock {
    wall: Timestamp,
    start: tokio::time::Instant,
}

impl VirtualClock {
    /// A clock that shows `wall` now. To be made inside the runtime whose time it shows.
    pub fn starting(wall: Timestamp) -> Self {
        Self { wall, start: tokio::time::Instant::now() }
    }
}

#[async_trait]
impl Clock for VirtualClock {
    fn now(&self) -> Moment {
        let elapsed = self.start.elapsed();
        let mono_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        Moment { wall: add(self.wall, elapsed), mono_ms }
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// How often [`pace`] holds the time back.
const PACE: Duration = Duration::from_millis(20);

/// Holds the time of a paused single-threaded runtime back, so that it passes `speed` times as fast as real time.
/// Without it, it passes as fast as the work is done. With `catch_up`, time that work took is made up for, so that
/// the clocks of several processes agree; without, the order of events stays that of any other speed.
#[expect(clippy::disallowed_methods, reason = "this is the clock module")]
pub async fn pace(speed: f64, catch_up: bool) {
    let (start, real) = (tokio::time::Instant::now(), Instant::now());
    loop {
        tokio::time::sleep(PACE).await;
        let due = start.elapsed().div_f64(speed);
        // The runtime has nothing else to do until then: its time stands still meanwhile.
        std::thread::sleep(due.saturating_sub(real.elapsed()));
        let behind = real.elapsed().saturating_sub(due).mul_f64(speed);
        if catch_up && behind > PACE {
            // In small steps, so that what waits is late by no more than one.
            tokio::time::advance(behind.min(5 * PACE)).await;
        }
    }
}

/// `at` plus `duration`, saturating at the end of time.
pub fn add(at: Timestamp, duration: Duration) -> Timestamp {
    SignedDuration::try_from(duration).ok().and_then(|d| at.checked_add(d).ok()).unwrap_or(Timestamp::MAX)
}

/// How long from `earlier` to `later`; zero when `later` is not later.
pub fn since(later: Timestamp, earlier: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or(Duration::ZERO)
}
