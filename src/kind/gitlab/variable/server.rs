//! A CI/CD variable of GitLab as a store.
//!
//! It has one value, keeps no earlier one, and has no version: what identifies a value here is made from it and the
//! operator's token. A write has no condition, so that `promote` reads right before it, and again after it.

use std::sync::Arc;

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};

use super::found::Found;
use super::spec::GitlabCiVariable;
use crate::domain::{Check, ErrorKind, StoreTraits, Versions};
use crate::kind::api::ApiClient;
use crate::kind::real::{RealProvider, StoreServer};
use crate::provider::layout::Layout;
use crate::provider::outcome::CallError;
use crate::provider::{CallContext, Promoted, Store};
use crate::runbook::model::Credential;
use crate::secret::{FingerprintKey, Material, Secret};
use crate::text::sanitize;

/// One variable.
#[derive(Debug)]
pub struct VariableStore {
    pub(super) client: Arc<ApiClient>,
    pub(super) spec: GitlabCiVariable,
    pub(super) layout: Layout,
    /// What a generated value may be made of; `None` where the issuer makes it.
    pub(super) characters: Option<String>,
}

impl VariableStore {
    pub(super) fn shown(&self) -> String {
        sanitize(&self.spec.shown())
    }

    pub(super) fn about(&self, error: CallError) -> CallError {
        CallError { message: format!("{}: {}", self.shown(), error.message), ..error }
    }

    pub(super) fn decode(&self, found: &Found) -> Result<Material, CallError> {
        self.layout.decode(&found.text).map_err(|error| self.about(error))
    }

    pub(super) fn encode(&self, found: &Found, value: &Material) -> Result<Secret, CallError> {
        self.layout.encode(&found.text, value).map_err(|error| self.about(error))
    }

    pub(super) fn refuse_unfit(
        &self,
        found: &Found,
        text: &Secret,
        value: &Material,
    ) -> Result<(), CallError> {
        found.refuse_unfit(text, value).map_err(|error| self.about(error))
    }

    /// What this text is called in plans and on the record. Keyed: without the operator's token, which lets read the
    /// variable itself, no guess can be tried on it. With another token the same text has another name.
    fn version(&self, text: &Secret) -> Result<String, CallError> {
        let key = Sha256::new().chain_update(self.spec.shown()).chain_update(self.client.own()?.expose());
        let key = FingerprintKey::from_bytes(key.finalize().into());
        Ok(key.of(&Material::single("text", text.clone())).to_string())
    }
}

#[async_trait]
impl Store for VariableStore {
    fn traits(&self) -> StoreTraits {
        GitlabCiVariable::TRAITS
    }

    async fn preflight(&self) -> Vec<Check> {
        self.checks().await
    }

    async fn observe(&self) -> Result<Versions, CallError> {
        let version = self.version(&self.find().await?.text)?;
        Ok(Versions { current: Some(version), ..Versions::default() })
    }

    async fn read(&self, version: Option<&str>) -> Result<Material, CallError> {
        let found = self.find().await?;
        if let Some(wanted) = version
            && self.version(&found.text)? != wanted
        {
            let message =
                format!("{}: GitLab keeps no earlier values, and this one has changed since", self.shown());
            return Err(CallError::rejected(ErrorKind::NotFound, message));
        }
        self.decode(&found)
    }

    async fn promote(
        &self,
        context: &CallContext,
        value: &Material,
        from: &Material,
        _: Option<&str>,
    ) -> Result<Promoted, CallError> {
        let found = self.find().await?;
        let (was, now) = (self.version(&found.text)?, self.decode(&found)?);
        if now.same_as(value) {
            return Ok(Promoted { version: was, was: None });
        }
        if !now.same_as(from) {
            let message = format!("{}: the variable holds another value than this run's", self.shown());
            return Err(CallError::rejected(ErrorKind::Conflict, message)
                .hint("find out who wrote it, and which value is right"));
        }
        let text = self.encode(&found, value)?;
        self.refuse_unfit(&found, &text, value)?;
        context.ahead.may_begin()?;
        self.put(&text, &found).await?;
        let after = self.find().await.map_err(CallError::doubtful)?;
        if after.text.same_as(&text) && after.is_kept(&found) {
            return Ok(Promoted { version: self.version(&text)?, was: Some(was) });
        }
        let message = format!(
            "{}: GitLab took the write, and has another value right after it, or changed the variable's settings",
            self.shown()
        );
        Err(CallError::unknown(message).hint("look at the variable in GitLab, and find out who writes it"))
    }

    async fn refill(&self, _: &CallContext, _: &Material) -> Result<Promoted, CallError> {
        let message = format!(
            "{}: there is no value with the fields of the runbook; stanch wrote nothing",
            self.shown()
        );
        Err(CallError::rejected(ErrorKind::Unsupported, message).hint(
            "make the variable again, with its type, scope, protection and mask, and any value that has these fields; then resume in the same way",
        ))
    }

    async fn destroy(&self, _: &CallContext, _: &str, _: &Material) -> Result<(), CallError> {
        Err(CallError::rejected(ErrorKind::Unsupported, "GitLab keeps no earlier values of a variable"))
    }

    async fn place(&self) -> Result<String, CallError> {
        let GitlabCiVariable { key, environment_scope, .. } = &self.spec;
        let (what, id) = (self.spec.owner().0, self.owner_id().await?);
        let place =
            format!("gitlab-ci-variable {} {what} {id} {key} {environment_scope}", self.client.place());
        Ok(sanitize(&place))
    }
}

#[async_trait]
impl StoreServer for GitlabCiVariable {
    async fn connect(&self, credential: &Credential, at: &RealProvider) -> Result<Arc<dyn Store>, CallError> {
        let layout = Layout::new(credential.issuer.parts(), self.field.as_deref(), &self.fields)?;
        let client = at.client(&self.connection).await?;
        let recipe = credential.issuer.stand_in(&credential.scope).recipe;
        let characters = recipe.map(|recipe| recipe.characters());
        Ok(Arc::new(VariableStore { client, spec: self.clone(), layout, characters }))
    }
}
