//! GitLab.

#[cfg(feature = "tool")]
mod server;
mod spec;
pub mod variable;

pub use spec::Gitlab;
