//! The requests about one parameter, and what is read of their answers.

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::server::ParameterStore;
use crate::domain::ErrorKind;
use crate::kind::aws::json::Service;
use crate::provider::outcome::CallError;
use crate::provider::text::strings;
use crate::secret::Secret;

const SSM: Service = Service { id: "SSM", name: "ssm", target: "AmazonSSM" };

/// A page of a history has 50 versions, and a parameter keeps 100. A list that goes on for longer has no end.
const MAX_PAGES: usize = 10;

/// One version, with its value.
pub(super) struct Version {
    pub(super) number: u64,
    pub(super) text: Secret,
    pub(super) written: Option<Timestamp>,
    pub(super) arn: Option<String>,
}

/// What a history says of one version.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Described {
    pub(super) version: u64,
    #[serde(rename = "Type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) key_id: Option<String>,
    #[serde(default)]
    pub(super) last_modified_user: Option<String>,
    #[serde(default)]
    pub(super) description: Option<String>,
    #[serde(default)]
    pub(super) allowed_pattern: Option<String>,
    #[serde(default)]
    pub(super) labels: Vec<String>,
    #[serde(default)]
    pub(super) tier: Option<String>,
    #[serde(default)]
    pub(super) policies: Vec<Policy>,
    #[serde(default)]
    pub(super) data_type: Option<String>,
}

/// A policy of a parameter.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Policy {
    pub(super) policy_text: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Got {
    parameter: GotVersion,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GotVersion {
    version: u64,
    value: String,
    #[serde(default)]
    last_modified_date: Option<f64>,
    #[serde(default, rename = "ARN")]
    arn: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    parameters: Vec<Described>,
    #[serde(default)]
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Put {
    version: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Labelled {
    #[serde(default)]
    invalid_labels: Vec<String>,
}

impl Described {
    /// What a write must carry so that everything but the value stays: what it leaves out, AWS resets. Without a
    /// `KeyId` the value would be encrypted with another key, and without a `Tier` the account's default decides.
    pub(super) fn kept(&self) -> Map<String, Value> {
        let policies: Vec<&str> = self.policies.iter().map(|policy| policy.policy_text.as_str()).collect();
        let policies = (!policies.is_empty()).then(|| format!("[{}]", policies.join(",")));
        let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let all = [
            ("Type", Some(self.kind.clone())),
            ("Tier", some(&self.tier)),
            ("KeyId", some(&self.key_id)),
            ("Description", some(&self.description)),
            ("AllowedPattern", some(&self.allowed_pattern)),
            ("Policies", policies),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?)))).collect()
    }
}

impl ParameterStore {
    fn what(&self, action: &str) -> String {
        format!("ssm:{action} on {}", self.name)
    }

    /// What answered in AWS' place.
    pub(super) fn strange(&self, action: &str) -> CallError {
        let what = self.what(action);
        let message = format!("the response to {what} at {} did not come from AWS", self.client.place(&what));
        CallError::rejected(ErrorKind::NoAnswer, message)
    }

    async fn call<T: DeserializeOwned>(&self, action: &'static str, body: &Value) -> Result<T, CallError> {
        let body = Secret::new(body.to_string());
        let answer = self.client.json(&SSM, action, body, &self.what(action)).await?;
        // The error of the parser may quote a value.
        serde_json::from_str(answer.expose()).map_err(|_| self.strange(action).doubtful())
    }

    /// One version, or the current one.
    pub(super) async fn get(&self, version: Option<u64>) -> Result<Version, CallError> {
        const ACTION: &str = "GetParameter";
        let name = version.map_or_else(|| self.name.clone(), |version| format!("{}:{version}", self.name));
        let body = json!({ "Name": name, "WithDecryption": true });
        let Got { parameter } = self.call(ACTION, &body).await.map_err(CallError::read_only)?;
        let text = Secret::new(parameter.value);
        // What answers with another version than was asked for is not AWS.
        if parameter.version == 0 || version.is_some_and(|asked| asked != parameter.version) {
            return Err(self.strange(ACTION));
        }
        let written = parameter.last_modified_date.and_then(instant);
        Ok(Version { number: parameter.version, text, written, arn: parameter.arn })
    }

    /// What there is of versions, without their values; the newest is the last.
    pub(super) async fn history(&self) -> Result<Vec<Described>, CallError> {
        const ACTION: &str = "GetParameterHistory";
        let (mut all, mut next) = (Vec::new(), None::<String>);
        for _ in 0..MAX_PAGES {
            let mut body = json!({ "Name": self.name, "WithDecryption": false, "MaxResults": 50 });
            if let Some(token) = next {
                body["NextToken"] = token.into();
            }
            let page: Page = self.call(ACTION, &body).await.map_err(CallError::read_only)?;
            all.extend(page.parameters);
            next = page.next_token.filter(|token| !token.is_empty());
            if next.is_none() {
                all.sort_by_key(|version| version.version);
                return Ok(all);
            }
        }
        Err(self.strange(ACTION))
    }

    /// Writes a version, which is current at once. Everything else of the parameter is as `like` has it. Returns its
    /// number.
    pub(super) async fn put(&self, text: &Secret, like: &Described) -> Result<u64, CallError> {
        let mut body = Value::from(like.kept());
        body["Name"] = self.name.as_str().into();
        body["Value"] = text.expose().into();
        body["Overwrite"] = true.into();
        let put = self.call::<Put>("PutParameter", &body).await;
        // What was sent may be echoed, and the neighbours are secrets, too.
        put.map(|put| put.version).map_err(|error| error.scrubbed(&|said| strings(text).scrub(said)))
    }

    /// Moves labels to a version, from wherever they are.
    pub(super) async fn label(&self, version: u64, labels: &[&str]) -> Result<(), CallError> {
        let body = json!({ "Name": self.name, "ParameterVersion": version, "Labels": labels });
        let Labelled { invalid_labels } = self.call("LabelParameterVersion", &body).await?;
        if invalid_labels.is_empty() {
            return Ok(());
        }
        Err(self.conflict(format!("AWS does not move the labels {}", invalid_labels.join(", "))).doubtful())
    }
}

/// A time in seconds, with a fraction.
fn instant(seconds: f64) -> Option<Timestamp> {
    Timestamp::from_millisecond((seconds * 1000.0).round() as i64).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_carries_everything_that_is_to_stay() {
        let described: Described = serde_json::from_value(json!({
            "Version": 3, "Type": "SecureString", "Tier": "Advanced", "KeyId": "alias/app", "Description": "",
            "AllowedPattern": "^x", "Labels": ["prod"], "Value": "sealed", "DataType": "text",
            "Policies": [
                { "PolicyText": r#"{"Type":"Expiration"}"#, "PolicyType": "Expiration", "PolicyStatus": "Pending" },
                { "PolicyText": r#"{"Type":"NoChangeNotification"}"#, "PolicyType": "NoChangeNotification" },
            ],
        }))
        .expect("an entry");
        let kept = Value::from(described.kept());
        let wanted = json!({
            "Type": "SecureString", "Tier": "Advanced", "KeyId": "alias/app", "AllowedPattern": "^x",
            "Policies": r#"[{"Type":"Expiration"},{"Type":"NoChangeNotification"}]"#,
        });
        assert_eq!(kept, wanted);
    }
}
