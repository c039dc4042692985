//! The state folder: keys, latches, what open runs hold, and the runs' own folders.
//!
//! ```text
//! <state>/version               the layout's version: 1, and 2 as soon as there is an index
//! <state>/lock                  held while the index is written, and while a run is opened
//! <state>/index.jsonl           see `index.rs`
//! <state>/halt                  the latch for all runs
//! <state>/keys/journal.key      signs checkpoints        (journal.vkey: its public half, and those before it)
//! <state>/keys/seal.key         the age identity that opens sealed secrets
//! <state>/open/RUN.json         the targets that an open run holds
//! <state>/runs/RUN/…            see `file.rs`
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::chain::Frontier;
use super::file::FileJournal;
use super::files::{create_secret, io, list, make_dir, read, remove, replace};
use super::index_file::IndexFile;
use super::key::VerifyingKeys;
use super::verify::{Report, Tail, verify, verify_quickly};
use super::{JournalError, Latch, Record, RollbackRequest, SealedEntry};
use crate::clock::Moment;
use crate::plan::Plan;
use crate::rotation::State;
use crate::secret::{Sealer, Secret};

/// The layout's version, once a folder has an index.
const LAYOUT: u32 = 2;
/// The version of a folder without one: no run was opened in it yet, or it is older than indexes.
const WITHOUT_INDEX: u32 = 1;

/// A state folder.
#[derive(Debug, Clone)]
pub struct StateDir {
    root: PathBuf,
}

/// A run, in short.
#[derive(Debug, Clone)]
pub struct RunSummary {
    /// The run's id.
    pub run: String,
    /// Its state, or why it cannot be read.
    pub state: Result<Box<State>, String>,
    /// Whether a process is working on it now.
    pub live: bool,
}

impl StateDir {
    /// Opens the folder, and makes it, private to its owner, where it is not there.
    ///
    /// # Errors
    /// When it cannot be made or read, or has another version.
    pub fn open(root: &Path) -> Result<Self, JournalError> {
        let dir = Self { root: root.to_owned() };
        make_dir(root)?;
        for name in ["keys", "open", "runs"] {
            make_dir(&root.join(name))?;
        }
        if dir.version()?.is_none() {
            replace(&root.join("version"), &format!("{WITHOUT_INDEX}\n"))?;
        }
        Ok(dir)
    }

    /// A folder to read, of which nothing is made or changed.
    ///
    /// # Errors
    /// When it is not there, or has another version.
    pub fn look(root: &Path) -> Result<Self, JournalError> {
        fs::metadata(root).map_err(io("look at", root))?;
        let dir = Self { root: root.to_owned() };
        dir.version()?;
        Ok(dir)
    }

    /// The layout's version, where the folder says one.
    fn version(&self) -> Result<Option<u32>, JournalError> {
        let Some(found) = read(&self.root.join("version"))? else { return Ok(None) };
        match found.trim().parse() {
            Ok(version @ (WITHOUT_INDEX | LAYOUT)) => Ok(Some(version)),
            _ => {
                let found = crate::provider::outcome::tame(&found);
                Err(JournalError::OtherVersion { path: self.root.clone(), found, expected: LAYOUT })
            }
        }
    }

    /// Whether the folder says that it has an index, so that its removal shows.
    pub(super) fn has_index(&self) -> Result<bool, JournalError> {
        Ok(self.version()? == Some(LAYOUT))
    }

    pub(super) fn set_has_index(&self) -> Result<(), JournalError> {
        if self.has_index()? { Ok(()) } else { replace(&self.root.join("version"), &format!("{LAYOUT}\n")) }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The world of the sandbox.
    pub fn sandbox(&self) -> PathBuf {
        self.root.join("sandbox")
    }

    /// Refuses a folder whose disk could fill in the middle of a run.
    ///
    /// # Errors
    /// When there is too little room, or it cannot be asked.
    pub fn check_room(&self, steps: usize) -> Result<(), JournalError> {
        // A step leaves two records of about 700 bytes; tries, gates and checkpoints leave more. Ten
        // times that, and never less than 16 MiB, since a full disk stops a run halfway.
        let needed = 16 + ((steps as u64 * 14_000) >> 20);
        let stat = rustix::fs::statvfs(&self.root).map_err(|e| io("look at", &self.root)(e.into()))?;
        let free = (stat.f_bavail * stat.f_frsize) >> 20;
        if free < needed {
            return Err(JournalError::NoRoom { path: self.root.clone(), free, needed });
        }
        Ok(())
    }

    /// What opens sealed secrets. The identity stands outside the runs' folders.
    ///
    /// # Errors
    /// When it cannot be read or made.
    pub fn sealer(&self) -> Result<Sealer, JournalError> {
        let path = self.root.join("keys/seal.key");
        if !path.exists() {
            let (_, identity) = Sealer::generate();
            create_secret(&path, &identity)?;
        }
        let text = Secret::new(read(&path)?.unwrap_or_default());
        Sealer::from_identity(&text).map_err(|source| JournalError::Identity { path, source })
    }

    /// A run's sealed secrets, oldest first; none once it is over.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn sealed(&self, run: &str) -> Result<Vec<SealedEntry>, JournalError> {
        let path = self.sealed_path(run);
        if !path.exists() {
            return Ok(Vec::new());
        }
        let reader = BufReader::new(File::open(&path).map_err(io("open", &path))?);
        let mut entries = Vec::new();
        for line in reader.lines() {
            // A torn line is not an entry: its secret was never used.
            if let Ok(entry) = serde_json::from_str(&line.map_err(io("read", &path))?) {
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    pub(super) fn sealed_path(&self, run: &str) -> PathBuf {
        self.run_dir(run).join("sealed.jsonl")
    }

    /// Opens a new run: refuses when an open run holds one of the plan's targets, and otherwise
    /// holds them and writes the first record.
    ///
    /// # Errors
    /// When a target is held, or something cannot be written.
    pub fn create(
        &self,
        plan: &Arc<Plan>,
        reason: Option<String>,
        who: (&str, &str),
        at: Moment,
    ) -> Result<FileJournal, JournalError> {
        let mut index = IndexFile::open(self, who, at)?;
        index.heal()?;
        let holds = plan.holds();
        if let Some((target, run)) = self.held(&holds)? {
            return Err(JournalError::Held { target, run });
        }
        let run = run_id(&plan.runbook.name, at);
        let hold = self.hold_path(&run);
        replace(&hold, &serde_json::to_string(&holds).expect("a map of texts is always JSON"))?;
        make_dir(&self.run_dir(&run))?;
        // Where this fails the hold stays: the first record may well be durable, and then the run is
        // open. `held` removes it where no run began.
        FileJournal::create(self, &run, plan, reason, who, at, &mut index)
    }

    /// The first of the targets that an open run holds.
    fn held(&self, wanted: &BTreeMap<String, String>) -> Result<Option<(String, String)>, JournalError> {
        for entry in list(&self.root.join("open"))? {
            let Some(run) = entry.strip_suffix(".json") else { continue };
            let path = self.hold_path(run);
            let Some(text) = read(&path)? else { continue };
            let held: BTreeMap<String, String> = serde_json::from_str(&text)
                .map_err(|source| JournalError::Damaged { path: path.clone(), source })?;
            let Some(target) = wanted.keys().find(|t| held.contains_key(*t)) else { continue };
            // A crash may have left the hold of a run that never began, or is over already.
            let over = match self.load(run) {
                Ok((state, _)) => state.end().is_some(),
                Err(JournalError::NoSuchRun(_)) => true,
                // What cannot be read may well be in the middle of something.
                Err(JournalError::Invalid { .. }) => self.never_began(run)?,
                Err(other) => return Err(other),
            };
            if over {
                remove(&self.run_dir(run).join("sealed.jsonl"))?;
                fs::remove_file(&path).map_err(io("remove", &path))?;
            } else {
                return Ok(Some((target.clone(), run.to_owned())));
            }
        }
        Ok(None)
    }

    /// Whether a crash came before a run's first record was whole: nothing was done in it.
    pub(super) fn never_began(&self, run: &str) -> Result<bool, JournalError> {
        let path = self.journal_path(run);
        let mut reader = std::io::BufReader::new(File::open(&path).map_err(io("open", &path))?);
        let first = std::io::BufRead::skip_until(&mut reader, b'\n').map_err(io("read", &path))?;
        let whole = first > 0 && {
            let mut last = [0];
            use std::os::unix::fs::FileExt as _;
            let at = first as u64 - 1;
            reader.get_ref().read_exact_at(&mut last, at).map_err(io("read", &path))?;
            last == *b"\n"
        };
        Ok(!whole && !self.is_live(run))
    }

    /// Takes up a run: takes its lock, checks its journal, and folds it.
    ///
    /// # Errors
    /// When another process has it, or its journal is not good.
    pub fn resume(
        &self,
        run: &str,
        who: (&str, &str),
        at: Moment,
    ) -> Result<(FileJournal, State), JournalError> {
        if !self.journal_path(run).exists() {
            return Err(JournalError::NoSuchRun(run.into()));
        }
        let mut index = IndexFile::open(self, who, at)?;
        FileJournal::resume(self, run, who, at, &mut index)
    }

    /// Reads a run without touching it: its state, and what verification found.
    ///
    /// # Errors
    /// When there is no such run, or its journal is not good.
    pub fn load(&self, run: &str) -> Result<(State, Report), JournalError> {
        let mut folded = Folding::default();
        let (report, _) = self.scan(run, &mut |record, _| folded.push(record))?;
        Ok((folded.finish(run, &report)?, report))
    }

    /// Checks a run's journal, handing every good record to `each`.
    ///
    /// # Errors
    /// When there is no such run, or reading fails.
    pub fn audit(&self, run: &str, mut each: impl FnMut(Record)) -> Result<Report, JournalError> {
        self.audit_lines(run, |record, _| each(record))
    }

    /// As [`StateDir::audit`], with the line that each record stands in, without its newline.
    ///
    /// # Errors
    /// As for `audit`.
    pub fn audit_lines(
        &self,
        run: &str,
        mut each: impl FnMut(Record, &[u8]),
    ) -> Result<Report, JournalError> {
        self.scan(run, &mut each).map(|(report, _)| report)
    }

    /// Checks a run's journal. Finds what [`StateDir::audit`] finds, in a fraction of the time.
    ///
    /// # Errors
    /// As for `audit`.
    pub fn verify(&self, run: &str) -> Result<Report, JournalError> {
        self.verify_with(run, Frontier::default(), None).map(|(report, _)| report)
    }

    /// As `verify`, with a tree that remembers some of its roots, and with one key where it is known
    /// which.
    pub(super) fn verify_with(
        &self,
        run: &str,
        frontier: Frontier,
        keys: Option<VerifyingKeys>,
    ) -> Result<(Report, Tail), JournalError> {
        let (reader, keys) = self.open_journal(run, keys)?;
        let (report, tail) =
            verify_quickly(reader, frontier, &keys).map_err(io("read", &self.journal_path(run)))?;
        Ok((report.about(run), tail))
    }

    fn scan(&self, run: &str, each: &mut dyn FnMut(Record, &[u8])) -> Result<(Report, Tail), JournalError> {
        self.scan_with(run, Frontier::default(), None, each)
    }

    /// As `audit_lines`, with a tree that remembers some of its roots, and with one key where it is
    /// known which.
    pub(super) fn scan_with(
        &self,
        run: &str,
        frontier: Frontier,
        keys: Option<VerifyingKeys>,
        each: &mut dyn FnMut(Record, &[u8]),
    ) -> Result<(Report, Tail), JournalError> {
        let (reader, keys) = self.open_journal(run, keys)?;
        let (report, tail) =
            verify(reader, frontier, &keys, each).map_err(io("read", &self.journal_path(run)))?;
        Ok((report.about(run), tail))
    }

    fn open_journal(
        &self,
        run: &str,
        keys: Option<VerifyingKeys>,
    ) -> Result<(std::io::BufReader<File>, VerifyingKeys), JournalError> {
        let path = self.journal_path(run);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Err(JournalError::NoSuchRun(run.into())),
            Err(e) => return Err(io("open", &path)(e)),
        };
        let keys = keys.map_or_else(|| self.verifying_keys(), Ok)?;
        Ok((std::io::BufReader::with_capacity(1 << 18, file), keys))
    }

    /// All runs, by name.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn runs(&self) -> Result<Vec<String>, JournalError> {
        let folder = self.root.join("runs");
        // A folder that is only read may have none.
        let mut runs = if folder.exists() { list(&folder)? } else { Vec::new() };
        runs.retain(|r| self.journal_path(r).exists());
        runs.sort_unstable();
        Ok(runs)
    }

    /// The runs that are not over, by name; a crash may have left one that is. However many runs are over,
    /// this takes no longer.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn open_runs(&self) -> Result<Vec<String>, JournalError> {
        let folder = self.root.join("open");
        let holds = if folder.exists() { list(&folder)? } else { Vec::new() };
        let runs = holds.iter().filter_map(|file| file.strip_suffix(".json")).map(str::to_owned);
        Ok(runs.filter(|run| self.journal_path(run).exists()).collect())
    }

    /// A run, in short.
    pub fn summary(&self, run: &str) -> RunSummary {
        let state = self.load(run).map(|(state, _)| Box::new(state)).map_err(|e| e.to_string());
        RunSummary { run: run.to_owned(), state, live: self.is_live(run) }
    }

    /// Whether a process is working on the run.
    pub fn is_live(&self, run: &str) -> bool {
        File::open(self.lock_path(run)).is_ok_and(|f| f.try_lock_shared().is_err())
    }

    /// The run that a name, or the beginning of one, means; without one the only open run.
    ///
    /// # Errors
    /// When it means none, or several.
    pub fn find(&self, name: Option<&str>) -> Result<String, JournalError> {
        let fits = match name {
            Some(name) if !name.contains('/') && self.journal_path(name).exists() => {
                return Ok(name.to_owned());
            }
            Some(name) => self.runs()?.into_iter().filter(|r| r.starts_with(name)).collect(),
            None => self.open_runs()?,
        };
        match (fits.len(), name) {
            (0, None) => Err(JournalError::NoOpenRun),
            (0, Some(name)) => Err(JournalError::NoSuchRun(name.to_owned())),
            (1, _) => Ok(fits.into_iter().next().unwrap_or_default()),
            (_, None) => Err(JournalError::SeveralOpen(fits)),
            (_, Some(name)) => Err(JournalError::Ambiguous { name: name.to_owned(), runs: fits }),
        }
    }

    /// As [`StateDir::find`]; without a name and without an open run, the run that began last.
    ///
    /// # Errors
    /// As for `find`.
    pub fn find_any(&self, name: Option<&str>) -> Result<String, JournalError> {
        match (self.find(name), name) {
            (Err(JournalError::NoOpenRun), None) => {
                let began = |run: &String| {
                    fs::metadata(self.lock_path(run)).and_then(|m| m.created().or_else(|_| m.modified())).ok()
                };
                let last = self.runs()?.into_iter().max_by_key(began);
                last.ok_or(JournalError::NoOpenRun)
            }
            (found, _) => found,
        }
    }

    /// Sets the latch: on one run, or on all.
    ///
    /// # Errors
    /// When it cannot be made durable.
    pub fn set_latch(&self, run: Option<&str>, latch: &Latch) -> Result<(), JournalError> {
        let text = serde_json::to_string(latch).expect("a latch is always JSON");
        replace(&self.latch_path(run), &text)
    }

    /// Takes the latch off. Returns whether it was set.
    ///
    /// # Errors
    /// When it cannot be taken off durably.
    pub fn clear_latch(&self, run: Option<&str>) -> Result<bool, JournalError> {
        remove(&self.latch_path(run))
    }

    /// The latch on a run, or on all.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn latch(&self, run: Option<&str>) -> Result<Option<Latch>, JournalError> {
        let path = self.latch_path(run);
        let Some(text) = read(&path)? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|source| JournalError::Damaged { path, source })
    }

    /// Asks the process that works on a run to roll back.
    ///
    /// # Errors
    /// When the request cannot be left.
    pub fn request(&self, run: &str, request: &RollbackRequest) -> Result<(), JournalError> {
        let text = serde_json::to_string(request).expect("a request is always JSON");
        replace(&self.request_path(run), &text)
    }

    /// Takes a request back that no process has taken.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn withdraw(&self, run: &str) -> Result<bool, JournalError> {
        remove(&self.request_path(run))
    }

    fn latch_path(&self, run: Option<&str>) -> PathBuf {
        run.map_or_else(|| self.root.join("halt"), |run| self.run_dir(run).join("halt"))
    }

    pub(super) fn request_path(&self, run: &str) -> PathBuf {
        self.run_dir(run).join("request.json")
    }

    pub(super) fn run_dir(&self, run: &str) -> PathBuf {
        self.root.join("runs").join(run)
    }

    /// A run's journal.
    pub fn journal_path(&self, run: &str) -> PathBuf {
        self.run_dir(run).join("journal.jsonl")
    }

    pub(super) fn lock_path(&self, run: &str) -> PathBuf {
        self.run_dir(run).join("lock")
    }

    pub(super) fn hold_path(&self, run: &str) -> PathBuf {
        self.root.join("open").join(format!("{run}.json"))
    }
}

/// Folds records into a state.
#[derive(Default)]
pub(super) struct Folding {
    state: Option<State>,
    bad: Option<(u64, crate::rotation::IllegalTransition)>,
}

impl Folding {
    pub(super) fn push(&mut self, record: Record) {
        use crate::rotation::Event;
        if self.bad.is_some() {
            return;
        }
        match (&mut self.state, record.event) {
            (None, Event::Opened { plan, .. }) => {
                // No signature covers it yet where a crash came early, so it is not taken on trust.
                if let Err(state) = plan.whole() {
                    let (event, subject) = ("opened", "the plan".to_owned());
                    self.bad = Some((0, crate::rotation::IllegalTransition { event, subject, state }));
                    return;
                }
                self.state = Some(State::new(Arc::from(plan), record.envelope.wall));
            }
            (None, _) => {}
            (Some(state), event) => {
                if let Err(e) = state.apply(&event, record.envelope.wall) {
                    self.bad = Some((record.envelope.seq, e));
                }
            }
        }
    }

    pub(super) fn finish(self, run: &str, report: &Report) -> Result<State, JournalError> {
        if let Some(fault) = &report.fault {
            return Err(JournalError::Invalid { run: run.into(), fault: fault.clone() });
        }
        if let Some((seq, source)) = self.bad {
            return Err(JournalError::Nonsense { run: run.into(), seq, source });
        }
        self.state.ok_or_else(|| JournalError::NoSuchRun(run.into()))
    }
}

/// A run's id: the runbook's name, the moment, and eight random digits, so that two runs that
/// begin in the same second on two machines differ. It tags what the run issues, and what carries
/// the tag and is not kept is revoked: fifty jobs of one second would share a tag of four digits in
/// one case of fifty.
fn run_id(runbook: &str, at: Moment) -> String {
    let salt: u32 = rand::random();
    format!("{runbook}-{}-{salt:08x}", at.wall.strftime("%Y%m%d-%H%M%S"))
}
