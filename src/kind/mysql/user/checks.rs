//! Whether every later step will be permitted, and whether a new user can take the old one's place.

use super::compare::{Seen, differences};
use super::definers::{defined, sight};
use super::server::UserIssuer;
use super::spec::Authentication;
use crate::domain::{Check, CheckVerdict, ErrorKind};
use crate::kind::mysql::account::{Account, Found, accounts, name, text};
use crate::kind::mysql::privileges::{Roles, granted, grants, lacking, needed, operator};
use crate::kind::mysql::sessions::sessions;
use crate::provider::CallError;
use crate::text::{counted, sanitize, sanitize_long, shell_word};

impl UserIssuer {
    /// Every check, in the order of what they are about.
    pub(super) async fn checks(&self, outgoing: Option<&str>) -> Vec<Check> {
        let mut checks = Vec::new();
        let look = async {
            let (me, my_roles) = operator(&self.client).await?;
            let me = Account::read(&me);
            let permitted = self.permitted(&me, &my_roles).await?;
            let may = permitted.verdict != CheckVerdict::Fail;
            checks.push(permitted);
            if !may {
                // What it may not see would look as if it were not there.
                return Ok(());
            }
            let roles = Roles::read(&self.client).await?;
            checks.push(self.role(&me, &my_roles, &roles).await?);
            checks.push(self.new_users().await?);
            let Some(account) = outgoing.map(Account::read) else { return Ok(()) };
            let Some(old) = account.find(&self.client).await? else { return Ok(()) };
            checks.push(own(&me, &account));
            checks.push(self.namesakes(&account).await?);
            checks.push(self.same(&old, &roles).await?);
            if !old.limits.is_empty() {
                let detail = format!(
                    "{} has limits that a new user will not have: {}",
                    account.shown(),
                    old.limits.join(", ")
                );
                checks.push(Check::warn("limits", detail));
            }
            checks.push(self.live(&account).await?);
            Ok::<_, CallError>(())
        };
        if let Err(error) = look.await {
            checks.push(error.to_check("MariaDB"));
        }
        checks
    }

    /// Whether the operator may do all that later steps do.
    async fn permitted(&self, me: &Account, my_roles: &[String]) -> Result<Check, CallError> {
        let mut needs = vec![
            needed("CREATE USER", &[]),
            needed("PROCESS", &[]),
            needed("CONNECTION ADMIN", &[]),
            needed("UPDATE", &["mysql"]),
        ];
        needs.extend(sight());
        let had = granted(&self.client, Some(&me.grantee()), my_roles).await?;
        let lacking = lacking(&needs, &had);
        let name = "permissions";
        if lacking.is_empty() {
            return Ok(Check::pass(name, format!("{} may do all that later steps do", me.shown())));
        }
        let words: Vec<String> = lacking.iter().map(|privilege| privilege.shown()).collect();
        let detail = format!("{} lacks {}", me.shown(), words.join(", "));
        Ok(Check::fail(name, ErrorKind::Denied, detail, format!("{}; then plan again", grants(&lacking, me))))
    }

    /// Whether the operator may grant the role of the runbook.
    async fn role(&self, me: &Account, my_roles: &[String], roles: &Roles) -> Result<Check, CallError> {
        let check = "role";
        let sql = format!(
            "select 1 from mysql.global_priv where Host = '' and User = {} and json_value(Priv, '$.is_role') = '1'",
            text(&self.spec.role)
        );
        let shown = sanitize(&self.spec.role);
        if self.client.rows("the question about `role`", &sql).await?.is_empty() {
            return Ok(Check::fail(
                check,
                ErrorKind::NotFound,
                format!("there is no role {shown}"),
                "create it, and grant it what the old user may do, or correct `role`",
            ));
        }
        let mine = std::iter::once(me.grantee()).chain(my_roles.iter().map(|role| format!("'{role}'@''")));
        let admin = mine
            .into_iter()
            .any(|grantee| roles.of(&grantee).iter().any(|(role, admin)| *admin && *role == self.spec.role));
        Ok(match admin {
            true => Check::pass(check, format!("{} may grant {shown}", me.shown())),
            false => Check::fail(
                check,
                ErrorKind::Denied,
                format!("{} may not grant {shown}", me.shown()),
                sanitize(&format!(
                    "as an administrator: `GRANT {} TO {} WITH ADMIN OPTION`",
                    name(&self.spec.role),
                    me.quoted()
                )),
            ),
        })
    }

    /// Whether the server takes a hash in place of a password.
    async fn new_users(&self) -> Result<Check, CallError> {
        let check = "new users";
        let sql = "select PLUGIN_NAME, PLUGIN_TYPE from information_schema.PLUGINS
                   where PLUGIN_STATUS = 'ACTIVE' and PLUGIN_TYPE in ('PASSWORD VALIDATION', 'AUTHENTICATION')
                   union all select 'strict', if(@@global.strict_password_validation, 'on', 'off')";
        let rows = self.client.rows("the question which plugins are active", sql).await?;
        let has = |at: usize, word: &str| {
            rows.iter().any(|row| row.get(at).is_some_and(|f| f.as_deref() == Some(word)))
        };
        if self.spec.authentication == Authentication::Ed25519 && !has(0, "ed25519") {
            return Ok(Check::fail(
                check,
                ErrorKind::Unsupported,
                "the server has no plugin for `authentication: ed25519`",
                "`INSTALL SONAME 'auth_ed25519'` there, or leave `authentication` out",
            ));
        }
        if has(1, "PASSWORD VALIDATION") && has(1, "on") {
            return Ok(Check::fail(
                check,
                ErrorKind::Unsupported,
                "the server validates passwords and takes no hash in place of one (strict_password_validation)",
                "`SET GLOBAL strict_password_validation = OFF` there: stanch's passwords have 40 random letters and digits, and never leave this machine in plain text",
            ));
        }
        Ok(Check::pass(check, "the server takes a hash in place of a password"))
    }

    /// Whether other accounts have the same user name: the old password may let in there as well.
    async fn namesakes(&self, account: &Account) -> Result<Check, CallError> {
        let check = "other hosts";
        let others = self.others(account).await?;
        if others.is_empty() {
            return Ok(Check::pass(
                check,
                format!("{} is the only account of this user name", account.shown()),
            ));
        }
        let detail = format!(
            "these are accounts of the same user name, which this run would leave alive: {}",
            others.join(", ")
        );
        Ok(Check::fail(
            check,
            ErrorKind::Conflict,
            detail,
            "drop those that no program needs (`DROP USER …`), and rename the others (`RENAME USER … TO …`); then plan again",
        ))
    }

    async fn others(&self, account: &Account) -> Result<Vec<String>, CallError> {
        let all = accounts(&self.client, &account.user).await?;
        Ok(all.iter().filter(|found| found.account != *account).map(|found| found.account.shown()).collect())
    }

    /// Whether a new user has all that the old one has.
    async fn same(&self, old: &Found, roles: &Roles) -> Result<Check, CallError> {
        let (client, account) = (&self.client, &old.account);
        let new_roles = roles.closure(&self.spec.role);
        let sql = format!(
            "select 1 from mysql.proxies_priv where User = {} and Host = {} limit 1",
            text(&account.user),
            text(&account.host)
        );
        let seen = Seen {
            old,
            roles: &roles
                .of(&account.grantee())
                .into_iter()
                .filter(|(role, _)| !role.starts_with(super::statement::MARK))
                .collect::<Vec<_>>(),
            privileges: &granted(client, Some(&account.grantee()), []).await?,
            new_privileges: &granted(client, None, &new_roles).await?,
            new_roles: &new_roles,
            proxies: !client.rows("the question about proxies", &sql).await?.is_empty(),
        };
        let mut found = differences(&self.spec, &seen);
        found.extend(defined(client, account).await?);
        let check = "privileges";
        if found.is_empty() {
            return Ok(Check::pass(check, format!("a new user has all that {} has", account.shown())));
        }
        let mut check = Check::fail(
            check,
            ErrorKind::Conflict,
            "",
            "correct the runbook, or move the privileges to its role; then plan again",
        );
        check.detail = sanitize_long(&format!(
            "a new user would not take the place of {}: {}",
            account.shown(),
            found.join("; ")
        ));
        Ok(check)
    }

    /// Who uses the old user now.
    async fn live(&self, account: &Account) -> Result<Check, CallError> {
        let (total, places) = sessions(&self.client, &account.user).await?;
        Ok(match places.is_empty() {
            true => Check::pass("sessions", format!("{} has no session now", account.shown())),
            // Worth knowing: these are cut off.
            false => Check::warn(
                "sessions",
                format!("{} has {} now: {}", account.shown(), counted(total, "session"), places.join(", ")),
            ),
        })
    }

    /// Whether the run works as the user that it is to drop; else, what else its end means.
    pub(super) async fn own_check(&self, handle: &str) -> Check {
        let account = Account::read(handle);
        let look = async {
            let check = own(&Account::read(&operator(&self.client).await?.0), &account);
            let Some(found) = account.find(&self.client).await? else { return Ok(check) };
            if check.verdict == CheckVerdict::Fail {
                return Ok(check);
            }
            let mut notes = Vec::new();
            if found.locked {
                notes.push("it is locked".to_owned());
            }
            let others = self.others(&account).await?;
            if !others.is_empty() {
                let commands: Vec<String> =
                    others.iter().map(|other| shell_word(&other.replace('\'', ""))).collect();
                notes.push(format!(
                    "these are accounts of the same user name, and stay: {} (`stanch revoke mysql-user {}`); their sessions end as well",
                    others.join(", "),
                    sanitize(&commands.join(" "))
                ));
            }
            // The kill does not wait for it: logins and sessions end all the same.
            match defined(&self.client, &account).await {
                Ok(None) => {}
                Ok(Some(kept)) => {
                    notes.push(format!("{kept}; until then stanch ends its logins and sessions, and cannot drop it"));
                }
                Err(CallError { message, hint, .. }) => notes.push(format!(
                    "stanch cannot look what it defines, and so cannot drop it, but ends its logins and sessions: {message}; {}",
                    hint.unwrap_or_default()
                )),
            }
            if notes.is_empty() {
                return Ok(check);
            }
            let detail = sanitize_long(&format!("{}: {}", account.shown(), notes.join("; ")));
            Ok::<_, CallError>(Check { detail, ..Check::warn("own credential", "") })
        };
        look.await.unwrap_or_else(|error| error.to_check("own credential"))
    }
}

/// Whether the run works as the user that it is to drop. The user name counts: sessions are ended by it.
fn own(me: &Account, outgoing: &Account) -> Check {
    let name = "own credential";
    if me.user == outgoing.user {
        return Check::fail(
            name,
            ErrorKind::Invalid,
            format!("this run works as {}, which it is about to drop", me.shown()),
            "work as another user (`user` of the connection, or MYSQL_USER), then plan again",
        );
    }
    Check::pass(name, format!("this run works as another user, {}", me.shown()))
}
