//! Hands what waits in an outbox to its channels: in order within a channel, the channels beside each other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::channel::{Outcome, Sender};
use super::config::Channels;
use super::outbox::{Delivery, Entry, Outbox, OutboxError};
use crate::clock::{Clock, add};
use crate::domain::ErrorKind;
use crate::provider::CallError;

/// The wait after the first failure; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// The longest wait that a channel may ask for.
const LONGEST_ASKED: Duration = Duration::from_hours(24);
/// How often a program may end in an error before its message counts as refused.
const PROGRAM_TRIES: u32 = 5;

/// How long sending may take.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// One try takes at most this long.
    pub deadline: Duration,
    /// No try begins after this moment.
    pub until: Timestamp,
    /// Whether waits between tries are cut short: a person asked for it.
    pub at_once: bool,
}

/// Tries each message that waits, once; where a channel is named, those of that channel alone. Returns how many are
/// still to be sent.
///
/// # Errors
/// When the outbox fails.
pub async fn send(
    outbox: &Outbox,
    channels: &Channels,
    to: Option<&str>,
    clock: &Arc<dyn Clock>,
    budget: Budget,
) -> Result<usize, OutboxError> {
    let mut waiting: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    let wanted = |entry: &Entry| entry.is_open() && to.is_none_or(|to| to == entry.message.channel);
    for entry in outbox.entries()?.into_iter().filter(wanted) {
        waiting.entry(entry.message.channel.clone()).or_default().push(entry);
    }
    let mut tasks = tokio::task::JoinSet::new();
    let mut open = 0;
    for (name, entries) in waiting {
        let Some(channel) = channels.get(&name) else {
            open += entries.len();
            continue;
        };
        let sender = Sender::new(channel, budget.deadline);
        let (outbox, clock) = (outbox.clone(), Arc::clone(clock));
        tasks.spawn(async move { one_channel(&outbox, &sender, entries, &*clock, budget).await });
    }
    let mut failed = None;
    while let Some(done) = tasks.join_next().await {
        match done {
            Ok(Ok(left)) => open += left,
            Ok(Err(error)) => failed = Some(error),
            // A bug in a channel's code keeps its messages, and no other's.
            Err(_) => open += 1,
        }
    }
    failed.map_or(Ok(open), Err)
}

/// Sends the messages of one channel, in order. The first that has to wait holds those behind it up: they would
/// otherwise say what came before.
async fn one_channel(
    outbox: &Outbox,
    sender: &Sender,
    entries: Vec<Entry>,
    clock: &dyn Clock,
    budget: Budget,
) -> Result<usize, OutboxError> {
    let total = entries.len();
    for (done, mut entry) in entries.into_iter().enumerate() {
        let now = clock.now().wall;
        if entry.delivery == Delivery::Sending {
            // The process that sent it died.
            unclear(&mut entry, sender, now, "the process that was sending it ended".to_owned());
            entry.not_before = None;
            outbox.keep(&entry)?;
            if !entry.is_open() {
                continue;
            }
        }
        let early = entry.not_before.is_some_and(|then| then > now) && !budget.at_once;
        // A person's haste does not count against what the channel itself asked for.
        let early = early || entry.retry_at.is_some_and(|then| then > now);
        if early || now >= budget.until {
            return Ok(total - done);
        }
        entry.delivery = Delivery::Sending;
        entry.tries += 1;
        outbox.keep(&entry)?;
        let message = match entry.repeat && !sender.is_idempotent() {
            true => entry.message.repeated(),
            false => entry.message.clone(),
        };
        let outcome = sender.send(&message, now).await;
        settle(&mut entry, outcome, sender, clock.now().wall);
        outbox.keep(&entry)?;
        if entry.is_open() {
            return Ok(total - done);
        }
    }
    Ok(0)
}

/// What follows from the end of a try.
fn settle(entry: &mut Entry, outcome: Outcome, sender: &Sender, now: Timestamp) {
    entry.retry_at = match &outcome {
        Outcome::Later(error) | Outcome::Unclear(error) => {
            error.retry_after.map(|asked| add(now, asked.min(LONGEST_ASKED)))
        }
        Outcome::Sent(_) | Outcome::Refused(_) => None,
    };
    match outcome {
        Outcome::Sent(reference) => {
            (entry.delivery, entry.sent_at, entry.reference) = (Delivery::Sent, Some(now), reference);
            (entry.error, entry.hint, entry.not_before) = (None, None, None);
        }
        Outcome::Later(error) => {
            entry.delivery = Delivery::Waiting;
            entry.not_before = Some(add(now, wait(entry.tries, &error)));
            said(entry, error);
        }
        Outcome::Refused(error) => {
            entry.delivery = Delivery::Refused;
            said(entry, error);
        }
        Outcome::Unclear(error) if error.kind == ErrorKind::Declined && entry.tries >= PROGRAM_TRIES => {
            entry.delivery = Delivery::Refused;
            said(entry, error);
        }
        Outcome::Unclear(error) => {
            let wait = wait(entry.tries, &error);
            unclear(entry, sender, add(now, wait), error.message);
            entry.hint = error.hint;
        }
    }
}

/// Whether the channel has it is not known: where it would not see that a second one is the same, it is sent once
/// more, and no further time.
fn unclear(entry: &mut Entry, sender: &Sender, not_before: Timestamp, why: String) {
    entry.delivery = match entry.repeat && !sender.is_idempotent() {
        true => Delivery::InDoubt,
        false => Delivery::Waiting,
    };
    (entry.repeat, entry.not_before, entry.error) = (true, Some(not_before), Some(why));
}

fn said(entry: &mut Entry, error: CallError) {
    (entry.error, entry.hint) = (Some(error.message), error.hint);
}

fn wait(tries: u32, error: &CallError) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1 << tries.saturating_sub(1).min(16));
    error.retry_after.map_or(doubled.min(LONGEST_WAIT), |asked| asked.min(LONGEST_ASKED))
}
