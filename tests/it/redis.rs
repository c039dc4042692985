//! Passwords of users of Redis, against a real server: the shared one, and servers of a test's own where they are
//! restarted, searched, joined or filled up. A server that lies is a proxy in front of the real one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest as _, Sha256};
use stanch::domain::{CheckVerdict, ErrorKind, Identity, Life};
use stanch::kind::redis::user::{RedisAclUser, UserIssuer};
use stanch::kind::redis::{Settings, preflight};
use stanch::provider::{CallError, Issuer as _, Use};
use stanch::secret::{Material, Secret};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::conformance::issuer_keeps_its_promises;
use crate::docs::root;
use crate::redis_server::{Keeps, OwnRedis, PERMISSIONS, Redis, client};
use crate::servers::{closed_port, context, failures, unique};
use crate::tool::{Tool, search};
use crate::worlds::World;

fn spec(user: &str, more: &str) -> RedisAclUser {
    let text = format!(r#"{{"connection":"cache","user":"{user}"{more}}}"#);
    serde_json::from_str(&text).expect("an issuer")
}

/// An issuer, as an operator who may do what the page says and nothing else.
fn issuer(redis: &Redis, user: &str, more: &str) -> UserIssuer {
    let (operator, password) = redis.operator();
    UserIssuer::new(redis.client_as(&operator, &password), spec(user, more)).expect("an issuer")
}

fn word(password: &str) -> Material {
    Material::single("password", Secret::new(password))
}

fn hash(password: &str) -> String {
    hex::encode(Sha256::digest(password))
}

fn identity(handle: &str) -> Identity {
    Identity { handle: handle.to_owned(), principal: "the old one".to_owned() }
}

/// What preflight refuses, as one text.
async fn refused(issuer: &UserIssuer, outgoing: Option<&str>) -> String {
    failures(&issuer.preflight(outgoing.map(identity).as_ref()).await).join("\n")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: scripts/test"]
async fn a_password_keeps_the_promises_of_an_issuer() {
    let redis = Redis::shared();
    for more in ["", r#","end_connections":"sunset""#, r#","end_connections":"never""#] {
        let user = unique("app:with-colon");
        redis.app(&user);
        let one = issuer(&redis, &user, more);
        issuer_keeps_its_promises("redis-acl-user", &one, "never-was").await;
        assert_eq!((redis.hashes(&user).len(), redis.markers(&user).len()), (1, 0), "nothing is left");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: scripts/test"]
async fn what_is_missing_is_found_before_anything_is_changed() {
    let (redis, user) = (Redis::shared(), unique("app"));
    redis.app(&user);
    let (operator, password) = redis.operator();
    let client = redis.client_as(&operator, &password);
    let one = UserIssuer::new(Arc::clone(&client), spec(&user, "")).expect("an issuer");
    assert_eq!(refused(&one, None).await, "");
    // Each permission that the page lists is needed by something, and each that is missing is named.
    for permission in PERMISSIONS.split_whitespace() {
        redis.set(&["ACL", "SETUSER", &operator, &permission.replace('+', "-")]);
        let mut said = refused(&one, None).await;
        said += &failures(&preflight(&client).await).join("\n");
        let unused = ["+config|rewrite", "+cluster|info", "+config|get"];
        match permission {
            // It saves into its file of users; it is in no cluster; where it saves is remembered.
            _ if unused.contains(&permission) => {}
            // These decide nothing.
            "+client|list" | "+acl|dryrun" => assert_eq!(said, "", "{permission}"),
            _ => assert!(said.contains("Denied"), "{permission}: {said}"),
        }
        redis.set(&["ACL", "SETUSER", &operator, permission]);
    }
    let (fresh, other) = redis.operator();
    redis.set(&["ACL", "SETUSER", &fresh, "-config|get"]);
    let fresh = redis.client_as(&fresh, &other);
    assert!(
        failures(&preflight(&fresh).await).join("\n").contains("Denied"),
        "where it saves is asked first"
    );

    for (rule, back, said) in [("off", "on", "is off"), ("nopass", "resetpass", "any password")] {
        redis.set(&["ACL", "SETUSER", &user, rule]);
        assert!(refused(&one, None).await.contains(said), "{rule}");
        redis.set(&["ACL", "SETUSER", &user, back]);
    }
    let nobody = UserIssuer::new(client, spec("never-was", "")).expect("an issuer");
    assert!(refused(&nobody, None).await.contains("has no user never-was"));
    let error =
        nobody.issue(&context(), nobody.candidate(&context()).as_ref()).await.expect_err("no such user");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::NotFound, false), "{error:?}");
    assert_eq!(redis.hashes("never-was"), Vec::<String>::new(), "no user was made");

    // Itself, and with a wrong password.
    let own = UserIssuer::new(redis.client_as(&operator, &password), spec(&operator, "")).expect("an issuer");
    assert!(refused(&own, None).await.contains("this run works as the user"));
    assert_eq!(own.before_revoking(&identity(&operator)).await.verdict, CheckVerdict::Fail);
    let wrong =
        UserIssuer::new(redis.client_as(&operator, "Wrong-Canary"), spec(&user, "")).expect("an issuer");
    let error = wrong.life(&user).await.expect_err("not let in");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Refused, false), "{error:?}");
    assert!(!format!("{error:?}").contains("Canary"), "{error:?}");
    // What may not be done is refused by the server, and changes nothing.
    let (lame, lames) = redis.operator();
    redis.set(&["ACL", "SETUSER", &lame, "-acl|save"]);
    redis.app(&user);
    let lame = UserIssuer::new(redis.client_as(&lame, &lames), spec(&user, "")).expect("an issuer");
    let error =
        lame.issue(&context(), lame.candidate(&context()).as_ref()).await.expect_err("it may not save");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Denied, false), "{error:?}");
    assert_eq!((redis.hashes(&user).len(), redis.markers(&user).len()), (1, 0), "none of it was performed");
}

/// A weak password could be guessed from its hash: of one that stanch did not make, two digits are told, and where these fit
/// another one as well, neither is touched.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: scripts/test"]
async fn little_is_told_of_a_password_that_stanch_did_not_make() {
    let (redis, user) = (Redis::shared(), unique("app"));
    let first = redis.app(&user);
    let one = issuer(&redis, &user, "");
    let known = one.identify(&word(&first)).await.expect("an answer").expect("it is known");
    assert_eq!(known.identity.handle, format!("{user}:{}", &hash(&first)[..2]));
    let new = one.issue(&context(), one.candidate(&context()).as_ref()).await.expect("issue");
    let made = new.material.main().expect("a password").expose().to_owned();
    assert_eq!(new.identity.handle, format!("{user}:{}", &hash(&made)[..12]));
    let checks = one.preflight(Some(&known.identity)).await;
    let others = checks.iter().find(|check| check.name == "other passwords").expect("a check");
    assert!(
        others.verdict == CheckVerdict::Warn && others.detail.contains(&new.identity.handle),
        "{others:?}"
    );

    let twin =
        (0..).map(|n| format!("guess-{n}")).find(|guess| hash(guess)[..2] == hash(&first)[..2]).expect("one");
    redis.set(&["ACL", "SETUSER", &user, &format!(">{twin}")]);
    for error in [
        one.identify(&word(&first)).await.expect_err("two"),
        one.disable(&context(), &known.identity.handle).await.expect_err("two"),
        one.revoke(&context(), &known.identity.handle, None).await.expect_err("two"),
    ] {
        assert_eq!((error.kind, error.in_doubt), (ErrorKind::Conflict, false), "{error:?}");
        assert!(!error.message.contains(&hash(&twin)) && !error.message.contains(&hash(&first)), "{error:?}");
    }
    assert_eq!(redis.hashes(&user).len(), 3);
    // The one that stanch made is told from both.
    one.revoke(&context(), &new.identity.handle, None).await.expect("revoke");
    assert_eq!(redis.hashes(&user).len(), 2);
}

/// The password with which a connection was opened may be gone: the connection stays, until it is ended.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: scripts/test"]
async fn connections_end_when_the_runbook_says_so() {
    let redis = Redis::shared();
    // What is still connected after `disable`, and after `revoke`.
    for (more, disabled, revoked) in [
        ("", true, false),
        (r#","end_connections":"sunset""#, false, false),
        (r#","end_connections":"never""#, true, true),
    ] {
        let user = unique("app");
        let first = redis.app(&user);
        let one = issuer(&redis, &user, more);
        let handle = one.full_handle(&user).await.expect("a handle");
        let session = redis.log_in(&user, &first).await.expect("a session");
        let checks = one.preflight(Some(&identity(&handle))).await;
        let live = checks.iter().find(|check| check.name == "connections").expect("a check");
        assert!(live.detail.contains("1 connection now"), "{live:?}");
        one.disable(&context(), &handle).await.expect("disable");
        assert_eq!(session.is_alive().await, disabled, "{more}");
        assert!(redis.log_in(&user, &first).await.is_none());
        one.enable(&context(), &handle).await.expect("enable");
        assert_eq!(redis.markers(&user), Vec::<String>::new());
        let again = redis.log_in(&user, &first).await.expect("a session");
        one.revoke(&context(), &handle, None).await.expect("revoke");
        assert_eq!(again.is_alive().await, revoked, "{more}");
        assert_eq!(one.life(&handle).await.expect("life"), Life::Gone);
    }
}

/// The reply to an `issue` is lost: the same call again finds what it made, and no other call takes that for its own.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: scripts/test"]
async fn a_repeated_issue_makes_one_password() {
    let (redis, user) = (Redis::shared(), unique("app"));
    redis.app(&user);
    let (one, step) = (issuer(&redis, &user, ""), context());
    let candidate = one.candidate(&context());
    let first = one.issue(&step, candidate.as_ref()).await.expect("issue");
    let again = one.issue(&step, candidate.as_ref()).await.expect("issue again");
    assert_eq!(first.identity, again.identity);
    assert_eq!((redis.hashes(&user).len(), redis.markers(&user).len()), (2, 1));
    assert_eq!(one.find(&context(), &[]).await.expect("find"), Vec::<String>::new());
    let whole = stanch::provider::CallContext { step: String::new(), ..step };
    assert_eq!(one.find(&whole, &[]).await.expect("find"), [first.identity.handle]);
}

/// Every change lasts over a restart, whichever file the server keeps its users in.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: scripts/test"]
async fn a_change_lasts_over_a_restart() {
    for keeps in [Keeps::File, Keeps::Configuration] {
        let mut own = OwnRedis::start(keeps, &[]).await;
        let first = own.redis.app("shop");
        let one = issuer(&own.redis, "shop", "");
        let old = one.full_handle("shop").await.expect("a handle");
        let new = one.issue(&context(), one.candidate(&context()).as_ref()).await.expect("issue");
        let made = new.material.main().expect("a password").expose().to_owned();
        own.restart().await;
        assert!(
            own.redis.log_in("shop", &made).await.is_some()
                && own.redis.log_in("shop", &first).await.is_some()
        );
        one.disable(&context(), &old).await.expect("disable");
        own.restart().await;
        assert!(own.redis.log_in("shop", &first).await.is_none());
        assert_eq!(one.life(&old).await.expect("life"), Life::Disabled, "and it can be enabled");
        one.revoke(&context(), &old, None).await.expect("revoke");
        own.restart().await;
        assert!(
            own.redis.log_in("shop", &made).await.is_some()
                && own.redis.log_in("shop", &first).await.is_none()
        );
        assert_eq!(one.life(&old).await.expect("life"), Life::Gone);
    }
}

/// A server that can save nothing is named, and one that fails to save keeps no new password.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: scripts/test"]
async fn what_cannot_be_saved_is_not_hidden() {
    let own = OwnRedis::start(Keeps::Nowhere, &[]).await;
    let checks = preflight(&own.redis.client_as("default", &own.redis.password)).await;
    let saved = checks.iter().find(|check| check.name == "saved").expect("a check");
    assert!(
        saved.verdict == CheckVerdict::Warn && saved.detail.contains("the old one is valid again"),
        "{saved:?}"
    );

    let own = OwnRedis::start(Keeps::File, &[]).await;
    own.redis.app("shop");
    let one = issuer(&own.redis, "shop", "");
    let old = one.full_handle("shop").await.expect("a handle");
    std::fs::remove_dir_all(own.folder.path().join("users")).expect("its folder");
    let error = one.issue(&context(), one.candidate(&context()).as_ref()).await.expect_err("it cannot save");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::NotReady, false), "{error:?}");
    assert!(error.message.contains("removed again") && error.hint.is_some(), "{error:?}");
    assert_eq!((own.redis.hashes("shop").len(), own.redis.markers("shop").len()), (1, 0));
    let error = one.revoke(&context(), &old, None).await.expect_err("it cannot save");
    assert!(error.in_doubt, "{error:?}");
    assert_eq!(one.life(&old).await.expect("life"), Life::Disabled, "not gone before it is saved");
}

/// Users are not replicated: a node that the connection does not name would keep the old password.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: scripts/test"]
async fn a_change_is_made_on_every_node_and_a_node_that_is_not_named_is_found() {
    let primary = OwnRedis::start(Keeps::File, &[]).await;
    let (port, password) = (primary.redis.port.to_string(), primary.redis.password.clone());
    let join = ["--replicaof", "127.0.0.1", &port, "--masterauth", &password];
    let mut replica = OwnRedis::start(Keeps::File, &join).await;
    for _ in 0..600 {
        if primary.redis.cli(&["INFO", "replication"]).contains("connected_slaves:1") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    // One operator and one user for both.
    let first = primary.redis.app("shop");
    replica.redis.set(&["ACL", "SETUSER", "shop", "on", &format!(">{first}"), "~*", "+@all"]);
    let operators =
        |redis: &Redis| redis.set(&["ACL", "SETUSER", "ops", "on", ">Operators-Word", "~*", "&*", "+@all"]);
    operators(&primary.redis);
    operators(&replica.redis);
    let nodes = |nodes: &[&Redis]| Settings {
        nodes: nodes.iter().map(|redis| redis.node()).collect(),
        ..primary.redis.settings("ops", "Operators-Word")
    };
    for (named, said) in [(&[&primary.redis][..], "1 replica"), (&[&replica.redis][..], "their primary")] {
        let found = failures(&preflight(&client(nodes(named))).await).join("\n");
        assert!(found.contains(said) && found.contains("keep"), "{found}");
    }
    let both = client(nodes(&[&primary.redis, &replica.redis]));
    assert_eq!(failures(&preflight(&both).await), Vec::<String>::new());
    let one = UserIssuer::new(both, spec("shop", "")).expect("an issuer");
    let old = one.full_handle("shop").await.expect("a handle");
    let new = one.issue(&context(), one.candidate(&context()).as_ref()).await.expect("issue");
    assert_eq!(one.attempt(&new.material).await.expect("an answer"), Use::Accepted);
    one.disable(&context(), &old).await.expect("disable");
    assert!(matches!(one.attempt(&word(&first)).await, Ok(Use::Refused(_))));
    // The replica gets the old one back from elsewhere: that is neither acceptance nor refusal.
    replica.redis.set(&["ACL", "SETUSER", "shop", &format!(">{first}")]);
    let error = one.attempt(&word(&first)).await.expect_err("they differ");
    assert!(
        error.kind == ErrorKind::NoAnswer && error.message.contains(&replica.redis.node().place()),
        "{error:?}"
    );
    assert_eq!(one.life(&old).await.expect("life"), Life::Active);
    one.revoke(&context(), &old, None).await.expect("revoke");
    assert_eq!((primary.redis.hashes("shop").len(), replica.redis.hashes("shop").len()), (1, 1));
    // A node that is down is no node that refuses.
    replica.kill();
    assert_eq!(one.attempt(&word(&first)).await.expect_err("down").kind, ErrorKind::Unreachable);
    assert_eq!(one.life(&old).await.expect_err("down").kind, ErrorKind::Unreachable);
    let error = one.issue(&context(), one.candidate(&context()).as_ref()).await.expect_err("down");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Unreachable, false), "{error:?}");
}

/// A server that says this to whatever it is told first, and nothing more.
async fn says(answer: &'static str) -> Settings {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut told = [0; 1024];
            // The client may be gone.
            let _ = stream.read(&mut told).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    Redis { port, password: String::new() }.settings("ops", "Operators-Word")
}

/// Only an answer about the password counts: not silence, not a full server, not a start, no other login that is missing.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: scripts/test"]
async fn only_a_refused_password_is_a_refusal() {
    let (redis, user) = (Redis::shared(), unique("app"));
    let first = redis.app(&user);
    let one = issuer(&redis, &user, "");
    assert_eq!(one.attempt(&word(&first)).await.expect("an answer"), Use::Accepted);
    for password in ["wrong", "@/% ^+", "a\r\nAUTH b", "a\n", "nul\0", &"x".repeat(16 << 10)] {
        let said = one.attempt(&word(password)).await.expect("an answer");
        assert!(matches!(&said, Use::Refused(how) if how.contains("WRONGPASS")), "{password:?}: {said:?}");
        redis.set(&["ACL", "SETUSER", &user, &format!("#{}", hash(password))]);
        assert_eq!(one.attempt(&word(password)).await.expect("an answer"), Use::Accepted, "{password:?}");
        redis.set(&["ACL", "SETUSER", &user, &format!("!{}", hash(password))]);
    }
    // Redis does not listen to more from one that is not logged in: that says nothing about the password.
    let error = one.attempt(&word(&"x".repeat(64 << 10))).await.expect_err("too long");
    assert_eq!(error.kind, ErrorKind::NoAnswer, "{error:?}");
    let error = one.attempt(&word("")).await.expect_err("none");
    assert_eq!(error.kind, ErrorKind::Invalid);
    for answer in [
        "-NOAUTH Authentication required.\r\n",
        "-LOADING Redis is loading the dataset in memory\r\n",
        "-MASTERDOWN Link with MASTER is down\r\n",
        "-ERR max number of clients reached\r\n",
        "-DENIED Redis is running in protected mode\r\n",
        "-ERR unknown command 'AUTH', with args beginning with: 'app' 'Canary-Word' \r\n",
        "-ERR wrong number of arguments Canary-Word\r\n",
        "-WRONGPASSWORD\r\n",
        "+QUEUED\r\n",
        ":1\r\n",
        "$-1\r\n",
        "$99999999999\r\n",
        "HTTP/1.1 401 Unauthorized\r\n\r\n",
        "-WRONGPASS cut off",
        "",
    ] {
        let fake = UserIssuer::new(client(says(answer).await), spec(&user, "")).expect("an issuer");
        let error = fake.attempt(&word("Canary-Word")).await.expect_err(answer);
        assert_eq!((error.kind, error.in_doubt), (ErrorKind::NoAnswer, false), "{answer}: {error:?}");
        assert!(!format!("{error:?}").contains("Canary"), "{error:?}");
        let error = fake.life("x").await.expect_err(answer);
        assert!(!error.in_doubt && !format!("{error:?}").contains("Operators-Word"), "{answer}: {error:?}");
    }
    let down = Redis { port: closed_port().port(), password: String::new() };
    let down = UserIssuer::new(down.client_as("u", "p"), spec(&user, "")).expect("an issuer");
    assert_eq!(down.attempt(&word(&first)).await.expect_err("down").kind, ErrorKind::Unreachable);
    let error = down.issue(&context(), down.candidate(&context()).as_ref()).await.expect_err("down");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Unreachable, false));
    // A server without a free connection, for real.
    let full = OwnRedis::start(Keeps::Nowhere, &["--maxclients", "1"]).await;
    let _taken = full.redis.log_in("default", &full.redis.password).await.expect("the only connection");
    let issuer = UserIssuer::new(full.redis.client_as("default", &full.redis.password), spec("default", ""));
    let error = issuer.expect("an issuer").attempt(&word("x")).await.expect_err("full");
    assert_eq!(error.kind, ErrorKind::NoAnswer, "{error:?}");
}

/// No password stands in what a server shows of its commands, in no log of it, and in nothing of the run's.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: scripts/test"]
async fn no_password_is_in_what_the_server_shows() {
    let mut own = OwnRedis::start(Keeps::File, &["--loglevel", "debug"]).await;
    let monitor = own.monitor().await;
    let world = World::in_redis(own.redis.clone()).await;
    let consumer = world.consumer().await;
    let (tool, before) = (world.tool(), world.current().await);
    let runbook = tool.runbook(&world.runbook(&consumer.url, None));
    tool.run(&["run", runbook.to_str().expect("path"), "--env", "test", "--yes", "-vv"]).expect(0);
    world.is_rotated(&before).await;
    let after = world.current().await;
    let secrets =
        [world.operator_secret().expect("it has one"), World::secret(&before), World::secret(&after)];
    let shown =
        [own.redis.cli(&["SLOWLOG", "GET", "100000"]), own.redis.cli(&["ACL", "LOG", "100000"])].concat();
    own.kill();
    let shown = [shown, own.log(), std::fs::read_to_string(monitor).expect("what it showed")].concat();
    assert!(shown.contains("MULTI") && shown.contains("INFO"), "it shows commands");
    for secret in &secrets {
        assert!(!shown.contains(secret.as_str()), "a password is in what the server shows");
    }
    // Nor is a whole hash in the record: a weak password could be found by it.
    let hashes = secrets.each_ref().map(|secret| hash(secret));
    search(&tool.state(), &[&secrets[..], &hashes[..]].concat());
}

/// The certificate and its name are verified; nothing less is taken, also not where the server offers no TLS.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: scripts/test"]
async fn a_server_whose_certificate_does_not_fit_is_not_talked_to() {
    let certificates = root().join("tests/servers/tls");
    for (certificate, ca, host, asks, said) in [
        ("server.pem", "ca.pem", "127.0.0.1", "no", None),
        // It asks for a certificate, and trusts that of the client.
        ("server.pem", "ca.pem", "localhost", "yes", None),
        ("server.pem", "other-ca.pem", "127.0.0.1", "no", Some("UnknownIssuer")),
        ("elsewhere.pem", "ca.pem", "127.0.0.1", "no", Some("not valid for name")),
        ("", "ca.pem", "127.0.0.1", "no", Some("")),
    ] {
        let pem = certificates.join(certificate).display().to_string();
        let roots = certificates.join("client.pem").display().to_string();
        let port = closed_port().port();
        let number = port.to_string();
        let tls = [
            "--tls-port",
            &number,
            "--tls-cert-file",
            &pem,
            "--tls-key-file",
            &pem,
            "--tls-ca-cert-file",
            &roots,
        ];
        let more: Vec<&str> = if certificate.is_empty() {
            Vec::new()
        } else {
            tls.into_iter().chain(["--tls-auth-clients", asks]).collect()
        };
        let own = OwnRedis::start(Keeps::File, &more).await;
        let first = own.redis.app("shop");
        let mut settings = own.redis.settings("default", &own.redis.password);
        host.clone_into(&mut settings.nodes[0].host);
        settings.nodes[0].port = if certificate.is_empty() { own.redis.port } else { port };
        settings.tls = true;
        settings.ca_cert = Some(certificates.join(ca));
        settings.client_cert = (asks == "yes").then(|| certificates.join("client.pem"));
        if asks == "yes" {
            let without = Settings { client_cert: None, ..settings.clone() };
            let without = UserIssuer::new(client(without), spec("shop", "")).expect("an issuer");
            assert!(without.attempt(&word(&first)).await.is_err(), "it asks for a certificate");
        }
        let one = UserIssuer::new(client(settings), spec("shop", "")).expect("an issuer");
        match (one.attempt(&word(&first)).await, one.life("shop").await, said) {
            (Ok(Use::Accepted), Ok(Life::Active), None) => {}
            (Err(tried), Err(asked), Some(word)) => {
                for error in [tried, asked] {
                    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Unreachable, false), "{error:?}");
                    assert!(error.message.contains(word) && error.hint.is_some(), "{error:?}");
                }
            }
            other => panic!("{certificate} {ca} {host}: {other:?}"),
        }
    }
}

/// The bare kill: by the handle, with the user's connections, and nothing of the password anywhere.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: scripts/test"]
async fn a_password_dies_by_its_handle() {
    let (redis, user) = (Redis::shared(), unique("app"));
    let first = redis.app(&user);
    redis.set(&["ACL", "SETUSER", &user, ">another-that-leaked"]);
    let session = redis.log_in(&user, &first).await.expect("a session");
    let (operator, password) = redis.operator();
    let url = format!("redis://{operator}@127.0.0.1:{}", redis.port);
    let tool = Tool::new().with("REDIS_URL", &url).with("REDISCLI_AUTH", &password);
    let revoke = async |handles: &[&str]| {
        let all = [&["revoke", "redis-acl-user"], handles, &["--reason", "in a log", "--yes"]].concat();
        tool.done(&all).await
    };
    let handle = format!("{user}:{}", &hash(&first)[..2]);
    let ambiguous = revoke(&[&user]).await;
    assert!(ambiguous.code != Some(0) && format!("{ambiguous:?}").contains(&handle), "{ambiguous:?}");
    assert!(session.is_alive().await && redis.hashes(&user).len() == 2, "nothing was touched");
    let typed = format!("{user}:{}", hash(&first)[..2].to_uppercase());
    let ran = revoke(&[&typed, "never-was"]).await.expect(0);
    assert!(ran.stdout.contains(&format!("{typed}: gone, as its issuer says")), "{ran:?}");
    assert!(ran.stdout.contains("never-was: unknown to its issuer"), "{ran:?}");
    assert!(redis.log_in(&user, &first).await.is_none() && !session.is_alive().await);
    assert!(redis.log_in(&user, "another-that-leaked").await.is_some(), "the other one is left as it is");
    assert_eq!(redis.markers(&user), Vec::<String>::new());
    let own = revoke(&[&operator]).await.expect(1);
    assert!(own.stderr.contains("this run works as the user"), "{own:?}");
    search(&tool.state(), &[first.clone(), password, hash(&first)[..12].to_owned()]);
}

/// A value that belongs to another user, or that is let in because every value is, is not called unknown.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: scripts/test"]
async fn a_value_that_is_let_in_otherwise_is_not_called_unknown() {
    let (redis, user, other) = (Redis::shared(), unique("app"), unique("other"));
    let (first, _) = (redis.app(&user), redis.app(&other));
    let error = issuer(&redis, &other, "").identify(&word(&first)).await.expect_err("another user's");
    assert_eq!(error.kind, ErrorKind::Invalid, "{error:?}");
    assert!(error.hint.expect("a hint").contains(&format!("--set user={user}")), "{}", error.message);
    redis.set(&["ACL", "SETUSER", &other, "nopass"]);
    let error = issuer(&redis, &other, "").identify(&word("anything-at-all")).await.expect_err("nopass");
    assert!(error.kind == ErrorKind::Conflict && error.message.contains("nopass"), "{error:?}");
}

/// Between stanch and a Redis: it answers as the server does, but makes nothing of the removal of a password. With `hides`
/// it also leaves that password out of the list of users.
async fn liar(to: u16, hides: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = format!("http://{}", listener.local_addr().expect("address"));
    let (lied, removed) =
        (Arc::new(AtomicBool::new(false)), Arc::new(std::sync::Mutex::new(Vec::<u8>::new())));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", to)).await.expect("the server");
            let ((mut from, mut back), (mut answers, mut requests)) =
                (client.into_split(), server.into_split());
            let (lied, removed) = (Arc::clone(&lied), Arc::clone(&removed));
            let (knows, hidden) = (Arc::clone(&lied), Arc::clone(&removed));
            tokio::spawn(async move {
                let mut bytes = vec![0; 1 << 20];
                while let Ok(count @ 1..) = from.read(&mut bytes).await {
                    let told = &mut bytes[..count];
                    // `$65\r\n!HASH`: the hash is added once more in place of being removed.
                    if let Some(at) = told.windows(6).position(|six| six == b"$65\r\n!") {
                        told[at + 5] = b'#';
                        *removed.lock().expect("lock") = told[at + 6..at + 70].to_vec();
                        lied.store(true, Ordering::SeqCst);
                    }
                    if requests.write_all(told).await.is_err() {
                        return;
                    }
                }
            });
            tokio::spawn(async move {
                let mut bytes = vec![0; 1 << 20];
                while let Ok(count @ 1..) = answers.read(&mut bytes).await {
                    let said = &mut bytes[..count];
                    let hash = hidden.lock().expect("lock").clone();
                    if hides && knows.load(Ordering::SeqCst) {
                        while let Some(at) = said.windows(64).position(|part| part == hash) {
                            said[at..at + 64].fill(b'0');
                        }
                    }
                    if back.write_all(said).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// A server that says yes and does nothing, and one that even says that it did it: neither is believed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: scripts/test"]
async fn a_server_that_lies_is_never_the_end_of_a_leak() {
    for hides in [false, true] {
        // Of its own: it is asked who is there, by all of its users.
        let own = OwnRedis::start(Keeps::File, &[]).await;
        let world = World::in_redis(own.redis.clone()).await;
        let consumer = world.consumer().await;
        let tool = world.tool_through(&liar(own.redis.port, hides).await);
        let runbook = tool.runbook(&world.runbook(&consumer.url, Some("overlap: { until: [adopted] }")));
        let before = world.current().await;
        let ran = tool.done(&["run", runbook.to_str().expect("path"), "--env", "test", "--yes"]).await;
        assert!(world.accepts(&before).await, "the old password was never removed");
        assert!(ran.code != Some(0) && !ran.stdout.contains("DONE"), "{hides}: {ran:?}");
        assert_ne!(tool.status()["end"], "done", "{hides}");
        eprintln!("hides: {hides}, exit code {:?}, end {}", ran.code, tool.status()["end"]);
        search(&tool.state(), &[World::secret(&before), world.operator_secret().expect("it has one")]);
    }
}

/// What went wrong is told in words that quote nothing.
#[test]
fn a_name_that_no_user_can_have_is_refused() {
    let redis = Redis { port: 1, password: String::new() };
    for user in ["", "a b", "a\tb", "a\u{0}b"] {
        let spec: RedisAclUser =
            serde_json::from_value(serde_json::json!({ "connection": "c", "user": user }))
                .expect("an issuer");
        let made: Result<_, CallError> = UserIssuer::new(redis.client_as("u", "p"), spec);
        assert_eq!(made.expect_err(user).kind, ErrorKind::Invalid);
    }
}
