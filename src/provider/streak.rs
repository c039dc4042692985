//! Failures in a row.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::domain::{Judgement, Verdict};

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
                let detail = format!("{} (failure {seen} of {})", judgement.detail, self.needed);
                Judgement { verdict: Verdict::Inconclusive, detail }
            }
            Verdict::Inconclusive | Verdict::Error => judgement,
        }
    }
}
