//! A token and a role, as Vault describes them, and as the runbook asks for them.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use serde::Deserialize;

/// The tags by which a token, or a secret id, is known to be a run's.
pub(super) const RUN: &str = "stanch-run";
pub(super) const STEP: &str = "stanch-step";

/// A rotation takes about a dozen requests of the operator's token for each credential, and more while it waits.
pub(super) const OPERATOR_USES: i64 = 100;

/// What the runbook asks for.
#[derive(Debug, Clone)]
pub struct TokenSpec {
    /// The credential's name, for the token's display name.
    pub name: String,
    /// The token role; else the token is an orphan of nobody.
    pub role: Option<String>,
    /// The policies.
    pub policies: Vec<String>,
    /// The time to live.
    pub ttl: Duration,
    /// The longest it may live, renewals counted.
    pub max_ttl: Option<Duration>,
    /// How often it may be used; 0 is without limit.
    pub num_uses: u32,
    /// The networks that it may be used from.
    pub bound_cidrs: Vec<String>,
    /// Who it is for.
    pub audience: Option<String>,
}

/// What Vault says of a token. vaultrs' own type lacks `bound_cidrs` and `period`.
#[derive(Debug, Deserialize)]
pub(super) struct TokenInfo {
    pub(super) accessor: String,
    /// Where it was made: `auth/token/create`, or where a method logs in.
    #[serde(default)]
    pub(super) path: String,
    #[serde(default)]
    pub(super) display_name: String,
    #[serde(default)]
    pub(super) policies: Vec<String>,
    #[serde(default)]
    pub(super) identity_policies: Option<Vec<String>>,
    #[serde(default)]
    pub(super) creation_time: i64,
    #[serde(default)]
    pub(super) creation_ttl: u64,
    #[serde(default)]
    pub(super) explicit_max_ttl: u64,
    pub(super) expire_time: Option<String>,
    #[serde(default)]
    pub(super) ttl: u64,
    #[serde(default)]
    pub(super) meta: Option<HashMap<String, String>>,
    /// 0 is without limit; less, that the last use was just taken.
    #[serde(default)]
    pub(super) num_uses: i64,
    #[serde(default)]
    pub(super) orphan: bool,
    #[serde(default)]
    pub(super) renewable: Option<bool>,
    #[serde(default)]
    pub(super) period: Option<u64>,
    #[serde(default)]
    pub(super) bound_cidrs: Option<Vec<String>>,
    /// `service` or `batch`; servers before 1.0 do not say it.
    #[serde(default, rename = "type")]
    pub(super) kind: String,
    /// The role that it was made through.
    #[serde(default)]
    pub(super) role: Option<String>,
}

impl TokenInfo {
    /// Whether it is a batch token: it has no accessor, cannot be revoked, and cannot make others.
    pub(super) fn is_batch(&self) -> bool {
        self.kind == "batch" || self.accessor.is_empty()
    }

    /// Whether it is the key to a wrapped response. Revoking it revokes nothing of what is wrapped.
    pub(super) fn is_wrapping(&self) -> bool {
        self.policies.iter().any(|policy| policy == "response-wrapping")
            || self.path.trim_start_matches('/').starts_with("sys/wrapping/wrap")
    }

    pub(super) fn birth(&self) -> Birth {
        let policies = self.policies.iter().filter(|p| *p != "default").cloned().collect();
        Birth { created: self.creation_time, policies }
    }
}

/// What tells whose login a token is. It never changes.
pub(super) struct Login {
    /// Where it was made.
    pub(super) path: String,
    pub(super) meta: HashMap<String, String>,
}

impl Login {
    /// What a token is told by; `None` of one that carries nothing of a credential.
    pub(super) fn of(token: &TokenInfo) -> Option<Self> {
        Some(Self { path: token.path.clone(), meta: token.meta.clone()? })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Role {
    pub(super) allowed_policies: Option<Vec<String>>,
    pub(super) allowed_policies_glob: Option<Vec<String>>,
    pub(super) disallowed_policies: Option<Vec<String>>,
    pub(super) disallowed_policies_glob: Option<Vec<String>>,
    pub(super) orphan: bool,
    pub(super) renewable: bool,
    pub(super) period: u64,
    pub(super) token_period: u64,
    pub(super) explicit_max_ttl: u64,
    pub(super) token_explicit_max_ttl: u64,
    pub(super) token_num_uses: u64,
    pub(super) token_no_default_policy: bool,
    pub(super) bound_cidrs: Option<Vec<String>>,
    pub(super) token_bound_cidrs: Option<Vec<String>>,
    pub(super) token_type: String,
}

/// Whether a policy is in a list, or fits a pattern of another one.
fn listed(list: &Option<Vec<String>>, globs: &Option<Vec<String>>, policy: &str) -> bool {
    let fits = |pattern: &String| match pattern.strip_suffix('*') {
        Some(start) => policy.starts_with(start),
        None => pattern == policy,
    };
    list.iter().flatten().any(|p| p == policy) || globs.iter().flatten().any(fits)
}

impl Role {
    /// Whether it lets a token carry this policy.
    pub(super) fn allows(&self, policy: &str) -> bool {
        let allowed = listed(&self.allowed_policies, &self.allowed_policies_glob, policy);
        (self.is_open() || allowed) && !self.disallows(policy)
    }

    /// Whether it names this policy as one that its tokens never carry.
    pub(super) fn disallows(&self, policy: &str) -> bool {
        listed(&self.disallowed_policies, &self.disallowed_policies_glob, policy)
    }

    /// The setting of a role, as `vault write` takes it, that does not disallow this policy any more.
    pub(super) fn without_refusal_of(&self, policy: &str) -> String {
        let mut settings = Vec::new();
        for (name, list) in [
            ("disallowed_policies", &self.disallowed_policies),
            ("disallowed_policies_glob", &self.disallowed_policies_glob),
        ] {
            let refuses = |entry: &String| listed(&None, &Some(vec![entry.clone()]), policy);
            let (gone, kept): (Vec<_>, Vec<_>) = list.iter().flatten().cloned().partition(refuses);
            if !gone.is_empty() {
                settings.push(format!("{name}={}", kept.join(",")));
            }
        }
        settings.join(" ")
    }

    /// Whether it has no list of its own: then the operator's own policies are the bound.
    pub(super) fn is_open(&self) -> bool {
        let empty = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
        empty(&self.allowed_policies) && empty(&self.allowed_policies_glob)
    }

    /// How long its tokens live between renewals, forever; 0 where they are not periodic.
    pub(super) fn period(&self) -> u64 {
        self.token_period.max(self.period)
    }

    /// The longest that its tokens live, in seconds, renewals counted; 0 without such a bound.
    pub(super) fn explicit_max(&self) -> u64 {
        self.token_explicit_max_ttl.max(self.explicit_max_ttl)
    }

    /// The networks that its tokens may be used from; none is every network.
    pub(super) fn networks(&self) -> impl Iterator<Item = &str> {
        self.token_bound_cidrs.iter().chain(&self.bound_cidrs).flatten().map(|c| network(c))
    }

    /// Whether a token of this role that can be renewed keeps to a maximum, in seconds: when a token is
    /// renewed the server takes the role's maximum in place of the one that the token was made with.
    pub(super) fn keeps_to(&self, max: u64) -> bool {
        !self.renewable || (1..=max).contains(&self.explicit_max())
    }
}

/// What decides whether a token may be a child of another.
#[derive(Debug, Clone)]
pub(super) struct Birth {
    /// Seconds since 1970.
    pub(super) created: i64,
    pub(super) policies: BTreeSet<String>,
}

/// A single address and its network of one are the same; Vault shows the shorter.
pub(super) fn network(cidr: &str) -> &str {
    cidr.strip_suffix("/32").or_else(|| cidr.strip_suffix("/128")).unwrap_or(cidr)
}

/// Why a token cannot be a descendant of another, from what Vault tells of both: it does not name
/// parents. A child is never older than its parent, and, except through a role or by a parent with
/// sudo, carries no policy that its parent lacks. `Err` where it may be one.
pub(super) fn not_a_descendant(own: &Birth, by_role: bool, old: &Birth) -> Result<&'static str, ()> {
    if own.created < old.created {
        return Ok("it is older");
    }
    let handed_on = |policy: &String| old.policies.contains(policy);
    let unlimited = old.policies.contains("root");
    if !unlimited && !by_role && !own.policies.iter().all(handed_on) {
        return Ok("it carries policies that the old one cannot hand on");
    }
    Err(())
}

/// A duration as Vault reads it. Fractions are rounded up: a zero would mean "the default".
pub(super) fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_millis().div_ceil(1000).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_may_descend_from_the_old_one_is_told() {
        let born = |created, policies: &[&str]| Birth {
            created,
            policies: policies.iter().map(|p| (*p).to_owned()).collect(),
        };
        let old = born(100, &["app", "maker", "stanch"]);
        assert!(not_a_descendant(&born(99, &["stanch"]), false, &old).is_ok(), "older");
        assert!(not_a_descendant(&born(100, &["stanch"]), false, &old).is_err(), "within the same second");
        assert!(not_a_descendant(&born(101, &["stanch"]), false, &old).is_err(), "a child or a grandchild");
        assert!(not_a_descendant(&born(101, &[]), false, &old).is_err(), "with the policy `default` alone");
        assert!(not_a_descendant(&born(101, &["stanch", "other"]), false, &old).is_ok(), "not handed on");
        assert!(
            not_a_descendant(&born(101, &["stanch", "other"]), true, &old).is_err(),
            "made through a role"
        );
        assert!(
            not_a_descendant(&born(101, &["stanch", "other"]), false, &born(100, &["root"])).is_err(),
            "of root"
        );
    }
}
