//! The sandbox's issuer, store and consumer.

use async_trait::async_trait;

use super::Sandbox;
use super::world::{Client, Credential, Secrets, Value, World};
use crate::domain::{Check, ErrorKind, Identity, IssuerTraits, Life, Standing, StoreTraits, Versions};
use crate::kind::spec::StandIn;
use crate::provider::{
    Attestation, CallContext, CallError, Consumer, Grant, Issued, Issuer, Promoted, Secret256, Store, Use,
};
use crate::runbook::model;
use crate::secret::{Material, Recipe};

/// What the sandbox's issuer is like, in place of which real one.
pub(super) struct IssuerSpec {
    pub(super) principal: String,
    pub(super) parts: &'static [&'static str],
    pub(super) policies: Vec<String>,
    pub(super) ttl_ms: Option<u64>,
    traits: IssuerTraits,
    /// How many may be alive at once.
    coexist: Option<usize>,
    recipe: Option<Recipe>,
}

impl IssuerSpec {
    pub(super) fn of(name: &str, credential: &model::Credential) -> Self {
        let millis = |p: crate::domain::Period| u64::try_from(p.get().as_millis()).unwrap_or(u64::MAX);
        let issuer = &credential.issuer;
        let StandIn { principal, policies, ttl, coexist, recipe } = issuer.stand_in(&credential.scope);
        Self {
            principal: principal.unwrap_or_else(|| name.to_owned()),
            parts: issuer.kind().parts,
            policies,
            ttl_ms: ttl.map(millis),
            traits: issuer.traits(),
            coexist,
            recipe,
        }
    }
}

/// A consumer's name in the world.
pub(super) fn client_name(credential: &str, consumer: &model::Consumer) -> String {
    format!("{credential}/{}", consumer.name)
}

/// How many instances a consumer has.
pub(super) fn instances(consumer: &model::Consumer) -> usize {
    consumer.attest.as_ref().map_or(1, |attest| attest.instances())
}

pub(super) struct SandboxIssuer {
    sandbox: Sandbox,
    spec: IssuerSpec,
    audience: Option<String>,
}

impl SandboxIssuer {
    pub(super) fn new(sandbox: Sandbox, name: &str, credential: &model::Credential) -> Self {
        Self { sandbox, spec: IssuerSpec::of(name, credential), audience: credential.scope.audience.clone() }
    }

    async fn set(&self, op: &'static str, handle: &str, life: Life) -> Result<(), CallError> {
        self.sandbox
            .call(op, &self.spec.principal, |world| {
                let Some(credential) = world.credential(handle).filter(|c| c.life != Life::Gone) else {
                    // What is gone is gone: revoking it again is success, anything else is too late.
                    return if life == Life::Gone { Ok(()) } else { Err(self.missing(handle)) };
                };
                let credential = Credential { life, ..credential.clone() };
                world.put_credential(handle, credential);
                Ok(())
            })
            .await
    }

    fn can_disable(&self) -> Result<(), CallError> {
        if self.spec.traits.disables {
            return Ok(());
        }
        let message = format!("sandbox {}: this kind cannot be disabled", self.spec.principal);
        Err(CallError::rejected(ErrorKind::Unsupported, message))
    }

    fn missing(&self, handle: &str) -> CallError {
        CallError::rejected(
            ErrorKind::NotFound,
            format!("sandbox {}: there is no credential {handle}", self.spec.principal),
        )
    }

    fn identity(&self, handle: &str) -> Identity {
        Identity { handle: handle.to_owned(), principal: self.spec.principal.clone() }
    }
}

fn tag(context: &CallContext) -> String {
    format!("{} {} {}", context.run, context.step, context.token)
}

#[async_trait]
impl Issuer for SandboxIssuer {
    fn traits(&self) -> IssuerTraits {
        self.spec.traits
    }

    async fn preflight(&self, _outgoing: Option<&Identity>) -> Vec<Check> {
        let name = format!("issuer of {}", self.spec.principal);
        let alive = self.sandbox.call("list", &self.spec.principal, |world| {
            Ok(world.credentials(&self.spec.principal).filter(|(_, c)| c.life != Life::Gone).count())
        });
        match (alive.await, self.spec.coexist) {
            (Err(e), _) => {
                vec![Check::fail(name, e.kind, e.message, "check that the sandbox's directory is writable")]
            }
            (Ok(alive), Some(limit)) if alive >= limit => vec![Check::fail(
                name,
                ErrorKind::Limit,
                format!("{alive} of {limit} credentials are alive: there is no room for a new one"),
                "revoke one that is not in use, then plan again",
            )],
            (Ok(_), _) => vec![Check::pass(name, "every later step is permitted")],
        }
    }

    async fn identify(&self, material: &Material) -> Result<Option<Standing>, CallError> {
        self.sandbox
            .call("identify", &self.spec.principal, |world| {
                let known = world.credential_of(material).filter(|(_, c)| c.life != Life::Gone);
                Ok(known.map(|(handle, c)| Standing {
                    identity: self.identity(handle),
                    life: c.life,
                    uses_left: None,
                }))
            })
            .await
            .map_err(CallError::read_only)
    }

    fn candidate(&self) -> Option<Material> {
        self.spec.recipe.map(|recipe| Material::single(self.spec.parts[0], recipe.generate()))
    }

    async fn issue(&self, context: &CallContext, candidate: Option<&Material>) -> Result<Issued, CallError> {
        self.sandbox
            .call("issue", &self.spec.principal, |world| {
                let alive =
                    world.credentials(&self.spec.principal).filter(|(_, c)| c.life != Life::Gone).count();
                if self.spec.coexist.is_some_and(|limit| alive >= limit) {
                    let message = format!("sandbox {}: {alive} credentials are alive", self.spec.principal);
                    return Err(
                        CallError::rejected(ErrorKind::Limit, message).hint("revoke one that is not in use")
                    );
                }
                let (handle, value) = match candidate {
                    Some(candidate) => {
                        // The same value applied twice is one credential.
                        match world.credential_of(candidate) {
                            Some((handle, credential)) => (handle.to_owned(), credential.value.clone()),
                            None => (format!("ext-{}", context.token.simple()), world.value_of(candidate)),
                        }
                    }
                    None => world.mint(self.spec.parts),
                };
                let material = world.material(&value);
                let credential = Credential {
                    principal: self.spec.principal.clone(),
                    value,
                    life: Life::Active,
                    policies: self.spec.policies.clone(),
                    ttl_ms: self.spec.ttl_ms,
                    audience: self.audience.clone(),
                    tag: Some(tag(context)),
                    used: false,
                };
                world.put_credential(&handle, credential);
                Ok(Issued { identity: self.identity(&handle), material })
            })
            .await
    }

    async fn find(&self, context: &CallContext, _before: &[String]) -> Result<Vec<String>, CallError> {
        let tag = tag(context);
        // Without a step: whatever carries the run's tag.
        let run = context.step.is_empty().then(|| format!("{} ", context.run));
        self.sandbox
            .call("list", &self.spec.principal, |world| {
                if let Some(run) = &run {
                    let ours = world.all_credentials().filter(|(_, c)| {
                        c.life != Life::Gone
                            && c.tag.as_ref().is_some_and(|tag| tag.starts_with(run.as_str()))
                    });
                    return Ok(ours.map(|(handle, _)| handle.clone()).collect());
                }
                let ours = world
                    .credentials(&self.spec.principal)
                    .filter(|(_, c)| c.tag.as_ref() == Some(&tag) && c.life != Life::Gone);
                Ok(ours.map(|(handle, _)| handle.to_owned()).collect())
            })
            .await
            .map_err(CallError::read_only)
    }

    async fn existing(&self) -> Result<Vec<String>, CallError> {
        Ok(Vec::new())
    }

    async fn inspect(&self, handle: &str) -> Result<Grant, CallError> {
        self.sandbox
            .call("inspect", &self.spec.principal, |world| {
                let credential = world.credential(handle).ok_or_else(|| self.missing(handle))?;
                Ok(Grant {
                    policies: Some(credential.policies.clone()),
                    ttl: credential.ttl_ms.map(std::time::Duration::from_millis),
                    lives: credential.ttl_ms.map(std::time::Duration::from_millis),
                    audience: credential.audience.clone(),
                    wider: Vec::new(),
                    notes: Vec::new(),
                })
            })
            .await
            .map_err(CallError::read_only)
    }

    async fn life(&self, handle: &str) -> Result<Life, CallError> {
        self.sandbox
            .call("life", &self.spec.principal, |world| {
                Ok(world.credential(handle).map_or(Life::Gone, |c| c.life))
            })
            .await
            .map_err(CallError::read_only)
    }

    async fn disable(&self, _context: &CallContext, handle: &str) -> Result<(), CallError> {
        self.can_disable()?;
        self.set("disable", handle, Life::Disabled).await
    }

    async fn enable(&self, _context: &CallContext, handle: &str) -> Result<(), CallError> {
        self.can_disable()?;
        self.set("enable", handle, Life::Active).await
    }

    async fn revoke(
        &self,
        _context: &CallContext,
        handle: &str,
        _material: Option<&Material>,
    ) -> Result<(), CallError> {
        self.set("revoke", handle, Life::Gone).await
    }

    async fn attempt(&self, material: &Material) -> Result<Use, CallError> {
        if !self.spec.traits.tries {
            let message = format!("sandbox {}: this kind can only be tried by a check", self.spec.principal);
            return Err(CallError::rejected(ErrorKind::Unsupported, message));
        }
        self.sandbox
            .call("use", &self.spec.principal, |world| {
                let found = world.credential_of(material).map(|(h, c)| (h.to_owned(), c.clone()));
                Ok(match found {
                    Some((handle, c)) if c.life == Life::Active => {
                        if !c.used {
                            world.put_credential(&handle, Credential { used: true, ..c });
                        }
                        Use::Accepted
                    }
                    Some((_, c)) => Use::Refused(format!("it is {:?}", c.life).to_lowercase()),
                    None => Use::Refused("it is unknown".into()),
                })
            })
            .await
            .map_err(CallError::read_only)
    }
}

pub(super) struct SandboxStore {
    sandbox: Sandbox,
    path: String,
    traits: StoreTraits,
}

impl SandboxStore {
    pub(super) fn new(sandbox: Sandbox, store: &model::Store) -> Self {
        Self { sandbox, path: store.stand_in(), traits: store.traits() }
    }

    fn secrets(&self, world: &World) -> Result<Secrets, CallError> {
        world.secrets(&self.path).cloned().ok_or_else(|| {
            CallError::rejected(ErrorKind::NotFound, format!("{}: there is no such secret", self.path))
        })
    }

    /// Adds a version; a token that was used for it before gives the same version again.
    fn add(
        &self,
        world: &World,
        secrets: &mut Secrets,
        context: &CallContext,
        value: &Material,
    ) -> Result<String, CallError> {
        if value.is_blank() {
            let message = format!("{}: an empty value is never written", self.path);
            return Err(CallError::rejected(ErrorKind::Invalid, message));
        }
        let token = context.token.to_string();
        if let Some(version) = secrets.tokens.get(&token) {
            let same = secrets.versions.get(version).is_some_and(|v| world.material(v).same_as(value));
            return if same {
                Ok(version.clone())
            } else {
                let message = format!("{}: the token of this request was used with another value", self.path);
                Err(CallError::rejected(ErrorKind::Conflict, message))
            };
        }
        let version = secrets.next.to_string();
        secrets.next += 1;
        secrets.versions.insert(version.clone(), world.value_of(value));
        if self.traits.stages {
            secrets.tokens.insert(token, version.clone());
        }
        Ok(version)
    }
}

#[async_trait]
impl Store for SandboxStore {
    fn traits(&self) -> StoreTraits {
        self.traits
    }

    async fn preflight(&self) -> Vec<Check> {
        match self.observe().await {
            // As in Secrets Manager: staging would be refused, when the new credential exists already.
            Ok(Versions { pending: Some(staged), current, .. }) if current.as_ref() != Some(&staged) => {
                let detail =
                    format!("{}: the version {staged} is staged and was not staged by this run", self.path);
                vec![Check::fail("pending version", ErrorKind::Conflict, detail, self.sandbox.how_to_empty())]
            }
            Ok(_) => vec![Check::pass(self.path.clone(), "can be read and written")],
            Err(e) => vec![Check::fail(self.path.clone(), e.kind, e.message, "check the path")],
        }
    }

    async fn observe(&self) -> Result<Versions, CallError> {
        self.sandbox
            .call("observe", &self.path, |world| Ok(self.secrets(world)?.labels))
            .await
            .map_err(CallError::read_only)
    }

    async fn read(&self, version: Option<&str>) -> Result<Material, CallError> {
        self.sandbox
            .call("read", &self.path, |world| {
                let secrets = self.secrets(world)?;
                let version = version.map(str::to_owned).or(secrets.labels.current);
                version.and_then(|v| secrets.versions.get(&v)).map(|v| world.material(v)).ok_or_else(|| {
                    CallError::rejected(
                        ErrorKind::NotFound,
                        format!("{}: there is no such version", self.path),
                    )
                })
            })
            .await
            .map_err(CallError::read_only)
    }

    async fn stage(&self, context: &CallContext, incoming: &Material) -> Result<String, CallError> {
        if !self.traits.stages {
            let message = format!("{}: this kind of store cannot stage", self.path);
            return Err(CallError::rejected(ErrorKind::Unsupported, message));
        }
        self.sandbox
            .call("stage", &self.path, |world| {
                let mut secrets = self.secrets(world)?;
                let version = self.add(world, &mut secrets, context, incoming)?;
                // What this run itself staged before (for a new credential that was replaced since) gives way,
                // as in Secrets Manager.
                let ours = |p: &String| {
                    context.siblings.iter().any(|token| secrets.tokens.get(&token.to_string()) == Some(p))
                };
                if secrets.labels.pending.as_ref().is_some_and(|p| *p != version && !ours(p)) {
                    let message = format!("{}: another version is staged already", self.path);
                    return Err(CallError::rejected(ErrorKind::Conflict, message));
                }
                if secrets.labels.current.as_ref() != Some(&version) {
                    secrets.labels.pending = Some(version.clone());
                }
                world.put_secrets(&self.path, secrets);
                Ok(version)
            })
            .await
    }

    async fn retire(&self, _context: &CallContext, staged: &str) -> Result<(), CallError> {
        self.sandbox
            .call("retire", &self.path, |world| {
                let mut secrets = self.secrets(world)?;
                if secrets.labels.pending.as_deref() == Some(staged) {
                    secrets.labels.pending = None;
                    world.put_secrets(&self.path, secrets);
                }
                Ok(())
            })
            .await
    }

    async fn promote(
        &self,
        context: &CallContext,
        value: &Material,
        from: &Material,
        staged: Option<&str>,
    ) -> Result<Promoted, CallError> {
        self.sandbox
            .call("promote", &self.path, |world| {
                let mut secrets = self.secrets(world)?;
                let current = secrets.labels.current.clone().unwrap_or_default();
                let now = secrets.versions.get(&current).map(|v| world.material(v)).unwrap_or_default();
                let done = now.same_as(value);
                if !done && !now.same_as(from) {
                    let message = format!("{}: the current version {current} holds another value", self.path);
                    return Err(CallError::rejected(ErrorKind::Conflict, message));
                }
                if done {
                    if secrets.labels.pending.as_ref() == Some(&current) {
                        secrets.labels.pending = None;
                        world.put_secrets(&self.path, secrets);
                    }
                    return Ok(Promoted { version: current, was: None });
                }
                let holds = |v: &&str| {
                    secrets.versions.get(*v).is_some_and(|held| world.material(held).same_as(value))
                };
                let version = match staged.filter(|_| self.traits.stages).filter(holds) {
                    Some(staged) => staged.to_owned(),
                    None => self.add(world, &mut secrets, context, value)?,
                };
                secrets.labels = Versions {
                    previous: Some(current.clone()),
                    pending: secrets.labels.pending.filter(|p| *p != version),
                    current: Some(version.clone()),
                };
                world.put_secrets(&self.path, secrets);
                Ok(Promoted { version, was: Some(current) })
            })
            .await
    }

    async fn place(&self) -> Result<String, CallError> {
        Ok(self.path.clone())
    }

    async fn destroy(
        &self,
        _context: &CallContext,
        version: &str,
        outgoing: &Material,
    ) -> Result<(), CallError> {
        if !self.traits.destroys {
            let message = format!("{}: versions of this store are not destroyed", self.path);
            return Err(CallError::rejected(ErrorKind::Unsupported, message));
        }
        self.sandbox
            .call("destroy", &self.path, |world| {
                let mut secrets = self.secrets(world)?;
                if secrets.labels.current.as_deref() == Some(version) {
                    let message = format!("{}: the current version is never destroyed", self.path);
                    return Err(CallError::rejected(ErrorKind::Invalid, message));
                }
                let current = secrets.labels.current.clone();
                secrets.versions.retain(|v, held| {
                    current.as_ref() == Some(v) || (v != version && !world.material(held).same_as(outgoing))
                });
                world.put_secrets(&self.path, secrets);
                Ok(())
            })
            .await
    }
}

/// A consumer that caches what it read until it is told to reload. One that cannot be told reads
/// its store again each time.
pub(super) struct SandboxConsumer {
    sandbox: Sandbox,
    name: String,
    path: String,
    caches: bool,
}

impl SandboxConsumer {
    pub(super) fn new(sandbox: Sandbox, name: &str, credential: &model::Credential, index: usize) -> Self {
        let consumer = &credential.consumers[index];
        let path = credential.stores.first().map(|store| store.stand_in()).unwrap_or_default();
        Self { sandbox, name: client_name(name, consumer), path, caches: consumer.reload.is_some() }
    }

    fn read_again(&self, world: &World, client: &mut Client) {
        let current: Option<Value> = world
            .secrets(&self.path)
            .and_then(|s| s.labels.current.as_ref().and_then(|v| s.versions.get(v)))
            .cloned();
        if let Some(current) = current {
            client.instances.fill(current);
        }
    }
}

#[async_trait]
impl Consumer for SandboxConsumer {
    async fn reload(&self, _context: &CallContext) -> Result<(), CallError> {
        self.sandbox
            .call("reload", &self.name, |world| {
                let mut client = world.client(&self.name).cloned().unwrap_or_default();
                self.read_again(world, &mut client);
                world.put_client(&self.name, client);
                Ok(())
            })
            .await
    }

    async fn attest(&self) -> Vec<Result<Attestation, CallError>> {
        #[cfg(feature = "simulation")]
        if self.sandbox.lies(&self.name) {
            let nothing = crate::secret::Secret::new("a lie").sha256_hex();
            return Secret256::parse(&nothing).map(|digest| Ok(Attestation(digest))).into_iter().collect();
        }
        let asked = self.sandbox.call("attest", &self.name, |world| {
            let mut client = world.client(&self.name).cloned().unwrap_or_default();
            if !self.caches {
                self.read_again(world, &mut client);
            }
            let answers: Vec<Option<String>> = client
                .instances
                .iter()
                .map(|value| world.material(value).main().map(crate::secret::Secret::sha256_hex))
                .collect();
            world.put_client(&self.name, client);
            Ok(answers)
        });
        match asked.await {
            Err(e) => vec![Err(e.read_only())],
            Ok(answers) => answers
                .into_iter()
                .map(|digest| {
                    digest.and_then(|d| Secret256::parse(&d)).map(Attestation).ok_or_else(|| {
                        CallError::rejected(
                            ErrorKind::Invalid,
                            format!("sandbox {}: holds no value", self.name),
                        )
                    })
                })
                .collect(),
        }
    }
}
