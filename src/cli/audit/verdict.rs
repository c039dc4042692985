//! What `stanch audit verify` says of a record.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::Exit;
use crate::journal::{Cover, Examined, Fault, Index};
use crate::text::counted;

/// What is said about one record.
pub(super) struct Verdict {
    pub(super) exit: Exit,
    pub(super) words: String,
    /// How many of its lines are good.
    pub(super) good: u64,
    pub(super) anchors: u64,
    pub(super) json: Value,
}

/// The worst of how they end.
pub(super) fn worst(verdicts: &[Verdict]) -> Exit {
    [Exit::JournalInvalid, Exit::Unanchored]
        .into_iter()
        .find(|exit| verdicts.iter().any(|verdict| verdict.exit == *exit))
        .unwrap_or(Exit::Done)
}

/// What is said about a journal that stands by itself.
pub(super) fn of_journal(path: &Path, found: &Examined) -> Verdict {
    let mut words = Words::of(path, found);
    words.more(if found.over {
        "The run has ended: no record is missing at its end."
    } else {
        "The run had not ended here. Only an anchor, or the index of the state directory, can show that the record was cut back to an older checkpoint."
    });
    let run = found.report.run.clone().unwrap_or_default();
    words.verdict(&run, found, "compare it with the original")
}

/// What is said about a run's journal.
pub(super) struct Words {
    path: PathBuf,
    exit: Exit,
    lines: Vec<String>,
    /// What a person who wants more than this does.
    less: Option<String>,
}

impl Words {
    pub(super) fn of(path: &Path, found: &Examined) -> Self {
        let report = &found.report;
        let (exit, first) = if let Some(fault) = &report.fault {
            (Exit::JournalInvalid, not_good(path, fault, report.records, report.anchored))
        } else if report.unanchored() > 0 || report.torn > 0 {
            let torn = if report.torn > 0 {
                format!(", and {} bytes of a torn line", report.torn)
            } else {
                String::new()
            };
            let words = format!(
                "UNANCHORED: {} records are valid; no signature covers the last {}{torn}. A killed run leaves this; resuming it signs them",
                report.records,
                report.unanchored()
            );
            (Exit::Unanchored, words)
        } else {
            let anchors = match found.anchors {
                0 => String::new(),
                1 => ", confirmed by 1 anchor".into(),
                n => format!(", confirmed by {n} anchors"),
            };
            let (records, checkpoints) = (report.records, report.checkpoints);
            (Exit::Done, format!("OK: {records} records, {checkpoints} checkpoints, all signed{anchors}"))
        };
        Self { path: path.to_owned(), exit, lines: vec![first], less: None }
    }

    /// Adds a sentence, where nothing is wrong.
    pub(super) fn more(&mut self, words: &str) {
        if self.exit == Exit::Done {
            self.lines.push(words.to_owned());
        }
    }

    /// Says what is not covered, which is never plain OK.
    pub(super) fn less(&mut self, words: &str) {
        if self.exit == Exit::JournalInvalid {
            return;
        }
        self.exit = Exit::Unanchored;
        let first = &mut self.lines[0];
        if let Some(good) = first.strip_prefix("OK: ") {
            *first = format!("UNANCHORED: {good}");
        }
        first.push_str(&format!("; {words}"));
        self.less = Some(words.to_owned());
    }

    pub(super) fn verdict(mut self, run: &str, found: &Examined, look: &str) -> Verdict {
        let report = &found.report;
        let next = "copy the state directory";
        if self.exit == Exit::JournalInvalid {
            self.lines.push(format!("Next: {next}; to see the valid part: {look}"));
        }
        let cover = match found.cover {
            Cover::NoIndex => "none",
            Cover::Unknown => "unknown",
            Cover::Open => "open",
            Cover::Closing => "closing",
            Cover::Closed => "closed",
            Cover::Away => "archived",
        };
        let json = json!({
            "run": run,
            "path": self.path,
            "records": report.records,
            "checkpoints": report.checkpoints,
            "signed": report.anchored,
            "unanchored": report.unanchored(),
            "torn_bytes": report.torn,
            "over": found.over,
            "index": cover,
            "anchors": found.anchors,
            "archive": found.archive.as_ref().map(|(place, _)| place),
            "not_covered": self.less,
            "fault": report.fault.as_ref().map(fault_json),
            "exit": self.exit.code(),
        });
        let good = good(report.records, report.fault.as_ref());
        Verdict { exit: self.exit, words: self.lines.join("\n"), good, anchors: found.anchors, json }
    }
}

/// What is said about an index.
pub(super) fn of_index(path: &Path, index: &Index, agree: u64) -> Verdict {
    let (exit, words) = if let Some(fault) = index.fault() {
        (Exit::JournalInvalid, not_good(path, fault, index.records(), index.records()))
    } else if index.unsigned_bytes() > 0 {
        let words = format!(
            "UNANCHORED: the {} records of the index are valid; no signature covers the {} bytes after them. A crash causes this; the next run, or a resume, cuts them off and records that",
            index.records(),
            index.unsigned_bytes()
        );
        (Exit::Unanchored, words)
    } else {
        let counts = [
            (index.records(), "record"),
            (index.runs().count() as u64, "run"),
            (index.keys().len() as u64, "key"),
        ];
        let counts = counts.map(|(n, thing)| counted(n, thing)).join(", ");
        let anchors =
            if agree > 0 { format!(", confirmed by {agree} of the anchors") } else { String::new() };
        (Exit::Done, format!("OK: the index, {counts}, all signed{anchors}"))
    };
    let json = json!({
        "index": index.id(),
        "path": path,
        "records": index.records(),
        "runs": index.runs().count(),
        "keys": index.keys(),
        "unsigned_bytes": index.unsigned_bytes(),
        "anchors": agree,
        "fault": index.fault().map(fault_json),
        "exit": exit.code(),
    });
    Verdict { exit, words, good: good(index.records(), index.fault()), anchors: agree, json }
}

/// How many of the records are good: an anchor, or the index, may blame an earlier line than the lines
/// themselves do.
fn good(records: u64, fault: Option<&Fault>) -> u64 {
    fault.map_or(records, |fault| records.min(fault.line - 1))
}

/// The sentence that points at the first bad record.
fn not_good(path: &Path, fault: &Fault, records: u64, signed: u64) -> String {
    let good = good(records, Some(fault));
    let signed = signed.min(good);
    let rest = match (good, signed) {
        (0, _) => "you cannot rely on any of it".to_owned(),
        (good, signed) if good == signed => format!("lines 1 to {good} are valid"),
        (good, 0) => format!("lines 1 to {good} are consistent, but no signature covers them"),
        (good, signed) => {
            format!(
                "lines 1 to {signed} are valid; the lines up to {good} are consistent, but no signature covers them"
            )
        }
    };
    format!(
        "NOT VALID: {}: line {} (seq {}): {}; {rest}",
        path.display(),
        fault.line,
        fault.line - 1,
        fault.what
    )
}

fn fault_json(fault: &Fault) -> Value {
    json!({ "line": fault.line, "seq": fault.line - 1, "what": fault.what })
}
