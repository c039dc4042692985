//! The ledger of a drill: an ordinary one, on whose records the drill's own events stand where their triggers come.
//!
//! Whatever command works on a run of a drill does so through here, so that injects happen the same way under `run`,
//! `resume`, `rollback` and every other.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use super::stage::{Ask, Stage};
use crate::approve::Signed;
use crate::clock::{Clock, Moment};
use crate::journal::{
    Journal, Latch, Latches, Ledger, LedgerError, Record, Report, RollbackRequest, SealedEntry,
};
use crate::plan::Plan;
use crate::rotation::{Event, State};

/// What people at other terminals ask for, until whoever works on the run puts it on the record: a directory with a
/// file for each.
#[derive(Debug, Clone)]
pub struct Asks(PathBuf);

impl Asks {
    /// Those of a drill's state directory.
    pub fn of(state: &Path) -> Self {
        Self(state.join("asks"))
    }

    /// Leaves one. `name` orders it among the others.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn leave(&self, ask: &Ask) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt as _;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let name = format!("{}.json", uuid::Uuid::now_v7());
        let mut file = tempfile::NamedTempFile::new_in(&self.0)?;
        serde_json::to_writer(&mut file, ask)?;
        file.as_file().sync_all()?;
        file.persist(self.0.join(name))?;
        Ok(())
    }

    /// Those that were left, oldest first, with their files.
    fn left(&self) -> Vec<(PathBuf, Ask)> {
        let Ok(entries) = fs::read_dir(&self.0) else { return Vec::new() };
        let mut paths: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|end| end == "json"))
            .collect();
        paths.sort();
        let read = |path: PathBuf| {
            let ask = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
            Some((path, ask))
        };
        paths.into_iter().filter_map(read).collect()
    }
}

/// The ledger of a drill.
pub struct DrillLedger {
    inner: Arc<dyn Ledger>,
    stage: Arc<Stage>,
    clock: Arc<dyn Clock>,
    asks: Asks,
}

impl DrillLedger {
    /// The drill's ledger over an ordinary one.
    pub fn new(inner: Arc<dyn Ledger>, stage: Arc<Stage>, clock: Arc<dyn Clock>, asks: Asks) -> Self {
        Self { inner, stage, clock, asks }
    }

    /// Reads a run's story without touching it.
    ///
    /// # Errors
    /// When there is no such run, or it cannot be read.
    pub async fn recall(&self, run: &str) -> Result<(), LedgerError> {
        self.stage.forget();
        let stage = Arc::clone(&self.stage);
        let mut take = |record: Record| {
            let Record { envelope, event, .. } = record;
            stage.replay(envelope.wall, &envelope.actor, &event);
        };
        self.inner.records(run, &mut take).await.map(drop)
    }

    fn journal(&self, inner: Box<dyn Journal>) -> DrillJournal {
        DrillJournal {
            inner,
            stage: Arc::clone(&self.stage),
            clock: Arc::clone(&self.clock),
            asks: self.asks.clone(),
            failed: None,
            broken: false,
            closed: false,
        }
    }
}

#[async_trait]
impl Ledger for DrillLedger {
    fn place(&self) -> String {
        self.inner.place()
    }

    async fn runs(&self) -> Result<Vec<String>, LedgerError> {
        self.inner.runs().await
    }

    async fn archived(&self) -> Result<Vec<(String, String)>, LedgerError> {
        self.inner.archived().await
    }

    async fn open_runs(&self) -> Result<Vec<String>, LedgerError> {
        self.inner.open_runs().await
    }

    async fn newest(&self) -> Result<Option<String>, LedgerError> {
        self.inner.newest().await
    }

    async fn find(&self, name: Option<&str>) -> Result<String, LedgerError> {
        self.inner.find(name).await
    }

    async fn open(
        &self,
        plan: &Arc<Plan>,
        reason: Option<String>,
        who: (&str, &str),
        at: Moment,
    ) -> Result<Box<dyn Journal>, LedgerError> {
        let mut journal = self.journal(self.inner.open(plan, reason, who, at).await?);
        let began = self.stage.open(plan, at.wall, who.0);
        journal.commit(at, &[began])?;
        Ok(Box::new(journal))
    }

    async fn resume(
        &self,
        run: &str,
        who: (&str, &str),
        at: Moment,
    ) -> Result<(Box<dyn Journal>, State), LedgerError> {
        let (inner, state) = self.inner.resume(run, who, at).await?;
        self.recall(run).await?;
        self.stage.rested();
        let mut journal = self.journal(inner);
        journal.closed = state.end().is_some();
        journal.deliver(at, &[])?;
        Ok((Box::new(journal), state))
    }

    async fn load(&self, run: &str) -> Result<State, LedgerError> {
        let state = self.inner.load(run).await?;
        if self.stage.is_empty() {
            self.recall(run).await?;
        }
        Ok(state)
    }

    async fn records(&self, run: &str, each: &mut (dyn FnMut(Record) + Send)) -> Result<Report, LedgerError> {
        self.inner.records(run, each).await
    }

    async fn is_live(&self, run: &str) -> Result<bool, LedgerError> {
        self.inner.is_live(run).await
    }

    async fn latch(&self, run: Option<&str>) -> Result<Option<Latch>, LedgerError> {
        self.inner.latch(run).await
    }

    async fn set_latch(&self, run: Option<&str>, latch: &Latch) -> Result<(), LedgerError> {
        self.inner.set_latch(run, latch).await
    }

    async fn clear_latch(&self, run: Option<&str>) -> Result<bool, LedgerError> {
        self.inner.clear_latch(run).await
    }

    async fn request(&self, run: &str, request: &RollbackRequest) -> Result<(), LedgerError> {
        self.inner.request(run, request).await
    }

    async fn withdraw(&self, run: &str) -> Result<bool, LedgerError> {
        self.inner.withdraw(run).await
    }

    async fn leave_approval(&self, run: &str, approval: &Signed) -> Result<(), LedgerError> {
        self.inner.leave_approval(run, approval).await
    }

    async fn sealed(&self, run: &str) -> Result<Vec<SealedEntry>, LedgerError> {
        self.inner.sealed(run).await
    }
}

/// A run's record, with what the drill adds.
struct DrillJournal {
    inner: Box<dyn Journal>,
    stage: Arc<Stage>,
    clock: Arc<dyn Clock>,
    asks: Asks,
    /// Something went wrong where nobody could be told: the next write says so.
    failed: Option<LedgerError>,
    broken: bool,
    closed: bool,
}

impl DrillJournal {
    /// Records these events, and what the drill adds to them.
    fn deliver(&mut self, at: Moment, events: &[Event]) -> Result<(), LedgerError> {
        if self.broken {
            return Err(LedgerError::Poisoned);
        }
        if let Some(error) = self.failed.take() {
            self.broken = true;
            return Err(error);
        }
        if !events.is_empty() && self.stage.takes_disk() {
            self.broken = true;
            return Err(full(self.inner.run()));
        }
        self.closed |= events.iter().any(|event| matches!(event, Event::Closed { .. }));
        let left = if self.closed { Vec::new() } else { self.asks.left() };
        let asked = left.iter().map(|(_, ask)| ask.clone()).collect();
        let more = self.stage.follow(at.wall, events, asked);
        let all: Vec<Event> = events.iter().chain(&more).cloned().collect();
        self.inner.commit(at, &all)?;
        for (path, _) in left {
            // One that cannot be removed is asked again, and is over by then.
            let _ = fs::remove_file(path);
        }
        let run = self.inner.run().to_owned();
        self.stage.act(at.wall, &more).map_err(|error| LedgerError::Io {
            doing: "change the sandbox of",
            place: run,
            source: error.message.into(),
        })
    }
}

fn full(run: &str) -> LedgerError {
    let source = io::Error::new(ErrorKind::StorageFull, "no space left on device (drill)");
    LedgerError::Io { doing: "append to the journal of", place: run.to_owned(), source: Box::new(source) }
}

impl Journal for DrillJournal {
    fn run(&self) -> &str {
        self.inner.run()
    }

    fn commit(&mut self, at: Moment, events: &[Event]) -> Result<(), LedgerError> {
        if events.is_empty() {
            return self.inner.commit(at, events);
        }
        self.deliver(at, events)
    }

    fn latches(&self) -> Arc<dyn Latches> {
        self.inner.latches()
    }

    fn take_request(&mut self) -> Result<Option<RollbackRequest>, LedgerError> {
        // Time passes without events, too. What fails here must not look like a halt.
        if !self.broken && !self.closed && self.failed.is_none() {
            self.failed = self.deliver(self.clock.now(), &[]).err();
        }
        self.inner.take_request()
    }

    fn take_approvals(&mut self) -> Result<Vec<Signed>, LedgerError> {
        self.inner.take_approvals()
    }

    fn keep_sealed(&mut self, entries: &[SealedEntry]) -> Result<(), LedgerError> {
        self.inner.keep_sealed(entries)
    }

    fn sealed(&self) -> Result<Vec<SealedEntry>, LedgerError> {
        self.inner.sealed()
    }

    fn close(&mut self) -> Result<(), LedgerError> {
        self.inner.close()
    }
}
