//! How a Vault is reached: the runbook's words first, then what Vault's own tools read.

use std::path::PathBuf;

use crate::provider::http::{safe_url, sensitive};
use crate::provider::outcome::{CallError, Kind};
use crate::secret::Secret;

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
}

impl Settings {
    /// Completes the runbook's words from `VAULT_ADDR`, `VAULT_TOKEN`, `~/.vault-token`,
    /// `VAULT_NAMESPACE`, `VAULT_CACERT` and `VAULT_SKIP_VERIFY`. There is no default address: a
    /// rotation must not find its way to whatever listens on this machine.
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
        let address = address.map(str::to_owned).or_else(|| env("VAULT_ADDR")).ok_or_else(|| {
            local("there is no address of a Vault")
                .hint("set VAULT_ADDR, or `address` of the connection in the runbook")
        })?;
        let address = address
            .parse::<reqwest::Url>()
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| {
                local(format!("the address of Vault is no http(s) address: {}", safe_url(&address)))
            })?;
        let skip_verify = match env("VAULT_SKIP_VERIFY").map(|v| v.to_ascii_lowercase()).as_deref() {
            None | Some("0" | "f" | "false") => false,
            Some("1" | "t" | "true") => true,
            Some(_) => {
                return Err(local("VAULT_SKIP_VERIFY is neither true nor false").hint("unset it"));
            }
        };
        Ok(Self {
            address,
            token: token(&env)?,
            namespace: namespace
                .map(str::to_owned)
                .or_else(|| env("VAULT_NAMESPACE"))
                .map(|n| n.trim_matches('/').to_owned())
                .filter(|n| !n.is_empty()),
            ca_cert: ca_cert.map(PathBuf::from).or_else(|| env("VAULT_CACERT").map(PathBuf::from)),
            skip_verify,
        })
    }
}

/// `VAULT_TOKEN`, else the file that `vault login` writes.
fn token(env: &dyn Fn(&str) -> Option<String>) -> Result<Option<Secret>, CallError> {
    let (text, source) = match env("VAULT_TOKEN") {
        Some(token) => (token, "VAULT_TOKEN".to_owned()),
        None => {
            let Some(home) = env("HOME") else { return Ok(None) };
            let path = PathBuf::from(home).join(".vault-token");
            match std::fs::read_to_string(&path) {
                Ok(token) => (token.trim().to_owned(), path.display().to_string()),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(local(format!("cannot read {}: {error}", path.display()))),
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
    CallError::rejected(Kind::Local, message)
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
    fn a_token_with_a_line_break_inside_is_refused_without_being_shown() {
        let error =
            resolve(&[("VAULT_ADDR", "http://h"), ("VAULT_TOKEN", "hvs.hunter2\nx")]).expect_err("newline");
        assert!(error.message.contains("VAULT_TOKEN"));
        assert!(!format!("{error:?}").contains("hunter2"));
        let fine = resolve(&[("VAULT_ADDR", "http://h"), ("VAULT_TOKEN", "hvs.hunter2\n")]).expect("trimmed");
        assert!(fine.token.is_some() && !format!("{fine:?}").contains("hunter2"));
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
