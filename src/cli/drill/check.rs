//! `stanch drill lint`, and how every drill command gets from a file to a scenario that can be played.

use std::path::{Path, PathBuf};

use clap::Args;

use super::super::context::{Access, Context};
use super::super::pace::block_on_virtual;
use super::super::plan::{self, Choice, Input};
use super::super::validate;
use super::super::{CliError, Exit, Global, print_json};
use crate::drill::{self, Scenario};
use crate::plan::Plan;
use crate::runbook::{self, Finding, Severity, Source, reported};

/// Find every mistake in scenarios.
#[derive(Debug, Args)]
pub(super) struct LintArgs {
    /// The scenarios to check.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// A scenario that can be played.
pub(super) struct Playable {
    pub(super) source: Source,
    pub(super) scenario: Scenario,
    /// Its runbook's file, absolute.
    pub(super) runbook: PathBuf,
}

pub(super) fn main(global: &Global, args: &LintArgs) -> Result<Exit, CliError> {
    let mut bad = 0;
    let mut all = Vec::new();
    for path in &args.files {
        let source = Source::read(path)?;
        let (findings, _) = findings(global, path, &source);
        bad += usize::from(findings.iter().any(|finding| finding.severity == Severity::Error));
        if global.json {
            all.extend(reported(&findings, &source));
        } else {
            validate::show(&source, &findings);
            if findings.is_empty() {
                eprintln!("{}: no findings", source.name);
            }
        }
    }
    let exit = if bad > 0 { Exit::BadRunbook } else { Exit::Done };
    if global.json {
        return exit.shown(print_json(&serde_json::to_value(&all).unwrap_or_default()));
    }
    Ok(exit)
}

/// Reads a scenario, and refuses one with mistakes.
pub(super) fn load(global: &Global, path: &Path) -> Result<Playable, CliError> {
    let source = Source::read(path)?;
    let (findings, playable) = findings(global, path, &source);
    match playable {
        Some((scenario, runbook)) if findings.iter().all(|finding| finding.severity != Severity::Error) => {
            Ok(Playable { source, scenario, runbook })
        }
        _ => Err(validate::report(&source, &findings, global.json)),
    }
}

/// Everything that is wrong with a scenario, also in the light of its runbook's plan.
fn findings(global: &Global, path: &Path, source: &Source) -> (Vec<Finding>, Option<(Scenario, PathBuf)>) {
    let checked = drill::check(source);
    let mut found = checked.findings.clone();
    let Some(scenario) = checked.scenario.clone() else { return (found, None) };
    let runbook = path.parent().unwrap_or(Path::new("")).join(&scenario.runbook);
    let runbook = runbook.canonicalize().unwrap_or(runbook);
    match planned(global, &runbook, &scenario) {
        Ok(plan) => {
            found.extend(drill::cannot_come(&checked, &plan));
            drill::in_order(&mut found);
            (found, Some((scenario, runbook)))
        }
        Err((field, message, hint)) => {
            found.push(checked.error_at(field, message, hint));
            (found, None)
        }
    }
}

/// What a field of the scenario is wrong with, and what to do about it.
type Wrong = (&'static str, String, Option<String>);

/// The plan of a scenario's runbook, made in a sandbox that is thrown away.
fn planned(global: &Global, runbook: &Path, scenario: &Scenario) -> Result<Plan, Wrong> {
    let source = Source::read(runbook).map_err(|e| ("runbook", e.to_string(), e.hint()))?;
    let checked = runbook::check(&source);
    let hint = || Some(format!("see what: stanch validate {}", runbook.display()));
    let Some(template) = checked.runbook else {
        return Err(("runbook", "this runbook is not valid".into(), hint()));
    };
    let failed = |error: CliError| {
        let (message, hint) = error.into_words();
        ("runbook", format!("no plan can be made of it: {message}"), hint)
    };
    let unknown = |error: CliError| {
        let (message, hint) = error.into_words();
        ("environment", message, hint)
    };
    let choice = Choice::of(&scenario.environment);
    let input = Input::choose(&template, &choice, Some(scenario.name.clone()));
    let Input::Runbook(fresh) = input.map_err(unknown)? else {
        return Err(("runbook", "this is a plan, not a runbook".into(), None));
    };
    let folder =
        tempfile::tempdir().map_err(|e| ("runbook", format!("cannot make a directory: {e}"), None))?;
    let global = Global { state: Some(folder.path().join("state")), ..global.clone() };
    let made = Context::open(&global, Access::Writes)
        .and_then(|context| block_on_virtual(None, false, async { plan::make(&context, *fresh).await })?)
        .map_err(failed)?;
    match plan::refusal(&made.plan.checks) {
        Some(refused) => Err(failed(refused)),
        None => Ok(made.plan),
    }
}
