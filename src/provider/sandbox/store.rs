//! The sandbox's store.

use async_trait::async_trait;
use jiff::Timestamp;

use super::Sandbox;
use super::world::{Secrets, World};
use crate::domain::{Check, ErrorKind, StoreTraits, Versions};
use crate::provider::{CallContext, CallError, Promoted, Store};
use crate::runbook::model;
use crate::secret::Material;

pub(super) struct SandboxStore {
    sandbox: Sandbox,
    path: String,
    traits: StoreTraits,
}

impl SandboxStore {
    pub(super) fn new(sandbox: Sandbox, name: &str, store: &model::Store) -> Self {
        Self { path: sandbox.place_of(name, store), sandbox, traits: store.traits() }
    }

    fn can_stage(&self) -> Result<(), CallError> {
        if self.traits.stages {
            return Ok(());
        }
        let message = format!("{}: this kind of store cannot stage", self.path);
        Err(CallError::rejected(ErrorKind::Unsupported, message))
    }

    fn secrets(&self, world: &World) -> Result<Secrets, CallError> {
        world.secrets(&self.path).cloned().ok_or_else(|| {
            CallError::rejected(ErrorKind::NotFound, format!("{}: there is no such secret", self.path))
        })
    }

    /// Writes a value that cannot be read. The looks at the version and the write are requests of their own, as at GitHub.
    async fn write_over(&self, context: &CallContext, value: &Material) -> Result<Promoted, CallError> {
        let was = self.observe().await?.current;
        if context.expected.is_some() && context.expected != was {
            let message = format!("{}: the version is another one than this run knew", self.path);
            return Err(CallError::rejected(ErrorKind::Conflict, message));
        }
        context.ahead.may_begin()?;
        self.sandbox
            .call("promote", &self.path, |world| {
                let mut secrets = self.secrets(world)?;
                let version = self.add(world, &mut secrets, context, value)?;
                secrets.labels.current = Some(version);
                world.put_secrets(&self.path, secrets);
                Ok(())
            })
            .await?;
        let version = self.observe().await.map_err(CallError::doubtful)?.current;
        Ok(Promoted { version: version.unwrap_or_default(), was })
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
        let version = secrets.add(world.value_of(value), self.sandbox.now());
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

    /// Of what cannot be read alone: a version that can be is known by its value, and a plan that tells how old it
    /// is would be another one every day.
    async fn written(&self, version: &str) -> Result<Option<Timestamp>, CallError> {
        if self.traits.reads {
            return Ok(None);
        }
        self.sandbox
            .call("written", &self.path, |world| Ok(self.secrets(world)?.written.get(version).copied()))
            .await
            .map_err(CallError::read_only)
    }

    async fn read(&self, version: Option<&str>) -> Result<Material, CallError> {
        if !self.traits.reads {
            let message = format!("{}: this kind of store cannot be read", self.path);
            return Err(CallError::rejected(ErrorKind::Unsupported, message));
        }
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
        self.can_stage()?;
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
        self.can_stage()?;
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
        if !self.traits.reads {
            return self.write_over(context, value).await;
        }
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

    async fn refill(&self, context: &CallContext, value: &Material) -> Result<Promoted, CallError> {
        self.sandbox
            .call("refill", &self.path, |world| {
                let mut secrets = self.secrets(world)?;
                if let Some(current) = &secrets.labels.current
                    && secrets.versions.contains_key(current)
                {
                    let message = format!("{}: version {current} holds a value again", self.path);
                    return Err(CallError::rejected(ErrorKind::Conflict, message));
                }
                let version = self.add(world, &mut secrets, context, value)?;
                secrets.labels.current = Some(version.clone());
                secrets.labels.pending = None;
                world.put_secrets(&self.path, secrets);
                Ok(Promoted { version, was: None })
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
