//! One TLS handshake, bounded in bytes, and what is seen in it. Whoever calls bounds it in time.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Join, Take};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::spec::{StartTls, split};
use crate::domain::ErrorKind;
use crate::provider::http::call::ASK_TIMEOUT;
use crate::provider::outcome::CallError;
use crate::provider::tls::provider;
use crate::text::sanitize;

/// More than this is not read of a server, from its first byte on. Certificates of a chain take a few thousand bytes.
const MAX_READ: u64 = 256 * 1024;

/// How long one handshake may take, where a call may take `deadline`: whoever asks several servers gives up on all of them
/// at the deadline, and one that stalls is to be named before.
pub(super) fn patience(deadline: Duration) -> Duration {
    ASK_TIMEOUT.min(deadline.mul_f64(0.9))
}

/// A server that is spoken to.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// `HOST:PORT`.
    pub(super) address: String,
    pub(super) name: ServerName<'static>,
    starttls: Option<StartTls>,
}

/// A connection after its handshake.
pub(super) type Stream = TlsStream<Join<Take<OwnedReadHalf>, OwnedWriteHalf>>;

/// Why there is no such connection.
#[derive(Debug)]
pub(super) enum Broken {
    /// Nothing listens there, or nothing answers.
    Unreachable(io::Error),
    /// The server does not do what comes before TLS.
    NoTls(String),
    /// The handshake failed.
    Handshake(io::Error),
}

impl Endpoint {
    /// The server at an address, by this name or by its host's.
    ///
    /// # Errors
    /// When these are no address and no name.
    pub(super) fn new(
        address: &str,
        server_name: Option<&str>,
        starttls: Option<StartTls>,
    ) -> Result<Self, CallError> {
        let invalid = |what: String| {
            CallError::rejected(ErrorKind::Invalid, what).hint("correct the address in the runbook")
        };
        let (host, _) =
            split(address).ok_or_else(|| invalid(format!("`{address}` is not an address HOST:PORT")))?;
        let name = server_name.unwrap_or(host);
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| invalid(format!("`{name}` is not the name of a server")))?;
        Ok(Self { address: address.to_owned(), name, starttls })
    }

    /// Connects and makes the handshake. Whatever is learned in it is in `watch`, also where it fails.
    pub(super) async fn open(
        &self,
        watch: &Arc<Watch>,
        shows: Arc<dyn ResolvesClientCert>,
    ) -> Result<Stream, Broken> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| Broken::Handshake(io::Error::other(error)))?;
        let mut config = builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(watch) as Arc<dyn ServerCertVerifier>)
            .with_client_cert_resolver(shows);
        // A session that is resumed shows no certificate.
        config.resumption = Resumption::disabled();
        let mut stream = TcpStream::connect(&self.address).await.map_err(Broken::Unreachable)?;
        // What is sent is one small piece. Where the system does not allow this, it is merely slower.
        let _ = stream.set_nodelay(true);
        if let Some(StartTls::Postgres) = self.starttls {
            ask_postgres(&mut stream).await?;
        }
        let (read, write) = stream.into_split();
        let stream = tokio::io::join(read.take(MAX_READ), write);
        let connected = TlsConnector::from(Arc::new(config)).connect(self.name.clone(), stream);
        connected.await.map_err(Broken::Handshake)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

/// Asks for TLS as PostgreSQL has it (protocol 3.0, "SSL Session Encryption").
async fn ask_postgres(stream: &mut TcpStream) -> Result<(), Broken> {
    const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
    let no = |error: io::Error| Broken::NoTls(error.to_string());
    stream.write_all(&SSL_REQUEST).await.map_err(no)?;
    match stream.read_u8().await.map_err(no)? {
        b'S' => Ok(()),
        b'N' => Err(Broken::NoTls("the server does not speak TLS".to_owned())),
        _ => Err(Broken::NoTls("this is not the answer of PostgreSQL".to_owned())),
    }
}

/// What a server showed in a handshake.
///
/// With `trust` its certificate and its name are verified as always. Without it any certificate is read and none is believed:
/// that is for the question *which certificate do you serve*, which an expired one, one for another name and one of
/// another authority answer as well. Nothing is ever sent over such a connection, and no client certificate is shown on it, so
/// whoever is in between learns nothing. In both cases the server has to sign with the certificate's key: a copy of a public
/// certificate is worth nothing.
pub(super) struct Watch {
    trust: Option<Arc<dyn ServerCertVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    leaf: Option<Vec<u8>>,
    signed: bool,
}

impl Watch {
    /// Reads any certificate, and believes none.
    pub(super) fn any() -> Arc<Self> {
        Self::new(None)
    }

    /// Believes only what this one believes.
    pub(super) fn trusting(trust: Arc<dyn ServerCertVerifier>) -> Arc<Self> {
        Self::new(Some(trust))
    }

    fn new(trust: Option<Arc<dyn ServerCertVerifier>>) -> Arc<Self> {
        let algorithms = provider().signature_verification_algorithms;
        Arc::new(Self { trust, algorithms, seen: Mutex::default() })
    }

    /// The certificate that the server signed for, in DER, and that is trusted where that was asked.
    pub(super) fn leaf(&self) -> Option<Vec<u8>> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.leaf.clone().filter(|_| seen.signed)
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("trusts", &self.trust.is_some()).finish_non_exhaustive()
    }
}

impl ServerCertVerifier for Watch {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = match &self.trust {
            Some(trust) => trust.verify_server_cert(leaf, others, name, ocsp, now)?,
            None => ServerCertVerified::assertion(),
        };
        self.note(|seen| seen.leaf = Some(leaf.to_vec()));
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let valid = verify_tls12_signature(message, leaf, signature, &self.algorithms)?;
        self.note(|seen| seen.signed = true);
        Ok(valid)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let valid = verify_tls13_signature(message, leaf, signature, &self.algorithms)?;
        self.note(|seen| seen.signed = true);
        Ok(valid)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What a client shows to a server that asks for a certificate: this one, or none.
#[derive(Default)]
pub(super) struct Shows {
    key: Option<Arc<CertifiedKey>>,
    asked: Mutex<Option<bool>>,
}

impl Shows {
    pub(super) fn this(key: Arc<CertifiedKey>) -> Arc<Self> {
        Arc::new(Self { key: Some(key), ..Self::default() })
    }

    /// Whether the server asked for a certificate, and if so, whether it takes signatures of this key.
    pub(super) fn asked(&self) -> Option<bool> {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shows").finish_non_exhaustive()
    }
}

impl ResolvesClientCert for Shows {
    // Whatever authorities the server names: which certificate it refuses is the question.
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
        let key = self.key.as_ref().filter(fits).map(Arc::clone);
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(key.is_some());
        key
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The alert that an error tells of.
pub(super) fn alert(error: &io::Error) -> Option<AlertDescription> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

/// An alert as RFC 8446 and RFC 5246 name it.
pub(super) fn alert_name(alert: AlertDescription) -> String {
    use AlertDescription as A;
    let name = match alert {
        A::HandshakeFailure => "handshake_failure",
        A::BadCertificate => "bad_certificate",
        A::UnsupportedCertificate => "unsupported_certificate",
        A::CertificateRevoked => "certificate_revoked",
        A::CertificateExpired => "certificate_expired",
        A::CertificateUnknown => "certificate_unknown",
        A::UnknownCA => "unknown_ca",
        A::AccessDenied => "access_denied",
        A::DecryptError => "decrypt_error",
        A::ProtocolVersion => "protocol_version",
        A::InternalError => "internal_error",
        A::UnrecognisedName => "unrecognized_name",
        A::CertificateRequired => "certificate_required",
        A::NoApplicationProtocol => "no_application_protocol",
        other => return format!("number {}", u8::from(other)),
    };
    name.to_owned()
}

/// What an error says, for people.
pub(super) fn words(error: &io::Error) -> String {
    if let Some(alert) = alert(error) {
        return format!("the server sent the TLS alert {}", alert_name(alert));
    }
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidMessage(_)) => "what answers does not speak TLS".to_owned(),
        Some(told) => sanitize(&told.to_string()),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "the server closed the connection".to_owned(),
        None => sanitize(&error.to_string()),
    }
}

impl Broken {
    /// As an error of a question to this server.
    pub(super) fn told(&self, at: &Endpoint) -> CallError {
        match self {
            Self::Unreachable(error) => {
                let message = format!("cannot connect to {at}: {}", sanitize(&error.to_string()));
                CallError::rejected(ErrorKind::Unreachable, message)
                    .hint("check the address, and that the server is up")
            }
            Self::NoTls(why) => no_answer(at, why),
            Self::Handshake(error) => no_answer(at, &words(error)),
        }
    }
}

/// A handshake that taught nothing.
pub(super) fn no_answer(at: &Endpoint, why: &str) -> CallError {
    CallError::rejected(ErrorKind::NoAnswer, format!("no TLS handshake with {at}: {why}"))
        .hint("check that the address is that of a server that speaks TLS")
}
