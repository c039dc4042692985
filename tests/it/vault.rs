//! Against a real Vault: conformance, permissions, and everything that goes wrong with one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use serde_json::json;
use stanch::clock::SystemClock;
use stanch::domain::{CheckVerdict, ErrorKind, Identity, Life};
use stanch::kind::real::RealProvider;
use stanch::kind::vault::kv2::{Kv2Place, Kv2Store};
use stanch::kind::vault::token::{TokenIssuer, TokenSpec};
use stanch::kind::vault::{VaultClient, preflight};
use stanch::provider::layout::Layout;
use stanch::provider::{Issuer, Provider, Store, Use};
use stanch::runbook::model;
use stanch::secret::{Material, Secret};

use crate::conformance::{StoreCase, issuer_keeps_its_promises, store_keeps_its_promises};
use crate::servers::{DEADLINE, OwnVault, Vault, closed_port, context, failures, serve, unique};

/// Rules that allow nothing of interest: Vault takes no empty policy.
const NOTHING: &str = "path \"nowhere\" { capabilities = [\"read\"] }";

pub(crate) fn spec(role: Option<&str>) -> TokenSpec {
    TokenSpec {
        name: "web".to_owned(),
        role: role.map(str::to_owned),
        policies: vec!["app".to_owned()],
        ttl: Duration::from_secs(600),
        max_ttl: Some(Duration::from_secs(1200)),
        num_uses: 0,
        bound_cidrs: Vec::new(),
        audience: Some("payments".to_owned()),
    }
}

pub(crate) fn token(text: &str) -> Material {
    Material::single("token", Secret::new(text))
}

fn field(name: &str) -> Layout {
    Layout::new(&["token"], Some(name), &BTreeMap::new()).expect("layout")
}

fn kv2(client: Arc<VaultClient>, mount: &str, path: &str) -> Kv2Store {
    Kv2Store::new(client, Kv2Place::new(mount, path).expect("place"), field("token"), true)
}

async fn check_kinds(client: &VaultClient) -> Vec<(String, Option<ErrorKind>)> {
    preflight(client, &SystemClock::new())
        .await
        .into_iter()
        .filter(|check| check.verdict == CheckVerdict::Fail)
        .map(|check| {
            assert!(check.hint.is_some(), "a failed check without a hint: {check:?}");
            (check.name, check.kind)
        })
        .collect()
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn kv2_conforms() {
    let (vault, path) = (Vault::shared(), unique("kv"));
    let data = json!({ "data": { "token": "old-value", "other": { "kept": [1, 2] } } });
    vault.api("POST", &format!("secret/data/{path}"), data).await;
    let store = kv2(vault.client(), "secret", &path);
    store_keeps_its_promises(
        "kv2",
        StoreCase { store: &store, old: token("old-value"), new: token("new-value"), nowhere: "999" },
    )
    .await;
    let left = vault.api("GET", &format!("secret/data/{path}"), json!(null)).await;
    assert_eq!(left["data"]["data"], json!({ "token": "old-value", "other": { "kept": [1, 2] } }));
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn tokens_conform_with_a_role_and_without() {
    let (vault, role) = (Vault::shared(), unique("role"));
    // The maximum of `spec`: a renewal heeds the role's alone.
    let body = json!({ "allowed_policies": "app", "orphan": true, "renewable": true, "token_explicit_max_ttl": "20m" });
    vault.api("POST", &format!("auth/token/roles/{role}"), body).await;
    for role in [None, Some(role.as_str())] {
        let issuer = TokenIssuer::new(vault.client(), spec(role));
        issuer_keeps_its_promises("vault-token", &issuer, "never-was").await;
    }
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn a_token_is_as_wide_as_asked_and_its_children_die_with_it() {
    let vault = Vault::shared();
    vault
        .api(
            "PUT",
            "sys/policies/acl/parent",
            json!({ "policy": "path \"auth/token/create\" { capabilities = [\"update\"] }" }),
        )
        .await;
    let asked = TokenSpec { policies: vec!["parent".to_owned()], ..spec(None) };
    let issuer = TokenIssuer::new(vault.client(), asked);
    let issued = issuer.issue(&context(), None).await.expect("issue");
    let grant = issuer.inspect(&issued.identity.handle).await.expect("inspect");
    assert_eq!(grant.policies, Some(vec!["parent".to_owned()]));
    assert_eq!(grant.ttl, Some(Duration::from_secs(1200)), "renewals count");
    assert_eq!(grant.audience.as_deref(), Some("payments"));
    assert_eq!(grant.wider, Vec::<String>::new());

    let http = crate::servers::plain_http();
    let child = http
        .post(format!("{}/v1/auth/token/create", vault.address))
        .header("x-vault-token", issued.material.main().expect("token").expose())
        .send()
        .await
        .expect("child");
    let child: serde_json::Value = serde_json::from_str(&child.text().await.expect("text")).expect("JSON");
    let accessor = child["auth"]["accessor"].as_str().expect("accessor");
    assert_eq!(issuer.life(accessor).await.expect("life"), Life::Active);
    issuer.revoke(&context(), &issued.identity.handle, None).await.expect("revoke");
    assert_eq!(issuer.life(accessor).await.expect("life"), Life::Gone, "minted from it");
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn permission_denied_is_not_the_death_of_a_token() {
    let vault = Vault::shared();
    let made = vault
        .api("POST", "auth/token/create", json!({ "policies": ["app"], "no_default_policy": true }))
        .await;
    let live = token(made["auth"]["client_token"].as_str().expect("token"));
    let issuer = TokenIssuer::new(vault.client(), spec(None));
    let error = issuer.attempt(&live).await.expect_err("it may not look itself up, and lives");
    assert_eq!(error.kind, ErrorKind::Denied);
    issuer
        .revoke(&context(), made["auth"]["accessor"].as_str().expect("accessor"), None)
        .await
        .expect("revoke");
    assert!(matches!(issuer.attempt(&live).await.expect("an answer"), Use::Refused(_)));

    // And an operator without permission proves nothing either.
    let weak = TokenIssuer::new(vault.client_as(&vault.token(NOTHING).await), spec(None));
    let error = weak.life("whatever").await.expect_err("may not ask");
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.message.contains("auth/token/lookup-accessor") && error.hint.is_some(), "{error:?}");
    let error = weak.find(&context(), &[]).await.expect_err("may not list");
    assert_eq!(error.kind, ErrorKind::Denied);
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn a_dead_operator_token_is_told_from_a_missing_permission() {
    let vault = Vault::shared();
    let dead = vault.client_as("hvs.hunter2hunter2");
    assert_eq!(check_kinds(&dead).await, [("identity".to_owned(), Some(ErrorKind::Refused))]);
    let error =
        TokenIssuer::new(Arc::clone(&dead), spec(None)).issue(&context(), None).await.expect_err("dead");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Refused, false));
    assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("vault login")), "{error:?}");
    assert!(!format!("{error:?} {dead:?}").contains("hunter2"));

    let weak = vault.client_as(&vault.token(NOTHING).await);
    let error = TokenIssuer::new(weak, spec(None)).issue(&context(), None).await.expect_err("weak");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Denied, false));
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn token_preflight_names_what_is_missing() {
    let vault = Vault::shared();
    let rules = "path \"auth/token/create/*\" { capabilities = [\"update\"] }
        path \"auth/token/lookup-accessor\" { capabilities = [\"update\"] }";
    let operator = vault.client_as(&vault.token(rules).await);
    let issuer = TokenIssuer::new(operator, spec(Some("nosuch")));
    let checks = issuer.preflight(None).await;
    let failed = failures(&checks);
    assert_eq!(failed.len(), 2, "{failed:?}");
    for path in ["auth/token/revoke-accessor", "auth/token/lookup)"] {
        assert!(failed[0].contains(path), "all that is missing at once: {failed:?}");
    }
    let hint = checks[0].hint.as_deref().expect("a hint");
    let grants = "path \"auth/token/revoke-accessor\" { capabilities = [\"update\"] }";
    assert!(hint.contains(grants) && !hint.contains("auth/token/create"), "just what is missing: {hint}");
    assert!(failed[1].contains("may not be read"), "{failed:?}");
    let warned = |name: &str| {
        checks
            .iter()
            .any(|c| c.name.contains(name) && c.verdict == CheckVerdict::Warn && !c.detail.is_empty())
    };
    assert!(warned("accessors"), "{checks:?}");
    // Where nothing is to be renewed, the role need not be read.
    let lasting = TokenSpec { ttl: Duration::from_secs(1200), ..spec(Some("nosuch")) };
    let checks = TokenIssuer::new(vault.client_as(&vault.token(rules).await), lasting).preflight(None).await;
    assert!(
        checks.iter().any(|c| c.name == "role nosuch" && c.verdict == CheckVerdict::Warn && c.hint.is_some()),
        "{checks:?}"
    );

    // With the right to look, roles that do not fit are refused.
    let role = unique("role");
    let body = json!({ "allowed_policies": "else", "orphan": true, "token_explicit_max_ttl": "20m" });
    vault.api("POST", &format!("auth/token/roles/{role}"), body).await;
    for (role, word) in [("nosuch", "no token role"), (role.as_str(), "does not allow")] {
        let failed = failures(&TokenIssuer::new(vault.client(), spec(Some(role))).preflight(None).await);
        assert!(failed.len() == 1 && failed[0].contains(word), "{failed:?}");
    }
    vault
        .api(
            "POST",
            &format!("auth/token/roles/{role}"),
            json!({ "allowed_policies": "app", "orphan": false, "token_explicit_max_ttl": "20m" }),
        )
        .await;
    let failed = failures(&TokenIssuer::new(vault.client(), spec(Some(&role))).preflight(None).await);
    assert!(failed.len() == 1 && failed[0].contains("die with it"), "{failed:?}");
    let batch = json!({ "allowed_policies": "app", "orphan": true, "renewable": false, "token_type": "batch",
        "token_explicit_max_ttl": 0 });
    vault.api("POST", &format!("auth/token/roles/{role}"), batch).await;
    let failed = failures(&TokenIssuer::new(vault.client(), spec(Some(&role))).preflight(None).await);
    assert!(failed.len() == 1 && failed[0].contains("cannot be revoked"), "{failed:?}");
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn a_run_does_not_revoke_its_own_token() {
    let vault = Vault::shared();
    let own = vault.api("GET", "auth/token/lookup-self", json!(null)).await;
    let handle = own["data"]["accessor"].as_str().expect("accessor").to_owned();
    let outgoing = Identity { handle, principal: String::new() };
    let failed = failures(&TokenIssuer::new(vault.client(), spec(None)).preflight(Some(&outgoing)).await);
    assert!(failed.len() == 1 && failed[0].contains("own token"), "{failed:?}");
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn mounts_that_are_no_kv2_are_refused_before_any_write() {
    let (vault, v1) = (Vault::shared(), unique("kv1"));
    vault
        .api("POST", &format!("sys/mounts/{v1}"), json!({ "type": "kv", "options": { "version": "1" } }))
        .await;
    vault.api("POST", &format!("{v1}/app"), json!({ "token": "x" })).await;
    for (mount, path, kind) in [
        (v1.as_str(), "app", ErrorKind::Unsupported),
        ("cubbyhole", "app", ErrorKind::Unsupported),
        ("nosuchmount", "app", ErrorKind::Denied),
        ("secret/deeper", "app", ErrorKind::Invalid),
    ] {
        let checks = kv2(vault.client(), mount, path).preflight().await;
        assert_eq!(checks.len(), 1, "{checks:?}");
        assert_eq!(checks[0].kind, Some(kind), "{checks:?}");
        assert!(checks[0].hint.is_some());
    }
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn kv2_without_permission_or_without_a_value_fails_preflight() {
    let (vault, path) = (Vault::shared(), unique("kv"));
    vault.api("POST", &format!("secret/data/{path}"), json!({ "data": { "token": "x" } })).await;
    let rules = format!(
        "path \"secret/data/{path}\" {{ capabilities = [\"read\"] }}
        path \"secret/metadata/{path}\" {{ capabilities = [\"read\"] }}"
    );
    let weak = kv2(vault.client_as(&vault.token(&rules).await), "secret", &path);
    let failed = failures(&weak.preflight().await);
    assert_eq!(failed.len(), 1, "all that is missing at once: {failed:?}");
    assert!(failed[0].contains("may not update the secret") && failed[0].contains("destroy"), "{failed:?}");
    let error = weak.promote(&context(), &token("y"), &token("x"), None).await.expect_err("read only");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Denied, false));

    let store = kv2(vault.client(), "secret", &path);
    vault.api("DELETE", &format!("secret/data/{path}"), json!(null)).await;
    let error = store.observe().await.expect_err("deleted");
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(error.hint.expect("hint").contains("undelete"));
    assert_eq!(store.read(None).await.expect_err("deleted").kind, ErrorKind::NotFound);
    assert_eq!(failures(&store.preflight().await).len(), 1);

    let missing = kv2(vault.client(), "secret", &unique("none"));
    assert_eq!(missing.observe().await.expect_err("missing").kind, ErrorKind::NotFound);
    let wrong =
        Kv2Store::new(vault.client(), Kv2Place::new("secret", &path).expect("place"), field("pw"), false);
    vault.api("POST", &format!("secret/data/{path}"), json!({ "data": { "token": "x" } })).await;
    let error = wrong.read(None).await.expect_err("no such field");
    assert!(error.kind == ErrorKind::NotFound && error.message.contains("`pw`"), "{error:?}");
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn a_namespace_that_the_server_would_ignore_or_does_not_have_is_refused() {
    let (vault, name) = (Vault::shared(), unique("team"));
    let mut settings = vault.settings(&vault.token(NOTHING).await);
    settings.namespace = Some(name.clone());
    let client = VaultClient::new(settings.clone(), DEADLINE).expect("client");
    let before = check_kinds(&client).await;
    // OpenBao has namespaces.
    if vault.namespace(&name).await {
        let missing = ["identity", "namespace"].map(|check| (check.to_owned(), Some(ErrorKind::NotFound)));
        assert_eq!(before, missing);
        settings.token = Some(Secret::new("root"));
        let client = VaultClient::new(settings, DEADLINE).expect("client");
        assert_eq!(check_kinds(&client).await, []);
        return;
    }
    assert_eq!(before, [("namespace".to_owned(), Some(ErrorKind::Unsupported))]);

    // A token that may not look itself up gets the same "no" from servers of both sorts.
    let body = json!({ "policies": ["app"], "no_default_policy": true });
    let made = vault.api("POST", "auth/token/create", body).await;
    settings.token = made["auth"]["client_token"].as_str().map(Secret::new);
    let client = VaultClient::new(settings, DEADLINE).expect("client");
    assert_eq!(check_kinds(&client).await, [("namespace".to_owned(), Some(ErrorKind::Denied))]);
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn a_vault_that_is_not_ready_says_so_and_nothing_is_in_doubt() {
    let mut own = OwnVault::start().await;
    let uninitialised = own.vault.client_as("any");
    assert_eq!(check_kinds(&uninitialised).await, [("server".to_owned(), Some(ErrorKind::NotReady))]);

    own.initialise().await;
    let client = own.vault.client();
    assert_eq!(check_kinds(&client).await, []);
    let issuer = TokenIssuer::new(Arc::clone(&client), spec(None));
    let issued = issuer.issue(&context(), None).await.expect("issue");

    own.vault.api("PUT", "sys/seal", json!(null)).await;
    assert_eq!(check_kinds(&client).await, [("server".to_owned(), Some(ErrorKind::NotReady))]);
    let error = issuer.issue(&context(), None).await.expect_err("sealed");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::NotReady, false), "{error:?}");
    assert!(error.hint.expect("hint").contains("unseal"));
    // A sealed Vault refuses every token, and proves nothing of any.
    assert_eq!(issuer.attempt(&issued.material).await.expect_err("sealed").kind, ErrorKind::NotReady);
    assert!(issuer.life(&issued.identity.handle).await.is_err());

    own.unseal().await;
    assert_eq!(issuer.attempt(&issued.material).await.expect("an answer"), Use::Accepted);

    own.kill();
    let error = issuer.issue(&context(), None).await.expect_err("down");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Unreachable, false), "{error:?}");
    assert_eq!(check_kinds(&client).await, [("server".to_owned(), Some(ErrorKind::Unreachable))]);
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn certificates_are_verified_and_skipping_that_is_never_silent() {
    let (own, ca) = OwnVault::start_with_tls().await;
    let settings = own.vault.settings("root");
    let plain = VaultClient::new(settings.clone(), DEADLINE).expect("client");
    let checks = preflight(&plain, &SystemClock::new()).await;
    assert_eq!(checks[0].kind, Some(ErrorKind::Unreachable), "{checks:?}");
    assert!(checks[0].detail.contains("certificate"), "{checks:?}");

    let trusting = stanch::kind::vault::Settings { ca_cert: Some(ca), ..settings.clone() };
    let trusting = VaultClient::new(trusting, DEADLINE).expect("client");
    let checks = preflight(&trusting, &SystemClock::new()).await;
    assert!(checks.iter().all(|check| check.verdict == CheckVerdict::Pass), "{checks:?}");

    let blind = stanch::kind::vault::Settings { skip_verify: true, ..settings };
    let blind = VaultClient::new(blind, DEADLINE).expect("client");
    let checks = preflight(&blind, &SystemClock::new()).await;
    assert_eq!(failures(&checks), Vec::<String>::new());
    assert!(checks.iter().any(|c| c.name == "tls" && c.verdict == CheckVerdict::Warn), "{checks:?}");
}

/// From the runbook's words and the environment to working parts.
#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn the_real_provider_finds_vault_by_the_environment() {
    let (vault, path) = (Vault::shared(), unique("kv"));
    vault.api("POST", &format!("secret/data/{path}"), json!({ "data": { "t": "old", "o": 1 } })).await;
    let credential: model::Credential = serde_yaml::from_str(&format!(
        "issuer: {{type: vault-token, connection: v, policies: [app], ttl: 10m}}\n\
         stores: [{{type: kv2, connection: v, mount: secret, path: {path}, field: t}}]\n"
    ))
    .expect("YAML");
    let connections = serde_yaml::from_str("v: {type: vault}").expect("YAML");
    let (address, root) = (vault.address.clone(), vault.root.clone());
    let env = move |name: &str| match name {
        "VAULT_ADDR" => Some(address.clone()),
        "VAULT_TOKEN" => Some(format!("{root}\n")),
        _ => None,
    };
    let clock = Arc::new(SystemClock::new());
    let provider = RealProvider::with_environment(connections, clock, DEADLINE, Arc::new(env));
    assert_eq!(failures(&provider.preflight("v").await), Vec::<String>::new());
    let issuer = provider.issuer("web", &credential).await.expect("issuer");
    let store = provider.store("web", &credential, 0).await.expect("store");
    let issued = issuer.issue(&context(), None).await.expect("issue");
    let old = store.read(None).await.expect("read");
    let done = store.promote(&context(), &issued.material, &old, None).await.expect("promote");
    assert_eq!((done.version.as_str(), done.was.as_deref()), ("2", Some("1")));
    let read = store.read(None).await.expect("read");
    let standing = issuer.identify(&read).await.expect("identify").expect("it is known");
    assert_eq!(standing.identity.handle, issued.identity.handle);
    assert_eq!(
        store.destroy(&context(), "1", &old).await.expect_err("not asked for").kind,
        ErrorKind::Unsupported
    );
    issuer.revoke(&context(), &issued.identity.handle, None).await.expect("revoke");
}

/// The server did it, and its reply was lost: found by its tag, and dead before the next is made.
#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn a_token_whose_reply_was_lost_is_found_and_revoked() {
    let vault = Vault::shared();
    let target = vault.address.clone();
    let lossy = serve(axum::Router::new().fallback(move |request: axum::extract::Request| {
        let target = target.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 1 << 20).await.expect("body");
            let sent = crate::servers::plain_http()
                .request(parts.method, format!("{target}{}", parts.uri))
                .header("x-vault-token", parts.headers["x-vault-token"].clone())
                .body(body)
                .send()
                .await
                .expect("Vault answers");
            assert!(sent.status().is_success());
            StatusCode::BAD_GATEWAY
        }
    }))
    .await;
    let through = Vault { address: lossy, ..vault.clone() };
    let step = context();
    let error = TokenIssuer::new(through.client(), spec(None)).issue(&step, None).await.expect_err("lost");
    assert!(error.in_doubt, "{error:?}");

    let issuer = TokenIssuer::new(vault.client(), spec(None));
    let found = issuer.find(&step, &[]).await.expect("find");
    assert_eq!(found.len(), 1, "{found:?}");
    issuer.revoke(&step, &found[0], None).await.expect("revoke");
    assert_eq!(issuer.find(&step, &[]).await.expect("find"), Vec::<String>::new());
}

fn fake(address: &str) -> Arc<VaultClient> {
    Vault::client_at(address)
}

impl Vault {
    fn client_at(address: &str) -> Arc<VaultClient> {
        let settings = stanch::kind::vault::Settings {
            address: address.parse().expect("address"),
            token: Some(Secret::new("hvs.hunter2hunter2")),
            namespace: None,
            ca_cert: None,
            skip_verify: false,
            more: stanch::kind::vault::More::default(),
        };
        Arc::new(VaultClient::new(settings, Duration::from_secs(2)).expect("client"))
    }
}

#[tokio::test]
async fn a_token_is_never_sent_on() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let thief = serve(axum::Router::new().fallback(move || {
        count.fetch_add(1, Ordering::SeqCst);
        std::future::ready("{}")
    }))
    .await;
    let standby = serve(axum::Router::new().fallback(move || {
        let headers = [("location", format!("{thief}/v1/auth/token/create-orphan"))];
        std::future::ready((StatusCode::TEMPORARY_REDIRECT, headers))
    }))
    .await;
    let issuer = TokenIssuer::new(fake(&standby), spec(None));
    let error = issuer.issue(&context(), None).await.expect_err("redirect");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::NotReady, false), "{error:?}");
    assert_eq!(seen.load(Ordering::SeqCst), 0, "the redirect was not followed");
}

#[tokio::test]
async fn an_unclear_answer_to_a_write_leaves_doubt_and_to_a_read_does_not() {
    let broken = axum::Router::new().fallback(|| async { (StatusCode::BAD_GATEWAY, "<html>hunter2</html>") });
    let garbled = axum::Router::new().fallback(|| async { "<html>hunter2</html>" });
    let huge = axum::Router::new().fallback(|| async { "x".repeat(2 << 20) });
    let silent = axum::Router::new().fallback(|| async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        ""
    });
    for router in [broken, garbled, huge, silent] {
        let client = fake(&serve(router).await);
        let issuer = TokenIssuer::new(Arc::clone(&client), spec(None));
        let error = issuer.issue(&context(), None).await.expect_err("no answer");
        assert_eq!((error.kind, error.in_doubt), (ErrorKind::NoAnswer, true), "{error:?}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        let error = issuer.life("a").await.expect_err("no answer");
        assert!(!error.in_doubt && error.kind == ErrorKind::NoAnswer, "{error:?}");
        assert!(issuer.attempt(&token("t")).await.is_err());
        assert!(!check_kinds(&client).await.is_empty());
    }
    let client = fake(&format!("http://{}", closed_port()));
    let error = TokenIssuer::new(client, spec(None)).issue(&context(), None).await.expect_err("down");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Unreachable, false), "{error:?}");
}

#[tokio::test]
async fn a_quota_says_how_long_to_wait() {
    let busy = axum::Router::new().fallback(|headers: HeaderMap| async move {
        assert!(headers.contains_key("x-vault-request"));
        let body = r#"{"errors":["request path \"auth/token/create-orphan\": rate limit quota exceeded"]}"#;
        (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "7")], body)
    });
    let issuer = TokenIssuer::new(fake(&serve(busy).await), spec(None));
    let error = issuer.issue(&context(), None).await.expect_err("busy");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Throttled, false));
    assert_eq!(error.retry_after, Some(Duration::from_secs(7)));
}
