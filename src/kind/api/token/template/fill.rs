//! Fills calls in.

use std::collections::BTreeMap;

use percent_encoding::utf8_percent_encode;
use serde_json::Value;

use super::spec::{Piece, pieces};
use crate::provider::http::RESERVED;

/// The values of the variables.
#[derive(Debug, Clone)]
pub(in crate::kind::api::token) struct Values<'a> {
    pub(in crate::kind::api::token) with: &'a BTreeMap<String, Value>,
    pub(in crate::kind::api::token) more: Vec<(&'static str, String)>,
}

impl Values<'_> {
    /// The value of a variable; its name where there is none.
    fn get(&self, name: &str) -> Result<Value, String> {
        if let Some((_, text)) = self.more.iter().find(|(known, _)| *known == name) {
            return Ok(Value::String(text.clone()));
        }
        self.with.get(name).cloned().ok_or_else(|| name.to_owned())
    }

    /// A text with its variables replaced by texts and numbers, each changed by `encode`.
    ///
    /// # Errors
    /// With the name of a variable that has no value which fits.
    fn join(&self, text: &str, encode: impl Fn(&str) -> Option<String>) -> Result<String, String> {
        pieces(text).into_iter().try_fold(String::new(), |mut out, piece| {
            match piece {
                Piece::Plain(plain) => out.push_str(plain),
                Piece::Open => return Err("{".to_owned()),
                Piece::Variable(name) => {
                    let value = match self.get(name)? {
                        Value::String(text) => text,
                        Value::Number(number) => number.to_string(),
                        _ => return Err(name.to_owned()),
                    };
                    out.push_str(&encode(&value).ok_or_else(|| name.to_owned())?);
                }
            }
            Ok(out)
        })
    }

    /// A path: what is filled in cannot end its segment.
    ///
    /// # Errors
    /// As for `join`; also where a value is empty, or dots that lead elsewhere.
    pub(in crate::kind::api::token) fn path(&self, text: &str) -> Result<String, String> {
        self.join(text, |value| {
            let fits = !matches!(value, "" | "." | "..");
            fits.then(|| utf8_percent_encode(value, RESERVED).to_string())
        })
    }

    /// A query.
    ///
    /// # Errors
    /// As for `join`.
    pub(in crate::kind::api::token) fn query(
        &self,
        query: &BTreeMap<String, String>,
    ) -> Result<Vec<(String, String)>, String> {
        query.iter().map(|(key, text)| Ok((key.clone(), self.text(text)?))).collect()
    }

    /// A text as it is.
    ///
    /// # Errors
    /// As for `join`.
    pub(in crate::kind::api::token) fn text(&self, text: &str) -> Result<String, String> {
        self.join(text, |value| Some(value.to_owned()))
    }

    /// A JSON value. A text that is one variable becomes its value, of whatever type.
    ///
    /// # Errors
    /// As for `join`.
    pub(in crate::kind::api::token) fn json(&self, value: &Value) -> Result<Value, String> {
        Ok(match value {
            Value::String(text) => match pieces(text)[..] {
                [Piece::Variable(name)] => self.get(name)?,
                _ => Value::String(self.text(text)?),
            },
            Value::Array(items) => {
                Value::Array(items.iter().map(|item| self.json(item)).collect::<Result<_, _>>()?)
            }
            Value::Object(fields) => Value::Object(
                fields
                    .iter()
                    .map(|(key, value)| Ok((key.clone(), self.json(value)?)))
                    .collect::<Result<_, String>>()?,
            ),
            other => other.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_stays_in_its_segment_and_keeps_its_type() {
        let with = BTreeMap::from([
            ("project".to_owned(), json!("group/app?x#y%")),
            ("level".to_owned(), json!(30)),
            ("scopes".to_owned(), json!(["a", "b"])),
            ("dots".to_owned(), json!("..")),
        ]);
        let values = Values { with: &with, more: vec![("id", "7\"".to_owned())] };
        assert_eq!(
            values.path("/projects/{project}/x/{level}-{id}").as_deref(),
            Ok("/projects/group%2Fapp%3Fx%23y%25/x/30-7%22")
        );
        let body = json!({"s": "{scopes}", "l": "{level}", "n": "a {id} {{b}", "k": [true, null]});
        let made = json!({"s": ["a", "b"], "l": 30, "n": "a 7\" {b}", "k": [true, null]});
        assert_eq!(values.json(&body), Ok(made));
        for (text, name) in [("/{dots}", "dots"), ("/{scopes}", "scopes"), ("/{none}", "none"), ("/{id", "{")]
        {
            assert_eq!(values.path(text), Err(name.to_owned()), "{text}");
        }
    }
}
