//! The fold over the records.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::span::{
    Attribute, CLIENT, INTERNAL, LOCAL, Link, Moment, REMOTE, Span, Status, Trace, id, nanoseconds, number,
    text,
};
use crate::domain::TraceParent;
use crate::journal::{Envelope, Record};
use crate::output;
use crate::rotation::{End, Ended, Event, Found, IllegalTransition, Op, State};

/// As many as OpenTelemetry's SDKs keep of a span.
const MOST_EVENTS: usize = 128;

/// Takes records in their order, and makes the trace of them.
#[derive(Debug, Default)]
pub struct Fold {
    state: Option<State>,
    first: Option<Envelope>,
    /// The span that called the run.
    parent: Option<TraceParent>,
    /// Spans that called what took the run up later.
    links: Vec<TraceParent>,
    resumed: bool,
    phase: Option<Open>,
    /// Attempts that have no outcome yet, by step, what was done with it, and which try it is.
    steps: BTreeMap<(String, Op, u32), Open>,
    events: Vec<Moment>,
    dropped: u32,
    done: Vec<Span>,
    end: Option<(End, Timestamp)>,
}

/// A span that has begun.
#[derive(Debug)]
struct Open {
    id: [u8; 8],
    /// The phase that it is in; `None` for what is in the run itself.
    within: Option<[u8; 8]>,
    at: Timestamp,
    name: String,
    kind: u32,
    attributes: Vec<Attribute>,
}

impl Fold {
    /// Takes the next record.
    ///
    /// # Errors
    /// When the record does not fit those before it.
    pub fn take(&mut self, record: Record) -> Result<(), IllegalTransition> {
        let Record { envelope, event, .. } = record;
        let event = match event {
            Event::Opened { plan, .. } => {
                self.state = Some(State::new(Arc::from(plan), envelope.wall));
                self.first = Some(envelope);
                return Ok(());
            }
            event => event,
        };
        let Some(state) = &mut self.state else { return Ok(()) };
        state.apply(&event, envelope.wall)?;
        let words = output::line(&event, state);
        match &event {
            Event::Resumed {} => self.resumed = true,
            Event::Traced { parent } => {
                if let Ok(parent) = parent.parse() {
                    // Only what began the run is what it is a part of.
                    match self.resumed || self.parent.is_some() {
                        true => self.links.push(parent),
                        false => self.parent = Some(parent),
                    }
                }
            }
            Event::Entered { phase } => {
                self.end_phase(envelope.wall);
                let id = self.span_id(envelope.seq);
                self.phase = Some(Open {
                    id,
                    within: None,
                    at: envelope.wall,
                    name: phase.name().to_owned(),
                    kind: INTERNAL,
                    attributes: vec![number("stanch.record", envelope.seq)],
                });
            }
            Event::Intent { step, op, attempt, .. } => self.begin(&envelope, step, *op, *attempt),
            Event::Outcome { step, op, attempt, result, error, .. } => {
                let (word, failed) = match result {
                    Ended::Succeeded => ("succeeded", false),
                    Ended::Rejected => ("rejected", true),
                    Ended::Unknown => ("unknown", true),
                };
                let why = error.as_ref().map(|error| error.message.clone()).unwrap_or_default();
                let status = if failed { Status::error(why) } else { Status::default() };
                let kind = error.as_ref().map(|error| error.kind.to_string());
                let more = kind.map(|kind| text("error.type", kind));
                self.finish_step((step.clone(), *op, *attempt), envelope.wall, word, status, more);
            }
            Event::Settled { step, op, attempt, found, .. } => {
                let word = match found {
                    Found::Applied => Some("applied"),
                    Found::Absent => Some("absent"),
                    Found::Repeatable => Some("repeatable"),
                    Found::Orphans(_) => Some("orphans"),
                    Found::Undecided => None,
                };
                // An attempt of a process that died has no outcome of its own; what was found is its end.
                if let Some(word) = word {
                    let key = (step.clone(), *op, *attempt);
                    self.finish_step(key, envelope.wall, word, Status::default(), None);
                }
            }
            Event::Resolved { step, applied, .. } => {
                let word = if *applied { "applied" } else { "absent" };
                let keys: Vec<_> = self.steps.keys().filter(|(id, ..)| id == step).cloned().collect();
                for key in keys {
                    self.finish_step(key, envelope.wall, word, Status::default(), None);
                }
            }
            Event::Closed { end } => self.end = Some((*end, envelope.wall)),
            _ => {}
        }
        if let Some(words) = words.filter(|_| is_told(&event)) {
            self.tell(&envelope, event.name(), words);
        }
        Ok(())
    }

    fn begin(&mut self, envelope: &Envelope, step: &str, op: Op, attempt: u32) {
        let Some(state) = &self.state else { return };
        let plan = state.plan();
        let Some(planned) = state.step(step).map(|at| &plan.steps[at]) else { return };
        let within = planned.id.split_once('/').map_or(step, |(_, rest)| rest);
        let name = match op {
            Op::Do => within.to_owned(),
            Op::Undo => format!("undo {within}"),
            Op::Discard => format!("clean up {within}"),
        };
        let mut attributes = vec![
            text("stanch.step", step),
            text("stanch.step.description", output::describe_op(plan, planned, op)),
            text("stanch.step.op", op.to_string()),
            number("stanch.step.attempt", attempt.into()),
            number("stanch.record", envelope.seq),
        ];
        if let Some(credential) = planned.action.credential() {
            attributes.push(text("stanch.credential", plan.credentials[credential].name.clone()));
        }
        let open = Open {
            id: self.span_id(envelope.seq),
            within: self.phase.as_ref().map(|phase| phase.id),
            at: envelope.wall,
            name,
            kind: CLIENT,
            attributes,
        };
        self.steps.insert((step.to_owned(), op, attempt), open);
    }

    fn finish_step(
        &mut self,
        key: (String, Op, u32),
        at: Timestamp,
        word: &str,
        status: Status,
        more: Option<Attribute>,
    ) {
        let Some(mut open) = self.steps.remove(&key) else { return };
        open.attributes.push(text("stanch.step.outcome", word));
        open.attributes.extend(more);
        self.end(open, at, status);
    }

    fn end_phase(&mut self, at: Timestamp) {
        if let Some(phase) = self.phase.take() {
            self.end(phase, at, Status::default());
        }
    }

    fn tell(&mut self, envelope: &Envelope, name: &str, words: String) {
        if self.events.len() == MOST_EVENTS {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        let attributes = vec![text("stanch.text", words), number("stanch.record", envelope.seq)];
        let time_unix_nano = nanoseconds(envelope.wall);
        self.events.push(Moment { time_unix_nano, name: name.to_owned(), attributes });
    }

    fn run(&self) -> &str {
        self.first.as_ref().map_or("", |first| &first.run)
    }

    fn span_id(&self, record: u64) -> [u8; 8] {
        id(&["stanch-span", self.run(), &record.to_string()])
    }

    fn end(&mut self, open: Open, at: Timestamp, status: Status) {
        let within = open.within.unwrap_or_else(|| self.span_id(0));
        self.done.push(Span {
            trace_id: String::new(),
            span_id: hex::encode(open.id),
            parent_span_id: Some(hex::encode(within)),
            flags: LOCAL | self.kept(),
            name: open.name,
            kind: open.kind,
            start_time_unix_nano: nanoseconds(open.at),
            // A clock may have been set back between two processes.
            end_time_unix_nano: nanoseconds(at.max(open.at)),
            attributes: open.attributes,
            events: Vec::new(),
            dropped_events_count: 0,
            links: Vec::new(),
            status,
        });
    }

    /// The flags of W3C Trace Context, as whoever began the trace set them: bit 0, whether it is kept.
    fn kept(&self) -> u32 {
        self.parent.map_or(1, |parent| u32::from(parent.flags))
    }

    /// The trace; `None` where there was no first record.
    pub fn finish(mut self) -> Option<Trace> {
        let first = self.first.clone()?;
        if let Some((end, at)) = self.end {
            for (_, mut open) in std::mem::take(&mut self.steps) {
                open.attributes.push(text("stanch.step.outcome", "unknown"));
                self.end(open, at, Status::error("no outcome was recorded".to_owned()));
            }
            self.end_phase(at);
            self.end_run(&first, end, at);
        }
        let trace = self.parent.map_or_else(|| id(&["stanch-trace", &first.run]), |parent| parent.trace);
        let trace = hex::encode(trace);
        for span in &mut self.done {
            span.trace_id.clone_from(&trace);
        }
        let unended = self.steps.len() + usize::from(self.phase.is_some()) + usize::from(self.end.is_none());
        let plan = self.state?;
        let plan = plan.plan();
        Some(Trace {
            run: first.run,
            version: plan.tool.clone(),
            environment: plan.environment.clone(),
            sampled: self.parent.is_none_or(|parent| parent.is_sampled()),
            over: self.end.is_some(),
            unended,
            spans: self.done,
        })
    }

    /// The run itself. It comes last: it ends last.
    fn end_run(&mut self, first: &Envelope, end: End, at: Timestamp) {
        let Some(state) = &self.state else { return };
        let plan = state.plan();
        let attributes = vec![
            text("stanch.run", &first.run),
            text("stanch.runbook", &plan.runbook.name),
            text("stanch.environment", &plan.environment),
            text("stanch.strategy", <&str>::from(plan.strategy)),
            text("stanch.plan", &first.plan),
            text("stanch.end", end.to_string()),
            number("stanch.credentials", plan.credentials.len() as u64),
            text("user.name", &first.actor),
            text("host.name", &first.host),
        ];
        let status = match end {
            End::Done | End::RolledBack => Status::default(),
            End::NotProved | End::GateRolledBack | End::Failed | End::Abandoned => {
                Status::error(output::end_word(end).to_owned())
            }
        };
        let link =
            |link: &TraceParent| Link { trace_id: hex::encode(link.trace), span_id: hex::encode(link.span) };
        let span = Span {
            trace_id: String::new(),
            span_id: hex::encode(self.span_id(0)),
            parent_span_id: self.parent.map(|parent| hex::encode(parent.span)),
            flags: if self.parent.is_some() { REMOTE } else { LOCAL } | self.kept(),
            name: format!("run {}", plan.runbook.name),
            kind: INTERNAL,
            start_time_unix_nano: nanoseconds(first.wall),
            end_time_unix_nano: nanoseconds(at.max(first.wall)),
            attributes,
            events: std::mem::take(&mut self.events),
            dropped_events_count: self.dropped,
            links: self.links.iter().map(link).collect(),
            status,
        };
        self.done.push(span);
    }
}

/// Whether an event is one of the run's own: neither a step nor a phase, and of interest beside them.
fn is_told(event: &Event) -> bool {
    matches!(
        event,
        Event::Resumed {}
            | Event::Settled { .. }
            | Event::Resolved { .. }
            | Event::Judged { .. }
            | Event::Vouched { .. }
            | Event::Turned { .. }
            | Event::Returned { .. }
            | Event::Forward { .. }
            | Event::Deferred {}
            | Event::Reissue { .. }
            | Event::Rewrite { .. }
            | Event::Requested { .. }
            | Event::Approved { .. }
            | Event::BrokeGlass { .. }
            | Event::Halted { .. }
            | Event::HaltCleared { .. }
            | Event::Stopped { .. }
            | Event::Closed { .. }
    )
}
