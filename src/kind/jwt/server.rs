//! Keys of a JWKS: published, watched, retired and removed by their kid.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::jwks::Jwks;
use super::key::parts;
use super::readers::Readers;
use super::spec::{Algorithm, JwtSigningKey};
use super::token::Signed;
use crate::domain::{Check, ErrorKind, Identity, IssuerTraits, Life, Standing};
use crate::kind::key_pair::KeyPair as SigningKey;
use crate::kind::real::{IssuerServer, RealProvider};
use crate::provider::document::Document;
use crate::provider::http::transport::Transport;
use crate::provider::{CallContext, CallError, Grant, Issued, Issuer, Probe, Use};
use crate::runbook::model::Credential;
use crate::secret::{Material, Secret};
use crate::text::{counted, sanitize};

/// Issues signing keys.
pub struct KeyIssuer {
    set: Arc<dyn Document>,
    algorithm: Algorithm,
    readers: Readers,
}

impl fmt::Debug for KeyIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyIssuer").field("set", &self.set.shown()).finish_non_exhaustive()
    }
}

impl KeyIssuer {
    /// Keys of the set in this document, as `spec` says. `transport` reaches the addresses that verifiers read.
    pub fn new(set: Arc<dyn Document>, transport: Arc<Transport>, spec: &JwtSigningKey) -> Self {
        let readers = Readers { transport, urls: spec.jwks.clone(), cache: spec.cache };
        Self { set, algorithm: spec.algorithm, readers }
    }

    async fn read(&self) -> Result<Jwks, CallError> {
        Jwks::read(&self.set.read().await?).map_err(|error| self.about(error))
    }

    fn about(&self, error: CallError) -> CallError {
        CallError { message: format!("{}: {}", self.set.shown(), error.message), ..error }
    }

    fn identity(&self, kid: &str) -> Identity {
        Identity { handle: kid.to_owned(), principal: format!("JWKS {}", sanitize(&self.set.shown())) }
    }

    /// Changes the set, and believes it when it reads the same.
    async fn change(
        &self,
        kid: &str,
        wanted: Life,
        edit: impl FnOnce(&mut Jwks) -> Result<bool, CallError> + Send + 'static,
    ) -> Result<(), CallError> {
        let shown = self.set.shown();
        let edit = move |text: &str| {
            let about =
                |error: CallError| CallError { message: format!("{shown}: {}", error.message), ..error };
            let mut set = Jwks::read(text).map_err(about)?;
            Ok(edit(&mut set)?.then(|| set.text()))
        };
        self.set.change(Box::new(edit)).await?;
        let life = self.read().await.map_err(CallError::doubtful)?.life(kid);
        if life == wanted {
            return Ok(());
        }
        let shown = self.set.shown();
        Err(CallError::unknown(format!("{shown} was written, but does not hold what stanch wrote")))
    }

    /// What verifiers are given, held against the key that the stores hold now.
    async fn served(&self, outgoing: Option<&Identity>) -> Result<Vec<Check>, CallError> {
        let mut checks = Vec::new();
        for (url, set) in self.readers.served().await? {
            let lacks = outgoing.filter(|outgoing| set.life(&outgoing.handle) != Life::Active);
            checks.push(match lacks {
                Some(outgoing) => Check::warn(
                    url,
                    format!("verifiers are not given the old key {} there", sanitize(&outgoing.handle)),
                ),
                None => Check::pass(url, format!("it serves {}", counted(set.len() as u64, "key"))),
            });
        }
        Ok(checks)
    }
}

#[async_trait]
impl Issuer for KeyIssuer {
    fn traits(&self) -> IssuerTraits {
        JwtSigningKey::TRAITS
    }

    async fn preflight(&self, outgoing: Option<&Identity>) -> Vec<Check> {
        let mut checks = self.set.preflight().await;
        match self.read().await {
            Ok(set) => {
                let name = "public keys";
                checks.push(match set.exposed() {
                    Some(kid) => Check::warn(
                        name,
                        format!(
                            "the set holds a private or a symmetric key, {}: every reader of the set can sign",
                            sanitize(kid)
                        ),
                    ),
                    None => Check::pass(name, format!("the set holds {}", counted(set.len() as u64, "key"))),
                });
            }
            Err(error) => checks.push(error.to_check("public keys")),
        }
        checks.extend(self.served(outgoing).await.unwrap_or_else(|error| match error.kind {
            // A server that is down must not keep a leaked key alive: each address is asked again before the new key
            // is delivered, and at the end.
            ErrorKind::Unreachable => vec![Check::warn("jwks", error.message)],
            _ => vec![error.to_check("jwks")],
        }));
        checks
    }

    async fn before_revoking(&self, _: &Identity) -> Check {
        Check::pass("own credential", "stanch works with no signing key")
    }

    async fn identify(&self, material: &Material) -> Result<Option<Standing>, CallError> {
        let (pem, kid) = parts(material)?;
        let (key, set) = (SigningKey::read(pem)?, self.read().await?);
        let Some(name) = set.name_of(&key.kid()) else { return Ok(None) };
        if name != kid {
            let message = format!(
                "the set has this key with the kid {}, and the store says {}: verifiers do not find the key of a token",
                sanitize(name),
                sanitize(kid)
            );
            return Err(CallError::rejected(ErrorKind::Invalid, message)
                .hint("write the kid of the set into the store, then plan again"));
        }
        if name.len() > 200 || sanitize(name) != name {
            let message =
                "the key's kid is longer than 200 characters, or holds characters that cannot be shown";
            return Err(CallError::rejected(ErrorKind::Unsupported, message));
        }
        Ok(Some(Standing { identity: self.identity(name), life: set.life(name), uses_left: None }))
    }

    fn candidate(&self, _: &CallContext) -> Option<Material> {
        let pem = SigningKey::generate(self.algorithm.form())?;
        let kid = SigningKey::read(&pem).ok()?.kid();
        Some(Material::single(JwtSigningKey::SECRET, pem).with(JwtSigningKey::KID, Secret::new(kid)))
    }

    async fn issue(&self, context: &CallContext, candidate: Option<&Material>) -> Result<Issued, CallError> {
        let candidate = candidate
            .ok_or_else(|| CallError::rejected(ErrorKind::Local, "this machine could not make a key pair"))?;
        let (pem, kid) = parts(candidate)?;
        let (kid, member, call) =
            (kid.to_owned(), SigningKey::read(pem)?.member(), context.token.to_string());
        let name = kid.clone();
        self.change(&kid, Life::Active, move |set| set.publish(&name, &member, &call)).await?;
        Ok(Issued { identity: self.identity(&kid), material: candidate.clone() })
    }

    async fn find(&self, context: &CallContext, _: &[String]) -> Result<Vec<String>, CallError> {
        Ok(self.read().await?.issued_by(&context.token.to_string()))
    }

    async fn existing(&self) -> Result<Vec<String>, CallError> {
        Ok(Vec::new())
    }

    async fn inspect(&self, handle: &str) -> Result<Grant, CallError> {
        match self.read().await?.life(handle) {
            // A key is for whatever its verifiers take it for.
            Life::Active => Ok(Grant::default()),
            _ => {
                let message = format!("the set has no key with the kid {}", sanitize(handle));
                Err(CallError::rejected(ErrorKind::NotFound, message))
            }
        }
    }

    async fn life(&self, handle: &str) -> Result<Life, CallError> {
        Ok(self.read().await?.life(handle))
    }

    async fn disable(&self, _: &CallContext, handle: &str) -> Result<(), CallError> {
        let name = handle.to_owned();
        self.change(handle, Life::Disabled, move |set| set.retire(&name)).await
    }

    async fn enable(&self, _: &CallContext, handle: &str) -> Result<(), CallError> {
        let name = handle.to_owned();
        self.change(handle, Life::Active, move |set| set.restore(&name)).await
    }

    async fn revoke(&self, _: &CallContext, handle: &str, _: Option<&Material>) -> Result<(), CallError> {
        let name = handle.to_owned();
        self.change(handle, Life::Gone, move |set| Ok(set.remove(&name))).await
    }

    async fn shares(&self) -> Result<Option<String>, CallError> {
        self.set.shares().await
    }

    /// Whether verifiers find the key, at every place that stanch knows. No token is used.
    async fn attempt(&self, material: &Material) -> Result<Use, CallError> {
        let (pem, kid) = parts(material)?;
        let thumbprint = SigningKey::read(pem)?.kid();
        let mut all = self.readers.served().await?;
        all.push((self.set.shown(), self.read().await?));
        for (place, set) in &all {
            if let Some(name) = set.name_of(&thumbprint).filter(|name| *name != kid) {
                let message =
                    format!("{} has its public key under another kid, {}", sanitize(place), sanitize(name));
                return Err(CallError::rejected(ErrorKind::NoAnswer, message)
                    .hint("remove that member: a verifier accepts tokens of the key under that kid"));
            }
        }
        let (offering, lacking): (Vec<_>, Vec<_>) =
            all.iter().partition(|(_, set)| set.offers(kid, &thumbprint));
        let places = |sets: &[&(String, Jwks)]| {
            sets.iter().map(|(place, _)| sanitize(place)).collect::<Vec<_>>().join(", ")
        };
        match (offering.is_empty(), lacking.is_empty()) {
            (false, true) => Ok(Use::Accepted),
            (true, _) => Ok(Use::Refused(format!("no set has its public key: {}", places(&lacking)))),
            (false, false) => Err(CallError::rejected(
                ErrorKind::NoAnswer,
                format!("its public key is in {}, and not in {}", places(&offering), places(&lacking)),
            )
            .hint("find out why these differ: what is served may be older than the set that stanch writes, or another one")),
        }
    }
}

#[async_trait]
impl IssuerServer for JwtSigningKey {
    async fn connect(
        &self,
        _: &str,
        _: &Credential,
        at: &RealProvider,
    ) -> Result<Arc<dyn Issuer>, CallError> {
        Ok(Arc::new(KeyIssuer::new(self.set.connect(at).await?, at.transport()?, self)))
    }

    fn presented_to(&self, probe: Arc<dyn Probe>, at: &RealProvider) -> Arc<dyn Probe> {
        match &self.token {
            None => probe,
            Some(claims) => {
                Arc::new(Signed { inner: probe, claims: claims.clone(), clock: Arc::clone(&at.clock) })
            }
        }
    }
}
