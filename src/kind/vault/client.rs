//! Sends vaultrs' typed requests over our own bounded transport, and says what an answer means.
//!
//! vaultrs' own client follows redirects with the token, reads without a bound, panics on a token
//! with a line break and hides headers; its request and response types have none of these.

use std::fmt;
use std::time::Duration;

use http::Request;
use rustify::endpoint::Endpoint;
use rustify::enums::RequestMethod;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Settings;
use super::facts::Facts;
use crate::domain::ErrorKind;
use crate::provider::http::sensitive;
use crate::provider::http::transport::{Reply, Transport};
use crate::provider::outcome::CallError;
use crate::secret::Secret;
use crate::text::sanitize;

/// A Vault, as one operator sees it.
pub struct VaultClient {
    settings: Settings,
    transport: Transport,
    /// Scheme, host and port, as rustify wants its base.
    origin: String,
    /// The path in front of everything: `/v1`, after the address' own.
    prefix: String,
    /// What was asked already, and does not change.
    pub(super) facts: Facts,
}

impl fmt::Debug for VaultClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultClient").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Whether a request changes something: what is not known of a write is in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Read,
    Write,
}

/// Vault's envelope around every answer.
#[derive(Deserialize)]
struct Envelope<T> {
    data: Option<T>,
    auth: Option<vaultrs::api::AuthInfo>,
}

impl VaultClient {
    /// Reads the certificates; nothing is sent yet. For one run: what does not change while it lasts is
    /// asked once.
    ///
    /// # Errors
    /// When a certificate or a key cannot be read.
    pub fn new(settings: Settings, timeout: Duration) -> Result<Self, CallError> {
        let mut transport = Transport::new(timeout)
            .without_verification(settings.skip_verify)
            .with_proxy(settings.more.proxy.clone());
        if let Some((pem, source)) = settings.roots()? {
            transport = transport.with_ca(pem, &source)?;
        }
        if let Some((pem, source)) = settings.identity()? {
            transport = transport.with_identity(pem, &source)?;
        }
        let prefix = format!("{}/v1", settings.address.path().trim_end_matches('/'));
        let origin = settings.address.origin().ascii_serialization();
        Ok(Self { settings, transport, origin, prefix, facts: Facts::default() })
    }

    /// Sends nothing, and answers with these.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn answering(self, replies: Vec<Reply>) -> Self {
        Self { transport: self.transport.answering(replies), ..self }
    }

    /// How it was set up.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The server, for messages.
    pub(super) fn place(&self) -> &str {
        &self.origin
    }

    /// Sends a typed request as the operator.
    pub(super) async fn send<E: Endpoint>(&self, endpoint: E, effect: Effect) -> Result<Reply, CallError> {
        let what = shown(&endpoint);
        let reply = self.reply_to(endpoint, effect).await?;
        if reply.status.is_success() {
            return Ok(reply);
        }
        Err(self.fault(&reply, &what, effect).await)
    }

    /// Sends a typed request as the operator, and gives whatever came back.
    pub(super) async fn reply_to<E: Endpoint>(
        &self,
        endpoint: E,
        effect: Effect,
    ) -> Result<Reply, CallError> {
        let (request, what) = self.request(endpoint)?;
        self.exchange(request, self.settings.token.as_ref(), &what, effect).await
    }

    /// Sends a typed request with another token, and gives whatever came back.
    pub(super) async fn send_as<E: Endpoint>(&self, endpoint: E, token: &Secret) -> Result<Reply, CallError> {
        let (request, what) = self.request(endpoint)?;
        self.exchange(request, Some(token), &what, Effect::Read).await
    }

    /// Sends a request that vaultrs has no type for, as the operator. The body is JSON.
    pub(super) async fn plain(
        &self,
        method: RequestMethod,
        path: &str,
        body: Option<Vec<u8>>,
        effect: Effect,
    ) -> Result<Reply, CallError> {
        let reply = self.plain_reply(method.clone(), path, body, effect).await?;
        if reply.status.is_success() {
            return Ok(reply);
        }
        Err(self.fault(&reply, &format!("{method:?} {path}"), effect).await)
    }

    /// The same, and gives whatever came back.
    pub(super) async fn plain_reply(
        &self,
        method: RequestMethod,
        path: &str,
        body: Option<Vec<u8>>,
        effect: Effect,
    ) -> Result<Reply, CallError> {
        self.plain_as(method, path, body, self.settings.token.as_ref(), effect).await
    }

    /// The same with another token, or without one.
    pub(super) async fn plain_as(
        &self,
        method: RequestMethod,
        path: &str,
        body: Option<Vec<u8>>,
        token: Option<&Secret>,
        effect: Effect,
    ) -> Result<Reply, CallError> {
        let (request, what) = self.plain_request(method, path, body)?;
        self.exchange(request, token, &what, effect).await
    }

    /// Sends a write as the operator. Its answer is kept on the server for as long as `ttl` says, for who
    /// presents the token in the reply; see `sys/wrapping/unwrap`.
    pub(super) async fn wrapped(
        &self,
        path: &str,
        body: Vec<u8>,
        ttl: &'static str,
    ) -> Result<Reply, CallError> {
        let (mut request, what) = self.plain_request(RequestMethod::POST, path, Some(body))?;
        request.headers_mut().insert("x-vault-wrap-ttl", http::HeaderValue::from_static(ttl));
        let reply = self.exchange(request, self.settings.token.as_ref(), &what, Effect::Write).await?;
        if reply.status.is_success() {
            return Ok(reply);
        }
        Err(self.fault(&reply, &what, Effect::Write).await)
    }

    fn plain_request(
        &self,
        method: RequestMethod,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<(Request<Vec<u8>>, String), CallError> {
        let what = format!("{method:?} {path}");
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        let request =
            rustify::http::build_request(&self.origin, path, method, query.map(str::to_owned), body)
                .map_err(|_| unsendable(&what))?;
        Ok((self.under_v1(request)?, what))
    }

    /// `sys/health`, whose status is part of its answer. Sent without a token.
    pub(super) async fn health(&self) -> Result<Reply, CallError> {
        let request =
            rustify::http::build_request(&self.origin, "sys/health", RequestMethod::GET, None, None)
                .map_err(|_| unsendable("sys/health"))?;
        // A namespaced `sys/health` is refused by editions that have namespaces.
        self.transport.send(self.under_v1(request)?, None).await.map_err(CallError::read_only)
    }

    /// A look at ourselves in a namespace that cannot exist: who answers it with success ignores
    /// namespaces.
    pub(super) async fn ignores_namespaces(&self) -> Result<bool, CallError> {
        let (mut request, _) = self.request(
            vaultrs::api::token::requests::LookupTokenSelfRequest::builder()
                .build()
                .map_err(|_| unsendable("auth/token/lookup-self"))?,
        )?;
        let headers = request.headers_mut();
        if let Some(token) = &self.settings.token {
            headers.insert("x-vault-token", sensitive(token.expose(), "the Vault token")?);
        }
        let nowhere = format!("stanch-probe-{}", uuid::Uuid::now_v7().simple());
        headers.insert("x-vault-namespace", sensitive(&nowhere, "the namespace")?);
        let reply = self.transport.send(request, None).await.map_err(CallError::read_only)?;
        Ok(reply.status.is_success())
    }

    fn request<E: Endpoint>(&self, endpoint: E) -> Result<(Request<Vec<u8>>, String), CallError> {
        let what = shown(&endpoint);
        // The error may quote the body: it is dropped.
        let request = endpoint.request(&self.origin).map_err(|_| unsendable(&what))?;
        Ok((self.under_v1(request)?, what))
    }

    fn under_v1(&self, mut request: Request<Vec<u8>>) -> Result<Request<Vec<u8>>, CallError> {
        let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
        let uri = format!("{}{}{}", self.origin, self.prefix, path);
        *request.uri_mut() = uri.parse().map_err(|_| unsendable(&sanitize(path)))?;
        Ok(request)
    }

    async fn exchange(
        &self,
        mut request: Request<Vec<u8>>,
        token: Option<&Secret>,
        what: &str,
        effect: Effect,
    ) -> Result<Reply, CallError> {
        let headers = request.headers_mut();
        // Vault's agent refuses requests without it, so that a browser cannot be made to send one.
        headers.insert("x-vault-request", http::HeaderValue::from_static("true"));
        if let Some(token) = token {
            headers.insert("x-vault-token", sensitive(token.expose(), "the Vault token")?);
        }
        if let Some(namespace) = &self.settings.namespace {
            headers.insert("x-vault-namespace", sensitive(namespace, "the namespace")?);
        }
        self.transport.send(request, None).await.map_err(|error| {
            let error = CallError { message: format!("{what}: {}", error.message), ..error };
            if effect == Effect::Read { error.read_only() } else { error }
        })
    }
}

/// A request, for messages.
fn shown<E: Endpoint>(endpoint: &E) -> String {
    format!("{:?} {}", endpoint.method(), endpoint.path().trim_start_matches('/'))
}

/// The `data` of an answer. The error never quotes it.
pub(super) fn data<T: DeserializeOwned>(reply: &Reply, what: &str) -> Result<T, CallError> {
    serde_json::from_slice::<Envelope<T>>(&reply.body)
        .ok()
        .and_then(|envelope| envelope.data)
        .ok_or_else(|| malformed_response(what).read_only())
}

/// The `auth` of an answer, to a request that made a token.
pub(super) fn auth(reply: &Reply, what: &str) -> Result<vaultrs::api::AuthInfo, CallError> {
    serde_json::from_slice::<Envelope<serde::de::IgnoredAny>>(&reply.body)
        .ok()
        .and_then(|envelope| envelope.auth)
        .ok_or_else(|| malformed_response(what))
}

pub(super) fn malformed_response(what: &str) -> CallError {
    CallError::unknown(format!("the response to {what} did not come from Vault, or was cut short"))
        .hint("check that the address is Vault's, and which proxy is in front of it")
}

pub(super) fn unsendable(what: &str) -> CallError {
    CallError::rejected(ErrorKind::Invalid, format!("cannot make the request {what}"))
}
