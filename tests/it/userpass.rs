//! Users with a password, against a real Vault or OpenBao: conformance, their logins, locks, and servers that lie.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use serde_json::{Value, json};
use stanch::domain::{ErrorKind, Identity, Life};
use stanch::kind::vault::VaultClient;
use stanch::kind::vault::userpass::{UserIssuer, VaultUserpass};
use stanch::provider::{Issuer, Use};
use stanch::secret::{Material, Secret};

use crate::approle::{in_front, through};
use crate::conformance::issuer_keeps_its_promises;
use crate::servers::{Vault, context, failures, plain_http, serve, unique};
use crate::tool::{Tool, search};
use crate::worlds::World;

/// Users called `name`, with these fields of the issuer as well.
fn spec(name: &str, more: Value) -> VaultUserpass {
    let mut fields = json!({ "connection": "vault", "name": name, "policies": ["app"] });
    fields.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
    serde_json::from_value(fields).expect("an issuer")
}

fn issuer_with(client: Arc<VaultClient>, name: &str, more: Value) -> UserIssuer {
    UserIssuer::new(client, spec(name, more)).expect("plain names")
}

fn issuer(vault: &Vault, name: &str) -> UserIssuer {
    issuer_with(vault.client(), name, json!({}))
}

fn material(user: &str, password: &str) -> Material {
    Material::single("username", Secret::new(user)).with("password", Secret::new(password))
}

fn identity(user: &str) -> Identity {
    Identity { handle: user.to_owned(), principal: "userpass".to_owned() }
}

/// A user that stanch did not make: its name and its password.
async fn another(vault: &Vault, settings: Value) -> (String, String) {
    vault.with_userpass().await;
    let (name, password) = (unique("user"), unique("password"));
    let mut body = json!({ "password": password, "token_policies": "app" });
    body.as_object_mut().expect("body").extend(settings.as_object().expect("settings").clone());
    vault.api("POST", &format!("auth/userpass/users/{name}"), body).await;
    (name, password)
}

async fn delete(vault: &Vault, user: &str) {
    vault.api("DELETE", &format!("auth/userpass/users/{user}"), Value::Null).await;
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn users_conform() {
    let vault = Vault::shared();
    vault.with_userpass().await;
    issuer_keeps_its_promises("vault-userpass", &issuer(&vault, &unique("App")), "never-was").await;
    // With all that a user can have; the networks are given back by enabling it.
    let more = json!({
        "ttl": "1h", "max_ttl": "2h", "explicit_max_ttl": "3h", "num_uses": 9, "no_default_policy": true,
        "bound_cidrs": ["127.0.0.0/8", "10.0.0.1/32"],
    });
    let all = issuer_with(vault.client(), &unique("app"), more);
    issuer_keeps_its_promises("vault-userpass", &all, "never-was").await;
    let step = context();
    let issued = all.issue(&step, all.candidate(&step).as_ref()).await.expect("issue");
    let handle = issued.identity.handle;
    for _ in 0..2 {
        let grant = all.inspect(&handle).await.expect("inspect");
        assert_eq!((grant.policies, grant.wider), (Some(vec!["app".to_owned()]), Vec::new()));
        assert_eq!(failures(&all.preflight(Some(&identity(&handle))).await), Vec::<String>::new());
        all.disable(&step, &handle).await.expect("disable");
        all.enable(&step, &handle).await.expect("enable");
    }
    delete(&vault, &handle).await;
}

/// The user is deleted, and its logins live on: that is not gone. Those of others are left alone.
#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn logins_die_with_their_user_and_others_do_not() {
    let vault = Vault::shared();
    let (old, password) = another(&vault, json!({})).await;
    let (other, others) = another(&vault, json!({})).await;
    let issuer = issuer(&vault, "app");
    let mut sessions = Vec::new();
    // The server knows a user however its name is spelled, and writes it into the login as it was spelled.
    let spelled = old.to_uppercase();
    for (user, password) in [(&old, &password), (&spelled, &password), (&other, &others)] {
        sessions.push(vault.log_in_user(user, password).await.expect("a login"));
    }
    let checks = issuer.preflight(Some(&identity(&old))).await;
    assert_eq!(failures(&checks), Vec::<String>::new());
    let told = checks.iter().find(|check| check.name == "logins").expect("a check");
    assert!(told.detail.contains("2 logins"), "{told:?}");
    // The process dies between the user and its logins.
    delete(&vault, &old).await;
    assert_eq!(issuer.life(&old).await.expect("life"), Life::Deleted);
    let known =
        issuer.identify(&material(&old, &password)).await.expect("an answer").expect("logins are left");
    assert_eq!(known.life, Life::Deleted);
    issuer.revoke(&context(), &old, None).await.expect("revoke");
    assert_eq!(issuer.life(&old).await.expect("life"), Life::Gone);
    let mut alive = Vec::new();
    for session in &sessions {
        alive.push(vault.accepts(session).await);
    }
    assert_eq!(alive, [false, false, true]);
}

/// Disabled, it refuses its own password, and its logins go on unless the runbook says otherwise.
#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn a_disabled_user_keeps_its_logins_unless_the_runbook_ends_them() {
    let vault = Vault::shared();
    for (ends, lives) in [("revoke", true), ("sunset", false)] {
        let (old, password) = another(&vault, json!({})).await;
        let session = vault.log_in_user(&old, &password).await.expect("a login");
        let issuer = issuer_with(vault.client(), "app", json!({ "end_logins": ends }));
        issuer.disable(&context(), &old).await.expect("disable");
        assert_eq!(vault.accepts(&session).await, lives, "{ends}");
        assert_eq!(vault.log_in_user(&old, &password).await, Err(403));
        issuer.enable(&context(), &old).await.expect("enable");
        vault.log_in_user(&old, &password).await.expect("its own password again");
    }
    // What enabling would set is not what the user has now.
    let (old, password) = another(&vault, json!({ "token_bound_cidrs": "127.0.0.0/8" })).await;
    let error = issuer(&vault, "app").disable(&context(), &old).await.expect_err("others");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Conflict, false));
    vault.log_in_user(&old, &password).await.expect("unchanged");
    // A user that is gone is not made by enabling it.
    delete(&vault, &old).await;
    let error = issuer(&vault, "app").enable(&context(), &old).await.expect_err("gone");
    assert_eq!(error.kind, ErrorKind::NotFound);
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn what_is_wrong_is_named_before_anything_is_made() {
    let vault = Vault::shared();
    let failed = async |settings: Value, more: Value| {
        let (old, _) = another(&vault, settings).await;
        let issuer = issuer_with(vault.client(), "app", more);
        failures(&issuer.preflight(Some(&identity(&old))).await).join("\n")
    };
    assert_eq!(failed(json!({}), json!({})).await, "");
    let said = failed(json!({ "token_policies": "app,admin" }), json!({})).await;
    assert!(said.contains("[admin, app]"), "{said}");
    let said = failed(json!({ "token_ttl": "1h", "token_period": "2h" }), json!({ "ttl": "2h" })).await;
    assert!(said.contains("`token_ttl` is 3600") && said.contains("token_period"), "{said}");
    let said = failed(json!({ "token_bound_cidrs": "127.0.0.0/8" }), json!({})).await;
    assert!(said.contains("127.0.0.0/8"), "{said}");
    let said = failed(json!({ "token_type": "batch" }), json!({})).await;
    assert!(said.contains("cannot be revoked"), "{said}");
    let said = failed(json!({}), json!({ "bound_cidrs": ["10.0.0.0/8"] })).await;
    assert!(said.contains("which this machine uses"), "{said}");

    // The mount: none, of another type, with batch tokens.
    vault.with_approle().await;
    let none = issuer_with(vault.client(), "app", json!({ "mount": unique("none") }));
    assert!(!failures(&none.preflight(None).await).is_empty(), "there is no such mount");
    let other = issuer_with(vault.client(), "app", json!({ "mount": "approle" }));
    let said = failures(&other.preflight(None).await).join("\n");
    assert!(said.contains("of the type approle"), "{said}");
    let mount = unique("batch");
    let body = json!({ "type": "userpass", "config": { "token_type": "batch" } });
    vault.api("POST", &format!("sys/auth/{mount}"), body).await;
    let batch = issuer_with(vault.client(), "app", json!({ "mount": mount }));
    let said = failures(&batch.preflight(None).await).join("\n");
    assert!(said.contains("are batch tokens"), "{said}");
    vault.api("DELETE", &format!("sys/auth/{mount}"), Value::Null).await;

    // All that is missing of permissions, at once.
    let weak = vault.client_as(&vault.token(r#"path "nowhere" { capabilities = ["read"] }"#).await);
    let (old, _) = another(&vault, json!({})).await;
    let failed = failures(&issuer_with(weak, "app", json!({})).preflight(Some(&identity(&old))).await);
    let all =
        ["list users", "create the new user", "disable the old user", "delete the old user", "revoke logins"];
    assert!(all.iter().all(|what| failed[0].contains(what)), "{failed:?}");
    for bad in ["", "a/b", "-a", "a b", "../x"] {
        assert!(UserIssuer::new(vault.client(), spec(bad, json!({}))).is_err(), "{bad}");
    }
    for bad in ["", "a//b", "a b", "../x", "a?b"] {
        assert!(UserIssuer::new(vault.client(), spec("a", json!({ "mount": bad }))).is_err(), "{bad}");
    }
}

/// What a user has by its identity entity, a new user would not have.
#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn policies_and_groups_of_the_identity_are_not_lost_unseen() {
    let vault = Vault::shared();
    let (old, password) = another(&vault, json!({})).await;
    vault.log_in_user(&old, &password).await.expect("a login, which makes the entity");
    let method = vault.api("GET", "sys/internal/ui/mounts/auth/userpass", Value::Null).await;
    let alias = json!({ "alias_name": old, "alias_mount_accessor": method["data"]["accessor"] });
    let entity = vault.api("POST", "identity/lookup/entity", alias).await;
    let id = entity["data"]["id"].as_str().expect("an id");
    let issuer = issuer(&vault, "app");
    assert_eq!(failures(&issuer.preflight(Some(&identity(&old))).await), Vec::<String>::new());
    let group = json!({ "name": unique("group"), "member_entity_ids": [id] });
    vault.api("POST", "identity/group", group).await;
    vault.api("POST", &format!("identity/entity/id/{id}"), json!({ "policies": ["hidden"] })).await;
    let said = failures(&issuer.preflight(Some(&identity(&old))).await).join("\n");
    assert!(said.contains("the policies hidden") && said.contains("1 group"), "{said}");
    // Who may not look at it is told so.
    let rules = r#"path "auth/*" { capabilities = ["create", "read", "update", "delete", "list", "sudo"] }"#;
    let blind = issuer_with(vault.client_as(&vault.token(rules).await), "app", json!({}));
    let checks = blind.preflight(Some(&identity(&old))).await;
    assert_eq!(failures(&checks), Vec::<String>::new());
    let check = checks.iter().find(|check| check.name == "identity").expect("a check");
    assert!(check.detail.contains("may not look"), "{check:?}");
}

/// A user of this very name, made by another: it is neither changed nor taken for the run's own.
#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn a_user_that_exists_already_is_not_given_another_password() {
    let vault = Vault::shared();
    vault.with_userpass().await;
    let (one, step) = (issuer(&vault, &unique("app")), context());
    let candidate = one.candidate(&step).expect("a candidate");
    let user = candidate.part("username").expect("a name").expose().to_owned();
    let theirs = unique("their-password");
    let body = json!({ "password": theirs, "token_policies": "admin" });
    vault.api("POST", &format!("auth/userpass/users/{user}"), body).await;
    let error = one.issue(&step, Some(&candidate)).await.expect_err("a stranger's");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Conflict, false), "{error:?}");
    let password = candidate.part("password").expect("a password");
    assert!(!format!("{error:?}").contains(password.expose()));
    vault.log_in_user(&user, &theirs).await.expect("it has its own password");
    // Made by an earlier try of this step, it is the run's.
    delete(&vault, &user).await;
    for _ in 0..2 {
        let issued = one.issue(&step, Some(&candidate)).await.expect("issue, twice");
        assert_eq!(issued.identity.handle, user);
    }
    // Others' users, also of other runs and under other names, are not found.
    let whole = stanch::provider::CallContext { step: String::new(), ..step.clone() };
    for (context, found) in [(&step, 1), (&whole, 1), (&context(), 0)] {
        assert_eq!(one.find(context, &[]).await.expect("find").len(), found);
    }
    assert_eq!(issuer(&vault, "app").find(&whole, &[]).await.expect("find"), Vec::<String>::new());
    delete(&vault, &user).await;
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn a_run_does_not_revoke_its_own_login() {
    let vault = Vault::shared();
    let policy = unique("policy");
    let rules = json!({ "policy": "path \"*\" { capabilities = [\"create\", \"read\", \"update\", \"delete\", \"list\", \"sudo\"] }" });
    vault.api("PUT", &format!("sys/policies/acl/{policy}"), rules).await;
    let (old, password) = another(&vault, json!({ "token_policies": policy })).await;
    let login = vault.log_in_user(&old, &password).await.expect("a login");
    let made = plain_http()
        .post(format!("{}/v1/auth/token/create", vault.address))
        .header("x-vault-token", &login)
        .send()
        .await
        .expect("a child");
    let made: Value = serde_json::from_str(&made.text().await.expect("text")).expect("JSON");
    let child = made["auth"]["client_token"].as_str().expect("token");
    for (token, why) in [(login.as_str(), "is a login of"), (child, "may be a child of a login")] {
        let own = issuer_with(vault.client_as(token), "app", json!({ "policies": [policy] }));
        let failed = failures(&own.preflight(Some(&identity(&old))).await);
        assert!(failed.len() == 1 && failed[0].contains(why), "{failed:?}");
        let check = own.before_revoking(&identity(&old)).await;
        assert!(check.detail.contains(why), "{check:?}");
    }
}

/// A token that cannot be looked up may be a login: that there is none is not said.
#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn a_login_that_cannot_be_looked_up_is_unknown_and_not_none() {
    let vault = Vault::shared();
    let (old, password) = another(&vault, json!({})).await;
    let session = vault.log_in_user(&old, &password).await.expect("a login");
    delete(&vault, &old).await;
    for path in ["/lookup-accessor", "/accessors"] {
        let blind = through(&vault, move |asked, _| {
            let words = r#"{"errors":["1 error occurred:\n\t* permission denied\n\n"]}"#;
            asked.ends_with(path).then(|| (StatusCode::FORBIDDEN, words).into_response())
        })
        .await;
        let issuer = issuer(&blind, "app");
        let life = issuer.life(&old).await;
        assert!(life.is_err(), "{path}: {life:?}");
        let error = issuer.revoke(&context(), &old, None).await.expect_err("it could not look");
        assert!(error.in_doubt, "the user was deleted: {error:?}");
    }
    assert!(vault.accepts(&session).await);
    issuer(&vault, "app").revoke(&context(), &old, None).await.expect("revoke");
    assert!(!vault.accepts(&session).await);
}

/// A lock says nothing of the password. stanch's own tries of a dead one lock nothing.
#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn a_locked_user_proves_nothing_and_proofs_lock_no_user() {
    let vault = Vault::shared();
    let (old, password) = another(&vault, json!({})).await;
    let (new, others) = another(&vault, json!({})).await;
    let issuer = issuer(&vault, "app");
    issuer.revoke(&context(), &old, None).await.expect("revoke");
    for _ in 0..8 {
        let answer = issuer.attempt(&material(&old, &password)).await.expect("an answer");
        assert!(matches!(answer, Use::Refused(_)), "{answer:?}");
        assert_eq!(issuer.attempt(&material(&new, &others)).await.expect("an answer"), Use::Accepted);
    }
    // Others lock a user, before it is deleted.
    for _ in 0..5 {
        assert_eq!(vault.log_in_user(&new, "wrong").await, Err(400));
    }
    for deleted in [false, true] {
        let error = issuer.attempt(&material(&new, &others)).await.expect_err("locked");
        assert!(error.kind == ErrorKind::Denied && error.hint.expect("hint").contains("locked-users"));
        if !deleted {
            delete(&vault, &new).await;
        }
    }
    let method = vault.api("GET", "sys/internal/ui/mounts/auth/userpass", Value::Null).await;
    let accessor = method["data"]["accessor"].as_str().expect("text").to_owned();
    vault.api("POST", &format!("sys/locked-users/{accessor}/unlock/{new}"), json!({})).await;
    let answer = issuer.attempt(&material(&new, &others)).await.expect("an answer");
    assert!(matches!(answer, Use::Refused(_)), "{answer:?}");
}

/// What is no word on the user is neither a refusal nor a death, and quotes nothing that was sent.
#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn an_unclear_answer_is_an_error() {
    let vault = Vault::shared();
    let (old, password) = another(&vault, json!({})).await;
    let echo = format!(r#"{{"errors":["no idea of {password}"]}}"#);
    let answers = [
        (StatusCode::BAD_REQUEST, echo.clone()),
        (StatusCode::INTERNAL_SERVER_ERROR, echo),
        (StatusCode::NOT_FOUND, "<html>not found</html>".to_owned()),
        (StatusCode::NOT_FOUND, r#"{"errors":["no handler for route"]}"#.to_owned()),
        (StatusCode::NO_CONTENT, String::new()),
        (StatusCode::OK, "<html>hello</html>".to_owned()),
    ];
    for (status, body) in answers {
        let front = through(&vault, move |path, _| {
            let asked = path.contains("/login/") || path.contains("/users");
            asked.then(|| (status, body.clone()).into_response())
        })
        .await;
        let issuer = issuer(&front, "app");
        let tried = issuer.attempt(&material(&old, &password)).await;
        let error = tried.expect_err("no answer of Vault's");
        assert!(!format!("{error:?}").contains(&password), "{error:?}");
        assert!(issuer.life(&old).await.is_err(), "{status}");
        assert!(issuer.find(&context(), &[]).await.is_err(), "{status}");
        assert!(issuer.identify(&material(&old, &password)).await.is_err(), "{status}");
    }
    let nowhere = Vault { address: serve(axum::Router::new()).await, root: "root".to_owned() };
    assert!(issuer(&nowhere, "app").life(&old).await.is_err(), "a server that is none of Vault's");
}

/// The bare kill: by the name, with the user's logins, and no secret anywhere.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn a_user_dies_by_its_name() {
    let vault = Vault::shared();
    let (old, password) = another(&vault, json!({ "token_policies": "any", "token_ttl": "2h" })).await;
    let session = vault.log_in_user(&old, &password).await.expect("a login");
    let rules = r#"path "*" { capabilities = ["create", "read", "update", "delete", "list", "sudo"] }"#;
    let operator = vault.token(rules).await;
    let tool = Tool::new().with("VAULT_ADDR", &vault.address).with("VAULT_TOKEN", &operator);
    let typed = old.to_uppercase();
    let ran = tool
        .done(&["revoke", "vault-userpass", &typed, "never-was", "--reason", "in a log", "--yes"])
        .await
        .expect(0);
    assert!(ran.stdout.contains("gone, as its issuer says"), "{ran:?}");
    assert!(ran.stdout.contains("never-was: unknown to its issuer"), "{ran:?}");
    assert!(!vault.accepts(&session).await, "its login lives on");
    assert_eq!(vault.log_in_user(&old, &password).await, Err(400));
    search(&tool.state(), &[password, operator, session]);
    // Who works with a login of the user is told so, and the user is left as it is.
    let policy = unique("policy");
    vault.api("PUT", &format!("sys/policies/acl/{policy}"), json!({ "policy": rules })).await;
    let (own, password) = another(&vault, json!({ "token_policies": policy })).await;
    let login = vault.log_in_user(&own, &password).await.expect("a login");
    let tool = Tool::new().with("VAULT_ADDR", &vault.address).with("VAULT_TOKEN", &login);
    let ran = tool.done(&["revoke", "vault-userpass", &own, "--reason", "x", "--yes"]).await;
    assert!(ran.code != Some(0) && ran.stderr.contains("is a login of the old user"), "{ran:?}");
    vault.log_in_user(&own, &password).await.expect("it is as it was");
}

/// How a server lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// It says yes to the deletion, and does nothing.
    Deletion,
    /// It says yes to everything about the old user, shows what it should be, and goes on accepting it.
    Everything,
    /// Once the old user is deleted, it refuses every login.
    Logins,
}

/// A success of something in front of the server is none.
#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn a_page_in_place_of_a_write_is_not_a_success() {
    let vault = Vault::shared();
    let (old, _) = another(&vault, json!({})).await;
    let front = in_front(&vault, |parts, _| {
        let wrote = parts.method == "POST" && parts.uri.path().contains("/users/");
        wrote.then(|| "<html>log in</html>".into_response())
    })
    .await;
    let (one, step) = (issuer(&front, &unique("app")), context());
    let error = one.issue(&step, one.candidate(&step).as_ref()).await.expect_err("a page");
    assert!(error.in_doubt, "{error:?}");
    let error = one.disable(&step, &old).await.expect_err("a page");
    assert!(error.in_doubt, "{error:?}");
}

/// A whole run against such a server: it is not done, and no secret is seen.
async fn does_not_end_as_done(lie: Lie) {
    let world = World::userpass().await;
    let World::Userpass { vault, .. } = &world else { unreachable!("it is in a Vault") };
    let (deleted, disabled) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let yes = || Some(StatusCode::NO_CONTENT.into_response());
    let liar = in_front(vault, move |parts, _| {
        let path = parts.uri.path();
        let about_old = path.contains("/users/") && path.ends_with("-first");
        if lie == Lie::Logins && path.contains("/login/") && deleted.load(Ordering::SeqCst) {
            let words = r#"{"errors":["invalid username or password"]}"#;
            return Some((StatusCode::BAD_REQUEST, words).into_response());
        }
        match parts.method.as_str() {
            _ if !about_old => None,
            "DELETE" => {
                deleted.store(true, Ordering::SeqCst);
                if lie == Lie::Logins { None } else { yes() }
            }
            _ if lie != Lie::Everything => None,
            "POST" => {
                disabled.store(true, Ordering::SeqCst);
                yes()
            }
            _ if deleted.load(Ordering::SeqCst) => {
                Some((StatusCode::NOT_FOUND, r#"{"errors":[]}"#).into_response())
            }
            _ if disabled.load(Ordering::SeqCst) => {
                let shown =
                    json!({ "data": { "token_bound_cidrs": ["255.255.255.255"], "token_policies": [] } });
                Some(shown.to_string().into_response())
            }
            _ => None,
        }
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
    let journal = std::fs::read_to_string(tool.journal().expect("journal")).expect("journal");
    let tried = journal.contains(r#""type":"intent","step":"proof/app-key/reject"#)
        || journal.contains(r#""step":"proof/app-key/reject/issuer""#);
    assert_eq!(tried, lie != Lie::Deletion, "how far it got: {ran:?}");
    assert_eq!(world.existing().await.len(), if lie == Lie::Logins { 1 } else { 2 });
    assert_eq!(world.accepts(&before).await, lie == Lie::Everything, "{ran:?}");
    world.is_silent(&tool, &ran, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn a_deletion_that_did_not_happen_is_not_done() {
    does_not_end_as_done(Lie::Deletion).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn a_user_that_is_said_to_be_gone_and_still_logs_in_is_not_done() {
    does_not_end_as_done(Lie::Everything).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn a_server_that_refuses_everybody_proves_nothing() {
    does_not_end_as_done(Lie::Logins).await;
}
