//! A runbook without errors, before an environment is chosen.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::read::finding::Finding;
use super::read::tree::Node;
use super::read::variables::{self, Values};
use super::read::words::suggest;
use super::{model, semantics};
#[cfg(feature = "tool")]
use crate::domain::Window;

/// A checked runbook whose variables are still open.
#[derive(Debug, Clone)]
pub struct Template {
    tree: Node,
    environments: BTreeMap<String, Values>,
    sha256: String,
}

/// The runbook cannot be used in an environment.
#[derive(Debug, thiserror::Error)]
pub enum InstantiateError {
    /// It does not declare that environment.
    #[error("the runbook does not declare the environment `{wanted}`")]
    UnknownEnvironment {
        /// The environment that was asked for.
        wanted: String,
        /// Those that the runbook declares.
        declared: Vec<String>,
    },
    /// The environment's values make it too large.
    #[error("with the values of `{environment}` filled in, the runbook is too large")]
    TooLarge {
        /// The environment.
        environment: String,
    },
    /// The values do not fit the model.
    #[error("with the values of `{environment}` filled in, the runbook cannot be read")]
    Unreadable {
        /// The environment.
        environment: String,
        /// What did not fit.
        #[source]
        source: serde_json::Error,
    },
}

impl InstantiateError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownEnvironment { wanted, declared } => {
                Some(suggest(wanted, declared.iter().map(String::as_str), "declared environments"))
            }
            Self::TooLarge { .. } | Self::Unreadable { .. } => None,
        }
    }
}

impl Template {
    /// Takes a tree without errors. What the checks let through but the model does not is found
    /// here, so that a runbook that passed can always be used.
    pub(crate) fn new(tree: Node, text: &str) -> Result<Self, Finding> {
        let environments = semantics::environments(&tree);
        let template = Self { tree, environments, sha256: hex::encode(Sha256::digest(text.as_bytes())) };
        for name in template.environments.keys() {
            template.instantiate(name).map_err(|error| {
                let source =
                    std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
                Finding::error("unreadable", template.tree.span, format!("{error}{source}"))
            })?;
        }
        Ok(template)
    }

    /// The runbook's name.
    pub fn name(&self) -> &str {
        self.tree.text_of("name").unwrap_or_default()
    }

    /// The runbook as it was written, its variables open.
    pub fn json(&self) -> serde_json::Value {
        self.tree.to_json()
    }

    /// Whether the runbook's own strategy is `overlap`.
    #[cfg(feature = "tool")]
    pub(crate) fn overlaps(&self) -> bool {
        self.tree.text_of("strategy").is_none_or(|strategy| strategy == "overlap")
    }

    /// The names of the environments that the runbook declares.
    pub fn environments(&self) -> impl Iterator<Item = &str> {
        self.environments.keys().map(String::as_str)
    }

    /// The SHA-256 of the file's text, lower-case hex.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The runbook with the values of one environment in place, and every place in the file.
    #[cfg(feature = "tool")]
    pub(crate) fn tree(&self, environment: &str) -> Option<Node> {
        variables::apply(&self.tree, environment, self.environments.get(environment)?).ok()
    }

    /// Findings for windows of an environment that never open again: an error where that are all, and they are waited for.
    #[cfg(feature = "tool")]
    pub(crate) fn past_windows(
        &self,
        environment: &str,
        is_past: &dyn Fn(&Window) -> bool,
        waits: bool,
    ) -> Vec<Finding> {
        let tree = self.tree(environment);
        let section = tree.as_ref().and_then(|tree| tree.entry("windows"));
        section.map(|section| semantics::windows::past(section, is_past, waits)).unwrap_or_default()
    }

    /// The runbook with the values of one environment in place. `${secret}` stays: it is filled
    /// in when a call is made.
    ///
    /// # Errors
    /// When the runbook does not declare the environment.
    pub fn instantiate(&self, environment: &str) -> Result<model::Runbook, InstantiateError> {
        let Some(values) = self.environments.get(environment) else {
            return Err(InstantiateError::UnknownEnvironment {
                wanted: environment.to_owned(),
                declared: self.environments.keys().cloned().collect(),
            });
        };
        let tree = variables::apply(&self.tree, environment, values).map_err(|variables::TooLarge| {
            InstantiateError::TooLarge { environment: environment.to_owned() }
        })?;
        serde_json::from_value(tree.to_json())
            .map_err(|source| InstantiateError::Unreadable { environment: environment.to_owned(), source })
    }
}
