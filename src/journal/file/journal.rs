//! One run's files: the journal itself, the lock, the sealed secrets, the latch and the request.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::files::{damaged, io, list, place, private_file, read, remove, sync_dir};
use super::index_file::IndexFile;
use super::state_dir::StateDir;
use crate::approve::Signed;
use crate::clock::Moment;
use crate::journal::chain::{Frontier, NO_PREVIOUS, leaf};
use crate::journal::index::Standing;
use crate::journal::key::{SigningKey, run_origin};
use crate::journal::record::{self, Envelope, VERSION};
use crate::journal::replay::Folding;
use crate::journal::{Fault, Journal, Latch, Latches, LedgerError, RollbackRequest, SealedEntry};
use crate::plan::Plan;
use crate::rotation::{Event, State};

/// A checkpoint comes at the latest after so many records: what a crash can leave without a
/// signature stays small, and a signature is still rare beside an fsync.
const CHECKPOINT_EVERY: u64 = 256;

/// And after so long, as soon as anything is recorded: a run that only waits records a heartbeat a
/// minute, and what it waited for is then signed too.
const CHECKPOINT_AFTER: Duration = Duration::from_secs(300);

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
    /// When this process last signed, or began.
    signed_ms: u64,
    /// The moment of the last append.
    last: Moment,
    poisoned: bool,
}

impl FileJournal {
    pub(super) fn create(
        dir: &StateDir,
        run: &str,
        plan: &Arc<Plan>,
        reason: Option<String>,
        who: (&str, &str),
        at: Moment,
        index: &mut IndexFile,
    ) -> Result<Self, LedgerError> {
        let lock = lock(dir, run, who)?;
        let file = private_file(&dir.journal_path(run), true)?;
        let mut journal = Self::empty(dir, run, who, at, lock, file, index, plan.digest());
        journal.commit(at, &[Event::Opened { plan: Box::new((**plan).clone()), reason }])?;
        // The names must be as durable as what they name.
        sync_dir(&dir.run_dir(run))?;
        sync_dir(&dir.root().join("runs"))?;
        // Nothing is done in a run that the index does not know: its removal would not show.
        index.opened(run, journal.previous)?;
        Ok(journal)
    }

    pub(super) fn resume(
        dir: &StateDir,
        run: &str,
        who: (&str, &str),
        at: Moment,
        index: &mut IndexFile,
    ) -> Result<(Self, State), LedgerError> {
        let lock = lock(dir, run, who)?;
        let standing = index.index().runs.get(run).cloned();
        let sizes = standing.iter().flat_map(Standing::sizes).chain([1]);
        let keys = index.index().key_of(run);
        let mut folded = Folding::default();
        let (report, tail) =
            dir.scan_with(run, Frontier::watching(sizes), Some(keys), &mut |record, _| folded.push(record))?;
        let mut state = folded.finish(run, &report)?;
        let fault = match &standing {
            Some(standing) => standing.contradiction(&tail.frontier, report.torn > 0),
            // A crash may have come right after the first record. More is never there: the index
            // comes before everything else.
            None => (report.records > 1).then(|| Fault {
                line: 2,
                what: "the index does not list this run: the run was placed here, or the index was cut off"
                    .into(),
            }),
        };
        if let Some(fault) = fault {
            return Err(LedgerError::Invalid { run: run.into(), fault });
        }
        if standing.is_none() {
            index.opened(run, tail.previous)?;
        }
        let path = dir.journal_path(run);
        let mut file = private_file(&path, false)?;
        let repaired =
            (report.torn > 0).then(|| cut(&mut file, tail.end)).transpose().map_err(io("repair", &path))?;
        let mut journal = Self {
            frontier: tail.frontier,
            previous: tail.previous,
            since_checkpoint: tail.since_checkpoint,
            ..Self::empty(dir, run, who, at, lock, file, index, tail.digest)
        };
        if let Some(repaired) = repaired {
            journal.commit(at, std::slice::from_ref(&repaired))?;
            state.apply(&repaired, at.wall).map_err(|source| LedgerError::Nonsense {
                run: run.into(),
                seq: report.records,
                source,
            })?;
        }
        if state.end().is_some() && journal.since_checkpoint > 0 {
            // A crash came between the last record and its signature, and nothing else will sign it.
            journal.append(at, &[], true)?;
        }
        Ok((journal, state))
    }

    /// A journal without a record, in an open file.
    #[expect(clippy::too_many_arguments, reason = "each is a field, and two constructors share them")]
    fn empty(
        dir: &StateDir,
        run: &str,
        (actor, host): (&str, &str),
        at: Moment,
        lock: File,
        file: File,
        index: &IndexFile,
        digest: String,
    ) -> Self {
        Self {
            dir: dir.clone(),
            run: run.to_owned(),
            path: dir.journal_path(run),
            file,
            _lock: lock,
            key: index.key().clone(),
            digest,
            actor: actor.to_owned(),
            host: host.to_owned(),
            frontier: Frontier::default(),
            previous: NO_PREVIOUS,
            since_checkpoint: 0,
            signed_ms: at.mono_ms,
            last: at,
            poisoned: false,
        }
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

    /// Appends events, and a checkpoint where one is due.
    fn append(&mut self, at: Moment, events: &[Event], mut due: bool) -> Result<(), LedgerError> {
        let mut lines = Vec::with_capacity(events.len() * 512);
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
        let idle = at.mono_ms.saturating_sub(self.signed_ms) >= CHECKPOINT_AFTER.as_millis() as u64;
        if due || idle || self.since_checkpoint >= CHECKPOINT_EVERY {
            let envelope = self.envelope(at);
            let note = self
                .key
                .sign(&run_origin(&self.run), self.frontier.leaves(), self.frontier.root(), &envelope.about())
                .map_err(|source| LedgerError::Key { place: place(&self.path), source })?;
            self.push(&envelope, &Event::Checkpoint { note }, &mut lines);
            self.since_checkpoint = 0;
            self.signed_ms = at.mono_ms;
        }
        self.last = at;
        self.file.write_all(&lines).map_err(io("append to", &self.path))?;
        self.file.sync_data().map_err(io("append to", &self.path))
    }

    /// Puts the run's end into the index, destroys the sealed secrets, and gives up what the run holds.
    pub(super) fn close_with(&mut self, index: &mut IndexFile) -> Result<(), LedgerError> {
        index.closed(&self.run, self.frontier.leaves(), self.frontier.root())?;
        self.dir.remove_sealed(&self.run)?;
        remove(&self.dir.hold_path(&self.run)).map(drop)
    }

    fn sealed_path(&self) -> PathBuf {
        self.dir.sealed_path(&self.run)
    }
}

impl Journal for FileJournal {
    fn run(&self) -> &str {
        &self.run
    }

    fn commit(&mut self, at: Moment, events: &[Event]) -> Result<(), LedgerError> {
        if self.poisoned {
            return Err(LedgerError::Poisoned);
        }
        if events.is_empty() {
            return Ok(());
        }
        // After a failed write or fsync nobody knows what the disk holds: a later success would not
        // mean that this one's bytes are there.
        self.poisoned = true;
        self.append(at, events, false)?;
        self.poisoned = false;
        Ok(())
    }

    fn latches(&self) -> Arc<dyn Latches> {
        Arc::new(RunLatches { dir: self.dir.clone(), run: self.run.clone() })
    }

    fn take_request(&mut self) -> Result<Option<RollbackRequest>, LedgerError> {
        let path = self.dir.request_path(&self.run);
        let Some(text) = read(&path)? else { return Ok(None) };
        let request = serde_json::from_str(&text).map_err(damaged(&path));
        remove(&path)?;
        request.map(Some)
    }

    fn take_approvals(&mut self) -> Result<Vec<Signed>, LedgerError> {
        let folder = self.dir.approvals_path(&self.run);
        if !folder.exists() {
            return Ok(Vec::new());
        }
        let mut names = list(&folder)?;
        names.retain(|name| name.ends_with(".json"));
        names.sort_unstable();
        let mut taken = Vec::new();
        for name in names {
            let path = folder.join(name);
            let Some(text) = read(&path)? else { continue };
            remove(&path)?;
            // What is no approval approves nothing; whoever left it waits for its record, and is told.
            taken.extend(serde_json::from_str::<Signed>(&text));
        }
        Ok(taken)
    }

    fn keep_sealed(&mut self, entries: &[SealedEntry]) -> Result<(), LedgerError> {
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

    fn sealed(&self) -> Result<Vec<SealedEntry>, LedgerError> {
        self.dir.sealed(&self.run)
    }

    fn close(&mut self) -> Result<(), LedgerError> {
        let (mut index, _) = IndexFile::open(&self.dir, (&self.actor, &self.host), self.last)?;
        self.close_with(&mut index)
    }
}

/// Takes a run's lock. It is the kernel's and ends with the process, however that ends.
pub(super) fn lock(dir: &StateDir, run: &str, (actor, host): (&str, &str)) -> Result<File, LedgerError> {
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
            let by = crate::text::sanitize(&by);
            return Err(LedgerError::Busy { run: run.into(), by });
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

/// A run's own latch, and everybody's.
struct RunLatches {
    dir: StateDir,
    run: String,
}

impl Latches for RunLatches {
    fn latch(&self) -> Result<Option<Latch>, LedgerError> {
        match self.dir.latch(None)? {
            Some(latch) => Ok(Some(latch)),
            None => self.dir.latch(Some(&self.run)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::journal::tests::{at, plan, state};

    /// The disk is full.
    #[test]
    fn after_a_failed_append_nothing_is_appended() {
        let (_folder, state) = state();
        let mut journal = state.create(&Arc::new(plan()), None, ("tester", "host"), at(0)).expect("a run");
        let before = std::fs::read(&journal.path).expect("a journal");
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("a full disk");
        let disk = std::mem::replace(&mut journal.file, full);
        let event = [Event::Heartbeat {}];
        assert!(matches!(journal.commit(at(1), &event), Err(LedgerError::Io { .. })));
        // There is room again; what the disk holds is still not known.
        journal.file = disk;
        assert!(matches!(journal.commit(at(2), &event), Err(LedgerError::Poisoned)));
        assert!(matches!(journal.commit(at(2), &[]), Err(LedgerError::Poisoned)));
        assert_eq!(std::fs::read(&journal.path).expect("a journal"), before);
    }
}
