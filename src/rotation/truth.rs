//! What is true of each credential, as it was last seen; what the steps did is only what it was last made.

use super::outcome::Op;
use super::seen::{Holds, Sight};
use super::state::{Direction, State};
use super::step::Status;
use crate::domain::{ErrorKind, Strategy};
use crate::plan::Action;
use crate::sabotage::{Sabotage, is_on};
use jiff::Timestamp;
use strum::IntoStaticStr;

/// What is true of one credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truth {
    /// Its name.
    pub credential: String,
    /// Whether the run replaces it; else it only revokes it.
    pub replaced: bool,
    /// The incoming version.
    pub incoming: Incoming,
    /// In how many stores incoming is current. Where there was a look, only what was seen counts.
    pub current: usize,
    /// How many stores cannot be read, and have the version that this run wrote. None of them counts as `current`.
    pub written: usize,
    /// Of how many.
    pub stores: usize,
    /// How many instances of its consumers use the wanted version.
    pub adopted: usize,
    /// Of how many that were asked; 0 when nobody was asked.
    pub instances: usize,
    /// The outgoing version.
    pub outgoing: Outgoing,
    /// The issuer's name for incoming, while it is open.
    pub handle: Option<String>,
    /// In how many stores neither incoming nor outgoing is current: somebody else's value is, or none.
    pub strange: usize,
    /// In how many of those none is: the secret, or its current version, is gone.
    pub nothing: usize,
    /// How many stores hold another version than this run wrote, and cannot be compared any more.
    pub incomparable: usize,
    /// How many stores could not be read when the world was last looked at.
    pub unread: usize,
    /// Whether a check still accepted outgoing in the end.
    pub let_in: bool,
    /// When the world was last looked at; `None` when only the steps tell, or not every store could be read.
    pub seen: Option<Timestamp>,
}

impl Truth {
    /// In how many stores incoming was put, as far as each can tell.
    pub fn delivered(&self) -> usize {
        self.current + self.written
    }

    /// Whether a store was just seen to hold something else than the new credential.
    pub fn is_displaced(&self) -> bool {
        self.strange > 0 || (self.seen.is_some() && self.delivered() < self.stores)
    }

    /// Whether others have undone what a run whose steps are all done has left: a store holds something else, or
    /// the new credential is dead.
    pub fn is_overtaken(&self) -> bool {
        self.incoming == Incoming::Dead || self.is_displaced()
    }
}

/// Where the incoming version stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Incoming {
    /// It does not exist.
    None,
    /// It exists.
    Issued,
    /// It existed, and was revoked again.
    Revoked,
    /// It was issued, and is refused or gone without this run's doing.
    Dead,
    /// Nobody knows.
    Unknown,
}

/// Where the outgoing version stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Outgoing {
    /// It is accepted.
    Accepted,
    /// It is disabled.
    Disabled,
    /// It is deleted, and something that was made with it lives on, such as a login or a session.
    Deleted,
    /// It is revoked, which is not proved yet.
    Revoked,
    /// The new one took its place at its issuer, which is not proved yet.
    Replaced,
    /// It was used, and refused, and the same checks accepted the new one.
    Dead,
    /// It was used, and refused, or its issuer does not know it, though this run did not revoke it.
    Gone,
    /// A check refused it, which is not proved to mean that it is dead.
    Refused,
    /// Nothing revokes it, on a person's word.
    Waived,
    /// Nobody knows.
    Unknown,
}

impl State {
    /// What is true of every credential. For a run with many, [`State::truth_of`] is cheaper.
    pub fn truths(&self) -> Vec<Truth> {
        let mut truths: Vec<Truth> = (0..self.plan.credentials.len()).map(|c| self.blank(c)).collect();
        for at in 0..self.plan.steps.len() {
            if let Some(c) = self.plan.steps[at].action.credential() {
                self.learn(&mut truths[c], at);
            }
        }
        let unproved: Vec<usize> = self.unproved().into_iter().map(|(c, _)| c).collect();
        for (c, truth) in truths.iter_mut().enumerate() {
            self.look(truth, !unproved.contains(&c));
        }
        truths
    }

    /// What is true of one credential, whose steps are given.
    pub fn truth_of(&self, credential: usize, steps: &[usize]) -> Truth {
        let mut truth = self.blank(credential);
        for &at in steps {
            self.learn(&mut truth, at);
        }
        self.look(&mut truth, self.why_unproved(credential, steps).is_none());
        truth
    }

    /// What was seen last counts more than what the steps did.
    fn look(&self, truth: &mut Truth, proved: bool) {
        if proved && matches!(truth.outgoing, Outgoing::Revoked | Outgoing::Replaced | Outgoing::Refused) {
            truth.outgoing = Outgoing::Dead;
        }
        truth.let_in |= self.was_let_in(&truth.credential);
        if truth.let_in {
            truth.outgoing = Outgoing::Accepted;
        }
        let Some((at, seen)) = self.seen(&truth.credential).filter(|_| !is_on(Sabotage::Summary)) else {
            return;
        };
        let holding = |what: Holds| seen.stores.iter().filter(|s| **s == what).count();
        // A look that could not read every store does not count as one; nor does what it could not read.
        truth.current = holding(Holds::Incoming);
        truth.written = holding(Holds::Written);
        truth.unread = holding(Holds::Unreadable);
        truth.incomparable = holding(Holds::Incomparable);
        // Where nothing was asked, nothing was checked.
        let asked = truth.stores > 0 || seen.outgoing != Sight::Unseen || seen.incoming != Sight::Unseen;
        truth.seen = (truth.unread == 0 && asked).then_some(*at);
        truth.nothing = holding(Holds::Nothing);
        truth.strange = holding(Holds::Other) + truth.nothing;
        if truth.incoming == Incoming::Issued
            && matches!(seen.incoming, Sight::Gone | Sight::Deleted | Sight::Disabled | Sight::Refused)
        {
            truth.incoming = Incoming::Dead;
        }
        truth.outgoing = match (seen.outgoing, truth.outgoing) {
            // Its issuer may call it gone while a check lets it in.
            (_, Outgoing::Accepted) if truth.let_in => Outgoing::Accepted,
            (Sight::Accepted | Sight::Alive, _) => Outgoing::Accepted,
            (Sight::Disabled, _) => Outgoing::Disabled,
            (Sight::Deleted, _) => Outgoing::Deleted,
            (Sight::Gone | Sight::Refused, Outgoing::Accepted | Outgoing::Disabled | Outgoing::Refused) => {
                Outgoing::Gone
            }
            (_, told) => told,
        };
    }

    fn blank(&self, c: usize) -> Truth {
        let planned = &self.plan.credentials[c];
        // After a rollback the counts speak of a version that is gone.
        let forward = *self.direction() == Direction::Forward;
        let asked = self.adopted().iter().filter(|((name, _), _)| forward && *name == planned.name);
        let (adopted, instances) = asked.fold((0, 0), |(a, n), (_, (i, of))| (a + i, n + of));
        let outgoing = match (&planned.waived, planned.disabled) {
            (Some(_), _) => Outgoing::Waived,
            (None, true) => Outgoing::Disabled,
            (None, false) => Outgoing::Accepted,
        };
        Truth {
            credential: planned.name.clone(),
            replaced: self.plan.strategy != Strategy::Revoke,
            incoming: Incoming::None,
            current: 0,
            written: 0,
            stores: planned.stores.len(),
            adopted,
            instances,
            outgoing,
            handle: None,
            strange: 0,
            nothing: 0,
            incomparable: 0,
            unread: 0,
            let_in: false,
            seen: None,
        }
    }

    fn learn(&self, truth: &mut Truth, at: usize) {
        let status = &self.steps[at].status;
        let done = self.is_in_effect(at);
        let in_doubt = matches!(status, Status::Unknown { .. } | Status::Started { op: Op::Do, .. });
        match self.plan.steps[at].action {
            Action::Issue { credential } => {
                truth.incoming = match status {
                    // What could not be discarded lives, and nobody can use it.
                    Status::Unknown { .. }
                    | Status::Started { .. }
                    | Status::Orphaned { .. }
                    | Status::Failed { op: Op::Discard, .. } => Incoming::Unknown,
                    _ if done => Incoming::Issued,
                    Status::Undone | Status::Pending { .. } if self.round(at) > 0 => Incoming::Revoked,
                    _ => Incoming::None,
                };
                truth.handle = self.fact(at, "handle").map(str::to_owned);
                let replaces = self.plan.credentials[credential].issuer.replaces();
                if replaces && truth.outgoing == Outgoing::Accepted {
                    truth.outgoing = match status {
                        _ if in_doubt => Outgoing::Unknown,
                        _ if done => Outgoing::Replaced,
                        _ => Outgoing::Accepted,
                    };
                }
            }
            Action::Promote { credential, store } => {
                match self.plan.credentials[credential].reads(store) {
                    true => truth.current += usize::from(done),
                    false => truth.written += usize::from(done),
                }
                // The way back uses the old credential before it makes it current again. A readable issuer is
                // looked at in the end, which tells more.
                if truth.outgoing == Outgoing::Accepted
                    && matches!(status, Status::Failed { op: Op::Undo, failure, .. } if failure.kind == ErrorKind::Declined)
                {
                    truth.outgoing = Outgoing::Refused;
                }
            }
            Action::Disable { .. } if done => truth.outgoing = Outgoing::Disabled,
            Action::Revoke { .. } if done => truth.outgoing = Outgoing::Revoked,
            Action::Disable { .. } | Action::Revoke { .. } if in_doubt => truth.outgoing = Outgoing::Unknown,
            // Whatever its issuer answered: it was used, and accepted.
            Action::Reject { .. } if self.is_let_in(at) => truth.let_in = true,
            // Where nothing revokes, the checks alone tell; and they may refuse before anything was changed.
            Action::Reject { .. }
                if *status == Status::Done
                    && matches!(
                        truth.outgoing,
                        Outgoing::Accepted | Outgoing::Disabled | Outgoing::Deleted
                    ) =>
            {
                truth.outgoing = Outgoing::Refused;
            }
            Action::Baseline { .. }
                if truth.outgoing == Outgoing::Accepted
                    && self.failure(at).is_some_and(|failure| failure.kind == ErrorKind::Declined) =>
            {
                truth.outgoing = Outgoing::Refused;
            }
            _ => {}
        }
    }
}
