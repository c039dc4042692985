//! Looks again, after the proof, whether the old credential is still refused everywhere.

use super::inquiry::{Inquiry, new_goes_first};
use super::job::Job;
use crate::domain::{Judgement, Life, Phase, Strategy, Verdict};
use crate::plan::Action;
use crate::provider::{CallError, Use};
use crate::secret::Material;
use crate::text::sanitize;

impl Job {
    /// Uses the old credential once more where this step's proof used it, beside the new one.
    /// `round` counts the looks: which of the two is used first alternates.
    pub(in crate::engine) async fn look_at_refusal(&self, round: u32) -> Judgement {
        let found = self.is_refused_still(round).await;
        let Judgement { verdict, detail } =
            found.unwrap_or_else(|error| still(Verdict::Inconclusive, error.message));
        still(verdict, sanitize(&self.scrub(&detail)))
    }

    async fn is_refused_still(&self, round: u32) -> Result<Judgement, CallError> {
        let (c, name, credential) = self.credential()?;
        let Action::Reject { probe, .. } = self.step().action else {
            return Ok(still(Verdict::Pass, String::new()));
        };
        if self.plan.credentials[c].waived.is_some() {
            return Ok(still(Verdict::Pass, "its issuer knew no old credential".to_owned()));
        }
        if credential.stores.is_empty() {
            let life = self.life(self.outgoing_handle()?).await?;
            let detail = format!("the issuer of the old {name} calls it {life}");
            if life != Life::Gone {
                return Ok(still(Verdict::Fail, detail));
            }
            // Nothing replaces what is only revoked.
            let control = match self.plan.strategy {
                Strategy::Revoke => Life::Active,
                Strategy::Overlap | Strategy::Contain => self.life(self.incoming_handle()?).await?,
            };
            return Ok(match control {
                Life::Active => still(Verdict::Pass, detail),
                _ => still(Verdict::Inconclusive, format!("the issuer calls the new {name} {control}, too")),
            });
        }
        let inquiry = self.inquiry(probe, true, Phase::Proof).await?;
        let (outgoing, incoming) = (self.outgoing(0)?, self.incoming()?);
        inquiry.once(name, &outgoing.material, &incoming.material, new_goes_first(round)).await
    }
}

impl Inquiry<'_> {
    async fn once(
        &self,
        name: &str,
        outgoing: &Material,
        incoming: &Material,
        new_first: bool,
    ) -> Result<Judgement, CallError> {
        let (place, patience) = (&self.place, self.patience(self.deadline));
        let early = if new_first { Some(self.attempt(incoming, &patience).await) } else { None };
        if self.attempt(outgoing, &patience).await? == Use::Accepted {
            return Ok(still(Verdict::Fail, format!("{place} accepts the old {name}")));
        }
        let new = match early {
            Some(new) => new?,
            None => self.attempt(incoming, &patience).await?,
        };
        Ok(match new {
            Use::Accepted => still(Verdict::Pass, format!("{place} refuses the old {name}")),
            Use::Refused(how) => {
                still(Verdict::Inconclusive, format!("{place} also refuses the new {name} ({how})"))
            }
        })
    }
}

fn still(verdict: Verdict, detail: String) -> Judgement {
    Judgement { verdict, detail }
}
