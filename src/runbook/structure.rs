//! Holds the tree against the JSON Schema that is drawn from the model's types, and says what is
//! wrong in words for people. Only the keywords that these types give rise to are known here.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex_lite::Regex;
use serde_json::{Value as Json, json};

use super::read::finding::Finding;
use super::read::span::Span;
use super::read::tree::{Entry, Node, Value};
use super::read::variables;
use super::read::words::{nearest, quote_or, suggest};
use super::schema::{
    first_line, fits, in_words, is_null, quote, resolve, single_key, tag, to_write, types, words,
};
use super::{model, notify};
use crate::domain::Period;
use crate::kind::spec::CONNECTION;

/// A file with more mistakes than this is not a runbook; looking on would only take time.
const MAX_FOUND: usize = 1000;

static SCHEMA: LazyLock<Json> = LazyLock::new(|| {
    let mut schema = Json::from(schemars::schema_for!(model::Runbook));
    schema["$id"] = json!("urn:stanch:runbook:1");
    schema
});

static NOTIFY: LazyLock<Json> = LazyLock::new(|| {
    let mut schema = Json::from(schemars::schema_for!(notify::Notify));
    schema["$id"] = json!("urn:stanch:notify:1");
    schema
});

/// The JSON Schema (draft 2020-12) of runbooks, for editors.
pub fn schema() -> Json {
    SCHEMA.clone()
}

/// The JSON Schema (draft 2020-12) of `notify.yaml`, for editors.
pub fn notify_schema() -> Json {
    NOTIFY.clone()
}

/// Holds the tree of a `notify.yaml` against its schema.
pub(crate) fn check_notify(root: &Node) -> Check<'static> {
    against(root, &NOTIFY)
}

/// Holds the tree against the schema.
pub(crate) fn check(root: &Node) -> Check<'static> {
    against(root, &SCHEMA)
}

/// Holds the tree against a schema that was drawn from types in the same way.
pub(crate) fn against<'a>(root: &Node, schema: &'a Json) -> Check<'a> {
    let mut check = Check { schema, patterns: HashMap::new(), found: Vec::new(), references: Vec::new() };
    check.node(root, schema, root.span);
    check
}

/// What the schema says of a tree.
pub(crate) struct Check<'a> {
    /// The whole schema, which references start from.
    schema: &'a Json,
    /// The patterns met so far: two hundred credentials have a thousand periods under one pattern.
    patterns: HashMap<String, Option<Regex>>,
    /// Every place where the tree is not what the schema says.
    pub(crate) found: Vec<Finding>,
    /// Every place that names a connection.
    pub(crate) references: Vec<Reference>,
}

/// A connection that is named, where, and the type that it must have.
pub(crate) struct Reference {
    pub(crate) name: String,
    pub(crate) at: Span,
    pub(crate) family: String,
}

impl Check<'_> {
    /// `at` is where a mistake of the whole node is shown: its key, where it has one.
    fn node(&mut self, node: &Node, schema: &Json, at: Span) {
        if self.found.len() >= MAX_FOUND {
            return;
        }
        let (schema, description) = resolve(self.schema, schema);
        if let Some(variants) = schema.get("anyOf").and_then(Json::as_array) {
            return self.any_of(node, variants, at);
        }
        if let Some(variants) = schema.get("oneOf").and_then(Json::as_array) {
            return self.one_of(node, variants, at);
        }
        if !fits(node, schema) {
            return self.wrong_type(node, &[schema], at);
        }
        match &node.value {
            Value::Text(text) => self.text(node, text, schema, description),
            Value::Int(_) | Value::Float(_) => self.number(node, schema),
            Value::List(items) => {
                if schema
                    .get("minItems")
                    .and_then(Json::as_u64)
                    .is_some_and(|least| items.len() < usize::try_from(least).unwrap_or(0))
                {
                    self.found.push(
                        Finding::error("too-few", at, "this list must not be empty")
                            .hint(first_line(description)),
                    );
                }
                if let Some(inner) = schema.get("items") {
                    items.iter().for_each(|item| self.node(item, inner, item.span));
                }
            }
            Value::Map(entries) => self.map(node, entries, schema, at),
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn map(&mut self, node: &Node, entries: &[Entry], schema: &Json, at: Span) {
        let properties = schema.get("properties").and_then(Json::as_object);
        let rest = schema.get("additionalProperties");
        // A misspelt field is one mistake, not an unknown and a missing one.
        let mut meant = Vec::new();
        for entry in entries {
            if self.found.len() >= MAX_FOUND {
                return;
            }
            match (properties.and_then(|known| known.get(&entry.key)), rest) {
                (Some(inner), _) => self.node(&entry.value, inner, entry.at),
                (None, Some(Json::Bool(false))) => {
                    let known = properties.into_iter().flatten().map(|(name, _)| name.as_str());
                    meant.extend(nearest(&entry.key, known.clone()));
                    self.found.push(
                        Finding::error(
                            "unknown-field",
                            entry.at,
                            format!("there is no field {} here", quote(&entry.key)),
                        )
                        .hint(suggest(&entry.key, known, "fields here")),
                    );
                }
                (None, Some(inner)) => self.node(&entry.value, inner, entry.at),
                (None, None) => {}
            }
        }
        for name in
            schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str)
        {
            if node.get(name).is_none() && !meant.contains(&name) {
                let inner = properties.and_then(|known| known.get(name)).unwrap_or(&Json::Null);
                self.found.push(
                    Finding::error("missing-field", at, format!("the field `{name}` is missing here"))
                        .hint(to_write(self.schema, name, inner)),
                );
            }
        }
    }

    fn text(&mut self, node: &Node, text: &str, schema: &Json, description: &str) {
        if let Some(family) = schema.get(CONNECTION).and_then(Json::as_str) {
            let (name, family) = (text.to_owned(), family.to_owned());
            self.references.push(Reference { name, at: node.span, family });
        }
        if let Some(allowed) = schema.get("const").and_then(Json::as_str) {
            if text != allowed {
                self.not_one_of(node, text, &[allowed]);
            }
        } else if let Some(allowed) = schema.get("enum").and_then(Json::as_array) {
            let allowed: Vec<&str> = allowed.iter().filter_map(Json::as_str).collect();
            if !allowed.contains(&text) {
                self.not_one_of(node, text, &allowed);
            }
        } else if let Some(pattern) = schema.get("pattern").and_then(Json::as_str) {
            let fits = self.matches(pattern, text);
            let period = pattern == Period::PATTERN;
            if !fits {
                let (code, what) =
                    if period { ("bad-period", "a duration") } else { ("pattern", "in the required form") };
                let hint = if period {
                    "write a number with its unit, such as 90s, 15m, 1h30m or 7d".to_owned()
                } else {
                    format!("{} (pattern {pattern})", first_line(description))
                };
                self.found.push(
                    Finding::error(
                        code,
                        node.span,
                        format!("{} is not {what}", quote_or(text, "this value")),
                    )
                    .hint(hint),
                );
            } else if period && !variables::has(text) && text.parse::<Period>().is_err() {
                self.found.push(
                    Finding::error(
                        "bad-period",
                        node.span,
                        format!("{} is not a valid duration", quote_or(text, "this")),
                    )
                    .hint("write the largest unit first, and at most ten years"),
                );
            }
        }
    }

    fn matches(&mut self, pattern: &str, text: &str) -> bool {
        if !self.patterns.contains_key(pattern) {
            self.patterns.insert(pattern.to_owned(), Regex::new(pattern).ok());
        }
        self.patterns[pattern].as_ref().is_some_and(|pattern| pattern.is_match(text))
    }

    fn number(&mut self, node: &Node, schema: &Json) {
        #[expect(clippy::cast_precision_loss, reason = "bounds of the schema are small numbers")]
        let value = match node.value {
            Value::Int(number) => number as f64,
            Value::Float(number) => number,
            _ => return,
        };
        let least = schema.get("minimum").and_then(Json::as_f64);
        let most = schema.get("maximum").and_then(Json::as_f64).or_else(|| {
            // The schema of a 32-bit number has no maximum; the type has.
            (schema.get("format")? == "uint32").then_some(f64::from(u32::MAX))
        });
        if least.is_some_and(|least| value < least) || most.is_some_and(|most| value > most) {
            let range = match (least, most) {
                (Some(least), Some(most)) if least == most => format!("use {least}"),
                (Some(least), Some(most)) => format!("use a number from {least} to {most}"),
                (Some(least), None) => format!("use {least} or more"),
                (None, Some(most)) => format!("use {most} or less"),
                (None, None) => String::new(),
            };
            self.found
                .push(Finding::error("out-of-range", node.span, "this number is out of range").hint(range));
        }
    }

    /// An optional value, or one that may be written in several ways: the type decides which.
    fn any_of(&mut self, node: &Node, variants: &[Json], at: Span) {
        let variants: Vec<&Json> = variants.iter().map(|variant| resolve(self.schema, variant).0).collect();
        if let [one] = variants.iter().filter(|variant| !is_null(variant)).copied().collect::<Vec<_>>()[..] {
            if node.value != Value::Null || variants.len() == 1 {
                self.node(node, one, at);
            }
            return;
        }
        match variants.iter().find(|variant| fits(node, variant)) {
            Some(variant) => self.node(node, variant, at),
            None => self.wrong_type(node, &variants, at),
        }
    }

    /// A word out of several, or a map whose `type` or whose single key says what it is.
    fn one_of(&mut self, node: &Node, variants: &[Json], at: Span) {
        let variants: Vec<&Json> = variants.iter().map(|variant| resolve(self.schema, variant).0).collect();
        if let Some(tag) = variants.first().and_then(|variant| tag(variant)) {
            return self.tagged(node, &variants, tag, at);
        }
        let words: Vec<&str> = variants.iter().flat_map(|variant| words(variant)).collect();
        let keys: Vec<(&str, &Json)> = variants.iter().filter_map(|variant| single_key(variant)).collect();
        let names = || words.iter().copied().chain(keys.iter().map(|(key, _)| *key));
        match &node.value {
            Value::Text(text) if words.contains(&text.as_str()) => {}
            Value::Text(text) if !words.is_empty() && keys.is_empty() => self.not_one_of(node, text, &words),
            Value::Map(entries) if !keys.is_empty() => {
                if entries.len() != 1 {
                    self.found.push(
                        Finding::error("one-of", at, "exactly one field is required here").hint(suggest(
                            "",
                            keys.iter().map(|(key, _)| *key),
                            "one of",
                        )),
                    );
                }
                for entry in entries {
                    match keys.iter().find(|(key, _)| *key == entry.key) {
                        Some((_, inner)) => self.node(&entry.value, inner, entry.at),
                        None => self.found.push(
                            Finding::error(
                                "unknown-field",
                                entry.at,
                                format!("there is no field {} here", quote(&entry.key)),
                            )
                            .hint(suggest(
                                &entry.key,
                                keys.iter().map(|(key, _)| *key),
                                "one of",
                            )),
                        ),
                    }
                }
            }
            Value::Text(text) => {
                let names: Vec<&str> = names().collect();
                let hint = match nearest(text, keys.iter().map(|(key, _)| *key)) {
                    Some(key) => format!("`{key}` needs its value: `{{ {key}: … }}`"),
                    None => suggest(text, names.iter().copied(), "one of"),
                };
                self.found.push(
                    Finding::error(
                        "wrong-type",
                        node.span,
                        "expected a mapping with one field, found a string",
                    )
                    .hint(hint),
                );
            }
            _ => {
                let names: Vec<&str> = names().collect();
                let expected = if keys.is_empty() { "a string" } else { "a mapping with one field" };
                let at = if node.value == Value::Null { at } else { node.span };
                self.found.push(
                    Finding::error("wrong-type", at, format!("expected {expected}, found {}", node.kind()))
                        .hint(suggest("", names.iter().copied(), "one of")),
                );
            }
        }
    }

    fn tagged(&mut self, node: &Node, variants: &[&Json], tag: &str, at: Span) {
        let listed = || variants.iter().filter_map(|variant| variant["properties"][tag]["const"].as_str());
        if !matches!(node.value, Value::Map(_)) {
            let at = if node.value == Value::Null { at } else { node.span };
            let message = format!("expected a mapping, found {}", node.kind());
            self.found.push(Finding::error("wrong-type", at, message).hint(suggest(
                "",
                listed(),
                "its `type` is one of",
            )));
            return;
        }
        match node.get(tag) {
            None => self.found.push(
                Finding::error("missing-field", at, format!("the field `{tag}` is missing here"))
                    .hint(suggest("", listed(), "one of")),
            ),
            Some(value) => match value.text() {
                Some(text) => {
                    match variants.iter().find(|variant| variant["properties"][tag]["const"] == text) {
                        Some(variant) => self.map(node, node.entries(), variant, at),
                        None => self.not_one_of(value, text, &listed().collect::<Vec<_>>()),
                    }
                }
                None => self.wrong_type(value, &[&json!({"type": "string"})], value.span),
            },
        }
    }

    fn not_one_of(&mut self, node: &Node, text: &str, allowed: &[&str]) {
        self.found.push(
            Finding::error(
                "not-one-of",
                node.span,
                format!("{} is not valid here", quote_or(text, "this value")),
            )
            .hint(suggest(text, allowed.iter().copied(), "one of")),
        );
    }

    fn wrong_type(&mut self, node: &Node, schemas: &[&Json], at: Span) {
        let wanted: Vec<&str> =
            schemas.iter().flat_map(|schema| types(schema)).filter(|kind| *kind != "null").collect();
        let expected: Vec<&str> = wanted.iter().map(|kind| in_words(kind)).collect();
        let found = match node.value {
            Value::Float(_) if wanted == ["integer"] => "a number with a fraction",
            _ => node.kind(),
        };
        let at = if node.value == Value::Null { at } else { node.span };
        let finding =
            Finding::error("wrong-type", at, format!("expected {}, found {found}", expected.join(" or ")));
        let scalar = matches!(node.value, Value::Int(_) | Value::Float(_) | Value::Bool(_));
        let period = |schema: &&Json| schema.get("pattern").and_then(Json::as_str) == Some(Period::PATTERN);
        self.found.push(match &node.value {
            _ if scalar && schemas.iter().any(period) => {
                finding.hint("write a number with its unit, such as 90s, 15m, 1h30m or 7d")
            }
            _ if scalar && wanted.contains(&"string") => finding
                .hint("put it in quotes: without them YAML reads it as another type and drops leading zeros"),
            Value::Text(_) if wanted.contains(&"array") => finding.hint("write a list, such as [one, two]"),
            Value::Text(text) if text.parse::<f64>().is_ok() => finding.hint("remove the quotes"),
            Value::Text(text)
                if ["yes", "no", "on", "off"].contains(&text.to_lowercase().as_str())
                    && wanted.contains(&"boolean") =>
            {
                finding.hint("write `true` or `false`")
            }
            Value::Null => finding.hint("give it a value, or remove the field"),
            _ => finding,
        });
    }
}
