//! A file of authorized keys (sshd(8)) as text: the lines of one key change, and all others stay as they are, to the byte.
//!
//! A line is read as OpenSSH reads it (`auth_check_authkey_line`), and where that is not clear as the one that could be the
//! key. A retired line stays in its place as a comment: a mark, and the line as it was.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD_NO_PAD};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::domain::{ErrorKind, Life};
use crate::kind::ssh::pair::{string, take};
use crate::provider::CallError;

/// What a line begins with that is retired.
const RETIRED: &str = "#stanch-retired ";
/// What the last word of a comment begins with where stanch wrote the line.
const TAG: &str = "stanch:";
/// As OpenSSH decodes it: padding or none.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A file of authorized keys.
#[derive(Debug)]
pub(super) struct AuthorizedKeys {
    /// As they are written, without the newline between them; the last one is empty where the text ends with one.
    lines: Vec<String>,
}

/// A line that holds a key.
#[derive(Debug, PartialEq, Eq)]
struct Entry<'a> {
    options: &'a str,
    /// The key's name, the same for every spelling of one key.
    fingerprint: String,
    comment: &'a str,
}

impl<'a> Entry<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let whole = |options, rest: &'a str| {
            let (fingerprint, comment) = key(rest)?;
            Some(Self { options, fingerprint, comment })
        };
        whole("", line).or_else(|| {
            let (options, rest) = line.split_at(end_of_options(line)?);
            whole(options, rest.trim_start())
        })
    }

    /// Whether the key signs certificates there, and does not log in itself.
    fn is_authority(&self) -> bool {
        options(self.options).any(|option| option.eq_ignore_ascii_case("cert-authority"))
    }

    /// Whether this very call wrote it: the tag is bound to the key, so that a comment which was copied to another says
    /// nothing.
    fn is_of(&self, call: Uuid) -> bool {
        self.comment.split_whitespace().next_back() == Some(&tag(call, &self.fingerprint))
    }
}

fn tag(call: Uuid, fingerprint: &str) -> String {
    format!("{TAG}{}", Uuid::new_v5(&call, fingerprint.as_bytes()))
}

/// The name of the key that begins here, and what follows it.
fn key(text: &str) -> Option<(String, &str)> {
    let blank = [' ', '\t'];
    let (kind, rest) = text.split_once(blank)?;
    let rest = rest.trim_start_matches(blank);
    let (blob, comment) = rest.split_once(blank).unwrap_or((rest, ""));
    // OpenSSH passes over white space of other kinds.
    let blob: String = blob.chars().filter(|c| !c.is_whitespace()).collect();
    let fields = fields(&BASE64.decode(blob).ok()?)?;
    if fields.first()? != kind.as_bytes() {
        return None;
    }
    Some((fingerprint(&fields), comment.trim()))
}

/// The strings that a public key consists of (RFC 4253, section 6.6), in the one form that OpenSSH compares: without the
/// zeros that a number may begin with.
fn fields(mut blob: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut fields: Vec<Vec<u8>> = Vec::new();
    while !blob.is_empty() {
        let (field, rest) = take(blob)?;
        let numbers =
            fields.first().is_some_and(|kind| [b"ssh-rsa".as_slice(), b"ssh-dss"].contains(&kind.as_slice()));
        let zeros = if numbers { field.iter().take_while(|byte| **byte == 0).count() } else { 0 };
        let sign = zeros > 0 && field.get(zeros).is_some_and(|first| *first >= 0x80);
        fields.push(field[zeros - usize::from(sign)..].to_vec());
        blob = rest;
    }
    Some(fields)
}

/// As `ssh-keygen -l` writes it.
fn fingerprint(fields: &[Vec<u8>]) -> String {
    let mut blob = Vec::new();
    fields.iter().for_each(|field| string(&mut blob, field));
    format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(blob)))
}

/// Where options end: at the first blank outside of quotes (`sshkey_advance_past_options`).
fn end_of_options(line: &str) -> Option<usize> {
    let mut quoted = false;
    let mut bytes = line.bytes().enumerate().peekable();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b' ' | b'\t' if !quoted => return Some(at),
            b'\\' if bytes.peek().is_some_and(|(_, next)| *next == b'"') => drop(bytes.next()),
            b'"' => quoted = !quoted,
            _ => {}
        }
    }
    None
}

/// Options, one by one.
fn options(text: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c| {
        let plain = !std::mem::replace(&mut escaped, c == '\\');
        quoted ^= c == '"' && plain;
        c == ',' && !quoted
    })
}

/// Whether a text can be the options of a line.
///
/// # Errors
/// Why not.
pub(super) fn check_options(text: &str) -> Result<(), &'static str> {
    let end = end_of_options(&format!("{text} ")).unwrap_or_default();
    match () {
        () if text.chars().any(char::is_control) => Err("it holds a control character"),
        () if end != text.len() || text.starts_with('#') => {
            Err("it has a blank outside of quotes, or a quote without its end")
        }
        () if options(text).any(|option| option.eq_ignore_ascii_case("cert-authority")) => {
            Err("`cert-authority` would make the key an authority, and not one that logs in")
        }
        () => Ok(()),
    }
}

impl AuthorizedKeys {
    pub(super) fn read(text: &str) -> Self {
        Self { lines: text.split('\n').map(str::to_owned).collect() }
    }

    pub(super) fn text(&self) -> String {
        self.lines.join("\n")
    }

    /// The lines that servers go by.
    fn active(&self) -> impl Iterator<Item = Entry<'_>> {
        self.lines.iter().filter_map(|line| Entry::read(line))
    }

    /// The lines that a key is in, with whether they are retired. Never those of an authority.
    fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (usize, bool, Entry<'a>)> {
        self.lines.iter().enumerate().filter_map(move |(at, line)| {
            let was = line.strip_prefix(RETIRED);
            let entry = Entry::read(was.unwrap_or(line))?;
            (entry.fingerprint == name && !entry.is_authority()).then_some((at, was.is_some(), entry))
        })
    }

    #[cfg(test)]
    pub(super) fn names(&self) -> Vec<String> {
        self.active().map(|entry| entry.fingerprint).collect()
    }

    /// How many keys log in by it.
    pub(super) fn len(&self) -> usize {
        self.active().filter(|entry| !entry.is_authority()).count()
    }

    /// How many lines a key has, retired or not.
    pub(super) fn count(&self, name: &str) -> usize {
        self.of(name).count()
    }

    /// Whether a key is there as one that signs certificates.
    pub(super) fn has_authority(&self, name: &str) -> bool {
        self.active().any(|entry| entry.is_authority() && entry.fingerprint == name)
    }

    /// What the file says of a key: active as soon as one line is.
    pub(super) fn life(&self, name: &str) -> Life {
        self.of(name).fold(Life::Gone, |life, (_, retired, _)| match life {
            Life::Active => Life::Active,
            _ if retired => Life::Disabled,
            _ => Life::Active,
        })
    }

    /// The keys that this call added, once for each line.
    pub(super) fn issued_by(&self, call: Uuid) -> Vec<String> {
        let entries =
            self.lines.iter().filter_map(|line| Entry::read(line.strip_prefix(RETIRED).unwrap_or(line)));
        let ours = entries.filter(|entry| entry.is_of(call) && !entry.is_authority());
        ours.map(|entry| entry.fingerprint).collect()
    }

    /// The options of the lines of a key, each once, retired or not.
    pub(super) fn options_of(&self, name: &str) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for (_, _, entry) in self.of(name) {
            if !found.iter().any(|options| options == entry.options) {
                found.push(entry.options.to_owned());
            }
        }
        found
    }

    /// Adds a key with each of these options, after the last line. Returns whether that changed anything.
    ///
    /// # Errors
    /// When it is there already, by another hand.
    pub(super) fn publish(
        &mut self,
        key: &str,
        name: &str,
        options: &[String],
        title: &str,
        call: Uuid,
    ) -> Result<bool, CallError> {
        if self.life(name) != Life::Gone {
            return match self.of(name).all(|(_, retired, entry)| !retired && entry.is_of(call)) {
                true => Ok(false),
                false => Err(CallError::rejected(
                    ErrorKind::Conflict,
                    format!("the new key {name} is there already"),
                )),
            };
        }
        let returns = self.lines.iter().filter(|line| line.ends_with('\r')).count();
        let end = if returns * 2 > self.lines.len() { "\r" } else { "" };
        let at = self.lines.len() - usize::from(self.lines.last().is_some_and(String::is_empty));
        let blank = |options: &str| if options.is_empty() { "" } else { " " };
        let new = options
            .iter()
            .map(|options| format!("{options}{}{key} {title} {}{end}", blank(options), tag(call, name)));
        self.lines.splice(at..at, new.collect::<Vec<_>>());
        Ok(true)
    }

    /// Takes a key away from servers, and keeps its lines. Returns whether that changed anything.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when it is not there.
    pub(super) fn retire(&mut self, name: &str) -> Result<bool, CallError> {
        self.turn(name, false, |line| format!("{RETIRED}{line}"))
    }

    /// Takes [`AuthorizedKeys::retire`] back.
    ///
    /// # Errors
    /// As for `retire`.
    pub(super) fn restore(&mut self, name: &str) -> Result<bool, CallError> {
        self.turn(name, true, |line| line[RETIRED.len()..].to_owned())
    }

    fn turn(&mut self, name: &str, retired: bool, to: impl Fn(&str) -> String) -> Result<bool, CallError> {
        let found: Vec<(usize, bool)> = self.of(name).map(|(at, is, _)| (at, is)).collect();
        if found.is_empty() {
            let message = format!("there is no line of the key {name}");
            return Err(CallError::rejected(ErrorKind::NotFound, message));
        }
        let which: Vec<usize> =
            found.into_iter().filter(|(_, is)| *is == retired).map(|(at, _)| at).collect();
        which.iter().for_each(|at| self.lines[*at] = to(&self.lines[*at]));
        Ok(!which.is_empty())
    }

    /// Removes every line of a key. Returns whether that changed anything.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        let which: Vec<usize> = self.of(name).map(|(at, ..)| at).collect();
        which.iter().rev().for_each(|at| drop(self.lines.remove(*at)));
        !which.is_empty()
    }
}
