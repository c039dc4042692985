//! A store that is a program of the user's own: for a place that stanch does not know.

#[cfg(feature = "tool")]
mod ask;
#[cfg(feature = "tool")]
mod server;
mod spec;

#[cfg(feature = "tool")]
pub use server::PassThroughStore;
pub use spec::{Characters, PassThrough};
