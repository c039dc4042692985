//! A login to a database server: a user name and a password, in two parts or in a URI.

use percent_encoding::{percent_decode_str, utf8_percent_encode};

use super::spec::{PASSWORD, RANDOM, URI, USERNAME};
use crate::domain::ErrorKind;
use crate::provider::http::RESERVED;
use crate::provider::outcome::CallError;
use crate::secret::{Alphabet, Material, Recipe, Secret};

/// A user name and a password.
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: Secret,
}

/// What a server and its drivers take as a login.
pub(super) struct Form {
    /// The server's name, for messages.
    pub(super) product: &'static str,
    /// The schemes of its URIs; the first one is what an example shows.
    pub(super) schemes: &'static [&'static str],
    /// The longest name of a user, in bytes: the server cuts longer ones off, or refuses them.
    pub(super) longest: usize,
}

/// A new login, whose name begins with `prefix`.
pub(super) fn new_login(prefix: &str, recipe: Recipe) -> Login {
    let random = Recipe::new(Alphabet::Hex, 40).map(|hex| hex.generate().expose()[..RANDOM].to_owned());
    let user = format!("{prefix}_{}", random.unwrap_or_default());
    Login { user, password: recipe.generate() }
}

/// Whether the names of new logins may begin with this.
///
/// # Errors
/// When such a name would be longer than `longest` bytes, or hold what no name may.
pub(super) fn checked_prefix(prefix: &str, longest: usize) -> Result<(), CallError> {
    let invalid = |message: String| CallError::rejected(ErrorKind::Invalid, message);
    if prefix.is_empty() || prefix.chars().any(char::is_control) {
        return Err(invalid("`name` of the issuer is empty, or holds a control character".to_owned()));
    }
    if prefix.len() + 1 + RANDOM > longest {
        let most = longest - 1 - RANDOM;
        return Err(invalid(format!("`name` of the issuer has more than {most} bytes")));
    }
    Ok(())
}

impl Form {
    /// The credential that a login is.
    pub(super) fn material(&self, login: &Login, uri: Option<&str>) -> Result<Material, CallError> {
        match uri {
            None => {
                Ok(Material::single(USERNAME, Secret::new(&login.user))
                    .with(PASSWORD, login.password.clone()))
            }
            Some(uri) => Ok(Material::single(URI, self.written(login, uri)?)),
        }
    }

    /// The URI with the login in it.
    fn written(&self, login: &Login, uri: &str) -> Result<Secret, CallError> {
        let (scheme, rest) = self.split(uri).ok_or_else(|| {
            let message = format!("`uri` of the issuer is not a URI of {} without a user", self.product);
            CallError::rejected(ErrorKind::Invalid, message).hint(format!(
                "write it as `{}://HOST:PORT/DATABASE`; stanch puts user and password into it",
                self.schemes[0]
            ))
        })?;
        let escaped = |text: &str| utf8_percent_encode(text, RESERVED).to_string();
        let (user, password) =
            (escaped(&login.user), zeroize::Zeroizing::new(escaped(login.password.expose())));
        Ok(Secret::new(format!("{scheme}://{user}:{}@{rest}", *password)))
    }

    /// Scheme and rest of a URI that names no user.
    fn split<'a>(&self, uri: &'a str) -> Option<(&'a str, &'a str)> {
        let (scheme, rest) = uri.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        let fits = self.schemes.contains(&scheme) && !authority.contains('@');
        (fits && !rest.contains(char::is_whitespace)).then_some((scheme, rest))
    }

    /// The login that a credential is, where it can be one: what cannot is sent nowhere.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`], with a sentence that quotes nothing.
    pub(super) fn login(&self, material: &Material) -> Result<Login, CallError> {
        let product = self.product;
        let invalid = |why: &str| {
            let message = format!("the value cannot be a login of {product}: {why}");
            CallError::rejected(ErrorKind::Invalid, message).hint(format!(
                "compare the store's fields and `fields` in the runbook; nothing was sent to {product}"
            ))
        };
        let found = match material.part(URI) {
            Some(uri) => {
                self.read(uri).ok_or_else(|| invalid("it is not a URL with a user name and a password"))?
            }
            None => {
                let part = |name: &str| material.part(name).ok_or_else(|| invalid("a part is missing"));
                let user = part(USERNAME)?.expose().to_owned();
                Login { user, password: part(PASSWORD)?.clone() }
            }
        };
        let user = &found.user;
        if user.trim().is_empty() || user.len() > self.longest || user.chars().any(char::is_control) {
            return Err(invalid("the user name is empty, too long, or holds a control character"));
        }
        if found.password.expose().is_empty() || found.password.expose().contains('\0') {
            return Err(invalid("the password is empty, or holds a NUL"));
        }
        Ok(found)
    }

    /// User name and password of a URI, as drivers read it: the first `@` of the authority ends them.
    fn read(&self, uri: &Secret) -> Option<Login> {
        let (scheme, rest) = uri.expose().trim().split_once("://")?;
        if !self.schemes.contains(&scheme) {
            return None;
        }
        let (login, _) = rest.split(['/', '?', '#']).next()?.split_once('@')?;
        let (user, password) = login.split_once(':')?;
        let decoded = |text: &str| {
            // What is not an escape is no URI that a driver would take.
            let whole = text.split('%').skip(1).all(|after| {
                after.len() >= 2
                    && after.is_char_boundary(2)
                    && after[..2].chars().all(|c| c.is_ascii_hexdigit())
            });
            whole.then(|| percent_decode_str(text).decode_utf8().ok().map(String::from)).flatten()
        };
        Some(Login { user: decoded(user)?, password: Secret::new(decoded(password)?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: Form = Form { product: "PostgreSQL", schemes: &["postgresql", "postgres"], longest: 63 };

    fn of(user: &str, password: &str) -> Login {
        Login { user: user.to_owned(), password: Secret::new(password) }
    }

    /// What programs get wrong: characters that mean something in a URL.
    #[test]
    fn a_url_gives_back_what_was_put_into_it() {
        let base = "postgresql://db.internal:5432/app?sslmode=verify-full&application_name=a@b";
        for password in ["plain", "@/%^+ :?#[]", "%40", "ü\"'\\", "a&b=c"] {
            let made = FORM.material(&of("app@x:1", password), Some(base)).expect("a URL");
            let text = made.main().expect("one part").expose().to_owned();
            assert!(
                text.ends_with("@db.internal:5432/app?sslmode=verify-full&application_name=a@b"),
                "{text}"
            );
            assert!(!text.contains(' ') && text.matches('@').count() == 2, "{text}");
            let back = FORM.login(&made).expect("a login");
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
            let error = FORM.login(&url(bad)).err().unwrap_or_else(|| panic!("{bad} was taken"));
            assert_eq!(error.kind, ErrorKind::Invalid);
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
        let pair = |user: &str, password: &str| FORM.material(&of(user, password), None).expect("two parts");
        for (user, password) in [("", "p"), (" ", "p"), ("u\n", "p"), ("u", ""), ("u", "a\0b")] {
            assert!(FORM.login(&pair(user, password)).is_err(), "{user:?}");
        }
        assert!(FORM.login(&pair(&"u".repeat(64), "p")).is_err());
        assert_eq!(
            FORM.login(&pair("u", " p ")).expect("a login").password.expose(),
            " p ",
            "blanks belong to it"
        );
        for bad in ["mysql://h/d", "postgresql://u@h/d", "postgresql://h /d", "h/d"] {
            assert!(FORM.material(&of("u", "p"), Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn new_names_fit_and_differ() {
        let recipe = Recipe::new(Alphabet::Alphanumeric, 40).expect("a recipe");
        let (one, two) = (new_login("app", recipe), new_login("app", recipe));
        assert!(one.user.starts_with("app_") && one.user.len() == 14 && one.user != two.user);
        assert!(!one.password.same_as(&two.password));
        assert!(checked_prefix(&"x".repeat(52), 63).is_ok());
        for bad in ["", "a\nb", &"x".repeat(53)] {
            assert!(checked_prefix(bad, 63).is_err(), "{bad:?}");
        }
    }
}
