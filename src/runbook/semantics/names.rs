//! Names that end up in step names, file names and messages, and texts that must say something.

use super::Context;
use crate::runbook::read::finding::Finding;
use crate::runbook::read::span::Span;
use crate::runbook::read::tree::{Node, Value};

/// Longer names do not fit on a line beside their step.
const MAX_NAME: usize = 63;

pub(super) fn check(context: &mut Context<'_>) {
    for section in ["environments", "connections", "credentials", "gates"] {
        for entry in context.section(section) {
            name(context, &entry.key, entry.at);
        }
    }
    for (_, consumer) in context.lists("consumers") {
        if let Some(node) = consumer.get("name")
            && let Some(text) = node.text()
        {
            name(context, text, node.span);
        }
    }
    for section in ["connections", "credentials", "gates", "phases"] {
        if let Some(node) = context.root.get(section) {
            filled(context, node);
        }
    }
}

fn name(context: &mut Context<'_>, name: &str, at: Span) {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let good = name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(plain);
    if !good {
        context.add(
            Finding::error("bad-name", at, "this name is not valid")
                .hint("use up to 63 letters, digits, `-`, `_` and `.`, starting with a letter or digit"),
        );
    }
}

/// An empty address, path or argument is a mistake, most often of an environment's value.
fn filled(context: &mut Context<'_>, node: &Node) {
    match &node.value {
        Value::Text(text) if text.trim().is_empty() => {
            context.add(
                Finding::error("empty-text", node.span, "this string is empty")
                    .hint("fill in the field, or remove it"),
            );
        }
        Value::List(items) => items.iter().for_each(|item| filled(context, item)),
        Value::Map(entries) => {
            for entry in entries {
                // An empty body is a body.
                if entry.key != "body" {
                    filled(context, &entry.value);
                }
            }
        }
        _ => {}
    }
}
