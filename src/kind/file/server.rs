//! A file on this machine as a store: replaced atomically, one value in it changed, the rest kept.

use super::spec::File;
use crate::kind::real::{RealProvider, StoreServer};
use crate::runbook::model::Credential;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::work::from_io;
use super::work::{alone_on, run_on_thread};
use super::{check, mounts, replace};
use crate::domain::{Check, ErrorKind, StoreTraits, Versions};
use crate::provider::layout::Layout;
use crate::provider::outcome::CallError;
use crate::provider::text::{Document, Spelling, refuse_unclear};
use crate::provider::{CallContext, Promoted, Store};
use crate::runbook::model::FileFormat;
use crate::secret::{Material, Secret};

/// Far above any configuration file; a wrong path must not fill our memory.
const MAX_SIZE: u64 = 4 * 1024 * 1024;
/// How often a file that others write is read and patched again.
const TRIES: u32 = 5;
/// The pause between two tries: a program that writes several values is done by then.
const PAUSE: Duration = Duration::from_millis(20);

/// One value in one file.
///
/// Its version is the file's inode, size and modification time, and the way in which the value is
/// quoted: nothing that is derived from the secret. Steps on one file go one after the other. Whoever
/// else writes it before the replacement is noticed, and the new text patched; but for the last few
/// microseconds, since a file has no compare-and-set.
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

    /// The text and its version, without the value's quoting.
    fn load(&self, target: &Path) -> Result<(Secret, String), CallError> {
        let (text, version) = replace::load(target, MAX_SIZE).map_err(|error| from_io(&error))?;
        String::from_utf8(text)
            .map(|text| (Secret::new(text), version))
            .map_err(|_| invalid("the file is not UTF-8 text"))
    }

    fn document<'a>(&'a self, text: &'a Secret) -> Document<'a> {
        Document::new(self.format, self.key.as_deref(), text.expose())
    }

    fn credential(&self, text: &Secret) -> Result<Material, CallError> {
        self.layout.decode(&self.document(text).value()?.0)
    }

    /// The text with another credential. `spelling` is how that one was written when it was here before.
    fn edit(
        &self,
        text: &Secret,
        credential: &Material,
        spelling: Option<Spelling>,
    ) -> Result<Secret, CallError> {
        let document = self.document(text);
        let value = self.layout.encode(&document.value()?.0, credential)?;
        document.with_value(&value, spelling)
    }

    /// The version of a text, with its value's quoting: the way back gives the very same bytes.
    fn version(&self, text: &Secret, version: &str) -> String {
        match self.document(text).value() {
            Ok((_, spelling)) => format!("{version}-{spelling}"),
            // It is another file than it was.
            Err(_) => version.to_owned(),
        }
    }

    /// Makes, in memory and in a file beside the target, what `promote` will make, there and back.
    fn rehearse(&self, target: &Path) -> Result<Option<String>, CallError> {
        replace::sweep(target);
        let (text, _) = self.load(target)?;
        let (_, spelling) = self.document(&text).value()?;
        let old = self.credential(&text)?;
        refuse_unclear(&old)?;
        let there = self.edit(&text, &self.layout.stand_in(), None)?;
        if !self.edit(&there, &old, Some(spelling))?.same_as(&text) {
            return Err(CallError::rejected(
                ErrorKind::Unsupported,
                "the value is written with escapes, or over several lines: a rollback could not restore these \
                 very bytes",
            )
            .hint("write it on one line, without escapes; then plan again"));
        }
        check::check(target, there.expose().len().max(text.expose().len()))
    }

    /// Replaces our value, if it is still `from`, or adds it where there is none. What others changed beside it
    /// meanwhile stays.
    fn write(
        &self,
        target: &Path,
        value: &Material,
        from: Option<&Material>,
        spelling: Option<Spelling>,
    ) -> Result<Promoted, CallError> {
        replace::sweep(target);
        for _ in 0..TRIES {
            let (text, version) = self.load(target)?;
            let changed = match from {
                Some(from) => {
                    let now = self.credential(&text)?;
                    if now.same_as(value) {
                        return Ok(Promoted { version: self.version(&text, &version), was: None });
                    }
                    if !now.same_as(from) {
                        return Err(CallError::rejected(
                            ErrorKind::Conflict,
                            "it holds a third value, neither the old credential nor the new one; stanch left it as it is",
                        )
                        .hint("find out which person or program wrote it, then make a new plan"));
                    }
                    self.edit(&text, value, spelling)?
                }
                None => self.document(&text).with_added(&self.layout.whole(value)?)?,
            };
            match replace::replace(target, changed.expose().as_bytes(), &version) {
                Ok(new) => {
                    let was = Some(self.version(&text, &version));
                    return Ok(Promoted { version: self.version(&changed, &new), was });
                }
                Err(replace::Failed::Changed) => std::thread::sleep(PAUSE),
                Err(replace::Failed::Before(error)) => return Err(from_io(&error)),
                Err(replace::Failed::After(error)) => {
                    return Err(from_io(&error).doubtful());
                }
            }
        }
        Err(CallError::rejected(
            ErrorKind::Conflict,
            format!("another program keeps writing it: stanch tried {TRIES} times and changed nothing"),
        )
        .hint("stop that program for a moment, then type `stanch resume`"))
    }

    /// [`Self::write`] by one writer at a time.
    async fn put(
        &self,
        value: &Material,
        from: Option<&Material>,
        spelling: Option<Spelling>,
    ) -> Result<Promoted, CallError> {
        let both = |_: &Self, target: &Path| Ok((target.to_owned(), mounts::one_name(target)));
        let (target, name) = self.on_target(both).await.map_err(|error| self.about(error))?;
        let alone = alone_on(&name).await.map_err(|error| self.about(error))?;
        let (this, value, from) = (self.clone(), value.clone(), from.cloned());
        let work = move || {
            // Kept by the work itself: it may end after we stopped waiting for it.
            let _alone = alone;
            this.write(&target, &value, from.as_ref(), spelling)
        };
        run_on_thread(work).await.map_err(|error| self.about(error))
    }

    /// Does a piece of work on the file that the path leads to.
    async fn on_target<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self, &Path) -> Result<T, CallError> + Send + 'static,
    ) -> Result<T, CallError> {
        let this = self.clone();
        run_on_thread(move || work(&this, &this.target()?)).await.map_err(CallError::read_only)
    }

    /// Where the path leads in the end: a symbolic link stays one, and what it names is replaced.
    fn target(&self) -> Result<PathBuf, CallError> {
        std::fs::canonicalize(&self.path).map_err(|error| from_io(&error))
    }
}

#[async_trait]
impl Store for FileStore {
    fn traits(&self) -> StoreTraits {
        File::TRAITS
    }

    async fn preflight(&self) -> Vec<Check> {
        let name = format!("file {}", self.path.display());
        vec![match self.on_target(Self::rehearse).await {
            Ok(None) => Check::pass(name, "it can be read, and was replaced on trial beside it"),
            Ok(Some(warning)) => Check::warn(name, warning),
            Err(error) => {
                Check { hint: error.hint, ..Check::fail(name, error.kind, error.message, String::new()) }
            }
        }]
    }

    async fn observe(&self) -> Result<Versions, CallError> {
        let look = |this: &Self, target: &Path| {
            // A run that was killed looks here first when it is resumed.
            replace::sweep(target);
            let (text, version) = this.load(target)?;
            Ok(this.version(&text, &version))
        };
        let version = self.on_target(look).await.map_err(|error| self.about(error))?;
        Ok(Versions { current: Some(version), ..Versions::default() })
    }

    /// When the file was written: also when that was a neighbour's field.
    async fn written(&self, _: &str) -> Result<Option<Timestamp>, CallError> {
        let modified = |_: &Self, target: &Path| {
            let found = std::fs::metadata(target).and_then(|found| found.modified());
            found.map_err(|error| from_io(&error)).map(|at| Timestamp::try_from(at).ok())
        };
        self.on_target(modified).await.map_err(|error| self.about(error))
    }

    async fn read(&self, version: Option<&str>) -> Result<Material, CallError> {
        let wanted = version.map(str::to_owned);
        self.on_target(move |this, target| {
            let (text, version) = this.load(target)?;
            if wanted.is_some_and(|wanted| wanted != this.version(&text, &version)) {
                return Err(CallError::rejected(
                    ErrorKind::NotFound,
                    "a file keeps no earlier versions, and this one has changed since",
                ));
            }
            this.credential(&text)
        })
        .await
        .map_err(|error| self.about(error))
    }

    async fn promote(
        &self,
        _: &CallContext,
        value: &Material,
        from: &Material,
        staged: Option<&str>,
    ) -> Result<Promoted, CallError> {
        // On the way back: the version that held the value before.
        let spelling = staged.and_then(|version| version.rsplit('-').next()?.parse().ok());
        self.put(value, Some(from), spelling).await
    }

    async fn refill(&self, _: &CallContext, value: &Material) -> Result<Promoted, CallError> {
        self.put(value, None, None).await
    }

    async fn destroy(&self, _: &CallContext, _: &str, _: &Material) -> Result<(), CallError> {
        Err(CallError::rejected(ErrorKind::Unsupported, "a file keeps no earlier versions"))
    }

    /// The path without links, detours and bind mounts. A hard link is a place of its own: a replacement parts
    /// it from the others.
    async fn place(&self) -> Result<String, CallError> {
        let target = self.on_target(|_, target| Ok(mounts::one_name(target).display().to_string())).await;
        target.map(|target| format!("file {target}")).map_err(|error| self.about(error))
    }
}

fn invalid(message: impl Into<String>) -> CallError {
    CallError::rejected(ErrorKind::Invalid, message)
}

#[async_trait]
impl StoreServer for File {
    async fn connect(&self, credential: &Credential, _: &RealProvider) -> Result<Arc<dyn Store>, CallError> {
        let layout = Layout::new(credential.issuer.parts(), None, &BTreeMap::new())?;
        Ok(Arc::new(FileStore::new(&self.path, self.format, self.key.clone(), layout)?))
    }
}
