//! A file on this machine as a store: replaced atomically, one value in it changed, the rest kept.

mod replace;

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::layout::Layout;
use super::outcome::{CallError, Kind};
use super::text::{Document, refuse_unclear};
use super::{CallContext, Check, Observation, Promoted, Store, StoreTraits, Versions};
use crate::runbook::model::FileFormat;
use crate::secret::{Material, Secret};

/// Far above any configuration file; a wrong path must not fill our memory.
const MAX_SIZE: u64 = 4 * 1024 * 1024;

/// One value in one file.
///
/// Its version is the file's inode, size and modification time: nothing that is derived from the
/// secret. Whoever writes the file between our look at it and the replacement, some microseconds,
/// is not noticed: a file has no compare-and-set.
#[derive(Debug, Clone)]
pub struct FileStore {
    path: PathBuf,
    format: FileFormat,
    key: Option<String>,
    layout: Layout,
}

impl FileStore {
    /// `key` names the value; the whole file is the value of a `text` file.
    ///
    /// # Errors
    /// When the format needs a key and has none, or the other way round.
    pub fn new(
        path: impl Into<PathBuf>,
        format: FileFormat,
        key: Option<String>,
        layout: Layout,
    ) -> Result<Self, CallError> {
        match (format, &key) {
            (FileFormat::Text, Some(_)) => return Err(invalid("a file of the format `text` has no `key`")),
            (FileFormat::Text, None) => {}
            (_, None) => return Err(invalid("a file of this format needs a `key`")),
            (_, Some(_)) => {}
        }
        Ok(Self { path: path.into(), format, key, layout })
    }

    fn about(&self, error: CallError) -> CallError {
        CallError { message: format!("{}: {}", self.path.display(), error.message), ..error }
    }

    /// The text and its version.
    fn load(&self) -> Result<(Secret, String), CallError> {
        let (text, version) =
            replace::load(&self.path, MAX_SIZE).map_err(|error| self.about(from_io(&error)))?;
        String::from_utf8(text)
            .map(|text| (Secret::new(text), version))
            .map_err(|_| self.about(invalid("the file is not UTF-8 text")))
    }

    fn value(&self, text: &Secret) -> Result<Secret, CallError> {
        let document = Document::new(self.format, self.key.as_deref(), text.expose());
        document.value().map(|(value, _)| value).map_err(|error| self.about(error))
    }

    /// Replaces our value, if it is still `from`.
    fn write(&self, value: &Secret, from: &Secret) -> Result<Promoted, CallError> {
        let (text, version) = self.load()?;
        let now = self.value(&text)?;
        if now.same_as(value) {
            return Ok(Promoted { version, was: None });
        }
        if !now.same_as(from) {
            return Err(self.conflict());
        }
        let document = Document::new(self.format, self.key.as_deref(), text.expose());
        let changed = document.with_value(value, None).map_err(|error| self.about(error))?;
        match replace::replace(&self.path, changed.expose().as_bytes(), &version) {
            Ok(new) => Ok(Promoted { version: new, was: Some(version) }),
            Err(replace::Failed::Changed) => Err(self.conflict()),
            Err(replace::Failed::Before(error)) => Err(self.about(from_io(&error))),
            Err(replace::Failed::After(error)) => {
                Err(CallError { in_doubt: true, ..self.about(from_io(&error)) })
            }
        }
    }

    fn conflict(&self) -> CallError {
        self.about(CallError::rejected(Kind::Conflict, "somebody wrote the file meanwhile"))
            .hint("look at it, then plan again")
    }
}

/// Files are read and written off the event loop.
async fn off_loop<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CallError> + Send + 'static,
) -> Result<T, CallError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(CallError::unknown("the work on a file was cut short")))
}

#[async_trait]
impl Store for FileStore {
    fn traits(&self) -> StoreTraits {
        StoreTraits { stages: false, destroys: false, change: Observation::Conditional }
    }

    async fn preflight(&self) -> Vec<Check> {
        let this = self.clone();
        let name = format!("file {}", self.path.display());
        let outcome = off_loop(move || {
            let (text, _) = this.load()?;
            let value = this.value(&text)?;
            let old = this.layout.decode(&value).map_err(|error| this.about(error))?;
            refuse_unclear(&old).map_err(|error| this.about(error))?;
            replace::check(&this.path).map_err(|error| this.about(from_io(&error)))
        })
        .await;
        vec![match outcome {
            Ok(None) => Check::pass(name, "it can be read, and its folder written"),
            Ok(Some(warning)) => Check::warn(name, warning),
            Err(error) => {
                Check { hint: error.hint, ..Check::fail(name, error.kind, error.message, String::new()) }
            }
        }]
    }

    async fn observe(&self) -> Result<Versions, CallError> {
        let this = self.clone();
        let version = off_loop(move || this.load().map(|(_, version)| version)).await?;
        Ok(Versions { current: Some(version), ..Versions::default() })
    }

    async fn read(&self, version: Option<&str>) -> Result<Material, CallError> {
        let this = self.clone();
        let wanted = version.map(str::to_owned);
        off_loop(move || {
            let (text, version) = this.load()?;
            if wanted.is_some_and(|wanted| wanted != version) {
                return Err(this.about(CallError::rejected(
                    Kind::NotFound,
                    "a file keeps no earlier versions, and this one has changed since",
                )));
            }
            let value = this.value(&text)?;
            this.layout.from_whole(value).map_err(|error| this.about(error))
        })
        .await
    }

    async fn stage(&self, _: &CallContext, _: &Material) -> Result<String, CallError> {
        Err(CallError::rejected(Kind::Unsupported, "a file has no versions that are not yet current"))
    }

    async fn retire(&self, _: &CallContext, _: &str) -> Result<(), CallError> {
        // Nothing is ever staged here.
        Ok(())
    }

    async fn promote(
        &self,
        _: &CallContext,
        value: &Material,
        from: &Material,
        _: Option<&str>,
    ) -> Result<Promoted, CallError> {
        let value = self.layout.whole(value).map_err(|error| self.about(error))?;
        let from = self.layout.whole(from).map_err(|error| self.about(error))?;
        let this = self.clone();
        off_loop(move || this.write(&value, &from)).await
    }

    async fn destroy(&self, _: &CallContext, _: &str, _: &Material) -> Result<(), CallError> {
        Err(CallError::rejected(Kind::Unsupported, "a file keeps no earlier versions"))
    }

    async fn place(&self) -> Result<String, CallError> {
        let path = resolve(&self.path).map_err(|error| self.about(from_io(&error)))?;
        Ok(format!("file {}", path.display()))
    }
}

fn invalid(message: impl Into<String>) -> CallError {
    CallError::rejected(Kind::Invalid, message)
}

fn from_io(error: &std::io::Error) -> CallError {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => Kind::NotFound,
        std::io::ErrorKind::PermissionDenied => Kind::Denied,
        _ => Kind::Local,
    };
    CallError::rejected(kind, error.to_string())
}

/// Where a path leads in the end: a symbolic link stays one, and what it names is replaced.
fn resolve(path: &Path) -> std::io::Result<PathBuf> {
    std::fs::canonicalize(path)
}
