//! Gates: their bounds, and that each is waited for.

use super::Context;
use crate::domain::{ADOPTED, REFUSED};
use crate::kind::{self, GATES};
use crate::runbook::read::finding::Finding;
use crate::runbook::read::tree::Node;
use crate::runbook::read::words::{quote_or, suggest};

pub(super) fn check(context: &mut Context<'_>) {
    for gate in context.section("gates") {
        if [ADOPTED, REFUSED].contains(&gate.key.as_str()) {
            context.add(
                Finding::error(
                    "built-in-gate",
                    gate.at,
                    format!("the gate `{}` is built in and cannot be defined", gate.key),
                )
                .hint("rename this gate"),
            );
        } else if !context.gates.contains(&gate.key) {
            let message = format!("no phase waits for the gate {}", quote_or(&gate.key, "of this name"));
            context.add(
                Finding::warning("unused-gate", gate.at, message).hint("name it under a phase's `until`"),
            );
        }
        for entry in gate.value.entries() {
            if let Some(kind) = kind::named(GATES, Some(&entry.key)) {
                (kind.check)(gate, &entry.value, &mut context.found);
            }
            unknown_credential(context, &entry.value);
        }
    }
}

/// A gate may ask about the old version of a credential: that has to be one of the runbook's.
fn unknown_credential(context: &mut Context<'_>, gate: &Node) {
    let Some(node) = gate.get("credential") else { return };
    let declared = || context.section("credentials").iter().map(|entry| entry.key.as_str());
    if let Some(name) = node.text()
        && !declared().any(|key| key == name)
        && !context.full()
    {
        let hint = suggest(name, declared(), "credentials");
        let message = format!("there is no credential {}", quote_or(name, "of this name"));
        context.add(Finding::error("unknown-credential", node.span, message).hint(hint));
    }
}
