//! The rotation itself, as a pure function of what happened: [`State`] folds events, [`State::decide`]
//! says what may happen next. No clock, no randomness, no files, no tasks: moments arrive as
//! arguments, so that a whole incident can be played in milliseconds.

mod apply;
mod approval;
mod course;
mod decide;
mod end;
mod event;
mod outcome;
mod proof;
mod schedule;
mod seen;
mod state;
mod step;
#[cfg(test)]
mod tests;
mod transition;
mod truth;
mod work;

pub use apply::IllegalTransition;
pub(crate) use decide::KILL_WAITS;
pub use decide::{Decision, Next, Task, Wishes};
pub use end::{End, Stop};
pub use event::Event;
pub use outcome::{Ended, Facts, Failure, Found, Op};
pub use proof::Vantage;
pub(crate) use proof::{ACCEPTED_AT, BEFORE, PROVED, REFUSED_AT, WHY};
pub use seen::{Holds, Seen, Sight};
pub use state::{Direction, State};
pub use step::Status;
pub(crate) use transition::SETTLE;
pub use truth::{Incoming, Outgoing, Truth};
