//! Key pairs: made, read, named by their thumbprint, and used.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use der::asn1::UintRef;
use der::pem::LineEnding;
use der::{Reader as _, SecretDocument, SliceReader};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::spec::{Algorithm, JwtSigningKey};
use crate::domain::ErrorKind;
use crate::provider::CallError;
use crate::secret::{Material, Secret};

/// What PEM calls a private key in PKCS #8 (RFC 7468, section 10).
const LABEL: &str = "PRIVATE KEY";

/// A private key, with the public one.
pub(super) enum SigningKey {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rs256(RsaKeyPair),
}

impl SigningKey {
    /// A new private key, in PKCS #8 as PEM; `None` when this machine gives no randomness.
    pub(super) fn generate(algorithm: Algorithm) -> Option<Secret> {
        let random = SystemRandom::new();
        let made = match algorithm {
            Algorithm::Es256 => EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
                .map(|made| SecretDocument::try_from(made.as_ref())),
            // The form without the public key, which every library reads.
            Algorithm::EdDsa => {
                Ed25519KeyPair::generate_pkcs8v1(&random).map(|made| SecretDocument::try_from(made.as_ref()))
            }
            Algorithm::Rs256 => RsaKeyPair::generate(KeySize::Rsa2048)
                .and_then(|made| Ok(SecretDocument::try_from(made.as_der()?.as_ref()))),
        };
        let pem = made.ok()?.ok()?.to_pem(LABEL, LineEnding::LF).ok()?;
        // What some readers would remove.
        Some(Secret::new(pem.trim_end()))
    }

    /// Reads a private key, whatever its algorithm.
    ///
    /// # Errors
    /// When it is not one that signs such tokens. The error quotes nothing.
    pub(super) fn read(pem: &Secret) -> Result<Self, CallError> {
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
            .map(Self::Es256)
            .or_else(|_| Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes).map(Self::EdDsa))
            .or_else(|_| RsaKeyPair::from_pkcs8(bytes).map(Self::Rs256))
            .map_err(|_| {
                invalid("the private key is neither of P-256, nor of Ed25519, nor RSA of 2048 bits or more")
            })
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Es256(_) => "ES256",
            Self::EdDsa(_) => "EdDSA",
            Self::Rs256(_) => "RS256",
        }
    }

    /// The public key as a JWK (RFC 7518, section 6; RFC 8037 for Ed25519), without what is said about it.
    fn jwk(&self) -> Value {
        match self {
            Self::Es256(pair) => {
                // 0x04, and both coordinates in 32 bytes each (SEC 1, section 2.3.3).
                let point = pair.public_key().as_ref();
                let (x, y) = point[1..].split_at((point.len() - 1) / 2);
                json!({ "kty": "EC", "crv": "P-256", "x": BASE64.encode(x), "y": BASE64.encode(y) })
            }
            Self::EdDsa(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": BASE64.encode(pair.public_key().as_ref()) })
            }
            Self::Rs256(pair) => {
                // RSAPublicKey of RFC 8017, appendix A.1.1.
                let numbers = SliceReader::new(pair.public_key().as_ref()).and_then(|mut reader| {
                    reader.sequence(|inner| {
                        Ok((inner.decode::<UintRef<'_>>()?, inner.decode::<UintRef<'_>>()?))
                    })
                });
                let (n, e) = numbers.expect("a public key that was just made is in its own form");
                json!({ "kty": "RSA", "n": BASE64.encode(n.as_bytes()), "e": BASE64.encode(e.as_bytes()) })
            }
        }
    }

    /// The name of the key: its thumbprint.
    pub(super) fn kid(&self) -> String {
        thumbprint(&self.jwk()).expect("the JWK of a key has what its thumbprint is made of")
    }

    /// The member of a set that verifiers find the public key in.
    pub(super) fn member(&self) -> String {
        let mut jwk = self.jwk();
        jwk["use"] = "sig".into();
        jwk["alg"] = self.algorithm().into();
        jwk["kid"] = self.kid().into();
        jwk.to_string()
    }

    /// A token with these claims (RFC 7519), signed now.
    ///
    /// # Errors
    /// When this machine gives no randomness.
    pub(super) fn sign(&self, kid: &str, claims: &Value) -> Result<Secret, CallError> {
        let header = json!({ "alg": self.algorithm(), "typ": "JWT", "kid": kid });
        let signed = [header.to_string(), claims.to_string()].map(|part| BASE64.encode(part)).join(".");
        let (random, bytes) = (SystemRandom::new(), signed.as_bytes());
        let signature = match self {
            Self::Es256(pair) => pair.sign(&random, bytes).map(|made| made.as_ref().to_vec()),
            Self::EdDsa(pair) => Ok(pair.sign(bytes).as_ref().to_vec()),
            Self::Rs256(pair) => {
                let mut made = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, bytes, &mut made).map(|()| made)
            }
        };
        let signature =
            signature.map_err(|_| CallError::rejected(ErrorKind::Local, "a token could not be signed"))?;
        Ok(Secret::new(format!("{signed}.{}", BASE64.encode(signature))))
    }
}

/// The private key and the kid of a credential.
///
/// # Errors
/// When one of them is missing.
pub(super) fn parts(material: &Material) -> Result<(&Secret, &str), CallError> {
    let part = |name| material.part(name).filter(|part| !part.expose().trim().is_empty());
    match (part(JwtSigningKey::SECRET), part(JwtSigningKey::KID)) {
        (Some(pem), Some(kid)) => Ok((pem, kid.expose())),
        _ => Err(CallError::rejected(
            ErrorKind::Invalid,
            "the value cannot be a signing key: its private key or its kid is missing or empty",
        )
        .hint("compare the store's fields and `fields` in the runbook")),
    }
}

/// The thumbprint of a JWK (RFC 7638, with SHA-256); `None` for what it is not defined for.
pub(super) fn thumbprint(jwk: &Value) -> Option<String> {
    let names: &[&str] = match jwk["kty"].as_str()? {
        "EC" => &["crv", "kty", "x", "y"],
        "OKP" => &["crv", "kty", "x"],
        "RSA" => &["e", "kty", "n"],
        _ => return None,
    };
    let fields: Option<Vec<String>> =
        names.iter().map(|name| Some(format!("\"{name}\":{}", Value::from(jwk[*name].as_str()?)))).collect();
    Some(BASE64.encode(Sha256::digest(format!("{{{}}}", fields?.join(",")))))
}
