//! AWS Systems Manager Parameter Store.

#[cfg(feature = "tool")]
mod api;
#[cfg(feature = "tool")]
mod checks;
#[cfg(feature = "tool")]
mod preflight;
#[cfg(feature = "tool")]
mod promote;
#[cfg(feature = "tool")]
mod server;
mod spec;

#[cfg(feature = "tool")]
pub use server::ParameterStore;
pub use spec::SsmParameter;
