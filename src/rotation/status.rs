//! Where a step stands, and which way a run goes.

use jiff::Timestamp;

use super::event::{Failure, Op};
use crate::domain::Phase;

/// Where one step stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// To be done; `attempt` is the next try, not to be made before `not_before`.
    Pending {
        /// The next try.
        attempt: u32,
        /// After a failure that may pass.
        not_before: Option<Timestamp>,
    },
    /// There is an intent and no outcome, and this process is at it.
    Started {
        /// What is done.
        op: Op,
        /// Which try.
        attempt: u32,
    },
    /// There is an intent, and nobody knows the outcome. To be observed.
    Unknown {
        /// What was done.
        op: Op,
        /// Which try.
        attempt: u32,
        /// How often it was looked into in vain in this session.
        looks: u32,
        /// Not to be looked into before.
        not_before: Option<Timestamp>,
    },
    /// An attempt left credentials that nobody can use; they must die before the next one.
    Orphaned {
        /// The attempt.
        attempt: u32,
        /// What it left.
        handles: Vec<String>,
        /// The next try to discard them.
        discard: u32,
        /// Not to be tried before.
        not_before: Option<Timestamp>,
    },
    /// Done.
    Done,
    /// Taken back, or never to be done in this direction.
    Undone,
    /// Being taken back; `attempt` is the next try.
    Undoing {
        /// The next try.
        attempt: u32,
        /// After a failure that may pass.
        not_before: Option<Timestamp>,
    },
    /// The last try failed for good; definitely nothing changed by it.
    Failed {
        /// What was tried.
        op: Op,
        /// Why it failed.
        failure: Failure,
        /// What must still be discarded, where that is what failed.
        orphans: Vec<String>,
    },
}

impl Status {
    /// In one word, for people.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pending { .. } => "pending",
            Self::Started { .. } => "started",
            Self::Unknown { .. } => "unknown",
            Self::Orphaned { .. } => "orphaned",
            Self::Done => "done",
            Self::Undone => "undone",
            Self::Undoing { .. } => "undoing",
            Self::Failed { .. } => "failed",
        }
    }
}

/// Which way the run goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Direction {
    /// Towards done.
    Forward,
    /// Back to the end of a phase, or all the way.
    Back {
        /// The phase; `None` is all the way.
        to: Option<Phase>,
        /// Why.
        why: String,
        /// Whether the engine decided it.
        by_gate: bool,
    },
}

/// The status from which a failed step is tried again by somebody who mended something.
pub(super) fn fresh(op: Op, orphans: Vec<String>) -> Status {
    match op {
        Op::Do => Status::Pending { attempt: 1, not_before: None },
        Op::Undo => Status::Undoing { attempt: 1, not_before: None },
        Op::Discard => Status::Orphaned { attempt: 1, handles: orphans, discard: 1, not_before: None },
    }
}
