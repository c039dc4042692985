//! Everything below a path at once: the tokens that an auth path issued, and the leases of a secrets engine. Only
//! `stanch revoke` knows these kinds: nothing replaces what they revoke.

#[cfg(feature = "tool")]
mod server;
mod spec;

pub use spec::{LeasePrefix, VaultPrefix};
