//! Keyed fingerprints: the only trace of a secret that may be recorded.

use std::fmt;

use hmac::{Hmac, Mac};
use rand::RngCore;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::Material;

/// A key that exists for one run and dies with its seals: afterwards nobody can test a guess
/// against a recorded fingerprint.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct FingerprintKey([u8; 32]);

impl FingerprintKey {
    /// A new random key from the operating system.
    pub fn generate() -> Self {
        let mut key = [0; 32];
        rand::rngs::OsRng.fill_bytes(&mut key);
        Self(key)
    }

    /// A key from its bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key's bytes, for sealing.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The fingerprint of a credential: HMAC-SHA-256 over its JSON form, first 16 bytes.
    pub fn of(&self, material: &Material) -> Fingerprint {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes any key length");
        mac.update(material.to_json().expose().as_bytes());
        // 128 bits keep accidental equality out of reach and fit on a terminal line.
        Fingerprint(hex::encode(&mac.finalize().into_bytes()[..16]))
    }
}

impl fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FingerprintKey(…)")
    }
}

/// A keyed fingerprint, 32 hex digits. Comparable only within one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn depends_on_key_and_on_value() {
        let a = FingerprintKey::from_bytes([1; 32]);
        let b = FingerprintKey::from_bytes([2; 32]);
        let one = Material::single("t", Secret::new("one"));
        let two = Material::single("t", Secret::new("two"));
        assert_eq!(a.of(&one), a.of(&one.clone()));
        assert_ne!(a.of(&one), a.of(&two));
        assert_ne!(a.of(&one), b.of(&one));
    }
}
