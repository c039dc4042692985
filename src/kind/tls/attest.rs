//! Asking the instances of a consumer which certificate they serve.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinSet;

use super::handshake::{Endpoint, Shows, Watch, no_answer, patience};
use super::spec::TlsAttest;
use crate::domain::ErrorKind;
use crate::provider::logged::Logged;
use crate::provider::outcome::CallError;
use crate::provider::{Attestation, Question};

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
    // One answer, or one error, for each address, in their order.
    async fn ask(&self) -> Vec<Result<Attestation, CallError>> {
        let mut tasks = JoinSet::new();
        for (index, at) in self.instances.iter().cloned().enumerate() {
            let patience = self.patience;
            tasks.spawn(async move { (index, ask_one(&at, patience).await) });
        }
        // Whatever became of its task, an instance that was asked is counted.
        let unasked = |at| Err(CallError::rejected(ErrorKind::Local, format!("{at} was not asked")));
        let mut answers: Vec<_> = self.instances.iter().map(unasked).collect();
        while let Some(done) = tasks.join_next().await {
            if let Ok((index, answer)) = done {
                answers[index] = answer;
            }
        }
        answers
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
