//! Keys that log in by OpenSSH: authorized keys in files, a real server, its own client as the check, and servers that go by
//! something else.
#![expect(clippy::disallowed_methods, reason = "a test writes what it likes")]

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stanch::domain::{Check, CheckVerdict, ErrorKind, Life};
use stanch::kind::file::FileDocument;
use stanch::kind::ssh::key::{KeyIssuer, SshKey};
use stanch::kind::ssh::login::{SshLogin, SshProbe};
use stanch::provider::document::Document;
use stanch::provider::{CallContext, Issuer as _, Probe as _, Use};
use stanch::secret::{Material, Secret};

use crate::conformance::issuer_keeps_its_promises;
use crate::jwt::Yes;
use crate::servers::{closed_port, context, failures};
use crate::ssh_server::{RETIRED, Sshd};
use crate::tool::search;
use crate::worlds::World;

/// A handle that stanch gives out to nothing.
const NEVER: &str = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn spec(more: &str) -> SshKey {
    serde_json::from_str(&format!(r#"{{"authorized_keys":[]{more}}}"#)).expect("an issuer")
}

fn issuer(sshd: &Sshd, more: &str) -> KeyIssuer {
    let places = sshd.files().into_iter().map(|path| Arc::new(FileDocument::new(path)) as Arc<dyn Document>);
    KeyIssuer::new(places.collect(), &spec(more), "app").expect("an issuer")
}

fn login(sshd: &Sshd) -> SshLogin {
    let Sshd { port, user, host_key, .. } = sshd;
    serde_json::from_value(
        serde_json::json!({ "host": "127.0.0.1", "port": port, "user": user, "host_keys": [host_key], "timeout": "20s" }),
    )
    .expect("a check")
}

fn probe(login: &SshLogin) -> SshProbe {
    SshProbe::new(login, Duration::from_secs(20)).expect("a check")
}

fn key(sshd: &Sshd, name: &str) -> Material {
    Material::single("private_key", Secret::new(fs::read_to_string(sshd.at(name)).expect("a key")))
}

/// The context of an `issue` that takes the place of the old key.
fn replacing(sshd: &Sshd) -> CallContext {
    CallContext { outgoing: Some(sshd.old()), ..context() }
}

#[tokio::test]
#[ignore = "needs sshd: scripts/test"]
async fn a_key_in_files_keeps_the_promises_of_an_issuer() {
    for (files, more) in [(1, r#","options":"restrict""#), (2, r#","options":"","public_parts":true"#)] {
        let sshd = Sshd::start(files, "");
        issuer_keeps_its_promises("ssh-key", &issuer(&sshd, more), NEVER).await;
        sshd.is_as_before();
    }
}

#[tokio::test]
#[ignore = "needs sshd: scripts/test"]
async fn a_new_key_logs_in_with_the_options_of_the_old_one() {
    let sshd = Sshd::start(2, "");
    let one = issuer(&sshd, "");
    let check = probe(&login(&sshd));
    let step = replacing(&sshd);
    let candidate = one.candidate(&step).expect("a key");
    assert!(matches!(check.attempt(&candidate).await, Ok(Use::Refused(_))), "it is not there yet");
    let issued = one.issue(&step, Some(&candidate)).await.expect("issued");
    assert_eq!(check.attempt(&issued.material).await.expect("an answer"), Use::Accepted);
    for text in sshd.texts() {
        let new: Vec<&str> = text.lines().filter(|line| line.contains(" stanch:")).collect();
        assert_eq!(new.len(), 2, "{text}");
        assert!(
            new[0].starts_with(
                "from=\"127.0.0.1,::1\",no-x11-forwarding,command=\"internal-sftp\" ssh-ed25519 "
            )
        );
        assert!(new[1].starts_with("no-pty ssh-ed25519 "), "{text}");
    }
    assert!(sshd.valid().contains(&issued.identity.handle), "ssh-keygen calls it the same");
    // Under which key it was, the server's log says: what the page tells people to look for.
    assert!(sshd.log().contains(&format!("ED25519 {}", issued.identity.handle)), "{}", sshd.log());
    one.revoke(&step, &issued.identity.handle, None).await.expect("revoked");
    sshd.is_as_before();

    // Nothing is known of the old key.
    let error = one.issue(&context(), Some(&candidate)).await.expect_err("whose options?");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::NotFound, false), "{error:?}");
    assert!(
        failures(&one.preflight(None).await).join("\n").contains("no options that the new one could keep")
    );
    sshd.is_as_before();
}

/// Every private key that people have, and what a check makes of each answer of a real server.
#[tokio::test]
#[ignore = "needs sshd: scripts/test"]
async fn a_login_tells_a_refused_key_from_everything_else() {
    for kind in [
        &["-t", "ed25519"][..],
        &["-t", "ecdsa", "-b", "256"],
        &["-t", "ecdsa", "-b", "384"],
        &["-t", "ecdsa", "-b", "521"],
        &["-t", "rsa", "-b", "2048"],
        &["-t", "rsa", "-b", "3072"],
    ] {
        let sshd = Sshd::with_old(1, "Banner none", kind);
        let check = probe(&login(&sshd));
        assert_eq!(failures(&check.preflight("check").await), Vec::<String>::new());
        assert_eq!(check.attempt(&key(&sshd, "old")).await.expect("an answer"), Use::Accepted, "{kind:?}");
        let refused = check.attempt(&key(&sshd, "authority")).await.expect("an answer");
        assert!(
            matches!(&refused, Use::Refused(how) if how.contains("Permission denied (publickey)")),
            "{refused:?}"
        );
        let one = issuer(&sshd, "");
        let standing = one.identify(&key(&sshd, "old")).await.expect("an answer").expect("known");
        assert_eq!((standing.identity.handle, standing.life), (sshd.old(), Life::Active), "{kind:?}");
    }

    let sshd = Sshd::start(1, "");
    let (old, stranger) = (key(&sshd, "old"), key(&sshd, "authority"));
    let inconclusive = async |what: &str, login: &SshLogin| {
        let check = probe(login);
        for key in [&old, &stranger] {
            let error = check.attempt(key).await.expect_err(what);
            assert_eq!((error.kind, error.in_doubt), (ErrorKind::NoAnswer, false), "{what}: {error:?}");
        }
        assert_eq!(failures(&check.preflight("check").await).len(), 1, "{what}");
    };
    let other = fs::read_to_string(sshd.at("neighbour.pub")).expect("a key");
    inconclusive("another host key", &SshLogin { host_keys: vec![other], ..login(&sshd) }).await;
    inconclusive("a server that is down", &SshLogin { port: closed_port().port(), ..login(&sshd) }).await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = silent.local_addr().expect("address").port();
    let slow = SshLogin { port, timeout: Some("300ms".parse().expect("a time")), ..login(&sshd) };
    inconclusive("a server that says nothing", &slow).await;
    drop(silent);
    inconclusive("a closed connection", &SshLogin { port, ..login(&sshd) }).await;

    // Servers that know the key and want more, that take no keys, or that count a refusal too many.
    for (settings, of_old, of_stranger) in [
        ("AuthenticationMethods publickey,publickey", false, true),
        ("PubkeyAuthentication no\nHostbasedAuthentication yes", false, false),
        ("MaxAuthTries 1", true, false),
    ] {
        let lying = Sshd::start_closed(1, settings);
        let check = probe(&login(&lying));
        let answers = [key(&lying, "old"), key(&lying, "authority")];
        for (key, answered) in answers.iter().zip([of_old, of_stranger]) {
            let answer = check.attempt(key).await;
            assert_eq!(answer.is_ok(), answered, "{settings}: {answer:?}");
        }
    }
}

/// OpenSSH writes the number of such a key without the zeros that it begins with: of P-521 half of them have some.
#[tokio::test]
async fn a_key_whose_number_begins_with_zeros_is_read() {
    let folder = tempfile::tempdir().expect("folder");
    let one = KeyIssuer::new(Vec::new(), &spec(r#","options":"""#), "app").expect("an issuer");
    for n in 0..12 {
        let path = folder.path().join(format!("key{n}"));
        let mut made = std::process::Command::new("ssh-keygen");
        made.args(["-q", "-t", "ecdsa", "-b", "521", "-N", "", "-C", &"c".repeat(n), "-f"]).arg(&path);
        assert!(made.status().expect("ssh-keygen").success());
        let key = Material::single("private_key", Secret::new(fs::read_to_string(&path).expect("a key")));
        // Of no file, so that it is not known; and not because it could not be read.
        assert_eq!(one.identify(&key).await.expect("it is read"), None);
    }
}

/// Neither the key nor a byte of it is in an argument, in the environment or in a file while `ssh` runs.
#[tokio::test]
#[ignore = "needs sshd: scripts/test"]
async fn a_login_gives_the_key_to_nothing() {
    let folder = tempfile::tempdir().expect("folder");
    let seen = folder.path().join("seen");
    // In the place of `ssh`: what it was given, and what it finds beside the socket.
    let script = format!(
        "#!/bin/sh\n{{ tr '\\0' '\\n' </proc/$$/cmdline; tr '\\0' '\\n' </proc/$$/environ; \
         for word in \"$@\"; do case $word in UserKnownHostsFile=*) f=${{word#*\\\"}}; d=$(/usr/bin/dirname \"${{f%\\\"}}\"); \
         /bin/ls -la \"$d\"; /bin/cat \"$d\"/known_hosts;; esac; done; }} >{0} 2>&1\necho 'u@h: Permission denied (publickey).' >&2\nexit 255\n",
        seen.display()
    );
    let program = folder.path().join("ssh");
    fs::write(&program, script).expect("file");
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("mode");
    let sshd = Sshd::start(1, "");
    let world = World::Ssh(sshd);
    let World::Ssh(sshd) = &world else { unreachable!() };
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    let tool = world.tool().with("PATH", &path).with("STANCH_CANARY", "canary-of-the-environment");
    let runbook = tool.runbook(&world.runbook("http://127.0.0.1:9", None));
    let stopped = tool.run(&["plan", runbook.to_str().expect("path"), "--env", "test"]);
    assert_ne!(stopped.code, Some(0), "a refusal of the old key, or none, is no plan: {}", stopped.stdout);
    let seen = fs::read_to_string(seen).expect("what ssh was given");
    assert!(
        seen.contains("IdentityAgent=") && seen.contains("known_hosts") && seen.contains(&sshd.host_key),
        "{seen}"
    );
    let pem = fs::read_to_string(sshd.at("old")).expect("the key");
    for line in pem.lines().filter(|line| !line.starts_with("---")) {
        assert!(!seen.contains(line), "{seen}");
    }
    assert!(!seen.contains("canary") && !seen.contains("SSH_AUTH_SOCK"), "{seen}");
    assert!(seen.lines().any(|line| line.starts_with("drwx------")), "others can enter: {seen}");
}

#[tokio::test]
#[ignore = "needs sshd: scripts/test"]
async fn a_file_that_takes_every_write_and_keeps_none_is_not_believed() {
    let sshd = Sshd::start(1, "");
    let lies = Arc::new(AtomicBool::new(true));
    let place = Arc::new(Yes(FileDocument::new(&sshd.files()[0]), Arc::clone(&lies)));
    let one = KeyIssuer::new(vec![place], &spec(""), "app").expect("an issuer");
    let (step, old) = (replacing(&sshd), sshd.old());
    let mut errors = vec![
        one.issue(&step, one.candidate(&step).as_ref()).await.expect_err("nothing was added"),
        one.disable(&step, &old).await.expect_err("nothing was disabled"),
        one.revoke(&step, &old, None).await.expect_err("nothing was removed"),
    ];
    lies.store(false, Ordering::SeqCst);
    one.disable(&step, &old).await.expect("disabled");
    lies.store(true, Ordering::SeqCst);
    errors.push(one.enable(&step, &old).await.expect_err("nothing was enabled"));
    for error in errors {
        assert!(error.in_doubt && error.message.contains("does not hold what stanch wrote"), "{error:?}");
    }
    assert_eq!(one.life(&old).await.expect("an answer"), Life::Disabled);
}

/// Between the read and the write.
#[tokio::test]
#[ignore = "needs sshd: scripts/test"]
async fn a_line_that_was_added_meanwhile_is_not_overwritten() {
    let sshd = Sshd::start(1, "");
    let path = sshd.files()[0].clone();
    let document = FileDocument::new(&path);
    let changed = format!("{}\nssh-ed25519 AAAA colleague", sshd.first[0]);
    let (by_hand, other) = (path.clone(), changed.clone());
    let edit = move |text: &str| {
        fs::write(&by_hand, &other).expect("file");
        Ok(Some(text.to_owned() + "\n# stanch's"))
    };
    let error = document.change(Box::new(edit)).await.expect_err("another was faster");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::NotReady, false), "{error:?}");
    assert_eq!(fs::read_to_string(&path).expect("file"), changed);
}

#[tokio::test]
#[ignore = "needs sshd: scripts/test"]
async fn several_files_change_as_one_or_the_change_is_found_undone() {
    let sshd = Sshd::start(2, "");
    let (one, step, old) = (issuer(&sshd, ""), replacing(&sshd), sshd.old());
    let files = sshd.files();
    // The second file does not have the old key: the first does not get the new one.
    fs::write(&files[1], "# nothing\n").expect("file");
    let said = failures(
        &one.preflight(Some(&stanch::domain::Identity { handle: old.clone(), principal: String::new() }))
            .await,
    );
    assert!(said.join("\n").contains("there is nothing to retire in it"), "{said:?}");
    let candidate = one.candidate(&step).expect("a key");
    let error = one.issue(&step, Some(&candidate)).await.expect_err("whose options?");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::NotFound, false), "{error:?}");
    assert_eq!(sshd.texts()[0], sshd.first[0], "what was added is taken out again");
    assert_eq!(one.find(&step, &[]).await.expect("an answer"), Vec::<String>::new());
    fs::write(&files[1], &sshd.first[1]).expect("file");

    // Ended between the two: it is found, and not taken for whole.
    let issued = one.issue(&step, Some(&candidate)).await.expect("issued").identity.handle;
    let whole = sshd.texts();
    fs::write(&files[1], &sshd.first[1]).expect("file");
    assert_eq!(one.find(&step, &[]).await.expect("an answer"), [issued.as_str()]);
    assert_eq!(one.inspect(&issued).await.expect_err("not everywhere").kind, ErrorKind::NotFound);
    let error = one.attempt(&candidate).await.expect_err("neither");
    assert_eq!(error.kind, ErrorKind::NoAnswer, "{error:?}");
    fs::write(&files[1], &whole[1]).expect("file");

    // Ended while the old one was disabled, and while it was enabled again: neither is taken for done.
    one.disable(&step, &old).await.expect("disabled");
    let disabled = sshd.texts();
    for (first, second, life) in [(&disabled, &whole, Life::Active), (&whole, &disabled, Life::Disabled)] {
        fs::write(&files[0], &first[0]).expect("file");
        fs::write(&files[1], &second[1]).expect("file");
        assert_eq!(one.life(&old).await.expect("an answer"), life);
    }
    one.enable(&step, &old).await.expect("enabled");
    assert_eq!(sshd.texts(), whole);
    // Ended while it was removed.
    one.revoke(&step, &old, None).await.expect("revoked");
    let revoked = sshd.texts();
    fs::write(&files[1], &disabled[1]).expect("file");
    assert_eq!(one.life(&old).await.expect("an answer"), Life::Disabled);
    fs::write(&files[1], &revoked[1]).expect("file");
    assert_eq!(one.life(&old).await.expect("an answer"), Life::Gone);
    sshd.neighbours_are_kept();
}

/// An authority with the old key is another thing, and stays.
#[tokio::test]
#[ignore = "needs sshd: scripts/test"]
async fn an_authority_is_never_touched() {
    let sshd = Sshd::start(1, "");
    let (one, step) = (issuer(&sshd, ""), replacing(&sshd));
    let (path, public) = (&sshd.files()[0], fs::read_to_string(sshd.at("old.pub")).expect("a key"));
    let line = format!("cert-authority,principals=\"app\" {public}");
    fs::write(path, format!("{line}{}", sshd.first[0])).expect("file");
    let identity = one.identify(&key(&sshd, "old")).await.expect("an answer").expect("known").identity;
    let warned = one.preflight(Some(&identity)).await;
    let about =
        |check: &Check| check.verdict == CheckVerdict::Fail && check.detail.contains("cert-authority");
    assert!(warned.iter().any(about), "{warned:?}");
    one.disable(&step, &identity.handle).await.expect("disabled");
    one.revoke(&step, &identity.handle, None).await.expect("revoked");
    assert!(
        sshd.texts()[0].starts_with(&line) && one.life(&identity.handle).await.expect("life") == Life::Gone
    );
    assert_eq!(one.identify(&key(&sshd, "old")).await.expect("an answer"), None, "it does not log in");
}

/// What servers go by is another file as well: that the first one lacks the key proves nothing.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd: scripts/test"]
async fn a_server_that_has_the_old_key_from_elsewhere_ends_in_no_proof() {
    let world = World::ssh();
    let World::Ssh(sshd) = &world else { unreachable!() };
    let consumer = world.consumer().await;
    let tool = world.tool();
    let runbook = tool.runbook(&world.runbook_of(&consumer, None));
    let before = world.current().await;
    fs::copy(sshd.at("old.pub"), sshd.at("elsewhere")).expect("file");
    let stopped = tool.run(&["run", runbook.to_str().expect("path"), "--env", "test", "--yes"]);
    assert!(stopped.code != Some(0) && !stopped.stdout.contains("DONE"), "{}", stopped.stdout);
    let said = stopped.stdout.clone() + &stopped.stderr;
    assert!(said.contains("the old credential is still accepted by check 1"), "{said}");
    assert_ne!(tool.status()["end"], "done");
    assert!(world.accepts(&before).await);
    // Without that file it ends as it should.
    fs::remove_file(sshd.at("elsewhere")).expect("file");
    tool.run(&["resume"]).expect(0);
    world.is_rotated(&before).await;
}

/// Lines that a colleague added meanwhile stay; one of the old key goes with the others.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd: scripts/test"]
async fn what_was_added_by_hand_meanwhile_is_kept_unless_it_is_the_old_key() {
    let world = World::ssh();
    let World::Ssh(sshd) = &world else { unreachable!() };
    let consumer = world.consumer().await;
    let tool = world.tool();
    let runbook = tool.runbook(&world.runbook_of(&consumer, None));
    let before = world.current().await;
    let started = ["run", runbook.to_str().expect("path"), "--env", "test", "--yes", "--until", "overlap"];
    tool.run(&started).expect(0);
    let [colleague, old] =
        ["authority.pub", "old.pub"].map(|name| fs::read_to_string(sshd.at(name)).expect("a key"));
    let text = sshd.texts()[0].clone();
    let (added, path) = (format!("permitopen=\"a:1\" {}", old.trim()), &sshd.files()[0]);
    fs::write(path, format!("restrict {colleague}{text}\n{added}")).expect("file");
    tool.run(&["resume", "--until", "sunset"]).expect(0);
    let sunset = sshd.texts()[0].clone();
    assert!(
        sunset.ends_with(&format!("{RETIRED}{added}")) && !sshd.valid().contains(&sshd.old()),
        "{sunset}"
    );

    // Added again once it was disabled, it is in use: stanch asks, and destroys nothing.
    fs::write(path, format!("{sunset}\n{added}")).expect("file");
    let stopped = tool.run(&["resume"]);
    assert!(
        stopped.code != Some(0) && stopped.stdout.contains("another client enabled the old"),
        "{}",
        stopped.stdout
    );
    assert!(sshd.texts()[0].contains(RETIRED), "it was removed");
    fs::write(path, &sunset).expect("file");
    tool.run(&["resume"]).expect(0);
    let text = sshd.texts()[0].clone();
    assert!(text.starts_with(&format!("restrict {colleague}")), "{text}");
    assert!(!text.contains(old.split(' ').nth(1).expect("base64")), "{text}");
    assert!(!world.accepts(&before).await && world.accepts(&world.current().await).await);
    search(&tool.state(), &[World::secret(&before), World::secret(&world.current().await)]);
}

/// A colleague, or a configuration management, removes the new line: the old key stays until the new one works.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd: scripts/test"]
async fn a_new_key_that_was_removed_by_hand_keeps_the_old_one_alive() {
    let world = World::ssh();
    let World::Ssh(sshd) = &world else { unreachable!() };
    let consumer = world.consumer().await;
    let tool = world.tool();
    let runbook = tool.runbook(&world.runbook_of(&consumer, None));
    let before = world.current().await;
    let started = ["run", runbook.to_str().expect("path"), "--env", "test", "--yes", "--until", "overlap"];
    tool.run(&started).expect(0);
    fs::write(&sshd.files()[0], &sshd.first[0]).expect("file");
    let stopped = tool.run(&["resume"]);
    assert!(stopped.code != Some(0) && !stopped.stdout.contains("DONE"), "{}", stopped.stdout);
    assert!(world.accepts(&before).await, "the old key was disabled though the new one does not work");
    assert_eq!(sshd.texts(), sshd.first);
}
