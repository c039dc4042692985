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
        let search = AhoCorasick::new(values.iter().map(|(_, value)| value))
            .expect("as many values as a runbook names");
        let mut found: Option<(usize, String)> = None;
        walk(&runbook, &mut String::new(), &mut |text, path| {
            let first = search.find_overlapping_iter(text).map(|hit| hit.pattern().as_usize()).min();
            if let Some(nth) = first.filter(|nth| found.as_ref().is_none_or(|(known, _)| nth < known)) {
                found = Some((nth, path.to_owned()));
            }
        });
        found.map(|(nth, path)| (path, values[nth].0.as_str()))
    }

    pub(super) fn add(&mut self, credential: &str, material: &Material) {
        self.scrubber.add(material);
        self.values.extend(material.secret_parts().map(|value| (credential.to_owned(), value.clone())));
    }
}

/// Visits every text below `at` with the path to it. The path to a name does not repeat it: it may hold a value.
fn walk(at: &serde_json::Value, path: &mut String, visit: &mut dyn FnMut(&str, &str)) {
    use serde_json::Value;
    let here = path.len();
    match at {
        Value::String(text) => visit(text, path),
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                path.push_str(&format!("[{n}]"));
                walk(item, path, visit);
                path.truncate(here);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                if here > 0 {
                    path.push('.');
                }
                let dot = path.len();
                path.push_str("(a name)");
                visit(name, path);
                path.truncate(dot);
                path.push_str(name);
                walk(field, path, visit);
                path.truncate(here);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
