//! Sends the calls of an API, as the operator or with a token that is tried, and says what an answer means.

use std::fmt;
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Request};
use serde_json::Value;

use super::settings::Settings;
use crate::clock::Clock;
use crate::domain::{Check, ErrorKind, HttpMethod};
use crate::kind::clocks::skew;
use crate::provider::http::transport::{Reply, Transport};
use crate::provider::http::{judge, sensitive};
use crate::provider::outcome::CallError;
use crate::secret::{Material, Secret};
use crate::text::sanitize;

/// A service, as one operator sees it.
pub struct ApiClient {
    settings: Settings,
    transport: Transport,
}

impl fmt::Debug for ApiClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiClient").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// One request.
#[derive(Debug, Clone)]
pub(in crate::kind) struct Ask {
    pub(in crate::kind) method: HttpMethod,
    /// Added to the address; what is in it is encoded already.
    pub(in crate::kind) path: String,
    pub(in crate::kind) query: Vec<(String, String)>,
    /// JSON, which may hold secrets.
    pub(in crate::kind) body: Option<Secret>,
    /// Whether it changes something: what is not known of such a request is in doubt.
    pub(in crate::kind) changes: bool,
}

impl Ask {
    /// A request that changes nothing.
    pub(in crate::kind) fn get(path: String) -> Self {
        Self { method: HttpMethod::Get, path, query: Vec::new(), body: None, changes: false }
    }

    /// The request, for messages. The query stays out of them: it is long.
    pub(in crate::kind) fn what(&self) -> String {
        format!("{} {}", self.method.name(), sanitize(&self.path))
    }
}

impl ApiClient {
    /// Reads the certificates; nothing is sent yet.
    ///
    /// # Errors
    /// When a certificate cannot be read.
    pub fn new(settings: Settings, timeout: Duration) -> Result<Self, CallError> {
        let mut transport = Transport::new(timeout);
        if let Some((pem, source)) = settings.roots()? {
            transport = transport.with_ca(pem, &source)?;
        }
        Ok(Self { settings, transport })
    }

    /// The server, for messages.
    pub(in crate::kind) fn place(&self) -> String {
        self.settings.address.origin().ascii_serialization()
    }

    /// The operator's token.
    ///
    /// # Errors
    /// When its variable is not set.
    pub(in crate::kind) fn own(&self) -> Result<&Secret, CallError> {
        self.settings.token.as_ref().ok_or_else(|| {
            let variable = &self.settings.variable;
            CallError::rejected(ErrorKind::Refused, format!("there is no token for {}", self.place()))
                .hint(format!("set {variable} to the operator's token"))
        })
    }

    /// Is there a token, does the server answer, do the clocks agree.
    pub(in crate::kind) async fn preflight(&self, clock: &dyn Clock) -> Vec<Check> {
        let mut checks = Vec::new();
        checks.extend(self.own().err().map(|error| error.to_check("identity")));
        let hello = Ask { method: HttpMethod::Head, ..Ask::get("/".to_owned()) };
        match self.exchange(&hello, None).await {
            // Whatever it answers, it is there, and its certificate is trusted.
            Ok(reply) => checks.push(skew(&self.place(), reply.date(), clock.now().wall)),
            Err(error) => checks.push(error.to_check("address")),
        }
        checks
    }

    /// Sends a request as the operator. Gives whatever came back.
    pub(in crate::kind) async fn reply_to(&self, ask: &Ask) -> Result<Reply, CallError> {
        self.exchange(ask, Some(self.own()?)).await
    }

    /// Sends a request with this token. Gives whatever came back.
    pub(in crate::kind) async fn reply_to_as(&self, ask: &Ask, token: &Secret) -> Result<Reply, CallError> {
        self.exchange(ask, Some(token)).await.map_err(|error| without(error, token))
    }

    /// The error that an answer other than a success is, to the operator or to a token that is tried.
    pub(in crate::kind) fn fault(&self, reply: &Reply, ask: &Ask, tried: Option<&Secret>) -> CallError {
        let what = format!("{} {}", self.place(), ask.what());
        let error = judge(reply, &what).err().unwrap_or_else(|| malformed(ask));
        let slow = reply.retry_after().is_some()
            || reply.headers.get("x-ratelimit-remaining").is_some_and(|left| left.as_bytes() == b"0");
        let error = match error.kind {
            // A second limit of GitHub's: forbidden for the moment.
            ErrorKind::Denied if slow => CallError { kind: ErrorKind::Throttled, ..error },
            ErrorKind::Denied => error.hint("give the operator's token the permission for this call"),
            ErrorKind::Refused if tried.is_none() => error.hint(format!(
                "the server does not accept the token in {}: set it to one that is valid",
                self.settings.variable
            )),
            _ => error,
        };
        let error = if ask.changes { error } else { error.read_only() };
        self.clean(tried.into_iter().fold(error, without))
    }

    /// The error without the operator's token, which a server may echo.
    pub(in crate::kind) fn clean(&self, error: CallError) -> CallError {
        self.settings.token.iter().fold(error, without)
    }

    async fn exchange(&self, ask: &Ask, token: Option<&Secret>) -> Result<Reply, CallError> {
        let unsendable =
            || CallError::rejected(ErrorKind::Invalid, format!("cannot make the request {}", ask.what()));
        let mut url = self.settings.address.clone();
        let path = format!("{}{}", url.path().trim_end_matches('/'), ask.path);
        url.set_path(&path);
        // A URL's dots lead elsewhere: what was asked for must be what is sent.
        if url.path() != path {
            return Err(unsendable());
        }
        if !ask.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&ask.query);
        }
        let mut request = Request::builder().method(ask.method.name()).uri(url.as_str());
        let body = match &ask.body {
            Some(body) => body.expose().as_bytes().to_vec(),
            None => Vec::new(),
        };
        if let Some(headers) = request.headers_mut() {
            headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
            headers.extend(self.settings.headers.clone());
            if ask.body.is_some() {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            }
            if let Some(token) = token {
                let value = sensitive(&format!("{}{}", self.settings.prefix, token.expose()), "the token")?;
                headers.insert(self.settings.header.clone(), value);
            }
        }
        let request = request.body(body).map_err(|_| unsendable())?;
        let reply = self.transport.send(request, None).await;
        reply.map_err(|error| if ask.changes { error } else { error.read_only() })
    }
}

/// The error without a secret that the request carried and a server may echo.
fn without(error: CallError, secret: &Secret) -> CallError {
    let material = Material::single("token", secret.clone());
    error.scrubbed(&|text| material.scrub(text))
}

/// An answer that is not what the calls of the runbook say. The body is never quoted.
pub(in crate::kind) fn malformed(ask: &Ask) -> CallError {
    let error = CallError::rejected(
        ErrorKind::Invalid,
        format!("the response to {} is not JSON, or was cut short", ask.what()),
    )
    .hint("check the address, and which proxy is in front of the API");
    if ask.changes { error.doubtful() } else { error }
}

/// A success whose body is JSON.
pub(in crate::kind) fn json(reply: &Reply, ask: &Ask) -> Result<Value, CallError> {
    serde_json::from_slice(&reply.body).map_err(|_| malformed(ask))
}

/// What is at a pointer of an answer.
///
/// # Errors
/// When nothing is there: the API has changed, or is another one than the calls say.
pub(in crate::kind) fn at<'a>(document: &'a Value, pointer: &str, ask: &Ask) -> Result<&'a Value, CallError> {
    document.pointer(pointer).ok_or_else(|| unexpected(ask, pointer, "has nothing"))
}

/// An answer that has something else at a pointer than the calls say.
pub(in crate::kind) fn unexpected(ask: &Ask, pointer: &str, what: &str) -> CallError {
    let error = CallError::rejected(
        ErrorKind::Invalid,
        format!(
            "the response to {} {what} at `{pointer}`: the API is not as the runbook describes it",
            ask.what()
        ),
    )
    .hint("compare the call and the pointer with the documentation of the API");
    if ask.changes { error.doubtful() } else { error }
}
