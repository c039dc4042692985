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
use crate::provider::http::sensitive;
use crate::provider::http::transport::{Reply, Transport};
use crate::provider::outcome::{CallError, Kind, tame};
use crate::secret::Secret;

/// A Vault, as one operator sees it.
pub struct VaultClient {
    settings: Settings,
    transport: Transport,
    /// Scheme, host and port, as rustify wants its base.
    origin: String,
    /// The path in front of everything: `/v1`, after the address' own.
    prefix: String,
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

#[derive(Deserialize, Default)]
struct Errors {
    #[serde(default)]
    errors: Vec<String>,
}

impl VaultClient {
    /// Reads the CA certificate; nothing is sent yet.
    ///
    /// # Errors
    /// When the CA certificate cannot be read.
    pub fn new(settings: Settings, timeout: Duration) -> Result<Self, CallError> {
        let mut transport = Transport::new(timeout).without_verification(settings.skip_verify);
        if let Some(path) = &settings.ca_cert {
            let pem = std::fs::read(path).map_err(|error| {
                CallError::rejected(Kind::Local, format!("cannot read {}: {error}", path.display()))
                    .hint("correct `ca_cert` of the connection, or VAULT_CACERT")
            })?;
            transport = transport.with_ca(pem, &path.display().to_string())?;
        }
        let prefix = format!("{}/v1", settings.address.path().trim_end_matches('/'));
        let origin = settings.address.origin().ascii_serialization();
        Ok(Self { settings, transport, origin, prefix })
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
        let (request, what) = self.request(endpoint)?;
        let reply = self.exchange(request, self.settings.token.as_ref(), &what, effect).await?;
        if reply.status.is_success() {
            return Ok(reply);
        }
        Err(self.fault(&reply, &what, effect).await)
    }

    /// Sends a typed request with another token, and gives whatever came back.
    pub(super) async fn send_as<E: Endpoint>(&self, endpoint: E, token: &Secret) -> Result<Reply, CallError> {
        let (request, what) = self.request(endpoint)?;
        self.exchange(request, Some(token), &what, Effect::Read).await
    }

    /// Sends a request that vaultrs has no type for, as the operator.
    pub(super) async fn plain(
        &self,
        method: RequestMethod,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> Result<Reply, CallError> {
        let what = format!("{method:?} {path}");
        let body = body.map(|body| body.to_string().into_bytes());
        let request = rustify::http::build_request(&self.origin, path, method, None, body)
            .map_err(|_| unsendable(&what))?;
        let reply =
            self.exchange(self.under_v1(request)?, self.settings.token.as_ref(), &what, Effect::Read).await?;
        if reply.status.is_success() {
            return Ok(reply);
        }
        Err(self.fault(&reply, &what, Effect::Read).await)
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
        let what = format!("{:?} {}", endpoint.method(), endpoint.path().trim_start_matches('/'));
        // The error may quote the body: it is dropped.
        let request = endpoint.request(&self.origin).map_err(|_| unsendable(&what))?;
        Ok((self.under_v1(request)?, what))
    }

    fn under_v1(&self, mut request: Request<Vec<u8>>) -> Result<Request<Vec<u8>>, CallError> {
        let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
        let uri = format!("{}{}{}", self.origin, self.prefix, path);
        *request.uri_mut() = uri.parse().map_err(|_| unsendable(&tame(path)))?;
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

    /// What an answer that is not a success means.
    async fn fault(&self, reply: &Reply, what: &str, effect: Effect) -> CallError {
        let said = self.said(reply);
        let error = self.fault_of(reply, what, &said).await;
        let error = CallError { retry_after: error.retry_after.or(reply.retry_after()), ..error };
        if effect == Effect::Read { error.read_only() } else { error }
    }

    async fn fault_of(&self, reply: &Reply, what: &str, said: &str) -> CallError {
        let status = reply.status.as_u16();
        let place = self.place();
        let quoted = if said.is_empty() { String::new() } else { format!(": {said}") };
        let rejected = |kind| CallError::rejected(kind, format!("{place} refused {what} ({status}){quoted}"));
        let not_ready = |state: &str, hint: &str| {
            CallError::rejected(Kind::NotReady, format!("{place} {state}: {what} was not done")).hint(hint)
        };
        match status {
            301 | 302 | 307 | 308 => not_ready(
                "sends this request on to another server, and a token is never sent on",
                "it is a standby: set the address to the active node, or to a load balancer that finds it",
            ),
            // Others than Vault answer 503, too; only Vault's own words say that nothing was done.
            503 if said.contains("sealed") => not_ready("is sealed", "unseal it: `vault operator unseal`"),
            500 | 503 if said.contains("active cluster node not found") => not_ready(
                "is a standby without an active node",
                "look at the cluster: `vault operator members`",
            ),
            501 => not_ready("is not initialised", "initialise it: `vault operator init`"),
            472 => not_ready("is a disaster-recovery secondary", "set the address to the primary cluster"),
            473 => not_ready("is a performance standby", "set the address to the active node"),
            429 => {
                rejected(Kind::Throttled).hint("a rate-limit quota is set: `vault read sys/quotas/config`")
            }
            403 if is_bad_token(said) => rejected(Kind::Refused)
                .hint("the token that stanch uses is expired or revoked: log in again (`vault login`)"),
            403 => {
                if self.own_token_is_dead().await {
                    rejected(Kind::Refused).hint(
                        "the token that stanch uses is expired or revoked: log in again (`vault login`)",
                    )
                } else {
                    rejected(Kind::Denied).hint(format!(
                        "ask for a policy that allows it; `vault token capabilities {}` shows what you have",
                        what.split_once(' ').map_or(what, |(_, path)| path)
                    ))
                }
            }
            400 if said.contains("check-and-set") => rejected(Kind::Conflict)
                .hint("somebody wrote another version meanwhile: look at it, then plan again"),
            404 => rejected(Kind::NotFound),
            405 => rejected(Kind::Unsupported),
            400..=499 => rejected(Kind::Invalid),
            _ => CallError::unknown(format!("{place} answered {status} to {what}{quoted}")),
        }
    }

    /// A 403 may mean that the token itself is not valid any more: cheap to ask.
    async fn own_token_is_dead(&self) -> bool {
        let Some(token) = &self.settings.token else { return true };
        let endpoint = vaultrs::api::token::requests::LookupTokenSelfRequest::builder().build();
        let Ok(endpoint) = endpoint else { return false };
        match self.send_as(endpoint, token).await {
            Ok(reply) => reply.status.as_u16() == 403 && is_bad_token(&self.said(&reply)),
            Err(_) => false,
        }
    }

    /// A text of the server's without the operator's token, which it was sent and may echo.
    fn without_token(&self, text: &str) -> String {
        match &self.settings.token {
            Some(token) if token.expose().len() >= 8 => text.replace(token.expose(), "[redacted]"),
            _ => text.to_owned(),
        }
    }

    /// A text of the server's as it may be shown.
    pub(super) fn quoted(&self, text: &str) -> String {
        tame(&self.without_token(text))
    }

    /// What Vault itself says of an error, tamed. Vault does not echo values in `errors`; the
    /// token is taken out all the same.
    pub(super) fn said(&self, reply: &Reply) -> String {
        let errors: Errors = serde_json::from_slice(&reply.body).unwrap_or_default();
        let text = errors.errors.join("; ");
        let text = self.without_token(&text);
        // Its lists ("2 errors occurred:\n\t* a\n\t* b") read badly on one line.
        let points: Vec<&str> = text.split("* ").map(str::trim).filter(|s| !s.is_empty()).collect();
        match points.as_slice() {
            [head, rest @ ..] if head.ends_with("occurred:") => tame(&rest.join(", ")),
            _ => tame(&text),
        }
    }
}

/// Whether Vault says that the token is not valid, and not merely that it may not do this.
pub(super) fn is_bad_token(said: &str) -> bool {
    said.contains("invalid token") || said.contains("bad token")
}

/// The `data` of an answer. The error never quotes it.
pub(super) fn data<T: DeserializeOwned>(reply: &Reply, what: &str) -> Result<T, CallError> {
    serde_json::from_slice::<Envelope<T>>(&reply.body)
        .ok()
        .and_then(|envelope| envelope.data)
        .ok_or_else(|| garbled(what).read_only())
}

/// The `auth` of an answer, to a request that made a token.
pub(super) fn auth(reply: &Reply, what: &str) -> Result<vaultrs::api::AuthInfo, CallError> {
    serde_json::from_slice::<Envelope<serde::de::IgnoredAny>>(&reply.body)
        .ok()
        .and_then(|envelope| envelope.auth)
        .ok_or_else(|| garbled(what))
}

pub(super) fn garbled(what: &str) -> CallError {
    CallError::unknown(format!("the answer to {what} is not what Vault answers"))
        .hint("check that the address is Vault's, and what stands in front of it")
}

pub(super) fn unsendable(what: &str) -> CallError {
    CallError::rejected(Kind::Invalid, format!("cannot make the request {what}"))
}
