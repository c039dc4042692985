//! One line of a journal.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::plan::Plan;
use crate::rotation::Event;

/// The version of the record's format. 2 has the events `seen`, `deferred`, `forward`, `reissue`, `rewrite`.
pub const VERSION: u32 = 2;
/// The oldest version that is read.
const OLDEST: u32 = 1;

/// One record: what happened, when, who wrote it down, and what it follows.
#[derive(Debug, Clone)]
pub struct Record {
    /// What stands around the event.
    pub envelope: Envelope,
    /// What happened.
    pub event: Event,
}

/// What stands around an event.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Envelope {
    /// The format's version.
    pub v: u32,
    /// The run's id.
    pub run: String,
    /// The record's number in the run, from 0, without gaps.
    pub seq: u64,
    /// The leaf hash (RFC 6962) of the previous line, in hex.
    pub prev: String,
    /// The wall clock.
    pub wall: Timestamp,
    /// The writing process' monotonic clock, in milliseconds.
    pub mono_ms: u64,
    /// Who ran the process.
    pub actor: String,
    /// Where.
    pub host: String,
    /// The plan's digest, in hex.
    pub plan: String,
}

/// A line is not a record.
#[derive(Debug, thiserror::Error)]
pub enum BadRecord {
    /// It does not parse.
    #[error("it is not a record: {0}")]
    Malformed(String),
    /// It was written by another version.
    #[error("it has format version {0}; this version of stanch reads versions {OLDEST} to {VERSION}")]
    Version(u32),
}

impl Envelope {
    /// The envelope as an object of its own.
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).expect("an envelope is always JSON")
    }

    /// What a checkpoint says of the envelope that it stands in, so that its signature covers the
    /// line's other bytes too.
    pub(super) fn about(&self) -> String {
        format!("envelope {}", hex::encode(Sha256::digest(self.text())))
    }
}

impl Record {
    /// The record as a line, without the newline.
    pub(super) fn line(&self) -> Vec<u8> {
        let mut line = Vec::new();
        write(&self.envelope, &self.event, &mut line);
        line
    }

    /// Reads a line.
    ///
    /// # Errors
    /// When it is not a record of this version.
    pub fn parse(line: &[u8]) -> Result<Self, BadRecord> {
        /// The event's type alone. serde buffers a whole internally tagged value before it looks at
        /// it, which a plan of many megabytes should be spared.
        #[derive(Deserialize)]
        struct Head {
            v: u32,
            r#type: String,
        }
        #[derive(Deserialize)]
        struct Opened {
            plan_body: Box<Plan>,
            reason: Option<String>,
        }
        let malformed = |e: serde_json::Error| BadRecord::Malformed(e.to_string());
        let head: Head = serde_json::from_slice(line).map_err(malformed)?;
        if !(OLDEST..=VERSION).contains(&head.v) {
            return Err(BadRecord::Version(head.v));
        }
        let envelope = serde_json::from_slice(line).map_err(malformed)?;
        let event = if head.r#type == "opened" {
            let opened: Opened = serde_json::from_slice(line).map_err(malformed)?;
            Event::Opened { plan: opened.plan_body, reason: opened.reason }
        } else {
            serde_json::from_slice(line).map_err(malformed)?
        };
        Ok(Self { envelope, event })
    }
}

/// Writes a record as a line, without the newline.
pub(super) fn write(envelope: &Envelope, event: &Event, line: &mut Vec<u8>) {
    #[derive(Serialize)]
    struct Line<'a> {
        #[serde(flatten)]
        envelope: &'a Envelope,
        #[serde(flatten)]
        event: &'a Event,
    }
    serde_json::to_writer(line, &Line { envelope, event }).expect("a record is always JSON");
}
