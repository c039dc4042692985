//! What every ledger promises, and each of them keeping it.

use std::sync::Arc;

use super::{at, holding, plan};
use crate::domain::Phase;
use crate::journal::{
    Latch, Ledger, LedgerError, MemoryLedger, Record, RollbackRequest, SealedEntry, StateDir,
};
use crate::plan::Plan;
use crate::rotation::{End, Event, Stop};

const WHO: (&str, &str) = ("tester", "host");

/// Two views of one new ledger, as two processes have them.
trait Backend {
    fn views(&self) -> (Box<dyn Ledger>, Box<dyn Ledger>);
}

struct Files(tempfile::TempDir);

impl Backend for Files {
    fn views(&self) -> (Box<dyn Ledger>, Box<dyn Ledger>) {
        let view = || Box::new(StateDir::open(&self.0.path().join("state")).expect("a state folder"));
        (view(), view())
    }
}

struct Memory;

impl Backend for Memory {
    fn views(&self) -> (Box<dyn Ledger>, Box<dyn Ledger>) {
        let ledger = MemoryLedger::default();
        (Box::new(ledger.clone()), Box::new(ledger))
    }
}

fn backends() -> [Box<dyn Backend>; 2] {
    [Box::new(Files(tempfile::tempdir().expect("a folder"))), Box::new(Memory)]
}

/// A plan without a target, of which any number of runs may be open.
fn free() -> Arc<Plan> {
    Arc::new(plan())
}

fn stopped() -> [Event; 1] {
    [Event::Stopped { reason: Stop::Interrupted }]
}

#[tokio::test]
async fn a_run_is_found_by_its_name_a_beginning_or_as_the_only_one() {
    for backend in backends() {
        let (one, two) = backend.views();
        assert!(matches!(one.find(None).await, Err(LedgerError::NoOpenRun)));
        assert!(matches!(one.find_any(None).await, Err(LedgerError::NoOpenRun)));
        assert!(matches!(one.find(Some("x")).await, Err(LedgerError::NotFound(name)) if name == "x"));
        assert!(one.newest().await.expect("none").is_none() && one.runs().await.expect("none").is_empty());
        let mut first = one.open(&free(), None, WHO, at(0)).await.expect("a run");
        let name = first.run().to_owned();
        assert!(name.starts_with("tampering-"), "a run has its runbook's name: {name}");
        assert_eq!(two.find(None).await.expect("the only open run"), name);
        assert_eq!(two.find(Some(&name)).await.expect("the name"), name);
        assert_eq!(two.find(Some("tamp")).await.expect("a beginning"), name);
        // The two begin at moments that any backend can tell apart.
        std::thread::sleep(std::time::Duration::from_millis(20));
        let second = one.open(&free(), None, WHO, at(1)).await.expect("another run").run().to_owned();
        let mut both = vec![name.clone(), second.clone()];
        both.sort();
        assert_eq!(
            (two.runs().await.expect("runs"), two.open_runs().await.expect("open")),
            (both.clone(), both.clone())
        );
        assert_eq!(two.newest().await.expect("the newest"), Some(second.clone()));
        assert!(matches!(two.find(None).await, Err(LedgerError::SeveralOpen(runs)) if runs == both));
        let fits = two.find(Some("tampering")).await;
        assert!(
            matches!(fits, Err(LedgerError::Ambiguous { name, runs }) if name == "tampering" && runs == both)
        );
        first.commit(at(2), &[Event::Closed { end: End::Failed }]).expect("commit");
        first.close().expect("close");
        assert_eq!(two.find(None).await.expect("the one that is still open"), second);
        let (mut rest, _) = two.resume(&second, WHO, at(3)).await.expect("resumed");
        rest.commit(at(3), &[Event::Closed { end: End::Failed }]).expect("commit");
        rest.close().expect("close");
        assert!(matches!(one.find(None).await, Err(LedgerError::NoOpenRun)));
        assert_eq!(one.find_any(None).await.expect("the last one"), second);
        assert_eq!(one.find_any(Some(&name)).await.expect("its name"), name);
        assert_eq!(one.runs().await.expect("runs"), both);
    }
}

#[tokio::test]
async fn one_process_has_a_run_until_it_lets_go_and_what_it_recorded_is_there() {
    for backend in backends() {
        let (one, two) = backend.views();
        assert!(matches!(one.resume("x", WHO, at(0)).await.map(drop), Err(LedgerError::NotFound(_))));
        assert!(matches!(one.load("x").await.map(drop), Err(LedgerError::NotFound(_))));
        assert!(matches!(one.records("x", &mut drop).await, Err(LedgerError::NotFound(_))));
        let mut journal = one.open(&holding(), Some("leaked".into()), WHO, at(0)).await.expect("a run");
        let run = journal.run().to_owned();
        assert!(two.is_live(&run).await.expect("live"));
        match two.resume(&run, ("other", "there"), at(1)).await.map(drop) {
            Err(LedgerError::Busy { run: busy, by }) => {
                assert_eq!(busy, run);
                assert!(by.contains("tester on host"), "{by}");
            }
            other => panic!("two processes have one run: {other:?}"),
        }
        journal.commit(at(1), &[Event::Entered { phase: Phase::Preflight }]).expect("commit");
        journal.commit(at(2), &[]).expect("nothing");
        journal.commit(at(2), &stopped()).expect("commit");
        let seen = two.load(&run).await.expect("read beside the process that has it");
        assert_eq!((seen.phase(), seen.opened()), (Some(Phase::Preflight), at(0).wall));
        drop(journal);
        assert!(!two.is_live(&run).await.expect("gone"));
        let (mut journal, state) = two.resume(&run, ("other", "there"), at(3)).await.expect("resumed");
        assert_eq!((state.stopped(), state.plan().digest()), (Some(&Stop::Interrupted), holding().digest()));
        journal.commit(at(3), &[Event::Resumed {}]).expect("commit");
        let mut records: Vec<Record> = Vec::new();
        let report = one.records(&run, &mut |record| records.push(record)).await.expect("records");
        assert!(report.fault.is_none() && report.torn == 0 && report.run.as_deref() == Some(&run));
        assert_eq!(report.records, records.len() as u64);
        assert!(matches!(&records[0].event, Event::Opened { reason: Some(why), .. } if why == "leaked"));
        for (seq, record) in (0..).zip(&records) {
            assert_eq!((record.envelope.seq, &record.envelope.run), (seq, &run));
            assert_eq!(record.envelope.plan, holding().digest());
        }
        for pair in records.windows(2) {
            let before = crate::journal::chain::leaf(&pair[0].line());
            assert_eq!(pair[1].envelope.prev, hex::encode(before.0), "the records are a chain");
        }
        // Checkpoints are the backend's own.
        records.retain(|record| record.event.name() != "checkpoint");
        let names: Vec<&str> = records.iter().map(|record| record.event.name()).collect();
        assert_eq!(names, ["opened", "entered", "stopped", "resumed"]);
        let who = |at: usize| (records[at].envelope.actor.as_str(), records[at].envelope.host.as_str());
        assert_eq!((who(1), who(3)), (WHO, ("other", "there")));
        assert_eq!(records[3].envelope.wall, at(3).wall);
    }
}

#[tokio::test]
async fn an_open_run_holds_its_targets_until_it_is_closed() {
    for backend in backends() {
        let (one, two) = backend.views();
        let mut journal = one.open(&holding(), None, WHO, at(0)).await.expect("a run");
        let run = journal.run().to_owned();
        let held = |refused: Result<(), LedgerError>| match refused {
            Err(LedgerError::Held { target, run: holder }) => {
                assert!(holding().holds().contains_key(&target) && holder == run, "{target} {holder}");
            }
            other => panic!("two open runs hold one target: {other:?}"),
        };
        held(two.open(&holding(), None, WHO, at(1)).await.map(drop));
        drop(two.open(&free(), None, WHO, at(1)).await.expect("another target"));
        drop(journal);
        held(two.open(&holding(), None, WHO, at(2)).await.map(drop));
        (journal, _) = one.resume(&run, WHO, at(3)).await.expect("resumed");
        journal.commit(at(3), &[Event::Closed { end: End::Failed }]).expect("commit");
        journal.close().expect("close");
        // Where a crash comes before a run that is over could be closed, it holds nothing.
        let last = two.open(&holding(), None, WHO, at(4)).await.expect("the target is free").run().to_owned();
        let (mut journal, _) = two.resume(&last, WHO, at(5)).await.expect("resumed");
        journal.commit(at(5), &[Event::Closed { end: End::Failed }]).expect("commit");
        drop(journal);
        drop(one.open(&holding(), None, WHO, at(6)).await.expect("the target is free"));
    }
}

#[tokio::test]
async fn a_latch_holds_one_run_or_all_until_it_is_cleared() {
    let latch = |reason: &str| Latch { by: "tester@host".into(), reason: reason.into() };
    for backend in backends() {
        let (one, two) = backend.views();
        let journal = one.open(&free(), None, WHO, at(0)).await.expect("a run");
        let run = journal.run();
        let latches = journal.latches();
        assert!(latches.latch().expect("none").is_none() && !two.clear_latch(None).await.expect("none"));
        two.set_latch(Some(run), &latch("one")).await.expect("set");
        assert_eq!(latches.latch().expect("set"), Some(latch("one")));
        assert_eq!(one.latch(Some(run)).await.expect("set"), Some(latch("one")));
        assert_eq!(one.latch(None).await.expect("not set"), None);
        two.set_latch(None, &latch("all")).await.expect("set");
        assert_eq!(latches.latch().expect("set"), Some(latch("all")));
        assert_eq!(one.latch(Some(run)).await.expect("its own"), Some(latch("one")));
        two.set_latch(None, &latch("again")).await.expect("set");
        assert_eq!(one.latch(None).await.expect("the later one"), Some(latch("again")));
        assert!(one.clear_latch(Some(run)).await.expect("cleared"));
        assert_eq!(latches.latch().expect("all are halted"), Some(latch("again")));
        assert!(one.clear_latch(None).await.expect("cleared") && !one.clear_latch(None).await.expect("off"));
        assert_eq!(latches.latch().expect("none"), None);
    }
}

#[tokio::test]
async fn a_request_is_taken_once_or_withdrawn() {
    for backend in backends() {
        let (one, two) = backend.views();
        let mut journal = one.open(&free(), None, WHO, at(0)).await.expect("a run");
        let run = journal.run().to_owned();
        let request = RollbackRequest { to: Some(Phase::Prepare), why: "asked".into() };
        assert_eq!(journal.take_request().expect("none"), None);
        two.request(&run, &RollbackRequest { to: None, why: "earlier".into() }).await.expect("left");
        two.request(&run, &request).await.expect("left");
        assert_eq!(journal.take_request().expect("the later one"), Some(request.clone()));
        assert_eq!(journal.take_request().expect("once"), None);
        assert!(!two.withdraw(&run).await.expect("it was taken"));
        two.request(&run, &request).await.expect("left");
        assert!(two.withdraw(&run).await.expect("withdrawn"));
        assert_eq!(journal.take_request().expect("withdrawn"), None);
        two.request(&run, &request).await.expect("left");
        drop(journal);
        let (mut journal, _) = one.resume(&run, WHO, at(1)).await.expect("resumed");
        assert_eq!(journal.take_request().expect("it outlives the process"), Some(request));
    }
}

#[tokio::test]
async fn of_an_unknown_run_nothing_is_told_and_nothing_is_left() {
    let latch = Latch { by: "tester@host".into(), reason: "stop".into() };
    let request = RollbackRequest { to: None, why: "asked".into() };
    let unknown = |said: Result<(), LedgerError>, what: &str| {
        assert!(matches!(&said, Err(LedgerError::NotFound(run)) if run == "x"), "{what}: {said:?}");
    };
    for backend in backends() {
        let (one, two) = backend.views();
        unknown(one.load("x").await.map(drop), "load");
        unknown(one.is_live("x").await.map(drop), "is_live");
        unknown(one.latch(Some("x")).await.map(drop), "latch");
        unknown(one.set_latch(Some("x"), &latch).await, "set_latch");
        unknown(one.clear_latch(Some("x")).await.map(drop), "clear_latch");
        unknown(one.request("x", &request).await, "request");
        unknown(one.withdraw("x").await.map(drop), "withdraw");
        unknown(one.sealed("x").await.map(drop), "sealed");
        assert!(
            two.runs().await.expect("runs").is_empty() && two.open_runs().await.expect("runs").is_empty()
        );
    }
}

#[tokio::test]
async fn of_a_run_that_is_over_there_is_no_seal_and_its_latch_can_be_cleared() {
    let latch = Latch { by: "tester@host".into(), reason: "stop".into() };
    for backend in backends() {
        let (one, two) = backend.views();
        let mut journal = one.open(&free(), None, WHO, at(0)).await.expect("a run");
        let run = journal.run().to_owned();
        journal.commit(at(1), &[Event::Closed { end: End::Failed }]).expect("commit");
        journal.close().expect("close");
        drop(journal);
        assert!(!two.is_live(&run).await.expect("nobody works on it"));
        assert!(two.sealed(&run).await.expect("none").is_empty());
        assert!(
            !two.withdraw(&run).await.expect("none") && !two.clear_latch(Some(&run)).await.expect("none")
        );
        two.set_latch(Some(&run), &latch).await.expect("set");
        assert_eq!(one.latch(Some(&run)).await.expect("set"), Some(latch.clone()));
        assert!(one.clear_latch(Some(&run)).await.expect("cleared"));
    }
}

#[tokio::test]
async fn what_is_sealed_is_kept_until_the_run_is_closed() {
    let entry = |name: &str| SealedEntry { name: name.into(), sealed: format!("sealed {name}") };
    for backend in backends() {
        let (one, two) = backend.views();
        let mut journal = one.open(&free(), None, WHO, at(0)).await.expect("a run");
        let run = journal.run().to_owned();
        assert!(
            journal.sealed().expect("none").is_empty() && two.sealed(&run).await.expect("none").is_empty()
        );
        journal.keep_sealed(&[]).expect("nothing");
        journal.keep_sealed(&[entry("a"), entry("b")]).expect("kept");
        journal.keep_sealed(&[entry("a")]).expect("kept");
        let all = [entry("a"), entry("b"), entry("a")];
        assert_eq!(
            (journal.sealed().expect("kept"), two.sealed(&run).await.expect("kept")),
            (all.to_vec(), all.to_vec())
        );
        drop(journal);
        let (mut journal, _) = two.resume(&run, WHO, at(1)).await.expect("resumed");
        assert_eq!(journal.sealed().expect("kept"), all);
        journal.commit(at(2), &[Event::Closed { end: End::Failed }]).expect("commit");
        journal.close().expect("close");
        assert!(
            journal.sealed().expect("gone").is_empty() && one.sealed(&run).await.expect("gone").is_empty()
        );
    }
}

#[tokio::test]
async fn an_approval_is_taken_once_by_the_process_that_has_the_run() {
    for backend in backends() {
        let (one, two) = backend.views();
        let approval = |n: u32| crate::approve::Signed { statement: format!("{n}"), signature: "s".into() };
        assert!(matches!(two.leave_approval("x", &approval(1)).await, Err(LedgerError::NotFound(_))));
        let mut journal = one.open(&free(), None, WHO, at(0)).await.expect("a run");
        let run = journal.run().to_owned();
        assert_eq!(journal.take_approvals().expect("none"), []);
        two.leave_approval(&run, &approval(1)).await.expect("left");
        two.leave_approval(&run, &approval(2)).await.expect("left");
        let mut taken = journal.take_approvals().expect("two");
        taken.sort_by(|a, b| a.statement.cmp(&b.statement));
        assert_eq!(taken, [approval(1), approval(2)]);
        assert_eq!(journal.take_approvals().expect("none is left"), []);
    }
}
