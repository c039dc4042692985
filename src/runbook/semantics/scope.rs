//! Scopes: what a credential may be at the most, and whether it can be that.

use super::{Context, period};
use crate::domain::Period;
use crate::runbook::read::finding::Finding;
use crate::runbook::read::tree::{Entry, Node};
use crate::runbook::read::words::{nearest, quote_or, suggest};

/// The issuer's time to live and policies against the widest that the scope allows.
pub(super) fn check(context: &mut Context<'_>, credential: &Entry, issuer: &Node, expires: bool) {
    if expires {
        outlives(context, issuer);
    } else {
        unlimited(context, credential, &[]);
    }
    let scope = credential.value.entry("scope");
    let limit = scope.and_then(|scope| scope.value.get("max_ttl"));
    // What the structural check said of `scope` and of a misspelt `max_ttl` is enough.
    let said = scope.is_some_and(|scope| {
        let keys = || scope.value.entries().iter().map(|entry| entry.key.as_str());
        scope.value.kind() != "a mapping"
            || !keys().any(|key| key == "max_ttl") && nearest("max_ttl", keys()).is_some()
    });
    if limit.is_none_or(|node| node.kind() == "nothing") && expires && !said {
        let at = scope.map_or(credential.at, |scope| scope.at);
        context.add(
            Finding::error("missing-max-ttl", at, "`scope.max_ttl` is missing: this credential expires")
                .hint("set the longest lifetime, such as `scope: {max_ttl: 24h}`; stanch checks it right after it issues the credential"),
        );
    }
    if let (Some(ttl), Some(limit)) = (period(issuer.get("ttl")), period(limit))
        && ttl > limit
        && let Some(node) = issuer.get("ttl")
    {
        context.add(
            Finding::error(
                "ttl-exceeds-scope",
                node.span,
                format!("the credential lives for {ttl}, but its scope allows only {limit}"),
            )
            .hint("lower `ttl`, or raise `scope.max_ttl` after a review"),
        );
    }
    let Some(allowed) = scope.and_then(|scope| scope.value.get("policies")) else { return };
    if allowed.kind() != "a list" {
        return;
    }
    let allowed: Vec<&str> = allowed.items().iter().filter_map(Node::text).collect();
    for policy in issuer.get("policies").map(Node::items).unwrap_or_default() {
        if let Some(name) = policy.text()
            && name != "default"
            && !allowed.contains(&name)
            && !context.full()
        {
            let message = format!("the policy {} is not within `scope.policies`", quote_or(name, "here"));
            let hint = suggest(name, allowed.iter().copied(), "allowed policies");
            context.add(Finding::error("policy-exceeds-scope", policy.span, message).hint(hint));
        }
    }
}

/// A credential that never expires cannot keep a limit, and what its issuer does not know is not compared.
pub(super) fn unlimited(context: &mut Context<'_>, credential: &Entry, unknown: &[&str]) {
    let Some(scope) = credential.value.get("scope") else { return };
    if let Some(entry) = scope.entry("max_ttl").filter(|entry| period(Some(&entry.value)).is_some()) {
        context.add(
            Finding::error(
                "scope-cannot-hold",
                entry.at,
                "this credential never expires, so `max_ttl` would refuse every new one",
            )
            .hint("remove `max_ttl`, or use an issuer whose credentials expire"),
        );
    }
    for name in unknown {
        if let Some(entry) = scope.entry(name) {
            context.add(
                Finding::warning(
                    "no-effect",
                    entry.at,
                    format!("`{name}` has no effect: the issuer stores nothing to compare it with"),
                )
                .hint("remove it: nothing would check it"),
            );
        }
    }
}

/// The new credential must outlive the phases that a run waits in: it dies in the middle otherwise.
fn outlives(context: &mut Context<'_>, issuer: &Node) {
    let Some((node, ttl)) = issuer.get("ttl").and_then(|node| Some((node, period(Some(node))?))) else {
        return;
    };
    let contain = context.root.text_of("strategy") == Some("contain");
    let skipped = |phase: &str| contain && matches!(phase, "overlap" | "sunset");
    let phases = context.section("phases").iter().filter(|phase| !skipped(&phase.key));
    let waits = phases.filter_map(|phase| period(phase.value.get("at_least"))).map(Period::get);
    let waited = waits.fold(std::time::Duration::ZERO, |sum, wait| sum.saturating_add(wait));
    if ttl.get() <= waited {
        let waited = Period::millis(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX));
        context.add(
            Finding::error(
                "short-life",
                node.span,
                format!("the new credential lives for {ttl}, but the phases alone wait for {waited}: it would expire before the run ends"),
            )
            .hint("raise `ttl` (and `scope.max_ttl`), or lower `at_least` of the phases"),
        );
    }
}
