//! Places in a runbook's text.

use std::ops::Range;

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

/// The nearest character boundary at or before an offset.
pub(super) fn floor(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}
