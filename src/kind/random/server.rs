//! Values that are generated here, and the user's own authority that is told about them.

use super::spec::Random;
use crate::domain::Call as CallSpec;
use crate::kind::real::{IssuerServer, RealProvider, invalid};
use crate::runbook::model::Credential;
use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::{Check, ErrorKind, Identity, IssuerTraits, Life, Standing};
use crate::provider::outcome::CallError;
use crate::provider::{Call, CallContext, Grant, Issued, Issuer, Use};
use crate::secret::{Material, Recipe};

/// The part that a generated value is.
pub const PART: &str = "value";

/// An issuer whose authority is a call of the runbook's, or nothing but the stores.
pub struct RandomIssuer {
    recipe: Recipe,
    apply: Option<Arc<dyn Call>>,
    revoke: Option<Arc<dyn Call>>,
}

impl RandomIssuer {
    /// `apply` tells the authority to accept a value, `revoke` to refuse one.
    pub fn new(recipe: Recipe, apply: Option<Arc<dyn Call>>, revoke: Option<Arc<dyn Call>>) -> Self {
        Self { recipe, apply, revoke }
    }
}

#[async_trait]
impl Issuer for RandomIssuer {
    fn traits(&self) -> IssuerTraits {
        Random::traits_of(self.apply.is_some(), self.revoke.is_some())
    }

    async fn preflight(&self, _: Option<&Identity>) -> Vec<Check> {
        vec![match &self.apply {
            Some(_) => Check::warn("authority", "`apply` cannot be tried beforehand"),
            None => Check::pass("authority", "the stores are the only authority"),
        }]
    }

    async fn before_revoking(&self, _: &Identity) -> Check {
        Check::pass("own credential", "stanch works with no generated value")
    }

    async fn identify(&self, _: &Material) -> Result<Option<Standing>, CallError> {
        // Nothing that is derived from the value may stand for it. Whether it is alive only its checks
        // can tell.
        let identity =
            Identity { handle: "random:outgoing".to_owned(), principal: "a shared value".to_owned() };
        Ok(Some(Standing { identity, life: Life::Active, uses_left: None }))
    }

    fn candidate(&self, _: &CallContext) -> Option<Material> {
        Some(Material::single(PART, self.recipe.generate()))
    }

    async fn issue(&self, context: &CallContext, candidate: Option<&Material>) -> Result<Issued, CallError> {
        let material = candidate
            .filter(|material| !material.is_blank())
            .ok_or_else(|| CallError::rejected(ErrorKind::Invalid, "there is no generated value to issue"))?;
        if let Some(apply) = &self.apply {
            apply.perform(context, Some(material)).await?;
        }
        Ok(Issued {
            identity: Identity {
                handle: crate::provider::handle(context.token),
                principal: "a shared value".to_owned(),
            },
            material: material.clone(),
        })
    }

    async fn find(&self, _: &CallContext, _: &[String]) -> Result<Vec<String>, CallError> {
        match self.apply {
            None => Ok(Vec::new()),
            Some(_) => Err(unsupported("whether `apply` took effect cannot be asked")),
        }
    }

    async fn existing(&self) -> Result<Vec<String>, CallError> {
        Ok(Vec::new())
    }

    async fn inspect(&self, _: &str) -> Result<Grant, CallError> {
        Ok(Grant::default())
    }

    async fn life(&self, _: &str) -> Result<Life, CallError> {
        Err(unsupported("the authority of a generated value cannot be asked about it"))
    }

    async fn disable(&self, _: &CallContext, _: &str) -> Result<(), CallError> {
        Err(unsupported("a generated value cannot be disabled"))
    }

    async fn enable(&self, _: &CallContext, _: &str) -> Result<(), CallError> {
        Err(unsupported("a generated value cannot be enabled"))
    }

    async fn revoke(
        &self,
        context: &CallContext,
        _: &str,
        material: Option<&Material>,
    ) -> Result<(), CallError> {
        match (&self.revoke, material) {
            // The stores are the authority: the value is dead once none of them holds it.
            (None, _) => Ok(()),
            (Some(revoke), Some(_)) => revoke.perform(context, material).await,
            (Some(_), None) => Err(CallError::rejected(
                ErrorKind::Invalid,
                "`revoke` needs the value that is to be refused, and it is not known",
            )),
        }
    }

    async fn restore(&self, context: &CallContext, outgoing: &Material) -> Result<(), CallError> {
        match &self.apply {
            Some(apply) => apply.perform(context, Some(outgoing)).await,
            None => Ok(()),
        }
    }

    async fn attempt(&self, _: &Material) -> Result<Use, CallError> {
        Err(unsupported("a generated value is tried by `accepts` and `rejects` probes only"))
    }
}

fn unsupported(message: &str) -> CallError {
    CallError::rejected(ErrorKind::Unsupported, message)
}

#[async_trait]
impl IssuerServer for Random {
    async fn connect(
        &self,
        _: &str,
        _: &Credential,
        at: &RealProvider,
    ) -> Result<Arc<dyn Issuer>, CallError> {
        let recipe = Recipe::new(self.alphabet, self.length).map_err(|error| invalid(error.to_string()))?;
        let call = |call: &Option<CallSpec>| call.as_ref().map(|call| at.own_call(call)).transpose();
        Ok(Arc::new(RandomIssuer::new(recipe, call(&self.apply)?, call(&self.revoke)?)))
    }
}
