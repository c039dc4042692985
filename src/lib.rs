//! Staged, resumable, provable emergency credential rotation.
//!
//! The layers, from the outside in; each may use those after it, never those before:
//! `cli`, `engine`, `provider`, `journal`, `rotation`, `plan`, `runbook`, `secret`, `clock`.

#[cfg(feature = "tool")]
pub mod cli;
pub mod clock;
pub mod engine;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod gate;
pub mod journal;
#[cfg(feature = "tool")]
pub mod output;
pub mod plan;
pub mod provider;
pub mod rotation;
pub mod runbook;
#[doc(hidden)]
pub mod sabotage;
pub mod secret;
