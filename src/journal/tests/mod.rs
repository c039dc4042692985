//! The journal through its doors: what is damaged shows, and what is kept is kept.

mod cover;
mod folder;
mod index;
mod ledger;
mod tampering;

use std::sync::Arc;

use jiff::Timestamp;

use super::StateDir;
use crate::clock::Moment;
use crate::plan::tests::{observe, read};
use crate::plan::{Observed, Plan, Request, compile};

pub(super) fn at(seconds: i64) -> Moment {
    let wall = Timestamp::from_second(1_790_000_000 + seconds).expect("a moment");
    Moment { wall, mono_ms: u64::try_from(seconds).expect("not before the start") * 1000 }
}

fn request() -> Request {
    Request {
        environment: "test".to_owned(),
        sandbox: true,
        runbook_sha256: "0".repeat(64),
        tool: "test".to_owned(),
        directory: None,
    }
}

/// A plan without a target: what a journal proves does not depend on what its records say.
pub(super) fn plan() -> Plan {
    let runbook = serde_json::from_value(serde_json::json!({
        "version": 1,
        "name": "tampering",
        "environments": { "test": {} },
        "credentials": {},
    }));
    compile(runbook.expect("a runbook"), &request(), Observed::default()).expect("a plan")
}

/// A plan that holds targets.
fn holding() -> Arc<Plan> {
    let runbook = read("runbooks/quickstart.yaml", "sandbox");
    let observed = observe(&runbook);
    Arc::new(compile(runbook, &request(), observed).expect("a plan"))
}

pub(super) fn state() -> (tempfile::TempDir, StateDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let state = StateDir::open(&folder.path().join("state")).expect("a state folder");
    (folder, state)
}
