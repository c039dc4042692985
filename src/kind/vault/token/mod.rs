//! Vault tokens.

#[cfg(feature = "tool")]
mod checks;
#[cfg(feature = "tool")]
mod grant;
#[cfg(feature = "tool")]
mod role;
#[cfg(feature = "tool")]
mod server;
mod spec;

#[cfg(feature = "tool")]
pub use super::token_info::TokenSpec;
#[cfg(feature = "tool")]
pub use server::TokenIssuer;
pub use spec::VaultToken;
