//! The journal's keys as files: the private half of the present one, and every public half.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use super::files::{create_secret, io, place, read, remove, replace, sync_dir};
use crate::journal::LedgerError;
use crate::journal::index::Index;
use crate::journal::key::{KeyError, SigningKey, VerifyingKeys};
use crate::secret::Secret;

/// Where the keys stand.
pub(super) struct KeyFiles {
    /// The present key's private half.
    pub(super) private: PathBuf,
    /// The next one's, while the index is about to name it.
    next: PathBuf,
    /// The public halves, oldest first, one a line.
    pub(super) public: PathBuf,
}

impl KeyFiles {
    pub(super) fn of(root: &Path) -> Self {
        let keys = root.join("keys");
        Self {
            private: keys.join("journal.key"),
            next: keys.join("journal.key.next"),
            public: keys.join("journal.vkey"),
        }
    }

    /// The key that signs, made when it is first needed.
    pub(super) fn signing(&self) -> Result<SigningKey, LedgerError> {
        if !self.private.exists() {
            if self.public.exists() {
                // A new key would make every old journal look forged.
                return Err(LedgerError::Key { place: place(&self.private), source: KeyError::Malformed });
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
    pub(super) fn verifying(&self) -> Result<VerifyingKeys, LedgerError> {
        let text = match read(&self.public)? {
            Some(text) => text,
            // A crash came between the two halves.
            None => load(&self.private)?.verifier(),
        };
        VerifyingKeys::parse(&text).map_err(|source| LedgerError::Key { place: place(&self.public), source })
    }

    /// Makes the key that a rotation is about to name.
    pub(super) fn make_next(&self) -> Result<SigningKey, LedgerError> {
        create_secret(&self.next, &SigningKey::generate())?;
        load(&self.next)
    }

    /// Finishes what a rotation began, or takes it back: the index alone says which key is the
    /// present one. The old private half is destroyed.
    pub(super) fn settle(&self, index: Option<&Index>) -> Result<(), LedgerError> {
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

fn load(path: &Path) -> Result<SigningKey, LedgerError> {
    let text = Secret::new(read(path)?.unwrap_or_default());
    SigningKey::parse(&text).map_err(|source| LedgerError::Key { place: place(path), source })
}
