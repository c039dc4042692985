//! `stanch audit`: reads and checks a run's record.

mod show;
mod verify;

use clap::{Args, Subcommand};

use super::context::Context;
use super::{CliError, Exit, Global};

/// Reads and checks a run's record.
#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Shows the record, one line an event.
    Show {
        /// The run, or the beginning of its name; without one, the only open run, else the last one.
        run: Option<String>,
    },
    /// Finds every byte that was changed, removed, moved or added, up to the last checkpoint.
    Verify {
        /// The run, or the beginning of its name; without one, the only open run, else the last one.
        run: Option<String>,
    },
}

pub(super) fn main(global: &Global, args: AuditArgs) -> Result<Exit, CliError> {
    let context = Context::open(global)?;
    match args.command {
        AuditCommand::Show { run } => show::main(&context, global, &context.state.find_any(run.as_deref())?),
        AuditCommand::Verify { run } => {
            verify::main(&context, global, &context.state.find_any(run.as_deref())?)
        }
    }
}
