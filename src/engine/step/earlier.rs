//! What a step needs to know of those before it.

use std::collections::HashMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::job::{HANDLE, Known, OldAndNew, VERSION, WAS};
use crate::domain::Versions;
use crate::plan::{Action, Plan};
use crate::provider::{self, CallContext};
use crate::rotation::{BEFORE, Event, State, Status};

/// The steps that other steps need facts of, by credential and store.
#[derive(Debug, Default)]
pub(in crate::engine) struct Index {
    /// One that concerns the credential.
    any: Vec<Option<usize>>,
    issue: Vec<Option<usize>>,
    capture: Vec<Vec<Option<usize>>>,
    stage: Vec<Vec<Option<usize>>>,
    promote: Vec<Vec<Option<usize>>>,
    disable: Vec<Option<usize>>,
    accept: Vec<Vec<usize>>,
    /// By credential, check, and whether it is one under `rejects`.
    baseline: HashMap<(usize, Option<usize>, bool), usize>,
    /// The steps that stage in each place.
    stagers: HashMap<String, Vec<usize>>,
}

impl Index {
    pub(in crate::engine) fn of(plan: &Plan) -> Self {
        let each = || vec![None; plan.credentials.len()];
        let by_store = || -> Vec<_> { plan.credentials.iter().map(|c| vec![None; c.stores.len()]).collect() };
        let mut index = Self {
            any: each(),
            issue: each(),
            capture: by_store(),
            stage: by_store(),
            promote: by_store(),
            disable: each(),
            accept: vec![Vec::new(); plan.credentials.len()],
            baseline: HashMap::new(),
            stagers: HashMap::new(),
        };
        for (at, step) in plan.steps.iter().enumerate() {
            if let Some(credential) = step.action.credential() {
                index.any[credential].get_or_insert(at);
            }
            match step.action {
                Action::Issue { credential } => index.issue[credential] = Some(at),
                Action::Capture { credential, store } => index.capture[credential][store] = Some(at),
                Action::Stage { credential, store } => {
                    index.stage[credential][store] = Some(at);
                    let place = plan.credentials[credential].stores[store].place.clone();
                    index.stagers.entry(place).or_default().push(at);
                }
                Action::Disable { credential } => index.disable[credential] = Some(at),
                Action::Baseline { credential, probe, rejects } => {
                    index.baseline.insert((credential, probe, rejects), at);
                }
                Action::Promote { credential, store } => index.promote[credential][store] = Some(at),
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

    /// A step of each credential, with the credential: what a look at the credential goes by. It was issued by
    /// one of them, where it was issued.
    pub(in crate::engine) fn looks(&self) -> impl Iterator<Item = (usize, usize)> {
        let steps = self.issue.iter().zip(&self.any).map(|(issue, any)| issue.or(*any));
        steps.enumerate().filter_map(|(credential, step)| Some((credential, step?)))
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
    fn fact(&self, step: Option<usize>, name: &str) -> Option<String> {
        self.state.fact(step?, name).map(str::to_owned)
    }

    /// What every step needs that concerns a credential.
    pub(in crate::engine) fn known(&self, step: usize) -> Known {
        let Some(c) = self.state.plan().steps[step].action.credential() else { return Known::default() };
        let issue = self.index.issue[c];
        Known {
            incoming: self.fact(issue, HANDLE),
            round: self.round(c),
            issued: issue.and_then(|at| self.state.since(at)),
            rounds: issue.map_or_else(Vec::new, |at| self.rounds(at)),
            orphans: match self.state.status(step) {
                Status::Orphaned { handles, .. } => handles.clone(),
                _ => Vec::new(),
            },
            versions: match self.state.plan().credentials[c].has_unreadable() {
                true => self.versions(c),
                false => Vec::new(),
            },
            disabled: self.index.disable[c].is_some_and(|at| *self.state.status(at) == Status::Done),
        }
    }

    /// The round in which a credential's incoming version was, or is being, issued.
    pub(in crate::engine) fn round(&self, credential: usize) -> u32 {
        self.index.issue[credential].map_or(0, |at| self.state.round(at))
    }

    /// What each round's requests of a step carried: a server may have repeated, or held back, one of any.
    fn rounds(&self, step: usize) -> Vec<CallContext> {
        let Some(since) = self.state.begun(step) else { return Vec::new() };
        let id = &self.state.plan().steps[step].id;
        let of =
            |round| CallContext { token: token(self.run, id, round), since, ..self.context(step, since) };
        (0..=self.state.round(step)).map(of).collect()
    }

    /// The context of a step's call; `now` where it was not tried yet.
    pub(in crate::engine) fn context(&self, step: usize, now: Timestamp) -> CallContext {
        let plan = self.state.plan();
        let (id, credential) = (&plan.steps[step].id, plan.steps[step].action.credential());
        let outgoing = credential.and_then(|c| plan.credentials[c].outgoing.as_ref());
        CallContext {
            run: self.run.to_owned(),
            step: id.clone(),
            token: token(self.run, id, self.state.round(step)),
            since: self.state.since(step).unwrap_or(now),
            last: self.state.last(step).unwrap_or(now),
            siblings: Vec::new(),
            before: Versions::default(),
            expected: None,
            ahead: provider::Ahead::default(),
            held: None,
            outgoing: outgoing.map(|outgoing| outgoing.handle.clone()),
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

    /// The version that this run wrote in a store, or that it restored since.
    pub(super) fn wrote(&self, c: usize, s: usize) -> Option<String> {
        self.fact(self.index.promote[c][s], VERSION)
    }

    /// When the last try to take back what was written in a store began.
    pub(super) fn returned(&self, c: usize, s: usize) -> Option<Timestamp> {
        self.state.last_undo(self.index.promote[c][s]?)
    }

    /// The version that was staged in a store.
    pub(super) fn staged(&self, c: usize, s: usize) -> Option<String> {
        self.fact(self.index.stage[c][s], VERSION)
    }

    /// Whether a person wants a store written over whatever it holds.
    pub(super) fn overwrites(&self, c: usize, s: usize) -> bool {
        self.index.promote[c][s].is_some_and(|at| self.state.overwrites(at))
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
        self.fact(self.index.baseline.get(&(c, probe, listed)).copied(), BEFORE)
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
                let touched = promote.is_some_and(|at| self.state.may_have_landed(at));
                let (old, new) = match self.fact(*promote, WAS) {
                    Some(was) => (Some(was), written),
                    // After a rollback the promotion's fact is the version that it restored.
                    None => (written.or_else(|| store.versions.current.clone()), None),
                };
                OldAndNew { old, new, touched }
            })
            .collect()
    }
}

/// A person's word on what became of a step, with what follows from it: the handle of a value that was made here needs
/// no answer of its authority's.
pub fn resolved(state: &State, run: &str, step: usize, applied: bool, evidence: String) -> Event {
    let planned = &state.plan().steps[step];
    let made = match planned.action {
        Action::Issue { credential } => applied && !state.plan().credentials[credential].issuer.mints,
        _ => false,
    };
    let token = token(run, &planned.id, state.round(step));
    let facts = made.then(|| (HANDLE.to_owned(), provider::handle(token))).into_iter().collect();
    Event::Resolved { step: planned.id.clone(), applied, evidence, facts }
}

/// The idempotency token of a step: a UUIDv5 of run, step and round.
fn token(run: &str, step: &str, round: u32) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("stanch:{run}/{step}/{round}").as_bytes())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::Strategy;
    use crate::plan::tests::planned;

    /// A plan may issue nothing, and write nowhere: no other step stands for one that is absent.
    #[test]
    fn what_a_plan_does_not_do_is_not_found() {
        let mut plan = planned("runbooks/quickstart.yaml", "sandbox", Strategy::Overlap);
        let absent = |action: &Action| {
            matches!(action, Action::Issue { .. } | Action::Capture { .. } | Action::Promote { .. })
        };
        plan.steps.retain(|step| !absent(&step.action));
        plan.steps.iter_mut().for_each(|step| step.after.clear());
        let plan = Arc::new(plan);
        let now = Timestamp::UNIX_EPOCH;
        let mut state = State::new(Arc::clone(&plan), now);
        // The first step, which an index of 0 would lead to, knows what such a step would.
        let id = plan.steps[0].id.clone();
        let facts = [(HANDLE, "h"), (VERSION, "v"), (WAS, "w")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        for event in [
            crate::rotation::Event::Entered { phase: plan.steps[0].phase },
            crate::rotation::Event::Intent {
                step: id.clone(),
                op: crate::rotation::Op::Do,
                attempt: 1,
                round: 0,
            },
            crate::rotation::Event::Outcome {
                step: id,
                op: crate::rotation::Op::Do,
                attempt: 1,
                result: crate::rotation::Ended::Succeeded,
                facts: facts.into(),
                checks: Vec::new(),
                error: None,
                latency_ms: 0,
            },
        ] {
            state.apply(&event, now).expect("legal");
        }
        let index = Index::of(&plan);
        let earlier = Earlier { index: &index, state: &state, run: "r" };
        let known = earlier.known(plan.steps.len() - 1);
        assert!(known.incoming.is_none() && known.issued.is_none(), "{known:?}");
        assert_eq!((earlier.base(0, 0), earlier.kept().len(), earlier.overwrites(0, 0)), (None, 0, false));
        assert_eq!(index.looks().count(), plan.credentials.len(), "it is looked at all the same");
    }
}
