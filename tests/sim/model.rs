//! An onlooker who keeps own books of the world, from what the servers themselves say of each change, and of
//! what is durably on record. It shares no logic with the engine, and checks the invariants of the design
//! at every change, every call, every record and every end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stanch::domain::{Check, ErrorKind, Life, Strategy};
use stanch::plan::{Action, Plan};
use stanch::provider::sandbox::{Change, Witness};
use stanch::rotation::{End, Ended, Event, Found, Outgoing, Sight, State, Status};
use stanch::runbook::model::Issuer;
use tokio::time::Instant;

use super::script::whose;

/// How long before an effect its looks may have been, where calls answer at once.
const MOMENT: Duration = Duration::from_secs(1);
/// How long before an effect its looks may have been, where calls take their time: a request may take effect long
/// after it was given up, and its effect shows here at the next call only, which may be slow itself.
const LOOKS: Duration = Duration::from_secs(180);

/// An invariant did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Its number in the design; 0: the schedule never ended, or the engine contradicted itself.
    pub(crate) invariant: u8,
    pub(crate) what: String,
}

#[derive(Debug, Clone)]
struct Credential {
    principal: String,
    life: Option<Life>,
    tag: Option<String>,
    /// How many logins that it made live.
    logins: u32,
    /// When it came to be, and since when it is accepted, or not.
    made: Instant,
    since: Instant,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Labels {
    current: Option<String>,
    previous: Option<String>,
    pending: Option<String>,
}

type Credentials = BTreeMap<String, Credential>;
type Stores = BTreeMap<String, Labels>;

/// What stands on record and is durable.
#[derive(Debug, Default)]
struct OnRecord {
    /// Steps with an intent and no outcome that says how it ended.
    open: BTreeSet<String>,
    /// The handles that it names.
    handles: BTreeSet<String>,
    /// Each credential's incoming one, by the name in the runbook.
    incoming: BTreeMap<String, String>,
    /// Steps that are done, and were not taken back.
    done: BTreeSet<String>,
    /// The credentials of which it says that a second one could not be looked for.
    unseen: BTreeSet<String>,
    /// Whether it says so of all of them.
    all_unseen: bool,
    /// Whether it ever went back.
    turned: bool,
    /// Whether it goes back now.
    back: bool,
    revoking: bool,
}

impl OnRecord {
    /// Whether it says that a second credential of this principal could not be looked for.
    fn is_unseen(&self, principal: &str) -> bool {
        self.all_unseen || self.unseen.contains(principal)
    }
}

#[derive(Default)]
struct Books {
    run: String,
    overlap: bool,
    credentials: Credentials,
    stores: Stores,
    clients: BTreeMap<String, Vec<Option<String>>>,
    /// Consumers that hold on to what they read.
    caching: BTreeSet<String>,
    /// Whose credentials are members of a set that others may have read so long ago.
    sets: BTreeMap<String, Duration>,
    /// Whether the machine's clock was ever wrong: across a restart it alone says how long something lasts.
    jumped: bool,
    /// The world before the run.
    before: Option<Box<(Credentials, Stores)>>,
    /// Which steps a call may belong to, by its name and its target.
    steps: BTreeMap<(&'static str, String), BTreeSet<String>>,
    record: OnRecord,
    /// Whether an own step bars the way back before `revoke` does.
    barred: bool,
    latched: bool,
    /// Whether others change the world in this schedule.
    hands: bool,
    /// Whether calls always answer at once: then what somebody else did a moment ago can be seen.
    calm: bool,
    /// Whether somebody else is at it right now.
    by_hand: bool,
    /// What somebody else changed, and when: credentials by handle, stores by path.
    touched: BTreeMap<String, Instant>,
    /// When a server last forgot what it had acknowledged.
    forgot: Option<Instant>,
    /// How many requests to create were repeated on the way.
    repeated: u32,
    violation: Option<Violation>,
}

/// The onlooker.
#[derive(Default)]
pub(crate) struct Model(Mutex<Books>);

/// What a person who looks at everything would mend by hand.
#[derive(Debug, Default)]
pub(crate) struct Mending {
    /// Outgoing credentials that live although their revocation is on record.
    pub(crate) revoke: Vec<String>,
    /// Outgoing credentials that are accepted although their disabling is on record.
    pub(crate) disable: Vec<String>,
    /// Stores whose current version is not what the record says, with the credential that it should be, and
    /// the consumers of that.
    pub(crate) write: Vec<(String, String, Vec<String>)>,
}

impl Model {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on: this run of this plan, over the world as it stands.
    pub(crate) fn open(&self, run: &str, plan: &Plan, paths: &[Vec<String>], caching: BTreeSet<String>) {
        let mut books = self.books();
        books.run = run.to_owned();
        books.overlap = plan.strategy == Strategy::Overlap;
        books.caching = caching;
        let members = plan.runbook.credentials.iter().filter_map(|(name, credential)| {
            let Issuer::JwtSigningKey(key) = &credential.issuer else { return None };
            Some((name.clone(), key.cache.get()))
        });
        books.sets = members.collect();
        books.before = Some(Box::new((books.credentials.clone(), books.stores.clone())));
        for step in &plan.steps {
            let Some(c) = step.action.credential() else {
                if let Action::Own { .. } = step.action {
                    books.barred |= step.irreversible;
                    books.allow("call", &step.id, &step.id);
                }
                continue;
            };
            let planned = &plan.credentials[c];
            let principal = planned.name.clone();
            let path = |s: usize| paths[c][s].clone();
            match &step.action {
                Action::Issue { .. } => {
                    books.allow("issue", &principal, &step.id);
                    books.allow("revoke", &principal, &step.id);
                    books.allow("logout", &principal, &step.id);
                    books.allow("restore", &principal, &step.id);
                }
                Action::Revoke { .. } | Action::Sweep { .. } => {
                    books.allow("revoke", &principal, &step.id);
                    books.allow("logout", &principal, &step.id);
                }
                Action::Disable { .. } => {
                    books.allow("disable", &principal, &step.id);
                    books.allow("enable", &principal, &step.id);
                }
                Action::Stage { store, .. } => {
                    books.allow("stage", &path(*store), &step.id);
                    books.allow("retire", &path(*store), &step.id);
                }
                Action::Promote { store, .. } => books.allow("promote", &path(*store), &step.id),
                Action::Destroy { store, .. } => books.allow("destroy", &path(*store), &step.id),
                Action::Reload { consumer, .. } => {
                    let consumer = &plan.runbook.credentials[&planned.name].consumers[*consumer].name;
                    books.allow("reload", &format!("{}/{consumer}", planned.name), &step.id);
                }
                _ => {}
            }
        }
    }

    /// Whether others change the world, and whether calls always answer at once.
    pub(crate) fn expect(&self, hands: bool, calm: bool) {
        let mut books = self.books();
        (books.hands, books.calm) = (hands, calm);
    }

    /// Somebody else changes the world, past stanch.
    pub(crate) fn by_hand<T>(&self, act: impl FnOnce() -> T) -> T {
        self.books().by_hand = true;
        let result = act();
        self.books().by_hand = false;
        result
    }

    /// Whether somebody else wrote this store.
    pub(crate) fn is_touched(&self, path: &str) -> bool {
        self.books().touched.contains_key(path)
    }

    /// The machine's clock is set.
    pub(crate) fn jumps(&self) {
        self.books().jumped = true;
    }

    /// A server starts again, and has lost what it had not flushed.
    pub(crate) fn forgets(&self) {
        self.books().forgot = Some(Instant::now());
    }

    /// A request to create is delivered twice.
    pub(crate) fn repeated(&self) {
        self.books().repeated += 1;
    }

    /// The handle of a credential's incoming version, as the record has it.
    pub(crate) fn incoming(&self, credential: &str) -> Option<String> {
        self.books().record.incoming.get(credential).cloned()
    }

    /// What the summary says is what the world shows, where nothing kept it from being seen.
    pub(crate) fn check_summary(&self, state: &State, paths: &[Vec<String>]) {
        let mut books = self.books();
        if !books.calm {
            return;
        }
        for (c, truth) in state.truths().into_iter().enumerate() {
            let planned = &state.plan().credentials[c];
            let Some((_, seen)) = state.seen(&planned.name) else { continue };
            let incoming = books.record.incoming.get(&planned.name).cloned();
            let holding = |reads: bool| {
                let stores = paths[c].iter().zip(&planned.stores).filter(|(_, s)| s.traits.reads == reads);
                stores.filter(|(p, _)| incoming.is_some() && books.stores[*p].current == incoming).count()
            };
            let (shown, hidden) = (holding(true), holding(false));
            // What was written where nothing can be read, and by whom, only this run's own record tells.
            let fits_hidden = (truth.written..=truth.written + truth.strange).contains(&hidden);
            let told = |c: &Credential| match c.life {
                // What it made lives on, and so its issuer does not call it gone.
                Some(Life::Gone) if c.logins > 0 => Some(Life::Deleted),
                life => life,
            };
            let life = planned.outgoing.as_ref().and_then(|o| told(&books.credentials[&o.handle]));
            let fits = match truth.outgoing {
                // Its issuer cannot be asked: the summary tells what the steps saw.
                _ if seen.outgoing == Sight::Unseen => true,
                Outgoing::Accepted => life == Some(Life::Active),
                Outgoing::Disabled => matches!(life, Some(Life::Disabled | Life::Deleted)),
                Outgoing::Deleted => life == Some(Life::Deleted),
                Outgoing::Gone | Outgoing::Dead | Outgoing::Revoked | Outgoing::Replaced => {
                    life == Some(Life::Gone)
                }
                Outgoing::Refused | Outgoing::Waived | Outgoing::Unknown => true,
            };
            if !fits || shown != truth.current || !fits_hidden {
                let what = format!(
                    "the summary says {truth:?}; {shown} and {hidden} stores hold the new one, the old one is {life:?}"
                );
                books.blame(2, what);
            }
        }
    }

    /// The first invariant that did not hold.
    pub(crate) fn violation(&self) -> Option<Violation> {
        self.books().violation.clone()
    }

    pub(crate) fn blame(&self, invariant: u8, what: impl Into<String>) {
        self.books().blame(invariant, what.into());
    }

    pub(crate) fn set_latched(&self, latched: bool) {
        self.books().latched = latched;
    }

    /// Whether a server may forget what it acknowledged: not once a rollback, a revocation or a discard is
    /// on record, since an issuer that takes a revocation back after it was proved is more than any client can
    /// notice; and not where an own step bars the way back, since nothing is left to do when incoming is gone.
    pub(crate) fn may_forget(&self) -> bool {
        let books = self.books();
        books.overlap && !books.barred && !books.record.turned && !books.record.revoking
    }

    /// Invariant 7: nobody is refused the way back while all that cannot be taken back is yet to be done.
    pub(crate) fn check_way_back(&self, state: &State) {
        let mut books = self.books();
        let Some((before, _)) = books.before.as_deref() else { return };
        let is_gone = |handle| books.credentials.get(handle).is_none_or(|c| c.life == Some(Life::Gone));
        let mut steps = state.plan().steps.iter().enumerate();
        let perhaps = books.barred
            || before.keys().any(is_gone)
            || steps.any(|(at, step)| {
                let status = state.status(at);
                let begun = matches!(status, Status::Started { .. } | Status::Unknown { .. } | Status::Done);
                step.irreversible && begun
            });
        if state.end().is_none() && state.is_past_return() && !perhaps {
            books.blame(7, format!("the way back is barred, and nothing was revoked: {:?}", state.stopped()));
        }
    }

    /// A call begins. Invariants 5 and 6.
    pub(crate) fn called(&self, op: &'static str, target: &str) {
        const EFFECTS: [&str; 12] = [
            "issue", "restore", "revoke", "logout", "disable", "enable", "stage", "retire", "promote",
            "destroy", "reload", "call",
        ];
        if !EFFECTS.contains(&op) {
            return;
        }
        let mut books = self.books();
        let steps = books.steps.get(&(op, target.to_owned()));
        let recorded = steps.is_some_and(|s| s.iter().any(|s| books.record.open.contains(s)));
        if !recorded {
            books.blame(5, format!("{op} on {target} without a durable intent"));
        }
        // The logins of a credential end with it: the effect began before.
        if books.latched && op != "logout" {
            books.blame(6, format!("{op} on {target} began under the latch"));
        }
    }

    /// These events are durable.
    pub(crate) fn durable(&self, events: &[Event]) {
        let mut books = self.books();
        for event in events {
            books.read(event);
        }
    }

    /// A session ended, and no call is under way. Invariant 3.
    pub(crate) fn idle(&self) {
        let mut books = self.books();
        let held: BTreeSet<&String> =
            books.stores.values().flat_map(|l| [&l.current, &l.previous, &l.pending]).flatten().collect();
        let lost = books.ours().find(|(handle, credential, step)| {
            credential.life.is_some_and(|l| l != Life::Gone)
                && !held.contains(handle)
                && !books.record.handles.contains(*handle)
                && !books.record.open.contains(*step)
                // What a repeated request made shows when it is looked for, before the end.
                && (books.repeated == 0 || books.ours().filter(|(_, c, _)| c.tag == credential.tag).count() < 2)
        });
        if let Some(lost) = lost {
            let what = format!("{} lives and stands nowhere: {:?}", lost.0, lost.1);
            books.blame(3, what);
        }
    }

    /// The run is closed. Invariants 2, 3, 4 and 7.
    pub(crate) fn closed(&self, end: End) {
        let mut books = self.books();
        let Some(before) = books.before.clone() else { return };
        let (credentials, stores) = *before;
        let alive = |c: &Credential| c.life.is_some_and(|l| l != Life::Gone);
        let mut wrong = Vec::new();
        let untouched = |name: &str| !books.touched.contains_key(name);
        if end == End::Abandoned {
            return;
        }
        if matches!(end, End::Done | End::NotProved) {
            for (handle, old) in &credentials {
                let now = &books.credentials[handle];
                if now.life != Some(Life::Gone) && end == End::Done {
                    wrong.push((2, format!("{handle} of {} is {:?} after the end", old.principal, now.life)));
                }
                if now.logins > 0 && end == End::Done {
                    let what = format!("{} logins of {handle} live after the end", now.logins);
                    wrong.push((2, what));
                }
                let cached = books.sets.get(&old.principal).filter(|_| !books.jumped && untouched(handle));
                if cached.is_some_and(|cache| old.life != now.life && now.since.elapsed() < *cache)
                    && end == End::Done
                {
                    let what = format!("{handle} left the set {:?} before the end", now.since.elapsed());
                    wrong.push((2, what));
                }
                let living =
                    books.credentials.iter().filter(|(_, c)| c.principal == old.principal && alive(c));
                let living: Vec<&String> = living.map(|(h, _)| h).filter(|h| untouched(h)).collect();
                let gone = books
                    .touched
                    .keys()
                    .any(|h| books.ours().any(|(ours, c, _)| ours == h && c.principal == old.principal));
                let others = living.iter().filter(|h| **h != handle).count();
                // What a repeated request made and nobody may list is on record as not looked for.
                let told = books.repeated > 0 && others > 1 && books.record.is_unseen(&old.principal);
                if told {
                    continue;
                }
                if others != 1 && !(others == 0 && gone) {
                    wrong.push((3, format!("of {} live {living:?} after the end", old.principal)));
                }
            }
            for (path, labels) in &books.stores {
                let life = labels.current.as_ref().and_then(|h| books.credentials[h].life);
                let hurt = labels.current.as_ref().is_some_and(|h| !untouched(h));
                if life != Some(Life::Active) && untouched(path) && !hurt {
                    wrong.push((1, format!("{path} hands out {labels:?}, which is {life:?}, after the end")));
                }
            }
        } else {
            for (handle, old) in &credentials {
                let now = books.credentials[handle].life;
                if now != old.life && untouched(handle) {
                    wrong.push((7, format!("{handle} was {:?} and is {now:?} after {end:?}", old.life)));
                }
            }
            for (path, old) in &stores {
                let now = &books.stores[path];
                if (now.current != old.current || now.pending != old.pending) && untouched(path) {
                    wrong.push((7, format!("{path} had {old:?} and has {now:?} after {end:?}")));
                }
            }
            for (handle, credential, step) in books.ours() {
                let told = books.repeated > 0
                    && books.record.is_unseen(&credential.principal)
                    && !books.record.handles.contains(handle);
                if alive(credential) && !told {
                    wrong.push((3, format!("{handle} of {step} lives after {end:?}")));
                }
                if credential.logins > 0 && untouched(handle) {
                    wrong.push((3, format!("a login of {handle} of {step} lives after {end:?}")));
                }
            }
            let caching = |n: &String| books.caching.contains(n) && !books.hands;
            for (name, instances) in books.clients.iter().filter(|(n, _)| caching(n)) {
                if instances.iter().flatten().any(|h| books.credentials[h].life != Some(Life::Active)) {
                    wrong.push((7, format!("{name} uses {instances:?} after {end:?}")));
                }
            }
        }
        if let Some((invariant, what)) = wrong.into_iter().next() {
            books.blame(invariant, what);
        }
    }

    /// What differs from the record, as servers that forget leave it.
    pub(crate) fn mending(&self, plan: &Plan, paths: &[Vec<String>]) -> Mending {
        let books = self.books();
        let mut mending = Mending::default();
        for step in &plan.steps {
            let Some(c) = step.action.credential() else { continue };
            let planned = &plan.credentials[c];
            let Some(outgoing) = planned.outgoing.as_ref().map(|o| &o.handle) else { continue };
            match step.action {
                Action::Revoke { .. }
                    if books.record.done.contains(&step.id)
                        && books.credentials[outgoing].life != Some(Life::Gone) =>
                {
                    mending.revoke.push(outgoing.clone());
                }
                Action::Disable { .. }
                    if books.record.done.contains(&step.id)
                        && books.credentials[outgoing].life == Some(Life::Active) =>
                {
                    mending.disable.push(outgoing.clone());
                }
                Action::Promote { store, .. } => {
                    let path = &paths[c][store];
                    let promoted = books.record.done.contains(&step.id);
                    let incoming = books.record.incoming.get(&planned.name);
                    // Nobody writes the new one while the run goes back to the old one.
                    let wanted = if promoted && !books.record.back { incoming } else { Some(outgoing) };
                    let Some(wanted) = wanted else { continue };
                    let unsure = books.record.open.contains(&step.id);
                    let lives = books.credentials.get(wanted).is_some_and(|c| c.life == Some(Life::Active));
                    if !unsure && lives && books.stores[path].current.as_ref() != Some(wanted) {
                        let whose = format!("{}/", planned.name);
                        // Nobody restarts a consumer of whom the run says that it was not told yet.
                        let untold = |consumer: &str| {
                            let reload = books.steps.get(&("reload", consumer.to_owned()));
                            reload.is_some_and(|steps| {
                                steps
                                    .iter()
                                    .all(|s| !books.record.done.contains(s) && !books.record.open.contains(s))
                            })
                        };
                        let mine = books.clients.keys().filter(|c| c.starts_with(&whose));
                        let consumers = mine.filter(|c| !untold(c)).cloned();
                        mending.write.push((path.clone(), wanted.clone(), consumers.collect()));
                    }
                }
                _ => {}
            }
        }
        mending
    }
}

impl Witness for Model {
    fn changed(&self, change: Change) {
        let mut books = self.books();
        match change {
            Change::Credential { handle, principal, life, tag, logins } => {
                let (now, principal) = (Instant::now(), whose(&principal).to_owned());
                books.credential(handle, Credential { principal, life, tag, logins, made: now, since: now })
            }
            Change::Store { path, current, previous, pending } => {
                let before = books.stores.get(&path).and_then(|l| l.current.clone());
                let moved = before != current;
                books.stores.insert(path.clone(), Labels { current, previous, pending });
                if books.by_hand {
                    books.touched.insert(path, Instant::now());
                } else {
                    if moved {
                        books.is_known(&path);
                    }
                    let lived = before.is_some_and(|h| books.is_active(&h));
                    books.is_handed_out(&path, lived);
                }
            }
            Change::Client { name, instances } => {
                books.clients.insert(name.clone(), instances);
                if !books.hands {
                    books.is_served(&name);
                }
            }
        }
    }
}

impl Books {
    fn is_active(&self, handle: &str) -> bool {
        self.credentials.get(handle).is_some_and(|c| c.life == Some(Life::Active))
    }

    /// Whether what somebody else did to this, or a server forgot, is so fresh that no look could have seen it.
    fn is_fresh(&self, name: &str) -> bool {
        let since = self.touched.get(name).into_iter().chain(&self.forgot).map(|at| at.elapsed()).min();
        since.is_some_and(|since| since <= if self.calm { MOMENT } else { LOOKS })
    }

    /// Invariant 1: right before a credential dies the one that is to stay works, and every store hands
    /// it out, whatever others did a while ago.
    fn is_looked_at(&mut self, handle: &str, principal: &str) {
        let old = self.before.as_ref().is_some_and(|before| before.0.contains_key(handle));
        let Some(incoming) = self.record.incoming.get(principal).cloned() else { return };
        if !self.overlap || !old {
            return;
        }
        if !self.is_active(&incoming) && !self.is_fresh(&incoming) {
            self.blame(1, format!("{handle} was killed, and {incoming}, which was to stay, is dead"));
        }
        let paths = self.steps.keys().filter(|(op, _)| *op == "promote").map(|(_, path)| path.clone());
        let paths: Vec<String> = paths.collect();
        for path in paths {
            let mine = self.before.as_ref().is_some_and(|b| b.1[&path].current.as_deref() == Some(handle));
            if mine && self.stores[&path].current.as_ref() != Some(&incoming) && !self.is_fresh(&path) {
                self.blame(1, format!("{handle} was killed, and {path} does not hand out {incoming}"));
            }
        }
    }

    fn blame(&mut self, invariant: u8, what: String) {
        self.violation.get_or_insert(Violation { invariant, what });
    }

    fn allow(&mut self, op: &'static str, target: &str, step: &str) {
        self.steps.entry((op, target.to_owned())).or_default().insert(step.to_owned());
    }

    /// What this run made, with the step that made it.
    fn ours(&self) -> impl Iterator<Item = (&String, &Credential, &str)> {
        self.credentials.iter().filter_map(|(handle, credential)| {
            let mut words = credential.tag.as_deref()?.split(' ');
            let (run, step) = (words.next()?, words.next()?);
            (run == self.run && self.before.is_some()).then_some((handle, credential, step))
        })
    }

    /// Invariants 1 and 4.
    fn credential(&mut self, handle: String, mut now: Credential) {
        let known = self.credentials.get(&handle);
        let (fresh, lived) = (known.is_none(), known.is_none_or(|known| known.life == Some(Life::Active)));
        if let Some(known) = known {
            now.made = known.made;
            if lived == (now.life == Some(Life::Active)) {
                now.since = known.since;
            }
            if known.life == now.life {
                self.credentials.insert(handle, now);
                return;
            }
        }
        let (life, tag, whose) = (now.life, now.tag.clone(), now.principal.clone());
        self.credentials.insert(handle.clone(), now);
        if self.by_hand {
            self.touched.insert(handle, Instant::now());
            return;
        }
        let repeated = fresh && self.repeated > 0;
        if fresh && self.before.is_some() && !repeated {
            let twin = self
                .ours()
                .find(|(h, c, _)| **h != handle && c.tag == tag && c.life.is_some_and(|l| l != Life::Gone));
            if let Some(twin) = twin {
                let what = format!("{handle} was made while {} lived: {:?}", twin.0, twin.1);
                self.blame(4, what);
            }
        }
        if life != Some(Life::Active) && lived && self.before.is_some() {
            self.is_looked_at(&handle, &whose);
        }
        if life != Some(Life::Active) && (lived || !self.hands) {
            let hands_out = |(_, labels): &(&String, &Labels)| labels.current.as_ref() == Some(&handle);
            let stores: Vec<String> = self.stores.iter().filter(hands_out).map(|(p, _)| p.clone()).collect();
            for path in &stores {
                self.is_handed_out(path, lived);
            }
            let clients: Vec<String> = self.clients.keys().cloned().collect();
            let asked = if self.hands { &[][..] } else { &clients[..] };
            for name in asked {
                self.is_served(name);
            }
        }
    }

    /// `lived`: whether what it handed out before this change was accepted.
    fn is_handed_out(&mut self, path: &str, lived: bool) {
        if !self.overlap || self.before.is_none() || (self.hands && !lived) {
            return;
        }
        let current = self.stores[path].current.clone();
        let life = current.as_ref().and_then(|h| self.credentials.get(h)).and_then(|c| c.life);
        let fresh = current.as_ref().is_some_and(|h| self.is_fresh(h)) || self.is_fresh(path);
        if life != Some(Life::Active) && !fresh {
            self.blame(1, format!("{path} hands out {current:?}, which is {life:?}"));
        }
    }

    /// Invariant 1: what a store hands out was in its set for so long that everybody has read it there.
    fn is_known(&mut self, path: &str) {
        let current = self.stores[path].current.as_ref();
        let ours = self.ours().find(|(handle, ..)| current == Some(*handle));
        let Some((handle, credential, _)) = ours else { return };
        let young = |cache: &Duration| credential.made.elapsed() < *cache;
        if !self.jumped && self.sets.get(&credential.principal).is_some_and(young) {
            let what = format!("{path} hands out {handle}, made {:?} ago", credential.made.elapsed());
            self.blame(1, what);
        }
    }

    fn is_served(&mut self, name: &str) {
        if !self.overlap || self.before.is_none() || !self.caching.contains(name) {
            return;
        }
        for handle in self.clients[name].clone().into_iter().flatten() {
            let life = self.credentials.get(&handle).and_then(|c| c.life);
            if life != Some(Life::Active) {
                self.blame(1, format!("{name} uses {handle}, which is {life:?}"));
            }
        }
    }

    fn read(&mut self, event: &Event) {
        match event {
            Event::Intent { step, op, .. } => {
                if self.latched {
                    self.blame(6, format!("the intent of {step} was recorded under the latch"));
                }
                let revokes = step.ends_with("/revoke") || step.contains("/destroy/");
                self.record.revoking |= revokes || *op == stanch::rotation::Op::Discard;
                self.record.open.insert(step.clone());
            }
            Event::Outcome { step, op, result, facts, error, checks, .. } => {
                self.name(step, facts);
                let unseen = |c: &Check| c.name == "leftovers unseen";
                if let Some(credential) = step.split('/').nth(1)
                    && checks.iter().any(unseen)
                {
                    self.record.unseen.insert(credential.to_owned());
                    self.record.all_unseen |=
                        checks.iter().any(|c| c.detail.contains("any credential of this run"));
                }
                match result {
                    Ended::Unknown => {}
                    // No room: for what an earlier delivery of the same request may have made.
                    Ended::Rejected if error.as_ref().is_some_and(|e| e.kind == ErrorKind::Limit) => {}
                    Ended::Succeeded => self.over(step, *op),
                    Ended::Rejected => drop(self.record.open.remove(step)),
                }
            }
            Event::Settled { step, op, found, facts, .. } => {
                self.name(step, facts);
                match found {
                    Found::Applied => self.over(step, *op),
                    Found::Absent | Found::Repeatable => drop(self.record.open.remove(step)),
                    Found::Orphans(handles) => {
                        self.record.handles.extend(handles.iter().cloned());
                        self.record.open.remove(step);
                    }
                    Found::Undecided => {}
                }
            }
            Event::Resolved { step, facts, .. } => {
                self.name(step, facts);
                self.record.open.remove(step);
            }
            Event::Turned { .. } => (self.record.turned, self.record.back) = (true, true),
            Event::Forward { .. } | Event::Returned { .. } => self.record.back = false,
            _ => {}
        }
    }

    fn over(&mut self, step: &str, op: stanch::rotation::Op) {
        self.record.open.remove(step);
        match op {
            stanch::rotation::Op::Do => drop(self.record.done.insert(step.to_owned())),
            stanch::rotation::Op::Undo => drop(self.record.done.remove(step)),
            stanch::rotation::Op::Discard => {}
        }
    }

    fn name(&mut self, step: &str, facts: &BTreeMap<String, String>) {
        let Some(handle) = facts.get("handle") else { return };
        self.record.handles.insert(handle.clone());
        if let Some(credential) = step.split('/').nth(1) {
            self.record.incoming.insert(credential.to_owned(), handle.clone());
        }
    }
}
