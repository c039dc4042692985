//! Messages about a run, for the people around it.
//!
//! Everything here only reads the record. [`Composer`] makes messages of records: the same records, channels and
//! templates always give the same messages, so one that a crash took before it was kept is made again. [`Outbox`]
//! keeps each message and what became of it in a file beside the journal; [`send`] hands them to their channels,
//! at least once. A channel that is down, slow or hostile delays messages and changes nothing else.

pub mod audience;
pub(crate) mod channel;
mod compose;
mod config;
mod fit;
mod follower;
mod message;
mod outbox;
mod secret_from;
mod send;
pub mod templates;

pub use channel::{Outcome, Sender};
pub use compose::{Composer, Moment, Withheld};
pub use config::{Channels, ConfigError, Configured};
pub use follower::{Follower, NotifyError, Nudge, Unsent, compose, is_automatic, missing};
pub use message::Message;
pub use outbox::{Claim, Delivery, Entry, Outbox, OutboxError};
pub use send::{Budget, send};
