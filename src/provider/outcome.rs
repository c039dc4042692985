//! How calls end when they do not succeed.

use std::time::Duration;

use crate::domain::{Check, ErrorKind};
use crate::text::sanitize_block;

/// A call did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct CallError {
    /// What went wrong.
    pub kind: ErrorKind,
    /// Whether the effect may have happened all the same. A read is never in doubt.
    pub in_doubt: bool,
    /// What happened and where, in a sentence, without secrets.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The server's id of the request.
    pub request_id: Option<String>,
    /// How long the server asked to wait.
    pub retry_after: Option<Duration>,
}

impl CallError {
    /// The call definitely changed nothing. What a server said of itself may be part of the message, and of a hint: both
    /// are made printable here.
    pub fn rejected(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            in_doubt: false,
            message: sanitize_block(&message.into()),
            hint: None,
            request_id: None,
            retry_after: None,
        }
    }

    /// The call may or may not have changed something.
    pub fn unknown(message: impl Into<String>) -> Self {
        Self { in_doubt: true, ..Self::rejected(ErrorKind::NoAnswer, message) }
    }

    /// A list of credentials that is older than one which the run made.
    pub fn lagging(handle: &str) -> Self {
        let message = format!("the issuer's list does not show {handle} yet, which this run made");
        Self::rejected(ErrorKind::NotReady, message)
    }

    /// For what goes wrong after a call that may have changed something.
    #[must_use]
    pub fn doubtful(mut self) -> Self {
        self.in_doubt = true;
        self
    }

    /// For a version from which a value can be read or guessed. It is not quoted.
    pub(crate) fn telling() -> Self {
        let message = "the version is made from the value; versions are shown and recorded, so stanch takes none of these";
        Self::rejected(ErrorKind::Invalid, message)
            .hint("have the program answer with a revision or a time of change, which tells nothing about the value")
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(sanitize_block(&hint.into()));
        self
    }

    /// Adds the server's id of the request.
    #[must_use]
    pub fn request(mut self, id: Option<String>) -> Self {
        self.request_id = id;
        self
    }

    /// With every text cleaned: what came from outside may echo what was sent.
    #[must_use]
    pub fn scrubbed(mut self, clean: &dyn Fn(&str) -> String) -> Self {
        self.message = clean(&self.message);
        self.hint = self.hint.map(|hint| clean(&hint));
        self.request_id = self.request_id.map(|id| clean(&id));
        self
    }

    /// As a failed check.
    pub fn to_check(&self, name: &str) -> Check {
        let hint = self.hint.clone().unwrap_or_else(|| "see the message, then plan again".to_owned());
        Check { retry_after: self.retry_after, ..Check::fail(name, self.kind, self.message.clone(), hint) }
    }

    /// For calls that only read: whatever happened, nothing changed.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.in_doubt = false;
        self
    }
}
