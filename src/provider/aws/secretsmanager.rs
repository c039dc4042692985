//! AWS Secrets Manager as a store: versions carry labels, and moving `AWSCURRENT` is the cutover.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_secretsmanager::operation::describe_secret::DescribeSecretOutput;
use serde_json::{Map, Value};

use super::client::AwsClient;
use super::fault::{fault, is_deleted};
use super::preflight::{failed, simulate};
use crate::provider::layout::Layout;
use crate::provider::outcome::{CallError, Kind, is_name, tame};
use crate::provider::{CallContext, Check, Observation, Promoted, Store, StoreTraits, Versions};
use crate::secret::{Material, Secret};

const CURRENT: &str = "AWSCURRENT";
const PREVIOUS: &str = "AWSPREVIOUS";
const PENDING: &str = "AWSPENDING";

/// One secret.
#[derive(Debug)]
pub struct SecretsManagerStore {
    client: Arc<AwsClient>,
    secret: String,
    layout: Layout,
}

impl SecretsManagerStore {
    /// A store whose secret is laid out by `layout`.
    pub fn new(client: Arc<AwsClient>, secret: String, layout: Layout) -> Self {
        Self { client, secret, layout }
    }

    fn what(&self, action: &str) -> String {
        format!("secretsmanager:{action} on {}", self.secret)
    }

    async fn describe(&self) -> Result<DescribeSecretOutput, CallError> {
        self.client
            .secrets
            .describe_secret()
            .secret_id(&self.secret)
            .send()
            .await
            .map_err(|error| fault(&error, &self.what("DescribeSecret")).read_only())
            .and_then(|seen| {
                let versions = seen.version_ids_to_stages();
                let named = versions.is_none_or(|all| all.keys().all(|id| is_name(id)))
                    && (versions.is_some() || seen.arn().is_some());
                named.then_some(seen).ok_or_else(|| {
                    let what = self.what("DescribeSecret");
                    CallError::rejected(Kind::NoAnswer, format!("the answer to {what} is no answer of AWS'"))
                })
            })
    }

    /// The text of a version, by id or by label.
    async fn text(&self, version: Option<&str>, stage: Option<&str>) -> Result<(Secret, String), CallError> {
        let what = self.what("GetSecretValue");
        let output = self
            .client
            .secrets
            .get_secret_value()
            .secret_id(&self.secret)
            .set_version_id(version.map(str::to_owned))
            .set_version_stage(stage.map(str::to_owned))
            .send()
            .await
            .map_err(|error| fault(&error, &what).read_only())?;
        let id = output.version_id.unwrap_or_default();
        match output.secret_string {
            Some(text) => Ok((Secret::new(text), id)),
            None => {
                Err(CallError::rejected(Kind::Unsupported, format!("{}: the secret is binary", self.secret))
                    .hint("only secrets of text can be rotated"))
            }
        }
    }

    fn object(&self, text: &Secret) -> Result<Map<String, Value>, CallError> {
        serde_json::from_str(text.expose()).map_err(|_| {
            CallError::rejected(Kind::Invalid, format!("{}: the secret is no JSON object", self.secret))
                .hint("leave out `field` and `fields` if the whole text is the value")
        })
    }

    fn decode(&self, text: Secret) -> Result<Material, CallError> {
        let material = if self.layout.is_whole() {
            self.layout.from_whole(text)
        } else {
            self.layout.from_object(&self.object(&text)?)
        };
        material.map_err(|error| self.about(error))
    }

    /// The text to write: the value itself, or the current text with only our fields replaced.
    async fn encode(&self, material: &Material) -> Result<Secret, CallError> {
        if self.layout.is_whole() {
            return self.layout.whole(material).map_err(|error| self.about(error));
        }
        let (current, _) = self.text(None, Some(CURRENT)).await?;
        let mut object = self.object(&current)?;
        self.layout.patch(&mut object, material).map_err(|error| self.about(error))?;
        Ok(Secret::new(Value::Object(object).to_string()))
    }

    fn about(&self, error: CallError) -> CallError {
        CallError { message: format!("{}: {}", self.secret, error.message), ..error }
    }

    /// Writes a version whose id is the call's idempotency token.
    async fn put(
        &self,
        context: &CallContext,
        material: &Material,
        stage: &str,
    ) -> Result<String, CallError> {
        let id = context.token.to_string();
        let text = self.encode(material).await?;
        let sent = self
            .client
            .secrets
            .put_secret_value()
            .secret_id(&self.secret)
            .client_request_token(&id)
            .secret_string(text.expose())
            .version_stages(stage)
            .send()
            .await;
        match sent {
            // The version's id is the token that was sent: AWS says so, and whoever does not is not AWS.
            Ok(output) if output.version_id.as_deref() == Some(&*id) => Ok(id),
            Ok(_) => Err(CallError::unknown(format!(
                "the answer to {} is no answer of AWS'",
                self.what("PutSecretValue")
            ))),
            Err(error) => {
                let error = fault(&error, &self.what("PutSecretValue"));
                // The version exists with another text. It is ours if it holds our credential: a
                // neighbouring field may have changed since the first attempt.
                if error.kind == Kind::Conflict && self.read(Some(&id)).await?.same_as(material) {
                    return Ok(id);
                }
                Err(error)
            }
        }
    }

    /// A secret in its deletion window can be described, and in imitations of AWS even written.
    fn refuse_deleted(&self, description: &DescribeSecretOutput) -> Result<(), CallError> {
        if description.deleted_date().is_none() {
            return Ok(());
        }
        Err(CallError::rejected(Kind::NotFound, format!("{} is scheduled for deletion", self.secret))
            .hint(format!("to keep it: `aws secretsmanager restore-secret --secret-id {}`", self.secret)))
    }

    /// Moves a label. The server refuses when it is not where we think it is.
    async fn label(&self, label: &str, to: Option<&str>, from: Option<&str>) -> Result<(), CallError> {
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
            .map_err(|error| fault(&error, &self.what("UpdateSecretVersionStage")))
    }
}

/// The versions that carry a label. More than one is a fault of the server's, and is seen.
fn labelled<'a>(description: &'a DescribeSecretOutput, label: &str) -> Vec<&'a str> {
    let mut ids: Vec<&str> = description
        .version_ids_to_stages()
        .into_iter()
        .flatten()
        .filter(|(_, stages)| stages.iter().any(|stage| stage == label))
        .map(|(id, _)| id.as_str())
        .collect();
    ids.sort_unstable();
    ids
}

#[async_trait]
impl Store for SecretsManagerStore {
    fn traits(&self) -> StoreTraits {
        // AWS removes a version that carries no label by itself.
        StoreTraits { stages: true, destroys: false, change: Observation::Token }
    }

    async fn preflight(&self) -> Vec<Check> {
        let name = format!("secret {}", self.secret);
        let description = match self.describe().await {
            Ok(description) => description,
            Err(error) => return vec![failed(&name, &error)],
        };
        if let Err(error) = self.refuse_deleted(&description) {
            return vec![failed(&name, &error)];
        }
        let mut checks = Vec::new();
        checks.push(match self.read(None).await {
            Ok(_) => Check::pass(name, "it can be read"),
            Err(error) => failed(&name, &error),
        });
        if description.rotation_enabled() == Some(true) {
            checks.push(Check {
                hint: Some(
                    "`aws secretsmanager cancel-rotate-secret` for as long as the run lasts".to_owned(),
                ),
                ..Check::warn("rotation", "it has an automatic rotation of its own, which may get in the way")
            });
        }
        checks.extend(
            simulate(
                &self.client,
                &["secretsmanager:PutSecretValue", "secretsmanager:UpdateSecretVersionStage"],
                description.arn(),
                Some("the secret's resource policy"),
            )
            .await,
        );
        checks
    }

    async fn observe(&self) -> Result<Versions, CallError> {
        let description = self.describe().await?;
        self.refuse_deleted(&description)?;
        let only = |label: &str| match labelled(&description, label).as_slice() {
            [] => Ok(None),
            [one] => Ok(Some((*one).to_owned())),
            _ => Err(CallError::rejected(
                Kind::Conflict,
                format!("{}: several versions carry {label}", self.secret),
            )
            .hint("look at it: `aws secretsmanager describe-secret`")),
        };
        let current = only(CURRENT)?.ok_or_else(|| {
            CallError::rejected(Kind::NotFound, format!("{} has no current version", self.secret))
        })?;
        Ok(Versions { previous: only(PREVIOUS)?, pending: only(PENDING)?, current: Some(current) })
    }

    async fn read(&self, version: Option<&str>) -> Result<Material, CallError> {
        let stage = version.is_none().then_some(CURRENT);
        let (text, _) = self.text(version, stage).await.map_err(|error| {
            if error.kind == Kind::Invalid && is_deleted(&error.message) {
                CallError { kind: Kind::NotFound, ..error }
            } else {
                error
            }
        })?;
        self.decode(text)
    }

    async fn stage(&self, context: &CallContext, incoming: &Material) -> Result<String, CallError> {
        let id = context.token.to_string();
        let description = self.describe().await?;
        self.refuse_deleted(&description)?;
        let current = labelled(&description, CURRENT);
        for other in labelled(&description, PENDING) {
            if other == id {
                continue;
            }
            if current.contains(&other) {
                // A process that died right behind a promotion leaves the label on what is current.
                self.label(PENDING, None, Some(other)).await?;
            } else {
                let other = tame(other);
                return Err(CallError::rejected(
                    Kind::Conflict,
                    format!("{}: the version {other} is pending, and it is not this run's", self.secret),
                )
                .hint(format!(
                    "another rotation is under way. If it is dead: `aws secretsmanager update-secret-version-stage \
                     --secret-id {} --version-stage {PENDING} --remove-from-version-id {other}`",
                    self.secret
                )));
            }
        }
        self.put(context, incoming, PENDING).await
    }

    async fn retire(&self, _: &CallContext, staged: &str) -> Result<(), CallError> {
        let description = self.describe().await?;
        if !labelled(&description, PENDING).contains(&staged) {
            return Ok(());
        }
        self.label(PENDING, None, Some(staged)).await?;
        let after = self.describe().await.map_err(in_doubt)?;
        if labelled(&after, PENDING).contains(&staged) {
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
        let before = self.describe().await?;
        self.refuse_deleted(&before)?;
        let labelled_current = labelled(&before, CURRENT);
        let [current] = labelled_current.as_slice() else {
            return Err(CallError::rejected(
                Kind::Conflict,
                format!("{}: not just one version carries {CURRENT}", self.secret),
            )
            .hint("look at it: `aws secretsmanager describe-secret`"));
        };
        let now = self.read(Some(current)).await?;
        let done = now.same_as(value);
        if !done && !now.same_as(from) {
            return Err(CallError::rejected(
                Kind::Conflict,
                format!("{}: the current version {} holds another value", self.secret, tame(current)),
            )
            .hint("somebody changed the secret meanwhile: look at it, then plan again"));
        }
        let target = match staged {
            _ if done => (*current).to_owned(),
            // A version whose labels are all gone may be gone itself: then its value is written anew.
            Some(id) if before.version_ids_to_stages().is_some_and(|all| all.contains_key(id)) => {
                self.label(CURRENT, Some(id), Some(current)).await?;
                id.to_owned()
            }
            _ => self.put(context, value, CURRENT).await?,
        };
        let after = self.describe().await.map_err(in_doubt)?;
        if labelled(&after, CURRENT) != [target.as_str()] {
            return Err(CallError::unknown(format!(
                "{}: after the move, {CURRENT} is not on the version {target} alone",
                self.secret
            ))
            .hint("look at it: `aws secretsmanager describe-secret`"));
        }
        if labelled(&after, PENDING).contains(&target.as_str()) {
            self.label(PENDING, None, Some(&target)).await.map_err(in_doubt)?;
        }
        Ok(Promoted { version: target, was: (!done).then(|| (*current).to_owned()) })
    }

    async fn place(&self) -> Result<String, CallError> {
        let arn = self.describe().await?.arn.unwrap_or_else(|| self.secret.clone());
        Ok(format!("secretsmanager {}", tame(&arn)))
    }

    async fn destroy(&self, _: &CallContext, _: &str, _: &Material) -> Result<(), CallError> {
        Err(CallError::rejected(
            Kind::Unsupported,
            "Secrets Manager destroys no single version: it drops the ones without a label by itself",
        ))
    }
}

/// After the move, whatever fails leaves doubt.
fn in_doubt(error: CallError) -> CallError {
    CallError { in_doubt: true, ..error }
}
