//! Logins of the database secrets engine, against a real Vault or OpenBao and a real PostgreSQL.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use serde_json::{Value, json};
use stanch::domain::{CheckVerdict, ErrorKind, Identity, Life};
use stanch::kind::vault::VaultClient;
use stanch::kind::vault::database::{LeaseIssuer, VaultDatabase};
use stanch::provider::{Issuer, Use};
use stanch::secret::{Material, Secret};

use crate::approle::in_front;
use crate::conformance::issuer_keeps_its_promises;
use crate::postgres_server::Pg;
use crate::servers::{Vault, context, failures, plain_http};
use crate::tool::search;
use crate::worlds::{World, lease_rules, leases_of, logins_of, tokens_of};

/// What a world has set up: the servers, and the role.
fn parts(world: &World) -> (&Vault, &Pg, &str) {
    let World::Database { vault, pg, role, .. } = world else { unreachable!("it is in a database") };
    (vault, pg, role)
}

fn issuer_with(client: Arc<VaultClient>, pg: &Pg, role: &str, more: Value) -> LeaseIssuer {
    let mut fields = json!({
        "connection": "vault", "role": role, "policies": [role], "token_role": role, "ttl": "1h", "login": { "connection": "db" },
    });
    fields.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
    let spec: VaultDatabase = serde_json::from_value(fields).expect("an issuer");
    let login = pg.client_as("postgres", &pg.password);
    LeaseIssuer::new(client, "app-login", spec, Some(login)).expect("plain names")
}

fn issuer(vault: &Vault, pg: &Pg, role: &str) -> LeaseIssuer {
    issuer_with(vault.client(), pg, role, json!({}))
}

/// A login that stanch did not ask for.
async fn another(vault: &Vault, role: &str) -> Material {
    let made = vault.api("GET", &format!("database/creds/{role}"), Value::Null).await;
    let part = |value: &Value| Secret::new(value.as_str().expect("text"));
    Material::single("username", part(&made["data"]["username"]))
        .with("password", part(&made["data"]["password"]))
        .with("lease", part(&made["lease_id"]))
}

fn part(material: &Material, name: &str) -> String {
    material.part(name).expect("a part").expose().to_owned()
}

/// Makes a login the owner of a table, so that the database does not let go of it.
async fn own_a_table(pg: &Pg, user: &str) -> String {
    let table = format!("table of {user}");
    pg.execute(&format!("create table \"{table}\" (a int); alter table \"{table}\" owner to \"{user}\""))
        .await;
    table
}

/// Sends a request on, as the server would have got it, and says that it went wrong.
fn lost(target: &Vault, parts: &axum::http::request::Parts) -> axum::response::Response {
    let (url, headers) = (format!("{}{}", target.address, parts.uri), parts.headers.clone());
    let method = parts.method.clone();
    let sends = async move {
        let mut headers = headers;
        headers.remove("host");
        let sent = plain_http().request(method, url).headers(headers).send().await.expect("Vault answers");
        assert!(sent.status().is_success(), "{}", sent.status());
    };
    let done = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(sends)
    });
    done.join().expect("it was sent");
    (StatusCode::BAD_GATEWAY, "<html>bad gateway</html>").into_response()
}

#[tokio::test]
#[ignore = "needs Vault and PostgreSQL: scripts/test"]
async fn leases_conform() {
    let world = World::database().await;
    let (vault, pg, role) = parts(&world);
    let nobody = format!("database/creds/{role}/never-was");
    issuer_keeps_its_promises("vault-database", &issuer(vault, pg, role), &nobody).await;
    assert_eq!(leases_of(vault, role).await.len(), 1, "the world's own");
    assert_eq!(tokens_of(vault, role).await, Vec::<String>::new());
    // Without a token role the token is an orphan all the same.
    let orphans = issuer_with(vault.client(), pg, role, json!({ "token_role": null }));
    let issued = orphans.issue(&context(), None).await.expect("issue");
    let grant = orphans.inspect(&issued.identity.handle).await.expect("inspect");
    let hour = Some(std::time::Duration::from_secs(3600));
    assert_eq!((grant.lives, grant.ttl, grant.wider), (hour, hour, Vec::new()));
    orphans.revoke(&context(), &issued.identity.handle, None).await.expect("revoke");
    world.forget().await;
}

/// A lease ends with the token that asked for it: not with the one that stanch works with.
#[tokio::test]
#[ignore = "needs Vault and PostgreSQL: scripts/test"]
async fn a_new_login_outlives_the_token_that_stanch_used() {
    let world = World::database().await;
    let (vault, pg, role) = parts(&world);
    // It may read the role itself as well.
    let reads = format!("path \"database/creds/{role}\" {{ capabilities = [\"read\"] }}");
    let operator = vault.token(&format!("{}\n{reads}", lease_rules(role))).await;
    let one = issuer_with(vault.client_as(&operator), pg, role, json!({}));
    let issued = one.issue(&context(), None).await.expect("issue");
    vault.api("POST", "auth/token/revoke", json!({ "token": operator })).await;
    let root = issuer(vault, pg, role);
    // The server ends leases a moment after their token: one that stanch's own token holds is gone by then.
    let held = vault.token(&reads).await;
    let as_held = Vault { root: held.clone(), ..vault.clone() };
    let theirs = as_held.api("GET", &format!("database/creds/{role}"), Value::Null).await;
    vault.api("POST", "auth/token/revoke", json!({ "token": held })).await;
    let theirs = theirs["lease_id"].as_str().expect("text").to_owned();
    while root.life(&theirs).await.expect("life") != Life::Gone {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(root.life(&issued.identity.handle).await.expect("life"), Life::Active);
    assert_eq!(root.attempt(&issued.material).await.expect("an answer"), Use::Accepted);
    root.revoke(&context(), &issued.identity.handle, None).await.expect("revoke");
    assert_eq!(tokens_of(vault, role).await, Vec::<String>::new(), "what held it is revoked with it");
    world.forget().await;
}

/// The response with the login is lost: its token tells it, and the leases of others stay.
#[tokio::test]
#[ignore = "needs Vault and PostgreSQL: scripts/test"]
async fn a_lost_login_is_found_by_its_token_and_nothing_else_is() {
    let world = World::database().await;
    let (vault, pg, role) = parts(&world);
    let target = vault.clone();
    let front = in_front(vault, move |parts, _| {
        parts.uri.path().starts_with("/v1/database/creds/").then(|| lost(&target, parts))
    })
    .await;
    let (one, step) = (issuer(&front, pg, role), context());
    let before = logins_of(pg, role).await;
    let error = one.issue(&step, None).await.expect_err("the response is lost");
    assert!(error.in_doubt, "{error:?}");
    // Another client gets a login at the same moment.
    let theirs = another(vault, role).await;
    let made: Vec<String> = logins_of(pg, role)
        .await
        .into_iter()
        .filter(|user| !before.contains(user) && *user != part(&theirs, "username"))
        .collect();
    assert_eq!(made.len(), 1, "it was made all the same");

    let found = one.find(&step, &[]).await.expect("find");
    let tokens = tokens_of(vault, role).await;
    assert_eq!(found, tokens.iter().map(|token| format!("@{token}")).collect::<Vec<_>>());
    assert_eq!(found.len(), 1);
    assert_eq!(one.find(&context(), &[]).await.expect("find"), Vec::<String>::new(), "not another run's");
    assert_eq!(one.life(&found[0]).await.expect("life"), Life::Active);

    // While the database keeps it, it is not gone, whatever became of its token.
    let table = own_a_table(pg, &made[0]).await;
    let error = one.revoke(&step, &found[0], None).await.expect_err("the database keeps it");
    assert!(error.in_doubt && error.message.contains("could not be revoked"), "{error:?}");
    assert_eq!(tokens_of(vault, role).await, Vec::<String>::new());
    assert_eq!(one.life(&found[0]).await.expect("life"), Life::Deleted);
    pg.execute(&format!("drop table \"{table}\"")).await;
    one.revoke(&step, &found[0], None).await.expect("revoke");
    assert_eq!(one.life(&found[0]).await.expect("life"), Life::Gone);
    assert!(!logins_of(pg, role).await.contains(&made[0]));
    assert_eq!(one.attempt(&theirs).await.expect("an answer"), Use::Accepted, "another's login lives on");
    world.forget().await;
}

/// Something on the way sends the request twice: the second is the token's last use, and both logins end.
#[tokio::test]
#[ignore = "needs Vault and PostgreSQL: scripts/test"]
async fn a_login_that_was_made_twice_leaves_nothing_behind() {
    let world = World::database().await;
    let (vault, pg, role) = parts(&world);
    let target = vault.clone();
    let front = in_front(vault, move |parts, _| {
        // The reply to the first is thrown away; the front sends the second.
        parts.uri.path().starts_with("/v1/database/creds/").then(|| lost(&target, parts)).and(None)
    })
    .await;
    let (one, step, before) = (issuer(&front, pg, role), context(), logins_of(pg, role).await);
    let error = one.issue(&step, None).await.expect_err("the server gives no second one");
    assert!(error.in_doubt && error.message.contains("one use left"), "{error:?}");
    while logins_of(pg, role).await != before {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(one.find(&step, &[]).await.expect("find"), Vec::<String>::new());
    assert_eq!(tokens_of(vault, role).await, Vec::<String>::new());
    world.forget().await;
}

/// Whoever can write the secret can name any token there: stanch revokes none that it did not make.
#[tokio::test]
#[ignore = "needs Vault and PostgreSQL: scripts/test"]
async fn a_token_that_holds_no_lease_of_stanch_is_not_revoked() {
    let world = World::database().await;
    let (vault, pg, role) = parts(&world);
    let (one, old) = (issuer(vault, pg, role), another(vault, role).await);
    let token = vault.token("path \"secret/*\" { capabilities = [\"read\"] }").await;
    let found = vault.api("POST", "auth/token/lookup", json!({ "token": token })).await;
    let accessor = found["data"]["accessor"].as_str().expect("text");
    for handle in [format!("@{accessor}"), format!("{}@{accessor}", part(&old, "lease"))] {
        let error = one.revoke(&context(), &handle, None).await.expect_err("another's token");
        assert!(!error.in_doubt && error.message.contains("was not made by stanch"), "{error:?}");
    }
    assert_eq!(one.life(&part(&old, "lease")).await.expect("life"), Life::Active, "nothing was revoked");
    let found = vault.api("POST", "auth/token/lookup", json!({ "token": token })).await;
    assert_eq!(found["data"]["accessor"].as_str(), Some(accessor));
    world.forget().await;
}

/// What the token of the lease may not do shows before there is a lease, and leaves nothing.
#[tokio::test]
#[ignore = "needs Vault and PostgreSQL: scripts/test"]
async fn a_token_that_may_not_read_the_role_leaves_nothing_behind() {
    let world = World::database().await;
    let (vault, pg, role) = parts(&world);
    vault.api("POST", &format!("auth/token/roles/{role}"), json!({ "allowed_policies": ["default"] })).await;
    let one = issuer_with(vault.client(), pg, role, json!({ "policies": ["default"] }));
    let error = one.issue(&context(), None).await.expect_err("it may not");
    assert!(!error.in_doubt && error.kind == ErrorKind::Denied, "{error:?}");
    assert!(
        error.hint.as_ref().is_some_and(|hint| hint.contains(&format!("database/creds/{role}"))),
        "{error:?}"
    );
    assert_eq!(tokens_of(vault, role).await, Vec::<String>::new());
    world.forget().await;
}

#[tokio::test]
#[ignore = "needs Vault and PostgreSQL: scripts/test"]
async fn a_lease_that_the_database_keeps_is_no_success() {
    let world = World::database().await;
    let (vault, pg, role) = parts(&world);
    let (one, old) = (issuer(vault, pg, role), another(vault, role).await);
    let (user, lease) = (part(&old, "username"), part(&old, "lease"));
    let table = own_a_table(pg, &user).await;
    let error = one.revoke(&context(), &lease, Some(&old)).await.expect_err("it owns a table");
    assert!(error.in_doubt && error.message.contains(&lease), "{error:?}");
    assert!(error.message.contains("cannot be dropped"), "{error:?}");
    assert!(error.hint.as_ref().is_some_and(|hint| hint.contains("REASSIGN OWNED")), "{error:?}");
    assert_eq!(one.life(&lease).await.expect("life"), Life::Active);
    assert_eq!(one.attempt(&old).await.expect("an answer"), Use::Accepted);
    pg.execute(&format!("drop table \"{table}\"")).await;
    one.revoke(&context(), &lease, Some(&old)).await.expect("revoke");
    assert_eq!(one.life(&lease).await.expect("life"), Life::Gone);

    // What the server has given up on is said.
    let (kept, asked) = (another(vault, role).await, Arc::new(AtomicBool::new(false)));
    let lease = part(&kept, "lease");
    own_a_table(pg, &part(&kept, "username")).await;
    let (given_up, seen) = (lease.clone(), Arc::clone(&asked));
    let front = in_front(vault, move |parts, _| {
        (parts.uri.path().ends_with("/sys/leases")).then(|| {
            seen.store(true, Ordering::SeqCst);
            json!({ "data": { "leases": [{ "lease_id": given_up, "error": "no" }] } })
                .to_string()
                .into_response()
        })
    })
    .await;
    let error = issuer(&front, pg, role).revoke(&context(), &lease, None).await.expect_err("it owns a table");
    assert!(asked.load(Ordering::SeqCst) && error.message.contains("irrevocable"), "{error:?}");
    pg.execute(&format!("drop owned by \"{}\"", part(&kept, "username"))).await;
    world.forget().await;
}

#[tokio::test]
#[ignore = "needs Vault and PostgreSQL: scripts/test"]
async fn what_is_wrong_is_named_before_anything_is_made() {
    let world = World::database().await;
    let (vault, pg, role) = parts(&world);
    let old = Identity { handle: format!("database/creds/{role}/x"), principal: "old".to_owned() };
    let told = async |more: Value| {
        let one = issuer_with(vault.client(), pg, role, more);
        failures(&one.preflight(Some(&old)).await).join("\n")
    };
    assert_eq!(told(json!({})).await, "");
    let said = told(json!({ "role": "none" })).await;
    assert!(said.contains("no dynamic role at database/roles/none"), "{said}");
    let said = told(json!({ "mount": "elsewhere" })).await;
    assert!(said.contains("elsewhere/roles"), "{said}");
    let said = told(json!({ "token_role": "none" })).await;
    assert!(said.contains("no token role"), "{said}");
    let said = told(json!({ "policies": ["another"] })).await;
    assert!(said.contains("another"), "{said}");
    // A token role whose tokens are children: the lease would end with the token that stanch works with.
    let spec = json!({ "allowed_policies": [role], "orphan": false });
    vault.api("POST", &format!("auth/token/roles/{role}"), spec).await;
    let said = told(json!({})).await;
    assert!(said.contains("children of the operator's"), "{said}");
    // Tokens that hold leases need not look themselves up.
    let spec = json!({ "allowed_policies": [role], "orphan": true, "token_no_default_policy": true });
    vault.api("POST", &format!("auth/token/roles/{role}"), spec).await;
    assert_eq!(told(json!({})).await, "");

    // How long leases live, where that is less than asked for.
    let lives = async |ttl: &str| {
        let checks = issuer_with(vault.client(), pg, role, json!({ "ttl": ttl })).preflight(None).await;
        let warned = checks.into_iter().filter(|check| check.verdict == CheckVerdict::Warn);
        warned.filter(|check| check.name == "life").map(|check| check.detail).collect::<Vec<_>>()
    };
    assert_eq!(lives("1h").await, Vec::<String>::new());
    let said = lives("90m").await;
    assert!(said.len() == 1 && said[0].contains("ends after 1h unless a consumer renews"), "{said:?}");
    let said = lives("3h").await;
    assert!(said.len() == 1 && said[0].contains("end after 2h, renewed or not"), "{said:?}");

    // All that is missing of permissions, each by itself.
    let rules = lease_rules(role);
    // Every token may look leases up: the policy `default` says so.
    let given_to_all = |line: &&str| line.contains("\"sys/leases/lookup\"");
    let lines: Vec<&str> = rules.lines().map(str::trim).filter(|line| !given_to_all(line)).collect();
    for missing in 0..=lines.len() {
        let given: Vec<&str> =
            lines.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, line)| *line).collect();
        let client = vault.client_as(&vault.token(&given.join("\n")).await);
        let checks = issuer_with(client, pg, role, json!({})).preflight(Some(&old)).await;
        let said: String = checks
            .iter()
            .filter(|check| check.verdict != CheckVerdict::Pass)
            .map(|check| format!("{}: {}\n", check.name, check.detail))
            .collect();
        match lines.get(missing) {
            None => assert_eq!(said, "", "all of them suffice"),
            Some(line) => {
                let path = line.split('"').nth(1).expect("a path");
                let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
                assert!(said.contains(name), "{line}: {said}");
            }
        }
    }

    // What cannot be a lease of this role is sent nowhere.
    let one = issuer(vault, pg, role);
    for handle in ["", "@", "database/creds/app", "database/creds/other/x", "x@y", "database/creds/../x"] {
        let error = one.life(handle).await.expect_err(handle);
        assert_eq!(error.kind, ErrorKind::Invalid, "{handle}: {error:?}");
        assert!(one.revoke(&context(), handle, None).await.is_err(), "{handle}");
    }
    let login = Material::single("username", Secret::new("u")).with("password", Secret::new("hunter2"));
    for odd in ["", "hunter2", "hunter2 ", "@hunter2", "database/creds/other/hunter2"] {
        let error = one.identify(&login.clone().with("lease", Secret::new(odd))).await.expect_err("no lease");
        assert!(error.kind == ErrorKind::Invalid && !format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    assert!(one.identify(&login).await.is_err(), "a part is missing");
    world.forget().await;
}

/// The response with the login is lost in a run: its token is revoked, and another login issued.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault and PostgreSQL: scripts/test"]
async fn a_run_whose_login_was_lost_revokes_it_and_gets_another() {
    let world = World::database().await;
    let (vault, _, _) = parts(&world);
    let (done, target) = (Arc::new(AtomicBool::new(false)), vault.clone());
    let front = in_front(vault, move |parts, _| {
        let first = parts.uri.path().starts_with("/v1/database/creds/") && !done.swap(true, Ordering::SeqCst);
        first.then(|| lost(&target, parts))
    })
    .await;
    let before = world.current().await;
    let consumer = world.consumer().await;
    let tool = world.tool_through(&front.address);
    let runbook = tool.runbook(&world.runbook(&consumer.url, Some("overlap: { until: [adopted] }")));
    tool.run(&["run", runbook.to_str().expect("path"), "--env", "test", "--yes"]).expect(0);
    world.is_rotated(&before).await;
    consumer.never_failed().await;
    world.forget().await;
}

/// A run whose old login the database keeps does not end as done, and goes on once that is settled.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault and PostgreSQL: scripts/test"]
async fn a_run_is_done_once_the_database_lets_go_of_the_old_login() {
    let world = World::database().await;
    let (_, pg, _) = parts(&world);
    let before = world.current().await;
    let table = own_a_table(pg, before["username"].as_str().expect("text")).await;
    let consumer = world.consumer().await;
    let tool = world.tool();
    let runbook = tool.runbook(&world.runbook(&consumer.url, Some("overlap: { until: [adopted] }")));
    let ran = tool.done(&["run", runbook.to_str().expect("path"), "--env", "test", "--yes"]).await;
    assert!(!matches!(ran.code, Some(0 | 15)) && ran.stderr.contains("could not be revoked"), "{ran:?}");
    assert_ne!(tool.status()["end"], "done");
    assert!(world.accepts(&before).await);
    pg.execute(&format!("drop table \"{table}\"")).await;
    tool.done(&["resume", &tool.newest()]).await.expect(0);
    world.is_rotated(&before).await;
    world.forget().await;
}

/// A new login that ends before the phases are over is not delivered.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault and PostgreSQL: scripts/test"]
async fn a_lease_that_is_too_short_for_the_run_is_refused() {
    let world = World::database().await;
    let (vault, _, role) = parts(&world);
    // The lease, and not the token that holds it.
    let path = format!("database/roles/{role}");
    let mut short = vault.api("GET", &path, Value::Null).await["data"].take();
    short["default_ttl"] = json!("50s");
    vault.api("POST", &path, short).await;
    let (before, alive) = (world.current().await, world.alive().await);
    let consumer = world.consumer().await;
    let tool = world.tool();
    let runbook = tool.runbook(&world.runbook(&consumer.url, Some("overlap: { at_least: 1m }")));
    let ran = tool.done(&["run", runbook.to_str().expect("path"), "--env", "test", "--yes"]).await;
    assert!(ran.code != Some(0) && ran.stderr.contains("lives for 50s"), "{ran:?}");
    let ran = tool.done(&["rollback", &tool.newest(), "--yes"]).await;
    assert!(matches!(ran.code, Some(0 | 1 | 2 | 12)), "{ran:?}");
    world.is_as_before(&before, &alive).await;
    world.forget().await;
}

/// A run that rotates a token of Vault's as well does not take the tokens that hold leases for leftovers.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault and PostgreSQL: scripts/test"]
async fn a_token_that_holds_a_lease_is_no_leftover_of_another_credential() {
    let (world, other) = (World::database().await, World::vault().await);
    let (vault, _, role) = parts(&world);
    let World::Vault { role: tokens, path, .. } = &other else { unreachable!("it is in a Vault") };
    let (before, was) = (world.current().await, other.current().await);
    let operator = vault
        .token(&format!(
            r#"{}
               path "auth/token/create/{tokens}" {{ capabilities = ["create", "update"] }}
               path "auth/token/roles/{tokens}" {{ capabilities = ["read"] }}
               path "auth/token/lookup" {{ capabilities = ["update"] }}
               path "secret/data/{path}" {{ capabilities = ["read", "create", "update"] }}
               path "secret/metadata/{path}" {{ capabilities = ["read"] }}"#,
            lease_rules(role)
        ))
        .await;
    let consumer = world.consumer().await;
    let tool = world.tool().with("VAULT_TOKEN", &operator);
    let second = format!(
        "  other:\n    issuer: {{ type: vault-token, connection: vault, role: {tokens}, policies: [{tokens}], ttl: 1h }}\n    \
         scope: {{ max_ttl: 1h, policies: [{tokens}] }}\n    stores:\n      \
         - {{ connection: vault, type: kv2, mount: secret, path: {path}, field: token }}\nphases:\n"
    );
    let text = world.runbook(&consumer.url, Some("overlap: { until: [adopted] }"));
    let runbook = tool.runbook(&text.replacen("phases:\n", &second, 1));
    tool.run(&["run", runbook.to_str().expect("path"), "--env", "test", "--yes"]).expect(0);
    world.is_rotated(&before).await;
    assert!(!other.accepts(&was).await && other.accepts(&other.current().await).await);
    world.forget().await;
    other.forget().await;
}

/// How a server lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// It says yes to the revocation, and does nothing.
    Nothing,
    /// It says yes, and that it knows no such lease any more: only the database tells.
    Vanished,
}

/// A whole run against such a server: it is not done.
async fn does_not_end_as_done(lie: Lie) {
    let world = World::database().await;
    let (vault, _, role) = parts(&world);
    let before = world.current().await;
    let (said, lease) =
        (Arc::new(AtomicBool::new(false)), before["lease"].as_str().expect("text").to_owned());
    let liar = in_front(vault, move |parts, body| {
        let (path, body) = (parts.uri.path(), String::from_utf8_lossy(body));
        if !body.contains(&lease) {
            return None;
        }
        if path.ends_with("/sys/leases/revoke") {
            said.store(true, Ordering::SeqCst);
            return Some(StatusCode::NO_CONTENT.into_response());
        }
        let vanished =
            lie == Lie::Vanished && said.load(Ordering::SeqCst) && path.ends_with("/sys/leases/lookup");
        vanished.then(|| (StatusCode::BAD_REQUEST, r#"{"errors":["invalid lease"]}"#).into_response())
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
    assert_eq!(leases_of(vault, role).await.len(), 2);
    world.is_silent(&tool, &ran, &before).await;
    world.forget().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault and PostgreSQL: scripts/test"]
async fn a_revocation_that_did_not_happen_is_not_done() {
    does_not_end_as_done(Lie::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault and PostgreSQL: scripts/test"]
async fn a_lease_that_vanished_while_its_login_works_is_not_done() {
    does_not_end_as_done(Lie::Vanished).await;
}

/// The bare kill: by the id of the lease.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault and PostgreSQL: scripts/test"]
async fn a_login_dies_by_its_lease() {
    let world = World::database().await;
    let (vault, pg, role) = parts(&world);
    let (old, kept) = (another(vault, role).await, another(vault, role).await);
    let (lease, set) = (part(&old, "lease"), format!("role={role}"));
    let tool = world.tool();
    let kill = ["revoke", "vault-database", &lease, "--set", &set, "--reason", "in a log", "--yes"];
    let ran = tool.done(&kill).await.expect(0);
    assert!(ran.stdout.contains("gone, as its issuer says"), "{ran:?}");
    assert!(!pg.accepts(&part(&old, "username"), &part(&old, "password")).await);
    assert!(pg.accepts(&part(&kept, "username"), &part(&kept, "password")).await);
    search(&tool.state(), &[part(&old, "password")]);
    let ran = tool.done(&["revoke", "vault-database", "app", "--set", &set, "--reason", "x", "--yes"]).await;
    assert!(ran.code != Some(0) && ran.stderr.contains("is not a lease of"), "{ran:?}");
    world.forget().await;
}
