//! Which steps a plan has, what each waits for, and in which order they are taken back.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Planned;
use super::step::{Action, Step, Undo, rejects, told_dead};
use crate::domain::{Observation, Phase, Strategy};
use crate::runbook::model::{self, OwnClass, Runbook, Store};

/// All steps of a plan.
pub(super) fn steps(runbook: &Runbook, strategy: Strategy, credentials: &[Planned]) -> Vec<Step> {
    let mut builder =
        Builder { runbook, credentials, steps: Vec::new(), writers: HashMap::new(), swept: HashSet::new() };
    for &phase in Phase::order(strategy) {
        builder.phase(phase, strategy);
    }
    builder.steps
}

struct Builder<'a> {
    runbook: &'a Runbook,
    credentials: &'a [Planned],
    steps: Vec<Step>,
    /// The last step of the present phase that writes in a place, for the next one there.
    writers: HashMap<&'a str, usize>,
    /// The connections whose leftovers are looked for.
    swept: HashSet<&'a str>,
}

impl Builder<'_> {
    fn phase(&mut self, phase: Phase, strategy: Strategy) {
        self.writers.clear();
        // A bare kill asks nothing twice: its plan was made a moment ago.
        if phase == Phase::Preflight && strategy != Strategy::Revoke {
            for connection in self.runbook.connections.keys() {
                let action = Action::Connection { connection: connection.clone() };
                self.push(phase, format!("connection/{connection}"), action, vec![], None);
            }
        }
        let spec = self.runbook.phases.of(phase);
        let mut gate = Vec::new();
        if let Some(spec) = spec {
            gate = self.own(phase, &spec.before, gate);
        }
        // The last steps of each credential so far, for those that come after it.
        let mut last: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for index in self.dependency_order() {
            let planned = &self.credentials[index];
            let credential = &self.runbook.credentials[&planned.name];
            let mut after = gate.clone();
            for name in &credential.after {
                after.extend(last.get(name.as_str()).into_iter().flatten());
            }
            let tail = self.credential(phase, strategy, index, after);
            last.insert(&planned.name, tail);
        }
        if let Some(spec) = spec {
            let all = self.leaves(phase);
            self.own(phase, &spec.after, all);
        }
        self.undo_order(phase);
    }

    /// Every credential after those that it names in `after:`. The runbook's check has made sure
    /// that there is no cycle; a name that this plan does not rotate is passed over.
    fn dependency_order(&self) -> Vec<usize> {
        let at = |name: &String| self.credentials.binary_search_by(|p| p.name.cmp(name)).ok();
        let after = |at: usize| &self.runbook.credentials[&self.credentials[at].name].after;
        let mut seen = vec![false; self.credentials.len()];
        let mut order = Vec::with_capacity(seen.len());
        for start in 0..seen.len() {
            // A stack of its own: a chain of a hundred thousand credentials would overflow the thread's.
            let mut path = Vec::new();
            if !std::mem::replace(&mut seen[start], true) {
                path.push((start, after(start).iter()));
            }
            while let Some((here, earlier)) = path.last_mut() {
                match earlier.find_map(at) {
                    Some(next) => {
                        if !std::mem::replace(&mut seen[next], true) {
                            path.push((next, after(next).iter()));
                        }
                    }
                    None => {
                        order.push(*here);
                        path.pop();
                    }
                }
            }
        }
        order
    }

    /// The steps of one credential in one phase. Returns those that nothing in it waits for.
    fn credential(&mut self, phase: Phase, strategy: Strategy, c: usize, after: Vec<usize>) -> Vec<usize> {
        let planned = &self.credentials[c];
        let credential = &self.runbook.credentials[&planned.name];
        let issuer = planned.issuer;
        let name = &planned.name;
        let id = |verb: &str| format!("{name}/{verb}");
        let stores = 0..credential.stores.len();
        let store_id = |verb: &str, s: usize| format!("{name}/{verb}/{}", store_word(&credential.stores, s));
        match phase {
            // Nothing is done about it.
            _ if strategy == Strategy::Revoke && planned.outgoing.is_none() => vec![],
            Phase::Preflight => {
                let captures: Vec<usize> = stores
                    .map(|store| {
                        let action = Action::Capture { credential: c, store };
                        self.push(phase, store_id("capture", store), action, after.clone(), None)
                    })
                    .collect();
                // The issuer's look needs to know who the outgoing credential is, and using it its value.
                let permission = Action::Permission { credential: c };
                let seen = if captures.is_empty() { after } else { captures.clone() };
                let mut tail = vec![self.push(phase, id("permission"), permission, seen, None)];
                if planned.has_baseline() {
                    tail.extend(self.baselines(phase, c, &captures));
                }
                tail
            }
            Phase::Prepare => {
                let issue = Action::Issue { credential: c };
                let issue = self.push(phase, id("issue"), issue, after, Some(issuer.issue));
                vec![self.push(phase, id("inspect"), Action::Inspect { credential: c }, vec![issue], None)]
            }
            Phase::Distribute => stores
                .filter(|s| planned.stores[*s].traits.stages)
                .map(|store| {
                    let action = Action::Stage { credential: c, store };
                    self.write(phase, store_id("stage", store), action, after.clone(), (c, store))
                })
                .collect(),
            Phase::Verify => self.ask(phase, c, "accept", credential.accepts.len(), after),
            Phase::Cutover => {
                let promotes: Vec<usize> = stores
                    .map(|store| {
                        let action = Action::Promote { credential: c, store };
                        self.write(phase, store_id("promote", store), action, after.clone(), (c, store))
                    })
                    .collect();
                let written = if promotes.is_empty() { after } else { promotes.clone() };
                let reloads: Vec<usize> = (0..credential.consumers.len())
                    .filter(|i| {
                        let consumer = &credential.consumers[*i];
                        consumer.reload.is_some() || consumer.attest.is_some()
                    })
                    .map(|consumer| {
                        let action = Action::Reload { credential: c, consumer };
                        let id = format!("{name}/reload/{}", credential.consumers[consumer].name);
                        self.push(phase, id, action, written.clone(), Some(Observation::Idempotent))
                    })
                    .collect();
                if reloads.is_empty() { promotes } else { reloads }
            }
            Phase::Sunset if planned.outgoing.is_some() => {
                if issuer.disables && planned.disabled {
                    vec![]
                } else if issuer.disables {
                    let action = Action::Disable { credential: c };
                    vec![self.push(phase, id("disable"), action, after, Some(issuer.change))]
                } else if strategy == Strategy::Contain && issuer.revokes {
                    // Under contain the attacker is cut off first; where nothing milder exists, by
                    // revoking. The plan shows that the point of no return stands here.
                    vec![self.revoke(phase, c, after)]
                } else {
                    vec![]
                }
            }
            Phase::Revoke => {
                let mut tail = Vec::new();
                let early = strategy == Strategy::Contain && !issuer.disables;
                if planned.outgoing.is_some() && issuer.revokes && !early {
                    tail.push(self.revoke(phase, c, after.clone()));
                }
                for store in stores.filter(|s| planned.stores[*s].traits.destroys) {
                    let action = Action::Destroy { credential: c, store };
                    tail.push(self.write(
                        phase,
                        store_id("destroy", store),
                        action,
                        after.clone(),
                        (c, store),
                    ));
                }
                tail
            }
            // The value of one that a person named is not known: it cannot be used.
            Phase::Proof => {
                let mut tail = Vec::new();
                if credential.stores.is_empty() {
                    if planned.named && told_dead(&issuer) {
                        let action = Action::Reject { credential: c, probe: None };
                        tail.push(self.push(phase, id("reject/issuer"), action, after.clone(), None));
                    }
                } else if !planned.named {
                    tail = self.ask(phase, c, "reject", rejects(credential).len(), after.clone());
                }
                // One look finds what the run left anywhere on such a connection.
                let issuer = &credential.issuer;
                let on = issuer.connection().filter(|_| issuer.finds_by_run());
                let first = strategy != Strategy::Revoke && on.is_none_or(|on| self.swept.insert(on));
                if planned.issuer.issue == Observation::Listable && first {
                    let action = Action::Sweep { credential: c };
                    tail.push(self.push(phase, id("sweep"), action, after, Some(Observation::Idempotent)));
                }
                tail
            }
            Phase::Overlap | Phase::Sunset => vec![],
        }
    }

    /// Writes in a store, after whatever else of this phase writes in the same place: each write starts
    /// from what the one before it made, and so do the ways back.
    fn write(
        &mut self,
        phase: Phase,
        id: String,
        action: Action,
        mut after: Vec<usize>,
        (credential, store): (usize, usize),
    ) -> usize {
        let credentials = self.credentials;
        let planned = &credentials[credential].stores[store];
        if let Some(before) = self.writers.get(planned.place.as_str())
            && !after.contains(before)
        {
            after.push(*before);
        }
        let at = self.push(phase, id, action, after, Some(planned.traits.change));
        if !planned.place.is_empty() {
            self.writers.insert(&planned.place, at);
        }
        at
    }

    /// Outgoing is used wherever it must be refused in the end, and wherever the new one must be accepted.
    fn baselines(&mut self, phase: Phase, credential: usize, after: &[usize]) -> Vec<usize> {
        let planned = &self.credentials[credential];
        let spec = &self.runbook.credentials[&planned.name];
        let issuer = planned.issuer.tries.then_some((None, false));
        let accepts = (0..spec.accepts.len()).map(|p| (Some(p), false));
        let rejects = (0..spec.rejects.as_ref().map_or(0, Vec::len)).map(|p| (Some(p), true));
        let name = &planned.name;
        issuer
            .into_iter()
            .chain(accepts)
            .chain(rejects)
            .map(|(probe, rejects)| {
                let side = if rejects { "rejects" } else { "accepts" };
                let what = probe.map_or("issuer".into(), |p| format!("{side}-{}", p + 1));
                let action = Action::Baseline { credential, probe, rejects };
                self.push(phase, format!("{name}/baseline/{what}"), action, after.to_vec(), None)
            })
            .collect()
    }

    fn revoke(&mut self, phase: Phase, credential: usize, after: Vec<usize>) -> usize {
        let planned = &self.credentials[credential];
        let (id, class) = (format!("{}/revoke", planned.name), planned.issuer.change);
        self.push(phase, id, Action::Revoke { credential }, after, Some(class))
    }

    /// The steps that use a credential: at its issuer, where that can be tried, and at every probe.
    fn ask(
        &mut self,
        phase: Phase,
        credential: usize,
        verb: &str,
        probes: usize,
        after: Vec<usize>,
    ) -> Vec<usize> {
        let planned = &self.credentials[credential];
        let asks_issuer = planned.issuer.tries
            && (phase == Phase::Verify
                || planned.issuer.revokes
                || planned.issuer.disables
                || planned.issuer.replaces());
        asks_issuer
            .then_some(None)
            .into_iter()
            .chain((0..probes).map(Some))
            .map(|probe| {
                let action = match phase {
                    Phase::Verify => Action::Accept { credential, probe },
                    _ => Action::Reject { credential, probe },
                };
                let what = probe.map_or("issuer".into(), |p| format!("probe-{}", p + 1));
                self.push(phase, format!("{}/{verb}/{what}", planned.name), action, after.clone(), None)
            })
            .collect()
    }

    /// The runbook's own steps, one after the other. Returns the last.
    fn own(&mut self, phase: Phase, own: &[model::OwnStep], mut after: Vec<usize>) -> Vec<usize> {
        for step in own {
            let class = match (step.class, &step.observe, &step.manual) {
                // A question changes nothing by itself and can be asked again.
                (OwnClass::Idempotent, _, _) | (_, _, Some(_)) => Observation::Idempotent,
                (_, Some(_), _) => Observation::Readable,
                (OwnClass::Opaque, None, None) => Observation::Opaque,
            };
            let action = Action::Own { name: step.name.clone() };
            let at = self.push(phase, format!("own/{}", step.name), action, after, Some(class));
            if step.undo.is_none() && step.manual.is_none() {
                self.steps[at].irreversible = true;
                self.steps[at].undo = None;
            }
            after = vec![at];
        }
        after
    }

    /// The steps of a phase that no other step of it waits for.
    fn leaves(&self, phase: Phase) -> Vec<usize> {
        let of_phase = || self.steps.iter().enumerate().filter(|(_, s)| s.phase == phase);
        let mut waited = vec![false; self.steps.len()];
        for (_, step) in of_phase() {
            for &at in &step.after {
                waited[at] = true;
            }
        }
        of_phase().map(|(at, _)| at).filter(|at| !waited[*at]).collect()
    }

    /// Steps are taken back in the reverse of the order in which they were taken; but a consumer
    /// is told to reload only after its stores were swapped back, for else it would read the
    /// incoming value once more.
    fn undo_order(&mut self, phase: Phase) {
        let mut reloads = Vec::new();
        for at in 0..self.steps.len() {
            if self.steps[at].phase != phase || self.steps[at].undo.is_none() {
                continue;
            }
            for earlier in self.steps[at].after.clone() {
                if self.steps[earlier].undo.is_none() {
                    continue;
                }
                let swapped = matches!(self.steps[at].action, Action::Reload { .. })
                    && (matches!(self.steps[earlier].action, Action::Promote { .. })
                        || self.delivers(earlier, at));
                let (first, then) = if swapped { (earlier, at) } else { (at, earlier) };
                if let Some(undo) = &mut self.steps[then].undo {
                    undo.after.push(first);
                }
                if swapped {
                    reloads.push((earlier, at));
                    // What came before the swap is taken back after the reload, as ever.
                    for before in self.steps[earlier].after.clone() {
                        // Another swap of the same reload, in the same place, is none of it.
                        if self.steps[at].after.contains(&before) {
                            continue;
                        }
                        if let Some(undo) = &mut self.steps[before].undo {
                            undo.after.push(at);
                        }
                    }
                }
            }
        }
        // What came after a reload is taken back before the swap that the reload belongs to.
        for (promote, reload) in reloads {
            let later: Vec<usize> = match &self.steps[reload].undo {
                Some(undo) => {
                    undo.after.iter().copied().filter(|s| !self.steps[reload].after.contains(s)).collect()
                }
                None => Vec::new(),
            };
            if let Some(undo) = &mut self.steps[promote].undo {
                undo.after.extend(later);
            }
        }
    }

    /// Whether a custom step delivers the credential that another step concerns.
    fn delivers(&self, own: usize, other: usize) -> bool {
        let Action::Own { name } = &self.steps[own].action else { return false };
        let delivered = self.runbook.phases.own_step(name).and_then(|step| step.credential.as_ref());
        let credential = self.steps[other].action.credential().map(|c| &self.credentials[c].name);
        delivered.is_some() && delivered == credential
    }

    fn push(
        &mut self,
        phase: Phase,
        id: String,
        action: Action,
        after: Vec<usize>,
        class: Option<Observation>,
    ) -> usize {
        let irreversible = matches!(action, Action::Revoke { .. } | Action::Destroy { .. });
        let undo = (class.is_some() && action.can_be_undone()).then(Undo::default);
        self.steps.push(Step {
            id: format!("{phase}/{id}"),
            phase,
            action,
            after,
            undo,
            class,
            irreversible,
        });
        self.steps.len() - 1
    }
}

/// A store's word in step ids.
fn store_word(stores: &[Store], index: usize) -> String {
    let word = |s: &Store| s.kind().name;
    let this = word(&stores[index]);
    let nth = stores[..index].iter().filter(|s| word(s) == this).count() + 1;
    if nth == 1 { this.to_owned() } else { format!("{this}-{nth}") }
}
