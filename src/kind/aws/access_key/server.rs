//! Access keys of IAM users. A user may have two, they carry no tags, and their reply is all there
//! ever is of the secret.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_iam::operation::RequestId;
use aws_sdk_iam::types::StatusType;
use jiff::{SignedDuration, Timestamp};

use super::shape::{self, ID, SECRET};
use super::spec::IamAccessKey;
use crate::domain::{Check, ErrorKind, Identity, IssuerTraits, Life, Standing};
use crate::kind::aws::client::AwsClient;
use crate::kind::aws::fault::BAD_SIGNATURES;
use crate::kind::aws::preflight::{Needs, caller, failed, refused, simulate};
use crate::kind::real::{IssuerServer, RealProvider};
use crate::provider::outcome::CallError;
use crate::provider::{CallContext, Grant, Issued, Issuer, Use};
use crate::runbook::model::Credential;
use crate::secret::{Material, Secret};
use crate::text::{is_name, sanitize};

/// How many keys AWS gives a user; the quota cannot be raised.
const MAX_KEYS: usize = 2;
/// How far AWS' clock may be from ours for a key to count as made by this step. AWS tells whole seconds, and
/// `preflight` warns of clocks that are farther apart. More would take in keys that others made.
const SKEW: SignedDuration = SignedDuration::from_secs(5);

/// What a rotation does with a user's keys.
const ACTIONS: [&str; 5] = [
    "iam:ListAccessKeys",
    "iam:CreateAccessKey",
    "iam:UpdateAccessKey",
    "iam:DeleteAccessKey",
    "iam:GetAccessKeyLastUsed",
];

/// Issues access keys to one user.
#[derive(Debug)]
pub struct AccessKeyIssuer {
    pub(super) client: Arc<AwsClient>,
    pub(super) user: String,
}

impl AccessKeyIssuer {
    /// For the user of this name.
    pub fn new(client: Arc<AwsClient>, user: String) -> Self {
        Self { client, user }
    }

    pub(super) fn what(&self, action: &str) -> String {
        format!("iam:{action} for the user {}", self.user)
    }

    async fn set_status(&self, id: &str, status: StatusType) -> Result<(), CallError> {
        self.client
            .iam
            .update_access_key()
            .user_name(&self.user)
            .access_key_id(id)
            .status(status)
            .send()
            .await
            .map_err(|error| self.client.fault(&error, &self.what("UpdateAccessKey")))
            .and_then(|done| self.answered(&done, "UpdateAccessKey"))
    }

    /// Asks STS with the very keys: `None` when it does not accept them.
    async fn introduce(&self, material: &Material) -> Result<Option<String>, CallError> {
        let (id, secret) = shape::parts(material)?;
        let what = format!("sts:GetCallerIdentity with the access key {id}");
        match self.client.sts_as(id, secret).get_caller_identity().send().await {
            Ok(output) => Ok(Some(output.arn.unwrap_or_else(|| self.user.clone()))),
            Err(error) => {
                use aws_sdk_sts::error::ProvideErrorMetadata;
                let code = error.as_service_error().and_then(|e| e.code()).map(str::to_owned);
                let error = self.client.fault(&error, &what).read_only();
                match (error.kind, code.as_deref()) {
                    // Neither acceptance nor refusal: with a wrong secret, or a wrong clock here, a live key
                    // would look dead; and a new key's signatures fail until its secret is known everywhere.
                    (_, Some(code)) if BAD_SIGNATURES.contains(&code) => {
                        Err(CallError { kind: ErrorKind::NoAnswer, ..error })
                    }
                    (ErrorKind::Refused, _) => Ok(None),
                    // Authentication comes before authorisation: a key that is forbidden something
                    // is a valid key. `GetCallerIdentity` itself can only be denied explicitly.
                    (ErrorKind::Denied, Some("AccessDenied" | "AccessDeniedException")) => {
                        Ok(Some(self.user.clone()))
                    }
                    _ => Err(error),
                }
            }
        }
    }

    /// Every response of AWS has a request id. A page of something in front of it has none, and the SDK
    /// takes it for a success of these calls, whose responses are empty, or for an empty list.
    pub(super) fn answered(&self, output: &impl RequestId, action: &str) -> Result<(), CallError> {
        if output.request_id().is_some() {
            return Ok(());
        }
        let what = self.what(action);
        let at = self.client.place(&what);
        Err(CallError::unknown(format!("the response to {what} at {at} did not come from AWS"))
            .hint("check `endpoint_url`, and any proxy in front of it"))
    }
}

impl AccessKeyIssuer {
    async fn own_check(&self, held: &str) -> Check {
        match self.client.own_key_id().await {
            Ok(own) if own == held => Check::fail(
                "own credential",
                ErrorKind::Invalid,
                format!("this run works with the access key {own}, which it is about to delete"),
                "use another profile (AWS_PROFILE), then plan again",
            ),
            Ok(own) => {
                Check::pass("own credential", format!("this run works with another access key, {own}"))
            }
            Err(error) => failed("own credential", &error),
        }
    }
}

#[async_trait]
impl Issuer for AccessKeyIssuer {
    fn traits(&self) -> IssuerTraits {
        IamAccessKey::TRAITS
    }

    async fn preflight(&self, outgoing: Option<&Identity>) -> Vec<Check> {
        let name = format!("user {}", self.user);
        // A policy may name the user by its path, which only `GetUser` tells. Where that is denied the user
        // is named without a path: never all users, whose keys are as good as an administrator's.
        let what = self.what("GetUser");
        let user = self.client.iam.get_user().user_name(&self.user).send().await;
        let arn = match user.map_err(|error| self.client.fault(&error, &what).read_only()) {
            Ok(output) => output.user.map(|user| user.arn),
            Err(error) if error.kind == ErrorKind::Denied => None,
            Err(error) => return vec![failed(&name, &error)],
        };
        let (resource, elsewhere, caution) = match arn {
            Some(arn) => (arn, None, ""),
            None => match caller(&self.client).await {
                Ok(caller) => (
                    caller.user(&self.user),
                    Some("a policy that names this user with its path"),
                    " (a user with a path needs its path before the name)",
                ),
                Err(error) => return vec![failed(&name, &error)],
            },
        };
        let needs = Needs { actions: &ACTIONS, granted: resource.clone(), resource, elsewhere, caution };
        let keys = match self.keys().await {
            Ok(keys) => keys,
            Err(error) => return refused(&self.client, &needs, &name, error).await,
        };
        let held = outgoing.map(|outgoing| outgoing.handle.as_str());
        let mut checks = vec![if keys.len() < MAX_KEYS {
            Check::pass(name, format!("it has {} of {MAX_KEYS} access keys", keys.len()))
        } else {
            let count = keys.len();
            let message =
                format!("the user {} has {count} access keys, and AWS allows {MAX_KEYS}", self.user);
            failed(&name, &self.full(message, held).await)
        }];
        if let Some(held) = held {
            checks.push(self.own_check(held).await);
        }
        checks.extend(simulate(&self.client, &needs).await);
        checks
    }

    async fn before_revoking(&self, outgoing: &Identity) -> Check {
        self.own_check(&outgoing.handle).await
    }

    async fn identify(&self, material: &Material) -> Result<Option<Standing>, CallError> {
        let (id, _) = shape::parts(material)?;
        let identity =
            Identity { handle: id.to_owned(), principal: format!("user/{}", sanitize(&self.user)) };
        if let Some(life) = self.key(id).await? {
            return Ok(Some(Standing { identity, life, uses_left: None }));
        }
        // Whose else it may be: another user's key must not be mistaken for one that is gone.
        match self.last_used(id).await {
            Ok((Some(owner), _)) if owner != self.user => Err(CallError::rejected(
                ErrorKind::Invalid,
                format!("the access key {id} belongs to the user {owner}, not to {}", sanitize(&self.user)),
            )
            .hint("correct `user` of the issuer in the runbook, or the store")),
            // An id that is not known, or not of this account, is answered in several ways.
            Err(error) if error.kind.is_transient() || error.kind == ErrorKind::NoAnswer => Err(error),
            _ => Ok(None),
        }
    }

    fn candidate(&self, _: &CallContext) -> Option<Material> {
        None
    }

    async fn issue(&self, _: &CallContext, _: Option<&Material>) -> Result<Issued, CallError> {
        let what = self.what("CreateAccessKey");
        let output = match self.client.iam.create_access_key().user_name(&self.user).send().await {
            Ok(output) => output,
            Err(error) => {
                let error = self.client.fault(&error, &what);
                return Err(if error.kind == ErrorKind::Limit {
                    self.full(error.message, None).await
                } else {
                    error
                });
            }
        };
        let key = output
            .access_key
            .filter(|key| is_name(&key.access_key_id) && is_name(&key.secret_access_key))
            .ok_or_else(|| {
                let at = self.client.place(&what);
                CallError::unknown(format!("the response to {what} at {at} has no access key"))
            })?;
        Ok(Issued {
            identity: Identity { handle: key.access_key_id.clone(), principal: key.user_name },
            material: Material::single(ID, Secret::new(key.access_key_id))
                .with(SECRET, Secret::new(key.secret_access_key)),
        })
    }

    async fn find(&self, context: &CallContext, before: &[String]) -> Result<Vec<String>, CallError> {
        // A key carries no tag. Ours was made while a request of ours can have been on its way; what was made
        // earlier or later is another's.
        let wait = SignedDuration::try_from(self.client.timeout()).unwrap_or(SignedDuration::MAX);
        let earliest = context.since.saturating_sub(SKEW).unwrap_or(Timestamp::MIN);
        let latest = context.last.saturating_add(wait.saturating_add(SKEW)).unwrap_or(Timestamp::MAX);
        let mut ours = Vec::new();
        for key in self.keys().await? {
            let Some(id) = key.access_key_id() else { continue };
            let made = key.create_date().and_then(|at| Timestamp::from_second(at.secs()).ok());
            let in_time = made.is_some_and(|at| earliest <= at && at <= latest);
            if before.iter().any(|known| known == id) || !in_time {
                continue;
            }
            // The secret of a key whose reply was lost is known to nobody: nobody can have used it.
            if let (_, Some(at)) = self.last_used(id).await? {
                return Err(CallError::rejected(
                    ErrorKind::Conflict,
                    format!(
                        "the access key {} is new and was used at {at}: this run did not make it",
                        sanitize(id)
                    ),
                )
                .hint("look up who made it (CloudTrail, CreateAccessKey), then `stanch resolve`"));
            }
            ours.push(sanitize(id));
        }
        // One request makes one key: of two, at least one is another's, and they look alike.
        if ours.len() > 1 {
            return Err(CallError::rejected(
                ErrorKind::Conflict,
                format!(
                    "the access keys {} are new, and this run made one of them at most",
                    ours.join(" and ")
                ),
            )
            .hint("look up who made them (CloudTrail, CreateAccessKey), then `stanch resolve`"));
        }
        Ok(ours)
    }

    async fn existing(&self) -> Result<Vec<String>, CallError> {
        Ok(self.keys().await?.iter().filter_map(|key| key.access_key_id()).map(str::to_owned).collect())
    }

    /// A user has two keys at most: beside the old one and the new one a repeated request makes none. A key
    /// that appears later carries no mark of this run, and is only named.
    async fn twins(&self, _: &CallContext, _: &[String], _: &[String]) -> Result<Vec<String>, CallError> {
        Ok(Vec::new())
    }

    async fn strangers(&self, known: &[String]) -> Result<Vec<String>, CallError> {
        let keys = self.keys().await?;
        let strange = keys.iter().filter_map(|key| {
            let id = key.access_key_id().filter(|id| !known.iter().any(|known| known == id))?;
            let status = key.status().map_or("unknown", StatusType::as_str).to_ascii_lowercase();
            Some(format!(
                "the user {} has another access key, {} ({}), that this run does not know; it was not touched",
                sanitize(&self.user),
                sanitize(id),
                sanitize(&status)
            ))
        });
        Ok(strange.collect())
    }

    async fn created(&self, handle: &str) -> Result<Option<Timestamp>, CallError> {
        let keys = self.keys().await?;
        let key = keys.iter().find(|key| key.access_key_id() == Some(handle));
        Ok(key.and_then(|key| key.create_date()).and_then(|at| Timestamp::from_second(at.secs()).ok()))
    }

    async fn inspect(&self, handle: &str) -> Result<Grant, CallError> {
        if self.key(handle).await?.is_none() {
            let message = format!("the user {} has no access key {}", sanitize(&self.user), sanitize(handle));
            return Err(CallError::rejected(ErrorKind::NotFound, message));
        }
        // A key is as wide as its user.
        Ok(Grant { policies: self.policy_names().await?, ..Grant::default() })
    }

    async fn life(&self, handle: &str) -> Result<Life, CallError> {
        Ok(self.key(handle).await?.unwrap_or(Life::Gone))
    }

    async fn disable(&self, _: &CallContext, handle: &str) -> Result<(), CallError> {
        self.set_status(handle, StatusType::Inactive).await
    }

    async fn enable(&self, _: &CallContext, handle: &str) -> Result<(), CallError> {
        self.set_status(handle, StatusType::Active).await
    }

    async fn revoke(&self, _: &CallContext, handle: &str, _: Option<&Material>) -> Result<(), CallError> {
        let sent =
            self.client.iam.delete_access_key().user_name(&self.user).access_key_id(handle).send().await;
        match sent.map_err(|error| self.client.fault(&error, &self.what("DeleteAccessKey"))) {
            Ok(done) => self.answered(&done, "DeleteAccessKey"),
            // AWS says the same of a user that is gone, and its keys with it.
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn shares(&self) -> Result<Option<String>, CallError> {
        let account = caller(&self.client).await?.account;
        Ok(Some(format!("iam {} user/{}", sanitize(&account), self.user)))
    }

    async fn attempt(&self, material: &Material) -> Result<Use, CallError> {
        Ok(match self.introduce(material).await? {
            Some(_) => Use::Accepted,
            None => {
                let id = material.part(ID).map(Secret::expose).unwrap_or_default();
                Use::Refused(format!("sts:GetCallerIdentity does not accept the access key {}", sanitize(id)))
            }
        })
    }
}

#[async_trait]
impl IssuerServer for IamAccessKey {
    async fn connect(
        &self,
        _: &str,
        _: &Credential,
        at: &RealProvider,
    ) -> Result<Arc<dyn Issuer>, CallError> {
        Ok(Arc::new(AccessKeyIssuer::new(at.client(&self.connection).await?, self.user.clone())))
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
