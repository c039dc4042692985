//! Anchors: checkpoints that are kept where whoever can write the state folder cannot.
//!
//! An anchor proves that, when it was taken, the journal began with just so many records, those and
//! no others. Against it, an end that was cut off shows, also behind an older checkpoint, and so
//! does a history that somebody who has the key signed anew.

use super::Fault;
use super::chain::Frontier;
use super::key::{Claim, VerifyingKeys};

/// A note, and where it was found.
#[derive(Debug, Clone)]
struct Anchor {
    place: String,
    origin: String,
    size: u64,
    note: String,
}

/// Notes that were read, and not yet checked.
#[derive(Debug, Clone, Default)]
pub struct Anchors(Vec<Anchor>);

/// A text is not a list of notes.
#[derive(Debug, thiserror::Error)]
#[error("line {0} is not a valid checkpoint note")]
pub struct BadAnchor(pub usize);

impl Anchors {
    /// Adds the notes of a text: one after the other, with or without empty lines between them.
    /// `place` is its name, for messages.
    ///
    /// # Errors
    /// When something else stands there.
    pub fn read(&mut self, place: &str, text: &str) -> Result<(), BadAnchor> {
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#')).peekable();
        while let Some((at, origin)) = lines.next() {
            if origin.trim().is_empty() {
                continue;
            }
            let bad = |at: usize| BadAnchor(at + 1);
            let mut note = format!("{origin}\n");
            let size = lines.next().ok_or(bad(at))?;
            note.push_str(&format!("{}\n", size.1));
            let size = size.1.parse().map_err(|_| bad(size.0))?;
            loop {
                let (_, line) = lines.next().ok_or(bad(at))?;
                note.push_str(&format!("{line}\n"));
                if line.is_empty() {
                    break;
                }
            }
            let before = note.len();
            while let Some((_, line)) = lines.next_if(|(_, line)| line.starts_with('\u{2014}')) {
                note.push_str(&format!("{line}\n"));
            }
            if note.len() == before {
                return Err(bad(at));
            }
            let place = format!("{place}, line {}", at + 1);
            self.0.push(Anchor { place, origin: origin.to_owned(), size, note });
        }
        Ok(())
    }

    /// How many notes there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them is this note.
    pub fn contains(&self, note: &str) -> bool {
        self.0.iter().any(|anchor| anchor.note == note)
    }

    /// The sizes at which the roots of trees are wanted.
    pub(super) fn sizes(&self) -> impl Iterator<Item = u64> {
        self.0.iter().map(|anchor| anchor.size)
    }

    /// What the notes speak of and these keys signed: the rest of the origin, where it begins so.
    pub(super) fn subjects<'a>(
        &'a self,
        prefix: &'a str,
        keys: &'a VerifyingKeys,
    ) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter_map(move |anchor| Some((anchor.origin.strip_prefix(prefix)?, anchor)))
            .filter(|(_, anchor)| keys.open(&anchor.note).is_ok())
            .map(|(subject, _)| subject)
    }

    /// Holds a journal, which was read up to here, against the notes that speak of it. Returns how
    /// many agree, and where it is not what they say. `keys` are those valid at a position.
    pub(super) fn check(
        &self,
        origin: &str,
        keys: impl Fn(u64) -> VerifyingKeys,
        read: &Frontier,
    ) -> (u64, Option<Fault>) {
        let mut mine: Vec<&Anchor> = self.0.iter().filter(|anchor| anchor.origin == origin).collect();
        mine.sort_by_key(|anchor| anchor.size);
        let (mut agree, mut good) = (0, 0);
        for Anchor { place, size, note, .. } in mine {
            let fault = |line, what| (agree, Some(Fault { line, what }));
            let Ok(Claim { size, root, .. }) = keys(*size).open(note) else {
                let what = format!(
                    "the anchor in {place} names this record but is not signed with its key: the keys were replaced, or the anchor is forged"
                );
                return fault(1, what);
            };
            let here = read.leaves();
            // The checkpoint itself is the record behind those that it speaks of.
            if here <= size {
                let what = format!(
                    "the anchor in {place} proves that there were {} records, but only {here} are here: the end was removed",
                    size + 1
                );
                return fault(here + 1, what);
            }
            if read.root_at(size) != Some(root) {
                let what = format!(
                    "the anchor in {place} proves that lines {} to {size} were different: they were rewritten, with the signing key",
                    good + 1
                );
                return fault(good + 1, what);
            }
            (agree, good) = (agree + 1, size);
        }
        (agree, None)
    }
}

#[cfg(test)]
mod tests {
    use tlog_tiles::Hash;

    use super::*;
    use crate::journal::key::SigningKey;

    #[test]
    fn notes_are_read_one_after_the_other_and_nothing_else_is() {
        let key = SigningKey::parse(&SigningKey::generate()).expect("own key");
        let note = |size| key.sign("stanch-journal/a", size, Hash([7; 32]), "envelope 00").expect("note");
        let mut anchors = Anchors::default();
        anchors.read("f", &format!("# kept\n{}\n\n{}{}", note(1), note(2), note(3))).expect("three");
        assert_eq!(anchors.sizes().collect::<Vec<_>>(), [1, 2, 3]);
        assert!(anchors.contains(&note(2)) && !anchors.contains(&note(4)));
        let torn = note(1);
        for end in 1..torn.rfind('\u{2014}').expect("signature") {
            let Some(torn) = torn.get(..end) else { continue };
            assert!(Anchors::default().read("f", torn).is_err(), "{torn:?}");
        }
        // A torn signature is read and does not pass.
        let mut anchors = Anchors::default();
        anchors.read("f", &torn[..torn.len() - 9]).expect("a note");
        let keys = VerifyingKeys::parse(&key.verifier()).expect("key");
        let (agree, fault) = anchors.check("stanch-journal/a", |_| keys.clone(), &Frontier::default());
        assert!(agree == 0 && fault.expect("a fault").what.contains("not signed"));
    }
}
