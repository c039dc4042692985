//! The loop of one session: what may be done next is begun, what came of it is recorded.

mod approval;
mod ending;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::calls::{Message, carry_out, outcome, settled};
use super::safe::Safe;
use super::step::{Earlier, Handler, Index, Job};
use super::{Conduct, Engine, EngineError};
use crate::calendar::Windows;
use crate::clock::since;
use crate::domain::{ADOPTED, Opening, Phase, REFUSED};
use crate::gate::{self, Adoption};
use crate::journal::{Latch, Latches, LedgerError, SealedEntry};
use crate::plan::Plan;
use crate::rotation::{Direction, Event, KILL_WAITS, Next, Op, State, Task, Wishes};
use crate::sabotage::{Sabotage, is_on};

/// How often the latch and requests are looked at while nothing else happens.
const TICK: Duration = Duration::from_millis(200);
/// How often a run that only waits says that it still does.
const HEARTBEAT: Duration = Duration::from_secs(60);

/// One session's work on a run.
pub(super) struct Session {
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
    /// The consumers that named another value than the new one, when they were last asked.
    fell_back: Vec<String>,
    silent: Vec<String>,
    rollback: Option<(Option<Phase>, String)>,
    windows: Windows,
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
    /// Begins a session.
    pub(super) fn open(engine: Engine, state: State, conduct: Conduct) -> Result<Self, EngineError> {
        let (safe, fresh) = Safe::open(Arc::clone(&engine.sealer), &engine.journal.sealed()?)?;
        engine.provider.secrets().into_iter().for_each(|secret| safe.know(secret));
        let (send, receive) = mpsc::unbounded_channel();
        let plan = Arc::clone(state.plan());
        Ok(Self {
            index: Index::of(&plan),
            safe: Arc::new(safe),
            wishes: Wishes {
                until: conduct.until,
                no_wait: conduct.no_wait,
                unattended: conduct.unattended,
                ..Wishes::default()
            },
            calls: JoinSet::new(),
            watching: None,
            held: Vec::new(),
            sealed: fresh.into_iter().collect(),
            fell_back: Vec::new(),
            silent: Vec::new(),
            last_record: engine.clock.now().mono_ms,
            rollback: conduct.rollback,
            windows: conduct.windows,
            send,
            receive,
            cancel: CancellationToken::new(),
            latches: engine.journal.latches(),
            places: Arc::new(Semaphore::new(plan.runbook.limits.concurrency.max(1))),
            engine,
            plan,
            state,
        })
    }

    /// Works until the run is over or this session must stop.
    pub(super) async fn run(mut self) -> Result<State, EngineError> {
        let done = self.run_loop().await;
        // Nothing that was looking may outlive the session; effects were awaited.
        self.calls.abort_all();
        done.map(|()| self.state)
    }

    async fn run_loop(&mut self) -> Result<(), EngineError> {
        loop {
            self.check_requests()?;
            let now = self.engine.clock.now();
            // A step that waits between two questions holds no place.
            let busy = self.state.under_way() - self.state.asking() + self.wishes.observing.len();
            self.wishes.capacity = self.plan.runbook.limits.concurrency.saturating_sub(busy);
            self.look_at_windows(now.wall);
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

    /// When the next deployment window opens. One that was found holds until it opens.
    fn look_at_windows(&mut self, now: Timestamp) {
        let foreseen = match self.state.foreseen() {
            Opening::At(at) => at > now,
            Opening::Never => true,
            Opening::Now => !self.state.may_hurry(),
        };
        if !foreseen {
            self.state.foresee(self.windows.next(now));
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
    fn check_requests(&mut self) -> Result<(), EngineError> {
        if *self.engine.interrupt.borrow() {
            self.wishes.interrupted = true;
        }
        let mut latch = self.latch();
        match self.engine.journal.take_request() {
            Ok(Some(request)) => self.rollback = Some((request.to, request.why)),
            Ok(None) => {}
            Err(e) => latch = latch.or_else(|| Some(unreadable(&e))),
        }
        if self.plan.approvals.is_some() {
            self.take_approvals()?;
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
                let from = self.state.undone_first();
                self.hold(Event::Turned { to, why, by_gate: false, from })?;
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
                    self.hold(Event::Intent { step: id, op, attempt, round })?;
                    let job = self.job(step);
                    if op == Op::Do {
                        self.sealed.extend(job.seal_candidate().await?);
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

    /// The run as the next step finds it.
    fn earlier(&self) -> Earlier<'_> {
        Earlier { index: &self.index, state: &self.state, run: self.engine.journal.run() }
    }

    fn job(&self, step: usize) -> Job {
        let earlier = self.earlier();
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
            context: earlier.context(step, self.engine.clock.now().wall),
            known: earlier.known(step),
            handler: Handler::of(&self.plan.steps[step].action, &earlier),
        }
    }

    /// Starts what has a durable intent.
    fn start(&mut self, jobs: Vec<(Task, Job)>) {
        for (task, job) in jobs {
            let (send, limit) = (self.send.clone(), self.limit(&job));
            self.calls.spawn(async move {
                // The loop is gone only when the session ended with an error.
                let _ = send.send(carry_out(task, job, limit).await);
            });
        }
    }

    /// How long a step may take.
    fn limit(&self, job: &Job) -> Duration {
        let now = self.engine.clock.now().wall;
        let kills = self.state.may_defer() && self.state.is_approved(Phase::Sunset, now);
        if self.state.phase() == Some(Phase::Prepare) && kills {
            // The kill never waits longer for the new credential.
            let left = KILL_WAITS.saturating_sub(since(now, self.state.entered()));
            return left.max(Duration::from_millis(50));
        }
        job.limit()
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
            self.handle(message)?;
        }
        while let Ok(message) = self.receive.try_recv() {
            self.handle(message)?;
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
    fn handle(&mut self, message: Message) -> Result<(), EngineError> {
        match message {
            Message::Performed { step, op, attempt, result, latency_ms } => {
                let step = self.plan.steps[step].id.clone();
                let (event, sealed) = outcome(step, op, attempt, result, latency_ms);
                self.sealed.extend(sealed);
                self.hold(event)
            }
            Message::Observed { step, op, attempt, result } => {
                self.wishes.observing.remove(&step);
                let step = self.plan.steps[step].id.clone();
                self.hold(settled(step, op, attempt, result))
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
            Message::LetIn { phase, step, judgement } => {
                if self.state.phase() != Some(phase) {
                    return Ok(());
                }
                let (step, detail) = (self.plan.steps[step].id.clone(), judgement.detail.clone());
                self.hold(Event::LetIn { step, detail })?;
                self.handle(Message::Judged { phase, gate: REFUSED.to_owned(), judgement })
            }
            Message::Adopted { phase, found } => {
                if self.state.phase() != Some(phase) {
                    return Ok(());
                }
                for adoption in &found {
                    self.hold_adoption(adoption)?;
                }
                let judgement = gate::adopted(&found);
                self.handle(Message::Judged { phase, gate: ADOPTED.to_owned(), judgement })
            }
        }
    }

    /// Puts on the record how many instances of a consumer use the new credential, where that changed.
    fn hold_adoption(&mut self, found: &Adoption) -> Result<(), EngineError> {
        let key = (found.credential.clone(), found.consumer.clone());
        let (instances, of) = (found.instances, found.of);
        if self.state.adopted().get(&key) == Some(&(instances, of)) {
            return Ok(());
        }
        let (credential, consumer) = key;
        self.hold(Event::Adopted { credential, consumer, instances, of })
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
}

/// What cannot be looked at may say stop.
fn unreadable(error: &LedgerError) -> Latch {
    Latch { by: "stanch".into(), reason: error.to_string() }
}
