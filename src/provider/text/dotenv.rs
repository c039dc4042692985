//! Assignments of the form `NAME=value`, which shells, systemd and many a library read, each a little
//! differently. A value that they differ on is refused; one is never written.

use std::ops::Range;

use super::{Place, Spelling, doubled, invalid};
use crate::domain::ErrorKind;
use crate::provider::outcome::CallError;
use crate::secret::Secret;

/// What some reader takes for the end of a line, and others for a character of the value or a comment.
const OTHER_LINE_ENDS: [char; 5] = ['\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}'];

/// The value of a name.
pub(super) fn locate(text: &str, key: &str) -> Result<Place, CallError> {
    refuse_ambiguous_lines(text)?;
    // A shell takes quotes anywhere in a value, libraries only those that it begins with.
    let (shell, library) = (assignments(text, true), assignments(text, false));
    let ours = |all: &[Assignment]| -> Vec<Assignment> {
        all.iter().filter(|one| &text[one.name.clone()] == key).cloned().collect()
    };
    let (as_shell, as_library) = (ours(&shell), ours(&library));
    if as_shell != as_library {
        return Err(invalid(format!(
            "a shell and other readers differ on where `{key}` is: a quote, or a backslash at the end of a \
             line, spans lines for one of them only"
        ))
        .hint("write each value that contains a quote in quotes of the other kind"));
    }
    let Assignment { name, word, exported } = match as_shell.as_slice() {
        [] => {
            return Err(CallError::rejected(ErrorKind::NotFound, format!("there is no `{key}`"))
                .hint("check `key` in the runbook"));
        }
        [one] => one.clone(),
        _ => return Err(doubled(key)),
    };
    let raw = &text[word.clone()];
    let (value, spelling) = read(raw).map_err(|why| {
        invalid(format!("`{key}` {why}, which a shell and other readers understand differently"))
            .hint("write the value in single quotes, just as its reader is to get it")
    })?;
    if is_changed_elsewhere(text, key, name.start) {
        return Err(invalid(format!(
            "another line sets or removes `{key}`, or may, in another form (such as `'{key}'=`, `readonly {key}=`, \
             `{key}+=`, `read {key}` or `for {key} in`), which some readers follow and others do not"
        ))
        .hint(format!("keep one line for it, `{key}=` and its value; then plan again")));
    }
    let line_end = text[word.end..].find('\n').map_or(text.len(), |end| word.end + end);
    if !text[word.end..line_end].trim().is_empty() {
        return Err(invalid(format!(
            "`{key}` is followed by a comment on its line: systemd takes it for a part of the value, a shell \
             does not"
        ))
        .hint("move the comment to a line of its own, then plan again"));
    }
    if exported
        && spelling == Spelling::Bare
        && value.contains('{')
        && (value.contains(',') || value.contains(".."))
    {
        return Err(invalid(format!(
            "`{key}` has braces without quotes behind `export`: bash expands them, other readers do not"
        ))
        .hint("write the value in single quotes, then plan again"));
    }
    let before = &text[..word.start];
    let assigned = before.trim_end_matches([' ', '\t']);
    let spaced = assigned.strip_suffix('=').is_some_and(|name| name.ends_with([' ', '\t']));
    // With a space on both sides no shell reads the line at all.
    if !value.is_empty() && assigned != before && !spaced {
        return Err(invalid(format!("`{key}=` is followed by a space: a shell takes the value for empty"))
            .hint("remove the space"));
    }
    Ok(Place { range: word, value: Secret::new(value), spelling })
}

/// Refuses a text that is parted into lines in more than one way.
fn refuse_ambiguous_lines(text: &str) -> Result<(), CallError> {
    let what = if text.replace("\r\n", "").contains('\r') {
        "a carriage return that does not end a line"
    } else if text.contains(OTHER_LINE_ENDS) {
        "a character (form feed, vertical tab, NEL or a Unicode line separator) that does not end a line"
    } else {
        return Ok(());
    };
    Err(invalid(format!("the file has {what} for a shell, and ends one for other readers"))
        .hint("remove that character, then plan again"))
}

/// Whether a shell or a library sets or removes the variable anywhere but where its name stands at `ours`. Of
/// statements that name it, only `export NAME`, `readonly NAME` and another variable's value are known not to.
fn is_changed_elsewhere(text: &str, key: &str, ours: usize) -> bool {
    let mut open: Option<char> = None;
    let (mut escaped, mut comment) = (false, false);
    // The words of the statement so far; the word that is being read, without its quotes, and where it begins.
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<(usize, String)> = None;
    let mut before = ' ';
    for (at, c) in text.char_indices().chain([(text.len(), '\n')]) {
        let expansion = c == '{' && before == '$';
        let ends = open.is_none() && !escaped && !expansion && (c.is_whitespace() || ";&|(){}`".contains(c));
        if comment {
            comment = c != '\n';
        } else if open.is_none() && !escaped && word.is_none() && c == '#' {
            comment = true;
        }
        if (ends || at == text.len())
            && let Some((begun, word)) = word.take()
        {
            if begun != ours && changes(&words, &word, key) {
                return true;
            }
            words.push(word);
        }
        if ends && !matches!(c, ' ' | '\t') {
            words.clear();
        }
        if comment || ends {
            before = c;
            continue;
        }
        let (_, word) = word.get_or_insert_with(|| (at, String::new()));
        match open {
            _ if escaped => {
                escaped = false;
                word.push(c);
            }
            Some('"') | None if c == '\\' => escaped = true,
            Some(quote) if c == quote => open = None,
            None if matches!(c, '\'' | '"') => open = Some(c),
            _ => word.push(c),
        }
        before = c;
    }
    false
}

/// Whether a word, behind the others of its statement, may set or remove the variable.
fn changes(words: &[String], word: &str, key: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let assigns = word
        .strip_prefix(key)
        .is_some_and(|rest| ["=", "[", "+=", "++", "--"].iter().any(|sign| rest.starts_with(sign)));
    if assigns {
        return true;
    }
    // `-vNAME` is an option and its argument; in `$NAME` and `${NAME}` the variable is read.
    let option = word.strip_prefix('-').and_then(|rest| rest.get(1..)) == Some(key);
    let names = word.match_indices(key).any(|(at, _)| {
        let (front, back) = (&word[..at], &word[at + key.len()..]);
        !front.ends_with(part) && !front.ends_with('$') && !front.ends_with("${") && !back.starts_with(part)
    });
    let is_assignment =
        |word: &str| word.split_once('=').is_some_and(|(name, _)| !name.is_empty() && name.chars().all(part));
    let command = words.iter().find(|word| !is_assignment(word)).map(String::as_str);
    let options = words.iter().any(|word| word.starts_with(['-', '+']));
    let harmless = match command {
        None => is_assignment(word),
        Some("export" | "readonly") => !options && (word == key || is_assignment(word)),
        Some(_) => false,
    };
    option || (names && !harmless)
}

/// A value as all readers take it; or why they differ.
fn read(raw: &str) -> Result<(&str, Spelling), &'static str> {
    if raw.contains('\r') {
        return Err("contains a carriage return, or its line ends in one");
    }
    let (value, spelling) = match raw.chars().next() {
        Some(quote @ ('\'' | '"')) => match raw[1..].split_once(quote) {
            None => return Err("has a quote that does not end"),
            Some((value, "")) if quote == '"' => (value, Spelling::Double),
            Some((value, "")) => (value, Spelling::Single),
            // A backslash before the quote may be meant to hide it.
            Some((value, _)) if value.ends_with('\\') => return Err("contains a backslash"),
            Some(_) => return Err("has more behind its quotes"),
        },
        _ => (raw, Spelling::Bare),
    };
    let has = |characters: &[char]| value.contains(characters);
    if has(&['\\']) {
        return Err("contains a backslash");
    }
    if spelling == Spelling::Single && value.contains("${")
        || spelling != Spelling::Single && has(&['$', '`'])
    {
        return Err("contains `$` or a backtick");
    }
    if spelling == Spelling::Bare {
        if has(&['\'', '"']) {
            return Err("contains a quote");
        }
        if value.chars().any(|c| c.is_whitespace() || "#;&|<>()".contains(c))
            || value.starts_with('~')
            || value.contains(":~")
        {
            return Err(
                "contains white space, or a character that means something to a shell, without quotes",
            );
        }
    }
    Ok((value, spelling))
}

/// The value in a spelling, if all readers take it alike.
pub(super) fn spell(value: &str, spelling: Spelling) -> Option<String> {
    let raw = match spelling {
        Spelling::Bare if value.is_empty() => return None,
        Spelling::Bare => value.to_owned(),
        Spelling::Single => format!("'{value}'"),
        Spelling::Double => format!("\"{value}\""),
    };
    read(&raw).is_ok_and(|read| read == (value, spelling)).then_some(raw)
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Assignment {
    name: Range<usize>,
    /// The value with its quotes, without what surrounds it.
    word: Range<usize>,
    /// Whether `export` stands before the name.
    exported: bool,
}

fn assignments(text: &str, shell: bool) -> Vec<Assignment> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let line = &text[at..];
        let line = &line[..line.find('\n').unwrap_or(line.len())];
        let line_end = at + line.len();
        let rest = line.trim_start();
        let statement = line_end - rest.len();
        let rest = rest
            .strip_prefix("export")
            .filter(|rest| rest.starts_with([' ', '\t']))
            .map_or(rest, str::trim_start);
        let assigned = rest
            .split_once('=')
            .filter(|(name, _)| !name.starts_with('#') && !name.contains(['\'', '"', '\\']));
        let Some((name, value)) = assigned else {
            // To a shell, a quote in any other statement spans lines, too.
            let other = if shell && !rest.starts_with('#') { word(&text[statement..], shell) } else { 0 };
            at = next_line(text, line_end.max(statement + other));
            continue;
        };
        let start = line_end - rest.len();
        let exported = start > statement;
        let name = start..start + name.trim_end().len();
        let from = line_end - value.trim_start_matches([' ', '\t']).len();
        let length = word(&text[from..], shell);
        found.push(Assignment { name, word: from..from + length, exported });
        // What follows the value on its line is a comment, or more that no name begins.
        at = next_line(text, from + length);
    }
    found
}

/// Where the line after this place begins.
fn next_line(text: &str, from: usize) -> usize {
    text[from..].find('\n').map_or(text.len(), |end| from + end + 1)
}

/// How many bytes a value takes, quotes included.
fn word(text: &str, shell: bool) -> usize {
    let mut open: Option<char> = None;
    let mut end = 0;
    let mut escaped = false;
    // Behind white space that separates words.
    let mut gap = false;
    for (at, c) in text.char_indices() {
        let next = at + c.len_utf8();
        let hidden = escaped;
        match open {
            _ if escaped => escaped = false,
            Some('"') | None if c == '\\' && (shell || open.is_some()) => escaped = true,
            Some(quote) if c == quote => open = None,
            Some(_) => {}
            None if matches!(c, '\'' | '"') && (shell || at == 0) => open = Some(c),
            None if c == '\n' => return end,
            None if c == '#' && gap => return end,
            None => {}
        }
        gap = open.is_none() && !hidden && matches!(c, ' ' | '\t');
        if !gap {
            end = next;
        }
    }
    match open {
        None => end,
        Some(_) if shell => text.len(),
        // A library takes a quote that does not end for a character.
        Some(_) => text.find('\n').unwrap_or(text.len()),
    }
}
