//! What needs no server of somebody else's: files, programs, and HTTP against small servers here.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use stanch::clock::SystemClock;
use stanch::domain::{ErrorKind, Verdict};
use stanch::kind::file::FileStore;
use stanch::kind::real::RealProvider;
use stanch::provider::layout::Layout;
use stanch::provider::{Provider, Store, Use};
use stanch::runbook::model::{self, FileFormat};
use stanch::secret::{Alphabet, Material, Secret};

use crate::conformance::{StoreCase, issuer_keeps_its_promises, store_keeps_its_promises};
use crate::servers::{closed_port, context, failures, serve};

fn value(text: &str) -> Material {
    Material::single("value", Secret::new(text))
}

fn store(path: &Path, format: FileFormat, key: Option<&str>) -> FileStore {
    let layout = Layout::new(&["value"], None, &BTreeMap::new()).expect("layout");
    FileStore::new(path, format, key.map(str::to_owned), layout).expect("store")
}

fn put(path: &Path, text: &str) {
    let mut file = std::fs::File::create(path).expect("file");
    std::io::Write::write_all(&mut file, text.as_bytes()).expect("write");
    file.set_permissions(std::fs::Permissions::from_mode(0o640)).expect("mode");
}

fn provider() -> RealProvider {
    RealProvider::new(BTreeMap::new(), Arc::new(SystemClock::new()), Duration::from_secs(5))
}

/// Words of a runbook as the model.
fn words<T: serde::de::DeserializeOwned>(yaml: &str) -> T {
    serde_yaml::with::singleton_map_recursive::deserialize(
        serde_yaml::from_str::<serde_yaml::Value>(yaml).expect("YAML"),
    )
    .expect("words")
}

fn credential(yaml: &str) -> model::Credential {
    words(yaml)
}

const RANDOM: &str = "issuer: {type: random}\nstores: [{type: file, path: /x, format: text}]\n";

#[tokio::test]
async fn files_of_every_format_conform() {
    let folder = tempfile::tempdir().expect("folder");
    // No reader of dotenv files agrees with the others on a value with both quotes in it.
    for (name, format, key, text, new) in [
        ("env", FileFormat::Dotenv, Some("PW"), "# x\nA=1 # y\nexport PW='old'\n", "n'ew #: é"),
        ("json", FileFormat::Json, Some("/db/pw"), "{\"db\": {\"pw\": \"old\", \"n\": 1}}\n", "n'e\"w #: é"),
        ("yaml", FileFormat::Yaml, Some("/db/pw"), "db: # c\n  pw: old # d\n  n: 1\n", "n'e\"w #: é"),
        ("text", FileFormat::Text, None, "old\n", "n'e\"w #: é"),
    ] {
        let path = folder.path().join(name);
        put(&path, text);
        let store = store(&path, format, key);
        let (old, new) = (value("old"), value(new));
        store_keeps_its_promises("file", StoreCase { store: &store, old, new, nowhere: "0-0-0.0" }).await;
        let left = std::fs::read_to_string(&path).expect("text");
        assert_eq!(left, text, "back to the same bytes");
        assert_eq!(path.metadata().expect("metadata").mode() & 0o777, 0o640, "the mode is kept");
    }
    let left = std::fs::read_dir(folder.path()).expect("folder").count();
    assert_eq!(left, 4, "no temporary file is left");
}

#[tokio::test]
async fn a_symbolic_link_stays_one_and_other_writers_are_seen() {
    let folder = tempfile::tempdir().expect("folder");
    let (target, link) = (folder.path().join("target"), folder.path().join("link"));
    put(&target, "old\n");
    symlink(&target, &link).expect("link");
    let store = store(&link, FileFormat::Text, None);
    store.promote(&context(), &value("new"), &value("old"), None).await.expect("promote");
    assert!(link.symlink_metadata().expect("metadata").is_symlink());
    assert_eq!(std::fs::read_to_string(&target).expect("text"), "new\n");

    put(&target, "somebody else's\n");
    let error = store.promote(&context(), &value("old"), &value("new"), None).await.expect_err("changed");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Conflict, false));
    assert_eq!(std::fs::read_to_string(&target).expect("text"), "somebody else's\n");
}

#[tokio::test]
async fn files_that_cannot_be_used_fail_preflight_without_being_quoted() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("f");
    let failed = failures(&store(&path, FileFormat::Text, None).preflight().await);
    assert!(failed.len() == 1 && failed[0].contains("NotFound"), "{failed:?}");
    put(&path, "pw: [hunter2");
    for (format, key) in [(FileFormat::Yaml, "pw"), (FileFormat::Json, "pw"), (FileFormat::Dotenv, "pw")] {
        let failed = failures(&store(&path, format, Some(key)).preflight().await);
        assert!(failed.len() == 1 && !failed[0].contains("hunter2"), "{failed:?}");
    }
    let failed = failures(&store(folder.path(), FileFormat::Text, None).preflight().await);
    assert_eq!(failed.len(), 1, "a folder is no file");
}

fn alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}

#[tokio::test]
async fn a_program_gets_the_credential_on_its_input_and_nowhere_else() {
    let folder = tempfile::tempdir().expect("folder");
    let out = folder.path().join("out");
    let script = format!(
        "cat > {0}; tr '\\0' '\\n' < /proc/self/environ >> {0}; cat /proc/$$/cmdline >> {0}",
        out.display()
    );
    let call: model::Call = words(&format!("exec: [sh, -c, {script:?}]"));
    let call = provider().call(&call).await.expect("call");
    let step = context();
    call.perform(&step, Some(&value("hunter2hunter2"))).await.expect("perform");
    let text = std::fs::read_to_string(&out).expect("output");
    assert!(text.starts_with("hunter2hunter2"), "the bare value, without a newline");
    assert_eq!(text.matches("hunter2").count(), 2, "and only there: {text}");
    assert!(text.contains(&format!("STANCH_RUN={}", step.run)), "{text}");
    for name in ["VAULT_TOKEN=", "AWS_SECRET_ACCESS_KEY=", "STANCH_TEST_", "OTEL_EXPORTER_OTLP_HEADERS="] {
        assert!(!text.contains(name), "{name} is withheld");
    }

    let json: model::Call =
        words(&format!("exec: {{argv: [sh, -c, 'cat > {}'], input: json}}", out.display()));
    let call = provider().call(&json).await.expect("call");
    call.perform(&step, Some(&value("x\"y"))).await.expect("perform");
    assert_eq!(std::fs::read_to_string(&out).expect("output"), r#"{"value":"x\"y"}"#);
}

#[tokio::test]
async fn a_program_that_tells_whether_a_step_was_done_gets_no_credential() {
    // It ends with 0 only when its input is empty; with `input: json` too there is nothing to give.
    for exec in ["[sh, -c, '! grep -q .']", "{argv: [sh, -c, '! grep -q .'], input: json}"] {
        let probe: model::Probe = words(&format!("exec: {exec}"));
        let credential = credential(RANDOM);
        let probe = provider().probe("c", &credential, &probe).await.expect("probe");
        assert_eq!(probe.attempt(&Material::default()).await.expect("an answer"), Use::Accepted);
    }
}

#[tokio::test]
async fn how_a_program_ends_says_what_is_known() {
    let perform = |script: &'static str| async move {
        let call: model::Call = words(&format!("exec: {{argv: [sh, -c, {script:?}], timeout: 500ms}}"));
        let call = provider().call(&call).await.expect("call");
        call.perform(&context(), Some(&value("hunter2hunter2"))).await
    };
    perform("exit 0").await.expect("0");
    perform("head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2").await.expect("much output");
    perform("sleep 5 & exit 0").await.expect("what it leaves behind does not hold us up");

    let error = perform("echo first >&2; printf 'no: '>&2; cat >&2; exit 3").await.expect_err("3");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Declined, true));
    assert!(error.message.contains("status 3: no: [redacted]"), "{error:?}");

    for (script, kind) in [("exit 75", ErrorKind::NotReady), ("exit 77", ErrorKind::Declined)] {
        let error = perform(script).await.expect_err(script);
        assert_eq!((error.kind, error.in_doubt), (kind, false), "{script} says that nothing was changed");
    }

    let error = perform("kill -9 $$").await.expect_err("killed");
    assert!(error.in_doubt && error.message.contains("signal 9"), "{error:?}");

    let call: model::Call = words("exec: [/no/such/program]");
    let call = provider().call(&call).await.expect("call");
    let error = call.perform(&context(), None).await.expect_err("none");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Local, false));
}

#[tokio::test]
async fn a_program_that_does_not_end_is_killed_with_its_children() {
    let folder = tempfile::tempdir().expect("folder");
    let pids = folder.path().join("pids");
    let script = format!("sleep 600 & echo $! >> {0}; echo $$ >> {0}; wait", pids.display());
    let call: model::Call = words(&format!("exec: {{argv: [sh, -c, {script:?}], timeout: 400ms}}"));
    let call = provider().call(&call).await.expect("call");
    let error = call.perform(&context(), None).await.expect_err("time-out");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::NoAnswer, true));
    let pids = std::fs::read_to_string(&pids).expect("pids");
    assert_eq!(pids.lines().count(), 2);
    for pid in pids.lines() {
        for _ in 0..50 {
            if !alive(pid) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(!alive(pid), "{pid} outlived the time-out");
    }
}

#[tokio::test]
async fn programs_as_probes_gates_and_attestations() {
    let credential = credential(RANDOM);
    for (script, expected) in
        [("exit 0", Some(true)), ("exit 1", Some(false)), ("exit 2", None), ("kill -9 $$", None)]
    {
        let probe: model::Probe = words(&format!("exec: [sh, -c, {script:?}]"));
        let probe = provider().probe("c", &credential, &probe).await.expect("probe");
        let answer = probe.attempt(&value("v")).await;
        assert_eq!(answer.ok().map(|used| used == Use::Accepted), expected, "{script}");
    }
    for (script, expected) in [
        ("exit 0", Verdict::Pass),
        ("exit 1", Verdict::Fail),
        ("exit 2", Verdict::Error),
        ("sleep 9", Verdict::Error),
    ] {
        let gate: model::Gate = words(&format!("exec: {{argv: [sh, -c, {script:?}], timeout: 300ms}}"));
        let gate = provider().gate(&gate).await.expect("gate");
        assert_eq!(gate.evaluate().await.verdict, expected, "{script}");
    }
    let digest = Secret::new("v").sha256_hex();
    for (script, good, bad) in [
        (format!("echo {digest}; echo sha256:{digest}; echo nonsense"), 2, 1),
        ("true".to_owned(), 0, 1),
        (format!("echo {digest}; exit 1"), 0, 1),
    ] {
        let yaml =
            format!("{RANDOM}consumers: [{{name: c, attest: {{exec: {{argv: [sh, -c, {script:?}]}}}}}}]\n");
        let consumer = provider().consumer("c", &self::credential(&yaml), 0).await.expect("consumer");
        consumer.reload(&context()).await.expect("nothing to reload");
        let answers = consumer.attest().await;
        let is = answers
            .iter()
            .filter(|a| a.as_ref().is_ok_and(|a| a.is_of(&Material::single("v", Secret::new("v")))))
            .count();
        assert_eq!((is, answers.iter().filter(|a| a.is_err()).count()), (good, bad), "{script}");
    }
}

#[tokio::test]
async fn a_request_carries_the_credential_once_and_its_status_is_its_outcome() {
    let app = axum::Router::new()
        .route(
            "/ok",
            post(|headers: HeaderMap, body: String| async move {
                assert_eq!(headers["authorization"], "Bearer s3cr3t-value");
                assert_eq!(headers["content-type"], "application/json");
                assert!(headers.contains_key("idempotency-key"));
                assert!(headers["user-agent"].to_str().expect("text").starts_with("stanch/"));
                assert_eq!(body, r#"{"pw": "s3cr3t-value"}"#);
            }),
        )
        .route(
            "/{status}",
            post(|axum::extract::Path(status): axum::extract::Path<u16>| async move {
                (
                    StatusCode::from_u16(status).expect("status"),
                    [("retry-after", "9"), ("location", "/ok")],
                    "s3cr3t-value",
                )
            }),
        );
    let base = serve(app).await;
    let perform = |path: &'static str| {
        let yaml = format!(
            "http: {{url: \"{base}/{path}?key=hunter2\", bearer: true, body: '{{\"pw\": \"${{secret}}\"}}'}}"
        );
        async move {
            let call = provider().call(&words::<model::Call>(&yaml)).await.expect("call");
            call.perform(&context(), Some(&value("s3cr3t-value"))).await
        }
    };
    perform("ok").await.expect("ok");
    for (path, kind, in_doubt) in [
        ("302", ErrorKind::Invalid, false),
        ("400", ErrorKind::Invalid, false),
        ("401", ErrorKind::Refused, false),
        ("403", ErrorKind::Denied, false),
        ("404", ErrorKind::NotFound, false),
        ("408", ErrorKind::NoAnswer, true),
        ("409", ErrorKind::Conflict, false),
        ("429", ErrorKind::Throttled, false),
        ("500", ErrorKind::NoAnswer, true),
        ("503", ErrorKind::NoAnswer, true),
    ] {
        let error = perform(path).await.expect_err(path);
        assert_eq!((error.kind, error.in_doubt), (kind, in_doubt), "{error:?}");
        assert_eq!(error.retry_after, Some(Duration::from_secs(9)));
        let shown = format!("{error:?}");
        assert!(!shown.contains("s3cr3t") && !shown.contains("hunter2"), "{shown}");
    }
    let call: model::Call = words(&format!("http: {{url: \"http://{}/\"}}", closed_port()));
    let error =
        provider().call(&call).await.expect("call").perform(&context(), None).await.expect_err("down");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Unreachable, false));
    let call: model::Call = words("http: {url: \"not an address\"}");
    let error = provider().call(&call).await.expect("call").perform(&context(), None).await.expect_err("bad");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Invalid, false));
}

#[tokio::test]
async fn a_probe_believes_named_statuses_only() {
    let app = axum::Router::new().route(
        "/{status}",
        get(|axum::extract::Path(status): axum::extract::Path<u16>, headers: HeaderMap| async move {
            assert_eq!(headers["x-api-key"], "v");
            StatusCode::from_u16(status).expect("status")
        }),
    );
    let base = serve(app).await;
    let attempt = |url: String| async move {
        let probe: model::Probe = words(&format!("http: {{url: \"{url}\", header: x-api-key}}"));
        let probe = provider().probe("c", &credential(RANDOM), &probe).await.expect("probe");
        probe.attempt(&value("v")).await
    };
    assert_eq!(attempt(format!("{base}/200")).await.expect("200"), Use::Accepted);
    for refused in [401, 403] {
        assert!(matches!(attempt(format!("{base}/{refused}")).await, Ok(Use::Refused(_))));
    }
    for nothing in [204, 302, 404, 429, 500, 503] {
        let error = attempt(format!("{base}/{nothing}")).await.expect_err("neither");
        assert!(!error.in_doubt, "{error:?}");
    }
    let error = attempt(format!("http://{}/", closed_port())).await.expect_err("down");
    assert_eq!(error.kind, ErrorKind::Unreachable);
}

#[tokio::test]
async fn every_instance_counts_whether_it_answers_or_not() {
    let digest = Secret::new("v").sha256_hex();
    let body = format!(r#"{{"in": {{"use": "{digest}"}}}}"#);
    let app = axum::Router::new()
        .route("/a", get(move || std::future::ready(body)))
        .route("/b", get(|| async { r#"{"in": {"use": "hunter2"}}"# }))
        .route("/c", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }));
    let base = serve(app).await;
    let down = closed_port();
    let yaml = format!(
        "{RANDOM}consumers: [{{name: c, attest: {{http: {{fingerprint: /in/use, \
         urls: [\"{base}/a\", \"{base}/b\", \"{base}/c\", \"http://{down}/\"]}}}}}}]\n"
    );
    let consumer = provider().consumer("c", &credential(&yaml), 0).await.expect("consumer");
    let answers = consumer.attest().await;
    let good: Vec<bool> = answers
        .iter()
        .map(|a| a.as_ref().is_ok_and(|a| a.is_of(&Material::single("v", Secret::new("v")))))
        .collect();
    assert_eq!(good, [true, false, false, false]);
    assert!(answers[1..].iter().all(Result::is_err));
    assert!(!format!("{answers:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_gate_passes_on_a_number_within_bounds_and_on_nothing_else() {
    let number = Arc::new(AtomicU32::new(0));
    let source = Arc::clone(&number);
    let app = axum::Router::new()
        .route(
            "/n",
            get(move || std::future::ready(format!(r#"{{"v": {}}}"#, source.load(Ordering::SeqCst)))),
        )
        .route("/empty", get(|| async { r#"{"data": {"result": []}}"# }))
        .route("/text", get(|| async { "not JSON" }))
        .route("/down", get(|| async { StatusCode::SERVICE_UNAVAILABLE }));
    let base = serve(app).await;
    let gate = |path: &str, pointer: &str, more: &str| {
        let yaml = format!("http: {{url: \"{base}/{path}\", json: {pointer}, at_most: 5{more}}}");
        async move { provider().gate(&words::<model::Gate>(&yaml)).await.expect("gate") }
    };
    for (path, expected) in
        [("empty", Verdict::Inconclusive), ("text", Verdict::Inconclusive), ("down", Verdict::Error)]
    {
        let judgement = gate(path, "/data/result/0/value/1", "").await.evaluate().await;
        assert_eq!(judgement.verdict, expected, "{judgement:?}");
    }
    let twice = gate("n", "/v", ", failures: 2").await;
    assert_eq!(twice.evaluate().await.verdict, Verdict::Pass);
    number.store(6, Ordering::SeqCst);
    assert_eq!(twice.evaluate().await.verdict, Verdict::Inconclusive);
    assert_eq!(twice.evaluate().await.verdict, Verdict::Fail);
}

#[tokio::test]
async fn a_generated_value_is_told_to_its_authority() {
    let provider = provider();
    let plain = provider.issuer("c", &credential(RANDOM)).await.expect("issuer");
    issuer_keeps_its_promises("random", plain.as_ref(), "nobody").await;
    assert!(!plain.traits().revokes);

    let folder = tempfile::tempdir().expect("folder");
    let (applied, revoked) = (folder.path().join("applied"), folder.path().join("revoked"));
    let yaml = format!(
        "issuer: {{type: random, length: 48, apply: {{exec: [sh, -c, 'cat > {}']}}, revoke: {{exec: [sh, -c, 'cat > {}']}}}}\n\
         stores: [{{type: file, path: /x, format: text}}]\n",
        applied.display(),
        revoked.display()
    );
    let issuer = provider.issuer("c", &credential(&yaml)).await.expect("issuer");
    let candidate = issuer.candidate(&context()).expect("candidate");
    let issued = issuer.issue(&context(), Some(&candidate)).await.expect("issue");
    let text = candidate.part("value").expect("value").expose();
    assert_eq!(text.len(), 48);
    assert_eq!(std::fs::read_to_string(&applied).expect("applied"), text);
    assert!(issued.identity.handle.starts_with("random:") && !issued.identity.handle.contains(text));
    issuer.revoke(&context(), &issued.identity.handle, Some(&value("old"))).await.expect("revoke");
    assert_eq!(std::fs::read_to_string(&revoked).expect("revoked"), "old");
    assert_eq!(issuer.life("x").await.expect_err("cannot know").kind, ErrorKind::Unsupported);
    assert!(issuer.revoke(&context(), "x", None).await.is_err(), "it needs the value");

    let weak =
        credential("issuer: {type: random, length: 8}\nstores: [{type: file, path: /x, format: text}]\n");
    assert_eq!(provider.issuer("c", &weak).await.err().expect("too short").kind, ErrorKind::Invalid);
    assert_eq!(Alphabet::default(), Alphabet::Alphanumeric);
}

#[tokio::test]
async fn the_real_provider_says_what_it_cannot_make() {
    let yaml = "lost: {type: vault}\nbox: {type: sandbox}\n";
    let connections: BTreeMap<String, model::Connection> = serde_yaml::from_str(yaml).expect("YAML");
    let env = Arc::new(|_: &str| None);
    let provider = RealProvider::with_environment(
        connections,
        Arc::new(SystemClock::new()),
        Duration::from_secs(5),
        env,
    );
    for (connection, kind) in
        [("lost", ErrorKind::Local), ("box", ErrorKind::Unsupported), ("none", ErrorKind::Invalid)]
    {
        let checks = provider.preflight(connection).await;
        assert!(checks.len() == 1 && checks[0].kind == Some(kind), "{checks:?}");
    }
    let sandbox = credential(
        "issuer: {type: sandbox, connection: box}\nstores: [{type: sandbox, connection: box, path: p}]\n",
    );
    assert_eq!(provider.issuer("c", &sandbox).await.err().expect("no").kind, ErrorKind::Unsupported);
    assert_eq!(provider.store("c", &sandbox, 0).await.err().expect("no").kind, ErrorKind::Unsupported);
    let wrong = credential(
        "issuer: {type: iam-access-key, connection: lost, user: u}\nstores: [{type: kv2, connection: box, mount: m, path: p}]\n",
    );
    assert_eq!(provider.issuer("c", &wrong).await.err().expect("no").kind, ErrorKind::Invalid);
    assert_eq!(provider.store("c", &wrong, 0).await.err().expect("no").kind, ErrorKind::Invalid);
}
