//! The words of a runbook about programs.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{Exec, Period};
use crate::kind::spec::{AttestSpec, GateSpec, Kind, Names, ProbeSpec};
use crate::kind::{every, one};

/// A program that prints the SHA-256 of the value in use, one line for each instance.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecAttest {
    /// The program and its arguments; no shell.
    #[schemars(length(min = 1))]
    pub argv: Vec<String>,
    /// How long it may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
}

impl ExecAttest {
    pub(in crate::kind) const KIND: Kind = Kind::named("exec");
}

impl AttestSpec for ExecAttest {
    fn kind(&self) -> &'static Kind {
        &Self::KIND
    }

    fn names(&self) -> Vec<Names<'_>> {
        vec![Names::Program(&self.argv)]
    }
}

/// A program that gets the credential on standard input: exit status 0 is *accepted*, 1 is
/// *refused*, anything else is inconclusive.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ExecProbe(
    /// The program.
    pub Exec,
);

impl ExecProbe {
    pub(in crate::kind) const KIND: Kind = Kind::named("exec");
}

impl ProbeSpec for ExecProbe {
    fn kind(&self) -> &'static Kind {
        &Self::KIND
    }

    fn names(&self) -> Vec<Names<'_>> {
        vec![Names::Exec(&self.0)]
    }
}

/// A program: exit status 0 passes, 1 fails, anything else is an error and does not pass.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecGate {
    /// The program and its arguments; no shell.
    #[schemars(length(min = 1))]
    pub argv: Vec<String>,
    /// How often it is run.
    #[serde(default = "every")]
    pub every: Period,
    /// How long it may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
    /// How many failures in a row make a failure.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub failures: u32,
}

impl ExecGate {
    pub(in crate::kind) const KIND: Kind = Kind::named("exec");
}

impl GateSpec for ExecGate {
    fn kind(&self) -> &'static Kind {
        &Self::KIND
    }

    fn every(&self) -> Duration {
        self.every.get()
    }

    fn names(&self) -> Vec<Names<'_>> {
        vec![Names::Program(&self.argv)]
    }
}
