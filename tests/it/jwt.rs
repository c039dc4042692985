//! Keys that sign tokens: a set in a file, and in the shared Vault; a verifier that caches; sets and servers that lie.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use stanch::domain::{Check, CheckVerdict, ErrorKind, Life};
use stanch::kind::file::FileDocument;
use stanch::kind::jwt::{JwtSigningKey, KeyIssuer};
use stanch::kind::vault::kv2::{Kv2Document, Kv2Place};
use stanch::provider::document::{Document, Edit};
use stanch::provider::http::transport::Transport;
use stanch::provider::{CallError, Issuer as _};
use stanch::secret::{Material, Secret};

use crate::conformance::issuer_keeps_its_promises;
use crate::jwt_server::{Keys, Place};
use crate::servers::{Vault, context, failures, unique};
use crate::tool::{Tool, search};
use crate::worlds::World;

fn spec(more: &str) -> JwtSigningKey {
    let text = format!(r#"{{"set":{{"file":"/unused"}},"cache":"2s"{more}}}"#);
    serde_json::from_str(&text).expect("an issuer")
}

fn issuer(document: impl Document + 'static, more: &str) -> KeyIssuer {
    KeyIssuer::new(Arc::new(document), Arc::new(Transport::new(Duration::from_secs(5))), &spec(more))
}

fn in_file(keys: &Keys, more: &str) -> KeyIssuer {
    let Place::Files(folder) = &keys.place else { panic!("no file") };
    issuer(FileDocument::new(folder.path().join("jwks.json")), more)
}

async fn material(keys: &Keys) -> Material {
    let value = keys.current().await;
    let part = |name: &str| Secret::new(value[name].as_str().expect("a part"));
    Material::single("private_key", part("private_key")).with("kid", part("kid"))
}

#[tokio::test]
async fn a_key_in_a_file_keeps_the_promises_of_an_issuer() {
    for algorithm in ["ES256", "EdDSA", "RS256"] {
        let keys = Keys::in_files(1).await;
        let more = format!(r#","algorithm":"{algorithm}","jwks":["{}/jwks.json"]"#, keys.url);
        issuer_keeps_its_promises("jwt-signing-key", &in_file(&keys, &more), "never-was").await;
        keys.is_as_before().await;
        keys.neighbours_are_kept().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn a_key_in_vault_keeps_the_promises_of_an_issuer() {
    let keys = Keys::in_vault(1).await;
    let Place::Vault { vault, set, operator, .. } = &keys.place else { panic!("no Vault") };
    let place = Kv2Place::new("secret", set).expect("a place");
    let document = Kv2Document::new(vault.client_as(operator), place, "jwks").expect("a document");
    issuer_keeps_its_promises("jwt-signing-key", &issuer(document, ""), "never-was").await;
    keys.is_as_before().await;
    keys.neighbours_are_kept().await;
}

/// Whatever is read between the read and the write is not overwritten.
async fn is_not_overwritten(
    document: impl Document + 'static,
    neighbour: impl FnOnce() + Send + 'static,
    text: &str,
) {
    let before = document.read().await.expect("a text");
    let edit = |_: &str| {
        neighbour();
        Ok(Some("{\"keys\": []}".to_owned()))
    };
    let error = document.change(Box::new(edit)).await.expect_err("another was faster");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::NotReady, false), "{error:?}");
    let now = document.read().await.expect("a text");
    assert!(now != before && now == text, "{now}");
    document.change(Box::new(|_| Ok(None))).await.expect("nothing is to be changed");
    assert_eq!(document.read().await.expect("a text"), text);
}

#[tokio::test]
async fn a_file_that_another_program_wrote_meanwhile_is_not_overwritten() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("jwks.json");
    let write = |text: &'static str| {
        let path = path.clone();
        move || {
            let mut file = std::fs::File::create(&path).expect("file");
            std::io::Write::write_all(&mut file, text.as_bytes()).expect("file");
        }
    };
    write("{\"keys\": [], \"first\": 1}")();
    let second = "{\"keys\": [], \"second\": 12}";
    is_not_overwritten(FileDocument::new(&path), write(second), second).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn a_secret_that_another_program_wrote_meanwhile_is_not_overwritten() {
    let (vault, path) = (Vault::shared(), unique("set"));
    let at = format!("secret/data/{path}");
    vault.api("POST", &at, json!({ "data": { "jwks": "first", "note": "kept" } })).await;
    let place = Kv2Place::new("secret", &path).expect("a place");
    let document = Kv2Document::new(vault.client(), place, "jwks").expect("a document");
    let neighbour = move || {
        let write = async move {
            vault.api("POST", &at, json!({ "data": { "jwks": "second", "note": "kept" } })).await
        };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(write));
    };
    is_not_overwritten(document, neighbour, "second").await;
}

#[tokio::test]
async fn what_is_wrong_is_found_before_anything_is_changed() {
    let keys = Keys::in_files(1).await;
    let jwks = |url: &str| format!(r#","jwks":["{url}/jwks.json"]"#);
    let refused = async |issuer: &KeyIssuer| failures(&issuer.preflight(None).await).join("\n");
    assert_eq!(refused(&in_file(&keys, &jwks(&keys.url))).await, "");
    // It lets verifiers use an answer for an hour.
    let slow = Keys::in_files(3600).await;
    assert!(
        refused(&in_file(&keys, &jwks(&slow.url)))
            .await
            .contains("for 1h (Cache-Control), longer than `cache` (2s)")
    );
    let nowhere = format!(r#","jwks":["{}/none.json"]"#, keys.url);
    assert!(refused(&in_file(&keys, &nowhere)).await.contains("answered 404 in place of a JWKS"));
    // One that is down keeps nobody from the kill.
    let down = in_file(&keys, &jwks("http://127.0.0.1:9"));
    assert_eq!(refused(&down).await, "");
    let told = down.preflight(None).await;
    assert!(told.iter().any(|c| c.name == "jwks" && c.verdict == CheckVerdict::Warn), "{told:?}");
    let none = issuer(FileDocument::new("/nowhere/jwks.json"), "");
    assert!(refused(&none).await.contains("NotFound"));
    // What is served is another set.
    let outgoing =
        in_file(&keys, "").identify(&material(&keys).await).await.expect("an answer").expect("known");
    let other = Keys::in_files(1).await;
    let checks = in_file(&keys, &jwks(&other.url)).preflight(Some(&outgoing.identity)).await;
    let warned = |check: &&Check| {
        check.verdict == CheckVerdict::Warn && check.detail.contains("are not given the old key")
    };
    assert_eq!(checks.iter().filter(warned).count(), 1, "{checks:?}");
    let error =
        in_file(&keys, &jwks(&other.url)).attempt(&material(&keys).await).await.expect_err("they differ");
    assert_eq!(error.kind, ErrorKind::NoAnswer, "{error:?}");

    // A store whose kid is not that of the set.
    let one = in_file(&keys, "");
    let wrong = material(&keys).await.with("kid", Secret::new("another"));
    let error = one.identify(&wrong).await.expect_err("verifiers do not find it");
    assert_eq!(error.kind, ErrorKind::Invalid, "{error:?}");
    // Its tokens are refused under this kid, and accepted under the other: that is no refusal of the key.
    let error = one.attempt(&wrong).await.expect_err("neither accepted nor refused");
    assert!(error.message.contains("under another kid"), "{error:?}");
    let error =
        one.identify(&Material::single("private_key", Secret::new("hunter2"))).await.expect_err("no kid");
    assert!(error.kind == ErrorKind::Invalid && !format!("{error:?}").contains("hunter2"), "{error:?}");
    // A stranger's key.
    let stranger = one.candidate(&context()).expect("a key");
    assert_eq!(one.identify(&stranger).await.expect("an answer"), None);
    keys.is_as_before().await;
}

/// A place that says yes to every write, and does nothing.
pub(crate) struct Yes<D>(pub(crate) D, pub(crate) Arc<AtomicBool>);

#[async_trait]
impl<D: Document> Document for Yes<D> {
    fn shown(&self) -> String {
        self.0.shown()
    }

    async fn preflight(&self) -> Vec<Check> {
        self.0.preflight().await
    }

    async fn read(&self) -> Result<String, CallError> {
        self.0.read().await
    }

    async fn change(&self, edit: Edit) -> Result<(), CallError> {
        if self.1.load(Ordering::SeqCst) {
            return edit(&self.0.read().await?).map(drop);
        }
        self.0.change(edit).await
    }

    async fn shares(&self) -> Result<Option<String>, CallError> {
        self.0.shares().await
    }
}

#[tokio::test]
async fn a_set_that_says_yes_and_does_nothing_is_not_believed() {
    let keys = Keys::in_files(1).await;
    let Place::Files(folder) = &keys.place else { panic!("no file") };
    let lies = Arc::new(AtomicBool::new(false));
    let file = FileDocument::new(folder.path().join("jwks.json"));
    let one = issuer(Yes(file, Arc::clone(&lies)), "");
    let kid = one.identify(&material(&keys).await).await.expect("an answer").expect("known").identity.handle;
    let (step, candidate) = (context(), one.candidate(&context()));
    lies.store(true, Ordering::SeqCst);
    let mut errors = vec![
        one.issue(&step, candidate.as_ref()).await.expect_err("nothing was published"),
        one.disable(&step, &kid).await.expect_err("nothing was disabled"),
        one.revoke(&step, &kid, None).await.expect_err("nothing was removed"),
    ];
    lies.store(false, Ordering::SeqCst);
    one.disable(&step, &kid).await.expect("disabled");
    lies.store(true, Ordering::SeqCst);
    errors.push(one.enable(&step, &kid).await.expect_err("nothing was enabled"));
    for error in errors {
        assert!(error.in_doubt && error.message.contains("does not hold what stanch wrote"), "{error:?}");
    }
    assert_eq!(one.life(&kid).await.expect("an answer"), Life::Disabled);
}

/// What verifiers are given stays the old set: the old key is never proved dead.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a while: scripts/test"]
async fn an_address_that_serves_the_old_set_ends_in_no_proof() {
    let world = World::jwt(0).await;
    let World::Jwt(keys) = &world else { unreachable!() };
    let consumer = world.consumer().await;
    let tool = world.tool();
    // No check: the address alone tells.
    let check = format!("    accepts:\n      - http: {{ url: \"{}/check\", bearer: true }}\n", keys.url);
    let text = world.runbook_of(&consumer, None);
    assert!(text.contains(&check), "{text}");
    let runbook = tool.runbook(&text.replace(&check, ""));
    let runbook = runbook.to_str().expect("path");
    tool.run(&["run", runbook, "--env", "test", "--yes", "--until", "overlap"]).expect(0);
    keys.freeze().await;
    let stopped = tool.run(&["resume"]);
    assert_ne!(stopped.code, Some(0), "{}", stopped.stdout);
    assert!(!stopped.stdout.contains("DONE"), "{}", stopped.stdout);
    assert_ne!(tool.status()["end"], "done");
}

/// The new key is delivered, but not at all addresses known: then it is not.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a while: scripts/test"]
async fn a_key_that_verifiers_are_not_given_is_not_delivered() {
    let world = World::jwt(0).await;
    let World::Jwt(keys) = &world else { unreachable!() };
    keys.freeze().await;
    let consumer = world.consumer().await;
    let tool = world.tool();
    let runbook = tool.runbook(&world.runbook_of(&consumer, None));
    let before = keys.current().await;
    let stopped = tool.run(&["run", runbook.to_str().expect("path"), "--env", "test", "--yes"]);
    assert_ne!(stopped.code, Some(0), "{}", stopped.stdout);
    assert_eq!(keys.current().await, before, "the signer has its old key");
    consumer.never_failed().await;
    tool.run(&["rollback", "--yes"]);
    keys.is_as_before().await;
}

/// The check is given a token of the old key, and it is the verifier that says whether it is dead.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a while: scripts/test"]
async fn a_verifier_that_still_takes_tokens_of_the_old_key_ends_in_no_proof() {
    let world = World::jwt(0).await;
    let World::Jwt(keys) = &world else { unreachable!() };
    let consumer = world.consumer().await;
    let tool = world.tool();
    let runbook = tool.runbook(&world.runbook_of(&consumer, None));
    let started = ["run", runbook.to_str().expect("path"), "--env", "test", "--yes", "--until", "revoke"];
    tool.run(&started).expect(0);
    keys.believe_everything();
    let stopped = tool.run(&["resume"]);
    assert!(stopped.code != Some(0) && !stopped.stdout.contains("DONE"), "{}", stopped.stdout);
    let said = stopped.stdout.clone() + &stopped.stderr;
    assert!(said.contains("the old credential is still accepted by check 1"), "{said}");
}

/// A program as a check gets the token on standard input, and never the key.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a while: scripts/test"]
async fn a_check_is_given_a_token_and_not_the_key() {
    let world = World::jwt(0).await;
    let World::Jwt(keys) = &world else { unreachable!() };
    let consumer = world.consumer().await;
    let tool = Tool::new();
    let seen = tool.folder.path().join("seen");
    let script = format!("cat >>{0}; echo >>{0}", seen.display());
    let text = world.runbook_of(&consumer, None);
    let text = text.replace(
        "    stores:",
        &format!("      - exec: [sh, -c, \"{script}\"]\n    rejects:\n      - http: {{ url: \"{}/check\", bearer: true }}\n    stores:", keys.url),
    );
    let (before, runbook) = (World::secret(&keys.current().await), tool.runbook(&text));
    tool.run(&["run", runbook.to_str().expect("path"), "--env", "test", "--yes"]).expect(0);
    let seen = std::fs::read_to_string(seen).expect("what the check was given");
    let tokens: Vec<&str> = seen.lines().collect();
    assert!(tokens.len() > 2, "{} tokens", tokens.len());
    for token in &tokens {
        let header = jsonwebtoken::decode_header(token).expect("a token");
        assert!(header.kid.is_some(), "{header:?}");
    }
    assert!(!seen.contains("PRIVATE KEY") && keys.verified() > 0);
    // Neither keys nor tokens are in a file of the run's.
    let mut secrets = vec![before, World::secret(&keys.current().await)];
    secrets.extend(tokens.iter().map(|token| (*token).to_owned()));
    search(&tool.state(), &secrets);
}
