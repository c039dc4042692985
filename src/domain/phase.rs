//! The phases, and the orders in which the strategies walk them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr, VariantArray};

/// The order of the phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Strategy {
    /// Old and new are both valid until every consumer moved. No outage is expected.
    #[default]
    Overlap,
    /// The old one is disabled before anything else. Consumers are down until cutover.
    Contain,
    /// The old one is revoked, and nothing replaces it. Only `stanch revoke` makes such plans.
    #[schemars(skip)]
    Revoke,
}

/// A named part of the rotation.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
    Display,
    EnumString,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", parse_err_ty = NoSuchPhase, parse_err_fn = no_such_phase)]
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

impl Strategy {
    /// The strategy's name, as in the runbook.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

impl Phase {
    /// All phases, in the order of `overlap`.
    pub const ALL: &[Self] = Self::VARIANTS;

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

    const REVOKE: [Self; 3] = [Self::Preflight, Self::Revoke, Self::Proof];

    /// The order of a strategy.
    pub fn order(strategy: Strategy) -> &'static [Self] {
        match strategy {
            Strategy::Overlap => Self::ALL,
            Strategy::Contain => &Self::CONTAIN,
            Strategy::Revoke => &Self::REVOKE,
        }
    }

    /// The phase's name, as in the runbook.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// There is no such phase.
#[derive(Debug, thiserror::Error)]
#[error(
    "there is no phase `{0}`; the phases are preflight, prepare, distribute, verify, cutover, overlap, sunset, revoke and proof"
)]
pub struct NoSuchPhase(String);

fn no_such_phase(text: &str) -> NoSuchPhase {
    NoSuchPhase(text.to_owned())
}
