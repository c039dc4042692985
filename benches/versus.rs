//! This build beside another one: start-up, planning, and steps a second, in turns on the same machine.
//!
//! `STANCH_BASELINE=path/to/stanch cargo bench --bench versus` compares with that binary, such as the build of
//! an older commit; without it the figures stand alone. Everything is typed as a person types it, so that it
//! works with any version that knows the sandbox.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures this machine's real time")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

type Error = Box<dyn std::error::Error>;

/// The numbers of credentials in the runbooks.
const SIZES: [usize; 2] = [1, 200];

/// What is typed. `BOOK` is the runbook, and each repetition has a state directory of its own.
const VERSION: &[&str] = &["--version"];
const VALIDATE: &[&str] = &["validate", "BOOK"];
const PLAN: &[&str] = &["plan", "BOOK", "--env", "sandbox"];
const RUN: &[&str] = &["run", "BOOK", "--env", "sandbox", "--yes", "--reason", "bench"];

fn main() -> Result<(), Error> {
    // A folder of the build, and so on a real disk: /tmp is often memory.
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("versus");
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch)?;
    let mut programs = vec![PathBuf::from(env!("CARGO_BIN_EXE_stanch"))];
    programs.extend(std::env::var_os("STANCH_BASELINE").map(fs::canonicalize).transpose()?);
    let bench = Bench { programs, scratch };
    println!("{:<36} {:>12} {:>12} {:>8}", "figure", "this build", "baseline", "ratio");
    for size in SIZES {
        fs::write(bench.book(size), runbook(size)?)?;
    }
    bench.row("stanch --version", VERSION, 1, 101)?;
    for size in SIZES {
        let credentials = if size == 1 { "1 credential".to_owned() } else { format!("{size} credentials") };
        bench.row(&format!("validate, {credentials}"), VALIDATE, size, 31)?;
        bench.row(&format!("plan, {credentials}"), PLAN, size, 11)?;
        let run = bench.row(&format!("run, {credentials}"), RUN, size, 5)?;
        let mut rates = Vec::new();
        for (program, seconds) in bench.programs.iter().zip(run) {
            rates.push(bench.steps(program, size)? as f64 / seconds);
        }
        print_row("  steps a second", &rates, |rate| format!("{rate:.0} /s"));
    }
    if bench.programs.len() == 1 {
        println!("\nNo baseline: set STANCH_BASELINE to the binary of another version.");
    }
    fs::remove_dir_all(&bench.scratch)?;
    Ok(())
}

struct Bench {
    /// This build, and the baseline where there is one.
    programs: Vec<PathBuf>,
    scratch: PathBuf,
}

impl Bench {
    fn book(&self, size: usize) -> PathBuf {
        self.scratch.join(format!("bench-{size}.yaml"))
    }

    /// Measures each program, in turns so that both meet the same load, and prints the medians, in seconds.
    fn row(&self, figure: &str, args: &[&str], size: usize, times: usize) -> Result<Vec<f64>, Error> {
        let mut took = vec![Vec::with_capacity(times); self.programs.len()];
        for _ in 0..times {
            for (program, took) in self.programs.iter().zip(&mut took) {
                let start = Instant::now();
                self.types(program, args, size)?;
                took.push(start.elapsed().as_secs_f64());
            }
        }
        let medians = took.iter_mut().map(|took| {
            took.sort_unstable_by(f64::total_cmp);
            took[took.len() / 2]
        });
        let medians: Vec<f64> = medians.collect();
        print_row(figure, &medians, |seconds| format!("{:.2} ms", seconds * 1000.0));
        Ok(medians)
    }

    /// Types a command in a new state directory, and returns what it printed.
    fn types(&self, program: &Path, args: &[&str], size: usize) -> Result<String, Error> {
        let (book, state) = (self.book(size), self.scratch.join("state"));
        if state.exists() {
            fs::remove_dir_all(&state)?;
        }
        let mut command = Command::new(program);
        for arg in args {
            if *arg == "BOOK" {
                command.arg(&book)
            } else {
                command.arg(arg)
            };
        }
        command.env("STANCH_STATE", &state).env("HOME", &self.scratch).current_dir(&self.scratch);
        let output = command.stdin(Stdio::null()).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{} {} failed: {said}", program.display(), args.join(" ")).into());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// How many steps a program's plan has.
    fn steps(&self, program: &Path, size: usize) -> Result<usize, Error> {
        let plan: serde_json::Value =
            serde_json::from_str(&self.types(program, &[PLAN, &["--json"]].concat(), size)?)?;
        Ok(plan["steps"].as_array().ok_or("a plan has steps")?.len())
    }
}

fn print_row(figure: &str, measured: &[f64], shown: impl Fn(f64) -> String) {
    let baseline = measured.get(1).map(|b| shown(*b)).unwrap_or_default();
    let ratio = measured.get(1).map(|b| format!("x {:.2}", measured[0] / b)).unwrap_or_default();
    println!("{figure:<36} {:>12} {baseline:>12} {ratio:>8}", shown(measured[0]));
}

/// Credentials of the sandbox, each with a store, a consumer and a check, and nothing that waits.
fn runbook(size: usize) -> Result<String, Error> {
    let mut book = String::from(
        "version: 1\nname: bench\nsummary: Measures.\nseverity: low\nenvironments: {sandbox: {}}\n\
         connections: {world: {type: sandbox}}\n\
         phases:\n  verify: {times: 1, every: 0s}\n  proof: {times: 1, every: 0s}\n  overlap: {at_least: 0s}\n  \
         sunset: {at_least: 0s}\ncredentials:\n",
    );
    for n in 0..size {
        write!(
            book,
            "  key{n}:\n    issuer: {{type: sandbox, connection: world, policies: [read], ttl: 24h}}\n    \
             scope: {{max_ttl: 24h, policies: [read]}}\n    \
             stores: [{{type: sandbox, connection: world, path: key/{n}, labels: true}}]\n    \
             consumers: [{{name: web{n}, reload: {{sandbox: {{}}}}, attest: {{sandbox: {{instances: 1}}}}}}]\n    \
             accepts: [{{sandbox: {{policy: read}}}}]\n",
        )?;
    }
    Ok(book)
}
