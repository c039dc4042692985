//! One line a transition, on standard error.

use std::io::Write as _;

use super::style::Style;
use super::{wait, words};
use crate::clock::Moment;
use crate::engine::Observer;
use crate::rotation::{Event, State};

/// How often a run that has nothing to show says what it waits for.
const EVERY_MS: u64 = 60_000;

pub(super) struct Lines {
    style: Style,
    /// When the last line was written.
    last: Option<u64>,
}

impl Lines {
    pub(super) fn new(style: Style) -> Self {
        Self { style, last: None }
    }
}

impl Observer for Lines {
    fn recorded(&mut self, at: Moment, events: &[Event], state: &State) {
        let mut out = std::io::stderr().lock();
        for event in events {
            if let Some(line) = words::line(event, state) {
                // A closed pipe must not stop a rotation.
                let _ = writeln!(out, "{:.0} {}", at.wall, self.style.plain(&line));
                self.last = Some(at.mono_ms);
            }
        }
    }

    fn tick(&mut self, at: Moment, state: &State) {
        let last = *self.last.get_or_insert(at.mono_ms);
        if at.mono_ms.saturating_sub(last) < EVERY_MS {
            return;
        }
        self.last = Some(at.mono_ms);
        if let Some(line) = wait::waiting(state, at.wall) {
            let _ = writeln!(std::io::stderr(), "{:.0} {}", at.wall, self.style.plain(&line));
        }
    }
}

/// Shows nothing.
pub(super) struct Silent;

impl Observer for Silent {
    fn recorded(&mut self, _at: Moment, _events: &[Event], _state: &State) {}
    fn tick(&mut self, _at: Moment, _state: &State) {}
}
