//! The commands on two ledgers, one in files and one in memory: each story is told to both, and must read the
//! same, byte by byte, but for times, for names and digests that are drawn by chance, and for the
//! numbers of records.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;

use super::context::Context;
use super::{Cli, CliError, Exit, Global, dispatch};
use crate::clock::{Clock as _, SystemClock};
use crate::journal::{Ledger, MemoryLedger, SealingKey, StateDir};
use crate::output::Mode;
use crate::rotation::{Event, Next, Task, Wishes};

thread_local! {
    /// What the commands of this thread printed and said, while somebody listens.
    static HEARD: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Takes what a command prints or says, where somebody listens.
pub(super) fn capture(text: &str) -> bool {
    HEARD.with_borrow_mut(|heard| {
        let Some(heard) = heard else { return false };
        heard.push_str(text.trim_end_matches('\n'));
        heard.push('\n');
        true
    })
}

/// What a person who types has: a ledger, and a machine with a sandbox and a runbook.
#[derive(Clone)]
struct Desk {
    folder: Arc<tempfile::TempDir>,
    ledger: Arc<dyn Ledger>,
}

const RUNBOOK: &str = "
version: 1
name: cli
environments: { sandbox: {} }
connections: { world: { type: sandbox } }
credentials:
  key:
    issuer: { type: sandbox, connection: world, policies: [read], ttl: 1h }
    scope: { max_ttl: 1h, policies: [read] }
    stores: [{ type: sandbox, connection: world, path: a, labels: true }]
    accepts: [{ sandbox: { policy: read } }]
phases:
  verify: { times: 1, every: 0s }
  overlap: { at_least: 10m }
";

impl Desk {
    fn both() -> [Self; 2] {
        let folder = || Arc::new(tempfile::tempdir().expect("a folder"));
        let files = folder();
        let state = StateDir::open(&files.path().join("state")).expect("a state folder");
        let desks = [
            Self { folder: files, ledger: Arc::new(state) },
            Self { folder: folder(), ledger: Arc::new(MemoryLedger::default()) },
        ];
        for desk in &desks {
            let mut file = std::fs::File::create(desk.runbook()).expect("a file");
            std::io::Write::write_all(&mut file, RUNBOOK.as_bytes()).expect("written");
        }
        desks
    }

    fn runbook(&self) -> PathBuf {
        self.folder.path().join("runbook.yaml")
    }

    fn context(&self) -> Context {
        Context {
            ledger: Arc::clone(&self.ledger),
            sealing: SealingKey::of(&self.folder.path().join("home")),
            sandbox: self.folder.path().join("sandbox"),
            outbox: self.folder.path().join("outbox"),
            notify: None,
            clock: Arc::new(SystemClock::new()),
            actor: "tester".into(),
            host: "here".into(),
            who: crate::domain::Who::default(),
            parent: None,
            // These tests are about the words of the commands themselves.
            mode: Mode::Quiet,
            drill: None,
        }
    }

    /// Types a command, and returns how it ended and everything that was to be read.
    fn types(&self, line: &str) -> (Exit, String) {
        let runs = block_on(self.ledger.runs()).expect("runs");
        let newest = block_on(self.ledger.newest()).expect("runs").unwrap_or_default();
        let word = |word: &str| match word {
            "RUNBOOK" => self.runbook().display().to_string(),
            "RUN" => newest.clone(),
            "STEP" => self.unknown(),
            other => other.to_owned(),
        };
        let cli = Cli::try_parse_from(std::iter::once("stanch".into()).chain(line.split(' ').map(word)));
        let cli = cli.unwrap_or_else(|error| panic!("{line}: {error}"));
        HEARD.set(Some(String::new()));
        let ended = dispatch(cli, &|_: &Global, _| Ok::<_, CliError>(self.context()));
        let mut text = HEARD.take().expect("heard");
        let exit = ended.unwrap_or_else(|error| {
            let _ = writeln!(text, "{error:?}");
            error.exit
        });
        // A run that this command opened has a name, too.
        let after = block_on(self.ledger.runs()).expect("runs");
        for run in after.iter().chain(&runs) {
            // In a column a longer name has fewer spaces behind it.
            text =
                text.replace(&format!("{run:<48}"), &format!("{:<48}", "RUN")).replace(run.as_str(), "RUN");
        }
        text = text
            .replace(&self.ledger.place(), "PLACE")
            .replace(&self.runbook().display().to_string(), "RUNBOOK");
        (exit, same(&text))
    }

    /// Types commands, checks how each ends and what it says, and returns everything that was to be read.
    fn follows(&self, story: &[(&str, u8, &str)]) -> String {
        let mut all = String::new();
        for (line, code, says) in story {
            let (exit, text) = self.types(line);
            assert_eq!(exit.code(), *code, "{} after {line}:\n{text}", self.ledger.place());
            assert!(
                text.contains(&same(says)),
                "{} after {line}, not `{says}`:\n{text}",
                self.ledger.place()
            );
            let _ = writeln!(all, "$ {line} [{code}]\n{text}");
        }
        all
    }

    /// The first step of the only open run that needs a person's word, or needed it.
    fn unknown(&self) -> String {
        let run = block_on(self.ledger.find(None)).expect("a run");
        let state = block_on(self.ledger.load(&run)).expect("its state");
        state.plan().steps.iter().find(|step| step.id.starts_with("distribute/")).expect("a step").id.clone()
    }

    /// A process that dies with calls on their way: their intents are the last that it recorded.
    fn dies_in_a_call(&self) {
        let now = SystemClock::new().now();
        let run = block_on(self.ledger.find(None)).expect("a run");
        let (mut journal, mut state) =
            block_on(self.ledger.resume(&run, ("tester", "here"), now)).expect("resumed");
        let mut record = |event: Event| {
            state.apply(&event, now.wall).expect("it follows");
            journal.commit(now, &[event]).expect("recorded");
            state.decide(now.wall, &Wishes { capacity: 9, ..Wishes::default() })
        };
        let mut decision = record(Event::Resumed {});
        while decision.tasks.is_empty() {
            let Next::Record(event) = decision.next else { panic!("nothing to do: {decision:?}") };
            decision = record(event);
        }
        for task in decision.tasks {
            let Task::Perform { step, op, attempt } = task else { panic!("{task:?}") };
            let step = block_on(self.ledger.load(&run)).expect("state").plan().steps[step].id.clone();
            record(Event::Intent { step, op, attempt, round: 0 });
        }
    }

    /// Waits until a process works on the only open run, and has come so far that it only waits.
    fn waits_until_live(&self) {
        let is_waiting = || {
            let run = block_on(self.ledger.find(None)).ok()?;
            let live = block_on(self.ledger.is_live(&run)).ok()?;
            let state = block_on(self.ledger.load(&run)).ok()?;
            (live && state.phase() == Some(crate::domain::Phase::Overlap) && state.stopped().is_none())
                .then_some(())
        };
        for _ in 0..400 {
            if is_waiting().is_some() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("no process came to work on the run");
    }
}

/// Tells a story to both ledgers.
fn both(story: &[(&str, u8, &str)]) {
    alike(|desk| desk.follows(story));
}

fn alike(story: impl Fn(&Desk) -> String) {
    let [files, memory] = Desk::both().map(|desk| story(&desk));
    for (of_files, of_memory) in files.lines().zip(memory.lines()) {
        assert_eq!(of_files, of_memory, "the ledgers differ");
    }
    assert_eq!(files, memory, "the ledgers differ");
}

/// A text without what the clock and chance put there: moments, times of day, seconds that passed, digests.
fn same(text: &str) -> String {
    let replaced = [
        (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "MOMENT"),
        (r"\b\d\d:\d\d(:\d\d)?\b", "CLOCK"),
        (r"\b(\d+m )?\d+s\b", "WHILE"),
        (r"\b[0-9a-f]{8,64}\b", "ID"),
        // A ledger's own checkpoints count in its numbers of records.
        (r"(?m)^ *\d+ MOMENT", "SEQ MOMENT"),
    ];
    replaced.iter().fold(text.to_owned(), |text, (pattern, name)| {
        let pattern = regex_lite::Regex::new(pattern).expect("a pattern");
        pattern.replace_all(&text, *name).into_owned()
    })
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    super::block_on(future).expect("a runtime")
}

const RUN: (&str, u8, &str) =
    ("run RUNBOOK --env sandbox --yes --no-wait --reason leaked", 10, "resume    stanch resume RUN");

#[test]
fn without_runs_there_is_nothing_to_do() {
    both(&[
        ("runs", 0, "no runs in PLACE"),
        ("runs --json", 0, "[]"),
        ("status", 2, "no run is open"),
        ("status x", 2, "there is no run `x`"),
        ("resume", 2, "no run is open"),
        ("rollback --yes", 2, "no run is open"),
        ("halt", 2, "no run is open"),
        ("resolve step --as applied --evidence seen", 2, "no run is open"),
        ("halt --all --clear", 0, "the halt of all runs was not set"),
    ]);
}

#[test]
fn a_run_is_halted_cleared_resumed_and_rolled_back() {
    both(&[
        RUN,
        ("runs", 0, "sandbox"),
        ("runs --json", 0, "\"live\": false"),
        ("status", 0, "phase overlap; no process is working on it"),
        ("status RUN --json", 0, "overlap"),
        ("status --check", 0, "phase overlap"),
        ("run RUNBOOK --env sandbox --yes", 21, "the open run RUN holds"),
        ("audit show --type opened", 0, "leaked"),
        ("halt --reason stop", 0, "RUN: halted; no call is in progress"),
        ("halt --reason stop", 0, "RUN: halted; no call is in progress"),
        ("status", 0, "halted by tester@here"),
        ("resume", 23, "halted by tester@here: stop"),
        ("rollback --yes", 23, "halted by tester@here: stop"),
        ("halt --clear", 0, "RUN: no longer halted; resume it: stanch resume RUN"),
        ("halt --clear", 0, "the halt of RUN was not set"),
        ("halt --all --reason everything", 0, "stanch halt --all --clear"),
        ("runs", 0, "halted"),
        ("halt --clear", 23, "the halt of all runs is set and stays set"),
        ("resume", 23, "everything"),
        ("run RUNBOOK --env sandbox --yes", 23, "everything"),
        ("halt --all --clear", 0, "the halt of all runs is cleared"),
        ("resume --until prepare", 2, "already passed prepare"),
        ("resume --reissue nothing", 2, "nothing was changed"),
        ("resume --no-wait", 10, "RUN"),
        ("rollback --to proof --yes", 2, "has not passed proof"),
        ("rollback --to prepare --yes", 0, "RUN"),
        ("status", 0, "phase prepare"),
        ("resume --no-wait", 10, "RUN"),
        ("rollback --yes --reason asked", 0, "ROLLED BACK"),
        ("status", 0, "ROLLED BACK"),
        ("runs", 0, "rolled back"),
        ("rollback --yes", 2, "no run is open"),
        ("rollback RUN --yes", 2, "it cannot be rolled back"),
        ("resume RUN", 2, "nothing is left to do"),
        ("halt RUN", 2, "there is nothing to halt"),
        ("resolve RUN step --as applied --evidence seen", 2, "has ended"),
        ("audit show --type halted,halt-cleared,turned,closed", 0, "stop"),
    ]);
}

#[test]
fn what_is_unknown_is_resolved_by_a_person() {
    alike(|desk| {
        let mut all = desk.follows(&[("run RUNBOOK --env sandbox --yes --until prepare", 0, "RUN")]);
        desk.dies_in_a_call();
        all += &desk.follows(
            &[
                ("status", 0, "unknown: distribute/key/stage"),
                ("status --json", 0, "distribute/key/stage"),
                ("resolve nowhere --as not-applied --evidence seen", 2, "has no step `nowhere`"),
                ("resolve STEP --as not-applied --evidence=", 2, "--evidence is empty"),
                ("resolve STEP --as applied --evidence seen", 2, "cannot resolve"),
                ("resolve STEP --as not-applied --evidence looked", 0, "to resume: stanch resume RUN"),
                ("resolve STEP --as not-applied --evidence looked", 2, "is known"),
                ("audit show --type resolved", 0, "looked"),
                ("resume --no-wait", 10, "RUN"),
                ("abandon --yes --reason enough", 0, "ABANDONED  run RUN"),
                ("status", 0, "ABANDONED"),
            ]
            .map(|(line, code, says)| (line, code, says)),
        );
        all
    });
}

#[test]
fn who_works_on_a_run_is_asked_and_not_overtaken() {
    alike(|desk| {
        let mut all = desk.follows(&[RUN]);
        let works = |line: &'static str| {
            let desk = desk.clone();
            std::thread::spawn(move || desk.types(line).0.code())
        };
        let first = works("resume");
        desk.waits_until_live();
        all += &desk.follows(&[
            ("runs", 0, "running"),
            ("status", 0, "a process is working on it"),
            ("resume", 21, "another process is working on run RUN"),
            ("abandon --yes --reason enough", 21, "another process is working on RUN"),
            ("resolve step --as applied --evidence seen", 21, "may still find out"),
        ]);
        // Which of the two processes puts the halt on the record is chance.
        let _ = desk.follows(&[("halt --reason stop", 0, "RUN: halted; ")]);
        assert_eq!(first.join().expect("the first process"), 23);
        all += &desk.follows(&[("halt --clear", 0, "no longer halted")]);
        let second = works("resume");
        desk.waits_until_live();
        all += &desk.follows(&[("rollback --yes", 0, "it is rolling back")]);
        assert_eq!(second.join().expect("the second process"), 1);
        all + &desk.follows(&[("status", 0, "ROLLED BACK")])
    });
}
