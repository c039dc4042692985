//! Messages about a run: who they are for, and what they are about.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumIter, EnumString, IntoStaticStr};

/// Who a message is for. It decides what a message can name at all.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
    Display,
    EnumIter,
    EnumString,
    IntoStaticStr,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Audience {
    /// Those who work on the incident: everything that the record says, and the next command.
    Technicians,
    /// Those who answer for it: what happened, how far it is, what it costs.
    Management,
    /// Those who use the service: nothing internal. A person sends each message, after a preview.
    Customers,
}

/// What a message is about.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
    Display,
    EnumIter,
    EnumString,
    IntoStaticStr,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum MessageKind {
    /// The run began.
    Opened,
    /// The run began, in the sandbox.
    Drill,
    /// The run waits for a person's answer or approval.
    ApprovalWanted,
    /// The new credentials are made current now.
    Cutover,
    /// Both credentials are valid, until every consumer has moved.
    Overlap,
    /// The old credentials are disabled, and watched.
    Sunset,
    /// The old credentials are revoked.
    Revoked,
    /// The old credentials are proved dead; the run is done.
    Proved,
    /// The run was rolled back.
    RolledBack,
    /// The run stopped and needs a person.
    Stuck,
    /// The halt was set.
    Halted,
    /// The run is over, and not done: failed, not proved, or abandoned.
    Closed,
}

impl Audience {
    /// The word in files.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

impl MessageKind {
    /// Whether nothing follows it: the run is over.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Proved | Self::RolledBack | Self::Closed)
    }

    /// The word in files.
    pub fn name(self) -> &'static str {
        self.into()
    }
}
