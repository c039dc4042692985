//! One value inside a text: reading it as its consumers do, and replacing just its bytes.
//!
//! A value is edited at its byte range, in the spelling that it has, so that all else stays to the byte
//! and the way back gives the very bytes that were there. What cannot be kept so, or what readers of
//! the format understand differently, is refused with the reason.
//!
//! Stores whose value is a JSON object use [`Object`], through
//! [`Layout::decode`](super::layout::Layout::decode) and [`Layout::encode`](super::layout::Layout::encode).

mod dotenv;
mod json;
mod yaml;

use std::ops::Range;

use serde_json::{Map, Value};

use crate::domain::ErrorKind;
use crate::provider::outcome::CallError;
use crate::runbook::model::FileFormat;
use crate::secret::{Material, Secret};

pub(crate) use json::{Object, written};

/// How a value is written, as far as its bytes do not follow from the value. Its name is what a file's version
/// ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumString)]
#[strum(serialize_all = "lowercase")]
pub(crate) enum Spelling {
    /// Without quotes.
    Bare,
    /// In single quotes.
    Single,
    /// In double quotes.
    Double,
}

/// A text, and every string in it where it is a JSON object, so that no error quotes one.
pub(crate) fn strings(text: &Secret) -> Material {
    let fields: Map<String, Value> = serde_json::from_str(text.expose()).unwrap_or_default();
    let strings = fields.iter().filter_map(|(name, value)| Some((name, value.as_str()?)));
    let whole = Material::single("the whole value", text.clone());
    strings.fold(whole, |all, (name, value)| all.with(&format!("field {name}"), Secret::new(value)))
}

/// Where a value is in a text.
#[derive(Debug)]
struct Place {
    /// Its bytes, quotes included.
    range: Range<usize>,
    value: Secret,
    spelling: Spelling,
}

/// A text and the name of one value in it.
pub(crate) struct Document<'a> {
    format: FileFormat,
    key: &'a str,
    text: &'a str,
}

impl<'a> Document<'a> {
    pub(crate) fn new(format: FileFormat, key: Option<&'a str>, text: &'a str) -> Self {
        Self { format, key: key.unwrap_or_default(), text }
    }

    /// The value, and how it is written.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no such value; [`ErrorKind::Invalid`] or [`ErrorKind::Unsupported`] when
    /// readers of the format may take it for another one than we do, with the reason.
    pub(crate) fn value(&self) -> Result<(Secret, Spelling), CallError> {
        self.locate().map(|place| (place.value, place.spelling))
    }

    /// The text with another value. `spelling` is how that value was written when it was here before;
    /// without it, it is written like the value that it takes the place of, or else in quotes.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when no spelling gives the value to every reader and leaves all else as it is.
    pub(crate) fn with_value(&self, value: &Secret, spelling: Option<Spelling>) -> Result<Secret, CallError> {
        let place = self.locate()?;
        let number = |value: &Secret| is_small_number(value.expose());
        // A text of digits becomes a number without quotes: only where there was a number, too.
        let like = Some(place.spelling).filter(|like| {
            let number = number(&place.value) || !number(value);
            number
                && (*like != Spelling::Bare
                    || self.format != FileFormat::Yaml
                    || yaml::is_plain(value.expose()))
        });
        for spelling in spelling.into_iter().chain(like).chain([Spelling::Single, Spelling::Double]) {
            let Some(new) = self.spell(value.expose(), spelling) else { continue };
            let changed =
                format!("{}{new}{}", &self.text[..place.range.start], &self.text[place.range.end..]);
            if self.differs_only_at(&place.range, new.len(), &changed, value) {
                return Ok(Secret::new(changed));
            }
        }
        Err(unsupported(format!(
            "`{}` cannot hold this value: no spelling of it is read alike by every reader",
            self.key
        ))
        .hint("write the present value in quotes on one line, without anchors"))
    }

    /// The text with the value added, where it has none with this name. Checked by reading it back, as every edit.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] when it is there; [`ErrorKind::Unsupported`] where it cannot be added without
    /// writing the text anew.
    pub(crate) fn with_added(&self, value: &Secret) -> Result<Secret, CallError> {
        match self.locate() {
            Ok(_) => {
                let message = format!("`{}` is there again", self.key);
                return Err(CallError::rejected(ErrorKind::Conflict, message));
            }
            Err(error) if error.kind == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        for spelling in [Spelling::Single, Spelling::Double] {
            let Some(new) = self.spell(value.expose(), spelling) else { continue };
            let changed = match self.format {
                FileFormat::Text => None,
                FileFormat::Json => json::with_member(self.text, &self.format.steps(self.key), &new),
                FileFormat::Yaml => match self.format.steps(self.key).as_slice() {
                    [only] => Some(self.with_line(&format!("{}: {new}", json::quoted(only)))),
                    _ => None,
                },
                FileFormat::Dotenv => Some(self.with_line(&format!("{}={new}", self.key))),
            };
            let Some(changed) = changed else { continue };
            let after = Document { text: &changed, ..*self };
            if after.locate().is_ok_and(|place| place.value.same_as(value)) {
                return Ok(Secret::new(changed));
            }
        }
        Err(unsupported(format!("`{}` is gone, and stanch cannot add it to this text", self.key))
            .hint(format!("write `{}` there again with any value, then resume in the same way", self.key)))
    }

    /// The text with one more line.
    fn with_line(&self, line: &str) -> String {
        let end = if self.text.is_empty() || self.text.ends_with('\n') { "" } else { "\n" };
        format!("{}{end}{line}\n", self.text)
    }

    /// Whether `changed` is this text with `value`, in `length` bytes, at the place of ours.
    fn differs_only_at(&self, ours: &Range<usize>, length: usize, changed: &str, value: &Secret) -> bool {
        let after = Document { text: changed, ..*self };
        let placed = after.locate().is_ok_and(|place| {
            place.range == (ours.start..ours.start + length) && place.value.same_as(value)
        });
        placed && (self.format != FileFormat::Yaml || yaml::same_but_at(self.text, changed, ours.start))
    }

    fn spell(&self, value: &str, spelling: Spelling) -> Option<String> {
        match self.format {
            FileFormat::Text => Some(value.to_owned()),
            FileFormat::Json if spelling == Spelling::Bare => {
                is_small_number(value).then(|| value.to_owned())
            }
            FileFormat::Json => Some(json::quoted(value)),
            FileFormat::Yaml => Some(yaml::spell(value, spelling)),
            FileFormat::Dotenv => dotenv::spell(value, spelling),
        }
    }

    fn locate(&self) -> Result<Place, CallError> {
        if self.text.starts_with('\u{feff}') {
            return Err(invalid("it begins with a byte order mark, which some readers take as text")
                .hint("save the file without one"));
        }
        match self.format {
            FileFormat::Text => {
                // Editors end files with a newline; no secret ends with one, but for PEM, which some read only with it.
                let value = self.text.strip_suffix('\n').filter(|text| !text.ends_with("-----"));
                let value = value.unwrap_or(self.text);
                let range = 0..value.len();
                Ok(Place { range, value: Secret::new(value), spelling: Spelling::Bare })
            }
            FileFormat::Json => json::locate(self.text, &self.format.steps(self.key), self.key),
            FileFormat::Yaml => yaml::locate(self.text, &self.format.steps(self.key), self.key),
            FileFormat::Dotenv => dotenv::locate(self.text, self.key),
        }
    }
}

/// Refuses a credential that its consumer may get as another text than we do, or that is not there at
/// all. For preflight: a credential that was read later, on the way back, is what it is.
///
/// # Errors
/// [`ErrorKind::Invalid`], with the part and the reason.
pub(crate) fn refuse_unclear(material: &Material) -> Result<(), CallError> {
    for (part, value) in material.parts() {
        let text = value.expose();
        let unclear = |why: &str, hint: &str| {
            Err(invalid(format!("the part `{part}` of the old credential {why}")).hint(hint))
        };
        if text.chars().all(is_invisible) {
            return unclear(
                "is empty: there would be nothing to restore in a rollback",
                "write the credential that is in use there, then plan again",
            );
        }
        // The line that ends a text in PEM may end itself: no reader of PEM takes that for another text.
        let lines = text.strip_suffix('\n').filter(|text| text.ends_with("-----")).unwrap_or(text);
        if lines.starts_with(is_invisible) || lines.ends_with(is_invisible) {
            return unclear(
                "begins or ends with a character that cannot be seen, which some readers remove",
                "remove the white space or the invisible character, then plan again",
            );
        }
        if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
            return unclear(
                "contains a control character, which readers treat differently",
                "write it without, then plan again",
            );
        }
        if text.starts_with("${") && text.ends_with('}') {
            return unclear(
                "is a reference that its reader replaces by another value",
                "name the place that holds the value itself in the runbook",
            );
        }
    }
    Ok(())
}

/// Whether a character at the end of a value is overlooked: white space, control characters, and what
/// Unicode draws with no width.
fn is_invisible(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// A whole number that every reader takes alike: 15 digits fit into a double exactly.
fn is_small_number(text: &str) -> bool {
    text.len() <= 15
        && text.bytes().all(|c| c.is_ascii_digit())
        && !text.is_empty()
        && (text.len() == 1 || !text.starts_with('0'))
}

fn doubled(key: &str) -> CallError {
    invalid(format!("`{key}` is there twice, and readers differ on which of them counts"))
        .hint("remove the one that is not in use, then plan again")
}

fn invalid(message: impl Into<String>) -> CallError {
    CallError::rejected(ErrorKind::Invalid, message)
}

fn unsupported(message: impl Into<String>) -> CallError {
    CallError::rejected(ErrorKind::Unsupported, message)
}

#[cfg(test)]
mod tests;
