//! What a service is asked, by the calls that the runbook or a preset describes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::answer::{self, Time, id, is_short_for, shows, time};
use super::calls::spec::{Calls, Change, List, Query};
use super::list::{self, Item};
use super::rules::spec::ID;
use super::template::fill::Values;
use crate::clock::Clock;
use crate::domain::{Check, ErrorKind, HttpMethod, Identity, IssuerTraits, Life, Observation};
use crate::kind::api::client::{ApiClient, Ask, at, json, unexpected};
use crate::kind::real::invalid;
use crate::provider::Grant;
use crate::provider::outcome::CallError;
use crate::secret::Secret;
use crate::text::sanitize;

/// Fewer digits of a mark at the end of a name may be anybody's.
const LEAST_OF_MARK: usize = 4;
/// How many tokens of a list are inspected until one shows that `inspect` works.
const CONTROLS: usize = 3;

/// Tokens of one service.
pub(super) struct ApiIssuer {
    pub(super) client: Arc<ApiClient>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) name: String,
    pub(super) traits: IssuerTraits,
    pub(super) calls: Calls,
    pub(super) with: BTreeMap<String, Value>,
    pub(super) ttl: Option<Duration>,
}

/// How a server answers to a token itself.
pub(super) enum Introduced {
    Accepted(Value, Ask),
    /// It answers, and says that the token is disabled.
    Disabled(Value, Ask),
    /// How it refused it.
    Refused(String),
}

impl ApiIssuer {
    pub(super) fn values(&self, more: Vec<(&'static str, String)>) -> Values<'_> {
        Values { with: &self.with, more }
    }

    /// A call that reads.
    pub(super) fn get(&self, path: &str, query: &Query, values: &Values<'_>) -> Result<Ask, CallError> {
        Ok(Ask {
            method: HttpMethod::Get,
            path: values.path(path).map_err(|name| unfilled(&name))?,
            query: values.query(query).map_err(|name| unfilled(&name))?,
            body: None,
            changes: false,
        })
    }

    pub(super) fn about(&self, handle: &str) -> Values<'_> {
        self.values(vec![(ID, handle.to_owned())])
    }

    /// What `inspect` returns; `None` where its status may mean that there is no such token.
    pub(super) async fn look(&self, handle: &str) -> Result<Option<(Value, Ask)>, CallError> {
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
    pub(super) async fn known(&self, handle: &str) -> Result<(Value, Ask), CallError> {
        self.look(handle).await?.ok_or_else(|| {
            CallError::rejected(
                ErrorKind::NotFound,
                format!("{} knows no token {handle}", self.client.place()),
            )
        })
    }

    pub(super) fn list(&self) -> Option<&List> {
        self.calls.list.as_ref()
    }

    pub(super) async fn all(&self) -> Result<Vec<Item>, CallError> {
        let Some(list) = self.list() else {
            let message = "the calls of the runbook have no `list`";
            return Err(CallError::rejected(ErrorKind::Unsupported, message));
        };
        let ask = self.get(&list.path, &list.query, &self.values(Vec::new()))?;
        list::all(&self.client, list, &ask).await
    }

    /// Whether a token whose status says that it is not there is gone. A proxy, a wrong address and a permission that was taken
    /// away answer in the same way: the list must lack it, and another token of the list must be there for `inspect`.
    pub(super) async fn is_missed(&self, handle: &str) -> Result<Life, CallError> {
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

    pub(super) async fn change(&self, call: &Change, handle: &str, tolerate: bool) -> Result<(), CallError> {
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
            body: (!body.is_empty()).then(|| Secret::new(Value::Object(body).to_string())),
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
    pub(super) async fn introduce(&self, token: &Secret) -> Result<Introduced, CallError> {
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
    pub(super) async fn id_of(
        &self,
        token: &Secret,
        document: &Value,
        ask: &Ask,
    ) -> Result<String, CallError> {
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
    pub(super) async fn own_check(&self, outgoing: &str) -> Check {
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
    pub(super) async fn marked(&self, mark: &str) -> Result<Vec<String>, CallError> {
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

    /// Refuses an id that the list shows under a name which is not this step's: whoever goes by it revokes a stranger's
    /// token in a rollback.
    pub(super) async fn refuse_a_strangers(&self, handle: &str, mark: &str) -> Result<(), CallError> {
        if self.traits.issue != Observation::Listable {
            return Ok(());
        }
        let items = self.all().await.map_err(CallError::doubtful)?;
        let Some(item) = items.iter().find(|item| item.id == handle) else { return Ok(()) };
        let name = item.name.to_ascii_lowercase();
        // A name that was cut still has its beginning.
        if name.contains(mark) || name.contains("stanch") {
            return Ok(());
        }
        let message = format!(
            "{} returned the id {handle} for the new token, and its list shows another token under it",
            self.client.place()
        );
        let error = CallError { kind: ErrorKind::Invalid, ..CallError::unknown(message) };
        Err(error.hint("correct `id` of the call `create`: it must be that of the token that was created"))
    }

    pub(super) fn grant(&self, document: &Value, ask: &Ask) -> Result<Grant, CallError> {
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

    pub(super) fn identity(&self, handle: String) -> Identity {
        Identity { handle, principal: self.name.clone() }
    }

    /// Whether the list answers, and when the old token was used.
    pub(super) async fn checks(&self, outgoing: Option<&Identity>) -> Vec<Check> {
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
pub(super) fn unfilled(name: &str) -> CallError {
    invalid(format!("the calls cannot be made: `{{{}}}` has no value that fits there", sanitize(name)))
        .hint("correct `with` of the issuer: a path needs a string or a number, and not an empty one")
}
