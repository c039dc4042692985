//! The loop: observe, decide, record the intent, act, record the outcome.
//!
//! One task owns the state and the journal; calls run beside it and send it what came of them.
//! Everything that may happen next comes from [`State::decide`]; nothing is decided here. Resume is
//! the same loop over a state that was folded from a journal.

mod ask;
mod check;
mod job;
mod safe;
mod survey;
mod yields;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use self::job::{Index, Job};
use self::safe::Safe;
use self::yields::Yield;
use crate::clock::{Clock, Moment, since};
use crate::domain::Phase;
use crate::domain::{Judgement, Verdict};
use crate::gate::{self, Adoption, Watched};
use crate::journal::{Journal, Latch, Latches, LedgerError, SealedEntry};
use crate::plan::{ADOPTED, Action, Plan};
use crate::provider::{CallError, Provider};
use crate::rotation::{
    Direction, End, Ended, Event, Facts, Failure, Found, IllegalTransition, KILL_WAITS, Next, Op, Seen,
    State, Stop, Task, Truth, Wishes,
};
use crate::runbook::model;
use crate::sabotage::{Sabotage, is_on};
use crate::secret::Sealer;
use crate::text::sanitize;

pub use check::{Check, check};
pub use safe::{SafeError, has_captured, scrub, try_open};
pub use survey::{Choices, Learnt, SurveyError, drift, survey, survey_and_learn};

/// How often the latch and requests are looked at while nothing else happens.
const TICK: Duration = Duration::from_millis(200);
/// How often a run that only waits says that it still does.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// How long the looks at the world may take that the summary tells of.
const LAST_LOOK: Duration = Duration::from_secs(5);
/// How often a last look that shows another world than the run left is taken again, and after how long.
const LAGS: u32 = 3;
const LAG: Duration = Duration::from_secs(1);
/// What steps may take longer that look at the world before their effect.
const LOOK_BEFORE: Duration = Duration::from_secs(60);
/// How often consumers are asked which version they use.
const ADOPTION_EVERY: Duration = Duration::from_secs(1);

/// What a person said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Yes.
    Yes,
    /// No.
    No,
    /// Nobody is there.
    Nobody,
}

/// Whoever can answer questions.
#[async_trait]
pub trait Operator: Send + Sync {
    /// Asks a question of the runbook's own. `name` is the step's.
    async fn ask(&self, name: &str, question: &str) -> Answer;
}

/// Whoever shows what happens. Decoration: it cannot fail, and it cannot stop anything.
pub trait Observer: Send {
    /// These events are on the record now, and the state is what they led to.
    fn recorded(&mut self, at: Moment, events: &[Event], state: &State);
    /// Time passed.
    fn tick(&mut self, at: Moment, state: &State);
}

/// How the run is to be conducted in this session.
#[derive(Debug, Clone, Default)]
pub struct Conduct {
    /// Stop after this phase.
    pub until: Option<Phase>,
    /// Stop wherever the run would only wait.
    pub no_wait: bool,
    /// Begin by rolling back, to the end of this phase, or all the way.
    pub rollback: Option<(Option<Phase>, String)>,
}

/// The engine cannot go on. What was begun is on the record.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No durable record, no effect.
    #[error("the journal failed, so stanch does nothing more")]
    Journal(#[from] LedgerError),
    /// Secrets cannot be sealed or opened.
    #[error("stanch cannot use the sealed secrets of the run")]
    Safe(#[from] SafeError),
    /// The program contradicts itself. Stopping is all that is safe.
    #[error("the engine took a step that its own rules forbid; stanch does nothing more")]
    Illegal(#[from] IllegalTransition),
}

/// What the engine works with.
pub struct Engine {
    /// Makes the plan's parts callable.
    pub provider: Arc<dyn Provider>,
    /// The record.
    pub journal: Box<dyn Journal>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Seals and opens secrets.
    pub sealer: Arc<Sealer>,
    /// Answers questions.
    pub operator: Arc<dyn Operator>,
    /// Shows what happens.
    pub observer: Box<dyn Observer>,
    /// Turns true at the first Ctrl-C or SIGTERM.
    pub interrupt: watch::Receiver<bool>,
}

impl Engine {
    /// Works on a run until it is over or this session must stop, and returns its state then.
    ///
    /// # Errors
    /// When the record cannot be kept.
    pub async fn run(self, state: State, conduct: Conduct) -> Result<State, EngineError> {
        let (safe, fresh) = Safe::open(Arc::clone(&self.sealer), &self.journal.sealed()?)?;
        self.provider.secrets().into_iter().for_each(|secret| safe.know(secret));
        let (send, receive) = mpsc::unbounded_channel();
        let plan = Arc::clone(state.plan());
        let mut session = Session {
            index: Index::of(&plan),
            safe: Arc::new(safe),
            wishes: Wishes { until: conduct.until, no_wait: conduct.no_wait, ..Wishes::default() },
            calls: JoinSet::new(),
            watching: None,
            held: Vec::new(),
            sealed: fresh.into_iter().collect(),
            last_record: self.clock.now().mono_ms,
            rollback: conduct.rollback,
            send,
            receive,
            cancel: CancellationToken::new(),
            latches: self.journal.latches(),
            places: Arc::new(Semaphore::new(plan.runbook.limits.concurrency.max(1))),
            engine: self,
            plan,
            state,
        };
        session.work().await?;
        Ok(session.state)
    }
}

/// What a call, an observation or a gate sends to the loop.
enum Message {
    Performed { step: usize, op: Op, attempt: u32, result: Result<Yield, CallError>, latency_ms: u64 },
    Observed { step: usize, op: Op, attempt: u32, result: Result<(Found, Facts), CallError> },
    Judged { phase: Phase, gate: String, judgement: Judgement },
    Adopted { phase: Phase, found: Vec<Adoption> },
    Noted { text: String },
}

struct Session {
    engine: Engine,
    plan: Arc<Plan>,
    state: State,
    index: Index,
    safe: Arc<Safe>,
    wishes: Wishes,
    calls: JoinSet<()>,
    /// The gates being watched, with the phase that they are watched for.
    watching: Option<(Phase, Vec<AbortHandle>)>,
    /// Applied to the state, and not yet durable.
    held: Vec<Event>,
    /// To be made durable before the events are.
    sealed: Vec<SealedEntry>,
    last_record: u64,
    rollback: Option<(Option<Phase>, String)>,
    send: mpsc::UnboundedSender<Message>,
    receive: mpsc::UnboundedReceiver<Message>,
    /// Cancelled while what only asks is to be given up, and replaced afterwards. Unlike a `watch` channel,
    /// whose receivers wake in an order drawn by chance, it wakes them in the order in which they came.
    cancel: CancellationToken,
    latches: Arc<dyn Latches>,
    /// How many steps that ask may ask at once.
    places: Arc<Semaphore>,
}

impl Session {
    async fn work(&mut self) -> Result<(), EngineError> {
        let done = self.turns().await;
        // Nothing that was looking may outlive the session; effects were awaited.
        self.calls.abort_all();
        done
    }

    async fn turns(&mut self) -> Result<(), EngineError> {
        loop {
            self.look_around()?;
            let now = self.engine.clock.now();
            // A step that waits between two questions holds no place.
            let busy = self.state.under_way() - self.state.asking() + self.wishes.observing.len();
            self.wishes.capacity = self.plan.runbook.limits.concurrency.saturating_sub(busy);
            let decision = self.state.decide(now.wall, &self.wishes);
            let jobs = self.intend(decision.tasks).await?;
            if jobs.is_empty()
                && let Next::Record(event) = &decision.next
            {
                let event = self.last_word(event.clone()).await?;
                let last = matches!(event, Event::Stopped { .. } | Event::Closed { .. });
                let closed = matches!(event, Event::Closed { .. });
                self.hold(event)?;
                self.warn()?;
                self.commit()?;
                if closed {
                    self.engine.journal.close()?;
                }
                if last {
                    return Ok(());
                }
                continue;
            }
            if is_on(Sabotage::Unrecorded) {
                self.start(jobs);
                tokio::task::yield_now().await;
                self.commit()?;
            } else {
                self.commit()?;
                self.start(jobs);
            }
            match decision.next {
                Next::Over => return Ok(()),
                Next::InFlight | Next::Record(_) => self.wait(TICK).await?,
                Next::Sleep(at) => self.wait(since(at, now.wall)).await?,
                Next::Wait(at) => {
                    self.watch_gates().await?;
                    self.wait(since(at, now.wall)).await?;
                }
            }
        }
    }

    /// The latch. One that cannot be read counts as set: what is under way is then finished and recorded,
    /// as always.
    fn latch(&self) -> Option<Latch> {
        if is_on(Sabotage::Halt) {
            return None;
        }
        self.latches.latch().unwrap_or_else(|e| Some(unreadable(&e)))
    }

    /// The latch, requests from other processes, signals, and a session that begins by going back.
    fn look_around(&mut self) -> Result<(), EngineError> {
        if *self.engine.interrupt.borrow() {
            self.wishes.interrupted = true;
        }
        let mut latch = self.latch();
        match self.engine.journal.take_request() {
            Ok(Some(request)) => self.rollback = Some((request.to, request.why)),
            Ok(None) => {}
            Err(e) => latch = latch.or_else(|| Some(unreadable(&e))),
        }
        if let Some(latch) = latch
            && self.state.halted().is_none()
        {
            self.hold(Event::Halted { by: latch.by, reason: latch.reason })?;
        }
        if let Some((to, why)) = self.rollback.clone() {
            if self.state.is_past_return() {
                self.rollback = None;
                let text = format!("rollback requested ({why}) past the point of no return; going forward");
                self.hold(Event::Noted { text })?;
            } else if matches!(self.state.direction(), Direction::Back { to: now, .. } if *now == to) {
                self.rollback = None;
            } else if self.is_idle() {
                self.rollback = None;
                self.stop_watching();
                self.wishes.until = None;
                self.hold(Event::Turned { to, why, by_gate: false })?;
            }
            // Else what is under way ends first; `intend` begins nothing new meanwhile.
        }
        // Steps that only ask, and questions, are given up for as long as one of these holds.
        let cancel = self.wishes.interrupted || self.state.halted().is_some() || self.rollback.is_some();
        if cancel {
            self.cancel.cancel();
        } else if self.cancel.is_cancelled() {
            self.cancel = CancellationToken::new();
        }
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.state.under_way() == 0 && self.wishes.observing.is_empty() && self.receive.is_empty()
    }

    /// Records the intents of what may be started, and makes it ready to start.
    async fn intend(&mut self, tasks: Vec<Task>) -> Result<Vec<(Task, Job)>, EngineError> {
        if self.rollback.is_some() {
            return Ok(Vec::new());
        }
        let mut jobs = Vec::with_capacity(tasks.len());
        for task in tasks {
            let job = match task {
                Task::Perform { step, op, attempt } => {
                    let round = self.state.round(step);
                    let id = self.plan.steps[step].id.clone();
                    // The way back and the discarding of orphans need to know what there was before
                    // the intent changes the status.
                    let orphans = match self.state.status(step) {
                        crate::rotation::Status::Orphaned { handles, .. } => handles.clone(),
                        _ => Vec::new(),
                    };
                    self.hold(Event::Intent { step: id, op, attempt, round })?;
                    let mut job = self.job(step);
                    job.needs.orphans = orphans;
                    if op == Op::Do {
                        self.seal_candidate(step).await?;
                    }
                    job
                }
                Task::Observe { step, .. } => {
                    self.wishes.observing.insert(step);
                    self.job(step)
                }
            };
            jobs.push((task, job));
        }
        Ok(jobs)
    }

    fn job(&self, step: usize) -> Job {
        let planned = &self.plan.steps[step];
        let now = self.engine.clock.now().wall;
        let run = self.engine.journal.run();
        let mut context = job::context(&self.state, run, step, now);
        context.siblings = self.index.siblings(&self.state, run, planned);
        if let Action::Promote { credential, store } = planned.action {
            context.before = self.plan.credentials[credential].stores[store].versions.clone();
        }
        let send = self.send.clone();
        Job {
            plan: Arc::clone(&self.plan),
            provider: Arc::clone(&self.engine.provider),
            safe: Arc::clone(&self.safe),
            clock: Arc::clone(&self.engine.clock),
            operator: Arc::clone(&self.engine.operator),
            cancel: self.cancel.clone(),
            latches: Arc::clone(&self.latches),
            places: Arc::clone(&self.places),
            say: Arc::new(move |text| drop(send.send(Message::Noted { text }))),
            step,
            context,
            needs: self.index.needs(&self.state, run, planned),
        }
    }

    /// A value that is made here is sealed before the first call that carries it, and every later
    /// attempt sends the same one.
    async fn seal_candidate(&mut self, step: usize) -> Result<(), EngineError> {
        let Action::Issue { credential } = self.plan.steps[step].action else { return Ok(()) };
        let (planned, spec) = self.plan.credential(credential);
        if planned.issuer.mints {
            return Ok(());
        }
        let name = safe::incoming(&planned.name, self.index.round(&self.state, credential));
        if self.safe.get(&name).is_some() {
            return Ok(());
        }
        // An issuer that cannot be made now cannot be made for the call either, and says so there.
        if let Ok(issuer) = self.engine.provider.issuer(&planned.name, spec).await
            && let Some(candidate) = issuer.candidate()
        {
            self.sealed.push(self.safe.put(&name, candidate, None)?);
        }
        Ok(())
    }

    /// Starts what has a durable intent. Each step looks for the latch by itself before its effect: it may
    /// have been set while the intents were being recorded.
    fn start(&mut self, jobs: Vec<(Task, Job)>) {
        for (task, job) in jobs {
            self.spawn(task, job);
        }
    }

    fn spawn(&mut self, task: Task, job: Job) {
        let send = self.send.clone();
        let clock = Arc::clone(&self.engine.clock);
        let deadline = self.deadline(&job);
        let is_effect = self.plan.steps[job.step].is_effect();
        self.calls.spawn(async move {
            let began = clock.now().mono_ms;
            let message = match task {
                Task::Perform { step, op, attempt } => {
                    let this = job.clone();
                    let call = unless_it_crashes(async move {
                        if is_effect {
                            this.refuse_stopped()?;
                        }
                        match op {
                            Op::Do => this.perform().await,
                            Op::Undo => this.undo().await,
                            Op::Discard => this.discard().await,
                        }
                    });
                    let late = || {
                        let error = CallError::unknown(format!("no answer within {}s", deadline.as_secs()));
                        if is_effect { error } else { error.read_only() }
                    };
                    let result = within(deadline, call).await.unwrap_or_else(|| Err(late()));
                    let absent = is_on(Sabotage::Absence)
                        && result.as_ref().is_err_and(|e| e.message.starts_with(CRASHED));
                    let result = if absent { Ok(Yield::default()) } else { result };
                    let result = result.map_err(|mut e| {
                        e.message = job.scrub(&e.message);
                        e.hint = e.hint.map(|h| job.scrub(&h));
                        e.request_id = e.request_id.map(|id| job.scrub(&id));
                        if is_effect { e } else { e.read_only() }
                    });
                    let latency_ms = clock.now().mono_ms.saturating_sub(began);
                    Message::Performed { step, op, attempt, result, latency_ms }
                }
                Task::Observe { step, op, attempt } => {
                    let this = job.clone();
                    let look = unless_it_crashes(async move {
                        match op {
                            Op::Undo => this.observe_undo().await,
                            Op::Do | Op::Discard => this.observe_do().await,
                        }
                    });
                    let late = || Err(CallError::unknown("no answer in time"));
                    let result = within(deadline, look).await.unwrap_or_else(late).map_err(|mut e| {
                        e.message = sanitize(&job.scrub(&e.message));
                        e
                    });
                    Message::Observed { step, op, attempt, result }
                }
            };
            // The loop is gone only when the session ended with an error.
            let _ = send.send(message);
        });
    }

    /// How long a step may take. Steps that ask until they are sure, people, and consumers on their
    /// way back have their own patience.
    fn deadline(&self, job: &Job) -> Duration {
        const OWN_PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);
        let limit = self.plan.runbook.limits.deadline.get();
        let action = &self.plan.steps[job.step].action;
        if self.state.phase() == Some(Phase::Prepare) && self.state.may_defer() {
            // The kill never waits longer for the new credential.
            let now = self.engine.clock.now().wall;
            let left = KILL_WAITS.saturating_sub(since(now, self.state.entered()));
            return left.max(Duration::from_millis(50));
        }
        match action {
            action if action.asks() => OWN_PATIENCE,
            Action::Own { .. } | Action::Reload { .. } => OWN_PATIENCE,
            // What a lost reply left may have to be looked for in long lists.
            Action::Issue { .. } | Action::Sweep { .. } => limit.max(Duration::from_secs(10)) * 2,
            Action::Promote { .. } | Action::Disable { .. } | Action::Revoke { .. } => limit + LOOK_BEFORE,
            _ => limit,
        }
    }

    /// Waits for a message, a signal, or until `time` is over; then takes all messages that are there.
    async fn wait(&mut self, time: Duration) -> Result<(), EngineError> {
        // Short, so that the latch and requests are seen, and the display moves.
        let time = time.clamp(Duration::from_millis(1), TICK);
        let mut interrupt = self.engine.interrupt.clone();
        let interrupted = *interrupt.borrow();
        // In this order, so that the same events make the same record whenever they are played again.
        let first = tokio::select! {
            biased;
            message = self.receive.recv() => message,
            () = self.engine.clock.sleep(time) => None,
            _ = interrupt.wait_for(|i| *i), if !interrupted => None,
        };
        if let Some(message) = first {
            self.take(message)?;
        }
        while let Ok(message) = self.receive.try_recv() {
            self.take(message)?;
        }
        while self.calls.try_join_next().is_some() {}
        let now = self.engine.clock.now();
        if now.mono_ms.saturating_sub(self.last_record) >= HEARTBEAT.as_millis() as u64 {
            self.hold(Event::Heartbeat {})?;
        }
        self.engine.observer.tick(now, &self.state);
        Ok(())
    }

    /// Turns a message into an event.
    fn take(&mut self, message: Message) -> Result<(), EngineError> {
        match message {
            Message::Performed { step, op, attempt, result, latency_ms } => {
                let (ended, facts, checks, error) = match result {
                    Ok(done) => {
                        self.sealed.extend(done.sealed);
                        (Ended::Succeeded, done.facts, done.checks, None)
                    }
                    Err(e) => {
                        let ended = if e.in_doubt { Ended::Unknown } else { Ended::Rejected };
                        (ended, Facts::new(), Vec::new(), Some(failure(e)))
                    }
                };
                let step = self.plan.steps[step].id.clone();
                self.hold(Event::Outcome {
                    step,
                    op,
                    attempt,
                    result: ended,
                    facts,
                    checks,
                    error,
                    latency_ms,
                })
            }
            Message::Observed { step, op, attempt, result } => {
                self.wishes.observing.remove(&step);
                let (found, facts, detail) = match result {
                    Ok((found, facts)) => {
                        let detail = match &found {
                            Found::Applied => "the target shows that it took effect".to_owned(),
                            Found::Absent => "the target shows that it did not take effect".to_owned(),
                            Found::Orphans(handles) => {
                                format!(
                                    "it created {} whose secret was lost: {}",
                                    handles.len(),
                                    handles.join(", ")
                                )
                            }
                            Found::Repeatable => "it is harmless to repeat".to_owned(),
                            Found::Undecided => String::new(),
                        };
                        (found, facts, detail)
                    }
                    Err(e) => (Found::Undecided, Facts::new(), e.message),
                };
                let step = self.plan.steps[step].id.clone();
                self.hold(Event::Settled { step, op, attempt, found, facts, detail })
            }
            Message::Noted { text } => self.hold(Event::Noted { text }),
            Message::Judged { phase, gate, judgement } => {
                let same = self.state.judged().get(&gate).is_some_and(|(v, _)| *v == judgement.verdict);
                // A verdict of a phase that is over means nothing.
                if self.state.phase() != Some(phase) || same || *self.state.direction() != Direction::Forward
                {
                    return Ok(());
                }
                self.hold(Event::Judged { gate, verdict: judgement.verdict, detail: judgement.detail })
            }
            Message::Adopted { phase, found } => {
                if self.state.phase() != Some(phase) {
                    return Ok(());
                }
                for a in &found {
                    let key = (a.credential.clone(), a.consumer.clone());
                    if self.state.adopted().get(&key) != Some(&(a.instances, a.of)) {
                        let (credential, consumer) = key;
                        self.hold(Event::Adopted { credential, consumer, instances: a.instances, of: a.of })?;
                    }
                }
                let judgement = gate::adopted(&found);
                self.take(Message::Judged { phase, gate: ADOPTED.to_owned(), judgement })
            }
        }
    }

    /// Looks at the world before this session ends with `last`. A run is not done while others have undone
    /// what it wrote: then it stops instead.
    async fn last_word(&mut self, last: Event) -> Result<Event, EngineError> {
        self.look_once_more(&last).await?;
        if !matches!(last, Event::Closed { end: End::Done | End::NotProved }) {
            return Ok(last);
        }
        // A copy of a store may lag behind for a moment.
        for _ in 0..LAGS {
            if self.overtaken().is_empty() {
                return Ok(last);
            }
            self.engine.clock.sleep(LAG).await;
            self.look_once_more(&last).await?;
        }
        let credentials = self.overtaken();
        Ok(if credentials.is_empty() {
            last
        } else {
            Event::Stopped { reason: Stop::Overtaken { credentials } }
        })
    }

    /// The credentials that were just seen not to be as this run left them.
    fn overtaken(&self) -> Vec<String> {
        let truths = self.state.truths().into_iter();
        truths.filter(Truth::is_overtaken).map(|truth| truth.credential).collect()
    }

    /// Looks at the world, before this session ends with `last`, so that the summary tells what is and not
    /// what was meant. Whoever interrupts or halts is not kept waiting.
    async fn look_once_more(&mut self, last: &Event) -> Result<(), EngineError> {
        let wanted = match last {
            Event::Closed { end } => *end != End::Failed,
            Event::Stopped { reason } => {
                !matches!(reason, Stop::Halted | Stop::Interrupted | Stop::Unanswered { .. })
            }
            _ => false,
        };
        if !wanted || !self.state.has_changed_anything() {
            return Ok(());
        }
        let jobs = self.index.issues().iter().map(|step| (self.job(*step), None)).collect();
        let found = check::sights(jobs, LAST_LOOK).await;
        // What is not seen stays unseen: the summary then tells what the steps did.
        let missed: Vec<&str> = (self.plan.credentials.iter().zip(&found))
            .filter_map(|(planned, seen)| seen.is_none().then_some(planned.name.as_str()))
            .collect();
        if !missed.is_empty() {
            let text = format!(
                "stanch could not check these at the end, so their state is that of the last steps: {}",
                missed.join(", ")
            );
            self.hold(Event::Noted { text })?;
        }
        for (c, seen) in found.into_iter().enumerate() {
            if let Some(Seen { stores, outgoing, incoming }) = seen {
                let credential = self.plan.credentials[c].name.clone();
                self.hold(Event::Seen { credential, stores, outgoing, incoming })?;
            }
        }
        Ok(())
    }

    /// Folds an event in; it is committed with the next batch.
    fn hold(&mut self, mut event: Event) -> Result<(), EngineError> {
        // The one door to the record and to the screen.
        event.scrub(&|text| self.safe.clean(text));
        let now = self.engine.clock.now();
        self.state.apply(&event, now.wall)?;
        if let Event::Turned { .. } | Event::Stopped { .. } | Event::Closed { .. } | Event::Entered { .. } =
            event
        {
            self.stop_watching();
        }
        self.held.push(event);
        Ok(())
    }

    /// Says in every phase what is less safe than it should be.
    fn warn(&mut self) -> Result<(), EngineError> {
        if matches!(self.held.last(), Some(Event::Entered { .. })) {
            for text in self.engine.provider.warnings() {
                self.hold(Event::Noted { text })?;
            }
        }
        Ok(())
    }

    /// Makes what was held durable: first the seals, then the events.
    fn commit(&mut self) -> Result<(), EngineError> {
        if self.held.is_empty() && self.sealed.is_empty() {
            return Ok(());
        }
        self.engine.journal.keep_sealed(&self.sealed)?;
        self.sealed.clear();
        let now = self.engine.clock.now();
        self.engine.journal.commit(now, &self.held)?;
        self.last_record = now.mono_ms;
        self.engine.observer.recorded(now, &self.held, &self.state);
        self.held.clear();
        Ok(())
    }

    /// Starts to watch the gates of the present phase, unless they are watched already.
    async fn watch_gates(&mut self) -> Result<(), EngineError> {
        let Some(phase) = self.state.phase() else { return Ok(()) };
        if self.watching.as_ref().is_some_and(|(watched, _)| *watched == phase) {
            return Ok(());
        }
        self.stop_watching();
        let until = self.plan.phase(phase).map(|p| p.until.clone()).unwrap_or_default();
        let mut handles = Vec::with_capacity(until.len());
        for gate in until {
            handles.push(if gate == ADOPTED {
                let watched = self.watched().await;
                self.watch_adoption(phase, watched)
            } else {
                let spec = self.plan.runbook.gates[&gate].clone();
                self.watch_gate(phase, gate, spec)
            });
        }
        self.watching = Some((phase, handles));
        Ok(())
    }

    fn stop_watching(&mut self) {
        for gate in self.watching.take().map(|(_, gates)| gates).unwrap_or_default() {
            gate.abort();
        }
        while self.calls.try_join_next().is_some() {}
    }

    /// Every consumer that can say what it uses, with the value that it should use.
    async fn watched(&self) -> Vec<Result<Watched, Adoption>> {
        let mut watched = Vec::new();
        for c in 0..self.plan.credentials.len() {
            let (planned, credential) = self.plan.credential(c);
            let held = self.safe.get(&safe::incoming(&planned.name, self.index.round(&self.state, c)));
            for (at, spec) in credential.consumers.iter().enumerate().filter(|(_, s)| s.attest.is_some()) {
                let silent = |trouble: &str| Adoption {
                    credential: planned.name.clone(),
                    consumer: spec.name.clone(),
                    instances: 0,
                    of: 1,
                    trouble: Some(trouble.to_owned()),
                };
                let ask = self.engine.provider.consumer(&planned.name, credential, at).await;
                watched.push(match (ask, &held) {
                    (Ok(ask), Some(held)) => Ok(Watched {
                        credential: planned.name.clone(),
                        consumer: spec.name.clone(),
                        ask,
                        wanted: Arc::clone(&held.material),
                    }),
                    (Err(e), _) => Err(silent(&e.message)),
                    (Ok(_), None) => Err(silent("the new value is not known")),
                });
            }
        }
        watched
    }

    fn watch_adoption(&mut self, phase: Phase, watched: Vec<Result<Watched, Adoption>>) -> AbortHandle {
        let (send, clock) = (self.send.clone(), Arc::clone(&self.engine.clock));
        let deadline = self.plan.runbook.limits.deadline.get();
        let (mut asked, mut silent) = (Vec::new(), Vec::new());
        for one in watched {
            match one {
                Ok(watched) => asked.push(watched),
                Err(adoption) => silent.push(adoption),
            }
        }
        self.calls.spawn(async move {
            loop {
                let mut found = gate::adoptions(&asked, deadline).await;
                found.extend(silent.iter().cloned());
                if send.send(Message::Adopted { phase, found }).is_err() {
                    return;
                }
                clock.sleep(ADOPTION_EVERY).await;
            }
        })
    }

    fn watch_gate(&mut self, phase: Phase, name: String, spec: model::Gate) -> AbortHandle {
        let (send, clock) = (self.send.clone(), Arc::clone(&self.engine.clock));
        let provider = Arc::clone(&self.engine.provider);
        let deadline = self.plan.runbook.limits.deadline.get();
        self.calls.spawn(async move {
            let every = spec.every();
            let gate = provider.gate(&spec).await;
            loop {
                let judgement = match &gate {
                    Err(e) => Judgement { verdict: Verdict::Error, detail: e.message.clone() },
                    Ok(gate) => {
                        let gate = Arc::clone(gate);
                        let asked = unless_it_crashes(async move { Ok(gate.evaluate().await) });
                        let error = |detail: String| Judgement { verdict: Verdict::Error, detail };
                        match within(deadline, asked).await {
                            Some(Ok(judgement)) => judgement,
                            Some(Err(e)) => error(e.message),
                            None => error("no answer in time".into()),
                        }
                    }
                };
                if send.send(Message::Judged { phase, gate: name.clone(), judgement }).is_err() {
                    return;
                }
                clock.sleep(every).await;
            }
        })
    }
}

/// The result of a future, or `None` when it takes longer.
async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, future).await.ok()
}

/// How the message of a call begins that crashed.
const CRASHED: &str = "this step crashed";

/// A call that crashes is one whose outcome is unknown, never one that is not there.
async fn unless_it_crashes<T: Send + 'static>(
    call: impl Future<Output = Result<T, CallError>> + Send + 'static,
) -> Result<T, CallError> {
    let crashed = |_: JoinError| Err(CallError::unknown(format!("{CRASHED}; please report this")));
    AbortOnDropHandle::new(tokio::spawn(call)).await.unwrap_or_else(crashed)
}

/// What cannot be looked at may say stop.
fn unreadable(error: &LedgerError) -> Latch {
    Latch { by: "stanch".into(), reason: error.to_string() }
}

fn failure(error: CallError) -> Failure {
    Failure {
        kind: error.kind,
        message: sanitize(&error.message),
        hint: error.hint.map(|hint| sanitize(&hint)),
        request_id: error.request_id,
        retry_after_ms: error.retry_after.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
    }
}
