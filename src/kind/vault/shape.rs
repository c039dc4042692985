//! What can be a value at all, before it is sent anywhere; and what an empty answer is.

use serde_json::Value;

use crate::domain::ErrorKind;
use crate::provider::http::transport::Reply;
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

/// Whether Vault itself says that it has nothing here: an error without a word. What is in front of it says more, and
/// so does Vault of a path that it does not know.
pub(super) fn is_empty_list(reply: &Reply) -> bool {
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    body["errors"].as_array().is_some_and(Vec::is_empty)
}

/// The path of a mount in its one spelling, without the slashes around it; `None` of a text that would lead elsewhere.
pub(super) fn mount(text: &str) -> Option<String> {
    let path = text.trim_matches('/');
    path.split('/').all(is_segment).then(|| path.to_owned())
}

/// Whether a text can be one part of a path.
pub(super) fn is_segment(text: &str) -> bool {
    !matches!(text, "" | "." | "..")
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-~".contains(&b))
}
