//! `stanch halt`: the kill switch.

use std::time::Duration;

use clap::Args;

use super::context::{Context, words};
use super::{CliError, Exit};
use crate::clock::Moment;
use crate::engine::EngineError;
use crate::journal::{Journal, Latch, LedgerError};
use crate::rotation::{End, Event, State};

/// Block every new effect until you clear the halt. Survives restarts.
#[derive(Debug, Args)]
pub(super) struct HaltArgs {
    /// The run, or the start of its name. Default: the only open run.
    run: Option<String>,
    /// Halt all runs in the state directory, including runs not started yet.
    #[arg(long, conflicts_with = "run")]
    all: bool,
    /// Clear the halt. To continue a run, resume it.
    #[arg(long)]
    clear: bool,
    /// Record this reason.
    #[arg(long, value_name = "TEXT", default_value = "no reason given")]
    reason: String,
}

/// Wait this long for a live process to acknowledge the halt.
const ACKNOWLEDGE: Duration = Duration::from_secs(10);

pub(super) async fn main(context: &Context, args: &HaltArgs) -> Result<Exit, CliError> {
    let run = if args.all { None } else { Some(context.ledger.find(args.run.as_deref()).await?) };
    if args.clear {
        return clear(context, run.as_deref()).await;
    }
    set(context, run.as_deref(), &words("--reason", &args.reason)?).await
}

async fn set(context: &Context, one: Option<&str>, reason: &str) -> Result<Exit, CliError> {
    let latch = Latch { by: context.signature(), reason: reason.to_owned() };
    // First: reading a long record takes seconds, in which effects may begin.
    context.ledger.set_latch(one, &latch).await?;
    let runs = match one {
        Some(run) => vec![run.to_owned()],
        None => context.ledger.open_runs().await?,
    };
    for run in runs {
        let now = context.clock.now();
        let (journal, state) = match context.ledger.resume(&run, context.who(), now).await {
            Ok(taken) => taken,
            Err(LedgerError::Busy { .. }) => {
                acknowledge(context, &run).await?;
                continue;
            }
            Err(e @ LedgerError::Io { .. }) => return Err(e.into()),
            // One bad journal must not keep the others from being halted.
            Err(e) => {
                eprintln!("{run}: {e}");
                continue;
            }
        };
        match (state.end(), state.halted()) {
            (Some(end), _) if one.is_some() => {
                context.ledger.clear_latch(Some(&run)).await?;
                return Err(ended(&run, end));
            }
            (Some(_), _) => {}
            (None, halted) => {
                // Its own process may have put the halt on the record, and ended.
                if halted.is_none() {
                    let event = Event::Halted { by: latch.by.clone(), reason: latch.reason.clone() };
                    append(context, journal, state, event, now)?;
                }
                eprintln!("{run}: halted; no call is in progress");
            }
        }
    }
    eprintln!("No effect begins until you clear the halt: {}", clearing(one));
    Ok(Exit::Done)
}

/// What clears the halt of a run, or of all.
fn clearing(run: Option<&str>) -> String {
    run.map_or_else(|| "stanch halt --all --clear".to_owned(), |run| format!("stanch halt --clear {run}"))
}

/// A run that is over has no effect left to block. One whose journal cannot be read may have.
fn ended(run: &str, end: End) -> CliError {
    let message = format!("run {run} has ended ({}); there is nothing to halt", crate::output::end_word(end));
    CliError::new(Exit::Usage, message)
        .hint("list the runs: stanch runs   halt all, also those to come: stanch halt --all")
}

/// Waits until the process that works on the run has the halt on its record: from then on it is certain
/// that no call with an effect begins. A call that had begun is finished, with its own look before its
/// write where the server takes none along.
async fn acknowledge(context: &Context, run: &str) -> Result<(), CliError> {
    let step = Duration::from_millis(50);
    let mut waited = Duration::ZERO;
    while waited < ACKNOWLEDGE {
        let state = context.ledger.load(run).await?;
        if state.halted().is_some() || state.end().is_some() {
            eprintln!("{run}: halted; its process finishes the calls in progress");
            return Ok(());
        }
        tokio::time::sleep(step).await;
        waited += step;
    }
    Err(CliError::new(
        Exit::Partial,
        format!("the halt is set, but the process of {run} has not acknowledged it"),
    )
    .hint("it may hang in a call; kill the process: that is safe, and you can resume the run"))
}

async fn clear(context: &Context, run: Option<&str>) -> Result<Exit, CliError> {
    let was_set = context.ledger.clear_latch(run).await?;
    if let (Some(run), false, Some(_)) = (run, was_set, context.ledger.latch(None).await?) {
        // Nothing was cleared, and the run stays halted: a script must not go on as if it were free.
        let message = format!("run {run} has no halt of its own; the halt of all runs is set and stays set");
        return Err(CliError::new(Exit::Halted, message)
            .hint(format!("clear it when it is safe: {}", clearing(None))));
    }
    let one = run.is_some();
    let runs = match run {
        Some(run) => vec![run.to_owned()],
        None => context.ledger.open_runs().await?,
    };
    let mut told = false;
    for run in runs {
        let Ok(state) = context.ledger.load(&run).await else { continue };
        if state.end().is_some() {
            continue;
        }
        if context.ledger.latch(Some(&run)).await?.is_some() {
            eprintln!(
                "{run}: still halted by its own halt; clear it when it is safe: {}",
                clearing(Some(&run))
            );
        } else if state.halted().is_some() {
            record(context, &run, &Event::HaltCleared { by: context.signature() }).await?;
            eprintln!("{run}: {}", go_on(context, &run, &state).await?);
            told |= one;
        }
    }
    match (was_set, run) {
        (true, None) => eprintln!("the halt of all runs is cleared"),
        (true, Some(run)) if !told => eprintln!("the halt of {run} is cleared"),
        (_, Some(_)) if told => {}
        (false, None) => eprintln!("the halt of all runs was not set"),
        (_, Some(run)) => eprintln!("the halt of {run} was not set"),
    }
    Ok(Exit::Done)
}

/// What to type once a run's own latch is off.
async fn go_on(context: &Context, run: &str, state: &State) -> Result<String, CliError> {
    Ok(match (context.ledger.latch(None).await?, state.plan().format == crate::plan::FORMAT) {
        (Some(_), _) => {
            format!(
                "its own halt is cleared; the halt of all runs is still set; clear it when it is safe: {}",
                clearing(None)
            )
        }
        (None, true) => format!("no longer halted; resume it: stanch resume {run}"),
        (None, false) => format!("no longer halted; see what is left to do: stanch status {run}"),
    })
}

/// Puts one event on the record of a run that no process works on.
pub(super) async fn record(context: &Context, run: &str, event: &Event) -> Result<(), CliError> {
    let now = context.clock.now();
    let (journal, state) = context.ledger.resume(run, context.who(), now).await?;
    append(context, journal, state, event.clone(), now)
}

fn append(
    context: &Context,
    mut journal: Box<dyn Journal>,
    mut state: State,
    mut event: Event,
    now: Moment,
) -> Result<(), CliError> {
    let sealer = std::sync::Arc::new(context.sealing.sealer()?);
    crate::engine::scrub(sealer, &journal.sealed()?, &mut event).map_err(EngineError::Safe)?;
    state.apply(&event, now.wall).map_err(EngineError::Illegal)?;
    journal.commit(now, std::slice::from_ref(&event))?;
    Ok(())
}
