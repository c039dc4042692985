//! GitHub's API for secrets of Actions, as its documentation publishes it, and a runner that gets the opened secret when its
//! job starts. It is not GitHub: what is proved with it is proved against what is published.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_box::SecretKey;
use serde_json::{Value, json};
use stanch::clock::{Clock as _, SystemClock};

use crate::servers::unique;

/// Few, so that lists have several pages.
const PAGE: usize = 2;

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Honest,
    /// Answers 204 to a write, and does nothing.
    Lies,
    /// Answers 204 to a write, and changes nothing but the time.
    LiesWell,
    /// Does one write, and its answer is a failure of something else.
    LosesReply,
    /// Does not do one write, whose answer is such a failure. An hour later another writes.
    LosesWrite,
    /// Refuses one write for the number of requests, with the time to wait in a header.
    Limits,
    /// The same in words alone.
    LimitsInWords,
    /// The same for the number of requests in this hour.
    LimitsPerHour,
    /// Refuses every write.
    Forbids,
    /// Hides every secret, as from a token that may see none.
    Hides,
    /// Takes a new key once the key was asked for.
    ChangesKey,
    /// A list of repositories that is cut short.
    CutsList,
}

struct Kept {
    name: String,
    value: String,
    updated: i64,
    visibility: Option<String>,
    selected: Vec<u64>,
}

struct Inner {
    secrets: BTreeMap<String, Kept>,
    mode: Mode,
    key: SecretKey,
    key_id: u64,
    puts: u64,
    asked: Vec<String>,
    scopes: Option<&'static str>,
}

pub(crate) struct Github {
    pub(crate) url: String,
    pub(crate) operator: String,
    inner: Mutex<Inner>,
}

fn now() -> i64 {
    SystemClock::new().now().wall.as_second()
}

fn key() -> SecretKey {
    SecretKey::generate(&mut rand::rngs::OsRng)
}

impl Github {
    pub(crate) async fn start() -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let inner = Inner {
            secrets: BTreeMap::new(),
            mode: Mode::Honest,
            key: key(),
            key_id: 568_250_167_242_549_743,
            puts: 0,
            asked: Vec::new(),
            scopes: None,
        };
        let github = Arc::new(Self {
            url: format!("http://{}", listener.local_addr().expect("address")),
            operator: unique("github_pat_operator"),
            inner: Mutex::new(inner),
        });
        let router = axum::Router::new().fallback(handle).with_state(Arc::clone(&github));
        tokio::spawn(async move { axum::serve(listener, router).await });
        github
    }

    pub(crate) fn mode(&self, mode: Mode) {
        self.inner.lock().expect("lock").mode = mode;
    }

    /// With a classic token of these scopes.
    pub(crate) fn scopes(&self, scopes: &'static str) {
        self.inner.lock().expect("lock").scopes = Some(scopes);
    }

    /// Writes a secret as another program does, so many seconds ago. `owner` is the path of its owner's secrets.
    pub(crate) fn write(&self, owner: &str, name: &str, value: &str, ago: i64) {
        let (name, value, updated) = (name.to_owned(), value.to_owned(), now() - ago);
        let kept = Kept { name, value, updated, visibility: None, selected: Vec::new() };
        self.inner.lock().expect("lock").secrets.insert(path(owner, &kept.name), kept);
    }

    /// The same in an organization.
    pub(crate) fn write_for(&self, owner: &str, name: &str, visibility: &str, selected: &[u64]) {
        self.write(owner, name, "old", 60);
        let mut inner = self.inner.lock().expect("lock");
        let kept = inner.secrets.get_mut(&path(owner, name)).expect("a secret");
        (kept.visibility, kept.selected) = (Some(visibility.to_owned()), selected.to_vec());
    }

    pub(crate) fn remove(&self, owner: &str, name: &str) {
        self.inner.lock().expect("lock").secrets.remove(&path(owner, name));
    }

    /// What a job gets that starts now.
    pub(crate) fn value(&self, owner: &str, name: &str) -> String {
        self.inner.lock().expect("lock").secrets[&path(owner, name)].value.clone()
    }

    /// Who may use a secret.
    pub(crate) fn used_by(&self, owner: &str, name: &str) -> (Option<String>, Vec<u64>) {
        let inner = self.inner.lock().expect("lock");
        let kept = &inner.secrets[&path(owner, name)];
        (kept.visibility.clone(), kept.selected.clone())
    }

    /// How many writes it took.
    pub(crate) fn puts(&self) -> u64 {
        self.inner.lock().expect("lock").puts
    }

    /// Every request so far: method and path.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.inner.lock().expect("lock").asked.clone()
    }

    /// The address where a job of the runner gets a secret.
    pub(crate) fn job(&self, owner: &str, name: &str) -> String {
        format!("{}/runner{}", self.url, path(owner, name))
    }
}

/// Names are the same in capital letters.
fn path(owner: &str, name: &str) -> String {
    format!("{owner}/{}", name.to_uppercase())
}

fn says(status: u16, message: &str) -> Response {
    let body = json!({ "message": message, "documentation_url": "https://docs.github.com/rest", "status": status.to_string() });
    (StatusCode::from_u16(status).expect("status"), axum::Json(body)).into_response()
}

async fn handle(
    State(github): State<Arc<Github>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut inner = github.inner.lock().expect("lock");
    if let Some(secret) = uri.path().strip_prefix("/runner") {
        return match inner.secrets.get(secret) {
            Some(kept) => kept.value.clone().into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        };
    }
    inner.asked.push(format!("{method} {}", uri.path()));
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if header("user-agent").is_empty() {
        return says(403, "Request forbidden by administrative rules.");
    }
    if method == Method::HEAD {
        return StatusCode::OK.into_response();
    }
    if header("accept") != "application/vnd.github+json" || header("x-github-api-version") != "2022-11-28" {
        return says(400, "Bad Request");
    }
    if header("authorization") != format!("Bearer {}", github.operator) {
        return says(401, "Bad credentials");
    }
    let scopes = inner.scopes.map(|scopes| [("x-oauth-scopes", scopes)]);
    let answer = inner.answer(&method, &uri, &body);
    match scopes {
        Some(scopes) => (scopes, answer).into_response(),
        None => answer,
    }
}

impl Inner {
    fn answer(&mut self, method: &Method, uri: &Uri, body: &Bytes) -> Response {
        let Some((owner, name)) = uri.path().rsplit_once('/') else { return says(404, "Not Found") };
        if name == "public-key" {
            let answer = json!({ "key_id": self.key_id.to_string(), "key": STANDARD.encode(self.key.public_key().as_bytes()) });
            if self.mode == Mode::ChangesKey {
                (self.key, self.key_id, self.mode) = (key(), self.key_id + 1, Mode::Honest);
            }
            return axum::Json(answer).into_response();
        }
        if name == "repositories" {
            return self.repositories(owner, uri.query().unwrap_or_default());
        }
        let at = path(owner, name);
        let found = self.secrets.get(&at).filter(|_| self.mode != Mode::Hides);
        match (method.as_str(), found) {
            ("GET", None) => says(404, "Not Found"),
            ("GET", Some(kept)) => {
                let time = |at: i64| jiff::Timestamp::from_second(at).expect("a time").to_string();
                let mut answer = json!({ "name": kept.name.to_uppercase(), "created_at": time(0), "updated_at": time(kept.updated) });
                if let Some(visibility) = &kept.visibility {
                    answer["visibility"] = visibility.as_str().into();
                }
                axum::Json(answer).into_response()
            }
            ("PUT", _) => self.put(at, name, &serde_json::from_slice(body).unwrap_or_default()),
            _ => says(404, "Not Found"),
        }
    }

    fn put(&mut self, at: String, name: &str, sent: &Value) -> Response {
        let mode = self.mode;
        match mode {
            Mode::Limits => {
                self.mode = Mode::Honest;
                let answer = says(403, "You have exceeded a secondary rate limit.");
                return ([("retry-after", "1")], answer).into_response();
            }
            Mode::LimitsInWords => {
                self.mode = Mode::Honest;
                return says(403, "You have exceeded a secondary rate limit. Please wait a few minutes.");
            }
            Mode::LimitsPerHour => {
                self.mode = Mode::Honest;
                let (reset, left) = ((now() + 40).to_string(), "0".to_owned());
                let limits = [("x-ratelimit-remaining", left), ("x-ratelimit-reset", reset)];
                return (limits, says(403, "API rate limit exceeded for user ID 1.")).into_response();
            }
            Mode::LosesWrite => {
                self.mode = Mode::Honest;
                let kept = self.secrets.get_mut(&at).expect("a secret");
                (kept.value, kept.updated) = ("theirs".to_owned(), now() + 3600);
                return (StatusCode::BAD_GATEWAY, "<html>").into_response();
            }
            Mode::Forbids => return says(403, "Resource not accessible by personal access token"),
            Mode::Hides => return says(404, "Not Found"),
            _ => {}
        }
        let sealed = sent["encrypted_value"].as_str().and_then(|text| STANDARD.decode(text).ok());
        let opened = sealed.and_then(|sealed| self.key.unseal(&sealed).ok());
        let value = opened.and_then(|bytes| String::from_utf8(bytes).ok());
        let Some(value) =
            value.filter(|_| sent["key_id"].as_str().and_then(|id| id.parse().ok()) == Some(self.key_id))
        else {
            return says(422, "Improperly encrypted secret");
        };
        self.puts += 1;
        let before = self.secrets.remove(&at);
        let status = if before.is_some() { StatusCode::NO_CONTENT } else { StatusCode::CREATED };
        let mut kept = before.unwrap_or(Kept {
            name: name.to_owned(),
            value: String::new(),
            updated: 0,
            visibility: None,
            selected: Vec::new(),
        });
        if mode != Mode::Lies {
            kept.updated = now();
        }
        if !matches!(mode, Mode::Lies | Mode::LiesWell) {
            kept.value = value;
            let ids = sent["selected_repository_ids"].as_array().into_iter().flatten();
            kept.visibility = sent["visibility"].as_str().map(str::to_owned);
            kept.selected = ids.filter_map(Value::as_u64).collect();
        }
        self.secrets.insert(at, kept);
        match mode {
            Mode::LosesReply => {
                self.mode = Mode::Honest;
                (StatusCode::BAD_GATEWAY, "<html>").into_response()
            }
            _ => status.into_response(),
        }
    }

    fn repositories(&self, secret: &str, query: &str) -> Response {
        let Some((owner, name)) = secret.rsplit_once('/') else { return says(404, "Not Found") };
        let Some(kept) = self.secrets.get(&path(owner, name)) else { return says(404, "Not Found") };
        let page = query.split('&').find_map(|pair| pair.strip_prefix("page=")?.parse::<usize>().ok());
        let page = page.unwrap_or(1);
        let shown = kept.selected.iter().skip((page - 1) * PAGE).take(PAGE);
        let shown: Vec<Value> = shown
            .filter(|_| self.mode != Mode::CutsList || page == 1)
            .map(|id| json!({ "id": id, "name": "a" }))
            .collect();
        axum::Json(json!({ "total_count": kept.selected.len(), "repositories": shown })).into_response()
    }
}
