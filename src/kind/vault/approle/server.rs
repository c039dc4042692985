//! Secret ids of AppRoles, tagged with the run, watched and destroyed by accessor, with their logins.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use rustify::enums::RequestMethod;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::OnceCell;

use super::info::{AppRole, Metadata, SecretIdInfo, SecretIdSpec, grant};
use super::look::{NO_ACCESSOR, is_unknown};
use super::spec::{ApproleSecretId, split};
use crate::domain::{Check, ErrorKind, Identity, IssuerTraits, Life, Standing};
use crate::kind::real::{IssuerServer, RealProvider};
use crate::kind::vault::client::{Effect, VaultClient, data, malformed_response};
use crate::kind::vault::facts::Keyed;
use crate::kind::vault::fault::scrubbed;
use crate::kind::vault::logins::end;
use crate::kind::vault::lookup::revoke;
use crate::kind::vault::preflight::known_own_token;
use crate::kind::vault::shape::sendable;
use crate::kind::vault::token_info::{RUN, STEP, seconds};
use crate::provider::outcome::CallError;
use crate::provider::{CallContext, Grant, Issued, Issuer, Use};
use crate::runbook::model::Credential;
use crate::secret::{Material, Secret};
use crate::text::is_name;

/// The part that a secret id is.
const PART: &str = "secret_id";

/// Longer than any secret id that people choose; Vault's own are UUIDs.
const LONGEST: usize = 4096;

/// How long a wrapped secret id may wait for the request that unwraps it.
const WRAPPED: &str = "120s";
const UNWRAP: &str = "sys/wrapping/unwrap";

/// What Vault and OpenBao say of a login with a secret id that is dead, or never was.
const REFUSAL: &str = "invalid role or secret ID";

/// Issues secret ids.
pub struct ApproleIssuer {
    pub(super) client: Arc<VaultClient>,
    pub(super) spec: Arc<SecretIdSpec>,
    role_id: OnceCell<Secret>,
    /// The metadata of the secret ids that were looked up: it never changes.
    pub(super) tags: Arc<Keyed<Metadata>>,
}

impl ApproleIssuer {
    /// Secret ids as `spec` says.
    ///
    /// # Errors
    /// When its names cannot be parts of a path.
    pub fn new(client: Arc<VaultClient>, spec: SecretIdSpec) -> Result<Self, CallError> {
        let spec = Arc::new(spec.checked()?);
        Ok(Self { client, spec, role_id: OnceCell::new(), tags: Arc::default() })
    }

    /// The role, as it is now.
    pub(super) async fn role(&self) -> Result<AppRole, CallError> {
        let path = self.spec.path("");
        data(&self.client.plain(RequestMethod::GET, &path, None, Effect::Read).await?, &path)
    }

    /// The role's own id, which a login needs beside the secret id.
    async fn role_id(&self) -> Result<&Secret, CallError> {
        #[derive(Deserialize)]
        struct Id {
            role_id: String,
        }
        let ask = || async {
            let path = self.spec.path("/role-id");
            let reply = self.client.plain(RequestMethod::GET, &path, None, Effect::Read).await?;
            let Id { role_id } = data(&reply, &path)?;
            Ok(Secret::new(role_id))
        };
        self.role_id.get_or_try_init(ask).await
    }

    /// Logs in, and revokes the login.
    async fn log_in(&self, secret_id: &Secret) -> Result<Use, CallError> {
        let path = self.spec.login();
        let body = json!({ "role_id": self.role_id().await?.expose(), "secret_id": secret_id.expose() });
        let body = Some(body.to_string().into_bytes());
        let reply = self.client.plain_as(RequestMethod::POST, &path, body, None, Effect::Read).await?;
        let (place, status, said) = (self.client.place(), reply.status.as_u16(), self.client.said(&reply));
        let unclear = |why: String| CallError::rejected(ErrorKind::Denied, why);
        match status {
            _ if reply.status.is_success() => {}
            400 if said == REFUSAL || said.starts_with("invalid secret_id ") => {
                return Ok(Use::Refused(format!("{place}: 400 {REFUSAL}")));
            }
            // Bare words: what a locked role says of every secret id, be it dead or alive.
            403 => {
                return Err(unclear(format!("{place} refused the login (403) without a reason: {said}")).hint(
                    "the role may be locked after failed logins: see `vault read sys/locked-users`; stop the consumers that retry a dead secret id, then unlock the role, or wait",
                ));
            }
            400 if said.contains("CIDR") => {
                return Err(unclear(format!(
                    "the secret id cannot be tried from here: it, or its role, is bound to other networks ({said})"
                )));
            }
            _ => return Err(self.client.fault(&reply, &format!("POST {path}"), Effect::Read).await),
        }
        end(&self.client, &reply, &path, "the secret id").await
    }

    fn principal(&self) -> String {
        format!("approle {}", self.spec.role)
    }
}

/// The secret id, if its shape is that of one: what is none is sent nowhere.
fn secret_id(material: &Material) -> Result<&Secret, CallError> {
    let odd = |c: char| c.is_control();
    sendable(material, "a secret id", LONGEST, odd, "it holds a control character")
}

/// Where the answer to a request is kept.
#[derive(Deserialize)]
struct Wrapping {
    wrap_info: Wrap,
}

#[derive(Deserialize)]
struct Wrap {
    token: String,
}

#[derive(Deserialize)]
struct Made {
    secret_id: String,
    secret_id_accessor: String,
}

#[async_trait]
impl Issuer for ApproleIssuer {
    fn traits(&self) -> IssuerTraits {
        ApproleSecretId::TRAITS
    }

    async fn preflight(&self, outgoing: Option<&Identity>) -> Vec<Check> {
        self.checks(outgoing).await
    }

    async fn before_revoking(&self, outgoing: &Identity) -> Check {
        let (own, logins) = tokio::join!(known_own_token(&self.client), self.logins(&outgoing.handle));
        match own.and_then(|own| Ok((own, logins?))) {
            Ok((own, logins)) => self.own_check(&own, Some(&outgoing.handle), &logins),
            Err(error) => error.to_check("own token"),
        }
    }

    async fn identify(&self, material: &Material) -> Result<Option<Standing>, CallError> {
        let path = self.spec.path("/secret-id/lookup");
        let body = json!({ "secret_id": secret_id(material)?.expose() }).to_string().into_bytes();
        let look = async {
            let reply = self.client.plain(RequestMethod::POST, &path, Some(body), Effect::Read).await?;
            if reply.status.as_u16() == 204 {
                return is_unknown(&self.client, &self.spec).await;
            }
            data::<SecretIdInfo>(&reply, &path).map(Some)
        };
        let Some(info) = look.await.map_err(|error| scrubbed(error, material))? else { return Ok(None) };
        if !is_name(&info.secret_id_accessor) {
            return Err(malformed_response(&path).read_only());
        }
        Ok(Some(Standing {
            identity: Identity { handle: info.handle(), principal: self.principal() },
            life: Life::Active,
            uses_left: Some(info.secret_id_num_uses).filter(|uses| *uses > 0),
        }))
    }

    fn candidate(&self, _: &CallContext) -> Option<Material> {
        None
    }

    async fn issue(&self, context: &CallContext, _: Option<&Material>) -> Result<Issued, CallError> {
        let path = self.spec.path("/secret-id");
        let tags =
            Metadata::from([(RUN.to_owned(), context.run.clone()), (STEP.to_owned(), context.step.clone())]);
        // A JSON text, as the server wants it. Parameters that say nothing are left out: a policy may allow
        // only some.
        let mut body = json!({ "metadata": json!(tags).to_string() });
        if let Some(ttl) = self.spec.ttl {
            body["ttl"] = seconds(ttl).into();
        }
        if self.spec.num_uses > 0 {
            body["num_uses"] = self.spec.num_uses.into();
        }
        if !self.spec.cidr_list.is_empty() {
            body["cidr_list"] = json!(self.spec.cidr_list);
        }
        let reply = self.client.wrapped(&path, body.to_string().into_bytes(), WRAPPED).await?;
        let wrapping: Wrapping =
            serde_json::from_slice(&reply.body).map_err(|_| malformed_response(&path))?;
        let token = Secret::new(wrapping.wrap_info.token);
        // From here on the secret id exists.
        let made = self
            .unwrap(&token)
            .await
            .map_err(|error| scrubbed(error, &Material::single("token", token.clone())).doubtful())?;
        if !is_name(&made.secret_id_accessor) || !is_name(&made.secret_id) {
            return Err(malformed_response(&path));
        }
        let handle = SecretIdInfo::of(&made.secret_id_accessor, tags).handle();
        Ok(Issued {
            identity: Identity { handle, principal: self.principal() },
            material: Material::single(PART, Secret::new(made.secret_id)),
        })
    }

    async fn find(&self, context: &CallContext, before: &[String]) -> Result<Vec<String>, CallError> {
        let ours = |info: &SecretIdInfo| {
            let has = |key: &str, value: &String| {
                info.metadata.as_ref().and_then(|metadata| metadata.get(key)) == Some(value)
            };
            has(RUN, &context.run) && has(STEP, &context.step)
        };
        let mut found: Vec<String> = self.living(ours).await?.iter().map(SecretIdInfo::handle).collect();
        found.retain(|handle| !before.contains(handle));
        found.sort();
        Ok(found)
    }

    async fn existing(&self) -> Result<Vec<String>, CallError> {
        // The tags tell ours from others'.
        Ok(Vec::new())
    }

    async fn created(&self, handle: &str) -> Result<Option<Timestamp>, CallError> {
        Ok(self.known(split(handle).0).await?.and_then(|info| info.creation_time.parse().ok()))
    }

    async fn inspect(&self, handle: &str) -> Result<Grant, CallError> {
        let info = self.known(split(handle).0).await?.ok_or_else(|| {
            CallError::rejected(ErrorKind::NotFound, "Vault knows no secret id under this accessor")
        })?;
        grant(&info, &self.role().await?, &self.spec)
    }

    /// A dead secret id with logins that live on is not gone: a run that ended between the two is not done.
    async fn life(&self, handle: &str) -> Result<Life, CallError> {
        Ok(match self.known(split(handle).0).await? {
            Some(info) if info.handle() == handle => Life::Active,
            Some(info) => {
                let message = format!(
                    "the handle of this secret id is {}, with what its logins are told by",
                    info.handle()
                );
                return Err(CallError::rejected(ErrorKind::Invalid, message).hint("use this handle"));
            }
            None if self.left(handle).await?.is_empty() => Life::Gone,
            None => Life::Deleted,
        })
    }

    async fn disable(&self, _: &CallContext, _: &str) -> Result<(), CallError> {
        Err(CallError::rejected(ErrorKind::Unsupported, "Vault cannot disable a secret id reversibly"))
    }

    async fn enable(&self, _: &CallContext, _: &str) -> Result<(), CallError> {
        Err(CallError::rejected(ErrorKind::Unsupported, "Vault cannot disable a secret id reversibly"))
    }

    async fn revoke(&self, _: &CallContext, handle: &str, _: Option<&Material>) -> Result<(), CallError> {
        let path = self.spec.path("/secret-id-accessor/destroy");
        let body = json!({ "secret_id_accessor": split(handle).0 }).to_string().into_bytes();
        let reply = self.client.plain_reply(RequestMethod::POST, &path, Some(body), Effect::Write).await?;
        // A server says with an error that there is nothing to destroy any more.
        if !reply.status.is_success() && !self.client.said(&reply).contains(NO_ACCESSOR) {
            return Err(self.client.fault(&reply, &format!("POST {path}"), Effect::Write).await);
        }
        // First the secret id, so that it makes no more logins; then those that it made.
        if self.known(split(handle).0).await.map_err(CallError::doubtful)?.is_some() {
            let place = self.client.place();
            return Err(CallError::unknown(format!(
                "{place} took the request to destroy the secret id, and still knows it"
            )));
        }
        for login in self.left(handle).await.map_err(CallError::doubtful)? {
            revoke(&self.client, &login.accessor).await.map_err(CallError::doubtful)?;
        }
        Ok(())
    }

    async fn attempt(&self, material: &Material) -> Result<Use, CallError> {
        self.log_in(secret_id(material)?).await.map_err(|error| scrubbed(error, material))
    }
}

impl ApproleIssuer {
    /// Fetches what was wrapped. It can be fetched once.
    async fn unwrap(&self, token: &Secret) -> Result<Made, CallError> {
        let reply =
            self.client.plain_as(RequestMethod::POST, UNWRAP, None, Some(token), Effect::Write).await?;
        if reply.status.is_success() {
            return data(&reply, UNWRAP);
        }
        if self.client.said(&reply).contains("wrapping token is not valid") {
            return Err(CallError::unknown(format!(
                "{} says that the new secret id was unwrapped already, or not in time: another client may have read it",
                self.client.place()
            ))
            .hint("find out what reads the answers between stanch and Vault; stanch destroys this secret id"));
        }
        Err(self.client.fault(&reply, &format!("POST {UNWRAP}"), Effect::Write).await)
    }
}

#[async_trait]
impl IssuerServer for ApproleSecretId {
    async fn connect(
        &self,
        _: &str,
        _: &Credential,
        at: &RealProvider,
    ) -> Result<Arc<dyn Issuer>, CallError> {
        let spec = SecretIdSpec {
            mount: self.mount.clone(),
            role: self.role.clone(),
            ttl: self.ttl.map(|ttl| ttl.get()),
            num_uses: self.num_uses,
            cidr_list: self.cidr_list.clone(),
        };
        Ok(Arc::new(ApproleIssuer::new(at.client(&self.connection).await?, spec)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_not_the_shape_of_a_secret_id_is_none() {
        let shape = |text: &str| secret_id(&Material::single(PART, Secret::new(text))).map(|_| ());
        for text in ["67ce86e6-fd99-c101-9c2b-bbd53188d448", "chosen by hand", "p@ss"] {
            assert!(shape(text).is_ok(), "{text}");
        }
        for text in ["", " ", "hunter2\n", " hunter2", "hunt\u{0}er2"] {
            let error = shape(text).expect_err(text);
            assert_eq!(error.kind, ErrorKind::Invalid);
            assert!(!format!("{error:?}").contains("hunt"), "{error:?}");
        }
        assert!(shape(&"x".repeat(LONGEST + 1)).is_err());
    }
}
