//! Gates: their bounds, and that each is waited for.

use super::Context;
use crate::runbook::read::finding::Finding;
use crate::runbook::read::tree::Node;
use crate::runbook::read::words::quote_or;

pub(super) fn check(context: &mut Context<'_>) {
    for gate in context.section("gates") {
        if gate.key == "adopted" {
            context.add(
                Finding::error(
                    "built-in-gate",
                    gate.at,
                    "the gate `adopted` is built in and cannot be defined",
                )
                .hint("rename this one"),
            );
        } else if !context.gates.contains(&gate.key) {
            let message = format!("no phase waits for the gate {}", quote_or(&gate.key, "of this name"));
            context.add(
                Finding::warning("unused-gate", gate.at, message).hint("name it under a phase's `until`"),
            );
        }
        let Some(http) = gate.value.get("http") else { continue };
        let number = |name| http.get(name).and_then(|node: &Node| node.to_json().as_f64());
        match (number("at_least"), number("at_most")) {
            (None, None) if http.kind() == "a map" => context.add(
                Finding::error(
                    "gate-without-bounds",
                    gate.at,
                    "this gate has no bound, so it would always pass",
                )
                .hint("add `at_most`, `at_least` or both"),
            ),
            (Some(least), Some(most)) if most < least => {
                let at = http.entry("at_most").map_or(gate.at, |entry| entry.at);
                context.add(Finding::error(
                    "bounds",
                    at,
                    "`at_most` is below `at_least`: nothing could pass",
                ));
            }
            _ => {}
        }
    }
}
