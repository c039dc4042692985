//! Creates, inspects, disables and revokes tokens by the calls that the runbook or a preset describes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::answer::{self, Time, id, is_short_for, shows, time};
use super::calls::spec::{Calls, Change, List, Query};
use super::list::{self, Item};
use super::rules::spec::{DATE, ID, TAG, TIME};
use super::spec::{TokenApi, mark, tag};
use super::template::fill::Values;
use crate::clock::Clock;
use crate::domain::{Check, ErrorKind, HttpMethod, Identity, IssuerTraits, Life, Standing};
use crate::kind::api::client::{ApiClient, Ask, at, json, unexpected};
use crate::kind::real::{IssuerServer, RealProvider, invalid};
use crate::kind::spec::IssuerSpec as _;
use crate::provider::outcome::CallError;
use crate::provider::{CallContext, Grant, Issued, Issuer, Use};
use crate::runbook::model::Credential;
use crate::secret::{Material, Secret};
use crate::text::sanitize;

/// Longer is no token of an API.
const LONGEST_TOKEN: usize = 8192;
/// Fewer digits of a mark at the end of a name may be anybody's.
const LEAST_OF_MARK: usize = 4;
/// How many tokens of a list are inspected until one shows that `inspect` works.
const CONTROLS: usize = 3;

/// Tokens of one service.
struct ApiIssuer {
    client: Arc<ApiClient>,
    clock: Arc<dyn Clock>,
    name: String,
    traits: IssuerTraits,
    calls: Calls,
    with: BTreeMap<String, Value>,
    ttl: Option<Duration>,
}

/// How a server answers to a token itself.
enum Introduced {
    Accepted(Value, Ask),
    /// It answers, and says that the token is disabled.
    Disabled(Value, Ask),
    /// How it refused it.
    Refused(String),
}

impl ApiIssuer {
    fn values(&self, more: Vec<(&'static str, String)>) -> Values<'_> {
        Values { with: &self.with, more }
    }

    /// A call that reads.
    fn get(&self, path: &str, query: &Query, values: &Values<'_>) -> Result<Ask, CallError> {
        Ok(Ask {
            method: HttpMethod::Get,
            path: values.path(path).map_err(|name| unfilled(&name))?,
            query: values.query(query).map_err(|name| unfilled(&name))?,
            body: None,
            changes: false,
        })
    }

    fn about(&self, handle: &str) -> Values<'_> {
        self.values(vec![(ID, handle.to_owned())])
    }

    /// What `inspect` returns; `None` where its status may mean that there is no such token.
    async fn look(&self, handle: &str) -> Result<Option<(Value, Ask)>, CallError> {
        let inspect = &self.calls.inspect;
        let ask = self.get(&inspect.path, &inspect.query, &self.about(handle))?;
        let reply = self.client.reply_to(&ask).await?;
        if reply.status.is_success() {
            return Ok(Some((json(&reply, &ask)?, ask)));
        }
        if inspect.gone_status.contains(&reply.status.as_u16()) {
            return Ok(None);
        }
        Err(self.client.fault(&reply, &ask, None))
    }

    /// The same of a token that has to be there.
    async fn known(&self, handle: &str) -> Result<(Value, Ask), CallError> {
        self.look(handle).await?.ok_or_else(|| {
            CallError::rejected(
                ErrorKind::NotFound,
                format!("{} knows no token {handle}", self.client.place()),
            )
        })
    }

    fn list(&self) -> Option<&List> {
        self.calls.list.as_ref()
    }

    async fn all(&self) -> Result<Vec<Item>, CallError> {
        let Some(list) = self.list() else {
            let message = "the calls of the runbook have no `list`";
            return Err(CallError::rejected(ErrorKind::Unsupported, message));
        };
        let ask = self.get(&list.path, &list.query, &self.values(Vec::new()))?;
        list::all(&self.client, list, &ask).await
    }

    /// Whether a token whose status says that it is not there is gone. A proxy, a wrong address and a permission that was taken
    /// away answer in the same way: the list must lack it, and another token of the list must be there for `inspect`.
    async fn is_missed(&self, handle: &str) -> Result<Life, CallError> {
        let place = self.client.place();
        let items = self.all().await?;
        if items.iter().any(|item| item.id == handle) {
            let message =
                format!("{place} lists the token {handle}, and does not find it when it is inspected");
            return Err(CallError::rejected(ErrorKind::NotReady, message));
        }
        for item in items.iter().take(CONTROLS) {
            if let Some((document, ask)) = self.look(&item.id).await? {
                answer::life(&document, &self.calls.inspect, &ask)?;
                return Ok(Life::Gone);
            }
        }
        let message = format!(
            "{place} does not find the token {handle}, nor any other token: that does not prove that it is gone"
        );
        Err(CallError::rejected(ErrorKind::NoAnswer, message).hint(
            "check the address and what the operator's token may do; the answer counts only while the server returns another token of the list",
        ))
    }

    async fn change(&self, call: &Change, handle: &str, tolerate: bool) -> Result<(), CallError> {
        let values = self.about(handle);
        let fill = |value: Value| values.json(&value).map_err(|name| unfilled(&name));
        let mut body = match &call.over {
            Some(over) => {
                let (document, ask) = self.known(handle).await.map_err(CallError::read_only)?;
                let pointer = over.at.as_deref().unwrap_or_default();
                let fields = at(&document, pointer, &ask)?.as_object().cloned();
                let mut fields =
                    fields.ok_or_else(|| unexpected(&ask, pointer, "has something that is not an object"))?;
                fields.retain(|key, _| !over.without.contains(key));
                fields
            }
            None => Map::new(),
        };
        for (key, value) in &call.body {
            body.insert(key.clone(), fill(value.clone())?);
        }
        let ask = Ask {
            method: call.method,
            body: (!body.is_empty()).then_some(Value::Object(body)),
            changes: true,
            ..self.get(&call.path, &call.query, &values)?
        };
        let reply = self.client.reply_to(&ask).await?;
        // Whether it is gone is asked afterwards.
        if reply.status.is_success() || (tolerate && [404, 410].contains(&reply.status.as_u16())) {
            return Ok(());
        }
        Err(self.client.fault(&reply, &ask, None))
    }

    /// Uses a token.
    async fn introduce(&self, token: &Secret) -> Result<Introduced, CallError> {
        let itself = &self.calls.itself;
        let ask = self.get(&itself.path, &itself.query, &self.values(Vec::new()))?;
        let reply = self.client.reply_to_as(&ask, token).await?;
        let status = reply.status.as_u16();
        if itself.refuse.contains(&status) {
            let how = format!("{}: {} answered {status}", self.client.place(), ask.what());
            return Ok(Introduced::Refused(how));
        }
        if !reply.status.is_success() {
            return Err(self.client.fault(&reply, &ask, Some(token)));
        }
        let document = json(&reply, &ask)?;
        // A page of something in front of the API is no acceptance.
        if let Some(pointer) = &itself.id {
            id(&document, pointer, &ask)?;
        }
        if let Some(sign) = &itself.disabled
            && shows(&document, sign, &ask)?
        {
            return Ok(Introduced::Disabled(document, ask));
        }
        if let Some(sign) = &itself.accepted
            && !shows(&document, sign, &ask)?
        {
            return Err(unexpected(&ask, &sign.at, "has a value that is neither acceptance nor refusal"));
        }
        Ok(Introduced::Accepted(document, ask))
    }

    /// The id of a token that the server accepts.
    async fn id_of(&self, token: &Secret, document: &Value, ask: &Ask) -> Result<String, CallError> {
        if let Some(pointer) = &self.calls.itself.id {
            return id(document, pointer, ask);
        }
        let items = self.all().await?;
        let fits =
            |item: &&Item| item.shows.as_deref().is_some_and(|shown| is_short_for(shown, token.expose()));
        let mut fitting = items.iter().filter(fits);
        match (fitting.next(), fitting.next()) {
            (Some(one), None) => Ok(one.id.clone()),
            (None, _) => Err(invalid(format!(
                "{} accepts the token, and no token of its list is shown like it",
                self.client.place()
            ))
            .hint("check that the operator's token is of the same organisation")),
            (Some(_), Some(_)) => {
                Err(invalid("the list shows several tokens like this one, so stanch cannot tell which it is")
                    .hint("name its id: --outgoing NAME=ID"))
            }
        }
    }

    /// Whether the run works with the very token that it is to revoke.
    async fn own_check(&self, outgoing: &str) -> Check {
        const NAME: &str = "own token";
        let own = async {
            let own = self.client.own()?;
            match self.introduce(own).await? {
                Introduced::Accepted(document, ask) | Introduced::Disabled(document, ask) => {
                    self.id_of(own, &document, &ask).await.map(Some)
                }
                Introduced::Refused(_) => Ok(None),
            }
        };
        match own.await {
            Ok(Some(id)) if id == outgoing => Check::fail(
                NAME,
                ErrorKind::Invalid,
                "stanch works with the very token that is to be revoked",
                "give the connection another token of the operator's",
            ),
            Ok(_) => Check::pass(NAME, "stanch works with another token than the one to revoke"),
            // A token of another kind may not be able to ask for itself: then it is not one of these.
            Err(error)
                if matches!(error.kind, ErrorKind::Denied | ErrorKind::NotFound | ErrorKind::Invalid) =>
            {
                Check::warn(NAME, format!("stanch cannot tell which token it works with: {}", error.message))
            }
            Err(error) => error.to_check(NAME),
        }
    }

    /// The tokens of the list that carry a step's mark.
    async fn marked(&self, mark: &str) -> Result<Vec<String>, CallError> {
        let mut found = Vec::new();
        for item in self.all().await? {
            let name = item.name.to_ascii_lowercase();
            if name.contains(mark) {
                found.push(item.id);
            } else if (LEAST_OF_MARK..mark.len())
                .any(|n| name.contains("stanch") && name.ends_with(&mark[..n]))
            {
                let message = format!(
                    "{} cuts the names of tokens: stanch cannot tell whether the token {} is this run's",
                    self.client.place(),
                    item.id
                );
                return Err(invalid(message).hint("shorten what the body of `create` has before `{tag}`"));
            }
        }
        found.sort();
        Ok(found)
    }

    fn grant(&self, document: &Value, ask: &Ask) -> Result<Grant, CallError> {
        let inspect = &self.calls.inspect;
        let read = |pointer: &Option<String>| -> Result<Option<Time>, CallError> {
            pointer.as_deref().map_or(Ok(None), |pointer| time(document, pointer, ask))
        };
        let mut grant = Grant::default();
        if let Some(expires) = read(&inspect.expires)? {
            let from = read(&inspect.created)?.map_or_else(|| self.clock.now().wall, |created| created.at);
            let lives = Duration::try_from(expires.at.duration_since(from)).unwrap_or_default();
            (grant.ttl, grant.lives) = (Some(lives), Some(lives));
        }
        if let Some(pointer) = &inspect.scopes {
            let scopes = at(document, pointer, ask)?.as_array();
            let scopes = scopes
                .and_then(|all| all.iter().map(|one| one.as_str().map(sanitize)).collect::<Option<_>>());
            grant.policies =
                Some(scopes.ok_or_else(|| {
                    unexpected(ask, pointer, "has something that is not a list of strings")
                })?);
        }
        Ok(grant)
    }

    fn identity(&self, handle: String) -> Identity {
        Identity { handle, principal: self.name.clone() }
    }

    /// Whether the list answers, and when the old token was used.
    async fn checks(&self, outgoing: Option<&Identity>) -> Vec<Check> {
        let mut checks = Vec::new();
        if self.list().is_some() {
            checks.push(match self.all().await {
                Ok(items) => {
                    Check::pass("tokens", format!("{} lists {} tokens", self.client.place(), items.len()))
                }
                Err(error) => error.to_check("tokens"),
            });
        }
        let Some(Identity { handle, .. }) = outgoing else { return checks };
        checks.push(self.own_check(handle).await);
        if let Some(pointer) = &self.calls.inspect.last_used {
            let used = async {
                let (document, ask) = self.known(handle).await?;
                time(&document, pointer, &ask)
            };
            checks.push(match used.await {
                Ok(Some(used)) => {
                    Check::pass("last use", format!("the old token was last used at {:.0}", used.at))
                }
                Ok(None) => Check::pass("last use", "the server knows of no use of the old token"),
                Err(error) => error.to_check("last use"),
            });
        }
        checks
    }
}

/// A variable that has no value, or none that fits. `stanch validate` finds those that are missing.
fn unfilled(name: &str) -> CallError {
    invalid(format!("the calls cannot be made: `{{{}}}` has no value that fits there", sanitize(name)))
        .hint("correct `with` of the issuer: a path needs a string or a number, and not an empty one")
}

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

    fn candidate(&self) -> Option<Material> {
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
            body: Some(values.json(&body).map_err(|name| unfilled(&name))?),
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
        // Handles are shown and recorded.
        if material.scrub(&handle) != handle {
            return Err(unexpected(&ask, &create.id, "has the token itself"));
        }
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
