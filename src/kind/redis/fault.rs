//! What a failed command means: what the server says, and whether the effect may have happened.

use crate::domain::ErrorKind;
use crate::provider::outcome::CallError;
use crate::text::sanitize;

/// As long as a SHA-256 in hexadecimal.
const HASH: usize = 64;

/// What failed on this machine.
pub(super) fn local(message: impl Into<String>) -> CallError {
    CallError::rejected(ErrorKind::Local, message)
}

/// A server that was not reached: nothing was asked of it yet.
pub(super) fn unreachable(place: &str, cause: &str) -> CallError {
    CallError::rejected(
        ErrorKind::Unreachable,
        format!("cannot connect to Redis at {place}: {}", sanitize(cause)),
    )
    .hint("check `host`, `port` and `tls` of the connection, and that the server runs")
}

/// TLS that was not agreed on: nothing was asked of the server yet.
pub(super) fn no_tls(place: &str, cause: &str) -> CallError {
    CallError::rejected(ErrorKind::Unreachable, format!("no TLS with Redis at {place}: {}", sanitize(cause))).hint(
        "set `ca_cert` of the connection to the CA of the server's certificate, `host` to a name in it, and `client_cert` where the server asks \
         for a certificate; for a server without TLS on this machine, `tls: false`",
    )
}

/// The operator's own login was not accepted.
pub(super) fn login(place: &str, user: &str, said: &str) -> CallError {
    match kind(said) {
        ErrorKind::Refused => refused(place, &format!("the login of {}", sanitize(user)), said)
            .hint("set REDISCLI_AUTH to the password of the connection's `user`"),
        kind => CallError { kind, ..not_tried(place, said) },
    }
}

/// A command that the server refused: it changed nothing.
pub(super) fn refused(place: &str, what: &str, said: &str) -> CallError {
    let kind = kind(said);
    let error = CallError::rejected(kind, format!("Redis at {place} refused {what}: {}", words(said)));
    match kind {
        ErrorKind::Refused if said.starts_with("NOAUTH") => {
            error.hint("set REDISCLI_AUTH, and `user` of the connection")
        }
        ErrorKind::Unsupported => {
            error.hint("stanch needs Redis 6 or newer, with the command under its own name")
        }
        _ => error,
    }
}

/// A login of which the server says neither that it is right nor that it is wrong. What it says may quote the password
/// (`unknown command`), so that only its first word is shown.
pub(super) fn not_tried(place: &str, said: &str) -> CallError {
    let what = match kind(said) {
        ErrorKind::Throttled => "it has no free connection (maxclients)".to_owned(),
        _ => sanitize(said.split(' ').next().unwrap_or_default()),
    };
    let message = format!("Redis at {place} neither accepts nor refuses the password: {what}");
    CallError::rejected(ErrorKind::NoAnswer, message)
}

/// What a refusal means.
fn kind(said: &str) -> ErrorKind {
    let says = |text: &str| said.to_ascii_lowercase().contains(text);
    match said.split(' ').next().unwrap_or_default() {
        "WRONGPASS" | "NOAUTH" => ErrorKind::Refused,
        "NOPERM" | "DENIED" => ErrorKind::Denied,
        "LOADING" | "MASTERDOWN" | "BUSY" | "READONLY" | "CLUSTERDOWN" | "TRYAGAIN" => ErrorKind::NotReady,
        _ if says("max number of clients") => ErrorKind::Throttled,
        _ if says("unknown command") || says("unknown subcommand") => ErrorKind::Unsupported,
        _ => ErrorKind::Invalid,
    }
}

/// What the server said. Its errors quote what they are about, and a hash of a weak password is as good as the password.
pub(super) fn words(said: &str) -> String {
    let mut shown = String::new();
    let mut digits = String::new();
    for c in said.chars().map(Some).chain([None]) {
        if let Some(c) = c.filter(char::is_ascii_hexdigit) {
            digits.push(c);
            continue;
        }
        shown.push_str(if digits.len() >= HASH { "…" } else { &digits });
        digits.clear();
        shown.extend(c);
    }
    sanitize(&shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_never_quoted() {
        let hash = "ab".repeat(32);
        assert_eq!(words(&format!("ERR modifier '!{hash}': no")), "ERR modifier '!…': no");
        assert_eq!(words(&hash), "…");
        assert_eq!(words("ERR dead beef"), "ERR dead beef");
    }

    #[test]
    fn a_code_says_what_a_refusal_means() {
        for (said, meant) in [
            ("WRONGPASS invalid", ErrorKind::Refused),
            ("NOAUTH Authentication required.", ErrorKind::Refused),
            ("NOPERM this user has no permissions", ErrorKind::Denied),
            ("LOADING Redis is loading the dataset in memory", ErrorKind::NotReady),
            ("ERR max number of clients reached", ErrorKind::Throttled),
            ("ERR unknown command 'ACL'", ErrorKind::Unsupported),
            ("ERR syntax error", ErrorKind::Invalid),
        ] {
            assert_eq!(refused("h:1", "it", said).kind, meant, "{said}");
        }
    }
}
