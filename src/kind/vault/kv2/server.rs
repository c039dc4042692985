//! Vault's KV version 2 engine as a store.
//!
//! It has no pending versions: writing makes a version current. So nothing is staged, and
//! *promote* writes with `cas` on the version that it just read, if the own fields hold what they
//! should. A neighbour that is written meanwhile only makes it read again.

use super::spec::Kv2;
use crate::kind::real::{RealProvider, StoreServer};
use crate::runbook::model::Credential;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use rustify::enums::RequestMethod;
use serde::Serialize;
use vaultrs::api::kv2::requests::{
    DestroySecretVersionsRequest, ReadSecretMetadataRequest, ReadSecretRequest, UndeleteSecretVersionsRequest,
};

use crate::domain::{Check, ErrorKind, StoreTraits, Versions};
use crate::kind::vault::client::{Effect, VaultClient, data, unsendable};
use crate::kind::vault::fault::scrubbed;
use crate::kind::vault::kv2_secret::{Fields, Metadata, Read, Seen, Written, is_deleted};
use crate::provider::layout::Layout;
use crate::provider::outcome::CallError;
use crate::provider::{CallContext, Promoted, Store};
use crate::secret::Material;

/// How often a write is tried again on a version that a neighbour's writer made meanwhile. One who
/// writes so often that this does not suffice is not waited for.
const REWRITES: usize = 10;

/// Where a secret is.
#[derive(Debug, Clone)]
pub struct Kv2Place {
    mount: String,
    path: String,
}

impl Kv2Place {
    /// Checks both parts.
    ///
    /// # Errors
    /// When one is empty, or has an empty segment or one of dots: these would lead elsewhere.
    pub fn new(mount: &str, path: &str) -> Result<Self, CallError> {
        let clean = |text: &str, what: &str| {
            let text = text.trim_matches('/');
            if text.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
                return Err(CallError::rejected(ErrorKind::Invalid, format!("`{text}` is not a {what}")));
            }
            Ok(text.to_owned())
        };
        Ok(Self { mount: clean(mount, "mount")?, path: clean(path, "path of a secret")? })
    }

    pub(in crate::kind::vault) fn mount(&self) -> &str {
        &self.mount
    }

    pub(in crate::kind::vault) fn path(&self) -> &str {
        &self.path
    }

    pub(in crate::kind::vault) fn api(&self, kind: &str) -> String {
        format!("{}/{kind}/{}", self.mount, self.path)
    }

    pub(in crate::kind::vault) fn shown(&self) -> String {
        format!("{}/{}", self.mount, self.path)
    }
}

/// One secret of a KV v2 mount.
pub struct Kv2Store {
    pub(in crate::kind::vault) client: Arc<VaultClient>,
    pub(in crate::kind::vault) place: Kv2Place,
    layout: Layout,
    pub(in crate::kind::vault) destroys: bool,
    /// What the last look found, until it is read: a version's content never changes, so that who
    /// looks which version is current and then reads it sends one request.
    seen: Mutex<Option<Seen>>,
    /// Held while a preflight looks: who looks at the same moment waits for what it finds.
    looking: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Kv2Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kv2Store").field("place", &self.place).finish_non_exhaustive()
    }
}

/// The body of a write. vaultrs' own takes a value, in which numbers lose digits.
#[derive(Serialize)]
struct Write<'a> {
    data: &'a Fields,
    options: Options,
}

#[derive(Serialize)]
struct Options {
    cas: u64,
}

impl Kv2Store {
    /// A store whose secret is laid out by `layout`; `destroys` where the runbook says so.
    pub fn new(client: Arc<VaultClient>, place: Kv2Place, layout: Layout, destroys: bool) -> Self {
        let (seen, looking) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { client, place, layout: layout.named(), destroys, seen, looking }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Option<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks which version is current, for a preflight. Returns it, and when it deletes itself. What a plan found a
    /// moment ago, in this process, need not be asked again: whoever writes later meets the check of the own field
    /// in `promote`.
    pub(in crate::kind::vault) async fn look_early(&self) -> Result<(u64, Option<Timestamp>), CallError> {
        let _looking = self.looking.lock().await;
        let key = self.place.shown();
        let found = match self.client.facts.looked.take(&key) {
            Some(found) => found,
            None => {
                let found = self.data(None).await?;
                self.client.facts.looked.set(&key, found.clone());
                found
            }
        };
        let answer = (found.version, found.deletes);
        *self.seen() = Some(Seen { early: true, ..found });
        Ok(answer)
    }

    pub(in crate::kind::vault) async fn metadata(&self) -> Result<Metadata, CallError> {
        let what = self.place.api("metadata");
        let endpoint = ReadSecretMetadataRequest::builder()
            .mount(&self.place.mount)
            .path(&self.place.path)
            .build()
            .map_err(|_| unsendable(&what))?;
        let reply = self.client.send(endpoint, Effect::Read).await.map_err(|error| self.absent(error))?;
        data(&reply, &what)
    }

    /// One version, or the current one. A version that is deleted is an answer of its own, with the
    /// status of one that never was.
    async fn data(&self, version: Option<u64>) -> Result<Seen, CallError> {
        let what = self.place.api("data");
        let endpoint = ReadSecretRequest::builder()
            .mount(&self.place.mount)
            .path(&self.place.path)
            .version(version)
            .build()
            .map_err(|_| unsendable(&what))?;
        let reply = self.client.reply_to(endpoint, Effect::Read).await?;
        let read = match data::<Read>(&reply, &what) {
            Ok(read) if reply.status.is_success() || reply.status.as_u16() == 404 => read,
            Err(error) if reply.status.is_success() => return Err(error),
            _ => {
                let error = self.client.fault(&reply, &format!("GET {what}"), Effect::Read).await;
                return Err(self.absent(error));
            }
        };
        let Written { version: found, created_time, deletion_time } = read.metadata;
        match read.data {
            Some(fields) if !is_deleted(&deletion_time, reply.date()) => {
                let (created, deletes) = (created_time.parse().ok(), deletion_time.parse().ok());
                Ok(Seen { fields, version: found, created, deletes, early: false })
            }
            _ => Err(CallError::rejected(
                ErrorKind::NotFound,
                format!("version {found} of {} is deleted or destroyed", self.place.shown()),
            )
            .hint("`vault kv undelete` brings a deleted version back; else write the value again")),
        }
    }

    fn absent(&self, error: CallError) -> CallError {
        if error.kind != ErrorKind::NotFound {
            return error;
        }
        let place = self.place.shown();
        CallError { message: format!("there is no such secret, or no such version of it: {place}"), ..error }
            .hint("check mount and path; a deleted version comes back with `vault kv undelete`")
    }

    /// The current version's fields, and its number.
    pub(super) async fn current_fields(&self) -> Result<(Fields, u64), CallError> {
        let Seen { fields, version, .. } = self.data(None).await?;
        Ok((fields, version))
    }

    fn version(text: &str) -> Result<u64, CallError> {
        text.parse().map_err(|_| {
            CallError::rejected(ErrorKind::Invalid, format!("`{text}` is not a version of a KV v2 secret"))
        })
    }

    fn material(&self, fields: &Fields) -> Result<Material, CallError> {
        fields.material(&self.layout).map_err(|error| at(&self.place, error))
    }

    /// The current version's number and fields, where it is deleted: it is brought back, for its other fields are
    /// others' secrets. One that is destroyed, or a secret that is gone, has none that are left.
    async fn bring_back(&self) -> Result<(u64, Fields), CallError> {
        let metadata = match self.metadata().await {
            Ok(metadata) => metadata,
            Err(error) if error.kind == ErrorKind::NotFound => return Ok((0, Fields::default())),
            Err(error) => return Err(error),
        };
        let version = metadata.current_version;
        if metadata.versions.get(&version.to_string()).is_none_or(|state| state.destroyed) {
            return Ok((version, Fields::default()));
        }
        let what = self.place.api("undelete");
        let endpoint = UndeleteSecretVersionsRequest::builder()
            .mount(&self.place.mount)
            .path(&self.place.path)
            .versions(vec![version])
            .build()
            .map_err(|_| unsendable(&what))?;
        self.client.send(endpoint, Effect::Write).await?;
        let seen = self.data(Some(version)).await.map_err(CallError::doubtful)?;
        Ok((version, seen.fields))
    }

    fn how_to_bring_back(&self) -> String {
        let Kv2Place { mount, path } = &self.place;
        format!(
            "bring the secret back, then resume in the same way: vault kv undelete -mount={mount} -versions=N {path}, or, \
             where no version is left, write any value there: vault kv put -mount={mount} {path} FIELD=x"
        )
    }

    /// Writes on a version that was just read.
    pub(super) async fn write(&self, fields: &Fields, cas: u64) -> Result<u64, CallError> {
        let what = self.place.api("data");
        let body = serde_json::to_vec(&Write { data: fields, options: Options { cas } })
            .map_err(|_| unsendable(&what))?;
        let sent = self.client.plain(RequestMethod::POST, &what, Some(body), Effect::Write).await;
        // What was sent may be echoed, and the neighbours are secrets, too.
        let reply = sent.map_err(|error| scrubbed(error, &fields.secrets()))?;
        let written: Written = data(&reply, &what).map_err(CallError::doubtful)?;
        Ok(written.version)
    }

    /// The versions to destroy: this one, and every other one that is not current and can be read and
    /// whose own fields hold the outgoing value.
    async fn versions_to_destroy(&self, version: u64, outgoing: &Material) -> Result<Vec<u64>, CallError> {
        let metadata = self.metadata().await?;
        if metadata.current_version == version {
            return Err(CallError::rejected(
                ErrorKind::Conflict,
                format!("version {version} of {} is current: it is not destroyed", self.place.shown()),
            ));
        }
        let mut doomed = Vec::new();
        for (name, state) in &metadata.versions {
            let found = Self::version(name)?;
            if state.destroyed || found == metadata.current_version {
                continue;
            }
            let holds = found == version
                || match self.data(Some(found)).await {
                    Ok(seen) => seen.fields.material(&self.layout).is_ok_and(|m| m.same_as(outgoing)),
                    // Deleted or pruned meanwhile.
                    Err(error) if error.kind == ErrorKind::NotFound => false,
                    Err(error) => return Err(error),
                };
            if holds {
                doomed.push(found);
            }
        }
        doomed.sort_unstable();
        Ok(doomed)
    }
}

#[async_trait]
impl Store for Kv2Store {
    fn traits(&self) -> StoreTraits {
        Kv2::traits_of(self.destroys)
    }

    async fn preflight(&self) -> Vec<Check> {
        self.checks().await
    }

    /// One request: the answer with the data names its version. KV v2 names no version before.
    async fn observe(&self) -> Result<Versions, CallError> {
        let _looking = self.looking.lock().await;
        let early = self.seen().take().filter(|seen| seen.early);
        let found = match early {
            Some(seen) => Seen { early: false, ..seen },
            None => self.data(None).await?,
        };
        let version = self.seen().insert(found).version;
        Ok(Versions { current: Some(version.to_string()), previous: None, pending: None })
    }

    async fn written(&self, version: &str) -> Result<Option<Timestamp>, CallError> {
        Ok(self.data(Some(Self::version(version)?)).await?.created)
    }

    async fn read(&self, version: Option<&str>) -> Result<Material, CallError> {
        let version = version.map(Self::version).transpose()?;
        let seen = self.seen().take().filter(|seen| version == Some(seen.version));
        let seen = match seen {
            Some(seen) => seen,
            None => self.data(version).await?,
        };
        self.material(&seen.fields)
    }

    async fn promote(
        &self,
        _: &CallContext,
        value: &Material,
        from: &Material,
        _: Option<&str>,
    ) -> Result<Promoted, CallError> {
        self.seen().take();
        let mut tries = 0;
        loop {
            let Seen { mut fields, version, .. } = self.data(None).await?;
            let now = self.material(&fields)?;
            if now.same_as(value) {
                return Ok(Promoted { version: version.to_string(), was: None });
            }
            if !now.same_as(from) {
                return Err(CallError::rejected(
                    ErrorKind::Conflict,
                    format!(
                        "version {version} of {} holds another value in stanch's own field",
                        self.place.shown()
                    ),
                )
                .hint("another value was written there meanwhile: check it, then plan again"));
            }
            fields.patch(&self.layout, value).map_err(|error| at(&self.place, error))?;
            match self.write(&fields, version).await {
                Ok(written) => {
                    return Ok(Promoted { version: written.to_string(), was: Some(version.to_string()) });
                }
                Err(error) if error.kind == ErrorKind::Conflict && tries < REWRITES => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    async fn refill(&self, _: &CallContext, value: &Material) -> Result<Promoted, CallError> {
        self.seen().take();
        let mut brought_back = false;
        let (cas, mut fields) = match self.data(None).await {
            Ok(seen) if self.material(&seen.fields).is_ok() => {
                let message =
                    format!("version {} of {} holds a value again", seen.version, self.place.shown());
                return Err(CallError::rejected(ErrorKind::Conflict, message));
            }
            Ok(seen) => (seen.version, seen.fields),
            Err(error) if error.kind == ErrorKind::NotFound => {
                let found = self.bring_back().await.map_err(|e| match e.kind {
                    ErrorKind::Denied => e.hint(self.how_to_bring_back()),
                    _ => e,
                })?;
                brought_back = !found.1.is_empty();
                found
            }
            Err(error) => return Err(error),
        };
        let written = match fields.patch(&self.layout, value) {
            Ok(()) => self.write(&fields, cas).await,
            Err(error) => Err(at(&self.place, error)),
        };
        let version = written.map_err(|mut error| {
            if brought_back {
                error.message.push_str(&format!(
                    "; before that, stanch undeleted version {cas}: it is readable again, with the old value"
                ));
            }
            error
        })?;
        Ok(Promoted { version: version.to_string(), was: None })
    }

    /// The server by its own name for itself: two addresses of one server are one place. A namespace may
    /// also be written as the beginning of the mount: Vault takes both for the same path.
    async fn place(&self) -> Result<String, CallError> {
        let namespace = self.client.settings().namespace.as_deref().unwrap_or_default().trim_matches('/');
        let shown = self.place.shown();
        let path = if namespace.is_empty() { shown } else { format!("{namespace}/{shown}") };
        Ok(format!("kv2 {} {path}", self.client.server().await?))
    }

    async fn destroy(&self, _: &CallContext, version: &str, outgoing: &Material) -> Result<(), CallError> {
        if !self.destroys {
            return Err(CallError::rejected(
                ErrorKind::Unsupported,
                "the runbook does not say `destroy_outgoing`",
            ));
        }
        let doomed = self.versions_to_destroy(Self::version(version)?, outgoing).await?;
        if doomed.is_empty() {
            return Ok(());
        }
        let what = self.place.api("destroy");
        let endpoint = DestroySecretVersionsRequest::builder()
            .mount(&self.place.mount)
            .path(&self.place.path)
            .versions(doomed.clone())
            .build()
            .map_err(|_| unsendable(&what))?;
        self.client.send(endpoint, Effect::Write).await?;
        // The answer is empty, and so may be that of something else in front of Vault: look.
        let after = self.metadata().await.map_err(CallError::doubtful)?;
        // One that is not listed any more was pruned.
        let left = |v: &&u64| after.versions.get(&v.to_string()).is_some_and(|state| !state.destroyed);
        match doomed.iter().find(left) {
            None => Ok(()),
            Some(left) => {
                Err(CallError::unknown(format!("{what}: version {left} is not marked as destroyed")))
            }
        }
    }
}

/// Says which secret an error of the layout's speaks of.
fn at(place: &Kv2Place, error: CallError) -> CallError {
    CallError { message: format!("{}/{}: {}", place.mount, place.path, error.message), ..error }
}

#[async_trait]
impl StoreServer for Kv2 {
    async fn connect(&self, credential: &Credential, at: &RealProvider) -> Result<Arc<dyn Store>, CallError> {
        let layout = Layout::new(credential.issuer.parts(), self.field.as_deref(), &self.fields)?;
        let place = Kv2Place::new(&self.mount, &self.path)?;
        let client = at.client(&self.connection).await?;
        Ok(Arc::new(Kv2Store::new(client, place, layout, self.destroy_outgoing)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::kind::vault::Settings;
    use crate::provider::http::transport::Reply;

    async fn place(namespace: Option<&str>, mount: &str) -> String {
        let settings = Settings::resolve(Some("http://vault:8200"), namespace, None, &|_| None);
        let client = VaultClient::new(settings.expect("settings"), Duration::from_secs(1)).expect("client");
        let health = br#"{"initialized":true,"sealed":false,"standby":false,"version":"1","cluster_id":"c"}"#;
        let reply =
            Reply { status: http::StatusCode::OK, headers: http::HeaderMap::new(), body: health.to_vec() };
        let layout = Layout::new(&["token"], Some("a"), &BTreeMap::new()).expect("layout");
        let place = Kv2Place::new(mount, "app/x").expect("a place");
        let client = Arc::new(client.answering(vec![reply]));
        Kv2Store::new(client, place, layout, false).place().await.expect("a place")
    }

    /// Two runs hold one secret only once, however its namespace is written.
    #[tokio::test]
    async fn a_secret_is_one_place_however_its_namespace_is_written() {
        let one = place(Some("/ns/"), "secret").await;
        assert_eq!(one, "kv2 c ns/secret/app/x");
        assert_eq!(place(None, "ns/secret/").await, one);
        assert_eq!(place(None, "secret").await, "kv2 c secret/app/x");
    }

    #[test]
    fn a_path_cannot_lead_elsewhere() {
        assert!(Kv2Place::new("secret/", "/a/b").is_ok());
        for (mount, path) in [("secret", "../x"), ("secret", "a//b"), ("", "a"), ("secret", ""), (".", "a")] {
            assert!(Kv2Place::new(mount, path).is_err(), "{mount} {path}");
        }
    }
}
