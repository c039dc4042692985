//! Deterministic simulation: the real `rotation` and `engine` over the sandbox in memory, on a virtual clock,
//! one seed a schedule. Runbooks, faults, operators and crashes are drawn by chance; an independent model of
//! issuers and stores checks the nine invariants after every event.
//!
//! `scripts/simulate --help` says how to run it. A seed that fails prints itself, is played again (and must
//! fail in the same way), and is made smaller until nothing can be left out.
#![expect(clippy::print_stdout, reason = "this is a program")]

mod model;
mod play;
mod script;
mod shrink;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use stanch::sabotage::{self, Sabotage};

use self::play::Played;
use self::script::Script;

/// Plays schedules and checks the invariants.
#[derive(Debug, Parser)]
struct Args {
    /// How many schedules.
    #[arg(long, default_value_t = 20_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Stop after so many minutes, whatever was asked.
    #[arg(long)]
    minutes: Option<u64>,
    /// Go on after a violation: a line for each seed that fails, and nothing is made smaller.
    #[arg(long)]
    all: bool,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Play one seed, and print what happens.
    #[arg(long)]
    seed: Option<u64>,
    /// Play a schedule from a file (as a failing seed prints it), and print what happens.
    #[arg(long)]
    replay: Option<std::path::PathBuf>,
    /// Break the code in each of eighteen ways, and demand that each is caught, as the invariant that it hurts.
    #[arg(long)]
    breaks: bool,
    /// For `cargo test`, which passes filters and flags of its own; not used.
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    std::panic::set_hook(Box::new(|_| {}));
    let good = if args.breaks {
        every_break_is_caught()
    } else if let Some(seed) = args.seed {
        show(play::draw(seed, true))
    } else if let Some(path) = &args.replay {
        let text = std::fs::read_to_string(path).expect("the schedule can be read");
        show(play::again(serde_json::from_str(&text).expect("a schedule"), true))
    } else {
        found() & many(&args)
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn show(played: Played) -> bool {
    for line in &played.trace {
        println!("{line}");
    }
    match played.violation {
        None => println!("every invariant held"),
        Some(violation) => {
            println!("INVARIANT {}: {}", violation.invariant, violation.what);
            return false;
        }
    }
    true
}

/// Plays the schedules that once failed: each shows a mistake that was mended.
fn found() -> bool {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sim/found");
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).expect("folder").map(|entry| entry.expect("entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "json"));
    paths.sort();
    let mut all = true;
    for path in &paths {
        let text = std::fs::read_to_string(path).expect("the schedule can be read");
        let script = match serde_json::from_str(&text) {
            Ok(script) => script,
            Err(error) => {
                println!("{}: {error}", path.display());
                all = false;
                continue;
            }
        };
        let played = play::again(script, false);
        if let Some(violation) = played.violation {
            println!("{}: INVARIANT {}: {}", path.display(), violation.invariant, violation.what);
            all = false;
        }
    }
    println!("{} schedules that once failed: {}", paths.len(), if all { "right" } else { "WRONG" });
    all
}

/// How often a schedule is played twice, to see that it takes the same course.
const TWICE_EVERY: u64 = 64;

#[expect(clippy::disallowed_methods, reason = "how long a simulation takes is real time")]
fn many(args: &Args) -> bool {
    let start = Instant::now();
    let end = args.minutes.map(|m| start + Duration::from_secs(m * 60));
    let (next, done) = (AtomicU64::new(args.from), AtomicU64::new(0));
    let failed = AtomicBool::new(false);
    let totals: Mutex<BTreeMap<String, u64>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..args.threads {
            scope.spawn(|| {
                let mut happened: BTreeMap<String, u64> = BTreeMap::new();
                while (args.all || !failed.load(Ordering::Relaxed))
                    && end.is_none_or(|end| Instant::now() < end)
                {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= args.from + args.seeds {
                        break;
                    }
                    let mut played = play::draw(seed, false);
                    if played.violation.is_none() && seed % TWICE_EVERY == 0 {
                        let script = played.script.clone().expect("a script");
                        let second = play::again(script, false);
                        if second.digest != played.digest && played.script.as_ref().is_some_and(|s| !s.files)
                        {
                            let what = "the same schedule took another course when it was played again";
                            played.violation = Some(model::Violation { invariant: 0, what: what.into() });
                        }
                        *happened.entry("played twice, with the same course".into()).or_default() += 1;
                    }
                    for (what, n) in std::mem::take(&mut played.happened) {
                        *happened.entry(what).or_default() += n;
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                    let Some(violation) = &played.violation else { continue };
                    let first = !failed.swap(true, Ordering::Relaxed);
                    if args.all {
                        println!("seed {seed}: INVARIANT {}: {}", violation.invariant, violation.what);
                    } else if first {
                        report(seed, violation, played.script.clone().expect("a script"));
                    }
                }
                let mut totals = totals.lock().expect("lock");
                for (what, n) in happened {
                    *totals.entry(what).or_default() += n;
                }
            });
        }
    });
    let done = done.load(Ordering::Relaxed);
    println!("{done} schedules in {} s; what really happened:", start.elapsed().as_secs());
    for (what, n) in totals.lock().expect("lock").iter() {
        println!("  {n:>10}  {what}");
    }
    !failed.load(Ordering::Relaxed)
}

/// Prints a failing seed, and the smallest schedule that fails in the same way.
fn report(seed: u64, violation: &model::Violation, script: Script) {
    println!("seed {seed}: INVARIANT {}: {}", violation.invariant, violation.what);
    println!("play it again with: scripts/simulate --seed {seed}");
    let again = play::again(script.clone(), false).violation;
    if again.as_ref() != Some(violation) {
        println!("NOT THE SAME when played again: {again:?}");
    }
    let small = shrink::smallest(script, violation.invariant);
    let path = std::env::temp_dir().join(format!("stanch-schedule-{seed}.json"));
    let text = serde_json::to_string_pretty(&small).expect("JSON");
    std::io::Write::write_all(&mut std::fs::File::create(&path).expect("file"), text.as_bytes())
        .expect("write");
    println!("the smallest schedule that fails alike ({}), also with --replay:\n{text}", path.display());
    let mut played = play::again(small, true);
    played.trace.drain(..played.trace.len().saturating_sub(120));
    show(played);
}

/// A harness that catches nothing proves nothing: each break must be caught, and as what it is.
fn every_break_is_caught() -> bool {
    const BREAKS: [(Sabotage, u8); 18] = [
        (Sabotage::Outage, 1),
        (Sabotage::Survivor, 2),
        (Sabotage::Orphan, 3),
        (Sabotage::Twin, 4),
        (Sabotage::Unrecorded, 5),
        (Sabotage::Halt, 6),
        (Sabotage::WayBack, 7),
        (Sabotage::Leak, 8),
        (Sabotage::Unseen, 9),
        (Sabotage::Control, 2),
        (Sabotage::LastLook, 1),
        (Sabotage::ReturnLook, 1),
        (Sabotage::Summary, 2),
        (Sabotage::Absence, 2),
        (Sabotage::Sweep, 3),
        (Sabotage::Unknown, 2),
        (Sabotage::Descendants, 2),
        (Sabotage::Settle, 1),
    ];
    const SEEDS: u64 = 20_000;
    let mut all = true;
    for (broken, invariant) in BREAKS {
        sabotage::switch(Some(broken));
        // One break may hurt several invariants (a twin is an orphan, too); its own must be among them.
        let caught = (0..SEEDS).find_map(|seed| {
            let violation = play::draw(seed, false).violation?;
            (violation.invariant == invariant).then_some((seed, violation))
        });
        sabotage::switch(None);
        all &= caught.is_some();
        match caught {
            Some((seed, v)) => {
                println!("{broken:?}: caught by seed {seed}: INVARIANT {}: {}", v.invariant, v.what)
            }
            None => println!("{broken:?}: NOT CAUGHT by {SEEDS} schedules"),
        }
    }
    all
}
