//! What is to be sent, and what became of it: a file a message, in a directory a run, beside the journal.
//!
//! A message is kept before it is sent, and marked as on its way before the request leaves. So a crash at any
//! point leaves one of three: no file (the message is composed again), a file that waits (it is sent), or one that
//! was on its way (whether the channel has it is not known).

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::message::Message;

/// The version of the files' form.
const FORMAT: u32 = 1;
/// No entry is larger.
const MOST: u64 = 1 << 20;

/// A message, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The version of this form.
    pub format: u32,
    /// The message.
    pub message: Message,
    /// How far it is.
    pub delivery: Delivery,
    /// How often it was tried.
    pub tries: u32,
    /// Whether the end of a try is not known: what is sent after it may be a repeat.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeat: bool,
    /// Not before this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// Not before this moment, as the channel itself asked: a person's `flush` waits for it as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
    /// What went wrong at the last try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Who sent it, where a person did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When the channel took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<Timestamp>,
    /// What the channel calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

/// How far a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Delivery {
    /// It waits to be sent, for the first time or again.
    Waiting,
    /// A process is sending it, or died while it did.
    Sending,
    /// The channel has it.
    Sent,
    /// The channel refuses it.
    Refused,
    /// It was sent twice, and whether the channel has it is not known.
    InDoubt,
}

/// A file of the outbox failed.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The system refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file is not an entry.
    #[error("{} is not an entry of an outbox: {why}", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Another process sends the messages of this run.
    #[error("another process is sending the messages of {0}")]
    Busy(String),
}

/// The messages of one run.
#[derive(Debug, Clone)]
pub struct Outbox {
    run: String,
    folder: PathBuf,
}

/// The outbox of a run is this process' alone for as long as this lives.
#[derive(Debug)]
pub struct Claim {
    _lock: File,
}

impl Entry {
    /// A message that was just composed.
    pub fn new(message: Message) -> Self {
        Self {
            format: FORMAT,
            message,
            delivery: Delivery::Waiting,
            tries: 0,
            repeat: false,
            not_before: None,
            retry_at: None,
            error: None,
            hint: None,
            by: None,
            sent_at: None,
            reference: None,
        }
    }

    /// Whether it is still to be sent.
    pub fn is_open(&self) -> bool {
        matches!(self.delivery, Delivery::Waiting | Delivery::Sending)
    }
}

impl Outbox {
    /// The outbox of a run, in the directory of all outboxes.
    pub fn of(all: &Path, run: &str) -> Self {
        Self { run: run.to_owned(), folder: all.join(run) }
    }

    /// The runs that have an outbox, by name.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn runs(all: &Path) -> Result<Vec<String>, OutboxError> {
        names(all)
    }

    /// Whether anything of the run was, or is to be, sent.
    pub fn is_begun(&self) -> bool {
        self.folder.is_dir()
    }

    /// Makes the outbox, where it is not there: from then on the run's messages are to be sent, whatever becomes of
    /// this process.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn begin(&self) -> Result<(), OutboxError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        made.map_err(io("create the directory", &self.folder))
    }

    /// Makes the outbox this process' own.
    ///
    /// # Errors
    /// When another process has it, or it cannot be locked.
    pub fn claim(&self) -> Result<Claim, OutboxError> {
        let path = self.folder.join("lock");
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(io("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Claim { _lock: file }),
            Err(TryLockError::WouldBlock) => Err(OutboxError::Busy(self.run.clone())),
            Err(TryLockError::Error(error)) => Err(io("lock", &path)(error)),
        }
    }

    /// Whether the message of a record to a channel was composed already.
    pub fn has(&self, seq: u64, channel: &str) -> bool {
        self.path(seq, channel).exists()
    }

    /// Keeps an entry, durably: a crash leaves the old or the new one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self, entry: &Entry) -> Result<(), OutboxError> {
        let path = self.path(entry.message.seq, &entry.message.channel);
        let text = serde_json::to_string_pretty(entry).expect("an entry is always JSON");
        let written = || {
            let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)?;
            File::open(&self.folder)?.sync_all()
        };
        written().map_err(io("write", &path))
    }

    /// All entries, in the order of their records.
    ///
    /// # Errors
    /// When one cannot be read, or is not an entry.
    pub fn entries(&self) -> Result<Vec<Entry>, OutboxError> {
        let (entries, bad) = self.readable()?;
        bad.into_iter().next().map_or(Ok(entries), Err)
    }

    /// The entries that can be read, in the order of their records, and what is wrong with the others.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn readable(&self) -> Result<(Vec<Entry>, Vec<OutboxError>), OutboxError> {
        let (mut entries, mut bad) = (Vec::new(), Vec::new());
        for name in names(&self.folder)?.iter().filter(|name| name.ends_with(".json")) {
            match self.read(self.folder.join(name)) {
                Ok(entry) => entries.push(entry),
                Err(error) => bad.push(error),
            }
        }
        Ok((entries, bad))
    }

    fn read(&self, path: PathBuf) -> Result<Entry, OutboxError> {
        let bytes = crate::provider::own_file::read(&path, MOST).map_err(io("read", &path))?;
        let entry: Entry = serde_json::from_slice(&bytes)
            .map_err(|error| OutboxError::Damaged { path: path.clone(), why: error.to_string() })?;
        if entry.format != FORMAT || self.path(entry.message.seq, &entry.message.channel) != path {
            let why = "it is of another version, or another message's".to_owned();
            return Err(OutboxError::Damaged { path, why });
        }
        Ok(entry)
    }

    fn path(&self, seq: u64, channel: &str) -> PathBuf {
        self.folder.join(format!("{seq:010}-{channel}.json"))
    }
}

fn names(folder: &Path) -> Result<Vec<String>, OutboxError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io("list", folder)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(io("list", folder))?.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

fn io<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> OutboxError + 'a {
    move |source| OutboxError::Io { doing, path: path.to_owned(), source }
}
