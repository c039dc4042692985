//! The look at the world that a session ends with.

use std::time::Duration;

use super::Session;
use crate::engine::EngineError;
use crate::engine::check::sights;
use crate::engine::step::{Asked, Sighted};
use crate::gate::Adoption;
use crate::rotation::{End, Event, Holds, Seen, Stop, Truth};

/// How long the looks at the world may take that the summary tells of.
const LAST_LOOK: Duration = Duration::from_secs(5);
/// How often a last look that shows another world than the run left is taken again, and after how long.
const LAGS: u32 = 3;
const LAG: Duration = Duration::from_secs(1);
/// How often, where consumers give no answer: one that was told to reload may take that long to start.
const STARTS: u32 = 30;

impl Session {
    /// Looks at the world before this session ends with `last`. A run is not done while others have undone
    /// what it wrote: then it stops instead.
    pub(super) async fn last_word(&mut self, last: Event) -> Result<Event, EngineError> {
        self.look_once_more(&last).await?;
        if !matches!(last, Event::Closed { end: End::Done | End::NotProved }) {
            return Ok(last);
        }
        // A copy of a store may lag behind for a moment.
        for look in 0..STARTS {
            match self.objection(&last) {
                None => return Ok(last),
                Some(Stop::Silent { .. }) if !self.wishes.no_wait => {}
                Some(_) if look < LAGS => {}
                Some(reason) => return Ok(Event::Stopped { reason }),
            }
            self.engine.clock.sleep(LAG).await;
            self.look_once_more(&last).await?;
        }
        Ok(self.objection(&last).map_or(last, |reason| Event::Stopped { reason }))
    }

    /// Why the run is not over yet, though every step is done.
    fn objection(&self, last: &Event) -> Option<Stop> {
        let overtaken = self.overtaken();
        if !overtaken.is_empty() {
            return Some(Stop::Overtaken { credentials: overtaken });
        }
        // Closing would destroy the seals, and with them what may be the only copy of the new value.
        let unread = self.unread();
        if !unread.is_empty() {
            return Some(Stop::Unread { credentials: unread });
        }
        let let_in = self.let_in();
        if matches!(last, Event::Closed { end: End::Done }) && !let_in.is_empty() {
            return Some(Stop::LetIn { credentials: let_in });
        }
        if !self.fell_back.is_empty() {
            return Some(Stop::FellBack { consumers: self.fell_back.clone() });
        }
        (!self.silent.is_empty()).then(|| Stop::Silent { consumers: self.silent.clone() })
    }

    /// The credentials whose old value was just accepted, or just was not gone.
    fn let_in(&self) -> Vec<String> {
        let names = self.plan.credentials.iter().map(|planned| planned.name.clone());
        names.filter(|name| self.state.was_let_in(name) || self.state.lives_on(name)).collect()
    }

    /// The credentials of which a store could not be read at the last look.
    fn unread(&self) -> Vec<String> {
        if !self.state.has_changed_anything() {
            return Vec::new();
        }
        let unread = |name: &String| {
            self.state.seen(name).is_none_or(|(_, seen)| seen.stores.contains(&Holds::Unreadable))
        };
        // What no store holds cannot be unread.
        let stored = self.plan.credentials.iter().filter(|planned| !planned.stores.is_empty());
        stored.map(|planned| planned.name.clone()).filter(unread).collect()
    }

    /// The credentials that were just seen not to be as this run left them.
    fn overtaken(&self) -> Vec<String> {
        let truths = self.state.truths().into_iter();
        truths.filter(Truth::is_overtaken).map(|truth| truth.credential).collect()
    }

    /// Looks at the world, before this session ends with `last`, so that the summary tells what is and not
    /// what was meant. Whoever interrupts or halts is not kept waiting.
    async fn look_once_more(&mut self, last: &Event) -> Result<(), EngineError> {
        let wanted = match last {
            Event::Closed { end } => *end != End::Failed,
            Event::Stopped { reason } => {
                !matches!(reason, Stop::Halted | Stop::Interrupted | Stop::Unanswered { .. })
            }
            _ => false,
        };
        if !wanted || !self.state.has_changed_anything() {
            return Ok(());
        }
        let asked = Asked {
            consumers: matches!(last, Event::Closed { end: End::Done | End::NotProved }),
            old: matches!(last, Event::Closed { end: End::Done }),
        };
        let jobs = self.index.looks().map(|(c, step)| (c, self.job(step), None)).collect();
        let found = sights(&self.plan, jobs, LAST_LOOK, asked).await;
        // What is not seen stays unseen: the summary then tells what the steps did.
        let missed: Vec<String> = (self.plan.credentials.iter().zip(&found))
            .filter(|(_, seen)| seen.is_none())
            .map(|(planned, _)| planned.name.clone())
            .collect();
        if !missed.is_empty() {
            let text = format!(
                "stanch could not check these at the end, so their state is that of the last steps: {}",
                missed.join(", ")
            );
            self.hold(Event::Noted { text })?;
        }
        // What an earlier look saw of a consumer counts until a later one sees it.
        let missed = |consumer: &String| {
            let credential = consumer.rsplit_once('/').map(|(credential, _)| credential);
            missed.iter().any(|missed| Some(missed.as_str()) == credential)
        };
        self.fell_back.retain(missed);
        self.silent.retain(missed);
        for (c, seen) in found.into_iter().enumerate() {
            let Some(Sighted { seen: Seen { stores, outgoing, incoming }, used }) = seen else { continue };
            let credential = self.plan.credentials[c].name.clone();
            self.hold(Event::Seen { credential, stores, outgoing, incoming })?;
            self.count(used)?;
        }
        Ok(())
    }

    /// Puts on the record what consumers use now. One that names another value fell back; one that gives no answer
    /// may be starting still.
    fn count(&mut self, used: Vec<Adoption>) -> Result<(), EngineError> {
        for adoption in used {
            let name = || format!("{}/{}", adoption.credential, adoption.consumer);
            if adoption.others > 0 {
                self.fell_back.push(name());
            } else if adoption.instances < adoption.of.max(1) {
                self.silent.push(name());
            }
            self.hold_adoption(&adoption)?;
        }
        Ok(())
    }
}
