//! Using a credential until the answer is sure.
//!
//! One answer decides nothing: issuers are eventually consistent, and a check that refuses everything
//! refuses the old credential too. So answers count in a row, and a refusal counts only beside an
//! acceptance of the new credential by the same check in the same round.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::job::{Job, bug};
use super::patience::{Patience, pause, unthrottled};
use crate::clock::Clock;
use crate::domain::{Check, ErrorKind, Life, Phase};
use crate::engine::yields::{Yield, facts};
use crate::plan::PlannedPhase;
use crate::provider::{CallError, Issuer, Probe, Use};
use crate::rotation::{ACCEPTED_AT, BEFORE, PROVED, REFUSED_AT, WHY};
use crate::runbook::model;
use crate::sabotage::{Sabotage, is_on};
use crate::secret::Material;

/// How long an incoming credential may be refused before that is believed: issuers are eventually
/// consistent.
const VERIFY_PATIENCE: Duration = Duration::from_secs(60);
/// How long an outgoing credential may still be accepted after it was revoked before that is a
/// failure. Longer than any cache that a relying party should have in front of a revocation check.
const PROOF_PATIENCE: Duration = Duration::from_secs(600);
/// How long an outgoing credential is asked about before the way back: it was enabled a moment ago.
const RETURN_PATIENCE: Duration = Duration::from_secs(20);
/// What is said of an answer that did not come.
const LATE: &str = "no answer in time";
/// What to do about a place that goes on accepting.
const STILL_ACCEPTED: &str = "it may cache its answers, ask a replica that is behind, or accept something that was made with the credential: flush or restart it, then resume";
/// How often a look that is taken once is taken when it has no answer.
const TRIES: u32 = 3;
/// Who is asked.
pub(super) enum Asked {
    Issuer(Arc<dyn Issuer>),
    Probe(Arc<dyn Probe>),
}

impl Asked {
    async fn attempt(&self, material: &Material) -> Result<Use, CallError> {
        match self {
            Self::Issuer(issuer) => issuer.attempt(material).await,
            Self::Probe(probe) => probe.attempt(material).await,
        }
    }
}

/// Whom to ask, and how patiently.
pub(super) struct Inquiry<'a> {
    pub(super) who: Asked,
    /// In words, for messages: `its issuer`, `check 1`.
    pub(super) place: String,
    pub(super) waits: &'a PlannedPhase,
    /// The longest that one answer may take.
    pub(super) deadline: Duration,
    pub(super) clock: &'a dyn Clock,
    pub(super) cancel: &'a CancellationToken,
    /// How many may ask at once. Who waits between two answers holds no place.
    pub(super) places: &'a Semaphore,
    /// Puts a sentence on the record.
    pub(super) say: &'a (dyn Fn(String) + Send + Sync),
}

impl Job {
    /// How one place is asked: the issuer, or a check.
    pub(super) async fn inquiry(
        &self,
        probe: Option<usize>,
        rejects: bool,
        phase: Phase,
    ) -> Result<Inquiry<'_>, CallError> {
        let (_, name, credential) = self.credential()?;
        let (who, place) = match probe {
            None => (Asked::Issuer(self.issuer().await?), "its issuer".to_owned()),
            Some(p) => {
                let probes: &[model::Probe] =
                    if rejects { crate::plan::rejects(credential) } else { &credential.accepts };
                let probe = probes.get(p).ok_or_else(|| bug("the plan does not have this check"))?;
                (
                    Asked::Probe(self.provider.probe(name, credential, probe).await?),
                    format!("check {}", p + 1),
                )
            }
        };
        let waits = self.plan.phase(phase).ok_or_else(|| bug("the plan does not have this phase"))?;
        Ok(Inquiry {
            who,
            place,
            waits,
            deadline: self.plan.runbook.limits.deadline.get(),
            clock: self.clock.as_ref(),
            cancel: &self.cancel,
            places: &self.places,
            say: &*self.say,
        })
    }
}

impl Inquiry<'_> {
    pub(super) fn patience(&self, own: Duration) -> Patience<'_> {
        Patience::new(self.clock, self.waits.at_most.get(), own)
    }

    /// Uses a credential.
    pub(super) async fn attempt(
        &self,
        material: &Material,
        patience: &Patience<'_>,
    ) -> Result<Use, CallError> {
        self.ask(patience, || self.who.attempt(material)).await
    }

    /// Asks, and again for as long as the server refuses the number of requests. Waits for the answer no longer than
    /// there is patience: a check that hangs must not make the phase last longer than its limit.
    async fn ask<T, F>(&self, patience: &Patience<'_>, call: impl Fn() -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let may_wait = |wait| {
            let in_time = wait < patience.of_phase();
            if in_time {
                patience.throttled(wait);
            }
            in_time
        };
        unthrottled(self.clock, self.cancel, may_wait, || async {
            let _place = self.places.acquire().await;
            let late = |_| CallError::rejected(ErrorKind::NoAnswer, LATE);
            tokio::time::timeout(self.deadline.min(patience.left()), call()).await.map_err(late)?
        })
        .await
    }

    async fn pause(&self, asked: Option<Duration>) -> Result<(), CallError> {
        pause(self.clock, self.cancel, self.waits.every.get().max(asked.unwrap_or_default())).await
    }

    /// Asks until the incoming credential was accepted as often in a row as the phase says.
    pub(super) async fn accepted(&self, incoming: &Material) -> Result<Yield, CallError> {
        let (row, first) = self.row(incoming, self.waits.times, VERIFY_PATIENCE, "new").await?;
        let detail = format!("accepted {row} times in a row, first after {} ms", first.as_millis());
        Ok(Yield { checks: vec![Check::pass("new credential", detail)], ..Yield::default() })
    }

    /// Uses a credential that is to stay, once, right before what cannot be undone; a refusal is asked
    /// about again for as long as issuers may lag.
    pub(super) async fn still_accepted(&self, material: &Material, which: &str) -> Result<(), CallError> {
        self.row(material, 1, RETURN_PATIENCE, which).await.map(drop)
    }

    /// A row of acceptances. No answer is neither acceptance nor refusal: it breaks the row.
    async fn row(
        &self,
        material: &Material,
        times: u32,
        own: Duration,
        which: &str,
    ) -> Result<(u32, Duration), CallError> {
        let patience = self.patience(own);
        let (mut row, mut first) = (0, Duration::ZERO);
        let mut why: Option<CallError> = None;
        loop {
            let error = match self.attempt(material, &patience).await {
                Ok(Use::Accepted) => {
                    if row == 0 {
                        first = patience.since();
                    }
                    row += 1;
                    if row >= times {
                        return Ok((row, first));
                    }
                    self.pause(None).await?;
                    continue;
                }
                Ok(Use::Refused(how)) => {
                    let message = format!("{} refuses the {which} credential: {how}", self.place);
                    CallError::rejected(ErrorKind::Declined, message)
                }
                Err(error) => error,
            };
            row = 0;
            if is_final(&error) {
                return Err(error);
            }
            if patience.left().is_zero() {
                return Err(last_word(why, error));
            }
            let asked = error.retry_after;
            why = Some(error);
            self.pause(asked).await?;
        }
    }

    /// Asks, before anything is changed, whether outgoing is accepted where it must be refused in the
    /// end. `must` where a refusal shows that the stores hold another value than the one in use.
    pub(super) async fn before(&self, outgoing: &Material, must: bool) -> Result<Yield, CallError> {
        let patience = self.patience(PROOF_PATIENCE);
        let (mut refusals, mut silences, mut accepted) = (0, 0, None);
        let (answer, how) = loop {
            let mut asked = None;
            match self.attempt(outgoing, &patience).await {
                Ok(Use::Accepted) => {
                    accepted = Some(self.clock.now().wall);
                    break ("accepted", String::new());
                }
                Ok(Use::Refused(how)) => {
                    refusals += 1;
                    if refusals >= self.waits.times.min(TRIES) {
                        break ("refused", how);
                    }
                }
                Err(error) => {
                    silences += 1;
                    if is_final(&error) || silences >= TRIES || patience.left().is_zero() {
                        // It would have no answer in the end either.
                        let kind = match (&self.who, error.kind) {
                            (Asked::Probe(_), ErrorKind::NoAnswer) => ErrorKind::Unsupported,
                            (_, kind) => kind,
                        };
                        let message =
                            format!("{} gave no answer: {}; nothing was changed", self.place, error.message);
                        return Err(CallError { kind, message, ..error });
                    }
                    asked = error.retry_after;
                }
            }
            self.pause(asked).await?;
        };
        let place = &self.place;
        if answer == "refused" && must {
            let message = format!("{place} already refuses the old credential: {how}; nothing was changed");
            return Err(CallError::rejected(ErrorKind::Declined, message).hint(
                "the stores may hold a different value than consumers use, or the check is wrong: correct it, then make a new plan",
            ));
        }
        let check = if answer == "refused" {
            let detail =
                format!("{place} already refuses the old credential, so its refusal will prove nothing");
            Check::warn("old credential", detail)
        } else {
            Check::pass("old credential", format!("{place} accepts it, as it should before the rotation"))
        };
        let mut found = Yield { checks: vec![check], ..facts([(BEFORE, answer.to_owned())]) };
        found.note_acceptance(accepted);
        Ok(found)
    }

    /// Asks the issuer, where the old value is not known, until it has called the old credential gone, and the new
    /// one active, as often in a row as the phase says. Without a new one, the issuer called the old one active while
    /// the run was planned.
    pub(super) async fn gone(&self, outgoing: &str, incoming: Option<&str>) -> Result<Yield, CallError> {
        let Asked::Issuer(issuer) = &self.who else { return Err(bug("only an issuer knows handles")) };
        let patience = self.patience(PROOF_PATIENCE);
        let (mut row, mut first, mut accepted) = (0, self.clock.now().wall, None);
        let life = |handle| self.ask(&patience, move || issuer.life(handle));
        loop {
            let at = self.clock.now().wall;
            let lives = async {
                let old = life(outgoing).await?;
                Ok((old, if let Some(incoming) = incoming { life(incoming).await? } else { Life::Active }))
            };
            let error = match lives.await {
                Ok((Life::Gone, Life::Active)) => None,
                Ok(_) if is_on(Sabotage::Survivor) => None,
                Ok((Life::Deleted, _)) if is_on(Sabotage::Descendants) => None,
                Ok((Life::Gone, _)) => Some(CallError::rejected(
                    ErrorKind::NoAnswer,
                    "its issuer does not know the new credential either, so what it says of the old one proves nothing",
                )),
                Ok((Life::Disabled, _)) => Some(CallError::rejected(
                    ErrorKind::NoAnswer,
                    "its issuer still knows the old credential, disabled",
                )),
                Ok((Life::Deleted, _)) => Some(CallError::rejected(
                    ErrorKind::NoAnswer,
                    "the old credential was deleted, but is not gone: a login or session lives, or a revocation list does not name it yet",
                )),
                Ok((Life::Active, _)) => {
                    accepted = Some(at);
                    Some(CallError::rejected(
                        ErrorKind::Declined,
                        "its issuer still knows the old credential, and calls it active",
                    ))
                }
                Err(error) => Some(error),
            };
            let asked = match error {
                None => {
                    first = if row == 0 { at } else { first };
                    row += 1;
                    if row >= self.waits.times {
                        issuer.newcomers(outgoing).await.map_err(CallError::read_only)?;
                        let control = match incoming {
                            Some(_) => "and the new one active",
                            None => "after it had known it",
                        };
                        let detail = format!("its issuer called it gone {row} times in a row, {control}");
                        return Ok(proved(detail, first, accepted));
                    }
                    None
                }
                Some(error) => {
                    if is_final(&error) || patience.left().is_zero() {
                        return Err(error);
                    }
                    row = 0;
                    error.retry_after
                }
            };
            self.pause(asked).await?;
        }
    }

    /// Asks until outgoing was refused, and the new one accepted beside it, as often in a row as the
    /// phase says.
    pub(super) async fn refused(&self, outgoing: &Material, incoming: &Material) -> Result<Yield, CallError> {
        let patience = self.patience(PROOF_PATIENCE);
        let (mut row, mut first, mut said, mut refused) = (0, self.clock.now().wall, false, false);
        let mut accepted = None;
        let mut why: Option<CallError> = None;
        loop {
            // Behind a front that hands requests to its backends in turn, one of which refuses everybody, the old one
            // would meet that backend in every round, were the order always the same. The order of a round is the
            // parity of the ones in its place in the row (old first, new, new, old, …): no pattern that repeats after
            // two requests survives two rounds, and none that repeats after three or four survives three. It costs no
            // request, and is the same whenever a schedule is played again.
            let early =
                if new_goes_first(row) { Some(self.attempt(incoming, &patience).await) } else { None };
            let old = self.attempt(outgoing, &patience).await;
            let at = self.clock.now().wall;
            let new = match (&old, early) {
                (_, Some(new)) => Some(new),
                (Ok(Use::Refused(_)), None) => Some(self.attempt(incoming, &patience).await),
                _ => None,
            };
            let place = &self.place;
            let error = match (old, new) {
                (Ok(Use::Refused(_)), Some(Ok(Use::Accepted))) => None,
                (Ok(Use::Accepted), _) if is_on(Sabotage::Survivor) => None,
                (Ok(Use::Refused(_)), _) if is_on(Sabotage::Control) => None,
                (Ok(Use::Accepted), _) => {
                    accepted = Some(at);
                    if !std::mem::replace(&mut said, true) {
                        (self.say)(format!(
                            "the old credential is still accepted by {place}; waiting for a refusal"
                        ));
                    }
                    let message = format!("the old credential is still accepted by {place}");
                    Some(CallError::rejected(ErrorKind::Declined, message).hint(STILL_ACCEPTED))
                }
                (Ok(Use::Refused(_)), Some(Ok(Use::Refused(how)))) => {
                    let message = format!(
                        "{place} also refuses the new credential ({how}), so its refusal of the old one proves nothing"
                    );
                    if !std::mem::replace(&mut refused, true) {
                        (self.say)(message.clone());
                    }
                    Some(CallError::rejected(ErrorKind::NoAnswer, message))
                }
                (Ok(Use::Refused(_)), Some(Err(error))) => Some(CallError {
                    message: format!(
                        "{place} refused the old credential, but gave no answer for the new one: {}",
                        error.message
                    ),
                    ..error
                }),
                (Err(error), _) => Some(error),
                (Ok(Use::Refused(_)), None) => {
                    Some(CallError::rejected(ErrorKind::Invalid, "the new credential was not used"))
                }
            };
            let asked = match error {
                None => {
                    if row == 0 {
                        first = at;
                    }
                    row += 1;
                    if row >= self.waits.times {
                        let detail = format!(
                            "refused {row} times in a row, while the new credential was accepted; first at {first:.3}"
                        );
                        return Ok(proved(detail, first, accepted));
                    }
                    None
                }
                // What cannot be asked at all will not be answered by asking again.
                Some(error) if is_final(&error) => return Err(error),
                Some(error) if patience.left().is_zero() => return Err(last_word(why, error)),
                Some(error) => {
                    row = 0;
                    let asked = error.retry_after;
                    why = Some(error);
                    asked
                }
            };
            self.pause(asked).await?;
        }
    }
}

/// Whether the new credential is used before the old one in the round with this place in the row.
pub(super) fn new_goes_first(place: u32) -> bool {
    place.count_ones() % 2 == 1
}

/// Why the patience ended: an answer that was cut short by it says less than the one before.
fn last_word(before: Option<CallError>, error: CallError) -> CallError {
    match before {
        Some(before) if error.message == LATE => before,
        _ => error,
    }
}

impl Yield {
    fn note_acceptance(&mut self, at: Option<Timestamp>) {
        self.facts.extend(at.map(|at| (ACCEPTED_AT.to_owned(), at.to_string())));
    }
}

/// Whether asking again cannot help.
fn is_final(error: &CallError) -> bool {
    matches!(error.kind, ErrorKind::Unsupported | ErrorKind::Local | ErrorKind::Invalid)
}

fn proved(detail: String, refused: Timestamp, accepted: Option<Timestamp>) -> Yield {
    let facts = facts([(PROVED, "yes".to_owned()), (REFUSED_AT, refused.to_string())]);
    let mut found = Yield { checks: vec![Check::pass("old credential", detail)], ..facts };
    found.note_acceptance(accepted);
    found
}

/// A step of the proof that is done, and proves nothing.
pub(super) fn proves_nothing(why: String) -> Yield {
    let check = Check::warn("old credential", why.clone());
    Yield { checks: vec![check], ..facts([(PROVED, "no".to_owned()), (WHY, why)]) }
}
