//! A Secret as the API server has it, and who manages its fields. Pure.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::domain::ErrorKind;
use crate::provider::outcome::CallError;
use crate::secret::Secret;

/// Who writes, in `managedFields`.
pub(super) const MANAGER: &str = "stanch";
/// A Secret as the server has it.
#[derive(Clone, Deserialize)]
pub(super) struct Found {
    pub(super) kind: String,
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

    /// Also of one that applies texts: the server records its fields under the name that it gave them.
    fn keys(&self) -> impl Iterator<Item = &str> {
        let fields =
            ["f:data", "f:stringData"].into_iter().filter_map(|field| self.fields_v1.get(field)?.as_object());
        fields.flat_map(Map::keys).filter_map(|key| key.strip_prefix("f:"))
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

    /// When a manager of these keys last wrote. Its keys share one time, as the fields of a version do elsewhere.
    pub(super) fn written(&self, keys: &[String]) -> Option<Timestamp> {
        let managers = self.metadata.managed_fields.iter().filter(|managed| managed.has_one_of(keys));
        managers.filter_map(|managed| managed.time).max()
    }

    /// Every value that is text, with its key.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&str, Secret)> {
        self.data.keys().filter_map(|key| Some((key.as_str(), self.text(key).ok()?)))
    }

    /// The keys that stanch applied.
    pub(super) fn applied(&self) -> impl Iterator<Item = &str> {
        self.metadata.managed_fields.iter().filter(|managed| managed.is_ours()).flat_map(Managed::keys)
    }

    /// What is applied so that these keys get these texts and nothing else changes. What stanch applied to this Secret
    /// before, for another credential, is sent again as it is: a manager that leaves out a field gives it up, and it is
    /// removed.
    pub(super) fn patch(&self, texts: &[(String, Secret)]) -> Secret {
        let mut data: Map<String, Value> = self
            .applied()
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
