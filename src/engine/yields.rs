//! What a step's call brings.

use crate::domain::Check;
use crate::journal::SealedEntry;
use crate::rotation::Facts;

/// What a call gives back to the journal and to the safe.
#[derive(Debug, Default)]
pub(super) struct Yield {
    pub(super) facts: Facts,
    pub(super) checks: Vec<Check>,
    pub(super) sealed: Vec<SealedEntry>,
}

/// These facts, and nothing else.
pub(super) fn facts<const N: usize>(pairs: [(&str, String); N]) -> Yield {
    let facts = pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    Yield { facts, ..Yield::default() }
}
