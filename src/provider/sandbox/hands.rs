//! What people do in the sandbox's world past stanch, in drills and in the simulation.

use super::consumer::SandboxConsumer;
use super::issuer::IssuerSpec;
use super::world::Credential;
use super::{Sandbox, principal};
use crate::domain::Life;
use crate::provider::CallError;
use crate::runbook::model;
#[cfg(feature = "simulation")]
use crate::secret::{Material, Secret};

impl Sandbox {
    /// A person goes to the issuer and deletes, disables or enables a credential by hand. What is gone
    /// stays gone.
    ///
    /// # Errors
    /// When the world cannot be written.
    pub fn change_by_hand(&self, handle: &str, life: Life) -> Result<(), CallError> {
        self.transact(|world| {
            if let Some(credential) = world.credential(handle).filter(|c| c.life != Life::Gone).cloned() {
                world.put_credential(handle, Credential { life, ..credential });
            }
        })
    }

    /// A person makes another credential of the same kind by hand, and gets its handle.
    ///
    /// # Errors
    /// When the world cannot be written.
    pub fn mint_by_hand(&self, name: &str, credential: &model::Credential) -> Result<String, CallError> {
        let issuer = IssuerSpec::of(name, credential);
        self.transact(|world| {
            if issuer.traits.replaces() {
                world.end_all(&issuer.principal);
            }
            let logins = issuer.logins();
            let (handle, value) = world.mint(issuer.parts);
            world.put_credential(
                &handle,
                Credential {
                    principal: issuer.principal,
                    value,
                    life: Life::Active,
                    policies: issuer.policies,
                    ttl_ms: issuer.ttl_ms,
                    audience: credential.scope.audience.clone(),
                    tag: None,
                    used: true,
                    logins,
                },
            );
            handle
        })
    }

    /// Somebody who has a credential's value logs in with it, where that makes a login.
    ///
    /// # Errors
    /// When the world cannot be written.
    #[cfg(feature = "simulation")]
    pub fn log_in_by_hand(&self, handle: &str) -> Result<(), CallError> {
        self.transact(|world| {
            if let Some(value) = world.credential(handle).map(|c| c.value.clone()) {
                world.log_in(&value, 1);
            }
        })
    }

    /// A person restarts a consumer by hand: it reads its store again.
    ///
    /// # Errors
    /// When the world cannot be written.
    pub fn restart_by_hand(
        &self,
        name: &str,
        credential: &model::Credential,
        consumer: usize,
    ) -> Result<(), CallError> {
        let consumer = SandboxConsumer::new(self.clone(), name, credential, consumer);
        self.transact(|world| consumer.restart(world))
    }

    /// The handle of the newest credential of this kind that lives, where there is one.
    ///
    /// # Errors
    /// When the world cannot be read.
    pub fn newest_alive(
        &self,
        name: &str,
        credential: &model::Credential,
    ) -> Result<Option<String>, CallError> {
        let principal = principal(name, credential);
        self.transact(|world| {
            let alive = world.credentials(&principal).filter(|(_, c)| c.life != Life::Gone);
            alive.last().map(|(handle, _)| handle.to_owned())
        })
    }

    /// A person mistypes the value that a store hands out.
    ///
    /// # Errors
    /// When the world cannot be written.
    #[cfg(feature = "simulation")]
    pub fn mistype_by_hand(&self, path: &str) -> Result<(), CallError> {
        self.transact(|world| {
            let Some(mut secrets) = world.secrets(path).cloned() else { return };
            let Some(current) = secrets.labels.current.clone() else { return };
            let typo = |part: &str| Secret::new(format!("mistyped {part}"));
            let Some(value) = secrets.versions.get(&current) else { return };
            let wrong = world
                .material(value)
                .parts()
                .fold(Material::default(), |wrong, (part, _)| wrong.with(part, typo(part)));
            secrets.versions.insert(current, world.value_of(&wrong));
            world.put_secrets(path, secrets);
        })
    }

    /// A person writes a credential that exists into a store by hand, as its current version, and
    /// restarts these consumers.
    ///
    /// # Errors
    /// When the world cannot be written.
    pub fn write_by_hand(&self, path: &str, handle: &str, consumers: &[String]) -> Result<(), CallError> {
        self.transact(|world| {
            let value = world.credential(handle).map(|c| c.value.clone());
            let (Some(value), Some(mut secrets)) = (value, world.secrets(path).cloned()) else { return };
            let known = secrets.versions.iter().find(|(_, v)| **v == value).map(|(n, _)| n.clone());
            let version = known.unwrap_or_else(|| secrets.add(value.clone(), self.now()));
            secrets.labels.previous = secrets.labels.current.replace(version);
            world.put_secrets(path, secrets);
            for name in consumers {
                let Some(mut client) = world.client(name).cloned() else { continue };
                client.instances.fill(value.clone());
                world.put_client(name, client);
            }
        })
    }
}
