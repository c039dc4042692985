//! What PostgreSQL takes as the name of a role.

use crate::domain::ErrorKind;
use crate::kind::login;
use crate::kind::postgres::login::LONGEST_NAME;
use crate::provider::outcome::CallError;

/// Whether the names of new roles may begin with this.
///
/// # Errors
/// When such a name would be cut off, or be one of the server's own.
pub(super) fn checked_prefix(prefix: &str) -> Result<(), CallError> {
    login::checked_prefix(prefix, LONGEST_NAME)?;
    if prefix.starts_with("pg_") {
        let message = "names that begin with `pg_` are the server's own";
        return Err(CallError::rejected(ErrorKind::Invalid, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_own_names_are_refused() {
        assert!(checked_prefix("app").is_ok() && checked_prefix(&"x".repeat(52)).is_ok());
        for bad in ["", "pg_app", &"x".repeat(53)] {
            assert!(checked_prefix(bad).is_err(), "{bad:?}");
        }
    }
}
