//! Amazon Web Services, through its own SDK and what that is made of.

pub mod access_key;
#[cfg(feature = "tool")]
mod client;
#[cfg(feature = "tool")]
mod connect;
#[cfg(feature = "tool")]
mod fault;
#[cfg(feature = "tool")]
mod json;
#[cfg(feature = "tool")]
mod preflight;
pub mod secretsmanager;
#[cfg(feature = "tool")]
mod server;
mod spec;
pub mod ssm_parameter;
#[cfg(feature = "tool")]
mod wire;

#[cfg(feature = "tool")]
pub use client::{AwsClient, Settings};
#[cfg(feature = "tool")]
pub use preflight::preflight;
pub use spec::Aws;

/// The innermost cause says most.
#[cfg(feature = "tool")]
fn innermost(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
