//! A JSON Web Key Set (RFC 7517) as text: one member changes, and all others stay as they are written.
//!
//! What stanch must remember stands in a member of the document that is called `stanch`: verifiers ignore members that
//! they do not know (section 5). It holds no secret, and is removed with the last thing in it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::key::thumbprint;
use crate::domain::{ErrorKind, Life};
use crate::provider::CallError;
use crate::provider::text::written;
use crate::text::sanitize;

/// The member with what stanch remembers.
const OWN: &str = "stanch";

/// A set.
#[derive(Debug)]
pub(super) struct Jwks {
    /// The members of the document in their order, each as it is written; those of `keys` and `stanch` are below.
    fields: Vec<(String, String)>,
    keys: Vec<Member>,
    retired: Vec<Member>,
    /// By which call a key was published.
    issued: BTreeMap<String, String>,
}

/// A key of the set.
#[derive(Debug)]
struct Member {
    /// As it is written.
    raw: String,
    /// Its `kid`; without one, its thumbprint.
    name: Option<String>,
    thumbprint: Option<String>,
    /// Whether it holds more than a public key.
    is_private: bool,
}

/// What stanch remembers.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    #[serde(default)]
    issued: BTreeMap<String, String>,
    #[serde(default)]
    retired: Vec<Box<RawValue>>,
}

impl Member {
    fn read(raw: &str) -> Option<Self> {
        let jwk: Value = serde_json::from_str(raw).ok()?;
        if !jwk.is_object() {
            return None;
        }
        let thumbprint = thumbprint(&jwk);
        let name = jwk["kid"].as_str().map(str::to_owned).or_else(|| thumbprint.clone());
        let is_private = ["d", "k"].iter().any(|part| jwk.get(part).is_some());
        Some(Self { raw: raw.to_owned(), name, thumbprint, is_private })
    }

    fn is(&self, name: &str) -> bool {
        self.name.as_deref() == Some(name)
    }
}

fn invalid(message: impl Into<String>) -> CallError {
    CallError::rejected(ErrorKind::Invalid, message)
        .hint("correct the document, or the place of the set in the runbook; stanch left it as it is")
}

impl Jwks {
    /// Reads a set.
    ///
    /// # Errors
    /// When it is not one, two of its keys have one name (readers differ on which of them they take), or one key has two.
    pub(super) fn read(text: &str) -> Result<Self, CallError> {
        let not_a_set =
            || invalid("the document is not a JWKS: a JSON object whose `keys` is a list of objects");
        let fields = written(text).filter(|_| text.trim_start().starts_with('{')).ok_or_else(not_a_set)?;
        for (at, (name, _)) in fields.iter().enumerate() {
            if fields[..at].iter().any(|(other, _)| other == name) {
                return Err(invalid(format!("the document has the member `{}` twice", sanitize(name))));
            }
        }
        let field = |name: &str| fields.iter().find(|(found, _)| found == name).map(|(_, raw)| *raw);
        let list =
            field("keys").filter(|raw| raw.starts_with('[')).and_then(written).ok_or_else(not_a_set)?;
        let keys: Option<Vec<Member>> = list.iter().map(|(_, raw)| Member::read(raw)).collect();
        let keys = keys.ok_or_else(not_a_set)?;
        for (at, key) in keys.iter().enumerate() {
            if let Some(name) =
                key.name.as_deref().filter(|name| keys[..at].iter().any(|other| other.is(name)))
            {
                return Err(invalid(format!("two keys of the set have the kid {}", sanitize(name))));
            }
        }
        let own = field(OWN).map_or(Ok(Own::default()), serde_json::from_str);
        let own =
            own.map_err(|_| invalid(format!("the member `{OWN}` of the document is not stanch's own")))?;
        let retired: Option<Vec<Member>> = own.retired.iter().map(|raw| Member::read(raw.get())).collect();
        let retired = retired.ok_or_else(not_a_set)?;
        let all: Vec<&Member> = keys.iter().chain(&retired).collect();
        for (at, key) in all.iter().enumerate() {
            // Removed under one name, it would be valid under the other.
            let twin = |other: &&&Member| key.thumbprint.is_some() && other.thumbprint == key.thumbprint;
            if let Some(other) = all[..at].iter().find(twin).filter(|other| other.name != key.name) {
                let names = [other, key].map(|key| sanitize(key.name.as_deref().unwrap_or_default()));
                return Err(invalid(format!(
                    "{} and {} in the set are the same public key",
                    names[0], names[1]
                )));
            }
        }
        let fields = fields.iter().map(|(name, raw)| (name.clone(), (*raw).to_owned())).collect();
        Ok(Self { fields, keys, retired, issued: own.issued })
    }

    /// The set as text.
    pub(super) fn text(&self) -> String {
        let list = |members: &[Member]| {
            let raws: Vec<String> = members.iter().map(|member| format!("\n    {}", member.raw)).collect();
            if raws.is_empty() { "[]".to_owned() } else { format!("[{}\n  ]", raws.join(",")) }
        };
        let mut own = Vec::new();
        if !self.issued.is_empty() {
            own.push(format!("\"issued\": {}", serde_json::json!(self.issued)));
        }
        if !self.retired.is_empty() {
            own.push(format!("\"retired\": {}", list(&self.retired)));
        }
        let own = (!own.is_empty()).then(|| format!("{{{}}}", own.join(", ")));
        let mut fields: Vec<(&str, String)> = Vec::new();
        for (name, raw) in self.fields.iter().filter(|(name, _)| name != OWN) {
            fields.push((name, if name == "keys" { list(&self.keys) } else { raw.clone() }));
        }
        fields.extend(own.map(|own| (OWN, own)));
        let lines: Vec<String> =
            fields.iter().map(|(name, raw)| format!("\n  {}: {raw}", Value::from(*name))).collect();
        format!("{{{}\n}}\n", lines.join(","))
    }

    /// How many keys verifiers find in it.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// A key that everybody can sign with who reads the set.
    pub(super) fn exposed(&self) -> Option<&str> {
        self.keys.iter().chain(&self.retired).find(|key| key.is_private).and_then(|key| key.name.as_deref())
    }

    /// What the set says of a key.
    pub(super) fn life(&self, name: &str) -> Life {
        match () {
            () if self.keys.iter().any(|key| key.is(name)) => Life::Active,
            () if self.retired.iter().any(|key| key.is(name)) => Life::Disabled,
            () => Life::Gone,
        }
    }

    /// The name under which a public key is in the set, valid or retired.
    pub(super) fn name_of(&self, thumbprint: &str) -> Option<&str> {
        let of = |key: &&Member| key.thumbprint.as_deref() == Some(thumbprint);
        self.keys.iter().find(of).or_else(|| self.retired.iter().find(of))?.name.as_deref()
    }

    /// Whether verifiers take this public key for the one of this name.
    pub(super) fn offers(&self, name: &str, thumbprint: &str) -> bool {
        self.keys.iter().any(|key| key.is(name) && key.thumbprint.as_deref() == Some(thumbprint))
    }

    /// The names of the keys that were published by this call.
    pub(super) fn issued_by(&self, call: &str) -> Vec<String> {
        let names = self.issued.iter().filter(|(_, by)| **by == *call).map(|(name, _)| name);
        names.filter(|name| self.life(name) != Life::Gone).cloned().collect()
    }

    /// Adds a key, and by which call. Returns whether that changed anything.
    ///
    /// # Errors
    /// When it has another key of this name.
    pub(super) fn publish(&mut self, name: &str, raw: &str, call: &str) -> Result<bool, CallError> {
        let member = Member::read(raw).ok_or_else(|| invalid("the new key is not a JWK"))?;
        match self.keys.iter().find(|key| key.is(name)) {
            Some(key) if key.thumbprint != member.thumbprint => {
                let message = format!("the set has another key with the kid {}", sanitize(name));
                return Err(CallError::rejected(ErrorKind::Conflict, message));
            }
            Some(_) if self.issued.get(name).is_some_and(|by| by == call) => return Ok(false),
            Some(_) => {}
            None => self.keys.push(member),
        }
        self.issued.insert(name.to_owned(), call.to_owned());
        Ok(true)
    }

    /// Takes a key away from verifiers, and keeps it. Returns whether that changed anything.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when the set does not know it.
    pub(super) fn retire(&mut self, name: &str) -> Result<bool, CallError> {
        Self::shift(&mut self.keys, &mut self.retired, name)
    }

    /// Takes [`Jwks::retire`] back.
    ///
    /// # Errors
    /// As for `retire`.
    pub(super) fn restore(&mut self, name: &str) -> Result<bool, CallError> {
        Self::shift(&mut self.retired, &mut self.keys, name)
    }

    fn shift(from: &mut Vec<Member>, to: &mut Vec<Member>, name: &str) -> Result<bool, CallError> {
        let there = to.iter().any(|key| key.is(name));
        match from.iter().position(|key| key.is(name)) {
            Some(at) if there => drop(from.remove(at)),
            Some(at) => to.push(from.remove(at)),
            None if there => return Ok(false),
            None => {
                let message = format!("the set has no key with the kid {}", sanitize(name));
                return Err(CallError::rejected(ErrorKind::NotFound, message));
            }
        }
        Ok(true)
    }

    /// Removes a key, and every trace of it. Returns whether that changed anything.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        let before = self.keys.len() + self.retired.len() + self.issued.len();
        self.keys.retain(|key| !key.is(name));
        self.retired.retain(|key| !key.is(name));
        self.issued.remove(name);
        before != self.keys.len() + self.retired.len() + self.issued.len()
    }
}
