//! Who else writes a Secret, by what it says of itself. Pure.

use super::object::Metadata;
use crate::domain::Check;
use crate::text::sanitize;

/// A program that writes Secrets, and writes its own value back.
struct Writer {
    name: &'static str,
    /// The kind of its owner reference, with the beginning of its API version.
    owner: Option<(&'static str, &'static str)>,
    /// Labels and annotations that it sets.
    marks: &'static [&'static str],
    /// A part of its name in `managedFields`, or in the label `app.kubernetes.io/managed-by`.
    manager: &'static str,
    /// What to do about it.
    todo: &'static str,
}

const WRITERS: [Writer; 6] = [
    Writer {
        name: "External Secrets",
        owner: Some(("external-secrets.io/", "ExternalSecret")),
        marks: &["reconcile.external-secrets.io/created-by", "reconcile.external-secrets.io/managed"],
        manager: "external-secrets",
        todo: "it copies the value from its source at each refresh: make that source a store of the runbook and leave this Secret out, or stop the refresh for the time of the run (`refreshInterval: \"0\"`)",
    },
    Writer {
        name: "Sealed Secrets",
        owner: Some(("bitnami.com/", "SealedSecret")),
        marks: &["sealedsecrets.bitnami.com/managed"],
        manager: "sealed-secrets",
        todo: "its controller writes the value of the SealedSecret whenever that changes, or it starts again: seal the new value there as well",
    },
    Writer {
        name: "Argo CD",
        owner: None,
        marks: &["argocd.argoproj.io/instance", "argocd.argoproj.io/tracking-id"],
        manager: "argocd",
        todo: "it writes the value in Git at each synchronisation: switch automated sync off for the time of the run, and change the value in Git or let Argo CD ignore it (`ignoreDifferences`)",
    },
    Writer {
        name: "Flux",
        owner: None,
        marks: &["kustomize.toolkit.fluxcd.io/name", "helm.toolkit.fluxcd.io/name"],
        manager: "kustomize-controller",
        todo: "it writes the value in Git at each reconciliation: suspend it for the time of the run (`flux suspend`), and change the value in Git",
    },
    Writer {
        name: "Helm",
        owner: None,
        marks: &["meta.helm.sh/release-name"],
        manager: "helm",
        todo: "the next `helm upgrade` writes the value of the chart: let no one upgrade the release during the run, and change the value there",
    },
    Writer {
        name: "cert-manager",
        owner: Some(("cert-manager.io/", "Certificate")),
        marks: &["cert-manager.io/certificate-name"],
        manager: "cert-manager",
        todo: "it writes a new certificate when it renews one: let it renew (`cmctl renew`), and leave this Secret out",
    },
];

impl Writer {
    /// By what it is known; `None` where nothing speaks of it.
    fn sign(&self, metadata: &Metadata) -> Option<String> {
        let owner = metadata.owner_references.iter().find(|owner| {
            self.owner.is_some_and(|(api, kind)| owner.kind == kind && owner.api_version.starts_with(api))
        });
        if let Some(owner) = owner {
            return Some(format!("it belongs to the {} `{}`", sanitize(&owner.kind), sanitize(&owner.name)));
        }
        let marked =
            |mark: &&&str| metadata.labels.contains_key(**mark) || metadata.annotations.contains_key(**mark);
        if let Some(mark) = self.marks.iter().find(marked) {
            return Some(format!("it has the mark `{mark}`"));
        }
        let label = metadata.labels.get("app.kubernetes.io/managed-by");
        if label.is_some_and(|label| label.to_lowercase().contains(self.manager)) {
            return Some("its label `app.kubernetes.io/managed-by` says so".to_owned());
        }
        let manager = metadata.managed_fields.iter().find(|managed| managed.manager.contains(self.manager));
        manager.map(|managed| format!("the manager `{}` wrote fields of it", sanitize(&managed.manager)))
    }
}

/// A warning for each program that writes the Secret.
pub(super) fn warnings(shown: &str, metadata: &Metadata) -> Vec<Check> {
    let name = "other writers";
    let warn =
        |detail: String, hint: &str| Check { hint: Some(hint.to_owned()), ..Check::warn(name, detail) };
    let mut found: Vec<Check> = WRITERS
        .iter()
        .filter_map(|writer| Some((writer, writer.sign(metadata)?)))
        .map(|(writer, sign)| {
            let detail = format!(
                "{shown}: {} writes this Secret ({sign}), and may write the old value back",
                writer.name
            );
            warn(detail, writer.todo)
        })
        .collect();
    let known = |api: &str, kind: &str| {
        WRITERS
            .iter()
            .filter_map(|writer| writer.owner)
            .any(|(start, owner)| kind == owner && api.starts_with(start))
    };
    for owner in metadata.owner_references.iter().filter(|owner| !known(&owner.api_version, &owner.kind)) {
        let (kind, owner) = (sanitize(&owner.kind), sanitize(&owner.name));
        found.push(warn(
            format!("{shown}: the Secret belongs to the {kind} `{owner}`, whose controller may write the old value back"),
            "find out whether that controller writes the Secret; if it does, stop it for the time of the run",
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn said(metadata: Value) -> Vec<String> {
        let metadata: Metadata = serde_json::from_value(metadata).expect("metadata");
        warnings("app/key", &metadata).into_iter().map(|check| check.detail).collect()
    }

    #[test]
    fn each_writer_is_known_by_what_it_leaves() {
        let owner = |api: &str, kind: &str| json!({ "ownerReferences": [{ "apiVersion": api, "kind": kind, "name": "n" }] });
        let label = |key: &str| json!({ "labels": { key: "x" } });
        let manager = |name: &str| json!({ "managedFields": [{ "manager": name, "operation": "Update" }] });
        for (metadata, writer) in [
            (owner("external-secrets.io/v1", "ExternalSecret"), "External Secrets"),
            (manager("external-secrets"), "External Secrets"),
            (owner("bitnami.com/v1alpha1", "SealedSecret"), "Sealed Secrets"),
            (json!({ "annotations": { "argocd.argoproj.io/tracking-id": "x" } }), "Argo CD"),
            (label("argocd.argoproj.io/instance"), "Argo CD"),
            (manager("argocd-controller"), "Argo CD"),
            (label("kustomize.toolkit.fluxcd.io/name"), "Flux"),
            (json!({ "labels": { "app.kubernetes.io/managed-by": "Helm" } }), "Helm"),
            (json!({ "annotations": { "meta.helm.sh/release-name": "x" } }), "Helm"),
            (owner("cert-manager.io/v1", "Certificate"), "cert-manager"),
            (owner("example.com/v1", "ExternalSecret"), "ExternalSecret `n`, whose controller"),
        ] {
            let said = said(metadata);
            assert!(said.len() == 1 && said[0].contains(writer), "{writer}: {said:?}");
        }
        for none in [json!({}), manager("kubectl-create"), label("app.kubernetes.io/name"), manager("stanch")]
        {
            assert_eq!(said(none), Vec::<String>::new());
        }
    }
}
