//! Keys of authorized keys: added, watched, retired and removed by their fingerprint.

use std::sync::Arc;

use async_trait::async_trait;

use super::lines::{AuthorizedKeys, check_options};
use super::places::Places;
use super::spec::SshKey;
use crate::domain::{Check, ErrorKind, Identity, IssuerTraits, Life, Standing};
use crate::kind::real::{IssuerServer, RealProvider};
use crate::kind::ssh::pair::Pair;
use crate::provider::document::Document;
use crate::provider::{CallContext, CallError, Grant, Issued, Issuer, Use};
use crate::runbook::model::Credential;
use crate::secret::{Material, Secret};
use crate::text::counted;

/// Issues keys.
#[derive(Debug)]
pub struct KeyIssuer {
    places: Places,
    spec: SshKey,
    /// What a new key's comment begins with: the credential's name.
    title: String,
}

impl KeyIssuer {
    /// Keys of the files in these documents, as `spec` says. `title` is what the comment of a new key begins with.
    ///
    /// # Errors
    /// When `options` cannot be the options of a line.
    pub fn new(places: Vec<Arc<dyn Document>>, spec: &SshKey, title: &str) -> Result<Self, CallError> {
        if let Err(why) = check_options(spec.options.as_deref().unwrap_or_default()) {
            let message = format!("`options` of the key cannot be in a line of authorized keys: {why}");
            return Err(CallError::rejected(ErrorKind::Invalid, message));
        }
        Ok(Self { places: Places(places), spec: spec.clone(), title: title.to_owned() })
    }

    fn identity(&self, fingerprint: &str) -> Identity {
        Identity {
            handle: fingerprint.to_owned(),
            principal: format!("authorized_keys {}", self.places.shown().join(", ")),
        }
    }

    fn material(&self, pem: Secret, pair: &Pair) -> Material {
        let material = Material::single(SshKey::SECRET, pem);
        if !self.spec.public_parts {
            return material;
        }
        let [public, fingerprint] = [pair.line(), pair.fingerprint()].map(Secret::new);
        material.with(SshKey::PUBLIC, public).with(SshKey::FINGERPRINT, fingerprint)
    }

    /// What one file says of the old key, and of itself.
    fn look(keys: &AuthorizedKeys, shown: &str, outgoing: Option<&str>, keeps: bool) -> Check {
        let Some(name) = outgoing else {
            return Check::pass(shown, format!("it holds {}", counted(keys.len() as u64, "key")));
        };
        match keys.count(name) {
            0 if keys.has_authority(name) => Check::fail(
                shown,
                ErrorKind::Unsupported,
                format!(
                    "the old key {name} signs certificates there (`cert-authority`), and does not log in itself: stanch leaves that line alone"
                ),
                "replace the authority by hand, or leave the file out of `authorized_keys`, then plan again",
            ),
            0 => Check::fail(
                shown,
                ErrorKind::NotFound,
                format!(
                    "it has no line of the old key {name}: there is nothing to retire in it, and no options to keep"
                ),
                "leave it out of `authorized_keys`, or add the line that it lacks, then plan again",
            ),
            lines if keys.has_authority(name) => Check::fail(
                shown,
                ErrorKind::Unsupported,
                format!(
                    "the old key has {}, and is an authority of certificates there as well (`cert-authority`): with it, certificates can be signed that log in after its own lines are gone",
                    counted(lines as u64, "line")
                ),
                "replace the authority or remove that line by hand: stanch changes no authority; then plan again",
            ),
            lines if keeps && lines > 1 => Check::warn(
                shown,
                format!(
                    "the old key has {lines} lines: the new one gets one with each of their options, and all of the old ones go"
                ),
            ),
            _ => Check::pass(
                shown,
                format!("it holds {}, and the old one of them", counted(keys.len() as u64, "key")),
            ),
        }
    }
}

/// The private key of a credential.
fn pair(material: &Material) -> Result<(&Secret, Pair), CallError> {
    let pem =
        material.part(SshKey::SECRET).filter(|part| !part.expose().trim().is_empty()).ok_or_else(|| {
            CallError::rejected(
                ErrorKind::Invalid,
                "the value cannot be a key: its private key is missing or empty",
            )
            .hint("compare the store's fields and `fields` in the runbook")
        })?;
    Ok((pem, Pair::read(pem)?))
}

#[async_trait]
impl Issuer for KeyIssuer {
    fn traits(&self) -> IssuerTraits {
        SshKey::TRAITS
    }

    async fn preflight(&self, outgoing: Option<&Identity>) -> Vec<Check> {
        let mut checks = Vec::new();
        for place in &self.places.0 {
            checks.extend(place.preflight().await);
        }
        let keeps = self.spec.options.is_none();
        let outgoing = outgoing.map(|outgoing| outgoing.handle.as_str());
        match self.places.read().await {
            Ok(all) => {
                checks.extend(all.iter().map(|(shown, keys)| Self::look(keys, shown, outgoing, keeps)));
            }
            Err(error) => checks.push(error.to_check("authorized keys")),
        }
        if keeps && outgoing.is_none() {
            checks.push(Check::fail(
                "options",
                ErrorKind::Invalid,
                "the old key is not known, so there are no options that the new one could keep",
                "set `options` in the runbook (an empty string for none), then plan again",
            ));
        }
        checks
    }

    async fn before_revoking(&self, _: &Identity) -> Check {
        Check::pass("own credential", "stanch logs in with no key of its own")
    }

    async fn identify(&self, material: &Material) -> Result<Option<Standing>, CallError> {
        let name = pair(material)?.1.fingerprint();
        let life = self.places.life(&name).await?;
        let standing = || Standing { identity: self.identity(&name), life, uses_left: None };
        Ok((life != Life::Gone).then(standing))
    }

    fn candidate(&self, _: &CallContext) -> Option<Material> {
        let pem = Pair::generate(&self.title)?;
        let pair = Pair::read(&pem).ok()?;
        Some(self.material(pem, &pair))
    }

    async fn issue(&self, context: &CallContext, candidate: Option<&Material>) -> Result<Issued, CallError> {
        let candidate = candidate
            .ok_or_else(|| CallError::rejected(ErrorKind::Local, "this machine could not make a key pair"))?;
        let (_, pair) = pair(candidate)?;
        let name = pair.fingerprint();
        let (options, old) = (self.spec.options.clone(), context.outgoing.clone());
        let (line, call, title, of) = (pair.line(), context.token, self.title.clone(), name.clone());
        let publish = move |keys: &mut AuthorizedKeys| {
            let options = match (&options, &old) {
                (Some(options), _) => vec![options.clone()],
                (None, old) => keys.options_of(old.as_deref().unwrap_or_default()),
            };
            if options.is_empty() {
                let message = "it has no line of the old key, whose options the new one would keep";
                return Err(CallError::rejected(ErrorKind::NotFound, message)
                    .hint("add that line again, or set `options` in the runbook and make a new plan"));
            }
            keys.publish(&line, &of, &options, &title, call)
        };
        self.places.add(&name, publish).await?;
        Ok(Issued { identity: self.identity(&name), material: candidate.clone() })
    }

    async fn find(&self, context: &CallContext, _: &[String]) -> Result<Vec<String>, CallError> {
        let mut found: Vec<String> = Vec::new();
        for (_, keys) in self.places.read().await? {
            found.extend(keys.issued_by(context.token));
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    async fn existing(&self) -> Result<Vec<String>, CallError> {
        Ok(Vec::new())
    }

    async fn inspect(&self, handle: &str) -> Result<Grant, CallError> {
        for (shown, keys) in self.places.read().await? {
            if keys.life(handle) != Life::Active {
                let message = format!("{shown} has no line of the new key {handle}");
                return Err(CallError::rejected(ErrorKind::NotFound, message).hint(
                    "stanch ended while it was adding the key, or another program removed it: `stanch resume --reissue` adds a new key everywhere; under `overlap` you can also roll back, which removes it everywhere. Under `contain` a rollback would enable the leaked key again",
                ));
            }
        }
        // A key is for whatever its servers take it for.
        Ok(Grant::default())
    }

    async fn life(&self, handle: &str) -> Result<Life, CallError> {
        self.places.life(handle).await
    }

    async fn disable(&self, _: &CallContext, handle: &str) -> Result<(), CallError> {
        self.places.turn(handle, AuthorizedKeys::retire, Life::Disabled).await
    }

    async fn enable(&self, _: &CallContext, handle: &str) -> Result<(), CallError> {
        self.places.turn(handle, AuthorizedKeys::restore, Life::Active).await
    }

    async fn revoke(&self, _: &CallContext, handle: &str, _: Option<&Material>) -> Result<(), CallError> {
        let name = handle.to_owned();
        self.places.change(move |keys| Ok(keys.remove(&name)), |keys| keys.life(handle) == Life::Gone).await
    }

    async fn shares(&self) -> Result<Option<String>, CallError> {
        let mut all = Vec::new();
        for place in &self.places.0 {
            all.extend(place.shares().await?);
        }
        Ok((!all.is_empty()).then(|| all.join(", ")))
    }

    /// Whether the key is in every file. Nobody logs in: that is for the checks.
    async fn attempt(&self, material: &Material) -> Result<Use, CallError> {
        let name = pair(material)?.1.fingerprint();
        let all = self.places.read().await?;
        let (with, without): (Vec<_>, Vec<_>) =
            all.iter().partition(|(_, keys)| keys.life(&name) == Life::Active);
        let places = |all: &[&(String, AuthorizedKeys)]| {
            all.iter().map(|(shown, _)| shown.as_str()).collect::<Vec<_>>().join(", ")
        };
        match (with.is_empty(), without.is_empty()) {
            (false, true) => Ok(Use::Accepted),
            (true, _) => Ok(Use::Refused(format!("its public key is not in {}", places(&without)))),
            (false, false) => Err(CallError::rejected(
                ErrorKind::NoAnswer,
                format!("its public key is in {}, and not in {}", places(&with), places(&without)),
            )
            .hint("find out which program or person changed one of them")),
        }
    }
}

#[async_trait]
impl IssuerServer for SshKey {
    async fn connect(
        &self,
        name: &str,
        _: &Credential,
        at: &RealProvider,
    ) -> Result<Arc<dyn Issuer>, CallError> {
        let mut places = Vec::new();
        for place in &self.authorized_keys {
            places.push(place.connect(at).await?);
        }
        Ok(Arc::new(KeyIssuer::new(places, self, name)?))
    }
}
