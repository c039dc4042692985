//! Approvals: roles that exist, people who are named, and numbers that can be reached.

use std::collections::BTreeSet;

use super::{Context, twice};
use crate::runbook::read::finding::Finding;
use crate::runbook::read::tree::{Entry, Node, Value};
use crate::runbook::read::words::{quote_or, suggest};

pub(super) fn check(context: &mut Context<'_>) {
    let Some(section) = context.root.entry("approvals") else { return };
    let entries = |name: &str| section.value.get(name).map(Node::entries).unwrap_or_default();
    let (roles, phases) = (entries("roles"), entries("phases"));
    for role in roles {
        people(context, role);
        let used =
            |phase: &Entry| names(&phase.value, "from").any(|node| node.text() == Some(role.key.as_str()));
        if !phases.iter().any(used) {
            let message = format!("no phase asks for the role {}", quote_or(&role.key, "of this name"));
            context.add(
                Finding::warning("unused-role", role.at, message).hint("name it under a phase's `from`"),
            );
        }
    }
    if phases.is_empty() {
        context.add(
            Finding::error(
                "no-approval",
                section.at,
                "no phase needs an approval, so this section would let everything pass",
            )
            .hint(
                "name a phase, such as `phases: {revoke: {count: 1, from: [ROLE]}}`, or remove the section",
            ),
        );
    }
    let contain = context.root.text_of("strategy") == Some("contain");
    for phase in phases {
        if contain && phase.key == "overlap" {
            context.add(
                Finding::error(
                    "skipped-phase",
                    phase.at,
                    "the strategy `contain` skips `overlap`, so nothing would be approved",
                )
                .hint("ask for the approval in another phase"),
            );
        }
        rule(context, phase, roles);
    }
}

fn names<'a>(node: &'a Node, list: &str) -> impl Iterator<Item = &'a Node> {
    node.get(list).map(Node::items).unwrap_or_default().iter()
}

/// The people of a role.
fn people(context: &mut Context<'_>, role: &Entry) {
    let listed = || role.value.items().iter().filter_map(|node| Some((node.text()?, node.span)));
    if role.value.items().is_empty() {
        context.add(
            Finding::error("no-people", role.at, "this role has no people").hint("name their principals"),
        );
    }
    for (name, at) in listed() {
        let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, ',' | '"' | '*' | '?' | '!');
        if name.is_empty() || name.contains(odd) {
            context.add(
                Finding::error("principal", at, "this is not the principal of one person")
                    .hint("write it as the file of signers does, such as alice@example.com, without `*`, `?`, `!` or commas"),
            );
        }
    }
    for (name, at) in twice(listed()) {
        let message = format!("{} is there twice", quote_or(name, "this principal"));
        context.add(Finding::error("duplicate-name", at, message).hint("keep one of them"));
    }
}

/// What one phase needs.
fn rule(context: &mut Context<'_>, phase: &Entry, roles: &[Entry]) {
    let mut may = BTreeSet::new();
    let mut known = true;
    for node in names(&phase.value, "from") {
        let Some(name) = node.text() else { continue };
        match roles.iter().find(|role| role.key == name) {
            Some(role) => may.extend(role.value.items().iter().filter_map(Node::text)),
            None => {
                known = false;
                let message = format!("there is no role {}", quote_or(name, "of this name"));
                let hint = suggest(name, roles.iter().map(|role| role.key.as_str()), "roles");
                context.add(Finding::error("unknown-role", node.span, message).hint(hint));
            }
        }
    }
    if names(&phase.value, "from").next().is_none() && phase.value.entry("from").is_some() {
        context.add(
            Finding::error("no-people", phase.at, "no role may approve this phase")
                .hint("name a role under `from`"),
        );
        return;
    }
    let Some(entry) = phase.value.entry("count") else { return };
    let Value::Int(count) = entry.value.value else { return };
    let Ok(count) = u64::try_from(count) else { return };
    if !known || may.is_empty() {
        return;
    }
    if count > may.len() as u64 {
        let message = format!("{count} people must approve, and only {} may", may.len());
        context.add(
            Finding::error("too-few-people", entry.at, message)
                .hint("add people to the roles, or lower `count`"),
        );
    } else if count == may.len() as u64 {
        context.add(
            Finding::warning(
                "no-spare",
                entry.at,
                "everyone who may approve must, and none of them can ask for the run",
            )
            .hint("add people to the roles: the person who asks for a run cannot approve it"),
        );
    }
}
