//! What opens sealed secrets: an identity in a file, whatever keeps the runs.

use std::path::{Path, PathBuf};

use super::files::{create_secret, make_dir, place, read};
use crate::journal::LedgerError;
use crate::secret::{Sealer, Secret};

/// The age identity of a state directory. It stands outside the runs' folders, and in no ledger.
#[derive(Debug, Clone)]
pub struct SealingKey {
    path: PathBuf,
}

impl SealingKey {
    /// That of a state directory.
    pub fn of(root: &Path) -> Self {
        Self { path: root.join("keys/seal.key") }
    }

    /// What seals and opens. Makes the identity where there is none.
    ///
    /// # Errors
    /// When it cannot be read or made.
    pub fn sealer(&self) -> Result<Sealer, LedgerError> {
        if let Some(sealer) = self.existing()? {
            return Ok(sealer);
        }
        make_dir(self.path.parent().unwrap_or(&self.path))?;
        let (_, identity) = Sealer::generate();
        // Of two processes at once the first one's stays.
        create_secret(&self.path, &identity)?;
        self.read()
    }

    /// As [`SealingKey::sealer`], without making one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn existing(&self) -> Result<Option<Sealer>, LedgerError> {
        self.path.exists().then(|| self.read()).transpose()
    }

    fn read(&self) -> Result<Sealer, LedgerError> {
        let text = Secret::new(read(&self.path)?.unwrap_or_default());
        Sealer::from_identity(&text)
            .map_err(|source| LedgerError::Identity { place: place(&self.path), source })
    }
}
