//! HashiCorp Vault and OpenBao.

#[cfg(feature = "tool")]
mod acl;
pub mod approle;
#[cfg(feature = "tool")]
mod client;
pub mod database;
#[cfg(feature = "tool")]
mod facts;
#[cfg(feature = "tool")]
mod fault;
pub mod kv2;
#[cfg(feature = "tool")]
mod kv2_secret;
#[cfg(feature = "tool")]
mod leases;
#[cfg(feature = "tool")]
mod logins;
#[cfg(feature = "tool")]
mod lookup;
#[cfg(feature = "tool")]
mod network;
#[cfg(feature = "tool")]
mod permissions;
pub mod pki;
pub mod prefix;
#[cfg(feature = "tool")]
mod preflight;
#[cfg(feature = "tool")]
mod server;
#[cfg(feature = "tool")]
mod settings;
#[cfg(feature = "tool")]
mod shape;
mod spec;
pub mod token;
#[cfg(feature = "tool")]
mod token_info;
pub mod userpass;

#[cfg(feature = "tool")]
pub use client::VaultClient;
#[cfg(feature = "tool")]
pub use preflight::preflight;
#[cfg(feature = "tool")]
pub use settings::{More, Settings};
pub use spec::Vault;
