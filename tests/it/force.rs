//! By force: the program is killed at every record of a journal, on the way there and on the way
//! back, against the real servers, and taken up again. It always gets to the same end.
//!
//! Two deaths. `SIGKILL`, as soon as the journal has so many lines: it comes wherever the program is
//! just then. And a death in the middle of writing a record, by a limit on the file's size (`SIGXFSZ`,
//! which the program does not catch): events that are written together have no moment between them
//! that another process could see, and this finds it. Which record was the last whole one is looked
//! at afterwards; a record that was never the last one is tried again until it was.
//!
//! Vault is trusted as in `rotation.rs`, and so is ministack. moto is trusted for the limit of two
//! keys: a twin would be a third key, which it refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::routing::{get, post};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

use crate::api_server::Dialect;
use crate::proxy::Proxy;
use crate::servers::serve;
use crate::tool::{Tool, limit};
use crate::worlds::World;

/// How many rotations are under way beside each other.
const BESIDE: usize = 6;
/// How often a record that was never the last one is tried again.
const ROUNDS: usize = 12;
/// How long a journal may take to get anywhere.
const PATIENCE: Duration = Duration::from_secs(60);
/// No wait that is not needed.
const PHASES: &str = "overlap: { until: [adopted, error-rate] }\n  sunset: { until: [error-rate] }";

/// A consumer that costs little: it reads its store when it is told to, and says what it read.
async fn consumer(world: &Arc<World>) -> String {
    if let World::Own { url, .. } = &**world {
        return url.clone();
    }
    let uses = Arc::new(Mutex::new(world.current().await));
    let (world, reloaded) = (Arc::clone(world), Arc::clone(&uses));
    let reload = async move || *reloaded.lock().await = world.current().await;
    let attest = async move || {
        let secret = World::secret(&*uses.lock().await);
        Json(json!({ "sha256": hex::encode(Sha256::digest(secret)) }))
    };
    let router = axum::Router::new()
        .route("/-/reload", post(reload))
        .route("/-/credential", get(attest))
        .route("/-/rate", get(async || Json(json!({ "rate": 0.0 }))));
    serve(router).await
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Vault,
    Approle,
    Userpass,
    Pki,
    Database,
    Aws,
    Ssm,
    Moto,
    Postgres,
    Mysql,
    Redis,
    Jwt,
    JwtInVault,
    Ssh,
    Api,
    Kube,
    Gitlab,
    Github,
    PassThrough,
    WriteOnly,
    Own,
}

impl Kind {
    pub(crate) async fn world(self) -> World {
        match self {
            Self::Vault => World::vault().await,
            Self::Approle => World::approle().await,
            Self::Userpass => World::userpass().await,
            Self::Pki => World::pki().await,
            Self::Database => World::database().await,
            Self::Aws => World::aws().await,
            Self::Ssm => World::ssm().await,
            Self::Moto => World::moto().await,
            Self::Postgres => World::postgres().await,
            Self::Mysql => World::mysql().await,
            Self::Redis => World::redis().await,
            // Their readers ask each time: nothing is waited for.
            Self::Jwt => World::jwt(0).await,
            Self::JwtInVault => World::jwt_in_vault(0).await,
            Self::Ssh => World::ssh(),
            Self::Api => World::api(Dialect::Own).await,
            Self::Kube => World::kube().await,
            Self::Gitlab => World::gitlab().await,
            Self::Github => World::github().await,
            Self::PassThrough => World::pass_through(true).await,
            Self::WriteOnly => World::pass_through(false).await,
            Self::Own => World::own().await,
        }
    }

    /// How a session that goes forward is started. moto accepts every key, so nothing can be proved.
    fn forward<'a>(self, first: &[&'a str]) -> Vec<&'a str> {
        let mut arguments = first.to_vec();
        if self == Self::Moto {
            arguments.extend(["--until", "revoke"]);
        }
        arguments
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Forward,
    /// From sunset.
    Back,
}

#[derive(Debug, Clone, Copy)]
enum Death {
    /// `SIGKILL` once the journal is longer by so many records.
    Kill(usize),
    /// In the middle of what follows so many bytes that the journal is longer by.
    Torn(u64),
}

/// A rotation of its own: secrets, consumer, state folder.
pub(crate) struct Case {
    kind: Kind,
    pub(crate) world: Arc<World>,
    pub(crate) tool: Tool,
    pub(crate) runbook: String,
    pub(crate) before: Value,
    alive: Vec<String>,
    writes: Option<u64>,
}

impl Case {
    async fn new(kind: Kind) -> Self {
        let world = Arc::new(kind.world().await);
        let (url, tool) = (consumer(&world).await, world.tool());
        // A program that was left running is waited for.
        let limits = match kind {
            Kind::PassThrough | Kind::WriteOnly => "limits: { deadline: 10s }\n",
            _ => "",
        };
        Self::with(kind, world, tool, &url, limits).await
    }

    /// With a proxy between the program and the server, and a deadline that a stall can outlast.
    pub(crate) async fn behind(kind: Kind, world: Arc<World>, proxy: &Proxy) -> Self {
        let tool = world.tool_through(&proxy.address);
        proxy.watch(tool.state());
        let url = if kind == Kind::Own { proxy.address.clone() } else { consumer(&world).await };
        Self::with(kind, world, tool, &url, "limits: { deadline: 2s }\n").await
    }

    async fn with(kind: Kind, world: Arc<World>, tool: Tool, url: &str, limits: &str) -> Self {
        let runbook = tool.runbook(&(world.runbook(url, Some(PHASES)) + limits));
        let runbook = runbook.to_str().expect("path").to_owned();
        let (before, alive, writes) = (world.current().await, world.alive().await, world.writes().await);
        Self { kind, world, tool, runbook, before, alive, writes }
    }

    /// Gets to where the way begins. Returns the journal's lines so far.
    async fn approach(&self, way: Way) -> Vec<String> {
        if way == Way::Back {
            let until = ["run", &self.runbook, "--env", "test", "--yes", "--until", "sunset"];
            self.tool.done(&until).await.expect(0);
        }
        self.lines()
    }

    fn arguments(&self, way: Way) -> Vec<&str> {
        match way {
            Way::Forward => self.kind.forward(&["run", &self.runbook, "--env", "test", "--yes"]),
            Way::Back => vec!["rollback", "--yes"],
        }
    }

    /// Starts the session that is to die.
    fn begin(&self, way: Way) -> Child {
        let mut command = Command::from(self.tool.command(&self.arguments(way)));
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        command.spawn().expect("the program starts")
    }

    fn journal(&self) -> Option<PathBuf> {
        self.tool.journal()
    }

    /// The journal's whole lines.
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = self.journal().and_then(|p| std::fs::read(p).ok()).unwrap_or_default();
        let whole = text.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        String::from_utf8(text[..whole].to_vec()).expect("UTF-8").lines().map(str::to_owned).collect()
    }

    /// Starts the session and lets it die. Returns how many whole records it had written, or `None`
    /// when it was over before its death came.
    async fn die(&self, way: Way, death: Death) -> Option<usize> {
        let start = self.approach(way).await;
        let bytes: usize = start.iter().map(|line| line.len() + 1).sum();
        let mut child = self.begin(way);
        match death {
            Death::Torn(more) => {
                limit(child.id(), rustix::process::Resource::Fsize, bytes as u64 + more);
            }
            Death::Kill(records) => {
                let mut ticks = tokio::time::interval(Duration::from_millis(1));
                loop {
                    if self.lines().len() >= start.len() + records {
                        child.start_kill().expect("kill");
                        break;
                    }
                    if child.try_wait().expect("wait").is_some() {
                        break;
                    }
                    ticks.tick().await;
                }
            }
        }
        let ended = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends").expect("wait");
        ended.code().is_none().then(|| self.lines().len() - start.len())
    }

    /// Settles what only a person can, by looking at the server. Returns how much that was.
    pub(crate) async fn resolve(&self) -> usize {
        let run = self.tool.newest();
        let status = self.tool.done(&["status", "--json", &run]).await;
        let status: Value = serde_json::from_str(&status.stdout).expect("JSON");
        let mut settled = 0;
        for step in status["unfinished_steps"].as_array().expect("steps") {
            if step["status"] != "unknown" {
                continue;
            }
            let step = step["step"].as_str().expect("text");
            let next = status["next"].to_string();
            assert!(next.contains(&format!("stanch resolve {run} {step} --as ")), "{next}");
            let applied = self.world.settle_by_hand(step, &self.before).await;
            let word = if applied { "applied" } else { "not-applied" };
            let command = ["resolve", &run, step, "--as", word, "--evidence", "asked the authority"];
            self.tool.done(&command).await.expect(0);
            settled += 1;
        }
        settled
    }

    /// Takes the run up again until it is over, and looks at everything. `odd` chooses between the
    /// two commands that take up a rollback.
    async fn finish(self, way: Way, odd: bool, what: &str) {
        if !self.lines().is_empty() {
            let run = self.tool.newest();
            let verified = self.tool.done(&["audit", "verify", &run]).await;
            assert!(matches!(verified.code, Some(0 | 32)), "{what}: {verified:?}");
        }
        let resume = self.kind.forward(&["resume"]);
        if self.lines().iter().any(|line| line.contains("\"type\":\"closed\"")) {
            // Only the clearing away was left; whoever takes the run up does that, and finds it over.
            let run = self.tool.newest();
            self.tool.done(&["resume", &run]).await.expect(2);
            return self.check(way == Way::Back, what).await;
        }
        let (back, resumed) = match way {
            Way::Forward if self.lines().is_empty() => {
                // It died before anything was on record, so nothing was done.
                let again = self.kind.forward(&["run", &self.runbook, "--env", "test", "--yes"]);
                (false, self.tool.done(&again).await.expect(0))
            }
            Way::Forward => (false, self.take_up(&resume, 0).await),
            Way::Back if odd => (true, self.take_up(&["rollback", "--yes"], 0).await),
            // Resumed, it goes on in the direction that is on record.
            Way::Back => {
                let turned = self.lines().iter().any(|line| line.contains("\"type\":\"turned\""));
                (turned, self.take_up(&resume, i32::from(turned)).await)
            }
        };
        self.check(back, &format!("{what}: {resumed:?}")).await;
    }

    /// Takes the run up; where only a person can say what became of a step, settles that and does it
    /// again.
    async fn take_up(&self, arguments: &[&str], code: i32) -> crate::tool::Ran {
        loop {
            let ran = self.tool.done(arguments).await;
            if self.kind != Kind::Own || ran.code != Some(11) {
                return ran.expect(code);
            }
            assert!(self.resolve().await > 0, "nothing to settle: {ran:?}");
        }
    }

    /// The same end state as that of a run that nobody disturbed.
    pub(crate) async fn check(self, back: bool, what: &str) {
        // Shown when a check below fails; the harness keeps it to itself otherwise.
        eprintln!("{what}");
        let journal = self.lines().join("\n");
        let (_, events) = journal.split_once('\n').expect("more than the plan");
        if back {
            self.world.is_as_before(&self.before, &self.alive).await;
        } else {
            self.world.is_rotated(&self.before).await;
            // A generated value has no name but itself, and that must not stand there.
            for handle in self.world.existing().await {
                if self.kind == Kind::Own {
                    assert!(!journal.contains(&handle), "a secret is in the journal");
                    continue;
                }
                assert!(events.contains(&handle), "{handle} is not in the journal");
            }
        }
        // One write on the way there, and one on the way back: none was made twice.
        if let (Some(before), Some(now)) = (self.writes, self.world.writes().await) {
            let promoted = events.contains("\"type\":\"intent\",\"step\":\"cutover/");
            let writes = if back && promoted { 2 } else { u64::from(!back) };
            assert!(now - before == writes || (back && now == before), "{} writes", now - before);
        }
        let run = self.tool.newest();
        self.tool.done(&["audit", "verify", &run]).await.expect(0);
        let sealed = self.journal().map(|path| path.with_file_name("sealed.jsonl")).expect("a journal");
        assert!(self.kind == Kind::Moto || !sealed.exists(), "the seals are destroyed");
        if let Ok(world) = Arc::try_unwrap(self.world) {
            world.forget().await;
        }
    }
}

/// The lengths of the records that an undisturbed session writes.
async fn undisturbed(kind: Kind, way: Way) -> Vec<u64> {
    let case = Case::new(kind).await;
    let start = case.approach(way).await.len();
    let mut session = Command::from(case.tool.command(&case.arguments(way)));
    let ended = session.stdin(std::process::Stdio::null()).output().await.expect("the program starts");
    assert_eq!(ended.status.code(), Some(0), "{kind:?} {way:?}: {}", String::from_utf8_lossy(&ended.stderr));
    let lengths = case.lines()[start..].iter().map(|line| line.len() as u64 + 1).collect();
    case.check(way == Way::Back, "undisturbed").await;
    lengths
}

/// Dies at every record of a session, in rotations of their own.
///
/// On a busy machine a session writes some records more: a heartbeat, or a look that grew old and is taken
/// again. So every round goes by an undisturbed session of its own, and the shortest of them says how many
/// records there are: a longer one would ask for a record that hardly any other session has.
async fn at_every_record(kind: Kind, way: Way) {
    let (mut last, mut died, mut records) = (BTreeMap::<usize, usize>::new(), 0, usize::MAX);
    for round in 0..ROUNDS {
        let lengths = undisturbed(kind, way).await;
        records = records.min(lengths.len());
        let missed: BTreeSet<usize> = (1..records).filter(|n| !last.contains_key(n)).collect();
        eprintln!("{kind:?} {way:?}: {records} records, {died} deaths, never the last one: {missed:?}");
        if missed.is_empty() {
            return;
        }
        // In record n + 1: in its middle, and in later rounds before and after that, since every heartbeat
        // moves what follows it.
        let part = [2, 1, 3][round % 3];
        let torn = |n: usize| (n, Death::Torn(lengths[..n].iter().sum::<u64>() + lengths[n] * part / 4));
        let deaths: Vec<(usize, Death)> = match round {
            0 => (1..records).map(|n| (n, Death::Kill(n))).chain((0..records).map(torn)).collect(),
            _ => missed.into_iter().map(torn).collect(),
        };
        let (places, mut cases) = (Arc::new(Semaphore::new(BESIDE)), JoinSet::new());
        for (n, death) in deaths {
            let places = Arc::clone(&places);
            cases.spawn(async move {
                let _place = places.acquire().await.expect("open");
                let case = Case::new(kind).await;
                let hit = case.die(way, death).await;
                let what = format!("{kind:?} {way:?} {death:?}, last whole record {hit:?}");
                match hit {
                    Some(_) => case.finish(way, n % 2 == 1, &what).await,
                    None => case.check(way == Way::Back, &what).await,
                }
                hit
            });
        }
        while let Some(hit) = cases.join_next().await {
            if let Some(n) = hit.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic())) {
                *last.entry(n).or_default() += 1;
                died += 1;
            }
        }
    }
    panic!("{kind:?} {way:?}: not every record was the last one at a death: {last:?}");
}

/// One kind of server at a time: each has the machine for itself.
static ALONE: Mutex<()> = Mutex::const_new(());

macro_rules! at_every_record {
    ($($name:ident: $kind:ident $way:ident, $server:literal;)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        #[ignore = $server]
        async fn $name() {
            let _alone = ALONE.lock().await;
            at_every_record(Kind::$kind, Way::$way).await;
        })*
    };
}

at_every_record! {
    vault_survives_a_death_at_every_record: Vault Forward, "needs Vault: scripts/test";
    vault_survives_a_death_at_every_record_of_a_rollback: Vault Back, "needs Vault: scripts/test";
    approle_survives_a_death_at_every_record: Approle Forward, "needs Vault: scripts/test";
    approle_survives_a_death_at_every_record_of_a_rollback: Approle Back, "needs Vault: scripts/test";
    userpass_survives_a_death_at_every_record: Userpass Forward, "needs Vault: scripts/test";
    userpass_survives_a_death_at_every_record_of_a_rollback: Userpass Back, "needs Vault: scripts/test";
    pki_survives_a_death_at_every_record: Pki Forward, "needs Vault: scripts/test";
    pki_survives_a_death_at_every_record_of_a_rollback: Pki Back, "needs Vault: scripts/test";
    database_survives_a_death_at_every_record: Database Forward, "needs Vault and PostgreSQL: scripts/test";
    database_survives_a_death_at_every_record_of_a_rollback: Database Back, "needs Vault and PostgreSQL: scripts/test";
    aws_survives_a_death_at_every_record: Aws Forward, "needs ministack: scripts/test";
    aws_survives_a_death_at_every_record_of_a_rollback: Aws Back, "needs ministack: scripts/test";
    ssm_survives_a_death_at_every_record: Ssm Forward, "needs ministack: scripts/test";
    ssm_survives_a_death_at_every_record_of_a_rollback: Ssm Back, "needs ministack: scripts/test";
    two_keys_are_enough_for_a_death_at_every_record: Moto Forward, "needs moto: scripts/test";
    two_keys_are_enough_for_a_death_at_every_record_of_a_rollback: Moto Back, "needs moto: scripts/test";
    postgres_survives_a_death_at_every_record: Postgres Forward, "needs PostgreSQL: scripts/test";
    postgres_survives_a_death_at_every_record_of_a_rollback: Postgres Back, "needs PostgreSQL: scripts/test";
    mysql_survives_a_death_at_every_record: Mysql Forward, "needs MariaDB: scripts/test";
    mysql_survives_a_death_at_every_record_of_a_rollback: Mysql Back, "needs MariaDB: scripts/test";
    redis_survives_a_death_at_every_record: Redis Forward, "needs Redis: scripts/test";
    redis_survives_a_death_at_every_record_of_a_rollback: Redis Back, "needs Redis: scripts/test";
    jwt_survives_a_death_at_every_record: Jwt Forward, "takes minutes: scripts/test";
    jwt_survives_a_death_at_every_record_of_a_rollback: Jwt Back, "takes minutes: scripts/test";
    jwt_in_vault_survives_a_death_at_every_record: JwtInVault Forward, "needs Vault: scripts/test";
    jwt_in_vault_survives_a_death_at_every_record_of_a_rollback: JwtInVault Back, "needs Vault: scripts/test";
    ssh_survives_a_death_at_every_record: Ssh Forward, "needs sshd: scripts/test";
    ssh_survives_a_death_at_every_record_of_a_rollback: Ssh Back, "needs sshd: scripts/test";
    an_api_survives_a_death_at_every_record: Api Forward, "takes minutes: scripts/test";
    an_api_survives_a_death_at_every_record_of_a_rollback: Api Back, "takes minutes: scripts/test";
    kube_survives_a_death_at_every_record: Kube Forward, "needs Kubernetes: scripts/test --all";
    kube_survives_a_death_at_every_record_of_a_rollback: Kube Back, "needs Kubernetes: scripts/test --all";
    gitlab_survives_a_death_at_every_record: Gitlab Forward, "takes minutes: scripts/test";
    gitlab_survives_a_death_at_every_record_of_a_rollback: Gitlab Back, "takes minutes: scripts/test";
    github_survives_a_death_at_every_record: Github Forward, "takes minutes: scripts/test";
    github_survives_a_death_at_every_record_of_a_rollback: Github Back, "takes minutes: scripts/test";
    a_program_survives_a_death_at_every_record: PassThrough Forward, "takes minutes: scripts/test";
    a_program_survives_a_death_at_every_record_of_a_rollback: PassThrough Back, "takes minutes: scripts/test";
    a_program_that_cannot_read_survives_a_death_at_every_record: WriteOnly Forward, "takes minutes: scripts/test";
    a_program_that_cannot_read_survives_a_death_at_every_record_of_a_rollback: WriteOnly Back, "takes minutes: scripts/test";
    own_calls_survive_a_death_at_every_record: Own Forward, "takes minutes: scripts/test";
    own_calls_survive_a_death_at_every_record_of_a_rollback: Own Back, "takes minutes: scripts/test";
}
