//! Tests of the layer as a whole: shipped files, wrong files, hostile files.

mod properties;

use std::path::{Path, PathBuf};

use super::*;
use crate::domain::Period;
use crate::kind::random::Random;
use crate::kind::spec::CONNECTION;
use crate::kind::vault::kv2::Kv2;
use crate::runbook::read::tree;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "yaml"));
    files.sort();
    assert!(!files.is_empty(), "{folder}");
    files
}

fn shipped() -> Vec<PathBuf> {
    [files("runbooks"), files("templates/runbooks")].concat()
}

fn read(path: &Path) -> Source {
    let mut source = Source::read(path).unwrap();
    source.name = path.strip_prefix(root()).unwrap().display().to_string();
    source
}

#[test]
fn shipped_files_pass() {
    for path in shipped() {
        let source = read(&path);
        let checked = check(&source);
        let starter = path.starts_with(root().join("templates"));
        let shown = render(&checked.findings, &source, false, 100);
        let missing = |finding: &&Finding| finding.code == "placeholder";
        let others = checked.findings.iter().filter(|finding| !missing(finding));
        assert!(others.clone().all(|finding| finding.severity == Severity::Note), "{shown}");
        let filled_in = !starter || path.ends_with("sandbox.yaml");
        assert_eq!(checked.findings.iter().any(|finding| missing(&finding)), !filled_in, "{shown}");
        assert!(starter || checked.findings.is_empty(), "{shown}");
        let template = checked.runbook.unwrap();
        for environment in template.environments() {
            template.instantiate(environment).unwrap();
        }
    }
}

/// `code line:column` of every finding, in order.
fn listed(checked: &Checked) -> Vec<String> {
    checked
        .findings
        .iter()
        .map(|finding| format!("{} {}:{}", finding.code, finding.at.line, finding.at.column))
        .collect()
}

/// What a wrong file says of itself, in `#: code line:column` lines at its end.
fn expected(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.strip_prefix("#: ")).map(str::to_owned).collect()
}

#[test]
fn wrong_files_are_found_out() {
    let mut wrong = String::new();
    for path in files("tests/runbooks/bad") {
        let source = read(&path);
        let checked = check(&source);
        let (found, wanted) = (listed(&checked), expected(&source.text));
        assert!(checked.runbook.is_none() || checked.errors() == 0);
        if found != wanted || wanted.is_empty() {
            let lines: Vec<String> = found.iter().map(|line| format!("#: {line}")).collect();
            wrong += &format!(
                "{}\n{}\n{}\n",
                source.name,
                render(&checked.findings, &source, false, 120),
                lines.join("\n")
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_kind_of_finding_has_a_wrong_file() {
    // These need more than a small file; `hostile_files_give_findings_and_little_work` has them. And
    // `unreadable` guards against the check and the model disagreeing, which no file may bring about.
    // What is over depends on the day on which it is read (`tests/it/windows.rs`).
    let elsewhere = ["too-large", "too-many", "too-complex", "more", "unreadable", "past-window", "x"];
    let made = regex_lite::Regex::new(r#"(?:error|warning|note)\(\s*"([a-z-]+)""#).unwrap();
    let wanted: Vec<String> =
        files("tests/runbooks/bad").iter().flat_map(|path| expected(&read(path).text)).collect();
    let mut sources = Vec::new();
    for folder in ["src/runbook", "src/runbook/semantics"] {
        let entries = std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        sources.extend(entries.filter(|path| path.is_file()));
    }
    for path in sources {
        let text = std::fs::read_to_string(&path).unwrap();
        for code in made.captures_iter(&text).map(|captures| captures[1].to_owned()) {
            let known = wanted.iter().any(|line| line.split(' ').next() == Some(&code));
            assert!(known || elsewhere.contains(&code.as_str()), "{}: {code}", path.display());
        }
    }
}

/// The findings that the schema alone gives rise to.
const STRUCTURAL: [&str; 9] = [
    "unknown-field",
    "missing-field",
    "wrong-type",
    "not-one-of",
    "one-of",
    "out-of-range",
    "pattern",
    "too-few",
    "empty",
];

fn json(source: &Source) -> Option<serde_json::Value> {
    tree::parse(&source.text).ok().map(|tree| tree.to_json())
}

#[test]
fn the_schema_accepts_what_the_check_accepts() {
    let validator = jsonschema::draft202012::new(&schema()).unwrap();
    for path in shipped() {
        let value = json(&read(&path)).unwrap();
        let errors: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", path.display());
    }
    for path in files("tests/runbooks/bad") {
        let source = read(&path);
        let Some(value) = json(&source) else { continue };
        let checked = check(&source);
        let structural = checked.findings.iter().any(|finding| STRUCTURAL.contains(&finding.code));
        // A period has a pattern, and past that must be one.
        let period = checked.findings.iter().any(|finding| finding.code == "bad-period");
        let valid = validator.is_valid(&value);
        assert!(
            valid != structural || !valid && period,
            "{}: schema says {valid}, check says {}",
            source.name,
            !structural
        );
    }
}

#[test]
fn the_schema_uses_only_keywords_that_the_check_knows() {
    const KNOWN: [&str; 21] = [
        "$schema",
        "$id",
        "$defs",
        "$ref",
        "title",
        "description",
        "default",
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "minItems",
        "minimum",
        "maximum",
        "pattern",
        "format",
        "const",
        "enum",
        "oneOf",
        CONNECTION,
    ];
    fn walk(schema: &serde_json::Value, names: bool) {
        match schema {
            serde_json::Value::Object(fields) => {
                for (name, inner) in fields {
                    assert!(names || KNOWN.contains(&name.as_str()) || name == "anyOf", "{name}");
                    if !names
                        && let Some(pattern) = fields.get("pattern").and_then(|pattern| pattern.as_str())
                    {
                        regex_lite::Regex::new(pattern).unwrap();
                    }
                    if name != "default" || names {
                        walk(inner, !names && matches!(name.as_str(), "properties" | "$defs"));
                    }
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| walk(item, false)),
            _ => {}
        }
    }
    walk(&schema(), false);
}

/// Documents in which YAML readers differ most easily.
const TRICKY: [&str; 12] = [
    "a: &one {x: 1, y: [1, 2]}\nb: *one\nc: {<<: *one, x: 2}\n",
    "a: &l [1, &n {k: v}]\nb: [*l, *n]\n",
    "base: &base\n  a: 1\n  b: two\nmore: &more {c: 3}\nboth:\n  <<: [*base, *more]\n  b: three\n",
    "literal: |\n  one\n    two\n\n  three\nfolded: >-\n  one\n  two\n\n  three\nkept: |+\n  end\n\n",
    "single: 'it''s'\ndouble: \"tab\\tquote\\\" \\u00e9 \\x41\"\nplain: a # comment\n",
    "flow: {a: [1, 2.5, -3], \"b\": null, c: ~, d: }\n",
    "bools: [true, false, True, FALSE, yes, no, on, off]\n",
    "numbers: [0, 0x1f, 0o17, 1e3, 1.5, -0.0, +7]\n",
    "strings: [007, 1_000, 12:30, 2024-01-01, '12', \"true\"]\n",
    "- - a\n  - b\n-\n  - c\n- {}\n- []\n",
    "? complex\n: value\n? other\n",
    "\u{feff}# with a mark\n\"key with spaces\": \u{fc}n\u{ef}c\u{f6}de\r\nnext: line\r\n",
];

#[test]
fn reads_the_same_values_as_another_reader() {
    let mut texts: Vec<String> = TRICKY.iter().map(|text| (*text).to_owned()).collect();
    texts.extend([shipped(), files("tests/runbooks/bad")].concat().iter().map(|path| read(path).text));
    let mut compared = 0;
    for text in texts {
        let Ok(tree) = tree::parse(&text) else { continue };
        let mut other: serde_yaml::Value = serde_yaml::from_str(text.trim_start_matches('\u{feff}')).unwrap();
        other.apply_merge().unwrap();
        assert_eq!(tree.to_json(), serde_json::to_value(other).unwrap(), "{text}");
        compared += 1;
    }
    assert!(compared > 35, "{compared}");
    for text in TRICKY {
        tree::parse(text).unwrap();
    }
}

#[test]
fn places_are_where_things_stand() {
    let text = "\u{feff}# \u{e9}\nname: b\u{e9} # x\nlist:\n  - 'one'\n  - k\u{e9}y: \"two\"\n";
    let tree = tree::parse(text).unwrap();
    let at = |span: Span| (span.line, span.column, &text[span.start..span.end]);
    assert_eq!(at(tree.entry("name").unwrap().at), (2, 1, "name"));
    assert_eq!(at(tree.get("name").unwrap().span), (2, 7, "b\u{e9}"));
    let items = tree.get("list").unwrap().items();
    assert_eq!(at(items[0].span), (4, 5, "'one'"));
    assert_eq!(at(items[1].entries()[0].value.span), (5, 10, "\"two\""));
}

fn named(text: impl Into<String>) -> Source {
    Source { name: "hostile.yaml".to_owned(), text: text.into() }
}

#[test]
fn hostile_files_give_findings_and_little_work() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let before = format!("*a{}, ", level - 1).repeat(10);
        bomb += &format!("a{level}: &a{level} [{}]\n", before.trim_end_matches(", "));
    }
    let mut deep_blocks = String::new();
    for level in 0..1000 {
        deep_blocks += &format!("{}k:\n", " ".repeat(level));
    }
    let one_value = format!("v: &v {{a: b}}\nl: [{}]\n", "*v, ".repeat(5000));
    let big_value = "x".repeat(2000);
    let expanding = format!(
        "version: 1\nname: e\nenvironments: {{p: {{v: {big_value}}}}}\ncredentials: {{}}\nowner: \"{}\"\n",
        "${env.v}".repeat(20_000)
    );
    let many_environments: String = (0..2000).map(|n| format!("  e{n}: {{}}\n")).collect();
    for (what, text, code) in [
        ("bomb", bomb, "too-complex"),
        ("deep flow", "[".repeat(10_000), "too-complex"),
        ("deep map", "{a: ".repeat(10_000), "too-complex"),
        ("deep blocks", deep_blocks, "too-complex"),
        ("aliases", one_value, "too-complex"),
        ("2 MiB", "a: b\n".repeat(2 * 1024 * 1024 / 5), "too-large"),
        ("expansion", expanding, "too-large"),
        ("environments", format!("version: 1\nenvironments:\n{many_environments}"), "too-many"),
        ("unknown fields", (0..60_000).map(|n| format!("f{n}: 1\n")).collect(), "unknown-field"),
        ("secrets", "a: AKIAIOSFODNN7EXAMPLE\n".repeat(10_000), "literal-secret"),
        (
            "many names",
            format!(
                "version: 1\nname: n\nenvironments: {{a: {{}}, b: {{}}}}\nconnections:\n{}credentials:\n  k:\n    stores:\n{}",
                (0..5000).map(|n| format!("  connection-{n}: {{type: vault}}\n")).collect::<String>(),
                (0..5000)
                    .map(|n| format!("    - {{type: kv2, connection: other-{n}, path: p}}\n"))
                    .collect::<String>(),
            ),
            "unknown-connection",
        ),
        ("one line", format!("[{}]", "1,".repeat(300_000)), "too-complex"),
    ] {
        #[expect(clippy::disallowed_methods, reason = "this measures the check itself")]
        let start = std::time::Instant::now();
        let source = named(text);
        let checked = check(&source);
        let shown = render(&checked.findings, &source, false, 80);
        assert!(checked.findings.iter().any(|finding| finding.code == code), "{what}: {shown}");
        assert!(checked.findings.len() <= MAX_FINDINGS + 1, "{what}");
        assert!(checked.runbook.is_none(), "{what}");
        // Generous: the machine may be busy and this is a debug build.
        assert!(start.elapsed().as_secs() < 20, "{what} took {:?}", start.elapsed());
    }
}

#[test]
fn warnings_never_hide_an_error() {
    let probes = "      - http: {url: \"https://h\"}\n".repeat(MAX_FINDINGS + 50);
    let text = format!(
        "version: 1\nname: n\nenvironments: {{a: {{}}}}\ncredentials:\n  k:\n    issuer: {{type: random}}\n    \
         stores: [{{type: kv2, connection: none, mount: m, path: p, field: f}}]\n    accepts:\n{probes}"
    );
    let checked = check(&named(text));
    assert_eq!((checked.errors(), checked.findings[0].code), (1, "unknown-connection"));
    assert!(checked.runbook.is_none());
}

#[test]
fn aliases_are_counted_by_what_they_expand_to() {
    let text = |uses: usize| {
        let hundred = "x, ".repeat(100);
        let level = "*a, ".repeat(50);
        format!("a: &a [{hundred}]\nb: &b [{level}]\nc: [{}]\n", "*b, ".repeat(uses))
    };
    assert!(tree::parse(&text(1)).is_ok());
    let finding = tree::parse(&text(10)).unwrap_err();
    assert_eq!((finding.code, finding.at.line), ("too-complex", 3));
    assert!(finding.message.contains("behind its aliases"), "{}", finding.message);
}

#[test]
fn what_is_missing_is_shown_as_it_is_written() {
    let text = "version: 1\nname: x\nenvironments: {sandbox: {}}\ncredentials:\n  key:\n    \
        issuer: {type: vault-token, policies: [p]}\n    scope: {max_ttl: 1h}\n    \
        stores: [{type: kv2, connection: vault, mount: secret, path: a, field: t}]\n";
    let checked = check(&Source { name: "x".into(), text: text.into() });
    let hints: Vec<&str> = checked.findings.iter().filter_map(|finding| finding.hint.as_deref()).collect();
    for wanted in ["write `ttl: 24h`.", "write `connection: NAME`.", "`connections: {NAME: {type: vault}}`"] {
        assert!(hints.iter().any(|hint| hint.contains(wanted)), "{wanted}: {hints:?}");
    }
}

#[test]
fn no_secret_is_shown() {
    let secrets = [
        "hunter2-Horse",
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_0123456789abcdefghijABCDEFGHIJ012345",
        "s3cr3t-pass",
        "glpat-abcdefghij0123456789",
        "KIAIOSFODNN7EXAMPLE",
    ];
    let source = read(&root().join("tests/runbooks/bad/secrets.yaml"));
    let checked = check(&source);
    for color in [false, true] {
        let shown = render(&checked.findings, &source, color, 100);
        let json = serde_json::to_string(&reported(&checked.findings, &source)).unwrap();
        for secret in secrets {
            assert!(source.text.contains(secret), "{secret}");
            assert!(!shown.contains(secret), "{secret}: {shown}");
            assert!(!json.contains(secret), "{secret}: {json}");
        }
    }
}

#[test]
fn a_secret_that_breaks_the_syntax_is_not_shown_either() {
    for text in [
        "name: [ghp_0123456789abcdefghijABCDEFGHIJ012345\n",
        "name: !ghp_0123456789abcdefghijABCDEFGHIJ012345 x\n",
        "ghp_0123456789abcdefghijABCDEFGHIJ012345: 1\nghp_0123456789abcdefghijABCDEFGHIJ012345: 2\n",
    ] {
        let source = named(text);
        let checked = check(&source);
        assert!(checked.errors() >= 2);
        assert!(!render(&checked.findings, &source, false, 100).contains("0123456789"));
        assert!(!format!("{:?}", checked.findings).contains("0123456789"));
    }
}

#[test]
fn nothing_in_a_file_steers_the_terminal() {
    let source = Source {
        name: "a\u{1b}[31m\u{202e}\n.yaml".to_owned(),
        text: "n\u{9b}31m: 1\n\"x\\e[2J\": \u{202e}abc\n# \u{7}\u{200b}\u{e0041}\nversion: 2\r\n".to_owned(),
    };
    let checked = check(&source);
    let mut shown = render(&checked.findings, &source, false, 100);
    shown += &render(
        &[Finding::error("x", Span::default(), "a\u{1b}[2Jb\u{202e}").hint("\u{9b}")],
        &source,
        false,
        100,
    );
    let bad = shown
        .chars()
        .find(|c| c.is_control() && *c != '\n' || matches!(c, '\u{202e}' | '\u{200b}' | '\u{e0041}'));
    assert_eq!(bad, None, "{shown:?}");
}

#[test]
fn reports_have_both_ends() {
    let source = read(&root().join("tests/runbooks/bad/unknown-fields.yaml"));
    let checked = check(&source);
    let first = serde_json::to_value(&reported(&checked.findings, &source)[0]).unwrap();
    let wanted = serde_json::json!({
        "file": "tests/runbooks/bad/unknown-fields.yaml", "line": 4, "column": 1, "end_line": 4, "end_column": 7,
        "severity": "error", "code": "unknown-field", "message": "there is no field `owners` here",
        "hint": "did you mean `owner`?",
    });
    assert_eq!(first, wanted);
}

#[test]
fn an_environment_puts_its_values_in_place() {
    let text = "version: 1\nname: n\nenvironments:\n  production: {m: secret, ttl: 2h}\n  staging: {m: other, ttl: 1h}\n\
        connections: {v: {type: vault}}\ncredentials:\n  k:\n    issuer: {type: random, apply: {http: {url: \"https://${environment}.x/${runbook}\", body: \"${secret} $${x} $$\"}}}\n\
        \x20   stores: [{type: kv2, connection: v, mount: \"${env.m}\", path: \"a/$${b}\", field: f}]\nlimits: {deadline: \"${env.ttl}\"}\n";
    let checked = check(&named(text));
    let template = checked.runbook.unwrap_or_else(|| panic!("{:?}", checked.findings));
    assert_eq!(template.environments().collect::<Vec<_>>(), ["production", "staging"]);
    assert_eq!(template.sha256().len(), 64);
    let runbook = template.instantiate("staging").unwrap();
    assert_eq!(runbook.limits.deadline, Period::seconds(3600));
    let credential = &runbook.credentials["k"];
    let model::Issuer::Random(Random { apply: Some(model::Call::Http(call)), .. }) = &credential.issuer
    else {
        panic!()
    };
    assert_eq!(call.url, "https://staging.x/n");
    assert_eq!(call.body.as_deref(), Some("${secret} ${x} $$"));
    let model::Store::Kv2(Kv2 { mount, path, .. }) = &credential.stores[0] else { panic!() };
    assert_eq!((mount.as_str(), path.as_str()), ("other", "a/${b}"));
    let error = template.instantiate("stagign").unwrap_err();
    assert_eq!(error.hint().as_deref(), Some("did you mean `staging`?"));
}

#[test]
fn a_value_that_fits_in_one_environment_only_is_found() {
    let text = std::fs::read_to_string(root().join("runbooks/payments-api-key.yaml")).unwrap();
    let text = text.replace("account: \"210987654321\"", "account: \"21098765432\"");
    let checked = check(&named(text));
    let [finding] = &checked.findings[..] else { panic!("{:?}", checked.findings) };
    assert_eq!(finding.code, "pattern");
    assert!(finding.message.ends_with("(in `staging`)"), "{}", finding.message);
}

#[test]
fn files_that_cannot_be_read_say_what_to_do() {
    let missing = Source::read(&root().join("runbooks/quickstrat.yaml")).unwrap_err();
    assert!(missing.hint().unwrap().ends_with("quickstart.yaml?"), "{missing}: {:?}", missing.hint());
    let missing = Source::read(&root().join("src/none.yaml")).unwrap_err();
    assert!(missing.hint().unwrap().contains("stanch init"));
    let folder = Source::read(&root().join("runbooks")).unwrap_err();
    assert!(matches!(folder, ReadError::Directory { .. }), "{folder}");
    assert!(folder.hint().unwrap().contains("payments-api-key.yaml"));
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("x.yaml");
    for (bytes, wanted) in [(vec![b'a', 0xff], "not UTF-8"), (vec![b' '; MAX_BYTES + 1], "more than")] {
        std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), &bytes).unwrap();
        assert!(Source::read(&path).unwrap_err().to_string().contains(wanted));
    }
}
