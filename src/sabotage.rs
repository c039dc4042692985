//! Breaks on purpose, one for each invariant: the simulation must catch every one of them, for else it
//! would not catch an accident either.
//!
//! Without the feature `simulation` there are none, and [`is_on`] is a constant that the compiler
//! removes.

/// A break, named after the invariant that it hurts (see the design's list of nine).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// 1: the way back revokes incoming while stores still hand it out.
    Outage,
    /// 2: a proof takes acceptance for refusal, and a lost revocation for one that took place.
    Survivor,
    /// 3: taking back an issue says that it revoked, and does not.
    Orphan,
    /// 4: what a lost reply left is not looked for.
    Twin,
    /// 5: calls begin before their intents are durable.
    Unrecorded,
    /// 6: the latch is not looked at.
    Halt,
    /// 7: taking back a disabling says that it did, and does not.
    WayBack,
    /// 8: what servers say is recorded as they said it.
    Leak,
    /// 9: neither hashes nor signatures are compared.
    Unseen,
}

#[cfg(feature = "simulation")]
mod switch {
    use std::cell::Cell;

    use super::Sabotage;

    thread_local! {
        static ON: Cell<Option<Sabotage>> = const { Cell::new(None) };
    }

    /// Whether this thread is to do it wrong.
    pub fn is_on(what: Sabotage) -> bool {
        ON.get() == Some(what)
    }

    /// Breaks one thing in this thread, and mends everything else.
    pub fn switch(what: Option<Sabotage>) {
        ON.set(what);
    }
}

#[cfg(feature = "simulation")]
pub use switch::{is_on, switch};

/// Never.
#[cfg(not(feature = "simulation"))]
pub const fn is_on(_what: Sabotage) -> bool {
    false
}
