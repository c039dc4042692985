//! JSON as bytes: fields are found and replaced where they are, and numbers, doubled neighbours, order
//! and white space stay what they were. Nothing goes through a tree.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Place, Spelling, invalid};
use crate::domain::ErrorKind;
use crate::provider::outcome::CallError;
use crate::secret::Secret;

/// The text of a JSON object, and where its fields are.
pub(crate) struct Object<'a> {
    text: &'a str,
    fields: Vec<(String, Range<usize>)>,
}

impl<'a> Object<'a> {
    /// Finds the fields of an object.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when the text is not a JSON object. The error quotes nothing of it.
    pub(crate) fn parse(text: &'a str) -> Result<Self, CallError> {
        let fields = members(text, 0..text.len())
            .filter(|_| text.trim_start().starts_with('{'))
            .ok_or_else(|| invalid("the value is not a JSON object"))?;
        Ok(Self { text, fields })
    }

    /// Where a field's value is.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no such field; [`ErrorKind::Invalid`] when there are two, since JSON
    /// readers differ on which of them counts.
    fn range(&self, field: &str) -> Result<Range<usize>, CallError> {
        one(self.fields.iter().filter(|(name, _)| name == field), field)
    }

    /// The string in a field.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no such field; [`ErrorKind::Invalid`] when there are two, or when it
    /// is not a string.
    pub(crate) fn string(&self, field: &str) -> Result<Secret, CallError> {
        let raw = &self.text[self.range(field)?];
        let string: String =
            serde_json::from_str(raw).map_err(|_| invalid(format!("the field `{field}` is not a string")))?;
        Ok(Secret::new(string))
    }

    /// The text with other strings in these fields. Every other byte stays.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when a field does not exist; [`ErrorKind::Invalid`] when it exists twice.
    pub(crate) fn with(&self, values: &[(String, Secret)]) -> Result<Secret, CallError> {
        let mut edits = values
            .iter()
            .map(|(field, value)| Ok((self.range(field)?, quoted(value.expose()))))
            .collect::<Result<Vec<_>, CallError>>()?;
        edits.sort_by_key(|(range, _)| range.start);
        let mut text = String::with_capacity(self.text.len());
        let mut end = 0;
        for (range, new) in edits {
            text.push_str(&self.text[end..range.start]);
            text.push_str(&new);
            end = range.end;
        }
        text.push_str(&self.text[end..]);
        Ok(Secret::new(text))
    }
}

/// The string or the whole number at the end of a path.
pub(super) fn locate(text: &str, path: &[String], key: &str) -> Result<Place, CallError> {
    let malformed = || invalid("the file is not valid JSON");
    let whole: &RawValue = serde_json::from_str(text).map_err(|_| malformed())?;
    let mut range = within(text, whole.get());
    for step in path {
        let found = members(text, range).ok_or_else(|| absent(key))?;
        range = one(found.iter().filter(|(name, _)| name == step), key)?;
    }
    let raw = &text[range.clone()];
    if let Ok(value) = serde_json::from_str::<String>(raw) {
        return Ok(Place { range, value: Secret::new(value), spelling: Spelling::Double });
    }
    if super::is_small_number(raw) {
        return Ok(Place { range, value: Secret::new(raw), spelling: Spelling::Bare });
    }
    Err(invalid(format!("`{key}` is neither a string nor a whole number of at most 15 digits"))
        .hint("write the value as a string, in quotes"))
}

/// The text with one more member, in the object that the path leads to all but the last step; `None` where there is
/// no such object.
pub(super) fn with_member(text: &str, path: &[String], new: &str) -> Option<String> {
    let (name, way) = path.split_last()?;
    let whole: &RawValue = serde_json::from_str(text).ok()?;
    let mut range = within(text, whole.get());
    for step in way {
        range = one(members(text, range)?.iter().filter(|(name, _)| name == step), step).ok()?;
    }
    let body = range.start + text[range].strip_prefix('{').map(|_| 1)?;
    let comma = if text[body..].trim_start().starts_with('}') { "" } else { ", " };
    Some(format!("{}{}: {new}{comma}{}", &text[..body], quoted(name), &text[body..]))
}

/// A string as JSON, with no more escapes than it needs.
pub(super) fn quoted(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

/// The members of the object (by name) or array (by index) that a text is, each as it is written; `None` for anything
/// else.
pub(crate) fn written(text: &str) -> Option<Vec<(String, &str)>> {
    Some(members(text, 0..text.len())?.into_iter().map(|(name, at)| (name, &text[at])).collect())
}

/// The members of an object by name, those of an array by index; `None` for anything else.
fn members(text: &str, range: Range<usize>) -> Option<Vec<(String, Range<usize>)>> {
    let mut json = serde_json::Deserializer::from_str(&text[range]);
    let members = json.deserialize_any(Members).ok()?;
    json.end().ok()?;
    Some(members.into_iter().map(|(name, raw)| (name, within(text, raw.get()))).collect())
}

/// Where a part of a text, borrowed from it, is.
fn within(text: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr().addr() - text.as_ptr().addr();
    start..start + part.len()
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = seq.next_element()? {
            members.push((members.len().to_string(), member));
        }
        Ok(members)
    }
}

fn one<'a>(
    mut found: impl Iterator<Item = &'a (String, Range<usize>)>,
    key: &str,
) -> Result<Range<usize>, CallError> {
    let (_, range) = found.next().ok_or_else(|| absent(key))?;
    if found.next().is_some() {
        return Err(super::doubled(key));
    }
    Ok(range.clone())
}

fn absent(key: &str) -> CallError {
    CallError::rejected(ErrorKind::NotFound, format!("there is no field `{key}`"))
        .hint("check the field's name in the runbook, or write the field once by hand")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_fields_change() {
        let text = "{ \"a\":1, \"a\" : 1E5,\"pw\":\"o\\\"ld\",\n\"n\":12345678901234567890123, \"x\":{\"pw\":-0},\"z\":0.1000, \"id\":\"1\"}\n";
        let object = Object::parse(text).expect("object");
        assert_eq!(object.string("pw").expect("string").expose(), "o\"ld");
        let values = [("id", "2"), ("pw", "n\\é\n")].map(|(f, v)| (f.to_owned(), Secret::new(v)));
        let changed = object.with(&values).expect("change");
        let expected = text.replace(r#""o\"ld""#, r#""n\\é\n""#).replace("\"1\"", "\"2\"");
        assert_eq!(changed.expose(), expected);
    }

    #[test]
    fn what_readers_take_differently_is_refused() {
        let doubled = r#"{"pw":"hunter2","p\u0077":"hunter3"}"#;
        let object = Object::parse(doubled).expect("object");
        for error in [
            object.string("pw").expect_err("twice"),
            object.with(&[("pw".to_owned(), Secret::new("x"))]).expect_err("twice"),
        ] {
            assert!(error.kind == ErrorKind::Invalid && error.message.contains("twice"), "{error:?}");
        }
        for text in ["", "[]", "\"x\"", "{", "{} {}", "{'pw': 1}", "{\"pw\": 012}", "\u{feff}{}"] {
            assert!(Object::parse(text).is_err(), "{text}");
        }
        let object = Object::parse(r#"{"pw": 1}"#).expect("object");
        assert_eq!(object.string("pw").expect_err("a number").kind, ErrorKind::Invalid);
        assert_eq!(object.string("no").expect_err("absent").kind, ErrorKind::NotFound);
    }

    #[test]
    fn depth_is_no_obstacle() {
        let deep = format!("{{\"pw\":\"x\",\"d\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
        let object = Object::parse(&deep).expect("object");
        let changed = object.with(&[("pw".to_owned(), Secret::new("y"))]).expect("change");
        assert_eq!(changed.expose(), deep.replace("\"x\"", "\"y\""));
    }
}
