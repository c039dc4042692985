//! The words of a runbook about a secret of GitHub Actions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{Observation, StoreTraits};
use crate::kind::github::Github;
use crate::kind::server;
use crate::kind::spec::{On, StoreKind, StoreLook, StoreSpec, after, as_written};
use crate::runbook::read::finding::Finding;
use crate::runbook::read::tree::{Entry, Node};
use crate::text::shell_word;

/// A secret of GitHub Actions: of a repository, of one of its environments, or of an organization. GitHub never gives its
/// value back.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GithubActionsSecret {
    /// A connection of type `github`.
    pub connection: On<Github>,
    /// `OWNER/NAME` of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The environment of the repository that the secret belongs to; else it belongs to the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// The organization, in the place of a repository. Who may use the secret stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    /// The secret's name. It must exist.
    pub name: String,
    /// For credentials of several parts: the one part to write; else a JSON object with all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
}

impl GithubActionsSecret {
    /// A write cannot be conditional, and the value is never given back. `updated_at`, which is, tells whether a write
    /// whose reply was lost took effect.
    pub(super) const TRAITS: StoreTraits =
        StoreTraits { stages: false, destroys: false, reads: false, change: Observation::Readable };

    pub(in crate::kind) const KIND: StoreKind = StoreKind {
        name: "github-actions-secret",
        page: include_str!("page.md"),
        check,
        // GitHub's names are the same in capital letters.
        place: |store, on| {
            let text = |key: &str| store.text_of(key).unwrap_or_default().to_lowercase();
            let server = server(store, on, &["variable", "ca_cert"])?;
            Some(vec![server, text("repository"), text("environment"), text("organization"), text("name")])
        },
        field: as_written,
    };

    /// Whose secret it is, for people.
    fn owner(&self) -> String {
        let owner = self.repository.as_ref().or(self.organization.as_ref());
        let environment = self.environment.iter().map(|name| format!(" ({name})"));
        owner.into_iter().cloned().chain(environment).collect()
    }
}

/// What GitHub takes as a name: letters, digits and these signs.
fn is_word(text: &str, signs: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || signs.contains(c))
}

/// Whether GitHub has secrets of such a name ("Naming your secrets" in its documentation of Actions).
fn is_name(text: &str) -> bool {
    is_word(text, "_")
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && !text.to_ascii_uppercase().starts_with("GITHUB_")
}

/// A secret belongs to a repository or to an organization, and its name is one that GitHub takes.
fn check(_: &Entry, store: &Node, found: &mut Vec<Finding>) {
    owner(store, found);
    let mut refuse = |key: &str, fits: fn(&str) -> bool, message: &str, hint: &str| {
        if let Some(entry) = store.entry(key)
            && entry.value.text().is_some_and(|text| !text.contains("${") && !fits(text))
        {
            found.push(Finding::error("github-name", entry.value.span, message).hint(hint));
        }
    };
    let repository = |text: &str| {
        text.split_once('/').is_some_and(|(owner, name)| is_word(owner, "-_") && is_word(name, "-_."))
    };
    refuse("repository", repository, "GitHub has no repository of such a name", "write OWNER/NAME");
    let organization = |text: &str| is_word(text, "-_");
    refuse("organization", organization, "GitHub has no organization of such a name", "write its short name");
    refuse(
        "name",
        is_name,
        "GitHub has no secret of such a name",
        "a name has letters, digits and `_`; it begins with no digit, and not with `GITHUB_`",
    );
}

/// Whose secret it is.
fn owner(store: &Node, found: &mut Vec<Finding>) {
    let has = |key: &str| store.get(key).is_some();
    if has("repository") == has("organization") {
        let message = "a secret of GitHub Actions belongs to a repository or to an organization";
        found.push(
            Finding::error("secret-owner", store.span, message)
                .hint("set either `repository` or `organization`"),
        );
    } else if has("environment") && !has("repository") {
        let message = "an environment belongs to a repository, and not to an organization";
        found.push(Finding::error("secret-owner", store.span, message).hint("set `repository`"));
    }
}

impl StoreSpec for GithubActionsSecret {
    fn kind(&self) -> &'static StoreKind {
        &Self::KIND
    }

    fn traits(&self) -> StoreTraits {
        Self::TRAITS
    }

    fn target(&self) -> String {
        format!("github-actions-secret {} {}", self.owner(), self.name)
    }

    fn stand_in(&self) -> String {
        format!("github-actions-secret:{}/{}", self.owner(), self.name)
    }

    fn look(&self, look: &StoreLook<'_>) -> String {
        let whose = match (&self.repository, &self.environment, &self.organization) {
            (Some(repository), Some(environment), _) => {
                format!("--repo {} --env {}", shell_word(repository), shell_word(environment))
            }
            (Some(repository), None, _) => format!("--repo {}", shell_word(repository)),
            (None, _, organization) => {
                format!("--org {}", shell_word(organization.as_deref().unwrap_or("ORG")))
            }
        };
        format!(
            "`gh secret list {whose} --json name,updatedAt`: it took effect if {} was updated{}",
            shell_word(&self.name),
            after(look.since)
        )
    }
}
