//! A ledger in memory, which shows that nobody who works through [`Ledger`] knows files. For tests and the
//! simulation: what it keeps ends with the process, so no build that anybody rotates with has it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::chain::{NO_PREVIOUS, leaf};
use super::ledger::sole_match;
use super::record::{Envelope, Record, VERSION};
use super::{Journal, Latch, Latches, Ledger, LedgerError, Report, RollbackRequest, SealedEntry};
use crate::approve::Signed;
use crate::clock::Moment;
use crate::plan::Plan;
use crate::rotation::{Event, State};

/// A ledger in memory. Its clones are one ledger, as processes see one.
#[derive(Debug, Clone, Default)]
pub struct MemoryLedger(Arc<Mutex<Shelf>>);

#[derive(Debug, Default)]
struct Shelf {
    runs: BTreeMap<String, Run>,
    latch: Option<Latch>,
}

/// What is kept of a run.
#[derive(Debug)]
struct Run {
    /// Its place in the order in which runs began.
    number: usize,
    plan: Arc<Plan>,
    /// All but the first, which has the plan.
    records: Vec<Entry>,
    opened: Entry,
    sealed: Vec<SealedEntry>,
    latch: Option<Latch>,
    request: Option<RollbackRequest>,
    approvals: Vec<Signed>,
    /// Until it is closed it holds its plan's targets.
    holds: bool,
    /// Who works on it.
    worker: Option<String>,
}

#[derive(Debug)]
struct Entry {
    at: Moment,
    actor: String,
    host: String,
    event: Event,
}

impl Run {
    /// The state that the records say, and nothing else.
    fn fold(&self, run: &str) -> Result<State, LedgerError> {
        let mut state = State::new(Arc::clone(&self.plan), self.opened.at.wall);
        for (seq, entry) in (1..).zip(&self.records) {
            state.apply(&entry.event, entry.at.wall).map_err(|source| LedgerError::Nonsense {
                run: run.to_owned(),
                seq,
                source,
            })?;
        }
        Ok(state)
    }

    fn is_over(&self) -> bool {
        self.records.iter().any(|entry| matches!(entry.event, Event::Closed { .. }))
    }
}

impl Shelf {
    fn run(&mut self, run: &str) -> Result<&mut Run, LedgerError> {
        self.runs.get_mut(run).ok_or_else(|| LedgerError::NotFound(run.to_owned()))
    }

    fn names(&self, wanted: impl Fn(&str, &Run) -> bool) -> Vec<String> {
        self.runs.iter().filter(|(name, run)| wanted(name, run)).map(|(name, _)| name.clone()).collect()
    }

    /// Where a latch is kept: a run's, or that of all.
    fn latch(&mut self, run: Option<&str>) -> Result<&mut Option<Latch>, LedgerError> {
        match run {
            Some(run) => Ok(&mut self.run(run)?.latch),
            None => Ok(&mut self.latch),
        }
    }
}

impl MemoryLedger {
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn journal(&self, run: &str, (actor, host): (&str, &str)) -> Box<dyn Journal> {
        Box::new(MemoryJournal {
            ledger: self.clone(),
            run: run.to_owned(),
            actor: actor.to_owned(),
            host: host.to_owned(),
        })
    }
}

/// Who works on a run, for those who are refused.
fn worker((actor, host): (&str, &str)) -> String {
    format!("process {} of {actor} on {host}", std::process::id())
}

#[async_trait]
impl Ledger for MemoryLedger {
    fn place(&self) -> String {
        "memory".to_owned()
    }

    async fn runs(&self) -> Result<Vec<String>, LedgerError> {
        Ok(self.shelf().names(|_, _| true))
    }

    async fn open_runs(&self) -> Result<Vec<String>, LedgerError> {
        Ok(self.shelf().names(|_, run| run.holds))
    }

    async fn newest(&self) -> Result<Option<String>, LedgerError> {
        let shelf = self.shelf();
        Ok(shelf.runs.iter().max_by_key(|(_, run)| run.number).map(|(name, _)| name.clone()))
    }

    async fn find(&self, name: Option<&str>) -> Result<String, LedgerError> {
        let shelf = self.shelf();
        match name {
            Some(name) if shelf.runs.contains_key(name) => Ok(name.to_owned()),
            Some(beginning) => sole_match(name, shelf.names(|run, _| run.starts_with(beginning))),
            None => sole_match(name, shelf.names(|_, run| run.holds)),
        }
    }

    async fn open(
        &self,
        plan: &Arc<Plan>,
        reason: Option<String>,
        who: (&str, &str),
        at: Moment,
    ) -> Result<Box<dyn Journal>, LedgerError> {
        let mut shelf = self.shelf();
        let wanted = plan.holds();
        for (name, run) in shelf.runs.iter().filter(|(_, run)| run.holds && !run.is_over()) {
            let held = run.plan.holds();
            if let Some(target) = wanted.keys().find(|target| held.contains_key(*target)) {
                return Err(LedgerError::Held { target: target.clone(), run: name.clone() });
            }
        }
        let number = shelf.runs.len() + 1;
        // Counted and not drawn by chance, so that a simulation takes the same course again.
        let name = format!("{}-{number:04}", plan.runbook.name);
        let event = Event::Opened { plan: Box::new((**plan).clone()), reason };
        let run = Run {
            number,
            plan: Arc::clone(plan),
            records: Vec::new(),
            opened: Entry { at, actor: who.0.to_owned(), host: who.1.to_owned(), event },
            sealed: Vec::new(),
            latch: None,
            request: None,
            approvals: Vec::new(),
            holds: true,
            worker: Some(worker(who)),
        };
        shelf.runs.insert(name.clone(), run);
        Ok(self.journal(&name, who))
    }

    async fn resume(
        &self,
        name: &str,
        who: (&str, &str),
        _at: Moment,
    ) -> Result<(Box<dyn Journal>, State), LedgerError> {
        let mut shelf = self.shelf();
        let run = shelf.run(name)?;
        if let Some(by) = &run.worker {
            return Err(LedgerError::Busy { run: name.to_owned(), by: by.clone() });
        }
        let state = run.fold(name)?;
        run.worker = Some(worker(who));
        Ok((self.journal(name, who), state))
    }

    async fn load(&self, run: &str) -> Result<State, LedgerError> {
        self.shelf().run(run)?.fold(run)
    }

    async fn records(
        &self,
        name: &str,
        each: &mut (dyn FnMut(Record) + Send),
    ) -> Result<Report, LedgerError> {
        let mut shelf = self.shelf();
        let run = shelf.run(name)?;
        let plan = run.plan.digest();
        let (mut seq, mut previous) = (0, NO_PREVIOUS);
        for Entry { at, actor, host, event } in std::iter::once(&run.opened).chain(&run.records) {
            let envelope = Envelope {
                v: VERSION,
                run: name.to_owned(),
                seq,
                prev: hex::encode(previous.0),
                wall: at.wall,
                mono_ms: at.mono_ms,
                actor: actor.clone(),
                host: host.clone(),
                plan: plan.clone(),
            };
            let record = Record { envelope, event: event.clone() };
            previous = leaf(&record.line());
            seq += 1;
            each(record);
        }
        // Nobody signs what ends with the process.
        Ok(Report {
            run: Some(name.to_owned()),
            records: seq,
            checkpoints: 0,
            anchored: 0,
            torn: 0,
            fault: None,
        })
    }

    async fn is_live(&self, run: &str) -> Result<bool, LedgerError> {
        Ok(self.shelf().run(run)?.worker.is_some())
    }

    async fn latch(&self, run: Option<&str>) -> Result<Option<Latch>, LedgerError> {
        self.shelf().latch(run).cloned()
    }

    async fn set_latch(&self, run: Option<&str>, latch: &Latch) -> Result<(), LedgerError> {
        *self.shelf().latch(run)? = Some(latch.clone());
        Ok(())
    }

    async fn clear_latch(&self, run: Option<&str>) -> Result<bool, LedgerError> {
        Ok(self.shelf().latch(run)?.take().is_some())
    }

    async fn request(&self, run: &str, request: &RollbackRequest) -> Result<(), LedgerError> {
        self.shelf().run(run)?.request = Some(request.clone());
        Ok(())
    }

    async fn withdraw(&self, run: &str) -> Result<bool, LedgerError> {
        Ok(self.shelf().run(run)?.request.take().is_some())
    }

    async fn leave_approval(&self, run: &str, approval: &Signed) -> Result<(), LedgerError> {
        self.shelf().run(run)?.approvals.push(approval.clone());
        Ok(())
    }

    async fn sealed(&self, run: &str) -> Result<Vec<SealedEntry>, LedgerError> {
        Ok(self.shelf().run(run)?.sealed.clone())
    }
}

/// A run of it, with its lock held.
struct MemoryJournal {
    ledger: MemoryLedger,
    run: String,
    actor: String,
    host: String,
}

impl Journal for MemoryJournal {
    fn run(&self) -> &str {
        &self.run
    }

    fn commit(&mut self, at: Moment, events: &[Event]) -> Result<(), LedgerError> {
        let entry = |event: &Event| Entry {
            at,
            actor: self.actor.clone(),
            host: self.host.clone(),
            event: event.clone(),
        };
        self.ledger.shelf().run(&self.run)?.records.extend(events.iter().map(entry));
        Ok(())
    }

    fn latches(&self) -> Arc<dyn Latches> {
        Arc::new(MemoryLatches { ledger: self.ledger.clone(), run: self.run.clone() })
    }

    fn take_request(&mut self) -> Result<Option<RollbackRequest>, LedgerError> {
        Ok(self.ledger.shelf().run(&self.run)?.request.take())
    }

    fn take_approvals(&mut self) -> Result<Vec<Signed>, LedgerError> {
        Ok(std::mem::take(&mut self.ledger.shelf().run(&self.run)?.approvals))
    }

    fn keep_sealed(&mut self, entries: &[SealedEntry]) -> Result<(), LedgerError> {
        self.ledger.shelf().run(&self.run)?.sealed.extend(entries.iter().cloned());
        Ok(())
    }

    fn sealed(&self) -> Result<Vec<SealedEntry>, LedgerError> {
        Ok(self.ledger.shelf().run(&self.run)?.sealed.clone())
    }

    fn close(&mut self) -> Result<(), LedgerError> {
        let mut shelf = self.ledger.shelf();
        let run = shelf.run(&self.run)?;
        run.sealed.clear();
        run.holds = false;
        Ok(())
    }
}

impl Drop for MemoryJournal {
    fn drop(&mut self) {
        if let Ok(run) = self.ledger.shelf().run(&self.run) {
            run.worker = None;
        }
    }
}

/// A run's own latch, and everybody's.
struct MemoryLatches {
    ledger: MemoryLedger,
    run: String,
}

impl Latches for MemoryLatches {
    fn latch(&self) -> Result<Option<Latch>, LedgerError> {
        let mut shelf = self.ledger.shelf();
        match shelf.latch.clone() {
            Some(latch) => Ok(Some(latch)),
            None => Ok(shelf.run(&self.run)?.latch.clone()),
        }
    }
}
