//! The parts of a credential: a user name and a password, or both in a URL.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::spec::PostgresRole;
use crate::domain::ErrorKind;
use crate::provider::outcome::CallError;
use crate::secret::{Alphabet, Material, Recipe, Secret};

/// PostgreSQL cuts longer names off.
pub(super) const LONGEST_NAME: usize = 63;
/// How many characters of a new role's name are random. Of sixteen each: two roles never get the same name.
const RANDOM: usize = 10;
/// What needs no escape in the user information of a URL (RFC 3986, unreserved).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A user name and a password.
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: Secret,
}

/// A new one, whose name begins with `prefix`.
pub(super) fn new_login(prefix: &str, recipe: Recipe) -> Login {
    let random = Recipe::new(Alphabet::Hex, 40).map(|hex| hex.generate().expose()[..RANDOM].to_owned());
    let user = format!("{prefix}_{}", random.unwrap_or_default());
    Login { user, password: recipe.generate() }
}

/// Whether the names of new roles may begin with this.
///
/// # Errors
/// When such a name would be cut off, or be one of the server's own.
pub(super) fn checked_prefix(prefix: &str) -> Result<(), CallError> {
    let invalid = |message: String| CallError::rejected(ErrorKind::Invalid, message);
    if prefix.is_empty() || prefix.chars().any(char::is_control) {
        return Err(invalid("`name` of the issuer is empty, or holds a control character".to_owned()));
    }
    if prefix.len() + 1 + RANDOM > LONGEST_NAME {
        let most = LONGEST_NAME - 1 - RANDOM;
        return Err(invalid(format!("`name` of the issuer has more than {most} bytes")));
    }
    if prefix.starts_with("pg_") {
        return Err(invalid("names that begin with `pg_` are the server's own".to_owned()));
    }
    Ok(())
}

/// The credential that a login is.
pub(super) fn material(login: &Login, url: Option<&str>) -> Result<Material, CallError> {
    match url {
        None => Ok(Material::single(PostgresRole::USERNAME, Secret::new(&login.user))
            .with(PostgresRole::SECRET, login.password.clone())),
        Some(url) => Ok(Material::single(PostgresRole::URI, written(login, url)?)),
    }
}

/// The URL with the login in it.
fn written(login: &Login, url: &str) -> Result<Secret, CallError> {
    let (scheme, rest) = split(url).ok_or_else(|| {
        CallError::rejected(
            ErrorKind::Invalid,
            "`uri` of the issuer is not a URI of PostgreSQL without a user",
        )
        .hint("write it as `postgresql://HOST:PORT/DATABASE`; stanch puts user and password into it")
    })?;
    let escaped = |text: &str| utf8_percent_encode(text, ESCAPED).to_string();
    let (user, password) = (escaped(&login.user), zeroize::Zeroizing::new(escaped(login.password.expose())));
    Ok(Secret::new(format!("{scheme}://{user}:{}@{rest}", *password)))
}

/// Scheme and rest of a URL that names no user.
fn split(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let fits = ["postgresql", "postgres"].contains(&scheme) && !authority.contains('@');
    (fits && !rest.contains(char::is_whitespace)).then_some((scheme, rest))
}

/// The login that a credential is, where it can be one: what cannot is sent nowhere.
///
/// # Errors
/// [`ErrorKind::Invalid`], with a sentence that quotes nothing.
pub(super) fn login(material: &Material) -> Result<Login, CallError> {
    let invalid = |why: &str| {
        CallError::rejected(ErrorKind::Invalid, format!("the value cannot be a login of PostgreSQL: {why}"))
            .hint("compare the store's fields and `fields` in the runbook; nothing was sent to PostgreSQL")
    };
    let found = match material.part(PostgresRole::URI) {
        Some(url) => read(url).ok_or_else(|| invalid("it is not a URL with a user name and a password"))?,
        None => {
            let part = |name: &str| material.part(name).ok_or_else(|| invalid("a part is missing"));
            let user = part(PostgresRole::USERNAME)?.expose().to_owned();
            Login { user, password: part(PostgresRole::SECRET)?.clone() }
        }
    };
    let user = &found.user;
    if user.trim().is_empty() || user.len() > LONGEST_NAME || user.chars().any(char::is_control) {
        return Err(invalid("the user name is empty, too long, or holds a control character"));
    }
    if found.password.expose().is_empty() || found.password.expose().contains('\0') {
        return Err(invalid("the password is empty, or holds a NUL"));
    }
    Ok(found)
}

/// User name and password of a URL, as libpq reads it: the first `@` of the authority ends them.
fn read(url: &Secret) -> Option<Login> {
    let (scheme, rest) = url.expose().trim().split_once("://")?;
    if !["postgresql", "postgres"].contains(&scheme) {
        return None;
    }
    let (login, _) = rest.split(['/', '?', '#']).next()?.split_once('@')?;
    let (user, password) = login.split_once(':')?;
    let decoded = |text: &str| {
        // What is not an escape is no URL that a driver would take.
        let whole = text.split('%').skip(1).all(|after| {
            after.len() >= 2 && after.is_char_boundary(2) && after[..2].chars().all(|c| c.is_ascii_hexdigit())
        });
        whole.then(|| percent_decode_str(text).decode_utf8().ok().map(String::from)).flatten()
    };
    Some(Login { user: decoded(user)?, password: Secret::new(decoded(password)?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(user: &str, password: &str) -> Login {
        Login { user: user.to_owned(), password: Secret::new(password) }
    }

    /// What programs get wrong: characters that mean something in a URL.
    #[test]
    fn a_url_gives_back_what_was_put_into_it() {
        let base = "postgresql://db.internal:5432/app?sslmode=verify-full&application_name=a@b";
        for password in ["plain", "@/%^+ :?#[]", "%40", "ü\"'\\", "a&b=c"] {
            let made = material(&of("app@x:1", password), Some(base)).expect("a URL");
            let text = made.main().expect("one part").expose().to_owned();
            assert!(
                text.ends_with("@db.internal:5432/app?sslmode=verify-full&application_name=a@b"),
                "{text}"
            );
            assert!(!text.contains(' ') && text.matches('@').count() == 2, "{text}");
            let back = login(&made).expect("a login");
            assert_eq!((back.user.as_str(), back.password.expose()), ("app@x:1", password));
        }
    }

    #[test]
    fn what_cannot_be_a_login_is_refused_and_not_quoted() {
        let url = |text: &str| Material::single("uri", Secret::new(text));
        for bad in [
            "https://u:hunter2@h/d",
            "postgresql://h/hunter2",
            "postgresql://hunter2@h/d",
            "hunter2",
            "postgresql://u:hunter2%zz@h/d",
            "postgresql://u:hunter2%4@h/d",
            "postgresql://:hunter2@h/d",
        ] {
            let error = login(&url(bad)).err().unwrap_or_else(|| panic!("{bad} was taken"));
            assert_eq!(error.kind, ErrorKind::Invalid);
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
        let pair = |user: &str, password: &str| material(&of(user, password), None).expect("two parts");
        for (user, password) in [("", "p"), (" ", "p"), ("u\n", "p"), ("u", ""), ("u", "a\0b")] {
            assert!(login(&pair(user, password)).is_err(), "{user:?}");
        }
        assert!(login(&pair(&"u".repeat(64), "p")).is_err());
        assert_eq!(
            login(&pair("u", " p ")).expect("a login").password.expose(),
            " p ",
            "blanks belong to it"
        );
        for bad in ["mysql://h/d", "postgresql://u@h/d", "postgresql://h /d", "h/d"] {
            assert!(material(&of("u", "p"), Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn new_names_fit_and_differ() {
        let recipe = Recipe::new(Alphabet::Alphanumeric, 40).expect("a recipe");
        let (one, two) = (new_login("app", recipe), new_login("app", recipe));
        assert!(one.user.starts_with("app_") && one.user.len() == 14 && one.user != two.user);
        assert!(!one.password.same_as(&two.password));
        assert!(checked_prefix(&"x".repeat(52)).is_ok());
        for bad in ["", "pg_app", "a\nb", &"x".repeat(53)] {
            assert!(checked_prefix(bad).is_err(), "{bad:?}");
        }
    }
}
