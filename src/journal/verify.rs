//! Reading a journal and checking it, line by line, in constant memory.

use std::io::BufRead;

use super::chain::{Frontier, NO_PREVIOUS, leaf};
use super::key::VerifyingKeys;
use super::record::Record;
use crate::provider::outcome::tame;
use crate::rotation::Event;
use crate::sabotage::{Sabotage, is_on};

/// The longest first line: it carries the plan.
const MAX_FIRST_LINE: u64 = 1 << 30;
/// The longest other line.
const MAX_LINE: u64 = 4 << 20;

/// What verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The run's id, as its first record says.
    pub run: Option<String>,
    /// How many whole records are good.
    pub records: u64,
    /// How many checkpoints are good.
    pub checkpoints: u64,
    /// How many of the records a signature covers; the checkpoint itself counts.
    pub anchored: u64,
    /// The bytes of a last line that has no newline.
    pub torn: u64,
    /// The first record that is not good.
    pub fault: Option<Fault>,
}

impl Report {
    /// The records at the end that no signature covers.
    pub fn unanchored(&self) -> u64 {
        self.records - self.anchored
    }

    /// The report on a journal that should be a certain run's: another run's, however good, is not.
    pub(super) fn about(self, run: &str) -> Self {
        match &self.run {
            Some(found) if found != run => {
                let what = format!("this is the journal of another run, {}", tame(found));
                Self { fault: Some(Fault { line: 1, what }), records: 0, checkpoints: 0, anchored: 0, ..self }
            }
            _ => self,
        }
    }
}

/// Where, and how, a journal is not good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Fault {
    /// The line, from 1; its record's `seq` is one less.
    pub line: u64,
    /// What is wrong, in a sentence.
    pub what: String,
}

/// The state of verification after some lines: what a writer needs to go on.
#[derive(Debug, Clone)]
pub(super) struct Tail {
    pub(super) frontier: Frontier,
    pub(super) previous: tlog_tiles::Hash,
    pub(super) since_checkpoint: u64,
    /// Where the last whole line ends.
    pub(super) end: u64,
    pub(super) digest: String,
}

/// Checks a journal, and hands every good record to `each` with its whole line already checked
/// against the chain.
///
/// # Errors
/// When reading fails; a journal that is not good is a [`Report`] with a fault.
pub(super) fn verify(
    mut reader: impl BufRead,
    keys: &VerifyingKeys,
    mut each: impl FnMut(Record),
) -> std::io::Result<(Report, Tail)> {
    let mut report = Report { run: None, records: 0, checkpoints: 0, anchored: 0, torn: 0, fault: None };
    let mut tail = Tail {
        frontier: Frontier::default(),
        previous: NO_PREVIOUS,
        since_checkpoint: 0,
        end: 0,
        digest: String::new(),
    };
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = if tail.end == 0 { MAX_FIRST_LINE } else { MAX_LINE };
        let read = std::io::Read::take(&mut reader, limit).read_until(b'\n', &mut line)? as u64;
        if read == 0 {
            break;
        }
        let number = tail.frontier.leaves() + 1;
        if line.pop_if(|c| *c == b'\n').is_none() {
            if read == limit {
                report.fault = Some(Fault { line: number, what: "it is longer than any record".into() });
            } else {
                report.torn = read;
            }
            break;
        }
        match check(&line, &mut report, &mut tail, keys) {
            Ok(record) => {
                tail.end += read;
                report.records += 1;
                each(record);
            }
            Err(what) => {
                report.fault = Some(Fault { line: number, what });
                break;
            }
        }
    }
    if report.records == 0 && report.fault.is_none() {
        report.fault = Some(Fault { line: 1, what: "the journal is empty".into() });
    }
    Ok((report, tail))
}

fn check(line: &[u8], report: &mut Report, tail: &mut Tail, keys: &VerifyingKeys) -> Result<Record, String> {
    let record = Record::parse(line).map_err(|e| e.to_string())?;
    let envelope = &record.envelope;
    let expected = tail.frontier.leaves();
    if envelope.seq != expected {
        return Err(format!(
            "its seq is {} where {expected} must stand: a record was removed, added or moved",
            envelope.seq
        ));
    }
    if envelope.prev != hex::encode(tail.previous.0) && !is_on(Sabotage::Unseen) {
        return Err("its prev is not the hash of the line before: that line, or this one, was changed".into());
    }
    match (&record.event, expected) {
        (Event::Opened { plan, .. }, 0) => {
            tail.digest = plan.digest();
            report.run = Some(envelope.run.clone());
        }
        (_, 0) => return Err("the first record does not open a run".into()),
        (Event::Opened { .. }, _) => return Err("it opens a run that is open".into()),
        _ => {}
    }
    if report.run.as_deref() != Some(&envelope.run) {
        return Err("it belongs to another run".into());
    }
    if envelope.plan != tail.digest {
        return Err("its plan digest is not the plan's".into());
    }
    tail.since_checkpoint += 1;
    if let Event::Checkpoint { note } = &record.event {
        keys.check(note, &envelope.run, expected, tail.frontier.root(), &envelope.about())
            .map_err(|e| format!("the checkpoint is not good: {e}"))?;
        // The signature covers the values of the line's fields; this covers their spelling.
        if record.line() != line {
            return Err("the checkpoint's line was written by something else".into());
        }
        report.checkpoints += 1;
        report.anchored = expected + 1;
        tail.since_checkpoint = 0;
    }
    tail.previous = leaf(line);
    tail.frontier.push(tail.previous);
    Ok(record)
}
