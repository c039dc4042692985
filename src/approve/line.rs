//! One line of an `allowed_signers` file, read as OpenSSH reads it.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use ssh_key::PublicKey;
use ssh_key::public::KeyData;

use super::certificate;
use super::pattern::{is_literal, list_matches};
use super::signature::Signer;

/// A line of the file that OpenSSH would take.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) number: usize,
    /// A list of patterns.
    pub(super) principals: String,
    /// Whether the key is that of an authority whose certificates count.
    pub(super) authority: bool,
    /// A list of patterns.
    namespaces: Option<String>,
    after: Option<Timestamp>,
    before: Option<Timestamp>,
    pub(super) key: KeyData,
    /// Whether stanch, which is stricter than OpenSSH, takes it as well.
    pub(super) counts: bool,
}

/// Why no line of the file lets a key sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejected {
    /// No line has this principal with this key.
    Unlisted,
    /// The line is for other namespaces.
    Namespace {
        /// The line.
        line: usize,
    },
    /// The line is not valid yet.
    NotYet {
        /// The line.
        line: usize,
        /// From when on.
        from: Timestamp,
    },
    /// The line is not valid any more.
    Expired {
        /// The line.
        line: usize,
        /// Since when.
        since: Timestamp,
    },
    /// The line names an authority, and the certificate does not give the principal.
    Certificate {
        /// The line.
        line: usize,
        /// Why.
        why: String,
    },
}

/// A line that cannot be used: where in it, why, and what to do.
pub(super) type Bad = (usize, String, &'static str);

impl Line {
    pub(super) fn allow(
        &self,
        principal: &str,
        signer: &Signer,
        namespace: &str,
        at: Option<Timestamp>,
    ) -> Result<(), Rejected> {
        if !list_matches(principal, &self.principals) {
            return Err(Rejected::Unlisted);
        }
        match (self.authority, &signer.certificate) {
            (false, None) if self.key == signer.key => {}
            (true, Some(certificate)) if *certificate.signature_key() == self.key => {
                certificate::allow(certificate, principal, at)
                    .map_err(|why| Rejected::Certificate { line: self.number, why })?;
            }
            _ => return Err(Rejected::Unlisted),
        }
        if self.namespaces.as_ref().is_some_and(|list| !list_matches(namespace, list)) {
            return Err(Rejected::Namespace { line: self.number });
        }
        self.valid(at)
    }

    pub(super) fn valid(&self, at: Option<Timestamp>) -> Result<(), Rejected> {
        let Some(at) = at else { return Ok(()) };
        // OpenSSH counts whole seconds, and both ends are in.
        if let Some(from) = self.after
            && at.as_second() < from.as_second()
        {
            return Err(Rejected::NotYet { line: self.number, from });
        }
        match self.before {
            Some(since) if at.as_second() > since.as_second() => {
                Err(Rejected::Expired { line: self.number, since })
            }
            _ => Ok(()),
        }
    }
}

/// Reads one line, as OpenSSH does. `start` is where its text begins.
pub(super) fn parse(number: usize, line: &str, start: usize) -> Result<Line, Bad> {
    let (principals, rest) = principals(&line[start..]).ok_or((
        start,
        "the principals are not followed by a key".to_owned(),
        FORM,
    ))?;
    let at = line.len() - rest.len();
    let (options, key) = match key(rest) {
        Ok(key) => (None, key),
        Err(first) if is_key_type(rest) => return Err((at, first, FORM)),
        Err(first) => {
            let end = options_end(rest).ok_or((
                at,
                "a quotation mark is not closed".to_owned(),
                "write: option=\"value\"",
            ))?;
            if end >= rest.len() {
                return Err((at, first, FORM));
            }
            let after = rest[end + 1..].trim_start_matches([' ', '\t']);
            let key_at = line.len() - after.len();
            let read = key(after).map_err(|why| (key_at, why, FORM))?;
            (Some(&rest[..end]), read)
        }
    };
    let mut parsed = Line {
        number,
        principals,
        authority: false,
        namespaces: None,
        after: None,
        before: None,
        key,
        counts: true,
    };
    if let Some(options) = options {
        parsed.options(options).map_err(|(offset, what)| (at + offset, what, OPTIONS))?;
    }
    Ok(parsed)
}

pub(super) const CRLF: (&str, &str) =
    ("the line ends with CR LF", "convert the file: sed -i 's/\\r$//' FILE");
const FORM: &str = "write: PRINCIPAL [OPTIONS] KEY-TYPE KEY, as in `alice@example.com ssh-ed25519 AAAA…`";
const OPTIONS: &str =
    "the options are cert-authority, namespaces=\"…\", valid-after=\"…\" and valid-before=\"…\"";

/// The first word of a line, in which one part may be quoted, and what follows the spaces behind it.
fn principals(line: &str) -> Option<(String, &str)> {
    let space = [' ', '\t', '\r', '\n'];
    let at = line.find([' ', '\t', '\r', '\n', '"'])?;
    let (head, tail) = (&line[..at], &line[at + 1..]);
    if line.as_bytes()[at] == b'"' {
        let end = tail.find('"')?;
        let rest = tail[end + 1..].trim_start_matches(space);
        return Some((format!("{head}{}", &tail[..end]), rest));
    }
    Some((head.to_owned(), tail.trim_start_matches(space)))
}

/// Where options end: at the first space that is not quoted. `None` where a quotation is not closed.
fn options_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut quoted) = (0, false);
    while at < bytes.len() && (quoted || !matches!(bytes[at], b' ' | b'\t')) {
        match bytes[at] {
            b'\\' if bytes.get(at + 1) == Some(&b'"') => at += 1,
            b'"' => quoted = !quoted,
            _ => {}
        }
        at += 1;
    }
    (!quoted || at < bytes.len()).then_some(at.min(bytes.len()))
}

/// Whether a text begins with the name of a kind of key, and not with options.
fn is_key_type(text: &str) -> bool {
    let word = text.split([' ', '\t']).next().unwrap_or_default();
    ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"].iter().any(|kind| word.starts_with(kind))
        && !word.contains('"')
}

/// A key: its type, its base64, and a comment.
fn key(text: &str) -> Result<KeyData, String> {
    let end = text.find([' ', '\t']).ok_or("there is no key in this line")?;
    let (kind, rest) = (&text[..end], text[end..].trim_start_matches([' ', '\t']));
    let blob = rest.split([' ', '\t']).next().unwrap_or_default();
    let blob: String = blob.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    if kind.ends_with("-cert-v01@openssh.com") {
        return Err("a certificate cannot be listed: list its authority, with cert-authority".into());
    }
    if blob.is_empty() {
        return Err("there is no key in this line".into());
    }
    let key = PublicKey::from_openssh(&format!("{kind} {blob}"))
        .map_err(|_| "this is not an SSH public key of a kind that stanch knows".to_owned())?;
    Ok(key.key_data().clone())
}

impl Line {
    /// Reads options; an error has its offset.
    fn options(&mut self, text: &str) -> Result<(), (usize, String)> {
        let mut rest = text;
        loop {
            let at = text.len() - rest.len();
            let wrong = |what: &str| (at, what.to_owned());
            if let Some(after) = word(rest, "cert-authority") {
                self.authority = true;
                rest = after;
            } else if let Some(after) = option(rest, "namespaces") {
                let (value, after) = quoted(after).map_err(wrong)?;
                if self.namespaces.replace(value).is_some() {
                    return Err(wrong("`namespaces` is there twice"));
                }
                rest = after;
            } else if let Some(after) = option(rest, "valid-after") {
                let (value, after) = quoted(after).map_err(wrong)?;
                let moment = moment(&value).ok_or_else(|| wrong(NO_TIME))?;
                if self.after.replace(moment).is_some() {
                    return Err(wrong("`valid-after` is there twice"));
                }
                rest = after;
            } else if let Some(after) = option(rest, "valid-before") {
                let (value, after) = quoted(after).map_err(wrong)?;
                let moment = moment(&value).ok_or_else(|| wrong(NO_TIME))?;
                if self.before.replace(moment).is_some() {
                    return Err(wrong("`valid-before` is there twice"));
                }
                rest = after;
            }
            match rest.as_bytes().first() {
                None => break,
                Some(b',') if rest.len() > 1 => rest = &rest[1..],
                Some(b',') => return Err(wrong("the options end with a comma")),
                Some(_) => return Err((text.len() - rest.len(), "this option is not known".into())),
            }
        }
        match (self.after, self.before) {
            (Some(after), Some(before)) if before <= after => {
                Err((0, "`valid-before` is not after `valid-after`".into()))
            }
            _ => Ok(()),
        }
    }
}

const NO_TIME: &str = "this is not a time: write YYYYMMDDZ or YYYYMMDDHHMM[SS]Z";

/// What follows a word, in any case.
fn word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let head = text.get(..word.len())?;
    head.eq_ignore_ascii_case(word).then(|| &text[word.len()..])
}

/// What follows `name=`.
fn option<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    word(text, name)?.strip_prefix('=')
}

/// A quoted value, and what follows it.
fn quoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut rest = text.strip_prefix('"').ok_or("the value is not in quotation marks")?;
    let mut value = String::new();
    loop {
        if let Some(after) = rest.strip_prefix("\\\"") {
            value.push('"');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('"') {
            return Ok((value, after));
        } else {
            let c = rest.chars().next().ok_or("a quotation mark is not closed")?;
            value.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
}

/// Whether a time names its zone.
fn zone_end(text: &str) -> Option<usize> {
    let ends = |end: &str| text.len() > end.len() && text[text.len() - end.len()..].eq_ignore_ascii_case(end);
    ["Z", "UTC"]
        .iter()
        .find(|end| text.is_char_boundary(text.len().saturating_sub(end.len())) && ends(end))
        .map(|end| text.len() - end.len())
}

/// A moment, in UTC. OpenSSH takes one without a zone as a time of the machine that verifies, and counts on from a day
/// that its month does not have; [`strict`] refuses both.
fn moment(text: &str) -> Option<Timestamp> {
    let date = |day, hour, minute, second| {
        let first = DateTime::new(number(text, 0..4)?, number(text, 4..6)?, 1, 0, 0, 0, 0).ok()?;
        let seconds = ((i64::from(day - 1) * 24 + hour) * 60 + minute) * 60 + second;
        TimeZone::UTC.to_timestamp(first).ok()?.checked_add(SignedDuration::from_secs(seconds)).ok()
    };
    let (day, [hour, minute, second]) = clock_of(text)?;
    let fits = (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 62;
    let at = fits.then(|| date(day, hour, minute, second)).flatten()?;
    (at.as_second() >= 0).then_some(at)
}

/// The day, and the hour, minute and second, where the digits of a time are as many as they may be.
fn clock_of(text: &str) -> Option<(i16, [i64; 3])> {
    let digits = &text[..zone_end(text).unwrap_or(text.len())];
    if !digits.bytes().all(|c| c.is_ascii_digit()) || ![8, 12, 14].contains(&digits.len()) {
        return None;
    }
    let part = |from: usize| if from < digits.len() { number(digits, from..from + 2) } else { Some(0) };
    Some((number(digits, 6..8)?, [part(8)?, part(10)?, part(12)?]))
}

fn number<T: std::str::FromStr>(text: &str, at: std::ops::Range<usize>) -> Option<T> {
    text.get(at)?.parse().ok()
}

/// Whether a month has its day.
fn is_day(text: &str) -> bool {
    let (year, month, day) = (number(text, 0..4), number(text, 4..6), number(text, 6..8));
    matches!((year, month, day), (Some(y), Some(m), Some(d)) if jiff::civil::Date::new(y, m, d).is_ok())
}

/// Why stanch does not count a line that OpenSSH takes: it would mean more, or something else, than it shows.
pub(super) fn strict(text: &str, line: &Line) -> Option<Bad> {
    if text.ends_with('\r') {
        let at = text.len() - 1;
        return Some((at, CRLF.0.into(), CRLF.1));
    }
    if !is_literal(&line.principals) {
        return Some((
            0,
            format!(
                "`{}` is a pattern, and an approval names a person",
                crate::text::sanitize(&line.principals)
            ),
            "name each principal, separated by commas",
        ));
    }
    if line.principals.is_empty()
        || line.principals.chars().any(|c| c.is_whitespace() || c.is_control() || c == '"')
    {
        return Some((
            0,
            "a principal is empty or contains a space".into(),
            "write it without quotation marks and spaces",
        ));
    }
    for option in ["valid-after=\"", "valid-before=\""] {
        let lower = text.to_ascii_lowercase();
        let Some(at) = lower.find(option) else { continue };
        let value = text[at + option.len()..].split('"').next().unwrap_or_default();
        if zone_end(value).is_none() {
            return Some((
                at,
                format!("`{value}` has no zone, so it means another moment on each machine"),
                "write Z behind it, and the time in UTC",
            ));
        }
        if !is_day(value) {
            return Some((
                at,
                format!("`{value}` is a day that its month does not have"),
                "write a day that exists",
            ));
        }
    }
    None
}
