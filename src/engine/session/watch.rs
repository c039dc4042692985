//! Watches the gates of the phase that waits for them.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};

use super::Session;
use crate::domain::{ADOPTED, Judgement, Phase, REFUSED, Verdict};
use crate::engine::EngineError;
use crate::engine::calls::{Message, catch_panic, within};
use crate::engine::safe;
use crate::engine::step::Job;
use crate::gate::{self, Adoption, Watched};
use crate::rotation::Vantage;
use crate::runbook::model;

/// How often consumers are asked which version they use.
const ADOPTION_EVERY: Duration = Duration::from_secs(1);
/// How often the old credential is used while the phase lasts that goes on using it: two hours are a look each half
/// minute.
const LOOKS: u32 = 240;

impl Session {
    /// Starts to watch the gates of the present phase, unless they are watched already.
    pub(super) async fn watch_gates(&mut self) -> Result<(), EngineError> {
        let Some(phase) = self.state.phase() else { return Ok(()) };
        if self.watching.as_ref().is_some_and(|(watched, _)| *watched == phase) {
            return Ok(());
        }
        self.stop_watching();
        let until = self.plan.phase(phase).map(|p| p.until.clone()).unwrap_or_default();
        let mut handles = Vec::with_capacity(until.len());
        for gate in until {
            handles.push(if gate == ADOPTED {
                let watched = self.watched().await;
                self.watch_adoption(phase, watched)
            } else if gate == REFUSED {
                self.watch_refusals(phase)
            } else {
                let spec = self.plan.runbook.gates[&gate].clone();
                self.watch_gate(phase, gate, spec)
            });
        }
        self.watching = Some((phase, handles));
        Ok(())
    }

    pub(super) fn stop_watching(&mut self) {
        for gate in self.watching.take().map(|(_, gates)| gates).unwrap_or_default() {
            gate.abort();
        }
        while self.calls.try_join_next().is_some() {}
    }

    /// Every consumer that can say what it uses, with the value that it should use.
    async fn watched(&self) -> Vec<Result<Watched, Adoption>> {
        let mut watched = Vec::new();
        for c in 0..self.plan.credentials.len() {
            let (planned, credential) = self.plan.credential(c);
            let held = self.safe.get(&safe::incoming(&planned.name, self.earlier().round(c)));
            for (at, spec) in credential.consumers.iter().enumerate().filter(|(_, s)| s.attest.is_some()) {
                let silent = |trouble: &str| Adoption {
                    credential: planned.name.clone(),
                    consumer: spec.name.clone(),
                    instances: 0,
                    of: 1,
                    others: 0,
                    other: None,
                    trouble: Some(trouble.to_owned()),
                };
                let ask = self.engine.provider.consumer(&planned.name, credential, at).await;
                watched.push(match (ask, &held) {
                    (Ok(ask), Some(held)) => Ok(Watched {
                        credential: planned.name.clone(),
                        consumer: spec.name.clone(),
                        ask,
                        wanted: Arc::clone(&held.material),
                    }),
                    (Err(e), _) => Err(silent(&e.message)),
                    (Ok(_), None) => Err(silent("the new value is not known")),
                });
            }
        }
        watched
    }

    fn watch_adoption(&mut self, phase: Phase, watched: Vec<Result<Watched, Adoption>>) -> AbortHandle {
        let (send, clock) = (self.send.clone(), Arc::clone(&self.engine.clock));
        let deadline = self.plan.runbook.limits.deadline.get();
        let (mut asked, mut silent) = (Vec::new(), Vec::new());
        for one in watched {
            match one {
                Ok(watched) => asked.push(watched),
                Err(adoption) => silent.push(adoption),
            }
        }
        self.calls.spawn(async move {
            loop {
                let mut found = gate::adoptions(&asked, deadline).await;
                found.extend(silent.iter().cloned());
                if send.send(Message::Adopted { phase, found }).is_err() {
                    return;
                }
                clock.sleep(ADOPTION_EVERY).await;
            }
        })
    }

    /// Every place of the proof. Where a refusal proves nothing, only an acceptance counts.
    fn watch_refusals(&mut self, phase: Phase) -> AbortHandle {
        let jobs: Vec<(Vantage, Arc<Job>)> =
            self.state.vantages().into_iter().map(|at| (at, Arc::new(self.job(at.step)))).collect();
        let (send, clock) = (self.send.clone(), Arc::clone(&self.engine.clock));
        let limits = &self.plan.runbook.limits;
        // Two questions each, and some wait for their turn.
        let turns = jobs.len().div_ceil(limits.concurrency.max(1)).max(1);
        let limit = limits.deadline.get() * 2 * u32::try_from(turns).unwrap_or(u32::MAX);
        let waits = self.plan.phase(phase);
        let every =
            waits.map_or(Duration::MAX, |waits| (waits.at_least.get() / LOOKS).max(waits.every.get()));
        self.calls.spawn(async move {
            for round in 0.. {
                let mut looks = JoinSet::new();
                for (at, job) in jobs.iter().cloned() {
                    let asked = catch_panic(async move { Ok(job.look_at_refusal(round).await) });
                    looks.spawn(async move { (at, within(limit, asked).await) });
                }
                let mut found = Vec::with_capacity(jobs.len());
                while let Some(done) = looks.join_next().await {
                    // One that crashed gave no answer.
                    let Ok((at, answer)) = done else {
                        found.push((true, None));
                        continue;
                    };
                    let answer = answer.and_then(Result::ok);
                    if let Some(judgement) = answer.clone().filter(|answer| answer.verdict == Verdict::Fail) {
                        // At once: others may keep their answer until the phase is over.
                        let _ = send.send(Message::LetIn { phase, step: at.step, judgement });
                    }
                    found.push((at.proved, answer));
                }
                let judgement = gate::refused(&found);
                if send.send(Message::Judged { phase, gate: REFUSED.to_owned(), judgement }).is_err() {
                    return;
                }
                clock.sleep(every).await;
            }
        })
    }

    fn watch_gate(&mut self, phase: Phase, name: String, spec: model::Gate) -> AbortHandle {
        let (send, clock) = (self.send.clone(), Arc::clone(&self.engine.clock));
        let provider = Arc::clone(&self.engine.provider);
        let deadline = self.plan.runbook.limits.deadline.get();
        let about = self.plan.credentials.iter().find(|c| Some(c.name.as_str()) == spec.about());
        let outgoing = about.and_then(|c| Some(c.outgoing.as_ref()?.handle.clone()));
        self.calls.spawn(async move {
            let every = spec.every();
            let gate = provider.gate(&spec).await;
            loop {
                let judgement = match &gate {
                    Err(e) => Judgement { verdict: Verdict::Error, detail: e.message.clone() },
                    Ok(gate) => {
                        let (gate, outgoing) = (Arc::clone(gate), outgoing.clone());
                        let asked =
                            catch_panic(async move { Ok(gate.evaluate_about(outgoing.as_deref()).await) });
                        let error = |detail: String| Judgement { verdict: Verdict::Error, detail };
                        match within(deadline, asked).await {
                            Some(Ok(judgement)) => judgement,
                            Some(Err(e)) => error(e.message),
                            None => error("no answer in time".into()),
                        }
                    }
                };
                if send.send(Message::Judged { phase, gate: name.clone(), judgement }).is_err() {
                    return;
                }
                clock.sleep(every).await;
            }
        })
    }
}
