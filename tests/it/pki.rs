//! Certificates, against a real Vault or OpenBao: conformance, revocation lists, and servers that lie.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use serde_json::{Value, json};
use stanch::clock::SystemClock;
use stanch::domain::{CheckVerdict, ErrorKind, Identity, Life};
use stanch::kind::vault::VaultClient;
use stanch::kind::vault::pki::{CertificateIssuer, VaultPki};
use stanch::provider::{CallContext, Issuer, Use};
use stanch::secret::{Material, Secret};

use crate::approle::{in_front, through};
use crate::conformance::issuer_keeps_its_promises;
use crate::relying_party::{RelyingParty, app_role, is_revoked, serials};
use crate::servers::{Vault, context, failures};
use crate::tool::{Tool, search};
use crate::worlds::World;

/// Certificates of the role `app`, with these fields of the issuer as well.
fn spec(mount: &str, more: Value) -> VaultPki {
    let mut fields = json!({
        "connection": "vault", "mount": mount, "role": "app", "common_name": "app.test", "ttl": "24h",
    });
    fields.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
    serde_json::from_value(fields).expect("an issuer")
}

fn issuer_with(client: Arc<VaultClient>, mount: &str, more: Value) -> CertificateIssuer {
    CertificateIssuer::new(client, spec(mount, more), Arc::new(SystemClock::new())).expect("plain names")
}

fn issuer(vault: &Vault, mount: &str) -> CertificateIssuer {
    issuer_with(vault.client(), mount, json!({}))
}

fn identity(serial: &str) -> Identity {
    Identity { handle: serial.to_owned(), principal: "a certificate".to_owned() }
}

/// A certificate that stanch did not make: its serial number, and its parts.
pub(crate) async fn another(vault: &Vault, mount: &str, more: Value) -> (String, Material) {
    let mut body = json!({ "common_name": "app.test", "ttl": "2h" });
    body.as_object_mut().expect("body").extend(more.as_object().expect("fields").clone());
    let made = vault.api("POST", &format!("{mount}/issue/app"), body).await;
    let part = |name: &str| Secret::new(made["data"][name].as_str().expect("text"));
    let material = Material::single("certificate", part("certificate"))
        .with("private_key", part("private_key"))
        .with("ca_chain", part("issuing_ca"));
    (part("serial_number").expose().to_owned(), material)
}

async fn configure(vault: &Vault, mount: &str, lists: Value) {
    vault.api("POST", &format!("{mount}/config/crl"), lists).await;
}

fn holding(step: &CallContext, material: &Material) -> CallContext {
    CallContext { held: Some(Arc::new(material.clone())), ..step.clone() }
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn certificates_conform() {
    let vault = Vault::shared();
    let (mount, _) = RelyingParty::mount(&vault).await;
    issuer_keeps_its_promises("vault-pki", &issuer(&vault, &mount), "7a:00:11").await;
    // Every type of key, with every kind of name; and lists that are made by the clock.
    let role = json!({ "key_type": "any", "allow_any_name": true, "allowed_uri_sans": "*" });
    vault.api("POST", &format!("{mount}/roles/app"), role).await;
    configure(&vault, &mount, json!({ "auto_rebuild": true, "enable_delta": true })).await;
    for key in ["ec-p256", "rsa2048", "ed25519"] {
        let more = json!({
            "key": key, "rotate_crl": true, "alt_names": ["*.app.test", "ops@app.test"], "ip_sans": ["10.0.0.1", "::1"],
            "uri_sans": ["spiffe://app.test/web"],
        });
        let one = issuer_with(vault.client(), &mount, more);
        issuer_keeps_its_promises("vault-pki", &one, "7a:00:11").await;
        let step = context();
        let issued = one.issue(&step, one.candidate(&step).as_ref()).await.expect("issue");
        let grant = one.inspect(&issued.identity.handle).await.expect("inspect");
        let ttl = std::time::Duration::from_secs(24 * 60 * 60);
        assert_eq!((grant.wider, grant.lives, grant.ttl), (Vec::new(), Some(ttl), Some(ttl)), "{key}");
        let old = identity(&issued.identity.handle);
        assert_eq!(failures(&one.preflight(Some(&old)).await), Vec::<String>::new(), "{key}");
    }
}

/// The private key is made here, and no request carries it.
#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn the_private_key_is_sent_nowhere() {
    let vault = Vault::shared();
    let (mount, _) = RelyingParty::mount(&vault).await;
    let sent = Arc::new(std::sync::Mutex::new(String::new()));
    let seen = Arc::clone(&sent);
    let front = in_front(&vault, move |_, body| {
        seen.lock().expect("lock").push_str(&String::from_utf8_lossy(body));
        None
    })
    .await;
    let (one, step) = (issuer(&front, &mount), context());
    let candidate = one.candidate(&step).expect("a candidate");
    one.issue(&step, Some(&candidate)).await.expect("issue");
    let sent = sent.lock().expect("lock").clone();
    let key = candidate.part("private_key").expect("a key").expose();
    let lines = key.lines().filter(|line| !line.starts_with("---"));
    assert!(sent.contains("BEGIN CERTIFICATE REQUEST"), "what is looked at is what is sent");
    assert!(lines.into_iter().all(|line| !sent.contains(line)));
}

/// With lists that are made by the clock, a revoked certificate is not gone before a list names it.
#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn a_revoked_certificate_that_no_list_names_is_not_gone() {
    let vault = Vault::shared();
    let party = RelyingParty::start(&vault).await;
    let mount = &party.mount;
    let one = issuer(&vault, mount);
    let (old, material) = another(&vault, mount, json!({})).await;
    let told = async |one: &CertificateIssuer| {
        let checks = one.preflight(Some(&identity(&old))).await;
        assert_eq!(failures(&checks), Vec::<String>::new());
        let check = checks.into_iter().find(|check| check.name == "revocation lists").expect("a check");
        (check.verdict, check.detail)
    };
    assert_eq!(told(&one).await.0, CheckVerdict::Pass);
    configure(&vault, mount, json!({ "auto_rebuild": true, "enable_delta": true })).await;
    let (verdict, detail) = told(&one).await;
    assert_eq!(verdict, CheckVerdict::Warn);
    assert!(["12h", "72h", "15m", "delta"].iter().all(|word| detail.contains(word)), "{detail}");

    let error = one.revoke(&context(), &old, Some(&material)).await.expect_err("no list names it");
    assert!(error.in_doubt && error.message.contains("the next list comes by"), "{error:?}");
    assert!(is_revoked(&vault, mount, &old).await);
    assert_eq!(one.life(&old).await.expect("life"), Life::Deleted);
    assert_eq!(one.attempt(&material).await.expect("an answer"), Use::Accepted, "as relying parties do");
    let part = |name: &str| material.part(name).expect("a part").expose().to_owned();
    assert!(party.accepts(&part("certificate"), &part("private_key")).await);
    let known = one.identify(&material).await.expect("an answer").expect("it is still to be ended");
    assert_eq!((known.identity.handle.as_str(), known.life), (old.as_str(), Life::Deleted));

    // Asked for a list, the server names it.
    let asks = issuer_with(vault.client(), mount, json!({ "rotate_crl": true }));
    assert_eq!(told(&asks).await.0, CheckVerdict::Pass);
    asks.revoke(&context(), &old, None).await.expect("revoke");
    assert_eq!(one.life(&old).await.expect("life"), Life::Gone);
    assert!(matches!(one.attempt(&material).await.expect("an answer"), Use::Refused(_)));
    assert!(!party.accepts(&part("certificate"), &part("private_key")).await);
    vault.api("DELETE", &format!("sys/mounts/{mount}"), Value::Null).await;
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn what_is_wrong_is_named_before_anything_is_made() {
    let vault = Vault::shared();
    let (mount, _) = RelyingParty::mount(&vault).await;
    let (old, material) = another(&vault, &mount, json!({ "alt_names": "b.app.test" })).await;
    let role = async |more: Value| {
        let mut body = app_role();
        body.as_object_mut().expect("body").extend(more.as_object().expect("fields").clone());
        vault.api("POST", &format!("{mount}/roles/app"), body).await;
    };
    let named = |more: Value| {
        let mut fields = json!({ "alt_names": ["b.app.test"] });
        fields.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
        issuer_with(vault.client(), &mount, fields)
    };
    let failed = async |more: Value| failures(&named(more).preflight(Some(&identity(&old))).await).join("\n");
    assert_eq!(failed(json!({})).await, "");
    let said = failed(json!({ "alt_names": [] })).await;
    assert!(said.contains("also for b.app.test"), "{said}");
    let said = failed(json!({ "key": "rsa2048" })).await;
    assert!(said.contains("of the type ec"), "{said}");
    for (more, words) in [
        (json!({ "no_store": true }), "cannot be revoked"),
        (json!({ "generate_lease": true }), "with the token that stanch uses"),
        (json!({ "client_flag": false }), "for TLS clients"),
    ] {
        role(more).await;
        let said = failed(json!({})).await;
        assert!(said.contains(words), "{said}");
    }
    role(json!({})).await;
    let said = failed(json!({ "role": "none" })).await;
    assert!(said.contains("role none"), "{said}");
    configure(&vault, &mount, json!({ "disable": true })).await;
    let said = failed(json!({})).await;
    assert!(said.contains("`disable`"), "{said}");
    // A role that signs for less time is a matter of the answer, and worth a word.
    configure(&vault, &mount, json!({ "disable": false })).await;
    role(json!({ "max_ttl": "1h" })).await;
    let checks = named(json!({})).preflight(None).await;
    assert!(checks.iter().any(|check| check.detail.contains("valid for 1h at most")), "{checks:?}");

    // All that is missing of permissions, at once, and each by itself.
    let nothing = r#"path "nowhere" { capabilities = ["read"] }"#;
    let rules = [
        (format!("{mount}/roles/app"), "read", "read the role"),
        (format!("{mount}/config/crl"), "read", "read how revocation lists are made"),
        (format!("{mount}/certs"), "list", "list certificates"),
        (format!("{mount}/sign/app"), "update", "sign the new certificate"),
        (format!("{mount}/revoke"), "update", "revoke certificates"),
        (format!("{mount}/crl/rotate"), "read", "ask for new revocation lists"),
    ];
    let asked = async |rules: String| {
        let client = vault.client_as(&vault.token(&rules).await);
        let fields = json!({ "alt_names": ["b.app.test"], "rotate_crl": true });
        failures(&issuer_with(client, &mount, fields).preflight(Some(&identity(&old))).await)
    };
    let all = asked(nothing.to_owned()).await.join("\n");
    assert!(rules.iter().all(|(_, _, why)| all.contains(why)), "{all}");
    for missing in 0..=rules.len() {
        let given = rules.iter().enumerate().filter(|(at, _)| *at != missing);
        let text =
            given.map(|(_, (path, what, _))| format!("path \"{path}\" {{ capabilities = [\"{what}\"] }}\n"));
        let said = asked(text.collect()).await;
        match rules.get(missing) {
            None => assert_eq!(said, Vec::<String>::new(), "all of them suffice"),
            Some((path, _, why)) => {
                let told = said.join("\n");
                assert!(told.contains(why) && told.contains(path), "{missing}: {told}");
                let others = rules.iter().filter(|(_, _, other)| other != why);
                assert!(others.into_iter().all(|(_, _, other)| !told.contains(other)), "{told}");
            }
        }
    }

    // One that is known, and whose server does not store it.
    role(json!({ "no_store": true })).await;
    let (_, unknown) = another(&vault, &mount, json!({})).await;
    let error = named(json!({})).identify(&unknown).await.expect_err("it is alive, and not stored");
    assert!(error.kind == ErrorKind::Unsupported && error.message.contains("does not store it"), "{error:?}");
    // One of another authority; a key of another certificate; and what is none.
    let (elsewhere, _) = RelyingParty::mount(&vault).await;
    let (_, theirs) = another(&vault, &elsewhere, json!({})).await;
    let error = named(json!({})).identify(&theirs).await.expect_err("another's");
    assert!(error.message.contains("no issuer of"), "{error:?}");
    let mixed = material.clone().with("private_key", theirs.part("private_key").expect("a key").clone());
    let error = named(json!({})).identify(&mixed).await.expect_err("another key");
    assert!(error.message.contains("not that of the certificate"), "{error:?}");
    let odd = material.with("certificate", Secret::new("hunter2"));
    let error = named(json!({})).identify(&odd).await.expect_err("no certificate");
    assert!(error.kind == ErrorKind::Invalid && !format!("{error:?}").contains("hunter2"), "{error:?}");
    for (field, bad) in [
        ("role", json!("a/b")),
        ("mount", json!("../x")),
        ("common_name", json!("")),
        ("alt_names", json!(["a_b"])),
        ("ip_sans", json!(["a"])),
        ("uri_sans", json!(["a"])),
    ] {
        let clock = Arc::new(SystemClock::new());
        let made = CertificateIssuer::new(vault.client(), spec(&mount, json!({ (field): bad })), clock);
        assert!(made.is_err(), "{field}");
    }
}

/// What the server signs counts, and not what was asked for.
#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn a_certificate_for_other_names_is_refused() {
    let vault = Vault::shared();
    let (mount, _) = RelyingParty::mount(&vault).await;
    let (plain, _) = another(&vault, &mount, json!({})).await;
    let (more, _) = another(&vault, &mount, json!({ "alt_names": "admin.app.test" })).await;
    let one = issuer(&vault, &mount);
    assert_eq!(one.inspect(&plain).await.expect("inspect").wider, Vec::<String>::new());
    let wider = one.inspect(&more).await.expect("inspect").wider;
    assert!(wider.len() == 1 && wider[0].contains("admin.app.test"), "{wider:?}");
    let wants = issuer_with(vault.client(), &mount, json!({ "alt_names": ["b.app.test"] }));
    let error = wants.inspect(&plain).await.expect_err("a name is missing");
    assert!(error.kind == ErrorKind::Declined && error.message.contains("b.app.test"), "{error:?}");
}

/// A lost response leaves a certificate that only its key tells: it is found by that, and by nothing else.
#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn a_certificate_is_found_by_its_key() {
    let vault = Vault::shared();
    let (mount, _) = RelyingParty::mount(&vault).await;
    let (one, step) = (issuer(&vault, &mount), context());
    let before = one.existing().await.expect("existing");
    let candidate = one.candidate(&step).expect("a candidate");
    // Others get certificates of the same names meanwhile; a request that something on the way repeats makes two.
    another(&vault, &mount, json!({})).await;
    let mut made = Vec::new();
    for _ in 0..2 {
        made.push(one.issue(&step, Some(&candidate)).await.expect("issue").identity.handle);
    }
    made.sort();
    let mut found = one.find(&holding(&step, &candidate), &before).await.expect("find");
    found.sort();
    assert_eq!(found, made);
    let other = one.candidate(&step).expect("another");
    assert_eq!(one.find(&holding(&step, &other), &before).await.expect("find"), Vec::<String>::new());
    assert_eq!(one.find(&step, &before).await.expect("find"), Vec::<String>::new(), "nothing was sealed");
}

/// No answer of something else is a word on the certificate.
#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn an_unclear_answer_is_an_error() {
    let vault = Vault::shared();
    let (mount, _) = RelyingParty::mount(&vault).await;
    let (old, material) = another(&vault, &mount, json!({})).await;
    let (other, _) = another(&vault, &mount, json!({})).await;
    issuer(&vault, &mount).revoke(&context(), &other, None).await.expect("revoke");
    let shown = vault.api("GET", &format!("{mount}/cert/{other}"), Value::Null).await.to_string();
    for (status, body) in [
        (StatusCode::NOT_FOUND, "<html>not found</html>".to_owned()),
        (StatusCode::NOT_FOUND, r#"{"errors":["no handler for route"]}"#.to_owned()),
        (StatusCode::FORBIDDEN, r#"{"errors":["permission denied"]}"#.to_owned()),
        (StatusCode::NO_CONTENT, String::new()),
        (StatusCode::OK, "<html>hello</html>".to_owned()),
        // Another certificate's record, which is revoked.
        (StatusCode::OK, shown),
    ] {
        let front = through(&vault, move |path, _| {
            let asked = path.contains("/cert/") || path.ends_with("/certs");
            asked.then(|| (status, body.clone()).into_response())
        })
        .await;
        let one = issuer(&front, &mount);
        assert!(one.life(&old).await.is_err(), "{status}");
        assert!(one.identify(&material).await.is_err(), "{status}");
        assert!(one.find(&holding(&context(), &material), &[]).await.is_err(), "{status}");
    }
    // A list of another issuer, an old one, and what is none: no verdict.
    let (elsewhere, _) = RelyingParty::mount(&vault).await;
    let theirs = plain_list(&vault, &elsewhere).await;
    for body in [theirs, b"hello".to_vec(), Vec::new()] {
        let front = through(&vault, move |path, _| {
            path.ends_with("/crl/der").then(|| (StatusCode::OK, body.clone()).into_response())
        })
        .await;
        let one = issuer(&front, &mount);
        let error = one.attempt(&material).await.expect_err("no list");
        assert_eq!(error.kind, ErrorKind::NoAnswer, "{error:?}");
        assert!(one.life(&other).await.is_err());
    }
}

pub(crate) async fn plain_list(vault: &Vault, mount: &str) -> Vec<u8> {
    let url = format!("{}/v1/{mount}/crl", vault.address);
    let answer = crate::servers::plain_http().get(url).send().await.expect("Vault answers");
    answer.bytes().await.expect("a list").to_vec()
}

/// The bare kill: by the serial number, in any spelling.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn a_certificate_dies_by_its_serial_number() {
    let vault = Vault::shared();
    let party = RelyingParty::start(&vault).await;
    let mount = &party.mount;
    let (old, material) = another(&vault, mount, json!({})).await;
    let rules = r#"path "*" { capabilities = ["create", "read", "update", "delete", "list", "sudo"] }"#;
    let tool = Tool::new().with("VAULT_ADDR", &vault.address).with("VAULT_TOKEN", &vault.token(rules).await);
    let typed = old.to_uppercase().replace(':', "-");
    let set = format!("mount={mount}");
    let kill = ["revoke", "vault-pki", &typed, "7a:00:11", "--set", &set, "--reason", "in a log", "--yes"];
    let ran = tool.done(&kill).await.expect(0);
    assert!(ran.stdout.contains("gone, as its issuer says"), "{ran:?}");
    assert!(ran.stdout.contains("7a:00:11: unknown to its issuer"), "{ran:?}");
    let part = |name: &str| material.part(name).expect("a part").expose().to_owned();
    assert!(!party.accepts(&part("certificate"), &part("private_key")).await);
    search(&tool.state(), &[part("private_key")]);
    let ran = tool.done(&["revoke", "vault-pki", "ca", "--set", &set, "--reason", "x", "--yes"]).await;
    assert!(ran.code != Some(0) && ran.stderr.contains("not a serial number"), "{ran:?}");
    // No list names it: that is not done.
    configure(&vault, mount, json!({ "auto_rebuild": true })).await;
    let (old, _) = another(&vault, mount, json!({})).await;
    let ran = tool.done(&["revoke", "vault-pki", &old, "--set", &set, "--reason", "x", "--yes"]).await;
    assert!(ran.code != Some(0) && ran.stderr.contains("does not name it"), "{ran:?}");
    vault.api("GET", &format!("{mount}/crl/rotate"), Value::Null).await;
    let ran = tool.done(&["resume", &tool.newest()]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

/// The response to the request to sign is lost: the certificate is found by its key, revoked, and another one made.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn a_run_whose_certificate_was_lost_revokes_it_and_makes_another() {
    let world = World::pki().await;
    let World::Pki { vault, party, .. } = &world else { unreachable!("it is in a Vault") };
    let (lost, target) = (Arc::new(AtomicBool::new(false)), vault.clone());
    let front = in_front(vault, move |parts, body| {
        if !parts.uri.path().contains("/sign/") || lost.swap(true, Ordering::SeqCst) {
            return None;
        }
        let (target, path, body) = (target.clone(), parts.uri.path().to_owned(), body.to_vec());
        let signs = async move {
            let path = path.trim_start_matches("/v1/").to_owned();
            target.api("POST", &path, serde_json::from_slice(&body).expect("JSON")).await
        };
        let made = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("runtime")
                .block_on(signs)
        });
        made.join().expect("it was signed");
        Some((StatusCode::BAD_GATEWAY, "<html>bad gateway</html>").into_response())
    })
    .await;
    let before = world.current().await;
    let consumer = world.consumer().await;
    let tool = world.tool_through(&front.address);
    let runbook = tool.runbook(&world.runbook(&consumer.url, Some("overlap: { until: [adopted] }")));
    tool.run(&["run", runbook.to_str().expect("path"), "--env", "test", "--yes"]).expect(0);
    world.is_rotated(&before).await;
    consumer.never_failed().await;
    let made = serials(vault, &party.mount).await.len() - party.others.len();
    assert_eq!(made, 3, "the old one, the lost one, and the new one");
}

/// How a server lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// It says yes to the revocation, and does nothing.
    Nothing,
    /// It says yes, shows the certificate as revoked, and no list ever names it.
    Unlisted,
    /// It says yes, and that it has no such certificate any more.
    Vanished,
}

/// A whole run against such a server: it is not done.
async fn does_not_end_as_done(lie: Lie) {
    let world = World::pki().await;
    let World::Pki { vault, party, .. } = &world else { unreachable!("it is in a Vault") };
    let before = world.current().await;
    let old = world.existing().await.remove(0);
    let (said, asked) = (Arc::new(std::sync::Mutex::new(false)), old.clone());
    let record = vault.api("GET", &format!("{}/cert/{old}", party.mount), Value::Null).await;
    let liar = in_front(vault, move |parts, body| {
        let (path, mut said) = (parts.uri.path(), said.lock().expect("lock"));
        if path.ends_with("/revoke") && String::from_utf8_lossy(body).contains(&asked) {
            *said = true;
            return Some(
                json!({ "data": { "revocation_time": 1, "state": "revoked" } }).to_string().into_response(),
            );
        }
        if !*said || lie == Lie::Nothing || !path.ends_with(&asked) {
            return None;
        }
        if lie == Lie::Vanished {
            return Some((StatusCode::NOT_FOUND, r#"{"errors":[]}"#).into_response());
        }
        let mut record = record.clone();
        record["data"]["revocation_time"] = json!(1);
        Some(record.to_string().into_response())
    })
    .await;
    let consumer = world.consumer().await;
    let tool = world.tool_through(&liar.address);
    let runbook = world.runbook(&consumer.url, Some("overlap: { until: [adopted] }"));
    let runbook = tool.runbook(&(runbook + "limits: { deadline: 2s }\n"));
    let ran = tool.done(&["run", runbook.to_str().expect("path"), "--env", "test", "--yes", "-vv"]).await;
    assert!(!matches!(ran.code, Some(0 | 15)), "{ran:?}");
    assert_ne!(tool.status()["end"], "done");
    assert!(world.accepts(&before).await, "{ran:?}");
    assert_eq!(world.existing().await.len(), 2);
    world.is_silent(&tool, &ran, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn a_revocation_that_did_not_happen_is_not_done() {
    does_not_end_as_done(Lie::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn a_revocation_that_no_list_ever_shows_is_not_done() {
    does_not_end_as_done(Lie::Unlisted).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn a_certificate_that_the_server_forgets_is_not_done() {
    does_not_end_as_done(Lie::Vanished).await;
}

/// With lists that are made by the clock, a run waits for the list, and is done after it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn a_run_is_done_once_a_list_names_the_old_certificate() {
    let world = World::pki().await;
    let World::Pki { vault, party, .. } = &world else { unreachable!("it is in a Vault") };
    configure(vault, &party.mount, json!({ "auto_rebuild": true })).await;
    let before = world.current().await;
    let consumer = world.consumer().await;
    let tool = world.tool();
    let runbook = tool.runbook(&world.runbook(&consumer.url, Some("overlap: { until: [adopted] }")));
    let ran = tool.done(&["run", runbook.to_str().expect("path"), "--env", "test", "--yes"]).await;
    assert!(ran.code != Some(0) && ran.stderr.contains("the next list comes"), "{ran:?}");
    assert_eq!(world.existing().await.len(), 1, "it is revoked");
    assert!(world.accepts(&before).await, "and accepted");
    vault.api("GET", &format!("{}/crl/rotate", party.mount), Value::Null).await;
    tool.done(&["resume", &tool.newest()]).await.expect(0);
    world.is_rotated(&before).await;
}
