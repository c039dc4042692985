//! What stands for a run's journal besides its own signatures: the index, anchors, and the keys' history.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::{at, plan, state};
use crate::domain::Phase;
use crate::journal::{
    Anchors, Cover, Examined, Journal as _, KeyError, LedgerError, StateDir, VerifyingKeys,
    examine_index_file, examine_journal_file,
};
use crate::rotation::{End, Event};

const WHO: (&str, &str) = ("tester", "host");

fn noted(n: usize) -> Event {
    Event::Noted { text: format!("note {n}") }
}

/// How far a run has come.
#[derive(Clone, Copy, PartialEq)]
enum Run {
    /// Nobody works on it, and it is not over.
    Open,
    /// Its last record says that it is over; its process died before it could say so elsewhere.
    Closing,
    /// It is over.
    Closed,
}

/// Makes a run with some notes, and a checkpoint in its midst.
fn run(state: &StateDir, how: Run) -> String {
    let mut journal = state.create(&Arc::new(plan()), None, WHO, at(0)).expect("a run");
    for n in 1..4 {
        journal.commit(at(1), &[noted(n)]).expect("commit");
    }
    journal.commit(at(2), &[Event::Entered { phase: Phase::Preflight }]).expect("commit");
    journal.commit(at(3), &[noted(5)]).expect("commit");
    journal.commit(at(3), &[Event::Entered { phase: Phase::Prepare }]).expect("commit");
    if how != Run::Open {
        journal.commit(at(4), &[Event::Closed { end: End::Failed }]).expect("commit");
    }
    if how == Run::Closed {
        journal.close().expect("closed");
    }
    journal.run().to_owned()
}

/// Damages a file, as anybody could who has the folder.
#[expect(clippy::disallowed_methods, reason = "what damages a file need not be careful")]
fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
    fs::write(path, bytes)
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).expect("a file").lines().map(|line| format!("{line}\n")).collect()
}

/// The notes of a journal or an index, oldest first.
fn notes(path: &Path) -> Vec<String> {
    let note = |line: String| {
        let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        (line["type"] == "checkpoint").then(|| line["note"].as_str().expect("a note").to_owned())
    };
    lines(path).into_iter().filter_map(note).collect()
}

fn anchors(notes: &[&str]) -> Anchors {
    let mut anchors = Anchors::default();
    for note in notes {
        anchors.read("safe", note).expect("a note");
    }
    anchors
}

fn examine(state: &StateDir, run: &str, anchors: &Anchors) -> Result<Examined, LedgerError> {
    let keys = state.verifying_keys().expect("keys");
    let index = state.examine_index(&keys, anchors)?.map(|(index, _)| index);
    state.examine(run, index.as_ref(), &keys, anchors)
}

fn cover(state: &StateDir, run: &str) -> Examined {
    examine(state, run, &Anchors::default()).expect("there is such a run")
}

/// The line at which something is wrong, with its words.
fn fault(found: &Examined, words: &str) -> u64 {
    let fault = found.report.fault.clone().expect("a fault");
    assert!(fault.what.contains(words), "{fault}");
    fault.line
}

#[test]
fn a_run_is_covered_as_far_as_it_came() {
    let (_folder, state) = state();
    let open = run(&state, Run::Open);
    let closing = run(&state, Run::Closing);
    for (name, wanted, over) in [(&open, Cover::Open, false), (&closing, Cover::Closing, true)] {
        let found = cover(&state, name);
        assert_eq!((found.cover, found.over, found.report.fault), (wanted, over, None), "{name}");
    }
    // Whoever opens the index next records the end that a crash kept from it, and no other.
    let closed = run(&state, Run::Closed);
    for (name, wanted, over) in
        [(&open, Cover::Open, false), (&closing, Cover::Closed, true), (&closed, Cover::Closed, true)]
    {
        let found = cover(&state, name);
        assert_eq!((found.cover, found.over, found.report.fault), (wanted, over, None), "{name}");
        assert_eq!(found.anchors, 0);
    }
    // Saying it twice writes nothing.
    let index = fs::read(state.index_path()).expect("an index");
    let (mut journal, _) = state.resume(&closed, WHO, at(9)).expect("a run");
    journal.close().expect("closed");
    assert_eq!(fs::read(state.index_path()).expect("an index"), index);
    // Without the index a journal stands for itself.
    let keys = state.verifying_keys().expect("keys");
    let alone = state.examine(&open, None, &keys, &Anchors::default()).expect("a run");
    assert_eq!((alone.cover, alone.report.fault), (Cover::NoIndex, None));
    let alone = examine_journal_file(&state.journal_path(&closed), &keys, &Anchors::default()).expect("read");
    assert_eq!((alone.cover, alone.over, alone.report.fault), (Cover::NoIndex, true, None));
    assert!(examine_journal_file(Path::new("/nowhere"), &keys, &Anchors::default()).is_err());
    let all = state.known_runs(None, &keys, &Anchors::default()).expect("runs");
    let mut wanted = vec![open, closing, closed];
    wanted.sort();
    assert_eq!(all, wanted);
}

#[test]
fn a_long_run_is_over_when_its_last_records_say_so() {
    let (_folder, state) = state();
    let mut journal = state.create(&Arc::new(plan()), None, WHO, at(0)).expect("a run");
    journal.commit(at(1), &(0..100).map(noted).collect::<Vec<_>>()).expect("commit");
    let run = journal.run().to_owned();
    assert!(fs::metadata(state.journal_path(&run)).expect("there").len() > 20_000);
    assert!(!cover(&state, &run).over);
    journal.commit(at(2), &[Event::Closed { end: End::Failed }]).expect("commit");
    drop(journal);
    assert!(cover(&state, &run).over);
    // Its last record is torn: nobody knows that it is over.
    let path = state.journal_path(&run);
    let whole = lines(&path);
    let closed = whole.len() - 2;
    assert!(whole[closed].contains("\"type\":\"closed\""));
    let torn = [whole[..closed].concat(), whole[closed].trim_end().to_owned()].concat();
    write(&path, torn).expect("torn");
    assert!(!cover(&state, &run).over);
    // A crash came between the end and its signature: whoever takes the run up signs it.
    write(&path, whole[..=closed].concat()).expect("unsigned");
    assert!(cover(&state, &run).report.unanchored() > 0);
    drop(state.resume(&run, WHO, at(3)).expect("a run"));
    assert_eq!(cover(&state, &run).report.unanchored(), 0);
}

#[test]
fn a_run_that_is_gone_cut_off_or_exchanged_shows() {
    let (_folder, state) = state();
    let (one, two) = (run(&state, Run::Closed), run(&state, Run::Closed));
    let path = state.journal_path(&one);
    let whole = lines(&path);
    for kept in 1..whole.len() {
        write(&path, whole[..kept].concat()).expect("cut off");
        let found = cover(&state, &one);
        assert_eq!(fault(&found, "the end was removed"), kept as u64 + 1);
    }
    write(&path, [whole.concat(), "more".into()].concat()).expect("longer");
    assert_eq!(fault(&cover(&state, &one), "more records follow"), whole.len() as u64 + 1);
    fs::copy(state.journal_path(&two), &path).expect("exchanged");
    assert_eq!(fault(&cover(&state, &one), "the journal of another run"), 1);
    // An earlier fault of the journal's own is the one that is told.
    let broken = whole[1].replace("note 1", "note x");
    write(&path, [&whole[0], &broken, &whole[2]].map(String::as_str).concat()).expect("changed");
    assert_eq!(fault(&cover(&state, &one), ""), 3);
    // The index tells of an earlier line than the journal itself.
    let broken = whole[0].replacen("tester", "jester", 1);
    write(&path, [broken, whole[1..].concat()].concat()).expect("changed");
    assert_eq!(fault(&cover(&state, &one), "a different first record"), 1);
    // What follows the end of a run that is over keeps it from being taken up.
    write(&path, [whole.concat(), "more".into()].concat()).expect("longer");
    assert!(matches!(
        state.resume(&one, WHO, at(9)),
        Err(LedgerError::Invalid { fault, .. }) if fault.what.contains("more records follow")
    ));
    fs::remove_file(&path).expect("removed");
    let found = cover(&state, &one);
    assert_eq!(fault(&found, "the index lists this run since"), 1);
    assert_eq!(
        (found.report.run.as_deref(), found.report.records, found.over),
        (Some(one.as_str()), 0, false)
    );
    // What cannot be opened is not gone.
    fs::remove_dir_all(path.parent().expect("a folder")).expect("removed");
    write(path.parent().expect("a folder"), "").expect("a file");
    assert!(matches!(examine(&state, &one, &Anchors::default()), Err(LedgerError::Io { .. })));
    assert!(matches!(
        examine(&state, "nobody", &Anchors::default()),
        Err(LedgerError::NotFound(name)) if name == "nobody"
    ));
    let keys = state.verifying_keys().expect("keys");
    let index = state.index(&[]).expect("read").expect("an index");
    let known = state.known_runs(Some(&index), &keys, &Anchors::default()).expect("runs");
    assert!(known.contains(&one), "the index still knows it");
}

#[test]
fn a_run_that_the_index_does_not_know_shows_once_something_was_done() {
    let (_folder, state) = state();
    drop(run(&state, Run::Closed));
    let before = fs::read(state.index_path()).expect("an index");
    let late = run(&state, Run::Closed);
    write(state.index_path(), before).expect("cut off");
    assert_eq!(fault(&cover(&state, &late), "the index does not list this run"), 1);
    assert!(matches!(
        state.resume(&late, WHO, at(9)),
        Err(LedgerError::Invalid { fault, .. }) if fault.what.contains("does not list this run")
    ));
    // A crash may come between the first record and the index.
    let path = state.journal_path(&late);
    write(&path, &lines(&path)[0]).expect("cut off");
    let found = cover(&state, &late);
    assert_eq!((found.cover, found.report.fault), (Cover::Unknown, None));
    // Taking it up tells the index.
    drop(state.resume(&late, WHO, at(9)).expect("a run"));
    assert_eq!(cover(&state, &late).cover, Cover::Open);
}

#[test]
fn anchors_hold_a_journal_to_what_it_was() {
    let (_folder, state) = state();
    let name = run(&state, Run::Closed);
    let path = state.journal_path(&name);
    let (whole, notes) = (lines(&path), notes(&path));
    assert_eq!(notes.len(), 3, "one for each phase, and one for the end");
    let all: Vec<&str> = notes.iter().map(String::as_str).collect();
    let kept = anchors(&all);
    assert_eq!((kept.len(), kept.is_empty()), (3, false));
    assert_eq!((Anchors::default().len(), Anchors::default().is_empty()), (0, true));
    let keys = state.verifying_keys().expect("keys");
    let check = |kept: &Anchors| examine_journal_file(&path, &keys, kept).expect("read");
    assert_eq!((check(&kept).anchors, check(&kept).report.fault), (3, None));
    // The newest one first, too.
    let backwards = anchors(&[all[2], all[0], all[1]]);
    assert_eq!(check(&backwards).anchors, 3);
    // Cut off behind an older checkpoint, the journal is good by itself.
    let second = whole.iter().rposition(|line| line.contains("\"phase\":\"prepare\"")).expect("a phase") + 1;
    write(&path, whole[..=second].concat()).expect("cut off");
    assert_eq!(check(&Anchors::default()).report.fault, None);
    let found = check(&kept);
    assert_eq!((fault(&found, "the end was removed"), found.anchors), (second as u64 + 2, 2));
    // Without the checkpoint that the anchor is, one record is missing.
    write(&path, whole[..whole.len() - 1].concat()).expect("cut off");
    assert_eq!(fault(&check(&kept), &format!("there were {} records", whole.len())), whole.len() as u64);
    // Another history of the same run, signed by the same key.
    write(&path, whole.concat()).expect("whole");
    let key = crate::journal::key::SigningKey::parse(&crate::secret::Secret::new(
        fs::read_to_string(state.root().join("keys/journal.key")).expect("the key"),
    ))
    .expect("the key");
    let origin = crate::journal::key::run_origin(&name);
    let other = |size| key.sign(&origin, size, tlog_tiles::Hash([9; 32]), "envelope 00").expect("a note");
    let first = all[0].lines().nth(1).expect("a size").parse::<u64>().expect("a number");
    let found = check(&anchors(&[all[0], &other(first + 2)]));
    assert_eq!((fault(&found, "were different"), found.anchors), (first + 1, 1));
    // One that the key of this journal did not sign.
    let foreign = crate::journal::key::SigningKey::parse(&crate::journal::key::SigningKey::generate());
    let forged = foreign.expect("own key").sign(&origin, 2, tlog_tiles::Hash([9; 32]), "x").expect("a note");
    assert_eq!(fault(&check(&anchors(&[&forged])), "not signed with its key"), 1);
    // One that speaks of something else proves nothing here.
    let elsewhere = key.sign("stanch-journal/else", 2, tlog_tiles::Hash([9; 32]), "x").expect("a note");
    assert_eq!(
        (check(&anchors(&[&elsewhere])).anchors, check(&anchors(&[&elsewhere])).report.fault),
        (0, None)
    );
    let known = state.known_runs(None, &keys, &anchors(&[&elsewhere, &forged, all[0]])).expect("runs");
    assert_eq!(known, ["else".to_owned(), name.clone()]);
    // A run that is gone together with the index.
    fs::remove_dir_all(path.parent().expect("a folder")).expect("removed");
    let gone = state.examine(&name, None, &keys, &kept).expect("the anchors know it");
    assert_eq!(fault(&gone, "an anchor proves that this run existed"), 1);
    assert!(matches!(
        state.examine(&name, None, &keys, &anchors(&[&elsewhere])),
        Err(LedgerError::NotFound(_))
    ));
}

#[test]
fn anchors_say_where_a_text_is_none() {
    let (_folder, state) = state();
    let name = run(&state, Run::Closed);
    let note = notes(&state.journal_path(&name)).remove(0);
    let line = |text: &str| Anchors::default().read("safe", text).expect_err("no note").0;
    assert_eq!(line("only an origin\n"), 1);
    assert_eq!(line("# said\n\norigin\nno size\n"), 4);
    assert_eq!(line(&format!("{note}\norigin\n7\nroot\n")), note.lines().count() + 2);
    assert_eq!(line(&format!("{note}\norigin\n7\nroot\n\nno signature\n")), note.lines().count() + 2);
}

#[test]
fn an_index_is_held_against_keys_and_anchors() {
    let (_folder, state) = state();
    drop(run(&state, Run::Closed));
    let path = state.index_path();
    let keys = state.verifying_keys().expect("keys");
    let (whole, notes) = (lines(&path), notes(&path));
    let all: Vec<&str> = notes.iter().map(String::as_str).collect();
    let kept = anchors(&all);
    let (index, agree) = state.examine_index(&keys, &kept).expect("read").expect("an index");
    assert_eq!((agree, index.fault()), (notes.len() as u64, None));
    let (copy, agree) = examine_index_file(&path, &keys, &kept).expect("read");
    assert_eq!((agree, copy.fault(), copy.id()), (notes.len() as u64, None, index.id()));
    // Cut off behind an older checkpoint.
    write(&path, whole[..whole.len() - 2].concat()).expect("cut off");
    let (copy, agree) = examine_index_file(&path, &keys, &kept).expect("read");
    let said = copy.fault().cloned().expect("a fault");
    assert!(said.what.contains("the end was removed") && said.line == whole.len() as u64 - 1, "{said}");
    assert_eq!(agree, notes.len() as u64 - 1);
    // Another folder's index.
    let (_other, another) = super::state();
    drop(run(&another, Run::Closed));
    let theirs = another.verifying_keys().expect("keys");
    let (copy, _) = examine_index_file(&another.index_path(), &keys, &Anchors::default()).expect("read");
    assert!(copy.fault().expect("a fault").what.contains("not signed with your keys"));
    let both = VerifyingKeys::parse(&[keys.lines(), theirs.lines()].concat().join("\n")).expect("keys");
    let (copy, _) = examine_index_file(&another.index_path(), &both, &Anchors::default()).expect("read");
    assert_eq!(copy.fault(), None);
    let (copy, _) = examine_index_file(&another.index_path(), &both, &kept).expect("read");
    assert!(copy.fault().expect("a fault").what.contains("an anchor names the index"));
    // Nothing at all.
    write(&path, "").expect("emptied");
    let (copy, _) = examine_index_file(&path, &keys, &Anchors::default()).expect("read");
    assert!(copy.fault().expect("a fault").what.contains("the index is empty"));
    assert!(examine_index_file(Path::new("/nowhere"), &keys, &Anchors::default()).is_err());
}

/// Of several keys the one that fits is the journal's, and where none does the best word counts.
#[test]
fn a_journal_is_checked_with_the_key_that_signed_it() {
    let (_folder, state) = state();
    let path = state.journal_path(&run(&state, Run::Closed));
    let own = state.verifying_keys().expect("keys").lines()[0].clone();
    let other = crate::journal::key::SigningKey::parse(&crate::journal::key::SigningKey::generate());
    let other = other.expect("own key").verifier();
    let check = |keys: &str| {
        let keys = VerifyingKeys::parse(keys).expect("keys");
        examine_journal_file(&path, &keys, &Anchors::default()).expect("read").report
    };
    let (newest, oldest) = (format!("{other}{own}\n"), format!("{own}\n{other}"));
    assert_eq!((check(&newest).fault, check(&oldest).fault), (None, None));
    let first = lines(&path).iter().position(|line| line.contains("checkpoint")).expect("one") as u64 + 1;
    assert_eq!(check(&other).fault.expect("another key").line, first);
    let whole = lines(&path);
    let last = whole.len() - 1;
    write(&path, [whole[..last].concat(), whole[last].replace("tester", "jester")].concat())
        .expect("changed");
    for keys in [newest, oldest] {
        assert_eq!(check(&keys).fault.expect("changed").line, last as u64 + 1);
    }
}

#[test]
fn an_index_that_is_gone_or_damaged_stops_what_wants_to_write() {
    let (_folder, state) = state();
    assert!(state.index(&[]).expect("read").is_none(), "nothing was opened yet");
    let name = run(&state, Run::Open);
    let (path, whole) = (state.index_path(), fs::read(state.index_path()).expect("an index"));
    fs::remove_file(&path).expect("removed");
    let again = |state: &StateDir| state.create(&Arc::new(plan()), None, WHO, at(9)).map(drop);
    assert!(matches!(state.index(&[]), Err(LedgerError::IndexGone(at)) if at == path.display().to_string()));
    assert!(matches!(again(&state), Err(LedgerError::IndexGone(_))));
    assert!(matches!(state.resume(&name, WHO, at(9)), Err(LedgerError::IndexGone(_))));
    let mut damaged = whole.clone();
    damaged[2] ^= 1;
    write(&path, &damaged).expect("damaged");
    assert!(matches!(again(&state), Err(LedgerError::Index { fault, .. }) if fault.line == 1));
    // An append that a crash tore is cut off, on the record.
    write(&path, [&whole[..], b"{\"torn"].concat()).expect("torn");
    assert_eq!(state.index(&[]).expect("read").expect("an index").unsigned_bytes(), 6);
    again(&state).expect("a run");
    let now = fs::read(&path).expect("an index");
    assert!(now.starts_with(&whole) && !now[whole.len()..].starts_with(b"{\"torn"));
    let repaired: serde_json::Value =
        serde_json::from_str(&lines(&path)[whole.iter().filter(|c| **c == b'\n').count()]).expect("JSON");
    assert_eq!((&repaired["type"], &repaired["bytes"]), (&"repaired".into(), &6.into()));
    assert_eq!(repaired["actor"], "tester");
    let index = state.index(&[]).expect("read").expect("an index");
    assert_eq!((index.fault(), index.unsigned_bytes()), (None, 0));
    // Where nothing is torn nothing is repaired.
    drop(state.resume(&name, WHO, at(9)).expect("a run"));
    assert_eq!(lines(&path).iter().filter(|line| line.contains("repaired")).count(), 1);
}

#[test]
fn a_folder_older_than_indexes_gets_one_with_what_is_there() {
    let (_folder, state) = state();
    let (over, open) = (run(&state, Run::Closed), run(&state, Run::Open));
    let bad = run(&state, Run::Open);
    fs::remove_file(state.index_path()).expect("removed");
    write(state.root().join("version"), "1\n").expect("older");
    let path = state.journal_path(&bad);
    write(&path, lines(&path)[1..].concat()).expect("damaged");
    let late = run(&state, Run::Open);
    for (name, wanted) in [(&over, Cover::Closed), (&open, Cover::Open), (&late, Cover::Open)] {
        let found = cover(&state, name);
        assert_eq!((found.cover, found.report.fault), (wanted, None), "{name}");
    }
    assert_eq!(fs::read_to_string(state.root().join("version")).expect("a version"), "2\n");
    let index = state.index(&[]).expect("read").expect("an index");
    assert!(!index.runs().any(|name| name == bad), "no index mends what is not good");
    assert!(
        index.runs[&open]
            .adopted
            .is_some_and(|extent| extent.size == lines(&state.journal_path(&open)).len() as u64)
    );
    // What was there stays there.
    let path = state.journal_path(&open);
    write(&path, lines(&path)[..3].concat()).expect("cut off");
    assert_eq!(fault(&cover(&state, &open), "the end was removed"), 4);
}

#[test]
fn a_key_is_changed_between_runs_and_on_the_record() {
    let (_folder, state) = state();
    let private = state.root().join("keys/journal.key");
    assert!(matches!(state.rotate_key(WHO, at(0)), Err(LedgerError::Key { source: KeyError::Missing, .. })));
    let first = state.create_key(WHO, at(0)).expect("a key");
    assert!(
        matches!(state.create_key(WHO, at(0)), Err(LedgerError::KeyExists(path)) if path == private.display().to_string())
    );
    assert_eq!(state.verifying_keys().expect("keys").lines(), std::slice::from_ref(&first));
    let old_private = fs::read_to_string(&private).expect("the key");
    let name = run(&state, Run::Closed);
    let open = run(&state, Run::Open);
    assert!(
        matches!(state.rotate_key(WHO, at(1)), Err(LedgerError::OpenRuns(runs)) if runs == std::slice::from_ref(&open))
    );
    let (mut journal, _) = state.resume(&open, WHO, at(2)).expect("a run");
    journal.commit(at(2), &[Event::Closed { end: End::Failed }]).expect("commit");
    drop(journal);
    // The run's end reaches the index here.
    let range = state.rotate_key(WHO, at(3)).expect("changed");
    assert_eq!(range.until, None);
    let ranges = state.key_ranges().expect("ranges");
    assert_eq!(ranges.len(), 2);
    assert_eq!((&ranges[0].key, ranges[0].from, ranges[0].until), (&first, 0, Some(range.from)));
    assert_eq!((&ranges[1], &ranges[1].key), (&range, &range.key));
    assert_eq!(state.verifying_keys().expect("keys").lines(), [first.clone(), range.key.clone()]);
    assert_ne!(fs::read_to_string(&private).expect("the key"), old_private);
    assert!(!private.with_extension("key.next").exists());
    // The new key's first word covers all before it.
    let last = notes(&state.index_path()).pop().expect("a note");
    let new = VerifyingKeys::parse(&range.key).expect("a key");
    assert_eq!(new.open(&last).expect("the new key's").size, range.from);
    let late = run(&state, Run::Closed);
    for name in [&name, &open, &late] {
        let found = cover(&state, name);
        assert_eq!((found.cover, found.report.fault), (Cover::Closed, None), "{name}");
    }
    // The old private half signs nothing any more.
    write(&private, &old_private).expect("put back");
    assert!(matches!(
        state.create(&Arc::new(plan()), None, WHO, at(9)).map(drop),
        Err(LedgerError::Key { source: KeyError::NotPresent, .. })
    ));
}

#[test]
fn half_a_key_is_a_key() {
    for lost in ["journal.key", "journal.vkey"] {
        let (_folder, state) = state();
        state.create_key(WHO, at(0)).expect("a key");
        fs::remove_file(state.root().join("keys").join(lost)).expect("lost");
        let again = state.create_key(WHO, at(1));
        assert!(matches!(again, Err(LedgerError::KeyExists(_))), "without {lost}: {again:?}");
    }
}

#[test]
fn a_key_is_not_changed_beside_a_run_that_the_index_does_not_know() {
    let (_folder, state) = state();
    state.create_key(WHO, at(0)).expect("a key");
    let before = fs::read(state.index_path()).expect("an index");
    let began = run(&state, Run::Open);
    // As after a crash between the run's first record and the index's.
    write(state.index_path(), before).expect("put back");
    assert!(
        matches!(state.rotate_key(WHO, at(1)), Err(LedgerError::OpenRuns(runs)) if runs == std::slice::from_ref(&began))
    );
    // A process that died before the first record has left a folder, and no run.
    write(state.journal_path(&began), "").expect("emptied");
    state.rotate_key(WHO, at(2)).expect("changed");
}

#[test]
fn a_change_of_keys_that_was_cut_short_is_finished_or_taken_back() {
    let (_folder, state) = state();
    let old = state.create_key(WHO, at(0)).expect("a key");
    let keys = state.root().join("keys");
    let file = |name: &str| keys.join(name);
    let before = ["journal.key", "journal.vkey"].map(|name| fs::read(file(name)).expect("a key"));
    // The next key was made, and the index does not name it.
    fs::copy(file("journal.key"), file("elsewhere")).expect("copy");
    let other = crate::journal::key::SigningKey::generate();
    write(file("journal.key.next"), other.expose()).expect("made");
    drop(run(&state, Run::Closed));
    assert!(!file("journal.key.next").exists(), "taken back");
    assert_eq!(state.verifying_keys().expect("keys").lines(), std::slice::from_ref(&old));
    // The index names it, and the files are as they were.
    let range = state.rotate_key(WHO, at(1)).expect("changed");
    fs::rename(file("journal.key"), file("journal.key.next")).expect("not yet");
    for (name, bytes) in ["journal.key", "journal.vkey"].iter().zip(before) {
        write(file(name), bytes).expect("not yet");
    }
    let held = fs::File::open(file("journal.key")).expect("the old one");
    let name = run(&state, Run::Closed);
    assert!(!file("journal.key.next").exists(), "finished");
    assert_eq!(held.metadata().expect("still open here").len(), 0, "the old one was emptied");
    assert_eq!(state.verifying_keys().expect("keys").lines(), [old, range.key]);
    assert_eq!(cover(&state, &name).cover, Cover::Closed);
}

#[test]
fn a_folder_without_an_index_has_the_keys_that_it_has() {
    let (_folder, state) = state();
    drop(run(&state, Run::Closed));
    fs::remove_file(state.index_path()).expect("removed");
    write(state.root().join("version"), "1\n").expect("older");
    let ranges = state.key_ranges().expect("ranges");
    let key = state.verifying_keys().expect("keys").lines()[0].clone();
    assert_eq!(ranges.iter().map(|r| (&r.key, r.from, r.until)).collect::<Vec<_>>(), [(&key, 0, None)]);
    // A crash came between the two halves.
    fs::remove_file(state.root().join("keys/journal.vkey")).expect("removed");
    assert_eq!(state.verifying_keys().expect("keys").lines(), std::slice::from_ref(&key));
    drop(run(&state, Run::Closed));
    assert_eq!(
        fs::read_to_string(state.root().join("keys/journal.vkey")).expect("a key"),
        format!("{key}\n")
    );
    // A new private half would make every old journal look forged.
    fs::remove_file(state.root().join("keys/journal.key")).expect("removed");
    assert!(matches!(
        state.create(&Arc::new(plan()), None, WHO, at(9)).map(drop),
        Err(LedgerError::Key { source: KeyError::Malformed, .. })
    ));
}
