//! What gates say: before a run, and of failures in a row.

use std::sync::atomic::{AtomicU32, Ordering};

use super::CallError;
use crate::domain::{Check, Judgement, Verdict};

/// What a gate said before a run: only one that cannot be evaluated forbids it. Its subject may not exist yet.
pub(crate) fn told(name: &str, found: Result<Judgement, CallError>) -> Check {
    match found {
        Err(error) => error.to_check(name),
        Ok(Judgement { verdict: Verdict::Pass, detail }) => Check::pass(name, detail),
        Ok(Judgement { verdict, detail }) => {
            Check::warn(name, format!("it says {} before the run: {detail}", verdict.name()))
        }
    }
}

/// Counts failures in a row, so that one bad sample does not turn a rotation back.
#[derive(Debug)]
pub struct Streak {
    needed: u32,
    seen: AtomicU32,
}

impl Streak {
    /// A failure is one after `needed` in a row.
    pub fn new(needed: u32) -> Self {
        Self { needed: needed.max(1), seen: AtomicU32::new(0) }
    }

    /// Weighs one judgement. Only a pass ends the row: an answer that says nothing does not make
    /// the failures before it undone.
    pub fn count(&self, judgement: Judgement) -> Judgement {
        match judgement.verdict {
            Verdict::Pass => {
                self.seen.store(0, Ordering::Relaxed);
                judgement
            }
            Verdict::Fail => {
                let seen = self.seen.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                if seen >= self.needed {
                    return judgement;
                }
                let detail = format!("{} {}{seen} of {})", judgement.detail, Judgement::FAILURE, self.needed);
                Judgement { verdict: Verdict::Inconclusive, detail }
            }
            Verdict::Inconclusive | Verdict::Error => judgement,
        }
    }
}
