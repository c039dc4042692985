//! Secrets of GitHub Actions, against a server that follows what GitHub publishes. GitHub itself was not asked.

use std::sync::Arc;

use serde_json::{Value, json};
use stanch::clock::{Clock, SystemClock};
use stanch::domain::{CheckVerdict, ErrorKind};
use stanch::kind::github::secret::{ActionsSecret, GithubActionsSecret};
use stanch::kind::github::{ApiClient, Github as Connection};
use stanch::provider::{CallContext, CallError, Store as _};
use stanch::secret::{Material, Secret};

use crate::conformance::{StoreCase, store_keeps_its_promises};
use crate::github_server::{Github, Mode};
use crate::servers::{DEADLINE, context, failures};
use crate::tool::Consumer;
use crate::worlds::{GITHUB, World};

const NAME: &str = "TOKEN";
const ORG: &str = "/orgs/shop/actions/secrets";

/// The store that these words name, at this address.
fn store_at(
    url: &str,
    token: &str,
    words: &Value,
    parts: &'static [&'static str],
) -> Result<ActionsSecret, CallError> {
    let connection: Connection = serde_json::from_value(json!({ "address": url })).expect("a connection");
    let env = |name: &str| (name == "GITHUB_TOKEN").then(|| token.to_owned());
    let client = Arc::new(ApiClient::new(connection.settings(&env)?, DEADLINE)?);
    let mut all = json!({ "connection": "github" });
    for (key, value) in words.as_object().expect("words") {
        all[key] = value.clone();
    }
    let spec: GithubActionsSecret = serde_json::from_value(all).expect("a store");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    ActionsSecret::new(client, clock, &spec, parts)
}

/// A store for hostile servers.
pub(crate) fn hostile(url: &str) -> ActionsSecret {
    let words = json!({ "repository": "shop/app", "name": NAME });
    store_at(url, "canary-of-the-operator", &words, &["token"]).expect("a store")
}

fn store(github: &Github, words: &Value) -> ActionsSecret {
    store_at(&github.url, &github.operator, words, &["token"]).expect("a store")
}

fn of_repository() -> Value {
    json!({ "repository": "shop/app", "name": NAME })
}

fn token(text: &str) -> Material {
    Material::single("token", Secret::new(text))
}

/// A step that knows the version that is there now.
async fn knowing(store: &ActionsSecret) -> CallContext {
    CallContext { expected: store.observe().await.expect("observe").current, ..context() }
}

#[tokio::test]
async fn it_keeps_the_promises_of_a_store() {
    let owners = [
        (GITHUB, of_repository()),
        (
            "/repos/shop/app/environments/prod%20eu%2F1/secrets",
            json!({ "repository": "shop/app", "environment": "prod eu/1", "name": NAME }),
        ),
        (ORG, json!({ "organization": "shop", "name": NAME })),
    ];
    for (owner, words) in owners {
        let github = Github::start().await;
        github.write_for(owner, NAME, "selected", &[7, 9, 11]);
        let at = |value: &str| github.value(owner, NAME) == value;
        let (store, old, new) = (store(&github, &words), token("old"), token("new"));
        store_keeps_its_promises(
            "github-actions-secret",
            StoreCase { store: &store, old, new, nowhere: "1" },
        )
        .await;
        assert!(at("old"), "a runner gets the old value again");
    }
}

/// The value that a job gets is the credential, sealed on its way; of several parts the one that is asked for.
#[tokio::test]
async fn a_job_gets_what_was_sealed() {
    let github = Github::start().await;
    github.write(GITHUB, NAME, "old", 60);
    let both = Material::single("access_key_id", Secret::new("AKIANEW"))
        .with("secret_access_key", Secret::new("k\n"));
    for (part, value) in [
        (Some("secret_access_key"), "k\n"),
        (None, r#"{"access_key_id":"AKIANEW","secret_access_key":"k\n"}"#),
    ] {
        let mut words = of_repository();
        words.as_object_mut().expect("words").extend(part.map(|part| ("part".to_owned(), part.into())));
        let parts = &["access_key_id", "secret_access_key"];
        let store = store_at(&github.url, &github.operator, &words, parts).expect("a store");
        let step = knowing(&store).await;
        store.promote(&step, &both, &both, None).await.expect("promote");
        assert_eq!(github.value(GITHUB, NAME), value);
    }
}

#[tokio::test]
async fn who_may_use_a_secret_of_an_organization_stays() {
    let words = json!({ "organization": "shop", "name": NAME });
    for (visibility, selected) in
        [("selected", &[3, 1, 2][..]), ("selected", &[]), ("all", &[]), ("private", &[])]
    {
        let github = Github::start().await;
        github.write_for(ORG, NAME, visibility, selected);
        let store = store(&github, &words);
        let step = knowing(&store).await;
        store.promote(&step, &token("new"), &token("old"), None).await.expect("promote");
        assert_eq!(github.used_by(ORG, NAME), (Some(visibility.to_owned()), selected.to_vec()));
        assert_eq!(github.value(ORG, NAME), "new");
    }
    // Half of a list would take the secret from the others.
    let github = Github::start().await;
    github.write_for(ORG, NAME, "selected", &[1, 2, 3]);
    github.mode(Mode::CutsList);
    let store = store(&github, &words);
    assert!(!failures(&store.preflight().await).is_empty());
    let step = knowing(&store).await;
    let error = store.promote(&step, &token("new"), &token("old"), None).await.expect_err("half of the list");
    assert!(!error.in_doubt && github.puts() == 0, "{error:?}");
    // Who may use one that is gone is not known.
    github.remove(ORG, NAME);
    let error = store.refill(&context(), &token("new")).await.expect_err("gone");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Unsupported, false), "{error:?}");
}

/// A limit of requests is no refusal, whichever way GitHub says it, and nothing was done.
#[tokio::test]
async fn a_limit_of_requests_is_waited_for() {
    let limits = [(Mode::Limits, 1..=1), (Mode::LimitsInWords, 60..=60), (Mode::LimitsPerHour, 39..=42)];
    for (mode, wait) in limits {
        let github = Github::start().await;
        github.write(GITHUB, NAME, "old", 60);
        let store = store(&github, &of_repository());
        let step = knowing(&store).await;
        github.mode(mode);
        let error = store.promote(&step, &token("new"), &token("old"), None).await.expect_err("limited");
        assert_eq!((error.kind, error.in_doubt), (ErrorKind::Throttled, false), "{mode:?}: {error:?}");
        let asked = error.retry_after.map(|wait| wait.as_secs());
        assert!(asked.is_some_and(|asked| wait.contains(&asked)), "{mode:?}: {asked:?}");
        store.promote(&step, &token("new"), &token("old"), None).await.expect("then it is taken");
    }
}

#[tokio::test]
async fn a_permission_that_is_missing_is_named() {
    for (words, permission) in [
        (of_repository(), "`Secrets: write` of the repository"),
        (json!({ "repository": "shop/app", "environment": "prod", "name": NAME }), "`Environments: write`"),
        (json!({ "organization": "shop", "name": NAME }), "`Secrets: write` of the organization"),
    ] {
        let github = Github::start().await;
        let store = store(&github, &words);
        // GitHub answers the same where there is none, and where the token may not see it.
        let checks = store.preflight().await;
        let failed = checks.iter().find(|check| check.verdict == CheckVerdict::Fail).expect("no such secret");
        let hint = failed.hint.as_deref().unwrap_or_default();
        assert!(failed.kind == Some(ErrorKind::NotFound) && hint.contains(permission), "{failed:?}");
        for owner in [GITHUB, "/repos/shop/app/environments/prod/secrets", ORG] {
            github.write(owner, NAME, "old", 60);
        }
        // Of a token that is not a classic one, GitHub does not tell what it may.
        let checks = store.preflight().await;
        assert_eq!(failures(&checks), Vec::<String>::new());
        assert!(
            checks.iter().any(|c| c.verdict == CheckVerdict::Warn && c.detail.contains(permission)),
            "{checks:?}"
        );
        github.mode(Mode::Forbids);
        let step = knowing(&store).await;
        let error = store.promote(&step, &token("new"), &token("old"), None).await.expect_err("forbidden");
        assert_eq!((error.kind, error.in_doubt), (ErrorKind::Denied, false), "{error:?}");
        assert!(error.hint.as_deref().is_some_and(|hint| hint.contains(permission)), "{error:?}");
    }
    let github = Github::start().await;
    github.write(GITHUB, NAME, "old", 60);
    // A blank list is what tokens of GitHub's apps have, whatever they may.
    for (scopes, fails) in [("gist, repo", false), ("public_repo, workflow", true), ("", false)] {
        github.scopes(scopes);
        let failed = failures(&store(&github, &of_repository()).preflight().await);
        assert_eq!(!failed.is_empty(), fails, "{scopes}: {failed:?}");
    }
    let stranger = store_at(&github.url, "another", &of_repository(), &["token"]).expect("a store");
    let failed = failures(&stranger.preflight().await);
    assert!(failed[0].contains("Refused"), "{failed:?}");
}

/// The key changed between the two requests: nothing was written, and the next try has the new key.
#[tokio::test]
async fn a_key_that_changes_leaves_no_doubt() {
    let github = Github::start().await;
    github.write(GITHUB, NAME, "old", 60);
    let store = store(&github, &of_repository());
    let step = knowing(&store).await;
    github.mode(Mode::ChangesKey);
    let error = store.promote(&step, &token("new"), &token("old"), None).await.expect_err("another key");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Invalid, false), "{error:?}");
    store.promote(&step, &token("new"), &token("old"), None).await.expect("the new key");
    assert_eq!(github.value(GITHUB, NAME), "new");
}

/// A reply is no proof: without a newer time the outcome is unknown.
#[tokio::test]
async fn a_write_that_changes_nothing_is_in_doubt() {
    let github = Github::start().await;
    github.write(GITHUB, NAME, "old", 60);
    let store = store(&github, &of_repository());
    let step = knowing(&store).await;
    github.mode(Mode::Lies);
    let error = store.promote(&step, &token("new"), &token("old"), None).await.expect_err("a lie");
    assert!(error.in_doubt, "{error:?}");
}

/// What another wrote is not overwritten, unless a person says so.
#[tokio::test]
async fn a_write_of_others_is_a_conflict() {
    let github = Github::start().await;
    github.write(GITHUB, NAME, "old", 60);
    let store = store(&github, &of_repository());
    let step = knowing(&store).await;
    github.write(GITHUB, NAME, "theirs", 30);
    let error = store.promote(&step, &token("new"), &token("old"), None).await.expect_err("theirs");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Conflict, false), "{error:?}");
    assert_eq!((github.value(GITHUB, NAME).as_str(), github.puts()), ("theirs", 0));
    // A person wants it written over.
    let over = CallContext { expected: None, ..step };
    store.promote(&over, &token("new"), &token("old"), None).await.expect("written over");
    assert_eq!(github.puts(), 1);
}

/// Two writes in one second would have one version: the second waits.
#[tokio::test]
async fn two_writes_have_two_versions() {
    let github = Github::start().await;
    github.write(GITHUB, NAME, "old", 0);
    let store = store(&github, &of_repository());
    let mut versions = vec![store.observe().await.expect("observe").current.expect("a version")];
    for value in ["one", "two"] {
        let step = knowing(&store).await;
        versions
            .push(store.promote(&step, &token(value), &token("old"), None).await.expect("promote").version);
    }
    assert!(versions.is_sorted() && versions[0] != versions[1] && versions[1] != versions[2], "{versions:?}");
}

#[tokio::test]
async fn what_cannot_be_a_secret_is_refused_before_anything_is_sent() {
    let github = Github::start().await;
    let long = "x".repeat((48 << 10) + 1);
    github.write(GITHUB, NAME, "old", 60);
    let it = store(&github, &of_repository());
    let step = knowing(&it).await;
    for wrong in [long.as_str(), " "] {
        let error = it.promote(&step, &token(wrong), &token("old"), None).await.expect_err("it does not fit");
        assert!(!error.in_doubt && github.puts() == 0, "{error:?}");
    }
    it.promote(&step, &token(&long[1..]), &token("old"), None).await.expect("48 KB");
    let asked = github.asked().len();
    for words in [
        json!({ "repository": "shop/app", "name": "GITHUB_X" }),
        json!({ "repository": "shop/app", "name": "github_x" }),
        json!({ "repository": "shop/app", "name": "1X" }),
        json!({ "repository": "shop/app", "name": "A-B" }),
        json!({ "repository": "shop/app", "name": "" }),
        json!({ "repository": "shop", "name": NAME }),
        json!({ "repository": "shop/../orgs", "name": NAME }),
        json!({ "repository": "shop/..", "name": NAME }),
        json!({ "organization": "a/b", "name": NAME }),
        json!({ "repository": "shop/app", "name": NAME, "part": "password" }),
    ] {
        let error =
            store_at(&github.url, &github.operator, &words, &["token"]).expect_err(&words.to_string());
        assert_eq!((error.kind, error.in_doubt), (ErrorKind::Invalid, false), "{error:?}");
    }
    assert_eq!(github.asked().len(), asked);
}

/// A rotation in the world of the whole rotations, with phases of its own. The world, the program, its exit code.
async fn rotated(mode: Mode, strategy: &str) -> (World, crate::tool::Tool, crate::tool::Ran, Vec<String>) {
    let world = World::github().await;
    let World::Github { github, .. } = &world else { unreachable!("it is that") };
    let (consumer, tool) = (world.consumer().await, world.tool());
    let phases = "overlap: { until: [adopted], at_most: 3s }";
    let runbook = tool.runbook(&world.runbook(&consumer.url, Some(phases)));
    github.mode(mode);
    let old = world.existing().await;
    let started = ["run", runbook.to_str().expect("path"), "--env", "test", "--strategy", strategy, "--yes"];
    let ran = tool.done(&started).await;
    drop(consumer);
    (world, tool, ran, old)
}

/// A server that takes the write and changes nothing, or nothing but the time: the run never revokes under `overlap`, and
/// never ends as DONE.
#[tokio::test(flavor = "multi_thread")]
async fn a_lying_server_is_never_done() {
    for mode in [Mode::Lies, Mode::LiesWell] {
        for strategy in ["overlap", "contain"] {
            let (world, tool, ran, old) = rotated(mode, strategy).await;
            assert!(ran.code != Some(0) && !ran.stdout.contains("DONE"), "{mode:?} {strategy}: {ran:?}");
            assert!(tool.status()["end"] != "done", "{mode:?} {strategy}");
            let exist = world.existing().await;
            assert!(exist.contains(&old[0]), "{mode:?} {strategy}: the old one was revoked: {ran:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_is_settled_by_the_time_of_change() {
    let (world, tool, ran, _) = rotated(Mode::LosesReply, "overlap").await;
    let ran = ran.expect(0);
    // What was not read is not called current.
    assert!(ran.stdout.contains("current in 1 of 2 stores, written to 1 that cannot be read"), "{ran:?}");
    let World::Github { github, .. } = &world else { unreachable!("it is that") };
    assert_eq!(github.puts(), 1, "it was not written twice");
    let journal = std::fs::read_to_string(tool.journal().expect("journal")).expect("journal");
    assert!(journal.contains("\"found\":\"applied\""), "it was looked for");
}

/// Another's write is not taken for the run's own: not where the reply to its own was lost long before, and not where it was
/// not sent yet. Nothing of it is written over, and a rollback leaves it as it is, since the new value never got there.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_wrote_before_cutover_stays() {
    for lost in [true, false] {
        let world = World::github().await;
        let World::Github { github, .. } = &world else { unreachable!("it is that") };
        let (consumer, tool) = (world.consumer().await, world.tool());
        let runbook =
            tool.runbook(&world.runbook(&consumer.url, Some("overlap: { until: [adopted], at_most: 3s }")));
        let alive = world.alive().await;
        let path = runbook.to_str().expect("path");
        tool.done(&["run", path, "--env", "test", "--yes", "--until", "verify"]).await.expect(0);
        // A program that writes the same value again makes another version as well.
        let old = github.value(GITHUB, NAME);
        match lost {
            true => github.mode(Mode::LosesWrite),
            false => github.write(GITHUB, NAME, &old, 30),
        }
        let ran = tool.done(&["resume"]).await;
        assert!(ran.code != Some(0), "{ran:?}");
        let journal = std::fs::read_to_string(tool.journal().expect("journal")).expect("journal");
        assert!(journal.contains("the secret was written at"), "{ran:?}");
        let theirs = if lost { "theirs" } else { &old };
        assert_eq!((github.value(GITHUB, NAME).as_str(), github.puts()), (theirs, 0));
        if !lost {
            tool.done(&["rollback", "--yes"]).await.expect(0);
            assert_eq!(world.alive().await, alive, "the new one is revoked");
            assert_eq!(github.puts(), 0, "nothing was written there");
        }
    }
}

/// A rollback writes over nothing of others', and takes the new credential from no one. The commands that it names lead back.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_writes_over_others_only_if_a_person_says_so() {
    let world = World::github().await;
    let World::Github { github, .. } = &world else { unreachable!("it is that") };
    let (consumer, tool) = (world.consumer().await, world.tool());
    let runbook = tool.runbook(&world.runbook(&consumer.url, Some("overlap: { until: [adopted] }")));
    let (before, alive) = (world.current().await, world.alive().await);
    let path = runbook.to_str().expect("path");
    tool.done(&["run", path, "--env", "test", "--yes", "--until", "overlap"]).await.expect(0);
    github.write(GITHUB, NAME, "theirs", -1);
    let ran = tool.done(&["rollback", "--yes"]).await.expect(14);
    assert_eq!(github.value(GITHUB, NAME), "theirs", "{ran:?}");
    assert_eq!(world.alive().await.len(), 2, "both are valid");
    let said = format!("{}{}", ran.stdout, ran.stderr);
    let commands = [
        "stanch resume --forward --until cutover",
        "stanch resume --rewrite app-key --until cutover",
        "stanch rollback --yes",
    ];
    for command in commands {
        let named = command.replace(" --yes", "");
        assert!(said.contains(&named), "{named}: {said}");
        let words: Vec<&str> = command.split(' ').skip(1).collect();
        tool.done(&words).await.expect(0);
    }
    world.is_as_before(&before, &alive).await;
}

/// Another's write in overlap is noticed before the old credential is touched, and overwritten only when a person says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_of_others_stops_the_run_until_a_person_decides() {
    let world = World::github().await;
    let World::Github { github, .. } = &world else { unreachable!("it is that") };
    let (consumer, tool) = (world.consumer().await, world.tool());
    let runbook = tool.runbook(&world.runbook(&consumer.url, Some("overlap: { until: [adopted] }")));
    let before = world.current().await;
    let path = runbook.to_str().expect("path");
    tool.done(&["run", path, "--env", "test", "--yes", "--until", "overlap"]).await.expect(0);
    // The runner goes on with what its job got: only the version tells.
    github.write(GITHUB, NAME, "another", -1);
    let ran = tool.done(&["resume"]).await;
    assert!(
        ran.code != Some(0) && ran.stderr.contains("holds a value that this run did not write"),
        "{ran:?}"
    );
    assert!(world.accepts(&before).await, "the old one was not touched");
    assert_eq!(github.value(GITHUB, NAME), "another", "it was not overwritten");
    tool.done(&["resume", "--rewrite", "app-key"]).await.expect(0);
    world.is_rotated(&before).await;
}

/// What the plan says, and what it refuses.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_what_cannot_be_read_and_asks_for_what_it_needs() {
    let world = World::github().await;
    let World::Github { github, .. } = &world else { unreachable!("it is that") };
    let tool = world.tool();
    let text = world.runbook("http://127.0.0.1:9", None);
    let plan = |text: String| {
        let runbook = tool.runbook(&text);
        tool.run(&["plan", runbook.to_str().expect("path"), "--env", "test"])
    };
    let file = text.lines().find(|line| line.contains("type: file")).expect("a file");
    let attests = text.find("        attest:").expect("a consumer");
    let end = attests + text[attests..].find('\n').expect("a line");
    let without = format!("{}{}", &text[..attests], &text[end + 1..]);
    let ran = plan(without).expect(65);
    assert!(ran.stderr.contains("no consumer of this credential has `attest`"), "{ran:?}");
    let ran = plan(text.replace(&format!("{file}\n"), "")).expect(65);
    assert!(ran.stderr.contains("no store of this credential can be read"), "{ran:?}");
    assert_eq!(github.asked(), Vec::<String>::new(), "nothing was asked");
    let consumer = world.consumer().await;
    let ran = plan(world.runbook(&consumer.url, None)).expect(0);
    for said in [
        "see the version of github-actions-secret shop/app TOKEN",
        "TOKEN cannot be read: stanch takes it to hold",
    ] {
        assert!(ran.stdout.contains(said), "{said}: {ran:?}");
    }
    assert_eq!(github.puts(), 0);
}

/// One token in two places, each with a consumer that uses it all the time.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn one_token_of_vault_moves_in_kv_and_at_github_without_a_failed_request() {
    let (world, github) = (World::vault().await, Github::start().await);
    let World::Vault { vault, .. } = &world else { unreachable!("it is that") };
    let before = world.current().await;
    github.write(GITHUB, NAME, before["token"].as_str().expect("a token"), 60);
    let app = world.consumer().await;
    let job = Consumer::start(&[
        ("SOURCE", "own"),
        ("FILE", &github.job(GITHUB, NAME)),
        ("CHECK", &format!("{}/v1/auth/token/lookup-self", vault.address)),
    ]);
    let text = world.runbook_of(&app, None);
    let text = text.replacen(
        "vault: { type: vault }",
        &format!("vault: {{ type: vault }}\n  github: {{ type: github, address: \"{}\" }}", github.url),
        1,
    );
    let text = text.replacen(
        "field: token }",
        "field: token }\n      - { type: github-actions-secret, connection: github, repository: shop/app, name: TOKEN }",
        1,
    );
    let text = text.replacen(
        "    consumers:\n",
        &format!(
            "    consumers:\n      - name: job\n        reload: {{ http: {{ url: \"{0}/-/reload\" }} }}\n        attest: {{ http: {{ url: \"{0}/-/credential\", fingerprint: /sha256 }} }}\n",
            job.url
        ),
        1,
    );
    let tool = world.tool().with("GITHUB_TOKEN", &github.operator);
    let runbook = tool.runbook(&text);
    tool.run(&["run", runbook.to_str().expect("path"), "--env", "test", "--yes"]).expect(0);
    world.is_rotated(&before).await;
    assert_eq!(world.current().await["token"], github.value(GITHUB, NAME));
    app.never_failed().await;
    job.never_failed().await;
}
