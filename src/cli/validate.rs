//! `stanch validate`: every mistake at once. Contacts nothing.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::Args;

use super::context::style;
use super::policy::PolicyArgs;
use super::{CliError, Exit, Global, print_json, windows};
use crate::clock::{Clock as _, SystemClock};
use crate::policy::Violation;
use crate::runbook::{Finding, Source, check, render, reported};

/// Find every mistake in runbooks. Contacts nothing.
#[derive(Debug, Args)]
pub(super) struct ValidateArgs {
    /// The runbooks to check; `-` reads one from standard input.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    policy: PolicyArgs,
}

pub(super) fn main(global: &Global, args: &ValidateArgs) -> Result<Exit, CliError> {
    let mut bad = 0;
    let mut all = Vec::new();
    let now = SystemClock::new().now().wall;
    for path in &args.files {
        let source = if path.as_os_str() == "-" {
            Source::from_reader(Path::new("standard input"), std::io::stdin())?
        } else {
            Source::read(path)?
        };
        let mut checked = check(&source);
        if let Some(template) = &checked.runbook {
            let past = windows::past(template, template.environments(), template.overlaps(), now);
            checked.findings.extend(past);
            if let Some(policy) = args.policy.load(path, global.json)? {
                let held = policy.hold_template(template, template.environments(), &args.policy)?;
                checked.findings.extend(held.violations.iter().map(Violation::finding));
                for waived in &held.governed.waived {
                    eprintln!("{}: waived: {waived}", source.name);
                }
            }
        }
        bad += usize::from(checked.errors() > 0);
        if global.json {
            all.extend(reported(&checked.findings, &source));
        } else {
            show(&source, &checked.findings);
            if checked.findings.is_empty() {
                eprintln!("{}: no findings", source.name);
            }
        }
    }
    if global.json {
        let exit = if bad > 0 { Exit::BadRunbook } else { Exit::Done };
        return exit.shown(print_json(&serde_json::to_value(&all).unwrap_or_default()));
    }
    Ok(if bad > 0 { Exit::BadRunbook } else { Exit::Done })
}

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
