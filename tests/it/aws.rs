//! Against ministack and moto. Each imitates AWS well in some things and not in others, so each
//! test names the server that it trusts, and for what.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_config::BehaviorVersion;
use axum::http::StatusCode;
use jiff::SignedDuration;
use stanch::clock::SystemClock;
use stanch::domain::{CheckVerdict, ErrorKind, Identity, Life};
use stanch::kind::aws::access_key::AccessKeyIssuer;
use stanch::kind::aws::secretsmanager::SecretsManagerStore;
use stanch::kind::aws::{AwsClient, Settings, preflight};
use stanch::provider::layout::Layout;
use stanch::provider::{CallContext, Issuer, Store, Use};
use stanch::secret::{Material, Secret};

use crate::conformance::{StoreCase, issuer_keeps_its_promises, store_keeps_its_promises};
use crate::servers::{DEADLINE, closed_port, context, failures, ministack, moto, serve, unique};
use crate::tool::Tool;

const KEY: &[&str] = &["access_key_id", "secret_access_key"];
/// The account of ministack's root.
const ACCOUNT: &str = "000000000000";

fn settings(url: &str, id: &str, secret: &str) -> Settings {
    Settings {
        region: Some("us-east-1".to_owned()),
        endpoint_url: Some(url.to_owned()),
        keys: Some((id.to_owned(), Secret::new(secret))),
        ..Settings::default()
    }
}

async fn client_as(url: &str, id: &str, secret: &str) -> Arc<AwsClient> {
    Arc::new(AwsClient::new(settings(url, id, secret), DEADLINE).await.expect("client"))
}

/// `test`/`test` is an unchecked root on ministack: good for setting up, not for refusals.
async fn client(url: &str) -> Arc<AwsClient> {
    client_as(url, "test", "test").await
}

/// The plain SDK, to set things up by other means than the code under test.
struct Setup {
    iam: aws_sdk_iam::Client,
    sts: aws_sdk_sts::Client,
    secrets: aws_sdk_secretsmanager::Client,
}

async fn setup(url: &str, id: &str, secret: &str) -> Setup {
    let config = aws_config::defaults(BehaviorVersion::latest())
        .region("us-east-1")
        .endpoint_url(url)
        .credentials_provider(aws_sdk_sts::config::Credentials::new(id, secret, None, None, "test"))
        .load()
        .await;
    Setup {
        iam: aws_sdk_iam::Client::new(&config),
        sts: aws_sdk_sts::Client::new(&config),
        secrets: aws_sdk_secretsmanager::Client::new(&config),
    }
}

impl Setup {
    async fn secret(&self, text: &str) -> String {
        let name = unique("secret");
        self.secrets.create_secret().name(&name).secret_string(text).send().await.expect("secret");
        name
    }

    async fn user(&self) -> String {
        let name = unique("user");
        self.iam.create_user().user_name(&name).send().await.expect("user");
        name
    }

    /// A user's key; with `policy`, what it may do.
    async fn key(&self, user: &str, policy: Option<&str>) -> (String, String) {
        if let Some(policy) = policy {
            self.iam
                .put_user_policy()
                .user_name(user)
                .policy_name("p")
                .policy_document(policy)
                .send()
                .await
                .expect("policy");
        }
        let made = self.iam.create_access_key().user_name(user).send().await.expect("key");
        let key = made.access_key.expect("key");
        (key.access_key_id, key.secret_access_key)
    }
}

fn whole() -> Layout {
    Layout::new(&["token"], None, &BTreeMap::new()).expect("layout")
}

fn token(text: &str) -> Material {
    Material::single("token", Secret::new(text))
}

fn pair(id: &str, secret: &str) -> Material {
    Material::single(KEY[0], Secret::new(id)).with(KEY[1], Secret::new(secret))
}

fn since_now() -> CallContext {
    use stanch::clock::Clock;
    CallContext { since: SystemClock::new().now().wall, ..context() }
}

/// Trusts ministack for labels that move as AWS moves them.
#[tokio::test]
#[ignore = "needs ministack: scripts/test"]
async fn secretsmanager_conforms() {
    let url = ministack();
    let setup = setup(&url, "test", "test").await;
    let name = setup.secret("old-value").await;
    let nowhere = "00000000-0000-0000-0000-000000000000";
    let store = SecretsManagerStore::new(client(&url).await, name, whole());
    store_keeps_its_promises(
        "secretsmanager",
        StoreCase { store: &store, old: token("old-value"), new: token("new"), nowhere },
    )
    .await;

    // Two parts, in fields of an object that has others.
    let name = setup.secret(r#"{"id":"AKIAOLD","secret":"old","host":{"port":1}}"#).await;
    let fields = BTreeMap::from([
        ("access_key_id".to_owned(), "id".to_owned()),
        ("secret_access_key".to_owned(), "secret".to_owned()),
    ]);
    let layout = Layout::new(KEY, None, &fields).expect("layout");
    let store = SecretsManagerStore::new(client(&url).await, name.clone(), layout);
    let (old, new) = (pair("AKIAOLD", "old"), pair("AKIANEW", "new"));
    store_keeps_its_promises("secretsmanager", StoreCase { store: &store, old, new, nowhere }).await;
    let left = setup.secrets.get_secret_value().secret_id(name).send().await.expect("value");
    let left: serde_json::Value = serde_json::from_str(left.secret_string().expect("text")).expect("JSON");
    assert_eq!(left["host"]["port"], 1, "other fields stay");
}

/// Trusts ministack for keys that are refused when they are Inactive, deleted or unknown.
#[tokio::test]
#[ignore = "needs ministack: scripts/test"]
async fn access_keys_conform() {
    let url = ministack();
    let user = setup(&url, "test", "test").await.user().await;
    let issuer = AccessKeyIssuer::new(client(&url).await, user);
    issuer_keeps_its_promises("iam-access-key", &issuer, "AKIANEVERWASNEVERWAS").await;
    let error = issuer.attempt(&token("x")).await.expect_err("no access key");
    assert_eq!(error.kind, ErrorKind::Invalid);
}

/// Trusts ministack for signatures: a live key with another secret must not look dead.
#[tokio::test]
#[ignore = "needs ministack: scripts/test"]
async fn a_wrong_secret_is_no_proof_of_death() {
    let url = ministack();
    let setup = setup(&url, "test", "test").await;
    let (id, secret) = setup.key(&setup.user().await, None).await;
    let issuer = AccessKeyIssuer::new(client(&url).await, "any".to_owned());
    assert_eq!(issuer.attempt(&pair(&id, &secret)).await.expect("an answer"), Use::Accepted);
    // Neither acceptance nor refusal, and asked again: a new key's signatures fail for a while.
    let error = issuer.attempt(&pair(&id, "hunter2hunter2")).await.expect_err("wrong secret");
    assert_eq!(error.kind, ErrorKind::NoAnswer, "{error:?}");
    assert!(!format!("{error:?}").contains("hunter2"));
}

/// Trusts moto for the limit of two keys.
#[tokio::test]
#[ignore = "needs moto: scripts/test"]
async fn a_third_access_key_is_refused_with_the_names_of_the_two() {
    let url = moto();
    let setup = setup(&url, "test", "test").await;
    let user = setup.user().await;
    let (first, _) = setup.key(&user, None).await;
    let (second, _) = setup.key(&user, None).await;
    let issuer = AccessKeyIssuer::new(client(&url).await, user);
    let error = issuer.issue(&context(), None).await.expect_err("two is the limit");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Limit, false), "{error:?}");
    let hint = error.hint.expect("hint");
    assert!(hint.contains(&first) && hint.contains(&second) && hint.contains("never used"), "{hint}");
    let checks = issuer.preflight(None).await;
    assert!(checks.iter().any(|check| check.kind == Some(ErrorKind::Limit)), "{checks:?}");
}

/// Trusts moto for a last use that changes.
#[tokio::test]
#[ignore = "needs moto: scripts/test"]
async fn a_new_key_that_was_used_is_not_taken_for_ours() {
    let url = moto();
    let admin = setup(&url, "test", "test").await;
    let user = admin.user().await;
    let issuer = AccessKeyIssuer::new(client(&url).await, user.clone());
    let before = issuer.existing().await.expect("existing");
    let step = since_now();
    let (id, secret) = admin.key(&user, None).await;
    assert_eq!(issuer.find(&step, &before).await.expect("find"), [id.as_str()], "new and never used");
    assert_eq!(issuer.find(&step, std::slice::from_ref(&id)).await.expect("find"), Vec::<String>::new());
    let later = step.since.saturating_add(SignedDuration::from_mins(10)).expect("later");
    let later = CallContext { since: later, ..step.clone() };
    assert_eq!(issuer.find(&later, &before).await.expect("find"), Vec::<String>::new(), "too old to be ours");

    setup(&url, &id, &secret).await.sts.get_caller_identity().send().await.expect("used");
    let error = issuer.find(&step, &before).await.expect_err("somebody uses it");
    assert_eq!(error.kind, ErrorKind::Conflict);
    assert!(error.message.contains(&id), "{error:?}");
}

/// Trusts ministack for keys that are there or not. The tool itself, since what the step that looks for leftovers
/// does with the issuer's words is what counts.
#[tokio::test]
#[ignore = "needs ministack: scripts/test"]
async fn a_key_that_a_person_made_during_a_run_is_named_and_stays() {
    let url = ministack();
    let admin = setup(&url, "test", "test").await;
    let user = admin.user().await;
    let (id, secret) = admin.key(&user, None).await;
    let text = serde_json::json!({ "id": id, "secret": secret }).to_string();
    let store = admin.secret(&text).await;
    let tool = Tool::new()
        .with("AWS_ENDPOINT_URL", &url)
        .with("AWS_REGION", "us-east-1")
        .with("AWS_EC2_METADATA_DISABLED", "true")
        .with("AWS_ACCESS_KEY_ID", "test")
        .with("AWS_SECRET_ACCESS_KEY", "test");
    let path = tool.runbook(&format!(
        "version: 1\nname: hand\nenvironments: {{ e: {{}} }}\n\
         connections: {{ aws: {{ type: aws, account: \"000000000000\" }} }}\ncredentials:\n  key:\n    \
         issuer: {{ type: iam-access-key, connection: aws, user: {user} }}\n    \
         stores: [{{ connection: aws, type: secretsmanager, secret: {store}, \
         fields: {{ access_key_id: id, secret_access_key: secret }} }}]\n\
         phases:\n  verify: {{ times: 1, every: 100ms }}\n  overlap: {{ at_least: 100ms }}\n  \
         sunset: {{ at_least: 100ms }}\n  proof: {{ times: 1, every: 100ms }}\n"
    ));
    let path = path.to_str().expect("UTF-8");
    let begun = tool.done(&["run", path, "--env", "e", "--yes", "--reason", "t", "--until", "overlap"]).await;
    assert!(!begun.stdout.is_empty(), "{begun:?}");
    // A person deletes the leaked key, makes one by hand, and has not used it yet.
    admin.iam.delete_access_key().user_name(&user).access_key_id(&id).send().await.expect("deleted");
    let (hand, _) = admin.key(&user, None).await;
    let ended = tool.done(&["resume"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let issuer = AccessKeyIssuer::new(client(&url).await, user);
    assert_eq!(issuer.life(&hand).await.expect("life"), Life::Active, "it is not this run's");
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert!(said.contains(&hand) && said.contains("does not know"), "{said}");
}

#[tokio::test]
#[ignore = "needs ministack: scripts/test"]
async fn an_access_key_is_revoked_without_a_runbook() {
    let url = ministack();
    let admin = setup(&url, "test", "test").await;
    let user = admin.user().await;
    let ((leaked, _), (other, _)) = (admin.key(&user, None).await, admin.key(&user, None).await);
    let tool = Tool::new()
        .with("AWS_ENDPOINT_URL", &url)
        .with("AWS_REGION", "us-east-1")
        .with("AWS_EC2_METADATA_DISABLED", "true")
        .with("AWS_ACCESS_KEY_ID", "test")
        .with("AWS_SECRET_ACCESS_KEY", "test");
    let set = format!("user={user}");
    let ran = tool
        .done(&["revoke", "iam-access-key", &leaked, "--set", &set, "--reason", "in a log", "--yes"])
        .await
        .expect(0);
    assert!(ran.stdout.contains(&format!("{leaked}: gone, as its issuer says")), "{ran:?}");
    let issuer = AccessKeyIssuer::new(client(&url).await, user);
    assert_eq!(issuer.life(&leaked).await.expect("life"), Life::Gone);
    assert_eq!(issuer.life(&other).await.expect("life"), Life::Active);
}

/// Imitations of AWS have left `AWSCURRENT` on two versions: that must be seen, and not be called a
/// success.
#[tokio::test]
async fn a_label_on_two_versions_is_seen() {
    let moved = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let store = faulty(axum::Router::new().fallback(move |headers: axum::http::HeaderMap, body: String| {
        let target = headers["x-amz-target"].to_str().expect("target");
        let after = moved.load(std::sync::atomic::Ordering::SeqCst);
        let answer = match target {
            "secretsmanager.UpdateSecretVersionStage" => {
                moved.store(true, std::sync::atomic::Ordering::SeqCst);
                "{}"
            }
            "secretsmanager.GetSecretValue" if body.contains("one") => {
                r#"{"VersionId":"one","SecretString":"old"}"#
            }
            "secretsmanager.GetSecretValue" => r#"{"VersionId":"two","SecretString":"new"}"#,
            _ if after => r#"{"VersionIdsToStages":{"one":["AWSCURRENT"],"two":["AWSCURRENT"]}}"#,
            _ => r#"{"VersionIdsToStages":{"one":["AWSCURRENT"],"two":["AWSPENDING"]}}"#,
        };
        std::future::ready(answer)
    }))
    .await;
    let error = store.promote(&context(), &token("new"), &token("old"), Some("two")).await.expect_err("two");
    assert!(error.in_doubt && error.message.contains("alone"), "{error:?}");
    assert_eq!(store.observe().await.expect_err("two").kind, ErrorKind::Conflict);
    let again = store.promote(&context(), &token("new"), &token("old"), Some("two")).await.expect_err("two");
    assert_eq!((again.kind, again.in_doubt), (ErrorKind::Conflict, false), "{again:?}");
}

/// Trusts both for deletion windows. moto would take the write: the refusal is ours.
#[tokio::test]
#[ignore = "needs ministack and moto: scripts/test"]
async fn a_secret_that_is_scheduled_for_deletion_is_not_written() {
    for url in [moto(), ministack()] {
        let setup = setup(&url, "test", "test").await;
        let name = setup.secret("old").await;
        setup.secrets.delete_secret().secret_id(&name).send().await.expect("delete");
        let store = SecretsManagerStore::new(client(&url).await, name, whole());
        let failed = store.preflight().await;
        assert!(failed.len() == 1 && failed[0].verdict == CheckVerdict::Fail, "{failed:?}");
        assert!(failed[0].hint.as_deref().is_some_and(|hint| hint.contains("restore-secret")), "{failed:?}");
        assert_eq!(store.observe().await.expect_err("deleted").kind, ErrorKind::NotFound);
        let error = store.stage(&context(), &token("new")).await.expect_err("deleted");
        assert!(!error.in_doubt, "{error:?}");
        assert!(error.hint.is_some_and(|hint| hint.contains("restore-secret")));
    }
}

/// Trusts ministack for refusing unknown keys, in every service's own words.
#[tokio::test]
#[ignore = "needs ministack: scripts/test"]
async fn keys_that_aws_does_not_know_are_refused_with_a_hint() {
    let url = ministack();
    let stranger = client_as(&url, "AKIAUNKNOWNUNKNOWN00", "hunter2hunter2").await;
    let checks = preflight(&stranger, &SystemClock::new()).await;
    assert_eq!(checks.len(), 1, "{checks:?}");
    assert_eq!(checks[0].kind, Some(ErrorKind::Refused), "{checks:?}");
    let store = SecretsManagerStore::new(Arc::clone(&stranger), "any".to_owned(), whole());
    let error = store.observe().await.expect_err("unknown key");
    assert_eq!(error.kind, ErrorKind::Refused, "{error:?}");
    assert!(error.hint.is_some());
    let issuer = AccessKeyIssuer::new(Arc::clone(&stranger), "any".to_owned());
    let error = issuer.issue(&context(), None).await.expect_err("unknown key");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Refused, false), "{error:?}");
    assert!(!format!("{error:?} {stranger:?}").contains("hunter2"));
}

/// Trusts ministack for the account of its root.
#[tokio::test]
#[ignore = "needs ministack: scripts/test"]
async fn the_wrong_account_is_refused_before_any_write() {
    let url = ministack();
    for (account, fails) in [(Some(ACCOUNT), false), (None, false), (Some("123456789012"), true)] {
        let settings = Settings { account: account.map(str::to_owned), ..settings(&url, "test", "test") };
        let client = AwsClient::new(settings, DEADLINE).await.expect("client");
        let checks = preflight(&client, &SystemClock::new()).await;
        let failed = failures(&checks);
        assert_eq!(failed.len(), usize::from(fails), "{failed:?}");
        assert!(failed.iter().all(|text| text.contains(ACCOUNT)), "{failed:?}");
        let clock = checks.iter().find(|check| check.name == "clock").expect("a clock check");
        assert_eq!(clock.verdict, CheckVerdict::Pass, "{clock:?}");
    }
}

/// Trusts ministack for policies and `SimulatePrincipalPolicy`.
#[tokio::test]
#[ignore = "needs ministack: scripts/test"]
async fn preflight_names_the_permission_that_is_missing() {
    let url = ministack();
    let admin = setup(&url, "test", "test").await;
    let (target, operator) = (admin.user().await, admin.user().await);
    let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Resource":"*","Action":[
        "iam:List*","iam:Get*","iam:Simulate*","iam:CreateAccessKey","iam:UpdateAccessKey","sts:*"]}]}"#;
    let (id, secret) = admin.key(&operator, Some(policy)).await;
    let issuer = AccessKeyIssuer::new(client_as(&url, &id, &secret).await, target);
    let failed = failures(&issuer.preflight(None).await);
    assert!(failed.len() == 1 && failed[0].contains("iam:DeleteAccessKey"), "{failed:?}");
    let error = issuer.revoke(&context(), "AKIANEVERWASNEVERWAS", None).await.expect_err("may not");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Denied, false), "{error:?}");

    // And the operator's own key is never the one to delete.
    let own = AccessKeyIssuer::new(client_as(&url, &id, &secret).await, operator);
    let outgoing = Identity { handle: id, principal: String::new() };
    let failed = failures(&own.preflight(Some(&outgoing)).await);
    assert!(failed.iter().any(|text| text.contains("own credential")), "{failed:?}");
    let grant = own.inspect(&outgoing.handle).await.expect("inspect");
    assert_eq!(grant.policies, Some(vec!["p".to_owned()]));
    assert_eq!(own.life(&outgoing.handle).await.expect("life"), Life::Active);
}

/// Trusts ministack for what is not there.
#[tokio::test]
#[ignore = "needs ministack: scripts/test"]
async fn what_is_not_there_is_not_found() {
    let url = ministack();
    let store = SecretsManagerStore::new(client(&url).await, unique("none"), whole());
    assert_eq!(store.observe().await.expect_err("none").kind, ErrorKind::NotFound);
    let failed = store.preflight().await;
    assert_eq!(failed[0].kind, Some(ErrorKind::NotFound));
    let issuer = AccessKeyIssuer::new(client(&url).await, unique("nobody"));
    assert_eq!(issuer.preflight(None).await[0].kind, Some(ErrorKind::NotFound));
    let error = issuer.issue(&context(), None).await.expect_err("no user");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::NotFound, false));

    let name = setup(&url, "test", "test").await.secret("not JSON: hunter2").await;
    let layout = Layout::new(&["token"], Some("pw"), &BTreeMap::new()).expect("layout");
    let error =
        SecretsManagerStore::new(client(&url).await, name, layout).read(None).await.expect_err("text");
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(!format!("{error:?}").contains("hunter2"));
}

/// Trusts ministack for whose a key is. What cannot be an access key is sent nowhere: a server that counts.
#[tokio::test]
#[ignore = "needs ministack: scripts/test"]
async fn a_key_is_identified_as_the_operator_and_its_shape_is_looked_at_first() {
    let url = ministack();
    let admin = setup(&url, "test", "test").await;
    let (user, other) = (admin.user().await, admin.user().await);
    let (own, theirs) = (admin.key(&user, None).await, admin.key(&other, None).await);
    let issuer = AccessKeyIssuer::new(client(&url).await, user.clone());
    // Its secret part is not needed, and not sent.
    let standing = issuer.identify(&pair(&own.0, "lost")).await.expect("identify").expect("known");
    assert_eq!((standing.identity.handle, standing.life), (own.0.clone(), Life::Active));
    issuer.disable(&context(), &own.0).await.expect("disable");
    let standing = issuer.identify(&pair(&own.0, &own.1)).await.expect("identify").expect("known");
    assert_eq!(standing.life, Life::Disabled);
    let error = issuer.identify(&pair(&theirs.0, &theirs.1)).await.expect_err("another user's");
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.message.contains(&theirs.0) && error.message.contains(&other), "{error:?}");
    assert_eq!(issuer.identify(&pair("AKIANEVERWASNEVERWAS", "x")).await.expect("identify"), None);
    assert_eq!(issuer.existing().await.expect("existing"), [own.0.as_str()]);
    let gone = issuer.disable(&context(), "AKIANEVERWASNEVERWAS").await.expect_err("gone");
    assert_eq!(
        (gone.kind, gone.in_doubt),
        (ErrorKind::NotFound, false),
        "the engine asks whether it is gone"
    );

    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let counting = serve(axum::Router::new().fallback(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        std::future::ready(StatusCode::INTERNAL_SERVER_ERROR)
    }))
    .await;
    let issuer = AccessKeyIssuer::new(client(&counting).await, user);
    for (id, secret) in [
        (own.1.as_str(), own.0.as_str()),
        (own.1.as_str(), own.1.as_str()),
        (&format!(" {}", own.0), &own.1),
        (&format!("{}\n", own.0), &own.1),
        ("CHANGEME", "CHANGEME"),
        ("", ""),
        (&own.0, ""),
        ("ASIA2OGYBAHZABCDEFGH", &own.1),
    ] {
        for error in [
            issuer.identify(&pair(id, secret)).await.map(drop).expect_err("no access key"),
            issuer.attempt(&pair(id, secret)).await.map(drop).expect_err("no access key"),
        ] {
            assert_eq!(error.kind, ErrorKind::Invalid, "{id:?}: {error:?}");
            assert!(!format!("{error:?}").contains(&own.1), "{error:?}");
        }
    }
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 0, "sent nowhere");
}

/// Trusts ministack for policies: all that is missing is said at once, with the policy that grants just that.
#[tokio::test]
#[ignore = "needs ministack: scripts/test"]
async fn everything_that_is_missing_is_named_at_once_with_its_policy() {
    let url = ministack();
    let admin = setup(&url, "test", "test").await;
    let (target, operator) = (admin.user().await, admin.user().await);
    let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Resource":"*","Action":[
        "iam:GetUser","iam:ListAccessKeys","iam:SimulatePrincipalPolicy","secretsmanager:DescribeSecret",
        "secretsmanager:GetSecretValue"]}]}"#;
    let (id, secret) = admin.key(&operator, Some(policy)).await;
    let client = client_as(&url, &id, &secret).await;
    let checks = AccessKeyIssuer::new(Arc::clone(&client), target.clone()).preflight(None).await;
    let failed: Vec<_> = checks.iter().filter(|check| check.verdict == CheckVerdict::Fail).collect();
    let missing =
        ["iam:CreateAccessKey", "iam:UpdateAccessKey", "iam:DeleteAccessKey", "iam:GetAccessKeyLastUsed"];
    assert_eq!((failed.len(), failed[0].kind), (1, Some(ErrorKind::Denied)), "{checks:?}");
    assert!(missing.iter().all(|action| failed[0].detail.contains(action)), "{failed:?}");
    let hint = failed[0].hint.as_deref().expect("hint");
    let granted: serde_json::Value =
        serde_json::from_str(&hint[hint.find('{').expect("a policy")..]).expect("JSON");
    assert_eq!(granted["Statement"][0]["Action"], serde_json::json!(missing));
    assert!(
        granted["Statement"][0]["Resource"].as_str().is_some_and(|arn| arn.ends_with(&target)),
        "{granted}"
    );
    assert!(hint.contains(&operator), "who needs it: {hint}");
    // With just that policy beside the other, nothing is missing.
    let statement = admin.iam.put_user_policy().user_name(&operator).policy_name("more");
    statement.policy_document(granted.to_string()).send().await.expect("policy");
    let checks = AccessKeyIssuer::new(Arc::clone(&client), target).preflight(None).await;
    assert_eq!(failures(&checks), Vec::<String>::new());

    // A resource policy may grant what is missing on a secret.
    let store = SecretsManagerStore::new(client, admin.secret("old").await, whole());
    let checks = store.preflight().await;
    let warned = checks.iter().find(|check| check.detail.contains("secretsmanager:PutSecretValue"));
    let warned = warned.unwrap_or_else(|| panic!("{checks:?}"));
    assert!(
        warned.verdict == CheckVerdict::Warn && warned.detail.contains("UpdateSecretVersionStage"),
        "{warned:?}"
    );
    assert!(warned.hint.as_deref().is_some_and(|hint| hint.contains(r#""Effect":"Allow""#)), "{warned:?}");
}

/// Messages name the address, the action and the key that were really used, and quote the server.
#[tokio::test]
#[ignore = "needs ministack: scripts/test"]
async fn messages_name_the_endpoint_the_key_and_what_the_server_said() {
    let url = ministack();
    let stranger = client_as(&url, "AKIAUNKNOWNUNKNOWN00", "hunter2hunter2").await;
    let store = SecretsManagerStore::new(Arc::clone(&stranger), "any".to_owned(), whole());
    let error = store.observe().await.expect_err("unknown key");
    assert!(error.message.contains(&format!("secretsmanager:DescribeSecret on any at {url}")), "{error:?}");
    assert!(error.message.contains("UnrecognizedClientException"), "{error:?}");
    assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("AKIAUNKNOWNUNKNOWN00")), "{error:?}");
    assert!(!format!("{error:?}").contains("hunter2"));
    let checks = preflight(client(&url).await.as_ref(), &SystemClock::new()).await;
    assert!(checks.iter().any(|check| check.detail.contains("with the access key test")), "{checks:?}");
    assert!(checks.iter().any(|check| check.detail.contains(&format!("STS at {url}"))), "{checks:?}");
}

/// A new key's calls flicker while regions learn it: no answer of these is a refusal but the plain one.
#[tokio::test]
async fn a_signature_that_does_not_match_is_asked_again() {
    let code = Arc::new(std::sync::Mutex::new("SignatureDoesNotMatch"));
    let said = Arc::clone(&code);
    let url = serve(axum::Router::new().fallback(move || {
        let code = *said.lock().expect("lock");
        std::future::ready((
            StatusCode::FORBIDDEN,
            format!("<ErrorResponse><Error><Code>{code}</Code><Message>no</Message></Error></ErrorResponse>"),
        ))
    }))
    .await;
    let issuer = AccessKeyIssuer::new(client(&url).await, "u".to_owned());
    let key = pair("AKIAAPPAPPAPPAPPAPPA", "x");
    for (answer, expected) in [
        ("SignatureDoesNotMatch", Err(ErrorKind::NoAnswer)),
        ("InvalidSignatureException", Err(ErrorKind::NoAnswer)),
        ("InvalidClientTokenId", Ok(false)),
        ("AccessDenied", Ok(true)),
        ("RequestTimeTooSkewed", Err(ErrorKind::Invalid)),
    ] {
        *code.lock().expect("lock") = answer;
        let came =
            issuer.attempt(&key).await.map(|answer| answer == Use::Accepted).map_err(|error| error.kind);
        assert_eq!(came, expected, "{answer}");
    }
}

/// What does not hold a CA certificate is said before anything is sent, with the variable's name.
#[tokio::test]
async fn a_ca_bundle_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().expect("folder");
    let empty = folder.path().join("empty.pem");
    std::fs::File::create(&empty).expect("file");
    for path in [empty.to_str().expect("UTF-8"), "/nowhere/ca.pem"] {
        let settings =
            Settings { ca_bundle: Some(path.to_owned()), ..settings("https://127.0.0.1:1", "a", "b") };
        let error = AwsClient::new(settings, DEADLINE).await.expect_err("no bundle");
        assert_eq!(error.kind, ErrorKind::Local);
        assert!(
            error.message.contains(path) && error.hint.is_some_and(|hint| hint.contains("AWS_CA_BUNDLE"))
        );
    }
}

async fn faulty(router: axum::Router) -> SecretsManagerStore {
    let settings = settings(&serve(router).await, "AKIA", "hunter2hunter2");
    let client = AwsClient::new(settings, Duration::from_secs(2)).await.expect("client");
    SecretsManagerStore::new(Arc::new(client), "s".to_owned(), whole())
}

#[tokio::test]
async fn throttling_says_how_long_to_wait_and_is_not_retried_here() {
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let store = faulty(axum::Router::new().fallback(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        std::future::ready((
            StatusCode::BAD_REQUEST,
            [("retry-after", "3"), ("x-amzn-requestid", "r-1")],
            r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#,
        ))
    }))
    .await;
    let error = store.observe().await.expect_err("throttled");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Throttled, false), "{error:?}");
    assert_eq!(error.retry_after, Some(Duration::from_secs(3)));
    assert_eq!(error.request_id.as_deref(), Some("r-1"));
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 1, "the engine retries, on the record");
}

#[tokio::test]
async fn an_unclear_answer_leaves_doubt_only_where_something_was_sent() {
    let url =
        serve(axum::Router::new().fallback(|| async { (StatusCode::INTERNAL_SERVER_ERROR, "hunter2") }))
            .await;
    let garbled = serve(axum::Router::new().fallback(|| async { "<html>hunter2</html>" })).await;
    let silent = serve(axum::Router::new().fallback(|| async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        ""
    }))
    .await;
    for url in [url, garbled, silent] {
        let client = AwsClient::new(settings(&url, "AKIA", "s3cr3ts3cr3t"), Duration::from_secs(2)).await;
        let issuer = AccessKeyIssuer::new(Arc::new(client.expect("client")), "u".to_owned());
        let error = issuer.issue(&context(), None).await.expect_err("no answer");
        assert_eq!((error.kind, error.in_doubt), (ErrorKind::NoAnswer, true), "{error:?}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        assert!(
            issuer.attempt(&pair("AKIAAPPAPPAPPAPPAPPA", "x")).await.is_err(),
            "neither acceptance nor refusal"
        );
        assert!(!issuer.existing().await.expect_err("a read").in_doubt);
    }
    let client = client(&format!("http://{}", closed_port())).await;
    let issuer = AccessKeyIssuer::new(client, "u".to_owned());
    let error = issuer.issue(&context(), None).await.expect_err("down");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Unreachable, false), "{error:?}");
    assert_eq!(issuer.life("x").await.expect_err("down proves nothing").kind, ErrorKind::Unreachable);
}

/// ministack, for labels: it leaves a label where it was when a new version is put with it, so what a
/// dead process left behind a promotion must be cleared away.
#[tokio::test]
#[ignore = "needs ministack: scripts/test"]
async fn a_pending_label_left_on_the_current_version_is_cleared_away() {
    let url = ministack();
    let setup = setup(&url, "test", "test").await;
    let name = setup.secret("old").await;
    let store = SecretsManagerStore::new(client(&url).await, name.clone(), whole());
    let first = store.observe().await.expect("observe").current.expect("current");
    let left = setup.secrets.update_secret_version_stage().secret_id(&name).version_stage("AWSPENDING");
    left.move_to_version_id(&first).send().await.expect("label");
    assert_eq!(store.observe().await.expect("observe").pending.as_ref(), Some(&first), "it is seen");
    let staged = store.stage(&since_now(), &token("new")).await.expect("stage");
    let versions = store.observe().await.expect("observe");
    assert_eq!((versions.current.as_ref(), versions.pending.as_ref()), (Some(&first), Some(&staged)));
    let done = store.promote(&since_now(), &token("new"), &token("old"), Some(&staged)).await;
    let current = done.expect("promote").version;
    let versions = store.observe().await.expect("observe");
    assert_eq!((versions.current, versions.pending), (Some(current), None));
}
