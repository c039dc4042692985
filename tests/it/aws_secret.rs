//! Secrets Manager as a store, against a small server of our own that keeps the rules of AWS where the imitations
//! do not: a token that was used with another text is refused (`ResourceExistsException`), a put moves
//! `AWSPENDING`, a version without labels stays readable, a label moves only from where it is. And hands: others
//! write between two requests of ours.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use stanch::domain::{CheckVerdict, ErrorKind, Versions};
use stanch::kind::aws::secretsmanager::SecretsManagerStore;
use stanch::kind::aws::{AwsClient, Settings};
use stanch::provider::layout::Layout;
use stanch::provider::{CallContext, Store};
use stanch::secret::{Material, Secret};

use crate::servers::{DEADLINE, context, serve};

const NOBODY: &str = "nobody";

/// What a hand does right before a request is answered.
type Hand = Box<dyn FnOnce(&mut Kept) + Send>;

#[derive(Default)]
struct Kept {
    /// Id, text, labels, in the order in which they were made.
    versions: Vec<(String, String, BTreeSet<String>)>,
    /// More of what `DescribeSecret` says.
    more: Value,
    hands: Vec<(&'static str, Hand)>,
    /// The next request of this action is carried out, and its reply is a failure.
    broken: Option<&'static str>,
    puts: usize,
}

impl Kept {
    fn with(&self, label: &str) -> Option<&str> {
        let found = self.versions.iter().find(|(_, _, labels)| labels.contains(label));
        found.map(|(id, _, _)| id.as_str())
    }

    fn text(&self, label: &str) -> String {
        let id = self.with(label).expect("a version");
        self.versions.iter().find(|(other, _, _)| other == id).expect("it").1.clone()
    }

    fn labels(&self, id: &str) -> Vec<&str> {
        let found = self.versions.iter().find(|(other, _, _)| other == id);
        found.map(|(_, _, labels)| labels.iter().map(String::as_str).collect()).unwrap_or_default()
    }

    fn set(&mut self, label: &str, to: Option<&str>) {
        let old = self.with(label).map(str::to_owned);
        for (id, _, labels) in &mut self.versions {
            labels.remove(label);
            if Some(id.as_str()) == to {
                labels.insert(label.to_owned());
            }
        }
        if label == "AWSCURRENT" && old.is_some() && old.as_deref() != to {
            self.set("AWSPREVIOUS", old.as_deref());
        }
    }

    /// Somebody writes the secret.
    fn write(&mut self, id: &str, text: &str) {
        self.versions.push((id.to_owned(), text.to_owned(), BTreeSet::new()));
        self.set("AWSCURRENT", Some(id));
    }

    fn answer(&mut self, action: &str, body: &Value) -> Result<Value, (&'static str, String)> {
        let of = |name: &str| body[name].as_str();
        match action {
            "DescribeSecret" => {
                let labelled = self.versions.iter().filter(|(_, _, labels)| !labels.is_empty());
                let stages: BTreeMap<_, _> = labelled.map(|(id, _, labels)| (id, labels)).collect();
                let mut said = json!({
                    "ARN": "arn:aws:secretsmanager:us-east-1:123456789012:secret:app/db-AbCdEf",
                    "Name": "app/db", "VersionIdsToStages": stages,
                });
                for (name, value) in self.more.as_object().into_iter().flatten() {
                    said[name] = value.clone();
                }
                Ok(said)
            }
            "GetSecretValue" => {
                let id = of("VersionId").map(str::to_owned);
                let id =
                    id.or_else(|| self.with(of("VersionStage").unwrap_or("AWSCURRENT")).map(str::to_owned));
                let found = self.versions.iter().find(|(other, _, _)| Some(other) == id.as_ref());
                let (id, text, _) = found.ok_or(("ResourceNotFoundException", String::new()))?;
                Ok(json!({"VersionId": id, "SecretString": text}))
            }
            "PutSecretValue" => {
                let (id, text) =
                    (of("ClientRequestToken").expect("token"), of("SecretString").expect("text"));
                self.puts += 1;
                match self.versions.iter().find(|(other, _, _)| other == id) {
                    Some((_, other, _)) if other != text => {
                        return Err(("ResourceExistsException", "A resource with that ID exists".to_owned()));
                    }
                    Some(_) => {}
                    None => self.versions.push((id.to_owned(), text.to_owned(), BTreeSet::new())),
                }
                for label in body["VersionStages"].as_array().expect("labels") {
                    self.set(label.as_str().expect("label"), Some(id));
                }
                Ok(json!({"VersionId": id}))
            }
            "UpdateSecretVersionStage" => {
                let (label, to) = (of("VersionStage").expect("label"), of("MoveToVersionId"));
                let holder = self.with(label).map(str::to_owned);
                if holder.is_some()
                    && holder.as_deref() != of("RemoveFromVersionId")
                    && holder.as_deref() != to
                {
                    let why = format!("{label} is attached to {holder:?}");
                    return Err(("InvalidParameterException", why));
                }
                self.set(label, to);
                Ok(json!({}))
            }
            other => panic!("{other}"),
        }
    }
}

/// The server, and the store that stanch makes of it.
struct World {
    kept: Arc<Mutex<Kept>>,
    url: String,
}

impl World {
    async fn new(text: &str) -> Self {
        let kept = Arc::new(Mutex::new(Kept::default()));
        kept.lock().expect("lock").write("v1", text);
        let state = Arc::clone(&kept);
        let router = axum::Router::new().fallback(move |headers: HeaderMap, body: String| {
            let target = headers["x-amz-target"].to_str().expect("target");
            let action = target.split('.').nth(1).expect("action");
            let body: Value = serde_json::from_str(&body).expect("JSON");
            let mut kept = state.lock().expect("lock");
            if let Some(at) = kept.hands.iter().position(|(before, _)| *before == action) {
                let (_, hand) = kept.hands.remove(at);
                hand(&mut kept);
            }
            let answer = kept.answer(action, &body);
            let broken = kept.broken.take_if(|broken| *broken == action).is_some();
            std::future::ready(match answer {
                _ if broken => (StatusCode::INTERNAL_SERVER_ERROR, String::new()),
                Ok(answer) => (StatusCode::OK, answer.to_string()),
                Err((code, message)) => {
                    (StatusCode::BAD_REQUEST, json!({"__type": code, "message": message}).to_string())
                }
            })
        });
        Self { url: serve(router).await, kept }
    }

    async fn store(&self, field: &str) -> SecretsManagerStore {
        let settings = Settings {
            region: Some("us-east-1".to_owned()),
            endpoint_url: Some(self.url.clone()),
            keys: Some(("AKIAOPERATOROPERATOR".to_owned(), Secret::new("hunter2hunter2"))),
            ..Settings::default()
        };
        let client = Arc::new(AwsClient::new(settings, DEADLINE).await.expect("client"));
        let layout = Layout::new(&["value"], Some(field), &BTreeMap::new()).expect("layout");
        SecretsManagerStore::new(client, "app/db".to_owned(), layout)
    }

    /// The version that carries a label.
    fn with(&self, label: &str) -> Option<String> {
        self.kept().with(label).map(str::to_owned)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().expect("lock")
    }

    fn before(&self, action: &'static str, hand: impl FnOnce(&mut Kept) + Send + 'static) {
        self.kept().hands.push((action, Box::new(hand)));
    }
}

fn value(text: &str) -> Material {
    Material::single("value", Secret::new(text))
}

/// A step in a secret of which the plan saw `current` and `previous`.
fn planned(current: &str, previous: Option<&str>) -> CallContext {
    let before =
        Versions { current: Some(current.to_owned()), previous: previous.map(str::to_owned), pending: None };
    CallContext { before, ..context() }
}

/// What others write between the read and the move is read and kept, there and back; and nothing but the
/// credential's own bytes changes.
#[tokio::test]
async fn a_neighbour_that_is_written_meanwhile_is_kept() {
    let world = World::new(r#"{ "n":1.10,"pw":"old" ,"x": 1}"#).await;
    let store = world.store("pw").await;
    let staged = store.stage(&context(), &value("new")).await.expect("stage");
    world
        .before("UpdateSecretVersionStage", |kept| kept.write("theirs", r#"{ "n":1.10,"pw":"old" ,"x": 2}"#));
    let step = planned("v1", None);
    let done = store.promote(&step, &value("new"), &value("old"), Some(&staged)).await.expect("promote");
    assert_eq!(world.kept().text("AWSCURRENT"), r#"{ "n":1.10,"pw":"new" ,"x": 2}"#);
    assert_eq!(done.was.as_deref(), Some("theirs"));
    assert_eq!(
        (world.with("AWSPENDING").as_deref(), world.with("AWSPREVIOUS").as_deref()),
        (None, Some("theirs"))
    );
    let again = store.promote(&step, &value("new"), &value("old"), Some(&staged)).await.expect("again");
    assert_eq!((again.version, again.was), (done.version, None));

    world.before("UpdateSecretVersionStage", |kept| kept.write("more", r#"{ "n":1.10,"pw":"new" ,"x": 3}"#));
    store.promote(&step, &value("old"), &value("new"), Some("v1")).await.expect("back");
    assert_eq!(world.kept().text("AWSCURRENT"), r#"{ "n":1.10,"pw":"old" ,"x": 3}"#);
}

/// The own field is what a promotion compares: another value there is never written over.
#[tokio::test]
async fn another_value_in_the_own_field_stops_the_promotion() {
    let world = World::new(r#"{"pw":"old"}"#).await;
    let store = world.store("pw").await;
    let staged = store.stage(&context(), &value("new")).await.expect("stage");
    world.before("UpdateSecretVersionStage", |kept| kept.write("theirs", r#"{"pw":"theirs"}"#));
    let error =
        store.promote(&context(), &value("new"), &value("old"), Some(&staged)).await.expect_err("theirs");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Conflict, false), "{error:?}");
    assert_eq!(world.kept().text("AWSCURRENT"), r#"{"pw":"theirs"}"#);
}

/// A token that AWS has seen with another text: the staged version is known again, and what was written
/// meanwhile is not lost.
#[tokio::test]
async fn a_call_that_is_repeated_over_another_neighbour_finds_its_own_version() {
    let world = World::new(r#"{"pw":"old","x":1}"#).await;
    let (store, step) = (world.store("pw").await, context());
    let staged = store.stage(&step, &value("new")).await.expect("stage");
    world.kept().write("theirs", r#"{"pw":"old","x":2}"#);
    assert_eq!(store.stage(&step, &value("new")).await.expect("again"), staged);
    store.promote(&context(), &value("new"), &value("old"), Some(&staged)).await.expect("promote");
    assert_eq!(world.kept().text("AWSCURRENT"), r#"{"pw":"new","x":2}"#);

    // The reply to the put that a promotion makes is lost: the repeated one sends the same bytes.
    let world = World::new(r#"{"pw":"old","x":1}"#).await;
    let (store, step) = (world.store("pw").await, context());
    world.kept().broken = Some("PutSecretValue");
    let error = store.promote(&step, &value("new"), &value("old"), None).await.expect_err("lost");
    assert!(error.in_doubt, "{error:?}");
    store.promote(&step, &value("new"), &value("old"), None).await.expect("promote");
    assert_eq!(world.kept().versions.len(), 2, "one new version, however often it was sent");
    assert_eq!(world.with("AWSPENDING").as_deref(), None);
}

/// Two credentials in one secret, one after the other: both land, and both go back.
#[tokio::test]
async fn two_credentials_in_one_secret_both_land_and_both_go_back() {
    let world = World::new(r#"{"a":"old-a","b":"old-b","n":-0}"#).await;
    let (a, b) = (world.store("a").await, world.store("b").await);
    let (stage_a, stage_b) = (context(), context());
    let beside =
        |step: &CallContext, other: &CallContext| CallContext { siblings: vec![other.token], ..step.clone() };
    let staged_a = a.stage(&beside(&stage_a, &stage_b), &value("new-a")).await.expect("stage a");
    let staged_b = b.stage(&beside(&stage_b, &stage_a), &value("new-b")).await.expect("stage b");
    assert_eq!(world.kept().text("AWSPENDING"), r#"{"a":"new-a","b":"new-b","n":-0}"#);
    let step = |other: &CallContext| CallContext { siblings: vec![other.token], ..planned("v1", None) };
    let done_a =
        a.promote(&step(&stage_b), &value("new-a"), &value("old-a"), Some(&staged_a)).await.expect("a");
    let done_b =
        b.promote(&step(&stage_a), &value("new-b"), &value("old-b"), Some(&staged_b)).await.expect("b");
    assert_eq!(world.kept().text("AWSCURRENT"), r#"{"a":"new-a","b":"new-b","n":-0}"#);
    assert_eq!(world.with("AWSPENDING").as_deref(), None);

    let (was_b, was_a) = (done_b.was.expect("was"), done_a.was.expect("was"));
    b.promote(&step(&stage_a), &value("old-b"), &value("new-b"), Some(&was_b)).await.expect("b back");
    a.promote(&step(&stage_b), &value("old-a"), &value("new-a"), Some(&was_a)).await.expect("a back");
    assert_eq!(world.kept().text("AWSCURRENT"), r#"{"a":"old-a","b":"old-b","n":-0}"#);
    b.retire(&stage_b, &staged_b).await.expect("retire");
    a.retire(&stage_a, &staged_a).await.expect("retire");
    assert_eq!((world.with("AWSPENDING").as_deref(), world.with("AWSPREVIOUS").as_deref()), (None, None));
}

/// A stranger's pending version: named while planning, never stolen, and nothing is changed.
#[tokio::test]
async fn a_strangers_pending_version_is_left_alone() {
    let world = World::new(r#"{"pw":"old"}"#).await;
    let store = world.store("pw").await;
    world.kept().versions.push(("theirs".to_owned(), r#"{"pw":"x"}"#.to_owned(), BTreeSet::new()));
    world.kept().set("AWSPENDING", Some("theirs"));
    let checks = store.preflight().await;
    let failed = checks.iter().find(|check| check.verdict == CheckVerdict::Fail).expect("a failed check");
    assert!(failed.detail.contains("theirs"), "{failed:?}");
    assert!(failed.hint.as_ref().is_some_and(|hint| hint.contains("--remove-from-version-id theirs")));
    for error in [
        store.stage(&context(), &value("new")).await.expect_err("stage"),
        store.promote(&context(), &value("new"), &value("old"), None).await.expect_err("promote"),
    ] {
        assert_eq!((error.kind, error.in_doubt), (ErrorKind::Conflict, false), "{error:?}");
    }
    assert_eq!((world.with("AWSPENDING").as_deref(), world.kept().puts), (Some("theirs"), 0));
}

/// A label of others follows the value, there and back, also over a promotion that was cut off.
#[tokio::test]
async fn labels_of_others_follow_the_value() {
    let world = World::new(r#"{"pw":"old"}"#).await;
    let store = world.store("pw").await;
    world.kept().set("prod", Some("v1"));
    world.kept().set("blue", Some("v1"));
    let checks = store.preflight().await;
    assert!(
        checks.iter().any(|c| c.verdict == CheckVerdict::Warn && c.detail.contains("`blue`, `prod`")),
        "{checks:?}"
    );
    let stage = context();
    let staged = store.stage(&stage, &value("new")).await.expect("stage");

    // Cut off behind the first label: undone by retiring, or finished by another try.
    world.kept().broken = Some("UpdateSecretVersionStage");
    let step = planned("v1", None);
    let error = store.promote(&step, &value("new"), &value("old"), Some(&staged)).await.expect_err("cut off");
    assert!(error.in_doubt, "{error:?}");
    assert_eq!(
        (world.with("blue").as_deref(), world.with("prod").as_deref()),
        (Some(staged.as_str()), Some("v1"))
    );
    store.retire(&stage, &staged).await.expect("retire");
    assert_eq!(world.kept().labels("v1"), ["AWSCURRENT", "blue", "prod"]);

    let stage = context();
    let staged = store.stage(&stage, &value("new")).await.expect("stage");
    world.kept().broken = Some("UpdateSecretVersionStage");
    store.promote(&step, &value("new"), &value("old"), Some(&staged)).await.expect_err("cut off");
    store.promote(&step, &value("new"), &value("old"), Some(&staged)).await.expect("finished");
    assert_eq!(world.kept().labels(&staged), ["AWSCURRENT", "blue", "prod"]);
    assert_eq!(world.kept().labels("v1"), ["AWSPREVIOUS"]);

    store.promote(&step, &value("old"), &value("new"), Some("v1")).await.expect("back");
    assert_eq!(world.kept().labels("v1"), ["AWSCURRENT", "blue", "prod"]);
}

/// Somebody writes another field while the run is under way: AWS leaves the labels of others behind, on a value
/// that is about to die, in both directions.
#[tokio::test]
async fn labels_of_others_are_not_left_on_a_value_that_dies() {
    let world = World::new(r#"{"pw":"old","x":1}"#).await;
    let (store, step) = (world.store("pw").await, planned("v1", None));
    world.kept().set("prod", Some("v1"));
    let staged = store.stage(&context(), &value("new")).await.expect("stage");
    world.kept().write("theirs", r#"{"pw":"old","x":2}"#);
    store.promote(&step, &value("new"), &value("old"), Some(&staged)).await.expect("promote");
    assert_eq!(world.kept().text("prod"), r#"{"pw":"new","x":2}"#);
    world.kept().write("more", r#"{"pw":"new","x":3}"#);
    store.promote(&step, &value("old"), &value("new"), Some("v1")).await.expect("back");
    assert_eq!(world.kept().text("prod"), r#"{"pw":"old","x":3}"#);
}

/// A promotion that made a version of its own, and was cut off before it was current, leaves it pending:
/// it is known as the run's own.
#[tokio::test]
async fn a_version_that_a_promotion_left_pending_is_retired() {
    let world = World::new(r#"{"pw":"old","x":1}"#).await;
    let (store, stage) = (world.store("pw").await, context());
    let staged = store.stage(&stage, &value("new")).await.expect("stage");
    world.kept().write("theirs", r#"{"pw":"old","x":2}"#);
    world.kept().broken = Some("PutSecretValue");
    store.promote(&context(), &value("new"), &value("old"), Some(&staged)).await.expect_err("cut off");
    let left = world.with("AWSPENDING").expect("left");
    assert_ne!(left, staged);
    store.retire(&stage, &staged).await.expect("retire");
    assert_eq!(
        (world.with("AWSPENDING").as_deref(), world.with("AWSCURRENT").as_deref()),
        (None, Some("theirs"))
    );
}

/// `AWSPREVIOUS` goes back to where the plan saw it, and never stays on what is about to be revoked.
#[tokio::test]
async fn the_way_back_restores_the_previous_label() {
    for previous in [None, Some("v0"), Some("long-gone")] {
        let world = World::new(r#"{"pw":"older"}"#).await;
        world.kept().versions[0].0 = "v0".to_owned();
        world.kept().write("v1", r#"{"pw":"old"}"#);
        if previous != Some("v0") {
            world.kept().set("AWSPREVIOUS", None);
        }
        let (store, stage, step) = (world.store("pw").await, context(), planned("v1", previous));
        let staged = store.stage(&stage, &value("new")).await.expect("stage");
        store.promote(&step, &value("new"), &value("old"), Some(&staged)).await.expect("promote");
        assert_eq!(world.with("AWSPREVIOUS").as_deref(), Some("v1"), "the way there leaves it to AWS");
        store.promote(&step, &value("old"), &value("new"), Some("v1")).await.expect("back");
        assert_eq!(world.with("AWSPREVIOUS").as_deref(), previous.filter(|id| *id == "v0"));

        // Cut off right behind the move: the repeated try finishes.
        world.kept().set("AWSPREVIOUS", Some(&staged));
        store.promote(&step, &value("old"), &value("new"), Some("v1")).await.expect("again");
        assert_eq!(world.with("AWSPREVIOUS").as_deref(), previous.filter(|id| *id == "v0"));
        // And there, where the same is so, nothing is touched.
        let forward = planned(NOBODY, previous);
        world.kept().set("AWSPREVIOUS", Some(&staged));
        store.promote(&forward, &value("old"), &value("new"), Some("v1")).await.expect("already");
        assert_eq!(world.with("AWSPREVIOUS").as_deref(), Some(staged.as_str()));
    }
}

/// A text that the run cannot edit is refused while planning, with the reason, and nothing that would replace
/// it is advised.
#[tokio::test]
async fn a_text_that_cannot_be_edited_is_refused_while_planning() {
    for (field, text, word) in [
        (Some("pw"), "{'pw': 'hunter2'}", "not a JSON object"),
        (Some("pw"), "\u{feff}{\"pw\":\"hunter2\"}", "not a JSON object"),
        (Some("pw"), r#"["hunter2"]"#, "not a JSON object"),
        (Some("pw"), r#"{"pw":"hunter2","pw":"hunter3"}"#, "twice"),
        (Some("pw"), r#"{"pw":12345}"#, "not a string"),
        (Some("pw"), r#"{"other":"hunter2"}"#, "no field `pw`"),
        (Some("pw"), r#"{"pw":""}"#, "empty"),
        (None, r#"{"pw":"hunter2","n":1}"#, "no `field`"),
    ] {
        let world = World::new(text).await;
        let mut store = world.store("pw").await;
        if field.is_none() {
            let settings = Settings {
                region: Some("us-east-1".to_owned()),
                endpoint_url: Some(world.url.clone()),
                keys: Some(("AKIAOPERATOROPERATOR".to_owned(), Secret::new("hunter2hunter2"))),
                ..Settings::default()
            };
            let client = Arc::new(AwsClient::new(settings, DEADLINE).await.expect("client"));
            let layout = Layout::new(&["value"], None, &BTreeMap::new()).expect("layout");
            store = SecretsManagerStore::new(client, "app/db".to_owned(), layout);
        }
        let checks = store.preflight().await;
        let failed = checks.iter().find(|check| check.verdict == CheckVerdict::Fail);
        let failed = failed.unwrap_or_else(|| panic!("{text} was taken: {checks:?}"));
        assert!(failed.detail.contains(word), "{text}: {failed:?}");
        let said = format!("{checks:?}");
        assert!(!said.contains("hunter2") && !said.contains("leave out `field`"), "{said}");
        assert!(failed.hint.is_some(), "{failed:?}");
        assert_eq!(world.kept().puts, 0);
    }
}

/// A region that is late or failed is said before the old credential is refused for good.
#[tokio::test]
async fn a_region_that_is_not_in_sync_is_named() {
    let world = World::new(r#"{"pw":"old"}"#).await;
    let store = world.store("pw").await;
    store.in_sync().await.expect("no region");
    for (status, kind) in [("InProgress", ErrorKind::NotReady), ("Failed", ErrorKind::Conflict)] {
        world.kept().more = json!({"ReplicationStatus": [
            {"Region": "eu-north-1", "Status": "InSync"}, {"Region": "us-west-2", "Status": status}]});
        let error = store.in_sync().await.expect_err(status);
        assert!(error.kind == kind && error.message.contains("us-west-2"), "{error:?}");
    }
    world.kept().more = json!({"ReplicationStatus": [{"Region": "eu-north-1", "Status": "InSync"}]});
    store.in_sync().await.expect("in sync");
}
