//! The network at its worst: every request of a rotation, in a rotation of its own, suffers every
//! fault of [`Fault::ALL`]. The run is taken up again until it is over, without further faults, and
//! ends as one that nobody disturbed: no twin, no orphan, and no effect that has no intent before it.
//!
//! Every request that changes something suffers all of them. Of those that only look, each suffers
//! some, the same ones every time; with `STANCH_TEST_ALL_FAULTS` set, all of them.
//!
//! What proves each way of settling an unknown outcome (the table in `docs/architecture.md`):
//!
//! | class | request whose reply is lost | test here |
//! | --- | --- | --- |
//! | token | `PutSecretValue`, `UpdateSecretVersionStage` | `aws` |
//! | conditional | `POST secret/data` (KV v2) | `vault` |
//! | conditional | a file is replaced | `own_calls_survive_a_death_at_every_record` in `force.rs` |
//! | listable | `POST auth/token/create`, found by tag | `vault` |
//! | listable | `CreateAccessKey`, found by listing | `aws` |
//! | readable | `POST auth/token/revoke-accessor` | `vault` |
//! | readable | `UpdateAccessKey`, `DeleteAccessKey` | `aws` |
//! | readable | an own step with `observe` | `own` |
//! | idempotent | a reload, an own step with `class: idempotent` | `own` |
//! | opaque | `apply` and `revoke` of a generated value | `own`, with `stanch resolve` |

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::process::Command;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

use crate::force::{Case, Kind};
use crate::proxy::{Fault, Proxy, Seen};
use crate::tool::Ran;

/// How many rotations are under way beside each other. They mostly wait for deadlines.
const BESIDE: usize = 8;
/// How often a run may have to be taken up.
const SESSIONS: usize = 6;
/// The most memory that the program may use for its data, whatever a server sends.
const MEMORY: u64 = 96 * 1024 * 1024;
/// Of the requests that only look, each suffers one fault in so many.
const PART: usize = 4;

/// Runs the program with a bound on its memory: it ends with an abort when it wants more.
pub(crate) async fn bounded(case: &Case, arguments: &[&str]) -> Ran {
    let mut command = Command::from(case.tool.command(arguments));
    let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let child = child.spawn().expect("the program starts");
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    let limit = rustix::process::Rlimit { current: Some(MEMORY), maximum: Some(MEMORY) };
    rustix::process::prlimit(pid, rustix::process::Resource::Data, limit).expect("limit");
    Ran::of(child.wait_with_output().await.expect("wait"))
}

/// A rotation with one fault, taken up until it is over. Returns what passed through the proxy.
async fn rotation(kind: Kind, aim: Option<(usize, Fault)>) -> Vec<Seen> {
    let world = Arc::new(kind.world().await);
    let proxy = Proxy::start(world.server(), aim, None).await;
    let case = Case::behind(kind, world, &proxy).await;
    let mut sessions = Vec::new();
    loop {
        assert!(sessions.len() < SESSIONS, "{kind:?} {aim:?}: never over: {sessions:#?}");
        let lines = case.lines();
        let open = lines.last().is_some() && !lines.iter().any(|l| l.contains("\"type\":\"closed\""));
        let run = ["run", &case.runbook, "--env", "test", "--yes"];
        let ran = bounded(&case, if open { &["resume"] } else { &run }).await;
        let code = ran.code;
        sessions.push(ran);
        match code {
            Some(0) => break,
            Some(11) if kind == Kind::Own => assert!(case.resolve().await > 0, "nothing to settle"),
            // 1 and 69: nothing was changed, or it can go on. 10: it can go on.
            Some(1 | 10 | 69) => {}
            _ => panic!("{kind:?} {aim:?}: {sessions:#?}"),
        }
    }
    proxy.everything_was_recorded();
    let seen = proxy.seen();
    let hit = aim.and_then(|(at, _)| seen.get(at)).map(|s| s.what.clone());
    let codes: Vec<_> = sessions.iter().map(|s| s.code).collect();
    case.check(false, &format!("{kind:?} {aim:?} {hit:?}: {codes:?}")).await;
    seen
}

/// Every request, every fault.
async fn every_request_suffers_every_fault(kind: Kind) {
    let calm = rotation(kind, None).await;
    let all = std::env::var_os("STANCH_TEST_ALL_FAULTS").is_some();
    let mut aims = Vec::new();
    for (at, seen) in calm.iter().enumerate() {
        for (nth, fault) in Fault::ALL.into_iter().enumerate() {
            if all || seen.effect || (at + nth) % PART == 0 {
                aims.push((at, fault));
            }
        }
    }
    let (places, mut cases) = (Arc::new(Semaphore::new(BESIDE)), JoinSet::new());
    let count = aims.len();
    for (at, fault) in aims {
        let places = Arc::clone(&places);
        cases.spawn(async move {
            let _place = places.acquire().await.expect("open");
            let seen = rotation(kind, Some((at, fault))).await;
            seen.into_iter().find(|s| s.fault.is_some())
        });
    }
    let mut hit = BTreeSet::new();
    while let Some(seen) = cases.join_next().await {
        if let Some(seen) = seen.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic())) {
            hit.insert((seen.what, seen.fault));
        }
    }
    let effects: BTreeSet<String> = calm.iter().filter(|s| s.effect).map(|s| s.what.clone()).collect();
    let changing = calm.iter().filter(|s| s.effect).count();
    eprintln!(
        "{kind:?}: {} requests, {changing} of them change something, {} faults: {count} rotations",
        calm.len(),
        Fault::ALL.len()
    );
    for what in effects {
        for fault in Fault::ALL {
            assert!(hit.contains(&(what.clone(), Some(fault))), "{what} never suffered {fault:?}");
        }
    }
}

/// One kind of server at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn vault() {
    let _alone = ALONE.lock().await;
    every_request_suffers_every_fault(Kind::Vault).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs ministack: scripts/test"]
async fn aws() {
    let _alone = ALONE.lock().await;
    every_request_suffers_every_fault(Kind::Aws).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: scripts/test"]
async fn own() {
    let _alone = ALONE.lock().await;
    every_request_suffers_every_fault(Kind::Own).await;
}
