//! `stanch audit key`: the keys that sign checkpoints.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::context::{Access, Open, state_dir, state_folder};
use crate::cli::{CliError, Exit, Global, print, print_json};
use crate::journal::StateDir;

/// Create, rotate and export the keys that sign checkpoints.
#[derive(Debug, Args)]
pub(super) struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum KeyCommand {
    /// Create the key now. Without this, the first run creates it.
    Create,
    /// Rotate the key: the old key signs where the new one becomes valid, then stanch destroys it.
    Rotate,
    /// Print the public keys, oldest first, to verify the record elsewhere.
    Export,
}

pub(super) fn main(open: Open<'_>, global: &Global, args: &KeyArgs) -> Result<Exit, CliError> {
    match args.command {
        KeyCommand::Create => {
            let context = open(Access::Writes)?;
            let key = state_dir(global, Access::Writes)?.create_key(context.who(), context.clock.now())?;
            show(
                global,
                &key,
                "key created; keep this public half elsewhere, where users of this machine cannot change it",
            )
        }
        KeyCommand::Rotate => {
            let context = open(Access::Writes)?;
            let range = state_dir(global, Access::Writes)?.rotate_key(context.who(), context.clock.now())?;
            show(
                global,
                &range.key,
                &format!(
                    "the old key signed that this key is valid from record {} of the index on. stanch destroyed the old private half here; a copy of it in a backup can no longer sign anything that verifies. Keep all public halves: stanch audit key export",
                    range.from
                ),
            )
        }
        KeyCommand::Export => {
            // Reads only, so that it works on a copy.
            let state = StateDir::look(&state_folder(global)?)?;
            let ranges = state.key_ranges()?;
            if global.json {
                print_json(&json!(ranges))?;
            } else {
                let lines: Vec<String> = ranges
                    .iter()
                    .map(|range| {
                        let until = range.until.map_or_else(|| "on".into(), |u| format!("to {}", u - 1));
                        format!("# from record {} of the index {until}\n{}", range.from, range.key)
                    })
                    .collect();
                print(&lines.join("\n"))?;
            }
            Ok(Exit::Done)
        }
    }
}

fn show(global: &Global, key: &str, words: &str) -> Result<Exit, CliError> {
    let printed = if global.json { print_json(&json!({ "key": key })) } else { print(key) };
    eprintln!("{words}");
    Exit::Done.shown(printed)
}
