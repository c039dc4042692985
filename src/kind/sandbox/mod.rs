//! The embedded sandbox's own kinds.

#[cfg(feature = "tool")]
mod server;
mod spec;

pub use spec::{SandboxAttest, SandboxGate, SandboxIssuer, SandboxProbe, SandboxStore, World};
