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
//! | readable | `PUT variables/KEY` of GitLab | `gitlab` |
//! | readable | `PUT actions/secrets` (GitHub), whose value no one can read back | `github` |
//! | conditional | `PUT` with `If-Match`, by a program (`pass-through`) | `pass_through` |
//! | conditional | the same, whose value is not read back | `write_only` |
//! | readable | an own step with `observe` | `own` |
//! | idempotent | a reload, an own step with `class: idempotent` | `own` |
//! | opaque | `apply` and `revoke` of a generated value | `own`, with `stanch resolve` |

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

use crate::force::{Case, Kind};
use crate::proxy::{Breaker, Fault, Nth, Proxy, Seen};
use crate::servers::OwnVault;
use crate::tool::{Ran, limit};
use crate::worlds::World;

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
    limit(child.id(), rustix::process::Resource::Data, MEMORY);
    Ran::of(child.wait_with_output().await.expect("wait"))
}

/// A rotation with one fault, taken up until it is over. Returns what passed through the proxy.
async fn rotation(kind: Kind, aim: Option<(Nth, Fault)>) -> Vec<Seen> {
    let world = Arc::new(kind.world().await);
    let proxy = Proxy::start(world.server(), aim.clone(), None).await;
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
    let hit = seen.iter().find(|s| s.fault.is_some()).map(|s| s.what.clone());
    let codes: Vec<_> = sessions.iter().map(|s| s.code).collect();
    case.check(false, &format!("{kind:?} {aim:?} {hit:?}: {codes:?}")).await;
    seen
}

/// What every undisturbed rotation sends: on a busy machine one may look more often, since what it saw is old, or ask again,
/// since no answer came in time.
async fn undisturbed(kind: Kind) -> Vec<Seen> {
    let mut calm = rotation(kind, None).await;
    for _ in 0..2 {
        let another = rotation(kind, None).await;
        if another.len() < calm.len() {
            calm = another;
        }
    }
    calm
}

/// One kind of server at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Every request, every fault.
async fn every_request_suffers_every_fault(kind: Kind) {
    let _alone = ALONE.lock().await;
    let calm = rotation(kind, None).await;
    let all = std::env::var_os("STANCH_TEST_ALL_FAULTS").is_some();
    let mut aims = Vec::new();
    for (at, seen) in calm.iter().enumerate() {
        for (nth, fault) in Fault::ALL.into_iter().enumerate() {
            if all || seen.effect || (at + nth) % PART == 0 {
                aims.push((Nth::of(&calm, at), fault));
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

/// A server's words are shown and kept, and can do nothing: not on the screen, not in the journal.
async fn words_do_no_harm(kind: Kind) {
    let (calm, mut hit) = (undisturbed(kind).await, BTreeSet::new());
    for at in (0..calm.len()).filter(|at| calm[*at].effect) {
        let world = Arc::new(kind.world().await);
        let proxy = Proxy::start(world.server(), Some((Nth::of(&calm, at), Fault::Insult)), None).await;
        let case = Case::behind(kind, world, &proxy).await;
        let run = ["run", &case.runbook, "--env", "test", "--yes"];
        let first = bounded(&case, &run).await;
        // The last move of a promotion is in doubt when it is refused, is looked into, and done again.
        assert!(matches!(first.code, Some(0 | 1 | 10)), "{first:?}");
        // What it saw a moment ago may have spared this request.
        let Some(seen) = proxy.seen().into_iter().find(|seen| seen.fault.is_some()) else {
            drop(first.expect(0));
            continue;
        };
        hit.insert(seen.what);
        let name = case.tool.newest();
        let mut shown = vec![first];
        for look in [
            vec!["status", &name],
            vec!["status", "--json", &name],
            vec!["audit", "show", &name],
            vec!["runs"],
        ] {
            shown.push(case.tool.done(&look).await);
        }
        let journal = case.lines().join("\n");
        let all = shown.iter().fold(journal, |all, ran| all + &ran.stdout + &ran.stderr);
        assert!(all.contains("insult"), "the server's words arrive: {calm:#?}, {:#?}: {all}", proxy.seen());
        for wild in ["\u{1b}", "\u{7}", "\u{9b}", "\u{202e}", "\\u001b", "\\u0007"] {
            assert!(!all.contains(wild), "{wild:?} in {all:?}");
        }
        match shown[0].code {
            Some(0) => {}
            Some(10) => drop(bounded(&case, &["resume"]).await.expect(0)),
            _ => drop(bounded(&case, &run).await.expect(0)),
        }
        case.check(false, "after an insult").await;
    }
    for seen in calm.into_iter().filter(|seen| seen.effect) {
        assert!(hit.contains(&seen.what), "{} never met an insult", seen.what);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn words_of_vault_do_no_harm() {
    words_do_no_harm(Kind::Vault).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs ministack: scripts/test"]
async fn words_of_aws_do_no_harm() {
    words_do_no_harm(Kind::Aws).await;
}

/// How Vault goes away.
#[derive(Debug, Clone, Copy)]
enum Away {
    /// Killed with `SIGKILL`, and started again.
    Killed,
    /// Sealed, and then restarted, too, so that the two differ in what the program hears.
    Sealed,
}

/// A Vault of the test's own with raft storage, and a rotation in it.
async fn own_vault() -> (Arc<Mutex<OwnVault>>, Arc<World>) {
    let mut own = OwnVault::start().await;
    own.initialise().await;
    let kv = serde_json::json!({ "type": "kv", "options": { "version": "2" } });
    own.vault.api("POST", "sys/mounts/secret", kv).await;
    // A new mount upgrades itself for a moment.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let world = World::in_vault(own.vault.clone()).await;
    (Arc::new(Mutex::new(own)), Arc::new(world))
}

/// Vault goes away at one request, and comes back when the program has given up for now. Returns whether it did: a look
/// of a moment ago may have spared the request.
async fn goes_away(at: Nth, fault: Fault, away: Away) -> bool {
    let (own, world) = own_vault().await;
    let (breaking, runtime) = (Arc::clone(&own), tokio::runtime::Handle::current());
    let breaker: Breaker = Arc::new(move || {
        runtime.block_on(async {
            let mut own = breaking.lock().await;
            match away {
                Away::Killed => own.kill(),
                Away::Sealed => drop(own.vault.api("PUT", "sys/seal", serde_json::Value::Null).await),
            }
        });
    });
    let proxy = Proxy::start(world.server(), Some((at.clone(), fault)), Some(breaker)).await;
    let case = Case::behind(Kind::Vault, world, &proxy).await;
    let first = bounded(&case, &["run", &case.runbook, "--env", "test", "--yes"]).await;
    let Some(seen) = proxy.seen().into_iter().find(|s| s.fault.is_some()) else {
        first.expect(0);
        case.check(false, "it did not go away").await;
        return false;
    };
    let what = format!("{away:?} {fault:?} at {at:?} ({}): {first:?}", seen.what);
    let lines = case.lines();
    let open = lines.last().is_some() && !lines.iter().any(|l| l.contains("\"type\":\"closed\""));
    // 69: nothing was changed. 10: something was, and it can go on. 11: it is not known whether
    // something was, for there is nobody who could be asked.
    match first.code {
        Some(69) => assert!(!open && !lines.iter().any(|l| l.contains("\"step\":\"cutover")), "{what}"),
        Some(10 | 11) => assert!(open && first.stdout.contains("stanch resume"), "{what}"),
        // The last look, when everything was proved: the summary tells what the steps did.
        Some(0) => assert!(!open && first.stdout.contains("current in 1 of 1"), "{what}"),
        _ => panic!("{what}"),
    }
    own.lock().await.mend().await;
    let run = ["run", &case.runbook, "--env", "test", "--yes"];
    if first.code != Some(0) {
        bounded(&case, if open { &["resume"] } else { &run }).await.expect(0);
    }
    proxy.everything_was_recorded();
    case.check(false, &what).await;
    true
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn vault_may_go_away_at_any_moment() {
    let _alone = ALONE.lock().await;
    let calm = undisturbed(Kind::Vault).await;
    let mut cases = JoinSet::new();
    let places = Arc::new(Semaphore::new(4));
    for (at, seen) in calm.iter().enumerate() {
        for (fault, away) in [
            (Fault::BreakBefore, Away::Killed),
            (Fault::BreakAfter, Away::Killed),
            (Fault::BreakBefore, Away::Sealed),
            (Fault::BreakAfter, Away::Sealed),
        ] {
            // All four where something changes; elsewhere it makes no difference whether the request
            // arrived.
            if !seen.effect && (fault == Fault::BreakAfter || at % PART != 0) {
                continue;
            }
            let (places, nth) = (Arc::clone(&places), Nth::of(&calm, at));
            cases.spawn(async move {
                let _place = places.acquire().await.expect("open");
                goes_away(nth, fault, away).await
            });
        }
    }
    let (all, mut went) = (cases.len(), 0);
    while let Some(done) = cases.join_next().await {
        went += usize::from(done.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic())));
    }
    eprintln!("Vault goes away in {went} of {all} rotations");
    assert!(went * 10 >= all * 9, "it went away in {went} of {all} only");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn vault() {
    every_request_suffers_every_fault(Kind::Vault).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs ministack: scripts/test"]
async fn aws() {
    every_request_suffers_every_fault(Kind::Aws).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn jwt_in_vault() {
    every_request_suffers_every_fault(Kind::JwtInVault).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: scripts/test"]
async fn gitlab() {
    every_request_suffers_every_fault(Kind::Gitlab).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: scripts/test"]
async fn github() {
    every_request_suffers_every_fault(Kind::Github).await;
}

/// Between a program of the user's own and the system that it writes to.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: scripts/test"]
async fn pass_through() {
    every_request_suffers_every_fault(Kind::PassThrough).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: scripts/test"]
async fn write_only() {
    every_request_suffers_every_fault(Kind::WriteOnly).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: scripts/test"]
async fn own() {
    every_request_suffers_every_fault(Kind::Own).await;
}
