//! Drills: a runbook is played in the sandbox, by the real engine, while a scenario lets things happen to the people
//! who play it. What they do is scored from the signed record.
//!
//! A scenario's injects wait for events on the record, so a drill takes the same course at any speed. A drill is
//! played in a state directory of its own, which holds `drill.json`: every command that is given that directory
//! works in the sandbox alone.

mod capacity;
mod ledger;
mod lint;
mod marker;
mod model;
mod possible;
mod score;
mod stage;
mod story;

pub use capacity::{BadQuota, Meter, Quota, Sent, Took, many};
pub use ledger::{Asks, DrillLedger};
pub use lint::{Checked, check, in_order};
pub use marker::{BadMarker, Marker};
pub use model::{Inject, Move, Scenario, schema};
pub use possible::cannot_come;
pub use score::{Fold, Judged, Score, Verdict};
pub use stage::{Ask, Stage, is_note};
