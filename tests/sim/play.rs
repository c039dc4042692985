//! Plays a schedule: the real engine over the sandbox in memory, on a virtual clock, in one thread.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use stanch::clock::{Clock, Moment, add};
use stanch::domain::{ErrorKind, Life, Observation, Phase, Strategy};
use stanch::engine::{Answer, Choices, Conduct, Engine, EngineError, Observer, Operator, survey};
use stanch::journal::{
    Journal, Latch, Latches, Ledger, LedgerError, MemoryLedger, Record, RollbackRequest, SealedEntry,
    StateDir,
};
use stanch::plan::{Plan, Request, compile};
use stanch::provider::Provider;
use stanch::provider::sandbox::{Fault, Sandbox};
use stanch::rotation::{End, Event, Op, State, Status, Stop};
use stanch::runbook::model::{Credential, Runbook};
use stanch::secret::Sealer;
use tokio::sync::{Notify, watch};

use crate::model::{Model, Violation};
use crate::script::{self, AtCall, AtCommit, Before, Deed, Hand, Script, Session, Weather, whose};

/// How long servers take to flush what they acknowledged.
const UNFLUSHED: Duration = Duration::from_millis(300);
/// How long after nobody waits for an answer any more a request may still take effect.
const LATE: Duration = Duration::from_secs(3);
/// Who works on the run, and where.
const WHO: (&str, &str) = ("tester", "here");
/// How many sessions a schedule may take. Nothing befalls the last ones, so they must come to an end.
const SESSIONS: u32 = 60;
/// How long a person takes to find out what became of a step: longer than any call is under way.
const PERSON: Duration = Duration::from_secs(60);
/// After how many sessions a person gives up a run in whose world others have hands.
const GIVES_UP: u32 = 45;

/// What came of a schedule.
#[derive(Debug, Default)]
pub(crate) struct Played {
    pub(crate) violation: Option<Violation>,
    /// How often each thing really happened.
    pub(crate) happened: BTreeMap<String, u64>,
    /// The schedule with everything that was drawn.
    pub(crate) script: Option<Script>,
    /// What happened, in order; the same whenever the same schedule is played.
    pub(crate) trace: Vec<String>,
    pub(crate) digest: u64,
}

/// What is drawn, and what happened.
struct Fate {
    script: Script,
    /// `None` when a schedule is played again: then nothing new is drawn.
    drawing: Option<(StdRng, Weather)>,
    calls: u32,
    commits: u32,
    sessions: u32,
    spent: u32,
    /// The kind of call that is not permitted any more in this session.
    denied: Option<&'static str>,
    /// The credentials of which a revocation was answered and not done.
    hollow: BTreeSet<String>,
    /// The own steps that took effect, with how often.
    applied: BTreeMap<String, u32>,
    happened: BTreeMap<String, u64>,
    trace: Option<Vec<String>>,
    began: tokio::time::Instant,
    hasher: std::collections::hash_map::DefaultHasher,
}

impl Fate {
    /// Whether this is the first revocation of a credential with a check that refuses everybody.
    fn is_hollow(&mut self, name: &str) -> bool {
        let blind = (self.script.credentials.iter().enumerate())
            .any(|(at, spec)| spec.blind && script::name(at) == name);
        self.script.hands && blind && self.hollow.insert(name.to_owned())
    }

    fn note(&mut self, what: impl AsRef<str>) {
        what.as_ref().hash(&mut self.hasher);
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:10.3} s  {}", self.began.elapsed().as_secs_f64(), what.as_ref()));
        }
    }

    fn count(&mut self, what: impl Into<String>) {
        let what = what.into();
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:10.3} s  ! {what}", self.began.elapsed().as_secs_f64()));
        }
        *self.happened.entry(what).or_default() += 1;
    }

    /// Whether something may still be drawn.
    fn can_draw(&self) -> bool {
        self.drawing.as_ref().is_some_and(|(_, weather)| self.spent < weather.budget)
    }

    fn at_call(&mut self) -> Option<AtCall> {
        self.calls += 1;
        if self.can_draw() {
            let deadline = self.script.deadline_ms;
            let (rng, weather) = self.drawing.as_mut()?;
            if let Some(event) = script::at_call(rng, *weather, deadline) {
                self.script.calls.insert(self.calls, event);
                self.spent += 1;
            }
        }
        self.script.calls.get(&self.calls).copied()
    }

    fn at_commit(&mut self) -> Option<AtCommit> {
        self.commits += 1;
        if self.can_draw() {
            let (rng, weather) = self.drawing.as_mut()?;
            if let Some(event) = script::at_commit(rng, *weather) {
                self.script.commits.insert(self.commits, event);
                self.spent += 1;
            }
        }
        self.script.commits.get(&self.commits).copied()
    }

    fn session(&mut self) -> Session {
        self.sessions += 1;
        self.denied = None;
        if self.can_draw() {
            let first = self.sessions == 1;
            let Some((rng, weather)) = self.drawing.as_mut() else { return Session::default() };
            let session = script::session(rng, *weather, first);
            if session != Session::default() {
                self.script.sessions.insert(self.sessions, session);
                self.spent += 1;
            }
        }
        self.script.sessions.get(&self.sessions).copied().unwrap_or_default()
    }
}

/// What all parts of a schedule share.
#[derive(Clone)]
struct Shared {
    fate: Arc<Mutex<Fate>>,
    model: Arc<Model>,
    world: Sandbox,
    /// Consumers that say what they use: their reads may lag, since somebody waits for them.
    crash: Arc<Notify>,
    plan: Arc<OnceLock<Arc<Plan>>>,
    paths: Arc<Vec<Vec<String>>>,
    interrupt: Arc<watch::Sender<bool>>,
    ledger: Arc<dyn Ledger>,
}

impl Shared {
    fn fate(&self) -> MutexGuard<'_, Fate> {
        self.fate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody sets the latch.
    fn halt(&self) {
        let latch = Latch { by: "somebody".into(), reason: "stop".into() };
        poll_now(self.ledger.set_latch(None, &latch)).expect("the latch");
        self.model.set_latched(true);
    }

    /// What befalls the next call.
    fn befall(&self, op: &'static str, target: &str) -> Option<Fault> {
        let target = whose(target);
        self.model.called(op, target);
        let reads = matches!(
            op,
            "identify" | "list" | "inspect" | "life" | "use" | "observe" | "read" | "attest" | "gate"
        );
        let mut fate = self.fate();
        let event = fate.at_call();
        let denied = fate.denied == Some(op);
        // Steps with a patience of their own wait for a day; their servers answer.
        let patient = matches!(op, "reload" | "call" | "use" | "attest" | "gate");
        // An authority that cannot be asked may say what it likes: nothing in its world shows a lie.
        let told = self.plan.get().is_none_or(|plan| {
            let planned = plan.credentials.iter().find(|planned| planned.name == target);
            planned.is_none_or(|planned| planned.issuer.change == Observation::Readable)
        });
        let (name, fault) = match event {
            // What a check answers is not a call of its own.
            event if op == "answer" && event != Some(AtCall::Lie) => ("", Fault::Twice),
            // Where a check refuses everybody, only the issuer shows that the first revocation was none.
            _ if op == "revoke" && fate.is_hollow(target) && told => {
                ("answered, and not done", Fault::Hollow)
            }
            _ if denied => ("permission withdrawn", Fault::Reject(ErrorKind::Denied)),
            None => ("", Fault::Twice),
            Some(AtCall::LostRequest) => ("lost request", Fault::LostRequest),
            Some(AtCall::LostReply) => ("lost reply", Fault::LostReply),
            Some(AtCall::ServerError(true)) => ("5xx, and it took effect", Fault::LostReply),
            Some(AtCall::ServerError(false)) => ("5xx, and it did not", Fault::LostRequest),
            Some(AtCall::Twice) if op == "issue" => {
                self.model.repeated();
                ("a creation delivered twice", Fault::Twice)
            }
            Some(AtCall::Twice) => ("delivered twice", Fault::Twice),
            Some(AtCall::Panic) if fate.script.hands && op != "answer" => {
                ("the program crashed", Fault::Panic)
            }
            Some(AtCall::Hollow) if fate.script.hands && matches!(op, "revoke" | "logout") && told => {
                ("answered, and not done", Fault::Hollow)
            }
            Some(AtCall::Lie) if fate.script.hands && op == "answer" => {
                ("a check or a consumer lied", Fault::Twice)
            }
            Some(AtCall::Throttled) => ("throttled", Fault::Throttle(Duration::from_millis(1_500))),
            Some(AtCall::Unreachable) => ("unreachable", Fault::Reject(ErrorKind::Unreachable)),
            Some(AtCall::Sealed) => ("not ready", Fault::Reject(ErrorKind::NotReady)),
            Some(AtCall::Slow(ms)) => ("slow", Fault::Delay(Duration::from_millis(ms))),
            Some(AtCall::Stalled(applied)) if !patient => {
                ("no answer by the deadline", Fault::Stall(applied))
            }
            Some(AtCall::PastDeadline(ms)) if !patient && !reads => {
                // Under `contain` the kill waits two seconds for the new credential, and gives the call up.
                let kill = op == "issue" && fate.script.strategy == Strategy::Contain;
                let given_up =
                    if kill { fate.script.deadline_ms.min(2_000) } else { fate.script.deadline_ms };
                let late = Duration::from_millis(given_up + ms);
                ("took effect past the deadline", Fault::Late(late))
            }
            Some(AtCall::Stale(ms)) if reads && op != "attest" => {
                ("stale read", Fault::Lag(Duration::from_millis(ms)))
            }
            Some(AtCall::Denied) => {
                fate.denied = Some(op);
                ("permission withdrawn", Fault::Reject(ErrorKind::Denied))
            }
            // A value that a stranger wrote and that the run never read is nobody's to take out.
            Some(AtCall::Quoted)
                if matches!(op, "stage" | "promote" | "retire") && !self.model.is_touched(target) =>
            {
                ("quoted a secret", Fault::Quote)
            }
            Some(AtCall::Restart) if self.model.may_forget() => {
                self.model.forgets();
                ("restart, unflushed work lost", Fault::Restart(UNFLUSHED))
            }
            Some(AtCall::Halt) => {
                self.halt();
                fate.count("operator: halt in a call");
                ("", Fault::Twice)
            }
            Some(AtCall::Crash(applied)) => {
                self.crash.notify_one();
                (
                    if applied { "crash between call and outcome" } else { "crash in a call" },
                    Fault::Stall(applied),
                )
            }
            Some(_) => ("", Fault::Twice),
        };
        let fault = (!name.is_empty()).then_some(fault);
        if fault.is_some() {
            fate.count(format!("call: {name}"));
        }
        if op == "call" {
            let applied = match fault {
                None => 1,
                Some(Fault::Twice) => 2,
                Some(Fault::LostReply | Fault::Delay(_) | Fault::Stall(true)) => 1,
                Some(_) => 0,
            };
            *fate.applied.entry(target.to_owned()).or_default() += applied;
        }
        fate.note(format!("call {op} {target} {name}"));
        fault
    }
}

impl Shared {
    /// Somebody else changes the world, past stanch.
    fn lay_hands(&self, hand: Hand) -> &'static str {
        let Some(plan) = self.plan.get() else { return "hand: nothing there" };
        let c = hand.credential % plan.credentials.len();
        let (planned, credential) = plan.credential(c);
        let paths = &self.paths[c];
        let path = (!paths.is_empty()).then(|| &paths[hand.store % paths.len()]);
        let old = planned.outgoing.as_ref().map(|o| o.handle.clone());
        let new = self.model.incoming(&planned.name);
        let change = |handle: Option<String>, life| {
            handle.map(|h| self.world.change_by_hand(&h, life).expect("world")).is_some()
        };
        let write = |handle: Option<String>| {
            path.zip(handle).map(|(p, h)| self.world.write_by_hand(p, &h, &[]).expect("world")).is_some()
        };
        let log_in =
            |handle: Option<String>| handle.map(|h| self.world.log_in_by_hand(&h).expect("world")).is_some();
        let mint = || Some(self.world.mint_by_hand(&planned.name, credential).expect("world"));
        let (name, done) = self.model.by_hand(|| match hand.what {
            Deed::DeleteOld => ("hand: deleted the old one", change(old, Life::Gone)),
            Deed::DisableOld => ("hand: disabled the old one", change(old, Life::Disabled)),
            Deed::EnableOld => ("hand: enabled the old one", change(old, Life::Active)),
            Deed::DeleteNew => ("hand: deleted the new one", change(new, Life::Gone)),
            Deed::DisableNew => ("hand: disabled the new one", change(new, Life::Disabled)),
            Deed::Mint => ("hand: made another one", mint().is_some()),
            Deed::WriteOld => ("hand: wrote the old one into a store", write(old)),
            Deed::WriteNew => ("hand: wrote the new one into a store", write(new)),
            Deed::LogInOld => ("hand: logged in with the old one", log_in(old)),
            Deed::LogInNew => ("hand: logged in with the new one", log_in(new)),
            Deed::WriteStranger => ("hand: wrote another one into a store", write(mint())),
        });
        if done { name } else { "hand: nothing there" }
    }
}

/// A file that the journal is written to.
struct Disk {
    path: PathBuf,
    /// How long it is, as far as it is durable.
    durable: u64,
}

impl Disk {
    fn of(dir: &StateDir, run: &str) -> Self {
        let path = dir.journal_path(run);
        Self { durable: length(&path), path }
    }
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).expect("journal").len()
}

/// The run's journal on a disk that has its own fate.
struct Journaled {
    shared: Shared,
    inner: Box<dyn Journal>,
    /// Where the journal is one in files.
    disk: Option<Disk>,
    poisoned: bool,
}

impl Journaled {
    /// Writes events and makes the first `keep` of them durable.
    fn write(&mut self, at: Moment, events: &[Event], keep: usize) -> Result<(), LedgerError> {
        let Some(disk) = &mut self.disk else {
            self.inner.commit(at, &events[..keep])?;
            self.shared.model.durable(&events[..keep]);
            return Ok(());
        };
        self.inner.commit(at, events)?;
        let end = length(&disk.path);
        if keep < events.len() {
            // A part of the last write, cut anywhere.
            let span = end - disk.durable;
            let kept = disk.durable + span * keep as u64 / (events.len() as u64 + 1) + span % 7;
            let file = std::fs::OpenOptions::new().write(true).open(&disk.path).expect("journal");
            file.set_len(kept.min(end - 1)).expect("cut");
            // What is whole is on record.
            let text = std::fs::read(&disk.path).expect("journal");
            let whole = text[usize::try_from(disk.durable).expect("small")..]
                .split_inclusive(|b| *b == b'\n')
                .filter(|l| l.ends_with(b"\n"))
                .count();
            self.shared.model.durable(&events[..whole.min(events.len())]);
            return Ok(());
        }
        disk.durable = end;
        self.shared.model.durable(&events[..keep]);
        Ok(())
    }
}

impl Journal for Journaled {
    fn run(&self) -> &str {
        self.inner.run()
    }

    fn commit(&mut self, at: Moment, events: &[Event]) -> Result<(), LedgerError> {
        if self.poisoned {
            return Err(LedgerError::Poisoned);
        }
        if events.is_empty() {
            return Ok(());
        }
        let event = {
            let mut fate = self.shared.fate();
            for event in events {
                let text = match event {
                    Event::Opened { .. } => "opened".to_owned(),
                    Event::Outcome { step, op, attempt, result, .. } => {
                        format!("{step} {op:?} {attempt} {result:?}")
                    }
                    Event::Settled { step, op, attempt, found, .. } => {
                        format!("{step} {op:?} {attempt} {found:?}")
                    }
                    other => format!("{other:?}"),
                };
                fate.note(format!("record {text}"));
            }
            fate.at_commit()
        };
        let kept = |keep: u32| (keep as usize) % (events.len() + 1);
        match event {
            Some(AtCommit::CrashWithin { keep }) => {
                self.shared.fate().count("commit: crash within a write");
                self.write(at, events, kept(keep))?;
                self.poisoned = true;
                return Err(LedgerError::Poisoned);
            }
            Some(AtCommit::CrashAfter) => {
                let intents = events.iter().any(|e| matches!(e, Event::Intent { .. }));
                let what = if intents {
                    "commit: crash between intent and call"
                } else {
                    "commit: crash after a write"
                };
                self.shared.fate().count(what);
                self.write(at, events, events.len())?;
                self.poisoned = true;
                return Err(LedgerError::Poisoned);
            }
            Some(AtCommit::DiskFails { keep }) => {
                self.shared.fate().count("commit: disk failed or full");
                self.write(at, events, kept(keep).min(events.len() - 1))?;
                self.poisoned = true;
                return Err(LedgerError::Io {
                    doing: "append to",
                    place: "journal.jsonl".into(),
                    source: std::io::Error::from(std::io::ErrorKind::StorageFull).into(),
                });
            }
            _ => self.write(at, events, events.len())?,
        }
        let over = events.iter().any(|e| matches!(e, Event::Closed { .. } | Event::Stopped { .. }));
        let what = match event {
            Some(AtCommit::Halt) if !over => {
                self.shared.halt();
                "operator: halt"
            }
            Some(AtCommit::Rollback { to }) if !over => {
                let request = RollbackRequest { to, why: "asked".into() };
                poll_now(self.shared.ledger.request(self.run(), &request)).expect("the request");
                if to.is_some() { "operator: rollback to a phase" } else { "operator: rollback" }
            }
            Some(AtCommit::Interrupt) if !over => {
                self.shared.interrupt.send_replace(true);
                "operator: Ctrl-C"
            }
            Some(AtCommit::SecondRun) if !over => "operator: second run",
            Some(AtCommit::Hand(hand)) if !over => self.shared.lay_hands(hand),
            _ => return Ok(()),
        };
        self.shared.fate().count(what);
        if what == "operator: second run" {
            self.second_run();
        }
        Ok(())
    }

    fn latches(&self) -> Arc<dyn Latches> {
        self.inner.latches()
    }

    fn take_request(&mut self) -> Result<Option<RollbackRequest>, LedgerError> {
        self.inner.take_request()
    }

    fn take_approvals(&mut self) -> Result<Vec<stanch::approve::Signed>, LedgerError> {
        self.inner.take_approvals()
    }

    fn keep_sealed(&mut self, entries: &[SealedEntry]) -> Result<(), LedgerError> {
        self.inner.keep_sealed(entries)
    }

    fn sealed(&self) -> Result<Vec<SealedEntry>, LedgerError> {
        self.inner.sealed()
    }

    fn close(&mut self) -> Result<(), LedgerError> {
        self.inner.close()
    }
}

impl Journaled {
    /// Another run of the same runbook must be refused while this one is open.
    fn second_run(&self) {
        let ledger = &self.shared.ledger;
        let plan = Arc::clone(poll_now(ledger.load(self.run())).expect("load").plan());
        let now = Moment { wall: Timestamp::UNIX_EPOCH, mono_ms: 0 };
        let second = poll_now(ledger.open(&plan, None, ("other", "there"), now));
        if !matches!(second, Err(LedgerError::Held { .. })) {
            self.shared.model.blame(4, "a second run of the same runbook was let in");
        }
    }
}

/// What a ledger answers. None of those here ever waits.
fn poll_now<T>(answer: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(answer).poll(&mut context) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("a ledger waits"),
    }
}

/// The virtual clock of one session: what the machine believes the time to be, when the process began.
struct Virtual {
    wall: Timestamp,
    start: tokio::time::Instant,
}

#[async_trait]
impl Clock for Virtual {
    fn now(&self) -> Moment {
        let elapsed = self.start.elapsed();
        Moment {
            wall: add(self.wall, elapsed),
            mono_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        }
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

struct Person {
    silent: bool,
}

#[async_trait]
impl Operator for Person {
    async fn ask(&self, _name: &str, _question: &str) -> Answer {
        if self.silent { Answer::Nobody } else { Answer::Yes }
    }
}

struct Nobody;

impl Observer for Nobody {
    fn recorded(&mut self, _at: Moment, _events: &[Event], _state: &State) {}
    fn tick(&mut self, _at: Moment, _state: &State) {}
}

/// Plays a schedule that is drawn from its seed.
pub(crate) fn draw(seed: u64, traced: bool) -> Played {
    let (script, weather, rng) = Script::draw(seed);
    play(script, Some((rng, weather)), traced)
}

/// Plays a schedule as it was drawn.
pub(crate) fn again(script: Script, traced: bool) -> Played {
    play(script, None, traced)
}

fn play(script: Script, drawing: Option<(StdRng, Weather)>, traced: bool) -> Played {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(schedule(script.clone(), drawing, traced))
    }));
    result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_owned())).unwrap_or_default();
        let violation = Some(Violation { invariant: 0, what: format!("a panic: {text}") });
        Played { violation, script: Some(script), ..Played::default() }
    })
}

async fn schedule(script: Script, drawing: Option<(StdRng, Weather)>, traced: bool) -> Played {
    let (wall, began) = ("2026-01-01T00:00:00Z".parse().expect("moment"), tokio::time::Instant::now());
    // No server's clock jumps when the operator's does.
    let clock = Arc::new(Virtual { wall, start: began });
    let world = Sandbox::in_memory(script.seed).with_clock(clock);
    let model = Arc::new(Model::default());
    world.watched_by(Arc::clone(&model) as Arc<dyn stanch::provider::sandbox::Witness>);
    let runbook = script.runbook();
    for (name, credential) in &runbook.credentials {
        world.seed(name, credential).expect("seed");
    }
    let quiet: Arc<dyn Provider> = Arc::new(world.clone());
    model.expect(script.hands, script.calm);
    if let Some((c, what)) = script.before {
        tamper(&world, &quiet, &runbook, c, what).await;
    }
    let unknown = matches!(script.before, Some((_, Before::Mistyped | Before::Deleted)));
    let observed = survey(&quiet, &runbook, &Choices::default()).await;
    let request = Request {
        environment: "sandbox".into(),
        sandbox: true,
        runbook_sha256: String::new(),
        tool: "simulation".into(),
        directory: None,
    };
    // What is known by its handle alone, and is gone, cannot even be observed.
    let compiled = match observed {
        Err(error) if unknown && error.source.kind == ErrorKind::NotFound => None,
        observed => Some(compile(runbook, &request, observed.expect("survey"))),
    };
    if unknown {
        let mut played = Played { script: Some(script), ..Played::default() };
        played.happened.insert("hand: before the run, and no plan was made".into(), 1);
        if compiled.is_some_and(|compiled| compiled.is_ok()) {
            let what = "a plan was made for a value that its issuer does not know".into();
            played.violation = Some(Violation { invariant: 2, what });
        }
        return played;
    }
    let plan = Arc::new(compiled.expect("observed").expect("plan"));
    let files = script.files.then(|| tempfile::tempdir().expect("a folder"));
    let state = files.as_ref().map(|f| StateDir::open(&f.path().join("state")).expect("state folder"));
    let ledger: Arc<dyn Ledger> = match &state {
        Some(dir) => Arc::new(dir.clone()),
        None => Arc::new(MemoryLedger::default()),
    };
    let (interrupt, _) = watch::channel(false);
    let shared = Shared {
        fate: Arc::new(Mutex::new(Fate {
            script,
            drawing,
            calls: 0,
            commits: 0,
            sessions: 0,
            spent: 0,
            denied: None,
            hollow: BTreeSet::new(),
            applied: BTreeMap::new(),
            happened: BTreeMap::new(),
            trace: traced.then(Vec::new),
            began: tokio::time::Instant::now(),
            hasher: std::collections::hash_map::DefaultHasher::new(),
        })),
        model: Arc::clone(&model),
        world,
        crash: Arc::new(Notify::new()),
        plan: Arc::new(OnceLock::from(Arc::clone(&plan))),
        paths: Arc::new(paths(&plan)),
        interrupt: Arc::new(interrupt),
        ledger,
    };
    let mut run =
        Run { shared: shared.clone(), state, paths: paths(&plan), plan, id: String::new(), began, wall };
    // The world as it stood before is long flushed.
    tokio::time::sleep(UNFLUSHED * 10).await;
    run.sessions().await;
    run.last_checks();
    let mut fate = shared.fate();
    let digest = fate.hasher.finish();
    Played {
        violation: model.violation(),
        happened: std::mem::take(&mut fate.happened),
        script: Some(fate.script.clone()),
        trace: fate.trace.take().unwrap_or_default(),
        digest,
    }
}

/// What somebody did before the run was planned.
async fn tamper(world: &Sandbox, quiet: &Arc<dyn Provider>, runbook: &Runbook, c: usize, what: Before) {
    let (name, credential) = runbook.credentials.iter().nth(c).expect("a credential");
    let issuer = quiet.issuer(name, credential).await.expect("issuer");
    let handle = match &credential.outgoing {
        Some(named) => named.clone(),
        None => {
            let store = quiet.store(name, credential, 0).await.expect("store");
            let old = store.read(None).await.expect("value");
            issuer.identify(&old).await.expect("identify").expect("known").identity.handle
        }
    };
    match what {
        Before::Mistyped => {
            for path in places(credential) {
                world.mistype_by_hand(&path).expect("world");
            }
        }
        Before::Disabled => world.change_by_hand(&handle, Life::Disabled).expect("world"),
        Before::Deleted => world.change_by_hand(&handle, Life::Gone).expect("world"),
    }
}

/// The stores' places in the world, by credential and store.
fn paths(plan: &Plan) -> Vec<Vec<String>> {
    plan.runbook.credentials.values().map(places).collect()
}

fn places(credential: &Credential) -> Vec<String> {
    credential.stores.iter().map(|store| store.stand_in()).collect()
}

struct Run {
    shared: Shared,
    /// Where the journal is one in files.
    state: Option<StateDir>,
    plan: Arc<Plan>,
    paths: Vec<Vec<String>>,
    id: String,
    began: tokio::time::Instant,
    wall: Timestamp,
}

impl Run {
    fn clock(&self, jump_ms: i64) -> Arc<Virtual> {
        let wall = add(self.wall, self.began.elapsed());
        let wall = wall.checked_add(SignedDuration::from_millis(jump_ms)).expect("in range");
        Arc::new(Virtual { wall, start: tokio::time::Instant::now() })
    }

    /// Sessions, one after the other, until the run is over.
    async fn sessions(&mut self) {
        let mut state: Option<State> = None;
        for number in 1..=SESSIONS {
            let session = self.shared.fate().session();
            if session.jump_ms != 0 {
                let way = if session.jump_ms > 0 { "ahead" } else { "back" };
                self.shared.fate().count(format!("clock: jump {way}"));
                self.shared.model.jumps();
            }
            tokio::time::sleep(Duration::from_millis(session.pause_ms)).await;
            let clock = self.clock(session.jump_ms);
            let stopped = state.as_ref().and_then(|s| s.stopped().cloned());
            let opened =
                if number == 1 { self.open(&clock) } else { self.resume(&clock, session, stopped.as_ref()) };
            let Some((journal, begun)) = opened else { continue };
            if begun.end().is_some() {
                self.over(&begun);
                return;
            }
            let rollback = self.wanted(session, &begun, state.as_ref());
            let conduct = Conduct {
                unattended: false,
                until: session.until,
                no_wait: session.no_wait,
                rollback: rollback.map(|to| (to, "asked".to_owned())),
                windows: Default::default(),
            };
            let result = self.session(journal, begun, &conduct, &clock, session.silent).await;
            // Nothing of the process is left; what was on its way may still arrive.
            self.shared.world.hang_up(LATE);
            self.shared.model.idle();
            if self.shared.model.violation().is_some() {
                return;
            }
            match result {
                Some(Ok(ended)) => {
                    self.shared.fate().note(format!("stopped {:?}", ended.stopped()));
                    self.shared.model.check_way_back(&ended);
                    self.shared.model.check_summary(&ended, &self.paths);
                    if ended.end().is_some() {
                        self.over(&ended);
                        return;
                    }
                    if let Some(Stop::Unknown { .. }) = ended.stopped() {
                        // People take their time: what is still under way has arrived when they look.
                        tokio::time::sleep(PERSON).await;
                    }
                    self.mend(&ended, &clock);
                    if self.has_hands() && number > GIVES_UP {
                        self.abandon(&ended, &clock);
                        return;
                    }
                    state = Some(ended);
                }
                Some(Err(EngineError::Illegal(error))) => {
                    self.shared.model.blame(0, format!("the engine contradicts itself: {error}"));
                    return;
                }
                Some(Err(EngineError::Safe(error))) => {
                    self.shared.model.blame(0, format!("a sealed secret is lost: {error}"));
                    return;
                }
                // Whoever cannot record stops; and a process that died says nothing.
                Some(Err(EngineError::Journal(_))) | None => {}
            }
        }
        let why = state.map(|s| format!("{:?} in {:?}, {:?}", s.stopped(), s.phase(), s.direction()));
        self.shared.model.blame(0, format!("never over: {why:?}"));
    }

    /// What the operator asks for in this session.
    fn wanted(&self, session: Session, now: &State, before: Option<&State>) -> Option<Option<Phase>> {
        let asked = session.rollback.map(|back| back.to).or_else(|| match before?.stopped()? {
            // What cannot be mended by hand is taken back.
            Stop::Failed { .. } | Stop::Inconclusive { .. } | Stop::GateFailed { .. }
                if before?.has_changed_anything() =>
            {
                let often = self.shared.fate().sessions > 20;
                often.then_some(None)
            }
            _ => None,
        })?;
        let order = Phase::order(self.plan.strategy);
        let rank = |p: Phase| order.iter().position(|o| *o == p);
        let behind = asked.is_none_or(|to| rank(to).is_some() && now.phase().and_then(rank) > rank(to));
        if now.is_past_return() || !behind {
            return None;
        }
        self.shared.fate().count("operator: rollback at resume");
        Some(asked)
    }

    fn open(&mut self, clock: &Arc<Virtual>) -> Option<(Journaled, State)> {
        let now = clock.now();
        let state = State::new(Arc::clone(&self.plan), now.wall);
        let inner = poll_now(self.shared.ledger.open(&self.plan, None, WHO, now)).expect("open");
        inner.run().clone_into(&mut self.id);
        let caching = self.plan.runbook.credentials.iter().flat_map(|(name, c)| {
            let caching = c.consumers.iter().filter(|c| c.reload.is_some());
            caching.map(move |c| format!("{name}/{}", c.name))
        });
        self.shared.model.open(&self.id, &self.plan, &self.paths, caching.collect::<BTreeSet<_>>());
        Some((self.journaled(inner), state))
    }

    fn journaled(&self, inner: Box<dyn Journal>) -> Journaled {
        let disk = self.state.as_ref().map(|dir| Disk::of(dir, &self.id));
        Journaled { shared: self.shared.clone(), inner, disk, poisoned: false }
    }

    /// Takes the run up again: from the durable record, and from nothing else. `None` when that failed.
    fn resume(
        &mut self,
        clock: &Arc<Virtual>,
        session: Session,
        stopped: Option<&Stop>,
    ) -> Option<(Journaled, State)> {
        let now = clock.now();
        let (inner, mut state) = match poll_now(self.shared.ledger.resume(&self.id, WHO, now)) {
            Ok(resumed) => resumed,
            Err(error) => {
                self.shared.model.blame(9, format!("a good journal is refused: {error}"));
                return None;
            }
        };
        let mut events = Vec::new();
        poll_now(self.shared.ledger.clear_latch(None)).expect("the latch");
        self.shared.model.set_latched(false);
        if state.halted().is_some() {
            events.push(Event::HaltCleared { by: "somebody".into() });
        }
        let mut journal = self.journaled(inner);
        if state.end().is_none() {
            events.push(Event::Resumed {});
            for event in &events {
                if let Err(error) = state.apply(event, now.wall) {
                    self.shared.model.blame(0, format!("cannot be resumed: {error}"));
                }
            }
            let forward = Event::Forward { why: "asked".into() };
            let stuck = matches!(stopped, Some(Stop::Stuck { .. }));
            // What another wrote in a store that cannot be read can only be written over, and that is forward.
            let unreadable = stopped.and_then(|stopped| self.unreadable(stopped));
            if stuck
                && (unreadable.is_some() || self.has_hands())
                && state.clone().apply(&forward, now.wall).is_ok()
            {
                let _ = state.apply(&forward, now.wall);
                self.shared.fate().count("operator: forward again");
                events.push(forward);
            }
            let name = |at: usize| self.plan.credentials[at % self.plan.credentials.len()].name.clone();
            let rewrite = session.rewrite.map(name).or(unreadable);
            let rewrite = rewrite.map(|credential| Event::Rewrite { credential, takes_back: true });
            let reissue = session.reissue.map(|at| Event::Reissue { credential: name(at), takes_back: true });
            for (event, what) in [(rewrite, "had it written again"), (reissue, "had another one issued")] {
                if let Some(event) = event
                    && state.clone().apply(&event, now.wall).is_ok()
                {
                    let _ = state.apply(&event, now.wall);
                    self.shared.fate().count(format!("operator: {what}"));
                    events.push(event);
                }
            }
            journal.take_request().expect("the request");
            journal.commit(now, &events).ok()?;
        }
        Some((journal, state))
    }

    /// The credential that stopped a run and has a store that cannot be read.
    fn unreadable(&self, stopped: &Stop) -> Option<String> {
        let named: Vec<&str> = match stopped {
            Stop::Overtaken { credentials } => credentials.iter().map(String::as_str).collect(),
            Stop::Failed { step } | Stop::Stuck { step } => step.split('/').nth(1).into_iter().collect(),
            _ => Vec::new(),
        };
        let mut credentials = self.plan.credentials.iter();
        let found = credentials
            .find(|c| named.contains(&c.name.as_str()) && c.stores.iter().any(|store| !store.traits.reads));
        found.map(|c| c.name.clone())
    }

    /// One process' life. `None`: it died.
    async fn session(
        &self,
        journal: Journaled,
        state: State,
        conduct: &Conduct,
        clock: &Arc<Virtual>,
        silent: bool,
    ) -> Option<Result<State, EngineError>> {
        let shared = self.shared.clone();
        let befall = move |op: &'static str, target: &str| shared.befall(op, target);
        self.shared.interrupt.send_replace(false);
        let interrupt = self.shared.interrupt.subscribe();
        let engine = Engine {
            provider: Arc::new(self.shared.world.clone().with_faults(Arc::new(befall))),
            journal: Box::new(journal),
            clock: Arc::clone(clock) as Arc<dyn Clock>,
            sealer: Arc::new(Sealer::transparent()),
            operator: Arc::new(Person { silent }),
            observer: Box::new(Nobody),
            interrupt,
        };
        tokio::select! {
            biased;
            () = self.shared.crash.notified() => None,
            result = engine.run(state, conduct.clone()) => Some(result),
        }
    }

    /// What a person does after a session: answers what only a person can know, and mends what a server
    /// forgot.
    fn mend(&self, ended: &State, clock: &Arc<Virtual>) {
        if let Some(Stop::Unknown { steps }) = ended.stopped() {
            for id in steps {
                if let Some(applied) = self.found_out(ended, id) {
                    self.resolve(id, applied, clock);
                }
            }
        }
        let mending = self.shared.model.mending(&self.plan, &self.paths);
        if matches!(
            ended.stopped(),
            Some(
                Stop::Failed { .. }
                    | Stop::Stuck { .. }
                    | Stop::Inconclusive { .. }
                    | Stop::Overtaken { .. }
                    | Stop::LetIn { .. }
                    | Stop::FellBack { .. }
            )
        ) {
            let world = &self.shared.world;
            for handle in mending.revoke {
                self.shared.fate().count("operator: revoked by hand");
                self.shared.model.by_hand(|| world.change_by_hand(&handle, Life::Gone)).expect("world");
            }
            for handle in mending.disable {
                self.shared.fate().count("operator: disabled by hand");
                self.shared.model.by_hand(|| world.change_by_hand(&handle, Life::Disabled)).expect("world");
            }
            for (path, handle, consumers) in mending.write {
                self.shared.fate().count("operator: wrote a store by hand");
                self.shared.world.write_by_hand(&path, &handle, &consumers).expect("world");
            }
        }
    }

    /// What a person finds who looks where stanch cannot: whether a step of the runbook's own was done, and
    /// which generated values an authority accepts. `None` where the program can ask again itself.
    fn found_out(&self, state: &State, id: &str) -> Option<bool> {
        use stanch::plan::Action;
        let at = state.step(id)?;
        let Status::Unknown { op, .. } = state.status(at) else { return None };
        let step = &self.plan.steps[at];
        let lives = |handle: &str| {
            let snapshot = self.shared.world.snapshot().expect("world");
            snapshot.credentials.iter().any(|(_, known, life)| known == handle && *life != Life::Gone)
        };
        match &step.action {
            Action::Own { .. } => Some(self.shared.fate().applied.get(id).copied().unwrap_or(0) > 0),
            _ if step.class != Some(Observation::Opaque) => None,
            // A value that was made here is said to be in force where it is. What a server made is revoked by hand, and
            // said not to be done, as `stanch status` tells.
            Action::Issue { credential } if *op == Op::Do => {
                let planned = &self.plan.credentials[*credential];
                let old = planned.outgoing.as_ref().map(|old| old.handle.as_str());
                let snapshot = self.shared.world.snapshot().expect("world");
                let made = snapshot.credentials.iter().filter(|(principal, handle, life)| {
                    *principal == planned.name && Some(handle.as_str()) != old && *life != Life::Gone
                });
                let made = made.filter(|(_, handle, _)| handle.starts_with("random:"));
                if !planned.issuer.mints {
                    // The value of this try, and not one that was issued before another one was wanted.
                    let word = stanch::engine::resolved(state, &self.id, at, true, String::new());
                    let Event::Resolved { facts, .. } = word else { return None };
                    let mut made = made.map(|(_, handle, _)| handle);
                    return Some(made.any(|handle| Some(handle) == facts.get("handle")));
                }
                for (_, handle, _) in made {
                    self.shared.fate().count("operator: revoked by hand");
                    let world = &self.shared.world;
                    self.shared.model.by_hand(|| world.change_by_hand(handle, Life::Gone)).expect("world");
                }
                Some(false)
            }
            // The way back sets the old value again.
            Action::Issue { credential } if self.plan.credentials[*credential].issuer.replaces() => {
                self.plan.credentials[*credential].outgoing.as_ref().map(|old| lives(&old.handle))
            }
            Action::Issue { credential } => {
                let incoming = self.shared.model.incoming(&self.plan.credentials[*credential].name);
                Some(incoming.is_none_or(|handle| !lives(&handle)))
            }
            Action::Revoke { credential } => {
                self.plan.credentials[*credential].outgoing.as_ref().map(|old| !lives(&old.handle))
            }
            _ => None,
        }
    }

    /// Whether others change the world in this schedule.
    fn has_hands(&self) -> bool {
        self.shared.fate().script.hands
    }

    /// As `stanch abandon` does: there is always a way out.
    fn abandon(&self, ended: &State, clock: &Arc<Virtual>) {
        self.shared.fate().count("operator: abandoned");
        let mut state = ended.clone();
        if let Err(error) = state.apply(&Event::Closed { end: End::Abandoned }, clock.now().wall) {
            self.shared.model.blame(0, format!("cannot be abandoned: {error}"));
        }
    }

    /// As `stanch resolve` does.
    fn resolve(&self, step: &str, applied: bool, clock: &Arc<Virtual>) {
        let now = clock.now();
        self.shared.fate().count(if applied {
            "operator: resolved as applied"
        } else {
            "operator: resolved as not applied"
        });
        let result =
            poll_now(self.shared.ledger.resume(&self.id, WHO, now)).and_then(|(mut journal, state)| {
                let at = state.step(step).expect("a step of the plan");
                let event = stanch::engine::resolved(&state, &self.id, at, applied, "looked".into());
                journal.commit(now, std::slice::from_ref(&event)).map(|()| event)
            });
        match result {
            Ok(event) => self.shared.model.durable(&[event]),
            Err(error) => self.shared.model.blame(0, format!("cannot be resolved: {error}")),
        }
        // Answered once; the next try starts from nothing.
        self.shared.fate().applied.insert(step.to_owned(), 0);
    }

    fn over(&self, state: &State) {
        let Some(end) = state.end() else { return };
        self.shared.fate().count(format!("end: {end:?}"));
        self.shared.model.closed(end);
        // The state that was lived and the state that the record tells are one.
        if self.shared.model.violation().is_none() {
            match poll_now(self.shared.ledger.load(&self.id)) {
                Ok(told) => {
                    let same = (0..self.plan.steps.len()).all(|s| told.status(s) == state.status(s));
                    if !same || told.end() != state.end() {
                        self.shared.model.blame(0, "the record tells another state than was lived");
                    }
                }
                Err(error) => self.shared.model.blame(0, format!("the record makes no sense: {error}")),
            }
        }
        if (0..self.plan.steps.len()).any(|s| matches!(state.status(s), Status::Unknown { .. })) {
            self.shared.model.blame(2, "a run is over with an outcome that nobody knows");
        }
    }

    /// Invariants 8 and 9.
    fn last_checks(&self) {
        let secrets = self.shared.world.everything_secret();
        let text = match &self.state {
            None => {
                let mut lines = Vec::new();
                let mut push =
                    |record: Record| lines.push(serde_json::to_string(&record.event).expect("JSON"));
                poll_now(self.shared.ledger.records(&self.id, &mut push)).expect("records");
                lines.join("\n")
            }
            Some(dir) => std::fs::read_to_string(dir.journal_path(&self.id)).expect("journal"),
        };
        // All minted values begin alike, which spares looking for each.
        let suspicious = text.contains("\"sbx-")
            || text.contains(" sbx-")
            || self.plan.runbook.credentials.values().any(|c| !c.issuer.traits().mints);
        if suspicious && let Some(leak) = secrets.iter().find(|s| text.contains(s.expose())) {
            let at = text.find(leak.expose()).unwrap_or_default();
            let line = text[..at].matches('\n').count();
            let shown = text.lines().nth(line).unwrap_or_default().chars().take(400).collect::<String>();
            self.shared.model.blame(8, format!("a secret stands in record {line}: {shown}"));
        }
        if let Some(dir) = &self.state {
            self.is_evident(dir, text.into_bytes());
        }
    }

    /// Somebody changes a byte, or takes a line away, before the last checkpoint: it must show.
    fn is_evident(&self, dir: &StateDir, bytes: Vec<u8>) {
        let path = dir.journal_path(&self.id);
        let report = dir.audit(&self.id, drop).expect("audit");
        if report.fault.is_some() {
            self.shared.model.blame(9, format!("a good journal is refused: {:?}", report.fault));
            return;
        }
        let lines: Vec<&[u8]> = bytes.split_inclusive(|b| *b == b'\n').collect();
        let covered: usize =
            lines[..usize::try_from(report.anchored).expect("small")].iter().map(|l| l.len()).sum();
        if covered == 0 {
            return;
        }
        let seed = usize::try_from(self.shared.fate().script.seed % 1_000_003).expect("small");
        let (mut flipped, at) = (bytes.clone(), (seed * 7919) % covered);
        flipped[at] ^= 1;
        let gone = (seed * 31) % (usize::try_from(report.anchored).expect("small"));
        let removed: Vec<u8> = [&lines[..gone], &lines[gone + 1..]].concat().concat();
        for (what, forged) in [("a flipped bit", flipped), ("a removed line", removed)] {
            std::io::Write::write_all(&mut std::fs::File::create(&path).expect("file"), &forged)
                .expect("write");
            let forged = dir.audit(&self.id, drop).expect("audit");
            self.shared.fate().count(format!("tampering: {what}"));
            // A line removed at the very end leaves a shorter journal that no signature covers.
            let seen = forged.fault.is_some() || forged.torn > 0 || forged.anchored < report.anchored;
            if !seen {
                self.shared.model.blame(9, format!("{what} does not show"));
            }
        }
    }
}
