//! Why a call failed.

use serde::{Deserialize, Serialize};

/// What went wrong, as far as the difference matters to what is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum ErrorKind {
    /// No connection was made: definitely nothing changed.
    Unreachable,
    /// The server knows who we are and forbids it.
    Denied,
    /// The server does not accept the credential that we (or the call) presented.
    Refused,
    /// There is no such thing.
    NotFound,
    /// Something else changed the target first.
    Conflict,
    /// Too many requests.
    Throttled,
    /// No further credential is allowed.
    Limit,
    /// Vault is sealed, a standby that does not forward, or not initialised.
    NotReady,
    /// The request, or what the server holds, cannot be right.
    Invalid,
    /// This server or target cannot do it.
    Unsupported,
    /// The request was sent and no clear answer came.
    NoAnswer,
    /// A program or a person said no.
    Declined,
    /// Nobody was there to answer.
    Unanswered,
    /// It was told to stop while it was looking, or before its effect began.
    Cancelled,
    /// Something on this machine failed.
    Local,
}

impl ErrorKind {
    /// Whether trying again, unchanged and after a while, may help.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Unreachable | Self::Throttled | Self::NotReady)
    }
}
