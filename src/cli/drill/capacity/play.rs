//! Plays the runbook once, in a world and in a time of its own.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;

use super::super::super::context::{Access, Context};
use super::super::super::pace::block_on_virtual;
use super::super::super::{CliError, Exit, Global};
use super::Setting;
use crate::clock::{Clock, Moment, VirtualClock};
use crate::domain::{ErrorKind, Phase, Strategy};
use crate::drill::{Meter, Sent, Took, many};
use crate::engine::{
    Answer, Choices, Conduct, Engine, EngineError, Observer, Operator, SurveyError, survey_and_learn,
};
use crate::plan::{Observed, Plan, Request, compile};
use crate::provider::Provider;
use crate::provider::sandbox::Faults;
use crate::rotation::{End, Event, State, Stop};
use crate::runbook::model::Runbook;

/// How often a plan, or a run that stopped because a server refused too much, is taken up again, at once.
const RESUMES: u32 = 100;
/// Who is on the record, which is thrown away.
const WHO: (&str, &str) = ("capacity", "sandbox");

/// What a run took.
pub(super) struct Played {
    /// What each phase took; the first is the making of the plan.
    pub(super) phases: Vec<Took>,
    /// How long until no old credential could be used.
    pub(super) contained: Option<Duration>,
    /// How long until every old credential was revoked.
    pub(super) revoked: Option<Duration>,
    /// All of it.
    pub(super) total: Duration,
    /// How often the making of the plan gave up because a server refused too much.
    pub(super) plans: u32,
    /// How often the run stopped because a server refused too much, so that a person had to resume it.
    pub(super) stops: u32,
    /// Why it does not end.
    pub(super) unfinished: Option<String>,
    /// How long each phase waits by itself.
    pub(super) waits: Vec<(Phase, Duration)>,
}

impl Played {
    /// What was sent to a connection, in all phases.
    pub(super) fn sent_to(&self, connection: &str) -> Sent {
        let sent = self.phases.iter().filter_map(|took| took.sent.get(connection));
        sent.fold(Sent::default(), |all, sent| Sent {
            requests: all.requests + sent.requests,
            refused: all.refused + sent.refused,
        })
    }
}

/// Plays it.
pub(super) fn play(setting: &Setting) -> Result<Played, CliError> {
    let folder = tempfile::tempdir().map_err(|e| {
        CliError::new(Exit::Failed, format!("cannot make a directory for the drill: {e}"))
            .hint("free some space, or set TMPDIR")
    })?;
    block_on_virtual(None, false, play_in(setting, folder.path()))?
}

async fn play_in(setting: &Setting, folder: &std::path::Path) -> Result<Played, CliError> {
    let clock: Arc<dyn Clock> = Arc::new(VirtualClock::starting(Timestamp::UNIX_EPOCH));
    let (runbook, apart) = many(&setting.runbook, setting.credentials);
    let global = Global { state: Some(folder.to_owned()), ..setting.global.clone() };
    let context = Context::unstaged(&global, Access::Writes)?;
    let world = context.world()?.with_clock(Arc::clone(&clock)).with_apart(apart);
    for (name, credential) in &runbook.credentials {
        world.seed(name, credential)?;
    }
    let meter = Arc::new(Meter::new(setting.quotas.clone(), &runbook, &world, Arc::clone(&clock)));
    let world = world.with_latency(setting.latency).with_faults(Arc::clone(&meter) as Arc<dyn Faults>);
    let provider: Arc<dyn Provider> = Arc::new(world);
    let mut played = Played {
        phases: Vec::new(),
        contained: None,
        revoked: None,
        total: Duration::ZERO,
        plans: 0,
        stops: 0,
        unfinished: None,
        waits: Vec::new(),
    };
    let observed = observe(&provider, &runbook, &mut played).await?;
    if let Some(observed) = observed {
        let request = Request {
            environment: setting.environment.clone(),
            sandbox: true,
            runbook_sha256: setting.sha256.clone(),
            tool: concat!("stanch ", env!("CARGO_PKG_VERSION")).to_owned(),
            directory: None,
        };
        match compile(runbook, &request, observed) {
            Ok(plan) => {
                let plan = Arc::new(plan);
                played.waits = waits(&plan);
                run(&plan, &context, &provider, &clock, &meter, &mut played).await?;
                (played.contained, played.revoked) = meter.reached(&plan);
            }
            Err(error) => played.unfinished = Some(error.to_string()),
        }
    }
    played.phases = meter.finish();
    played.total = played.phases.iter().map(|took| took.time).sum();
    Ok(played)
}

/// Looks at all credentials, again where a server refuses too much.
async fn observe(
    provider: &Arc<dyn Provider>,
    runbook: &Runbook,
    played: &mut Played,
) -> Result<Option<Observed>, CliError> {
    let choices = Choices::default();
    loop {
        match survey_and_learn(provider, runbook, &choices).await {
            Ok((observed, _)) => return Ok(Some(observed)),
            Err(SurveyError { source, .. }) if source.kind == ErrorKind::Throttled => {
                played.plans += 1;
                if played.plans >= RESUMES {
                    played.unfinished =
                        Some("no plan can be made: a quota refuses too much of it".to_owned());
                    return Ok(None);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Runs the plan to its end, resumed at once where a server refuses too much.
async fn run(
    plan: &Arc<Plan>,
    context: &Context,
    provider: &Arc<dyn Provider>,
    clock: &Arc<dyn Clock>,
    meter: &Arc<Meter>,
    played: &mut Played,
) -> Result<(), CliError> {
    let now = clock.now();
    let mut journal = context.ledger.open(plan, None, WHO, now).await?;
    let mut state = State::new(Arc::clone(plan), now.wall);
    let name = journal.run().to_owned();
    loop {
        // The other half is not used: it stays so.
        let (_keep, interrupt) = watch::channel(false);
        let engine = Engine {
            provider: Arc::clone(provider),
            journal,
            clock: Arc::clone(clock),
            sealer: Arc::new(context.sealing.sealer()?),
            operator: Arc::new(Agreeable),
            observer: Box::new(Watch(Arc::clone(meter))),
            interrupt,
        };
        state = engine.run(state, Conduct::default()).await?;
        match (state.end(), state.stopped()) {
            (Some(End::Done | End::NotProved), _) => return Ok(()),
            (Some(end), _) => {
                let why = failed(&state).map(|why| format!(": {why}")).unwrap_or_default();
                played.unfinished = Some(format!("the run ends: {}{why}", crate::output::end_word(end)));
                return Ok(());
            }
            (None, Some(Stop::Failed { step })) if is_throttled(&state, step) && played.stops < RESUMES => {
                played.stops += 1;
            }
            // Nothing is wrong with the stores here: a quota refused the last look at them.
            (None, Some(Stop::Unread { .. })) if played.stops < RESUMES => played.stops += 1,
            (None, stop) => {
                let why = stop.map(crate::output::sentence).unwrap_or_default();
                played.unfinished = Some(format!("the run stops: {why}"));
                return Ok(());
            }
        }
        let now = clock.now();
        (journal, state) = context.ledger.resume(&name, WHO, now).await?;
        let event = Event::Resumed {};
        state.apply(&event, now.wall).map_err(EngineError::Illegal)?;
        journal.commit(now, &[event])?;
    }
}

/// The first step that failed, and why.
fn failed(state: &State) -> Option<String> {
    let steps = state.plan().steps.iter().enumerate();
    let mut failures = steps.filter_map(|(at, step)| Some((&step.id, state.failure(at)?)));
    failures.next().map(|(step, failure)| format!("{step}: {}", failure.message))
}

fn is_throttled(state: &State, step: &str) -> bool {
    let failure = state.step(step).and_then(|step| state.failure(step));
    failure.is_some_and(|failure| failure.kind == ErrorKind::Throttled)
}

/// How long each phase waits by itself, whatever the servers do.
fn waits(plan: &Plan) -> Vec<(Phase, Duration)> {
    let contain = plan.strategy == Strategy::Contain;
    let phases = Phase::order(plan.strategy).iter().filter(|phase| !contain || **phase != Phase::Overlap);
    let wait = |phase: &Phase| {
        let spec = plan.runbook.phases.of(*phase)?;
        let asks = spec.every.map(|every| every.get() * spec.times.unwrap_or(1).saturating_sub(1));
        Some((*phase, spec.at_least.map(|least| least.get()).max(asks)?))
    };
    phases.filter_map(wait).collect()
}

/// Whoever answers each question with yes at once.
struct Agreeable;

#[async_trait]
impl Operator for Agreeable {
    async fn ask(&self, _name: &str, _question: &str) -> Answer {
        Answer::Yes
    }
}

/// Lets the meter follow the record.
struct Watch(Arc<Meter>);

impl Observer for Watch {
    fn recorded(&mut self, at: Moment, events: &[Event], state: &State) {
        events.iter().for_each(|event| self.0.recorded(at.mono_ms, state, event));
    }

    fn tick(&mut self, _: Moment, _: &State) {}
}
