//! Parameter Store as a store, against ministack, moto, and a small server of our own.
//!
//! ministack is trusted for versions, labels that move, `name:version` and `name:label`, policies of IAM, and for
//! resetting the KMS key of a write that names none. moto is trusted for 100 versions of which a labelled oldest is kept.
//! Neither is trusted for policies of parameters, the last writer, or the size of a value. The server of our own keeps
//! the rules that AWS documents: a write resets whatever it does not carry. And hands: others write between two
//! requests of ours.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use stanch::domain::{CheckVerdict, ErrorKind};
use stanch::kind::aws::ssm_parameter::ParameterStore;
use stanch::kind::aws::{AwsClient, Settings};
use stanch::provider::layout::Layout;
use stanch::provider::{CallError, Store};
use stanch::secret::{Material, Secret};

use crate::conformance::{StoreCase, store_keeps_its_promises};
use crate::servers::{DEADLINE, context, failures, ministack, moto, serve, ssm, unique};

async fn store_as(url: &str, name: &str, layout: Layout, (id, key): (&str, &str)) -> ParameterStore {
    let settings = Settings {
        region: Some("us-east-1".to_owned()),
        endpoint_url: Some(url.to_owned()),
        keys: Some((id.to_owned(), Secret::new(key))),
        ..Settings::default()
    };
    let client = Arc::new(AwsClient::new(settings, DEADLINE).await.expect("client"));
    ParameterStore::new(client, name.to_owned(), layout).expect("a name")
}

async fn store(url: &str, name: &str, layout: Layout) -> ParameterStore {
    store_as(url, name, layout, ("test", "test")).await
}

fn layout(field: Option<&str>) -> Layout {
    Layout::new(&["token"], field, &BTreeMap::new()).expect("layout")
}

fn token(text: &str) -> Material {
    Material::single("token", Secret::new(text))
}

/// A new parameter. Returns its name.
async fn parameter(url: &str, value: &str) -> String {
    let name = format!("/{}", unique("parameter"));
    ssm(url, "PutParameter", json!({ "Name": name, "Value": value, "Type": "SecureString" })).await;
    name
}

#[tokio::test]
#[ignore = "needs ministack and moto: scripts/test"]
async fn parameters_conform() {
    for url in [ministack(), moto()] {
        let name = parameter(&url, "old-value").await;
        let whole = store(&url, &name, layout(None)).await;
        let (old, new) = (token("old-value"), token("new"));
        store_keeps_its_promises("ssm-parameter", StoreCase { store: &whole, old, new, nowhere: "999" })
            .await;

        // Two parts, in fields of an object that has others.
        let name = parameter(&url, r#"{"id":"AKIAOLD","secret":"old","host":{"port":1}}"#).await;
        let parts = ["access_key_id", "secret_access_key"];
        let fields =
            parts.iter().zip(["id", "secret"]).map(|(p, f)| ((*p).to_owned(), f.to_owned())).collect();
        let both = Layout::new(&["access_key_id", "secret_access_key"], None, &fields).expect("layout");
        let pair = |id, key| Material::single(parts[0], Secret::new(id)).with(parts[1], Secret::new(key));
        let (old, new) = (pair("AKIAOLD", "old"), pair("AKIANEW", "new"));
        let both = store(&url, &name, both).await;
        store_keeps_its_promises("ssm-parameter", StoreCase { store: &both, old, new, nowhere: "999" }).await;
        let left = ssm(&url, "GetParameter", json!({ "Name": name, "WithDecryption": true })).await;
        assert_eq!(left["Parameter"]["Value"], r#"{"id":"AKIAOLD","secret":"old","host":{"port":1}}"#);
        assert_eq!(left["Parameter"]["Type"], "SecureString");
    }
}

/// Trusts ministack, which resets the key of a write that names none, as AWS documents it.
#[tokio::test]
#[ignore = "needs ministack: scripts/test"]
async fn a_write_keeps_the_key_and_moves_the_labels() {
    let (url, name) = (ministack(), format!("/{}", unique("parameter")));
    let first = json!({
        "Name": name, "Value": "old", "Type": "SecureString", "KeyId": "alias/app", "Tier": "Advanced", "Description": "d",
    });
    ssm(&url, "PutParameter", first).await;
    let live = json!({ "Name": name, "ParameterVersion": 1, "Labels": ["live", "blue"] });
    ssm(&url, "LabelParameterVersion", live).await;
    let by_label = async || {
        let read = json!({ "Name": format!("{name}:live"), "WithDecryption": true });
        ssm(&url, "GetParameter", read).await["Parameter"]["Value"].clone()
    };
    let store = store(&url, &name, layout(None)).await;
    store.promote(&context(), &token("new"), &token("old"), None).await.expect("promote");
    assert_eq!(by_label().await, "new");
    store.promote(&context(), &token("old"), &token("new"), None).await.expect("back");
    assert_eq!(by_label().await, "old");
    let history = ssm(&url, "GetParameterHistory", json!({ "Name": name })).await;
    for version in history["Parameters"].as_array().expect("versions") {
        let said = ["KeyId", "Tier", "Description"].map(|field| version[field].as_str().unwrap_or_default());
        assert_eq!(said, ["alias/app", "Advanced", "d"], "{version}");
    }
    assert_eq!(history["Parameters"][2]["Labels"].as_array().map(Vec::len), Some(2), "{history}");
}

/// Trusts moto, which refuses the 101st version while the oldest has a label. The plan says so before.
#[tokio::test]
#[ignore = "needs moto: scripts/test"]
async fn a_labelled_oldest_version_is_found_before_it_refuses_a_write() {
    let url = moto();
    let name = parameter(&url, "v1").await;
    ssm(&url, "LabelParameterVersion", json!({ "Name": name, "ParameterVersion": 1, "Labels": ["first"] }))
        .await;
    let write = async |n: u32| {
        let body =
            json!({ "Name": name, "Value": format!("v{n}"), "Type": "SecureString", "Overwrite": true });
        ssm(&url, "PutParameter", body).await;
    };
    for n in 2..=98 {
        write(n).await;
    }
    let store = store(&url, &name, layout(None)).await;
    let versions = async || failures(&store.preflight().await).iter().any(|f| f.starts_with("versions:"));
    assert!(!versions().await, "two more fit");
    write(99).await;
    assert!(versions().await, "the way back has no room");
    write(100).await;
    let error = store.promote(&context(), &token("new"), &token("v100"), None).await.expect_err("no room");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Limit, false), "{error:?}");
}

/// Trusts ministack for policies of IAM: what is missing is named at once, with the policy that grants it.
#[tokio::test]
#[ignore = "needs ministack: scripts/test"]
async fn missing_permissions_are_named_at_once() {
    let url = ministack();
    let name = parameter(&url, "old").await;
    let keys = aws_sdk_sts::config::Credentials::new("test", "test", None, None, "test");
    let config = aws_config::defaults(aws_config::BehaviorVersion::latest());
    let config = config.region("us-east-1").endpoint_url(&url).credentials_provider(keys).load().await;
    let (iam, user) = (aws_sdk_iam::Client::new(&config), unique("reader"));
    iam.create_user().user_name(&user).send().await.expect("user");
    let allow = ["ssm:GetParameter", "ssm:GetParameterHistory", "iam:SimulatePrincipalPolicy", "sts:*"];
    let rules = json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": allow, "Resource": "*" }] });
    let policy = iam.put_user_policy().user_name(&user).policy_name("p").policy_document(rules.to_string());
    policy.send().await.expect("policy");
    let made = iam.create_access_key().user_name(&user).send().await.expect("key").access_key.expect("key");
    let keys = (made.access_key_id.as_str(), made.secret_access_key.as_str());
    let store = store_as(&url, &name, layout(None), keys).await;
    let checks = store.preflight().await;
    let failed: Vec<_> = checks.iter().filter(|check| check.verdict == CheckVerdict::Fail).collect();
    let [failed] = failed[..] else { panic!("{checks:?}") };
    for action in ["ssm:PutParameter", "ssm:LabelParameterVersion"] {
        assert!(failed.detail.contains(action), "{failed:?}");
        assert!(failed.hint.as_ref().is_some_and(|hint| hint.contains(action)), "{failed:?}");
    }
    assert!(!failed.detail.contains("ssm:GetParameter,"), "{failed:?}");
    let error = store.promote(&context(), &token("new"), &token("old"), None).await.expect_err("not allowed");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Denied, false), "{error:?}");
}

/// What a hand does right before a request is answered.
type Hand = Box<dyn FnOnce(&mut Kept) + Send>;

#[derive(Default)]
struct Kept {
    /// Everything of each version, in order.
    versions: Vec<Value>,
    hands: Vec<(&'static str, Hand)>,
    /// The next request of this action is carried out, and its reply is a failure.
    broken: Option<&'static str>,
    /// A write is answered with a number, and does nothing.
    lies: bool,
}

impl Kept {
    fn write(&mut self, mut version: Value) -> u64 {
        let number = self.versions.last().map_or(0, |last| last["Version"].as_u64().expect("a number")) + 1;
        version["Version"] = number.into();
        version["Labels"] = json!([]);
        self.versions.push(version);
        number
    }

    /// Another program writes another value, and keeps the rest.
    fn theirs(&mut self, value: &str) {
        let mut version = self.versions.last().expect("a version").clone();
        version["Value"] = value.into();
        version["LastModifiedUser"] = "arn:aws:iam::1:user/theirs".into();
        self.write(version);
    }

    fn answer(&mut self, action: &str, body: &Value) -> Result<Value, (&'static str, String)> {
        let name = body["Name"].as_str().expect("a name").strip_prefix("/app/key").expect("the parameter");
        match action {
            "GetParameter" => {
                let wanted = name.strip_prefix(':');
                let found = self.versions.iter().rev().find(|version| match wanted {
                    None => true,
                    Some(wanted) => {
                        wanted.parse().ok() == version["Version"].as_u64()
                            || version["Labels"].as_array().expect("labels").contains(&wanted.into())
                    }
                });
                let mut found = found.ok_or(("ParameterVersionNotFound", String::new()))?.clone();
                found["ARN"] = "arn:aws:ssm:us-east-1:123456789012:parameter/app/key".into();
                Ok(json!({ "Parameter": found }))
            }
            // In pages, as AWS gives them.
            "GetParameterHistory" => {
                let from: usize =
                    body["NextToken"].as_str().map_or(0, |token| token.parse().expect("a token"));
                let next = (from + 2 < self.versions.len()).then(|| (from + 2).to_string());
                let page: Vec<_> = self.versions.iter().skip(from).take(2).collect();
                Ok(json!({ "Parameters": page, "NextToken": next }))
            }
            "PutParameter" if self.lies => {
                let last = self.versions.last().expect("a version")["Version"].as_u64();
                Ok(json!({ "Version": last.expect("a number") + 1 }))
            }
            "PutParameter" => {
                let value = body["Value"].as_str().expect("a value");
                if value.contains("refused") {
                    return Err((
                        "ValidationException",
                        format!("Value '{value}' failed to satisfy a constraint"),
                    ));
                }
                assert_eq!(body["Overwrite"], true);
                let mut version = body.clone();
                if let Some(policies) = body["Policies"].as_str() {
                    let policies: Vec<Value> = serde_json::from_str(policies).expect("a list");
                    version["Policies"] =
                        policies.iter().map(|p| json!({ "PolicyText": p.to_string() })).collect();
                }
                Ok(json!({ "Version": self.write(version) }))
            }
            "LabelParameterVersion" => {
                let labels = body["Labels"].as_array().expect("labels");
                for version in &mut self.versions {
                    let to = version["Version"] == body["ParameterVersion"];
                    let held = version["Labels"].as_array_mut().expect("labels");
                    held.retain(|label| !labels.contains(label));
                    if to {
                        held.extend(labels.iter().cloned());
                    }
                }
                Ok(json!({ "InvalidLabels": [] }))
            }
            other => panic!("{other}"),
        }
    }
}

/// The server, and the store that stanch makes of it.
struct Small {
    kept: Arc<Mutex<Kept>>,
    url: String,
}

impl Small {
    async fn new(value: &str) -> Self {
        let kept = Arc::new(Mutex::new(Kept::default()));
        kept.lock()
            .expect("lock")
            .write(json!({ "Name": "/app/key", "Type": "SecureString", "Value": value }));
        let state = Arc::clone(&kept);
        let router = axum::Router::new().fallback(move |headers: HeaderMap, body: String| {
            let target = headers["x-amz-target"].to_str().expect("target");
            let action = target.rsplit('.').next().expect("action").to_owned();
            let mut kept = state.lock().expect("lock");
            if let Some(at) = kept.hands.iter().position(|(before, _)| *before == action) {
                (kept.hands.remove(at).1)(&mut kept);
            }
            let answer = kept.answer(&action, &serde_json::from_str(&body).expect("JSON"));
            let broken = kept.broken.take_if(|broken| *broken == action).is_some();
            async move {
                match answer {
                    _ if broken => (StatusCode::INTERNAL_SERVER_ERROR, "{}".to_owned()),
                    Ok(body) => (StatusCode::OK, body.to_string()),
                    Err((code, message)) => {
                        (StatusCode::BAD_REQUEST, json!({ "__type": code, "message": message }).to_string())
                    }
                }
            }
        });
        Self { kept, url: serve(router).await }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().expect("lock")
    }

    async fn store(&self, field: Option<&str>) -> ParameterStore {
        store(&self.url, "/app/key", layout(field)).await
    }

    /// Another program writes this value right before the next request of this action.
    fn before(&self, action: &'static str, value: &'static str) {
        self.kept().hands.push((action, Box::new(move |kept| kept.theirs(value))));
    }

    /// The value of the newest version.
    fn current(&self) -> String {
        self.kept().versions.last().expect("a version")["Value"].as_str().expect("text").to_owned()
    }
}

async fn promote(store: &ParameterStore, value: &str, from: &str) -> Result<String, CallError> {
    let done = store.promote(&context(), &token(value), &token(from), None).await;
    done.map(|done| done.version)
}

/// A write resets what it does not carry.
#[tokio::test]
async fn everything_beside_the_value_stays() {
    let small = Small::new("").await;
    let first = json!({
        "Name": "/app/key", "Type": "SecureString", "Value": "old", "KeyId": "alias/app", "Tier": "Advanced",
        "Description": "for the app", "AllowedPattern": "^[a-z]+$",
        "Policies": [{ "PolicyText": r#"{"Attributes":{"After":"20","Unit":"Days"},"Type":"NoChangeNotification","Version":"1.0"}"# }],
    });
    small.kept().write(first.clone());
    let store = small.store(None).await;
    promote(&store, "new", "old").await.expect("promote");
    promote(&store, "old", "new").await.expect("back");
    let mut last = small.kept().versions.last().expect("a version").clone();
    for own in ["Version", "Labels", "Overwrite"] {
        last.as_object_mut().expect("an object").remove(own);
    }
    assert_eq!(last, first);
}

/// The write has no condition. What comes between the read and the write is found by the number of the version.
#[tokio::test]
async fn a_neighbour_that_is_written_meanwhile_is_kept() {
    for action in ["GetParameterHistory", "PutParameter"] {
        let small = Small::new(r#"{"a":"old","b":1}"#).await;
        let store = small.store(Some("a")).await;
        small.before(action, r#"{"a":"old","b":2}"#);
        let version = promote(&store, "new", "old").await.expect(action);
        assert_eq!(small.current(), r#"{"a":"new","b":2}"#, "{action}");
        assert_eq!(store.observe().await.expect("observe").current, Some(version));
    }
}

/// A value of another writer's is not lost: it is current again, and the step says that it did nothing.
#[tokio::test]
async fn a_foreign_value_in_between_is_written_back_and_stops_the_step() {
    for action in ["GetParameterHistory", "PutParameter"] {
        let small = Small::new(r#"{"a":"old","b":1}"#).await;
        let store = small.store(Some("a")).await;
        small.before(action, r#"{"a":"third","b":1}"#);
        let error = promote(&store, "new", "old").await.expect_err("another value");
        assert_eq!((error.kind, error.in_doubt), (ErrorKind::Conflict, false), "{action}: {error:?}");
        assert_eq!(small.current(), r#"{"a":"third","b":1}"#, "{action}");
        let last = small.kept().versions.last().expect("a version").clone();
        assert_eq!(last["Type"], "SecureString");
    }
}

/// Whoever writes right behind us, or says yes and does nothing, leaves doubt and no success.
#[tokio::test]
async fn what_was_written_is_read_again() {
    let small = Small::new("old").await;
    let store = small.store(None).await;
    small.kept().lies = true;
    let error = promote(&store, "new", "old").await.expect_err("nothing was written");
    assert!(error.in_doubt, "{error:?}");
    small.kept().lies = false;
    // The read of the promotion comes first, then the one behind the write.
    small.kept().hands.push((
        "PutParameter",
        Box::new(|kept| {
            kept.hands.push(("GetParameter", Box::new(|kept| kept.theirs("third"))));
        }),
    ));
    let error = promote(&store, "new", "old").await.expect_err("written again");
    assert!(error.in_doubt, "{error:?}");
}

/// Labels follow the value, also over a promotion that was cut off between its write and the labels: the current
/// version then counts as pending, so that the engine has it finished.
#[tokio::test]
async fn labels_follow_a_promotion_that_was_cut_off() {
    let small = Small::new("old").await;
    let store = small.store(None).await;
    small.kept().theirs("older");
    small.kept().theirs("old");
    small.kept().versions[0]["Labels"] = json!(["first"]);
    small.kept().versions[1]["Labels"] = json!(["dead"]);
    small.kept().versions[2]["Labels"] = json!(["live"]);
    let checks = store.preflight().await;
    assert!(checks.iter().any(|c| c.name == "labels" && c.detail.contains("`first`, `live`")), "{checks:?}");
    small.kept().broken = Some("LabelParameterVersion");
    let label = async |name: &str| {
        let read = ssm(&small.url, "GetParameter", json!({ "Name": format!("/app/key:{name}") })).await;
        read["Parameter"]["Value"].as_str().expect("text").to_owned()
    };
    // Never sent: the write is done, the labels are where they were.
    small.kept().hands.push((
        "LabelParameterVersion",
        Box::new(|kept| {
            let as_it_was: Vec<Value> =
                kept.versions.iter().map(|version| version["Labels"].clone()).collect();
            kept.hands.push((
                "GetParameter",
                Box::new(move |kept| {
                    for (version, labels) in kept.versions.iter_mut().zip(as_it_was) {
                        version["Labels"] = labels;
                    }
                }),
            ));
        }),
    ));
    let error = promote(&store, "new", "old").await.expect_err("cut off");
    assert!(error.in_doubt, "{error:?}");
    let seen = store.observe().await.expect("observe");
    assert!(seen.pending.is_some() && seen.pending == seen.current, "{seen:?}");
    assert_eq!((small.current().as_str(), label("live").await.as_str()), ("new", "old"));

    promote(&store, "new", "old").await.expect("finished");
    assert_eq!(small.kept().versions.len(), 4, "nothing was written twice");
    assert_eq!((label("live").await, label("first").await), ("new".to_owned(), "new".to_owned()));
    assert_eq!(label("dead").await, "older", "a label on another value stays");
    assert_eq!(store.observe().await.expect("observe").pending, None);
    promote(&store, "old", "new").await.expect("back");
    assert_eq!(label("live").await, "old");
}

/// Versions of others, before and behind the write that was cut off, do not hide the labels that it left.
#[tokio::test]
async fn labels_follow_across_versions_of_others() {
    let small = Small::new(r#"{"a":"old","b":1}"#).await;
    let store = small.store(Some("a")).await;
    for value in [r#"{"a":"old","b":2}"#, r#"{"a":"new","b":2}"#, r#"{"a":"new","b":3}"#] {
        small.kept().theirs(value);
    }
    small.kept().versions[0]["Labels"] = json!(["live"]);
    let seen = store.observe().await.expect("observe");
    assert!(seen.pending.is_some() && seen.pending == seen.current, "{seen:?}");
    assert_eq!(promote(&store, "new", "old").await.expect("finished"), "4");
    assert_eq!(small.kept().versions.len(), 4, "nothing was written twice");
    assert_eq!(small.kept().versions[3]["Labels"], json!(["live"]));
    assert_eq!(store.observe().await.expect("observe").pending, None);
}

/// A write to a parameter that was deleted meanwhile creates another one: that is said, and is no success.
#[tokio::test]
async fn a_parameter_that_is_deleted_before_the_write_is_told() {
    let small = Small::new("old").await;
    let store = small.store(None).await;
    small.kept().theirs("old");
    small.kept().hands.push(("PutParameter", Box::new(|kept| kept.versions.clear())));
    let error = promote(&store, "new", "old").await.expect_err("it was deleted");
    assert!(error.in_doubt && error.message.contains("was deleted right before"), "{error:?}");
}

/// AWS may quote what it refuses.
#[tokio::test]
async fn a_refusal_that_quotes_the_value_does_not_show_it() {
    let small = Small::new(r#"{"a":"old","b":"neighbours-own-secret"}"#).await;
    let store = small.store(Some("a")).await;
    let error = promote(&store, "refused-new-value", "old").await.expect_err("refused");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Invalid, false), "{error:?}");
    let said = format!("{error:?}");
    assert!(!said.contains("refused-new-value") && !said.contains("neighbours-own-secret"), "{said}");
    assert_eq!(small.kept().versions.len(), 1);
}

/// A value that the run cannot edit, or that would not fit, is refused while planning.
#[tokio::test]
async fn a_value_that_cannot_be_edited_is_refused_while_planning() {
    let long = format!(r#"{{"a":"hunter2","pad":"{}"}}"#, "x".repeat(4060));
    for (field, text, word) in [
        (Some("a"), "{'a': 'hunter2'}", "not a JSON object"),
        (Some("a"), r#"{"a":"hunter2","a":"hunter3"}"#, "twice"),
        (Some("a"), r#"{"other":"hunter2"}"#, "no field `a`"),
        (None, r#"{"a":"hunter2","n":1}"#, "no `field`"),
        (Some("a"), &long, "4096"),
    ] {
        let small = Small::new(text).await;
        let checks = small.store(field).await.preflight().await;
        let failed: Vec<_> = checks.iter().filter(|c| c.name.starts_with("parameter /app")).collect();
        assert!(
            failed.iter().any(|c| c.verdict == CheckVerdict::Fail && c.detail.contains(word)),
            "{word}: {checks:?}"
        );
        assert!(!format!("{checks:?}").contains("hunter2"), "{checks:?}");
        assert_eq!(small.kept().versions.len(), 1);
    }
}
