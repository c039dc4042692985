//! Users: made with a mark that says whose they are, watched in `mysql.global_priv`, dropped by name and host.

use std::sync::Arc;

use async_trait::async_trait;

use super::password::hash;
use super::remove::{end_sessions, marks, remove, roles};
use super::spec::{EndSessions, LENGTH, LONGEST_NEW, MysqlUser};
use super::statement::{MARK, complete, create, lock, mark, marked};
use crate::domain::{Check, ErrorKind, Identity, IssuerTraits, Life, Standing};
use crate::kind::login::{Form, checked_prefix, new_login};
use crate::kind::mysql::account::{Account, Found, accounts};
use crate::kind::mysql::client::MysqlClient;
use crate::kind::mysql::fault;
use crate::kind::mysql::privileges::{Roles, granted};
use crate::kind::mysql::sessions::sessions;
use crate::kind::real::{IssuerServer, RealProvider};
use crate::provider::outcome::CallError;
use crate::provider::{CallContext, Grant, Issued, Issuer, Use};
use crate::runbook::model::Credential;
use crate::secret::{Alphabet, Material, Recipe};
use crate::text::sanitize;

/// What MariaDB takes as a login.
const FORM: Form = Form { product: "MariaDB", schemes: &["mysql", "mariadb", "mysql2"], longest: 128 };

/// Issues users.
pub struct UserIssuer {
    pub(super) client: Arc<MysqlClient>,
    pub(super) spec: MysqlUser,
    recipe: Recipe,
}

impl UserIssuer {
    /// Users as `spec` says.
    ///
    /// # Errors
    /// When no user or role can have such a name, or the URI is none.
    pub fn new(client: Arc<MysqlClient>, spec: MysqlUser) -> Result<Self, CallError> {
        let invalid = |message: String| CallError::rejected(ErrorKind::Invalid, message);
        checked_prefix(&spec.name, LONGEST_NEW)?;
        for (field, value) in [("role", &spec.role), ("host", &spec.host)] {
            if value.is_empty() || value.contains(|c: char| c.is_control() || c == '@') {
                return Err(invalid(format!("`{field}` of the issuer is not a name: {}", sanitize(value))));
            }
        }
        let recipe =
            Recipe::new(Alphabet::Alphanumeric, LENGTH).map_err(|error| invalid(error.to_string()))?;
        FORM.material(&new_login(&spec.name, recipe), spec.uri.as_deref())?;
        Ok(Self { client, spec, recipe })
    }

    fn identity(&self, account: &Account) -> Identity {
        Identity { handle: account.handle(), principal: format!("user of {}", sanitize(&self.spec.name)) }
    }

    /// The account of a user name: where there are several, the one that the runbook's `host` names.
    async fn of_name(&self, user: &str) -> Result<Option<Found>, CallError> {
        let mut all = accounts(&self.client, user).await?;
        let wanted = match all.len() {
            0 => return Ok(None),
            1 => 0,
            _ => all.iter().position(|found| found.account.host == self.spec.host).ok_or_else(|| {
                let shown: Vec<String> = all.iter().map(|found| found.account.shown()).collect();
                let message = format!("several accounts have this user name: {}", shown.join(", "));
                CallError::rejected(ErrorKind::Conflict, message)
                    .hint("name one: `host` in the runbook, or USER@HOST on the command line")
            })?,
        };
        Ok(Some(all.swap_remove(wanted)))
    }
}

#[async_trait]
impl Issuer for UserIssuer {
    fn traits(&self) -> IssuerTraits {
        MysqlUser::TRAITS
    }

    async fn preflight(&self, outgoing: Option<&Identity>) -> Vec<Check> {
        self.checks(outgoing.map(|outgoing| outgoing.handle.as_str())).await
    }

    async fn before_revoking(&self, outgoing: &Identity) -> Check {
        self.own_check(&outgoing.handle).await
    }

    async fn full_handle(&self, handle: &str) -> Result<String, CallError> {
        // A name may itself look like a handle.
        Ok(self.of_name(handle).await?.map_or_else(|| handle.to_owned(), |found| found.account.handle()))
    }

    async fn identify(&self, material: &Material) -> Result<Option<Standing>, CallError> {
        let login = FORM.login(material)?;
        let (account, life) = match self.of_name(&login.user).await? {
            Some(found) => {
                let life = found.life();
                (found.account, life)
            }
            // Of one that was dropped by hand, sessions may be left to end.
            None => {
                let account = Account { user: login.user.clone(), host: self.spec.host.clone() };
                let life = self.life(&account.handle()).await?;
                (account, life)
            }
        };
        let standing = Standing { identity: self.identity(&account), life, uses_left: None };
        Ok((life != Life::Gone).then_some(standing))
    }

    fn candidate(&self, _: &CallContext) -> Option<Material> {
        FORM.material(&new_login(&self.spec.name, self.recipe), self.spec.uri.as_deref()).ok()
    }

    async fn issue(&self, context: &CallContext, candidate: Option<&Material>) -> Result<Issued, CallError> {
        let candidate = candidate.ok_or_else(|| {
            CallError::rejected(ErrorKind::Invalid, "there is no password to create a user with")
        })?;
        let new = FORM.login(candidate)?;
        let account = Account { user: new.user, host: self.spec.host.clone() };
        let sql =
            create(&self.spec, &account, &hash(self.spec.authentication, &new.password), &mark(context));
        let issued = || Issued { identity: self.identity(&account), material: candidate.clone() };
        match self.client.perform("CREATE USER", &sql).await {
            Ok(_) => Ok(issued()),
            // An earlier try of this very step made it, with this very password, and may have been ended on its way.
            Err(error) if error.kind == ErrorKind::Conflict && !error.in_doubt => {
                if !self.find(context, &[]).await?.contains(&account.handle()) {
                    return Err(error);
                }
                for statement in complete(&self.spec, &account) {
                    self.client
                        .perform("what a new user gets", &statement)
                        .await
                        .map_err(CallError::doubtful)?;
                }
                Ok(issued())
            }
            Err(error) => Err(error),
        }
    }

    async fn find(&self, context: &CallContext, _: &[String]) -> Result<Vec<String>, CallError> {
        let mut found = Vec::new();
        for mark in roles(&self.client, &mark(context)).await? {
            // A mark without its user is left of a server that ended just then.
            let Some(user) = marked(&mark) else { continue };
            found.extend(accounts(&self.client, user).await?.iter().map(|found| found.account.handle()));
        }
        Ok(found)
    }

    async fn existing(&self) -> Result<Vec<String>, CallError> {
        Ok(Vec::new())
    }

    async fn inspect(&self, handle: &str) -> Result<Grant, CallError> {
        let account = Account::read(handle);
        let found = account.current(&self.client).await?;
        if found.locked {
            let message = format!("the new user {} is locked: it was not completed", account.shown());
            return Err(CallError::rejected(ErrorKind::Conflict, message).hint(
                "the server ended while it was created; roll back, which removes it, and start a new run",
            ));
        }
        let mut policies: Vec<String> = Roles::read(&self.client)
            .await?
            .of(&account.grantee())
            .into_iter()
            .map(|(role, _)| role.to_owned())
            .filter(|role| !role.starts_with(MARK))
            .collect();
        policies.sort();
        let own = granted(&self.client, Some(&account.grantee()), []).await?;
        let mut wider: Vec<String> =
            own.iter().map(|privilege| format!("it has {}", privilege.shown())).collect();
        if found.default_role.as_deref() != Some(self.spec.role.as_str()) {
            wider.push("its default role is not the one of the runbook".to_owned());
        }
        Ok(Grant { policies: Some(policies), wider, ..Grant::default() })
    }

    async fn life(&self, handle: &str) -> Result<Life, CallError> {
        let account = Account::read(handle);
        let all = accounts(&self.client, &account.user).await?;
        if let Some(found) = all.iter().find(|found| found.account == account) {
            return Ok(found.life());
        }
        // Dropped by someone else, it leaves its sessions behind; its mark goes last.
        let left = (all.is_empty() && sessions(&self.client, &account.user).await?.0 > 0)
            || !marks(&self.client, &account.user).await?.is_empty();
        Ok(if left { Life::Deleted } else { Life::Gone })
    }

    async fn disable(&self, _: &CallContext, handle: &str) -> Result<(), CallError> {
        let account = Account::read(handle).current(&self.client).await?.account;
        self.client.perform("ACCOUNT LOCK for the user", &lock(&account, true)).await?;
        if self.spec.end_sessions == EndSessions::Sunset {
            end_sessions(&self.client, &account).await.map_err(CallError::doubtful)?;
        }
        Ok(())
    }

    async fn enable(&self, _: &CallContext, handle: &str) -> Result<(), CallError> {
        let account = Account::read(handle).current(&self.client).await?.account;
        self.client.perform("ACCOUNT UNLOCK for the user", &lock(&account, false)).await.map(drop)
    }

    async fn revoke(&self, _: &CallContext, handle: &str, _: Option<&Material>) -> Result<(), CallError> {
        remove(&self.client, &Account::read(handle)).await
    }

    async fn attempt(&self, material: &Material) -> Result<Use, CallError> {
        let found = FORM.login(material)?;
        let place = self.client.place();
        let said = self.client.log_in(&found.user, &found.password, self.spec.database.as_deref()).await?;
        let Err(said) = said else { return Ok(Use::Accepted) };
        if fault::REFUSED.contains(&said.code) {
            return Ok(Use::Refused(format!("{place}: {}", fault::words(&said))));
        }
        // The password was accepted first.
        if fault::DATABASE.contains(&said.code) {
            return Ok(Use::Accepted);
        }
        // Too many sessions, a blocked host, a locked account: neither acceptance nor refusal of the password.
        Err(CallError { kind: ErrorKind::NoAnswer, ..fault::not_in(&said, &place, &found.user).read_only() })
    }
}

#[async_trait]
impl IssuerServer for MysqlUser {
    async fn connect(
        &self,
        _: &str,
        _: &Credential,
        at: &RealProvider,
    ) -> Result<Arc<dyn Issuer>, CallError> {
        Ok(Arc::new(UserIssuer::new(at.client(&self.connection).await?, self.clone())?))
    }
}
