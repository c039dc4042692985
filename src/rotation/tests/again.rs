//! What a person has done once more, and the way back from there.

use std::sync::Arc;

use jiff::Timestamp;

use super::{EVERY_KIND, Op, Reply, Run};
use crate::domain::{ErrorKind, Phase, Strategy};
use crate::plan::Plan;
use crate::plan::tests::planned;
use crate::rotation::{Event, Found, State, Stop};

fn until(phase: Phase) -> Run {
    Run::overlap().wishing(|w| w.until = Some(phase)).go()
}

fn rewrite(takes_back: bool) -> Event {
    Event::Rewrite { credential: "demo-key".into(), takes_back }
}

fn reissue(takes_back: bool) -> Event {
    Event::Reissue { credential: "demo-key".into(), takes_back }
}

/// Where these first occur in a trace, in their order.
fn order(trace: &str, words: &[&str]) {
    let at = |word: &&str| trace.find(*word).unwrap_or_else(|| panic!("{word}: {trace}"));
    assert!(words.is_sorted_by_key(at), "{words:?}: {trace}");
}

/// Writing again is refused by one store: the other one, and the consumers, have the new credential still, and the way back
/// takes it from them before it revokes it.
#[test]
fn the_way_back_from_a_failed_rewrite_takes_back_what_was_done_before() {
    let end = |takes_back| {
        let run = until(Phase::Overlap).resume().then(&rewrite(takes_back));
        let run = run.when("cutover/demo-key/promote", Op::Do, &[Reply::Fail(ErrorKind::Denied)]).go();
        assert!(matches!(run.state.stopped(), Some(Stop::Failed { .. })), "{}", run.trace);
        assert!(!run.state.may_reissue(0) || !takes_back, "a store may hand it out");
        run.turn(None).go()
    };
    let back = end(true);
    let revoked = back.trace.find("Succeeded Undo prepare/demo-key/issue").expect("it was revoked");
    for undone in [
        "cutover/demo-key/promote/sandbox ",
        "cutover/demo-key/promote/sandbox-2 ",
        "cutover/demo-key/reload/web ",
    ] {
        let at = back
            .trace
            .find(&format!("Succeeded Undo {undone}"))
            .unwrap_or_else(|| panic!("{undone}: {}", back.trace));
        assert!(at < revoked, "{undone}: {}", back.trace);
    }
    // As the records of older versions say.
    assert!(!end(false).trace.contains("Undo cutover/demo-key/reload/web"));
}

/// Writing again begins at cutover, and the old credential is disabled already: it is enabled before a store hands it out.
#[test]
fn the_way_back_from_a_rewrite_begins_where_the_run_had_been() {
    let back = |from: fn(&State) -> Option<Phase>| {
        let run = until(Phase::Sunset).resume().then(&rewrite(true));
        assert_eq!(run.state.phase(), Some(Phase::Cutover));
        let from = from(&run.state);
        run.then(&Event::Turned { to: None, why: "asked".into(), by_gate: false, from }).go()
    };
    let disabled = "Succeeded Undo sunset/demo-key/disable ";
    let stores =
        ["Succeeded Undo cutover/demo-key/promote/sandbox ", "Succeeded Undo prepare/demo-key/issue "];
    order(&back(State::undone_first).trace, &[&[disabled][..], &stores].concat());
    // As the records of older versions say, which left it disabled.
    let before = back(|_| None).trace;
    order(&before, &stores);
    assert!(!before.contains(disabled));
    // A phase that was left behind is no place to begin.
    let run = until(Phase::Sunset);
    let back = Event::Turned { to: None, why: String::new(), by_gate: false, from: Some(Phase::Cutover) };
    let (mut state, was) = (run.state.clone(), run.state.direction().clone());
    assert!(state.apply(&back, run.now).is_err());
    assert_eq!(*state.direction(), was, "a refusal changes nothing");
}

/// A run whose first credential is staged before cutover.
fn staging() -> (Run, String, String) {
    let run = Run::of(EVERY_KIND, Strategy::Overlap);
    let stages = |step: &&crate::plan::Step| step.id.contains("/stage/");
    let step = run.state.plan().steps.iter().find(stages).expect("a stage").id.clone();
    let credential = step.split('/').nth(1).expect("a credential").to_owned();
    (run, credential, step)
}

/// Another one is issued, and cannot be staged: what was staged of the first is taken out on the way back.
#[test]
fn the_way_back_from_a_reissue_takes_out_what_was_staged() {
    for (found, takes_back) in [(None, true), (Some(Found::Absent), true), (None, false)] {
        let (run, credential, step) = staging();
        let run = run.wishing(|w| w.until = Some(Phase::Verify)).go();
        let run = run.wishing(|w| w.until = None).resume();
        let run = run.then(&Event::Reissue { credential, takes_back });
        let step: &'static str = Box::leak(step.into_boxed_str());
        let reply = if found.is_some() { Reply::Dies } else { Reply::Fail(ErrorKind::Denied) };
        let run = run.when(step, Op::Do, &[reply]).go();
        let run = match found {
            None => run,
            // Turned while it is not known whether the second one is there.
            Some(ref found) => run.when(step, Op::Do, &[Reply::Found(found.clone())]).resume(),
        };
        let back = run.turn(None).go();
        let undone = back.trace.contains(&format!("Succeeded Undo {step} "));
        assert_eq!(undone, takes_back, "{found:?}: {}", back.trace);
    }
}

/// Where the new credential takes the place of the old one, another one takes the place of both: nothing is revoked, and
/// the way back sets the old one again.
#[test]
fn another_one_takes_the_place_of_the_one_that_took_it() {
    let mut plan = planned("runbooks/quickstart.yaml", "sandbox", Strategy::Contain);
    let issuer = &mut plan.credentials[0].issuer;
    (issuer.coexists, issuer.disables, issuer.revokes) = (false, false, false);
    let plan: Arc<Plan> = Arc::new(plan);
    assert!(plan.credentials[0].issuer.replaces());
    let issue = "prepare/demo-key/issue";
    let back = |takes_back| {
        let mut run = Run::contain().wishing(|w| w.until = Some(Phase::Prepare));
        run.state = State::new(Arc::clone(&plan), Timestamp::UNIX_EPOCH);
        let run = run.go();
        assert!(run.state.may_reissue(0));
        let run = run.resume().then(&reissue(takes_back));
        run.when(issue, Op::Do, &[Reply::Fail(ErrorKind::Denied)]).go().turn(None).go().trace
    };
    let trace = back(true);
    assert!(!trace.contains(&format!("Discard {issue} ")), "{trace}");
    order(&trace, &["round 1", &format!("Succeeded Undo {issue} ")]);
    assert!(back(false).contains(&format!("Discard {issue} ")));
}

/// What was looked for before another one was issued is looked for again.
#[test]
fn another_one_may_have_been_made_twice_as_well() {
    let sweeps = |takes_back| {
        let mut run = Run::overlap();
        let mut plan = (**run.state.plan()).clone();
        // Nothing hands it out: another one may be issued whenever.
        plan.steps.iter_mut().for_each(|step| step.after.clear());
        plan.steps.retain(|step| !step.id.contains("/promote/") && !step.id.contains("/reload/"));
        run.state = State::new(Arc::new(plan), Timestamp::UNIX_EPOCH);
        let run = run.wishing(|w| w.until = Some(Phase::Proof)).go();
        let run = run.wishing(|w| w.until = None).resume().then(&reissue(takes_back)).go();
        run.trace.matches("Succeeded Do proof/demo-key/sweep ").count()
    };
    assert_eq!((sweeps(true), sweeps(false)), (2, 1));
}

/// What a run made of one credential may be found among another one's only where both are found by the run's tag at one
/// server.
#[test]
fn another_one_is_looked_for_where_it_can_be() {
    let mut run = Run::of(EVERY_KIND, Strategy::Overlap);
    let mut plan = (**run.state.plan()).clone();
    plan.steps.iter_mut().for_each(|step| step.after.clear());
    plan.steps.retain(|step| !["/promote/", "/reload/", "/own/"].iter().any(|part| step.id.contains(part)));
    run.state = State::new(Arc::new(plan), Timestamp::UNIX_EPOCH);
    let run = run.wishing(|w| w.until = Some(Phase::Proof)).go();
    let run = run.wishing(|w| w.until = None).resume();
    let again = |credential: &str| {
        let mut after = run.state.clone();
        let event = Event::Reissue { credential: credential.into(), takes_back: true };
        after.apply(&event, run.now).unwrap_or_else(|e| panic!("{e}: {}", run.trace));
        let steps = after.plan().steps.iter().enumerate();
        let sweeps = steps.filter(|(_, step)| matches!(step.action, crate::plan::Action::Sweep { .. }));
        let open = sweeps.filter(|(at, _)| *after.status(*at) != crate::rotation::Status::Done);
        open.map(|(_, step)| step.id.split('/').nth(1).expect("a credential").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(again("bot-token"), ["bot-token"]);
    assert_eq!(again("user"), ["bot-token"], "at the same server");
    assert_eq!(again("shopper"), ["shopper"], "at a server of its own");
    assert_eq!(again("exporter"), ["exporter"], "found without the tag");
}

/// A run of several credentials, of which one promotion is refused.
fn several() -> (Run, String, Vec<String>) {
    let run = Run::of(EVERY_KIND, Strategy::Overlap);
    let plan = run.state.plan();
    let single = |action: &crate::plan::Action| matches!(action, crate::plan::Action::Promote { credential, .. } if plan.credentials[*credential].stores.len() == 1);
    let step = plan.steps.iter().find(|step| single(&step.action)).expect("a promotion").id.clone();
    let id: &'static str = Box::leak(step.clone().into_boxed_str());
    let names = run.state.plan().credentials.iter().map(|planned| planned.name.clone()).collect();
    let run = run.when(id, Op::Do, &[Reply::Fail(ErrorKind::Denied)]).go().resume();
    (run, step.split('/').nth(1).expect("a credential").to_owned(), names)
}

/// What is said of one credential changes nothing of another.
#[test]
fn what_is_said_of_one_credential_is_for_it_alone() {
    let (run, refused, names) = several();
    let may = |name: &String| {
        let c = names.iter().position(|known| known == name).expect("a credential");
        (run.state.may_reissue(c), run.state.may_rewrite(c))
    };
    assert_eq!(may(&refused), (true, true), "no store has it");
    let written = names.iter().filter(|name| !may(name).0 && may(name).1).count();
    assert!(written > 0, "stores have others");
    for event in [
        Event::Reissue { credential: refused.clone(), takes_back: true },
        Event::Rewrite { credential: refused.clone(), takes_back: true },
    ] {
        let mut after = run.state.clone();
        after.apply(&event, run.now).expect("allowed");
        let steps = run.state.plan().steps.iter().enumerate();
        let others = steps.filter(|(_, step)| step.id.split('/').nth(1) != Some(refused.as_str()));
        for (at, step) in others {
            assert_eq!(after.status(at), run.state.status(at), "{}: {event:?}", step.id);
        }
    }
}

/// A step of the runbook's own may have brought it to where it is used.
#[test]
fn what_an_own_step_delivered_is_not_issued_anew() {
    let delivered = |delivers: bool| {
        let mut run = Run::of(EVERY_KIND, Strategy::Overlap);
        let mut plan = (**run.state.plan()).clone();
        assert!(plan.steps.iter().any(|step| step.id == "cutover/own/drain"));
        let c = 0;
        let phase = plan.runbook.phases.cutover.as_mut().expect("a phase");
        let own = phase.before.iter_mut().chain(&mut phase.after).find(|own| own.name == "drain");
        own.expect("a step").credential = delivers.then(|| plan.credentials[c].name.clone());
        // No store has it.
        let kept = |action: &crate::plan::Action| !matches!(action, crate::plan::Action::Promote { credential, .. } if *credential == c);
        plan.steps.retain(|step| kept(&step.action));
        plan.steps.iter_mut().for_each(|step| step.after.clear());
        run.state = State::new(Arc::new(plan), Timestamp::UNIX_EPOCH);
        run.wishing(|w| w.until = Some(Phase::Overlap)).go().state.may_reissue(c)
    };
    assert!(delivered(false));
    assert!(!delivered(true));
}

/// A person's word on a step that failed for good, where the run goes back: what was not undone by hand stays as it is, and
/// is not tried again. What a lost reply left is not a matter of words.
#[test]
fn a_word_on_what_failed_for_good() {
    let word = |step: &str, applied| Event::Resolved {
        step: step.to_owned(),
        applied,
        evidence: "looked".into(),
        facts: Default::default(),
    };
    let reload = "cutover/demo-key/reload/worker";
    let stuck =
        until(Phase::Overlap).turn(None).when(reload, Op::Undo, &[Reply::Fail(ErrorKind::Denied)]).go();
    assert!(matches!(stuck.state.stopped(), Some(Stop::Stuck { .. })), "{}", stuck.trace);
    let at = stuck.state.step(reload).expect("a step");
    let after = stuck.then(&word(reload, false));
    assert_eq!(*after.state.status(at), crate::rotation::Status::Undone, "{}", after.trace);
    let issue = "prepare/demo-key/issue";
    let orphans = Reply::Found(Found::Orphans(vec!["left".into()]));
    let lost = Run::overlap()
        .when(issue, Op::Do, &[Reply::Unknown, orphans])
        .when(issue, Op::Discard, &[Reply::Fail(ErrorKind::Denied)])
        .go();
    assert!(matches!(lost.state.stopped(), Some(Stop::Failed { .. })), "{}", lost.trace);
    assert!(lost.state.clone().apply(&word(issue, false), lost.now).is_err(), "{}", lost.trace);
}

/// A run ends when it has walked to its end, and *done* when everything is proved.
#[test]
fn no_record_ends_a_run_before_its_end() {
    let end = |run: &Run, end| run.state.clone().apply(&Event::Closed { end }, run.now).is_ok();
    let (done, not_proved) = (crate::rotation::End::Done, crate::rotation::End::NotProved);
    let half = until(Phase::Cutover);
    assert_eq!((end(&half, done), end(&half, not_proved)), (false, false));
    let whole = Run::overlap().when("proof/demo-key/reject", Op::Do, &[Reply::Inconclusive]).go();
    let unproved = whole.trace.contains("NotProved");
    assert!(unproved, "{}", whole.trace);
    let last = until(Phase::Proof);
    assert_eq!((end(&last, done), end(&last, not_proved)), (true, true), "{}", last.trace);
}

/// Under `contain` a new credential that is refused or too wide is taken back by itself, for as long as nothing was killed.
#[test]
fn contain_turns_by_itself_before_the_kill() {
    let refused = |step| Run::contain().when(step, Op::Do, &[Reply::Fail(ErrorKind::Refused)]).go();
    let early = refused("prepare/demo-key/inspect");
    assert!(early.trace.contains("Turned { to: None"), "{}", early.trace);
    let late = refused("verify/demo-key/accept/issuer");
    assert!(!late.trace.contains("Turned"), "{}", late.trace);
}
