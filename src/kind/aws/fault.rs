//! What an error of the SDK's means.

use std::error::Error;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sts::config::http::HttpResponse;
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};

use super::client::AwsClient;
use super::innermost;
use crate::domain::ErrorKind;
use crate::provider::http::transport::{self, http_date};
use crate::provider::outcome::CallError;
use crate::text::sanitize;

/// The codes that mean "slow down" across AWS.
const THROTTLES: [&str; 12] = [
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "TooManyRequestsException",
    "TooManyUpdates",
    "RequestLimitExceeded",
    "BandwidthLimitExceeded",
    "SlowDown",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
];

/// The codes that mean that the keys are not accepted.
const BAD_KEYS: [&str; 4] =
    ["InvalidClientTokenId", "UnrecognizedClientException", "ExpiredToken", "ExpiredTokenException"];

/// The codes that mean that the signature does not belong to the key. It is checked after the key, and
/// regions learn a new key's two halves one after the other.
pub(super) const BAD_SIGNATURES: [&str; 2] = ["SignatureDoesNotMatch", "InvalidSignatureException"];

impl AwsClient {
    /// A call failed that changes something. `what` begins with the service's name and the action, as
    /// policies spell them.
    pub(super) fn fault<E>(&self, error: &SdkError<E, HttpResponse>, what: &str) -> CallError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let at = self.place(what);
        let error = fault(error, &format!("{what} at {at}"), action_of(what));
        match error.kind {
            ErrorKind::Refused if error.hint.is_none() => {
                let key = self.key_in_use(what);
                error.hint(format!(
                    "AWS does not accept {key}: it is unknown, inactive, deleted or expired; log in again, or set AWS_PROFILE"
                ))
            }
            _ => error,
        }
    }
}

/// The action that a call is named by.
fn action_of(what: &str) -> &str {
    what.split(' ').next().unwrap_or(what)
}

fn fault<E>(error: &SdkError<E, HttpResponse>, what: &str, action: &str) -> CallError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match error {
        SdkError::ConstructionFailure(_) => {
            CallError::rejected(ErrorKind::Invalid, format!("cannot make the request {what}: {}", why(error)))
        }
        SdkError::TimeoutError(_) if never_connected(error) => unreachable(error, what),
        SdkError::TimeoutError(_) => CallError::unknown(format!("{what} got no response in time")),
        SdkError::DispatchFailure(_) if never_connected(error) => unreachable(error, what),
        SdkError::DispatchFailure(_) if has::<CredentialsError>(error) => {
            CallError::rejected(ErrorKind::Local, format!("{what} could not be sent: {}", why(error))).hint(
                "`aws sts get-caller-identity` has to work: log in (`aws sso login`), or set AWS_PROFILE",
            )
        }
        // A connection that was closed without an answer is one of these, and no kind of the SDK's
        // tells it from a request that was never sent.
        SdkError::DispatchFailure(_) => CallError::unknown(format!("{what} got no response: {}", why(error))),
        SdkError::ResponseError(_) => {
            CallError::unknown(format!("the response to {what} was cut short or did not come from AWS"))
        }
        SdkError::ServiceError(service) => {
            let raw = service.raw();
            let (code, message) =
                (service.err().code().unwrap_or_default(), service.err().message().unwrap_or_default());
            let header = |name: &str| raw.headers().get(name);
            let error = by_code(code, raw.status().as_u16(), what, action, &sanitize(message));
            let wait = header("retry-after").and_then(|text| retry_after(text, header("date")));
            CallError { retry_after: wait, ..error }
                .request(header("x-amzn-requestid").or(header("x-amz-request-id")).map(sanitize))
        }
        _ => CallError::unknown(format!("{what}: {}", why(error))),
    }
}

fn by_code(code: &str, status: u16, what: &str, action: &str, message: &str) -> CallError {
    let text = match (code, message) {
        ("", "") => format!("{what} was answered with HTTP status {status}"),
        ("", message) => format!("{what} was answered with HTTP status {status}: {message}"),
        _ => format!("{what} was refused ({}): {message}", sanitize(code)),
    };
    let rejected = |kind| CallError::rejected(kind, text.trim_end_matches(": ").to_owned());
    match code {
        // Success with a body that the SDK cannot read: it may well have been done.
        _ if status < 400 => CallError::unknown(format!(
            "the response to {what} (HTTP status {status}) is not one that AWS gives"
        )),
        _ if THROTTLES.contains(&code) || status == 429 => rejected(ErrorKind::Throttled),
        _ if BAD_KEYS.contains(&code) => rejected(ErrorKind::Refused),
        _ if BAD_SIGNATURES.contains(&code) => rejected(ErrorKind::Refused).hint(
            "the secret access key does not belong to the access key's id, or the clock of this machine is wrong",
        ),
        "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" | "NotAuthorized" => {
            rejected(ErrorKind::Denied).hint(format!("ask for a policy that allows {action} on this resource"))
        }
        "DecryptionFailure" | "EncryptionFailure" | "KMSInvalidStateException" | "DisabledException" => {
            rejected(ErrorKind::Denied).hint(
                "the secret's KMS key cannot be used: enable it, or ask for kms:Decrypt and kms:GenerateDataKey on it",
            )
        }
        "InvalidKeyId" => rejected(ErrorKind::Denied).hint(
            "the parameter's KMS key cannot be used: enable it, or ask for kms:Decrypt and kms:Encrypt on it",
        ),
        "ResourceNotFoundException"
        | "NoSuchEntity"
        | "NoSuchEntityException"
        | "ParameterNotFound"
        | "ParameterVersionNotFound" => {
            rejected(ErrorKind::NotFound).hint("check the name, the account and the region")
        }
        "LimitExceeded"
        | "LimitExceededException"
        | "ParameterMaxVersionLimitExceeded"
        | "ParameterVersionLabelLimitExceeded" => rejected(ErrorKind::Limit),
        "ResourceExistsException" | "EntityAlreadyExists" | "ConcurrentModification" => {
            rejected(ErrorKind::Conflict)
        }
        "InvalidRequestException" if is_deleted(message) => rejected(ErrorKind::Invalid)
            .hint("it is scheduled for deletion; to keep it: `aws secretsmanager restore-secret`"),
        "RequestExpired" | "RequestTimeTooSkewed" => {
            rejected(ErrorKind::Invalid).hint("set the clock of this machine (NTP)")
        }
        _ if status == 403 => rejected(ErrorKind::Denied),
        _ if status >= 500 || status == 408 => CallError::unknown(text),
        _ => rejected(ErrorKind::Invalid),
    }
}

/// How long a server asks to wait. A date counts from that of the response itself, so that the clock of
/// this machine does not matter.
fn retry_after(text: &str, date: Option<&str>) -> Option<Duration> {
    transport::retry_after(text, || http_date(date?))
}

/// AWS' words for a secret in its deletion window differ between calls.
pub(super) fn is_deleted(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("deletion") || message.contains("deleted")
}

fn unreachable<E: Error + 'static>(error: &SdkError<E, HttpResponse>, what: &str) -> CallError {
    CallError::rejected(ErrorKind::Unreachable, format!("{what}: cannot connect: {}", why(error))).hint(
        "check the network, the region, the endpoint (`endpoint_url`, AWS_ENDPOINT_URL) and the proxy (HTTPS_PROXY)",
    )
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
    sanitize(&innermost(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coded(code: &str, status: u16, message: &str) -> CallError {
        by_code(code, status, "iam:X for the user u at h", "iam:X", message)
    }

    #[test]
    fn codes_become_kinds() {
        let kind = |code, status| coded(code, status, "").kind;
        assert_eq!(kind("ThrottlingException", 400), ErrorKind::Throttled);
        assert_eq!(kind("AccessDenied", 403), ErrorKind::Denied);
        assert_eq!(kind("DecryptionFailure", 400), ErrorKind::Denied);
        assert_eq!(kind("InvalidClientTokenId", 403), ErrorKind::Refused);
        assert_eq!(kind("LimitExceeded", 409), ErrorKind::Limit);
        assert_eq!(kind("ParameterMaxVersionLimitExceeded", 400), ErrorKind::Limit);
        assert_eq!(kind("ParameterVersionNotFound", 400), ErrorKind::NotFound);
        assert_eq!(kind("InvalidKeyId", 400), ErrorKind::Denied);
        assert_eq!(kind("ResourceNotFoundException", 400), ErrorKind::NotFound);
        assert_eq!(kind("", 418), ErrorKind::Invalid);
    }

    #[test]
    fn a_server_error_leaves_doubt_and_a_rejection_does_not() {
        assert!(coded("InternalServiceError", 500, "").in_doubt);
        assert!(coded("", 503, "").in_doubt);
        assert!(!coded("AccessDenied", 403, "").in_doubt);
        assert!(!coded("ThrottlingException", 400, "").in_doubt);
    }

    #[test]
    fn a_deleted_secret_says_how_it_comes_back() {
        let error =
            coded("InvalidRequestException", 400, "You can't do this because it was marked for deletion.");
        assert!(error.hint.expect("hint").contains("restore-secret"));
    }

    #[test]
    fn a_refusal_names_the_action_and_quotes_the_server() {
        let error = coded("AccessDenied", 403, "a boundary forbids it");
        assert!(error.message.contains("iam:X for the user u at h"), "{error}");
        assert!(error.message.contains("a boundary forbids it"), "{error}");
        assert!(error.hint.expect("hint").contains("allows iam:X"));
    }

    #[test]
    fn a_wait_is_told_in_seconds_or_as_a_date() {
        let date = Some("Thu, 26 Nov 2026 15:00:00 GMT");
        let wait = |text| retry_after(text, date).map(|wait| wait.as_secs());
        assert_eq!(wait("7"), Some(7));
        assert_eq!(wait(" Thu, 26 Nov 2026 15:00:30 GMT "), Some(30));
        assert_eq!(wait("Thu, 26 Nov 2026 14:00:00 GMT"), Some(0), "already over");
        assert_eq!(wait("99999999"), Some(3600), "bounded");
        assert_eq!(wait("soon"), None);
        assert_eq!(retry_after("Thu, 26 Nov 2026 15:00:30 GMT", None), None, "without a clock");
    }
}
