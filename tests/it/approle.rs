//! Secret ids of AppRoles, against a real Vault or OpenBao: conformance, their logins, and servers that lie.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use stanch::domain::{Check, CheckVerdict, ErrorKind, Life};
use stanch::kind::vault::approle::{ApproleIssuer, SecretIdSpec};
use stanch::provider::{Issuer, Use};
use stanch::secret::{Material, Secret};

use crate::conformance::issuer_keeps_its_promises;
use crate::servers::{Vault, context, failures, plain_http, serve, unique};
use crate::worlds::World;

fn spec(role: &str) -> SecretIdSpec {
    SecretIdSpec {
        mount: "approle".to_owned(),
        role: role.to_owned(),
        ttl: Some(Duration::from_secs(600)),
        num_uses: 0,
        cidr_list: Vec::new(),
    }
}

fn issuer(vault: &Vault, role: &str) -> ApproleIssuer {
    ApproleIssuer::new(vault.client(), spec(role)).expect("plain names")
}

fn material(text: &str) -> Material {
    Material::single("secret_id", Secret::new(text))
}

fn warnings(checks: &[Check]) -> String {
    let warned = checks.iter().filter(|check| check.verdict == CheckVerdict::Warn);
    warned.map(|check| format!("{}: {}\n", check.name, check.detail)).collect()
}

/// A role of the test's own.
async fn role_with(vault: &Vault, settings: Value) -> String {
    vault.with_approle().await;
    let role = unique("role");
    vault.api("POST", &format!("auth/approle/role/{role}"), settings).await;
    role
}

/// A secret id that stanch did not make: itself and its accessor.
async fn another(vault: &Vault, role: &str, metadata: &str) -> (String, String) {
    let body = json!({ "metadata": metadata });
    let made = vault.api("POST", &format!("auth/approle/role/{role}/secret-id"), body).await;
    let part = |name: &str| made["data"][name].as_str().expect("text").to_owned();
    (part("secret_id"), part("secret_id_accessor"))
}

/// The server, with something in front of it that may answer itself.
pub(crate) async fn through<F>(vault: &Vault, answer: F) -> Vault
where
    F: Fn(&str, &[u8]) -> Option<Response> + Clone + Send + Sync + 'static,
{
    in_front(vault, move |parts, body| answer(parts.uri.path(), body)).await
}

/// The same, where the method counts as well.
pub(crate) async fn in_front<F>(vault: &Vault, answer: F) -> Vault
where
    F: Fn(&Parts, &[u8]) -> Option<Response> + Clone + Send + Sync + 'static,
{
    let target = vault.address.clone();
    let router = axum::Router::new().fallback(move |request: Request| {
        let (target, answer) = (target.clone(), answer.clone());
        async move {
            let (mut parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 1 << 20).await.expect("body");
            if let Some(answer) = answer(&parts, &body) {
                return answer;
            }
            parts.headers.remove("host");
            let sent = plain_http()
                .request(parts.method, format!("{target}{}", parts.uri))
                .headers(parts.headers)
                .body(body)
                .send();
            let got = sent.await.expect("Vault answers");
            (got.status(), got.bytes().await.expect("body")).into_response()
        }
    });
    Vault { address: serve(router).await, ..vault.clone() }
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn secret_ids_conform() {
    let vault = Vault::shared();
    let role = role_with(&vault, json!({ "token_policies": "app" })).await;
    issuer_keeps_its_promises("approle-secret-id", &issuer(&vault, &role), "never-was").await;
    // Without the policy that lets a token revoke itself, in a role whose name is written otherwise.
    let bare = role_with(&vault, json!({ "token_policies": "app", "token_no_default_policy": true })).await;
    issuer_keeps_its_promises("approle-secret-id", &issuer(&vault, &bare.to_uppercase()), "never-was").await;
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn a_secret_id_is_as_wide_as_asked() {
    let vault = Vault::shared();
    let role = role_with(&vault, json!({ "token_policies": "app,more", "token_period": "1h" })).await;
    let asked = SecretIdSpec { num_uses: 50, cidr_list: vec!["127.0.0.0/8".to_owned()], ..spec(&role) };
    let issuer = ApproleIssuer::new(vault.client(), asked).expect("plain names");
    assert_eq!(failures(&issuer.preflight(None).await), Vec::<String>::new());
    let issued = issuer.issue(&context(), None).await.expect("issue");
    let grant = issuer.inspect(&issued.identity.handle).await.expect("inspect");
    assert_eq!(grant.policies, Some(vec!["app".to_owned(), "more".to_owned()]));
    assert_eq!((grant.ttl, grant.lives), (Some(Duration::from_secs(600)), Some(Duration::from_secs(600))));
    assert_eq!(grant.wider, Vec::<String>::new());
    assert!(grant.notes.len() == 1 && grant.notes[0].contains("periodic"), "{grant:?}");
    // Each try takes a use.
    let left = async || issuer.identify(&issued.material).await.expect("identify").expect("known").uses_left;
    assert_eq!(left().await, Some(50));
    assert_eq!(issuer.attempt(&issued.material).await.expect("an answer"), Use::Accepted);
    assert_eq!(left().await, Some(49));
    let checks = issuer.preflight(Some(&issued.identity)).await;
    let told = checks.iter().find(|check| check.name == "logins").expect("a check");
    assert!(told.detail.starts_with("0 logins"), "its own login is revoked: {told:?}");
}

/// Sessions outlive the secret id; those of others are left alone.
#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn logins_die_with_their_secret_id_and_others_do_not() {
    let vault = Vault::shared();
    let role = role_with(&vault, json!({ "token_policies": "app" })).await;
    let issuer = issuer(&vault, &role);
    let (old, _) = another(&vault, &role, r#"{"app":"one"}"#).await;
    let (other, _) = another(&vault, &role, r#"{"app":"two"}"#).await;
    let (gone, accessor) = another(&vault, &role, r#"{"app":"three"}"#).await;
    let mut sessions = Vec::new();
    for secret_id in [&old, &old, &other, &gone] {
        sessions.push(vault.log_in(&role, secret_id).await.expect("a login"));
    }
    let destroy = format!("auth/approle/role/{role}/secret-id-accessor/destroy");
    vault.api("POST", &destroy, json!({ "secret_id_accessor": accessor })).await;
    let standing = issuer.identify(&material(&old)).await.expect("identify").expect("known");
    let handle = standing.identity.handle.clone();
    let checks = issuer.preflight(Some(&standing.identity)).await;
    assert_eq!(failures(&checks), Vec::<String>::new());
    let told = checks.iter().find(|check| check.name == "logins").expect("a check");
    assert!(told.verdict == CheckVerdict::Pass && told.detail.starts_with("2 logins"), "{told:?}");

    // The process dies between the secret id and its sessions: that is not taken for done.
    let accessor = handle.split('.').next().expect("accessor");
    vault.api("POST", &destroy, json!({ "secret_id_accessor": accessor })).await;
    assert_eq!(issuer.life(&handle).await.expect("life"), Life::Deleted);
    issuer.revoke(&context(), &handle, None).await.expect("revoke");
    assert_eq!(issuer.life(&handle).await.expect("life"), Life::Gone);
    let mut alive = Vec::new();
    for session in &sessions {
        alive.push(vault.accepts(session).await);
    }
    assert_eq!(alive, [false, false, true, true], "of a secret id that is dead as well, and not this one");
}

/// Without metadata of their own, logins cannot be told apart: those of a living secret id are left, and named.
#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn logins_that_may_be_another_ones_are_left_and_named() {
    let vault = Vault::shared();
    let role = role_with(&vault, json!({ "token_policies": "app" })).await;
    let issuer = issuer(&vault, &role);
    let (old, _) = another(&vault, &role, "").await;
    let (_, other) = another(&vault, &role, "").await;
    let session = vault.log_in(&role, &old).await.expect("a login");
    let identity = issuer.identify(&material(&old)).await.expect("identify").expect("known").identity;
    let checks = issuer.preflight(Some(&identity)).await;
    assert_eq!(failures(&checks), Vec::<String>::new());
    let warned = warnings(&checks);
    assert!(warned.contains("1 login of the role cannot be told") && warned.contains(&other), "{warned}");
    issuer.revoke(&context(), &identity.handle, None).await.expect("revoke");
    assert!(vault.accepts(&session).await, "it may be the other one's");
    assert_eq!(issuer.life(&identity.handle).await.expect("life"), Life::Gone);
    // With the last one they go.
    issuer.revoke(&context(), &other, None).await.expect("revoke");
    assert!(!vault.accepts(&session).await);
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn what_is_wrong_is_named_before_anything_is_made() {
    let vault = Vault::shared();
    let failed = async |settings: Value, asked: &dyn Fn(SecretIdSpec) -> SecretIdSpec| {
        let role = role_with(&vault, settings).await;
        let issuer = ApproleIssuer::new(vault.client(), asked(spec(&role))).expect("plain names");
        failures(&issuer.preflight(None).await).join("\n")
    };
    let as_is = |spec| spec;
    let said = failed(json!({ "bind_secret_id": false, "token_bound_cidrs": "127.0.0.0/8" }), &as_is).await;
    assert!(said.contains("no secret id"), "{said}");
    let said = failed(json!({ "token_type": "batch" }), &as_is).await;
    assert!(said.contains("cannot be revoked"), "{said}");
    let said = failed(json!({ "secret_id_num_uses": 40, "secret_id_ttl": "1m" }), &as_is).await;
    assert!(said.contains("40 times at most") && said.contains("live for 1m at most"), "{said}");
    let said = failed(json!({}), &|spec| SecretIdSpec { num_uses: 3, ..spec }).await;
    assert!(said.contains("may be used 3 times"), "{said}");
    let net = |spec| SecretIdSpec { cidr_list: vec!["10.0.0.0/8".to_owned()], ..spec };
    let said = failed(json!({ "secret_id_bound_cidrs": "192.168.0.0/16" }), &net).await;
    assert!(said.contains("names 10.0.0.0/8"), "{said}");

    let missing = failures(&issuer(&vault, &unique("none")).preflight(None).await).join("\n");
    assert!(missing.contains("there is no AppRole"), "{missing}");
    let role = role_with(&vault, json!({})).await;
    let weak = vault.client_as(&vault.token(r#"path "nowhere" { capabilities = ["read"] }"#).await);
    let failed = failures(&ApproleIssuer::new(weak, spec(&role)).expect("plain").preflight(None).await);
    let all =
        ["create the secret id", "list the role's secret ids", "destroy", "list tokens", "revoke logins"];
    assert!(all.iter().all(|what| failed[0].contains(what)), "all that is missing at once: {failed:?}");
    // A local role is named, and used.
    let local = role_with(&vault, json!({ "local_secret_ids": true })).await;
    let checks = issuer(&vault, &local).preflight(None).await;
    assert!(warnings(&checks).contains("local"), "{checks:?}");
    issuer_keeps_its_promises("approle-secret-id", &issuer(&vault, &local), "never-was").await;
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn a_run_does_not_revoke_its_own_login() {
    let vault = Vault::shared();
    let policy = unique("policy");
    let rules = json!({ "policy": "path \"*\" { capabilities = [\"create\", \"read\", \"update\", \"list\", \"sudo\"] }" });
    vault.api("PUT", &format!("sys/policies/acl/{policy}"), rules).await;
    let role = role_with(&vault, json!({ "token_policies": policy })).await;
    let (old, _) = another(&vault, &role, "").await;
    let login = vault.log_in(&role, &old).await.expect("a login");
    let made = plain_http()
        .post(format!("{}/v1/auth/token/create", vault.address))
        .header("x-vault-token", &login)
        .send()
        .await
        .expect("a child");
    let made: Value = serde_json::from_str(&made.text().await.expect("text")).expect("JSON");
    let child = made["auth"]["client_token"].as_str().expect("token");
    let identity =
        issuer(&vault, &role).identify(&material(&old)).await.expect("known").expect("known").identity;
    for (token, why) in [(login.as_str(), "is a login of"), (child, "may be a child of a login")] {
        let own = ApproleIssuer::new(vault.client_as(token), spec(&role)).expect("plain names");
        let failed = failures(&own.preflight(Some(&identity)).await);
        assert!(failed.len() == 1 && failed[0].contains(why), "{failed:?}");
    }
}

/// The server made it, and the reply was lost, or another client read it first.
#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn a_secret_id_whose_value_was_lost_is_found_and_destroyed() {
    let vault = Vault::shared();
    let role = role_with(&vault, json!({})).await;
    let direct = issuer(&vault, &role);
    let lost =
        through(&vault, |path, _| path.ends_with("/unwrap").then(|| StatusCode::BAD_GATEWAY.into_response()))
            .await;
    let taken = through(&vault, |path, _| {
        let words = r#"{"errors":["wrapping token is not valid or does not exist"]}"#;
        path.ends_with("/unwrap").then(|| (StatusCode::BAD_REQUEST, words).into_response())
    })
    .await;
    for (through, words) in [(lost, "502"), (taken, "another client")] {
        let step = context();
        let error = issuer(&through, &role).issue(&step, None).await.expect_err("lost");
        assert!(error.in_doubt && error.message.contains(words), "{error:?}");
        let found = direct.find(&step, &[]).await.expect("find");
        assert_eq!(found.len(), 1, "{found:?}");
        direct.revoke(&step, &found[0], None).await.expect("revoke");
        assert_eq!(direct.find(&step, &[]).await.expect("find"), Vec::<String>::new());
    }
}

/// What is no word on the secret id is neither a refusal nor a death, and quotes nothing that was sent.
#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn an_unclear_answer_is_an_error() {
    let vault = Vault::shared();
    let role = role_with(&vault, json!({})).await;
    let (old, accessor) = another(&vault, &role, "").await;
    let echo = format!(r#"{{"errors":["no idea of {old}"]}}"#);
    let answers = [
        (StatusCode::FORBIDDEN, r#"{"errors":["permission denied"]}"#.to_owned()),
        (
            StatusCode::BAD_REQUEST,
            r#"{"errors":["source address \"127.0.0.1\" unauthorized by CIDR restrictions"]}"#.to_owned(),
        ),
        (StatusCode::BAD_REQUEST, echo.clone()),
        (StatusCode::INTERNAL_SERVER_ERROR, echo),
        (StatusCode::NOT_FOUND, "<html>not found</html>".to_owned()),
        (StatusCode::OK, "<html>hello</html>".to_owned()),
    ];
    for (status, body) in answers {
        let front = through(&vault, move |path, _| {
            let asked = path.ends_with("/login") || path.ends_with("/lookup") || path.ends_with("/secret-id");
            asked.then(|| (status, body.clone()).into_response())
        })
        .await;
        let issuer = issuer(&front, &role);
        // What was sent is not quoted; what was not sent cannot be known.
        for error in [
            issuer.attempt(&material(&old)).await.expect_err("a login"),
            issuer.identify(&material(&old)).await.expect_err("a look"),
        ] {
            assert!(!error.in_doubt && !format!("{error:?}").contains(&old), "{status}: {error:?}");
        }
        assert!(!issuer.life(&accessor).await.expect_err("a look").in_doubt);
        assert!(!issuer.find(&context(), &[]).await.expect_err("a list").in_doubt);
    }
    // Nothing at all, from something that is not this Vault.
    let empty = serve(axum::Router::new().fallback(async || StatusCode::NO_CONTENT)).await;
    let issuer = issuer(&Vault { address: empty, ..vault.clone() }, &role);
    assert!(issuer.life(&accessor).await.is_err() && issuer.identify(&material(&old)).await.is_err());
}

/// OpenBao says so when others change the same role at that moment, even of a look: it passes.
#[tokio::test]
async fn a_conflict_within_the_server_passes() {
    let words = r#"{"errors":["1 error occurred:\n\t* transaction commit failed\n\n"]}"#;
    let busy = axum::Router::new().fallback(async move || (StatusCode::INTERNAL_SERVER_ERROR, words));
    let vault = Vault { address: serve(busy).await, root: "root".to_owned() };
    let issuer = issuer(&vault, "web");
    let error = issuer.life("a").await.expect_err("busy");
    assert!(error.kind.is_transient() && !error.in_doubt, "{error:?}");
    let error = issuer.issue(&context(), None).await.expect_err("busy");
    assert!(error.in_doubt, "what was written is not known: {error:?}");
}

/// A locked role refuses every secret id: no proof of any death.
#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn a_locked_role_proves_nothing() {
    let vault = Vault::shared();
    let role = role_with(&vault, json!({})).await;
    let (old, accessor) = another(&vault, &role, "").await;
    let issuer = issuer(&vault, &role);
    issuer.revoke(&context(), &accessor, None).await.expect("revoke");
    for _ in 0..5 {
        let answer = issuer.attempt(&material(&old)).await.expect("an answer");
        assert!(matches!(answer, Use::Refused(_)), "{answer:?}");
    }
    let error = issuer.attempt(&material(&old)).await.expect_err("locked");
    assert!(error.kind == ErrorKind::Denied && error.hint.expect("hint").contains("locked-users"));
}

/// A whole run against a server that says yes to the destruction and does nothing: it is not done.
async fn does_not_end_as_done(lies_about_the_look: bool) {
    let world = World::approle().await;
    let World::Vault { vault, .. } = &world else { unreachable!("it is in a Vault") };
    let old = world.existing().await.pop().expect("a secret id");
    let (lied, name) = (Arc::new(AtomicBool::new(false)), old.clone());
    let liar = through(vault, move |path, body| {
        if !String::from_utf8_lossy(body).contains(&name) {
            return None;
        }
        if path.ends_with("/destroy") {
            lied.store(true, Ordering::SeqCst);
            return Some(StatusCode::NO_CONTENT.into_response());
        }
        let gone = lies_about_the_look && path.ends_with("-accessor/lookup") && lied.load(Ordering::SeqCst);
        let words = r#"{"data":{"error":"failed to find accessor entry for secret_id_accessor"}}"#;
        gone.then(|| (StatusCode::NOT_FOUND, words).into_response())
    })
    .await;
    let consumer = world.consumer().await;
    let tool = world.tool_through(&liar.address);
    let runbook = world.runbook(&consumer.url, Some("overlap: { until: [adopted] }"));
    let runbook = tool.runbook(&(runbook + "limits: { deadline: 2s }\n"));
    let before = world.current().await;
    let ran = tool.done(&["run", runbook.to_str().expect("path"), "--env", "test", "--yes", "-vv"]).await;
    assert!(!matches!(ran.code, Some(0 | 15)), "{ran:?}");
    assert_ne!(tool.status()["end"], "done");
    assert!(world.accepts(&before).await, "it lied");
    world.is_silent(&tool, &ran, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn a_destruction_that_did_not_happen_is_not_done() {
    does_not_end_as_done(false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn a_secret_id_that_is_said_to_be_gone_and_still_logs_in_is_not_done() {
    does_not_end_as_done(true).await;
}

/// The way back destroys the new secret id, and is cut off before the logins that consumers made with it. It ends later
/// all the same, and leaves none of them.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn a_rollback_that_was_cut_off_before_the_logins_ends() {
    let world = World::approle().await;
    let World::Vault { vault, role, .. } = &world else { unreachable!("it is in a Vault") };
    let (cut, mended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (destroyed, is_mended) = (Arc::clone(&cut), Arc::clone(&mended));
    let between = through(vault, move |path, _| {
        destroyed.fetch_or(path.ends_with("/destroy"), Ordering::SeqCst);
        let refused = path.ends_with("auth/token/revoke-accessor")
            && destroyed.load(Ordering::SeqCst)
            && !is_mended.load(Ordering::SeqCst);
        refused.then(|| StatusCode::SERVICE_UNAVAILABLE.into_response())
    })
    .await;
    let consumer = world.consumer().await;
    let tool = world.tool_through(&between.address);
    let runbook = world.runbook(&consumer.url, Some("overlap: { until: [adopted] }"));
    let runbook = tool.runbook(&(runbook + "limits: { attempts: 1 }\n"));
    let before = world.current().await;
    let run = ["run", runbook.to_str().expect("path"), "--env", "test", "--yes", "--until", "cutover"];
    let ran = tool.done(&run).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let new = world.current().await;
    let login = vault.log_in(role, &World::secret(&new)).await.expect("a login");
    let back = tool.done(&["rollback", "--yes"]).await;
    assert!(matches!(back.code, Some(11 | 14)), "{back:?}");
    assert!(cut.load(Ordering::SeqCst) && vault.accepts(&login).await, "it was cut off before the logins");
    mended.store(true, Ordering::SeqCst);
    let ended = tool.done(&["resume"]).await;
    assert_eq!(tool.status()["end"], "rolled-back", "{ended:?}");
    assert!(!vault.accepts(&login).await, "the login lives");
    assert!(!world.accepts(&new).await && world.accepts(&before).await, "{ended:?}");
}
