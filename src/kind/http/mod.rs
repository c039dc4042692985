//! Requests: how consumers attest, how checks and gates ask.

mod spec;

pub use spec::{HttpAttest, HttpGate, HttpProbe};
pub(crate) use spec::{carries_to, split};
