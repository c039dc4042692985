//! Breaks on purpose, one for each invariant: the simulation must catch every one of them, for else it
//! would not catch an accident either.
//!
//! Without the feature `simulation` there are none, and [`is_on`] is a constant that the compiler
//! removes.

/// A break: one for each invariant of the design's nine, and one for each kind of fault in what the program
/// says and does about a world in which others have hands.
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
    /// 2: a refusal counts without an acceptance of the new credential, then and before, where the issuer
    /// does not tell whether the old one is gone.
    Control,
    /// 1: the world is not looked at right before a credential dies.
    LastLook,
    /// 1: the old credential is not used right before it takes the new one's place again.
    ReturnLook,
    /// 2: the summary tells what the steps did, whatever the world shows.
    Summary,
    /// 2: a call that crashes counts as one that did its work.
    Absence,
    /// 3: what a repeated request made is not looked for.
    Sweep,
    /// 2: a value that its issuer does not know is taken for one that needs no revocation.
    Unknown,
    /// 2: a credential counts as gone although what it made lives on.
    Descendants,
    /// 1: nobody waits until others have read a set anew.
    Settle,
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
