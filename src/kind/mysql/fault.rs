//! What a failed connection or statement means: what the server says, and whether the effect may have happened.

use super::wire::Said;
use crate::domain::ErrorKind;
use crate::provider::outcome::CallError;
use crate::text::sanitize;

/// The password is wrong, or there is no such user: the two refusals.
pub(super) const REFUSED: [u16; 2] = [1045, 1698];
/// The user was let in, and may not use the database, or there is none of that name.
pub(super) const DATABASE: [u16; 2] = [1044, 1049];

/// What failed on this machine.
pub(super) fn local(message: impl Into<String>) -> CallError {
    CallError::rejected(ErrorKind::Local, message)
}

/// A server that was not reached: nothing was asked of it yet.
pub(super) fn unreachable(place: &str, cause: &str) -> CallError {
    CallError::rejected(
        ErrorKind::Unreachable,
        format!("cannot connect to MariaDB at {place}: {}", sanitize(cause)),
    )
    .hint("check `host` and `port` of the connection, and that the server runs")
}

/// TLS that was not agreed on: nothing was asked of the server yet.
pub(super) fn no_tls(place: &str, cause: &str) -> CallError {
    CallError::rejected(
        ErrorKind::Unreachable,
        format!("no TLS with MariaDB at {place}: {}", sanitize(cause)),
    )
    .hint(
        "set `ca_cert` of the connection to the CA of the server's certificate, and `host` to a name in it; switch TLS on \
         in the server (`ssl_cert`, `ssl_key`); for a server on this machine, `tls: false` does without",
    )
}

/// A login that the server did not accept, and did not refuse by its password either.
pub(super) fn not_in(said: &Said, place: &str, user: &str) -> CallError {
    let message = format!("MariaDB at {place} does not let {} in: {}", sanitize(user), words(said));
    let error = CallError::rejected(kind(said.code), message);
    match said.code {
        1045 | 1698 => {
            error.hint("check the user and its password (`user` of the connection, MYSQL_USER, MYSQL_PWD), and from which hosts it may connect")
        }
        1129 => error.hint("the server blocks this host after broken connections: `FLUSH HOSTS` there"),
        1130 => error.hint("no user of the server may connect from this host"),
        4151 => error.hint("the account is locked: `ALTER USER … ACCOUNT UNLOCK`"),
        _ => error,
    }
}

/// A statement that failed. A refusal means that nothing was changed; what ended the statement on its way leaves a doubt.
pub(super) fn failed(said: &Said, place: &str, what: &str) -> CallError {
    let message = format!("MariaDB at {place} refused {what}: {}", words(said));
    // The server stops, or the statement or its session was killed.
    if [1053, 1317, 1927, 1969].contains(&said.code) {
        return CallError::unknown(message);
    }
    let error = CallError::rejected(kind(said.code), message);
    match said.code {
        1290 => error.hint("connect to the primary: a read-only server takes no changes; or see which option the message names"),
        _ => error,
    }
}

/// What a code of the server's means: <https://mariadb.com/kb/en/mariadb-error-code-reference/>.
fn kind(code: u16) -> ErrorKind {
    match code {
        1045 | 1698 => ErrorKind::Refused,
        1044 | 1095 | 1142 | 1143 | 1211 | 1227 | 1370 | 1410 => ErrorKind::Denied,
        1040 | 1203 | 1226 => ErrorKind::Throttled,
        1129 | 1130 | 4151 | 1862 => ErrorKind::NoAnswer,
        1053 | 1205 | 1213 | 1290 | 1836 => ErrorKind::NotReady,
        1049 | 1094 | 1141 | 1959 => ErrorKind::NotFound,
        1396 => ErrorKind::Conflict,
        _ => ErrorKind::Invalid,
    }
}

/// What the server said, with its code.
pub(super) fn words(said: &Said) -> String {
    sanitize(&format!("{} ({})", said.message, said.code))
}
