//! The state directory as a ledger. Its calls block, each for a file or two: whoever asks has nothing else to
//! do meanwhile.

use std::sync::Arc;

use async_trait::async_trait;

use super::state_dir::StateDir;
use crate::approve::Signed;
use crate::clock::Moment;
use crate::journal::{Journal, Latch, Ledger, LedgerError, Record, Report, RollbackRequest, SealedEntry};
use crate::plan::Plan;
use crate::rotation::State;

#[async_trait]
impl Ledger for StateDir {
    fn place(&self) -> String {
        self.root().display().to_string()
    }

    async fn runs(&self) -> Result<Vec<String>, LedgerError> {
        self.runs()
    }

    async fn archived(&self) -> Result<Vec<(String, String)>, LedgerError> {
        self.archived()
    }

    async fn open_runs(&self) -> Result<Vec<String>, LedgerError> {
        self.open_runs()
    }

    async fn newest(&self) -> Result<Option<String>, LedgerError> {
        self.newest()
    }

    async fn find(&self, name: Option<&str>) -> Result<String, LedgerError> {
        self.find(name)
    }

    async fn open(
        &self,
        plan: &Arc<Plan>,
        reason: Option<String>,
        who: (&str, &str),
        at: Moment,
    ) -> Result<Box<dyn Journal>, LedgerError> {
        self.check_room(plan.steps.len())?;
        Ok(Box::new(self.create(plan, reason, who, at)?))
    }

    async fn resume(
        &self,
        run: &str,
        who: (&str, &str),
        at: Moment,
    ) -> Result<(Box<dyn Journal>, State), LedgerError> {
        let (journal, state) = self.resume(run, who, at)?;
        Ok((Box::new(journal), state))
    }

    async fn load(&self, run: &str) -> Result<State, LedgerError> {
        Ok(self.load(run)?.0)
    }

    async fn records(&self, run: &str, each: &mut (dyn FnMut(Record) + Send)) -> Result<Report, LedgerError> {
        self.read_records(run, each)
    }

    async fn is_live(&self, run: &str) -> Result<bool, LedgerError> {
        self.known_or_archived(run)?;
        self.try_is_live(run)
    }

    async fn latch(&self, run: Option<&str>) -> Result<Option<Latch>, LedgerError> {
        run.map_or(Ok(()), |run| self.known_or_archived(run))?;
        self.latch(run)
    }

    async fn set_latch(&self, run: Option<&str>, latch: &Latch) -> Result<(), LedgerError> {
        run.map_or(Ok(()), |run| self.known(run))?;
        self.set_latch(run, latch)
    }

    async fn clear_latch(&self, run: Option<&str>) -> Result<bool, LedgerError> {
        run.map_or(Ok(()), |run| self.known(run))?;
        self.clear_latch(run)
    }

    async fn request(&self, run: &str, request: &RollbackRequest) -> Result<(), LedgerError> {
        self.known(run)?;
        self.request(run, request)
    }

    async fn withdraw(&self, run: &str) -> Result<bool, LedgerError> {
        self.known(run)?;
        self.withdraw(run)
    }

    async fn leave_approval(&self, run: &str, approval: &Signed) -> Result<(), LedgerError> {
        self.known(run)?;
        self.leave_approval(run, approval)
    }

    async fn sealed(&self, run: &str) -> Result<Vec<SealedEntry>, LedgerError> {
        self.known_or_archived(run)?;
        self.sealed(run)
    }
}
