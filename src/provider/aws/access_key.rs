//! Access keys of IAM users. A user may have two, they carry no tags, and their reply is all there
//! ever is of the secret.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_iam::operation::RequestId;
use aws_sdk_iam::types::{AccessKeyMetadata, StatusType};
use jiff::{SignedDuration, Timestamp};

use super::client::AwsClient;
use super::fault::fault;
use super::preflight::{caller, failed, simulate};
use crate::provider::outcome::{CallError, Kind, is_name, tame};
use crate::provider::{
    CallContext, Check, Grant, Identity, Issued, Issuer, IssuerTraits, Life, Observation, Standing, Use,
};
use crate::secret::{Material, Secret};

/// The parts of an access key.
const ID: &str = "access_key_id";
const SECRET: &str = "secret_access_key";

/// How many keys AWS gives a user; the quota cannot be raised.
const MAX_KEYS: usize = 2;
/// A list that goes on for longer than this has no end: a user has two keys and a handful of policies.
const MAX_PAGES: usize = 100;
/// How far AWS' clock may be behind ours for a key to count as made by this step.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// Issues access keys to one user.
#[derive(Debug)]
pub struct AccessKeyIssuer {
    client: Arc<AwsClient>,
    user: String,
}

impl AccessKeyIssuer {
    /// For the user of this name.
    pub fn new(client: Arc<AwsClient>, user: String) -> Self {
        Self { client, user }
    }

    fn what(&self, action: &str) -> String {
        format!("iam:{action} for the user {}", self.user)
    }

    async fn keys(&self) -> Result<Vec<AccessKeyMetadata>, CallError> {
        let (mut keys, mut marker) = (Vec::new(), None);
        for _ in 0..MAX_PAGES {
            let page = self
                .client
                .iam
                .list_access_keys()
                .user_name(&self.user)
                .set_marker(marker)
                .send()
                .await
                .map_err(|error| fault(&error, &self.what("ListAccessKeys")).read_only())?;
            answered(&page, &self.what("ListAccessKeys")).map_err(CallError::read_only)?;
            keys.extend_from_slice(page.access_key_metadata());
            match page.marker {
                Some(next) if page.is_truncated => marker = Some(next),
                _ => return Ok(keys),
            }
        }
        let what = self.what("ListAccessKeys");
        Err(CallError::rejected(Kind::Invalid, format!("the answer to {what} has no end"))
            .hint("check `endpoint_url`, and what stands in front of it"))
    }

    /// When a key was last used; `None` when never, as far as AWS knows (it lags).
    async fn last_used(&self, id: &str) -> Result<Option<Timestamp>, CallError> {
        let answer = self
            .client
            .iam
            .get_access_key_last_used()
            .access_key_id(id)
            .send()
            .await
            .map_err(|error| fault(&error, &self.what("GetAccessKeyLastUsed")).read_only())?;
        Ok(answer
            .access_key_last_used()
            .and_then(|used| used.last_used_date())
            .and_then(|at| Timestamp::from_second(at.secs()).ok()))
    }

    /// The keys in words, for whoever has to choose one to delete.
    async fn describe_keys(&self) -> String {
        let Ok(keys) = self.keys().await else { return String::new() };
        let mut words = Vec::new();
        for key in keys {
            let Some(id) = key.access_key_id() else { continue };
            let used = match self.last_used(id).await {
                Ok(Some(at)) => format!("last used {at}"),
                Ok(None) => "never used".to_owned(),
                Err(_) => "last use unknown".to_owned(),
            };
            let status = key.status().map_or("", StatusType::as_str).to_ascii_lowercase();
            words.push(tame(&format!("{id} ({status}, {used})")));
        }
        words.join(" and ")
    }

    async fn full(&self, message: String) -> CallError {
        CallError::rejected(Kind::Limit, message).hint(format!(
            "delete the one that nobody needs (`aws iam delete-access-key`): {}",
            self.describe_keys().await
        ))
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
            .map_err(|error| fault(&error, &self.what("UpdateAccessKey")))
            .and_then(|done| answered(&done, &self.what("UpdateAccessKey")))
    }

    /// Asks STS with the very keys: `None` when it does not accept them.
    async fn introduce(&self, material: &Material) -> Result<Option<String>, CallError> {
        let (Some(id), Some(secret)) = (material.part(ID), material.part(SECRET)) else {
            return Err(CallError::rejected(
                Kind::Invalid,
                "the credential is no access key: a part is missing",
            ));
        };
        let what = "sts:GetCallerIdentity with the access key";
        match self.client.sts_as(id.expose(), secret).get_caller_identity().send().await {
            Ok(output) => Ok(Some(output.arn.unwrap_or_else(|| self.user.clone()))),
            Err(error) => {
                use aws_sdk_sts::error::ProvideErrorMetadata;
                let code = error.as_service_error().and_then(|e| e.code()).map(str::to_owned);
                let error = fault(&error, what).read_only();
                match (error.kind, code.as_deref()) {
                    // The signature is checked after the key: with a wrong secret, or a wrong clock
                    // here, a live key would look dead.
                    (_, Some("SignatureDoesNotMatch" | "InvalidSignatureException")) => {
                        Err(CallError { kind: Kind::Invalid, ..error })
                    }
                    (Kind::Refused, _) => Ok(None),
                    // Authentication comes before authorisation: a key that is forbidden something
                    // is a valid key. `GetCallerIdentity` itself can only be denied explicitly.
                    (Kind::Denied, Some("AccessDenied" | "AccessDeniedException")) => {
                        Ok(Some(self.user.clone()))
                    }
                    _ => Err(error),
                }
            }
        }
    }

    /// The names of the user's policies; `None` when they cannot all be read.
    async fn policy_names(&self) -> Option<Vec<String>> {
        let iam = &self.client.iam;
        let mut names = Vec::new();
        let mut marker = None;
        for page in 1.. {
            let request = iam.list_attached_user_policies().user_name(&self.user).set_marker(marker);
            let answer = request.send().await.ok()?;
            names
                .extend(answer.attached_policies().iter().filter_map(|p| p.policy_name()).map(str::to_owned));
            match answer.marker {
                Some(_) if answer.is_truncated && page == MAX_PAGES => return None,
                Some(next) if answer.is_truncated => marker = Some(next),
                _ => break,
            }
        }
        let mut marker = None;
        for page in 1.. {
            let request = iam.list_user_policies().user_name(&self.user).set_marker(marker);
            let answer = request.send().await.ok()?;
            names.extend(answer.policy_names().iter().cloned());
            match answer.marker {
                Some(_) if answer.is_truncated && page == MAX_PAGES => return None,
                Some(next) if answer.is_truncated => marker = Some(next),
                _ => break,
            }
        }
        names.sort();
        Some(names)
    }
}

/// Every answer of AWS' has a request id. A page of something in front of it has none, and the SDK
/// takes it for a success of these calls, whose answers are empty, or for an empty list.
fn answered(output: &impl RequestId, what: &str) -> Result<(), CallError> {
    match output.request_id() {
        Some(_) => Ok(()),
        None => Err(CallError::unknown(format!("the answer to {what} is no answer of AWS'"))
            .hint("check the endpoint, and what stands in front of it")),
    }
}

#[async_trait]
impl Issuer for AccessKeyIssuer {
    fn traits(&self) -> IssuerTraits {
        IssuerTraits {
            tries: true,
            mints: true,
            disables: true,
            revokes: true,
            coexists: true,
            issue: Observation::Listable,
            change: Observation::Readable,
        }
    }

    async fn preflight(&self, outgoing: Option<&Identity>) -> Vec<Check> {
        let name = format!("user {}", self.user);
        // A policy may name the user by its path, which only `GetUser` tells; without it a denial
        // means little.
        let what = self.what("GetUser");
        let user = self.client.iam.get_user().user_name(&self.user).send().await;
        let (arn, elsewhere) = match user.map_err(|error| fault(&error, &what)) {
            Ok(output) => (output.user.map(|user| user.arn), None),
            Err(error) if error.kind == Kind::NotFound => return vec![failed(&name, &error)],
            Err(_) => (None, Some("a policy that names this user")),
        };
        let keys = match self.keys().await {
            Ok(keys) => keys,
            Err(error) => return vec![failed(&name, &error)],
        };
        let mut checks = vec![if keys.len() < MAX_KEYS {
            Check::pass(name, format!("it has {} of {MAX_KEYS} access keys", keys.len()))
        } else {
            failed(
                &name,
                &self
                    .full(format!(
                        "the user {} has {} access keys, and AWS allows {MAX_KEYS}",
                        self.user,
                        keys.len()
                    ))
                    .await,
            )
        }];
        if let Some(outgoing) = outgoing {
            checks.push(match self.client.own_key_id().await {
                Ok(own) if own == outgoing.handle => Check::fail(
                    "own credential",
                    Kind::Invalid,
                    "this run uses the very access key that it is about to delete",
                    "use another profile (AWS_PROFILE), then plan again",
                ),
                Ok(_) => Check::pass("own credential", "this run uses another access key"),
                Err(error) => failed("own credential", &error),
            });
            if !keys.iter().any(|key| key.access_key_id() == Some(outgoing.handle.as_str())) {
                checks.push(Check::fail(
                    "outgoing key",
                    Kind::NotFound,
                    format!("the user {} has no access key {}", self.user, tame(&outgoing.handle)),
                    "check `user` in the runbook: the key in the store is somebody else's",
                ));
            }
        }
        let actions =
            ["iam:CreateAccessKey", "iam:UpdateAccessKey", "iam:DeleteAccessKey", "iam:GetAccessKeyLastUsed"];
        checks.extend(simulate(&self.client, &actions, arn.as_deref(), elsewhere).await);
        checks
    }

    async fn identify(&self, material: &Material) -> Result<Option<Standing>, CallError> {
        let handle = material.part(ID).map(|id| id.expose().to_owned()).unwrap_or_default();
        let life = self.life(&handle).await?;
        let identity = Identity { handle, principal: format!("user/{}", tame(&self.user)) };
        Ok((life != Life::Gone).then_some(Standing { identity, life, uses_left: None }))
    }

    fn candidate(&self) -> Option<Material> {
        None
    }

    async fn issue(&self, _: &CallContext, _: Option<&Material>) -> Result<Issued, CallError> {
        let what = self.what("CreateAccessKey");
        let output = match self.client.iam.create_access_key().user_name(&self.user).send().await {
            Ok(output) => output,
            Err(error) => {
                let error = fault(&error, &what);
                return Err(if error.kind == Kind::Limit { self.full(error.message).await } else { error });
            }
        };
        let key = output
            .access_key
            .filter(|key| is_name(&key.access_key_id) && is_name(&key.secret_access_key))
            .ok_or_else(|| CallError::unknown(format!("the answer to {what} holds no access key")))?;
        Ok(Issued {
            identity: Identity { handle: key.access_key_id.clone(), principal: key.user_name },
            material: Material::single(ID, Secret::new(key.access_key_id))
                .with(SECRET, Secret::new(key.secret_access_key)),
        })
    }

    async fn find(&self, context: &CallContext, before: &[String]) -> Result<Vec<String>, CallError> {
        let mut ours = Vec::new();
        for key in self.keys().await? {
            let Some(id) = key.access_key_id() else { continue };
            let made = key.create_date().and_then(|at| Timestamp::from_second(at.secs()).ok());
            let recent =
                made.is_none_or(|at| at.saturating_add(SKEW).is_ok_and(|late| late >= context.since));
            if before.iter().any(|known| known == id) || !recent {
                continue;
            }
            // The secret of a key whose reply was lost is known to nobody: nobody can have used it.
            if let Some(at) = self.last_used(id).await? {
                return Err(CallError::rejected(
                    Kind::Conflict,
                    format!("the access key {} is new and was used at {at}: it is somebody else's", tame(id)),
                )
                .hint("find out whose it is (CloudTrail, CreateAccessKey), then `stanch resolve`"));
            }
            ours.push(id.to_owned());
        }
        Ok(ours)
    }

    async fn existing(&self) -> Result<Vec<String>, CallError> {
        Ok(self.keys().await?.iter().filter_map(|key| key.access_key_id()).map(str::to_owned).collect())
    }

    async fn inspect(&self, handle: &str) -> Result<Grant, CallError> {
        if self.life(handle).await? == Life::Gone {
            return Err(CallError::rejected(
                Kind::NotFound,
                format!("there is no access key {}", tame(handle)),
            ));
        }
        // A key is as wide as its user.
        Ok(Grant { policies: self.policy_names().await, ..Grant::default() })
    }

    async fn life(&self, handle: &str) -> Result<Life, CallError> {
        let keys = self.keys().await?;
        let key = keys.iter().find(|key| key.access_key_id() == Some(handle));
        Ok(match key.map(|key| key.status()) {
            None => Life::Gone,
            Some(Some(StatusType::Inactive)) => Life::Disabled,
            Some(_) => Life::Active,
        })
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
        match sent.map_err(|error| fault(&error, &self.what("DeleteAccessKey"))) {
            Ok(done) => answered(&done, &self.what("DeleteAccessKey")),
            // AWS says the same of a user that is gone, with whom his keys are.
            Err(error) if error.kind == Kind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn shares(&self) -> Result<Option<String>, CallError> {
        let account = caller(&self.client).await?.account;
        Ok(Some(format!("iam {} user/{}", tame(&account), self.user)))
    }

    async fn attempt(&self, material: &Material) -> Result<Use, CallError> {
        Ok(match self.introduce(material).await? {
            Some(_) => Use::Accepted,
            None => Use::Refused("sts:GetCallerIdentity does not accept the access key".to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::http::transport::Reply;

    /// A page of a list. IAM says whether another follows.
    fn page(action: &str, more: bool) -> Reply {
        let body = format!(
            "<{action}Response xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\"><{action}Result>\
             <AccessKeyMetadata/><PolicyNames/><IsTruncated>{more}</IsTruncated><Marker>m</Marker></{action}Result></{action}Response>"
        );
        let mut headers = http::HeaderMap::new();
        headers.insert("x-amzn-requestid", http::HeaderValue::from_static("r"));
        Reply { status: http::StatusCode::OK, headers, body: body.into_bytes() }
    }

    fn issuer(replies: Vec<Reply>) -> AccessKeyIssuer {
        let client = AwsClient::answering(("AKIAOPERATOR", &Secret::new("key")), replies);
        AccessKeyIssuer::new(Arc::new(client), "app".to_owned())
    }

    /// A server that says of every page that another follows, found by fuzzing.
    #[tokio::test]
    async fn a_list_without_an_end_is_given_up() {
        let keys = issuer(vec![page("ListAccessKeys", true)]);
        let error = keys.existing().await.expect_err("no end");
        assert!(error.message.contains("has no end") && !error.in_doubt, "{error}");
        let (attached, own) = ("ListAttachedUserPolicies", "ListUserPolicies");
        assert_eq!(issuer(vec![page(attached, true)]).policy_names().await, None);
        assert_eq!(issuer(vec![page(attached, false), page(own, true)]).policy_names().await, None);
        let whole = issuer(vec![page(attached, true), page(attached, false), page(own, false)]);
        assert_eq!(whole.policy_names().await, Some(vec![]));
    }
}
