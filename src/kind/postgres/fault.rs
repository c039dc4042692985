//! What a failed connection or statement means: what the server says, and whether the effect may have happened.

use std::error::Error as _;

use postgres_protocol::escape::escape_identifier;
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, Severity, SqlState};

use crate::domain::ErrorKind;
use crate::provider::outcome::CallError;
use crate::text::sanitize;

/// What failed on this machine.
pub(super) fn local(message: impl Into<String>) -> CallError {
    CallError::rejected(ErrorKind::Local, message)
}

/// A connection that was not made: nothing was asked of the server yet.
pub(super) fn connecting(error: &Error, place: &str, user: &str, database: &str) -> CallError {
    let whom = format!("PostgreSQL at {place}");
    if let Some(said) = error.as_db_error() {
        let message = format!("{whom} does not let {} in: {}", sanitize(user), words(said));
        let error = CallError::rejected(kind(said.code()), message);
        let (user, database) = (escape_identifier(user), escape_identifier(database));
        return match said.code().code() {
            "42501" => error.hint(sanitize(&format!(
                "let it connect, as the owner of the database or a superuser: `GRANT CONNECT ON DATABASE {database} TO {user}`"
            ))),
            "3D000" => error.hint("correct `dbname` of the connection, or PGDATABASE"),
            "28000" | "28P01" => error.hint("check the role and its password (PGUSER, PGPASSWORD or ~/.pgpass), and pg_hba.conf on the server"),
            _ => error,
        };
    }
    let cause = innermost(error);
    if error.to_string().contains("TLS") {
        let hint = if cause.contains("does not support TLS") {
            "switch TLS on (`ssl = on`); for a server on this machine, `sslmode: disable` or PGSSLMODE=disable does without"
        } else {
            "set `ca_cert` of the connection to the CA of the server's certificate, and `host` to a name in it"
        };
        return CallError::rejected(ErrorKind::Unreachable, format!("no TLS with {whom}: {cause}"))
            .hint(hint);
    }
    if cause.contains("password missing") {
        return CallError::rejected(ErrorKind::Local, format!("{whom} asks for a password, and none is set"))
            .hint("set PGPASSWORD, or add a line to ~/.pgpass");
    }
    CallError::rejected(ErrorKind::Unreachable, format!("cannot connect to {whom}: {cause}"))
        .hint("check `host` and `port` of the connection, and that the server runs")
}

/// A statement that failed. An `ERROR` means that all of it was undone; whatever ended the session leaves a doubt.
pub(super) fn failed(error: &Error, place: &str, what: &str) -> CallError {
    let whom = format!("PostgreSQL at {place}");
    let Some(said) = error.as_db_error() else {
        return CallError::unknown(format!("no answer to {what} from {whom}: {}", innermost(error)));
    };
    let message = format!("{whom} refused {what}: {}", words(said));
    if said.parsed_severity().is_none_or(|severity| severity != Severity::Error) {
        return CallError::unknown(message);
    }
    let kind = kind(said.code());
    let error = CallError::rejected(kind, message);
    match kind {
        ErrorKind::NotReady if *said.code() == SqlState::READ_ONLY_SQL_TRANSACTION => {
            error.hint("connect to the primary: a standby takes no changes")
        }
        _ => error,
    }
}

/// What a code of the server's means.
fn kind(code: &SqlState) -> ErrorKind {
    match code.code() {
        "28000" | "28P01" => ErrorKind::Refused,
        "42501" => ErrorKind::Denied,
        "53300" => ErrorKind::Throttled,
        // Starts or stops, is a standby, or gave up on a lock.
        "57P03" | "25006" | "40001" | "40P01" | "55P03" | "57014" => ErrorKind::NotReady,
        "42704" | "3D000" => ErrorKind::NotFound,
        "42710" | "2BP01" | "55006" => ErrorKind::Conflict,
        _ => ErrorKind::Invalid,
    }
}

/// What the server said, with its code.
pub(super) fn words(said: &DbError) -> String {
    let detail = said.detail().map(|detail| format!(": {}", detail.replace('\n', "; "))).unwrap_or_default();
    sanitize(&format!("{}{detail} ({})", said.message(), said.code().code()))
}

/// The innermost cause says most.
fn innermost(error: &Error) -> String {
    let Some(mut inner) = error.source() else { return sanitize(&error.to_string()) };
    while let Some(source) = inner.source() {
        inner = source;
    }
    sanitize(&inner.to_string())
}
