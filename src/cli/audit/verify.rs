//! `stanch audit verify`: is the record what was written?
//!
//! Reads only, needs no private key, and makes nothing: it works on a copy, and on a disk that
//! cannot be written.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::verdict::{Verdict, Words, of_index, of_journal, worst};
use crate::cli::context::state_folder;
use crate::cli::{CliError, Exit, Global, print, print_json};
use crate::journal::{
    Anchors, Cover, Index, LedgerError, StateDir, VerifyingKeys, examine_index_file, examine_journal_file,
};
use crate::provider::own_file;

/// Find every byte that was changed, removed, moved or added, up to the last checkpoint.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The run, or the start of its name; or the path of a journal, a run's directory, an index
    /// or a state directory. Default: the only open run, else the last run.
    run: Option<String>,
    /// Verify all runs and the index. This also finds runs that are gone.
    #[arg(long, conflicts_with = "run")]
    all: bool,
    /// Trust these public keys (`stanch audit key export`) instead of those in the state directory.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Compare with these checkpoints, kept elsewhere (`stanch audit anchor`). Repeatable.
    #[arg(long, value_name = "FILE")]
    anchor: Vec<PathBuf>,
}

/// No file of keys or anchors is larger; an anchor takes 300 bytes.
const MAX_FILE: u64 = 64 << 20;

pub(super) fn main(global: &Global, args: &VerifyArgs) -> Result<Exit, CliError> {
    let keys = args.key.as_deref().map(keys).transpose()?;
    let anchors = anchors(&args.anchor)?;
    let verdicts = match args.run.as_deref().map(|run| place(run, args.key.is_some())) {
        Some(Place::Journal(path)) => {
            let found = examine_journal_file(&path, &needed(keys)?, &anchors)?;
            vec![of_journal(&path, &found)]
        }
        Some(Place::Index(path)) => {
            let (index, agree) = examine_index_file(&path, &needed(keys)?, &anchors)?;
            vec![of_index(&path, &index, agree)]
        }
        Some(Place::State(path)) => all(&look(&path)?, keys, &anchors)?,
        None if args.all => all(&look(&state_folder(global)?)?, keys, &anchors)?,
        None => one(&look(&state_folder(global)?)?, None, keys, &anchors)?,
        Some(Place::Run(run)) => one(&look(&state_folder(global)?)?, Some(&run), keys, &anchors)?,
    };
    let agree: u64 = verdicts.iter().map(|verdict| verdict.anchors).sum();
    let mut exit = worst(&verdicts);
    let silent = agree == 0 && !anchors.is_empty() && exit == Exit::Done;
    if silent {
        exit = Exit::Unanchored;
    }
    let printed = if global.json {
        let objects: Vec<&Value> = verdicts.iter().map(|verdict| &verdict.json).collect();
        match objects.as_slice() {
            [object] if !silent => print_json(object),
            objects => print_json(&json!({ "records": objects, "anchors": agree, "exit": exit.code() })),
        }
    } else {
        let mut words: Vec<&str> = verdicts.iter().map(|verdict| verdict.words.as_str()).collect();
        let nothing = format!(
            "UNANCHORED: the record is consistent, but none of the {} anchors covers it: they belong to another record, or the whole record was replaced",
            anchors.len()
        );
        words.extend(silent.then_some(nothing.as_str()));
        print(&words.join("\n"))
    };
    exit.shown(printed)
}

/// The state directory, to read. Verifying nothing is never a good end, also where there is no directory yet.
fn look(path: &Path) -> Result<StateDir, CliError> {
    if path.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return Err(nothing_in(path));
    }
    Ok(StateDir::look(path)?)
}

/// What is to be checked.
enum Place {
    Run(String),
    Journal(PathBuf),
    Index(PathBuf),
    State(PathBuf),
}

fn place(text: &str, with_key: bool) -> Place {
    let path = Path::new(text);
    if !(text.contains('/') || text == "." || text.ends_with(".jsonl") || with_key && path.exists()) {
        return Place::Run(text.to_owned());
    }
    let journal = path.join("journal.jsonl");
    if journal.is_file() {
        Place::Journal(journal)
    } else if path.is_dir() {
        Place::State(path.to_owned())
    } else if is_index(path) {
        Place::Index(path.to_owned())
    } else {
        Place::Journal(path.to_owned())
    }
}

/// Whether a file begins as an index does.
fn is_index(path: &Path) -> bool {
    use std::io::Read as _;
    let mut begin = Vec::new();
    let file = std::fs::File::open(path);
    file.is_ok_and(|f| f.take(64).read_to_end(&mut begin).is_ok())
        && begin.starts_with(b"{\"v\":1,\"index\":")
}

/// Reads a file of the user's.
pub(super) fn text(path: &Path) -> Result<String, CliError> {
    let unreadable =
        |why: String| CliError::new(Exit::Usage, format!("cannot read {}: {why}", path.display()));
    let bytes = own_file::read(path, MAX_FILE).map_err(|error| unreadable(error.to_string()))?;
    String::from_utf8(bytes).map_err(|_| unreadable("it is not text".to_owned()))
}

fn keys(path: &Path) -> Result<VerifyingKeys, CliError> {
    VerifyingKeys::parse(&text(path)?).map_err(|e| {
        CliError::new(Exit::Usage, format!("{} is not a list of public keys: {e}", path.display()))
            .hint("use keys/journal.vkey, or the output of: stanch audit key export")
    })
}

fn needed(keys: Option<VerifyingKeys>) -> Result<VerifyingKeys, CliError> {
    keys.ok_or_else(|| {
        CliError::new(Exit::Usage, "--key is missing; a copy of a journal does not say which key to trust")
            .hint("pass --key FILE, with the output of `stanch audit key export`, or keys/journal.vkey")
    })
}

pub(super) fn anchors(paths: &[PathBuf]) -> Result<Anchors, CliError> {
    let mut anchors = Anchors::default();
    for path in paths {
        anchors.read(&path.display().to_string(), &text(path)?).map_err(|e| {
            CliError::new(Exit::Usage, format!("{} is not a list of anchors: {e}", path.display()))
                .hint("remove a torn note; the other notes still count")
        })?;
    }
    Ok(anchors)
}

/// What is said about a run of a state folder: the run's own verdict is the last.
pub(super) fn of(state: &StateDir, run: &str) -> Result<Vec<Verdict>, CliError> {
    one(state, Some(run), None, &Anchors::default())
}

/// One run of a state folder.
fn one(
    state: &StateDir,
    name: Option<&str>,
    keys: Option<VerifyingKeys>,
    anchors: &Anchors,
) -> Result<Vec<Verdict>, CliError> {
    if keys.is_none() {
        refuse_nothing(state, anchors)?;
    }
    let trusted = keys.map_or_else(|| state.verifying_keys(), Ok)?;
    let index = state.examine_index(&trusted, anchors)?;
    let run = match (state.find_any(name), name) {
        // A run that is gone is not in the folder, and its name is still known.
        (Err(LedgerError::NotFound(_)), Some(name)) => {
            let known = state.known_runs(index.as_ref().map(|(index, _)| index), &trusted, anchors)?;
            let mut fits: Vec<String> = known.into_iter().filter(|run| run.starts_with(name)).collect();
            match fits.len() {
                0 => return Err(LedgerError::NotFound(name.to_owned()).into()),
                1 => fits.remove(0),
                _ => return Err(LedgerError::Ambiguous { name: name.to_owned(), runs: fits }.into()),
            }
        }
        (found, _) => found?,
    };
    let mut verdicts = Vec::new();
    // The index speaks only where it is not good: what else is to be said, the run says.
    if let Some((index, agree)) = index.as_ref().filter(|(index, _)| index.fault().is_some()) {
        verdicts.push(of_index(&state.index_path(), index, *agree));
    }
    verdicts.push(of_run(state, &run, index.map(|(index, _)| index), &trusted, anchors)?);
    Ok(verdicts)
}

/// A whole state folder. Where nothing is there to be checked, that is never a good end.
fn all(state: &StateDir, keys: Option<VerifyingKeys>, anchors: &Anchors) -> Result<Vec<Verdict>, CliError> {
    if keys.is_none() || has_keys(state) {
        refuse_nothing(state, anchors)?;
    }
    let trusted = keys.map_or_else(|| state.verifying_keys(), Ok)?;
    let mut verdicts = Vec::new();
    let index = state.examine_index(&trusted, anchors)?;
    if let Some((index, agree)) = &index {
        verdicts.push(of_index(&state.index_path(), index, *agree));
    }
    let index = index.map(|(index, _)| index);
    for run in state.known_runs(index.as_ref(), &trusted, anchors)? {
        let mut verdict = of_run(state, &run, index.clone(), &trusted, anchors)?;
        verdict.words.insert_str(0, &format!("{run}: "));
        verdicts.push(verdict);
    }
    if verdicts.is_empty() { Err(nothing_in(state.root())) } else { Ok(verdicts) }
}

fn has_keys(state: &StateDir) -> bool {
    ["journal.vkey", "journal.key"].iter().any(|key| state.root().join("keys").join(key).exists())
}

/// Refuses a directory without any record, before a key that is not there is called damaged.
fn refuse_nothing(state: &StateDir, anchors: &Anchors) -> Result<(), CliError> {
    if !state.runs()?.is_empty() || state.index(&[])?.is_some() {
        return Ok(());
    }
    let had = match (anchors.is_empty(), has_keys(state)) {
        (false, _) => "there are anchors of its records",
        (true, true) => "it has signing keys",
        (true, false) => return Err(nothing_in(state.root())),
    };
    let message = format!(
        "{} has neither a record nor an index, but {had}: they were removed, or no run ever started; nothing was verified",
        state.root().display()
    );
    Err(CliError::new(Exit::JournalInvalid, message)
        .hint("copy the directory; restore runs/ and index.jsonl from a backup, and verify those"))
}

/// The end of a verification that found nothing to verify.
fn nothing_in(root: &Path) -> CliError {
    let message = format!("no runs in {}; nothing was verified", root.display());
    CliError::new(Exit::Usage, message).hint("name the directory that has them: --state DIR")
}

fn of_run(
    state: &StateDir,
    run: &str,
    mut index: Option<Index>,
    trusted: &VerifyingKeys,
    anchors: &Anchors,
) -> Result<Verdict, CliError> {
    let mut found = state.examine(run, index.as_ref(), trusted, anchors)?;
    // Between reading the index and the journal a live run may have gone from one into the other.
    while found.report.fault.is_some() || matches!(found.cover, Cover::Unknown | Cover::Closing) {
        let now = state.examine_index(trusted, anchors)?.map(|(index, _)| index);
        if now.as_ref().map(Index::records) == index.as_ref().map(Index::records) {
            break;
        }
        index = now;
        found = state.examine(run, index.as_ref(), trusted, anchors)?;
    }
    let live = state.is_live(run);
    let path = found.archive.as_ref().map_or_else(|| state.journal_path(run), |(path, _)| path.clone());
    let mut words = Words::of(&path, &found);
    let records = found.report.records;
    match found.cover {
        Cover::NoIndex => words.less(
            "there is no index, so verify cannot tell whether the run was replaced or cut off after a checkpoint, or whether other runs were removed. The next run starts an index, which covers this run from then on",
        ),
        Cover::Unknown => words.less(&format!(
            "the index does not list the run yet; the run has done nothing. A crash causes this: stanch resume {run}"
        )),
        Cover::Closing if live => words.less("the run has just ended; verify again"),
        Cover::Closing => words.less(&format!(
            "the run has ended, but the index does not record its end. A crash causes this: stanch resume {run}"
        )),
        Cover::Open => words.more(&format!(
            "The run is open. Only an anchor can show that the record was cut back to an older checkpoint: stanch audit anchor {run}"
        )),
        Cover::Closed => words.more(&format!("The run has ended, and the index confirms its end: {records} records.")),
        Cover::Away => {
            let why = found.archive.as_ref().and_then(|(_, why)| why.clone()).unwrap_or_default();
            words.less(&format!("the run is in the archive {}, which cannot be read: {why}. Make it reachable there, and verify again", path.display()));
        }
    }
    if found.archive.is_some() {
        words.more(&format!("It is in an archive: {}", path.display()));
    }
    Ok(words.verdict(run, &found, &format!("stanch audit show {run}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys and anchors may come through a pipe; one that nobody writes to must not hold up the command forever.
    #[test]
    fn a_pipe_that_nobody_writes_to_is_given_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
        let error = text(&pipe).expect_err("no answer");
        assert!(format!("{error:?}").contains("no answer within"), "{error:?}");
    }
}
