//! The index, line by line: what its entries mean, and what none of them may say, whoever signed it.

use jiff::Timestamp;
use tlog_tiles::Hash;

use crate::journal::VerifyingKeys;
use crate::journal::chain::{Frontier, leaf};
use crate::journal::index::{Entry, Envelope, Extent, Index, Standing, index_origin};
use crate::journal::key::SigningKey;

/// An index that is being written, by somebody who has a key.
struct Book {
    key: SigningKey,
    index: Index,
    text: Vec<u8>,
}

fn key() -> SigningKey {
    SigningKey::parse(&SigningKey::generate()).expect("own key")
}

fn public(key: &SigningKey) -> String {
    key.verifier().trim_end().to_owned()
}

fn hex_of(byte: u8) -> String {
    hex::encode([byte; 32])
}

fn opened(run: &str) -> Entry {
    Entry::Opened { run: run.into(), first: hex_of(1) }
}

fn adopted(run: &str) -> Entry {
    Entry::Adopted { run: run.into(), first: hex_of(1), size: 3, root: hex_of(2) }
}

fn closed(run: &str) -> Entry {
    Entry::Closed { run: run.into(), size: 5, root: hex_of(3) }
}

impl Book {
    /// An index that is begun and nothing else: two lines.
    fn begun() -> Self {
        let mut book = Self { key: key(), index: Index::empty([]), text: Vec::new() };
        book.add(&Entry::Begun { key: public(&book.key) }).expect("begun");
        book.sign().expect("signed");
        book
    }

    fn envelope(&self) -> Envelope {
        Envelope {
            v: 1,
            index: "an index".into(),
            seq: self.index.frontier.leaves(),
            prev: hex::encode(self.index.previous.0),
            wall: Timestamp::from_second(1_790_000_000).expect("a moment"),
            actor: "tester".into(),
            host: "host".into(),
        }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), String> {
        self.index.feed(line)?;
        self.text.extend_from_slice(line);
        self.text.push(b'\n');
        Ok(())
    }

    fn add(&mut self, entry: &Entry) -> Result<(), String> {
        let line = self.envelope().line(entry);
        self.line(&line)
    }

    fn note(&self, origin: &str, size: u64, about: &str) -> Entry {
        let note = self.key.sign(origin, size, self.index.frontier.root(), about).expect("a note");
        Entry::Checkpoint { note }
    }

    fn sign(&mut self) -> Result<(), String> {
        let (size, about) = (self.index.frontier.leaves(), self.envelope().about());
        let note = self.note(&index_origin("an index"), size, &about);
        self.add(&note)
    }

    /// What is said of an index that goes on with these entries.
    fn refuses(entries: &[Entry]) -> String {
        let mut book = Self::begun();
        for entry in entries {
            book.add(entry).expect("it is not signed yet");
        }
        let before = book.index.clone();
        let said = book.sign().expect_err("it makes no sense");
        assert_eq!(book.index.signed, before.signed, "{said}");
        said
    }

    fn read(&self) -> Index {
        Index::read(&self.text[..], []).expect("memory can be read")
    }
}

#[test]
fn entries_count_once_they_are_signed() {
    let mut book = Book::begun();
    let begun = book.text.len() as u64;
    assert_eq!((book.index.records(), book.index.end, book.index.unsigned_bytes()), (2, begun, 0));
    book.add(&adopted("old")).expect("added");
    book.add(&opened("new")).expect("added");
    let added = book.text.len() as u64;
    assert_eq!((book.index.records(), book.index.end), (2, begun));
    assert_eq!(book.index.unsigned_bytes(), added - begun);
    assert_eq!(book.index.runs().count(), 0, "nobody vouches for them yet");
    book.sign().expect("signed");
    let index = book.read();
    assert_eq!((index.records(), index.end, index.unsigned_bytes()), (5, book.text.len() as u64, 0));
    assert_eq!((index.id(), index.fault()), ("an index", None));
    assert_eq!(index.runs().collect::<Vec<_>>(), ["new", "old"]);
    assert_eq!(index.open().collect::<Vec<_>>(), ["new", "old"]);
    assert_eq!((index.runs["old"].at, index.runs["new"].at), (2, 3));
    assert_eq!(index.runs["old"].adopted, Some(Extent { size: 3, root: Hash([2; 32]) }));
    assert_eq!((index.runs["new"].adopted, index.runs["new"].first), (None, Hash([1; 32])));
    let keys = VerifyingKeys::parse(&public(&book.key)).expect("a key");
    assert_eq!(keys.open(index.note()).expect("its note").size, 4);
    book.add(&closed("old")).expect("added");
    book.sign().expect("signed");
    let index = book.read();
    assert_eq!(index.open().collect::<Vec<_>>(), ["new"]);
    assert_eq!(index.runs["old"].closed, Some(Extent { size: 5, root: Hash([3; 32]) }));
    // The root is remembered where that was asked for.
    let watching = Index::read(&book.text[..], [5]).expect("read");
    assert!(watching.frontier.root_at(5).is_some() && watching.frontier.root_at(4).is_none());
}

#[test]
fn no_signature_makes_sense_of_nonsense() {
    let begun = Entry::Begun { key: public(&key()) };
    let bad = |run: &str| Entry::Opened { run: run.into(), first: "00".into() };
    for (entries, words) in [
        (vec![begun], "starts an index that has already started"),
        (vec![adopted("a"), adopted("a")], "record 3 adopts run a again"),
        (vec![opened("a"), opened("a")], "record 3 opens run a again"),
        (vec![opened("a"), adopted("a")], "record 3 adopts run a again"),
        (vec![closed("a")], "record 2 closes run a, which is not open"),
        (vec![opened("a"), closed("a"), closed("a")], "record 4 closes run a, which is not open"),
        (vec![bad("a")], "a hash is not valid"),
        (vec![Entry::Rotated { key: "none".into(), from: 4 }], "record 2: its key is not valid"),
        (vec![Entry::Rotated { key: public(&key()), from: 3 }], "not valid from the next checkpoint on"),
        (vec![Entry::Rotated { key: public(&key()), from: 5 }], "not valid from the next checkpoint on"),
        (vec![opened("a"), Entry::Rotated { key: public(&key()), from: 5 }], "while run a is open"),
    ] {
        let said = Book::refuses(&entries);
        assert!(said.contains(words), "{said}");
    }
    let mut empty = Book { key: key(), index: Index::empty([]), text: Vec::new() };
    assert!(empty.add(&opened("a")).expect_err("not begun").contains("does not start an index"));
    assert!(
        empty.add(&Entry::Begun { key: "none".into() }).expect_err("no key").contains("its key is not valid")
    );
    let repaired = Entry::Repaired { bytes: 1, sha256: hex_of(0) };
    let mut book = Book::begun();
    book.add(&repaired).expect("added");
    book.sign().expect("a repair says nothing of runs");
}

#[test]
fn a_line_stands_where_it_was_written() {
    let said = |change: &dyn Fn(&mut Envelope)| {
        let mut book = Book::begun();
        let mut envelope = book.envelope();
        change(&mut envelope);
        book.line(&envelope.line(&opened("a"))).expect_err("it was changed")
    };
    assert!(said(&|e| e.v = 2).contains("format version 2"));
    assert!(said(&|e| e.seq += 1).contains("its seq is 3, expected 2"));
    assert!(said(&|e| e.prev = hex_of(7)).contains("its prev is not the hash"));
    assert!(said(&|e| e.index = "another".into()).contains("belongs to another index"));
    let mut book = Book::begun();
    let mut line = book.envelope().line(&opened("a"));
    line.push(b' ');
    assert!(book.line(&line).expect_err("a space").contains("not written by stanch"));
    assert!(book.line(b"{}").expect_err("nothing").contains("not a record of an index"));
}

#[test]
fn a_checkpoint_speaks_of_this_index_and_of_all_before_it() {
    let said = |note: &dyn Fn(&Book, u64, &str) -> Entry| {
        let mut book = Book::begun();
        book.add(&opened("a")).expect("added");
        let (size, about) = (book.index.frontier.leaves(), book.envelope().about());
        let note = note(&book, size, &about);
        book.add(&note).expect_err("it speaks of something else")
    };
    let origin = index_origin("an index");
    assert!(
        said(&|b, size, about| b.note(&index_origin("b"), size, about))
            .contains("the checkpoint is not valid")
    );
    assert!(said(&|b, size, about| b.note(&origin, size - 1, about)).contains("number of records"));
    assert!(said(&|b, size, _| b.note(&origin, size, "envelope 00")).contains("envelope"));
    let foreign = key();
    assert!(
        said(&|b, size, about| {
            let note = foreign.sign(&origin, size, b.index.frontier.root(), about).expect("a note");
            Entry::Checkpoint { note }
        })
        .contains("not signed with a known key")
    );
}

#[test]
fn each_key_signs_its_own_range() {
    let mut book = Book::begun();
    let (old, new) = (book.key.clone(), key());
    book.add(&opened("before")).expect("added");
    book.add(&closed("before")).expect("added");
    book.sign().expect("signed");
    book.add(&Entry::Rotated { key: public(&new), from: 7 }).expect("added");
    book.sign().expect("the old one's last word");
    book.key = new.clone();
    book.add(&opened("after")).expect("added");
    book.sign().expect("the new one's first");
    let index = book.read();
    assert_eq!(index.fault(), None);
    let ranges: Vec<_> = index.keys().iter().map(|k| (k.key.clone(), k.from, k.until)).collect();
    assert_eq!(ranges, [(public(&old), 0, Some(7)), (public(&new), 7, None)]);
    let at = |position| index.key_at(position).lines()[0].clone();
    assert_eq!([at(0), at(6), at(7), at(8)], [public(&old), public(&old), public(&new), public(&new)]);
    let of = |run| index.key_of(run).lines()[0].clone();
    assert_eq!([of("before"), of("after"), of("nobody")], [public(&old), public(&new), public(&new)]);
    // Who has the newest key, or an older one, knows this index; who has yet another one does not.
    let trusted = |keys: &[&SigningKey]| {
        let text: String = keys.iter().map(|key| key.verifier()).collect();
        index.untrusted_key(&VerifyingKeys::parse(&text).expect("keys"))
    };
    assert_eq!((trusted(&[&old]), trusted(&[&old, &new])), (None, None));
    let fault = trusted(&[&old, &key()]).expect("not his index");
    assert!(fault.line == 1 && fault.what.contains("not signed with your keys"), "{fault}");
    // The old key's word does not count any more.
    book.key = old;
    book.add(&opened("later")).expect("added");
    assert!(book.sign().expect_err("the old key").contains("not signed with a known key"));
}

#[test]
fn what_cannot_be_read_is_a_fault_and_what_was_not_finished_is_none() {
    let read = |text: &[u8]| Index::read(text, []).expect("memory can be read");
    let mut book = Book::begun();
    book.add(&opened("a")).expect("added");
    book.sign().expect("signed");
    let whole = book.text.len();
    let ends: Vec<usize> = (0..whole).filter(|at| book.text[*at] == b'\n').collect();
    for cut in 0..=whole {
        let index = read(&book.text[..cut]);
        let signed = if cut > ends[3] {
            4
        } else if cut > ends[1] {
            2
        } else {
            0
        };
        let end = if cut > ends[3] {
            ends[3] + 1
        } else if cut > ends[1] {
            ends[1] + 1
        } else {
            0
        };
        assert_eq!((index.records(), index.end, index.fault()), (signed, end as u64, None), "{cut}");
        assert_eq!(index.unsigned_bytes(), (cut - end) as u64, "{cut}");
    }
    for at in 0..whole {
        let mut text = book.text.clone();
        text[at] ^= 1 << (at % 8);
        let line = 1 + ends.iter().filter(|end| **end < at).count() as u64;
        let index = read(&text);
        match index.fault() {
            // The line itself, or where it still reads as a record, its successor or its checkpoint.
            Some(fault) => assert!(fault.line == line || fault.line == line + 1, "byte {at}: {fault}"),
            None => assert!(index.records() < 4 && at == whole - 1, "byte {at} passes"),
        }
    }
    let long = |length: usize| read(&[&book.text[..], &vec![b'x'; length]].concat());
    assert_eq!((long(65_535).fault(), long(65_535).unsigned_bytes()), (None, 65_535));
    let fault = long(65_536).fault().cloned().expect("too long");
    assert!(fault.line == 5 && fault.what.contains("longer than any record"), "{fault}");
}

#[test]
fn a_run_is_what_the_index_says_of_it() {
    let lines: Vec<Vec<u8>> = (0..6).map(|n| format!("line {n}").into_bytes()).collect();
    let tree = |lines: &[Vec<u8>], watched: &[u64]| {
        let mut tree = Frontier::watching(watched.iter().copied());
        lines.iter().for_each(|line| tree.push(leaf(line)));
        tree
    };
    let extent = |size: usize| Some(Extent { size: size as u64, root: tree(&lines[..size], &[]).root() });
    let standing = |adopted: Option<usize>, closed: Option<usize>| Standing {
        archived: None,
        at: 2,
        since: Timestamp::UNIX_EPOCH,
        first: leaf(&lines[0]),
        adopted: adopted.and_then(extent),
        closed: closed.and_then(extent),
    };
    let check = |standing: &Standing, lines: &[Vec<u8>], more| {
        let sizes: Vec<u64> = standing.sizes().collect();
        standing.contradiction(&tree(lines, &sizes), more).map(|fault| (fault.line, fault.what))
    };
    let sees = |standing: &Standing, lines: &[Vec<u8>], more, line, words: &str| {
        let (at, what) = check(standing, lines, more).expect("a contradiction");
        assert!(at == line && what.contains(words), "line {at}: {what}");
    };
    let mut changed = lines.clone();
    changed[2] = b"another".to_vec();
    for good in
        [standing(None, None), standing(Some(3), None), standing(Some(3), Some(6)), standing(None, Some(6))]
    {
        assert_eq!(check(&good, &lines, false), None);
        sees(&good, &lines[1..], false, 1, "a different first record");
    }
    assert_eq!(check(&standing(None, None), &changed, true), None, "an open run goes on");
    sees(&standing(Some(3), None), &lines[..2], false, 3, "had 3 records, but only 2 are here");
    sees(&standing(Some(3), None), &changed, false, 1, "lines 1 to 3 differ from those");
    sees(&standing(None, Some(6)), &lines[..5], false, 6, "was closed with 6 records, but only 5 are here");
    sees(&standing(None, Some(6)), &changed, false, 1, "lines 1 to 6 differ from those");
    sees(&standing(None, Some(5)), &lines, false, 6, "closed with 5 records, but more records follow");
    sees(&standing(None, Some(6)), &lines, true, 7, "closed with 6 records, but more records follow");
}
