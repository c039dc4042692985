//! From records to messages: a pure fold. What is said, and every number in it, comes from the same fold as the
//! report.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::audience::{CredentialLine, Customers, Management, Technicians, Values};
use super::config::Configured;
use super::message::{Message, Severity};
use super::templates;
use crate::clock::since;
use crate::domain::{Audience, MessageKind, Phase};
use crate::follow::report::{Clock, Fold, Report};
use crate::journal::{Envelope, Record};
use crate::output::{self, clock};
use crate::plan::{Action, Plan};
use crate::rotation::{Direction, End, Event, IllegalTransition, State, Stop};
use crate::runbook::model;

/// Takes the records of a run in their order, and finds what there is to say.
#[derive(Debug, Default)]
pub struct Composer {
    fold: Fold,
    /// The persons and machines that wrote the records.
    people: BTreeSet<String>,
}

/// A record that there is something to say about.
#[derive(Debug)]
pub struct Moment {
    /// What it is about.
    pub kind: MessageKind,
    envelope: Envelope,
    /// Why, where a person or a step gave the reason.
    why: String,
    plan: Arc<Plan>,
    report: Report,
    people: BTreeSet<String>,
}

impl Composer {
    /// Takes the next record. `wanted` says whether anything is to be said of a kind at a record: what was said
    /// already is not folded out again.
    ///
    /// # Errors
    /// When the record does not fit those before it.
    pub fn take(
        &mut self,
        record: Record,
        wanted: &dyn Fn(u64, MessageKind) -> bool,
    ) -> Result<Option<Moment>, IllegalTransition> {
        let (envelope, event) = (record.envelope.clone(), about(&record.event));
        for who in [&envelope.actor, &envelope.host] {
            if !self.people.contains(who) {
                self.people.insert(who.clone());
            }
        }
        self.fold.take(record)?;
        let (Some(event), Some(state)) = (event, self.fold.state()) else { return Ok(None) };
        let Some((kind, why)) = say(&event, state) else { return Ok(None) };
        if !wanted(envelope.seq, kind) {
            return Ok(None);
        }
        let plan = Arc::clone(state.plan());
        let report = self.fold.clone().finish();
        Ok(report.map(|report| Moment { kind, envelope, why, plan, report, people: self.people.clone() }))
    }
}

/// The events that something may be said about, without the plan that the first one carries.
fn about(event: &Event) -> Option<Event> {
    match event {
        Event::Opened { .. } => Some(Event::Resumed {}),
        Event::Resumed {} => None,
        Event::Entered { .. } | Event::Halted { .. } | Event::Stopped { .. } | Event::Closed { .. } => {
            Some(event.clone())
        }
        _ => None,
    }
}

/// What there is to say about an event, and why it happened.
fn say(event: &Event, state: &State) -> Option<(MessageKind, String)> {
    let plan = state.plan();
    let forward = matches!(state.direction(), Direction::Forward);
    let plain = |kind| Some((kind, String::new()));
    match event {
        // Stands for the first record.
        Event::Resumed {} if plan.sandbox => plain(MessageKind::Drill),
        Event::Resumed {} => plain(MessageKind::Opened),
        Event::Entered { phase } if forward => match phase {
            Phase::Cutover => plain(MessageKind::Cutover),
            Phase::Overlap => plain(MessageKind::Overlap),
            Phase::Sunset => plain(MessageKind::Sunset),
            // Whatever was to be revoked is when the proof begins.
            Phase::Proof if revokes(plan) => plain(MessageKind::Revoked),
            Phase::Proof
            | Phase::Preflight
            | Phase::Prepare
            | Phase::Distribute
            | Phase::Verify
            | Phase::Revoke => None,
        },
        Event::Halted { by, reason } => Some((MessageKind::Halted, format!("halted by {by}: {reason}"))),
        Event::Stopped { reason } => {
            let kind = match reason {
                Stop::Unanswered { .. } | Stop::Unapproved { .. } => MessageKind::ApprovalWanted,
                Stop::Failed { .. }
                | Stop::Unknown { .. }
                | Stop::Inconclusive { .. }
                | Stop::GateFailed { .. }
                | Stop::Stuck { .. }
                | Stop::Overtaken { .. }
                | Stop::Unread { .. }
                | Stop::LetIn { .. }
                | Stop::FellBack { .. }
                | Stop::Silent { .. } => MessageKind::Stuck,
                // The halt said so itself; the others are as somebody asked for.
                Stop::Halted
                | Stop::Interrupted
                | Stop::Until { .. }
                | Stop::Waiting { .. }
                | Stop::OutsideWindow { .. }
                | Stop::Returned { .. } => return None,
            };
            Some((kind, output::sentence(reason)))
        }
        Event::Closed { end } => match end {
            End::Done => plain(MessageKind::Proved),
            End::RolledBack | End::GateRolledBack => Some((MessageKind::RolledBack, back(state))),
            End::Failed | End::NotProved | End::Abandoned => plain(MessageKind::Closed),
        },
        _ => None,
    }
}

fn revokes(plan: &Plan) -> bool {
    plan.steps.iter().any(|step| matches!(step.action, Action::Revoke { .. }))
}

fn back(state: &State) -> String {
    match state.direction() {
        Direction::Back { why, .. } => why.clone(),
        Direction::Forward => String::new(),
    }
}

/// Why a message to customers is not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Withheld {
    /// It would name something internal.
    #[error("the message would name `{0}`, which is internal")]
    Names(String),
    /// It would show something that looks internal.
    #[error("the message would name {0}")]
    Shows(&'static str),
}

impl Moment {
    /// The record.
    pub fn seq(&self) -> u64 {
        self.envelope.seq
    }

    /// Whether the run is one in the sandbox.
    pub fn is_drill(&self) -> bool {
        self.plan.sandbox
    }

    /// The message to a channel; `None` where its audience has none of this kind.
    ///
    /// # Errors
    /// When it is for customers and would name something internal.
    pub fn message(&self, to: &Configured) -> Result<Option<Message>, Withheld> {
        let audience = to.channel.audience;
        let values = self.values(audience, to.channel.service.as_deref().unwrap_or_default());
        let Some((title, text)) = to.templates.render(audience, self.kind, &values) else { return Ok(None) };
        let language = to.templates.language().to_owned();
        let title = match self.plan.sandbox {
            false => title,
            true if language.starts_with("de") => format!("ÜBUNG: {title}"),
            true => format!("DRILL: {title}"),
        };
        if audience == Audience::Customers {
            for part in [&title, &text] {
                if let Some((what, _)) = templates::internal(part).first() {
                    return Err(Withheld::Shows(what));
                }
                let names = self.names();
                if let Some(name) = templates::named(part, names.iter().map(String::as_str)) {
                    return Err(Withheld::Names(name.to_owned()));
                }
            }
        }
        Ok(Some(Message {
            run: self.envelope.run.clone(),
            seq: self.envelope.seq,
            channel: to.name.clone(),
            kind: self.kind,
            audience,
            drill: self.plan.sandbox,
            severity: severity(self.plan.runbook.severity),
            at: self.envelope.wall,
            opened: self.report.opened,
            title,
            text,
            language,
        }))
    }

    fn values(&self, audience: Audience, service: &str) -> Values {
        let (plan, report) = (&self.plan, &self.report);
        let after = clock(since(self.envelope.wall, report.opened));
        let at = moment(self.envelope.wall);
        let total = report.credentials.len();
        let replaced = report.credentials.iter().filter(|c| c.stores.0 == c.stores.1).count();
        let proved = |c: &&crate::follow::report::Credential| {
            c.milestones.iter().any(|milestone| milestone.name == "proved" && milestone.span.is_some())
        };
        let dead = report.credentials.iter().filter(proved).count();
        let of = |name: &str| report.clocks.iter().find(|clock| clock.name == name);
        let ended = report.end.map_or_else(String::new, |end| output::end_word(end).to_owned());
        let severity = severity_word(plan.runbook.severity).to_owned();
        match audience {
            Audience::Technicians => Values::Technicians(Box::new(Technicians {
                run: report.run.clone(),
                runbook: report.runbook.clone(),
                environment: report.environment.clone(),
                strategy: report.strategy.to_owned(),
                severity,
                drill: plan.sandbox,
                reason: report.people.first().map_or_else(String::new, reason),
                who: format!("{}@{}", self.envelope.actor, self.envelope.host),
                at,
                after,
                credentials: report
                    .credentials
                    .iter()
                    .map(|c| CredentialLine { name: c.name.clone(), state: state_of(&c.name, &c.truth) })
                    .collect(),
                total,
                replaced,
                dead,
                exposure: measured(of("exposure")),
                outage: measured(of("outage")),
                why: self.why.clone(),
                ended,
                next: format!("stanch status {}", report.run),
            })),
            Audience::Management => Values::Management(Management {
                runbook: report.runbook.clone(),
                environment: report.environment.clone(),
                severity,
                drill: plan.sandbox,
                at,
                after,
                total,
                replaced,
                dead,
                exposure: length(of("exposure")),
                outage: length(of("outage")),
                ended,
            }),
            Audience::Customers => Values::Customers(Customers {
                service: service.to_owned(),
                at,
                began: moment(report.opened),
                after,
                interrupted: of("outage").is_some_and(|clock| clock.word != "none"),
            }),
        }
    }

    /// Everything that has a name inside: what the plan and the record call by one.
    fn names(&self) -> BTreeSet<String> {
        let plan = &self.plan;
        let mut names = self.people.clone();
        names.extend([self.envelope.run.clone(), plan.runbook.name.clone(), plan.environment.clone()]);
        names.extend(plan.runbook.owner.clone());
        if let Ok(runbook) = serde_json::to_value(&plan.runbook) {
            collect(&runbook, false, &mut names);
        }
        for planned in &plan.credentials {
            names.extend(planned.outgoing.iter().map(|outgoing| outgoing.handle.clone()));
            names.extend(planned.stores.iter().map(|store| store.place.clone()));
        }
        names.extend(self.report.credentials.iter().filter_map(|credential| credential.new.clone()));
        names
    }
}

/// The fields of a runbook whose keys are names.
const NAMED: [&str; 5] = ["credentials", "connections", "gates", "environments", "channels"];
/// The fields of a runbook whose values are words of its format, or known to customers.
const WORDS: [&str; 11] = [
    "severity", "strategy", "type", "method", "format", "class", "input", "service", "audience", "language",
    "on",
];

/// The names in a runbook: the keys that a person chose, and every string of one word. Of an address its host is a
/// name as well.
fn collect(value: &serde_json::Value, is_named: bool, names: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::String(text) if !text.contains(char::is_whitespace) => {
            if let Some((_, rest)) = text.split_once("://") {
                let end = rest.find(['/', ':', '?']).unwrap_or(rest.len());
                names.insert(rest[..end].to_owned());
            }
            names.insert(text.clone());
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, false, names)),
        serde_json::Value::Object(fields) => {
            for (key, inner) in fields {
                if is_named {
                    names.insert(key.clone());
                }
                if !WORDS.contains(&key.as_str()) || is_named {
                    collect(inner, NAMED.contains(&key.as_str()) && !is_named, names);
                }
            }
        }
        _ => {}
    }
}

fn reason(opened: &crate::follow::report::Line) -> String {
    opened.words.strip_prefix("opened the run: ").unwrap_or_default().to_owned()
}

/// The state of a credential, without its name in front: templates show that themselves.
fn state_of(name: &str, truth: &str) -> String {
    let state = truth.strip_prefix(name).and_then(|rest| rest.strip_prefix(": "));
    state.unwrap_or(truth).to_owned()
}

fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// A clock's value.
fn length(of: Option<&Clock>) -> String {
    match of.map(|clock| (clock.word, clock.span)) {
        Some((_, Some(span))) => clock(Duration::from_millis(span.ms)),
        Some((word, None)) => word.to_owned(),
        None => String::new(),
    }
}

/// A clock's value, and what it means.
fn measured(of: Option<&Clock>) -> String {
    of.map_or_else(String::new, |clock| format!("{} ({})", length(of), clock.measured))
}

fn severity(of: model::Severity) -> Severity {
    match of {
        model::Severity::Low => Severity::Info,
        model::Severity::Medium => Severity::Warning,
        model::Severity::High => Severity::Error,
        model::Severity::Critical => Severity::Critical,
    }
}

fn severity_word(of: model::Severity) -> &'static str {
    match of {
        model::Severity::Low => "low",
        model::Severity::Medium => "medium",
        model::Severity::High => "high",
        model::Severity::Critical => "critical",
    }
}

#[cfg(test)]
mod tests;
