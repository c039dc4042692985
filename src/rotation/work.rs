//! What can be done next with the steps of a phase, kept up to date step by step, so that a decision
//! costs what it decides and not what the plan is long.

use std::collections::{BTreeSet, HashMap};

/// The steps of the present phase and direction, sorted by what can be done with them, so that a
/// decision need not look at all steps again.
#[derive(Debug, Clone, Default)]
pub(super) struct Work {
    /// Nothing stands in their way.
    pub(super) ready: BTreeSet<usize>,
    /// A call, with its intent on record, is under way.
    pub(super) started: BTreeSet<usize>,
    /// Their outcome must be observed.
    pub(super) unknown: BTreeSet<usize>,
    /// They failed for good.
    pub(super) failed: BTreeSet<usize>,
    /// How many others each still waits for.
    pub(super) unmet: HashMap<usize, usize>,
    /// Which others wait for each.
    pub(super) waiting: HashMap<usize, Vec<usize>>,
    /// How many are not finished.
    pub(super) open: usize,
}
