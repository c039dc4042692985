//! Finds the mistakes in a scenario that need no runbook to be seen.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Answers, Condition, Effect, Expectation, Inject, Scenario, schema};
use crate::runbook::read::finding::{self, Finding};
use crate::runbook::read::secrets;
use crate::runbook::read::span::Span;
use crate::runbook::read::tree::{self, Node, Value};
use crate::runbook::read::words::{quote_or, suggest};
use crate::runbook::{Severity, Source, against};

/// What the check of one scenario says.
#[derive(Debug, Clone)]
pub struct Checked {
    /// Every mistake, the worst first.
    pub findings: Vec<Finding>,
    /// The scenario, where there is no error.
    pub scenario: Option<Scenario>,
    pub(super) tree: Option<Node>,
}

/// Finds the mistakes in a scenario.
pub fn check(source: &Source) -> Checked {
    let text = source.text.as_str();
    let mut findings = if text.len() > tree::MAX_BYTES { Vec::new() } else { secrets::in_text(text) };
    let tree = tree::parse(text).map_err(|found| findings.push(found)).ok();
    let mut scenario = None;
    if let Some(tree) = &tree {
        if tree.value == Value::Null {
            let at = Span { line: 1, column: 1, ..Span::default() };
            let hint = "`stanch drill init` writes a scenario to start from";
            findings.push(Finding::error("empty", at, "the file is empty").hint(hint));
        } else {
            findings.extend(against(tree, schema()).found);
        }
        if !findings.iter().any(|found| found.severity == Severity::Error) {
            match serde_json::from_value::<Scenario>(tree.to_json()) {
                Ok(read) => {
                    findings.extend(meaning(&read, tree));
                    let bad = findings.iter().any(|found| found.severity == Severity::Error);
                    scenario = (!bad).then_some(read);
                }
                Err(error) => {
                    findings.push(Finding::error("unreadable", tree.span, error.to_string()));
                }
            }
        }
    }
    finding::sort(&mut findings);
    findings.dedup();
    secrets::redact(&mut findings);
    Checked { findings, scenario, tree }
}

/// Sorts findings, the worst first.
pub fn in_order(findings: &mut [Finding]) {
    finding::sort(findings);
}

impl Checked {
    /// A mistake that shows only from outside, at a field of the scenario.
    pub fn error_at(&self, field: &str, message: String, hint: Option<String>) -> Finding {
        let found = Finding::error("unplayable", span(self.tree.as_ref(), field), message);
        match hint {
            Some(hint) => found.hint(hint),
            None => found,
        }
    }
}

/// A place in a list of the scenario.
pub(super) fn place(tree: &Node, list: &str, at: usize) -> Option<Node> {
    tree.get(list)?.items().get(at).cloned()
}

/// The place of a field of a node, else of the node.
pub(super) fn span(node: Option<&Node>, field: &str) -> Span {
    node.and_then(|node| node.get(field).map(|inner| inner.span).or(Some(node.span))).unwrap_or_default()
}

/// The conditions of a list of expectations, each with its place.
pub(super) fn expected<'a>(
    expectations: &'a [Expectation],
    node: Option<&Node>,
) -> Vec<(&'a Condition, Span)> {
    let items = node.map(Node::items).unwrap_or_default();
    let each = expectations.iter().enumerate().flat_map(|(at, expectation)| {
        let item = items.get(at);
        [("did", &expectation.did), ("never", &expectation.never), ("before", &expectation.before)]
            .into_iter()
            .filter_map(move |(field, condition)| Some((condition.as_ref()?, span(item, field))))
    });
    each.collect()
}

struct Meaning<'a> {
    scenario: &'a Scenario,
    found: Vec<Finding>,
}

fn meaning(scenario: &Scenario, tree: &Node) -> Vec<Finding> {
    let mut check = Meaning { scenario, found: Vec::new() };
    check.expectations(&scenario.objectives, tree.get("objectives"));
    let mut names = BTreeSet::new();
    for (at, inject) in scenario.injects.iter().enumerate() {
        let node = place(tree, "injects", at);
        let node = node.as_ref();
        if !names.insert(&inject.name) {
            let message = format!("a second inject has the name {}", quote_or(&inject.name, "of another"));
            check.found.push(Finding::error("duplicate-name", span(node, "name"), message).hint("rename it"));
        }
        check.trigger(&inject.when, span(node, "when"));
        check.inject(inject, node);
        check.expectations(&inject.expect, node.and_then(|node| node.get("expect")));
    }
    check.circles(tree);
    for (at, typed) in scenario.operator.iter().enumerate() {
        let node = place(tree, "operator", at);
        check.trigger(&typed.when, span(node.as_ref(), "when"));
        check.typed(&typed.types, span(node.as_ref(), "types"));
    }
    check.found
}

impl Meaning<'_> {
    fn inject(&mut self, inject: &Inject, node: Option<&Node>) {
        let at = span(node, "name");
        if inject.text.is_none() && inject.effect.is_none() {
            let hint = "give it a `text` that the participants read, an `effect` on the world, or both";
            self.found.push(Finding::error("nothing-happens", at, "this inject does nothing").hint(hint));
        }
        if inject.text.is_none() && !inject.choices.is_empty() {
            let hint = "write the question as its `text`";
            self.found.push(
                Finding::error("no-question", span(node, "choices"), "these choices answer no question")
                    .hint(hint),
            );
        }
        let at_once = matches!(
            inject.effect,
            None | Some(
                Effect::ResponseLost(_)
                    | Effect::RequestLost(_)
                    | Effect::DiskFull(_)
                    | Effect::Overwritten(_)
                    | Effect::NewRevoked(_)
                    | Effect::OldRevoked(_)
            )
        );
        if inject.lasts.is_some() && at_once {
            let message = "this inject has no effect that lasts";
            self.found
                .push(Finding::error("cannot-last", span(node, "lasts"), message).hint("remove `lasts`"));
        }
    }

    fn expectations(&mut self, expectations: &[Expectation], node: Option<&Node>) {
        for (at, expectation) in expectations.iter().enumerate() {
            let item = node.and_then(|node| node.items().get(at));
            if expectation.did.is_some() == expectation.never.is_some() {
                let message = "exactly one of `did` and `never` is required here";
                self.found.push(
                    Finding::error("one-of", span(item, "text"), message)
                        .hint("say what the record must show, or what it must not show"),
                );
            }
        }
        for (condition, at) in expected(expectations, node) {
            self.names(condition, at);
        }
    }

    /// What is waited for, not only looked for.
    fn trigger(&mut self, condition: &Condition, at: Span) {
        if let Condition::Ended(_) = condition {
            let message = "this waits for the end of the run; nothing can happen after it";
            self.found.push(
                Finding::error("cannot-come", at, message).hint(
                    "wait for the phase `proof`, or put what should be so at the end into `objectives`",
                ),
            );
        }
        self.names(condition, at);
    }

    fn names(&mut self, condition: &Condition, at: Span) {
        let injects = || self.scenario.injects.iter().map(|inject| inject.name.as_str());
        let missing = |name: &str| {
            let message =
                format!("there is no inject {}, so this never comes", quote_or(name, "of this name"));
            Finding::error("cannot-come", at, message).hint(suggest(
                name,
                injects().collect::<Vec<_>>(),
                "injects",
            ))
        };
        let found = match condition {
            Condition::Inject(name) => self.scenario.inject(name).is_none().then(|| missing(name)),
            Condition::Answer(Answers { inject: name, choice }) => match self.scenario.inject(name) {
                None => Some(missing(name)),
                Some(inject) => self.unanswerable(inject, choice.as_deref(), at),
            },
            _ => None,
        };
        self.found.extend(found);
    }

    fn unanswerable(&self, inject: &Inject, choice: Option<&str>, at: Span) -> Option<Finding> {
        if inject.choices.is_empty() {
            let message = format!("the inject `{}` asks for no answer, so this never comes", inject.name);
            return Some(Finding::error("cannot-come", at, message).hint("give that inject `choices`"));
        }
        let choice = choice.filter(|choice| !inject.choices.iter().any(|known| known == choice))?;
        let message =
            format!("{} is not a choice of `{}`, so this never comes", quote_or(choice, "this"), inject.name);
        let known = inject.choices.iter().map(String::as_str);
        Some(Finding::error("cannot-come", at, message).hint(suggest(choice, known, "choices")))
    }

    /// Injects that wait for each other never happen.
    fn circles(&mut self, tree: &Node) {
        let waits: BTreeMap<&str, &str> = self
            .scenario
            .injects
            .iter()
            .filter_map(|inject| match &inject.when {
                Condition::Inject(name) | Condition::Answer(Answers { inject: name, .. }) => {
                    Some((inject.name.as_str(), name.as_str()))
                }
                _ => None,
            })
            .collect();
        for (at, inject) in self.scenario.injects.iter().enumerate() {
            let mut next = waits.get(inject.name.as_str());
            let mut steps = 0;
            while let Some(name) = next.filter(|_| steps <= waits.len()) {
                if *name == inject.name {
                    let node = place(tree, "injects", at);
                    let message = format!("`{}` waits for itself, so it never happens", inject.name);
                    self.found.push(
                        Finding::error("cannot-come", span(node.as_ref(), "when"), message)
                            .hint("let one of the injects in this circle wait for another event"),
                    );
                    break;
                }
                (next, steps) = (waits.get(name), steps + 1);
            }
        }
    }

    fn typed(&mut self, types: &str, at: Span) {
        let Some(rest) = types.strip_prefix("drill answer") else { return };
        let mut words = rest.split_whitespace();
        let (Some(name), Some(choice)) = (words.next(), words.next()) else {
            let hint = "write `drill answer INJECT CHOICE`";
            self.found
                .push(Finding::error("no-answer", at, "the inject or the choice is missing").hint(hint));
            return;
        };
        let answers = Answers { inject: name.into(), choice: Some(choice.trim_matches(['"', '\'']).into()) };
        self.names(&Condition::Answer(answers), at);
    }
}
