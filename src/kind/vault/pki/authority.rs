//! Who signed a certificate, and where the revocation list of that issuer is.

use rustify::enums::RequestMethod;
use serde::Deserialize;

use super::certificate::Certificate;
use super::list::{Listing, read_list, verify};
use super::server::CertificateIssuer;
use crate::domain::ErrorKind;
use crate::kind::vault::client::{Effect, data, malformed_response};
use crate::provider::CallError;
use crate::text::sanitize;

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
