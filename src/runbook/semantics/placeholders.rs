//! Places of a runbook that somebody still has to fill in.

use crate::runbook::read::finding::Finding;
use crate::runbook::read::tree::{Node, Value};

/// Words that people leave where something is still missing.
const WORDS: [&str; 7] = ["REPLACE-ME", "REPLACEME", "CHANGE-ME", "CHANGEME", "FILL-ME-IN", "TODO", "FIXME"];

/// A warning for each: another environment may be complete.
pub(super) fn check(root: &Node, text: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    walk(root, text, &mut found);
    found
}

fn walk(node: &Node, source: &str, found: &mut Vec<Finding>) {
    match &node.value {
        Value::Text(text) => {
            if let Some(placeholder) = placeholder(text) {
                found.push(
                    Finding::warning(
                        "placeholder",
                        node.span.narrow(source, placeholder),
                        format!("the placeholder `{placeholder}` is not filled in"),
                    )
                    .hint("replace it with the real value; except in `summary` and `owner`, stanch refuses until then to run this outside the sandbox"),
                );
            }
        }
        Value::List(items) => items.iter().for_each(|item| walk(item, source, found)),
        Value::Map(entries) => entries.iter().for_each(|entry| walk(&entry.value, source, found)),
        _ => {}
    }
}

/// The first placeholder in a text: `<SERVICE>`, as `stanch init` writes it, or one of the usual words.
pub(crate) fn placeholder(text: &str) -> Option<&str> {
    let capital = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | ' ');
    let marked = text.match_indices('<').find_map(|(start, _)| {
        let end = start + text[start..].find('>')? + 1;
        let inner = &text[start + 1..end - 1];
        let is_one = inner.starts_with(|c: char| c.is_ascii_uppercase()) && inner.chars().all(capital);
        is_one.then(|| &text[start..end])
    });
    let word = |word: &&str| WORDS.contains(&word.replace('_', "-").as_str());
    marked.or_else(|| text.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))).find(word))
}

#[cfg(test)]
mod tests {
    use super::placeholder;

    #[test]
    fn placeholders_are_told_from_names() {
        for (text, found) in [
            ("<SERVICE>/vault", "<SERVICE>"),
            ("https://<HOST-1>.example.com/<PATH>", "<HOST-1>"),
            ("./REPLACE_ME", "REPLACE_ME"),
            ("https://CHANGEME.internal", "CHANGEME"),
            ("TODO: which team?", "TODO"),
        ] {
            assert_eq!(placeholder(text), Some(found));
        }
        for text in
            ["SERVICE", "AWS_ACCESS_KEY_ID", "a < b > c", "<html>", "<>", "x <-> Y", "TODOS", "<Service>"]
        {
            assert_eq!(placeholder(text), None, "{text}");
        }
    }
}
