//! What the operator's policies say of a request's parameters.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

/// The rules that the operator's policies come to.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Acl {
    exact_paths: Option<HashMap<String, Rule>>,
    glob_paths: Option<HashMap<String, Rule>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Rule {
    allowed_parameters: Option<HashMap<String, Option<Vec<Value>>>>,
    denied_parameters: Option<HashMap<String, Option<Vec<Value>>>>,
    required_parameters: Option<Vec<String>>,
}

impl Acl {
    /// What these rules forbid of a request that sends these parameters, in a phrase. A rule for single
    /// values says nothing here: what is sent is not known yet.
    pub(super) fn forbids(&self, path: &str, sends: &[&str]) -> Option<String> {
        let globs = self.glob_paths.iter().flatten().filter(|(start, _)| path.starts_with(start.as_str()));
        let longest = globs.max_by_key(|(start, _)| start.len()).map(|(_, rule)| rule);
        let rule = self.exact_paths.as_ref().and_then(|rules| rules.get(path)).or(longest)?;
        let denied = |name: &&&str| {
            let values = rule.denied_parameters.as_ref().and_then(|d| d.get(**name).or_else(|| d.get("*")));
            values.is_some_and(|values| values.as_ref().is_none_or(Vec::is_empty))
        };
        let left_out = |name: &&&str| {
            let allowed = rule.allowed_parameters.as_ref().filter(|allowed| !allowed.is_empty());
            allowed.is_some_and(|allowed| !allowed.contains_key(**name) && !allowed.contains_key("*"))
        };
        let refused: Vec<&str> = sends.iter().filter(|n| denied(n) || left_out(n)).copied().collect();
        if !refused.is_empty() {
            return Some(format!("send the parameters {}", refused.join(", ")));
        }
        let required = rule.required_parameters.iter().flatten();
        let unsent: Vec<&str> = required.map(String::as_str).filter(|name| !sends.contains(name)).collect();
        (!unsent.is_empty()).then(|| format!("leave out the parameters {}", unsent.join(", ")))
    }
}
