//! The words of a runbook about a secret in Vault's KV version 2.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{Observation, StoreTraits};
use crate::kind::spec::{On, StoreChange, StoreKind, StoreLook, StoreSpec, after, as_written, no_findings};
use crate::kind::vault::Vault;
use crate::kind::{path, server};
use crate::runbook::read::tree::Node;
use crate::text::shell_word;

/// Vault's KV version 2 engine.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kv2 {
    /// A connection of type `vault`.
    pub connection: On<Vault>,
    /// The mount's path.
    pub mount: String,
    /// The secret's path below the mount.
    pub path: String,
    /// The field to write. Other fields stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// For credentials of several parts: `PART: FIELD`, which part goes into which field.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
    /// Whether `revoke` also destroys the version that holds the old value.
    #[serde(default)]
    pub destroy_outgoing: bool,
}

impl Kv2 {
    pub(super) const fn traits_of(destroys: bool) -> StoreTraits {
        StoreTraits { stages: false, destroys, reads: true, change: Observation::Conditional }
    }

    pub(in crate::kind) const KIND: StoreKind = StoreKind {
        name: "kv2",
        page: include_str!("page.md"),
        check: no_findings,
        place,
        field: as_written,
    };
}

impl StoreSpec for Kv2 {
    fn kind(&self) -> &'static StoreKind {
        &Self::KIND
    }

    fn traits(&self) -> StoreTraits {
        Self::traits_of(self.destroy_outgoing)
    }

    fn target(&self) -> String {
        let Self { mount, path, .. } = self;
        format!("kv2 {mount}/{path}{}", crate::kind::fields(&self.field, &self.fields))
    }

    fn stand_in(&self) -> String {
        format!("kv2:{}/{}", self.mount, self.path)
    }

    fn look(&self, look: &StoreLook<'_>) -> String {
        let (mount, path) = (shell_word(&self.mount), shell_word(&self.path));
        let read = format!("`vault kv metadata get -mount={mount} {path}`");
        if look.change == StoreChange::Destroy {
            let old = look.before.map_or_else(|| "with the old value".into(), shell_word);
            return format!("{read}: it took effect if version {old} is destroyed");
        }
        let was =
            look.before.map(|b| format!("; before the run it was {}", shell_word(b))).unwrap_or_default();
        format!("{read}: it took effect if the current version was created{}{was}", after(look.since))
    }
}

/// Vault takes a namespace and the same words at the beginning of the mount for one path.
fn place(store: &Node, connection: Option<&Node>) -> Option<Vec<String>> {
    let namespace = connection.and_then(|connection| connection.text_of("namespace")).unwrap_or_default();
    let path = format!("{}/{}/{}", namespace.trim_matches('/'), path(store, "mount")?, path(store, "path")?);
    Some(vec![server(store, connection, &["namespace"])?, path.trim_matches('/').to_owned()])
}
