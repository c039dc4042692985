//! What an issuer does, and what it answers.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::context::CallContext;
use super::outcome::CallError;
use crate::domain::{Check, ErrorKind, Identity, IssuerTraits, Life, Standing};
use crate::secret::Material;

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

    /// A candidate for `issue` with this context, where the secret is made here and not by the server.
    fn candidate(&self, context: &CallContext) -> Option<Material>;

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
            match self.life(handle).await? {
                // What lives on of a deleted one is in no list of credentials.
                Life::Gone | Life::Deleted => {}
                Life::Active | Life::Disabled => return Err(CallError::lagging(handle)),
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

    /// Which credential this is, where a use of it tells: an issuer may return one credential and the name of another.
    /// Nothing, as by default, where it cannot tell, or where the response to `issue` cannot mix up two.
    ///
    /// # Errors
    /// When the issuer cannot be asked.
    async fn shown_handle(&self, _material: &Material) -> Result<Option<String>, CallError> {
        Ok(None)
    }

    /// Tries the credential itself: identity, and nothing more.
    ///
    /// # Errors
    /// When no answer of the issuer's came: that is neither acceptance nor refusal.
    async fn attempt(&self, material: &Material) -> Result<Use, CallError>;
}
