//! Why a session stops, and how a run ends.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::Phase;

/// Why a process stopped working on a run that is still open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum Stop {
    /// A step failed for good; something had changed already.
    Failed {
        /// The step's id.
        step: String,
    },
    /// The outcome of steps is unknown and cannot be observed.
    Unknown {
        /// The steps' ids.
        steps: Vec<String>,
    },
    /// Gates did not pass in time.
    Inconclusive {
        /// The phase.
        phase: Phase,
        /// The gates that did not pass.
        gates: Vec<String>,
    },
    /// A gate failed where nothing goes back by itself.
    GateFailed {
        /// The gate.
        gate: String,
    },
    /// The latch is set.
    Halted,
    /// Ctrl-C or SIGTERM.
    Interrupted,
    /// The phase that the run was to stop after is over.
    Until {
        /// The phase.
        phase: Phase,
    },
    /// The run would only wait.
    Waiting {
        /// The earliest moment at which going on can help.
        resume_at: Timestamp,
    },
    /// Cutover waits for a deployment window, and this session does not wait; or none opens again.
    OutsideWindow {
        /// When the next one opens; `None` where none does.
        opens: Option<Timestamp>,
    },
    /// A step could not be taken back.
    Stuck {
        /// The step's id.
        step: String,
    },
    /// A person's answer is missing.
    Unanswered {
        /// The step's id.
        step: String,
    },
    /// A phase may not begin without approvals that are missing, and nothing here waits for them.
    Unapproved {
        /// The phase.
        phase: Phase,
    },
    /// Every step is done, and others have changed since what this run wrote.
    Overtaken {
        /// The credentials.
        credentials: Vec<String>,
    },
    /// Every step is done, and what stores hold could not be read.
    Unread {
        /// The credentials.
        credentials: Vec<String>,
    },
    /// Every step is done, and a check accepts the old credential again, or its issuer does not call it gone.
    LetIn {
        /// The credentials.
        credentials: Vec<String>,
    },
    /// Every step is done, and consumers say that they use another value than the new one.
    FellBack {
        /// The consumers, each with its credential's name before it.
        consumers: Vec<String>,
    },
    /// Every step is done, and consumers that can say which value they use gave no answer.
    Silent {
        /// The consumers, each with its credential's name before it.
        consumers: Vec<String>,
    },
    /// Rollback reached the phase that it was to reach.
    Returned {
        /// The phase.
        phase: Phase,
    },
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::EnumIter)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum End {
    /// Outgoing is dead, and that is proved.
    Done,
    /// Everything was taken back, because somebody asked for it.
    RolledBack,
    /// Everything was taken back, because a gate failed or incoming was refused.
    GateRolledBack,
    /// A step failed before anything was changed.
    Failed,
    /// Every step is done, and nothing could prove that outgoing is dead.
    NotProved,
    /// A person gave it up, with things left open.
    Abandoned,
}
