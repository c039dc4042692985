//! Which versions of a secret are the run's own, by their ids.

use aws_sdk_secretsmanager::operation::describe_secret::DescribeSecretOutput;
use uuid::Uuid;

use crate::provider::CallContext;

/// The id of the version that is made from `current` for the version, or the call, `seed`: the same for
/// every attempt, and known again by whoever knows both.
pub(in crate::kind::aws) fn derived(seed: &str, current: &str) -> String {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("stanch {seed} {current}").as_bytes()).to_string()
}

/// Whether a version was staged as `staged`, or made in its place by a promotion that was cut off.
pub(in crate::kind::aws) fn is_ours(description: &DescribeSecretOutput, version: &str, staged: &str) -> bool {
    let all = description.version_ids_to_stages();
    version == staged || all.is_some_and(|all| all.keys().any(|base| derived(staged, base) == version))
}

/// Whether a version was staged by another step of this run.
pub(in crate::kind::aws) fn is_sibling(context: &CallContext, version: &str) -> bool {
    context.siblings.iter().any(|token| token.to_string() == version)
}
