//! Connections and addresses: that they are used, well formed and not in plain text.

use super::Context;
use crate::kind::http::{carries_to, split};
use crate::runbook::read::finding::Finding;
use crate::runbook::read::tree::{Node, Value};
use crate::runbook::read::variables;
use crate::runbook::read::words::quote_or;

pub(super) fn check(context: &mut Context<'_>) {
    for connection in context.section("connections") {
        if !context.connections.contains(&connection.key) {
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
