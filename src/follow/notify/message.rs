//! One message to one channel.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::domain::{Audience, MessageKind};

/// One message to one channel, as it is kept and sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The run.
    pub run: String,
    /// The record that it is about.
    pub seq: u64,
    /// The channel's name.
    pub channel: String,
    /// What it is about.
    pub kind: MessageKind,
    /// Who it is for.
    pub audience: Audience,
    /// Whether the run is one in the sandbox.
    pub drill: bool,
    /// How bad the leak is, as the runbook says: the same in every message of a run.
    pub severity: Severity,
    /// When what it is about was recorded.
    pub at: Timestamp,
    /// When the run began.
    pub opened: Timestamp,
    /// One line.
    pub title: String,
    /// The rest, of several lines.
    pub text: String,
    /// The language that both are in.
    pub language: String,
}

/// How bad it is, in PagerDuty's words.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, strum::IntoStaticStr,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Needs attention.
    Warning,
    /// Needs a person.
    Error,
    /// Needs a person now.
    Critical,
}

impl Message {
    /// Its id: the same however often it is composed.
    pub fn id(&self) -> String {
        format!("{}/{}/{}", self.run, self.seq, self.channel)
    }

    /// The id in a form that fits everywhere: 32 hex digits.
    pub fn short_id(&self) -> String {
        digest(&self.id())
    }

    /// What all messages of its run have in common: the same from the first to the last, and across resumes.
    pub fn thread(&self) -> String {
        digest(&self.run)
    }

    /// What a person confirms before it is sent to customers: the beginning of a digest of what they read.
    pub fn confirmation(&self) -> String {
        digest(&format!("{}\n{}\n{}", self.id(), self.title, self.text))[..12].to_owned()
    }

    /// How much it needs a person.
    pub fn urgency(&self) -> Severity {
        match self.kind {
            _ if self.drill => Severity::Info,
            MessageKind::Stuck | MessageKind::Closed => self.severity.max(Severity::Error),
            MessageKind::Halted | MessageKind::ApprovalWanted => self.severity.max(Severity::Warning),
            _ => self.severity,
        }
    }

    /// As JSON, for channels that take any. A run's name is internal: only technicians get it.
    pub fn to_json(&self) -> serde_json::Value {
        let mut json = serde_json::json!({
            "type": "stanch.message", "id": self.short_id(), "thread": self.thread(), "kind": self.kind,
            "audience": self.audience, "drill": self.drill, "at": self.at, "title": self.title,
            "text": self.text, "language": self.language,
        });
        if self.audience == Audience::Technicians {
            json["run"] = self.run.as_str().into();
            json["seq"] = self.seq.into();
        }
        json
    }

    /// Whether nothing is left to do for a person when it is read.
    pub fn is_over(&self) -> bool {
        matches!(self.kind, MessageKind::Proved | MessageKind::RolledBack)
    }

    /// As it is sent once more after a try of which the end is not known.
    #[must_use]
    pub fn repeated(&self) -> Self {
        let words = match self.language.split('-').next() {
            Some("de") => "möglicherweise eine Wiederholung",
            _ => "possibly a repeat",
        };
        Self { title: format!("{} ({words})", self.title), ..self.clone() }
    }
}

fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))[..32].to_owned()
}
