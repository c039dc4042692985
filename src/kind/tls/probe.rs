//! Showing a certificate to a relying party.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustls::AlertDescription;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::handshake::{Broken, Endpoint, Shows, Watch, alert, alert_name, no_answer, patience, words};
use super::spec::{CERTIFICATE, CHAIN, KEY, TlsProbe, is_path};
use crate::domain::{Check, ErrorKind};
use crate::provider::logged::Logged;
use crate::provider::outcome::CallError;
use crate::provider::tls::provider;
use crate::provider::{Probe, Use};
use crate::secret::Material;

/// More than this is not read for the first line of a response.
const MAX_LINE: usize = 8 * 1024;

/// The alerts by which a server says that it does not accept the certificate (RFC 8446, section 6.2). Others say that
/// something else is wrong: `handshake_failure` may mean anything, `certificate_required` that it saw none. In TLS 1.2 an alert
/// before the end of the handshake is not encrypted, so whoever is in between could have sent it: that is one more
/// reason why a refusal counts only beside an acceptance by the same check.
const REFUSALS: [AlertDescription; 6] = [
    AlertDescription::CertificateRevoked,
    AlertDescription::BadCertificate,
    AlertDescription::CertificateUnknown,
    AlertDescription::UnknownCA,
    AlertDescription::CertificateExpired,
    AlertDescription::AccessDenied,
];

/// Makes a handshake as the client that the certificate is for, and reads what the server says to that.
#[derive(Debug)]
pub struct TlsTry {
    at: Endpoint,
    trust: Arc<dyn ServerCertVerifier>,
    request: Option<String>,
    expect: u16,
    refuse: Vec<u16>,
    patience: Duration,
}

/// How an attempt ended.
enum Ended {
    /// The server sent this, before anything else ended the attempt.
    Said(Vec<u8>),
    /// No more can come.
    Broken(io::Error),
}

impl TlsTry {
    /// As the runbook says; `trust` verifies the server. `deadline` is how long a call may take.
    ///
    /// # Errors
    /// When an address, a name or a path cannot be one.
    pub fn new(
        spec: &TlsProbe,
        trust: Arc<dyn ServerCertVerifier>,
        deadline: Duration,
    ) -> Result<Self, CallError> {
        let at = Endpoint::new(&spec.address, spec.server_name.as_deref(), None)?;
        if let Some(path) = spec.path.as_ref().filter(|path| !is_path(path)) {
            let message = format!("`{path}` is not a path that can be asked for");
            return Err(CallError::rejected(ErrorKind::Invalid, message)
                .hint("correct `path` of the check in the runbook"));
        }
        let host = host(&spec.address, spec.server_name.as_deref());
        let request = spec.path.as_ref().map(|path| {
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: stanch\r\nAccept: */*\r\nConnection: close\r\n\r\n")
        });
        let patience = spec.timeout.map_or_else(|| patience(deadline), |period| period.get());
        let (expect, refuse) = (spec.expect, spec.refuse.clone());
        Ok(Self { at, trust, request, expect, refuse, patience })
    }

    fn unclear(&self, why: &str) -> CallError {
        let message = format!("{} neither accepted nor refused the certificate: {why}", self.at);
        CallError::rejected(ErrorKind::NoAnswer, message).hint(
            "check that the server is up, asks its clients for a certificate, and answers as the check says",
        )
    }

    /// In TLS 1.3 the client is done before the server has looked at its certificate: the refusal is what the server says
    /// next. So it is read until the server says anything.
    async fn show(&self, watch: &Arc<Watch>, shows: &Arc<Shows>) -> Result<Ended, CallError> {
        let mut stream = match self.at.open(watch, Arc::clone(shows) as _).await {
            Ok(stream) => stream,
            Err(Broken::Handshake(error)) => return Ok(Ended::Broken(error)),
            Err(broken) => return Err(broken.told(&self.at)),
        };
        if let Some(request) = &self.request {
            // A server that refused may have closed already. Why, is still to be read.
            let _ = stream.write_all(request.as_bytes()).await;
            let _ = stream.flush().await;
        }
        let (mut said, mut bytes) = (Vec::new(), [0; 1024]);
        loop {
            match stream.read(&mut bytes).await {
                Ok(0) => return Ok(Ended::Broken(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => said.extend_from_slice(&bytes[..count]),
                Err(error) => return Ok(Ended::Broken(error)),
            }
            if self.request.is_none() || said.contains(&b'\n') || said.len() > MAX_LINE {
                return Ok(Ended::Said(said));
            }
        }
    }

    fn verdict(&self, ended: &Ended) -> Result<Use, CallError> {
        match ended {
            Ended::Broken(error) => match alert(error) {
                Some(alert) if REFUSALS.contains(&alert) => {
                    Ok(Use::Refused(format!("{} sent the TLS alert {}", self.at, alert_name(alert))))
                }
                _ => Err(self.unclear(&words(error))),
            },
            Ended::Said(_) if self.request.is_none() => Ok(Use::Accepted),
            Ended::Said(said) => match status(said) {
                Some(status) if status == self.expect => Ok(Use::Accepted),
                Some(status) if self.refuse.contains(&status) => {
                    Ok(Use::Refused(format!("{} answered {status}", self.at)))
                }
                Some(status) => Err(self.unclear(&format!("it answered {status}"))),
                None => Err(self.unclear("its answer is not HTTP")),
            },
        }
    }
}

/// The field `Host` of a request to this address (RFC 9110, section 7.2): an IPv6 address keeps its brackets, and a port that
/// is not the one of `https` is named.
fn host(address: &str, name: Option<&str>) -> String {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "443"));
    let host = name.unwrap_or(host);
    if port == "443" { host.to_owned() } else { format!("{host}:{port}") }
}

/// The status in the first line of a response (RFC 9112, section 4).
fn status(said: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(said.split(|byte| *byte == b'\n').next()?).ok()?;
    let (version, rest) = line.trim_end().split_once(' ')?;
    let status = rest.split(' ').next().filter(|code| code.len() == 3)?;
    matches!(version, "HTTP/1.1" | "HTTP/1.0").then(|| status.parse().ok()).flatten()
}

/// The certificate with its key and with what signed it.
///
/// # Errors
/// When they are not a certificate and its key. The error quotes nothing.
fn identity(material: &Material) -> Result<CertifiedKey, CallError> {
    let invalid = |why: &str| {
        CallError::rejected(ErrorKind::Invalid, format!("the credential cannot be shown to a server: {why}"))
    };
    let missing = || invalid("it has no certificate with its key");
    let (certificate, key) = material.part(CERTIFICATE).zip(material.part(KEY)).ok_or_else(missing)?;
    let mut chain: Vec<CertificateDer<'static>> = Vec::new();
    for pem in std::iter::once(certificate).chain(material.part(CHAIN)) {
        for one in CertificateDer::pem_slice_iter(pem.expose().as_bytes()) {
            let one = one.map_err(|_| invalid("a certificate is not in PEM"))?;
            if !chain.contains(&one) {
                chain.push(one);
            }
        }
    }
    let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
        .map_err(|_| invalid("the key is not a private key in PEM"))?;
    CertifiedKey::from_der(chain, key, &provider())
        .map_err(|_| invalid("the key is not one that TLS can use, or not that of the certificate"))
}

#[async_trait]
impl Probe for TlsTry {
    /// A handshake without a certificate, as far as to the server's question for one.
    async fn preflight(&self, name: &str) -> Vec<Check> {
        let (watch, shows) = (Watch::trusting(Arc::clone(&self.trust)), Arc::new(Shows::default()));
        let mut call = Logged::start(|| format!("reach {} by TLS", self.at));
        let ended = tokio::time::timeout(self.patience, self.at.open(&watch, Arc::clone(&shows) as _)).await;
        let found = match (watch.leaf(), shows.asked(), ended) {
            (Some(_), Some(_), _) => Ok(()),
            (Some(_), None, Ok(Ok(_))) => Err(no_answer(&self.at, "the server asks for no certificate")
                .hint("have it ask its clients for a certificate, or ask another server")),
            (_, _, Ok(Err(broken))) => Err(broken.told(&self.at)),
            (_, _, Ok(Ok(_))) => Err(no_answer(&self.at, "the server showed no certificate")),
            (_, _, Err(_)) => {
                Err(no_answer(&self.at, &format!("it took longer than {} s", self.patience.as_secs_f32())))
            }
        };
        call.end(if found.is_ok() { "reached" } else { "not reached" });
        found.err().map(|error| error.read_only().to_check(name)).into_iter().collect()
    }

    async fn attempt(&self, material: &Material) -> Result<Use, CallError> {
        let shows = Shows::this(Arc::new(identity(material)?));
        let watch = Watch::trusting(Arc::clone(&self.trust));
        let mut call = Logged::start(|| format!("show the certificate to {}", self.at));
        let ended = tokio::time::timeout(self.patience, self.show(&watch, &shows)).await;
        let told = match (ended, watch.leaf(), shows.asked()) {
            (Ok(Err(error)), ..) => Err(error),
            // Only who is trusted, asked for the certificate and got it has a word on it.
            (Ok(Ok(ended)), Some(_), Some(true)) => self.verdict(&ended),
            (_, Some(_), Some(false)) => Err(self.unclear("it takes no signatures of this type of key")),
            (Ok(Ok(Ended::Broken(error))), ..) => Err(self.unclear(&words(&error))),
            (Ok(Ok(_)), ..) => Err(self.unclear("it asked for no certificate")),
            (Err(_), ..) => {
                Err(self.unclear(&format!("it took longer than {} s", self.patience.as_secs_f32())))
            }
        };
        call.end(match &told {
            Ok(Use::Accepted) => "accepted",
            Ok(Use::Refused(_)) => "refused",
            Err(_) => "neither",
        });
        told.map_err(CallError::read_only)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_its_port_and_its_brackets() {
        assert_eq!(host("web:443", None), "web");
        assert_eq!(host("web:8443", None), "web:8443");
        assert_eq!(host("10.0.0.1:8443", Some("web")), "web:8443");
        assert_eq!(host("[::1]:443", None), "[::1]");
    }

    #[test]
    fn only_the_first_line_of_http_has_a_status() {
        for (said, wanted) in [
            ("HTTP/1.1 200 OK\r\n", Some(200)),
            ("HTTP/1.0 403\r\nHTTP/1.1 200 OK\r\n", Some(403)),
            ("HTTP/1.1 2000 OK\r\n", None),
            ("HTTP/2 200 OK\r\n", None),
            ("220 mail.test ESMTP\r\n", None),
            ("HTTP/1.1  200\r\n", None),
            ("", None),
        ] {
            assert_eq!(status(said.as_bytes()), wanted, "{said}");
        }
    }
}
