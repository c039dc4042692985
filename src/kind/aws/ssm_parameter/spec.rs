//! The words of a runbook about a parameter of AWS Systems Manager.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{Observation, StoreTraits};
use crate::kind::aws::Aws;
use crate::kind::spec::{On, StoreKind, StoreLook, StoreSpec, after, as_written};
use crate::kind::{path, server};
use crate::runbook::read::finding::Finding;
use crate::runbook::read::tree::{Entry, Node};
use crate::text::shell_word;

/// Parameter Store of AWS Systems Manager.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SsmParameter {
    /// A connection of type `aws`.
    pub connection: On<Aws>,
    /// The parameter's name, with its path and without a version or a label.
    pub parameter: String,
    /// The JSON field to write; without one the value is the whole string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// For credentials of several parts: `PART: FIELD`, which part goes into which JSON field.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
}

impl SsmParameter {
    /// A version is current as soon as it is there. A write has no condition: stanch reads right before and right
    /// after it, and the versions are numbered without a gap, so that one of another writer shows.
    pub(super) const TRAITS: StoreTraits =
        StoreTraits { stages: false, destroys: false, reads: true, change: Observation::Conditional };

    pub(in crate::kind) const KIND: StoreKind = StoreKind {
        name: "ssm-parameter",
        page: include_str!("page.md"),
        check,
        place: |store, on| Some(vec![server(store, on, &[])?, path(store, "parameter")?]),
        field: as_written,
    };
}

/// Why a name cannot be written, and what to name instead; `None` where it can.
pub(super) fn unwritable(name: &str) -> Option<(String, String)> {
    if let Some(secret) = name.strip_prefix("/aws/reference/secretsmanager/") {
        return Some((
            "the parameter is a reference to a secret of Secrets Manager, which is read-only".to_owned(),
            format!("rotate the secret itself: {{type: secretsmanager, secret: {secret}}}"),
        ));
    }
    if name.starts_with("/aws/") {
        let message = "parameters below /aws/ belong to AWS and are read-only".to_owned();
        return Some((message, "name a parameter of your own".to_owned()));
    }
    if name.starts_with("arn:") {
        return Some((
            "a parameter is written by its name, not by its ARN".to_owned(),
            "give the name, and a connection to the account and region that it belongs to".to_owned(),
        ));
    }
    let (bare, selector) = name.split_once(':')?;
    Some((
        format!(
            "`:{selector}` selects one version or label of the parameter, and a new version is what stanch writes"
        ),
        format!("name the parameter alone: {bare}. Its labels move with the value"),
    ))
}

fn check(_: &Entry, store: &Node, found: &mut Vec<Finding>) {
    let Some(entry) = store.entry("parameter") else { return };
    if let Some((message, hint)) = entry.value.text().and_then(unwritable) {
        found.push(Finding::error("ssm-parameter", entry.value.span, message).hint(hint));
    }
}

impl StoreSpec for SsmParameter {
    fn kind(&self) -> &'static StoreKind {
        &Self::KIND
    }

    fn traits(&self) -> StoreTraits {
        Self::TRAITS
    }

    fn target(&self) -> String {
        format!("ssm-parameter {}{}", self.parameter, crate::kind::fields(&self.field, &self.fields))
    }

    fn stand_in(&self) -> String {
        format!("ssm-parameter:{}", self.parameter)
    }

    fn look(&self, look: &StoreLook<'_>) -> String {
        let was =
            look.before.map(|b| format!("; before the run it was {}", shell_word(b))).unwrap_or_default();
        format!(
            "`aws ssm get-parameter-history --name {} --query Parameters[-1].[Version,LastModifiedDate]`: it took \
             effect if the newest version was created{}{was}",
            shell_word(&self.parameter),
            after(look.since)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_is_refused_with_what_to_name() {
        for (name, hint) in [
            ("/aws/reference/secretsmanager/app/db", "secret: app/db"),
            ("/aws/service/ami-amazon-linux-latest/al2023", "of your own"),
            ("arn:aws:ssm:eu-west-1:123456789012:parameter/app/key", "the name"),
            ("/app/key:prod", "alone: /app/key."),
            ("/app/key:3", "alone: /app/key."),
        ] {
            let said = unwritable(name).unwrap_or_else(|| panic!("{name} was taken"));
            assert!(said.1.contains(hint), "{name}: {said:?}");
        }
        for name in ["/app/key", "key", "/app/aws/key", "/awsome/key"] {
            assert_eq!(unwritable(name), None);
        }
    }
}
