//! A server that asks its clients for a certificate, and goes by its issuer's revocation list: by other means than the code
//! under test.

use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::servers::{Vault, plain_http, unique};

/// A PKI secrets engine of the test's own, with two roles, and a server that its certificates are shown to.
#[derive(Debug, Clone)]
pub(crate) struct RelyingParty {
    /// Where the server is.
    pub(crate) url: String,
    /// The path of the secrets engine.
    pub(crate) mount: String,
    /// The root's certificate, which signed the server's own as well.
    pub(crate) root: String,
    /// The certificates that were there before any client's.
    pub(crate) others: Vec<String>,
}

/// What the role `app` says, beside what a test changes.
pub(crate) fn app_role() -> Value {
    json!({
        "allowed_domains": "app.test", "allow_subdomains": true, "allow_bare_domains": true, "key_type": "ec",
        "key_bits": 256, "max_ttl": "48h", "allowed_uri_sans": "spiffe://app.test/*",
    })
}

impl RelyingParty {
    /// A secrets engine with the role `app`.
    pub(crate) async fn mount(vault: &Vault) -> (String, String) {
        let mount = unique("pki");
        let body = json!({ "type": "pki", "config": { "max_lease_ttl": "8760h" } });
        vault.api("POST", &format!("sys/mounts/{mount}"), body).await;
        let body =
            json!({ "common_name": "Root of tests", "ttl": "8000h", "key_type": "ec", "key_bits": 256 });
        let root = vault.api("POST", &format!("{mount}/root/generate/internal"), body).await;
        vault.api("POST", &format!("{mount}/roles/app"), app_role()).await;
        (mount, root["data"]["certificate"].as_str().expect("PEM").to_owned())
    }

    /// Starts one, in a secrets engine of its own.
    pub(crate) async fn start(vault: &Vault) -> Self {
        let (mount, root) = Self::mount(vault).await;
        let role =
            json!({ "allow_any_name": true, "enforce_hostnames": false, "key_type": "ec", "key_bits": 256 });
        vault.api("POST", &format!("{mount}/roles/server"), role).await;
        let body = json!({ "common_name": "relying party", "ip_sans": "127.0.0.1", "ttl": "24h" });
        let own = vault.api("POST", &format!("{mount}/issue/server"), body).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let url = format!("https://{}/", listener.local_addr().expect("address"));
        let list = format!("{}/v1/{mount}/crl", vault.address);
        let (anchor, data) = (root.clone(), own["data"].clone());
        tokio::spawn(async move {
            let http = plain_http();
            while let Ok((stream, _)) = listener.accept().await {
                let answered = answer(stream, http.get(&list), anchor.clone(), data.clone());
                tokio::spawn(tokio::time::timeout(Duration::from_secs(10), answered));
            }
        });
        let others = serials(vault, &mount).await;
        Self { url, mount, root, others }
    }

    /// Whether it accepts a certificate with its key.
    pub(crate) async fn accepts(&self, certificate: &str, key: &str) -> bool {
        let pem = format!("{key}\n{certificate}\n");
        let root = reqwest::Certificate::from_pem(self.root.as_bytes()).expect("the root");
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([root])
            .identity(reqwest::Identity::from_pem(pem.as_bytes()).expect("a certificate with its key"))
            .build()
            .expect("client");
        let mut told = String::new();
        // The client may notice the end of the connection before it reads why.
        for _ in 0..20 {
            match client.get(&self.url).send().await {
                Ok(answer) => return answer.status().is_success(),
                Err(error) => told = format!("{error:?}"),
            }
            if told.contains("CertificateRevoked") {
                return false;
            }
        }
        panic!("neither accepted nor refused: {told}");
    }
}

/// The serial numbers of every certificate in a secrets engine.
pub(crate) async fn serials(vault: &Vault, mount: &str) -> Vec<String> {
    let list = vault.api("LIST", &format!("{mount}/certs"), Value::Null).await;
    let keys = list["data"]["keys"].as_array().expect("serial numbers");
    keys.iter().map(|key| key.as_str().expect("text").to_owned()).collect()
}

/// Whether the server says that a certificate is revoked.
pub(crate) async fn is_revoked(vault: &Vault, mount: &str, serial: &str) -> bool {
    let shown = vault.api("GET", &format!("{mount}/cert/{serial}"), Value::Null).await;
    shown["data"]["revocation_time"].as_i64().expect("a time") != 0
}

/// One request on one connection.
async fn answer(stream: TcpStream, list: reqwest::RequestBuilder, root: String, own: Value) -> Option<()> {
    let list = list.send().await.ok()?.bytes().await.ok()?.to_vec();
    let part = |name: &str| own[name].as_str().unwrap_or_default().as_bytes().to_vec();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root.as_bytes()).ok()?).ok()?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .with_crls([CertificateRevocationListDer::from(list)])
        .build()
        .ok()?;
    let certificate = CertificateDer::from_pem_slice(&part("certificate")).ok()?;
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], PrivateKeyDer::from_pem_slice(&part("private_key")).ok()?)
        .ok()?;
    let mut stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await.ok()?;
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut bytes = [0; 1024];
        match stream.read(&mut bytes).await.ok()? {
            0 => return None,
            count => request.extend_from_slice(&bytes[..count]),
        }
    }
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
    stream.write_all(answer).await.ok()?;
    stream.shutdown().await.ok()
}
