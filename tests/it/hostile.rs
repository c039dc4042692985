//! Servers that mean harm, or that something else answers for: whatever they send, a call ends with
//! an error in time, reads no more than its bound, says nothing that could harm a terminal, tells
//! no other host a secret, and is never taken for a success.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use stanch::clock::SystemClock;
use stanch::domain::{Check, CheckVerdict, ErrorKind, Verdict};
use stanch::kind::aws::AwsClient;
use stanch::kind::aws::access_key::AccessKeyIssuer;
use stanch::kind::aws::secretsmanager::SecretsManagerStore;
use stanch::kind::aws::ssm_parameter::ParameterStore;
use stanch::kind::real::RealProvider;
use stanch::kind::vault::VaultClient;
use stanch::kind::vault::database::LeaseIssuer;
use stanch::kind::vault::kv2::{Kv2Place, Kv2Store};
use stanch::kind::vault::pki::CertificateIssuer;
use stanch::kind::vault::token::{TokenIssuer, TokenSpec};
use stanch::kind::vault::userpass::UserIssuer;
use stanch::provider::layout::Layout;
use stanch::provider::{CallError, Issuer, Provider, Store};
use stanch::runbook::model;
use stanch::secret::{Material, Secret};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::servers::context;

/// How long a call may take.
const DEADLINE: Duration = Duration::from_secs(1);
/// What a server can get rid of before it notices that nobody reads: the bound on a reply, and what
/// the kernel buffers on both sides.
const READ_AT_MOST: u64 = 16 * 1024 * 1024;
/// The operator's secret, and that of the credential.
const OPERATOR: &str = "hvs.hunter2-operator";
const VALUE: &str = "hvs.hunter2-credential";
/// An access key's id, of the right shape: another is sent nowhere.
const APP_KEY: &str = "AKIAAPPAPPAPPAPPAPPA";
/// What a terminal would do something bad with.
const ESCAPES: &str = "\\u001b]0;owned\\u0007\\u001b[2J\\u202egnp.exe\\u009b31m\\u0000\\r";

/// What a server answers: some bytes, and then some for ever.
#[derive(Clone)]
struct Answer {
    name: &'static str,
    bytes: Vec<u8>,
    again: Vec<u8>,
}

fn answer(name: &'static str, bytes: impl Into<Vec<u8>>) -> Answer {
    Answer { name, bytes: bytes.into(), again: Vec::new() }
}

fn endless(name: &'static str, bytes: &str, again: impl Into<Vec<u8>>) -> Answer {
    Answer { again: again.into(), ..answer(name, bytes) }
}

fn page(name: &'static str, status: &str, kind: &str, body: impl AsRef<[u8]>) -> Answer {
    let body = body.as_ref();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    answer(name, [head.as_bytes(), body].concat())
}

/// Everything that no server should answer with, and that is no success.
fn answers() -> Vec<Answer> {
    let json = "application/json";
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    let deep = |open: &str| open.repeat(100_000);
    let bomb: String = (0..5000).map(|n| format!("X-{n}: {n}\r\n")).collect();
    let said =
        format!(r#"{{"errors":["{ESCAPES} {OPERATOR}"],"__type":"Weird{ESCAPES}","message":"{ESCAPES}"}}"#);
    let xml = "<ErrorResponse><Error><Code>\u{1b}[2JWeird</Code><Message>\u{1b}]0;owned\u{7}</Message></Error></ErrorResponse>";
    vec![
        answer("nothing", ""),
        answer("HTTP/0.9", "hello, this is HTTP/0.9\n<html>\n"),
        answer("a broken head", "HTTP/1.1 200 OK\r\nContent-Le"),
        answer("bytes", vec![0xff; 4096]),
        answer("TLS", b"\x15\x03\x01\x00\x02\x02\x46".as_slice()),
        answer("no status", "HTTP/1.1 999999 X\r\n\r\n"),
        answer(
            "two lengths",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 400\r\nConnection: close\r\n\r\n{}",
        ),
        answer(
            "a length too long",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999\r\nConnection: close\r\n\r\n{}",
        ),
        answer("a length beyond all", "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n{}"),
        answer(
            "a bad chunk",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}",
        ),
        answer("many headers", format!("HTTP/1.1 200 OK\r\n{bomb}Content-Length: 2\r\n\r\n{{}}")),
        endless("endless headers", "HTTP/1.1 200 OK\r\n", "X-More: and more\r\n".repeat(1000)),
        endless("one endless header", "HTTP/1.1 200 OK\r\nX: ", "x".repeat(0x10000)),
        endless("endless 1xx", "", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(100)),
        endless("an endless success", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunk.clone()),
        endless("an endless error", "HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n", chunk.clone()),
        endless("an endless refusal", "HTTP/1.1 403 X\r\nTransfer-Encoding: chunked\r\n\r\n", chunk),
        endless("an endless body without length", "HTTP/1.1 200 OK\r\n\r\n", vec![b'['; 0x10000]),
        page("deep JSON", "200 OK", json, deep("[")),
        page("deep objects", "200 OK", json, deep("{\"data\":")),
        page("deep errors", "400 X", json, deep("{\"errors\":[")),
        page("deep XML", "200 OK", "text/xml", deep("<a>")),
        page("deep XML errors", "400 X", "text/xml", deep("<Error>")),
        page("invalid UTF-8", "200 OK", json, b"{\"data\":{\"data\":{\"token\":\"\xff\xfe\"}}}"),
        page("invalid UTF-8 in an error", "400 X", json, b"{\"errors\":[\"\xff\xfe\"]}"),
        page("escapes in a rejection", "400 Bad Request", json, &said),
        page("escapes in a refusal", "403 Forbidden", json, &said),
        page("escapes in a failure", "500 X", json, &said),
        page("escapes in XML", "400 Bad Request", "text/xml", xml),
        page("a success that is a log-in page", "200 OK", "text/html", "<html>log in</html>"),
        page("a success that says errors", "200 OK", json, r#"{"errors":["internal error"]}"#),
        page("a success of the wrong kind", "200 OK", "image/png", b"\x89PNG\r\n\x1a\n"),
        page("a success of null", "200 OK", json, "null"),
        page("a success of a list", "200 OK", json, "[]"),
        page("a refusal by something else", "403 Forbidden", "text/html", "<html>WAF</html>"),
        page("not found by something else", "404 Not Found", "text/html", "<html>no such page</html>"),
        page("a success without what matters", "200 OK", json, r#"{"data":{},"auth":{}}"#),
        page(
            "an empty token",
            "200 OK",
            json,
            r#"{"auth":{"client_token":"","accessor":"","policies":[],"token_policies":[],"metadata":null,
               "lease_duration":1,"renewable":true,"entity_id":"","token_type":"service","orphan":true}}"#,
        ),
        page(
            "an accessor with escapes",
            "200 OK",
            json,
            format!(
                r#"{{"auth":{{"client_token":"hvs.new","accessor":"{ESCAPES}","policies":[],"token_policies":[],
                "metadata":null,"lease_duration":1,"renewable":true,"entity_id":"","token_type":"service","orphan":true}},
                "data":{{"keys":["{ESCAPES}"]}}}}"#
            ),
        ),
    ]
}

struct Server {
    url: String,
    /// How many requests came.
    asked: Arc<AtomicUsize>,
    /// How many bytes went out.
    sent: Arc<AtomicU64>,
}

/// Answers every request with the same.
async fn server(answer: Answer) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let url = format!("http://{}", listener.local_addr().expect("address"));
    let (asked, sent) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
    let (asks, sends) = (Arc::clone(&asked), Arc::clone(&sent));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (answer, sends) = (answer.clone(), Arc::clone(&sends));
            asks.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut request = vec![0; 0x10000];
                let _ = client.read(&mut request).await;
                let mut bytes = answer.bytes;
                while client.write_all(&bytes).await.is_ok() {
                    sends.fetch_add(bytes.len() as u64, Ordering::SeqCst);
                    if answer.again.is_empty() {
                        break;
                    }
                    bytes.clone_from(&answer.again);
                }
                let _ = client.shutdown().await;
            });
        }
    });
    Server { url, asked, sent }
}

/// What came of one call.
type Result = std::result::Result<String, CallError>;

fn token() -> Material {
    Material::single("token", Secret::new(VALUE))
}

fn words<T: serde::de::DeserializeOwned>(yaml: &str) -> T {
    serde_yaml::with::singleton_map_recursive::deserialize(
        serde_yaml::from_str::<serde_yaml::Value>(yaml).expect("YAML"),
    )
    .expect("words")
}

fn shown<T: std::fmt::Debug>(result: std::result::Result<T, CallError>) -> Result {
    result.map(|value| format!("{value:?}"))
}

/// The checks as a call: an error where one of them forbids the run, or none
/// of them passed.
fn checked(checks: Vec<Check>) -> Result {
    // What cannot be checked beforehand is a warning; what is warned of did not pass.
    let passed = |c: &&Check| c.verdict == CheckVerdict::Pass;
    let failed = checks.iter().find(|c| c.verdict == CheckVerdict::Fail);
    let failed = failed.or_else(|| checks.first().filter(|_| !checks.iter().any(|c| passed(&c))));
    for check in &checks {
        is_tame(&check.detail, &check.name);
        is_tame(check.hint.as_deref().unwrap_or_default(), &check.name);
    }
    match failed {
        Some(check) => Err(CallError::rejected(ErrorKind::Invalid, check.detail.clone())),
        None => Ok(format!("{checks:?}")),
    }
}

/// Every call to Vault.
async fn vault(url: &str) -> Vec<(&'static str, Result)> {
    let settings = stanch::kind::vault::Settings {
        address: url.parse().expect("address"),
        token: Some(Secret::new(OPERATOR)),
        namespace: None,
        ca_cert: None,
        skip_verify: false,
        more: stanch::kind::vault::More::default(),
    };
    let client = Arc::new(VaultClient::new(settings, DEADLINE).expect("client"));
    let spec = TokenSpec {
        name: "web".to_owned(),
        role: Some("web".to_owned()),
        policies: vec!["app".to_owned()],
        ttl: Duration::from_secs(60),
        max_ttl: None,
        num_uses: 0,
        bound_cidrs: Vec::new(),
        audience: None,
    };
    let issuer = TokenIssuer::new(Arc::clone(&client), spec);
    let layout = Layout::new(&["token"], Some("token"), &BTreeMap::new()).expect("layout");
    let place = Kv2Place::new("secret", "app").expect("place");
    let store = Kv2Store::new(Arc::clone(&client), place, layout, true);
    let context = context();
    let users = UserIssuer::new(Arc::clone(&client), words("{connection: vault, name: app}")).expect("users");
    let user = users.candidate(&context).expect("a candidate");
    let mut results = vec![
        ("users", checked(users.preflight(None).await)),
        ("make a user", shown(users.issue(&context, Some(&user)).await)),
        ("find users", shown(users.find(&context, &[]).await)),
        ("identify a user", shown(users.identify(&user).await)),
        ("inspect a user", shown(users.inspect("app").await)),
        ("life of a user", shown(users.life("app").await)),
        ("disable a user", shown(users.disable(&context, "app").await)),
        ("enable a user", shown(users.enable(&context, "app").await)),
        ("revoke a user", shown(users.revoke(&context, "app", None).await)),
        ("log in", shown(users.attempt(&user).await)),
    ];
    let text = "{connection: vault, role: app, common_name: app.test, ttl: 1h, rotate_crl: true}";
    let clock = Arc::new(SystemClock::new());
    let certificates = CertificateIssuer::new(Arc::clone(&client), words(text), clock).expect("certificates");
    let key = certificates.candidate(&context).expect("a candidate");
    let looks = stanch::provider::CallContext { held: Some(Arc::new(key.clone())), ..context.clone() };
    results.extend([
        ("certificates", checked(certificates.preflight(None).await)),
        ("sign a certificate", shown(certificates.issue(&context, Some(&key)).await)),
        ("find certificates", shown(certificates.find(&looks, &[]).await)),
        ("list certificates", shown(certificates.existing().await)),
        ("inspect a certificate", shown(certificates.inspect("5e:7b").await)),
        ("life of a certificate", shown(certificates.life("5e:7b").await)),
        ("revoke a certificate", shown(certificates.revoke(&context, "5e:7b", None).await)),
    ]);
    let text = "{connection: vault, role: app, policies: [app], token_role: app, ttl: 1h}";
    let leases = LeaseIssuer::new(Arc::clone(&client), "app", words(text), None).expect("leases");
    let lease = "database/creds/app/x";
    let login = Material::single("username", Secret::new("app"))
        .with("password", Secret::new(VALUE))
        .with("lease", Secret::new(lease));
    results.extend([
        ("leases", checked(leases.preflight(None).await)),
        ("get a lease", shown(leases.issue(&context, None).await)),
        ("find leases", shown(leases.find(&context, &[]).await)),
        ("identify a lease", shown(leases.identify(&login).await)),
        ("inspect a lease", shown(leases.inspect("database/creds/app/x@y").await)),
        ("life of a lease", shown(leases.life(lease).await)),
        ("life of a lost lease", shown(leases.life("@y").await)),
        ("revoke a lease", shown(leases.revoke(&context, lease, None).await)),
        ("revoke a lost lease", shown(leases.revoke(&context, "@y", None).await)),
    ]);
    results.extend([
        ("connection", checked(stanch::kind::vault::preflight(&client, &SystemClock::new()).await)),
        ("permission", checked(issuer.preflight(None).await)),
        ("mount", checked(store.preflight().await)),
        ("issue", shown(issuer.issue(&context, None).await)),
        ("find", shown(issuer.find(&context, &[]).await)),
        ("identify", shown(issuer.identify(&token()).await)),
        ("inspect", shown(issuer.inspect("accessor").await)),
        ("life", shown(issuer.life("accessor").await)),
        ("revoke", shown(issuer.revoke(&context, "accessor", None).await)),
        ("attempt", shown(issuer.attempt(&token()).await)),
        ("observe", shown(store.observe().await)),
        ("read", shown(store.read(None).await)),
        ("promote", shown(store.promote(&context, &token(), &token(), None).await)),
        ("destroy", shown(store.destroy(&context, "1", &token()).await)),
    ]);
    results
}

/// Every call to AWS.
async fn aws(url: &str) -> Vec<(&'static str, Result)> {
    let settings = stanch::kind::aws::Settings {
        region: Some("us-east-1".to_owned()),
        endpoint_url: Some(url.to_owned()),
        keys: Some(("AKIAOPERATOR".to_owned(), Secret::new(OPERATOR))),
        ..Default::default()
    };
    let client = Arc::new(AwsClient::new(settings, DEADLINE).await.expect("client"));
    let issuer = AccessKeyIssuer::new(Arc::clone(&client), "app".to_owned());
    let layout = Layout::new(&["token"], None, &BTreeMap::new()).expect("layout");
    let store = SecretsManagerStore::new(Arc::clone(&client), "app".to_owned(), layout.clone());
    let parameter = ParameterStore::new(Arc::clone(&client), "/app".to_owned(), layout).expect("a name");
    let pair =
        Material::single("access_key_id", Secret::new(APP_KEY)).with("secret_access_key", Secret::new(VALUE));
    let context = context();
    vec![
        ("connection", checked(stanch::kind::aws::preflight(&client, &SystemClock::new()).await)),
        ("user", checked(issuer.preflight(None).await)),
        ("secret", checked(store.preflight().await)),
        ("issue", shown(issuer.issue(&context, None).await)),
        ("find", shown(issuer.find(&context, &[]).await)),
        ("existing", shown(issuer.existing().await)),
        ("identify", shown(issuer.identify(&pair).await)),
        ("inspect", shown(issuer.inspect(APP_KEY).await)),
        ("life", shown(issuer.life(APP_KEY).await)),
        ("disable", shown(issuer.disable(&context, APP_KEY).await)),
        ("enable", shown(issuer.enable(&context, APP_KEY).await)),
        ("revoke", shown(issuer.revoke(&context, APP_KEY, None).await)),
        ("attempt", shown(issuer.attempt(&pair).await)),
        ("observe", shown(store.observe().await)),
        ("read", shown(store.read(None).await)),
        ("stage", shown(store.stage(&context, &token()).await)),
        ("retire", shown(store.retire(&context, "one").await)),
        ("promote", shown(store.promote(&context, &token(), &token(), Some("two")).await)),
        ("parameter", checked(parameter.preflight().await)),
        ("observe it", shown(parameter.observe().await)),
        ("read it", shown(parameter.read(None).await)),
        ("promote it", shown(parameter.promote(&context, &token(), &token(), None).await)),
    ]
}

/// Every call to Kubernetes.
async fn kubernetes(url: &str) -> Vec<(&'static str, Result)> {
    let (store, context) = (crate::kube_double::store(url, DEADLINE), context());
    vec![
        ("a Secret", checked(store.preflight().await)),
        ("observe a Secret", shown(store.observe().await)),
        ("read a Secret", shown(store.read(None).await)),
        ("promote in a Secret", shown(store.promote(&context, &token(), &token(), None).await)),
        ("refill a Secret", shown(store.refill(&context, &token()).await)),
        ("place of a Secret", shown(store.place().await)),
    ]
}

/// Every call to GitLab.
async fn gitlab(url: &str) -> Vec<(&'static str, Result)> {
    let provider = crate::gitlab::provider(url, OPERATOR, DEADLINE);
    let issuer = serde_json::json!({ "type": "random" });
    let project = serde_json::json!({ "project": "shop/web" });
    let (store, context) = (crate::gitlab::store_of(&provider, issuer, project).await, context());
    let value = Material::single("value", Secret::new(VALUE));
    vec![
        ("a token of GitLab", checked(provider.preflight("gitlab").await)),
        ("a variable", checked(store.preflight().await)),
        ("observe a variable", shown(store.observe().await)),
        ("read a variable", shown(store.read(None).await)),
        ("promote in a variable", shown(store.promote(&context, &value, &value, None).await)),
        ("refill a variable", shown(store.refill(&context, &value).await)),
        ("place of a variable", shown(store.place().await)),
    ]
}

/// Every call to GitHub.
async fn github(url: &str) -> Vec<(&'static str, Result)> {
    let (store, context) = (crate::github::hostile(url), context());
    vec![
        ("a secret of Actions", checked(store.preflight().await)),
        ("observe a secret of Actions", shown(store.observe().await)),
        ("promote in a secret of Actions", shown(store.promote(&context, &token(), &token(), None).await)),
        ("refill a secret of Actions", shown(store.refill(&context, &token()).await)),
    ]
}

/// Every request of the runbook's own. A call's and a probe's success is the status alone, by
/// contract, so these are asked only where the reply is not whole.
async fn own(url: &str, whole: bool) -> Vec<(&'static str, Result)> {
    let provider = RealProvider::new(BTreeMap::new(), Arc::new(SystemClock::new()), DEADLINE);
    let yaml = format!(
        "issuer: {{type: random}}\nstores: [{{type: file, path: /x, format: text}}]\nconsumers: [{{name: c, \
         reload: {{http: {{url: '{url}/reload', bearer: true}}}}, attest: {{http: {{url: '{url}/sha', fingerprint: /data}}}}}}]\n"
    );
    let credential: model::Credential = words(&yaml);
    let gate: model::Gate = words(&format!("http: {{url: '{url}/rate', json: /data, at_most: 0.5}}"));
    let gate = provider.gate(&gate).await.expect("gate").evaluate().await;
    is_tame(&gate.detail, "gate");
    let error = |detail: String| Err(CallError::rejected(ErrorKind::NoAnswer, detail));
    let consumer = provider.consumer("c", &credential, 0).await.expect("consumer");
    let attested = consumer.attest().await.pop().expect("an answer");
    let mut results = vec![
        ("gate", if gate.verdict == Verdict::Pass { Ok(gate.detail) } else { error(gate.detail) }),
        ("attest", shown(attested)),
    ];
    if !whole {
        let call: model::Call = words(&format!("http: {{url: '{url}/apply', body: '${{secret}}'}}"));
        let call = provider.call(&call).await.expect("call");
        let value = Material::single("value", Secret::new(VALUE));
        results.push(("call", shown(call.perform(&context(), Some(&value)).await)));
        let probe: model::Probe = words(&format!("http: {{url: '{url}/whoami', bearer: true}}"));
        let probe = provider.probe("c", &credential, &probe).await.expect("probe").attempt(&value).await;
        results.push(("probe", shown(probe)));
    }
    results
}

/// Panics when a text could harm a terminal, fill a screen, or tell a secret.
#[track_caller]
fn is_tame(text: &str, what: &str) {
    let wild = |c: char| {
        c.is_control()
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
    };
    assert!(!text.chars().any(wild), "{what}: {text:?}");
    assert!(text.len() < 4000, "{what}: {} bytes", text.len());
    assert!(!text.contains("hunter2"), "{what}: {text:?}");
}

/// Panics unless the call failed, and says so in a way that harms nobody.
fn failed(server: &str, call: &str, result: Result) {
    let what = format!("{server}, answered with {call}");
    let error = match result {
        Ok(value) => panic!("{call}: `{server}` was taken for a success: {value}"),
        Err(error) => error,
    };
    is_tame(&error.message, &what);
    is_tame(error.hint.as_deref().unwrap_or_default(), &what);
    is_tame(error.request_id.as_deref().unwrap_or_default(), &what);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_of_a_hostile_server_is_a_success() {
    let mut servers = tokio::task::JoinSet::new();
    for answer in answers() {
        servers.spawn(async move {
            let name = answer.name;
            let status = String::from_utf8_lossy(&answer.bytes[..answer.bytes.len().min(12)]).into_owned();
            // Refused by its status, which is all that a probe looks at.
            let whole = answer.bytes.ends_with(b"}")
                || name.starts_with("a success")
                || status.contains(" 403")
                || name.starts_with("deep")
                || name.starts_with("invalid")
                || name == "an empty token";
            let server = server(answer).await;
            let (vault, aws, own, kubernetes, gitlab, github) = tokio::join!(
                vault(&server.url),
                aws(&server.url),
                own(&server.url, whole),
                kubernetes(&server.url),
                gitlab(&server.url),
                github(&server.url)
            );
            for (call, result) in
                vault.into_iter().chain(aws).chain(own).chain(kubernetes).chain(gitlab).chain(github)
            {
                failed(name, call, result);
            }
            let (asked, sent) = (server.asked.load(Ordering::SeqCst), server.sent.load(Ordering::SeqCst));
            assert!(asked > 20, "{name}: only {asked} requests came");
            assert!(sent < READ_AT_MOST * asked as u64, "{name}: {sent} bytes went out to {asked} requests");
        });
    }
    while let Some(done) = servers.join_next().await {
        done.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()));
    }
}

/// Neither a token nor anything else is sent on to where a server points.
#[tokio::test(flavor = "multi_thread")]
async fn no_redirect_is_followed() {
    let elsewhere = server(page("elsewhere", "200 OK", "application/json", r#"{"data":{}}"#)).await;
    for status in [300, 301, 302, 303, 307, 308] {
        let head = format!(
            "HTTP/1.1 {status} X\r\nLocation: {}/v1/stolen\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            elsewhere.url
        );
        let here = server(answer("a redirect", head)).await;
        let (vault, aws, own, kubernetes, gitlab, github) = tokio::join!(
            vault(&here.url),
            aws(&here.url),
            own(&here.url, false),
            kubernetes(&here.url),
            gitlab(&here.url),
            github(&here.url)
        );
        for (call, result) in
            vault.into_iter().chain(aws).chain(own).chain(kubernetes).chain(gitlab).chain(github)
        {
            failed("a redirect", call, result);
        }
    }
    assert_eq!(elsewhere.asked.load(Ordering::SeqCst), 0, "a redirect was followed");
}

/// A connection that is closed behind a request, without an answer, leaves doubt: a key may have
/// been made. (The SDK has no kind of its own for that.)
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_closed_without_an_answer_leaves_doubt() {
    let server = server(answer("nothing", "")).await;
    let (vault, aws) = tokio::join!(vault(&server.url), aws(&server.url));
    for (call, result) in vault.into_iter().chain(aws) {
        let error = result.expect_err(call);
        let effect = ["issue", "disable", "enable"].contains(&call);
        assert!(!effect || (error.in_doubt && error.kind == ErrorKind::NoAnswer), "{call}: {error:?}");
    }
}

/// What a server says of itself is shown in plans and kept in journals: it is sanitized, too.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_says_of_itself_is_sanitized() {
    let body = format!(
        r#"{{"initialized":true,"sealed":false,"standby":false,"version":"1{ESCAPES}",
            "data":{{"accessor":"a","display_name":"{ESCAPES}","policies":["{ESCAPES}"],"path":"x{ESCAPES}/","type":"{ESCAPES}",
            "orphan":true,"expire_time":null}}}}"#
    );
    let server = server(page("itself", "200 OK", "application/json", body)).await;
    for (call, result) in vault(&server.url).await {
        match result {
            // A grant is compared; what is said of it passes through the engine, which tames it.
            Ok(_) if call == "inspect" => {}
            Ok(text) => assert!(!text.contains("\\u{1b}"), "{text}"),
            Err(error) => is_tame(&error.message, "itself"),
        }
    }
}
