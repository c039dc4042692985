//! How calls end when they do not succeed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What went wrong, as far as the difference matters to what is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
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

impl Kind {
    /// Whether trying again, unchanged and after a while, may help.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Unreachable | Self::Throttled | Self::NotReady)
    }
}

/// A call did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct CallError {
    /// What went wrong.
    pub kind: Kind,
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
    /// The call definitely changed nothing.
    pub fn rejected(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            in_doubt: false,
            message: message.into(),
            hint: None,
            request_id: None,
            retry_after: None,
        }
    }

    /// The call may or may not have changed something.
    pub fn unknown(message: impl Into<String>) -> Self {
        Self { in_doubt: true, ..Self::rejected(Kind::NoAnswer, message) }
    }

    /// For what goes wrong after a call that may have changed something.
    #[must_use]
    pub fn doubtful(mut self) -> Self {
        self.in_doubt = true;
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
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

    /// For calls that only read: whatever happened, nothing changed.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.in_doubt = false;
        self
    }
}

/// The longest text from outside that is kept in a message.
const MAX_TEXT: usize = 400;

/// Makes a text from outside fit for a message: it is made harmless, and its length is bounded.
pub fn tame(text: &str) -> String {
    bounded(text, MAX_TEXT)
}

/// As [`tame`], for an error that names everything at once: each part of it is bounded already.
pub fn tame_whole(text: &str) -> String {
    bounded(text, 20 * MAX_TEXT)
}

fn bounded(text: &str, most: usize) -> String {
    let mut tame: String = text.chars().map(harmless).take(most).collect();
    if text.chars().nth(most).is_some() {
        tame.push('…');
    }
    tame.trim().to_owned()
}

/// The character, or one in its place that does nothing to a terminal or a line: control characters
/// (and with them escape sequences) and bidirectional overrides are replaced.
pub fn harmless(c: char) -> char {
    match c {
        '\n' | '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}' => '\u{fffd}',
        c => c,
    }
}

/// Whether a text from outside can be a name: of a version, of a key, of a token's accessor. Names are
/// kept, shown and sent again, so one that is none is no answer.
pub fn is_name(text: &str) -> bool {
    (1..=MAX_TEXT).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_plain() {
        assert!(is_name("hmac-sha256:0fA_b.c") && is_name("7"));
        for none in ["", "a b", "\x1b[2J", "é", &"x".repeat(401)] {
            assert!(!is_name(none), "{none:?}");
        }
    }

    #[test]
    fn tame_takes_the_teeth_out() {
        assert_eq!(tame("\x1b[2Jhi\r\nthere"), "\u{fffd}[2Jhi\u{fffd} there");
        assert_eq!(tame(&"x".repeat(1000)).chars().count(), MAX_TEXT + 1);
        assert_eq!(tame("a\u{202e}b"), "a\u{fffd}b");
    }
}
