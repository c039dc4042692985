//! How long the old credentials could be used, how long consumers had no valid one, and when each credential was
//! contained, replaced, revoked and proved dead.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::{Clock, Milestone, Span, Vantage};
use crate::clock::since;
use crate::domain::Strategy;
use crate::output;
use crate::plan::{Action, Plan, costs};
use crate::rotation::{ACCEPTED_AT, BEFORE, Outgoing, PROVED, REFUSED_AT, State};

/// A record, and when it was written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) record: u64,
    pub(super) at: Timestamp,
}

/// By which record each step's effect came to stand.
pub(super) type Effects = BTreeMap<usize, Mark>;

pub(super) fn span(from: Mark, to: Mark, opened: Timestamp) -> Span {
    Span {
        start_ms: millis(since(from.at, opened)),
        ms: millis(since(to.at, from.at)),
        from: from.record,
        to: to.record,
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// When each credential reached what is to be reached.
pub(super) fn milestones(
    state: &State,
    credential: usize,
    opened: Mark,
    effects: &Effects,
) -> Vec<Milestone> {
    let plan = state.plan();
    let of = |wanted: fn(&Action) -> bool| -> Vec<usize> {
        let steps = plan.steps.iter().enumerate();
        let ours =
            steps.filter(|(_, step)| step.action.credential() == Some(credential) && wanted(&step.action));
        ours.map(|(at, _)| at).collect()
    };
    let kills = of(|action| matches!(action, Action::Disable { .. } | Action::Revoke { .. }));
    let revokes = of(|action| matches!(action, Action::Revoke { .. }));
    let promotes = of(|action| matches!(action, Action::Promote { .. }));
    let rejects = of(|action| matches!(action, Action::Reject { .. }));
    let first =
        |steps: &[usize]| steps.iter().filter_map(|at| effects.get(at)).min_by_key(|m| m.record).copied();
    let all = |steps: &[usize]| {
        let marks: Option<Vec<Mark>> = steps.iter().map(|at| effects.get(at).copied()).collect();
        marks?.into_iter().max_by_key(|mark| mark.record)
    };
    let is_proved = rejects.iter().all(|at| state.fact(*at, PROVED) == Some("yes"));
    // What was done to a credential that works all the same reached nothing.
    let lives = state
        .truths()
        .get(credential)
        .is_some_and(|truth| matches!(truth.outgoing, Outgoing::Accepted | Outgoing::Deleted));
    let reached = |mark: Option<Mark>| mark.map(|mark| span(opened, mark, opened.at));
    let dead = |mark: Option<Mark>| reached(mark.filter(|_| !lives));
    vec![
        Milestone { name: "contained", span: dead(first(&kills)) },
        Milestone { name: "replaced", span: reached(all(&promotes)) },
        Milestone { name: "revoked", span: dead(all(&revokes)) },
        Milestone { name: "proved", span: dead(all(&rejects).filter(|_| is_proved)) },
    ]
}

/// What each place answered that used an old credential in the end. `calls` tells by which record each step was last
/// begun, `let_in` by which its place accepted it again.
pub(super) fn vantages(
    state: &State,
    opened: Mark,
    effects: &Effects,
    calls: &Effects,
    let_in: &Effects,
) -> Vec<Vantage> {
    let plan = state.plan();
    let steps = plan.steps.iter().enumerate();
    let revokes: BTreeMap<usize, Mark> = steps
        .filter_map(|(at, step)| match step.action {
            Action::Revoke { credential } => Some((credential, *calls.get(&at)?)),
            _ => None,
        })
        .collect();
    let one = |at: crate::rotation::Vantage| {
        let mark = |step: usize, at: Timestamp| Some(Mark { at, ..*effects.get(&step)? });
        let refused = at.refused.and_then(|time| mark(at.step, time));
        // Older records do not hold the time of the answer; that of the record is close to it.
        let before = at.before.filter(|before| state.fact(*before, BEFORE) == Some("accepted"));
        let again = let_in.get(&at.step).filter(|again| Some(again.at) == at.accepted);
        let accepted = match at.accepted {
            _ if again.is_some() => again.copied(),
            Some(time) if state.fact(at.step, ACCEPTED_AT).is_some() => mark(at.step, time),
            Some(time) => before.and_then(|before| mark(before, time)),
            None => before.and_then(|before| effects.get(&before).copied()),
        };
        let called =
            revokes.get(&at.credential).zip(refused).map(|(call, refused)| span(*call, refused, opened.at));
        Vantage {
            credential: plan.credentials[at.credential].name.clone(),
            place: output::place(plan, &at),
            accepted: accepted.map(|mark| span(opened, mark, opened.at)),
            refused: refused.map(|mark| span(opened, mark, opened.at)),
            called,
            proved: at.proved,
        }
    };
    state.vantages().into_iter().map(one).collect()
}

/// Both clocks.
pub(super) fn clocks(state: &State, opened: Mark, effects: &Effects) -> Vec<Clock> {
    let (outage, exposure) = costs(state.plan());
    vec![exposed(state, opened, effects, exposure), without(state.plan(), opened, effects, outage)]
}

fn exposed(state: &State, opened: Mark, effects: &Effects, expected: String) -> Clock {
    let refused = |at: &usize| state.fact(*at, REFUSED_AT).and_then(|text| text.parse::<Timestamp>().ok());
    let last = effects.iter().filter_map(|(at, mark)| Some((refused(at)?, mark.record))).max();
    let span =
        state.exposed_until().and(last).map(|(at, record)| span(opened, Mark { record, at }, opened.at));
    let (word, measured) = match span {
        _ if state.is_unexposed() => ("not counted", "the issuer did not know the old credential"),
        Some(_) => ("over", "until the last check first found the old credential refused or gone"),
        None => ("open", "not proved to have ended"),
    };
    let means = "how long the old credential could be used, from the start of the run";
    Clock { name: "exposure", means, expected, measured: measured.to_owned(), word, span }
}

fn without(plan: &Plan, opened: Mark, effects: &Effects, expected: String) -> Clock {
    let means = "how long consumers could read no valid credential";
    if plan.strategy == Strategy::Revoke {
        let measured = "nothing replaces what is only revoked".to_owned();
        return Clock { name: "outage", means, expected, measured, word: "not counted", span: None };
    }
    let mut longest: Option<(Span, &str)> = None;
    let mut open: Vec<&str> = Vec::new();
    for (c, planned) in plan.credentials.iter().enumerate() {
        let ends = |action: &Action| match action {
            Action::Disable { .. } | Action::Revoke { .. } => true,
            // The new one takes the old one's place at its authority.
            Action::Issue { .. } => !planned.issuer.coexists,
            _ => false,
        };
        let steps = plan.steps.iter().enumerate().filter(|(_, step)| step.action.credential() == Some(c));
        let (mut killed, mut current, mut replaced): (Option<Mark>, Option<Mark>, bool) = (None, None, true);
        for (at, step) in steps {
            let mark = effects.get(&at).copied();
            if ends(&step.action) {
                killed = [killed, mark].into_iter().flatten().min_by_key(|mark| mark.record);
            } else if matches!(step.action, Action::Promote { .. }) {
                replaced &= mark.is_some();
                current = [current, mark].into_iter().flatten().max_by_key(|mark| mark.record);
            }
        }
        match (killed, current) {
            (Some(_), _) if !replaced => open.push(&planned.name),
            (Some(killed), Some(current)) if current.record > killed.record => {
                let found = span(killed, current, opened.at);
                if longest.is_none_or(|(known, _)| found.ms > known.ms) {
                    longest = Some((found, &planned.name));
                }
            }
            _ => {}
        }
    }
    let (word, measured) = match (&longest, open.is_empty()) {
        (_, false) => ("open", format!("not ended for {}", open.join(", "))),
        (Some((_, name)), true) => {
            ("over", format!("from the kill until every store handed out the new one; longest for {name}"))
        }
        (None, true) => ("none", "no old credential was refused before the new one was current".to_owned()),
    };
    let span = longest.map(|(span, _)| span).filter(|_| open.is_empty());
    Clock { name: "outage", means, expected, measured, word, span }
}
