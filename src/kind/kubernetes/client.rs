//! Sends requests to an API server, as the operator.

use std::fmt;
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::settings::Settings;
use crate::clock::Clock;
use crate::domain::{Check, ErrorKind};
use crate::kind::clocks::skew;
use crate::provider::http::sensitive;
use crate::provider::http::transport::{Reply, Transport};
use crate::provider::outcome::CallError;
use crate::secret::{Material, Secret};
use crate::text::sanitize;

/// A Secret has 1 MiB at most, which base64 makes longer by a third; and what is known of its managers is beside it.
const MAX_BODY: usize = 4 << 20;

/// A cluster, as one operator sees it.
pub struct KubeClient {
    settings: Settings,
    transport: Transport,
}

impl fmt::Debug for KubeClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubeClient").field("address", &self.settings.address.as_str()).finish_non_exhaustive()
    }
}

/// One request.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    /// Below the address; every name in it is checked.
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    /// Its media type and its text, which may hold secrets.
    pub(super) body: Option<(&'static str, Secret)>,
    /// Whether it changes something: what is not known of such a request is in doubt.
    pub(super) changes: bool,
}

impl<'a> Ask<'a> {
    pub(super) fn get(path: &'a str) -> Self {
        Self { method: Method::GET, path, query: "", body: None, changes: false }
    }

    /// A question that is asked by creating something that the server does not keep.
    fn question(path: &'a str, body: &Value) -> Self {
        let body = Some(("application/json", Secret::new(body.to_string())));
        Self { method: Method::POST, body, ..Self::get(path) }
    }

    /// The request, for messages.
    pub(super) fn what(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

impl KubeClient {
    /// Reads the certificates; nothing is sent yet.
    ///
    /// # Errors
    /// When a certificate cannot be read.
    pub fn new(settings: Settings, timeout: Duration) -> Result<Self, CallError> {
        let mut transport = Transport::new(timeout)
            .with_max_body(MAX_BODY)
            .with_proxy(settings.proxy.clone())
            .without_verification(settings.skip_verify);
        if let Some((pem, source)) = settings.ca.clone() {
            transport = transport.with_ca(pem, &source)?;
        }
        if let Some(identity) = &settings.identity {
            transport = transport.with_identity(
                identity.clone(),
                &format!("the client certificate and key of {}", settings.source),
            )?;
        }
        Ok(Self { settings, transport })
    }

    /// The server, for messages.
    pub(super) fn place(&self) -> String {
        self.settings.address.origin().ascii_serialization()
    }

    /// Sends a request and gives whatever came back.
    pub(super) async fn reply_to(&self, ask: &Ask<'_>) -> Result<Reply, CallError> {
        let unsendable =
            || CallError::rejected(ErrorKind::Invalid, format!("cannot make the request {}", ask.what()));
        let mut url = self.settings.address.clone();
        let path = format!("{}{}", url.path().trim_end_matches('/'), ask.path);
        url.set_path(&path);
        // A URL's dots lead elsewhere: what was asked for must be what is sent.
        if url.path() != path {
            return Err(unsendable());
        }
        url.set_query(Some(ask.query).filter(|query| !query.is_empty()));
        let mut request = Request::builder().method(ask.method.clone()).uri(url.as_str());
        if let Some(headers) = request.headers_mut() {
            headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
            if let Some((kind, _)) = &ask.body {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            }
            if let Some(token) = self.settings.login.token()? {
                headers.insert(
                    AUTHORIZATION,
                    sensitive(&format!("Bearer {}", token.expose()), "the operator's token")?,
                );
            }
        }
        let body = ask.body.as_ref().map(|(_, text)| text.expose().as_bytes().to_vec()).unwrap_or_default();
        let request = request.body(body).map_err(|_| unsendable())?;
        let reply = self.transport.send(request, None).await;
        reply.map_err(|error| if ask.changes { error } else { error.read_only() })
    }

    /// Sends a request. Returns the object that the answer is.
    pub(super) async fn object<T: DeserializeOwned>(&self, ask: &Ask<'_>) -> Result<T, CallError> {
        let reply = self.reply_to(ask).await?;
        if !reply.status.is_success() {
            return Err(self.fault(&reply, ask));
        }
        // The error of the parser may quote a value.
        serde_json::from_slice(&reply.body).map_err(|_| self.strange(ask))
    }

    /// What answered in the API server's place.
    pub(super) fn strange(&self, ask: &Ask<'_>) -> CallError {
        let message = format!(
            "the response to {} at {} did not come from Kubernetes, or was cut short",
            ask.what(),
            self.place()
        );
        let error = CallError::rejected(ErrorKind::NoAnswer, message)
            .hint("check the address in the kubeconfig, and which proxy is in front of the API server");
        if ask.changes { error.doubtful() } else { error }
    }

    /// A text of the server's as it may be shown: without the operator's token, which it was sent.
    pub(super) fn quoted(&self, text: &str) -> String {
        let token = self.settings.login.token().ok().flatten();
        let clean = token.map(|token| Material::single("token", token).scrub(text));
        sanitize(clean.as_deref().unwrap_or(text))
    }

    /// Whether stanch may do this to the thing of this name.
    pub(super) async fn may(
        &self,
        verb: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<bool, CallError> {
        let attributes = json!({ "namespace": namespace, "verb": verb, "version": "v1", "resource": resource, "name": name });
        let body = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": { "resourceAttributes": attributes },
        });
        let ask = Ask::question("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &body);
        let answer: Value = self.object(&ask).await?;
        answer.pointer("/status/allowed").and_then(Value::as_bool).ok_or_else(|| self.strange(&ask))
    }

    /// Who are we, and do the clocks agree.
    pub(super) async fn preflight(&self, clock: &dyn Clock) -> Vec<Check> {
        let body = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
        let ask = Ask::question("/apis/authentication.k8s.io/v1/selfsubjectreviews", &body);
        let reply = match self.reply_to(&ask).await {
            Ok(reply) => reply,
            Err(error) => return vec![error.to_check("address")],
        };
        let clock = skew(&self.place(), reply.date(), clock.now().wall);
        let name = "identity";
        let who = serde_json::from_slice::<Value>(&reply.body).ok();
        let who = who.as_ref().and_then(|answer| answer.pointer("/status/userInfo/username")?.as_str());
        let identity = match who {
            Some(who) if reply.status.is_success() && who == "system:anonymous" => Check::fail(
                name,
                ErrorKind::Refused,
                format!(
                    "{} does not know stanch: {} holds no credential that it accepts",
                    self.place(),
                    self.settings.source
                ),
                "log in as `kubectl` does, and check it: `kubectl auth whoami`",
            ),
            Some(who) if reply.status.is_success() => Check::pass(
                name,
                format!("{} knows stanch as {}, by {}", self.place(), self.quoted(who), self.settings.source),
            ),
            // Servers before 1.28 do not say.
            _ if reply.status == 404 => {
                Check::warn(name, format!("{} does not say who stanch is there", self.place()))
            }
            _ if reply.status.is_success() => self.strange(&ask).to_check(name),
            _ => self.fault(&reply, &ask).to_check(name),
        };
        vec![identity, clock]
    }
}
