//! Who signed a certificate, and what its revocation list says: asked as a relying party asks.

use jiff::Timestamp;
use rustify::enums::RequestMethod;
use rustls::pki_types::{CertificateDer, UnixTime};
use serde::Deserialize;
use webpki::{
    BorrowedCertRevocationList, CertRevocationList, EndEntityCert, Error, ExpirationPolicy,
    ExtendedKeyUsageValidator, KeyPurposeIdIter, RevocationCheckDepth, RevocationOptions,
    RevocationOptionsBuilder, anchor_from_trusted_cert,
};
use x509_cert::crl::CertificateList;

use super::certificate::{Certificate, timestamp};
use super::server::CertificateIssuer;
use crate::domain::ErrorKind;
use crate::kind::vault::client::{Effect, data, malformed_response};
use crate::provider::CallError;
use crate::text::sanitize;

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
fn verify(
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

impl CertificateIssuer {
    /// The issuer that signed a certificate: its name on the server, and its certificate; `None` where none of the secrets
    /// engine's did.
    async fn issuer_of(&self, certificate: &Certificate) -> Result<Option<(String, Certificate)>, CallError> {
        #[derive(Deserialize)]
        struct Keys {
            keys: Vec<String>,
        }
        #[derive(Deserialize)]
        struct Shown {
            certificate: String,
        }
        let path = self.spec.path("issuers");
        let reply = self.client.plain(RequestMethod::LIST, &path, None, Effect::Read).await?;
        let now = self.clock.now().wall;
        for id in data::<Keys>(&reply, &path)?.keys {
            if !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
                return Err(malformed_response(&path).read_only());
            }
            let path = self.spec.path(&format!("issuer/{id}/json"));
            let reply = self.client.plain(RequestMethod::GET, &path, None, Effect::Read).await?;
            let issuer = Certificate::read(&data::<Shown>(&reply, &path)?.certificate)
                .ok_or_else(|| malformed_response(&path).read_only())?;
            if verify(certificate, &issuer, now, None).is_ok() {
                return Ok(Some((id, issuer)));
            }
        }
        Ok(None)
    }

    /// What the complete revocation list of a certificate's issuer says of it now; `None` where no issuer of the secrets
    /// engine signed it.
    ///
    /// # Errors
    /// When there is no valid list: that is neither acceptance nor refusal.
    pub(super) async fn listing(&self, certificate: &Certificate) -> Result<Option<Listing>, CallError> {
        let Some((id, issuer)) = self.issuer_of(certificate).await? else { return Ok(None) };
        let path = self.spec.path(&format!("issuer/{id}/crl/der"));
        let reply = self.client.plain(RequestMethod::GET, &path, None, Effect::Read).await?;
        read_list(&reply.body, certificate, &issuer, self.clock.now().wall).map(Some).map_err(|why| {
            let message = format!("the revocation list {path} cannot be used: {}", sanitize(&why));
            CallError::rejected(ErrorKind::NoAnswer, message)
                .hint("check `vault read` of `config/crl` there; `crl/rotate` makes a new list")
        })
    }
}
