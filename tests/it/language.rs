//! The words that users read.
//!
//! Reads the string literals of the rooms that speak to users, the help of the command line (doc comments of what
//! clap derives), the errors (`#[error("…")]`) and the pages, and refuses words that make a sentence hard to read
//! at three in the morning:
//!
//! - a subject that does not act: *nobody*, *somebody*, *whoever*, *whatever*. Say who acts: stanch, the server,
//!   you, another process.
//! - a second word for a thing that has one: *roll back* (not *take back*, *go back*, *by itself*), *directory*
//!   (not *folder*), *mapping* and *string* (not *map* and *text*), *valid* (not *good*), *fix* (not *mend*), *old*
//!   and *new* (not *outgoing* and *incoming*, which are the words of the code).
//! - a bare adjective in the place of a noun: *the old is revoked*.
//! - words of another time or language: *for ever*, *in vain*, *is no key*, *stands on the record*, *anew*.
//!
//! A word that is right in one place gets a line in `RIGHT`, with the reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use regex_lite::Regex;
use syn::buffer::{Cursor, TokenBuffer};
use syn::visit::{self, Visit};

use crate::architecture::rust_files;

/// The pages outside of `docs`.
const PAGES: [&str; 4] = ["CONTRIBUTING.md", "README.md", "CHANGELOG.md", "SECURITY.md"];

/// What is refused, as a pattern, and what to write instead.
const WORDS: [(&str, &str); 27] = [
    (r"\b(no|some|any)body\b", "say who acts: stanch, the server, you, another process"),
    (r"\b(who|what|whom)ever\b", "say who or what it is"),
    (r"\bis no ", "is not a …"),
    (r"\bare no ", "are not …"),
    (r"\bstands?\b", "is, applies, is recorded"),
    (r"\bin vain\b", "without a result"),
    (r"\bfor ever\b", "forever"),
    (r"\b(take|takes|taken|took|taking|turn|turns|turned) (it |them |a run )?back\b", "roll back, undo"),
    (r"\b(go|goes|went|gone|going) back\b", "roll back"),
    (r"\bway back\b", "rollback"),
    (r"\bby itself\b", "automatically"),
    (r"\btaken? up again\b", "resume"),
    (r"\bfolders?\b", "directory"),
    (r"\ba (text|map)\b", "a string, a mapping"),
    (r"\bnot good\b", "not valid"),
    (r"\bmend(s|ed)?\b", "fix"),
    (r"\banew\b", "again, another one"),
    (r"\bminted\b", "issued"),
    (r"\b(incoming|outgoing) (credential|value|key|token|one|version)s?\b", "new, old"),
    (r"\bthe (old|new|incoming|outgoing)( and the (old|new))?[.,;:)]", "name the thing: the old credential"),
    (r"\bthe (old|new) (is|was|can|must|has)\b", "name the thing: the old credential"),
    (r"\bmay be rotated\b", "can be rotated"),
    (r"\blook whether\b", "check that"),
    (r"\bown steps?\b", "custom step"),
    (r"\bdemand refusal\b", "confirm that … rejects"),
    (r"\bsay (it again|`?--)", "repeat the command, pass --…"),
    (r"\bwhat became of\b", "the outcome of"),
];

/// Words that are right where they are: the place, a part of the text, and why.
const RIGHT: [(&str, &str, &str); 3] = [
    ("src/cli/audit/export/ocsf.rs", "Own step", "a value that programs read"),
    ("docs/architecture.md", "*Own step*", "the same value"),
    ("src/cli/plan.rs", "--outgoing CREDENTIAL=HANDLE", "the name of an option"),
];

struct Text {
    file: String,
    line: usize,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// Whether users may read what a file says: not a test's.
fn is_shown(path: &Path) -> bool {
    let hidden = ["tests", "tests.rs", "fuzzing.rs", "fuzzing", "sabotage.rs", "conformance"];
    !path.iter().any(|name| hidden.iter().any(|hidden| name == *hidden))
}

/// Collects literals, and the attributes that users read.
struct Collector<'a> {
    file: &'a str,
    source: &'a str,
    /// Where the last literal was found: `syn` says no lines without a feature of its own.
    from: usize,
    /// Whether clap makes help of the doc comments here.
    help: bool,
    texts: Vec<Text>,
}

impl Collector<'_> {
    fn add(&mut self, written: &str, text: String) {
        let after = self.source[self.from..].find(written).map(|at| self.from + at);
        let at = after.or_else(|| self.source.find(written)).unwrap_or(self.from);
        self.from = at;
        let line = self.source[..at].matches('\n').count() + 1;
        // A single word is a name of something, for programs.
        if text.trim().contains(' ') {
            self.texts.push(Text { file: self.file.to_owned(), line, text });
        }
    }

    fn literal(&mut self, written: &str) {
        if let Ok(text) = syn::parse_str::<syn::LitStr>(written) {
            self.add(written, text.value());
        }
    }

    /// The literals in a macro, whatever its grammar.
    fn tokens(&mut self, mut at: Cursor<'_>) {
        loop {
            if let Some((literal, next)) = at.literal() {
                self.literal(&literal.to_string());
                at = next;
            } else if let Some((inner, _, _, next)) = at.any_group() {
                self.tokens(inner);
                at = next;
            } else if let Some((_, next)) = at.token_tree() {
                at = next;
            } else {
                return;
            }
        }
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

/// Whether clap derives something from this.
fn is_help(attributes: &[syn::Attribute]) -> bool {
    let derives = |attribute: &syn::Attribute| {
        let mut found = false;
        if attribute.path().is_ident("derive") {
            let _ = attribute.parse_nested_meta(|meta| {
                let last = meta.path.segments.last().map(|s| s.ident.to_string()).unwrap_or_default();
                found |= ["Parser", "Args", "Subcommand", "ValueEnum"].contains(&last.as_str());
                Ok(())
            });
        }
        found
    };
    attributes.iter().any(derives)
}

impl<'ast> Visit<'ast> for Collector<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.help = is_help(&item.attrs);
        visit::visit_item_struct(self, item);
        self.help = false;
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.help = is_help(&item.attrs);
        visit::visit_item_enum(self, item);
        self.help = false;
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if attribute.path().is_ident("error") {
            if let syn::Meta::List(list) = &attribute.meta {
                self.tokens(TokenBuffer::new2(list.tokens.clone()).begin());
            }
        } else if let (true, syn::Meta::NameValue(doc)) = (self.help, &attribute.meta)
            && doc.path.is_ident("doc")
            && let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) = &doc.value
        {
            let text = text.value();
            self.add(&format!("///{text}"), text.clone());
        }
    }

    fn visit_lit_str(&mut self, literal: &'ast syn::LitStr) {
        self.literal(&literal.token().to_string());
    }

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        self.tokens(TokenBuffer::new2(called.tokens.clone()).begin());
    }
}

fn texts_of(file: &str, source: &str) -> Vec<Text> {
    let rust = syn::parse_file(source).unwrap_or_else(|e| panic!("{file}: {e}"));
    let mut collector = Collector { file, source, from: 0, help: false, texts: Vec::new() };
    collector.visit_file(&rust);
    collector.texts
}

/// A page's lines outside of code blocks, without what is set as code.
fn prose_of(file: &str, page: &str) -> Vec<Text> {
    let mut block = false;
    let mut texts = Vec::new();
    for (at, line) in page.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            block = !block;
        } else if !block {
            let text = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
            texts.push(Text { file: file.to_owned(), line: at + 1, text });
        }
    }
    texts
}

/// What is refused of these texts, a line each.
fn refused(texts: &[Text]) -> Vec<String> {
    let words: Vec<(Regex, &str)> =
        WORDS.iter().map(|(word, better)| (Regex::new(word).expect("a pattern"), *better)).collect();
    let mut found = Vec::new();
    for Text { file, line, text } in texts {
        if RIGHT.iter().any(|(place, part, _)| file == place && text.contains(part)) {
            continue;
        }
        // *there is no run* and *no longer* are good English.
        let plain = text
            .to_lowercase()
            .replace("no longer", "not")
            .replace("there is no ", "")
            .replace("there are no ", "");
        for (word, better) in &words {
            if let Some(hit) = word.find(&plain) {
                found.push(format!("{file}:{line}: `{}`: {better}\n    {}", hit.as_str(), text.trim()));
            }
        }
    }
    found
}

/// What editors show: the descriptions of the schema, each under its place in it.
fn descriptions(schema: &serde_json::Value, place: &str, into: &mut Vec<Text>) {
    match schema {
        serde_json::Value::Object(fields) => {
            for (name, inner) in fields {
                match (name.as_str(), inner) {
                    ("description", serde_json::Value::String(text)) => {
                        into.push(Text { file: format!("schema{place}"), line: 0, text: text.clone() });
                    }
                    _ => descriptions(inner, &format!("{place}/{name}"), into),
                }
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| descriptions(item, place, into)),
        _ => {}
    }
}

/// What the program can say.
fn sentences() -> Vec<Text> {
    let root = root();
    let mut texts = Vec::new();
    for path in rust_files(&root.join("src")) {
        let file = path.strip_prefix(&root).expect("inside");
        if is_shown(file) {
            let file = file.display().to_string();
            texts.extend(texts_of(&file, &fs::read_to_string(&path).expect("source")));
        }
    }
    texts
}

#[test]
fn texts_are_in_plain_words() {
    let root = root();
    let mut texts = sentences();
    assert!(texts.len() > 800, "only {} texts were found", texts.len());
    let docs = fs::read_dir(root.join("docs")).expect("docs").map(|entry| entry.expect("an entry").path());
    let docs = docs.filter(|path| path.extension().is_some_and(|kind| kind == "md"));
    for page in PAGES.map(PathBuf::from).into_iter().chain(docs) {
        let name = page.strip_prefix(&root).unwrap_or(&page).display().to_string();
        texts.extend(prose_of(&name, &fs::read_to_string(root.join(&page)).expect("a page")));
    }
    descriptions(&stanch::runbook::schema(), "", &mut texts);
    let found = refused(&texts);
    assert!(found.is_empty(), "{} texts to write otherwise:\n{}", found.len(), found.join("\n"));
}

/// The catalogue: every sentence of a room in one file, so that a new one is read as a sentence before it is released.
/// `STANCH_APPROVE=1` writes the files again: then read the difference.
#[test]
fn the_sentences_of_each_room_are_approved() {
    let folder = root().join("tests/sentences");
    let mut rooms: BTreeMap<String, String> = BTreeMap::new();
    let mut before = String::new();
    for Text { file, text, .. } in sentences() {
        let room = file.split('/').nth(1).expect("a room").trim_end_matches(".rs");
        let catalogue = rooms.entry(room.to_owned()).or_default();
        if file != before {
            catalogue.push_str(&format!("\n# {file}\n"));
            before = file;
        }
        catalogue.push_str(&format!("{}\n", text.replace('\n', "\n    ")));
    }
    if std::env::var_os("STANCH_APPROVE").is_some() {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("made");
        for (room, catalogue) in &rooms {
            #[expect(clippy::disallowed_methods, reason = "approved by hand")]
            fs::write(folder.join(format!("{room}.txt")), catalogue.trim_start()).expect("written");
        }
    }
    let mut differing = Vec::new();
    for (room, catalogue) in &rooms {
        let approved = fs::read_to_string(folder.join(format!("{room}.txt"))).unwrap_or_default();
        let (old, new): (BTreeSet<&str>, BTreeSet<&str>) =
            (approved.lines().collect(), catalogue.trim_start().lines().collect());
        differing.extend(new.difference(&old).map(|line| format!("{room}: + {line}")));
        differing.extend(old.difference(&new).map(|line| format!("{room}: - {line}")));
    }
    assert!(
        differing.is_empty(),
        "sentences changed; STANCH_APPROVE=1 cargo test --test it -- language:: writes them again:\n{}",
        differing.join("\n")
    );
}

/// The test sees what it should see, and nothing else.
#[test]
fn the_word_list_finds_what_it_is_for() {
    let source = r#"
        /// Nobody sees this.
        fn say() {
            println!("{}: nobody knows", name);
            let hint = "the old is revoked";
            let key = "incoming";
            let fine = "there is no run, and it is no longer open";
        }
        /// What is parsed.
        #[derive(Debug, clap::Args)]
        struct Args {
            /// Whoever is asked.
            name: String,
        }
        #[derive(thiserror::Error)]
        enum Error {
            #[error("{0} is no key")]
            Key(String),
        }
        #[cfg(test)]
        mod tests {
            const TOLD: &str = "nobody reads this";
        }
    "#;
    let found = refused(&texts_of("x.rs", source));
    let places: Vec<&str> = found.iter().filter_map(|line| line.split(": ").next()).collect();
    assert_eq!(places, ["x.rs:4", "x.rs:5", "x.rs:12", "x.rs:17"], "{found:#?}");
    let page = "the way back\n```console\nthe way back\n```\n`the way back`, in code\n";
    assert_eq!(refused(&prose_of("x.md", page)).len(), 1);
}
