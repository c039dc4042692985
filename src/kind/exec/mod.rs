//! Programs: how consumers attest, how checks and gates ask.

mod spec;

pub use spec::{ExecAttest, ExecGate, ExecProbe};
