//! Replay: a run's state is a fold over its records.

use std::sync::Arc;

use super::{LedgerError, Record, Report};
use crate::rotation::{Event, IllegalTransition, State};

/// Folds records into a state.
#[derive(Default)]
pub(super) struct Folding {
    state: Option<State>,
    bad: Option<(u64, IllegalTransition)>,
}

impl Folding {
    pub(super) fn push(&mut self, record: Record) {
        if self.bad.is_some() {
            return;
        }
        match (&mut self.state, record.event) {
            (None, Event::Opened { plan, .. }) => {
                // No signature covers it yet where a crash came early, so it is not taken on trust.
                if let Err(state) = plan.validate() {
                    let (event, subject) = ("opened", "the plan".to_owned());
                    self.bad = Some((0, IllegalTransition { event, subject, state }));
                    return;
                }
                self.state = Some(State::new(Arc::from(plan), record.envelope.wall));
            }
            (None, _) => {}
            (Some(state), event) => {
                if let Err(e) = state.apply(&event, record.envelope.wall) {
                    self.bad = Some((record.envelope.seq, e));
                }
            }
        }
    }

    pub(super) fn finish(self, run: &str, report: &Report) -> Result<State, LedgerError> {
        if let Some(fault) = &report.fault {
            return Err(LedgerError::Invalid { run: run.into(), fault: fault.clone() });
        }
        if let Some((seq, source)) = self.bad {
            return Err(LedgerError::Nonsense { run: run.into(), seq, source });
        }
        self.state.ok_or_else(|| LedgerError::NotFound(run.into()))
    }
}
