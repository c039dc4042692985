//! Runs' records made without running anything, and what the program says of them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use stanch::clock::{Clock as _, SystemClock};
use stanch::journal::{FileJournal, Journal as _, LedgerError, StateDir};
use stanch::plan::Plan;
use stanch::rotation::{End, Event};

use crate::tool::{Ran, Tool};

/// Who writes.
pub(crate) const WHO: (&str, &str) = ("tester", "here");

/// A state folder whose runs' records the test writes itself.
pub(crate) struct Book {
    pub(crate) tool: Tool,
    plan: String,
    pub(crate) clock: SystemClock,
}

impl Book {
    pub(crate) fn new() -> Self {
        let tool = Tool::new();
        let runbook = tool.runbook(
            "version: 1\nname: NAME\nenvironments: { sandbox: {} }\nconnections: { world: { type: sandbox } }\n\
             credentials:\n  key:\n    issuer: { type: sandbox, connection: world, policies: [read], ttl: 1h }\n    \
             scope: { max_ttl: 1h, policies: [read] }\n    stores: [{ type: sandbox, connection: world, path: PATH }]\n    \
             accepts: [{ sandbox: { policy: read } }]\n"
                .replace("NAME", "book")
                .replace("PATH", "a")
                .as_str(),
        );
        let saved = tool.folder.path().join("plan.json");
        let (runbook, path) = (runbook.to_str().expect("path"), saved.to_str().expect("path"));
        tool.run(&["plan", runbook, "--env", "sandbox", "-o", path]).expect(0);
        let plan = fs::read_to_string(saved).expect("plan");
        Self { tool, plan, clock: SystemClock::new() }
    }

    pub(crate) fn state(&self) -> StateDir {
        StateDir::open(&self.tool.state()).expect("state folder")
    }

    pub(crate) fn plan(&self) -> Arc<Plan> {
        Arc::new(Plan::from_json(&self.plan).expect("plan"))
    }

    /// Opens a run. Each holds the same target, so that only one can be open.
    pub(crate) fn open(&self) -> Result<FileJournal, LedgerError> {
        self.state().create(&self.plan(), None, WHO, self.clock.now())
    }

    pub(crate) fn resume(&self, run: &str) -> Result<FileJournal, LedgerError> {
        self.state().resume(run, WHO, self.clock.now()).map(|(journal, _)| journal)
    }

    /// Records something that is signed at once.
    pub(crate) fn note(&self, journal: &mut FileJournal, reason: &str) {
        let event = Event::Halted { by: "tester".into(), reason: reason.into() };
        journal.commit(self.clock.now(), &[event]).expect("commit");
    }

    pub(crate) fn close(&self, journal: &mut FileJournal) {
        journal.commit(self.clock.now(), &[Event::Closed { end: End::RolledBack }]).expect("commit");
        journal.close().expect("close");
    }

    /// A run that is over.
    pub(crate) fn whole_run(&self) -> String {
        let mut journal = self.open().expect("open");
        self.note(&mut journal, "one");
        self.note(&mut journal, "two");
        self.close(&mut journal);
        journal.run().to_owned()
    }

    /// A run that is open, and that no process works on.
    pub(crate) fn open_run(&self) -> String {
        let mut journal = self.open().expect("open");
        self.note(&mut journal, "one");
        self.note(&mut journal, "two");
        journal.run().to_owned()
    }

    pub(crate) fn journal(&self, run: &str) -> PathBuf {
        self.state().journal_path(run)
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.state().index_path()
    }

    pub(crate) fn verify(&self, arguments: &[&str]) -> Ran {
        self.tool.run(&[&["audit", "verify"], arguments].concat())
    }

    /// What `audit verify` says of one run, and of all.
    pub(crate) fn says(&self, run: &str) -> (Option<i32>, Option<i32>, String) {
        let (one, all) = (self.verify(&[run]), self.verify(&["--all"]));
        (one.code, all.code, format!("{}{}{}{}", one.stdout, one.stderr, all.stdout, all.stderr))
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let ran = self.verify(&[arguments, &["--json"]].concat());
        serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran:?}"))
    }
}

pub(crate) fn put(path: &Path, bytes: &[u8]) {
    std::io::Write::write_all(&mut fs::File::create(path).expect("file"), bytes).expect("write");
}

/// A file's lines, with their newlines.
pub(crate) fn lines(path: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).expect("file");
    bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect()
}

/// Leaves so many lines of a file.
pub(crate) fn leave(path: &Path, count: usize) {
    put(path, &lines(path)[..count].concat());
}

/// Copies a directory with all that is in it, readable by its owner alone: git keeps no more than whether a
/// file can be executed.
pub(crate) fn copy(from: &Path, to: &Path) {
    let for_its_owner = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mode");
    };
    fs::create_dir_all(to).expect("folder");
    for_its_owner(to, 0o700);
    for entry in fs::read_dir(from).expect("folder").map(|entry| entry.expect("entry")) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(from, &to).expect("copy");
            for_its_owner(&to, 0o600);
        }
    }
}
