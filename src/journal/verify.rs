//! Reading a journal and checking it, line by line, in constant memory.

use std::io::{BufRead, Seek, SeekFrom};

use super::chain::{Frontier, NO_PREVIOUS, leaf};
use super::key::{VerifyingKeys, run_origin};
use super::record::Record;
use super::shape::Shape;
use crate::rotation::Event;
use crate::sabotage::{Sabotage, is_on};
use crate::text::sanitize;

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
                let what = format!("this is the journal of another run, {}", sanitize(found));
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

/// Checks a journal, and hands every good record to `each`, with the line that it stands in, once that
/// is checked against the chain.
///
/// # Errors
/// When reading fails; a journal that is not good is a [`Report`] with a fault.
pub(super) fn verify(
    reader: impl BufRead,
    frontier: Frontier,
    keys: &VerifyingKeys,
    each: impl FnMut(Record, &[u8]),
) -> std::io::Result<(Report, Tail)> {
    go_on(reader, keys, Progress::new(frontier), each)
}

/// As [`verify`], for whoever needs no records: reads no more of a line than it takes to be sure.
///
/// Where a good checkpoint follows, its signature covers every byte of the lines before it. It is
/// enough there that each has the envelope that it must have and is JSON; see [`Shape`]. This never
/// finds a fault by itself. At the first line that it cannot pass, and for what no signature covers,
/// it goes back to the last good checkpoint, and `verify` reads on from there.
///
/// # Errors
/// As for `verify`.
pub(super) fn verify_quickly(
    mut reader: impl BufRead + Seek,
    frontier: Frontier,
    keys: &VerifyingKeys,
) -> std::io::Result<(Report, Tail)> {
    let begin = reader.stream_position()?;
    let sure = verify_prefix(&mut reader, frontier, keys)?;
    reader.seek(SeekFrom::Start(begin + sure.tail.end))?;
    go_on(reader, keys, sure, |_, _| ())
}

/// How far verification got.
#[derive(Debug, Clone)]
struct Progress {
    report: Report,
    tail: Tail,
}

impl Progress {
    /// Nothing was read yet. `frontier` is an empty tree.
    fn new(frontier: Frontier) -> Self {
        Self {
            report: Report { run: None, records: 0, checkpoints: 0, anchored: 0, torn: 0, fault: None },
            tail: Tail {
                frontier,
                previous: NO_PREVIOUS,
                since_checkpoint: 0,
                end: 0,
                digest: String::new(),
            },
        }
    }

    /// Reads the next line, without its newline. `Ok(None)` at the end.
    fn read(&self, reader: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<Option<Line>> {
        line.clear();
        let limit = if self.tail.end == 0 { MAX_FIRST_LINE } else { MAX_LINE };
        let read = std::io::Read::take(reader, limit).read_until(b'\n', line)? as u64;
        Ok(match (read, line.pop_if(|c| *c == b'\n')) {
            (0, _) => None,
            (_, Some(_)) => Some(Line::Whole(read)),
            (_, None) if read == limit => Some(Line::Endless),
            (_, None) => Some(Line::Torn(read)),
        })
    }

    /// One more line is good.
    fn push(&mut self, leaf: tlog_tiles::Hash, length: u64) {
        self.tail.previous = leaf;
        self.tail.frontier.push(leaf);
        self.tail.end += length;
        self.report.records += 1;
    }
}

/// What was read, with its length, the newline included.
enum Line {
    Whole(u64),
    /// The file ends before the line does.
    Torn(u64),
    /// Longer than any line may be.
    Endless,
}

/// Reads on from where verification got to.
fn go_on(
    mut reader: impl BufRead,
    keys: &VerifyingKeys,
    mut progress: Progress,
    mut each: impl FnMut(Record, &[u8]),
) -> std::io::Result<(Report, Tail)> {
    let mut line = Vec::new();
    while let Some(read) = progress.read(&mut reader, &mut line)? {
        let number = progress.tail.frontier.leaves() + 1;
        let what = match read {
            Line::Torn(length) => {
                progress.report.torn = length;
                break;
            }
            Line::Endless => "it is longer than any record".into(),
            Line::Whole(length) => match check(&line, &mut progress, keys) {
                Ok(record) => {
                    progress.push(leaf(&line), length);
                    each(record, &line);
                    continue;
                }
                Err(what) => what,
            },
        };
        progress.report.fault = Some(Fault { line: number, what });
        break;
    }
    if progress.report.records == 0 && progress.report.fault.is_none() {
        progress.report.fault = Some(Fault { line: 1, what: "the journal is empty".into() });
    }
    Ok((progress.report, progress.tail))
}

/// How far the lines are certainly good: up to a good checkpoint.
fn verify_prefix(
    reader: &mut impl BufRead,
    frontier: Frontier,
    keys: &VerifyingKeys,
) -> std::io::Result<Progress> {
    let mut sure = Progress::new(frontier);
    let mut ahead = sure.clone();
    let mut shape: Option<Shape> = None;
    let mut line = Vec::new();
    while let Some(Line::Whole(length)) = ahead.read(reader, &mut line)? {
        let leaf = leaf(&line);
        let seq = ahead.tail.frontier.leaves();
        if shape.as_ref().is_some_and(|s| s.fits(&mut line, seq, &ahead.tail.previous)) {
            ahead.tail.since_checkpoint += 1;
            ahead.push(leaf, length);
            continue;
        }
        let Ok(record) = check(&line, &mut ahead, keys) else { break };
        ahead.push(leaf, length);
        shape = Some(Shape::of(&record.envelope));
        if let Event::Checkpoint { .. } = record.event {
            sure.clone_from(&ahead);
        }
    }
    Ok(sure)
}

/// Checks a line against all lines before it.
fn check(line: &[u8], progress: &mut Progress, keys: &VerifyingKeys) -> Result<Record, String> {
    let Progress { report, tail } = progress;
    let record = Record::parse(line).map_err(|e| e.to_string())?;
    let envelope = &record.envelope;
    let expected = tail.frontier.leaves();
    if envelope.seq != expected {
        return Err(format!(
            "its seq is {}, expected {expected}: a record was removed, added or moved",
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
        (Event::Opened { .. }, _) => return Err("it opens a run that is already open".into()),
        _ => {}
    }
    if report.run.as_deref() != Some(&envelope.run) {
        return Err("it belongs to another run".into());
    }
    if envelope.plan != tail.digest {
        return Err("its plan digest does not match the plan".into());
    }
    tail.since_checkpoint += 1;
    if let Event::Checkpoint { note } = &record.event {
        keys.check(note, &run_origin(&envelope.run), expected, tail.frontier.root(), &envelope.about())
            .or_else(|e| if is_on(Sabotage::Unseen) { Ok(()) } else { Err(e) })
            .map_err(|e| format!("the checkpoint is not valid: {e}"))?;
        // The signature covers the values of the line's fields; this covers their spelling.
        if record.line() != line {
            return Err("the line of the checkpoint was not written by stanch".into());
        }
        report.checkpoints += 1;
        report.anchored = expected + 1;
        tail.since_checkpoint = 0;
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::journal::key::SigningKey;
    use crate::journal::record::{Envelope, VERSION, write};
    use crate::plan::Plan;

    /// Writes lines as a journal does, also such as no journal ever writes.
    struct Writer {
        key: SigningKey,
        envelope: Envelope,
        frontier: Frontier,
        bytes: Vec<u8>,
    }

    impl Writer {
        fn new() -> Self {
            let plan: Plan = serde_json::from_value(serde_json::json!({
                "format": 1, "tool": "test", "environment": "e", "sandbox": true, "strategy": "overlap",
                "runbook_sha256": "0", "credentials": [], "phases": [], "steps": [], "checks": [],
                "unchecked": [],
                "runbook": { "version": 1, "name": "n", "environments": {}, "credentials": {} },
            }))
            .expect("plan");
            let envelope = Envelope {
                v: VERSION,
                run: "a \"run\" of {é}".into(),
                seq: 0,
                prev: "0".repeat(64),
                wall: "2026-01-01T00:00:00.5Z".parse().expect("moment"),
                mono_ms: 0,
                actor: "so, \"seq\":7".into(),
                host: "h".into(),
                plan: plan.digest(),
            };
            let key = SigningKey::parse(&SigningKey::generate()).expect("own key");
            let mut writer = Self { key, envelope, frontier: Frontier::default(), bytes: Vec::new() };
            writer.event(&Event::Opened { plan: Box::new(plan), reason: None });
            writer
        }

        fn event(&mut self, event: &Event) {
            self.edited(event, |line| line);
        }

        /// Writes what `edit` makes of the line.
        fn edited(&mut self, event: &Event, edit: impl FnOnce(String) -> String) {
            let mut line = Vec::new();
            write(&self.envelope, event, &mut line);
            let line = edit(String::from_utf8(line).expect("UTF-8")).into_bytes();
            let hash = leaf(&line);
            self.frontier.push(hash);
            self.envelope.seq += 1;
            self.envelope.mono_ms += 1;
            self.envelope.prev = hex::encode(hash.0);
            self.bytes.extend(line);
            self.bytes.push(b'\n');
        }

        fn checkpoint(&mut self) {
            let Envelope { run, seq, .. } = &self.envelope;
            let note = self
                .key
                .sign(&run_origin(run), *seq, self.frontier.root(), &self.envelope.about())
                .expect("sign");
            self.event(&Event::Checkpoint { note });
        }

        fn some(&mut self, events: usize) {
            for n in 0..events {
                self.event(&Event::Noted { text: format!("n {n}") });
            }
        }

        /// What both ways of reading find; they must find the same.
        fn verify(&self) -> Report {
            let keys = VerifyingKeys::parse(&self.key.verifier()).expect("own key");
            let (slow, slow_tail) =
                verify(self.bytes.as_slice(), Frontier::default(), &keys, |_, _| ()).expect("reading");
            let (quick, tail) =
                verify_quickly(Cursor::new(&self.bytes), Frontier::default(), &keys).expect("reading");
            assert_eq!(quick, slow);
            let all = |t: &Tail| (t.end, t.since_checkpoint, t.previous, t.frontier.root(), t.digest.clone());
            assert_eq!(all(&tail), all(&slow_tail));
            quick
        }
    }

    #[test]
    fn what_is_passed_over_is_what_the_writer_wrote() {
        let mut writer = Writer::new();
        let opened = writer.bytes.clone();
        writer.some(1);
        let mut line = writer.bytes[opened.len()..writer.bytes.len() - 1].to_vec();
        let before = line.clone();
        let record = Record::parse(&line).expect("a record");
        let shape = Shape::of(&record.envelope);
        let previous = leaf(&opened[..opened.len() - 1]);
        assert!(shape.fits(&mut line, 1, &previous));
        assert_eq!(line, before, "looking changes nothing");
        assert!(!shape.fits(&mut line, 2, &previous) && !shape.fits(&mut line, 1, &NO_PREVIOUS));
        // Any change of the envelope, of the type, and of what makes it JSON.
        for (old, new) in [
            ("{\"v\":2", "{\"v\":3"),
            ("{\"v\":2", "{ \"v\":2"),
            ("\"seq\":1,", "\"seq\":01,"),
            ("00:00:00.5Z", "00:00 00.5Z"),
            ("\"mono_ms\":1,", "\"mono_ms\":,"),
            ("\"host\":\"h\"", "\"host\":\"i\""),
            ("\"type\":\"noted\"", "\"type\":\"opened\""),
            ("\"type\":\"noted\"", "\"type\":\"checkpoint\""),
            ("\"type\":\"noted\"", "\"type\":\"note\""),
            ("\"text\":\"n 0\"", "\"text\":n 0"),
            ("\"text\":\"n 0\"}", "\"text\":\"n 0\"}}"),
        ] {
            let text = String::from_utf8(before.clone()).expect("UTF-8");
            let changed = text.replacen(old, new, 1);
            assert_ne!(changed, text, "{old}");
            assert!(!shape.fits(&mut changed.into_bytes(), 1, &previous), "{new}");
        }
    }

    #[test]
    fn a_checkpoint_vouches_for_the_lines_before_it_and_nobody_for_those_behind() {
        let mut writer = Writer::new();
        writer.some(300);
        writer.checkpoint();
        // Another process goes on, as another person.
        writer.envelope.actor = "other".into();
        writer.some(300);
        writer.checkpoint();
        writer.some(2);
        let report = writer.verify();
        assert_eq!((report.fault.clone(), report.unanchored(), report.checkpoints), (None, 2, 2));
        // No record, though its envelope is right and it is JSON.
        let bad = |line: String| line.replace("\"text\"", "\"tixt\"");
        writer.edited(&Event::Noted { text: "n".into() }, bad);
        let fault = writer.verify().fault.expect("a fault");
        assert_eq!(fault.line, 606, "{fault}");
        writer.bytes.pop();
        assert!(writer.verify().torn > 0, "a line without an end is torn, whatever stands in it");
    }

    #[test]
    fn a_line_that_is_no_json_or_of_no_known_type_is_a_fault_even_under_a_signature() {
        let spoil: [fn(String) -> String; 3] = [
            |line| line.replace("\"text\":\"n\"", "\"text\":n"),
            |line| line.replace("\"noted\"", "\"nated\""),
            |line| line.replace("\"v\":2", "\"v\":3"),
        ];
        for edit in spoil {
            let mut writer = Writer::new();
            writer.some(5);
            writer.edited(&Event::Noted { text: "n".into() }, edit);
            writer.checkpoint();
            let report = writer.verify();
            assert_eq!((report.fault.expect("a fault").line, report.anchored), (7, 0));
        }
    }
}
