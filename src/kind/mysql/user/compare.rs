//! What the old user has and a new one would not: hosts, ways to log in, limits, roles, privileges. Compared on the server
//! and not assumed: a user that can log in and may do less is an outage.

use std::collections::BTreeSet;

use super::spec::MysqlUser;
use crate::kind::mysql::account::Found;
use crate::kind::mysql::privileges::{Privilege, lacking};
use crate::text::sanitize;

/// How many privileges are named.
const NAMED: usize = 5;

/// What the server says of the old user, and of the role of the runbook.
pub(super) struct Seen<'a> {
    pub(super) old: &'a Found,
    /// The roles that are granted to it, and whether it may pass them on.
    pub(super) roles: &'a [(&'a str, bool)],
    /// The privileges that are granted to it by its name.
    pub(super) privileges: &'a [Privilege],
    /// The role, and all that it has by roles.
    pub(super) new_roles: &'a BTreeSet<String>,
    /// What all of these may do.
    pub(super) new_privileges: &'a [Privilege],
    /// Whether it may act as other users (`GRANT PROXY`).
    pub(super) proxies: bool,
}

/// Every difference, as what to do about it.
pub(super) fn differences(spec: &MysqlUser, seen: &Seen<'_>) -> Vec<String> {
    let (old, mut found) = (seen.old, Vec::new());
    let (host, role) = (sanitize(&old.account.host), sanitize(&spec.role));
    if old.account.host != spec.host {
        let new = sanitize(&spec.host);
        found.push(format!("it may connect from `{host}`, a new user from `{new}`: set `host: \"{host}\"`"));
    }
    let plugin = sanitize(&old.plugin);
    if old.several || !["mysql_native_password", "ed25519"].contains(&old.plugin.as_str()) {
        found.push(format!("it does not log in by one password ({plugin}): a new user would, so move its programs to a password first"));
    } else if old.plugin != spec.authentication.plugin() {
        found.push(format!("it logs in by {plugin}: set `authentication: {plugin}`"));
    }
    match (old.requires, spec.require_tls) {
        (0, false) | (1, true) => {}
        (0, true) => found.push("it may log in without TLS, and a new user may not: take `require_tls` away, or `ALTER USER … REQUIRE SSL` first".to_owned()),
        (1, false) => found.push("it must use TLS (REQUIRE SSL): set `require_tls: true`".to_owned()),
        _ => found.push("it must show a certificate (REQUIRE X509, SUBJECT, ISSUER or CIPHER), which a new user would not have to: stanch makes no such user".to_owned()),
    }
    match (old.max_user_connections, spec.max_user_connections) {
        (0, Some(most)) => found.push(format!("it may have any number of sessions, a new user {most}")),
        (had, Some(most)) if most < had => {
            found
                .push(format!("it may have {had} sessions, a new user {most}: raise `max_user_connections`"));
        }
        _ => {}
    }
    let missing: Vec<String> = seen
        .roles
        .iter()
        .filter(|(role, admin)| *admin || !seen.new_roles.contains(*role))
        .map(|(role, admin)| format!("{}{}", sanitize(role), if *admin { " with admin option" } else { "" }))
        .collect();
    if !missing.is_empty() {
        found.push(format!(
            "it has roles that {role} does not have ({}): grant them to {role}",
            missing.join(", ")
        ));
    }
    let own = lacking(seen.privileges, seen.new_privileges);
    if !own.is_empty() {
        let named: Vec<String> = own.iter().take(NAMED).map(|privilege| privilege.shown()).collect();
        let more = if own.len() > NAMED { ", …" } else { "" };
        found.push(format!(
            "it has privileges that {role} does not have ({}{more}): grant these to {role}",
            named.join(", ")
        ));
    }
    if seen.proxies {
        found.push("it may act as another user (GRANT PROXY), which a role cannot give".to_owned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::mysql::account::Account;
    use crate::kind::mysql::privileges::needed;

    fn old() -> Found {
        Found {
            account: Account::read("app_first@%"),
            locked: false,
            default_role: None,
            plugin: "mysql_native_password".to_owned(),
            several: false,
            requires: 0,
            max_user_connections: 0,
            limits: Vec::new(),
        }
    }

    fn compared(
        spec: &str,
        old: &Found,
        roles: &[(&str, bool)],
        privileges: &[Privilege],
        proxies: bool,
    ) -> Vec<String> {
        let spec = format!(r#"{{"connection":"db","name":"a","role":"app"{spec}}}"#);
        let spec: MysqlUser = serde_json::from_str(&spec).expect("an issuer");
        let new_roles = BTreeSet::from(["app".to_owned(), "reader".to_owned()]);
        let new_privileges = [needed("SELECT", &["shop"])];
        let seen =
            Seen { old, roles, privileges, new_roles: &new_roles, new_privileges: &new_privileges, proxies };
        differences(&spec, &seen)
    }

    #[test]
    fn a_user_that_has_no_more_may_be_replaced() {
        let old = Found { max_user_connections: 3, ..old() };
        let roles = [("app", false), ("reader", false)];
        let found = compared("", &old, &roles, &[needed("SELECT", &["shop", "orders"])], false);
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn each_thing_that_a_new_user_would_lack_is_named_with_what_to_do() {
        let old = |change: fn(&mut Found)| {
            let mut old = old();
            change(&mut old);
            old
        };
        for (spec, old, word) in [
            ("", old(|old| old.account.host = "10.0.%".to_owned()), "host: \"10.0.%\""),
            ("", old(|old| old.plugin = "ed25519".to_owned()), "authentication: ed25519"),
            ("", old(|old| old.plugin = "unix_socket".to_owned()), "unix_socket"),
            ("", old(|old| old.several = true), "one password"),
            ("", old(|old| old.requires = 1), "require_tls: true"),
            ("", old(|old| old.requires = 2), "X509"),
            (r#","require_tls":true"#, old(|_| ()), "REQUIRE SSL"),
            (r#","max_user_connections":3"#, old(|_| ()), "any number"),
            (r#","max_user_connections":3"#, old(|old| old.max_user_connections = 4), "raise"),
        ] {
            let found = compared(spec, &old, &[], &[], false);
            assert!(found.len() == 1 && found[0].contains(word), "{word}: {found:?}");
        }
        let plain = old(|_| ());
        for (roles, privileges, proxies, word) in [
            (&[("admins", false)][..], &[][..], false, "admins"),
            (&[("app", true)][..], &[][..], false, "admin option"),
            (&[][..], &[needed("INSERT", &["shop"])][..], false, "INSERT on shop.*"),
            (&[][..], &[][..], true, "PROXY"),
        ] {
            let found = compared("", &plain, roles, privileges, proxies);
            assert!(found.len() == 1 && found[0].contains(word), "{word}: {found:?}");
        }
    }
}
