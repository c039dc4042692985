//! GitHub, and the secrets of its Actions.

pub mod secret;
#[cfg(feature = "tool")]
mod server;
mod spec;

#[cfg(feature = "tool")]
pub use crate::kind::api::ApiClient;
pub use spec::Github;
