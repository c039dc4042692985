//! What every call that changes something carries with it.

use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::outcome::CallError;
use crate::domain::Versions;
use crate::secret::Material;

/// What every call that changes something carries with it.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// The run's id: the tag on everything that the run creates.
    pub run: String,
    /// The step's id within the run.
    pub step: String,
    /// The idempotency token: a UUIDv5 of run, step and round. The same for every attempt, so that
    /// a server which honours it sees one request however often it is sent.
    pub token: Uuid,
    /// When the intent of the first attempt was recorded: nothing that the step created is older.
    pub since: Timestamp,
    /// When the intent of the last attempt was recorded: nothing that the step created was asked for later.
    pub last: Timestamp,
    /// The idempotency tokens of the run's other steps that stage in the same place: a version that
    /// carries one of them is the run's own and no stranger's.
    pub siblings: Vec<Uuid>,
    /// What the plan saw of the step's store; empty for steps without one. The way back restores it.
    pub before: Versions,
    /// The version that the step's store had when this run last saw or wrote it: what a store goes by that cannot be
    /// read. `None` for steps without one, and where a person wants it written over, whatever it holds.
    pub expected: Option<String>,
    /// Whether the effect may still begin, for what looks before it writes.
    pub ahead: Ahead,
    /// What this run sealed of the credential that is looked for, where it did: the value that was made here before it
    /// was sent, or all of the credential. Given to `Issuer::find` and `Issuer::twins` alone.
    pub held: Option<Arc<Material>>,
    /// The handle of the outgoing version of the step's credential; `None` where none is known.
    pub outgoing: Option<String>,
}

/// Whether an effect may still begin: a store that looks at a server before it writes asks once more in between.
#[derive(Clone, Default)]
pub struct Ahead(Option<Arc<dyn Fn() -> Result<(), CallError> + Send + Sync>>);

impl Ahead {
    /// One that asks like this.
    pub fn asking(ask: impl Fn() -> Result<(), CallError> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(ask)))
    }

    /// Asks, right before the request that changes something.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`](crate::domain::ErrorKind::Cancelled) when a person stopped the run meanwhile.
    pub fn may_begin(&self) -> Result<(), CallError> {
        self.0.as_ref().map_or(Ok(()), |ask| ask())
    }
}

impl std::fmt::Debug for Ahead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ahead")
    }
}

/// The name of a credential whose value was made here, by the idempotency token of its `issue`: it differs between
/// runs and rounds, and says nothing about the value.
pub fn handle(token: Uuid) -> String {
    format!("random:{}", &token.simple().to_string()[..8])
}
