//! Failed checks as errors.

use crate::domain::{Check, CheckVerdict, ErrorKind};
use crate::provider::CallError;

/// Whether it may be gone when the look is taken again.
pub(super) fn may_pass(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Throttled | ErrorKind::NotReady | ErrorKind::NoAnswer)
}

/// The first failed check as an error.
pub(in crate::engine) fn first_failure(checks: &[Check]) -> Option<CallError> {
    let failed = checks.iter().find(|c| c.verdict == CheckVerdict::Fail)?;
    Some(error_of(failed, format!("{}: {}", failed.name, failed.detail)))
}

/// A failed check as an error.
pub(super) fn error_of(failed: &Check, message: String) -> CallError {
    let error = CallError::rejected(failed.kind.unwrap_or(ErrorKind::Invalid), message);
    CallError { hint: failed.hint.clone(), retry_after: failed.retry_after, ..error }
}

/// An error of a look, with every check that failed before it: all that is missing is named at once.
pub(super) fn with_failures(error: CallError, checks: &[Check]) -> CallError {
    let failed: Vec<&Check> = checks.iter().filter(|c| c.verdict == CheckVerdict::Fail).collect();
    let Some(first) = failed.first() else { return error };
    let join = |texts: Vec<String>| texts.join("; ");
    let message = join(failed.iter().map(|c| format!("{}: {}", c.name, c.detail)).collect());
    let hints = join(failed.iter().filter_map(|c| c.hint.clone()).filter(|h| !h.is_empty()).collect());
    let kind = first.kind.unwrap_or(error.kind);
    CallError { kind, message, hint: (!hints.is_empty()).then_some(hints).or(error.hint.clone()), ..error }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A server that asks to wait is waited for, though a check stands between its answer and the next try.
    #[test]
    fn the_time_that_a_server_asks_to_wait_outlives_its_check() {
        let limited = Check::fail("server", ErrorKind::Throttled, "limited", "wait");
        let asked = Some(Duration::from_secs(5));
        let error = first_failure(&[Check { retry_after: asked, ..limited }]).expect("a failure");
        assert_eq!((error.kind, error.retry_after), (ErrorKind::Throttled, asked));
    }
}
