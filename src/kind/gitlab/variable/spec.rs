//! The words of a runbook about a CI/CD variable of GitLab.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{Observation, StoreTraits};
use crate::kind::gitlab::Gitlab;
use crate::kind::server;
use crate::kind::spec::{On, StoreKind, StoreLook, StoreSpec, as_written};
use crate::runbook::read::finding::Finding;
use crate::runbook::read::tree::{Entry, Node};

/// The scope of a variable that every environment gets.
const EVERYWHERE: &str = "*";

/// A CI/CD variable of a project or a group of GitLab.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GitlabCiVariable {
    /// A connection of type `gitlab`.
    pub connection: On<Gitlab>,
    /// The project, by its path or its number, in quotes. Either this or `group`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The group, by its path or its number, in quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The variable's key.
    pub key: String,
    /// The variable's environment scope, as GitLab shows it. Variables of one key with other scopes are other variables.
    #[serde(default = "everywhere")]
    pub environment_scope: String,
    /// The JSON field to write; without one the value is the whole string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// For credentials of several parts: `PART: FIELD`, which part goes into which JSON field.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
}

fn everywhere() -> String {
    EVERYWHERE.to_owned()
}

impl GitlabCiVariable {
    /// A variable has one value, which a write replaces at once. A write has no condition and a variable no version, so
    /// that what a lost reply did is learned by reading the value alone.
    pub(super) const TRAITS: StoreTraits =
        StoreTraits { stages: false, destroys: false, reads: true, change: Observation::Readable };

    pub(in crate::kind) const KIND: StoreKind = StoreKind {
        name: "gitlab-ci-variable",
        page: include_str!("page.md"),
        check,
        place: |store, on| {
            let of = |key| store.text_of(key).map(|text| format!("{key} {text}"));
            let scope = store.text_of("environment_scope").unwrap_or(EVERYWHERE).to_owned();
            let owner = of("project").or_else(|| of("group"))?;
            Some(vec![
                server(store, on, &["variable", "ca_cert"])?,
                owner,
                store.text_of("key")?.to_owned(),
                scope,
            ])
        },
        field: as_written,
    };

    /// What it belongs to: a project or a group, and which.
    pub(super) fn owner(&self) -> (&'static str, &str) {
        match (&self.project, &self.group) {
            (Some(project), _) => ("project", project),
            (None, group) => ("group", group.as_deref().unwrap_or_default()),
        }
    }

    /// The variable, for people.
    pub(super) fn shown(&self) -> String {
        let (what, name) = self.owner();
        let scope = match self.environment_scope.as_str() {
            EVERYWHERE => String::new(),
            scope => format!(" [{scope}]"),
        };
        format!("{what} {name} {}{scope}", self.key)
    }
}

fn check(_: &Entry, store: &Node, found: &mut Vec<Finding>) {
    let owners = ["project", "group"].map(|key| store.entry(key));
    if owners.iter().flatten().count() != 1 {
        let message = "a CI/CD variable belongs to exactly one of `project` and `group`";
        found.push(Finding::error("gitlab-ci-variable", store.span, message));
    }
    let Some(key) = store.entry("key") else { return };
    // GitLab: `Ci::HasVariable`.
    let fits = |text: &str| {
        (1..=255).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    if key.value.text().is_some_and(|text| !text.contains("${") && !fits(text)) {
        let message = "GitLab has no CI/CD variable with such a key";
        let hint = "a key has letters, digits and `_`";
        found.push(Finding::error("gitlab-ci-variable", key.value.span, message).hint(hint));
    }
}

impl StoreSpec for GitlabCiVariable {
    fn kind(&self) -> &'static StoreKind {
        &Self::KIND
    }

    fn traits(&self) -> StoreTraits {
        Self::TRAITS
    }

    fn target(&self) -> String {
        format!("gitlab-ci-variable {}{}", self.shown(), crate::kind::fields(&self.field, &self.fields))
    }

    fn stand_in(&self) -> String {
        format!("gitlab-ci-variable:{}", self.shown())
    }

    fn look(&self, _: &StoreLook<'_>) -> String {
        let (what, name) = self.owner();
        format!(
            "Settings > CI/CD > Variables of the {what} {name}: it took effect if {} has the new value; GitLab does not say when a variable was written",
            self.key
        )
    }

    fn gaps(&self, name: &str) -> Vec<String> {
        let target = self.target();
        let overridden = match self.project {
            Some(_) => "that has a narrower scope, or is set in a pipeline or a job,",
            None => "of a project or a subgroup",
        };
        vec![
            format!(
                "{name}: jobs that began before cutover keep the old value of {target} until they end, and no job says which value it has"
            ),
            format!("{name}: if {target} is protected, only pipelines of protected branches and tags get it"),
            format!(
                "{name}: a variable with the key {} {overridden} overrides {target}; stanch does not look for one",
                self.key
            ),
            format!(
                "{name}: GitLab has no condition for a write: what another client writes to {target} between stanch's read and its write is lost"
            ),
        ]
    }
}
