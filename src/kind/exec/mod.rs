//! Programs: how consumers attest, how checks and gates ask.

#[cfg(feature = "tool")]
pub mod server;
mod spec;

pub use spec::{ExecAttest, ExecGate, ExecProbe};
