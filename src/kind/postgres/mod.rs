//! PostgreSQL, over its own protocol.

pub mod activity;
#[cfg(feature = "tool")]
mod client;
#[cfg(feature = "tool")]
mod fault;
#[cfg(feature = "tool")]
mod handle;
#[cfg(feature = "tool")]
mod login;
#[cfg(feature = "tool")]
mod password_file;
#[cfg(feature = "tool")]
mod preflight;
pub mod role;
#[cfg(feature = "tool")]
mod server;
#[cfg(feature = "tool")]
mod sessions;
#[cfg(feature = "tool")]
mod settings;
mod spec;
#[cfg(feature = "tool")]
mod tls;

#[cfg(feature = "tool")]
pub use client::PgClient;
#[cfg(feature = "tool")]
pub use preflight::preflight;
#[cfg(feature = "tool")]
pub use settings::Settings;
pub use spec::{Postgres, SslMode};
