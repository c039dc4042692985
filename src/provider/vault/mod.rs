//! HashiCorp Vault and OpenBao.

mod client;
mod grant;
mod kv2;
mod preflight;
mod settings;
mod token;

pub use client::VaultClient;
pub use kv2::{Kv2Place, Kv2Store};
pub use preflight::preflight;
pub(crate) use preflight::skew;
pub use settings::Settings;
pub use token::{TokenIssuer, TokenSpec};
