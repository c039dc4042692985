//! Users with a password, one after the other.

#[cfg(feature = "tool")]
mod checks;
#[cfg(feature = "tool")]
mod entity;
#[cfg(feature = "tool")]
mod server;
mod spec;
#[cfg(feature = "tool")]
mod user;

#[cfg(feature = "tool")]
pub use server::UserIssuer;
pub use spec::{EndLogins, VaultUserpass};
