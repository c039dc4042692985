//! Login roles of PostgreSQL, against a real server: the shared one, and servers of a test's own where its log is
//! searched, TLS is switched on, or a standby is needed.

use std::path::PathBuf;

use stanch::clock::SystemClock;
use stanch::domain::{CheckVerdict, ErrorKind, Identity, Life};
use stanch::kind::postgres::role::{PostgresRole, RoleIssuer};
use stanch::kind::postgres::{PgClient, Settings, SslMode, preflight};
use stanch::provider::{Issuer as _, Use};
use stanch::secret::{Material, Secret};

use crate::conformance::issuer_keeps_its_promises;
use crate::docs::root;
use crate::postgres_server::{OwnPg, Pg, give, kind_of, speaks_tls, tls_front, write};
use crate::servers::{DEADLINE, closed_port, context, failures, unique};
use crate::tool::{Tool, search};
use crate::worlds::World;

fn spec(prefix: &str, more: &str) -> PostgresRole {
    let text = format!(r#"{{"connection":"db","name":"{prefix}","member_of":["{prefix}_owner"]{more}}}"#);
    serde_json::from_str(&text).expect("an issuer")
}

/// An issuer, as an operator who may create roles and nothing else.
async fn issuer(pg: &Pg, prefix: &str, more: &str) -> RoleIssuer {
    let (user, password) = pg.operator(prefix).await;
    RoleIssuer::new(pg.client_as(&user, &password), spec(prefix, more)).expect("an issuer")
}

fn pair(user: &str, password: &str) -> Material {
    Material::single("username", Secret::new(user)).with("password", Secret::new(password))
}

fn identity(handle: &str) -> Identity {
    Identity { handle: handle.to_owned(), principal: "the old one".to_owned() }
}

/// What preflight refuses, as one text.
async fn refused(issuer: &RoleIssuer, outgoing: &str) -> String {
    failures(&issuer.preflight(Some(&identity(outgoing))).await).join("\n")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test"]
async fn a_role_keeps_the_promises_of_an_issuer() {
    let (pg, prefix) = (Pg::shared(), unique("app"));
    pg.app(&prefix).await;
    let two_parts = issuer(&pg, &prefix, "").await;
    issuer_keeps_its_promises("postgres-role", &two_parts, "never-was").await;
    let url = r#","uri":"postgresql://127.0.0.1:5432/app?sslmode=disable","end_sessions":"sunset""#;
    let one = issuer(&pg, &prefix, url).await;
    issuer_keeps_its_promises("postgres-role", &one, "never-was").await;
}

/// Whatever the old role has and a new one would not is named, with what to do; and once that is done, it passes.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test"]
async fn a_role_that_has_more_than_a_new_one_gets_is_refused() {
    let (pg, prefix) = (Pg::shared(), unique("App it's"));
    let (old, _) = pg.app(&prefix).await;
    let (database, keeper) = (unique("shop"), format!("{prefix}_keeper"));
    let (user, word) = pg.operator(&prefix).await;
    pg.execute(&format!("create role \"{keeper}\"; grant \"{keeper}\" to \"{user}\"")).await;
    let plain = RoleIssuer::new(pg.client_as(&user, &word), spec(&prefix, "")).expect("an issuer");
    assert_eq!(refused(&plain, &old).await, "");
    pg.execute(&format!("create database \"{database}\"")).await;
    let told = async |sql: &str, words: &[&str]| {
        pg.execute_in(&database, sql).await;
        let said = refused(&plain, &old).await;
        assert!(words.iter().all(|word| said.contains(word)), "{sql}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    };
    let owner = format!("{prefix}_owner");
    let tables = "create table foreign_to_us (id int); create table orders (id int); create table secrets (id int, word text)";
    pg.execute_in(&database, tables).await;
    let kept = format!("alter table orders owner to \"{keeper}\"; alter table secrets owner to \"{keeper}\"");
    pg.execute_in(&database, &kept).await;
    let done: &[(&str, &[&str], &str)] = &[
        (
            "alter role OLD createdb bypassrls",
            &["CREATEDB", "`bypassrls`"],
            "alter role OLD nocreatedb nobypassrls",
        ),
        ("alter role OLD connection limit 5", &[], "alter role OLD connection limit -1"),
        (
            "alter role OLD valid until '2100-01-01'",
            &["VALID UNTIL"],
            "alter role OLD valid until 'infinity'",
        ),
        (
            "alter role OLD valid until '2001-01-01'",
            &["is dead since 2001-01-01", "stanch revoke postgres-role", "--reason TEXT"],
            "alter role OLD valid until 'infinity'",
        ),
        (
            "create foreign data wrapper w; create server s foreign data wrapper w; create user mapping for OLD server s",
            &["user mapping for", "on server s", "DROP USER MAPPING FOR"],
            "drop foreign data wrapper w cascade",
        ),
        (
            "alter role OLD set search_path = shop, public",
            &["search_path", "`shop, public`"],
            "alter role OLD reset all",
        ),
        (
            "alter role OLD in database DB set work_mem = '9MB'",
            &["work_mem", "in the database"],
            "alter role OLD in database DB reset all",
        ),
        ("grant pg_monitor to OLD", &["member of pg_monitor"], "revoke pg_monitor from OLD"),
        (
            "grant select on orders to OLD",
            &["select on table public.orders"],
            "grant select on orders to OWNER",
        ),
        (
            "grant update (word) on secrets to OLD",
            &["update on column word of table public.secrets"],
            "grant update on secrets to OWNER",
        ),
        (
            "grant select on foreign_to_us to OLD, OWNER",
            &["select on table public.foreign_to_us, owned by postgres", "not a member of the owner"],
            "revoke select on foreign_to_us from OLD",
        ),
        (
            "grant delete on orders to OWNER, OLD with grant option; set role OLD; grant delete on orders to pg_monitor",
            &["granted others", "delete on table public.orders"],
            "set role OLD; revoke delete on orders from pg_monitor; reset role; revoke delete on orders from OLD, OWNER",
        ),
        (
            "alter default privileges for role OLD grant select on tables to public",
            &["default privileges of its own"],
            "alter default privileges for role OLD revoke select on tables from public",
        ),
        (
            "create table mine (id int); alter table mine owner to OLD",
            &["owns objects", "table public.mine"],
            "alter table mine owner to OWNER",
        ),
        (
            "create policy p on orders to OLD using (true)",
            &["row security", "policy p on table public.orders"],
            "drop policy p on orders",
        ),
        (
            "grant create on database DB to OLD",
            &["create on database"],
            "revoke create on database DB from OLD",
        ),
    ];
    for (sql, words, undo) in done {
        let named = |text: &str| {
            let (old, owner, database) =
                (format!("\"{old}\""), format!("\"{owner}\""), format!("\"{database}\""));
            text.replace("OLD", &old).replace("OWNER", &owner).replace("DB", &database)
        };
        if words.is_empty() {
            pg.execute_in(&database, &named(sql)).await;
        } else {
            told(&named(sql), words).await;
        }
        pg.execute_in(&database, &named(undo)).await;
        assert_eq!(refused(&plain, &old).await, "", "after {undo}");
    }
    // A default privilege that others give it.
    pg.execute_in(&database, &format!("alter default privileges grant select on tables to \"{old}\"")).await;
    assert!(refused(&plain, &old).await.contains("select on default privileges"));
    pg.execute_in(&database, &format!("grant select on foreign_to_us to \"{old}\"")).await;
    // What nobody looked at before is named at the end as well, and nothing is dropped.
    let error = plain.revoke(&context(), &old, None).await.expect_err("privileges of a stranger's");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Conflict, true), "{error:?}");
    assert!(error.message.contains("select on table public.foreign_to_us, owned by postgres"), "{error:?}");
    assert!(error.hint.is_some_and(|hint| hint.contains("DROP OWNED BY")), "{}", error.message);
}

/// With what the runbook declares, a new role gets the same, and can do the same.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test"]
async fn what_the_runbook_declares_a_new_role_gets() {
    let (pg, prefix) = (Pg::shared(), unique("app"));
    let (old, _) = pg.app(&prefix).await;
    let owner = format!("{prefix}_owner");
    pg.execute(&format!(
        "create schema \"{prefix}\" authorization \"{owner}\"; alter role \"{old}\" set role = '{owner}';
         alter role \"{old}\" set search_path = \"{prefix}\", pg_catalog; alter role \"{old}\" connection limit 7"
    ))
    .await;
    let more = format!(
        r#","settings":{{"role":"{owner}","search_path":"\"{prefix}\", pg_catalog"}},"connection_limit":7"#
    );
    let same = issuer(&pg, &prefix, &more).await;
    assert_eq!(refused(&same, &old).await, "");
    let new = same.issue(&context(), same.candidate(&context()).as_ref()).await.expect("issue");
    let part = |name: &str| new.material.part(name).expect("part").expose().to_owned();
    let session = pg.log_in(&part("username"), &part("password"), "postgres").await.expect("a session");
    session.batch_execute("create table made (id int)").await.expect("it may create");
    let sql = format!(
        "select tableowner::text from pg_tables where schemaname = '{prefix}' and tablename = 'made'"
    );
    assert_eq!(pg.column(&sql).await, [owner]);
    assert_eq!(refused(&same, &new.identity.handle).await, "", "the next rotation finds the same");
    let grant = same.inspect(&new.identity.handle).await.expect("inspect");
    assert_eq!((grant.policies, grant.wider), (Some(vec![format!("{prefix}_owner")]), Vec::new()));
}

/// `NOLOGIN` ends no session. What is revoked has none, and what it owned in any database is another's or still its own.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test"]
async fn sessions_and_objects_do_not_outlive_a_role_and_none_is_dropped() {
    let (pg, prefix, database) = (Pg::shared(), unique("app"), unique("shop"));
    let (old, password) = pg.app(&prefix).await;
    let plain = issuer(&pg, &prefix, "").await;
    pg.execute(&format!("create database \"{database}\"")).await;
    let own = format!(
        "create table kept (id int); insert into kept values (7); alter table kept owner to \"{old}\""
    );
    pg.execute_in(&database, &own).await;
    let alive = async |session: &tokio_postgres::Client| session.simple_query("select 1").await.is_ok();
    let session = pg.log_in(&old, &password, &database).await.expect("a session");

    plain.disable(&context(), &old).await.expect("disable");
    assert!(alive(&session).await, "NOLOGIN ends no session");
    assert!(!pg.accepts(&old, &password).await);
    plain.enable(&context(), &old).await.expect("enable");
    let sunset = issuer(&pg, &prefix, r#","end_sessions":"sunset""#).await;
    sunset.disable(&context(), &old).await.expect("disable");
    assert!(!alive(&session).await, "declared, it is ended");
    sunset.enable(&context(), &old).await.expect("enable");

    // It owns a table: nothing says whose that shall be.
    let session = pg.log_in(&old, &password, "postgres").await.expect("a session");
    let error = plain.revoke(&context(), &old, None).await.expect_err("it owns a table");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Conflict, true), "{error:?}");
    assert!(error.message.contains("table public.kept") && error.message.contains(&database), "{error}");
    assert_eq!(plain.life(&old).await.expect("life"), Life::Disabled, "not gone, and of no use");
    assert!(!alive(&session).await);
    assert_eq!(pg.column_in(&database, "select id::text from kept").await, ["7"]);

    // An operator that is no member of the heir may not give it anything.
    let heir = format!(r#","reassign_to":"{prefix}_owner""#);
    let (user, word) = pg.operator(&prefix).await;
    let heirs = RoleIssuer::new(pg.client_as(&user, &word), spec(&prefix, &heir)).expect("an issuer");
    assert!(refused(&heirs, &old).await.contains("not a member of"));
    let options = if pg.is_lax().await { "" } else { " with inherit true, set true" };
    pg.execute(&format!("grant \"{prefix}_owner\" to \"{user}\"{options}")).await;
    assert_eq!(refused(&heirs, &old).await, "");
    for _ in 0..2 {
        heirs.revoke(&context(), &old, None).await.expect("revoke, twice");
    }
    assert_eq!(heirs.life(&old).await.expect("life"), Life::Gone);
    let owner = "select tableowner::text from pg_tables where tablename = 'kept'";
    assert_eq!(pg.column_in(&database, owner).await, [format!("{prefix}_owner")]);
    assert_eq!(pg.column_in(&database, "select id::text from kept").await, ["7"]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test"]
async fn what_is_missing_is_found_before_anything_is_changed() {
    let (pg, prefix) = (Pg::shared(), unique("app"));
    let (old, password) = pg.app(&prefix).await;
    let said = async |user: &str, word: &str, more: &str, outgoing: &str| {
        let issuer = RoleIssuer::new(pg.client_as(user, word), spec(&prefix, more)).expect("an issuer");
        refused(&issuer, outgoing).await
    };
    // The app itself may create nothing, and would drop itself.
    let as_app = said(&old, &password, "", &old).await;
    assert!(as_app.contains("may not create roles") && as_app.contains("about to drop"), "{as_app}");
    let (user, word) = pg.operator(&prefix).await;
    let lost = said(&user, &word, r#","reassign_to":"nowhere-to-be-found""#, &old).await;
    assert!(lost.contains("there is no role nowhere-to-be-found"), "{lost}");
    pg.execute(&format!("create role \"{prefix}_super\" superuser login")).await;
    let wide = said(&user, &word, "", &format!("{prefix}_super")).await;
    assert!(wide.contains("is a superuser") && wide.contains("Unsupported"), "{wide}");
    pg.execute(&format!("drop role \"{prefix}_super\"")).await;
    pg.execute(&format!("drop owned by \"{prefix}_owner\"; drop role \"{prefix}_owner\"")).await;
    let lost = said(&user, &word, "", &old).await;
    assert!(lost.contains(&format!("there is no role {prefix}_owner")), "{lost}");
    // A wrong password of the operator's is no refusal of the app's.
    let wrong = RoleIssuer::new(pg.client_as(&user, "wrong-password"), spec(&prefix, "")).expect("an issuer");
    let error = wrong.life(&old).await.expect_err("not let in");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Refused, false), "{error:?}");
    assert!(!format!("{error:?}").contains("wrong-password"), "{error:?}");
}

/// Only an answer about the password counts: not silence, not a full server, not a start.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test"]
async fn only_a_refused_password_is_a_refusal() {
    let (pg, prefix) = (Pg::shared(), unique("app"));
    let (old, password) = pg.app(&prefix).await;
    let issuer_here = issuer(&pg, &prefix, "").await;
    let tried = async |password: &str| issuer_here.attempt(&pair(&old, password)).await;
    assert_eq!(tried(&password).await.expect("an answer"), Use::Accepted);
    assert!(matches!(tried("wrong").await.expect("an answer"), Use::Refused(how) if how.contains("28P01")));
    pg.execute(&format!("alter role \"{old}\" connection limit 0")).await;
    assert_eq!(kind_of(tried(&password).await), ErrorKind::NoAnswer, "too many sessions");
    pg.execute(&format!("alter role \"{old}\" connection limit -1")).await;
    // Authentication comes first: one that may not use the database is valid.
    let database = unique("closed");
    pg.execute(&format!("create database \"{database}\"")).await;
    pg.execute(&format!("revoke connect on database \"{database}\" from public")).await;
    for database in [database.as_str(), "there-is-none"] {
        let elsewhere = issuer(&pg, &prefix, &format!(r#","database":"{database}""#)).await;
        assert_eq!(elsewhere.attempt(&pair(&old, &password)).await.expect("an answer"), Use::Accepted);
        assert!(matches!(elsewhere.attempt(&pair(&old, "wrong")).await, Ok(Use::Refused(_))));
    }
    // A server that is down.
    let down = Pg { port: closed_port().port(), ..pg.clone() };
    let down = RoleIssuer::new(down.client_as("u", "p"), spec(&prefix, "")).expect("an issuer");
    assert_eq!(kind_of(down.attempt(&pair(&old, &password)).await), ErrorKind::Unreachable);
    assert_eq!(kind_of(down.life(&old).await), ErrorKind::Unreachable);
    let error = down.issue(&context(), down.candidate(&context()).as_ref()).await.expect_err("down");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Unreachable, false));
}

/// The reply to an `issue` is lost: the same call again finds what it made, and no other call takes that for its own.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test"]
async fn a_repeated_issue_makes_one_role() {
    let (pg, prefix) = (Pg::shared(), unique("app"));
    pg.app(&prefix).await;
    let (one, step) = (issuer(&pg, &prefix, "").await, context());
    let candidate = one.candidate(&context());
    let first = one.issue(&step, candidate.as_ref()).await.expect("issue");
    let again = one.issue(&step, candidate.as_ref()).await.expect("issue again");
    assert_eq!(first.identity, again.identity);
    let error = one.issue(&context(), candidate.as_ref()).await.expect_err("another step's");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Conflict, false), "{error:?}");
    let whole = stanch::provider::CallContext { step: String::new(), ..step.clone() };
    assert_eq!(one.find(&whole, &[]).await.expect("find"), [first.identity.handle]);
}

/// Passwords that mean something in a URL, in a file's line or to SASLprep, as the old credential.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test"]
async fn any_password_in_a_url_is_the_password() {
    let (pg, prefix) = (Pg::shared(), unique("app"));
    let (old, _) = pg.app(&prefix).await;
    let more = r#","uri":"postgresql://db.internal/app""#;
    let one = issuer(&pg, &prefix, more).await;
    for (password, written) in [
        ("@/%^+", "%40%2F%25%5E%2B"),
        ("a:b c", "a:b%20c"),
        ("ünïcode'\"\\", "%C3%BCn%C3%AFcode%27%22%5C"),
        ("+plus+", "+plus+"),
    ] {
        let quoted = password.replace('\'', "''");
        pg.execute(&format!("alter role \"{old}\" password '{quoted}'")).await;
        let url = format!("postgresql://{old}:{written}@db.internal/app?x=1");
        let material = Material::single("uri", Secret::new(url));
        assert_eq!(one.attempt(&material).await.expect("an answer"), Use::Accepted, "{password}");
        let standing = one.identify(&material).await.expect("identify").expect("known");
        assert!(standing.identity.handle.starts_with(&format!("{old}:")), "{:?}", standing.identity);
    }
    let bad = Material::single("uri", Secret::new(format!("postgresql://{old}:%zz-hidden@h/d")));
    let error = one.attempt(&bad).await.expect_err("it is none");
    assert!(error.kind == ErrorKind::Invalid && !format!("{error:?}").contains("hidden"), "{error:?}");
}

/// No password stands in the log of a server that logs every statement, nor in anything of the run's.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test"]
async fn no_password_is_in_the_servers_log() {
    let own = OwnPg::start("").await;
    let (pg, prefix) = (&own.pg, unique("app"));
    let (old, password) = pg.app(&prefix).await;
    let one = issuer(pg, &prefix, "").await;
    let new = one.issue(&context(), one.candidate(&context()).as_ref()).await.expect("issue");
    assert_eq!(one.attempt(&new.material).await.expect("an answer"), Use::Accepted);
    assert!(matches!(one.attempt(&pair(&old, "Wrong-Canary-Password")).await, Ok(Use::Refused(_))));
    one.revoke(&context(), &new.identity.handle, None).await.expect("revoke");
    assert!(pg.accepts(&old, &password).await);
    let (log, made) = (own.log(), new.material.part("password").expect("a password").expose().to_owned());
    assert!(log.contains("CREATE ROLE") && log.contains("SCRAM-SHA-256$4096:"), "it logs statements");
    assert!(
        !log.contains(&made) && !log.contains("Wrong-Canary-Password"),
        "a password is in the server's log"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test"]
async fn a_standby_is_refused_and_never_written_to() {
    let mut primary = OwnPg::start("").await;
    let prefix = unique("app");
    primary.pg.app(&prefix).await;
    let (user, word) = primary.pg.operator(&prefix).await;
    let standby = primary.standby().await;
    let client = standby.pg.client_as(&user, &word);
    let checks = preflight(&client, &SystemClock::new()).await;
    let server = checks.iter().find(|check| check.name == "server").expect("a check");
    assert!(server.verdict == CheckVerdict::Fail && server.detail.contains("standby"), "{checks:?}");
    let one = RoleIssuer::new(client, spec(&prefix, "")).expect("an issuer");
    let error = one.issue(&context(), one.candidate(&context()).as_ref()).await.expect_err("a standby");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::NotReady, false), "{error:?}");
    assert!(error.hint.is_some_and(|hint| hint.contains("primary")));
    let good = preflight(&primary.pg.client_as(&user, &word), &SystemClock::new()).await;
    assert_eq!(failures(&good), Vec::<String>::new());
    // The primary goes: what it was asked for is not said to have happened, or not to have.
    primary.kill();
    assert_eq!(kind_of(one_of(&primary, &user, &word, &prefix).life("x").await), ErrorKind::Unreachable);
}

fn one_of(own: &OwnPg, user: &str, word: &str, prefix: &str) -> RoleIssuer {
    RoleIssuer::new(own.pg.client_as(user, word), spec(prefix, "")).expect("an issuer")
}

/// The certificate and its name are verified; nothing less is taken, also not where the server offers no TLS.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test"]
async fn a_server_whose_certificate_does_not_fit_is_not_talked_to() {
    let certificates = root().join("tests/servers/tls");
    for (certificate, ca, host, said) in [
        ("server.pem", "ca.pem", "127.0.0.1", None),
        ("server.pem", "ca.pem", "localhost", None),
        ("server.pem", "other-ca.pem", "127.0.0.1", Some("UnknownIssuer")),
        ("elsewhere.pem", "ca.pem", "127.0.0.1", Some("not valid for name")),
        ("", "ca.pem", "127.0.0.1", Some("does not support TLS")),
    ] {
        let pem = certificates.join(certificate);
        let own = if certificate.is_empty() || !speaks_tls() {
            OwnPg::start("").await
        } else {
            let folder = tempfile::Builder::new().prefix("stanch-tls").tempdir_in("/tmp").expect("folder");
            let file = folder.path().join("server.pem");
            write(&file, &std::fs::read_to_string(&pem).expect("certificate"));
            let only_owner = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(&file, only_owner).expect("mode");
            give(&file);
            give(folder.path());
            let name = file.display();
            OwnPg::start(&format!("ssl = on\nssl_cert_file = '{name}'\nssl_key_file = '{name}'\n")).await
        };
        let port = if certificate.is_empty() || speaks_tls() {
            own.pg.port
        } else {
            tls_front(&pem, own.pg.port).await
        };
        let prefix = unique("app");
        let (old, password) = own.pg.app(&prefix).await;
        let (user, word) = own.pg.operator(&prefix).await;
        let settings = Settings {
            sslmode: SslMode::VerifyFull,
            ca_cert: Some(certificates.join(ca)),
            host: host.to_owned(),
            port,
            ..own.pg.settings(&user, &word)
        };
        let client = PgClient::new(settings, DEADLINE).expect("a client");
        let one = RoleIssuer::new(client.into(), spec(&prefix, "")).expect("an issuer");
        match (one.attempt(&pair(&old, &password)).await, one.life(&old).await, said) {
            (Ok(Use::Accepted), Ok(Life::Active), None) => {
                // What it serves is learned by the same way of asking for TLS.
                let address = format!("127.0.0.1:{port}");
                let more = serde_json::json!({ "addresses": [address], "starttls": "postgres" });
                let answers = crate::tls::asked(more, DEADLINE).await;
                let own = Secret::new(std::fs::read_to_string(&pem).expect("certificate"));
                let own = Material::single("certificate", own);
                assert!(answers[0].as_ref().expect("an answer").is_of(&own));
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

#[test]
fn a_ca_that_is_none_is_refused() {
    let settings = |path: PathBuf| Settings {
        sslmode: SslMode::VerifyFull,
        ca_cert: Some(path),
        ..Pg { port: 1, password: String::new() }.settings("u", "p")
    };
    for path in [root().join("README.md"), root().join("is-not-there.pem")] {
        let error = PgClient::new(settings(path), DEADLINE).expect_err("no certificate");
        assert_eq!(error.kind, ErrorKind::Local, "{error:?}");
    }
}

/// The bare kill: by the role's name, with its sessions, and nothing of the password anywhere.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test"]
async fn a_role_dies_by_its_name() {
    let (pg, prefix) = (Pg::shared(), unique("app"));
    let (old, password) = pg.app(&prefix).await;
    let session = pg.log_in(&old, &password, "postgres").await.expect("a session");
    let (user, word) = pg.operator(&prefix).await;
    let port = pg.port.to_string();
    let tool = Tool::new().with("PGHOST", "127.0.0.1").with("PGPORT", &port).with("PGUSER", &user);
    let tool = tool.with("PGPASSWORD", &word).with("PGSSLMODE", "disable");
    let reason = ["--reason", "in a log", "--yes"];
    let ran =
        tool.done(&[&["revoke", "postgres-role", &old, "never-was"], &reason[..]].concat()).await.expect(0);
    assert!(ran.stdout.contains(&format!("{old}: gone, as its issuer says")), "{ran:?}");
    assert!(ran.stdout.contains("never-was: unknown to its issuer"), "{ran:?}");
    assert!(!pg.accepts(&old, &password).await);
    assert!(session.simple_query("select 1").await.is_err(), "its session lives on");
    let own = tool.done(&[&["revoke", "postgres-role", &user], &reason[..]].concat()).await.expect(1);
    assert!(own.stderr.contains("about to drop"), "{own:?}");
    search(&tool.state(), &[password, word]);
}

/// A role that owns something is named with it, and does not keep the others alive; its name may hold a space.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test"]
async fn a_role_that_owns_something_is_killed_and_not_dropped() {
    let (pg, prefix) = (Pg::shared(), unique("app"));
    let database = unique("closed");
    // The first in the order of the plan.
    let (owner, plain) = (format!("{prefix} a"), format!("{prefix} b"));
    for role in [&owner, &plain] {
        pg.execute(&format!("create role \"{role}\" login password 'p'")).await;
    }
    pg.execute(&format!("create table \"{prefix}\" (id int)")).await;
    pg.execute(&format!(
        "alter table \"{prefix}\" owner to \"{owner}\"; alter role \"{plain}\" valid until '2001-01-01'"
    ))
    .await;
    let tool = Tool::new().with("PGHOST", "127.0.0.1").with("PGPORT", &pg.port.to_string());
    let tool = tool.with("PGUSER", "postgres").with("PGPASSWORD", &pg.password).with("PGSSLMODE", "disable");
    let file = tool.folder.path().join("roles");
    write(&file, &format!("{owner}\n{plain}\n"));
    let file = file.display().to_string();
    let run = ["revoke", "postgres-role", "--handles", &file, "--concurrency", "1", "--reason", "x"];
    let shown = tool.done(&[&run[..], &["--dry-run"]].concat()).await.expect(0);
    for words in [
        &format!("table public.\"{prefix}\"")[..],
        "REASSIGN OWNED BY",
        "is dead since 2001-01-01",
        "CREATEROLE stay",
    ] {
        assert!(shown.stdout.contains(words), "{words}: {shown:?}");
    }
    assert!(!shown.stdout.contains("new role") && !shown.stdout.contains("the old"), "{shown:?}");
    let ran = tool.done(&[&run[..], &["--yes"]].concat()).await;
    assert!(ran.code != Some(0), "{ran:?}");
    for words in [
        "was not dropped: it owns objects",
        &format!("table public.\"{prefix}\""),
        "REASSIGN OWNED BY",
        "of 2: ",
    ] {
        assert!(ran.stdout.contains(words), "{words}: {ran:?}");
    }
    assert!(!pg.accepts(&owner, "p").await);
    let left =
        pg.column(&format!("select rolname::text from pg_roles where rolname like '{prefix} %'")).await;
    assert_eq!(left, std::slice::from_ref(&owner), "the other one is dropped");
    pg.execute(&format!("reassign owned by \"{owner}\" to postgres")).await;
    let ran = tool.done(&["resume"]).await.expect(0);
    assert!(ran.stdout.contains(&format!("{owner}: gone, as its issuer says")), "{ran:?}");
    // A database that stanch may not look into, where the role has something.
    pg.execute(&format!("create database \"{database}\"")).await;
    pg.execute(&format!("revoke connect on database \"{database}\" from public")).await;
    let (old, _) = pg.app(&prefix).await;
    pg.execute_in(&database, &format!("create schema s authorization \"{old}\"")).await;
    let (user, word) = pg.operator(&prefix).await;
    let tool = tool.with("PGUSER", &user).with("PGPASSWORD", &word);
    let shown = tool.done(&["revoke", "postgres-role", &old, "--reason", "x", "--dry-run"]).await.expect(0);
    let grant = format!("GRANT CONNECT ON DATABASE \"{database}\" TO \"{user}\"");
    assert!(shown.stdout.contains(&grant), "{shown:?}");
}

/// The gate waits for the old role's sessions, and names the programs that have one.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test"]
async fn a_gate_waits_for_the_sessions_of_the_old_role() {
    let world = World::postgres().await;
    let World::Postgres { pg, .. } = &world else { unreachable!("it is one of PostgreSQL") };
    let before = world.current().await;
    let part = |name: &str| before[name].as_str().expect("part").to_owned();
    let session = pg.log_in(&part("username"), &part("password"), "postgres").await.expect("a session");
    session.batch_execute("set application_name = 'nightly-report'").await.expect("a name");
    let consumer = world.consumer().await;
    let tool = world.tool();
    let phases = "overlap: { until: [adopted] }\n  sunset: { until: [no-sessions] }";
    let text = world.runbook(&consumer.url, Some(phases));
    let gate = "gates:\n  no-sessions: { pg-activity: { connection: db, credential: app-key, at_most: 1, times: 2, every: 200ms } }";
    let runbook = tool.runbook(&text.replace("gates:", gate));
    let runbook = runbook.to_str().expect("path");
    tool.run(&["validate", runbook]).expect(0);
    let running = tool.start(&["run", runbook, "--env", "test", "--yes"]);
    // The world's own session and the report's: one more than allowed.
    tool.wait_for("\"gate\":\"no-sessions\",\"verdict\":\"inconclusive\"");
    tool.wait_until(|journal| journal.contains("nightly-report"), "the program's name");
    let journal = std::fs::read_to_string(tool.journal().expect("journal")).expect("journal");
    assert!(!journal.contains("\"gate\":\"no-sessions\",\"verdict\":\"pass\""));
    drop(session);
    running.wait().expect(0);
    world.is_rotated(&before).await;
    consumer.never_failed().await;
    let wrong = text.replace("gates:", &gate.replace("credential: app-key", "credential: app-kez"));
    let ran = tool.run(&["validate", tool.runbook(&wrong).to_str().expect("path")]).expect(65);
    assert!(ran.stderr.contains("app-key") || ran.stdout.contains("app-key"), "{ran:?}");
}

/// A role may be renamed, or dropped beside the run, and another may be given its name: it is told by its number, and so
/// are the sessions that it leaves behind.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test"]
async fn a_role_is_told_by_its_number_and_not_by_its_name() {
    let (pg, prefix) = (Pg::shared(), unique("app"));
    let (old, password) = pg.app(&prefix).await;
    let (user, word) = pg.operator(&prefix).await;
    let one = RoleIssuer::new(pg.client_as(&user, &word), spec(&prefix, "")).expect("an issuer");
    let standing = one.identify(&pair(&old, &password)).await.expect("an answer").expect("it is known");
    let handle = standing.identity.handle;
    assert_eq!(one.full_handle(&old).await.expect("an answer"), handle);
    let renamed = format!("{prefix}_bob");
    pg.execute(&format!("alter role \"{old}\" rename to \"{renamed}\"")).await;
    pg.execute(&format!("create role \"{old}\" login password 'of-somebody-else'")).await;
    one.disable(&context(), &handle).await.expect("disable");
    assert!(!pg.accepts(&renamed, &password).await, "it is the same role under another name");
    assert!(pg.accepts(&old, "of-somebody-else").await, "it is another role under the same name");
    one.enable(&context(), &handle).await.expect("enable");
    let session = pg.log_in(&renamed, &password, "postgres").await.expect("a session");
    one.revoke(&context(), &handle, None).await.expect("revoke");
    assert_eq!(one.life(&handle).await.expect("life"), Life::Gone);
    assert!(session.simple_query("select 1").await.is_err(), "its session lives on");
    assert!(pg.accepts(&old, "of-somebody-else").await, "another role was dropped");

    let (gone, theirs) = (format!("{prefix}_gone"), "long-enough-for-a-test");
    pg.execute(&format!("create role \"{gone}\" login password '{theirs}'")).await;
    let handle = one.full_handle(&gone).await.expect("an answer");
    let session = pg.log_in(&gone, theirs, "postgres").await.expect("a session");
    pg.execute(&format!("drop role \"{gone}\"")).await;
    assert_eq!(one.life(&handle).await.expect("life"), Life::Deleted, "its session lives on");
    one.revoke(&context(), &handle, None).await.expect_err("it may not end that session");
    pg.execute(&format!("grant pg_signal_backend to \"{user}\"")).await;
    let may = RoleIssuer::new(pg.client_as(&user, &word), spec(&prefix, "")).expect("an issuer");
    may.revoke(&context(), &handle, None).await.expect("revoke");
    assert_eq!(may.life(&handle).await.expect("life"), Life::Gone);
    assert!(session.simple_query("select 1").await.is_err());
}

/// What is a member of the old role loses what it has through it, and a group is not taken for a login.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test"]
async fn members_of_the_old_role_are_named() {
    let (pg, prefix) = (Pg::shared(), unique("app"));
    let (old, _) = pg.app(&prefix).await;
    let one = issuer(&pg, &prefix, "").await;
    let reporter = format!("{prefix}_reporter");
    pg.execute(&format!("create role \"{reporter}\"; grant \"{old}\" to \"{reporter}\"")).await;
    let said = refused(&one, &old).await;
    assert!(said.contains("would lose what it gives them") && said.contains(&reporter), "{said}");
    let check = one.before_revoking(&identity(&old)).await;
    assert!(check.verdict == CheckVerdict::Warn && check.detail.contains(&reporter), "{check:?}");
    let group = one.before_revoking(&identity(&format!("{prefix}_owner"))).await;
    assert!(group.verdict == CheckVerdict::Warn && group.detail.contains("it cannot log in"), "{group:?}");
    pg.execute(&format!("revoke \"{old}\" from \"{reporter}\"")).await;
    assert_eq!(refused(&one, &old).await, "");
    // A setting that people made up is named, and its value is not.
    pg.execute(&format!("alter role \"{old}\" set app.key = 'hunter2-hunter2'")).await;
    let said = refused(&one, &old).await;
    assert!(said.contains("app.key") && !said.contains("hunter2"), "{said}");
}
