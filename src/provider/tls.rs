//! TLS by rustls, for protocols other than HTTP: the server's certificate and its name are always verified.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;

use crate::domain::ErrorKind;
use crate::provider::outcome::CallError;
use crate::provider::own_file::{self, SMALL};

/// A file in PEM, and where it was read.
pub(crate) type Pem = (Vec<u8>, String);

/// A file of certificates that a connection names. `hint` says what names it.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read(path: &Path, hint: impl Into<String>) -> Result<Pem, CallError> {
    let pem = own_file::read(path, SMALL)
        .map_err(|error| local(format!("cannot read {}: {error}", path.display())).hint(hint))?;
    Ok((pem, path.display().to_string()))
}

fn local(message: impl Into<String>) -> CallError {
    CallError::rejected(ErrorKind::Local, message)
}

/// How a client talks to a server. `roots` are the only CA certificates to trust, else the machine's; `identity` is a
/// certificate with its key, for a server that asks for one. `hint` says where the roots come from.
///
/// # Errors
/// When there is no certificate to trust, or none to show.
pub(crate) fn config(
    roots: Option<Pem>,
    identity: Option<Pem>,
    hint: &str,
) -> Result<ClientConfig, CallError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| local(format!("cannot set up TLS: {error}")))?;
    let builder = match roots {
        Some((pem, source)) => {
            let mut roots = RootCertStore::empty();
            let none = || local(format!("{source} holds no CA certificate in PEM"));
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                roots.add(certificate.map_err(|_| none())?).map_err(|_| none())?;
            }
            if roots.is_empty() {
                return Err(none().hint(hint));
            }
            builder.with_root_certificates(roots)
        }
        None => builder.with_platform_verifier().map_err(|error| {
            local(format!("cannot read the certificates that this machine trusts: {error}"))
        })?,
    };
    let Some((pem, source)) = identity else { return Ok(builder.with_no_client_auth()) };
    let none = || local(format!("{source} holds no certificate in PEM with its key"));
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|_| none())?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| none())?;
    builder.with_client_auth_cert(chain, key).map_err(|_| none())
}
