//! Texts from outside, made fit for a message, a line and a terminal.

/// The longest text from outside that is kept in a message.
const MAX_TEXT: usize = 400;

/// Makes a text from outside fit for a message: it is made printable, and its length is bounded.
pub fn sanitize(text: &str) -> String {
    bounded(text, MAX_TEXT)
}

/// As [`sanitize`], for an error that names everything at once: each part of it is bounded already.
pub fn sanitize_long(text: &str) -> String {
    bounded(text, 20 * MAX_TEXT)
}

fn bounded(text: &str, most: usize) -> String {
    let mut kept: String = text.chars().map(printable).take(most).collect();
    if text.chars().nth(most).is_some() {
        kept.push('…');
    }
    kept.trim().to_owned()
}

/// A number of things, in words: `1 run`, `2 runs`.
pub fn counted(n: u64, thing: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{n} {thing}{s}")
}

/// The character, or one in its place that does nothing to a terminal or a line.
pub fn printable(c: char) -> char {
    match c {
        '\n' | '\t' => ' ',
        c if steers(c) => '\u{fffd}',
        c => c,
    }
}

/// As [`sanitize`], for a text of many lines that is shown as it stands: lines stay, and so does every
/// character's number of bytes, so that a place in it stays where it was.
pub fn sanitize_block(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c.len_utf8() {
            _ if matches!(c, '\n' | '\t') || !steers(c) => out.push(c),
            1 if c == '\r' && chars.peek() == Some(&'\n') => out.push(' '),
            1 => out.push('?'),
            2 => out.push('\u{b7}'),
            3 => out.push('\u{fffd}'),
            _ => out.push_str("????"),
        }
    }
    out
}

/// Whether a character can steer a terminal or hide what it stands beside: control characters (and with
/// them escape sequences), bidirectional overrides, and what Unicode draws with no width.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Whether a text from outside can be a name: of a version, of a key, of a token's accessor. Names are
/// kept, shown and sent again, so one that is none is no answer.
pub fn is_name(text: &str) -> bool {
    (1..=MAX_TEXT).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// A word as a shell takes it.
pub fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+=,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_plain() {
        assert!(is_name("hmac-sha256:0fA_b.c") && is_name("7"));
        for none in ["", "a b", "\x1b[2J", "é", &"x".repeat(401)] {
            assert!(!is_name(none), "{none:?}");
        }
    }

    #[test]
    fn a_sanitized_text_does_nothing_to_a_terminal() {
        assert_eq!(sanitize("\x1b[2Jhi\r\nthere"), "\u{fffd}[2Jhi\u{fffd} there");
        assert_eq!(sanitize(&"x".repeat(1000)).chars().count(), MAX_TEXT + 1);
        assert_eq!(sanitize("a\u{202e}b"), "a\u{fffd}b");
    }
}
