//! The report of a run, from its record alone: a fold over the records, each of whose numbers names the record that
//! it comes from.

mod clocks;
mod fold;
mod junit;
mod render;

use jiff::Timestamp;
use serde::Serialize;

use crate::rotation::End;

pub use fold::Fold;
pub use render::{Form, LESSONS, between_marks, differs, named_in, short, with_lessons};

/// The version of the report's form: a report of another one is made again, and not compared.
pub const FORMAT: u32 = 2;

/// Everything that a report says. Times are of the wall clock of the machine that wrote the record.
#[derive(Debug, Serialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: u32,
    /// The run's id.
    pub run: String,
    /// What it rotated.
    pub runbook: String,
    /// The environment.
    pub environment: String,
    /// Whether the embedded sandbox stood for every server.
    pub sandbox: bool,
    /// The drill's scenario, where this was practice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drill: Option<String>,
    /// The order of its phases.
    pub strategy: &'static str,
    /// The plan's digest, in hex.
    pub plan: String,
    /// When the run began.
    pub opened: Timestamp,
    /// How it ended; `None` while it is open.
    pub end: Option<End>,
    /// How many of its steps have an outcome that is still unknown.
    pub unsettled: usize,
    /// Steps that ended in a failure, and why.
    pub failures: Vec<Failed>,
    /// Up to where the record was read.
    pub read: Extent,
    /// What happened, in a few sentences, the most important first.
    pub summary: Vec<Line>,
    /// How long the old credentials could be used, and how long consumers had no valid one.
    pub clocks: Vec<Clock>,
    /// Each credential.
    pub credentials: Vec<Credential>,
    /// Each place where an old credential was used in the end.
    pub vantages: Vec<Vantage>,
    /// The phases that the run was in.
    pub phases: Vec<Bar>,
    /// How long the whole run took until the last record, in milliseconds.
    pub took_ms: u64,
    /// Who did what, and why.
    pub people: Vec<Line>,
    /// How each gate was judged.
    pub gates: Vec<Line>,
    /// Outcomes that were unknown, and how each was settled.
    pub unknowns: Vec<Line>,
    /// What is open.
    pub follow_ups: Vec<String>,
    /// What no check covered.
    pub unchecked: Vec<String>,
    /// Every record that a person can read.
    pub timeline: Vec<Line>,
}

/// Up to where a record was read.
#[derive(Debug, Clone, Serialize)]
pub struct Extent {
    /// How many records.
    pub records: u64,
    /// When the last of them was written.
    pub last: Option<Timestamp>,
    /// The last checkpoint among them: a signed note over all records before it.
    pub checkpoint: Option<Checkpoint>,
}

/// A checkpoint.
#[derive(Debug, Clone, Serialize)]
pub struct Checkpoint {
    /// Its record.
    pub record: u64,
    /// The signed note.
    pub note: String,
}

/// Something that is so, with the record that says it.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// The record.
    pub record: u64,
    /// When it was written.
    pub at: Timestamp,
    /// How long after the run began, in milliseconds.
    pub after_ms: u64,
    /// Who ran the process that wrote it, and where.
    pub who: String,
    /// What is so.
    pub words: String,
    /// Whether it is one of those that decide: it is marked in the drawing.
    pub mark: bool,
}

/// A step that failed.
#[derive(Debug, Clone, Serialize)]
pub struct Failed {
    /// The step.
    pub step: String,
    /// What went wrong.
    pub message: String,
}

/// A time that counts, expected and measured.
#[derive(Debug, Serialize)]
pub struct Clock {
    /// Which.
    pub name: &'static str,
    /// What it means.
    pub means: &'static str,
    /// What the plan expected.
    pub expected: String,
    /// What the record shows.
    pub measured: String,
    /// The same in a word: `over`, `none`, `open`, or `not counted`.
    pub word: &'static str,
    /// From when to when it ran; `None` where it did not, or has not ended.
    pub span: Option<Span>,
}

/// A time between two records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Span {
    /// When it began, in milliseconds after the run began.
    pub start_ms: u64,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// The record with which it begins.
    pub from: u64,
    /// The record with which it ends.
    pub to: u64,
}

/// What became of one credential.
#[derive(Debug, Serialize)]
pub struct Credential {
    /// Its name.
    pub name: String,
    /// What is true of it, in a sentence.
    pub truth: String,
    /// How its issuer names the new one; never a secret.
    pub new: Option<String>,
    /// How its issuer names the old one.
    pub old: Option<String>,
    /// In how many stores the new one is current, and of how many.
    pub stores: (usize, usize),
    /// Whether a consumer of it attests.
    pub attests: bool,
    /// How many instances of its consumers use it, and of how many; `(0, 0)` where none attests.
    pub instances: (usize, usize),
    /// How long after the run began each of these was so.
    pub milestones: Vec<Milestone>,
}

/// Something that is reached once for each credential.
#[derive(Debug, Serialize)]
pub struct Milestone {
    /// `contained`, `replaced`, `revoked` or `proved`.
    pub name: &'static str,
    /// When, and by which record; `None` where it was not reached.
    pub span: Option<Span>,
}

/// A place where an old credential was used in the end, beside the new one.
#[derive(Debug, Serialize)]
pub struct Vantage {
    /// The credential.
    pub credential: String,
    /// Its issuer, or a check.
    pub place: String,
    /// From the start of the run until it was last accepted there; `None` where no step saw that.
    pub accepted: Option<Span>,
    /// From the start of the run until the first refusal of the row that counts; `None` where there is none.
    pub refused: Option<Span>,
    /// From the last call that was to end it until that refusal.
    pub called: Option<Span>,
    /// Whether that proves it dead there.
    pub proved: bool,
}

/// A phase, as a bar over time.
#[derive(Debug, Serialize)]
pub struct Bar {
    /// The phase.
    pub phase: &'static str,
    /// The record with which it began.
    pub record: u64,
    /// When it began, in milliseconds after the run.
    pub start_ms: u64,
    /// How long it took, in milliseconds.
    pub ms: u64,
}
