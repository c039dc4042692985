//! Keys and files of authorized keys in memory. Whole rotations, with a server, are in `tests/it/ssh_key.rs`.

use uuid::Uuid;

use super::lines::{AuthorizedKeys, check_options};
use crate::domain::{ErrorKind, Life};
use crate::kind::ssh::pair::Pair;
use crate::secret::Secret;

/// A key's line and name.
fn made() -> (String, String) {
    let pair = Pair::read(&Pair::generate("test").expect("a key")).expect("it is read again");
    (pair.line(), pair.fingerprint())
}

fn calls() -> (Uuid, Uuid) {
    (Uuid::from_u128(1), Uuid::from_u128(2))
}

#[test]
fn one_key_goes_there_and_back_and_every_other_byte_stays() {
    let ((old, old_name), (other, other_name), (new, new_name)) = (made(), made(), made());
    let call = calls().0;
    let ending = |end: &str, last: &str| {
        format!(
            "# a note{end}\
             {end}\
             from=\"10.0.0.0/8,!10.1.0.1\",command=\"echo \\\"a b\\\" # no\",restrict {old} by hand{end}\
             \u{20}\t{other} neighbour{end}\
             #{old} a comment of somebody's{end}\
             \trestrict  {old}{end}\
             cert-authority,principals=\"a\" {old} authority{end}\
             not a key at all{end}\
             expiry-time=\"20990101\" {other}{last}"
        )
    };
    for (end, last) in [("\n", "\n"), ("\n", ""), ("\r\n", "\r\n"), ("\n", "\n\n")] {
        let first = ending(end, last);
        let mut keys = AuthorizedKeys::read(&first);
        assert_eq!(keys.text(), first);
        let options = keys.options_of(&old_name);
        assert_eq!(options.len(), 2, "{options:?}");
        assert!(keys.publish(&new, &new_name, &options, "app", call).expect("added"));
        let text = keys.text();
        let added: Vec<&str> = text.lines().filter(|line| line.contains(&new)).collect();
        assert_eq!(added.len(), 2, "{text}");
        assert!(added[0].starts_with(
            "from=\"10.0.0.0/8,!10.1.0.1\",command=\"echo \\\"a b\\\" # no\",restrict ssh-ed25519"
        ));
        assert!(added[1].starts_with("restrict ssh-ed25519"));
        assert_eq!(text.matches('\r').count(), if end == "\n" { 0 } else { first.matches('\r').count() + 2 });
        assert_eq!(text.ends_with('\n'), first.ends_with('\n'));

        let mut keys = AuthorizedKeys::read(&text);
        assert!(!keys.publish(&new, &new_name, &options, "app", call).expect("added"), "once is enough");
        assert!(keys.retire(&old_name).expect("retired") && !keys.retire(&old_name).expect("twice"));
        let lives = |keys: &AuthorizedKeys| [&old_name, &new_name, &other_name].map(|name| keys.life(name));
        assert_eq!(lives(&keys), [Life::Disabled, Life::Active, Life::Active]);
        let mut sunset = AuthorizedKeys::read(&keys.text());
        assert_eq!(lives(&sunset), lives(&keys));
        assert_eq!(sunset.options_of(&old_name), options, "under `contain` they are read there");
        assert!(sunset.restore(&old_name).expect("restored") && !sunset.restore(&old_name).expect("twice"));
        assert_eq!(sunset.text(), text, "a rollback leaves no trace");
        assert!(sunset.remove(&new_name) && !sunset.remove(&new_name));
        assert_eq!(sunset.text(), first, "nor does it of the new key");

        assert!(keys.remove(&old_name));
        let left = keys.text();
        assert_eq!(lives(&keys), [Life::Gone, Life::Active, Life::Active]);
        assert!(keys.has_authority(&old_name), "an authority is another thing");
        for line in first.lines().filter(|line| !line.contains("restrict")) {
            assert!(left.contains(line), "{line}: {left}");
        }
        assert_eq!(
            left.lines().filter(|line| line.contains(&old)).count(),
            2,
            "a comment, and the authority"
        );
    }
    let none = AuthorizedKeys::read("").retire(&old_name).expect_err("it is not there");
    assert_eq!(none.kind, ErrorKind::NotFound);
}

#[test]
fn an_empty_file_gets_one_line_and_is_empty_again() {
    let (key, name) = made();
    let mut keys = AuthorizedKeys::read("");
    assert!(keys.publish(&key, &name, &[String::new()], "app", calls().0).expect("added"));
    assert!(
        keys.text().starts_with("ssh-ed25519 ")
            && keys.text().ends_with('\n')
            && keys.text().lines().count() == 1
    );
    assert!(keys.remove(&name) && keys.text().is_empty());
}

/// What is found is revoked: a comment that was copied, or a key that took the line over, is not this run's.
#[test]
fn only_the_very_key_of_the_very_call_is_found() {
    let ((key, name), (stranger, _), (mine, other)) = (made(), made(), calls());
    let mut keys = AuthorizedKeys::read("# kept\n");
    keys.publish(&key, &name, &[String::new(), "restrict".to_owned()], "app", mine).expect("added");
    let text = keys.text();
    let found = |text: &str, call| {
        let mut found = AuthorizedKeys::read(text).issued_by(call);
        found.dedup();
        found
    };
    assert_eq!((found(&text, mine), found(&text, other)), (vec![name.clone()], vec![]));
    assert_eq!(
        found(&text.replace(&key, &stranger), mine),
        Vec::<String>::new(),
        "another key under the same comment"
    );
    keys.retire(&name).expect("retired");
    assert_eq!(found(&keys.text(), mine), std::slice::from_ref(&name), "retired or not");
    // By another hand it is there already.
    let mut taken = AuthorizedKeys::read(&format!("{key} by hand\n"));
    let error = taken.publish(&key, &name, &[String::new()], "app", mine).expect_err("it is there");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Conflict, false));
}

/// OpenSSH compares keys, and not their spelling.
#[test]
fn a_key_is_known_in_every_spelling_that_openssh_reads() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let (key, name) = made();
    let blob = key.split(' ').next_back().expect("base64");
    for line in [
        format!("ssh-ed25519\t {blob}"),
        format!("ssh-ed25519 {}", blob.trim_end_matches('=')),
        format!("ssh-ed25519 {blob}\r"),
        format!("no-pty,environment=\"A=\\\"\"\tssh-ed25519   {blob} x"),
        format!("NO-PTY ssh-ed25519 {}\u{b}{}", &blob[..10], &blob[10..]),
    ] {
        assert_eq!(AuthorizedKeys::read(&line).life(&name), Life::Active, "{line:?}");
    }
    for line in [
        format!("ssh-rsa {blob}"),
        format!("\"ssh-ed25519 {blob}"),
        format!("#ssh-ed25519 {blob}"),
        blob.to_owned(),
    ] {
        assert_eq!(AuthorizedKeys::read(&line).life(&name), Life::Gone, "{line:?}");
    }
    // A number with zeros before it is the same number.
    let rsa = |zeros: usize| {
        let mut bytes = Vec::new();
        let padded: Vec<u8> = std::iter::repeat_n(0, zeros).chain([0, 0x91, 0x22]).collect();
        for field in [b"ssh-rsa".as_slice(), &[1, 0, 1], &padded] {
            crate::kind::ssh::pair::string(&mut bytes, field);
        }
        AuthorizedKeys::read(&format!("ssh-rsa {}", STANDARD.encode(bytes)))
    };
    let mut both = rsa(3);
    both.retire("none").expect_err("another key");
    let named = |keys: &AuthorizedKeys| keys.names();
    assert_eq!(named(&rsa(0)), named(&both));
}

#[test]
fn options_that_would_be_something_else_are_refused() {
    for text in
        ["", "restrict", "from=\"10.0.0.0/8\",command=\"a b\"", "command=\"say \\\"cert-authority\\\"\""]
    {
        assert_eq!(check_options(text), Ok(()), "{text}");
    }
    for text in [
        "restrict ssh-ed25519 AAAA",
        "command=\"a",
        "restrict\nssh-ed25519 AAAA",
        "restrict,cert-authority",
        "CERT-AUTHORITY",
        "# restrict",
        "#restrict",
        "restrict ",
    ] {
        assert!(check_options(text).is_err(), "{text}");
    }
}

#[test]
fn what_is_no_private_key_is_refused_and_not_quoted() {
    let body = "TUlHSEFnRUFNQk1HQnlxR1NNNDlBZ0VHQ0NxR1NNNDlBd0VIQkcwd2F3SUJBUVFn";
    let labelled = |label: &str| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
    for text in
        ["hunter2".to_owned(), String::new(), labelled("OPENSSH PRIVATE KEY"), labelled("RSA PRIVATE KEY")]
    {
        let error = Pair::read(&Secret::new(text.clone())).err().expect("no key");
        assert_eq!((error.kind, error.in_doubt), (ErrorKind::Invalid, false), "{error:?}");
        let said = format!("{error:?}");
        assert!(!said.contains("hunter2") && !said.contains(&body[..8]), "{said}");
    }
}
