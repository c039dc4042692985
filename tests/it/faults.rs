//! The engine over the sandbox, with one thing going wrong at every place where it can: each call
//! in turn is lost, answered into the void, throttled; the process dies before and after each
//! commit. The onlooker's snapshot of the world, and not the engine's story, says whether it held.
//!
//! Time is tokio's paused clock, so waits take none.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use stanch::clock::{self, Clock, Moment};
use stanch::domain::{ErrorKind, Life, Phase};
use stanch::engine::{Answer, Choices, Conduct, Engine, EngineError, Observer, Operator, survey};
use stanch::journal::{
    FileJournal, Journal, Latch, Latches, LedgerError, RollbackRequest, SealedEntry, StateDir,
};
use stanch::plan::{Plan, Request, compile};
use stanch::provider::sandbox::{Fault, Sandbox, Snapshot};
use stanch::provider::{CallContext, Provider};
use stanch::rotation::{End, Ended, Event, Op, State, Status, Stop};
use stanch::runbook::{Source, check, model::Strategy};
use stanch::secret::{Material, Secret};

/// Credentials of every kind that the sandbox stands in for, dependencies, own steps.
const RUNBOOK: &str = r#"
version: 1
name: everything
environments: { sandbox: {} }
connections:
  world: { type: sandbox }
  vault: { type: vault }
  aws: { type: aws, region: eu-west-1 }
  github: { type: github }
credentials:
  plain:
    issuer: { type: sandbox, connection: world, policies: [read], ttl: 1h }
    scope: { max_ttl: 1h, policies: [read] }
    stores:
      - { type: sandbox, connection: world, path: a, labels: true }
      - { type: sandbox, connection: world, path: b, labels: false }
    consumers: [{ name: web, reload: { sandbox: {} }, attest: { sandbox: { instances: 2 } } }]
    accepts: [{ sandbox: { policy: read } }]
  token:
    issuer: { type: vault-token, connection: vault, policies: [p], ttl: 1h }
    scope: { max_ttl: 1h, policies: [p] }
    stores: [{ type: kv2, connection: vault, mount: secret, path: t, field: token, destroy_outgoing: true }]
    consumers: [{ name: api, reload: { sandbox: {} }, attest: { sandbox: {} } }]
    after: [plain]
  key:
    issuer: { type: iam-access-key, connection: aws, user: app }
    scope: { policies: [p] }
    stores:
      - { type: secretsmanager, connection: aws, secret: s }
      - { type: github-actions-secret, connection: github, repository: shop/app, name: KEY }
    consumers: [{ name: job, reload: { sandbox: {} }, attest: { sandbox: {} } }]
phases:
  verify: { times: 2, every: 100ms }
  cutover:
    before: [{ name: pause, exec: ["true"], class: idempotent, undo: { exec: ["true"] } }]
    after: [{ name: told, manual: "told?" }]
  overlap: { at_least: 2s, until: [adopted] }
  sunset: { at_least: 1s }
  proof: { times: 2, every: 100ms }
"#;

/// The paused clock's time.
struct Paused {
    wall: jiff::Timestamp,
    mono: tokio::time::Instant,
}

#[async_trait]
impl Clock for Paused {
    fn now(&self) -> Moment {
        let elapsed = self.mono.elapsed();
        Moment {
            wall: clock::add(self.wall, elapsed),
            mono_ms: u64::try_from(elapsed.as_millis()).expect("small"),
        }
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

struct Yes;

#[async_trait]
impl Operator for Yes {
    async fn ask(&self, _name: &str, _question: &str) -> Answer {
        Answer::Yes
    }
}

/// Looks at the world after every record. Invariant 1: under overlap every store's current version
/// is accepted, always. Invariant 5 is checked by the state itself, which refuses an outcome
/// without an intent.
struct Onlooker {
    world: Sandbox,
    overlap: bool,
}

impl Observer for Onlooker {
    fn recorded(&mut self, _at: Moment, events: &[Event], _state: &State) {
        let seen = self.world.snapshot().expect("the world can be seen");
        if self.overlap {
            for (path, life) in &seen.stores {
                assert_eq!(*life, Some(Life::Active), "an outage: {path} after {events:?}");
            }
            assert_eq!(seen.traffic.1, 0, "a consumer was refused after {events:?}");
        }
    }

    fn tick(&mut self, _at: Moment, _state: &State) {}
}

/// A journal whose process dies at one commit: before or after it is durable.
struct Mortal {
    inner: FileJournal,
    left: usize,
    after: bool,
    commits: Arc<AtomicUsize>,
}

impl Mortal {
    fn new(inner: FileJournal, left: usize, after: bool) -> Self {
        Self { inner, left, after, commits: Arc::default() }
    }
}

impl Journal for Mortal {
    fn run(&self) -> &str {
        self.inner.run()
    }

    fn commit(&mut self, at: Moment, events: &[Event]) -> Result<(), LedgerError> {
        if self.left == 0 {
            if self.after {
                self.inner.commit(at, events)?;
            }
            return Err(LedgerError::Poisoned);
        }
        self.left -= 1;
        self.commits.fetch_add(1, Ordering::SeqCst);
        self.inner.commit(at, events)
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

type NextFault = Arc<dyn Fn(&'static str, &str) -> Option<Fault> + Send + Sync>;

/// A state folder with a run in it, and the world that the run works on.
struct Lab {
    _folder: tempfile::TempDir,
    state: StateDir,
    world: Sandbox,
    clock: Arc<Paused>,
    plan: Arc<Plan>,
    before: Snapshot,
}

const WHO: (&str, &str) = ("tester", "here");

impl Lab {
    async fn new(text: &str, strategy: Strategy) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let state = StateDir::open(&folder.path().join("state")).expect("state folder");
        let wall = "2026-01-01T00:00:00Z".parse().expect("moment");
        let clock = Arc::new(Paused { wall, mono: tokio::time::Instant::now() });
        let world =
            Sandbox::open(Path::new(&state.sandbox()), state.sealer().expect("sealer")).expect("world");
        let world = world.with_clock(Arc::clone(&clock) as Arc<dyn Clock>);
        let source = Source { name: "test".into(), text: text.into() };
        let checked = check(&source);
        let template = checked.runbook.unwrap_or_else(|| panic!("{:?}", checked.findings));
        let mut runbook = template.instantiate("sandbox").expect("sandbox");
        runbook.strategy = strategy;
        for (name, credential) in &runbook.credentials {
            world.seed(name, credential).expect("seed");
        }
        let before = world.snapshot().expect("snapshot");
        let provider: Arc<dyn Provider> = Arc::new(world.clone());
        let observed = survey(&provider, &runbook, &Choices::default()).await.expect("survey");
        let request = Request {
            environment: "sandbox".into(),
            sandbox: true,
            runbook_sha256: template.sha256().into(),
            tool: "test".into(),
            directory: None,
        };
        let plan = Arc::new(compile(runbook, &request, observed).expect("plan"));
        Self { _folder: folder, state, world, clock, plan, before }
    }

    fn open(&self) -> (FileJournal, State) {
        let now = self.clock.now();
        let journal = self.state.create(&self.plan, None, WHO, now).expect("create");
        (journal, State::new(Arc::clone(&self.plan), now.wall))
    }

    fn resume(&self) -> (FileJournal, State) {
        let run = self.state.find(None).expect("one open run");
        let now = self.clock.now();
        let (mut journal, mut state) = self.state.resume(&run, WHO, now).expect("resume");
        journal.commit(now, &[Event::Resumed {}]).expect("commit");
        state.apply(&Event::Resumed {}, now.wall).expect("apply");
        (journal, state)
    }

    async fn session(
        &self,
        journal: Box<dyn Journal>,
        state: State,
        faults: NextFault,
        conduct: Conduct,
    ) -> Result<State, EngineError> {
        let (_keep, interrupt) = tokio::sync::watch::channel(false);
        let faulty = move |op: &'static str, target: &str| faults(op, target);
        let engine = Engine {
            provider: Arc::new(self.world.clone().with_faults(Arc::new(faulty))),
            journal,
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            sealer: Arc::new(self.state.sealer().expect("sealer")),
            operator: Arc::new(Yes),
            observer: Box::new(Onlooker {
                world: self.world.clone(),
                overlap: self.plan.strategy == Strategy::Overlap,
            }),
            interrupt,
        };
        engine.run(state, conduct).await
    }

    /// A run to the end of a phase, without faults.
    async fn go_to(&self, phase: Phase) {
        let (journal, state) = self.open();
        let until = Conduct { until: Some(phase), ..Conduct::default() };
        let state = self.session(Box::new(journal), state, no_faults(), until).await.expect("session");
        assert_eq!(state.stopped(), Some(&Stop::Until { phase }));
    }

    /// Goes on, without further faults, until the run is over.
    async fn finish(&self, mut state: State, conduct: &Conduct) -> State {
        for _ in 0..10 {
            if state.end().is_some() {
                return state;
            }
            assert!(!matches!(state.stopped(), Some(Stop::Stuck { .. })), "stuck: {:?}", state.stopped());
            let (journal, resumed) = self.resume();
            let result = self.session(Box::new(journal), resumed, no_faults(), conduct.clone()).await;
            state = result.unwrap_or_else(|e| panic!("{e}: {:?}", std::error::Error::source(&e)));
        }
        panic!("never over: {:?}", state.stopped());
    }

    /// Invariants 2, 3 and 4: one credential alive for each principal, in every store, none of the old.
    fn is_rotated(&self, what: &str) {
        let seen = self.world.snapshot().expect("snapshot");
        for (principal, handle, _) in &self.before.credentials {
            let find = |c: &&(String, String, Life)| c.1 == *handle;
            let old = seen.credentials.iter().find(find).expect("nothing is forgotten");
            assert_eq!(old.2, Life::Gone, "{what}: a survivor of {principal}: {handle}");
            let alive = seen.credentials.iter().filter(|c| c.0 == *principal && c.2 != Life::Gone).count();
            assert_eq!(alive, 1, "{what}: a twin or an orphan of {principal}: {:?}", seen.credentials);
        }
        assert!(seen.stores.iter().all(|s| s.1 == Some(Life::Active)), "{what}: {:?}", seen.stores);
    }

    /// Invariant 7: the way back restores every store's current value and every issuer's state.
    fn is_as_before(&self, what: &str) {
        let seen = self.world.snapshot().expect("snapshot");
        for old in &self.before.credentials {
            assert!(seen.credentials.contains(old), "{what}: {old:?} is not as before");
        }
        let alive = |s: &Snapshot| s.credentials.iter().filter(|c| c.2 != Life::Gone).count();
        assert_eq!(alive(&seen), alive(&self.before), "{what}: an orphan: {:?}", seen.credentials);
        assert_eq!(seen.stores, self.before.stores, "{what}");
    }

    /// Invariant 9, the part that costs nothing here: what was recorded can be verified.
    fn is_on_record(&self) {
        for run in self.state.runs().expect("runs") {
            let report = self.state.audit(&run, drop).expect("audit");
            assert_eq!((report.fault.clone(), report.unanchored()), (None, 0), "{report:?}");
        }
    }
}

/// A session that takes everything back.
fn all_the_way_back() -> Conduct {
    Conduct { rollback: Some((None, "test".into())), ..Conduct::default() }
}

fn no_faults() -> NextFault {
    Arc::new(|_, _| None)
}

/// The `nth` call suffers the fault, and no other.
fn nth_call(nth: usize, fault: Fault, seen: &Arc<AtomicUsize>) -> NextFault {
    let seen = Arc::clone(seen);
    Arc::new(move |_, _| (seen.fetch_add(1, Ordering::SeqCst) == nth).then_some(fault))
}

/// How many calls, and how many commits, a run without trouble makes.
async fn size(strategy: Strategy) -> (usize, usize) {
    let lab = Lab::new(RUNBOOK, strategy).await;
    let (calls, (journal, state)) = (Arc::new(AtomicUsize::new(0)), lab.open());
    let counting = Mortal::new(journal, usize::MAX, false);
    let commits = Arc::clone(&counting.commits);
    let faults = nth_call(usize::MAX, Fault::LostReply, &calls);
    let state = lab.session(Box::new(counting), state, faults, Conduct::default()).await.expect("session");
    assert_eq!(state.end(), Some(End::Done), "{:?}", state.stopped());
    lab.is_rotated("no faults");
    lab.is_on_record();
    (calls.load(Ordering::SeqCst), commits.load(Ordering::SeqCst))
}

async fn every_call_suffers(fault: Fault, strategy: Strategy) {
    // Gates ask until they pass, so the number of calls varies a little; the last ones are reads.
    let (calls, _) = size(strategy).await;
    for nth in 0..calls {
        let lab = Lab::new(RUNBOOK, strategy).await;
        let (journal, state) = lab.open();
        let faults = nth_call(nth, fault, &Arc::new(AtomicUsize::new(0)));
        let what = format!("{fault:?} at call {nth}, {strategy:?}");
        let state = lab
            .session(Box::new(journal), state, faults, Conduct::default())
            .await
            .unwrap_or_else(|e| panic!("{what}: {e}: {:?}", std::error::Error::source(&e)));
        let end = lab.finish(state, &Conduct::default()).await.end();
        assert_eq!(end, Some(End::Done), "{what}");
        lab.is_rotated(&what);
        lab.is_on_record();
    }
}

#[tokio::test(start_paused = true)]
async fn every_call_may_be_lost() {
    every_call_suffers(Fault::LostRequest, Strategy::Overlap).await;
    every_call_suffers(Fault::LostRequest, Strategy::Contain).await;
}

#[tokio::test(start_paused = true)]
async fn every_reply_may_be_lost() {
    every_call_suffers(Fault::LostReply, Strategy::Overlap).await;
    every_call_suffers(Fault::LostReply, Strategy::Contain).await;
}

#[tokio::test(start_paused = true)]
async fn every_call_may_be_throttled_or_unreachable() {
    every_call_suffers(Fault::Reject(ErrorKind::Throttled), Strategy::Overlap).await;
    every_call_suffers(Fault::Reject(ErrorKind::Unreachable), Strategy::Overlap).await;
}

#[tokio::test(start_paused = true)]
async fn the_process_may_die_before_and_after_every_commit() {
    for strategy in [Strategy::Overlap, Strategy::Contain] {
        let (_, commits) = size(strategy).await;
        for left in 0..commits {
            for after in [false, true] {
                let lab = Lab::new(RUNBOOK, strategy).await;
                let (inner, state) = lab.open();
                let mortal = Mortal::new(inner, left, after);
                let died = lab.session(Box::new(mortal), state, no_faults(), Conduct::default()).await;
                let what = format!("died at commit {left}, durable {after}, {strategy:?}");
                assert!(died.is_err(), "{what}");
                if lab.state.find(None).is_err() {
                    // The last commit closed the run, and it was durable.
                    continue;
                }
                let (_, over) = lab.resume_unless_over();
                if !over {
                    let (journal, state) = lab.resume();
                    let state = lab
                        .session(Box::new(journal), state, no_faults(), Conduct::default())
                        .await
                        .unwrap_or_else(|e| panic!("{what}: {e}: {:?}", std::error::Error::source(&e)));
                    let end = lab.finish(state, &Conduct::default()).await.end();
                    assert_eq!(end, Some(End::Done), "{what}");
                }
                lab.is_rotated(&what);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_death_at_any_commit_there_is_a_way_back() {
    let (_, commits) = size(Strategy::Overlap).await;
    for left in 0..commits {
        for after in [false, true] {
            let lab = Lab::new(RUNBOOK, Strategy::Overlap).await;
            let (inner, state) = lab.open();
            let mortal = Mortal::new(inner, left, after);
            let died = lab.session(Box::new(mortal), state, no_faults(), Conduct::default()).await;
            let what = format!("died at commit {left}, durable {after}, then back");
            assert!(died.is_err(), "{what}");
            let (state, over) = lab.resume_unless_over();
            if over || state.is_past_return() {
                continue;
            }
            let conduct = all_the_way_back();
            let (journal, state) = lab.resume();
            let state = lab
                .session(Box::new(journal), state, no_faults(), conduct.clone())
                .await
                .unwrap_or_else(|e| panic!("{what}: {e}: {:?}", std::error::Error::source(&e)));
            let end = lab.finish(state, &conduct).await.end();
            assert_eq!(end, Some(End::RolledBack), "{what}");
            lab.is_as_before(&what);
            lab.is_on_record();
        }
    }
}

impl Lab {
    /// The state as a reader sees it, and whether the run is over.
    fn resume_unless_over(&self) -> (State, bool) {
        let run = self.state.runs().expect("runs").pop().expect("a run");
        let (state, _) = self.state.load(&run).expect("load");
        let over = state.end().is_some();
        (state, over)
    }
}

#[tokio::test(start_paused = true)]
async fn one_call_at_a_time_is_enough() {
    let text = format!("{RUNBOOK}limits: {{ concurrency: 1 }}\n")
        .replace("  proof: { times: 2", "  revoke: { until: [one, two] }\n  proof: { times: 2");
    let text = format!(
        "{text}gates:\n  one: {{ sandbox: {{ at_most: 0.5, every: 1s }} }}\n  two: {{ sandbox: {{ at_most: 0.5, every: 1s }} }}\n"
    );
    let lab = Lab::new(&text, Strategy::Overlap).await;
    let (journal, state) = lab.open();
    let state =
        lab.session(Box::new(journal), state, no_faults(), Conduct::default()).await.expect("session");
    assert_eq!(state.end(), Some(End::Done), "{:?}", state.stopped());
    lab.is_rotated("one at a time");
    for (at, step) in state.plan().steps.iter().enumerate() {
        assert_eq!(*state.status(at), Status::Done, "{}", step.id);
    }
}

/// Like `nth_call`, but for all calls of one kind.
fn every(op: &'static str, fault: Fault) -> NextFault {
    Arc::new(move |seen, _| (seen == op).then_some(fault))
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_discarded_is_not_tried_for_ever() {
    let lab = Lab::new(RUNBOOK, Strategy::Overlap).await;
    let (journal, state) = lab.open();
    let lost = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&lost);
    let faults: NextFault = Arc::new(move |op, _| match op {
        "issue" if seen.fetch_add(1, Ordering::SeqCst) == 0 => Some(Fault::LostReply),
        "revoke" => Some(Fault::LostRequest),
        _ => None,
    });
    let state = lab.session(Box::new(journal), state, faults, Conduct::default()).await.expect("session");
    assert!(matches!(state.stopped(), Some(Stop::Failed { .. })), "{:?}", state.stopped());
    // What was left is still known, and is discarded once the issuer answers again.
    let end = lab.finish(state, &Conduct::default()).await.end();
    assert_eq!(end, Some(End::Done));
    lab.is_rotated("after a discard that failed");
}

#[tokio::test(start_paused = true)]
async fn a_way_back_that_is_barred_is_stuck_and_open_later() {
    let lab = Lab::new(RUNBOOK, Strategy::Overlap).await;
    lab.go_to(Phase::Sunset).await;
    let back = all_the_way_back();
    for fault in [Fault::Reject(ErrorKind::Denied), Fault::LostRequest] {
        let (journal, state) = lab.resume();
        let state = lab
            .session(Box::new(journal), state, every("promote", fault), back.clone())
            .await
            .expect("session");
        assert!(matches!(state.stopped(), Some(Stop::Stuck { .. })), "{fault:?}: {:?}", state.stopped());
        let truths = state.truths();
        assert!(
            truths.iter().all(|t| t.delivered() == t.stores),
            "what was not taken back stands: {truths:?}"
        );
    }
    let (journal, state) = lab.resume();
    let state = lab.session(Box::new(journal), state, no_faults(), back).await.expect("session");
    assert_eq!(state.end(), Some(End::RolledBack), "{:?}", state.stopped());
    lab.is_as_before("stuck twice, then back");
    lab.is_on_record();
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_failed_after_the_swap_is_taken_back() {
    let lab = Lab::new(RUNBOOK, Strategy::Overlap).await;
    let (journal, state) = lab.open();
    // Its reply is lost, so it happened; then it is refused.
    let tries = Arc::new(AtomicUsize::new(0));
    let faults: NextFault = Arc::new(move |op, target| match op {
        "reload" if target == "plain/web" && tries.fetch_add(1, Ordering::SeqCst) == 0 => {
            Some(Fault::LostReply)
        }
        "reload" if target == "plain/web" => Some(Fault::Reject(ErrorKind::Denied)),
        _ => None,
    });
    let state = lab.session(Box::new(journal), state, faults, Conduct::default()).await.expect("session");
    assert!(matches!(state.stopped(), Some(Stop::Failed { .. })), "{:?}", state.stopped());
    let back = all_the_way_back();
    let (journal, state) = lab.resume();
    let state = lab.session(Box::new(journal), state, no_faults(), back).await.expect("session");
    assert_eq!(state.end(), Some(End::RolledBack), "{:?}", state.stopped());
    lab.is_as_before("a reload that failed");
}

#[tokio::test(start_paused = true)]
async fn a_refused_first_effect_leaves_nothing_changed() {
    let lab = Lab::new(RUNBOOK, Strategy::Overlap).await;
    let (journal, state) = lab.open();
    let denied = every("issue", Fault::Reject(ErrorKind::Denied));
    let state = lab.session(Box::new(journal), state, denied, Conduct::default()).await.expect("session");
    assert_eq!(state.end(), Some(End::Failed), "{:?}", state.stopped());
    lab.is_as_before("refused at once");
}

#[tokio::test(start_paused = true)]
async fn a_refused_revoke_is_not_past_return() {
    let lab = Lab::new(RUNBOOK, Strategy::Overlap).await;
    let (journal, state) = lab.open();
    let denied: NextFault =
        Arc::new(|op, _| matches!(op, "revoke" | "destroy").then_some(Fault::Reject(ErrorKind::Denied)));
    let state = lab.session(Box::new(journal), state, denied, Conduct::default()).await.expect("session");
    assert!(!state.is_past_return(), "nothing was revoked: {:?}", state.stopped());
    let back = all_the_way_back();
    let (journal, state) = lab.resume();
    let state = lab.session(Box::new(journal), state, no_faults(), back).await.expect("session");
    assert_eq!(state.end(), Some(End::RolledBack), "{:?}", state.stopped());
    lab.is_as_before("a refused revoke");
}

#[tokio::test(start_paused = true)]
async fn an_own_step_that_may_have_happened_bars_the_way_back() {
    let own =
        "  revoke: { before: [{ name: tell, exec: [\"true\"], class: idempotent }] }\n  proof: { times: 2";
    let lab = Lab::new(&RUNBOOK.replace("  proof: { times: 2", own), Strategy::Overlap).await;
    lab.go_to(Phase::Sunset).await;
    // Its reply is lost, so it happened; then it is refused.
    let tries = Arc::new(AtomicUsize::new(0));
    let faults: NextFault =
        Arc::new(move |op, _| match (op, tries.fetch_add(usize::from(op == "call"), Ordering::SeqCst)) {
            ("call", 0) => Some(Fault::LostReply),
            ("call", _) => Some(Fault::Reject(ErrorKind::Denied)),
            _ => None,
        });
    let (journal, state) = lab.resume();
    let state = lab.session(Box::new(journal), state, faults, Conduct::default()).await.expect("session");
    assert!(matches!(state.stopped(), Some(Stop::Failed { .. })), "{:?}", state.stopped());
    assert!(state.is_past_return(), "it cannot be taken back, and it may have happened");
}

impl Lab {
    /// The context of a call past stanch.
    fn by_hand(&self) -> CallContext {
        CallContext {
            run: "by-hand".into(),
            step: "by-hand".into(),
            token: uuid::Uuid::from_u128(7),
            since: self.clock.now().wall,
            last: self.clock.now().wall,
            siblings: Vec::new(),
            before: Default::default(),
            expected: None,
            ahead: stanch::provider::Ahead::default(),
            held: None,
            outgoing: None,
        }
    }

    /// Somebody writes the version that was current before into a store again, past stanch; or, with
    /// `anew`, the current one once more.
    async fn write_by_hand(&self, credential: &str, anew: bool) {
        let (name, spec) =
            self.plan.runbook.credentials.get_key_value(credential).expect("the plan has the credential");
        let store = self.world.store(name, spec, 0).await.expect("store");
        let versions = store.observe().await.expect("versions");
        let now = store.read(None).await.expect("the current version");
        let before = store.read(versions.previous.as_deref()).await.expect("the version before");
        let context = self.by_hand();
        store.promote(&context, &before, &now, versions.previous.as_deref()).await.expect("written");
        if anew {
            store.promote(&context, &now, &before, None).await.expect("written once more");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_somebody_wrote_back_is_not_robbed_of_its_credential() {
    for credential in ["plain", "token", "key"] {
        let lab = Lab::new(RUNBOOK, Strategy::Overlap).await;
        lab.go_to(Phase::Overlap).await;
        lab.write_by_hand(credential, false).await;
        let (journal, state) = lab.resume();
        let state =
            lab.session(Box::new(journal), state, no_faults(), Conduct::default()).await.expect("session");
        // The onlooker has seen that the store's current version was accepted all the time.
        let Some(Stop::Failed { step }) = state.stopped() else {
            panic!("{credential}: {:?}", state.stopped())
        };
        let failure = state.failure(state.step(step).expect("step")).expect("a failure");
        assert!(failure.message.contains("holds the old"), "{credential}: {}", failure.message);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_written_anew_by_hand_is_taken_back() {
    let lab = Lab::new(RUNBOOK, Strategy::Overlap).await;
    lab.go_to(Phase::Overlap).await;
    for credential in ["plain", "token", "key"] {
        lab.write_by_hand(credential, true).await;
    }
    let back = all_the_way_back();
    let (journal, state) = lab.resume();
    let state = lab.session(Box::new(journal), state, no_faults(), back).await.expect("session");
    assert_eq!(state.end(), Some(End::RolledBack), "{:?}", state.stopped());
    lab.is_as_before("written anew by hand, then back");
}

#[tokio::test(start_paused = true)]
async fn what_was_restored_by_hand_is_taken_as_restored() {
    let lab = Lab::new(RUNBOOK, Strategy::Overlap).await;
    lab.go_to(Phase::Overlap).await;
    for credential in ["plain", "token", "key"] {
        lab.write_by_hand(credential, false).await;
    }
    let back = all_the_way_back();
    let (journal, state) = lab.resume();
    let state = lab.session(Box::new(journal), state, no_faults(), back).await.expect("session");
    assert_eq!(state.end(), Some(End::RolledBack), "{:?}", state.stopped());
    lab.is_as_before("restored by hand, then back");
    lab.is_on_record();
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_call_is_looked_into_after_a_while_only() {
    let lab = Lab::new(RUNBOOK, Strategy::Overlap).await;
    let (journal, state) = lab.open();
    // The request is on its way for longer than stanch waits for an answer: the first look would find
    // nothing, and the second try would make a twin.
    let issued = Arc::new(AtomicUsize::new(0));
    let (seen, before) = (Arc::clone(&issued), lab.clock.now().mono_ms);
    let (clock, looked) = (Arc::clone(&lab.clock), Arc::new(AtomicUsize::new(0)));
    let when = Arc::clone(&looked);
    let faults: NextFault = Arc::new(move |op, target| match (op, target) {
        ("issue", "plain") if seen.fetch_add(1, Ordering::SeqCst) == 0 => Some(Fault::LostReply),
        ("list", "plain") => {
            let passed = usize::try_from(clock.now().mono_ms - before).expect("small");
            when.fetch_max(passed, Ordering::SeqCst);
            None
        }
        _ => None,
    });
    let state = lab.session(Box::new(journal), state, faults, Conduct::default()).await.expect("session");
    assert_eq!(state.end(), Some(End::Done), "{:?}", state.stopped());
    assert!(looked.load(Ordering::SeqCst) >= 8_000, "looked after {} ms", looked.load(Ordering::SeqCst));
    lab.is_rotated("a lost reply");
}

#[tokio::test(start_paused = true)]
async fn a_long_wait_says_that_it_lasts_and_is_signed_meanwhile() {
    let text = RUNBOOK.replace("at_least: 2s", "at_least: 40m");
    let lab = Lab::new(&text, Strategy::Overlap).await;
    let (journal, state) = lab.open();
    let state =
        lab.session(Box::new(journal), state, no_faults(), Conduct::default()).await.expect("session");
    assert_eq!(state.end(), Some(End::Done), "{:?}", state.stopped());
    let run = lab.state.runs().expect("runs").remove(0);
    let (mut beats, mut signed, mut unsigned) = (0, 0, 0);
    let each = |record: stanch::journal::Record| match record.event {
        Event::Heartbeat {} => {
            (beats, unsigned) = (beats + 1, unsigned + 1);
            assert!(unsigned <= 5, "{unsigned} minutes that no signature covers");
        }
        Event::Checkpoint { .. } => {
            signed += usize::from(unsigned > 0);
            unsigned = 0;
        }
        _ => {}
    };
    lab.state.audit(&run, each).expect("audit");
    assert!((35..=45).contains(&beats) && signed >= 7, "{beats} heartbeats, {signed} of their checkpoints");
    lab.is_on_record();
}

#[tokio::test(start_paused = true)]
async fn a_request_that_arrives_twice_is_done_once() {
    for op in ["stage", "promote", "retire", "reload", "disable", "enable", "revoke", "destroy", "call"] {
        for back in [false, true] {
            let lab = Lab::new(RUNBOOK, Strategy::Overlap).await;
            let (journal, state) = lab.open();
            let until = Conduct { until: back.then_some(Phase::Sunset), ..Conduct::default() };
            let twice = every(op, Fault::Twice);
            let state = lab.session(Box::new(journal), state, twice, until).await.expect("session");
            if !back {
                assert_eq!(state.end(), Some(End::Done), "{op}: {:?}", state.stopped());
                lab.is_rotated(op);
                continue;
            }
            let back = all_the_way_back();
            let (journal, state) = lab.resume();
            let twice = every(op, Fault::Twice);
            let state = lab.session(Box::new(journal), state, twice, back).await.expect("session");
            assert_eq!(state.end(), Some(End::RolledBack), "{op}: {:?}", state.stopped());
            lab.is_as_before(op);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_latch_holds_a_step_that_still_looks() {
    let lab = Lab::new(RUNBOOK, Strategy::Overlap).await;
    lab.go_to(Phase::Overlap).await;
    let (journal, state) = lab.resume();
    // Somebody sets the latch while the first step of `sunset` looks whether a store hands out the old one.
    let faults = lab.latch_at("read", Some(journal.run()), Some(Fault::Delay(Duration::from_secs(2))));
    let state = lab.session(Box::new(journal), state, faults, Conduct::default()).await.expect("session");
    assert_eq!(state.stopped(), Some(&Stop::Halted));
    let seen = lab.world.snapshot().expect("snapshot");
    for old in &lab.before.credentials {
        assert!(seen.credentials.contains(old), "{old:?} was changed under the latch");
    }
}

/// A latch may be set at any moment, and a step may look for long before its effect.
#[tokio::test(start_paused = true)]
async fn a_latch_holds_a_step_whose_looks_end_before_anybody_else_sees_the_latch() {
    let lab = Lab::new(RUNBOOK, Strategy::Overlap).await;
    lab.go_to(Phase::Overlap).await;
    let (journal, state) = lab.resume();
    // Every look before `sunset` takes a moment: less than the loop's next glance at the latch.
    let faults = lab.latch_at("read", Some(journal.run()), Some(Fault::Delay(Duration::from_millis(5))));
    let state = lab.session(Box::new(journal), state, faults, Conduct::default()).await.expect("session");
    assert_eq!(state.stopped(), Some(&Stop::Halted));
    let seen = lab.world.snapshot().expect("snapshot");
    for old in &lab.before.credentials {
        assert!(seen.credentials.contains(old), "{old:?} was changed under the latch");
    }
}

/// What a schedule's seed leads to must not depend on chance that no seed decides.
#[tokio::test(start_paused = true)]
async fn steps_that_ask_stop_in_the_order_in_which_they_began() {
    let text = RUNBOOK.replace("verify: { times: 2, every: 100ms }", "verify: { times: 2, every: 10s }");
    for _ in 0..6 {
        let lab = Lab::new(&text, Strategy::Overlap).await;
        lab.go_to(Phase::Distribute).await;
        let (journal, state) = lab.resume();
        // Somebody sets the latch while several steps wait to use the new credentials once more.
        let latching = lab.latch_at("use", Some(journal.run()), None);
        let conduct = Conduct::default();
        let state = lab.session(Box::new(journal), state, latching, conduct).await.expect("session");
        assert_eq!(state.stopped(), Some(&Stop::Halted));
        let (mut began, mut stopped) = (Vec::new(), Vec::new());
        let each = |record: stanch::journal::Record| match record.event {
            Event::Intent { step, .. } if step.starts_with("verify/") => began.push(step),
            Event::Outcome { step, .. } if step.starts_with("verify/") => stopped.push(step),
            _ => {}
        };
        let run = lab.state.runs().expect("runs").remove(0);
        lab.state.audit(&run, each).expect("audit");
        assert!(began.len() >= 3, "{began:?}");
        assert_eq!(stopped, began);
    }
}

impl Lab {
    /// Somebody sets the latch, on a run or on all, at each call of `op`, which suffers the fault.
    fn latch_at(&self, op: &'static str, run: Option<&str>, fault: Option<Fault>) -> NextFault {
        let (dir, run) = (self.state.clone(), run.map(str::to_owned));
        Arc::new(move |seen, _| {
            let latch = Latch { by: "somebody".into(), reason: "stop".into() };
            (seen == op).then(|| dir.set_latch(run.as_deref(), &latch).expect("latch")).and(fault)
        })
    }

    /// Takes the latch off, and says so on the record: `stanch halt --clear`.
    fn clear_latch(&self) -> (FileJournal, State) {
        let (mut journal, mut state) = self.resume();
        for run in [None, Some(journal.run())] {
            self.state.clear_latch(run).expect("cleared");
        }
        let (now, cleared) = (self.clock.now(), Event::HaltCleared { by: "somebody".into() });
        journal.commit(now, std::slice::from_ref(&cleared)).expect("commit");
        state.apply(&cleared, now.wall).expect("apply");
        (journal, state)
    }

    /// The outcomes of a step's calls, oldest first.
    fn outcomes(&self, wanted: &str, kind: Op) -> Vec<(Ended, String)> {
        let mut outcomes = Vec::new();
        let each = |record: stanch::journal::Record| {
            if let Event::Outcome { step, op, result, error, .. } = record.event
                && (step.as_str(), op) == (wanted, kind)
            {
                outcomes.push((result, error.map(|e| e.message).unwrap_or_default()));
            }
        };
        let run = self.state.runs().expect("runs").remove(0);
        self.state.audit(&run, each).expect("audit");
        outcomes
    }
}

/// What was about to be revoked, and was not, can still be kept.
#[tokio::test(start_paused = true)]
async fn a_latch_before_the_first_revocation_leaves_the_way_back() {
    let lab = Lab::new(RUNBOOK, Strategy::Overlap).await;
    lab.go_to(Phase::Sunset).await;
    let (journal, state) = lab.resume();
    // Somebody sets the latch while the first revocations look whether a store hands out the old one.
    let faults = lab.latch_at("read", None, Some(Fault::Delay(Duration::from_secs(2))));
    let state = lab.session(Box::new(journal), state, faults, Conduct::default()).await.expect("session");
    assert_eq!((state.stopped(), state.phase()), (Some(&Stop::Halted), Some(Phase::Revoke)));
    let begun = lab.outcomes("revoke/plain/revoke", Op::Do);
    assert_eq!(begun, [(Ended::Rejected, "halted before the step began".to_owned())]);
    assert!(!state.is_past_return(), "nothing was revoked");
    let back = all_the_way_back();
    let (journal, state) = lab.clear_latch();
    let state = lab.session(Box::new(journal), state, no_faults(), back).await.expect("session");
    assert_eq!(state.end(), Some(End::RolledBack), "{:?}", state.stopped());
    lab.is_as_before("a latch before the first revocation");
}

/// A latch or a request that cannot be read stops the run like a latch that is set: what is under way is
/// finished, and recorded.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_stops_as_a_latch_does() {
    for file in ["halt", "request.json"] {
        let lab = Lab::new(RUNBOOK, Strategy::Overlap).await;
        let (journal, state) = lab.open();
        let path = match file {
            "halt" => lab.state.root().join(file),
            _ => lab.state.journal_path(journal.run()).with_file_name(file),
        };
        let left = path.clone();
        let faults: NextFault = Arc::new(move |op, _| {
            (op == "promote").then(|| {
                std::fs::File::create(&left).expect("an empty file");
                Fault::Delay(Duration::from_secs(2))
            })
        });
        let state = lab.session(Box::new(journal), state, faults, Conduct::default()).await.expect("session");
        assert_eq!(state.stopped(), Some(&Stop::Halted), "{file}");
        let reason = state.halted().expect("halted");
        assert!(reason.contains(file), "{reason}");
        let promotions = state.plan().steps.iter().filter(|s| s.id.contains("/promote/"));
        let ended: Vec<_> = promotions.flat_map(|s| lab.outcomes(&s.id, Op::Do)).collect();
        let done = ended.iter().any(|(ended, _)| *ended == Ended::Succeeded);
        assert!(done, "{file}: what was under way is on the record: {ended:?}");
        let steps = 0..state.plan().steps.len();
        let open = |s: &usize| matches!(state.status(*s), Status::Started { .. } | Status::Unknown { .. });
        assert_eq!(steps.filter(open).count(), 0, "{file}: nothing is in doubt");
        // A request is gone once it was looked at.
        let _ = std::fs::remove_file(path);
        let (journal, state) = lab.clear_latch();
        let state = lab.session(Box::new(journal), state, no_faults(), Conduct::default()).await;
        assert_eq!(state.expect("session").end(), Some(End::Done), "{file}");
        lab.is_rotated(file);
    }
}

/// Of several that a lost reply left some may be revoked when the rest is refused: the record does not
/// say that nothing changed.
#[tokio::test(start_paused = true)]
async fn a_discard_that_ends_halfway_is_in_doubt() {
    let lab = Lab::new(RUNBOOK, Strategy::Overlap).await;
    let (journal, state) = lab.open();
    let (run, step) = (journal.run().to_owned(), "prepare/plain/issue");
    let issued = AtomicUsize::new(0);
    let unclear: NextFault = Arc::new(move |op, target| match op {
        "issue" if target == "plain" => {
            issued.fetch_add(1, Ordering::SeqCst);
            Some(Fault::LostReply)
        }
        "list" if issued.load(Ordering::SeqCst) > 0 => Some(Fault::Reject(ErrorKind::Unreachable)),
        _ => None,
    });
    let state = lab.session(Box::new(journal), state, unclear, Conduct::default()).await.expect("session");
    assert!(matches!(state.stopped(), Some(Stop::Unknown { .. })), "{:?}", state.stopped());
    // Something on the way has repeated the request.
    let spec = &lab.plan.runbook.credentials["plain"];
    let token = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, format!("stanch:{run}/{step}/0").as_bytes());
    let context = CallContext {
        run,
        step: step.into(),
        token,
        since: lab.clock.now().wall,
        last: lab.clock.now().wall,
        siblings: Vec::new(),
        before: Default::default(),
        expected: None,
        ahead: stanch::provider::Ahead::default(),
        held: None,
        outgoing: None,
    };
    let issuer = lab.world.issuer("plain", spec).await.expect("issuer");
    issuer.issue(&context, None).await.expect("issued once more");
    let revoked = AtomicUsize::new(0);
    let refused: NextFault = Arc::new(move |op, _| {
        let second = op == "revoke" && revoked.fetch_add(1, Ordering::SeqCst) == 1;
        second.then_some(Fault::Reject(ErrorKind::Denied))
    });
    let (journal, state) = lab.resume();
    let state = lab.session(Box::new(journal), state, refused, Conduct::default()).await.expect("session");
    assert_eq!(state.end(), Some(End::Done), "{:?}", state.stopped());
    let outcomes = lab.outcomes(step, Op::Discard);
    assert_eq!(outcomes.iter().map(|o| o.0).collect::<Vec<_>>(), [Ended::Unknown, Ended::Succeeded]);
    assert!(outcomes[0].1.starts_with("after 1 of 2 were revoked: "), "{outcomes:?}");
    lab.is_rotated("two orphans");
}

/// Whoever gets no reply does not learn of a refusal either.
#[tokio::test(start_paused = true)]
async fn a_refusal_whose_reply_is_lost_is_in_doubt() {
    let lab = Lab::new(RUNBOOK, Strategy::Overlap).await;
    let spec = &lab.plan.runbook.credentials["plain"];
    let context = lab.by_hand();
    for (faults, in_doubt) in [(no_faults(), false), (every("promote", Fault::LostReply), true)] {
        let world = lab.world.clone().with_faults(Arc::new(move |op: &'static str, to: &str| faults(op, to)));
        let store = world.store("plain", spec, 1).await.expect("store");
        let value = store.read(None).await.expect("its value");
        let other = Material::single("token", Secret::new("a value that stands nowhere"));
        let refused = store.promote(&context, &other, &other.clone().with("x", Secret::new("y")), None).await;
        let refused = refused.map(|_| value).expect_err("refused");
        assert_eq!(refused.in_doubt, in_doubt, "{refused:?}");
    }
}
