//! `${…}` in a runbook's texts: an environment's values and the run's names.

use std::collections::BTreeMap;

use super::finding::Finding;
use super::span::Span;
use super::tree::{Node, Value};
use super::words::{nearest, quote_or};

/// The values of one environment.
pub(crate) type Values = BTreeMap<String, String>;

/// Values may be used thousands of times; what they add up to must stay small.
const MAX_EXPANDED: usize = 4 * super::tree::MAX_BYTES;

/// The texts with all values in place would be larger than any runbook.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TooLarge;

/// A piece of a text.
enum Piece<'a> {
    Plain(&'a str),
    /// `$${`, which stands for `${`.
    Escape,
    /// What stands between `${` and `}`.
    Variable(&'a str),
    /// `${` without an end.
    Open(&'a str),
}

/// Whether a text has a variable.
pub(crate) fn has(text: &str) -> bool {
    pieces(text).any(|piece| matches!(piece, Piece::Variable(_)))
}

/// The tree as it is in one environment. The environments themselves stay as they are.
pub(crate) fn apply(root: &Node, environment: &str, values: &Values) -> Result<Node, TooLarge> {
    let runbook = root.text_of("name").unwrap_or_default().to_owned();
    let mut room = MAX_EXPANDED;
    let mut full = false;
    let mut change = |text: &str| {
        let changed = fill(text, environment, &runbook, values);
        match room.checked_sub(changed.len()) {
            Some(rest) => {
                room = rest;
                changed
            }
            None => {
                full = true;
                String::new()
            }
        }
    };
    let value = match &root.value {
        Value::Map(entries) => Value::Map(
            entries
                .iter()
                .map(|entry| {
                    let mut entry = entry.clone();
                    if entry.key != "environments" && entry.key != "name" {
                        entry.value = entry.value.map_texts(&mut change);
                    }
                    entry
                })
                .collect(),
        ),
        other => other.clone(),
    };
    if full { Err(TooLarge) } else { Ok(Node { span: root.span, value }) }
}

fn fill(text: &str, environment: &str, runbook: &str, values: &Values) -> String {
    let mut out = String::with_capacity(text.len());
    for piece in pieces(text) {
        match piece {
            Piece::Plain(plain) | Piece::Open(plain) => out.push_str(plain),
            Piece::Escape => out.push_str("${"),
            Piece::Variable("environment") => out.push_str(environment),
            Piece::Variable("runbook") => out.push_str(runbook),
            Piece::Variable(name) => match name.strip_prefix("env.").and_then(|key| values.get(key)) {
                Some(value) => out.push_str(value),
                // The secret is put in when the call is made.
                None => {
                    out.push_str("${");
                    out.push_str(name);
                    out.push('}');
                }
            },
        }
    }
    out
}

/// Every variable that does not exist, or not everywhere, or not here.
pub(crate) fn check(root: &Node, environments: &BTreeMap<String, Values>, text: &str) -> Vec<Finding> {
    let mut check = Check { environments, text, found: Vec::new() };
    for entry in root.entries() {
        match entry.key.as_str() {
            "environments" => check.literal(&entry.value),
            "credentials" => check.walk(&entry.value, true, false),
            _ => check.walk(&entry.value, false, false),
        }
    }
    check.found
}

struct Check<'a> {
    environments: &'a BTreeMap<String, Values>,
    text: &'a str,
    found: Vec<Finding>,
}

impl Check<'_> {
    /// `credential`: there is a credential whose value `${secret}` could be. `body`: and this is
    /// the one place where it may stand.
    fn walk(&mut self, node: &Node, credential: bool, body: bool) {
        match &node.value {
            Value::Text(text) => self.one(node.span, text, credential, body),
            Value::List(items) => items.iter().for_each(|item| self.walk(item, credential, false)),
            Value::Map(entries) => {
                for entry in entries {
                    let body = credential && entry.key == "body" && node.get("url").is_some();
                    self.walk(&entry.value, credential, body);
                }
            }
            _ => {}
        }
    }

    fn one(&mut self, span: Span, text: &str, credential: bool, body: bool) {
        let mut escaped = false;
        for piece in pieces(text) {
            match piece {
                Piece::Plain(plain) => {
                    if escaped && body && plain.starts_with("secret") {
                        let at = span.narrow(self.text, "$${");
                        self.found.push(
                            Finding::error("bad-variable", at, "a body cannot contain a literal `${secret`")
                                .hint("remove one `$` to insert the credential's value here"),
                        );
                    }
                }
                Piece::Open(open) => self.found.push(
                    Finding::error("bad-variable", span.narrow(self.text, open), "this `${` has no `}`")
                        .hint("write `$${` for a literal `${`"),
                ),
                Piece::Variable(name) => {
                    let at = span.narrow(self.text, &format!("${{{name}}}"));
                    self.variable(at, name, credential, body);
                }
                Piece::Escape => {}
            }
            escaped = matches!(piece, Piece::Escape);
        }
    }

    fn variable(&mut self, at: Span, name: &str, credential: bool, body: bool) {
        if name == "environment" || name == "runbook" {
            return;
        }
        if name == "secret" || name.strip_prefix("secret.").is_some_and(|part| !part.is_empty()) {
            if !body {
                let hint = if credential {
                    "use it only in the `body` of a request; programs get the value on standard input"
                } else {
                    "a custom step does not get a credential; pass it values with `${env.KEY}`"
                };
                self.found.push(
                    Finding::error("secret-here", at, "the credential's value cannot be used here")
                        .hint(hint),
                );
            }
            return;
        }
        let Some(key) = name.strip_prefix("env.") else {
            let finding = Finding::error(
                "unknown-variable",
                at,
                format!("there is no variable {}", quote_or(name, "of this name")),
            );
            let env = self.environments.values().find(|values| values.contains_key(name));
            self.found.push(match nearest(name, ["environment", "runbook", "secret"]) {
                _ if env.is_some() => finding.hint(format!("did you mean `${{env.{name}}}`?")),
                Some(near) => finding.hint(format!("did you mean `${{{near}}}`?")),
                None => finding.hint(
                    "use `${env.KEY}`, `${environment}` or `${runbook}`; write `$${` for a literal `${`",
                ),
            });
            return;
        };
        let lacking: Vec<&str> = self
            .environments
            .iter()
            .filter(|(_, values)| !values.contains_key(key))
            .map(|(name, _)| name.as_str())
            .collect();
        if lacking.is_empty() {
            return;
        }
        let all = lacking.len() == self.environments.len();
        let message = if all {
            format!("no environment has a value {}", quote_or(key, "of this name"))
        } else {
            let listed: Vec<String> = lacking.iter().take(5).map(|name| quote_or(name, "another")).collect();
            format!("the value {} is missing in {}", quote_or(key, "of this name"), listed.join(", "))
        };
        let known = self.environments.values().flat_map(|values| values.keys()).map(String::as_str);
        let hint = match nearest(key, known) {
            Some(near) if all => format!("did you mean `${{env.{near}}}`?"),
            _ => "add it to every environment: they all share the runbook".to_owned(),
        };
        self.found.push(Finding::error("unknown-variable", at, message).hint(hint));
    }

    /// Values of environments are taken as they stand.
    fn literal(&mut self, node: &Node) {
        match &node.value {
            Value::Text(text) if text.contains("${") => self.found.push(
                Finding::error(
                    "nested-variable",
                    node.span,
                    "a value of an environment cannot contain a variable",
                )
                .hint("write the value out in each environment"),
            ),
            Value::Map(entries) => entries.iter().for_each(|entry| self.literal(&entry.value)),
            Value::List(items) => items.iter().for_each(|item| self.literal(item)),
            _ => {}
        }
    }
}

fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if let Some(after) = rest.strip_prefix("$${") {
            rest = after;
            return Some(Piece::Escape);
        }
        if let Some(after) = rest.strip_prefix("${") {
            return Some(match after.split_once('}') {
                Some((name, after)) => {
                    rest = after;
                    Piece::Variable(name)
                }
                None => Piece::Open(std::mem::take(&mut rest)),
            });
        }
        let next = rest.find("${").unwrap_or(rest.len());
        // `$${` begins one before its `${`.
        let next = if rest[..next].ends_with('$') && next < rest.len() && next > 1 { next - 1 } else { next };
        let (plain, after) = rest.split_at(next);
        rest = after;
        Some(Piece::Plain(plain))
    })
}
