//! The README's path against AWS: the runbook, the two policies and the check program, as they are shipped, on
//! ministack, which is trusted for signatures, policies and keys that are refused.

use std::io::Write as _;
use std::process::{Command, Stdio};

use aws_config::BehaviorVersion;
use serde_json::{Value, json};

use crate::servers::{closed_port, ministack};
use crate::tool::Tool;

fn shipped(path: &str) -> String {
    std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).expect(path)
}

/// How the check program ends for a key, and what it says.
fn check(url: &str, key: &Value, secret: &str) -> (Option<i32>, String) {
    let program = format!("{}/docs/aws/check-access-key", env!("CARGO_MANIFEST_DIR"));
    let mut child = Command::new(program)
        .arg(secret)
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ENDPOINT_URL", url)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3");
    child.stdin.take().expect("stdin").write_all(key.to_string().as_bytes()).expect("written");
    let ended = child.wait_with_output().expect("ended");
    (ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned())
}

/// Only this test has these names, which the shipped files fix: what an earlier run of it left is removed.
#[tokio::test]
#[ignore = "needs ministack: scripts/test"]
async fn the_path_of_the_readme_works_with_the_shipped_files() {
    let url = ministack();
    let config = aws_config::defaults(BehaviorVersion::latest())
        .region("us-east-1")
        .endpoint_url(&url)
        .credentials_provider(aws_sdk_sts::config::Credentials::new("test", "test", None, None, "test"))
        .load()
        .await;
    let (iam, secrets) = (aws_sdk_iam::Client::new(&config), aws_sdk_secretsmanager::Client::new(&config));
    for (user, policy) in [("app", "docs/aws/app-read.json"), ("stanch-operator", "docs/aws/stanch.json")] {
        // It may be there already.
        let _ = iam.create_user().user_name(user).send().await;
        let keys = iam.list_access_keys().user_name(user).send().await.expect("keys");
        for key in keys.access_key_metadata() {
            let id = key.access_key_id().expect("an id");
            iam.delete_access_key().user_name(user).access_key_id(id).send().await.expect("delete");
        }
        let put = iam.put_user_policy().user_name(user).policy_name(user).policy_document(shipped(policy));
        put.send().await.expect("policy");
    }
    let key = |made: aws_sdk_iam::operation::create_access_key::CreateAccessKeyOutput| {
        let key = made.access_key.expect("key");
        json!({"access_key_id": key.access_key_id, "secret_access_key": key.secret_access_key, "note": "kept"})
    };
    let old = key(iam.create_access_key().user_name("app").send().await.expect("key"));
    let own = key(iam.create_access_key().user_name("stanch-operator").send().await.expect("key"));
    for (name, text) in [("app/settings", r#"{"colour":"blue"}"#.to_owned()), ("app/aws", old.to_string())] {
        // It may be there already, and not be there yet.
        let _ = secrets.delete_secret().secret_id(name).force_delete_without_recovery(true).send().await;
        secrets.create_secret().name(name).secret_string(text).send().await.expect("secret");
    }

    let part = |key: &Value, name: &str| key[name].as_str().expect("a text").to_owned();
    let tool = Tool::new()
        .with("AWS_ENDPOINT_URL", &url)
        .with("AWS_REGION", "us-east-1")
        .with("AWS_EC2_METADATA_DISABLED", "true")
        .with("AWS_ACCESS_KEY_ID", &part(&own, "access_key_id"))
        .with("AWS_SECRET_ACCESS_KEY", &part(&own, "secret_access_key"));
    let text = shipped("runbooks/aws-dev-server.yaml").replace("http://127.0.0.1:4566", &url);
    let path = tool.runbook(&text);
    let path = path.to_str().expect("UTF-8");
    let planned = tool.done(&["plan", path, "--env", "dev"]).await;
    assert_eq!(planned.code, Some(0), "{planned:?}");
    assert!(
        !planned.stdout.contains("do not allow"),
        "the shipped policy lacks something: {}",
        planned.stdout
    );
    let ran = tool.done(&["run", path, "--env", "dev", "--reason", "t", "--confirm", "aws-dev-server"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");

    let now = secrets.get_secret_value().secret_id("app/aws").send().await.expect("value");
    let new: Value = serde_json::from_str(now.secret_string().expect("text")).expect("JSON");
    assert_eq!(new["note"], "kept");
    assert_ne!(new["access_key_id"], old["access_key_id"]);
    // Refused, accepted, and what is neither: no permission, another key's secret part, no server.
    assert_eq!(check(&url, &old, "app/settings").0, Some(1));
    assert_eq!(check(&url, &new, "app/settings"), (Some(0), String::new()));
    let (code, said) = check(&url, &new, "app/aws");
    assert!(code == Some(2) && said.contains("AccessDenied"), "{code:?} {said}");
    let mixed = json!({"access_key_id": new["access_key_id"], "secret_access_key": old["secret_access_key"]});
    let (code, said) = check(&url, &mixed, "app/settings");
    assert_eq!(code, Some(2), "{said}");
    assert_eq!(check(&format!("http://{}", closed_port()), &new, "app/settings").0, Some(2));
}
