//! A service that issues tokens, as three vendors publish their API and as one of the test's own has it: it keeps what it was told,
//! and can lie.

use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use stanch::clock::{Clock as _, SystemClock};

use crate::servers::unique;

/// Few, so that lists have several pages.
const PAGE: usize = 2;

/// Whose API it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Own,
    Gitlab,
    Cloudflare,
    Openai,
}

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Honest,
    /// Refuses every token.
    RefusesAll,
    /// Answers 500.
    Fails,
    /// Says yes to a revocation, and does nothing.
    RevokesNothing,
    /// Says everywhere that a token is revoked, and accepts it all the same.
    GoesOnAccepting,
    /// Creates one token whose response is lost.
    LosesCreate,
    /// Creates one token, and answers without it.
    KeepsSecret,
    /// Half of the list, and then nothing.
    CutsList,
    /// The first page again and again.
    Repeats,
    /// A page, and nothing that says whether it is the last one.
    LosesPaging,
    /// Everything under another name.
    Renames,
    /// A second limit, as GitHub has it.
    Throttles,
    /// A proxy in front of it finds no token by its id.
    Blocks,
    /// As it answers to whom may not see anything: no token, and an empty list.
    Hides,
    /// Names are cut, and one response to `create` is lost.
    CutsNames,
    /// Creates nothing, and returns the first token.
    ReturnsOld,
    /// Returns the id of the new token, and the value of the first.
    ReturnsOldValue,
    /// Returns the id of the new token, and the value of the operator's.
    MixesUpValues,
    /// Returns the value of the new token, and the id of the operator's.
    MixesUpIds,
    /// Returns the new token as its own id.
    ReturnsTokenAsId,
}

/// A token, as it is told and as it is.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) id: String,
    pub(crate) value: String,
    /// What was sent to create it, or to change it.
    pub(crate) body: Value,
    /// `active`, `disabled` or `revoked`.
    pub(crate) state: &'static str,
    accepted: bool,
    created: jiff::Timestamp,
}

pub(crate) struct Service {
    dialect: Dialect,
    inner: Mutex<Inner>,
    pub(crate) operator: String,
    pub(crate) url: String,
}

struct Inner {
    tokens: Vec<Token>,
    mode: Mode,
    made: u64,
    asked: Vec<String>,
}

impl Service {
    /// One with the operator's token and one of a service, which is returned.
    pub(crate) async fn start(dialect: Dialect) -> (Arc<Self>, Token) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let inner = Inner { tokens: Vec::new(), mode: Mode::Honest, made: 100, asked: Vec::new() };
        let operator = secret(dialect);
        let service = Arc::new(Self { dialect, inner: Mutex::new(inner), operator: operator.clone(), url });
        let old = {
            let mut inner = service.inner.lock().expect("lock");
            let mut body =
                json!({ "name": "deploy", "policies": ["p"], "scopes": ["read_api"], "access_level": 30 });
            body["expires_at"] = "2099-01-01".into();
            body["expires_on"] = "2099-01-01T00:00:00Z".into();
            let old = inner.create(dialect, body.clone());
            body["name"] = "operator".into();
            inner.create(dialect, body);
            inner.tokens[1].value = operator;
            old
        };
        let router = axum::Router::new().fallback(handle).with_state(Arc::clone(&service));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (service, old)
    }

    pub(crate) fn mode(&self, mode: Mode) {
        self.inner.lock().expect("lock").mode = mode;
    }

    /// Every token that is not revoked, but the operator's.
    pub(crate) fn tokens(&self) -> Vec<Token> {
        let inner = self.inner.lock().expect("lock");
        let living = |token: &&Token| token.state != "revoked" && token.value != self.operator;
        inner.tokens.iter().filter(living).cloned().collect()
    }

    /// The operator's token.
    pub(crate) fn own(&self) -> Token {
        let inner = self.inner.lock().expect("lock");
        inner.tokens.iter().find(|token| token.value == self.operator).expect("it is there").clone()
    }

    pub(crate) fn accepts(&self, value: &str) -> bool {
        self.inner.lock().expect("lock").accepts(value)
    }

    /// Changes what is kept of a token.
    pub(crate) fn set(&self, id: &str, field: &str, value: Value) {
        let mut inner = self.inner.lock().expect("lock");
        let token = inner.tokens.iter_mut().find(|token| token.id == id).expect("a token");
        token.body[field] = value;
    }

    /// Adds a token that is shown like this one.
    pub(crate) fn twin(&self, id: &str) {
        let mut inner = self.inner.lock().expect("lock");
        let like = inner.tokens.iter().find(|token| token.id == id).expect("a token").value.clone();
        let twin = inner.create(self.dialect, json!({ "name": "twin" })).id;
        let twin = inner.tokens.iter_mut().find(|token| token.id == twin).expect("a token");
        twin.value = format!("sk-admin-another-{}", &like[like.len() - 6..]);
    }

    /// Every request so far: method and path.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.inner.lock().expect("lock").asked.clone()
    }

    /// Whether the vendor lets a token be disabled.
    pub(crate) fn disables(&self) -> bool {
        matches!(self.dialect, Dialect::Own | Dialect::Cloudflare)
    }

    /// What is before the paths of the calls.
    pub(crate) fn base(&self) -> &'static str {
        match self.dialect {
            Dialect::Own => "/v1",
            Dialect::Gitlab => "/api/v4",
            Dialect::Cloudflare => "/client/v4",
            Dialect::Openai => "/v1",
        }
    }

    /// The address of a request that a token is used for.
    pub(crate) fn itself(&self) -> String {
        let path = match self.dialect {
            Dialect::Own => "/tokens/self",
            Dialect::Gitlab => "/personal_access_tokens/self",
            // `verify` answers to a token that is disabled.
            Dialect::Cloudflare => "/user/tokens",
            Dialect::Openai => "/organization/admin_api_keys?limit=1",
        };
        format!("{}{}{path}", self.url, self.base())
    }

    /// The issuer's fields in a runbook, in flow style.
    pub(crate) fn issuer(&self) -> &'static str {
        match self.dialect {
            Dialect::Own => OWN,
            Dialect::Gitlab => {
                "preset: gitlab-project-token, with: {project: group/app, scopes: [read_api], access_level: 30}, ttl: 30d"
            }
            Dialect::Cloudflare => "preset: cloudflare-user-token, with: {policies: [p]}, ttl: 30d",
            Dialect::Openai => "preset: openai-admin-key",
        }
    }

    /// The value of `scope` that goes with it.
    pub(crate) fn scope(&self) -> &'static str {
        match self.dialect {
            Dialect::Own | Dialect::Cloudflare => "{max_ttl: 30d}",
            Dialect::Gitlab => "{max_ttl: 30d, policies: [read_api]}",
            Dialect::Openai => "{}",
        }
    }
}

/// The calls of the test's own API.
const OWN: &str = r#"ttl: 30d, calls: {
        create: {path: /tokens, body: {name: "app {tag}", expires_at: "{expires.time}"}, secret: /token, id: /id},
        inspect: {path: "/tokens/{id}", alive: {at: /state, is: active}, disabled: {at: /state, is: disabled},
                  gone: {at: /state, is: revoked}, gone_status: [404], created: /created_at, expires: /expires_at},
        disable: {method: POST, path: "/tokens/{id}/disable"}, enable: {method: POST, path: "/tokens/{id}/enable"},
        revoke: {method: DELETE, path: "/tokens/{id}"},
        list: {path: /tokens, items: /tokens, id: /id, name: /name, next: {query: after, at: /next}},
        self: {path: /tokens/self, id: /id}}"#;

fn secret(dialect: Dialect) -> String {
    let prefix = match dialect {
        Dialect::Own => "own",
        Dialect::Gitlab => "glpat",
        Dialect::Cloudflare => "cf+/=",
        Dialect::Openai => "sk-admin",
    };
    // What an encoding changes, where the vendor's tokens may have it.
    format!("{prefix}-{}", uuid::Uuid::now_v7().simple())
}

impl Inner {
    fn create(&mut self, dialect: Dialect, body: Value) -> Token {
        self.made += 1;
        let id = match dialect {
            Dialect::Gitlab => self.made.to_string(),
            Dialect::Openai => unique("key_"),
            _ => unique("id"),
        };
        let created = SystemClock::new().now().wall;
        let token = Token { id, value: secret(dialect), body, state: "active", accepted: true, created };
        self.tokens.push(token.clone());
        token
    }

    fn accepts(&self, value: &str) -> bool {
        self.tokens.iter().any(|token| token.value == value && token.accepted)
    }
}

/// What is asked for.
enum Wish {
    Create,
    List,
    Itself,
    Inspect(String),
    Revoke(String),
    Set(String, Option<&'static str>),
}

fn wish(dialect: Dialect, method: &Method, path: &str) -> Option<Wish> {
    let (list, itself) = match dialect {
        Dialect::Own => ("/v1/tokens", "/v1/tokens/self"),
        // A slash in the name of a project is encoded.
        Dialect::Gitlab => {
            ("/api/v4/projects/group%2Fapp/access_tokens", "/api/v4/personal_access_tokens/self")
        }
        Dialect::Cloudflare => ("/client/v4/user/tokens", "/client/v4/user/tokens/verify"),
        Dialect::Openai => ("/v1/organization/admin_api_keys", ""),
    };
    if path == itself && method == Method::GET {
        return Some(Wish::Itself);
    }
    let rest = path.strip_prefix(list)?;
    let words: Vec<&str> = rest.split('/').skip(1).collect();
    Some(match (method.as_str(), &words[..]) {
        ("POST", []) => Wish::Create,
        ("GET", []) => Wish::List,
        ("GET", [id]) => Wish::Inspect((*id).to_owned()),
        ("DELETE", [id]) => Wish::Revoke((*id).to_owned()),
        ("POST", [id, "disable"]) if dialect == Dialect::Own => Wish::Set((*id).to_owned(), Some("disabled")),
        ("POST", [id, "enable"]) if dialect == Dialect::Own => Wish::Set((*id).to_owned(), Some("active")),
        ("PUT", [id]) if dialect == Dialect::Cloudflare => Wish::Set((*id).to_owned(), None),
        _ => return None,
    })
}

async fn handle(
    State(service): State<Arc<Service>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut inner = service.inner.lock().expect("lock");
    inner.asked.push(format!("{method} {}", uri.path()));
    let dialect = service.dialect;
    let bearer = headers.get("authorization").and_then(|v| v.to_str().ok()?.strip_prefix("Bearer "));
    let echo = [("x-request-id", bearer.unwrap_or_default().to_owned())];
    let fail = |status: u16| {
        // Servers quote what they were sent.
        let body = json!({ "message": format!("no {}", bearer.unwrap_or_default()) });
        (StatusCode::from_u16(status).expect("status"), echo.clone(), axum::Json(body)).into_response()
    };
    match inner.mode {
        Mode::Fails => return fail(500),
        Mode::Throttles => {
            return (StatusCode::FORBIDDEN, [("retry-after", "7")], echo, "").into_response();
        }
        Mode::RefusesAll => return fail(401),
        _ => {}
    }
    // `verify` answers to a token that is disabled.
    let verifies = dialect == Dialect::Cloudflare && uri.path().ends_with("/verify");
    let disabled =
        |value: &str| inner.tokens.iter().any(|token| token.value == value && token.state == "disabled");
    if !bearer.is_some_and(|value| inner.accepts(value) || (verifies && disabled(value))) {
        return fail(401);
    }
    let bearer = bearer.unwrap_or_default();
    let Some(wish) = wish(dialect, &method, uri.path()) else { return fail(404) };
    let sent: Value =
        if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).expect("JSON") };
    let removes = matches!(dialect, Dialect::Cloudflare | Dialect::Openai);
    let place = |inner: &Inner, id: &str| {
        let known = |token: &Token| token.id == id && !(removes && token.state == "revoked");
        inner.tokens.iter().position(known)
    };
    let blocked = matches!(inner.mode, Mode::Blocks | Mode::Hides);
    let found = match wish {
        Wish::Create => {
            if sent["name"].as_str().is_none_or(str::is_empty) {
                return fail(400);
            }
            let lost = matches!(inner.mode, Mode::LosesCreate | Mode::CutsNames);
            let mut sent = sent;
            if inner.mode == Mode::CutsNames {
                let name: String = sent["name"].as_str().expect("a name").chars().take(20).collect();
                sent["name"] = name.into();
            }
            let first = inner.tokens.iter().find(|token| token.value != service.operator).cloned();
            let first = first.expect("the old token");
            let operator = inner.tokens.iter().find(|token| token.value == service.operator).cloned();
            let operator = operator.expect("the operator's token");
            if inner.mode == Mode::ReturnsOld {
                return answer(&inner, told(dialect, &first, true));
            }
            let mut made = inner.create(dialect, sent);
            match inner.mode {
                Mode::ReturnsOldValue => made.value = first.value,
                Mode::MixesUpValues => made.value = operator.value,
                Mode::MixesUpIds => made.id = operator.id,
                Mode::ReturnsTokenAsId => {
                    let own = inner.tokens.last_mut().expect("it was just made");
                    own.id.clone_from(&own.value);
                    made.id.clone_from(&made.value);
                }
                _ => {}
            }
            if lost {
                inner.mode = Mode::Honest;
                return fail(502);
            }
            let mut told = told(dialect, &made, true);
            if inner.mode == Mode::KeepsSecret {
                inner.mode = Mode::Honest;
                told.as_object_mut().expect("an object").retain(|key, _| key != "token" && key != "value");
            }
            told
        }
        Wish::List => return page(&service, &inner, &uri),
        Wish::Itself => {
            let at = inner.tokens.iter().position(|token| token.value == bearer).expect("accepted");
            let mut token = inner.tokens[at].clone();
            if dialect == Dialect::Cloudflare && token.state == "revoked" {
                // The nearest that it can say.
                token.state = "disabled";
            }
            told(dialect, &token, false)
        }
        Wish::Inspect(_) | Wish::Revoke(_) | Wish::Set(..) if blocked => return fail(404),
        Wish::Inspect(id) => match place(&inner, &id) {
            Some(at) => told(dialect, &inner.tokens[at], false),
            None => return fail(404),
        },
        Wish::Revoke(id) => {
            let Some(at) = place(&inner, &id) else { return fail(404) };
            let mode = inner.mode;
            let token = &mut inner.tokens[at];
            if mode != Mode::RevokesNothing {
                token.state = "revoked";
                token.accepted = mode == Mode::GoesOnAccepting;
            }
            told(dialect, token, false)
        }
        Wish::Set(id, state) => {
            let Some(at) = place(&inner, &id) else { return fail(404) };
            let token = &mut inner.tokens[at];
            if dialect == Dialect::Cloudflare {
                // It is replaced as a whole, and what may not be set may not be sent.
                let needed = ["name", "policies", "status"].iter().all(|field| !sent[*field].is_null());
                if !needed || sent.get("id").is_some() || sent.get("issued_on").is_some() {
                    return fail(400);
                }
                token.body = sent.clone();
            }
            let disabled = state == Some("disabled") || sent["status"] == "disabled";
            token.state = if disabled { "disabled" } else { "active" };
            token.accepted = !disabled;
            told(dialect, token, false)
        }
    };
    let found = if dialect == Dialect::Cloudflare {
        json!({ "success": true, "errors": [], "messages": [], "result": found })
    } else {
        found
    };
    answer(&inner, found)
}

fn answer(inner: &Inner, body: Value) -> Response {
    let body = if inner.mode == Mode::Renames { json!({ "v2": body }) } else { body };
    axum::Json(body).into_response()
}

/// A token in the words of the vendor.
fn told(dialect: Dialect, token: &Token, with_secret: bool) -> Value {
    let Token { id, value, body, state, accepted: _, created } = token;
    let mut told = match dialect {
        Dialect::Own => json!({
            "id": id, "name": body["name"], "state": state, "created_at": created.to_string(),
            "expires_at": body["expires_at"], "token": value,
        }),
        Dialect::Gitlab => json!({
            "id": id.parse::<u64>().expect("a number"), "name": body["name"], "revoked": *state == "revoked",
            "active": *state == "active", "created_at": created.to_string(), "expires_at": body["expires_at"],
            "scopes": body["scopes"], "access_level": body["access_level"], "last_used_at": null, "user_id": 7,
            "token": value,
        }),
        Dialect::Cloudflare => json!({
            "id": id, "name": body["name"], "status": state, "policies": body["policies"],
            "issued_on": created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(), "modified_on": created.to_string(),
            "expires_on": body["expires_on"], "value": value,
        }),
        Dialect::Openai => json!({
            "object": "organization.admin_api_key", "id": id, "name": body["name"],
            "redacted_value": format!("sk-admin...{}", &value[value.len() - 6..]),
            "created_at": created.as_second(), "last_used_at": null, "value": value,
        }),
    };
    if !with_secret {
        told.as_object_mut().expect("an object").retain(|key, _| key != "token" && key != "value");
    }
    told
}

fn page(service: &Service, inner: &Inner, uri: &Uri) -> Response {
    let dialect = service.dialect;
    let removes = matches!(dialect, Dialect::Cloudflare | Dialect::Openai);
    let known = |token: &&Token| !(removes && token.state == "revoked");
    let all: Vec<&Token> = inner.tokens.iter().filter(known).filter(|_| inner.mode != Mode::Hides).collect();
    let asked = |name: &str| {
        let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).next_back()
    };
    let repeats = inner.mode == Mode::Repeats;
    let number = asked("page").filter(|_| !repeats).map_or(1, |page| page.parse().expect("a page"));
    let after = asked("after").filter(|_| !repeats);
    let from = match after {
        Some(id) => all.iter().position(|token| token.id == id).map_or(all.len(), |at| at + 1),
        None => (number - 1) * PAGE,
    };
    let items: Vec<Value> =
        all.iter().skip(from).take(PAGE).map(|token| told(dialect, token, false)).collect();
    let more = from + items.len() < all.len();
    let last = items.last().map_or(Value::Null, |item| item["id"].clone());
    let mut body = match dialect {
        Dialect::Own => json!({ "tokens": items, "next": more.then_some(last) }),
        Dialect::Gitlab => Value::Array(items),
        Dialect::Cloudflare => json!({
            "success": true, "result": items,
            "result_info": { "page": number, "total_pages": all.len().div_ceil(PAGE).max(1), "total_count": all.len() },
        }),
        Dialect::Openai => json!({ "object": "list", "data": items, "last_id": last, "has_more": more }),
    };
    let loses = inner.mode == Mode::LosesPaging;
    if loses && let Some(fields) = body.as_object_mut() {
        ["next", "result_info", "has_more"].iter().for_each(|field| drop(fields.remove(*field)));
    }
    if inner.mode == Mode::CutsList {
        let text = body.to_string();
        return text[..text.len() / 2].to_owned().into_response();
    }
    let mut response = answer(inner, body);
    if dialect == Dialect::Gitlab && !loses {
        let next = if more { (number + 1).to_string() } else { String::new() };
        response.headers_mut().insert("x-next-page", next.parse().expect("header"));
    }
    response
}
