//! What a secret has besides its value, and what that means for a run: labels of others, replicas, rotations
//! of others, its key. Pure: made from what `DescribeSecret` says.

use aws_sdk_secretsmanager::operation::describe_secret::DescribeSecretOutput;
use aws_sdk_secretsmanager::types::{ReplicationStatusType, StatusType};
use jiff::Timestamp;

use crate::domain::{Check, ErrorKind};
use crate::provider::outcome::CallError;
use crate::text::sanitize;

pub(in crate::kind::aws) const CURRENT: &str = "AWSCURRENT";
pub(in crate::kind::aws) const PREVIOUS: &str = "AWSPREVIOUS";
pub(in crate::kind::aws) const PENDING: &str = "AWSPENDING";

/// The versions that carry a label. More than one is a fault of the server, and is seen.
pub(in crate::kind::aws) fn labelled<'a>(description: &'a DescribeSecretOutput, label: &str) -> Vec<&'a str> {
    let mut ids: Vec<&str> = description
        .version_ids_to_stages()
        .into_iter()
        .flatten()
        .filter(|(_, stages)| stages.iter().any(|stage| stage == label))
        .map(|(id, _)| id.as_str())
        .collect();
    ids.sort_unstable();
    ids
}

/// The labels on a version that are neither AWS' nor a rotation's: others read the secret by them.
pub(in crate::kind::aws) fn own_labels<'a>(
    description: &'a DescribeSecretOutput,
    version: &str,
) -> Vec<&'a str> {
    let stages = description.version_ids_to_stages().and_then(|all| all.get(version));
    let mut labels: Vec<&str> = stages.into_iter().flatten().map(String::as_str).collect();
    labels.retain(|label| ![CURRENT, PREVIOUS, PENDING].contains(label));
    labels.sort_unstable();
    labels
}

/// A secret, as commands name it.
pub(in crate::kind::aws) struct Named<'a> {
    pub(in crate::kind::aws) secret: &'a str,
    pub(in crate::kind::aws) region: &'a str,
}

impl Named<'_> {
    /// A command about it, to type.
    pub(in crate::kind::aws) fn command(&self, action: &str, rest: &str) -> String {
        let command = format!(
            "aws secretsmanager {action} --secret-id {} --region {} {rest}",
            sanitize(self.secret),
            sanitize(self.region)
        );
        format!("`{}`", command.trim_end())
    }

    /// The refusal to touch a secret in which another rotation is under way.
    pub(in crate::kind::aws) fn pending_elsewhere(&self, version: &str) -> CallError {
        let version = sanitize(version);
        let message = format!(
            "{}: the version {version} carries {PENDING} and was not staged by this run: another rotation is under way; nothing was changed",
            sanitize(self.secret)
        );
        let rest = format!("--version-stage {PENDING} --remove-from-version-id {version}");
        CallError::rejected(ErrorKind::Conflict, message).hint(format!(
            "wait until that rotation ends, or if it is dead: {}",
            self.command("update-secret-version-stage", &rest)
        ))
    }

    /// What forbids a run, or is worth knowing.
    pub(in crate::kind::aws) fn checks(&self, description: &DescribeSecretOutput) -> Vec<Check> {
        let mut checks = Vec::new();
        checks.extend(self.managed(description));
        checks.extend(self.replica(description));
        checks.extend(description.replication_status().iter().map(|copy| self.copy(copy)));
        checks.extend(self.rotation(description));
        let current = labelled(description, CURRENT);
        for version in labelled(description, PENDING) {
            // What a promotion leaves that was cut off behind its move; staging takes it away.
            if !current.contains(&version) {
                let error = self.pending_elsewhere(version);
                let hint = error.hint.unwrap_or_default();
                checks.push(Check::fail("pending version", error.kind, error.message, hint));
            }
        }
        for version in current {
            let labels = own_labels(description, version);
            if !labels.is_empty() {
                let (labels, version) = (sanitize(&labels.join("`, `")), sanitize(version));
                checks.push(Check::warn(
                    "labels",
                    format!(
                        "{}: the current version {version} also carries `{labels}`; cutover moves that to the new version too, and a rollback moves it back",
                        self.secret
                    ),
                ));
            }
        }
        checks
    }

    /// A secret that another service of AWS made and rotates itself.
    fn managed(&self, description: &DescribeSecretOutput) -> Option<Check> {
        let service = sanitize(description.owning_service()?);
        Some(Check::fail(
            "managed secret",
            ErrorKind::Unsupported,
            format!("{} is managed by the service `{service}`, which alone may write it", self.secret),
            format!("rotate it there: {}", self.command("rotate-secret", "")),
        ))
    }

    fn replica(&self, description: &DescribeSecretOutput) -> Option<Check> {
        let primary = description.primary_region().filter(|primary| *primary != self.region)?;
        let primary = sanitize(primary);
        Some(Check::fail(
            "replica",
            ErrorKind::Unsupported,
            format!(
                "{} in {} is a replica, which cannot be written; its primary is in {primary}",
                self.secret, self.region
            ),
            format!("set `region: {primary}` of the connection in the runbook (or AWS_REGION={primary})"),
        ))
    }

    fn copy(&self, copy: &ReplicationStatusType) -> Check {
        let region = sanitize(copy.region().unwrap_or("an unnamed region"));
        let said = copy.status_message().map(|said| format!(": {}", sanitize(said))).unwrap_or_default();
        let name = format!("replica in {region}");
        match copy.status() {
            Some(StatusType::Failed) => Check::fail(
                name,
                ErrorKind::Conflict,
                format!(
                    "{} is not replicated to {region} (Failed{said}): consumers there would keep the old value",
                    self.secret
                ),
                format!(
                    "repair it, then plan again: {}, or take the region out: {}",
                    self.command(
                        "replicate-secret-to-regions",
                        &format!("--add-replica-regions Region={region} --force-overwrite-replica-secret")
                    ),
                    self.command(
                        "remove-regions-from-replication",
                        &format!("--remove-replica-regions {region}")
                    )
                ),
            ),
            status => Check::warn(
                name,
                format!(
                    "{} is replicated to {region} ({}{said}); consumers there get the new value some seconds after cutover",
                    self.secret,
                    status.map_or("status unknown", StatusType::as_str)
                ),
            ),
        }
    }

    fn rotation(&self, description: &DescribeSecretOutput) -> Option<Check> {
        if description.rotation_enabled() != Some(true) {
            return None;
        }
        let next = description.next_rotation_date().and_then(|at| Timestamp::from_second(at.secs()).ok());
        let next =
            next.map_or_else(|| "at a time that AWS does not say".to_owned(), |at| format!("next at {at}"));
        let by =
            description.rotation_lambda_arn().map(|arn| format!(" by {}", sanitize(arn))).unwrap_or_default();
        Some(Check {
            hint: Some(format!(
                "stop it for as long as the run lasts: {}; afterwards: {}",
                self.command("cancel-rotate-secret", ""),
                self.command("rotate-secret", "--no-rotate-immediately")
            )),
            ..Check::warn(
                "rotation",
                format!(
                    "{} is also rotated automatically{by}, {next}; that may change it during the run",
                    self.secret
                ),
            )
        })
    }

    /// Refuses while a region still hands out an older value: asked before the old one is refused for good.
    ///
    /// # Errors
    /// [`ErrorKind::NotReady`] while a copy is on its way; [`ErrorKind::Conflict`] when it failed.
    pub(in crate::kind::aws) fn in_sync(&self, description: &DescribeSecretOutput) -> Result<(), CallError> {
        for copy in description.replication_status() {
            if copy.status() == Some(&StatusType::InSync) {
                continue;
            }
            let check = self.copy(copy);
            let kind = if copy.status() == Some(&StatusType::Failed) {
                ErrorKind::Conflict
            } else {
                ErrorKind::NotReady
            };
            let hint = check.hint.unwrap_or_else(|| {
                format!("wait until it is InSync: {}", self.command("describe-secret", ""))
            });
            return Err(
                CallError::rejected(kind, format!("{}; nothing was changed", check.detail)).hint(hint)
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use aws_sdk_secretsmanager::primitives::DateTime;

    use super::*;
    use crate::domain::CheckVerdict;

    const NAMED: Named<'_> = Named { secret: "app/db", region: "eu-west-1" };

    fn copy(region: &str, status: StatusType) -> ReplicationStatusType {
        ReplicationStatusType::builder().region(region).status(status).status_message("Access to KMS").build()
    }

    fn versions(all: &[(&str, &[&str])]) -> HashMap<String, Vec<String>> {
        let owned = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).collect();
        all.iter().map(|(id, labels)| ((*id).to_owned(), owned(labels))).collect()
    }

    #[test]
    fn regions_are_named_and_a_failed_one_forbids_the_run() {
        let described = DescribeSecretOutput::builder()
            .primary_region("eu-west-1")
            .replication_status(copy("us-east-1", StatusType::Failed))
            .replication_status(copy("us-west-2", StatusType::InSync))
            .build();
        let checks = NAMED.checks(&described);
        assert_eq!(checks[0].verdict, CheckVerdict::Fail, "{checks:?}");
        assert!(checks[0].detail.contains("us-east-1") && checks[0].detail.contains("Access to KMS"));
        assert!(checks[0].hint.as_ref().is_some_and(|hint| hint.contains("replicate-secret-to-regions")));
        assert!(checks[1].verdict == CheckVerdict::Warn && checks[1].detail.contains("us-west-2"));
        assert_eq!(NAMED.in_sync(&described).expect_err("failed").kind, ErrorKind::Conflict);

        let late = DescribeSecretOutput::builder()
            .replication_status(copy("us-west-2", StatusType::InProgress))
            .build();
        let error = NAMED.in_sync(&late).expect_err("on its way");
        assert!(error.kind == ErrorKind::NotReady && error.message.contains("us-west-2"), "{error:?}");
        let there = DescribeSecretOutput::builder().replication_status(copy("a", StatusType::InSync)).build();
        assert!(NAMED.in_sync(&there).is_ok());
    }

    #[test]
    fn a_replica_is_refused_with_its_primary_and_a_managed_secret_with_its_owner() {
        let replica = DescribeSecretOutput::builder().primary_region("us-east-1").build();
        let checks = NAMED.checks(&replica);
        assert!(
            checks[0].verdict == CheckVerdict::Fail && checks[0].detail.contains("us-east-1"),
            "{checks:?}"
        );
        assert!(checks[0].hint.as_ref().is_some_and(|hint| hint.contains("region: us-east-1")));
        let managed = DescribeSecretOutput::builder().owning_service("rds").build();
        let checks = NAMED.checks(&managed);
        assert!(checks[0].verdict == CheckVerdict::Fail && checks[0].detail.contains("rds"), "{checks:?}");
    }

    #[test]
    fn a_rotation_of_others_is_named_with_its_date_and_what_stops_it() {
        let rotated = DescribeSecretOutput::builder()
            .rotation_enabled(true)
            .next_rotation_date(DateTime::from_secs(1_800_000_000))
            .build();
        let checks = NAMED.checks(&rotated);
        assert!(checks[0].detail.contains("2027-01-15T08:00:00Z"), "{checks:?}");
        assert!(checks[0].hint.as_ref().is_some_and(|hint| {
            hint.contains("aws secretsmanager cancel-rotate-secret --secret-id app/db --region eu-west-1`")
        }));
    }

    #[test]
    fn labels_of_others_are_named_and_a_strangers_pending_version_forbids_the_run() {
        let stages =
            versions(&[("v1", &[CURRENT, "prod", "blue"]), ("v2", &[PENDING]), ("v0", &[PREVIOUS, "x"])]);
        let described = DescribeSecretOutput::builder().set_version_ids_to_stages(Some(stages)).build();
        let checks = NAMED.checks(&described);
        let failed: Vec<_> = checks.iter().filter(|c| c.verdict == CheckVerdict::Fail).collect();
        assert!(failed.len() == 1 && failed[0].detail.contains("v2"), "{checks:?}");
        assert!(failed[0].hint.as_ref().is_some_and(|hint| hint.contains("--remove-from-version-id v2")));
        assert!(checks.iter().any(|c| c.detail.contains("v1 also carries `blue`, `prod`")), "{checks:?}");

        // A promotion that was cut off leaves its mark on what is current.
        let left = versions(&[("v1", &[CURRENT, PENDING])]);
        let described = DescribeSecretOutput::builder().set_version_ids_to_stages(Some(left)).build();
        assert_eq!(NAMED.checks(&described), []);
    }
}
