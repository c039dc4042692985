//! `{name}` in the paths, queries and bodies of calls. Single braces: `${…}` is the runbook's own.

use serde_json::Value;

/// A piece of a text.
#[derive(Debug, PartialEq)]
pub(in crate::kind) enum Piece<'a> {
    Plain(&'a str),
    Variable(&'a str),
    /// `{` without its `}`.
    Open,
}

/// The pieces of a text. `{{` is one brace.
pub(in crate::kind) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        if at > 0 {
            found.push(Piece::Plain(&rest[..at]));
        }
        let tail = &rest[at + 1..];
        rest = if let Some(tail) = tail.strip_prefix('{') {
            found.push(Piece::Plain("{"));
            tail
        } else if let Some((name, tail)) = tail.split_once('}') {
            found.push(Piece::Variable(name));
            tail
        } else {
            found.push(Piece::Open);
            ""
        };
    }
    if !rest.is_empty() {
        found.push(Piece::Plain(rest));
    }
    found
}

/// The variables of a text.
pub(in crate::kind) fn variables(text: &str) -> Vec<String> {
    let name = |piece: Piece<'_>| match piece {
        Piece::Variable(name) => Some(name.to_owned()),
        _ => None,
    };
    pieces(text).into_iter().filter_map(name).collect()
}

/// Every text of a JSON value, but for the keys.
pub(in crate::kind) fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(fields) => fields.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_told_from_braces() {
        assert_eq!(variables("/{a}/{{b}/{c.d}"), ["a", "c.d"]);
        assert_eq!(pieces("a{{b}{"), [Piece::Plain("a"), Piece::Plain("{"), Piece::Plain("b}"), Piece::Open]);
    }
}
