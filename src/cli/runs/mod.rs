//! `stanch runs`: all runs, and moving those that are over into an archive.

mod archive;

use clap::{Args, Subcommand};
use serde_json::json;

use super::context::{Access, Context, Open};
use super::drive::block_on_this_thread;
use super::{CliError, Exit, Global, print, print_json};
use crate::output;
use crate::rotation::Stop;
use crate::text::counted;

/// List all runs.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct RunsArgs {
    /// List the runs in archives, too, and where each is.
    #[arg(long)]
    archived: bool,
    #[command(subcommand)]
    command: Option<RunsCommand>,
}

#[derive(Debug, Subcommand)]
enum RunsCommand {
    /// Move runs that ended long ago into an archive, verified.
    Archive(archive::ArchiveArgs),
}

pub(super) fn main(open: Open<'_>, global: &Global, args: &RunsArgs) -> Result<Exit, CliError> {
    match &args.command {
        None => block_on_this_thread(list(&open(Access::Reads)?, global, args.archived))?,
        Some(RunsCommand::Archive(args)) => {
            block_on_this_thread(archive::main(&open(Access::Writes)?, global, args))?
        }
    }
}

async fn list(context: &Context, global: &Global, with_archived: bool) -> Result<Exit, CliError> {
    let all_halted = is_halted(context, None).await;
    let mut rows = Vec::new();
    let mut list = Vec::new();
    for run in context.ledger.runs().await? {
        let state = context.ledger.load(&run).await;
        // One run of which little can be read must not hide the others.
        let live = context.ledger.is_live(&run).await.unwrap_or(false);
        let mut next = String::new();
        let word = match &state {
            Err(e) => format!("unreadable: {e}"),
            Ok(state) => match (state.end(), state.stopped(), live) {
                (Some(end), _, _) => output::end_word(end).to_owned(),
                (None, _, true) => "running".into(),
                // What may be typed next depends on more than fits here; `status` is never refused.
                (None, stop, false) => {
                    let halted = all_halted || is_halted(context, Some(&run)).await;
                    // The sentence of a run that stopped for a halt says that one is set.
                    let latch = match (matches!(stop, Some(Stop::Halted)), halted) {
                        (true, true) | (false, false) => "",
                        (false, true) => "; halted",
                        (true, false) => "; it was cleared since",
                    };
                    next = format!("{latch}; next: stanch status {run}");
                    match stop {
                        Some(stop) => format!("open: {}", output::sentence(stop)),
                        None => "open: its process is gone".to_owned(),
                    }
                }
            },
        };
        let (environment, opened) = state
            .as_ref()
            .map(|s| (s.plan().environment.clone(), format!("{:.0}", s.opened())))
            .unwrap_or_default();
        rows.push(format!("{run:<48} {environment:<12} {opened:<21} {word}{next}"));
        list.push(
            json!({ "run": run, "environment": environment, "opened": opened, "state": word, "live": live }),
        );
    }
    let archived = context.ledger.archived().await?;
    if with_archived {
        for (run, place) in &archived {
            rows.push(format!("{run:<48} in the archive {place}"));
            list.push(json!({ "run": run, "archive": place }));
        }
    }
    if global.json {
        print_json(&json!(list))?;
    } else if rows.is_empty() {
        eprintln!("no runs in {}", context.ledger.place());
    } else {
        print(&rows.join("\n"))?;
    }
    if !with_archived && !global.json && !archived.is_empty() {
        let count = counted(archived.len() as u64, "run");
        eprintln!("not listed: {count} in archives. List them, too: stanch runs --archived");
    }
    Ok(Exit::Done)
}

/// Whether a run, or all runs, are halted. A latch that cannot be read is taken as set, as a run takes it.
async fn is_halted(context: &Context, run: Option<&str>) -> bool {
    context.ledger.latch(run).await.map_or(true, |latch| latch.is_some())
}
