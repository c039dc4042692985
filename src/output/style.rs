//! What the display can show: colours, and characters beyond ASCII.

use std::time::Duration;

/// What the display can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Whether colours may be used.
    pub color: bool,
    /// Whether characters beyond ASCII may be used.
    pub unicode: bool,
}

impl Style {
    /// A check mark.
    pub fn ok(self) -> &'static str {
        if self.unicode { "✔" } else { "+" }
    }

    /// A cross.
    pub fn bad(self) -> &'static str {
        if self.unicode { "✘" } else { "x" }
    }

    /// Something under way.
    pub fn now(self) -> &'static str {
        if self.unicode { "▶" } else { ">" }
    }

    /// Something to come.
    pub fn later(self) -> &'static str {
        if self.unicode { "·" } else { "." }
    }

    /// A turn back.
    pub fn back(self) -> &'static str {
        if self.unicode { "↶" } else { "<" }
    }

    /// The text without what the display cannot show.
    pub fn plain(self, text: &str) -> String {
        if self.unicode {
            return text.to_owned();
        }
        text.chars()
            .map(|c| match c {
                '…' => '.',
                '─' => '-',
                '✗' | '✘' => 'x',
                '✔' => '+',
                '↶' => '<',
                '▶' => '>',
                '·' => '.',
                '→' => '>',
                '’' | '‘' => '\'',
                c if c.is_ascii() => c,
                _ => '?',
            })
            .collect()
    }

    /// The text in a colour, where colours are shown.
    pub fn paint(self, text: &str, color: console::Color, bold: bool) -> String {
        if !self.color {
            return text.to_owned();
        }
        let style = console::Style::new().force_styling(true).fg(color);
        if bold { style.bold().apply_to(text).to_string() } else { style.apply_to(text).to_string() }
    }
}

/// A duration as people say it: `9s`, `4m 9s`, `1h 4m 9s`.
pub(crate) fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (h, m) {
        (0, 0) => format!("{s}s"),
        (0, _) => format!("{m}m {s}s"),
        _ => format!("{h}h {m}m {s}s"),
    }
}
