//! Which approvals are missing, who may give them, who the run is, and when its window opens.

use jiff::Timestamp;
use serde_json::json;

use crate::domain::Opening;
use crate::rotation::State;

/// The approvals that are missing before the next phase that needs some, a sentence each. Without a moment, one that has
/// expired counts as given.
pub fn missing_approvals(state: &State, now: Option<Timestamp>) -> Vec<String> {
    let Some(phase) = state.unapproved(now) else { return Vec::new() };
    let words = |lack: crate::approve::Lack<'_>| {
        let list = |names: &[&str]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let may = match lack.may.as_slice() {
            [] => "; no one else may approve".to_owned(),
            names => format!("; may approve: {}", list(names)),
        };
        format!("{phase} needs {}; given by: {}{may}", lack.requirement.words(), list(&lack.have))
    };
    let mut missing: Vec<String> = state.lacks(phase, now).into_iter().map(words).collect();
    if state.standing().request.is_none() {
        missing.push("the record does not say who asked for this run, so no approval counts".into());
    }
    missing
}

/// Who ran the run, and who it is to each server.
pub fn identities(state: &State) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(request) = &state.standing().request {
        lines.push(format!("requested by {}, signed with {}", request.by, request.key));
    }
    if let Some(who) = state.people().last() {
        lines.push(format!("run by {} (as the environment says)", who.words()));
    }
    lines.extend(
        state.identities().iter().map(|(connection, detail)| format!("to {connection}, it is {detail}")),
    );
    lines
}

/// The same for programs.
pub(super) fn json(state: &State) -> serde_json::Value {
    let given: Vec<_> = (state.standing().given.iter())
        .map(|(at, given)| {
            json!({
                "by": given.by, "key": given.signer.fingerprint(), "phases": given.phases, "at": at,
                "reason": given.reason, "ticket": given.ticket, "expires": given.expires,
            })
        })
        .collect();
    json!({
        "requested_by": state.standing().request.as_ref().map(|request| &request.by),
        "given": given,
        "missing": missing_approvals(state, None),
        "break_glass": state.broke_glass(),
    })
}

/// What is known of deployment windows, for programs: whether cutover waits for one, and who let it begin without.
pub(super) fn window_json(state: &State) -> serde_json::Value {
    let (waits, opens) = match state.foreseen() {
        Opening::Now => (false, None),
        Opening::At(at) => (true, Some(at)),
        Opening::Never => (true, None),
    };
    json!({ "waits": waits, "opens": opens, "overridden": state.hurried() })
}
