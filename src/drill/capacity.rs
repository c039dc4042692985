//! How long many credentials take under the quotas of their servers: the runbook many times over, servers that refuse
//! what is more than their quota, and the times read from what the run records.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::stage::connection_of;
use crate::clock::Clock;
use crate::domain::Phase;
use crate::plan::{Action, Plan};
use crate::provider::sandbox::{Fault, Faults, Sandbox};
use crate::rotation::{Ended, Event, Found, Op, State};
use crate::runbook::model::{Credential, OwnStep, Runbook};

/// How many requests a connection's server takes in a time: a bucket of that many tokens that fills up evenly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// The connection, by its name in the runbook.
    pub connection: String,
    /// How many requests.
    pub requests: u32,
    /// In how long.
    pub per: Duration,
}

/// The text is not a quota.
#[derive(Debug, thiserror::Error)]
pub enum BadQuota {
    /// It has another form.
    #[error("write CONNECTION=NUMBER/UNIT, such as vault=50/s; the units are s, m and h")]
    Form,
    /// Nothing would ever be done.
    #[error("a quota of 0 lets no request through; write at least 1, such as vault=1/m")]
    Zero,
}

impl FromStr for Quota {
    type Err = BadQuota;

    fn from_str(text: &str) -> Result<Self, BadQuota> {
        let (connection, rate) = text.rsplit_once('=').ok_or(BadQuota::Form)?;
        let (requests, unit) = rate.split_once('/').ok_or(BadQuota::Form)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(BadQuota::Form),
        };
        let digits = requests.bytes().all(|c| c.is_ascii_digit());
        let requests: u32 = requests.parse().ok().filter(|_| digits).ok_or(BadQuota::Form)?;
        if connection.is_empty() {
            return Err(BadQuota::Form);
        }
        if requests == 0 {
            return Err(BadQuota::Zero);
        }
        Ok(Self { connection: connection.to_owned(), requests, per: Duration::from_secs(seconds) })
    }
}

impl std::fmt::Display for Quota {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unit = match self.per.as_secs() {
            1 => "s",
            60 => "m",
            _ => "h",
        };
        write!(f, "{}/{unit}", self.requests)
    }
}

/// The longest name that a credential may have.
const NAME: usize = 63;

/// A runbook with so many credentials: its own ones again and again, each time with numbered names, and the word that
/// sets the issuer and the stores of each copy apart, by the name of the credential.
///
/// What waits for people is left out: approvals and deployment windows.
pub fn many(runbook: &Runbook, credentials: usize) -> (Runbook, BTreeMap<String, String>) {
    let mut many = runbook.clone();
    (many.approvals, many.notify) = (None, None);
    many.windows.clear();
    many.credentials.clear();
    let own = runbook.credentials.len().max(1);
    let copies = credentials.div_ceil(own);
    let named = |name: &str, copy: usize| match copy {
        1 => name.to_owned(),
        _ => {
            let number = format!("-{copy:04}");
            let most = NAME - number.len();
            format!("{}{number}", name.get(..most).unwrap_or(name))
        }
    };
    let mut apart = BTreeMap::new();
    for copy in 1..=copies {
        for (name, credential) in runbook.credentials.iter().take(credentials - many.credentials.len()) {
            let new = named(name, copy);
            let after = credential.after.iter().map(|other| named(other, copy)).collect();
            // What stores hold is known by them.
            let outgoing = credential.outgoing.clone().filter(|_| credential.stores.is_empty());
            let outgoing = outgoing.map(|handle| named(&handle, copy));
            apart.insert(new.clone(), format!("#{copy}"));
            many.credentials.insert(new, Credential { after, outgoing, ..credential.clone() });
        }
    }
    for credential in many.credentials.values_mut() {
        credential.after.retain(|name| apart.contains_key(name));
    }
    let steps = |steps: &mut Vec<OwnStep>| {
        let copied = std::mem::take(steps).into_iter().flat_map(|step| {
            let copies = if step.credential.is_some() { copies } else { 1 };
            (1..=copies).map(move |copy| OwnStep {
                name: named(&step.name, copy),
                credential: step.credential.as_ref().map(|name| named(name, copy)),
                ..step.clone()
            })
        });
        *steps = copied
            .filter(|step| step.credential.as_ref().is_none_or(|name| apart.contains_key(name)))
            .collect();
    };
    let phases = &mut many.phases;
    let phases = [
        &mut phases.prepare,
        &mut phases.distribute,
        &mut phases.verify,
        &mut phases.cutover,
        &mut phases.overlap,
        &mut phases.sunset,
        &mut phases.revoke,
        &mut phases.proof,
    ];
    let has_consumers = runbook.credentials.values().any(|credential| !credential.consumers.is_empty());
    for phase in phases.into_iter().flatten() {
        if !has_consumers {
            // A gate of the sandbox judges by how consumers fare.
            phase.until = Some(Vec::new());
        }
        steps(&mut phase.before);
        steps(&mut phase.after);
    }
    (many, apart)
}

/// How many requests went to a connection, and how many of them it refused for its quota.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// All of them.
    pub requests: u64,
    /// Those that were too many.
    pub refused: u64,
}

/// What a phase took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Took {
    /// The phase; `None` while the plan is made.
    pub phase: Option<Phase>,
    /// How long.
    pub time: Duration,
    /// What was sent meanwhile, by connection.
    pub sent: BTreeMap<String, Sent>,
}

/// The servers' quotas, and what was asked of the servers, phase by phase.
pub struct Meter {
    clock: Arc<dyn Clock>,
    start_ms: u64,
    quotas: Vec<Quota>,
    /// The connection that a call's target is behind.
    targets: HashMap<String, String>,
    state: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    /// The tokens of each quota, and when they were counted.
    buckets: Vec<(f64, u64)>,
    phases: Vec<Took>,
    since_ms: u64,
    contained: BTreeMap<usize, u64>,
    revoked: BTreeMap<usize, u64>,
}

impl Meter {
    /// The servers of a runbook's connections, as the sandbox plays them.
    pub fn new(quotas: Vec<Quota>, runbook: &Runbook, sandbox: &Sandbox, clock: Arc<dyn Clock>) -> Self {
        let mut targets = HashMap::new();
        for (name, credential) in &runbook.credentials {
            if let Some(connection) = credential.issuer.connection() {
                targets.insert(sandbox.principal_of(name, credential), connection.to_owned());
            }
            for store in &credential.stores {
                if let Some(connection) = connection_of(store) {
                    targets.insert(sandbox.place_of(name, store), connection);
                }
            }
        }
        let start_ms = clock.now().mono_ms;
        let buckets = quotas.iter().map(|quota| (f64::from(quota.requests), start_ms)).collect();
        let phases = vec![Took { phase: None, time: Duration::ZERO, sent: BTreeMap::new() }];
        let state = Counted { buckets, phases, since_ms: start_ms, ..Counted::default() };
        Self { clock, start_ms, quotas, targets, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, Counted> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Folds in what was recorded at a moment.
    pub fn recorded(&self, mono_ms: u64, run: &State, event: &Event) {
        let (plan, mut state) = (run.plan(), self.state());
        match event {
            Event::Entered { phase } => {
                state.end(mono_ms);
                state.phases.push(Took { phase: Some(*phase), time: Duration::ZERO, sent: BTreeMap::new() });
            }
            Event::Outcome { step, op: Op::Do, result: Ended::Succeeded, .. }
            | Event::Settled { step, op: Op::Do, found: Found::Applied, .. } => {
                let Some(step) = run.step(step) else { return };
                let at = mono_ms.saturating_sub(self.start_ms);
                match plan.steps[step].action {
                    Action::Disable { credential } => {
                        state.contained.entry(credential).or_insert(at);
                    }
                    // Where an issuer keeps one value, the new one is the kill.
                    Action::Issue { credential } if !plan.credentials[credential].issuer.replaces() => {}
                    Action::Issue { credential } | Action::Revoke { credential } => {
                        state.contained.entry(credential).or_insert(at);
                        state.revoked.insert(credential, at);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// Ends the phase that the run is in, and says what each took.
    pub fn finish(&self) -> Vec<Took> {
        let mut state = self.state();
        state.end(self.clock.now().mono_ms);
        state.phases.clone()
    }

    /// How long until the last old credential could not be used, and until the last was revoked; `None` where that did
    /// not come.
    pub fn reached(&self, plan: &Plan) -> (Option<Duration>, Option<Duration>) {
        let state = self.state();
        let last = |reached: &BTreeMap<usize, u64>| {
            let all = (0..plan.credentials.len()).map(|credential| reached.get(&credential));
            all.collect::<Option<Vec<_>>>()?.into_iter().max().map(|ms| Duration::from_millis(*ms))
        };
        (last(&state.contained), last(&state.revoked))
    }
}

impl Counted {
    fn end(&mut self, now_ms: u64) {
        let time = Duration::from_millis(now_ms.saturating_sub(self.since_ms));
        self.since_ms = now_ms;
        if let Some(phase) = self.phases.last_mut() {
            phase.time = time;
        }
    }
}

impl Faults for Meter {
    fn next(&self, _op: &'static str, target: &str) -> Option<Fault> {
        let connection = self.targets.get(target)?;
        let now = self.clock.now().mono_ms;
        let mut state = self.state();
        let refused = self.quotas.iter().position(|quota| quota.connection == *connection).and_then(|at| {
            let (quota, bucket) = (&self.quotas[at], &mut state.buckets[at]);
            let rate = f64::from(quota.requests) / quota.per.as_secs_f64();
            let passed = Duration::from_millis(now.saturating_sub(bucket.1)).as_secs_f64();
            *bucket = ((bucket.0 + passed * rate).min(f64::from(quota.requests)), now);
            if bucket.0 >= 1.0 {
                bucket.0 -= 1.0;
                return None;
            }
            // In whole seconds, as servers say it in `Retry-After`.
            let seconds = ((1.0 - bucket.0) / rate).ceil().max(1.0);
            Some(Duration::from_secs_f64(seconds))
        });
        let sent = state.phases.last_mut().map(|phase| phase.sent.entry(connection.clone()).or_default());
        if let Some(sent) = sent {
            sent.requests += 1;
            sent.refused += u64::from(refused.is_some());
        }
        refused.map(Fault::Throttle)
    }
}
