//! Vault tokens.

mod spec;

pub use spec::VaultToken;
