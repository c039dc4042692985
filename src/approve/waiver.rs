//! Waivers: somebody who may, lets one runbook break one rule of the policy, until a moment.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::line::Rejected;
use super::signature::Signature;
use super::signers::Signers;
use super::statement::Signed;
use crate::domain::Period;

/// The namespace of waivers.
pub const WAIVER: &str = "stanch-waiver@v1";

/// What is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiver {
    /// The rule, by its name in the policy.
    pub rule: String,
    /// The runbook, by its name.
    pub runbook: String,
    /// Who signs, as a principal.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When it was signed, as whoever signed says.
    pub signed: Timestamp,
    /// Until when it holds.
    pub expires: Timestamp,
}

/// Why a waiver does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotWaived {
    /// The text is no waiver, or the signature none.
    #[error("{0}")]
    Unreadable(String),
    /// It is signed in another namespace.
    #[error("the signature is of namespace `{0}`, and a waiver is signed in `stanch-waiver@v1`")]
    Namespace(String),
    /// The signature is not of this text.
    #[error("the signature is forged, or the waiver was changed after it was signed: {0}")]
    Forged(String),
    /// The file of signers does not let the key sign as that principal.
    #[error("the file of signers does not let {by} sign it: {why}")]
    Signer {
        /// Who it says signed.
        by: String,
        /// Why not.
        why: String,
    },
    /// The policy does not name the principal.
    #[error("{by} may not waive rules of this policy; those who may: {may}")]
    MayNot {
        /// Who signed.
        by: String,
        /// Who may.
        may: String,
    },
    /// It is of another runbook.
    #[error("it waives a rule for the runbook `{found}`, and this is `{runbook}`")]
    OtherRunbook {
        /// The runbook that it names.
        found: String,
        /// This one.
        runbook: String,
    },
    /// It says that it was signed in the future.
    #[error("{by} says to have signed it at {signed:.0}, which is in the future")]
    Early {
        /// Who signed.
        by: String,
        /// When.
        signed: Timestamp,
    },
    /// It would hold for longer than the policy allows.
    #[error("the waiver of {by} would hold for longer than the {within} that the policy allows")]
    TooLong {
        /// Who signed.
        by: String,
        /// The longest time.
        within: Period,
    },
    /// It holds no more.
    #[error("the waiver of {by} expired at {since:.0}")]
    Expired {
        /// Who signed.
        by: String,
        /// Until when it held.
        since: Timestamp,
    },
}

/// Larger than any waiver of ours.
const MAX: usize = 8 * 1024;
/// How far the clock of whoever signed may be ahead of ours.
const SKEW: jiff::SignedDuration = jiff::SignedDuration::from_mins(5);

impl Waiver {
    /// The text that is signed.
    pub fn text(&self) -> String {
        let mut out = format!("{WAIVER}\n");
        let Self { rule, runbook, by, reason, signed, expires } = self;
        // Writing to a String cannot fail.
        let _ = write!(out, "rule: {rule}\nrunbook: {runbook}\nby: {by}\nreason: {reason}\n");
        let _ = write!(out, "signed: {signed:.0}\nexpires: {expires:.0}\n");
        out
    }

    /// Reads a text that was signed.
    ///
    /// # Errors
    /// A sentence, when it is not a waiver of this version.
    pub fn read(text: &str) -> Result<Self, String> {
        let not = |what: &str| format!("this is not a waiver of stanch: {what}");
        if text.len() > MAX || text.chars().any(|c| c != '\n' && c.is_control()) {
            return Err(not("it is too long, or has control characters"));
        }
        let mut lines = text.split('\n');
        if lines.next() != Some(WAIVER) {
            return Err(not("its first line is not stanch-waiver@v1"));
        }
        let mut field = |name: &str| {
            let line =
                lines.next().and_then(|line| line.split_once(": ")).filter(|(found, _)| *found == name);
            line.map(|(_, value)| value.to_owned())
                .ok_or_else(|| not(&format!("`{name}` is missing, or out of order")))
        };
        let (rule, runbook, by, reason) = (field("rule")?, field("runbook")?, field("by")?, field("reason")?);
        let mut time = |name: &str| {
            let text = field(name)?;
            text.parse::<Timestamp>().map_err(|_| not(&format!("`{name}` is not a time")))
        };
        let (signed, expires) = (time("signed")?, time("expires")?);
        let read = Self { rule, runbook, by, reason, signed, expires };
        // One spelling only: what is shown again is what was signed.
        if read.text() == text { Ok(read) } else { Err(not("it is not written as stanch writes it")) }
    }
}

/// Verifies a waiver of a rule for a runbook. `signers` is the text of the file of signers, `from` are the principals who
/// may waive, `within` is the longest time that a waiver may hold, and `at` the present.
///
/// # Errors
/// When it does not count.
pub fn waives(
    (signers, from, within): (&str, &[String], Period),
    runbook: &str,
    signed: &Signed,
    at: Timestamp,
) -> Result<Waiver, NotWaived> {
    let clean = crate::text::sanitize;
    let signature = Signature::read(&signed.signature).map_err(NotWaived::Unreadable)?;
    if signature.namespace != WAIVER {
        return Err(NotWaived::Namespace(clean(&signature.namespace)));
    }
    signature.verify(signed.statement.as_bytes()).map_err(NotWaived::Forged)?;
    let waiver = Waiver::read(&signed.statement).map_err(NotWaived::Unreadable)?;
    let by = waiver.by.clone();
    if waiver.runbook != runbook {
        let found = clean(&waiver.runbook);
        return Err(NotWaived::OtherRunbook { found, runbook: runbook.to_owned() });
    }
    Signers::read(signers).admit(&by, &signature.signer, WAIVER, Some(at)).map_err(|rejected| {
        let why = match rejected {
            Rejected::Unlisted => {
                format!("the key {} is not listed for that principal", signature.signer.fingerprint())
            }
            Rejected::Namespace { line } => format!("line {line} is for other namespaces than `{WAIVER}`"),
            Rejected::NotYet { line, from } => format!("line {line} holds from {from:.0} on"),
            Rejected::Expired { line, since } => format!("line {line} held until {since:.0}"),
            Rejected::Certificate { line, why } => format!("{why} (line {line} trusts its authority)"),
        };
        NotWaived::Signer { by: by.clone(), why }
    })?;
    if !from.contains(&by) {
        return Err(NotWaived::MayNot { by, may: from.join(", ") });
    }
    if waiver.signed > at + SKEW {
        return Err(NotWaived::Early { by, signed: waiver.signed });
    }
    if at > waiver.expires {
        return Err(NotWaived::Expired { by, since: waiver.expires });
    }
    if waiver.expires > crate::clock::add(waiver.signed, within.get()) {
        return Err(NotWaived::TooLong { by, within });
    }
    Ok(waiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiver_is_read_as_it_was_written() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a moment");
        let waiver = Waiver {
            rule: "max-ttl".into(),
            runbook: "payments".into(),
            by: "alice@example.com".into(),
            reason: "the vendor: 90 days at the least".into(),
            signed: at("2026-11-27T10:00:00Z"),
            expires: at("2026-12-27T10:00:00Z"),
        };
        let text = waiver.text();
        assert_eq!(Waiver::read(&text), Ok(waiver));
        for (from, to, says) in [
            ("@v1", "@v2", "its first line is not"),
            ("rule: ", "rules: ", "`rule` is missing"),
            ("12-27T10", "12-27T99", "`expires` is not a time"),
            ("10:00:00Z\n", "10:00:00.5Z\n", "not written as stanch writes it"),
            ("runbook: payments\n", "", "`runbook` is missing"),
            ("max-ttl", "max\u{1b}[31m", "control characters"),
        ] {
            let refused = Waiver::read(&text.replacen(from, to, 1)).expect_err(to);
            assert!(refused.contains(says), "{to}: {refused}");
        }
        assert!(Waiver::read(&format!("{text}more: x\n")).is_err());
        assert!(Waiver::read(&text[..text.len() - 1]).is_err());
        assert!(Waiver::read(&"x".repeat(MAX + 1)).is_err());
    }
}
