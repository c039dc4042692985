//! Where runs are kept: what the command line needs of it, whatever it is.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Journal, Latch, LedgerError, Record, Report, RollbackRequest, SealedEntry};
use crate::approve::Signed;
use crate::clock::Moment;
use crate::plan::Plan;
use crate::rotation::State;

/// The runs, those that are over and those that are not, for all processes that work on them.
///
/// It keeps what is sealed, and never what opens it. To prove that records are what was written takes more
/// than this: it is done to the bytes that a backend keeps, by functions of that backend (`stanch audit
/// verify`, `anchor`, `key` and `export` are those of files).
///
/// Whatever is asked or told of one run fails with [`LedgerError::NotFound`] where there is no such run.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Where it is, for people.
    fn place(&self) -> String;

    /// All runs, by name.
    ///
    /// # Errors
    /// When they cannot be listed.
    async fn runs(&self) -> Result<Vec<String>, LedgerError>;

    /// The runs that were moved into archives, by name, each with where it is. They are read as others are, and are not
    /// among [`Ledger::runs`]. A ledger without archives has none.
    ///
    /// # Errors
    /// When they cannot be listed.
    async fn archived(&self) -> Result<Vec<(String, String)>, LedgerError> {
        Ok(Vec::new())
    }

    /// The runs that are not over, by name. A crash may have left one that is. However many runs are over,
    /// this takes no longer.
    ///
    /// # Errors
    /// When they cannot be listed.
    async fn open_runs(&self) -> Result<Vec<String>, LedgerError>;

    /// The run that began last.
    ///
    /// # Errors
    /// When the runs cannot be listed.
    async fn newest(&self) -> Result<Option<String>, LedgerError>;

    /// The run that a name, or the beginning of one, means; without one the only open run.
    ///
    /// # Errors
    /// When it means none, or several.
    async fn find(&self, name: Option<&str>) -> Result<String, LedgerError>;

    /// As [`Ledger::find`]; without a name and without an open run, the run that began last.
    ///
    /// # Errors
    /// As for `find`.
    async fn find_any(&self, name: Option<&str>) -> Result<String, LedgerError> {
        match self.find(name).await {
            Err(LedgerError::NoOpenRun) => self.newest().await?.ok_or(LedgerError::NoOpenRun),
            found => found,
        }
    }

    /// Opens a new run, with its lock held: refuses when an open run holds one of the plan's targets, or
    /// when there is no room for it, and otherwise holds them and writes the first record. `who` is the
    /// actor and the host.
    ///
    /// # Errors
    /// When a target is held, or something cannot be made durable.
    async fn open(
        &self,
        plan: &Arc<Plan>,
        reason: Option<String>,
        who: (&str, &str),
        at: Moment,
    ) -> Result<Box<dyn Journal>, LedgerError>;

    /// Takes up a run: takes its lock, checks its records, and folds them. The lock is given back when the
    /// journal is dropped, and however the process ends.
    ///
    /// # Errors
    /// When another process has it, or its records are not good.
    async fn resume(
        &self,
        run: &str,
        who: (&str, &str),
        at: Moment,
    ) -> Result<(Box<dyn Journal>, State), LedgerError>;

    /// Reads a run without touching it.
    ///
    /// # Errors
    /// When there is no such run, or its records are not good.
    async fn load(&self, run: &str) -> Result<State, LedgerError>;

    /// Hands every good record of a run to `each`, in order, and says what is to be said of the rest.
    ///
    /// # Errors
    /// When there is no such run, or reading fails.
    async fn records(&self, run: &str, each: &mut (dyn FnMut(Record) + Send)) -> Result<Report, LedgerError>;

    /// Whether a process is working on the run.
    ///
    /// # Errors
    /// When there is no such run, or it cannot be told.
    async fn is_live(&self, run: &str) -> Result<bool, LedgerError>;

    /// The latch on a run, or on all.
    ///
    /// # Errors
    /// When it cannot be read.
    async fn latch(&self, run: Option<&str>) -> Result<Option<Latch>, LedgerError>;

    /// Sets the latch: on one run, or on all.
    ///
    /// # Errors
    /// When it cannot be made durable.
    async fn set_latch(&self, run: Option<&str>, latch: &Latch) -> Result<(), LedgerError>;

    /// Takes the latch off. Returns whether it was set.
    ///
    /// # Errors
    /// When it cannot be taken off durably.
    async fn clear_latch(&self, run: Option<&str>) -> Result<bool, LedgerError>;

    /// Asks the process that works on a run to roll back.
    ///
    /// # Errors
    /// When the request cannot be left.
    async fn request(&self, run: &str, request: &RollbackRequest) -> Result<(), LedgerError>;

    /// Takes a request back that no process has taken. Returns whether there was one.
    ///
    /// # Errors
    /// When it cannot be removed.
    async fn withdraw(&self, run: &str) -> Result<bool, LedgerError>;

    /// Leaves an approval for the process that works on a run.
    ///
    /// # Errors
    /// When it cannot be left.
    async fn leave_approval(&self, run: &str, approval: &Signed) -> Result<(), LedgerError>;

    /// A run's sealed secrets, oldest first; none once it is over.
    ///
    /// # Errors
    /// When they cannot be read.
    async fn sealed(&self, run: &str) -> Result<Vec<SealedEntry>, LedgerError>;
}

/// The one run that a name, or no name, means, of those that it fits.
pub(super) fn sole_match(name: Option<&str>, mut fits: Vec<String>) -> Result<String, LedgerError> {
    match (fits.len(), name) {
        (0, None) => Err(LedgerError::NoOpenRun),
        (0, Some(name)) => Err(LedgerError::NotFound(name.to_owned())),
        (1, _) => Ok(fits.remove(0)),
        (_, None) => Err(LedgerError::SeveralOpen(fits)),
        (_, Some(name)) => Err(LedgerError::Ambiguous { name: name.to_owned(), runs: fits }),
    }
}
