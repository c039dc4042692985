//! Findings: what is wrong with a runbook, where, and what to do about it.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde::Serialize;

use super::Source;
use super::secrets;

/// The code of findings whose place holds a secret: `render` masks it.
pub(crate) const LITERAL_SECRET: &str = "literal-secret";

/// Lines longer than this are not shown: the place is named, the text is not drawn.
const SHOWN_LINE: usize = 2000;

/// How bad a finding is, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The runbook cannot be used.
    Error,
    /// It can be used, and somebody will probably regret it.
    Warning,
    /// Worth knowing.
    Note,
}

/// A place in the file. Lines and columns count from 1, columns in characters; `start` and `end`
/// are offsets in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Span {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

impl Span {
    /// The place of a byte range of a text. Counts lines, so it is for the few, not for the many.
    pub(crate) fn of(text: &str, range: Range<usize>) -> Self {
        let start = floor(text, range.start);
        let end = floor(text, range.end.max(start));
        let before = text.get(..start).unwrap_or_default();
        let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Self { line, column, start, end }
    }

    /// The first place of `needle` inside this place, else this place.
    pub(crate) fn narrow(self, text: &str, needle: &str) -> Self {
        let inside = text.get(self.start..self.end).unwrap_or_default();
        match inside.find(needle) {
            Some(at) => {
                let start = self.start + at;
                let before = &inside[..at];
                let newlines = before.bytes().filter(|&byte| byte == b'\n').count();
                let tail = before.rsplit('\n').next().unwrap_or_default().chars().count();
                Self {
                    line: self.line + newlines,
                    column: if newlines == 0 { self.column + tail } else { tail + 1 },
                    start,
                    end: start + needle.len(),
                }
            }
            None => self,
        }
    }
}

/// One mistake, or something worth a second look.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// A stable name of the kind of finding, in kebab-case.
    pub code: &'static str,
    /// What is wrong. Never carries a value that could be a secret.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Where it is.
    pub at: Span,
}

impl Finding {
    /// A finding that makes the runbook unusable.
    pub(crate) fn error(code: &'static str, at: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, code, message: message.into(), hint: None, at }
    }

    /// A finding that the runbook can be used with.
    pub(crate) fn warning(code: &'static str, at: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, at, message) }
    }

    /// A finding that asks for nothing.
    pub(crate) fn note(code: &'static str, at: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Note, ..Self::error(code, at, message) }
    }

    /// Adds what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Sorts by severity, then by place.
pub(crate) fn sort(findings: &mut [Finding]) {
    findings.sort_by(|a, b| {
        (a.severity, a.at.start, a.at.line, a.code).cmp(&(b.severity, b.at.start, b.at.line, b.code))
    });
}

/// A finding as `--json` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields of `Finding` and `Span`, flat")]
pub struct Reported {
    pub file: String,
    pub line: usize,
    pub column: usize,
    pub end_line: usize,
    pub end_column: usize,
    pub severity: Severity,
    pub code: &'static str,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The findings for scripts.
pub fn reported(findings: &[Finding], source: &Source) -> Vec<Reported> {
    findings
        .iter()
        .map(|finding| {
            let at = finding.at;
            let inside = source.text.get(at.start..at.end).unwrap_or_default();
            let newlines = inside.bytes().filter(|&byte| byte == b'\n').count();
            let tail = inside.rsplit('\n').next().unwrap_or_default().chars().count();
            Reported {
                file: source.name.clone(),
                line: at.line,
                column: at.column,
                end_line: at.line + newlines,
                end_column: if newlines == 0 { at.column + tail } else { tail + 1 },
                severity: finding.severity,
                code: finding.code,
                message: finding.message.clone(),
                hint: finding.hint.clone(),
            }
        })
        .collect()
}

/// The findings for people: each with its line, a caret and a hint. Secrets in the shown lines are
/// masked, and nothing in the file can steer the terminal.
pub fn render(findings: &[Finding], source: &Source, color: bool, width: usize) -> String {
    let text = shown(findings, &source.text);
    let name = tame(&source.name).replace(['\n', '\t'], " ");
    let renderer = if color { Renderer::styled() } else { Renderer::plain() }.term_width(width.max(40));
    let mut out = String::new();
    for finding in findings {
        let level = match finding.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Note => Level::NOTE,
        };
        let group = Group::with_title(level.primary_title(tame(&finding.message)).id(finding.code));
        let mut group = match line_of(&text, finding.at) {
            Some((line, span)) => group.element(
                Snippet::source(line)
                    .line_start(finding.at.line)
                    .path(name.clone())
                    .annotation(AnnotationKind::Primary.span(span)),
            ),
            None => {
                group.element(Origin::path(name.clone()).line(finding.at.line).char_column(finding.at.column))
            }
        };
        if let Some(hint) = &finding.hint {
            group = group.element(Level::HELP.message(tame(hint)));
        }
        out.push_str(&renderer.render(&[group]));
        out.push_str("\n\n");
    }
    out
}

/// The line that a place begins on, and the place inside it.
fn line_of(text: &str, at: Span) -> Option<(String, Range<usize>)> {
    let start = floor(text, at.start);
    let from = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let to = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
    if to - from > SHOWN_LINE {
        return None;
    }
    let end = floor(text, at.end).clamp(start, to);
    Some((text[from..to].to_owned(), start - from..end - from))
}

/// The text as it may be shown: secrets masked, no control characters; every byte keeps its place.
fn shown(findings: &[Finding], text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let flagged = findings.iter().filter(|finding| finding.code == LITERAL_SECRET);
    let flagged = flagged.map(|finding| floor(text, finding.at.start)..floor(text, finding.at.end));
    for range in flagged.chain(secrets::shapes(text)) {
        for byte in bytes.get_mut(range).unwrap_or_default() {
            if *byte != b'\n' {
                *byte = b'*';
            }
        }
    }
    tame(&String::from_utf8_lossy(&bytes))
}

/// Replaces what could steer a terminal, each character by as many bytes as it had.
pub(crate) fn tame(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let steers = c.is_control() && !matches!(c, '\n' | '\t')
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}');
        match c.len_utf8() {
            _ if !steers => out.push(c),
            1 if c == '\r' && chars.peek() == Some(&'\n') => out.push(' '),
            1 => out.push('?'),
            2 => out.push('\u{b7}'),
            3 => out.push('\u{fffd}'),
            _ => out.push_str("????"),
        }
    }
    out
}

/// The nearest character boundary at or before an offset.
fn floor(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}
