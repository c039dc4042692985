//! Whether gates, checks and attesting consumers can be asked at all, looked at before anything is changed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};

use super::failure::may_pass;
use super::patience::{TRIES, WAIT};
use super::{AT_ONCE, SurveyError, crashed};
use crate::domain::{ADOPTED, Check, CheckVerdict, ErrorKind, Phase, Strategy};

use crate::provider::{CallError, Provider};
use crate::runbook::model::{Credential, Gate, Probe, Runbook};

/// What is asked in a later phase, and can be reached before the first.
enum Asked {
    Gate(Gate),
    Probe(String, Credential, Probe),
    Consumer(String, Credential, usize),
}

/// One of them, as its check is called, with the phase that needs its answer first.
struct Later {
    name: String,
    phase: Phase,
    asked: Asked,
}

/// Looks at all of them at once. Under `contain` nothing is asked: no gate and no consumer may hold up the kill.
pub(super) async fn outside(
    provider: &Arc<dyn Provider>,
    runbook: &Runbook,
) -> Result<Vec<Check>, SurveyError> {
    if runbook.strategy == Strategy::Contain {
        return Ok(Vec::new());
    }
    let patience = runbook.limits.deadline.get();
    let mut found: Vec<(usize, Vec<Check>)> = Vec::new();
    let mut asking = JoinSet::new();
    let mut put = |done: Option<Result<_, JoinError>>| {
        let done = done.transpose().map_err(|e| crashed("a gate, a check or a consumer", &e))?;
        found.extend(done);
        Ok(())
    };
    for (at, one) in later(runbook).enumerate() {
        if asking.len() >= AT_ONCE {
            put(asking.join_next().await)?;
        }
        let (provider, excused) = (Arc::clone(provider), brought_up_by(runbook, one.phase));
        // Checks have to accept the old credential first, whatever the strategy.
        let spared = !matches!(one.asked, Asked::Probe(..));
        asking.spawn(async move {
            let checks = one.look(provider.as_ref(), patience).await.into_iter();
            (at, checks.map(|check| excuse(check, excused.as_deref(), spared)).collect())
        });
    }
    while !asking.is_empty() {
        put(asking.join_next().await)?;
    }
    found.sort_by_key(|(at, _)| *at);
    Ok(found.into_iter().flat_map(|(_, checks)| checks).collect())
}

impl Later {
    /// Looks again after what may pass, for as long as one call may take.
    async fn look(&self, provider: &dyn Provider, patience: Duration) -> Vec<Check> {
        let look = async {
            let mut wait = WAIT;
            for _ in 1..TRIES {
                let checks = self.once(provider).await;
                let failed = |c: &Check| c.verdict == CheckVerdict::Fail && c.kind.is_some_and(may_pass);
                if !checks.iter().any(failed) {
                    return checks;
                }
                tokio::time::sleep(wait).await;
                wait *= 2;
            }
            self.once(provider).await
        };
        tokio::time::timeout(patience, look).await.unwrap_or_else(|_| {
            vec![CallError::rejected(ErrorKind::NoAnswer, "no answer in time").to_check(&self.name)]
        })
    }

    async fn once(&self, provider: &dyn Provider) -> Vec<Check> {
        let name = &self.name;
        let made = async {
            Ok::<_, CallError>(match &self.asked {
                Asked::Gate(gate) => provider.gate(gate).await?.preflight(name).await,
                Asked::Probe(of, credential, probe) => {
                    provider.probe(of, credential, probe).await?.preflight(name).await
                }
                Asked::Consumer(of, credential, at) => {
                    provider.consumer(of, credential, *at).await?.preflight(name).await
                }
            })
        };
        made.await.unwrap_or_else(|error| vec![error.to_check(name)])
    }
}

/// Everything that a runbook asks in a later phase. Credentials that share a check share the look at it.
fn later(runbook: &Runbook) -> impl Iterator<Item = Later> {
    let until = |phase: &Phase| {
        let until = runbook.phases.of(*phase).and_then(|spec| spec.until.as_ref());
        until.into_iter().flatten().map(|gate| (gate, *phase)).collect::<Vec<_>>()
    };
    let mut seen = BTreeSet::new();
    let gates = Phase::order(runbook.strategy).iter().flat_map(until).filter_map(move |(gate, phase)| {
        let spec = runbook.gates.get(gate).filter(|_| *gate != ADOPTED && seen.insert(gate))?;
        Some(Later { name: format!("gate `{gate}`"), phase, asked: Asked::Gate(spec.clone()) })
    });
    let mut seen = BTreeSet::new();
    let others = runbook.credentials.iter().flat_map(move |(of, credential)| {
        let lists = [("accepts", Some(&credential.accepts)), ("rejects", credential.rejects.as_ref())];
        let mut all = Vec::new();
        for (list, probes) in lists {
            for (probe, nth) in probes.into_iter().flatten().zip(1..) {
                if seen.insert(serde_json::to_string(probe).unwrap_or_default()) {
                    let asked = Asked::Probe(of.clone(), credential.clone(), probe.clone());
                    all.push(Later { name: format!("{of}, {list} {nth}"), phase: Phase::Verify, asked });
                }
            }
        }
        for (at, consumer) in credential.consumers.iter().enumerate().filter(|(_, c)| c.attest.is_some()) {
            let asked = Asked::Consumer(of.clone(), credential.clone(), at);
            let name = format!("{of}, attest of {}", consumer.name);
            all.push(Later { name, phase: Phase::Overlap, asked });
        }
        all
    });
    gates.chain(others)
}

/// The first custom step that runs before this phase waits: it may be what brings up what cannot be reached yet.
fn brought_up_by(runbook: &Runbook, phase: Phase) -> Option<String> {
    let phases = Phase::order(runbook.strategy).iter().take_while(|before| **before <= phase);
    let mut steps =
        phases.filter_map(|phase| runbook.phases.of(*phase)).flat_map(|p| p.before.iter().chain(&p.after));
    steps.next().map(|step| step.name.clone())
}

/// A failure, with what a person can do about it, or as a warning where a custom step comes first.
fn excuse(mut check: Check, brought_up_by: Option<&str>, spared: bool) -> Check {
    if check.verdict != CheckVerdict::Fail {
        return check;
    }
    if let Some(step) = brought_up_by {
        let detail = format!("{} (custom step `{step}` runs first)", check.detail);
        return Check::warn(check.name, detail);
    }
    let kill = if spared { "; to kill first: --strategy contain" } else { "" };
    check.hint = Some(format!(
        "without its answer the run would stop half-way: make it answer, then plan again{kill}"
    ));
    check
}
