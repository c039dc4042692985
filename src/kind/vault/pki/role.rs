//! The role that signs, and how the server makes its revocation lists.

use std::time::Duration;

use rustify::enums::RequestMethod;
use serde::Deserialize;
use serde_json::Value;

use super::certificate::Certificate;
use super::server::CertificateIssuer;
use super::spec::{KeyType, VaultPki};
use crate::domain::{Check, ErrorKind, Period};
use crate::kind::vault::client::{Effect, data};
use crate::provider::CallError;
use crate::text::sanitize;

/// What a role says of the certificates that it signs.
#[derive(Debug, Deserialize)]
pub(super) struct Role {
    #[serde(default)]
    no_store: bool,
    #[serde(default)]
    generate_lease: bool,
    key_type: String,
    #[serde(default)]
    key_bits: u32,
    #[serde(default)]
    server_flag: bool,
    #[serde(default)]
    client_flag: bool,
    #[serde(default)]
    ext_key_usage: Option<Vec<String>>,
    #[serde(default)]
    ext_key_usage_oids: Option<Vec<String>>,
    #[serde(default)]
    max_ttl: u64,
    /// Seconds by which a certificate is valid before it was signed.
    #[serde(default)]
    not_before_duration: u64,
}

/// `id-kp-serverAuth` and `id-kp-clientAuth` (RFC 5280, section 4.2.1.12).
const SERVER: &str = "1.3.6.1.5.5.7.3.1";
const CLIENT: &str = "1.3.6.1.5.5.7.3.2";

impl Role {
    /// How long before the signature its certificates are valid.
    pub(super) fn backdated(&self) -> Duration {
        Duration::from_secs(self.not_before_duration)
    }

    /// Why this role cannot sign what the runbook asks for, and what to do about it.
    pub(super) fn unfit(&self, spec: &VaultPki) -> Option<(String, String)> {
        let path = spec.path(&format!("roles/{}", spec.role));
        let write = |field: &str| format!("`vault patch {path} {field}`, or name another role");
        if self.no_store {
            return Some((
                "it stores no certificates (`no_store`): a certificate of it cannot be revoked by its serial number"
                    .to_owned(),
                write("no_store=false"),
            ));
        }
        if self.generate_lease {
            return Some((
                "its certificates are leases (`generate_lease`): the server would revoke the new certificate with the token that stanch uses"
                    .to_owned(),
                write("generate_lease=false"),
            ));
        }
        let (wanted, bits, name) = match spec.key {
            KeyType::EcP256 => ("ec", 256, "ec-p256"),
            KeyType::Rsa2048 => ("rsa", 2048, "rsa2048"),
            KeyType::Ed25519 => ("ed25519", 0, "ed25519"),
        };
        let takes = self.key_type == "any"
            || self.key_type == wanted && (bits == 0 || self.key_bits == 0 || self.key_bits <= bits);
        (!takes).then(|| {
            (
                format!(
                    "it signs keys of the type {} of at least {} bits, and `key` is {name}",
                    sanitize(&self.key_type),
                    self.key_bits
                ),
                "correct `key` in the runbook, or name another role".to_owned(),
            )
        })
    }

    /// What the old certificate may be used for and a new one might not.
    fn lacks_purposes(&self, old: &Certificate) -> Vec<&'static str> {
        let more = self.ext_key_usage.iter().flatten().chain(self.ext_key_usage_oids.iter().flatten());
        let more: Vec<String> = more.map(|name| name.to_ascii_lowercase()).collect();
        let has = |flag: bool, name: &str, oid: &str| {
            flag || more.iter().any(|one| one == oid || one.trim_start_matches("extkeyusage") == name)
        };
        let purposes = old.purposes();
        [
            (SERVER, "TLS servers", has(self.server_flag, "serverauth", SERVER)),
            (CLIENT, "TLS clients", has(self.client_flag, "clientauth", CLIENT)),
        ]
        .into_iter()
        .filter(|(oid, _, has)| !has && purposes.iter().any(|one| one == oid))
        .map(|(_, name, _)| name)
        .collect()
    }

    /// Whether the role can sign what the runbook asks for.
    pub(super) fn check(&self, spec: &VaultPki, old: Option<&Certificate>) -> Check {
        let name = format!("role {}", spec.role);
        if let Some((why, hint)) = self.unfit(spec) {
            return Check::fail(name, ErrorKind::Unsupported, why, hint);
        }
        let lost = old.map(|old| self.lacks_purposes(old)).unwrap_or_default();
        if !lost.is_empty() {
            let detail = format!(
                "the old certificate is for {}, and this role signs none for that",
                lost.join(" and ")
            );
            return Check::fail(
                name,
                ErrorKind::Conflict,
                detail,
                "name the role that signed the old certificate",
            );
        }
        match Period::seconds(self.max_ttl) {
            most if self.max_ttl > 0 && most < spec.ttl => Check::warn(
                name,
                format!(
                    "its certificates are valid for {most} at most (`max_ttl`), less than `ttl` ({})",
                    spec.ttl
                ),
            ),
            _ => Check::pass(name, "it signs such certificates, and stores them"),
        }
    }
}

/// How the server makes revocation lists.
#[derive(Debug, Deserialize)]
struct Lists {
    #[serde(default)]
    disable: bool,
    #[serde(default)]
    auto_rebuild: bool,
    #[serde(default)]
    auto_rebuild_grace_period: Value,
    #[serde(default)]
    enable_delta: bool,
    #[serde(default)]
    delta_rebuild_interval: Value,
    #[serde(default)]
    expiry: Value,
}

impl CertificateIssuer {
    /// The role that signs.
    pub(super) async fn role(&self) -> Result<Role, CallError> {
        let path = self.spec.path(&format!("roles/{}", self.spec.role));
        let reply = self.client.plain(RequestMethod::GET, &path, None, Effect::Read).await?;
        data(&reply, &path)
    }

    /// When a revoked certificate will be on a list.
    pub(super) async fn lists_check(&self) -> Check {
        const NAME: &str = "revocation lists";
        let path = self.spec.path("config/crl");
        let look = async {
            let reply = self.client.plain(RequestMethod::GET, &path, None, Effect::Read).await?;
            data::<Lists>(&reply, &path)
        };
        let lists = match look.await {
            Ok(lists) => lists,
            Err(error) => return error.to_check(NAME),
        };
        let text = |value: &Value| sanitize(value.as_str().unwrap_or("a time that it does not tell"));
        if lists.disable {
            return Check::fail(
                NAME,
                ErrorKind::Unsupported,
                format!(
                    "{path} turns them off (`disable`): no relying party could learn that a certificate is revoked"
                ),
                format!("`vault write {path} disable=false`"),
            );
        }
        if !lists.auto_rebuild {
            return Check::pass(NAME, "the server puts a revoked certificate on its list at once");
        }
        let delta = match lists.enable_delta {
            true => format!(
                "; a delta list names it within {}, for relying parties that read delta lists, and stanch goes by the complete list",
                text(&lists.delta_rebuild_interval)
            ),
            false => String::new(),
        };
        let when = format!(
            "the server makes lists by the clock (`auto_rebuild`): each is valid for {}, and the next one is made {} before that ends{delta}",
            text(&lists.expiry),
            text(&lists.auto_rebuild_grace_period)
        );
        match self.spec.rotate_crl {
            true => Check::pass(NAME, format!("{when}; stanch asks for a new list after it revoked")),
            false => Check {
                hint: Some(
                    "set `rotate_crl: true` of the issuer, so that stanch asks for a new list".to_owned(),
                ),
                ..Check::warn(NAME, format!("{when}; until then the run is not done"))
            },
        }
    }
}
