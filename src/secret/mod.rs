//! Secret values: holding, generating, sealing and fingerprinting them.
//!
//! [`Secret::expose`] is the only door to a value. Nothing here can be printed or serialized by
//! accident: there is no `Display` and no `Serialize`, and `Debug` redacts.

mod fingerprint;
mod generate;
mod scrub;
mod seal;
mod view;

use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

pub use fingerprint::{Fingerprint, FingerprintKey};
pub use generate::{Alphabet, Recipe, RecipeError};
pub use scrub::Scrubber;
pub use seal::{Recipient, SealError, Sealer};

/// One secret text. Wiped from memory when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret(String);

impl Secret {
    /// Takes ownership of a secret text.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself. Every caller is a place to look at in review.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether two secrets are equal. Digests are compared, so that the time taken does not
    /// depend on where the texts differ.
    pub fn same_as(&self, other: &Self) -> bool {
        self.sha256_hex() == other.sha256_hex()
    }

    /// The unkeyed SHA-256 of the value, lower-case hex: what a consumer attests with. It must
    /// never be stored: a short secret can be guessed from it.
    pub fn sha256_hex(&self) -> String {
        hex::encode(Sha256::digest(self.0.as_bytes()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The parts of credentials that are no secrets.
const PUBLIC_PARTS: [&str; 8] =
    ["access_key_id", "ca_chain", "certificate", "fingerprint", "kid", "lease", "public_key", "username"];

/// Everything that makes up one version of a credential, as named parts: a token has one part,
/// an AWS access key has two.
#[derive(Clone, Debug, Default)]
pub struct Material {
    parts: BTreeMap<String, Secret>,
}

impl Material {
    /// A credential of one part.
    pub fn single(part: &str, value: Secret) -> Self {
        Self { parts: BTreeMap::from([(part.to_owned(), value)]) }
    }

    /// Adds a part, replacing one of the same name.
    pub fn with(mut self, part: &str, value: Secret) -> Self {
        self.parts.insert(part.to_owned(), value);
        self
    }

    /// One part by name.
    pub fn part(&self, name: &str) -> Option<&Secret> {
        self.parts.get(name)
    }

    /// The part that a bearer header, a plain store field or a fingerprint uses: the only one,
    /// or the only one that is a secret.
    pub fn main(&self) -> Option<&Secret> {
        if self.parts.len() == 1 {
            return self.parts.values().next();
        }
        let mut secrets = self.secret_parts();
        secrets.next().filter(|_| secrets.next().is_none())
    }

    /// All parts in order of their names.
    pub fn parts(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.parts.iter().map(|(name, secret)| (name.as_str(), secret))
    }

    /// Whether both have the same parts with the same values.
    pub fn same_as(&self, other: &Self) -> bool {
        self.parts.len() == other.parts.len()
            && self
                .parts
                .iter()
                .all(|(name, secret)| other.parts.get(name).is_some_and(|theirs| theirs.same_as(secret)))
    }

    /// Whether there is no part: nothing to hand over.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether there is no part, or one of them is empty. Such material is never written: blanking
    /// a secret is an outage of its own (Cloudflare, 2023-01-24).
    pub fn is_blank(&self) -> bool {
        self.parts.is_empty() || self.parts.values().any(|s| s.expose().trim().is_empty())
    }

    /// All parts as one JSON object. The result is a secret.
    pub fn to_json(&self) -> Secret {
        let object: BTreeMap<&str, &str> = self.parts.iter().map(|(k, v)| (k.as_str(), v.expose())).collect();
        Secret::new(serde_json::to_string(&object).expect("a mapping of strings is always JSON"))
    }

    /// The reverse of [`Material::to_json`].
    ///
    /// # Errors
    /// When the text is not a JSON object of strings. The error does not quote the text.
    pub fn from_json(text: &Secret) -> Result<Self, NotMaterial> {
        let parts: BTreeMap<String, String> = serde_json::from_str(text.expose()).map_err(|_| NotMaterial)?;
        Ok(Self { parts: parts.into_iter().map(|(k, v)| (k, Secret::new(v))).collect() })
    }

    /// The parts that must not be shown. The id of a key and a user's name are public: people need them to know
    /// which one is meant, and nothing can be done with them alone.
    pub fn secret_parts(&self) -> impl Iterator<Item = &Secret> {
        self.parts.iter().filter(|(name, _)| !PUBLIC_PARTS.contains(&name.as_str())).map(|(_, secret)| secret)
    }

    /// Removes every secret part from `text`, for messages that came from outside and may echo what
    /// they were sent. For the secrets of a whole run, see [`Scrubber`].
    pub fn scrub(&self, text: &str) -> String {
        let mut scrubber = Scrubber::default();
        scrubber.add(self);
        scrubber.clean(text)
    }

    /// Whether a short text tells a secret part, or lets one be guessed: see [`Scrubber::tells`].
    pub fn tells(&self, text: &str) -> bool {
        let mut scrubber = Scrubber::default();
        scrubber.add(self);
        scrubber.tells(text)
    }
}

/// A text that should have been a JSON object of strings is not.
#[derive(Debug, thiserror::Error)]
#[error("the value is not a JSON object of strings")]
pub struct NotMaterial;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let material = Material::single("token", Secret::new("hunter2-hunter2"));
        assert!(!format!("{material:?}").contains("hunter2"));
    }

    #[test]
    fn material_survives_json_and_compares_by_value() {
        let a = Material::single("access_key_id", Secret::new("AKIA\"x"))
            .with("secret_access_key", Secret::new("é\n"));
        let b = Material::from_json(&a.to_json()).expect("round trip");
        assert!(a.same_as(&b));
        assert!(!a.same_as(&Material::single("access_key_id", Secret::new("AKIA\"x"))));
        assert_eq!(a.main().map(Secret::expose), Some("é\n"));
    }

    #[test]
    fn scrub_removes_every_occurrence() {
        let m = Material::single("t", Secret::new("s3cr3t!"));
        assert_eq!(m.scrub("a s3cr3t! b s3cr3t!"), "a [redacted] b [redacted]");
    }

    #[test]
    fn blank_material_is_recognised() {
        assert!(Material::default().is_blank());
        assert!(Material::single("t", Secret::new(" ")).is_blank());
        assert!(!Material::single("t", Secret::new("x")).is_blank());
    }
}
