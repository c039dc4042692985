//! Certificates of OpenSSH: who may sign because an authority says so.

use jiff::Timestamp;
use ssh_key::Certificate;
use ssh_key::certificate::CertType;

use super::blob::{Blob, verify};

/// Reads a certificate, and checks that its authority signed it.
pub(super) fn read(bytes: &[u8]) -> Result<Certificate, String> {
    let certificate =
        Certificate::from_bytes(bytes).map_err(|_| "its certificate cannot be read".to_owned())?;
    // One encoding only: a length in it that the authority did not sign must not be another.
    if certificate.to_bytes().ok().as_deref() != Some(bytes) {
        return Err("its certificate cannot be read".into());
    }
    let blob = Vec::<u8>::try_from(certificate.signature().clone())
        .map_err(|_| "the signature of its certificate cannot be read".to_owned())?;
    // What the authority signed is all that stands before its signature.
    let signed = bytes.len().checked_sub(4 + blob.len()).map(|end| &bytes[..end]);
    let signed = signed.ok_or("its certificate cannot be read")?;
    let signature = Blob::read(&blob).ok_or("the signature of its certificate cannot be read")?;
    verify(certificate.signature_key(), &signature, signed)
        .map_err(|why| format!("the authority did not sign its certificate: {why}"))?;
    Ok(certificate)
}

/// Whether a certificate gives a principal, at a moment; without one, whenever that was.
pub(super) fn allow(certificate: &Certificate, principal: &str, at: Option<Timestamp>) -> Result<(), String> {
    if certificate.cert_type() != CertType::User {
        return Err("the certificate is that of a host".into());
    }
    let now = at.map(|at| u64::try_from(at.as_second()).unwrap_or_default());
    if now.is_some_and(|now| now < certificate.valid_after()) {
        return Err("the certificate is not valid yet".into());
    }
    if now.is_some_and(|now| now >= certificate.valid_before()) {
        return Err("the certificate has expired".into());
    }
    // What a critical option means must be known to whoever heeds the certificate. None means anything for a signature.
    if certificate.critical_options().iter().next().is_some() {
        return Err("the certificate has a critical option, which stanch does not know".into());
    }
    match certificate.valid_principals() {
        [] => Err("the certificate names no principal".into()),
        names if names.iter().any(|name| name == principal) => Ok(()),
        _ => Err(format!("the certificate does not name {principal}")),
    }
}
