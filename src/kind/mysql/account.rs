//! How an account is told from others: by its user name and the hosts that it may connect from. Both are its name: `app@%` and
//! `app@10.0.0.5` are two accounts, with a password each.

use super::client::MysqlClient;
use super::wire::Row;
use crate::domain::{ErrorKind, Life};
use crate::provider::CallError;
use crate::text::sanitize;

/// A text in a statement. Backslashes mean nothing in a session of stanch's.
pub(super) fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// A name in a statement.
pub(super) fn name(value: &str) -> String {
    format!("\"{}\"", value.replace('"', "\"\""))
}

/// An account's name. Its handle is `USER@HOST`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) user: String,
    pub(super) host: String,
}

impl Account {
    /// Reads a handle. A host has no `@` in it; a user may.
    pub(super) fn read(handle: &str) -> Self {
        let (user, host) = handle.rsplit_once('@').unwrap_or((handle, "%"));
        Self { user: user.to_owned(), host: host.to_owned() }
    }

    pub(super) fn handle(&self) -> String {
        format!("{}@{}", self.user, self.host)
    }

    /// As statements name it.
    pub(super) fn quoted(&self) -> String {
        format!("{}@{}", text(&self.user), text(&self.host))
    }

    /// As the tables of privileges name it: without an escape.
    pub(super) fn grantee(&self) -> String {
        format!("'{}'@'{}'", self.user, self.host)
    }

    /// For messages.
    pub(super) fn shown(&self) -> String {
        sanitize(&self.grantee())
    }

    /// What the server says of it; `None` when there is no such account.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub(super) async fn find(&self, client: &MysqlClient) -> Result<Option<Found>, CallError> {
        Ok(accounts(client, &self.user).await?.into_iter().find(|found| found.account == *self))
    }

    /// The same, where it must be there.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when it is gone.
    pub(super) async fn current(&self, client: &MysqlClient) -> Result<Found, CallError> {
        self.find(client).await?.ok_or_else(|| {
            CallError::rejected(ErrorKind::NotFound, format!("the account {} is gone", self.shown()))
        })
    }
}

/// An account as the server has it.
pub(super) struct Found {
    pub(super) account: Account,
    pub(super) locked: bool,
    pub(super) default_role: Option<String>,
    pub(super) plugin: String,
    /// Whether there is a second way to log in.
    pub(super) several: bool,
    /// What `REQUIRE` asks for: 0 nothing, 1 TLS, more a certificate of the client's.
    pub(super) requires: u8,
    pub(super) max_user_connections: u32,
    /// Other limits, each as the statement that sets it has it.
    pub(super) limits: Vec<String>,
}

impl Found {
    /// Whether it can log in.
    pub(super) fn life(&self) -> Life {
        if self.locked { Life::Disabled } else { Life::Active }
    }
}

/// Fields that limit an account, with their words.
const LIMITS: [(&str, &str); 5] = [
    ("max_questions", "MAX_QUERIES_PER_HOUR"),
    ("max_updates", "MAX_UPDATES_PER_HOUR"),
    ("max_connections", "MAX_CONNECTIONS_PER_HOUR"),
    ("max_statement_time", "MAX_STATEMENT_TIME"),
    ("password_lifetime", "PASSWORD EXPIRE INTERVAL"),
];

/// The accounts of a user name, by host. The hashes of passwords are not asked for.
///
/// # Errors
/// When the server cannot be asked.
pub(super) async fn accounts(client: &MysqlClient, user: &str) -> Result<Vec<Found>, CallError> {
    let limits: Vec<String> =
        LIMITS.iter().map(|(field, _)| format!("json_value(Priv, '$.{field}')")).collect();
    let sql = format!(
        "select Host, coalesce(json_value(Priv, '$.account_locked'), '0') = '1', json_value(Priv, '$.default_role'),
                coalesce(json_value(Priv, '$.plugin'), 'mysql_native_password'), coalesce(json_length(Priv, '$.auth_or'), 0) > 1,
                coalesce(json_value(Priv, '$.ssl_type'), '0'), coalesce(json_value(Priv, '$.max_user_connections'), '0'),
                {}
         from mysql.global_priv
         where User = {} and coalesce(json_value(Priv, '$.is_role'), '0') <> '1' order by Host",
        limits.join(", "),
        text(user)
    );
    let rows = client.rows("the question which accounts there are", &sql).await?;
    Ok(rows.iter().map(|row| found(user, row)).collect())
}

fn found(user: &str, row: &Row) -> Found {
    let field = |at: usize| row.get(at).cloned().flatten();
    let set = |at: usize| field(at).is_some_and(|value| value == "1");
    let limits = LIMITS.iter().enumerate().filter_map(|(at, (_, word))| {
        // -1 is the server's default.
        let value = field(7 + at).filter(|value| value.parse::<f64>().is_ok_and(|value| value > 0.0))?;
        Some(format!("{word} {}", sanitize(&value)))
    });
    Found {
        account: Account { user: user.to_owned(), host: field(0).unwrap_or_default() },
        locked: set(1),
        default_role: field(2).filter(|role| !role.is_empty()),
        plugin: field(3).unwrap_or_default(),
        several: set(4),
        // What is not a number is a demand that is not known here.
        requires: field(5).and_then(|value| value.parse().ok()).unwrap_or(u8::MAX),
        max_user_connections: field(6).and_then(|value| value.parse().ok()).unwrap_or_default(),
        limits: limits.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_a_user_and_its_hosts() {
        for (handle, user, host) in [
            ("app@%", "app", "%"),
            ("a@b@10.0.%", "a@b", "10.0.%"),
            ("app", "app", "%"),
            ("app@::1", "app", "::1"),
        ] {
            let account = Account::read(handle);
            assert_eq!((account.user.as_str(), account.host.as_str()), (user, host), "{handle}");
        }
        assert_eq!(Account::read("a@b@h").handle(), "a@b@h");
    }

    #[test]
    fn names_and_texts_are_quoted() {
        assert_eq!(Account::read("it's \\@%").quoted(), "'it''s \\'@'%'");
        assert_eq!(name("a\"b`c"), "\"a\"\"b`c\"");
    }
}
