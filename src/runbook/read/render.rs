//! Findings, shown.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde::Serialize;

use super::finding::{Finding, LITERAL_SECRET, Severity};
use super::secrets;
use super::source::Source;
use super::span::{Span, floor};
use crate::text;

/// Lines longer than this are not shown: the place is named, the text is not drawn.
const SHOWN_LINE: usize = 2000;

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
    let name = text::sanitize_block(&source.name).replace(['\n', '\t'], " ");
    let renderer = if color { Renderer::styled() } else { Renderer::plain() }.term_width(width.max(40));
    let mut out = String::new();
    for finding in findings {
        let level = match finding.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Note => Level::NOTE,
        };
        let group =
            Group::with_title(level.primary_title(text::sanitize_block(&finding.message)).id(finding.code));
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
            group = group.element(Level::HELP.message(text::sanitize_block(hint)));
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
    text::sanitize_block(&String::from_utf8_lossy(&bytes))
}
