//! Creates, inspects, disables and revokes tokens by the calls that the runbook or a preset describes.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;

use super::answer::{self, id, time};
use super::rules::spec::{DATE, TAG, TIME};
use super::service::{ApiIssuer, Introduced, unfilled};
use super::spec::{TokenApi, mark, tag};
use crate::domain::{Check, ErrorKind, Identity, IssuerTraits, Life, Standing};
use crate::kind::api::client::{Ask, at, json, unexpected};
use crate::kind::real::{IssuerServer, RealProvider, invalid};
use crate::kind::spec::IssuerSpec as _;
use crate::provider::outcome::CallError;
use crate::provider::{CallContext, Grant, Issued, Issuer, Use};
use crate::runbook::model::Credential;
use crate::secret::{Material, Secret};

/// Longer is no token of an API.
const LONGEST_TOKEN: usize = 8192;

/// The token, if a header can carry it: what cannot be one is sent nowhere.
fn token(material: &Material) -> Result<&Secret, CallError> {
    let odd = |c: char| !c.is_ascii_graphic();
    let secret = material.main().filter(|secret| {
        let text = secret.expose();
        !text.is_empty() && text.len() <= LONGEST_TOKEN && !text.contains(odd)
    });
    secret.ok_or_else(|| {
        invalid("the credential is not a token: it is empty, too long, or has a character that no header takes; it was sent nowhere")
            .hint("check which field the store's `field` names, and what was written there")
    })
}

#[async_trait]
impl Issuer for ApiIssuer {
    fn traits(&self) -> IssuerTraits {
        self.traits
    }

    async fn preflight(&self, outgoing: Option<&Identity>) -> Vec<Check> {
        self.checks(outgoing).await
    }

    async fn before_revoking(&self, outgoing: &Identity) -> Check {
        self.own_check(&outgoing.handle).await
    }

    async fn identify(&self, material: &Material) -> Result<Option<Standing>, CallError> {
        let token = token(material)?;
        let (document, ask) = match self.introduce(token).await? {
            Introduced::Accepted(document, ask) | Introduced::Disabled(document, ask) => (document, ask),
            Introduced::Refused(_) => return Ok(None),
        };
        let handle = self.id_of(token, &document, &ask).await?;
        // The operator must see it as well: a token of another project or user is accepted too.
        let Some((document, ask)) = self.look(&handle).await? else {
            return Err(invalid(format!(
                "{} accepts the token, and does not find its id {handle} where the calls look for it",
                self.client.place()
            ))
            .hint("correct `with` of the issuer, or the store: the token may belong to something else"));
        };
        let life = answer::life(&document, &self.calls.inspect, &ask)?;
        Ok(Some(Standing { identity: self.identity(handle), life, uses_left: None }))
    }

    fn candidate(&self, _: &CallContext) -> Option<Material> {
        None
    }

    async fn issue(&self, context: &CallContext, _: Option<&Material>) -> Result<Issued, CallError> {
        let create = &self.calls.create;
        let mut more = vec![(TAG, tag(&context.run, &context.step))];
        if let Some(ttl) = self.ttl {
            let end = self.clock.now().wall.checked_add(ttl).map_err(|_| invalid("`ttl` is too long"))?;
            more.push((DATE, end.strftime("%Y-%m-%d").to_string()));
            more.push((TIME, end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()));
        }
        let values = self.values(more);
        let body = Value::Object(create.body.clone().into_iter().collect());
        let ask = Ask {
            method: create.method,
            body: Some(Secret::new(values.json(&body).map_err(|name| unfilled(&name))?.to_string())),
            changes: true,
            ..self.get(&create.path, &create.query, &values)?
        };
        let reply = self.client.reply_to(&ask).await?;
        if !reply.status.is_success() {
            return Err(self.client.fault(&reply, &ask, None));
        }
        let document = json(&reply, &ask)?;
        let secret = at(&document, &create.secret, &ask)?.as_str().map(Secret::new);
        let material = secret.map(|secret| Material::single(TokenApi::SECRET, secret));
        let material = material.filter(|material| token(material).is_ok());
        let material =
            material.ok_or_else(|| unexpected(&ask, &create.secret, "has something that is not a token"))?;
        let handle = id(&document, &create.id, &ask)?;
        // Handles are shown and recorded. Found by its name, this one would be as well: it is revoked at once.
        if material.scrub(&handle) != handle {
            let revoked = self.change(&self.calls.revoke, &handle, true).await.is_ok();
            let what = if revoked { "stanch revoked it" } else { "revoke it yourself: stanch could not" };
            let message = format!(
                "{}: the id that {} returned at `{}` is the token itself; {what}",
                self.client.place(),
                ask.what(),
                create.id
            );
            return Err(invalid(message).hint("name the field that has the id of the token, not the token"));
        }
        self.refuse_a_strangers(&handle, &mark(&context.run, &context.step)).await?;
        Ok(Issued { identity: self.identity(handle), material })
    }

    async fn find(&self, context: &CallContext, before: &[String]) -> Result<Vec<String>, CallError> {
        if self.traits.issue != crate::domain::Observation::Listable {
            let message = "nothing at the server says which token is this run's";
            return Err(CallError::rejected(ErrorKind::Unsupported, message));
        }
        let mut found = Vec::new();
        for handle in self.marked(&mark(&context.run, &context.step)).await? {
            // Some lists have what is revoked as well.
            if !before.contains(&handle) && self.life(&handle).await? != Life::Gone {
                found.push(handle);
            }
        }
        Ok(found)
    }

    async fn existing(&self) -> Result<Vec<String>, CallError> {
        // The names tell ours from others'.
        Ok(Vec::new())
    }

    async fn created(&self, handle: &str) -> Result<Option<Timestamp>, CallError> {
        let Some(pointer) = &self.calls.inspect.created else { return Ok(None) };
        let Some((document, ask)) = self.look(handle).await? else { return Ok(None) };
        Ok(time(&document, pointer, &ask)?.filter(|time| time.exact).map(|time| time.at))
    }

    async fn inspect(&self, handle: &str) -> Result<Grant, CallError> {
        let (document, ask) = self.known(handle).await?;
        self.grant(&document, &ask)
    }

    async fn life(&self, handle: &str) -> Result<Life, CallError> {
        match self.look(handle).await? {
            Some((document, ask)) => answer::life(&document, &self.calls.inspect, &ask),
            None => self.is_missed(handle).await,
        }
    }

    async fn disable(&self, _: &CallContext, handle: &str) -> Result<(), CallError> {
        match &self.calls.disable {
            Some(call) if self.traits.disables => self.change(call, handle, false).await,
            _ => Err(cannot_disable()),
        }
    }

    async fn enable(&self, _: &CallContext, handle: &str) -> Result<(), CallError> {
        match &self.calls.enable {
            Some(call) if self.traits.disables => self.change(call, handle, false).await,
            _ => Err(cannot_disable()),
        }
    }

    async fn revoke(&self, _: &CallContext, handle: &str, _: Option<&Material>) -> Result<(), CallError> {
        self.change(&self.calls.revoke, handle, true).await
    }

    async fn shown_handle(&self, material: &Material) -> Result<Option<String>, CallError> {
        let secret = token(material)?;
        match (&self.calls.itself.id, self.introduce(secret).await?) {
            (Some(pointer), Introduced::Accepted(document, ask)) => id(&document, pointer, &ask).map(Some),
            _ => Ok(None),
        }
    }

    async fn attempt(&self, material: &Material) -> Result<Use, CallError> {
        let secret = token(material)?;
        Ok(match self.introduce(secret).await? {
            Introduced::Accepted(..) => Use::Accepted,
            Introduced::Refused(how) => Use::Refused(how),
            Introduced::Disabled(document, ask) => {
                let handle = self.id_of(secret, &document, &ask).await?;
                match self.life(&handle).await? {
                    Life::Disabled => {
                        Use::Refused(format!("{}: the token {handle} is disabled", self.client.place()))
                    }
                    life => {
                        let message = format!(
                            "{} answers the token {handle} that it is disabled, and the operator that it is {life}",
                            self.client.place()
                        );
                        return Err(CallError::rejected(ErrorKind::NoAnswer, message));
                    }
                }
            }
        })
    }
}

fn cannot_disable() -> CallError {
    CallError::rejected(ErrorKind::Unsupported, "the calls of the runbook do not disable a token reversibly")
}

#[async_trait]
impl IssuerServer for TokenApi {
    async fn connect(
        &self,
        name: &str,
        _: &Credential,
        provider: &RealProvider,
    ) -> Result<Arc<dyn Issuer>, CallError> {
        let calls = self.calls().ok_or_else(|| {
            invalid("the issuer has neither `preset` nor `calls`")
                .hint("`stanch revoke` needs a preset and its values: --set preset=gitlab-project-token --set with.project=ID")
        })?;
        Ok(Arc::new(ApiIssuer {
            client: provider.client(&self.connection).await?,
            clock: Arc::clone(&provider.clock),
            name: name.to_owned(),
            traits: self.traits(),
            calls: calls.clone(),
            with: self.with.clone(),
            ttl: self.ttl.map(|ttl| ttl.get()),
        }))
    }
}
