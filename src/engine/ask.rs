//! Using a credential until the answer is sure.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::job::Yield;
use crate::clock::Clock;
use crate::plan::PlannedPhase;
use crate::provider::{CallError, Check, Issuer, Kind, Probe, Use};
use crate::sabotage::{Sabotage, is_on};
use crate::secret::Material;

/// How long an incoming credential may be refused before that is believed: issuers are eventually
/// consistent.
const VERIFY_PATIENCE: Duration = Duration::from_secs(60);
/// How long an outgoing credential may still be accepted after it was revoked before that is a
/// failure. Longer than any cache that a relying party should have in front of a revocation check.
const PROOF_PATIENCE: Duration = Duration::from_secs(600);

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

/// Asks until the wanted answer came as often in a row as the phase says. No answer is neither
/// acceptance nor refusal: it breaks the row.
pub(super) async fn until_sure(
    who: &Asked,
    material: &Material,
    accept: bool,
    waits: &PlannedPhase,
    deadline: Duration,
    clock: &dyn Clock,
    cancel: &CancellationToken,
) -> Result<Yield, CallError> {
    let patience = waits.at_most.get().min(if accept { VERIFY_PATIENCE } else { PROOF_PATIENCE });
    let start = clock.now().mono_ms;
    let elapsed = |now: u64| Duration::from_millis(now.saturating_sub(start));
    let mut row = 0;
    let mut first = Duration::ZERO;
    loop {
        let answer = match tokio::time::timeout(deadline, who.attempt(material)).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::rejected(Kind::NoAnswer, "no answer in time")),
        };
        let so_far = elapsed(clock.now().mono_ms);
        let trouble = match answer {
            Ok(Use::Accepted) if accept => None,
            Ok(Use::Refused(_)) if !accept => None,
            Ok(Use::Accepted) if is_on(Sabotage::Survivor) => None,
            Ok(Use::Accepted) => {
                Some(CallError::rejected(Kind::Declined, "the old credential is still accepted"))
            }
            Ok(Use::Refused(how)) => {
                Some(CallError::rejected(Kind::Declined, format!("the new credential is refused: {how}")))
            }
            Err(error) => Some(error.read_only()),
        };
        match trouble {
            None => {
                if row == 0 {
                    first = so_far;
                }
                row += 1;
                if row >= waits.times {
                    let word = if accept { "accepted" } else { "refused" };
                    let detail = format!("{word} {row} times in a row, first after {} ms", first.as_millis());
                    let check = Check::pass(if accept { "new credential" } else { "old credential" }, detail);
                    return Ok(Yield { checks: vec![check], ..Yield::default() });
                }
            }
            // What cannot be asked at all will not be answered by asking again.
            Some(error) if matches!(error.kind, Kind::Unsupported | Kind::Local | Kind::Invalid) => {
                return Err(error);
            }
            Some(error) if so_far >= patience => return Err(error),
            Some(_) => row = 0,
        }
        tokio::select! {
            biased;
            () = clock.sleep(waits.every.get()) => {}
            () = cancel.cancelled() => {
                return Err(CallError::rejected(Kind::Cancelled, "stopped while asking"));
            }
        }
    }
}
