//! What a run knows of one of its steps.

use jiff::Timestamp;

use super::outcome::{Facts, Failure, Op};

/// Where one step stands.
#[derive(Debug, Clone, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
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
    /// To be done, from the first try on.
    pub(super) fn pending() -> Self {
        Self::Pending { attempt: 1, not_before: None }
    }

    /// In one word, for people.
    pub fn word(&self) -> &'static str {
        self.into()
    }
}

/// What a run knows of one of its steps.
#[derive(Debug, Clone)]
pub(super) struct StepState {
    /// Where it stands.
    pub(super) status: Status,
    /// What it left for later ones.
    pub(super) facts: Facts,
    /// How often it was taken back. A part of its idempotency token.
    pub(super) round: u32,
    /// When its first intent was recorded.
    pub(super) begun: Option<Timestamp>,
    /// When the first intent of the present round was recorded.
    pub(super) since: Option<Timestamp>,
    /// When the last intent to do it in the present round was recorded.
    pub(super) last: Option<Timestamp>,
    /// When the last intent to take it back was recorded.
    pub(super) last_undo: Option<Timestamp>,
    /// Its last try met a version that may be its own, and was told this. Boxed: it is rare, and plans are long.
    pub(super) conflict: Option<Box<Failure>>,
    /// What its tries were told that did not take effect for certain: the last word that is definite, else the last.
    pub(super) told: Option<Box<Failure>>,
    /// How often its server refused it for the number of requests, since it last succeeded or failed.
    pub(super) refusals: u16,
    /// It is to be done once more, and an earlier try took effect, or may have.
    pub(super) touched: bool,
    /// A try to do it in the present round may have taken effect, whatever was found since.
    pub(super) doubted: bool,
    /// It cannot be taken back, and has, or may have, been done.
    pub(super) irrevocable: bool,
    /// A promotion that a person wants done over whatever its store holds.
    pub(super) overwrites: bool,
    /// A check of a new credential: when it passed, in this process.
    pub(super) verified: Option<Timestamp>,
}

impl StepState {
    /// Nothing was done with it yet.
    pub(super) fn new() -> Self {
        Self {
            status: Status::pending(),
            facts: Facts::new(),
            round: 0,
            begun: None,
            since: None,
            last: None,
            last_undo: None,
            conflict: None,
            told: None,
            refusals: 0,
            touched: false,
            doubted: false,
            irrevocable: false,
            overwrites: false,
            verified: None,
        }
    }

    /// Keeps what a try was told. What is said when something that it left is revoked is about that.
    pub(super) fn tell(&mut self, op: Op, said: &Failure) {
        if op == Op::Discard {
            return;
        }
        if said.is_definite() || !self.told.as_ref().is_some_and(|told| told.is_definite()) {
            self.told = Some(Box::new(said.clone()));
        }
    }

    /// Another value, or another try from the start, needs another idempotency token.
    pub(super) fn next_round(&mut self) {
        self.round += 1;
        (self.since, self.last, self.doubted) = (None, None, false);
    }
}

/// The status from which a failed step is tried again by somebody who mended something.
pub(super) fn fresh(op: Op, orphans: Vec<String>) -> Status {
    match op {
        Op::Do => Status::pending(),
        Op::Undo => Status::Undoing { attempt: 1, not_before: None },
        Op::Discard => Status::Orphaned { attempt: 1, handles: orphans, discard: 1, not_before: None },
    }
}
