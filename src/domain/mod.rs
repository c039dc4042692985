//! The field's words as plain data, without behaviour: every room may use them, and they use none.

mod call;
mod capability;
mod check;
mod credential;
mod error_kind;
mod message;
mod period;
mod phase;
mod scope;
mod verdict;

pub use call::{Call, Exec, ExecInput, ExecOptions, HttpCall, HttpMethod};
pub use capability::{IssuerTraits, Observation, StoreTraits};
pub use check::{Check, CheckVerdict};
pub use credential::{Identity, Life, Standing, Versions};
pub use error_kind::ErrorKind;
pub use message::{Audience, MessageKind};
pub use period::{BadPeriod, Period};
pub use phase::{NoSuchPhase, Phase, Strategy};
pub use scope::Scope;
pub use verdict::{Judgement, Verdict};
