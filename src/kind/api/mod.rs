//! Services with a JSON API over HTTPS, and the tokens that they issue.

#[cfg(feature = "tool")]
pub(in crate::kind) mod client;
#[cfg(feature = "tool")]
mod server;
#[cfg(feature = "tool")]
mod settings;
mod spec;
pub mod token;

#[cfg(feature = "tool")]
pub use client::ApiClient;
#[cfg(feature = "tool")]
pub(in crate::kind) use client::Ask;
#[cfg(feature = "tool")]
pub use settings::Settings;
pub use spec::Api;
