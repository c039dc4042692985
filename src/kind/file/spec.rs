//! The words of a runbook about a file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{Observation, StoreTraits};
use crate::kind::spec::{StoreKind, StoreLook, StoreSpec, after};
use crate::runbook::read::finding::Finding;
use crate::runbook::read::tree::{Entry, Node};
use crate::text::shell_word;

/// A file on this machine, replaced atomically, its mode kept.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The file's path.
    pub path: String,
    /// The file's format.
    pub format: FileFormat,
    /// The key to write; `/a/b` reaches into JSON and YAML. Not for `text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// The format of a file store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FileFormat {
    /// `KEY=value` lines.
    Dotenv,
    /// A JSON document.
    Json,
    /// A YAML document; comments and layout stay.
    Yaml,
    /// The whole file is the value.
    Text,
}

impl File {
    pub(super) const TRAITS: StoreTraits =
        StoreTraits { stages: false, destroys: false, reads: true, change: Observation::Conditional };

    pub(in crate::kind) const KIND: StoreKind = StoreKind {
        name: "file",
        page: include_str!("page.md"),
        check,
        place: |store, _| Some(vec![plain_path(store.text_of("path")?)]),
        field: |store, key| match store.text_of("format") {
            Some("json" | "yaml") => FileFormat::Json.steps(key),
            _ => vec![key.to_owned()],
        },
    };
}

impl StoreSpec for File {
    fn kind(&self) -> &'static StoreKind {
        &Self::KIND
    }

    fn traits(&self) -> StoreTraits {
        Self::TRAITS
    }

    fn target(&self) -> String {
        format!("file {}{}", self.path, self.key.as_ref().map(|k| format!("#{k}")).unwrap_or_default())
    }

    fn stand_in(&self) -> String {
        format!("file:{}", self.path)
    }

    fn look(&self, look: &StoreLook<'_>) -> String {
        format!(
            "`ls -l --time-style=full-iso {}`: it took effect if the file was changed{}",
            shell_word(&self.path),
            after(look.since)
        )
    }

    fn local_path(&self) -> Option<&str> {
        Some(&self.path)
    }
}

impl FileFormat {
    /// The way to a value: in JSON and YAML `/a/b` reaches in, as a JSON pointer (RFC 6901) does; a bare key is
    /// one at the top.
    pub(crate) fn steps(self, key: &str) -> Vec<String> {
        match key.strip_prefix('/') {
            Some(pointer) if matches!(self, Self::Json | Self::Yaml) => {
                pointer.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect()
            }
            _ => vec![key.to_owned()],
        }
    }
}

/// A path without what does not change where it leads: `.`, doubled slashes, and `..` with the name before it.
fn plain_path(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/').filter(|name| !matches!(*name, "" | ".")) {
        if name == ".." && names.last().is_some_and(|last| *last != "..") {
            names.pop();
        } else {
            names.push(name);
        }
    }
    format!("{}{}", if path.starts_with('/') { "/" } else { "" }, names.join("/"))
}

fn check(_: &Entry, store: &Node, found: &mut Vec<Finding>) {
    let key = store.entry("key").filter(|key| key.value.text().is_some());
    match (store.text_of("format"), key) {
        (Some("text"), Some(key)) => found.push(
            Finding::error("file-key", key.at, "a file of format `text` does not have keys")
                .hint("remove `key`: the whole file is the value"),
        ),
        (Some("dotenv" | "json" | "yaml"), None) => {
            let at = store.get("format").map_or(store.span, |format| format.span);
            found.push(
                Finding::error("file-key", at, "`key` is missing: it names the entry of the file to write")
                    .hint("for JSON and YAML, `/a/b` names a nested entry"),
            );
        }
        _ => {}
    }
}
