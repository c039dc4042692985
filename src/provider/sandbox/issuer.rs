//! The sandbox's issuer.

use async_trait::async_trait;

use super::Sandbox;
use super::world::Credential;
use crate::domain::{Check, ErrorKind, Identity, IssuerTraits, Life, Standing};
use crate::kind::spec::StandIn;
use crate::provider::{CallContext, CallError, Grant, Issued, Issuer, Use};
use crate::runbook::model;
use crate::secret::{Material, Recipe};

/// What the sandbox's issuer is like, in place of which real one.
pub(super) struct IssuerSpec {
    pub(super) principal: String,
    pub(super) parts: &'static [&'static str],
    pub(super) policies: Vec<String>,
    pub(super) ttl_ms: Option<u64>,
    pub(super) traits: IssuerTraits,
    /// How many may be alive at once.
    coexist: Option<usize>,
    recipe: Option<Recipe>,
    /// Whether what uses one gets a login, which outlives it.
    logs_in: bool,
}

impl IssuerSpec {
    pub(super) fn of(name: &str, credential: &model::Credential) -> Self {
        let millis = |p: crate::domain::Period| u64::try_from(p.get().as_millis()).unwrap_or(u64::MAX);
        let issuer = &credential.issuer;
        let StandIn { principal, policies, ttl, coexist, recipe, logins } =
            issuer.stand_in(&credential.scope);
        Self {
            principal: principal.unwrap_or_else(|| name.to_owned()),
            parts: issuer.parts(),
            policies,
            ttl_ms: ttl.map(millis),
            traits: issuer.traits(),
            coexist,
            recipe,
            logs_in: logins,
        }
    }

    /// The logins of a credential that was just made.
    pub(super) fn logins(&self) -> Option<u32> {
        self.logs_in.then_some(0)
    }
}

pub(super) struct SandboxIssuer {
    sandbox: Sandbox,
    spec: IssuerSpec,
    audience: Option<String>,
}

impl SandboxIssuer {
    pub(super) fn new(sandbox: Sandbox, name: &str, credential: &model::Credential) -> Self {
        Self {
            spec: sandbox.issuer_of(name, credential),
            sandbox,
            audience: credential.scope.audience.clone(),
        }
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

    /// How many logins that a credential made live.
    async fn living_logins(&self, handle: &str) -> Result<u32, CallError> {
        self.sandbox
            .call("list", &self.spec.principal, |world| {
                Ok(world.credential(handle).and_then(|c| c.logins).unwrap_or_default())
            })
            .await
            .map_err(CallError::read_only)
    }

    /// Ends one of the logins that a credential made. Succeeds when there is none.
    async fn end_login(&self, handle: &str) -> Result<(), CallError> {
        self.sandbox
            .call("logout", &self.spec.principal, |world| {
                if let Some(credential) = world.credential(handle).cloned() {
                    let logins = credential.logins.map(|logins| logins.saturating_sub(1));
                    world.put_credential(handle, Credential { logins, ..credential });
                }
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

    async fn before_revoking(&self, _: &Identity) -> Check {
        Check::pass("own credential", "nothing works with a credential of the sandbox")
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

    fn candidate(&self, _: &CallContext) -> Option<Material> {
        let recipe = self.spec.recipe?;
        let parts = self.spec.parts.iter();
        Some(parts.fold(Material::default(), |all, part| all.with(part, recipe.generate())))
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
                            None => (crate::provider::handle(context.token), world.value_of(candidate)),
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
                    logins: self.spec.logins(),
                };
                if self.spec.traits.replaces() {
                    world.end_all(&self.spec.principal);
                }
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
                Ok(world.credential(handle).map_or(Life::Gone, Credential::told))
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
        self.set("revoke", handle, Life::Gone).await?;
        if !self.spec.logs_in {
            return Ok(());
        }
        // First the credential, so that it makes no more logins; then each of those that it made, as a real server's
        // clients must.
        for _ in 0..self.living_logins(handle).await.map_err(CallError::doubtful)? {
            self.end_login(handle).await.map_err(CallError::doubtful)?;
        }
        Ok(())
    }

    async fn restore(&self, _context: &CallContext, outgoing: &Material) -> Result<(), CallError> {
        self.sandbox
            .call("restore", &self.spec.principal, |world| {
                let found = world.credential_of(outgoing).map(|(handle, c)| (handle.to_owned(), c.clone()));
                let (handle, credential) = found.ok_or_else(|| self.missing("of that value"))?;
                world.end_all(&self.spec.principal);
                world.put_credential(&handle, Credential { life: Life::Active, ..credential });
                Ok(())
            })
            .await
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
                    Some((_, c)) => Use::Refused(format!("it is {}", c.life)),
                    None => Use::Refused("it is unknown".into()),
                })
            })
            .await
            .map_err(CallError::read_only)
    }
}
