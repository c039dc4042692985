//! What a KV v2 mount says of a secret, and its fields as they are written.

use std::collections::HashMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap as _, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::domain::ErrorKind;
use crate::provider::layout::Layout;
use crate::provider::outcome::CallError;
use crate::secret::{Material, Secret};

/// Vault's clock comes in whole seconds, rounded down; and a version that is deleted in a moment is
/// as good as deleted.
const SOON: SignedDuration = SignedDuration::from_secs(2);

/// The fields of a version, each as it is written: a neighbour keeps every digit and every byte. Texts
/// of JSON, so they are secrets: never shown.
#[derive(Default, Clone)]
pub(super) struct Fields(Vec<(String, Box<RawValue>)>);

impl Fields {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The credential out of its own fields.
    pub(super) fn material(&self, layout: &Layout) -> Result<Material, CallError> {
        layout.from_fields(|field| {
            let Some((_, raw)) = self.0.iter().find(|(name, _)| name == field) else {
                return Err(CallError::rejected(ErrorKind::NotFound, format!("there is no field `{field}`"))
                    .hint("check the field's name in the runbook, or write the field once by hand"));
            };
            serde_json::from_str::<String>(raw.get()).map(Secret::new).map_err(|_| {
                CallError::rejected(ErrorKind::Invalid, format!("the field `{field}` is not a string"))
            })
        })
    }

    /// Replaces the credential's own fields and no others.
    pub(super) fn patch(&mut self, layout: &Layout, material: &Material) -> Result<(), CallError> {
        for (field, value) in layout.fields(material)? {
            let raw = serde_json::value::to_raw_value(value.expose()).map_err(|_| {
                CallError::rejected(ErrorKind::Invalid, format!("the value of `{field}` cannot be written"))
            })?;
            match self.0.iter_mut().find(|(name, _)| *name == field) {
                Some((_, old)) => *old = raw,
                None => self.0.push((field, raw)),
            }
        }
        Ok(())
    }

    /// Every string among them, so that no error quotes one.
    pub(super) fn secrets(&self) -> Material {
        let texts = self
            .0
            .iter()
            .filter_map(|(name, raw)| Some((name, serde_json::from_str::<String>(raw.get()).ok()?)));
        texts.fold(Material::default(), |all, (name, text)| all.with(name, Secret::new(text)))
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, raw) in &self.0 {
            map.serialize_entry(name, raw)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Visit)
    }
}

struct Visit;

impl<'de> Visitor<'de> for Visit {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields: Vec<(String, Box<RawValue>)> = Vec::new();
        while let Some((name, raw)) = map.next_entry::<String, Box<RawValue>>()? {
            // Which of two a reader takes is not known.
            if fields.iter().any(|(other, _)| *other == name) {
                return Err(serde::de::Error::custom("a name twice"));
            }
            fields.push((name, raw));
        }
        Ok(Fields(fields))
    }
}

/// A version that was found.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) fields: Fields,
    pub(super) version: u64,
    /// When it deletes itself.
    pub(super) deletes: Option<Timestamp>,
    /// Whether it was found by a preflight, so that the look that follows need not ask again.
    pub(super) early: bool,
}

/// The answer to a read of a version.
#[derive(Deserialize)]
pub(super) struct Read {
    /// `None` where it is deleted or destroyed.
    pub(super) data: Option<Fields>,
    pub(super) metadata: Written,
}

/// What is said of a version that was read or written.
#[derive(Deserialize)]
pub(super) struct Written {
    pub(super) version: u64,
    #[serde(default)]
    pub(super) deletion_time: String,
}

/// Whether a version with this deletion time counts as deleted at `now`. A time to come is a deletion
/// that is set for later.
pub(super) fn is_deleted(deletion_time: &str, now: Option<Timestamp>) -> bool {
    match deletion_time.parse::<Timestamp>() {
        Ok(at) => now.is_none_or(|now| at.duration_since(now) <= SOON),
        Err(_) => !deletion_time.is_empty(),
    }
}

/// What is said of all versions.
#[derive(Deserialize, Default)]
pub(super) struct Metadata {
    /// Without these two it is no answer of Vault's.
    pub(super) current_version: u64,
    pub(super) versions: HashMap<String, VersionState>,
    #[serde(default)]
    pub(super) delete_version_after: String,
    #[serde(default)]
    pub(super) max_versions: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct VersionState {
    pub(super) deletion_time: String,
    pub(super) destroyed: bool,
}

/// What is said of a mount.
#[derive(Deserialize)]
pub(super) struct Mount {
    #[serde(default)]
    pub(super) path: String,
    #[serde(default, rename = "type")]
    pub(super) engine: String,
    #[serde(default)]
    pub(super) options: Option<HashMap<String, String>>,
    #[serde(default)]
    pub(super) config: Lease,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Lease {
    /// Seconds; 0 where the server's own limit holds.
    pub(super) max_lease_ttl: u64,
}

/// How a KV v2 mount is set up, where its secrets do not say otherwise.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct MountConfig {
    pub(super) delete_version_after: String,
    pub(super) max_versions: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn layout() -> Layout {
        Layout::new(&["token"], Some("token"), &BTreeMap::new()).expect("layout")
    }

    #[test]
    fn neighbours_stay_to_the_digit_and_in_their_order() {
        let text = r#"{"z":1.10,"token":"old","big":12345678901234567890123,"e":"é\u0000\/","o":{"b":1e2,"a":[ 1 ]}}"#;
        let mut fields: Fields = serde_json::from_str(text).expect("fields");
        assert_eq!(fields.material(&layout()).expect("a token").main().map(Secret::expose), Some("old"));
        fields.patch(&layout(), &Material::single("token", Secret::new("n\"ew"))).expect("patch");
        assert_eq!(serde_json::to_string(&fields).expect("JSON"), text.replace("old", "n\\\"ew"));
    }

    #[test]
    fn what_readers_take_differently_is_refused() {
        assert!(serde_json::from_str::<Fields>(r#"{"token":"a","x":1,"token":"b"}"#).is_err());
        for (text, kind) in
            [(r#"{"token":1}"#, ErrorKind::Invalid), (r#"{"other":"x"}"#, ErrorKind::NotFound)]
        {
            let fields: Fields = serde_json::from_str(text).expect("fields");
            assert_eq!(fields.material(&layout()).expect_err("no token").kind, kind);
        }
    }

    #[test]
    fn a_deletion_that_is_set_for_later_is_none_yet() {
        let now = "2026-11-26T15:00:00Z".parse().ok();
        assert!(!is_deleted("", now) && !is_deleted("2026-11-26T15:00:20Z", now));
        for gone in ["2026-11-26T15:00:01Z", "2026-11-26T14:00:00Z", "nonsense"] {
            assert!(is_deleted(gone, now), "{gone}");
        }
        assert!(is_deleted("2026-11-26T15:00:20Z", None), "without the server's clock it is not known");
    }
}
