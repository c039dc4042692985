//! Policies that are wrong or contradict themselves, and runbooks that keep them or do not.

use super::*;
use crate::runbook::read::tree;
use crate::runbook::{Severity, Source};

const SHIPPED: &str = include_str!("../../templates/policy.yaml");

fn checked(text: &str) -> Checked {
    let source = Source { name: "policy.yaml".into(), text: text.into() };
    check(&source, &|window| window.last.is_some_and(|last| last.to_string().starts_with("2020")))
}

/// `code line:column` of every finding.
fn listed(text: &str) -> Vec<String> {
    let found = checked(text).findings;
    found.iter().map(|found| format!("{} {}:{}", found.code, found.at.line, found.at.column)).collect()
}

#[test]
fn the_shipped_policy_is_right() {
    assert_eq!(listed(SHIPPED), Vec::<String>::new());
    let (rules, waivers) = SHIPPED.split_once("# waivers:").expect("waivers, left out");
    let whole = format!("{rules}waivers:{}", waivers.replace("#   ", "  "));
    let policy = checked(&whole).policy.expect("a policy");
    assert_eq!(policy.waivers.expect("waivers").from.len(), 2);
    let schema = jsonschema::validator_for(schema()).expect("a schema");
    for text in [SHIPPED, &whole] {
        assert!(schema.is_valid(&serde_yaml::from_str(text).expect("YAML")));
    }
}

/// What the shipped policy is made to say instead of what, and what is found then, and where.
const WRONG: [(&str, &str, &str); 26] = [
    ("revision: 1\n", "revision: 2\n", "contradiction 9:11"),
    (
        "{revision: 1, date: 2026-11-27, change: First version.}",
        "{revision: 1, date: 2026-02-30, change: x}",
        "bad-day 14:25",
    ),
    (
        "  - {revision: 1, date",
        "  - {revision: 1, date: 2026-11-28, change: x}\n  - {revision: 1, date",
        "contradiction 15:6",
    ),
    (
        "  - {revision: 1, date",
        "  - {revision: 1, date: 2026-11-01, change: x}\n  - {revision: 0, date",
        "out-of-range 15:16",
    ),
    ("most: 90d", "most: 0s", "contradiction 18:11"),
    ("most: 90d", "most: 90", "wrong-type 18:11"),
    ("critical: {revoke: 1}", "critical: {revoke: 0}", "contradiction 26:26"),
    ("critical: {revoke: 1}", "critical: {revoek: 1}", "unknown-phase 26:18"),
    ("critical: {revoke: 1}", "critical: {proof: 1}", "contradiction 26:18"),
    ("critical: {revoke: 1}", "{high: {revoke: 2}, critical: {revoke: 1}}", "contradiction 26:46"),
    ("high: 180d", "high: 30d", "contradiction 32:17"),
    ("high: 180d", "high: 0d", "bad-cadence 31:13"),
    ("high: 180d", "higher: 180d", "unknown-field 31:7"),
    ("  owners:\n", "  owners:\n    allowed: []\n", "contradiction 35:5"),
    ("    reason: a person is asked when a rotation stops at night\n", "    {}\n", "missing-field 34:3"),
    ("to: 16:00", "to: 09:00", "empty-window 39:6"),
    ("zone: Europe/Berlin}\nfreezes", "zone: Europe/Berlin, last: 2020-12-01}\nfreezes", "no-window 38:1"),
    ("last: 2027-01-03", "last: 2026-01-03", "empty-window 41:6"),
    ("last: 2027-01-03", "last: 2027-02-29", "bad-day 41:31"),
    ("zone: Europe/Berlin, reason", "zone: Europe/Berln, reason", "unknown-zone 41:49"),
    (
        "# waivers:\n#   signers: allowed_signers\n#   from: [alice@example.com, bob@example.com]\n#   within: 90d",
        "waivers: {signers: s, from: [], within: 9d}",
        "no-people 44:23",
    ),
    (
        "# waivers:\n#   signers: allowed_signers\n#   from: [alice@example.com, bob@example.com]\n#   within: 90d",
        "waivers: {signers: s, from: [\"*\"], within: 9d}",
        "principal 44:30",
    ),
    ("version: 1\n", "version: 2\n", "out-of-range 7:10"),
    ("owner: security-engineering", "owner: AKIAIOSFODNN7EXAMPLX", "literal-secret"),
    (
        "changelog:\n  - {revision: 1, date: 2026-11-27, change: First version.}",
        "changelog: []",
        "no-change 13:1",
    ),
    ("  scopes:", "  scope:", "unknown-field 20:3"),
];

#[test]
fn a_policy_that_is_wrong_or_contradicts_itself_is_found_with_its_place() {
    let mut wrong = Vec::new();
    for (from, to, finding) in WRONG {
        assert!(SHIPPED.contains(from), "{from}");
        let text = SHIPPED.replacen(from, to, 1);
        let found = listed(&text);
        if !found.iter().any(|found| found.starts_with(finding)) || checked(&text).policy.is_some() {
            wrong.push(format!("{to}: wanted {finding}, found {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(listed(""), ["empty 1:1"]);
    assert!(listed("[")[0].starts_with("yaml"), "{:?}", listed("["));
    let nothing =
        "version: 1\nrevision: 1\nowner: me\nchangelog: [{revision: 1, date: 2026-11-27, change: x}]\n";
    assert!(listed(nothing)[0].starts_with("no-rule"), "{:?}", listed(nothing));
    assert!(checked(nothing).policy.is_some(), "a warning only");
    for hostile in
        ["a: &a [*a]", "\0", "version: !x 1", "- 1", "\u{feff}", "rules: {max-ttl: []}", "changelog: {}"]
    {
        let found = checked(hostile);
        assert!(
            found.policy.is_none() && found.findings.iter().any(|f| f.severity == Severity::Error),
            "{hostile}"
        );
    }
}

const POLICY: &str = "
version: 1
revision: 1
owner: security
changelog: [{revision: 1, date: 2026-11-27, change: x}]
rules:
  max-ttl: {most: 24h, reason: short, owner: iam-team}
  scopes: {forbidden: [root], reason: narrow}
  approvals:
    by_severity: {medium: {revoke: 1}, critical: {cutover: 1, revoke: 2}}
    break_glass: false
    reason: four eyes
  cadence: {by_severity: {high: 90d}, reason: often}
  owners: {allowed: [billing, payments], reason: answers}
";

/// A runbook that keeps every rule.
const KEEPS: &str = "
version: 1
name: kept
owner: billing
severity: critical
cadence: 0 9 1 * * Europe/Berlin
environments: {production: {}}
connections: {vault: {type: vault}}
credentials:
  token:
    issuer: {type: vault-token, connection: vault, policies: [read], ttl: 12h}
    scope: {max_ttl: 24h, policies: [read], audience: app}
approvals:
  signers: s
  roles: {all: [a, b, c]}
  phases: {cutover: {count: 1, from: [all]}, revoke: {count: 3, from: [all]}}
";

fn broken(runbook: &str) -> Vec<String> {
    let policy = checked(POLICY).policy.unwrap_or_else(|| panic!("{:?}", listed(POLICY)));
    let tree = tree::parse(runbook).expect("YAML");
    let found = violations(&policy, &tree);
    found
        .iter()
        .map(|v| format!("{} {}:{}: {} ({})", v.rule.name(), v.at.line, v.at.column, v.message, v.owner))
        .collect()
}

#[test]
fn a_runbook_that_keeps_every_rule_is_let_through() {
    assert_eq!(broken(KEEPS), Vec::<String>::new());
}

/// What the runbook is made to say, and what it breaks then, at which place.
const BREAKS: [(&str, &str, &str); 21] = [
    ("ttl: 12h", "ttl: 25h", "max-ttl 11:75: `ttl` is 1d1h, and the policy allows at most 1d (iam-team)"),
    ("max_ttl: 24h", "max_ttl: 25h", "max-ttl 12:22: `max_ttl` is 1d1h"),
    (
        "type: vault-token, connection: vault, policies: [read], ttl: 12h}\n    scope: {max_ttl: 24h, ",
        "type: approle-secret-id}\n    scope: {",
        "max-ttl 10:3: the new credential may live forever",
    ),
    (
        "policies: [read], ttl",
        "policies: [read, \"app-*\"], ttl",
        "scopes 11:69: this is a wildcard (security)",
    ),
    ("policies: [read], audience", "policies: [root], audience", "scopes 12:38: `root` is forbidden"),
    ("audience: app", "audience: \"*\"", "scopes 12:55:"),
    (
        "revoke: {count: 3",
        "revoke: {count: 1",
        "approvals 16:62: revoke has 1 of the 2 approvals that severity critical needs",
    ),
    ("cutover: {count: 1, from: [all]}, ", "", "approvals 13:1: cutover has 0 of the 1"),
    (
        "approvals:\n  signers: s\n  roles: {all: [a, b, c]}\n  phases: {cutover: {count: 1, from: [all]}, revoke: {count: 3, from: [all]}}",
        "summary: x",
        "approvals 3:1: cutover has 0",
    ),
    ("severity: critical\n", "", ""),
    (
        "  signers: s\n",
        "  signers: s\n  break_glass: true\n",
        "approvals 15:3: `--break-glass` may not replace",
    ),
    (
        "0 9 1 * *",
        "0 9 1 1 *",
        "cadence 6:10: up to 366 days pass between two rotations, and severity critical allows 90",
    ),
    (
        "cadence: 0 9 1 * * Europe/Berlin\n",
        "",
        "cadence 5:1: there is no cadence, and severity critical needs one of at most 90 days",
    ),
    ("cadence: 0 9 1 * * Europe/Berlin", "cadence: 91d", "cadence 6:10: up to 91 days"),
    ("cadence: 0 9 1 * * Europe/Berlin", "cadence: 90d", ""),
    ("severity: critical\ncadence: 0 9 1 * * Europe/Berlin", "severity: low", ""),
    ("owner: billing\n", "", "owners 3:1: the runbook names no owner"),
    ("owner: billing", "owner: \" \"", "owners 4:1: the runbook names no owner"),
    ("owner: billing", "owner: sales", "owners 4:8: `sales` is not an owner; owners are: billing, payments"),
    ("max_ttl: 24h, ", "", ""),
    (
        "type: vault-token, connection: vault, policies: [read], ttl: 12h}\n    scope: {max_ttl: 24h, ",
        "type: iam-access-key}\n    scope: {",
        "",
    ),
];

#[test]
fn each_broken_rule_is_found_at_its_place_with_its_owner() {
    let mut wrong = Vec::new();
    for (from, to, says) in BREAKS {
        assert!(KEEPS.contains(from), "{from}");
        let found = broken(&KEEPS.replacen(from, to, 1));
        let fits = match says {
            "" => found.is_empty(),
            says => found.iter().any(|found| found.starts_with(says)),
        };
        if !fits {
            wrong.push(format!("{to}: wanted `{says}`, found {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_refusal_names_rule_reason_and_owner() {
    let policy = checked(POLICY).policy.expect("a policy");
    let tree = tree::parse(&KEEPS.replace("ttl: 12h", "ttl: 25h")).expect("YAML");
    let [violation] = &violations(&policy, &tree)[..] else { panic!("one") };
    assert_eq!(
        violation.words(),
        "rule `max-ttl`: `ttl` is 1d1h, and the policy allows at most 1d. Reason: short. Owner: iam-team"
    );
    let finding = violation.finding();
    assert_eq!((finding.code, finding.severity), ("policy-max-ttl", Severity::Error));
    assert!(finding.message.ends_with("(rule `max-ttl`)"), "{finding:?}");
    assert_eq!(finding.hint.as_deref(), Some("reason: short. Correct it, or ask iam-team for a waiver"));
}
