//! Issuers, scopes, consumers, probes and the order of credentials.

use std::collections::{HashMap, HashSet};

use super::{Context, scope, twice};
use crate::kind::spec::{Expires, Kind};
use crate::kind::{self, ATTESTATIONS, ISSUERS, Issuer, PROBES};
use crate::runbook::read::finding::Finding;
use crate::runbook::read::tree::{Entry, Node, Value};
use crate::runbook::read::words::{quote_or, suggest};

pub(super) fn check(context: &mut Context<'_>) {
    if let Some(entry) = context.root.entry("credentials")
        && entry.value.entries().is_empty()
        && entry.value.kind() == "a mapping"
    {
        context.add(
            Finding::error("no-credential", entry.at, "no credential is declared")
                .hint("add at least one under `credentials`"),
        );
    }
    for credential in context.section("credentials") {
        issuer(context, credential);
        probes(context, credential);
        consumers(context, credential);
    }
    names(context);
    order(context);
}

fn issuer(context: &mut Context<'_>, credential: &Entry) {
    let Some(issuer) = credential.value.get("issuer") else { return };
    let Some(kind) = kind::named(ISSUERS, issuer.text_of("type")) else { return };
    let expires = match kind.scope.expires {
        Expires::Always => true,
        Expires::WithTtl => issuer.get("ttl").is_some(),
        Expires::Never => false,
    };
    (kind.check)(credential, issuer, &mut context.found);
    let spec = serde_json::from_value::<Issuer>(issuer.to_json());
    if spec.is_ok_and(|spec| spec.traits().replaces()) && context.root.text_of("strategy") != Some("contain")
    {
        let at = credential.value.entry("issuer").map_or(credential.at, |entry| entry.at);
        let message = "this issuer keeps only one value, so the strategy `overlap` cannot be planned";
        context.add(
            Finding::warning("one-value", at, message)
                .hint("set `strategy: contain` and expect an outage, or let the issuer hold two values"),
        );
    }
    if kind.scope.expires == Expires::Never {
        scope::unlimited(context, credential, kind.scope.ignored);
    } else {
        scope::check(context, credential, issuer, expires);
    }
}

fn probes(context: &mut Context<'_>, credential: &Entry) {
    if let Some(rejects) = credential.value.entry("rejects")
        && matches!(&rejects.value.value, Value::List(items) if items.is_empty())
    {
        context.add(
            Finding::warning("unproven", rejects.at, "nothing proves that the old credential is dead")
                .hint("remove `rejects`; then the checks under `accepts` must refuse it"),
        );
    }
    for list in ["accepts", "rejects"] {
        for probe in credential.value.get(list).map(Node::items).unwrap_or_default() {
            kinds(context, credential, probe, PROBES);
        }
    }
}

/// What the kinds that a node names say of it.
fn kinds(context: &mut Context<'_>, credential: &Entry, node: &Node, table: &[&'static Kind]) {
    for entry in node.entries() {
        if let Some(kind) = kind::named(table, Some(&entry.key)) {
            (kind.check)(credential, &entry.value, &mut context.found);
        }
    }
}

fn consumers(context: &mut Context<'_>, credential: &Entry) {
    for consumer in credential.value.get("consumers").map(Node::items).unwrap_or_default() {
        if let Some(attest) = consumer.get("attest") {
            kinds(context, credential, attest, ATTESTATIONS);
        }
    }
}

/// Consumers are named in progress, reports and `resolve`: their names must tell them apart.
fn names(context: &mut Context<'_>) {
    for credential in context.section("credentials") {
        let consumers = credential.value.get("consumers").map(Node::items).unwrap_or_default();
        let names = consumers
            .iter()
            .filter_map(|consumer| consumer.get("name"))
            .filter_map(|node| Some((node.text()?, node.span)));
        for (name, at) in twice(names) {
            context.add(
                Finding::error(
                    "duplicate-name",
                    at,
                    format!("there is another consumer {}", quote_or(name, "of this name")),
                )
                .hint("give each consumer of a credential its own name"),
            );
        }
    }
}

/// `after`: the names exist, and the order has no circle.
fn order(context: &mut Context<'_>) {
    let credentials = context.section("credentials");
    let known: HashMap<&str, &Entry> = credentials.iter().map(|entry| (entry.key.as_str(), entry)).collect();
    let after = |entry: &Entry| entry.value.get("after").map(Node::items).unwrap_or_default().to_vec();
    for credential in credentials {
        for node in after(credential) {
            let Some(name) = node.text() else { continue };
            if !known.contains_key(name) && !context.full() {
                let message = format!("there is no credential {}", quote_or(name, "of this name"));
                let hint = suggest(name, credentials.iter().map(|entry| entry.key.as_str()), "credentials");
                context.add(Finding::error("unknown-credential", node.span, message).hint(hint));
            }
        }
    }
    // Take away, again and again, what waits for nothing; what stays, stands in or behind a circle.
    let mut open: HashMap<&str, HashSet<String>> = credentials
        .iter()
        .map(|entry| {
            let names = after(entry)
                .iter()
                .filter_map(Node::text)
                .filter(|name| known.contains_key(name))
                .map(str::to_owned)
                .collect();
            (entry.key.as_str(), names)
        })
        .collect();
    let mut ready: Vec<&str> =
        open.iter().filter(|(_, waits)| waits.is_empty()).map(|(name, _)| *name).collect();
    let mut behind: HashMap<String, Vec<&str>> = HashMap::new();
    for (name, waits) in &open {
        for wait in waits {
            behind.entry(wait.clone()).or_default().push(name);
        }
    }
    while let Some(done) = ready.pop() {
        open.remove(done);
        for next in behind.get(done).into_iter().flatten() {
            if let Some(waits) = open.get_mut(next)
                && waits.remove(done)
                && waits.is_empty()
            {
                ready.push(next);
            }
        }
    }
    if let Some(first) = credentials.iter().find(|entry| open.contains_key(entry.key.as_str())) {
        let at = first.value.entry("after").map_or(first.at, |entry| entry.at);
        let mut names: Vec<String> = open.keys().take(8).map(|name| quote_or(name, "another")).collect();
        names.sort();
        context.add(
            Finding::error(
                "circular-order",
                at,
                format!("these credentials wait for each other: {}", names.join(", ")),
            )
            .hint("remove one name from `after`"),
        );
    }
}
