//! One run's files: the journal itself, the lock, the sealed secrets, the latch and the request.

use std::fs::File;
use std::io::{BufRead as _, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::chain::{Frontier, NO_PREVIOUS, leaf};
use super::key::SigningKey;
use super::record::{self, Envelope, VERSION};
use super::state_dir::{Folding, StateDir, io, private_file, read, remove, sync_dir};
use super::{Journal, JournalError, Latch, RollbackRequest, SealedEntry};
use crate::clock::Moment;
use crate::plan::Plan;
use crate::rotation::{Event, State};

/// A checkpoint comes at the latest after so many records: what a crash can leave without a
/// signature stays small, and a signature is still rare beside an fsync.
const CHECKPOINT_EVERY: u64 = 256;

/// How long a lock may stay held by a process that is about to be gone.
const LOCK_PATIENCE: Duration = Duration::from_millis(400);

/// A run's journal in a file, with its lock held.
pub struct FileJournal {
    dir: StateDir,
    run: String,
    path: PathBuf,
    file: File,
    /// Held, and so never read: closing it gives the lock back.
    _lock: File,
    key: SigningKey,
    digest: String,
    actor: String,
    host: String,
    frontier: Frontier,
    previous: tlog_tiles::Hash,
    since_checkpoint: u64,
    poisoned: bool,
}

impl FileJournal {
    pub(super) fn create(
        dir: &StateDir,
        run: &str,
        plan: &Arc<Plan>,
        reason: Option<String>,
        (actor, host): (&str, &str),
        at: Moment,
    ) -> Result<Self, JournalError> {
        let lock = lock(dir, run, actor, host)?;
        let path = dir.journal_path(run);
        let file = private_file(&path, true)?;
        let mut journal = Self {
            dir: dir.clone(),
            run: run.to_owned(),
            path,
            file,
            _lock: lock,
            key: dir.signing_key()?,
            digest: plan.digest(),
            actor: actor.to_owned(),
            host: host.to_owned(),
            frontier: Frontier::default(),
            previous: NO_PREVIOUS,
            since_checkpoint: 0,
            poisoned: false,
        };
        journal.commit(at, &[Event::Opened { plan: Box::new((**plan).clone()), reason }])?;
        // The names must be as durable as what they name.
        sync_dir(&dir.run_dir(run))?;
        sync_dir(&dir.root().join("runs"))?;
        Ok(journal)
    }

    pub(super) fn resume(
        dir: &StateDir,
        run: &str,
        (actor, host): (&str, &str),
        at: Moment,
    ) -> Result<(Self, State), JournalError> {
        if !dir.journal_path(run).exists() {
            return Err(JournalError::NoSuchRun(run.into()));
        }
        let lock = lock(dir, run, actor, host)?;
        let mut folded = Folding::default();
        let (report, tail) = dir.scan(run, &mut |record| folded.push(record))?;
        let mut state = folded.finish(run, &report)?;
        let path = dir.journal_path(run);
        let mut file = private_file(&path, false)?;
        let repaired =
            (report.torn > 0).then(|| cut(&mut file, tail.end)).transpose().map_err(io("repair", &path))?;
        let mut journal = Self {
            dir: dir.clone(),
            run: run.to_owned(),
            path,
            file,
            _lock: lock,
            key: dir.signing_key()?,
            digest: tail.digest,
            actor: actor.to_owned(),
            host: host.to_owned(),
            frontier: tail.frontier,
            previous: tail.previous,
            since_checkpoint: tail.since_checkpoint,
            poisoned: false,
        };
        if let Some(repaired) = repaired {
            journal.commit(at, std::slice::from_ref(&repaired))?;
            state.apply(&repaired, at.wall).map_err(|source| JournalError::Nonsense {
                run: run.into(),
                seq: report.records,
                source,
            })?;
        }
        Ok((journal, state))
    }

    fn envelope(&self, at: Moment) -> Envelope {
        Envelope {
            v: VERSION,
            run: self.run.clone(),
            seq: self.frontier.leaves(),
            prev: hex::encode(self.previous.0),
            wall: at.wall,
            mono_ms: at.mono_ms,
            actor: self.actor.clone(),
            host: self.host.clone(),
            plan: self.digest.clone(),
        }
    }

    fn push(&mut self, envelope: &Envelope, event: &Event, lines: &mut Vec<u8>) {
        let start = lines.len();
        record::write(envelope, event, lines);
        self.previous = leaf(&lines[start..]);
        self.frontier.push(self.previous);
        self.since_checkpoint += 1;
        lines.push(b'\n');
    }

    fn append(&mut self, at: Moment, events: &[Event]) -> Result<(), JournalError> {
        let mut lines = Vec::with_capacity(events.len() * 512);
        let mut due = false;
        for event in events {
            self.push(&self.envelope(at), event, &mut lines);
            due |= matches!(
                event,
                Event::Entered { .. }
                    | Event::Turned { .. }
                    | Event::Returned { .. }
                    | Event::Halted { .. }
                    | Event::HaltCleared { .. }
                    | Event::Resolved { .. }
                    | Event::Repaired { .. }
                    | Event::Stopped { .. }
                    | Event::Closed { .. }
            );
        }
        if due || self.since_checkpoint >= CHECKPOINT_EVERY {
            let envelope = self.envelope(at);
            let note = self
                .key
                .sign(&self.run, self.frontier.leaves(), self.frontier.root(), &envelope.about())
                .map_err(|source| JournalError::Key { path: self.path.clone(), source })?;
            self.push(&envelope, &Event::Checkpoint { note }, &mut lines);
            self.since_checkpoint = 0;
        }
        self.file.write_all(&lines).map_err(io("append to", &self.path))?;
        self.file.sync_data().map_err(io("append to", &self.path))
    }

    fn sealed_path(&self) -> PathBuf {
        self.dir.run_dir(&self.run).join("sealed.jsonl")
    }
}

impl Journal for FileJournal {
    fn run(&self) -> &str {
        &self.run
    }

    fn commit(&mut self, at: Moment, events: &[Event]) -> Result<(), JournalError> {
        if self.poisoned {
            return Err(JournalError::Poisoned);
        }
        if events.is_empty() {
            return Ok(());
        }
        // After a failed write or fsync nobody knows what the disk holds: a later success would not
        // mean that this one's bytes are there.
        self.poisoned = true;
        self.append(at, events)?;
        self.poisoned = false;
        Ok(())
    }

    fn latch(&self) -> Result<Option<Latch>, JournalError> {
        match self.dir.latch(None)? {
            Some(latch) => Ok(Some(latch)),
            None => self.dir.latch(Some(&self.run)),
        }
    }

    fn take_request(&mut self) -> Result<Option<RollbackRequest>, JournalError> {
        let path = self.dir.request_path(&self.run);
        let Some(text) = read(&path)? else { return Ok(None) };
        let request = serde_json::from_str(&text)
            .map_err(|source| JournalError::Damaged { path: path.clone(), source });
        remove(&path)?;
        request.map(Some)
    }

    fn keep_sealed(&mut self, entries: &[SealedEntry]) -> Result<(), JournalError> {
        if entries.is_empty() {
            return Ok(());
        }
        let path = self.sealed_path();
        let fresh = !path.exists();
        let mut file = private_file(&path, true)?;
        let mut lines = String::new();
        if !ends_with_newline(&mut file).map_err(io("read", &path))? {
            // A crash tore the last entry; what it held was never used.
            lines.push('\n');
        }
        for entry in entries {
            lines.push_str(&serde_json::to_string(entry).expect("an entry is always JSON"));
            lines.push('\n');
        }
        file.write_all(lines.as_bytes()).and_then(|()| file.sync_data()).map_err(io("append to", &path))?;
        if fresh { sync_dir(&self.dir.run_dir(&self.run)) } else { Ok(()) }
    }

    fn sealed(&self) -> Result<Vec<SealedEntry>, JournalError> {
        let path = self.sealed_path();
        if !path.exists() {
            return Ok(Vec::new());
        }
        let reader = std::io::BufReader::new(File::open(&path).map_err(io("open", &path))?);
        let mut entries = Vec::new();
        for line in reader.lines() {
            // A torn line is not an entry: its secret was never used.
            if let Ok(entry) = serde_json::from_str(&line.map_err(io("read", &path))?) {
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    fn close(&mut self) -> Result<(), JournalError> {
        let path = self.sealed_path();
        if let Ok(file) = std::fs::OpenOptions::new().write(true).open(&path) {
            // The seals are encrypted; emptying them first is for file systems that undelete.
            file.set_len(0).and_then(|()| file.sync_all()).map_err(io("empty", &path))?;
        }
        remove(&path)?;
        remove(&self.dir.hold_path(&self.run)).map(drop)
    }
}

/// Takes a run's lock. It is the kernel's and ends with the process, however that ends.
fn lock(dir: &StateDir, run: &str, actor: &str, host: &str) -> Result<File, JournalError> {
    let path = dir.lock_path(run);
    let mut file = std::fs::OpenOptions::new();
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = file
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(io("open", &path))?;
    let mut waited = Duration::ZERO;
    let locked = loop {
        match file.try_lock() {
            // A process that was just killed holds its lock until the kernel has cleared it away.
            Err(std::fs::TryLockError::WouldBlock) if waited < LOCK_PATIENCE => {
                std::thread::sleep(LOCK_PATIENCE / 20);
                waited += LOCK_PATIENCE / 20;
            }
            other => break other,
        }
    };
    match locked {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            let mut by = String::new();
            let _ = (&mut file).take(512).read_to_string(&mut by);
            let by = crate::provider::outcome::tame(&by);
            return Err(JournalError::Locked { run: run.into(), by });
        }
        Err(std::fs::TryLockError::Error(e)) => return Err(io("lock", &path)(e)),
    }
    // Only for the message above; the lock is what counts.
    let _ = file
        .set_len(0)
        .and_then(|()| file.seek(SeekFrom::Start(0)))
        .and_then(|_| write!(file, "process {} of {actor} on {host}", std::process::id()));
    Ok(file)
}

/// Cuts what follows `end`, and says on the record what it was.
fn cut(file: &mut File, end: u64) -> std::io::Result<Event> {
    file.seek(SeekFrom::Start(end))?;
    let mut torn = Vec::new();
    file.read_to_end(&mut torn)?;
    file.set_len(end)?;
    file.sync_all()?;
    Ok(Event::Repaired { bytes: torn.len() as u64, sha256: hex::encode(Sha256::digest(&torn)) })
}

fn ends_with_newline(file: &mut File) -> std::io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}
