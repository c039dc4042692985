//! `stanch drill score`: from the record, by anybody who has it.

use std::path::Path;

use clap::Args;

use super::super::context::{Access, Context};
use super::super::{CliError, Exit, Global, print, print_json};
use crate::drill::{Fold, Marker, Score};
use crate::journal::Ledger;

/// How many earlier drills are compared.
const EARLIER: usize = 10;

/// Score a drill from its record.
#[derive(Debug, Args)]
pub(super) struct ScoreArgs {
    /// The run, or the start of its name. Default: the newest run of the drill.
    run: Option<String>,
}

pub(super) async fn main(context: &Context, global: &Global, args: &ScoreArgs) -> Result<Exit, CliError> {
    let run = context.ledger.find_any(args.run.as_deref()).await?;
    let score = of(&*context.ledger, &run).await?;
    show(global, context, score).await
}

/// The score of a drill's newest run.
pub(super) async fn newest(context: &Context) -> Result<Score, CliError> {
    let Some(run) = context.ledger.newest().await? else {
        return Err(CliError::new(
            Exit::Failed,
            "the drill ended before a run began; there is nothing to score",
        ));
    };
    of(&*context.ledger, &run).await
}

/// Prints a score. Whether everything was met is the exit status.
pub(super) async fn show(global: &Global, context: &Context, score: Score) -> Result<Exit, CliError> {
    let exit = if score.is_full() { Exit::Done } else { Exit::Failed };
    if global.json {
        return exit.shown(print_json(&serde_json::to_value(&score).unwrap_or_default()));
    }
    let earlier = earlier(global, context, &score).await;
    exit.shown(print(&score.render(&earlier)))
}

async fn of(ledger: &dyn Ledger, run: &str) -> Result<Score, CliError> {
    let mut fold = Fold::default();
    let mut wrong = None;
    let mut take = |record| {
        if let Err(error) = fold.take(record) {
            wrong.get_or_insert(error);
        }
    };
    let read = ledger.records(run, &mut take).await?;
    if let Some(fault) = read.fault.map(|fault| fault.to_string()).or(wrong.map(|error| error.to_string())) {
        let message = format!("the record of {run} is not valid, so it cannot be scored: {fault}");
        return Err(CliError::new(Exit::JournalInvalid, message)
            .hint(format!("see where: stanch audit verify {run}")));
    }
    fold.finish().ok_or_else(|| {
        CliError::new(Exit::Usage, format!("{run} is not a drill's run; only drills are scored"))
            .hint("name the state directory that `stanch drill start` printed: --state DIR")
    })
}

/// The scores of earlier drills of the same scenario, which stand beside this one. Those that cannot be read are left
/// out: the trend is decoration.
async fn earlier(global: &Global, context: &Context, score: &Score) -> Vec<Score> {
    let place = context.ledger.place();
    let Some(parent) = Path::new(&place).parent().filter(|parent| parent.ends_with("drills")) else {
        return Vec::new();
    };
    let Ok(entries) = parent.read_dir() else { return Vec::new() };
    let mut folders: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    folders.sort();
    let prefix = format!("{}-", score.scenario);
    folders.retain(|folder| {
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with(&prefix) && folder != Path::new(&place)
    });
    let mut found = Vec::new();
    for folder in folders.iter().rev().take(EARLIER) {
        found.extend(beside(global, folder).await);
    }
    found.retain(|other| other.scenario == score.scenario && other.begun < score.begun);
    found.sort_by_key(|other| other.begun);
    found
}

async fn beside(global: &Global, folder: &Path) -> Option<Score> {
    Marker::read(folder).ok()??;
    let global = Global { state: Some(folder.to_owned()), ..global.clone() };
    let ledger = Context::unstaged(&global, Access::Reads).ok()?.ledger;
    let run = ledger.newest().await.ok()??;
    of(&*ledger, &run).await.ok()
}
