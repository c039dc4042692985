//! The world in memory, for simulations: as the file, and with what servers do and a file cannot.
//!
//! - A read may lag: it sees the world as it was a while ago (eventual consistency).
//! - A change may arrive late, after whoever asked for it gave up.
//! - A restart forgets what was acknowledged and not yet flushed.
//! - A [`Witness`] sees every change at the moment at which it takes effect.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Client, Credential, Keep, Line, Secrets, Value, World, handle};
use crate::domain::Life;
use crate::secret::Material;

/// How long a past state can still be seen.
const PAST: Duration = Duration::from_secs(30);

/// One change, as somebody sees it who looks into every server at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A credential came to be, or its life changed.
    Credential {
        /// The issuer's name for it.
        handle: String,
        /// Whose.
        principal: String,
        /// `None`: a restart forgot that it was ever made.
        life: Option<Life>,
        /// The run and the step that made it, as `RUN STEP`.
        tag: Option<String>,
        /// How many logins that it made live.
        logins: u32,
    },
    /// A store's labels moved. Versions are named by the handle of the credential that they hold.
    Store {
        /// Which.
        path: String,
        /// What consumers get.
        current: Option<String>,
        /// What they got before.
        previous: Option<String>,
        /// What is staged.
        pending: Option<String>,
    },
    /// A consumer read its store.
    Client {
        /// Which, as `CREDENTIAL/CONSUMER`.
        name: String,
        /// What each of its instances uses.
        instances: Vec<Option<String>>,
    },
}

/// Sees every change.
pub trait Witness: Send + Sync {
    /// A change took effect just now.
    fn changed(&self, change: Change);
}

/// What the world keeps in memory beside itself.
pub(in crate::provider::sandbox) struct Memory {
    /// Values from outside, by number.
    outside: Mutex<Vec<Material>>,
    /// What stood in the place of each change, oldest first.
    past: Vec<(Instant, Before)>,
    /// Changes that will take effect at a moment, if what they are to replace still stands then.
    late: Vec<(Instant, Before, Line)>,
    witness: Option<Arc<dyn Witness>>,
}

/// What stood in the place of a change.
#[derive(Clone)]
enum Before {
    Credential(String, Option<Box<Credential>>),
    Secrets(String, Option<Secrets>),
    Client(String, Option<Client>),
}

impl Memory {
    pub(in crate::provider::sandbox) fn seal(&self, material: &Material) -> Value {
        let mut outside = self.outside.lock().unwrap_or_else(PoisonError::into_inner);
        let at = outside.iter().position(|m| m.same_as(material)).unwrap_or(outside.len());
        if at == outside.len() {
            outside.push(material.clone());
        }
        Value::Sealed(at.to_string())
    }

    pub(in crate::provider::sandbox) fn open(&self, text: &str) -> Option<Material> {
        let outside = self.outside.lock().unwrap_or_else(PoisonError::into_inner);
        outside.get(text.parse::<usize>().ok()?).cloned()
    }
}

impl World {
    /// An empty world; `number` makes its values differ from another world's.
    pub(in crate::provider::sandbox) fn in_memory(number: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        let outside = Mutex::new(Vec::new());
        Self::empty(key, Keep::Memory(Memory { outside, past: vec![], late: vec![], witness: None }))
    }

    fn memory(&mut self) -> Option<&mut Memory> {
        match &mut self.keep {
            Keep::Memory(memory) => Some(memory),
            Keep::File { .. } => None,
        }
    }

    pub(in crate::provider::sandbox) fn set_witness(&mut self, witness: Arc<dyn Witness>) {
        if let Some(memory) = self.memory() {
            memory.witness = Some(witness);
        }
    }

    /// A change, with what stood in its place kept for a while.
    pub(in crate::provider::sandbox) fn remember(&mut self, line: Line) {
        self.remember_at(Instant::now(), line);
    }

    fn remember_at(&mut self, now: Instant, line: Line) {
        let before = self.before(&line);
        if let Some(memory) = self.memory() {
            let old = memory.past.iter().take_while(|(at, _)| now - *at > PAST).count();
            memory.past.drain(..old);
            memory.past.push((now, before));
        }
        let change = self.seen(&line);
        self.fold(line);
        self.tell(change);
    }

    fn tell(&mut self, change: Change) {
        if let Some(witness) = self.memory().and_then(|m| m.witness.clone()) {
            witness.changed(change);
        }
    }

    fn before(&self, line: &Line) -> Before {
        match line {
            Line::Credential(handle, _) => {
                Before::Credential(handle.clone(), self.credentials.get(handle).cloned().map(Box::new))
            }
            Line::Secrets(path, _) => Before::Secrets(path.clone(), self.secrets.get(path).cloned()),
            Line::Client(name, _) => Before::Client(name.clone(), self.client(name).cloned()),
        }
    }

    fn seen(&self, line: &Line) -> Change {
        match line {
            Line::Credential(handle, c) => Change::Credential {
                handle: handle.clone(),
                principal: c.principal.clone(),
                life: Some(c.life),
                tag: c.tag.clone(),
                logins: c.logins.unwrap_or_default(),
            },
            Line::Secrets(path, secrets) => {
                let of = |label: &Option<String>| {
                    label.as_ref().and_then(|v| secrets.versions.get(v)).and_then(|v| self.handle_of(v))
                };
                let labels = &secrets.labels;
                Change::Store {
                    path: path.clone(),
                    current: of(&labels.current),
                    previous: of(&labels.previous),
                    pending: of(&labels.pending),
                }
            }
            Line::Client(name, client) => Change::Client {
                name: name.clone(),
                instances: client.instances.iter().map(|v| self.handle_of(v)).collect(),
            },
        }
    }

    fn handle_of(&self, value: &Value) -> Option<String> {
        match value {
            Value::Minted { number, .. } => Some(handle(*number)),
            Value::Sealed(_) => {
                self.credentials.iter().find(|(_, c)| c.value == *value).map(|(h, _)| h.clone())
            }
        }
    }

    /// Puts what stood there before in the place of what is there; returns what was there.
    fn put_back(&mut self, before: Before) -> Before {
        match before {
            Before::Credential(handle, credential) => {
                let now = self.credentials.remove(&handle);
                if let Some(now) = &now
                    && let Some(all) = self.by_principal.get_mut(&now.principal)
                {
                    all.retain(|h| *h != handle);
                }
                if let Some(credential) = credential {
                    self.fold(Line::Credential(handle.clone(), *credential));
                }
                Before::Credential(handle, now.map(Box::new))
            }
            Before::Secrets(path, secrets) => {
                let now = self.secrets.remove(&path);
                if let Some(secrets) = secrets {
                    self.fold(Line::Secrets(path.clone(), secrets));
                }
                Before::Secrets(path, now)
            }
            Before::Client(name, client) => {
                let now = self.client(&name).cloned();
                if let Some(client) = client {
                    self.fold(Line::Client(name.clone(), client));
                }
                Before::Client(name, now)
            }
        }
    }

    /// Looks at the world as it was `lag` ago. What `act` changes is lost.
    pub(in crate::provider::sandbox) fn in_the_past<T>(
        &mut self,
        lag: Duration,
        act: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let now = Instant::now();
        let Some(memory) = self.memory() else { return act(self) };
        let past = std::mem::take(&mut memory.past);
        let witness = memory.witness.take();
        let recent = past.iter().rev().take_while(|(at, _)| now - *at < lag).count();
        let mut present = Vec::with_capacity(recent);
        for (_, before) in past[past.len() - recent..].iter().rev() {
            present.push(self.put_back(before.clone()));
        }
        let result = act(self);
        for after in present.into_iter().rev() {
            self.put_back(after);
        }
        if let Some(memory) = self.memory() {
            (memory.past, memory.witness) = (past, witness);
        }
        result
    }

    /// Does something now and lets it take effect later, unless what it replaces has changed by then,
    /// as a server would find that checks at that moment.
    pub(in crate::provider::sandbox) fn later<T>(
        &mut self,
        delay: Duration,
        act: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let due = Instant::now() + delay;
        let Some(memory) = self.memory() else { return act(self) };
        let past = std::mem::take(&mut memory.past);
        let witness = memory.witness.take();
        let result = act(self);
        let made = self.memory().map(|m| std::mem::take(&mut m.past)).unwrap_or_default();
        for (_, before) in made.into_iter().rev() {
            let line = match self.put_back(before.clone()) {
                Before::Credential(handle, Some(c)) => Some(Line::Credential(handle, *c)),
                Before::Secrets(path, Some(s)) => Some(Line::Secrets(path, s)),
                Before::Client(name, Some(c)) => Some(Line::Client(name, c)),
                _ => None,
            };
            if let (Some(line), Some(memory)) = (line, self.memory()) {
                memory.late.push((due, before, line));
            }
        }
        if let Some(memory) = self.memory() {
            (memory.past, memory.witness) = (past, witness);
        }
        result
    }

    /// Does something whose effect never comes.
    pub(in crate::provider::sandbox) fn without_effect<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> T {
        let late = |world: &mut Self| world.memory().map_or(0, |m| m.late.len());
        let before = late(self);
        let result = self.later(Duration::ZERO, act);
        if let Some(memory) = self.memory() {
            memory.late.truncate(before);
        }
        result
    }

    /// What was to take effect by now does.
    pub(in crate::provider::sandbox) fn arrive(&mut self) {
        let now = Instant::now();
        let Some(memory) = self.memory() else { return };
        if memory.late.iter().all(|(due, ..)| *due > now) {
            return;
        }
        let (due, still) = std::mem::take(&mut memory.late).into_iter().partition(|(due, ..)| *due <= now);
        memory.late = still;
        let due: Vec<(Instant, Before, Line)> = due;
        for (at, before, line) in due {
            let stands = match (&before, self.before(&line)) {
                (Before::Credential(_, was), Before::Credential(_, is)) => {
                    let state = |c: &Credential| (c.life, c.logins);
                    was.as_deref().map(state) == is.as_deref().map(state)
                }
                (Before::Secrets(_, was), Before::Secrets(_, is)) => {
                    was.as_ref().map(|s| &s.labels) == is.as_ref().map(|s| &s.labels)
                }
                _ => true,
            };
            if stands {
                self.remember_at(at, line);
            }
        }
    }

    /// Whoever asked is gone, and its connections with it: what is on its way arrives within `most`, or
    /// never did.
    pub(in crate::provider::sandbox) fn cap_latency(&mut self, most: Duration) {
        let latest = Instant::now() + most;
        if let Some(memory) = self.memory() {
            for (due, ..) in &mut memory.late {
                *due = latest.min(*due);
            }
        }
    }

    /// The servers restart and have lost what they acknowledged within the last `unflushed`. Consumers
    /// are no servers.
    pub(in crate::provider::sandbox) fn restart(&mut self, unflushed: Duration) {
        let now = Instant::now();
        let Some(memory) = self.memory() else { return };
        memory.late.clear();
        let mut past = std::mem::take(&mut memory.past);
        let recent = past.iter().rev().take_while(|(at, _)| now - *at < unflushed).count();
        let lost = past.split_off(past.len() - recent);
        if let Some(memory) = self.memory() {
            memory.past = past;
        }
        for (at, before) in lost.into_iter().rev() {
            if let Before::Client(..) = before {
                if let Some(memory) = self.memory() {
                    memory.past.push((at, before));
                }
                continue;
            }
            let change = match self.put_back(before.clone()) {
                Before::Credential(handle, was) => {
                    let is = self.credentials.get(&handle);
                    let known = is.or(was.as_deref());
                    Change::Credential {
                        principal: known.map(|c| c.principal.clone()).unwrap_or_default(),
                        life: is.map(|c| c.life),
                        tag: known.and_then(|c| c.tag.clone()),
                        logins: is.and_then(|c| c.logins).unwrap_or_default(),
                        handle,
                    }
                }
                Before::Secrets(path, _) => match self.secrets.get(&path).cloned() {
                    Some(secrets) => self.seen(&Line::Secrets(path, secrets)),
                    None => Change::Store { path, current: None, previous: None, pending: None },
                },
                Before::Client(..) => continue,
            };
            self.tell(change);
        }
    }
}
