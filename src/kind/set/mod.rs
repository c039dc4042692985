//! Where a set stands whose members are added and removed one by one.

#[cfg(feature = "tool")]
mod server;
mod spec;

pub use spec::{SetField, SetPlace};
