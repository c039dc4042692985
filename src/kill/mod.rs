//! The bare kill: from handles to a runbook that only revokes, for the same engine. Nothing is replaced.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::domain::{Scope, Strategy};
use crate::kind::spec::IssuerKind;
use crate::kind::{Connection, Issuer};
use crate::runbook::model::{Credential, Limits, Phases, Runbook, Severity};
use crate::text::counted;

/// The name of the one connection of such a runbook.
const SERVER: &str = "server";

/// The environment of such a runbook: it has no other.
pub const ENVIRONMENT: &str = "direct";

/// What a person asked for makes no runbook.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KillError {
    /// The kind's credentials cannot be named: their authority knows them by their value alone.
    #[error("stanch cannot revoke a {kind} without a runbook: its authority does not know it by a handle")]
    Unnamed {
        /// The kind.
        kind: &'static str,
    },
    /// A field that the kind needs is missing.
    #[error("the kind {kind} needs the field `{field}`")]
    Missing {
        /// The kind.
        kind: &'static str,
        /// The field.
        field: &'static str,
    },
    /// The fields do not fit the kind.
    #[error("{0}")]
    Field(String),
    /// Nothing is left to revoke.
    #[error("there is nothing to revoke")]
    Nothing,
}

/// The runbook that revokes these credentials and replaces none. `fields` are the kind's own, as a runbook has them;
/// `note` is what else the record should say of what was asked for.
///
/// # Errors
/// When the kind has no handles, a field is missing or wrong, or there is no handle.
pub fn runbook(
    kind: &'static IssuerKind,
    fields: &[(String, String)],
    handles: &[String],
    concurrency: usize,
    note: &str,
) -> Result<Runbook, KillError> {
    let Some(bare) = &kind.bare else { return Err(KillError::Unnamed { kind: kind.name }) };
    if handles.is_empty() {
        return Err(KillError::Nothing);
    }
    let mut issuer = Map::new();
    issuer.insert("type".into(), kind.name.into());
    issuer.insert("connection".into(), SERVER.into());
    for (field, value) in bare.rest {
        issuer.insert((*field).into(), serde_json::from_str(value).unwrap_or_else(|_| (*value).into()));
    }
    for (field, value) in fields {
        set(&mut issuer, field, value);
    }
    if let Some(field) = bare.needs.iter().find(|field| !issuer.contains_key(**field)) {
        return Err(KillError::Missing { kind: kind.name, field });
    }
    let wrong = |e: serde_json::Error| KillError::Field(e.to_string());
    let issuer: Issuer = serde_json::from_value(Value::Object(issuer)).map_err(wrong)?;
    let connection = serde_json::json!({ "type": bare.family });
    let connection: Connection = serde_json::from_value(connection).map_err(wrong)?;
    let mut credentials = BTreeMap::new();
    for handle in handles {
        let credential = Credential {
            issuer: issuer.clone(),
            scope: Scope::default(),
            stores: Vec::new(),
            outgoing: Some(handle.clone()),
            consumers: Vec::new(),
            accepts: Vec::new(),
            rejects: None,
            after: Vec::new(),
        };
        credentials.insert(handle.clone(), credential);
    }
    Ok(Runbook {
        version: 1,
        name: format!("revoke-{}", kind.name),
        summary: Some(format!(
            "Revokes {} without replacing them.{note}",
            counted(credentials.len() as u64, kind.name)
        )),
        owner: None,
        cadence: None,
        windows: Vec::new(),
        severity: Severity::Critical,
        environments: BTreeMap::from([(ENVIRONMENT.to_owned(), BTreeMap::new())]),
        strategy: Strategy::Revoke,
        connections: BTreeMap::from([(SERVER.to_owned(), connection)]),
        credentials,
        phases: Phases::default(),
        gates: BTreeMap::new(),
        approvals: None,
        limits: Limits { concurrency, ..Limits::default() },
        notify: None,
    })
}

/// Sets a field of the issuer; `with.project` sets `project` in the mapping `with`.
fn set(issuer: &mut Map<String, Value>, field: &str, value: &str) {
    if let Some((mapping, key)) = field.split_once('.')
        && let Value::Object(inner) = issuer.entry(mapping).or_insert_with(|| Map::new().into())
    {
        inner.insert(key.to_owned(), value.into());
    } else {
        issuer.insert(field.to_owned(), value.into());
    }
}

/// Makes the plan remember what is `below` each prefix of such a runbook, and the handles to keep.
pub fn remember(runbook: &mut Runbook, below: &BTreeMap<String, Vec<String>>, keep: &[String]) {
    for (prefix, credential) in &mut runbook.credentials {
        let (known, kept) = match &mut credential.issuer {
            Issuer::VaultPrefix(spec) => (&mut spec.known, &mut spec.keep),
            Issuer::LeasePrefix(spec) => (&mut spec.known, &mut spec.keep),
            _ => continue,
        };
        *known = below.get(prefix).cloned().unwrap_or_default();
        *kept = keep.to_vec();
    }
}

/// The handles in the order in which they were given, each once, and without those to keep.
pub fn to_revoke(handles: Vec<String>, keep: &[String]) -> Vec<String> {
    let mut seen: BTreeSet<String> = keep.iter().cloned().collect();
    handles.into_iter().filter(|handle| seen.insert(handle.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::{ISSUERS, PREFIXES, named};

    fn kind(name: &str) -> &'static IssuerKind {
        named(ISSUERS, Some(name)).expect("a kind")
    }

    fn field(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn every_kind_makes_a_runbook_or_says_why_not() {
        for kind in ISSUERS.iter().chain(PREFIXES) {
            let fields: Vec<_> =
                kind.bare.iter().flat_map(|bare| bare.needs).map(|name| field(name, "app")).collect();
            match runbook(kind, &fields, &["h1".to_owned(), "h2".to_owned()], 4, "") {
                Ok(made) => {
                    assert_eq!(made.strategy, Strategy::Revoke);
                    assert_eq!(made.credentials.len(), 2);
                    let outgoing = made.credentials.values().map(|c| c.outgoing.clone().expect("named"));
                    assert_eq!(outgoing.collect::<Vec<_>>(), ["h1", "h2"]);
                }
                Err(error) => {
                    assert!(kind.bare.is_none(), "{}: {error}", kind.name);
                }
            }
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let one = ["h".to_owned()];
        let missing = runbook(kind("iam-access-key"), &[], &one, 4, "").expect_err("no user");
        assert_eq!(missing.to_string(), "the kind iam-access-key needs the field `user`");
        let wrong =
            runbook(kind("vault-token"), &[field("colour", "blue")], &one, 4, "").expect_err("no such field");
        assert!(wrong.to_string().contains("colour"), "{wrong}");
        assert_eq!(runbook(kind("vault-token"), &[], &[], 4, "").expect_err("none"), KillError::Nothing);
        let of_api = [field("preset", "gitlab-project-token"), field("with.project", "42")];
        let made = runbook(kind("token-api"), &of_api, &one, 4, "").expect("a mapping is set by its keys");
        let Issuer::TokenApi(spec) = &made.credentials["h"].issuer else { panic!("another kind") };
        assert_eq!(spec.with["project"], "42");
        let wrong =
            runbook(kind("vault-token"), &[field("ttl.x", "1")], &one, 4, "").expect_err("not a mapping");
        assert!(matches!(wrong, KillError::Field(_)), "{wrong}");
        assert!(matches!(runbook(kind("random"), &[], &one, 4, ""), Err(KillError::Unnamed { .. })));
    }

    #[test]
    fn each_handle_once_and_none_that_is_kept() {
        let handles = ["b", "a", "b", "k"].map(str::to_owned).to_vec();
        assert_eq!(to_revoke(handles, &["k".to_owned()]), ["b", "a"]);
    }
}
