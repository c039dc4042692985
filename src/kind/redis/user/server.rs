//! Passwords of a user: added by their hash, watched in the list of users, removed by their hash.

use std::sync::Arc;

use async_trait::async_trait;

use super::acl::{Acl, Handle, digits, marker};
use super::change::Target;
use super::spec::{EndConnections, PASSWORD, RedisAclUser};
use crate::domain::{Check, ErrorKind, Identity, IssuerTraits, Life, Standing};
use crate::kind::real::{IssuerServer, RealProvider};
use crate::kind::redis::client::RedisClient;
use crate::kind::redis::fault;
use crate::provider::outcome::CallError;
use crate::provider::{CallContext, Grant, Issued, Issuer, Use};
use crate::runbook::model::Credential;
use crate::secret::{Alphabet, Material, Recipe, Secret};
use crate::text::sanitize;

/// Issues passwords of a user.
#[derive(Debug)]
pub struct UserIssuer {
    pub(super) client: Arc<RedisClient>,
    pub(super) spec: RedisAclUser,
    recipe: Recipe,
}

impl UserIssuer {
    /// Passwords of the user that `spec` says.
    ///
    /// # Errors
    /// When no user can have such a name.
    pub fn new(client: Arc<RedisClient>, spec: RedisAclUser) -> Result<Self, CallError> {
        let invalid = |message: String| CallError::rejected(ErrorKind::Invalid, message);
        if spec.user.is_empty() || spec.user.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(invalid(
                "`user` of the issuer is empty, or holds a space or a control character".to_owned(),
            ));
        }
        let recipe =
            Recipe::new(Alphabet::Alphanumeric, PASSWORD).map_err(|error| invalid(error.to_string()))?;
        Ok(Self { client, spec, recipe })
    }

    /// The users of every node.
    pub(super) async fn nodes(&self) -> Result<Vec<Acl>, CallError> {
        let mut nodes = Vec::new();
        for node in self.client.nodes() {
            let what = "the question which users there are (ACL LIST)";
            let replies = self.client.ask(node, what, &[vec!["ACL", "LIST"]]).await?;
            nodes.push(Acl::read(node, &replies[0]));
        }
        Ok(nodes)
    }

    fn identity(&self, nodes: &[Acl], hash: &str) -> Identity {
        let user = &self.spec.user;
        Identity {
            handle: format!("{user}:{}", digits(nodes, user, hash)),
            principal: format!("user {}", sanitize(user)),
        }
    }

    /// Why a password that the user does not have is valid all the same.
    fn elsewhere(&self, nodes: &[Acl], hash: &str) -> Option<CallError> {
        let user = sanitize(&self.spec.user);
        if nodes.iter().any(|acl| acl.user(&self.spec.user).is_some_and(|user| user.nopass)) {
            let message = format!("the user {user} is let in with every password (nopass)");
            return Some(CallError::rejected(ErrorKind::Conflict, message).hint(format!(
                "take that away first: ACL SETUSER {user} resetpass >PASSWORD, then repeat the command"
            )));
        }
        let owner = sanitize(nodes.iter().find_map(|acl| acl.owner(hash))?);
        let message = format!("the value is a password of the user {owner}, and not of {user}");
        Some(CallError::rejected(ErrorKind::Invalid, message).hint(format!(
            "name that user: `user: {owner}` in the runbook, or `stanch revoke redis-acl-user --set user={owner} …`"
        )))
    }

    fn target<'a>(&'a self, handle: &Handle<'a>, hash: &'a str) -> Target<'a> {
        Target { client: &self.client, user: handle.user, hash }
    }
}

/// The password that a credential is, where it can be one.
///
/// # Errors
/// [`ErrorKind::Invalid`], with a sentence that quotes nothing.
fn password(material: &Material) -> Result<&Secret, CallError> {
    material.part(RedisAclUser::SECRET).filter(|word| !word.expose().is_empty()).ok_or_else(|| {
        CallError::rejected(
            ErrorKind::Invalid,
            "the value cannot be a password of Redis: it is missing or empty",
        )
        .hint("compare the store's fields and `fields` in the runbook; nothing was sent to Redis")
    })
}

#[async_trait]
impl Issuer for UserIssuer {
    fn traits(&self) -> IssuerTraits {
        RedisAclUser::TRAITS
    }

    async fn preflight(&self, outgoing: Option<&Identity>) -> Vec<Check> {
        self.checks(outgoing.map(|outgoing| outgoing.handle.as_str())).await
    }

    async fn before_revoking(&self, outgoing: &Identity) -> Check {
        self.own_check(Handle::read(&outgoing.handle).user).await
    }

    async fn full_handle(&self, handle: &str) -> Result<String, CallError> {
        let nodes = self.nodes().await?;
        // A name may itself look like a handle.
        let by_name = nodes.iter().any(|acl| acl.user(handle).is_some());
        let wanted = if by_name { Handle::named(handle) } else { Handle::read(handle) };
        Ok(match wanted.hash(&nodes)? {
            Some(hash) => format!("{}:{}", wanted.user, digits(&nodes, wanted.user, &hash)),
            None => handle.to_owned(),
        })
    }

    async fn identify(&self, material: &Material) -> Result<Option<Standing>, CallError> {
        let (hash, nodes) = (password(material)?.sha256_hex(), self.nodes().await?);
        let user = &self.spec.user;
        let lives: Vec<Life> =
            nodes.iter().filter_map(|acl| Some(acl.password(user, &hash)?.life())).collect();
        if lives.is_empty() {
            return self.elsewhere(&nodes, &hash).map_or(Ok(None), Err);
        }
        let identity = self.identity(&nodes, &hash);
        // Whether its handle means it alone.
        Handle::read(&identity.handle).hash(&nodes)?;
        let life = if lives.contains(&Life::Active) { Life::Active } else { Life::Disabled };
        Ok(Some(Standing { identity, life, uses_left: None }))
    }

    fn candidate(&self, _: &CallContext) -> Option<Material> {
        Some(Material::single(RedisAclUser::SECRET, self.recipe.generate()))
    }

    async fn issue(&self, context: &CallContext, candidate: Option<&Material>) -> Result<Issued, CallError> {
        let candidate = candidate.ok_or_else(|| {
            CallError::rejected(ErrorKind::Invalid, "there is no password to give to the user")
        })?;
        let (hash, user) = (password(candidate)?.sha256_hex(), self.spec.user.as_str());
        let mut nodes = self.nodes().await?;
        // The command would make a user that may do nothing.
        if let Some(acl) = nodes.iter().find(|acl| acl.user(user).is_none()) {
            let message = format!("Redis at {} has no user {}", acl.node.place(), sanitize(user));
            return Err(CallError::rejected(ErrorKind::NotFound, message));
        }
        let marker = marker(user, context);
        // An earlier try of this very step got as far as this.
        let done = |acl: &Acl| {
            let found = acl.password(user, &hash);
            found.is_some_and(|found| found.active && found.markers.contains(&marker.as_str()))
        };
        nodes.retain(|acl| !done(acl));
        Target { client: &self.client, user, hash: &hash }.add(&nodes, &marker).await?;
        let nodes = self.nodes().await.map_err(CallError::doubtful)?;
        Ok(Issued { identity: self.identity(&nodes, &hash), material: candidate.clone() })
    }

    async fn find(&self, context: &CallContext, _: &[String]) -> Result<Vec<String>, CallError> {
        let (nodes, user) = (self.nodes().await?, &self.spec.user);
        let (marker, in_full) = (marker(user, context), !context.step.is_empty());
        let hashes = nodes.iter().flat_map(|acl| acl.marked(&marker, in_full));
        let mut found: Vec<String> = hashes.map(|hash| self.identity(&nodes, hash).handle).collect();
        found.sort();
        found.dedup();
        Ok(found)
    }

    async fn existing(&self) -> Result<Vec<String>, CallError> {
        Ok(Vec::new())
    }

    async fn inspect(&self, handle: &str) -> Result<Grant, CallError> {
        let (handle, nodes) = (Handle::read(handle), self.nodes().await?);
        if handle.hash(&nodes)?.is_none() {
            let message = format!("{} has no such password", sanitize(handle.user));
            return Err(CallError::rejected(ErrorKind::NotFound, message));
        }
        // All passwords of a user may do the same.
        Ok(Grant::default())
    }

    async fn life(&self, handle: &str) -> Result<Life, CallError> {
        let (handle, nodes) = (Handle::read(handle), self.nodes().await?);
        let Some(hash) = handle.hash(&nodes)? else { return Ok(Life::Gone) };
        let active =
            nodes.iter().any(|acl| acl.password(handle.user, &hash).is_some_and(|found| found.active));
        Ok(if active { Life::Active } else { Life::Disabled })
    }

    async fn disable(&self, _: &CallContext, handle: &str) -> Result<(), CallError> {
        let (handle, nodes) = (Handle::read(handle), self.nodes().await?);
        let hash = handle.hash(&nodes)?.ok_or_else(|| gone(&handle))?;
        let end = self.spec.end_connections == EndConnections::Sunset;
        self.target(&handle, &hash).park(&nodes, end, false).await
    }

    async fn enable(&self, _: &CallContext, handle: &str) -> Result<(), CallError> {
        let (handle, nodes) = (Handle::read(handle), self.nodes().await?);
        let hash = handle.hash(&nodes)?.ok_or_else(|| gone(&handle))?;
        self.target(&handle, &hash).unpark(&nodes).await
    }

    async fn revoke(&self, _: &CallContext, handle: &str, _: Option<&Material>) -> Result<(), CallError> {
        let (handle, nodes) = (Handle::read(handle), self.nodes().await?);
        let Some(hash) = handle.hash(&nodes)? else { return Ok(()) };
        let target = self.target(&handle, &hash);
        // Connections may be left from before it was disabled: Redis does not say which password opened them.
        target.park(&nodes, self.spec.end_connections != EndConnections::Never, true).await?;
        // What says that something is left goes last.
        let nodes = self.nodes().await.map_err(CallError::doubtful)?;
        target.forget(&nodes).await.map_err(CallError::doubtful)
    }

    async fn attempt(&self, material: &Material) -> Result<Use, CallError> {
        let (word, user) = (password(material)?, &self.spec.user);
        let (mut accepted, mut refused) = (Vec::new(), Vec::new());
        for node in self.client.nodes() {
            let place = node.place();
            match self.client.log_in(node, user, word).await? {
                Ok(()) => accepted.push(place),
                Err(said) if said.starts_with("WRONGPASS ") => {
                    refused.push(format!("{place}: {}", fault::words(&said)));
                }
                // No free connection, a server that is no Redis: neither acceptance nor refusal.
                Err(said) => return Err(fault::not_tried(&place, &said)),
            }
        }
        match (accepted.is_empty(), refused.is_empty()) {
            (false, true) => Ok(Use::Accepted),
            (true, false) => Ok(Use::Refused(refused.join("; "))),
            _ => Err(CallError::rejected(
                ErrorKind::NoAnswer,
                format!("the password is accepted at {}, and refused at {}", accepted.join(", "), refused.join("; ")),
            )
            .hint("compare the users of these nodes (`ACL LIST`): a node that was loaded or started since then has the old ones")),
        }
    }
}

fn gone(handle: &Handle<'_>) -> CallError {
    let message = format!("the password of {} is gone", sanitize(handle.user));
    CallError::rejected(ErrorKind::NotFound, message)
}

#[async_trait]
impl IssuerServer for RedisAclUser {
    async fn connect(
        &self,
        _: &str,
        _: &Credential,
        at: &RealProvider,
    ) -> Result<Arc<dyn Issuer>, CallError> {
        Ok(Arc::new(UserIssuer::new(at.client(&self.connection).await?, self.clone())?))
    }
}
