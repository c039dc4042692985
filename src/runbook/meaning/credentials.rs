//! Issuers, scopes, consumers, probes and the order of credentials.

use std::collections::{HashMap, HashSet};

use super::connections::carries_to;
use super::{Context, scope, twice};
use crate::runbook::read::finding::Finding;
use crate::runbook::read::tree::{Entry, Node, Value};
use crate::runbook::read::words::{quote_or, suggest};
use crate::secret::{Alphabet, Recipe};

pub(super) fn check(context: &mut Context<'_>) {
    if let Some(entry) = context.root.entry("credentials")
        && entry.value.entries().is_empty()
        && entry.value.kind() == "a map"
    {
        context.add(
            Finding::error("no-credential", entry.at, "no credential is declared")
                .hint("a rotation needs one"),
        );
    }
    for credential in context.section("credentials") {
        issuer(context, credential);
        probes(context, credential);
        consumers(context, &credential.value);
    }
    names(context);
    order(context);
}

fn issuer(context: &mut Context<'_>, credential: &Entry) {
    let Some(issuer) = credential.value.get("issuer") else { return };
    match issuer.text_of("type") {
        Some("vault-token") => {
            context.connection(issuer, "vault");
            scope::check(context, credential, issuer, true);
        }
        Some("sandbox") => {
            context.connection(issuer, "sandbox");
            scope::check(context, credential, issuer, issuer.get("ttl").is_some());
        }
        Some("iam-access-key") => {
            context.connection(issuer, "aws");
            scope::unlimited(context, credential, &["audience"]);
        }
        Some("random") => {
            random(context, credential, issuer);
            scope::unlimited(context, credential, &["audience", "policies"]);
        }
        _ => {}
    }
}

fn random(context: &mut Context<'_>, credential: &Entry, issuer: &Node) {
    let alphabet = issuer
        .get("alphabet")
        .map_or(Some(Alphabet::default()), |node| serde_json::from_value(node.to_json()).ok());
    let length = issuer.get("length").map_or(Some(40), |node| node.to_json().as_u64());
    if let (Some(alphabet), Some(length)) = (alphabet, length)
        && let Err(error) = Recipe::new(alphabet, usize::try_from(length).unwrap_or(usize::MAX))
    {
        let at = issuer.get("length").or(issuer.get("alphabet")).unwrap_or(issuer).span;
        context.add(
            Finding::error("weak-secret", at, error.to_string()).hint("leave `length` out for 40 characters"),
        );
    }
    if issuer.get("apply").is_some() && issuer.get("revoke").is_none() {
        let at = issuer.entry("apply").map_or(issuer.span, |entry| entry.at);
        context.add(
            Finding::warning(
                "no-revoke",
                at,
                "the authority is told to accept the incoming value, but never to refuse the outgoing one",
            )
            .hint("add `revoke`, or make sure that `apply` replaces the old value"),
        );
    }
    let proven = credential.value.get("accepts").is_some_and(|probes| !probes.items().is_empty());
    if !proven {
        context.add(
            Finding::warning(
                "unproven",
                credential.at,
                "nothing proves that the incoming value works or that the outgoing one is dead",
            )
            .hint("add a check under `accepts`"),
        );
    }
}

fn probes(context: &mut Context<'_>, credential: &Entry) {
    if let Some(rejects) = credential.value.entry("rejects")
        && matches!(&rejects.value.value, Value::List(items) if items.is_empty())
    {
        context.add(
            Finding::warning("unproven", rejects.at, "nothing proves that the outgoing credential is dead")
                .hint("leave `rejects` out, so that `accepts` must refuse it"),
        );
    }
    for list in ["accepts", "rejects"] {
        for probe in credential.value.get(list).map(Node::items).unwrap_or_default() {
            let Some(http) = probe.get("http") else { continue };
            let bearer = http.is_true("bearer");
            let header = http.entry("header").filter(|header| header.value.text().is_some());
            match (bearer, header) {
                (false, None)
                    if http.get("bearer").is_none_or(|bearer| bearer.value == Value::Bool(false)) =>
                {
                    context.add(
                        Finding::warning(
                            "probe-without-credential",
                            http.span,
                            "this check does not send the credential, so it proves nothing",
                        )
                        .hint("add `bearer: true` or `header: NAME`"),
                    )
                }
                (true, Some(header)) => context.add(
                    Finding::error("bearer-and-header", header.at, "`bearer` and `header` are both given")
                        .hint("keep one of them"),
                ),
                _ => {}
            }
            carries_to(context, http.get("url"));
            if let (Some(expect), Some(refuse)) = (http.get("expect"), http.get("refuse")) {
                let both = refuse.items().iter().find(|status| status.value == expect.value);
                if let Some(both) = both {
                    context.add(Finding::error(
                        "both-answers",
                        both.span,
                        "this status cannot mean both accepted and refused",
                    ));
                }
            }
        }
    }
}

fn consumers(context: &mut Context<'_>, credential: &Node) {
    for consumer in credential.get("consumers").map(Node::items).unwrap_or_default() {
        let Some(http) = consumer.get("attest").and_then(|attest| attest.get("http")) else { continue };
        let urls = http.get("urls").filter(|urls| !urls.items().is_empty());
        let message = match (http.get("url"), urls) {
            (None, None) => "`url` or `urls` is needed: whom to ask",
            (Some(_), Some(_)) => "`url` and `urls` are both given",
            _ => continue,
        };
        context.add(
            Finding::error("attest-address", http.span, message)
                .hint("`url` for one instance, `urls` with one for each of several"),
        );
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
                format!("credentials wait for each other: {}", names.join(", ")),
            )
            .hint("take one name out of `after`"),
        );
    }
}
