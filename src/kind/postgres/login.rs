//! What PostgreSQL takes as a login, and whether it lets one in.

use super::client::PgClient;
use super::fault;
use crate::domain::ErrorKind;
use crate::kind::login::Form;
use crate::provider::Use;
use crate::provider::outcome::CallError;
use crate::secret::Material;

/// PostgreSQL cuts longer names off.
pub(super) const LONGEST_NAME: usize = 63;

pub(super) const FORM: Form =
    Form { product: "PostgreSQL", schemes: &["postgresql", "postgres"], longest: LONGEST_NAME };

impl PgClient {
    /// Tries a login on a database, the connection's where none is named, and does nothing else.
    ///
    /// # Errors
    /// When the server neither accepted nor refused it.
    pub(in crate::kind) async fn attempt(
        &self,
        material: &Material,
        database: Option<&str>,
    ) -> Result<Use, CallError> {
        let found = FORM.login(material)?;
        let database = database.unwrap_or(&self.settings().dbname);
        let Err(error) = self.log_in(&found.user, &found.password, database).await? else {
            return Ok(Use::Accepted);
        };
        let place = self.place();
        match error.as_db_error() {
            Some(said) => match said.code().code() {
                "28000" | "28P01" => Ok(Use::Refused(format!("{place}: {}", fault::words(said)))),
                // The password was accepted first: it may not use this database, or there is none.
                "42501" | "3D000" => Ok(Use::Accepted),
                // Too many sessions, a start, a stop: neither acceptance nor refusal.
                _ => Err(CallError {
                    kind: ErrorKind::NoAnswer,
                    ..fault::connecting(&error, &place, &found.user, database).read_only()
                }),
            },
            None => Err(fault::connecting(&error, &place, &found.user, database).read_only()),
        }
    }
}
