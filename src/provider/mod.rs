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

#[cfg(feature = "tool")]
pub mod document;
#[cfg(feature = "tool")]
pub mod exec;
#[cfg(feature = "tool")]
pub mod http;
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
#[cfg(feature = "tool")]
pub mod streak;
#[cfg(feature = "tool")]
pub(crate) mod text;
#[cfg(feature = "tool")]
pub(crate) mod tls;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::{
    Check, ErrorKind, Identity, IssuerTraits, Judgement, Life, Standing, StoreTraits, Versions,
};
use crate::runbook::model;
use crate::secret::{Material, Secret};

pub use outcome::CallError;

/// What every call that changes something carries with it.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// The run's id: the tag on everything that the run creates.
    pub run: String,
    /// The step's id within the run.
    pub step: String,
    /// The idempotency token: a UUIDv5 of run, step and round. The same for every attempt, so that
    /// a server which honours it sees one request however often it is sent.
    pub token: Uuid,
    /// When the intent of the first attempt was recorded: nothing that the step created is older.
    pub since: Timestamp,
    /// When the intent of the last attempt was recorded: nothing that the step created was asked for later.
    pub last: Timestamp,
    /// The idempotency tokens of the run's other steps that stage in the same place: a version that
    /// carries one of them is the run's own and no stranger's.
    pub siblings: Vec<Uuid>,
    /// What the plan saw of the step's store; empty for steps without one. The way back restores it.
    pub before: Versions,
}

/// The name of a credential whose value was made here, by the idempotency token of its `issue`: it differs between
/// runs and rounds, and says nothing about the value.
pub fn handle(token: Uuid) -> String {
    format!("random:{}", &token.simple().to_string()[..8])
}

/// A credential that was just issued.
#[derive(Debug, Clone)]
pub struct Issued {
    /// How the issuer names it.
    pub identity: Identity,
    /// The secret itself.
    pub material: Material,
}

/// What a credential really may do, as the issuer says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grant {
    /// The policies that it carries; `None` where the issuer cannot say.
    pub policies: Option<Vec<String>>,
    /// How long it can live from its making, renewals counted; `None` where it never expires.
    pub ttl: Option<Duration>,
    /// How long it lives from its making when nobody renews it; `None` where it never expires.
    pub lives: Option<Duration>,
    /// Who it is for, where the issuer keeps that.
    pub audience: Option<String>,
    /// What else is wider than the runbook asked for, each a sentence.
    pub wider: Vec<String>,
    /// What is worth knowing of it and no reason to refuse it, each a sentence.
    pub notes: Vec<String>,
}

/// The answer of something that was asked to accept a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Use {
    /// It was accepted.
    Accepted,
    /// It was refused; how.
    Refused(String),
}

/// A promotion that took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promoted {
    /// The version that is current now.
    pub version: String,
    /// The version that it took the place of; `None` when the value was current already.
    pub was: Option<String>,
}

/// The system that decides whether a credential is valid.
#[async_trait]
pub trait Issuer: Send + Sync {
    /// What it can do.
    fn traits(&self) -> IssuerTraits;

    /// Looks, read-only, whether every later step will be permitted, and whether the run is about
    /// to revoke the credential that it runs on. `outgoing` is known where a store held it.
    async fn preflight(&self, outgoing: Option<&Identity>) -> Vec<Check>;

    /// Looks whether the run works with the credential that it is to revoke without replacing it, and nothing else: a
    /// permission that is missing shows when the server refuses, which changes nothing.
    async fn before_revoking(&self, outgoing: &Identity) -> Check;

    /// Asks ahead for what [`Issuer::preflight`] will need whoever the outgoing credential is, while others
    /// still find that out. Keeps the answers, and says nothing. By default nothing is asked ahead: that costs
    /// time and nothing else.
    async fn warm(&self) {}

    /// Who a credential belongs to, how the issuer names it, and whether it is alive: asked as the
    /// operator, so that the credential itself is not used. `None` when the issuer does not know it:
    /// it is gone, or never was.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when the value cannot be such a credential; it was then sent nowhere.
    async fn identify(&self, material: &Material) -> Result<Option<Standing>, CallError>;

    /// A candidate for `issue`, where the secret is made here and not by the server.
    fn candidate(&self) -> Option<Material>;

    /// Makes the incoming credential. `candidate` is what [`Issuer::candidate`] made, the same for
    /// every attempt.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`] when the issuer allows no further credential.
    async fn issue(&self, context: &CallContext, candidate: Option<&Material>) -> Result<Issued, CallError>;

    /// What `issue` with this context has left at the issuer: handles, and nothing else's. `before`
    /// are the handles that are known to be something else: those that existed when the plan was made.
    /// What is found will be revoked, so that whatever may be another's must not be among it.
    ///
    /// # Errors
    /// When the issuer cannot be asked, or cannot tell ours from others'.
    async fn find(&self, context: &CallContext, before: &[String]) -> Result<Vec<String>, CallError>;

    /// The handles that exist now, where telling ours from others' needs that; else empty.
    ///
    /// # Errors
    /// When the issuer cannot be asked.
    async fn existing(&self) -> Result<Vec<String>, CallError>;

    /// What a repeated or late `issue` with this context has left, at a time when the run knows what it issued.
    /// By default what [`Issuer::find`] finds, where its list is new enough to show what is expected. As for [`Issuer::find`]; empty where nothing tells such a credential from another's. `expected` are
    /// handles that the run made and has not revoked: a list that lacks one of them is older than it, and may
    /// lack a twin as well.
    ///
    /// # Errors
    /// As for [`Issuer::find`], and [`ErrorKind::NotReady`] when the list
    /// lags.
    async fn twins(
        &self,
        context: &CallContext,
        before: &[String],
        expected: &[String],
    ) -> Result<Vec<String>, CallError> {
        let found = self.find(context, before).await?;
        for handle in expected.iter().filter(|handle| !found.contains(handle)) {
            if self.life(handle).await? != Life::Gone {
                return Err(CallError::lagging(handle));
            }
        }
        Ok(found)
    }

    /// What exists now beside the handles in `known`, where an operator should look whose it is: each a
    /// sentence. Empty, as by default, where what a run created carries its tag, so that nothing else can be its own.
    ///
    /// # Errors
    /// When the issuer cannot be asked.
    async fn strangers(&self, _known: &[String]) -> Result<Vec<String>, CallError> {
        Ok(Vec::new())
    }

    /// When the issuer made the credential; `None`, as by default, where it does not say.
    ///
    /// # Errors
    /// When the issuer cannot be asked.
    async fn created(&self, _handle: &str) -> Result<Option<Timestamp>, CallError> {
        Ok(None)
    }

    /// What the credential really may do.
    ///
    /// # Errors
    /// When the issuer cannot be asked.
    async fn inspect(&self, handle: &str) -> Result<Grant, CallError>;

    /// Whether the credential is accepted, asked of the issuer and not tried.
    ///
    /// # Errors
    /// When the issuer cannot be asked: an issuer that is down proves nothing.
    async fn life(&self, handle: &str) -> Result<Life, CallError>;

    /// Makes the credential refused, reversibly.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where [`IssuerTraits::disables`] is false.
    async fn disable(&self, context: &CallContext, handle: &str) -> Result<(), CallError>;

    /// Takes [`Issuer::disable`] back.
    ///
    /// # Errors
    /// As for `disable`.
    async fn enable(&self, context: &CallContext, handle: &str) -> Result<(), CallError>;

    /// Makes the credential, and everything minted from it, refused for good. Succeeds when that
    /// is so already. `material` is given where it is known. Whether it is gone is asked afterwards.
    ///
    /// # Errors
    /// When the issuer refuses, or its answer is lost.
    async fn revoke(
        &self,
        context: &CallContext,
        handle: &str,
        material: Option<&Material>,
    ) -> Result<(), CallError>;

    /// Makes the outgoing credential the accepted one again, where the incoming one took its place. Succeeds when that
    /// is so already.
    ///
    /// # Errors
    /// When the issuer refuses, or its answer is lost; [`ErrorKind::Unsupported`], as by default, where
    /// [`IssuerTraits::replaces`] is false.
    async fn restore(&self, context: &CallContext, outgoing: &Material) -> Result<(), CallError> {
        let _ = (context, outgoing);
        let message = "this issuer keeps the old credential beside the new one: there is nothing to set back";
        Err(CallError::rejected(ErrorKind::Unsupported, message))
    }

    /// The handle in full, where a person may give less of it: by default it is full.
    ///
    /// # Errors
    /// When the issuer cannot be asked.
    async fn full_handle(&self, handle: &str) -> Result<String, CallError> {
        Ok(handle.to_owned())
    }

    /// The handles of everything that dies with this one, as the issuer lists it now. Empty, as by default, where a handle
    /// names one credential.
    ///
    /// # Errors
    /// When the issuer cannot be asked: what cannot be listed is unknown, and not nothing.
    async fn below(&self, handle: &str) -> Result<Vec<String>, CallError> {
        let _ = handle;
        Ok(Vec::new())
    }

    /// Looks for what came below this handle since it was listed, and lives on. Nothing does, as by default, where a handle
    /// names one credential.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`], with what came, and what to do about it.
    async fn newcomers(&self, handle: &str) -> Result<(), CallError> {
        let _ = handle;
        Ok(())
    }

    /// What two runs must not both change beyond the credential itself, for example a user whose keys
    /// are counted: with its server, however that is spelt. `None`, as by default, where there is no such thing: the
    /// places of its stores are held all the same.
    ///
    /// # Errors
    /// When the issuer cannot be asked.
    async fn shares(&self) -> Result<Option<String>, CallError> {
        Ok(None)
    }

    /// Tries the credential itself: identity, and nothing more.
    ///
    /// # Errors
    /// When no answer of the issuer's came: that is neither acceptance nor refusal.
    async fn attempt(&self, material: &Material) -> Result<Use, CallError>;
}

/// A versioned place that consumers read from.
#[async_trait]
pub trait Store: Send + Sync {
    /// What it can do.
    fn traits(&self) -> StoreTraits;

    /// Looks, read-only, whether every later step will be permitted.
    async fn preflight(&self) -> Vec<Check>;

    /// Which versions there are.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no such secret.
    async fn observe(&self) -> Result<Versions, CallError>;

    /// When a version was written; `None`, as by default, where the store does not say.
    ///
    /// # Errors
    /// When the store cannot be asked, or there is no such version.
    async fn written(&self, _version: &str) -> Result<Option<Timestamp>, CallError> {
        Ok(None)
    }

    /// The value of one version; of the current one without a version.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no such version or field.
    async fn read(&self, version: Option<&str>) -> Result<Material, CallError>;

    /// Writes the incoming value as a version that is not yet current. Returns the version.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where [`StoreTraits::stages`] is false.
    async fn stage(&self, _context: &CallContext, _incoming: &Material) -> Result<String, CallError> {
        Err(CallError::rejected(
            ErrorKind::Unsupported,
            "this store has no versions that are not yet current",
        ))
    }

    /// Takes [`Store::stage`] back. Succeeds when nothing is staged any more.
    ///
    /// # Errors
    /// When the store refuses, or its answer is lost; [`ErrorKind::Unsupported`]
    /// where [`StoreTraits::stages`] is false.
    async fn retire(&self, _context: &CallContext, _staged: &str) -> Result<(), CallError> {
        Err(CallError::rejected(
            ErrorKind::Unsupported,
            "this store has no versions that are not yet current",
        ))
    }

    /// Makes `value` current, if the store's own fields hold `from` now, by compare-and-set on the
    /// version just read. What else stands in the same secret stays, also when somebody writes it
    /// meanwhile: then it is read again and patched again. Succeeds when `value` is current already.
    /// `staged` is a version that may be made current instead of a new one, where it holds just what
    /// is to be written: what [`Store::stage`] returned, or on the way back (where `value` is the
    /// outgoing one and `from` the incoming one) the version that was current before.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] when the own fields hold neither `from` nor `value`.
    async fn promote(
        &self,
        context: &CallContext,
        value: &Material,
        from: &Material,
        staged: Option<&str>,
    ) -> Result<Promoted, CallError>;

    /// Writes `value` where the secret, its current version, or the store's own field in it is no longer there. Only
    /// for what a person asked for by name. What else was in the secret comes back, or is left as it is.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] when a value is there again; [`ErrorKind::Unsupported`] where only a person can make
    /// the place again, with how.
    async fn refill(&self, context: &CallContext, value: &Material) -> Result<Promoted, CallError>;

    /// Destroys, for good, `version` and every other version that is not current and whose own fields
    /// hold `outgoing`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where [`StoreTraits::destroys`] is false.
    async fn destroy(
        &self,
        context: &CallContext,
        version: &str,
        outgoing: &Material,
    ) -> Result<(), CallError>;

    /// Whether every copy of the secret elsewhere (a replica in another region) has what is current here:
    /// to be asked right before the old credential is refused. By default there are no copies.
    ///
    /// # Errors
    /// When a copy is late or failed, with its name.
    async fn in_sync(&self) -> Result<(), CallError> {
        Ok(())
    }

    /// What the runbook's name for this secret leads to, however it is spelt: two stores with the same
    /// place are one target. Holds go by it, and steps on one place go one after the other.
    ///
    /// # Errors
    /// When the store cannot be asked.
    async fn place(&self) -> Result<String, CallError>;
}

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

/// What one instance of a consumer says that it uses: the SHA-256 (lower-case hex) of the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation(pub Secret256);

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
    pub fn is_of(&self, secret: &Secret) -> bool {
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
