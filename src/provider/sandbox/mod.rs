//! The sandbox: the same traits over a small embedded world. It is what the quickstart and drills
//! run on, so it refuses what real servers refuse: unknown and dead credentials, wrong versions,
//! a third access key, another value under a used idempotency token.
//!
//! It stands in for every kind of connection: a Vault token in the sandbox has no reversible
//! disable, an access key has, a KV v2 store has no labels, and so on.

mod consumer;
mod fault;
mod hands;
mod issuer;
mod outside;
mod store;
mod world;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

pub use fault::{Fault, Faults};
#[cfg(feature = "simulation")]
pub use world::memory::{Change, Witness};

use self::consumer::{SandboxConsumer, client_name, instances};
use self::issuer::{IssuerSpec, SandboxIssuer};
use self::outside::{ErrorRate, RelyingParty, Simulated};
use self::store::SandboxStore;
use self::world::{Client, Credential, Secrets, World};
use super::{Call, CallError, Consumer, Gate, Issuer, Probe, Provider, Store};
use crate::clock::{Clock, SystemClock};
use crate::domain::{Check, ErrorKind, Life};
use crate::runbook::model;
use crate::secret::Sealer;
use crate::text::shell_word;

/// The world at one moment, as an onlooker sees it who is neither an issuer nor a store: what
/// drills and tests hold the engine's own story against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Every credential there ever was: whose, its handle, whether it is accepted.
    pub credentials: Vec<(String, String, Life)>,
    /// Every secret: its path, and whether its current version is a credential that is accepted.
    pub stores: Vec<(String, Option<Life>)>,
    /// How many calls consumers made, and how many of them were refused.
    pub traffic: (u64, u64),
}

/// Whose credentials an issuer of the sandbox issues: what faults name for calls of that issuer and of its checks.
pub fn principal(name: &str, credential: &model::Credential) -> String {
    IssuerSpec::of(name, credential).principal
}

/// What faults name for calls of a consumer.
pub fn consumer_target(name: &str, consumer: &model::Consumer) -> String {
    client_name(name, consumer)
}

/// The sandbox.
#[derive(Clone)]
pub struct Sandbox {
    world: Arc<Mutex<World>>,
    latency: Duration,
    faults: Arc<dyn Faults>,
    clock: Arc<dyn Clock>,
    /// What sets a credential's issuer and stores apart from another one's of the same words, by its name.
    apart: Arc<BTreeMap<String, String>>,
    /// Where its world is kept, if not in memory.
    folder: Option<Arc<Path>>,
}

impl Sandbox {
    /// Opens the world in a folder of the state folder. `sealer` is the state folder's.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub fn open(folder: &Path, sealer: Sealer) -> std::io::Result<Self> {
        Ok(Self {
            world: Arc::new(Mutex::new(World::open(folder, sealer)?)),
            latency: Duration::ZERO,
            faults: Arc::new(fault::NoFaults),
            clock: Arc::new(SystemClock::new()),
            apart: Arc::default(),
            folder: Some(Arc::from(folder)),
        })
    }

    /// What a person types to be rid of all that other runs left in it.
    fn how_to_empty(&self) -> String {
        let folder = self.folder.as_deref().unwrap_or(Path::new("sandbox"));
        format!(
            "finish the run that staged it, if it is open (stanch runs); else start with an empty sandbox: rm -r {}",
            shell_word(&folder.display().to_string())
        )
    }

    /// A world in memory, for simulations. `number` makes its values differ from another world's.
    #[cfg(feature = "simulation")]
    pub fn in_memory(number: u64) -> Self {
        Self {
            world: Arc::new(Mutex::new(World::in_memory(number))),
            latency: Duration::ZERO,
            faults: Arc::new(fault::NoFaults),
            clock: Arc::new(SystemClock::new()),
            apart: Arc::default(),
            folder: None,
        }
    }

    /// Somebody who sees every change from now on. In memory only.
    #[cfg(feature = "simulation")]
    pub fn watched_by(&self, witness: Arc<dyn Witness>) {
        self.world.lock().unwrap_or_else(std::sync::PoisonError::into_inner).set_witness(witness);
    }

    /// What was to take effect by now does, and the rest within `most`: whoever asked is gone.
    #[cfg(feature = "simulation")]
    pub fn hang_up(&self, most: Duration) {
        let mut world = self.world.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        world.arrive();
        world.cap_latency(most);
    }

    /// Whether a check or a consumer answers wrongly this time.
    #[cfg(feature = "simulation")]
    fn lies(&self, target: &str) -> bool {
        self.faults.next("answer", target).is_some()
    }

    /// Every value that the world has seen: what must stand nowhere.
    #[cfg(feature = "simulation")]
    pub fn everything_secret(&self) -> Vec<crate::secret::Secret> {
        let world = self.world.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let materials = world.all_credentials().map(|(_, c)| world.material(&c.value));
        materials.flat_map(|m| m.secret_parts().cloned().collect::<Vec<_>>()).collect()
    }

    /// With a time that each call takes.
    #[must_use]
    pub fn with_latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// With the clock that tells when something was written.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    fn now(&self) -> Timestamp {
        self.clock.now().wall
    }

    /// With faults that calls suffer.
    #[must_use]
    pub fn with_faults(mut self, faults: Arc<dyn Faults>) -> Self {
        self.faults = faults;
        self
    }

    /// With issuers and stores of their own for these credentials, by name, each with a word that no other has: copies
    /// of one credential, which say the same of where they are kept.
    #[must_use]
    pub fn with_apart(mut self, apart: BTreeMap<String, String>) -> Self {
        self.apart = Arc::new(apart);
        self
    }

    /// What a text says of a credential's issuer or stores, for that credential alone where it is a copy.
    fn apart(&self, name: &str, text: String) -> String {
        match self.apart.get(name) {
            Some(word) => format!("{text} {word}"),
            None => text,
        }
    }

    /// What faults name for calls of a credential's issuer and of its checks.
    pub fn principal_of(&self, name: &str, credential: &model::Credential) -> String {
        self.apart(name, principal(name, credential))
    }

    /// What faults name for calls of a credential's store.
    pub fn place_of(&self, name: &str, store: &model::Store) -> String {
        self.apart(name, store.stand_in())
    }

    fn issuer_of(&self, name: &str, credential: &model::Credential) -> IssuerSpec {
        let mut spec = IssuerSpec::of(name, credential);
        spec.principal = self.apart(name, spec.principal);
        spec
    }

    /// Puts a live outgoing version of a credential, its stores and its consumers into the world,
    /// where they are not there yet: the world as it stood before the leak.
    ///
    /// # Errors
    /// When the world cannot be written.
    pub fn seed(&self, name: &str, credential: &model::Credential) -> Result<(), CallError> {
        let issuer = self.issuer_of(name, credential);
        // What no store holds is known by its name alone.
        let named = credential.outgoing.as_ref().filter(|_| credential.stores.is_empty());
        if credential.stores.is_empty() && named.is_none() {
            return Ok(());
        }
        self.transact(|world| {
            let known = credential.stores.iter().find_map(|store| {
                let secrets = world.secrets(&self.place_of(name, store))?;
                secrets.versions.get(secrets.labels.current.as_ref()?).cloned()
            });
            let known = known.or_else(|| Some(world.credential(named?)?.value.clone()));
            let value = known.unwrap_or_else(|| {
                let (minted, value) = world.mint(issuer.parts);
                let handle = named.cloned().unwrap_or(minted);
                world.put_credential(
                    &handle,
                    Credential {
                        principal: issuer.principal.clone(),
                        value: value.clone(),
                        life: Life::Active,
                        policies: issuer.policies.clone(),
                        ttl_ms: issuer.ttl_ms,
                        audience: credential.scope.audience.clone(),
                        tag: None,
                        used: true,
                        logins: issuer.logins(),
                    },
                );
                value
            });
            for store in &credential.stores {
                let path = self.place_of(name, store);
                if world.secrets(&path).is_none() {
                    let mut secrets = Secrets { next: 1, ..Secrets::default() };
                    secrets.labels.current = Some(secrets.add(value.clone(), self.now()));
                    world.put_secrets(&path, secrets);
                }
            }
            for consumer in &credential.consumers {
                let client = client_name(name, consumer);
                let instances = vec![value.clone(); instances(consumer)];
                if world.client(&client).is_none_or(|c| c.instances.len() != instances.len()) {
                    world.log_in(&value, instances.len());
                    world.put_client(&client, Client { instances, ..Client::default() });
                }
            }
        })
    }

    /// Lets every consumer make a call, and looks at the world.
    ///
    /// # Errors
    /// When the world cannot be read.
    pub fn snapshot(&self) -> Result<Snapshot, CallError> {
        self.transact(|world| {
            world.exercise();
            let credentials =
                world.all_credentials().map(|(h, c)| (c.principal.clone(), h.clone(), c.life)).collect();
            let life = |secrets: &Secrets| {
                let current = secrets.labels.current.as_ref()?;
                let material = world.material(secrets.versions.get(current)?);
                world.credential_of(&material).map(|(_, c)| c.life)
            };
            let stores = world.all_secrets().map(|(path, s)| (path.clone(), life(s))).collect();
            Snapshot { credentials, stores, traffic: world.traffic() }
        })
    }

    /// Reads or changes the world at once, without latency or faults.
    fn transact<T>(&self, act: impl FnOnce(&mut World) -> T) -> Result<T, CallError> {
        let mut world = self.world.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        world.transact(act).map_err(|e| {
            CallError::rejected(
                ErrorKind::Local,
                format!("the sandbox's world cannot be read or written: {e}"),
            )
        })
    }

    /// Whether a call of `op` on `target` would be answered, under the name of a check.
    async fn reach(&self, op: &'static str, target: &str, name: &str) -> Vec<Check> {
        let answer = self.call(op, target, |_| Ok(())).await;
        answer.err().map(|error| error.read_only().to_check(name)).into_iter().collect()
    }

    /// A call, as a server would take it: with latency, and with the faults that were injected.
    async fn call<T>(
        &self,
        op: &'static str,
        target: &str,
        act: impl Fn(&mut World) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let unanswered = || Err(CallError::unknown(format!("sandbox {target}: no answer to {op}")));
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
        match self.faults.next(op, target) {
            None => self.transact(act)?,
            Some(Fault::Reject(kind)) => Err(CallError::rejected(
                kind,
                match kind {
                    // In the words of the real one: a participant reads no hint of what to do.
                    ErrorKind::NotReady => {
                        format!("sandbox {target}: {op}: the server answers 503: it is sealed, or not ready")
                    }
                    _ => format!("sandbox {target}: {op}: refused by the server ({kind})"),
                },
            )),
            Some(Fault::Throttle(wait)) => {
                let message = format!("sandbox {target}: too many requests");
                let error = CallError::rejected(ErrorKind::Throttled, message);
                Err(CallError { retry_after: Some(wait), ..error })
            }
            Some(Fault::Quote) => {
                let held = self.transact(|world| world.newest(target))?;
                let held: Vec<&str> = held.parts().map(|(_, secret)| secret.expose()).collect();
                let message = format!("sandbox {target}: cannot {op} over {}", held.join(" and "));
                Err(CallError::rejected(ErrorKind::NotReady, message))
            }
            Some(Fault::LostRequest) => unanswered(),
            // It takes effect, and nobody hears of it, nor whether it was refused.
            Some(Fault::LostReply) => self.transact(|w| act(w).ok()).and_then(|_| unanswered()),
            Some(Fault::Twice) => {
                let _ = self.transact(&act)?;
                self.transact(&act)?
            }
            Some(Fault::Delay(delay)) => {
                tokio::time::sleep(delay).await;
                self.transact(act)?
            }
            Some(Fault::Stall(applied)) => {
                if applied {
                    let _ = self.transact(act)?;
                }
                std::future::pending().await
            }
            #[cfg(feature = "simulation")]
            Some(Fault::Panic) => panic!("an injected crash"),
            #[cfg(feature = "simulation")]
            Some(Fault::Hollow) => self.transact(|world| world.without_effect(act))?,
            #[cfg(feature = "simulation")]
            Some(Fault::Lag(lag)) => self.transact(|world| world.in_the_past(lag, act))?,
            #[cfg(feature = "simulation")]
            Some(Fault::Late(delay)) => {
                let _ = self.transact(|world| world.later(delay, act))?;
                std::future::pending().await
            }
            #[cfg(feature = "simulation")]
            Some(Fault::Restart(unflushed)) => {
                self.transact(|world| world.restart(unflushed))?;
                unanswered()
            }
        }
    }
}

#[async_trait]
impl Provider for Sandbox {
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    fn secrets(&self) -> Vec<crate::secret::Secret> {
        Vec::new()
    }

    /// Nothing outside is started or called.
    async fn reach(&self, _runbook: &model::Runbook) -> Vec<Check> {
        Vec::new()
    }

    async fn preflight(&self, connection: &str) -> Vec<Check> {
        vec![Check::pass(format!("connection {connection}"), "the sandbox answers")]
    }

    async fn issuer(&self, name: &str, credential: &model::Credential) -> Result<Arc<dyn Issuer>, CallError> {
        Ok(Arc::new(SandboxIssuer::new(self.clone(), name, credential)))
    }

    async fn store(
        &self,
        name: &str,
        credential: &model::Credential,
        index: usize,
    ) -> Result<Arc<dyn Store>, CallError> {
        Ok(Arc::new(SandboxStore::new(self.clone(), name, &credential.stores[index])))
    }

    async fn consumer(
        &self,
        name: &str,
        credential: &model::Credential,
        index: usize,
    ) -> Result<Arc<dyn Consumer>, CallError> {
        Ok(Arc::new(SandboxConsumer::new(self.clone(), name, credential, index)))
    }

    async fn probe(
        &self,
        name: &str,
        credential: &model::Credential,
        probe: &model::Probe,
    ) -> Result<Arc<dyn Probe>, CallError> {
        let policy = probe.policy().map(str::to_owned);
        let principal = self.principal_of(name, credential);
        Ok(Arc::new(RelyingParty { sandbox: self.clone(), principal, policy }))
    }

    async fn call(&self, _call: &model::Call) -> Result<Arc<dyn Call>, CallError> {
        Ok(Arc::new(Simulated(self.clone())))
    }

    async fn gate(&self, gate: &model::Gate) -> Result<Arc<dyn Gate>, CallError> {
        let at_most = gate.stand_in();
        let before = self.transact(|world| world.traffic())?;
        let spec = serde_json::to_string(gate).unwrap_or_default();
        Ok(Arc::new(ErrorRate { sandbox: self.clone(), at_most, before, spec }))
    }
}
