//! Login roles: made with a description that says whose they are, watched in `pg_roles`, dropped by name.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::OnceCell;

use super::compare::role;
use super::remove::{end_sessions, remove};
use super::shape::checked_prefix;
use super::spec::{EndSessions, LENGTH, PostgresRole};
use super::statement::{alter_login, create, leave, tag};
use crate::domain::{Check, ErrorKind, Identity, IssuerTraits, Life, Standing};
use crate::kind::login::new_login;
use crate::kind::postgres::client::PgClient;
use crate::kind::postgres::handle::Handle;
use crate::kind::postgres::login::FORM;
use crate::kind::postgres::sessions::sessions;
use crate::kind::real::{IssuerServer, RealProvider};
use crate::provider::outcome::CallError;
use crate::provider::{CallContext, Grant, Issued, Issuer, Use};
use crate::runbook::model::Credential;
use crate::secret::{Alphabet, Material, Recipe};
use crate::text::sanitize;

/// Issues login roles.
pub struct RoleIssuer {
    pub(super) client: Arc<PgClient>,
    pub(super) spec: PostgresRole,
    recipe: Recipe,
    version: OnceCell<i32>,
}

impl RoleIssuer {
    /// Roles as `spec` says.
    ///
    /// # Errors
    /// When no role can have such a name, or the URL is none.
    pub fn new(client: Arc<PgClient>, spec: PostgresRole) -> Result<Self, CallError> {
        let invalid = |message: String| CallError::rejected(ErrorKind::Invalid, message);
        checked_prefix(&spec.name)?;
        if let Some(group) =
            spec.member_of.iter().find(|group| group.is_empty() || group.contains(char::is_control))
        {
            return Err(invalid(format!(
                "`member_of` has the entry `{}`, which is not a name",
                sanitize(group)
            )));
        }
        let recipe =
            Recipe::new(Alphabet::Alphanumeric, LENGTH).map_err(|error| invalid(error.to_string()))?;
        FORM.material(&new_login(&spec.name, recipe), spec.uri.as_deref())?;
        Ok(Self { client, spec, recipe, version: OnceCell::new() })
    }

    /// The server's version, as a number.
    pub(super) async fn version(&self) -> Result<i32, CallError> {
        let ask = || async {
            let sql = "select current_setting('server_version_num')::int4";
            let rows = self.client.rows("the question about its version", sql, &[]).await?;
            Ok::<i32, CallError>(rows.first().map_or(0, |row| row.get(0)))
        };
        self.version.get_or_try_init(ask).await.copied()
    }

    fn principal(&self) -> String {
        format!("role of {}", sanitize(&self.spec.name))
    }

    /// Lets the role log in, or not. Returns its name.
    async fn set_login(&self, handle: &str, login: bool) -> Result<String, CallError> {
        let what = if login { "LOGIN for the role" } else { "NOLOGIN for the role" };
        let name = Handle::read(handle).current(&self.client).await?;
        self.client.perform(what, &alter_login(&name, login)).await?;
        Ok(name)
    }
}

#[async_trait]
impl Issuer for RoleIssuer {
    fn traits(&self) -> IssuerTraits {
        PostgresRole::TRAITS
    }

    async fn preflight(&self, outgoing: Option<&Identity>) -> Vec<Check> {
        self.checks(outgoing.map(|outgoing| outgoing.handle.as_str())).await
    }

    async fn before_revoking(&self, outgoing: &Identity) -> Check {
        self.own_check(&outgoing.handle).await
    }

    async fn full_handle(&self, handle: &str) -> Result<String, CallError> {
        // A name may itself look like a handle.
        let by_name = Handle::named(handle).find(&self.client).await?;
        Ok(by_name.map_or_else(|| handle.to_owned(), |role| role.handle()))
    }

    async fn identify(&self, material: &Material) -> Result<Option<Standing>, CallError> {
        let found = FORM.login(material)?;
        let role = Handle::named(&found.user).find(&self.client).await?;
        Ok(role.map(|role| Standing {
            identity: Identity { handle: role.handle(), principal: self.principal() },
            life: if role.logs_in { Life::Active } else { Life::Disabled },
            uses_left: None,
        }))
    }

    fn candidate(&self, _: &CallContext) -> Option<Material> {
        FORM.material(&new_login(&self.spec.name, self.recipe), self.spec.uri.as_deref()).ok()
    }

    async fn issue(&self, context: &CallContext, candidate: Option<&Material>) -> Result<Issued, CallError> {
        let candidate = candidate.ok_or_else(|| {
            CallError::rejected(ErrorKind::Invalid, "there is no password to create a role with")
        })?;
        let new = FORM.login(candidate)?;
        let issued = |handle: String| Issued {
            identity: Identity { handle, principal: self.principal() },
            material: candidate.clone(),
        };
        // The server keeps this of a password, and takes it in its place. So the password is in no statement, and in no
        // log of the server's.
        let verifier = postgres_protocol::password::scram_sha_256(new.password.expose().as_bytes());
        let sql = create(&self.spec, &new.user, &verifier, &tag(context));
        match self.client.perform("CREATE ROLE", &sql).await {
            Ok(()) => {
                let made = Handle::named(&new.user).find(&self.client).await.map_err(CallError::doubtful)?;
                let gone = || CallError::unknown("the new role is gone right after it was created");
                made.map(|role| issued(role.handle())).ok_or_else(gone)
            }
            // An earlier try of this very step made it, with this very password.
            Err(error) if error.kind == ErrorKind::Conflict && !error.in_doubt => {
                let ours = self.find(context, &[]).await?;
                let own = ours.into_iter().find(|handle| Handle::read(handle).name() == new.user);
                own.map(issued).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    async fn find(&self, context: &CallContext, _: &[String]) -> Result<Vec<String>, CallError> {
        let tag = tag(context);
        let sql = if context.step.is_empty() {
            "select rolname || ':' || oid from pg_roles where starts_with(shobj_description(oid, 'pg_authid'), $1) order by 1"
        } else {
            "select rolname || ':' || oid from pg_roles where shobj_description(oid, 'pg_authid') = $1 order by 1"
        };
        let rows = self.client.rows("the question which roles this run made", sql, &[&tag]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    async fn existing(&self) -> Result<Vec<String>, CallError> {
        Ok(Vec::new())
    }

    async fn inspect(&self, handle: &str) -> Result<Grant, CallError> {
        let name = Handle::read(handle).current(&self.client).await?;
        let Some(role) = role(&self.client, &name, self.version().await?).await? else {
            let message = format!("there is no role {}", sanitize(&name));
            return Err(CallError::rejected(ErrorKind::NotFound, message));
        };
        let mut wider: Vec<String> = role
            .attributes
            .iter()
            .filter(|attribute| !self.spec.attributes.contains(attribute))
            .map(|attribute| format!("it has the attribute {}", super::statement::keyword(*attribute)))
            .collect();
        if role.superuser {
            wider.push("it is a superuser".to_owned());
        }
        Ok(Grant { policies: Some(role.member_of), wider, ..Grant::default() })
    }

    async fn life(&self, handle: &str) -> Result<Life, CallError> {
        let handle = Handle::read(handle);
        Ok(match handle.find(&self.client).await? {
            Some(role) if role.logs_in => Life::Active,
            Some(_) => Life::Disabled,
            // Dropped by someone else, it leaves its sessions behind.
            None if sessions(&self.client, &handle).await?.0 > 0 => Life::Deleted,
            None => Life::Gone,
        })
    }

    async fn disable(&self, _: &CallContext, handle: &str) -> Result<(), CallError> {
        let name = self.set_login(handle, false).await?;
        if self.spec.end_sessions == EndSessions::Sunset {
            let version = self.version().await.map_err(CallError::doubtful)?;
            let joined = end_sessions(&self.client, &Handle::read(handle), version).await;
            if joined.map_err(CallError::doubtful)? {
                let what = "the end of a membership of the role";
                self.client.perform(what, &leave(&name)).await.map_err(CallError::doubtful)?;
            }
        }
        Ok(())
    }

    async fn enable(&self, _: &CallContext, handle: &str) -> Result<(), CallError> {
        self.set_login(handle, true).await.map(drop)
    }

    async fn revoke(&self, _: &CallContext, handle: &str, _: Option<&Material>) -> Result<(), CallError> {
        let (role, version) = (Handle::read(handle), self.version().await?);
        match remove(&self.client, self.spec.reassign_to.as_deref(), &role, version).await {
            // Dropped before, or beside us in the meantime.
            Err(error) if error.kind == ErrorKind::NotFound => match role.find(&self.client).await {
                Ok(None) => end_sessions(&self.client, &role, version).await.map(drop),
                _ => Err(error),
            },
            done => done,
        }
    }

    async fn attempt(&self, material: &Material) -> Result<Use, CallError> {
        self.client.attempt(material, self.spec.database.as_deref()).await
    }
}

#[async_trait]
impl IssuerServer for PostgresRole {
    async fn connect(
        &self,
        _: &str,
        _: &Credential,
        at: &RealProvider,
    ) -> Result<Arc<dyn Issuer>, CallError> {
        Ok(Arc::new(RoleIssuer::new(at.client(&self.connection).await?, self.clone())?))
    }
}
