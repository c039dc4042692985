//! One event a line, on standard output.

use std::io::Write as _;

use serde::Serialize;

use crate::clock::Moment;
use crate::engine::Observer;
use crate::rotation::{Event, State};

pub(super) struct Json {
    run: String,
}

#[derive(Serialize)]
struct Line<'a> {
    run: &'a str,
    at: jiff::Timestamp,
    #[serde(flatten)]
    event: &'a Event,
}

impl Json {
    pub(super) fn new(run: &str) -> Self {
        Self { run: run.to_owned() }
    }
}

impl Observer for Json {
    fn recorded(&mut self, at: Moment, events: &[Event], _state: &State) {
        let mut out = std::io::stdout().lock();
        for event in events {
            let line = Line { run: &self.run, at: at.wall, event };
            if let Ok(text) = serde_json::to_string(&line) {
                let _ = writeln!(out, "{text}");
            }
        }
        let _ = out.flush();
    }

    fn tick(&mut self, _at: Moment, _state: &State) {}
}
