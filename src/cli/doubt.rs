//! Steps of which nobody knows what became: what was tried, why it is unknown, how stanch looks, and how
//! a person finds out.

use std::collections::HashMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;

use super::context::Context;
use super::error::CliError;
use crate::domain::Observation;
use crate::journal::Record;
use crate::kind::spec::{IssuerDoubt, IssuerLook, StoreChange, StoreLook};
use crate::kind::{argv_words, called};
use crate::output::describe_op;
use crate::plan::{Action, Plan, Step};
use crate::rotation::{Ended, Event, Found, Op, State, Status};
use crate::runbook::model::{Issuer, OwnStep, Store, Undo};
use crate::text::{sanitize, shell_word};

/// One such step.
#[derive(Debug, Serialize)]
pub(super) struct Doubt {
    /// Its id.
    pub(super) step: String,
    what: String,
    op: Op,
    attempt: u32,
    /// When that try was begun.
    tried: Option<Timestamp>,
    why: String,
    /// How often it was looked into in vain, and what came of the last look.
    looks: u32,
    last_look: Option<String>,
    /// How stanch would look, or why it cannot.
    observed: String,
    /// Whether `stanch resume` looks again.
    resume_looks: bool,
    /// How a person finds out.
    find_out: String,
    /// What may be said of it, as commands.
    commands: Vec<String>,
}

/// The steps whose outcome is unknown, and those that were under way when their process ended.
pub(super) fn steps(state: &State, live: bool) -> Vec<usize> {
    let plan = state.plan();
    let open = |at: &usize| match state.status(*at) {
        Status::Unknown { .. } => true,
        Status::Started { .. } => !live && plan.steps[*at].is_effect(),
        _ => false,
    };
    if state.end().is_some() { Vec::new() } else { (0..plan.steps.len()).filter(open).collect() }
}

/// What is to be said of each of them.
///
/// # Errors
/// When the journal cannot be read again.
pub(super) async fn doubts(
    context: &Context,
    run: &str,
    state: &State,
    live: bool,
) -> Result<Vec<Doubt>, CliError> {
    let steps = steps(state, live);
    if steps.is_empty() {
        return Ok(Vec::new());
    }
    let plan = state.plan();
    let mut history: HashMap<&str, History> =
        steps.iter().map(|s| (plan.steps[*s].id.as_str(), History::default())).collect();
    let mut learn = |record: Record| {
        if let Some(past) = record.event.step().and_then(|id| history.get_mut(id)) {
            past.learn(&record.event, record.envelope.wall);
        }
    };
    context.ledger.records(run, &mut learn).await?;
    let mut doubt = |&at: &usize| {
        let step = &plan.steps[at];
        let (op, attempt) = match state.status(at) {
            Status::Unknown { op, attempt, .. } | Status::Started { op, attempt } => (*op, *attempt),
            _ => (Op::Do, 1),
        };
        let past = history.remove(step.id.as_str()).unwrap_or_default();
        let resume_looks = step.class.is_some_and(|c| c != Observation::Opaque);
        Doubt {
            step: step.id.clone(),
            what: describe_op(plan, step, op),
            op,
            attempt,
            tried: past.tried,
            why: past.why.unwrap_or_else(|| "its process ended before it recorded an answer".into()),
            looks: past.looks,
            last_look: past.last_look,
            observed: observed(plan, step, op),
            resume_looks,
            find_out: Looking { run, state, at, op, since: past.tried }.words(),
            commands: answers(state, at)
                .iter()
                .map(|answer| {
                    format!("stanch resolve {run} {} --as {answer} --evidence \"…\"", shell_word(&step.id))
                })
                .collect(),
        }
    };
    Ok(steps.iter().map(&mut doubt).collect())
}

/// What a person may say of a step.
pub(super) fn answers(state: &State, step: usize) -> &'static [&'static str] {
    if state.needs_its_answer(step) { &["not-applied"] } else { &["applied", "not-applied"] }
}

impl Doubt {
    /// As lines, for `stanch status`. `resumes` says whether a resume would be taken now.
    pub(super) fn text(&self, run: &str, live: bool, resumes: bool) -> String {
        let mut text = format!("  unknown: {} ({})\n", self.step, self.what);
        let mut line = |name: &str, words: &str| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "    {name:<9} {words}");
        };
        let tried = self.tried.map(|at| format!("{at:.0}, ")).unwrap_or_default();
        line("tried", &format!("{tried}try {}", self.attempt));
        line("why", &self.why);
        line("stanch", &self.observed);
        if let Some(last) = &self.last_look {
            let times = if self.looks == 1 { "once".into() } else { format!("{} times", self.looks) };
            line("", &format!("checked {times} without a result: {last}"));
        }
        if live {
            line("now", "the process that is working on the run may still find out");
            return text;
        }
        if self.resume_looks && resumes {
            line("recheck", &format!("stanch resume {run}"));
        }
        line("check", &self.find_out);
        for (nth, command) in self.commands.iter().enumerate() {
            line(if nth == 0 { "then type" } else { "or" }, command);
        }
        text
    }
}

/// What the record says of a step's last try.
#[derive(Debug, Default)]
struct History {
    tried: Option<Timestamp>,
    why: Option<String>,
    looks: u32,
    last_look: Option<String>,
}

impl History {
    fn learn(&mut self, event: &Event, at: Timestamp) {
        match event {
            Event::Intent { .. } => *self = Self { tried: Some(at), ..Self::default() },
            Event::Outcome { result: Ended::Unknown | Ended::Rejected, error: Some(error), .. } => {
                self.why = Some(sanitize(&error.message));
            }
            Event::Settled { found: Found::Undecided, detail, .. } => {
                self.looks += 1;
                self.last_look = Some(sanitize(detail));
            }
            _ => {}
        }
    }
}

/// How stanch looks, or why it cannot.
fn observed(plan: &Plan, step: &Step, op: Op) -> String {
    let words = match (step.class, &step.action) {
        (Some(Observation::Opaque) | None, Action::Own { .. }) => {
            "cannot check: the runbook gives this step neither `observe:` nor `class: idempotent`"
        }
        (Some(Observation::Opaque) | None, _) => {
            "cannot check: only the system that this step calls knows whether it worked"
        }
        (Some(Observation::Readable), Action::Own { name }) => {
            let observe = own(plan, step, name).and_then(|o| o.observe.as_ref());
            return format!(
                "asks the step's `observe:` program: `{}`",
                observe.map(argv_words).unwrap_or_default()
            );
        }
        (Some(Observation::Readable), Action::Promote { credential, store })
            if !plan.credentials[*credential].reads(*store) =>
        {
            "looks whether the version is another one than before the write"
        }
        (Some(Observation::Idempotent), _) => "repeats the step, which is harmless",
        (Some(Observation::Token), _) => "reads the store; a repeated request carries the same token",
        (Some(Observation::Conditional), _) => "reads the version back and compares it",
        (Some(Observation::Readable), Action::Promote { .. }) => "reads the value back and compares it",
        (Some(Observation::Listable), Action::Issue { .. }) if op == Op::Do => {
            "lists the credentials at the issuer and looks for one that this step created"
        }
        (Some(Observation::Listable | Observation::Readable), _) => {
            "asks the issuer whether the credential is active, disabled or gone"
        }
    };
    words.into()
}

/// What is found of a step that only looks.
const NOTHING: &str = "nothing can have changed";

/// One step, for whoever wants to look at its target.
struct Looking<'a> {
    run: &'a str,
    state: &'a State,
    at: usize,
    op: Op,
    since: Option<Timestamp>,
}

impl Looking<'_> {
    fn words(&self) -> String {
        let plan = self.state.plan();
        let step = &plan.steps[self.at];
        let text = match (&step.action, step.action.credential()) {
            (Action::Own { name }, _) => self.own(own(plan, step, name)),
            (_, None) => NOTHING.into(),
            (action, Some(c)) => {
                let (planned, credential) = plan.credential(c);
                match action {
                    Action::Issue { .. } if self.op == Op::Do => {
                        self.issuer(&credential.issuer, IssuerDoubt::Issued { known: &planned.existing })
                    }
                    // Another change since may have replaced both values: what counts is the old one.
                    Action::Issue { .. } if planned.issuer.replaces() => {
                        let about = IssuerDoubt::Issued { known: &planned.existing };
                        let look = self.issuer(&credential.issuer, about);
                        format!("{look}: it took effect if the old credential is accepted again")
                    }
                    Action::Issue { .. } => {
                        let handle = self.state.fact(self.at, "handle");
                        self.issuer(&credential.issuer, IssuerDoubt::Life { handle, wanted: "gone" })
                    }
                    Action::Disable { .. } | Action::Revoke { .. } => {
                        let handle = planned.outgoing.as_ref().map(|o| o.handle.as_str());
                        let wanted = match (action, self.op) {
                            (Action::Revoke { .. }, _) => "gone",
                            (_, Op::Undo) => "active again",
                            _ => "disabled",
                        };
                        self.issuer(&credential.issuer, IssuerDoubt::Life { handle, wanted })
                    }
                    Action::Stage { store, .. } => {
                        self.store(&credential.stores[*store], *store, StoreChange::Stage)
                    }
                    Action::Promote { store, .. } => {
                        self.store(&credential.stores[*store], *store, StoreChange::Promote)
                    }
                    Action::Destroy { store, .. } => {
                        self.store(&credential.stores[*store], *store, StoreChange::Destroy)
                    }
                    Action::Reload { consumer, .. } => {
                        format!("ask {} which version it uses", credential.consumers[*consumer].name)
                    }
                    // The credentials that it revokes were never in use.
                    Action::Sweep { .. } => NOTHING.into(),
                    Action::Connection { .. }
                    | Action::Permission { .. }
                    | Action::Capture { .. }
                    | Action::Baseline { .. }
                    | Action::Inspect { .. }
                    | Action::Accept { .. }
                    | Action::Reject { .. }
                    | Action::Own { .. } => NOTHING.into(),
                }
            }
        };
        sanitize(&text)
    }

    fn own(&self, own: Option<&OwnStep>) -> String {
        let Some(own) = own else { return "check what the step does".into() };
        let (exec, http) = match (&own.undo, self.op) {
            (Some(Undo::Exec(exec)), Op::Undo) => (Some(exec), None),
            (Some(Undo::Http(http)), Op::Undo) => (None, Some(http)),
            (_, Op::Undo) => (None, None),
            _ => (own.exec.as_ref(), own.http.as_ref()),
        };
        called(exec, http)
    }

    fn issuer(&self, issuer: &Issuer, about: IssuerDoubt<'_>) -> String {
        let step = &self.state.plan().steps[self.at].id;
        issuer.look(&IssuerLook { run: self.run, step, since: self.since, about })
    }

    /// Whether a store has what it should have.
    fn store(&self, store: &Store, index: usize, change: StoreChange) -> String {
        let plan = self.state.plan();
        let c = plan.steps[self.at].action.credential();
        let capture = |s: &Step| matches!(s.action, Action::Capture { credential, store } if Some(credential) == c && store == index);
        let before = match (self.op, &change) {
            // What this run wrote, and now takes back.
            (Op::Undo, StoreChange::Promote) => self.state.fact(self.at, "version"),
            _ => plan.steps.iter().position(capture).and_then(|at| self.state.fact(at, "version")),
        };
        store.look(&StoreLook { since: self.since, before: before.filter(|v| !v.is_empty()), change })
    }
}

/// A step of the runbook's own, as the runbook has it.
fn own<'a>(plan: &'a Plan, step: &Step, name: &str) -> Option<&'a OwnStep> {
    let spec = plan.runbook.phases.of(step.phase)?;
    spec.before.iter().chain(&spec.after).find(|s| s.name == name)
}
