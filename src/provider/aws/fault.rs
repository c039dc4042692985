//! What an error of the SDK's means.

use std::error::Error;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sts::config::http::HttpResponse;
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};

use super::client::innermost;
use crate::provider::outcome::{CallError, Kind, tame};

/// The codes that mean "slow down" across AWS.
const THROTTLES: [&str; 10] = [
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "SlowDown",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
];

/// The codes that mean that the keys are not accepted.
const BAD_KEYS: [&str; 4] =
    ["InvalidClientTokenId", "UnrecognizedClientException", "ExpiredToken", "ExpiredTokenException"];

/// A call that changes something failed.
pub(super) fn fault<E>(error: &SdkError<E, HttpResponse>, what: &str) -> CallError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match error {
        SdkError::ConstructionFailure(_) => {
            CallError::rejected(Kind::Invalid, format!("cannot make the request {what}: {}", why(error)))
        }
        SdkError::TimeoutError(_) if never_connected(error) => unreachable(error, what),
        SdkError::TimeoutError(_) => CallError::unknown(format!("{what} had no answer in time")),
        SdkError::DispatchFailure(_) if never_connected(error) => unreachable(error, what),
        SdkError::DispatchFailure(_) if has::<CredentialsError>(error) => {
            CallError::rejected(Kind::Local, format!("{what} could not be sent: {}", why(error))).hint(
                "`aws sts get-caller-identity` has to work: log in (`aws sso login`), or set AWS_PROFILE",
            )
        }
        // A connection that was closed without an answer is one of these, and no kind of the SDK's
        // tells it from a request that was never sent.
        SdkError::DispatchFailure(_) => CallError::unknown(format!("{what} had no answer: {}", why(error))),
        SdkError::ResponseError(_) => {
            CallError::unknown(format!("the answer to {what} broke off, or is no answer of AWS'"))
        }
        SdkError::ServiceError(service) => {
            let raw = service.raw();
            let (code, message) =
                (service.err().code().unwrap_or_default(), service.err().message().unwrap_or_default());
            let header = |name: &str| raw.headers().get(name);
            let error = by_code(code, raw.status().as_u16(), what, &tame(message));
            let wait = header("retry-after").and_then(|s| s.trim().parse().ok()).map(Duration::from_secs);
            CallError { retry_after: wait, ..error }
                .request(header("x-amzn-requestid").or(header("x-amz-request-id")).map(tame))
        }
        _ => CallError::unknown(format!("{what}: {}", why(error))),
    }
}

fn by_code(code: &str, status: u16, what: &str, message: &str) -> CallError {
    let text = match (code, message) {
        ("", "") => format!("{what} was answered with {status}"),
        _ => format!("{what} was refused ({}): {message}", tame(code)),
    };
    let rejected = |kind| CallError::rejected(kind, text.trim_end_matches(": ").to_owned());
    match code {
        // Success with a body that the SDK cannot read: it may well have been done.
        _ if status < 400 => {
            CallError::unknown(format!("the answer to {what} ({status}) is not what AWS answers"))
        }
        _ if THROTTLES.contains(&code) || status == 429 => rejected(Kind::Throttled),
        _ if BAD_KEYS.contains(&code) => rejected(Kind::Refused).hint(
            "the AWS credentials are not accepted: unknown, inactive, deleted or expired; log in again",
        ),
        "SignatureDoesNotMatch" | "InvalidSignatureException" => rejected(Kind::Refused)
            .hint("the secret key does not belong to the key's id, or this machine's clock is wrong"),
        "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" | "NotAuthorized" => {
            rejected(Kind::Denied).hint("ask for a policy that allows this action on this resource")
        }
        "ResourceNotFoundException" | "NoSuchEntity" | "NoSuchEntityException" => {
            rejected(Kind::NotFound).hint("check the name, the account and the region")
        }
        "LimitExceeded" | "LimitExceededException" => rejected(Kind::Limit),
        "ResourceExistsException" | "EntityAlreadyExists" | "ConcurrentModification" => {
            rejected(Kind::Conflict)
        }
        "InvalidRequestException" if is_deleted(message) => rejected(Kind::Invalid)
            .hint("it is scheduled for deletion; to keep it: `aws secretsmanager restore-secret`"),
        "RequestExpired" | "RequestTimeTooSkewed" => {
            rejected(Kind::Invalid).hint("set this machine's clock (NTP)")
        }
        _ if status == 403 => rejected(Kind::Denied),
        _ if status >= 500 || status == 408 => CallError::unknown(text),
        _ => rejected(Kind::Invalid),
    }
}

/// AWS' words for a secret in its deletion window differ between calls.
pub(super) fn is_deleted(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("deletion") || message.contains("deleted")
}

fn unreachable<E: Error + 'static>(error: &SdkError<E, HttpResponse>, what: &str) -> CallError {
    CallError::rejected(Kind::Unreachable, format!("{what}: cannot connect: {}", why(error)))
        .hint("check the network, the region and `endpoint_url`")
}

/// Whether it failed before a connection stood. The SDK has no word for that of its own; the HTTP
/// client below it marks these errors, and everything unmarked counts as sent.
fn never_connected<E: Error + 'static>(error: &SdkError<E, HttpResponse>) -> bool {
    let mut next: Option<&dyn Error> = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::ConnectionRefused
        {
            return true;
        }
        let text = error.to_string();
        if text.contains("client error (Connect)")
            || text.starts_with("dns error")
            || text.starts_with("HTTP connect timeout")
        {
            return true;
        }
        next = error.source();
    }
    false
}

/// Whether an error of this type is among the causes.
fn has<T: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    error.is::<T>() || error.source().is_some_and(has::<T>)
}

fn why<E: Error + 'static>(error: &SdkError<E, HttpResponse>) -> String {
    tame(&innermost(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_become_kinds() {
        let kind = |code, status, message| by_code(code, status, "x", message).kind;
        assert_eq!(kind("ThrottlingException", 400, ""), Kind::Throttled);
        assert_eq!(kind("AccessDenied", 403, ""), Kind::Denied);
        assert_eq!(kind("InvalidClientTokenId", 403, ""), Kind::Refused);
        assert_eq!(kind("LimitExceeded", 409, ""), Kind::Limit);
        assert_eq!(kind("ResourceNotFoundException", 400, ""), Kind::NotFound);
        assert_eq!(kind("", 418, ""), Kind::Invalid);
    }

    #[test]
    fn a_server_error_leaves_doubt_and_a_rejection_does_not() {
        assert!(by_code("InternalServiceError", 500, "x", "").in_doubt);
        assert!(by_code("", 503, "x", "").in_doubt);
        assert!(!by_code("AccessDenied", 403, "x", "").in_doubt);
        assert!(!by_code("ThrottlingException", 400, "x", "").in_doubt);
    }

    #[test]
    fn a_deleted_secret_says_how_it_comes_back() {
        let error = by_code(
            "InvalidRequestException",
            400,
            "x",
            "You can't do this because it was marked for deletion.",
        );
        assert!(error.hint.expect("hint").contains("restore-secret"));
    }
}
