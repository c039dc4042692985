//! The journal: the run's append-only record. It is the audit log, and the state is a fold over it.
//!
//! [`Journal`] is what the engine needs of a record, a lock and a latch; [`StateDir`] keeps them in
//! files. Nothing outside this module knows which backend it is.
//!
//! The file format: one JSON object a line. Each carries the RFC 6962 leaf hash of the line before
//! it, so the lines are a chain; at every change of phase, every 256 records and at every exit a
//! signed checkpoint stands over the Merkle root of all lines before it.

mod anchor;
mod chain;
mod file;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod index;
mod key;
mod record;
mod replay;
#[cfg(test)]
mod tests;
mod verify;

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::domain::Phase;
use crate::rotation::{Event, IllegalTransition};

pub use anchor::{Anchors, BadAnchor};
pub use file::{
    Cover, Examined, FileJournal, RunSummary, StateDir, examine_index_file, examine_journal_file,
};
pub use index::{Index, KeyRange, Standing};
pub use key::{KeyError, VerifyingKeys};
pub use record::{BadRecord, Envelope, Record, VERSION};
pub use verify::{Fault, Report};

/// A run's record, as the engine needs it. Fails closed: after an error nothing more is appended.
pub trait Journal: Send {
    /// The run's id.
    fn run(&self) -> &str;

    /// Appends events, in this order, and returns when they are durable.
    ///
    /// # Errors
    /// When they are not, or may not be, durable.
    fn commit(&mut self, at: Moment, events: &[Event]) -> Result<(), JournalError>;

    /// Where to look for the latch on this run. Steps look there by themselves, right before their effect.
    fn latches(&self) -> Arc<dyn Latches>;

    /// Takes a request that another process left, if there is one.
    ///
    /// # Errors
    /// When there is one that cannot be read or removed.
    fn take_request(&mut self) -> Result<Option<RollbackRequest>, JournalError>;

    /// Keeps sealed secrets durably.
    ///
    /// # Errors
    /// When they are not, or may not be, durable.
    fn keep_sealed(&mut self, entries: &[SealedEntry]) -> Result<(), JournalError>;

    /// All sealed secrets, oldest first.
    ///
    /// # Errors
    /// When they cannot be read.
    fn sealed(&self) -> Result<Vec<SealedEntry>, JournalError>;

    /// Destroys the sealed secrets and gives up what the run holds. For closed runs.
    ///
    /// # Errors
    /// When something remains.
    fn close(&mut self) -> Result<(), JournalError>;
}

/// Where to look for a latch.
pub trait Latches: Send + Sync {
    /// The latch, if it is set: on the run, or on the whole state folder.
    ///
    /// # Errors
    /// When it cannot be looked at; the caller must then take it as set.
    fn latch(&self) -> Result<Option<Latch>, JournalError>;
}

/// A durable latch that stops every new effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latch {
    /// Who set it.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// A rollback that another process asked for while the run's own process holds the lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackRequest {
    /// Back to the end of this phase; `None` is all the way.
    pub to: Option<Phase>,
    /// Who asked, and why.
    pub why: String,
}

/// A sealed secret, by name. A later entry of the same name replaces an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedEntry {
    /// What it is.
    pub name: String,
    /// The sealed text.
    pub sealed: String,
}

/// The record could not be kept, or read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A file operation failed.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// An earlier append failed, so nothing more may be appended.
    #[error("an earlier append failed; stanch records nothing more, so it does nothing more")]
    Poisoned,
    /// The state folder is of another version.
    #[error("{} is a state directory of version {found}; this version of stanch reads version {expected}", path.display())]
    OtherVersion {
        /// The folder.
        path: PathBuf,
        /// The version found.
        found: String,
        /// The version that this program reads.
        expected: u32,
    },
    /// A key is not one, or a half is missing.
    #[error("stanch cannot use the key {}", path.display())]
    Key {
        /// The key's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: KeyError,
    },
    /// The sealing identity is not usable.
    #[error("stanch cannot use the sealing identity {}", path.display())]
    Identity {
        /// The identity's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: crate::secret::SealError,
    },
    /// Another process has the run.
    #[error("another process is working on run {run} ({by})")]
    Locked {
        /// The run.
        run: String,
        /// Which process.
        by: String,
    },
    /// An open run holds a target.
    #[error("the open run {run} holds `{target}`")]
    Held {
        /// What both want to write.
        target: String,
        /// The run that has it.
        run: String,
    },
    /// There is no such run.
    #[error("there is no run `{0}`")]
    NoSuchRun(String),
    /// No run is open, and none was named.
    #[error("no run is open")]
    NoOpenRun,
    /// Several runs are open, and none was named.
    #[error("several runs are open: {}", .0.join(", "))]
    SeveralOpen(Vec<String>),
    /// The name fits several runs.
    #[error("`{name}` matches several runs: {}", runs.join(", "))]
    Ambiguous {
        /// What was given.
        name: String,
        /// What it fits.
        runs: Vec<String>,
    },
    /// The journal is not good.
    #[error("the journal of run {run} is not valid: {fault}")]
    Invalid {
        /// The run.
        run: String,
        /// Where, and how.
        fault: Fault,
    },
    /// The index is not good.
    #[error("the index {} is not valid: {fault}", path.display())]
    Index {
        /// Its file.
        path: PathBuf,
        /// Where, and how.
        fault: Fault,
    },
    /// The folder says that it has an index, and there is none.
    #[error("the index {} is gone", .0.display())]
    IndexGone(PathBuf),
    /// There is a key already.
    #[error("a key already exists: {}", .0.display())]
    KeyExists(PathBuf),
    /// Runs are open where none may be.
    #[error("open runs: {}", .0.join(", "))]
    OpenRuns(Vec<String>),
    /// The records do not make sense one after the other.
    #[error("the journal of run {run} is not consistent at record {seq}")]
    Nonsense {
        /// The run.
        run: String,
        /// The record.
        seq: u64,
        /// Why.
        #[source]
        source: IllegalTransition,
    },
    /// A latch or request file is not readable as one.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The disk has too little room.
    #[error("the disk of {} has {free} MiB free, but the run may need {needed} MiB", path.display())]
    NoRoom {
        /// The state folder.
        path: PathBuf,
        /// How much is free.
        free: u64,
        /// How much is needed.
        needed: u64,
    },
}
