//! Which room may use which, and what the pure rooms may not know (`README.md`, Layout).
//!
//! Reads the sources as Rust. It does not see what macros make, and needs not to: what is used there is
//! written somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::Visit;

/// Each room, and those that it may use. A room may always use itself.
const ROOMS: [(&str, &[&str]); 25] = [
    ("text", &[]),
    // How well-known credentials look.
    ("shape", &[]),
    ("secret", &[]),
    ("clock", &[]),
    // Breaks on purpose, for the simulation.
    ("sabotage", &[]),
    ("domain", &["text"]),
    // Who may let a run go on: statements, their signatures, and what they are worth.
    ("approve", &["domain", "clock", "text"]),
    // `runbook/read`: a text as a tree, and findings about it.
    ("read", &["text", "shape"]),
    ("kind", &["read", "domain", "secret", "text"]),
    ("runbook", &["kind", "read", "domain"]),
    // From handles to a runbook that only revokes.
    ("kill", &["kind", "runbook", "domain", "text"]),
    // What an organisation demands of runbooks.
    ("policy", &["runbook", "read", "kind", "domain"]),
    ("plan", &["kind", "read", "runbook", "approve", "domain", "text"]),
    ("rotation", &["plan", "approve", "domain", "clock", "sabotage"]),
    // What is due, and when a window opens: days and zones as values.
    ("calendar", &["rotation", "plan", "domain", "text"]),
    ("journal", &["rotation", "plan", "approve", "domain", "secret", "clock", "sabotage", "text"]),
    ("provider", &["kind", "runbook", "domain", "secret", "clock", "text"]),
    // `kind`, but for the kinds' words: how each is made callable.
    ("server", &["provider", "kind", "runbook", "domain", "secret", "clock", "text"]),
    ("gate", &["provider", "domain", "secret"]),
    // The doors of the fuzz targets; nothing uses it.
    (
        "fuzzing",
        &[
            "read", "journal", "rotation", "plan", "server", "runbook", "domain", "secret", "clock",
            "provider",
        ],
    ),
    (
        "engine",
        &[
            "gate", "calendar", "provider", "journal", "rotation", "plan", "kind", "runbook", "domain",
            "secret", "clock", "sabotage", "text",
        ],
    ),
    // `engine::Observer` is what it implements.
    ("output", &["engine", "rotation", "plan", "approve", "domain", "clock", "text"]),
    // Only reads the record.
    (
        "follow",
        &[
            "output", "provider", "journal", "rotation", "plan", "runbook", "read", "shape", "domain",
            "secret", "clock", "text",
        ],
    ),
    // Plays a scenario over the sandbox, and scores it from the record.
    (
        "drill",
        &[
            "follow", "provider", "journal", "rotation", "plan", "runbook", "approve", "read", "domain",
            "clock", "text",
        ],
    ),
    (
        "cli",
        &[
            "policy", "drill", "calendar", "kill", "shape", "follow", "read", "output", "engine", "server",
            "provider", "journal", "rotation", "plan", "kind", "runbook", "approve", "domain", "secret",
            "clock", "gate", "text",
        ],
    ),
];

/// The layers to which time, randomness and the world arrive as values.
const PURE: [&str; 6] = ["approve", "policy", "kind", "plan", "rotation", "calendar"];
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

/// A source file: its room, its path, its text, and the same as Rust.
struct File {
    room: String,
    path: PathBuf,
    /// The module that it is: `["provider", "vault"]`.
    module: Vec<String>,
    text: String,
    rust: syn::File,
}

/// The Rust files below a directory, or the file that the path names, in order.
pub(crate) fn rust_files(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return path.extension().is_some_and(|e| e == "rs").then(|| path.to_owned()).into_iter().collect();
    }
    let entries = fs::read_dir(path).expect("a directory");
    let mut inner: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    inner.sort();
    inner.iter().flat_map(|path| rust_files(path)).collect()
}

fn sources() -> Vec<File> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let file = |path: PathBuf| {
        let inner = path.strip_prefix(&src).expect("below src").to_owned();
        let module: Vec<String> = inner
            .with_extension("")
            .components()
            .map(|c| c.as_os_str().to_string_lossy().into_owned())
            .filter(|name| name != "mod")
            .collect();
        let text = fs::read_to_string(&path).expect("source");
        let rust = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", inner.display()));
        File { room: room(&module).to_owned(), path: inner, module, text: without_comments(&text), rust }
    };
    rust_files(&src)
        .into_iter()
        .map(file)
        .filter(|file| !["lib", "main"].contains(&file.room.as_str()))
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

/// A path that a file names, from the crate's root.
type Name = Vec<String>;

/// What one file names: read from `use`, and from paths in the code, `self::` and `super::` resolved.
struct Names<'a> {
    module: &'a [String],
    /// Modules that are declared in the file.
    children: BTreeSet<String>,
    /// Inline modules that we are in.
    inside: Vec<String>,
    found: BTreeSet<Name>,
    /// Names that the file hands on (`pub use`): its own name for it, and what it is.
    handed_on: BTreeMap<String, Name>,
}

impl<'a> Names<'a> {
    fn of(file: &'a File) -> Self {
        let children = file.rust.items.iter().filter_map(|item| match item {
            syn::Item::Mod(module) if module.content.is_none() => Some(module.ident.to_string()),
            _ => None,
        });
        let mut names = Self {
            module: &file.module,
            children: children.collect(),
            inside: Vec::new(),
            found: BTreeSet::new(),
            handed_on: BTreeMap::new(),
        };
        names.visit_file(&file.rust);
        names
    }

    /// The path from the root; `None` for what is not ours, or named by something that a `use` brought.
    fn absolute(&self, path: &[String]) -> Option<Name> {
        let mut here: Name = self.module.iter().chain(&self.inside).cloned().collect();
        let (first, mut rest) = path.split_first()?;
        match first.as_str() {
            "crate" => here.clear(),
            "self" => {}
            "super" => {
                here.pop();
                while rest.first().is_some_and(|next| next == "super") {
                    here.pop();
                    rest = &rest[1..];
                }
            }
            child if self.inside.is_empty() && self.children.contains(child) => here.push(child.to_owned()),
            _ => return None,
        }
        here.extend(rest.iter().cloned());
        Some(here)
    }

    fn take(&mut self, tree: &syn::UseTree, before: &mut Name, public: bool) {
        match tree {
            syn::UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.take(&path.tree, before, public);
                before.pop();
            }
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.take(tree, before, public)),
            syn::UseTree::Name(name) => {
                self.leaf(&name.ident.to_string(), &name.ident.to_string(), before, public)
            }
            syn::UseTree::Rename(name) => {
                self.leaf(&name.ident.to_string(), &name.rename.to_string(), before, public);
            }
            syn::UseTree::Glob(_) => self.found.extend(self.absolute(before)),
        }
    }

    fn leaf(&mut self, item: &str, called: &str, before: &Name, public: bool) {
        let mut path = before.clone();
        if item != "self" {
            path.push(item.to_owned());
        }
        let Some(path) = self.absolute(&path) else { return };
        if public && self.inside.is_empty() {
            self.handed_on.insert(called.to_owned(), path);
        } else {
            self.found.insert(path);
        }
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|a| {
        a.path().is_ident("cfg") && a.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

impl<'ast> Visit<'ast> for Names<'_> {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        // Tests may use what they like.
        if is_test(&module.attrs) || module.content.is_none() {
            return;
        }
        self.inside.push(module.ident.to_string());
        syn::visit::visit_item_mod(self, module);
        self.inside.pop();
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        if !is_test(&function.attrs) {
            syn::visit::visit_item_fn(self, function);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if is_test(&item.attrs) {
            return;
        }
        let public = !matches!(item.vis, syn::Visibility::Inherited);
        self.take(&item.tree, &mut Vec::new(), public);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let words: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        if words.len() > 1 {
            self.found.extend(self.absolute(&words));
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        // Most macros take expressions; what is no expression names nothing that matters here.
        let arguments =
            call.parse_body_with(syn::punctuated::Punctuated::<syn::Expr, syn::Token![,]>::parse_terminated);
        for argument in arguments.into_iter().flatten() {
            self.visit_expr(&argument);
        }
    }
}

fn is_test_file(file: &File) -> bool {
    file.path.components().any(|c| c.as_os_str() == "tests" || c.as_os_str() == "tests.rs")
}

/// The room of a module. Two rooms are parts of other rooms' folders.
fn room(module: &[String]) -> &str {
    match module {
        [first, second, ..] if first == "runbook" && second == "read" => "read",
        [first, .., last] if first == "kind" && last != "spec" => "server",
        [first, ..] => first,
        [] => "",
    }
}

#[test]
fn names_are_read_and_resolved() {
    let text = "use crate::a::{B, c::{D, self}, E as F}; use super::{g, super::h::I}; pub use child::J;
        mod child; fn f() { crate::j::k::<T>(super::l); assert!(crate::m::n(1), \"{}\", self::o::P); }
        #[cfg(test)] mod tests { use crate::q::R; }";
    let rust = syn::parse_file(text).expect("Rust");
    let module: Vec<String> = ["x", "y"].map(str::to_owned).to_vec();
    let file = File { room: "x".into(), path: "x/y.rs".into(), module, text: String::new(), rust };
    let names = Names::of(&file);
    let found: Vec<String> = names.found.iter().map(|name| name.join("::")).collect();
    let expected = ["a::B", "a::E", "a::c", "a::c::D", "h::I", "j::k", "m::n", "x::g", "x::l", "x::y::o::P"];
    assert_eq!(found, expected);
    assert_eq!(names.handed_on["J"].join("::"), "x::y::child::J");
    assert!(!self::names("operand::x", "rand") && self::names("rand::x", "rand::"));
}

#[test]
fn rooms_use_only_what_stands_below_them() {
    let allowed: BTreeMap<&str, &[&str]> = ROOMS.into_iter().collect();
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let files = sources();
    let modules = modules(&files);
    for file in &files {
        let below = allowed.get(file.room.as_str());
        let below = below.unwrap_or_else(|| panic!("src/{} is not among ROOMS: add it", file.room));
        if is_test_file(file) {
            continue;
        }
        let names = Names::of(file);
        for name in names.found.iter().chain(names.handed_on.values()) {
            let path = name.join("::");
            // What is not a room is an item of the crate's root: there is none.
            let to = home(name, &modules)
                .unwrap_or_else(|| panic!("{}: {path} is in no room", file.path.display()));
            let target = files[to].room.as_str();
            let fine = target == file.room || below.contains(&target);
            assert!(fine, "{}: {} may not use {path}", file.path.display(), file.room);
            used.entry(file.room.clone()).or_default().insert(target.to_owned());
        }
    }
    // An allowance that nothing needs any more goes. `cli` wires everything and may use all.
    for (room, below) in ROOMS.into_iter().filter(|(room, _)| *room != "cli") {
        let unused: Vec<_> =
            below.iter().filter(|b| !used.get(room).is_some_and(|u| u.contains(**b))).collect();
        assert!(unused.is_empty(), "{room} no longer uses {unused:?}: take it out of ROOMS");
    }
}

/// The files by their modules, each with what it hands on.
fn modules(files: &[File]) -> BTreeMap<Name, (usize, BTreeMap<String, Name>)> {
    files
        .iter()
        .enumerate()
        .map(|(at, file)| (file.module.clone(), (at, Names::of(file).handed_on)))
        .collect()
}

/// The file that a name is defined in: the longest of its beginnings that is a file, and where that hands
/// the item on, the file that it comes from.
fn home(name: &Name, modules: &BTreeMap<Name, (usize, BTreeMap<String, Name>)>) -> Option<usize> {
    let (at, (file, handed_on)) =
        (1..=name.len()).rev().find_map(|at| modules.get(&name[..at]).map(|module| (at, module)))?;
    match name.get(at).and_then(|item| handed_on.get(item)) {
        Some(source) if source != name => home(source, modules),
        _ => Some(*file),
    }
}

#[test]
fn no_two_parts_of_a_folder_need_each_other() {
    let files: Vec<File> = sources().into_iter().filter(|file| !is_test_file(file)).collect();
    let names: Vec<Names<'_>> = files.iter().map(Names::of).collect();
    let modules = modules(&files);
    // Of each folder, or file with parts, which of its parts need which.
    type Needs = BTreeMap<String, BTreeMap<String, String>>;
    let mut folders: BTreeMap<Name, Needs> = BTreeMap::new();
    for (from, names) in files.iter().zip(&names) {
        for name in &names.found {
            let Some(to) = home(name, &modules).map(|to| &files[to]) else { continue };
            let common = from.module.iter().zip(&to.module).take_while(|(a, b)| a == b).count();
            // What stands above or below is one thing with it; rooms have a rule of their own.
            if let (Some(part), Some(other), 1..) = (from.module.get(common), to.module.get(common), common) {
                let needs = folders.entry(from.module[..common].to_vec()).or_default();
                let because = format!("{} uses {}", from.path.display(), name.join("::"));
                needs.entry(part.clone()).or_default().insert(other.clone(), because);
            }
        }
    }
    let mut circles = Vec::new();
    for (folder, mut needs) in folders {
        // Taken away one after the other: what needs none of the rest, and what the rest does not need.
        // What is left needs itself.
        loop {
            let needed: BTreeSet<String> = needs.values().flat_map(BTreeMap::keys).cloned().collect();
            let before = needs.len();
            needs.retain(|part, others| !others.is_empty() && needed.contains(part));
            let left: BTreeSet<String> = needs.keys().cloned().collect();
            needs.values_mut().for_each(|others| others.retain(|other, _| left.contains(other)));
            if needs.len() == before {
                break;
            }
        }
        circles.extend(
            needs.into_values().flat_map(BTreeMap::into_values).map(|w| format!("{}: {w}", folder.join("/"))),
        );
    }
    assert!(circles.is_empty(), "parts that need each other:\n{}", circles.join("\n"));
}

#[test]
fn the_pure_layers_are_pure() {
    for file in sources().into_iter().filter(|f| PURE.contains(&f.room.as_str())) {
        let text = production(&file);
        for impure in IMPURE {
            let crate_name = impure.chars().all(is_name) && impure.starts_with(|c: char| c.is_lowercase());
            let found = if crate_name { names_crate(text, impure) } else { names(text, impure) };
            assert!(!found, "{}: {} is pure and names {impure}", file.path.display(), file.room);
        }
        // A group hides the path: `use std::{fs, env}`.
        assert!(!text.contains("use std::{"), "{}: write std's paths one by one", file.path.display());
        // Of the clock only arithmetic: what is there without an instance.
        for name in Names::of(&file).found.iter().filter(|name| room(name) == "clock") {
            assert!(["add", "since"].contains(&name[1].as_str()), "{}: {name:?}", file.path.display());
        }
    }
}

#[test]
fn only_the_command_line_and_the_displays_print() {
    let mut printing = BTreeSet::new();
    for file in sources() {
        if PRINTS.iter().any(|p| names(production(&file), p)) {
            printing.insert(file.room.clone());
        }
    }
    let expected: BTreeSet<String> = ["cli", "output"].into_iter().map(str::to_owned).collect();
    assert_eq!(printing, expected);
}

#[test]
fn nobody_but_the_journal_and_what_works_on_its_files_knows_the_backend() {
    // What opens the ledger, what is done to the bytes of files, and the tests that hold two ledgers together.
    let knows = |path: &Path| {
        ["cli/context.rs", "cli/tests.rs", "cli/audit", "cli/runs/archive.rs"]
            .iter()
            .any(|known| path.starts_with(known))
    };
    for file in sources().into_iter().filter(|f| f.room != "journal" && !knows(&f.path)) {
        // Tests too: the engine is tested against the trait.
        for backend in ["FileJournal", "StateDir", "MemoryLedger"] {
            assert!(!names(&file.text, backend), "{}: names {backend}", file.path.display());
        }
    }
    // In the journal's own room, only the backends are backends: what they share knows neither files nor memory.
    let is_shared = |f: &File| {
        f.room == "journal" && f.module.len() > 1 && !f.path.starts_with("journal/file") && !is_test_file(f)
    };
    for file in sources().into_iter().filter(is_shared) {
        for word in ["std::fs", "std::path", "StateDir", "MemoryLedger"] {
            let own = file.path.ends_with("memory.rs") && word == "MemoryLedger";
            assert!(own || !names(production(&file), word), "{}: names {word}", file.path.display());
        }
    }
}

/// What of the outside world is called through.
const CALLED: [&str; 8] = ["Issuer", "Store", "Consumer", "Question", "Probe", "Call", "Gate", "Provider"];

/// The types of a file with what they hold of these traits, and the implementations of one that carry no lint.
#[derive(Default)]
struct Wrappers {
    holders: BTreeSet<(String, String)>,
    unguarded: Vec<(String, String)>,
}

impl<'ast> Visit<'ast> for Wrappers {
    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        struct Holds(Vec<String>);
        impl<'ast> Visit<'ast> for Holds {
            fn visit_trait_bound(&mut self, bound: &'ast syn::TraitBound) {
                self.0.extend(bound.path.segments.last().map(|s| s.ident.to_string()));
            }
        }
        let mut holds = Holds(Vec::new());
        syn::visit::visit_item_struct(&mut holds, item);
        self.holders.extend(holds.0.into_iter().map(|held| (item.ident.to_string(), held)));
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let last = |path: &syn::Path| path.segments.last().map(|s| s.ident.to_string()).unwrap_or_default();
        let called = item.trait_.as_ref().map(|(_, path, _)| last(path)).unwrap_or_default();
        let guarded = item.attrs.iter().any(|a| {
            a.path().is_ident("deny")
                && a.parse_args::<syn::Path>().is_ok_and(|lint| last(&lint) == "missing_trait_methods")
        });
        if let syn::Type::Path(of) = &*item.self_ty
            && CALLED.contains(&called.as_str())
            && !guarded
        {
            self.unguarded.push((last(&of.path), called));
        }
    }
}

/// A wrapper that does not forward a method with a default answers with the default, and nobody notices.
#[test]
fn what_wraps_a_part_of_the_world_forwards_every_method() {
    let found = |file: &syn::File| {
        let mut found = Wrappers::default();
        found.visit_file(file);
        found.unguarded.retain(|wrapper| found.holders.contains(wrapper));
        found.unguarded
    };
    for file in sources() {
        let wrong = found(&file.rust);
        let path = file.path.display();
        assert!(wrong.is_empty(), "{path}: #[deny(clippy::missing_trait_methods)] on the impls of {wrong:?}");
    }
    let wrapper =
        "struct W { inner: Arc<dyn Issuer> } impl provider::Issuer for W {} struct N; impl Issuer for N {}";
    assert_eq!(found(&syn::parse_file(wrapper).expect("Rust")), [("W".into(), "Issuer".into())]);
    let generic = "struct W<S: Store>(S); #[deny(clippy::missing_trait_methods)] impl<S> Store for W<S> {}";
    assert!(found(&syn::parse_file(generic).expect("Rust")).is_empty());
}
