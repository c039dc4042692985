//! The journal's keys as files: the private half of the present one, and every public half.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use super::files::{create_secret, io, read, remove, replace, sync_dir};
use super::index::Index;
use super::key::{KeyError, SigningKey, VerifyingKeys};
use super::state_dir::StateDir;
use super::{JournalError, KeyRange};
use crate::clock::Moment;
use crate::journal::index_file::IndexFile;
use crate::secret::Secret;

/// Where the keys stand.
pub(super) struct KeyFiles {
    /// The present key's private half.
    pub(super) private: PathBuf,
    /// The next one's, while the index is about to name it.
    next: PathBuf,
    /// The public halves, oldest first, one a line.
    public: PathBuf,
}

impl KeyFiles {
    pub(super) fn of(dir: &StateDir) -> Self {
        let keys = dir.root().join("keys");
        Self {
            private: keys.join("journal.key"),
            next: keys.join("journal.key.next"),
            public: keys.join("journal.vkey"),
        }
    }

    /// The key that signs, made when it is first needed.
    pub(super) fn signing(&self) -> Result<SigningKey, JournalError> {
        if !self.private.exists() {
            if self.public.exists() {
                // A new key would make every old journal look forged.
                return Err(JournalError::Key { path: self.private.clone(), source: KeyError::Malformed });
            }
            // Of two processes at once the first one's key stays; the public half follows from it.
            create_secret(&self.private, &SigningKey::generate())?;
        }
        let key = load(&self.private)?;
        if !self.public.exists() {
            replace(&self.public, &key.verifier())?;
        }
        Ok(key)
    }

    /// The public halves. Writes nothing.
    fn verifying(&self) -> Result<VerifyingKeys, JournalError> {
        let text = match read(&self.public)? {
            Some(text) => text,
            // A crash came between the two halves.
            None => load(&self.private)?.verifier(),
        };
        VerifyingKeys::parse(&text).map_err(|source| JournalError::Key { path: self.public.clone(), source })
    }

    /// Makes the key that a rotation is about to name.
    pub(super) fn make_next(&self) -> Result<SigningKey, JournalError> {
        create_secret(&self.next, &SigningKey::generate())?;
        load(&self.next)
    }

    /// Finishes what a rotation began, or takes it back: the index alone says which key is the
    /// present one. The old private half is destroyed.
    pub(super) fn settle(&self, index: Option<&Index>) -> Result<(), JournalError> {
        if !self.next.exists() {
            return Ok(());
        }
        let next = load(&self.next)?.verifier();
        let keys: Vec<&str> = index.map_or(Vec::new(), |i| i.keys.iter().map(|k| k.key.as_str()).collect());
        if keys.last() != Some(&next.trim_end()) {
            return remove(&self.next).map(drop);
        }
        replace(&self.public, &format!("{}\n", keys.join("\n")))?;
        if let Ok(old) = OpenOptions::new().write(true).open(&self.private) {
            // Emptying it first is for file systems that undelete.
            old.set_len(0).and_then(|()| old.sync_all()).map_err(io("empty", &self.private))?;
        }
        fs::rename(&self.next, &self.private).map_err(io("write", &self.private))?;
        sync_dir(self.private.parent().unwrap_or(&self.private))
    }
}

fn load(path: &Path) -> Result<SigningKey, JournalError> {
    let text = Secret::new(read(path)?.unwrap_or_default());
    SigningKey::parse(&text).map_err(|source| JournalError::Key { path: path.to_owned(), source })
}

impl StateDir {
    /// The keys that checkpoints are checked with. Needs no private key, and writes nothing.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn verifying_keys(&self) -> Result<VerifyingKeys, JournalError> {
        KeyFiles::of(self).verifying()
    }

    /// The keys with the positions of the index for which they are valid, oldest first.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn key_ranges(&self) -> Result<Vec<KeyRange>, JournalError> {
        match self.index(&[])? {
            Some(index) => Ok(index.keys().to_vec()),
            None => {
                let keys = self.verifying_keys()?;
                Ok(keys
                    .lines()
                    .iter()
                    .map(|key| KeyRange { key: key.clone(), from: 0, until: None })
                    .collect())
            }
        }
    }

    /// Makes the key, and begins the index with it. Without this the first run does.
    ///
    /// # Errors
    /// When there is one, or it cannot be made durable.
    pub fn create_key(&self, who: (&str, &str), at: Moment) -> Result<String, JournalError> {
        let files = KeyFiles::of(self);
        if files.private.exists() || files.public.exists() {
            return Err(JournalError::KeyExists(files.private));
        }
        let index = IndexFile::open(self, who, at)?;
        Ok(index.key().verifier().trim_end().to_owned())
    }

    /// Changes the key. Returns the new one, and from which position of the index on it is valid.
    ///
    /// # Errors
    /// When a run is open, or something cannot be made durable; the old key then stays, or the next
    /// run finishes the change.
    pub fn rotate_key(&self, who: (&str, &str), at: Moment) -> Result<KeyRange, JournalError> {
        let files = KeyFiles::of(self);
        if !files.private.exists() {
            return Err(JournalError::Key { path: files.private, source: KeyError::Missing });
        }
        let mut index = IndexFile::open(self, who, at)?;
        index.heal()?;
        let mut open: Vec<String> = index.index().open().cloned().collect();
        for run in self.runs()? {
            // A crash may have come before the index knew of it, or before there was a run at all.
            if !index.index().runs.contains_key(&run) && !self.never_began(&run)? {
                open.push(run);
            }
        }
        if !open.is_empty() {
            return Err(JournalError::OpenRuns(open));
        }
        let (key, from) = index.rotate()?;
        Ok(KeyRange { key, from, until: None })
    }
}
