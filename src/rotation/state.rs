//! The state of a run: a fold over its events.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use super::end::{End, Stop};
use super::outcome::{Failure, Op};
use super::seen::Seen;
use super::step::{Status, StepState};
use super::work::Work;
use crate::approve::Standing;
use crate::clock::add;
use crate::domain::{ADOPTED, Judgement, Opening, Phase, Verdict, Who};
use crate::plan::{Action, Plan, PlannedPhase};
use crate::sabotage::{Sabotage, is_on};

/// Which way the run goes.
#[derive(Debug, Clone, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "lowercase")]
pub enum Direction {
    /// Towards done.
    Forward,
    /// Back to the end of a phase, or all the way.
    Back {
        /// The phase; `None` is all the way.
        to: Option<Phase>,
        /// Why.
        why: String,
        /// Whether the engine decided it.
        by_gate: bool,
    },
}

/// Whether a gate gives no verdict: it cannot be evaluated, or has nothing to judge. One failure of several in a row is
/// a verdict.
fn is_mute((verdict, detail): &(Verdict, String)) -> bool {
    match verdict {
        Verdict::Error => true,
        Verdict::Inconclusive => !detail.contains(Judgement::FAILURE),
        Verdict::Pass | Verdict::Fail => false,
    }
}

/// The state of a run.
#[derive(Debug, Clone)]
pub struct State {
    pub(super) plan: Arc<Plan>,
    index: Arc<HashMap<String, usize>>,
    /// By the plan's index.
    pub(super) steps: Vec<StepState>,
    pub(super) opened: Timestamp,
    pub(super) phase: Option<Phase>,
    pub(super) entered: Timestamp,
    /// When it was last learnt what became of a step.
    pub(super) moved: Timestamp,
    /// When this session's patience began: entering the phase, or resuming in it.
    pub(super) patience: Timestamp,
    pub(super) direction: Direction,
    pub(super) halted: Option<String>,
    pub(super) end: Option<End>,
    /// When it ended.
    pub(super) ended: Option<Timestamp>,
    pub(super) stopped: Option<Stop>,
    /// The phase that a rollback led back to, until somebody resumes.
    pub(super) returned: Option<Phase>,
    pub(super) judged: BTreeMap<String, (Verdict, String)>,
    /// The steps of the proof whose place accepted the old credential again afterwards, and when that was last seen.
    /// Forgotten once every place refuses it again, or it is killed once more.
    pub(super) let_in: BTreeMap<usize, Timestamp>,
    /// The gates of the present phase for which a person vouched.
    pub(super) vouched: BTreeSet<String>,
    /// All of them, of all phases.
    pub(super) vouches: Vec<(String, Phase)>,
    pub(super) adopted: BTreeMap<(String, String), (usize, usize)>,
    pub(super) changed: bool,
    /// Under `contain`: the kill goes on although the new credential is not ready.
    pub(super) deferred: bool,
    /// What was last seen of each credential, and when.
    pub(super) seen: BTreeMap<String, (Timestamp, Seen)>,
    pub(super) work: Work,
    /// Who asked for the run, and who approved what.
    pub(super) standing: Standing,
    /// The words of whoever went on without approvals.
    pub(super) broke_glass: Option<String>,
    /// When cutover may begin, as far as this session knows. Not on record.
    pub(super) opening: Opening,
    /// Whether the next cutover may begin outside of the deployment windows.
    pub(super) hurries: bool,
    /// Whether the rollback takes back what an earlier try of a step may have done: versions that recorded no `from` did not.
    pub(super) thorough: bool,
    /// The words of whoever last let cutover begin outside of the deployment windows.
    pub(super) hurried: Option<String>,
    /// Who ran the processes, as their surroundings said; the last one last.
    pub(super) people: Vec<Who>,
    /// Who the run is to each server, as it says, by connection.
    pub(super) identities: BTreeMap<String, String>,
}

impl State {
    /// The state right after a run was opened.
    pub fn new(plan: Arc<Plan>, opened: Timestamp) -> Self {
        let steps = vec![StepState::new(); plan.steps.len()];
        let index = plan.steps.iter().enumerate().map(|(at, s)| (s.id.clone(), at)).collect();
        Self {
            plan,
            index: Arc::new(index),
            steps,
            opened,
            phase: None,
            entered: opened,
            moved: opened,
            patience: opened,
            direction: Direction::Forward,
            halted: None,
            end: None,
            ended: None,
            stopped: None,
            returned: None,
            judged: BTreeMap::new(),
            let_in: BTreeMap::new(),
            vouched: BTreeSet::new(),
            vouches: Vec::new(),
            adopted: BTreeMap::new(),
            changed: false,
            deferred: false,
            seen: BTreeMap::new(),
            work: Work::default(),
            standing: Standing::default(),
            broke_glass: None,
            opening: Opening::Now,
            hurries: false,
            thorough: false,
            hurried: None,
            people: Vec::new(),
            identities: BTreeMap::new(),
        }
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// When the run was opened.
    pub fn opened(&self) -> Timestamp {
        self.opened
    }

    /// The phase that the run is in; `None` before the first.
    pub fn phase(&self) -> Option<Phase> {
        self.phase
    }

    /// When the phase began.
    pub fn entered(&self) -> Timestamp {
        self.entered
    }

    /// When a phase that was entered may be left at the earliest, if nothing else is done in it.
    pub fn earliest(&self, waits: &PlannedPhase) -> Timestamp {
        add(self.entered, waits.at_least.get()).max(self.settled(waits.phase))
    }

    /// When everybody goes by what the phase's last step did.
    pub(super) fn settled(&self, phase: Phase) -> Timestamp {
        let settles = self.plan.settles(phase).get();
        if settles.is_zero() || is_on(Sabotage::Settle) { self.entered } else { add(self.moved, settles) }
    }

    /// When this session's patience began: entering the phase, or resuming in it.
    pub fn patience(&self) -> Timestamp {
        self.patience
    }

    /// When a check of a new credential passed, if that was in this process.
    pub fn verified(&self, step: usize) -> Option<Timestamp> {
        self.steps[step].verified
    }

    /// Which way the run goes.
    pub fn direction(&self) -> &Direction {
        &self.direction
    }

    /// Who set the latch and why, while it is set.
    pub fn halted(&self) -> Option<&str> {
        self.halted.as_deref()
    }

    /// How the run ended, once it has.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// When the run ended, once it has.
    pub fn ended(&self) -> Option<Timestamp> {
        self.ended
    }

    /// Why the last process stopped, if it said so.
    pub fn stopped(&self) -> Option<&Stop> {
        self.stopped.as_ref()
    }

    /// How many steps have an intent and no outcome, in this process.
    pub fn under_way(&self) -> usize {
        self.work.started.len()
    }

    /// How many of those only ask, with waits in between.
    pub fn asking(&self) -> usize {
        self.work.started.iter().filter(|at| self.plan.steps[**at].action.asks()).count()
    }

    /// Where a step stands.
    pub fn status(&self, step: usize) -> &Status {
        &self.steps[step].status
    }

    /// Whether a step's effect stands: it was done, and not taken back.
    pub fn is_in_effect(&self, step: usize) -> bool {
        matches!(
            self.steps[step].status,
            Status::Done
                | Status::Undoing { .. }
                | Status::Failed { op: Op::Undo, .. }
                | Status::Started { op: Op::Undo, .. }
        )
    }

    /// A step by its id.
    pub fn step(&self, id: &str) -> Option<usize> {
        self.index.get(id).copied()
    }

    /// What a finished step left for later ones.
    pub fn fact(&self, step: usize, name: &str) -> Option<&str> {
        self.steps[step].facts.get(name).map(String::as_str)
    }

    /// How often a step was taken back.
    pub fn round(&self, step: usize) -> u32 {
        self.steps[step].round
    }

    /// When the first intent of a step was recorded, in whichever round.
    pub fn begun(&self, step: usize) -> Option<Timestamp> {
        self.steps[step].begun
    }

    /// Whether a step took effect, or a try to do it may have.
    pub fn may_have_landed(&self, step: usize) -> bool {
        self.steps[step].doubted || !self.steps[step].facts.is_empty()
    }

    /// When the first intent of a step's present round was recorded.
    pub fn since(&self, step: usize) -> Option<Timestamp> {
        self.steps[step].since
    }

    /// When the last intent to do a step in its present round was recorded.
    pub fn last(&self, step: usize) -> Option<Timestamp> {
        self.steps[step].last
    }

    /// When the last intent to take a step back was recorded.
    pub fn last_undo(&self, step: usize) -> Option<Timestamp> {
        self.steps[step].last_undo
    }

    /// The gates' last verdicts in this session.
    pub fn judged(&self) -> &BTreeMap<String, (Verdict, String)> {
        &self.judged
    }

    /// The gates of the present phase for which a person vouched.
    pub fn vouched(&self) -> &BTreeSet<String> {
        &self.vouched
    }

    /// Every gate for which a person vouched in this run, with the phase.
    pub fn vouches(&self) -> &[(String, Phase)] {
        &self.vouches
    }

    /// Whether a person's word stands for this gate: it was asked since, and still gives no verdict.
    pub(super) fn is_vouched(&self, gate: &str) -> bool {
        self.vouched.contains(gate) && self.judged.get(gate).is_some_and(is_mute)
    }

    /// Whether a person's word can stand for this gate: the present phase waits for it, and it did not fail. Consumers
    /// are asked once more before anything dies, so that a word would not help `adopted`.
    pub fn may_vouch(&self, gate: &str) -> bool {
        let waits = self.phase.and_then(|phase| self.plan.phase(phase));
        self.end.is_none()
            && self.direction == Direction::Forward
            && gate != ADOPTED
            && self.judged.get(gate).is_none_or(is_mute)
            && waits.is_some_and(|waits| waits.until.iter().any(|name| name == gate))
    }

    /// Of each credential and consumer: how many instances use the wanted version, of how many.
    pub fn adopted(&self) -> &BTreeMap<(String, String), (usize, usize)> {
        &self.adopted
    }

    /// Whether something was done that cannot be taken back.
    pub fn is_past_return(&self) -> bool {
        self.steps.iter().any(|step| step.irrevocable)
    }

    /// Who asked for the run, and who approved what.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The words of whoever went on without approvals, if somebody did.
    pub fn broke_glass(&self) -> Option<&str> {
        self.broke_glass.as_deref()
    }

    /// The words of whoever let cutover begin outside of the deployment windows, if somebody did.
    pub fn hurried(&self) -> Option<&str> {
        self.hurried.as_deref()
    }

    /// Takes when cutover may begin, as far as deployment windows go. It is not on record: who knows the time zones says
    /// it again in every session.
    pub fn foresee(&mut self, opening: Opening) {
        self.opening = opening;
    }

    /// What keeps cutover from beginning at a moment, of what was foreseen: [`Opening::Now`] where nothing does, or
    /// cutover does not lie ahead.
    pub fn window(&self, now: Timestamp) -> Opening {
        match self.foreseen() {
            Opening::At(at) if at <= now => Opening::Now,
            opening => opening,
        }
    }

    /// The same at the moment for which it was foreseen.
    pub fn foreseen(&self) -> Opening {
        if self.may_hurry() && !self.hurries { self.opening } else { Opening::Now }
    }

    /// Whether cutover lies ahead of the run, so that a word of a person can let it begin now.
    pub fn may_hurry(&self) -> bool {
        let ahead = self.phase.is_none_or(|phase| phase < Phase::Cutover);
        self.plan.waits_for_windows() && self.direction == Direction::Forward && ahead && self.end.is_none()
    }

    /// Who ran the processes that worked on the run, as their surroundings said; the last one last.
    pub fn people(&self) -> &[Who] {
        &self.people
    }

    /// Who the run is to each server, as the server says, by connection.
    pub fn identities(&self) -> &BTreeMap<String, String> {
        &self.identities
    }

    /// Whether anything outside was, or may have been, changed.
    pub fn has_changed_anything(&self) -> bool {
        self.changed
    }

    /// What was last seen of a credential's place in the world, and when.
    pub fn seen(&self, credential: &str) -> Option<&(Timestamp, Seen)> {
        self.seen.get(credential)
    }

    /// Takes in a look that is not on record.
    pub fn see(&mut self, credential: &str, at: Timestamp, seen: Seen) {
        self.seen.insert(credential.to_owned(), (at, seen));
    }

    /// Takes how many instances of a consumer use the new credential, between sessions and without a record.
    pub fn count_adopted(&mut self, credential: &str, consumer: &str, instances: usize, of: usize) {
        self.adopted.insert((credential.to_owned(), consumer.to_owned()), (instances, of));
    }

    /// Whether a promotion is to be done over whatever its store holds.
    pub fn overwrites(&self, step: usize) -> bool {
        self.steps[step].overwrites
    }

    /// The steps whose outcome nobody knows.
    pub fn unknown(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.steps.len()).filter(|s| matches!(self.status(*s), Status::Unknown { .. }))
    }

    /// Whether later steps need to know of an unknown step what only its server's answer says (which
    /// credential, which version), so that nobody's word that it took effect is enough.
    pub fn needs_its_answer(&self, step: usize) -> bool {
        let (Status::Unknown { op, .. } | Status::Started { op, .. } | Status::Failed { op, .. }) =
            self.steps[step].status
        else {
            return false;
        };
        match self.plan.steps[step].action {
            // A value made here is known without an answer.
            Action::Issue { credential } => op == Op::Do && self.plan.credentials[credential].issuer.mints,
            Action::Stage { .. } => op == Op::Do,
            // What a swap back wrote is what the next way there starts from.
            Action::Promote { .. } => true,
            Action::Connection { .. }
            | Action::Permission { .. }
            | Action::Capture { .. }
            | Action::Baseline { .. }
            | Action::Inspect { .. }
            | Action::Accept { .. }
            | Action::Reload { .. }
            | Action::Disable { .. }
            | Action::Revoke { .. }
            | Action::Destroy { .. }
            | Action::Reject { .. }
            | Action::Sweep { .. }
            | Action::Own { .. } => false,
        }
    }

    /// The failure that a step ended in.
    pub fn failure(&self, step: usize) -> Option<&Failure> {
        match &self.steps[step].status {
            Status::Failed { failure, .. } => Some(failure),
            _ => None,
        }
    }
}
