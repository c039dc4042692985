//! The request to sign a key (PKCS #10, RFC 2986): the server is given the public key, and never the private one.

use der::asn1::{Any, BitString, ObjectIdentifier, OctetString, SetOfVec, UintRef, Utf8StringRef};
use der::pem::LineEnding;
use der::{Decode as _, Encode as _, EncodePem as _};
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::name::{RdnSequence, RelativeDistinguishedName};
use x509_cert::request::{CertReq, CertReqInfo, ExtensionReq, Version};
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

use super::names::wanted;
use super::spec::VaultPki;
use crate::domain::ErrorKind;
use crate::kind::key_pair::KeyPair;
use crate::provider::CallError;

/// The common name (RFC 5280, appendix A.1).
pub(super) const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
/// `ecdsa-with-SHA256` (RFC 5758, section 3.2).
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
/// Ed25519 (RFC 8410, section 3).
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// `sha256WithRSAEncryption` (RFC 4055, section 5).
const RSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");

/// A request to sign this key for the names of the runbook, in PEM.
///
/// # Errors
/// When a name cannot be written in a certificate.
pub(super) fn request(key: &KeyPair, spec: &VaultPki) -> Result<String, CallError> {
    let public = key.public_info()?;
    let odd = |error: der::Error| {
        CallError::rejected(ErrorKind::Invalid, format!("the request to sign cannot be made: {error}"))
            .hint("correct the names of the issuer in the runbook")
    };
    let info = info(&public, spec).map_err(odd)?;
    let signature = key.sign(&info.to_der().map_err(odd)?)?;
    signed(info, key, &signature).and_then(|made| made.to_pem(LineEnding::LF)).map_err(odd)
}

fn info(public: &[u8], spec: &VaultPki) -> Result<CertReqInfo, der::Error> {
    let name = AttributeTypeAndValue {
        oid: COMMON_NAME,
        value: Any::encode_from(&Utf8StringRef::new(&spec.common_name)?)?,
    };
    let mut attributes = SetOfVec::new();
    let names = wanted(spec)?;
    if !names.is_empty() {
        let names = Extension {
            extn_id: SUBJECT_ALT_NAME,
            critical: false,
            extn_value: OctetString::new(SubjectAltName(names).to_der()?)?,
        };
        attributes.insert(ExtensionReq(vec![names]).try_into()?)?;
    }
    Ok(CertReqInfo {
        version: Version::V1,
        subject: RdnSequence(vec![RelativeDistinguishedName(SetOfVec::try_from(vec![name])?)]),
        public_key: SubjectPublicKeyInfoOwned::from_der(public)?,
        attributes,
    })
}

fn signed(info: CertReqInfo, key: &KeyPair, signature: &[u8]) -> Result<CertReq, der::Error> {
    let (oid, parameters, signature) = match key {
        KeyPair::P256(_) => (ECDSA_SHA256, None, numbers(signature)?),
        KeyPair::Ed25519(_) => (ED25519, None, signature.to_vec()),
        KeyPair::Rsa(_) => (RSA_SHA256, Some(Any::null()), signature.to_vec()),
    };
    let algorithm = AlgorithmIdentifierOwned { oid, parameters };
    Ok(CertReq { info, algorithm, signature: BitString::from_bytes(&signature)? })
}

/// Two numbers of one length as certificates have them (`ECDSA-Sig-Value` of RFC 3279, section 2.2.3).
fn numbers(signature: &[u8]) -> Result<Vec<u8>, der::Error> {
    let (r, s) = signature.split_at(signature.len() / 2);
    vec![UintRef::new(r)?, UintRef::new(s)?].to_der()
}
