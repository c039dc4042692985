//! A query of Prometheus, as a gate.

#[cfg(feature = "tool")]
mod server;
mod spec;

pub use spec::PrometheusGate;
