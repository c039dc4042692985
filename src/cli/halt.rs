//! `stanch halt`: the kill switch.

use std::time::Duration;

use clap::Args;

use super::context::{Context, words};
use super::{CliError, Exit, Global};
use crate::engine::EngineError;
use crate::journal::{Journal as _, Latch, LedgerError};
use crate::rotation::{Event, State};

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

pub(super) fn main(global: &Global, args: &HaltArgs) -> Result<Exit, CliError> {
    let context = Context::open(global)?;
    let run = if args.all { None } else { Some(context.state.find(args.run.as_deref())?) };
    if args.clear {
        return clear(&context, run.as_deref());
    }
    set(&context, run.as_deref(), &words("--reason", &args.reason)?)
}

fn set(context: &Context, run: Option<&str>, reason: &str) -> Result<Exit, CliError> {
    let latch = Latch { by: context.signature(), reason: reason.to_owned() };
    context.state.set_latch(run, &latch)?;
    let runs = match run {
        Some(run) => vec![run.to_owned()],
        None => context.state.open_runs()?,
    };
    for run in runs {
        let (state, _) = match context.state.load(&run) {
            Ok(loaded) => loaded,
            // One bad journal must not keep the others from being halted.
            Err(e) => {
                eprintln!("{run}: {e}");
                continue;
            }
        };
        if state.end().is_some() {
            continue;
        }
        if state.halted().is_some() {
            eprintln!("{run}: halted");
            continue;
        }
        match record(context, &run, &Event::Halted { by: latch.by.clone(), reason: latch.reason.clone() }) {
            Ok(()) => eprintln!("{run}: halted; no call was in progress"),
            Err(CliError { exit: Exit::Locked, .. }) => acknowledge(context, &run)?,
            Err(e) => return Err(e),
        }
    }
    eprintln!("No effect begins until you clear the halt: stanch halt --clear {}", run.unwrap_or("--all"));
    Ok(Exit::Done)
}

/// Waits until the process that works on the run has the halt on its record: from then on it is certain
/// that no call with an effect begins. A call that had begun is finished, with its own look before its
/// write where the server takes none along.
fn acknowledge(context: &Context, run: &str) -> Result<(), CliError> {
    let step = Duration::from_millis(50);
    let mut waited = Duration::ZERO;
    while waited < ACKNOWLEDGE {
        let (state, _) = context.state.load(run)?;
        if state.halted().is_some() || state.end().is_some() {
            eprintln!("{run}: halted; its process finishes the calls in progress");
            return Ok(());
        }
        std::thread::sleep(step);
        waited += step;
    }
    Err(CliError::new(
        Exit::Partial,
        format!("the halt is set, but the process of {run} has not acknowledged it"),
    )
    .hint("it may hang in a call; kill the process: that is safe, and you can resume the run"))
}

fn clear(context: &Context, run: Option<&str>) -> Result<Exit, CliError> {
    let was_set = context.state.clear_latch(run)?;
    let runs = match run {
        Some(run) => vec![run.to_owned()],
        None => context.state.open_runs()?,
    };
    for run in runs {
        let Ok((state, _)) = context.state.load(&run) else { continue };
        if state.end().is_none() && state.halted().is_some() && context.state.latch(Some(&run))?.is_none() {
            record(context, &run, &Event::HaltCleared { by: context.signature() })?;
            eprintln!("{run}: cleared; {}", go_on(context, &run, &state)?);
        }
    }
    if !was_set {
        eprintln!("the halt was not set");
    }
    Ok(Exit::Done)
}

/// What to type once a run's own latch is off.
fn go_on(context: &Context, run: &str, state: &State) -> Result<String, CliError> {
    Ok(match (context.state.latch(None)?, state.plan().format == crate::plan::FORMAT) {
        (Some(_), _) => {
            "the halt of all runs is still set; when it is safe: stanch halt --all --clear".into()
        }
        (None, true) => format!("resume it: stanch resume {run}"),
        (None, false) => format!("see what is left to do: stanch status {run}"),
    })
}

/// Puts one event on the record of a run that no process works on.
pub(super) fn record(context: &Context, run: &str, event: &Event) -> Result<(), CliError> {
    let now = context.clock.now();
    let (mut journal, mut state) = match context.state.resume(run, context.who(), now) {
        Err(e @ LedgerError::Busy { .. }) => return Err(e.into()),
        other => other?,
    };
    let mut event = event.clone();
    let sealer = std::sync::Arc::new(context.state.sealer()?);
    crate::engine::scrub(sealer, &journal.sealed()?, &mut event).map_err(EngineError::Safe)?;
    state.apply(&event, now.wall).map_err(EngineError::Illegal)?;
    journal.commit(now, std::slice::from_ref(&event))?;
    Ok(())
}
