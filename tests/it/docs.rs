//! The documents say what is: their runbooks can be planned, their links lead somewhere, their tables are
//! the program's.
//!
//! A block marked `yaml` is a whole runbook. `yaml fragment` is a set of top-level sections that replace those of
//! the page's first whole runbook; those of `kinds.md` replace sections of the first in `runbook.md`. `yaml workflow` is another program's YAML and is not looked at. No other
//! kind of YAML block may be there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use stanch::cli::Exit;
use stanch::runbook::{Severity, Source, check};

use crate::tool::Tool;

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn readme() -> String {
    read(&root().join("README.md"))
}

pub(crate) fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(root().join(folder))
        .expect("folder")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "there is no .{extension} file in {folder}/");
    files
}

/// The pages that make promises.
fn pages() -> Vec<PathBuf> {
    let mut pages = files("docs", "md");
    pages.extend(files(".", "md"));
    pages
}

/// A fenced block: the line that it begins at, what is said after the fence, and its text.
struct Block {
    line: usize,
    kind: String,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, Block)> = None;
    for (number, line) in page.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        match (line.trim().strip_prefix("```"), open.take()) {
            (Some(""), Some((_, block))) => blocks.push(block),
            (Some(kind), None) => {
                let block = Block { line: number + 1, kind: kind.to_owned(), text: String::new() };
                open = Some((indent, block));
            }
            (_, Some((by, mut block))) => {
                block.text.push_str(line.get(by.min(indent)..).unwrap_or_default());
                block.text.push('\n');
                open = Some((by, block));
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fenced block has no end");
    blocks
}

/// A runbook's top-level sections: the name, and the text with it.
fn sections(text: &str) -> Vec<(String, String)> {
    let mut sections: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        let begins = line.starts_with(|c: char| c.is_ascii_lowercase());
        if begins {
            let name = line.split(':').next().unwrap_or_default().to_owned();
            sections.push((name, String::new()));
        }
        if let Some((_, section)) = sections.last_mut() {
            section.push_str(line);
            section.push('\n');
        }
    }
    sections
}

/// The whole runbook, with the fragment's sections instead of its own.
fn wrap(fragment: &str, whole: &str) -> String {
    let new = sections(fragment);
    let kept = sections(whole).into_iter().filter(|(name, _)| new.iter().all(|(n, _)| n != name));
    kept.chain(new.iter().cloned()).map(|(_, text)| text).collect()
}

/// Every runbook of a page, with where it stands.
fn runbooks(path: &Path) -> Vec<(String, String)> {
    let page = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let blocks = blocks(&read(path));
    // These pages have fragments only, which replace sections of the first runbook on the page beside it.
    let beside = self::blocks(&read(&root().join("docs/runbook.md")));
    let first = |blocks: &[Block]| blocks.iter().find(|b| b.kind == "yaml").map(|b| b.text.clone());
    let whole = first(&blocks).or_else(|| {
        first(&beside).filter(|_| ["kinds.md", "notify.md", "approvals.md"].contains(&page.as_str()))
    });
    blocks
        .iter()
        .filter(|b| b.kind.starts_with("yaml") || b.kind.starts_with("yml"))
        .filter_map(|block| {
            let place = format!("{page}:{}", block.line);
            match (block.kind.as_str(), &whole) {
                ("yaml", _) => Some((place, block.text.clone())),
                ("yaml fragment", Some(whole)) => Some((place, wrap(&block.text, whole))),
                ("yaml fragment", None) => panic!("{place}: the page has no whole runbook to put it into"),
                // Pipelines and policies have tests of their own.
                ("yaml workflow" | "yaml policy", _) => None,
                (other, _) => panic!("{place}: `{other}` is no kind of YAML block; see this test's comment"),
            }
        })
        .collect()
}

/// Every runbook that a reader may copy.
fn all_runbooks() -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = pages().iter().flat_map(|page| runbooks(page)).collect();
    for path in files("runbooks", "yaml") {
        all.push((path.display().to_string(), read(&path)));
    }
    all
}

#[test]
fn every_runbook_in_the_documents_is_right() {
    let all = all_runbooks();
    assert!(all.len() > 15, "only {} runbooks were found", all.len());
    for (place, text) in all {
        let checked = check(&Source { name: place.clone(), text });
        let errors: Vec<_> = checked.findings.iter().filter(|f| f.severity == Severity::Error).collect();
        assert!(errors.is_empty() && checked.runbook.is_some(), "{place}: {errors:#?}");
    }
}

/// What is shipped is also free of warnings: it is what people begin with.
#[test]
fn every_shipped_runbook_is_free_of_findings() {
    for path in files("runbooks", "yaml") {
        let findings = check(&Source::read(&path).expect("runbook")).findings;
        assert!(findings.is_empty(), "{}: {findings:#?}", path.display());
    }
}

#[test]
fn every_runbook_in_the_documents_can_be_planned_in_the_sandbox() {
    for (place, text) in all_runbooks() {
        let tool = Tool::new();
        let path = tool.runbook(&text);
        let ran = tool.run(&["plan", path.to_str().expect("UTF-8"), "--env", "sandbox"]);
        assert_eq!(ran.code, Some(0), "{place}: {}", ran.stderr);
        assert!(ran.stdout.contains("point of no return") || ran.stdout.contains("Not checked"), "{place}");
    }
}

/// Every way to end. The match makes the compiler say when one is added.
fn exits() -> Vec<Exit> {
    let next = |exit: Exit| match exit {
        Exit::Done => Some(Exit::Failed),
        Exit::Failed => Some(Exit::Usage),
        Exit::Usage => Some(Exit::Partial),
        Exit::Partial => Some(Exit::Unknown),
        Exit::Unknown => Some(Exit::GateRolledBack),
        Exit::GateRolledBack => Some(Exit::Inconclusive),
        Exit::Inconclusive => Some(Exit::Stuck),
        Exit::Stuck => Some(Exit::NotProved),
        Exit::NotProved => Some(Exit::Unanswered),
        Exit::Unanswered => Some(Exit::Locked),
        Exit::Locked => Some(Exit::Stale),
        Exit::Stale => Some(Exit::Halted),
        Exit::Halted => Some(Exit::JournalInvalid),
        Exit::JournalInvalid => Some(Exit::JournalUnwritable),
        Exit::JournalUnwritable => Some(Exit::Unanchored),
        Exit::Unanchored => Some(Exit::BadRunbook),
        Exit::BadRunbook => Some(Exit::Unreachable),
        Exit::Unreachable => Some(Exit::Denied),
        Exit::Denied => Some(Exit::Interrupted),
        Exit::Interrupted => Some(Exit::NotRead),
        Exit::NotRead => Some(Exit::Terminated),
        Exit::Terminated => None,
    };
    std::iter::successors(Some(Exit::Done), |exit| next(*exit)).collect()
}

/// The text between a heading and the next of its rank.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no `{heading}`"));
    rest.split("\n## ").next().unwrap_or(rest)
}

#[test]
fn the_exit_codes_are_the_programs() {
    let readme = readme();
    let listed: Vec<u8> = section(&readme, "## Exit codes")
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" |").next()?.trim().parse().ok())
        .collect();
    let mut codes: Vec<u8> = exits().into_iter().map(Exit::code).collect();
    codes.sort_unstable();
    assert_eq!(listed, codes, "README's table, and the program's codes");
}

#[test]
fn the_two_commands_are_there_and_exist() {
    let readme = readme();
    let run = "cargo run --release -- run runbooks/quickstart.yaml --env sandbox --yes";
    for command in [run, "scripts/test"] {
        let first = |line: &str| line.split("  ").next().is_some_and(|l| l.trim() == command);
        assert!(readme.lines().any(first), "README has no line `{command}`");
    }
    let script = fs::metadata(root().join("scripts/test")).expect("scripts/test");
    assert!(std::os::unix::fs::PermissionsExt::mode(&script.permissions()) & 0o111 != 0, "not executable");
    // As cargo hands it on: the words after `--`.
    let arguments: Vec<&str> = run.split(" -- ").nth(1).expect("arguments").split(' ').collect();
    let tool = Tool::new();
    let path = root().join(arguments[1]);
    let planned = tool.run(&["plan", path.to_str().expect("UTF-8"), arguments[2], arguments[3]]);
    assert_eq!((arguments[0], planned.code), ("run", Some(0)), "{}", planned.stderr);
    let help = tool.run(&["run", "--help"]);
    assert!(arguments[2..].iter().filter(|a| a.starts_with("--")).all(|a| help.stdout.contains(a)));
}

#[test]
fn every_command_is_in_the_readme() {
    let help = Tool::new().run(&["--help"]).stdout;
    let list = help.split("Commands:\n").nth(1).and_then(|l| l.split("\n\n").next()).expect("commands");
    let commands: Vec<&str> = list
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect();
    assert!(commands.len() > 10, "{help}");
    let readme = readme();
    let table = section(&readme, "## All commands");
    for command in commands {
        assert!(table.contains(&format!("`stanch {command}`")), "README does not list `stanch {command}`");
    }
}

/// Every `--flag` that the documents give stanch is one.
#[test]
fn every_flag_in_the_documents_exists() {
    let tool = Tool::new();
    let mut flags = BTreeSet::new();
    for page in pages() {
        for line in read(&page).lines() {
            // From each `stanch COMMAND` to the end of the command.
            for at in line.match_indices("stanch ").map(|(at, _)| at + "stanch ".len()) {
                // Not where a variable is set to the program's path, in front of another command.
                if line[..at].split_whitespace().next_back().is_some_and(|word| word.contains('=')) {
                    continue;
                }
                let rest = line[at..].split(['`', '|', ';', '#', '(', ')', '&']).next().unwrap_or_default();
                let mut words = rest.split_whitespace().map(|w| w.trim_matches([',', '.']));
                let Some(command) = words.next() else { continue };
                let mut command = vec![command.to_owned()];
                // The commands that have commands of their own.
                if ["audit", "drill", "notify", "policy", "runs"].contains(&command[0].as_str()) {
                    let words = words.clone();
                    command.extend(words.take_while(|w| !w.starts_with('-')).take(1).map(str::to_owned));
                }
                let given = words.filter(|w| w.starts_with("--") && w.len() > 2);
                flags.extend(given.map(|flag| (command.clone(), flag.to_owned())));
            }
        }
    }
    assert!(flags.len() > 8, "{flags:?}");
    for (command, flag) in flags {
        let arguments: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
        let help = tool.run(&arguments);
        let command = command.join(" ");
        assert_eq!(help.code, Some(0), "there is no command `{command}`");
        let known = help.stdout.split([' ', '\n', ',']).any(|word| word == flag);
        assert!(known, "`stanch {command}` has no `{flag}`");
    }
}

/// A table that a script fills with figures must not stand empty.
#[test]
fn every_table_has_rows() {
    let mut tables = 0;
    for page in pages() {
        let text = read(&page);
        let lines: Vec<&str> = text.lines().chain([""]).collect();
        for pair in lines.windows(2).filter(|pair| pair[0].starts_with("| --")) {
            tables += 1;
            assert!(pair[1].starts_with("| "), "{}: a table without rows", page.display());
        }
    }
    assert!(tables > 10, "{tables}");
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest = read(&root().join("Cargo.toml"));
    let readme = readme();
    let reasons = section(&readme, "## Dependencies");
    for table in ["[dependencies]", "[dev-dependencies]"] {
        let list = manifest.split(&format!("\n{table}\n")).nth(1).and_then(|l| l.split("\n[").next());
        for name in list.expect("dependencies").lines().filter_map(|line| line.split_once(" =")) {
            assert!(reasons.contains(&format!("`{}`", name.0)), "README gives no reason for `{}`", name.0);
        }
    }
}

/// The targets of Markdown's links in a text, code left out.
fn links(page: &str) -> Vec<String> {
    let mut links = Vec::new();
    let mut code = false;
    for line in page.lines() {
        code ^= line.trim_start().starts_with("```");
        let ends = line.match_indices("](").map(|(at, _)| &line[at + 2..]);
        links.extend(ends.filter(|_| !code).filter_map(|rest| rest.split(')').next()).map(str::to_owned));
    }
    links
}

#[test]
fn every_link_leads_to_a_file() {
    let mut found = 0;
    for page in pages() {
        for link in links(&read(&page)) {
            if link.contains("://") {
                continue;
            }
            found += 1;
            let (file, heading) = link.split_once('#').unwrap_or((&link, ""));
            assert!(
                heading.is_empty(),
                "{}: link to a heading, which nothing checks: {link}",
                page.display()
            );
            let target = page.parent().expect("folder").join(file);
            assert!(target.exists(), "{}: {link} leads nowhere", page.display());
        }
    }
    assert!(found > 10, "only {found} links were found");
}

#[test]
fn no_page_knows_a_machine() {
    for page in pages() {
        let text = read(&page);
        for path in ["/root/", "/home/", "/work/", "/tmp/"] {
            assert!(!text.contains(path), "{} names a path of a machine: {path}", page.display());
        }
    }
}
