//! An appliance that stanch does not know: one secret behind an HTTP API with ETags, of the tests' own. stanch reaches it by
//! the program that is shipped as an example.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use stanch::clock::{Clock as _, SystemClock};
use stanch::secret::Secret;

use crate::servers::unique;

/// Where the secret is.
const SECRET: &str = "/secrets/app-key";

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Honest,
    /// Says yes to a write, and does nothing.
    Lies,
    /// Says yes to a write, and changes nothing but the version.
    LiesWell,
    /// Does one write, and its answer is a failure.
    LosesReply,
    /// Another writes right before the next write.
    Overtaken,
    /// Its version is the value.
    ShowsValue,
    /// Its version is the SHA-256 of the value.
    ShowsDigest,
    /// The same, from the next write on.
    ShowsValueLater,
    ShowsDigestLater,
}

struct Inner {
    value: String,
    version: u64,
    changed: jiff::Timestamp,
    writes: u64,
    mode: Mode,
}

pub(crate) struct Appliance {
    pub(crate) url: String,
    pub(crate) operator: String,
    inner: Mutex<Inner>,
}

fn now() -> jiff::Timestamp {
    SystemClock::new().now().wall
}

/// The program that is shipped as an example.
pub(crate) fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("runbooks/stores/http-secret")
}

impl Appliance {
    pub(crate) async fn start(value: &str) -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let inner =
            Inner { value: value.to_owned(), version: 7, changed: now(), writes: 0, mode: Mode::Honest };
        let appliance = Arc::new(Self {
            url: format!("http://{}", listener.local_addr().expect("address")),
            operator: unique("operator-of-the-appliance"),
            inner: Mutex::new(inner),
        });
        let router = axum::Router::new().fallback(handle).with_state(Arc::clone(&appliance));
        tokio::spawn(async move { axum::serve(listener, router).await });
        appliance
    }

    pub(crate) fn mode(&self, mode: Mode) {
        self.inner.lock().expect("lock").mode = mode;
    }

    /// What a consumer gets.
    pub(crate) fn value(&self) -> String {
        self.inner.lock().expect("lock").value.clone()
    }

    /// Where a consumer gets it.
    pub(crate) fn shown(&self) -> String {
        format!("{}/shown", self.url)
    }

    /// How many writes it took.
    pub(crate) fn writes(&self) -> u64 {
        self.inner.lock().expect("lock").writes
    }

    /// Writes as another program does.
    pub(crate) fn write(&self, value: &str) {
        self.inner.lock().expect("lock").write(value);
    }
}

impl Inner {
    fn write(&mut self, value: &str) {
        (self.value, self.version, self.changed) = (value.to_owned(), self.version + 1, now());
    }

    fn etag(&self) -> String {
        match self.mode {
            Mode::ShowsValue => self.value.clone(),
            Mode::ShowsDigest => Secret::new(self.value.as_str()).sha256_hex(),
            _ => format!("\"{}\"", self.version),
        }
    }

    fn answer(&mut self, method: &Method, headers: &HeaderMap, body: &Bytes) -> Response {
        if method == Method::PUT {
            if self.mode == Mode::Overtaken {
                self.mode = Mode::Honest;
                let same = self.value.clone();
                self.write(&same);
            }
            let sent: Value = serde_json::from_slice(body).unwrap_or_default();
            let Some(value) = sent["value"].as_str() else { return StatusCode::BAD_REQUEST.into_response() };
            let wanted = headers.get("if-match").and_then(|etag| etag.to_str().ok());
            if wanted != Some(self.etag().as_str()) {
                return StatusCode::PRECONDITION_FAILED.into_response();
            }
            self.writes += 1;
            match self.mode {
                Mode::Lies => {}
                Mode::LiesWell => self.version += 1,
                _ => self.write(value),
            }
            self.mode = match self.mode {
                Mode::ShowsValueLater => Mode::ShowsValue,
                Mode::ShowsDigestLater => Mode::ShowsDigest,
                mode => mode,
            };
            if self.mode == Mode::LosesReply {
                self.mode = Mode::Honest;
                return StatusCode::BAD_GATEWAY.into_response();
            }
        }
        let changed = self.changed.strftime("%a, %d %b %Y %T GMT").to_string();
        let about = [("etag", self.etag()), ("last-modified", changed)];
        let body =
            if method == Method::GET { json!({ "value": self.value }).to_string() } else { String::new() };
        (about, body).into_response()
    }
}

async fn handle(
    State(appliance): State<Arc<Appliance>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if uri.path() == "/shown" {
        return appliance.value().into_response();
    }
    let told = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if told != format!("Bearer {}", appliance.operator) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if uri.path() != SECRET {
        return StatusCode::NOT_FOUND.into_response();
    }
    appliance.inner.lock().expect("lock").answer(&method, &headers, &body)
}
