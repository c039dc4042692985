//! What stands outside in the sandbox: relying parties, own steps, gates.

use async_trait::async_trait;

use super::Sandbox;
use crate::domain::{Check, Judgement, Life, Verdict};
use crate::provider::{Call, CallContext, CallError, Gate, Probe, Use};
use crate::secret::Material;

/// Something that accepts a credential of one principal if it carries a policy.
pub(super) struct RelyingParty {
    pub(super) sandbox: Sandbox,
    pub(super) principal: String,
    pub(super) policy: Option<String>,
}

#[async_trait]
impl Probe for RelyingParty {
    async fn preflight(&self, name: &str) -> Vec<Check> {
        self.sandbox.reach("use", &self.principal, name).await
    }

    async fn attempt(&self, material: &Material) -> Result<Use, CallError> {
        #[cfg(feature = "simulation")]
        if self.sandbox.lies(&self.principal) {
            return Ok(Use::Refused("a lie".into()));
        }
        self.sandbox
            .call("use", &self.principal, |world| {
                Ok(match world.credential_of(material) {
                    Some((_, c)) if c.principal != self.principal => {
                        Use::Refused("it belongs to another principal".into())
                    }
                    Some((_, c)) if c.life != Life::Active => Use::Refused(format!("it is {}", c.life)),
                    Some((_, c)) => match &self.policy {
                        Some(policy) if !c.policies.contains(policy) => {
                            Use::Refused(format!("it does not carry the policy {policy}"))
                        }
                        _ => Use::Accepted,
                    },
                    None => Use::Refused("it is unknown".into()),
                })
            })
            .await
            .map_err(CallError::read_only)
    }
}

/// An own step in the sandbox: nothing outside is called.
pub(super) struct Simulated(pub(super) Sandbox);

#[async_trait]
impl Call for Simulated {
    async fn perform(&self, context: &CallContext, _material: Option<&Material>) -> Result<(), CallError> {
        self.0.call("call", &context.step, |_| Ok(())).await
    }
}

/// The share of consumers' calls that were refused since the gate was made.
pub(super) struct ErrorRate {
    pub(super) sandbox: Sandbox,
    pub(super) at_most: f64,
    pub(super) before: (u64, u64),
    /// The gate's own words, as JSON: by these a fault names it.
    pub(super) spec: String,
}

#[async_trait]
impl Gate for ErrorRate {
    async fn preflight(&self, name: &str) -> Vec<Check> {
        self.sandbox.reach("gate", "error rate", name).await
    }

    async fn evaluate(&self) -> Judgement {
        if self.sandbox.faults.is_red(&self.spec) {
            let detail = "the condition does not hold (drill)".to_owned();
            return Judgement { verdict: Verdict::Fail, detail };
        }
        let traffic = self.sandbox.call("gate", "error rate", |world| {
            world.exercise();
            Ok(world.traffic())
        });
        let (calls, refused) = match traffic.await {
            Ok((calls, refused)) => (calls - self.before.0, refused - self.before.1),
            Err(e) => return Judgement { verdict: Verdict::Error, detail: e.message },
        };
        if calls == 0 {
            let detail = "no consumer called yet".to_owned();
            return Judgement { verdict: Verdict::Inconclusive, detail };
        }
        let rate = refused as f64 / calls as f64;
        let verdict = if rate > self.at_most { Verdict::Fail } else { Verdict::Pass };
        Judgement { verdict, detail: format!("{refused} of {calls} calls refused") }
    }
}
