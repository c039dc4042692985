//! Requests: how consumers attest, how checks and gates ask.

#[cfg(feature = "tool")]
mod attest;
#[cfg(feature = "tool")]
mod gate;
#[cfg(feature = "tool")]
mod probe;
#[cfg(feature = "tool")]
pub mod server;
mod spec;

#[cfg(feature = "tool")]
pub(in crate::kind) use gate::judge;
pub(in crate::kind) use spec::check_bounds;
pub use spec::{HttpAttest, HttpGate, HttpProbe};
pub(crate) use spec::{carries_to, split};
