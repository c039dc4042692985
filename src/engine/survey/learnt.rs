//! The secrets that a survey met.

use aho_corasick::AhoCorasick;

use crate::runbook::model::Runbook;
use crate::secret::{Material, Scrubber, Secret};

/// The secrets that a survey read. Texts of people and of the runbook are held against them before anything
/// of those is written down.
#[derive(Debug, Default)]
pub struct Learnt {
    pub(super) scrubber: Scrubber,
    /// What the stores hold, as it is, with the credential that it belongs to.
    values: Vec<(String, Secret)>,
}

/// Shorter values stand in a text by chance.
const SHORTEST: usize = 8;

impl Learnt {
    /// The text without any of the secrets, in any encoding.
    pub fn clean(&self, text: &str) -> String {
        self.scrubber.clean(text)
    }

    /// The first field of the runbook in which the whole value of a credential stands, and the credential's name.
    ///
    /// A part of a value counts for nothing here, unlike in `clean`: an address that a value and the runbook
    /// share must not stop a rotation. The same goes for values that could be words.
    pub fn written_in(&self, runbook: &Runbook) -> Option<(String, &str)> {
        let runbook = serde_json::to_value(runbook).ok()?;
        let word = |text: &str| {
            text.bytes().all(|b| b.is_ascii_lowercase()) || text.bytes().all(|b| b.is_ascii_uppercase())
        };
        let values = self.values.iter().map(|(credential, value)| (credential, value.expose().trim()));
        let values: Vec<_> = values.filter(|(_, v)| v.len() >= SHORTEST && !word(v)).collect();
        // One pass for all of them: a fleet's runbook is as long as its values are many.
        let any = AhoCorasick::new(values.iter().map(|(_, value)| value)).ok();
        if any.is_some_and(|any| !holds_any(&runbook, &any)) {
            return None;
        }
        values
            .into_iter()
            .find_map(|(credential, value)| Some((field_with(&runbook, value, "")?, credential.as_str())))
    }

    pub(super) fn add(&mut self, credential: &str, material: &Material) {
        self.scrubber.add(material);
        self.values.extend(material.secret_parts().map(|value| (credential.to_owned(), value.clone())));
    }
}

/// Whether one of these values stands in a text or a name below `at`.
fn holds_any(at: &serde_json::Value, values: &AhoCorasick) -> bool {
    use serde_json::Value;
    match at {
        Value::String(text) => values.is_match(text),
        Value::Array(items) => items.iter().any(|item| holds_any(item, values)),
        Value::Object(fields) => {
            fields.iter().any(|(name, field)| values.is_match(name) || holds_any(field, values))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The path to the first text below `at` in which the value stands. A name that holds it is not repeated.
fn field_with(at: &serde_json::Value, value: &str, path: &str) -> Option<String> {
    use serde_json::Value;
    match at {
        Value::String(text) => text.contains(value).then(|| path.to_owned()),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(n, item)| field_with(item, value, &format!("{path}[{n}]")))
        }
        Value::Object(fields) => fields.iter().find_map(|(name, field)| {
            let dot = if path.is_empty() { "" } else { "." };
            if name.contains(value) {
                return Some(format!("{path}{dot}(a name)"));
            }
            field_with(field, value, &format!("{path}{dot}{name}"))
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}
