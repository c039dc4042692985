//! What a state tells of itself, and what it refuses, where no trace shows it.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Ended, Found, Op, Reply, Run, rejected};
use crate::approve::Approvals;
use crate::domain::{ErrorKind, Period, Phase, REFUSED, Verdict};
use crate::plan::Plan;
use crate::rotation::{
    Event, Facts, Failure, Holds, Incoming, Next, Outgoing, Seen, Sight, State, Stop, Truth, Wishes,
};

fn until(phase: Phase) -> Run {
    Run::overlap().wishing(|w| w.until = Some(phase)).go()
}

/// The truth of the credential after cutover, once the world was seen so.
fn seen(stores: [Holds; 2], incoming: Sight) -> Truth {
    let mut run = until(Phase::Cutover);
    let look = Seen { stores: stores.to_vec(), outgoing: Sight::Alive, incoming };
    run.state.see("demo-key", run.now, look);
    run.state.truths().pop().expect("a credential")
}

#[test]
fn what_was_seen_counts_more_than_what_was_done() {
    let done = until(Phase::Cutover).state.truths().pop().expect("a credential");
    assert_eq!((done.current, done.seen, done.is_displaced()), (2, None, false), "no look was taken");
    let both = seen([Holds::Incoming; 2], Sight::Alive);
    assert_eq!((both.current, both.is_displaced(), both.is_overtaken()), (2, false, false));
    assert!(both.seen.is_some());
    for (other, strange, nothing, incomparable) in [
        (Holds::Other, 1, 0, 0),
        (Holds::Nothing, 1, 1, 0),
        (Holds::Incomparable, 0, 0, 1),
        (Holds::Outgoing, 0, 0, 0),
    ] {
        let truth = seen([Holds::Incoming, other], Sight::Alive);
        assert_eq!(
            (truth.strange, truth.nothing, truth.incomparable),
            (strange, nothing, incomparable),
            "{other:?}"
        );
        assert!(truth.is_displaced() && truth.is_overtaken() && truth.seen.is_some(), "{other:?}");
        assert_eq!(truth.current, 1);
    }
    // A store that could not be read says nothing against the others.
    let unread = seen([Holds::Incoming, Holds::Unreadable], Sight::Alive);
    assert_eq!((unread.unread, unread.seen, unread.is_displaced()), (1, None, false));
    let both = seen([Holds::Other, Holds::Unreadable], Sight::Alive);
    assert!(both.seen.is_none() && both.is_displaced(), "what was seen of one store counts");
    for gone in [Sight::Gone, Sight::Deleted, Sight::Disabled, Sight::Refused] {
        let truth = seen([Holds::Incoming; 2], gone);
        assert_eq!(truth.incoming, Incoming::Dead, "{gone:?}");
        assert!(truth.is_overtaken() && !truth.is_displaced());
    }
}

#[test]
fn what_is_ahead_begins_behind_the_present_phase() {
    let ahead = |run: &Run| run.state.phases_ahead();
    assert_eq!(ahead(&Run::overlap()).first(), Some(&Phase::Preflight));
    assert_eq!(ahead(&until(Phase::Overlap)), [Phase::Sunset, Phase::Revoke, Phase::Proof]);
    assert_eq!(ahead(&until(Phase::Proof)), []);
}

/// A check that refuses the old credential before anything was changed.
#[test]
fn a_refusal_beforehand_is_told() {
    let outgoing = |kind| {
        let run = Run::overlap().when("preflight/demo-key/baseline", Op::Do, &[Reply::Fail(kind)]).go();
        run.state.truths().pop().expect("a credential").outgoing
    };
    assert_eq!(outgoing(ErrorKind::Declined), Outgoing::Refused);
    assert_eq!(outgoing(ErrorKind::Unsupported), Outgoing::Accepted);
}

/// The old credential takes its place again only where nothing is under way, and only on the way back.
#[test]
fn forward_is_for_an_idle_way_back() {
    let forward = Event::Forward { why: String::new() };
    let on = until(Phase::Cutover);
    assert!(on.state.clone().apply(&forward, on.now).is_err(), "it goes forward");
    let mut back = on.turn(None);
    assert!(back.state.clone().apply(&forward, back.now).is_ok());
    let task = back.state.decide(back.now, &back.wishes).tasks.remove(0);
    let super::Task::Perform { step, op, attempt } = task else { panic!("{task:?}") };
    let (id, round) = (back.state.plan().steps[step].id.clone(), back.state.round(step));
    back.apply(&Event::Intent { step: id, op, attempt, round });
    assert!(back.state.clone().apply(&forward, back.now).is_err(), "an undo is under way");
    let resumed = back.resume();
    assert!(resumed.state.clone().apply(&forward, resumed.now).is_err(), "its outcome is unknown");
}

/// Under `contain` the kill begins while the new credential is not ready only once that was put off.
#[test]
fn the_kill_does_not_leave_the_new_credential_behind_by_itself() {
    let sunset = Event::Entered { phase: Phase::Sunset };
    let issue = "prepare/demo-key/issue";
    let run = Run::contain().when(issue, Op::Do, &[Reply::Dies]).go();
    assert!(run.state.clone().apply(&sunset, run.now).is_err(), "the call is under way");
    let later = Failure {
        kind: ErrorKind::Throttled,
        message: "later".into(),
        hint: None,
        request_id: None,
        retry_after_ms: None,
    };
    let run = run.then(&rejected(issue, later));
    assert!(run.state.clone().apply(&sunset, run.now).is_err(), "it is still to be issued");
    let put_off = run.then(&Event::Deferred {});
    assert!(put_off.state.clone().apply(&sunset, put_off.now).is_ok());
}

#[test]
fn a_word_for_a_gate_and_a_broken_glass_are_told() {
    let mut run =
        Run::gated(crate::domain::Strategy::Overlap, Phase::Overlap).judging("errors", Verdict::Error).go();
    assert!(run.state.vouched().is_empty());
    run = run.resume();
    run.apply(&Event::Vouched { gate: "errors".into(), phase: Phase::Overlap, evidence: "seen".into() });
    assert_eq!(run.state.vouched().iter().collect::<Vec<_>>(), ["errors"], "{}", run.trace);
    assert_eq!(run.state.broke_glass(), None);
}

/// A store that a rollback could not write counts as written.
#[test]
fn a_store_that_could_not_be_swapped_back_is_swapped() {
    assert!(!until(Phase::Verify).state.has_swapped());
    assert!(until(Phase::Cutover).state.has_swapped());
    let back = until(Phase::Cutover).turn(None).go();
    assert!(!back.state.has_swapped(), "all of it was taken back");
    let stuck = until(Phase::Cutover)
        .turn(None)
        .when("cutover/demo-key/promote", Op::Undo, &[Reply::Fail(ErrorKind::Denied)])
        .go();
    assert!(stuck.state.has_swapped());
}

/// A place that accepts the old credential after its proof: no later answer hides it, and a resumed run watches as long
/// as it was to watch.
#[test]
fn a_credential_that_is_let_in_again_is_not_dead() {
    let judged = |verdict| Event::Judged { gate: REFUSED.into(), verdict, detail: String::new() };
    let reject = "proof/demo-key/reject/issuer";
    let let_in = || Event::LetIn { step: reject.into(), detail: String::new() };
    let mut plan = (**Run::overlap().state.plan()).clone();
    let waits = plan.phases.iter_mut().find(|waits| waits.phase == Phase::Proof).expect("it has a proof");
    (waits.at_least, waits.until) = (Period::seconds(60), vec![REFUSED.into()]);
    let state = State::new(Arc::new(plan), Timestamp::UNIX_EPOCH);
    let run = Run { state, ..Run::overlap() }.judging(REFUSED, Verdict::Pass);
    let revoked = run.wishing(|w| w.until = Some(Phase::Revoke)).go();
    let watching = revoked.resume().wishing(|w| (w.until, w.no_wait) = (None, true)).go();
    assert!(matches!(watching.state.stopped(), Some(Stop::Waiting { .. })), "{}", watching.trace);
    let truth = |run: &Run| run.state.truths().pop().expect("a credential").outgoing;
    assert_eq!(truth(&watching), Outgoing::Dead);
    let entered = watching.state.entered();

    assert!(Run::overlap().state.apply(&let_in(), Timestamp::UNIX_EPOCH).is_err(), "before the proof");
    let watching = watching.later(30).resume().go();
    assert_eq!(watching.state.entered(), entered, "a resumed watch goes on where nothing was wrong");
    let seen = watching.then(&let_in());
    let seen = seen.then(&judged(Verdict::Fail)).then(&judged(Verdict::Pass));
    let decision = seen.state.decide(seen.now, &Wishes::default());
    let Next::Record(Event::Stopped { reason: Stop::LetIn { credentials } }) = decision.next else {
        panic!("{:?} {:?}\n{}", decision.next, decision.tasks, seen.trace)
    };
    assert_eq!(credentials, ["demo-key"]);
    assert_eq!(truth(&seen), Outgoing::Accepted);
    assert_eq!(seen.state.exposed_until(), None);
    assert_eq!(seen.state.unproved().len(), 1);
    let [here, there] = seen.state.vantages()[..] else { panic!("two places") };
    assert_eq!((here.proved, here.accepted, here.refused), (false, Some(seen.now), None));
    assert!(there.proved && there.refused.is_some());
    let revoke = seen.state.step("revoke/demo-key/revoke").expect("a step");
    assert!(seen.state.may_repeat(revoke));

    let resumed = seen.later(3600).resume();
    assert_eq!(resumed.state.entered(), resumed.now, "it watches anew");
    assert_eq!(truth(&resumed), Outgoing::Accepted, "nothing was asked yet");
    let mut refused = resumed.go();
    assert_eq!(truth(&refused), Outgoing::Dead);
    assert!(matches!(refused.state.stopped(), Some(Stop::Waiting { .. })), "{}", refused.trace);
    refused.apply(&let_in());
    let killed = refused.then(&Event::Resolved {
        step: "revoke/demo-key/revoke".into(),
        applied: false,
        evidence: "it works again".into(),
        facts: Facts::new(),
    });
    assert_eq!(killed.state.phase(), Some(Phase::Revoke), "{}", killed.trace);
    assert!(!killed.state.was_let_in("demo-key"));
}

/// A run as [`Run::overlap`], over a plan that was changed.
fn over(change: impl FnOnce(&mut Plan)) -> Run {
    let mut plan = (**Run::overlap().state.plan()).clone();
    change(&mut plan);
    Run { state: State::new(Arc::new(plan), Timestamp::UNIX_EPOCH), ..Run::overlap() }
}

/// Where no store is looked at, a look counts if an issuer or a check was asked.
#[test]
fn a_look_counts_where_something_was_asked() {
    let look = |outgoing, incoming| {
        let mut run = over(|plan| plan.credentials[0].stores.clear());
        run.state.see("demo-key", run.now, Seen { stores: Vec::new(), outgoing, incoming });
        run.state.truths().pop().expect("a credential").seen.is_some()
    };
    assert!(!look(Sight::Unseen, Sight::Unseen));
    assert!(look(Sight::Alive, Sight::Unseen));
    assert!(look(Sight::Unseen, Sight::Alive));
    let mut run = Run::overlap();
    let unseen = Seen { stores: vec![Holds::Outgoing; 2], outgoing: Sight::Unseen, incoming: Sight::Unseen };
    run.state.see("demo-key", run.now, unseen);
    assert!(run.state.truths().pop().expect("a credential").seen.is_some(), "its stores were read");
}

/// A place that lets the old credential in counts more than its issuer's word, in either order, and only then.
#[test]
fn what_lets_it_in_counts_more_than_its_issuers_word() {
    let revoked = || until(Phase::Proof);
    let sight = |run: &mut Run, outgoing| {
        let seen = Seen { stores: vec![Holds::Incoming; 2], outgoing, incoming: Sight::Alive };
        run.state.see("demo-key", run.now, seen);
        run.state.truths().pop().expect("a credential").outgoing
    };
    let mut quiet = revoked();
    assert_eq!(sight(&mut quiet, Sight::Gone), Outgoing::Dead, "{}", quiet.trace);
    assert_eq!(sight(&mut quiet, Sight::Disabled), Outgoing::Disabled);
    assert_eq!(sight(&mut quiet, Sight::Deleted), Outgoing::Deleted);
    assert_eq!(sight(&mut quiet, Sight::Accepted), Outgoing::Accepted);
    let reject = "proof/demo-key/reject/issuer";
    let mut loud = revoked();
    loud.apply(&Event::LetIn { step: reject.into(), detail: String::new() });
    for sighted in [Sight::Gone, Sight::Disabled, Sight::Deleted, Sight::Refused] {
        assert_eq!(sight(&mut loud, sighted), Outgoing::Accepted, "{sighted:?}: {}", loud.trace);
    }
    // Its issuer does not know it any more, though this run has not revoked it.
    let mut early = until(Phase::Cutover);
    assert_eq!(sight(&mut early, Sight::Gone), Outgoing::Gone);
}

/// The last try's words are kept, and its kind where that is certain; the wait that its server asked for is over.
#[test]
fn a_step_without_effect_keeps_what_its_server_said() {
    let step = "revoke/demo-key/revoke";
    let failed = |kind| {
        let run = Run::overlap().when(step, Op::Do, &[Reply::Doubt(kind), Reply::Found(Found::Absent)]).go();
        let at = run.state.step(step).expect("a step");
        run.state.failure(at).cloned().expect("it failed")
    };
    assert_eq!(failed(ErrorKind::Denied).kind, ErrorKind::Denied);
    assert_eq!(failed(ErrorKind::NoAnswer).kind, ErrorKind::Invalid);
    let mut run = Run::overlap();
    run.replies.push((step, Op::Do, vec![Reply::Dies]));
    let mut run = run.go();
    for attempt in 1.. {
        let later = Failure {
            kind: ErrorKind::Throttled,
            message: "later".into(),
            hint: None,
            request_id: None,
            retry_after_ms: Some(1),
        };
        run.apply(&Event::Outcome {
            step: step.into(),
            op: Op::Do,
            attempt,
            result: Ended::Unknown,
            facts: Facts::new(),
            checks: Vec::new(),
            error: Some(later),
            latency_ms: 1,
        });
        run.now += jiff::SignedDuration::from_secs(120);
        run.apply(&Event::Settled {
            step: step.into(),
            op: Op::Do,
            attempt,
            found: Found::Absent,
            facts: Facts::new(),
            detail: String::new(),
        });
        let at = run.state.step(step).expect("a step");
        if let Some(failure) = run.state.failure(at).filter(|_| run.state.status(at).word() == "failed") {
            assert_eq!(failure.retry_after_ms, None, "{}", run.trace);
            break;
        }
        run.now += jiff::SignedDuration::from_secs(3600);
        let round = run.state.round(at);
        run.apply(&Event::Intent { step: step.into(), op: Op::Do, attempt: attempt + 1, round });
    }
}

/// Who went on without approvals, and why, is told; and only where the plan allows it.
#[test]
fn a_broken_glass_is_told() {
    let approvals = |break_glass| Approvals { signers: String::new(), required: Vec::new(), break_glass };
    let broke = Event::BrokeGlass { by: "eve".into(), reason: "all asleep".into(), ticket: "INC-7".into() };
    let strict = over(|plan| plan.approvals = Some(approvals(false)));
    assert!(strict.state.clone().apply(&broke, strict.now).is_err());
    let run = over(|plan| plan.approvals = Some(approvals(true)));
    assert_eq!(run.state.broke_glass(), None);
    assert_eq!(run.then(&broke).state.broke_glass(), Some("eve: all asleep (INC-7)"));
}

/// Each place has its own baseline: what a check accepted before is told of that check alone.
#[test]
fn each_place_has_its_own_last_acceptance() {
    let run = until(Phase::Proof);
    let places = run.state.vantages();
    let baselines: Vec<_> = places.iter().map(|place| place.before.expect("a baseline")).collect();
    let baselines: Vec<_> = baselines.iter().map(|at| run.state.plan().steps[*at].id.as_str()).collect();
    assert_eq!(baselines, ["preflight/demo-key/baseline/issuer", "preflight/demo-key/baseline/accepts-1"]);
    assert!(places.iter().all(|place| place.accepted < place.refused && place.called.is_some()));
}

/// Where nothing was to be revoked, no exposure is counted; one credential of which an issuer knew something is enough.
#[test]
fn exposure_is_counted_where_an_old_credential_was_known() {
    assert!(!over(|_| {}).state.is_unexposed());
    assert!(over(|plan| plan.credentials[0].waived = Some("dead".into())).state.is_unexposed());
}

/// A session's patience begins with it, and a check counts in the process that saw it pass.
#[test]
fn patience_and_what_a_process_saw_end_with_it() {
    let run = until(Phase::Verify);
    let accepts = |run: &Run| run.state.step("verify/demo-key/accept/issuer").expect("a step");
    assert_eq!(run.state.patience(), run.state.entered(), "no time passed in it before");
    assert!(run.state.verified(accepts(&run)).is_some());
    let run = run.later(3600).resume();
    assert_eq!(run.state.patience(), run.now);
    assert!(run.state.entered() < run.now);
    assert_eq!(run.state.verified(accepts(&run)), None);
}

/// Where issuing takes the place of the old credential, the old one is as well as the issue is known.
#[test]
fn what_took_its_place_tells_of_the_old_one() {
    let issue = "prepare/demo-key/issue";
    let outgoing = |reply: Reply| {
        let run = over(|plan| {
            let issuer = &mut plan.credentials[0].issuer;
            (issuer.coexists, issuer.disables, issuer.revokes) = (false, false, false);
        });
        let run = run.when(issue, Op::Do, &[reply]).wishing(|w| w.until = Some(Phase::Prepare)).go();
        run.state.truths().pop().expect("a credential").outgoing
    };
    assert_eq!(outgoing(Reply::Ok), Outgoing::Replaced);
    assert_eq!(outgoing(Reply::Dies), Outgoing::Unknown);
    assert_eq!(outgoing(Reply::Fail(ErrorKind::Denied)), Outgoing::Accepted);
}
