//! What the engine does with each step of a plan: a file an action, each with what it needs of the steps before
//! it, how it is done, how it is taken back, and how an unknown outcome of either is observed.
//!
//! One more action is one more file and one more line in [`Handler::of`]. No method of the traits has a
//! default: the compiler asks for each answer.

mod accept;
mod baseline;
mod capture;
mod destroy;
mod disable;
mod earlier;
mod inquiry;
mod inspect;
mod issue;
mod job;
mod last_look;
mod own;
mod patience;
mod preflight;
mod promote;
mod reject;
mod reload;
mod revoke;
mod sight;
mod stage;
mod sweep;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use self::accept::Accept;
use self::baseline::Baseline;
use self::capture::Capture;
use self::destroy::Destroy;
use self::disable::Disable;
use self::inspect::Inspect;
use self::issue::Issue;
use self::own::Own;
use self::preflight::{Connection, Permission};
use self::promote::Promote;
use self::reject::Reject;
use self::reload::Reload;
use self::revoke::Revoke;
use self::stage::Stage;
use self::sweep::Sweep;
use super::yields::Yield;
use crate::domain::Observation;
use crate::plan::Action;
use crate::provider::CallError;
use crate::rotation::{Facts, Found};

pub use self::earlier::resolved;
pub(super) use self::earlier::{Earlier, Index};
pub(super) use self::job::{Job, OldAndNew};
pub(super) use self::sight::{Asked, Look as Sighted};

/// The limit of steps that have a patience of their own: they ask until they are sure, or wait for people,
/// programs, or consumers on their way back.
const OWN_PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);
/// How much longer steps may take that look at the world before their effect.
const LOOK_BEFORE: Duration = Duration::from_secs(60);

/// What was found of an unknown outcome, with what later steps need to know of it.
pub(super) type Observed = Result<(Found, Facts), CallError>;

/// A step that changes nothing: there is nothing to take back, and what it saw is simply looked at again.
#[async_trait]
pub(super) trait Look: Send + Sync {
    /// How long it may take, where a call may take `deadline`.
    fn limit(&self, deadline: Duration) -> Duration;
    /// Looks.
    async fn perform(&self, job: &Job) -> Result<Yield, CallError>;
}

/// A step that changes something.
#[async_trait]
pub(super) trait Effect: Send + Sync {
    /// How long it, its undo or a look at its outcome may take, where a call may take `deadline`.
    fn limit(&self, deadline: Duration) -> Duration;
    /// Does it.
    async fn perform(&self, job: &Job) -> Result<Yield, CallError>;
    /// Takes it back.
    async fn undo(&self, job: &Job) -> Result<Yield, CallError>;
    /// Finds out what became of an earlier try to do it.
    async fn observe(&self, job: &Job) -> Observed;
    /// Finds out what became of an earlier try to take it back.
    async fn observe_undo(&self, job: &Job) -> Observed;
}

/// How a step is handled.
#[derive(Clone)]
pub(super) enum Handler {
    /// It changes nothing.
    Look(Arc<dyn Look>),
    /// It changes something.
    Effect(Arc<dyn Effect>),
}

impl Handler {
    /// The one place that knows which action is handled where.
    pub(super) fn of(action: &Action, earlier: &Earlier<'_>) -> Self {
        match *action {
            Action::Connection { ref connection } => look(Connection { connection: connection.clone() }),
            Action::Permission { .. } => look(Permission),
            Action::Capture { store, .. } => look(Capture { store }),
            Action::Baseline { probe, rejects, .. } => look(Baseline { probe, rejects }),
            Action::Issue { .. } => effect(Issue),
            Action::Inspect { .. } => look(Inspect),
            Action::Stage { credential, store } => effect(Stage::new(earlier, credential, store)),
            Action::Accept { probe, .. } => look(Accept { probe }),
            Action::Promote { credential, store } => effect(Promote::new(earlier, credential, store)),
            Action::Reload { consumer, .. } => effect(Reload { consumer }),
            Action::Disable { .. } => effect(Disable),
            Action::Revoke { .. } => effect(Revoke),
            Action::Destroy { credential, store } => effect(Destroy::new(earlier, credential, store)),
            Action::Reject { credential, probe } => look(Reject::new(earlier, credential, probe)),
            Action::Sweep { .. } => effect(Sweep::new(earlier)),
            Action::Own { ref name } => effect(Own::new(earlier, name)),
        }
    }
}

fn look(look: impl Look + 'static) -> Handler {
    Handler::Look(Arc::new(look))
}

fn effect(effect: impl Effect + 'static) -> Handler {
    Handler::Effect(Arc::new(effect))
}

impl Job {
    /// How long the step may take.
    pub(super) fn limit(&self) -> Duration {
        let deadline = self.plan.runbook.limits.deadline.get();
        match &self.handler {
            Handler::Look(look) => look.limit(deadline),
            Handler::Effect(effect) => effect.limit(deadline),
        }
    }

    /// Does the step.
    pub(super) async fn perform(&self) -> Result<Yield, CallError> {
        match &self.handler {
            Handler::Look(look) => look.perform(self).await,
            Handler::Effect(effect) => effect.perform(self).await,
        }
    }

    /// Takes the step back.
    pub(super) async fn undo(&self) -> Result<Yield, CallError> {
        match &self.handler {
            Handler::Look(_) => Err(nothing_to_undo()),
            Handler::Effect(effect) => effect.undo(self).await,
        }
    }

    /// Finds out what became of an earlier try to do the step.
    pub(super) async fn observe(&self) -> Observed {
        match &self.handler {
            Handler::Look(_) => applied(false),
            // What is harmless to repeat is not looked at, but for a credential: the reply may be sealed already.
            Handler::Effect(_)
                if self.step().class == Some(Observation::Idempotent)
                    && !matches!(self.step().action, Action::Issue { .. }) =>
            {
                Ok((Found::Repeatable, Facts::new()))
            }
            Handler::Effect(effect) => effect.observe(self).await,
        }
    }

    /// Finds out what became of an earlier try to take the step back.
    pub(super) async fn observe_undo(&self) -> Observed {
        match &self.handler {
            Handler::Look(_) => applied(false),
            Handler::Effect(effect) => effect.observe_undo(self).await,
        }
    }
}

/// Found, and nothing else to say of it.
fn applied(yes: bool) -> Observed {
    Ok((if yes { Found::Applied } else { Found::Absent }, Facts::new()))
}

fn nothing_to_undo() -> CallError {
    job::bug("the step has nothing to undo")
}

#[cfg(test)]
mod tests {
    use std::mem::discriminant;
    use std::sync::Arc;

    use jiff::Timestamp;
    use strum::IntoEnumIterator as _;

    use super::{Earlier, Handler, Index};
    use crate::domain::Strategy;
    use crate::plan::Action;
    use crate::plan::tests::planned;
    use crate::rotation::State;

    /// The plan decides what has an intent, and the handler what can be observed and undone: an effect that the
    /// plan took for a look would leave no intent behind.
    #[test]
    fn plan_and_handler_agree_on_what_is_an_effect() {
        let mut missing: Vec<Action> = Action::iter().collect();
        for strategy in [Strategy::Overlap, Strategy::Contain] {
            let plan = Arc::new(planned("tests/plans/every-kind.yaml", "test", strategy));
            let (index, state) = (Index::of(&plan), State::new(Arc::clone(&plan), Timestamp::UNIX_EPOCH));
            let earlier = Earlier { index: &index, state: &state, run: "run" };
            for step in &plan.steps {
                let handled_as_effect = matches!(Handler::of(&step.action, &earlier), Handler::Effect(_));
                assert_eq!(step.is_effect(), handled_as_effect, "{}", step.id);
                assert!(step.undo.is_none() || step.action.can_be_undone(), "{}", step.id);
                missing.retain(|action| discriminant(action) != discriminant(&step.action));
            }
        }
        assert!(missing.is_empty(), "no plan of the test has these: {missing:?}");
    }
}
