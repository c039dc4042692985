//! What servers answer: whole adapters against replies that the input holds.
//!
//! The first byte chooses what is asked. The rest is the replies, apart by a line `=====`: the first
//! line of each is its status, header lines follow up to an empty line, and then the body. The last
//! reply is given again and again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::steers;
use crate::clock::SystemClock;
use crate::domain::{Check, Identity};
use crate::kind::aws::AwsClient;
use crate::kind::aws::access_key::AccessKeyIssuer;
use crate::kind::aws::secretsmanager::SecretsManagerStore;
use crate::kind::http::server::{HttpAttest, HttpGate, HttpProbe};
use crate::kind::vault::kv2::{Kv2Place, Kv2Store};
use crate::kind::vault::token::{TokenIssuer, TokenSpec};
use crate::kind::vault::{Settings, VaultClient};
use crate::kind::{aws, vault};
use crate::provider::http::HttpCaller;
use crate::provider::http::transport::{Reply, Transport};
use crate::provider::layout::Layout;
use crate::provider::{Call, CallContext, CallError, Gate, Issuer, Probe, Question as _, Store, Use};
use crate::runbook::model::HttpMethod;
use crate::secret::{Material, Secret};

/// The credential that servers are sent, which no message may quote whatever they echo.
const OWN: &str = "hvs.the-operators-own-token";

thread_local! {
    /// Whether this server was sent it.
    static SENT: std::cell::Cell<bool> = const { std::cell::Cell::new(true) };
}

/// Drives a future on a runtime of this thread's own.
fn block_on<F: Future>(future: F) -> F::Output {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

fn parse(bytes: &[u8]) -> (u8, Vec<Reply>) {
    const BETWEEN: &[u8] = b"\n=====\n";
    let Some((&choice, mut rest)) = bytes.split_first() else { return (0, Vec::new()) };
    let mut replies = Vec::new();
    while replies.len() < 16 {
        let end = rest.windows(BETWEEN.len()).position(|w| w == BETWEEN);
        replies.extend(reply(&rest[..end.unwrap_or(rest.len())]));
        match end {
            Some(end) => rest = &rest[end + BETWEEN.len()..],
            None => break,
        }
    }
    (choice, replies)
}

fn reply(bytes: &[u8]) -> Option<Reply> {
    let (head, body) = match bytes.windows(2).position(|w| w == b"\n\n") {
        Some(at) => (&bytes[..at], &bytes[at + 2..]),
        None => (bytes, &[][..]),
    };
    let mut lines = head.split(|b| *b == b'\n');
    let status = http::StatusCode::from_bytes(lines.next()?).ok()?;
    let mut headers = http::HeaderMap::new();
    for line in lines {
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let value = line[colon + 1..].trim_ascii();
        if let (Ok(name), Ok(value)) =
            (http::HeaderName::from_bytes(&line[..colon]), http::HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    }
    Some(Reply { status, headers, body: body.to_vec() })
}

/// What is said to a person, or recorded, must neither steer a terminal nor quote what is secret.
fn calm(text: &str) {
    assert!(!steers(text), "it steers the terminal: {text:?}");
    let quotes = text.contains(OWN) && SENT.get();
    assert!(!quotes, "it quotes the credential that the server was sent: {text:?}");
}

fn judge(error: &CallError) {
    calm(&error.message);
    error.hint.iter().for_each(|text| calm(text));
    error.request_id.iter().for_each(|text| calm(text));
}

fn judge_all(checks: &[Check]) {
    for check in checks {
        calm(&check.name);
        calm(&check.detail);
        check.hint.iter().for_each(|text| calm(text));
    }
}

fn settle<T>(result: Result<T, CallError>) -> Option<T> {
    result.inspect_err(judge).ok()
}

fn note<T>(result: Result<T, CallError>) {
    settle(result);
}

fn context() -> CallContext {
    CallContext {
        run: "run".to_owned(),
        step: "prepare/app/issue".to_owned(),
        token: Uuid::nil(),
        since: Timestamp::UNIX_EPOCH,
        last: Timestamp::UNIX_EPOCH,
        siblings: Vec::new(),
        before: Default::default(),
        expected: None,
        ahead: crate::provider::Ahead::default(),
        held: None,
        outgoing: None,
    }
}

fn identity() -> Identity {
    Identity { handle: "handle".to_owned(), principal: "principal".to_owned() }
}

/// Everything that is asked of an issuer.
async fn issuer(issuer: &dyn Issuer, choice: u8, material: &Material) {
    let context = context();
    match choice {
        0 => judge_all(&issuer.preflight(Some(&identity())).await),
        1 => note(issuer.identify(material).await),
        2 => note(issuer.issue(&context, None).await),
        3 => note(issuer.find(&context, &["handle".to_owned()]).await),
        4 => note(issuer.existing().await),
        5 => {
            if let Some(grant) = settle(issuer.inspect("handle").await) {
                grant.wider.iter().for_each(|text| calm(text));
            }
        }
        6 => note(issuer.life("handle").await),
        7 => note(issuer.revoke(&context, "handle", Some(material)).await),
        8 => {
            if let Some(Use::Refused(why)) = settle(issuer.attempt(material).await) {
                calm(&why);
            }
        }
        9 => note(issuer.disable(&context, "handle").await),
        _ => note(issuer.enable(&context, "handle").await),
    }
}

/// Everything that is asked of a store.
async fn store(store: &dyn Store, choice: u8, material: &Material) {
    let context = context();
    match choice {
        0 => judge_all(&store.preflight().await),
        1 => note(store.observe().await),
        2 => note(store.read(None).await),
        3 => note(store.read(Some("1")).await),
        4 => note(store.stage(&context, material).await),
        5 => note(store.promote(&context, material, material, None).await),
        6 => note(store.promote(&context, material, material, Some("2")).await),
        7 => note(store.retire(&context, "2").await),
        _ => note(store.destroy(&context, "1", material).await),
    }
}

/// Vault's answers.
pub fn vault(bytes: &[u8]) {
    SENT.set(true);
    let (choice, replies) = parse(bytes);
    let settings = Settings {
        address: "http://127.0.0.1:8200".parse().expect("an address"),
        token: Some(Secret::new(OWN)),
        namespace: (choice & 0x80 > 0).then(|| "team".to_owned()),
        ca_cert: None,
        skip_verify: false,
        more: vault::More::default(),
    };
    let client = VaultClient::new(settings, Duration::from_secs(1)).expect("a client").answering(replies);
    let client = Arc::new(client);
    let material = Material::single("token", Secret::new("hvs.somebody-elses-token"));
    block_on(async {
        match choice & 0x7f {
            ask @ 0..=10 => {
                let spec = TokenSpec {
                    name: "app".to_owned(),
                    role: Some("app".to_owned()),
                    policies: vec!["app".to_owned()],
                    ttl: Duration::from_secs(60),
                    max_ttl: Some(Duration::from_secs(120)),
                    num_uses: 3,
                    bound_cidrs: vec!["10.0.0.1/32".to_owned()],
                    audience: Some("web".to_owned()),
                };
                issuer(&TokenIssuer::new(client, spec), ask, &material).await;
            }
            ask @ 11..=20 => {
                let layout = Layout::new(&["token"], Some("token"), &BTreeMap::new()).expect("a layout");
                let place = Kv2Place::new("secret", "app/vault").expect("a place");
                store(&Kv2Store::new(client, place, layout, true), ask - 11, &material).await;
            }
            _ => judge_all(&vault::preflight(&client, &SystemClock::new()).await),
        }
    });
}

/// AWS' answers, read by its own SDK.
pub fn aws(bytes: &[u8]) {
    SENT.set(false);
    let (choice, replies) = parse(bytes);
    // A secret key is never sent, so that there is nothing to echo.
    let client = Arc::new(AwsClient::answering(("AKIAOPERATOR", &Secret::new("an-operators-key")), replies));
    let material = Material::single("access_key_id", Secret::new("AKIAOUTGOINGOUTGOING"))
        .with("secret_access_key", Secret::new("an-outgoing-secret-key"));
    block_on(async {
        match choice {
            ask @ 0..=10 => issuer(&AccessKeyIssuer::new(client, "app".to_owned()), ask, &material).await,
            ask @ 11..=20 => {
                let fields = BTreeMap::from([
                    ("access_key_id".to_owned(), "id".to_owned()),
                    ("secret_access_key".to_owned(), "key".to_owned()),
                ]);
                let layout =
                    Layout::new(&["access_key_id", "secret_access_key"], None, &fields).expect("a layout");
                store(&SecretsManagerStore::new(client, "app".to_owned(), layout), ask - 11, &material).await;
            }
            _ => judge_all(&aws::preflight(&client, &SystemClock::new()).await),
        }
    });
}

/// The answers of relying parties, consumers and monitoring.
pub fn http(bytes: &[u8]) {
    SENT.set(true);
    let (choice, replies) = parse(bytes);
    let transport = Arc::new(Transport::new(Duration::from_secs(1)).answering(replies));
    let url = "http://127.0.0.1:1/v1/x?key=query".to_owned();
    let pointer = ["", "/v", "/data/result/0/value/1", "/0"][usize::from(choice >> 6)].to_owned();
    let material = Material::single("value", Secret::new(OWN));
    block_on(async {
        match choice % 4 {
            0 => {
                let urls = vec![url.clone(), url];
                for answer in HttpAttest::new(transport, urls, pointer).ask().await {
                    note(answer);
                }
            }
            1 => {
                let gate = HttpGate::new(transport, url, pointer, Some(0.05), Some(-1.0), 2);
                for _ in 0..3 {
                    calm(&gate.evaluate().await.detail);
                }
            }
            2 => {
                let probe = HttpProbe {
                    transport,
                    method: HttpMethod::Get,
                    url,
                    bearer: true,
                    header: None,
                    expect: 200,
                    refuse: vec![401, 403],
                };
                if let Some(Use::Refused(why)) = settle(probe.attempt(&material).await) {
                    calm(&why);
                }
            }
            _ => {
                let call = serde_json::json!({ "method": "POST", "url": url, "body": "${secret}" });
                let call = serde_json::from_value(call).expect("a call");
                note(HttpCaller::new(transport, call).perform(&context(), Some(&material)).await);
            }
        }
    });
}
