//! HashiCorp Vault and OpenBao.

mod acl;
mod client;
mod facts;
mod fault;
mod grant;
mod kv2;
mod kv2_checks;
mod kv2_secret;
mod lookup;
mod network;
mod permissions;
mod preflight;
mod settings;
mod token;
mod token_checks;
mod token_info;

pub use client::VaultClient;
pub use kv2::{Kv2Place, Kv2Store};
pub use preflight::preflight;
pub(crate) use preflight::skew;
pub use settings::{More, Settings};
pub use token::TokenIssuer;
pub use token_info::TokenSpec;
