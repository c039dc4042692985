//! What a target can do, and how it is found out what became of a call to it.

use serde::{Deserialize, Serialize};

/// How the outcome of a call whose reply was lost is learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Observation {
    /// The call carries an idempotency token: the same bytes are sent again.
    Token,
    /// Compare-and-set: the version is read back and compared.
    Conditional,
    /// What was created carries a tag, or is one of few: it is listed.
    Listable,
    /// The target's state is read: alive, disabled or gone, or the value that it has.
    Readable,
    /// Doing it again is harmless by contract.
    Idempotent,
    /// It cannot be: the run stops and asks.
    Opaque,
}

/// What an issuer can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuerTraits {
    /// Whether the server makes the secret. If so, a secret whose reply was lost is lost.
    pub mints: bool,
    /// Whether a credential can be disabled and enabled again.
    pub disables: bool,
    /// Whether it can be told, by handle, that the outgoing credential is to be refused for good.
    pub revokes: bool,
    /// Whether old and new may be valid at once.
    pub coexists: bool,
    /// Whether a credential can be tried at the issuer itself (`Issuer::attempt`).
    pub tries: bool,
    /// How a lost reply to `issue` is settled.
    pub issue: Observation,
    /// How a lost reply to `disable`, `enable` and `revoke` is settled.
    pub change: Observation,
}

impl IssuerTraits {
    /// Whether a new credential takes the old one's place at its issuer, which keeps one only and is told in no other
    /// way: issuing it is the kill, and setting the old value again is the way back.
    pub const fn replaces(&self) -> bool {
        !self.coexists && !self.revokes && !self.disables
    }

    /// A secret that is made here, at a server that lists what belongs to it, says of each credential whether it is
    /// alive, and takes it back.
    pub const MADE_HERE: Self = Self { mints: false, disables: true, ..Self::MINTING };

    /// A server that makes secrets, lists what it made, and says of each credential whether it is alive.
    pub const MINTING: Self = Self {
        mints: true,
        disables: false,
        revokes: true,
        coexists: true,
        tries: true,
        issue: Observation::Listable,
        change: Observation::Readable,
    };
}

/// What a store can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreTraits {
    /// Whether a version can be staged without becoming current.
    pub stages: bool,
    /// Whether the outgoing version is to be destroyed in `revoke`.
    pub destroys: bool,
    /// Whether it gives back what was written. One that does not is told by its version alone, and only who uses it shows
    /// what it holds. Plans of earlier versions know of no such store.
    #[serde(default = "reads", skip_serializing_if = "Clone::clone")]
    pub reads: bool,
    /// How a lost reply is settled.
    pub change: Observation,
}

fn reads() -> bool {
    true
}
