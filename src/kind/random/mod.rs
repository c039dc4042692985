//! Values that are generated here.

mod spec;

pub use spec::Random;
