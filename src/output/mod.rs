//! Showing what happens: a live view on a terminal, one line a transition elsewhere, or JSON.
//!
//! All three are fed by the same events. They are decoration: they fail open.

mod approvals;
mod json;
mod lines;
mod next;
mod outgoing;
mod style;
mod summary;
mod terminal;
mod vantage;
mod wait;
mod words;

use crate::engine::Observer;
use crate::rotation::State;

pub use approvals::{identities, missing_approvals};
pub use next::{Around, Seals, next_commands};
pub use style::Style;
pub(crate) use style::clock;
pub(crate) use summary::credential;
pub use summary::{summary, summary_json};
pub use terminal::Screen;
pub use vantage::vantages;
pub(crate) use vantage::{fine, place};
pub(crate) use words::{describe_op, rolling_back};
pub use words::{end_word, line, sentence};

/// How to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A live view, on standard error.
    Terminal,
    /// One line a transition, on standard error.
    Lines,
    /// One event a line, on standard output.
    Json,
    /// Nothing.
    Quiet,
}

/// The observer of a run, and the screen to step aside for questions, where there is one.
pub fn observer(mode: Mode, style: Style, run: &str, state: &State) -> (Box<dyn Observer>, Option<Screen>) {
    match mode {
        Mode::Terminal => {
            let view = terminal::View::new(style, run, state);
            let screen = view.screen();
            (Box::new(view), Some(screen))
        }
        Mode::Lines => (Box::new(lines::Lines::new(style)), None),
        Mode::Json => (Box::new(json::Json::new(run)), None),
        Mode::Quiet => (Box::new(lines::Silent), None),
    }
}
