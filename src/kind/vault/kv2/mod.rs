//! Vault KV version 2.

mod spec;

pub use spec::Kv2;
