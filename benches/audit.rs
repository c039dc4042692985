//! How long a journal takes to verify, beside hashing the same file with `sha256sum`.
//!
//! `cargo bench --bench audit` takes a journal of 100,000 records; `-- --records N` takes another number. The
//! journal is written by the journal's own writer, every record through its fsync, and stands in the build
//! folder for as long as this takes: 10,000,000 records are about 5 GiB.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures this machine's real time")]

mod measure;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use measure::peak;
use stanch::clock::{Clock as _, Moment, SystemClock, add};
use stanch::domain::{ErrorKind, Verdict};
use stanch::engine::{Choices, survey};
use stanch::journal::{Journal as _, StateDir};
use stanch::plan::{Plan, Request, compile};
use stanch::provider::Provider;
use stanch::provider::sandbox::Sandbox;
use stanch::rotation::{Ended, Event, Failure, Op};
use stanch::runbook::{Source, check};

type Error = Box<dyn std::error::Error>;

const RECORDS: u64 = 100_000;
/// How often each part is repeated; the best time counts, since whatever else the machine does can
/// only add to it.
const REPEATS: usize = 3;
/// How many events one commit holds: what a run with many calls under way writes at once, and so few
/// that a checkpoint comes at the latest after 256 records.
const BATCH: u64 = 64;

fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let value = |flag: &str| args.iter().position(|a| a == flag).and_then(|at| args.get(at + 1));
    let records = value("--records").map_or(Ok(RECORDS), |n| n.parse())?;
    match (value("--part"), value("--folder")) {
        (Some(part), Some(folder)) => child(part, Path::new(folder)),
        _ => table(records),
    }
}

fn table(records: u64) -> Result<(), Error> {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-audit");
    let _ = fs::remove_dir_all(&scratch);
    let (run, journal) = write(&scratch, records)?;
    let size = fs::metadata(&journal)?.len();
    println!("{records} records, {} MiB, best of {REPEATS}\n", size >> 20);
    println!("{:<44} {:>10} {:>12} {:>10}", "", "time", "processor", "MiB/s");

    // In turns, so that what else the machine does falls on all of them. The first round also brings
    // the file into memory.
    let state = scratch.to_string_lossy().into_owned();
    let verify = [env!("CARGO_BIN_EXE_stanch"), "--state", &state, "audit", "verify", &run];
    let file = journal.to_string_lossy().into_owned();
    let commands: [&[&str]; 3] = [&verify, &["sha256sum", &file], &["openssl", "dgst", "-sha256", &file]];
    let mut best = [None::<Took>; 3];
    for _ in 0..REPEATS {
        for (command, best) in commands.iter().zip(&mut best) {
            if let Some(took) = took(command)? {
                *best = Some(best.map_or(took, |b| b.min(took)));
            }
        }
    }
    for (name, took) in ["stanch audit verify", "sha256sum", "openssl dgst -sha256"].iter().zip(best) {
        match took {
            Some(took) => println!(
                "{name:<44} {:>8.2} s {:>10.2} s {:>10.0}",
                took.wall,
                took.processor,
                size as f64 / f64::from(1 << 20) / took.wall
            ),
            None => println!("{name:<44} {:>10}", "not here"),
        }
    }
    println!();
    if let Some(own) = best[0] {
        for (name, other) in [("sha256sum", best[1]), ("openssl dgst -sha256", best[2])] {
            let Some(other) = other else { continue };
            println!(
                "time, as a multiple of {name:<21} {:>10.2} {:>12.2}",
                own.wall / other.wall,
                own.processor / other.processor
            );
        }
        println!("goal: at most 3 times sha256sum\n");
    }
    for part in ["verify", "audit"] {
        let figures = self::part(part, &scratch)?;
        println!(
            "{:<44} {:>8.2} s {:>8.1} MiB at the most, {:.1} before",
            if part == "verify" {
                "in this program: what `audit verify` does"
            } else {
                "in this program: reading every record"
            },
            figures[0],
            figures[1] / 1024.0,
            figures[2] / 1024.0
        );
    }
    fs::remove_dir_all(&scratch)?;
    Ok(())
}

// The journal.

/// Writes a journal of about so many records, and returns the run and the file.
fn write(folder: &Path, records: u64) -> Result<(String, PathBuf), Error> {
    let state = StateDir::open(folder)?;
    let plan = Arc::new(plan(&state)?);
    let start = SystemClock::new().now();
    let mut journal = state.create(&plan, Some("a benchmark".into()), ("bench", "localhost"), start)?;
    let run = journal.run().to_owned();
    let events = events(&plan);
    let mut events = events.iter().cycle();
    // With every 256 of them comes a checkpoint.
    let commits = records / 257 * 256 / BATCH;
    for n in 0..commits {
        let later = Duration::from_millis(n * 7);
        let at = Moment { wall: add(start.wall, later), mono_ms: start.mono_ms + n * 7 };
        let batch: Vec<Event> = events.by_ref().take(BATCH as usize).cloned().collect();
        journal.commit(at, &batch)?;
    }
    journal.commit(start, &[Event::Stopped { reason: stanch::rotation::Stop::Interrupted }])?;
    Ok((run.clone(), state.journal_path(&run)))
}

fn plan(state: &StateDir) -> Result<Plan, Error> {
    let quickstart = Path::new(env!("CARGO_MANIFEST_DIR")).join("runbooks/quickstart.yaml");
    let template = check(&Source::read(&quickstart)?).runbook.ok_or("the quickstart is not right")?;
    let runbook = template.instantiate("sandbox")?;
    let world = Sandbox::open(&state.sandbox(), state.sealer()?)?;
    for (name, credential) in &runbook.credentials {
        world.seed(name, credential)?;
    }
    let provider: Arc<dyn Provider> = Arc::new(world);
    let request = Request {
        environment: "sandbox".into(),
        sandbox: true,
        runbook_sha256: template.sha256().into(),
        tool: "bench".into(),
        directory: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let observed = runtime.block_on(survey(&provider, &runbook, &Choices::default()))?;
    Ok(compile(runbook, &request, observed)?)
}

/// What a run records of its steps and of its waiting. They are not a run: verification reads the
/// chain and not the story.
fn events(plan: &Plan) -> Vec<Event> {
    let mut events = Vec::new();
    for step in &plan.steps {
        for attempt in 1..=2 {
            let (op, step) = (Op::Do, step.id.clone());
            events.push(Event::Intent { step: step.clone(), op, attempt, round: 0 });
            let error = (attempt == 1).then(|| Failure {
                kind: ErrorKind::Throttled,
                message: "the server answered 429: too many requests".into(),
                hint: None,
                request_id: Some("4f3b6a52-7f0e-4f0e-9a57-0b7a4f0c2f11".into()),
                retry_after_ms: Some(500),
            });
            events.push(Event::Outcome {
                step,
                op,
                attempt,
                result: if error.is_some() { Ended::Rejected } else { Ended::Succeeded },
                facts: [("version", "12"), ("was", "11")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
                checks: Vec::new(),
                error,
                latency_ms: 12,
            });
        }
        events.push(Event::Heartbeat {});
        events.push(Event::Judged {
            gate: "adopted".into(),
            verdict: Verdict::Inconclusive,
            detail: "2/3 instances use the new one".into(),
        });
    }
    events
}

// Measuring.

#[derive(Debug, Clone, Copy)]
struct Took {
    wall: f64,
    processor: f64,
}

impl Took {
    fn min(self, other: Self) -> Self {
        Self { wall: self.wall.min(other.wall), processor: self.processor.min(other.processor) }
    }
}

/// How long a program takes, from spawning it to its end. `None` when it is not there.
fn took(command: &[&str]) -> Result<Option<Took>, Error> {
    let before = children()?;
    let start = Instant::now();
    let status = match Command::new(command[0]).args(&command[1..]).stdout(Stdio::null()).status() {
        Ok(status) => status,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let wall = start.elapsed().as_secs_f64();
    if !status.success() {
        return Err(format!("{} failed", command.join(" ")).into());
    }
    Ok(Some(Took { wall, processor: children()? - before }))
}

/// The processor time of the children that have ended, in seconds.
fn children() -> Result<f64, Error> {
    /// What Linux counts these in, on every platform that Rust's standard library knows.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The program's name stands in parentheses, and may hold spaces; `cutime` and `cstime` are the
    // 14th and 15th fields behind it.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| -> Result<f64, Error> { Ok(fields.get(at).ok_or("no such field")?.parse()?) };
    Ok((ticks(13)? + ticks(14)?) / TICKS_PER_SECOND)
}

/// Seconds, the peak memory, and what was held before, in KiB.
fn part(name: &str, folder: &Path) -> Result<[f64; 3], Error> {
    measure::part(&["--part", name, "--folder", &folder.to_string_lossy()])
}

fn child(part: &str, folder: &Path) -> Result<(), Error> {
    let state = StateDir::open(folder)?;
    let run = state.runs()?.pop().ok_or("no run")?;
    let before = peak()?;
    let start = Instant::now();
    let report = match part {
        "verify" => state.verify(&run)?,
        "audit" => state.audit(&run, drop)?,
        other => return Err(format!("there is no part `{other}`").into()),
    };
    let seconds = start.elapsed().as_secs_f64();
    if report.fault.is_some() || report.unanchored() > 0 {
        return Err(format!("the journal is not good: {report:?}").into());
    }
    println!("{}", serde_json::to_string(&[seconds, peak()?, before])?);
    Ok(())
}
