//! Whether a pair of texts can be an access key, before either is sent anywhere.

use crate::domain::ErrorKind;
use crate::provider::outcome::CallError;
use crate::secret::{Material, Secret};

/// The parts of an access key.
pub(in crate::kind::aws) const ID: &str = "access_key_id";
pub(in crate::kind::aws) const SECRET: &str = "secret_access_key";

/// How long an id may be, and of what it is made: the API reference of IAM, `AccessKey`.
const ID_LENGTH: std::ops::RangeInclusive<usize> = 16..=128;
/// How long a secret part is. The reference gives no length; it has been 40 since there are access keys.
const SECRET_LENGTH: usize = 40;

/// What the first four letters of an identifier of IAM's say of it, where it is not a user's access key
/// (*IAM identifiers*, unique ID prefixes).
const OTHERS: [(&str, &str); 8] = [
    ("ASIA", "the id of a session's temporary key, which ends without being rotated"),
    ("AIDA", "the id of a user, not of an access key"),
    ("AROA", "the id of a role, not of an access key"),
    ("AGPA", "the id of a group, not of an access key"),
    ("AIPA", "the id of an instance profile, not of an access key"),
    ("ANPA", "the id of a policy, not of an access key"),
    ("APKA", "the id of a public key, not of an access key"),
    ("ASCA", "the id of a certificate, not of an access key"),
];

/// The two parts of an access key, when they can be one.
///
/// # Errors
/// [`ErrorKind::Invalid`], with what is wrong and without either part: the secret may stand where the id should.
pub(in crate::kind::aws) fn parts(material: &Material) -> Result<(&str, &Secret), CallError> {
    let (Some(id), Some(secret)) = (material.part(ID), material.part(SECRET)) else {
        return Err(invalid("a part of the access key is missing"));
    };
    if is_id(secret.expose()) {
        return Err(invalid(format!(
            "the value of `{SECRET}` is an access key's id: the two fields are swapped"
        )));
    }
    let id = id.expose();
    if let Some(why) = not_an_id(id) {
        return Err(invalid(format!("the value of `{ID}` {why}")));
    }
    match secret.expose() {
        "" => Err(invalid(format!("the value of `{SECRET}` is empty"))),
        text if !text.bytes().all(|b| b.is_ascii_graphic()) => Err(invalid(format!(
            "the value of `{SECRET}` has a blank, a line break or another character that no access key has"
        ))),
        _ => Ok((id, secret)),
    }
}

fn not_an_id(id: &str) -> Option<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if id.is_empty() {
        return Some("is empty".to_owned());
    }
    if id.trim() != id {
        return Some("has blanks or line breaks around it".to_owned());
    }
    // A secret part is of base64's letters; an id has no small ones.
    if id.len() == SECRET_LENGTH && id.contains(|c: char| c.is_ascii_lowercase() || "/+=".contains(c)) {
        return Some("looks like a secret access key: the two fields may be swapped".to_owned());
    }
    if !id.chars().all(word) {
        return Some("has a character that no access key's id has (letters, digits and `_`)".to_owned());
    }
    if !ID_LENGTH.contains(&id.len()) {
        let (least, most) = (ID_LENGTH.start(), ID_LENGTH.end());
        return Some(format!(
            "has {} characters, and an access key's id has {least} to {most}: it may be a placeholder",
            id.len()
        ));
    }
    let other = OTHERS.iter().find(|(prefix, _)| id.starts_with(prefix));
    other.map(|(_, what)| format!("is {what}"))
}

/// Whether a text is just what AWS makes as an id today.
fn is_id(text: &str) -> bool {
    text.len() == 20
        && (text.starts_with("AKIA") || text.starts_with("ASIA"))
        && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

fn invalid(message: impl Into<String>) -> CallError {
    CallError::rejected(ErrorKind::Invalid, message).hint(
        "compare the store's fields and `fields` in the runbook with the access key; nothing was sent to AWS",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD_ID: &str = "AKIA2OGYBAHZABCDEFGH";
    const GOOD_SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    fn why(id: &str, secret: &str) -> Option<String> {
        let pair = Material::single(ID, Secret::new(id)).with(SECRET, Secret::new(secret));
        let error = parts(&pair).err()?;
        assert_eq!(error.kind, ErrorKind::Invalid);
        let said = format!("{error:?}");
        assert!(!said.contains(GOOD_SECRET) && !said.contains(GOOD_ID), "{said}");
        Some(error.message)
    }

    #[test]
    fn an_access_key_has_its_shape() {
        assert_eq!(why(GOOD_ID, GOOD_SECRET), None);
        assert_eq!(why("0PN5J17HBGZHT7JJ3X82", "short-but-plain"), None, "as old keys and imitations look");
    }

    #[test]
    fn what_cannot_be_an_access_key_is_named() {
        for (id, secret, word) in [
            ("", "", "is empty"),
            (" AKIA2OGYBAHZABCDEFGH", GOOD_SECRET, "blanks"),
            ("AKIA2OGYBAHZABCDEFGH\n", GOOD_SECRET, "line breaks"),
            ("AKIA2OGY BAHZABCDEFG", GOOD_SECRET, "character"),
            ("AKIA2OGYBAHZABCDEFG\u{200b}", GOOD_SECRET, "character"),
            ("CHANGEME", "CHANGEME", "placeholder"),
            ("${AWS_ACCESS_KEY_ID}", GOOD_SECRET, "character"),
            (GOOD_SECRET, GOOD_ID, "swapped"),
            (GOOD_SECRET, GOOD_SECRET, "looks like a secret"),
            ("wJalrXUtnFEMIaK7MDENGabPxRfiCYEXAMPLEKEY", "x", "looks like a secret"),
            (GOOD_ID, GOOD_ID, "swapped"),
            ("ASIA2OGYBAHZABCDEFGH", GOOD_SECRET, "temporary"),
            ("AIDA2OGYBAHZABCDEFGH", GOOD_SECRET, "of a user"),
            (GOOD_ID, "", "is empty"),
            (GOOD_ID, "two words", "blank"),
        ] {
            let said = why(id, secret).unwrap_or_else(|| panic!("{id:?} was taken"));
            assert!(said.contains(word), "{id:?}: {said}");
        }
    }
}
