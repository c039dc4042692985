//! TLS by rustls: the server's certificate and its name are always verified.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::fault::local;
use super::settings::Settings;
use crate::provider::outcome::CallError;

/// What connects to a server by TLS.
///
/// # Errors
/// When there is no certificate to trust.
pub(super) fn connector(settings: &Settings) -> Result<MakeRustlsConnect, CallError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| local(format!("cannot set up TLS: {error}")))?;
    let config = match settings.roots()? {
        Some((pem, source)) => {
            let mut roots = RootCertStore::empty();
            let none = || local(format!("{source} holds no CA certificate in PEM"));
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                roots.add(certificate.map_err(|_| none())?).map_err(|_| none())?;
            }
            if roots.is_empty() {
                return Err(none().hint("correct `ca_cert` of the connection, or PGSSLROOTCERT"));
            }
            builder.with_root_certificates(roots)
        }
        None => builder.with_platform_verifier().map_err(|error| {
            local(format!("cannot read the certificates that this machine trusts: {error}"))
        })?,
    };
    Ok(MakeRustlsConnect::new(config.with_no_client_auth()))
}
