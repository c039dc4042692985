//! Asking the instances of a consumer which certificate they serve.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::handshake::{Endpoint, Shows, Watch, no_answer, patience};
use super::spec::TlsAttest;
use crate::provider::logged::Logged;
use crate::provider::outcome::CallError;
use crate::provider::{Attestation, Question, ask_each};

/// Makes a handshake with every address, all at once. An instance that gives no answer still counts.
#[derive(Debug)]
pub struct TlsAsk {
    instances: Vec<Endpoint>,
    patience: Duration,
}

impl TlsAsk {
    /// As the runbook says. `deadline` is how long a call may take.
    ///
    /// # Errors
    /// When an address or a name cannot be one.
    pub fn new(spec: &TlsAttest, deadline: Duration) -> Result<Self, CallError> {
        let instance = |address: &String| Endpoint::new(address, spec.server_name.as_deref(), spec.starttls);
        let instances = spec.addresses.iter().map(instance).collect::<Result<_, _>>()?;
        Ok(Self { instances, patience: patience(deadline) })
    }
}

#[async_trait]
impl Question for TlsAsk {
    async fn ask(&self) -> Vec<Result<Attestation, CallError>> {
        let instance = |at: &Endpoint| {
            let (at, patience) = (at.clone(), self.patience);
            (at.to_string(), async move { ask_one(&at, patience).await })
        };
        ask_each(self.instances.iter().map(instance)).await
    }
}

async fn ask_one(at: &Endpoint, patience: Duration) -> Result<Attestation, CallError> {
    let (watch, shows) = (Watch::any(), Arc::new(Shows::default()));
    let mut call = Logged::start(|| format!("ask {at} for its certificate"));
    let ended = tokio::time::timeout(patience, at.open(&watch, shows)).await;
    // Once the server signed with the certificate's key it is known, though the server may want a certificate of the
    // client's as well, and refuse to go on.
    let answer = match (watch.leaf(), ended) {
        (Some(leaf), _) => Ok(Attestation::certificate(leaf).by(&at.address)),
        (None, Ok(Err(broken))) => Err(broken.told(at)),
        (None, Ok(Ok(_))) => Err(no_answer(at, "the server showed no certificate")),
        (None, Err(_)) => Err(no_answer(at, &format!("it took longer than {} s", patience.as_secs_f32()))),
    };
    call.end(if answer.is_ok() { "shown" } else { "no certificate" });
    answer.map_err(CallError::read_only)
}
