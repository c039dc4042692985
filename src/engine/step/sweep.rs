//! `sweep`: looks for credentials that a repeated request made, and revokes them.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;

use super::earlier::Earlier;
use super::job::Job;
use super::{Effect, Observed, applied, nothing_to_undo};
use crate::domain::{Check, ErrorKind, Observation};
use crate::engine::safe;
use crate::engine::yields::{Yield, facts};
use crate::provider::{CallContext, CallError, Issuer};
use crate::sabotage::{Sabotage, is_on};

/// How many leftovers were found and revoked.
const TWINS: &str = "twins";

pub(super) struct Sweep {
    /// Every handle that the run issued and keeps: what a look by the run's tag finds and must not touch.
    kept: Vec<String>,
}

impl Sweep {
    pub(super) fn new(earlier: &Earlier<'_>) -> Self {
        Self { kept: earlier.kept() }
    }
}

#[async_trait]
impl Effect for Sweep {
    fn limit(&self, deadline: Duration) -> Duration {
        // Lists may be long.
        deadline.max(Duration::from_secs(10)) * 2
    }

    async fn perform(&self, job: &Job) -> Result<Yield, CallError> {
        job.sweep(&self.kept, job.known.incoming.as_deref()).await
    }

    async fn undo(&self, _: &Job) -> Result<Yield, CallError> {
        // What it revoked was never in use.
        Err(nothing_to_undo())
    }

    async fn observe(&self, _: &Job) -> Observed {
        // It can be repeated.
        applied(false)
    }

    async fn observe_undo(&self, _: &Job) -> Observed {
        applied(false)
    }
}

impl Job {
    /// What carries this run's tag and is not to be kept: something on the way may have repeated a request,
    /// or held it back. The inner error says why the issuer cannot tell.
    /// Handles that the run keeps, or is about to revoke, tell whether the issuer's list is new enough.
    pub(super) async fn leftovers(
        &self,
        keep: &[String],
        incoming: Option<&str>,
    ) -> Result<Result<Vec<String>, String>, CallError> {
        let (c, name, credential) = self.credential()?;
        if is_on(Sabotage::Sweep) {
            return Ok(Ok(Vec::new()));
        }
        let held = |round| self.safe.get(&safe::incoming(name, round)).map(|held| held.material);
        let rounds = self.known.rounds.iter().zip(0..);
        let mut rounds: Vec<_> =
            rounds.map(|(context, round)| CallContext { held: held(round), ..context.clone() }).collect();
        let mut before = self.plan.credentials[c].existing.clone();
        let mut expected: Vec<String> = incoming.map(str::to_owned).into_iter().collect();
        if !keep.is_empty() && credential.issuer.finds_by_run() {
            rounds = rounds.pop().into_iter().collect();
            rounds.iter_mut().for_each(|context| context.step.clear());
            before.extend_from_slice(keep);
            expected = keep.to_vec();
        }
        if self.plan.credentials[c].issuer.change != Observation::Readable {
            // Such an issuer keeps no list that could be too old, and says of no credential whether it lives.
            expected.clear();
        }
        let ours = |handle: &String| keep.contains(handle) || Some(handle.as_str()) == incoming;
        let issuer = self.issuer().await?;
        let mut left = BTreeSet::new();
        // What the run keeps is of the last round: a list of that one alone can be too old for it.
        let last = rounds.len().saturating_sub(1);
        for (round, context) in rounds.iter().enumerate() {
            let expected = if round == last { &expected[..] } else { &[] };
            match issuer.twins(context, &before, expected).await {
                Ok(found) => left.extend(found.into_iter().filter(|handle| !ours(handle))),
                Err(e)
                    if matches!(e.kind, ErrorKind::Denied | ErrorKind::Unsupported | ErrorKind::Conflict) =>
                {
                    return Ok(Err(e.message));
                }
                Err(e) => return Err(e.read_only()),
            }
        }
        Ok(Ok(left.into_iter().collect()))
    }

    /// Revokes what a repeated request to create left behind.
    pub(super) async fn sweep(&self, keep: &[String], incoming: Option<&str>) -> Result<Yield, CallError> {
        let found = match self.leftovers(keep, incoming).await? {
            Ok(found) => found,
            Err(why) => {
                let (_, name, credential) = self.credential()?;
                // One look stands for every credential of the connection.
                let shared = !keep.is_empty() && credential.issuer.finds_by_run();
                let what = if shared { "any credential of this run" } else { name };
                let detail = format!(
                    "stanch cannot see whether a repeated request created a second one of {what}: {why}"
                );
                // Readers of the record go by the name, not by the words.
                return Ok(Yield {
                    checks: vec![Check::warn("leftovers unseen", detail)],
                    ..Yield::default()
                });
            }
        };
        let issuer = self.issuer().await?;
        let strangers = self.strangers(issuer.as_ref(), &[keep, &found].concat()).await?;
        let mut twins = Vec::new();
        for handle in found {
            self.refuse_stopped()?;
            self.revoke(issuer.as_ref(), &handle, None).await?;
            twins.push(handle);
        }
        if twins.is_empty() {
            return Ok(Yield { checks: strangers, ..Yield::default() });
        }
        let detail = format!("a repeated request created {}; stanch revoked it", twins.join(", "));
        let mut checks = vec![Check::warn("leftovers", detail)];
        checks.extend(strangers);
        Ok(Yield { checks, ..facts([(TWINS, twins.join(" "))]) })
    }

    /// What is at the issuer and not known to this run. It is never touched: it may be another's.
    async fn strangers(&self, issuer: &dyn Issuer, ours: &[String]) -> Result<Vec<Check>, CallError> {
        let (c, name, _) = self.credential()?;
        // A list may still name what this run has just revoked.
        let incoming = self.known.incoming.as_slice();
        let known = [self.plan.credentials[c].existing.as_slice(), incoming, ours].concat();
        let found = match issuer.strangers(&known).await {
            Ok(found) => found,
            Err(e) if matches!(e.kind, ErrorKind::Denied | ErrorKind::Unsupported) => {
                let why = e.message;
                let detail = format!("stanch cannot see whether another {name} exists: {why}");
                return Ok(vec![Check::warn("leftovers", detail)]);
            }
            Err(e) => return Err(e.read_only()),
        };
        let hint = "find out which client uses it, and delete it if it is not needed";
        let warning = |detail: String| {
            // A check stands in the record alone; a person must see this one, too.
            (self.say)(format!("leftovers: {detail}; {hint}"));
            Check { hint: Some(hint.to_owned()), ..Check::warn("leftovers", detail) }
        };
        Ok(found.into_iter().map(warning).collect())
    }
}
