//! YAML text to a tree in which every value and every key knows its place. The checks work on
//! this tree, so that one mistake does not hide the next.

use std::collections::HashSet;
use std::fmt;

use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de::Error as _};
use serde_saphyr::options::{AliasLimits, DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Location, Spanned};

use super::finding::Finding;
use super::span::Span;

/// A runbook is a page or two; 1 MiB is beyond any that a person reviewed.
pub const MAX_BYTES: usize = 1024 * 1024;
/// The deepest place in the format is 12 levels down.
const MAX_DEPTH: usize = 32;
/// Anchors save a few repeated blocks; more aliases than this is an attack.
const MAX_ALIASES: usize = 1000;
/// What all aliases together may expand to.
const MAX_REPLAYED: usize = 50_000;

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Value,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key with its place, and its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: Span,
    pub(crate) value: Node,
}

/// Reads one YAML document. A syntax error is one finding.
pub(crate) fn parse(text: &str) -> Result<Node, Finding> {
    if text.len() > MAX_BYTES {
        let at = Span { line: 1, column: 1, start: 0, end: 0 };
        let message = format!("the file has {} bytes; a runbook may have at most {MAX_BYTES}", text.len());
        return Err(Finding::error("too-large", at, message));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_aliases: MAX_ALIASES,
            max_documents: 1,
            enforce_alias_anchor_ratio: false,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        alias_limits: limits(),
        strict_booleans: true,
        underscored_numbers_as_strings: true,
        leading_zero_numbers_as_strings: true,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::Reject,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| syntax(&error, text))
}

impl Node {
    /// The value of a key, where this is a map that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// A key with its value.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The entries, where this is a map; else none.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items, where this is a list; else none.
    pub(crate) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The text, where this is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The text of a key, where this is a map and that a text.
    pub(crate) fn text_of(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Node::text)
    }

    /// Whether a key is `true`.
    pub(crate) fn is_true(&self, key: &str) -> bool {
        self.get(key).is_some_and(|node| node.value == Value::Bool(true))
    }

    /// A copy with every text (not the keys) replaced.
    pub(crate) fn map_texts(&self, change: &mut dyn FnMut(&str) -> String) -> Node {
        let value = match &self.value {
            Value::Text(text) => Value::Text(change(text)),
            Value::List(items) => Value::List(items.iter().map(|item| item.map_texts(change)).collect()),
            Value::Map(entries) => Value::Map(
                entries
                    .iter()
                    .map(|entry| Entry {
                        key: entry.key.clone(),
                        at: entry.at,
                        value: entry.value.map_texts(change),
                    })
                    .collect(),
            ),
            other => other.clone(),
        };
        Node { span: self.span, value }
    }

    /// The same value without places.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            // The reader lets only 64-bit numbers through.
            Value::Int(value) => i64::try_from(*value)
                .map(Json::from)
                .or_else(|_| u64::try_from(*value).map(Json::from))
                .unwrap_or(Json::Null),
            Value::Float(value) => Json::from(*value),
            Value::Text(text) => Json::from(text.as_str()),
            Value::List(items) => items.iter().map(Node::to_json).collect(),
            Value::Map(entries) => {
                entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect()
            }
        }
    }

    /// What this is, in words.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

fn limits() -> AliasLimits {
    let mut limits = AliasLimits::default();
    limits.max_total_replayed_events = MAX_REPLAYED;
    limits.max_replay_stack_depth = MAX_DEPTH;
    limits
}

/// A reader's error as a finding.
fn syntax(error: &serde_saphyr::Error, text: &str) -> Finding {
    use serde_saphyr::Error;
    use serde_saphyr::budget::BudgetBreach;

    let at = found_at(error, text);
    let mut error = error;
    while let Error::AliasError { error: inner, .. } | Error::WithSnippet { error: inner, .. } = error {
        error = inner;
    }
    let complex = |what: &str| Finding::error("too-complex", at, format!("the file has too many {what}"));
    match error {
        Error::Budget { breach: BudgetBreach::Documents { .. }, .. } | Error::MultipleDocuments { .. } => {
            Finding::error("yaml", at, "a second document starts here")
                .hint("a runbook is one document; use two files")
        }
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => {
            complex("levels").hint(format!("a runbook may be at most {MAX_DEPTH} levels deep"))
        }
        Error::Budget { breach: BudgetBreach::Aliases { .. }, .. } => {
            complex("aliases").hint(format!("a runbook may have at most {MAX_ALIASES} aliases"))
        }
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. } => complex("values behind its aliases")
            .hint(format!("aliases may expand to at most {MAX_REPLAYED} nodes; write the blocks out")),
        Error::Budget { .. } => complex("nodes").hint("a runbook is a page or two"),
        Error::DuplicateMappingKey { .. } => Finding::error("duplicate-key", at, "this key is there twice")
            .hint("remove or rename one of the two"),
        Error::NonFiniteFloat { .. } => {
            Finding::error("yaml", at, "infinity and not-a-number are not allowed here")
        }
        _ => {
            let full = error.to_string();
            if full.contains("recursion limit exceeded") {
                return complex("levels").hint(format!("a runbook may be at most {MAX_DEPTH} levels deep"));
            }
            // The place is shown by the finding itself.
            let message = full.split(" at line ").next().unwrap_or(&full);
            Finding::error("yaml", at, message.lines().next().unwrap_or_default())
        }
    }
}

fn found_at(error: &serde_saphyr::Error, text: &str) -> Span {
    let end = Span::of(text, text.len()..text.len());
    let Some(location) = error.location() else { return end };
    if location.span().byte_offset().is_some() {
        return place(location);
    }
    // The scanner counts characters only.
    let at = place(location);
    let Some(line) = text.split_inclusive('\n').nth(at.line.saturating_sub(1)) else { return end };
    let before: usize = text.split_inclusive('\n').take(at.line.saturating_sub(1)).map(str::len).sum();
    let inside: usize = line.chars().take(at.column.saturating_sub(1)).map(char::len_utf8).sum();
    Span { start: before + inside, end: before + inside, ..at }
}

fn place(location: Location) -> Span {
    let number = |n: u64| usize::try_from(n).unwrap_or_default();
    let start = number(location.span().byte_offset().unwrap_or_default());
    let length = number(location.span().byte_len().unwrap_or_default());
    Span { line: number(location.line()), column: number(location.column()), start, end: start + length }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        let mut span = place(spanned.referenced);
        // A map begins with its first key; a caret there says more than one between the lines.
        if let Value::Map(entries) = &spanned.value
            && let Some(first) = entries.first()
            && first.at.start >= span.start
        {
            span = first.at;
        }
        Ok(Self { span, value: spanned.value })
    }
}

/// A key: a text, or a number or boolean that stands for its text.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Text(text) => Ok(Self(text)),
            Value::Int(number) => Ok(Self(number.to_string())),
            Value::Bool(value) => Ok(Self(value.to_string())),
            _ => Err(D::Error::custom("a key must be a string")),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Int(value.into()))
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<Value, E> {
        Err(E::custom("this number is too large; quote it if it is a name"))
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<Value, E> {
        Err(E::custom("this number is too large; quote it if it is a name"))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_bytes<E: de::Error>(self, _: &[u8]) -> Result<Value, E> {
        Err(E::custom("a runbook cannot contain binary values"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<Spanned<Key>>()? {
            if !seen.insert(key.value.0.clone()) {
                return Err(A::Error::custom("this key is there twice"));
            }
            let value = map.next_value()?;
            entries.push(Entry { key: key.value.0, at: place(key.referenced), value });
        }
        Ok(Value::Map(entries))
    }
}
