//! `stanch resolve`: a person says what became of a step, or vouches for a gate.

use clap::{Args, ValueEnum};
use serde_json::json;

use super::context::{Context, words};
use super::doubt;
use super::halt::record;
use super::{CliError, Exit, Global, print_json};
use crate::domain::{ADOPTED, Verdict};
use crate::engine;
use crate::plan::Action;
use crate::rotation::{Event, Op, State, Status};

/// Record the outcome of a step that stanch could not determine, or of one that failed but took effect.
///
/// With --as passed, NAME is a gate that gives no verdict (a wrong address, a monitoring system that is down):
/// the run goes on as if it had passed. Your word is on the record, and holds for the present phase only.
/// A gate that fails cannot be passed, nor can `adopted`.
#[derive(Debug, Args)]
#[command(override_usage = "stanch resolve [OPTIONS] --as <OUTCOME> --evidence <TEXT> [RUN] <STEP>")]
pub(super) struct ResolveArgs {
    /// The id of the unknown or failed step, as `stanch status` shows it, or the name of a gate. Put the run, or the
    /// start of its name, before it if several runs are open.
    #[arg(value_name = "STEP")]
    first: String,
    // With the run in front. The parser's own way to leave out what comes first is at a loss when an
    // option stands between the two.
    #[arg(hide = true)]
    second: Option<String>,
    /// Record this outcome.
    #[arg(long = "as", value_name = "OUTCOME")]
    outcome: Outcome,
    /// Record what you checked to know this.
    #[arg(long, value_name = "TEXT")]
    evidence: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Outcome {
    /// The step took effect.
    Applied,
    /// The step did not take effect.
    NotApplied,
    /// The condition of the gate holds.
    Passed,
}

pub(super) async fn main(context: &Context, global: &Global, args: ResolveArgs) -> Result<Exit, CliError> {
    let (run, step_id) = match args.second {
        Some(step) => (Some(args.first), step),
        None => (None, args.first),
    };
    let run = context.ledger.find(run.as_deref()).await?;
    if context.ledger.is_live(&run).await? {
        let message =
            format!("another process is working on {run} and may still find out; nothing was recorded");
        return Err(CliError::new(Exit::Locked, message)
            .hint(format!("wait for it, or kill it (that is safe); then: stanch status {run}")));
    }
    let state = context.ledger.load(&run).await?;
    let evidence = words("--evidence", &args.evidence)?;
    if evidence.is_empty() {
        return Err(CliError::new(Exit::Usage, "--evidence is empty; nothing was recorded")
            .hint("pass --evidence TEXT, with what you checked"));
    }
    if args.outcome == Outcome::Passed {
        return vouch(context, global, &run, &state, step_id, evidence).await;
    }
    let step = unknown(&run, &state, &step_id, args.outcome)?;
    let applied = args.outcome == Outcome::Applied;
    if applied && state.needs_its_answer(step) {
        let message = format!(
            "you cannot resolve `{step_id}` as applied: later steps need the server's response, which stanch does not have"
        );
        return Err(CliError::new(Exit::Usage, message).hint(instead(&state, step)));
    }
    // A crash leaves a step as started; only a new session makes that unknown.
    if matches!(state.status(step), Status::Started { .. }) {
        record(context, &run, &Event::Resumed {}).await?;
    }
    let event = engine::resolved(&state, &run, step, applied, evidence.clone());
    record(context, &run, &event).await?;
    let state = context.ledger.load(&run).await?;
    let left: Vec<&str> =
        doubt::steps(&state, false).into_iter().map(|s| state.plan().steps[s].id.as_str()).collect();
    // Under a latch, or with more to settle, a resume would be refused or in vain.
    let around = context.around(&run, &state, false).await?;
    let clear = around.lets_resume(&state);
    let word = if left.is_empty() && clear { "resume" } else { "status" };
    let next = format!("stanch {word} {run}");
    if global.json {
        print_json(&json!({
            "run": run, "step": step_id, "applied": applied, "evidence": evidence, "unknown": left, "next": next,
        }))?;
    } else if left.is_empty() {
        eprintln!("recorded; {} {next}", if clear { "to resume:" } else { "to see what to type next:" });
    } else {
        eprintln!("recorded; still unknown: {}; see: {next}", left.join(", "));
    }
    Ok(Exit::Done)
}

/// Records a person's word for a gate that gives no verdict.
async fn vouch(
    context: &Context,
    global: &Global,
    run: &str,
    state: &State,
    gate: String,
    evidence: String,
) -> Result<Exit, CliError> {
    let Some(phase) = state.phase().filter(|_| state.may_vouch(&gate)) else {
        return Err(CliError::new(Exit::Usage, refusal(run, state, &gate))
            .hint(format!("nothing was recorded; see: stanch status {run}")));
    };
    let event = Event::Vouched { gate: gate.clone(), phase, evidence: evidence.clone() };
    record(context, run, &event).await?;
    let next = format!("stanch resume {run}");
    if global.json {
        print_json(&json!({ "run": run, "gate": gate, "phase": phase, "evidence": evidence, "next": next }))?;
    } else {
        eprintln!("recorded; to resume: {next}");
    }
    Ok(Exit::Done)
}

/// Why a person's word cannot stand for the gate.
fn refusal(run: &str, state: &State, gate: &str) -> String {
    let phase = state.phase().map_or_else(|| "no phase".into(), |phase| phase.to_string());
    match state.judged().get(gate) {
        _ if state.end().is_some() => format!("run {run} has ended; it waits for no gate"),
        _ if gate == ADOPTED => {
            "you cannot pass `adopted`: stanch asks the consumers again before it changes the old credential"
                .into()
        }
        Some((Verdict::Fail | Verdict::Inconclusive, detail)) if !state.may_vouch(gate) => {
            format!("you cannot pass gate `{gate}`: it fails ({detail})")
        }
        _ => format!("run {run} does not wait for a gate `{gate}` (it is in {phase})"),
    }
}

/// The step of this id, if its outcome is unknown.
fn unknown(run: &str, state: &State, id: &str, outcome: Outcome) -> Result<usize, CliError> {
    let steps = doubt::steps(state, false);
    let found = state.step(id);
    // A failure is the program's word, which a person who looked may overrule.
    let open = |s: &usize| {
        steps.contains(s)
            || (state.end().is_none() && state.failure(*s).is_some())
            // And so may be a success that the proof contradicts.
            || (outcome == Outcome::NotApplied && state.may_repeat(*s))
    };
    if let Some(step) = found.filter(open) {
        return Ok(step);
    }
    let message = match (state.end(), found) {
        (Some(_), _) => format!("run {run} has ended: the outcome of every step is known"),
        (None, None) => format!("run {run} has no step `{id}`"),
        (None, Some(step)) => {
            format!("the outcome of `{id}` is known: the step is {}", state.status(step).word())
        }
    };
    let ids: Vec<&str> = steps.into_iter().map(|s| state.plan().steps[s].id.as_str()).collect();
    let hint = if ids.is_empty() {
        "this run has no unknown outcomes".into()
    } else {
        format!("steps with an unknown outcome: {}", ids.join(", "))
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
            "revoke what this run created at the issuer, then pass --as not-applied: stanch issues another credential"
        }
        _ if undone => "pass --as not-applied: stanch writes the old value once more, which is harmless",
        _ => {
            "when the server responds again: stanch resume   or remove the version, then pass --as not-applied"
        }
    }
}
