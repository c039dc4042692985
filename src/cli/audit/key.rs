//! `stanch audit key`: the keys that sign checkpoints.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::context::{Context, state_folder};
use crate::cli::{CliError, Exit, Global, print, print_json};
use crate::journal::StateDir;

/// Makes, changes and shows the keys that sign checkpoints.
#[derive(Debug, Args)]
pub(super) struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum KeyCommand {
    /// Makes the key now; else the first run does.
    Create,
    /// Changes the key: the old one signs from where on the new one is valid, and is destroyed.
    Rotate,
    /// Prints the public keys, oldest first, for whoever checks the record elsewhere.
    Export,
}

pub(super) fn main(global: &Global, args: &KeyArgs) -> Result<Exit, CliError> {
    match args.command {
        KeyCommand::Create => {
            let context = Context::open(global)?;
            let key = context.state.create_key(context.who(), context.clock.now())?;
            show(global, &key, "the key is made; keep this public half where only others can write")
        }
        KeyCommand::Rotate => {
            let context = Context::open(global)?;
            let range = context.state.rotate_key(context.who(), context.clock.now())?;
            show(
                global,
                &range.key,
                &format!(
                    "the old key signed that this one is valid from record {} of the index on; the old private half is \
                     destroyed here, and a backup that has it can no longer sign what verifies. Keep all public \
                     halves: stanch audit key export",
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
