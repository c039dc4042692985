//! What a step needs to know of those before it.

use std::collections::HashMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::job::{HANDLE, Known, VERSION, WAS};
use super::sight::OldAndNew;
use crate::domain::Versions;
use crate::plan::{Action, Plan};
use crate::provider::CallContext;
use crate::rotation::{BEFORE, State, Status};

/// The steps that other steps need facts of, by credential and store.
#[derive(Debug, Default)]
pub(in crate::engine) struct Index {
    issue: Vec<usize>,
    capture: Vec<Vec<usize>>,
    stage: Vec<Vec<Option<usize>>>,
    promote: Vec<Vec<usize>>,
    disable: Vec<Option<usize>>,
    accept: Vec<Vec<usize>>,
    /// By credential, check, and whether it is one under `rejects`.
    baseline: HashMap<(usize, Option<usize>, bool), usize>,
    /// The steps that stage in each place.
    stagers: HashMap<String, Vec<usize>>,
}

impl Index {
    pub(in crate::engine) fn of(plan: &Plan) -> Self {
        let stores = |n: usize| plan.credentials[n].stores.len();
        let mut index = Self {
            issue: vec![0; plan.credentials.len()],
            capture: (0..plan.credentials.len()).map(|n| vec![0; stores(n)]).collect(),
            stage: (0..plan.credentials.len()).map(|n| vec![None; stores(n)]).collect(),
            promote: (0..plan.credentials.len()).map(|n| vec![0; stores(n)]).collect(),
            disable: vec![None; plan.credentials.len()],
            accept: vec![Vec::new(); plan.credentials.len()],
            baseline: HashMap::new(),
            stagers: HashMap::new(),
        };
        for (at, step) in plan.steps.iter().enumerate() {
            match step.action {
                Action::Issue { credential } => index.issue[credential] = at,
                Action::Capture { credential, store } => index.capture[credential][store] = at,
                Action::Stage { credential, store } => {
                    index.stage[credential][store] = Some(at);
                    let place = plan.credentials[credential].stores[store].place.clone();
                    index.stagers.entry(place).or_default().push(at);
                }
                Action::Disable { credential } => index.disable[credential] = Some(at),
                Action::Baseline { credential, probe, rejects } => {
                    index.baseline.insert((credential, probe, rejects), at);
                }
                Action::Promote { credential, store } => index.promote[credential][store] = at,
                Action::Accept { credential, .. } => index.accept[credential].push(at),
                Action::Connection { .. }
                | Action::Permission { .. }
                | Action::Inspect { .. }
                | Action::Reload { .. }
                | Action::Revoke { .. }
                | Action::Destroy { .. }
                | Action::Reject { .. }
                | Action::Sweep { .. }
                | Action::Own { .. } => {}
            }
        }
        index
    }

    /// The steps that issue, by credential.
    pub(in crate::engine) fn issues(&self) -> &[usize] {
        &self.issue
    }
}

/// A run as a step that is about to begin finds it.
#[derive(Clone, Copy)]
pub(in crate::engine) struct Earlier<'a> {
    pub(in crate::engine) index: &'a Index,
    pub(in crate::engine) state: &'a State,
    pub(in crate::engine) run: &'a str,
}

impl Earlier<'_> {
    fn fact(&self, step: usize, name: &str) -> Option<String> {
        self.state.fact(step, name).map(str::to_owned)
    }

    /// What every step needs that concerns a credential.
    pub(in crate::engine) fn known(&self, step: usize) -> Known {
        let Some(c) = self.state.plan().steps[step].action.credential() else { return Known::default() };
        let issue = self.index.issue[c];
        let context = self.state.since(issue).map(|since| self.context(issue, since));
        // On a person's word there is no answer to take the name from; of a value made here it needs none.
        let made = !self.state.plan().credentials[c].issuer.mints && self.state.is_in_effect(issue);
        let by_word = || context.as_ref().filter(|_| made).map(CallContext::handle);
        Known {
            incoming: self.fact(issue, HANDLE).or_else(by_word),
            round: self.round(c),
            issue: context.clone(),
            orphans: match self.state.status(step) {
                Status::Orphaned { handles, .. } => handles.clone(),
                _ => Vec::new(),
            },
            disabled: self.index.disable[c].is_some_and(|at| *self.state.status(at) == Status::Done),
        }
    }

    /// The round in which a credential's incoming version was, or is being, issued.
    pub(in crate::engine) fn round(&self, credential: usize) -> u32 {
        self.state.round(self.index.issue[credential])
    }

    /// The context of a step's call; `now` where it was not tried yet.
    pub(in crate::engine) fn context(&self, step: usize, now: Timestamp) -> CallContext {
        let id = &self.state.plan().steps[step].id;
        CallContext {
            run: self.run.to_owned(),
            step: id.clone(),
            token: token(self.run, id, self.state.round(step)),
            since: self.state.since(step).unwrap_or(now),
            last: self.state.last(step).unwrap_or(now),
            siblings: Vec::new(),
            before: Versions::default(),
        }
    }

    /// Every handle that the run issued and keeps.
    pub(super) fn kept(&self) -> Vec<String> {
        self.index.issue.iter().filter_map(|at| self.fact(*at, HANDLE)).collect()
    }

    /// The version of a store that was current when the run began, or was restored since.
    pub(super) fn base(&self, c: usize, s: usize) -> Option<String> {
        let promote = self.index.promote[c][s];
        let (was, version) = (self.fact(promote, WAS), self.fact(promote, VERSION));
        // After a rollback the promotion's fact is the version that it restored.
        was.or(version).or_else(|| self.fact(self.index.capture[c][s], VERSION))
    }

    /// The version that was staged in a store.
    pub(super) fn staged(&self, c: usize, s: usize) -> Option<String> {
        self.index.stage[c][s].and_then(|at| self.fact(at, VERSION))
    }

    /// Whether a person wants a store written over whatever it holds.
    pub(super) fn overwrites(&self, c: usize, s: usize) -> bool {
        self.state.overwrites(self.index.promote[c][s])
    }

    /// When the first check of incoming passed, if all of them passed in this process.
    pub(super) fn verified(&self, c: usize) -> Option<Timestamp> {
        let all: Option<Vec<_>> = self.index.accept[c].iter().map(|at| self.state.verified(*at)).collect();
        all?.into_iter().min()
    }

    /// How the place that must refuse outgoing in the end answered beforehand.
    pub(super) fn baseline(&self, c: usize, probe: Option<usize>) -> Option<String> {
        // Without a list of their own, the checks under `accepts` must refuse.
        let listed = self.state.plan().credential(c).1.rejects.is_some() && probe.is_some();
        self.index.baseline.get(&(c, probe, listed)).and_then(|at| self.fact(*at, BEFORE))
    }

    /// The versions that a store had when the plan was made.
    pub(super) fn planned(&self, c: usize, s: usize) -> Versions {
        self.state.plan().credentials[c].stores[s].versions.clone()
    }

    /// The tokens of every step that stages in the place of this store, whatever the round: what carries one
    /// of them is the run's own.
    pub(super) fn siblings(&self, c: usize, s: usize) -> Vec<Uuid> {
        let plan = self.state.plan();
        let place = &plan.credentials[c].stores[s].place;
        let stagers = self.index.stagers.get(place).map(Vec::as_slice).unwrap_or_default();
        let tokens = |at: &usize| {
            let id = plan.steps[*at].id.clone();
            (0..=self.state.round(*at)).map(move |round| token(self.run, &id, round))
        };
        stagers.iter().flat_map(tokens).collect()
    }

    /// What tells the versions of a credential's stores apart where no value does.
    pub(in crate::engine) fn versions(&self, c: usize) -> Vec<OldAndNew> {
        let stores = self.state.plan().credentials[c].stores.iter().zip(&self.index.promote[c]);
        stores
            .map(|(store, promote)| {
                let written = self.fact(*promote, VERSION);
                match self.fact(*promote, WAS) {
                    Some(was) => OldAndNew { old: Some(was), new: written },
                    // After a rollback the promotion's fact is the version that it restored.
                    None => OldAndNew { old: written.or_else(|| store.versions.current.clone()), new: None },
                }
            })
            .collect()
    }
}

/// The idempotency token of a step: a UUIDv5 of run, step and round.
fn token(run: &str, step: &str, round: u32) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("stanch:{run}/{step}/{round}").as_bytes())
}
