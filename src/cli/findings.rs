//! Findings, as people and programs are shown them.

use std::fs::File;
use std::io::IsTerminal as _;
use std::path::Path;

use super::context::style;
use super::{CliError, Exit, print_json};
use crate::runbook::read::tree::Node;
use crate::runbook::{Finding, Source, render, reported};

/// Shows findings on standard error.
pub(super) fn show(source: &Source, findings: &[Finding]) {
    let style = style(std::io::stderr().is_terminal());
    let width = usize::from(console::Term::stderr().size().1).max(40);
    eprint!("{}", render(findings, source, style.color, width));
}

/// The error for a runbook that cannot be used. The findings are shown at once.
pub(super) fn report(source: &Source, findings: &[Finding], json: bool) -> CliError {
    refuse(source, findings, json, "is not valid")
}

/// The same, with what is wrong with the runbook in a word.
pub(super) fn refuse(source: &Source, findings: &[Finding], json: bool, what: &str) -> CliError {
    if json {
        // The exit code says it as well.
        let _ = print_json(&serde_json::to_value(reported(findings, source)).unwrap_or_default());
    } else {
        show(source, findings);
    }
    CliError::new(Exit::BadRunbook, format!("{} {what}; stanch contacted nothing", source.name))
}

/// The finding on a file of signers that cannot be read, where a section names one. Whoever checks a file elsewhere than
/// it is used may not have it: a warning.
pub(super) fn signers(root: &Node, section: &str, directory: &Path, hint: &str) -> Option<Finding> {
    let signers = root.get(section)?.get("signers")?;
    let path = directory.join(signers.text()?);
    let error = File::open(&path).err()?;
    let message = format!("cannot read the file of signers {}: {error}", path.display());
    Some(Finding::warning("no-signers", signers.span, message).hint(hint))
}
