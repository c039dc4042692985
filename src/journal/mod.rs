//! The journal: the run's append-only record. It is the audit log, and the state is a fold over it.
//!
//! [`Journal`] is what the engine needs of one run's record, lock and latch; [`Ledger`] is what the command
//! line needs of all of them. [`StateDir`] keeps them in files. Who works through the traits does not know
//! which backend it is.
//!
//! The file format: one JSON object a line. Each carries the RFC 6962 leaf hash of the line before
//! it, so the lines are a chain; at every change of phase, every 256 records and at every exit a
//! signed checkpoint stands over the Merkle root of all lines before it.

mod anchor;
mod chain;
mod error;
mod file;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod index;
mod key;
mod ledger;
#[cfg(any(test, feature = "simulation"))]
mod memory;
mod record;
mod replay;
mod shape;
#[cfg(test)]
mod tests;
mod verify;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::approve::Signed;
use crate::clock::Moment;
use crate::domain::Phase;
use crate::rotation::Event;

pub use anchor::{Anchors, BadAnchor};
pub use error::LedgerError;
pub use file::{
    Archive, Cover, Examined, FileJournal, SealingKey, StateDir, examine_index_file, examine_journal_file,
};
pub use index::{Index, KeyRange, Standing};
pub use key::{KeyError, VerifyingKeys};
pub use ledger::Ledger;
#[cfg(any(test, feature = "simulation"))]
pub use memory::MemoryLedger;
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
    fn commit(&mut self, at: Moment, events: &[Event]) -> Result<(), LedgerError>;

    /// Where to look for the latch on this run. Steps look there by themselves, right before their effect.
    fn latches(&self) -> Arc<dyn Latches>;

    /// Takes a request that another process left, if there is one.
    ///
    /// # Errors
    /// When there is one that cannot be read or removed.
    fn take_request(&mut self) -> Result<Option<RollbackRequest>, LedgerError>;

    /// Takes the approvals that other processes left. They are not verified yet.
    ///
    /// # Errors
    /// When they cannot be read or removed.
    fn take_approvals(&mut self) -> Result<Vec<Signed>, LedgerError>;

    /// Keeps sealed secrets durably.
    ///
    /// # Errors
    /// When they are not, or may not be, durable.
    fn keep_sealed(&mut self, entries: &[SealedEntry]) -> Result<(), LedgerError>;

    /// All sealed secrets, oldest first.
    ///
    /// # Errors
    /// When they cannot be read.
    fn sealed(&self) -> Result<Vec<SealedEntry>, LedgerError>;

    /// Destroys the sealed secrets and gives up what the run holds. For closed runs.
    ///
    /// # Errors
    /// When something remains.
    fn close(&mut self) -> Result<(), LedgerError>;
}

/// Where to look for a latch.
pub trait Latches: Send + Sync {
    /// The latch, if it is set: on the run, or on the whole state folder.
    ///
    /// # Errors
    /// When it cannot be looked at; the caller must then take it as set.
    fn latch(&self) -> Result<Option<Latch>, LedgerError>;
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
