//! Values that are generated here.

#[cfg(feature = "tool")]
mod server;
mod spec;

#[cfg(feature = "tool")]
pub use server::{PART, RandomIssuer};
pub use spec::Random;
