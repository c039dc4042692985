//! What became of the old credentials, and for how long they were usable, in words.

use jiff::Timestamp;

use super::style::clock;
use crate::clock::since;
use crate::domain::Strategy;
use crate::rotation::{End, Outgoing, State, Truth};

/// What became of the old credential, in words.
pub(super) fn outgoing_words(truth: &Truth) -> &'static str {
    match truth.outgoing {
        Outgoing::Accepted => "still accepted",
        Outgoing::Disabled => "disabled",
        Outgoing::Deleted => {
            "deleted at its issuer, but not gone: a login or session lives, or a revocation list does not name it yet"
        }
        Outgoing::Revoked => "revoked, not proved dead yet",
        Outgoing::Replaced => "replaced at its issuer, not proved dead yet",
        Outgoing::Dead if truth.stores == 0 => "gone, as its issuer says",
        Outgoing::Dead => "dead, proved by use",
        Outgoing::Gone => "refused, though this run did not revoke it",
        Outgoing::Refused => "refused by a check, not proved dead",
        Outgoing::Waived => "unknown to its issuer, not revoked",
        Outgoing::Unknown => "UNKNOWN",
    }
}

/// How many credentials of a bare revocation ended how. One has its line.
pub(super) fn counts(truths: &[Truth]) -> Option<String> {
    if truths.len() < 2 || truths.iter().any(|truth| truth.replaced) {
        return None;
    }
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for words in truths.iter().map(outgoing_words) {
        match counts.iter_mut().find(|(known, _)| *known == words) {
            Some((_, count)) => *count += 1,
            None => counts.push((words, 1)),
        }
    }
    let counts: Vec<String> = counts.into_iter().map(|(words, count)| format!("{count} {words}")).collect();
    Some(format!("of {}: {}", truths.len(), counts.join("; ")))
}

/// The credential whose end is told.
pub(super) fn leaked(state: &State) -> &'static str {
    match (state.plan().strategy, state.plan().credentials.len()) {
        (Strategy::Revoke, 1) => "the credential",
        (Strategy::Revoke, _) => "the last of these credentials",
        (Strategy::Overlap | Strategy::Contain, _) => "the old credential",
    }
}

/// How long outgoing has been usable since the run began.
pub(super) fn exposure(state: &State, now: Timestamp) -> String {
    let leaked = leaked(state);
    if state.is_unexposed() {
        return format!("exposure: not counted; the issuer did not know {leaked} when the run began");
    }
    match state.exposed_until() {
        Some(until) => {
            format!(
                "exposure: {leaked} stayed usable for the first {} of this run",
                clock(since(until, state.opened()))
            )
        }
        None => {
            let so_far = clock(since(now, state.opened()));
            match state.end() {
                // This run changed nothing, and a check refused the old credential all the same.
                Some(End::Failed | End::RolledBack | End::GateRolledBack)
                    if state.truths().iter().all(|t| {
                        matches!(t.outgoing, Outgoing::Refused | Outgoing::Gone | Outgoing::Waived)
                    }) =>
                {
                    format!("exposure: unknown; {leaked} was refused when it was last used")
                }
                Some(End::Failed | End::RolledBack | End::GateRolledBack) => {
                    format!("exposure: {leaked} is still usable; {so_far} so far")
                }
                _ => format!("exposure: {so_far} so far; nothing has proved that it ended"),
            }
        }
    }
}
