//! The fold over the records.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::clocks::{Effects, Mark, clocks, milestones, millis, vantages};
use super::{Bar, Checkpoint, Credential, Extent, FORMAT, Failed, Line, Report};
use crate::clock::since;
use crate::journal::{Envelope, Record};
use crate::output;
use crate::plan::Step;
use crate::rotation::{End, Ended, Event, IllegalTransition, Op, Outgoing, State, Truth};

/// Takes records in their order, and makes the report of them.
#[derive(Debug, Clone, Default)]
pub struct Fold {
    /// Only so many records count.
    upto: Option<u64>,
    state: Option<State>,
    first: Option<Envelope>,
    reason: Option<String>,
    read: Option<Extent>,
    effects: Effects,
    /// By which record each step was last begun.
    calls: Effects,
    /// By which record the place of each step of the proof accepted the old credential again.
    let_in: Effects,
    /// What the last try of each step that went wrong said.
    said: BTreeMap<usize, String>,
    phases: Vec<(&'static str, Mark)>,
    people: Vec<Line>,
    gates: Vec<Line>,
    unknowns: Vec<Line>,
    timeline: Vec<Line>,
}

impl Fold {
    /// Takes no more than the first `upto` records, where that is given.
    pub fn new(upto: Option<u64>) -> Self {
        Self { upto, ..Self::default() }
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// When the record does not fit those before it.
    pub fn take(&mut self, record: Record) -> Result<(), IllegalTransition> {
        let Record { envelope, event, .. } = record;
        if self.upto.is_some_and(|upto| envelope.seq >= upto) {
            return Ok(());
        }
        let mark = Mark { record: envelope.seq, at: envelope.wall };
        self.note_extent(&event, mark);
        let event = match event {
            Event::Opened { plan, reason } => {
                self.state = Some(State::new(Arc::from(plan), envelope.wall));
                self.first = Some(envelope.clone());
                let words = reason
                    .as_ref()
                    .map_or_else(|| "opened the run".into(), |r| format!("opened the run: {r}"));
                self.reason = reason;
                let line = self.line(&envelope, words, true);
                self.people.push(line.clone());
                self.timeline.push(line);
                return Ok(());
            }
            event => event,
        };
        let Some(state) = &mut self.state else { return Ok(()) };
        state.apply(&event, envelope.wall)?;
        if let Some(at) = event.step().and_then(|id| state.step(id)) {
            match &event {
                Event::Intent { op: Op::Do, .. } => drop(self.calls.insert(at, mark)),
                Event::LetIn { .. } => drop(self.let_in.insert(at, mark)),
                _ => {}
            }
            if state.is_in_effect(at) {
                self.effects.entry(at).or_insert(mark);
            } else {
                self.effects.remove(&at);
            }
            if let Event::Outcome { error: Some(failure), .. } = &event {
                self.said.insert(at, failure.message.clone());
            }
        }
        let Some(words) = output::line(&event, state) else { return Ok(()) };
        let line = self.line(&envelope, words, decides(&event));
        self.name_identity(&event, &line);
        self.sort_in(&event, &line, mark);
        self.timeline.push(line);
        Ok(())
    }

    fn note_extent(&mut self, event: &Event, mark: Mark) {
        let read = self.read.get_or_insert(Extent { records: 0, last: None, checkpoint: None });
        (read.records, read.last) = (mark.record + 1, Some(mark.at));
        if let Event::Checkpoint { note } = event {
            read.checkpoint = Some(Checkpoint { record: mark.record, note: note.clone() });
        }
    }

    /// Who the run is to a server, as the server says.
    fn name_identity(&mut self, event: &Event, line: &Line) {
        let Event::Outcome { checks, .. } = event else { return };
        for check in checks.iter().filter(|check| check.name == "identity") {
            self.people.push(Line { words: format!("{}: {}", line.words, check.detail), ..line.clone() });
        }
    }

    fn sort_in(&mut self, event: &Event, line: &Line, mark: Mark) {
        match event {
            Event::Entered { phase } => self.phases.push((phase.name(), mark)),
            Event::Judged { .. } | Event::Adopted { .. } | Event::LetIn { .. } => {
                self.gates.push(line.clone())
            }
            Event::Vouched { .. } => {
                self.gates.push(line.clone());
                self.people.push(line.clone());
            }
            Event::Outcome { result: Ended::Unknown, .. } | Event::Settled { .. } => {
                self.unknowns.push(line.clone());
            }
            Event::Resolved { .. } => {
                self.unknowns.push(line.clone());
                self.people.push(line.clone());
            }
            Event::Resumed {}
            | Event::Turned { .. }
            | Event::Forward { .. }
            | Event::Reissue { .. }
            | Event::Rewrite { .. }
            | Event::Requested { .. }
            | Event::Approved { .. }
            | Event::BrokeGlass { .. }
            | Event::WindowOverridden { .. }
            | Event::Identified { .. }
            | Event::Halted { .. }
            | Event::HaltCleared { .. }
            | Event::Drill { .. }
            | Event::Injected { .. }
            | Event::Skipped { .. }
            | Event::Answered { .. }
            | Event::Closed { end: End::Abandoned } => self.people.push(line.clone()),
            _ => {}
        }
    }

    fn line(&self, envelope: &Envelope, words: String, mark: bool) -> Line {
        let opened = self.first.as_ref().map_or(envelope.wall, |first| first.wall);
        Line {
            record: envelope.seq,
            at: envelope.wall,
            after_ms: millis(since(envelope.wall, opened)),
            who: format!("{}@{}", envelope.actor, envelope.host),
            words,
            mark,
        }
    }

    /// What the records so far led to; `None` before the first.
    pub fn state(&self) -> Option<&State> {
        self.state.as_ref()
    }

    /// The report; `None` where there was no first record.
    pub fn finish(self) -> Option<Report> {
        let (state, first, read) = (self.state?, self.first?, self.read?);
        let plan = state.plan();
        let opened = Mark { record: first.seq, at: first.wall };
        let last = read.last.unwrap_or(first.wall);
        let truths = state.truths();
        let credentials = truths.iter().enumerate().map(|(c, truth)| Credential {
            name: truth.credential.clone(),
            truth: output::credential(truth),
            new: truth.handle.clone(),
            old: plan.credentials[c].outgoing.as_ref().map(|outgoing| outgoing.handle.clone()),
            stores: (truth.delivered(), truth.stores),
            attests: plan.credential(c).1.consumers.iter().any(|consumer| consumer.attest.is_some()),
            instances: (truth.adopted, truth.instances),
            milestones: milestones(&state, c, opened, &self.effects),
        });
        let summary =
            summary(&state, &truths, self.reason.as_deref(), self.timeline.first()?, self.timeline.last()?);
        Some(Report {
            format: FORMAT,
            run: first.run.clone(),
            runbook: plan.runbook.name.clone(),
            environment: plan.environment.clone(),
            sandbox: plan.sandbox,
            drill: plan.drill.clone(),
            strategy: plan.strategy.into(),
            plan: first.plan.clone(),
            opened: first.wall,
            end: state.end(),
            unsettled: state.unknown().count(),
            failures: failures(&state, &self.said),
            summary,
            clocks: clocks(&state, opened, &self.effects),
            credentials: credentials.collect(),
            vantages: vantages(&state, opened, &self.effects, &self.calls, &self.let_in),
            phases: bars(&self.phases, opened.at, last),
            took_ms: millis(since(last, first.wall)),
            people: self.people,
            gates: self.gates,
            unknowns: self.unknowns,
            follow_ups: follow_ups(&first.run, &state, &truths),
            unchecked: plan.unchecked.clone(),
            timeline: self.timeline,
            read,
        })
    }
}

/// Whether an event decides what follows.
fn decides(event: &Event) -> bool {
    matches!(
        event,
        Event::Entered { .. }
            | Event::Turned { .. }
            | Event::Deferred {}
            | Event::Halted { .. }
            | Event::Stopped { .. }
            | Event::Closed { .. }
            | Event::Resolved { .. }
            | Event::Approved { .. }
            | Event::BrokeGlass { .. }
            | Event::WindowOverridden { .. }
    )
}

fn failures(state: &State, said: &BTreeMap<usize, String>) -> Vec<Failed> {
    let steps = state.plan().steps.iter().enumerate();
    let failed = |(at, step): (usize, &Step)| {
        let ended = &state.failure(at)?.message;
        let message = match said.get(&at).filter(|said| !ended.contains(*said)) {
            Some(said) => format!("{ended}; the last try: {said}"),
            None => ended.clone(),
        };
        Some(Failed { step: step.id.clone(), message })
    };
    steps.filter_map(failed).collect()
}

fn bars(phases: &[(&'static str, Mark)], opened: Timestamp, last: Timestamp) -> Vec<Bar> {
    let ends = phases.iter().skip(1).map(|(_, mark)| mark.at).chain([last]);
    let bar = |((phase, mark), end): (&(&'static str, Mark), Timestamp)| Bar {
        phase,
        record: mark.record,
        start_ms: millis(since(mark.at, opened)),
        ms: millis(since(end, mark.at)),
    };
    phases.iter().zip(ends).map(bar).collect()
}

fn summary(state: &State, truths: &[Truth], reason: Option<&str>, opened: &Line, last: &Line) -> Vec<Line> {
    let said = |words: String, line: &Line| Line { words, mark: false, ..line.clone() };
    let end = match (state.end(), state.stopped()) {
        (Some(end), _) => format!("The run ended: {}.", output::end_word(end)),
        (None, Some(stop)) => format!("The run is open: {}.", output::sentence(stop)),
        (None, None) => "The run is open.".to_owned(),
    };
    let of = truths.len();
    let dead = truths.iter().filter(|truth| truth.outgoing == Outgoing::Dead).count();
    let stored = truths.iter().filter(|truth| truth.stores > 0).count();
    let moved = truths.iter().filter(|truth| truth.stores > 0 && truth.delivered() == truth.stores).count();
    let unread: usize = truths.iter().map(|truth| truth.written).sum();
    let mut lines =
        vec![said(end, last), said(format!("{dead} of {of} old credentials are proved dead."), last)];
    if stored > 0 {
        lines.push(said(format!("{moved} of {stored} new credentials are current in every store."), last));
    }
    if unread > 0 {
        let text =
            format!("{unread} stores cannot be read: consumers alone show that the new value is there.");
        lines.push(said(text, last));
    }
    if let Some(reason) = reason {
        lines.push(said(format!("Reason given: {reason}"), opened));
    }
    for waived in state.plan().waived() {
        lines.push(said(format!("Waived: {waived}"), opened));
    }
    if let Some(words) = state.hurried() {
        lines.insert(0, said(format!("Cutover did not wait for a deployment window, by {words}."), last));
    }
    if let Some(words) = state.broke_glass() {
        lines.insert(0, said(format!("BREAK-GLASS: the run went on without approvals, by {words}."), last));
    }
    lines
}

fn follow_ups(run: &str, state: &State, truths: &[Truth]) -> Vec<String> {
    let mut open = Vec::new();
    if state.end().is_none() {
        open.push(format!("The run is open. See what to type: stanch status {run}"));
    }
    for step in state.unknown() {
        open.push(format!("The outcome of {} is unknown.", state.plan().steps[step].id));
    }
    if state.end() == Some(End::NotProved) {
        let names = |c: usize| &state.plan().credentials[c].name;
        open.extend(
            state
                .unproved()
                .into_iter()
                .map(|(c, why)| format!("The old {} is not proved dead: {why}", names(c))),
        );
    }
    for truth in truths {
        let open_ends = state.end() == Some(End::Abandoned) || truth.is_displaced() && state.end().is_some();
        if open_ends {
            open.push(output::credential(truth));
        }
        if let (Some(End::Abandoned), Some(handle)) = (state.end(), &truth.handle) {
            open.push(format!("Check at its issuer whether the new {} lives: {handle}", truth.credential));
        }
        if truth.adopted < truth.instances {
            open.push(format!(
                "{} of {} instances of the consumers of {} use the new credential.",
                truth.adopted, truth.instances, truth.credential
            ));
        }
    }
    open
}
