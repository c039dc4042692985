//! Findings: what is wrong with a runbook, where, and what to do about it.

use serde::Serialize;

use super::span::Span;

/// The code of findings whose place holds a secret: `render` masks it.
pub(crate) const LITERAL_SECRET: &str = "literal-secret";

/// How bad a finding is, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The runbook cannot be used.
    Error,
    /// It can be used, and somebody will probably regret it.
    Warning,
    /// Worth knowing.
    Note,
}

/// One mistake, or something worth a second look.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// A stable name of the kind of finding, in kebab-case.
    pub code: &'static str,
    /// What is wrong. Never carries a value that could be a secret.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Where it is.
    pub at: Span,
}

impl Finding {
    /// A finding that makes the runbook unusable.
    pub(crate) fn error(code: &'static str, at: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, code, message: message.into(), hint: None, at }
    }

    /// A finding that the runbook can be used with.
    pub(crate) fn warning(code: &'static str, at: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, at, message) }
    }

    /// A finding that asks for nothing.
    pub(crate) fn note(code: &'static str, at: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Note, ..Self::error(code, at, message) }
    }

    /// Adds what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Sorts by severity, then by place.
pub(crate) fn sort(findings: &mut [Finding]) {
    findings.sort_by(|a, b| {
        (a.severity, a.at.start, a.at.line, a.code).cmp(&(b.severity, b.at.start, b.at.line, b.code))
    });
}
