//! Whole rotations against the real servers, with a real consumer that keeps using the credential.
//!
//! Vault is trusted for tokens, KV v2 and refusals. Of the AWS servers ministack is trusted here,
//! for signatures, refused unknown, inactive and deleted keys, policies, and labels that move.

use serde_json::{Value, json};

use crate::servers::{Vault, ministack, unique};
use crate::tool::{Consumer, Tool, search};

/// One place where a credential is rotated: how it is set up, asked, and described in a runbook.
enum World {
    Vault { vault: Vault, role: String, path: String, operator: String },
    Aws { url: String, user: String, secret: String, operator: (String, String), sdk: Box<Sdk> },
}

struct Sdk {
    iam: aws_sdk_iam::Client,
    secrets: aws_sdk_secretsmanager::Client,
}

impl World {
    async fn vault() -> Self {
        let vault = Vault::shared();
        let (role, path) = (unique("role"), unique("app"));
        let rules = "path \"auth/token/lookup-self\" { capabilities = [\"read\"] }";
        vault.api("PUT", &format!("sys/policies/acl/{role}"), json!({ "policy": rules })).await;
        let spec = json!({ "allowed_policies": [role], "orphan": true, "renewable": true });
        vault.api("POST", &format!("auth/token/roles/{role}"), spec).await;
        let made = vault.api("POST", &format!("auth/token/create/{role}"), json!({ "ttl": "1h" })).await;
        let first = json!({ "token": made["auth"]["client_token"], "url": "kept" });
        vault.api("POST", &format!("secret/data/{path}"), json!({ "data": first })).await;
        // What the operator needs and no more: it shows what a real one must be given.
        let operator = vault
            .token(&format!(
                r#"path "auth/token/create/{role}" {{ capabilities = ["create", "update"] }}
                   path "auth/token/roles/{role}" {{ capabilities = ["read"] }}
                   path "auth/token/lookup-accessor" {{ capabilities = ["update"] }}
                   path "auth/token/revoke-accessor" {{ capabilities = ["update"] }}
                   path "auth/token/accessors" {{ capabilities = ["list", "sudo"] }}
                   path "auth/token/accessors/" {{ capabilities = ["list", "sudo"] }}
                   path "secret/data/{path}" {{ capabilities = ["read", "create", "update"] }}
                   path "secret/metadata/{path}" {{ capabilities = ["read"] }}"#
            ))
            .await;
        Self::Vault { vault, role, path, operator }
    }

    async fn aws() -> Self {
        let url = ministack();
        let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
            .region("us-east-1")
            .endpoint_url(&url)
            .credentials_provider(aws_sdk_sts::config::Credentials::new("test", "test", None, None, "test"))
            .load()
            .await;
        let sdk = Box::new(Sdk {
            iam: aws_sdk_iam::Client::new(&config),
            secrets: aws_sdk_secretsmanager::Client::new(&config),
        });
        let (user, operator, secret) = (unique("app"), unique("operator"), unique("secret"));
        let document =
            |statements: Value| json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
        let all =
            json!([{ "Effect": "Allow", "Action": ["iam:*", "sts:*", "secretsmanager:*"], "Resource": "*" }]);
        let only_sts = json!([{ "Effect": "Allow", "Action": "sts:GetCallerIdentity", "Resource": "*" }]);
        for (name, rules) in [(&user, only_sts), (&operator, all)] {
            sdk.iam.create_user().user_name(name).send().await.expect("user");
            let policy = sdk.iam.put_user_policy().user_name(name).policy_name("p");
            policy.policy_document(document(rules)).send().await.expect("policy");
        }
        let mut keys = Vec::new();
        for name in [&user, &operator] {
            let made = sdk.iam.create_access_key().user_name(name).send().await.expect("key");
            let key = made.access_key.expect("key");
            keys.push((key.access_key_id, key.secret_access_key));
        }
        let operator = keys.pop().expect("operator's key");
        let (id, key) = keys.pop().expect("user's key");
        let first = json!({ "KEY_ID": id, "KEY": key, "note": "kept" }).to_string();
        sdk.secrets.create_secret().name(&secret).secret_string(first).send().await.expect("secret");
        Self::Aws { url, user, secret, operator, sdk }
    }

    fn consumer(&self) -> Consumer {
        match self {
            Self::Vault { vault, path, .. } => Consumer::start(&[
                ("SOURCE", "vault"),
                ("VAULT_ADDR", &vault.address),
                // It reads its secret as the deployment's agent would; what it proves is the token
                // in it.
                ("READER_TOKEN", "root"),
                ("SECRET", path),
            ]),
            Self::Aws { url, secret, .. } => {
                Consumer::start(&[("SOURCE", "aws"), ("AWS_URL", url), ("SECRET", secret)])
            }
        }
    }

    fn tool(&self) -> Tool {
        match self {
            Self::Vault { vault, operator, .. } => {
                Tool::new().with("VAULT_ADDR", &vault.address).with("VAULT_TOKEN", operator)
            }
            Self::Aws { url, operator: (id, key), .. } => Tool::new()
                .with("AWS_ENDPOINT_URL", url)
                .with("AWS_REGION", "us-east-1")
                .with("AWS_ACCESS_KEY_ID", id)
                .with("AWS_SECRET_ACCESS_KEY", key),
        }
    }

    /// A runbook with short waits. `phases` replaces the usual ones.
    fn runbook(&self, consumer: &Consumer, phases: Option<&str>) -> String {
        let usual = "overlap: { at_least: 1s, until: [adopted, error-rate] }\n  sunset: { at_least: 1s, until: [error-rate] }";
        let (connections, issuer, stores) = match self {
            Self::Vault { role, path, .. } => (
                "vault: { type: vault }".to_owned(),
                format!(
                    "issuer: {{ type: vault-token, connection: vault, role: {role}, policies: [{role}], ttl: 1h }}\n    \
                     scope: {{ max_ttl: 1h, policies: [{role}], audience: app }}"
                ),
                format!("{{ connection: vault, type: kv2, mount: secret, path: {path}, field: token }}"),
            ),
            Self::Aws { user, secret, .. } => (
                "aws: { type: aws, account: \"000000000000\" }".to_owned(),
                format!(
                    "issuer: {{ type: iam-access-key, connection: aws, user: {user} }}\n    scope: {{ policies: [p] }}"
                ),
                format!(
                    "{{ connection: aws, type: secretsmanager, secret: {secret}, fields: {{ access_key_id: KEY_ID, secret_access_key: KEY }} }}"
                ),
            ),
        };
        format!(
            r#"version: 1
name: app-key
environments:
  test: {{}}
connections:
  {connections}
credentials:
  app-key:
    {issuer}
    stores:
      - {stores}
    consumers:
      - name: app
        reload: {{ http: {{ url: "{url}/-/reload" }} }}
        attest: {{ http: {{ url: "{url}/-/credential", fingerprint: /sha256 }} }}
phases:
  verify: {{ times: 2, every: 100ms }}
  {phases}
  proof: {{ times: 3, every: 100ms }}
gates:
  error-rate: {{ http: {{ url: "{url}/-/rate", json: /rate, at_most: 0.5, every: 200ms }} }}
"#,
            url = consumer.url,
            phases = phases.unwrap_or(usual),
        )
    }

    /// The credentials that the issuer accepts now, by the names that it has for them.
    async fn alive(&self) -> Vec<String> {
        let mut alive = Vec::new();
        match self {
            Self::Vault { vault, role, .. } => {
                let list = vault.api("LIST", "auth/token/accessors", Value::Null).await;
                for accessor in list["data"]["keys"].as_array().expect("accessors") {
                    let answer = crate::servers::plain_http()
                        .post(format!("{}/v1/auth/token/lookup-accessor", vault.address))
                        .header("x-vault-token", "root")
                        .body(json!({ "accessor": accessor }).to_string())
                        .send()
                        .await
                        .expect("Vault answers");
                    let text = answer.text().await.expect("body");
                    // Other tests' tokens come and go meanwhile.
                    let found: Value = serde_json::from_str(&text).unwrap_or_default();
                    if found["data"]["role"] == **role
                        || found["data"]["path"] == format!("auth/token/create/{role}")
                    {
                        alive.push(accessor.as_str().expect("text").to_owned());
                    }
                }
            }
            Self::Aws { user, sdk, .. } => {
                let keys = sdk.iam.list_access_keys().user_name(user).send().await.expect("keys");
                for key in keys.access_key_metadata {
                    if key.status.is_some_and(|s| s.as_str() == "Active") {
                        alive.push(key.access_key_id.expect("id"));
                    }
                }
            }
        }
        alive.sort();
        alive
    }

    /// What the store's current version holds.
    async fn current(&self) -> Value {
        match self {
            Self::Vault { vault, path, .. } => {
                vault.api("GET", &format!("secret/data/{path}"), Value::Null).await["data"]["data"].clone()
            }
            Self::Aws { secret, sdk, .. } => {
                let value = sdk.secrets.get_secret_value().secret_id(secret).send().await.expect("value");
                serde_json::from_str(value.secret_string().expect("text")).expect("JSON")
            }
        }
    }

    /// Whether the server accepts what was in the store.
    async fn accepts(&self, value: &Value) -> bool {
        match self {
            Self::Vault { vault, .. } => {
                let request = crate::servers::plain_http()
                    .get(format!("{}/v1/auth/token/lookup-self", vault.address))
                    .header("x-vault-token", value["token"].as_str().expect("token"));
                let status = request.send().await.expect("Vault answers").status();
                assert!(status.is_success() || status == 403, "{status}");
                status.is_success()
            }
            Self::Aws { url, .. } => {
                let part = |name: &str| value[name].as_str().expect("part").to_owned();
                let keys =
                    aws_sdk_sts::config::Credentials::new(part("KEY_ID"), part("KEY"), None, None, "t");
                let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
                    .region("us-east-1")
                    .endpoint_url(url)
                    .credentials_provider(keys)
                    .load()
                    .await;
                match aws_sdk_sts::Client::new(&config).get_caller_identity().send().await {
                    Ok(_) => true,
                    Err(e) => {
                        let service =
                            e.as_service_error().map(|s| s.meta().code() == Some("InvalidClientTokenId"));
                        assert_eq!(service, Some(true), "{e:?}");
                        false
                    }
                }
            }
        }
    }

    /// Panics unless a rotation is complete: a new value everywhere, the old one refused, one alive.
    async fn is_rotated(&self, before: &Value) {
        let after = self.current().await;
        assert!(self.accepts(&after).await, "the new credential is refused");
        assert!(!self.accepts(before).await, "the old credential is accepted");
        assert_eq!(self.alive().await.len(), 1, "one credential is alive");
        for kept in ["url", "note"] {
            assert_eq!(after.get(kept), before.get(kept), "other fields stay as they are");
        }
    }

    /// Panics unless everything is as it was.
    async fn is_as_before(&self, before: &Value, alive: &[String]) {
        assert_eq!(self.current().await, *before, "the store has its old value");
        assert!(self.accepts(before).await, "the old credential is accepted");
        assert_eq!(self.alive().await, alive, "the issuer knows what it knew");
    }
}

/// One rotation after the other on one world, all through one consumer's life without a failed request.
async fn overlaps(world: World) {
    let consumer = world.consumer();
    let tool = world.tool();
    let runbook = tool.runbook(&world.runbook(&consumer, None));
    let runbook = runbook.to_str().expect("path");
    let before = world.current().await;
    let ran = tool.run(&["run", runbook, "--env", "test", "--yes"]).expect(0);
    eprintln!("{}{}", ran.stderr, ran.stdout);
    world.is_rotated(&before).await;
    tool.run(&["audit", "verify"]).expect(0);
    consumer.never_failed().await;
    // Canaries: no secret of either version, nor the operator's, is left in a file or was printed.
    let mut secrets = vec![match &world {
        World::Vault { operator, .. } => operator.clone(),
        World::Aws { operator: (_, key), .. } => key.clone(),
    }];
    for value in [&before, &world.current().await] {
        let secret = ["token", "KEY"].iter().find_map(|field| value[field].as_str());
        secrets.push(secret.expect("a secret part").to_owned());
    }
    search(&tool.state(), &secrets);
    assert!(secrets.iter().all(|s| !ran.stdout.contains(s) && !ran.stderr.contains(s)), "in the output");
}

/// Killed at ten moments, each in a rotation of its own, and resumed.
async fn survives_kills(world: World) {
    let consumer = world.consumer();
    let tool = world.tool();
    let runbook = tool.runbook(&world.runbook(&consumer, None));
    let runbook = runbook.to_str().expect("path");
    for kill in 0..10 {
        let before = world.current().await;
        // Spread over the records of a rotation, of which there are more than forty.
        let at = 3 + kill * 4;
        let last = tool.journal();
        let running = tool.start(&["run", runbook, "--env", "test", "--yes"]);
        tool.wait_until(
            |_| {
                let journal = tool.journal();
                let text = journal.as_ref().and_then(|p| std::fs::read_to_string(p).ok()).unwrap_or_default();
                journal != last && text.lines().count() >= at
            },
            "the moment to kill",
        );
        running.signal("KILL");
        assert_eq!(running.wait().code, None, "killed, and not over by itself");
        let run = tool.newest();
        // A run that was killed is unanchored at its end, and good as far as it goes.
        let verified = tool.run(&["audit", "verify", &run]);
        assert!(matches!(verified.code, Some(0 | 32)), "{verified:?}");
        let resumed = tool.run(&["resume", &run]);
        assert_eq!(resumed.code, Some(0), "killed at record {at}: {resumed:?}");
        world.is_rotated(&before).await;
        tool.run(&["audit", "verify", &run]).expect(0);
    }
    consumer.never_failed().await;
}

/// Contain: the attacker is cut off first; consumers fail until cutover, and work again after.
async fn contains(world: World) {
    let consumer = world.consumer();
    let tool = world.tool();
    let runbook = tool.runbook(&world.runbook(&consumer, None));
    let before = world.current().await;
    let started = ["run", runbook.to_str().expect("path"), "--env", "test", "--strategy", "contain", "--yes"];
    tool.run(&started).expect(0);
    world.is_rotated(&before).await;
    let journal = std::fs::read_to_string(tool.journal().expect("journal")).expect("journal");
    let line =
        |text: &str| journal.lines().position(|l| l.contains(text)).unwrap_or_else(|| panic!("no {text}"));
    let cut =
        if matches!(world, World::Vault { .. }) { "sunset/app-key/revoke" } else { "sunset/app-key/disable" };
    let (cut, issued) = (
        format!("\"type\":\"outcome\",\"step\":\"{cut}\""),
        "\"type\":\"intent\",\"step\":\"prepare/app-key/issue\"",
    );
    assert!(line(&cut) < line(issued), "the attacker is cut off before anything is issued");
    let stats = consumer.stats().await;
    assert!(stats["failed"].as_u64() > Some(0), "the consumer was down meanwhile: {stats}");
    let (failed, requests) = (stats["failed"].clone(), stats["requests"].as_u64());
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let later = consumer.stats().await;
    assert!(later["requests"].as_u64() > requests && later["failed"] == failed, "it works again: {later}");
}

/// A gate that fails in overlap: the run goes back by itself.
async fn goes_back_when_a_gate_fails(world: World) {
    let consumer = world.consumer();
    let tool = world.tool();
    let phases = "overlap: { at_least: 60s, until: [adopted, error-rate] }";
    let runbook = tool.runbook(&world.runbook(&consumer, Some(phases)));
    let (before, alive) = (world.current().await, world.alive().await);
    let running = tool.start(&["run", runbook.to_str().expect("path"), "--env", "test", "--yes"]);
    tool.wait_for("\"gate\":\"adopted\",\"verdict\":\"pass\"");
    assert_ne!(world.current().await, before, "the new one is current in overlap");
    consumer.post("/-/break").await;
    running.wait().expect(12);
    world.is_as_before(&before, &alive).await;
    consumer.never_failed().await;
    assert_eq!(tool.status()["end"], "gate-rolled-back");
    tool.run(&["audit", "verify"]).expect(0);
}

/// `stanch rollback`, typed in another terminal while the run is in sunset.
async fn goes_back_when_asked_in_sunset(world: World) {
    let consumer = world.consumer();
    let tool = world.tool();
    let phases = "overlap: { at_least: 500ms, until: [adopted] }\n  sunset: { at_least: 60s }";
    let runbook = tool.runbook(&world.runbook(&consumer, Some(phases)));
    let (before, alive) = (world.current().await, world.alive().await);
    let running = tool.start(&["run", runbook.to_str().expect("path"), "--env", "test", "--yes"]);
    tool.wait_for("\"type\":\"entered\",\"phase\":\"sunset\"");
    if matches!(world, World::Aws { .. }) {
        tool.wait_for("\"type\":\"outcome\",\"step\":\"sunset/app-key/disable\"");
    }
    let run = tool.newest();
    tool.run(&["rollback", &run, "--yes", "--reason", "changed our minds"]).expect(0);
    running.wait().expect(1);
    world.is_as_before(&before, &alive).await;
    consumer.never_failed().await;
    assert_eq!(tool.status()["end"], "rolled-back");
}

/// One at a time: each needs the machine for its consumer's fifty requests a second.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

macro_rules! on_both {
    ($($name:ident => $check:ident),* $(,)?) => {
        mod vault {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs Vault: scripts/test"]
            async fn $name() {
                let _alone = super::ALONE.lock().await;
                super::$check(super::World::vault().await).await;
            })*
        }
        mod aws {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs ministack: scripts/test"]
            async fn $name() {
                let _alone = super::ALONE.lock().await;
                super::$check(super::World::aws().await).await;
            })*
        }
    };
}

on_both! {
    rotates_under_load => overlaps,
    survives_ten_kills => survives_kills,
    contains_a_leak => contains,
    a_failed_gate_rolls_back => goes_back_when_a_gate_fails,
    rollback_in_sunset_restores_everything => goes_back_when_asked_in_sunset,
}

/// TLS that is not verified is said in every phase, and on the record.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn an_unverified_server_is_warned_of_in_every_phase() {
    let _alone = ALONE.lock().await;
    let world = World::vault().await;
    let consumer = world.consumer();
    let tool = world.tool().with("VAULT_SKIP_VERIFY", "true");
    let path = tool.runbook(&world.runbook(&consumer, Some("overlap: { until: [adopted] }")));
    tool.run(&["run", path.to_str().expect("path"), "--env", "test", "--yes"]).expect(0);
    let journal = std::fs::read_to_string(tool.journal().expect("journal")).expect("journal");
    let count = |text: &str| journal.lines().filter(|l| l.contains(text)).count();
    assert_eq!(count("VAULT_SKIP_VERIFY); anybody"), count("\"type\":\"entered\""));
}
