//! What a state keeps of the calls and the people behind it, and what it makes of that later.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Op, Reply, Run, rejected};
use crate::approve::{Approvals, Requirement};
use crate::domain::{ErrorKind, Period, Phase, Strategy, Who};
use crate::plan::{Action, Plan};
use crate::rotation::proof::WITHOUT_CONTROLS;
use crate::rotation::{
    End, Event, Failure, Found, KILL_WAITS, Next, Outgoing, Seen, Sight, State, Status, Stop,
};

const PROMOTE: &str = "cutover/demo-key/promote/sandbox";

fn over(strategy: Strategy, change: impl FnOnce(&mut Plan)) -> Run {
    let run = Run::of(super::QUICKSTART, strategy);
    let mut plan = (**run.state.plan()).clone();
    change(&mut plan);
    Run { state: State::new(Arc::new(plan), Timestamp::UNIX_EPOCH), ..run }
}

fn at(run: &Run, step: &str) -> usize {
    run.state.step(step).expect("a step")
}

/// Where a store tells when it was written and not what, the moment of the last undo says whose a version is.
#[test]
fn a_step_remembers_when_it_was_last_taken_back() {
    let run = Run::overlap().wishing(|w| w.until = Some(Phase::Cutover)).go();
    let step = at(&run, PROMOTE);
    assert_eq!(run.state.last_undo(step), None);
    let begun = run.state.begun(step).expect("it was promoted");
    assert!(begun > Timestamp::UNIX_EPOCH && begun < run.now);
    let back = run.later(60).turn(None).go();
    let undone = back.state.last_undo(step).expect("it was taken back");
    assert!(undone.duration_since(begun).as_secs() >= 60, "{undone}");
    assert_eq!(back.state.begun(step), Some(begun), "the first intent is kept in every round");
    assert_eq!(Run::overlap().state.begun(step), None);
}

/// A try whose outcome was not known may have landed, whatever a look found afterwards.
#[test]
fn a_try_in_doubt_may_have_landed() {
    let reply = [Reply::Unknown, Reply::Found(Found::Absent), Reply::Fail(ErrorKind::Denied)];
    let lost = Run::overlap().when(PROMOTE, Op::Do, &reply).go();
    assert!(lost.state.may_have_landed(at(&lost, PROMOTE)), "{}", lost.trace);
    // As well as one in which the process died.
    let died = Run::overlap().when(PROMOTE, Op::Do, &[Reply::Dies]).go().resume();
    let died = died.when(PROMOTE, Op::Do, &reply[1..]).go();
    assert!(died.state.may_have_landed(at(&died, PROMOTE)), "{}", died.trace);
    let refused = Run::overlap().when(PROMOTE, Op::Do, &[Reply::Fail(ErrorKind::Denied)]).go();
    assert!(!refused.state.may_have_landed(at(&refused, PROMOTE)), "{}", refused.trace);
}

/// Everybody who worked on a run is told, in their order.
#[test]
fn the_people_of_a_run_are_told() {
    let who = |login: &str| Who { login: Some(login.into()), sudo_user: None, job: None };
    let mut run = Run::overlap();
    assert!(run.state.people().is_empty());
    for login in ["ann", "bob"] {
        run.apply(&Event::Identified { who: who(login) });
    }
    assert_eq!(run.state.people(), [who("ann"), who("bob")], "{}", run.trace);
}

/// A check of the old credential whose answer says nothing of a control proves it only in plans that knew no controls.
#[test]
fn a_refusal_without_a_word_on_its_control_proves_nothing() {
    let unproved = |format: u32| {
        let mut run = over(Strategy::Overlap, |plan| plan.format = format);
        run = run.wishing(|w| w.until = Some(Phase::Revoke)).go();
        run = run
            .wishing(|w| w.until = None)
            .resume()
            .when("proof/demo-key/reject", Op::Do, &[Reply::Bare])
            .go();
        assert_eq!(run.state.phase(), Some(Phase::Proof), "{}", run.trace);
        run.state.unproved().len()
    };
    assert_eq!(unproved(WITHOUT_CONTROLS), 0);
    assert_eq!(unproved(WITHOUT_CONTROLS + 1), 1);
}

/// Exposure ends where everything is proved, by a plan that has controls, and nothing accepts the old credential again.
#[test]
fn exposure_has_an_end_where_it_is_proved() {
    let done = |format: Option<u32>| {
        over(Strategy::Overlap, |plan| plan.format = format.unwrap_or(plan.format)).go()
    };
    let mut whole = done(None);
    assert!(whole.state.exposed_until().is_some(), "{}", whole.trace);
    assert_eq!(done(Some(WITHOUT_CONTROLS)).state.exposed_until(), None);
    let seen = Seen { stores: Vec::new(), outgoing: Sight::Accepted, incoming: Sight::Alive };
    whole.state.see("demo-key", whole.now, seen);
    assert_eq!(whole.state.exposed_until(), None, "a check accepted it in the end");
}

/// A phase that nothing has to settle for may be left at once: its steps' own time does not count.
#[test]
fn what_settles_at_once_is_not_waited_for() {
    let run = Run::overlap();
    let run = run.wishing(|w| w.until = Some(Phase::Verify)).go();
    let waits = run.state.plan().phase(Phase::Verify).expect("it is planned").clone();
    assert!(run.state.plan().settles(Phase::Verify).get().is_zero());
    assert_eq!(run.state.earliest(&waits), run.state.entered() + waits.at_least.get());
}

/// Where nothing revokes the old credential, a check that refuses it tells so.
#[test]
fn a_refusal_tells_where_nothing_revokes() {
    let outgoing = |until| {
        let mut run = over(Strategy::Overlap, |plan| {
            plan.steps.retain(|step| !matches!(step.action, Action::Disable { .. } | Action::Revoke { .. }));
            plan.steps.iter_mut().for_each(|step| step.after.clear());
        });
        run = run.when("proof/demo-key/reject", Op::Do, &[Reply::Inconclusive]);
        run = run.wishing(|w| w.until = Some(until)).go();
        run.state.truths().pop().expect("a credential").outgoing
    };
    assert_eq!(outgoing(Phase::Overlap), Outgoing::Accepted);
    assert_eq!(outgoing(Phase::Proof), Outgoing::Refused);
}

/// What a lost reply left, and could not be revoked on the way back, is revoked on the way forward before anything is issued.
#[test]
fn forward_again_revokes_what_the_way_back_could_not() {
    let issue = "prepare/demo-key/issue";
    let orphans = Reply::Found(Found::Orphans(vec!["left".into()]));
    let stuck = Run::overlap()
        .when(issue, Op::Do, &[Reply::Dies])
        .go()
        .resume()
        .turn(None)
        .when(issue, Op::Do, &[orphans])
        .when(issue, Op::Discard, &[Reply::Fail(ErrorKind::Denied)])
        .go();
    assert!(matches!(stuck.state.stopped(), Some(Stop::Stuck { .. })), "{}", stuck.trace);
    let forward = stuck.then(&Event::Forward { why: "asked".into() });
    let Status::Orphaned { handles, .. } = forward.state.status(at(&forward, issue)) else {
        panic!("{}", forward.trace)
    };
    assert_eq!(handles[..], ["left".to_owned()]);
}

/// Under `contain` what took the old credential's place is not given back to the attacker by the engine's own word.
#[test]
fn contain_does_not_turn_by_itself_where_the_old_one_was_replaced() {
    let end = |replaces: bool| {
        let run = over(Strategy::Contain, |plan| {
            if replaces {
                let issuer = &mut plan.credentials[0].issuer;
                (issuer.coexists, issuer.disables, issuer.revokes) = (false, false, false);
            }
        });
        run.when("prepare/demo-key/inspect", Op::Do, &[Reply::Fail(ErrorKind::Refused)]).go()
    };
    assert_eq!(end(false).state.end(), Some(End::GateRolledBack));
    let replaced = end(true);
    assert!(matches!(replaced.state.stopped(), Some(Stop::Failed { .. })), "{}", replaced.trace);
}

/// The kill does not wait for the next try of the issue: it is woken for, and where nobody approved it, it is not.
#[test]
fn a_wait_ends_for_the_kill_that_may_come() {
    let wakes = |approved: bool, passed: i64| {
        let run = over(Strategy::Contain, |plan| {
            if !approved {
                plan.approvals = Some(Approvals {
                    signers: String::new(),
                    required: vec![Requirement {
                        phase: Phase::Sunset,
                        count: 1,
                        from: vec!["ann".into()],
                        roles: vec!["security".into()],
                        within: Period::seconds(3600),
                        presence: false,
                        pin: false,
                    }],
                    break_glass: false,
                });
            }
        });
        let run = run.when("prepare/demo-key/issue", Op::Do, &[Reply::Dies]).go();
        let entered = run.state.entered();
        let wait = Failure {
            kind: ErrorKind::Throttled,
            message: "later".into(),
            hint: None,
            request_id: None,
            retry_after_ms: Some(60_000),
        };
        let run = run.then(&rejected("prepare/demo-key/issue", wait)).later(passed);
        match run.state.decide(run.now, &run.wishes).next {
            Next::Sleep(at) => Some(at.duration_since(entered).as_secs()),
            _ => None,
        }
    };
    let kill = i64::try_from(KILL_WAITS.as_secs()).expect("seconds");
    assert_eq!(wakes(true, 0), Some(kill));
    assert_eq!(wakes(true, kill), None, "it is time to kill");
    assert_eq!(wakes(false, 0), Some(kill), "an approval may come until then");
    assert_eq!(wakes(false, kill), Some(60), "nothing is due before the next try");
}

/// What was issued in time is not left behind by the kill.
#[test]
fn nothing_is_put_off_where_nothing_is_open() {
    let run = Run::contain().wishing(|w| w.until = Some(Phase::Prepare)).go();
    let run = run.wishing(|w| w.until = None).later(60);
    assert_eq!(run.state.phase(), Some(Phase::Prepare));
    let next = run.state.decide(run.now, &run.wishes).next;
    assert!(matches!(next, Next::Record(Event::Entered { phase: Phase::Sunset })), "{next:?}");
}

/// Another's value where nothing can be read: no look tells whose it is, and so none is taken.
#[test]
fn a_conflict_is_looked_into_where_the_store_can_be_read() {
    let conflict = |reads: bool| {
        let run = over(Strategy::Overlap, |plan| {
            for store in &mut plan.credentials[0].stores {
                store.traits.reads = reads;
            }
        });
        run.when(PROMOTE, Op::Do, &[Reply::Fail(ErrorKind::Conflict), Reply::Found(Found::Applied)]).go()
    };
    let looked = |run: &Run| run.trace.contains(&format!("found Applied Do {PROMOTE}"));
    let (read, unread) = (conflict(true), conflict(false));
    assert!(looked(&read), "{}", read.trace);
    assert!(
        !looked(&unread) && matches!(unread.state.stopped(), Some(Stop::Failed { .. })),
        "{}",
        unread.trace
    );
}

/// What a person has written again is written over whatever is there, in that credential's stores alone.
#[test]
fn writing_again_is_writing_over() {
    let run = Run::overlap().wishing(|w| w.until = Some(Phase::Overlap)).go().resume();
    assert!(!run.state.overwrites(at(&run, PROMOTE)));
    let again = run.then(&Event::Rewrite { credential: "demo-key".into(), takes_back: true });
    assert!(again.state.overwrites(at(&again, PROMOTE)), "{}", again.trace);
    assert!(!again.state.overwrites(at(&again, "verify/demo-key/accept/issuer")));
}

/// A program that was writing when stanch died may still write: it is waited for before a look settles what became of it.
#[test]
fn a_program_that_was_left_running_is_waited_for() {
    let waits = |program: bool| {
        let run = over(Strategy::Overlap, |plan| {
            let credential = plan.runbook.credentials.get_mut("demo-key").expect("a credential");
            if program {
                let store = serde_json::json!({
                    "type": "pass-through", "argv": ["./store"], "place": "p", "reads": true, "conditional": true,
                });
                credential.stores[0] = serde_json::from_value(store).expect("a store");
            }
        });
        let deadline = run.state.plan().runbook.limits.deadline.get().as_secs();
        let run = run.when(PROMOTE, Op::Do, &[Reply::Dies]).go().resume();
        let Status::Unknown { not_before: Some(look), .. } = run.state.status(at(&run, PROMOTE)) else {
            panic!("{}", run.trace)
        };
        u64::try_from(look.duration_since(run.now).as_secs()).expect("later") >= deadline
    };
    assert_eq!((waits(false), waits(true)), (false, true));
}
