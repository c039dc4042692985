//! What is read from files.

use std::sync::Arc;

use super::walk::walk;
use super::{Dice, steers};
use crate::domain::{Identity, Life, Standing, Strategy, Versions};
use crate::plan::{
    Observed, ObservedCredential, ObservedStore, Outgoing, Plan, PlanError, Request, SANDBOX, compile,
    preview,
};
use crate::rotation::{Event, State};
use crate::runbook::model::Runbook;
use crate::runbook::{Source, check, render, reported};

/// A runbook's text: checked, shown, and where it is good, planned in every environment.
pub fn runbook(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let source = Source { name: "fuzz.yaml".to_owned(), text: text.to_owned() };
    let checked = check(&source);
    let shown = render(&checked.findings, &source, false, 80);
    assert!(!steers(&shown), "a finding steers the terminal: {shown:?}");
    reported(&checked.findings, &source);
    for finding in &checked.findings {
        assert!(text.get(finding.at.start..finding.at.end).is_some(), "{finding:?} lies outside the text");
    }
    assert_eq!(checked.runbook.is_some(), checked.errors() == 0);
    let Some(template) = checked.runbook else { return };
    let mut dice = Dice::new(bytes);
    for environment in template.environments() {
        let runbook = template.instantiate(environment).expect("a runbook without errors can be used");
        for strategy in [Strategy::Overlap, Strategy::Contain] {
            let runbook = Runbook { strategy, ..runbook.clone() };
            let request = Request {
                environment: environment.to_owned(),
                sandbox: environment == SANDBOX,
                runbook_sha256: template.sha256().to_owned(),
                tool: "fuzzing".to_owned(),
                directory: None,
            };
            let observed = observe(&runbook, &mut dice);
            if let Ok(plan) = compile(runbook, &request, observed) {
                let text = serde_json::to_string(&plan).expect("a plan is JSON");
                let again = Plan::from_json(&text).expect("a plan that was compiled can be read");
                assert_eq!(again.digest(), plan.digest());
                look(plan, &mut dice);
            }
        }
    }
}

/// Targets as they might be.
fn observe(runbook: &Runbook, dice: &mut Dice) -> Observed {
    let credentials = runbook
        .credentials
        .values()
        .map(|credential| ObservedCredential {
            issuer: credential.issuer.traits(),
            outgoing: match dice.roll(4) {
                0 => Outgoing::Waived("dead".to_owned()),
                1 => Outgoing::Named(standing(Life::Active, None)),
                2 => Outgoing::Known(standing(Life::Disabled, None)),
                _ => Outgoing::Known(standing(Life::Active, (dice.roll(2) == 0).then_some(3))),
            },
            existing: Vec::new(),
            shares: None,
            stores: credential
                .stores
                .iter()
                .map(|store| ObservedStore {
                    traits: store.traits(),
                    versions: Versions { current: Some("1".to_owned()), previous: None, pending: None },
                    place: dice.roll(3).to_string(),
                })
                .collect(),
            disagree: Vec::new(),
        })
        .collect();
    Observed { credentials, ..Observed::default() }
}

fn standing(life: Life, uses_left: Option<u64>) -> Standing {
    let identity = Identity { handle: "handle".to_owned(), principal: "principal".to_owned() };
    Standing { identity, life, uses_left }
}

/// A saved plan: read as `stanch run plan.json` does, and then with its steps compiled anew.
pub fn plan(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let plan = match Plan::from_json(text) {
        Ok(plan) => Ok(plan),
        Err(PlanError::Inconsistent(_)) => Plan::mended(text),
        Err(other) => Err(other),
    };
    match plan {
        Ok(plan) => look(plan, &mut Dice::new(bytes)),
        Err(error) => assert!(error.to_string().len() < 4096 + bytes.len()),
    }
}

/// What commands do with a plan.
fn look(plan: Plan, dice: &mut Dice) {
    let shown = preview(&plan);
    assert!(!steers(&shown), "a preview steers the terminal: {shown:?}");
    assert!(!plan.steps.is_empty() || plan.credentials.is_empty());
    plan.holds();
    plan.point_of_no_return();
    let text = serde_json::to_string(&plan).expect("a plan is JSON");
    let again: Plan = serde_json::from_str(&text).expect("a plan is read as it was written");
    assert_eq!(again.digest(), plan.digest());
    walk(State::new(Arc::new(plan), jiff::Timestamp::UNIX_EPOCH), dice);
}

/// A journal's bytes: verified, folded, and gone on with.
pub fn journal(bytes: &[u8]) {
    let mut state = None;
    for record in crate::journal::fuzzing::read(bytes) {
        let at = record.envelope.wall;
        state = match (state, record.event) {
            (None, Event::Opened { plan, .. }) if plan.validate().is_ok() => {
                Some(State::new(Arc::from(plan), at))
            }
            (None, _) => return,
            (Some(mut state), event) => {
                // What does not fit is refused, and what was before still stands.
                let before = state.end();
                if state.apply(&event, at).is_err() {
                    assert_eq!(state.end(), before);
                }
                Some(state)
            }
        };
    }
    if let Some(state) = state {
        walk(state, &mut Dice::new(bytes));
    }
}
