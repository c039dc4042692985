//! What stanch can act on: small traits, and what implements them.
//!
//! Four traits cover the world: an [`Issuer`] decides whether a credential is valid, a [`Store`]
//! holds versions of it, a [`Consumer`] uses it, a [`Probe`] tries it. [`Call`] and [`Gate`] are
//! the user's own effects and conditions. A [`Provider`] makes them from the plan's words; the
//! real one and the sandbox are two implementations, and one conformance suite
//! (`tests/it/conformance.rs`) holds every issuer and every store to the same promises.
//!
//! Every method that changes something says how its outcome can be learned when the reply is lost
//! ([`Observation`](crate::domain::Observation)). No method retries: that is the engine's duty, and each try is on the record.
//!
//! A method with a default either refuses, or its comment says why the default is harmless. What wraps one of these
//! traits carries `#[deny(clippy::missing_trait_methods)]`, so that it cannot forget to forward one
//! (`tests/it/architecture.rs` demands it).

mod context;
#[cfg(feature = "tool")]
pub mod document;
#[cfg(feature = "tool")]
pub mod exec;
#[cfg(feature = "tool")]
pub mod http;
mod issuer;
#[cfg(feature = "tool")]
pub mod layout;
#[cfg(feature = "tool")]
pub(crate) mod logged;
pub mod outcome;
#[cfg(feature = "tool")]
pub mod own_file;
#[cfg(feature = "tool")]
pub mod reach;
pub mod sandbox;
mod store;
#[cfg(feature = "tool")]
pub mod streak;
#[cfg(feature = "tool")]
pub(crate) mod text;
#[cfg(feature = "tool")]
pub(crate) mod tls;

use std::sync::Arc;

use async_trait::async_trait;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

#[cfg(feature = "tool")]
use tokio::task::JoinSet;

#[cfg(feature = "tool")]
use crate::domain::ErrorKind;
use crate::domain::{Check, Judgement};
use crate::runbook::model;
use crate::secret::{Material, Secret};

pub use context::{Ahead, CallContext, handle};
pub use issuer::{Grant, Issued, Issuer, Use};
pub use outcome::CallError;
pub use store::{Promoted, Store};

/// What uses a credential.
#[async_trait]
pub trait Consumer: Send + Sync {
    /// Looks, before anything is changed, whether every instance says what it uses: a check for each that does
    /// not, and nothing for the others. `name` is what the checks are called.
    async fn preflight(&self, name: &str) -> Vec<Check>;

    /// Tells it to read its store again. Harmless to repeat.
    ///
    /// # Errors
    /// When it refuses or does not answer.
    async fn reload(&self, context: &CallContext) -> Result<(), CallError>;

    /// What each instance says it uses. An instance that gives no answer is an `Err` in the list:
    /// it counts, and it is not a yes.
    async fn attest(&self) -> Vec<Result<Attestation, CallError>>;
}

/// How a consumer says what it uses.
#[async_trait]
pub trait Question: Send + Sync {
    /// What each instance says; see [`Consumer::attest`].
    async fn ask(&self) -> Vec<Result<Attestation, CallError>>;
}

/// Asks instances, each by its name and its question, all at once. Returns one answer, or one error, for each, in their
/// order: whatever became of its task, an instance that was asked is counted.
#[cfg(feature = "tool")]
pub(crate) async fn ask_each<F>(
    instances: impl Iterator<Item = (String, F)>,
) -> Vec<Result<Attestation, CallError>>
where
    F: Future<Output = Result<Attestation, CallError>> + Send + 'static,
{
    let (mut tasks, mut answers) = (JoinSet::new(), Vec::new());
    for (index, (name, ask)) in instances.enumerate() {
        answers.push(Err(CallError::rejected(ErrorKind::Local, format!("{name} was not asked"))));
        tasks.spawn(async move { (index, ask.await) });
    }
    while let Some(done) = tasks.join_next().await {
        if let Ok((index, answer)) = done {
            answers[index] = answer;
        }
    }
    answers
}

/// What one instance of a consumer shows of the credential that it uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    shown: Shown,
    instance: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Shown {
    Digest(Secret256),
    /// In DER.
    Certificate(Vec<u8>),
}

impl Attestation {
    /// An instance that says the SHA-256 of the value.
    pub fn digest(digest: Secret256) -> Self {
        Self { shown: Shown::Digest(digest), instance: None }
    }

    /// An instance that shows a certificate, in DER, and proved that it has the key.
    pub fn certificate(der: Vec<u8>) -> Self {
        Self { shown: Shown::Certificate(der), instance: None }
    }

    /// With what people call the instance.
    #[must_use]
    pub fn by(self, instance: impl Into<String>) -> Self {
        Self { instance: Some(instance.into()), ..self }
    }

    /// What people call the instance, where it has a name.
    pub fn instance(&self) -> Option<&str> {
        self.instance.as_deref()
    }

    /// Whether the instance uses this version of its credential: a digest is held against the value, and a certificate
    /// against the part `certificate`, of which the first one counts (the chain may follow). PEM is one certificate in
    /// many spellings, so DER is compared, byte for byte.
    pub fn is_of(&self, material: &Material) -> bool {
        match &self.shown {
            Shown::Digest(digest) => material.main().is_some_and(|value| digest.is_of(value)),
            Shown::Certificate(der) => material
                .part("certificate")
                .and_then(|pem| CertificateDer::from_pem_slice(pem.expose().as_bytes()).ok())
                .is_some_and(|wanted| wanted.as_ref() == der.as_slice()),
        }
    }
}

/// An unkeyed digest of a secret. Compared, never shown or stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret256(String);

impl Secret256 {
    /// From the hexadecimal text that a consumer sent.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().strip_prefix("sha256:").unwrap_or(text.trim()).to_ascii_lowercase();
        (text.len() == 64 && text.bytes().all(|c| c.is_ascii_hexdigit())).then_some(Self(text))
    }

    /// Whether it is the digest of this secret.
    fn is_of(&self, secret: &Secret) -> bool {
        self.0 == secret.sha256_hex()
    }
}

impl std::fmt::Debug for Secret256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret256(…)")
    }
}

/// A check against a relying party.
#[async_trait]
pub trait Probe: Send + Sync {
    /// Looks, before anything is changed, whether it can be reached. Uses no credential, and nothing up. `name`
    /// is what the checks are called.
    async fn preflight(&self, name: &str) -> Vec<Check>;

    /// Tries the credential once.
    ///
    /// # Errors
    /// When the answer was neither acceptance nor refusal.
    async fn attempt(&self, material: &Material) -> Result<Use, CallError>;
}

/// An effect of the user's own.
#[async_trait]
pub trait Call: Send + Sync {
    /// Performs it, with a credential where the runbook gives it one.
    ///
    /// # Errors
    /// When it refuses, fails, or does not answer.
    async fn perform(&self, context: &CallContext, material: Option<&Material>) -> Result<(), CallError>;
}

/// A condition between phases.
#[async_trait]
pub trait Gate: Send + Sync {
    /// Looks, before anything is changed, whether it can be evaluated: what it says then decides nothing.
    /// `name` is what the checks are called.
    async fn preflight(&self, name: &str) -> Vec<Check>;

    /// Looks once.
    async fn evaluate(&self) -> Judgement;

    /// Looks once, where the handle of the old credential that it asks about is known; by default it asks about none.
    async fn evaluate_about(&self, _outgoing: Option<&str>) -> Judgement {
        self.evaluate().await
    }
}

/// Makes the parts of a plan callable.
#[async_trait]
pub trait Provider: Send + Sync {
    /// What is less safe than it should be, for example TLS that is not verified. Said again in
    /// every phase, and on the record.
    fn warnings(&self) -> Vec<String>;
    /// The operator's own secrets, as far as they are known: they must not be shown or recorded either.
    fn secrets(&self) -> Vec<Secret>;
    /// Whether what the runbook names is there: each program of any step, check, gate or way back can be
    /// executed, each address has a host that is known. Starts and calls nothing.
    async fn reach(&self, runbook: &model::Runbook) -> Vec<Check>;
    /// Who are we on this connection, is the server fit for a run, do the clocks agree.
    async fn preflight(&self, connection: &str) -> Vec<Check>;
    /// The issuer of a credential. `name` is the credential's.
    ///
    /// # Errors
    /// When the connection cannot be set up, with a sentence that says why.
    async fn issuer(&self, name: &str, credential: &model::Credential) -> Result<Arc<dyn Issuer>, CallError>;
    /// A store of a credential.
    ///
    /// # Errors
    /// As for `issuer`.
    async fn store(
        &self,
        name: &str,
        credential: &model::Credential,
        index: usize,
    ) -> Result<Arc<dyn Store>, CallError>;
    /// A consumer of a credential.
    ///
    /// # Errors
    /// As for `issuer`.
    async fn consumer(
        &self,
        name: &str,
        credential: &model::Credential,
        index: usize,
    ) -> Result<Arc<dyn Consumer>, CallError>;
    /// A probe for a credential.
    ///
    /// # Errors
    /// As for `issuer`.
    async fn probe(
        &self,
        name: &str,
        credential: &model::Credential,
        probe: &model::Probe,
    ) -> Result<Arc<dyn Probe>, CallError>;
    /// An effect of the user's own.
    ///
    /// # Errors
    /// As for `issuer`.
    async fn call(&self, call: &model::Call) -> Result<Arc<dyn Call>, CallError>;
    /// A gate.
    ///
    /// # Errors
    /// As for `issuer`.
    async fn gate(&self, gate: &model::Gate) -> Result<Arc<dyn Gate>, CallError>;
}
