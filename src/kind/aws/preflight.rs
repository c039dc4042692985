//! Is this the right account, and may the operator do what the run will do.

use super::client::AwsClient;
use crate::clock::Clock;
use crate::domain::{Check, CheckVerdict, ErrorKind};
use crate::kind::clocks::skew;
use crate::provider::outcome::CallError;
use crate::text::sanitize;

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
    let key = client.key_in_use("sts:");
    let mut checks = vec![Check::pass("identity", format!("{}, with {key}", sanitize(&caller.arn)))];
    checks.push(match &client.settings.account {
        Some(wanted) if *wanted != caller.account => Check::fail(
            "account",
            ErrorKind::Invalid,
            format!(
                "{key} belongs to the account {}, not {wanted}; nothing was changed",
                sanitize(&caller.account)
            ),
            "use another profile (AWS_PROFILE), or correct `account` of the connection",
        ),
        Some(wanted) => Check::pass("account", format!("the account is {wanted}")),
        None => Check {
            hint: Some("set `account` of the connection in the runbook".to_owned()),
            ..Check::warn(
                "account",
                format!(
                    "the account is {}; the runbook does not say which it should be",
                    sanitize(&caller.account)
                ),
            )
        },
    });
    let place = client.place("sts:");
    checks.push(Check::pass("region", format!("the region is {} (STS at {place})", client.region())));
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
    /// The ARN of a user of this account that has no path.
    pub(super) fn user(&self, name: &str) -> String {
        let partition = self.arn.split(':').nth(1).filter(|part| !part.is_empty()).unwrap_or("aws");
        format!("arn:{partition}:iam::{}:user/{name}", self.account)
    }

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
    let what = "sts:GetCallerIdentity";
    let output = client
        .sts
        .get_caller_identity()
        .send()
        .await
        .map_err(|error| client.fault(&error, what).read_only())?;
    match (output.account, output.arn) {
        (Some(account), Some(arn)) => Ok(Caller { account, arn }),
        _ => Err(CallError::rejected(
            ErrorKind::NoAnswer,
            format!("the response to {what} at {} names no account", client.place(what)),
        )),
    }
}

/// What the run will do to one resource.
pub(super) struct Needs<'a> {
    /// The actions, as policies spell them.
    pub(super) actions: &'a [&'a str],
    /// The ARN that IAM is asked about; `*` where none is known. Never shown as something to grant.
    pub(super) resource: String,
    /// The ARN, or the pattern, that a policy would name.
    pub(super) granted: String,
    /// Where else a permission may come from: then a lack in the operator's own policies is only worth a word.
    pub(super) elsewhere: Option<&'static str>,
    /// What to know before the policy is used as it is printed, in brackets with a space before; or nothing.
    pub(super) caution: &'static str,
}

impl Needs<'_> {
    /// The policy that grants just these of the actions, after what there is to say of it.
    pub(super) fn policy(&self, actions: &[&str]) -> String {
        let policy = serde_json::json!({
            "Version": "2012-10-17",
            "Statement": [{ "Effect": "Allow", "Action": actions, "Resource": self.granted }],
        });
        format!("{}: {policy}", self.caution)
    }
}

/// Whether the operator may do these things, as far as IAM tells: all that is missing at once, with the
/// policy that grants it.
pub(super) async fn simulate(client: &AwsClient, needs: &Needs<'_>) -> Vec<Check> {
    const NAME: &str = "permissions";
    let caller = match caller(client).await {
        Ok(caller) => caller,
        Err(error) => return vec![failed(NAME, &error)],
    };
    let Some(principal) = caller.principal() else {
        return vec![Check::pass(NAME, "the account's root may do everything")];
    };
    let what = "iam:SimulatePrincipalPolicy";
    let answer = client
        .iam
        .simulate_principal_policy()
        .policy_source_arn(&principal)
        .set_action_names(Some(needs.actions.iter().map(|a| (*a).to_owned()).collect()))
        .resource_arns(&needs.resource)
        .send()
        .await;
    let answer = match answer.map_err(|error| client.fault(&error, what).read_only()) {
        Ok(answer) => answer,
        Err(error) if error.kind.is_transient() => return vec![failed(NAME, &error)],
        Err(error) => {
            let all = needs.policy(needs.actions);
            return vec![Check {
                hint: Some(format!(
                    "allow iam:SimulatePrincipalPolicy; the run itself needs this policy{all}"
                )),
                ..Check::warn(NAME, format!("cannot be checked in advance: {}", error.message))
            }];
        }
    };
    let decided = |wanted: &[&str]| -> Vec<&str> {
        let decision = |action: &str| {
            let results = answer.evaluation_results().iter();
            let mut of_it = results.filter(|result| result.eval_action_name().eq_ignore_ascii_case(action));
            of_it.next().map_or("", |result| result.eval_decision().as_str())
        };
        needs.actions.iter().copied().filter(|action| wanted.contains(&decision(action))).collect()
    };
    let (allowed, lacking) = (decided(&["allowed"]), decided(&["implicitDeny"]));
    let (denied, unsaid) = (decided(&["explicitDeny"]), decided(&[""]));
    let (on, whom) = (sanitize(&needs.resource), sanitize(&principal));
    let mut checks = Vec::new();
    let add = |actions: &[&str]| format!("add this policy to {whom}{}", needs.policy(actions));
    if !denied.is_empty() {
        let (also, then) = match &lacking[..] {
            [] => (String::new(), String::new()),
            some => (format!(", and not allowed {}", some.join(", ")), format!("; then {}", add(some))),
        };
        let detail = format!("{whom} is explicitly denied {}{also} on {on}", denied.join(", "));
        checks.push(Check::fail(
            NAME,
            ErrorKind::Denied,
            detail,
            format!("remove the denying statement{then}"),
        ));
    }
    match needs.elsewhere {
        _ if lacking.is_empty() || !denied.is_empty() => {}
        Some(elsewhere) => checks.push(Check {
            hint: Some(add(&lacking)),
            ..Check::warn(
                NAME,
                format!(
                    "the policies of {whom} do not allow {} on {on}; {elsewhere} may allow it",
                    lacking.join(", ")
                ),
            )
        }),
        None => {
            let detail = format!("{whom} is not allowed {} on {on}", lacking.join(", "));
            checks.push(Check::fail(NAME, ErrorKind::Denied, detail, add(&lacking)));
        }
    }
    if !unsaid.is_empty() {
        checks.push(Check::warn(NAME, format!("IAM does not say whether {} is allowed", unsaid.join(", "))));
    }
    if !allowed.is_empty() {
        checks.push(Check::pass(NAME, format!("allowed on {on}: {}", allowed.join(", "))));
    }
    checks
}

/// A read was refused: whatever else is missing is said first, at once.
pub(super) async fn refused(
    client: &AwsClient,
    needs: &Needs<'_>,
    name: &str,
    mut error: CallError,
) -> Vec<Check> {
    if error.kind != ErrorKind::Denied {
        return vec![failed(name, &error)];
    }
    let mut checks = simulate(client, needs).await;
    error.hint = Some(format!("the run needs this policy{}", needs.policy(needs.actions)));
    checks.push(failed(name, &error));
    checks
}

/// A failed call as a failed check.
pub(super) fn failed(name: &str, error: &CallError) -> Check {
    Check {
        verdict: CheckVerdict::Fail,
        hint: error.hint.clone(),
        kind: Some(error.kind),
        retry_after: error.retry_after,
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
