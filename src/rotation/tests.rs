//! Whole runs without an engine: each scenario says how calls end and what people do, and its trace,
//! every decision and what is true after it, is approved as a file.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::clock::since;
use crate::domain::Phase;
use crate::domain::Strategy;
use crate::domain::{Check, CheckVerdict, ErrorKind, Opening, Verdict};
use crate::plan::Action;
use crate::plan::tests::planned;

mod again;
mod approved;
mod kept;
mod told;

/// How a call, or a look, ends.
#[derive(Debug, Clone)]
enum Reply {
    Ok,
    Fail(ErrorKind),
    Unknown,
    /// It may have taken effect, though the server said why not.
    Doubt(ErrorKind),
    Found(Found),
    /// The process dies while it is under way.
    Dies,
    /// A refusal that proves nothing.
    Inconclusive,
    /// It worked, and no fact is told of it.
    Bare,
}

/// One run, its clock, and what has happened in it so far.
struct Run {
    state: State,
    now: Timestamp,
    wishes: Wishes,
    trace: String,
    /// How calls end, where not well: the beginning of the step's id, and then the replies in turn.
    /// The last one stays.
    replies: Vec<(&'static str, Op, Vec<Reply>)>,
    verdicts: Vec<(&'static str, Verdict)>,
    /// What the last picture told beside the steps.
    told: String,
}

/// What a state tells people beside its steps: what they may still do, what lies ahead, and what is proved where.
fn told(state: &State) -> String {
    let second = |at: Timestamp| since(at, state.opened()).as_secs();
    let mut told = format!("{} phases ahead, swapped {}", state.phases_ahead().len(), state.has_swapped());
    for (is, word) in [
        (state.has_changed_anything(), "changed"),
        (state.may_defer(), "may defer"),
        (state.may_hurry(), "may hurry"),
        (state.is_unexposed(), "unexposed"),
    ] {
        told.push_str(if is { ", " } else { ", not " });
        told.push_str(word);
    }
    for (word, may) in
        [("rewrite", State::may_rewrite as fn(&State, usize) -> bool), ("reissue", State::may_reissue)]
    {
        let which: Vec<usize> = (0..state.plan().credentials.len()).filter(|c| may(state, *c)).collect();
        let _ = write!(told, ", may {word} {which:?}");
    }
    let steps = state.plan().steps.iter().enumerate();
    for (at, step) in steps.filter(|(at, _)| state.may_repeat(*at) || state.needs_its_answer(*at)) {
        let _ = write!(told, ", {} of {}", if state.may_repeat(at) { "repeat" } else { "answer" }, step.id);
    }
    for (connection, who) in state.identities() {
        let _ = write!(told, ", {who} to {connection}");
    }
    for (credential, why) in state.unproved() {
        let _ = write!(told, ", {credential} unproved: {why}");
    }
    for at in state.vantages() {
        let moments = [at.accepted, at.refused, at.called].map(|moment| moment.map(second));
        let _ = write!(told, ", at {:?} of {} {moments:?} {}", at.probe, at.credential, at.proved);
    }
    for truth in state.truths().iter().filter(|truth| truth.is_overtaken()) {
        let _ = write!(told, ", {} overtaken", truth.credential);
    }
    told
}

const QUICKSTART: (&str, &str) = ("runbooks/quickstart.yaml", "sandbox");
const PAYMENTS: (&str, &str) = ("runbooks/payments-api-key.yaml", "staging");
const EVERY_KIND: (&str, &str) = ("tests/plans/every-kind.yaml", "test");

impl Run {
    fn of((path, environment): (&str, &str), strategy: Strategy) -> Self {
        let plan = Arc::new(planned(path, environment, strategy));
        Self {
            state: State::new(plan, Timestamp::UNIX_EPOCH),
            now: Timestamp::UNIX_EPOCH,
            wishes: Wishes { capacity: 4, ..Wishes::default() },
            trace: String::new(),
            replies: Vec::new(),
            verdicts: Vec::new(),
            told: String::new(),
        }
    }

    /// A run of which a phase waits for the gate `errors`.
    fn gated(strategy: Strategy, phase: Phase) -> Self {
        let mut plan = planned(QUICKSTART.0, QUICKSTART.1, strategy);
        for waits in plan.phases.iter_mut().filter(|p| p.phase == phase) {
            waits.until = vec!["errors".into()];
        }
        let state = State::new(Arc::new(plan), Timestamp::UNIX_EPOCH);
        Self { state, ..Self::of(QUICKSTART, strategy) }.judging("errors", Verdict::Fail)
    }

    fn overlap() -> Self {
        Self::of(QUICKSTART, Strategy::Overlap)
    }

    fn contain() -> Self {
        Self::of(QUICKSTART, Strategy::Contain)
    }

    /// From now on calls of the steps whose id begins so end like this.
    fn when(mut self, step: &'static str, op: Op, replies: &[Reply]) -> Self {
        self.replies.insert(0, (step, op, replies.to_vec()));
        self
    }

    fn judging(mut self, gate: &'static str, verdict: Verdict) -> Self {
        self.verdicts.insert(0, (gate, verdict));
        self
    }

    fn wishing(mut self, change: impl FnOnce(&mut Wishes)) -> Self {
        change(&mut self.wishes);
        self
    }

    fn say(&mut self, text: &str) {
        let at = since(self.now, Timestamp::UNIX_EPOCH);
        let _ = writeln!(self.trace, "{:>8.1} {text}", at.as_secs_f64());
    }

    /// Something that came from outside.
    fn then(mut self, event: &Event) -> Self {
        self.apply(event);
        self
    }

    fn resume(self) -> Self {
        self.then(&Event::Resumed {})
    }

    fn later(mut self, seconds: i64) -> Self {
        self.now += SignedDuration::from_secs(seconds);
        self
    }

    fn turn(self, to: Option<Phase>) -> Self {
        let from = self.state.undone_first();
        self.then(&Event::Turned { to, why: "asked".into(), by_gate: false, from })
    }

    fn apply(&mut self, event: &Event) {
        let words = match event {
            Event::Intent { step, op, attempt, round } => {
                format!("intent {op:?} {step} try {attempt} round {round}")
            }
            Event::Outcome { step, op, attempt, result, error, .. } => {
                let error = error.as_ref().map(|e| format!(" ({:?})", e.kind)).unwrap_or_default();
                format!("{result:?} {op:?} {step} try {attempt}{error}")
            }
            Event::Settled { step, op, attempt, found, .. } => {
                format!("found {found:?} {op:?} {step} try {attempt}")
            }
            other => format!("{other:?}"),
        };
        match self.state.apply(event, self.now) {
            Ok(()) => self.say(&words),
            Err(error) => self.say(&format!("{words}: refused: {error}")),
        }
        if matches!(
            event,
            Event::Closed { .. }
                | Event::Stopped { .. }
                | Event::Entered { .. }
                | Event::Returned { .. }
                | Event::Resumed {}
                | Event::Turned { .. }
        ) {
            self.picture();
        }
    }

    /// What is true now, as far as anybody who asks the state can see.
    fn picture(&mut self) {
        let state = &self.state;
        let mut text = format!(
            "         | in {:?} since {}",
            state.phase(),
            since(state.entered(), state.opened()).as_secs()
        );
        let _ = write!(text, ", {:?}", state.direction());
        let _ = write!(
            text,
            ", changed {}, past return {}",
            state.has_changed_anything(),
            state.is_past_return()
        );
        let exposed = state.exposed_until().map(|at| since(at, state.opened()).as_secs());
        let _ = writeln!(
            text,
            ", exposed {exposed:?}, halted {:?}, end {:?}, stopped {}",
            state.halted(),
            state.end(),
            state.stopped().is_some()
        );
        let told = told(state);
        if self.told != told {
            let _ = writeln!(text, "         |   tells: {told}");
            self.told = told;
        }
        for (at, step) in state.plan().steps.iter().enumerate() {
            let status = state.status(at);
            // What is yet to come, or is over, says nothing.
            let plain = matches!(status, Status::Pending { attempt: 1, not_before: None } | Status::Done);
            if !plain || state.round(at) > 0 {
                let round = state.round(at);
                let failure = state.failure(at).map(|f| f.message.clone()).unwrap_or_default();
                let _ = writeln!(text, "         |   {} {} round {round} {failure}", step.id, status.word());
            }
        }
        let unknown: Vec<&str> = state.unknown().map(|at| state.plan().steps[at].id.as_str()).collect();
        if !unknown.is_empty() {
            let _ = writeln!(text, "         |   unknown: {unknown:?}");
        }
        for truth in state.truths() {
            let _ = writeln!(
                text,
                "         |   {}: incoming {:?} {:?}, current in {} of {}, used by {} of {}, outgoing {:?}",
                truth.credential,
                truth.incoming,
                truth.handle,
                truth.current,
                truth.stores,
                truth.adopted,
                truth.instances,
                truth.outgoing,
            );
        }
        self.trace.push_str(&text);
    }

    fn reply(&mut self, step: &str, op: Op) -> Reply {
        let known = self.replies.iter_mut().find(|(start, o, _)| step.starts_with(start) && *o == op);
        match known {
            Some((_, _, replies)) if replies.len() > 1 => replies.remove(0),
            Some((_, _, replies)) => replies[0].clone(),
            None => Reply::Ok,
        }
    }

    /// Goes on until the process would end.
    fn go(mut self) -> Self {
        for _ in 0..400 {
            let decision = self.state.decide(self.now, &self.wishes);
            for task in &decision.tasks {
                if let Task::Perform { step, op, attempt } = *task {
                    let (id, round) = (self.state.plan().steps[step].id.clone(), self.state.round(step));
                    self.apply(&Event::Intent { step: id, op, attempt, round });
                }
            }
            for task in &decision.tasks {
                if !self.end(task) {
                    self.say("dies");
                    return self;
                }
            }
            self.now += SignedDuration::from_millis(100 * i64::try_from(decision.tasks.len()).expect("few"));
            match decision.next {
                Next::Over => {
                    self.say("over");
                    return self;
                }
                Next::InFlight => assert!(!decision.tasks.is_empty(), "nothing is in flight\n{}", self.trace),
                Next::Record(event) => {
                    self.apply(&event);
                    if matches!(event, Event::Stopped { .. } | Event::Closed { .. }) {
                        return self;
                    }
                }
                Next::Sleep(at) => {
                    self.say(&format!("sleeps until {:.1}", since(at, Timestamp::UNIX_EPOCH).as_secs_f64()));
                    self.now = at;
                }
                Next::Wait(at) => {
                    self.say(&format!("waits until {:.1}", since(at, Timestamp::UNIX_EPOCH).as_secs_f64()));
                    if !self.judge() {
                        self.now = at;
                    }
                }
            }
        }
        self.say("goes on and on");
        self
    }

    /// Asks the gates that were not asked yet. Returns whether there were any.
    fn judge(&mut self) -> bool {
        let phase = self.state.phase().and_then(|p| self.state.plan().phase(p));
        let gates: Vec<String> = phase.map(|p| p.until.clone()).unwrap_or_default();
        let new: Vec<&String> = gates.iter().filter(|g| !self.state.judged().contains_key(*g)).collect();
        for gate in &new {
            let verdict =
                self.verdicts.iter().find(|(name, _)| name == gate).map_or(Verdict::Pass, |(_, v)| *v);
            if *gate == "adopted" {
                let (credential, consumer) = ("demo-key".to_owned(), "web".to_owned());
                self.apply(&Event::Adopted { credential, consumer, instances: 1, of: 2 });
            }
            self.apply(&Event::Judged { gate: (*gate).clone(), verdict, detail: "asked".into() });
        }
        !new.is_empty()
    }

    /// Ends a call or a look. False when the process dies in the middle of it.
    fn end(&mut self, task: &Task) -> bool {
        let (Task::Perform { step: at, op, attempt } | Task::Observe { step: at, op, attempt }) = *task;
        let step = self.state.plan().steps[at].id.clone();
        let looks = matches!(task, Task::Observe { .. });
        let reply = match self.reply(&step, op) {
            Reply::Found(_) if !looks => Reply::Unknown,
            Reply::Ok | Reply::Unknown | Reply::Doubt(_) | Reply::Inconclusive | Reply::Bare if looks => {
                Reply::Found(Found::Applied)
            }
            reply => reply,
        };
        let mut facts = Facts::new();
        match self.state.plan().steps[at].action {
            Action::Issue { .. } if op == Op::Do => {
                drop(facts.insert("handle".into(), format!("h{attempt}")))
            }
            Action::Baseline { .. } => {
                facts.insert(super::BEFORE.into(), "accepted".into());
                facts.insert(super::ACCEPTED_AT.into(), self.now.to_string());
            }
            Action::Reject { .. } => {
                facts.insert(super::PROVED.into(), "yes".into());
                facts.insert(super::REFUSED_AT.into(), self.now.to_string());
            }
            _ => {}
        }
        if let Reply::Inconclusive = reply {
            facts.clear();
            facts.insert(super::PROVED.into(), "no".into());
            facts.insert(super::WHY.into(), "it refuses everybody".into());
        }
        if let Reply::Bare = reply {
            facts.clear();
        }
        let (result, kind) = match reply {
            Reply::Dies => return false,
            Reply::Found(found) => {
                let facts = if found == Found::Applied { facts } else { Facts::new() };
                self.apply(&Event::Settled { step, op, attempt, found, facts, detail: String::new() });
                return true;
            }
            Reply::Ok | Reply::Inconclusive | Reply::Bare => (Ended::Succeeded, None),
            Reply::Unknown => (Ended::Unknown, Some(ErrorKind::NoAnswer)),
            Reply::Doubt(kind) => (Ended::Unknown, Some(kind)),
            Reply::Fail(kind) => (Ended::Rejected, Some(kind)),
        };
        if result != Ended::Succeeded {
            facts.clear();
        }
        let error = kind.map(|kind| Failure {
            kind,
            message: format!("{kind:?}"),
            hint: None,
            request_id: None,
            retry_after_ms: None,
        });
        // A server says who the run is to it, beside other things.
        let check = |name: &str, detail: &str| Check {
            name: name.into(),
            verdict: CheckVerdict::Pass,
            detail: detail.into(),
            hint: None,
            kind: None,
            retry_after: None,
        };
        let checks = match self.state.plan().steps[at].action {
            Action::Connection { .. } => vec![check("clock", "it is right"), check("identity", "a tester")],
            _ => Vec::new(),
        };
        self.apply(&Event::Outcome { step, op, attempt, result, facts, checks, error, latency_ms: 1 });
        true
    }
}

/// Every scenario, by the name of its trace.
fn scenarios() -> Vec<(&'static str, Run)> {
    use Op::{Discard, Do, Undo};
    use Reply::{Dies, Fail, Found as Look, Inconclusive, Ok, Unknown};
    let orphans = || Look(Found::Orphans(vec!["lost".into()]));
    let until = |phase| move |w: &mut Wishes| w.until = Some(phase);
    let halt = Event::Halted { by: "somebody".into(), reason: "why".into() };
    let clear = Event::HaltCleared { by: "somebody".into() };
    let resolved = |step: &str, applied| Event::Resolved {
        step: step.into(),
        applied,
        evidence: "seen".into(),
        facts: Default::default(),
    };
    let forget = |w: &mut Wishes| w.until = None;
    vec![
        ("done-overlap", Run::overlap().go()),
        ("done-contain", Run::contain().go()),
        ("done-every-kind", Run::of(EVERY_KIND, Strategy::Overlap).go()),
        ("back-all-the-way", Run::overlap().wishing(until(Phase::Overlap)).go().turn(None).go()),
        (
            "back-every-kind",
            Run::of(EVERY_KIND, Strategy::Overlap).wishing(until(Phase::Cutover)).go().turn(None).go(),
        ),
        (
            "back-to-a-phase-and-on",
            Run::overlap()
                .wishing(until(Phase::Sunset))
                .go()
                .turn(Some(Phase::Distribute))
                .go()
                .resume()
                .wishing(forget)
                .go(),
        ),
        (
            "back-is-barred-past-return",
            Run::overlap().wishing(until(Phase::Revoke)).go().turn(None).turn(Some(Phase::Verify)).go(),
        ),
        (
            "back-to-what-is-not-behind",
            Run::overlap()
                .wishing(until(Phase::Verify))
                .go()
                .turn(Some(Phase::Verify))
                .turn(Some(Phase::Cutover))
                .turn(Some(Phase::Preflight))
                .go(),
        ),
        ("gate-fails", Run::overlap().judging("errors", Verdict::Fail).go()),
        (
            "gate-fails-contain",
            Run::gated(Strategy::Contain, Phase::Cutover).go().resume().judging("errors", Verdict::Pass).go(),
        ),
        ("gate-fails-early", Run::gated(Strategy::Overlap, Phase::Verify).go()),
        (
            "gate-fails-past-return",
            Run::gated(Strategy::Overlap, Phase::Revoke)
                .judging("errors", Verdict::Pass)
                .wishing(until(Phase::Revoke))
                .go()
                .resume()
                .judging("errors", Verdict::Fail)
                .wishing(forget)
                .go(),
        ),
        (
            "gate-does-not-pass",
            Run::overlap()
                .judging("adopted", Verdict::Inconclusive)
                .go()
                .later(10)
                .resume()
                .judging("adopted", Verdict::Pass)
                .go(),
        ),
        (
            "gate-is-waited-for",
            Run::overlap().wishing(|w| w.no_wait = true).go().resume().judging("errors", Verdict::Error).go(),
        ),
        (
            "incoming-is-too-wide",
            Run::overlap().when("prepare/demo-key/inspect", Do, &[Fail(ErrorKind::Declined)]).go(),
        ),
        (
            "incoming-is-refused-contain",
            Run::contain().when("verify/demo-key/accept/issuer", Do, &[Fail(ErrorKind::Refused)]).go(),
        ),
        (
            "incoming-is-refused-late",
            Run::overlap().when("verify/demo-key/accept", Do, &[Fail(ErrorKind::Denied)]).go().resume().go(),
        ),
        ("outgoing-lives", Run::overlap().when("proof", Do, &[Fail(ErrorKind::Declined)]).go()),
        (
            "fails-before-anything",
            Run::overlap().when("preflight/connection", Do, &[Fail(ErrorKind::Denied)]).go(),
        ),
        (
            "unanswered",
            Run::of(PAYMENTS, Strategy::Overlap)
                .when("cutover/own/tell-support", Do, &[Fail(ErrorKind::Unanswered)])
                .go(),
        ),
        (
            "passing-failures",
            Run::overlap()
                .when(
                    "distribute",
                    Do,
                    &[
                        Fail(ErrorKind::Throttled),
                        Fail(ErrorKind::NotReady),
                        Fail(ErrorKind::Unreachable),
                        Fail(ErrorKind::NoAnswer),
                        Ok,
                    ],
                )
                .go(),
        ),
        (
            // A response that came and cannot be used: what it left is revoked, and nothing is asked for again.
            "unusable-response",
            Run::overlap()
                .when("prepare/demo-key/issue", Do, &[Reply::Doubt(ErrorKind::Invalid), orphans()])
                .when("prepare/demo-key/issue", Discard, &[Reply::Doubt(ErrorKind::Denied), Ok])
                .go(),
        ),
        (
            // A refusal for the number of requests is no attempt: far more of them than the runbook has attempts.
            "refused-for-their-number",
            Run::overlap()
                .when(
                    "distribute",
                    Do,
                    &[vec![Fail(ErrorKind::Throttled); 12], vec![Fail(ErrorKind::NotReady), Ok]].concat(),
                )
                .wishing(until(Phase::Distribute))
                .go(),
        ),
        (
            "passing-failures-too-many",
            Run::overlap()
                .when("distribute", Do, &[Fail(ErrorKind::NotReady)])
                .go()
                .resume()
                .when("distribute", Do, &[Ok])
                .wishing(until(Phase::Distribute))
                .go(),
        ),
        (
            "cancelled",
            Run::overlap()
                .when("verify", Do, &[Fail(ErrorKind::Cancelled), Ok])
                .wishing(until(Phase::Verify))
                .go(),
        ),
        (
            "conflict-on-a-second-try",
            Run::overlap()
                .when(
                    "cutover/demo-key/promote/sandbox-2",
                    Do,
                    &[Fail(ErrorKind::Throttled), Fail(ErrorKind::Conflict), Look(Found::Applied), Ok],
                )
                .wishing(until(Phase::Cutover))
                .go(),
        ),
        (
            // Somebody else's write: it is met once, looked into once, and not tried again.
            "conflict-on-the-first",
            Run::overlap()
                .when(
                    "cutover/demo-key/promote/sandbox-2",
                    Do,
                    &[Fail(ErrorKind::Conflict), Look(Found::Absent), Ok],
                )
                .go(),
        ),
        (
            // Our own, when something on the way repeats requests.
            "conflict-with-itself",
            Run::overlap()
                .when(
                    "cutover/demo-key/promote/sandbox-2",
                    Do,
                    &[Fail(ErrorKind::Conflict), Look(Found::Applied), Ok],
                )
                .wishing(until(Phase::Cutover))
                .go(),
        ),
        (
            "lost-and-applied",
            Run::overlap()
                .when("distribute", Do, &[Unknown, Look(Found::Applied)])
                .wishing(until(Phase::Distribute))
                .go(),
        ),
        (
            "lost-and-absent",
            Run::overlap()
                .when("distribute", Do, &[Unknown, Look(Found::Absent), Ok])
                .wishing(until(Phase::Distribute))
                .go(),
        ),
        ("lost-and-absent-for-good", Run::overlap().when("distribute", Do, &[Look(Found::Absent)]).go()),
        (
            "lost-and-undecided",
            Run::overlap()
                .when("distribute", Do, &[Look(Found::Undecided)])
                .go()
                .resume()
                .when("distribute", Do, &[Look(Found::Applied)])
                .wishing(until(Phase::Distribute))
                .go(),
        ),
        (
            "lost-and-resolved",
            Run::overlap()
                .when("distribute", Do, &[Look(Found::Undecided)])
                .go()
                .then(&resolved("distribute/demo-key/stage/sandbox", true))
                .then(&resolved("distribute/demo-key/stage/sandbox", true))
                .resume()
                .wishing(until(Phase::Distribute))
                .go(),
        ),
        (
            "lost-and-repeatable",
            Run::overlap()
                .when(
                    "cutover/demo-key/reload/web",
                    Do,
                    &[Unknown, Look(Found::Repeatable), Fail(ErrorKind::Denied)],
                )
                .go()
                .turn(None)
                .go(),
        ),
        (
            "perhaps-done-is-taken-back",
            Run::of(EVERY_KIND, Strategy::Overlap)
                .when("cutover/own/drain", Do, &[Unknown, Look(Found::Repeatable), Fail(ErrorKind::Denied)])
                .go()
                .turn(None)
                .go(),
        ),
        (
            "surely-not-done-is-not",
            Run::of(EVERY_KIND, Strategy::Overlap)
                .when("cutover/own/drain", Do, &[Unknown, Look(Found::Absent), Fail(ErrorKind::Denied)])
                .go()
                .turn(None)
                .go(),
        ),
        (
            "orphaned",
            Run::overlap()
                .when("prepare/demo-key/issue", Do, &[Unknown, orphans(), Ok])
                .wishing(until(Phase::Prepare))
                .go(),
        ),
        ("orphaned-for-good", Run::overlap().when("prepare/demo-key/issue", Do, &[orphans()]).go()),
        (
            "orphan-does-not-die",
            Run::overlap()
                .when("prepare/demo-key/issue", Do, &[Unknown, orphans(), Ok])
                .when(
                    "prepare/demo-key/issue",
                    Discard,
                    &[Fail(ErrorKind::Throttled), Unknown, Fail(ErrorKind::Denied)],
                )
                .go()
                .resume()
                .when("prepare/demo-key/issue", Discard, &[Unknown])
                .go()
                .turn(None)
                .when("prepare/demo-key/issue", Discard, &[Ok])
                .go(),
        ),
        (
            "orphaned-and-back",
            Run::overlap()
                .when("prepare/demo-key/issue", Do, &[Unknown, orphans(), Ok])
                .when("prepare/demo-key/issue", Discard, &[Dies])
                .go()
                .turn(None)
                .resume()
                .turn(None)
                .when("prepare/demo-key/issue", Discard, &[Ok])
                .go(),
        ),
        (
            "orphan-does-not-die-on-the-way-back",
            Run::overlap()
                .when("prepare/demo-key/issue", Do, &[Unknown, orphans(), Ok])
                .when("prepare/demo-key/issue", Discard, &[Dies])
                .go()
                .resume()
                .turn(None)
                .when("prepare/demo-key/issue", Discard, &[Fail(ErrorKind::Denied)])
                .go()
                .resume()
                .when("prepare/demo-key/issue", Discard, &[Ok])
                .go(),
        ),
        (
            "opaque",
            Run::of(EVERY_KIND, Strategy::Overlap)
                .when("prepare/api-key/issue", Do, &[Unknown])
                .go()
                .then(&resolved("prepare/api-key/issue", false))
                .resume()
                .when("prepare/api-key/issue", Do, &[Ok])
                .wishing(until(Phase::Prepare))
                .go(),
        ),
        (
            "opaque-and-back",
            Run::of(EVERY_KIND, Strategy::Overlap)
                .when("prepare/api-key/issue", Do, &[Unknown])
                .go()
                .turn(None)
                .go()
                .then(&resolved("prepare/api-key/issue", true))
                .resume()
                .go(),
        ),
        (
            "dies-in-a-look",
            Run::overlap()
                .when("verify", Do, &[Dies])
                .go()
                .resume()
                .when("verify", Do, &[Ok])
                .wishing(until(Phase::Verify))
                .go(),
        ),
        (
            "dies-in-a-call",
            Run::overlap()
                .when("cutover/demo-key/promote/sandbox", Do, &[Dies])
                .go()
                .resume()
                .when("cutover/demo-key/promote/sandbox", Do, &[Look(Found::Absent), Ok])
                .wishing(until(Phase::Cutover))
                .go(),
        ),
        (
            "dies-and-turns",
            Run::overlap()
                .when("cutover/demo-key/promote/sandbox", Do, &[Dies])
                .go()
                .resume()
                .turn(None)
                .when("cutover/demo-key/promote/sandbox", Do, &[Look(Found::Absent)])
                .go(),
        ),
        (
            "dies-and-turns-though-it-was-done",
            Run::overlap()
                .when("cutover/demo-key/promote/sandbox", Do, &[Dies])
                .go()
                .resume()
                .turn(None)
                .when("cutover/demo-key/promote/sandbox", Do, &[Look(Found::Applied)])
                .go(),
        ),
        (
            "dies-in-a-reload-and-turns",
            Run::overlap()
                .when("cutover/demo-key/reload/web", Do, &[Dies])
                .go()
                .resume()
                .turn(None)
                .when("cutover/demo-key/reload/web", Do, &[Look(Found::Repeatable)])
                .go(),
        ),
        (
            "dies-in-a-reload-on-the-way-back",
            Run::overlap()
                .wishing(until(Phase::Overlap))
                .go()
                .turn(None)
                .when("cutover/demo-key/reload/web", Undo, &[Dies])
                .go()
                .resume()
                .when("cutover/demo-key/reload/web", Undo, &[Look(Found::Repeatable), Ok])
                .go(),
        ),
        (
            "dies-in-revoke",
            Run::overlap()
                .when("revoke", Do, &[Dies])
                .go()
                .resume()
                .turn(None)
                .when("revoke", Do, &[Look(Found::Absent), Fail(ErrorKind::Denied)])
                .go()
                .turn(None)
                .go(),
        ),
        (
            "dies-in-an-undo",
            Run::overlap()
                .wishing(until(Phase::Overlap))
                .go()
                .turn(None)
                .when("cutover/demo-key/promote/sandbox-2", Undo, &[Dies])
                .go()
                .resume()
                .when("cutover/demo-key/promote/sandbox-2", Undo, &[Look(Found::Absent), Ok])
                .go(),
        ),
        (
            "stuck",
            Run::overlap()
                .wishing(until(Phase::Overlap))
                .go()
                .turn(None)
                .when("cutover/demo-key/reload/worker", Undo, &[Fail(ErrorKind::Denied)])
                .go()
                .resume()
                .go()
                .resume()
                .when("cutover/demo-key/reload/worker", Undo, &[Ok])
                .go(),
        ),
        (
            "fails-and-goes-back",
            Run::overlap()
                .when("cutover/demo-key/promote/sandbox-2", Do, &[Fail(ErrorKind::Denied)])
                .go()
                .turn(None)
                .go(),
        ),
        (
            "fails-and-resumes-back",
            Run::overlap()
                .when("verify/demo-key/accept/issuer", Do, &[Fail(ErrorKind::Invalid)])
                .go()
                .turn(Some(Phase::Preflight))
                .resume()
                .go(),
        ),
        (
            "halted",
            Run::overlap()
                .wishing(until(Phase::Prepare))
                .go()
                .resume()
                .then(&halt)
                .go()
                .then(&clear)
                .resume()
                .wishing(until(Phase::Distribute))
                .go(),
        ),
        (
            "halted-intent",
            Run::overlap().then(&halt).then(&Event::Intent {
                step: "preflight/connection/world".into(),
                op: Do,
                attempt: 1,
                round: 0,
            }),
        ),
        (
            "interrupted",
            Run::overlap()
                .wishing(|w| w.interrupted = true)
                .go()
                .resume()
                .wishing(|w| w.interrupted = false)
                .wishing(until(Phase::Preflight))
                .go()
                .resume()
                .wishing(until(Phase::Distribute))
                .go(),
        ),
        (
            "killed-first-when-the-new-one-is-late",
            Run::contain()
                .when(
                    "prepare/demo-key/issue",
                    Do,
                    &[Fail(ErrorKind::Throttled), Fail(ErrorKind::Throttled), Fail(ErrorKind::Throttled), Ok],
                )
                .go(),
        ),
        (
            "forward-again",
            Run::overlap()
                .wishing(until(Phase::Overlap))
                .go()
                .when("cutover/demo-key/promote", Undo, &[Fail(ErrorKind::Declined)])
                .turn(None)
                .go()
                .resume()
                .then(&Event::Forward { why: "the old one is dead".into() })
                .wishing(forget)
                .go(),
        ),
        (
            "issued-anew",
            Run::contain()
                .when("verify/demo-key/accept/issuer", Do, &[Fail(ErrorKind::Refused), Ok])
                .go()
                .resume()
                .then(&Event::Reissue { credential: "demo-key".into(), takes_back: true })
                .go(),
        ),
        (
            "written-again",
            Run::contain()
                .when("cutover/demo-key/promote/sandbox-2", Do, &[Fail(ErrorKind::Denied), Ok])
                .go()
                .resume()
                .then(&Event::Rewrite { credential: "demo-key".into(), takes_back: true })
                .go(),
        ),
        (
            "written-again-after-the-swap",
            Run::overlap()
                .wishing(until(Phase::Sunset))
                .go()
                .resume()
                .then(&Event::Rewrite { credential: "demo-key".into(), takes_back: true })
                .wishing(forget)
                .go(),
        ),
        (
            "written-again-too-early",
            Run::overlap()
                .wishing(until(Phase::Verify))
                .go()
                .then(&Event::Rewrite { credential: "demo-key".into(), takes_back: true }),
        ),
        (
            "issued-anew-too-late",
            Run::overlap()
                .wishing(until(Phase::Cutover))
                .go()
                .then(&Event::Reissue { credential: "demo-key".into(), takes_back: true }),
        ),
        (
            "overruled",
            Run::overlap()
                .when("cutover/demo-key/reload/web", Do, &[Fail(ErrorKind::Denied)])
                .go()
                .then(&resolved("cutover/demo-key/reload/web", true))
                .resume()
                .go(),
        ),
        (
            "refused-anew-after-a-pause",
            Run::overlap()
                .when("proof/demo-key/reject/probe-1", Do, &[Fail(ErrorKind::Denied), Ok])
                .go()
                .resume()
                .go(),
        ),
        ("not-proved", Run::overlap().when("proof/demo-key/reject", Do, &[Inconclusive]).go()),
        (
            "abandoned",
            Run::overlap()
                .when("cutover/demo-key/promote", Do, &[Fail(ErrorKind::Denied)])
                .go()
                .then(&Event::Closed { end: End::Abandoned })
                .resume(),
        ),
        ("one-at-a-time", Run::overlap().wishing(|w| w.capacity = 1).wishing(until(Phase::Cutover)).go()),
    ]
}

/// Whoever changes the state machine reads here which decisions change with it.
/// `STANCH_APPROVE=1 cargo test --lib` writes the files anew.
#[test]
fn runs_go_as_they_were_approved() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    let mut differing = Vec::new();
    for (name, run) in scenarios() {
        let file = folder.join(format!("{name}.txt"));
        if std::env::var_os("STANCH_APPROVE").is_some() {
            #[expect(clippy::disallowed_methods, reason = "approved by hand")]
            std::fs::write(&file, &run.trace).expect("write");
        }
        if std::fs::read_to_string(&file).unwrap_or_default() != run.trace {
            differing.push(name);
        }
    }
    assert_eq!(
        differing,
        Vec::<&str>::new(),
        "STANCH_APPROVE=1 writes them anew: then look at the difference"
    );
}

/// The scenarios ended as their names say: an approved trace may be wrong, this may not.
#[test]
fn runs_end_as_they_should() {
    let ends: std::collections::BTreeMap<&str, Run> = scenarios().into_iter().collect();
    let end = |name: &str| ends[name].state.end();
    for name in
        ["done-overlap", "done-contain", "done-every-kind", "back-to-a-phase-and-on", "gate-does-not-pass"]
    {
        // Nothing uses the shared value in the end, so nothing proves it dead.
        let wanted = if name == "done-every-kind" { End::NotProved } else { End::Done };
        assert_eq!(end(name), Some(wanted), "{name}");
        for truth in ends[name].state.truths() {
            assert_eq!(truth.incoming, Incoming::Issued, "{name}");
            assert_eq!(truth.delivered(), truth.stores, "{name}");
        }
    }
    for name in ["killed-first-when-the-new-one-is-late", "forward-again", "issued-anew", "overruled"] {
        assert_eq!(end(name), Some(End::Done), "{name}");
        let truths = ends[name].state.truths();
        assert!(truths.iter().all(|t| t.outgoing == Outgoing::Dead && t.delivered() == t.stores), "{name}");
    }
    let before = |name: &str, first: &str, second: &str| {
        let trace = &ends[name].trace;
        let at = |text: &str| trace.find(text).unwrap_or_else(|| panic!("{name}: no {text}"));
        assert!(at(first) < at(second), "{name}: {second} came before {first}");
    };
    before(
        "killed-first-when-the-new-one-is-late",
        "Succeeded Do sunset",
        "Succeeded Do prepare/demo-key/issue",
    );
    let late = &ends["killed-first-when-the-new-one-is-late"].trace;
    assert!(
        late.contains("     2.6 Deferred"),
        "two seconds after it began, whatever the next try waits for"
    );
    // Consumers may have been told to go back: they are waited for once more.
    before("forward-again", "Forward {", "Succeeded Do sunset");
    let overlaps = ends["forward-again"].trace.matches("Entered { phase: Overlap }").count();
    assert_eq!(overlaps, 2, "{}", ends["forward-again"].trace);
    before("issued-anew", "Succeeded Discard prepare/demo-key/issue", "Succeeded Do cutover");
    for again in ["written-again", "written-again-after-the-swap"] {
        let (_, after) = ends[again].trace.split_once("Rewrite {").expect("it was asked for");
        assert_eq!(after.matches("Succeeded Do cutover/demo-key/promote").count(), 2, "{after}");
        assert_eq!(end(again), Some(End::Done));
        let state = &ends[again].state;
        assert!((0..state.plan().steps.len()).all(|step| !state.overwrites(step)), "it was for this once");
        // Who consumes it is waited for once more.
        let reloads = ends[again].trace.matches("Succeeded Do cutover/demo-key/reload/web").count();
        assert_eq!(reloads, if again == "written-again" { 1 } else { 2 }, "{}", ends[again].trace);
    }
    // A refusal counts for the session that saw it.
    let anew = &ends["refused-anew-after-a-pause"].trace;
    assert_eq!(anew.matches("Succeeded Do proof/demo-key/reject/issuer").count(), 2, "{anew}");
    assert!(ends["written-again-too-early"].trace.trim_end().contains("refused: rewrite cannot follow"));
    assert!(ends["issued-anew-too-late"].trace.trim_end().contains("refused: reissue cannot follow"));
    assert_eq!(end("not-proved"), Some(End::NotProved));
    assert!(ends["not-proved"].state.truths().iter().all(|t| t.outgoing == Outgoing::Revoked));
    assert_eq!(ends["not-proved"].state.exposed_until(), None);
    assert_eq!(end("abandoned"), Some(End::Abandoned));
    for truth in ends["done-overlap"].state.truths().iter().chain(&ends["done-contain"].state.truths()) {
        assert_eq!(truth.outgoing, Outgoing::Dead);
    }
    for name in [
        "back-all-the-way",
        "back-every-kind",
        "dies-and-turns",
        "stuck",
        "fails-and-goes-back",
        "opaque-and-back",
        "perhaps-done-is-taken-back",
    ] {
        assert_eq!(end(name), Some(End::RolledBack), "{name}");
        for truth in ends[name].state.truths() {
            assert_ne!(truth.incoming, Incoming::Issued, "{name}: {truth:?}");
            assert_eq!((truth.current, truth.outgoing), (0, Outgoing::Accepted), "{name}: {truth:?}");
        }
    }
    for name in ["gate-fails", "incoming-is-too-wide"] {
        assert_eq!(end(name), Some(End::GateRolledBack), "{name}");
    }
    assert_eq!(end("fails-before-anything"), Some(End::Failed));
    for name in [
        "outgoing-lives",
        "gate-fails-past-return",
        "incoming-is-refused-contain",
        "orphaned-for-good",
        "conflict-on-the-first",
        "unanswered",
        "lost-and-absent-for-good",
    ] {
        assert_eq!(end(name), None, "{name}");
        assert!(ends[name].state.stopped().is_some(), "{name}");
    }
    assert!(ends["back-is-barred-past-return"].state.is_past_return());
}

/// A gate's time is over at its very end, and not before.
#[test]
fn waits_end_on_time() {
    let start = || {
        let run = Run::overlap().wishing(|w| w.until = Some(Phase::Cutover)).go().resume();
        let mut run = run.wishing(|w| w.until = None);
        run.apply(&Event::Entered { phase: Phase::Overlap });
        run
    };
    let at = |run: &Run, seconds: i64, millis: i64| {
        let moment =
            run.state.entered() + SignedDuration::from_secs(seconds) + SignedDuration::from_millis(millis);
        run.state.decide(moment, &run.wishes).next
    };
    let pass = |run: Run| {
        let verdict =
            |gate: &str, verdict| Event::Judged { gate: gate.into(), verdict, detail: String::new() };
        run.then(&verdict("adopted", Verdict::Pass)).then(&verdict("errors", Verdict::Pass))
    };
    let waiting = start();
    let entered = waiting.state.entered();
    let third = entered + SignedDuration::from_secs(3);
    let late = entered + SignedDuration::from_secs(3603);
    assert!(matches!(at(&waiting, 0, 0), Next::Wait(until) if until == third));
    assert!(matches!(at(&waiting, 2, 999), Next::Wait(until) if until == third));
    assert!(matches!(at(&waiting, 3, 0), Next::Wait(until) if until == late), "now for its gates");
    assert!(matches!(at(&waiting, 3602, 999), Next::Wait(_)));
    assert!(matches!(
        at(&waiting, 3603, 0),
        Next::Record(Event::Stopped { reason: Stop::Inconclusive { .. } })
    ));
    let passed = pass(start());
    assert!(matches!(at(&passed, 2, 999), Next::Wait(until) if until == third), "the time counts as well");
    assert!(matches!(at(&passed, 3, 0), Next::Record(Event::Entered { phase: Phase::Sunset })));
    assert!(matches!(at(&passed, 9999, 0), Next::Record(Event::Entered { .. })), "late is not too late");
    // A person's word stands for a gate without a verdict: not for `adopted`, not against a failure, in no other phase.
    let vouch = |gate: &str, phase| Event::Vouched { gate: gate.into(), phase, evidence: String::new() };
    let judged = |gate: &str, verdict| Event::Judged { gate: gate.into(), verdict, detail: String::new() };
    let mut vouched = start().then(&judged("adopted", Verdict::Pass)).then(&vouch("errors", Phase::Overlap));
    assert!(matches!(at(&vouched, 3, 0), Next::Wait(_)), "it is asked first");
    vouched.apply(&judged("errors", Verdict::Error));
    assert!(matches!(at(&vouched, 3, 0), Next::Record(Event::Entered { phase: Phase::Sunset })));
    let (gate, verdict) = ("errors".to_owned(), Verdict::Inconclusive);
    let failing = Event::Judged { gate, verdict, detail: "5 is above 3 (failure 1 of 2)".to_owned() };
    let mut failing = start().then(&failing);
    assert!(failing.state.apply(&vouch("errors", Phase::Overlap), third).is_err(), "it has a verdict");
    vouched.apply(&judged("errors", Verdict::Fail));
    assert!(
        matches!(at(&vouched, 3, 0), Next::Record(Event::Turned { by_gate: true, .. })),
        "it fails after all"
    );
    for refused in
        [vouch("adopted", Phase::Overlap), vouch("other", Phase::Overlap), vouch("errors", Phase::Sunset)]
    {
        assert!(start().state.apply(&refused, third).is_err(), "{refused:?}");
    }
    assert!(vouched.state.apply(&vouch("errors", Phase::Overlap), third).is_err(), "it fails");
    let mut hasty = pass(start()).wishing(|w| w.no_wait = true);
    assert!(
        matches!(at(&hasty, 1, 0), Next::Record(Event::Stopped { reason: Stop::Waiting { resume_at } }) if resume_at == third)
    );
    hasty = start().wishing(|w| w.no_wait = true);
    assert!(matches!(at(&hasty, 1, 0), Next::Wait(_)), "its gates were not asked yet");
}

const CACHED: (&str, &str) = ("runbooks/jwt-signing-key-in-jwks.yaml", "production");

impl Run {
    /// When a session that does not wait says that the run goes on.
    fn resumes_at(&self) -> Timestamp {
        match self.state.stopped() {
            Some(Stop::Waiting { resume_at }) => *resume_at,
            other => panic!("{other:?}\n{}", self.trace),
        }
    }
}

/// Whoever goes by what an issuer said before is waited for, on the way there and back: from the moment at which it is on
/// record what became of the last step, and not from when the phase began.
#[test]
fn nothing_is_used_before_everybody_knows_it() {
    let cache = SignedDuration::from_mins(10);
    let lost = [Reply::Unknown, Reply::Found(Found::Applied)];
    let hasty = |run: Run| run.wishing(|w| w.no_wait = true);
    let run = hasty(Run::of(CACHED, Strategy::Overlap).when("prepare/login-key/issue", Op::Do, &lost)).go();
    let at = run.resumes_at();
    assert!(run.state.moved > run.state.entered(), "a lost reply took its time\n{}", run.trace);
    assert_eq!((run.state.phase(), at), (Some(Phase::Prepare), run.state.moved + cache));
    // A process that comes later waits for the same moment, by the record.
    let again = run.later(60).resume().go();
    assert_eq!((again.state.phase(), again.resumes_at()), (Some(Phase::Prepare), at));
    let state = again.resume();
    let early = state.state.decide(at - SignedDuration::from_millis(1), &state.wishes).next;
    assert!(matches!(early, Next::Record(Event::Stopped { .. })), "{early:?}");
    let next = state.state.decide(at, &state.wishes).next;
    assert!(matches!(next, Next::Record(Event::Entered { phase: Phase::Distribute })), "{next:?}");

    // The old one counts as refused once everybody knows that it is disabled.
    let disabled = || {
        let waits = |w: &mut Wishes| (w.no_wait, w.until) = (false, Some(Phase::Overlap));
        let run = Run::of(CACHED, Strategy::Overlap).wishing(waits).go().resume().wishing(|w| w.until = None);
        hasty(run.when("sunset/login-key/disable", Op::Do, &lost)).go()
    };
    let run = disabled();
    assert!(run.state.moved > run.state.entered(), "{}", run.trace);
    assert_eq!((run.state.phase(), run.resumes_at()), (Some(Phase::Sunset), run.state.moved + cache));
    // On the way back the old one is enabled, and used again no sooner than that.
    let back = disabled().later(60).resume().turn(None).go();
    assert_eq!(back.state.phase(), Some(Phase::Sunset), "{}", back.trace);
    let at = back.resumes_at();
    assert_eq!(at, back.state.moved + cache);
    let back = back.resume();
    let next = back.state.decide(at, &back.wishes).next;
    assert!(matches!(next, Next::Record(Event::Entered { phase: Phase::Overlap })), "{next:?}");

    // The kill does not wait; what comes after it does.
    let run = hasty(Run::of(CACHED, Strategy::Contain)).go();
    assert_eq!((run.state.phase(), run.resumes_at()), (Some(Phase::Distribute), run.state.moved + cache));
    // Other kinds are asked each time.
    let run = hasty(Run::overlap()).go();
    assert_eq!(run.state.phase(), Some(Phase::Overlap), "{}", run.trace);
}

/// A try that must not come sooner comes at its moment.
#[test]
fn a_try_waits_until_its_moment() {
    let mut run = Run::overlap().when("distribute", Op::Do, &[Reply::Fail(ErrorKind::NotReady), Reply::Ok]);
    run = run.wishing(|w| w.until = Some(Phase::Prepare)).go().resume().wishing(|w| w.until = None);
    run.apply(&Event::Entered { phase: Phase::Distribute });
    let first = run.state.decide(run.now, &run.wishes).tasks.remove(0);
    let Task::Perform { step, op, attempt } = first else { panic!("a call") };
    let id = run.state.plan().steps[step].id.clone();
    run.apply(&Event::Intent { step: id, op, attempt, round: 0 });
    assert!(matches!(run.state.decide(run.now, &run.wishes).next, Next::InFlight));
    assert_eq!(run.state.under_way(), 1);
    run.end(&first);
    let due = run.now + SignedDuration::from_millis(500);
    let before = run.state.decide(due - SignedDuration::from_millis(1), &run.wishes);
    assert!(before.tasks.is_empty() && matches!(before.next, Next::Sleep(at) if at == due));
    assert_eq!(run.state.decide(due, &run.wishes).tasks, [Task::Perform { step, op, attempt: 2 }]);
    // Where there is no room there is still work; where it must wait there is none.
    let full = Wishes { capacity: 0, ..run.wishes.clone() };
    assert!(matches!(run.state.decide(due, &full).next, Next::InFlight));
    assert!(!matches!(run.state.decide(run.now, &full).next, Next::InFlight));
    assert_eq!(since(due, run.now), Duration::from_millis(500));
}

/// What a server asks for is heeded, up to a bound.
#[test]
fn a_server_may_ask_for_patience() {
    for (asked, waited) in [
        (None, 500),
        (Some(100), 500),
        (Some(2_000), 2_000),
        (Some(60_000), 60_000),
        (Some(3_600_000), 120_000),
    ] {
        let mut run = Run::overlap();
        run.apply(&Event::Entered { phase: Phase::Preflight });
        let step = "preflight/connection/world".to_owned();
        run.apply(&Event::Intent { step: step.clone(), op: Op::Do, attempt: 1, round: 0 });
        let failure = Failure {
            kind: ErrorKind::Throttled,
            message: "slow".into(),
            hint: None,
            request_id: None,
            retry_after_ms: asked,
        };
        run.apply(&rejected(&step, failure));
        let at = run.state.step(&step).expect("a step");
        let due = run.now + SignedDuration::from_millis(waited);
        assert_eq!(*run.state.status(at), Status::Pending { attempt: 1, not_before: Some(due) }, "{asked:?}");
    }
}

/// A server that refuses the number of requests for a quarter of an hour is broken, or will never let this one in.
#[test]
fn refusals_for_their_number_come_to_an_end() {
    let mut run = Run::overlap().when("distribute", Op::Do, &[Reply::Fail(ErrorKind::Throttled)]);
    let began = run.now;
    run = run.go();
    assert!(matches!(run.state.stopped(), Some(Stop::Failed { .. })), "{:?}", run.state.stopped());
    let minutes = (run.now - began).as_mins();
    assert!((10..30).contains(&minutes), "{minutes}");
}

/// The first try to do a step is rejected.
fn rejected(step: &str, failure: Failure) -> Event {
    Event::Outcome {
        step: step.into(),
        op: Op::Do,
        attempt: 1,
        result: Ended::Rejected,
        facts: Facts::new(),
        checks: Vec::new(),
        error: Some(failure),
        latency_ms: 1,
    }
}

/// An event that does not fit is refused with a word on why, and changes nothing.
#[test]
fn what_cannot_follow_is_refused() {
    let intent = |step: &str, op, attempt, round| Event::Intent { step: step.into(), op, attempt, round };
    let outcome = |step: &str, op, attempt| Event::Outcome {
        step: step.into(),
        op,
        attempt,
        result: Ended::Succeeded,
        facts: Facts::new(),
        checks: Vec::new(),
        error: None,
        latency_ms: 1,
    };
    let settled = |step: &str, attempt| Event::Settled {
        step: step.into(),
        op: Op::Do,
        attempt,
        found: Found::Applied,
        facts: Facts::new(),
        detail: String::new(),
    };
    let first = "preflight/connection/world";
    let run = Run::overlap().then(&Event::Entered { phase: Phase::Preflight });
    let plan = Box::new((**run.state.plan()).clone());
    let mut cases = vec![
        (Event::Opened { plan, reason: None }, "opened"),
        (Event::Entered { phase: Phase::Prepare }, "entered"),
        (Event::Entered { phase: Phase::Preflight }, "entered"),
        (Event::Returned { phase: Phase::Preflight }, "returned"),
        (Event::Closed { end: End::Done }, "closed"),
        (intent("nowhere", Op::Do, 1, 0), "intent"),
        (intent(first, Op::Do, 2, 0), "intent"),
        (intent(first, Op::Do, 1, 1), "intent"),
        (intent(first, Op::Undo, 1, 0), "intent"),
        (intent(first, Op::Discard, 1, 0), "intent"),
        (outcome(first, Op::Do, 1), "outcome"),
        (settled(first, 1), "settled"),
        (
            Event::Resolved {
                step: first.into(),
                applied: true,
                evidence: String::new(),
                facts: Default::default(),
            },
            "resolved",
        ),
    ];
    for (event, name) in &cases {
        let mut state = run.state.clone();
        let error = state.apply(event, run.now).expect_err(name);
        assert_eq!(error.event, *name);
        assert!(!error.subject.is_empty() && !error.state.is_empty());
        assert_eq!(format!("{state:?}"), format!("{:?}", run.state), "{name}: nothing has changed");
    }
    // While the call is under way, only its own outcome fits.
    let under_way = run.then(&intent(first, Op::Do, 1, 0));
    cases = vec![
        (intent(first, Op::Do, 1, 0), ""),
        (outcome(first, Op::Do, 2), ""),
        (outcome(first, Op::Undo, 1), ""),
        (outcome(first, Op::Discard, 1), ""),
        (outcome("preflight/demo-key/permission", Op::Do, 1), ""),
        (settled(first, 1), ""),
    ];
    for (event, _) in &cases {
        assert!(under_way.state.clone().apply(event, under_way.now).is_err(), "{event:?}");
    }
    assert!(under_way.state.clone().apply(&outcome(first, Op::Do, 1), under_way.now).is_ok());
    // What is found out must be about what is in doubt.
    let promote = "cutover/demo-key/promote/sandbox";
    let doubt = Run::overlap().when(promote, Op::Do, &[Reply::Dies]).go().resume();
    let undo = Event::Settled {
        step: promote.into(),
        op: Op::Undo,
        attempt: 1,
        found: Found::Applied,
        facts: Facts::new(),
        detail: String::new(),
    };
    for event in [undo, settled(promote, 2)] {
        assert!(doubt.state.clone().apply(&event, doubt.now).is_err(), "{event:?}");
    }
    assert!(doubt.state.clone().apply(&settled(promote, 1), doubt.now).is_ok());
    // What discarding an orphan came to, once somebody began to.
    let issue = "prepare/demo-key/issue";
    let lost = Found::Orphans(vec!["lost".into()]);
    let orphaned = Run::overlap()
        .when(issue, Op::Do, &[Reply::Unknown, Reply::Found(lost)])
        .when(issue, Op::Discard, &[Reply::Dies])
        .go();
    for event in [outcome(issue, Op::Do, 1), outcome(issue, Op::Discard, 2)] {
        assert!(orphaned.state.clone().apply(&event, orphaned.now).is_err(), "{event:?}");
    }
    assert!(orphaned.state.clone().apply(&outcome(issue, Op::Discard, 1), orphaned.now).is_ok());
    let resumed = orphaned.resume();
    assert!(resumed.state.clone().apply(&outcome(issue, Op::Discard, 1), resumed.now).is_err());
    // A way back ends where it leads, when all is taken back.
    let returned = |phase| Event::Returned { phase };
    let cutover = || Run::overlap().wishing(|w| w.until = Some(Phase::Cutover)).go();
    let back = cutover().turn(Some(Phase::Verify));
    for event in [returned(Phase::Verify), returned(Phase::Prepare)] {
        assert!(back.state.clone().apply(&event, back.now).is_err(), "{event:?}");
    }
    let forward = cutover();
    assert!(forward.state.clone().apply(&returned(Phase::Cutover), forward.now).is_err());
    // A closed run takes nothing more but a signature and a repair.
    let closed = Run::overlap().go();
    for event in [
        Event::Resumed {},
        Event::Heartbeat {},
        Event::Closed { end: End::Done },
        Event::Turned { to: None, why: String::new(), by_gate: false, from: None },
    ] {
        assert!(closed.state.clone().apply(&event, closed.now).is_err(), "{event:?}");
    }
    for event in
        [Event::Checkpoint { note: String::new() }, Event::Repaired { bytes: 1, sha256: String::new() }]
    {
        assert!(closed.state.clone().apply(&event, closed.now).is_ok(), "{event:?}");
    }
}

/// The truth of one credential is what the truth of all says of it.
#[test]
fn one_truth_is_the_truth_of_all() {
    for (_, run) in scenarios() {
        let plan = run.state.plan();
        for (credential, truth) in run.state.truths().into_iter().enumerate() {
            let steps: Vec<usize> = (0..plan.steps.len())
                .filter(|at| plan.steps[*at].action.credential() == Some(credential))
                .collect();
            assert_eq!(run.state.truth_of(credential, &steps), truth);
        }
    }
}

/// Errors name an event as the journal does, and people read a status in one word.
#[test]
fn events_and_statuses_have_their_names() {
    let text = String::new;
    let (step, op, attempt) = ("x".to_owned(), Op::Do, 1);
    let plan = Box::new(planned(QUICKSTART.0, QUICKSTART.1, Strategy::Overlap));
    let events = [
        Event::Opened { plan, reason: None },
        Event::Resumed {},
        Event::Entered { phase: Phase::Proof },
        Event::Intent { step: step.clone(), op, attempt, round: 0 },
        Event::Outcome {
            step: step.clone(),
            op,
            attempt,
            result: Ended::Succeeded,
            facts: Facts::new(),
            checks: Vec::new(),
            error: None,
            latency_ms: 1,
        },
        Event::Settled {
            step: step.clone(),
            op,
            attempt,
            found: Found::Absent,
            facts: Facts::new(),
            detail: text(),
        },
        Event::Resolved { step, applied: true, evidence: text(), facts: Default::default() },
        Event::Judged { gate: text(), verdict: Verdict::Pass, detail: text() },
        Event::Adopted { credential: text(), consumer: text(), instances: 1, of: 1 },
        Event::LetIn { step: text(), detail: text() },
        Event::Vouched { gate: text(), phase: Phase::Overlap, evidence: text() },
        Event::Turned { to: None, why: text(), by_gate: false, from: None },
        Event::Returned { phase: Phase::Proof },
        Event::Halted { by: text(), reason: text() },
        Event::HaltCleared { by: text() },
        Event::Heartbeat {},
        Event::Noted { text: text() },
        Event::Repaired { bytes: 1, sha256: text() },
        Event::Stopped { reason: Stop::Halted },
        Event::Closed { end: End::Done },
        Event::Checkpoint { note: text() },
    ];
    for event in &events {
        let json = serde_json::to_value(event).expect("JSON");
        assert_eq!(event.name(), json["type"].as_str().expect("a type"));
    }
    let (not_before, failure) = (
        None,
        Failure {
            kind: ErrorKind::Denied,
            message: text(),
            hint: None,
            request_id: None,
            retry_after_ms: None,
        },
    );
    let words = [
        (Status::Pending { attempt, not_before }, "pending"),
        (Status::Started { op, attempt }, "started"),
        (Status::Unknown { op, attempt, looks: 0, not_before }, "unknown"),
        (Status::Orphaned { attempt, handles: vec![], discard: 1, not_before }, "orphaned"),
        (Status::Done, "done"),
        (Status::Undone, "undone"),
        (Status::Undoing { attempt, not_before }, "undoing"),
        (Status::Failed { op, failure, orphans: vec![] }, "failed"),
    ];
    for (status, word) in words {
        assert_eq!(status.word(), word);
    }
}

#[test]
fn a_state_knows_when_its_run_was_opened() {
    let opened = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(7);
    let state = State::new(Arc::clone(Run::overlap().state.plan()), opened);
    assert_eq!((state.opened(), state.entered()), (opened, opened));
}

/// A person's word is not enough where later steps start from what only the server said.
#[test]
fn what_only_its_server_knows_needs_its_answer() {
    let needs = |run: Run, step: &str| {
        let at = run.state.step(step).expect("a step");
        assert!(matches!(run.state.status(at), Status::Unknown { .. }), "{step}");
        run.state.needs_its_answer(at)
    };
    let forward = |step| Run::overlap().when(step, Op::Do, &[Reply::Dies]).go().resume();
    let back = |step| {
        let run = Run::overlap().wishing(|w| w.until = Some(Phase::Sunset)).go().turn(None);
        run.when(step, Op::Undo, &[Reply::Dies]).go().resume()
    };
    for (step, there, on_the_way_back) in [
        ("prepare/demo-key/issue", true, false),
        ("distribute/demo-key/stage/sandbox", true, false),
        ("cutover/demo-key/promote/sandbox", true, true),
        ("cutover/demo-key/reload/web", false, false),
        ("sunset/demo-key/disable", false, false),
    ] {
        assert_eq!(needs(forward(step), step), there, "{step}");
        assert_eq!(needs(back(step), step), on_the_way_back, "{step}, taken back");
    }
    let done = Run::overlap().go();
    let issue = done.state.step("prepare/demo-key/issue").expect("a step");
    assert!(!done.state.needs_its_answer(issue), "its outcome is known");
}

/// Where a step that cannot be taken back may have happened, a later try that fails changes nothing about that.
#[test]
fn what_may_have_happened_bars_the_way_back() {
    let barred = |replies: &[Reply]| {
        let drain = "cutover/own/drain";
        let mut plan = planned(EVERY_KIND.0, EVERY_KIND.1, Strategy::Overlap);
        let step = plan.steps.iter_mut().find(|s| s.id == drain).expect("a step");
        (step.undo, step.irreversible) = (None, true);
        let state = State::new(Arc::new(plan), Timestamp::UNIX_EPOCH);
        let run = Run { state, ..Run::of(EVERY_KIND, Strategy::Overlap) }.when(drain, Op::Do, replies).go();
        let at = run.state.step(drain).expect("a step");
        assert!(matches!(run.state.status(at), Status::Failed { op: Op::Do, .. }));
        run.state.is_past_return()
    };
    let denied = || Reply::Fail(ErrorKind::Denied);
    assert!(barred(&[Reply::Unknown, Reply::Found(Found::Repeatable), denied()]));
    assert!(!barred(&[Reply::Unknown, Reply::Found(Found::Absent), denied()]));
    assert!(!barred(&[denied()]));
}

/// What was stopped before it began, or refused for now, has not happened.
#[test]
fn a_revocation_that_waits_for_its_next_try_leaves_the_way_back() {
    for kind in [ErrorKind::Cancelled, ErrorKind::Throttled] {
        let step = "revoke/demo-key/revoke".to_owned();
        let mut run = Run::overlap().wishing(|w| w.until = Some(Phase::Sunset)).go().resume();
        run.apply(&Event::Entered { phase: Phase::Revoke });
        run.apply(&Event::Intent { step: step.clone(), op: Op::Do, attempt: 1, round: 0 });
        assert!(run.state.is_past_return(), "it may happen at any moment");
        let message = "not now".into();
        let failure = Failure { kind, message, hint: None, request_id: None, retry_after_ms: None };
        run.apply(&rejected(&step, failure));
        assert!(!run.state.is_past_return(), "{kind:?}\n{}", run.trace);
    }
}

/// On the way back nobody wants what never took effect; taking back is tried as often as anything.
#[test]
fn the_way_back_tries_what_it_wants_and_nothing_else() {
    let step = "cutover/demo-key/promote/sandbox-2";
    let run = || {
        let mut plan = planned(QUICKSTART.0, QUICKSTART.1, Strategy::Overlap);
        plan.runbook.limits.attempts = 1;
        let state = State::new(Arc::new(plan), Timestamp::UNIX_EPOCH);
        Run { state, ..Run::overlap() }
    };
    let unwanted = run()
        .when(step, Op::Do, &[Reply::Dies])
        .go()
        .resume()
        .turn(None)
        .when(step, Op::Do, &[Reply::Found(Found::Absent)])
        .go();
    assert_eq!(unwanted.state.end(), Some(End::RolledBack), "{}", unwanted.trace);
    let stuck = run()
        .wishing(|w| w.until = Some(Phase::Cutover))
        .go()
        .turn(None)
        .when(step, Op::Undo, &[Reply::Found(Found::Absent)])
        .go();
    let at = stuck.state.step(step).expect("a step");
    assert_eq!(stuck.state.stopped(), Some(&Stop::Stuck { step: step.into() }));
    assert!(stuck.state.failure(at).is_some_and(|failure| failure.message.contains("no try took effect")));
}

/// What the server said is told in the end, and what another try would meet again is not tried again.
#[test]
fn a_step_without_effect_says_why() {
    let absent = || Reply::Found(Found::Absent);
    let step = "revoke/demo-key/revoke";
    for (replies, attempts, message) in [
        (vec![Reply::Doubt(ErrorKind::Conflict), absent()], 1, "Conflict"),
        (vec![Reply::Doubt(ErrorKind::Denied), absent()], 5, "no try took effect; the last try: Denied"),
        (vec![absent()], 5, "no try took effect; the last try: NoAnswer"),
    ] {
        let run = Run::overlap().when(step, Op::Do, &replies).go();
        let at = run.state.step(step).expect("a step");
        let failure = run.state.failure(at).unwrap_or_else(|| panic!("{}", run.trace));
        assert_eq!(failure.message, message, "{}", run.trace);
        assert_eq!(run.trace.matches(&format!("intent Do {step}")).count(), attempts, "{}", run.trace);
        // Whoever resumes is told what happens then.
        let again = run.resume().when(step, Op::Do, &[absent()]).go();
        let failure = again.state.failure(at).expect("it fails again");
        assert!(failure.message.ends_with("NoAnswer"), "{}", failure.message);
    }
}

/// A look of which nobody knows the outcome changed nothing, and there is nothing to take back.
#[test]
fn looks_in_doubt_are_dropped_on_the_way_back() {
    let look = "verify/demo-key/accept/issuer";
    let run = Run::overlap().when(look, Op::Do, &[Reply::Unknown, Reply::Dies]).go().turn(None);
    let at = run.state.step(look).expect("a step");
    assert_eq!(run.state.status(at), &Status::Undone);
}

/// Consumers that were told to leave a version are not counted as using it.
#[test]
fn adoption_is_forgotten_behind_cutover() {
    let used = |to| {
        let run = Run::overlap().wishing(|w| w.until = Some(Phase::Overlap)).go();
        assert!(!run.state.adopted().is_empty());
        !run.turn(Some(to)).go().state.adopted().is_empty()
    };
    assert!(used(Phase::Cutover));
    assert!(!used(Phase::Verify));
}

/// What a look found out is there for the way back, even if no try follows.
#[test]
fn a_repeatable_step_is_taken_back_with_what_was_found() {
    let (reload, op, attempt) = ("cutover/demo-key/reload/web", Op::Do, 1);
    let found = |facts: Facts| Event::Settled {
        step: reload.into(),
        op,
        attempt,
        found: Found::Repeatable,
        facts,
        detail: String::new(),
    };
    let known = Facts::from([("was".to_owned(), "7".to_owned())]);
    let run = Run::overlap().when(reload, op, &[Reply::Dies]).go().resume();
    let at = run.state.step(reload).expect("a step");
    let run = run.then(&found(known));
    assert_eq!(run.state.fact(at, "was"), Some("7"));
}

/// What is to be revoked is not forgotten when revoking it fails for good.
#[test]
fn orphans_are_remembered_until_they_are_gone() {
    let issue = "prepare/demo-key/issue";
    let lost = Found::Orphans(vec!["lost".into()]);
    let run = Run::overlap()
        .when(issue, Op::Do, &[Reply::Unknown, Reply::Found(lost)])
        .when(issue, Op::Discard, &[Reply::Fail(ErrorKind::Denied)])
        .go();
    let at = run.state.step(issue).expect("a step");
    let Status::Failed { op: Op::Discard, orphans, .. } = run.state.status(at) else {
        panic!("{:?}", run.state.status(at));
    };
    assert_eq!(orphans[..], ["lost".to_owned()]);
    for again in [run.state.clone(), run.turn(None).state] {
        let mut again = again;
        again.apply(&Event::Resumed {}, Timestamp::UNIX_EPOCH).expect("an open run");
        let Status::Orphaned { handles, .. } = again.status(at) else { panic!("{:?}", again.status(at)) };
        assert_eq!(handles[..], ["lost".to_owned()]);
    }
}

/// Nothing that a step made is older than its first intent in this round.
#[test]
fn a_step_remembers_its_first_and_its_last_intent() {
    let issue = "prepare/demo-key/issue";
    let since = |run: &Run| run.state.since(run.state.step(issue).expect("a step"));
    let last = |run: &Run| run.state.last(run.state.step(issue).expect("a step"));
    let fresh = Run::overlap();
    assert_eq!((since(&fresh), last(&fresh)), (None, None));
    let run = fresh
        .when(issue, Op::Do, &[Reply::Fail(ErrorKind::Throttled), Reply::Ok])
        .wishing(|w| w.until = Some(Phase::Prepare))
        .go();
    // The first try was refused half a second before the one that worked.
    let entered = run.state.entered();
    assert_eq!(since(&run), Some(entered), "the first try counts");
    assert_eq!(last(&run), Some(entered + Duration::from_millis(500)), "and the last one is known, too");
    let look = run.state.step("prepare/demo-key/inspect").expect("a step");
    assert_eq!(run.state.since(look), None, "a look makes nothing");
    let back = run.turn(None).go();
    assert_eq!((since(&back), last(&back)), (None, None), "the next round begins anew");
}

/// Looks count against the room for calls as calls do.
#[test]
fn looks_need_room_too() {
    let run = Run::overlap().when("cutover/demo-key/promote", Op::Do, &[Reply::Dies]).go();
    let mut run = run.resume();
    assert_eq!(run.state.unknown().count(), 2, "both calls were under way");
    for capacity in [0, 1, 2, 3] {
        run.wishes.capacity = capacity;
        let due = run.now + SignedDuration::from_secs(60);
        assert_eq!(run.state.decide(due, &run.wishes).tasks.len(), capacity.min(2));
    }
}

/// A run is done when its last phase is, and every step of it.
#[test]
fn a_run_is_not_done_before_its_proof() {
    let done = Event::Closed { end: End::Done };
    let mut run = Run::overlap().wishing(|w| w.until = Some(Phase::Revoke)).go();
    assert!(run.state.clone().apply(&done, run.now).is_err(), "one phase is missing");
    run.apply(&Event::Entered { phase: Phase::Proof });
    assert!(run.state.clone().apply(&done, run.now).is_err(), "its steps are open");
    let run = run.resume().wishing(|w| w.until = Some(Phase::Proof)).go();
    assert!(run.state.clone().apply(&done, run.now).is_ok());
}

/// What its issuer does not call gone after it was revoked is killed again on the word of a person: a login that was let
/// in at the last moment, which the look at the end sees.
#[test]
fn what_lives_on_after_its_revocation_can_be_killed_again() {
    let seen = |until, outgoing| {
        let mut run = Run::overlap().wishing(|w| w.until = Some(until)).go();
        let revoke = run.state.step("revoke/demo-key/revoke").expect("a step");
        let look = Seen { stores: vec![Holds::Incoming], outgoing, incoming: Sight::Alive };
        run.state.see("demo-key", run.now, look);
        let told = run.state.truths().pop().expect("a credential").outgoing == Outgoing::Deleted;
        assert_eq!(told, outgoing == Sight::Deleted, "a summary calls it deleted where it is");
        (run.state.lives_on("demo-key"), run.state.may_repeat(revoke))
    };
    for outgoing in [Sight::Alive, Sight::Disabled, Sight::Deleted] {
        assert_eq!(seen(Phase::Proof, outgoing), (true, true), "{outgoing:?}");
        assert_eq!(seen(Phase::Sunset, outgoing), (false, false), "it was not revoked: {outgoing:?}");
    }
    for outgoing in [Sight::Gone, Sight::Refused, Sight::Unseen] {
        assert_eq!(seen(Phase::Proof, outgoing), (false, false), "{outgoing:?}");
    }
}

/// Whoever stops a run stops it in the middle of a phase, too: nothing that could begin begins.
#[test]
fn nothing_begins_in_a_run_that_stops() {
    let begun = || Run::overlap().then(&Event::Entered { phase: Phase::Preflight });
    let next = |run: &Run| run.state.decide(run.now, &run.wishes);
    assert_eq!(next(&begun()).tasks.len(), 3, "there is something to do");
    let interrupted = next(&begun().wishing(|w| w.interrupted = true));
    assert!(interrupted.tasks.is_empty());
    assert!(matches!(interrupted.next, Next::Record(Event::Stopped { reason: Stop::Interrupted })));
    let halted = next(&begun().then(&Event::Halted { by: "x".into(), reason: "y".into() }));
    assert!(halted.tasks.is_empty());
    assert!(matches!(halted.next, Next::Record(Event::Stopped { reason: Stop::Halted })));
    // What is under way is awaited, and nothing follows it.
    let intent = |step: &str| Event::Intent { step: step.into(), op: Op::Do, attempt: 1, round: 0 };
    let under_way = begun().then(&intent("preflight/connection/world")).wishing(|w| w.interrupted = true);
    assert!(next(&under_way).tasks.is_empty() && matches!(next(&under_way).next, Next::InFlight));
    // Where there is no room nothing is in flight either, once somebody stops the run.
    let full = begun().wishing(|w| (w.interrupted, w.capacity) = (true, 0));
    assert!(matches!(next(&full).next, Next::Record(Event::Stopped { .. })));
}

/// A run whose runbook has a window, in the phase before cutover, all of it done.
fn before_cutover(strategy: Strategy) -> Run {
    let mut plan = planned(QUICKSTART.0, QUICKSTART.1, strategy);
    let window = r#"[{"from":"09:00","to":"16:00","zone":"UTC"}]"#;
    plan.runbook.windows = serde_json::from_str(window).expect("a window");
    let until = if strategy == Strategy::Overlap { Phase::Verify } else { Phase::Distribute };
    let state = State::new(Arc::new(plan), Timestamp::UNIX_EPOCH);
    let run = Run { state, ..Run::of(QUICKSTART, strategy) };
    run.wishing(|w| w.until = Some(until)).go().resume().wishing(|w| w.until = None)
}

/// Under `overlap`, cutover waits for a deployment window, for no longer than that, and never in the middle.
#[test]
fn cutover_waits_for_a_deployment_window() {
    let decide = |run: &Run, now: Timestamp| run.state.decide(now, &run.wishes).next;
    let begins = |next: &Next| matches!(next, Next::Record(Event::Entered { phase: Phase::Cutover }));
    let foreseeing = |opening: Opening| {
        let mut run = before_cutover(Strategy::Overlap);
        run.state.foresee(opening);
        run
    };
    let now = before_cutover(Strategy::Overlap).now;
    let opens = now + SignedDuration::from_hours(9);
    assert!(begins(&decide(&foreseeing(Opening::Now), now)), "it is open");
    let mut waits = foreseeing(Opening::At(opens));
    assert!(matches!(decide(&waits, now), Next::Wait(at) if at == opens));
    assert_eq!((waits.state.window(now), waits.state.window(opens)), (Opening::At(opens), Opening::Now));
    assert!(begins(&decide(&waits, opens)), "it has opened");
    let stopped = |next: Next| match next {
        Next::Record(Event::Stopped { reason: Stop::OutsideWindow { opens } }) => Some(opens),
        _ => None,
    };
    waits = waits.wishing(|w| w.no_wait = true);
    assert_eq!(stopped(decide(&waits, now)), Some(Some(opens)));
    assert_eq!(stopped(decide(&foreseeing(Opening::Never), now)), Some(None), "waiting would not help");
    // A person's word lets it begin, once.
    let word = Event::WindowOverridden { by: "me".into(), reason: "now".into() };
    let mut hurried = waits.then(&word);
    assert!(begins(&decide(&hurried, now)));
    assert_eq!(hurried.state.window(now), Opening::Now);
    hurried.apply(&Event::Entered { phase: Phase::Cutover });
    // It closes while cutover is in progress, and a process that dies there takes it up again.
    assert!(!hurried.state.may_hurry() && hurried.state.foreseen() == Opening::Now);
    assert!(hurried.state.clone().apply(&word, now).is_err(), "cutover lies behind");
    let mut hurried = hurried.resume();
    hurried.state.foresee(Opening::At(opens));
    assert!(!decide(&hurried, now).is_wait() && !hurried.state.decide(now, &hurried.wishes).tasks.is_empty());
    let mut back = hurried.turn(Some(Phase::Verify)).go().resume();
    back.state.foresee(Opening::At(opens));
    assert_eq!(stopped(decide(&back, back.now)), Some(Some(opens)), "the word was for the time before");
    assert_eq!(back.state.hurried(), Some("me: now"), "and it stays on the record");
}

/// Who stops an attacker waits for no window.
#[test]
fn contain_waits_for_no_window() {
    let mut run = before_cutover(Strategy::Contain);
    run.state.foresee(Opening::Never);
    let run = run.go();
    assert_eq!(
        (run.state.end(), run.state.window(run.now)),
        (Some(End::Done), Opening::Now),
        "{}",
        run.trace
    );
    let word = Event::WindowOverridden { by: "me".into(), reason: "now".into() };
    assert!(before_cutover(Strategy::Contain).state.apply(&word, run.now).is_err());
}

impl Next {
    fn is_wait(&self) -> bool {
        matches!(self, Self::Wait(_) | Self::Sleep(_))
    }
}
