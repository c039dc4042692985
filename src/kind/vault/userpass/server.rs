//! Users with a password: made under a name that says whose they are, disabled by their networks, deleted by name, with
//! their logins.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use rustify::enums::RequestMethod;
use serde::Deserialize;
use serde_json::{Value, json};

use super::spec::{EndLogins, LENGTH, VaultUserpass, can_begin, digest, is_user};
use super::user::{NOWHERE, User, bound_to, settings};
use crate::domain::{Check, ErrorKind, Identity, IssuerTraits, Life, Standing};
use crate::kind::real::{IssuerServer, RealProvider};
use crate::kind::spec::{PASSWORD, USERNAME};
use crate::kind::vault::client::{Effect, VaultClient, data, malformed_response};
use crate::kind::vault::fault::scrubbed;
use crate::kind::vault::logins::{end, logins};
use crate::kind::vault::lookup::revoke;
use crate::kind::vault::preflight::known_own_token;
use crate::kind::vault::shape::{is_empty_list, mount};
use crate::kind::vault::token_info::{Login, TokenInfo};
use crate::provider::outcome::CallError;
use crate::provider::{CallContext, Grant, Issued, Issuer, Use};
use crate::runbook::model::Credential;
use crate::secret::{Alphabet, Material, Recipe, Secret};
use crate::text::sanitize;

/// What Vault and OpenBao say of a login with another password, or of a user that they do not have.
const REFUSAL: &str = "invalid username or password";

/// Issues users.
pub struct UserIssuer {
    pub(super) client: Arc<VaultClient>,
    pub(super) spec: VaultUserpass,
    recipe: Recipe,
}

/// A user name and a password.
struct Pair<'a> {
    user: String,
    password: &'a Secret,
}

impl UserIssuer {
    /// Users as `spec` says.
    ///
    /// # Errors
    /// When its names cannot be parts of a path, or of a user's name.
    pub fn new(client: Arc<VaultClient>, spec: VaultUserpass) -> Result<Self, CallError> {
        let invalid = |message: String| CallError::rejected(ErrorKind::Invalid, message);
        let Some(mount) = mount(&spec.mount) else {
            let message = format!("`{}` is not the path of an auth method", sanitize(&spec.mount));
            return Err(invalid(message).hint("correct `mount` in the runbook"));
        };
        if !can_begin(&spec.name) {
            return Err(invalid(format!(
                "`{}` cannot begin the name of a user of Vault",
                sanitize(&spec.name)
            ))
            .hint("correct `name` of the issuer: letters, digits, `_`, `-` and `.`"));
        }
        if spec.bound_cidrs.iter().any(|cidr| cidr.starts_with(NOWHERE)) {
            return Err(invalid(format!(
                "`bound_cidrs` names {NOWHERE}: that is how stanch disables a user"
            ))
            .hint("correct `bound_cidrs` of the issuer"));
        }
        let recipe =
            Recipe::new(Alphabet::Alphanumeric, LENGTH).map_err(|error| invalid(error.to_string()))?;
        Ok(Self { client, spec: VaultUserpass { mount, ..spec }, recipe })
    }

    /// The path of a user.
    ///
    /// # Errors
    /// When no user can have this name.
    fn path(&self, user: &str) -> Result<String, CallError> {
        if is_user(user) {
            return Ok(self.spec.path(user));
        }
        let message = format!("`{}` cannot be the name of a user of Vault", sanitize(user));
        Err(CallError::rejected(ErrorKind::Invalid, message).hint("the handle is the user's name"))
    }

    /// A user as it is now; `None` where the auth method has none of this name.
    pub(super) async fn user(&self, name: &str) -> Result<Option<User>, CallError> {
        let path = self.path(name)?;
        let reply = self.client.plain_reply(RequestMethod::GET, &path, None, Effect::Read).await?;
        match reply.status.as_u16() {
            200 => {
                let user = User(data(&reply, &path)?);
                // Servers show it of every user, and of nothing else.
                match user.0.contains_key("token_policies") {
                    true => Ok(Some(user)),
                    false => Err(malformed_response(&path).read_only()),
                }
            }
            404 if is_empty_list(&reply) => Ok(None),
            _ => Err(self.client.fault(&reply, &format!("GET {path}"), Effect::Read).await),
        }
    }

    async fn known(&self, name: &str) -> Result<User, CallError> {
        self.user(name).await?.ok_or_else(|| {
            let message = format!("{} has no user {}", self.client.place(), sanitize(name));
            CallError::rejected(ErrorKind::NotFound, message)
        })
    }

    /// The logins of a user.
    pub(super) async fn logins(&self, user: &str) -> Result<Vec<TokenInfo>, CallError> {
        logins(&self.client, |login| self.is_login_of(login, user)).await
    }

    /// Whether a token is a login of this user.
    pub(super) fn is_login_of(&self, login: &Login, user: &str) -> bool {
        is_login(&login.path, &self.spec.mount, user)
    }

    /// Where a user logs in.
    fn login(&self, user: &str) -> String {
        format!("auth/{}/login/{user}", self.spec.mount)
    }

    async fn end_logins(&self, user: &str) -> Result<(), CallError> {
        for login in self.logins(user).await? {
            revoke(&self.client, &login.accessor).await?;
        }
        Ok(())
    }

    /// Writes fields of a user, and returns what the server shows of it then: a success of something in front of the
    /// server is none.
    async fn write(&self, user: &str, fields: &BTreeMap<String, Value>) -> Result<User, CallError> {
        let (path, body) = (self.path(user)?, json!(fields).to_string().into_bytes());
        // A user that is gone is not made again where the fields lack a password.
        self.client.plain(RequestMethod::POST, &path, Some(body), Effect::Write).await?;
        let shown = self.user(user).await.map_err(CallError::doubtful)?;
        shown.ok_or_else(|| {
            let (place, user) = (self.client.place(), sanitize(user));
            CallError::unknown(format!(
                "{place} took what was written of the user {user}, and has no such user"
            ))
        })
    }

    /// Lets a user log in from these networks only, and so leads to this.
    async fn bind(&self, user: &str, networks: &[String], to: Life) -> Result<(), CallError> {
        if self.write(user, &bound_to(networks)).await?.life() == to {
            return Ok(());
        }
        let message = format!("{} took the networks of the user, and shows others", self.client.place());
        Err(CallError::unknown(message))
    }

    /// Logs in, and revokes the login.
    async fn log_in(&self, Pair { user, password }: &Pair<'_>) -> Result<Use, CallError> {
        let path = self.login(user);
        let body = json!({ "password": password.expose() }).to_string().into_bytes();
        let reply = self.client.plain_as(RequestMethod::POST, &path, Some(body), None, Effect::Read).await?;
        if reply.status.is_success() {
            return end(&self.client, &reply, &path, "the password").await;
        }
        let said = self.client.said(&reply);
        match reply.status.as_u16() {
            400 if said == REFUSAL => Ok(Use::Refused(format!("{}: 400 {REFUSAL}", self.client.place()))),
            403 => self.why_denied(user, &said).await,
            _ => Err(self.client.fault(&reply, &format!("POST {path}"), Effect::Read).await),
        }
    }

    /// What a 403 is about: the server says the same words of a user that is bound to other networks, and of one that
    /// is locked after logins with a wrong password, be its password dead or alive.
    async fn why_denied(&self, user: &str, said: &str) -> Result<Use, CallError> {
        let place = self.client.place();
        let unclear = |why: &str| {
            CallError::rejected(
                ErrorKind::Denied,
                format!("{place} refused the login (403) without a reason: {said}; {why}"),
            )
        };
        let networks = "the user may be bound to other networks than this machine's";
        Err(match self.user(user).await? {
            Some(found) if found.life() == Life::Disabled => {
                return Ok(Use::Refused(format!("{place}: 403 {said}: the user is disabled")));
            }
            Some(found) if !found.has_networks_of(&self.spec) || !self.spec.bound_cidrs.is_empty() => {
                unclear(&format!("{networks}, or locked")).hint(format!(
                    "compare `vault read {}` and `vault read sys/locked-users`",
                    self.spec.path(user)
                ))
            }
            _ => unclear("the user may be locked after logins with a wrong password").hint(
                "see `vault read sys/locked-users`; unlock the user (`vault write -f sys/locked-users/MOUNT-ACCESSOR/unlock/USER`), or wait until the lock ends, then resume",
            ),
        })
    }

    fn principal(&self) -> String {
        format!("userpass {}", sanitize(&self.spec.name))
    }
}

/// Whether this is the path of a login of a user. A server writes the name as the program that logged in spelled it, and
/// compares it without case; the path of the auth method it compares as it is.
fn is_login(path: &str, mount: &str, user: &str) -> bool {
    let rest = path.strip_prefix("auth/").and_then(|rest| rest.strip_prefix(mount));
    let name = rest.and_then(|rest| rest.strip_prefix("/login/"));
    name.is_some_and(|name| name.to_lowercase() == user.to_lowercase())
}

/// The user name and password that a credential is, where it can be one: what cannot is sent nowhere.
///
/// # Errors
/// [`ErrorKind::Invalid`], with a sentence that quotes nothing.
fn pair(material: &Material) -> Result<Pair<'_>, CallError> {
    let invalid = |why: &str| {
        CallError::rejected(ErrorKind::Invalid, format!("the value cannot be a user of Vault: {why}"))
            .hint("compare the store's fields and `fields` in the runbook; nothing was sent to Vault")
    };
    let part = |name: &str| material.part(name).ok_or_else(|| invalid("a part is missing"));
    let (user, password) = (part(USERNAME)?, part(PASSWORD)?);
    // Vault keeps names in lower case, and takes them in any.
    let user = user.expose().to_ascii_lowercase();
    if !is_user(&user) {
        return Err(invalid("the user name is empty, too long, or has a character that none has"));
    }
    if password.expose().is_empty() {
        return Err(invalid("the password is empty"));
    }
    Ok(Pair { user, password })
}

#[async_trait]
impl Issuer for UserIssuer {
    fn traits(&self) -> IssuerTraits {
        VaultUserpass::TRAITS
    }

    async fn preflight(&self, outgoing: Option<&Identity>) -> Vec<Check> {
        self.checks(outgoing.map(|outgoing| outgoing.handle.as_str())).await
    }

    async fn before_revoking(&self, outgoing: &Identity) -> Check {
        let (own, logins) = tokio::join!(known_own_token(&self.client), self.logins(&outgoing.handle));
        match own.and_then(|own| Ok((own, logins?))) {
            Ok((own, logins)) => self.own_check(&own, Some(&outgoing.handle), &logins),
            Err(error) => error.to_check("own token"),
        }
    }

    async fn full_handle(&self, handle: &str) -> Result<String, CallError> {
        Ok(handle.to_ascii_lowercase())
    }

    async fn identify(&self, material: &Material) -> Result<Option<Standing>, CallError> {
        let Pair { user, .. } = pair(material)?;
        // Of one that was deleted by hand, logins may be left to end.
        let life = self.life(&user).await?;
        let identity = Identity { handle: user, principal: self.principal() };
        Ok((life != Life::Gone).then_some(Standing { identity, life, uses_left: None }))
    }

    fn candidate(&self, context: &CallContext) -> Option<Material> {
        let user = format!("{}{}", self.spec.names_of(&context.run), digest(context.token.as_bytes()));
        let name = Material::single(USERNAME, Secret::new(user));
        Some(name.with(PASSWORD, self.recipe.generate()))
    }

    async fn issue(&self, _: &CallContext, candidate: Option<&Material>) -> Result<Issued, CallError> {
        let candidate = candidate.ok_or_else(|| {
            CallError::rejected(ErrorKind::Invalid, "there is no password to make a user with")
        })?;
        let pair = pair(candidate)?;
        let issued = || Issued {
            identity: Identity { handle: pair.user.clone(), principal: self.principal() },
            material: candidate.clone(),
        };
        // The request would give the password to whoever has the name.
        if self.user(&pair.user).await?.is_some() {
            return match self.log_in(&pair).await.map_err(|error| scrubbed(error, candidate))? {
                // An earlier try of this very step made it, with this very password.
                Use::Accepted => Ok(issued()),
                Use::Refused(_) => {
                    let message = format!("the user {} exists already, with another password", pair.user);
                    Err(CallError::rejected(ErrorKind::Conflict, message)
                        .hint("find out who made it; delete it, or change `name` of the issuer"))
                }
            };
        }
        let mut fields = settings(&self.spec);
        fields.insert("password".to_owned(), Value::from(pair.password.expose()));
        let made = self.write(&pair.user, &fields).await;
        made.map(|_| issued()).map_err(|error| scrubbed(error, candidate))
    }

    async fn find(&self, context: &CallContext, _: &[String]) -> Result<Vec<String>, CallError> {
        #[derive(Deserialize)]
        struct Keys {
            keys: Vec<String>,
        }
        let path = self.spec.path("");
        let reply = self.client.plain_reply(RequestMethod::LIST, &path, None, Effect::Read).await?;
        let mut found = match reply.status.as_u16() {
            200 => data::<Keys>(&reply, &path)?.keys,
            404 if is_empty_list(&reply) => Vec::new(),
            _ => return Err(self.client.fault(&reply, &format!("LIST {path}"), Effect::Read).await),
        };
        if !found.iter().all(|name| is_user(name)) {
            return Err(malformed_response(&path).read_only());
        }
        let names = self.spec.names_of(&context.run);
        match context.step.is_empty() {
            true => found.retain(|name| name.starts_with(&names)),
            false => found.retain(|name| *name == format!("{names}{}", digest(context.token.as_bytes()))),
        }
        Ok(found)
    }

    async fn existing(&self) -> Result<Vec<String>, CallError> {
        // The names tell ours from others'.
        Ok(Vec::new())
    }

    async fn inspect(&self, handle: &str) -> Result<Grant, CallError> {
        let user = self.known(handle).await?;
        let mut wider = user.differences(&self.spec);
        if user.is_batch() {
            wider.push("its logins are batch tokens, which cannot be revoked".to_owned());
        }
        Ok(Grant { policies: Some(user.policies()), wider, ..Grant::default() })
    }

    /// A deleted user with logins that live on is not gone: a run that ended between the two is not done.
    async fn life(&self, handle: &str) -> Result<Life, CallError> {
        Ok(match self.user(handle).await? {
            Some(user) => user.life(),
            None if self.logins(handle).await?.is_empty() => Life::Gone,
            None => Life::Deleted,
        })
    }

    async fn disable(&self, _: &CallContext, handle: &str) -> Result<(), CallError> {
        let user = self.known(handle).await?;
        if user.life() != Life::Disabled {
            // Enabling it sets the runbook's networks: what else it has would be lost.
            if !user.has_networks_of(&self.spec) {
                let message = format!(
                    "the networks of the user {} (`token_bound_cidrs`) are not those of the runbook any more; it was not disabled",
                    sanitize(handle)
                );
                return Err(CallError::rejected(ErrorKind::Conflict, message)
                    .hint("set them as in `bound_cidrs`, then resume; or revoke the user at once"));
            }
            self.bind(handle, &[format!("{NOWHERE}/32")], Life::Disabled).await?;
        }
        match self.spec.end_logins {
            EndLogins::Sunset => self.end_logins(handle).await.map_err(CallError::doubtful),
            EndLogins::Revoke => Ok(()),
        }
    }

    async fn enable(&self, _: &CallContext, handle: &str) -> Result<(), CallError> {
        match self.known(handle).await?.life() {
            Life::Disabled => self.bind(handle, &self.spec.bound_cidrs, Life::Active).await,
            _ => Ok(()),
        }
    }

    async fn revoke(&self, _: &CallContext, handle: &str, _: Option<&Material>) -> Result<(), CallError> {
        let path = self.path(handle)?;
        self.client.plain(RequestMethod::DELETE, &path, None, Effect::Write).await?;
        // First the user, so that it makes no more logins; then those that it made.
        if self.user(handle).await.map_err(CallError::doubtful)?.is_some() {
            let place = self.client.place();
            return Err(CallError::unknown(format!(
                "{place} took the request to delete the user, and still has it"
            )));
        }
        self.end_logins(handle).await.map_err(CallError::doubtful)
    }

    async fn attempt(&self, material: &Material) -> Result<Use, CallError> {
        self.log_in(&pair(material)?).await.map_err(|error| scrubbed(error, material))
    }
}

#[async_trait]
impl IssuerServer for VaultUserpass {
    async fn connect(
        &self,
        _: &str,
        _: &Credential,
        at: &RealProvider,
    ) -> Result<Arc<dyn Issuer>, CallError> {
        Ok(Arc::new(UserIssuer::new(at.client(&self.connection).await?, self.clone())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two auth methods whose paths differ in case alone have users of their own.
    #[test]
    fn a_login_is_told_by_the_name_in_any_spelling_and_by_the_method_as_it_is() {
        assert!(is_login("auth/team/users/login/App", "team/users", "app"));
        for path in ["auth/Team/users/login/app", "auth/team/users/login/app2", "auth/team/users/app", "app"]
        {
            assert!(!is_login(path, "team/users", "app"), "{path}");
        }
    }

    #[test]
    fn what_cannot_be_a_user_is_refused_and_not_quoted() {
        let of = |user: &str, password: &str| {
            Material::single("username", Secret::new(user)).with("password", Secret::new(password))
        };
        assert_eq!(pair(&of("App", "hunter2")).ok().map(|pair| pair.user), Some("app".to_owned()));
        for (user, password) in [("", "hunter2"), ("hunt/er2", "x"), ("..", "hunter2"), ("app", "")] {
            let error = pair(&of(user, password)).err().expect("refused");
            assert_eq!(error.kind, ErrorKind::Invalid);
            assert!(!format!("{error:?}").contains("hunt"), "{error:?}");
        }
        assert!(pair(&Material::single("password", Secret::new("x"))).is_err());
    }
}
