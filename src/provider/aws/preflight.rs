//! Is this the right account, and may the operator do what the run will do.

use super::client::AwsClient;
use super::fault::fault;
use crate::clock::Clock;
use crate::provider::outcome::{CallError, Kind, tame};
use crate::provider::vault::skew;
use crate::provider::{Check, CheckVerdict};

/// Looks, read-only, at the account and at the operator.
pub async fn preflight(client: &AwsClient, clock: &dyn Clock) -> Vec<Check> {
    if let Err(error) = client.own_key_id().await {
        return vec![failed("identity", &error)];
    }
    let caller = match caller(client).await {
        Ok(caller) => caller,
        Err(error) => return vec![failed("identity", &error)],
    };
    let now = clock.now().wall;
    let mut checks = vec![Check::pass("identity", tame(&caller.arn))];
    checks.push(match &client.settings.account {
        Some(wanted) if *wanted != caller.account => Check::fail(
            "account",
            Kind::Invalid,
            format!("these credentials belong to the account {}, not {wanted}", tame(&caller.account)),
            "use another profile (AWS_PROFILE), or correct `account`: nothing was written",
        ),
        Some(wanted) => Check::pass("account", format!("the account is {wanted}")),
        None => Check {
            hint: Some("set `account` of the connection in the runbook".to_owned()),
            ..Check::warn(
                "account",
                format!(
                    "the account is {}; the runbook does not say which it should be",
                    tame(&caller.account)
                ),
            )
        },
    });
    checks.push(Check::pass("region", format!("the region is {}", client.region())));
    checks.push(skew("AWS", client.date(), now));
    checks
}

/// Who the operator is.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) account: String,
    pub(super) arn: String,
}

impl Caller {
    /// The identity whose policies count: an assumed role's is the role's.
    fn principal(&self) -> Option<String> {
        if self.arn.ends_with(":root") {
            return None;
        }
        let Some(session) = self.arn.split(":assumed-role/").nth(1) else { return Some(self.arn.clone()) };
        let role = session.split('/').next()?;
        let partition = self.arn.split(':').nth(1)?;
        // A role's path is not in the session's name; one with a path is not found, which only warns.
        Some(format!("arn:{partition}:iam::{}:role/{role}", self.account))
    }
}

pub(super) async fn caller(client: &AwsClient) -> Result<Caller, CallError> {
    let what = format!("sts:GetCallerIdentity at {}", client.place());
    let output =
        client.sts.get_caller_identity().send().await.map_err(|error| fault(&error, &what).read_only())?;
    match (output.account, output.arn) {
        (Some(account), Some(arn)) => Ok(Caller { account, arn }),
        _ => Err(CallError::rejected(Kind::NoAnswer, format!("{what} told neither account nor name"))),
    }
}

/// Whether the operator may do these things, as far as IAM tells. `elsewhere` says where else a
/// permission may come from: then a lack here is only worth a word.
pub(super) async fn simulate(
    client: &AwsClient,
    actions: &[&str],
    resource: Option<&str>,
    elsewhere: Option<&str>,
) -> Vec<Check> {
    let unsure =
        |why: String| vec![Check::warn("permissions", format!("cannot be checked beforehand: {why}"))];
    let caller = match caller(client).await {
        Ok(caller) => caller,
        Err(error) => return vec![failed("permissions", &error)],
    };
    let Some(principal) = caller.principal() else {
        return vec![Check::pass("permissions", "the account's root may do everything")];
    };
    let answer = client
        .iam
        .simulate_principal_policy()
        .policy_source_arn(principal)
        .set_action_names(Some(actions.iter().map(|a| (*a).to_owned()).collect()))
        .set_resource_arns(resource.map(|arn| vec![arn.to_owned()]))
        .send()
        .await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return unsure(fault(&error, "iam:SimulatePrincipalPolicy").message),
    };
    actions
        .iter()
        .map(|action| {
            let name = format!("permission {action}");
            let decision = answer
                .evaluation_results()
                .iter()
                .find(|result| result.eval_action_name().eq_ignore_ascii_case(action))
                .map(|result| result.eval_decision().as_str());
            match (decision, elsewhere) {
                (Some("allowed"), _) => Check::pass(name, "allowed"),
                (Some("implicitDeny"), Some(elsewhere)) => {
                    Check::warn(name, format!("the operator's own policies do not allow it; {elsewhere} may"))
                }
                (Some(denied), _) => Check::fail(
                    name,
                    Kind::Denied,
                    format!("not allowed ({})", tame(denied)),
                    format!("ask for a policy that allows {action} on {}", resource.unwrap_or("*")),
                ),
                (None, _) => Check::warn(name, "IAM does not say"),
            }
        })
        .collect()
}

/// A failed call as a failed check.
pub(super) fn failed(name: &str, error: &CallError) -> Check {
    Check {
        verdict: CheckVerdict::Fail,
        hint: error.hint.clone().or_else(|| Some("see the message, then plan again".to_owned())),
        kind: Some(error.kind),
        ..Check::pass(name, error.message.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(arn: &str) -> Option<String> {
        Caller { account: "123456789012".to_owned(), arn: arn.to_owned() }.principal()
    }

    #[test]
    fn a_session_stands_for_its_role() {
        assert_eq!(
            principal("arn:aws-cn:sts::123456789012:assumed-role/ops/alice").as_deref(),
            Some("arn:aws-cn:iam::123456789012:role/ops")
        );
        let user = "arn:aws:iam::123456789012:user/alice";
        assert_eq!(principal(user).as_deref(), Some(user));
        assert_eq!(principal("arn:aws:iam::123456789012:root"), None);
    }
}
