//! What a Vault's tokens and secrets have besides what is rotated: found before anything is issued.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};
use stanch::clock::SystemClock;
use stanch::domain::{Check, CheckVerdict, ErrorKind, Identity};
use stanch::kind;
use stanch::kind::real::RealProvider;
use stanch::kind::vault::kv2::{Kv2Place, Kv2Store};
use stanch::kind::vault::token::{TokenIssuer, TokenSpec};
use stanch::kind::vault::{VaultClient, preflight};
use stanch::provider::layout::Layout;
use stanch::provider::{Issuer, Provider, Store, Use};
use stanch::runbook::model;

use crate::servers::{DEADLINE, OwnVault, Vault, context, failures, serve, unique};
use crate::vault::token;

fn spec(role: Option<&str>) -> TokenSpec {
    TokenSpec { audience: None, ..crate::vault::spec(role) }
}

fn store(client: Arc<VaultClient>, path: &str, field: &str) -> Kv2Store {
    let layout = Layout::new(&["token"], Some(field), &BTreeMap::new()).expect("layout");
    Kv2Store::new(client, Kv2Place::new("secret", path).expect("place"), layout, true)
}

fn warned(checks: &[Check], words: &str) -> bool {
    checks.iter().any(|c| c.verdict == CheckVerdict::Warn && c.detail.contains(words))
}

fn at(address: &str) -> Arc<VaultClient> {
    let vault = Vault { address: address.to_owned(), root: "hvs.hunter2hunter2".to_owned() };
    vault.client()
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn everything_about_a_role_that_does_not_fit_is_named_at_once() {
    let (vault, role) = (Vault::shared(), unique("role"));
    let body = json!({ "allowed_policies": "app", "orphan": true, "token_num_uses": 7, "token_period": "48h",
        "token_no_default_policy": true, "token_bound_cidrs": ["10.0.0.0/8"] });
    vault.api("POST", &format!("auth/token/roles/{role}"), body).await;
    let checks = TokenIssuer::new(vault.client(), spec(Some(&role))).preflight(None).await;
    let failed = failures(&checks);
    assert_eq!(failed.len(), 1, "{failed:?}");
    for words in ["7 times only", "periodic", "cannot look themselves up", "10.0.0.0/8 only"] {
        assert!(failed[0].contains(words), "{words}: {failed:?}");
    }
    let hint =
        checks.iter().find_map(|c| c.hint.as_deref().filter(|h| h.contains("roles/"))).expect("a hint");
    // What the hint says is enough, as it stands.
    let set = hint.split_once(&format!("roles/{role} ")).expect("settings").1.trim_end_matches('`');
    let set: BTreeMap<&str, &str> = set.split(' ').filter_map(|pair| pair.split_once('=')).collect();
    vault.api("POST", &format!("auth/token/roles/{role}"), json!(set)).await;
    let failed = failures(&TokenIssuer::new(vault.client(), spec(Some(&role))).preflight(None).await);
    assert!(failed.len() == 1 && failed[0].contains("renewed past"), "a period hid that: {failed:?}");
    let body = json!({ "token_explicit_max_ttl": "5m" });
    vault.api("POST", &format!("auth/token/roles/{role}"), body).await;
    let checks = TokenIssuer::new(vault.client(), spec(Some(&role))).preflight(None).await;
    assert_eq!(failures(&checks), Vec::<String>::new());
    assert!(warned(&checks, "lives for 5m only; 10m was asked for"), "{checks:?}");
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn a_renewal_does_not_outlive_the_longest_life() {
    let (vault, role) = (Vault::shared(), unique("role"));
    let body = json!({ "allowed_policies": "app", "orphan": true });
    vault.api("POST", &format!("auth/token/roles/{role}"), body).await;
    let whole = TokenSpec { ttl: Duration::from_secs(1200), ..spec(Some(&role)) };
    let issuer = TokenIssuer::new(vault.client(), whole);
    let checks = issuer.preflight(None).await;
    assert!(failures(&checks).is_empty() && warned(&checks, "cannot be renewed"), "{checks:?}");
    let issued = issuer.issue(&context(), None).await.expect("issue");
    let grant = issuer.inspect(&issued.identity.handle).await.expect("inspect");
    assert_eq!((grant.wider, grant.ttl), (Vec::new(), Some(Duration::from_secs(1200))));
    let own = Vault { root: issued.material.main().expect("token").expose().to_owned(), ..vault.clone() };
    let found = own.api("GET", "auth/token/lookup-self", json!(null)).await;
    assert_eq!(found["data"]["renewable"], json!(false));
    issuer.revoke(&context(), &issued.identity.handle, None).await.expect("revoke");
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn a_run_does_not_work_with_a_child_of_the_old_token() {
    let vault = Vault::shared();
    let maker = json!({ "policy": "path \"auth/token/*\" { capabilities = [\"update\"] }" });
    vault.api("PUT", "sys/policies/acl/maker", maker).await;
    let make = |parent: String, body: Value| {
        let parent = Vault { root: parent, ..vault.clone() };
        async move { parent.api("POST", "auth/token/create", body).await["auth"].clone() }
    };
    let text = |auth: &Value, key: &str| auth[key].as_str().expect(key).to_owned();
    let both = json!({ "policies": ["maker", "app"] });
    let old = make(vault.root.clone(), both.clone()).await;
    let outgoing = Identity { handle: text(&old, "accessor"), principal: String::new() };
    let child = make(text(&old, "client_token"), both.clone()).await;
    let grandchild = make(text(&child, "client_token"), both.clone()).await;
    let safe = json!({ "policies": ["maker", "app", "other"] });
    let other = make(vault.root.clone(), safe).await;
    let orphan = make(vault.root.clone(), json!({ "policies": ["maker", "app"], "no_parent": true })).await;
    let batch =
        make(vault.root.clone(), json!({ "policies": ["maker", "app"], "type": "batch", "no_parent": true }))
            .await;
    let few =
        make(vault.root.clone(), json!({ "policies": ["maker", "app"], "num_uses": 60, "no_parent": true }))
            .await;
    for (who, words) in [
        (child, "may be a child"),
        (grandchild, "may be a child"),
        (old.clone(), "the very token"),
        (other, ""),
        (orphan, ""),
        (batch, "batch token"),
        (few, "more times"),
    ] {
        let issuer = TokenIssuer::new(vault.client_as(&text(&who, "client_token")), spec(None));
        let checks = issuer.preflight(Some(&outgoing)).await;
        let own = checks.iter().find(|c| c.name == "own token").expect("a check");
        assert_eq!(own.verdict == CheckVerdict::Fail, !words.is_empty(), "{words}: {own:?}");
        assert!(own.detail.contains(words), "{words}: {own:?}");
    }
    vault.api("POST", "auth/token/revoke-accessor", json!({ "accessor": outgoing.handle })).await;
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn an_old_batch_token_is_refused_and_one_that_cannot_look_itself_up_is_known() {
    let vault = Vault::shared();
    let issuer = TokenIssuer::new(vault.client(), spec(None));
    let made = vault.api("POST", "auth/token/create", json!({ "type": "batch", "policies": ["app"] })).await;
    let batch = token(made["auth"]["client_token"].as_str().expect("token"));
    let error = issuer.identify(&batch).await.expect_err("a batch token");
    assert!(error.kind == ErrorKind::Invalid && error.message.contains("ends at"), "{error:?}");

    let body = json!({ "policies": ["app"], "no_default_policy": true, "num_uses": 3 });
    let made = vault.api("POST", "auth/token/create", body).await;
    let hard = token(made["auth"]["client_token"].as_str().expect("token"));
    for _ in 0..4 {
        let standing = issuer.identify(&hard).await.expect("identify").expect("it is known");
        assert_eq!(standing.uses_left, Some(3), "asking takes none");
    }
    for none in ["hvs.hunter2 x", "hvs.hunter2\n", "", "{\"a\":\"hunter2\"}"] {
        for error in [
            issuer.identify(&token(none)).await.map(|_| ()).expect_err("no token"),
            issuer.attempt(&token(none)).await.map(|_| ()).expect_err("no token"),
        ] {
            assert!(
                error.kind == ErrorKind::Invalid && !format!("{error:?}").contains("hunter2"),
                "{error:?}"
            );
        }
    }
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn parameters_that_a_policy_forbids_are_found_before_they_are_sent() {
    let (vault, path) = (Vault::shared(), unique("kv"));
    vault.api("POST", &format!("secret/data/{path}"), json!({ "data": { "token": "x" } })).await;
    let rules = format!(
        "path \"auth/token/create-orphan\" {{ capabilities = [\"update\", \"sudo\"] allowed_parameters = {{ \"policies\" = [] }} }}
        path \"auth/token/*\" {{ capabilities = [\"update\"] }}
        path \"secret/data/{path}\" {{ capabilities = [\"read\", \"update\"] denied_parameters = {{ \"options\" = [] }} }}
        path \"secret/metadata/*\" {{ capabilities = [\"read\"] }}
        path \"secret/destroy/*\" {{ capabilities = [\"update\"] }}"
    );
    let client = vault.client_as(&vault.token(&rules).await);
    let failed = failures(&store(Arc::clone(&client), &path, "token").preflight().await);
    assert!(failed.len() == 1 && failed[0].contains("send the parameters options"), "{failed:?}");
    let failed = failures(&TokenIssuer::new(client, spec(None)).preflight(None).await);
    assert!(failed.len() == 1 && failed[0].contains("send the parameters ttl, meta"), "{failed:?}");
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn two_credentials_of_one_secret_both_land_and_neighbours_stay() {
    let (vault, path) = (Vault::shared(), unique("kv"));
    let data = json!({ "data": { "a": "old-a", "b": "old-b", "n": 1.5, "o": { "k": [1, null] } } });
    vault.api("POST", &format!("secret/data/{path}"), data).await;
    let client = vault.client();
    let (a, b) = (store(Arc::clone(&client), &path, "a"), store(client, &path, "b"));
    let step = context();
    for (from, to) in [("old", "new"), ("new", "old"), ("old", "newer")] {
        let value = |word: &str, field: &str| token(&format!("{word}-{field}"));
        let (new_a, new_b, old_a, old_b) =
            (value(to, "a"), value(to, "b"), value(from, "a"), value(from, "b"));
        let (first, second) =
            tokio::join!(a.promote(&step, &new_a, &old_a, None), b.promote(&step, &new_b, &old_b, None),);
        assert_ne!(first.expect("a").version, second.expect("b").version);
    }
    let left = vault.api("GET", &format!("secret/data/{path}"), json!(null)).await;
    let wanted = json!({ "a": "newer-a", "b": "newer-b", "n": 1.5, "o": { "k": [1, null] } });
    assert_eq!(left["data"]["data"], wanted);
    // Every version that holds the old value of `a` goes; one that does not stays.
    a.destroy(&step, "1", &token("old-a")).await.expect("destroy");
    let after = vault.api("GET", &format!("secret/metadata/{path}"), json!(null)).await;
    for (version, state) in after["data"]["versions"].as_object().expect("versions") {
        let held = store(vault.client(), &path, "a").read(Some(version)).await;
        match state["destroyed"].as_bool().expect("a flag") {
            true => assert_eq!(held.expect_err("destroyed").kind, ErrorKind::NotFound),
            false => assert!(!held.expect("readable").same_as(&token("old-a")), "version {version} was left"),
        }
    }
}

/// A place that is gone is filled again, in each of the ways in which it can be gone; neighbours come back with it.
#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn a_place_that_is_gone_is_filled_again() {
    let vault = Vault::shared();
    for (gone, wanted) in [
        ("delete", json!({ "token": "new", "n": 1.5 })),
        ("destroy", json!({ "token": "new" })),
        ("metadata", json!({ "token": "new" })),
        ("field", json!({ "token": "new", "n": 1.5 })),
    ] {
        let path = unique("kv");
        let at = format!("secret/data/{path}");
        vault.api("POST", &at, json!({ "data": { "token": "old", "n": 1.5 } })).await;
        let store = store(vault.client(), &path, "token");
        match gone {
            "delete" => vault.api("DELETE", &at, json!(null)).await,
            "destroy" => {
                vault.api("PUT", &format!("secret/destroy/{path}"), json!({ "versions": [1] })).await
            }
            "metadata" => vault.api("DELETE", &format!("secret/metadata/{path}"), json!(null)).await,
            _ => vault.api("POST", &at, json!({ "data": { "n": 1.5 } })).await,
        };
        let error = store.read(None).await.expect_err(gone);
        assert_eq!(error.kind, ErrorKind::NotFound, "{gone}: {error:?}");
        store.refill(&context(), &token("new")).await.expect(gone);
        assert_eq!(vault.api("GET", &at, json!(null)).await["data"]["data"], wanted, "{gone}");
    }
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn a_secret_that_deletes_itself_or_keeps_one_version_is_named() {
    let (vault, path) = (Vault::shared(), unique("kv"));
    let body = json!({ "delete_version_after": "1h", "max_versions": 1, "cas_required": true });
    vault.api("POST", &format!("secret/metadata/{path}"), body).await;
    let data = json!({ "data": { "token": "old" }, "options": { "cas": 0 } });
    vault.api("POST", &format!("secret/data/{path}"), data).await;
    let kv = store(vault.client(), &path, "token");
    let checks = kv.preflight().await;
    assert_eq!(failures(&checks), Vec::<String>::new());
    assert!(warned(&checks, "deletes itself") && warned(&checks, "only one version"), "{checks:?}");
    // The version before is pruned by the write: there is nothing to destroy, and that is well.
    kv.promote(&context(), &token("new"), &token("old"), None).await.expect("promote");
    kv.destroy(&context(), "1", &token("old")).await.expect("pruned already");
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn two_addresses_of_one_server_are_one_place() {
    let vault = Vault::shared();
    let near = Vault { address: vault.address.replace("127.0.0.1", "localhost"), ..vault.clone() };
    let place = |vault: &Vault, mount: &str, path: &str| {
        let layout = Layout::new(&["token"], Some("t"), &BTreeMap::new()).expect("layout");
        let store = Kv2Store::new(vault.client(), Kv2Place::new(mount, path).expect("place"), layout, false);
        async move { store.place().await.expect("place") }
    };
    let here = place(&vault, "secret", "app/x").await;
    assert_eq!(here, place(&near, "secret/", "/app/x/").await);
    assert_ne!(here, place(&vault, "secret", "app/y").await);
    assert!(!here.contains("127.0.0.1"), "{here}");
}

#[tokio::test]
async fn a_standby_that_lags_did_nothing_and_is_asked_again() {
    let behind = axum::Router::new().fallback(|| async {
        (StatusCode::PRECONDITION_FAILED, r#"{"errors":["required index state not present"]}"#)
    });
    let client = at(&serve(behind).await);
    let issuer = TokenIssuer::new(Arc::clone(&client), spec(None));
    let kv = store(client, "app", "token");
    let (step, old, new) = (context(), token("hvs.old"), token("hvs.new"));
    for error in [
        issuer.issue(&step, None).await.map(|_| ()).expect_err("issue"),
        issuer.life("a").await.map(|_| ()).expect_err("life"),
        issuer.attempt(&old).await.map(|_| ()).expect_err("attempt"),
        issuer.revoke(&step, "a", None).await.map(|_| ()).expect_err("revoke"),
        kv.observe().await.map(|_| ()).expect_err("observe"),
        kv.promote(&step, &new, &old, None).await.map(|_| ()).expect_err("promote"),
    ] {
        assert_eq!((error.kind, error.in_doubt), (ErrorKind::NotReady, false), "{error:?}");
    }
    for checks in [issuer.preflight(None).await, kv.preflight().await] {
        assert!(checks.iter().any(|c| c.kind == Some(ErrorKind::NotReady)), "it passes: {checks:?}");
    }
}

#[tokio::test]
async fn what_answers_in_a_vaults_place_is_not_told_to_initialise_it() {
    for body in ["{}", "{\"errors\":[]}", "null", "<html>ui</html>"] {
        let other = axum::Router::new().fallback(move || async move { body });
        let checks = preflight(&at(&serve(other).await), &SystemClock::new()).await;
        let server = checks.iter().find(|c| c.name == "server").expect("a check");
        assert!(
            server.verdict == CheckVerdict::Fail && server.kind == Some(ErrorKind::Invalid),
            "{server:?}"
        );
        let hint = server.hint.as_deref().expect("a hint");
        assert!(hint.contains("address") && !hint.contains("init"), "{hint}");
    }
}

/// Requests that follow each other share a connection; an intermediary that echoes what it was sent
/// puts no secret into an error.
#[tokio::test]
async fn connections_are_kept_and_an_echo_is_cleaned() {
    let echo = axum::Router::new().fallback(|request: axum::extract::Request| async move {
        let (parts, body) = request.into_parts();
        if parts.method == "GET" {
            let data = json!({ "data": { "token": "hvs.old-token-1", "db": "neighbour-secret-2" }, "metadata": { "version": 1 } });
            return (StatusCode::OK, json!({ "data": data }).to_string());
        }
        let body = axum::body::to_bytes(body, 1 << 20).await.expect("body");
        let sent = format!("{:?} {}", parts.headers, String::from_utf8_lossy(&body));
        (StatusCode::BAD_REQUEST, json!({ "errors": [sent] }).to_string())
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let client = at(&format!("http://{}", listener.local_addr().expect("address")));
    let opened = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&opened);
    let counted = axum::serve::ListenerExt::tap_io(listener, move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    tokio::spawn(async move { axum::serve(counted, echo).await });
    let kv = store(Arc::clone(&client), "app", "token");
    for _ in 0..5 {
        kv.observe().await.expect("observe");
    }
    let error = kv
        .promote(&context(), &token("hvs.new-token-3"), &token("hvs.old-token-1"), None)
        .await
        .expect_err("an echo");
    let shown = format!("{error:?}");
    for secret in ["hvs.new-token-3", "neighbour-secret-2", "hvs.hunter2hunter2"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert_eq!(opened.load(Ordering::SeqCst), 1, "one connection for seven requests");
    tokio::time::sleep(Duration::from_millis(2200)).await;
    kv.observe().await.expect("observe");
    assert_eq!(opened.load(Ordering::SeqCst), 2, "what was idle for longer is not trusted");
}

/// Checks, gates and consumers are of the same house as the Vault.
#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn a_private_ca_is_trusted_by_the_runbooks_own_requests() {
    let (own, ca) = OwnVault::start_with_tls().await;
    let url = format!("{}/v1/sys/health", own.vault.address);
    let credential: model::Credential = serde_yaml::from_str(
        "issuer: {type: vault-token, connection: v, policies: [app], ttl: 10m}\nstores: []\n",
    )
    .expect("YAML");
    let probe = model::Probe::Http(kind::http::HttpProbe {
        method: model::HttpMethod::Get,
        url,
        bearer: true,
        header: None,
        expect: 200,
        refuse: vec![401, 403],
    });
    for (ca, trusted) in [(Some(ca.display().to_string()), true), (None, false)] {
        let (address, ca) = (own.vault.address.clone(), ca.clone());
        let env = move |name: &str| match name {
            "VAULT_ADDR" => Some(address.clone()),
            "VAULT_CACERT" => ca.clone(),
            _ => None,
        };
        let connections = serde_yaml::from_str("v: {type: vault}").expect("YAML");
        let clock = Arc::new(SystemClock::new());
        let provider = RealProvider::with_environment(connections, clock, DEADLINE, Arc::new(env));
        let probe = provider.probe("web", &credential, &probe).await.expect("a probe");
        let answer = probe.attempt(&token("any")).await;
        assert_eq!(answer.is_ok_and(|answer| answer == Use::Accepted), trusted);
    }
}
