//! How a role goes for good: no new session, no old one, nothing that it owns, no privilege, no role. The role goes last,
//! so that whoever finds it dropped need not look for what is left.

use std::time::Duration;

use postgres_protocol::escape::escape_identifier;

use super::compare::{Which, databases, mappings, objects, privileges};
use super::statement;
use crate::domain::ErrorKind;
use crate::kind::postgres::client::PgClient;
use crate::kind::postgres::handle::Handle;
use crate::provider::CallError;
use crate::text::{counted, sanitize};

/// How long sessions that were told to end may take. They end at their next look for an interrupt.
const PATIENCE_MS: u64 = 5000;
const EVERY: Duration = Duration::from_millis(50);

/// Ends every session of a role that may not log in any more, and waits until none is left. Returns whether the operator
/// became a member of the role for that.
pub(super) async fn end_sessions(
    client: &PgClient,
    role: &Handle<'_>,
    version: i32,
) -> Result<bool, CallError> {
    let name = match role.find(client).await? {
        Some(found) => found.name,
        // Its sessions go on without it.
        None => role.name().to_owned(),
    };
    let joined = may_signal(client, &name, version).await?;
    let what = "the end of the role's sessions";
    let (own, value) = role.sessions();
    let sql = format!("select count(pg_terminate_backend(pid)) from pg_stat_activity where {own}");
    let start = client.now_ms();
    loop {
        let rows = client.rows(what, &sql, &[&value]).await.map_err(CallError::doubtful)?;
        let left: i64 = rows.first().map_or(0, |row| row.get(0));
        if left == 0 {
            return Ok(joined);
        }
        if client.now_ms().saturating_sub(start) >= PATIENCE_MS {
            let sessions = counted(u64::try_from(left).unwrap_or_default(), "session");
            return Err(CallError::unknown(format!(
                "{sessions} of {} did not end within {} s; the role cannot log in any more",
                sanitize(&name),
                PATIENCE_MS / 1000
            ))
            .hint("look at `wait_event` in pg_stat_activity: what is written to a disk or a peer that hangs does not end"));
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Makes the operator a member of the role, where it could not end its sessions or hand over its objects otherwise. The
/// membership goes with the role. Returns whether it was none before.
async fn may_signal(client: &PgClient, name: &str, version: i32) -> Result<bool, CallError> {
    let sql = "select pg_has_role(session_user, r.oid, 'USAGE') from pg_roles r where r.rolname = $1";
    let rows = client.rows("the question whose member stanch is", sql, &[name]).await?;
    if rows.first().is_none_or(|row| row.get(0)) {
        return Ok(false);
    }
    client.perform("a membership of the role", &statement::join(name, version)).await?;
    Ok(true)
}

/// Removes a role, and all that came from it.
///
/// # Errors
/// [`ErrorKind::Conflict`] when it owns objects and the runbook does not say whose they shall be: they are never dropped.
pub(super) async fn remove(
    client: &PgClient,
    reassign_to: Option<&str>,
    role: &Handle<'_>,
    version: i32,
) -> Result<(), CallError> {
    let name = &role.current(client).await?;
    client.perform("NOLOGIN for the role", &statement::alter_login(name, false)).await?;
    let joined = end_sessions(client, role, version).await?;
    let dropped = drop(client, reassign_to, name, version).await;
    if joined && dropped.is_err() {
        // It was for the moment of the drop.
        let _ = client.perform("the end of a membership of the role", &statement::leave(name)).await;
    }
    dropped
}

/// What keeps a role from being dropped because it is never dropped with it: what it owns, where no other role gets
/// that, and its user mappings. Each a sentence that ends with what to do.
///
/// # Errors
/// When the server cannot be asked.
pub(super) async fn kept(
    client: &PgClient,
    name: &str,
    is_handed_over: bool,
) -> Result<Vec<String>, CallError> {
    let mut kept = Vec::new();
    for database in databases(client, name).await? {
        kept.extend(kept_in(client, &database, name, is_handed_over).await?);
    }
    Ok(kept)
}

async fn kept_in(
    client: &PgClient,
    database: &str,
    name: &str,
    is_handed_over: bool,
) -> Result<Vec<String>, CallError> {
    let (role, place) = (sanitize(&escape_identifier(name)), sanitize(database));
    let mut kept = Vec::new();
    if !is_handed_over {
        let owned = named(client, database, name, &objects()).await?;
        if !owned.is_empty() {
            kept.push(format!(
                "it owns objects in the database {place} ({owned}): give them to another role there (`REASSIGN OWNED BY {role} TO …`)"
            ));
        }
    }
    let mapped = named(client, database, name, &mappings()).await?;
    if !mapped.is_empty() {
        kept.push(format!(
            "it has user mappings in the database {place} ({mapped}): drop them there (`DROP USER MAPPING FOR {role} SERVER …`)"
        ));
    }
    Ok(kept)
}

/// What a question about a role finds in one database, named; empty where it finds nothing.
async fn named(client: &PgClient, database: &str, name: &str, sql: &str) -> Result<String, CallError> {
    let rows = client.rows_in(database, "the question what the role has", sql, &[name, ""]).await?;
    Ok(rows.iter().map(|row| sanitize(row.get(0))).collect::<Vec<_>>().join(", "))
}

/// Hands over or names what a role owns, takes its privileges away, and drops it.
async fn drop(
    client: &PgClient,
    reassign_to: Option<&str>,
    name: &str,
    version: i32,
) -> Result<(), CallError> {
    for database in databases(client, name).await.map_err(CallError::doubtful)? {
        if let Some(to) = reassign_to {
            let what = "the handing over of what the role owns";
            client
                .perform_in(&database, what, &statement::reassign(name, to))
                .await
                .map_err(CallError::doubtful)?;
        }
        let kept = kept_in(client, &database, name, reassign_to.is_some()).await;
        let kept = kept.map_err(CallError::doubtful)?;
        if !kept.is_empty() {
            return Err(is_kept(name, kept.join("; ")).hint("do that, then resume").doubtful());
        }
        let what = "the end of the role's privileges";
        client
            .perform_in(&database, what, &statement::drop_privileges(name))
            .await
            .map_err(CallError::doubtful)?;
    }
    let Err(error) = client.perform("DROP ROLE", &statement::drop_role(name)).await else { return Ok(()) };
    if error.kind != ErrorKind::Conflict {
        return Err(error.doubtful());
    }
    // Privileges on what others own are left: the server passes over what the operator may not take away.
    let mut left = Vec::new();
    for database in databases(client, name).await.map_err(CallError::doubtful)? {
        let found = named(client, &database, name, &privileges(version, Which::NotOurs)).await;
        let found = found.map_err(CallError::doubtful)?;
        if !found.is_empty() {
            left.push(format!("in the database {}: {found}", sanitize(&database)));
        }
    }
    let role = sanitize(&escape_identifier(name));
    Err(match left.is_empty() {
        true => error.hint(format!(
            "`DROP OWNED BY {role}` as a superuser, in the database that is named; it owns nothing any more. Then resume"
        )),
        false => is_kept(name, format!("it has privileges that stanch may not take away, {}", left.join("; "))).hint(
            format!(
                "let each owner take them away (`REVOKE … FROM {role}`), or a superuser, there: `DROP OWNED BY {role}`; it owns nothing any more. Then resume"
            ),
        ),
    }
    .doubtful())
}

/// That the role is still there, why, and what is safe.
fn is_kept(name: &str, why: String) -> CallError {
    let message = format!(
        "the role {} was not dropped: {why}; it cannot log in, and its sessions are ended",
        sanitize(name)
    );
    CallError::rejected(ErrorKind::Conflict, message)
}
