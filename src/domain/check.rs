//! What preflight found.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ErrorKind;
use crate::text;

/// One finding of preflight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// What it means for the run.
    pub verdict: CheckVerdict,
    /// What was found, in a sentence.
    pub detail: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Decides the exit code when the check fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ErrorKind>,
    /// How long the server asks to wait before the look is made again. It decides the next try, and is not
    /// recorded with the check.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
}

/// What a check means for the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckVerdict {
    /// As it should be.
    Pass,
    /// It could not be checked, or it is worth knowing.
    Warn,
    /// The run must not begin.
    Fail,
}

impl Check {
    /// A check that found things as they should be. What a server said of itself may be part of the
    /// detail: it is sanitized here.
    pub fn pass(name: impl Into<String>, detail: impl Into<String>) -> Self {
        let detail = text::sanitize(&detail.into());
        Self {
            name: name.into(),
            verdict: CheckVerdict::Pass,
            detail,
            hint: None,
            kind: None,
            retry_after: None,
        }
    }

    /// Cleans every text: what came from outside may echo what was sent.
    pub fn scrub(&mut self, clean: &dyn Fn(&str) -> String) {
        let Self { name, verdict: _, detail, hint, kind: _, retry_after: _ } = self;
        [Some(name), Some(detail), hint.as_mut()].into_iter().flatten().for_each(|text| *text = clean(text));
    }

    /// A check that could not be made, or found something worth knowing.
    pub fn warn(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { verdict: CheckVerdict::Warn, ..Self::pass(name, detail) }
    }

    /// A check that forbids the run. The hint is made printable here, as the detail is.
    pub fn fail(
        name: impl Into<String>,
        kind: ErrorKind,
        detail: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            verdict: CheckVerdict::Fail,
            hint: Some(text::sanitize_block(&hint.into())),
            kind: Some(kind),
            ..Self::pass(name, detail)
        }
    }
}
