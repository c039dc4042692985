//! The index: a journal over the runs' journals. It says which runs there were, how each began and
//! how it ended, and which key was valid when, so that a run that is gone, cut off or exchanged
//! shows.
//!
//! The format is that of a run's journal: one JSON object a line, chained by the RFC 6962 leaf hash
//! of the line before, under C2SP checkpoints. Whatever is appended ends with a checkpoint, in one
//! write; what stands behind the last checkpoint was never finished, and counts for nothing.

use std::collections::BTreeMap;
use std::io::BufRead;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tlog_tiles::Hash;

use super::Fault;
use super::chain::{Frontier, NO_PREVIOUS, leaf};
use super::key::VerifyingKeys;

/// The version of the record's format.
const VERSION: u32 = 1;
/// The longest line: a record names one run, or holds one note.
const MAX_LINE: u64 = 64 << 10;

/// The first line of the index's checkpoints. The identity is the state folder's own, so that
/// another folder's index cannot stand in for it.
pub(super) fn index_origin(id: &str) -> String {
    format!("{INDEX_ORIGIN}{id}")
}

/// What such an origin begins with.
pub(super) const INDEX_ORIGIN: &str = "stanch-index/";

/// What stands around an entry.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Envelope {
    pub(super) v: u32,
    pub(super) index: String,
    pub(super) seq: u64,
    pub(super) prev: String,
    pub(super) wall: Timestamp,
    pub(super) actor: String,
    pub(super) host: String,
}

/// What an index records.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(super) enum Entry {
    /// Always, and only, the first: the key that is valid from here on.
    Begun { key: String },
    /// A run that is older than the index: from here on it has at least these records.
    Adopted { run: String, first: String, size: u64, root: String },
    /// A run's first record is durable; this is its leaf hash.
    Opened { run: String, first: String },
    /// A run is over; its journal has these records.
    Closed { run: String, size: u64, root: String },
    /// A run that is over was copied into the archive at `place`, and is removed here.
    Archived { run: String, place: String },
    /// The key that is valid from position `from` on. The checkpoint that follows is the old key's
    /// last word.
    Rotated { key: String, from: u64 },
    /// An append that was not finished was cut off.
    Repaired { bytes: u64, sha256: String },
    /// A signed note over all lines before.
    Checkpoint { note: String },
}

#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    envelope: Envelope,
    #[serde(flatten)]
    entry: Entry,
}

impl Envelope {
    /// What a checkpoint says of its own line, as in a run's journal.
    pub(super) fn about(&self) -> String {
        let text = serde_json::to_vec(self).expect("an envelope is always JSON");
        format!("envelope {}", hex::encode(Sha256::digest(text)))
    }

    /// The envelope and its entry as a line, without the newline.
    pub(super) fn line(&self, entry: &Entry) -> Vec<u8> {
        let line = Line { envelope: self.clone(), entry: entry.clone() };
        serde_json::to_vec(&line).expect("an entry is always JSON")
    }
}

/// So many records under this root.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Extent {
    pub(super) size: u64,
    pub(super) root: Hash,
}

/// What the index knows of a run.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Where the index says that it began; the key that is valid there is the run's.
    pub(super) at: u64,
    /// When that was written.
    pub(super) since: Timestamp,
    /// The leaf hash of its first line.
    pub(super) first: Hash,
    pub(super) adopted: Option<Extent>,
    pub(super) closed: Option<Extent>,
    /// The archive that it was moved into.
    pub(super) archived: Option<String>,
}

/// A key, and from which position of the index on it is valid: until the next one's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyRange {
    /// The public half, in the note format.
    pub key: String,
    /// The first position.
    pub from: u64,
    /// The position from which on it is no longer valid.
    pub until: Option<u64>,
}

/// An index that was read and checked.
#[derive(Debug, Clone)]
pub struct Index {
    pub(super) id: String,
    pub(super) keys: Vec<KeyRange>,
    pub(super) runs: BTreeMap<String, Standing>,
    /// The latest checkpoint's note.
    pub(super) note: String,
    /// The records under a checkpoint, itself included, and the bytes that they take.
    pub(super) signed: u64,
    pub(super) end: u64,
    /// The bytes behind the last checkpoint.
    pub(super) unsigned: u64,
    pub(super) fault: Option<Fault>,
    pub(super) frontier: Frontier,
    pub(super) previous: Hash,
    /// Entries that wait for their checkpoint: until then they count for nothing.
    pending: Vec<(u64, Timestamp, Entry)>,
}

impl Index {
    /// An index without a record, which will remember its root at these sizes.
    pub(super) fn empty(watched: impl IntoIterator<Item = u64>) -> Self {
        Self {
            id: String::new(),
            keys: Vec::new(),
            runs: BTreeMap::new(),
            note: String::new(),
            signed: 0,
            end: 0,
            unsigned: 0,
            fault: None,
            frontier: Frontier::watching(watched),
            previous: NO_PREVIOUS,
            pending: Vec::new(),
        }
    }

    /// Reads and checks an index, line by line. What is not good is the index's `fault`.
    pub(super) fn read(
        mut reader: impl BufRead,
        watched: impl IntoIterator<Item = u64>,
    ) -> std::io::Result<Self> {
        let mut index = Self::empty(watched);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = std::io::Read::take(&mut reader, MAX_LINE).read_until(b'\n', &mut line)? as u64;
            if read == 0 {
                return Ok(index);
            }
            let what = if line.pop_if(|c| *c == b'\n').is_none() {
                if read < MAX_LINE {
                    // Torn, and so behind the last checkpoint.
                    index.unsigned += read;
                    return Ok(index);
                }
                Err("it is longer than any record".to_owned())
            } else {
                index.feed(&line)
            };
            if let Err(what) = what {
                index.fault = Some(Fault { line: index.frontier.leaves() + 1, what });
                return Ok(index);
            }
        }
    }

    /// Takes the next line, without its newline.
    pub(super) fn feed(&mut self, line: &[u8]) -> Result<(), String> {
        let Line { envelope, entry } =
            serde_json::from_slice(line).map_err(|e| format!("it is not a record of an index: {e}"))?;
        let expected = self.frontier.leaves();
        if envelope.v != VERSION {
            return Err(format!(
                "it has format version {}; this version of stanch reads {VERSION}",
                envelope.v
            ));
        }
        if envelope.seq != expected {
            return Err(format!(
                "its seq is {}, expected {expected}: a record was removed, added or moved",
                envelope.seq
            ));
        }
        if envelope.prev != hex::encode(self.previous.0) {
            return Err(
                "its prev is not the hash of the line before: that line, or this one, was changed".into()
            );
        }
        if envelope.line(&entry) != line {
            return Err("it was not written by stanch".into());
        }
        match &entry {
            Entry::Begun { key } if expected == 0 => {
                VerifyingKeys::parse(key).map_err(|e| format!("its key is not valid: {e}"))?;
                self.id.clone_from(&envelope.index);
                // Whether this key is to be trusted is for the reader to say: `untrusted_key`.
                self.keys.push(KeyRange { key: key.clone(), from: 0, until: None });
            }
            _ if expected == 0 => return Err("the first record does not start an index".into()),
            _ if envelope.index != self.id => return Err("it belongs to another index".into()),
            Entry::Checkpoint { note } => {
                self.key_at(expected)
                    .check(note, &index_origin(&self.id), expected, self.frontier.root(), &envelope.about())
                    .map_err(|e| format!("the checkpoint is not valid: {e}"))?;
                for (seq, wall, entry) in std::mem::take(&mut self.pending) {
                    self.apply(seq, wall, entry, expected)?;
                }
                self.note.clone_from(note);
            }
            _ => self.pending.push((expected, envelope.wall, entry.clone())),
        }
        self.previous = leaf(line);
        self.frontier.push(self.previous);
        self.unsigned += line.len() as u64 + 1;
        if let Entry::Checkpoint { .. } = entry {
            self.signed = self.frontier.leaves();
            self.end += std::mem::take(&mut self.unsigned);
        }
        Ok(())
    }

    /// What an entry means, once it is signed by the checkpoint at `signed`.
    fn apply(&mut self, seq: u64, since: Timestamp, entry: Entry, signed: u64) -> Result<(), String> {
        let at = format!("record {seq}");
        match entry {
            Entry::Begun { .. } => return Err(format!("{at} starts an index that has already started")),
            Entry::Adopted { run, first, size, root } => {
                let adopted = Some(Extent { size, root: hash(&root)? });
                let standing =
                    Standing { at: seq, since, first: hash(&first)?, adopted, closed: None, archived: None };
                if self.runs.insert(run.clone(), standing).is_some() {
                    return Err(format!("{at} adopts run {run} again"));
                }
            }
            Entry::Opened { run, first } => {
                let standing = Standing {
                    at: seq,
                    since,
                    first: hash(&first)?,
                    adopted: None,
                    closed: None,
                    archived: None,
                };
                if self.runs.insert(run.clone(), standing).is_some() {
                    return Err(format!("{at} opens run {run} again"));
                }
            }
            Entry::Closed { run, size, root } => match self.runs.get_mut(&run) {
                Some(standing) if standing.closed.is_none() => {
                    standing.closed = Some(Extent { size, root: hash(&root)? });
                }
                _ => return Err(format!("{at} closes run {run}, which is not open")),
            },
            Entry::Archived { run, place } => match self.runs.get_mut(&run) {
                Some(standing) if standing.closed.is_some() => standing.archived = Some(place),
                _ => return Err(format!("{at} moves run {run}, which has not ended")),
            },
            Entry::Rotated { key, from } => {
                VerifyingKeys::parse(&key).map_err(|e| format!("{at}: its key is not valid: {e}"))?;
                if from != signed + 1 {
                    return Err(format!("{at} names a key that is not valid from the next checkpoint on"));
                }
                if let Some(run) = self.open().next() {
                    return Err(format!("{at} changes the key while run {run} is open"));
                }
                if let Some(last) = self.keys.last_mut() {
                    last.until = Some(from);
                }
                self.keys.push(KeyRange { key, from, until: None });
            }
            Entry::Repaired { .. } | Entry::Checkpoint { .. } => {}
        }
        Ok(())
    }

    /// The key that is valid at a position.
    pub(super) fn key_at(&self, at: u64) -> VerifyingKeys {
        let range = self.keys.iter().rev().find(|range| range.from <= at);
        VerifyingKeys::one(range.map_or("", |range| &range.key))
    }

    /// The key that signs a run's checkpoints: one for the whole run.
    pub(super) fn key_of(&self, run: &str) -> VerifyingKeys {
        self.key_at(self.runs.get(run).map_or(self.signed, |standing| standing.at))
    }

    /// The archive that a run was moved into.
    pub fn archive_of(&self, run: &str) -> Option<&str> {
        self.runs.get(run)?.archived.as_deref()
    }

    /// The runs whose end the index does not have.
    pub(super) fn open(&self) -> impl Iterator<Item = &String> {
        self.runs.iter().filter(|(_, standing)| standing.closed.is_none()).map(|(run, _)| run)
    }

    /// Why somebody who trusts these keys should not trust this index. Each key vouches for the one
    /// after it by a statement, and by its checkpoints for all that stood there before it; so it is
    /// enough that the newest trusted key is one of the index's.
    pub(super) fn untrusted_key(&self, trusted: &VerifyingKeys) -> Option<Fault> {
        let newest = trusted.lines().last()?;
        let known = self.keys.iter().any(|range| range.key == *newest);
        (!known).then(|| Fault {
            line: 1,
            what: "the index is not signed with your keys: it was replaced, or rewritten with an old key"
                .into(),
        })
    }

    /// The index's name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The keys, oldest first.
    pub fn keys(&self) -> &[KeyRange] {
        &self.keys
    }

    /// The runs that it knows.
    pub fn runs(&self) -> impl Iterator<Item = &str> {
        self.runs.keys().map(String::as_str)
    }

    /// How many records a signature covers.
    pub fn records(&self) -> u64 {
        self.signed
    }

    /// How many bytes stand behind the last signature.
    pub fn unsigned_bytes(&self) -> u64 {
        self.unsigned
    }

    /// The first record that is not good.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// The latest checkpoint: a signed note.
    pub fn note(&self) -> &str {
        &self.note
    }
}

impl Standing {
    /// How many records of the run must be there at least.
    pub(super) fn sizes(&self) -> impl Iterator<Item = u64> {
        let extents = self.adopted.into_iter().chain(self.closed).map(|extent| extent.size);
        extents.chain([1])
    }

    /// Where a run's journal, which was read up to here, is not what the index says.
    /// `more` is whether bytes follow that are no record.
    pub(super) fn contradiction(&self, read: &Frontier, more: bool) -> Option<Fault> {
        let fault = |line, what: String| Some(Fault { line, what });
        if read.root_at(1) != Some(self.first) {
            return fault(
                1,
                "the index has a different first record for this run: the run was replaced".into(),
            );
        }
        for (extent, word) in [(self.adopted, "had"), (self.closed, "was closed with")] {
            let Some(Extent { size, root }) = extent else { continue };
            let here = read.leaves();
            if here < size {
                let what = format!(
                    "the index says that the run {word} {size} records, but only {here} are here: the end was removed"
                );
                return fault(here + 1, what);
            }
            if read.root_at(size) != Some(root) {
                let what = format!(
                    "lines 1 to {size} differ from those in the index: one of them was rewritten, with the signing key"
                );
                return fault(1, what);
            }
        }
        let closed = self.closed?;
        if read.leaves() > closed.size || more {
            let what = format!("the run was closed with {} records, but more records follow", closed.size);
            return fault(closed.size + 1, what);
        }
        None
    }
}

fn hash(text: &str) -> Result<Hash, String> {
    let bytes = hex::decode(text).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.map(Hash).ok_or_else(|| "a hash is not valid".into())
}
