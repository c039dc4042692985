//! What a node of a JSON Schema says, as far as the schemas that are drawn from our types say it.

use serde_json::Value as Json;

use super::read::tree::{Node, Value};
use super::read::words::quote_or;
use crate::domain::Period;
use crate::kind::spec::CONNECTION;

/// Follows a reference; the description nearest to the use wins.
pub(super) fn resolve<'a>(root: &'a Json, schema: &'a Json) -> (&'a Json, &'a str) {
    let mut schema = schema;
    let mut description = schema.get("description").and_then(Json::as_str);
    while let Some(name) = schema.get("$ref").and_then(Json::as_str) {
        let Some(next) = root.pointer(name.trim_start_matches('#')) else { break };
        schema = next;
        description = description.or_else(|| schema.get("description").and_then(Json::as_str));
    }
    (schema, description.unwrap_or_default())
}

pub(super) fn types(schema: &Json) -> Vec<&str> {
    match schema.get("type") {
        Some(Json::String(one)) => vec![one],
        Some(Json::Array(several)) => several.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    }
}

pub(super) fn fits(node: &Node, schema: &Json) -> bool {
    let kinds = types(schema);
    kinds.is_empty()
        || kinds.iter().any(|kind| match node.value {
            Value::Null => *kind == "null",
            Value::Bool(_) => *kind == "boolean",
            Value::Int(_) => matches!(*kind, "integer" | "number"),
            Value::Float(_) => *kind == "number",
            Value::Text(_) => *kind == "string",
            Value::List(_) => *kind == "array",
            Value::Map(_) => *kind == "object",
        })
}

pub(super) fn is_null(schema: &Json) -> bool {
    schema.get("type").and_then(Json::as_str) == Some("null")
}

/// The words that a variant stands for.
pub(super) fn words(variant: &Json) -> Vec<&str> {
    match (variant.get("const"), variant.get("enum")) {
        (Some(Json::String(word)), _) => vec![word],
        (_, Some(Json::Array(several))) => several.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The property that tells the variants apart, where one does.
pub(super) fn tag(variant: &Json) -> Option<&str> {
    let properties = variant.get("properties")?.as_object()?;
    properties.iter().find(|(_, schema)| schema.get("const").is_some()).map(|(name, _)| name.as_str())
}

/// The one property of a variant that is told apart by it, and its schema.
pub(super) fn single_key(variant: &Json) -> Option<(&str, &Json)> {
    let mut properties = variant.get("properties")?.as_object()?.iter();
    let (name, schema) = properties.next()?;
    properties.next().is_none().then_some((name.as_str(), schema))
}

pub(super) fn in_words(kind: &str) -> &'static str {
    match kind {
        "string" => "a string",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a mapping",
        _ => "something else",
    }
}

pub(super) fn quote(key: &str) -> String {
    quote_or(key, "of this name")
}

/// What to write for a field that is missing: an example where its form tells one, and what it means.
pub(super) fn to_write(root: &Json, name: &str, schema: &Json) -> String {
    let (schema, description) = resolve(root, schema);
    let text = |key: &str| schema.get(key).and_then(Json::as_str);
    let example = match (text(CONNECTION), text("type"), text("pattern")) {
        (_, _, Some(Period::PATTERN)) => "24h",
        (Some(_), ..) => "NAME",
        (_, Some("string"), None) => "TEXT",
        (_, Some("array"), _) => "[…]",
        (_, Some("object"), _) => "{…}",
        _ => return first_line(description),
    };
    format!("write `{name}: {example}`. {}", first_line(description)).trim_end().to_owned()
}

/// A description on one line.
pub(super) fn first_line(description: &str) -> String {
    description.replace('\n', " ")
}
