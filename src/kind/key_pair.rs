//! Key pairs of the kinds that make their keys here: made, read, and used.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use der::SecretDocument;
use der::pem::LineEnding;

use crate::domain::ErrorKind;
use crate::provider::CallError;
use crate::secret::Secret;

/// What PEM calls a private key in PKCS #8 (RFC 7468, section 10).
const LABEL: &str = "PRIVATE KEY";

/// What a key pair is.
#[derive(Debug, Clone, Copy)]
pub(in crate::kind) enum KeyForm {
    /// An elliptic curve, P-256.
    P256,
    /// Ed25519.
    Ed25519,
    /// RSA of 2048 bits.
    Rsa2048,
}

/// A private key, with the public one.
pub(in crate::kind) enum KeyPair {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl KeyPair {
    /// A new private key, in PKCS #8 as PEM; `None` when this machine gives no randomness.
    pub(in crate::kind) fn generate(form: KeyForm) -> Option<Secret> {
        let random = SystemRandom::new();
        let made = match form {
            KeyForm::P256 => EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
                .map(|made| SecretDocument::try_from(made.as_ref())),
            // The form without the public key, which every library reads.
            KeyForm::Ed25519 => {
                Ed25519KeyPair::generate_pkcs8v1(&random).map(|made| SecretDocument::try_from(made.as_ref()))
            }
            KeyForm::Rsa2048 => RsaKeyPair::generate(KeySize::Rsa2048)
                .and_then(|made| Ok(SecretDocument::try_from(made.as_der()?.as_ref()))),
        };
        let pem = made.ok()?.ok()?.to_pem(LABEL, LineEnding::LF).ok()?;
        // What some readers would remove.
        Some(Secret::new(pem.trim_end()))
    }

    /// Reads a private key, whatever its algorithm.
    ///
    /// # Errors
    /// When it is of none of these forms. The error quotes nothing.
    pub(in crate::kind) fn read(pem: &Secret) -> Result<Self, CallError> {
        let invalid = |message: &str| {
            CallError::rejected(ErrorKind::Invalid, message)
                .hint("`openssl pkcs8 -topk8 -nocrypt -in KEY` writes a key as PKCS #8 in PEM")
        };
        let (label, document) = SecretDocument::from_pem(pem.expose().trim())
            .map_err(|_| invalid("the value is not a private key in PEM"))?;
        if label != LABEL {
            return Err(invalid("the private key is not in PKCS #8, or it has a passphrase"));
        }
        let bytes = document.as_bytes();
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, bytes)
            .map(Self::P256)
            .or_else(|_| Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes).map(Self::Ed25519))
            .or_else(|_| RsaKeyPair::from_pkcs8(bytes).map(Self::Rsa))
            .map_err(|_| {
                invalid("the private key is neither of P-256, nor of Ed25519, nor RSA of 2048 bits or more")
            })
    }

    /// The public key as certificates have it (`SubjectPublicKeyInfo` of RFC 5280, section 4.1), in DER.
    ///
    /// # Errors
    /// When it has no such form, which none of these lacks.
    pub(in crate::kind) fn public_info(&self) -> Result<Vec<u8>, CallError> {
        let der = match self {
            Self::P256(pair) => info_of(pair.public_key()),
            Self::Ed25519(pair) => info_of(pair.public_key()),
            Self::Rsa(pair) => info_of(pair.public_key()),
        };
        der.ok_or_else(|| {
            CallError::rejected(ErrorKind::Local, "this machine could not write the public key")
        })
    }

    /// Signs, with SHA-256 where the form has a digest of its own choice. A signature of P-256 is both numbers in 32 bytes
    /// each, as JSON Web Signatures have it (RFC 7518, section 3.4).
    ///
    /// # Errors
    /// When this machine gives no randomness.
    pub(in crate::kind) fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, CallError> {
        let random = SystemRandom::new();
        let signature = match self {
            Self::P256(pair) => pair.sign(&random, bytes).map(|made| made.as_ref().to_vec()),
            Self::Ed25519(pair) => Ok(pair.sign(bytes).as_ref().to_vec()),
            Self::Rsa(pair) => {
                let mut made = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, bytes, &mut made).map(|()| made)
            }
        };
        signature.map_err(|_| CallError::rejected(ErrorKind::Local, "this machine could not sign"))
    }
}

/// A public key as certificates have it, in DER.
pub(in crate::kind) fn info_of(key: &impl AsDer<PublicKeyX509Der<'static>>) -> Option<Vec<u8>> {
    Some(key.as_der().ok()?.as_ref().to_vec())
}
