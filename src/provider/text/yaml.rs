//! YAML by the events of its parser: nothing is resolved, so that nothing is lost.

use std::collections::BTreeMap;
use std::ops::Range;

use granit_parser::{ErrorKind as YamlError, Event, Parser, ScalarStyle, Span};

use super::{Place, Spelling, doubled, invalid, is_small_number, json, unsupported};
use crate::domain::ErrorKind;
use crate::provider::outcome::CallError;
use crate::secret::Secret;

/// NEL, the line separator and the paragraph separator.
const OTHER_BREAKS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];

/// A mapping or a sequence that is open.
struct Open {
    /// Whether it is on the way to our value.
    ours: bool,
    mapping: bool,
    /// In a mapping: the key whose value comes next, and whether it is written without quotes. A key that is not
    /// a scalar has no text.
    key: Option<Option<(String, bool)>>,
    /// In a sequence: how many entries there were.
    index: usize,
}

/// The scalar at the end of a path.
pub(super) fn locate(text: &str, path: &[String], key: &str) -> Result<Place, CallError> {
    let mut open: Vec<Open> = Vec::new();
    let mut found: Option<Place> = None;
    // One more match on the path is a doubled key.
    let mut matched = vec![false; path.len()];
    let mut begun = false;
    // A key beside one on the path that some readers take for the same one.
    let mut twin = false;
    // A key may be an alias of a text that an anchor names.
    let mut anchored: BTreeMap<usize, (String, bool)> = BTreeMap::new();
    let events = events(text)?;
    refuse_other_breaks(text, &events)?;
    for (event, span) in events {
        match &event {
            Event::DocumentStart(..) if std::mem::replace(&mut begun, true) => {
                return Err(unsupported("the file holds more than one YAML document"));
            }
            Event::MappingEnd | Event::SequenceEnd => {
                open.pop();
            }
            Event::Scalar(..) | Event::Alias(_) | Event::SequenceStart(..) | Event::MappingStart(..) => {
                let depth = open.len();
                let text_of_node = match &event {
                    Event::Alias(anchor) => anchored.get(anchor).cloned(),
                    other => {
                        other.scalar().map(|(text, style)| (text.to_owned(), style == ScalarStyle::Plain))
                    }
                };
                if let (Some(anchor), Some(text)) = (event.anchor_id(), &text_of_node) {
                    anchored.insert(anchor, text.clone());
                }
                let ours = match open.last_mut() {
                    None => true,
                    Some(parent) => match parent.take(text_of_node) {
                        Some((step, plain)) => match path.get(depth - 1).filter(|_| parent.ours) {
                            Some(wanted) if *wanted == step => true,
                            Some(wanted) => {
                                twin |= plain && is_one_to_some(wanted, &step);
                                false
                            }
                            None => false,
                        },
                        None => false,
                    },
                };
                if ours && depth > 0 && std::mem::replace(&mut matched[depth - 1], true) {
                    return Err(doubled(key));
                }
                if ours {
                    refuse_shared(&event, key)?;
                }
                if let Event::SequenceStart(..) | Event::MappingStart(..) = event {
                    let mapping = matches!(event, Event::MappingStart(..));
                    if ours && depth == path.len() {
                        return Err(invalid(format!("`{key}` is not a single value")));
                    }
                    open.push(Open { ours, mapping, key: None, index: 0 });
                } else if let (true, Event::Scalar(value, style, ..)) = (ours && depth == path.len(), &event)
                {
                    found = Some(place(text, value, *style, span, key)?);
                }
            }
            _ => {}
        }
    }
    if twin && found.is_some() {
        return Err(invalid(format!(
            "a key beside `{key}`, or beside one on the way to it, is the same key for some YAML readers (as `yes` \
             is `true`, `~` is `null` and `0x1` is `1`), and they get the other value"
        ))
        .hint("write such keys in quotes, or remove the one that is not in use; then plan again"));
    }
    found.ok_or_else(|| {
        CallError::rejected(ErrorKind::NotFound, format!("there is no `{key}`"))
            .hint("check `key` in the runbook")
    })
}

impl Open {
    /// Takes a node's place in this collection. The step that leads to it; `None` for a key, which is
    /// `text`.
    fn take(&mut self, text: Option<(String, bool)>) -> Option<(String, bool)> {
        if !self.mapping {
            self.index += 1;
            return Some(((self.index - 1).to_string(), false));
        }
        match self.key.take() {
            None => {
                self.key = Some(text);
                None
            }
            // A key without a text leads nowhere that a path can name.
            Some(key) => key,
        }
    }
}

/// Refuses a text with characters that end a line in YAML 1.1 and do not in YAML 1.2: behind one, a comment
/// goes on for some readers and a key begins for others. In quotes they are only characters; where they
/// are in the value itself, [`place`] refuses them.
fn refuse_other_breaks(text: &str, events: &[(Event<'_>, Span)]) -> Result<(), CallError> {
    if !text.contains(OTHER_BREAKS) {
        return Ok(());
    }
    let quoted = |style| matches!(style, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted);
    let scalars = events.iter().filter(|(event, _)| event.scalar().is_some_and(|(_, style)| quoted(style)));
    let ranges: Vec<Range<usize>> = scalars.filter_map(|(_, span)| span.byte_range()).collect();
    let outside =
        text.match_indices(OTHER_BREAKS).any(|(at, _)| !ranges.iter().any(|range| range.contains(&at)));
    if outside { Err(other_break("the file")) } else { Ok(()) }
}

fn other_break(what: &str) -> CallError {
    invalid(format!(
        "{what} contains a NEL or a Unicode line separator, which ends a line for readers of YAML 1.1 only"
    ))
    .hint("remove that character, then plan again")
}

/// Refuses what stands for more than one place, or what its tag makes something else.
fn refuse_shared(node: &Event<'_>, key: &str) -> Result<(), CallError> {
    if node.is_alias() || node.anchor_id().is_some() {
        let message = format!("`{key}` is shared by an anchor: replacing it would change other values");
        return Err(unsupported(message).hint("write the value out in its place, without `&` and `*`"));
    }
    if node.tag().is_some() {
        let message = format!("`{key}` has a tag, which its readers treat in their own ways");
        return Err(unsupported(message).hint("write the value in quotes, without a tag"));
    }
    Ok(())
}

fn place(text: &str, value: &str, style: ScalarStyle, span: Span, key: &str) -> Result<Place, CallError> {
    let spelling = match style {
        ScalarStyle::Plain if is_ambiguous(value) => {
            return Err(invalid(format!(
                "`{key}` is written without quotes, and YAML readers differ on whether it is a string, a \
                 number or something else"
            ))
            .hint("write it in quotes, as the string that its reader is to get"));
        }
        ScalarStyle::Plain => Spelling::Bare,
        ScalarStyle::SingleQuoted => Spelling::Single,
        ScalarStyle::DoubleQuoted => Spelling::Double,
        ScalarStyle::Literal | ScalarStyle::Folded => {
            return Err(unsupported(format!("`{key}` is a block text (`|` or `>`)"))
                .hint("write the value in quotes on one line"));
        }
    };
    let range: Range<usize> = span
        .byte_range()
        .filter(|range| text.get(range.clone()).is_some())
        .ok_or_else(|| unsupported(format!("`{key}` cannot be found in the text")))?;
    if text[range.clone()].contains(OTHER_BREAKS) {
        return Err(other_break(&format!("`{key}`")));
    }
    Ok(Place { range, value: Secret::new(value), spelling })
}

/// Whether readers of YAML 1.1 or 1.2 may take a plain scalar as anything but its own text. Whole
/// numbers that all read alike are no such case.
fn is_ambiguous(plain: &str) -> bool {
    const WORDS: [&str; 13] =
        ["", "~", "null", "true", "false", "yes", "no", "on", "off", "y", "n", "=", "<<"];
    if is_small_number(plain) {
        return false;
    }
    let lower = plain.to_ascii_lowercase();
    let unsigned = lower.strip_prefix(['-', '+']).unwrap_or(&lower);
    // Numbers of any base, sexagesimal ones, timestamps: more than are read by any one reader.
    let digits = unsigned.strip_prefix('.').unwrap_or(unsigned).starts_with(|c: char| c.is_ascii_digit());
    let number = |c: char| c.is_ascii_digit() || "_,.:+-etz \t".contains(c);
    let hex = unsigned
        .strip_prefix("0x")
        .is_some_and(|rest| rest.chars().all(|c| c.is_ascii_hexdigit() || c == '_'));
    let octal = unsigned.strip_prefix("0o").is_some_and(|rest| rest.chars().all(number));
    let binary = unsigned.strip_prefix("0b").is_some_and(|rest| rest.chars().all(number));
    WORDS.contains(&lower.as_str())
        || [".inf", ".nan"].contains(&unsigned)
        || (digits && (unsigned.chars().all(number) || hex || octal || binary))
}

/// Whether some reader of YAML 1.1 or 1.2 takes two plain keys, which are written differently, for one.
fn is_one_to_some(one: &str, other: &str) -> bool {
    let (one, other) = (readings(one), readings(other));
    one.iter().any(|reading| other.contains(reading))
}

/// What readers may take a plain key for, if not for its own text. In Python `true` and `1` are one key.
fn readings(plain: &str) -> Vec<String> {
    let lower = plain.to_ascii_lowercase();
    match lower.as_str() {
        "" | "~" | "null" => return vec!["null".to_owned()],
        "true" | "yes" | "on" | "y" => return vec!["1".to_owned()],
        "false" | "no" | "off" | "n" => return vec!["0".to_owned()],
        _ => {}
    }
    let digits = lower.replace(['_', ','], "");
    let (negative, digits) = match digits.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, digits.strip_prefix('+').unwrap_or(&digits)),
    };
    let radix = |prefix: &str, radix| {
        let rest = digits.strip_prefix(prefix)?;
        rest.starts_with(|c: char| c.is_ascii_hexdigit()).then(|| u64::from_str_radix(rest, radix).ok())?
    };
    // Parts of sixty, as in 1:30.
    let sixties = || {
        let mut parts = digits.split(':').map(|part| part.parse::<f64>().ok());
        let first = parts.next()??;
        parts.try_fold(first, |sum, part| part.map(|part| sum * 60.0 + part))
    };
    let whole = [radix("0x", 16), radix("0o", 8), radix("0b", 2), radix("0", 8)];
    #[expect(clippy::cast_precision_loss, reason = "readers with doubles lose the same digits")]
    let numbers = whole.into_iter().flatten().map(|n| n as f64);
    let floats = match digits {
        ".inf" => Some(f64::INFINITY),
        ".nan" => Some(f64::NAN),
        _ if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => sixties(),
        _ => None,
    };
    let sign = |n: f64| if negative && n != 0.0 { -n } else { n };
    numbers.chain(floats).map(|n| sign(n).to_string()).collect()
}

/// Whether a new value needs no quotes for any reader, wherever it stands.
pub(super) fn is_plain(value: &str) -> bool {
    value.starts_with(|c: char| c.is_ascii_alphanumeric())
        && value.chars().all(|c| c.is_ascii_alphanumeric() || "-_./+=~@%".contains(c))
}

/// A value as a scalar.
pub(super) fn spell(value: &str, spelling: Spelling) -> String {
    match spelling {
        Spelling::Bare => value.to_owned(),
        Spelling::Single => format!("'{}'", value.replace('\'', "''")),
        // A JSON string is a YAML double-quoted scalar as well.
        Spelling::Double => json::quoted(value),
    }
}

/// Whether two texts are the same to every reader, but for the scalar that begins at `ours`.
pub(super) fn same_but_at(before: &str, after: &str, ours: usize) -> bool {
    let (Ok(before), Ok(after)) = (events(before), events(after)) else { return false };
    before.len() == after.len()
        && before.iter().zip(&after).all(|((was, at), (is, _))| {
            was == is || (at.byte_range().is_some_and(|range| range.start == ours) && was.scalar().is_some())
        })
}

fn events(text: &str) -> Result<Vec<(Event<'_>, Span)>, CallError> {
    let mut parser = Parser::new_from_str(text);
    let mut events = Vec::new();
    while let Some(event) = parser.next_event() {
        // The error quotes the text.
        events.push(event.map_err(|error| {
            if matches!(error.kind(), YamlError::RecursionLimitExceeded) {
                return unsupported("the file is nested too deeply to be edited");
            }
            invalid("the file is not valid YAML")
        })?);
    }
    Ok(events)
}
