//! Logins of databases, each a lease of the database secrets engine.

#[cfg(feature = "tool")]
mod checks;
#[cfg(feature = "tool")]
mod server;
mod spec;

#[cfg(feature = "tool")]
pub use server::LeaseIssuer;
pub use spec::{LoginAt, VaultDatabase};
