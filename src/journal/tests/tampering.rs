//! Every way to damage a small journal, by somebody who has the folder and not the key: each byte,
//! each line, each length. What `tests/it/journal.rs` samples on a whole run's journal is complete here.

use std::ops::RangeInclusive;
use std::sync::Arc;

use jiff::Timestamp;

use super::plan;
use crate::clock::Moment;
use crate::domain::Phase;
use crate::domain::Verdict;
use crate::journal::chain::Frontier;
use crate::journal::verify::{verify, verify_quickly};
use crate::journal::{Journal as _, Report, StateDir, VerifyingKeys};
use crate::plan::Plan;
use crate::rotation::{Ended, Event, Facts, Op};

/// A state folder with two runs of the same plan, and the bytes of their journals.
struct Folder {
    _folder: tempfile::TempDir,
    state: StateDir,
    keys: VerifyingKeys,
    runs: [String; 2],
    lines: [Vec<Vec<u8>>; 2],
}

/// Where the checkpoints stand in the journals of [`folder`], from 1.
const CHECKPOINTS: [usize; 2] = [8, 13];
/// How many lines there are: two follow the last checkpoint.
const LINES: usize = 15;

fn folder() -> Folder {
    let folder = tempfile::tempdir().expect("folder");
    let state = StateDir::open(folder.path()).expect("state");
    let plan = Arc::new(plan());
    let runs = [0, 1].map(|_| write(&state, &plan));
    let lines = runs.clone().map(|run| split(&std::fs::read(state.journal_path(&run)).expect("journal")));
    for lines in &lines {
        let places: Vec<usize> = (1..=lines.len()).filter(|n| is_checkpoint(&lines[n - 1])).collect();
        assert_eq!((places, lines.len()), (CHECKPOINTS.to_vec(), LINES));
    }
    let keys = state.verifying_keys().expect("keys");
    Folder { _folder: folder, state, keys, runs, lines }
}

fn write(state: &StateDir, plan: &Arc<Plan>) -> String {
    let at = |mono_ms| Moment { wall: Timestamp::UNIX_EPOCH, mono_ms };
    let mut journal = state.create(plan, Some("leaked".to_owned()), ("tester", "host"), at(0)).expect("run");
    let step = || "prepare/app/issue".to_owned();
    let outcome = Event::Outcome {
        step: step(),
        op: Op::Do,
        attempt: 1,
        result: Ended::Succeeded,
        facts: Facts::from([("handle".to_owned(), "h".to_owned())]),
        checks: Vec::new(),
        error: None,
        latency_ms: 1,
    };
    let entered = |phase| Event::Entered { phase };
    let noted = || Event::Noted { text: "a \"note\" \u{e9}".to_owned() };
    let events = [
        Event::Resumed {},
        Event::Intent { step: step(), op: Op::Do, attempt: 1, round: 0 },
        outcome,
        Event::Heartbeat {},
        noted(),
        entered(Phase::Preflight),
        Event::Judged { gate: "adopted".to_owned(), verdict: Verdict::Pass, detail: "3/3".to_owned() },
        Event::Adopted { credential: "app".to_owned(), consumer: "web".to_owned(), instances: 1, of: 2 },
        noted(),
        entered(Phase::Prepare),
        noted(),
        Event::Heartbeat {},
    ];
    for (mono_ms, event) in (1..).zip(events) {
        journal.commit(at(mono_ms), &[event]).expect("commit");
    }
    journal.run().to_owned()
}

fn split(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect()
}

fn is_checkpoint(line: &[u8]) -> bool {
    line.windows(19).any(|w| w == b"\"type\":\"checkpoint\"")
}

impl Folder {
    /// Checks these bytes in the place of the first run's journal.
    fn audit(&self, bytes: &[u8]) -> Report {
        let (report, _) =
            verify(bytes, Frontier::default(), &self.keys, |_, _| ()).expect("memory can be read");
        // Whoever reads less to be sure finds the same.
        let cursor = std::io::Cursor::new(bytes);
        let (quick, _) = verify_quickly(cursor, Frontier::default(), &self.keys).expect("memory can be read");
        assert_eq!(quick, report);
        report.about(&self.runs[0])
    }

    /// The line at which the report points, and its words.
    fn fault(&self, lines: &[Vec<u8>], what: &str) -> (usize, String) {
        let fault = self.audit(&lines.concat()).fault.unwrap_or_else(|| panic!("{what}: nothing is seen"));
        (usize::try_from(fault.line).expect("a line"), fault.what)
    }

    fn lines(&self) -> Vec<Vec<u8>> {
        self.lines[0].clone()
    }
}

/// Gives each line, from `from` on, the number and the hash that the lines before it ask for.
fn chain_anew(lines: &mut [Vec<u8>], from: usize) {
    for at in from..lines.len() {
        let previous = match at {
            0 => "0".repeat(64),
            _ => hex::encode(tlog_tiles::record_hash(lines[at - 1].strip_suffix(b"\n").expect("a line")).0),
        };
        let text = String::from_utf8(lines[at].clone()).expect("UTF-8");
        let number = text.find("\"seq\":").expect("seq") + 6;
        let end = number + text[number..].find(',').expect("a comma");
        let text = format!("{}{at}{}", &text[..number], &text[end..]);
        let hash = text.find("\"prev\":\"").expect("prev") + 8;
        lines[at] = format!("{}{previous}{}", &text[..hash], &text[hash + 64..]).into_bytes();
    }
}

/// The first checkpoint at or behind a line.
fn next_checkpoint(line: usize) -> Option<usize> {
    CHECKPOINTS.into_iter().find(|c| *c >= line)
}

#[test]
fn the_sample_is_good_as_it_is() {
    let folder = folder();
    let report = folder.audit(&folder.lines().concat());
    assert_eq!((report.fault, report.torn), (None, 0));
    assert_eq!((report.records, report.anchored, report.checkpoints), (LINES as u64, 13, 2));
    // The chain made anew over nothing changed is the same chain: the forgeries below are no worse.
    let mut same = folder.lines();
    chain_anew(&mut same, 0);
    assert_eq!(same, folder.lines());
}

/// Only the first record opens a run, however well the others are chained to it.
#[test]
fn a_run_is_opened_once_and_first() {
    let folder = folder();
    let mut lines = folder.lines();
    lines.insert(1, lines[0].clone());
    chain_anew(&mut lines, 1);
    let (line, what) = folder.fault(&lines, "opened twice");
    assert!(line == 2 && what.contains("it opens a run that is already open"), "{line}: {what}");
    let mut lines = folder.lines();
    lines.remove(0);
    chain_anew(&mut lines, 0);
    let (line, what) = folder.fault(&lines, "never opened");
    assert!(line == 1 && what.contains("does not open a run"), "{line}: {what}");
    // Nothing of another run's journal counts for this one.
    let (report, _) = verify(&folder.lines[1].concat()[..], Frontier::default(), &folder.keys, |_, _| ())
        .expect("memory can be read");
    let report = report.about(&folder.runs[0]);
    assert_eq!((report.records, report.checkpoints, report.anchored), (0, 0, 0));
}

#[test]
fn every_flipped_byte_shows() {
    every_flip_shows(1..=CHECKPOINTS[0], |_| vec![0x01, 0x20, 0x80]);
}

/// What follows a checkpoint is checked by the same code, behind a signature that takes its time: so one
/// bit of each byte, and another one in the next byte.
#[test]
fn every_flipped_byte_behind_a_checkpoint_shows() {
    every_flip_shows(CHECKPOINTS[0] + 1..=LINES, |place| vec![1 << (place % 8)]);
}

fn every_flip_shows(flipped: RangeInclusive<usize>, masks: impl Fn(usize) -> Vec<u8>) {
    let folder = folder();
    let lines = folder.lines();
    let mut bytes = lines.concat();
    let mut at = 0;
    for (line, length) in (1..).zip(lines.iter().map(Vec::len)) {
        let places = at..at + length;
        at += length;
        for place in places.filter(|_| flipped.contains(&line)) {
            for mask in masks(place) {
                bytes[place] ^= mask;
                let report = folder.audit(&bytes);
                bytes[place] ^= mask;
                let what = format!("byte {place} (line {line}) ^ {mask:#x}");
                match report.fault {
                    // The line itself, or where it still reads as a record, the next one's hash of it.
                    Some(fault) => {
                        let next = fault.line == line as u64 + 1 && !CHECKPOINTS.contains(&line);
                        assert!(fault.line == line as u64 || next, "{what}: {fault}");
                        assert_eq!(report.records, fault.line - 1, "{what}");
                    }
                    // The end of the last line. Or what no signature covers: whoever has the folder may
                    // rewrite that, so the report must not vouch for it.
                    None => {
                        let torn = place + 1 == bytes.len() && report.torn > 0;
                        let uncovered = line == LINES && report.anchored == CHECKPOINTS[1] as u64;
                        assert!(torn || uncovered, "{what} passes");
                    }
                }
            }
        }
    }
}

#[test]
fn every_line_that_is_removed_repeated_or_swapped_shows() {
    let folder = folder();
    for at in 1..=LINES {
        let mut removed = folder.lines();
        removed.remove(at - 1);
        if at == LINES {
            let report = folder.audit(&removed.concat());
            assert_eq!((report.unanchored(), report.fault), (1, None), "the end is not vouched for");
        } else {
            assert_eq!(folder.fault(&removed, "removed").0, at, "line {at} removed");
        }
        let mut repeated = folder.lines();
        repeated.insert(at, repeated[at - 1].clone());
        assert_eq!(folder.fault(&repeated, "repeated").0, at + 1, "line {at} repeated");
        for other in at + 1..=LINES {
            let mut swapped = folder.lines();
            swapped.swap(at - 1, other - 1);
            assert_eq!(folder.fault(&swapped, "swapped").0, at, "lines {at} and {other} swapped");
        }
    }
}

#[test]
fn every_truncation_is_torn_or_unanchored_but_behind_a_checkpoint() {
    let folder = folder();
    let bytes = folder.lines().concat();
    let (mut whole, mut end) = (0, 0);
    for length in 0..bytes.len() {
        if bytes[..length].ends_with(b"\n") {
            (whole, end) = (whole + 1, length);
        }
        let report = folder.audit(&bytes[..length]);
        assert_eq!(report.torn, (length - end) as u64, "{length} bytes");
        assert_eq!(report.records, whole as u64, "{length} bytes");
        let empty = report.fault.as_ref().is_some_and(|fault| fault.line == 1);
        assert_eq!(report.fault.is_some(), whole == 0, "{length} bytes");
        assert_eq!(empty, whole == 0, "{length} bytes");
        let covered = CHECKPOINTS.into_iter().filter(|c| *c <= whole).max().unwrap_or(0);
        assert_eq!(report.anchored, covered as u64, "{length} bytes");
        // Behind an older checkpoint nothing in the file can tell: that is what anchors are for.
        let clean = report.fault.is_none() && report.torn == 0 && report.unanchored() == 0;
        assert_eq!(clean, CHECKPOINTS.contains(&whole) && length == end, "{length} bytes");
    }
}

#[test]
fn a_chain_made_anew_shows_at_the_next_checkpoint() {
    let folder = folder();
    for at in 1..=LINES {
        let mut forged = folder.lines();
        let text = String::from_utf8(forged[at - 1].clone()).expect("UTF-8");
        forged[at - 1] = text.replace("tester", "nobody").into_bytes();
        chain_anew(&mut forged, at);
        match next_checkpoint(at) {
            Some(checkpoint) => {
                let (line, words) = folder.fault(&forged, "forged");
                assert_eq!(line, checkpoint, "line {at} forged");
                assert!(words.contains("checkpoint"), "{words}");
            }
            None => assert_eq!(folder.audit(&forged.concat()).unanchored(), 2, "line {at} forged"),
        }
    }
}

#[test]
fn every_inserted_line_shows_at_the_next_line_or_checkpoint() {
    let folder = folder();
    for at in 1..=LINES {
        // A record like the one before it, with a number and a hash that fit.
        let mut inserted = folder.lines();
        let model = if is_checkpoint(&inserted[at - 1]) || at == 1 { 3 } else { at };
        inserted.insert(at, inserted[model - 1].clone());
        let mut whole = inserted.clone();
        chain_anew(&mut inserted[..=at], at);
        if at == LINES {
            assert_eq!(folder.audit(&inserted.concat()).unanchored(), 3);
        } else {
            assert_eq!(folder.fault(&inserted, "inserted").0, at + 2, "a line behind {at}");
        }
        // And with everything behind it chained anew.
        chain_anew(&mut whole, at);
        match next_checkpoint(at + 1) {
            Some(checkpoint) => assert_eq!(folder.fault(&whole, "inserted").0, checkpoint + 1, "behind {at}"),
            None => assert_eq!(folder.audit(&whole.concat()).unanchored(), 3, "behind {at}"),
        }
    }
}

#[test]
fn another_runs_records_and_checkpoints_do_not_pass() {
    let folder = folder();
    for at in 1..=LINES {
        // As it is, and then with the hash that fits here.
        let mut moved = folder.lines();
        moved[at - 1] = folder.lines[1][at - 1].clone();
        let line = folder.fault(&moved, "moved").0;
        assert_eq!(line, at, "line {at} of another run");
        chain_anew(&mut moved, at - 1);
        let (line, words) = folder.fault(&moved, "moved and chained");
        assert_eq!(line, at, "line {at} of another run, chained");
        assert!(words.contains("another run"), "{words}");
        // And with this run's name in its envelope, which only a checkpoint's signature can tell.
        let text = String::from_utf8(moved[at - 1].clone()).expect("UTF-8");
        let [ours, theirs] = [0, 1].map(|run| format!("\"run\":\"{}\"", folder.runs[run]));
        moved[at - 1] = text.replace(&theirs, &ours).into_bytes();
        chain_anew(&mut moved, at - 1);
        if CHECKPOINTS.contains(&at) {
            let (line, words) = folder.fault(&moved, "renamed");
            assert_eq!(line, at);
            assert!(words.contains("a different journal"), "{words}");
        }
    }
    // The whole of the other run's journal, under this one's name: good, and not this run's.
    let (line, words) = folder.fault(&folder.lines[1], "exchanged");
    assert_eq!(line, 1);
    assert!(words.contains("another run") && words.contains(&folder.runs[1]), "{words}");
}

#[test]
fn an_older_checkpoint_in_the_place_of_a_newer_one_shows() {
    let folder = folder();
    let [early, late] = CHECKPOINTS;
    for (from, to) in [(early, late), (late, early)] {
        let mut lines = folder.lines();
        lines[to - 1] = lines[from - 1].clone();
        chain_anew(&mut lines, to - 1);
        let (line, words) = folder.fault(&lines, "replaced");
        assert_eq!(line, to);
        assert!(words.contains("checkpoint"), "{words}");
    }
}

#[test]
fn a_key_that_is_not_the_folders_does_not_vouch() {
    let (mut one, other) = (folder(), folder());
    // The journal is right, and signed by a key that is not, or no longer, among the known ones.
    one.keys = other.keys;
    let (line, words) = one.fault(&one.lines(), "another key");
    assert_eq!(line, CHECKPOINTS[0]);
    assert!(words.contains("known key"), "{words}");
    // In the folder, too: its public key was exchanged.
    let path = one.state.root().join("keys/journal.vkey");
    std::fs::copy(other.state.root().join("keys/journal.vkey"), path).expect("copy");
    let report = one.state.audit(&one.runs[0], drop).expect("readable");
    assert_eq!(report.fault.map(|fault| fault.line), Some(CHECKPOINTS[0] as u64));
}

/// The same through the folder: a journal under another run's name is that run's no more.
#[test]
fn a_journal_in_another_runs_folder_is_not_that_runs() {
    let folder = folder();
    let [one, other] = [0, 1].map(|at: usize| folder.state.journal_path(&folder.runs[at]));
    std::fs::copy(other, one).expect("copy");
    let report = folder.state.audit(&folder.runs[0], drop).expect("readable");
    assert_eq!((report.records, report.fault.map(|fault| fault.line)), (0, Some(1)));
    assert!(folder.state.load(&folder.runs[0]).is_err());
    assert_eq!(folder.state.audit(&folder.runs[1], drop).expect("readable").fault, None);
}
