//! Credentials that no store holds: the old one is named by its handle, and the new one is delivered otherwise.
#![expect(clippy::disallowed_methods, reason = "a test writes what it likes")]

use std::fs;

use serde_json::json;

use crate::servers::{Vault, unique};
use crate::tool::{Ran, Tool, holds};

/// A credential of the sandbox that no store holds.
fn book(tool: &Tool, outgoing: &str) -> String {
    let text = format!(
        "version: 1\nname: bare\nenvironments: {{ sandbox: {{}} }}\nconnections: {{ world: {{ type: sandbox }} }}\n\
         credentials:\n  key:\n    issuer: {{ type: sandbox, connection: world, policies: [read], ttl: 1h }}\n    \
         scope: {{ max_ttl: 1h, policies: [read] }}\n    {outgoing}\n    accepts: [{{ sandbox: {{ policy: read }} }}]\n\
         phases:\n  verify: {{ times: 1, every: 10ms }}\n  proof: {{ times: 2, every: 10ms }}\n  \
         cutover: {{ before: [{{ name: deliver, exec: [\"true\"], credential: key, undo: none }}] }}\n"
    );
    tool.runbook(&text).display().to_string()
}

fn run(tool: &Tool, path: &str, more: &[&str]) -> Ran {
    tool.run(&[&["run", path, "--env", "sandbox", "--yes"], more].concat())
}

fn has(text: &str, words: &[&str]) {
    words.iter().for_each(|word| assert!(text.contains(word), "no `{word}` in {text}"));
}

#[test]
fn its_issuers_word_proves_the_old_one_dead() {
    let tool = Tool::new();
    let path = book(&tool, "outgoing: leaked-1");
    let plan = tool.run(&["plan", &path, "--env", "sandbox"]).expect(0).stdout;
    has(
        &plan,
        &[
            "custom step deliver with the new key",
            "confirm that its issuer no longer knows the old key",
            "key: no store holds the old credential leaked-1",
            "only its issuer can say that it is dead",
        ],
    );
    let ran = run(&tool, &path, &[]).expect(0);
    has(&ran.stdout, &["DONE", "key: new issued, no store; old gone, as its issuer says"]);
    let journal = fs::read_to_string(tool.journal().expect("a run")).expect("journal");
    has(&journal, &["its issuer called it gone 2 times in a row, and the new one active"]);
    tool.run(&["status", "--check"]).expect(0);
    // The runbook still names one that is gone now.
    let again = run(&tool, &path, &[]);
    has(&again.stderr, &["does not know the handle leaked-1", "--outgoing"]);
}

#[test]
fn the_command_line_names_it_as_well() {
    let tool = Tool::new();
    let path = book(&tool, "stores: []");
    let refused = run(&tool, &path, &[]).expect(1);
    has(
        &refused.stderr,
        &["no store holds the old credential", "--outgoing key=HANDLE", "nothing was changed"],
    );
    assert!(tool.journal().is_none());
    run(&tool, &path, &["--outgoing", "key=leaked-2"]).expect(0);
    // What a person named stands in the plan, for whoever resumes or reads it.
    let journal = fs::read_to_string(tool.journal().expect("a run")).expect("journal");
    assert!(journal.contains("\"outgoing\":\"leaked-2\""));
}

#[test]
fn a_rollback_revokes_the_new_one_and_leaves_the_old_one_alone() {
    let tool = Tool::new();
    let path = book(&tool, "outgoing: leaked-3");
    run(&tool, &path, &["--until", "sunset"]).expect(0);
    // No other run may have the same credential meanwhile.
    run(&tool, &path, &[]).expect(21);
    let back = tool.run(&["rollback", "--yes", "--reason", "a test"]);
    has(&back.stdout, &["key: new revoked, no store; old still accepted"]);
    tool.run(&["status", "--check"]);
    // It is known and alive: another run can begin with it, and ends it.
    run(&tool, &path, &[]).expect(0);
}

/// A value that a program delivers, and nothing keeps.
fn value(tool: &Tool, issuer: &str, more: &str) -> String {
    let text = format!(
        "version: 1\nname: pw\nenvironments: {{ test: {{}} }}\ncredentials:\n  pw:\n    issuer: {issuer}\n    \
         accepts: [{{ exec: [\"true\"] }}]\n    rejects: [{{ exec: [\"false\"] }}]\n{more}"
    );
    tool.runbook(&text).display().to_string()
}

#[test]
fn a_custom_step_gets_the_sealed_value_also_after_a_resume() {
    let tool = Tool::new();
    let got = tool.folder.path().join("got").display().to_string();
    let path = value(
        &tool,
        "{ type: random, length: 40 }",
        &format!(
            "phases:\n  verify: {{ times: 1, every: 10ms }}\n  cutover:\n    before:\n      \
             - {{ name: deliver, exec: [sh, -c, \"cat >> {got}\"], credential: pw, class: idempotent, undo: none }}\n"
        ),
    );
    let reason = ["--nothing-to-revoke", "--reason", "it was never handed out"];
    let args = [&["run", &path, "--env", "test", "--yes", "--until", "verify"][..], &reason].concat();
    tool.run(&args).expect(0);
    assert!(!fs::exists(&got).expect("looked"));
    let ran = tool.run(&["resume"]).expect(0);
    let value = fs::read_to_string(&got).expect("delivered");
    assert_eq!(value.len(), 40);
    assert!(!holds(&tool.state(), &value) && !format!("{ran:?}").contains(&value));
}

#[test]
fn an_issuer_that_delivers_needs_no_store() {
    let tool = Tool::new();
    let got = tool.folder.path().join("got").display().to_string();
    let issuer = format!(
        "{{ type: random, apply: {{ exec: [sh, -c, \"cat > {got}\"] }}, revoke: {{ exec: [\"true\"] }} }}"
    );
    let path = value(&tool, &issuer, "");
    let run = ["run", &path, "--env", "test", "--yes"];
    // Its authority cannot be asked about a handle, so that naming one would prove nothing.
    let named = tool.run(&[&run[..], &["--outgoing", "pw=label"]].concat()).expect(1);
    has(&named.stderr, &["cannot be asked about the handle label", "--nothing-to-revoke"]);
    let ran =
        tool.run(&[&run[..], &["--nothing-to-revoke", "--reason", "revoked by hand"]].concat()).expect(0);
    has(&ran.stdout, &["no store"]);
    assert_eq!(fs::read_to_string(&got).expect("applied").len(), 40);
}

/// Its consumer is given the old value again before it is told to reload, and the new one is revoked after that.
#[test]
fn a_rollback_waits_until_no_consumer_uses_the_new_one() {
    for (undo, code) in [("cp old got", 0), ("true", 14)] {
        let tool = Tool::new();
        let at = tool.folder.path().display().to_string();
        fs::write(tool.folder.path().join("old"), "the-old-value").expect("old");
        fs::write(tool.folder.path().join("got"), "the-old-value").expect("got");
        let issuer = format!(
            "{{ type: random, apply: {{ exec: [\"true\"] }}, revoke: {{ exec: [sh, -c, \"cat > {at}/revoked\"] }} }}\n    \
             consumers:\n      - name: api\n        reload: {{ exec: [sh, -c, \"cp {at}/got {at}/used\"] }}\n        \
             attest: {{ exec: {{ argv: [sh, -c, \"sha256sum < {at}/got | cut -c1-64\"] }} }}"
        );
        let more = format!(
            "phases:\n  verify: {{ times: 1, every: 10ms }}\n  cutover:\n    before:\n      - name: deliver\n        \
             exec: [sh, -c, \"cat > {at}/got\"]\n        credential: pw\n        undo: {{ exec: [sh, -c, \"cd {at} && {undo}\"] }}\n"
        );
        let path = value(&tool, &issuer, &more);
        let reason = ["--nothing-to-revoke", "--reason", "a test", "--until", "cutover"];
        tool.run(&[&["run", &path, "--env", "test", "--yes"][..], &reason].concat()).expect(0);
        let new = fs::read_to_string(tool.folder.path().join("got")).expect("delivered");
        let back = tool.run(&["rollback", "--yes", "--reason", "a test"]);
        assert_eq!(back.code, Some(code), "{back:?}");
        let revoked = fs::read_to_string(tool.folder.path().join("revoked")).ok();
        let used = fs::read_to_string(tool.folder.path().join("used")).expect("reloaded");
        if undo == "true" {
            assert!(revoked.is_none(), "revoked under its consumer");
            has(&format!("{}{}", back.stdout, back.stderr), &["1 of 1 instances of api use the new pw"]);
        } else {
            assert_eq!((revoked.as_deref(), used.as_str()), (Some(new.as_str()), "the-old-value"));
        }
    }
}

#[test]
fn what_is_not_rotated_is_not_delivered() {
    let tool = Tool::new();
    let path = book(&tool, "outgoing: leaked-4");
    let text = fs::read_to_string(&path).expect("runbook");
    let other = "credentials:\n  other:\n    issuer: { type: sandbox, connection: world, policies: [read] }\n    \
                 stores: [{ type: sandbox, connection: world, path: o }]\n    accepts: [{ sandbox: { policy: read } }]\n";
    let path = tool.runbook(&text.replacen("credentials:\n", other, 1)).display().to_string();
    let saved = tool.folder.path().join("plan.json").display().to_string();
    let plan =
        tool.run(&["plan", &path, "--env", "sandbox", "--only", "other", "-o", &saved]).expect(0).stdout;
    assert!(!plan.contains("deliver"), "{plan}");
    tool.run(&["run", &saved, "--yes"]).expect(0);
}

/// On a real server: a token that stands nowhere, known by its accessor.
#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn a_vault_token_that_no_store_holds_is_rotated_and_rolled_back() {
    let (vault, policy) = (Vault::shared(), unique("storeless"));
    let rules = "path \"auth/token/lookup-self\" { capabilities = [\"read\"] }";
    vault.api("PUT", &format!("sys/policies/acl/{policy}"), json!({ "policy": rules })).await;
    let made = vault.api("POST", "auth/token/create", json!({ "policies": [policy], "ttl": "1h" })).await;
    let text = |field: &str| made["auth"][field].as_str().expect("text").to_owned();
    let (old, accessor) = (text("client_token"), text("accessor"));
    let tool = Tool::new().with("VAULT_ADDR", &vault.address).with("VAULT_TOKEN", &vault.root);
    let got = tool.folder.path().join("got").display().to_string();
    let path = tool.runbook(&format!(
        "version: 1\nname: bare\nenvironments: {{ test: {{}} }}\nconnections: {{ vault: {{ type: vault }} }}\n\
         credentials:\n  key:\n    issuer: {{ type: vault-token, connection: vault, policies: [{policy}], ttl: 1h }}\n    \
         scope: {{ max_ttl: 1h, policies: [{policy}] }}\n    outgoing: {accessor}\n\
         phases:\n  verify: {{ times: 1, every: 10ms }}\n  proof: {{ times: 2, every: 10ms }}\n  \
         cutover: {{ before: [{{ name: deliver, exec: [sh, -c, \"cat > {got}\"], credential: key, undo: none }}] }}\n"
    ));
    let path = path.display().to_string();
    let run = ["run", &path, "--env", "test", "--yes"];
    tool.done(&[&run[..], &["--until", "cutover"]].concat()).await.expect(0);
    let first = fs::read_to_string(&got).expect("delivered");
    assert!(vault.accepts(&first).await && vault.accepts(&old).await);
    tool.done(&["rollback", "--yes", "--reason", "a test"]).await;
    assert!(
        !vault.accepts(&first).await && vault.accepts(&old).await,
        "the way back leaves the old one alone"
    );
    let ran = tool.done(&run).await.expect(0);
    has(&ran.stdout, &["DONE", "gone, as its issuer says"]);
    let new = fs::read_to_string(&got).expect("delivered");
    assert!(vault.accepts(&new).await && !vault.accepts(&old).await);
    for secret in [&old, &first, &new] {
        assert!(!holds(&tool.state(), secret));
    }
}
