//! `stanch resolve`: a person says what became of a step.

use clap::{Args, ValueEnum};

use super::context::Context;
use super::halt::record;
use super::{CliError, Exit, Global};
use crate::plan::Action;
use crate::rotation::{Event, Status};

/// Says what became of a step whose outcome nobody knows.
#[derive(Debug, Args)]
pub(super) struct ResolveArgs {
    /// The run, or the beginning of its name.
    run: String,
    /// The step's id, as `stanch status` shows it.
    step: String,
    /// What became of it.
    #[arg(long = "as", value_name = "OUTCOME")]
    outcome: Outcome,
    /// What was looked at to know that; stands on the record.
    #[arg(long, value_name = "TEXT")]
    evidence: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Outcome {
    /// It took effect.
    Applied,
    /// It did not.
    NotApplied,
}

pub(super) fn main(global: &Global, args: ResolveArgs) -> Result<Exit, CliError> {
    let context = Context::open(global)?;
    let run = context.state.find(Some(&args.run))?;
    let (state, _) = context.state.load(&run)?;
    let unknown: Vec<&str> = (0..state.plan().steps.len())
        .filter(|s| matches!(state.status(*s), Status::Unknown { .. } | Status::Started { .. }))
        .map(|s| state.plan().steps[s].id.as_str())
        .collect();
    if !unknown.contains(&args.step.as_str()) {
        let hint = if unknown.is_empty() {
            "no outcome of this run is unknown".to_owned()
        } else {
            format!("unknown are: {}", unknown.join(", "))
        };
        return Err(
            CliError::new(Exit::Usage, format!("the outcome of `{}` is not unknown", args.step)).hint(hint)
        );
    }
    if args.evidence.trim().is_empty() {
        return Err(CliError::new(Exit::Usage, "what was looked at? `--evidence` must say"));
    }
    let applied = args.outcome == Outcome::Applied;
    let step = state.step(&args.step).map(|s| &state.plan().steps[s].action);
    if let (true, Some(hint)) = (applied, step.and_then(cannot_be_applied)) {
        let message = format!(
            "`{}` cannot be settled as applied: later steps need what only its server knows",
            args.step
        );
        return Err(CliError::new(Exit::Usage, message).hint(hint));
    }
    // A crash leaves a step as started; only a new session makes that unknown.
    if matches!(state.step(&args.step).map(|s| state.status(s)), Some(Status::Started { .. })) {
        record(&context, &run, &Event::Resumed {})?;
    }
    record(&context, &run, &Event::Resolved { step: args.step, applied, evidence: args.evidence })?;
    eprintln!("on the record; go on with: stanch resume {run}");
    Ok(Exit::Done)
}

/// Why a person's word is not enough for a step, and what to do instead.
pub(super) fn cannot_be_applied(action: &Action) -> Option<&'static str> {
    match action {
        Action::Issue { .. } => {
            Some("revoke at the issuer what this run made, then say --as not-applied: it is issued anew")
        }
        Action::Stage { .. } | Action::Promote { .. } => Some(
            "when the server answers again, `stanch resume` reads it; or take the version back, then --as not-applied",
        ),
        _ => None,
    }
}
