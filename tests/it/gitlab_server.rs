//! Variables of GitLab, as its documentation and its published source say: projects, groups, scopes, masks, hidden values,
//! and what a job gets of them. It is not GitLab. It can lie.

use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::servers::unique;

/// The project, in the group `shop`, and its number.
pub(crate) const PROJECT: (&str, u64) = ("shop/web", 42);
pub(crate) const GROUP: (&str, u64) = ("shop", 7);

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Honest,
    /// Says yes to a write, and does nothing.
    SaysYes,
    /// Writes, and the answer is a failure of something else.
    Breaks,
    /// Answers a write with a log-in page, and does nothing.
    Page,
    /// Writes, and forgets the mask.
    Unmasks,
    /// Refuses a write, with what was sent in the words.
    Echoes,
    /// Too many requests.
    Throttles,
    /// The token may not see variables.
    Forbids,
    /// The project is hidden from the token.
    Hides,
    /// A proxy finds nothing.
    Blocks,
    /// Before GitLab 16.9: a write to a group goes by the key alone.
    OldGroups,
}

/// A variable, and what it belongs to.
#[derive(Debug, Clone)]
struct Variable {
    owner: String,
    fields: Value,
}

struct Inner {
    variables: Vec<Variable>,
    mode: Mode,
    writes: u64,
    /// The bodies of the writes.
    sent: Vec<Value>,
    scopes: Value,
}

pub(crate) struct Gitlab {
    inner: Mutex<Inner>,
    pub(crate) operator: String,
    pub(crate) url: String,
}

impl Gitlab {
    pub(crate) async fn start() -> Arc<Self> {
        let inner = Inner {
            variables: Vec::new(),
            mode: Mode::Honest,
            writes: 0,
            sent: Vec::new(),
            scopes: json!(["api"]),
        };
        let operator = unique("glpat-operator");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let gitlab = Arc::new(Self { inner: Mutex::new(inner), operator, url });
        let router = axum::Router::new().fallback(handle).with_state(Arc::clone(&gitlab));
        tokio::spawn(async move { axum::serve(listener, router).await });
        gitlab
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("lock")
    }

    pub(crate) fn mode(&self, mode: Mode) {
        self.inner().mode = mode;
    }

    /// What the operator's token may do.
    pub(crate) fn scopes(&self, scopes: Value) {
        self.inner().scopes = scopes;
    }

    /// Adds a variable of a project or a group, with these fields in the place of the defaults.
    pub(crate) fn add(&self, owner: &str, key: &str, value: &str, more: Value) {
        let mut fields = json!({
            "variable_type": "env_var", "key": key, "value": value, "hidden": false, "protected": false, "masked": false,
            "raw": false, "environment_scope": "*", "description": null,
        });
        more.as_object().expect("fields").iter().for_each(|(name, value)| fields[name] = value.clone());
        self.inner().variables.push(Variable { owner: owner.to_owned(), fields });
    }

    /// The fields of a variable.
    pub(crate) fn get(&self, owner: &str, key: &str, scope: &str) -> Value {
        let inner = self.inner();
        inner.variables[inner.at(owner, key, Some(scope))[0]].fields.clone()
    }

    /// Changes a variable as another would.
    pub(crate) fn set(&self, owner: &str, key: &str, scope: &str, field: &str, value: Value) {
        let mut inner = self.inner();
        let at = inner.at(owner, key, Some(scope))[0];
        inner.variables[at].fields[field] = value;
    }

    /// How many writes were done.
    pub(crate) fn writes(&self) -> u64 {
        self.inner().writes
    }

    /// What the last write said.
    pub(crate) fn last_sent(&self) -> Value {
        self.inner().sent.last().expect("a write").clone()
    }

    /// Where a job of the project in this environment gets a variable; of a protected branch or of another.
    pub(crate) fn job(&self, environment: &str, protected: bool, key: &str) -> String {
        format!("{}/job/{}/{protected}/{key}", self.url, environment.replace('/', "%2F"))
    }
}

impl Inner {
    /// The variables of a project or a group with this key, in this scope or in any.
    fn at(&self, owner: &str, key: &str, scope: Option<&str>) -> Vec<usize> {
        let fits = |variable: &Variable| {
            let fields = &variable.fields;
            variable.owner == owner
                && fields["key"] == key
                && scope.is_none_or(|s| fields["environment_scope"] == s)
        };
        (0..self.variables.len()).filter(|at| fits(&self.variables[*at])).collect()
    }

    /// What a job gets: the project's before the group's, the narrower scope before the wider, expanded unless it is raw.
    fn for_job(&self, environment: &str, protected: bool, key: &str) -> Option<String> {
        let reaches = |variable: &&Variable| {
            let fields = &variable.fields;
            let scope = fields["environment_scope"].as_str().expect("a scope");
            let fits = scope == environment
                || scope.strip_suffix('*').is_some_and(|start| environment.starts_with(start));
            fits && fields["key"] == key && (protected || fields["protected"] == false)
        };
        let rank = |variable: &&Variable| {
            let scope = variable.fields["environment_scope"].as_str().expect("a scope").len();
            (variable.owner.starts_with("projects/"), scope)
        };
        let found = self.variables.iter().filter(reaches).max_by_key(rank)?;
        let value = found.fields["value"].as_str()?.to_owned();
        if found.fields["raw"] == true || !value.contains('$') {
            return Some(value);
        }
        // What follows a `$` names a variable; there is none here.
        Some(value.split('$').next().unwrap_or_default().to_owned())
    }
}

/// By `app/models/concerns/ci/maskable.rb`.
fn can_be_masked(value: &str, raw: bool) -> bool {
    let expanded = |c: char| c.is_ascii_alphanumeric() || "_+=/@:.~-".contains(c);
    let fits = |c: char| if raw { !c.is_ascii_whitespace() } else { expanded(c) };
    value.chars().count() >= 8 && value.chars().all(fits)
}

fn say(status: u16, message: impl Into<Value>) -> Response {
    let body = json!({ "message": message.into() });
    (StatusCode::from_u16(status).expect("a status"), axum::Json(body)).into_response()
}

async fn handle(
    State(gitlab): State<Arc<Gitlab>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut inner = gitlab.inner();
    let words: Vec<String> = uri
        .path()
        .split('/')
        .skip(1)
        .map(|word| percent_decode_str(word).decode_utf8().expect("UTF-8").into_owned())
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let ["job", environment, protected, key] = words[..] {
        return match inner.for_job(environment, protected == "true", key) {
            Some(value) => value.into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        };
    }
    if method == Method::HEAD {
        return StatusCode::OK.into_response();
    }
    match inner.mode {
        Mode::Throttles => {
            return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "7")], "Retry later").into_response();
        }
        Mode::Blocks => return (StatusCode::NOT_FOUND, "<html>no such page</html>").into_response(),
        _ => {}
    }
    if headers.get("private-token").is_none_or(|token| token.as_bytes() != gitlab.operator.as_bytes()) {
        return say(401, "401 Unauthorized");
    }
    let ["api", "v4", rest @ ..] = &words[..] else { return StatusCode::OK.into_response() };
    if let ["personal_access_tokens", "self"] = rest {
        return axum::Json(json!({ "id": 1, "active": true, "scopes": inner.scopes })).into_response();
    }
    let [kind, name, rest @ ..] = rest else { return say(404, "404 Not Found") };
    let (what, known) = if *kind == "projects" { ("Project", PROJECT) } else { ("Group", GROUP) };
    if inner.mode == Mode::Hides || (*name != known.0 && *name != known.1.to_string()) {
        return say(404, format!("404 {what} Not Found"));
    }
    if inner.mode == Mode::Forbids {
        return say(403, "403 Forbidden");
    }
    let key = match rest {
        [] => return axum::Json(json!({ "id": known.1, "path": known.0 })).into_response(),
        ["variables", key] => *key,
        _ => return say(404, "404 Not Found"),
    };
    let filter = uri.query().unwrap_or_default().split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let decoded = |text: &str| {
            percent_decode_str(&text.replace('+', " ")).decode_utf8().expect("UTF-8").into_owned()
        };
        (decoded(name) == "filter[environment_scope]").then(|| decoded(value))
    });
    let owner = format!("{kind}/{}", known.0);
    let by_key_alone = inner.mode == Mode::OldGroups && *kind == "groups" && method == Method::PUT;
    let found = inner.at(&owner, key, filter.as_deref().filter(|_| !by_key_alone));
    let at = match found[..] {
        [] => {
            return say(
                404,
                if what == "Group" { "404 GroupVariable Not Found" } else { "404 Variable Not Found" },
            );
        }
        [first, ..] if by_key_alone => first,
        [only] => only,
        _ => {
            return say(
                409,
                "There are multiple variables with provided parameters. Please use 'filter[environment_scope]'",
            );
        }
    };
    if method == Method::GET {
        return axum::Json(told(&inner.variables[at].fields)).into_response();
    }
    assert_eq!(method, Method::PUT, "nothing else is asked");
    let sent: Value = serde_json::from_slice(&body).expect("JSON");
    inner.sent.push(sent.clone());
    match inner.mode {
        Mode::SaysYes => {
            let mut after = inner.variables[at].fields.clone();
            after["value"] = sent["value"].clone();
            return axum::Json(told(&after)).into_response();
        }
        Mode::Page => return "<html>log in</html>".into_response(),
        Mode::Echoes => return say(400, json!({ "value": [format!("{} is invalid", sent["value"])] })),
        _ => {}
    }
    let mut after = inner.variables[at].fields.clone();
    for (name, value) in sent.as_object().expect("an object") {
        after[name] = value.clone();
    }
    let taken = inner.at(&owner, key, after["environment_scope"].as_str());
    if taken.iter().any(|other| *other != at) {
        return say(400, json!({ "key": [format!("({key}) has already been taken")] }));
    }
    let value = after["value"].as_str().expect("a value");
    if after["masked"] == true && !can_be_masked(value, after["raw"] == true) {
        return say(400, json!({ "value": ["is invalid"] }));
    }
    if inner.mode == Mode::Unmasks {
        after["masked"] = false.into();
    }
    inner.variables[at].fields = after.clone();
    inner.writes += 1;
    match inner.mode {
        Mode::Breaks => (StatusCode::BAD_GATEWAY, "<html>").into_response(),
        _ => axum::Json(told(&after)).into_response(),
    }
}

/// A variable as it is shown.
fn told(fields: &Value) -> Value {
    let mut told = fields.clone();
    if told["hidden"] == true {
        told["value"] = Value::Null;
    }
    told
}
