//! What a token may really do, and what a role lets it.

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;

use super::token::TokenSpec;
use crate::provider::Grant;
use crate::provider::outcome::tame;

/// The tag that says who a token is for.
pub(super) const AUDIENCE: &str = "audience";

/// What Vault says of a token. vaultrs' own type lacks `bound_cidrs` and `period`.
#[derive(Debug, Deserialize)]
pub(super) struct TokenInfo {
    pub(super) accessor: String,
    #[serde(default)]
    pub(super) display_name: String,
    #[serde(default)]
    pub(super) policies: Vec<String>,
    #[serde(default)]
    identity_policies: Option<Vec<String>>,
    #[serde(default)]
    creation_ttl: u64,
    #[serde(default)]
    explicit_max_ttl: u64,
    pub(super) expire_time: Option<String>,
    #[serde(default)]
    pub(super) ttl: u64,
    #[serde(default)]
    pub(super) meta: Option<HashMap<String, String>>,
    #[serde(default)]
    pub(super) num_uses: u64,
    #[serde(default)]
    orphan: bool,
    #[serde(default)]
    renewable: Option<bool>,
    #[serde(default)]
    period: Option<u64>,
    #[serde(default)]
    bound_cidrs: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Role {
    allowed_policies: Option<Vec<String>>,
    allowed_policies_glob: Option<Vec<String>>,
    disallowed_policies: Option<Vec<String>>,
    pub(super) orphan: bool,
    pub(super) token_period: u64,
    pub(super) token_type: String,
}

impl Role {
    /// Whether it lets a token carry this policy.
    pub(super) fn allows(&self, policy: &str) -> bool {
        let has = |list: &Option<Vec<String>>| list.iter().flatten().any(|p| p == policy);
        let glob = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => policy.starts_with(start),
            None => pattern == policy,
        };
        let empty = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
        let open = empty(&self.allowed_policies) && empty(&self.allowed_policies_glob);
        let allowed = has(&self.allowed_policies) || self.allowed_policies_glob.iter().flatten().any(glob);
        // Without any list the operator's own policies are the bound, which the creation shows.
        (open || allowed) && !has(&self.disallowed_policies)
    }
}

/// What a token may really do, against what was asked for.
pub(super) fn grant(info: &TokenInfo, spec: &TokenSpec) -> Grant {
    let mut policies: Vec<String> =
        info.policies.iter().chain(info.identity_policies.iter().flatten()).cloned().collect();
    policies.retain(|p| p != "default");
    policies.sort();
    policies.dedup();

    let mut wider = Vec::new();
    if !info.orphan {
        wider.push("it is a child of the operator's token and dies with it".to_owned());
    }
    let renewable = info.renewable == Some(true);
    if info.period.unwrap_or(0) > 0 {
        wider.push("it is periodic: renewed in time, it never expires".to_owned());
    } else if renewable && info.explicit_max_ttl == 0 && spec.max_ttl.is_some() {
        wider.push("it can be renewed past its time to live: it has no explicit maximum".to_owned());
    }
    if spec.num_uses > 0 && info.num_uses == 0 {
        wider.push("it may be used without limit".to_owned());
    }
    let bound: Vec<&str> = info.bound_cidrs.iter().flatten().map(|c| network(c)).collect();
    if !spec.bound_cidrs.is_empty() {
        if bound.is_empty() {
            wider.push("it may be used from every network".to_owned());
        }
        let asked: Vec<&str> = spec.bound_cidrs.iter().map(|c| network(c)).collect();
        for extra in bound.iter().filter(|cidr| !asked.contains(cidr)) {
            wider.push(tame(&format!("it may be used from {extra}, which was not asked for")));
        }
    }
    // What counts is how long it can live, renewals included.
    let ttl = match info.expire_time {
        None => None,
        Some(_) if renewable => Some(Duration::from_secs(info.creation_ttl.max(info.explicit_max_ttl))),
        Some(_) => Some(Duration::from_secs(info.creation_ttl)),
    };
    Grant {
        policies: Some(policies),
        ttl,
        audience: info.meta.as_ref().and_then(|meta| meta.get(AUDIENCE)).cloned(),
        wider,
    }
}

/// A single address and its network of one are the same; Vault shows the shorter.
fn network(cidr: &str) -> &str {
    cidr.strip_suffix("/32").or_else(|| cidr.strip_suffix("/128")).unwrap_or(cidr)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> TokenSpec {
        TokenSpec {
            name: "web".to_owned(),
            role: None,
            policies: vec!["app".to_owned()],
            ttl: Duration::from_secs(60),
            max_ttl: Some(Duration::from_secs(120)),
            num_uses: 0,
            bound_cidrs: vec!["10.0.0.1/32".to_owned()],
            audience: None,
        }
    }

    fn info(text: &str) -> TokenInfo {
        serde_json::from_str(text).expect("token info")
    }

    #[test]
    fn a_token_as_it_was_asked_for_is_not_wider() {
        let token = info(
            r#"{"accessor":"a","policies":["default","app"],"creation_ttl":60,"explicit_max_ttl":120,
                "expire_time":"x","orphan":true,"renewable":true,"bound_cidrs":["10.0.0.1"]}"#,
        );
        let grant = grant(&token, &spec());
        assert_eq!(grant.wider, Vec::<String>::new());
        assert_eq!(grant.policies, Some(vec!["app".to_owned()]));
        assert_eq!(grant.ttl, Some(Duration::from_secs(120)), "renewals count");
    }

    #[test]
    fn everything_wider_is_named() {
        let token = info(
            r#"{"accessor":"a","policies":["app"],"identity_policies":["admin"],"creation_ttl":0,
                "expire_time":null,"orphan":false,"renewable":true,"period":60}"#,
        );
        let grant = grant(&token, &spec());
        assert_eq!(grant.ttl, None);
        assert_eq!(grant.policies, Some(vec!["admin".to_owned(), "app".to_owned()]));
        assert_eq!(grant.wider.len(), 3, "{:?}", grant.wider);
    }

    #[test]
    fn a_role_allows_by_list_and_glob_and_never_what_it_disallows() {
        let role = Role {
            allowed_policies: Some(vec!["app".to_owned()]),
            allowed_policies_glob: Some(vec!["team-*".to_owned()]),
            disallowed_policies: Some(vec!["team-root".to_owned()]),
            ..Role::default()
        };
        assert!(role.allows("app") && role.allows("team-a"));
        assert!(!role.allows("team-root") && !role.allows("other"));
        assert!(Role::default().allows("anything"));
    }
}
