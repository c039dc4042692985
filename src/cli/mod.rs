//! The command line: one file a subcommand, and what they share.
//!
//! Results go to standard output, everything else to standard error.
#![expect(clippy::print_stderr, reason = "the command line is what prints")]

/// In tests, what commands say beside their results can be heard.
#[cfg(test)]
macro_rules! eprintln {
    ($($text:tt)*) => {{
        let text = format!($($text)*);
        if !$crate::cli::tests::capture(&text) {
            std::eprintln!("{text}");
        }
    }};
}

mod abandon;
mod approve;
mod asking;
mod audit;
mod calendar;
mod ci;
mod context;
mod doubt;
mod drill;
mod drive;
mod error;
mod findings;
mod generate;
mod halt;
mod identify;
mod init;
mod log;
mod metrics;
mod notify;
mod pace;
mod plan;
mod policy;
mod reap;
mod report;
mod resolve;
mod resume;
mod revoke;
mod rollback;
mod run;
mod runs;
mod sign;
mod status;
mod tell;
#[cfg(test)]
mod tests;
mod trace;
mod validate;
mod who;
mod windows;
mod write;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use context::{Access, Context};
use drive::{block_on, block_on_this_thread};
pub use error::{CliError, Exit};
use write::{print, print_json};

use crate::calendar::Windows;
use crate::domain::{Phase, Strategy};
use crate::engine::Conduct;
use crate::rotation::Event;

/// Rotate leaked credentials in stages, with proof.
///
/// stanch follows a reviewed runbook: it issues narrowly scoped credentials, delivers them, proves
/// that every consumer moved, disables and revokes the old credentials, and proves that they are dead.
/// Kill it at any instant and resume it. Roll back until the point of no return.
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
    /// Use this state directory. Default: STANCH_STATE, else stanch in the XDG state directory.
    #[arg(long, global = true, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Print results as JSON.
    #[arg(long, global = true)]
    json: bool,
    /// Log each request and program: address, status, duration. -vv also logs when each starts.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Append the log to this file instead of writing it to standard error.
    #[arg(long, global = true, value_name = "FILE")]
    log_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a commented runbook to start from.
    Init(init::InitArgs),
    /// Find every mistake in runbooks. Contacts nothing.
    Validate(validate::ValidateArgs),
    /// Show what a run would do. Reads from servers, changes nothing.
    Plan(plan::PlanArgs),
    /// Run a rotation.
    Run(run::RunArgs),
    /// Show the state of a run and the command to type next.
    Status(status::StatusArgs),
    /// List all runs; move those that ended long ago into an archive.
    Runs(runs::RunsArgs),
    /// Write the report of a run, or compare one with the record.
    Report(report::ReportArgs),
    /// Write metrics of all runs, in Prometheus' text format.
    Metrics(metrics::MetricsArgs),
    /// Write a run as a trace for OpenTelemetry, or send it.
    Trace(trace::TraceArgs),
    /// Show when each credential is due for its next rotation.
    Calendar(calendar::CalendarArgs),
    /// Check the policy of your runbooks, and waive a rule for one of them.
    Policy(policy::PolicyCommands),
    /// Preview, send and list the messages about runs.
    Notify(notify::NotifyArgs),
    /// Resume a run after a crash, a pause or a fixed failure.
    Resume(resume::ResumeArgs),
    /// Roll a run back. Refused past its point of no return.
    Rollback(rollback::RollbackArgs),
    /// Close a run that can neither finish nor roll back, and list what it leaves open.
    Abandon(abandon::AbandonArgs),
    /// Approve phases of a plan or of a run: sign what they do with your SSH key.
    Approve(approve::ApproveArgs),
    /// Block every new effect until you clear the halt. Survives restarts.
    Halt(halt::HaltArgs),
    /// Say what a leaked value is, and what to type next.
    Identify(identify::IdentifyArgs),
    /// Revoke credentials at once, without a runbook and without replacing them.
    Revoke(revoke::RevokeArgs),
    /// Record the outcome of a step that stanch could not determine.
    Resolve(resolve::ResolveArgs),
    /// Read and verify the record of a run.
    Audit(audit::AuditArgs),
    /// Practise a rotation in the sandbox: people against a scenario, or a scripted operator in CI.
    Drill(drill::DrillArgs),
    /// Print the JSON Schema of runbooks, for editors.
    Schema,
    /// Print shell completions.
    Completions(generate::CompletionsArgs),
    /// Print the manual page, or write the pages of all commands into a directory.
    Man(generate::ManArgs),
}

/// How a session is conducted.
#[derive(Debug, Clone, Default, Args)]
struct SessionArgs {
    /// Stop cleanly after this phase.
    #[arg(long, value_name = "PHASE", value_parser = phase)]
    until: Option<Phase>,
    /// Stop with exit code 10 where the run would only wait.
    #[arg(long)]
    no_wait: bool,
    /// Wait for missing approvals even without a terminal, instead of stopping with exit code 20.
    #[arg(long, conflicts_with = "no_wait")]
    wait: bool,
    /// Answer yes to the manual step of this name. `stanch run` also takes the name of the runbook, and then
    /// starts without asking. Repeatable.
    #[arg(long, value_name = "NAME")]
    confirm: Vec<String>,
}

/// A strategy, as an argument.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum StrategyArg {
    /// Keep both credentials valid until every consumer has moved.
    Overlap,
    /// Issue the new credential, then kill the old one at once; consumers are down until cutover.
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

impl SessionArgs {
    /// How the engine is to conduct the session.
    fn conduct(&self, global: &Global, windows: Windows) -> Conduct {
        Conduct {
            windows,
            until: self.until,
            no_wait: self.no_wait,
            // Where a person watches, another one can be asked meanwhile.
            unattended: !self.wait && !context::can_ask(global),
            rollback: None,
        }
    }
}

/// Going on without approvals.
#[derive(Debug, Clone, Default, Args)]
struct BreakGlassArgs {
    /// Go on without the approvals that are missing, where the runbook allows it. Requires --reason and --ticket; every
    /// summary and report shows it.
    #[arg(long, requires = "ticket")]
    break_glass: bool,
    /// Record where the reason is written down, such as a ticket.
    #[arg(long, value_name = "TEXT")]
    ticket: Option<String>,
}

impl BreakGlassArgs {
    /// The event, where glass is broken.
    fn event(
        &self,
        context: &Context,
        reason: Option<&str>,
        plan: &crate::plan::Plan,
    ) -> Result<Option<Event>, CliError> {
        if !self.break_glass {
            return Ok(None);
        }
        let reason = context::words("--reason", reason.unwrap_or_default())?;
        let ticket = context::words("--ticket", self.ticket.as_deref().unwrap_or_default())?;
        if reason.is_empty() || ticket.is_empty() {
            return Err(CliError::new(
                Exit::Usage,
                "--break-glass requires a reason and a ticket; nothing was changed",
            )
            .hint("pass --reason TEXT and --ticket TEXT"));
        }
        if !plan.approvals.as_ref().is_some_and(|approvals| approvals.break_glass) {
            let message = "--break-glass is refused: the runbook does not allow it; nothing was changed";
            return Err(CliError::new(Exit::Usage, message).hint("get the approvals: stanch approve"));
        }
        Ok(Some(Event::BrokeGlass { by: context.signature(), reason, ticket }))
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
    ci::start();
    let done = dispatch(cli, &Context::open);
    log::finish();
    match done {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(error) => exit(Err(error), json),
    }
}

fn exit(result: Result<(), CliError>, json: bool) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.print(json);
            error.annotate();
            ExitCode::from(error.exit.code())
        }
    }
}

/// Runs one command. `open` makes its context.
fn dispatch(cli: Cli, open: &dyn Fn(&Global, Access) -> Result<Context, CliError>) -> Result<Exit, CliError> {
    let global = cli.global;
    let open = |access| open(&global, access);
    log::start(&global);
    match cli.command {
        Command::Init(args) => init::main(&global, args),
        Command::Validate(args) => validate::main(&global, &args),
        Command::Plan(args) => plan::main(&open, &global, args),
        Command::Run(args) => run::main(&open, &global, args),
        Command::Status(args) => block_on_this_thread(status::main(&open(Access::Reads)?, &global, &args))?,
        Command::Report(args) => block_on_this_thread(report::main(&open(Access::Reads)?, &global, args))?,
        Command::Metrics(args) => block_on_this_thread(metrics::main(&open(Access::Reads)?, args))?,
        Command::Trace(args) => block_on_this_thread(trace::main(&open(Access::Reads)?, &global, args))?,
        Command::Calendar(args) => {
            block_on_this_thread(calendar::main(&open(Access::Reads)?, &global, args))?
        }
        Command::Policy(args) => policy::main(&global, args),
        Command::Notify(args) => notify::main(&open, &global, args),
        Command::Runs(args) => runs::main(&open, &global, &args),
        Command::Resume(args) => block_on(resume::main(&open(Access::Writes)?, &global, &args))?,
        Command::Rollback(args) => block_on(rollback::main(&open(Access::Writes)?, &global, args))?,
        Command::Abandon(args) => block_on(abandon::main(&open(Access::Writes)?, &global, &args))?,
        Command::Approve(args) => approve::main(&open, &global, &args),
        Command::Halt(args) => block_on_this_thread(halt::main(&open(Access::Writes)?, &args))?,
        Command::Identify(args) => identify::main(&open, &global, args),
        Command::Revoke(args) => revoke::main(&open, &global, args),
        Command::Resolve(args) => block_on_this_thread(resolve::main(&open(Access::Writes)?, &global, args))?,
        Command::Audit(args) => audit::main(&open, &global, args),
        Command::Drill(args) => drill::main(&open, &global, args),
        Command::Schema => generate::schema(),
        Command::Completions(args) => generate::completions(&args),
        Command::Man(args) => generate::man(args),
    }
}
