//! `inspect`: compares what incoming may do with what the runbook allows.

use std::time::Duration;

use async_trait::async_trait;

use super::Look;
use super::job::Job;
use crate::domain::{Check, ErrorKind, Period, Phase};
use crate::engine::yields::Yield;
use crate::provider::{CallError, Grant};
use crate::runbook::model;

pub(super) struct Inspect;

#[async_trait]
impl Look for Inspect {
    fn limit(&self, deadline: Duration) -> Duration {
        deadline
    }

    async fn perform(&self, job: &Job) -> Result<Yield, CallError> {
        let (_, name, credential) = job.credential()?;
        let grant = job.issuer().await?.inspect(job.incoming_handle()?).await?;
        refuse_short(job, &grant)?;
        match too_wide(&credential.scope, &grant) {
            None => {
                let about = format!("scope of the new {name}");
                let mut checks = vec![Check::pass(about.clone(), "not wider than the runbook allows")];
                checks.extend(grant.notes.into_iter().map(|note| Check::warn(about.clone(), note)));
                Ok(Yield { checks, ..Yield::default() })
            }
            Some(wider) => Err(CallError::rejected(
                ErrorKind::Declined,
                format!("the new {name} is wider than the runbook allows: {wider}"),
            )
            .hint("narrow the issuer's role or policies, or widen `scope` after a review")),
        }
    }
}

/// Refuses a new credential that ends before the phases are over in which it must work.
fn refuse_short(job: &Job, grant: &Grant) -> Result<(), CallError> {
    let (_, name, _) = job.credential()?;
    let phases = job.plan.phases.iter().filter(|p| p.phase >= Phase::Distribute && p.phase <= Phase::Sunset);
    let needed: Duration = phases.map(|p| p.at_least.get()).sum();
    match grant.lives {
        Some(lives) if lives <= needed => {
            let (lives, needed) = (lives.as_secs(), needed.as_secs());
            let message =
                format!("the new {name} lives for {lives}s, but the phases take at least {needed}s");
            Err(CallError::rejected(ErrorKind::Declined, message)
                .hint("give it a longer life at its server, or shorten `overlap` and `sunset`"))
        }
        _ => Ok(()),
    }
}

/// What makes a grant wider than a scope, in a sentence; `None` when nothing does.
fn too_wide(scope: &model::Scope, grant: &Grant) -> Option<String> {
    if let (Some(allowed), Some(has)) = (&scope.policies, &grant.policies)
        && let Some(extra) = has.iter().find(|p| !allowed.contains(p))
    {
        return Some(format!("it has the policy `{extra}`"));
    }
    if let Some(max) = scope.max_ttl {
        match grant.ttl {
            None => return Some(format!("it never expires; at most {max} is allowed")),
            Some(ttl) if ttl > max.get() => {
                let ttl = Period::seconds(ttl.as_secs());
                return Some(format!("it lives for {ttl}; at most {max} is allowed"));
            }
            Some(_) => {}
        }
    }
    if let (Some(wanted), Some(is)) = (&scope.audience, &grant.audience)
        && wanted != is
    {
        return Some(format!("its audience is `{is}`, not `{wanted}`"));
    }
    grant.wider.first().cloned()
}
