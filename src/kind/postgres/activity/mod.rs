//! The live sessions of the old role, as a gate.

#[cfg(feature = "tool")]
mod server;
mod spec;

pub use spec::PgActivity;
