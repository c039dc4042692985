//! `stanch audit verify`: is the record what was written?
//!
//! Reads only, needs no private key, and makes nothing: it works on a copy, and on a disk that
//! cannot be written.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use crate::cli::context::state_folder;
use crate::cli::{CliError, Exit, Global, print, print_json};
use crate::journal::{
    Anchors, Cover, Examined, Fault, Index, LedgerError, StateDir, VerifyingKeys, examine_index_file,
    examine_journal_file,
};
use crate::provider::own_file;
use crate::text::counted;

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

/// What is said about one record.
pub(super) struct Verdict {
    pub(super) exit: Exit,
    pub(super) words: String,
    /// How many of its lines are good.
    pub(super) good: u64,
    anchors: u64,
    json: Value,
}

/// What is said about a run of a state folder: the run's own verdict is the last.
pub(super) fn of(state: &StateDir, run: &str) -> Result<Vec<Verdict>, CliError> {
    one(state, Some(run), None, &Anchors::default())
}

/// The worst of how they end.
pub(super) fn worst(verdicts: &[Verdict]) -> Exit {
    [Exit::JournalInvalid, Exit::Unanchored]
        .into_iter()
        .find(|exit| verdicts.iter().any(|verdict| verdict.exit == *exit))
        .unwrap_or(Exit::Done)
}

/// One run of a state folder.
fn one(
    state: &StateDir,
    name: Option<&str>,
    keys: Option<VerifyingKeys>,
    anchors: &Anchors,
) -> Result<Vec<Verdict>, CliError> {
    if keys.is_none() {
        refuse_nothing(state)?;
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
        refuse_nothing(state)?;
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
fn refuse_nothing(state: &StateDir) -> Result<(), CliError> {
    if !state.runs()?.is_empty() || state.index(&[])?.is_some() {
        return Ok(());
    }
    if !has_keys(state) {
        return Err(nothing_in(state.root()));
    }
    let message = format!(
        "{} has signing keys, but neither a record nor an index: they were removed, or no run ever started; nothing was verified",
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
    let mut words = Words::of(&state.journal_path(run), &found);
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
    }
    Ok(words.verdict(run, &found, &format!("stanch audit show {run}")))
}

fn of_journal(path: &Path, found: &Examined) -> Verdict {
    let mut words = Words::of(path, found);
    words.more(if found.over {
        "The run has ended: no record is missing at its end."
    } else {
        "The run had not ended here. Only an anchor, or the index of the state directory, can show that the record was cut back to an older checkpoint."
    });
    let run = found.report.run.clone().unwrap_or_default();
    words.verdict(&run, found, "compare it with the original")
}

/// What is said about a run's journal.
struct Words {
    path: PathBuf,
    exit: Exit,
    lines: Vec<String>,
    /// What a person who wants more than this does.
    less: Option<String>,
}

impl Words {
    fn of(path: &Path, found: &Examined) -> Self {
        let report = &found.report;
        let (exit, first) = if let Some(fault) = &report.fault {
            (Exit::JournalInvalid, not_good(path, fault, report.records, report.anchored))
        } else if report.unanchored() > 0 || report.torn > 0 {
            let torn = if report.torn > 0 {
                format!(", and {} bytes of a torn line", report.torn)
            } else {
                String::new()
            };
            let words = format!(
                "UNANCHORED: {} records are valid; no signature covers the last {}{torn}. A killed run leaves this; resuming it signs them",
                report.records,
                report.unanchored()
            );
            (Exit::Unanchored, words)
        } else {
            let anchors = match found.anchors {
                0 => String::new(),
                1 => ", confirmed by 1 anchor".into(),
                n => format!(", confirmed by {n} anchors"),
            };
            let (records, checkpoints) = (report.records, report.checkpoints);
            (Exit::Done, format!("OK: {records} records, {checkpoints} checkpoints, all signed{anchors}"))
        };
        Self { path: path.to_owned(), exit, lines: vec![first], less: None }
    }

    /// Adds a sentence, where nothing is wrong.
    fn more(&mut self, words: &str) {
        if self.exit == Exit::Done {
            self.lines.push(words.to_owned());
        }
    }

    /// Says what is not covered, which is never plain OK.
    fn less(&mut self, words: &str) {
        if self.exit == Exit::JournalInvalid {
            return;
        }
        self.exit = Exit::Unanchored;
        let first = &mut self.lines[0];
        if let Some(good) = first.strip_prefix("OK: ") {
            *first = format!("UNANCHORED: {good}");
        }
        first.push_str(&format!("; {words}"));
        self.less = Some(words.to_owned());
    }

    fn verdict(mut self, run: &str, found: &Examined, look: &str) -> Verdict {
        let report = &found.report;
        let next = "copy the state directory";
        if self.exit == Exit::JournalInvalid {
            self.lines.push(format!("Next: {next}; to see the valid part: {look}"));
        }
        let cover = match found.cover {
            Cover::NoIndex => "none",
            Cover::Unknown => "unknown",
            Cover::Open => "open",
            Cover::Closing => "closing",
            Cover::Closed => "closed",
        };
        let json = json!({
            "run": run,
            "path": self.path,
            "records": report.records,
            "checkpoints": report.checkpoints,
            "signed": report.anchored,
            "unanchored": report.unanchored(),
            "torn_bytes": report.torn,
            "over": found.over,
            "index": cover,
            "anchors": found.anchors,
            "not_covered": self.less,
            "fault": report.fault.as_ref().map(fault_json),
            "exit": self.exit.code(),
        });
        let good = good(report.records, report.fault.as_ref());
        Verdict { exit: self.exit, words: self.lines.join("\n"), good, anchors: found.anchors, json }
    }
}

fn of_index(path: &Path, index: &Index, agree: u64) -> Verdict {
    let (exit, words) = if let Some(fault) = index.fault() {
        (Exit::JournalInvalid, not_good(path, fault, index.records(), index.records()))
    } else if index.unsigned_bytes() > 0 {
        let words = format!(
            "UNANCHORED: the {} records of the index are valid; no signature covers the {} bytes after them. A crash causes this; the next run, or a resume, cuts them off and records that",
            index.records(),
            index.unsigned_bytes()
        );
        (Exit::Unanchored, words)
    } else {
        let counts = [
            (index.records(), "record"),
            (index.runs().count() as u64, "run"),
            (index.keys().len() as u64, "key"),
        ];
        let counts = counts.map(|(n, thing)| counted(n, thing)).join(", ");
        let anchors =
            if agree > 0 { format!(", confirmed by {agree} of the anchors") } else { String::new() };
        (Exit::Done, format!("OK: the index, {counts}, all signed{anchors}"))
    };
    let json = json!({
        "index": index.id(),
        "path": path,
        "records": index.records(),
        "runs": index.runs().count(),
        "keys": index.keys(),
        "unsigned_bytes": index.unsigned_bytes(),
        "anchors": agree,
        "fault": index.fault().map(fault_json),
        "exit": exit.code(),
    });
    Verdict { exit, words, good: good(index.records(), index.fault()), anchors: agree, json }
}

/// How many of the records are good: an anchor, or the index, may blame an earlier line than the lines
/// themselves do.
fn good(records: u64, fault: Option<&Fault>) -> u64 {
    fault.map_or(records, |fault| records.min(fault.line - 1))
}

/// The sentence that points at the first bad record.
fn not_good(path: &Path, fault: &Fault, records: u64, signed: u64) -> String {
    let good = good(records, Some(fault));
    let signed = signed.min(good);
    let rest = match (good, signed) {
        (0, _) => "you cannot rely on any of it".to_owned(),
        (good, signed) if good == signed => format!("lines 1 to {good} are valid"),
        (good, 0) => format!("lines 1 to {good} are consistent, but no signature covers them"),
        (good, signed) => {
            format!(
                "lines 1 to {signed} are valid; the lines up to {good} are consistent, but no signature covers them"
            )
        }
    };
    format!(
        "NOT VALID: {}: line {} (seq {}): {}; {rest}",
        path.display(),
        fault.line,
        fault.line - 1,
        fault.what
    )
}

fn fault_json(fault: &Fault) -> Value {
    json!({ "line": fault.line, "seq": fault.line - 1, "what": fault.what })
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
