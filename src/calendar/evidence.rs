//! When a credential was last rotated, and what says so.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::plan::Action;
use crate::rotation::{End, State};

/// What says when a credential was last rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, strum::Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Source {
    /// The system that issued it: when it made the credential that is in use.
    Issuer,
    /// The record of a run: when it had the credential issued.
    Journal,
    /// A store: when its current version was written. That may have been another field, or the same value.
    Store,
}

/// A time at which a credential was rotated, and what says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// What says so.
    pub source: Source,
    /// The run, the store, or the issuer's name for the credential. Never a secret.
    pub of: String,
    /// When.
    pub at: Timestamp,
}

/// A credential in an environment, as its runbook names it.
type Key = (String, String, String);

/// What the records of all runs say.
#[derive(Debug, Clone, Default)]
pub struct Rotations {
    last: BTreeMap<Key, (Evidence, Option<String>)>,
    open: BTreeMap<(String, String), String>,
}

impl Rotations {
    /// Takes a run. One that ended with the new credential in place is evidence; one that is open is only named.
    pub fn take(&mut self, run: &str, state: &State) {
        let plan = state.plan();
        let of = || (plan.runbook.name.clone(), plan.environment.clone());
        match state.end() {
            Some(End::Done | End::NotProved) => {}
            Some(End::RolledBack | End::GateRolledBack | End::Failed | End::Abandoned) => return,
            None => {
                self.open.insert(of(), run.to_owned());
                return;
            }
        }
        let truths = state.truths();
        for (at, step) in plan.steps.iter().enumerate() {
            let Action::Issue { credential } = step.action else { continue };
            let Some(issued) = state.last(at) else { continue };
            let (runbook, environment) = of();
            let key = (runbook, environment, plan.credentials[credential].name.clone());
            if self.last.get(&key).is_none_or(|(known, _)| known.at < issued) {
                let evidence = Evidence { source: Source::Journal, of: run.to_owned(), at: issued };
                let handle = truths.get(credential).and_then(|truth| truth.handle.clone());
                self.last.insert(key, (evidence, handle));
            }
        }
    }

    /// When a credential was last rotated by a run, and what its issuer called the new one.
    pub fn last(
        &self,
        runbook: &str,
        environment: &str,
        credential: &str,
    ) -> Option<&(Evidence, Option<String>)> {
        self.last.get(&(runbook.to_owned(), environment.to_owned(), credential.to_owned()))
    }

    /// The runs without which this would be other.
    pub fn runs(&self) -> impl Iterator<Item = &str> {
        self.last.values().map(|(evidence, _)| evidence.of.as_str())
    }

    /// The run that is open for a runbook in an environment.
    pub fn open(&self, runbook: &str, environment: &str) -> Option<&str> {
        self.open.get(&(runbook.to_owned(), environment.to_owned())).map(String::as_str)
    }
}
