//! Whether every later step will be permitted, and whether a new role can take the old one's place.

use postgres_protocol::escape::escape_identifier;

use super::compare::{Role, differences, members, role};
use super::remove::kept;
use super::server::RoleIssuer;
use crate::domain::{Check, CheckVerdict, ErrorKind};
use crate::kind::postgres::handle::Handle;
use crate::kind::postgres::sessions::sessions;
use crate::provider::CallError;
use crate::text::{counted, sanitize, sanitize_long, shell_word};

/// What the operator may do.
pub(super) struct Operator {
    name: String,
    superuser: bool,
    creates_roles: bool,
    signals: bool,
}

impl RoleIssuer {
    async fn operator(&self) -> Result<Operator, CallError> {
        let sql =
            "select rolname::text, rolsuper, rolcreaterole, pg_has_role(oid, 'pg_signal_backend', 'USAGE')
                   from pg_roles where rolname = session_user";
        let rows = self.client.rows("the question what stanch may do", sql, &[]).await?;
        let row = rows.first().ok_or_else(|| {
            CallError::rejected(ErrorKind::NotFound, "the role that stanch works as was dropped")
        })?;
        Ok(Operator {
            name: row.get(0),
            superuser: row.get(1),
            creates_roles: row.get(2),
            signals: row.get(3),
        })
    }

    /// Every check, in the order of what they are about.
    pub(super) async fn checks(&self, outgoing: Option<&str>) -> Vec<Check> {
        let mut checks = Vec::new();
        let look = async {
            let (version, operator) = (self.version().await?, self.operator().await?);
            checks.push(self.may_create(&operator, version).await?);
            if let Some(heir) = self.spec.reassign_to.as_deref() {
                checks.push(self.heir(heir, version).await?);
            }
            let Some(handle) = outgoing.map(Handle::read) else { return Ok(()) };
            let Some(found) = handle.find(&self.client).await? else { return Ok(()) };
            let name = found.name.as_str();
            checks.push(own(&operator, name));
            let Some(old) = role(&self.client, name, version).await? else { return Ok(()) };
            checks.push(self.may_change(&operator, name, &old, version).await?);
            checks.push(self.same(name, &old, version).await?);
            checks.push(self.live(&handle, name).await?);
            Ok::<_, CallError>(())
        };
        if let Err(error) = look.await {
            checks.push(error.to_check("PostgreSQL"));
        }
        checks
    }

    /// Whether the operator may make a role, as a member of the runbook's.
    async fn may_create(&self, operator: &Operator, version: i32) -> Result<Check, CallError> {
        let (name, me) = ("new roles", sanitize(&operator.name));
        if !operator.superuser && !operator.creates_roles {
            return Ok(Check::fail(
                name,
                ErrorKind::Denied,
                format!("{me} may not create roles"),
                format!("as a superuser: ALTER ROLE \"{me}\" CREATEROLE"),
            ));
        }
        // Since version 16 CREATEROLE alone does not grant what is not one's own.
        let sql = "select g.name, r.oid is not null, coalesce(r.rolsuper, false),
                          coalesce(pg_has_role(session_user, r.oid, 'MEMBER WITH ADMIN OPTION'), false)
                   from unnest(string_to_array($1, chr(10))) g(name) left join pg_roles r on r.rolname = g.name";
        let groups = self.spec.member_of.join("\n");
        let mut wrong = Vec::new();
        for row in self.client.rows("the question about `member_of`", sql, &[&groups]).await? {
            let (group, exists, superuser, admin): (String, bool, bool, bool) =
                (row.get(0), row.get(1), row.get(2), row.get(3));
            let group = sanitize(&group);
            if !exists {
                wrong.push(format!("there is no role {group}: create it, or correct `member_of`"));
            } else if !operator.superuser && superuser {
                wrong.push(format!("{group} is a superuser: only a superuser may grant that"));
            } else if !operator.superuser && version >= 160_000 && !admin {
                wrong.push(format!(
                    "{me} may not grant {group}: `GRANT \"{group}\" TO \"{me}\" WITH ADMIN OPTION`"
                ));
            }
        }
        Ok(match wrong.is_empty() {
            true => Check::pass(name, format!("{me} may create them, as members of what the runbook says")),
            false => Check::fail(name, ErrorKind::Denied, wrong.join("; "), "correct this, then plan again"),
        })
    }

    async fn heir(&self, heir: &str, version: i32) -> Result<Check, CallError> {
        let sql = "select pg_has_role(session_user, oid, 'USAGE') from pg_roles where rolname = $1";
        let rows = self.client.rows("the question about `reassign_to`", sql, &[heir]).await?;
        let heir = sanitize(heir);
        Ok(match rows.first().map(|row| row.get(0)) {
            Some(true) => Check::pass("reassign_to", format!("{heir} gets what the old role owns")),
            Some(false) => Check::fail(
                "reassign_to",
                ErrorKind::Denied,
                format!("stanch is not a member of {heir}, so that it cannot give it objects"),
                // From this version on, a membership that is there already keeps its options otherwise.
                format!(
                    "GRANT \"{heir}\" TO the role that stanch works as{}",
                    if version >= 160_000 { " WITH INHERIT TRUE, SET TRUE" } else { "" }
                ),
            ),
            None => Check::fail(
                "reassign_to",
                ErrorKind::NotFound,
                format!("there is no role {heir}"),
                "create it, or correct `reassign_to`",
            ),
        })
    }

    /// Whether the operator may disable and drop the old role, and end its sessions.
    async fn may_change(
        &self,
        operator: &Operator,
        name: &str,
        old: &Role,
        version: i32,
    ) -> Result<Check, CallError> {
        let (me, role) = (sanitize(&operator.name), sanitize(name));
        let check = format!("role {role}");
        if old.superuser {
            return Ok(Check::fail(
                check,
                ErrorKind::Unsupported,
                format!("{role} is a superuser, and stanch makes none: a program does not need one"),
                "make a role for the program by hand, or change this one's password by hand",
            ));
        }
        if operator.superuser {
            return Ok(Check::pass(check, format!("{me} may disable it, end its sessions and drop it")));
        }
        let sql = "select pg_has_role(session_user, oid, 'MEMBER WITH ADMIN OPTION') from pg_roles where rolname = $1";
        let rows = self.client.rows("the question about the old role", sql, &[name]).await?;
        let admin: bool = rows.first().is_some_and(|row| row.get(0));
        if version >= 160_000 && !admin {
            return Ok(Check::fail(
                check,
                ErrorKind::Denied,
                format!("{me} may not change or drop {role}"),
                format!("as a superuser: GRANT \"{role}\" TO \"{me}\" WITH ADMIN OPTION"),
            ));
        }
        let how = if operator.signals { "" } else { ", as its member for that moment" };
        Ok(Check::pass(check, format!("{me} may disable it, end its sessions{how}, and drop it")))
    }

    /// Whether a new role has all that the old one has.
    async fn same(&self, name: &str, old: &Role, version: i32) -> Result<Check, CallError> {
        let mut found = differences(&self.client, &self.spec, name, old, version).await?;
        let quoted = || sanitize(&escape_identifier(name));
        match &old.valid_until {
            Some((until, true)) => found.push(format!(
                "its password is dead since {} (VALID UNTIL), so there is nothing to rotate: `stanch revoke postgres-role {} --reason TEXT` drops the role; to go on using it, `ALTER ROLE {} VALID UNTIL 'infinity'`",
                sanitize(until),
                sanitize(&shell_word(name)),
                quoted()
            )),
            Some((until, false)) => found.push(format!(
                "its password is valid until {} only (VALID UNTIL), and a new role's without limit: `ALTER ROLE {} VALID UNTIL 'infinity'`",
                sanitize(until),
                quoted()
            )),
            None => {}
        }
        let (check, role) = ("privileges", sanitize(name));
        if found.is_empty() {
            return Ok(Check::pass(check, format!("a new role has all that {role} has")));
        }
        let mut check = Check::fail(
            check,
            ErrorKind::Conflict,
            "",
            "correct the runbook, or move the privileges to a role of `member_of`; then plan again",
        );
        check.detail =
            sanitize_long(&format!("a new role would not have all that {role} has: {}", found.join("; ")));
        Ok(check)
    }

    /// Who uses the old role now.
    async fn live(&self, handle: &Handle<'_>, name: &str) -> Result<Check, CallError> {
        let (total, programs) = sessions(&self.client, handle).await?;
        let role = sanitize(name);
        Ok(match programs.is_empty() {
            true => Check::pass("sessions", format!("{role} has no session now")),
            // Worth knowing: these are cut off.
            false => Check::warn(
                "sessions",
                format!("{role} has {} now: {}", counted(total, "session"), programs.join(", ")),
            ),
        })
    }

    /// Whether the run works with the role that it is to drop; else, what else its end means.
    pub(super) async fn own_check(&self, handle: &str) -> Check {
        let look = async {
            let operator = self.operator().await?;
            let Some(found) = Handle::read(handle).find(&self.client).await? else {
                return Ok(own(&operator, Handle::read(handle).name()));
            };
            let check = own(&operator, &found.name);
            if check.verdict == CheckVerdict::Fail {
                return Ok(check);
            }
            let mut notes = Vec::new();
            if !found.logs_in {
                notes.push("it cannot log in".to_owned());
            }
            let until =
                role(&self.client, &found.name, self.version().await?).await?.and_then(|r| r.valid_until);
            if let Some((until, true)) = until {
                notes.push(format!("its password is dead since {} (VALID UNTIL)", sanitize(&until)));
            }
            let members = members(&self.client, &found.name).await?;
            if !members.is_empty() {
                notes.push(format!(
                    "these are members of it, and lose what it gives them: {}",
                    members.join(", ")
                ));
            }
            // The kill does not wait for it: logins and sessions end all the same.
            match kept(&self.client, &found.name, self.spec.reassign_to.is_some()).await {
                Ok(kept) if kept.is_empty() => {}
                Ok(kept) => notes.push(format!(
                    "{}; until then stanch ends its logins and sessions, and cannot drop it",
                    kept.join("; ")
                )),
                Err(CallError { message, hint, .. }) => notes.push(format!(
                    "stanch cannot look what it owns, and so cannot drop it, but ends its logins and sessions: {message}; {}",
                    hint.unwrap_or_default()
                )),
            }
            if notes.is_empty() {
                return Ok(check);
            }
            let detail = sanitize_long(&format!("{}: {}", found.name, notes.join("; ")));
            Ok::<_, CallError>(Check { detail, ..Check::warn("own credential", "") })
        };
        look.await.unwrap_or_else(|error| error.to_check("own credential"))
    }
}

/// Whether the run works with the credential that it is to revoke.
fn own(operator: &Operator, outgoing: &str) -> Check {
    let (name, me) = ("own credential", sanitize(&operator.name));
    if operator.name == outgoing {
        return Check::fail(
            name,
            ErrorKind::Invalid,
            format!("this run works as {me}, which it is about to drop"),
            "work as another role (PGUSER, or `user` of the connection), then plan again",
        );
    }
    Check::pass(name, format!("this run works as another role, {me}"))
}
