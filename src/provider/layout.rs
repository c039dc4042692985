//! How the parts of a credential are laid out in a store's fields.
//!
//! A store only ever patches its own fields: a rotation that wrote back a whole value as it had
//! read it has blanked neighbouring secrets before (Cloudflare, 2023-01-24).

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::outcome::CallError;
use super::text::Object;
use crate::domain::ErrorKind;
use crate::secret::{Material, Secret};

/// Characters in a part of a stand-in: the longest that a generated secret may have.
const STAND_IN: usize = 1024;

/// Which part of a credential goes where in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    parts: &'static [&'static str],
    shape: Shape,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    /// The store's value is the credential.
    Whole,
    /// One field holds the credential.
    Field(String),
    /// Field to part.
    Fields(BTreeMap<String, String>),
}

impl Layout {
    /// Checks that the words of the runbook fit the parts that the issuer makes. `fields` says which
    /// part goes into which field.
    ///
    /// # Errors
    /// When both `field` and `fields` are given, or `fields` names a part that does not exist or
    /// leaves one out: what no store holds is lost.
    pub fn new(
        parts: &'static [&'static str],
        field: Option<&str>,
        fields: &BTreeMap<String, String>,
    ) -> Result<Self, CallError> {
        let shape = match (field, fields.is_empty()) {
            (Some(_), false) => {
                return Err(invalid("a store has either `field` or `fields`, not both"));
            }
            (Some(field), true) => Shape::Field(field.to_owned()),
            (None, true) => Shape::Whole,
            (None, false) => {
                if let Some(unknown) = fields.keys().find(|part| !parts.contains(&part.as_str())) {
                    return Err(invalid(format!("`fields` names the part `{unknown}`"))
                        .hint(format!("this credential has the parts {}", parts.join(", "))));
                }
                if let Some(missing) = parts.iter().find(|part| !fields.contains_key(**part)) {
                    return Err(invalid(format!("`fields` has no field for the part `{missing}`"))
                        .hint("a part that no field holds would be lost"));
                }
                Shape::Fields(fields.iter().map(|(part, field)| (field.clone(), part.clone())).collect())
            }
        };
        Ok(Self { parts, shape })
    }

    /// The same, for stores whose value is always an object: without a field, each part has a
    /// field of its own name.
    #[must_use]
    pub fn named(mut self) -> Self {
        if self.shape == Shape::Whole {
            let fields = self.parts.iter().map(|part| ((*part).to_owned(), (*part).to_owned()));
            self.shape = Shape::Fields(fields.collect());
        }
        self
    }

    /// Whether the store's value is the credential and nothing else.
    pub fn is_whole(&self) -> bool {
        self.shape == Shape::Whole
    }

    /// The names of the fields; none for a whole value.
    pub fn keys(&self) -> Vec<String> {
        match &self.shape {
            Shape::Whole => Vec::new(),
            Shape::Field(field) => vec![field.clone()],
            Shape::Fields(fields) => fields.keys().cloned().collect(),
        }
    }

    /// The fields and what goes into each; empty for a whole value.
    ///
    /// # Errors
    /// When the credential lacks a part, or one of them is blank.
    pub fn fields(&self, material: &Material) -> Result<Vec<(String, Secret)>, CallError> {
        refuse_blank(material)?;
        match &self.shape {
            Shape::Whole => Ok(Vec::new()),
            Shape::Field(field) => Ok(vec![(field.clone(), self.joined(material)?)]),
            Shape::Fields(fields) => fields
                .iter()
                .map(|(field, part)| Ok((field.clone(), self.part(material, part)?.clone())))
                .collect(),
        }
    }

    /// The whole value: the bare value of a credential of one part, else a JSON object.
    ///
    /// # Errors
    /// When the credential lacks a part, or one of them is blank.
    pub fn whole(&self, material: &Material) -> Result<Secret, CallError> {
        refuse_blank(material)?;
        self.joined(material)
    }

    /// The reverse of [`Layout::whole`]: the parts alone, whatever else an object holds.
    ///
    /// # Errors
    /// When the value is not a JSON object with the parts as strings, where it has to be.
    pub fn from_whole(&self, value: Secret) -> Result<Material, CallError> {
        if let [only] = self.parts {
            return Ok(Material::single(only, value));
        }
        let object = Object::parse(value.expose())?;
        self.parts.iter().try_fold(Material::default(), |all, part| Ok(all.with(part, object.string(part)?)))
    }

    /// The credential out of a store's whole text. Where fields hold it, or several parts, the text is a
    /// JSON object.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when a field is missing; [`ErrorKind::Invalid`] when the text is not a JSON object,
    /// when a field is not a string, and when it is there twice. The error quotes nothing of the text.
    pub fn decode(&self, text: &Secret) -> Result<Material, CallError> {
        if self.is_whole() {
            return self.from_whole(text.clone());
        }
        let object = Object::parse(text.expose())?;
        self.from_fields(|field| object.string(field))
    }

    /// A store's whole text with only the credential replaced: every other byte stays, numbers, order and
    /// white space included.
    ///
    /// # Errors
    /// As for [`Layout::decode`], and when the credential lacks a part or one of them is blank.
    pub fn encode(&self, text: &Secret, material: &Material) -> Result<Secret, CallError> {
        refuse_blank(material)?;
        match &self.shape {
            Shape::Whole => self.encode_whole(text, material),
            Shape::Field(field) => {
                let object = Object::parse(text.expose())?;
                let value = self.encode_whole(&object.string(field)?, material)?;
                object.with(&[(field.clone(), value)])
            }
            Shape::Fields(_) => Object::parse(text.expose())?.with(&self.fields(material)?),
        }
    }

    fn encode_whole(&self, text: &Secret, material: &Material) -> Result<Secret, CallError> {
        if let [only] = self.parts {
            return self.part(material, only).cloned();
        }
        let part = |part: &&str| Ok(((*part).to_owned(), self.part(material, part)?.clone()));
        Object::parse(text.expose())?.with(&self.parts.iter().map(part).collect::<Result<Vec<_>, _>>()?)
    }

    /// A credential that is as long as any that an issuer makes, to try a store with.
    pub fn stand_in(&self) -> Material {
        let value = Secret::new("x".repeat(STAND_IN));
        self.parts.iter().fold(Material::default(), |all, part| all.with(part, value.clone()))
    }

    /// The credential out of an object's fields.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when a field is missing, [`ErrorKind::Invalid`] when it is not a text.
    pub fn from_object(&self, object: &Map<String, Value>) -> Result<Material, CallError> {
        self.from_fields(|field| match object.get(field) {
            None => Err(CallError::rejected(ErrorKind::NotFound, format!("there is no field `{field}`"))
                .hint("check the field's name in the runbook, or write the field once by hand")),
            Some(Value::String(text)) => Ok(Secret::new(text.as_str())),
            Some(_) => Err(invalid(format!("the field `{field}` is not a string"))),
        })
    }

    /// The credential out of fields that `get` reads.
    ///
    /// # Errors
    /// Whatever `get` says, or when one field has to hold a JSON object and does not.
    pub fn from_fields(
        &self,
        get: impl Fn(&str) -> Result<Secret, CallError>,
    ) -> Result<Material, CallError> {
        match &self.shape {
            Shape::Whole => Err(invalid("the value has no fields")),
            Shape::Field(field) => self.from_whole(get(field)?),
            Shape::Fields(fields) => {
                let mut material = Material::default();
                for (field, part) in fields {
                    material = material.with(part, get(field)?);
                }
                Ok(material)
            }
        }
    }

    /// Replaces only our fields in an object.
    ///
    /// # Errors
    /// As for [`Layout::fields`].
    pub fn patch(&self, object: &mut Map<String, Value>, material: &Material) -> Result<(), CallError> {
        for (field, mut value) in self.fields(material)? {
            if let (Shape::Field(_), Some(Value::String(now))) = (&self.shape, object.get(&field)) {
                value = self.encode_whole(&Secret::new(now.as_str()), material)?;
            }
            object.insert(field, Value::String(value.expose().to_owned()));
        }
        Ok(())
    }

    fn joined(&self, material: &Material) -> Result<Secret, CallError> {
        match self.parts {
            [only] => Ok(self.part(material, only)?.clone()),
            parts => {
                for part in parts {
                    self.part(material, part)?;
                }
                Ok(material.to_json())
            }
        }
    }

    fn part<'a>(&self, material: &'a Material, part: &str) -> Result<&'a Secret, CallError> {
        material.part(part).ok_or_else(|| invalid(format!("the credential has no part `{part}`")))
    }
}

/// Blank material is never written: blanking a secret is an outage of its own.
fn refuse_blank(material: &Material) -> Result<(), CallError> {
    if material.is_blank() {
        return Err(invalid("the value is empty: nothing was written"));
    }
    Ok(())
}

fn invalid(message: impl Into<String>) -> CallError {
    CallError::rejected(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[&str] = &["access_key_id", "secret_access_key"];

    fn key() -> Material {
        Material::single("access_key_id", Secret::new("AKIA1"))
            .with("secret_access_key", Secret::new("se/cret"))
    }

    #[test]
    fn a_patch_leaves_the_other_fields_alone() {
        let layout = Layout::new(&["token"], Some("pw"), &BTreeMap::new()).expect("layout");
        let mut object = serde_json::from_str::<Map<_, _>>(r#"{"other": 1, "pw": "old"}"#).expect("JSON");
        layout.patch(&mut object, &Material::single("token", Secret::new("new"))).expect("patch");
        assert_eq!(Value::Object(object.clone()).to_string(), r#"{"other":1,"pw":"new"}"#);
        let back = layout.from_object(&object).expect("read");
        assert_eq!(back.part("token").map(Secret::expose), Some("new"));
    }

    #[test]
    fn several_parts_survive_every_shape() {
        let fields = BTreeMap::from([
            ("access_key_id".to_owned(), "id".to_owned()),
            ("secret_access_key".to_owned(), "secret".to_owned()),
        ]);
        for layout in [
            Layout::new(KEY, Some("key"), &BTreeMap::new()),
            Layout::new(KEY, None, &fields),
            Layout::new(KEY, None, &BTreeMap::new()).map(Layout::named),
        ] {
            let layout = layout.expect("layout");
            let mut object = Map::new();
            layout.patch(&mut object, &key()).expect("patch");
            assert!(layout.from_object(&object).expect("read").same_as(&key()));
        }
        let whole = Layout::new(KEY, None, &BTreeMap::new()).expect("layout");
        assert!(whole.from_whole(whole.whole(&key()).expect("write")).expect("read").same_as(&key()));
    }

    #[test]
    fn a_text_keeps_everything_but_the_credential() {
        let fields = BTreeMap::from([
            ("access_key_id".to_owned(), "id".to_owned()),
            ("secret_access_key".to_owned(), "s".to_owned()),
        ]);
        let inner = r#"{"secret_access_key":"se/cret", "n":1.10,"access_key_id":"AKIA1","n":-0}"#;
        let outer = format!("{{\"key\" : {},\"big\":12345678901234567890123}}", Value::from(inner));
        for (layout, text) in [
            (Layout::new(KEY, None, &BTreeMap::new()), inner.to_owned()),
            (Layout::new(KEY, Some("key"), &BTreeMap::new()), outer),
            (Layout::new(KEY, None, &fields), r#"{"s":"se/cret","a":1,"id":"AKIA1","a":2E5}"#.to_owned()),
        ] {
            let (layout, text) = (layout.expect("layout"), Secret::new(text));
            assert!(layout.decode(&text).expect("read").same_as(&key()));
            let other = Material::single("access_key_id", Secret::new("AKIA2"))
                .with("secret_access_key", Secret::new("o\"ther"));
            let changed = layout.encode(&text, &other).expect("write");
            assert!(layout.decode(&changed).expect("read").same_as(&other));
            assert!(changed.expose().contains("AKIA2") && !changed.expose().contains("AKIA1"));
            let back = layout.encode(&changed, &key()).expect("write");
            assert_eq!(back.expose(), text.expose());
        }
        let layout = Layout::new(KEY, Some("key"), &BTreeMap::new()).expect("layout");
        let mut object = Map::from_iter([("key".to_owned(), Value::from(inner))]);
        layout.patch(&mut object, &key()).expect("patch");
        assert_eq!(object["key"], inner, "what is beside the parts in one field stays");
        let blank = Material::single("value", Secret::new(""));
        let one = Layout::new(&["value"], None, &BTreeMap::new()).expect("layout");
        assert!(one.encode(&Secret::new("old"), &blank).is_err());
    }

    #[test]
    fn a_field_map_must_hold_every_part_and_no_other() {
        let one = BTreeMap::from([("access_key_id".to_owned(), "id".to_owned())]);
        assert!(Layout::new(KEY, None, &one).is_err());
        let wrong = BTreeMap::from([("pasword".to_owned(), "id".to_owned())]);
        assert!(Layout::new(&["token"], None, &wrong).is_err());
    }

    #[test]
    fn blank_is_refused_and_errors_quote_nothing() {
        let layout = Layout::new(&["token"], Some("pw"), &BTreeMap::new()).expect("layout");
        assert!(layout.fields(&Material::single("token", Secret::new(" "))).is_err());
        let pair = Layout::new(KEY, None, &BTreeMap::new()).expect("layout");
        let error = pair.from_whole(Secret::new("hunter2-not-json")).expect_err("not JSON");
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}
