//! Stores: their connections and fields, and that no two write one target.

use std::collections::HashMap;

use super::Context;
use crate::runbook::read::finding::Finding;
use crate::runbook::read::tree::{Entry, Node};
use crate::runbook::read::words::quote_or;

pub(super) fn check(context: &mut Context<'_>) {
    // Per target, who writes which field; `None` is the whole of it.
    let mut written: HashMap<Vec<String>, Vec<(Option<String>, &Entry)>> = HashMap::new();
    for (credential, store) in context.lists("stores") {
        match store.text_of("type") {
            Some("kv2") => context.connection(store, "vault"),
            Some("secretsmanager") => context.connection(store, "aws"),
            Some("sandbox") => context.connection(store, "sandbox"),
            Some("file") => file(context, store),
            _ => {}
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
                    Finding::error("same-target", store.span, format!("{whose} writes the same place"))
                        .hint("one place holds one value: give each its own path or field"),
                );
                break;
            }
            others.push((field, credential));
        }
    }
}

/// What a store writes to, without the field; connections count by what they say, not by name.
fn target(context: &Context<'_>, store: &Node) -> Option<Vec<String>> {
    let kind = store.text_of("type")?;
    let server = || {
        let name = store.text_of("connection")?;
        let connection = context.section("connections").iter().find(|entry| entry.key == name);
        let mut server = connection.map_or_else(|| name.into(), |entry| entry.value.to_json());
        // Part of a secret's path, as below.
        if let Some(fields) = server.as_object_mut().filter(|_| kind == "kv2") {
            fields.remove("namespace");
        }
        Some(server.to_string())
    };
    // Vault takes a namespace and the same words at the beginning of the mount for one path.
    let namespace = || {
        let name = store.text_of("connection")?;
        let connection = context.section("connections").iter().find(|entry| entry.key == name)?;
        connection.value.text_of("namespace")
    };
    let path = |key| Some(store.text_of(key)?.trim_matches('/').to_owned());
    let mut target = vec![kind.to_owned()];
    match kind {
        "kv2" => {
            let namespace = namespace().unwrap_or_default().trim_matches('/');
            let path = format!("{namespace}/{}/{}", path("mount")?, path("path")?);
            target.extend([server()?, path.trim_matches('/').to_owned()]);
        }
        "secretsmanager" => target.extend([server()?, store.text_of("secret")?.to_owned()]),
        "sandbox" => target.extend([server()?, path("path")?]),
        "file" => target.push(store.text_of("path")?.to_owned()),
        _ => return None,
    }
    Some(target)
}

/// The fields that a store writes; the whole target where it names none.
fn parts(store: &Node) -> Vec<Option<String>> {
    let several = store.get("fields").map(Node::entries).unwrap_or_default();
    let mut parts: Vec<Option<String>> =
        several.iter().filter_map(|entry| entry.value.text()).map(|field| Some(field.to_owned())).collect();
    if parts.is_empty() {
        parts.push(store.text_of("field").or(store.text_of("key")).map(str::to_owned));
    }
    parts
}

fn fields(context: &mut Context<'_>, credential: &Entry, store: &Node) {
    let Some(fields) = store.entry("fields").filter(|fields| !fields.value.entries().is_empty()) else {
        return;
    };
    if store.get("field").is_some() {
        context.add(
            Finding::error("field-and-fields", fields.at, "`field` and `fields` are both given")
                .hint("`field` for a credential of one part, `fields` for one of several"),
        );
    }
    let parts: &[&str] = match credential.value.get("issuer").and_then(|issuer| issuer.text_of("type")) {
        // The names of the parts are the provider's; a token's accessor is no part of its value.
        Some("iam-access-key") => &["access_key_id", "secret_access_key"],
        _ => return,
    };
    for entry in fields.value.entries() {
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

fn file(context: &mut Context<'_>, store: &Node) {
    let key = store.entry("key").filter(|key| key.value.text().is_some());
    match (store.text_of("format"), key) {
        (Some("text"), Some(key)) => context.add(
            Finding::error("file-key", key.at, "a file of format `text` has no keys")
                .hint("leave `key` out: the whole file is the value"),
        ),
        (Some("dotenv" | "json" | "yaml"), None) => {
            let at = store.get("format").map_or(store.span, |format| format.span);
            context.add(
                Finding::error("file-key", at, "`key` is missing: which entry of the file to write")
                    .hint("`/a/b` reaches into JSON and YAML"),
            );
        }
        _ => {}
    }
}
