//! Amazon Web Services, through its own SDK.

mod access_key;
mod client;
mod fault;
mod preflight;
mod secretsmanager;

pub use access_key::AccessKeyIssuer;
pub use client::{AwsClient, Settings};
pub use preflight::preflight;
pub use secretsmanager::SecretsManagerStore;
