//! TLS by rustls, for protocols other than HTTP: the server's certificate and its name are always verified.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

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

/// What does the arithmetic.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Whom to trust.
pub(crate) enum Roots {
    /// These CA certificates alone.
    Only(Pem),
    /// What this machine trusts, and these besides.
    Machine(Vec<Pem>),
}

/// What verifies a server's certificate and its name. `hint` says where the roots come from.
///
/// # Errors
/// When there is no certificate to trust.
pub(crate) fn verifier(roots: Roots, hint: &str) -> Result<Arc<dyn ServerCertVerifier>, CallError> {
    match roots {
        Roots::Only(pem) => {
            let none = || local(format!("{} holds no CA certificate in PEM", pem.1)).hint(hint);
            let mut roots = RootCertStore::empty();
            for certificate in certificates(&pem).map_err(|_| none())? {
                roots.add(certificate).map_err(|_| none())?;
            }
            let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
            Ok(built.map_err(|_| none())?)
        }
        Roots::Machine(more) => {
            let mut extra = Vec::new();
            for pem in &more {
                extra
                    .extend(certificates(pem).map_err(|_| {
                        local(format!("{} holds no CA certificate in PEM", pem.1)).hint(hint)
                    })?);
            }
            let made = rustls_platform_verifier::Verifier::new_with_extra_roots(extra, provider());
            Ok(Arc::new(made.map_err(|error| {
                local(format!("cannot read the certificates that this machine trusts: {error}"))
            })?))
        }
    }
}

fn certificates((pem, _): &Pem) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    CertificateDer::pem_slice_iter(pem).collect()
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
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| local(format!("cannot set up TLS: {error}")))?;
    let roots = roots.map_or(Roots::Machine(Vec::new()), Roots::Only);
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier(roots, hint)?);
    let Some((pem, source)) = identity else { return Ok(builder.with_no_client_auth()) };
    let none = || local(format!("{source} holds no certificate in PEM with its key"));
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|_| none())?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| none())?;
    builder.with_client_auth_cert(chain, key).map_err(|_| none())
}
