//! Keys that sign JSON Web Tokens. Their public halves stand in a JWKS (RFC 7517), by which verifiers go.

#[cfg(feature = "tool")]
mod jwks;
#[cfg(feature = "tool")]
mod key;
#[cfg(feature = "tool")]
mod readers;
#[cfg(feature = "tool")]
mod server;
mod spec;
#[cfg(all(test, feature = "tool"))]
mod tests;
#[cfg(feature = "tool")]
mod token;

#[cfg(feature = "tool")]
pub use server::KeyIssuer;
pub use spec::{Algorithm, JwtSigningKey, TokenSpec};
