//! Certificates: signed for keys that are made here, found again by them, and revoked by their serial number.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use rustify::enums::RequestMethod;
use serde::Deserialize;
use serde_json::json;

use super::certificate::{Certificate, serial};
use super::key::public_half;
use super::list::Listing;
use super::names::{shown, wanted};
use super::request::request;
use super::spec::{KeyType, VaultPki, odd_name};
use crate::clock::Clock;
use crate::domain::{Check, ErrorKind, Identity, IssuerTraits, Life, Standing};
use crate::kind::key_pair::{KeyForm, KeyPair};
use crate::kind::real::{IssuerServer, RealProvider};
use crate::kind::vault::client::{Effect, VaultClient, data, malformed_response};
use crate::kind::vault::shape::{is_empty_list, is_segment, mount};
use crate::provider::outcome::CallError;
use crate::provider::{CallContext, Grant, Issued, Issuer, Use};
use crate::runbook::model::Credential;
use crate::secret::{Material, Secret};
use crate::text::sanitize;

/// The parameters of a request to sign.
pub(super) const SENT: [&str; 7] =
    ["csr", "common_name", "alt_names", "ip_sans", "uri_sans", "ttl", "format"];

/// Issues certificates.
pub struct CertificateIssuer {
    pub(super) client: Arc<VaultClient>,
    pub(super) spec: VaultPki,
    pub(super) clock: Arc<dyn Clock>,
}

/// A certificate as the server stores it.
pub(super) struct Record {
    pub(super) certificate: Certificate,
    revoked: bool,
}

impl CertificateIssuer {
    /// Certificates as `spec` says. `clock` tells which revocation lists are valid.
    ///
    /// # Errors
    /// When its names cannot be parts of a path, or of a certificate.
    pub fn new(client: Arc<VaultClient>, spec: VaultPki, clock: Arc<dyn Clock>) -> Result<Self, CallError> {
        let invalid = |message: String| CallError::rejected(ErrorKind::Invalid, message);
        let Some(mount) = mount(&spec.mount) else {
            let message = format!("`{}` is not the path of a secrets engine", sanitize(&spec.mount));
            return Err(invalid(message).hint("correct `mount` in the runbook"));
        };
        if !is_segment(&spec.role) {
            let message = format!("`{}` cannot be the name of a role", sanitize(&spec.role));
            return Err(invalid(message).hint("correct `role` of the issuer"));
        }
        let lists =
            [("alt_names", &spec.alt_names), ("ip_sans", &spec.ip_sans), ("uri_sans", &spec.uri_sans)];
        let names = lists.iter().flat_map(|(field, names)| names.iter().map(|name| (*field, name.as_str())));
        for (field, name) in names.chain([("common_name", spec.common_name.as_str())]) {
            if let Some(why) = odd_name(field, name) {
                let message = format!("`{}` under `{field}`: {why}", sanitize(name));
                return Err(invalid(message).hint("correct the names of the issuer in the runbook"));
            }
        }
        Ok(Self { client, spec: VaultPki { mount, ..spec }, clock })
    }

    /// A certificate of the server's, by its serial number; `None` where it stores none.
    pub(super) async fn record(&self, handle: &str) -> Result<Option<Record>, CallError> {
        #[derive(Deserialize)]
        struct Shown {
            certificate: String,
            revocation_time: i64,
        }
        let handle = known_form(handle)?;
        let path = self.spec.path(&format!("cert/{handle}"));
        let reply = self.client.plain_reply(RequestMethod::GET, &path, None, Effect::Read).await?;
        match reply.status.as_u16() {
            200 => {
                let shown: Shown = data(&reply, &path)?;
                let certificate = Certificate::read(&shown.certificate).filter(|one| one.serial() == handle);
                let certificate = certificate.ok_or_else(|| malformed_response(&path).read_only())?;
                Ok(Some(Record { certificate, revoked: shown.revocation_time > 0 }))
            }
            404 if is_empty_list(&reply) => Ok(None),
            _ => Err(self.client.fault(&reply, &format!("GET {path}"), Effect::Read).await),
        }
    }

    /// The serial numbers of all certificates that the server stores.
    pub(super) async fn serials(&self) -> Result<Vec<String>, CallError> {
        #[derive(Deserialize)]
        struct Keys {
            keys: Vec<String>,
        }
        let path = self.spec.path("certs");
        let reply = self.client.plain_reply(RequestMethod::LIST, &path, None, Effect::Read).await?;
        let keys = match reply.status.as_u16() {
            200 => data::<Keys>(&reply, &path)?.keys,
            404 if is_empty_list(&reply) => Vec::new(),
            _ => return Err(self.client.fault(&reply, &format!("LIST {path}"), Effect::Read).await),
        };
        let all: Option<Vec<String>> = keys.iter().map(|key| serial(key)).collect();
        all.ok_or_else(|| malformed_response(&path).read_only())
    }

    /// What the revocation list says of a certificate that the server stores.
    async fn listing_of(&self, record: &Record) -> Result<Listing, CallError> {
        self.listing(&record.certificate).await?.ok_or_else(|| {
            let message = format!(
                "no issuer of {} signed the certificate {}, so no list can name it",
                self.spec.mount,
                record.certificate.serial()
            );
            CallError::rejected(ErrorKind::NoAnswer, message)
                .hint("the issuer may have been deleted; stanch cannot prove that its certificates are dead")
        })
    }

    /// A revoked certificate that is on no list is accepted by relying parties: that is not gone.
    async fn life_of(&self, record: &Record) -> Result<Life, CallError> {
        Ok(match record.revoked {
            false => Life::Active,
            true if self.listing_of(record).await?.revoked => Life::Gone,
            true => Life::Deleted,
        })
    }

    fn identity(&self, handle: String) -> Identity {
        let principal = format!("{}/{}", sanitize(&self.spec.mount), sanitize(&self.spec.common_name));
        Identity { handle, principal }
    }

    /// What stands between a revoked certificate and its end.
    fn unlisted(&self, handle: &str, listing: &Listing) -> CallError {
        let next = listing
            .next
            .map_or_else(|| "at a time that it does not tell".to_owned(), |at| format!("by {at:.0}"));
        let message = format!(
            "the certificate {handle} is revoked, but the revocation list of {:.0} does not name it: relying parties accept it; the next list \
             comes {next}",
            listing.made
        );
        let hint = match self.spec.rotate_crl {
            true => "look at the server's log: it said that it made a new list".to_owned(),
            false => format!(
                "have a new list made (`vault read {}`), then resume; `rotate_crl: true` of the issuer does that in the next run",
                self.spec.path("crl/rotate")
            ),
        };
        CallError { kind: ErrorKind::NotReady, ..CallError::unknown(message) }.hint(hint)
    }
}

/// A handle as the server writes it.
fn known_form(handle: &str) -> Result<String, CallError> {
    serial(handle).ok_or_else(|| {
        let message = format!("`{}` is not a serial number such as 5e:7b:03", sanitize(handle));
        CallError::rejected(ErrorKind::Invalid, message).hint("the handle is the certificate's serial number")
    })
}

/// The certificate and the key of a credential, where they belong together.
///
/// # Errors
/// [`ErrorKind::Invalid`], with a sentence that quotes nothing.
fn parts(material: &Material) -> Result<Certificate, CallError> {
    let invalid = |why: &str| {
        CallError::rejected(
            ErrorKind::Invalid,
            format!("the value cannot be a certificate with its key: {why}"),
        )
        .hint("compare the store's fields and `fields` in the runbook")
    };
    let certificate = material.part(VaultPki::CERTIFICATE).ok_or_else(|| invalid("a part is missing"))?;
    let certificate = Certificate::read(certificate.expose())
        .ok_or_else(|| invalid("the certificate is not one in PEM"))?;
    let key = material.part(VaultPki::KEY).ok_or_else(|| invalid("a part is missing"))?;
    let key = public_half(key).ok_or_else(|| invalid("the key is not a private key that stanch can read"))?;
    if certificate.key() != Some(key) {
        return Err(invalid("the key is not that of the certificate"));
    }
    Ok(certificate)
}

#[async_trait]
impl Issuer for CertificateIssuer {
    fn traits(&self) -> IssuerTraits {
        VaultPki::TRAITS
    }

    async fn preflight(&self, outgoing: Option<&Identity>) -> Vec<Check> {
        self.checks(outgoing.map(|outgoing| outgoing.handle.as_str())).await
    }

    async fn before_revoking(&self, outgoing: &Identity) -> Check {
        self.own_check(&outgoing.handle)
    }

    async fn full_handle(&self, handle: &str) -> Result<String, CallError> {
        known_form(handle)
    }

    async fn identify(&self, material: &Material) -> Result<Option<Standing>, CallError> {
        let certificate = parts(material)?;
        let handle = certificate.serial();
        let life = match self.record(&handle).await? {
            Some(record) if record.certificate.der == certificate.der => self.life_of(&record).await?,
            _ => match self.listing(&certificate).await? {
                None => {
                    let message = format!("no issuer of {} signed this certificate", self.spec.mount);
                    return Err(CallError::rejected(ErrorKind::Invalid, message)
                        .hint("correct `mount` of the issuer in the runbook, or the store"));
                }
                Some(listing) if listing.revoked || certificate.not_after() <= self.clock.now().wall => {
                    Life::Gone
                }
                Some(_) => {
                    let message = format!(
                        "the server signed the certificate {handle}, and does not store it, so it cannot be revoked by its serial number"
                    );
                    return Err(CallError::rejected(ErrorKind::Unsupported, message).hint(format!(
                        "revoke it by hand: `vault write {} certificate=@FILE`",
                        self.spec.path("revoke")
                    )));
                }
            },
        };
        let identity = self.identity(handle);
        Ok((life != Life::Gone).then_some(Standing { identity, life, uses_left: None }))
    }

    fn candidate(&self, _: &CallContext) -> Option<Material> {
        let form = match self.spec.key {
            KeyType::EcP256 => KeyForm::P256,
            KeyType::Rsa2048 => KeyForm::Rsa2048,
            KeyType::Ed25519 => KeyForm::Ed25519,
        };
        Some(Material::single(VaultPki::KEY, KeyPair::generate(form)?))
    }

    async fn issue(&self, _: &CallContext, candidate: Option<&Material>) -> Result<Issued, CallError> {
        #[derive(Deserialize)]
        struct Signed {
            certificate: String,
            issuing_ca: String,
            #[serde(default)]
            ca_chain: Option<Vec<String>>,
        }
        let candidate = candidate
            .ok_or_else(|| CallError::rejected(ErrorKind::Local, "this machine could not make a key pair"))?;
        let key = candidate.part(VaultPki::KEY).ok_or_else(|| {
            CallError::rejected(ErrorKind::Invalid, "there is no key to make a certificate for")
        })?;
        let key = KeyPair::read(key)?;
        let spec = &self.spec;
        // The role may go by the request or by the parameters: both say the same.
        let body = json!({
            "csr": request(&key, spec)?,
            "common_name": spec.common_name,
            "alt_names": spec.alt_names.join(","),
            "ip_sans": spec.ip_sans.join(","),
            "uri_sans": spec.uri_sans.join(","),
            "ttl": format!("{}s", spec.ttl.get().as_secs()),
            "format": "pem",
        });
        let path = spec.path(&format!("sign/{}", spec.role));
        let body = body.to_string().into_bytes();
        let reply = self.client.plain(RequestMethod::POST, &path, Some(body), Effect::Write).await?;
        let signed: Signed = data(&reply, &path).map_err(CallError::doubtful)?;
        let odd = || malformed_response(&path);
        let certificate = Certificate::read(&signed.certificate).ok_or_else(odd)?;
        if certificate.key() != Some(key.public_info()?) {
            return Err(odd());
        }
        let chain =
            signed.ca_chain.filter(|chain| !chain.is_empty()).unwrap_or_else(|| vec![signed.issuing_ca]);
        let chain: Option<Vec<String>> =
            chain.iter().map(|pem| Certificate::read(pem).and_then(|one| one.pem())).collect();
        let chain = chain.ok_or_else(odd)?.join("\n");
        let pem = certificate.pem().ok_or_else(odd)?;
        Ok(Issued {
            identity: self.identity(certificate.serial()),
            material: candidate
                .clone()
                .with(VaultPki::CERTIFICATE, Secret::new(pem))
                .with(VaultPki::CHAIN, Secret::new(chain)),
        })
    }

    /// Every certificate of the key that was made here: no other can have it.
    async fn find(&self, context: &CallContext, before: &[String]) -> Result<Vec<String>, CallError> {
        let held = context.held.as_ref().and_then(|held| held.part(VaultPki::KEY));
        let Some(key) = held else { return Ok(Vec::new()) };
        let key = KeyPair::read(key)?.public_info()?;
        let mut found = Vec::new();
        for handle in self.serials().await? {
            if before.contains(&handle) {
                continue;
            }
            let Some(record) = self.record(&handle).await? else { continue };
            if record.certificate.key().as_ref() == Some(&key) && self.life_of(&record).await? != Life::Gone {
                found.push(handle);
            }
        }
        Ok(found)
    }

    async fn existing(&self) -> Result<Vec<String>, CallError> {
        // What is older than the run need not be read to look for its key.
        self.serials().await
    }

    async fn created(&self, handle: &str) -> Result<Option<Timestamp>, CallError> {
        let Some(record) = self.record(handle).await? else { return Ok(None) };
        let made = self.role().await.map(|role| record.certificate.not_before() + role.backdated());
        Ok(made.ok())
    }

    async fn inspect(&self, handle: &str) -> Result<Grant, CallError> {
        let (record, role) = tokio::try_join!(self.record(handle), self.role())?;
        let certificate = record.map(|record| record.certificate).ok_or_else(|| {
            let message = format!("{} stores no certificate {}", self.spec.mount, sanitize(handle));
            CallError::rejected(ErrorKind::NotFound, message)
        })?;
        let made = certificate.not_before() + role.backdated();
        let lives = std::time::Duration::try_from(certificate.not_after().duration_since(made)).ok();
        let mut asked: std::collections::BTreeSet<String> =
            wanted(&self.spec).unwrap_or_default().iter().map(shown).collect();
        asked.insert(self.spec.common_name.to_ascii_lowercase());
        let has = certificate.names();
        if let Some(missing) = asked.difference(&has).next() {
            let message = format!("the server left the name {} out of the certificate", sanitize(missing));
            return Err(CallError::rejected(ErrorKind::Declined, message)
                .hint("correct the names in the runbook, or the role that signs"));
        }
        let wider =
            has.difference(&asked).map(|name| format!("it is for {} as well", sanitize(name))).collect();
        Ok(Grant { ttl: lives, lives, wider, ..Grant::default() })
    }

    async fn life(&self, handle: &str) -> Result<Life, CallError> {
        match self.record(handle).await? {
            Some(record) => self.life_of(&record).await,
            None => Ok(Life::Gone),
        }
    }

    async fn disable(&self, _: &CallContext, _: &str) -> Result<(), CallError> {
        Err(never_again())
    }

    async fn enable(&self, _: &CallContext, _: &str) -> Result<(), CallError> {
        Err(never_again())
    }

    async fn revoke(&self, _: &CallContext, handle: &str, _: Option<&Material>) -> Result<(), CallError> {
        let handle = known_form(handle)?;
        if self.record(&handle).await.map_err(CallError::read_only)?.is_none() {
            return Ok(());
        }
        let path = self.spec.path("revoke");
        let body = json!({ "serial_number": handle }).to_string().into_bytes();
        self.client.plain(RequestMethod::POST, &path, Some(body), Effect::Write).await?;
        let record = self.record(&handle).await.map_err(CallError::doubtful)?;
        let Some(record) = record.filter(|record| record.revoked) else {
            let message = format!(
                "{} took the request to revoke the certificate {handle}, and did not",
                self.client.place()
            );
            return Err(CallError::unknown(message).hint(
                "the server revokes no expired certificate, unless `allow_expired_cert_revocation` is set",
            ));
        };
        let listing = self.listing_of(&record).await.map_err(CallError::doubtful)?;
        if listing.revoked {
            return Ok(());
        }
        if !self.spec.rotate_crl {
            return Err(self.unlisted(&handle, &listing));
        }
        let path = self.spec.path("crl/rotate");
        self.client
            .plain(RequestMethod::GET, &path, None, Effect::Write)
            .await
            .map_err(CallError::doubtful)?;
        let listing = self.listing_of(&record).await.map_err(CallError::doubtful)?;
        if listing.revoked { Ok(()) } else { Err(self.unlisted(&handle, &listing)) }
    }

    /// What a relying party finds that goes by the issuer and by its revocation list. The certificate is shown to nobody.
    async fn attempt(&self, material: &Material) -> Result<Use, CallError> {
        let certificate = parts(material)?;
        let (handle, ends) = (certificate.serial(), certificate.not_after());
        match self.listing(&certificate).await? {
            None => Err(CallError::rejected(
                ErrorKind::Invalid,
                format!("no issuer of {} signed the certificate {handle}", self.spec.mount),
            )),
            Some(listing) if listing.revoked => Ok(Use::Refused(format!(
                "the revocation list of {:.0} names the certificate {handle}",
                listing.made
            ))),
            Some(_) if ends <= self.clock.now().wall => Err(CallError::rejected(
                ErrorKind::NoAnswer,
                format!(
                    "the certificate {handle} expired at {ends:.0}, and no list names it: that is not revoked"
                ),
            )),
            Some(_) => Ok(Use::Accepted),
        }
    }
}

fn never_again() -> CallError {
    CallError::rejected(
        ErrorKind::Unsupported,
        "a certificate cannot be disabled: a revoked one is never valid again",
    )
}

#[async_trait]
impl IssuerServer for VaultPki {
    async fn connect(
        &self,
        _: &str,
        _: &Credential,
        at: &RealProvider,
    ) -> Result<Arc<dyn Issuer>, CallError> {
        let client = at.client(&self.connection).await?;
        Ok(Arc::new(CertificateIssuer::new(client, self.clone(), Arc::clone(&at.clock))?))
    }
}
