//! Finds the mistakes in a `policy.yaml`, also where it contradicts itself.

use super::model::{Policy, SEVERITIES};
use crate::domain::{Cadence, Day, Period, Phase, Window};
use crate::runbook::read::finding::{self, Finding};
use crate::runbook::read::secrets;
use crate::runbook::read::span::Span;
use crate::runbook::read::tree::{self, Entry, Node, Value};
use crate::runbook::read::words::{quote_or, suggest};
use crate::runbook::{Severity, Source, against, windows};

/// What the check of one policy says.
#[derive(Debug, Clone)]
pub struct Checked {
    /// Every mistake, the worst first.
    pub findings: Vec<Finding>,
    /// The policy, where there is no error.
    pub policy: Option<Policy>,
}

/// Finds the mistakes in a policy. `is_past` says whether a window never opens again.
pub fn check(source: &Source, is_past: &dyn Fn(&Window) -> bool) -> Checked {
    let text = source.text.as_str();
    let mut findings = if text.len() > tree::MAX_BYTES { Vec::new() } else { secrets::in_text(text) };
    let mut policy = None;
    match tree::parse(text) {
        Err(found) => findings.push(found),
        Ok(tree) if tree.value == Value::Null => {
            let at = Span { line: 1, column: 1, ..Span::default() };
            let hint = "`stanch policy init` writes a policy to start from";
            findings.push(Finding::error("empty", at, "the file is empty").hint(hint));
        }
        Ok(tree) => {
            findings.extend(against(&tree, super::schema()).found);
            findings.extend(semantics(&tree, is_past));
            if !findings.iter().any(|found| found.severity == Severity::Error) {
                match serde_json::from_value(tree.to_json()) {
                    Ok(read) => policy = Some(read),
                    Err(error) => {
                        findings.push(Finding::error("unreadable", tree.span, error.to_string()));
                    }
                }
            }
        }
    }
    finding::sort(&mut findings);
    findings.dedup();
    secrets::redact(&mut findings);
    Checked { findings, policy }
}

fn semantics(root: &Node, is_past: &dyn Fn(&Window) -> bool) -> Vec<Finding> {
    let mut found = Vec::new();
    changelog(root, &mut found);
    if let Some(section) = root.entry("windows") {
        windows::list(section, &mut found);
        found.extend(windows::past(section, is_past, true));
    }
    for freeze in root.get("freezes").map(Node::items).unwrap_or_default() {
        windows::zone(freeze, &mut found);
        let (first, last) =
            (windows::day(freeze, "first", &mut found), windows::day(freeze, "last", &mut found));
        windows::in_order(freeze, first, last, &mut found);
    }
    let rules = root.get("rules").map(Node::entries).unwrap_or_default();
    for rule in rules {
        if let Some(reason) = rule.value.entry("reason")
            && reason.value.text().is_some_and(|text| text.trim().is_empty())
        {
            found.push(
                Finding::error("no-reason", reason.value.span, "this rule has no reason")
                    .hint("say why it is there: the refusal shows it"),
            );
        }
        match rule.key.as_str() {
            "max-ttl" => max_ttl(rule, &mut found),
            "approvals" => approvals(rule, &mut found),
            "cadence" => cadence(rule, &mut found),
            "owners" => owners(rule, &mut found),
            _ => {}
        }
    }
    let some = |name: &str| root.get(name).is_some_and(|node| !node.items().is_empty());
    if rules.is_empty() && !some("windows") && !some("freezes") {
        found.push(
            Finding::warning("no-rule", root.span, "this policy asks for nothing")
                .hint("`stanch policy init` shows every rule"),
        );
    }
    if let Some(waivers) = root.entry("waivers") {
        people(waivers, &mut found);
    }
    found
}

/// A contradiction, at its place.
fn contradiction(at: Span, message: impl Into<String>, hint: &str) -> Finding {
    Finding::error("contradiction", at, message).hint(hint)
}

fn int(node: &Node) -> Option<i128> {
    match node.value {
        Value::Int(number) => Some(number),
        _ => None,
    }
}

/// The newest change is the first one, and leads to the policy's revision.
fn changelog(root: &Node, found: &mut Vec<Finding>) {
    let (Some(revision), Some(log)) = (root.entry("revision"), root.entry("changelog")) else { return };
    let changes = log.value.items();
    if log.value.kind() == "a list" && changes.is_empty() {
        found.push(
            Finding::error("no-change", log.at, "the changelog is empty")
                .hint("say what this revision changed: `- {revision: 1, date: 2026-11-27, change: …}`"),
        );
    }
    let of = |change: &Node| change.get("revision").and_then(int);
    if let (Some(now), Some(newest)) = (int(&revision.value), changes.first().and_then(of))
        && now != newest
    {
        found.push(contradiction(
            revision.value.span,
            format!("the policy has revision {now}, and its newest change led to revision {newest}"),
            "say in `changelog` what this revision changed, the newest first",
        ));
    }
    for pair in changes.windows(2) {
        let [newer, older] = pair else { continue };
        if let (Some(after), Some(before)) = (of(newer), of(older))
            && after <= before
        {
            found.push(contradiction(
                older.span,
                format!("revision {before} comes behind revision {after}"),
                "put the newest change first",
            ));
        }
        let day = |change: &Node| change.text_of("date").and_then(|text| text.parse::<Day>().ok());
        if let (Some(after), Some(before)) = (day(newer), day(older))
            && after < before
        {
            found.push(contradiction(
                older.span,
                "this change is younger than the one above",
                "correct the date",
            ));
        }
    }
    for change in changes {
        windows::day(change, "date", found);
    }
}

fn max_ttl(rule: &Entry, found: &mut Vec<Finding>) {
    let Some(most) = rule.value.get("most") else { return };
    if most.text().and_then(|text| text.parse::<Period>().ok()).is_some_and(|most| most.get().is_zero()) {
        found.push(contradiction(
            most.span,
            "no credential lives for no time, so this rule refuses every runbook whose credentials expire",
            "write the longest lifetime, such as 30d",
        ));
    }
}

/// Each entry of `by_severity`, the lowest severity first.
fn by_severity(rule: &Entry) -> impl Iterator<Item = &Entry> {
    let section = rule.value.get("by_severity");
    SEVERITIES.into_iter().filter_map(move |name| section?.entry(name))
}

/// A higher severity may not ask for less than a lower one: it needs what that needs all the same, and a reader would not
/// see it.
fn approvals(rule: &Entry, found: &mut Vec<Finding>) {
    let mut before: Vec<(&str, i128, &str)> = Vec::new();
    for severity in by_severity(rule) {
        for phase in severity.value.entries() {
            let Ok(known) = phase.key.parse::<Phase>() else {
                let message = format!("there is no phase {}", quote_or(&phase.key, "of this name"));
                let names = Phase::ALL.iter().map(|phase| phase.name());
                found.push(
                    Finding::error("unknown-phase", phase.at, message)
                        .hint(suggest(&phase.key, names, "phases")),
                );
                continue;
            };
            if matches!(known, Phase::Preflight | Phase::Proof) {
                found.push(contradiction(
                    phase.at,
                    format!("no approval can be asked for before {known}, so no runbook could keep this"),
                    "name a phase from prepare to revoke",
                ));
            }
            let Some(count) = int(&phase.value) else { continue };
            if count < 1 {
                found.push(contradiction(
                    phase.value.span,
                    "zero approvals let everything pass",
                    "write at least 1, or leave the phase out",
                ));
            }
            if let Some((_, more, lower)) =
                before.iter().find(|(name, more, _)| *name == phase.key && *more > count)
            {
                found.push(contradiction(
                    phase.value.span,
                    format!(
                        "{} asks for {count} approvals before {known}, and {lower} asks for {more}",
                        severity.key
                    ),
                    "ask for at least as many as the lower severity",
                ));
            }
            before.push((&phase.key, count, &severity.key));
        }
    }
}

fn cadence(rule: &Entry, found: &mut Vec<Finding>) {
    let mut before: Option<(i64, &Entry)> = None;
    for severity in by_severity(rule) {
        let Some(text) = severity.value.text() else { continue };
        let days = match text.parse::<Cadence>() {
            Ok(cadence) => cadence.most_days(),
            Err(error) => {
                let message = format!("{} {error}", quote_or(text, "this"));
                found.push(Finding::error("bad-cadence", severity.value.span, message).hint(error.hint()));
                continue;
            }
        };
        if let Some((less, lower)) = before
            && days > less
        {
            found.push(contradiction(
                severity.value.span,
                format!(
                    "{} allows {days} days between two rotations, and {} only {less}",
                    severity.key, lower.key
                ),
                "allow at most as many as for the lower severity",
            ));
        }
        before = Some((days, severity));
    }
}

fn owners(rule: &Entry, found: &mut Vec<Finding>) {
    if let Some(allowed) = rule.value.entry("allowed")
        && allowed.value.kind() == "a list"
        && allowed.value.items().is_empty()
    {
        found.push(contradiction(
            allowed.at,
            "no owner is allowed, so no runbook could keep this rule",
            "name the owners, or leave `allowed` out",
        ));
    }
}

fn people(waivers: &Entry, found: &mut Vec<Finding>) {
    let Some(from) = waivers.value.entry("from") else { return };
    if from.value.kind() == "a list" && from.value.items().is_empty() {
        found.push(
            Finding::error("no-people", from.at, "no person is named here, so no waiver would ever count")
                .hint("name principals, or remove the section"),
        );
    }
    for node in from.value.items() {
        let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, ',' | '"' | '*' | '?' | '!');
        if node.text().is_some_and(|name| name.is_empty() || name.contains(odd)) {
            found.push(
                Finding::error("principal", node.span, "this is not the principal of one person")
                    .hint("write it as the file of signers does, such as alice@example.com"),
            );
        }
    }
}
