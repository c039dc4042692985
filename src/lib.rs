//! Staged, resumable, provable emergency credential rotation.
//!
//! The rooms, from the outside in; each may use those after it, never those before:
//! `cli`, `drill`, `follow`, `output`, `engine`, `calendar`, `gate`, `provider`, `journal`, `rotation`, `plan`,
//! `policy`, `kind`, `runbook`, `approve`, `domain`, `secret`, `clock`, `text`. `tests/it/architecture.rs` holds the table.

pub mod approve;
pub mod calendar;
#[cfg(feature = "tool")]
pub mod cli;
pub mod clock;
pub mod domain;
#[cfg(feature = "tool")]
pub mod drill;
pub mod engine;
#[cfg(feature = "tool")]
pub mod follow;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod gate;
pub mod journal;
pub mod kill;
pub mod kind;
#[cfg(feature = "tool")]
pub mod output;
pub mod plan;
#[cfg(feature = "tool")]
pub mod policy;
pub mod provider;
pub mod rotation;
pub mod runbook;
#[doc(hidden)]
pub mod sabotage;
pub mod secret;
pub mod shape;
pub mod text;
