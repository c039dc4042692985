//! How a role is told from others: by its name and its number. A role can be renamed, and another can be given its name;
//! its number stays with it.

use super::client::PgClient;
use crate::domain::ErrorKind;
use crate::provider::CallError;
use crate::text::sanitize;

/// `NAME:NUMBER`, or a name alone where a person gave no more.
pub(super) struct Handle<'a> {
    name: &'a str,
    oid: Option<u32>,
}

/// A role as it is now.
pub(super) struct Found {
    /// Its name now.
    pub(super) name: String,
    pub(super) logs_in: bool,
    oid: u32,
}

impl Found {
    /// The handle.
    pub(super) fn handle(&self) -> String {
        format!("{}:{}", self.name, self.oid)
    }
}

impl<'a> Handle<'a> {
    /// Reads one.
    pub(super) fn read(text: &'a str) -> Self {
        let parts = text.rsplit_once(':').and_then(|(name, number)| Some((name, number.parse().ok()?)));
        parts.map_or(Self { name: text, oid: None }, |(name, oid)| Self { name, oid: Some(oid) })
    }

    /// A role by its name alone.
    pub(super) fn named(name: &'a str) -> Self {
        Self { name, oid: None }
    }

    /// The name that it had when the handle was made.
    pub(super) fn name(&self) -> &'a str {
        self.name
    }

    /// Which of the sessions in `pg_stat_activity` are its own, with the parameter. Those of a role that was dropped
    /// have no name any more, and keep its number.
    pub(super) fn sessions(&self) -> (&'static str, String) {
        match self.oid {
            Some(oid) => ("usesysid = $1::text::oid", oid.to_string()),
            None => ("usename::text = $1", self.name.to_owned()),
        }
    }

    /// The role as it is now; `None` when there is none of this number, or, without one, of this name.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub(super) async fn find(&self, client: &PgClient) -> Result<Option<Found>, CallError> {
        let (by, value) = match self.oid {
            Some(oid) => ("oid = $1::text::oid", oid.to_string()),
            None => ("rolname = $1", self.name.to_owned()),
        };
        let sql = format!("select rolname::text, rolcanlogin, oid from pg_roles where {by}");
        let rows = client.rows("the question whether the role is there", &sql, &[&value]).await?;
        Ok(rows.first().map(|row| Found { name: row.get(0), logs_in: row.get(1), oid: row.get(2) }))
    }

    /// The name that the role has now.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when it is gone.
    pub(super) async fn current(&self, client: &PgClient) -> Result<String, CallError> {
        let found = self.find(client).await?;
        found.map(|role| role.name).ok_or_else(|| {
            CallError::rejected(ErrorKind::NotFound, format!("the role {} is gone", sanitize(self.name)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Handle;

    #[test]
    fn a_handle_is_a_name_and_a_number() {
        for (text, name, oid) in [
            ("app_first:16405", "app_first", Some(16405)),
            ("a:b:7", "a:b", Some(7)),
            ("app", "app", None),
            ("app:", "app:", None),
            ("app:x1", "app:x1", None),
            ("app:99999999999", "app:99999999999", None),
        ] {
            let handle = Handle::read(text);
            assert_eq!((handle.name, handle.oid), (name, oid), "{text}");
        }
    }
}
