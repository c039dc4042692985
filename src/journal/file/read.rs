//! Reading runs without touching them: their records checked, and folded into a state.

use std::fs::File;

use super::files::io;
use super::key_files::KeyFiles;
use super::state_dir::StateDir;
use crate::journal::chain::Frontier;
use crate::journal::key::VerifyingKeys;
use crate::journal::replay::Folding;
use crate::journal::verify::{Report, Tail, verify, verify_quickly};
use crate::journal::{Fault, LedgerError, Record};
use crate::rotation::{Event, State};

impl StateDir {
    /// The keys that checkpoints are checked with. Needs no private key, and writes nothing.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn verifying_keys(&self) -> Result<VerifyingKeys, LedgerError> {
        KeyFiles::of(self.root()).verifying()
    }

    /// Reads a run without touching it: its state, and what verification found.
    ///
    /// # Errors
    /// When there is no such run, or its journal is not good.
    pub fn load(&self, run: &str) -> Result<(State, Report), LedgerError> {
        let mut folded = Folding::default();
        let (report, _) = self.scan(run, &mut |record, _| folded.push(record))?;
        let state = folded.finish(run, &report)?;
        self.refuse_shortened(run, &report, state.end().is_some())?;
        Ok((state, report))
    }

    /// Checks a run's journal as [`StateDir::audit`] does, and refuses one that was shortened in its archive.
    pub(super) fn read_records(
        &self,
        run: &str,
        each: &mut dyn FnMut(Record),
    ) -> Result<Report, LedgerError> {
        let mut has_ended = false;
        let report = self.audit(run, |record| {
            has_ended |= matches!(record.event, Event::Closed { .. });
            each(record);
        })?;
        self.refuse_shortened(run, &report, has_ended || report.fault.is_some())?;
        Ok(report)
    }

    /// Only what has ended is moved into an archive.
    fn refuse_shortened(&self, run: &str, report: &Report, has_ended: bool) -> Result<(), LedgerError> {
        if has_ended || self.journal_path(run).exists() {
            return Ok(());
        }
        let what = "it was moved into an archive after its end, and the end is not there: it was removed";
        let fault = Fault { line: report.records + 1, what: what.to_owned() };
        Err(LedgerError::Invalid { run: run.to_owned(), fault })
    }

    /// Checks a run's journal, handing every good record to `each`.
    ///
    /// # Errors
    /// When there is no such run, or reading fails.
    pub fn audit(&self, run: &str, mut each: impl FnMut(Record)) -> Result<Report, LedgerError> {
        self.audit_lines(run, |record, _| each(record))
    }

    /// As [`StateDir::audit`], with the line that each record stands in, without its newline.
    ///
    /// # Errors
    /// As for `audit`.
    pub fn audit_lines(&self, run: &str, mut each: impl FnMut(Record, &[u8])) -> Result<Report, LedgerError> {
        self.scan(run, &mut each).map(|(report, _)| report)
    }

    /// Checks a run's journal. Finds what [`StateDir::audit`] finds, in a fraction of the time.
    ///
    /// # Errors
    /// As for `audit`.
    pub fn verify(&self, run: &str) -> Result<Report, LedgerError> {
        self.verify_with(run, Frontier::default(), None).map(|(report, _)| report)
    }

    /// As `verify`, with a tree that remembers some of its roots, and with one key where it is known
    /// which.
    pub(super) fn verify_with(
        &self,
        run: &str,
        frontier: Frontier,
        keys: Option<VerifyingKeys>,
    ) -> Result<(Report, Tail), LedgerError> {
        let (reader, keys) = self.open_journal(run, keys)?;
        let (report, tail) =
            verify_quickly(reader, frontier, &keys).map_err(io("read", &self.journal_path(run)))?;
        Ok((report.about(run), tail))
    }

    fn scan(&self, run: &str, each: &mut dyn FnMut(Record, &[u8])) -> Result<(Report, Tail), LedgerError> {
        self.scan_with(run, Frontier::default(), None, each)
    }

    /// As `audit_lines`, with a tree that remembers some of its roots, and with one key where it is
    /// known which.
    pub(super) fn scan_with(
        &self,
        run: &str,
        frontier: Frontier,
        keys: Option<VerifyingKeys>,
        each: &mut dyn FnMut(Record, &[u8]),
    ) -> Result<(Report, Tail), LedgerError> {
        let (reader, keys) = self.open_journal(run, keys)?;
        let (report, tail) =
            verify(reader, frontier, &keys, each).map_err(io("read", &self.journal_path(run)))?;
        Ok((report.about(run), tail))
    }

    fn open_journal(
        &self,
        run: &str,
        keys: Option<VerifyingKeys>,
    ) -> Result<(std::io::BufReader<File>, VerifyingKeys), LedgerError> {
        let (file, _) = self.journal_file(run)?;
        let keys = keys.map_or_else(|| self.verifying_keys(), Ok)?;
        Ok((std::io::BufReader::with_capacity(1 << 18, file), keys))
    }
}
