//! What is done with a step, how it ended, and what was found of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::ErrorKind;

/// What is done with a step.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, strum::Display,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Op {
    /// The step itself.
    Do,
    /// It is taken back.
    Undo,
    /// What an attempt left behind, and nobody can use, is revoked.
    Discard,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// It did what it should.
    Succeeded,
    /// It definitely changed nothing.
    Rejected,
    /// It may have changed something.
    Unknown,
}

/// What was found of an unknown outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Found {
    /// It took effect.
    Applied,
    /// It did not.
    Absent,
    /// It cannot be known and need not be: doing it again is harmless, and so is taking it back.
    Repeatable,
    /// It made credentials that nobody can use, with these handles.
    Orphans(Vec<String>),
    /// It could not be found out.
    Undecided,
}

/// What later steps need to know of a step, by name; never a secret.
pub type Facts = BTreeMap<String, String>;

/// Why a call did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What went wrong.
    pub kind: ErrorKind,
    /// In a sentence.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The server's id of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// How long the server asked to wait, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Failure {
    /// Whether it says what is in the way: not that there was no answer, or that another try may help.
    pub(super) fn is_definite(&self) -> bool {
        self.kind != ErrorKind::NoAnswer && !self.kind.is_transient()
    }
}
