//! The rotation itself, as a pure function of what happened: [`State`] folds events, [`State::decide`]
//! says what may happen next. No clock, no randomness, no files, no tasks: moments arrive as
//! arguments, so that a whole incident can be played in milliseconds.

mod course;
mod decide;
mod event;
mod proof;
mod schedule;
mod state;
mod status;
#[cfg(test)]
mod tests;
mod truth;
mod work;

pub(crate) use decide::KILL_WAITS;
pub use decide::{Decision, Next, Task, Wishes};
pub use event::{End, Ended, Event, Facts, Failure, Found, Holds, Op, Sight, Stop};
pub(crate) use proof::{BEFORE, PROVED, REFUSED_AT, WHY};
pub(crate) use state::SETTLE;
pub use state::{IllegalTransition, Seen, State};
pub use status::{Direction, Status};
pub use truth::{Incoming, Outgoing, Truth};
