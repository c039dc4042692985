//! stub
use super::finding::Finding;
use super::tree::Node;
use super::variables::{self, Values};
use std::collections::BTreeMap;
pub(crate) fn environments(root: &Node) -> BTreeMap<String, Values> {
    let mut all = BTreeMap::new();
    for environment in root.get("environments").map(Node::entries).unwrap_or_default() {
        let values = environment
            .value
            .entries()
            .iter()
            .filter_map(|entry| Some((entry.key.clone(), entry.value.text()?.to_owned())))
            .collect();
        all.insert(environment.key.clone(), values);
    }
    all
}
pub(crate) fn check(root: &Node, text: &str) -> Vec<Finding> {
    variables::check(root, &environments(root), text)
}
