//! What only reads the record of a run. Nothing here is in the engine's way.

pub mod metrics;
pub mod notify;
pub mod report;
pub mod trace;
