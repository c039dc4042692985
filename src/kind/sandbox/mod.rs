//! The embedded sandbox's own kinds.

mod spec;

pub use spec::{SandboxAttest, SandboxGate, SandboxIssuer, SandboxProbe, SandboxStore, World};
