//! Stores that are programs of the user's own: the example that is shipped, and programs that do everything wrong.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use stanch::clock::SystemClock;
use stanch::domain::ErrorKind;
use stanch::kind::real::RealProvider;
use stanch::provider::{Ahead, CallContext, CallError, Provider as _, Store};
use stanch::runbook::model::Credential;
use stanch::secret::{Material, Secret};

use crate::appliance_server::{Appliance, Mode, example};
use crate::conformance::{StoreCase, store_keeps_its_promises};
use crate::servers::{context, failures};
use crate::tool::holds;
use crate::worlds::World;

const OLD: &str = "the-old-value-8Zk2";
const NEW: &str = "the-new-value-9Xq3";

fn value(text: &str) -> Material {
    Material::single("value", Secret::new(text))
}

fn write(path: &Path, text: &str) {
    let mut file = std::fs::File::create(path).expect("file");
    std::io::Write::write_all(&mut file, text.as_bytes()).expect("file");
    file.set_permissions(std::fs::Permissions::from_mode(0o700)).expect("mode");
}

/// The store that these words name, of a generated value. No program may take longer than `deadline`.
async fn store_within(deadline: Duration, words: Value) -> Result<Arc<dyn Store>, CallError> {
    store_of(json!({ "type": "random" }), deadline, words).await
}

/// The same, of a credential of this issuer.
async fn store_of(issuer: Value, deadline: Duration, words: Value) -> Result<Arc<dyn Store>, CallError> {
    let mut store = json!({ "type": "pass-through", "place": "app-key", "reads": true, "conditional": true });
    for (key, value) in words.as_object().expect("words") {
        store[key] = value.clone();
    }
    let credential = json!({ "issuer": issuer, "stores": [store] });
    let credential: Credential = serde_json::from_value(credential).expect("a credential");
    let provider = RealProvider::new(Default::default(), Arc::new(SystemClock::new()), deadline);
    provider.store("app-key", &credential, 0).await
}

async fn store(words: Value) -> Arc<dyn Store> {
    store_within(Duration::from_secs(20), words).await.expect("a store")
}

/// A program in shell. It keeps the value in the file `value` of its folder, and the version in `version`; `$1` is the
/// operation, and `$in` what it got.
struct Script {
    folder: tempfile::TempDir,
}

/// How an honest one goes on, by operation.
const OBSERVE: &str = r#"jq -nc --arg v "$(cat version)" '{version: $v}'"#;
const READ: &str = r#"jq -nc --arg v "$(cat version)" --rawfile t value '{version: $v, value: $t}'"#;
const WRITE: &str = r#"[ "$(printf %s "$in" | jq -r .version)" = "$(cat version)" ] || exit 76
printf %s "$in" | jq -j .value > value; echo $(($(cat version) + 1)) > version; jq -nc --arg v "$(cat version)" '{version: $v}'"#;

impl Script {
    /// An honest one, but for these operations.
    fn new(odd: &[(&str, &str)]) -> Self {
        let this = Self { folder: tempfile::tempdir().expect("folder") };
        write(&this.at("value"), OLD);
        write(&this.at("version"), "1\n");
        this.becomes(odd);
        this
    }

    fn becomes(&self, odd: &[(&str, &str)]) {
        let body = |operation: &str, honest: &str| {
            let body = odd.iter().find(|(name, _)| *name == operation).map_or(honest, |(_, body)| *body);
            format!("{operation})\n{body}\n;;\n")
        };
        let text = format!(
            "#!/bin/sh\ncd '{}'\necho $1 >> calls\nin=$(cat)\ncase $1 in\n{}{}{}esac\n",
            self.folder.path().display(),
            body("observe", OBSERVE),
            body("read", READ),
            body("write", WRITE)
        );
        write(&self.at("program"), &text);
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.at(name)).unwrap_or_default()
    }

    /// How often it was asked for a write.
    fn writes(&self) -> usize {
        self.text("calls").lines().filter(|line| *line == "write").count()
    }

    async fn store(&self, mut words: Value) -> Arc<dyn Store> {
        words["argv"] = json!([self.at("program")]);
        store(words).await
    }
}

/// A step that knows the version that is there now.
async fn knowing(store: &dyn Store) -> CallContext {
    CallContext { expected: store.observe().await.expect("observe").current, ..context() }
}

async fn promote(store: &dyn Store) -> Result<stanch::provider::Promoted, CallError> {
    store.promote(&knowing(store).await, &value(NEW), &value(OLD), None).await
}

#[tokio::test]
async fn the_example_keeps_the_promises_of_a_store() {
    for reads in [true, false] {
        let appliance = Appliance::start(OLD).await;
        let folder = tempfile::tempdir().expect("folder");
        write(&folder.path().join("token"), &appliance.operator);
        let argv = json!([example(), folder.path().join("token")]);
        let place = |name: &str| format!("{}/secrets/{name}", appliance.url);
        let store = store(json!({ "argv": argv, "reads": reads, "place": place("app-key") })).await;
        let case = StoreCase { store: store.as_ref(), old: value(OLD), new: value(NEW), nowhere: "\"0\"" };
        store_keeps_its_promises("pass-through", case).await;
        assert_eq!(appliance.value(), OLD, "the old value is back");

        // The server's answers, by the exit status of the example.
        write(&folder.path().join("token"), "another");
        let failed = failures(&store.preflight().await);
        assert!(failed.len() == 1 && failed[0].contains("Denied"), "{failed:?}");
        let elsewhere = json!({ "argv": argv, "reads": reads, "place": place("none") });
        write(&folder.path().join("token"), &appliance.operator);
        let failed = failures(&crate::pass_through::store(elsewhere).await.preflight().await);
        assert!(failed.len() == 1 && failed[0].contains("NotFound"), "{failed:?}");
    }
}

/// What a program has to say is in its exit status and its answer; whatever else happens has one clear end.
#[tokio::test]
async fn every_odd_end_of_a_write_is_a_clear_one() {
    let done = "printf %s \"$in\" | jq -j .value > value; echo 2 > version;";
    let answers = |answer: &str| format!("{done} echo '{answer}'");
    for (why, write, kind, in_doubt) in [
        ("it says to try later", "exit 75".to_owned(), ErrorKind::NotReady, false),
        ("the version is another one", "exit 76".to_owned(), ErrorKind::NotReady, false),
        ("it refuses", "exit 77".to_owned(), ErrorKind::Declined, false),
        ("there is no such place", "exit 66".to_owned(), ErrorKind::NotFound, false),
        ("it fails", "exit 1".to_owned(), ErrorKind::NoAnswer, true),
        ("it fails after its work", format!("{done} exit 1"), ErrorKind::NoAnswer, true),
        ("a signal ends it", "kill -9 $$".to_owned(), ErrorKind::NoAnswer, true),
        ("it answers nothing", done.to_owned(), ErrorKind::Invalid, true),
        ("it answers nonsense", format!("{done} echo done"), ErrorKind::Invalid, true),
        ("it answers a list", answers("[]"), ErrorKind::Invalid, true),
        ("it answers twice", answers("{\"version\":\"2\"}{\"version\":\"2\"}"), ErrorKind::Invalid, true),
        ("it answers more", answers("{\"version\":\"2\",\"more\":1}"), ErrorKind::Invalid, true),
        ("it answers a number", answers("{\"version\":2}"), ErrorKind::Invalid, true),
        ("its version is empty", answers("{\"version\":\"\"}"), ErrorKind::Invalid, true),
        ("its version has spaces", answers("{\"version\":\"a b\"}"), ErrorKind::Invalid, true),
        (
            "its version is long",
            answers(&format!("{{\"version\":\"{}\"}}", "x".repeat(129))),
            ErrorKind::Invalid,
            true,
        ),
        (
            "it answers the value",
            answers(&format!("{{\"version\":\"2\",\"value\":\"{NEW}\"}}")),
            ErrorKind::Invalid,
            true,
        ),
        (
            "its version is the value",
            answers(&format!("{{\"version\":\"{NEW}\"}}")),
            ErrorKind::Invalid,
            true,
        ),
        (
            "its version is a digest of the value",
            format!("{done} jq -nc --arg v \"$(sha256sum < value | cut -c-64)\" '{{version: $v}}'"),
            ErrorKind::Invalid,
            true,
        ),
        (
            "it answers too much",
            format!("{done} head -c 70000 /dev/zero | tr '\\0' ' '; echo '{{}}'"),
            ErrorKind::Invalid,
            true,
        ),
        (
            "it answers not in UTF-8",
            format!("{done} printf '{{\"version\":\"\\377\"}}'"),
            ErrorKind::Invalid,
            true,
        ),
        ("it did nothing", "echo '{\"version\":\"2\"}'".to_owned(), ErrorKind::NoAnswer, true),
        (
            "the version stays",
            format!("{done} echo 1 > version; echo '{{\"version\":\"1\"}}'"),
            ErrorKind::NoAnswer,
            true,
        ),
        ("it answers another version", answers("{\"version\":\"3\"}"), ErrorKind::NoAnswer, true),
    ] {
        for reads in [true, false] {
            let script = Script::new(&[("write", &write)]);
            let store = script.store(json!({ "reads": reads })).await;
            let error = promote(store.as_ref()).await.expect_err(why);
            // Where nothing can be read, another version is another's write.
            let kind = if why == "the version is another one" && !reads { ErrorKind::Conflict } else { kind };
            assert_eq!((error.kind, error.in_doubt), (kind, in_doubt), "{why}, reads {reads}: {error:?}");
            let said = format!("{error:?}");
            assert!(!said.contains(NEW) && !said.contains(OLD), "{why}: {said}");
            assert_eq!(script.writes(), 1, "{why}: it was not asked again");
        }
    }
    // The program says the version that it wrote, and holds another value.
    let script =
        Script::new(&[("write", "echo other > value; echo 2 > version; echo '{\"version\":\"2\"}'")]);
    let error = promote(script.store(json!({})).await.as_ref()).await.expect_err("another value");
    assert!(error.in_doubt && error.message.contains("holds another value"), "{error:?}");
}

/// Nothing of a read is in doubt, and nothing of it is quoted: it may be the value, which stanch does not know yet.
#[tokio::test]
async fn every_odd_end_of_a_look_is_a_clear_one() {
    let shouts = format!("echo '{OLD}' >&2; cat value; exit 3");
    for (why, body, kind) in [
        ("it says to try later", "exit 75".to_owned(), ErrorKind::NotReady),
        ("it refuses", "exit 77".to_owned(), ErrorKind::Denied),
        ("there is no such place", "exit 66".to_owned(), ErrorKind::NotFound),
        ("76 means nothing here", "exit 76".to_owned(), ErrorKind::NoAnswer),
        ("it prints the value and fails", shouts, ErrorKind::NoAnswer),
        ("it answers nonsense", "cat value".to_owned(), ErrorKind::Invalid),
        ("it answers too much", "head -c 70000 /dev/zero | tr '\\0' x".to_owned(), ErrorKind::Invalid),
    ] {
        for (operation, reads) in [("read", true), ("observe", false)] {
            let script = Script::new(&[(operation, &body)]);
            let store = script.store(json!({ "reads": reads })).await;
            let failed = failures(&store.preflight().await);
            assert!(
                failed.len() == 1 && failed[0].contains(&format!("({:?})", Some(kind))),
                "{why}: {failed:?}"
            );
            assert!(!failed[0].contains(OLD), "{why}: {failed:?}");
            let error = store.promote(&context(), &value(NEW), &value(OLD), None).await.expect_err(why);
            assert_eq!((error.kind, error.in_doubt, script.writes()), (kind, false, 0), "{why}: {error:?}");
            assert!(!format!("{error:?}").contains(OLD), "{why}: {error:?}");
        }
    }
    for (why, operation, answer) in [
        ("a time to come", "observe", "{\"version\":\"1\",\"written\":\"9999-01-01T00:00:00Z\"}".to_owned()),
        ("no value", "read", "{\"version\":\"1\"}".to_owned()),
        ("a value that was not asked for", "observe", format!("{{\"version\":\"1\",\"value\":\"{OLD}\"}}")),
        (
            "a version that tells the value",
            "read",
            format!("{{\"version\":\"v-{OLD}\",\"value\":\"{OLD}\"}}"),
        ),
        ("no time", "observe", "{\"version\":\"1\",\"written\":\"yesterday\"}".to_owned()),
    ] {
        let script = Script::new(&[(operation, &format!("echo '{answer}'"))]);
        let store = script.store(json!({ "reads": operation == "read" })).await;
        let failed = failures(&store.preflight().await);
        assert!(
            failed.len() == 1 && failed[0].contains("Invalid") && !failed[0].contains(OLD),
            "{why}: {failed:?}"
        );
    }
}

/// Waits until a process ended: killed, and perhaps not yet waited for.
async fn ends(pid: &str) {
    let stat = PathBuf::from(format!("/proc/{}/stat", pid.trim()));
    let gone = async || {
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone()).await.expect("it was killed");
}

/// What a program left behind cannot write once stanch has looked.
#[tokio::test]
async fn the_children_of_a_program_that_failed_end_with_it() {
    for end in ["kill -9 $$", "exit 1"] {
        let leaves = format!("( sleep 600; echo late > value ) & echo $! > pid\n{end}");
        let script = Script::new(&[("write", &leaves)]);
        let error = promote(script.store(json!({})).await.as_ref()).await.expect_err(end);
        assert!(error.in_doubt, "{end}: {error:?}");
        ends(&script.text("pid")).await;
    }
}

/// A system that honours the key answers the same again to the same write, and does another one.
#[tokio::test]
async fn each_write_has_a_key_of_its_own_and_a_retry_the_same() {
    let keys = "echo \"$STANCH_IDEMPOTENCY_KEY\" >> keys\n";
    let script = Script::new(&[("write", &format!("{keys}exit 75"))]);
    let store = script.store(json!({})).await;
    let step = context();
    for _ in 0..2 {
        store.promote(&step, &value(NEW), &value(OLD), None).await.expect_err("not now");
    }
    // The way back may meet the version that the write met.
    write(&script.at("value"), NEW);
    store.promote(&step, &value(OLD), &value(NEW), Some("1")).await.expect_err("not now");
    script.becomes(&[("write", &format!("{keys}{WRITE}"))]);
    write(&script.at("value"), OLD);
    store.promote(&step, &value(NEW), &value(OLD), None).await.expect("written");
    store.promote(&step, &value(OLD), &value(NEW), Some("1")).await.expect("taken back");
    store.promote(&step, &value(NEW), &value(OLD), None).await.expect("written again");
    let seen = script.text("keys");
    let keys: Vec<&str> = seen.lines().collect();
    let [first, retry, early, done, undo, again] = keys[..] else { panic!("{keys:?}") };
    assert!(first == retry && first == done, "a retry: {keys:?}");
    let mut different = vec![first, early, undo, again];
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), 4, "{keys:?}");
}

/// Neighbours in the same object are secrets, too.
#[tokio::test]
async fn a_neighbour_of_the_credential_is_not_shown() {
    const NEIGHBOUR: &str = "a-neighbour-7Wp4-canary";
    let pair = |id: &str, secret: &str| {
        Material::single("access_key_id", Secret::new(id)).with("secret_access_key", Secret::new(secret))
    };
    let (old, new) = (pair("AKIAOLD", OLD), pair("AKIANEW", NEW));
    let script =
        Script::new(&[("write", "printf %s \"$in\" | jq -r '.value | fromjson | .other' >&2; exit 77")]);
    let object =
        json!({ "access_key_id": "AKIAOLD", "secret_access_key": OLD, "other": NEIGHBOUR }).to_string();
    write(&script.at("value"), &object);
    let words = json!({ "argv": [script.at("program")] });
    let issuer = json!({ "type": "iam-access-key", "connection": "aws", "user": "u" });
    let store = store_of(issuer, Duration::from_secs(20), words).await.expect("a store");
    let error = store.promote(&context(), &new, &old, None).await.expect_err("refused");
    assert_eq!(error.kind, ErrorKind::Declined, "{error:?}");
    assert!(error.message.contains("[redacted]") && !format!("{error:?}").contains(NEIGHBOUR), "{error:?}");
    script.becomes(&[]);
    store.promote(&context(), &new, &old, None).await.expect("written");
    let held: Value = serde_json::from_str(&script.text("value")).expect("JSON");
    let wanted = json!({ "access_key_id": "AKIANEW", "secret_access_key": NEW, "other": NEIGHBOUR });
    assert_eq!(held, wanted, "only the credential changed");
}

/// A program that is not there, may not be executed, or does not end.
#[tokio::test]
async fn a_program_that_cannot_be_started_changes_nothing_and_one_that_hangs_leaves_doubt() {
    let script = Script::new(&[]);
    let missing = store(json!({ "argv": [script.at("none")] })).await;
    let error = missing.observe().await.expect_err("it is not there");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Local, false), "{error:?}");
    let store = script.store(json!({})).await;
    let step = knowing(store.as_ref()).await;
    let program = std::fs::File::open(script.at("program")).expect("file");
    program.set_permissions(std::fs::Permissions::from_mode(0o600)).expect("mode");
    let error = store.promote(&step, &value(NEW), &value(OLD), None).await.expect_err("not executable");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Local, false), "{error:?}");

    let hangs = "printf %s \"$in\" | jq -j .value > value; echo 2 > version; echo $$ > pid; sleep 600";
    let script = Script::new(&[("write", hangs)]);
    let words = json!({ "argv": [script.at("program")] });
    let store = store_within(Duration::from_secs(8), words).await.expect("a store");
    let error = promote(store.as_ref()).await.expect_err("it hangs");
    assert!(error.in_doubt && error.message.contains("was killed"), "{error:?}");
    ends(&script.text("pid")).await;
    // What became of it is found by reading.
    assert!(store.read(None).await.expect("read").same_as(&value(NEW)));
    let again = promote(store.as_ref()).await.expect("it is current");
    assert_eq!((again.was, script.writes()), (None, 1), "it is not written twice");
}

/// The canary: standard input has the value, and nothing else does. What the program prints of it is not shown.
#[tokio::test]
async fn the_value_is_on_standard_input_and_nowhere_else() {
    use base64::Engine as _;
    let spies =
        "tr '\\0' '\\n' < /proc/$$/environ > seen; cat /proc/$$/cmdline >> seen; printf %s \"$in\" > input";
    let base64 = base64::engine::general_purpose::STANDARD.encode(NEW);
    for shouts in ["printf %s \"$in\"", "printf %s \"$in\" | jq -j .value | base64 -w0", "cat value"] {
        let script =
            Script::new(&[("write", &format!("{spies}; {{ echo 'I got:'; {shouts}; }} >&2; exit 77"))]);
        let store = script.store(json!({})).await;
        let step = knowing(store.as_ref()).await;
        let error = store.promote(&step, &value(NEW), &value(OLD), None).await.expect_err("refused");
        let input: Value = serde_json::from_str(&script.text("input")).expect("JSON");
        assert_eq!(input, json!({ "place": "app-key", "version": "1", "value": NEW }));
        let seen = script.text("seen");
        assert!(seen.contains(&format!("STANCH_STEP={}", step.step)) && seen.contains("write"), "{seen}");
        assert!(!seen.contains(NEW) && !seen.contains(OLD), "{seen}");
        let said = format!("{error:?}");
        assert!([NEW, OLD, base64.as_str()].iter().all(|secret| !said.contains(secret)), "{shouts}: {said}");
    }
}

/// Right before the write stanch asks whether it may begin, and after the look.
#[tokio::test]
async fn nothing_is_written_once_a_person_stopped_the_run() {
    for reads in [true, false] {
        let script = Script::new(&[]);
        let store = script.store(json!({ "reads": reads })).await;
        let asked = Arc::new(AtomicUsize::new(0));
        let (counter, calls) = (Arc::clone(&asked), script.at("calls"));
        let looked = std::fs::read_to_string(&calls).unwrap_or_default().lines().count();
        let ahead = Ahead::asking(move || {
            counter.fetch_add(1, Ordering::SeqCst);
            assert!(
                std::fs::read_to_string(&calls).expect("calls").lines().count() > looked,
                "it looked before"
            );
            Err(CallError::rejected(ErrorKind::Cancelled, "stopped"))
        });
        let step = CallContext { ahead, ..context() };
        let error = store.promote(&step, &value(NEW), &value(OLD), None).await.expect_err("stopped");
        assert_eq!((error.kind, error.in_doubt), (ErrorKind::Cancelled, false), "{error:?}");
        assert_eq!(
            (asked.load(Ordering::SeqCst), script.writes(), script.text("value")),
            (1, 0, OLD.to_owned())
        );
    }
}

/// What is not as declared, or does not fit, is refused before anything is sent.
#[tokio::test]
async fn what_the_place_cannot_hold_is_refused() {
    for (words, good, bad) in [
        (json!({ "max_bytes": 18 }), NEW, "the-new-value-9Xq3x"),
        (json!({ "characters": "line" }), "é new", "two\nlines"),
        (json!({ "characters": "ascii" }), "new value", "é"),
        (json!({}), "two\nlines", " "),
    ] {
        let script = Script::new(&[]);
        let store = script.store(words.clone()).await;
        assert_eq!(failures(&store.preflight().await), Vec::<String>::new());
        let error =
            store.promote(&context(), &value(bad), &value(OLD), None).await.expect_err(&words.to_string());
        assert_eq!(
            (error.kind, error.in_doubt, script.writes()),
            (ErrorKind::Invalid, false, 0),
            "{error:?}"
        );
        assert!(!error.message.contains(bad.trim_matches(' ')) || bad == " ", "{error:?}");
        store.promote(&context(), &value(good), &value(OLD), None).await.expect("it fits");
        assert_eq!(script.text("value"), good);
    }
    // What is there does not fit what the runbook says.
    let script = Script::new(&[]);
    let failed = failures(&script.store(json!({ "max_bytes": 17 })).await.preflight().await);
    assert!(failed.len() == 1 && failed[0].contains("18 bytes"), "{failed:?}");
    // What is generated is known before it is.
    let runbook = |store: &str, length: usize| {
        let text = format!(
            "version: 1\nname: t\nenvironments: {{test: {{}}}}\ncredentials:\n  c:\n    issuer: {{type: random, length: {length}}}\n    \
             stores: [{{type: pass-through, argv: [./p], place: x, reads: true, conditional: true, {store}}}]\n"
        );
        let checked = stanch::runbook::check(&stanch::runbook::Source { name: "t".into(), text });
        checked.findings.iter().any(|finding| finding.code == "unfit-value")
    };
    assert!(
        runbook("max_bytes: 39", 40) && !runbook("max_bytes: 40", 40) && !runbook("characters: ascii", 40)
    );
    for place in ["", " ", "a\u{202e}b", "a\nb"] {
        let words = json!({ "argv": ["true"], "place": place });
        store_within(Duration::from_secs(1), words).await.err().expect("no place");
    }
}

/// A write that was overtaken is tried again if the old value is still there, and another's value stays.
#[tokio::test]
async fn a_write_that_was_overtaken_is_tried_again_and_never_over_another_value() {
    let script = Script::new(&[]);
    let store = script.store(json!({})).await;
    write(&script.at("version"), "5\n");
    // Another changes the version only, between the look and the write: the engine tries again.
    let counts = "[ -e once ] || { touch once; echo 6 > version; }\n";
    script.becomes(&[("write", &format!("{counts}{WRITE}"))]);
    let error = promote(store.as_ref()).await.expect_err("overtaken");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::NotReady, false), "{error:?}");
    let promoted = promote(store.as_ref()).await.expect("the next try");
    assert_eq!((promoted.was.as_deref(), promoted.version.as_str()), (Some("6"), "7"));
    // Another's value is never written over.
    write(&script.at("value"), "theirs");
    let error = promote(store.as_ref()).await.expect_err("theirs");
    assert_eq!((error.kind, script.text("value").as_str()), (ErrorKind::Conflict, "theirs"), "{error:?}");
}

/// A place that is gone is written again only if a person asks for that, and only if it is still gone.
#[tokio::test]
async fn a_place_that_is_gone_is_filled_again_where_a_person_wants_that() {
    let gone = "[ -e value ] || exit 66\n";
    let fills = "printf %s \"$in\" | jq -e '.version == null' > null || exit 76\n[ ! -e value ] || exit 76\n\
                 printf %s \"$in\" | jq -j .value > value; echo 9 > version; echo '{\"version\":\"9\"}'";
    for reads in [true, false] {
        let script = Script::new(&[
            ("observe", &format!("{gone}{OBSERVE}")),
            ("read", &format!("{gone}{READ}")),
            ("write", fills),
        ]);
        let store = script.store(json!({ "reads": reads })).await;
        let error = store.refill(&context(), &value(NEW)).await.expect_err("it is there");
        assert_eq!((error.kind, script.writes()), (ErrorKind::Conflict, 0), "{error:?}");
        std::fs::remove_file(script.at("value")).expect("removed");
        let error = store.promote(&context(), &value(NEW), &value(OLD), None).await.expect_err("gone");
        assert_eq!((error.kind, error.in_doubt), (ErrorKind::NotFound, false), "{error:?}");
        assert_eq!(store.refill(&context(), &value(NEW)).await.expect("filled").version, "9");
        assert_eq!(script.text("value"), NEW);
    }
}

/// A rotation in the world of the whole rotations.
async fn rotated(
    reads: bool,
    mode: Mode,
    strategy: &str,
) -> (World, crate::tool::Tool, crate::tool::Ran, Vec<String>) {
    let world = World::pass_through(reads).await;
    let World::PassThrough { appliance, .. } = &world else { unreachable!("it is that") };
    let (consumer, tool) = (world.consumer().await, world.tool());
    let runbook =
        tool.runbook(&world.runbook(&consumer.url, Some("overlap: { until: [adopted], at_most: 3s }")));
    appliance.mode(mode);
    let old = world.existing().await;
    let started = ["run", runbook.to_str().expect("path"), "--env", "test", "--strategy", strategy, "--yes"];
    let ran = tool.done(&started).await;
    (world, tool, ran, old)
}

/// A system that says yes and does nothing: the run never ends as DONE, and under `overlap` nothing is revoked.
#[tokio::test(flavor = "multi_thread")]
async fn a_system_that_lies_is_never_done() {
    for (reads, mode) in
        [(true, Mode::Lies), (true, Mode::LiesWell), (false, Mode::Lies), (false, Mode::LiesWell)]
    {
        let (world, tool, ran, old) = rotated(reads, mode, "overlap").await;
        assert!(ran.code != Some(0) && !ran.stdout.contains("DONE"), "{reads} {mode:?}: {ran:?}");
        assert!(tool.status()["end"] != "done", "{reads} {mode:?}");
        assert!(
            world.existing().await.contains(&old[0]),
            "{reads} {mode:?}: the old one was revoked: {ran:?}"
        );
    }
}

/// A version that tells the value is shown and recorded nowhere. `observe` has no value to hold it against: the run has.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_tells_the_value_is_never_recorded() {
    for (reads, mode) in [
        (true, Mode::ShowsValue),
        (true, Mode::ShowsDigest),
        (false, Mode::ShowsValue),
        (false, Mode::ShowsDigest),
        (false, Mode::ShowsValueLater),
        (false, Mode::ShowsDigestLater),
    ] {
        let (world, tool, ran, _) = rotated(reads, mode, "overlap").await;
        let World::PassThrough { appliance, .. } = &world else { unreachable!("it is that") };
        assert!(ran.code != Some(0) && !ran.stdout.contains("DONE"), "{reads} {mode:?}: {ran:?}");
        assert!(ran.stderr.contains("made from the value"), "{reads} {mode:?}: {ran:?}");
        let began = matches!(mode, Mode::ShowsValueLater | Mode::ShowsDigestLater);
        assert_eq!(
            (tool.journal().is_some(), appliance.writes()),
            (began, began.into()),
            "{mode:?}: {ran:?}"
        );
        let value = appliance.value();
        let digest = Secret::new(value.as_str()).sha256_hex();
        for told in [&value, &digest] {
            assert!(!format!("{ran:?}").contains(told), "{reads} {mode:?}: {ran:?}");
            assert!(!holds(&tool.state(), told), "{reads} {mode:?}: the state has it");
        }
    }
}

/// A reply that is lost is settled by a look; the write is not repeated. One that was overtaken is.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_is_settled_by_a_look() {
    for reads in [true, false] {
        let (world, tool, ran, _) = rotated(reads, Mode::LosesReply, "overlap").await;
        ran.expect(0);
        let World::PassThrough { appliance, .. } = &world else { unreachable!("it is that") };
        assert_eq!(appliance.writes(), 1, "it was not written twice");
        let journal = std::fs::read_to_string(tool.journal().expect("journal")).expect("journal");
        assert!(journal.contains("\"found\":\"applied\""), "it was looked for");
    }
    let (world, tool, ran, _) = rotated(true, Mode::Overtaken, "overlap").await;
    ran.expect(0);
    let journal = std::fs::read_to_string(tool.journal().expect("journal")).expect("journal");
    assert!(journal.contains("ended with status 76"), "the first try is on record");
    let World::PassThrough { appliance, .. } = &world else { unreachable!("it is that") };
    assert_eq!(appliance.writes(), 1);
}

/// Another's write in overlap is noticed before the old credential is touched, and overwritten only when a person says so. A
/// rollback writes over nothing of theirs either.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_wrote_stays_until_a_person_decides() {
    for reads in [true, false] {
        let world = World::pass_through(reads).await;
        let World::PassThrough { appliance, .. } = &world else { unreachable!("it is that") };
        let (consumer, tool) = (world.consumer().await, world.tool());
        let runbook = tool.runbook(&world.runbook(&consumer.url, Some("overlap: { until: [adopted] }")));
        let before = world.current().await;
        let path = runbook.to_str().expect("path");
        tool.done(&["run", path, "--env", "test", "--yes", "--until", "overlap"]).await.expect(0);
        appliance.write("another");
        let ran = tool.done(&["resume"]).await;
        assert!(
            ran.code != Some(0) && ran.stderr.contains("holds a value that this run did not write"),
            "{ran:?}"
        );
        assert!(world.accepts(&before).await, "the old one was not touched");
        assert_eq!(
            (appliance.value().as_str(), appliance.writes()),
            ("another", 1),
            "it was not overwritten"
        );
        tool.done(&["rollback", "--yes"]).await.expect(14);
        assert_eq!(appliance.writes(), 1, "nor by the rollback");
        tool.done(&["resume", "--forward", "--until", "cutover"]).await;
        tool.done(&["resume", "--rewrite", "app-key"]).await.expect(0);
        world.is_rotated(&before).await;
    }
}

/// What the plan says, and what it refuses.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_what_the_program_cannot_do_and_refuses_what_it_needs() {
    let world = World::pass_through(false).await;
    let (tool, text) = (world.tool(), world.runbook("http://127.0.0.1:9", None));
    let plan = async |text: String| {
        let runbook = tool.runbook(&text);
        tool.done(&["plan", runbook.to_str().expect("path"), "--env", "test"]).await
    };
    let file = text.lines().find(|line| line.contains("type: file")).expect("a file");
    let ran = plan(text.replace(&format!("{file}\n"), "")).await.expect(65);
    assert!(ran.stderr.contains("no store of this credential can be read"), "{ran:?}");
    let attest = text.lines().find(|line| line.contains("attest:")).expect("a consumer");
    let ran = plan(text.replace(&format!("{attest}\n"), "")).await.expect(65);
    assert!(ran.stderr.contains("no consumer of this credential has `attest`"), "{ran:?}");
    let ran = plan(text.replace("reads: false, ", "")).await.expect(65);
    assert!(ran.stderr.contains("`reads`"), "{ran:?}");
    let ran = plan(text.replace("/program]", "/missing]")).await;
    assert!(ran.code != Some(0) && ran.stderr.contains("pass-through"), "{ran:?}");

    let consumer = world.consumer().await;
    let ran = plan(world.runbook(&consumer.url, None).replace("conditional: true", "conditional: false"))
        .await
        .expect(0);
    for said in
        ["stanch knows pass-through app-key only by what", "a write to pass-through app-key has no condition"]
    {
        assert!(ran.stdout.contains(said), "{said}: {ran:?}");
    }
}
