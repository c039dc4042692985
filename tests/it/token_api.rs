//! Tokens of a service that is described by its calls, and the presets, each against a server that follows the published
//! description of the vendor's, and lies where it is told to. None of them is the vendor's own.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use stanch::clock::SystemClock;
use stanch::domain::{CheckVerdict, ErrorKind, Life};
use stanch::kind::real::RealProvider;
use stanch::provider::{CallContext, CallError, Issuer, Provider as _, Use};
use stanch::runbook::model;
use stanch::secret::{Material, Secret};
use tokio::task::JoinSet;

use crate::api_server::{Dialect, Mode, Service, Token};
use crate::conformance::issuer_keeps_its_promises;
use crate::servers::{DEADLINE, context};
use crate::tool::{Ran, Tool, search};
use crate::worlds::World;

const ALL: [Dialect; 4] = [Dialect::Own, Dialect::Gitlab, Dialect::Cloudflare, Dialect::Openai];

/// The provider and the credential of a service.
fn provider(service: &Service) -> (RealProvider, model::Credential) {
    let connection = json!({ "type": "api", "address": format!("{}{}", service.url, service.base()) });
    let connections =
        BTreeMap::from([("api".to_owned(), serde_json::from_value(connection).expect("a connection"))]);
    let text = format!(
        "{{issuer: {{type: token-api, connection: api, {}}}, scope: {}}}",
        service.issuer(),
        service.scope()
    );
    let mut credential: serde_json::Value = serde_yaml::from_str(&text).expect("YAML");
    credential["stores"] = json!([]);
    let operator = service.operator.clone();
    let env = Arc::new(move |name: &str| (name == "STANCH_API_TOKEN").then(|| operator.clone()));
    let provider = RealProvider::with_environment(connections, Arc::new(SystemClock::new()), DEADLINE, env);
    (provider, serde_json::from_value(credential).expect("a credential"))
}

async fn issuer(service: &Service) -> Arc<dyn Issuer> {
    let (provider, credential) = provider(service);
    provider.issuer("app", &credential).await.expect("an issuer")
}

fn material(token: &Token) -> Material {
    Material::single("token", Secret::new(token.value.as_str()))
}

/// No secret is in an error, whatever the server put there.
fn is_clean(error: &CallError, service: &Service) {
    let text = format!("{error:?}");
    let mut secrets: Vec<String> = service.tokens().into_iter().map(|token| token.value).collect();
    secrets.push(service.operator.clone());
    for secret in secrets {
        let escaped = serde_json::Value::from(secret.as_str()).to_string();
        let encoded = secret.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        for form in [secret.as_str(), escaped.trim_matches('"'), &encoded] {
            assert!(!text.contains(form), "{text}");
        }
    }
}

#[tokio::test]
async fn every_dialect_keeps_the_promises_of_an_issuer() {
    for dialect in ALL {
        eprintln!("{dialect:?}");
        let (service, _) = Service::start(dialect).await;
        let issuer = issuer(&service).await;
        issuer_keeps_its_promises("token-api", issuer.as_ref(), "999999").await;
        // Calls that replace a value at once, or that revoke the new token when they are repeated.
        let traps =
            service.asked().into_iter().filter(|asked| asked.ends_with("rotate") || asked.ends_with("value"));
        assert_eq!(traps.collect::<Vec<_>>(), Vec::<String>::new(), "{dialect:?}");
    }
}

#[tokio::test]
async fn a_lost_reply_is_found_by_its_name_and_by_no_other() {
    for mode in [Mode::LosesCreate, Mode::KeepsSecret] {
        for dialect in ALL {
            let (service, old) = Service::start(dialect).await;
            let issuer = issuer(&service).await;
            service.mode(mode);
            let step = context();
            let error = issuer.issue(&step, None).await.expect_err("the response is lost");
            assert!(error.in_doubt, "{dialect:?} {error:?}");
            is_clean(&error, &service);
            let new: Vec<String> =
                service.tokens().into_iter().map(|token| token.id).filter(|id| *id != old.id).collect();
            assert_eq!(new.len(), 1, "it was created");
            assert_eq!(issuer.find(&step, &[]).await.expect("find"), new, "{dialect:?}");
            let other = CallContext { step: "web/other/issue".to_owned(), ..step.clone() };
            assert_eq!(issuer.find(&other, &[]).await.expect("find"), Vec::<String>::new());
            // Longer than one page, and the new one is on the last.
            issuer.issue(&other, None).await.expect("issue");
            assert_eq!(issuer.find(&step, &[]).await.expect("find"), new, "{dialect:?}");
            // What is revoked is not found again, though some lists still have it.
            issuer.revoke(&step, &new[0], None).await.expect("revoke");
            assert_eq!(issuer.find(&step, &[]).await.expect("find"), Vec::<String>::new(), "{dialect:?}");
        }
    }
}

#[tokio::test]
async fn a_name_that_was_cut_is_an_error_and_not_none() {
    let (service, _) = Service::start(Dialect::Openai).await;
    let issuer = issuer(&service).await;
    service.mode(Mode::CutsNames);
    let step = context();
    assert!(issuer.issue(&step, None).await.expect_err("the response is lost").in_doubt);
    let error = issuer.find(&step, &[]).await.expect_err("it may be this run's");
    assert!(error.kind == ErrorKind::Invalid && error.message.contains("cuts the names"), "{error:?}");
}

/// An empty list of the run's own would let it issue a second token beside the first.
#[tokio::test]
async fn a_list_that_is_not_whole_is_an_error_and_not_none() {
    for dialect in ALL {
        let (service, _) = Service::start(dialect).await;
        let issuer = issuer(&service).await;
        let step = context();
        issuer.issue(&step, None).await.expect("issue");
        for mode in [
            Mode::CutsList,
            Mode::LosesPaging,
            Mode::Repeats,
            Mode::Renames,
            Mode::Fails,
            Mode::RefusesAll,
            Mode::Throttles,
        ] {
            service.mode(mode);
            let error = issuer.find(&context(), &[]).await.expect_err("no list");
            assert!(!error.in_doubt, "{dialect:?} {mode:?} {error:?}");
            is_clean(&error, &service);
            let throttled =
                (error.kind == ErrorKind::Throttled, error.retry_after.map(|wait| wait.as_secs()));
            assert_eq!(throttled == (true, Some(7)), mode == Mode::Throttles, "{mode:?} {error:?}");
        }
        service.mode(Mode::Honest);
        assert_eq!(issuer.find(&step, &[]).await.expect("find").len(), 1, "{dialect:?}");
    }
}

#[tokio::test]
async fn only_the_server_says_that_a_token_is_gone_and_only_beside_a_control() {
    for dialect in ALL {
        let (service, old) = Service::start(dialect).await;
        let issuer = issuer(&service).await;
        let modes = [
            Mode::RefusesAll,
            Mode::Fails,
            Mode::Throttles,
            Mode::Renames,
            // The same 404 as for a token that is gone.
            Mode::Blocks,
            Mode::Hides,
        ];
        let new = issuer.issue(&context(), None).await.expect("issue");
        for revoked in [false, true] {
            if revoked {
                issuer.revoke(&context(), &old.id, None).await.expect("revoke");
                assert_eq!(issuer.life(&old.id).await.expect("life"), Life::Gone, "{dialect:?}");
            }
            for mode in modes {
                service.mode(mode);
                let error = issuer.life(&old.id).await.expect_err("nothing says so");
                assert!(!error.in_doubt, "{dialect:?} {mode:?} {error:?}");
                is_clean(&error, &service);
                let used = issuer.attempt(&new.material).await;
                match mode {
                    Mode::RefusesAll => {
                        assert!(matches!(used, Ok(Use::Refused(_))), "a status of the server's")
                    }
                    Mode::Blocks | Mode::Hides => assert!(matches!(used, Ok(Use::Accepted)), "{used:?}"),
                    _ => is_clean(&used.expect_err("neither"), &service),
                }
                service.mode(Mode::Honest);
            }
        }
    }
}

#[tokio::test]
async fn a_changed_api_is_an_error_that_names_the_call_and_the_pointer() {
    for (dialect, call, pointer) in [
        (Dialect::Own, "GET /tokens/", "/state"),
        (Dialect::Gitlab, "GET /projects/group%2Fapp/access_tokens/", "/revoked"),
        (Dialect::Cloudflare, "GET /user/tokens/", "/result/status"),
        (Dialect::Openai, "GET /organization/admin_api_keys/", "/object"),
    ] {
        let (service, old) = Service::start(dialect).await;
        let issuer = issuer(&service).await;
        service.mode(Mode::Renames);
        let error = issuer.life(&old.id).await.expect_err("nothing is there");
        let says = error.message.contains(call) && error.message.contains(&format!("at `{pointer}`"));
        assert!(says && error.kind == ErrorKind::Invalid, "{dialect:?} {error:?}");
        let error = issuer.issue(&context(), None).await.expect_err("no token is there");
        assert!(error.in_doubt, "it was created all the same: {error:?}");
    }
}

/// The server's own numbers are compared with the runbook.
#[tokio::test]
async fn the_lifetime_is_what_the_server_answers() {
    let day = std::time::Duration::from_secs(24 * 60 * 60);
    for dialect in [Dialect::Own, Dialect::Gitlab, Dialect::Cloudflare] {
        let (service, _) = Service::start(dialect).await;
        let issuer = issuer(&service).await;
        let new = issuer.issue(&context(), None).await.expect("issue").identity.handle;
        let grant = issuer.inspect(&new).await.expect("inspect");
        let ttl = grant.ttl.expect("it expires");
        assert!(ttl <= day * 30 && ttl > day * 29 - std::time::Duration::from_secs(1), "{dialect:?} {ttl:?}");
        let exact = ttl + std::time::Duration::from_secs(1) > day * 30;
        assert!(exact || dialect == Dialect::Gitlab, "a date ends at its first minute, UTC: {ttl:?}");
        let field = if dialect == Dialect::Cloudflare { "expires_on" } else { "expires_at" };
        service.set(&new, field, json!("2099-01-01"));
        assert!(
            issuer.inspect(&new).await.expect("inspect").ttl > Some(day * 365),
            "the server gave it more"
        );
        service.set(&new, field, json!("some day"));
        assert!(issuer.inspect(&new).await.is_err(), "{dialect:?}: not a time");
        service.set(&new, field, json!(null));
        assert_eq!(issuer.inspect(&new).await.expect("inspect").ttl, None, "it never expires");
    }
    let (service, _) = Service::start(Dialect::Gitlab).await;
    let issuer = issuer(&service).await;
    let new = issuer.issue(&context(), None).await.expect("issue").identity.handle;
    assert_eq!(issuer.inspect(&new).await.expect("inspect").policies, Some(vec!["read_api".to_owned()]));
}

/// Cloudflare replaces a token as a whole.
#[tokio::test]
async fn what_is_disabled_and_enabled_keeps_its_conditions() {
    let (service, old) = Service::start(Dialect::Cloudflare).await;
    let issuer = issuer(&service).await;
    issuer.disable(&context(), &old.id).await.expect("disable");
    issuer.enable(&context(), &old.id).await.expect("enable");
    let now = service.tokens().into_iter().find(|token| token.id == old.id).expect("it is there");
    for field in ["name", "policies", "expires_on"] {
        assert_eq!(now.body[field], old.body[field], "{field}");
    }
}

#[tokio::test]
async fn an_old_token_is_identified_by_use_and_seen_by_the_operator() {
    for dialect in ALL {
        let (service, old) = Service::start(dialect).await;
        let issuer = issuer(&service).await;
        let known = issuer.identify(&material(&old)).await.expect("identify").expect("known");
        assert_eq!(
            (known.identity.handle.as_str(), known.life),
            (old.id.as_str(), Life::Active),
            "{dialect:?}"
        );
        let foreign = Material::single("token", Secret::new("sk-admin-of-someone-else"));
        assert_eq!(issuer.identify(&foreign).await.expect("identify"), None);
        for broken in ["", "two words", "a\nb", &"x".repeat(9000)] {
            let asked = service.asked().len();
            let error =
                issuer.identify(&Material::single("token", Secret::new(broken))).await.expect_err("none");
            assert_eq!((error.kind, service.asked().len()), (ErrorKind::Invalid, asked), "sent nowhere");
        }
        // Accepted, and not where the calls look for it.
        service.mode(Mode::Blocks);
        let error = issuer.identify(&material(&old)).await.expect_err("another project's");
        assert_eq!(error.kind, ErrorKind::Invalid, "{dialect:?} {error:?}");
        service.mode(Mode::Honest);
        let operator = Material::single("token", Secret::new(service.operator.as_str()));
        let own = issuer.identify(&operator).await.expect("identify").expect("known").identity;
        assert_eq!(
            issuer.before_revoking(&own).await.verdict,
            CheckVerdict::Fail,
            "{dialect:?}: its own token"
        );
        assert_eq!(issuer.before_revoking(&known.identity).await.verdict, CheckVerdict::Pass, "{dialect:?}");
    }
}

/// Two keys that are shown alike: stanch takes neither for the old one.
#[tokio::test]
async fn a_key_is_not_recognised_by_what_two_keys_show() {
    let (service, old) = Service::start(Dialect::Openai).await;
    let issuer = issuer(&service).await;
    service.twin(&old.id);
    let error = issuer.identify(&material(&old)).await.expect_err("two are shown like it");
    assert!(error.message.contains("several"), "{error:?}");
    is_clean(&error, &service);
}

/// Plays a run on a service that behaves in this way, and says how it ended.
async fn played(dialect: Dialect, mode: Mode) -> (World, Tool, serde_json::Value, Ran) {
    let world = World::api(dialect).await;
    let World::Api { service, .. } = &world else { panic!("it is this world") };
    let consumer = world.consumer().await;
    let tool = world.tool();
    let runbook = tool.runbook(&world.runbook_of(&consumer, None));
    let before = world.current().await;
    service.mode(mode);
    let ran = tool.done(&["run", runbook.to_str().expect("path"), "--env", "test", "--yes", "-vv"]).await;
    world.is_silent(&tool, &ran, &before).await;
    (world, tool, before, ran)
}

/// It says that it revoked the old token, and that it is gone, and accepts it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a while: scripts/test"]
async fn a_server_that_lies_about_a_revocation_ends_no_run_as_done() {
    let mut runs = JoinSet::new();
    for dialect in ALL {
        for mode in [Mode::RevokesNothing, Mode::GoesOnAccepting] {
            runs.spawn(async move {
                let (world, tool, before, ran) = played(dialect, mode).await;
                // One that was disabled before is as it was.
                let lives = world.accepts(&before).await || world.existing().await.len() == 2;
                assert!(lives, "{dialect:?} {mode:?}: it lies");
                assert!(ran.code != Some(0) && !ran.stdout.contains("DONE"), "{dialect:?} {mode:?} {ran:?}");
                assert_ne!(tool.status()["end"], "done", "{dialect:?} {mode:?}");
            });
        }
    }
    runs.join_all().await;
}

/// What it returns is another token than the one that was asked for: it is neither taken for the new one, nor revoked.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a while: scripts/test"]
async fn what_create_mixes_up_is_no_new_token() {
    for (mode, said) in [
        (Mode::ReturnsOld, "shows another token under it"),
        (Mode::ReturnsOldValue, "returned the old app-key as the new one"),
        (Mode::MixesUpValues, "one of them belongs to something else"),
        (Mode::MixesUpIds, "shows another token under it"),
        (Mode::ReturnsTokenAsId, "is the token itself; stanch revoked it"),
    ] {
        let (world, tool, before, ran) = played(Dialect::Own, mode).await;
        let World::Api { service, .. } = &world else { panic!("it is this world") };
        assert!(ran.code != Some(0) && ran.stderr.contains(said), "{mode:?}: {ran:?}");
        assert_ne!(tool.status()["end"], "done", "{mode:?}");
        assert!(world.accepts(&before).await && world.current().await == before, "{mode:?}: {ran:?}");
        assert!(service.accepts(&service.operator), "{mode:?}: {ran:?}");
        let values: Vec<String> = service.tokens().into_iter().map(|token| token.value).collect();
        search(&tool.state(), &values);
        assert!(
            values.iter().all(|v| !ran.stdout.contains(v) && !ran.stderr.contains(v)),
            "{mode:?}: {ran:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a while: scripts/test"]
async fn a_run_whose_new_token_was_lost_revokes_it_and_issues_another() {
    for dialect in ALL {
        let (world, _, before, ran) = played(dialect, Mode::LosesCreate).await;
        ran.expect(0);
        world.is_rotated(&before).await;
    }
}

/// Without a list nothing can say whether the token was created.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a while: scripts/test"]
async fn a_lost_token_that_no_list_shows_is_asked_about() {
    let world = World::api(Dialect::Own).await;
    let World::Api { service, .. } = &world else { panic!("it is this world") };
    let consumer = world.consumer().await;
    let tool = world.tool();
    let text = world.runbook_of(&consumer, None).replace("gone_status: [404], ", "");
    let list = text.find("list: {path").expect("a list");
    let end = text[list..].find("self:").expect("self") + list;
    let runbook = tool.runbook(&format!("{}{}", &text[..list], &text[end..]));
    service.mode(Mode::LosesCreate);
    let ran = tool.run(&["run", runbook.to_str().expect("path"), "--env", "test", "--yes"]);
    assert_eq!(ran.code, Some(11), "{ran:?}");
}

/// Without a runbook: the server, the operator and the calls come from the environment and from a preset.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a while: scripts/test"]
async fn a_token_is_revoked_without_a_runbook() {
    for (dialect, set) in [
        (Dialect::Gitlab, &["--set", "preset=gitlab-project-token", "--set", "with.project=group/app"][..]),
        (Dialect::Cloudflare, &["--set", "preset=cloudflare-user-token"]),
        (Dialect::Openai, &["--set", "preset=openai-admin-key"]),
    ] {
        let world = World::api(dialect).await;
        let World::Api { service, .. } = &world else { panic!("it is this world") };
        let (tool, before) = (world.tool(), world.current().await);
        let (old, own) = (world.existing().await, service.own().id);
        let revoke = |id: &str| {
            let arguments = [&["revoke", "token-api", id, "--reason", "in a log", "--yes"][..], set].concat();
            tool.run(&arguments)
        };
        let refused = revoke(&own);
        assert!(refused.code != Some(0) && service.accepts(&service.operator), "its own token: {refused:?}");
        revoke(&old[0]).expect(0);
        assert!(!world.accepts(&before).await && world.existing().await.is_empty(), "{dialect:?}");
    }
    let tool = World::api(Dialect::Own).await.tool();
    let ran = tool.run(&["revoke", "token-api", "1", "--reason", "in a log", "--yes"]);
    assert!(ran.code != Some(0) && ran.stderr.contains("--set preset="), "{ran:?}");
}
