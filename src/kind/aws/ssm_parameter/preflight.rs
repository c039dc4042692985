//! What can be known of a parameter before a run: whether every later step is permitted and can be made.

use super::api::{Described, Version};
use super::server::ParameterStore;
use crate::domain::{Check, ErrorKind};
use crate::kind::aws::preflight::{Needs, caller, failed, refused, simulate};
use crate::provider::outcome::CallError;
use crate::provider::text::{Object, refuse_unclear};
use crate::secret::{Material, Secret};

/// The length of an access key's secret: no part of a new value is taken to be shorter.
const LIKELY: usize = 40;

/// What a rotation does with a parameter.
const ACTIONS: [&str; 4] =
    ["ssm:GetParameter", "ssm:GetParameterHistory", "ssm:PutParameter", "ssm:LabelParameterVersion"];

impl ParameterStore {
    /// Looks, read-only, at all that a run would meet.
    pub(super) async fn look(&self) -> Vec<Check> {
        let name = format!("parameter {}", self.name);
        let found = self.get(None).await;
        let arn = found.as_ref().ok().and_then(|seen| seen.arn.clone());
        let pattern = || {
            format!("arn:*:ssm:{}:*:parameter/{}", self.client.region(), self.name.trim_start_matches('/'))
        };
        let needs = Needs {
            actions: &ACTIONS,
            resource: arn.clone().unwrap_or_else(|| "*".to_owned()),
            granted: arn.clone().unwrap_or_else(pattern),
            elsewhere: None,
            caution: "",
        };
        let looked = match found {
            Ok(now) => self.history().await.map(|history| (now, history)),
            Err(error) => Err(error),
        };
        let (now, history) = match looked {
            Ok(looked) => looked,
            Err(error) => return refused(&self.client, &needs, &name, error).await,
        };
        let operator = caller(&self.client).await.ok().map(|caller| caller.arn);
        let mut checks = self.checks(&history, operator.as_deref(), self.client.date());
        match self.rehearse(&now, &history).await {
            Ok(more) => checks.extend(more),
            Err(error) => checks.push(failed(&name, &error)),
        }
        checks.extend(simulate(&self.client, &needs).await);
        if let (Some(seen), Some(arn)) = (history.last(), arn) {
            checks.extend(self.key(seen, &arn).await);
        }
        checks
    }

    /// Whether the key of one's own may be used. That of AWS is used by whoever may use the parameter.
    async fn key(&self, seen: &Described, arn: &str) -> Vec<Check> {
        let own = seen.key_id.as_deref().filter(|key| !key.is_empty() && !key.ends_with("alias/aws/ssm"));
        let Some(key) = own else { return Vec::new() };
        if key.contains("alias/") {
            let detail = format!(
                "{}: whether its KMS key can encrypt the new value cannot be checked, because it is named by an alias",
                self.name
            );
            return vec![Check::warn("KMS key", detail)];
        }
        let key = match key.starts_with("arn:") {
            true => key.to_owned(),
            // The key is of the parameter's own account and region: arn:PARTITION:ssm:REGION:ACCOUNT:…
            false => {
                let place: Vec<&str> = arn.split(':').collect();
                let part = |at: usize| place.get(at).copied().unwrap_or("*");
                format!("arn:{}:kms:{}:{}:key/{key}", part(1), part(3), part(4))
            }
        };
        let advanced = seen.tier.as_deref() == Some("Advanced");
        let needs = Needs {
            actions: &["kms:Decrypt", if advanced { "kms:GenerateDataKey" } else { "kms:Encrypt" }],
            resource: key.clone(),
            granted: key,
            elsewhere: Some("the policy of the KMS key"),
            caution: "",
        };
        simulate(&self.client, &needs).await
    }

    /// Makes the edit in memory, and looks for other versions that others read the same value from.
    async fn rehearse(&self, now: &Version, history: &[Described]) -> Result<Vec<Check>, CallError> {
        let name = format!("parameter {}", self.name);
        let Some(seen) = history.last().filter(|seen| seen.version == now.number) else {
            return Err(self.conflict("it was written while stanch looked at it; plan again"));
        };
        let held = self.decode(&now.text)?;
        refuse_unclear(&held).map_err(|error| self.about(error))?;
        if self.layout.is_whole() && held.parts().count() == 1 && Object::parse(now.text.expose()).is_ok() {
            let message =
                format!("{}: the value is a JSON object, and the runbook names no `field` of it", self.name);
            return Err(CallError::rejected(ErrorKind::Invalid, message).hint(
                "name the `field` that holds the credential: without one the whole object would be replaced",
            ));
        }
        self.encode(&now.text, &self.layout.stand_in())?;
        let likely = held.parts().fold(Material::default(), |all, (part, value)| {
            all.with(part, Secret::new("x".repeat(value.expose().len().max(LIKELY))))
        });
        let assumed = format!(
            " (the new value was taken to be as long as the old one, and to have {LIKELY} characters at least)"
        );
        self.refuse_unfit(&self.encode(&now.text, &likely)?, seen, &assumed)?;
        let mut checks = vec![Check::pass(name, format!("the current version {} can be read", now.number))];
        let mut followers = Vec::new();
        for version in history.iter().filter(|version| !version.labels.is_empty()) {
            match self.held(version.version).await? {
                Some(other) if other.same_as(&held) => followers.push(version),
                Some(_) => {}
                None => checks.push(Check::warn(
                    "labels",
                    format!(
                        "{}: version {} has labels and cannot be read: they stay there, and consumers that read by them keep its value",
                        self.name, version.version
                    ),
                )),
            }
        }
        checks.extend(self.followers(&followers));
        Ok(checks)
    }
}
