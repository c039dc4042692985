//! The requests about one Secret, and what is read of their answers.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::server::SecretStore;
use crate::domain::ErrorKind;
use crate::kind::kubernetes::client::Ask;
use crate::kind::kubernetes::fault::Status;
use crate::provider::outcome::CallError;
use crate::secret::{Material, Secret};

/// Who writes, in `managedFields`.
pub(super) const MANAGER: &str = "stanch";
/// The media type of a server-side apply; JSON is YAML.
const APPLY: &str = "application/apply-patch+yaml";

/// A Secret as the server has it.
#[derive(Clone, Deserialize)]
pub(super) struct Found {
    kind: String,
    pub(super) metadata: Metadata,
    /// Base64.
    #[serde(default)]
    data: BTreeMap<String, Secreted>,
    #[serde(default)]
    pub(super) immutable: Option<bool>,
}

/// A value in base64.
#[derive(Clone)]
struct Secreted(Secret);

impl<'de> Deserialize<'de> for Secreted {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(|text| Self(Secret::new(text)))
    }
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) uid: String,
    pub(super) resource_version: String,
    pub(super) deletion_timestamp: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) owner_references: Vec<Owner>,
    pub(super) managed_fields: Vec<Managed>,
}

/// What a Secret belongs to.
#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Owner {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) name: String,
}

/// Which fields a manager wrote last.
#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Managed {
    pub(super) manager: String,
    pub(super) operation: String,
    time: Option<Timestamp>,
    fields_v1: Map<String, Value>,
}

impl Managed {
    /// Whether it is what stanch applied.
    pub(super) fn is_ours(&self) -> bool {
        self.manager == MANAGER && self.applies()
    }

    /// Whether its manager declares what the field is to be, as a controller does; else it wrote it once.
    pub(super) fn applies(&self) -> bool {
        self.operation == "Apply"
    }

    fn keys(&self) -> impl Iterator<Item = &str> {
        let data = self.fields_v1.get("f:data").and_then(Value::as_object);
        data.into_iter().flat_map(Map::keys).filter_map(|key| key.strip_prefix("f:"))
    }

    pub(super) fn has_one_of(&self, keys: &[String]) -> bool {
        self.keys().any(|key| keys.iter().any(|own| own == key))
    }
}

impl Found {
    /// The text of a key. Other keys may hold any bytes; a credential is text.
    pub(super) fn text(&self, key: &str) -> Result<Secret, CallError> {
        let Secreted(value) = self.data.get(key).ok_or_else(|| {
            CallError::rejected(ErrorKind::NotFound, format!("there is no key `{key}`"))
                .hint("check the key's name in the runbook, or write the key once by hand")
        })?;
        let bytes = STANDARD.decode(value.expose()).ok();
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok()).map(Secret::new);
        text.ok_or_else(|| {
            CallError::rejected(ErrorKind::Invalid, format!("the value of the key `{key}` is not UTF-8 text"))
        })
    }

    /// How many bytes all values have, without these keys.
    pub(super) fn size_without(&self, keys: &[String]) -> usize {
        let others = self.data.iter().filter(|(key, _)| !keys.contains(key));
        others
            .map(|(_, Secreted(value))| STANDARD.decode(value.expose()).map_or(0, |bytes| bytes.len()))
            .sum()
    }

    /// When one of these keys was last written.
    pub(super) fn written(&self, keys: &[String]) -> Option<Timestamp> {
        let managers = self.metadata.managed_fields.iter().filter(|managed| managed.has_one_of(keys));
        managers.filter_map(|managed| managed.time).max()
    }

    /// What is applied so that these keys get these texts and nothing else changes. What stanch applied to this Secret
    /// before, for another credential, is sent again as it is: a manager that leaves out a field gives it up, and it is
    /// removed.
    fn patch(&self, texts: &[(String, Secret)]) -> Secret {
        let before = self.metadata.managed_fields.iter().filter(|managed| managed.is_ours());
        let mut data: Map<String, Value> = before
            .flat_map(Managed::keys)
            .filter_map(|key| Some((key.to_owned(), self.data.get(key)?.0.expose().into())))
            .collect();
        for (key, text) in texts {
            data.insert(key.clone(), STANDARD.encode(text.expose()).into());
        }
        let Metadata { name, namespace, uid, resource_version, .. } = &self.metadata;
        let metadata =
            json!({ "name": name, "namespace": namespace, "uid": uid, "resourceVersion": resource_version });
        Secret::new(
            json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data }).to_string(),
        )
    }
}

/// How a write ended that was not refused for good.
pub(super) enum Written {
    Done(Found),
    /// Something else wrote the Secret after it was read.
    Overtaken,
}

impl SecretStore {
    fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/secrets/{}", self.namespace, self.name)
    }

    pub(super) async fn find(&self) -> Result<Found, CallError> {
        let path = self.path();
        let ask = Ask::get(&path);
        let found = self.client.object(&ask).await?;
        self.is_this(&found, None).then_some(found).ok_or_else(|| self.client.strange(&ask))
    }

    /// Whether an answer is the Secret that was asked for: a page with status 200 is not.
    fn is_this(&self, found: &Found, before: Option<&Found>) -> bool {
        let Metadata { name, namespace, uid, resource_version, .. } = &found.metadata;
        let same = before.is_none_or(|before| *uid == before.metadata.uid);
        let named = *name == self.name && *namespace == self.namespace && same;
        found.kind == "Secret" && named && !uid.is_empty() && !resource_version.is_empty()
    }

    /// Applies these texts to the Secret that was just read, if it still is what was read.
    pub(super) async fn apply(
        &self,
        found: &Found,
        texts: &[(String, Secret)],
    ) -> Result<Written, CallError> {
        let path = self.path();
        // Who wrote a key once does not write it back; who applies it does, and the server then refuses the write.
        let force = self.force || !found.metadata.managed_fields.iter().any(|m| self.holds(m));
        let query = format!("fieldManager={MANAGER}&force={force}&fieldValidation=Strict");
        let body = Some((APPLY, found.patch(texts)));
        let ask = Ask { method: Method::PATCH, path: &path, query: &query, body, changes: true };
        // What was sent may be echoed.
        let sent = texts.iter().fold(Material::default(), |all, (key, text)| all.with(key, text.clone()));
        let clean = |error: CallError| error.scrubbed(&|text| sent.scrub(text));
        let reply = self.client.reply_to(&ask).await.map_err(clean)?;
        if reply.status.is_success() {
            let after: Found = serde_json::from_slice(&reply.body).map_err(|_| self.client.strange(&ask))?;
            if !self.is_this(&after, Some(found)) {
                return Err(self.client.strange(&ask));
            }
            return Ok(Written::Done(after));
        }
        let fault = clean(self.client.fault(&reply, &ask));
        let Some(status) = Status::of(&reply) else { return Err(fault) };
        match reply.status.as_u16() {
            409 if status.reason == "Conflict" => {
                let held: Vec<String> = status
                    .details
                    .causes
                    .iter()
                    .filter(|cause| cause.reason == "FieldManagerConflict")
                    .map(|cause| self.client.quoted(&sent.scrub(&cause.message)))
                    .collect();
                if held.is_empty() { Ok(Written::Overtaken) } else { Err(self.held(&held)) }
            }
            422 => {
                let fields: Vec<String> = status
                    .details
                    .causes
                    .iter()
                    .map(|cause| self.client.quoted(&sent.scrub(&cause.field)))
                    .collect();
                Err(fault.hint(format!(
                    "Kubernetes or an admission webhook does not take the Secret with the new value (fields: {}); look at it: {}, correct what the message names, then plan again",
                    if fields.is_empty() { "not named".to_owned() } else { fields.join(", ") },
                    self.command("get secret", "-o yaml")
                )))
            }
            _ => Err(fault),
        }
    }

    /// Whether another manager applies one of our keys.
    pub(super) fn holds(&self, managed: &Managed) -> bool {
        managed.applies() && !managed.is_ours() && managed.has_one_of(&self.keys)
    }

    /// The error that a key belongs to another manager.
    pub(super) fn held(&self, by: &[String]) -> CallError {
        let message =
            format!("{}: another program applies a key of this run: {}", self.shown(), by.join("; "));
        CallError::rejected(ErrorKind::Conflict, message).hint(
            "that program would write the old value back: change the value at its source, or stop it for the time of the run and set `force_conflicts: true`; then plan again",
        )
    }

    /// Whether the namespace is being deleted; `None` where stanch may not see that.
    pub(super) async fn namespace_ends(&self) -> Result<Option<bool>, CallError> {
        let path = format!("/api/v1/namespaces/{}", self.namespace);
        let ask = Ask::get(&path);
        match self.client.object::<Value>(&ask).await {
            Ok(found) => match found.pointer("/status/phase").and_then(Value::as_str) {
                Some(phase) if found["kind"] == "Namespace" => Ok(Some(phase == "Terminating")),
                _ => Err(self.client.strange(&ask)),
            },
            Err(error) if error.kind == ErrorKind::Denied => Ok(None),
            Err(error) => Err(error),
        }
    }
}
