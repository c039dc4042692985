//! What can be known of a token before it is made, and before the old one dies.

use std::sync::Arc;
use std::time::Duration;

use rustify::enums::RequestMethod;

use super::grant::shorter;
use super::server::TokenIssuer;
use crate::domain::{Check, ErrorKind, Identity, Period};
use crate::kind::vault::client::{Effect, data};
use crate::kind::vault::kv2_secret::Mount;
use crate::kind::vault::lookup::{ACCESSORS, LOOKUP, LOOKUP_TOKEN, REVOKE};
use crate::kind::vault::permissions::{self, Need};
use crate::kind::vault::preflight::known_own_token;
use crate::kind::vault::token_info::{Birth, OPERATOR_USES, Role, TokenInfo, not_a_descendant};
use crate::provider::outcome::CallError;

/// stanch uses the new token itself: some times in a row at every check, again before whatever cannot
/// be undone, and beside every refusal of the old one. With fewer uses than this there is none left for
/// the application.
const OWN_USES: u32 = 30;

/// The longest life of a token where neither the mount nor the server's file says another:
/// <https://developer.hashicorp.com/vault/docs/configuration#max_lease_ttl>.
const DEFAULT_MAX: Duration = Duration::from_secs(768 * 60 * 60);

const NAME: &str = "own token";

/// How often the run's own token can still be used, where that has an end; or why that is too few times.
fn uses(own: &TokenInfo) -> Result<String, Check> {
    match own.num_uses {
        0 => Ok(String::new()),
        uses @ OPERATOR_USES.. => Ok(format!("; it may be used {uses} more times")),
        uses => Err(Check::fail(
            NAME,
            ErrorKind::Unsupported,
            format!(
                "the token that stanch uses may be used {} more times; a run that runs out of them stops half way",
                uses.max(0)
            ),
            "log in with a token without such a limit (`vault login`)",
        )),
    }
}

impl TokenIssuer {
    /// Everything that can be looked at: what is missing or does not fit is named at once.
    pub(in crate::kind::vault) async fn checks(&self, outgoing: Option<&Identity>) -> Vec<Check> {
        let ((permissions, lists, role, mount), own) =
            tokio::join!(self.gather(), known_own_token(&self.client));
        let mut checks = vec![permissions];
        checks.extend(lists);
        let own = match own {
            Ok(own) => own,
            Err(error) => {
                checks.push(error.to_check("own token"));
                return checks;
            }
        };
        let found = match (&self.spec.role, role) {
            (Some(name), Some(role)) => {
                checks.push(self.role_check(name, role.as_deref(), &own).await);
                role.ok()
            }
            _ => {
                checks.extend(self.orphan_check(&own).await);
                None
            }
        };
        checks.extend(self.life(found.as_deref(), mount));
        if self.given_out {
            checks.extend(self.uses());
            checks.extend(self.fixed(found.as_deref()));
        }
        checks.push(self.own_check(&own, outgoing).await);
        checks
    }

    /// What [`Self::checks`] asks that the client keeps.
    pub(in crate::kind::vault) async fn ask_ahead(&self) {
        tokio::join!(self.gather(), self.know_strangers());
    }

    /// The answers that do not depend on any token: permissions, whether tokens may be listed, the role,
    /// and the mount's longest life.
    async fn gather(&self) -> (Check, Option<Check>, Option<Result<Arc<Role>, CallError>>, Option<u64>) {
        let needs = self.needs();
        let what = format!("the token {}", self.spec.name);
        tokio::join!(
            permissions::check(&self.client, &what, &needs),
            self.listing(),
            self.role(),
            self.longest(),
        )
    }

    pub(in crate::kind::vault) fn needs(&self) -> Vec<Need> {
        const SENDS: &[&str] = &["policies", "ttl", "meta", "display_name"];
        const WITH_MAX: &[&str] = &["policies", "ttl", "meta", "display_name", "explicit_max_ttl"];
        let sends = if self.spec.max_ttl.is_some() { WITH_MAX } else { SENDS };
        let mut needs = vec![
            Need::new(self.create_path(), &["update", "create"], "create the token").sending(sends),
            Need::new(LOOKUP, &["update"], "look at tokens by accessor").sending(&["accessor"]),
            Need::new(REVOKE, &["update"], "revoke tokens by accessor").sending(&["accessor"]),
        ];
        if self.given_out {
            needs
                .insert(1, Need::new(LOOKUP_TOKEN, &["update"], "look at the old token").sending(&["token"]));
        }
        needs
    }

    async fn listing(&self) -> Option<Check> {
        let name = format!("permission {ACCESSORS}");
        if permissions::may_list(&self.client, ACCESSORS).await.ok()? {
            return Some(Check::pass(name, "may list tokens"));
        }
        Some(Check {
            hint: Some(format!(
                "so that stanch settles that itself: `path \"{ACCESSORS}\" {{ capabilities = [\"list\", \"sudo\"] }}`"
            )),
            ..Check::warn(
                name,
                "may not list tokens: if the reply to a creation is lost, the run stops and asks",
            )
        })
    }

    /// The longest life that the mount of tokens allows, in seconds; `None` where it has no limit of
    /// its own or does not tell.
    async fn longest(&self) -> Option<u64> {
        const PATH: &str = "sys/internal/ui/mounts/auth/token";
        let ask =
            async { data(&self.client.plain(RequestMethod::GET, PATH, None, Effect::Read).await?, PATH) };
        let mount: Arc<Mount> = self.client.facts.mounts.get("auth/token", ask).await.ok()?;
        Some(mount.config.max_lease_ttl).filter(|max| *max > 0)
    }

    fn life(&self, role: Option<&Role>, mount: Option<u64>) -> Option<Check> {
        let role = role.map(Role::explicit_max).filter(|max| *max > 0);
        let Some(least) = role.into_iter().chain(mount).min() else {
            return (self.spec.ttl > DEFAULT_MAX).then(|| Check {
                hint: Some("compare: `vault read sys/auth/token/tune`".to_owned()),
                ..Check::warn(
                    "life",
                    format!(
                        "stanch cannot read the server's longest life of a token, which is {} unless it was configured: the new one may live for less than `ttl`",
                        Period::seconds(DEFAULT_MAX.as_secs())
                    ),
                )
            });
        };
        if Duration::from_secs(least) >= self.spec.ttl {
            return None;
        }
        let hint = match (&self.spec.role, role) {
            (Some(name), Some(max)) if max == least => {
                format!(
                    "raise `token_explicit_max_ttl` of auth/token/roles/{name}, or ask for a shorter `ttl`"
                )
            }
            _ => {
                "raise it (`vault auth tune -max-lease-ttl=… token/`), or ask for a shorter `ttl`".to_owned()
            }
        };
        Some(Check { hint: Some(hint), ..Check::warn("life", shorter(least, self.spec.ttl)) })
    }

    /// A consumer that renews its token must know that it cannot.
    fn fixed(&self, role: Option<&Role>) -> Option<Check> {
        self.is_fixed(role).then(|| {
            let ttl = Period::seconds(self.spec.ttl.as_secs());
            Check::warn(
                "renewal",
                format!(
                    "the new token lives for {ttl} and cannot be renewed: the role does not keep renewals within `scope.max_ttl`"
                ),
            )
        })
    }

    fn uses(&self) -> Option<Check> {
        let uses = self.spec.num_uses;
        match uses {
            0 => None,
            1..OWN_USES => Some(Check::fail(
                "uses",
                ErrorKind::Invalid,
                format!("the new token may be used {uses} times; stanch's own checks take up to {OWN_USES}"),
                "raise `num_uses` in the runbook, or leave it out",
            )),
            _ => Some(Check::warn(
                "uses",
                format!(
                    "the new token may be used {uses} times; stanch's own checks take up to {OWN_USES} of them"
                ),
            )),
        }
    }

    async fn orphan_check(&self, own: &TokenInfo) -> Option<Check> {
        if !self.spec.bound_cidrs.is_empty() {
            return Some(Check::fail(
                "role",
                ErrorKind::Invalid,
                "`bound_cidrs` needs a role: Vault binds a token to networks by its role only",
                "set `role`, and `token_bound_cidrs` on it",
            ));
        }
        let lacking = self.beyond_own(own).await?;
        Some(Check::fail(
            "policies",
            ErrorKind::Denied,
            format!(
                "the token that stanch uses does not carry {lacking}, and may hand on only what it carries"
            ),
            "set `role` to a token role that allows these policies",
        ))
    }

    /// Whether this run can do without the old token, and its own lasts.
    pub(super) async fn own_check(&self, own: &TokenInfo, outgoing: Option<&Identity>) -> Check {
        if own.is_batch() {
            return Check::fail(
                NAME,
                ErrorKind::Unsupported,
                "the token that stanch uses is a batch token, which cannot create tokens",
                "log in with a service token (`vault login`, or `vault token create -type=service`)",
            );
        }
        match (uses(own), outgoing) {
            (Err(check), _) => check,
            (Ok(uses), None) => Check::pass(NAME, format!("stanch uses a service token of its own{uses}")),
            (Ok(_), Some(outgoing)) => self.outlives(own, outgoing).await,
        }
    }

    /// Whether the run's own token outlives the end of another one.
    pub(super) async fn outlives(&self, own: &TokenInfo, outgoing: &Identity) -> Check {
        let uses = match uses(own) {
            Ok(uses) => uses,
            Err(check) => return check,
        };
        if own.accessor == outgoing.handle {
            return Check::fail(
                NAME,
                ErrorKind::Invalid,
                "this run uses the very token that it is about to revoke",
                "log in with another token (`vault login`), then plan again",
            );
        }
        let not_a_descendant = if own.orphan {
            Ok("it is an orphan")
        } else {
            match self.birth(&outgoing.handle).await {
                Ok(Some(old)) => not_a_descendant(&own.birth(), own.role.is_some(), &old),
                Ok(None) => Ok("that one is gone"),
                Err(error) => return error.to_check(NAME),
            }
        };
        match not_a_descendant {
            Ok(why) if uses.is_empty() => Check::pass(NAME, format!("it outlives that token: {why}")),
            Ok(why) => Check::warn(NAME, format!("it outlives that token: {why}{uses}")),
            Err(()) => Check::fail(
                NAME,
                ErrorKind::Invalid,
                "the token that stanch uses may be a child of that token: revoking that would revoke it, too, \
                 in the middle of this run",
                "log in (`vault login`), or have an orphan made: `vault token create -orphan -policy=…`; then plan \
                 again",
            ),
        }
    }

    async fn birth(&self, accessor: &str) -> Result<Option<Birth>, CallError> {
        if let Some(birth) = self.client.facts.births.get(accessor) {
            return Ok(Some(birth));
        }
        let Some(info) = self.lookup(accessor).await? else { return Ok(None) };
        self.client.facts.births.set(accessor, info.birth());
        Ok(Some(info.birth()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::vault::token::TokenSpec;
    use crate::kind::vault::{Settings, VaultClient};

    /// Tokens without the policy `default` cannot look themselves up, whichever setting keeps it from them.
    #[test]
    fn a_role_whose_tokens_lack_default_does_not_fit() {
        let settings = Settings::resolve(Some("http://vault:8200"), None, None, &|_| None).expect("settings");
        let client = VaultClient::new(settings, Duration::from_secs(1)).expect("client");
        let spec = TokenSpec {
            name: "app".to_owned(),
            role: Some("app".to_owned()),
            policies: vec!["app-read".to_owned()],
            ttl: Duration::from_secs(3600),
            max_ttl: None,
            num_uses: 0,
            bound_cidrs: Vec::new(),
            audience: None,
        };
        let issuer = TokenIssuer::new(Arc::new(client), spec);
        let role_mismatches = |more: serde_json::Value| {
            let mut role = serde_json::json!({ "orphan": true, "allowed_policies": ["app-read"] });
            role.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
            issuer.role_mismatches(&serde_json::from_value(role).expect("a role"))
        };
        assert_eq!(role_mismatches(serde_json::json!({})), []);
        for (more, setting) in [
            (serde_json::json!({ "token_no_default_policy": true }), "token_no_default_policy=false"),
            (serde_json::json!({ "disallowed_policies": ["root", "default"] }), "disallowed_policies=root"),
            (
                serde_json::json!({ "disallowed_policies_glob": ["def*", "x*"] }),
                "disallowed_policies_glob=x*",
            ),
        ] {
            let found = role_mismatches(more);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].0.contains("cannot look themselves up"), "{found:?}");
            assert_eq!(found[0].1, setting);
        }
    }
}
