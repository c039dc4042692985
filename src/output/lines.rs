//! One line a transition, on standard error.

use std::io::Write as _;

use super::style::Style;
use super::words;
use crate::clock::Moment;
use crate::engine::Observer;
use crate::rotation::{Event, State};

pub(super) struct Lines {
    style: Style,
}

impl Lines {
    pub(super) fn new(style: Style) -> Self {
        Self { style }
    }
}

impl Observer for Lines {
    fn recorded(&mut self, at: Moment, events: &[Event], state: &State) {
        let mut out = std::io::stderr().lock();
        for event in events {
            if let Some(line) = words::line(event, state) {
                // A closed pipe must not stop a rotation.
                let _ = writeln!(out, "{:.0} {}", at.wall, self.style.plain(&line));
            }
        }
    }

    fn tick(&mut self, _at: Moment, _state: &State) {}
}

/// Shows nothing.
pub(super) struct Silent;

impl Observer for Silent {
    fn recorded(&mut self, _at: Moment, _events: &[Event], _state: &State) {}
    fn tick(&mut self, _at: Moment, _state: &State) {}
}
