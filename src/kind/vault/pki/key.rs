//! The public half of a private key, whatever form the key has: a server that makes keys itself, as `issue` of a PKI
//! secrets engine does, writes them in other forms than stanch.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING,
    EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair,
};
use der::SecretDocument;

use crate::kind::key_pair::info_of;
use crate::secret::Secret;

/// As certificates have it (`SubjectPublicKeyInfo` of RFC 5280, section 4.1), in DER; `None` of a text that is no private
/// key of a form that is known here: RSA, Ed25519, or one of the curves P-256, P-384 and P-521.
pub(super) fn public_half(pem: &Secret) -> Option<Vec<u8>> {
    let (_, document) = SecretDocument::from_pem(pem.expose().trim()).ok()?;
    let bytes = document.as_bytes();
    let curves =
        [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING, &ECDSA_P521_SHA512_ASN1_SIGNING];
    curves
        .into_iter()
        .find_map(|curve| EcdsaKeyPair::from_private_key_der(curve, bytes).ok())
        .and_then(|pair| info_of(pair.public_key()))
        .or_else(|| {
            let pair = RsaKeyPair::from_pkcs8(bytes).or_else(|_| RsaKeyPair::from_der(bytes));
            pair.ok().and_then(|pair| info_of(pair.public_key()))
        })
        .or_else(|| {
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes);
            pair.ok().and_then(|pair| info_of(pair.public_key()))
        })
}
