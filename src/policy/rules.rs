//! Holds a runbook against the rules of a policy.

use std::collections::BTreeMap;

use super::model::{Approvals, MaxTtl, MostCadence, Owners, Policy, Rule, Scopes};
use crate::domain::{Cadence, Period, Phase};
use crate::kind::spec::Expires;
use crate::kind::{ISSUERS, named};
use crate::runbook::Finding;
use crate::runbook::read::span::Span;
use crate::runbook::read::tree::{Node, Value};
use crate::runbook::read::words::quote_or;

/// A rule that a runbook does not keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// Where in the runbook.
    pub at: Span,
    /// What is wrong there.
    pub message: String,
    /// Why the rule is there, as the policy says.
    pub reason: String,
    /// Who answers for the rule.
    pub owner: String,
}

impl Violation {
    /// In one sentence, with rule, reason and owner.
    pub fn words(&self) -> String {
        let Self { rule, message, reason, owner, .. } = self;
        format!("rule `{}`: {message}. Reason: {reason}. Owner: {owner}", rule.name())
    }

    /// As a finding at its place.
    pub fn finding(&self) -> Finding {
        let code = match self.rule {
            Rule::MaxTtl => "policy-max-ttl",
            Rule::Scopes => "policy-scopes",
            Rule::Approvals => "policy-approvals",
            Rule::Cadence => "policy-cadence",
            Rule::Owners => "policy-owners",
        };
        let Self { rule, message, reason, owner, at } = self;
        let reason = reason.trim_end_matches('.');
        Finding::error(code, *at, format!("{message} (rule `{}`)", rule.name()))
            .hint(format!("reason: {reason}. Correct it, or ask {owner} for a waiver"))
    }
}

/// Every rule that a runbook does not keep. The tree has the values of one environment in place.
pub(crate) fn violations(policy: &Policy, runbook: &Node) -> Vec<Violation> {
    let rules = &policy.rules;
    let mut held = Held { policy, runbook, rule: Rule::MaxTtl, said: ("", None), found: Vec::new() };
    if let Some(rule) = &rules.max_ttl {
        held.under(Rule::MaxTtl, &rule.reason, rule.owner.as_deref()).max_ttl(rule);
    }
    if let Some(rule) = &rules.scopes {
        held.under(Rule::Scopes, &rule.reason, rule.owner.as_deref()).scopes(rule);
    }
    if let Some(rule) = &rules.approvals {
        held.under(Rule::Approvals, &rule.reason, rule.owner.as_deref()).approvals(rule);
    }
    if let Some(rule) = &rules.cadence {
        held.under(Rule::Cadence, &rule.reason, rule.owner.as_deref()).cadence(rule);
    }
    if let Some(rule) = &rules.owners {
        held.under(Rule::Owners, &rule.reason, rule.owner.as_deref()).owners(rule);
    }
    held.found
}

/// Whether two names are one to some server: Vault takes them without the spaces around them, and in small letters.
fn is_same_name(one: &str, two: &str) -> bool {
    one.trim().to_lowercase() == two.trim().to_lowercase()
}

/// A runbook, and what was found of it.
struct Held<'a> {
    policy: &'a Policy,
    runbook: &'a Node,
    /// The rule that it is held against, with its reason and its own owner.
    rule: Rule,
    said: (&'a str, Option<&'a str>),
    found: Vec<Violation>,
}

impl<'a> Held<'a> {
    fn under(&mut self, rule: Rule, reason: &'a str, owner: Option<&'a str>) -> &mut Self {
        (self.rule, self.said) = (rule, (reason, owner));
        self
    }

    fn add(&mut self, at: Span, message: String) {
        let (reason, owner) = self.said;
        let owner = owner.unwrap_or(&self.policy.owner);
        let (reason, owner) = (reason.to_owned(), owner.to_owned());
        self.found.push(Violation { rule: self.rule, at, message, reason, owner });
    }

    /// The place of a field of the runbook, else of its name.
    fn place(&self, field: &str) -> Span {
        let entry = self.runbook.entry(field).or_else(|| self.runbook.entry("name"));
        entry.map_or(self.runbook.span, |entry| entry.at)
    }

    fn severity(&self) -> &'a str {
        self.runbook.text_of("severity").unwrap_or("medium")
    }

    fn max_ttl(&mut self, rule: &MaxTtl) {
        let credentials = self.runbook.get("credentials").map(Node::entries).unwrap_or_default();
        for credential in credentials {
            let Some(issuer) = credential.value.get("issuer") else { continue };
            let expires = named(ISSUERS, issuer.text_of("type")).map(|kind| kind.scope.expires);
            let fields = [
                ("ttl", issuer.get("ttl")),
                ("max_ttl", credential.value.get("scope").and_then(|s| s.get("max_ttl"))),
            ];
            let given: Vec<_> = fields
                .iter()
                .filter_map(|(name, node)| {
                    Some((name, (*node)?, node.and_then(Node::text)?.parse::<Period>().ok()?))
                })
                .collect();
            for (name, node, lives) in &given {
                if *lives > rule.most {
                    let message = format!("`{name}` is {lives}, and the policy allows at most {}", rule.most);
                    self.add(node.span, message);
                }
            }
            if given.is_empty() && !matches!(expires, None | Some(Expires::Never)) {
                let message = format!(
                    "the new credential may live forever, and the policy allows at most {}",
                    rule.most
                );
                self.add(credential.at, message);
            }
        }
    }

    fn scopes(&mut self, rule: &Scopes) {
        let credentials = self.runbook.get("credentials").map(Node::entries).unwrap_or_default();
        for credential in credentials {
            let (issuer, scope) = (credential.value.get("issuer"), credential.value.get("scope"));
            let lists = [issuer, scope].into_iter().flatten().filter_map(|node| node.get("policies"));
            let names = lists.flat_map(Node::items).chain(scope.and_then(|scope| scope.get("audience")));
            for node in names {
                let Some(text) = node.text() else { continue };
                if text.contains(['*', '?']) {
                    self.add(node.span, format!("{} is a wildcard", quote_or(text, "this")));
                } else if rule.forbidden.iter().any(|name| is_same_name(name, text)) {
                    self.add(node.span, format!("{} is forbidden", quote_or(text, "this")));
                }
            }
        }
    }

    fn approvals(&mut self, rule: &Approvals) {
        let mut needed: BTreeMap<Phase, u32> = BTreeMap::new();
        for counts in rule.by_severity.up_to(self.severity()) {
            for (phase, count) in counts {
                let Ok(phase) = phase.parse::<Phase>() else { continue };
                let needs = needed.entry(phase).or_default();
                *needs = (*needs).max(*count);
            }
        }
        let approvals = self.runbook.get("approvals");
        for (phase, count) in needed {
            if phase == Phase::Overlap && self.runbook.text_of("strategy") == Some("contain") {
                continue;
            }
            let given = approvals.and_then(|node| node.get("phases")?.get(phase.name())?.entry("count"));
            let has = match given.map(|entry| &entry.value.value) {
                Some(Value::Int(number)) => u32::try_from(*number).unwrap_or_default(),
                _ => 0,
            };
            if has < count {
                let at = given.map_or_else(|| self.place("approvals"), |entry| entry.value.span);
                let severity = self.severity();
                self.add(
                    at,
                    format!("{phase} has {has} of the {count} approvals that severity {severity} needs"),
                );
            }
        }
        if !rule.break_glass
            && let Some(entry) = approvals.and_then(|node| node.entry("break_glass"))
            && entry.value.value == Value::Bool(true)
        {
            self.add(entry.at, "`--break-glass` may not replace approvals".into());
        }
    }

    fn cadence(&mut self, rule: &MostCadence) {
        let severity = self.severity();
        let Some(most) = rule.by_severity.up_to(severity).map(Cadence::most_days).min() else { return };
        let Some(node) = self.runbook.get("cadence") else {
            let at = self.place("severity");
            return self.add(
                at,
                format!("there is no cadence, and severity {severity} needs one of at most {most} days"),
            );
        };
        let days =
            node.text().and_then(|text| text.parse::<Cadence>().ok()).map(|cadence| cadence.most_days());
        if let Some(days) = days.filter(|days| *days > most) {
            let message = format!(
                "up to {days} days pass between two rotations, and severity {severity} allows {most}"
            );
            self.add(node.span, message);
        }
    }

    fn owners(&mut self, rule: &Owners) {
        let Some(owner) =
            self.runbook.get("owner").filter(|node| node.text().is_some_and(|o| !o.trim().is_empty()))
        else {
            let at = self.place("owner");
            return self.add(at, "the runbook names no owner".into());
        };
        let allowed = rule.allowed.as_ref().is_none_or(|all| all.iter().any(|one| owner.text() == Some(one)));
        if !allowed {
            let all = rule.allowed.as_deref().unwrap_or_default().join(", ");
            self.add(
                owner.span,
                format!(
                    "{} is not an owner; owners are: {all}",
                    quote_or(owner.text().unwrap_or_default(), "this")
                ),
            );
        }
    }
}
