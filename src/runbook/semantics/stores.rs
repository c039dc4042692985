//! Stores: their connections and fields, and that no two write one target.

use std::collections::HashMap;

use super::Context;
use super::phases::{DELIVERS, steps};
use crate::kind::spec::IssuerKind;
use crate::kind::{self, ISSUERS, STORES, Store};
use crate::runbook::read::finding::Finding;
use crate::runbook::read::tree::{Entry, Node, Value};
use crate::runbook::read::words::quote_or;

/// A field of a target, as the path that leads to it; `None` is the whole target.
type Field = Option<Vec<String>>;

pub(super) fn check(context: &mut Context<'_>) {
    without(context);
    unreadable(context);
    // Per target, who writes which field.
    let mut written: HashMap<Vec<String>, Vec<(Field, &Entry)>> = HashMap::new();
    for (credential, store) in context.lists("stores") {
        if let Some(kind) = kind::named(STORES, store.text_of("type")) {
            (kind.check)(credential, store, &mut context.found);
        }
        fields(context, credential, store);
        let Some(target) = target(context, store) else { continue };
        let others = written.entry(target).or_default();
        for field in parts(store) {
            let clash =
                others.iter().find(|(other, _)| other.is_none() || field.is_none() || *other == field);
            if let Some((_, other)) = clash {
                let whose = if other.key == credential.key {
                    "another store of this credential".to_owned()
                } else {
                    format!("the credential {}", quote_or(&other.key, "before it"))
                };
                context.add(
                    Finding::error("same-target", store.span, format!("{whose} writes to the same place"))
                        .hint("one place holds one value: give each store its own path or field"),
                );
                break;
            }
            others.push((field, credential));
        }
    }
}

/// A credential without stores: its new version reaches somebody, and its old one has a name.
fn without(context: &mut Context<'_>) {
    let phases = context.section("phases").iter().filter(|phase| DELIVERS.contains(&phase.key.as_str()));
    let delivered: Vec<&str> = phases.flat_map(steps).filter_map(|step| step.text_of("credential")).collect();
    for credential in context.section("credentials") {
        let stores = credential.value.entry("stores");
        if stores.is_some_and(|stores| !matches!(&stores.value.value, Value::List(items) if items.is_empty()))
        {
            continue;
        }
        let Some(issuer) = credential.value.get("issuer") else { continue };
        let Some(kind) = kind::named(ISSUERS, issuer.text_of("type")) else { continue };
        let at = stores.map_or(credential.at, |stores| stores.at);
        if !(kind.delivers)(issuer) && !delivered.contains(&credential.key.as_str()) {
            context.add(
                Finding::error("undelivered", at, "no store and no custom step gets the new credential")
                    .hint(
                        "add `stores`, or a custom step in `distribute` or `cutover` with `credential: NAME`",
                    ),
            );
        }
        if credential.value.get("outgoing").is_none() {
            context.add(
                Finding::warning(
                    "unnamed-outgoing",
                    at,
                    "no store holds the old credential, and nothing names it",
                )
                .hint("add `outgoing: HANDLE`, or pass --outgoing NAME=HANDLE to `plan` and `run`"),
            );
        }
    }
}

/// A store that cannot be read: another one tells the old value, for the way back, and a consumer that the new one arrived.
fn unreadable(context: &mut Context<'_>) {
    for credential in context.section("credentials") {
        let stores = credential.value.get("stores").map(Node::items).unwrap_or_default();
        let reads = |store: &Node| {
            serde_json::from_value::<Store>(store.to_json()).map_or(true, |store| store.traits().reads)
        };
        let (readable, others): (Vec<&Node>, Vec<&Node>) = stores.iter().partition(|store| reads(store));
        let Some(store) = others.first() else { continue };
        if readable.is_empty() {
            let message = "no store of this credential can be read: stanch does not learn the old value, and could not write it back in a rollback";
            context.add(Finding::error("write-only", store.span, message).hint(
                "add a store that holds the same value and can be read, such as `kv2` or a `file`; `outgoing` names the old credential, and does not tell its value",
            ));
        }
        let consumers = credential.value.get("consumers").map(Node::items).unwrap_or_default();
        // Which of them reads which store is not known; fewer than stores cannot show it of each.
        let attesting = consumers.iter().filter(|consumer| consumer.get("attest").is_some()).count();
        if let Some(store) = others.get(attesting) {
            let message = match attesting {
                0 => "this store cannot be read, and no consumer of this credential has `attest`: nothing would show that the new value arrived".to_owned(),
                _ => format!(
                    "{} stores of this credential cannot be read, and {attesting} of its consumers have `attest`: nothing would show that the new value arrived in this one",
                    others.len()
                ),
            };
            context.add(Finding::error("unattested", store.span, message).hint(
                "for each store that cannot be read, add a consumer that reads it, with `attest`: it says which version it uses",
            ));
        }
    }
}

/// What a store writes to, without the field; connections count by what they say, not by name.
fn target(context: &Context<'_>, store: &Node) -> Option<Vec<String>> {
    let kind = kind::named(STORES, store.text_of("type"))?;
    let connection = store.text_of("connection");
    let connection =
        context.section("connections").iter().find(|entry| Some(entry.key.as_str()) == connection);
    let mut target = vec![kind.name.to_owned()];
    target.extend((kind.place)(store, connection.map(|entry| &entry.value))?);
    Some(target)
}

/// What the fields that a store writes lead to, however they are spelled; the whole target where it names none.
fn parts(store: &Node) -> Vec<Field> {
    let Some(kind) = kind::named(STORES, store.text_of("type")) else { return Vec::new() };
    let several = store.get("fields").map(Node::entries).unwrap_or_default();
    let mut parts: Vec<Option<Vec<String>>> = several
        .iter()
        .filter_map(|entry| entry.value.text())
        .map(|field| Some((kind.field)(store, field)))
        .collect();
    if parts.is_empty() {
        let one = store.text_of("field").or(store.text_of("key"));
        parts.push(one.map(|field| (kind.field)(store, field)));
    }
    parts
}

fn fields(context: &mut Context<'_>, credential: &Entry, store: &Node) {
    let Some(fields) = store.entry("fields").filter(|fields| !fields.value.entries().is_empty()) else {
        return;
    };
    if store.get("field").is_some() {
        context.add(
            Finding::error("field-and-fields", fields.at, "`field` and `fields` are both set")
                .hint("use `field` for a credential with one part, `fields` for one with several parts"),
        );
    }
    let Some(issuer) = credential.value.get("issuer") else { return };
    let Some(IssuerKind { parts, .. }) = kind::named(ISSUERS, issuer.text_of("type")) else { return };
    // Some kinds deliver other parts where the runbook asks for it; one with mistakes in it is reported elsewhere.
    let spec = serde_json::from_value::<kind::Issuer>(issuer.to_json());
    let parts = spec.map_or(*parts, |spec| spec.parts());
    let named = fields.value.entries();
    let missing: Vec<&str> =
        parts.iter().copied().filter(|part| named.iter().all(|entry| entry.key != *part)).collect();
    // A misspelt part is one finding, not two.
    if !missing.is_empty() && named.iter().all(|entry| parts.contains(&entry.key.as_str())) {
        let lines: Vec<String> = missing.iter().map(|part| format!("`{part}: FIELD`")).collect();
        context.add(
            Finding::error(
                "missing-part",
                fields.at,
                format!("`fields` has no field for the part {}", missing.join(" and ")),
            )
            .hint(format!("add {}: a part that no field holds would be lost", lines.join(" and "))),
        );
    }
    for entry in named {
        if !parts.contains(&entry.key.as_str()) {
            let hint = crate::runbook::read::words::suggest(&entry.key, parts.iter().copied(), "its parts");
            context.add(
                Finding::error(
                    "unknown-part",
                    entry.at,
                    format!("the credential has no part {}", quote_or(&entry.key, "of this name")),
                )
                .hint(hint),
            );
        }
    }
}
