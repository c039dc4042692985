//! A credential as its issuer sees it, and as a store holds it.

use serde::{Deserialize, Serialize};

/// Whether a credential is accepted by the system that decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Life {
    /// Valid.
    Active,
    /// Refused, reversibly.
    Disabled,
    /// Refused for good, and something that was made with it (a login, a session) lives on.
    Deleted,
    /// Refused for good, or never existed.
    Gone,
}

/// A credential as its issuer names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The name that the issuer takes to inspect, disable or revoke it (a token's accessor, an
    /// access key's id). Not a secret.
    pub handle: String,
    /// Whose credential it is, for people.
    pub principal: String,
}

/// What the issuer says of a credential that it knows, asked as the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// How the issuer names it.
    pub identity: Identity,
    /// Alive or disabled; one that is gone has no standing.
    pub life: Life,
    /// How often it can still be used; `None` is without limit.
    pub uses_left: Option<u64>,
}

/// The versions that a store holds of one secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The one that consumers get.
    pub current: Option<String>,
    /// The one before, where the store names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// One that is marked as staged. It is the current one itself where a promotion broke off before it
    /// took the mark away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<String>,
}

impl Versions {
    /// Each that there is.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        [&self.current, &self.previous, &self.pending].into_iter().filter_map(Option::as_deref)
    }
}
