//! A schedule: everything that is drawn by chance, so that it can be played again, and made smaller.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng as _};
use serde::{Deserialize, Serialize};
use stanch::domain::{Period, Phase, Strategy};
use stanch::kind;
use stanch::runbook::model;
use stanch::secret::Alphabet;

/// A whole schedule. What befalls calls, commits and sessions stands under their number in the schedule.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Script {
    pub(crate) seed: u64,
    pub(crate) strategy: Strategy,
    pub(crate) credentials: Vec<Spec>,
    pub(crate) own: Vec<Own>,
    pub(crate) attempts: u32,
    pub(crate) concurrency: usize,
    pub(crate) deadline_ms: u64,
    /// Whether `sunset` has a gate that watches the consumers' errors.
    pub(crate) gate: bool,
    /// Whether the old credentials are used on after the proof.
    #[serde(default)]
    pub(crate) watch: bool,
    /// Whether the journal is the real one, in files.
    pub(crate) files: bool,
    /// Whether somebody else changes the world.
    pub(crate) hands: bool,
    /// Whether calls always answer at once: nothing befalls them.
    pub(crate) calm: bool,
    /// What somebody did before the run was planned, to which credential.
    pub(crate) before: Option<(usize, Before)>,
    pub(crate) calls: BTreeMap<u32, AtCall>,
    pub(crate) commits: BTreeMap<u32, AtCommit>,
    pub(crate) sessions: BTreeMap<u32, Session>,
}

/// For how long a verifier goes by the set that it read.
pub(crate) const CACHE: Period = Period::seconds(5);

/// One credential of the runbook.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) issuer: IssuerKind,
    pub(crate) stores: Vec<StoreKind>,
    pub(crate) consumers: Vec<ConsumerKind>,
    pub(crate) probe: bool,
    /// Whether it has a check under `rejects` that refuses everything.
    pub(crate) blind: bool,
    /// The credentials, by number, that come before it.
    pub(crate) after: Vec<usize>,
}

/// What somebody did before the run was planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Before {
    /// The value in the stores was mistyped.
    Mistyped,
    /// The old credential was disabled.
    Disabled,
    /// The old credential was deleted.
    Deleted,
}

/// What somebody else does in the middle of a run, past stanch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hand {
    /// Whose credential, and in which store, by number; beyond the last they begin anew.
    pub(crate) credential: usize,
    pub(crate) store: usize,
    pub(crate) what: Deed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Deed {
    DeleteOld,
    DisableOld,
    EnableOld,
    DeleteNew,
    DisableNew,
    Mint,
    WriteOld,
    WriteNew,
    WriteStranger,
    /// Who has the leaked one logs in with it.
    LogInOld,
    LogInNew,
}

impl Deed {
    pub(crate) const ALL: [Self; 11] = [
        Self::DeleteOld,
        Self::DisableOld,
        Self::EnableOld,
        Self::DeleteNew,
        Self::DisableNew,
        Self::Mint,
        Self::WriteOld,
        Self::WriteNew,
        Self::WriteStranger,
        Self::LogInOld,
        Self::LogInNew,
    ];
}

/// The issuers that the sandbox stands in for: listable and readable, with and without a reversible
/// disable, with a limit, one whose logins outlive it, a member of a set, and one whose secrets are made here.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum IssuerKind {
    Plain {
        can_disable: bool,
        coexist: Option<u32>,
    },
    Vault,
    /// Its logins outlive it.
    Approle,
    Iam,
    /// The same, and it can be disabled.
    Userpass,
    /// A member of a set, which others may have read a while ago.
    Jwt,
    Random,
    /// As `Random`, at an issuer that keeps one value only. Under `contain` alone.
    Replacing,
}

/// The stores: with labels (token), without (conditional), and one that cannot be read.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum StoreKind {
    Sandbox { labels: bool },
    Kv2 { destroys: bool },
    SecretsManager,
    GithubActionsSecret,
}

/// A consumer: whether it caches until it is told to reload, and how many instances say what they use.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct ConsumerKind {
    pub(crate) reloads: bool,
    pub(crate) instances: Option<u32>,
}

/// An own step of the runbook.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Own {
    pub(crate) phase: Phase,
    pub(crate) before: bool,
    pub(crate) kind: OwnKind,
    pub(crate) undo: bool,
    /// Whether it gets the first credential's new version.
    #[serde(default)]
    pub(crate) delivers: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum OwnKind {
    Opaque,
    Idempotent,
    Manual,
}

/// What befalls a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AtCall {
    LostRequest,
    LostReply,
    /// A 5xx: nobody knows. Whether it took effect.
    ServerError(bool),
    Twice,
    Throttled,
    Unreachable,
    Sealed,
    /// It takes effect in time, and late.
    Slow(u64),
    /// No answer within the deadline. Whether it took effect.
    Stalled(bool),
    /// No answer within the deadline, and it takes effect after it.
    PastDeadline(u64),
    /// A read that lags.
    Stale(u64),
    /// The permission for this kind of call is withdrawn for the rest of the session.
    Denied,
    /// The server refuses it and quotes the secret that it holds.
    Quoted,
    /// The servers restart and have lost what they had not flushed.
    Restart,
    /// The process dies. Whether the call took effect.
    Crash(bool),
    /// Somebody sets the latch while it is under way.
    Halt,
    /// The program crashes in it.
    Panic,
    /// The server says that it revoked, and did not.
    Hollow,
    /// A check refuses, or a consumer names another version, whatever is true.
    Lie,
}

/// What befalls a commit. `keep`: how much of what was to be written is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AtCommit {
    /// The process dies while it writes.
    CrashWithin { keep: u32 },
    /// The process dies right after: the intents are durable and the calls were not made.
    CrashAfter,
    /// The disk fails, or is full; the process lives to say so.
    DiskFails { keep: u32 },
    /// Somebody sets the latch.
    Halt,
    /// Somebody asks for a rollback from another process.
    Rollback { to: Option<Phase> },
    /// Ctrl-C.
    Interrupt,
    /// Somebody else changes the world.
    Hand(Hand),
    /// A second run of the same runbook is begun.
    SecondRun,
}

/// How one session is conducted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) until: Option<Phase>,
    pub(crate) no_wait: bool,
    /// Somebody asks for a rollback when the run is resumed.
    pub(crate) rollback: Option<Back>,
    /// Which credential somebody has written into its stores again when the run is resumed.
    #[serde(default)]
    pub(crate) rewrite: Option<usize>,
    /// Which new credential somebody has replaced when the run is resumed.
    #[serde(default)]
    pub(crate) reissue: Option<usize>,
    /// By how much the machine's clock is wrong in this session.
    pub(crate) jump_ms: i64,
    /// Whether nobody answers questions.
    pub(crate) silent: bool,
    /// How long the machine was down before.
    pub(crate) pause_ms: u64,
}

/// How far back: to a phase, or all the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Back {
    pub(crate) to: Option<Phase>,
}

/// How often things happen in a schedule, out of 10,000.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    pub(crate) calls: u32,
    pub(crate) crashes: u32,
    pub(crate) operators: u32,
    pub(crate) hands: u32,
    /// What happens in all at most; after that everything is well, so that every schedule ends.
    pub(crate) budget: u32,
}

impl Script {
    /// The runbook's part of a schedule, and the weather that the rest is drawn from.
    pub(crate) fn draw(seed: u64) -> (Self, Weather, StdRng) {
        let mut rng = StdRng::seed_from_u64(seed);
        let strategy = if rng.gen_bool(0.75) { Strategy::Overlap } else { Strategy::Contain };
        let many = match rng.gen_range(0..100) {
            0..=49 => 1..=1,
            50..=79 => 2..=3,
            80..=95 => 4..=8,
            96..=98 => 9..=20,
            _ => 21..=50,
        };
        let number = rng.gen_range(many);
        let mut credentials: Vec<Spec> = (0..number).map(|at| spec(&mut rng, at)).collect();
        if strategy == Strategy::Contain {
            // Drawn from the seed itself, so that all other schedules stay what they were.
            for (_, spec) in (seed..).zip(&mut credentials).filter(|(at, _)| at % 2 == 0) {
                if matches!(spec.issuer, IssuerKind::Random) {
                    spec.issuer = IssuerKind::Replacing;
                }
            }
        }
        for (at, spec) in (seed..).zip(&mut credentials) {
            match spec.issuer {
                IssuerKind::Vault if at % 4 == 0 => spec.issuer = IssuerKind::Userpass,
                IssuerKind::Vault if at % 2 == 0 => spec.issuer = IssuerKind::Approle,
                IssuerKind::Plain { can_disable: true, .. } if at % 3 == 0 => spec.issuer = IssuerKind::Jwt,
                _ => {}
            }
        }
        let own = (0..[0, 0, 0, 1, 1, 2][rng.gen_range(0..6)]).map(|_| own(&mut rng, strategy)).collect();
        let mut script = Self {
            seed,
            strategy,
            credentials,
            own,
            attempts: rng.gen_range(2..=5),
            concurrency: [1, 2, 3, 16][rng.gen_range(0..4)],
            deadline_ms: [1_000, 5_000, 30_000][rng.gen_range(0..3)],
            gate: rng.gen_bool(0.4),
            watch: seed.is_multiple_of(5),
            files: rng.gen_ratio(1, 64),
            hands: rng.gen_bool(0.35),
            calm: false,
            before: None,
            calls: BTreeMap::new(),
            commits: BTreeMap::new(),
            sessions: BTreeMap::new(),
        };
        if script.hands && rng.gen_ratio(1, 8) {
            let what = [Before::Mistyped, Before::Disabled, Before::Deleted][rng.gen_range(0..3)];
            let c = rng.gen_range(0..number);
            // What no store holds cannot be mistyped there.
            let nowhere = script.credentials[c].stores.is_empty() && what == Before::Mistyped;
            // An issuer that keeps one value has no state beside it.
            let stateless =
                what == Before::Disabled && matches!(script.credentials[c].issuer, IssuerKind::Replacing);
            script.before = Some((c, if nowhere || stateless { Before::Deleted } else { what }));
        }
        let weather = Weather {
            hands: if script.hands { [200, 1_000][rng.gen_range(0..2)] } else { 0 },
            calls: [0, 50, 300, 1_500][rng.gen_range(0..4)],
            crashes: [0, 100, 500, 2_000][rng.gen_range(0..4)],
            operators: [0, 0, 50, 300][rng.gen_range(0..4)],
            budget: rng.gen_range(1..=30),
        };
        script.calm = weather.calls == 0 && weather.crashes == 0;
        (script, weather, rng)
    }

    /// The runbook that the schedule speaks of.
    pub(crate) fn runbook(&self) -> model::Runbook {
        let credentials =
            self.credentials.iter().enumerate().map(|(at, spec)| (name(at), spec.credential(at))).collect();
        let wait = |ms| Some(Period::millis(ms));
        // Where no consumer calls, its error rate is never known.
        let gate = self.gate && self.credentials.iter().any(|c| !c.consumers.is_empty());
        let asks = model::PhaseSpec { times: Some(3), every: wait(200), ..Default::default() };
        let mut phases = model::Phases {
            verify: Some(model::PhaseSpec { at_most: wait(20_000), ..asks.clone() }),
            overlap: Some(model::PhaseSpec {
                at_least: wait(1_000),
                at_most: wait(20_000),
                ..Default::default()
            }),
            sunset: Some(model::PhaseSpec {
                at_least: wait(1_000),
                at_most: wait(20_000),
                until: (gate && self.strategy == Strategy::Overlap).then(|| vec!["errors".to_owned()]),
                ..Default::default()
            }),
            proof: Some(model::PhaseSpec {
                at_most: wait(20_000),
                watch: self.watch.then(|| Period::millis(2_000)),
                ..asks
            }),
            ..Default::default()
        };
        for (at, own) in self.own.iter().enumerate() {
            let slot = match own.phase {
                Phase::Prepare => &mut phases.prepare,
                Phase::Distribute => &mut phases.distribute,
                Phase::Verify => &mut phases.verify,
                Phase::Cutover => &mut phases.cutover,
                Phase::Overlap => &mut phases.overlap,
                Phase::Sunset => &mut phases.sunset,
                Phase::Revoke => &mut phases.revoke,
                Phase::Proof | Phase::Preflight => &mut phases.proof,
            };
            let spec = slot.get_or_insert_default();
            let list = if own.before { &mut spec.before } else { &mut spec.after };
            list.push(own.step(at));
        }
        let errors =
            model::Gate::Sandbox(kind::sandbox::SandboxGate { at_most: 0.5, every: Period::millis(500) });
        model::Runbook {
            version: 1,
            name: "simulated".into(),
            summary: None,
            owner: None,
            cadence: None,
            windows: Vec::new(),
            notify: None,
            severity: model::Severity::High,
            environments: [("sandbox".to_owned(), BTreeMap::new())].into(),
            strategy: self.strategy,
            connections: [
                ("world".to_owned(), model::Connection::Sandbox(kind::sandbox::World { latency: None })),
                (
                    "vault".to_owned(),
                    model::Connection::Vault(kind::vault::Vault {
                        address: None,
                        namespace: None,
                        ca_cert: None,
                    }),
                ),
                (
                    "aws".to_owned(),
                    model::Connection::Aws(kind::aws::Aws {
                        region: Some("eu-west-1".into()),
                        account: None,
                        profile: None,
                        endpoint_url: None,
                    }),
                ),
                (
                    "github".to_owned(),
                    model::Connection::Github(kind::github::Github {
                        address: None,
                        variable: "GITHUB_TOKEN".into(),
                        ca_cert: None,
                    }),
                ),
            ]
            .into(),
            credentials,
            phases,
            gates: gate.then(|| ("errors".to_owned(), errors)).into_iter().collect(),
            approvals: None,
            limits: model::Limits {
                concurrency: self.concurrency,
                deadline: Period::millis(self.deadline_ms),
                attempts: self.attempts,
            },
        }
    }
}

/// A credential's name, so that their order is that of their numbers.
pub(crate) fn name(at: usize) -> String {
    format!("c{at:02}")
}

/// The credential that a call's target or a principal speaks of.
pub(crate) fn whose(target: &str) -> &str {
    target.strip_prefix("approle ").unwrap_or(target)
}

impl Spec {
    fn credential(&self, at: usize) -> model::Credential {
        let policies = vec!["read".to_owned()];
        let ttl = Period::seconds(3600);
        let issuer = match self.issuer {
            IssuerKind::Plain { can_disable, coexist } => {
                model::Issuer::Sandbox(kind::sandbox::SandboxIssuer {
                    connection: "world".into(),
                    policies: policies.clone(),
                    ttl: Some(ttl),
                    coexist,
                    can_disable,
                })
            }
            IssuerKind::Vault => model::Issuer::VaultToken(kind::vault::token::VaultToken {
                connection: "vault".into(),
                role: None,
                policies: policies.clone(),
                ttl,
                num_uses: 0,
                bound_cidrs: vec![],
            }),
            IssuerKind::Approle => model::Issuer::ApproleSecretId(kind::vault::approle::ApproleSecretId {
                connection: "vault".into(),
                mount: "approle".into(),
                role: name(at),
                ttl: Some(ttl),
                num_uses: 0,
                cidr_list: vec![],
            }),
            IssuerKind::Userpass => model::Issuer::VaultUserpass(kind::vault::userpass::VaultUserpass {
                connection: "vault".into(),
                mount: "userpass".into(),
                name: name(at),
                policies: policies.clone(),
                no_default_policy: false,
                ttl: None,
                max_ttl: None,
                explicit_max_ttl: None,
                period: None,
                num_uses: 0,
                bound_cidrs: vec![],
                end_logins: kind::vault::userpass::EndLogins::default(),
            }),
            IssuerKind::Jwt => model::Issuer::JwtSigningKey(kind::jwt::JwtSigningKey {
                set: kind::set::SetPlace::File(format!("{}.json", name(at))),
                algorithm: kind::jwt::Algorithm::default(),
                jwks: vec![],
                cache: CACHE,
                token: None,
            }),
            IssuerKind::Iam => model::Issuer::IamAccessKey(kind::aws::access_key::IamAccessKey {
                connection: "aws".into(),
                user: name(at),
            }),
            IssuerKind::Random | IssuerKind::Replacing => model::Issuer::Random(kind::random::Random {
                alphabet: Alphabet::Alphanumeric,
                length: 40,
                apply: Some(model::Call::Sandbox {}),
                revoke: matches!(self.issuer, IssuerKind::Random).then_some(model::Call::Sandbox {}),
            }),
        };
        // A value that is made here carries no policies and never expires.
        let scoped = !matches!(self.issuer, IssuerKind::Random | IssuerKind::Replacing | IssuerKind::Jwt);
        let stores = self.stores.iter().enumerate().map(|(s, kind)| kind.store(at, s, self.issuer)).collect();
        let consumers = self.consumers.iter().enumerate().map(|(c, kind)| model::Consumer {
            name: format!("app{c}"),
            reload: kind.reloads.then_some(model::Call::Sandbox {}),
            attest: kind
                .instances
                .map(|instances| model::Attest::Sandbox(kind::sandbox::SandboxAttest { instances })),
        });
        model::Credential {
            issuer,
            scope: model::Scope { max_ttl: None, policies: scoped.then_some(policies), audience: None },
            outgoing: self.stores.is_empty().then(|| format!("named-{at}")),
            stores,
            consumers: consumers.collect(),
            accepts: (self.probe && scoped)
                .then(|| model::Probe::Sandbox(kind::sandbox::SandboxProbe { policy: Some("read".into()) }))
                .into_iter()
                .chain(
                    (!scoped).then_some(model::Probe::Sandbox(kind::sandbox::SandboxProbe { policy: None })),
                )
                .collect(),
            rejects: self.blind.then(|| {
                vec![model::Probe::Sandbox(kind::sandbox::SandboxProbe {
                    policy: Some("nobody has this".into()),
                })]
            }),
            after: self.after.iter().map(|a| name(*a)).collect(),
        }
    }
}

impl StoreKind {
    fn store(self, at: usize, s: usize, issuer: IssuerKind) -> model::Store {
        let place = format!("{}-{s}", name(at));
        // What has two parts is kept in two fields.
        let parts = match issuer {
            IssuerKind::Iam => &[("access_key_id", "ID"), ("secret_access_key", "KEY")][..],
            IssuerKind::Jwt => &[("kid", "ID"), ("private_key", "KEY")],
            IssuerKind::Userpass => &[("username", "ID"), ("password", "KEY")],
            _ => &[],
        };
        let fields: BTreeMap<String, String> =
            parts.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let field = fields.is_empty().then(|| "value".to_owned());
        match self {
            Self::Sandbox { labels } => model::Store::Sandbox(kind::sandbox::SandboxStore {
                connection: "world".into(),
                path: place,
                labels,
            }),
            Self::Kv2 { destroys } => model::Store::Kv2(kind::vault::kv2::Kv2 {
                connection: "vault".into(),
                mount: "secret".into(),
                path: place,
                field,
                fields,
                destroy_outgoing: destroys,
            }),
            Self::SecretsManager => model::Store::Secretsmanager(kind::aws::secretsmanager::Secretsmanager {
                connection: "aws".into(),
                secret: place,
                field,
                fields,
            }),
            Self::GithubActionsSecret => {
                model::Store::GithubActionsSecret(kind::github::secret::GithubActionsSecret {
                    connection: "github".into(),
                    repository: Some("shop/app".into()),
                    environment: None,
                    organization: None,
                    name: place,
                    part: None,
                })
            }
        }
    }
}

impl Own {
    fn step(self, at: usize) -> model::OwnStep {
        let exec = || model::Exec::Argv(vec!["true".into()]);
        let manual = self.kind == OwnKind::Manual;
        model::OwnStep {
            name: format!("own{at}"),
            exec: (!manual).then(exec),
            http: None,
            credential: self.delivers.then(|| name(0)),
            manual: manual.then(|| "done?".to_owned()),
            undo: self.undo.then(|| model::Undo::Exec(exec())),
            class: if self.kind == OwnKind::Opaque {
                model::OwnClass::Opaque
            } else {
                model::OwnClass::Idempotent
            },
            observe: None,
        }
    }
}

fn spec(rng: &mut StdRng, at: usize) -> Spec {
    let issuer = match rng.gen_range(0..8) {
        0..=2 => IssuerKind::Plain {
            can_disable: rng.gen_bool(0.7),
            coexist: rng.gen_bool(0.3).then(|| rng.gen_range(2..=3)),
        },
        3..=4 => IssuerKind::Vault,
        5..=6 => IssuerKind::Iam,
        _ => IssuerKind::Random,
    };
    let mut stores: Vec<StoreKind> = (0..[1, 1, 1, 2, 3][rng.gen_range(0..5)])
        .map(|_| match rng.gen_range(0..4) {
            0 => StoreKind::Sandbox { labels: true },
            1 => StoreKind::Sandbox { labels: false },
            2 => StoreKind::Kv2 { destroys: rng.gen_bool(0.3) },
            _ => StoreKind::SecretsManager,
        })
        .collect();
    let consumers: Vec<ConsumerKind> = (0..rng.gen_range(0..=2))
        .map(|_| {
            let instances = rng.gen_bool(0.8).then(|| rng.gen_range(1..=3));
            // One that can neither be told nor asked never moves in the sandbox.
            ConsumerKind { reloads: instances.is_none() || rng.gen_bool(0.8), instances }
        })
        .collect();
    // Another store tells the old value, and a consumer that the new one arrived.
    if consumers.iter().any(|consumer| consumer.instances.is_some()) && rng.gen_ratio(1, 4) {
        stores.push(StoreKind::GithubActionsSecret);
    }
    // Known by its name alone, and told by its issuer alone.
    let told = !matches!(issuer, IssuerKind::Random);
    let (stores, consumers) =
        if told && rng.gen_ratio(1, 10) { (vec![], vec![]) } else { (stores, consumers) };
    let after = if at > 0 && rng.gen_bool(0.3) { vec![rng.gen_range(0..at)] } else { vec![] };
    Spec { issuer, stores, consumers, probe: rng.gen_bool(0.6), blind: rng.gen_ratio(1, 24), after }
}

fn own(rng: &mut StdRng, strategy: Strategy) -> Own {
    let order = Phase::order(strategy);
    let phase = order[rng.gen_range(1..order.len())];
    let kind = [OwnKind::Opaque, OwnKind::Idempotent, OwnKind::Manual][rng.gen_range(0..3)];
    let delivers = kind != OwnKind::Manual
        && matches!(phase, Phase::Distribute | Phase::Verify | Phase::Cutover)
        && rng.gen_bool(0.5);
    Own { phase, before: rng.gen_bool(0.5), kind, undo: rng.gen_bool(0.7), delivers }
}

/// What befalls the next call, if anything.
pub(crate) fn at_call(rng: &mut StdRng, weather: Weather, deadline_ms: u64) -> Option<AtCall> {
    let roll = rng.gen_range(0..10_000);
    if roll < weather.crashes / 8 {
        return Some(AtCall::Crash(rng.gen_bool(0.5)));
    }
    if roll < weather.crashes / 8 + weather.operators / 8 {
        return Some(AtCall::Halt);
    }
    if !rng.gen_ratio(weather.calls.max(1), 10_000) || weather.calls == 0 {
        return None;
    }
    Some(match rng.gen_range(0..21) {
        0 | 1 => AtCall::LostRequest,
        2 | 3 => AtCall::LostReply,
        4 => AtCall::ServerError(true),
        5 => AtCall::ServerError(false),
        6 => AtCall::Twice,
        7 => AtCall::Throttled,
        8 => AtCall::Unreachable,
        9 => AtCall::Sealed,
        10 => AtCall::Slow(rng.gen_range(1..deadline_ms)),
        11 => AtCall::Stalled(rng.gen_bool(0.5)),
        12 => AtCall::PastDeadline(rng.gen_range(0..3_000)),
        13 | 14 => AtCall::Stale(rng.gen_range(1..3_000)),
        15 => AtCall::Denied,
        16 => AtCall::Quoted,
        17 => AtCall::Restart,
        18 => AtCall::Panic,
        19 => AtCall::Hollow,
        _ => AtCall::Lie,
    })
}

/// What befalls the next commit, if anything.
pub(crate) fn at_commit(rng: &mut StdRng, weather: Weather) -> Option<AtCommit> {
    let roll = rng.gen_range(0..10_000);
    if roll < weather.crashes {
        let keep = rng.gen_range(0..8);
        return Some(match rng.gen_range(0..5) {
            0 | 1 => AtCommit::CrashWithin { keep },
            2 | 3 => AtCommit::CrashAfter,
            _ => AtCommit::DiskFails { keep },
        });
    }
    if roll < weather.crashes + weather.operators {
        return Some(match rng.gen_range(0..8) {
            0..=2 => AtCommit::Halt,
            3 | 4 => AtCommit::Interrupt,
            5 => AtCommit::Rollback { to: None },
            6 => AtCommit::Rollback { to: Some(Phase::ALL[rng.gen_range(0..7)]) },
            _ => AtCommit::SecondRun,
        });
    }
    if roll < weather.crashes + weather.operators + weather.hands {
        return Some(AtCommit::Hand(Hand {
            credential: rng.gen_range(0..64),
            store: rng.gen_range(0..8),
            what: Deed::ALL[rng.gen_range(0..Deed::ALL.len())],
        }));
    }
    None
}

/// How the next session is conducted.
pub(crate) fn session(rng: &mut StdRng, weather: Weather, first: bool) -> Session {
    let mut session = Session::default();
    if weather.operators == 0 {
        return session;
    }
    if rng.gen_bool(0.1) {
        session.until = Some(Phase::ALL[rng.gen_range(0..9)]);
    }
    session.no_wait = rng.gen_bool(0.1);
    session.silent = rng.gen_bool(0.1);
    if !first {
        if rng.gen_bool(0.15) {
            session.rollback = Some(Back { to: rng.gen_bool(0.3).then(|| Phase::ALL[rng.gen_range(0..7)]) });
        }
        session.rewrite = rng.gen_bool(0.15).then(|| rng.gen_range(0..8));
        session.reissue = rng.gen_bool(0.15).then(|| rng.gen_range(0..8));
        session.pause_ms = [0, 0, 500, 60_000][rng.gen_range(0..4)];
    }
    if rng.gen_bool(0.2) {
        session.jump_ms = rng.gen_range(-120_000..120_000);
    }
    session
}
