//! Follows a run while a process works on it, on a thread of its own.
//!
//! It is told that something may be worth a message, reads the record, keeps what is new in the outbox, and sends.
//! It never has more than a twentieth of a core for reading: after a look that took long it waits before the next.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::compose::{Composer, Withheld};
use super::config::{Channels, Configured};
use super::message::Message;
use super::outbox::{Delivery, Entry, Outbox, OutboxError};
use super::send::{Budget, send};
use crate::clock::{Clock, add};
use crate::domain::{Audience, MessageKind};
use crate::journal::{Ledger, LedgerError};

/// One try takes at most this long while a run goes on: it may be the last thing that its process waits for.
const DEADLINE: Duration = Duration::from_secs(3);
/// No try begins later than this after the run's session has ended. It is shorter than the wait between two tries:
/// what failed just now is left to `flush`.
const AFTERWARDS: Duration = Duration::from_millis(900);
/// How often what waits for another try is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// A look at the record is followed by a pause of so many times its length.
const SHARE: u64 = 20;

/// What goes wrong with messages. It changes nothing about the run.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The record cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The record is not valid.
    #[error("the record of {run} is not valid: {why}")]
    Record {
        /// The run.
        run: String,
        /// What is wrong with it.
        why: String,
    },
    /// The outbox failed.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// A thread cannot be started.
    #[error("cannot start what sends the messages")]
    Thread(#[source] std::io::Error),
}

/// Whether a channel gets messages without a person sending each.
pub fn is_automatic(channel: &Configured, drill: bool) -> bool {
    channel.channel.audience != Audience::Customers && (!drill || channel.channel.drills)
}

/// Composes every message that the outbox does not have yet, and keeps it.
///
/// # Errors
/// When the record or the outbox fails.
pub async fn compose(
    ledger: &dyn Ledger,
    run: &str,
    outbox: &Outbox,
    channels: &Channels,
) -> Result<(), NotifyError> {
    each_missing(ledger, run, outbox, channels, &mut |message| outbox.keep(&Entry::new(message))).await
}

/// How many messages the outbox does not have yet: those that [`compose`] would make.
///
/// # Errors
/// When the record fails.
pub async fn missing(
    ledger: &dyn Ledger,
    run: &str,
    outbox: &Outbox,
    channels: &Channels,
) -> Result<usize, NotifyError> {
    let mut count = 0;
    let mut counts = |_| {
        count += 1;
        Ok(())
    };
    each_missing(ledger, run, outbox, channels, &mut counts).await?;
    Ok(count)
}

async fn each_missing(
    ledger: &dyn Ledger,
    run: &str,
    outbox: &Outbox,
    channels: &Channels,
    take: &mut (dyn FnMut(Message) -> Result<(), OutboxError> + Send),
) -> Result<(), NotifyError> {
    let mut composer = Composer::default();
    let mut failed = None;
    let lacks = |channel: &&Configured, seq: u64, kind: MessageKind| {
        channel.channel.wants(kind)
            && channel.templates.has(channel.channel.audience, kind)
            && !outbox.has(seq, &channel.name)
    };
    let wanted = |seq: u64, kind: MessageKind| channels.all.iter().any(|channel| lacks(&channel, seq, kind));
    let mut each = |record: crate::journal::Record| {
        if failed.is_some() {
            return;
        }
        match composer.take(record, &wanted) {
            Ok(None) => {}
            Ok(Some(moment)) => {
                let automatic =
                    channels.all.iter().filter(|channel| is_automatic(channel, moment.is_drill()));
                for channel in automatic.filter(|channel| lacks(channel, moment.seq(), moment.kind)) {
                    // Only messages to customers are withheld.
                    let message: Result<_, Withheld> = moment.message(channel);
                    if let Ok(Some(message)) = message
                        && let Err(error) = take(message)
                    {
                        failed.get_or_insert(NotifyError::from(error));
                    }
                }
            }
            Err(error) => {
                let why = error.to_string();
                failed = Some(NotifyError::Record { run: run.to_owned(), why });
            }
        }
    };
    let report = ledger.records(run, &mut each).await?;
    if let Some(error) = failed {
        return Err(error);
    }
    match report.fault {
        Some(fault) => Err(NotifyError::Record { run: run.to_owned(), why: fault.to_string() }),
        None => Ok(()),
    }
}

/// Sends the messages of a run while a process works on it.
#[derive(Debug)]
pub struct Follower {
    nudge: Nudge,
    ended: oneshot::Receiver<Result<Unsent, NotifyError>>,
}

/// What of a run's messages was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsent {
    /// How many are still to be sent.
    pub open: usize,
    /// How many a channel refused, or may not have.
    pub bad: usize,
}

/// Tells a follower that something may be worth a message. Costs nothing, and cannot fail.
#[derive(Debug, Clone)]
pub struct Nudge(mpsc::UnboundedSender<()>);

impl Nudge {
    /// Tells it.
    pub fn now(&self) {
        // A follower that is gone needs no telling.
        let _ = self.0.send(());
    }
}

impl Follower {
    /// Starts to follow a run. From here on its messages are sent, whatever becomes of this process.
    ///
    /// # Errors
    /// When the outbox cannot be made, or a thread not be started.
    pub fn start(
        ledger: Arc<dyn Ledger>,
        run: &str,
        outbox: Outbox,
        channels: Channels,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, NotifyError> {
        outbox.begin()?;
        let (nudge, nudged) = mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(NotifyError::Thread)?;
        let run = run.to_owned();
        let work = move || {
            let following = Following { ledger, run, outbox, channels, clock };
            let result = runtime.block_on(following.follow(nudged));
            runtime.shutdown_background();
            // The session may have stopped waiting.
            let _ = end.send(result);
        };
        std::thread::Builder::new().name("notify".to_owned()).spawn(work).map_err(NotifyError::Thread)?;
        let nudge = Nudge(nudge);
        nudge.now();
        Ok(Self { nudge, ended })
    }

    /// What tells it.
    pub fn nudge(&self) -> Nudge {
        self.nudge.clone()
    }

    /// Waits until everything is sent, or a few seconds. Every other [`Nudge`] must be gone by then. Returns what
    /// was not sent; `None` where that is not known.
    ///
    /// # Errors
    /// When the record or the outbox failed.
    pub async fn finish(self) -> Result<Option<Unsent>, NotifyError> {
        let Self { nudge, ended } = self;
        drop(nudge);
        match tokio::time::timeout(AFTERWARDS + DEADLINE * 2, ended).await {
            Ok(Ok(Ok(unsent))) => Ok(Some(unsent)),
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(_)) | Err(_) => Ok(None),
        }
    }
}

struct Following {
    ledger: Arc<dyn Ledger>,
    run: String,
    outbox: Outbox,
    channels: Channels,
    clock: Arc<dyn Clock>,
}

impl Following {
    async fn follow(self, mut nudged: mpsc::UnboundedReceiver<()>) -> Result<Unsent, NotifyError> {
        // Another process may send; what it does not, `flush` does.
        let claim = self.outbox.claim()?;
        let (mut open, mut pause, mut ends) = (0, 0, false);
        while !ends {
            let mut fresh = false;
            if open > 0 {
                // What waits for another try is tried also where nothing happens.
                if let Ok(nudge) = tokio::time::timeout(EVERY, nudged.recv()).await {
                    (fresh, ends) = (true, nudge.is_none());
                }
            } else {
                (fresh, ends) = (true, nudged.recv().await.is_none());
            }
            if fresh && !ends && pause > 0 {
                let rest = self.clock.sleep(Duration::from_millis(pause));
                tokio::pin!(rest);
                loop {
                    tokio::select! {
                        () = &mut rest => break,
                        nudge = nudged.recv() => if nudge.is_none() { ends = true; break },
                    }
                }
            }
            if fresh {
                // Those that came meanwhile are answered by the same look.
                while nudged.try_recv().is_ok() {}
                let began = self.clock.now().mono_ms;
                compose(&*self.ledger, &self.run, &self.outbox, &self.channels).await?;
                pause = self.clock.now().mono_ms.saturating_sub(began).saturating_mul(SHARE);
            }
            let until = match ends {
                true => add(self.clock.now().wall, AFTERWARDS),
                false => Timestamp::MAX,
            };
            open = self.send(until, false).await?;
        }
        let until = add(self.clock.now().wall, AFTERWARDS);
        while open > 0 && self.clock.now().wall < until {
            self.clock.sleep(Duration::from_millis(100)).await;
            open = self.send(until, false).await?;
        }
        let entries = self.outbox.entries()?;
        let bad = |entry: &&Entry| matches!(entry.delivery, Delivery::Refused | Delivery::InDoubt);
        let bad = entries.iter().filter(bad).count();
        drop(claim);
        Ok(Unsent { open, bad })
    }

    async fn send(&self, until: Timestamp, at_once: bool) -> Result<usize, NotifyError> {
        let budget = Budget { deadline: DEADLINE, until, at_once };
        Ok(send(&self.outbox, &self.channels, None, &self.clock, budget).await?)
    }
}
