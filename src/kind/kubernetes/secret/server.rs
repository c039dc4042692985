//! A Secret of Kubernetes as a store.
//!
//! It has one value, and keeps no earlier one. So nothing is staged, and `promote` writes by server-side apply, on the
//! `resourceVersion` that it just read.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::object::Found;
use super::spec::KubernetesSecret;
use crate::domain::{Check, ErrorKind, StoreTraits, Versions};
use crate::kind::kubernetes::client::KubeClient;
use crate::kind::real::{RealProvider, StoreServer};
use crate::provider::layout::Layout;
use crate::provider::outcome::CallError;
use crate::provider::{CallContext, Promoted, Store};
use crate::runbook::model::Credential;
use crate::secret::{Material, Secret};
use crate::text::{sanitize, shell_word};

/// Prints who wrote a Secret, and no value of it.
const WRITERS: &str = "-o jsonpath='{.metadata.managedFields}'";
/// How often a write is tried again on what another wrote meanwhile.
const REWRITES: usize = 10;
/// What all values of a Secret may have together, in bytes (`MaxSecretSize`).
const MAX_SIZE: usize = 1 << 20;

/// One Secret.
pub struct SecretStore {
    pub(super) client: Arc<KubeClient>,
    pub(super) namespace: String,
    pub(super) name: String,
    layout: Layout,
    /// The keys that hold the credential.
    pub(super) keys: Vec<String>,
    pub(super) force: bool,
    /// What the last look found, until it is read: others write a Secret between two requests, which would then be about two
    /// versions.
    seen: Mutex<Option<Found>>,
}

impl fmt::Debug for SecretStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretStore").field("secret", &self.shown()).finish_non_exhaustive()
    }
}

impl SecretStore {
    /// A store whose Secret is laid out by `layout`; `force` where keys are taken over from other managers.
    ///
    /// # Errors
    /// When there cannot be such a Secret or such a key.
    pub fn new(
        client: Arc<KubeClient>,
        namespace: &str,
        name: &str,
        layout: Layout,
        force: bool,
    ) -> Result<Self, CallError> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
        let is_name = |text: &str| {
            let ends = |at: Option<char>| at.is_some_and(|c| c.is_ascii_alphanumeric());
            text.len() <= 253
                && text.chars().all(fits)
                && ends(text.chars().next())
                && ends(text.chars().last())
        };
        for (what, text) in [("namespace", namespace), ("name of a Secret", name)] {
            if !is_name(text) {
                return Err(invalid(format!("`{}` is not a {what}", sanitize(text))));
            }
        }
        let layout = layout.named();
        let keys = layout.keys();
        let is_key = |key: &String| {
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            (1..=253).contains(&key.len()) && key.chars().all(fits) && !matches!(key.as_str(), "." | "..")
        };
        if let Some(key) = keys.iter().find(|key| !is_key(key)) {
            let message = format!("`{}` cannot be a key of a Secret", sanitize(key));
            return Err(invalid(message).hint("a key has letters, digits, `-`, `_` and `.`"));
        }
        Ok(Self {
            client,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            layout,
            keys,
            force,
            seen: Mutex::default(),
        })
    }

    pub(super) fn shown(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// A command about the Secret, to type.
    pub(super) fn command(&self, verb: &str, rest: &str) -> String {
        let command =
            format!("kubectl {verb} {} -n {} {rest}", shell_word(&self.name), shell_word(&self.namespace));
        format!("`{}`", command.trim_end())
    }

    fn about(&self, error: CallError) -> CallError {
        CallError { message: format!("{}: {}", self.shown(), error.message), ..error }
    }

    pub(super) fn material(&self, found: &Found) -> Result<Material, CallError> {
        self.layout.from_fields(|key| found.text(key)).map_err(|error| self.about(error))
    }

    /// What the keys hold once this is written.
    pub(super) fn texts(&self, found: &Found, value: &Material) -> Result<Vec<(String, Secret)>, CallError> {
        let mut object: Map<String, Value> = Map::new();
        for key in &self.keys {
            if let Ok(text) = found.text(key) {
                object.insert(key.clone(), text.expose().into());
            }
        }
        self.layout.patch(&mut object, value).map_err(|error| self.about(error))?;
        let texts = object.into_iter();
        Ok(texts.filter_map(|(key, text)| Some((key, Secret::new(text.as_str()?)))).collect())
    }

    /// A credential that is as long as any.
    pub(super) fn stand_in(&self) -> Material {
        self.layout.stand_in()
    }

    /// Refuses what Kubernetes would refuse.
    pub(super) fn refuse_unfit(&self, found: &Found, texts: &[(String, Secret)]) -> Result<(), CallError> {
        if found.immutable == Some(true) {
            let message =
                format!("{}: the Secret is immutable: Kubernetes never changes its data", self.shown());
            return Err(CallError::rejected(ErrorKind::Unsupported, message).hint(
                "make a Secret of another name without `immutable: true`, let the workloads read that one, and name it in the runbook. Roll back what has begun, then plan again",
            ));
        }
        if let Some(at) = &found.metadata.deletion_timestamp {
            let message = format!("{}: the Secret is being deleted since {}", self.shown(), sanitize(at));
            return Err(CallError::rejected(ErrorKind::Conflict, message).hint(
                "find out who deletes it; roll back what has begun; make the Secret again, then plan again",
            ));
        }
        let size =
            found.size_without(&self.keys) + texts.iter().map(|(_, text)| text.expose().len()).sum::<usize>();
        if size > MAX_SIZE {
            let message = format!(
                "{}: with the new value the Secret would have {size} bytes, and Kubernetes takes {MAX_SIZE} at most",
                self.shown()
            );
            return Err(invalid(message).hint(
                "remove keys that nothing reads, then resume; or roll back, and give the credential a Secret of its own",
            ));
        }
        Ok(())
    }

    /// What was written, as the server says that it is now: a server or an admission webhook may have changed it.
    fn is_written(&self, before: &Found, after: &Found, value: &Material) -> Result<String, CallError> {
        let version = &after.metadata.resource_version;
        let holds = self.material(after).is_ok_and(|held| held.same_as(value));
        if holds && *version != before.metadata.resource_version {
            return Ok(version.clone());
        }
        let message = format!("{}: the server took the write, and does not have the new value", self.shown());
        Err(CallError::unknown(message).hint(format!(
            "an admission webhook may change it: look at it ({})",
            self.command("get secret", WRITERS)
        )))
    }
}

#[async_trait]
impl Store for SecretStore {
    fn traits(&self) -> StoreTraits {
        KubernetesSecret::TRAITS
    }

    async fn preflight(&self) -> Vec<Check> {
        self.checks().await
    }

    async fn observe(&self) -> Result<Versions, CallError> {
        let found = self.find().await?;
        let current = found.metadata.resource_version.clone();
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        Ok(Versions { current: Some(current), ..Versions::default() })
    }

    /// When who wrote a key of the credential last wrote.
    async fn written(&self, _: &str) -> Result<Option<Timestamp>, CallError> {
        Ok(self.find().await?.written(&self.keys))
    }

    async fn read(&self, version: Option<&str>) -> Result<Material, CallError> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        let found = match seen.filter(|seen| version == Some(seen.metadata.resource_version.as_str())) {
            Some(seen) => seen,
            None => self.find().await?,
        };
        if version.is_some_and(|wanted| wanted != found.metadata.resource_version) {
            let message = format!(
                "{}: a Secret keeps no earlier versions, and this one has changed since",
                self.shown()
            );
            return Err(CallError::rejected(ErrorKind::NotFound, message));
        }
        self.material(&found)
    }

    async fn promote(
        &self,
        _: &CallContext,
        value: &Material,
        from: &Material,
        _: Option<&str>,
    ) -> Result<Promoted, CallError> {
        for _ in 0..=REWRITES {
            let found = self.find().await?;
            let now = self.material(&found)?;
            let was = found.metadata.resource_version.clone();
            if now.same_as(value) {
                return Ok(Promoted { version: was, was: None });
            }
            if !now.same_as(from) {
                let message = format!("{}: the Secret holds another value than this run's", self.shown());
                return Err(CallError::rejected(ErrorKind::Conflict, message).hint(format!(
                    "find out who wrote it ({}) and which value is right",
                    self.command("get secret", WRITERS)
                )));
            }
            let texts = self.texts(&found, value)?;
            self.refuse_unfit(&found, &texts)?;
            if let Some(after) = self.apply(&found, &texts).await? {
                let version = self.is_written(&found, &after, value)?;
                return Ok(Promoted { version, was: Some(was) });
            }
        }
        Err(self.overtaken())
    }

    async fn refill(&self, _: &CallContext, value: &Material) -> Result<Promoted, CallError> {
        let found = self.find().await.map_err(|error| match error.kind {
            ErrorKind::NotFound => CallError { kind: ErrorKind::Unsupported, ..error }.hint(format!(
                "make the Secret again, with its type and labels and any value ({}), then resume in the same way",
                self.command("create secret generic", "--from-literal=KEY=x")
            )),
            _ => error,
        })?;
        if self.material(&found).is_ok() {
            let message = format!("{}: the Secret holds a value again", self.shown());
            return Err(CallError::rejected(ErrorKind::Conflict, message));
        }
        let texts = self.texts(&found, value)?;
        self.refuse_unfit(&found, &texts)?;
        let after = self.apply(&found, &texts).await?.ok_or_else(|| self.overtaken())?;
        Ok(Promoted { version: self.is_written(&found, &after, value)?, was: None })
    }

    async fn destroy(&self, _: &CallContext, _: &str, _: &Material) -> Result<(), CallError> {
        Err(CallError::rejected(ErrorKind::Unsupported, "a Secret keeps no earlier versions"))
    }

    /// The Secret by its own id: two contexts and two addresses of one cluster are one place.
    async fn place(&self) -> Result<String, CallError> {
        Ok(format!("kubernetes-secret {}", sanitize(&self.find().await?.metadata.uid)))
    }
}

impl SecretStore {
    fn overtaken(&self) -> CallError {
        let message = format!("{}: others write the Secret at this moment, again and again", self.shown());
        CallError::rejected(ErrorKind::Conflict, message)
            .hint(format!("find out who does: {}; then resume", self.command("get secret", WRITERS)))
    }
}

fn invalid(message: impl Into<String>) -> CallError {
    CallError::rejected(ErrorKind::Invalid, message)
}

#[async_trait]
impl StoreServer for KubernetesSecret {
    async fn connect(&self, credential: &Credential, at: &RealProvider) -> Result<Arc<dyn Store>, CallError> {
        let layout = Layout::new(credential.issuer.parts(), self.field.as_deref(), &self.fields)?;
        let client = at.client(&self.connection).await?;
        let Self { namespace, name, force_conflicts, .. } = self;
        Ok(Arc::new(SecretStore::new(client, namespace, name, layout, *force_conflicts)?))
    }
}
