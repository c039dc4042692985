//! `stanch validate`: every mistake at once. Contacts nothing.

use std::path::{Path, PathBuf};

use clap::Args;

pub(super) use super::findings::{refuse, report, show};
use super::policy::PolicyArgs;
use super::{CliError, Exit, Global, findings, print_json, windows};
use crate::clock::{Clock as _, SystemClock};
use crate::policy::Violation;
use crate::runbook::{Finding, Source, check, reported};

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
            let hint = "correct `approvals.signers`: a path from the directory in which you plan";
            let trees = template.environments().filter_map(|environment| template.tree(environment));
            let signers = |tree| findings::signers(&tree, "approvals", Path::new(""), hint);
            let mut missing: Vec<Finding> = trees.filter_map(signers).collect();
            missing.dedup();
            checked.findings.extend(missing);
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
