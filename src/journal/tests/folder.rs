//! The state folder: locks, latches, holds, seals, and what a crash leaves.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::{at, holding, plan, state};
use crate::domain::Phase;
use crate::journal::{
    FileJournal, Journal as _, KeyError, Latch, LedgerError, RollbackRequest, SealedEntry, StateDir,
    VerifyingKeys,
};
use crate::rotation::{End, Event, Stop};
use crate::secret::Secret;

const WHO: (&str, &str) = ("tester", "host");

fn noted(text: &str) -> Event {
    Event::Noted { text: text.to_owned() }
}

fn opened(state: &StateDir) -> FileJournal {
    state.create(&Arc::new(plan()), None, WHO, at(0)).expect("a run")
}

fn bytes(state: &StateDir, run: &str) -> Vec<u8> {
    std::fs::read(state.journal_path(run)).expect("a journal")
}

fn append(path: &Path, bytes: &[u8]) {
    let mut file = std::fs::File::options().append(true).create(true).open(path).expect("a file");
    file.write_all(bytes).expect("write");
}

/// The records of a run, as JSON.
fn records(state: &StateDir, run: &str) -> Vec<serde_json::Value> {
    let text = String::from_utf8(bytes(state, run)).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn types(state: &StateDir, run: &str) -> Vec<String> {
    records(state, run).iter().map(|r| r["type"].as_str().expect("a type").to_owned()).collect()
}

#[test]
fn a_record_says_who_when_and_after_what() {
    let (_folder, state) = state();
    let mut journal = state.create(&holding(), Some("leaked".into()), WHO, at(0)).expect("a run");
    journal.commit(at(2), &[noted("a"), noted("b")]).expect("commit");
    journal.commit(at(3), &[]).expect("nothing");
    let run = journal.run().to_owned();
    assert!(run.starts_with("quickstart-20260921-"), "{run}");
    let records = records(&state, &run);
    assert_eq!(records.len(), 3);
    assert_eq!(records[0]["reason"], "leaked");
    for (seq, record) in records.iter().enumerate() {
        assert_eq!(record["seq"], seq);
        assert_eq!(
            (&record["actor"], &record["host"], &record["run"]),
            (&"tester".into(), &"host".into(), &run.clone().into())
        );
        assert_eq!(record["mono_ms"], if seq == 0 { 0 } else { 2000 });
        assert_eq!(record["plan"], holding().digest());
    }
    let (now, report) = state.load(&run).expect("good");
    assert_eq!((report.records, report.unanchored(), report.run.as_deref()), (3, 3, Some(run.as_str())));
    assert_eq!(now.opened(), at(0).wall);
    assert!(matches!(state.load("nobody"), Err(LedgerError::NotFound(_))));
    assert!(matches!(state.audit("nobody", drop), Err(LedgerError::NotFound(_))));
}

#[test]
fn what_matters_is_signed_at_once_and_the_rest_soon() {
    let signed = [
        Event::Entered { phase: Phase::Preflight },
        Event::Turned { to: None, why: "x".into(), by_gate: false, from: None },
        Event::Returned { phase: Phase::Prepare },
        Event::Halted { by: "x".into(), reason: "y".into() },
        Event::HaltCleared { by: "x".into() },
        Event::Resolved { step: "x".into(), applied: true, evidence: "y".into(), facts: Default::default() },
        Event::Repaired { bytes: 1, sha256: "x".into() },
        Event::Stopped { reason: Stop::Halted },
        Event::Closed { end: End::Failed },
    ];
    let (_folder, state) = state();
    let mut journal = opened(&state);
    for event in signed {
        journal.commit(at(1), &[noted("before"), event]).expect("commit");
        let types = types(&state, journal.run());
        assert_eq!(types.last().map(String::as_str), Some("checkpoint"), "{types:?}");
    }
    // With 256 records and no reason a signature comes all the same: also when a process took the run
    // up in between.
    let (_folder, state) = super::state();
    let mut journal = opened(&state);
    let run = journal.run().to_owned();
    for n in 1..200 {
        journal.commit(at(n), &[noted("x")]).expect("commit");
    }
    drop(journal);
    let (mut journal, _) = state.resume(&run, WHO, at(200)).expect("resume");
    for n in 200..255 {
        journal.commit(at(n), &[noted("x")]).expect("commit");
    }
    assert_eq!(types(&state, &run).len(), 255);
    assert!(!types(&state, &run).contains(&"checkpoint".to_owned()));
    journal.commit(at(300), &[noted("the 256th")]).expect("commit");
    assert_eq!(types(&state, &run).last().map(String::as_str), Some("checkpoint"));
    let report = state.audit(&run, drop).expect("readable");
    assert_eq!((report.records, report.anchored, report.checkpoints), (257, 257, 1));
    // And it counts anew from there.
    journal.commit(at(301), &[noted("x")]).expect("commit");
    assert_eq!(types(&state, &run).last().map(String::as_str), Some("noted"));
}

#[test]
fn a_torn_line_is_cut_off_on_the_record() {
    let (_folder, state) = state();
    let mut journal = opened(&state);
    let run = journal.run().to_owned();
    journal.commit(at(1), &[noted("whole")]).expect("commit");
    drop(journal);
    let whole = bytes(&state, &run);
    append(&state.journal_path(&run), b"{\"torn");
    assert_eq!(state.load(&run).expect("good so far").1.torn, 6);
    let (journal, _) = state.resume(&run, WHO, at(2)).expect("resume");
    drop(journal);
    let now = bytes(&state, &run);
    assert!(now.starts_with(&whole) && !now[whole.len()..].starts_with(b"{\"torn"));
    let repaired = &records(&state, &run)[2];
    assert_eq!((repaired["type"].as_str(), repaired["bytes"].as_u64()), (Some("repaired"), Some(6)));
    assert_eq!(repaired["sha256"], hex::encode(Sha256::digest(b"{\"torn")));
    assert_eq!(state.audit(&run, drop).expect("readable").unanchored(), 0);
    // Where nothing is torn nothing is repaired.
    drop(state.resume(&run, WHO, at(3)).expect("resume"));
    assert_eq!(bytes(&state, &run), now);
}

#[test]
fn a_run_has_one_process_at_a_time() {
    let (_folder, state) = state();
    let journal = opened(&state);
    let run = journal.run().to_owned();
    assert!(state.is_live(&run) && !state.is_live("nobody"));
    match state.resume(&run, WHO, at(1)) {
        Err(LedgerError::Busy { by, .. }) => assert!(by.contains("tester on host"), "{by}"),
        other => panic!("two processes: {:?}", other.map(|_| ())),
    }
    drop(journal);
    assert!(!state.is_live(&run));
    // One that was just killed holds its lock for a moment more.
    let held = std::fs::File::open(state.journal_path(&run).with_file_name("lock")).expect("the lock");
    held.lock().expect("held");
    let dying = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        drop(held);
    });
    drop(state.resume(&run, WHO, at(1)).expect("it was waited for"));
    dying.join().expect("dead");
    drop(state.resume(&run, WHO, at(1)).expect("free again"));
    assert!(matches!(state.resume("nobody", WHO, at(1)), Err(LedgerError::NotFound(_))));
}

#[test]
fn an_open_run_holds_its_targets() {
    let (_folder, state) = state();
    let plan = holding();
    let mut first = state.create(&plan, None, WHO, at(0)).expect("a run");
    match state.create(&plan, None, WHO, at(1)).map(drop) {
        Err(LedgerError::Held { target, run }) => {
            assert_eq!(run, first.run());
            assert!(target.contains("demo/"), "{target}");
        }
        other => panic!("two runs write the same: {other:?}"),
    }
    // Another target is free.
    drop(state.create(&Arc::new(super::plan()), None, WHO, at(1)).expect("another"));
    first.commit(at(2), &[Event::Closed { end: End::Failed }]).expect("closed");
    // The process died before it could give back what it held: the record says that it is over.
    let run = first.run().to_owned();
    first.keep_sealed(&[SealedEntry { name: "a".into(), sealed: "b".into() }]).expect("kept");
    drop(first);
    let second = state.create(&plan, None, WHO, at(3)).expect("free");
    assert!(!state.root().join("runs").join(&run).join("sealed.jsonl").exists());
    // What cannot be read may be in the middle of something.
    let path = state.journal_path(second.run());
    drop(second);
    std::fs::copy(&path, path.with_extension("copy")).expect("copy");
    append(&path, b"{}\n");
    assert!(matches!(state.create(&plan, None, WHO, at(4)), Err(LedgerError::Held { .. })));
}

#[test]
fn a_run_that_never_began_holds_nothing() {
    for (left, holds) in [(&b""[..], false), (&b"{\"v\":1,\"run"[..], false), (&b"{\"v\":1}\n"[..], true)] {
        let (_folder, state) = state();
        let first = state.create(&holding(), None, WHO, at(0)).expect("a run");
        let path = state.journal_path(first.run());
        drop(first);
        append(&path, b"");
        std::fs::File::create(&path).expect("emptied").write_all(left).expect("write");
        let second = state.create(&holding(), None, WHO, at(1));
        assert_eq!(matches!(second, Err(LedgerError::Held { .. })), holds, "{left:?}");
        assert_eq!(second.is_ok(), !holds, "{left:?}");
    }
    // Its process may be about to write it.
    let (_folder, state) = state();
    let first = state.create(&holding(), None, WHO, at(0)).expect("a run");
    std::fs::File::create(state.journal_path(first.run())).expect("emptied");
    assert!(matches!(state.create(&holding(), None, WHO, at(1)), Err(LedgerError::Held { .. })));
    drop(first);
    // A hold whose run is not there at all is one that was never opened.
    let (_folder, state) = super::state();
    let first = state.create(&holding(), None, WHO, at(0)).expect("a run");
    std::fs::remove_dir_all(state.journal_path(first.run()).parent().expect("a folder")).expect("removed");
    drop(first);
    assert!(state.create(&holding(), None, WHO, at(1)).is_ok());
}

#[test]
fn the_latch_is_one_runs_or_everybodys() {
    let (_folder, state) = state();
    let journal = opened(&state);
    let run = journal.run().to_owned();
    let latch = |by: &str| Latch { by: by.into(), reason: "why".into() };
    assert_eq!((state.latch(None).expect("read"), journal.latches().latch().expect("read")), (None, None));
    state.set_latch(Some(&run), &latch("one")).expect("set");
    assert_eq!(state.latch(None).expect("read"), None);
    assert_eq!(state.latch(Some(&run)).expect("read"), Some(latch("one")));
    assert_eq!(journal.latches().latch().expect("read"), Some(latch("one")));
    state.set_latch(None, &latch("all")).expect("set");
    assert_eq!(journal.latches().latch().expect("read"), Some(latch("all")), "everybody's comes first");
    assert!(state.clear_latch(Some(&run)).expect("cleared"));
    assert!(!state.clear_latch(Some(&run)).expect("was clear"));
    assert_eq!(journal.latches().latch().expect("read"), Some(latch("all")));
    assert!(state.clear_latch(None).expect("cleared"));
    assert_eq!(journal.latches().latch().expect("read"), None);
    // A file that cannot be read as a latch is no free way.
    append(&state.root().join("halt"), b"{");
    assert!(matches!(journal.latches().latch(), Err(LedgerError::Damaged { .. })));
    assert!(matches!(state.latch(None), Err(LedgerError::Damaged { .. })));
}

#[test]
fn a_request_is_taken_once() {
    let (_folder, state) = state();
    let mut journal = opened(&state);
    let run = journal.run().to_owned();
    let request = RollbackRequest { to: Some(Phase::Verify), why: "why".into() };
    assert_eq!(journal.take_request().expect("none"), None);
    state.request(&run, &request).expect("left");
    assert_eq!(journal.take_request().expect("taken"), Some(request.clone()));
    assert_eq!(journal.take_request().expect("none"), None);
    state.request(&run, &request).expect("left");
    assert!(state.withdraw(&run).expect("withdrawn") && !state.withdraw(&run).expect("nothing"));
    assert_eq!(journal.take_request().expect("none"), None);
    // One that cannot be read is an error once, and gone.
    state.request(&run, &request).expect("left");
    let path = state.journal_path(&run).with_file_name("request.json");
    std::fs::File::create(&path).expect("file").write_all(b"{").expect("write");
    assert!(matches!(journal.take_request(), Err(LedgerError::Damaged { .. })));
    assert_eq!(journal.take_request().expect("gone"), None);
}

#[test]
fn sealed_secrets_outlive_a_crash_and_not_the_run() {
    let (_folder, state) = state();
    let mut journal = opened(&state);
    let entry = |n: u8| SealedEntry { name: format!("name {n}"), sealed: format!("sealed {n}") };
    let path = state.journal_path(journal.run()).with_file_name("sealed.jsonl");
    assert_eq!(journal.sealed().expect("none"), vec![]);
    journal.keep_sealed(&[]).expect("nothing");
    assert!(!path.exists());
    journal.keep_sealed(&[entry(1), entry(2)]).expect("kept");
    assert_eq!(std::fs::metadata(&path).expect("file").permissions().mode() & 0o777, 0o600);
    append(&path, b"{\"name\":\"torn");
    assert_eq!(journal.sealed().expect("read"), [entry(1), entry(2)]);
    journal.keep_sealed(&[entry(3)]).expect("kept behind what was torn");
    assert_eq!(journal.sealed().expect("read"), [entry(1), entry(2), entry(3)]);
    journal.keep_sealed(&[entry(4)]).expect("kept");
    let text = std::fs::read_to_string(&path).expect("a file");
    assert_eq!((text.lines().count(), text.lines().filter(|line| line.is_empty()).count()), (5, 0), "{text}");
    let run = journal.run().to_owned();
    let hold = state.root().join("open").join(format!("{run}.json"));
    assert!(hold.exists());
    let open = std::fs::File::open(&path).expect("file");
    journal.close().expect("closed");
    assert!(!path.exists() && !hold.exists());
    assert_eq!(open.metadata().expect("still open here").len(), 0, "emptied before it was removed");
    journal.close().expect("once more is no harm");
}

#[test]
fn a_run_is_named_by_the_beginning_of_its_name() {
    let (_folder, state) = state();
    assert!(matches!(state.find(None), Err(LedgerError::NoOpenRun)));
    assert!(matches!(state.find_any(None), Err(LedgerError::NoOpenRun)));
    let mut first = opened(&state);
    let one = first.run().to_owned();
    assert_eq!(state.find(None).expect("the open one"), one);
    assert_eq!(state.find(Some(&one[..12])).expect("by its beginning"), one);
    assert!(matches!(state.find(Some("x")), Err(LedgerError::NotFound(name)) if name == "x"));
    let second = opened(&state);
    let two = second.run().to_owned();
    assert!(matches!(state.find(None), Err(LedgerError::SeveralOpen(runs)) if runs.len() == 2));
    assert!(matches!(state.find(Some("tampering")), Err(LedgerError::Ambiguous { .. })));
    assert!(matches!(state.find_any(None), Err(LedgerError::SeveralOpen(_))));
    assert_eq!(state.find_any(Some(&one)).expect("by its name"), one);
    let mut both = vec![one.clone(), two.clone()];
    both.sort();
    assert_eq!(state.runs().expect("both"), both);
    // A closed one is not open any more, and still there.
    first.close().expect("closed");
    assert_eq!(state.find(None).expect("the open one"), two);
    drop((first, second));
    std::fs::remove_file(state.root().join("open").join(format!("{two}.json"))).expect("closed");
    assert!(matches!(state.find(None), Err(LedgerError::NoOpenRun)));
    let last = state.find_any(None).expect("the last one");
    assert!(both.contains(&last));
    // A folder without a journal is no run, and a whole name beats a beginning.
    std::fs::create_dir(state.root().join("runs").join(&one[..one.len() - 1])).expect("folder");
    assert_eq!(state.runs().expect("both"), both);
    let whole = &one[..one.len() - 1];
    std::fs::copy(state.journal_path(&one), state.journal_path(whole)).expect("copy");
    assert_eq!(state.find(Some(whole)).expect("the whole name"), whole);
    assert!(state.load(&one).is_ok() && state.load(whole).is_err());
}

#[test]
fn the_folder_is_its_owners_and_of_one_version() {
    let (folder, state) = state();
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    for name in ["", "keys", "open", "runs"] {
        assert_eq!(mode(&state.root().join(name)), 0o700, "{name}");
    }
    assert_eq!(state.root(), folder.path().join("state"));
    assert_eq!(state.sandbox(), state.root().join("sandbox"));
    let journal = opened(&state);
    assert_eq!(mode(&state.journal_path(journal.run())), 0o600);
    drop(state.sealer().expect("a sealer"));
    for name in ["journal.key", "seal.key"] {
        assert_eq!(mode(&state.root().join("keys").join(name)), 0o600, "{name}");
    }
    state.check_room(10).expect("room");
    match state.check_room(usize::MAX / 20_000) {
        Err(LedgerError::NoRoom { free, needed, .. }) => assert!(free < needed),
        other => panic!("there is room for everything: {other:?}"),
    }
    StateDir::open(state.root()).expect("the same again");
    std::fs::File::create(state.root().join("version")).expect("file").write_all(b"7\n").expect("write");
    assert!(
        matches!(StateDir::open(state.root()), Err(LedgerError::OtherVersion { found, .. }) if found == "7")
    );
}

#[test]
fn a_key_is_made_once_and_never_replaced() {
    let (_folder, state) = state();
    let keys = state.root().join("keys");
    drop(opened(&state));
    let public = std::fs::read_to_string(keys.join("journal.vkey")).expect("its public half");
    let secret = std::fs::read(keys.join("journal.key")).expect("the key");
    drop(opened(&state));
    assert_eq!(std::fs::read(keys.join("journal.key")).expect("the key"), secret);
    // The public half follows from the private one.
    std::fs::remove_file(keys.join("journal.vkey")).expect("lost");
    drop(opened(&state));
    assert_eq!(std::fs::read_to_string(keys.join("journal.vkey")).expect("again"), public);
    // A new private one would make every old journal look forged.
    std::fs::remove_file(keys.join("journal.key")).expect("lost");
    assert!(matches!(state.create(&Arc::new(plan()), None, WHO, at(0)), Err(LedgerError::Key { .. })));
    assert!(!keys.join("journal.key").exists());
    // A sealer opens what an earlier one of this folder has sealed.
    let sealed = state.sealer().expect("a sealer").seal(&Secret::new("value")).expect("sealed");
    assert_eq!(state.sealer().expect("again").open(&sealed).expect("opened").expose(), "value");
}

#[test]
fn verifier_keys_are_read_a_line_each() {
    let (_folder, state) = state();
    drop(opened(&state));
    let key = std::fs::read_to_string(state.root().join("keys/journal.vkey")).expect("a key");
    for good in [key.clone(), format!("# ours\n\n  {key}\n"), format!("{key}{key}")] {
        assert!(VerifyingKeys::parse(&good).is_ok(), "{good}");
    }
    for bad in ["", "# nothing\n", "no key", &format!("{key}no key\n")] {
        assert!(matches!(VerifyingKeys::parse(bad), Err(KeyError::Malformed)), "{bad}");
    }
}

/// A line that no record needs is not read into memory to its end.
#[test]
fn an_endless_line_is_given_up() {
    let (_folder, state) = state();
    let mut journal = opened(&state);
    let run = journal.run().to_owned();
    // Long is not endless.
    journal.commit(at(1), &[noted(&"x".repeat(3 << 20))]).expect("commit");
    drop(journal);
    assert_eq!(state.audit(&run, drop).expect("readable").records, 2);
    append(&state.journal_path(&run), &vec![b'x'; 5 << 20]);
    let report = state.audit(&run, drop).expect("readable");
    let fault = report.fault.expect("a fault");
    assert_eq!((report.records, report.torn, fault.line), (2, 0, 3));
    assert!(fault.what.contains("longer"), "{fault}");
}
