//! One way to send a request, with bounds on everything, and a clear word on what is known when
//! it fails.
//!
//! No redirect is followed: a redirect must not carry a token elsewhere. No retry is made: the
//! engine retries, on the record. A reply is read up to `MAX_BODY`, or what its
//! client asks for, and then given up.
//!
//! Connections are kept for `IDLE` and no longer. A server or a balancer closes an idle connection
//! without a word, and a write that is sent on it just then is in doubt though nobody did it: for a
//! create that costs a look through every token. So whatever was idle for longer than a moment gets a
//! new connection, and under load, where requests follow each other within it, none is opened twice.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use jiff::Timestamp;

use super::interim::{Interim, MAX_INTERIM};
use super::{safe_url, server_of};
use crate::clock::{Clock as _, SystemClock};
use crate::domain::ErrorKind;
use crate::provider::logged::Logged;
use crate::provider::outcome::CallError;
use crate::secret::Secret;
use crate::text::sanitize;

/// A server that accepts no connection within this is as good as down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Far above almost any reply that is read here; a server must not fill our memory.
pub(crate) const MAX_BODY: usize = 1024 * 1024;
/// A server that asks to wait for longer is not waited for in an emergency.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// How long a connection may be idle and still be used. Far below what servers and balancers keep one
/// open for (Node 5 s, HAProxy 10 s, AWS' balancers 60 s, Vault 5 min), far above the gap between two
/// requests of a run.
const IDLE: Duration = Duration::from_secs(2);
/// How many idle connections are kept to one host: as many as steps run at once.
const IDLE_AT_MOST: usize = 64;

/// Sends requests. Cheap to make: its clients are made when they are first needed.
pub struct Transport {
    timeout: Duration,
    /// How many bytes of a reply are read.
    max_body: usize,
    /// The only roots to trust.
    ca: Option<Vec<u8>>,
    /// Roots to trust besides the machine's.
    more: Vec<u8>,
    /// The client's own certificate with its key.
    identity: Option<Secret>,
    proxy: Option<Secret>,
    skip_verify: bool,
    /// Whether the paths of addresses are secrets, too.
    hides_paths: bool,
    clients: [OnceLock<reqwest::Client>; 4],
    #[cfg(any(test, feature = "fuzzing"))]
    canned: Option<Canned>,
}

/// Replies in place of a server's: these in their order, then the last one again and again, as a
/// hostile server would.
#[cfg(any(test, feature = "fuzzing"))]
#[derive(Default)]
pub(crate) struct Canned {
    replies: Vec<Reply>,
    given: std::sync::atomic::AtomicUsize,
}

#[cfg(any(test, feature = "fuzzing"))]
impl Canned {
    /// These.
    pub(crate) fn new(replies: Vec<Reply>) -> Self {
        Self { replies, ..Self::default() }
    }

    /// The next one; `None` when there never was one.
    pub(crate) fn next(&self) -> Option<Reply> {
        let at = self.given.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let Reply { status, headers, body } = self.replies.get(at).or(self.replies.last())?;
        Some(Reply { status: *status, headers: headers.clone(), body: body.clone() })
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// A reply, read to its end.
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, which may hold a secret.
    pub body: Vec<u8>,
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Reply {
    /// How long the server asks to wait, in seconds or until a date. The date is held against the
    /// server's own clock where it tells it.
    pub fn retry_after(&self) -> Option<Duration> {
        let text = self.headers.get(http::header::RETRY_AFTER)?.to_str().ok()?;
        retry_after(text, || Some(self.date().unwrap_or_else(|| SystemClock::new().now().wall)))
    }

    /// The server's name for this request, under one of the usual headers.
    pub fn request_id(&self) -> Option<String> {
        ["x-request-id", "x-amzn-requestid", "x-correlation-id"]
            .iter()
            .find_map(|name| self.headers.get(*name)?.to_str().ok())
            .map(sanitize)
    }

    /// The server's clock.
    pub fn date(&self) -> Option<Timestamp> {
        http_date(self.headers.get(http::header::DATE)?.to_str().ok()?)
    }
}

/// How long a `Retry-After` asks to wait (RFC 9110, 10.2.3): seconds, or until a date, which counts from
/// what the clock says; an hour at most.
pub(crate) fn retry_after(text: &str, clock: impl FnOnce() -> Option<Timestamp>) -> Option<Duration> {
    let wait = match text.trim().parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        // A date that is past asks for nothing.
        Err(_) => Duration::try_from(http_date(text)?.duration_since(clock()?)).unwrap_or_default(),
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// A date as HTTP writes it.
pub(crate) fn http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text.trim()).ok().map(|zoned| zoned.timestamp())
}

impl Transport {
    /// A transport whose requests take at most `timeout`.
    pub fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            max_body: MAX_BODY,
            ca: None,
            more: Vec::new(),
            identity: None,
            proxy: None,
            skip_verify: false,
            hides_paths: false,
            clients: Default::default(),
            #[cfg(any(test, feature = "fuzzing"))]
            canned: None,
        }
    }

    /// Names no more of an address than its server, in errors and in the log: for addresses that are secrets.
    #[must_use]
    pub fn hiding_paths(self) -> Self {
        Self { hides_paths: true, ..self }
    }

    /// Reads replies up to so many bytes: for servers whose objects are larger than `MAX_BODY`.
    #[must_use]
    pub fn with_max_body(self, max_body: usize) -> Self {
        Self { max_body, ..self }
    }

    /// Sends nothing, and answers with these.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn answering(self, replies: Vec<Reply>) -> Self {
        Self { canned: Some(Canned::new(replies)), ..self }
    }

    /// Trusts this CA bundle (PEM) and no other.
    ///
    /// # Errors
    /// When it holds no certificate.
    pub fn with_ca(self, pem: Vec<u8>, source: &str) -> Result<Self, CallError> {
        certificates(&pem, source)?;
        Ok(Self { ca: Some(pem), ..self })
    }

    /// Trusts this CA bundle (PEM) besides the machine's.
    ///
    /// # Errors
    /// When it holds no certificate.
    pub fn with_more_roots(mut self, pem: &[u8], source: &str) -> Result<Self, CallError> {
        certificates(pem, source)?;
        self.more.extend_from_slice(pem);
        self.more.push(b'\n');
        Ok(self)
    }

    /// Shows this certificate with its key (PEM) to servers that ask for one.
    ///
    /// # Errors
    /// When they are not a certificate and its key. The error does not quote them.
    pub fn with_identity(self, pem: Secret, source: &str) -> Result<Self, CallError> {
        reqwest::Identity::from_pem(pem.expose().as_bytes()).map_err(|_| {
            CallError::rejected(
                ErrorKind::Local,
                format!("{source} are not a certificate and its key in PEM"),
            )
        })?;
        Ok(Self { identity: Some(pem), ..self })
    }

    /// Sends everything through this proxy, whatever the environment says of others.
    #[must_use]
    pub fn with_proxy(self, proxy: Option<Secret>) -> Self {
        Self { proxy, ..self }
    }

    /// Accepts any certificate. The caller says so to the operator.
    #[must_use]
    pub fn without_verification(mut self, skip: bool) -> Self {
        self.skip_verify = skip;
        self
    }

    /// Sends one request, within `timeout` or the transport's own.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`] when no connection was made; [`ErrorKind::NoAnswer`], in doubt, when one
    /// was and no whole reply came.
    pub async fn send(
        &self,
        request: http::Request<Vec<u8>>,
        timeout: Option<Duration>,
    ) -> Result<Reply, CallError> {
        let mut place = safe_url(&request.uri().to_string());
        if self.hides_paths {
            place = server_of(&place);
        }
        let mut call = Logged::start(|| format!("{} {place}", request.method()));
        let reply = self.exchange(request, &place, timeout).await;
        match &reply {
            Ok(reply) => call.end(reply.status.as_str()),
            Err(error) if error.kind == ErrorKind::Unreachable => call.end("no connection"),
            Err(_) => call.end("no whole response"),
        }
        reply
    }

    /// Connects, and asks the server of this address for nothing but the head of its root: whatever it answers, it
    /// is there, and its certificate is trusted.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`] when no connection was made.
    pub async fn reach(&self, url: &str) -> Result<(), CallError> {
        let invalid =
            || CallError::rejected(ErrorKind::Invalid, format!("{} is not an address", safe_url(url)));
        let mut root: reqwest::Url = url.parse().map_err(|_| invalid())?;
        let _ = (root.set_username(""), root.set_password(None));
        root.set_path("/");
        root.set_query(None);
        root.set_fragment(None);
        let request = http::Request::head(root.as_str()).body(Vec::new()).map_err(|_| invalid())?;
        match self.send(request, Some(CONNECT_TIMEOUT)).await {
            // A server that has no answer to this one may have one to the check.
            Err(error) if error.kind != ErrorKind::NoAnswer => Err(error.read_only()),
            _ => Ok(()),
        }
    }

    async fn exchange(
        &self,
        mut request: http::Request<Vec<u8>>,
        place: &str,
        timeout: Option<Duration>,
    ) -> Result<Reply, CallError> {
        #[cfg(any(test, feature = "fuzzing"))]
        if let Some(canned) = &self.canned {
            return canned.next().ok_or_else(|| CallError::unknown(format!("{place} did not answer")));
        }
        let client = self.client(request.uri())?;
        let interim = Interim::of(&mut request);
        let mut request = reqwest::Request::try_from(request).map_err(|_| {
            CallError::rejected(ErrorKind::Invalid, format!("cannot make a request to {place}"))
        })?;
        *request.timeout_mut() = Some(timeout.unwrap_or(self.timeout));

        // A connection that was closed meanwhile is taken out by a task of its own, which gets its turn here.
        tokio::task::yield_now().await;
        let mut response = tokio::select! {
            response = client.execute(request) => response.map_err(|error| classify(&error, place))?,
            () = interim.too_many() => {
                let message = format!("{place} sent more than {MAX_INTERIM} interim replies and no answer");
                return Err(CallError::unknown(message));
            }
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= self.max_body => {
                    body.extend_from_slice(&chunk)
                }
                Ok(Some(_)) => {
                    return Err(CallError::unknown(format!(
                        "{place} answered {} with more than {} bytes",
                        status.as_u16(),
                        self.max_body
                    )));
                }
                Ok(None) => return Ok(Reply { status, headers, body }),
                Err(error) => {
                    return Err(CallError::unknown(format!(
                        "the answer of {place} broke off: {}",
                        reason(&error)
                    )));
                }
            }
        }
    }

    /// The client for an address. Loopback never goes through a proxy, whatever the environment
    /// says; plain HTTP needs no roots, so that a machine without any can still use it.
    fn client(&self, uri: &http::Uri) -> Result<&reqwest::Client, CallError> {
        let secure = uri.scheme_str() == Some("https");
        let near = is_loopback(uri.host().unwrap_or_default());
        let slot = &self.clients[usize::from(secure) * 2 + usize::from(near)];
        if let Some(client) = slot.get() {
            return Ok(client);
        }
        let mut builder = reqwest::Client::builder()
            .tls_backend_rustls()
            .user_agent(concat!("stanch/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_AT_MOST)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(self.timeout);
        if let Some(proxy) = &self.proxy {
            builder = builder.no_proxy().proxy(reqwest::Proxy::all(proxy.expose()).map_err(setup)?);
        } else if near {
            builder = builder.no_proxy();
        }
        if !secure {
            builder = builder.tls_certs_only([]);
        } else if let Some(pem) = &self.ca {
            builder = builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(pem).map_err(setup)?);
        } else if !self.more.is_empty() {
            let more = reqwest::Certificate::from_pem_bundle(&self.more).map_err(setup)?;
            builder = builder.tls_certs_merge(more);
        }
        if let Some(pem) = self.identity.as_ref().filter(|_| secure) {
            builder = builder.identity(reqwest::Identity::from_pem(pem.expose().as_bytes()).map_err(setup)?);
        }
        if self.skip_verify {
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        let client = builder.build().map_err(setup)?;
        Ok(slot.get_or_init(|| client))
    }
}

fn certificates(pem: &[u8], source: &str) -> Result<(), CallError> {
    match reqwest::Certificate::from_pem_bundle(pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(()),
        _ => Err(CallError::rejected(ErrorKind::Local, format!("{source} holds no CA certificate in PEM"))),
    }
}

fn setup(error: reqwest::Error) -> CallError {
    CallError::rejected(ErrorKind::Local, format!("cannot set up HTTP: {}", reason(&error)))
        .hint("check that this machine has CA certificates (package ca-certificates)")
}

/// Whether a host is this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What is known of a request that had no reply. Only what failed before a connection stood is
/// known to have changed nothing.
fn classify(error: &reqwest::Error, place: &str) -> CallError {
    if error.is_connect() && reason(error).contains("InvalidContentType") {
        CallError::rejected(ErrorKind::Unreachable, format!("{place} does not answer in TLS"))
            .hint("it may speak plain HTTP: write `http://` if that is meant, else check the port")
    } else if error.is_connect() {
        CallError::rejected(ErrorKind::Unreachable, format!("cannot connect to {place}: {}", reason(error)))
            .hint(if place.starts_with("https://") {
                "check the address, that the server runs, and that its certificate is trusted here"
            } else {
                "check the address, and that the server runs"
            })
    } else if error.is_builder() {
        CallError::rejected(ErrorKind::Invalid, format!("cannot make a request to {place}"))
    } else if error.is_timeout() {
        CallError::unknown(format!("{place} did not answer in time"))
    } else {
        CallError::unknown(format!("{place} did not answer: {}", reason(error)))
    }
}

/// The innermost cause: "Connection refused" says more than the layers around it.
fn reason(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    if std::ptr::addr_eq(inner, error) && error.url().is_some() {
        // Its text would hold the whole address.
        return "the request failed".to_owned();
    }
    sanitize(&inner.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_recognised_in_every_spelling() {
        for host in ["127.0.0.1", "localhost", "[::1]", "127.8.9.1", "LOCALHOST"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["example.com", "10.0.0.1", "localhost.example.com"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_wait_is_told_in_seconds_or_as_a_date() {
        let asks = |wait: &str, date: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert("retry-after", wait.parse().expect("header"));
            date.map(|date| headers.insert("date", date.parse().expect("header")));
            Reply { status: StatusCode::OK, headers, body: Vec::new() }.retry_after()
        };
        let now = Some("Thu, 26 Nov 2026 15:00:00 GMT");
        let seconds = |s| Some(Duration::from_secs(s));
        assert_eq!(asks(" 7 ", now), seconds(7));
        assert_eq!(asks("Thu, 26 Nov 2026 15:00:09 GMT", now), seconds(9));
        assert_eq!(asks("Thu, 26 Nov 2026 14:59:00 GMT", now), seconds(0), "it is past");
        assert_eq!(asks("Fri, 27 Nov 2026 15:00:00 GMT", now), Some(MAX_RETRY_AFTER));
        assert_eq!(asks("99999999999999999999", now), None);
        assert_eq!(asks("soon", now), None);
        assert_eq!(asks("-3", now), None);
        assert_eq!(
            asks("Wed, 21 Oct 2015 07:28:00 GMT", None),
            seconds(0),
            "our own clock, where it tells none"
        );
    }

    #[test]
    fn a_reply_shows_neither_headers_nor_body() {
        let reply = Reply { status: StatusCode::OK, headers: HeaderMap::new(), body: b"hunter2".to_vec() };
        let shown = format!("{reply:?}");
        assert!(shown.contains("200") && !shown.contains("hunter"), "{shown}");
    }
}
