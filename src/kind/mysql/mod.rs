//! MariaDB, over the protocol that it shares with MySQL.

#[cfg(feature = "tool")]
mod account;
#[cfg(feature = "tool")]
mod client;
#[cfg(feature = "tool")]
mod fault;
#[cfg(feature = "tool")]
mod preflight;
#[cfg(feature = "tool")]
mod privileges;
#[cfg(feature = "tool")]
mod server;
#[cfg(feature = "tool")]
mod sessions;
#[cfg(feature = "tool")]
mod settings;
mod spec;
pub mod user;
#[cfg(feature = "tool")]
mod wire;

#[cfg(feature = "tool")]
pub use client::MysqlClient;
#[cfg(feature = "tool")]
pub use preflight::preflight;
#[cfg(feature = "tool")]
pub use settings::Settings;
pub use spec::Mysql;
