//! Vault tokens, made through a role, tagged with the run, watched and revoked by accessor.

use super::spec::VaultToken;
use crate::kind::real::{IssuerServer, RealProvider};
use crate::runbook::model::Credential;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use vaultrs::api::token::requests::{
    CreateOrphanTokenRequest, CreateRoleTokenRequest, LookupTokenSelfRequest, ReadTokenRoleRequest,
};

use super::grant::{AUDIENCE, grant};
use crate::domain::{Check, ErrorKind, Identity, IssuerTraits, Life, Standing};
use crate::kind::vault::client::{Effect, VaultClient, auth, data, malformed_response, unsendable};
use crate::kind::vault::fault::{is_bad_token, scrubbed};
use crate::kind::vault::lookup::{accessors, each, known, look_up, lookup, revoke};
use crate::kind::vault::preflight::known_own_token;
use crate::kind::vault::shape::sendable;
use crate::kind::vault::token_info::{RUN, Role, STEP, TokenInfo, TokenSpec, seconds};
use crate::provider::outcome::CallError;
use crate::provider::{CallContext, Grant, Issued, Issuer, Use};
use crate::secret::{Material, Secret};
use crate::text::{is_name, sanitize};

/// The part that a token is.
const PART: &str = "token";

/// Longer than any token: a batch token carries its policies and tags and is of some hundred bytes.
const LONGEST_TOKEN: usize = 8192;

/// Issues tokens.
#[derive(Debug)]
pub struct TokenIssuer {
    pub(in crate::kind::vault) client: Arc<VaultClient>,
    pub(in crate::kind::vault) spec: TokenSpec,
    /// Whether others are given its tokens. Those that are not need not look themselves up, and no store holds an old one.
    pub(super) given_out: bool,
}

impl TokenIssuer {
    /// Tokens as `spec` says.
    pub fn new(client: Arc<VaultClient>, spec: TokenSpec) -> Self {
        Self { client, spec, given_out: true }
    }

    /// Tokens that hold leases and are shown to no one: their values are forgotten.
    pub(in crate::kind::vault) fn for_leases(client: Arc<VaultClient>, spec: TokenSpec) -> Self {
        Self { given_out: false, ..Self::new(client, spec) }
    }

    pub(in crate::kind::vault) fn create_path(&self) -> String {
        match &self.spec.role {
            Some(role) => format!("auth/token/create/{role}"),
            None => "auth/token/create-orphan".to_owned(),
        }
    }

    /// Remembers which tokens are there while a run is planned: what it makes later is not among them, so
    /// that a busy Vault is not asked about each of its tokens when the run looks for its own.
    pub(in crate::kind::vault) async fn know_strangers(&self) {
        let ask = async {
            for accessor in accessors(&self.client).await? {
                self.client.facts.tags.set(&accessor, None);
            }
            Ok::<(), CallError>(())
        };
        // Without the permission to list them, nothing is looked for later either.
        let _ = self.client.facts.strangers.get_or_try_init(|| ask).await;
    }

    /// One request for the list, and one for each token that was not there before and that no earlier
    /// call looked up: tags never change. Without a step in the context, whatever carries the run's tag
    /// is found.
    async fn search(
        &self,
        context: &CallContext,
        before: &[String],
        expected: &[String],
    ) -> Result<Vec<String>, CallError> {
        let list = accessors(&self.client).await?;
        for accessor in expected.iter().filter(|accessor| !list.contains(accessor)) {
            // A standby may be behind; what the list lacks because it was revoked is not known either.
            if self.lookup(accessor).await?.is_some() {
                return Err(CallError::lagging(accessor));
            }
        }
        let run = context.run.clone();
        let step = Some(context.step.clone()).filter(|step| !step.is_empty());
        let ours = move |tags: Option<(String, String)>| {
            tags.is_some_and(|(of, at)| of == run && step.as_ref().is_none_or(|step| *step == at))
        };
        let before: HashSet<&str> = before.iter().map(String::as_str).collect();
        // One of ours is looked up again: it may be dead by now, and the list lags.
        let unknown = |accessor: &String| {
            !before.contains(accessor.as_str()) && self.client.facts.tags.get(accessor).is_none_or(&ours)
        };
        let list = list.into_iter().filter(unknown).collect();
        let looked_up = each(list, |accessor| {
            let client = Arc::clone(&self.client);
            async move { lookup(&client, &accessor).await }
        });
        let mut found = Vec::new();
        for info in looked_up.await? {
            let tag = |key: &str| info.meta.as_ref().and_then(|meta| meta.get(key)).cloned();
            let tags = tag(RUN).zip(tag(STEP));
            self.client.facts.tags.set(&info.accessor, tags.clone());
            if ours(tags) {
                found.push(info.accessor);
            }
        }
        found.sort();
        Ok(found)
    }

    pub(in crate::kind::vault) async fn lookup(
        &self,
        accessor: &str,
    ) -> Result<Option<TokenInfo>, CallError> {
        lookup(&self.client, accessor).await
    }

    /// The role, as it was when this run first asked.
    pub(in crate::kind::vault) async fn role(&self) -> Option<Result<Arc<Role>, CallError>> {
        let name = self.spec.role.as_deref()?;
        let path = format!("auth/token/roles/{name}");
        let ask = async {
            let endpoint = ReadTokenRoleRequest::builder().role_name(name).build();
            let endpoint = endpoint.map_err(|_| unsendable(&path))?;
            data(&self.client.send(endpoint, Effect::Read).await?, &path)
        };
        Some(self.client.facts.roles.get(name, ask).await)
    }

    /// Whether the new token is made so that it cannot be renewed: where it is to live for all of its
    /// longest life at once there is nothing to renew, and a server that takes a maximum from the role
    /// alone would let a renewal outlive it.
    pub(in crate::kind::vault) fn is_fixed(&self, role: Option<&Role>) -> bool {
        let max = self.spec.max_ttl.filter(|max| *max <= self.spec.ttl);
        let kept = |max: Duration| role.is_some_and(|role| role.keeps_to(max.as_secs()));
        self.spec.role.is_some() && max.is_some_and(|max| !kept(max))
    }

    /// Asks, as the operator, about a token that may not ask about itself. `None` when Vault does not
    /// know it.
    async fn lookup_for(&self, token: &Secret) -> Result<Option<TokenInfo>, CallError> {
        let found = look_up(&self.client, token).await?;
        if let Some(info) = &found {
            self.client.facts.births.set(&info.accessor, info.birth());
        }
        Ok(found)
    }

    /// Uses the token: who does Vault say that it is? `None` when Vault does not accept it.
    async fn introduce(&self, token: &Secret) -> Result<Option<TokenInfo>, CallError> {
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
            // Nor need it be asked about again when it was gone a moment ago.
            let accessor = self.client.facts.identified.get(&token.sha256_hex());
            if accessor.is_some_and(|accessor| self.client.facts.gone.has(&accessor)) {
                return Ok(None);
            }
            return match self.lookup_for(token).await? {
                None => Ok(None),
                Some(info) => Err(unusable_here(&info)),
            };
        }
        // One rule for what passes, whoever asks.
        Err(self.client.fault(&reply, "GET auth/token/lookup-self", Effect::Read).await)
    }
}

/// That a token lives and cannot be tried here, and what to do about it.
fn unusable_here(info: &TokenInfo) -> CallError {
    let networks = info.bound_cidrs.iter().flatten().cloned().collect::<Vec<_>>().join(", ");
    let why = if networks.is_empty() {
        "none of its policies lets it look itself up".to_owned()
    } else {
        format!("it is bound to {}", sanitize(&networks))
    };
    CallError::rejected(
        ErrorKind::Denied,
        format!("the token is alive, but it cannot be tried from here: {why}"),
    )
    .hint(
        "give it the policy `default`, or a network that this machine is in; stanch cannot tell whether it \
             works until it can use it",
    )
}

/// The token, if its shape is that of one: what is none is sent nowhere.
fn token(material: &Material) -> Result<&Secret, CallError> {
    let odd = |c: char| !(c.is_ascii_alphanumeric() || "._~+/=:-".contains(c));
    sendable(material, "a Vault token", LONGEST_TOKEN, odd, "it holds a character that no token has")
}

#[async_trait]
impl Issuer for TokenIssuer {
    fn traits(&self) -> IssuerTraits {
        VaultToken::TRAITS
    }

    async fn preflight(&self, outgoing: Option<&Identity>) -> Vec<Check> {
        self.checks(outgoing).await
    }

    async fn before_revoking(&self, outgoing: &Identity) -> Check {
        match known_own_token(&self.client).await {
            Ok(own) => self.outlives(&own, outgoing).await,
            Err(error) => error.to_check("own token"),
        }
    }

    async fn warm(&self) {
        self.ask_ahead().await;
    }

    async fn identify(&self, material: &Material) -> Result<Option<Standing>, CallError> {
        let token = token(material)?;
        let info = self.lookup_for(token).await.map_err(|error| scrubbed(error, material))?;
        let Some(info) = info else { return Ok(None) };
        if info.is_wrapping() {
            return Err(CallError::rejected(
                ErrorKind::Invalid,
                "the store holds a response-wrapping token, not the credential: the wrapped token would stay valid \
                 after a rotation",
            )
            .hint(
                "unwrap it with `vault unwrap` (VAULT_TOKEN set to the wrapping token), write the token that this \
                 prints to the store, then plan again",
            ));
        }
        if info.is_batch() {
            let until = info
                .expire_time
                .as_deref()
                .map_or(String::new(), |at| format!(", and ends at {}", sanitize(at)));
            return Err(CallError::rejected(
                ErrorKind::Invalid,
                format!("the old credential is a batch token: it cannot be revoked{until}"),
            )
            .hint("revoke the token that it was made with, or the auth method's role; then write a service token"));
        }
        self.client.facts.identified.set(&token.sha256_hex(), info.accessor.clone());
        self.client.facts.revoked.set(&info.accessor, false);
        Ok(Some(Standing {
            identity: Identity { handle: info.accessor, principal: sanitize(&info.display_name) },
            life: Life::Active,
            uses_left: (info.num_uses != 0).then_some(u64::try_from(info.num_uses).unwrap_or(0)),
        }))
    }

    fn candidate(&self, _: &CallContext) -> Option<Material> {
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
        // Parameters that say nothing are left out: a policy may allow only some.
        let sent = match &self.spec.role {
            Some(role) => {
                let found = match self.spec.max_ttl {
                    Some(max) if max <= self.spec.ttl => match self.role().await {
                        // What may not be read is settled by asking for no renewals.
                        Some(Err(error)) if error.kind != ErrorKind::Denied => return Err(error.read_only()),
                        found => found.and_then(Result::ok),
                    },
                    _ => None,
                };
                let mut endpoint = CreateRoleTokenRequest::builder();
                endpoint.role_name(role).display_name(name).meta(meta);
                endpoint.policies(self.spec.policies.clone()).ttl(ttl);
                if self.is_fixed(found.as_deref()) {
                    endpoint.renewable(false);
                }
                if uses > 0 {
                    endpoint.num_uses(uses);
                }
                if let Some(max) = max {
                    endpoint.explicit_max_ttl(max);
                }
                self.client.send(endpoint.build().map_err(|_| unsendable(&path))?, Effect::Write).await
            }
            None => {
                let mut endpoint = CreateOrphanTokenRequest::builder();
                endpoint.display_name(name).meta(meta);
                endpoint.policies(self.spec.policies.clone()).ttl(ttl);
                if uses > 0 {
                    endpoint.num_uses(uses);
                }
                if let Some(max) = max {
                    endpoint.explicit_max_ttl(max);
                }
                self.client.send(endpoint.build().map_err(|_| unsendable(&path))?, Effect::Write).await
            }
        };
        let made = auth(&sent?, &path)?;
        if !is_name(&made.accessor) || !is_name(&made.client_token) {
            return Err(malformed_response(&path));
        }
        Ok(Issued {
            identity: Identity {
                handle: made.accessor,
                principal: format!("token-stanch-{}", self.spec.name),
            },
            material: Material::single(PART, Secret::new(made.client_token)),
        })
    }

    async fn find(&self, context: &CallContext, before: &[String]) -> Result<Vec<String>, CallError> {
        self.search(context, before, &[]).await
    }

    async fn twins(
        &self,
        context: &CallContext,
        before: &[String],
        expected: &[String],
    ) -> Result<Vec<String>, CallError> {
        self.search(context, before, expected).await
    }

    async fn existing(&self) -> Result<Vec<String>, CallError> {
        // The tags tell ours from others'.
        Ok(Vec::new())
    }

    async fn created(&self, handle: &str) -> Result<Option<Timestamp>, CallError> {
        let info = self.lookup(handle).await?;
        Ok(info
            .filter(|info| info.creation_time > 0)
            .and_then(|i| Timestamp::from_second(i.creation_time).ok()))
    }

    async fn inspect(&self, handle: &str) -> Result<Grant, CallError> {
        let info = self.lookup(handle).await?.ok_or_else(|| {
            CallError::rejected(ErrorKind::NotFound, "Vault knows no token under this accessor")
        })?;
        // A token's own maximum gives way to its role's when it is renewed.
        let role = match self.role().await {
            Some(Err(error)) if error.kind.is_transient() => return Err(error),
            role => role,
        };
        let role = role.as_ref().map(|role| role.as_deref().map_err(|_| ()));
        grant(&info, &self.spec, role)
    }

    async fn life(&self, handle: &str) -> Result<Life, CallError> {
        let facts = &self.client.facts;
        if facts.gone.has(handle) {
            return Ok(Life::Gone);
        }
        if let Some(info) = self.lookup(handle).await? {
            // Whoever asks whether it is a parent need not look it up again.
            facts.births.set(handle, info.birth());
            return Ok(Life::Active);
        }
        // Both are needed: a node that lags behind may not know a token yet that lives.
        if facts.revoked.get(handle) == Some(true) {
            facts.gone.set(handle, ());
        }
        Ok(Life::Gone)
    }

    async fn disable(&self, _: &CallContext, _: &str) -> Result<(), CallError> {
        Err(CallError::rejected(ErrorKind::Unsupported, "Vault cannot disable a token reversibly"))
    }

    async fn enable(&self, _: &CallContext, _: &str) -> Result<(), CallError> {
        Err(CallError::rejected(ErrorKind::Unsupported, "Vault cannot disable a token reversibly"))
    }

    async fn revoke(&self, _: &CallContext, handle: &str, _: Option<&Material>) -> Result<(), CallError> {
        revoke(&self.client, handle).await?;
        // One that this run made is not among them: a lagging node is asked about that more than once.
        if self.client.facts.revoked.get(handle).is_some() {
            self.client.facts.revoked.set(handle, true);
        }
        Ok(())
    }

    async fn attempt(&self, material: &Material) -> Result<Use, CallError> {
        let introduced = self.introduce(token(material)?).await;
        Ok(match introduced.map_err(|error| scrubbed(error, material))? {
            Some(_) => Use::Accepted,
            None => Use::Refused(format!("{}: 403 invalid token", self.client.place())),
        })
    }
}

#[async_trait]
impl IssuerServer for VaultToken {
    async fn connect(
        &self,
        name: &str,
        credential: &Credential,
        at: &RealProvider,
    ) -> Result<Arc<dyn Issuer>, CallError> {
        let spec = TokenSpec {
            name: name.to_owned(),
            role: self.role.clone(),
            policies: self.policies.clone(),
            ttl: self.ttl.get(),
            max_ttl: credential.scope.max_ttl.map(|period| period.get()),
            num_uses: self.num_uses,
            bound_cidrs: self.bound_cidrs.clone(),
            audience: credential.scope.audience.clone(),
        };
        Ok(Arc::new(TokenIssuer::new(at.client(&self.connection).await?, spec)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_not_the_shape_of_a_token_is_none() {
        let shape = |text: &str| token(&Material::single("token", Secret::new(text))).map(|_| ());
        for text in
            ["root", "hvs.CAESI-_x", "s.6mTgxVCoIFlvKCtXnsdd7lfo", "8f3a-uuid", "hvb.AAA=", "hvs.x.ns1"]
        {
            assert!(shape(text).is_ok(), "{text}");
        }
        for text in
            ["", " ", "hvs.hunter2\n", "hvs.hunter2 x", "\"hvs.hunter2\"", "{\"t\":1}", "hvs.hunt\u{200b}er2"]
        {
            let error = shape(text).expect_err(text);
            assert_eq!(error.kind, ErrorKind::Invalid);
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
        assert!(shape(&"x".repeat(LONGEST_TOKEN + 1)).is_err());
    }
}
