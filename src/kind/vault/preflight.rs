//! Is this Vault fit for a run, and who are we there.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use vaultrs::api::token::requests::LookupTokenSelfRequest;

use super::client::{Effect, VaultClient, data, unsendable};
use super::lookup::look_up;
use super::token_info::TokenInfo;
use crate::clock::Clock;
use crate::domain::{Check, CheckVerdict, ErrorKind};
use crate::kind::clocks::skew;
use crate::provider::http::transport::Reply;
use crate::provider::outcome::CallError;
use crate::text::is_name;

/// A run may have to wait for an overlap: a token that dies within the hour is worth a word.
const SHORT_LIFE: Duration = Duration::from_secs(3600);

/// What a Vault says of itself. Without the first two it is none that says it.
#[derive(Deserialize)]
struct Health {
    initialized: bool,
    sealed: bool,
    #[serde(default)]
    standby: bool,
    #[serde(default)]
    version: String,
    #[serde(default)]
    enterprise: bool,
    #[serde(default)]
    server_time_utc: Option<i64>,
    #[serde(default)]
    cluster_id: Option<String>,
}

/// Looks, read-only, at the server and at the operator's own token.
pub async fn preflight(client: &VaultClient, clock: &dyn Clock) -> Vec<Check> {
    let mut checks = Vec::new();
    if client.settings().skip_verify {
        checks.push(Check {
            hint: Some("unset VAULT_SKIP_VERIFY and set VAULT_CACERT".to_owned()),
            ..Check::warn(
                "tls",
                "VAULT_SKIP_VERIFY is set: a machine between stanch and Vault can read every credential of this run",
            )
        });
    }
    let not_heeded = &client.settings().more.not_heeded;
    if !not_heeded.is_empty() {
        checks.push(Check::warn(
            "environment",
            format!("stanch does not heed {}, which other tools of Vault's do", not_heeded.join(", ")),
        ));
    }
    // None of these needs another's answer.
    let (reply, who) = tokio::join!(client.health(), whoami(client));
    let now = clock.now().wall;
    let found = match &reply {
        Ok(reply) => health(client, reply).await.map(|health| (health, reply)),
        Err(error) => Err(error.clone()),
    };
    let (health, reply) = match found {
        Ok(found) => found,
        Err(error) => {
            checks.push(error.to_check("server"));
            return checks;
        }
    };
    let state = server(client, &health, reply.status.as_u16());
    let usable = state.verdict != CheckVerdict::Fail;
    checks.push(state);
    if !usable {
        return checks;
    }
    let theirs = health.server_time_utc.and_then(|s| Timestamp::from_second(s).ok()).or(reply.date());
    checks.push(skew(client.place(), theirs, now));
    checks.push(who);
    if let Some(namespace) = client.settings().namespace.clone() {
        checks.push(namespace_check(client, &health, &namespace).await);
    }
    checks
}

async fn health(client: &VaultClient, reply: &Reply) -> Result<Health, CallError> {
    let Ok(found) = serde_json::from_slice::<Health>(&reply.body) else {
        let (place, status) = (client.settings().address.as_str(), reply.status.as_u16());
        // A standby answers 429 with its health. Without that it is a limit, and whoever names a time asks
        // to wait: both may pass, whoever answers there.
        if status == 429 || (status == 503 && reply.retry_after().is_some()) {
            return Err(client.fault(reply, "GET sys/health", Effect::Read).await);
        }
        let message = format!("{place} answered {status} and not what Vault answers");
        return Err(CallError::rejected(ErrorKind::Invalid, message).hint(
            "check the address: host, port, and the path where Vault is behind one; something else answers there",
        ));
    };
    if let Some(id) = found.cluster_id.as_deref().filter(|id| is_name(id)) {
        // Whoever was first has said the same.
        let _ = client.facts.server.set(id.to_owned());
    }
    Ok(found)
}

impl VaultClient {
    /// The server's own name for itself; its address where it has none.
    pub(super) async fn server(&self) -> Result<String, CallError> {
        if self.facts.server.get().is_none() {
            let _asking = self.facts.asking_server.lock().await;
            if self.facts.server.get().is_none() {
                health(self, &self.health().await?).await?;
            }
        }
        Ok(self.facts.server.get().cloned().unwrap_or_else(|| self.settings().address.to_string()))
    }
}

fn server(client: &VaultClient, health: &Health, status: u16) -> Check {
    let place = client.place();
    let fail =
        |what: &str, hint: &str| Check::fail("server", ErrorKind::NotReady, format!("{place} {what}"), hint);
    if !health.initialized {
        return fail("is not initialised", "initialise it: `vault operator init`");
    }
    if health.sealed {
        return fail("is sealed", "unseal it: `vault operator unseal`");
    }
    if status == 472 {
        return fail("is a disaster-recovery secondary", "set the address to the primary cluster");
    }
    if health.standby {
        let version = client.quoted(&health.version);
        let detail = format!("{place} is a standby (version {version}): it forwards or redirects");
        return Check {
            hint: Some("set the address to the active node: a redirect is not followed".to_owned()),
            ..Check::warn("server", detail)
        };
    }
    Check::pass(
        "server",
        format!("{place} is unsealed and active, version {}", client.quoted(&health.version)),
    )
}

async fn whoami(client: &VaultClient) -> Check {
    if client.settings().token.is_none() {
        return Check::fail(
            "identity",
            ErrorKind::Refused,
            "there is no Vault token",
            "log in (`vault login`), or set VAULT_TOKEN",
        );
    }
    match own_token(client).await {
        Ok(info) => {
            let detail = client.quoted(&format!(
                "{} with the policies {}",
                info.display_name,
                info.policies.join(", ")
            ));
            if info.expire_time.is_some() && info.ttl < SHORT_LIFE.as_secs() {
                return Check {
                    hint: Some("log in again, or renew it: `vault token renew`".to_owned()),
                    ..Check::warn("identity", format!("{detail}; the token ends in {} s", info.ttl))
                };
            }
            Check::pass("identity", detail)
        }
        Err(error) if error.kind == ErrorKind::Denied => {
            Check::warn("identity", "the token may not look itself up: who this is cannot be said")
        }
        Err(error) => error.to_check("identity"),
    }
}

/// This edition may have no namespaces, and **ignore the header in silence**: a run would write
/// into the root namespace. Asked, not guessed from version numbers.
async fn namespace_check(client: &VaultClient, health: &Health, namespace: &str) -> Check {
    if health.enterprise {
        return Check::pass("namespace", format!("the namespace is {namespace}"));
    }
    // The question below is the same look, elsewhere: it tells something only if the look itself is
    // permitted. Unsure is no here, since a wrong guess writes to the wrong place.
    if let Err(error) = own_token(client).await {
        return Check::fail(
            "namespace",
            error.kind,
            format!(
                "whether {} heeds the namespace {namespace} cannot be found out: {}",
                client.place(),
                error.message
            ),
            "use a token that may look itself up (the policy `default` allows it)",
        );
    }
    match client.ignores_namespaces().await {
        Ok(false) => Check::pass("namespace", format!("the namespace is {namespace}")),
        Ok(true) => Check::fail(
            "namespace",
            ErrorKind::Unsupported,
            format!(
                "{} has no namespaces and ignores `{namespace}`: everything would go to its root",
                client.place()
            ),
            "remove `namespace` from the connection and unset VAULT_NAMESPACE, or set the right address",
        ),
        Err(error) => error.to_check("namespace"),
    }
}

/// The operator's own token, as Vault sees it. One that may not look itself up may be allowed to look
/// tokens up.
pub(super) async fn own_token(client: &VaultClient) -> Result<Arc<TokenInfo>, CallError> {
    let _asking = client.facts.asking_own.lock().await;
    look_at_own(client).await
}

async fn look_at_own(client: &VaultClient) -> Result<Arc<TokenInfo>, CallError> {
    let endpoint =
        LookupTokenSelfRequest::builder().build().map_err(|_| unsendable("auth/token/lookup-self"))?;
    let found = match client.send(endpoint, Effect::Read).await {
        Ok(reply) => data(&reply, "auth/token/lookup-self"),
        Err(error) => match &client.settings().token {
            Some(token) if error.kind == ErrorKind::Denied => {
                look_up(client, token).await.ok().flatten().ok_or(error)
            }
            _ => Err(error),
        },
    };
    found.map(|own| client.facts.own.set(own))
}

/// The same, as the last look found it.
pub(super) async fn known_own_token(client: &VaultClient) -> Result<Arc<TokenInfo>, CallError> {
    if let Some(own) = client.facts.own.get() {
        return Ok(own);
    }
    // The connection's own look may be on its way.
    let _asking = client.facts.asking_own.lock().await;
    match client.facts.own.get() {
        Some(own) => Ok(own),
        None => look_at_own(client).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::kind::vault::Settings;

    async fn server_check(status: u16, retry_after: Option<&'static str>, body: &str) -> Check {
        let settings = Settings::resolve(Some("http://vault:8200"), None, None, &|_| None).expect("settings");
        let client =
            VaultClient::new(settings, Duration::from_secs(1)).expect("client").answering(vec![Reply {
                status: http::StatusCode::from_u16(status).expect("a status"),
                headers: retry_after
                    .map(|text| (http::header::RETRY_AFTER, http::HeaderValue::from_static(text)))
                    .into_iter()
                    .collect(),
                body: body.as_bytes().to_vec(),
            }]);
        let checks = preflight(&client, &SystemClock::new()).await;
        checks.into_iter().find(|check| check.name == "server").expect("a check of the server")
    }

    /// A limit is waited for, as the server asks; what Vault itself says with the same status is no limit.
    #[tokio::test]
    async fn a_rate_limit_at_the_first_look_is_throttling() {
        let limited = r#"{"errors":["request path \"sys/health\": rate limit quota exceeded"]}"#;
        let check = server_check(429, Some("5"), limited).await;
        assert_eq!(
            (check.verdict, check.kind),
            (CheckVerdict::Fail, Some(ErrorKind::Throttled)),
            "{check:?}"
        );
        assert_eq!(check.retry_after, Some(Duration::from_secs(5)));
        let busy = server_check(503, Some("7"), "<html>busy</html>").await;
        assert_eq!((busy.kind, busy.retry_after), (Some(ErrorKind::NoAnswer), Some(Duration::from_secs(7))));
        let other = server_check(503, None, "<html>hello</html>").await;
        assert_eq!(other.kind, Some(ErrorKind::Invalid));
        let standby = r#"{"initialized":true,"sealed":false,"standby":true,"version":"1.0"}"#;
        assert_eq!(server_check(429, None, standby).await.verdict, CheckVerdict::Warn);
    }
}
