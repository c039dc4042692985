//! What can go wrong with a record, by meaning: whoever handles it knows no backend. Places are text, such as
//! a file's path, for people.

use std::error::Error;

use super::{Fault, KeyError};
use crate::rotation::IllegalTransition;
use crate::secret::SealError;

/// The record could not be kept, or read.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The backend failed: a file operation, a query.
    #[error("cannot {doing} {place}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        place: String,
        /// Why it failed.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// An earlier append failed, so nothing more may be appended.
    #[error("an earlier append failed; stanch records nothing more, so it does nothing more")]
    Poisoned,
    /// The ledger is of another version.
    #[error("{place} has version {found}; this version of stanch reads version {expected}")]
    OtherVersion {
        /// The ledger.
        place: String,
        /// The version found.
        found: String,
        /// The version that this program reads.
        expected: u32,
    },
    /// A signing key is not one, or a half is missing.
    #[error("stanch cannot use the key {place}")]
    Key {
        /// Where the key is kept.
        place: String,
        /// Why.
        #[source]
        source: KeyError,
    },
    /// The sealing identity is not usable.
    #[error("stanch cannot use the sealing identity {place}")]
    Identity {
        /// Where the identity is kept.
        place: String,
        /// Why.
        #[source]
        source: SealError,
    },
    /// Another process has the run.
    #[error("another process is working on run {run} ({by})")]
    Busy {
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
    NotFound(String),
    /// The run was moved into an archive: it has ended, and nothing is done in it any more.
    #[error("run {run} has ended, and is in the archive {place}; nothing was changed")]
    Archived {
        /// The run.
        run: String,
        /// The archive.
        place: String,
    },
    /// The archive that a run was moved into cannot be read.
    #[error("run {run} is in the archive {place}, which cannot be read: {why}")]
    Unreachable {
        /// The run.
        run: String,
        /// The archive.
        place: String,
        /// Why.
        why: String,
    },
    /// A run is not in the archive that it was moved into.
    #[error("run {run} was moved into the archive {place}, and is not there any more")]
    GoneFromArchive {
        /// The run.
        run: String,
        /// The archive.
        place: String,
    },
    /// What an archive has of a run is not what was moved there.
    #[error("run {run} was changed in the archive {place}: {why}")]
    ChangedInArchive {
        /// The run.
        run: String,
        /// The archive.
        place: String,
        /// What shows it.
        why: String,
    },
    /// A directory cannot be an archive, or holds something else than a run that is to be moved there.
    #[error("cannot use the archive {place}: {why}")]
    BadArchive {
        /// The directory.
        place: String,
        /// Why.
        why: String,
    },
    /// Only what has ended, and of which the index has the end, is moved into an archive.
    #[error("the index does not have the end of run {0}, so it is not moved into an archive")]
    NotClosed(String),
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
    /// A run's journal is not good.
    #[error("the journal of run {run} is not valid: {fault}")]
    Invalid {
        /// The run.
        run: String,
        /// Where, and how.
        fault: Fault,
    },
    /// The index of all runs is not good.
    #[error("the index {place} is not valid: {fault}")]
    Index {
        /// Where it is kept.
        place: String,
        /// Where in it, and how.
        fault: Fault,
    },
    /// The ledger says that it has an index, and there is none.
    #[error("the index {0} is gone")]
    IndexGone(String),
    /// There is a signing key already.
    #[error("a key already exists: {0}")]
    KeyExists(String),
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
    /// A latch, a request or a list of holds cannot be understood.
    #[error("{place} is damaged")]
    Damaged {
        /// Where it is kept.
        place: String,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// There is too little room for a run.
    #[error("{place} has {free} MiB free, but the run may need {needed} MiB")]
    NoRoom {
        /// The ledger.
        place: String,
        /// How much is free.
        free: u64,
        /// How much is needed.
        needed: u64,
    },
}
