//! The sandbox's consumers.

use async_trait::async_trait;

use super::Sandbox;
use super::world::{Client, Value, World};
use crate::domain::{Check, ErrorKind};
use crate::provider::{Attestation, CallContext, CallError, Consumer, Secret256};
use crate::runbook::model;

/// A consumer's name in the world.
pub(super) fn client_name(credential: &str, consumer: &model::Consumer) -> String {
    format!("{credential}/{}", consumer.name)
}

/// How many instances a consumer has.
pub(super) fn instances(consumer: &model::Consumer) -> usize {
    consumer.attest.as_ref().map_or(1, |attest| attest.instances())
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
        let path = credential.stores.first().map(|store| sandbox.place_of(name, store)).unwrap_or_default();
        Self { sandbox, name: client_name(name, consumer), path, caches: consumer.reload.is_some() }
    }

    /// Reads its store again.
    pub(super) fn restart(&self, world: &mut World) {
        let mut client = world.client(&self.name).cloned().unwrap_or_default();
        self.read_again(world, &mut client);
        world.put_client(&self.name, client);
    }

    fn read_again(&self, world: &mut World, client: &mut Client) {
        let current: Option<Value> = world
            .secrets(&self.path)
            .and_then(|s| s.labels.current.as_ref().and_then(|v| s.versions.get(v)))
            .cloned();
        if let Some(current) = current {
            // Who goes on with the same value goes on with the same login.
            let anew = client.instances.iter().filter(|held| **held != current).count();
            if anew > 0 {
                world.log_in(&current, anew);
            }
            client.instances.fill(current);
        }
    }
}

#[async_trait]
impl Consumer for SandboxConsumer {
    async fn preflight(&self, name: &str) -> Vec<Check> {
        self.sandbox.reach("attest", &self.name, name).await
    }

    async fn reload(&self, _context: &CallContext) -> Result<(), CallError> {
        // One that is deaf answers, and goes on as before.
        let deaf = self.sandbox.faults.is_deaf(&self.name);
        self.sandbox
            .call("reload", &self.name, |world| {
                if !deaf {
                    self.restart(world);
                }
                Ok(())
            })
            .await
    }

    async fn attest(&self) -> Vec<Result<Attestation, CallError>> {
        #[cfg(feature = "simulation")]
        if self.sandbox.lies(&self.name) {
            let nothing = crate::secret::Secret::new("a lie").sha256_hex();
            return Secret256::parse(&nothing)
                .map(|digest| Ok(Attestation::digest(digest)))
                .into_iter()
                .collect();
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
                    digest.and_then(|d| Secret256::parse(&d)).map(Attestation::digest).ok_or_else(|| {
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
