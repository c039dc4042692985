//! What a token may really do, and what a role lets it.

use std::time::Duration;

use crate::domain::{ErrorKind, Period};
use crate::kind::vault::token_info::{Role, TokenInfo, TokenSpec, network};
use crate::provider::Grant;
use crate::provider::outcome::CallError;
use crate::text::sanitize;

/// The tag that says who a token is for.
pub(in crate::kind::vault) const AUDIENCE: &str = "audience";

/// What a token may really do, against what was asked for. `role` is that which it was made through:
/// `Err` where it may not be read.
///
/// # Errors
/// [`ErrorKind::Declined`] when it cannot do what it is for.
pub(in crate::kind::vault) fn grant(
    info: &TokenInfo,
    spec: &TokenSpec,
    role: Option<Result<&Role, ()>>,
) -> Result<Grant, CallError> {
    let mut policies: Vec<String> =
        info.policies.iter().chain(info.identity_policies.iter().flatten()).cloned().collect();
    policies.retain(|p| p != "default");
    policies.sort();
    policies.dedup();

    let declined = |why: String| CallError::rejected(ErrorKind::Declined, why);
    if info.is_batch() {
        return Err(declined("the new token is a batch token, which cannot be revoked".to_owned()));
    }
    if spec.num_uses == 0 && info.num_uses != 0 {
        let uses = info.num_uses.max(0);
        return Err(declined(format!(
            "the new token can be used {uses} more times only, and the runbook does not say so"
        ))
        .hint("set `token_num_uses=0` on the role, or `num_uses` in the runbook"));
    }

    let mut wider = Vec::new();
    if !info.orphan {
        wider.push("it is a child of the operator's token and dies with it".to_owned());
    }
    let renewable = info.renewable == Some(true);
    if info.period.unwrap_or(0) > 0 {
        wider.push("it is periodic: renewed in time, it never expires".to_owned());
    } else if renewable && let Some(max) = spec.max_ttl.map(|max| max.as_secs()) {
        let kept = match role {
            Some(Ok(role)) => role.keeps_to(max),
            Some(Err(())) => false,
            None => info.explicit_max_ttl > 0,
        };
        if !kept {
            wider.push(format!(
                "it can be renewed past {}: {}",
                Period::seconds(max),
                match role {
                    Some(Ok(_)) => "its role has no `token_explicit_max_ttl` that forbids it",
                    Some(Err(())) => "whether its role forbids that may not be read",
                    None => "it has no explicit maximum",
                }
            ));
        }
    }
    if spec.num_uses > 0 && info.num_uses == 0 {
        wider.push("it may be used without limit".to_owned());
    }
    let mut notes = Vec::new();
    let bound: Vec<&str> = info.bound_cidrs.iter().flatten().map(|c| network(c)).collect();
    if !spec.bound_cidrs.is_empty() {
        if bound.is_empty() {
            wider.push("it may be used from every network".to_owned());
        }
        let asked: Vec<&str> = spec.bound_cidrs.iter().map(|c| network(c)).collect();
        for extra in bound.iter().filter(|cidr| !asked.contains(cidr)) {
            wider.push(sanitize(&format!("it may be used from {extra}, which was not asked for")));
        }
    } else if !bound.is_empty() {
        notes.push(sanitize(&format!("it may be used from {} only", bound.join(", "))));
    }
    let life = info.expire_time.as_ref().map(|_| Duration::from_secs(info.creation_ttl));
    if let Some(life) = life.filter(|life| *life < spec.ttl) {
        notes.push(shorter(life.as_secs(), spec.ttl));
    }
    // What counts is how long it can live, renewals included.
    let longest =
        |life: Duration| if renewable { life.max(Duration::from_secs(info.explicit_max_ttl)) } else { life };
    Ok(Grant {
        policies: Some(policies),
        ttl: life.map(longest),
        lives: life,
        audience: info.meta.as_ref().and_then(|meta| meta.get(AUDIENCE)).cloned(),
        wider,
        notes,
    })
}

/// That a token lives shorter than it was asked for, in a sentence.
pub(in crate::kind::vault) fn shorter(lives: u64, asked: Duration) -> String {
    let asked = Period::seconds(asked.as_secs());
    format!("the new token lives for {} only; {asked} was asked for", Period::seconds(lives))
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
        let grant = grant(&token, &spec(), None).expect("a grant");
        assert_eq!((&grant.wider, &grant.notes), (&Vec::new(), &Vec::new()));
        assert_eq!(grant.policies, Some(vec!["app".to_owned()]));
        assert_eq!(grant.ttl, Some(Duration::from_secs(120)), "renewals count");
    }

    #[test]
    fn everything_wider_is_named() {
        let token = info(
            r#"{"accessor":"a","policies":["app"],"identity_policies":["admin"],"creation_ttl":0,
                "expire_time":null,"orphan":false,"renewable":true,"period":60}"#,
        );
        let grant = grant(&token, &spec(), None).expect("a grant");
        assert_eq!(grant.ttl, None);
        assert_eq!(grant.policies, Some(vec!["admin".to_owned(), "app".to_owned()]));
        assert_eq!(grant.wider.len(), 3, "{:?}", grant.wider);
    }

    #[test]
    fn what_a_renewal_outlives_is_wider() {
        let token = info(
            r#"{"accessor":"a","policies":["app"],"creation_ttl":60,"explicit_max_ttl":120,
                "expire_time":"x","orphan":true,"renewable":true,"bound_cidrs":["10.0.0.1"]}"#,
        );
        let role = |max| Role { renewable: true, token_explicit_max_ttl: max, ..Role::default() };
        let wider = |role: Option<&Result<Role, ()>>| {
            grant(&token, &spec(), role.map(|role| role.as_ref().or(Err(())))).expect("a grant").wider
        };
        assert_eq!(wider(Some(&Ok(role(120)))), Vec::<String>::new());
        for (max, why) in [(0, "the role has none"), (121, "the role's is longer")] {
            assert_eq!(wider(Some(&Ok(role(max)))).len(), 1, "{why}");
        }
        assert_eq!(wider(Some(&Err(()))).len(), 1, "it may not be read");
        let fixed = Role { renewable: false, ..role(0) };
        assert_eq!(wider(Some(&Ok(fixed))), Vec::<String>::new(), "none of its tokens can be renewed");
    }

    #[test]
    fn what_is_narrower_is_noted_and_what_is_useless_is_declined() {
        let text = r#"{"accessor":"a","policies":["app"],"creation_ttl":20,"explicit_max_ttl":20,"expire_time":"x",
            "orphan":true,"renewable":true,"bound_cidrs":["10.0.0.1"],"num_uses":NUM,"type":"TYPE"}"#;
        let open = TokenSpec { bound_cidrs: Vec::new(), ..spec() };
        let found = |uses: &str, kind: &str| {
            grant(&info(&text.replace("NUM", uses).replace("TYPE", kind)), &open, None)
        };
        let notes = found("0", "service").expect("a grant").notes;
        assert!(notes.len() == 2 && notes[1].contains("lives for 20s only; 1m was asked for"), "{notes:?}");
        assert_eq!(found("0", "service").expect("a grant").lives, Some(Duration::from_secs(20)));
        for (uses, kind) in [("7", "service"), ("-1", "service"), ("0", "batch")] {
            assert_eq!(found(uses, kind).expect_err(uses).kind, ErrorKind::Declined, "{uses} {kind}");
        }
    }

    #[test]
    fn a_role_allows_by_list_and_glob_and_never_what_it_disallows() {
        let role = Role {
            allowed_policies: Some(vec!["app".to_owned()]),
            allowed_policies_glob: Some(vec!["team-*".to_owned()]),
            disallowed_policies: Some(vec!["team-root".to_owned()]),
            disallowed_policies_glob: Some(vec!["team-x*".to_owned()]),
            ..Role::default()
        };
        assert!(role.allows("app") && role.allows("team-a"));
        assert!(!role.allows("team-root") && !role.allows("team-xy") && !role.allows("other"));
        assert!(Role::default().allows("anything"));
    }
}
