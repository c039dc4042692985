//! What a store does, and what it answers.

use async_trait::async_trait;
use jiff::Timestamp;

use super::context::CallContext;
use super::outcome::CallError;
use crate::domain::{Check, ErrorKind, StoreTraits, Versions};
use crate::secret::Material;

/// A promotion that took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promoted {
    /// The version that is current now.
    pub version: String,
    /// The version that it took the place of; `None` when the value was current already.
    pub was: Option<String>,
}

/// A versioned place that consumers read from.
#[async_trait]
pub trait Store: Send + Sync {
    /// What it can do.
    fn traits(&self) -> StoreTraits;

    /// Looks, read-only, whether every later step will be permitted.
    async fn preflight(&self) -> Vec<Check>;

    /// Which versions there are.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no such secret.
    async fn observe(&self) -> Result<Versions, CallError>;

    /// When a version was written; `None`, as by default, where the store does not say.
    ///
    /// # Errors
    /// When the store cannot be asked, or there is no such version.
    async fn written(&self, _version: &str) -> Result<Option<Timestamp>, CallError> {
        Ok(None)
    }

    /// The value of one version; of the current one without a version.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no such version or field.
    async fn read(&self, version: Option<&str>) -> Result<Material, CallError>;

    /// Writes the incoming value as a version that is not yet current. Returns the version.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where [`StoreTraits::stages`] is false.
    async fn stage(&self, _context: &CallContext, _incoming: &Material) -> Result<String, CallError> {
        Err(CallError::rejected(
            ErrorKind::Unsupported,
            "this store has no versions that are not yet current",
        ))
    }

    /// Takes [`Store::stage`] back. Succeeds when nothing is staged any more.
    ///
    /// # Errors
    /// When the store refuses, or its answer is lost; [`ErrorKind::Unsupported`]
    /// where [`StoreTraits::stages`] is false.
    async fn retire(&self, _context: &CallContext, _staged: &str) -> Result<(), CallError> {
        Err(CallError::rejected(
            ErrorKind::Unsupported,
            "this store has no versions that are not yet current",
        ))
    }

    /// Makes `value` current, if the store's own fields hold `from` now, by compare-and-set on the
    /// version just read. What else stands in the same secret stays, also when somebody writes it
    /// meanwhile: then it is read again and patched again. Succeeds when `value` is current already.
    /// `staged` is a version that may be made current instead of a new one, where it holds just what
    /// is to be written: what [`Store::stage`] returned, or on the way back (where `value` is the
    /// outgoing one and `from` the incoming one) the version that was current before.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] when the own fields hold neither `from` nor `value`.
    async fn promote(
        &self,
        context: &CallContext,
        value: &Material,
        from: &Material,
        staged: Option<&str>,
    ) -> Result<Promoted, CallError>;

    /// Writes `value` where the secret, its current version, or the store's own field in it is no longer there. Only
    /// for what a person asked for by name. What else was in the secret comes back, or is left as it is.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] when a value is there again; [`ErrorKind::Unsupported`] where only a person can make
    /// the place again, with how.
    async fn refill(&self, context: &CallContext, value: &Material) -> Result<Promoted, CallError>;

    /// Destroys, for good, `version` and every other version that is not current and whose own fields
    /// hold `outgoing`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where [`StoreTraits::destroys`] is false.
    async fn destroy(
        &self,
        context: &CallContext,
        version: &str,
        outgoing: &Material,
    ) -> Result<(), CallError>;

    /// Whether every copy of the secret elsewhere (a replica in another region) has what is current here:
    /// to be asked right before the old credential is refused. By default there are no copies.
    ///
    /// # Errors
    /// When a copy is late or failed, with its name.
    async fn in_sync(&self) -> Result<(), CallError> {
        Ok(())
    }

    /// What the runbook's name for this secret leads to, however it is spelt: two stores with the same
    /// place are one target. Holds go by it, and steps on one place go one after the other.
    ///
    /// # Errors
    /// When the store cannot be asked.
    async fn place(&self) -> Result<String, CallError>;
}
