//! A run as a trace, made from its record alone: the run, its phases, and each attempt at a step are spans, in the
//! JSON form of OTLP. The same records give the same ids, so that a trace that is sent twice is one trace.

mod fold;
mod send;
mod span;

pub use fold::Fold;
pub use send::{Collector, MAX_BODY, SendError};
pub use span::Trace;
