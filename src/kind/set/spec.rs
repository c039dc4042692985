//! The words of a runbook about the place of a set.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kind::spec::On;
use crate::kind::vault::Vault;
use crate::text::shell_word;

/// The place of a set: stanch adds and removes one member, and leaves all others as they are.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SetPlace {
    /// A file on this machine, replaced atomically, its mode kept.
    File(String),
    /// A field of a secret in Vault's KV version 2, written with check-and-set.
    Kv2(SetField),
}

/// A field of a secret.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetField {
    /// A connection of type `vault`.
    pub connection: On<Vault>,
    /// The mount's path.
    pub mount: String,
    /// The secret's path below the mount.
    pub path: String,
    /// The field that holds the document, as a string. Other fields stay as they are.
    pub field: String,
}

impl SetPlace {
    /// The connection that it is reached by.
    pub(in crate::kind) fn connection(&self) -> Option<&str> {
        match self {
            Self::File(_) => None,
            Self::Kv2(at) => Some(at.connection.name()),
        }
    }

    /// How a person reads it.
    pub(in crate::kind) fn how_to_read(&self) -> String {
        match self {
            Self::File(path) => format!("`cat {}`", shell_word(path)),
            Self::Kv2(SetField { mount, path, field, .. }) => {
                let [mount, path, field] = [mount, path, field].map(|word| shell_word(word));
                format!("`vault kv get -mount={mount} -field={field} {path}`")
            }
        }
    }
}
