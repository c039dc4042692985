//! What can be known of a Secret before a run: whether every later step is permitted and can be made.

use super::object::{Found, Managed};
use super::server::SecretStore;
use super::writers;
use crate::domain::{Check, CheckVerdict, ErrorKind};
use crate::provider::outcome::CallError;
use crate::provider::text::refuse_unclear;

/// What a run does with the Secret.
const VERBS: [&str; 2] = ["get", "patch"];

impl SecretStore {
    /// Looks, read-only, at all that a run would meet.
    pub(super) async fn checks(&self) -> Vec<Check> {
        let name = format!("secret {}", self.shown());
        let (permissions, found, ends) = tokio::join!(self.permissions(), self.find(), self.namespace_ends());
        let may_not_read = permissions.verdict == CheckVerdict::Fail;
        let mut checks = vec![permissions];
        match ends {
            Ok(Some(false)) => {}
            Ok(Some(true)) => checks.push(Check::fail(
                format!("namespace {}", self.namespace),
                ErrorKind::Conflict,
                "the namespace is being deleted, and the Secret with it",
                "find out who deletes it; name a namespace that stays",
            )),
            Ok(None) => checks.push(Check {
                hint: Some(format!(
                    "to let stanch see it, add the rule {}",
                    self.rule("namespaces", &self.namespace, &["get"])
                )),
                ..Check::warn(
                    format!("namespace {}", self.namespace),
                    "stanch may not see whether the namespace is being deleted",
                )
            }),
            // A namespace that is not there has no Secret either, and that is said.
            Err(error) if error.kind == ErrorKind::NotFound => {}
            Err(error) => checks.push(error.to_check(&name)),
        }
        match found {
            Ok(found) => checks.extend(self.of(&found, &name)),
            // The permission that is missing is named already.
            Err(error) if error.kind == ErrorKind::Denied && may_not_read => {
                checks.push(Check::warn(name, "it may not be read"));
            }
            Err(error) => checks.push(error.to_check(&name)),
        }
        checks
    }

    fn of(&self, found: &Found, name: &str) -> Vec<Check> {
        let mut checks = match self.rehearse(found) {
            Ok(()) => vec![Check::pass(
                name,
                format!("it can be read; its resourceVersion is {}", found.metadata.resource_version),
            )],
            Err(error) => vec![error.to_check(name)],
        };
        let held: Vec<&Managed> = found.metadata.managed_fields.iter().filter(|m| self.holds(m)).collect();
        if !held.is_empty() && !self.force {
            checks.push(self.held(&held).to_check("field managers"));
        } else if !held.is_empty() {
            checks.push(Check::warn(
                "field managers",
                format!("{}; stanch takes it over, and that program may write the old value back, or fail until it is told to force its own", self.held(&held).message),
            ));
        }
        checks.extend(writers::warnings(&self.shown(), &found.metadata));
        checks
    }

    /// Makes the edit in memory.
    fn rehearse(&self, found: &Found) -> Result<(), CallError> {
        let held = self.material(found)?;
        refuse_unclear(&held).map_err(|error| CallError {
            message: format!("{}: {}", self.shown(), error.message),
            ..error
        })?;
        self.refuse_unfit(found, &self.texts(found, &self.stand_in())?)
    }

    /// Asks the server for each verb, and names the rule that adds what is missing.
    async fn permissions(&self) -> Check {
        let name = format!("permissions on secret {}", self.shown());
        let mut missing = Vec::new();
        for verb in VERBS {
            match self.client.may(verb, "secrets", &self.namespace, &self.name).await {
                Ok(true) => {}
                Ok(false) => missing.push(verb),
                Err(error) if error.kind == ErrorKind::Denied => {
                    return Check::warn(
                        name,
                        format!("the server does not say what stanch may do: {}", error.message),
                    );
                }
                Err(error) => return error.to_check(&name),
            }
        }
        if missing.is_empty() {
            return Check::pass(name, format!("stanch may {}", VERBS.join(" and ")));
        }
        Check::fail(
            name,
            ErrorKind::Denied,
            format!("stanch may not {} the Secret", missing.join(" and ")),
            format!(
                "add this rule to a Role in the namespace {} that is bound to stanch's user: {}",
                self.namespace,
                self.rule("secrets", &self.name, &missing)
            ),
        )
    }

    /// A rule of a Role, as YAML.
    fn rule(&self, resource: &str, name: &str, verbs: &[&str]) -> String {
        let verbs = verbs.join(", ");
        format!("`{{apiGroups: [\"\"], resources: [{resource}], resourceNames: [{name}], verbs: [{verbs}]}}`")
    }
}
