//! AWS Secrets Manager as a store: versions carry labels, and moving `AWSCURRENT` is the cutover.
//!
//! A write has no compare-and-set, but the move of a label has: it names the version that loses it. So a
//! new text is put as a pending version first, and becomes current only in place of the version that it was
//! made from. Whatever others wrote meanwhile is read and kept.

use super::spec::Secretsmanager;
use crate::kind::real::{RealProvider, StoreServer};
use crate::runbook::model::Credential;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_secretsmanager::operation::describe_secret::DescribeSecretOutput;
use jiff::Timestamp;

use super::checks::{CURRENT, Named, PENDING, PREVIOUS, labelled};
use super::version::{is_ours, is_sibling};
use crate::domain::{Check, ErrorKind, StoreTraits, Versions};
use crate::kind::aws::client::AwsClient;
use crate::kind::aws::fault::is_deleted;
use crate::provider::layout::Layout;
use crate::provider::outcome::CallError;
use crate::provider::{CallContext, Promoted, Store};
use crate::secret::{Material, Secret};
use crate::text::{is_name, sanitize};

/// How often a promotion begins anew because somebody wrote the secret between its read and its move.
const ROUNDS: usize = 5;

/// One secret.
#[derive(Debug)]
pub struct SecretsManagerStore {
    pub(in crate::kind::aws) client: Arc<AwsClient>,
    pub(in crate::kind::aws) secret: String,
    pub(in crate::kind::aws) layout: Layout,
}

impl SecretsManagerStore {
    /// A store whose secret is laid out by `layout`.
    pub fn new(client: Arc<AwsClient>, secret: String, layout: Layout) -> Self {
        Self { client, secret, layout }
    }

    fn what(&self, action: &str) -> String {
        format!("secretsmanager:{action} on {}", self.secret)
    }

    pub(in crate::kind::aws) fn named(&self) -> Named<'_> {
        Named { secret: &self.secret, region: self.client.region() }
    }

    /// What answered in AWS' place.
    fn strange(&self, action: &str) -> String {
        let what = self.what(action);
        format!("the response to {what} at {} did not come from AWS", self.client.place(&what))
    }

    pub(in crate::kind::aws) fn conflict(&self, what: impl std::fmt::Display) -> CallError {
        CallError::rejected(ErrorKind::Conflict, format!("{}: {what}", self.secret))
            .hint(format!("look at it: {}", self.named().command("describe-secret", "")))
    }

    pub(in crate::kind::aws) async fn describe(&self) -> Result<DescribeSecretOutput, CallError> {
        let sent = self.client.secrets.describe_secret().secret_id(&self.secret).send().await;
        let seen =
            sent.map_err(|error| self.client.fault(&error, &self.what("DescribeSecret")).read_only())?;
        let versions = seen.version_ids_to_stages();
        let named = versions.is_none_or(|all| all.keys().all(|id| is_name(id)))
            && (versions.is_some() || seen.arn().is_some());
        if !named {
            return Err(CallError::rejected(ErrorKind::NoAnswer, self.strange("DescribeSecret")));
        }
        Ok(seen)
    }

    /// The text of a version.
    pub(in crate::kind::aws) async fn text(&self, version: &str) -> Result<Secret, CallError> {
        let sent =
            self.client.secrets.get_secret_value().secret_id(&self.secret).version_id(version).send().await;
        let output = sent.map_err(|error| {
            let error = self.client.fault(&error, &self.what("GetSecretValue")).read_only();
            if error.kind == ErrorKind::Invalid && is_deleted(&error.message) {
                return CallError { kind: ErrorKind::NotFound, ..error };
            }
            error
        })?;
        // What answers with another version than was asked for is not AWS, or there is no version at all.
        match (output.secret_string, output.secret_binary, output.version_id.as_deref()) {
            (Some(text), _, Some(id)) if id == version => Ok(Secret::new(text)),
            (None, Some(_), _) => Err(CallError::rejected(
                ErrorKind::Unsupported,
                format!("{}: the secret is binary; stanch rotates only secrets of text", self.secret),
            )),
            _ => Err(CallError::rejected(ErrorKind::NoAnswer, self.strange("GetSecretValue"))),
        }
    }

    pub(in crate::kind::aws) fn decode(&self, text: &Secret) -> Result<Material, CallError> {
        self.layout.decode(text).map_err(|error| self.about(error))
    }

    /// A text with only the own fields replaced.
    pub(in crate::kind::aws) fn encode(
        &self,
        text: &Secret,
        material: &Material,
    ) -> Result<Secret, CallError> {
        self.layout.encode(text, material).map_err(|error| self.about(error))
    }

    /// An error about the text, with the secret's name. Where the text is not what the runbook's fields
    /// need, nothing is advised that would replace it as a whole.
    pub(in crate::kind::aws) fn about(&self, error: CallError) -> CallError {
        let hint = error.hint.unwrap_or_else(|| {
            let read = self.named().command("get-secret-value", "");
            format!(
                "compare the secret's text ({read}) with the fields in the runbook, and correct one of them"
            )
        });
        CallError { message: format!("{}: {}", self.secret, error.message), hint: Some(hint), ..error }
    }

    /// The one version that carries `AWSCURRENT`.
    pub(in crate::kind::aws) fn current<'a>(
        &self,
        description: &'a DescribeSecretOutput,
    ) -> Result<&'a str, CallError> {
        match labelled(description, CURRENT).as_slice() {
            [] => Err(CallError::rejected(
                ErrorKind::NotFound,
                format!("{}: no version is current", self.secret),
            )
            .hint(format!(
                "write one: {}",
                self.named().command("put-secret-value", "--secret-string file://…")
            ))),
            [one] => Ok(one),
            _ => Err(self.conflict(format!("several versions carry {CURRENT}"))),
        }
    }

    /// Writes a pending version whose id is `id`, the call's idempotency token, in the place of those of the
    /// run's own that are pending now.
    pub(in crate::kind::aws) async fn put(
        &self,
        id: &str,
        text: &Secret,
        material: &Material,
        pending: &[&str],
    ) -> Result<(), CallError> {
        self.send(id, text, material).await?;
        let mut left: Vec<&str> = pending.iter().copied().filter(|version| *version != id).collect();
        if !left.is_empty() {
            // AWS moves the label of a version that is put; imitations leave it on both.
            let after = self.describe().await.map_err(CallError::doubtful)?;
            left.retain(|version| labelled(&after, PENDING).contains(version));
        }
        for version in left {
            self.label(PENDING, None, Some(version)).await.map_err(CallError::doubtful)?;
        }
        Ok(())
    }

    async fn send(&self, id: &str, text: &Secret, material: &Material) -> Result<(), CallError> {
        let sent = self
            .client
            .secrets
            .put_secret_value()
            .secret_id(&self.secret)
            .client_request_token(id)
            .secret_string(text.expose())
            .version_stages(PENDING)
            .send()
            .await;
        match sent {
            // The version's id is the token that was sent: AWS says so, and whoever does not is not AWS.
            Ok(output) if output.version_id.as_deref() == Some(id) => Ok(()),
            Ok(_) => Err(CallError::unknown(self.strange("PutSecretValue"))),
            Err(error) => {
                let error = self.client.fault(&error, &self.what("PutSecretValue"));
                // The version exists with another text. It is ours if it holds our credential: a
                // neighbouring field may have changed since the first attempt. Promotion compares texts.
                if error.kind == ErrorKind::Conflict && self.decode(&self.text(id).await?)?.same_as(material)
                {
                    return Ok(());
                }
                Err(error)
            }
        }
    }

    /// A secret in its deletion window can be described, and in imitations of AWS even written.
    pub(in crate::kind::aws) fn refuse_deleted(
        &self,
        description: &DescribeSecretOutput,
    ) -> Result<(), CallError> {
        if description.deleted_date().is_none() {
            return Ok(());
        }
        Err(CallError::rejected(ErrorKind::NotFound, format!("{} is scheduled for deletion", self.secret))
            .hint(format!("to keep it: {}", self.named().command("restore-secret", ""))))
    }

    /// Moves a label. The server refuses when it is not where we think it is.
    pub(in crate::kind::aws) async fn label(
        &self,
        label: &str,
        to: Option<&str>,
        from: Option<&str>,
    ) -> Result<(), CallError> {
        self.client
            .secrets
            .update_secret_version_stage()
            .secret_id(&self.secret)
            .version_stage(label)
            .set_move_to_version_id(to.map(str::to_owned))
            .set_remove_from_version_id(from.map(str::to_owned))
            .send()
            .await
            .map(drop)
            .map_err(|error| self.client.fault(&error, &self.what("UpdateSecretVersionStage")))
    }
}

#[async_trait]
impl Store for SecretsManagerStore {
    fn traits(&self) -> StoreTraits {
        Secretsmanager::TRAITS
    }

    async fn preflight(&self) -> Vec<Check> {
        self.look().await
    }

    async fn observe(&self) -> Result<Versions, CallError> {
        let description = self.describe().await?;
        self.refuse_deleted(&description)?;
        let only = |label: &str| match labelled(&description, label).as_slice() {
            [] => Ok(None),
            [one] => Ok(Some((*one).to_owned())),
            _ => Err(self.conflict(format!("several versions carry {label}"))),
        };
        let current = self.current(&description)?.to_owned();
        Ok(Versions { previous: only(PREVIOUS)?, pending: only(PENDING)?, current: Some(current) })
    }

    async fn written(&self, version: &str) -> Result<Option<Timestamp>, CallError> {
        let sent =
            self.client.secrets.get_secret_value().secret_id(&self.secret).version_id(version).send().await;
        let output =
            sent.map_err(|error| self.client.fault(&error, &self.what("GetSecretValue")).read_only())?;
        Ok(output.created_date().and_then(|at| Timestamp::from_second(at.secs()).ok()))
    }

    async fn read(&self, version: Option<&str>) -> Result<Material, CallError> {
        if let Some(version) = version {
            return self.decode(&self.text(version).await?);
        }
        let seen = self.describe().await?;
        self.refuse_deleted(&seen)?;
        self.decode(&self.text(self.current(&seen)?).await?)
    }

    async fn stage(&self, context: &CallContext, incoming: &Material) -> Result<String, CallError> {
        let id = context.token.to_string();
        let seen = self.describe().await?;
        self.refuse_deleted(&seen)?;
        let current = self.current(&seen)?;
        let (mut base, mut siblings) = (current, Vec::new());
        for other in labelled(&seen, PENDING) {
            if other == id {
                continue;
            }
            if other == current {
                // A process that died right behind a promotion leaves the label on what is current.
                self.label(PENDING, None, Some(other)).await?;
            } else if is_sibling(context, other) {
                // Another credential of this run in the same secret: this one goes on top of it.
                base = other;
                siblings.push(other);
            } else {
                return Err(self.named().pending_elsewhere(other));
            }
        }
        let text = self.encode(&self.text(base).await?, incoming)?;
        self.put(&id, &text, incoming, &siblings).await?;
        Ok(id)
    }

    async fn retire(&self, _: &CallContext, staged: &str) -> Result<(), CallError> {
        let seen = self.describe().await?;
        let ours: Vec<&str> =
            labelled(&seen, PENDING).into_iter().filter(|id| is_ours(&seen, id, staged)).collect();
        for version in &ours {
            // A promotion that was cut off may have moved the labels of others already.
            let current = self.current(&seen)?;
            if *version != current {
                self.move_labels(&seen, version, current).await?;
            }
            self.label(PENDING, None, Some(version)).await?;
        }
        if ours.is_empty() {
            return Ok(());
        }
        let after = self.describe().await.map_err(CallError::doubtful)?;
        if labelled(&after, PENDING).iter().any(|id| ours.contains(id)) {
            return Err(CallError::unknown(format!("{}: {PENDING} did not move", self.secret)));
        }
        Ok(())
    }

    async fn promote(
        &self,
        context: &CallContext,
        value: &Material,
        from: &Material,
        staged: Option<&str>,
    ) -> Result<Promoted, CallError> {
        for _ in 0..ROUNDS {
            if let Some(done) = self.try_promote(context, value, from, staged).await? {
                return Ok(done);
            }
        }
        Err(self.conflict(format!(
            "it was written {ROUNDS} times while this run tried to make its version current"
        )))
    }

    async fn in_sync(&self) -> Result<(), CallError> {
        self.named().in_sync(&self.describe().await?)
    }

    async fn refill(&self, _: &CallContext, _: &Material) -> Result<Promoted, CallError> {
        let message = format!(
            "{} has no current value with the fields of the runbook; stanch wrote nothing",
            self.secret
        );
        let (restore, put) = (
            self.named().command("restore-secret", ""),
            self.named().command("put-secret-value", "--secret-string file://…"),
        );
        Err(CallError::rejected(ErrorKind::Unsupported, message).hint(format!(
            "restore the secret ({restore}), or put a value with these fields there ({put}); then resume in the same way"
        )))
    }

    async fn place(&self) -> Result<String, CallError> {
        let arn = self.describe().await?.arn;
        // Without one, two spellings of one secret would be two targets.
        let arn =
            arn.ok_or_else(|| CallError::rejected(ErrorKind::NoAnswer, self.strange("DescribeSecret")))?;
        Ok(format!("secretsmanager {}", sanitize(&arn)))
    }

    async fn destroy(&self, _: &CallContext, _: &str, _: &Material) -> Result<(), CallError> {
        Err(CallError::rejected(
            ErrorKind::Unsupported,
            "Secrets Manager cannot destroy a single version: it removes versions without a label automatically",
        ))
    }
}

#[async_trait]
impl StoreServer for Secretsmanager {
    async fn connect(&self, credential: &Credential, at: &RealProvider) -> Result<Arc<dyn Store>, CallError> {
        let layout = Layout::new(credential.issuer.parts(), self.field.as_deref(), &self.fields)?;
        let client = at.client(&self.connection).await?;
        Ok(Arc::new(SecretsManagerStore::new(client, self.secret.clone(), layout)))
    }
}
