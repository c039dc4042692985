//! Amazon Web Services, through its own SDK.

mod access_key;
mod client;
mod connect;
mod fault;
mod key_shape;
mod preflight;
mod secret_checks;
mod secret_preflight;
mod secret_promote;
mod secret_version;
mod secretsmanager;
mod wire;

pub use access_key::AccessKeyIssuer;
pub use client::{AwsClient, Settings};
pub use preflight::preflight;
pub use secretsmanager::SecretsManagerStore;

/// The innermost cause says most.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
