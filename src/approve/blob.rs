//! What a key itself makes of bytes, and whether it did.

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512, VerificationAlgorithm,
};
use sha2::{Digest as _, Sha256};
use ssh_key::public::{EcdsaPublicKey, KeyData};

/// What the key itself made.
#[derive(Debug, Clone)]
pub(super) struct Blob {
    algorithm: String,
    bytes: Vec<u8>,
    /// A security key's flags and counter.
    pub(super) hardware: Option<(u8, u32)>,
}

impl Blob {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut rest = Reader(bytes);
        let algorithm = String::from_utf8(rest.string()?.to_vec()).ok()?;
        let bytes = rest.string()?.to_vec();
        let hardware = match algorithm.starts_with("sk-") {
            true => Some((rest.byte()?, rest.number()?)),
            false => None,
        };
        rest.0.is_empty().then_some(Self { algorithm, bytes, hardware })
    }
}

/// Whether a key made a signature of these bytes.
pub(super) fn verify(key: &KeyData, blob: &Blob, message: &[u8]) -> Result<(), String> {
    let bad = || "the signature does not fit what was signed".to_owned();
    let expected = key.algorithm();
    let named = blob.algorithm.as_str();
    let with = |algorithm: &'static dyn VerificationAlgorithm, key: &[u8], message: &[u8], bytes: &[u8]| {
        let key = ParsedPublicKey::new(algorithm, key).map_err(|_| "the key is not valid".to_owned())?;
        key.verify_sig(message, bytes).map_err(|_| bad())
    };
    if let KeyData::Rsa(rsa) = key {
        let algorithm = match named {
            "rsa-sha2-512" => &RSA_PKCS1_2048_8192_SHA512,
            "rsa-sha2-256" => &RSA_PKCS1_2048_8192_SHA256,
            other => return Err(format!("it uses {}, which is too weak", crate::text::sanitize(other))),
        };
        let (Some(n), Some(e)) = (rsa.n.as_positive_bytes(), rsa.e.as_positive_bytes()) else {
            return Err("the key is not valid".into());
        };
        if n.len() < 256 {
            return Err(format!("the RSA key has {} bits; stanch takes 2048 and more", n.len() * 8));
        }
        return PublicKeyComponents { n, e }.verify(algorithm, message, &blob.bytes).map_err(|_| bad());
    }
    if named != expected.as_str() {
        return Err(format!(
            "the signature is of {}, and the key of {expected}",
            crate::text::sanitize(named)
        ));
    }
    match key {
        KeyData::Ed25519(key) => with(&ED25519, key.as_ref(), message, &blob.bytes),
        KeyData::Ecdsa(key) => {
            let (algorithm, size): (&'static dyn VerificationAlgorithm, _) = match key {
                EcdsaPublicKey::NistP256(_) => (&ECDSA_P256_SHA256_FIXED, 32),
                EcdsaPublicKey::NistP384(_) => (&ECDSA_P384_SHA384_FIXED, 48),
                EcdsaPublicKey::NistP521(_) => (&ECDSA_P521_SHA512_FIXED, 66),
            };
            with(algorithm, key.as_sec1_bytes(), message, &fixed(&blob.bytes, size).ok_or_else(bad)?)
        }
        KeyData::SkEd25519(key) => {
            let message = by_hardware(key.application(), blob, message).ok_or_else(bad)?;
            with(&ED25519, key.public_key().as_ref(), &message, &blob.bytes)
        }
        KeyData::SkEcdsaSha2NistP256(key) => {
            let message = by_hardware(key.application(), blob, message).ok_or_else(bad)?;
            let bytes = fixed(&blob.bytes, 32).ok_or_else(bad)?;
            with(&ECDSA_P256_SHA256_FIXED, key.ec_point().as_bytes(), &message, &bytes)
        }
        _ => Err(format!("stanch does not take keys of {expected}")),
    }
}

/// What a security key signs (`PROTOCOL.u2f`).
fn by_hardware(application: &str, blob: &Blob, message: &[u8]) -> Option<Vec<u8>> {
    let (flags, counter) = blob.hardware?;
    let mut signed = Sha256::digest(application).to_vec();
    signed.push(flags);
    signed.extend(counter.to_be_bytes());
    signed.extend(Sha256::digest(message));
    Some(signed)
}

/// The two numbers of an ECDSA signature, in one length.
fn fixed(bytes: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut rest = Reader(bytes);
    let mut out = Vec::with_capacity(2 * size);
    for _ in 0..2 {
        let number = rest.string()?;
        // A sign that a positive number needs.
        let number = number.strip_prefix(&[0]).unwrap_or(number);
        out.extend(std::iter::repeat_n(0, size.checked_sub(number.len())?));
        out.extend(number);
    }
    rest.0.is_empty().then_some(out)
}

/// Writes a string in the encoding of SSH.
pub(super) fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(bytes);
}

/// Bytes in the encoding of SSH (RFC 4251, section 5).
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(string)
    }
}
