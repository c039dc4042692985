//! A document that holds a set, of which an issuer adds and removes members of its own: a JWKS, `authorized_keys`.

use async_trait::async_trait;

use super::CallError;
use crate::domain::Check;

/// How a document changes: from its text to the new one, or `None` where it is as it should be already.
pub type Edit = Box<dyn FnOnce(&str) -> Result<Option<String>, CallError> + Send>;

/// A document that others read, and may write. Its text is public.
#[async_trait]
pub trait Document: Send + Sync {
    /// What it is called, for people.
    fn shown(&self) -> String;

    /// Looks, read-only, whether every later change will be permitted.
    async fn preflight(&self) -> Vec<Check>;

    /// Its text now.
    ///
    /// # Errors
    /// When it cannot be read.
    async fn read(&self) -> Result<String, CallError>;

    /// Reads it, and writes it back if it is still what was read. Once: a condition that is lost is an error that
    /// changed nothing and may be tried again.
    ///
    /// # Errors
    /// Those of the edit; [`ErrorKind::NotReady`](crate::domain::ErrorKind::NotReady) when another writer was faster;
    /// and when it cannot be written, or the answer is lost.
    async fn change(&self, edit: Edit) -> Result<(), CallError>;

    /// What two runs must not both change, where a condition is not kept to the last moment.
    ///
    /// # Errors
    /// When the place cannot be asked.
    async fn shares(&self) -> Result<Option<String>, CallError>;
}

/// For a write whose condition was lost.
pub(crate) fn overtaken(shown: &str) -> CallError {
    let message =
        format!("{shown} was changed by another program at the same moment; stanch changed nothing");
    CallError::rejected(crate::domain::ErrorKind::NotReady, message)
}
