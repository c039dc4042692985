//! A file that holds a set.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::work::{alone_on, from_io, run_on_thread};
use super::{check, mounts, replace};
use crate::domain::{Check, ErrorKind};
use crate::provider::CallError;
use crate::provider::document::{Document, Edit, overtaken};

/// A set of public keys is far smaller; a wrong path must not fill our memory.
const MAX_SIZE: u64 = 1024 * 1024;

/// A document in one file. Steps on one file go one after the other, and runs hold it. Whoever else writes it is
/// noticed but for the last few microseconds, since a file has no compare-and-set.
#[derive(Debug, Clone)]
pub struct FileDocument {
    path: PathBuf,
}

impl FileDocument {
    /// The document at this path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn about(&self, error: CallError) -> CallError {
        CallError { message: format!("{}: {}", self.path.display(), error.message), ..error }
    }

    /// Where the path leads in the end: a symbolic link stays one, and what it names is replaced.
    fn target(&self) -> Result<PathBuf, CallError> {
        std::fs::canonicalize(&self.path).map_err(|error| from_io(&error))
    }

    async fn on_target<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> Result<T, CallError> + Send + 'static,
    ) -> Result<T, CallError> {
        let this = self.clone();
        let done = run_on_thread(move || work(&this.target()?)).await;
        done.map_err(|error| self.about(error.read_only()))
    }
}

fn load(target: &Path) -> Result<(String, String), CallError> {
    let (text, version) = replace::load(target, MAX_SIZE).map_err(|error| from_io(&error))?;
    let text = String::from_utf8(text);
    let text = text.map_err(|_| CallError::rejected(ErrorKind::Invalid, "the file is not UTF-8 text"))?;
    Ok((text, version))
}

#[async_trait]
impl Document for FileDocument {
    fn shown(&self) -> String {
        self.path.display().to_string()
    }

    async fn preflight(&self) -> Vec<Check> {
        let name = format!("file {}", self.path.display());
        let rehearse = |target: &Path| {
            replace::sweep(target);
            let found = check::check(target, load(target)?.0.len());
            // Everybody may read public keys.
            found.map(|warning| warning.filter(|warning| warning != check::EVERYBODY_READS))
        };
        vec![match self.on_target(rehearse).await {
            Ok(None) => Check::pass(name, "it can be read, and was replaced on trial beside it"),
            Ok(Some(warning)) => Check::warn(name, warning),
            Err(error) => error.to_check(&name),
        }]
    }

    async fn read(&self) -> Result<String, CallError> {
        self.on_target(|target| Ok(load(target)?.0)).await
    }

    async fn change(&self, edit: Edit) -> Result<(), CallError> {
        let both = |target: &Path| Ok((target.to_owned(), mounts::one_name(target)));
        let (target, name) = self.on_target(both).await?;
        let alone = alone_on(&name).await.map_err(|error| self.about(error))?;
        let shown = self.shown();
        let work = move || {
            // Kept by the work itself: it may end after we stopped waiting for it.
            let _alone = alone;
            replace::sweep(&target);
            let (text, version) = load(&target)?;
            let Some(changed) = edit(&text)? else { return Ok(()) };
            replace::replace(&target, changed.as_bytes(), &version).map(drop).map_err(|failed| match failed {
                replace::Failed::Changed => overtaken(&shown),
                replace::Failed::Before(error) => from_io(&error),
                replace::Failed::After(error) => from_io(&error).doubtful(),
            })
        };
        run_on_thread(work).await.map_err(|error| self.about(error))
    }

    async fn shares(&self) -> Result<Option<String>, CallError> {
        self.on_target(|target| Ok(Some(format!("file {}", mounts::one_name(target).display())))).await
    }
}
