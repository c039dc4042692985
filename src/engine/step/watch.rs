//! Looks again, after the proof, whether the old credential is still refused everywhere.

use super::inquiry::Inquiry;
use super::job::Job;
use crate::domain::{Judgement, Life, Phase, Verdict};
use crate::plan::Action;
use crate::provider::{CallError, Use};

impl Job {
    /// Uses the old credential once more where this step's proof used it, beside the new one.
    pub(in crate::engine) async fn look_at_refusal(&self) -> Judgement {
        match self.is_refused_still().await {
            Ok(judgement) => judgement,
            Err(error) => Judgement { verdict: Verdict::Inconclusive, detail: error.message },
        }
    }

    async fn is_refused_still(&self) -> Result<Judgement, CallError> {
        let (c, name, credential) = self.credential()?;
        let Action::Reject { probe, .. } = self.step().action else {
            return Ok(still(Verdict::Pass, String::new()));
        };
        if self.plan.credentials[c].waived.is_some() {
            return Ok(still(Verdict::Pass, "its issuer knew no old credential".to_owned()));
        }
        if credential.stores.is_empty() {
            let life = self.life(self.outgoing_handle()?).await?;
            let verdict = if life == Life::Gone { Verdict::Pass } else { Verdict::Fail };
            return Ok(still(verdict, format!("the issuer of the old {name} calls it {life}")));
        }
        let inquiry = self.inquiry(probe, true, Phase::Proof).await?;
        let (outgoing, incoming) = (self.outgoing(0)?, self.incoming()?);
        inquiry.once(name, &outgoing.material, &incoming.material).await
    }
}

impl Inquiry<'_> {
    async fn once(
        &self,
        name: &str,
        outgoing: &crate::secret::Material,
        incoming: &crate::secret::Material,
    ) -> Result<Judgement, CallError> {
        let (place, patience) = (&self.place, self.patience(self.deadline));
        if self.attempt(outgoing, &patience).await? == Use::Accepted {
            return Ok(still(Verdict::Fail, format!("{place} accepts the old {name}")));
        }
        Ok(match self.attempt(incoming, &patience).await? {
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
