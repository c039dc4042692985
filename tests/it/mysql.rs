//! Users of MariaDB, against a real server: the shared one, and servers of a test's own where its log is searched, TLS is
//! switched on, or it is read-only.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use stanch::clock::SystemClock;
use stanch::domain::{CheckVerdict, ErrorKind, Identity, Life};
use stanch::kind::mysql::user::{MysqlUser, UserIssuer};
use stanch::kind::mysql::{MysqlClient, Settings, preflight};
use stanch::provider::{CallContext, Issuer as _, Use};
use stanch::secret::{Material, Secret};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::conformance::issuer_keeps_its_promises;
use crate::docs::root;
use crate::mysql_server::{Maria, OwnMaria, PERMISSIONS, text};
use crate::postgres_server::kind_of;
use crate::servers::{DEADLINE, closed_port, context, failures, unique};
use crate::tool::{Tool, search};
use crate::worlds::World;

fn spec(prefix: &str, more: &str) -> MysqlUser {
    let text = format!(r#"{{"connection":"db","name":"{prefix}","role":"{prefix}_app"{more}}}"#);
    serde_json::from_str(&text).expect("an issuer")
}

/// An issuer, as an operator who may do what the page says and nothing else.
fn issuer(maria: &Maria, prefix: &str, more: &str) -> UserIssuer {
    let (user, password) = maria.operator(prefix);
    UserIssuer::new(maria.client_as(&user, &password), spec(prefix, more)).expect("an issuer")
}

fn pair(user: &str, password: &str) -> Material {
    Material::single("username", Secret::new(user)).with("password", Secret::new(password))
}

/// What preflight refuses, as one text.
async fn refused(issuer: &UserIssuer, outgoing: &str) -> String {
    let outgoing = Identity { handle: outgoing.to_owned(), principal: "the old one".to_owned() };
    let checks = issuer.preflight(Some(&outgoing)).await;
    let failed = checks.iter().filter(|check| check.verdict == CheckVerdict::Fail);
    let told =
        failed.map(|check| format!("{}: {} ({:?}); {:?}", check.name, check.detail, check.kind, check.hint));
    told.collect::<Vec<_>>().join("\n")
}

/// The handle of the first user.
fn handle(user: &str) -> String {
    format!("{user}@%")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test"]
async fn a_user_keeps_the_promises_of_an_issuer() {
    let (maria, prefix) = (Maria::shared(), unique("app"));
    maria.app(&prefix);
    for more in [
        "",
        r#","uri":"mysql://127.0.0.1:3306/app","end_sessions":"sunset""#,
        r#","authentication":"ed25519","max_user_connections":7"#,
    ] {
        issuer_keeps_its_promises("mysql-user", &issuer(&maria, &prefix, more), "never-was").await;
    }
}

/// Whatever the old user has and a new one would not is named, with what to do; and without it, it passes.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test"]
async fn a_user_that_has_more_than_a_new_one_gets_is_refused() {
    let (maria, prefix) = (Maria::shared(), unique("It's my_app"));
    let (old, _) = maria.app(&prefix);
    let who = format!("{}@'%'", text(&old));
    let one = issuer(&maria, &prefix, "");
    maria.execute(&format!("create role `{prefix}_more`; create procedure `{prefix}`.p() select 1;"));
    assert_eq!(refused(&one, &handle(&old)).await, "");
    for (more, less, said) in [
        ("grant delete on `{p}`.* to {who}", "revoke delete on `{p}`.* from {who}", "DELETE on "),
        (
            "grant select on *.* to {who} with grant option",
            "revoke select, grant option on *.* from {who}",
            "SELECT on *.* with grant option",
        ),
        ("grant update on `{p}`.t to {who}", "revoke update on `{p}`.t from {who}", "UPDATE on "),
        ("grant update (id) on `{p}`.t to {who}", "revoke update (id) on `{p}`.t from {who}", ".t.id"),
        (
            "grant execute on procedure `{p}`.p to {who}",
            "revoke execute on procedure `{p}`.p from {who}",
            "EXECUTE on ",
        ),
        ("grant `{p}_more` to {who}", "revoke `{p}_more` from {who}", "_more"),
        (
            "grant `{p}_app` to {who} with admin option",
            "revoke admin option for `{p}_app` from {who}",
            "admin option",
        ),
        (
            "grant proxy on 'nobody-else'@'%' to {who}",
            "revoke proxy on 'nobody-else'@'%' from {who}",
            "GRANT PROXY",
        ),
        ("alter user {who} require ssl", "alter user {who} require none", "require_tls: true"),
        ("alter user {who} require subject '/CN=app'", "alter user {who} require none", "certificate"),
        (
            "alter user {who} identified via ed25519 using password('x')",
            "alter user {who} identified by 'x'",
            "authentication: ed25519",
        ),
        (
            "alter user {who} identified via ed25519 using password('x') or unix_socket",
            "alter user {who} identified by 'x'",
            "one password",
        ),
        ("create definer = {who} view `{p}`.v as select 1", "drop view `{p}`.v", "definer of view"),
        (
            "create definer = {who} trigger `{p}`.tr before insert on `{p}`.t for each row set new.id = 1",
            "drop trigger `{p}`.tr",
            "definer of trigger",
        ),
        (
            "create definer = {who} function `{p}`.f() returns int return 1",
            "drop function `{p}`.f",
            "definer of function",
        ),
        (
            "create definer = {who} event `{p}`.e on schedule every 1 year do select 1",
            "drop event `{p}`.e",
            "definer of event",
        ),
        (
            "create user {name}@'10.0.0.5' identified by 'x'",
            "drop user {name}@'10.0.0.5'",
            "would leave alive",
        ),
    ] {
        let sql = |template: &str| {
            template.replace("{p}", &prefix).replace("{who}", &who).replace("{name}", &text(&old)) + ";"
        };
        maria.execute(&sql(more));
        let found = refused(&one, &handle(&old)).await;
        assert!(found.contains(said) && !found.contains('\n'), "{said}: {found}");
        maria.execute(&sql(less));
        assert_eq!(refused(&one, &handle(&old)).await, "", "after {less}");
    }
    let narrow = issuer(&maria, &prefix, r#","host":"10.0.0.%""#);
    assert!(refused(&narrow, &handle(&old)).await.contains("set `host: \"%\"`"));
    // What the runbook's role has need not be granted to the user.
    maria.execute(&format!(
        "grant delete on `{prefix}`.* to {who}; grant delete on `{prefix}`.* to `{prefix}_app`;"
    ));
    assert_eq!(refused(&one, &handle(&old)).await, "");
}

/// `ACCOUNT LOCK` ends no session. What is revoked has none, and what runs in its name is never broken.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test"]
async fn sessions_do_not_outlive_a_user_and_what_it_defines_is_not_broken() {
    let (maria, prefix) = (Maria::shared(), unique("app"));
    let (old, password) = maria.app(&prefix);
    let plain = issuer(&maria, &prefix, "");
    let session = maria.log_in(&old, &password);
    plain.disable(&context(), &handle(&old)).await.expect("disable");
    assert!(session.is_alive(), "ACCOUNT LOCK ends no session");
    assert_eq!(maria.refusal(&old, &password), Some(4151));
    assert_eq!(plain.life(&handle(&old)).await.expect("life"), Life::Disabled);
    plain.enable(&context(), &handle(&old)).await.expect("enable");
    let sunset = issuer(&maria, &prefix, r#","end_sessions":"sunset""#);
    sunset.disable(&context(), &handle(&old)).await.expect("disable");
    assert!(!session.is_alive(), "declared, it is ended");
    sunset.enable(&context(), &handle(&old)).await.expect("enable");

    let session = maria.log_in(&old, &password);
    // One that is at work ends as well.
    let busy = maria.log_in(&old, &password);
    busy.send("select sleep(600)");
    session.send(&format!("create view `{prefix}`.kept as select id from `{prefix}`.t"));
    assert!(session.is_alive());
    let error = plain.revoke(&context(), &handle(&old), None).await.expect_err("it defines a view");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Conflict, true), "{error:?}");
    assert!(error.message.contains(&format!("view {prefix}.kept")), "{error}");
    assert!(error.message.contains("CREATE OR REPLACE DEFINER"), "{error}");
    assert_eq!(plain.life(&handle(&old)).await.expect("life"), Life::Disabled, "not gone, and of no use");
    assert!(!session.is_alive() && !busy.is_alive());
    maria.execute(&format!(
        "create or replace definer = root@'127.0.0.1' view `{prefix}`.kept as select id from `{prefix}`.t;"
    ));
    for _ in 0..2 {
        plain.revoke(&context(), &handle(&old), None).await.expect("revoke, twice");
    }
    assert_eq!(plain.life(&handle(&old)).await.expect("life"), Life::Gone);
    assert_eq!(maria.refusal(&old, &password), Some(1045));
    assert_eq!(maria.lines(&format!("select count(*) from `{prefix}`.kept;")), ["0"], "it works on");
}

/// A user that someone else drops leaves its sessions: it is not gone before they are.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test"]
async fn sessions_of_a_user_that_was_dropped_beside_the_run_are_ended() {
    let (maria, prefix) = (Maria::shared(), unique("app"));
    let (old, password) = maria.app(&prefix);
    let one = issuer(&maria, &prefix, "");
    let session = maria.log_in(&old, &password);
    maria.execute(&format!("drop user '{old}'@'%';"));
    assert!(session.is_alive(), "DROP USER ends no session");
    assert_eq!(one.life(&handle(&old)).await.expect("life"), Life::Deleted);
    let known = one.identify(&pair(&old, &password)).await.expect("an answer").expect("its session is left");
    assert_eq!((known.life, known.identity.handle), (Life::Deleted, handle(&old)));
    one.revoke(&context(), &handle(&old), None).await.expect("revoke");
    assert!(!session.is_alive());
    assert_eq!(one.life(&handle(&old)).await.expect("life"), Life::Gone);
    assert!(one.identify(&pair(&old, &password)).await.expect("an answer").is_none());
}

/// Who refuses before a login was tried has read no password, and has not shown who it is: that proves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_place_of_a_greeting_is_no_verdict() {
    for code in [1045_u16, 1698, 1044, 1049] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let port = listener.local_addr().expect("address").port();
        let said = [b"\xff".to_vec(), code.to_le_bytes().to_vec(), b"#28000Access denied".to_vec()].concat();
        let length = u8::try_from(said.len()).expect("short");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            stream.write_all(&[&[length, 0, 0, 0][..], &said].concat()).await.expect("sent");
        });
        let maria = Maria { port, password: String::new() };
        let one = UserIssuer::new(maria.client_as("ops", "secret"), spec("app", "")).expect("an issuer");
        let error = one.attempt(&pair("app_0123456789", "secret")).await.expect_err("neither");
        assert_eq!(error.kind, ErrorKind::NoAnswer, "{code}: {error:?}");
    }
}

/// Each permission that is missing is named, with the statement that grants it; and none of them is taken for an empty answer.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test"]
async fn what_is_missing_is_found_before_anything_is_changed() {
    let (maria, prefix) = (Maria::shared(), unique("app"));
    let (old, password) = maria.app(&prefix);
    for (word, on) in PERMISSIONS {
        let session = maria.log_in(&old, &password);
        let (user, secret) = maria.operator_without(&prefix, Some(word));
        let one = UserIssuer::new(maria.client_as(&user, &secret), spec(&prefix, "")).expect("an issuer");
        let found = refused(&one, &handle(&old)).await;
        if word == "select" {
            // Nothing at all can be asked.
            assert!(found.contains("Denied") && found.contains("SELECT"), "{word}: {found}");
            continue;
        }
        let grant = format!("GRANT {} ON {on} TO '{user}'@'%'", word.to_uppercase());
        assert!(found.contains(&grant), "{word}: {found}");
        if word == "update" {
            // That is for new users alone.
            continue;
        }
        let error = one.revoke(&context(), &handle(&old), None).await.expect_err(word);
        assert_eq!(error.kind, ErrorKind::Denied, "{word}: {error:?}");
        assert!(["create user", "show view", "trigger"].contains(&word) != session.is_alive(), "{word}");
        maria.execute(&format!("alter user '{old}'@'%' account unlock;"));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test"]
async fn a_role_that_cannot_be_granted_and_the_own_user_are_refused() {
    let (maria, prefix) = (Maria::shared(), unique("app"));
    let (old, _) = maria.app(&prefix);
    let (user, word) = maria.operator(&prefix);
    let client = maria.client_as(&user, &word);
    let own = UserIssuer::new(client.clone(), spec(&prefix, "")).expect("an issuer");
    assert!(refused(&own, &handle(&user)).await.contains("about to drop"));
    maria.execute(&format!("revoke admin option for `{prefix}_app` from '{user}'@'%';"));
    let found = refused(&own, &handle(&old)).await;
    assert!(found.contains("WITH ADMIN OPTION"), "{found}");
    // And it changes nothing: no user, no mark.
    let error =
        own.issue(&context(), own.candidate(&context()).as_ref()).await.expect_err("it may not grant it");
    assert!(!error.in_doubt, "{error:?}");
    maria.execute(&format!("drop role `{prefix}_app`;"));
    assert!(refused(&own, &handle(&old)).await.contains(&format!("there is no role {prefix}_app")));
    let error =
        own.issue(&context(), own.candidate(&context()).as_ref()).await.expect_err("there is no role");
    assert!(!error.in_doubt, "{error:?}");
    assert_eq!(maria.accounts(&format!("{prefix}_"), false), [old], "nothing is left of either");
    assert_eq!(maria.marks(&prefix), Vec::<String>::new());
    // A wrong password of the operator's is no refusal of the app's.
    let wrong =
        UserIssuer::new(maria.client_as(&user, "wrong-password"), spec(&prefix, "")).expect("an issuer");
    let error = wrong.life("x@%").await.expect_err("not let in");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Refused, false), "{error:?}");
    assert!(!format!("{error:?}").contains("wrong-password"), "{error:?}");
}

/// Only an answer about the password counts: not a locked account, not a full server, not silence.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test"]
async fn only_a_refused_password_is_a_refusal() {
    let (maria, prefix) = (Maria::shared(), unique("app"));
    let (old, password) = maria.app(&prefix);
    let one = issuer(&maria, &prefix, "");
    let tried = async |password: &str| one.attempt(&pair(&old, password)).await;
    assert_eq!(tried(&password).await.expect("an answer"), Use::Accepted);
    assert!(matches!(tried("wrong").await.expect("an answer"), Use::Refused(how) if how.contains("1045")));
    let nobody = one.attempt(&pair("never-was", "wrong")).await.expect("an answer");
    assert!(matches!(nobody, Use::Refused(how) if how.contains("1045")));
    maria.execute(&format!("alter user '{old}'@'%' account lock;"));
    let error = tried(&password).await.expect_err("locked");
    assert!(error.kind == ErrorKind::NoAnswer && error.message.contains("4151"), "{error:?}");
    maria.execute(&format!("alter user '{old}'@'%' with max_user_connections 1 account unlock;"));
    let session = maria.log_in(&old, &password);
    assert_eq!(kind_of(tried(&password).await), ErrorKind::NoAnswer, "too many sessions");
    drop(session);
    maria.execute(&format!("alter user '{old}'@'%' with max_user_connections 0;"));
    // Authentication comes first: one that may not use the database is valid.
    for database in ["mysql", "there-is-none"] {
        let elsewhere = issuer(&maria, &prefix, &format!(r#","database":"{database}""#));
        assert_eq!(elsewhere.attempt(&pair(&old, &password)).await.expect("an answer"), Use::Accepted);
        assert!(matches!(elsewhere.attempt(&pair(&old, "wrong")).await, Ok(Use::Refused(_))));
    }
    // A server that is down, and one that is none.
    let down = Maria { port: closed_port().port(), ..maria.clone() };
    let down = UserIssuer::new(down.client_as("u", "p"), spec(&prefix, "")).expect("an issuer");
    assert_eq!(kind_of(down.attempt(&pair(&old, &password)).await), ErrorKind::Unreachable);
    let error = down.issue(&context(), down.candidate(&context()).as_ref()).await.expect_err("down");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Unreachable, false));
}

/// A server that asks for a password in plain text, for a file of this machine's, or that talks nonsense, gets nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_server_gets_no_password_and_no_file() {
    let greeting = b"\x4a\x00\x00\x00\x0a5.5.5-10.11.0-MariaDB\0\x01\0\0\0abcdefgh\0\xfe\xf7\x2d\x02\0\xff\x81\x15\0\0\0\0\0\0\0\0\0\0abcdefghijkl\0mysql_native_password\0";
    let mut hello = greeting.to_vec();
    let length = u8::try_from(hello.len() - 4).expect("short");
    hello[0] = length;
    let clear = b"\x16\x00\x00\x02\xfemysql_clear_password\0".to_vec();
    let (ok, file) = (b"\x07\0\0\x02\0\0\0\x02\0\0\0".to_vec(), b"\x0c\0\0\x01\xfb/etc/passwd".to_vec());
    for (said, asks) in [
        (vec![hello.clone(), clear], "mysql_clear_password"),
        (vec![hello.clone(), ok, file], "it is not a response of MariaDB"),
        (vec![b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()], "cannot connect to MariaDB"),
        (vec![vec![0xff; 64]], "cannot connect to MariaDB"),
        (vec![vec![0; 4]], "cannot connect to MariaDB"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let port = listener.local_addr().expect("address").port();
        let heard = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut heard = Vec::new();
            for packet in said {
                stream.write_all(&packet).await.expect("sent");
                let mut buffer = [0; 4096];
                let count = stream.read(&mut buffer).await.unwrap_or_default();
                heard.extend_from_slice(&buffer[..count]);
            }
            heard
        });
        let maria = Maria { port, password: String::new() };
        let one =
            UserIssuer::new(maria.client_as("ops", "Canary-Password"), spec("app", "")).expect("an issuer");
        let error = one.life("x@%").await.expect_err("it is no server");
        assert!(error.message.contains(asks), "{asks}: {error:?}");
        assert!(!error.in_doubt, "{error:?}");
        let heard = heard.await.expect("a server");
        assert!(!String::from_utf8_lossy(&heard).contains("Canary-Password"), "{asks}");
    }
}

/// The reply to an `issue` is lost: the same call again finds what it made, and no other call takes that for its own. One that a
/// server left half-made is completed by the same call, and is no credential before that.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test"]
async fn a_repeated_issue_makes_one_user() {
    let (maria, prefix) = (Maria::shared(), unique("app"));
    let (old, _) = maria.app(&prefix);
    let (one, step) = (issuer(&maria, &prefix, ""), context());
    let candidate = one.candidate(&context());
    let first = one.issue(&step, candidate.as_ref()).await.expect("issue");
    let again = one.issue(&step, candidate.as_ref()).await.expect("issue again");
    assert_eq!(first.identity, again.identity);
    let error = one.issue(&context(), candidate.as_ref()).await.expect_err("another step's");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Conflict, false), "{error:?}");
    let whole = CallContext { step: String::new(), ..step.clone() };
    assert_eq!(one.find(&whole, &[]).await.expect("find"), [first.identity.handle.as_str()]);
    assert_eq!(maria.marks(&prefix).len(), 1);

    let user = first.material.part("username").expect("a name").expose();
    maria.execute(&format!("revoke `{prefix}_app` from '{user}'@'%'; alter user '{user}'@'%' account lock;"));
    let error = one.inspect(&first.identity.handle).await.expect_err("half-made");
    assert!(error.message.contains("not completed"), "{error:?}");
    one.issue(&step, candidate.as_ref()).await.expect("completed");
    let grant = one.inspect(&first.identity.handle).await.expect("whole");
    assert_eq!((grant.policies, grant.wider), (Some(vec![format!("{prefix}_app")]), Vec::new()));
    assert_eq!(one.attempt(&first.material).await.expect("an answer"), Use::Accepted);

    // A mark whose user was never made is nobody's credential, and is no hindrance.
    maria.execute(&format!("drop user '{user}'@'%';"));
    assert_eq!(one.find(&whole, &[]).await.expect("find"), Vec::<String>::new());
    assert_eq!(one.life(&first.identity.handle).await.expect("life"), Life::Deleted, "its mark is left");
    one.issue(&step, candidate.as_ref()).await.expect("issue once more");
    one.revoke(&step, &first.identity.handle, None).await.expect("revoke");
    assert_eq!(one.life(&first.identity.handle).await.expect("life"), Life::Gone);
    assert_eq!(maria.marks(&prefix), Vec::<String>::new());
    assert_eq!(maria.accounts(&format!("{prefix}_"), false), [old]);
}

/// A new user may do what the old one may, at once and without asking for it; and what the runbook declares, it gets.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test"]
async fn a_new_user_may_do_what_the_role_may() {
    let (maria, prefix) = (Maria::shared(), unique("app"));
    maria.app(&prefix);
    for (more, plugin) in [
        ("", "mysql_native_password"),
        (r#","authentication":"ed25519","max_user_connections":2"#, "ed25519"),
    ] {
        let one = issuer(&maria, &prefix, more);
        let new = one.issue(&context(), one.candidate(&context()).as_ref()).await.expect("issue");
        let part = |name: &str| new.material.part(name).expect("a part").expose().to_owned();
        let session = maria.log_in(&part("username"), &part("password"));
        session.send(&format!("insert into `{prefix}`.t values (1)"));
        assert!(session.is_alive(), "{plugin}");
        let row = maria.lines(&format!(
            "select plugin, max_user_connections from mysql.user where User = '{}';",
            part("username")
        ));
        assert_eq!(row, [format!("{plugin}\t{}", if more.is_empty() { 0 } else { 2 })]);
    }
    assert_eq!(maria.lines(&format!("select count(*) from `{prefix}`.t;")), ["2"]);
}

/// Passwords that mean something in a URI, in a statement or to a shell, as the old credential; names as well.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test"]
async fn any_password_is_the_password() {
    let (maria, prefix) = (Maria::shared(), unique("app"));
    maria.app(&prefix);
    let (pairs, uris) =
        (issuer(&maria, &prefix, ""), issuer(&maria, &prefix, r#","uri":"mysql://db.internal/app""#));
    let name = format!("{prefix} o'Neil\\\"@x");
    let who = format!("{}@'%'", text(&name));
    maria.execute(&format!("create user {who} identified by 'x';"));
    for (password, written) in [
        ("@/%^+", "%40%2F%25%5E%2B"),
        ("a:b c", "a:b%20c"),
        ("ünïcode'\"\\", "%C3%BCn%C3%AFcode%27%22%5C"),
        ("'; drop user x; -- ", "%27%3B%20drop%20user%20x%3B%20--%20"),
    ] {
        for plugin in ["mysql_native_password", "ed25519"] {
            maria.execute(&format!(
                "alter user {who} identified via {plugin} using password({});",
                text(password)
            ));
            let uri = format!(
                "mysql://{}:{written}@db.internal/app?x=1",
                "{user}".replace("{user}", &escaped(&name))
            );
            for (one, material) in
                [(&pairs, pair(&name, password)), (&uris, Material::single("uri", Secret::new(uri)))]
            {
                assert_eq!(
                    one.attempt(&material).await.expect("an answer"),
                    Use::Accepted,
                    "{password} {plugin}"
                );
                let standing = one.identify(&material).await.expect("identify").expect("known");
                assert_eq!(standing.identity.handle, format!("{name}@%"));
            }
        }
    }
    pairs.disable(&context(), &handle(&name)).await.expect("disable");
    assert_eq!(pairs.life(&handle(&name)).await.expect("life"), Life::Disabled);
    pairs.revoke(&context(), &handle(&name), None).await.expect("revoke");
    assert_eq!(pairs.life(&handle(&name)).await.expect("life"), Life::Gone);
    let bad = Material::single("uri", Secret::new(format!("mysql://{prefix}:%zz-hidden@h/d")));
    let error = uris.attempt(&bad).await.expect_err("it is none");
    assert!(error.kind == ErrorKind::Invalid && !format!("{error:?}").contains("hidden"), "{error:?}");
}

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// No password stands in the log of a server that logs every statement, whatever its quotes mean there.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test"]
async fn no_password_is_in_the_servers_log() {
    let own = OwnMaria::start(&["--sql-mode=ORACLE"]).await;
    let (maria, prefix) = (&own.maria, unique("app"));
    let (old, password) = maria.app(&prefix);
    for more in ["", r#","authentication":"ed25519""#] {
        let one = issuer(maria, &prefix, more);
        let new = one.issue(&context(), one.candidate(&context()).as_ref()).await.expect("issue");
        assert_eq!(one.attempt(&new.material).await.expect("an answer"), Use::Accepted);
        assert!(matches!(one.attempt(&pair(&old, "Wrong-Canary-Password")).await, Ok(Use::Refused(_))));
        one.revoke(&context(), &new.identity.handle, None).await.expect("revoke");
        let (log, made) =
            (own.statements(), new.material.part("password").expect("a password").expose().to_owned());
        let user = new.material.part("username").expect("a name").expose();
        assert!(
            log.contains(&format!("CREATE USER '{user}'")) && log.contains(&format!("DROP USER '{user}'")),
            "it logs statements"
        );
        assert!(
            !log.contains(&made) && !log.contains("Wrong-Canary-Password"),
            "a password is in the server's log"
        );
    }
    assert!(maria.accepts(&old, &password));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test"]
async fn a_read_only_server_is_refused_and_never_written_to() {
    let own = OwnMaria::start(&[]).await;
    let (maria, prefix) = (&own.maria, unique("app"));
    maria.app(&prefix);
    let (user, word) = maria.operator(&prefix);
    let client = maria.client_as(&user, &word);
    assert_eq!(failures(&preflight(&client, &SystemClock::new()).await), Vec::<String>::new());
    maria.execute("set global read_only = 1;");
    let checks = preflight(&client, &SystemClock::new()).await;
    let server = checks.iter().find(|check| check.name == "server").expect("a check");
    assert!(server.verdict == CheckVerdict::Fail && server.detail.contains("read-only"), "{checks:?}");
    let one = UserIssuer::new(client, spec(&prefix, "")).expect("an issuer");
    let error = one.issue(&context(), one.candidate(&context()).as_ref()).await.expect_err("read-only");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::NotReady, false), "{error:?}");
    assert!(error.hint.is_some_and(|hint| hint.contains("primary")));
    assert_eq!(maria.marks(&prefix), Vec::<String>::new());
}

/// A server that would refuse a hash in place of a password says so before anything is changed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test"]
async fn a_server_that_takes_no_hash_is_refused() {
    let own = OwnMaria::start(&[]).await;
    let (maria, prefix) = (&own.maria, unique("app"));
    maria.app(&prefix);
    let one = issuer(maria, &prefix, "");
    maria.execute("install soname 'simple_password_check';");
    let found = refused(&one, "x@%").await;
    assert!(found.contains("strict_password_validation"), "{found}");
    let error = one.issue(&context(), one.candidate(&context()).as_ref()).await.expect_err("no hash");
    assert!(!error.in_doubt, "{error:?}");
    assert_eq!(maria.marks(&prefix), Vec::<String>::new());
    maria.execute("set global strict_password_validation = off;");
    assert_eq!(refused(&one, "x@%").await, "");
    one.issue(&context(), one.candidate(&context()).as_ref()).await.expect("issue");
}

/// The certificate and its name are verified; nothing less is taken, also not where the server offers no TLS.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test"]
async fn a_server_whose_certificate_does_not_fit_is_not_talked_to() {
    let certificates = root().join("tests/servers/tls");
    for (certificate, ca, host, said) in [
        ("server.pem", "ca.pem", "127.0.0.1", None),
        ("server.pem", "ca.pem", "localhost", None),
        ("server.pem", "other-ca.pem", "127.0.0.1", Some("UnknownIssuer")),
        ("elsewhere.pem", "ca.pem", "127.0.0.1", Some("not valid for name")),
        ("", "ca.pem", "127.0.0.1", Some("does not speak it")),
    ] {
        let home = tempfile::Builder::new().prefix("stanch-mariadb").tempdir_in("/tmp").expect("folder");
        let file = home.path().join("server.pem");
        let mut options = Vec::new();
        if !certificate.is_empty() {
            std::fs::copy(certificates.join(certificate), &file).expect("certificate");
            options = vec![format!("--ssl-cert={}", file.display()), format!("--ssl-key={}", file.display())];
        }
        let own = OwnMaria::start_in(home, &options.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let prefix = unique("app");
        let (old, password) = own.maria.app(&prefix);
        let (user, word) = own.maria.operator(&prefix);
        let settings = Settings {
            tls: true,
            ca_cert: Some(certificates.join(ca)),
            host: host.to_owned(),
            ..own.maria.settings(&user, &word)
        };
        let client = MysqlClient::new(settings, DEADLINE).expect("a client");
        let one =
            UserIssuer::new(Arc::new(client), spec(&prefix, r#","require_tls":true"#)).expect("an issuer");
        match (one.attempt(&pair(&old, &password)).await, one.life(&handle(&old)).await, said) {
            (Ok(Use::Accepted), Ok(Life::Active), None) => {
                let new = one.issue(&context(), one.candidate(&context()).as_ref()).await.expect("issue");
                assert_eq!(one.attempt(&new.material).await.expect("an answer"), Use::Accepted);
                let plain = issuer(&own.maria, &prefix, "");
                assert!(matches!(plain.attempt(&new.material).await, Ok(Use::Refused(_))), "it must use TLS");
            }
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

/// `stanch revoke`: by the name of the user, with its sessions; what has the same name elsewhere is told.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test"]
async fn a_user_dies_by_its_name() {
    let (maria, prefix) = (Maria::shared(), unique("app"));
    let (old, password) = maria.app(&prefix);
    let session = maria.log_in(&old, &password);
    let (user, word) = maria.operator(&prefix);
    let port = maria.port.to_string();
    let tool =
        Tool::new().with("MYSQL_HOST", "127.0.0.1").with("MYSQL_TCP_PORT", &port).with("MYSQL_USER", &user);
    let tool = tool.with("MYSQL_PWD", &word).with("MYSQL_SSL_MODE", "DISABLED");
    let reason = ["--reason", "in a log", "--yes"];
    maria.execute(&format!("create user '{old}'@'10.0.0.5' identified by 'x';"));
    let elsewhere = format!("{old}@10.0.0.5");
    let shown =
        tool.done(&["revoke", "mysql-user", &elsewhere, "--reason", "x", "--dry-run"]).await.expect(0);
    assert!(
        shown.stdout.contains("same user name, and stay")
            && shown.stdout.contains(&format!("stanch revoke mysql-user {old}@%")),
        "{shown:?}"
    );
    tool.done(&[&["revoke", "mysql-user", &elsewhere], &reason[..]].concat()).await.expect(0);
    assert!(maria.accepts(&old, &password), "the other account stays");
    assert!(!session.is_alive(), "a server does not say which account let a session in");
    let session = maria.log_in(&old, &password);
    let ran =
        tool.done(&[&["revoke", "mysql-user", &old, "never-was"], &reason[..]].concat()).await.expect(0);
    assert!(ran.stdout.contains(&format!("{old}: gone, as its issuer says")), "{ran:?}");
    assert!(ran.stdout.contains("never-was: unknown to its issuer"), "{ran:?}");
    assert!(!maria.accepts(&old, &password));
    assert!(!session.is_alive(), "its session lives on");
    let own = tool.done(&[&["revoke", "mysql-user", &user], &reason[..]].concat()).await.expect(1);
    assert!(own.stderr.contains("about to drop"), "{own:?}");
    search(&tool.state(), &[password, word]);
}

/// How a server in between lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// It says yes to whatever would end a user or its sessions, and does nothing.
    Yes,
    /// When it is to drop the user it unlocks it, and says from then on that it is not there any more.
    Gone,
    /// The same, and from then on it refuses everybody but the operator.
    Nobody,
}

/// A server that lies about one user.
async fn liar(port: u16, user: String, lie: Lie) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = format!("http://127.0.0.1:{}", listener.local_addr().expect("address").port());
    let dropped = Arc::new(AtomicBool::new(false));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (user, dropped) = (user.clone(), Arc::clone(&dropped));
            tokio::spawn(async move {
                let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                let (mut asked, mut said) = (vec![0; 65536], vec![0; 65536]);
                loop {
                    // A request is one packet here, and sent at once.
                    tokio::select! {
                        count = client.read(&mut asked) => {
                            let Ok(count @ 1..) = count else { return };
                            let packet = &mut asked[..count];
                            let text = String::from_utf8_lossy(packet).into_owned();
                            let is = |word: &str| text.get(5..).is_some_and(|sql| sql.starts_with(word));
                            let is_login = packet.get(3) == Some(&1) && !text.contains("operator");
                            let drops = is("DROP USER") && text.contains(&user);
                            dropped.fetch_or(drops, Ordering::SeqCst);
                            if lie == Lie::Yes && (drops || is("KILL") || text.ends_with("ACCOUNT LOCK")) {
                                let ok = b"\x07\0\0\x01\0\0\0\x02\0\0\0";
                                if client.write_all(ok).await.is_err() { return }
                                continue;
                            }
                            if drops {
                                let sql = format!("\u{3}ALTER USER '{user}'@'%' ACCOUNT UNLOCK");
                                let mut other = vec![u8::try_from(sql.len()).expect("short"), 0, 0, 0];
                                other.extend_from_slice(sql.as_bytes());
                                if server.write_all(&other).await.is_err() { return }
                                continue;
                            }
                            if lie == Lie::Nobody && is_login && dropped.load(Ordering::SeqCst) {
                                let mut no = b"\0\0\0\x02\xff\x15\x04#28000Access denied".to_vec();
                                no[0] = u8::try_from(no.len() - 4).expect("short");
                                let _ = client.write_all(&no).await;
                                return;
                            }
                            let hides = dropped.load(Ordering::SeqCst) && !is_login && packet.get(3) == Some(&0);
                            if hides && let Some(at) = text.find(&user) {
                                packet[at] = b'?';
                            }
                            if server.write_all(packet).await.is_err() { return }
                        }
                        count = server.read(&mut said) => {
                            let Ok(count @ 1..) = count else { return };
                            if client.write_all(&said[..count]).await.is_err() { return }
                        }
                    }
                }
            });
        }
    });
    address
}

/// A server that says yes and does nothing, one that even says that it did it, and one that then refuses everybody: none is
/// believed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: scripts/test"]
async fn a_server_that_lies_is_never_the_end_of_a_leak() {
    for (lie, said) in [
        (Lie::Yes, "enabled the old app-key again"),
        (Lie::Gone, "the old credential is still accepted by"),
        (Lie::Nobody, "also refuses the new credential"),
    ] {
        let world = World::mysql().await;
        let World::Mysql { maria, name, session, .. } = &world else { unreachable!("it is one of MariaDB") };
        // Its sessions would give the first lie away.
        session.send("quit");
        let consumer = world.consumer().await;
        let tool = world.tool_through(&liar(maria.port, format!("{name}_first"), lie).await);
        let runbook = tool.runbook(&world.runbook(&consumer.url, Some("overlap: { until: [adopted] }")));
        let before = world.current().await;
        let ran = tool.done(&["run", runbook.to_str().expect("path"), "--env", "test", "--yes"]).await;
        assert!(world.accepts(&before).await, "the old user was never dropped");
        eprintln!("{lie:?}: exit code {:?}, end {}", ran.code, tool.status()["end"]);
        assert!(ran.code != Some(0) && !ran.stdout.contains("DONE"), "{lie:?}: {ran:?}");
        assert_ne!(tool.status()["end"], "done", "{lie:?}");
        let journal = std::fs::read_to_string(tool.journal().expect("journal")).expect("journal");
        assert!(
            ran.stdout.contains(said) || ran.stderr.contains(said) || journal.contains(said),
            "{lie:?}: {ran:?}"
        );
        search(&tool.state(), &[World::secret(&before), world.operator_secret().expect("it has one")]);
    }
}

#[test]
fn names_that_no_user_can_have_are_refused() {
    let maria = Maria { port: 1, password: String::new() };
    for (prefix, more) in [
        (String::new(), ""),
        ("a\\n".to_owned(), ""),
        ("x".repeat(37), ""),
        ("app".to_owned(), r#","host":"""#),
        ("app".to_owned(), r#","host":"a@b""#),
        ("app".to_owned(), r#","uri":"postgresql://h/d""#),
    ] {
        let made = UserIssuer::new(maria.client_as("u", "p"), spec(&prefix, more));
        assert!(made.is_err_and(|error| error.kind == ErrorKind::Invalid), "{prefix} {more}");
    }
}
