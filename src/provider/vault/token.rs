//! Vault tokens, made through a role, tagged with the run, watched and revoked by accessor.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use vaultrs::api::token::requests::{
    CreateOrphanTokenRequest, CreateRoleTokenRequest, ListAccessorRequest, LookupTokenAccessorRequest,
    LookupTokenRequest, LookupTokenSelfRequest, ReadTokenRoleRequest, RevokeTokenAccessorRequest,
};
use vaultrs::api::token::responses::ListAccessorResponse;

use super::client::{Effect, VaultClient, auth, data, garbled, is_bad_token, unsendable};
use super::grant::{AUDIENCE, Role, TokenInfo, grant};
use super::preflight::{capabilities, failed, holds, own_token};
use crate::provider::http::transport::Reply;
use crate::provider::outcome::{CallError, Kind, is_name, tame};
use crate::provider::{
    CallContext, Check, Grant, Identity, Issued, Issuer, IssuerTraits, Life, Observation, Standing, Use,
};
use crate::secret::{Material, Secret};

/// The part that a token is.
const PART: &str = "token";

/// The tags by which a token is known to be a run's.
const RUN: &str = "stanch-run";
const STEP: &str = "stanch-step";

const LOOKUP: &str = "auth/token/lookup-accessor";
const REVOKE: &str = "auth/token/revoke-accessor";
const ACCESSORS: &str = "auth/token/accessors";

/// Looking up every token of a busy Vault takes a request each: enough at once to be quick, few
/// enough not to be noticed.
const LOOKUPS: usize = 16;

/// What the runbook asks for.
#[derive(Debug, Clone)]
pub struct TokenSpec {
    /// The credential's name, for the token's display name.
    pub name: String,
    /// The token role; else the token is an orphan of nobody.
    pub role: Option<String>,
    /// The policies.
    pub policies: Vec<String>,
    /// The time to live.
    pub ttl: Duration,
    /// The longest it may live, renewals counted.
    pub max_ttl: Option<Duration>,
    /// How often it may be used; 0 is without limit.
    pub num_uses: u32,
    /// The networks that it may be used from.
    pub bound_cidrs: Vec<String>,
    /// Who it is for.
    pub audience: Option<String>,
}

/// Issues tokens.
#[derive(Debug)]
pub struct TokenIssuer {
    client: Arc<VaultClient>,
    spec: TokenSpec,
}

impl TokenIssuer {
    /// Tokens as `spec` says.
    pub fn new(client: Arc<VaultClient>, spec: TokenSpec) -> Self {
        Self { client, spec }
    }

    fn create_path(&self) -> String {
        match &self.spec.role {
            Some(role) => format!("auth/token/create/{role}"),
            None => "auth/token/create-orphan".to_owned(),
        }
    }

    async fn lookup(&self, accessor: &str) -> Result<Option<TokenInfo>, CallError> {
        lookup(&self.client, accessor).await
    }

    /// Asks, as the operator, about a token that may not ask about itself.
    async fn lookup_for(&self, token: &Secret) -> Result<Option<TokenInfo>, CallError> {
        let endpoint = LookupTokenRequest::builder()
            .token(token.expose())
            .build()
            .map_err(|_| unsendable("auth/token/lookup"))?;
        match self.client.send(endpoint, Effect::Read).await {
            Ok(reply) => known(&reply, "auth/token/lookup").map(Some),
            // "bad token" here speaks of the token in the body, unless ours is dead: then the
            // lookup of ourselves fails as well.
            Err(error) if error.kind == Kind::Refused => {
                own_token(&self.client).await?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Uses the token: who does Vault say that it is? `None` when Vault does not accept it.
    async fn introduce(&self, material: &Material) -> Result<Option<TokenInfo>, CallError> {
        let token = material.main().ok_or_else(|| {
            CallError::rejected(Kind::Invalid, "the credential is not a token: it has several parts")
        })?;
        let endpoint =
            LookupTokenSelfRequest::builder().build().map_err(|_| unsendable("auth/token/lookup-self"))?;
        let reply = self.client.send_as(endpoint, token).await?;
        let status = reply.status.as_u16();
        if reply.status.is_success() {
            return known(&reply, "auth/token/lookup-self").map(Some);
        }
        let said = self.client.said(&reply);
        if status == 403 && is_bad_token(&said) {
            return Ok(None);
        }
        if status == 403 {
            // "permission denied" alone is no refusal: a live token without the policy `default`,
            // or used from outside its networks, hears the same.
            return match self.lookup_for(token).await {
                Ok(None) => Ok(None),
                Ok(Some(_)) => Err(CallError::rejected(
                    Kind::Denied,
                    "the token is alive, but may not look itself up from here",
                )
                .hint("give it the policy `default`, or use a probe of the service that it is for")),
                Err(error) => Err(error),
            };
        }
        let kind = if status == 503 { Kind::NotReady } else { Kind::NoAnswer };
        Err(CallError::rejected(
            kind,
            format!("{} answered {status} to auth/token/lookup-self: {said}", self.client.place()),
        ))
    }
}

/// What an answer says of a token. A batch token has no accessor.
fn known(reply: &Reply, what: &str) -> Result<TokenInfo, CallError> {
    let info: TokenInfo = data(reply, what)?;
    if info.accessor.is_empty() || is_name(&info.accessor) {
        Ok(info)
    } else {
        Err(garbled(what).read_only())
    }
}

/// What Vault knows under an accessor; `None` when it knows nothing.
async fn lookup(client: &VaultClient, accessor: &str) -> Result<Option<TokenInfo>, CallError> {
    let endpoint =
        LookupTokenAccessorRequest::builder().accessor(accessor).build().map_err(|_| unsendable(LOOKUP))?;
    match client.send(endpoint, Effect::Read).await {
        Ok(reply) => known(&reply, LOOKUP).map(Some),
        // Vault 1.21 answers 400, others 403; the words are the same. A plain 403 or 404 (of
        // something in front of Vault) is no word on the accessor and stays an error.
        Err(error) if error.message.contains("invalid accessor") => Ok(None),
        Err(error) => Err(error),
    }
}

#[async_trait]
impl Issuer for TokenIssuer {
    fn traits(&self) -> IssuerTraits {
        IssuerTraits {
            tries: true,
            mints: true,
            disables: false,
            revokes: true,
            coexists: true,
            issue: Observation::Listable,
            change: Observation::Readable,
        }
    }

    async fn preflight(&self, outgoing: Option<&Identity>) -> Vec<Check> {
        let create = self.create_path();
        let paths = [create.as_str(), LOOKUP, REVOKE, ACCESSORS, "auth/token/accessors/"];
        let mut checks = Vec::new();
        match capabilities(&self.client, &paths).await {
            Ok(held) => {
                let need = |index: usize, why: &str| {
                    let path = paths[index];
                    if holds(&held[index], "update") || (index == 0 && holds(&held[index], "create")) {
                        Check::pass(format!("permission {path}"), format!("may {why}"))
                    } else {
                        Check::fail(
                            format!("permission {path}"),
                            Kind::Denied,
                            format!("may not {why}"),
                            format!(
                                "ask for a policy with `path \"{path}\" {{ capabilities = [\"update\"] }}`"
                            ),
                        )
                    }
                };
                checks.push(need(0, "create the token"));
                checks.push(need(1, "look at tokens by accessor"));
                checks.push(need(2, "revoke tokens by accessor"));
                let lists = |held: &[String]| holds(held, "list") && holds(held, "sudo");
                checks.push(if lists(&held[3]) || lists(&held[4]) {
                    Check::pass(format!("permission {ACCESSORS}"), "may list tokens")
                } else {
                    Check {
                        hint: Some(format!(
                            "to settle that by itself: `path \"{ACCESSORS}\" {{ capabilities = [\"list\", \"sudo\"] }}`"
                        )),
                        ..Check::warn(
                            format!("permission {ACCESSORS}"),
                            "may not list tokens: if the reply to a creation is lost, the run stops and asks",
                        )
                    }
                });
            }
            Err(error) if error.kind == Kind::Denied => {
                checks.push(Check::warn("permissions", "Vault does not tell this token what it may do"));
            }
            Err(error) => checks.push(failed("permissions", &error)),
        }
        if let Some(role) = &self.spec.role {
            checks.push(self.role_check(role).await);
        }
        if self.spec.num_uses > 0 {
            checks.push(Check::warn(
                "uses",
                format!(
                    "the token may be used {} times; each check of stanch's uses it once",
                    self.spec.num_uses
                ),
            ));
        }
        if let Some(outgoing) = outgoing {
            checks.push(match own_token(&self.client).await {
                Ok(own) if own.accessor == outgoing.handle => Check::fail(
                    "own credential",
                    Kind::Invalid,
                    "this run uses the very token that it is about to revoke",
                    "log in with another token (`vault login`), then plan again",
                ),
                Ok(_) => Check::pass("own credential", "this run uses another token"),
                Err(_) => {
                    Check::warn("own credential", "whether this run uses the outgoing token cannot be said")
                }
            });
        }
        checks
    }

    async fn identify(&self, material: &Material) -> Result<Option<Standing>, CallError> {
        let token = material.main().ok_or_else(|| {
            CallError::rejected(Kind::Invalid, "the credential is not a token: it has several parts")
        })?;
        Ok(self.lookup_for(token).await?.map(|info| Standing {
            identity: Identity { handle: info.accessor, principal: tame(&info.display_name) },
            life: Life::Active,
            uses_left: (info.num_uses > 0).then_some(info.num_uses),
        }))
    }

    fn candidate(&self) -> Option<Material> {
        None
    }

    async fn issue(&self, context: &CallContext, _: Option<&Material>) -> Result<Issued, CallError> {
        let path = self.create_path();
        let mut meta =
            HashMap::from([(RUN.to_owned(), context.run.clone()), (STEP.to_owned(), context.step.clone())]);
        if let Some(audience) = &self.spec.audience {
            meta.insert(AUDIENCE.to_owned(), audience.clone());
        }
        let name = format!("stanch-{}", self.spec.name);
        let ttl = seconds(self.spec.ttl);
        let max = self.spec.max_ttl.map(seconds);
        let uses = u64::from(self.spec.num_uses);
        let sent = match &self.spec.role {
            Some(role) => {
                let mut endpoint = CreateRoleTokenRequest::builder();
                endpoint.role_name(role).display_name(name).meta(meta).num_uses(uses);
                endpoint.policies(self.spec.policies.clone()).ttl(ttl);
                if let Some(max) = max {
                    endpoint.explicit_max_ttl(max);
                }
                self.client.send(endpoint.build().map_err(|_| unsendable(&path))?, Effect::Write).await
            }
            None => {
                let mut endpoint = CreateOrphanTokenRequest::builder();
                endpoint.display_name(name).meta(meta).num_uses(uses);
                endpoint.policies(self.spec.policies.clone()).ttl(ttl);
                if let Some(max) = max {
                    endpoint.explicit_max_ttl(max);
                }
                self.client.send(endpoint.build().map_err(|_| unsendable(&path))?, Effect::Write).await
            }
        };
        let made = auth(&sent?, &path)?;
        if !is_name(&made.accessor) || !is_name(&made.client_token) {
            return Err(garbled(&path));
        }
        Ok(Issued {
            identity: Identity {
                handle: made.accessor,
                principal: format!("token-stanch-{}", self.spec.name),
            },
            material: Material::single(PART, Secret::new(made.client_token)),
        })
    }

    async fn find(&self, context: &CallContext, _: &[String]) -> Result<Vec<String>, CallError> {
        let endpoint = ListAccessorRequest::builder().build().map_err(|_| unsendable(ACCESSORS))?;
        let list: ListAccessorResponse = data(&self.client.send(endpoint, Effect::Read).await?, ACCESSORS)?;
        let places = Arc::new(Semaphore::new(LOOKUPS));
        if !list.keys.iter().all(|accessor| is_name(accessor)) {
            return Err(garbled(ACCESSORS).read_only());
        }
        let mut tasks = JoinSet::new();
        for accessor in list.keys {
            let (client, places) = (Arc::clone(&self.client), Arc::clone(&places));
            tasks.spawn(async move {
                let _place = places.acquire_owned().await;
                lookup(&client, &accessor).await
            });
        }
        let mut ours = Vec::new();
        while let Some(done) = tasks.join_next().await {
            let found =
                done.map_err(|_| CallError::rejected(Kind::Local, "a lookup of a token was cut short"))??;
            let Some(info) = found else { continue };
            let tag = |key: &str| info.meta.as_ref().and_then(|meta| meta.get(key)).map(String::as_str);
            if tag(RUN) == Some(context.run.as_str()) && tag(STEP) == Some(context.step.as_str()) {
                ours.push(info.accessor);
            }
        }
        ours.sort();
        Ok(ours)
    }

    async fn existing(&self) -> Result<Vec<String>, CallError> {
        // The tags tell ours from others'.
        Ok(Vec::new())
    }

    async fn inspect(&self, handle: &str) -> Result<Grant, CallError> {
        let info = self
            .lookup(handle)
            .await?
            .ok_or_else(|| CallError::rejected(Kind::NotFound, "Vault knows no token under this accessor"))?;
        Ok(grant(&info, &self.spec))
    }

    async fn life(&self, handle: &str) -> Result<Life, CallError> {
        Ok(if self.lookup(handle).await?.is_some() { Life::Active } else { Life::Gone })
    }

    async fn disable(&self, _: &CallContext, _: &str) -> Result<(), CallError> {
        Err(CallError::rejected(Kind::Unsupported, "Vault cannot disable a token reversibly"))
    }

    async fn enable(&self, _: &CallContext, _: &str) -> Result<(), CallError> {
        Err(CallError::rejected(Kind::Unsupported, "Vault cannot disable a token reversibly"))
    }

    async fn revoke(&self, _: &CallContext, handle: &str, _: Option<&Material>) -> Result<(), CallError> {
        let endpoint =
            RevokeTokenAccessorRequest::builder().accessor(handle).build().map_err(|_| unsendable(REVOKE))?;
        match self.client.send(endpoint, Effect::Write).await {
            Ok(_) => {}
            Err(error) if error.message.contains("invalid accessor") => {}
            Err(error) => return Err(error),
        }
        // Vault reports success for an accessor that never was, too: only a lookup tells.
        match self.lookup(handle).await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(CallError::unknown(format!(
                "{} took the revocation, and still knows the token",
                self.client.place()
            ))),
            Err(error) => Err(CallError { in_doubt: true, ..error }),
        }
    }

    async fn attempt(&self, material: &Material) -> Result<Use, CallError> {
        Ok(match self.introduce(material).await? {
            Some(_) => Use::Accepted,
            None => Use::Refused(format!("{}: 403 invalid token", self.client.place())),
        })
    }
}

impl TokenIssuer {
    async fn role_check(&self, role: &str) -> Check {
        let path = format!("auth/token/roles/{role}");
        let check = format!("role {role}");
        let endpoint = ReadTokenRoleRequest::builder().role_name(role).build();
        let reply = match endpoint {
            Ok(endpoint) => self.client.send(endpoint, Effect::Read).await,
            Err(_) => Err(unsendable(&path)),
        };
        let role_found: Role = match reply.and_then(|reply| data(&reply, &path)) {
            Ok(found) => found,
            Err(error) if error.kind == Kind::Denied => {
                return Check::warn(check, "the role may not be read: what it allows shows when it is used");
            }
            Err(error) if error.kind == Kind::NotFound => {
                return Check::fail(
                    check,
                    Kind::NotFound,
                    format!("there is no token role `{role}`"),
                    format!(
                        "make it (`vault write {path} allowed_policies=… orphan=true`), or correct `role`"
                    ),
                );
            }
            Err(error) => return failed(&check, &error),
        };
        let refused: Vec<&str> =
            self.spec.policies.iter().map(String::as_str).filter(|p| !role_found.allows(p)).collect();
        if !refused.is_empty() {
            return Check::fail(
                check,
                Kind::Denied,
                format!("the role does not allow the policies {}", refused.join(", ")),
                format!("add them to `allowed_policies` of {path}, or ask for fewer"),
            );
        }
        if role_found.token_type.contains("batch") {
            return Check::fail(
                check,
                Kind::Unsupported,
                "tokens of this role are batch tokens, which have no accessor and cannot be revoked",
                format!("set `token_type=service` on {path}"),
            );
        }
        if !role_found.orphan {
            return Check::fail(
                check,
                Kind::Invalid,
                "tokens of this role are children of the operator's token and die with it",
                format!("set `orphan=true` on {path}"),
            );
        }
        if role_found.token_period > 0 {
            return Check::warn(
                check,
                "tokens of this role are periodic: renewed in time, they never expire",
            );
        }
        Check::pass(check, "the role allows the policies and makes orphans")
    }
}

/// A duration as Vault reads it. Fractions are rounded up: a zero would mean "the default".
fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_millis().div_ceil(1000).max(1))
}
