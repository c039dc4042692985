//! `stanch revoke`: the bare kill, on a real Vault, and on servers that lie.

use std::io::Write as _;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use serde_json::json;

use crate::approle::through;
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
    let mut command = tool.command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    child.stdin.take().expect("input").write_all(input.as_bytes()).expect("written");
    let wait = tokio::task::spawn_blocking(move || child.wait_with_output());
    Ran::of(wait.await.expect("joined").expect("it ends"))
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
