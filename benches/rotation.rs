//! The figures that stanch promises, each beside a baseline of the same machine in the same run.
//!
//! `cargo bench` prints the table; `cargo bench -- --credentials N` takes another number than
//! 10,000. Parts whose memory counts run in a process of their own: this program calls itself.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures this machine's real time")]

mod measure;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use measure::peak;
use stanch::clock::{Clock as _, Moment, SystemClock};
use stanch::domain::Period;
use stanch::engine::{Answer, Choices, Conduct, Engine, Observer, Operator, survey};
use stanch::journal::{FileJournal, Journal, Latches, LedgerError, RollbackRequest, SealedEntry, StateDir};
use stanch::kind;
use stanch::plan::{Plan, Request, compile};
use stanch::provider::sandbox::Sandbox;
use stanch::provider::{CallContext, Provider};
use stanch::rotation::{End, Event, State};
use stanch::runbook::model;

type Error = Box<dyn std::error::Error>;

const CREDENTIALS: usize = 10_000;
const CONNECTION: &str = "world";
/// How often each part is repeated; the best time counts, since whatever else the machine does can
/// only add to it.
const REPEATS: usize = 3;

fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let value = |flag: &str| args.iter().position(|a| a == flag).and_then(|at| args.get(at + 1));
    let count = value("--credentials").map_or(Ok(CREDENTIALS), |n| n.parse())?;
    match (value("--part"), value("--folder")) {
        (Some(part), Some(folder)) => child(part, Path::new(folder), count),
        _ => table(count),
    }
}

// The table.

fn table(count: usize) -> Result<(), Error> {
    // A folder of the build, and so on a real disk: /tmp is often memory.
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench");
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch)?;
    let threads = std::thread::available_parallelism()?;
    println!("{count} credentials, {threads} cores, best of {REPEATS}\n");
    println!("{:<40} {:>13} {:>13}   baseline", "figure", "measured", "goal");

    let own = spawned(env!("CARGO_BIN_EXE_stanch"), &["--version"])?;
    let bare = spawned("/bin/true", &[])?;
    row("stanch --version", &ms(own), "<= 10 ms", &format!("{} for /bin/true", ms(bare)), own / bare);

    let mut seeds = Vec::new();
    let mut plans = Vec::new();
    for repeat in 0..REPEATS {
        let folder = scratch.join(format!("plan-{repeat}"));
        seeds.push(part("seed", &folder, count)?);
        plans.push(part("plan", &folder, count)?);
    }
    let (seed, plan) = (best(&seeds, "seconds"), best(&plans, "seconds"));
    let (bare, base) = (best(&plans, "bare"), best(&plans, "peak before"));
    let peak = plan["peak"];
    row(
        "plan",
        &s(plan["seconds"]),
        "<= 1 s",
        &format!("{} for a bare client's requests", s(bare["bare"])),
        plan["seconds"] / bare["bare"],
    );
    for step in ["survey", "compile", "digest"] {
        println!("  of that {step:<30} {:>13}", s(plan[step]));
    }
    row(
        "plan, peak memory",
        &mib(peak),
        "<= 200 MiB",
        &format!("{} before planning, with the sandbox's world", mib(base["peak before"])),
        peak / base["peak before"],
    );
    println!("  the world before the leak is made in   {:>13}", s(seed["seconds"]));

    let mut runs = Vec::new();
    let mut bares = Vec::new();
    let mut syncs = Vec::new();
    for repeat in 0..REPEATS {
        let folder = scratch.join(format!("run-{repeat}"));
        part("seed", &folder, count)?;
        syncs.push(syncs_per_second(&folder)?);
        runs.push(part("run", &folder, count)?);
        let folder = scratch.join(format!("bare-{repeat}"));
        part("seed", &folder, count)?;
        bares.push(part("bare", &folder, count)?);
    }
    let (run, bare) = (best(&runs, "seconds"), best(&bares, "seconds"));
    let rate = run["steps"] / run["seconds"];
    let sync = syncs.iter().copied().fold(0.0, f64::max);
    let alone = run["steps"] / bare["seconds"];
    row(
        "run, durable journal",
        &per_second(rate),
        ">= 5000 /s",
        &format!("{} fsyncs of 4 KiB", per_second(sync)),
        rate / sync,
    );
    row("", "", "", &format!("{} for a bare client, no journal", per_second(alone)), rate / alone);
    println!("  steps                                  {:>13}", run["steps"]);
    println!("  journal records                        {:>13}", run["records"]);
    println!("  journal size                           {:>13}", mib(run["bytes"] / 1024.0));
    println!("  fsyncs of the journal                  {:>13}", run["commits"]);
    println!("  fsyncs of the sealed secrets           {:>13}", run["seals"]);
    println!("  time, all                              {:>13}", s(run["seconds"]));
    println!("  of that opening the run                {:>13}", s(run["open"]));
    println!("  of that appending and syncing          {:>13}", s(run["journal"]));
    println!("  processor time                         {:>13}", s(run["processor"]));
    println!("  peak memory                            {:>13}", mib(run["peak"]));
    fs::remove_dir_all(&scratch)?;
    Ok(())
}

fn row(figure: &str, measured: &str, goal: &str, baseline: &str, ratio: f64) {
    println!("{figure:<40} {measured:>13} {goal:>13}   {baseline} (x {ratio:.2})");
}

fn s(seconds: f64) -> String {
    format!("{seconds:.2} s")
}

fn ms(seconds: f64) -> String {
    format!("{:.2} ms", seconds * 1000.0)
}

fn mib(kib: f64) -> String {
    format!("{:.0} MiB", kib / 1024.0)
}

fn per_second(rate: f64) -> String {
    format!("{rate:.0} /s")
}

fn best<'a>(figures: &'a [Figures], by: &str) -> &'a Figures {
    figures.iter().min_by(|a, b| a[by].total_cmp(&b[by])).expect("every part was run")
}

/// The median time from spawning a program to its end, in seconds.
fn spawned(program: &str, args: &[&str]) -> Result<f64, Error> {
    const TIMES: usize = 201;
    let mut times = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let start = Instant::now();
        let status = Command::new(program).args(args).stdout(Stdio::null()).status()?;
        times.push(start.elapsed().as_secs_f64());
        if !status.success() {
            return Err(format!("{program} failed").into());
        }
    }
    times.sort_unstable_by(f64::total_cmp);
    Ok(times[TIMES / 2])
}

/// How often a file in this folder can be appended to durably, when nothing else is done.
fn syncs_per_second(folder: &Path) -> Result<f64, Error> {
    let path = folder.join("fsync");
    let mut file = File::create(&path)?;
    let start = Instant::now();
    let mut times = 0_u32;
    while start.elapsed() < Duration::from_secs(2) {
        file.write_all(&[b'x'; 4096])?;
        file.sync_data()?;
        times += 1;
    }
    let rate = f64::from(times) / start.elapsed().as_secs_f64();
    fs::remove_file(&path)?;
    Ok(rate)
}

/// What a part measured, by name. Memory is in KiB, time in seconds.
type Figures = BTreeMap<String, f64>;

/// Runs a part in its own process.
fn part(name: &str, folder: &Path, count: usize) -> Result<Figures, Error> {
    let (count, folder) = (count.to_string(), folder.to_string_lossy());
    measure::part(&["--part", name, "--credentials", &count, "--folder", &folder])
}

// The parts.

fn child(part: &str, folder: &Path, count: usize) -> Result<(), Error> {
    // As many as the command line uses.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(4).build()?;
    let bench = Bench { folder: folder.to_owned(), state: StateDir::open(folder)?, runbook: runbook(count) };
    let figures = runtime.block_on(async {
        match part {
            "seed" => bench.seed(),
            "plan" => bench.plan().await,
            "run" => bench.run().await,
            "bare" => bench.bare().await,
            other => Err(format!("there is no part `{other}`").into()),
        }
    })?;
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

struct Bench {
    folder: PathBuf,
    state: StateDir,
    runbook: model::Runbook,
}

impl Bench {
    fn world(&self) -> Result<Sandbox, Error> {
        Ok(Sandbox::open(&self.state.sandbox(), self.state.sealer()?)?)
    }

    /// The world as it stood before the leak.
    fn seed(&self) -> Result<Figures, Error> {
        let start = Instant::now();
        let world = self.world()?;
        for (name, credential) in &self.runbook.credentials {
            world.seed(name, credential)?;
        }
        Ok(figures([("seconds", seconds(start))]))
    }

    async fn plan(self) -> Result<Figures, Error> {
        let provider: Arc<dyn Provider> = Arc::new(self.world()?);
        // Before the plan, so that what it leaves in memory does not help.
        let bare = bare_survey(&provider, &self.runbook).await?;
        let before = peak()?;
        let start = Instant::now();
        let observed = survey(&provider, &self.runbook, &Choices::default()).await?;
        let surveyed = seconds(start);
        let plan = compile(self.runbook, &request(), observed)?;
        let compiled = seconds(start);
        let digest = plan.digest();
        let all = seconds(start);
        assert_eq!(digest.len(), 64);
        Ok(figures([
            ("seconds", all),
            ("survey", surveyed),
            ("compile", compiled - surveyed),
            ("digest", all - compiled),
            ("bare", bare),
            ("peak", peak()?),
            ("peak before", before),
        ]))
    }

    async fn run(self) -> Result<Figures, Error> {
        let provider: Arc<dyn Provider> = Arc::new(self.world()?);
        let observed = survey(&provider, &self.runbook, &Choices::default()).await?;
        let plan: Arc<Plan> = Arc::new(compile(self.runbook, &request(), observed)?);
        let clock = Arc::new(SystemClock::new());
        let counts = Arc::new(Counts::default());
        let (processor, start) = (processor()?, Instant::now());
        let now = clock.now();
        let journal = self.state.create(&plan, None, ("bench", "localhost"), now)?;
        let opened = seconds(start);
        let run = journal.run().to_owned();
        let (_interrupt, interrupt) = tokio::sync::watch::channel(false);
        let engine = Engine {
            provider,
            journal: Box::new(Counting { journal, counts: Arc::clone(&counts) }),
            clock,
            sealer: Arc::new(self.state.sealer()?),
            operator: Arc::new(Nobody),
            observer: Box::new(Nobody),
            interrupt,
        };
        let state = engine.run(State::new(Arc::clone(&plan), now.wall), Conduct::default()).await?;
        let all = seconds(start);
        if state.end() != Some(End::Done) {
            return Err(format!("the run ended as {:?}, {:?}", state.end(), state.stopped()).into());
        }
        let peak = peak()?;
        let journal = fs::read(self.state.journal_path(&run))?;
        let records = journal.iter().filter(|b| **b == b'\n').count();
        Ok(figures([
            ("seconds", all),
            ("open", opened),
            ("processor", self::processor()? - processor),
            ("steps", plan.steps.len() as f64),
            ("records", records as f64),
            ("bytes", journal.len() as f64),
            ("commits", counts.commits.load(Ordering::Relaxed) as f64),
            ("seals", counts.seals.load(Ordering::Relaxed) as f64),
            ("journal", counts.time().as_secs_f64()),
            ("peak", peak),
        ]))
    }

    /// The requests of a run, without a plan, a journal or seals.
    async fn bare(self) -> Result<Figures, Error> {
        let provider: Arc<dyn Provider> = Arc::new(self.world()?);
        let start = Instant::now();
        for (name, credential) in &self.runbook.credentials {
            bare_rotation(provider.as_ref(), name, credential).await?;
        }
        let seconds = seconds(start);
        drop(self.folder);
        Ok(figures([("seconds", seconds)]))
    }
}

/// The requests of a survey, one after the other.
async fn bare_survey(provider: &Arc<dyn Provider>, runbook: &model::Runbook) -> Result<f64, Error> {
    let start = Instant::now();
    for (name, credential) in &runbook.credentials {
        let issuer = provider.issuer(name, credential).await?;
        let store = provider.store(name, credential, 0).await?;
        store.preflight().await;
        let versions = store.observe().await?;
        let outgoing = store.read(versions.current.as_deref()).await?;
        let standing = issuer.identify(&outgoing).await?;
        issuer.preflight(standing.as_ref().map(|s| &s.identity)).await;
        issuer.existing().await?;
    }
    Ok(seconds(start))
}

/// The requests of one credential's steps, one after the other.
async fn bare_rotation(
    provider: &dyn Provider,
    name: &str,
    credential: &model::Credential,
) -> Result<(), Error> {
    let context = CallContext {
        run: "bare".into(),
        step: name.into(),
        token: uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, name.as_bytes()),
        since: SystemClock::new().now().wall,
        last: SystemClock::new().now().wall,
        siblings: Vec::new(),
        before: Default::default(),
        expected: None,
        ahead: stanch::provider::Ahead::default(),
        held: None,
        outgoing: None,
    };
    let issuer = provider.issuer(name, credential).await?;
    let store = provider.store(name, credential, 0).await?;
    let consumer = provider.consumer(name, credential, 0).await?;
    let probe = provider.probe(name, credential, &credential.accepts[0]).await?;
    // preflight
    store.preflight().await;
    let current = store.observe().await?.current.unwrap_or_default();
    let outgoing = store.read(Some(&current)).await?;
    let old = issuer.identify(&outgoing).await?.ok_or("the old credential is not known")?.identity;
    issuer.preflight(Some(&old)).await;
    // prepare, distribute, verify
    let issued = issuer.issue(&context, None).await?;
    issuer.inspect(&issued.identity.handle).await?;
    let staged = store.stage(&context, &issued.material).await?;
    issuer.attempt(&issued.material).await?;
    probe.attempt(&issued.material).await?;
    // cutover, overlap
    store.promote(&context, &issued.material, &outgoing, Some(&staged)).await?;
    consumer.reload(&context).await?;
    consumer.attest().await;
    // sunset, revoke, proof
    issuer.disable(&context, &old.handle).await?;
    issuer.revoke(&context, &old.handle, Some(&outgoing)).await?;
    issuer.attempt(&outgoing).await?;
    probe.attempt(&outgoing).await?;
    Ok(())
}

fn runbook(count: usize) -> model::Runbook {
    let sure =
        || Some(model::PhaseSpec { times: Some(1), every: Some(Period::seconds(0)), ..Default::default() });
    let credentials = (0..count)
        .map(|n| {
            let name = format!("credential-{n:05}");
            let credential = model::Credential {
                issuer: model::Issuer::Sandbox(kind::sandbox::SandboxIssuer {
                    connection: CONNECTION.into(),
                    policies: Vec::new(),
                    ttl: None,
                    coexist: None,
                    can_disable: true,
                }),
                scope: model::Scope::default(),
                outgoing: None,
                stores: vec![model::Store::Sandbox(kind::sandbox::SandboxStore {
                    connection: CONNECTION.into(),
                    path: format!("apps/{name}"),
                    labels: true,
                })],
                consumers: vec![model::Consumer {
                    name: "app".into(),
                    reload: Some(model::Call::Sandbox {}),
                    attest: Some(model::Attest::Sandbox(kind::sandbox::SandboxAttest { instances: 1 })),
                }],
                accepts: vec![model::Probe::Sandbox(kind::sandbox::SandboxProbe { policy: None })],
                rejects: None,
                after: Vec::new(),
            };
            (name, credential)
        })
        .collect();
    model::Runbook {
        version: 1,
        name: "bench".into(),
        summary: None,
        owner: None,
        cadence: None,
        windows: Vec::new(),
        severity: model::Severity::Medium,
        environments: [("sandbox".to_owned(), BTreeMap::new())].into(),
        strategy: model::Strategy::Overlap,
        connections: [(
            CONNECTION.to_owned(),
            model::Connection::Sandbox(kind::sandbox::World { latency: None }),
        )]
        .into(),
        credentials,
        phases: model::Phases { verify: sure(), proof: sure(), ..Default::default() },
        gates: BTreeMap::new(),
        approvals: None,
        limits: model::Limits { concurrency: 1024, ..model::Limits::default() },
        notify: None,
    }
}

fn request() -> Request {
    Request {
        environment: "sandbox".into(),
        sandbox: true,
        runbook_sha256: "0".repeat(64),
        tool: "bench".into(),
        directory: None,
    }
}

// Measuring.

fn figures<const N: usize>(pairs: [(&str, f64); N]) -> Figures {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn seconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64()
}

/// The processor time of this process' threads, in seconds.
fn processor() -> Result<f64, Error> {
    let mut nanos = 0.0;
    for thread in fs::read_dir("/proc/self/task")? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        nanos += text.split(' ').next().unwrap_or_default().parse::<f64>()?;
    }
    Ok(nanos / 1e9)
}

#[derive(Default)]
struct Counts {
    commits: AtomicU64,
    seals: AtomicU64,
    time: Mutex<Duration>,
}

impl Counts {
    fn time(&self) -> Duration {
        *self.time.lock().expect("nothing panics while it is held")
    }

    fn timed<T>(&self, count: &AtomicU64, act: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = act();
        count.fetch_add(1, Ordering::Relaxed);
        *self.time.lock().expect("nothing panics while it is held") += start.elapsed();
        result
    }
}

/// The journal, with its durable appends counted: each is one fsync.
struct Counting {
    journal: FileJournal,
    counts: Arc<Counts>,
}

impl Journal for Counting {
    fn run(&self) -> &str {
        self.journal.run()
    }

    fn commit(&mut self, at: Moment, events: &[Event]) -> Result<(), LedgerError> {
        if events.is_empty() {
            return Ok(());
        }
        self.counts.timed(&self.counts.commits, || self.journal.commit(at, events))
    }

    fn latches(&self) -> Arc<dyn Latches> {
        self.journal.latches()
    }

    fn take_request(&mut self) -> Result<Option<RollbackRequest>, LedgerError> {
        self.journal.take_request()
    }

    fn take_approvals(&mut self) -> Result<Vec<stanch::approve::Signed>, LedgerError> {
        self.journal.take_approvals()
    }

    fn keep_sealed(&mut self, entries: &[SealedEntry]) -> Result<(), LedgerError> {
        if entries.is_empty() {
            return Ok(());
        }
        self.counts.timed(&self.counts.seals, || self.journal.keep_sealed(entries))
    }

    fn sealed(&self) -> Result<Vec<SealedEntry>, LedgerError> {
        self.journal.sealed()
    }

    fn close(&mut self) -> Result<(), LedgerError> {
        self.journal.close()
    }
}

/// Answers nothing and shows nothing.
struct Nobody;

#[async_trait]
impl Operator for Nobody {
    async fn ask(&self, _name: &str, _question: &str) -> Answer {
        Answer::Nobody
    }
}

impl Observer for Nobody {
    fn recorded(&mut self, _at: Moment, _events: &[Event], _state: &State) {}
    fn tick(&mut self, _at: Moment, _state: &State) {}
}
