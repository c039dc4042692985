//! The words of a runbook about a connection of type `kubernetes`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kind::spec::{Family, FamilySpec, Kind};

/// A Kubernetes cluster. Its address and the operator's credential come from where `kubectl` takes them: the files of
/// `KUBECONFIG`, else `~/.kube/config`, else the service account of the pod that stanch runs in.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kubernetes {
    /// The context in the kubeconfig; else its current context, which `address` then has to confirm. One of the two is
    /// required, but for the service account of a pod: the current context may be another one when a run is resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// The address of the API server, for example `https://prod.example.com:6443`. stanch refuses a context that leads
    /// to another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

impl Family for Kubernetes {
    const KIND: Kind = Kind::named("kubernetes");
}

impl FamilySpec for Kubernetes {
    fn kind(&self) -> &'static Kind {
        &Self::KIND
    }

    fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }
}
