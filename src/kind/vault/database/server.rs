//! Leases of the database secrets engine, each held by a token of its own.
//!
//! A lease has no place for a tag, and ends with the token that asked for it: were that the token that stanch works with,
//! the application would lose its login when a person logs out. So each lease gets a token without a parent, which
//! carries the tags of run and step, lives as long as the runbook says, and whose value is forgotten.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rustify::enums::RequestMethod;
use serde::Deserialize;

use super::spec::{VaultDatabase, split, tag};
use crate::domain::{Check, ErrorKind, Identity, IssuerTraits, Life, Standing};
use crate::kind::postgres::PgClient;
use crate::kind::real::{IssuerServer, RealProvider};
use crate::kind::spec::{IssuerSpec as _, PASSWORD, USERNAME};
use crate::kind::vault::client::{Effect, VaultClient, malformed_response};
use crate::kind::vault::fault::scrubbed;
use crate::kind::vault::leases::{self, Lease, irrevocable, list, revoke_one};
use crate::kind::vault::lookup::{each, lookup, revoke};
use crate::kind::vault::shape::{is_segment, mount};
use crate::kind::vault::token::{TokenIssuer, TokenSpec};
use crate::kind::vault::token_info::RUN;
use crate::provider::outcome::CallError;
use crate::provider::{CallContext, Grant, Issued, Issuer, Use};
use crate::runbook::model::Credential;
use crate::secret::{Material, Secret};
use crate::text::{is_name, sanitize};

impl VaultDatabase {
    /// A path below the secrets engine.
    pub(super) fn path(&self, below: &str) -> String {
        format!("{}/{below}/{}", self.mount.trim_matches('/'), self.role)
    }

    /// What the ids of the role's leases begin with, without the slash that follows.
    pub(super) fn prefix(&self) -> String {
        self.path("creds")
    }
}

/// How often a token that holds a lease may be used: once more than it is. Something between stanch and the server may
/// send the request for a login twice. The second is then the last use, for which the server gives no lease and revokes
/// the token with what it holds: a login that was made twice is not left behind.
const HOLDER_USES: u32 = 2;

/// What the server says of that last use.
const LAST_USE: &str = "one use left";

/// How far the server's clock may be from this machine's, to tell which leases are older than a step.
const SKEW: SignedDuration = SignedDuration::from_secs(5);

/// The handle that [`split`] takes apart.
fn joined(lease: &str, holder: &str) -> String {
    format!("{lease}@{holder}")
}

/// Issues logins of databases.
pub struct LeaseIssuer {
    pub(super) client: Arc<VaultClient>,
    pub(super) spec: VaultDatabase,
    /// Makes the tokens that hold the leases.
    pub(super) holders: TokenIssuer,
    login: Option<Arc<PgClient>>,
}

impl LeaseIssuer {
    /// Logins as `spec` says, of the credential `name`. `login` is where they are tried, if anywhere.
    ///
    /// # Errors
    /// When its names cannot be parts of a path.
    pub fn new(
        client: Arc<VaultClient>,
        name: &str,
        spec: VaultDatabase,
        login: Option<Arc<PgClient>>,
    ) -> Result<Self, CallError> {
        let invalid = |message: String| CallError::rejected(ErrorKind::Invalid, message);
        let Some(mount) = mount(&spec.mount) else {
            let message = format!("`{}` is not the path of a secrets engine", sanitize(&spec.mount));
            return Err(invalid(message).hint("correct `mount` in the runbook"));
        };
        let roles = [("role", Some(&spec.role)), ("token_role", spec.token_role.as_ref())];
        for (field, role) in roles {
            if let Some(role) = role.filter(|role| !is_segment(role)) {
                let message = format!("`{}` cannot be the name of a role", sanitize(role));
                return Err(invalid(message).hint(format!("correct `{field}` of the issuer")));
            }
        }
        let tokens = TokenSpec {
            name: name.to_owned(),
            role: spec.token_role.clone(),
            policies: spec.policies.clone(),
            ttl: spec.ttl.get(),
            // So that nobody can make it live for longer.
            max_ttl: Some(spec.ttl.get()),
            num_uses: HOLDER_USES,
            bound_cidrs: Vec::new(),
            audience: None,
        };
        let holders = TokenIssuer::for_leases(Arc::clone(&client), tokens);
        Ok(Self { client, spec: VaultDatabase { mount, ..spec }, holders, login })
    }

    /// The two halves of a handle of this role's.
    fn halves<'a>(&self, handle: &'a str) -> Result<(&'a str, &'a str), CallError> {
        let (lease, holder) = split(handle);
        let prefix = self.spec.prefix();
        let rest = lease.strip_prefix(&prefix).and_then(|rest| rest.strip_prefix('/'));
        let fits = match (rest, holder) {
            (None, holder) => lease.is_empty() && !holder.is_empty(),
            (Some(rest), _) => is_segment(rest),
        };
        if fits && (holder.is_empty() || is_name(holder)) {
            return Ok((lease, holder));
        }
        // Not repeated: a store's field may hold a password in its place.
        let message = format!("the handle is not a lease of {prefix}");
        Err(CallError::rejected(ErrorKind::Invalid, message).hint(format!(
            "give the whole id of the lease, as in {prefix}/LEASE; and check `mount` and `role`"
        )))
    }

    /// What Vault knows of a lease.
    pub(super) async fn lease(&self, lease: &str) -> Result<Option<Lease>, CallError> {
        leases::lookup(&self.client, lease).await
    }

    /// Whether the token that a handle names as the lease's lives.
    ///
    /// # Errors
    /// When it was not made to hold a lease: whoever can write the secret could name any token there.
    async fn is_held(&self, holder: &str) -> Result<bool, CallError> {
        let Some(token) = lookup(&self.client, holder).await? else { return Ok(false) };
        match token.meta.as_ref().and_then(|meta| meta.get(RUN)).is_some_and(|run| run.ends_with(&tag(""))) {
            true => Ok(true),
            false => Err(CallError::rejected(
                ErrorKind::Invalid,
                format!("the token with the accessor {holder} was not made by stanch to hold a lease"),
            )
            .hint("stanch does not revoke it; correct the part `lease` in the store: the id of the lease, without `@`")),
        }
    }

    /// The leases of the role whose end has come, and which the server has not revoked yet. Those of a token are among
    /// them once it is revoked, until they are gone. Older ones than `since` are others'.
    async fn overdue(&self, since: Option<Timestamp>) -> Result<Vec<String>, CallError> {
        let earliest = since.map(|since| since.saturating_sub(SKEW).unwrap_or(Timestamp::MIN));
        let known = each(list(&self.client, &self.spec.prefix()).await?, |lease| {
            let client = Arc::clone(&self.client);
            async move {
                let found = leases::lookup(&client, &lease).await?;
                let ours = |found: &Lease| {
                    let made = found.issue_time.parse::<Timestamp>();
                    earliest.is_none_or(|earliest| made.is_ok_and(|made| made >= earliest))
                };
                Ok(found.filter(Lease::is_overdue).filter(ours).map(|_| lease))
            }
        });
        let mut overdue = known.await?;
        overdue.sort();
        Ok(overdue)
    }

    /// Asks for a login with the token that is to hold its lease.
    async fn log_in(&self, token: &Secret, holder: &str) -> Result<Issued, CallError> {
        #[derive(Deserialize)]
        struct Made {
            lease_id: String,
            data: Login,
        }
        #[derive(Deserialize)]
        struct Login {
            username: String,
            password: String,
        }
        let path = self.spec.prefix();
        let reply = self.client.plain_as(RequestMethod::GET, &path, None, Some(token), Effect::Write).await?;
        if !reply.status.is_success() {
            let error = self.client.fault(&reply, &format!("GET {path}"), Effect::Write).await;
            return Err(match error.kind {
                ErrorKind::Denied | ErrorKind::Refused => CallError {
                    kind: ErrorKind::Denied,
                    ..error
                }
                .hint(format!(
                    "one of `policies` of the issuer must grant it: `path \"{path}\" {{ capabilities = [\"read\"] }}`"
                )),
                // The response of the first may be what was lost.
                _ if error.message.contains(LAST_USE) => error.doubtful(),
                _ => error,
            });
        }
        let made: Made = serde_json::from_slice(&reply.body).map_err(|_| malformed_response(&path))?;
        let handle = joined(&made.lease_id, holder);
        if made.lease_id.is_empty() || self.halves(&handle).is_err() {
            return Err(malformed_response(&path));
        }
        let (username, password) = (Secret::new(made.data.username), Secret::new(made.data.password));
        Ok(Issued {
            identity: Identity { handle: handle.clone(), principal: sanitize(username.expose()) },
            material: Material::single(USERNAME, username)
                .with(PASSWORD, password)
                .with(VaultDatabase::LEASE, Secret::new(handle)),
        })
    }

    /// Revokes a lease, and sees that it is gone.
    async fn end(&self, lease: &str) -> Result<(), CallError> {
        let said = match revoke_one(&self.client, lease).await {
            Ok(()) => None,
            // The database refused, or did not answer: part of it may be done.
            Err(error) if error.in_doubt || error.kind == ErrorKind::Invalid => Some(error),
            Err(error) => return Err(error),
        };
        if self.lease(lease).await.map_err(CallError::doubtful)?.is_none() {
            return Ok(());
        }
        let Some(said) = said else {
            let place = self.client.place();
            return Err(CallError::unknown(format!(
                "{place} took the request to revoke the lease {lease}, and still knows it"
            )));
        };
        let given_up = match irrevocable(&self.client, &self.spec.prefix()).await {
            Ok(all) if all.iter().any(|one| one.starts_with(lease)) => {
                "; the server has given up on it (irrevocable)"
            }
            Ok(_) => "",
            Err(_) => "; whether the server has given up on it (irrevocable) is unknown",
        };
        // Without what was asked: messages are bounded.
        let said = said.message.split_once("): ").map_or(said.message.as_str(), |(_, said)| said);
        let message = format!("the lease {lease} could not be revoked{given_up}; the server said: {said}");
        Err(CallError::unknown(message).hint(format!(
            "its login may still be valid: make the database let go of the user (`REASSIGN OWNED` where it owns objects), or correct the \
             revocation statements of {}; then resume",
            self.spec.path("roles")
        )))
    }
}

/// The handle of a credential, where it has one.
fn handle(material: &Material) -> Result<&str, CallError> {
    let invalid = |why: &str| {
        CallError::rejected(ErrorKind::Invalid, format!("the value cannot be a login with its lease: {why}"))
            .hint("compare the store's fields and `fields` in the runbook: `lease` holds the id of the lease that came with the login")
    };
    for part in [USERNAME, PASSWORD] {
        if material.part(part).is_none_or(|part| part.expose().is_empty()) {
            return Err(invalid("a part is missing"));
        }
    }
    let lease = material.part(VaultDatabase::LEASE).ok_or_else(|| invalid("the lease is missing"))?;
    let is_whole = |lease: &str| is_name(lease) && !split(lease).0.is_empty();
    if is_whole(lease.expose()) { Ok(lease.expose()) } else { Err(invalid("the lease is not one")) }
}

/// The same step, as the tokens that hold leases are tagged: each round has tokens of its own, since only the last round
/// knows which lease one of them holds.
fn tagged(context: &CallContext) -> CallContext {
    let step = format!("{}/{}", context.step, context.token);
    CallContext { run: tag(&context.run), step, ..context.clone() }
}

/// The handles of the credentials that these tokens hold: with the lease, where the run knows it.
fn named(holders: Vec<String>, context: &CallContext, known: &[String]) -> Vec<String> {
    let held = context.held.as_ref().and_then(|held| held.part(VaultDatabase::LEASE));
    let known: Vec<&str> =
        held.map(Secret::expose).into_iter().chain(known.iter().map(String::as_str)).collect();
    let handle = |holder: String| match known.iter().find(|handle| split(handle).1 == holder) {
        Some(handle) => (*handle).to_owned(),
        None => joined("", &holder),
    };
    holders.into_iter().map(handle).collect()
}

#[async_trait]
impl Issuer for LeaseIssuer {
    fn traits(&self) -> IssuerTraits {
        self.spec.traits()
    }

    async fn preflight(&self, outgoing: Option<&Identity>) -> Vec<Check> {
        self.checks(outgoing).await
    }

    async fn before_revoking(&self, outgoing: &Identity) -> Check {
        match self.halves(&outgoing.handle) {
            Ok((_, "")) => Check::pass("own token", "stanch does not work with a login of a database"),
            Ok((_, holder)) => self.holders.before_revoking(&held_by(outgoing, holder)).await,
            Err(error) => error.to_check("lease"),
        }
    }

    async fn warm(&self) {
        self.holders.warm().await;
    }

    async fn identify(&self, material: &Material) -> Result<Option<Standing>, CallError> {
        let handle = handle(material)?;
        let life = self.life(handle).await?;
        let username = material.part(USERNAME).map(|name| sanitize(name.expose())).unwrap_or_default();
        let identity = Identity { handle: handle.to_owned(), principal: username };
        Ok((life != Life::Gone).then_some(Standing { identity, life, uses_left: None }))
    }

    fn candidate(&self, _: &CallContext) -> Option<Material> {
        None
    }

    /// First the token, with the tags: whatever is lost after that is found by them, and ends with it.
    async fn issue(&self, context: &CallContext, _: Option<&Material>) -> Result<Issued, CallError> {
        let made = self.holders.issue(&tagged(context), None).await?;
        let (holder, token) = (&made.identity.handle, made.material.main());
        let token = token.ok_or_else(|| malformed_response("the request for a token"))?;
        let error = match self.log_in(token, holder).await {
            Ok(issued) => return Ok(issued),
            Err(error) => scrubbed(error, &made.material),
        };
        if error.in_doubt {
            return Err(error);
        }
        // No lease was made, so that nothing else hangs on the token.
        match revoke(&self.client, holder).await {
            Ok(()) => Err(error),
            Err(_) => Err(error.doubtful()),
        }
    }

    /// The tokens that were made for this. Which lease one holds, the server does not tell; the run may know it.
    async fn find(&self, context: &CallContext, _: &[String]) -> Result<Vec<String>, CallError> {
        let found = self.holders.find(&tagged(context), &[]).await?;
        Ok(named(found, context, &[]))
    }

    async fn twins(
        &self,
        context: &CallContext,
        _: &[String],
        expected: &[String],
    ) -> Result<Vec<String>, CallError> {
        let holders: Vec<String> = expected.iter().map(|handle| split(handle).1.to_owned()).collect();
        let found = self.holders.twins(&tagged(context), &[], &holders).await?;
        Ok(named(found, context, expected))
    }

    async fn existing(&self) -> Result<Vec<String>, CallError> {
        // The tags tell ours from others'.
        Ok(Vec::new())
    }

    async fn created(&self, handle: &str) -> Result<Option<Timestamp>, CallError> {
        match self.halves(handle)? {
            ("", holder) => self.holders.created(holder).await,
            (lease, _) => Ok(self.lease(lease).await?.and_then(|lease| lease.issue_time.parse().ok())),
        }
    }

    async fn inspect(&self, handle: &str) -> Result<Grant, CallError> {
        let (lease, holder) = self.halves(handle)?;
        let unknown = || {
            CallError::rejected(
                ErrorKind::NotFound,
                "Vault does not know this lease, or the token that holds it",
            )
        };
        if lease.is_empty() || holder.is_empty() {
            return Err(unknown());
        }
        let found = self.lease(lease).await?.ok_or_else(unknown)?;
        let (held, role) = tokio::try_join!(self.holders.inspect(holder), self.role())?;
        let parse = |text: &str| text.parse::<Timestamp>().ok();
        let made = parse(&found.issue_time);
        let ends = found.expire_time.as_deref().and_then(parse);
        let lives =
            made.zip(ends).and_then(|(made, ends)| Duration::try_from(ends.duration_since(made)).ok());
        // Whole seconds, as the server counts them.
        let lives = lives.map(|lives| Duration::from_secs(lives.as_secs_f64().round() as u64));
        let most = role.and_then(|role| role.longest());
        let longest = if found.renewable { most } else { lives };
        let within = |one: Option<Duration>| one.into_iter().chain(held.ttl).min();
        Ok(Grant { policies: None, ttl: within(longest), lives: within(lives), audience: None, ..held })
    }

    /// A lease that the server knows counts as alive, also past its end: the user is then not removed yet.
    async fn life(&self, handle: &str) -> Result<Life, CallError> {
        let (lease, holder) = self.halves(handle)?;
        if !lease.is_empty() && self.lease(lease).await?.is_some() {
            return Ok(Life::Active);
        }
        if !holder.is_empty() && self.is_held(holder).await? {
            return Ok(if lease.is_empty() { Life::Active } else { Life::Deleted });
        }
        if lease.is_empty() && !self.overdue(None).await?.is_empty() {
            return Ok(Life::Deleted);
        }
        Ok(Life::Gone)
    }

    async fn disable(&self, _: &CallContext, _: &str) -> Result<(), CallError> {
        Err(CallError::rejected(ErrorKind::Unsupported, "Vault cannot disable a lease reversibly"))
    }

    async fn enable(&self, _: &CallContext, _: &str) -> Result<(), CallError> {
        Err(CallError::rejected(ErrorKind::Unsupported, "Vault cannot disable a lease reversibly"))
    }

    async fn revoke(
        &self,
        context: &CallContext,
        handle: &str,
        _: Option<&Material>,
    ) -> Result<(), CallError> {
        let (lease, holder) = self.halves(handle)?;
        if !holder.is_empty() {
            self.is_held(holder).await?;
        }
        if !lease.is_empty() {
            self.end(lease).await?;
            // What held it is of no use now.
            return match holder {
                "" => Ok(()),
                holder => revoke(&self.client, holder).await.map_err(CallError::doubtful),
            };
        }
        revoke(&self.client, holder).await?;
        // The server ends the leases of a dead token after it answers. Those whose end has come are to be revoked in any case.
        for lease in self.overdue(Some(context.since)).await.map_err(CallError::doubtful)? {
            self.end(&lease).await.map_err(CallError::doubtful)?;
        }
        Ok(())
    }

    async fn attempt(&self, material: &Material) -> Result<Use, CallError> {
        match &self.login {
            Some(server) => {
                let database = self.spec.login.as_ref().and_then(|login| login.database.as_deref());
                server.attempt(material, database).await
            }
            None => Err(CallError::rejected(
                ErrorKind::Unsupported,
                "stanch does not know where to log in: `login` of the issuer is not set",
            )),
        }
    }
}

/// The token that holds a lease, as its own issuer knows it.
pub(super) fn held_by(outgoing: &Identity, holder: &str) -> Identity {
    Identity { handle: holder.to_owned(), principal: outgoing.principal.clone() }
}

#[async_trait]
impl IssuerServer for VaultDatabase {
    async fn connect(
        &self,
        name: &str,
        _: &Credential,
        at: &RealProvider,
    ) -> Result<Arc<dyn Issuer>, CallError> {
        let login = match &self.login {
            Some(login) => Some(at.client(&login.connection).await?),
            None => None,
        };
        Ok(Arc::new(LeaseIssuer::new(at.client(&self.connection).await?, name, self.clone(), login)?))
    }
}
