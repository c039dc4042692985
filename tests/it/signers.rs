//! Signatures and `allowed_signers` files, held against `ssh-keygen -Y verify`.

use jiff::Timestamp;
use stanch::approve::{APPROVAL, Signature, Signers};

use crate::ssh::Keys;

const TEXT: &str = "what was signed\n";
/// The moment at which everything is verified.
const NOW: &str = "20300601120000Z";

fn now() -> Timestamp {
    "2030-06-01T12:00:00Z".parse().expect("a moment")
}

/// Keys of every kind, and a certificate of `authority` for `alice` and `deploy`.
fn keys() -> (Keys, Vec<&'static str>) {
    let keys = Keys::new();
    keys.make("one", &["ed25519"]).make("two", &["ed25519"]).make("authority", &["ed25519"]);
    keys.make("p256", &["ecdsa", "-b", "256"]).make("p384", &["ecdsa", "-b", "384"]);
    keys.make("p521", &["ecdsa", "-b", "521"]).make("rsa", &["rsa", "-b", "2048"]);
    keys.make("sk", &["ed25519-sk"]).make("sk-p256", &["ecdsa-sk"]);
    for (name, principals, validity, more) in [
        ("cert", "alice,deploy", "20200101Z:20400101Z", None),
        ("cert-old", "alice", "20200101Z:20210101Z", None),
        ("cert-host", "alice", "20200101Z:20400101Z", Some("-h")),
    ] {
        keys.make(name, &["ed25519"]);
        let (authority, key) = (keys.path("authority"), keys.path(&format!("{name}.pub")));
        let mut command = crate::ssh::keygen(&["-q", "-I", "test", "-n", principals, "-V", validity, "-s"]);
        command.arg(authority).args(more).arg(key);
        assert!(command.status().expect("ssh-keygen").success());
    }
    (keys, vec!["one", "two", "p256", "p384", "p521", "rsa", "sk", "sk-p256"])
}

/// Signs with a certificate: the private key is beside it.
fn signed(keys: &Keys, name: &str, namespace: &str) -> String {
    match name.starts_with("cert") {
        true => keys.sign(&format!("{name}-cert.pub"), namespace, TEXT),
        false => keys.sign(name, namespace, TEXT),
    }
}

#[test]
fn a_signature_of_every_kind_of_key_is_verified_and_a_changed_one_is_not() {
    let (keys, names) = keys();
    for name in names.into_iter().chain(["cert", "cert-old", "cert-host"]) {
        let armor = signed(&keys, name, APPROVAL);
        let signature = Signature::read(&armor).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(signature.namespace, APPROVAL);
        signature.verify(TEXT.as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(signature.verify(b"what was not signed\n").is_err(), "{name}");
        assert_eq!(signature.is_hardware(), name.starts_with("sk"), "{name}");
        // Every byte of it counts.
        let body: Vec<&str> = armor.lines().filter(|line| !line.starts_with("---")).collect();
        let mut bytes = base64(&body.concat());
        for at in (0..bytes.len()).step_by(7) {
            bytes[at] ^= 0x20;
            let changed =
                format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", unbase64(&bytes));
            let taken = Signature::read(&changed).is_ok_and(|s| {
                s.namespace == APPROVAL
                    && s.verify(TEXT.as_bytes()).is_ok()
                    && s.signer.key == signature.signer.key
            });
            assert!(!taken, "{name}: byte {at} of {}: {:?}", bytes.len(), &bytes[at - 4..at + 8]);
            bytes[at] ^= 0x20;
        }
    }
}

fn base64(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::prelude::BASE64_STANDARD.decode(text).expect("base64")
}

fn unbase64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_STANDARD.encode(bytes)
}

/// Numbers that are the same at each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.roll(of.len())]
    }
}

/// A line of a file, right or wrong in one of many ways.
fn line(dice: &mut Dice, keys: &Keys, names: &[&str]) -> String {
    let principals = [
        "alice",
        "alice",
        "alice",
        "alice",
        "alice",
        "alice",
        "alice",
        "alice",
        "bob,alice",
        "alice,bob",
        "\"alice\"",
        "\"alice,bob\"",
        "al\"ice\"",
        "al*",
        "?lice",
        "*",
        "*,!alice",
        "!bob",
        "bob",
        "Alice",
        "\"alice",
        "alice,",
        ",alice",
        "a lice",
        "al*,!bob",
        "",
    ];
    let options = [
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        "namespaces=\"stanch-approval@v1\"",
        "namespaces=\"git\"",
        "namespaces=\"git,stanch-approval@v1\"",
        "namespaces=\"stanch-*\"",
        "namespaces=\"*,!stanch-approval@v1\"",
        "NAMESPACES=\"stanch-approval@v1\"",
        "namespaces=stanch-approval@v1",
        "namespaces=\"stanch-approval@v1",
        "namespaces=\"a\",namespaces=\"b\"",
        "cert-authority",
        "cert-authority",
        "Cert-Authority,namespaces=\"stanch-approval@v1\"",
        "cert-authority,valid-after=\"20290101Z\"",
        "valid-after=\"20290101Z\"",
        "valid-after=\"20310101Z\"",
        "valid-before=\"20310101Z\"",
        "valid-before=\"20290101Z\"",
        "valid-before=\"20300601120000Z\"",
        "valid-before=\"20300601115959Z\"",
        "valid-after=\"20300601120000Z\"",
        "valid-after=\"20300601120001Z\"",
        "valid-after=\"20290101Z\",valid-before=\"20310101Z\"",
        "valid-after=\"20310101Z\",valid-before=\"20290101Z\"",
        "valid-after=\"202901011200\"",
        "valid-after=\"20290101UTC\"",
        "valid-after=\"20290101z\"",
        "valid-after=\"2029\"",
        "valid-after=\"20291301Z\"",
        "valid-before=\"tomorrow\"",
        "valid-after=20290101Z",
        "unknown",
        "unknown=\"x\"",
        "namespaces=\"stanch-approval@v1\",",
        ",namespaces=\"stanch-approval@v1\"",
        "namespaces=\"a\\\"b,stanch-approval@v1\"",
        "namespaces=\"stanch-approval@v1\"valid-after=\"20290101Z\"",
        "namespaces=\"\"",
        "no-touch-required",
        "valid-after=\"20290101Z\",valid-after=\"20290101Z\"",
        "valid-after=\"20290230Z\"",
        "valid-after=\"20290101Z \"",
    ];
    let mut everything = names.to_vec();
    everything.push("authority");
    everything.push("authority");
    let key = keys.public(dice.pick(&everything));
    // Half of them wrong in one place at most, or few files would allow anything.
    if dice.roll(2) == 0 {
        let right = ["", "", "cert-authority ", "namespaces=\"stanch-*\" ", "valid-before=\"20310101Z\" "];
        let option = if dice.roll(3) == 0 {
            format!("{} ", dice.pick(&options))
        } else {
            dice.pick(&right).to_owned()
        };
        return format!("{} {}{key}", dice.pick(&["alice", "alice", "alice,bob", "*"]), option.trim_start());
    }
    let key = match dice.roll(16) {
        0 => key.replace("AAAA", "AAAB"),
        1 => key[..key.len() - 5].to_owned(),
        2 => key.replace("ssh-ed25519", "ssh-rsa"),
        3 => format!("{key} a comment"),
        4 => format!("{key}\r"),
        5 => key.replace(' ', "\t"),
        6 => format!("{key} \"odd\" # comment"),
        _ => key,
    };
    let space = dice.pick(&[" ", " ", " ", "\t", "  ", " \t"]);
    let lead = dice.pick(&["", "", "", "", " ", "\t", "#"]);
    let option = dice.pick(&options);
    let gap = if option.is_empty() { "" } else { space };
    format!("{lead}{}{space}{option}{gap}{key}", dice.pick(&principals))
}

#[test]
fn five_hundred_files_get_the_verdict_of_ssh_keygen() {
    let (keys, names) = keys();
    let signers: Vec<&str> = names.iter().copied().chain(["cert", "cert-old", "cert-host"]).collect();
    let armors: Vec<(&str, &str, String)> = (signers.iter())
        .flat_map(|name| [(*name, APPROVAL), (*name, "git")])
        .map(|(name, namespace)| (name, namespace, signed(&keys, name, namespace)))
        .collect();
    let mut dice = Dice(20_301_127);
    let (mut allowed, mut strict) = (0, 0);
    for case in 0..500 {
        let count = [1, 1, 1, 2, 3][dice.roll(5)];
        let mut lines: Vec<String> = (0..count).map(|_| line(&mut dice, &keys, &names)).collect();
        let mut chosen = &armors[dice.roll(armors.len())];
        // Mostly a key that a line has, or few files would allow anything.
        if dice.roll(3) > 0 {
            let of = |key: &str| match key.strip_prefix("cert") {
                Some(_) => keys.public("authority"),
                None => keys.public(key),
            };
            let has = |(key, space, _): &&(&str, &str, String)| {
                *space == APPROVAL
                    && lines.iter().any(|line| line.contains(of(key).split(' ').nth(1).expect("a key")))
            };
            chosen = armors.iter().find(has).unwrap_or(chosen);
        }
        let (name, namespace, armor) = chosen;
        lines.push(String::new());
        let file = lines.join("\n");
        let principal = dice.pick(&["alice", "alice", "alice", "bob", "deploy"]);
        let theirs = keys.verify(&file, (principal, namespace), armor, TEXT, Some(NOW));
        let signature = Signature::read(armor).expect("armor");
        let read = Signers::read(&file);
        let ours = read.allow(principal, &signature.signer, namespace, now());
        assert_eq!(
            ours.is_ok(),
            theirs,
            "case {case}: {principal} by {name} for {namespace}: {ours:?}\n{file:?}"
        );
        let admitted = read.admit(principal, &signature.signer, namespace, Some(now())).is_ok();
        assert!(!admitted || theirs, "case {case}: stanch takes what ssh-keygen does not: {file:?}");
        allowed += usize::from(theirs);
        strict += usize::from(admitted);
    }
    eprintln!("ssh-keygen allowed {allowed} of 500 files, stanch's own rules {strict}");
    assert!(
        (100..400).contains(&allowed) && strict > 50,
        "{allowed} and {strict}: the files are too much alike"
    );
}

#[test]
fn a_line_that_does_not_count_has_a_fault_with_its_place() {
    let keys = Keys::new();
    keys.make("one", &["ed25519"]);
    let key = keys.public("one");
    for (line, place, words) in [
        (format!("alice {key}\r"), (2, line_end(&format!("alice {key}"))), "CR LF"),
        (format!("*@example.com {key}"), (2, 1), "is a pattern"),
        (format!("\"alice bob\" {key}"), (2, 1), "contains a space"),
        (format!("alice valid-after=\"20300101\" {key}"), (2, 7), "has no zone"),
        (format!("alice namespaces=\"x {key}"), (2, 7), "not closed"),
        (format!("alice valid-before=\"x\" {key}"), (2, 7), "not a time"),
        (format!("alice unknown {key}"), (2, 7), "not known"),
        ("alice ssh-ed25519 AAAA".to_owned(), (2, 7), "SSH public key"),
        ("alice".to_owned(), (2, 1), "not followed by a key"),
    ] {
        let read = Signers::read(&format!("# who may approve\n{line}\n"));
        let [fault] = read.faults() else { panic!("{line:?}: {:?}", read.faults()) };
        assert_eq!((fault.line, fault.column), place, "{line:?}: {fault:?}");
        assert!(fault.what.contains(words), "{line:?}: {fault:?}");
        assert!(!fault.hint.is_empty());
    }
    let expired = Signers::read(&format!("alice valid-before=\"20200101Z\" {key}\n"));
    assert_eq!(expired.asleep(now()), [(1, "expired at 2020-01-01T00:00:00Z".to_owned())]);
    assert!(expired.faults().is_empty());
}

fn line_end(line: &str) -> usize {
    line.len() + 1
}
