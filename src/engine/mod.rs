//! Everything that looks at, or changes, the world: the survey before a plan, a run's loop, the check afterwards.
//!
//! The loop is: decide, record the intent, act, record the outcome. One task owns the state and the journal;
//! calls run beside it and send it what came of them. What may happen next comes from [`State::decide`];
//! nothing is decided here. Resume is the same loop over a state that was folded from a journal.

mod calls;
mod check;
mod safe;
mod session;
mod step;
mod survey;
mod yields;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use self::session::Session;
use crate::calendar::Windows;
use crate::clock::{Clock, Moment};
use crate::domain::Phase;
use crate::journal::{Journal, LedgerError};
use crate::provider::Provider;
use crate::rotation::{Event, IllegalTransition, State};
use crate::secret::Sealer;

pub use check::{Check, check};
pub use safe::{SafeError, has_captured, scrub, try_open};
pub use step::resolved;
pub use survey::{Age, Choices, Learnt, SurveyError, ages, drift, survey, survey_and_learn};

/// What a person said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Yes.
    Yes,
    /// No.
    No,
    /// Nobody is there.
    Nobody,
}

/// Whoever can answer questions.
#[async_trait]
pub trait Operator: Send + Sync {
    /// Asks a question of the runbook's own. `name` is the step's.
    async fn ask(&self, name: &str, question: &str) -> Answer;
}

/// Whoever shows what happens. Decoration: it cannot fail, and it cannot stop anything.
pub trait Observer: Send {
    /// These events are on the record now, and the state is what they led to.
    fn recorded(&mut self, at: Moment, events: &[Event], state: &State);
    /// Time passed.
    fn tick(&mut self, at: Moment, state: &State);
}

/// How the run is to be conducted in this session.
#[derive(Debug, Clone, Default)]
pub struct Conduct {
    /// Stop after this phase.
    pub until: Option<Phase>,
    /// Stop wherever the run would only wait.
    pub no_wait: bool,
    /// Stop where approvals are missing, instead of waiting for them.
    pub unattended: bool,
    /// The deployment windows that cutover waits for; none where it does not wait.
    pub windows: Windows,
    /// Begin by rolling back, to the end of this phase, or all the way.
    pub rollback: Option<(Option<Phase>, String)>,
}

/// The engine cannot go on. What was begun is on the record.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No durable record, no effect.
    #[error("the journal failed, so stanch does nothing more")]
    Journal(#[from] LedgerError),
    /// Secrets cannot be sealed or opened.
    #[error("stanch cannot use the sealed secrets of the run")]
    Safe(#[from] SafeError),
    /// The program contradicts itself. Stopping is all that is safe.
    #[error("the engine took a step that its own rules forbid; stanch does nothing more")]
    Illegal(#[from] IllegalTransition),
}

/// What the engine works with.
pub struct Engine {
    /// Makes the plan's parts callable.
    pub provider: Arc<dyn Provider>,
    /// The record.
    pub journal: Box<dyn Journal>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Seals and opens secrets.
    pub sealer: Arc<Sealer>,
    /// Answers questions.
    pub operator: Arc<dyn Operator>,
    /// Shows what happens.
    pub observer: Box<dyn Observer>,
    /// Turns true at the first Ctrl-C or SIGTERM.
    pub interrupt: watch::Receiver<bool>,
}

impl Engine {
    /// Works on a run until it is over or this session must stop, and returns its state then.
    ///
    /// # Errors
    /// When the record cannot be kept.
    pub async fn run(self, state: State, conduct: Conduct) -> Result<State, EngineError> {
        Session::open(self, state, conduct)?.run().await
    }
}
