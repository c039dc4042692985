//! Whether the tokens of a role can take the old token's place.

use super::server::TokenIssuer;
use crate::domain::{Check, ErrorKind, Period};
use crate::kind::vault::network;
use crate::kind::vault::permissions::{capabilities, holds};
use crate::kind::vault::token_info::{Role, TokenInfo};
use crate::provider::outcome::CallError;

impl TokenIssuer {
    /// Without sudo, a token gives on only what it has.
    pub(super) async fn beyond_own(&self, own: &TokenInfo) -> Option<String> {
        let path = self.create_path();
        let held = capabilities(&self.client, &[&path]).await.ok()?;
        if holds(&held[0], "sudo") || own.policies.iter().any(|p| p == "root") {
            return None;
        }
        let has = |policy: &str| {
            own.policies.iter().chain(own.identity_policies.iter().flatten()).any(|p| p == policy)
        };
        let lacking: Vec<&str> = self.spec.policies.iter().map(String::as_str).filter(|p| !has(p)).collect();
        (!lacking.is_empty()).then(|| lacking.join(", "))
    }

    pub(super) async fn role_check(
        &self,
        name: &str,
        role: Result<&Role, &CallError>,
        own: &TokenInfo,
    ) -> Check {
        let path = format!("auth/token/roles/{name}");
        let check = format!("role {name}");
        let role = match role {
            Ok(role) => role,
            Err(error) if error.kind == ErrorKind::Denied => {
                let allow = format!("path \"{path}\" {{ capabilities = [\"read\"] }}");
                if self.spec.max_ttl.is_some_and(|max| max > self.spec.ttl) {
                    return Check::fail(
                        check,
                        ErrorKind::Denied,
                        "the role may not be read, and only it says whether a renewed token keeps to \
                         `scope.max_ttl`",
                        format!("add to the policy of stanch's token: {allow}"),
                    );
                }
                return Check {
                    hint: Some(format!("so that it shows before the old token dies: `{allow}`")),
                    ..Check::warn(check, "the role may not be read: what it allows shows when it is used")
                };
            }
            Err(error) if error.kind == ErrorKind::NotFound => {
                return Check::fail(
                    check,
                    ErrorKind::NotFound,
                    format!("there is no token role `{name}`"),
                    format!(
                        "make it (`vault write {path} allowed_policies=… orphan=true`), or correct `role`"
                    ),
                );
            }
            Err(error) => return error.to_check(&check),
        };
        let mut wrong = self.role_mismatches(role);
        let kind = if wrong.iter().any(|(why, _)| why.starts_with("it does not allow")) {
            ErrorKind::Denied
        } else {
            ErrorKind::Invalid
        };
        if role.is_open()
            && let Some(lacking) = self.beyond_own(own).await
        {
            wrong.push((
                format!("it has no `allowed_policies`, and stanch's own token does not carry {lacking}"),
                format!("allowed_policies={}", self.spec.policies.join(",")),
            ));
        }
        if !wrong.is_empty() {
            let (why, set): (Vec<_>, Vec<_>) = wrong.into_iter().unzip();
            return Check::fail(
                check,
                kind,
                format!("the role does not fit: {}", why.join("; ")),
                format!("`vault write {path} {}`", set.join(" ")),
            );
        }
        self.cautions(role, &check)
    }

    /// Why tokens of this role could not take the old one's place, each with the setting that mends it.
    pub(super) fn role_mismatches(&self, role: &Role) -> Vec<(String, String)> {
        let spec = &self.spec;
        let mut wrong = Vec::new();
        let mut misfit = |why: String, set: &str| wrong.push((why, set.to_owned()));
        let refused: Vec<&str> =
            spec.policies.iter().map(String::as_str).filter(|p| !role.allows(p)).collect();
        if !refused.is_empty() {
            misfit(
                format!("it does not allow the policies {}", refused.join(", ")),
                &format!("allowed_policies={}", spec.policies.join(",")),
            );
        }
        if role.token_type.contains("batch") {
            misfit("it makes batch tokens, which cannot be revoked".to_owned(), "token_type=service");
        }
        if !role.orphan {
            misfit("its tokens are children of the operator's and die with it".to_owned(), "orphan=true");
        }
        if role.period() > 0 {
            misfit(
                "its tokens are periodic: renewed in time, they never expire".to_owned(),
                "token_period=0",
            );
        } else if let Some(max) = spec.max_ttl.filter(|max| *max > spec.ttl)
            && !role.keeps_to(max.as_secs())
        {
            let limit = Period::seconds(max.as_secs());
            misfit(
                format!(
                    "its tokens can be renewed past `scope.max_ttl` ({limit}), for a renewal heeds the role's maximum alone"
                ),
                &format!("token_explicit_max_ttl={limit}"),
            );
        }
        let uses = u64::from(spec.num_uses);
        if role.token_num_uses > 0 && (uses == 0 || role.token_num_uses < uses) {
            let said = if uses == 0 { "sets no limit".to_owned() } else { format!("says {uses}") };
            misfit(
                format!("its tokens may be used {} times only, and the runbook {said}", role.token_num_uses),
                &format!("token_num_uses={uses}"),
            );
        }
        let asks_for_default = !self.given_out || spec.policies.iter().any(|p| p == "default");
        let blind = || {
            "its tokens lack the policy `default` and cannot look themselves up, so stanch could never see the \
             new one accepted"
                .to_owned()
        };
        if role.disallows("default") && !asks_for_default {
            misfit(blind(), &role.without_refusal_of("default"));
        } else if role.token_no_default_policy && !asks_for_default {
            misfit(blind(), "token_no_default_policy=false");
        }
        let bound: Vec<&str> = role.networks().collect();
        let asked: Vec<&str> =
            spec.bound_cidrs.iter().map(|c| crate::kind::vault::token_info::network(c)).collect();
        if !asked.is_empty() && (bound.is_empty() || bound.iter().any(|cidr| !asked.contains(cidr))) {
            misfit(
                "its tokens may be used from networks that `bound_cidrs` of the runbook does not name"
                    .to_owned(),
                &format!("token_bound_cidrs={}", spec.bound_cidrs.join(",")),
            );
        }
        // Only of a server on this machine is it known which address it sees us under.
        if !bound.is_empty()
            && let Some(here) = network::seen_from(&self.client.settings().address)
            && here.is_loopback()
            && !bound.iter().any(|cidr| network::contains(cidr, here))
        {
            misfit(
                format!(
                    "its tokens may be used from {} only, and this machine uses {here}: stanch could never see the new one accepted",
                    bound.join(", ")
                ),
                &format!("token_bound_cidrs={},{here}/32", bound.join(",")),
            );
        }
        wrong
    }

    /// What is worth knowing of a role that fits.
    fn cautions(&self, role: &Role, check: &str) -> Check {
        let bound: Vec<&str> = role.networks().collect();
        if !bound.is_empty() {
            let seen = network::seen_from(&self.client.settings().address);
            let inside = seen.is_some_and(|here| bound.iter().any(|cidr| network::contains(cidr, here)));
            if !inside {
                let here = seen.map_or("an address that is not known".to_owned(), |here| here.to_string());
                return Check {
                    hint: Some(
                        "run stanch from one of these networks: it uses the new token to check it".to_owned(),
                    ),
                    ..Check::warn(
                        check,
                        format!(
                            "its tokens may be used from {} only; this machine uses {here}",
                            bound.join(", ")
                        ),
                    )
                };
            }
        }
        if self.given_out && self.is_fixed(Some(role)) {
            return Check {
                hint: self.spec.role.as_ref().map(|name| {
                    let max = self.spec.max_ttl.unwrap_or(self.spec.ttl).as_secs();
                    format!(
                        "to let it be renewed within its maximum: set `token_explicit_max_ttl={}` on auth/token/roles/{name}",
                        Period::seconds(max)
                    )
                }),
                ..Check::warn(
                    check,
                    "the new token cannot be renewed: the role has no maximum that would hold it to `scope.max_ttl`",
                )
            };
        }
        Check::pass(check, "the role allows the policies and makes orphans")
    }
}
