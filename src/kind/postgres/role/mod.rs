//! Login roles of PostgreSQL, one after the other.

#[cfg(feature = "tool")]
mod checks;
#[cfg(feature = "tool")]
mod compare;
#[cfg(feature = "tool")]
mod remove;
#[cfg(feature = "tool")]
mod server;
#[cfg(feature = "tool")]
mod shape;
mod spec;
#[cfg(feature = "tool")]
mod statement;

#[cfg(feature = "tool")]
pub use server::RoleIssuer;
pub use spec::{Attribute, EndSessions, PostgresRole};
