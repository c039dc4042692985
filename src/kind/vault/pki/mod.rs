//! Certificates of a PKI secrets engine, with keys that are made here.

#[cfg(feature = "tool")]
mod authority;
#[cfg(feature = "tool")]
mod certificate;
#[cfg(feature = "tool")]
mod checks;
#[cfg(feature = "tool")]
mod key;
#[cfg(feature = "tool")]
mod list;
#[cfg(feature = "tool")]
mod names;
#[cfg(feature = "tool")]
mod request;
#[cfg(feature = "tool")]
mod role;
#[cfg(feature = "tool")]
mod server;
mod spec;

#[cfg(feature = "tool")]
pub use server::CertificateIssuer;
pub use spec::{KeyType, VaultPki};
