//! The words of a runbook about a secret in AWS Secrets Manager.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{Observation, StoreTraits};
use crate::kind::aws::Aws;
use crate::kind::server;
use crate::kind::spec::{On, StoreChange, StoreKind, StoreLook, StoreSpec, after, as_written, no_findings};
use crate::text::shell_word;

/// AWS Secrets Manager.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Secretsmanager {
    /// A connection of type `aws`.
    pub connection: On<Aws>,
    /// The secret's name or ARN.
    pub secret: String,
    /// The JSON field to write; without one the value is the whole string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// For credentials of several parts: `PART: FIELD`, which part goes into which JSON field.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
}

impl Secretsmanager {
    /// AWS removes a version that carries no label automatically.
    pub(super) const TRAITS: StoreTraits =
        StoreTraits { stages: true, destroys: false, reads: true, change: Observation::Token };

    pub(in crate::kind) const KIND: StoreKind = StoreKind {
        name: "secretsmanager",
        page: include_str!("page.md"),
        check: no_findings,
        place: |store, on| Some(vec![server(store, on, &[])?, name_of(store.text_of("secret")?).to_owned()]),
        field: as_written,
    };
}

/// A secret's name, out of its name or ARN. An ARN ends with `-` and six characters that AWS adds; AWS advises against
/// names that end like that.
fn name_of(secret: &str) -> &str {
    let Some((_, name)) = secret.split_once(":secret:").filter(|_| secret.starts_with("arn:")) else {
        return secret;
    };
    let added = |end: &str| end.len() == 6 && end.bytes().all(|b| b.is_ascii_alphanumeric());
    name.rsplit_once('-').filter(|(_, end)| added(end)).map_or(name, |(name, _)| name)
}

impl StoreSpec for Secretsmanager {
    fn kind(&self) -> &'static StoreKind {
        &Self::KIND
    }

    fn traits(&self) -> StoreTraits {
        Self::TRAITS
    }

    fn target(&self) -> String {
        format!("secretsmanager {}{}", self.secret, crate::kind::fields(&self.field, &self.fields))
    }

    fn stand_in(&self) -> String {
        format!("secretsmanager:{}", self.secret)
    }

    fn look(&self, look: &StoreLook<'_>) -> String {
        let label = if look.change == StoreChange::Stage { "AWSPENDING" } else { "AWSCURRENT" };
        let was =
            look.before.map(|b| format!("; before the run it was {}", shell_word(b))).unwrap_or_default();
        format!(
            "`aws secretsmanager list-secret-version-ids --secret-id {}`: it took effect if the version \
             with {label} was created{}{was}",
            shell_word(&self.secret),
            after(look.since)
        )
    }
}
