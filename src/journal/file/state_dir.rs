//! The state folder: keys, latches, what open runs hold, and the runs' own folders.
//!
//! ```text
//! <state>/version               the layout's version: 1, and 2 as soon as there is an index
//! <state>/lock                  held while the index is written, and while a run is opened
//! <state>/index.jsonl           see `../index.rs`
//! <state>/halt                  the latch for all runs
//! <state>/keys/journal.key      signs checkpoints        (journal.vkey: its public half, and those before it)
//! <state>/keys/seal.key         the age identity that opens sealed secrets
//! <state>/open/RUN.json         the targets that an open run holds
//! <state>/runs/RUN/…            see `journal.rs`
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::files::{damaged, io, list, make_dir, place, read, remove, replace};
use super::sealing::SealingKey;
use crate::approve::Signed;
use crate::journal::{Latch, LedgerError, RollbackRequest, SealedEntry};
use crate::secret::Sealer;

/// The layout's version, once a folder has an index.
const LAYOUT: u32 = 2;
/// The version of a folder without one: no run was opened in it yet, or it is older than indexes.
const WITHOUT_INDEX: u32 = 1;

/// A state folder.
#[derive(Debug, Clone)]
pub struct StateDir {
    root: PathBuf,
}

impl StateDir {
    /// Opens the folder, and makes it, private to its owner, where it is not there.
    ///
    /// # Errors
    /// When it cannot be made or read, or has another version.
    pub fn open(root: &Path) -> Result<Self, LedgerError> {
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
    pub fn look(root: &Path) -> Result<Self, LedgerError> {
        fs::metadata(root).map_err(io("read", root))?;
        let dir = Self { root: root.to_owned() };
        dir.version()?;
        Ok(dir)
    }

    /// The layout's version, where the folder says one.
    fn version(&self) -> Result<Option<u32>, LedgerError> {
        let Some(found) = read(&self.root.join("version"))? else { return Ok(None) };
        match found.trim().parse() {
            Ok(version @ (WITHOUT_INDEX | LAYOUT)) => Ok(Some(version)),
            _ => {
                let found = crate::text::sanitize(&found);
                Err(LedgerError::OtherVersion { place: place(&self.root), found, expected: LAYOUT })
            }
        }
    }

    /// Whether the folder says that it has an index, so that its removal shows.
    pub(super) fn has_index(&self) -> Result<bool, LedgerError> {
        Ok(self.version()? == Some(LAYOUT))
    }

    pub(super) fn set_has_index(&self) -> Result<(), LedgerError> {
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
    pub fn check_room(&self, steps: usize) -> Result<(), LedgerError> {
        // A step leaves two records of about 700 bytes; tries, gates and checkpoints leave more. Ten
        // times that, and never less than 16 MiB, since a full disk stops a run halfway.
        let needed = 16 + ((steps as u64 * 14_000) >> 20);
        let stat = rustix::fs::statvfs(&self.root).map_err(|e| io("read", &self.root)(e.into()))?;
        let free = (stat.f_bavail * stat.f_frsize) >> 20;
        if free < needed {
            return Err(LedgerError::NoRoom { place: place(&self.root), free, needed });
        }
        Ok(())
    }

    /// What seals and opens secrets, see [`SealingKey`].
    ///
    /// # Errors
    /// When it cannot be read or made.
    pub fn sealer(&self) -> Result<Sealer, LedgerError> {
        SealingKey::of(&self.root).sealer()
    }

    /// Destroys a run's sealed secrets.
    pub(super) fn remove_sealed(&self, run: &str) -> Result<(), LedgerError> {
        let path = self.sealed_path(run);
        if let Ok(file) = fs::OpenOptions::new().write(true).open(&path) {
            // The seals are encrypted; emptying them first is for file systems that undelete.
            file.set_len(0).and_then(|()| file.sync_all()).map_err(io("empty", &path))?;
        }
        remove(&path).map(drop)
    }

    /// A run's sealed secrets, oldest first; none once it is over.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn sealed(&self, run: &str) -> Result<Vec<SealedEntry>, LedgerError> {
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

    /// Whether a crash came before a run's first record was whole: nothing was done in it.
    pub(super) fn never_began(&self, run: &str) -> Result<bool, LedgerError> {
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

    /// All runs, by name.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn runs(&self) -> Result<Vec<String>, LedgerError> {
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
    pub fn open_runs(&self) -> Result<Vec<String>, LedgerError> {
        let folder = self.root.join("open");
        let holds = if folder.exists() { list(&folder)? } else { Vec::new() };
        let runs = holds.iter().filter_map(|file| file.strip_suffix(".json")).map(str::to_owned);
        Ok(runs.filter(|run| self.journal_path(run).exists()).collect())
    }

    /// Refuses a name that no run here has.
    pub(super) fn known(&self, run: &str) -> Result<(), LedgerError> {
        if self.journal_path(run).exists() {
            return Ok(());
        }
        Err(match self.index(&[])?.as_ref().and_then(|index| index.archive_of(run)) {
            Some(place) => LedgerError::Archived { run: run.into(), place: place.to_owned() },
            None => LedgerError::NotFound(run.into()),
        })
    }

    /// Whether a process is working on the run; not so where it cannot be told.
    pub fn is_live(&self, run: &str) -> bool {
        self.try_is_live(run).unwrap_or(false)
    }

    /// Whether a process is working on the run.
    pub(super) fn try_is_live(&self, run: &str) -> Result<bool, LedgerError> {
        let path = self.lock_path(run);
        let file = match File::open(&path) {
            // A copy of a run may lack the lock: whoever works on a run has made it.
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            opened => opened.map_err(io("open", &path))?,
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(e)) => Err(io("lock", &path)(e)),
        }
    }

    /// Sets the latch: on one run, or on all.
    ///
    /// # Errors
    /// When it cannot be made durable.
    pub fn set_latch(&self, run: Option<&str>, latch: &Latch) -> Result<(), LedgerError> {
        let text = serde_json::to_string(latch).expect("a latch is always JSON");
        replace(&self.latch_path(run), &text)
    }

    /// Takes the latch off. Returns whether it was set.
    ///
    /// # Errors
    /// When it cannot be taken off durably.
    pub fn clear_latch(&self, run: Option<&str>) -> Result<bool, LedgerError> {
        remove(&self.latch_path(run))
    }

    /// The latch on a run, or on all.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn latch(&self, run: Option<&str>) -> Result<Option<Latch>, LedgerError> {
        let path = self.latch_path(run);
        let Some(text) = read(&path)? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(damaged(&path))
    }

    /// Asks the process that works on a run to roll back.
    ///
    /// # Errors
    /// When the request cannot be left.
    pub fn request(&self, run: &str, request: &RollbackRequest) -> Result<(), LedgerError> {
        let text = serde_json::to_string(request).expect("a request is always JSON");
        replace(&self.request_path(run), &text)
    }

    /// Takes a request back that no process has taken.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn withdraw(&self, run: &str) -> Result<bool, LedgerError> {
        remove(&self.request_path(run))
    }

    /// Leaves an approval for the process that works on a run: a file of its own each, whose name tells the same one
    /// from another.
    ///
    /// # Errors
    /// When it cannot be left.
    pub fn leave_approval(&self, run: &str, approval: &Signed) -> Result<(), LedgerError> {
        let folder = self.approvals_path(run);
        make_dir(&folder)?;
        let text = serde_json::to_string(approval).expect("an approval is always JSON");
        let name = hex::encode(&Sha256::digest(&text)[..8]);
        replace(&folder.join(format!("{name}.json")), &text)
    }

    pub(super) fn approvals_path(&self, run: &str) -> PathBuf {
        self.run_dir(run).join("approvals")
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
