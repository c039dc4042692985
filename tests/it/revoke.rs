//! `stanch revoke`: the bare kill, on a real Vault, and on servers that lie.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use serde_json::json;

use crate::approle::through;
use crate::postgres_server::Pg;
use crate::servers::{Vault, unique};
use crate::tool::{Ran, Tool, search};

/// A token that is its own parent's orphan: its accessor, and itself.
async fn token(vault: &Vault) -> (String, String) {
    let made =
        vault.api("POST", "auth/token/create-orphan", json!({ "policies": ["default"], "ttl": "1h" })).await;
    let part = |name: &str| made["auth"][name].as_str().expect("text").to_owned();
    (part("accessor"), part("client_token"))
}

fn tool(vault: &Vault) -> Tool {
    Tool::new().with("VAULT_ADDR", &vault.address).with("VAULT_TOKEN", &vault.root)
}

/// The program, with this on its standard input.
async fn with_input(tool: &Tool, arguments: &[&str], input: &str) -> Ran {
    let (mut command, input) = (tool.command(arguments), input.to_owned());
    tokio::task::spawn_blocking(move || Ran::fed(&mut command, &input)).await.expect("joined")
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn tokens_die_by_handle_and_by_value_and_no_other() {
    let vault = Vault::shared();
    let ((first, one), (_, two), (_, other)) =
        (token(&vault).await, token(&vault).await, token(&vault).await);
    let tool = tool(&vault);
    let reason = ["--reason", "seen in a log", "--yes"];
    let ran =
        tool.done(&[&["revoke", "vault-token", &first, "never-was"], &reason[..]].concat()).await.expect(0);
    assert!(ran.stdout.contains(&format!("{first}: gone, as its issuer says")), "{ran:?}");
    assert!(ran.stdout.contains("never-was: unknown to its issuer, not revoked"), "{ran:?}");
    assert!(!vault.accepts(&one).await && vault.accepts(&two).await);
    // The values go through standard input, and no further.
    let values = format!("{two}\n{one}\n");
    let arguments = [&["revoke", "vault-token", "--values", "-"], &reason[..]].concat();
    let ran = with_input(&tool, &arguments, &values).await.expect(0);
    assert!(ran.stderr.contains("the issuer does not know 1 of 2 values: number 2"), "{ran:?}");
    assert!(!vault.accepts(&two).await && vault.accepts(&other).await);
    search(&tool.state(), &[one.clone(), two.clone()]);
    assert!(!format!("{ran:?}").contains(&two), "{ran:?}");
    // What the issuer did not know is on the record.
    let shown = tool.done(&["audit", "show", "--json"]).await.expect(0);
    assert!(shown.stdout.contains("does not know 1 of 2 values"), "{shown:?}");
    // One that cannot be revoked does not keep the others alive, and the run is not called whole.
    let batch = vault
        .api("POST", "auth/token/create", json!({ "policies": ["default"], "type": "batch", "ttl": "1h" }))
        .await;
    let batch = batch["auth"]["client_token"].as_str().expect("token");
    let (_, third) = token(&vault).await;
    let ran = with_input(&tool, &arguments, &format!("{batch}\n{third}\n")).await.expect(15);
    assert!(ran.stderr.contains("NOT REVOKED, value 1 of 2"), "{ran:?}");
    assert!(!vault.accepts(&third).await);
    // A second time there is nothing left.
    let ran = tool.done(&[&["revoke", "vault-token", &first], &reason[..]].concat()).await.expect(1);
    assert!(ran.stderr.contains("knows none of these"), "{ran:?}");
    tool.done(&["audit", "verify", "--all"]).await.expect(0);
    let report = tool.done(&["report", &tool.newest()]).await.expect(0);
    assert!(report.stdout.contains("seen in a log"), "{report:?}");
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn nothing_is_revoked_that_is_kept_shown_or_used_by_stanch_itself() {
    let vault = Vault::shared();
    let ((accessor, value), (kept, also)) = (token(&vault).await, token(&vault).await);
    let tool = tool(&vault);
    let dry = ["revoke", "vault-token", &accessor, "--reason", "x", "--dry-run"];
    let shown = tool.done(&dry).await.expect(0);
    assert!(shown.stdout.contains("cannot be undone") && shown.stdout.contains(&accessor), "{shown:?}");
    let unasked = tool.done(&dry[..5]).await.expect(2);
    assert!(unasked.stderr.contains("pass --yes"), "{unasked:?}");
    let own = vault.api("GET", "auth/token/lookup-self", json!(null)).await;
    let own = own["data"]["accessor"].as_str().expect("accessor");
    let both = ["revoke", "vault-token", &accessor, own, "--reason", "x", "--yes"];
    let ran = tool.done(&both).await.expect(1);
    assert!(ran.stderr.contains("the very token that it is about to revoke"), "{ran:?}");
    assert!(ran.stderr.contains(&format!("--keep {own}")), "{ran:?}");
    let stray = ["revoke", "vault-token", &accessor, "--keep", "mistyped", "--reason", "x", "--yes"];
    let ran = tool.done(&stray).await.expect(2);
    assert!(ran.stderr.contains("no credential to revoke has this handle"), "{ran:?}");
    assert!(vault.accepts(&value).await, "nothing was changed");
    // A value as an argument is in the shell's history.
    let ran = tool.done(&["revoke", "vault-token", &value, "--reason", "x", "--yes"]).await.expect(2);
    assert!(!ran.stderr.contains(&value) && ran.stderr.contains("--values -"), "{ran:?}");
    let keep = ["revoke", "vault-token", &accessor, &kept, "--keep", &kept, "--reason", "x", "--yes"];
    tool.done(&keep).await.expect(0);
    assert!(!vault.accepts(&value).await && vault.accepts(&also).await);
    tool.done(&["halt", "--all", "--reason", "stop"]).await.expect(0);
    tool.done(&["revoke", "vault-token", &kept, "--reason", "x", "--yes"]).await.expect(23);
    assert!(vault.accepts(&also).await);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn a_server_that_lies_never_ends_done() {
    let vault = Vault::shared();
    let (accessor, value) = token(&vault).await;
    let run = ["revoke", "vault-token", &accessor, "--reason", "x", "--yes"];
    // It says yes and does nothing.
    let liar = through(&vault, |path, _| {
        path.ends_with("/revoke-accessor").then(|| StatusCode::NO_CONTENT.into_response())
    });
    let liar = tool(&liar.await);
    let ran = liar.done(&run).await;
    assert!(![Some(0), Some(15)].contains(&ran.code) && !ran.stdout.contains("DONE"), "{ran:?}");
    assert!(vault.accepts(&value).await);
    // It refuses everybody: nothing is known of the token, so that nothing is said of it.
    let shut = through(&vault, |path, _| {
        path.ends_with("/lookup-accessor")
            .then(|| (StatusCode::FORBIDDEN, r#"{"errors":["permission denied"]}"#).into_response())
    });
    let ran = tool(&shut.await).done(&run).await.expect(77);
    assert!(ran.stderr.contains("permission denied"), "{ran:?}");
    // The run that was lied to goes on, on a server that does not lie.
    let honest = liar.with("VAULT_ADDR", &vault.address);
    honest.done(&["resume"]).await.expect(0);
    assert!(!vault.accepts(&value).await);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn a_killed_revocation_of_many_is_resumed() {
    let vault = Vault::shared();
    let mut tokens = Vec::new();
    for _ in 0..40 {
        tokens.push(token(&vault).await);
    }
    let list: String = tokens.iter().map(|(accessor, _)| format!("{accessor}\n")).collect();
    let tool = tool(&vault);
    let file = tool.folder.path().join("list");
    std::io::Write::write_all(&mut std::fs::File::create(&file).expect("list"), list.as_bytes())
        .expect("list");
    let file = file.display().to_string();
    let run = [
        "revoke",
        "vault-token",
        "--handles",
        &file,
        "--reason",
        &unique("leak"),
        "--yes",
        "--concurrency",
        "2",
    ];
    let running = tool.start(&run);
    // Amid the revocations.
    tool.wait_until(|journal| journal.matches("/revoke\"").count() > 8, "revocations");
    running.signal("KILL");
    running.wait();
    let resumed = Arc::new(AtomicUsize::new(0));
    tool.done(&["resume"]).await.expect(0);
    for (_, value) in &tokens {
        resumed.fetch_add(usize::from(!vault.accepts(value).await), Ordering::Relaxed);
    }
    assert_eq!(resumed.load(Ordering::Relaxed), 40);
    tool.done(&["audit", "verify"]).await.expect(0);
}

/// An AppRole method at a path of its own, and tokens that it issued: accessor and token of each.
async fn logins(vault: &Vault, mount: &str, count: usize) -> Vec<(String, String)> {
    vault.api("POST", &format!("sys/auth/{mount}"), json!({ "type": "approle" })).await;
    vault.api("POST", &format!("auth/{mount}/role/app"), json!({ "token_ttl": "1h" })).await;
    let mut made = Vec::new();
    for _ in 0..count {
        made.push(log_in(vault, mount).await);
    }
    made
}

/// One more: its accessor, and the token.
async fn log_in(vault: &Vault, mount: &str) -> (String, String) {
    let id = vault.api("GET", &format!("auth/{mount}/role/app/role-id"), json!(null)).await;
    let secret = vault.api("POST", &format!("auth/{mount}/role/app/secret-id"), json!({})).await;
    let body = json!({ "role_id": id["data"]["role_id"], "secret_id": secret["data"]["secret_id"] });
    let login = vault.api("POST", &format!("auth/{mount}/login"), body).await;
    let part = |name: &str| login["auth"][name].as_str().expect("text").to_owned();
    (part("accessor"), part("client_token"))
}

/// A PKI engine at a path of its own, and leases of its certificates.
async fn leases(vault: &Vault, mount: &str, count: usize) -> Vec<String> {
    vault.api("POST", &format!("sys/mounts/{mount}"), json!({ "type": "pki" })).await;
    let ca = json!({ "common_name": "ca", "ttl": "10h", "key_type": "ec" });
    vault.api("POST", &format!("{mount}/root/generate/internal"), ca).await;
    let role = json!({ "allow_any_name": true, "enforce_hostnames": false, "generate_lease": true, "key_type": "ec" });
    vault.api("POST", &format!("{mount}/roles/app"), role).await;
    let mut made = Vec::new();
    for _ in 0..count {
        let body = json!({ "common_name": "app", "ttl": "1h" });
        let issued = vault.api("POST", &format!("{mount}/issue/app"), body).await;
        made.push(issued["lease_id"].as_str().filter(|id| !id.is_empty()).expect("a lease").to_owned());
    }
    made
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn all_tokens_of_an_auth_path_die_and_no_other() {
    let vault = Vault::shared();
    let mount = unique("login");
    let tokens = logins(&vault, &mount, 3).await;
    // Its name begins like the other one's.
    let beside = logins(&vault, &format!("{mount}2"), 1).await;
    let tool = tool(&vault);
    let prefix = format!("auth/{mount}");
    let dry = ["revoke", "vault-prefix", &format!("{prefix}/"), "--reason", "x", "--dry-run"];
    let shown = tool.done(&dry).await.expect(0);
    assert!(shown.stdout.contains(&format!("Below {prefix}: 3 (")), "{shown:?}");
    assert!(tokens.iter().all(|(accessor, _)| shown.stdout.contains(accessor)), "{shown:?}");
    assert!(shown.stdout.contains("batch tokens have no lease"), "{shown:?}");
    assert!(vault.accepts(&tokens[0].1).await);
    let run = ["revoke", "vault-prefix", &prefix, "--reason", "a laptop was stolen", "--yes"];
    let ran = tool.done(&run).await.expect(0);
    assert!(ran.stdout.contains(&format!("{prefix}: gone, as its issuer says")), "{ran:?}");
    for (_, token) in &tokens {
        assert!(!vault.accepts(token).await);
    }
    assert!(vault.accepts(&beside[0].1).await);
    let again = tool.done(&run).await.expect(1);
    assert!(again.stderr.contains("knows none of these"), "{again:?}");
    tool.done(&["audit", "verify", "--all"]).await.expect(0);
    for everything in ["", "/", "auth", "auth/", "sys/", "v1/auth/"] {
        for kind in ["vault-prefix", "lease-prefix"] {
            tool.done(&["revoke", kind, everything, "--reason", "x", "--yes"]).await.expect(2);
        }
    }
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn a_prefix_with_a_token_to_keep_is_refused() {
    let vault = Vault::shared();
    let mount = unique("login");
    let tokens = logins(&vault, &mount, 2).await;
    let prefix = format!("auth/{mount}");
    let run = ["revoke", "vault-prefix", &prefix, "--reason", "x", "--yes"];
    let keep = [&run[..], &["--keep", &tokens[0].0]].concat();
    let ran = tool(&vault).done(&keep).await.expect(1);
    assert!(ran.stderr.contains(&tokens[0].0) && ran.stderr.contains("--handles FILE --keep"), "{ran:?}");
    let stray = tool(&vault).done(&[&run[..], &["--keep", "mistyped"]].concat()).await.expect(1);
    assert!(stray.stderr.contains("knows no token by this accessor"), "{stray:?}");
    // stanch's own token was issued there, or by a token that was.
    let everything =
        "path \"*\" { capabilities = [\"create\", \"read\", \"update\", \"delete\", \"list\", \"sudo\"] }";
    let policy = unique("all");
    vault.api("PUT", &format!("sys/policies/acl/{policy}"), json!({ "policy": everything })).await;
    vault.api("POST", &format!("auth/{mount}/role/app"), json!({ "token_policies": [policy] })).await;
    let own = logins_again(&vault, &mount).await;
    let as_own = |token: &str| Tool::new().with("VAULT_ADDR", &vault.address).with("VAULT_TOKEN", token);
    let ran = as_own(&own).done(&run).await.expect(1);
    assert!(ran.stderr.contains("the token that stanch uses (accessor"), "{ran:?}");
    let own = Vault { root: own, ..vault.clone() };
    let child = own.api("POST", "auth/token/create", json!({ "ttl": "1h" })).await;
    let child = child["auth"]["client_token"].as_str().expect("token");
    let ran = as_own(child).done(&run).await.expect(1);
    assert!(ran.stderr.contains("may be a child of a token below"), "{ran:?}");
    // What stanch may not list is unknown.
    let narrow =
        format!("path \"sys/leases/revoke-prefix/{prefix}\" {{ capabilities = [\"update\", \"sudo\"] }}");
    let ran = as_own(&vault.token(&narrow).await).done(&run).await.expect(77);
    assert!(
        ran.stderr.contains("sys/leases/lookup/") && ran.stderr.contains("nothing was changed"),
        "{ran:?}"
    );
    assert!(vault.accepts(&tokens[0].1).await && vault.accepts(&tokens[1].1).await);
    // What it prints suffices.
    let (_, policy) = ran.stderr.split_once("of its token: ").expect("a policy");
    as_own(&vault.token(policy).await).done(&run).await.expect(0);
    assert!(!vault.accepts(&tokens[0].1).await && !vault.accepts(&tokens[1].1).await);
}

/// One more token of that method.
async fn logins_again(vault: &Vault, mount: &str) -> String {
    let id = vault.api("GET", &format!("auth/{mount}/role/app/role-id"), json!(null)).await;
    let secret = vault.api("POST", &format!("auth/{mount}/role/app/secret-id"), json!({})).await;
    let body = json!({ "role_id": id["data"]["role_id"], "secret_id": secret["data"]["secret_id"] });
    let login = vault.api("POST", &format!("auth/{mount}/login"), body).await;
    login["auth"]["client_token"].as_str().expect("token").to_owned()
}

#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn leases_below_a_path_end_at_once() {
    let vault = Vault::shared();
    let (mount, beside) = (unique("pki"), unique("pki"));
    let (made, kept) = (leases(&vault, &mount, 3).await, leases(&vault, &beside, 1).await);
    let tool = tool(&vault);
    let run = ["revoke", "lease-prefix", &format!("{mount}/issue/"), "--reason", "x"];
    let shown = tool.done(&[&run[..], &["--dry-run"]].concat()).await.expect(0);
    assert!(shown.stdout.contains(&format!("Below {mount}/issue: 3 ({mount}/issue/app/")), "{shown:?}");
    let keep = tool.done(&[&run[..], &["--yes", "--keep", &made[1]]].concat()).await.expect(1);
    assert!(keep.stderr.contains("this lease is below"), "{keep:?}");
    let tokens = ["revoke", "lease-prefix", "auth/approle", "--reason", "x", "--yes"];
    let tokens = tool.done(&tokens).await.expect(2);
    assert!(tokens.stderr.contains("vault-prefix"), "{tokens:?}");
    tool.done(&[&run[..], &["--yes"]].concat()).await.expect(0);
    let look = |id: &String| {
        let (vault, id) = (vault.clone(), id.clone());
        async move {
            let request = crate::servers::plain_http().put(format!("{}/v1/sys/leases/lookup", vault.address));
            let request =
                request.header("x-vault-token", &vault.root).body(json!({ "lease_id": id }).to_string());
            request.send().await.expect("Vault answers").status().as_u16()
        }
    };
    assert_eq!((look(&made[0]).await, look(&made[2]).await, look(&kept[0]).await), (400, 400, 200));
}

/// A database engine at a path of its own, and leases of logins to PostgreSQL: the lease, and the login's name.
async fn logins_to_postgres(vault: &Vault, pg: &Pg, mount: &str, count: usize) -> Vec<(String, String)> {
    vault.api("POST", &format!("sys/mounts/{mount}"), json!({ "type": "database" })).await;
    let url =
        format!("postgresql://{{{{username}}}}:{{{{password}}}}@{}/postgres?sslmode=disable", pg.place());
    let config = json!({
        "plugin_name": "postgresql-database-plugin", "allowed_roles": "*", "connection_url": url,
        "username": "postgres", "password": pg.password,
    });
    vault.api("POST", &format!("{mount}/config/pg"), config).await;
    let role = json!({
        "db_name": "pg", "default_ttl": "1h",
        "creation_statements": "CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}'",
    });
    vault.api("POST", &format!("{mount}/roles/app"), role).await;
    let mut made = Vec::new();
    for _ in 0..count {
        let lease = vault.api("GET", &format!("{mount}/creds/app"), json!(null)).await;
        let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
        made.push((text(&lease["lease_id"]), text(&lease["data"]["username"])));
    }
    made
}

/// A program that logs in again and again: those that were listed are dead, the others are told, and the run does not wait.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn tokens_that_come_after_the_revocation_are_told() {
    let (vault, login) = (Vault::shared(), unique("login"));
    let tokens = logins(&vault, &login, 2).await;
    let mount = login.clone();
    let again = tokio::spawn(async move {
        loop {
            let mount = mount.clone();
            // One that is refused in the middle of the revocation does not end the others.
            let _ = tokio::spawn(async move { log_in(&Vault::shared(), &mount).await }).await;
        }
    });
    let prefix = format!("auth/{login}");
    let ran = tool(&vault).done(&["revoke", "vault-prefix", &prefix, "--reason", "x", "--yes"]).await;
    again.abort();
    assert!(![Some(0), Some(15)].contains(&ran.code) && !ran.stdout.contains("DONE"), "{ran:?}");
    let said = format!(
        "below {prefix} came into being after stanch had listed them; those that it had listed are gone"
    );
    assert!(ran.stdout.contains(&said), "{ran:?}");
    assert!(!vault.accepts(&tokens[0].1).await && !vault.accepts(&tokens[1].1).await);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn tokens_that_a_lying_server_leaves_are_named() {
    let vault = Vault::shared();
    let login = unique("login");
    let tokens = logins(&vault, &login, 2).await;
    let liar = through(&vault, |path, _| {
        path.contains("/revoke-prefix/").then(|| StatusCode::NO_CONTENT.into_response())
    });
    let (liar, prefix) = (tool(&liar.await), format!("auth/{login}"));
    let ran = liar.done(&["revoke", "vault-prefix", &prefix, "--reason", "x", "--yes"]).await;
    assert!(![Some(0), Some(15)].contains(&ran.code) && !ran.stdout.contains("DONE"), "{ran:?}");
    assert!(
        ran.stdout.contains("no try took effect; the last try: 2 tokens of 2 are still valid"),
        "{ran:?}"
    );
    assert!(ran.stdout.contains(&tokens[0].0) && vault.accepts(&tokens[1].1).await, "{ran:?}");
    let ran = liar.with("VAULT_ADDR", &vault.address).done(&["resume"]).await.expect(0);
    assert!(ran.stdout.contains(&format!("{prefix}: gone")), "{ran:?}");
    assert!(!vault.accepts(&tokens[0].1).await && !vault.accepts(&tokens[1].1).await);
}

/// A login that owns a table cannot be dropped: the server stops there, and the others still end.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault and PostgreSQL: scripts/test"]
async fn a_lease_that_cannot_be_revoked_is_named_and_does_not_keep_the_others() {
    let (vault, pg, mount) = (Vault::shared(), Pg::shared(), unique("db"));
    let made = logins_to_postgres(&vault, &pg, &mount, 3).await;
    let (stuck, login) = &made[1];
    pg.execute(&format!("create table \"{mount}\" (id int); alter table \"{mount}\" owner to \"{login}\""))
        .await;
    // A server takes minutes until it gives up.
    let lease = stuck.clone();
    let front = through(&vault, move |path, _| {
        path.ends_with("/sys/leases").then(|| {
            let lease = json!({ "lease_id": lease, "error": "gave up after 6 tries" });
            axum::Json(json!({ "data": { "lease_count": 1, "leases": [lease] } })).into_response()
        })
    });
    let (tool, prefix) = (tool(&front.await), format!("{mount}/creds"));
    let ran = tool.done(&["revoke", "lease-prefix", &prefix, "--reason", "x", "--yes"]).await;
    assert!(![Some(0), Some(15)].contains(&ran.code) && !ran.stdout.contains("DONE"), "{ran:?}");
    for words in [
        &format!("1 of 3 leases below {prefix} could not be revoked: {stuck}")[..],
        "the server has given up on",
        "gave up after 6 tries",
        "vault lease revoke -force -prefix",
    ] {
        assert!(ran.stdout.contains(words), "{words}: {ran:?}");
    }
    let logins: Vec<String> = made.iter().map(|(_, login)| format!("'{login}'")).collect();
    let left = format!("select rolname::text from pg_roles where rolname in ({})", logins.join(", "));
    assert_eq!(pg.column(&left).await, std::slice::from_ref(login));
    pg.execute(&format!("drop table \"{mount}\"")).await;
    let ran = tool.done(&["resume"]).await.expect(0);
    assert!(ran.stdout.contains(&format!("{prefix}: gone")), "{ran:?}");
}

/// The line of a file of handles that is wrong is named, and its text is not.
#[test]
fn a_wrong_line_of_handles_is_named() {
    let tool = Tool::new();
    let file = tool.folder.path().join("list");
    std::io::Write::write_all(
        &mut std::fs::File::create(&file).expect("list"),
        b"# leaked\nabc\n\ntwo words\n",
    )
    .expect("list");
    let file = file.display().to_string();
    let run = ["revoke", "vault-token", "--handles", &file, "--reason", "x", "--yes"];
    let ran = tool.run(&run).expect(2);
    assert!(ran.stderr.contains("list, line 4: ") && !ran.stderr.contains("two words"), "{ran:?}");
}
