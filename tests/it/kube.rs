//! A Secret of Kubernetes as a store, against the real API server with etcd. It is trusted for everything: resource
//! versions, field managers, RBAC, validation, limits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use stanch::clock::SystemClock;
use stanch::domain::{Check, CheckVerdict, ErrorKind};
use stanch::kind::kubernetes::secret::SecretStore;
use stanch::kind::kubernetes::{KubeClient, Kubernetes, Settings};
use stanch::kind::real::RealProvider;
use stanch::provider::layout::Layout;
use stanch::provider::{Provider as _, Store};
use stanch::runbook::model;
use stanch::secret::{Material, Secret};

use crate::conformance::{StoreCase, store_keeps_its_promises};
use crate::kube_server::{Namespace, VERBS};
use crate::servers::{DEADLINE, context, failures};
use crate::worlds::World;

fn client(namespace: &Namespace, token: &str) -> Arc<KubeClient> {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("config");
    std::io::Write::write_all(
        &mut std::fs::File::create(&path).expect("file"),
        namespace.kubeconfig(token).as_bytes(),
    )
    .expect("file");
    let path = path.display().to_string();
    let env = |name: &str| (name == "KUBECONFIG").then(|| path.clone());
    let spec = Kubernetes { context: None, address: Some(namespace.url.clone()) };
    let settings = Settings::resolve(&spec, &env).expect("settings");
    Arc::new(KubeClient::new(settings, DEADLINE).expect("client"))
}

fn layout(field: &str) -> Layout {
    Layout::new(&["token"], Some(field), &BTreeMap::new()).expect("layout")
}

fn token(text: &str) -> Material {
    Material::single("token", Secret::new(text))
}

/// A store on the Secret `app`, as an operator with what it needs.
async fn store(namespace: &Namespace, field: &str) -> SecretStore {
    store_as(namespace, &namespace.operator("app").await, field, false)
}

fn store_as(namespace: &Namespace, token: &str, field: &str, force: bool) -> SecretStore {
    SecretStore::new(client(namespace, token), &namespace.name, "app", layout(field), force).expect("a store")
}

fn warned(checks: &[Check], words: &str) -> bool {
    checks.iter().any(|check| check.verdict == CheckVerdict::Warn && check.detail.contains(words))
}

#[tokio::test]
#[ignore = "needs Kubernetes: scripts/test --all"]
async fn secrets_conform() {
    let namespace = Namespace::new().await;
    namespace.secret("app", &json!({ "token": "old", "note": "kept" })).await;
    let one = store(&namespace, "token").await;
    let (old, new) = (token("old"), token("new"));
    store_keeps_its_promises("kubernetes-secret", StoreCase { store: &one, old, new, nowhere: "1" }).await;
    assert_eq!(namespace.texts("app").await, json!({ "token": "old", "note": "kept" }));

    // Two parts, in keys of their own.
    let namespace = Namespace::new().await;
    namespace.secret("app", &json!({ "id": "AKIAOLD", "key": "old", "note": "kept" })).await;
    let parts = ["access_key_id", "secret_access_key"];
    let fields = parts.iter().zip(["id", "key"]).map(|(p, f)| ((*p).to_owned(), f.to_owned())).collect();
    let both = Layout::new(&["access_key_id", "secret_access_key"], None, &fields).expect("layout");
    let pair = |id, key| Material::single(parts[0], Secret::new(id)).with(parts[1], Secret::new(key));
    let operator = client(&namespace, &namespace.operator("app").await);
    let both = SecretStore::new(operator, &namespace.name, "app", both, false).expect("a store");
    let (old, new) = (pair("AKIAOLD", "old"), pair("AKIANEW", "new"));
    store_keeps_its_promises("kubernetes-secret", StoreCase { store: &both, old, new, nowhere: "1" }).await;
}

/// Bytes that are no text, labels, annotations, the type, and what other managers wrote.
#[tokio::test]
#[ignore = "needs Kubernetes: scripts/test --all"]
async fn everything_else_of_a_secret_stays() {
    let namespace = Namespace::new().await;
    let binary = STANDARD.encode([0u8, 0xff, 0xfe, 10]);
    let fields = json!({
        "type": "example.com/mine", "data": { "binary": binary }, "stringData": { "token": "old" },
        "metadata": { "labels": { "a": "b" }, "annotations": { "c": "d" }, "finalizers": ["example.com/keep"] },
    });
    namespace.secret_with("app", fields).await;
    assert_eq!(namespace.apply("app", "theirs", &json!({ "theirs": "x" })).await.0, 200);
    let before = namespace.get("app").await;
    let store = store(&namespace, "token").await;
    store.promote(&context(), &token("new\u{e9}\n"), &token("old"), None).await.expect("promote");
    let after = namespace.get("app").await;
    assert_eq!(after["data"]["token"], STANDARD.encode("new\u{e9}\n"));
    for field in [
        "/data/binary",
        "/data/theirs",
        "/type",
        "/metadata/labels",
        "/metadata/annotations",
        "/metadata/finalizers",
    ] {
        assert!(
            before.pointer(field).is_some() && before.pointer(field) == after.pointer(field),
            "{field}: {after}"
        );
    }
    let owner = |manager: &str| {
        let entries = after["metadata"]["managedFields"].as_array().expect("managers").iter();
        entries
            .filter(|entry| entry["manager"] == manager)
            .map(|e| e["fieldsV1"].to_string())
            .collect::<String>()
    };
    assert_eq!(owner("stanch"), r#"{"f:data":{"f:token":{}}}"#, "one key, and nothing else");
    assert!(owner("theirs").contains("f:theirs"), "{after}");
    // What stanch wrote can be patched by a person, and by a controller that forces it.
    namespace.patch("app", "kubectl-patch", &json!({ "stringData": { "token": "by hand" } })).await;
    assert_eq!(namespace.texts("app").await["token"], "by hand");
}

/// One manager writes both, and one that leaves out what it wrote before would remove it.
#[tokio::test]
#[ignore = "needs Kubernetes: scripts/test --all"]
async fn two_credentials_in_one_secret_keep_each_other() {
    let namespace = Namespace::new().await;
    namespace.secret("app", &json!({ "one": "old-1", "two": "old-2" })).await;
    let (one, two) = (store(&namespace, "one").await, store(&namespace, "two").await);
    assert_eq!(one.place().await.expect("place"), two.place().await.expect("place"));
    one.promote(&context(), &token("new-1"), &token("old-1"), None).await.expect("the first");
    two.promote(&context(), &token("new-2"), &token("old-2"), None).await.expect("the second");
    assert_eq!(namespace.texts("app").await, json!({ "one": "new-1", "two": "new-2" }));
    one.promote(&context(), &token("old-1"), &token("new-1"), None).await.expect("back");
    assert_eq!(namespace.texts("app").await, json!({ "one": "old-1", "two": "new-2" }));
}

/// Neighbours that are written between our read and our write make us read again; the own key stops us.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Kubernetes: scripts/test --all"]
async fn others_who_write_meanwhile_are_not_overwritten() {
    let namespace = Namespace::new().await;
    namespace.secret("app", &json!({ "token": "v0", "count": "0" })).await;
    let store = store(&namespace, "token").await;
    let (theirs, enough) = (namespace.clone(), Arc::new(AtomicBool::new(false)));
    let stop = Arc::clone(&enough);
    let writer = tokio::spawn(async move {
        let mut count = 0;
        while !stop.load(Ordering::SeqCst) {
            count += 1;
            theirs.patch("app", "theirs", &json!({ "stringData": { "count": count.to_string() } })).await;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        count
    });
    for n in 0..20 {
        let (from, to) = (token(&format!("v{n}")), token(&format!("v{}", n + 1)));
        // Where too many of theirs came between, nothing was written, and the step is tried again.
        while let Err(error) = store.promote(&context(), &to, &from, None).await {
            assert!(error.kind == ErrorKind::Conflict && !error.in_doubt, "{error:?}");
        }
        // What a look found can be read, also when it is overtaken.
        let current = store.observe().await.expect("observe").current.expect("a version");
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(store.read(Some(&current)).await.expect("read").same_as(&to));
    }
    enough.store(true, Ordering::SeqCst);
    let count = writer.await.expect("the other writer");
    assert!(count > 20, "it wrote all the time");
    assert_eq!(namespace.texts("app").await, json!({ "token": "v20", "count": count.to_string() }));
    namespace.patch("app", "theirs", &json!({ "stringData": { "token": "theirs" } })).await;
    let error = store.promote(&context(), &token("new"), &token("v20"), None).await.expect_err("theirs");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Conflict, false), "{error:?}");
    assert_eq!(namespace.texts("app").await["token"], "theirs");
}

/// Both read the same version: only one of them writes on it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Kubernetes: scripts/test --all"]
async fn of_two_who_write_one_key_at_once_one_is_refused() {
    let namespace = Namespace::new().await;
    namespace.secret("app", &json!({ "token": "v" })).await;
    let (one, two) = (store(&namespace, "token").await, store(&namespace, "token").await);
    let mut from = token("v");
    for n in 0..20 {
        let (a, b) = (token(&format!("a{n}")), token(&format!("b{n}")));
        let (context, other) = (context(), context());
        let both = tokio::join!(one.promote(&context, &a, &from, None), two.promote(&other, &b, &from, None));
        let (won, lost) = match both {
            (Ok(_), Err(lost)) => (a, lost),
            (Err(lost), Ok(_)) => (b, lost),
            both => panic!("not one of two: {both:?}"),
        };
        assert_eq!((lost.kind, lost.in_doubt), (ErrorKind::Conflict, false), "{lost:?}");
        assert!(one.read(None).await.expect("read").same_as(&won));
        from = won;
    }
}

#[tokio::test]
#[ignore = "needs Kubernetes: scripts/test --all"]
async fn each_verb_that_is_missing_is_named_with_the_rule_that_adds_it() {
    let namespace = Namespace::new().await;
    namespace.secret("app", &json!({ "token": "old" })).await;
    for missing in VERBS {
        let held: Vec<&str> = VERBS.into_iter().filter(|verb| *verb != missing).collect();
        let rules = [("secrets", "app", held.as_slice()), ("namespaces", &namespace.name, &["get"])];
        let store = store_as(&namespace, &namespace.account(&rules).await, "token", false);
        let checks = store.preflight().await;
        let failed: Vec<&Check> = checks.iter().filter(|c| c.verdict == CheckVerdict::Fail).collect();
        let [failed] = failed[..] else { panic!("{missing}: {checks:?}") };
        assert!(failed.kind == Some(ErrorKind::Denied) && failed.detail.contains(missing), "{failed:?}");
        let hint = failed.hint.as_deref().expect("a hint");
        let rule = hint.split('`').nth(1).expect("a rule");
        // The rule is enough, as it stands.
        let rule: Value = serde_yaml::from_str(rule).expect("YAML");
        assert_eq!(
            rule,
            json!({ "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["app"], "verbs": [missing] })
        );
        let error = store.promote(&context(), &token("new"), &token("old"), None).await.expect_err(missing);
        assert_eq!((error.kind, error.in_doubt), (ErrorKind::Denied, false), "{error:?}");
    }
    // Without a look at the namespace a run is possible, and that is said.
    let narrow = namespace.account(&[("secrets", "app", &VERBS)]).await;
    let checks = store_as(&namespace, &narrow, "token", false).preflight().await;
    assert!(failures(&checks).is_empty() && warned(&checks, "being deleted"), "{checks:?}");
    assert_eq!(namespace.texts("app").await["token"], "old", "nothing was written");
}

#[tokio::test]
#[ignore = "needs Kubernetes: scripts/test --all"]
async fn what_cannot_be_written_is_found_before_anything_is_issued() {
    let namespace = Namespace::new().await;
    let refused = async |texts: Value, more: Value, words: &str, kind: ErrorKind| {
        let mut fields = more;
        fields["stringData"] = texts;
        namespace.secret_with("app", fields).await;
        let store = store(&namespace, "token").await;
        let failed = failures(&store.preflight().await);
        assert!(failed.len() == 1 && failed[0].contains(words), "{words}: {failed:?}");
        let error = store.promote(&context(), &token("new"), &token("old"), None).await;
        let _ =
            namespace.ask("DELETE", &namespace.path("secrets/app"), "application/json", &Value::Null).await;
        error.err().map(|error| assert!(error.kind == kind && !error.in_doubt, "{error:?}"))
    };
    let old = || json!({ "token": "old" });
    assert!(
        refused(old(), json!({ "immutable": true }), "immutable", ErrorKind::Unsupported).await.is_some()
    );
    let missing = refused(json!({ "other": "x" }), json!({}), "no key `token`", ErrorKind::NotFound).await;
    assert!(missing.is_some());
    refused(json!({ "token": "old\n" }), json!({}), "cannot be seen", ErrorKind::Conflict).await;
    // One byte less than the most: the present value fits, a longer one does not.
    let full = json!({ "token": "old", "rest": "x".repeat((1 << 20) - 3) });
    refused(full, json!({}), "1048576 at most", ErrorKind::Invalid).await;

    let store = store(&namespace, "token").await;
    let failed = failures(&store.preflight().await);
    assert!(failed.len() == 1 && failed[0].contains("NotFound"), "{failed:?}");

    // Bytes that are no text.
    let fields = json!({ "data": { "token": STANDARD.encode([0xff, 0xfe]) } });
    namespace.secret_with("app", fields).await;
    let failed = failures(&store.preflight().await);
    assert!(failed.len() == 1 && failed[0].contains("not UTF-8"), "{failed:?}");
}

#[tokio::test]
#[ignore = "needs Kubernetes: scripts/test --all"]
async fn a_secret_and_a_namespace_that_are_being_deleted_are_refused() {
    let namespace = Namespace::new().await;
    let fields =
        json!({ "stringData": { "token": "old" }, "metadata": { "finalizers": ["example.com/keep"] } });
    namespace.secret_with("app", fields).await;
    let store = store(&namespace, "token").await;
    assert_eq!(failures(&store.preflight().await), Vec::<String>::new());
    namespace.done("DELETE", &namespace.path("secrets/app"), &Value::Null).await;
    let failed = failures(&store.preflight().await);
    assert!(failed.len() == 1 && failed[0].contains("is being deleted since"), "{failed:?}");
    let error = store.promote(&context(), &token("new"), &token("old"), None).await.expect_err("deleted");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Conflict, false), "{error:?}");

    let path = format!("/api/v1/namespaces/{}", namespace.name);
    namespace.done("DELETE", &path, &Value::Null).await;
    let failed = failures(&store.preflight().await);
    assert!(failed.iter().any(|f| f.contains("the namespace is being deleted")), "{failed:?}");
}

/// A key that another program applies: refused before, refused by the server, and taken over where the runbook says so.
#[tokio::test]
#[ignore = "needs Kubernetes: scripts/test --all"]
async fn a_key_that_another_manager_applies_is_taken_over_only_where_the_runbook_says_so() {
    let namespace = Namespace::new().await;
    let declared = json!({ "token": "old", "note": "theirs" });
    assert_eq!(namespace.apply("app", "argocd-controller", &declared).await.0, 201);
    let operator = namespace.operator("app").await;
    let careful = store_as(&namespace, &operator, "token", false);
    let checks = careful.preflight().await;
    let failed = failures(&checks);
    assert!(failed.len() == 1 && failed[0].contains("`argocd-controller`"), "{failed:?}");
    assert!(warned(&checks, "Argo CD writes this Secret"), "{checks:?}");
    let error =
        careful.promote(&context(), &token("new"), &token("old"), None).await.expect_err("a conflict");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Unsupported, false), "{error:?}");
    let said = format!("{} {}", error.message, error.hint.as_deref().unwrap_or_default());
    assert!(said.contains("argocd-controller") && said.contains("force_conflicts: true"), "{said}");
    assert_eq!(namespace.texts("app").await["token"], "old");

    let bold = store_as(&namespace, &operator, "token", true);
    let checks = bold.preflight().await;
    assert!(failures(&checks).is_empty() && warned(&checks, "takes it over"), "{checks:?}");
    bold.promote(&context(), &token("new"), &token("old"), None).await.expect("taken over");
    assert_eq!(namespace.texts("app").await, json!({ "token": "new", "note": "theirs" }));
    // The controller is told, and its other keys are its own as before.
    let (status, answer) = namespace.apply("app", "argocd-controller", &declared).await;
    assert!(status == 409 && answer["message"].as_str().is_some_and(|m| m.contains("stanch")), "{answer}");
    assert_eq!(failures(&careful.preflight().await), Vec::<String>::new());

    // Who applies texts: the server sees no conflict with it, and stanch does.
    let texts = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "texts" }, "stringData": { "token": "old" } });
    let path = namespace.path("secrets/texts?fieldManager=flux");
    let (status, answer) = namespace.ask("PATCH", &path, "application/apply-patch+yaml", &texts).await;
    assert_eq!(status, 201, "{answer}");
    let operator = namespace.operator("texts").await;
    let careful =
        SecretStore::new(client(&namespace, &operator), &namespace.name, "texts", layout("token"), false)
            .expect("a store");
    assert!(failures(&careful.preflight().await).iter().any(|failed| failed.contains("`flux`")));
    let error = careful.promote(&context(), &token("new"), &token("old"), None).await.expect_err("held");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Unsupported, false), "{error:?}");
    assert_eq!(namespace.texts("texts").await["token"], "old");
}

/// A place that is gone or empty is filled where a person asks for it, and nothing is made that lacks what it had.
#[tokio::test]
#[ignore = "needs Kubernetes: scripts/test --all"]
async fn a_key_that_is_gone_is_filled_and_a_secret_that_is_gone_is_not_made() {
    let namespace = Namespace::new().await;
    namespace.secret("app", &json!({ "token": "old", "note": "kept" })).await;
    let store = store(&namespace, "token").await;
    namespace.patch("app", "kubectl-edit", &json!({ "data": { "token": null } })).await;
    store.refill(&context(), &token("new")).await.expect("filled");
    assert_eq!(namespace.texts("app").await, json!({ "token": "new", "note": "kept" }));
    namespace.done("DELETE", &namespace.path("secrets/app"), &Value::Null).await;
    let error = store.refill(&context(), &token("new")).await.expect_err("gone");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Unsupported, false), "{error:?}");
    assert!(error.hint.is_some_and(|hint| hint.contains("kubectl create secret")));
    let error = store.promote(&context(), &token("new"), &token("old"), None).await.expect_err("gone");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::NotFound, false), "{error:?}");
    assert_eq!(namespace.ask("GET", &namespace.path("secrets/app"), "", &Value::Null).await.0, 404);
}

/// Who stanch is there is said, and a token that is not valid is named without being shown.
#[tokio::test]
#[ignore = "needs Kubernetes: scripts/test --all"]
async fn the_connection_says_who_stanch_is() {
    let namespace = Namespace::new().await;
    let operator = namespace.operator("app").await;
    for (token, verdict, words) in [
        (operator.as_str(), CheckVerdict::Pass, "system:serviceaccount:"),
        ("hunter2-hunter2", CheckVerdict::Fail, "401"),
    ] {
        let tool = tempfile::tempdir().expect("folder");
        let path = tool.path().join("config");
        let text = namespace.kubeconfig(token);
        std::io::Write::write_all(&mut std::fs::File::create(&path).expect("file"), text.as_bytes())
            .expect("file");
        let path = path.display().to_string();
        let env = Arc::new(move |name: &str| (name == "KUBECONFIG").then(|| path.clone()));
        let connection: model::Connection =
            serde_json::from_value(json!({ "type": "kubernetes", "context": "test" })).expect("words");
        let connections = BTreeMap::from([("cluster".to_owned(), connection)]);
        let clock = Arc::new(SystemClock::new());
        let provider = RealProvider::with_environment(connections, clock, DEADLINE, env);
        let checks = provider.preflight("cluster").await;
        let identity = checks.iter().find(|check| check.name == "identity").expect("a check");
        assert!(identity.verdict == verdict && identity.detail.contains(words), "{identity:?}");
        assert!(
            checks.iter().any(|check| check.name == "clock" && check.verdict == CheckVerdict::Pass),
            "{checks:?}"
        );
        assert!(provider.secrets().iter().any(|secret| secret.expose() == token), "no text may quote it");
        assert!(!format!("{checks:?}").contains(token));
    }
}

/// A controller writes its own value back after cutover. The run notices it before anything that cannot be undone: the old
/// credential, which the Secret has again, is not revoked.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Kubernetes: scripts/test --all"]
async fn a_value_that_a_controller_writes_back_is_noticed_before_the_old_one_dies() {
    let world = World::kube().await;
    let World::Kube { namespace, .. } = &world else { panic!("it is this world") };
    namespace.patch("app", "external-secrets", &json!({ "stringData": { "note": "kept" } })).await;
    namespace.patch("app", "external-secrets", &json!({ "metadata": { "labels": { "x": "y" } } })).await;
    let consumer = world.consumer().await;
    let tool = world.tool();
    let phases = "overlap: { at_least: 4s, until: [adopted] }";
    let runbook = tool.runbook(&world.runbook_of(&consumer, Some(phases)));
    let runbook = runbook.to_str().expect("path");
    let planned = tool.done(&["plan", runbook, "--env", "test"]).await.expect(0);
    assert!(planned.stdout.contains("External Secrets writes this Secret"), "{planned:?}");
    let before = world.current().await;
    let running = tool.start(&["run", runbook, "--env", "test", "--yes"]);
    tool.wait_for("\"type\":\"entered\",\"phase\":\"overlap\"");
    let old = json!({ "stringData": { "token": before["token"] } });
    namespace.patch("app", "external-secrets", &old).await;
    let ran = tokio::task::spawn_blocking(move || running.wait()).await.expect("it ends");
    let ran = ran.expect(10);
    assert!(ran.stdout.contains("holds the old app-key again; nothing was changed"), "{ran:?}");
    assert!(world.accepts(&before).await, "the old credential was killed while the Secret has it");
    // The controller is stopped, and the new value is written once more.
    tool.done(&["resume", "--rewrite", "app-key"]).await.expect(0);
    world.is_rotated(&before).await;
    consumer.never_failed().await;
}
