//! What a line must look like that follows another one: a quick look, where a signature covers the bytes.

use super::record::Envelope;
use crate::rotation::Event;

/// The envelope that a line has when the same process wrote it as the one before: the same text but
/// for the number, the hash and the times. The writer spells it in one way only.
pub(super) struct Shape {
    /// Up to the number.
    head: Vec<u8>,
    /// From behind the times to the type.
    foot: Vec<u8>,
}

/// Where a line's event begins.
const TYPE: &[u8] = b",\"type\":\"";

impl Shape {
    pub(super) fn of(envelope: &Envelope) -> Self {
        let text = envelope.text();
        // Neither can stand in a value: there, a quotation mark has a backslash before it.
        let at = |name: &str| text.find(name).expect("the envelope has this field");
        let head = text.as_bytes()[..at(",\"seq\":") + ",\"seq\":".len()].to_vec();
        let foot = [&text.as_bytes()[at(",\"actor\":")..text.len() - 1], TYPE].concat();
        Self { head, foot }
    }

    /// Whether a line is this envelope around an event that is JSON. An opening or a checkpoint is
    /// not: those are read in full. `line` is the same afterwards.
    pub(super) fn fits(&self, line: &mut [u8], seq: u64, previous: &tlog_tiles::Hash) -> bool {
        let Some(event) = self.event(line, seq, previous) else { return false };
        // What follows the envelope becomes an object of its own, for the time that this takes.
        let begin = line.len() - event - TYPE.len();
        line[begin] = b'{';
        let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&line[begin..]).is_ok();
        line[begin] = b',';
        is_json
    }

    /// How much of the line follows the beginning of the type's name.
    fn event(&self, line: &[u8], seq: u64, previous: &tlog_tiles::Hash) -> Option<usize> {
        let mut prev = [0; 64];
        hex::encode_to_slice(previous.0, &mut prev).ok()?;
        let rest = line.strip_prefix(self.head.as_slice())?;
        let (found, rest) = number(rest)?;
        let rest = rest.strip_prefix(b",\"prev\":\"")?.strip_prefix(&prev)?;
        let rest = timestamp(rest.strip_prefix(b"\",\"wall\":\"")?);
        let (_, rest) = number(rest.strip_prefix(b"\",\"mono_ms\":")?)?;
        let event = rest.strip_prefix(self.foot.as_slice())?;
        let name = &event[..event.iter().take(MAX_TYPE).position(|c| *c == b'"')?];
        let plain = name != b"opened" && name != b"checkpoint";
        let known = Event::TYPES.iter().any(|t| t.as_bytes() == name);
        (found == seq && plain && known).then_some(event.len())
    }
}

/// No type's name is longer.
const MAX_TYPE: usize = 32;

/// A number as JSON spells it: without zeros before it.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().take_while(|c| c.is_ascii_digit()).count();
    if digits > 1 && text[0] == b'0' {
        return None;
    }
    let (digits, rest) = text.split_at(digits);
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

/// What follows a timestamp.
fn timestamp(text: &[u8]) -> &[u8] {
    let of_time = |c: &u8| c.is_ascii_digit() || matches!(c, b'-' | b':' | b'.' | b'T' | b'Z');
    &text[text.iter().take_while(|c| of_time(c)).count()..]
}
