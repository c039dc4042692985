//! AWS Secrets Manager.

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
mod version;

#[cfg(feature = "tool")]
pub use server::SecretsManagerStore;
pub use spec::Secretsmanager;
