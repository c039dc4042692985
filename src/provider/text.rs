//! One value inside a text: reading it, and replacing just its bytes.
//!
//! JSON and YAML are edited at the byte range of the scalar, so that comments and layout stay, and
//! the result is read back: if anything but the one value differs, nothing is written.

use std::ops::Range;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::Spanned;

use crate::provider::outcome::{CallError, Kind};
use crate::runbook::model::FileFormat;
use crate::secret::Secret;

/// A text and the place of one value in it.
pub(super) struct Document<'a> {
    format: FileFormat,
    key: &'a str,
    text: &'a str,
}

impl<'a> Document<'a> {
    pub(super) fn new(format: FileFormat, key: Option<&'a str>, text: &'a str) -> Self {
        Self { format, key: key.unwrap_or_default(), text }
    }

    /// The value.
    pub(super) fn value(&self) -> Result<Secret, CallError> {
        match self.format {
            // Editors end files with a newline; no secret ends with one.
            FileFormat::Text => Ok(Secret::new(self.text.strip_suffix('\n').unwrap_or(self.text))),
            FileFormat::Dotenv => Ok(Secret::new(self.dotenv()?.value)),
            FileFormat::Json | FileFormat::Yaml => match self.tree(self.text)?.pointer(&self.pointer()) {
                None => Err(self.absent()),
                Some(Value::String(value)) => Ok(Secret::new(value.as_str())),
                Some(Value::Number(number)) => Ok(Secret::new(number.to_string())),
                Some(_) => Err(self.bad("is neither a text nor a number")),
            },
        }
    }

    /// The text with another value.
    pub(super) fn with_value(&self, value: &Secret) -> Result<Secret, CallError> {
        let changed = match self.format {
            FileFormat::Text => {
                let end = if self.text.ends_with('\n') { "\n" } else { "" };
                format!("{}{end}", value.expose())
            }
            FileFormat::Dotenv => {
                let line = self.dotenv()?;
                self.splice(line.range, &dotenv_quoted(value.expose()))
            }
            FileFormat::Json | FileFormat::Yaml => {
                // A JSON text is a YAML double-quoted scalar as well.
                let quoted = Value::from(value.expose()).to_string();
                let changed = self.splice(self.range()?, &quoted);
                let mut wanted = self.tree(self.text)?;
                if let Some(place) = wanted.pointer_mut(&self.pointer()) {
                    *place = Value::from(value.expose());
                }
                if self.tree(&changed).ok() != Some(wanted) {
                    return Err(CallError::rejected(
                        Kind::Unsupported,
                        format!("`{}` cannot be replaced without changing something else", self.key),
                    )
                    .hint("write the value as a quoted text on one line, without anchors"));
                }
                changed
            }
        };
        let check = Document { text: &changed, ..*self };
        if !check.value()?.same_as(value) {
            return Err(self.bad("cannot hold this value: it would be read back as another"));
        }
        Ok(Secret::new(changed))
    }

    fn splice(&self, range: Range<usize>, new: &str) -> String {
        format!("{}{new}{}", &self.text[..range.start], &self.text[range.end..])
    }

    /// `/a/b` reaches in; a bare key is one at the top.
    fn pointer(&self) -> String {
        if self.key.starts_with('/') {
            self.key.to_owned()
        } else {
            format!("/{}", self.key.replace('~', "~0").replace('/', "~1"))
        }
    }

    fn tree(&self, text: &str) -> Result<Value, CallError> {
        // The errors of both quote the text.
        match self.format {
            FileFormat::Json => serde_json::from_str(text).map_err(|_| self.malformed("JSON")),
            _ => serde_saphyr::from_str(text).map_err(|_| self.malformed("YAML")),
        }
    }

    /// The scalar's bytes, quotes included.
    fn range(&self) -> Result<Range<usize>, CallError> {
        let pointer = self.pointer();
        let path: Vec<String> =
            pointer[1..].split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect();
        let found = serde_saphyr::with_deserializer_from_str(self.text, |deserializer| {
            Walk { path: &path }.deserialize(deserializer)
        })
        .map_err(|_| self.malformed("YAML"))?
        .ok_or_else(|| self.absent())?;
        if found.referenced != found.defined {
            return Err(CallError::rejected(
                Kind::Unsupported,
                format!("`{}` is an alias: replacing what it names would change other values", self.key),
            ));
        }
        let span = found.referenced.span();
        let range = span
            .byte_offset()
            .zip(span.byte_len())
            .and_then(|(start, length)| {
                let start = usize::try_from(start).ok()?;
                Some(start..start.checked_add(usize::try_from(length).ok()?)?)
            })
            .filter(|range| self.text.get(range.clone()).is_some());
        range.ok_or_else(|| self.bad("cannot be found in the text"))
    }

    fn dotenv(&self) -> Result<DotenvLine, CallError> {
        let mut found = None;
        let mut offset = 0;
        for line in self.text.split_inclusive('\n') {
            let start = offset;
            offset += line.len();
            let body = line.trim_end_matches(['\n', '\r']);
            let unindented = body.trim_start();
            let rest = unindented.strip_prefix("export ").map_or(unindented, str::trim_start);
            let Some((name, raw)) = rest.split_once('=') else { continue };
            if name.trim_end() != self.key {
                continue;
            }
            if found.is_some() {
                return Err(self.bad("stands there twice"));
            }
            let at = start + (body.len() - raw.len());
            let (value, length) =
                dotenv_value(raw).ok_or_else(|| self.bad("has a quote that does not end on its line"))?;
            let indent = raw.len() - raw.trim_start().len();
            found = Some(DotenvLine { value, range: at + indent..at + indent + length });
        }
        found.ok_or_else(|| self.absent())
    }

    fn absent(&self) -> CallError {
        CallError::rejected(Kind::NotFound, format!("there is no `{}`", self.key))
            .hint("check `key` in the runbook")
    }

    fn bad(&self, why: &str) -> CallError {
        CallError::rejected(Kind::Invalid, format!("`{}` {why}", self.key))
    }

    fn malformed(&self, format: &str) -> CallError {
        CallError::rejected(Kind::Invalid, format!("the file is not valid {format}"))
    }
}

struct DotenvLine {
    value: String,
    range: Range<usize>,
}

/// A value as dotenv readers take it, and how many bytes it takes after its indentation.
fn dotenv_value(raw: &str) -> Option<(String, usize)> {
    let text = raw.trim_start();
    match text.chars().next() {
        Some('\'') => {
            let end = text[1..].find('\'')?;
            Some((text[1..=end].to_owned(), end + 2))
        }
        Some('"') => {
            let mut value = String::new();
            let mut chars = text.char_indices().skip(1);
            while let Some((at, c)) = chars.next() {
                match c {
                    '"' => return Some((value, at + 1)),
                    '\\' => match chars.next()?.1 {
                        'n' => value.push('\n'),
                        'r' => value.push('\r'),
                        't' => value.push('\t'),
                        c @ ('"' | '\\' | '$' | '`') => value.push(c),
                        c => value.extend(['\\', c]),
                    },
                    c => value.push(c),
                }
            }
            None
        }
        _ => {
            // A `#` after a space begins a comment, which stays.
            let end = text.find(" #").or_else(|| text.find("\t#")).unwrap_or(text.len());
            let value = text[..end].trim_end();
            Some((value.to_owned(), value.len()))
        }
    }
}

/// The plainest spelling that every reader takes the same way.
fn dotenv_quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+,=".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    if !value.contains(['\'', '\n', '\r']) {
        return format!("'{value}'");
    }
    let mut quoted = String::from("\"");
    for c in value.chars() {
        match c {
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '"' | '\\' | '$' | '`' => quoted.extend(['\\', c]),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Walks to one scalar, and takes its place in the text.
struct Walk<'a> {
    path: &'a [String],
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Option<Spanned<String>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.path.is_empty() {
            de::Deserialize::deserialize(deserializer).map(Some)
        } else {
            deserializer.deserialize_any(self)
        }
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Option<Spanned<String>>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a mapping or a sequence")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (step, rest) = self.path.split_first().ok_or_else(|| de::Error::custom("no path"))?;
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == *step {
                found = map.next_value_seed(Walk { path: rest })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let (step, rest) = self.path.split_first().ok_or_else(|| de::Error::custom("no path"))?;
        let wanted: Option<usize> = step.parse().ok();
        let mut found = None;
        let mut index = 0;
        loop {
            if Some(index) == wanted {
                match seq.next_element_seed(Walk { path: rest })? {
                    Some(value) => found = value,
                    None => return Ok(found),
                }
            } else if seq.next_element::<IgnoredAny>()?.is_none() {
                return Ok(found);
            }
            index += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(format: FileFormat, key: &str, text: &str, value: &str) -> Result<String, CallError> {
        let document = Document::new(format, Some(key), text);
        document.with_value(&Secret::new(value)).map(|text| text.expose().to_owned())
    }

    #[test]
    fn yaml_keeps_comments_and_layout() {
        let text = "# top\ndb:   # here\n  user: app\n  password: 'old'   # rotate me\n  list: [1, {k: v}]\n";
        assert_eq!(
            change(FileFormat::Yaml, "/db/password", text, "n\"ew: #x").expect("change"),
            "# top\ndb:   # here\n  user: app\n  password: \"n\\\"ew: #x\"   # rotate me\n  list: [1, {k: v}]\n"
        );
        assert_eq!(
            change(FileFormat::Yaml, "/db/list/1/k", text, "w").expect("change"),
            text.replace("k: v", "k: \"w\"")
        );
        let plain = "é: ü\ntoken: abc\nz: 1\n";
        assert_eq!(
            change(FileFormat::Yaml, "token", plain, "yes").expect("change"),
            "é: ü\ntoken: \"yes\"\nz: 1\n"
        );
    }

    #[test]
    fn yaml_that_cannot_be_edited_safely_is_left_alone() {
        for text in ["a: &x old\nb: *x\n", "b: &x old\na: *x\n", "a: |\n  old\nb: 1\n", "a: [1]\n", "b: 1\n"]
        {
            match change(FileFormat::Yaml, "a", text, "new") {
                Err(_) => {}
                Ok(changed) => {
                    let tree: Value = serde_saphyr::from_str(&changed).expect("YAML");
                    let before: Value = serde_saphyr::from_str(text).expect("YAML");
                    assert_eq!(tree["a"], "new", "{changed}");
                    assert_eq!(tree["b"], before["b"], "{changed}");
                }
            }
        }
        assert_eq!(
            change(FileFormat::Yaml, "a", "a: &x old\nb: *x\n", "new").expect_err("anchor").kind,
            Kind::Unsupported
        );
        assert_eq!(
            change(FileFormat::Yaml, "a", "b: &x old\na: *x\n", "new").expect_err("alias").kind,
            Kind::Unsupported
        );
    }

    #[test]
    fn json_keeps_its_layout() {
        let text = "{\n\t\"a\": {\"b/c\": \"ol\\u0064\", \"n\": 1.50}\n}";
        let changed = change(FileFormat::Json, "/a/b~1c", text, "ne\\w\n").expect("change");
        assert_eq!(changed, text.replace(r#""ol\u0064""#, r#""ne\\w\n""#));
        assert!(change(FileFormat::Json, "a", "{a: 1}", "x").is_err(), "YAML is not JSON");
    }

    #[test]
    fn dotenv_values_survive_their_quoting() {
        let text = "A=1\nexport  PW = 'old' # keep\n#PW=no\nB=\"2\"\r\n";
        for value in ["new", "a b", "it's", "d$ollar`", "two\nlines", "q\"uote\\", "#hash", "ünï"] {
            let changed = change(FileFormat::Dotenv, "PW", text, value).expect("change");
            let read = Document::new(FileFormat::Dotenv, Some("PW"), &changed).value().expect("read");
            assert_eq!(read.expose(), value);
            assert!(
                changed.starts_with("A=1\nexport  PW = ")
                    && changed.ends_with(" # keep\n#PW=no\nB=\"2\"\r\n"),
                "{changed}"
            );
        }
        assert!(change(FileFormat::Dotenv, "C", text, "x").is_err());
        assert!(change(FileFormat::Dotenv, "A", "A=1\nA=2\n", "x").is_err());
    }

    #[test]
    fn errors_quote_nothing() {
        for format in [FileFormat::Json, FileFormat::Yaml, FileFormat::Dotenv] {
            let error = change(format, "a", "a: [hunter2\na='hunter2", "x").expect_err("malformed");
            assert!(!format!("{error:?}").contains("hunter2"));
        }
    }
}
