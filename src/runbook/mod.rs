//! The runbook: from YAML to a checked model, with every mistake found at once.

pub mod model;
mod period;

pub use period::{BadPeriod, Period};
