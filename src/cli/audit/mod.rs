//! `stanch audit`: reads and checks a run's record.

mod export;
mod filter;
mod show;
mod verify;

use clap::{Args, Subcommand};

use super::context::Context;
use super::{CliError, Exit, Global};
use crate::output;
use crate::rotation::{Event, State};

/// Reads and checks a run's record.
#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Shows the record, one line an event.
    Show(show::ShowArgs),
    /// Finds every byte that was changed, removed, moved or added, up to the last checkpoint.
    Verify {
        /// The run, or the beginning of its name; without one, the only open run, else the last one.
        run: Option<String>,
    },
    /// Writes the record for other programs, as far as it is good.
    Export(export::ExportArgs),
}

pub(super) fn main(global: &Global, args: AuditArgs) -> Result<Exit, CliError> {
    let context = Context::open(global)?;
    match args.command {
        AuditCommand::Show(args) => show::main(&context, global, &args),
        AuditCommand::Verify { run } => {
            verify::main(&context, global, &context.state.find_any(run.as_deref())?)
        }
        AuditCommand::Export(args) => export::main(&context, &args),
    }
}

/// An event in words, also one that the displays leave out.
fn words(event: &Event, state: &State) -> String {
    output::line(event, state).unwrap_or_else(|| match event {
        Event::Intent { step, op, attempt, .. } => {
            format!("intent: {op:?} {step}, try {attempt}").to_lowercase()
        }
        Event::Checkpoint { .. } => "checkpoint".into(),
        Event::Heartbeat {} => "still waiting".into(),
        _ => String::new(),
    })
}
