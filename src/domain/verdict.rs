//! What a gate says.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

/// Built in: every consumer attests that it uses the incoming credential.
pub const ADOPTED: &str = "adopted";

/// Built in, for `proof`: every place that refused the outgoing credential refuses it still.
pub const REFUSED: &str = "refused";

/// A gate's verdict, with what it was found from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// What it was found from, for people.
    pub detail: String,
}

impl Judgement {
    /// What stands in the detail of a failure that is not yet one of so many in a row: it is inconclusive, and no
    /// absence of an answer.
    pub const FAILURE: &'static str = "(failure ";
}

/// A gate's verdict. Only `Pass` passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Verdict {
    /// The condition holds.
    Pass,
    /// It does not hold, and that is a reason to go back.
    Fail,
    /// It cannot be said yet.
    Inconclusive,
    /// It could not be asked.
    Error,
}

impl Verdict {
    /// The verdict's name, the same on screen, in the journal and in JSON.
    pub fn name(self) -> &'static str {
        self.into()
    }
}
