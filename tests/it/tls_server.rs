//! Servers that speak TLS by rustls, and by OpenSSL: what they serve, whom they accept, and how they lie.

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};
use serde_json::{Value, json};
use stanch::secret::{Material, Secret};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::servers::{Vault, plain_http};

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Whom a server accepts.
#[derive(Debug, Clone)]
pub(crate) enum Clients {
    /// It asks for no certificate.
    Unasked,
    /// It asks for one, and takes any.
    Anyone,
    /// It asks for one, and says of any that it was revoked.
    Nobody,
    /// It asks for one, and says of any that the handshake failed.
    Failing,
    /// It verifies by this root, and by the revocation list at this address.
    Verified(String, String),
}

/// What it says after the handshake.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Talk {
    /// To a request, this status.
    Answers(u16),
    /// At once, a greeting.
    Greets,
    /// Nothing, and it leaves the connection open.
    Nothing,
    /// To a request, something that is not HTTP.
    Nonsense,
}

/// A server.
#[derive(Debug, Clone)]
pub(crate) struct TlsServer {
    pub(crate) address: String,
    current: Arc<Current>,
    /// Whom it accepts from now on, in place of what it was started with.
    pub(crate) turned: Arc<Mutex<Option<Clients>>>,
}

#[derive(Debug)]
struct Current(Mutex<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.lock().expect("lock")))
    }
}

/// The certificate of one credential with the key of another, or of the same.
pub(crate) fn certified(certificate: &Material, key: &Material) -> Arc<CertifiedKey> {
    let part = |of: &Material, name: &str| of.part(name).expect("a part").expose().as_bytes().to_vec();
    let chain = ["certificate", "ca_chain"].map(|name| part(certificate, name));
    let chain = chain.iter().map(|pem| CertificateDer::from_pem_slice(pem).expect("a certificate")).collect();
    let key = PrivateKeyDer::from_pem_slice(&part(key, "private_key")).expect("a key");
    let key = provider().key_provider.load_private_key(key).expect("a key");
    Arc::new(CertifiedKey::new(chain, key))
}

impl TlsServer {
    pub(crate) async fn start(
        key: Arc<CertifiedKey>,
        clients: Clients,
        versions: &'static [&'static SupportedProtocolVersion],
        talk: Talk,
    ) -> Self {
        let current = Arc::new(Current(Mutex::new(key)));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address").to_string();
        let (served, turned) = (Arc::clone(&current), Arc::<Mutex<Option<Clients>>>::default());
        let turns = Arc::clone(&turned);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let clients = turns.lock().expect("lock").clone().unwrap_or_else(|| clients.clone());
                let served = Arc::clone(&served);
                tokio::spawn(tokio::time::timeout(
                    Duration::from_secs(60),
                    serve(stream, served, clients, versions, talk),
                ));
            }
        });
        Self { address, current, turned }
    }

    /// Serves this from now on.
    pub(crate) fn reload(&self, material: &Material) {
        *self.current.0.lock().expect("lock") = certified(material, material);
    }
}

async fn serve(
    stream: TcpStream,
    current: Arc<Current>,
    clients: Clients,
    versions: &'static [&'static SupportedProtocolVersion],
    talk: Talk,
) -> Option<()> {
    let builder = rustls::ServerConfig::builder_with_provider(provider());
    let builder = builder.with_protocol_versions(versions).expect("versions");
    let builder = match clients {
        Clients::Unasked => builder.with_no_client_auth(),
        Clients::Verified(root, list) => {
            let list = plain_http().get(&list).send().await.ok()?.bytes().await.ok()?.to_vec();
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(root.as_bytes()).ok()?).ok()?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
            let verifier = verifier.with_crls([CertificateRevocationListDer::from(list)]).build().ok()?;
            builder.with_client_cert_verifier(verifier)
        }
        liar => builder.with_client_cert_verifier(Arc::new(Liar(liar))),
    };
    let config = Arc::new(builder.with_cert_resolver(current));
    let mut stream = TlsAcceptor::from(config).accept(stream).await.ok()?;
    if let Talk::Greets = talk {
        stream.write_all(b"220 here\r\n").await.ok()?;
    }
    let (mut request, mut bytes) = (Vec::new(), [0; 1024]);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut bytes).await.ok()? {
            0 => return None,
            count => request.extend_from_slice(&bytes[..count]),
        }
    }
    let answer = match talk {
        Talk::Answers(status) => {
            format!("HTTP/1.1 {status} As told\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        }
        Talk::Nonsense => "what?\r\n".to_owned(),
        Talk::Greets | Talk::Nothing => return std::future::pending().await,
    };
    stream.write_all(answer.as_bytes()).await.ok()?;
    stream.shutdown().await.ok()
}

/// Says the same of every certificate.
#[derive(Debug)]
struct Liar(Clients);

impl ClientCertVerifier for Liar {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match self.0 {
            Clients::Anyone => Ok(ClientCertVerified::assertion()),
            Clients::Failing => Err(rustls::Error::General("the handshake fails".to_owned())),
            _ => Err(CertificateError::Revoked.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A server's own certificate, for 127.0.0.1, of the role `server`.
pub(crate) async fn server_certificate(vault: &Vault, mount: &str) -> Material {
    let role =
        json!({ "allow_any_name": true, "enforce_hostnames": false, "key_type": "ec", "key_bits": 256 });
    vault.api("POST", &format!("{mount}/roles/server"), role).await;
    let body = json!({ "common_name": "relying party", "ip_sans": "127.0.0.1", "ttl": "24h" });
    material(&vault.api("POST", &format!("{mount}/issue/server"), body).await["data"])
}

/// A certificate with its key, as the secrets engine or a store shows it.
pub(crate) fn material(shown: &Value) -> Material {
    let part = |name: &str| shown[name].as_str().map(Secret::new);
    let chain = part("ca_chain").or_else(|| part("issuing_ca")).expect("a chain");
    Material::single("certificate", part("certificate").expect("a certificate"))
        .with("private_key", part("private_key").expect("a key"))
        .with("ca_chain", chain)
}

/// A server that does this with each connection.
pub(crate) async fn peer<F, Fut>(answer: F) -> String
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address").to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    address
}

/// OpenSSL's own server, which verifies its clients by a root and a revocation list. Ends with the test.
pub(crate) struct OpenSsl {
    pub(crate) address: String,
    folder: tempfile::TempDir,
    child: tokio::process::Child,
}

impl OpenSsl {
    /// Starts one: with `-www` it answers a request with a page.
    pub(crate) async fn start(own: &Material, root: &str, list: &[u8], more: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let put = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::io::Write::write_all(&mut std::fs::File::create(&path).expect("file"), bytes).expect("file");
            path.display().to_string()
        };
        let part = |name: &str| own.part(name).expect("a part").expose().as_bytes().to_vec();
        let port = crate::servers::closed_port().port();
        let pem = [root.as_bytes(), b"\n", list].concat();
        let child = tokio::process::Command::new("openssl")
            .args(["s_server", "-accept", &format!("127.0.0.1:{port}"), "-naccept", "1000", "-quiet"])
            .args([
                "-cert",
                &put("cert.pem", &part("certificate")),
                "-key",
                &put("key.pem", &part("private_key")),
            ])
            .args(["-CAfile", &put("root.pem", &pem), "-crl_check", "-Verify", "2", "-verify_return_error"])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("openssl starts");
        let address = format!("127.0.0.1:{port}");
        for _ in 0..1000 {
            if TcpStream::connect(&address).await.is_ok() {
                return Self { address, folder, child };
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("openssl does not listen");
    }

    /// Whether it runs still, with its files.
    pub(crate) fn runs(&mut self) -> bool {
        self.folder.path().exists() && self.child.try_wait().expect("status").is_none()
    }
}
