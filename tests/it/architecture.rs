//! Who may use whom, and what the pure layers may not know.
//!
//! Reads the sources as text. It does not see macros' output or re-exports, and needs neither: a name that is
//! used is written somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each layer, and those that it may name. A layer may always name itself.
const LAYERS: [(&str, &[&str]); 13] = [
    ("secret", &[]),
    ("clock", &[]),
    // Breaks on purpose, for the simulation.
    ("sabotage", &[]),
    ("runbook", &["secret"]),
    // Data only, see DATA.
    ("plan", &["runbook", "provider"]),
    ("rotation", &["plan", "runbook", "clock", "provider", "sabotage"]),
    // `provider::outcome::tame` escapes what a file says before it stands in an error.
    ("journal", &["rotation", "plan", "secret", "clock", "provider", "sabotage"]),
    ("provider", &["runbook", "secret", "clock"]),
    // The doors of the fuzz targets; nothing names it.
    ("fuzzing", &["journal", "rotation", "plan", "runbook", "secret", "clock", "provider"]),
    ("gate", &["provider", "secret"]),
    (
        "engine",
        &["gate", "provider", "journal", "rotation", "plan", "runbook", "secret", "clock", "sabotage"],
    ),
    // `engine::Observer` is what it implements; `provider::Verdict` and `outcome::tame` are what it words.
    ("output", &["engine", "rotation", "plan", "provider", "clock"]),
    (
        "cli",
        &[
            "output", "engine", "provider", "journal", "rotation", "plan", "runbook", "secret", "clock",
            "gate",
        ],
    ),
];

/// What the pure layers may name of `provider`: plain data without behaviour, which says what was observed
/// (`Check`, `Identity`, `Standing`, `Versions`), what a target can do by the runbook's words alone
/// (`IssuerTraits`, `StoreTraits`, `Observation`, and the two functions that tell them), and how
/// a call or a gate ended (`Kind`, `Verdict`). Never a trait that calls something.
const DATA: [&str; 14] = [
    "Check",
    "CheckVerdict",
    "Identity",
    "IssuerTraits",
    "Kind",
    "Life",
    "Observation",
    "Standing",
    "StoreTraits",
    "Verdict",
    "Versions",
    "finds_by_run",
    "issuer_traits",
    "store_traits",
];

/// The layers to which time, randomness and the world arrive as values.
const PURE: [&str; 2] = ["plan", "rotation"];
/// What those may not name. `rand` and the others as paths: `rand::`, `use rand;`.
const IMPURE: [&str; 22] = [
    "tokio",
    "std::fs",
    "std::env",
    // Writing into a hasher is pure; the process' own streams are not.
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "io::stdin",
    "io::stdout",
    "io::stderr",
    "std::net",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "Instant::now",
    "SystemTime",
    "Timestamp::now",
    "Zoned::now",
    "rand",
    "reqwest",
    "tempfile",
    "rustix",
];

/// What writes to the standard streams.
const PRINTS: [&str; 9] = [
    "print!",
    "println!",
    "eprint!",
    "eprintln!",
    "dbg!",
    "stdout()",
    "stderr()",
    "/dev/stdout",
    "/dev/stderr",
];

/// A source file: its layer, its path, and its text without comments.
struct File {
    layer: String,
    path: PathBuf,
    text: String,
}

fn sources() -> Vec<File> {
    fn walk(folder: &Path, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("folder") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                walk(&path, into);
            } else if path.extension().is_some_and(|e| e == "rs") {
                into.push(path);
            }
        }
    }
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    walk(&src, &mut paths);
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let inner = path.strip_prefix(&src).expect("below src").to_owned();
            let layer = inner.components().next().expect("a name").as_os_str().to_string_lossy();
            let text = fs::read_to_string(&path).expect("source");
            File {
                layer: layer.trim_end_matches(".rs").to_owned(),
                path: inner,
                text: without_comments(&text),
            }
        })
        .filter(|file| !["lib", "main"].contains(&file.layer.as_str()))
        .collect()
}

/// Comments name what they like. A text that contains `//` loses its end, and no name stands there.
fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// What a file does when it is not tested. Tests stand at the end, or in a file of their own.
fn production(file: &File) -> &str {
    let tests = file.path.components().any(|c| c.as_os_str() == "tests")
        || file.path.file_name().is_some_and(|name| name == "tests.rs");
    if tests { "" } else { file.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default() }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether a text has these words, not as part of longer ones.
fn names(text: &str, words: &str) -> bool {
    text.match_indices(words).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + words.len()..].chars().next();
        let ends_in_name = words.chars().next_back().is_some_and(is_name);
        let goes_on = ends_in_name && after.is_some_and(is_name);
        !goes_on && !before.is_some_and(is_name)
    })
}

/// Whether a text names a crate: as a path, or in a `use`.
fn names_crate(text: &str, name: &str) -> bool {
    names(text, &format!("{name}::")) || names(text, &format!("use {name}"))
}

/// The paths below `crate::` that a text names, groups opened: `a::{b, c::d}` gives `a::b` and `a::c::d`.
fn paths(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        if text[..at].chars().next_back().is_none_or(|c| !is_name(c) && c != '$') {
            open(&text[at + "crate::".len()..], "", &mut found);
        }
    }
    found
}

/// Reads one path, or one group, from the beginning of `text`; returns how much of it was read.
fn open(text: &str, prefix: &str, found: &mut BTreeSet<String>) -> usize {
    let mut path = prefix.to_owned();
    let mut at = 0;
    loop {
        let rest = &text[at..];
        if let Some(group) = rest.strip_prefix('{') {
            at += 1;
            let mut inner = group;
            loop {
                let skipped = inner.len() - inner.trim_start_matches([' ', '\n', ',', '\t']).len();
                at += skipped;
                inner = &inner[skipped..];
                if inner.is_empty() || inner.starts_with('}') {
                    return at + 1;
                }
                let read = open(inner, &path, found).max(1);
                at += read;
                inner = inner.get(read..).unwrap_or_default();
                // `as other` names nothing of ours.
                let renamed = inner.len() - inner.trim_start_matches(|c| c != ',' && c != '}').len();
                at += renamed;
                inner = &inner[renamed..];
            }
        }
        let word = rest.len() - rest.trim_start_matches(is_name).len();
        path.push_str(&rest[..word]);
        at += word;
        if word > 0 && text[at..].starts_with("::") && !text[at..].starts_with("::<") {
            path.push_str("::");
            at += 2;
        } else {
            found.insert(path);
            return at;
        }
    }
}

#[test]
fn paths_are_read_out_of_groups() {
    let text =
        "use crate::a::{B, c::{D, self}, E as F}; use crate::{g::H, i}; let x = crate::j::k::<T>(crate::l);";
    let expected = ["a::B", "a::c::D", "a::c::self", "a::E", "g::H", "i", "j::k", "l"];
    assert_eq!(paths(text), expected.into_iter().map(str::to_owned).collect());
    assert!(!names("operand::x", "rand") && names("rand::x", "rand::") && !names("brand::x", "rand::"));
}

#[test]
fn layers_use_only_what_stands_below_them() {
    let allowed: BTreeMap<&str, &[&str]> = LAYERS.into_iter().collect();
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in sources() {
        let below = allowed.get(file.layer.as_str());
        let below = below.unwrap_or_else(|| panic!("src/{} is in no layer: add it to LAYERS", file.layer));
        for path in paths(&file.text) {
            let target = path.split("::").next().unwrap_or_default();
            // What is not a layer is an item of the crate's root: there is none.
            assert!(allowed.contains_key(target), "{}: crate::{path} is in no layer", file.path.display());
            let fine = target == file.layer || below.contains(&target);
            assert!(fine, "{}: {} may not use crate::{path}", file.path.display(), file.layer);
            used.entry(file.layer.clone()).or_default().insert(target.to_owned());
        }
    }
    assert!(used.len() >= LAYERS.len() - 2, "too few layers were read: {used:?}");
    // An allowance that nobody needs any more goes. `cli` wires everything and may use all.
    for (layer, below) in LAYERS.into_iter().filter(|(layer, _)| *layer != "cli") {
        let unused: Vec<_> =
            below.iter().filter(|b| !used.get(layer).is_some_and(|u| u.contains(**b))).collect();
        assert!(unused.is_empty(), "{layer} no longer uses {unused:?}: take it out of LAYERS");
    }
}

#[test]
fn the_pure_layers_know_only_data_of_providers() {
    let mut used = BTreeSet::new();
    for file in sources().into_iter().filter(|f| PURE.contains(&f.layer.as_str())) {
        for path in paths(production(&file)) {
            let Some(item) = path.strip_prefix("provider::") else { continue };
            assert!(DATA.contains(&item), "{}: provider::{item} is not among DATA", file.path.display());
            used.insert(item.to_owned());
        }
    }
    let unused: Vec<_> = DATA.into_iter().filter(|d| !used.contains(*d)).collect();
    assert!(unused.is_empty(), "no pure layer uses {unused:?} any more: take it out of DATA");
}

#[test]
fn the_pure_layers_are_pure() {
    for file in sources().into_iter().filter(|f| PURE.contains(&f.layer.as_str())) {
        let text = production(&file);
        for impure in IMPURE {
            let crate_name = impure.chars().all(is_name) && impure.starts_with(|c: char| c.is_lowercase());
            let found = if crate_name { names_crate(text, impure) } else { names(text, impure) };
            assert!(!found, "{}: {} is pure and names {impure}", file.path.display(), file.layer);
        }
        // A group hides the path: `use std::{fs, env}`.
        assert!(!text.contains("use std::{"), "{}: write std's paths one by one", file.path.display());
        // Of the clock only arithmetic: what is there without an instance.
        for clock in paths(text).iter().filter_map(|p| p.strip_prefix("clock::")) {
            assert!(["add", "since"].contains(&clock), "{}: clock::{clock}", file.path.display());
        }
    }
}

#[test]
fn only_the_command_line_and_the_displays_print() {
    let mut printing = BTreeSet::new();
    for file in sources() {
        if PRINTS.iter().any(|p| names(production(&file), p)) {
            printing.insert(file.layer.clone());
        }
    }
    let expected: BTreeSet<String> = ["cli", "output"].into_iter().map(str::to_owned).collect();
    assert_eq!(printing, expected);
}

#[test]
fn nobody_but_the_journal_and_the_command_line_knows_the_backend() {
    for file in sources().into_iter().filter(|f| !["journal", "cli"].contains(&f.layer.as_str())) {
        // Tests too: the engine is tested against the trait.
        for backend in ["FileJournal", "StateDir"] {
            assert!(!names(&file.text, backend), "{}: names {backend}", file.path.display());
        }
    }
}
