//! How a Vault is reached: the runbook's words first, then what Vault's own tools read.

use std::path::PathBuf;

use crate::domain::ErrorKind;
use crate::provider::http::{safe_url, sensitive};
use crate::provider::outcome::CallError;
use crate::provider::own_file::{self, SMALL};
use crate::secret::Secret;

/// What Vault's own tools read and stanch does not, though it may change which server is asked, or how.
const NOT_HEEDED: [&str; 6] = [
    "VAULT_TLS_SERVER_NAME",
    "VAULT_AGENT_ADDR",
    "VAULT_SRV_LOOKUP",
    "VAULT_RATE_LIMIT",
    "VAULT_CLIENT_TIMEOUT",
    "VAULT_HEADERS",
];

/// Everything that is needed to talk to a Vault.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The server's address, with a path where it stands behind one.
    pub address: reqwest::Url,
    /// The operator's token; without one only `sys/health` can be asked.
    pub token: Option<Secret>,
    /// The namespace.
    pub namespace: Option<String>,
    /// The only CA bundle to trust.
    pub ca_cert: Option<PathBuf>,
    /// Whether any certificate is accepted (`VAULT_SKIP_VERIFY`).
    pub skip_verify: bool,
    /// What few need.
    pub more: More,
}

/// The settings that few need.
#[derive(Debug, Clone, Default)]
pub struct More {
    /// A folder of CA bundles, where there is no `ca_cert` (`VAULT_CAPATH`).
    pub ca_path: Option<PathBuf>,
    /// The client's own certificate and its key (`VAULT_CLIENT_CERT`, `VAULT_CLIENT_KEY`).
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The proxy that every request goes through (`VAULT_PROXY_ADDR`, `VAULT_HTTP_PROXY`).
    pub proxy: Option<Secret>,
    /// Variables that are set, and not heeded.
    pub not_heeded: Vec<&'static str>,
}

impl Settings {
    /// Completes the runbook's words from `VAULT_ADDR`, `VAULT_TOKEN`, `~/.vault-token`,
    /// `VAULT_NAMESPACE`, `VAULT_CACERT`, `VAULT_CAPATH`, `VAULT_CLIENT_CERT`, `VAULT_CLIENT_KEY`,
    /// `VAULT_PROXY_ADDR` and `VAULT_SKIP_VERIFY`. There is no default address: a rotation must not find
    /// its way to whatever listens on this machine.
    ///
    /// # Errors
    /// When there is no address, it is none, or the token cannot stand in a header.
    pub fn resolve(
        address: Option<&str>,
        namespace: Option<&str>,
        ca_cert: Option<&str>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, CallError> {
        let env = |name: &str| env(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let text = address.map(str::to_owned).or_else(|| env("VAULT_ADDR")).ok_or_else(|| {
            local("no Vault address is set")
                .hint("set VAULT_ADDR, or `address` of the connection in the runbook")
        })?;
        let skip_verify = match env("VAULT_SKIP_VERIFY").map(|v| v.to_ascii_lowercase()).as_deref() {
            None | Some("0" | "f" | "false") => false,
            Some("1" | "t" | "true") => true,
            Some(_) => {
                return Err(local("VAULT_SKIP_VERIFY is neither true nor false").hint("unset it"));
            }
        };
        Ok(Self {
            address: http_address(&text, "Vault's address")?,
            token: token(&env)?,
            namespace: namespace
                .map(str::to_owned)
                .or_else(|| env("VAULT_NAMESPACE"))
                .map(|n| n.trim_matches('/').to_owned())
                .filter(|n| !n.is_empty()),
            ca_cert: ca_cert.map(PathBuf::from).or_else(|| env("VAULT_CACERT").map(PathBuf::from)),
            skip_verify,
            more: more(&env)?,
        })
    }
}

impl Settings {
    /// The only CA certificates to trust, and where they were read; `None` for the machine's.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn roots(&self) -> Result<Option<(Vec<u8>, String)>, CallError> {
        if let Some(path) = &self.ca_cert {
            let pem = read(path, "correct `ca_cert` of the connection, or VAULT_CACERT")?;
            return Ok(Some((pem, path.display().to_string())));
        }
        let Some(folder) = &self.more.ca_path else { return Ok(None) };
        let source = folder.display().to_string();
        let unreadable = |error: std::io::Error| {
            local(format!("cannot read {source}: {error}")).hint("correct VAULT_CAPATH")
        };
        let mut pem = Vec::new();
        for path in own_file::list(folder).map_err(unreadable)? {
            pem.extend(read(&path, "correct VAULT_CAPATH")?);
            pem.push(b'\n');
        }
        Ok(Some((pem, source)))
    }

    /// The client's own certificate with its key, and where they were read.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(super) fn identity(&self) -> Result<Option<(Secret, String)>, CallError> {
        let Some((certificate, key)) = &self.more.identity else { return Ok(None) };
        let source = format!("{} and {}", certificate.display(), key.display());
        let mut pem = String::new();
        for path in [certificate, key] {
            let bytes =
                zeroize::Zeroizing::new(read(path, "correct VAULT_CLIENT_CERT and VAULT_CLIENT_KEY")?);
            pem.push_str(&String::from_utf8_lossy(&bytes));
            pem.push('\n');
        }
        Ok(Some((Secret::new(pem), source)))
    }
}

fn read(path: &std::path::Path, hint: &str) -> Result<Vec<u8>, CallError> {
    own_file::read(path, SMALL)
        .map_err(|error| local(format!("cannot read {}: {error}", path.display())).hint(hint))
}

fn more(env: &dyn Fn(&str) -> Option<String>) -> Result<More, CallError> {
    let identity = match (env("VAULT_CLIENT_CERT"), env("VAULT_CLIENT_KEY")) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some((PathBuf::from(certificate), PathBuf::from(key))),
        _ => {
            return Err(local("one of VAULT_CLIENT_CERT and VAULT_CLIENT_KEY is set without the other")
                .hint("set both, or unset both"));
        }
    };
    let proxy = env("VAULT_PROXY_ADDR").or_else(|| env("VAULT_HTTP_PROXY"));
    Ok(More {
        ca_path: env("VAULT_CAPATH").map(PathBuf::from),
        identity,
        // It may hold a password.
        proxy: proxy
            .map(|text| http_address(&text, "VAULT_PROXY_ADDR"))
            .transpose()?
            .map(|url| Secret::new(url.as_str())),
        not_heeded: NOT_HEEDED.into_iter().filter(|name| env(name).is_some()).collect(),
    })
}

/// An address, with what people add to it taken off: the API's `/v1`, the page's `/ui`, a log-in,
/// a query.
fn http_address(text: &str, what: &str) -> Result<reqwest::Url, CallError> {
    let text = text.trim();
    let mut url = text
        .parse::<reqwest::Url>()
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| {
            let error = local(format!("{what} is not valid: {}", safe_url(text)));
            if text.starts_with("unix:") {
                error.hint("stanch does not speak to sockets: give an address that begins with `https://`")
            } else {
                error.hint("write it as `https://HOST:PORT`")
            }
        })?;
    let mut path = url.path().trim_end_matches('/').to_owned();
    while let Some(shorter) = path.strip_suffix("/v1") {
        path = shorter.trim_end_matches('/').to_owned();
    }
    // The address of the page that the browser shows.
    if path == "/ui" || path.starts_with("/ui/") {
        path.clear();
    }
    url.set_path(&path);
    url.set_query(None);
    url.set_fragment(None);
    if what == "Vault's address" {
        // Vault takes tokens and no passwords; these fail only for addresses that cannot have them.
        let _ = url.set_username("");
        let _ = url.set_password(None);
    }
    Ok(url)
}

/// `VAULT_TOKEN`, else the file that `vault login` writes.
fn token(env: &dyn Fn(&str) -> Option<String>) -> Result<Option<Secret>, CallError> {
    let (text, source) = match env("VAULT_TOKEN") {
        Some(token) => (token, "VAULT_TOKEN".to_owned()),
        None => {
            let Some(home) = env("HOME") else { return Ok(None) };
            let path = PathBuf::from(home).join(".vault-token");
            let source = path.display().to_string();
            let unreadable = |why: &str| {
                local(format!("cannot read {source}: {why}"))
                    .hint("log in again (`vault login`), or set VAULT_TOKEN: then the file is not read")
            };
            match own_file::read(&path, SMALL).map(String::from_utf8) {
                Ok(Ok(token)) => (token.trim().to_owned(), source),
                Ok(Err(_)) => return Err(unreadable("it is not text")),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(unreadable(&error.to_string())),
            }
        }
    };
    if text.is_empty() {
        return Ok(None);
    }
    sensitive(&text, &format!("the token in {source}"))?;
    Ok(Some(Secret::new(text)))
}

fn local(message: impl Into<String>) -> CallError {
    CallError::rejected(ErrorKind::Local, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(pairs: &[(&str, &str)]) -> Result<Settings, CallError> {
        let env =
            |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Settings::resolve(None, None, None, &env)
    }

    #[test]
    fn the_address_is_never_guessed() {
        assert!(resolve(&[]).expect_err("no address").hint.expect("hint").contains("VAULT_ADDR"));
        assert!(resolve(&[("VAULT_ADDR", "unix:///x")]).is_err());
    }

    #[test]
    fn an_address_is_taken_as_people_write_it() {
        let address = |text: &str| resolve(&[("VAULT_ADDR", text)]).map(|s| s.address.to_string());
        for (text, is) in [
            ("http://h:8200/v1", "http://h:8200/"),
            ("http://h:8200/v1/", "http://h:8200/"),
            ("http://h:8200/proxy/v1//", "http://h:8200/proxy"),
            ("http://h:8200/ui/vault/secrets", "http://h:8200/"),
            (" HTTP://H:8200/ ", "http://h:8200/"),
            ("https://u:pw-secret@h/?x=y#z", "https://h/"),
        ] {
            assert_eq!(address(text).expect(text), is);
        }
        for text in ["h:8200", "u:pw-secret@h:8200", "//h", "ftp://h", "http://", "unix:///tmp/x"] {
            let error = address(text).expect_err(text);
            assert!(error.hint.as_deref().is_some_and(|h| h.contains("https://")), "{error:?}");
            assert!(!format!("{error:?}").contains("pw-secret"), "{error:?}");
        }
    }

    #[test]
    fn half_a_client_certificate_is_an_error_and_what_is_not_heeded_is_named() {
        let with = |more: &[(&str, &str)]| resolve(&[&[("VAULT_ADDR", "http://h")], more].concat());
        assert!(with(&[("VAULT_CLIENT_CERT", "/c")]).is_err());
        let both = with(&[("VAULT_CLIENT_CERT", "/c"), ("VAULT_CLIENT_KEY", "/k")]).expect("both");
        assert!(both.more.identity.is_some() && both.more.not_heeded.is_empty());
        let named = with(&[("VAULT_TLS_SERVER_NAME", "x")]).expect("named").more.not_heeded;
        assert_eq!(named, ["VAULT_TLS_SERVER_NAME"]);
        let proxy = with(&[("VAULT_PROXY_ADDR", "http://p:3128")]).expect("proxy").more.proxy;
        assert_eq!(proxy.expect("proxy").expose(), "http://p:3128/");
    }

    #[test]
    fn a_token_with_a_line_break_inside_is_refused_without_being_shown() {
        let error =
            resolve(&[("VAULT_ADDR", "http://h"), ("VAULT_TOKEN", "hvs.hunter2\nx")]).expect_err("newline");
        assert!(error.message.contains("VAULT_TOKEN"));
        assert!(!format!("{error:?}").contains("hunter2"));
        let fine = resolve(&[("VAULT_ADDR", "http://h"), ("VAULT_TOKEN", "hvs.hunter2\n")]).expect("trimmed");
        assert!(fine.token.is_some() && !format!("{fine:?}").contains("hunter2"));
    }

    /// A pipe that nobody writes to, in the place of each file that is read, is named and given up.
    #[test]
    fn a_file_that_does_not_answer_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join(".vault-token");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
        let (home, pipe) = (folder.path().display().to_string(), pipe.display().to_string());
        let address = ("VAULT_ADDR", "http://h");
        let told = |error: CallError| {
            assert!(error.message.contains(&pipe) && error.message.contains("no answer within"), "{error}");
            assert!(error.hint.is_some(), "{error}");
        };
        told(resolve(&[address, ("HOME", &home)]).expect_err("the token"));
        let with = |more: &[(&str, &str)]| resolve(&[&[address], more].concat()).expect("settings");
        told(with(&[("VAULT_CACERT", &pipe)]).roots().expect_err("the certificates"));
        let both = with(&[("VAULT_CLIENT_CERT", &pipe), ("VAULT_CLIENT_KEY", &pipe)]);
        told(both.identity().map(drop).expect_err("the client's certificate"));
    }

    #[test]
    fn verification_is_switched_off_by_a_clear_word_only() {
        let skip = |value| {
            resolve(&[("VAULT_ADDR", "http://h"), ("VAULT_SKIP_VERIFY", value)]).map(|s| s.skip_verify)
        };
        assert!(skip("true").expect("true") && !skip("0").expect("0"));
        assert!(skip("yes please").is_err());
    }
}
