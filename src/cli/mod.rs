//! The command line: one file a subcommand, and what they share.
//!
//! Results go to standard output, everything else to standard error.
#![expect(clippy::print_stderr, reason = "the command line is what prints")]

mod abandon;
mod audit;
mod context;
mod doubt;
mod drive;
mod error;
mod generate;
mod halt;
mod init;
mod plan;
mod reap;
mod resolve;
mod resume;
mod rollback;
mod run;
mod runs;
mod status;
mod validate;
mod write;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use error::{CliError, Exit};
use write::{print, print_json};

use crate::domain::Phase;
use crate::domain::Strategy;

/// Stops a credential leak: staged, resumable, provable credential rotation.
///
/// stanch walks a reviewed runbook: it issues narrowly scoped credentials, delivers them, proves
/// that every consumer moved, disables and revokes the old ones, and proves that those are dead.
/// It can be killed at any instant and resumed, and goes back until the point of no return.
#[derive(Debug, Parser)]
#[command(name = "stanch", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
struct Global {
    /// The state folder; else STANCH_STATE, else stanch in the XDG state folder.
    #[arg(long, global = true, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Results as JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Writes a commented runbook to start from.
    Init(init::InitArgs),
    /// Finds every mistake in runbooks. Contacts nothing.
    Validate(validate::ValidateArgs),
    /// Shows what a run would do: connects read-only, and changes nothing.
    Plan(plan::PlanArgs),
    /// Rotates.
    Run(run::RunArgs),
    /// Shows what is true of a run now, and what to type next.
    Status(status::StatusArgs),
    /// Lists all runs.
    Runs,
    /// Takes a run up again after a crash, a pause or a failure that was mended.
    Resume(resume::ResumeArgs),
    /// Takes a run back, as far as its point of no return allows.
    Rollback(rollback::RollbackArgs),
    /// Close a run that can go neither on nor back, and list what it leaves open.
    Abandon(abandon::AbandonArgs),
    /// Stops every new effect, durably, until it is cleared.
    Halt(halt::HaltArgs),
    /// Says what became of a step whose outcome nobody knows.
    Resolve(resolve::ResolveArgs),
    /// Reads and checks a run's record.
    Audit(audit::AuditArgs),
    /// Prints the JSON Schema of runbooks, for editors.
    Schema,
    /// Prints completions for a shell.
    Completions(generate::CompletionsArgs),
    /// Prints the manual page, or writes all of them into a folder.
    Man(generate::ManArgs),
}

/// How a session is conducted.
#[derive(Debug, Clone, Default, Args)]
struct SessionArgs {
    /// Stop cleanly after this phase.
    #[arg(long, value_name = "PHASE", value_parser = phase)]
    until: Option<Phase>,
    /// Stop, with exit code 10, wherever the run would only wait.
    #[arg(long)]
    no_wait: bool,
    /// The answer to a manual step of this name is yes. Can be repeated.
    #[arg(long, value_name = "NAME")]
    confirm: Vec<String>,
}

/// A strategy, as an argument.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum StrategyArg {
    /// Old and new are both valid until every consumer moved.
    Overlap,
    /// The new one is issued, the old one is killed at once; consumers are down until cutover.
    Contain,
}

impl From<StrategyArg> for Strategy {
    fn from(arg: StrategyArg) -> Self {
        match arg {
            StrategyArg::Overlap => Self::Overlap,
            StrategyArg::Contain => Self::Contain,
        }
    }
}

fn phase(text: &str) -> Result<Phase, String> {
    text.parse::<Phase>().map_err(|e| e.to_string())
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    // A core dump would hold every secret of the run.
    let _ = rustix::process::setrlimit(
        rustix::process::Resource::Core,
        rustix::process::Rlimit { current: Some(0), maximum: Some(0) },
    );
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) if e.use_stderr() => {
            let _ = e.print();
            return ExitCode::from(Exit::Usage.code());
        }
        // Help and versions are results.
        Err(e) => {
            let text = e.render();
            let styled = context::style(std::io::stdout().is_terminal()).color;
            return exit(print(&if styled { text.ansi().to_string() } else { text.to_string() }), false);
        }
    };
    let json = cli.global.json;
    match dispatch(cli) {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(error) => exit(Err(error), json),
    }
}

fn exit(result: Result<(), CliError>, json: bool) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.print(json);
            ExitCode::from(error.exit.code())
        }
    }
}

fn dispatch(cli: Cli) -> Result<Exit, CliError> {
    let global = cli.global;
    match cli.command {
        Command::Init(args) => init::main(&global, args),
        Command::Validate(args) => validate::main(&global, &args),
        Command::Plan(args) => plan::main(&global, args),
        Command::Run(args) => run::main(&global, args),
        Command::Status(args) => status::main(&global, &args),
        Command::Runs => runs::main(&global),
        Command::Resume(args) => resume::main(&global, &args),
        Command::Rollback(args) => rollback::main(&global, args),
        Command::Abandon(args) => abandon::main(&global, &args),
        Command::Halt(args) => halt::main(&global, &args),
        Command::Resolve(args) => resolve::main(&global, args),
        Command::Audit(args) => audit::main(&global, args),
        Command::Schema => generate::schema(),
        Command::Completions(args) => generate::completions(&args),
        Command::Man(args) => generate::man(args),
    }
}
