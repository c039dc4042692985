//! What the operator may do: asked for many paths at once, and what is missing named at once.

use std::collections::BTreeMap;

use rustify::enums::RequestMethod;
use serde_json::{Value, json};

use super::acl::Acl;
use super::client::{Effect, VaultClient, data};
use crate::domain::{Check, ErrorKind};
use crate::provider::outcome::CallError;
use crate::text::sanitize_long;

const CAPABILITIES: &str = "sys/capabilities-self";
const ACL: &str = "sys/internal/ui/resultant-acl";

/// Something that a later step does.
pub(super) struct Need {
    pub(super) path: String,
    /// Any of these suffices; to list, all of them are needed.
    pub(super) capabilities: &'static [&'static str],
    /// Whether it lists. Servers take a rule with a slash at its end as well as one without.
    lists: bool,
    /// What it is for.
    pub(super) why: &'static str,
    /// The parameters that the request sends.
    pub(super) sends: Vec<&'static str>,
    /// What a policy names where the path is one of many, of which the next run uses another.
    pattern: Option<String>,
}

impl Need {
    pub(super) fn new(
        path: impl Into<String>,
        capabilities: &'static [&'static str],
        why: &'static str,
    ) -> Self {
        Self { path: path.into(), capabilities, lists: false, why, sends: Vec::new(), pattern: None }
    }

    /// To list what is at a path. The accessors of tokens need `sudo` as well.
    pub(super) fn listing(
        path: impl Into<String>,
        capabilities: &'static [&'static str],
        why: &'static str,
    ) -> Self {
        Self { lists: true, ..Self::new(path, capabilities, why) }
    }

    /// The path stands for all that begin so: each run uses another one.
    #[must_use]
    pub(super) fn of_all(self, pattern: &str) -> Self {
        Self { pattern: Some(pattern.to_owned()), ..self }
    }

    /// What a policy names.
    fn shown(&self) -> &str {
        self.pattern.as_deref().unwrap_or(&self.path)
    }

    /// The paths to ask about.
    fn paths(&self) -> Vec<String> {
        let slash = self.lists.then(|| format!("{}/", self.path));
        std::iter::once(self.path.clone()).chain(slash).collect()
    }

    /// Whether what is held on one of these paths suffices.
    fn is_met(&self, held: &[Vec<String>]) -> bool {
        held.iter().any(|held| {
            let mut needed = self.capabilities.iter();
            if self.lists { needed.all(|c| holds(held, c)) } else { needed.any(|c| holds(held, c)) }
        })
    }

    #[must_use]
    pub(super) fn sending(self, sends: &[&'static str]) -> Self {
        Self { sends: sends.to_vec(), ..self }
    }
}

/// Checks every need, and names all that is missing in one check, with the policy that grants just that.
pub(super) async fn check(client: &VaultClient, what: &str, needs: &[Need]) -> Check {
    let name = format!("permissions for {what}");
    let paths: Vec<String> = needs.iter().flat_map(Need::paths).collect();
    let asked: Vec<&str> = paths.iter().map(String::as_str).collect();
    let (held, acl) = tokio::join!(capabilities(client, &asked), acl(client));
    let mut rest = match &held {
        Ok(held) => held.as_slice(),
        Err(error) if error.kind == ErrorKind::Denied => {
            return Check::warn(name, "Vault does not tell this token what it may do");
        }
        Err(error) => return error.to_check(&name),
    };
    let mut missing = Vec::new();
    let mut policy: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut narrow = Vec::new();
    for need in needs {
        let held;
        (held, rest) = rest.split_at(need.paths().len().min(rest.len()));
        if !need.is_met(held) {
            missing.push(format!("{} ({})", need.why, need.shown()));
            let wanted = &need.capabilities[..if need.lists { need.capabilities.len() } else { 1 }];
            policy.entry(need.shown()).or_default().extend(wanted);
        } else if !need.sends.is_empty()
            && !held.iter().any(|held| holds(held, "root"))
            && let Some(why) = acl.as_ref().and_then(|acl| acl.forbids(&need.path, &need.sends))
        {
            missing.push(format!("{why} to {}", need.shown()));
            narrow.push(need.shown());
        }
    }
    if missing.is_empty() {
        return Check::pass(name, "has all that it needs");
    }
    let mut hint = Vec::new();
    if !policy.is_empty() {
        hint.push("add to the policy of stanch's token:".to_owned());
        hint.extend(policy.iter().map(|(path, capabilities)| {
            format!("path \"{path}\" {{ capabilities = [\"{}\"] }}", capabilities.join("\", \""))
        }));
    }
    if !narrow.is_empty() {
        hint.push(format!(
            "take `allowed_parameters`, `denied_parameters` and `required_parameters` off the policy's {}",
            narrow.join(", ")
        ));
    }
    // All of it: whoever adds what is missing does that once.
    let detail = sanitize_long(&format!("the token may not {}", missing.join("; ")));
    Check { detail, ..Check::fail(name, ErrorKind::Denied, "", hint.join(" ")) }
}

/// What the operator may do on each path, in the order of the paths.
pub(super) async fn capabilities(
    client: &VaultClient,
    paths: &[&str],
) -> Result<Vec<Vec<String>>, CallError> {
    client
        .facts
        .held
        .get(paths, |all| async move {
            let body = json!({ "paths": all }).to_string().into_bytes();
            let reply = client.plain(RequestMethod::POST, CAPABILITIES, Some(body), Effect::Read).await?;
            let answer: Value = data(&reply, CAPABILITIES)?;
            let texts =
                |list: &Vec<Value>| list.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            Ok(all
                .iter()
                .map(|p| answer.get(p).and_then(Value::as_array).map(texts).unwrap_or_default())
                .collect())
        })
        .await
}

/// Whether the operator may list the accessors of tokens, or what else needs `sudo` for it.
pub(super) async fn may_list(client: &VaultClient, path: &str) -> Result<bool, CallError> {
    let need = Need::listing(path, &["list", "sudo"], "");
    let paths = need.paths();
    let asked: Vec<&str> = paths.iter().map(String::as_str).collect();
    Ok(need.is_met(&capabilities(client, &asked).await?))
}

/// What the policies say of parameters. Not every token may ask, and what cannot be asked says nothing.
async fn acl(client: &VaultClient) -> Option<&Acl> {
    let ask = || async {
        match client.plain(RequestMethod::GET, ACL, None, Effect::Read).await {
            Ok(reply) => Ok(data::<Acl>(&reply, ACL).ok()),
            Err(error) if error.kind.is_transient() => Err(error),
            Err(_) => Ok(None),
        }
    };
    client.facts.acl.get_or_try_init(ask).await.ok()?.as_ref()
}

/// Whether what is held covers what is needed; root may do everything.
pub(super) fn holds(held: &[String], needed: &str) -> bool {
    held.iter().any(|c| c == needed || c == "root")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_for_parameters_are_held_against_what_is_sent() {
        let acl: Acl = serde_json::from_value(json!({
            "root": false,
            "exact_paths": {
                "create": { "allowed_parameters": { "policies": [], "ttl": [] } },
                "any": { "allowed_parameters": { "*": [] } },
                "values": { "denied_parameters": { "ttl": ["999h"] } },
                "plain": { "capabilities": ["update"] },
            },
            "glob_paths": {
                "kv/": { "denied_parameters": { "options": [] } },
                "kv/deep/": { "required_parameters": ["reason"] },
            },
        }))
        .expect("rules");
        let forbids = |path, sends: &[&str]| acl.forbids(path, sends);
        assert_eq!(forbids("create", &["policies", "meta"]).as_deref(), Some("send the parameters meta"));
        assert_eq!(forbids("create", &["policies"]), None);
        assert_eq!(forbids("kv/app", &["data", "options"]).as_deref(), Some("send the parameters options"));
        assert_eq!(forbids("kv/deep/app", &["data"]).as_deref(), Some("leave out the parameters reason"));
        for path in ["any", "values", "plain", "unknown"] {
            assert_eq!(forbids(path, &["ttl"]), None, "{path}");
        }
        let everything: Acl =
            serde_json::from_value(json!({ "glob_paths": { "": { "denied_parameters": { "*": [] } } } }))
                .expect("rules");
        assert!(everything.forbids("x", &["a"]).is_some());
    }
}
