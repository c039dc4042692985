//! Key pairs: made, read, named by their thumbprint, and used.

use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use der::asn1::UintRef;
use der::{Reader as _, SliceReader};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::spec::{Algorithm, JwtSigningKey};
use crate::domain::ErrorKind;
use crate::kind::key_pair::{KeyForm, KeyPair as SigningKey};
use crate::provider::CallError;
use crate::secret::{Material, Secret};

impl Algorithm {
    /// The key pair that signs so.
    pub(super) fn form(self) -> KeyForm {
        match self {
            Self::Es256 => KeyForm::P256,
            Self::EdDsa => KeyForm::Ed25519,
            Self::Rs256 => KeyForm::Rsa2048,
        }
    }
}

impl SigningKey {
    fn algorithm(&self) -> &'static str {
        match self {
            Self::P256(_) => "ES256",
            Self::Ed25519(_) => "EdDSA",
            Self::Rsa(_) => "RS256",
        }
    }

    /// The public key as a JWK (RFC 7518, section 6; RFC 8037 for Ed25519), without what is said about it.
    fn jwk(&self) -> Value {
        match self {
            Self::P256(pair) => {
                // 0x04, and both coordinates in 32 bytes each (SEC 1, section 2.3.3).
                let point = pair.public_key().as_ref();
                let (x, y) = point[1..].split_at((point.len() - 1) / 2);
                json!({ "kty": "EC", "crv": "P-256", "x": BASE64.encode(x), "y": BASE64.encode(y) })
            }
            Self::Ed25519(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": BASE64.encode(pair.public_key().as_ref()) })
            }
            Self::Rsa(pair) => {
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
    pub(super) fn token(&self, kid: &str, claims: &Value) -> Result<Secret, CallError> {
        let header = json!({ "alg": self.algorithm(), "typ": "JWT", "kid": kid });
        let signed = [header.to_string(), claims.to_string()].map(|part| BASE64.encode(part)).join(".");
        Ok(Secret::new(format!("{signed}.{}", BASE64.encode(self.sign(signed.as_bytes())?))))
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
