//! The runbook: from YAML to a checked model, with every mistake found at once.
//!
//! Text becomes a tree whose nodes know their places (`tree`); the tree is held against the schema
//! drawn from the model (`structure`) and against what the schema cannot say (`semantics`); what is
//! free of errors becomes a [`Template`], and with an environment's values a [`model::Runbook`].

pub mod model;
mod named;
pub mod notify;
pub(crate) mod read;
mod schema;
mod semantics;
mod structure;
mod template;
#[cfg(test)]
mod tests;

pub use named::{AllNamed, Named};
pub use read::finding::{Finding, Severity};
pub use read::render::{Reported, render, reported};
pub use read::secrets::in_words as holds_secret;
pub use read::source::{ReadError, Source};
pub use read::span::Span;
pub use read::tree::MAX_BYTES;
#[cfg(feature = "tool")]
pub(crate) use semantics::placeholders::placeholder;
#[cfg(feature = "tool")]
pub(crate) use semantics::windows;
#[cfg(feature = "tool")]
pub(crate) use structure::against;
pub use structure::{notify_schema, schema};
pub use template::{InstantiateError, Template};

/// More findings than this help nobody; the rest is counted.
const MAX_FINDINGS: usize = 200;

/// What the check of one runbook says.
#[derive(Debug, Clone)]
pub struct Checked {
    /// Every mistake, the worst first.
    pub findings: Vec<Finding>,
    /// The runbook, where there is no error.
    pub runbook: Option<Template>,
}

impl Checked {
    /// How many findings make the runbook unusable.
    pub fn errors(&self) -> usize {
        self.findings.iter().filter(|finding| finding.severity == Severity::Error).count()
    }
}

/// Findings for secrets of a known shape in any text.
pub fn secrets_in(text: &str) -> Vec<Finding> {
    read::secrets::in_text(text)
}

/// What the check of a `notify.yaml` says.
#[derive(Debug, Clone)]
pub struct CheckedNotify {
    /// Every mistake, the worst first.
    pub findings: Vec<Finding>,
    /// What it says, where there is no error.
    pub notify: Option<notify::Notify>,
}

/// Finds every mistake in a `notify.yaml`.
pub fn check_notify(source: &Source) -> CheckedNotify {
    let text = source.text.as_str();
    let mut findings = if text.len() > MAX_BYTES { Vec::new() } else { read::secrets::in_text(text) };
    let mut read = None;
    match read::tree::parse(text) {
        Err(finding) => findings.push(finding),
        Ok(tree) => {
            add_unknown(&mut findings, read::secrets::in_tree(&tree));
            add_unknown(&mut findings, semantics::notify::check(&tree));
            add_unknown(&mut findings, structure::check_notify(&tree).found);
            if !findings.iter().any(|finding| finding.severity == Severity::Error) {
                match serde_json::from_value(tree.to_json()) {
                    Ok(notify) => read = Some(notify),
                    Err(error) => {
                        findings.push(Finding::error("unreadable", tree.span, error.to_string()));
                    }
                }
            }
        }
    }
    read::finding::sort(&mut findings);
    findings.truncate(MAX_FINDINGS);
    read::secrets::redact(&mut findings);
    CheckedNotify { findings, notify: read }
}

/// Adds findings, but not at a place where one shows already that a secret is.
fn add_unknown(findings: &mut Vec<Finding>, more: Vec<Finding>) {
    for finding in more {
        let hides = |other: &Finding| {
            other.code == read::finding::LITERAL_SECRET
                && other.at.start < finding.at.end
                && finding.at.start < other.at.end
        };
        if !findings.iter().any(hides) {
            findings.push(finding);
        }
    }
}

/// Finds every mistake in a runbook.
pub fn check(source: &Source) -> Checked {
    let text = source.text.as_str();
    let too_large = text.len() > MAX_BYTES;
    let mut findings = if too_large { Vec::new() } else { read::secrets::in_text(text) };
    let tree = match read::tree::parse(text) {
        Ok(tree) => Some(tree),
        Err(finding) => {
            findings.push(finding);
            None
        }
    };
    let mut runbook = None;
    if let Some(tree) = tree {
        // What the text showed already is not said twice.
        add_unknown(&mut findings, read::secrets::in_tree(&tree));
        if let Some(notify) = tree.get("notify") {
            add_unknown(&mut findings, semantics::notify::literals(notify));
        }
        if tree.value == read::tree::Value::Null {
            let at = Span { line: 1, column: 1, ..Span::default() };
            findings.push(
                Finding::error("empty", at, "the file is empty")
                    .hint("`stanch init` writes a runbook to start from"),
            );
        } else {
            findings.extend(structure::check(&tree).found);
        }
        findings.extend(semantics::check(&tree, text));
        if !findings.iter().any(|finding| finding.severity == Severity::Error) {
            match Template::new(tree, text) {
                Ok(template) => runbook = Some(template),
                Err(finding) => findings.push(finding),
            }
        }
    }
    read::finding::sort(&mut findings);
    findings.dedup();
    if findings.len() > MAX_FINDINGS {
        let rest = findings.len() - MAX_FINDINGS;
        findings.truncate(MAX_FINDINGS);
        let at = findings.last().map(|finding| finding.at).unwrap_or_default();
        findings.push(Finding::note("more", at, format!("{rest} more findings are not shown")));
    }
    read::secrets::redact(&mut findings);
    Checked { findings, runbook }
}
