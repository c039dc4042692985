//! What a TLS handshake shows: the certificate that an instance serves, and what a relying party says to a client's.

use std::sync::Arc;
use std::time::Duration;

use rustls::version::{TLS12, TLS13};
use rustls::{ALL_VERSIONS, SupportedProtocolVersion};
use serde_json::{Value, json};
use stanch::clock::SystemClock;
use stanch::domain::ErrorKind;
use stanch::kind::real::RealProvider;
use stanch::kind::tls::{TlsAsk, TlsAttest, TlsProbe};
use stanch::provider::{Attestation, CallError, Probe, Question as _, Use};
use stanch::secret::{Material, Secret};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::pki::another;
use crate::relying_party::{RelyingParty, app_role};
use crate::servers::{DEADLINE, Vault, closed_port, failures};
use crate::tls_server::{Clients, OpenSsl, Talk, TlsServer, certified, peer, server_certificate};

const OLD: &[&SupportedProtocolVersion] = &[&TLS12];
const NEW: &[&SupportedProtocolVersion] = &[&TLS13];

pub(crate) async fn asked(more: Value, deadline: Duration) -> Vec<Result<Attestation, CallError>> {
    let spec: TlsAttest = serde_json::from_value(more).expect("an attestation");
    let ask = TlsAsk::new(&spec, deadline).expect("addresses");
    tokio::time::timeout(DEADLINE * 2, ask.ask()).await.expect("it is bounded")
}

fn pem(material: &Material, name: &str) -> String {
    material.part(name).expect("a part").expose().to_owned()
}

/// Every address has its own answer, in their order, whatever the version and whatever the server wants of its clients.
#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn an_instance_is_known_by_the_certificate_that_it_serves() {
    let vault = Vault::shared();
    let (mount, root) = RelyingParty::mount(&vault).await;
    let (_, one) = another(&vault, &mount, json!({})).await;
    let (_, two) = another(&vault, &mount, json!({})).await;
    let verified = Clients::Verified(root, format!("{}/v1/{mount}/crl", vault.address));
    let mut addresses = Vec::new();
    for (serves, clients, versions) in [
        (&one, Clients::Unasked, OLD),
        (&two, Clients::Unasked, NEW),
        (&one, Clients::Nobody, NEW),
        (&two, verified.clone(), OLD),
        (&one, verified, NEW),
    ] {
        let server = TlsServer::start(certified(serves, serves), clients, versions, Talk::Nothing).await;
        addresses.push(server.address);
    }
    let closed = closed_port().to_string();
    addresses.insert(2, closed.clone());
    let answers = asked(json!({ "addresses": addresses, "server_name": "app.test" }), DEADLINE).await;
    let is_of = |material: &Material| -> Vec<Option<bool>> {
        answers.iter().map(|answer| Some(answer.as_ref().ok()?.is_of(material))).collect()
    };
    let served_one = [Some(true), Some(false), None, Some(true), Some(false), Some(true)];
    let served_two = [Some(false), Some(true), None, Some(false), Some(true), Some(false)];
    assert_eq!((is_of(&one), is_of(&two)), (served_one.to_vec(), served_two.to_vec()), "{answers:?}");
    let error = answers[2].as_ref().expect_err("nothing listens");
    assert!(error.kind == ErrorKind::Unreachable && error.message.contains(&closed), "{error:?}");
    let names: Vec<Option<&str>> = answers.iter().flatten().map(Attestation::instance).collect();
    let others = addresses.iter().filter(|address| **address != closed);
    assert_eq!(names, others.map(|address| Some(address.as_str())).collect::<Vec<_>>());

    // However the store spells it: with its chain behind it, other line breaks, or a text before it.
    let spelled = |text: String| one.clone().with("certificate", Secret::new(text));
    let answer = answers[0].as_ref().expect("an answer");
    assert!(answer.is_of(&spelled(format!("{}\n{}\n", pem(&one, "certificate"), pem(&one, "ca_chain")))));
    assert!(
        answer.is_of(&spelled(format!("\nsubject=app\n{}", pem(&one, "certificate").replace('\n', "\r\n"))))
    );
    // The first one counts, and nothing else is a certificate.
    assert!(!answer.is_of(&spelled(format!("{}\n{}", pem(&one, "ca_chain"), pem(&one, "certificate")))));
    for none in ["", "hunter2", &pem(&one, "private_key"), &answer_digest(&one)] {
        assert!(!answer.is_of(&spelled(none.to_owned())), "{none}");
    }
    assert!(!answer.is_of(&Material::single("private_key", Secret::new(pem(&one, "private_key")))));
}

fn answer_digest(material: &Material) -> String {
    material.part("certificate").expect("a part").sha256_hex()
}

/// A certificate is public: who serves it without its key does not use it.
#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn a_copy_of_a_certificate_attests_nothing() {
    let vault = Vault::shared();
    let (mount, _) = RelyingParty::mount(&vault).await;
    let (_, one) = another(&vault, &mount, json!({})).await;
    let (_, two) = another(&vault, &mount, json!({})).await;
    for versions in [OLD, NEW] {
        let server = TlsServer::start(certified(&one, &two), Clients::Unasked, versions, Talk::Nothing).await;
        let answers = asked(json!({ "addresses": [server.address] }), DEADLINE).await;
        let error = answers[0].as_ref().expect_err("it has another key");
        assert!(error.kind == ErrorKind::NoAnswer && error.message.contains(&server.address), "{error:?}");
    }
}

/// Each ends in an error that names its address, and none holds up the others.
#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn a_hostile_instance_is_an_error_of_its_own() {
    let vault = Vault::shared();
    let (mount, _) = RelyingParty::mount(&vault).await;
    let (_, one) = another(&vault, &mount, json!({})).await;
    let good = TlsServer::start(certified(&one, &one), Clients::Unasked, ALL_VERSIONS, Talk::Nothing).await;
    let stalls = peer(|stream| async move {
        let _open = stream;
        std::future::pending().await
    });
    let drips = peer(|mut stream| async move {
        // A record of handshakes that never ends.
        let _ = stream.write_all(&[22, 3, 3, 64, 0]).await;
        while stream.write_all(&[2]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let garbage = peer(|mut stream| async move { while stream.write_all(&[0x5a; 1024]).await.is_ok() {} });
    let records = peer(|mut stream| async move {
        // Ten megabytes of what may be a message of the handshake, each of which says that more is to come.
        let mut record = vec![22, 3, 3, 0x40, 0];
        record.extend([2, 0, 0xff, 0xff]);
        record.resize(5 + 0x4000, 7);
        for _ in 0..640 {
            if stream.write_all(&record).await.is_err() {
                return;
            }
        }
        std::future::pending().await
    });
    let http = peer(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
        let _ = stream.shutdown().await;
    });
    let closes = peer(|stream| async move { drop(stream) });
    let addresses = [
        stalls.await,
        drips.await,
        garbage.await,
        records.await,
        http.await,
        closes.await,
        good.address.clone(),
    ];
    let answers = asked(json!({ "addresses": addresses }), Duration::from_secs(2)).await;
    assert_eq!(answers.len(), addresses.len());
    let said = ["took longer", "took longer", "speak TLS", "", "speak TLS", ""];
    for ((answer, address), said) in answers.iter().zip(&addresses).zip(said) {
        let error = answer.as_ref().expect_err("no handshake");
        assert!(error.message.contains(address) && error.message.contains(said), "{said}: {error:?}");
        assert!(!error.in_doubt && error.kind == ErrorKind::NoAnswer, "{error:?}");
        assert!(error.message.len() < 300, "{error:?}");
    }
    assert!(answers[6].as_ref().expect("the good one").is_of(&one));
}

/// PostgreSQL is asked for TLS first.
#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn a_postgresql_server_is_asked_for_tls_first() {
    let vault = Vault::shared();
    let (mount, _) = RelyingParty::mount(&vault).await;
    let (_, one) = another(&vault, &mount, json!({})).await;
    let behind = TlsServer::start(certified(&one, &one), Clients::Unasked, ALL_VERSIONS, Talk::Nothing).await;
    let answering = async |answer: &'static [u8]| {
        let behind = behind.address.clone();
        peer(move |mut stream| {
            let behind = behind.clone();
            async move {
                let mut request = [0; 8];
                let asked = stream.read_exact(&mut request).await.is_ok();
                if asked && request == [0, 0, 0, 8, 4, 210, 22, 47] && stream.write_all(answer).await.is_ok()
                {
                    let mut behind = tokio::net::TcpStream::connect(behind).await.expect("connect");
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut behind).await;
                }
            }
        })
        .await
    };
    let addresses =
        [answering(b"S").await, answering(b"N").await, answering(b"E").await, answering(b"").await];
    let spec = json!({ "addresses": addresses, "starttls": "postgres" });
    let answers = asked(spec, Duration::from_secs(2)).await;
    assert!(answers[0].as_ref().expect("an answer").is_of(&one));
    assert!(answers[1].as_ref().expect_err("no TLS").message.contains("does not speak TLS"));
    assert!(answers[2].as_ref().expect_err("no PostgreSQL").message.contains("not the answer of PostgreSQL"));
    assert!(answers[3].is_err());
}

/// The root of another authority, of another name, and a certificate that it signed.
async fn strange(vault: &Vault) -> (String, Material) {
    let (mount, _) = RelyingParty::mount(vault).await;
    let body = json!({ "common_name": "Another root", "ttl": "8000h", "key_type": "ec", "key_bits": 256 });
    let root = vault.api("POST", &format!("{mount}/root/generate/internal"), body).await["data"].clone();
    let mut role = app_role();
    role["issuer_ref"] = root["issuer_id"].clone();
    vault.api("POST", &format!("{mount}/roles/app"), role).await;
    let (_, material) = another(vault, &mount, json!({})).await;
    (root["certificate"].as_str().expect("PEM").to_owned(), material)
}

/// A check of a server whose certificate a root signed.
async fn check(root: &tempfile::NamedTempFile, address: &str, more: Value) -> Arc<dyn Probe> {
    let mut fields = json!({ "address": address, "ca_cert": root.path() });
    fields.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
    let spec: TlsProbe = serde_json::from_value(fields).expect("a check");
    let at = RealProvider::new(Default::default(), Arc::new(SystemClock::new()), Duration::from_secs(3));
    stanch::provider::Provider::probe(&at, "app", &credential(), &stanch::kind::Probe::Tls(spec))
        .await
        .expect("a check")
}

/// A credential of the kind that has certificates.
fn credential() -> stanch::runbook::model::Credential {
    serde_json::from_value(json!({
        "issuer": { "type": "vault-pki", "connection": "vault", "role": "app", "common_name": "app.test", "ttl": "24h" },
    }))
    .expect("a credential")
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("file");
    std::io::Write::write_all(&mut file, text.as_bytes()).expect("file");
    file
}

/// By rustls' own verification against the authority and its revocation list, in both versions of TLS.
#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn a_relying_party_accepts_a_certificate_until_it_is_revoked() {
    let vault = Vault::shared();
    let (mount, root) = RelyingParty::mount(&vault).await;
    let own = server_certificate(&vault, &mount).await;
    let (kept, good) = another(&vault, &mount, json!({})).await;
    let (serial, bad) = another(&vault, &mount, json!({})).await;
    let (_, strange) = strange(&vault).await;
    let roots = file(&root);
    let verified = Clients::Verified(root.clone(), format!("{}/v1/{mount}/crl", vault.address));
    let mut checks = Vec::new();
    for versions in [OLD, NEW] {
        for (talk, more) in [(Talk::Answers(200), json!({ "path": "/" })), (Talk::Greets, json!({}))] {
            let server = TlsServer::start(certified(&own, &own), verified.clone(), versions, talk).await;
            checks.push(check(&roots, &server.address, more).await);
        }
    }
    for check in &checks {
        assert_eq!(failures(&check.preflight("check").await), Vec::<String>::new());
        assert_eq!(check.attempt(&good).await.expect("an answer"), Use::Accepted);
        assert_eq!(check.attempt(&bad).await.expect("an answer"), Use::Accepted);
    }
    vault.api("POST", &format!("{mount}/revoke"), json!({ "serial_number": serial })).await;
    // Why a server closes must not be lost in its closing.
    for _ in 0..25 {
        for check in &checks {
            let Use::Refused(how) = check.attempt(&bad).await.expect("an answer") else {
                panic!("the certificate {serial} is revoked, and {kept} is not")
            };
            assert!(how.contains("certificate_revoked"), "{how}");
        }
    }
    for check in &checks {
        assert_eq!(check.attempt(&good).await.expect("an answer"), Use::Accepted);
        let Use::Refused(how) = check.attempt(&strange).await.expect("an answer") else {
            panic!("another's")
        };
        assert!(how.contains("unknown_ca"), "{how}");
    }
}

/// The same by OpenSSL's server.
#[tokio::test]
#[ignore = "needs Vault and openssl: scripts/test"]
async fn openssl_accepts_a_certificate_until_it_is_revoked() {
    let vault = Vault::shared();
    let (mount, root) = RelyingParty::mount(&vault).await;
    let own = server_certificate(&vault, &mount).await;
    let (_, good) = another(&vault, &mount, json!({})).await;
    let (serial, bad) = another(&vault, &mount, json!({})).await;
    vault.api("POST", &format!("{mount}/revoke"), json!({ "serial_number": serial })).await;
    let url = format!("{}/v1/{mount}/crl/pem", vault.address);
    let list = crate::servers::plain_http().get(url).send().await.expect("Vault answers");
    let list = list.bytes().await.expect("a list");
    let roots = file(&root);
    for version in ["-tls1_2", "-tls1_3"] {
        let mut server = OpenSsl::start(&own, &root, &list, &["-www", version]).await;
        let check = check(&roots, &server.address, json!({ "path": "/" })).await;
        assert_eq!(failures(&check.preflight("check").await), Vec::<String>::new(), "{version}");
        assert_eq!(check.attempt(&good).await.expect("an answer"), Use::Accepted, "{version}");
        for _ in 0..10 {
            let Use::Refused(how) = check.attempt(&bad).await.expect("an answer") else {
                panic!("{version}")
            };
            assert!(how.contains("certificate_revoked"), "{version}: {how}");
        }
        assert_eq!(check.attempt(&good).await.expect("an answer"), Use::Accepted, "{version}");
        // What it serves is learned, though it wants a certificate of its clients.
        let answers = asked(json!({ "addresses": [server.address] }), DEADLINE).await;
        assert!(answers[0].as_ref().expect("an answer").is_of(&own), "{version}");
        assert!(server.runs());
    }
}

/// Nothing but an alert about the certificate, or a status that the runbook names, is a refusal; and nothing counts of a
/// server that is not trusted, or does not ask.
#[tokio::test]
#[ignore = "needs Vault: scripts/test"]
async fn only_a_word_on_the_certificate_is_a_verdict() {
    let vault = Vault::shared();
    let (mount, root) = RelyingParty::mount(&vault).await;
    let own = server_certificate(&vault, &mount).await;
    let (_, good) = another(&vault, &mount, json!({})).await;
    let roots = file(&root);
    let tried = async |clients: Clients, talk: Talk, more: Value, roots: &tempfile::NamedTempFile| {
        let mut told = Vec::new();
        for versions in [OLD, NEW] {
            let server = TlsServer::start(certified(&own, &own), clients.clone(), versions, talk).await;
            told.push(check(roots, &server.address, more.clone()).await.attempt(&good).await);
        }
        told
    };
    let get = json!({ "path": "/", "expect": 204, "refuse": [400] });
    for (talk, accepted) in [(Talk::Answers(204), true), (Talk::Answers(400), false)] {
        for told in tried(Clients::Anyone, talk, get.clone(), &roots).await {
            let told = told.expect("an answer");
            assert!(
                if accepted { told == Use::Accepted } else { matches!(told, Use::Refused(_)) },
                "{told:?}"
            );
        }
    }
    for told in tried(Clients::Nobody, Talk::Nothing, json!({}), &roots).await {
        assert!(matches!(told, Ok(Use::Refused(_))), "{told:?}");
    }
    let quick = json!({ "path": "/", "timeout": "500ms" });
    let (strangers, other) = strange(&vault).await;
    let strangers = file(&strangers);
    for (clients, talk, more, roots, why) in [
        (Clients::Anyone, Talk::Answers(500), get.clone(), &roots, "it answered 500"),
        (Clients::Anyone, Talk::Nonsense, get.clone(), &roots, "not HTTP"),
        (Clients::Anyone, Talk::Nothing, quick.clone(), &roots, "took longer"),
        // A handshake that went well is no acceptance: a server may refuse afterwards.
        (Clients::Anyone, Talk::Nothing, json!({ "timeout": "500ms" }), &roots, "took longer"),
        (Clients::Failing, Talk::Nothing, quick.clone(), &roots, "alert"),
        (Clients::Unasked, Talk::Answers(204), get.clone(), &roots, "asked for no certificate"),
        (Clients::Unasked, Talk::Greets, json!({}), &roots, "asked for no certificate"),
        // Whoever answers in its place.
        (Clients::Nobody, Talk::Nothing, quick.clone(), &strangers, "UnknownIssuer"),
        (Clients::Anyone, Talk::Answers(204), get.clone(), &strangers, "UnknownIssuer"),
        (
            Clients::Nobody,
            Talk::Nothing,
            json!({ "server_name": "other.test" }),
            &roots,
            "not valid for name",
        ),
    ] {
        for told in tried(clients.clone(), talk, more.clone(), roots).await {
            let error = told.expect_err(why);
            assert!(error.message.contains(why), "{why}: {error:?}");
            assert!(!error.in_doubt, "{error:?}");
        }
    }
    // Before a run, a server that does not ask for a certificate is named; and one that does is not used.
    for (clients, roots, said) in [
        (Clients::Unasked, &roots, Some("asks for no certificate")),
        (Clients::Nobody, &roots, None),
        (Clients::Nobody, &strangers, Some("UnknownIssuer")),
    ] {
        let server = TlsServer::start(certified(&own, &own), clients, ALL_VERSIONS, Talk::Nothing).await;
        let found = failures(&check(roots, &server.address, json!({})).await.preflight("check").await);
        assert_eq!(found.len(), usize::from(said.is_some()), "{found:?}");
        assert!(found.iter().all(|found| said.is_some_and(|said| found.contains(said))), "{found:?}");
    }
    // What is no certificate with its key is shown to nobody, and not quoted.
    let server = TlsServer::start(certified(&own, &own), Clients::Anyone, ALL_VERSIONS, Talk::Greets).await;
    let check = check(&roots, &server.address, json!({})).await;
    for wrong in [
        good.clone().with("private_key", Secret::new(pem(&other, "private_key"))),
        good.clone().with("private_key", Secret::new("hunter2")),
        good.clone().with("certificate", Secret::new("hunter2")),
        Material::single("private_key", Secret::new("hunter2")),
    ] {
        let error = check.attempt(&wrong).await.expect_err("it cannot be shown");
        assert!(error.kind == ErrorKind::Invalid && !format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    assert_eq!(check.attempt(&good).await.expect("an answer"), Use::Accepted);
}
