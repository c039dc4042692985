//! Vault's KV version 2 engine as a store.
//!
//! It has no pending versions: writing makes a version current. So nothing is staged, and
//! *promote* writes with `cas` on the version that the plan saw.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rustify::enums::RequestMethod;
use serde::Deserialize;
use serde_json::{Map, Value};
use vaultrs::api::kv2::requests::{
    DestroySecretVersionsRequest, ReadSecretMetadataRequest, ReadSecretRequest, SetSecretRequest,
    SetSecretRequestOptions,
};
use vaultrs::api::kv2::responses::SecretVersionMetadata;

use super::client::{Effect, VaultClient, data, unsendable};
use super::preflight::{capabilities, failed, holds};
use crate::provider::http::transport::Reply;
use crate::provider::layout::Layout;
use crate::provider::outcome::{CallError, Kind};
use crate::provider::{CallContext, Check, Observation, Promoted, Store, StoreTraits, Versions};
use crate::secret::Material;

/// Vault's clock comes in whole seconds, rounded down; and a version that is deleted in a moment is
/// as good as deleted.
const SOON: SignedDuration = SignedDuration::from_secs(2);

/// Where a secret stands.
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
                return Err(CallError::rejected(Kind::Invalid, format!("`{text}` is no {what}")));
            }
            Ok(text.to_owned())
        };
        Ok(Self { mount: clean(mount, "mount")?, path: clean(path, "path of a secret")? })
    }

    fn api(&self, kind: &str) -> String {
        format!("{}/{kind}/{}", self.mount, self.path)
    }
}

/// One secret of a KV v2 mount.
#[derive(Debug)]
pub struct Kv2Store {
    client: Arc<VaultClient>,
    place: Kv2Place,
    layout: Layout,
    destroys: bool,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    current_version: u64,
    #[serde(default)]
    versions: HashMap<String, VersionState>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct VersionState {
    deletion_time: String,
    destroyed: bool,
}

#[derive(Deserialize)]
struct Read {
    data: Option<Map<String, Value>>,
    metadata: SecretVersionMetadata,
}

#[derive(Deserialize)]
struct Mount {
    #[serde(default)]
    path: String,
    #[serde(default, rename = "type")]
    engine: String,
    #[serde(default)]
    options: Option<HashMap<String, String>>,
}

impl Kv2Store {
    /// A store whose secret is laid out by `layout`; `destroys` where the runbook says so.
    pub fn new(client: Arc<VaultClient>, place: Kv2Place, layout: Layout, destroys: bool) -> Self {
        Self { client, place, layout: layout.named(), destroys }
    }

    async fn metadata(&self) -> Result<(Metadata, Reply), CallError> {
        let what = self.place.api("metadata");
        let endpoint = ReadSecretMetadataRequest::builder()
            .mount(&self.place.mount)
            .path(&self.place.path)
            .build()
            .map_err(|_| unsendable(&what))?;
        let reply = self.client.send(endpoint, Effect::Read).await.map_err(|error| self.absent(error))?;
        Ok((data(&reply, &what)?, reply))
    }

    async fn data(&self, version: Option<u64>) -> Result<(Map<String, Value>, u64), CallError> {
        let what = self.place.api("data");
        let endpoint = ReadSecretRequest::builder()
            .mount(&self.place.mount)
            .path(&self.place.path)
            .version(version)
            .build()
            .map_err(|_| unsendable(&what))?;
        let reply = self.client.send(endpoint, Effect::Read).await.map_err(|error| self.absent(error))?;
        let read: Read = data(&reply, &what)?;
        let fields = read.data.ok_or_else(|| {
            CallError::rejected(
                Kind::NotFound,
                format!("version {} of {what} is deleted", read.metadata.version),
            )
        })?;
        Ok((fields, read.metadata.version))
    }

    fn absent(&self, error: CallError) -> CallError {
        if error.kind != Kind::NotFound {
            return error;
        }
        let place = format!("{}/{}", self.place.mount, self.place.path);
        CallError { message: format!("there is no such secret, or no such version of it: {place}"), ..error }
            .hint("check mount and path; a deleted version comes back with `vault kv undelete`")
    }

    fn version(text: &str) -> Result<u64, CallError> {
        text.parse().map_err(|_| {
            CallError::rejected(Kind::Invalid, format!("`{text}` is no version of a KV v2 secret"))
        })
    }
}

#[async_trait]
impl Store for Kv2Store {
    fn traits(&self) -> StoreTraits {
        StoreTraits { stages: false, destroys: self.destroys, change: Observation::Conditional }
    }

    async fn preflight(&self) -> Vec<Check> {
        let mount = &self.place.mount;
        match self.mount_check().await {
            check if check.verdict == crate::provider::CheckVerdict::Fail => return vec![check],
            check => {
                let mut checks = vec![check];
                checks.extend(self.permission_checks().await);
                checks.push(match self.observe().await {
                    Ok(Versions { current: Some(version), .. }) => Check::pass(
                        format!("secret {mount}/{}", self.place.path),
                        format!("version {version} is current"),
                    ),
                    Ok(_) => Check::fail(
                        format!("secret {mount}/{}", self.place.path),
                        Kind::NotFound,
                        "it has no current version",
                        "write the outgoing credential there once, then plan again",
                    ),
                    Err(error) => failed(&format!("secret {mount}/{}", self.place.path), &error),
                });
                checks
            }
        }
    }

    async fn observe(&self) -> Result<Versions, CallError> {
        let (metadata, reply) = self.metadata().await?;
        let now = reply.date();
        let usable = |version: u64| {
            metadata.versions.get(&version.to_string()).is_some_and(|state| {
                let deleted = match state.deletion_time.parse::<Timestamp>() {
                    // A time to come is a deletion that is set for later.
                    Ok(at) => now.is_none_or(|now| at.duration_since(now) <= SOON),
                    Err(_) => !state.deletion_time.is_empty(),
                };
                !state.destroyed && !deleted
            })
        };
        let current = metadata.current_version;
        let place = format!("{}/{}", self.place.mount, self.place.path);
        if current == 0 {
            return Err(CallError::rejected(Kind::NotFound, format!("{place} has no version yet")));
        }
        if !usable(current) {
            return Err(CallError::rejected(
                Kind::NotFound,
                format!("version {current} of {place}, the current one, is deleted or destroyed"),
            )
            .hint("`vault kv undelete` brings a deleted version back; else write the value again"));
        }
        let previous = current.checked_sub(1).filter(|v| *v > 0 && usable(*v)).map(|v| v.to_string());
        Ok(Versions { current: Some(current.to_string()), previous, pending: None })
    }

    async fn read(&self, version: Option<&str>) -> Result<Material, CallError> {
        let version = version.map(Self::version).transpose()?;
        let (fields, _) = self.data(version).await?;
        self.layout.from_object(&fields).map_err(|error| at(&self.place, error))
    }

    async fn stage(&self, _: &CallContext, _: &Material) -> Result<String, CallError> {
        Err(CallError::rejected(Kind::Unsupported, "KV v2 has no versions that are not yet current"))
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
        let what = self.place.api("data");
        let (mut fields, current) = self.data(None).await?;
        let now = self.layout.from_object(&fields).map_err(|error| at(&self.place, error))?;
        if now.same_as(value) {
            return Ok(Promoted { version: current.to_string(), was: None });
        }
        if !now.same_as(from) {
            return Err(CallError::rejected(
                Kind::Conflict,
                format!("version {current} of {what} holds another value"),
            )
            .hint("somebody wrote another version meanwhile: look at it, then plan again"));
        }
        self.layout.patch(&mut fields, value).map_err(|error| at(&self.place, error))?;
        let cas = u32::try_from(current).map_err(|_| unsendable(&what))?;
        let endpoint = SetSecretRequest::builder()
            .mount(&self.place.mount)
            .path(&self.place.path)
            .data(Value::Object(fields))
            .options(SetSecretRequestOptions { cas })
            .build()
            .map_err(|_| unsendable(&what))?;
        let reply = self.client.send(endpoint, Effect::Write).await?;
        let written: SecretVersionMetadata =
            data(&reply, &what).map_err(|error| CallError { in_doubt: true, ..error })?;
        Ok(Promoted { version: written.version.to_string(), was: Some(current.to_string()) })
    }

    async fn place(&self) -> Result<String, CallError> {
        let Kv2Place { mount, path } = &self.place;
        let namespace = self.client.settings().namespace.as_deref().unwrap_or_default();
        Ok(format!("kv2 {}/{namespace}/{mount}/{path}", self.client.place()))
    }

    async fn destroy(&self, _: &CallContext, version: &str, _: &Material) -> Result<(), CallError> {
        if !self.destroys {
            return Err(CallError::rejected(
                Kind::Unsupported,
                "the runbook does not say `destroy_outgoing`",
            ));
        }
        let version = Self::version(version)?;
        let (metadata, _) = self.metadata().await?;
        if metadata.current_version == version {
            return Err(CallError::rejected(
                Kind::Conflict,
                format!("version {version} of {} is current: it is not destroyed", self.place.api("data")),
            ));
        }
        let what = self.place.api("destroy");
        let endpoint = DestroySecretVersionsRequest::builder()
            .mount(&self.place.mount)
            .path(&self.place.path)
            .versions(vec![version])
            .build()
            .map_err(|_| unsendable(&what))?;
        self.client.send(endpoint, Effect::Write).await?;
        // The answer is empty, and so may be that of something else in front of Vault: look.
        let (after, _) = self.metadata().await.map_err(|error| CallError { in_doubt: true, ..error })?;
        match after.versions.get(&version.to_string()) {
            Some(state) if state.destroyed => Ok(()),
            _ => Err(CallError::unknown(format!("{what}: version {version} is not marked as destroyed"))),
        }
    }
}

impl Kv2Store {
    /// A KV v1 mount answers to v2-looking paths in its own way, so its version is asked first.
    async fn mount_check(&self) -> Check {
        let mount = &self.place.mount;
        let name = format!("mount {mount}");
        let path = format!("sys/internal/ui/mounts/{mount}");
        let found: Mount = match self.client.plain(RequestMethod::GET, &path, None).await {
            Ok(reply) => match data(&reply, &path) {
                Ok(found) => found,
                Err(error) => return failed(&name, &error),
            },
            // Vault gives the same answer for a mount that is not there and one that is not ours to see.
            Err(error) if matches!(error.kind, Kind::Denied | Kind::NotFound | Kind::Invalid) => {
                return Check::fail(
                    name,
                    error.kind,
                    format!("there is no mount `{mount}`, or this token may do nothing below it"),
                    "`vault secrets list` shows the mounts; check `mount` in the runbook, then the policies",
                );
            }
            Err(error) => return failed(&name, &error),
        };
        let version = found.options.as_ref().and_then(|o| o.get("version")).map(String::as_str);
        if found.path.trim_matches('/') != mount {
            return Check::fail(
                name,
                Kind::Invalid,
                format!(
                    "`{mount}` lies inside the mount `{}`",
                    self.client.quoted(found.path.trim_matches('/'))
                ),
                "put the rest into `path`",
            );
        }
        match (found.engine.as_str(), version) {
            ("kv", Some("2")) => Check::pass(name, "it is KV version 2"),
            ("kv" | "generic", _) => Check::fail(
                name,
                Kind::Unsupported,
                "it is KV version 1, which keeps no versions: there would be no way back",
                format!("upgrade it: `vault kv enable-versioning {mount}`"),
            ),
            (other, _) => Check::fail(
                name,
                Kind::Unsupported,
                format!("it is of type {}", self.client.quoted(other)),
                "check `mount` in the runbook: it has to be a KV version 2 mount",
            ),
        }
    }

    async fn permission_checks(&self) -> Vec<Check> {
        let (data_path, metadata, destroy) =
            (self.place.api("data"), self.place.api("metadata"), self.place.api("destroy"));
        let paths = [data_path.as_str(), metadata.as_str(), destroy.as_str()];
        let held = match capabilities(&self.client, &paths).await {
            Ok(held) => held,
            Err(error) if error.kind == Kind::Denied => {
                return vec![Check::warn("permissions", "Vault does not tell this token what it may do")];
            }
            Err(error) => return vec![failed("permissions", &error)],
        };
        let mut needed = vec![(0, "read"), (0, "update"), (1, "read")];
        if self.destroys {
            needed.push((2, "update"));
        }
        needed
            .into_iter()
            .map(|(index, capability)| {
                let path = paths[index];
                let name = format!("permission {path}");
                if holds(&held[index], capability) {
                    Check::pass(name, format!("has `{capability}`"))
                } else {
                    Check::fail(
                        name,
                        Kind::Denied,
                        format!("lacks `{capability}`"),
                        format!(
                            "ask for a policy with `path \"{path}\" {{ capabilities = [\"{capability}\"] }}`"
                        ),
                    )
                }
            })
            .collect()
    }
}

/// Says which secret an error of the layout's speaks of.
fn at(place: &Kv2Place, error: CallError) -> CallError {
    CallError { message: format!("{}/{}: {}", place.mount, place.path, error.message), ..error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_lead_elsewhere() {
        assert!(Kv2Place::new("secret/", "/a/b").is_ok());
        for (mount, path) in [("secret", "../x"), ("secret", "a//b"), ("", "a"), ("secret", ""), (".", "a")] {
            assert!(Kv2Place::new(mount, path).is_err(), "{mount} {path}");
        }
    }
}
