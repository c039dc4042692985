//! The phases, and the orders in which the strategies walk them.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The order of the phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// Old and new are both valid until every consumer moved. No outage is expected.
    #[default]
    Overlap,
    /// The old one is disabled before anything else. Consumers are down until cutover.
    Contain,
}

/// A named part of the rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Looks, read-only, whether everything later can work.
    Preflight,
    /// Issues incoming and checks that it is not wider than asked. Undo: revoke incoming.
    Prepare,
    /// Stages incoming in every store that can. Undo: retire the staged version.
    Distribute,
    /// Proves that incoming is accepted. Nothing to undo.
    Verify,
    /// Makes incoming current and tells consumers. Undo: swap back, reload.
    Cutover,
    /// Both are valid while consumers move. Left only when its gates pass.
    Overlap,
    /// Outgoing is disabled, reversibly, and the world is watched. Undo: enable.
    Sunset,
    /// Outgoing is destroyed. The point of no return.
    Revoke,
    /// Outgoing is used and must be refused.
    Proof,
}

impl Phase {
    /// All phases, in the order of `overlap`.
    pub const ALL: [Self; 9] = [
        Self::Preflight,
        Self::Prepare,
        Self::Distribute,
        Self::Verify,
        Self::Cutover,
        Self::Overlap,
        Self::Sunset,
        Self::Revoke,
        Self::Proof,
    ];

    /// `contain` has the new credential in hand before it kills the old one, and knows no overlap: else
    /// whatever is wrong with the new one would be found when nothing can end the outage any more.
    const CONTAIN: [Self; 8] = [
        Self::Preflight,
        Self::Prepare,
        Self::Sunset,
        Self::Distribute,
        Self::Verify,
        Self::Cutover,
        Self::Revoke,
        Self::Proof,
    ];

    /// The order of a strategy.
    pub fn order(strategy: Strategy) -> &'static [Self] {
        match strategy {
            Strategy::Overlap => &Self::ALL,
            Strategy::Contain => &Self::CONTAIN,
        }
    }

    /// The phase's name, as in the runbook.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::Prepare => "prepare",
            Self::Distribute => "distribute",
            Self::Verify => "verify",
            Self::Cutover => "cutover",
            Self::Overlap => "overlap",
            Self::Sunset => "sunset",
            Self::Revoke => "revoke",
            Self::Proof => "proof",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// There is no such phase.
#[derive(Debug, thiserror::Error)]
#[error(
    "there is no phase `{0}`; the phases are preflight, prepare, distribute, verify, cutover, overlap, sunset, revoke and proof"
)]
pub struct NoSuchPhase(String);

impl FromStr for Phase {
    type Err = NoSuchPhase;

    fn from_str(text: &str) -> Result<Self, NoSuchPhase> {
        Self::ALL.into_iter().find(|p| p.name() == text).ok_or_else(|| NoSuchPhase(text.to_owned()))
    }
}
