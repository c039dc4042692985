//! How a service is reached: the runbook's words first, then the environment.

use std::path::Path;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::spec::Api;
use crate::domain::ErrorKind;
use crate::provider::http::{Unfit, credential_address, sensitive};
use crate::provider::outcome::CallError;
use crate::provider::tls::{self, Pem};
use crate::secret::Secret;

/// What the names of the operator's variables begin with: what programs do not inherit (`provider::exec`).
const WITHHELD: &str = "STANCH_";

/// Everything that is needed to talk to a service.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the paths of the calls begin, without a slash at its end.
    pub address: reqwest::Url,
    /// The operator's token.
    pub token: Option<Secret>,
    /// The variable that it comes from.
    pub variable: String,
    /// The header that carries a token.
    pub header: HeaderName,
    /// What is before it there.
    pub prefix: String,
    /// What every request has besides.
    pub headers: HeaderMap,
    /// The only CA certificates to trust, a file.
    pub ca_cert: Option<String>,
}

impl Settings {
    /// Completes the runbook's words from `STANCH_API_ADDRESS` and the variable of the token. There is no default address.
    ///
    /// # Errors
    /// When there is no address, it is none or not encrypted, or something cannot be in a header.
    pub fn resolve(spec: &Api, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, CallError> {
        Self::resolve_with(None, spec, env)
    }

    /// The same, where the service's own tools read the token from the variable `usual`, which programs do not inherit.
    ///
    /// # Errors
    /// As for [`Settings::resolve`].
    pub(in crate::kind) fn resolve_with(
        usual: Option<&str>,
        spec: &Api,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, CallError> {
        let env = |name: &str| env(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let text = spec.address.clone().or_else(|| env("STANCH_API_ADDRESS")).ok_or_else(|| {
            local("no address of the API is set")
                .hint("set `address` of the connection in the runbook, or STANCH_API_ADDRESS")
        })?;
        let variable = spec.variable.clone();
        let fits = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        if usual != Some(variable.as_str())
            && (!variable.starts_with(WITHHELD) || !variable.chars().all(fits))
        {
            return Err(local("`variable` of the connection is not the name of a variable that begins with STANCH_")
                .hint("name it for example STANCH_OPERATOR_TOKEN: programs that stanch starts do not inherit such variables"));
        }
        let name = |text: &str, field: &str| {
            text.parse::<HeaderName>().map_err(|_| {
                local(format!("`{field}` of the connection names something that is not a header"))
            })
        };
        let header = name(&spec.header, "header")?;
        let usual = if header == http::header::AUTHORIZATION { "Bearer " } else { "" };
        let prefix = spec.prefix.clone().unwrap_or_else(|| usual.to_owned());
        let token = env(&variable).map(Secret::new);
        if let Some(token) = &token {
            sensitive(&format!("{prefix}{}", token.expose()), &format!("the token in {variable}"))?;
        }
        let mut headers = HeaderMap::new();
        for (key, value) in &spec.headers {
            let value = HeaderValue::from_str(value)
                .map_err(|_| local("a value in `headers` of the connection cannot be in a header"))?;
            headers.insert(name(key, "headers")?, value);
        }
        let ca_cert = spec.ca_cert.clone();
        Ok(Self { address: address(&text)?, token, variable, header, prefix, headers, ca_cert })
    }

    /// The only CA certificates to trust, and where they were read; `None` for the machine's.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(super) fn roots(&self) -> Result<Option<Pem>, CallError> {
        let path = self.ca_cert.as_ref().map(Path::new);
        path.map(|path| tls::read(path, "correct `ca_cert` of the connection")).transpose()
    }
}

/// The address, if requests with a token may go there.
fn address(text: &str) -> Result<reqwest::Url, CallError> {
    credential_address(text).map_err(|unfit| match unfit {
        Unfit::Invalid => local("the address of the API is not valid")
            .hint("write it as `https://HOST/PATH`, without a user, a password or a query"),
        Unfit::Plain => {
            local("the address of the API begins with http://: the token would be readable on its way")
                .hint("write `https://`; `http://` is for this machine alone")
        }
    })
}

fn local(message: impl Into<String>) -> CallError {
    CallError::rejected(ErrorKind::Local, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str, env: &[(&str, &str)]) -> Result<Settings, CallError> {
        let spec: Api = serde_json::from_str(text).expect("a connection");
        let env =
            |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Settings::resolve(&spec, &env)
    }

    #[test]
    fn the_runbook_comes_before_the_environment_and_the_token_is_never_shown() {
        let env = [("STANCH_API_ADDRESS", "https://env.example/api/"), ("STANCH_API_TOKEN", "canary\n")];
        let found = resolve("{}", &env).expect("settings");
        assert_eq!(found.address.as_str(), "https://env.example/api");
        assert_eq!(found.token.as_ref().map(|t| t.expose().to_owned()).as_deref(), Some("canary"));
        assert!(!format!("{found:?}").contains("canary"));
        let said = r#"{"address":"http://[::1]:8/v1","variable":"STANCH_X","header":"PRIVATE-TOKEN"}"#;
        let said = resolve(said, &env).expect("settings");
        assert_eq!((said.address.as_str(), said.token.is_none()), ("http://[::1]:8/v1", true));
        assert_eq!((found.prefix.as_str(), said.prefix.as_str()), ("Bearer ", ""));
    }

    #[test]
    fn a_token_goes_over_no_plain_connection_and_what_is_wrong_is_not_quoted() {
        for wrong in [
            r#"{"address":"http://canary.example"}"#,
            r#"{"address":"https://u:canary@h"}"#,
            r#"{"address":"https://h/?token=canary"}"#,
            r#"{"address":"canary"}"#,
            r#"{"address":"https://h","variable":"CANARY_TOKEN"}"#,
            r#"{"address":"https://h","variable":"STANCH_canary"}"#,
            r#"{"address":"https://h","header":"a canary"}"#,
            r#"{"address":"https://h","headers":{"x":"canary\n"}}"#,
            "{}",
        ] {
            let error = resolve(wrong, &[]).expect_err(wrong);
            assert!(
                error.kind == ErrorKind::Local && !format!("{error:?}").to_lowercase().contains("canary"),
                "{error:?}"
            );
        }
        let broken = [("STANCH_API_TOKEN", "canary\nx")];
        let error = resolve(r#"{"address":"https://h"}"#, &broken).expect_err("a line break");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
}
