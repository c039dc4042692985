//! What servers answer that are not as a run needs them: each is a sentence that names the target
//! and what to do, the exit code that the command line promises, and nothing changed.

use serde_json::{Value, json};

use crate::servers::{OwnVault, Vault, closed_port, ministack, unique};
use crate::tool::{Ran, Tool};

/// Runs `plan` and `run` on a runbook: both are refused alike, and neither leaves a run behind.
#[track_caller]
fn refused(tool: &Tool, text: &str, code: i32, words: &[&str]) -> Ran {
    let path = tool.runbook(text);
    let path = path.to_str().expect("path");
    tool.run(&["plan", path, "--env", "test"]).expect(code);
    let ran = tool.run(&["run", path, "--env", "test", "--yes"]).expect(code);
    for word in words {
        assert!(ran.stderr.contains(word), "`{word}` is not in: {}", ran.stderr);
    }
    assert!(ran.stderr.contains("hint:"), "what to do is not said: {}", ran.stderr);
    assert!(tool.journal().is_none(), "a run was opened");
    ran
}

fn vault_runbook(role: &str, mount: &str, path: &str, more: &str) -> String {
    format!(
        "version: 1\nname: bad\nenvironments: {{ test: {{}} }}\nconnections: {{ vault: {{ type: vault{more} }} }}\n\
         credentials:\n  key:\n    issuer: {{ type: vault-token, connection: vault, role: {role}, policies: [{role}], ttl: 1h }}\n    \
         scope: {{ max_ttl: 1h }}\n    stores: [{{ connection: vault, type: kv2, mount: {mount}, path: {path}, field: token }}]\n    \
         consumers: [{{ name: app }}]\n"
    )
}

/// A role, and a first token in KV v2.
async fn vault_world(vault: &Vault) -> (String, String) {
    let (role, path) = (unique("role"), unique("app"));
    let rules = "path \"auth/token/lookup-self\" { capabilities = [\"read\"] }";
    vault.api("PUT", &format!("sys/policies/acl/{role}"), json!({ "policy": rules })).await;
    let spec = json!({ "allowed_policies": [role], "orphan": true });
    vault.api("POST", &format!("auth/token/roles/{role}"), spec).await;
    let made = vault.api("POST", &format!("auth/token/create/{role}"), json!({ "ttl": "1h" })).await;
    let first = json!({ "data": { "token": made["auth"]["client_token"] } });
    vault.api("POST", &format!("secret/data/{path}"), first).await;
    (role, path)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn vault_is_not_as_it_should_be() {
    let vault = Vault::shared();
    let (role, path) = vault_world(&vault).await;
    let tool = |token: &str| Tool::new().with("VAULT_ADDR", &vault.address).with("VAULT_TOKEN", token);
    let good = vault_runbook(&role, "secret", &path, "");

    let down = Tool::new().with("VAULT_ADDR", &format!("http://{}", closed_port())).with("VAULT_TOKEN", "t");
    refused(&down, &good, 69, &["http://127.0.0.1"]);
    refused(&tool("hvs.not-a-token-of-this-server"), &good, 77, &["token"]);
    let nobody = Tool::new().with("VAULT_ADDR", &vault.address);
    refused(&nobody, &good, 77, &["VAULT_TOKEN"]);
    let read = "{ capabilities = [\"read\"] }";
    let weak = vault.token(&format!("path \"secret/data/{path}\" {read}")).await;
    refused(
        &tool(&weak),
        &good,
        77,
        &["secret/data", "may not update the secret", "revoke tokens by accessor"],
    );
    let write = "{ capabilities = [\"read\", \"create\", \"update\"] }";
    let rules = format!("path \"secret/data/{path}\" {write}\npath \"secret/metadata/{path}\" {read}");
    let weak = vault.token(&rules).await;
    refused(&tool(&weak), &good, 77, &["auth/token"]);
    let expired = vault.api("POST", "auth/token/create", json!({ "ttl": "1s" })).await;
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    refused(&tool(expired["auth"]["client_token"].as_str().expect("token")), &good, 77, &["token"]);
    // Vault does not tell a mount that is not there from one that is forbidden.
    refused(&tool("root"), &vault_runbook(&role, "nowhere", &path, ""), 77, &["nowhere"]);
    refused(&tool("root"), &vault_runbook(&role, "secret", "not/there", ""), 1, &["not/there"]);
    refused(&tool("root"), &vault_runbook(&role, "secret", &path, ", namespace: team"), 1, &["namespace"]);
    let v1 = unique("v1");
    vault
        .api("POST", &format!("sys/mounts/{v1}"), json!({ "type": "kv", "options": { "version": "1" } }))
        .await;
    vault.api("POST", &format!("{v1}/app"), json!({ "token": "x" })).await;
    refused(&tool("root"), &vault_runbook(&role, &v1, "app", ""), 1, &["version 1"]);
    // After all that, the first token is where it was.
    let current = vault.api("GET", &format!("secret/data/{path}"), Value::Null).await;
    assert_eq!(current["data"]["metadata"]["version"], 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn vault_is_sealed_or_not_initialised() {
    let mut own = OwnVault::start().await;
    let tool = || Tool::new().with("VAULT_ADDR", &own.vault.address).with("VAULT_TOKEN", "t");
    let text = vault_runbook("r", "secret", "app", "");
    refused(&tool(), &text, 69, &["initialised"]);
    own.initialise().await;
    own.vault.api("PUT", "sys/seal", Value::Null).await;
    let tool = Tool::new().with("VAULT_ADDR", &own.vault.address).with("VAULT_TOKEN", "t");
    refused(&tool, &text, 69, &["sealed"]);
}

fn aws_runbook(secret: &str, user: &str, account: &str) -> String {
    format!(
        "version: 1\nname: bad\nenvironments: {{ test: {{}} }}\nconnections: {{ aws: {{ type: aws, account: \"{account}\" }} }}\n\
         credentials:\n  key:\n    issuer: {{ type: iam-access-key, connection: aws, user: {user} }}\n    \
         stores: [{{ connection: aws, type: secretsmanager, secret: {secret} }}]\n    consumers: [{{ name: app }}]\n"
    )
}

/// ministack is trusted for unknown keys, accounts and deleted secrets.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs ministack: scripts/test"]
async fn aws_is_not_as_it_should_be() {
    let url = ministack();
    let tool =
        |url: &str| Tool::new().with("AWS_ENDPOINT_URL", url).with("AWS_EC2_METADATA_DISABLED", "true");
    let keys = |tool: Tool, id: &str| {
        tool.with("AWS_REGION", "us-east-1")
            .with("AWS_ACCESS_KEY_ID", id)
            .with("AWS_SECRET_ACCESS_KEY", "test")
    };
    let here = "000000000000";
    let down = format!("http://{}", closed_port());
    refused(&keys(tool(&down), "test"), &aws_runbook("s", "u", here), 69, &[&down]);
    refused(&keys(tool(&url), "AKIANOTAKEYOFTHISONE"), &aws_runbook("s", "u", here), 77, &["AWS"]);
    refused(&tool(&url).with("AWS_REGION", "us-east-1"), &aws_runbook("s", "u", here), 1, &["credentials"]);
    refused(&keys(tool(&url), "test"), &aws_runbook("s", "u", "999999999999"), 1, &["999999999999", here]);
    let gone = unique("gone");
    refused(&keys(tool(&url), "test"), &aws_runbook(&gone, "u", here), 1, &[&gone]);

    let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
        .region("us-east-1")
        .endpoint_url(&url)
        .credentials_provider(aws_sdk_sts::config::Credentials::new("test", "test", None, None, "test"))
        .load()
        .await;
    let secrets = aws_sdk_secretsmanager::Client::new(&config);
    secrets.create_secret().name(&gone).secret_string("x").send().await.expect("create");
    secrets.delete_secret().secret_id(&gone).recovery_window_in_days(7).send().await.expect("delete");
    refused(&keys(tool(&url), "test"), &aws_runbook(&gone, "u", here), 1, &["deletion", "restore-secret"]);
}
