//! TLS handshakes: which certificate an instance serves, and whether a relying party accepts one from a client.

#[cfg(feature = "tool")]
mod attest;
#[cfg(feature = "tool")]
mod handshake;
#[cfg(feature = "tool")]
mod probe;
#[cfg(feature = "tool")]
mod server;
mod spec;

#[cfg(feature = "tool")]
pub use attest::TlsAsk;
#[cfg(feature = "tool")]
pub use probe::TlsTry;
pub use spec::{StartTls, TlsAttest, TlsProbe};
