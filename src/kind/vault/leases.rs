//! Lists, looks up and revokes leases, as the operator: one by one, and by their prefix.

use rustify::enums::RequestMethod;
use serde::Deserialize;

use super::client::{Effect, VaultClient, data, malformed_response};
use crate::domain::ErrorKind;
use crate::provider::CallError;
use crate::text::{is_name, sanitize};

const IRREVOCABLE: &str = "sys/leases?type=irrevocable";

pub(super) fn lookup_path(prefix: &str) -> String {
    format!("sys/leases/lookup/{prefix}")
}

pub(super) fn revoke_path(prefix: &str) -> String {
    format!("sys/leases/revoke-prefix/{prefix}")
}

/// Where a lease is looked up, and where one is revoked:
/// <https://developer.hashicorp.com/vault/api-docs/system/leases>.
pub(super) const LOOKUP: &str = "sys/leases/lookup";
pub(super) const REVOKE: &str = "sys/leases/revoke";

/// A lease that the server knows.
#[derive(Deserialize)]
pub(super) struct Lease {
    id: String,
    pub(super) issue_time: String,
    /// `None` of one without an end.
    pub(super) expire_time: Option<String>,
    #[serde(default)]
    pub(super) renewable: bool,
    /// Seconds until its end. One that has come to it, and is still known, is not revoked yet.
    pub(super) ttl: i64,
}

impl Lease {
    /// Whether its end has come, and the server has not revoked it yet.
    pub(super) fn is_overdue(&self) -> bool {
        self.expire_time.is_some() && self.ttl <= 0
    }
}

/// What the server knows under a lease's id; `None` when it knows no such lease.
///
/// # Errors
/// When the server cannot be asked, or something else answers.
pub(super) async fn lookup(client: &VaultClient, lease: &str) -> Result<Option<Lease>, CallError> {
    let body = serde_json::json!({ "lease_id": lease }).to_string().into_bytes();
    let reply = client.plain_reply(RequestMethod::POST, LOOKUP, Some(body), Effect::Read).await?;
    if reply.status.as_u16() == 200 {
        let found: Lease = data(&reply, LOOKUP)?;
        return if found.id == lease { Ok(Some(found)) } else { Err(malformed_response(LOOKUP).read_only()) };
    }
    if reply.status.as_u16() == 400 && client.said(&reply) == "invalid lease" {
        return Ok(None);
    }
    Err(client.fault(&reply, &format!("POST {LOOKUP}"), Effect::Read).await)
}

/// Revokes one lease. The server does it before it answers, and says yes of a lease that it does not know.
pub(super) async fn revoke_one(client: &VaultClient, lease: &str) -> Result<(), CallError> {
    let body = serde_json::json!({ "lease_id": lease, "sync": true }).to_string().into_bytes();
    client.plain(RequestMethod::POST, REVOKE, Some(body), Effect::Write).await.map(drop)
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<String>,
}

/// Every lease below a prefix, in every folder.
///
/// # Errors
/// When a folder cannot be listed: what is in it is unknown then.
pub(super) async fn list(client: &VaultClient, prefix: &str) -> Result<Vec<String>, CallError> {
    let (mut found, mut folders) = (Vec::new(), vec![format!("{prefix}/")]);
    while let Some(folder) = folders.pop() {
        let path = lookup_path(&folder);
        let reply = client.plain_reply(RequestMethod::LIST, &path, None, Effect::Read).await?;
        if reply.status.as_u16() == 404 && is_empty(&reply.body) {
            continue;
        }
        if !reply.status.is_success() {
            return Err(client.fault(&reply, &format!("LIST {path}"), Effect::Read).await);
        }
        for key in data::<Keys>(&reply, &path)?.keys {
            if !is_name(&key) {
                return Err(malformed_response(&path).read_only());
            }
            let lease = format!("{folder}{key}");
            if lease.ends_with('/') { folders.push(lease) } else { found.push(lease) }
        }
    }
    found.sort();
    Ok(found)
}

/// How Vault says of a list that it holds nothing. Any other 404 is something else's in front of it.
fn is_empty(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {
        errors: [String; 0],
    }
    serde_json::from_slice::<Nothing>(body).is_ok_and(|Nothing { errors: [] }| true)
}

/// Revokes every lease below a prefix. The server does it before it answers; the first lease that it cannot revoke
/// stops that, so that the others are then left to its queue.
pub(super) async fn revoke(client: &VaultClient, prefix: &str) -> Result<(), CallError> {
    let path = revoke_path(prefix);
    let ask = |sync: bool| {
        let (body, path) = (serde_json::json!({ "sync": sync }).to_string().into_bytes(), path.clone());
        async move { client.plain(RequestMethod::POST, &path, Some(body), Effect::Write).await.map(drop) }
    };
    match ask(true).await {
        Err(error) if error.in_doubt || error.kind == ErrorKind::Invalid => {
            ask(false).await?;
            Err(error.doubtful())
        }
        done => done,
    }
}

/// The leases below a prefix that the server has given up on, each with what it says of it.
///
/// # Errors
/// When the server cannot be asked.
pub(super) async fn irrevocable(client: &VaultClient, prefix: &str) -> Result<Vec<String>, CallError> {
    #[derive(Deserialize)]
    struct Listed {
        #[serde(default)]
        leases: Option<Vec<GivenUp>>,
    }
    #[derive(Deserialize)]
    struct GivenUp {
        lease_id: String,
        #[serde(default)]
        error: String,
    }
    let reply = client.plain(RequestMethod::GET, IRREVOCABLE, None, Effect::Read).await?;
    let below = format!("{prefix}/");
    let leases = data::<Listed>(&reply, IRREVOCABLE)?.leases.into_iter().flatten();
    let ours = leases.filter(|lease| lease.lease_id.starts_with(&below));
    Ok(ours.map(|lease| format!("{} ({})", sanitize(&lease.lease_id), sanitize(&lease.error))).collect())
}
