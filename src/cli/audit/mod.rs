//! `stanch audit`: reads and checks a run's record.
//!
//! `show` reads it from the ledger. The others prove something about the bytes of files, or hand those on: they
//! work on a state directory.

mod anchor;
mod export;
mod filter;
mod key;
mod show;
mod verdict;
mod verify;

use clap::{Args, Subcommand};

use super::context::{Access, Open, state_dir};
use super::drive::block_on;
use super::{CliError, Exit, Global};
use crate::output;
use crate::rotation::{Event, Holds, Sight, State};

/// Read and verify the record of a run.
#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Show the record, one line per event.
    Show(show::ShowArgs),
    /// Find every byte that was changed, removed, moved or added, up to the last checkpoint.
    Verify(verify::VerifyArgs),
    /// Keep the latest checkpoint out of reach of those who can write to the state directory.
    Anchor(anchor::AnchorArgs),
    /// Create, rotate and export the keys that sign checkpoints.
    Key(key::KeyArgs),
    /// Write the record for other programs, as far as it is valid.
    Export(export::ExportArgs),
}

pub(super) fn main(open: Open<'_>, global: &Global, args: AuditArgs) -> Result<Exit, CliError> {
    match args.command {
        AuditCommand::Show(args) => block_on(show::main(&open(Access::Reads)?, global, &args))?,
        AuditCommand::Verify(args) => verify::main(global, &args),
        AuditCommand::Anchor(args) => anchor::main(global, &args),
        AuditCommand::Key(args) => key::main(open, global, &args),
        AuditCommand::Export(args) => export::main(&state_dir(global, Access::Reads)?, &args),
    }
}

/// What a store was seen to hand out.
fn held(holds: Holds) -> &'static str {
    match holds {
        Holds::Incoming => "the new value",
        Holds::Outgoing => "the old value",
        Holds::Written => "the version that this run wrote (it cannot be read)",
        Holds::Unwritten => "the version that it had without the new value (it cannot be read)",
        Holds::Other => "another value",
        Holds::Nothing => "no value",
        Holds::Incomparable => "a later version, which could not be compared",
        Holds::Unreadable => "a value that could not be read or compared",
    }
}

/// How one version of a credential was seen.
fn seen(sight: Sight) -> &'static str {
    match sight {
        Sight::Accepted => "accepted",
        Sight::Refused => "rejected",
        Sight::Alive => "valid",
        Sight::Disabled => "disabled",
        Sight::Deleted => "deleted, but not gone",
        Sight::Gone => "gone",
        Sight::Unseen => "not looked at",
    }
}

/// An event in words, also one that the displays leave out.
fn words(event: &Event, state: &State) -> String {
    output::line(event, state).unwrap_or_else(|| match event {
        Event::Intent { step, op, attempt, .. } => {
            format!("intent: {op} {step}, try {attempt}")
        }
        Event::Checkpoint { .. } => "checkpoint".into(),
        Event::Heartbeat {} => "still waiting".into(),
        Event::Seen { credential, stores, outgoing, incoming } => {
            let stores: Vec<_> = stores.iter().map(|holds| held(*holds)).collect();
            format!(
                "looked at {credential}: {}; old {}, new {}",
                if stores.is_empty() {
                    "no store".to_owned()
                } else {
                    format!("stores hold {}", stores.join(", "))
                },
                seen(*outgoing),
                seen(*incoming)
            )
        }
        _ => String::new(),
    })
}
