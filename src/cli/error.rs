//! Errors as a user meets them, and the exit codes.

use std::error::Error;
use std::fmt::Write as _;

use crate::domain::ErrorKind;
use crate::drill::BadMarker;
use crate::engine::{EngineError, SurveyError};
use crate::journal::LedgerError;
use crate::plan::{CompileError, PlanError};
use crate::provider::CallError;
use crate::rotation::{End, State, Stop};
use crate::runbook::{InstantiateError, ReadError};
use crate::text::{sanitize, sanitize_long};

/// How the process ends. The numbers are part of the command line's contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Failed; nothing is left changed.
    Failed,
    /// The command line is wrong.
    Usage,
    /// Partly done; can be resumed.
    Partial,
    /// An outcome is unknown and needs `resolve`.
    Unknown,
    /// A gate failed, and everything was rolled back.
    GateRolledBack,
    /// Inconclusive; paused.
    Inconclusive,
    /// A rollback is stuck.
    Stuck,
    /// Every step is done, and nothing could prove that the old credential is dead.
    NotProved,
    /// An answer or approval is missing.
    Unanswered,
    /// Another run has it.
    Locked,
    /// The plan is stale.
    Stale,
    /// Halted.
    Halted,
    /// A journal is not good.
    JournalInvalid,
    /// A journal cannot be written.
    JournalUnwritable,
    /// The end of a journal is not covered by a signature.
    Unanchored,
    /// The runbook is wrong.
    BadRunbook,
    /// A server cannot be reached, or is not ready.
    Unreachable,
    /// A server forbids it.
    Denied,
    /// Ctrl-C; can be resumed.
    Interrupted,
    /// SIGTERM; can be resumed.
    Terminated,
    /// Whoever read the result went away before it was all written.
    NotRead,
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Partial => 10,
            Self::Unknown => 11,
            Self::GateRolledBack => 12,
            Self::Inconclusive => 13,
            Self::Stuck => 14,
            Self::NotProved => 15,
            Self::Unanswered => 20,
            Self::Locked => 21,
            Self::Stale => 22,
            Self::Halted => 23,
            Self::JournalInvalid => 30,
            Self::JournalUnwritable => 31,
            Self::Unanchored => 32,
            Self::BadRunbook => 65,
            Self::Unreachable => 69,
            Self::Denied => 77,
            Self::Interrupted => 130,
            Self::NotRead => 141,
            Self::Terminated => 143,
        }
    }

    /// How a command ends that did something and then printed it. Where the result could not be printed, a
    /// success is none; any other end says more than that.
    pub(super) fn shown(self, printed: Result<(), CliError>) -> Result<Self, CliError> {
        match printed {
            Err(error) if self == Self::Done => Err(error),
            Err(error) => {
                error.print(false);
                Ok(self)
            }
            Ok(()) => Ok(self),
        }
    }

    /// How a session that left this state ends. `signal` is the signal that interrupted it.
    pub fn of(state: &State, terminated: bool) -> Self {
        match (state.end(), state.stopped()) {
            (Some(End::Done), _) => Self::Done,
            (Some(End::GateRolledBack), _) => Self::GateRolledBack,
            (Some(End::NotProved), _) => Self::NotProved,
            (Some(End::RolledBack | End::Abandoned), _) => Self::Failed,
            (Some(End::Failed), _) => (0..state.plan().steps.len())
                .find_map(|s| state.failure(s))
                .map_or(Self::Failed, |f| Self::of_kind(f.kind)),
            (None, Some(Stop::Unknown { .. })) => Self::Unknown,
            (None, Some(Stop::Inconclusive { .. } | Stop::GateFailed { .. })) => Self::Inconclusive,
            (None, Some(Stop::Halted)) => Self::Halted,
            (None, Some(Stop::Interrupted)) if terminated => Self::Terminated,
            (None, Some(Stop::Interrupted)) => Self::Interrupted,
            (None, Some(Stop::Until { .. })) => Self::Done,
            (None, Some(Stop::Stuck { .. })) => Self::Stuck,
            (None, Some(Stop::Unanswered { .. } | Stop::Unapproved { .. })) => Self::Unanswered,
            (
                None,
                Some(
                    Stop::Failed { .. }
                    | Stop::Waiting { .. }
                    | Stop::OutsideWindow { .. }
                    | Stop::Returned { .. }
                    | Stop::Overtaken { .. }
                    | Stop::Unread { .. }
                    | Stop::LetIn { .. }
                    | Stop::FellBack { .. }
                    | Stop::Silent { .. },
                )
                | None,
            ) => Self::Partial,
        }
    }

    /// How a failure ends the process when nothing was changed.
    pub fn of_kind(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Unreachable | ErrorKind::NotReady | ErrorKind::NoAnswer | ErrorKind::Throttled => {
                Self::Unreachable
            }
            ErrorKind::Denied | ErrorKind::Refused => Self::Denied,
            ErrorKind::Conflict => Self::Stale,
            ErrorKind::Unanswered => Self::Unanswered,
            ErrorKind::NotFound
            | ErrorKind::Limit
            | ErrorKind::Invalid
            | ErrorKind::Unsupported
            | ErrorKind::Declined
            | ErrorKind::Cancelled
            | ErrorKind::Local => Self::Failed,
        }
    }
}

/// An error as a user meets it: what happened, why, what is safe now, and what to type next.
#[derive(Debug)]
pub struct CliError {
    /// How the process ends.
    pub exit: Exit,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
}

impl CliError {
    /// What it says, and what to do about it.
    pub(super) fn into_words(self) -> (String, Option<String>) {
        (self.message, self.hint)
    }

    /// An error without a cause.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), causes: Vec::new(), hint: None }
    }

    /// Adds what to type next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a sentence to what to type next.
    #[must_use]
    pub fn note(mut self, note: String) -> Self {
        self.hint = Some(self.hint.map_or_else(|| note.clone(), |hint| format!("{hint}; {note}")));
        self
    }

    pub(super) fn from_error(exit: Exit, error: &dyn Error) -> Self {
        let mut causes = Vec::new();
        let mut source = error.source();
        while let Some(cause) = source {
            causes.push(sanitize(&cause.to_string()));
            source = cause.source();
        }
        Self { exit, message: sanitize(&error.to_string()), causes, hint: None }
    }

    /// The error in one text, with what to type next.
    pub(super) fn sentences(&self) -> String {
        let because = self.causes.iter().map(|cause| format!("because: {cause}"));
        let hint = self.hint.iter().map(|hint| format!("hint: {hint}"));
        let parts: Vec<String> = [self.message.clone()].into_iter().chain(because).chain(hint).collect();
        parts.join("\n")
    }

    /// Prints the error to standard error.
    pub fn print(&self, json: bool) {
        if self.exit == Exit::NotRead {
            return;
        }
        if json {
            let value = serde_json::json!({
                "error": self.message, "causes": self.causes, "hint": self.hint, "exit": self.exit.code(),
            });
            eprintln!("{value}");
            return;
        }
        let mut text = format!("error: {}\n", self.message);
        for cause in &self.causes {
            let _ = writeln!(text, "  because: {cause}");
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "  hint: {hint}");
        }
        eprint!("{text}");
    }
}

impl From<LedgerError> for CliError {
    fn from(error: LedgerError) -> Self {
        let (exit, hint) = match &error {
            LedgerError::Io { .. } => (
                Exit::JournalUnwritable,
                Some("check that it exists, is yours, is writable and has free space; nothing was done without a record".into()),
            ),
            LedgerError::Poisoned => (Exit::JournalUnwritable, Some("free some space where the runs are kept, then: stanch resume".into())),
            LedgerError::OtherVersion { .. } => {
                (Exit::JournalUnwritable, Some("use the version of stanch that made it, or keep the runs elsewhere: --state DIR".into()))
            }
            LedgerError::Key { .. } => (
                Exit::JournalInvalid,
                Some("restore that key from a backup; a new key would make every older journal look forged".into()),
            ),
            LedgerError::Identity { .. } => {
                (Exit::JournalInvalid, Some("restore that file from a backup".into()))
            }
            LedgerError::Busy { run, .. } => {
                (Exit::Locked, Some(format!("watch it: stanch status {run} --watch   stop it: stanch halt {run}")))
            }
            LedgerError::Held { run, .. } => (
                Exit::Locked,
                Some(format!("see its state and how to finish it: stanch status {run}")),
            ),
            LedgerError::NotFound(_) | LedgerError::NoOpenRun => (Exit::Usage, Some("list the runs: stanch runs".into())),
            LedgerError::Archived { run, .. } => (Exit::Usage, Some(format!("read it: stanch report {run}   stanch audit show {run}"))),
            LedgerError::Unreachable { .. } => {
                (Exit::Failed, Some("mount the archive at that path, or put a symbolic link there to where it is now".into()))
            }
            LedgerError::GoneFromArchive { .. } | LedgerError::ChangedInArchive { .. } => (Exit::JournalInvalid, Some("restore it from a backup of the archive".into())),
            LedgerError::BadArchive { .. } => (Exit::Usage, Some("nothing was removed; name another directory: --to DIR".into())),
            LedgerError::NotClosed(run) => {
                (Exit::Failed, Some(format!("see its state: stanch status {run}   stanch audit verify {run}")))
            }
            LedgerError::SeveralOpen(_) => (Exit::Usage, Some("name one of them; list the runs: stanch runs".into())),
            LedgerError::Ambiguous { .. } => (Exit::Usage, Some("type more of the name".into())),
            LedgerError::Invalid { run, .. } => (
                Exit::JournalInvalid,
                Some(format!("nothing was changed; make a copy of the runs, then: stanch audit verify {run}")),
            ),
            LedgerError::Index { .. } | LedgerError::IndexGone(_) => (
                Exit::JournalInvalid,
                Some("nothing was changed; make a copy of the runs, then: stanch audit verify --all   to start a new run elsewhere: --state DIR".into()),
            ),
            LedgerError::KeyExists(_) => (
                Exit::Usage,
                Some("show it: stanch audit key export   change it: stanch audit key rotate".into()),
            ),
            LedgerError::OpenRuns(runs) => {
                let run = runs.first().map_or("", String::as_str);
                (
                    Exit::Locked,
                    Some(format!("one key must sign a whole run; nothing was changed. See how to finish the run: stanch status {run}")),
                )
            }
            LedgerError::Nonsense { .. } => {
                (Exit::JournalInvalid, Some("nothing was changed; make a copy of the runs, and report this".into()))
            }
            LedgerError::Damaged { .. } => {
                (Exit::JournalInvalid, Some("nothing was changed; inspect it, and remove it if it is yours".into()))
            }
            LedgerError::NoRoom { .. } => {
                (Exit::JournalUnwritable, Some("free some space there, or keep the runs elsewhere: --state DIR".into()))
            }
        };
        Self { hint, ..Self::from_error(exit, &error) }
    }
}

impl From<EngineError> for CliError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Journal(e) => Self::from(e),
            EngineError::Safe(_) => Self {
                hint: Some("restore keys/seal.key in the state directory from a backup: without it the run can neither resume nor roll back. To see what it issued: stanch audit show   to close it: stanch abandon --reason TEXT".into()),
                ..Self::from_error(Exit::JournalInvalid, &error)
            },
            EngineError::Illegal(_) => Self {
                hint: Some("every call that stanch started is on the record; `stanch resume` checks each target first. Please report this".into()),
                ..Self::from_error(Exit::Partial, &error)
            },
        }
    }
}

impl From<SurveyError> for CliError {
    fn from(error: SurveyError) -> Self {
        let mut cli = Self::from(error.source);
        cli.message = format!("{}: {}", error.target, cli.message);
        cli
    }
}

impl From<CallError> for CliError {
    fn from(error: CallError) -> Self {
        // Survey only reads: a conflict there is not a stale plan.
        let exit = match Exit::of_kind(error.kind) {
            Exit::Stale => Exit::Failed,
            exit => exit,
        };
        let mut message = sanitize_long(&error.message);
        if let Some(id) = &error.request_id {
            let _ = write!(message, " (request {})", sanitize(id));
        }
        Self { exit, message, causes: Vec::new(), hint: error.hint.map(|hint| sanitize_long(&hint)) }
    }
}

impl From<CompileError> for CliError {
    fn from(error: CompileError) -> Self {
        let exit = match error {
            CompileError::Signers(_) => Exit::BadRunbook,
            _ => Exit::Failed,
        };
        Self::from_error(exit, &error).hint(error.hint())
    }
}

impl From<PlanError> for CliError {
    fn from(error: PlanError) -> Self {
        Self::from_error(Exit::BadRunbook, &error)
            .hint("make a new plan: stanch plan RUNBOOK --env ENV -o plan.json")
    }
}

impl From<BadMarker> for CliError {
    fn from(error: BadMarker) -> Self {
        Self::from_error(Exit::Failed, &error)
            .hint("this directory belongs to a drill; begin another one: stanch drill start SCENARIO")
    }
}

impl From<ReadError> for CliError {
    fn from(error: ReadError) -> Self {
        let hint = error.hint();
        Self { hint, ..Self::from_error(Exit::BadRunbook, &error) }
    }
}

impl From<InstantiateError> for CliError {
    fn from(error: InstantiateError) -> Self {
        let exit = match error {
            InstantiateError::UnknownEnvironment { .. } => Exit::Usage,
            InstantiateError::TooLarge { .. } | InstantiateError::Unreadable { .. } => Exit::BadRunbook,
        };
        Self { hint: error.hint(), ..Self::from_error(exit, &error) }
    }
}
