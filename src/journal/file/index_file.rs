//! Writing the index: under the state folder's lock, each append with its checkpoint and durable
//! before anything that relies on it.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use super::files::{io, place, private_file, sync_dir};
use super::key_files::KeyFiles;
use super::state_dir::StateDir;
use crate::clock::Moment;
use crate::journal::LedgerError;
use crate::journal::chain::Frontier;
use crate::journal::index::{Entry, Envelope, Extent, Index, index_origin};
use crate::journal::key::SigningKey;

/// The index, with the state folder's lock held.
pub(super) struct IndexFile {
    dir: StateDir,
    path: PathBuf,
    file: File,
    /// Held, and so never read: closing it gives the lock back.
    _lock: File,
    key: SigningKey,
    index: Index,
    who: (String, String),
    at: Moment,
}

impl StateDir {
    /// The index's file.
    pub fn index_path(&self) -> PathBuf {
        self.root().join("index.jsonl")
    }

    /// Reads and checks the index, which will know its root at these sizes. `None` where there is
    /// none: no run was opened, or the folder is older than indexes.
    ///
    /// # Errors
    /// When it cannot be read, or is not there though the folder says that it was.
    pub fn index(&self, watched: &[u64]) -> Result<Option<Index>, LedgerError> {
        let path = self.index_path();
        let index = match File::open(&path) {
            Ok(file) => {
                Index::read(BufReader::new(file), watched.iter().copied()).map_err(io("read", &path))?
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Index::empty([]),
            Err(e) => return Err(io("open", &path)(e)),
        };
        if index.signed > 0 || index.fault.is_some() {
            return Ok(Some(index));
        }
        // The version is raised when the first append is durable: before that there is none.
        if self.has_index()? { Err(LedgerError::IndexGone(place(&path))) } else { Ok(None) }
    }
}

impl IndexFile {
    /// Takes the state folder's lock and opens the index for appending: cuts off what was never
    /// finished, and begins the index where there is none. Says whether it was there already.
    pub(super) fn open(dir: &StateDir, who: (&str, &str), at: Moment) -> Result<(Self, bool), LedgerError> {
        let lock_path = dir.root().join("lock");
        let lock = private_file(&lock_path, true)?;
        lock.lock().map_err(io("lock", &lock_path))?;
        let path = dir.index_path();
        let index = dir.index(&[])?;
        if let Some(fault) = index.as_ref().and_then(|index| index.fault.clone()) {
            return Err(LedgerError::Index { place: place(&path), fault });
        }
        let keys = KeyFiles::of(dir.root());
        keys.settle(index.as_ref())?;
        let key = keys.signing()?;
        let present = index.as_ref().and_then(|index| index.keys.last()).map(|range| range.key.as_str());
        if present.is_some_and(|present| present != key.verifier().trim_end()) {
            let source = crate::journal::KeyError::NotPresent;
            return Err(LedgerError::Key { place: place(&keys.private), source });
        }
        let begun = index.is_some();
        let mut this = Self {
            dir: dir.clone(),
            file: private_file(&path, true)?,
            path,
            _lock: lock,
            key,
            index: index.unwrap_or_else(|| Index::empty([])),
            who: (who.0.to_owned(), who.1.to_owned()),
            at,
        };
        if begun {
            this.repair()?
        } else {
            this.begin()?
        }
        dir.set_has_index()?;
        Ok((this, begun))
    }

    /// Begins the index. The runs that are there already are adopted as they are.
    fn begin(&mut self) -> Result<(), LedgerError> {
        // A crash may have torn an earlier beginning.
        self.file.set_len(0).map_err(io("empty", &self.path))?;
        let mut entries = vec![Entry::Begun { key: self.key.verifier().trim_end().to_owned() }];
        for run in self.dir.runs()? {
            let scanned = self.dir.verify_with(&run, Frontier::watching([1]), None);
            // A journal that is not good is left out: its own check says so, and no index mends it.
            let Ok((report, tail)) = scanned else { continue };
            let (None, Some(first)) = (report.fault, tail.frontier.root_at(1)) else { continue };
            entries.push(Entry::Adopted {
                run,
                first: hex::encode(first.0),
                size: tail.frontier.leaves(),
                root: hex::encode(tail.frontier.root().0),
            });
        }
        // It tells this folder's index from every other one's; nothing depends on its being secret.
        self.index.id = hex::encode(rand::random::<[u8; 8]>());
        self.append(&entries)?;
        sync_dir(self.dir.root())
    }

    /// Cuts off what stands behind the last checkpoint: an append that was never finished.
    fn repair(&mut self) -> Result<(), LedgerError> {
        if self.index.unsigned == 0 {
            return Ok(());
        }
        let mut cut = Vec::new();
        self.file
            .seek(SeekFrom::Start(self.index.end))
            .and_then(|_| self.file.read_to_end(&mut cut))
            .and_then(|_| self.file.set_len(self.index.end))
            .and_then(|()| self.file.sync_all())
            .map_err(io("repair", &self.path))?;
        // Read again without it, so that nothing of it is left in the chain.
        self.index = self.dir.index(&[])?.unwrap_or_else(|| Index::empty([]));
        let sha256 = hex::encode(Sha256::digest(&cut));
        self.append(&[Entry::Repaired { bytes: cut.len() as u64, sha256 }])
    }

    /// Appends entries and the checkpoint that covers them, and returns when they are durable.
    /// After an error this must not be used any more: the next one who opens the index repairs it.
    fn append(&mut self, entries: &[Entry]) -> Result<(), LedgerError> {
        let mut next = self.index.clone();
        let mut bytes = Vec::new();
        let path = self.path.clone();
        let mut take = |next: &mut Index, line: Vec<u8>| {
            // What this program would refuse to read it must not write.
            let number = next.frontier.leaves() + 1;
            next.feed(&line).map_err(|what| LedgerError::Index {
                place: place(&path),
                fault: crate::journal::Fault { line: number, what },
            })?;
            bytes.extend_from_slice(&line);
            bytes.push(b'\n');
            Ok::<(), LedgerError>(())
        };
        for entry in entries {
            let line = self.envelope(&next).line(entry);
            take(&mut next, line)?;
        }
        let envelope = self.envelope(&next);
        let note = self
            .key
            .sign(&index_origin(&next.id), next.frontier.leaves(), next.frontier.root(), &envelope.about())
            .map_err(|source| LedgerError::Key { place: place(&self.path), source })?;
        take(&mut next, envelope.line(&Entry::Checkpoint { note }))?;
        self.file
            .write_all(&bytes)
            .and_then(|()| self.file.sync_data())
            .map_err(io("append to", &self.path))?;
        self.index = next;
        Ok(())
    }

    fn envelope(&self, next: &Index) -> Envelope {
        Envelope {
            v: 1,
            index: next.id.clone(),
            seq: next.frontier.leaves(),
            prev: hex::encode(next.previous.0),
            wall: self.at.wall,
            actor: self.who.0.clone(),
            host: self.who.1.clone(),
        }
    }

    /// What the index says.
    pub(super) fn index(&self) -> &Index {
        &self.index
    }

    /// The key that is valid now.
    pub(super) fn key(&self) -> &SigningKey {
        &self.key
    }

    /// Records that a run's first record, with this leaf hash, is durable. Nothing may be done in a
    /// run before this.
    pub(super) fn opened(&mut self, run: &str, first: tlog_tiles::Hash) -> Result<(), LedgerError> {
        self.append(&[Entry::Opened { run: run.to_owned(), first: hex::encode(first.0) }])
    }

    /// Records how a run ended, unless that is recorded.
    pub(super) fn closed(&mut self, run: &str, size: u64, root: tlog_tiles::Hash) -> Result<(), LedgerError> {
        if self.index.runs.get(run).is_some_and(|standing| standing.closed == Some(Extent { size, root })) {
            return Ok(());
        }
        self.append(&[Entry::Closed { run: run.to_owned(), size, root: hex::encode(root.0) }])
    }

    /// Records that a run was copied into an archive, before it is removed here.
    pub(super) fn archived(&mut self, run: &str, place: &str) -> Result<(), LedgerError> {
        self.append(&[Entry::Archived { run: run.to_owned(), place: place.to_owned() }])
    }

    /// Changes the key: the old one signs from where on the new one is valid, and is destroyed.
    /// Returns the new public half and that position.
    pub(super) fn rotate(&mut self) -> Result<(String, u64), LedgerError> {
        let keys = KeyFiles::of(self.dir.root());
        let next = keys.make_next()?;
        let key = next.verifier().trim_end().to_owned();
        let from = self.index.frontier.leaves() + 2;
        // From here on the new key is the folder's, whatever happens to this process.
        self.append(&[Entry::Rotated { key: key.clone(), from }])?;
        keys.settle(Some(&self.index))?;
        self.key = next;
        // The new key's first word is about all that stood before it, so that whoever has only the
        // new one can check that too.
        self.append(&[])?;
        Ok((key, from))
    }
}
