//! `stanch resolve`: a person says what became of a step.

use clap::{Args, ValueEnum};
use serde_json::json;

use super::context::{Context, words};
use super::doubt;
use super::halt::record;
use super::{CliError, Exit, Global, print_json};
use crate::plan::Action;
use crate::rotation::{Event, Op, State, Status};

/// Records what became of a step: one whose outcome is unknown, or one that failed although it took effect.
#[derive(Debug, Args)]
#[command(override_usage = "stanch resolve [OPTIONS] --as <OUTCOME> --evidence <TEXT> [RUN] <STEP>")]
pub(super) struct ResolveArgs {
    /// The id of the step, unknown or failed, as `stanch status` shows it; before it the run, or the beginning of its name, unless
    /// only one is open.
    #[arg(value_name = "STEP")]
    first: String,
    // With the run in front. The parser's own way to leave out what comes first is at a loss when an
    // option stands between the two.
    #[arg(hide = true)]
    second: Option<String>,
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
    let (run, step_id) = match args.second {
        Some(step) => (Some(args.first), step),
        None => (None, args.first),
    };
    let run = context.state.find(run.as_deref())?;
    if context.state.is_live(&run) {
        let message =
            format!("a process works on {run}: it may still learn the answer; nothing was recorded");
        return Err(CliError::new(Exit::Locked, message)
            .hint(format!("wait for it, or end it (that is safe); then: stanch status {run}")));
    }
    let (state, _) = context.state.load(&run)?;
    let step = unknown(&run, &state, &step_id)?;
    let evidence = words("--evidence", &args.evidence)?;
    if evidence.is_empty() {
        return Err(CliError::new(Exit::Usage, "what was looked at? `--evidence` must say"));
    }
    let applied = args.outcome == Outcome::Applied;
    if applied && state.needs_its_answer(step) {
        let message =
            format!("`{step_id}` cannot be settled as applied: later steps need what only its server knows");
        return Err(CliError::new(Exit::Usage, message).hint(instead(&state, step)));
    }
    // A crash leaves a step as started; only a new session makes that unknown.
    if matches!(state.status(step), Status::Started { .. }) {
        record(&context, &run, &Event::Resumed {})?;
    }
    let event = Event::Resolved { step: step_id.clone(), applied, evidence: evidence.clone() };
    record(&context, &run, &event)?;
    let (state, _) = context.state.load(&run)?;
    let left: Vec<&str> =
        doubt::steps(&state, false).into_iter().map(|s| state.plan().steps[s].id.as_str()).collect();
    // Under a latch, or with more to settle, a resume would be refused or in vain.
    let around = context.around(&run, &state, false)?;
    let clear = around.lets_resume(&state);
    let word = if left.is_empty() && clear { "resume" } else { "status" };
    let next = format!("stanch {word} {run}");
    if global.json {
        print_json(&json!({
            "run": run, "step": step_id, "applied": applied, "evidence": evidence, "unknown": left, "next": next,
        }))?;
    } else if left.is_empty() {
        eprintln!("on the record; {} {next}", if clear { "go on with:" } else { "see what to type next:" });
    } else {
        eprintln!("on the record; still unknown: {}; see: {next}", left.join(", "));
    }
    Ok(Exit::Done)
}

/// The step of this id, if its outcome is unknown.
fn unknown(run: &str, state: &State, id: &str) -> Result<usize, CliError> {
    let steps = doubt::steps(state, false);
    let found = state.step(id);
    // A failure is the program's word, which a person who looked may overrule.
    let open = |s: &usize| steps.contains(s) || (state.end().is_none() && state.failure(*s).is_some());
    if let Some(step) = found.filter(open) {
        return Ok(step);
    }
    let message = match (state.end(), found) {
        (Some(_), _) => format!("run {run} is over: nothing of it is unknown"),
        (None, None) => format!("run {run} has no step `{id}`"),
        (None, Some(step)) => {
            format!("the outcome of `{id}` is not unknown: the step is {}", state.status(step).word())
        }
    };
    let ids: Vec<&str> = steps.into_iter().map(|s| state.plan().steps[s].id.as_str()).collect();
    let hint = if ids.is_empty() {
        "no outcome of this run is unknown".into()
    } else {
        format!("unknown are: {}", ids.join(", "))
    };
    Err(CliError::new(Exit::Usage, message).hint(hint))
}

/// What to do with a step of which a person's word is not enough.
fn instead(state: &State, step: usize) -> &'static str {
    let undone = matches!(
        state.status(step),
        Status::Unknown { op: Op::Undo, .. } | Status::Started { op: Op::Undo, .. }
    );
    match state.plan().steps[step].action {
        Action::Issue { .. } => {
            "revoke at the issuer what this run made, then say --as not-applied: it is issued anew"
        }
        _ if undone => "say --as not-applied: the old value is written once more, which is harmless",
        _ => {
            "when the server answers again, `stanch resume` reads it; or take the version back, then --as not-applied"
        }
    }
}
