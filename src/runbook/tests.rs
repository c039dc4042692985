//! Tests of the layer as a whole: shipped files, wrong files, hostile files.

use std::path::{Path, PathBuf};

use super::*;

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
        assert!(checked.findings.iter().all(|finding| finding.severity == Severity::Note), "{shown}");
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
