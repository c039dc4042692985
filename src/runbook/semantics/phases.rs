//! Phases: what they wait for, and the own steps in them.

use super::{Context, period, twice};
use crate::domain::{ADOPTED, REFUSED};
use crate::runbook::read::finding::Finding;
use crate::runbook::read::span::Span;
use crate::runbook::read::tree::{Entry, Node, Value};
use crate::runbook::read::words::{nearest, quote_or, suggest};

/// The phases that can still be undone: those before the point of no return.
const UNDOABLE: [&str; 6] = ["prepare", "distribute", "verify", "cutover", "overlap", "sunset"];

/// The phases in which a custom step has a new credential to deliver, whatever the strategy.
pub(super) const DELIVERS: [&str; 3] = ["distribute", "verify", "cutover"];

pub(super) fn check(context: &mut Context<'_>) {
    let contain = context.root.text_of("strategy") == Some("contain");
    for phase in context.section("phases") {
        if contain && phase.key == "overlap" {
            context.add(
                Finding::warning("skipped-phase", phase.at, "the strategy `contain` skips `overlap`")
                    .hint("remove the section, or use `strategy: overlap`"),
            );
        }
        waits(context, phase);
        repeats(context, phase);
        let undoable = UNDOABLE.contains(&phase.key.as_str());
        for step in steps(phase) {
            own_step(context, step, undoable);
            delivery(context, step, &phase.key);
        }
    }
    adoption(context, contain);
    names(context);
}

pub(super) fn steps(phase: &Entry) -> impl Iterator<Item = &Node> {
    ["before", "after"]
        .into_iter()
        .flat_map(|list| phase.value.get(list).map(Node::items).unwrap_or_default())
}

fn waits(context: &mut Context<'_>, phase: &Entry) {
    for gate in phase.value.get("until").map(Node::items).unwrap_or_default() {
        let Some(name) = gate.text() else { continue };
        context.gates.insert(name.to_owned());
        if context.full() {
            continue;
        }
        let gates = context.section("gates");
        if name == REFUSED && phase.key != "proof" {
            context.add(
                Finding::error("gate-of-proof", gate.span, "the gate `refused` is only for `proof`")
                    .hint("before the proof the old credential may still work; wait for another gate here"),
            );
            continue;
        }
        if name != ADOPTED && name != REFUSED && !gates.iter().any(|entry| entry.key == name) {
            let names = gates.iter().map(|entry| entry.key.as_str()).chain([ADOPTED]);
            context.gates.extend(nearest(name, names.clone()).map(str::to_owned));
            let message = format!("there is no gate {}", quote_or(name, "of this name"));
            let hint = suggest(name, names.collect::<Vec<_>>(), "gates");
            context.add(Finding::error("unknown-gate", gate.span, message).hint(hint));
        }
    }
    let most = period(phase.value.get("at_most"));
    for field in ["at_least", "watch"] {
        let Some((least, most)) =
            period(phase.value.get(field)).zip(most).filter(|(least, most)| most < least)
        else {
            continue;
        };
        let Some(entry) = phase.value.entry("at_most") else { continue };
        context.add(
            Finding::error("bounds", entry.at, format!("`at_most` ({most}) is below `{field}` ({least})"))
                .hint("`at_most` is the time after which the run pauses if the gates do not pass"),
        );
    }
}

/// `times` and `every` mean something where probes are sent.
fn repeats(context: &mut Context<'_>, phase: &Entry) {
    let fields: &[&str] = match phase.key.as_str() {
        "proof" => return,
        "verify" => &["watch"],
        _ => &["times", "every", "watch"],
    };
    for &field in fields {
        if let Some(entry) = phase.value.entry(field) {
            context.add(
                Finding::warning("no-effect", entry.at, format!("`{field}` has no effect in this phase"))
                    .hint(match field {
                        "watch" => "only `proof` goes on using the old credential",
                        _ => "only `verify` and `proof` repeat their checks",
                    }),
            );
        }
    }
}

fn own_step(context: &mut Context<'_>, step: &Node, undoable: bool) {
    if step.kind() != "a mapping" {
        return;
    }
    let given: Vec<&Entry> = ["exec", "http", "manual"].iter().filter_map(|kind| step.entry(kind)).collect();
    match given[..] {
        [_] => {}
        [] => context.add(
            Finding::error("own-step", step.span, "the step does nothing")
                .hint("add one of `exec`, `http` and `manual`"),
        ),
        [_, second, ..] => context.add(
            Finding::error("own-step", second.at, "the step has several actions")
                .hint("keep exactly one of `exec`, `http` and `manual`; split it into several steps"),
        ),
    }
    let manual = matches!(given[..], [only] if only.key == "manual");
    let undo = step.entry("undo").filter(|undo| undo.value.value != Value::Null);
    match undo {
        None if undoable && !manual && !given.is_empty() => context.add(
            Finding::error(
                "no-undo",
                step.get("name").unwrap_or(step).span,
                "stanch could not roll back this phase before its gate: this step has no `undo`",
            )
            .hint("add `undo` with the action that reverses it, or `undo: none` if it needs no undo"),
        ),
        Some(undo) if !undoable => context.add(Finding::warning(
            "no-effect",
            undo.at,
            "this `undo` never runs: the phase is past the point of no return",
        )),
        _ => {}
    }
    if let Some(observe) = step.entry("observe")
        && manual
    {
        context.add(Finding::warning("no-effect", observe.at, "`observe` does not apply to a manual step"));
    }
    let own = step.get("http").filter(|_| step.get("credential").is_none());
    let requests = [own, undo.and_then(|undo| undo.value.get("http"))];
    for request in requests.into_iter().flatten().filter(|request| request.is_true("bearer")) {
        let at = request.entry("bearer").map_or(request.span, |entry| entry.at);
        context.add(
            Finding::error("secret-here", at, "a custom step does not have a credential to send").hint(
                "name it with `credential:`, or let a program send the request with a credential of its own",
            ),
        );
    }
}

/// The credential that a custom step delivers exists, by name and by then.
fn delivery(context: &mut Context<'_>, step: &Node, phase: &str) {
    let Some(entry) = step.entry("credential") else { return };
    let Some(name) = entry.value.text() else { return };
    let credentials = context.section("credentials");
    if !credentials.iter().any(|credential| credential.key == name) {
        if !context.full() {
            let message = format!("there is no credential {}", quote_or(name, "of this name"));
            let hint = suggest(name, credentials.iter().map(|entry| entry.key.as_str()), "credentials");
            context.add(Finding::error("unknown-credential", entry.value.span, message).hint(hint));
        }
    } else if !DELIVERS.contains(&phase) {
        context.add(
            Finding::error("delivery", entry.at, "stanch delivers no new credential in this phase")
                .hint("move the step to `distribute`, `verify` or `cutover`"),
        );
    } else if step.get("manual").is_some() {
        context.add(
            Finding::error("delivery", entry.at, "a question cannot carry a credential")
                .hint("use `exec` or `http`, or remove `credential`"),
        );
    }
}

/// `adopted` needs consumers that attest; and something should be waited for before `revoke`.
fn adoption(context: &mut Context<'_>, contain: bool) {
    let attests = |consumer: &Node| consumer.get("attest").is_some_and(|attest| attest.value != Value::Null);
    let any = context.lists("consumers").any(|(_, consumer)| attests(consumer));
    let phases = context.section("phases");
    let waits = |phase: &Entry| phase.value.get("until").map(Node::items).unwrap_or_default().to_vec();
    let asked: Vec<Span> = phases
        .iter()
        .flat_map(waits)
        .filter(|gate| gate.text() == Some("adopted"))
        .map(|gate| gate.span)
        .collect();
    if !any {
        for at in &asked {
            context.add(
                Finding::error(
                    "adopted-without-attest",
                    *at,
                    "no consumer has `attest`, so the gate `adopted` could never pass",
                )
                .hint("add `attest` to the consumers, or wait for another gate"),
            );
        }
    }
    let by_default =
        !contain && !phases.iter().any(|phase| phase.key == "overlap" && phase.value.get("until").is_some());
    if any && (!asked.is_empty() || by_default) {
        let silent: Vec<&Node> = context
            .lists("consumers")
            .map(|(_, consumer)| consumer)
            .filter(|consumer| !attests(consumer))
            .collect();
        for consumer in silent {
            let at = consumer.get("name").unwrap_or(consumer).span;
            context.add(
                Finding::warning(
                    "silent-consumer",
                    at,
                    "this consumer has no `attest`: `adopted` passes without checking it",
                )
                .hint("add `attest`"),
            );
        }
    }
    let gated = phases.iter().any(|phase| {
        matches!(phase.key.as_str(), "cutover" | "overlap" | "sunset") && !waits(phase).is_empty()
    });
    let waited_for = gated || any && by_default;
    if !waited_for && !context.section("credentials").is_empty() {
        let at = context
            .root
            .entry("phases")
            .or(context.root.entry("credentials"))
            .map_or(context.root.span, |entry| entry.at);
        context.add(
            Finding::warning(
                "ungated-revoke",
                at,
                "the run waits for nothing before it destroys the old credential",
            )
            .hint("add `attest` to the consumers, or name a gate under `phases.sunset.until`"),
        );
    }
}

fn names(context: &mut Context<'_>) {
    let phases = context.section("phases");
    let names = phases
        .iter()
        .flat_map(steps)
        .filter_map(|step| step.get("name"))
        .filter_map(|node| Some((node.text()?, node.span)));
    for (name, at) in twice(names) {
        context.add(
            Finding::error(
                "duplicate-name",
                at,
                format!("there is another step {}", quote_or(name, "of this name")),
            )
            .hint("rename one of them: `--confirm NAME` and `resolve NAME` need a unique name"),
        );
    }
}
