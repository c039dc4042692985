//! A user, as Vault describes it, and as the runbook asks for it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::spec::VaultUserpass;
use crate::domain::{Life, Period};
use crate::kind::vault::token_info::network;
use crate::text::sanitize;

/// Where a disabled user may log in from: the address of no client (RFC 919). It replaces the networks of the user,
/// which are those of the runbook, so that enabling it needs nothing else.
pub(super) const NOWHERE: &str = "255.255.255.255";

const CIDRS: &str = "token_bound_cidrs";

/// What Vault says of a user: its fields, by name. The password is not among them.
#[derive(Debug)]
pub(super) struct User(pub(super) BTreeMap<String, Value>);

impl User {
    /// The networks that it may log in from; none is every network.
    fn networks(&self) -> BTreeSet<&str> {
        let list = self.0.get(CIDRS).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).map(network).collect()
    }

    pub(super) fn life(&self) -> Life {
        if self.networks() == BTreeSet::from([NOWHERE]) { Life::Disabled } else { Life::Active }
    }

    /// Whether it may log in from the runbook's networks, and from no other.
    pub(super) fn has_networks_of(&self, spec: &VaultUserpass) -> bool {
        self.networks() == spec.bound_cidrs.iter().map(|cidr| network(cidr)).collect()
    }

    pub(super) fn is_batch(&self) -> bool {
        self.0.get("token_type").and_then(Value::as_str).is_some_and(|kind| kind.contains("batch"))
    }

    /// Its policies, without `default`.
    pub(super) fn policies(&self) -> Vec<String> {
        let list = self.0.get("token_policies").and_then(Value::as_array);
        let mut policies: Vec<String> =
            list.into_iter().flatten().filter_map(|policy| policy.as_str().map(str::to_owned)).collect();
        policies.retain(|policy| policy != "default");
        policies.sort();
        policies
    }

    /// In what it differs from a user as the runbook asks for it: each a phrase. Fields that this program does not
    /// know count unless they are empty: what a new user would not have is named, whatever it is.
    pub(super) fn differences(&self, spec: &VaultUserpass) -> Vec<String> {
        let asked = settings(spec);
        let mut found = Vec::new();
        if self.policies() != sorted(&spec.policies) {
            found.push(format!(
                "its policies are [{}], and the runbook says [{}]",
                self.policies().join(", "),
                sorted(&spec.policies).join(", ")
            ));
        }
        if self.life() != Life::Disabled && !self.has_networks_of(spec) {
            let has: Vec<&str> = self.networks().into_iter().collect();
            found.push(format!(
                "its networks (`token_bound_cidrs`) are [{}], and the runbook says [{}]",
                has.join(", "),
                spec.bound_cidrs.join(", ")
            ));
        }
        let names: BTreeSet<&String> = self.0.keys().chain(asked.keys()).collect();
        // Names of before, for the same.
        const SEEN: [&str; 8] =
            [CIDRS, "token_policies", "token_type", "policies", "ttl", "max_ttl", "bound_cidrs", "password"];
        for name in names.into_iter().filter(|name| !SEEN.contains(&name.as_str())) {
            let blank = Value::Null;
            let (has, wants) = (self.0.get(name).unwrap_or(&blank), asked.get(name).unwrap_or(&blank));
            if has != wants && !(is_blank(has) && is_blank(wants)) {
                found.push(format!("`{name}` is {}, and the runbook says {}", shown(has), shown(wants)));
            }
        }
        found.iter().map(|text| sanitize(text)).collect()
    }
}

fn sorted(policies: &[String]) -> Vec<String> {
    let mut policies: Vec<String> = policies.iter().filter(|policy| *policy != "default").cloned().collect();
    policies.sort();
    policies
}

/// What Vault says of a setting that is not set.
fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_u64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) => false,
    }
}

fn shown(value: &Value) -> String {
    if is_blank(value) { "nothing".to_owned() } else { value.to_string() }
}

/// The settings that the runbook asks for, as the server takes them, and shows them but for their order.
pub(super) fn settings(spec: &VaultUserpass) -> BTreeMap<String, Value> {
    let seconds = |period: Option<Period>| period.map(|period| json!(period.get().as_secs()));
    let some = [
        ("token_ttl", seconds(spec.ttl)),
        ("token_max_ttl", seconds(spec.max_ttl)),
        ("token_explicit_max_ttl", seconds(spec.explicit_max_ttl)),
        ("token_period", seconds(spec.period)),
        ("token_num_uses", (spec.num_uses > 0).then(|| json!(spec.num_uses))),
        ("token_no_default_policy", spec.no_default_policy.then_some(Value::Bool(true))),
        (CIDRS, (!spec.bound_cidrs.is_empty()).then(|| json!(spec.bound_cidrs))),
        ("token_policies", (!spec.policies.is_empty()).then(|| json!(spec.policies))),
    ];
    some.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// What disables a user, or enables it again.
pub(super) fn bound_to(cidrs: &[String]) -> BTreeMap<String, Value> {
    BTreeMap::from([(CIDRS.to_owned(), json!(cidrs))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::vault::userpass::spec::is_user;

    fn spec(more: &str) -> VaultUserpass {
        let text = format!(r#"{{"connection":"vault","name":"app","policies":["app"]{more}}}"#);
        serde_json::from_str(&text).expect("a spec")
    }

    fn user(text: &str) -> User {
        User(serde_json::from_str(text).expect("a user"))
    }

    #[test]
    fn every_difference_is_named_also_in_what_is_not_known() {
        let plain = r#"{"token_bound_cidrs":[],"token_max_ttl":0,"token_no_default_policy":false,"token_policies":["app"],"token_ttl":0,"token_type":"default","token_strictly_bind_ip":false}"#;
        assert_eq!(user(plain).differences(&spec("")), Vec::<String>::new());
        let differs = |has: &str, more: &str| user(has).differences(&spec(more)).join("; ");
        for (has, more, word) in [
            (r#"{"token_policies":["app","more"]}"#, "", "[app, more]"),
            (r#"{"token_policies":[]}"#, "", "policies are []"),
            (r#"{"token_policies":["app"],"token_ttl":3600}"#, "", "`token_ttl` is 3600"),
            (r#"{"token_policies":["app"],"token_ttl":60}"#, r#","ttl":"1h""#, "says 3600"),
            (r#"{"token_policies":["app"],"token_bound_cidrs":["10.0.0.0/8"]}"#, "", "10.0.0.0/8"),
            (r#"{"token_policies":["app"],"token_period":60}"#, "", "token_period"),
            (r#"{"token_policies":["app"],"token_no_default_policy":true}"#, "", "no_default_policy"),
            (r#"{"token_policies":["app"],"token_new_thing":"x"}"#, "", "token_new_thing"),
            (r#"{"token_policies":["app"]}"#, r#","num_uses":3"#, "`token_num_uses` is nothing"),
        ] {
            assert!(differs(has, more).contains(word), "{has} {more}: {}", differs(has, more));
        }
        let same =
            r#"{"token_policies":["default","app"],"token_ttl":3600,"token_bound_cidrs":["10.0.0.1"]}"#;
        assert_eq!(differs(same, r#","ttl":"1h","bound_cidrs":["10.0.0.1/32"]"#), "");
    }

    #[test]
    fn a_user_that_may_log_in_from_nowhere_is_disabled() {
        let life = |cidrs: &str| user(&format!(r#"{{"token_bound_cidrs":{cidrs}}}"#)).life();
        assert_eq!(life(r#"["255.255.255.255"]"#), Life::Disabled);
        assert_eq!(life(r#"["255.255.255.255/32"]"#), Life::Disabled);
        assert_eq!(life(r#"["255.255.255.255","10.0.0.0/8"]"#), Life::Active);
        assert_eq!((life("[]"), life("null")), (Life::Active, Life::Active));
    }

    #[test]
    fn names_that_would_lead_elsewhere_are_none() {
        for good in ["a", "web-1.a_b", "_x", "app-0123"] {
            assert!(is_user(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a?b", "a b", "-a", "a-", "a%2fb", &"x".repeat(257)] {
            assert!(!is_user(bad), "{bad}");
        }
    }
}
