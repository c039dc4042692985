//! Every kind of issuer and store is complete: a page, a scaffold, a shipped runbook, and a test that holds it to
//! the promises of its trait. `docs/kinds.md` is made from the lists, the schema and the pages.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use serde_json::Value;
use stanch::kind::spec::Expires;
use stanch::kind::{FAMILIES, ISSUERS, PREFIXES, STORES};
use stanch::runbook::{Severity, Source, check, schema};

use crate::docs::{files, read, root};

/// What each page answers, in this order, each in an item `- **QUESTION**: …`.
const QUESTIONS: [&str; 7] = [
    "What stanch creates",
    "How many can coexist",
    "Disabling",
    "What is irreversible",
    "How long it takes",
    "Who still uses it",
    "What outlives it",
];

/// The types of the issuers and of the stores in runbooks.
fn used<'a>(runbooks: impl Iterator<Item = &'a str>) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut issuers, mut stores) = (BTreeSet::new(), BTreeSet::new());
    for text in runbooks {
        let checked = check(&Source { name: "a runbook".into(), text: text.to_owned() });
        let errors: Vec<_> = checked.findings.iter().filter(|f| f.severity == Severity::Error).collect();
        let json = checked.runbook.unwrap_or_else(|| panic!("{errors:#?}")).json();
        for credential in json["credentials"].as_object().expect("credentials").values() {
            let name = |node: &Value| node["type"].as_str().expect("a type").to_owned();
            issuers.insert(name(&credential["issuer"]));
            stores.extend(credential["stores"].as_array().expect("stores").iter().map(name));
        }
    }
    (issuers, stores)
}

/// The questions that a page does not answer.
fn unanswered(page: &str) -> Vec<String> {
    let mut rest = page;
    let mut missing = Vec::new();
    for question in QUESTIONS {
        match rest.split_once(&format!("- **{question}**: ")) {
            Some((_, after)) => rest = after,
            None => missing.push(format!("its page does not answer *{question}*, in its place")),
        }
    }
    missing
}

/// What every kind needs, and where it is looked for.
struct Around {
    /// The sources of the tests, without comments and white space.
    tests: String,
    /// Those of the whole rotations.
    worlds: String,
}

impl Around {
    fn read() -> Self {
        let code = |text: String| -> String {
            let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            lines.flat_map(str::split_whitespace).collect()
        };
        let tests = files("tests/it", "rs").iter().map(|path| code(read(path))).collect();
        Self { tests, worlds: read(&root().join("tests/it/worlds.rs")) }
    }

    fn lacks(&self, role: &str, name: &str, page: &str, shipped: &BTreeSet<String>) -> Vec<String> {
        let mut lacks = unanswered(page);
        if !self.tests.contains(&format!("{role}_keeps_its_promises(\"{name}\",")) {
            lacks.push(format!("no test calls `{role}_keeps_its_promises` for it"));
        }
        // The sandbox is in every rotation that needs no server.
        let world = |after: &char| self.worlds.contains(&format!("type: {name}{after}"));
        if name != "sandbox" && ![',', '\n'].iter().any(world) {
            lacks.push("no world in tests/it/worlds.rs rotates it".into());
        }
        if !shipped.contains(name) {
            lacks.push("no runbook in runbooks/ has it".into());
        }
        lacks.into_iter().map(|what| format!("{role} {name}: {what}")).collect()
    }
}

#[test]
fn nothing_that_belongs_to_a_kind_is_missing() {
    let texts: Vec<String> = files("runbooks", "yaml").iter().map(|path| read(path)).collect();
    let (issuers, stores) = used(texts.iter().map(String::as_str));
    let around = Around::read();
    let mut missing = Vec::new();
    for kind in STORES {
        missing.extend(around.lacks("store", kind.name, kind.page, &stores));
    }
    for kind in ISSUERS {
        missing.extend(around.lacks("issuer", kind.name, kind.page, &issuers));
        let file = format!("templates/runbooks/{}.yaml", kind.name);
        if fs::read_to_string(root().join(&file)).ok().as_deref() != Some(kind.scaffold) {
            missing.push(format!("issuer {}: its scaffold is not {file}", kind.name));
        }
        let described = kind.scaffold.starts_with("# ");
        if !described || !used([kind.scaffold].into_iter()).0.contains(kind.name) {
            missing.push(format!(
                "issuer {}: its scaffold does not begin with what it does, or use it",
                kind.name
            ));
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert_eq!(files("templates/runbooks", "yaml").len(), ISSUERS.len(), "a scaffold of no kind");
}

/// What replaces nothing is no issuer of a runbook, and is described all the same.
#[test]
fn no_runbook_can_name_a_prefix() {
    for kind in PREFIXES {
        assert!(kind.page.contains(kind.name) && !schema().to_string().contains(kind.name), "{}", kind.name);
        let text = read(&root().join("runbooks/vault-token-in-kv2.yaml"));
        let text = text.replace("type: vault-token", &format!("type: {}", kind.name));
        let findings = check(&Source { name: "a runbook".into(), text }).findings;
        assert!(
            findings.iter().any(|f| f.severity == Severity::Error && f.message.contains(kind.name)),
            "{findings:?}"
        );
    }
}

/// A field that names a connection is an `On<F>`: only those are held against `connections`.
#[test]
fn every_connection_field_says_its_type() {
    fn walk(node: &Value, found: &mut Vec<Value>) {
        match node {
            Value::Object(fields) => {
                found.extend(fields.get("properties").and_then(|p| p.get("connection")).cloned());
                fields.values().for_each(|inner| walk(inner, found));
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(&schema(), &mut found);
    assert!(found.len() >= 6, "{found:?}");
    for field in found {
        let family = field["x-connection"].as_str();
        assert!(FAMILIES.iter().any(|kind| Some(kind.name) == family), "{field}");
    }
}

/// A description on one line.
fn line(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().replace('\n', " ")
}

/// A kind's chapter: what it is, its fields, its page.
fn chapter(variant: &Value, name: &str, page: &str) -> String {
    let required: Vec<&str> =
        variant["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut text =
        format!("### `{name}`\n\n{}\n\n| field | | meaning |\n| --- | --- | --- |\n", line(variant));
    for (field, schema) in variant["properties"].as_object().expect("fields") {
        let needed = match &schema["default"] {
            _ if field == "type" => continue,
            _ if required.contains(&field.as_str()) => "required".to_owned(),
            Value::String(default) => format!("default: `{default}`"),
            default @ (Value::Bool(_) | Value::Number(_)) => format!("default: `{default}`"),
            _ => "optional".to_owned(),
        };
        writeln!(text, "| `{field}` | {needed} | {} |", line(schema)).expect("text");
    }
    format!("{text}\n{page}\n")
}

fn document() -> String {
    let schema = schema();
    let variant = |of: &str, name: &str| {
        let variants = schema["$defs"][of]["oneOf"].as_array().expect("variants");
        let named = |variant: &&Value| variant["properties"]["type"]["const"] == name;
        variants.iter().find(named).unwrap_or_else(|| panic!("the schema has no {of} {name}")).clone()
    };
    let mut text = "# Kinds

<!-- Made from the lists in src/kind/mod.rs, the schema, and the page of each kind. To make it again:
     STANCH_APPROVE=1 cargo test --test it kinds:: -->

What a runbook can name under `issuer` and `stores`. [Writing runbooks](runbook.md) describes what is around them, and the types of connections. Blocks marked
`yaml fragment` are top-level sections that replace the same sections of the first runbook there. `stanch init --kind TYPE` writes a commented runbook
for an issuer.

## Issuers

| type | parts of the credential | expires |
| --- | --- | --- |
"
    .to_owned();
    for kind in ISSUERS {
        let expires = match kind.scope.expires {
            Expires::Always => "always",
            Expires::WithTtl => "if `ttl` is set",
            Expires::Never => "never",
        };
        let parts: Vec<String> = kind.parts.iter().map(|part| format!("`{part}`")).collect();
        writeln!(text, "| `{}` | {} | {expires} |", kind.name, parts.join(", ")).expect("text");
    }
    text.push('\n');
    for kind in ISSUERS {
        text.push_str(&chapter(&variant("Issuer", kind.name), kind.name, kind.page));
    }
    text.push_str("## Stores\n\n");
    for kind in STORES {
        text.push_str(&chapter(&variant("Store", kind.name), kind.name, kind.page));
    }
    let prefixes: Vec<String> = PREFIXES.iter().map(|kind| format!("`{}`", kind.name)).collect();
    writeln!(text, "## For `stanch revoke` alone\n\n### {}\n", prefixes.join(" and ")).expect("text");
    // They share one folder, and one page.
    let pages: BTreeSet<&str> = PREFIXES.iter().map(|kind| kind.page).collect();
    text.extend(pages);
    text.trim_end().to_owned() + "\n"
}

#[test]
fn the_document_of_the_kinds_is_what_the_kinds_say() {
    let (path, made) = (root().join("docs/kinds.md"), document());
    if std::env::var_os("STANCH_APPROVE").is_some() {
        #[expect(clippy::disallowed_methods, reason = "approved by hand")]
        fs::write(&path, &made).expect("docs/kinds.md");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == made,
        "docs/kinds.md is old: STANCH_APPROVE=1 cargo test --test it kinds:: writes it again"
    );
}
