//! The requests about one secret (<https://docs.github.com/en/rest/actions/secrets>).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_box::PublicKey;
use jiff::Timestamp;
use rand::rngs::OsRng;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::found::Found;
use super::server::ActionsSecret;
use crate::clock::since;
use crate::domain::{ErrorKind, HttpMethod};
use crate::kind::api::client::{Ask, malformed};
use crate::provider::http::transport::Reply;
use crate::provider::outcome::CallError;
use crate::secret::Secret;
use crate::text::sanitize;

/// How many repositories one page lists.
const PAGE: usize = 100;
/// More than any organization lets use one secret.
const PAGES: usize = 100;
/// How long to wait where GitHub limits requests and does not say how long.
const MINUTE: Duration = Duration::from_secs(60);
/// The longest wait that is worth it in an emergency.
const HOUR: Duration = Duration::from_secs(3600);

/// What GitHub says of a secret, which is never its value.
#[derive(Debug, Deserialize)]
struct Described {
    name: String,
    updated_at: Timestamp,
    #[serde(default)]
    visibility: Option<String>,
}

#[derive(Deserialize)]
struct Key {
    key_id: String,
    key: String,
}

#[derive(Deserialize)]
struct Selected {
    total_count: usize,
    repositories: Vec<Repository>,
}

#[derive(Deserialize)]
struct Repository {
    id: u64,
}

/// A key to seal with.
pub(super) struct SealingKey {
    id: String,
    key: PublicKey,
}

impl ActionsSecret {
    async fn get<T: DeserializeOwned>(&self, ask: &Ask) -> Result<(T, Reply), CallError> {
        let reply = self.client.reply_to(ask).await?;
        if !reply.status.is_success() {
            return Err(self.fault(&reply, ask));
        }
        let body = serde_json::from_slice(&reply.body).map_err(|_| malformed(ask))?;
        Ok((body, reply))
    }

    /// The secret, without its value.
    pub(super) async fn find(&self) -> Result<Found, CallError> {
        let ask = Ask::get(format!("{}/{}", self.base, self.name));
        let (described, reply): (Described, _) = self.get(&ask).await?;
        if !described.name.eq_ignore_ascii_case(&self.name) {
            return Err(malformed(&ask));
        }
        let scopes = reply.headers.get("x-oauth-scopes").and_then(|scopes| scopes.to_str().ok());
        Ok(Found {
            updated: described.updated_at,
            visibility: described.visibility,
            date: reply.date(),
            scopes: scopes.map(sanitize),
        })
    }

    /// The key that values are sealed with. GitHub may change it.
    pub(super) async fn key(&self) -> Result<SealingKey, CallError> {
        let ask = Ask::get(format!("{}/public-key", self.base));
        let (Key { key_id, key }, _) = self.get(&ask).await?;
        let bytes: Option<[u8; 32]> = STANDARD.decode(&key).ok().and_then(|bytes| bytes.try_into().ok());
        let key = bytes.map(PublicKey::from_bytes).ok_or_else(|| malformed(&ask))?;
        Ok(SealingKey { id: key_id, key })
    }

    /// The repositories that may use the secret of an organization.
    pub(super) async fn selected(&self) -> Result<Vec<u64>, CallError> {
        let mut ids = Vec::new();
        let mut ask = Ask::get(format!("{}/{}/repositories", self.base, self.name));
        for page in 1..=PAGES {
            ask.query =
                [("per_page", PAGE), ("page", page)].map(|(k, v)| (k.to_owned(), v.to_string())).into();
            let (found, _): (Selected, _) = self.get(&ask).await?;
            let last = found.repositories.is_empty();
            ids.extend(found.repositories.iter().map(|repository| repository.id));
            if ids.len() == found.total_count {
                return Ok(ids);
            }
            if last || ids.len() > found.total_count {
                break;
            }
        }
        // To write with half of the list would take the secret from the others.
        Err(malformed(&ask))
    }

    /// Writes the value. Who may use the secret is sent back as it is.
    pub(super) async fn put(&self, found: Option<&Found>, text: &Secret) -> Result<(), CallError> {
        let SealingKey { id, key } = self.key().await?;
        let sealed = key.seal(&mut OsRng, text.expose().as_bytes()).map_err(|_| {
            CallError::rejected(ErrorKind::Local, format!("{}: the value cannot be sealed", self.shown()))
        })?;
        let mut body = json!({ "encrypted_value": STANDARD.encode(sealed), "key_id": id });
        if let Some(visibility) = found.and_then(|found| found.visibility.as_ref()) {
            body["visibility"] = visibility.as_str().into();
            if visibility == "selected" {
                body["selected_repository_ids"] = self.selected().await?.into();
            }
        }
        let ask = Ask {
            method: HttpMethod::Put,
            body: Some(Secret::new(body.to_string())),
            changes: true,
            ..Ask::get(format!("{}/{}", self.base, self.name))
        };
        let reply = self.client.reply_to(&ask).await?;
        match reply.status.as_u16() {
            201 | 204 => Ok(()),
            200..=299 => Err(malformed(&ask)),
            _ => Err(self.fault(&reply, &ask)),
        }
    }

    /// The error that an answer other than a success is.
    fn fault(&self, reply: &Reply, ask: &Ask) -> CallError {
        let error = self.client.fault(reply, ask, None);
        let said = serde_json::from_slice::<Value>(&reply.body).unwrap_or_default();
        let said = said["message"].as_str().unwrap_or_default().to_lowercase();
        let status = reply.status.as_u16();
        // A limit says so in a header, or in words alone.
        let limited = error.kind == ErrorKind::Throttled || status == 403 && said.contains("rate limit");
        if limited {
            let wait = error.retry_after.or_else(|| until_reset(reply)).unwrap_or(MINUTE);
            return CallError {
                kind: ErrorKind::Throttled,
                in_doubt: false,
                hint: Some("GitHub limits how many requests it takes; stanch tries again".to_owned()),
                retry_after: Some(wait.min(HOUR)),
                ..error
            };
        }
        match status {
            403 => error.hint(format!("give the token {}", self.permission)),
            404 => error.hint(format!(
                "check `repository`, `environment`, `organization` and `name` in the runbook, and create the secret once by hand; GitHub answers the same where the token lacks {}",
                self.permission
            )),
            422 => error.hint("GitHub does not take the sealed value, perhaps because its public key has just changed: resume"),
            _ => error,
        }
    }
}

/// How long until the limit of requests is reset, where none is left.
fn until_reset(reply: &Reply) -> Option<Duration> {
    reply.headers.get("x-ratelimit-remaining").filter(|left| left.as_bytes() == b"0")?;
    let reset: i64 = reply.headers.get("x-ratelimit-reset")?.to_str().ok()?.parse().ok()?;
    let reset = Timestamp::from_second(reset).ok()?;
    Some(since(reset, reply.date()?) + Duration::from_secs(1))
}
