//! What a person signs: a text that says what is approved, by whom, why, and until when.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::Phase;

/// The namespace of approvals.
pub const APPROVAL: &str = "stanch-approval@v1";
/// The namespace of requests: whoever starts a run that needs approvals signs that, and cannot approve it.
pub const REQUEST: &str = "stanch-request@v1";

/// A statement and its signature, word by word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// The text, whose bytes are signed.
    pub statement: String,
    /// The armored signature.
    pub signature: String,
}

impl Signed {
    /// Whether the statement is not for one run only.
    pub fn is_for_any_run(&self) -> bool {
        Statement::read(&self.statement).is_ok_and(|statement| statement.run.is_none())
    }
}

/// What a statement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An approval.
    Approval,
    /// A request to run.
    Request,
}

impl Kind {
    /// The namespace in which it is signed.
    pub fn namespace(self) -> &'static str {
        match self {
            Self::Approval => APPROVAL,
            Self::Request => REQUEST,
        }
    }
}

/// A statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// What it is.
    pub kind: Kind,
    /// The plan's digest, in hex.
    pub plan: String,
    /// The run, where it is for one only.
    pub run: Option<String>,
    /// Who signs, as a principal.
    pub by: String,
    /// The phases that it lets begin; none in a request.
    pub phases: Vec<Phase>,
    /// What the plan does, for whoever signs. Nothing is decided by it: the digest says which plan it is.
    pub shown: Vec<(String, String)>,
    /// Why.
    pub reason: String,
    /// Where the reason is written down.
    pub ticket: Option<String>,
    /// Until when it holds.
    pub expires: Timestamp,
}

/// Larger than any statement of ours.
const MAX: usize = 32 * 1024;

impl Statement {
    /// The text that is signed.
    pub fn text(&self) -> String {
        let mut out = format!("{}\n", self.kind.namespace());
        // Writing to a String cannot fail.
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(out, "{name}: {value}");
        };
        line("plan", &self.plan);
        line("run", self.run.as_deref().unwrap_or("any run of this plan"));
        line("by", &self.by);
        if self.kind == Kind::Approval {
            let names: Vec<&str> = self.phases.iter().map(|phase| phase.name()).collect();
            line("phases", &names.join(", "));
        }
        line("reason", &self.reason);
        if let Some(ticket) = &self.ticket {
            line("ticket", ticket);
        }
        line("expires", &format!("{:.0}", self.expires));
        for (name, value) in &self.shown {
            line(&format!("  {name}"), value);
        }
        out
    }

    /// Reads a text that was signed.
    ///
    /// # Errors
    /// A sentence, when it is not a statement of this version.
    pub fn read(text: &str) -> Result<Self, String> {
        let not = |what: &str| format!("this is not a statement of stanch: {what}");
        if text.len() > MAX || text.chars().any(|c| c != '\n' && c.is_control()) {
            return Err(not("it is too long, or has control characters"));
        }
        let mut lines =
            text.strip_suffix('\n').ok_or_else(|| not("its last line is cut off"))?.split('\n').peekable();
        let kind = match lines.next() {
            Some(APPROVAL) => Kind::Approval,
            Some(REQUEST) => Kind::Request,
            _ => return Err(not("its first line is not stanch-approval@v1")),
        };
        let mut field = |name: &str| {
            let next = lines.next_if(|line| line.split_once(": ").is_some_and(|(n, _)| n == name));
            next.and_then(|line| line.split_once(": ")).map(|(_, value)| value.to_owned())
        };
        let missing = |name: &str| not(&format!("`{name}` is missing, or out of order"));
        let mut must = |name: &str| field(name).ok_or_else(|| missing(name));
        let (plan, run, by) = (must("plan")?, must("run")?, must("by")?);
        let phases = match kind {
            Kind::Request => Vec::new(),
            Kind::Approval => must("phases")?
                .split(", ")
                .map(|name| name.parse::<Phase>().map_err(|e| not(&e.to_string())))
                .collect::<Result<_, _>>()?,
        };
        let reason = must("reason")?;
        let ticket = field("ticket");
        let expires = field("expires").ok_or_else(|| missing("expires"))?;
        let expires = expires.parse().map_err(|_| not("`expires` is not a time"))?;
        let shown = lines.map(|line| {
            let (name, value) = line.strip_prefix("  ")?.split_once(": ")?;
            Some((name.to_owned(), value.to_owned()))
        });
        let shown =
            shown.collect::<Option<_>>().ok_or_else(|| not("a line at its end is not one of ours"))?;
        let run = (run != "any run of this plan").then_some(run);
        let read = Self { kind, plan, run, by, phases, shown, reason, ticket, expires };
        // One spelling only: what is shown again is what was signed.
        if read.text() == text { Ok(read) } else { Err(not("it is not written as stanch writes it")) }
    }
}
