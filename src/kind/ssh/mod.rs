//! OpenSSH: keys that log in, and the login itself as a check.

pub mod key;
pub mod login;
#[cfg(feature = "tool")]
mod pair;
