//! The field's words as plain data, without behaviour: every room may use them, and they use none.

mod cadence;
mod call;
mod capability;
mod check;
mod credential;
mod error_kind;
mod message;
mod period;
mod phase;
mod scope;
mod trace_parent;
mod verdict;
mod who;
mod window;

pub use cadence::{BadCadence, Cadence, Due, days, is_zone_name};
pub use call::{Call, Exec, ExecInput, ExecOptions, HttpCall, HttpMethod};
pub use capability::{IssuerTraits, Observation, StoreTraits};
pub use check::{Check, CheckVerdict};
pub use credential::{Identity, Life, Standing, Versions};
pub use error_kind::ErrorKind;
pub use message::{Audience, MessageKind};
pub use period::{BadPeriod, Period};
pub use phase::{NoSuchPhase, Phase, Strategy};
pub use scope::Scope;
pub use trace_parent::{BadTraceParent, TraceParent};
pub use verdict::{ADOPTED, Judgement, REFUSED, Verdict};
pub use who::{Job, Who};
pub use window::{BadDay, BadTime, Day, Freeze, Opening, TimeOfDay, Weekday, Window};
