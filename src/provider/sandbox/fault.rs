//! Faults that drills and tests inject.

use std::time::Duration;

use crate::domain::ErrorKind;

/// What befalls one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The server refuses it; nothing changes.
    Reject(ErrorKind),
    /// It never arrives, and nobody knows.
    LostRequest,
    /// It takes effect, and the reply is lost.
    LostReply,
    /// It takes effect late.
    Delay(Duration),
    /// The server refuses it, asks to wait for so long; nothing changes.
    Throttle(Duration),
    /// A store refuses it and quotes what was written into it last; nothing changes.
    Quote,
    /// It arrives twice, as through an intermediary that retries; the second answer comes back.
    Twice,
    /// No answer ever comes; whether it takes effect.
    Stall(bool),
    /// The program crashes in it.
    #[cfg(feature = "simulation")]
    Panic,
    /// It is answered as if it were done, and never is. In memory only.
    #[cfg(feature = "simulation")]
    Hollow,
    /// A read that sees the state of a while ago. In memory only.
    #[cfg(feature = "simulation")]
    Lag(Duration),
    /// It takes effect so much later, and no answer ever comes. In memory only.
    #[cfg(feature = "simulation")]
    Late(Duration),
    /// The servers restart before it and have lost the changes of so long. In memory only.
    #[cfg(feature = "simulation")]
    Restart(Duration),
}

/// Decides what befalls each call.
pub trait Faults: Send + Sync {
    /// What befalls the next call of `op` on `target`.
    fn next(&self, op: &'static str, target: &str) -> Option<Fault>;

    /// Whether a consumer answers a reload, and does not read its store again.
    fn is_deaf(&self, _consumer: &str) -> bool {
        false
    }

    /// Whether the condition of this gate, which is named by its own words as JSON, does not hold.
    fn is_red(&self, _gate: &str) -> bool {
        false
    }
}

/// Nothing ever goes wrong.
pub(super) struct NoFaults;

impl Faults for NoFaults {
    fn next(&self, _op: &'static str, _target: &str) -> Option<Fault> {
        None
    }
}

impl<F: Fn(&'static str, &str) -> Option<Fault> + Send + Sync> Faults for F {
    fn next(&self, op: &'static str, target: &str) -> Option<Fault> {
        self(op, target)
    }
}
