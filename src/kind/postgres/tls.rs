//! TLS by rustls: the server's certificate and its name are always verified.

use tokio_postgres_rustls::MakeRustlsConnect;

use super::settings::Settings;
use crate::provider::outcome::CallError;
use crate::provider::tls;

/// What connects to a server by TLS.
///
/// # Errors
/// When there is no certificate to trust.
pub(super) fn connector(settings: &Settings) -> Result<MakeRustlsConnect, CallError> {
    let hint = "correct `ca_cert` of the connection, or PGSSLROOTCERT";
    Ok(MakeRustlsConnect::new(tls::config(settings.roots()?, None, hint)?))
}
