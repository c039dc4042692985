//! A parameter of AWS Systems Manager as a store.
//!
//! It has no pending versions: a put makes a version current at once. So nothing is staged, and `promote` writes.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::spec::{SsmParameter, unwritable};
use crate::domain::{Check, ErrorKind, StoreTraits, Versions};
use crate::kind::aws::client::AwsClient;
use crate::kind::real::{RealProvider, StoreServer};
use crate::provider::layout::Layout;
use crate::provider::outcome::CallError;
use crate::provider::{CallContext, Promoted, Store};
use crate::runbook::model::Credential;
use crate::secret::{Material, Secret};
use crate::text::sanitize;

/// How often a promotion begins anew because another version was written between its read and its write.
const ROUNDS: usize = 5;

/// One parameter.
#[derive(Debug)]
pub struct ParameterStore {
    pub(super) client: Arc<AwsClient>,
    pub(super) name: String,
    pub(super) layout: Layout,
}

impl ParameterStore {
    /// A store whose parameter is laid out by `layout`.
    ///
    /// # Errors
    /// When a parameter of this name cannot be written.
    pub fn new(client: Arc<AwsClient>, name: String, layout: Layout) -> Result<Self, CallError> {
        if let Some((message, hint)) = unwritable(&name) {
            let message = format!("{}: {message}", sanitize(&name));
            return Err(CallError::rejected(ErrorKind::Invalid, message).hint(hint));
        }
        Ok(Self { client, name, layout })
    }

    /// A command about the parameter, to type.
    pub(super) fn command(&self, action: &str, rest: &str) -> String {
        let (name, region) = (sanitize(&self.name), sanitize(self.client.region()));
        let command = format!("aws ssm {action} --name {name} --region {region} {rest}");
        format!("`{}`", command.trim_end())
    }

    pub(super) fn conflict(&self, what: impl std::fmt::Display) -> CallError {
        CallError::rejected(ErrorKind::Conflict, format!("{}: {what}", self.name))
            .hint(format!("look at it: {}", self.command("get-parameter-history", "")))
    }

    pub(super) fn decode(&self, text: &Secret) -> Result<Material, CallError> {
        self.layout.decode(text).map_err(|error| self.about(error))
    }

    /// A text with only the own fields replaced.
    pub(super) fn encode(&self, text: &Secret, material: &Material) -> Result<Secret, CallError> {
        self.layout.encode(text, material).map_err(|error| self.about(error))
    }

    /// An error about the text, with the parameter's name.
    pub(super) fn about(&self, error: CallError) -> CallError {
        let hint = error.hint.unwrap_or_else(|| {
            let read = self.command("get-parameter", "--with-decryption");
            format!("compare the parameter's value ({read}) with the fields in the runbook, and correct one of them")
        });
        CallError { message: format!("{}: {}", self.name, error.message), hint: Some(hint), ..error }
    }

    fn version(&self, text: &str) -> Result<u64, CallError> {
        text.parse().map_err(|_| {
            CallError::rejected(
                ErrorKind::Invalid,
                format!("`{}` is not a version of a parameter", sanitize(text)),
            )
        })
    }
}

#[async_trait]
impl Store for ParameterStore {
    fn traits(&self) -> StoreTraits {
        SsmParameter::TRAITS
    }

    async fn preflight(&self) -> Vec<Check> {
        self.look().await
    }

    /// While labels are still on versions with the value that was there before, the current version counts as pending
    /// too: a promotion that was cut off between its write and its labels is then finished.
    async fn observe(&self) -> Result<Versions, CallError> {
        let now = self.get(None).await?;
        let current = now.number.to_string();
        let pending = self.left_labels(&now).await?.then(|| current.clone());
        Ok(Versions { current: Some(current), previous: None, pending })
    }

    async fn written(&self, version: &str) -> Result<Option<Timestamp>, CallError> {
        Ok(self.get(Some(self.version(version)?)).await?.written)
    }

    async fn read(&self, version: Option<&str>) -> Result<Material, CallError> {
        let version = version.map(|version| self.version(version)).transpose()?;
        self.decode(&self.get(version).await?.text)
    }

    async fn promote(
        &self,
        _: &CallContext,
        value: &Material,
        from: &Material,
        _: Option<&str>,
    ) -> Result<Promoted, CallError> {
        for _ in 0..ROUNDS {
            if let Some(done) = self.try_promote(value, from).await? {
                return Ok(done);
            }
        }
        Err(self.conflict(format!("it was written {ROUNDS} times while this run tried to write it")))
    }

    async fn refill(&self, _: &CallContext, _: &Material) -> Result<Promoted, CallError> {
        let message = format!(
            "{} has no current value with the fields of the runbook; stanch wrote nothing",
            self.name
        );
        let put = self.command("put-parameter", "--type SecureString --overwrite --value file://…");
        Err(CallError::rejected(ErrorKind::Unsupported, message).hint(format!(
            "put a value with these fields there, with the tier, the key and the policies that it is to have ({put}); then resume in the same way"
        )))
    }

    async fn place(&self) -> Result<String, CallError> {
        // Without one, two spellings of one parameter would be two targets.
        let arn = self.get(None).await?.arn.ok_or_else(|| self.strange("GetParameter"))?;
        Ok(format!("ssm {}", sanitize(&arn)))
    }

    async fn destroy(&self, _: &CallContext, _: &str, _: &Material) -> Result<(), CallError> {
        Err(CallError::rejected(
            ErrorKind::Unsupported,
            "Parameter Store cannot destroy a single version: it removes the oldest of 100 automatically",
        ))
    }
}

#[async_trait]
impl StoreServer for SsmParameter {
    async fn connect(&self, credential: &Credential, at: &RealProvider) -> Result<Arc<dyn Store>, CallError> {
        let layout = Layout::new(credential.issuer.parts(), self.field.as_deref(), &self.fields)?;
        let client = at.client(&self.connection).await?;
        Ok(Arc::new(ParameterStore::new(client, self.parameter.clone(), layout)?))
    }
}
