//! What a revocation list says of a certificate: read as a relying party reads it.

use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{
    BorrowedCertRevocationList, CertRevocationList, EndEntityCert, Error, ExpirationPolicy,
    ExtendedKeyUsageValidator, KeyPurposeIdIter, RevocationCheckDepth, RevocationOptions,
    RevocationOptionsBuilder, anchor_from_trusted_cert,
};
use x509_cert::crl::CertificateList;

use super::certificate::{Certificate, timestamp};

/// What the revocation list of a certificate's issuer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listing {
    /// Whether it names the certificate.
    pub(super) revoked: bool,
    /// When it was made.
    pub(super) made: Timestamp,
    /// When the next one is due; `None` where it does not say.
    pub(super) next: Option<Timestamp>,
}

/// A certificate may be for whatever it says.
struct AnyPurpose;

impl ExtendedKeyUsageValidator for AnyPurpose {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        Ok(())
    }
}

/// Whether this issuer signed the certificate, and what the options say of it. An issuer of the secrets engine is trusted
/// here, be it a root or not.
pub(super) fn verify(
    certificate: &Certificate,
    issuer: &Certificate,
    at: Timestamp,
    revocation: Option<RevocationOptions<'_>>,
) -> Result<(), Error> {
    // What expired is judged by the last moment of its life: an expired certificate is not a revoked one.
    let at = at.min(certificate.not_after()).max(certificate.not_before()).as_second();
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(at.try_into().unwrap_or(0)));
    let (leaf, root) =
        (CertificateDer::from(certificate.der.as_slice()), CertificateDer::from(issuer.der.as_slice()));
    let anchors = [anchor_from_trusted_cert(&root)?];
    let algorithms = webpki::ALL_VERIFICATION_ALGS;
    EndEntityCert::try_from(&leaf)?
        .verify_for_usage(algorithms, &anchors, &[], at, AnyPurpose, revocation, None)
        .map(drop)
}

/// What a revocation list (DER) says of a certificate of this issuer.
///
/// # Errors
/// When it is not this issuer's, not valid now, or cannot be read, with a sentence.
pub(super) fn read_list(
    list: &[u8],
    certificate: &Certificate,
    issuer: &Certificate,
    now: Timestamp,
) -> Result<Listing, String> {
    let parsed = <CertificateList as der::Decode>::from_der(list).map_err(|error| error.to_string())?;
    let made = timestamp(parsed.tbs_cert_list.this_update);
    let next = parsed.tbs_cert_list.next_update.map(timestamp);
    if let Some(due) = next.filter(|due| *due <= now) {
        return Err(format!("it was to be replaced at {due:.0}"));
    }
    let borrowed = BorrowedCertRevocationList::from_der(list).map_err(|error| error.to_string())?;
    let list = CertRevocationList::from(borrowed);
    let lists = [&list];
    let options = RevocationOptionsBuilder::new(&lists)
        .map_err(|_| "there is none".to_owned())?
        .with_depth(RevocationCheckDepth::EndEntity)
        .with_expiration_policy(ExpirationPolicy::Enforce)
        .build();
    let revoked = match verify(certificate, issuer, now, Some(options)) {
        Ok(()) => false,
        Err(Error::CertRevoked) => true,
        Err(error) => return Err(format!("it does not verify: {error}")),
    };
    Ok(Listing { revoked, made, next })
}
