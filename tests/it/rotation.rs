//! Whole rotations against the real servers, with a real consumer that keeps using the credential.
//!
//! Vault is trusted for tokens, KV v2 and refusals. Of the AWS servers ministack is trusted here,
//! for signatures, refused unknown, inactive and deleted keys, policies, labels that move, and versions and labels of
//! Parameter Store. PostgreSQL is trusted for everything, and so are MariaDB and Redis: they are the real ones.
//! What a kill at every record does to such a rotation is in `force.rs`.

use crate::worlds::World;

/// One rotation after the other on one world, all through one consumer's life without a failed request.
async fn overlaps(world: World) {
    let consumer = world.consumer().await;
    let tool = world.tool();
    let runbook = tool.runbook(&world.runbook_of(&consumer, None));
    let runbook = runbook.to_str().expect("path");
    let before = world.current().await;
    let ran = tool.run(&["run", runbook, "--env", "test", "--yes", "-vv"]).expect(0);
    eprintln!("{}{}", ran.stderr, ran.stdout);
    world.is_rotated(&before).await;
    tool.run(&["audit", "verify"]).expect(0);
    consumer.never_failed().await;
    let logged = [" …\n", ": 200 in "];
    assert!(logged.iter().all(|line| ran.stderr.contains(line)), "the debug log is on: {}", ran.stderr);
    world.is_silent(&tool, &ran, &before).await;
}

/// Contain: the attacker is cut off first; consumers fail until cutover, and work again after.
async fn contains(world: World) {
    let consumer = world.consumer().await;
    let tool = world.tool();
    // A session that began before would outlive the kill, and nothing would fail.
    let (kind, ends) = ("type: postgres-role,", "type: postgres-role, end_sessions: sunset,");
    let (login, kills) = ("type: mysql-user,", "type: mysql-user, end_sessions: sunset,");
    let (user, cuts) = ("type: redis-acl-user,", "type: redis-acl-user, end_connections: sunset,");
    let (userpass, stops) = ("type: vault-userpass,", "type: vault-userpass, end_logins: sunset,");
    let text = world.runbook_of(&consumer, None).replace(kind, ends).replace(user, cuts);
    let text = text.replace(login, kills).replace(userpass, stops);
    let runbook = tool.runbook(&text);
    let before = world.current().await;
    let started = ["run", runbook.to_str().expect("path"), "--env", "test", "--strategy", "contain", "--yes"];
    tool.run(&started).expect(0);
    world.is_rotated(&before).await;
    let journal = std::fs::read_to_string(tool.journal().expect("journal")).expect("journal");
    let line =
        |text: &str| journal.lines().position(|l| l.contains(text)).unwrap_or_else(|| panic!("no {text}"));
    let cut = if world.disables() { "sunset/app-key/disable" } else { "sunset/app-key/revoke" };
    let (cut, delivered) =
        (format!("\"type\":\"outcome\",\"step\":\"{cut}\""), "\"type\":\"intent\",\"step\":\"cutover/");
    // The new one is made first, in milliseconds: with the old one dead, nothing that is wrong with it could
    // be mended in time.
    assert!(line(&cut) < line(delivered), "the attacker is cut off before anything is delivered");
    let stats = consumer.stats().await;
    assert!(stats["failed"].as_u64() > Some(0), "the consumer was down meanwhile: {stats}");
    let (failed, requests) = (stats["failed"].clone(), stats["requests"].as_u64());
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let later = consumer.stats().await;
    assert!(later["requests"].as_u64() > requests && later["failed"] == failed, "it works again: {later}");
}

/// A gate that fails in overlap: the run goes back by itself.
async fn goes_back_when_a_gate_fails(world: World) {
    let consumer = world.consumer().await;
    let tool = world.tool();
    let phases = "overlap: { at_least: 60s, until: [adopted, error-rate] }";
    let runbook = tool.runbook(&world.runbook_of(&consumer, Some(phases)));
    let (before, alive) = (world.current().await, world.alive().await);
    let running = tool.start(&["run", runbook.to_str().expect("path"), "--env", "test", "--yes"]);
    tool.wait_for("\"gate\":\"adopted\",\"verdict\":\"pass\"");
    assert_ne!(world.current().await, before, "the new one is current in overlap");
    consumer.post("/-/break").await;
    running.wait().expect(12);
    world.is_as_before(&before, &alive).await;
    consumer.never_failed().await;
    assert_eq!(tool.status()["end"], "gate-rolled-back");
    tool.run(&["audit", "verify"]).expect(0);
}

/// `stanch rollback`, typed in another terminal while the run is in sunset.
async fn goes_back_when_asked_in_sunset(world: World) {
    let consumer = world.consumer().await;
    let tool = world.tool();
    let phases = "overlap: { at_least: 500ms, until: [adopted] }\n  sunset: { at_least: 60s }";
    let runbook = tool.runbook(&world.runbook_of(&consumer, Some(phases)));
    let (before, alive) = (world.current().await, world.alive().await);
    let running = tool.start(&["run", runbook.to_str().expect("path"), "--env", "test", "--yes"]);
    tool.wait_for("\"type\":\"entered\",\"phase\":\"sunset\"");
    if world.disables() {
        tool.wait_for("\"type\":\"outcome\",\"step\":\"sunset/app-key/disable\"");
    }
    let run = tool.newest();
    tool.run(&["rollback", &run, "--yes", "--reason", "changed our minds"]).expect(0);
    running.wait().expect(1);
    world.is_as_before(&before, &alive).await;
    consumer.never_failed().await;
    assert_eq!(tool.status()["end"], "rolled-back");
}

/// One at a time: each needs the machine for its consumer's fifty requests a second.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

macro_rules! on_each {
    ($($name:ident => $check:ident),* $(,)?) => {
        mod vault {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs Vault: scripts/test"]
            async fn $name() {
                let _alone = super::ALONE.lock().await;
                super::$check(crate::worlds::World::vault().await).await;
            })*
        }
        mod approle {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs Vault: scripts/test"]
            async fn $name() {
                let _alone = super::ALONE.lock().await;
                super::$check(crate::worlds::World::approle().await).await;
            })*
        }
        mod userpass {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs Vault: scripts/test"]
            async fn $name() {
                let _alone = super::ALONE.lock().await;
                super::$check(crate::worlds::World::userpass().await).await;
            })*
        }
        mod pki {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs Vault: scripts/test"]
            async fn $name() {
                let _alone = super::ALONE.lock().await;
                super::$check(crate::worlds::World::pki().await).await;
            })*
        }
        mod database {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs Vault and PostgreSQL: scripts/test"]
            async fn $name() {
                let _alone = super::ALONE.lock().await;
                super::$check(crate::worlds::World::database().await).await;
            })*
        }
        mod aws {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs ministack: scripts/test"]
            async fn $name() {
                let _alone = super::ALONE.lock().await;
                super::$check(crate::worlds::World::aws().await).await;
            })*
        }
        mod own {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "takes a while: scripts/test"]
            async fn $name() {
                let _alone = super::ALONE.lock().await;
                super::$check(crate::worlds::World::own().await).await;
            })*
        }
        mod ssm {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs ministack: scripts/test"]
            async fn $name() {
                let _alone = super::ALONE.lock().await;
                super::$check(crate::worlds::World::ssm().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs PostgreSQL: scripts/test"]
            async fn $name() {
                let _alone = super::ALONE.lock().await;
                super::$check(crate::worlds::World::postgres().await).await;
            })*
        }
        mod mysql {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs MariaDB: scripts/test"]
            async fn $name() {
                let _alone = super::ALONE.lock().await;
                super::$check(crate::worlds::World::mysql().await).await;
            })*
        }
        mod jwt {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "takes a while: scripts/test"]
            async fn $name() {
                let _alone = super::ALONE.lock().await;
                super::$check(crate::worlds::World::jwt(2).await).await;
            })*
        }
        mod jwt_in_vault {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs Vault: scripts/test"]
            async fn $name() {
                let _alone = super::ALONE.lock().await;
                super::$check(crate::worlds::World::jwt_in_vault(2).await).await;
            })*
        }
        mod redis {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs Redis: scripts/test"]
            async fn $name() {
                let _alone = super::ALONE.lock().await;
                super::$check(crate::worlds::World::redis().await).await;
            })*
        }
        mod ssh {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs sshd: scripts/test"]
            async fn $name() {
                let _alone = super::ALONE.lock().await;
                super::$check(crate::worlds::World::ssh()).await;
            })*
        }
        mod api {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "takes a while: scripts/test"]
            async fn $name() {
                let _alone = super::ALONE.lock().await;
                super::$check(crate::worlds::World::api(crate::api_server::Dialect::Own).await).await;
            })*
        }
        mod kube {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs Kubernetes: scripts/test --all"]
            async fn $name() {
                let _alone = super::ALONE.lock().await;
                super::$check(crate::worlds::World::kube().await).await;
            })*
        }
        mod gitlab_variable {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "takes a while: scripts/test"]
            async fn $name() {
                let _alone = super::ALONE.lock().await;
                super::$check(crate::worlds::World::gitlab().await).await;
            })*
        }
        mod github {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "takes a while: scripts/test"]
            async fn $name() {
                let _alone = super::ALONE.lock().await;
                super::$check(crate::worlds::World::github().await).await;
            })*
        }
        mod pass_through {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "takes a while: scripts/test"]
            async fn $name() {
                let _alone = super::ALONE.lock().await;
                super::$check(crate::worlds::World::pass_through(true).await).await;
            })*
        }
        mod write_only {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "takes a while: scripts/test"]
            async fn $name() {
                let _alone = super::ALONE.lock().await;
                super::$check(crate::worlds::World::pass_through(false).await).await;
            })*
        }
        mod gitlab {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "takes a while: scripts/test"]
            async fn $name() {
                let _alone = super::ALONE.lock().await;
                super::$check(crate::worlds::World::api(crate::api_server::Dialect::Gitlab).await).await;
            })*
        }
        mod cloudflare {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "takes a while: scripts/test"]
            async fn $name() {
                let _alone = super::ALONE.lock().await;
                super::$check(crate::worlds::World::api(crate::api_server::Dialect::Cloudflare).await).await;
            })*
        }
        mod openai {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "takes a while: scripts/test"]
            async fn $name() {
                let _alone = super::ALONE.lock().await;
                super::$check(crate::worlds::World::api(crate::api_server::Dialect::Openai).await).await;
            })*
        }
    };
}

on_each! {
    rotates_under_load => overlaps,
    contains_a_leak => contains,
    a_failed_gate_rolls_back => goes_back_when_a_gate_fails,
    rollback_in_sunset_restores_everything => goes_back_when_asked_in_sunset,
}

/// TLS that is not verified is said in every phase, and on the record.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn an_unverified_server_is_warned_of_in_every_phase() {
    let _alone = ALONE.lock().await;
    let world = World::vault().await;
    let consumer = world.consumer().await;
    let tool = world.tool().with("VAULT_SKIP_VERIFY", "true");
    let path = tool.runbook(&world.runbook(&consumer.url, Some("overlap: { until: [adopted] }")));
    tool.run(&["run", path.to_str().expect("path"), "--env", "test", "--yes"]).expect(0);
    let journal = std::fs::read_to_string(tool.journal().expect("journal")).expect("journal");
    let count = |text: &str| journal.lines().filter(|l| l.contains(text)).count();
    assert_eq!(count("VAULT_SKIP_VERIFY); a machine"), count("\"type\":\"entered\""));
}
