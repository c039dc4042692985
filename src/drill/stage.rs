//! A drill under way: which injects are due, and what befalls the calls to the sandbox because of those that happened.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::model::{CallOf, Condition, Doing, Effect, Inject, Scenario};
use super::story::Story;
use crate::clock::{Clock, add};
use crate::domain::{ErrorKind, Life};
use crate::plan::Plan;
use crate::provider::CallError;
use crate::provider::sandbox::{Fault, Faults, Sandbox, consumer_target, principal};
use crate::rotation::Event;
use crate::runbook::model::{Credential, Runbook};

/// What a person at another terminal asks of a drill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Ask {
    /// Let an inject happen now.
    Inject {
        /// Its name.
        inject: String,
        /// Who asks.
        by: String,
    },
    /// Let an inject not happen.
    Skip {
        /// Its name.
        inject: String,
        /// Who asks.
        by: String,
    },
    /// Put a participant's answer on the record.
    Answer {
        /// The inject that asked.
        inject: String,
        /// The answer.
        answer: String,
        /// Who answers.
        by: String,
    },
    /// Put a facilitator's observation on the record.
    Note {
        /// It.
        text: String,
        /// Whose.
        by: String,
    },
}

/// An inject that happened and whose effect may last.
#[derive(Debug)]
struct Active {
    inject: usize,
    since: Timestamp,
    session: usize,
    /// It befell the one call that it was meant for, or was put right again.
    spent: bool,
}

/// A drill under way. One for all that a process does in it.
pub struct Stage {
    scenario: Scenario,
    text: String,
    begun: Timestamp,
    clock: Arc<dyn Clock>,
    /// `None` for whoever only reads.
    world: Option<Sandbox>,
    state: Mutex<Scene>,
}

#[derive(Default)]
struct Scene {
    story: Story,
    active: Vec<Active>,
    /// Recorded by the drill itself, for whoever shows what happens.
    said: Vec<Event>,
    /// The next write to the journal fails.
    disk_full: bool,
}

/// How a facilitator's note begins on the record.
const NOTE: &str = "DRILL note";

/// Whether an event is a facilitator's note, which the terminals of participants do not show.
pub fn is_note(event: &Event) -> bool {
    matches!(event, Event::Noted { text } if text.starts_with(NOTE))
}

impl Stage {
    /// The stage of a scenario, whose text this is, in this world.
    pub fn new(
        scenario: Scenario,
        text: String,
        begun: Timestamp,
        clock: Arc<dyn Clock>,
        world: Option<Sandbox>,
    ) -> Self {
        Self { scenario, text, begun, clock, world, state: Mutex::default() }
    }

    /// What is played.
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    fn scene(&self) -> MutexGuard<'_, Scene> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the drill itself put on the record since this was asked last.
    pub fn said(&self) -> Vec<Event> {
        std::mem::take(&mut self.scene().said)
    }

    /// When something that waits for an event is due: `None` while the event has not come.
    pub fn due_at(&self, when: &Condition, after: Option<Duration>) -> Option<Timestamp> {
        self.scene().story.due(when, after)
    }

    /// Whether an inject has happened, or was skipped.
    pub fn is_over(&self, inject: &str) -> bool {
        self.scene().story.is_over(inject)
    }

    /// Whether an inject is due that has not happened.
    pub fn has_due(&self, now: Timestamp) -> bool {
        let scene = self.scene();
        self.scenario.injects.iter().any(|inject| is_due(&scene.story, inject, now))
    }

    /// Whether an inject only waits for its time.
    pub fn has_pending(&self) -> bool {
        let scene = self.scene();
        let comes = |inject: &Inject| scene.story.due(&inject.when, None).is_some();
        let open = |inject: &Inject| !scene.story.is_over(&inject.name);
        !scene.story.ended && self.scenario.injects.iter().any(|inject| open(inject) && comes(inject))
    }

    /// Begins with a run that was just opened, and says what the record is to begin with.
    pub(super) fn open(&self, plan: &Arc<Plan>, at: Timestamp, who: &str) -> Event {
        let mut scene = self.scene();
        *scene = Scene::default();
        scene.story.open(Arc::clone(plan), at, who);
        Event::Drill { scenario: self.text.clone(), begun: self.begun }
    }

    /// Whether nothing is known of any run yet.
    pub(super) fn is_empty(&self) -> bool {
        self.scene().story.plan.is_none()
    }

    /// Whether the run is over.
    pub fn has_ended(&self) -> bool {
        self.scene().story.ended
    }

    /// Whether an inject happened.
    pub fn has_happened(&self, inject: &str) -> bool {
        self.scene().story.injected(inject).is_some()
    }

    /// Whether a question was answered.
    pub fn is_answered(&self, inject: &str) -> bool {
        self.scene().story.answered(inject)
    }

    /// Forgets what was known of another run.
    pub(super) fn forget(&self) {
        *self.scene() = Scene::default();
    }

    /// Folds in a record that was written before.
    pub(super) fn replay(&self, at: Timestamp, who: &str, event: &Event) {
        let mut scene = self.scene();
        if let Event::Opened { plan, .. } = event {
            scene.story.open(Arc::new((**plan).clone()), at, who);
            return;
        }
        self.fold(&mut scene, at, event);
    }

    /// Begins after the last record of a run that is taken up again.
    pub(super) fn rested(&self) {
        self.scene().story.idle();
    }

    fn fold(&self, scene: &mut Scene, at: Timestamp, event: &Event) {
        scene.story.take(at, event);
        if let Event::Injected { inject: name, .. } = event
            && let Some(inject) = self.scenario.injects.iter().position(|inject| inject.name == *name)
            && self.scenario.injects[inject].effect.is_some()
        {
            let session = scene.story.session;
            scene.active.push(Active { inject, since: at, session, spent: false });
        }
    }

    /// Whether the disk is full: asked once before each write.
    pub(super) fn takes_disk(&self) -> bool {
        std::mem::take(&mut self.scene().disk_full)
    }

    /// What is recorded after these events, which are being recorded: the injects that are due now, one after the
    /// other, and what people asked for.
    pub(super) fn follow(&self, now: Timestamp, events: &[Event], asked: Vec<Ask>) -> Vec<Event> {
        let mut scene = self.scene();
        events.iter().for_each(|event| self.fold(&mut scene, now, event));
        let mut more = Vec::new();
        for ask in asked {
            let event = self.event(&scene.story, ask);
            more.extend(event.inspect(|event| self.fold(&mut scene, now, event)));
        }
        // One may wait for another.
        while !scene.story.ended
            && let Some(inject) = self.scenario.injects.iter().find(|i| is_due(&scene.story, i, now))
        {
            let event = Event::Injected { inject: inject.name.clone(), text: inject.told(), by: None };
            self.fold(&mut scene, now, &event);
            more.push(event);
        }
        more
    }

    fn event(&self, story: &Story, ask: Ask) -> Option<Event> {
        let known = |name: &str| self.scenario.inject(name);
        if story.ended {
            return None;
        }
        Some(match ask {
            Ask::Inject { inject, by } if !story.is_over(&inject) => {
                let text = known(&inject)?.told();
                Event::Injected { inject, text, by: Some(by) }
            }
            Ask::Skip { inject, by } if !story.is_over(&inject) && known(&inject).is_some() => {
                Event::Skipped { inject, by }
            }
            // The first answer counts.
            Ask::Answer { inject, answer, by } if !story.answered(&inject) => {
                known(&inject)?.choices.contains(&answer).then_some(())?;
                Event::Answered { inject, answer, by }
            }
            Ask::Note { text, by } => Event::Noted { text: format!("{NOTE} by {by}: {text}") },
            _ => return None,
        })
    }

    /// Does to the world what injects that are on the record now do at once, and puts right what is over.
    pub(super) fn act(&self, now: Timestamp, recorded: &[Event]) -> Result<(), CallError> {
        let mut scene = self.scene();
        let (Some(plan), Some(world)) = (scene.story.plan.clone(), &self.world) else { return Ok(()) };
        for event in recorded {
            let Event::Injected { inject, .. } = event else { continue };
            let Some(effect) = self.scenario.inject(inject).and_then(|inject| inject.effect.as_ref()) else {
                continue;
            };
            if let Effect::DiskFull(_) = effect {
                scene.disk_full = true;
            }
            change(world, &plan, effect)?;
        }
        scene.said.extend_from_slice(recorded);
        let session = scene.story.session;
        for active in scene.active.iter_mut().filter(|active| !active.spent) {
            let inject = &self.scenario.injects[active.inject];
            if !lasts(inject, active, now, session)
                && let Some(Effect::IgnoresReload(consumer)) = &inject.effect
            {
                active.spent = true;
                for (name, credential, at) in consumers(&plan.runbook, consumer) {
                    world.restart_by_hand(name, credential, at)?;
                }
            }
        }
        Ok(())
    }
}

/// Whether an inject happens now.
fn is_due(story: &Story, inject: &Inject, now: Timestamp) -> bool {
    let after = inject.after.map(|after| after.get());
    !story.ended && !story.is_over(&inject.name) && story.due(&inject.when, after).is_some_and(|at| at <= now)
}

/// Whether an effect still holds.
fn lasts(inject: &Inject, active: &Active, now: Timestamp, session: usize) -> bool {
    match inject.lasts {
        Some(period) => now < add(active.since, period.get()),
        None => session == active.session,
    }
}

/// The consumers of this name, with their credentials.
fn consumers<'a>(
    runbook: &'a Runbook,
    consumer: &'a str,
) -> impl Iterator<Item = (&'a str, &'a Credential, usize)> {
    runbook.credentials.iter().flat_map(move |(name, credential)| {
        let ours = credential.consumers.iter().enumerate().filter(move |(_, c)| c.name == consumer);
        ours.map(move |(at, _)| (name.as_str(), credential, at))
    })
}

/// What an effect does to the world at once.
fn change(world: &Sandbox, plan: &Plan, effect: &Effect) -> Result<(), CallError> {
    let credential = |name: &String| plan.runbook.credentials.get(name);
    match effect {
        Effect::Overwritten(name) => {
            let Some(credential) = credential(name) else { return Ok(()) };
            let Some(store) = credential.stores.first() else { return Ok(()) };
            let handle = world.mint_by_hand(name, credential)?;
            world.write_by_hand(&store.stand_in(), &handle, &[])
        }
        Effect::NewRevoked(name) => {
            let Some(credential) = credential(name) else { return Ok(()) };
            match world.newest_alive(name, credential)? {
                Some(handle) if !is_old(plan, name, &handle) => world.change_by_hand(&handle, Life::Gone),
                _ => Ok(()),
            }
        }
        Effect::OldRevoked(name) => {
            let planned = plan.credentials.iter().find(|planned| planned.name == *name);
            match planned.and_then(|planned| planned.outgoing.as_ref()) {
                Some(old) => world.change_by_hand(&old.handle, Life::Gone),
                None => Ok(()),
            }
        }
        Effect::IgnoresReload(_)
        | Effect::GateFails(_)
        | Effect::Unavailable(_)
        | Effect::TokenExpired(_)
        | Effect::ResponseLost(_)
        | Effect::RequestLost(_)
        | Effect::DiskFull(_) => Ok(()),
    }
}

fn is_old(plan: &Plan, name: &str, handle: &str) -> bool {
    let old = plan.credentials.iter().find(|planned| planned.name == *name).and_then(|p| p.outgoing.as_ref());
    old.is_some_and(|old| old.handle == handle)
}

/// The name of the connection that a part of a runbook uses.
pub(super) fn connection_of(part: &impl Serialize) -> Option<String> {
    serde_json::to_value(part).ok()?.get("connection")?.as_str().map(str::to_owned)
}

/// What calls behind a connection are about: an issuer's principals, and the places of stores.
fn behind(runbook: &Runbook, connection: &str) -> BTreeSet<String> {
    let is = |other: Option<String>| other.as_deref() == Some(connection);
    let mut targets = BTreeSet::new();
    for (name, credential) in &runbook.credentials {
        if is(credential.issuer.connection().map(str::to_owned)) {
            targets.insert(principal(name, credential));
        }
        targets.extend(credential.stores.iter().filter(|s| is(connection_of(*s))).map(|s| s.stand_in()));
    }
    targets
}

/// Whether a call of the sandbox is what a scenario names.
fn is_call(runbook: &Runbook, of: &CallOf, op: &str, target: &str) -> bool {
    let Some(credential) = runbook.credentials.get(&of.credential) else { return false };
    let named: &str = of.action.into();
    let issuer = || principal(&of.credential, credential) == target;
    match of.action {
        Doing::Issue | Doing::Disable | Doing::Revoke => op == named && issuer(),
        Doing::Stage | Doing::Promote => {
            op == named && credential.stores.iter().any(|store| store.stand_in() == target)
        }
        Doing::Reload => {
            op == named && credential.consumers.iter().any(|c| consumer_target(&of.credential, c) == target)
        }
        Doing::Capture | Doing::Inspect | Doing::Accept | Doing::Reject | Doing::Own => false,
    }
}

impl Faults for Stage {
    fn next(&self, op: &'static str, target: &str) -> Option<Fault> {
        let now = self.clock.now().wall;
        let mut scene = self.scene();
        let plan = scene.story.plan.clone()?;
        let (runbook, session) = (&plan.runbook, scene.story.session);
        scene.active.iter_mut().find_map(|active| {
            let inject = &self.scenario.injects[active.inject];
            if active.spent || !lasts(inject, active, now, session) {
                return None;
            }
            match inject.effect.as_ref()? {
                Effect::Unavailable(connection) if behind(runbook, connection).contains(target) => {
                    Some(Fault::Reject(ErrorKind::NotReady))
                }
                // To use a credential takes no token of the operator.
                Effect::TokenExpired(connection)
                    if op != "use" && behind(runbook, connection).contains(target) =>
                {
                    Some(Fault::Reject(ErrorKind::Denied))
                }
                Effect::ResponseLost(of) if is_call(runbook, of, op, target) => {
                    active.spent = true;
                    Some(Fault::LostReply)
                }
                Effect::RequestLost(of) if is_call(runbook, of, op, target) => {
                    active.spent = true;
                    Some(Fault::LostRequest)
                }
                _ => None,
            }
        })
    }

    fn is_deaf(&self, consumer: &str) -> bool {
        self.holds(|runbook, effect| match effect {
            Effect::IgnoresReload(name) => consumers(runbook, name)
                .any(|(credential, c, at)| consumer_target(credential, &c.consumers[at]) == consumer),
            _ => false,
        })
    }

    fn is_red(&self, gate: &str) -> bool {
        self.holds(|runbook, effect| match effect {
            Effect::GateFails(name) => runbook
                .gates
                .get(name)
                .is_some_and(|spec| serde_json::to_string(spec).is_ok_and(|spec| spec == gate)),
            _ => false,
        })
    }
}

impl Stage {
    /// Whether an effect that fits holds now.
    fn holds(&self, fits: impl Fn(&Runbook, &Effect) -> bool) -> bool {
        let now = self.clock.now().wall;
        let scene = self.scene();
        let Some(plan) = &scene.story.plan else { return false };
        let session = scene.story.session;
        scene.active.iter().filter(|active| !active.spent).any(|active| {
            let inject = &self.scenario.injects[active.inject];
            let effect = inject.effect.as_ref();
            lasts(inject, active, now, session) && effect.is_some_and(|effect| fits(&plan.runbook, effect))
        })
    }
}
