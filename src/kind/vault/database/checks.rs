//! What can be known of a login before it is made, and before the old one dies.

use std::time::Duration;

use rustify::enums::RequestMethod;
use serde::Deserialize;

use super::server::{LeaseIssuer, held_by};
use super::spec::split;
use crate::domain::{Check, ErrorKind, Identity, Period};
use crate::kind::vault::client::{Effect, data};
use crate::kind::vault::leases::{LOOKUP, REVOKE, lookup_path};
use crate::kind::vault::permissions::{self, Need};
use crate::kind::vault::shape::is_empty_list;
use crate::provider::Issuer as _;
use crate::provider::outcome::CallError;

/// A dynamic role: <https://developer.hashicorp.com/vault/api-docs/secret/databases#read-role>.
#[derive(Deserialize)]
pub(super) struct Role {
    /// Seconds; 0 is the secrets engine's own.
    #[serde(default)]
    default_ttl: u64,
    /// The same.
    #[serde(default)]
    max_ttl: u64,
}

impl Role {
    /// The longest that its leases live, renewals counted; `None` where the role sets no limit.
    pub(super) fn longest(&self) -> Option<Duration> {
        (self.max_ttl > 0).then(|| Duration::from_secs(self.max_ttl))
    }
}

impl LeaseIssuer {
    /// The role, as it is now; `None` where there is none.
    pub(super) async fn role(&self) -> Result<Option<Role>, CallError> {
        let path = self.spec.path("roles");
        let reply = self.client.plain_reply(RequestMethod::GET, &path, None, Effect::Read).await?;
        match reply.status.as_u16() {
            200 => data(&reply, &path).map(Some),
            404 if is_empty_list(&reply) => Ok(None),
            _ => Err(self.client.fault(&reply, &format!("GET {path}"), Effect::Read).await),
        }
    }

    /// Everything that can be looked at: what is missing or does not fit is named at once.
    pub(super) async fn checks(&self, outgoing: Option<&Identity>) -> Vec<Check> {
        let needs = self.needs();
        let holder = outgoing
            .map(|outgoing| held_by(outgoing, split(&outgoing.handle).1))
            .filter(|holder| !holder.handle.is_empty());
        let what = format!("leases of {}", self.spec.prefix());
        let (permissions, role, holders) = tokio::join!(
            permissions::check(&self.client, &what, &needs),
            self.role(),
            self.holders.preflight(holder.as_ref()),
        );
        let mut checks = vec![permissions];
        checks.extend(self.role_checks(role));
        checks.extend(holders);
        checks
    }

    fn needs(&self) -> [Need; 4] {
        [
            Need::new(self.spec.path("roles"), &["read"], "read the role"),
            Need::new(LOOKUP, &["update"], "look at leases").sending(&["lease_id"]),
            Need::new(REVOKE, &["update"], "revoke leases").sending(&["lease_id", "sync"]),
            Need::listing(lookup_path(&self.spec.prefix()), &["list", "sudo"], "list the role's leases"),
        ]
    }

    fn role_checks(&self, role: Result<Option<Role>, CallError>) -> Vec<Check> {
        let (name, path) = (format!("role {}", self.spec.role), self.spec.path("roles"));
        let role = match role {
            Ok(Some(role)) => role,
            Ok(None) => {
                return vec![Check::fail(
                    name,
                    ErrorKind::NotFound,
                    format!("there is no dynamic role at {path}"),
                    "correct `mount` or `role` in the runbook; this kind does not rotate static roles",
                )];
            }
            Err(error) => return vec![error.to_check(&name)],
        };
        let ttl = self.spec.ttl.get().as_secs();
        let shown = Period::seconds;
        let mut checks = vec![Check::pass(name, "the role is there")];
        if (1..ttl).contains(&role.max_ttl) {
            checks.push(Check {
                hint: Some(format!("raise `max_ttl` of {path}, or set a shorter `ttl`")),
                ..Check::warn(
                    "life",
                    format!(
                        "leases of the role end after {}, renewed or not; `ttl` is {}",
                        shown(role.max_ttl),
                        shown(ttl)
                    ),
                )
            });
        } else if (1..ttl).contains(&role.default_ttl) {
            checks.push(Check {
                hint: Some(format!("have the consumer renew it, or raise `default_ttl` of {path}")),
                ..Check::warn(
                    "life",
                    format!(
                        "a lease of the role ends after {} unless a consumer renews it: stanch does not",
                        shown(role.default_ttl)
                    ),
                )
            });
        }
        checks
    }
}
