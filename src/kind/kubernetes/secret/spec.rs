//! The words of a runbook about a Secret of Kubernetes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{Observation, StoreTraits};
use crate::kind::kubernetes::Kubernetes;
use crate::kind::server;
use crate::kind::spec::{On, StoreKind, StoreLook, StoreSpec, after, as_written, no_findings};
use crate::text::shell_word;

/// A Secret of Kubernetes.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KubernetesSecret {
    /// A connection of type `kubernetes`.
    pub connection: On<Kubernetes>,
    /// The namespace. There is no default.
    pub namespace: String,
    /// The Secret's name.
    pub name: String,
    /// The key of `data` to write; without `field` and `fields`, each part has a key of its own name. Other keys stay as
    /// they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// For credentials of several parts: `PART: KEY`, which part goes into which key of `data`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
    /// Whether stanch writes keys that another program applies server-side (Argo CD, Flux, Helm 4), and so takes them
    /// over; else such a run is refused.
    #[serde(default)]
    pub force_conflicts: bool,
}

impl KubernetesSecret {
    /// A Secret has one value, which a write replaces at once. `resourceVersion` is the condition of a write.
    pub(super) const TRAITS: StoreTraits =
        StoreTraits { stages: false, destroys: false, reads: true, change: Observation::Conditional };

    pub(in crate::kind) const KIND: StoreKind = StoreKind {
        name: "kubernetes-secret",
        page: include_str!("page.md"),
        check: no_findings,
        place: |store, on| {
            let text = |key| Some(store.text_of(key)?.to_owned());
            Some(vec![server(store, on, &[])?, text("namespace")?, text("name")?])
        },
        field: as_written,
    };
}

impl StoreSpec for KubernetesSecret {
    fn kind(&self) -> &'static StoreKind {
        &Self::KIND
    }

    fn traits(&self) -> StoreTraits {
        Self::TRAITS
    }

    fn target(&self) -> String {
        let Self { namespace, name, .. } = self;
        format!("kubernetes-secret {namespace}/{name}{}", crate::kind::fields(&self.field, &self.fields))
    }

    fn stand_in(&self) -> String {
        format!("kubernetes-secret:{}/{}", self.namespace, self.name)
    }

    fn look(&self, look: &StoreLook<'_>) -> String {
        format!(
            "`kubectl get secret {} -n {} -o jsonpath='{{.metadata.managedFields}}'`: it took effect if the manager `stanch` wrote it{}",
            shell_word(&self.name),
            shell_word(&self.namespace),
            after(look.since)
        )
    }
}
