//! A CI/CD variable of GitLab as a store, against a server of the tests that follows GitLab's documentation and published
//! source, and lies where it is told to. It is not GitLab.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use stanch::clock::SystemClock;
use stanch::domain::{Check, CheckVerdict, ErrorKind};
use stanch::kind::real::RealProvider;
use stanch::provider::{CallError, Promoted, Provider as _, Store};
use stanch::runbook::model;
use stanch::secret::{Material, Secret};

use crate::conformance::{StoreCase, store_keeps_its_promises};
use crate::gitlab_server::{GROUP, Gitlab, Mode, PROJECT};
use crate::servers::{DEADLINE, context, failures, plain_http};
use crate::tool::search;
use crate::worlds::World;

const PROJECTS: &str = "projects/shop/web";
const GROUPS: &str = "groups/shop";
const OLD: &str = "old-value-of-the-canary";
const NEW: &str = "hunter2-hunter2-new";

/// A provider with a connection to this server, as an operator with this token.
pub(crate) fn provider(url: &str, token: &str, deadline: Duration) -> RealProvider {
    let connection =
        serde_json::from_value(json!({ "type": "gitlab", "address": url })).expect("a connection");
    let connections = BTreeMap::from([("gitlab".to_owned(), connection)]);
    let token = token.to_owned();
    let env = Arc::new(move |name: &str| (name == "GITLAB_TOKEN").then(|| token.clone()));
    RealProvider::with_environment(connections, Arc::new(SystemClock::new()), deadline, env)
}

/// A store with these fields, of what this issuer makes.
pub(crate) async fn store_of(provider: &RealProvider, issuer: Value, fields: Value) -> Arc<dyn Store> {
    let mut store = json!({ "type": "gitlab-ci-variable", "connection": "gitlab", "key": "TOKEN" });
    fields.as_object().expect("fields").iter().for_each(|(name, value)| store[name] = value.clone());
    let credential = json!({ "issuer": issuer, "stores": [store] });
    let credential: model::Credential = serde_json::from_value(credential).expect("a credential");
    provider.store("app", &credential, 0).await.expect("a store")
}

/// The variable `TOKEN` of the project, for every environment.
async fn store(gitlab: &Gitlab) -> Arc<dyn Store> {
    with(gitlab, json!({ "project": PROJECT.0 })).await
}

async fn with(gitlab: &Gitlab, fields: Value) -> Arc<dyn Store> {
    store_of(&provider(&gitlab.url, &gitlab.operator, DEADLINE), json!({ "type": "random" }), fields).await
}

fn value(text: &str) -> Material {
    Material::single("value", Secret::new(text))
}

async fn promote(store: &dyn Store, new: &str, old: &str) -> Result<Promoted, CallError> {
    store.promote(&context(), &value(new), &value(old), None).await
}

fn warned(checks: &[Check], words: &str) -> bool {
    checks.iter().any(|check| check.verdict == CheckVerdict::Warn && check.detail.contains(words))
}

#[tokio::test]
async fn variables_conform() {
    let gitlab = Gitlab::start().await;
    gitlab.add(PROJECTS, "TOKEN", OLD, json!({ "masked": true }));
    let one = store(&gitlab).await;
    let (old, new) = (value(OLD), value(NEW));
    store_keeps_its_promises("gitlab-ci-variable", StoreCase { store: &*one, old, new, nowhere: "0" }).await;
    assert_eq!(gitlab.get(PROJECTS, "TOKEN", "*")["value"], OLD);

    // Two parts, in fields of their own, in a variable of a group.
    let text = json!({ "id": "AKIAOLD", "key": "old", "note": "kept $HOME" }).to_string();
    gitlab.add(GROUPS, "TOKEN", &text, json!({}));
    let issuer = json!({ "type": "iam-access-key", "connection": "aws", "user": "app" });
    let fields = json!({ "group": "shop", "fields": { "access_key_id": "id", "secret_access_key": "key" } });
    let both = store_of(&provider(&gitlab.url, &gitlab.operator, DEADLINE), issuer, fields).await;
    let pair = |id, key| {
        Material::single("access_key_id", Secret::new(id)).with("secret_access_key", Secret::new(key))
    };
    let (old, new) = (pair("AKIAOLD", "old"), pair("AKIANEW", "new"));
    store_keeps_its_promises("gitlab-ci-variable", StoreCase { store: &*both, old, new, nowhere: "0" }).await;
    assert_eq!(
        gitlab.get(GROUPS, "TOKEN", "*")["value"],
        text,
        "the neighbour stays, also what refers to a variable"
    );
}

/// Settings, and variables of the same key with other scopes or of another owner.
#[tokio::test]
async fn everything_else_of_a_variable_stays() {
    let gitlab = Gitlab::start().await;
    let settings = json!({
        "variable_type": "file", "protected": true, "masked": true, "raw": true, "environment_scope": "review/*",
        "description": "who reads it",
    });
    gitlab.add(PROJECTS, "TOKEN", "for-all-environments", json!({}));
    gitlab.add(PROJECTS, "TOKEN", OLD, settings.clone());
    gitlab.add(GROUPS, "TOKEN", "of-the-group", json!({ "environment_scope": "review/*" }));
    let before = gitlab.get(PROJECTS, "TOKEN", "review/*");
    let store = with(&gitlab, json!({ "project": "42", "environment_scope": "review/*" })).await;
    let checks = store.preflight().await;
    assert!(failures(&checks).is_empty() && warned(&checks, "protected branches"), "{checks:?}");
    promote(&*store, NEW, OLD).await.expect("promote");
    let mut wanted = settings;
    wanted["value"] = NEW.into();
    assert_eq!(
        gitlab.last_sent(),
        wanted,
        "all of it is sent back: what a write leaves out may get a default"
    );
    let mut after = gitlab.get(PROJECTS, "TOKEN", "review/*");
    after["value"] = OLD.into();
    assert_eq!(after, before);
    // As jobs get it.
    let get = async |environment: &str, protected: bool| {
        let answer =
            plain_http().get(gitlab.job(environment, protected, "TOKEN")).send().await.expect("a job");
        answer.text().await.expect("text")
    };
    assert_eq!(get("review/one", true).await, NEW);
    assert_eq!(get("review/one", false).await, "for-all-environments", "it is protected");
    assert_eq!(get("production", true).await, "for-all-environments");
    assert_eq!(gitlab.get(GROUPS, "TOKEN", "review/*")["value"], "of-the-group");
    // The number and the path are one place, and each scope is one of its own.
    let place = async |fields: Value| with(&gitlab, fields).await.place().await.expect("place");
    let here = place(json!({ "project": PROJECT.0, "environment_scope": "review/*" })).await;
    assert_eq!(store.place().await.expect("place"), here);
    for other in [json!({ "project": "42" }), json!({ "group": "7", "environment_scope": "review/*" })] {
        assert_ne!(place(other).await, here);
    }
}

#[tokio::test]
async fn a_success_without_the_new_value_is_in_doubt() {
    for mode in [Mode::SaysYes, Mode::Page, Mode::Breaks, Mode::Unmasks] {
        let gitlab = Gitlab::start().await;
        gitlab.add(PROJECTS, "TOKEN", OLD, json!({ "masked": true }));
        let store = store(&gitlab).await;
        gitlab.mode(mode);
        let error = promote(&*store, NEW, OLD).await.expect_err("no success");
        assert!(error.in_doubt, "{mode:?}: {error:?}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}

/// A reply that is lost is settled by reading back: the second call finds the value, and writes nothing.
#[tokio::test]
async fn a_lost_reply_is_settled_by_reading_back() {
    let gitlab = Gitlab::start().await;
    gitlab.add(PROJECTS, "TOKEN", OLD, json!({}));
    let store = store(&gitlab).await;
    gitlab.mode(Mode::Breaks);
    assert!(promote(&*store, NEW, OLD).await.expect_err("broken").in_doubt);
    assert_eq!(promote(&*store, NEW, OLD).await.expect("it is there").was, None);
    assert_eq!(gitlab.writes(), 1, "it was written once");
}

/// What another wrote is neither overwritten nor taken for ours.
#[tokio::test]
async fn a_third_value_is_left_as_it_is() {
    let gitlab = Gitlab::start().await;
    gitlab.add(PROJECTS, "TOKEN", OLD, json!({}));
    let store = store(&gitlab).await;
    let seen = store.observe().await.expect("observe").current.expect("a version");
    gitlab.set(PROJECTS, "TOKEN", "*", "value", "by-hand".into());
    assert_eq!(store.read(Some(&seen)).await.expect_err("it changed").kind, ErrorKind::NotFound);
    let error = promote(&*store, NEW, OLD).await.expect_err("theirs");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Conflict, false), "{error:?}");
    assert_eq!(gitlab.get(PROJECTS, "TOKEN", "*")["value"], "by-hand");
    assert_eq!(gitlab.writes(), 0);
}

/// By the rules that GitLab publishes, before it is asked: nothing is sent.
#[tokio::test]
async fn a_value_that_would_lose_its_mask_or_be_expanded_is_never_written() {
    let masked = json!({ "masked": true });
    for (settings, new, words) in [
        (masked.clone(), "short", "fewer than 8"),
        (masked.clone(), "with a space", "a space or several lines"),
        (masked.clone(), "-----BEGIN-----\nAAAA\n-----END-----", "a space or several lines"),
        (masked.clone(), "with-a-bang!", "a character that GitLab does not mask"),
        (json!({}), "with-a-$HOME", "replaces what follows it"),
    ] {
        let gitlab = Gitlab::start().await;
        gitlab.add(PROJECTS, "TOKEN", OLD, settings);
        let store = store(&gitlab).await;
        assert_eq!(failures(&store.preflight().await), Vec::<String>::new());
        let error = promote(&*store, new, OLD).await.expect_err(words);
        assert_eq!((error.kind, error.in_doubt), (ErrorKind::Invalid, false), "{error:?}");
        assert!(error.message.contains(words) && error.hint.is_some(), "{error:?}");
        assert!(!format!("{error:?}").contains(new), "{error:?}");
        assert_eq!(gitlab.writes(), 0);
        // As it is, the server takes it.
        gitlab.set(PROJECTS, "TOKEN", "*", "masked", false.into());
        gitlab.set(PROJECTS, "TOKEN", "*", "raw", true.into());
        promote(&*store, new, OLD).await.expect("neither masked nor expanded");
    }
}

#[tokio::test]
async fn what_cannot_be_written_is_found_before_anything_is_issued() {
    let refused = async |issuer: Value, old: &str, settings: Value, kind: ErrorKind, words: &str| {
        let gitlab = Gitlab::start().await;
        gitlab.add(PROJECTS, "TOKEN", old, settings);
        let provider = provider(&gitlab.url, &gitlab.operator, DEADLINE);
        let store = store_of(&provider, issuer, json!({ "project": PROJECT.0 })).await;
        let checks = store.preflight().await;
        let failed: Vec<&Check> = checks.iter().filter(|c| c.verdict == CheckVerdict::Fail).collect();
        let [failed] = failed[..] else { panic!("{words}: {checks:?}") };
        assert!(failed.kind == Some(kind) && failed.detail.contains(words), "{failed:?}");
        assert!(failed.hint.as_deref().is_some_and(|hint| hint.contains(' ')), "{failed:?}");
    };
    let random = || json!({ "type": "random" });
    // The alphabet of what is generated is known before a value is.
    let symbols = json!({ "type": "random", "alphabet": "symbols" });
    refused(symbols, OLD, json!({ "masked": true }), ErrorKind::Invalid, "does not mask").await;
    refused(random(), "a-$REFERENCE", json!({}), ErrorKind::Invalid, "replaces what follows it").await;
    refused(random(), OLD, json!({ "hidden": true }), ErrorKind::Unsupported, "hidden").await;
    refused(random(), r#"{"a":"b"}"#, json!({}), ErrorKind::Invalid, "names no `field`").await;
    refused(random(), "old \n", json!({}), ErrorKind::Invalid, "cannot be seen").await;
    refused(
        random(),
        OLD,
        json!({ "environment_scope": "x" }),
        ErrorKind::NotFound,
        "404 Variable Not Found",
    )
    .await;

    // Two variables of one key: the scope tells them apart, and the plan's is the one that is named.
    let gitlab = Gitlab::start().await;
    gitlab.add(PROJECTS, "TOKEN", OLD, json!({}));
    gitlab.add(PROJECTS, "TOKEN", "another", json!({ "environment_scope": "production" }));
    assert!(store(&gitlab).await.read(None).await.expect("read").same_as(&value(OLD)));
    let error =
        with(&gitlab, json!({ "project": "shop/none" })).await.observe().await.expect_err("no such project");
    assert!(
        error.kind == ErrorKind::NotFound && error.message.contains("404 Project Not Found"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_refusal_says_what_the_token_needs() {
    let gitlab = Gitlab::start().await;
    gitlab.add(PROJECTS, "TOKEN", OLD, json!({}));
    gitlab.add(GROUPS, "TOKEN", OLD, json!({}));
    for (mode, kind, words) in [
        (Mode::Forbids, ErrorKind::Denied, "Maintainer in the project shop/web"),
        (Mode::Hides, ErrorKind::NotFound, "Maintainer in the project shop/web"),
        (Mode::Blocks, ErrorKind::NoAnswer, "which proxy"),
        (Mode::Throttles, ErrorKind::Throttled, ""),
    ] {
        gitlab.mode(Mode::Honest);
        let store = store(&gitlab).await;
        gitlab.mode(mode);
        for error in [
            store.observe().await.expect_err("refused"),
            promote(&*store, NEW, OLD).await.expect_err("refused"),
        ] {
            assert_eq!((error.kind, error.in_doubt), (kind, false), "{error:?}");
            assert!(error.hint.as_deref().unwrap_or_default().contains(words), "{error:?}");
            let wait = (mode == Mode::Throttles).then_some(Duration::from_secs(7));
            assert_eq!(error.retry_after, wait, "{error:?}");
        }
    }
    gitlab.mode(Mode::Forbids);
    let error = with(&gitlab, json!({ "group": GROUP.0 })).await.observe().await.expect_err("refused");
    assert!(error.hint.is_some_and(|hint| hint.contains("Owner in the group shop")));

    gitlab.mode(Mode::Honest);
    let other = provider(&gitlab.url, "glpat-hunter2-hunter2", DEADLINE);
    let store = store_of(&other, json!({ "type": "random" }), json!({ "project": PROJECT.0 })).await;
    let error = store.observe().await.expect_err("another token");
    assert!(error.kind == ErrorKind::Refused && error.message.contains("401 Unauthorized"), "{error:?}");
    let hint = error.hint.as_deref().unwrap_or_default();
    assert!(hint.contains("GITLAB_TOKEN") && hint.contains("scope `api`"), "{error:?}");
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
}

/// A token that only reads would fail at cutover: it is found with the connection.
#[tokio::test]
async fn the_connection_says_whether_the_token_can_write() {
    let gitlab = Gitlab::start().await;
    for (scopes, verdict) in
        [(json!(["api"]), CheckVerdict::Pass), (json!(["read_api", "read_repository"]), CheckVerdict::Fail)]
    {
        gitlab.scopes(scopes);
        let provider = provider(&gitlab.url, &gitlab.operator, DEADLINE);
        let checks = provider.preflight("gitlab").await;
        let token = checks.iter().find(|check| check.name == "token").expect("a check");
        assert!(token.verdict == verdict && token.detail.contains("`api`"), "{token:?}");
        assert!(
            provider.secrets().iter().any(|secret| secret.expose() == gitlab.operator),
            "no text may quote it"
        );
    }
    let other = provider(&gitlab.url, "glpat-hunter2-hunter2", DEADLINE);
    let checks = other.preflight("gitlab").await;
    assert!(failures(&checks).iter().any(|failed| failed.contains("401")), "{checks:?}");
    assert!(!format!("{checks:?}").contains("hunter2"), "{checks:?}");
    // Nothing else may carry the operator's token.
    let connection = json!({ "type": "gitlab", "address": gitlab.url, "variable": "HOME" });
    let connections =
        BTreeMap::from([("gitlab".to_owned(), serde_json::from_value(connection).expect("words"))]);
    let checks =
        RealProvider::new(connections, Arc::new(SystemClock::new()), DEADLINE).preflight("gitlab").await;
    assert!(failures(&checks).iter().any(|failed| failed.contains("STANCH_")), "{checks:?}");
}

#[tokio::test]
async fn a_refusal_that_echoes_the_value_is_named_without_it() {
    let gitlab = Gitlab::start().await;
    let text = json!({ "value": OLD, "other": "neighbour-of-the-canary" }).to_string();
    gitlab.add(PROJECTS, "TOKEN", &text, json!({}));
    let store = with(&gitlab, json!({ "project": PROJECT.0, "field": "value" })).await;
    gitlab.mode(Mode::Echoes);
    let error = promote(&*store, NEW, OLD).await.expect_err("refused");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Invalid, false), "{error:?}");
    assert!(error.message.contains("is invalid"), "what GitLab says is told: {error:?}");
    let said = format!("{error:?}");
    assert!(!said.contains("hunter2") && !said.contains("canary"), "{said}");
}

/// Before GitLab 16.9 a write to a group goes to any variable of the key. The scope that is sent back keeps it from
/// changing the wrong one.
#[tokio::test]
async fn an_old_gitlab_never_writes_another_variable_of_the_key() {
    let gitlab = Gitlab::start().await;
    gitlab.add(GROUPS, "TOKEN", "of-production", json!({ "environment_scope": "production" }));
    gitlab.add(GROUPS, "TOKEN", OLD, json!({}));
    gitlab.mode(Mode::OldGroups);
    let store = with(&gitlab, json!({ "group": GROUP.0 })).await;
    let error = promote(&*store, NEW, OLD).await.expect_err("refused");
    assert!(!error.in_doubt && error.message.contains("already been taken"), "{error:?}");
    assert_eq!(gitlab.writes(), 0);
    assert_eq!(gitlab.get(GROUPS, "TOKEN", "production")["value"], "of-production");
}

/// What identifies a value in plans and on the record: the same for the same operator, and not a digest that anyone could
/// try guesses on.
#[tokio::test]
async fn a_version_is_keyed_by_the_operators_token() {
    let gitlab = Gitlab::start().await;
    gitlab.add(PROJECTS, "TOKEN", OLD, json!({}));
    let version = store(&gitlab).await.observe().await.expect("observe").current.expect("a version");
    assert_eq!(store(&gitlab).await.observe().await.expect("observe").current.as_ref(), Some(&version));
    // Another server that has the same value, and an operator of its own.
    let other = Gitlab::start().await;
    other.add(PROJECTS, "TOKEN", OLD, json!({}));
    assert_ne!(store(&other).await.observe().await.expect("observe").current, Some(version));
}

/// A run whose write was answered with a success, and is not there, is never done, and the old credential lives.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a while: scripts/test"]
async fn a_server_that_says_yes_and_writes_nothing_never_ends_as_done() {
    let world = World::gitlab().await;
    let World::Gitlab { gitlab, .. } = &world else { panic!("it is this world") };
    let consumer = world.consumer().await;
    let tool = world.tool();
    let dump = tool.state().join("environment");
    // A program of the runbook's, which must not get the operator's token.
    let phases = format!(
        "prepare: {{ before: [{{ name: dump, exec: [sh, -c, 'env > {}'], undo: none }}] }}\n  overlap: {{ until: [adopted] }}",
        dump.display()
    );
    let runbook = tool.runbook(&world.runbook_of(&consumer, Some(&phases)));
    let before = world.current().await;
    gitlab.mode(Mode::SaysYes);
    let ran = tool.done(&["run", runbook.to_str().expect("path"), "--env", "test", "--yes"]).await;
    assert!(ran.code != Some(0) && !ran.stdout.contains("DONE"), "{ran:?}");
    assert_eq!(world.current().await, before);
    assert!(world.accepts(&before).await, "the old credential was killed while the variable has it");
    let environment = std::fs::read_to_string(dump).expect("the program ran");
    assert!(environment.contains("STANCH_RUN=") && !environment.contains("GITLAB_TOKEN"), "{environment}");
    gitlab.mode(Mode::Honest);
    tool.done(&["resume"]).await.expect(0);
    world.is_rotated(&before).await;
    consumer.never_failed().await;
    search(
        &tool.state(),
        &[World::secret(&before), World::secret(&world.current().await), gitlab.operator.clone()],
    );
}
