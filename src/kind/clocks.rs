//! The clock of a server, held against this machine's.

use jiff::{SignedDuration, Timestamp};

use crate::domain::{Check, ErrorKind};

/// Dates have whole seconds and travel: less than this says nothing.
const SKEW_WARN: SignedDuration = SignedDuration::from_secs(2);
/// With more than this, times to live and the journal's times cannot be relied on.
const SKEW_FAIL: SignedDuration = SignedDuration::from_secs(60);

/// Whether two clocks agree well enough.
pub(crate) fn skew(place: &str, theirs: Option<Timestamp>, ours: Timestamp) -> Check {
    let Some(theirs) = theirs else {
        return Check::warn("clock", format!("{place} does not tell its time"));
    };
    let skew = theirs.duration_since(ours).abs();
    let detail = format!("the clocks of this machine and of {place} differ by {} s", skew.as_secs());
    if skew > SKEW_FAIL {
        return Check::fail(
            "clock",
            ErrorKind::Invalid,
            detail,
            "set this machine's clock (NTP), then plan again",
        );
    }
    if skew > SKEW_WARN {
        return Check::warn("clock", detail);
    }
    Check::pass("clock", format!("the clocks of this machine and of {place} agree"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::CheckVerdict;

    #[test]
    fn clocks_far_apart_forbid_a_run() {
        let now = Timestamp::from_second(1_000_000).expect("timestamp");
        let verdict = |s: i64| skew("v", Timestamp::from_second(1_000_000 + s).ok(), now).verdict;
        assert_eq!(verdict(1), CheckVerdict::Pass);
        assert_eq!(verdict(-30), CheckVerdict::Warn);
        assert_eq!(verdict(61), CheckVerdict::Fail);
        assert_eq!(verdict(-61), CheckVerdict::Fail);
        assert_eq!(skew("v", None, now).verdict, CheckVerdict::Warn);
    }
}
