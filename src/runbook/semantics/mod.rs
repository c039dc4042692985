//! What the schema cannot say: names that refer to nothing, two credentials that write one target,
//! steps that nobody could take back.
//!
//! The checks work on the tree, so they also run when its structure has mistakes; what is missing
//! or of the wrong type was said by the structural check and is passed over here. They run once
//! for each environment, with its values in place.

mod approvals;
mod cadence;
mod connections;
mod credentials;
mod gates;
mod names;
pub(crate) mod notify;
mod phases;
pub(crate) mod placeholders;
mod scope;
mod stores;
pub(crate) mod windows;

use std::collections::{BTreeMap, HashMap, HashSet};

use super::read::finding::{Finding, Severity};
use super::read::span::Span;
use super::read::tree::{Entry, Node};
use super::read::variables::{self, Values};
use super::read::words::quote_or;
use super::structure::{self, Reference};
use crate::domain::Period;

/// Each environment is checked on its own; more than this no rotation has.
const MAX_ENVIRONMENTS: usize = 64;
/// Values of environments are names and addresses.
const MAX_VALUE: usize = 2048;

/// The declared environments with their values.
pub(crate) fn environments(root: &Node) -> BTreeMap<String, Values> {
    let declared = root.get("environments").map(Node::entries).unwrap_or_default();
    let values = |environment: &Entry| {
        let values = environment.value.entries().iter();
        // What is not a text was reported, and is there all the same.
        let text = |node: &Node| node.text().map_or_else(|| node.to_json().to_string(), str::to_owned);
        values.map(|entry| (entry.key.clone(), text(&entry.value))).collect()
    };
    declared.iter().map(|environment| (environment.key.clone(), values(environment))).collect()
}

/// Everything that is wrong or doubtful with what the runbook means.
pub(crate) fn check(root: &Node, text: &str) -> Vec<Finding> {
    let environments = environments(root);
    let mut found = declared(root, &environments);
    if found.iter().any(|finding| finding.code == "too-many" || finding.code == "too-large") {
        return found;
    }
    found.extend(variables::check(root, &environments, text));
    found.extend(placeholders::check(root, text));
    // In file order and by code: a finding, and the environments that it was found in.
    let mut by_place: HashMap<(&'static str, Span, String), (Finding, Vec<&str>)> = HashMap::new();
    let as_written = structure::check(root);
    let raw: HashSet<(&'static str, Span)> =
        as_written.found.iter().map(|finding| (finding.code, finding.at)).collect();
    for (name, values) in &environments {
        let Ok(tree) = variables::apply(root, name, values) else {
            found.push(Finding::error(
                "too-large",
                root.span,
                "with the values of this environment filled in, the runbook is too large",
            ));
            return found;
        };
        let structure = structure::check(&tree);
        let broken = structure.found.into_iter().filter(|finding| !raw.contains(&(finding.code, finding.at)));
        for finding in broken.chain(one(&tree, &structure.references)) {
            let key = (finding.code, finding.at, finding.message.clone());
            by_place.entry(key).or_insert_with(|| (finding, Vec::new())).1.push(name);
        }
    }
    if environments.is_empty() {
        found.extend(one(root, &as_written.references));
    }
    found.extend(by_place.into_values().map(|(mut finding, mut names)| {
        if names.len() < environments.len() {
            names.truncate(5);
            let names: Vec<String> = names.iter().map(|name| quote_or(name, "an environment")).collect();
            finding.message = format!("{} (in {})", finding.message, names.join(", "));
        }
        finding
    }));
    found
}

/// The environments themselves.
fn declared(root: &Node, environments: &BTreeMap<String, Values>) -> Vec<Finding> {
    let Some(entry) = root.entry("environments") else { return Vec::new() };
    let mut found = Vec::new();
    if entry.value.kind() != "a mapping" {
        return found;
    }
    if environments.is_empty() {
        found.push(Finding::error("no-environment", entry.at, "no environment is declared").hint(
            "declare each environment in which this may run, such as `environments: {production: {}, staging: {}}`",
        ));
    } else if environments.len() > MAX_ENVIRONMENTS {
        found.push(Finding::error(
            "too-many",
            entry.at,
            format!("there are more than {MAX_ENVIRONMENTS} environments"),
        ));
    } else if !environments.contains_key("sandbox") {
        found.push(
            Finding::note(
                "no-sandbox",
                entry.at,
                "there is no environment `sandbox`, so you cannot practise this runbook",
            )
            .hint(
                "add `sandbox` with harmless values; there, the embedded sandbox replaces every connection",
            ),
        );
    }
    for value in entry.value.entries().iter().flat_map(|environment| environment.value.entries()) {
        if value.value.text().is_some_and(|text| text.len() > MAX_VALUE) {
            found.push(Finding::error(
                "too-large",
                value.at,
                format!("a value may have at most {MAX_VALUE} bytes"),
            ));
        }
    }
    found
}

/// One environment, with the connections that are named in it.
fn one(root: &Node, references: &[Reference]) -> Vec<Finding> {
    let mut context = Context { root, found: Vec::new(), gates: HashSet::new() };
    names::check(&mut context);
    cadence::check(&mut context);
    windows::check(&mut context);
    credentials::check(&mut context);
    stores::check(&mut context);
    phases::check(&mut context);
    gates::check(&mut context);
    connections::check(&mut context, references);
    approvals::check(&mut context);
    if let Some(notify) = root.get("notify") {
        context.found.extend(notify::check(notify));
    }
    context.found
}

/// What the checks of one environment share.
struct Context<'a> {
    root: &'a Node,
    found: Vec<Finding>,
    /// The gates that some phase waits for.
    gates: HashSet<String>,
}

impl<'a> Context<'a> {
    fn add(&mut self, finding: Finding) {
        self.found.push(finding);
    }

    /// Whether more errors would not be shown: then names are no longer compared, which is what
    /// takes time. Warnings do not count, or enough of them would hide the first error.
    fn full(&self) -> bool {
        let errors = self.found.iter().filter(|finding| finding.severity == Severity::Error);
        errors.take(super::MAX_FINDINGS + 1).count() > super::MAX_FINDINGS
    }

    /// The entries of a section of the runbook.
    fn section(&self, name: &str) -> &'a [Entry] {
        self.root.get(name).map(Node::entries).unwrap_or_default()
    }

    /// The credentials with each one's items of a list, such as `stores`.
    fn lists(&self, name: &'static str) -> impl Iterator<Item = (&'a Entry, &'a Node)> + use<'a> {
        self.section("credentials").iter().flat_map(move |credential| {
            let items = credential.value.get(name).map(Node::items).unwrap_or_default();
            items.iter().map(move |item| (credential, item))
        })
    }
}

/// A length of time, where the node is a good one.
fn period(node: Option<&Node>) -> Option<Period> {
    node?.text()?.parse().ok()
}

/// Names that stand twice, with the place of each second one.
fn twice<'a>(names: impl Iterator<Item = (&'a str, Span)>) -> Vec<(&'a str, Span)> {
    let mut seen = HashSet::new();
    names.filter(|(name, _)| !seen.insert(*name)).collect()
}
