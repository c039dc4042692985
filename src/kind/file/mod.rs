//! Files on this machine.

mod spec;

pub use spec::{File, FileFormat};
