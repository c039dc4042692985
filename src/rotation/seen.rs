//! What was seen of a credential in the world.

use serde::{Deserialize, Serialize};

/// What was seen of one credential's place in the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What each of its stores hands out.
    pub stores: Vec<Holds>,
    /// The old credential.
    pub outgoing: Sight,
    /// The new credential.
    pub incoming: Sight,
}

/// What a store hands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Holds {
    /// The new credential.
    Incoming,
    /// The old credential.
    Outgoing,
    /// It cannot be read, and has the version that this run wrote with the new credential.
    Written,
    /// It cannot be read, and has the version of before the run, or the one that a way back wrote.
    Unwritten,
    /// Neither: somebody else wrote there.
    Other,
    /// Nothing: it has no such secret, or no current version of it.
    Nothing,
    /// Another version than this run wrote, and no value is left to compare it with: a neighbour of the credential
    /// may have been written there, or the credential.
    Incomparable,
    /// It could not be read, or there was nothing left to compare it with.
    Unreadable,
}

/// What was seen of one version of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sight {
    /// It was used, and accepted.
    Accepted,
    /// It was used, and refused.
    Refused,
    /// Its issuer says that it is alive.
    Alive,
    /// Its issuer says that it is disabled.
    Disabled,
    /// It is deleted, and something that was made with it lives on, such as a login or a session.
    Deleted,
    /// Its issuer does not know it any more.
    Gone,
    /// It was not looked at, or there was no answer.
    Unseen,
}
