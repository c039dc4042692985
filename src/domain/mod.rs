//! The field's words as plain data, without behaviour: every room may use them, and they use none.

mod capability;
mod check;
mod credential;
mod error_kind;
mod phase;
mod verdict;

pub use capability::{IssuerTraits, Observation, StoreTraits};
pub use check::{Check, CheckVerdict};
pub use credential::{Identity, Life, Standing, Versions};
pub use error_kind::ErrorKind;
pub use phase::{NoSuchPhase, Phase, Strategy};
pub use verdict::{Judgement, Verdict};
