//! `stanch runs archive`: moves runs that ended long ago into a directory of their own, verified before the original is
//! removed.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::calendar::Rotations;
use crate::cli::context::{Access, Context, state_dir};
use crate::cli::{CliError, Exit, Global, print, print_json, tell};
use crate::clock::since;
use crate::domain::Period;
use crate::follow::notify::{Outbox, OutboxError, missing};
use crate::journal::{Archive, LedgerError, StateDir};
use crate::plan::Plan;
use crate::secret::Recipient;
use crate::text::counted;

/// Move runs that ended long ago into an archive.
///
/// Each is copied, read back and compared before the original is removed. An open run is never moved, nor is the last
/// rotation of a credential, which the calendar needs, nor a run with messages that are still to be sent. Archived runs
/// are found by status, report and audit as before, while the archive is reachable.
#[derive(Debug, Args)]
pub(super) struct ArchiveArgs {
    /// Move them into this directory: an empty one, or an archive.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Move runs that ended longer ago than this.
    #[arg(long, value_name = "DURATION", default_value = "90d")]
    older_than: Period,
    /// Encrypt for this age recipient, and for the sealing key of the state directory. Repeatable.
    #[arg(long, value_name = "AGE1…")]
    recipient: Vec<Recipient>,
    /// Only list what would be moved.
    #[arg(long)]
    dry_run: bool,
}

/// What became of the runs.
#[derive(Default)]
struct Moved {
    archived: Vec<String>,
    kept: Vec<(String, String)>,
    younger: u64,
    bad: u64,
}

pub(super) async fn main(context: &Context, global: &Global, args: &ArchiveArgs) -> Result<Exit, CliError> {
    if context.drill.is_some() {
        let message = "this state directory is a drill's: its runs are not archived; nothing was changed";
        return Err(CliError::new(Exit::Usage, message).hint("keep the directory as a whole"));
    }
    let state = state_dir(global, Access::Writes)?;
    let archive = match args.dry_run {
        true => None,
        false => Some(Archive::open(&args.to, args.recipient.clone())?),
    };
    if archive.is_some() && !state.runs()?.is_empty() {
        state.settle(&context.outbox, context.who(), context.clock.now())?;
    }
    let mut moved = Moved::default();
    let done = each(context, &state, archive.as_ref(), args, &mut moved).await;
    // What was moved is said also where the next one could not be.
    let place = archive.as_ref().map_or(&*args.to, Archive::folder).display().to_string();
    let printed = match global.json {
        true => print_json(&moved.json(&place)),
        false => print(&moved.text(&place, args)),
    };
    done?;
    printed?;
    if moved.bad > 0 {
        let message = format!("{} not valid, and not moved", counted(moved.bad, "run"));
        return Err(CliError::new(Exit::JournalInvalid, message).hint("see where: stanch audit verify --all"));
    }
    Ok(Exit::Done)
}

async fn each(
    context: &Context,
    state: &StateDir,
    archive: Option<&Archive>,
    args: &ArchiveArgs,
    moved: &mut Moved,
) -> Result<(), CliError> {
    let mut rotations = Rotations::default();
    let mut over = Vec::new();
    let now = context.clock.now().wall;
    for run in context.ledger.runs().await? {
        let loaded = match context.ledger.load(&run).await {
            Ok(loaded) => loaded,
            Err(error) => {
                moved.bad += 1;
                CliError::from(error).print(false);
                continue;
            }
        };
        rotations.take(&run, &loaded);
        match loaded.ended() {
            None => moved.keep(&run, "it is open"),
            Some(ended) if since(now, ended) < args.older_than.get() => moved.younger += 1,
            Some(_) => over.push((run, std::sync::Arc::clone(loaded.plan()))),
        }
    }
    let needed: BTreeSet<&str> = rotations.runs().collect();
    for (run, plan) in over {
        if needed.contains(run.as_str()) {
            moved.keep(&run, "it is the last rotation of a credential, which the calendar needs");
            continue;
        }
        let outbox = Outbox::of(&context.outbox, &run);
        let _claim = match outbox.is_begun().then(|| outbox.claim()).transpose() {
            Ok(claim) => claim,
            Err(OutboxError::Busy(_)) => {
                moved.keep(&run, "another process is sending its messages");
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(why) = unsent(context, &run, &plan, &outbox).await? {
            moved.keep(&run, &why);
            continue;
        }
        if let Some(archive) = archive {
            let folder = context.outbox.join(&run);
            match state.archive(&run, archive, &folder, context.who(), context.clock.now()) {
                Ok(_) => {}
                Err(error @ (LedgerError::Invalid { .. } | LedgerError::NotClosed(_))) => {
                    moved.bad += 1;
                    CliError::from(error).print(false);
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
        }
        moved.archived.push(run);
    }
    Ok(())
}

/// Why a run's messages keep it where it is.
async fn unsent(
    context: &Context,
    run: &str,
    plan: &Plan,
    outbox: &Outbox,
) -> Result<Option<String>, CliError> {
    if !outbox.is_begun() {
        return Ok(None);
    }
    let mut open = outbox.entries()?.iter().filter(|entry| entry.is_open()).count();
    match tell::channels(context, Some(plan)) {
        Ok(channels) => open += missing(&*context.ledger, run, outbox, &channels).await?,
        Err(_) => return Ok(Some("its messages cannot be made: see stanch notify status".to_owned())),
    }
    let why = || format!("{} still to be sent: stanch notify flush {run}", counted(open as u64, "message"));
    Ok((open > 0).then(why))
}

impl Moved {
    fn keep(&mut self, run: &str, why: &str) {
        self.kept.push((run.to_owned(), why.to_owned()));
    }

    fn json(&self, place: &str) -> serde_json::Value {
        let kept: Vec<_> = self.kept.iter().map(|(run, why)| json!({ "run": run, "why": why })).collect();
        json!({
            "archive": place,
            "archived": self.archived,
            "kept": kept,
            "younger": self.younger,
            "not_valid": self.bad,
        })
    }

    fn text(&self, place: &str, args: &ArchiveArgs) -> String {
        let word = if args.dry_run { "would move" } else { "moved" };
        let mut lines: Vec<String> = self.archived.iter().map(|run| format!("{word}  {run}")).collect();
        lines.extend(self.kept.iter().map(|(run, why)| format!("kept  {run}: {why}")));
        let mut last = format!("{word} {} to {place}", counted(self.archived.len() as u64, "run"));
        if self.younger > 0 {
            let count = counted(self.younger, "run");
            last.push_str(&format!("; {count} ended less than {} ago", args.older_than));
        }
        lines.push(last);
        lines.join("\n")
    }
}
