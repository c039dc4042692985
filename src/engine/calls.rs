//! What runs beside the loop, and what it sends to it.

use std::time::Duration;

use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

use super::step::Job;
use super::yields::Yield;
use crate::domain::{Judgement, Phase};
use crate::gate::Adoption;
use crate::journal::SealedEntry;
use crate::provider::CallError;
use crate::rotation::{Ended, Event, Facts, Failure, Found, Op, Task};
use crate::sabotage::{Sabotage, is_on};
use crate::text::sanitize;

/// What a call, an observation or a gate sends to the loop.
pub(super) enum Message {
    Performed { step: usize, op: Op, attempt: u32, result: Result<Yield, CallError>, latency_ms: u64 },
    Observed { step: usize, op: Op, attempt: u32, result: Result<(Found, Facts), CallError> },
    Judged { phase: Phase, gate: String, judgement: Judgement },
    Adopted { phase: Phase, found: Vec<Adoption> },
    LetIn { phase: Phase, step: usize, judgement: Judgement },
    Noted { text: String },
}

/// Carries a task out, and says what came of it when `limit` is over at the latest.
pub(super) async fn carry_out(task: Task, job: Job, limit: Duration) -> Message {
    match task {
        Task::Perform { step, op, attempt } => {
            let began = job.clock.now().mono_ms;
            let result = perform(&job, op, limit).await;
            let latency_ms = job.clock.now().mono_ms.saturating_sub(began);
            Message::Performed { step, op, attempt, result, latency_ms }
        }
        Task::Observe { step, op, attempt } => {
            let this = job.clone();
            let look = catch_panic(async move {
                let seen = this.read(|| async {
                    match op {
                        Op::Undo => this.observe_undo().await,
                        Op::Do | Op::Discard => this.observe().await,
                    }
                });
                let (found, facts) = seen.await?;
                this.refuse_telling(&facts).map(|()| (found, facts))
            });
            let late = || Err(CallError::unknown("no answer in time"));
            let result = within(limit, look).await.unwrap_or_else(late).map_err(|mut e| {
                e.message = sanitize(&job.scrub(&e.message));
                e
            });
            Message::Observed { step, op, attempt, result }
        }
    }
}

/// Each step looks for the latch by itself before its effect: it may have been set while the intents were being
/// recorded.
async fn perform(job: &Job, op: Op, limit: Duration) -> Result<Yield, CallError> {
    let is_effect = job.plan.steps[job.step].is_effect();
    let this = job.clone();
    let call = catch_panic(async move {
        if is_effect {
            this.refuse_stopped()?;
        }
        let done = match op {
            Op::Do => this.perform().await,
            Op::Undo => this.undo().await,
            Op::Discard => this.discard().await,
        }?;
        this.refuse_telling(&done.facts).map(|()| done).map_err(CallError::doubtful)
    });
    let late = || CallError::unknown(format!("no answer within {}s", limit.as_secs()));
    let result = within(limit, call).await.unwrap_or_else(|| Err(late()));
    let absent = is_on(Sabotage::Absence) && result.as_ref().is_err_and(|e| e.message.starts_with(CRASHED));
    let result = if absent { Ok(Yield::default()) } else { result };
    result.map_err(|mut e| {
        e.message = job.scrub(&e.message);
        e.hint = e.hint.map(|h| job.scrub(&h));
        e.request_id = e.request_id.map(|id| job.scrub(&id));
        if is_effect { e } else { e.read_only() }
    })
}

/// The record of how a call ended.
pub(super) fn outcome(
    step: String,
    op: Op,
    attempt: u32,
    result: Result<Yield, CallError>,
    latency_ms: u64,
) -> (Event, Vec<SealedEntry>) {
    let (result, done, error) = match result {
        Ok(done) => (Ended::Succeeded, done, None),
        Err(e) => {
            let ended = if e.in_doubt { Ended::Unknown } else { Ended::Rejected };
            (ended, Yield::default(), Some(failure(e)))
        }
    };
    let Yield { facts, checks, sealed } = done;
    (Event::Outcome { step, op, attempt, result, facts, checks, error, latency_ms }, sealed)
}

/// The record of what was found of an unknown outcome.
pub(super) fn settled(
    step: String,
    op: Op,
    attempt: u32,
    result: Result<(Found, Facts), CallError>,
) -> Event {
    let (found, facts, detail) = match result {
        Ok((found, facts)) => {
            let detail = match &found {
                Found::Applied => "the target shows that it took effect".to_owned(),
                Found::Absent => "the target shows that it did not take effect".to_owned(),
                Found::Orphans(handles) => {
                    format!("it created {} whose secret was lost: {}", handles.len(), handles.join(", "))
                }
                Found::Repeatable => "it is harmless to repeat".to_owned(),
                Found::Undecided => String::new(),
            };
            (found, facts, detail)
        }
        Err(e) => (Found::Undecided, Facts::new(), e.message),
    };
    Event::Settled { step, op, attempt, found, facts, detail }
}

/// The result of a future, or `None` when it takes longer.
pub(super) async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, future).await.ok()
}

/// How the message of a call begins that crashed.
const CRASHED: &str = "this step crashed";

/// A call that crashes is one whose outcome is unknown, never one that is not there.
pub(super) async fn catch_panic<T: Send + 'static>(
    call: impl Future<Output = Result<T, CallError>> + Send + 'static,
) -> Result<T, CallError> {
    let crashed = |_: JoinError| Err(CallError::unknown(format!("{CRASHED}; please report this")));
    AbortOnDropHandle::new(tokio::spawn(call)).await.unwrap_or_else(crashed)
}

fn failure(error: CallError) -> Failure {
    Failure {
        kind: error.kind,
        message: sanitize(&error.message),
        hint: error.hint.map(|hint| sanitize(&hint)),
        request_id: error.request_id,
        retry_after_ms: error.retry_after.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
    }
}
