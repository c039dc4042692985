//! What can be a value at all, before it is sent anywhere.

use crate::domain::ErrorKind;
use crate::provider::outcome::CallError;
use crate::secret::{Material, Secret};

/// The value of a credential that has one part, if it could be `what`: what could not is sent nowhere. `odd` tells
/// the characters that it never has, and `why` says so.
pub(super) fn sendable<'a>(
    material: &'a Material,
    what: &str,
    longest: usize,
    odd: impl Fn(char) -> bool,
    why: &str,
) -> Result<&'a Secret, CallError> {
    let invalid = |why: &str| {
        CallError::rejected(
            ErrorKind::Invalid,
            format!("the credential is not {what}: {why}; it was sent nowhere"),
        )
        .hint("check which field the store's `field` names, and what was written there")
    };
    let secret = material.main().ok_or_else(|| invalid("it has several parts"))?;
    let text = secret.expose();
    if text.is_empty() {
        Err(invalid("it is empty"))
    } else if text.len() > longest {
        Err(invalid(&format!("it is longer than {longest} bytes")))
    } else if text.trim() != text {
        Err(invalid("it begins or ends with a space or a line break"))
    } else if text.chars().any(odd) {
        Err(invalid(why))
    } else {
        Ok(secret)
    }
}
