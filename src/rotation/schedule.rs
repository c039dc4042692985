//! Keeps what can be done next up to date, step by step.

use std::sync::Arc;

use super::state::{Direction, State};
use super::step::Status;
use super::work::Work;

impl State {
    /// Sorts the steps of the present phase by what can be done with them.
    pub(super) fn rebuild_work(&mut self) {
        let mut work = Work::default();
        let Some(phase) = self.phase else {
            self.work = work;
            return;
        };
        let forward = self.direction == Direction::Forward;
        let plan = Arc::clone(&self.plan);
        let mine: Vec<usize> = (0..plan.steps.len()).filter(|at| plan.steps[*at].phase == phase).collect();
        if !forward {
            for &at in &mine {
                if self.steps[at].status == Status::Done && plan.steps[at].undo.is_some() {
                    self.steps[at].status = Status::Undoing { attempt: 1, not_before: None };
                }
            }
        }
        for &at in &mine {
            if self.is_finished(at) {
                continue;
            }
            work.open += 1;
            let before: &[usize] = match (forward, &plan.steps[at].undo) {
                (true, _) => &plan.steps[at].after,
                (false, Some(undo)) => &undo.after,
                (false, None) => &[],
            };
            let unmet: Vec<usize> = before.iter().copied().filter(|b| !self.is_finished(*b)).collect();
            for &b in &unmet {
                work.waiting.entry(b).or_default().push(at);
            }
            work.unmet.insert(at, unmet.len());
            match &self.steps[at].status {
                Status::Pending { .. } | Status::Undoing { .. } => {
                    if unmet.is_empty() {
                        work.ready.insert(at);
                    }
                }
                Status::Orphaned { .. } => {
                    work.ready.insert(at);
                }
                Status::Unknown { .. } => {
                    work.unknown.insert(at);
                }
                Status::Failed { .. } => {
                    work.failed.insert(at);
                }
                Status::Started { .. } => {
                    work.started.insert(at);
                }
                Status::Done | Status::Undone => {}
            }
        }
        self.work = work;
    }

    /// Whether nothing remains to be done with a step in the present direction.
    pub(super) fn is_finished(&self, step: usize) -> bool {
        match (&self.direction, &self.steps[step].status) {
            (Direction::Forward, Status::Done) => true,
            (Direction::Back { .. }, Status::Undone) => true,
            (Direction::Back { .. }, Status::Done) => self.plan.steps[step].undo.is_none(),
            _ => false,
        }
    }

    pub(super) fn finish(&mut self, step: usize) {
        if !self.is_finished(step) {
            // Found to have taken effect while the run goes back: now it must be taken back.
            self.steps[step].status = Status::Undoing { attempt: 1, not_before: None };
            if self.work.unmet.get(&step).is_none_or(|n| *n == 0) {
                self.work.ready.insert(step);
            }
            return;
        }
        self.work.open = self.work.open.saturating_sub(1);
        for waiting in self.work.waiting.remove(&step).unwrap_or_default() {
            if let Some(unmet) = self.work.unmet.get_mut(&waiting) {
                *unmet -= 1;
                let idle =
                    matches!(self.steps[waiting].status, Status::Pending { .. } | Status::Undoing { .. });
                if *unmet == 0 && idle {
                    self.work.ready.insert(waiting);
                }
            }
        }
    }

    pub(super) fn forget_work(&mut self, step: usize) {
        self.work.started.remove(&step);
        self.work.unknown.remove(&step);
        self.work.failed.remove(&step);
        self.work.ready.remove(&step);
    }
}
