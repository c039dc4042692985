//! The texts of messages: a file per language and audience, with a section per message.
//!
//! A section begins with `== NAME`. Its first line is the title, the rest is the text. Lines before the first
//! section are comments, and begin with `#`. What a template can name is decided by its audience ([`Values`]); a template that names
//! anything else is not loaded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::LazyLock;

use minijinja::{Environment, UndefinedBehavior, Value};
use regex_lite::Regex;
use strum::IntoEnumIterator as _;

use super::audience::Values;
use crate::domain::{Audience, MessageKind};
use crate::provider::own_file;
use crate::runbook::{Finding, ReadError, Source, Span};

/// The longest file of templates.
const MAX_FILE: usize = 64 * 1024;
/// The longest message.
const MAX_MESSAGE: usize = 16 * 1024;

const SHIPPED: [(&str, Audience, &str); 6] = [
    ("en", Audience::Technicians, include_str!("../../../templates/messages/en/technicians.txt")),
    ("en", Audience::Management, include_str!("../../../templates/messages/en/management.txt")),
    ("en", Audience::Customers, include_str!("../../../templates/messages/en/customers.txt")),
    ("de", Audience::Technicians, include_str!("../../../templates/messages/de/technicians.txt")),
    ("de", Audience::Management, include_str!("../../../templates/messages/de/management.txt")),
    ("de", Audience::Customers, include_str!("../../../templates/messages/de/customers.txt")),
];

/// What a customer must not read: an address of mail, a path, a host, an address of a network.
static INTERNAL: LazyLock<Vec<(&str, Regex)>> = LazyLock::new(|| {
    let patterns = [
        ("an address of a person", r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*"),
        ("a path", r"(?:^|[\s(\x22'=])(?:~|\.{1,2})?/[\w.-]+|\w+/\w+/\w+|\b[A-Za-z]:\\"),
        ("an address of a network", r"\b\d{1,3}(?:\.\d{1,3}){3}\b|\b(?:[0-9a-fA-F]{1,4}:){3,}[0-9a-fA-F:]+"),
        ("a host", r"\b[A-Za-z0-9][A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}\b"),
    ];
    // A test compiles every pattern.
    patterns.iter().filter_map(|(what, pattern)| Some((*what, Regex::new(pattern).ok()?))).collect()
});

/// The words of what stanch ships for customers: a name of the run that is one of them says nothing.
static PLAIN_WORDS: LazyLock<std::collections::HashSet<String>> = LazyLock::new(|| {
    let customers = SHIPPED.iter().filter(|(_, audience, _)| *audience == Audience::Customers);
    let words = customers.flat_map(|(_, _, text)| text.split(|c: char| !c.is_alphanumeric()));
    words.filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
});

/// The templates of one language.
#[derive(Debug)]
pub struct Templates {
    language: String,
    environment: Environment<'static>,
}

/// Templates cannot be used.
#[derive(Debug)]
pub struct Unusable {
    /// The file.
    pub source: Source,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
}

/// Why the templates of a language cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// A file has mistakes.
    #[error("the templates in {} are not valid", .0.source.name)]
    Unusable(Box<Unusable>),
    /// A file cannot be read.
    #[error(transparent)]
    Unreadable(#[from] ReadError),
    /// There are none in this language.
    #[error("there are no templates in the language `{0}`")]
    NoSuchLanguage(String),
    /// Their directory is not there.
    #[error("the directory of templates {} does not exist", .0.display())]
    NoDirectory(PathBuf),
}

/// One section of a file.
struct Section {
    name: String,
    /// Where its name is.
    at: Span,
    /// Where its text begins.
    start: usize,
    text: String,
}

/// Reads a file of the operator's: only a regular one, since a pipe would hold up the run.
///
/// # Errors
/// When there is no such file, or it cannot be read.
pub(super) fn read(path: &Path) -> Result<Source, ReadError> {
    if let Err(source) = own_file::regular_or_absent(path)
        // What reads it says that better.
        && !path.is_dir()
    {
        return Err(ReadError::Io { path: path.to_owned(), source });
    }
    Source::read(path)
}

impl Templates {
    /// The templates of a language: those of stanch, and over them those of a directory.
    ///
    /// # Errors
    /// When a template has a mistake, or there is none in this language.
    pub fn load(language: &str, own: Option<&Path>) -> Result<Self, TemplateError> {
        let mut templates = Self { language: language.to_owned(), environment: environment() };
        let mut files: Vec<(Audience, Source)> = Vec::new();
        for (shipped, audience, text) in SHIPPED {
            if shipped == language {
                let name = format!("templates/messages/{shipped}/{audience}.txt");
                files.push((audience, Source { name, text: text.to_owned() }));
            }
        }
        if let Some(folder) = own {
            if !folder.is_dir() {
                return Err(TemplateError::NoDirectory(folder.to_owned()));
            }
            for audience in Audience::iter() {
                let path = folder.join(language).join(format!("{audience}.txt"));
                match read(&path) {
                    Ok(source) => {
                        // A carriage return belongs to the end of its line.
                        files.push((audience, Source { text: source.text.replace("\r\n", "\n"), ..source }));
                    }
                    // Only what is there replaces what is shipped.
                    Err(ReadError::Missing { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        if files.is_empty() {
            return Err(TemplateError::NoSuchLanguage(language.to_owned()));
        }
        for (audience, source) in files {
            let findings = templates.add(audience, &source);
            if !findings.is_empty() {
                return Err(TemplateError::Unusable(Box::new(Unusable { source, findings })));
            }
        }
        Ok(templates)
    }

    /// The language.
    pub fn language(&self) -> &str {
        &self.language
    }

    /// Whether there is such a message for an audience.
    pub fn has(&self, audience: Audience, kind: MessageKind) -> bool {
        self.environment.get_template(&name(audience, kind)).is_ok()
    }

    /// Title and text of a message; `None` where this audience has none of this kind.
    pub fn render(&self, audience: Audience, kind: MessageKind, values: &Values) -> Option<(String, String)> {
        let template = self.environment.get_template(&name(audience, kind)).ok()?;
        // Loading rendered each with samples of all fields, so this does not fail for want of one.
        let text = template.render(Value::from_serialize(values)).ok()?;
        let text: String = text.chars().take(MAX_MESSAGE).collect();
        let (title, rest) = text.trim().split_once('\n').unwrap_or((text.trim(), ""));
        Some((crate::text::sanitize(title), crate::text::sanitize_block(rest.trim())))
    }

    /// Adds the sections of a file. What is wrong with any is returned.
    fn add(&mut self, audience: Audience, source: &Source) -> Vec<Finding> {
        if source.text.len() > MAX_FILE {
            let message = format!("the file has more than {MAX_FILE} bytes");
            return vec![Finding::error("too-large", Span::default(), message)];
        }
        let mut found = crate::runbook::secrets_in(&source.text);
        found.extend(strays(&source.text));
        let mut seen = BTreeMap::new();
        for section in sections(&source.text) {
            let Ok(kind) = MessageKind::from_str(&section.name) else {
                let kinds: Vec<&str> = MessageKind::iter().map(MessageKind::name).collect();
                let message = "there is no message of this name";
                found.push(
                    Finding::error("no-such-message", section.at, message)
                        .hint(format!("one of: {}", kinds.join(", "))),
                );
                continue;
            };
            if seen.insert(kind, ()).is_some() {
                found.push(Finding::error("duplicate-key", section.at, "this message is there twice"));
                continue;
            }
            if kind == MessageKind::Drill && audience == Audience::Customers {
                let message = "a drill never reaches customers";
                found.push(
                    Finding::error("drill-to-customers", section.at, message).hint("remove the section"),
                );
                continue;
            }
            found.extend(self.section(audience, kind, source, section));
        }
        found
    }

    fn section(
        &mut self,
        audience: Audience,
        kind: MessageKind,
        source: &Source,
        section: Section,
    ) -> Vec<Finding> {
        let mut found = Vec::new();
        let place = |word: &str| {
            let at = span(&source.text, section.start, section.text.len());
            at.narrow(&source.text, word)
        };
        if section.text.trim().is_empty() {
            return vec![Finding::error("empty", section.at, "this message is empty")];
        }
        if audience == Audience::Customers {
            for (what, range) in internal(&without_tags(&section.text)) {
                let at = span(&source.text, section.start + range.start, range.len());
                found.push(
                    Finding::error("internal", at, format!("a message to customers cannot name {what}"))
                        .hint("say it in words that customers know"),
                );
            }
        }
        let name = name(audience, kind);
        if let Err(error) = self.environment.add_template_owned(name.clone(), section.text.clone()) {
            let at = line_of(source, &section, &error);
            found.push(Finding::error(
                "template",
                at,
                format!("this is not a valid template: {}", reason(&error)),
            ));
            return found;
        }
        let Ok(template) = self.environment.get_template(&name) else { return found };
        let names = Values::names(audience);
        let mut unknown: Vec<String> = template.undeclared_variables(false).into_iter().collect();
        unknown.retain(|variable| !names.contains(variable));
        unknown.sort();
        for variable in &unknown {
            let message = match audience {
                Audience::Customers => format!("a message to customers cannot name `{variable}`"),
                _ => format!("a message to {audience} has no `{variable}`"),
            };
            found.push(
                Finding::error("unknown-variable", place(variable), message)
                    .hint(format!("it can name: {}", names.join(", "))),
            );
        }
        if unknown.is_empty() {
            for sample in Values::samples(audience) {
                if let Err(error) = template.render(Value::from_serialize(&sample)) {
                    let at = line_of(source, &section, &error);
                    let message = format!("this template cannot be filled in: {}", reason(&error));
                    found.push(Finding::error("template", at, message));
                    break;
                }
            }
        }
        found
    }
}

/// What in a text for customers is internal: what it is, and where.
pub fn internal(text: &str) -> Vec<(&'static str, std::ops::Range<usize>)> {
    let hits =
        INTERNAL.iter().flat_map(|(what, pattern)| pattern.find_iter(text).map(|hit| (*what, hit.range())));
    let mut found: Vec<_> = hits.collect();
    found.sort_by_key(|(_, range)| range.start);
    found.dedup_by(|next, before| next.1.start < before.1.end);
    found
}

/// The first of these names that a text for customers has as a word of its own, whatever its case. A name that is
/// a word of what stanch itself tells customers says nothing there.
pub fn named<'a>(text: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let text = text.to_lowercase();
    let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    names.into_iter().find(|name| {
        let name = name.trim().to_lowercase();
        // Shorter ones are in every text.
        if name.chars().count() < 3 || PLAIN_WORDS.contains(&name) {
            return false;
        }
        text.match_indices(&name).any(|(at, hit)| {
            let (before, after) = (text[..at].chars().next_back(), text[at + hit.len()..].chars().next());
            !is_word(before) && !is_word(after)
        })
    })
}

fn span(text: &str, start: usize, length: usize) -> Span {
    Span::of(text, start..start + length)
}

fn name(audience: Audience, kind: MessageKind) -> String {
    format!("{audience}/{kind}")
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment
}

/// What went wrong, without the template's text.
fn reason(error: &minijinja::Error) -> String {
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    crate::text::sanitize(&what)
}

/// The line of a section that a mistake is in.
fn line_of(source: &Source, section: &Section, error: &minijinja::Error) -> Span {
    let Some(line) = error.line() else { return section.at };
    let mut lines = section.text.split_inclusive('\n');
    let before: usize = lines.clone().take(line.saturating_sub(1)).map(str::len).sum();
    let text = lines.nth(line.saturating_sub(1)).unwrap_or_default().trim_end();
    span(&source.text, section.start + before, text.len())
}

/// A template without its tags, each byte of them a blank, so that places stay.
fn without_tags(text: &str) -> String {
    let mut out = text.to_owned();
    for (open, close) in [("{{", "}}"), ("{%", "%}"), ("{#", "#}")] {
        let mut from = 0;
        while let Some(start) = out[from..].find(open).map(|at| from + at) {
            let end = out[start..].find(close).map_or(out.len(), |at| start + at + close.len());
            out.replace_range(start..end, &" ".repeat(end - start));
            from = end;
        }
    }
    out
}

/// Lines that belong to no section, or look as if they were to begin one.
fn strays(text: &str) -> Vec<Finding> {
    let (mut found, mut at, mut begun) = (Vec::new(), 0, false);
    for line in text.split_inclusive('\n') {
        let words = line.trim();
        let place = span(text, at + line.len() - line.trim_start().len(), words.len());
        let name = words.trim_matches('=').trim();
        let is_header = line.starts_with("== ");
        let names_one = words.starts_with('=') && MessageKind::from_str(name).is_ok();
        let is_near = names_one || line.starts_with("==") && !name.is_empty();
        if !is_header && is_near {
            let message = "this line does not begin a message";
            let hint = format!("write: == {}", crate::text::sanitize(name));
            found.push(Finding::error("malformed-header", place, message).hint(hint));
            // What follows was meant to be its text.
            begun = true;
        } else if !is_header && !begun && !words.is_empty() && !words.starts_with('#') {
            let message = "this text belongs to no message";
            let hint = "begin a message with `== NAME`, or a comment with `#`";
            found.push(Finding::error("stray-text", place, message).hint(hint));
            // One finding for all of it.
            begun = true;
        }
        begun |= is_header;
        at += line.len();
    }
    found
}

fn sections(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if let Some(name) = line.strip_prefix("== ") {
            sections.push(Section {
                name: name.trim().to_owned(),
                at: span(text, at + 3, name.trim_end().len()),
                start: at + line.len(),
                text: String::new(),
            });
        } else if let Some(section) = sections.last_mut() {
            section.text.push_str(line);
        }
        at += line.len();
    }
    sections
}

#[cfg(test)]
mod tests;
