//! Connections and addresses: that they are used, well formed and not in plain text.

use std::collections::HashSet;

use super::Context;
use crate::kind::http::{carries_to, split};
use crate::kind::{self, FAMILIES};
use crate::runbook::read::finding::Finding;
use crate::runbook::read::tree::{Entry, Node, Value};
use crate::runbook::read::variables;
use crate::runbook::read::words::{nearest, quote_or, suggest};
use crate::runbook::structure::Reference;

pub(super) fn check(context: &mut Context<'_>, references: &[Reference]) {
    let declared = context.section("connections");
    // A misspelt name is not also one that nothing uses.
    let mut used: HashSet<&str> = HashSet::new();
    for reference in references {
        used.insert(&reference.name);
        if !context.full() {
            used.extend(resolve(context, declared, reference));
        }
    }
    for connection in declared {
        if !used.contains(connection.key.as_str()) {
            let message =
                format!("nothing uses the connection {}", quote_or(&connection.key, "of this name"));
            context.add(
                Finding::warning("unused-connection", connection.at, message)
                    .hint("remove it, or refer to it"),
            );
        }
        for address in ["address", "endpoint_url"] {
            let node = connection.value.get(address);
            well_formed(context, node);
            carries_to(node, &mut context.found);
        }
    }
    walk(context, context.root);
}

/// Whether a connection that is named exists, and has the right type. The one that was meant, where it does not exist.
fn resolve<'a>(
    context: &mut Context<'_>,
    declared: &'a [Entry],
    Reference { name, at, family }: &Reference,
) -> Option<&'a str> {
    let Some(connection) = declared.iter().find(|entry| entry.key == *name) else {
        let names = declared.iter().map(|entry| entry.key.as_str());
        let message = format!("there is no connection {}", quote_or(name, "of this name"));
        let hint = if declared.is_empty() {
            format!("declare it at the top of the runbook: `connections: {{NAME: {{type: {family}}}}}`")
        } else {
            suggest(name, names.clone(), "connections")
        };
        context.add(Finding::error("unknown-connection", *at, message).hint(hint));
        return nearest(name, names);
    };
    // A type that does not exist was reported already.
    if let Some(found) = kind::named(FAMILIES, connection.value.text_of("type"))
        && found.name != family
    {
        let message = format!(
            "{} is a connection of type `{}`; this needs type `{family}`",
            quote_or(name, "this"),
            found.name
        );
        let fits = |entry: &&Entry| entry.value.text_of("type") == Some(family);
        let fitting: Vec<&str> = declared.iter().filter(fits).map(|entry| entry.key.as_str()).collect();
        let hint = suggest(name, fitting, &format!("connections of type `{family}`"));
        context.add(Finding::error("wrong-connection", *at, message).hint(hint));
    }
    None
}

/// Every address and pointer of the file, and requests that carry a credential.
fn walk(context: &mut Context<'_>, node: &Node) {
    match &node.value {
        Value::List(items) => items.iter().for_each(|item| walk(context, item)),
        Value::Map(entries) => {
            well_formed(context, node.get("url"));
            node.get("urls")
                .map(Node::items)
                .unwrap_or_default()
                .iter()
                .for_each(|url| well_formed(context, Some(url)));
            // Probes are looked at with their credential.
            let carries =
                node.is_true("bearer") && node.get("expect").is_none() && node.get("refuse").is_none()
                    || node.text_of("body").is_some_and(|body| body.contains("${secret"));
            if carries {
                carries_to(node.get("url"), &mut context.found);
            }
            for pointer in ["json", "fingerprint"] {
                if node.get("url").is_some() || node.get("urls").is_some() {
                    is_pointer(context, node.get(pointer));
                }
            }
            entries.iter().for_each(|entry| walk(context, &entry.value));
        }
        _ => {}
    }
}

fn well_formed(context: &mut Context<'_>, node: Option<&Node>) {
    let Some((node, text)) = node.and_then(|node| Some((node, node.text()?))) else { return };
    // What a wrong variable leaves was reported already.
    if variables::has(text) {
        return;
    }
    let good = split(text).is_some_and(|(_, host)| !host.is_empty());
    if !good || text.contains(char::is_whitespace) {
        context.add(
            Finding::error("bad-address", node.span, "this is not a URL")
                .hint("start with https://, followed by the host"),
        );
    }
}

fn is_pointer(context: &mut Context<'_>, node: Option<&Node>) {
    let Some((node, text)) = node.and_then(|node| Some((node, node.text()?))) else { return };
    if !text.is_empty() && !text.starts_with('/') {
        context.add(
            Finding::error("bad-pointer", node.span, "a JSON pointer starts with `/`")
                .hint("write it such as `/rate` or `/data/0/value`"),
        );
    }
}
