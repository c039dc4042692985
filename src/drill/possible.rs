//! Finds what a scenario waits for and cannot come, in the plan of its runbook.

use std::time::Duration;

use super::lint::{Checked, expected, place, span};
use super::model::{CallOf, Condition, Doing, Effect, How, StepEnds};
use super::stage::connection_of;
use super::story::doing;
use crate::domain::{ADOPTED, Phase};
use crate::plan::Plan;
use crate::runbook::Finding;
use crate::runbook::read::span::Span;
use crate::runbook::read::tree::Node;
use crate::runbook::read::words::{quote_or, suggest};

/// What of a scenario without errors does not fit the plan of its runbook.
pub fn cannot_come(checked: &Checked, plan: &Plan) -> Vec<Finding> {
    let (Some(scenario), Some(tree)) = (&checked.scenario, &checked.tree) else { return Vec::new() };
    let mut found = Vec::new();
    let mut conditions = expected(&scenario.objectives, tree.get("objectives"));
    for (at, inject) in scenario.injects.iter().enumerate() {
        let node = place(tree, "injects", at);
        let node = node.as_ref();
        conditions.push((&inject.when, span(node, "when")));
        conditions.extend(expected(&inject.expect, node.and_then(|node| node.get("expect"))));
        found.extend(inject.effect.as_ref().and_then(|effect| unable(plan, effect, span(node, "effect"))));
        let after = inject.after.map(|after| after.get()).unwrap_or_default();
        found.extend(too_late(plan, &inject.when, after, node));
    }
    for (at, typed) in scenario.operator.iter().enumerate() {
        conditions.push((&typed.when, span(place(tree, "operator", at).as_ref(), "when")));
    }
    for (at, name) in scenario.confirms.iter().enumerate() {
        let manual = plan.runbook.phases.own_step(name).is_some_and(|step| step.manual.is_some());
        if !manual {
            let at = tree.get("confirms").and_then(|list| list.items().get(at)).map(|item| item.span);
            let message = format!("the runbook has no manual step {}", quote_or(name, "of this name"));
            found.push(
                Finding::error("no-effect", at.unwrap_or_default(), message)
                    .hint("remove it, or name one of the runbook's steps with `manual`"),
            );
        }
    }
    found.extend(conditions.into_iter().filter_map(|(condition, at)| impossible(plan, condition, at)));
    found
}

fn never(at: Span, message: String) -> Finding {
    Finding::error("cannot-come", at, format!("{message}, so this never comes"))
}

fn impossible(plan: &Plan, condition: &Condition, at: Span) -> Option<Finding> {
    match condition {
        Condition::Phase(phase) => plan.phase(*phase).is_none().then(|| {
            let phases = plan.phases.iter().map(|p| p.phase.name());
            let message = format!("the strategy {} does not have the phase {phase}", plan.strategy.name());
            never(at, message).hint(suggest("", phases, "its phases"))
        }),
        Condition::Moved(least) => {
            let credentials = plan.runbook.credentials.values();
            let attesting = credentials.flat_map(|c| &c.consumers).filter(|c| c.attest.is_some()).count();
            if (*least as usize) > attesting {
                let message = format!("{attesting} consumers of the runbook can say what they use");
                return Some(never(at, message).hint("wait for fewer, or give the others `attest`"));
            }
            let asked = plan.phases.iter().any(|phase| phase.until.iter().any(|gate| gate == ADOPTED));
            (!asked).then(|| {
                never(at, "no phase waits for the gate `adopted`".into())
                    .hint("add `adopted` to the `until` of `overlap` in the runbook")
            })
        }
        Condition::Step(StepEnds { action, credential, outcome }) => {
            no_credential(plan, credential.as_deref(), at)
                .or_else(|| no_step(plan, *action, credential.as_deref(), *outcome, at))
        }
        Condition::Gate(says) => no_gate(plan, &says.name, at),
        Condition::Stopped(_)
        | Condition::Person(_)
        | Condition::RollsBack(_)
        | Condition::Inject(_)
        | Condition::Answer(_)
        | Condition::Ended(_) => None,
    }
}

fn no_credential(plan: &Plan, name: Option<&str>, at: Span) -> Option<Finding> {
    let name = name.filter(|name| plan.credentials.iter().all(|planned| planned.name != *name))?;
    let known: Vec<&str> = plan.credentials.iter().map(|planned| planned.name.as_str()).collect();
    let message = format!("the runbook has no credential {}", quote_or(name, "of this name"));
    Some(never(at, message).hint(suggest(name, known, "its credentials")))
}

fn no_step(plan: &Plan, action: Doing, credential: Option<&str>, how: How, at: Span) -> Option<Finding> {
    let word: &str = action.into();
    let ours = |step: &&crate::plan::Step| {
        let name = step.action.credential().map(|c| plan.credentials[c].name.as_str());
        doing(&step.action) == Some(action) && (credential.is_none() || name == credential)
    };
    let steps: Vec<_> = plan.steps.iter().filter(ours).collect();
    if steps.is_empty() {
        let hint = format!("see its steps: stanch plan {} --env {}", plan.runbook.name, plan.environment);
        return Some(never(at, format!("the plan of this runbook has no step `{word}` here")).hint(hint));
    }
    let can = match how {
        How::Succeeded | How::Rejected => true,
        How::Unknown => steps.iter().any(|step| step.is_effect()),
        How::Undone => steps.iter().any(|step| step.undo.is_some()),
    };
    (!can).then(|| never(at, format!("a step `{word}` cannot end like that")))
}

fn no_gate(plan: &Plan, name: &str, at: Span) -> Option<Finding> {
    let waited = || plan.phases.iter().flat_map(|phase| phase.until.iter().map(String::as_str));
    (!waited().any(|gate| gate == name)).then(|| {
        let message =
            format!("no phase of the runbook waits for the gate {}", quote_or(name, "of this name"));
        never(at, message).hint(suggest(name, waited().collect::<Vec<_>>(), "gates that it waits for"))
    })
}

/// An effect that befalls nothing in this runbook.
fn unable(plan: &Plan, effect: &Effect, at: Span) -> Option<Finding> {
    let runbook = &plan.runbook;
    match effect {
        Effect::IgnoresReload(name) => {
            let told = || {
                let consumers = runbook.credentials.values().flat_map(|c| &c.consumers);
                consumers.filter(|c| c.reload.is_some()).map(|c| c.name.as_str())
            };
            (!told().any(|known| known == name)).then(|| {
                let message =
                    format!("the runbook tells no consumer {} to reload", quote_or(name, "of this name"));
                Finding::error("no-effect", at, message).hint(suggest(
                    name,
                    told().collect::<Vec<_>>(),
                    "consumers",
                ))
            })
        }
        Effect::GateFails(name) => no_gate(plan, name, at),
        Effect::Unavailable(name) | Effect::TokenExpired(name) => {
            let used = |name: &str| {
                runbook.credentials.values().any(|credential| {
                    credential.issuer.connection() == Some(name)
                        || credential.stores.iter().any(|store| connection_of(store).as_deref() == Some(name))
                })
            };
            (!used(name)).then(|| {
                let known: Vec<&str> = runbook.connections.keys().map(String::as_str).collect();
                let message = format!(
                    "no credential of the runbook uses the connection {}",
                    quote_or(name, "of this name")
                );
                Finding::error("no-effect", at, message).hint(suggest(name, known, "connections"))
            })
        }
        Effect::ResponseLost(CallOf { action, credential })
        | Effect::RequestLost(CallOf { action, credential }) => {
            let calls =
                [Doing::Issue, Doing::Stage, Doing::Promote, Doing::Reload, Doing::Disable, Doing::Revoke];
            if !calls.contains(action) {
                let names: Vec<&str> = calls.iter().map(|call| (*call).into()).collect();
                let message = "a lost response changes nothing here: such a step is simply asked again";
                return Some(Finding::error("no-effect", at, message).hint(suggest("", names, "use one of")));
            }
            let how = How::Unknown;
            no_credential(plan, Some(credential), at)
                .or_else(|| no_step(plan, *action, Some(credential), how, at))
        }
        Effect::Overwritten(name) => no_credential(plan, Some(name), at).or_else(|| {
            let bare = runbook.credentials.get(name).is_some_and(|credential| credential.stores.is_empty());
            bare.then(|| Finding::error("no-effect", at, "no store holds this credential"))
        }),
        Effect::NewRevoked(name) | Effect::OldRevoked(name) => no_credential(plan, Some(name), at),
        Effect::DiskFull(_) => None,
    }
}

/// A time so long after its event that the run may be over by then.
fn too_late(plan: &Plan, when: &Condition, after: Duration, node: Option<&Node>) -> Option<Finding> {
    let Condition::Phase(phase) = when else { return None };
    let order = Phase::order(plan.strategy);
    let from = order.iter().position(|p| p == phase)?;
    let rest = plan.phases.iter().filter(|p| order.iter().position(|o| *o == p.phase) >= Some(from));
    let least: Duration = rest.map(|p| plan.least(p).get()).sum();
    // What the steps themselves take.
    (after > least + Duration::from_secs(5)).then(|| {
        let message = "the run may be over before this happens";
        Finding::warning("may-not-come", span(node, "after"), message)
            .hint("shorten it, or let something before it keep the run from going on")
    })
}
