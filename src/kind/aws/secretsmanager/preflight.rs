//! What can be known of a secret before a run: whether every later step is permitted and can be made.

use aws_sdk_secretsmanager::operation::describe_secret::DescribeSecretOutput;

use super::checks::own_labels;
use super::server::SecretsManagerStore;
use crate::domain::{Check, ErrorKind};
use crate::kind::aws::preflight::{Needs, failed, refused, simulate};
use crate::provider::outcome::CallError;
use crate::provider::text::{Object, refuse_unclear};
use crate::secret::{Material, Secret};
use crate::text::sanitize;

/// How many bytes a secret's text may have.
const MAX_TEXT: usize = 65_536;
/// The length of an access key's secret: no part of a new value is taken to be shorter.
const LIKELY: usize = 40;

/// What a rotation does with a secret.
const ACTIONS: [&str; 4] = [
    "secretsmanager:DescribeSecret",
    "secretsmanager:GetSecretValue",
    "secretsmanager:PutSecretValue",
    "secretsmanager:UpdateSecretVersionStage",
];

impl SecretsManagerStore {
    /// Looks, read-only, at all that a run would meet.
    pub(in crate::kind::aws) async fn look(&self) -> Vec<Check> {
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
            Err(error) if error.kind == ErrorKind::Denied => {
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

    /// Refuses a text that AWS would not take any more with the new value in it, before there is a new value.
    fn refuse_long(&self, text: &Secret, now: &Material) -> Result<(), CallError> {
        let likely = now.parts().fold(Material::default(), |all, (part, value)| {
            all.with(part, Secret::new("x".repeat(value.expose().len().max(LIKELY))))
        });
        let size = self.encode(text, &likely)?.expose().len();
        if size <= MAX_TEXT {
            return Ok(());
        }
        let message = format!(
            "{}: with the new value the text would have about {size} bytes, and AWS takes {MAX_TEXT} at most; \
             the new value was taken to be as long as the old one, and to have {LIKELY} characters at least",
            self.secret
        );
        Err(CallError::rejected(ErrorKind::Invalid, message)
            .hint("remove what is not needed from the secret, or give the credential a secret of its own; then plan again"))
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
                ErrorKind::Invalid,
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
        self.refuse_long(&text, &now)?;
        let mut checks =
            vec![Check::pass(name, format!("the current version {} can be read", sanitize(current)))];
        let others = seen.version_ids_to_stages().into_iter().flatten();
        for (version, labels) in others.filter(|(id, _)| *id != current && !own_labels(seen, id).is_empty()) {
            if self.decode(&self.text(version).await?).is_ok_and(|held| held.same_as(&now)) {
                let detail = format!(
                    "{}: the version {} ({}) holds the same value as the current version and is not rotated; its readers keep the old value",
                    self.secret,
                    sanitize(version),
                    sanitize(&labels.join(", "))
                );
                checks.push(Check::warn("labels", detail));
            }
        }
        Ok(checks)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::kind::aws::AwsClient;
    use crate::provider::http::transport::Reply;
    use crate::provider::layout::Layout;

    /// What the rehearsal says of a secret whose old value is `old` and whose text has `size` bytes.
    async fn refused(old: &str, size: usize) -> Option<CallError> {
        let pad = "x".repeat(size - r#"{"a":"","pad":""}"#.len() - old.len());
        let text = format!(r#"{{"a":"{old}","pad":"{pad}"}}"#);
        assert_eq!(text.len(), size);
        let body = serde_json::json!({ "ARN": "arn:x", "VersionId": "v", "SecretString": text });
        let reply = Reply {
            status: http::StatusCode::OK,
            headers: http::HeaderMap::new(),
            body: body.to_string().into(),
        };
        let client = AwsClient::answering(("AKIAOPERATOR", &Secret::new("key")), vec![reply]);
        let layout = Layout::new(&["token"], Some("a"), &BTreeMap::new()).expect("layout");
        let store = SecretsManagerStore::new(Arc::new(client), "t/big".to_owned(), layout);
        let seen = DescribeSecretOutput::builder();
        let seen = seen.version_ids_to_stages("v", vec!["AWSCURRENT".to_owned()]).build();
        store.rehearse(&seen).await.err()
    }

    /// AWS refuses a longer text only when it is written, and then the new credential exists already.
    #[tokio::test]
    async fn a_text_that_would_become_too_long_is_refused_beforehand() {
        // A short old value: the new one has 40 characters.
        assert!(refused("old-aaaa", MAX_TEXT - 32).await.is_none());
        let error = refused("old-aaaa", MAX_TEXT - 31).await.expect("too long");
        assert!(error.message.contains("65537 bytes") && error.message.contains("65536"), "{error}");
        assert!(error.message.contains("as long as the old one"), "{error}");
        // A long one: the new one is as long.
        assert!(refused(&"o".repeat(95), MAX_TEXT).await.is_none());
    }
}
