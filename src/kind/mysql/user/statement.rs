//! The statements that make and change a user. Every name and value is quoted.
//!
//! MariaDB keeps no comment on a user. So a role that is given to it marks a user that stanch made: it is named after the run,
//! the step and the user, and may do nothing. It comes before the user and goes after it.

use super::spec::MysqlUser;
use crate::kind::mysql::account::{Account, name, text};
use crate::provider::CallContext;

/// What the marks of stanch begin with.
pub(super) const MARK: &str = "stanch:";

/// What the mark of a step's user begins with; of all of a run's, when there is no step. The user's name follows.
pub(super) fn mark(context: &CallContext) -> String {
    let CallContext { run, step, token, .. } = context;
    if step.is_empty() { format!("{MARK}{run}:") } else { format!("{MARK}{run}:{}:", token.simple()) }
}

/// The user that a mark is of.
pub(super) fn marked(mark: &str) -> Option<&str> {
    mark.strip_prefix(MARK)?.splitn(3, ':').nth(2)
}

/// Makes a user, in one request: with its mark from before, and locked until it has everything. Where it fails, nothing
/// is left. Whatever else ends it on the way leaves a user that is marked and locked. Where the user is there already nothing is
/// done: the mark of another step would make it that step's.
pub(super) fn create(spec: &MysqlUser, account: &Account, hash: &str, mark: &str) -> String {
    let (user, mark) = (account.quoted(), name(&format!("{mark}{}", account.user)));
    let plugin = spec.authentication.plugin();
    let require = if spec.require_tls { " REQUIRE SSL" } else { "" };
    let limit = spec
        .max_user_connections
        .map(|most| format!(" WITH MAX_USER_CONNECTIONS {most}"))
        .unwrap_or_default();
    let complete: String =
        complete(spec, account).iter().map(|statement| format!("      {statement};\n")).collect();
    format!(
        "BEGIN NOT ATOMIC\n  \
           DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN\n    \
             IF NOT EXISTS (SELECT 1 FROM mysql.global_priv WHERE User = {}) THEN DROP ROLE IF EXISTS {mark}; END IF;\n    \
             RESIGNAL;\n  \
           END;\n  \
           IF EXISTS (SELECT 1 FROM mysql.global_priv WHERE User = {}) THEN\n    \
             SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 1396, MESSAGE_TEXT = 'the user is there already';\n  \
           END IF;\n  \
           CREATE ROLE IF NOT EXISTS {mark};\n  \
           CREATE USER {user} IDENTIFIED VIA {plugin} USING {}{require}{limit} ACCOUNT LOCK;\n  \
           BEGIN\n    \
             DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN DROP USER IF EXISTS {user}; RESIGNAL; END;\n\
             {complete}  \
           END;\n\
         END",
        text(&account.user),
        text(&account.user),
        text(hash),
    )
}

/// What a new user gets after it was created. Harmless to repeat.
pub(super) fn complete(spec: &MysqlUser, account: &Account) -> [String; 3] {
    let (user, role) = (account.quoted(), name(&spec.role));
    [format!("GRANT {role} TO {user}"), format!("SET DEFAULT ROLE {role} FOR {user}"), lock(account, false)]
}

/// Locks an account, or unlocks it.
pub(super) fn lock(account: &Account, locked: bool) -> String {
    format!("ALTER USER {} ACCOUNT {}", account.quoted(), if locked { "LOCK" } else { "UNLOCK" })
}

pub(super) fn drop_user(account: &Account) -> String {
    format!("DROP USER {}", account.quoted())
}

pub(super) fn drop_role(role: &str) -> String {
    format!("DROP ROLE IF EXISTS {}", name(role))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_quoted() {
        let spec: MysqlUser = serde_json::from_str(
            r#"{"connection":"db","name":"a","role":"r\"; DROP USER x; --","host":"10.0.%","authentication":"ed25519",
                "require_tls":true,"max_user_connections":3}"#,
        )
        .expect("an issuer");
        let account = Account { user: "a'; DROP USER b; --".to_owned(), host: spec.host.clone() };
        let sql = create(&spec, &account, "h'ash", "stanch:run:token:");
        for part in [
            "CREATE ROLE IF NOT EXISTS \"stanch:run:token:a'; DROP USER b; --\";",
            "CREATE USER 'a''; DROP USER b; --'@'10.0.%' IDENTIFIED VIA ed25519 USING 'h''ash' REQUIRE SSL WITH MAX_USER_CONNECTIONS 3 ACCOUNT LOCK;",
            "GRANT \"r\"\"; DROP USER x; --\" TO 'a''; DROP USER b; --'@'10.0.%';",
            "SET DEFAULT ROLE \"r\"\"; DROP USER x; --\" FOR 'a''; DROP USER b; --'@'10.0.%';",
        ] {
            assert!(sql.contains(part), "{part}\nin\n{sql}");
        }
    }

    #[test]
    fn a_mark_names_its_user() {
        assert_eq!(marked("stanch:run:token:app:x_1"), Some("app:x_1"));
        assert_eq!(marked("stanch:run:token"), None);
        assert_eq!(marked("other:run:token:app"), None);
    }
}
