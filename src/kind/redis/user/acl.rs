//! The users of a node, and which password of a user a handle means.
//!
//! Redis keeps of each password its SHA-256, and knows it by nothing else. Two things follow:
//!
//! - A password has no place for a tag. So a password of a run has a *marker*: another user, `stanch:USER:RUN:STEP:TOKEN`,
//!   which is off, may do nothing, and has the same password. It is made together with the password and goes with it. A
//!   password that is disabled is kept by a marker alone; where it has none, `stanch:USER::DIGITS` is made for it.
//! - A handle is made of the first digits of the hash, and handles are recorded. A password of a run has 238 random bits:
//!   nothing is learned from twelve digits. Any other password may be a weak one, which is found by them in a list of
//!   guesses. So of those a handle has two digits, which leave one of 256 guesses, and only the server says which is right.
//!   Where two digits do not tell one password from another, stanch refuses.

use std::collections::BTreeSet;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::domain::{ErrorKind, Life};
use crate::kind::redis::resp::Reply;
use crate::kind::redis::settings::Node;
use crate::provider::{CallContext, CallError};
use crate::text::sanitize;

/// Digits of a password that a run made.
const LONG: usize = 12;
/// Digits of any other.
const SHORT: usize = 2;
const HASH: usize = 64;
/// What would make a marker's name mean another user.
const ESCAPED: &AsciiSet = &CONTROLS.add(b':').add(b'%');

/// A user, as `ACL LIST` shows it.
pub(super) struct User {
    pub(super) name: String,
    pub(super) on: bool,
    /// Whether it is let in with any password.
    pub(super) nopass: bool,
    /// SHA-256 of each password, in hexadecimal. Never shown.
    hashes: Vec<String>,
}

/// The users of one node.
pub(super) struct Acl {
    pub(super) node: Node,
    users: Vec<User>,
}

/// A password on one node.
pub(super) struct Password<'a> {
    pub(super) hash: &'a str,
    /// Whether the user is let in with it, if it is on.
    pub(super) active: bool,
    /// The users that mark it or keep it.
    pub(super) markers: Vec<&'a str>,
    /// Whether a run made it.
    made: bool,
}

impl Password<'_> {
    /// The digits of its handle.
    pub(super) fn digits(&self) -> &str {
        &self.hash[..if self.made { LONG } else { SHORT }]
    }

    pub(super) fn life(&self) -> Life {
        if self.active { Life::Active } else { Life::Disabled }
    }
}

/// What the names of the markers of a user begin with.
fn marks(user: &str) -> String {
    format!("stanch:{}:", utf8_percent_encode(user, ESCAPED))
}

/// The name of the marker of the password that a step makes; of all of a run's, what it begins with.
pub(super) fn marker(user: &str, context: &CallContext) -> String {
    let CallContext { run, step, token, .. } = context;
    let rest = if step.is_empty() { String::new() } else { format!("{step}:{}", token.simple()) };
    format!("{}{run}:{rest}", marks(user))
}

/// The name of the user that keeps a password which no run made, while it is disabled.
pub(super) fn keeper(user: &str, hash: &str) -> String {
    format!("{}:{}", marks(user), &hash[..SHORT])
}

/// Whether a marker is such a keeper.
pub(super) fn is_keeper(user: &str, marker: &str) -> bool {
    marker.strip_prefix(&marks(user)).is_some_and(|rest| rest.starts_with(':'))
}

impl Acl {
    /// Reads the answer to `ACL LIST`.
    pub(super) fn read(node: &Node, reply: &Reply) -> Self {
        let users = reply.texts().filter_map(|line| {
            let mut words = line.split(' ');
            let (Some("user"), Some(name)) = (words.next(), words.next()) else { return None };
            let mut user = User { name: name.to_owned(), on: false, nopass: false, hashes: Vec::new() };
            for word in words {
                match word {
                    "on" => user.on = true,
                    "nopass" => user.nopass = true,
                    _ => user
                        .hashes
                        .extend(word.strip_prefix('#').filter(|hash| is_hash(hash)).map(str::to_owned)),
                }
            }
            Some(user)
        });
        Self { node: node.clone(), users: users.collect() }
    }

    /// The user that is let in with the password of this hash.
    pub(super) fn owner(&self, hash: &str) -> Option<&str> {
        let has =
            |user: &&User| !user.name.starts_with("stanch:") && user.hashes.iter().any(|own| own == hash);
        self.users.iter().find(has).map(|user| user.name.as_str())
    }

    pub(super) fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }

    /// Every password of a user, those included that are disabled.
    pub(super) fn passwords(&self, user: &str) -> Vec<Password<'_>> {
        let prefix = marks(user);
        let own = self.user(user).into_iter().flat_map(|user| &user.hashes);
        let markers = || self.users.iter().filter(|marker| marker.name.starts_with(&prefix));
        let hashes: BTreeSet<&str> =
            own.chain(markers().flat_map(|marker| &marker.hashes)).map(String::as_str).collect();
        let password = |hash: &'_ str| {
            let has = |user: &&User| user.hashes.iter().any(|own| own == hash);
            let markers: Vec<&str> = markers().filter(has).map(|marker| marker.name.as_str()).collect();
            let made = markers.iter().any(|marker| !is_keeper(user, marker));
            (self.user(user).as_ref().is_some_and(has), markers, made)
        };
        hashes
            .into_iter()
            .map(|hash| {
                let (active, markers, made) = password(hash);
                Password { hash, active, markers, made }
            })
            .collect()
    }

    /// The password with this hash.
    pub(super) fn password(&self, user: &str, hash: &str) -> Option<Password<'_>> {
        self.passwords(user).into_iter().find(|password| password.hash == hash)
    }

    /// The hashes that markers whose names begin so have: all of them, or, in full, the one of this name.
    pub(super) fn marked(&self, name: &str, in_full: bool) -> impl Iterator<Item = &str> {
        let fits = move |user: &&User| if in_full { user.name == name } else { user.name.starts_with(name) };
        self.users.iter().filter(fits).flat_map(|user| &user.hashes).map(String::as_str)
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == HASH && text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
}

/// `USER:DIGITS`, or a user alone where a person gave no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Handle<'a> {
    pub(super) user: &'a str,
    digits: Option<&'a str>,
}

impl<'a> Handle<'a> {
    /// Reads one.
    pub(super) fn read(text: &'a str) -> Self {
        let is_digits = |digits: &str| {
            [SHORT, LONG].contains(&digits.len()) && digits.bytes().all(|c| c.is_ascii_hexdigit())
        };
        let parts = text.rsplit_once(':').filter(|(user, digits)| !user.is_empty() && is_digits(digits));
        parts.map_or(Self { user: text, digits: None }, |(user, digits)| Self { user, digits: Some(digits) })
    }

    /// A user by its name alone.
    pub(super) fn named(user: &'a str) -> Self {
        Self { user, digits: None }
    }

    fn means(&self, password: &Password<'_>) -> bool {
        let digits = self.digits.map(str::to_ascii_lowercase);
        match digits.as_deref() {
            None => true,
            // Two digits are of one that no run made.
            Some(digits) if digits.len() == SHORT => !password.made && password.hash.starts_with(digits),
            Some(digits) => password.hash.starts_with(digits),
        }
    }

    /// The hash that it means on all nodes; `None` when none has such a password.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] when it may mean more than one: nothing is changed on a guess.
    pub(super) fn hash(&self, nodes: &[Acl]) -> Result<Option<String>, CallError> {
        let found: BTreeSet<&str> = nodes
            .iter()
            .flat_map(|acl| acl.passwords(self.user))
            .filter(|password| self.means(password))
            .map(|password| password.hash)
            .collect();
        if found.len() > 1 {
            return Err(self.several(nodes, &found));
        }
        Ok(found.first().map(|hash| (*hash).to_owned()))
    }

    fn several(&self, nodes: &[Acl], found: &BTreeSet<&str>) -> CallError {
        let user = sanitize(self.user);
        let handles: BTreeSet<String> =
            found.iter().map(|hash| format!("{user}:{}", digits(nodes, self.user, hash))).collect();
        let named: Vec<String> = handles.iter().cloned().collect();
        let message =
            format!("{user} has {} passwords, and `{}` does not say which", found.len(), self.text());
        let hint = if handles.len() == found.len() {
            format!("name one of {}: the digits are those that its SHA-256 begins with", named.join(", "))
        } else {
            "remove those that are not needed by hand (`ACL SETUSER USER !HASH`), then try again".to_owned()
        };
        CallError::rejected(ErrorKind::Conflict, message).hint(hint)
    }

    fn text(&self) -> String {
        let digits = self.digits.map(|digits| format!(":{digits}")).unwrap_or_default();
        format!("{}{digits}", sanitize(self.user))
    }
}

/// The digits of the handle of a password: as many as any node allows.
pub(super) fn digits<'a>(nodes: &[Acl], user: &str, hash: &'a str) -> &'a str {
    let of = |acl: &Acl| acl.password(user, hash).map(|password| password.digits().len());
    &hash[..nodes.iter().filter_map(of).max().unwrap_or(SHORT)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        Node { host: "h".to_owned(), port: 1 }
    }

    fn hash(digits: &str) -> String {
        format!("{digits}{}", "0".repeat(HASH - digits.len()))
    }

    fn acl(lines: &[String]) -> Acl {
        Acl::read(&node(), &Reply::List(lines.iter().map(|line| Reply::Text(line.clone())).collect()))
    }

    #[test]
    fn a_handle_is_a_user_and_some_digits() {
        for (text, user, digits) in [
            ("app:3f", "app", Some("3f")),
            ("a:b:0123456789ab", "a:b", Some("0123456789ab")),
            ("app", "app", None),
            ("app:", "app:", None),
            ("app:3", "app:3", None),
            ("app:3g", "app:3g", None),
            (":3f", ":3f", None),
        ] {
            assert_eq!(Handle::read(text), Handle { user, digits }, "{text}");
        }
    }

    #[test]
    fn a_password_of_a_run_is_told_from_others_by_its_marker() {
        let (old, new, parked) = (hash("3f"), hash("3fabcdef0123"), hash("77"));
        let users = acl(&[
            format!("user app on sanitize-payload #{old} #{new} ~#* resetchannels +@all"),
            format!("user stanch:app:run-1:web/prepare/issue:t off #{new} resetchannels -@all"),
            format!("user {} off #{parked} resetchannels -@all", keeper("app", &parked)),
            format!("user stanch:app%3Aother:run-1:s:t off #{old} -@all"),
            "user default on nopass ~* &* +@all".to_owned(),
            "not a user at all".to_owned(),
        ]);
        let seen: Vec<(String, Life)> =
            users.passwords("app").iter().map(|p| (p.digits().to_owned(), p.life())).collect();
        let expected = [("3f", Life::Active), ("3fabcdef0123", Life::Active), ("77", Life::Disabled)];
        assert_eq!(seen, expected.map(|(digits, life)| (digits.to_owned(), life)));
        let nodes = [users];
        let means = |text: &str| Handle::read(text).hash(&nodes);
        assert_eq!(means("app:3f").expect("one").as_deref(), Some(old.as_str()), "not the one of a run");
        assert_eq!(means("app:3fabcdef0123").expect("one").as_deref(), Some(new.as_str()));
        assert_eq!(means("app:77").expect("one").as_deref(), Some(parked.as_str()));
        assert_eq!(means("app:00").expect("none"), None);
        assert_eq!(means("nobody-knows").expect("none"), None);
        let error = means("app").expect_err("three");
        assert!(
            error.kind == ErrorKind::Conflict && error.hint.expect("a hint").contains("app:3fabcdef0123")
        );
        assert!(nodes[0].user("default").expect("default").nopass);
    }

    /// Two weak passwords with the same two digits, on one node or on two: neither is touched.
    #[test]
    fn what_two_digits_do_not_tell_apart_is_refused() {
        let (one, two) = (hash("3f1"), hash("3f2"));
        let both = [acl(&[format!("user app on #{one} #{two} +@all")])];
        let split =
            [acl(&[format!("user app on #{one} +@all")]), acl(&[format!("user app on #{two} +@all")])];
        for nodes in [&both[..], &split[..]] {
            let error = Handle::read("app:3f").hash(nodes).expect_err("two");
            let hint = error.hint.expect("a hint");
            assert!(
                error.kind == ErrorKind::Conflict && hint.contains("by hand") && !hint.contains("3f1"),
                "{hint}"
            );
        }
    }

    #[test]
    fn a_name_with_a_colon_is_no_other_user() {
        assert!(!marks("a:b").starts_with(&marks("a")));
        assert!(is_keeper("a", &keeper("a", &hash("77"))) && !is_keeper("a", "stanch:a:run:step:t"));
    }
}
