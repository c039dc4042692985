//! Redis, over its own protocol.

#[cfg(feature = "tool")]
mod client;
#[cfg(feature = "tool")]
mod fault;
#[cfg(feature = "tool")]
mod lasting;
#[cfg(feature = "tool")]
mod node;
#[cfg(feature = "tool")]
mod preflight;
#[cfg(feature = "tool")]
mod resp;
#[cfg(feature = "tool")]
mod server;
#[cfg(feature = "tool")]
mod settings;
mod spec;
pub mod user;

#[cfg(feature = "tool")]
pub use client::RedisClient;
#[cfg(feature = "tool")]
pub use preflight::preflight;
#[cfg(feature = "tool")]
pub use settings::{Node, Settings};
pub use spec::Redis;
