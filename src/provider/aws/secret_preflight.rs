//! What can be known of a secret before a run: whether every later step is permitted and can be made.

use aws_sdk_secretsmanager::operation::describe_secret::DescribeSecretOutput;

use super::preflight::{Needs, failed, refused, simulate};
use super::secret_checks::own_labels;
use super::secretsmanager::SecretsManagerStore;
use crate::provider::Check;
use crate::provider::outcome::{CallError, Kind, tame};
use crate::provider::text::{Object, refuse_unclear};

/// What a rotation does with a secret.
const ACTIONS: [&str; 4] = [
    "secretsmanager:DescribeSecret",
    "secretsmanager:GetSecretValue",
    "secretsmanager:PutSecretValue",
    "secretsmanager:UpdateSecretVersionStage",
];

impl SecretsManagerStore {
    /// Looks, read-only, at all that a run would meet.
    pub(super) async fn look(&self) -> Vec<Check> {
        let name = format!("secret {}", self.secret);
        let found = self.describe().await;
        let arn = found.as_ref().ok().and_then(|seen| seen.arn()).map(str::to_owned);
        let granted = arn.clone().unwrap_or_else(|| match self.secret.starts_with("arn:") {
            true => self.secret.clone(),
            false => format!("arn:*:secretsmanager:{}:*:secret:{}-??????", self.client.region(), self.secret),
        });
        let needs = Needs {
            actions: &ACTIONS,
            resource: arn.unwrap_or_else(|| "*".to_owned()),
            granted,
            elsewhere: Some("the secret's resource policy"),
            caution: "",
        };
        let described = match found {
            Ok(described) => described,
            Err(error) => return refused(&self.client, &needs, &name, error).await,
        };
        if let Err(error) = self.refuse_deleted(&described) {
            return vec![failed(&name, &error)];
        }
        let mut checks = self.named().checks(&described);
        match self.rehearse(&described).await {
            Ok(more) => checks.extend(more),
            Err(error) if error.kind == Kind::Denied => {
                checks.extend(refused(&self.client, &needs, &name, error).await);
                return checks;
            }
            Err(error) => checks.push(failed(&name, &error)),
        }
        checks.extend(simulate(&self.client, &needs).await);
        // A key of AWS' own is used by whoever may use the secret; another one has a policy of its own.
        if let Some(key) = described.kms_key_id().filter(|key| key.contains(":key/")) {
            let needs = Needs {
                actions: &["kms:Decrypt", "kms:GenerateDataKey"],
                resource: key.to_owned(),
                granted: key.to_owned(),
                elsewhere: Some("the policy of the KMS key"),
                caution: "",
            };
            checks.extend(simulate(&self.client, &needs).await);
        }
        checks
    }

    /// Makes the edit in memory, and looks for other versions that others read the same value from.
    async fn rehearse(&self, seen: &DescribeSecretOutput) -> Result<Vec<Check>, CallError> {
        let name = format!("secret {}", self.secret);
        let current = self.current(seen)?;
        let text = self.text(current).await?;
        let now = self.decode(&text)?;
        refuse_unclear(&now).map_err(|error| self.about(error))?;
        if self.layout.is_whole() && now.parts().count() == 1 && Object::parse(text.expose()).is_ok() {
            return Err(CallError::rejected(
                Kind::Invalid,
                format!(
                    "{}: the secret is a JSON object, and the runbook names no `field` of it",
                    self.secret
                ),
            )
            .hint(
                "name the `field` that holds the credential: without one the whole object would be replaced",
            ));
        }
        self.encode(&text, &self.layout.stand_in())?;
        let mut checks =
            vec![Check::pass(name, format!("the current version {} can be read", tame(current)))];
        let others = seen.version_ids_to_stages().into_iter().flatten();
        for (version, labels) in others.filter(|(id, _)| *id != current && !own_labels(seen, id).is_empty()) {
            if self.decode(&self.text(version).await?).is_ok_and(|held| held.same_as(&now)) {
                let detail = format!(
                    "{}: the version {} ({}) holds the same value as the current one and is not rotated; whoever reads it keeps the old value",
                    self.secret,
                    tame(version),
                    tame(&labels.join(", "))
                );
                checks.push(Check::warn("labels", detail));
            }
        }
        Ok(checks)
    }
}
