//! `stanch drill`: practise a rotation in the sandbox.

mod capacity;
mod check;
mod play;
mod score;
mod tabletop;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::context::{Access, Open};
use super::drive::{block_on, block_on_this_thread};
use super::{CliError, Exit, Global, init, print_json};

/// Practise a rotation in the sandbox. Contacts no server.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub(super) struct DrillArgs {
    #[command(subcommand)]
    command: Option<DrillCommand>,
    #[command(flatten)]
    play: Option<play::PlayArgs>,
}

#[derive(Debug, Subcommand)]
enum DrillCommand {
    /// Play a scenario with its scripted operator, and score it.
    Run(play::PlayArgs),
    /// Begin a drill for people: make its state directory, and print the background and what to type.
    Start(play::StartArgs),
    /// Show the facilitator what comes next and what the right move is. Lets injects happen or skips them.
    Facilitate,
    /// Answer a question of the drill.
    Answer(tabletop::AnswerArgs),
    /// Answer how long many credentials would take under the quotas of their servers. Contacts no server.
    Capacity(capacity::CapacityArgs),
    /// Score a drill from its record.
    Score(score::ScoreArgs),
    /// Find every mistake in scenarios, also what they wait for and cannot come. Contacts no server.
    Lint(check::LintArgs),
    /// Write a commented scenario to start from.
    Init {
        /// Write it to this file. Default: standard output.
        file: Option<PathBuf>,
    },
    /// Print the JSON Schema of scenarios, for editors.
    Schema,
}

/// The scenario that `stanch drill init` writes.
const SCAFFOLD: &str = include_str!("../../../templates/drills/scenario.yaml");

pub(super) fn main(open: Open<'_>, global: &Global, args: DrillArgs) -> Result<Exit, CliError> {
    let command = match (args.command, args.play) {
        (Some(command), _) => command,
        (None, Some(play)) => DrillCommand::Run(play),
        (None, None) => {
            return Err(
                CliError::new(Exit::Usage, "the scenario is missing").hint("stanch drill run SCENARIO")
            );
        }
    };
    match command {
        DrillCommand::Run(args) => play::run(global, args),
        DrillCommand::Start(args) => play::start(global, &args),
        // Its time passes as that of the drill.
        DrillCommand::Facilitate => block_on(tabletop::facilitate(&open(Access::Writes)?))?,
        DrillCommand::Answer(args) => block_on_this_thread(tabletop::answer(&open(Access::Writes)?, &args))?,
        DrillCommand::Capacity(args) => capacity::main(global, &args),
        DrillCommand::Score(args) => block_on_this_thread(score::main(&open(Access::Reads)?, global, &args))?,
        DrillCommand::Lint(args) => check::main(global, &args),
        DrillCommand::Init { file } => init::write(SCAFFOLD, file, "stanch drill lint"),
        DrillCommand::Schema => {
            print_json(crate::drill::schema())?;
            Ok(Exit::Done)
        }
    }
}

/// The command that a scripted operator types.
fn answer_of(args: &DrillArgs) -> Option<&tabletop::AnswerArgs> {
    match &args.command {
        Some(DrillCommand::Answer(args)) => Some(args),
        _ => None,
    }
}
