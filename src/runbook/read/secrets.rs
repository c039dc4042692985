//! Secrets that somebody wrote into a runbook. They are found by their shape in the raw text
//! (values, keys and comments alike), and by the name of the field that holds them.

use std::ops::Range;

use super::finding::{Finding, LITERAL_SECRET};
use super::span::Span;
use super::tree::{Node, Value};
use crate::shape;

/// Findings of one kind that a file may have; the rest are masked as well, but not listed.
const MAX_LISTED: usize = 100;

/// Where secrets of a known shape stand in a text.
pub(crate) fn shapes(text: &str) -> Vec<Range<usize>> {
    shape::certain(text)
}

/// Whether a person's own words, such as a reason, hold what looks like a secret: a known shape, a word
/// that is like a generated key, or `password=…`. Ids of access keys and of requests may stand there.
pub fn in_words(text: &str) -> bool {
    let public = |range: &Range<usize>| ["AKIA", "ASIA"].iter().any(|id| text[range.clone()].starts_with(id));
    let quote = |c: char| c.is_ascii_punctuation() && !matches!(c, '+' | '/' | '=');
    let mut named = false;
    shapes(text).iter().any(|range| !public(range))
        || text.split([' ', '\t', '\n', '=', ':', ',', ';']).map(|word| word.trim_matches(quote)).any(
            |word| {
                let secret = named && guarded(word) && !shapes(word).iter().any(public) || aws_secret(word);
                named = names_secret(word) || named && word.is_empty();
                secret
            },
        )
}

/// Findings for secrets of a known shape in the raw text.
pub(crate) fn in_text(text: &str) -> Vec<Finding> {
    shapes(text).into_iter().take(MAX_LISTED).map(|range| finding(Span::of(text, range))).collect()
}

/// Findings for secrets that the raw text does not show: in a field named like one, or spelled
/// with escapes.
pub(crate) fn in_tree(root: &Node) -> Vec<Finding> {
    let mut found = Vec::new();
    walk(root, Kept::Nothing, &mut found);
    found
}

/// Whether a short word may be quoted in a message.
pub(crate) fn quotable(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    !text.is_empty()
        && text.len() <= 40
        && text.chars().all(plain)
        && shapes(text).is_empty()
        && !(text.len() >= 16
            && classes(text) >= 2
            && entropy(text) >= 3.5
            && text.chars().any(|c| c.is_ascii_digit()))
}

/// What the name of a field says of its value.
#[derive(Clone, Copy, PartialEq)]
enum Kept {
    Nothing,
    /// A secret: `password`, `api_key`.
    Secret,
    /// The name of one: `secret` of Secrets Manager, `fields`.
    Name,
}

fn walk(node: &Node, kept: Kept, found: &mut Vec<Finding>) {
    match &node.value {
        Value::Text(text) => {
            let secret = !shapes(text).is_empty()
                || kept == Kept::Secret && guarded(text)
                || kept != Kept::Name && aws_secret(text);
            if secret {
                found.push(finding(node.span));
            }
        }
        Value::List(items) => items.iter().for_each(|item| walk(item, kept, found)),
        Value::Map(entries) => {
            let names = node.get("connection").is_some();
            for entry in entries {
                if !shapes(&entry.key).is_empty() {
                    found.push(finding(entry.at));
                }
                let kept = if kept == Kept::Name || entry.key == "fields" || names && entry.key == "secret" {
                    Kept::Name
                } else if names_secret(&entry.key) {
                    Kept::Secret
                } else {
                    Kept::Nothing
                };
                walk(&entry.value, kept, found);
            }
        }
        _ => {}
    }
}

fn finding(at: Span) -> Finding {
    Finding::error(LITERAL_SECRET, at, "the runbook contains a secret; stanch refuses it and does not repeat it here")
        .hint(
            "remove the secret and treat it as leaked: runbooks are reviewed, shared and kept. stanch takes tokens and keys from the environment, like the server's own tools",
        )
}

/// Whether a field's name says that its value is a secret.
fn names_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    [
        "password",
        "passwd",
        "passphrase",
        "secret",
        "token",
        "api_key",
        "apikey",
        "access_key",
        "private_key",
        "credential",
    ]
    .iter()
    .any(|word| key == *word || key.ends_with(&format!("_{word}")))
}

/// Whether a text in such a field looks like a value, not like a name.
fn guarded(text: &str) -> bool {
    let name = text.contains("${") || text.contains('/') || text.starts_with("arn:");
    !name
        && text.len() >= 8
        && !text.contains(char::is_whitespace)
        && classes(text) >= 2
        && entropy(text) >= 2.5
        && text.chars().any(|c| !c.is_ascii_lowercase() && !matches!(c, '-' | '_' | '.'))
}

/// Whether a whole text has the shape of an AWS secret access key.
fn aws_secret(text: &str) -> bool {
    text.len() == 40
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/'))
        && classes(text) >= 3
        && entropy(text) >= 4.3
}

/// How many of: lower case, upper case, digits, others.
fn classes(text: &str) -> usize {
    let has = |test: fn(&char) -> bool| usize::from(text.chars().any(|c| test(&c)));
    has(char::is_ascii_lowercase)
        + has(char::is_ascii_uppercase)
        + has(char::is_ascii_digit)
        + has(|c| !c.is_ascii_alphanumeric())
}

/// Shannon entropy in bits a byte.
fn entropy(text: &str) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in text.bytes() {
        counts[usize::from(byte)] += 1;
    }
    let total = f64::from(u32::try_from(text.len()).unwrap_or(u32::MAX));
    counts
        .iter()
        .filter(|&&count| count > 0)
        .map(|&count| {
            let share = f64::from(count) / total;
            -share * share.log2()
        })
        .sum()
}

/// Masks whatever looks like a secret in the findings' own words.
pub(crate) fn redact(findings: &mut [Finding]) {
    for finding in findings {
        mask(&mut finding.message);
        if let Some(hint) = &mut finding.hint {
            mask(hint);
        }
    }
}

fn mask(text: &mut String) {
    for range in shapes(text).into_iter().rev() {
        text.replace_range(range, "***");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runbook::read::tree;

    #[test]
    fn every_pattern_compiles_and_finds_its_kind() {
        for secret in [
            "AKIAIOSFODNN7EXAMPLE",
            "ASIAIOSFODNN7EXAMPLE",
            "hvs.CAESIJ00000000000000000",
            "hvb.AAAAAQ0000000000000000",
            "s.abcdefghijABCDEFGHIJ1234",
            "b.AAAAAQabcdefghijABCDEFGHIJ",
            "ghp_0123456789abcdefghijABCDEFGHIJ012345",
            "github_pat_11AAAAAAA0123456789ab",
            "glpat-abcdefghij0123456789",
            "xoxb-123456789012-abcdef",
            concat!("sk_", "live_0123456789abcdef"),
            "npm_0123456789abcdefghijABCDEFGHIJ0123",
            "AIzaSyA0123456789abcdefghijABCDEFGHIJ01",
            "SG.0123456789abcdef0.0123456789abcdef0",
            "AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQ",
            "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----",
            "-----BEGIN EC PRIVATE KEY-----\nabc",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2ln",
        ] {
            for text in [secret.to_owned(), format!("key: {secret}"), format!("# '{secret}'")] {
                assert_eq!(shapes(&text).len(), 1, "{text}");
            }
        }
        let url = "url: https://user:pa55word@host/x";
        assert_eq!(shapes(url).into_iter().map(|range| &url[range]).collect::<Vec<_>>(), ["pa55word"]);
    }

    #[test]
    fn a_reason_may_name_things_and_hold_no_secret() {
        for text in [
            "leaked token hvs.CAESIJ00000000000000000 in the log",
            "it was 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY'",
            "password=hunter2-Horse was seen",
            "db_password: \"hunter2-Horse\"",
            "see https://user:pa55word@host/x",
            "J9fQv2Lr8TzXk4WmB7NcPd3HsY6gAe1UoR5iKt0q",
        ] {
            assert!(in_words(text), "{text}");
        }
        for text in [
            "INC-4711: the token leaked on 2026-11-26; see https://wiki/incidents/4711#x",
            "key AKIAIOSFODNN7EXAMPLE is gone, request 0b2f4c9e-7f58-4d8a-9a55-1f2a3b4c5d6e",
            "token: leaked, password rotated at 14:05",
            "version 7f3c2a is AWSCURRENT (aws secretsmanager list-secret-version-ids), accessor 0fA9bcDeFgHiJkLmNoPqRsTu",
            "run app-token-20261126-141500-ab12cd34; sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ] {
            assert!(!in_words(text), "{text}");
        }
    }

    #[test]
    fn names_and_addresses_are_no_secrets() {
        for text in [
            "secret: prod/payments/api",
            "secret: arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/api-AbCdEf",
            "field: token",
            "token: access_token",
            "connection: vault\nsecret: Payments-API-2024-v2",
            "fields: {secret_access_key: AWS_SECRET_ACCESS_KEY, token: Token2Name}",
            "url: https://user:${env.x}@host/",
            "url: https://host:8443/a@b",
            "password: ${env.db}",
            "path: apps.abcdefghijklmnopqrstuvwxyz",
            "sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "commit: da39a3ee5e6b4b0d3255bfef95601890afd80709",
        ] {
            assert!(shapes(text).is_empty(), "{text}");
            assert_eq!(in_tree(&tree::parse(text).unwrap()), [], "{text}");
        }
    }

    #[test]
    fn a_field_named_like_a_secret_holds_none() {
        for text in [
            "db_password: hunter2-Horse",
            "api-key: 8f14e45fceea167a5a36dedd4bea2543",
            "deep: [{client_secret: Zm9vYmFyYmF6cXV4MTIz}]",
            "any: wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        ] {
            assert_eq!(in_tree(&tree::parse(text).unwrap()).len(), 1, "{text}");
        }
    }
}
