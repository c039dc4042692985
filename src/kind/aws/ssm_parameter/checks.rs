//! What a parameter has besides its value, and what that means for a run: its type, policies and pattern, versions
//! and labels, who wrote it last. Pure: made from what a history says.

use jiff::Timestamp;
use serde_json::Value;

use super::api::Described;
use super::server::ParameterStore;
use crate::domain::{Check, ErrorKind};
use crate::provider::outcome::CallError;
use crate::secret::Secret;
use crate::text::sanitize;

/// How many versions AWS keeps.
const MAX_VERSIONS: usize = 100;
/// How many labels a version may have.
const MAX_LABELS: usize = 10;
/// What a run writes: the new value, and on the way back the old one.
const WRITES: usize = 2;

/// How many bytes a value may have in a tier.
fn most(tier: Option<&str>) -> usize {
    if tier == Some("Advanced") { 8192 } else { 4096 }
}

/// An ARN without what differs between the sessions of one role.
fn principal(arn: &str) -> &str {
    match arn.contains(":assumed-role/") {
        true => arn.rsplit_once('/').map_or(arn, |(role, _)| role),
        false => arn,
    }
}

impl ParameterStore {
    /// Refuses a text that AWS would not take. `assumed` says what its length was taken from.
    pub(super) fn refuse_unfit(
        &self,
        text: &Secret,
        seen: &Described,
        assumed: &str,
    ) -> Result<(), CallError> {
        let (size, most) = (text.expose().len(), most(seen.tier.as_deref()));
        let refused =
            |message: String| CallError::rejected(ErrorKind::Invalid, format!("{}: {message}", self.name));
        if size > most {
            let message = format!(
                "with the new value the text would have {size} bytes{assumed}, and its tier takes {most} at most"
            );
            return Err(refused(message).hint(
                "remove what is not needed from it, make it an advanced parameter (--tier Advanced), or give the credential a parameter of its own; then plan again",
            ));
        }
        if text.expose().contains("{{") {
            let message = "the text would hold `{{`, which AWS takes for a reference to another parameter";
            return Err(refused(message.to_owned()).hint("let the issuer make values without braces"));
        }
        Ok(())
    }

    /// What forbids a run, or is worth knowing. `history` is not empty; `operator` is who stanch works as, and `now`
    /// AWS' clock, where they are known.
    pub(super) fn checks(
        &self,
        history: &[Described],
        operator: Option<&str>,
        now: Option<Timestamp>,
    ) -> Vec<Check> {
        let Some(seen) = history.last() else { return Vec::new() };
        let mut checks = Vec::new();
        checks.extend(self.of_type(seen));
        checks.extend(seen.policies.iter().filter_map(|policy| self.of_policy(&policy.policy_text, now)));
        if let Some(pattern) = seen.allowed_pattern.as_deref().filter(|pattern| !pattern.is_empty()) {
            checks.push(Check::warn(
                "allowed pattern",
                format!(
                    "{}: AWS takes only values that match `{}`; if the new one does not, cutover fails and changes nothing",
                    self.name,
                    sanitize(pattern)
                ),
            ));
        }
        checks.extend(self.pruning(history));
        if let (Some(last), Some(operator)) = (seen.last_modified_user.as_deref(), operator)
            && principal(last) != principal(operator)
        {
            checks.push(Check::warn(
                "last writer",
                format!(
                    "version {} of {} was written by {}, not by the operator; if that is a program, it may write it again during the run",
                    seen.version,
                    self.name,
                    sanitize(last)
                ),
            ));
        }
        checks
    }

    fn of_type(&self, seen: &Described) -> Option<Check> {
        let refused = |detail: String| {
            let hint = "make a new parameter of type SecureString, and let consumers read that";
            Some(Check::fail("parameter type", ErrorKind::Unsupported, detail, hint))
        };
        if let Some(other) = seen.data_type.as_deref().filter(|data| !matches!(*data, "" | "text")) {
            let (name, other) = (&self.name, sanitize(other));
            return refused(format!("{name} has the data type `{other}`, whose values are not credentials"));
        }
        match seen.kind.as_str() {
            "SecureString" => None,
            "String" => Some(Check {
                hint: Some(
                    "make a new parameter of type SecureString and let consumers read that: AWS does not change a type"
                        .to_owned(),
                ),
                ..Check::warn(
                    "parameter type",
                    format!(
                        "{} is a `String`: its value is not encrypted: reading the parameter or its history needs no KMS key. The new value is written there too",
                        self.name
                    ),
                )
            }),
            other => refused(format!("{} is a `{}`, which does not hold a credential", self.name, sanitize(other))),
        }
    }

    fn of_policy(&self, text: &str, now: Option<Timestamp>) -> Option<Check> {
        let policy: Value = serde_json::from_str(text).ok()?;
        let (name, kind) = ("parameter policy", policy["Type"].as_str()?);
        if kind == "NoChangeNotification" {
            let detail = format!("{}: the write begins the period of its policy {kind} again", self.name);
            return Some(Check::pass(name, detail));
        }
        let at = policy["Attributes"]["Timestamp"].as_str().filter(|_| kind == "Expiration")?;
        let past = at.parse::<Timestamp>().ok().zip(now).is_some_and(|(at, now)| at <= now);
        let detail = format!("{}: its policy {kind} deletes it at {}", self.name, sanitize(at));
        let hint = "set a later time, or remove the policy (`aws ssm put-parameter … --policies`)";
        Some(match past {
            true => Check::fail(name, ErrorKind::Invalid, format!("{detail}, which is past"), hint),
            false => Check {
                hint: Some(hint.to_owned()),
                ..Check::warn(name, format!("{detail}, with the new value"))
            },
        })
    }

    /// AWS makes room for a new version by removing the oldest, and refuses while that has a label.
    fn pruning(&self, history: &[Described]) -> Option<Check> {
        let pruned = (history.len() + WRITES).saturating_sub(MAX_VERSIONS);
        let kept = history.iter().take(pruned).find(|version| !version.labels.is_empty())?;
        let labels = kept.labels.join(" ");
        let rest = format!("--parameter-version {} --labels {}", kept.version, sanitize(&labels));
        Some(Check::fail(
            "versions",
            ErrorKind::Limit,
            format!(
                "{} has {} versions of {MAX_VERSIONS}; the run writes up to {WRITES}, and AWS cannot remove version {}, which has labels",
                self.name,
                history.len(),
                kept.version
            ),
            format!(
                "move these labels to a newer version, or remove them: {}",
                self.command("unlabel-parameter-version", &rest)
            ),
        ))
    }

    /// The labels that follow the value: they are on versions that hold what the current one holds.
    pub(super) fn followers(&self, found: &[&Described]) -> Option<Check> {
        let labels: Vec<&str> = found.iter().flat_map(|v| v.labels.iter().map(String::as_str)).collect();
        let shown = sanitize(&labels.join("`, `"));
        match labels.len() {
            0 => None,
            n if n > MAX_LABELS => Some(Check::fail(
                "labels",
                ErrorKind::Limit,
                format!(
                    "{}: `{shown}` are on versions with the current value: {n} labels, and a version has {MAX_LABELS} at most",
                    self.name
                ),
                format!(
                    "remove labels that nothing reads: {}",
                    self.command("unlabel-parameter-version", "")
                ),
            )),
            _ => Some(Check::warn(
                "labels",
                format!(
                    "{}: versions with the current value have the labels `{shown}`; cutover moves them to the new version, and a rollback moves them back to the old value",
                    self.name
                ),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::super::api::Policy;
    use super::*;
    use crate::domain::CheckVerdict;
    use crate::kind::aws::AwsClient;
    use crate::provider::layout::Layout;

    fn store() -> ParameterStore {
        let client = AwsClient::answering(("AKIAOPERATOR", &Secret::new("key")), Vec::new());
        let layout = Layout::new(&["token"], Some("a"), &BTreeMap::new()).expect("layout");
        ParameterStore::new(Arc::new(client), "/app/key".to_owned(), layout).expect("a name")
    }

    fn version(number: u64, labels: &[&str]) -> Described {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        Described { version: number, kind: "SecureString".to_owned(), labels, ..Described::default() }
    }

    fn said(history: &[Described]) -> Vec<(CheckVerdict, String)> {
        let now = "2026-11-27T00:00:00Z".parse().ok();
        let checks = store().checks(history, Some("arn:aws:sts::1:assumed-role/ops/alice"), now);
        checks
            .into_iter()
            .map(|c| (c.verdict, format!("{} {}", c.detail, c.hint.unwrap_or_default())))
            .collect()
    }

    fn one(seen: Described, verdict: CheckVerdict, word: &str) {
        let said = said(&[seen]);
        assert!(said.len() == 1 && said[0].0 == verdict && said[0].1.contains(word), "{word}: {said:?}");
    }

    #[test]
    fn a_plain_parameter_says_nothing() {
        let seen = Described {
            data_type: Some("text".to_owned()),
            last_modified_user: Some("arn:aws:sts::1:assumed-role/ops/bob".to_owned()),
            ..version(1, &["prod"])
        };
        assert_eq!(said(&[seen]), []);
    }

    #[test]
    fn what_makes_a_parameter_unfit_or_unsafe_is_named() {
        let of = |kind: &str| Described { kind: kind.to_owned(), ..version(1, &[]) };
        one(of("String"), CheckVerdict::Warn, "not encrypted");
        one(of("StringList"), CheckVerdict::Fail, "StringList");
        let image = Described { data_type: Some("aws:ec2:image".to_owned()), ..of("String") };
        one(image, CheckVerdict::Fail, "aws:ec2:image");
        let policy = |text: &str| Described {
            policies: vec![Policy { policy_text: text.to_owned() }],
            ..version(1, &[])
        };
        let expires =
            |at: &str| policy(&format!(r#"{{"Type":"Expiration","Attributes":{{"Timestamp":"{at}"}}}}"#));
        one(expires("2027-01-01T00:00:00.000Z"), CheckVerdict::Warn, "2027-01-01");
        one(expires("2026-01-01T00:00:00.000Z"), CheckVerdict::Fail, "past");
        let quiet = r#"{"Type":"NoChangeNotification","Attributes":{"After":"20","Unit":"Days"}}"#;
        one(policy(quiet), CheckVerdict::Pass, "NoChangeNotification");
        let pattern = Described { allowed_pattern: Some("^x+$".to_owned()), ..version(1, &[]) };
        one(pattern, CheckVerdict::Warn, "^x+$");
        let other =
            Described { last_modified_user: Some("arn:aws:iam::1:user/ci".to_owned()), ..version(1, &[]) };
        one(other, CheckVerdict::Warn, "user/ci");
    }

    /// The new value and the way back are two versions: both need room.
    #[test]
    fn a_label_that_keeps_the_oldest_versions_forbids_a_run() {
        for (count, labelled, fails) in
            [(98, 1, false), (99, 1, true), (99, 2, false), (100, 2, true), (100, 3, false)]
        {
            let label = |n| if n == labelled { version(n, &["old"]) } else { version(n, &[]) };
            let history: Vec<_> = (1..=count).map(label).collect();
            let said = said(&history);
            assert_eq!(said.len(), usize::from(fails), "{count} {labelled}: {said:?}");
            assert!(said.iter().all(|(_, text)| text.contains("--parameter-version")), "{said:?}");
        }
    }

    #[test]
    fn labels_that_follow_are_named_and_eleven_do_not_fit() {
        let many: Vec<String> = (0..11).map(|n| format!("l{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let (store, two, eleven) = (store(), version(1, &["blue", "prod"]), version(2, &many));
        assert_eq!(store.followers(&[]), None);
        let named = store.followers(&[&two]).expect("a check");
        assert!(named.verdict == CheckVerdict::Warn && named.detail.contains("`blue`, `prod`"), "{named:?}");
        assert_eq!(store.followers(&[&eleven]).expect("a check").verdict, CheckVerdict::Fail);
    }

    #[test]
    fn what_aws_does_not_take_is_refused_beforehand() {
        let store = store();
        let (standard, advanced) =
            (version(1, &[]), Described { tier: Some("Advanced".to_owned()), ..version(1, &[]) });
        let fits = |text: String, seen| store.refuse_unfit(&Secret::new(text), seen, "").is_ok();
        assert!(fits("x".repeat(4096), &standard) && !fits("x".repeat(4097), &standard));
        assert!(fits("x".repeat(8192), &advanced) && !fits("x".repeat(8193), &advanced));
        assert!(!fits("a{{b}}".to_owned(), &standard) && fits(r#"{"a":{"b":1}}"#.to_owned(), &standard));
    }
}
