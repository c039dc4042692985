//! Vault KV version 2.

#[cfg(feature = "tool")]
mod checks;
#[cfg(feature = "tool")]
mod document;
#[cfg(feature = "tool")]
mod server;
mod spec;

#[cfg(feature = "tool")]
pub use document::Kv2Document;
#[cfg(feature = "tool")]
pub use server::{Kv2Place, Kv2Store};
pub use spec::Kv2;
