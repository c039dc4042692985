//! How attestations, checks and gates by programs are made callable.

use std::sync::Arc;

use async_trait::async_trait;

use super::spec;
use crate::domain::{Check, ErrorKind, Judgement, Verdict};
use crate::kind::real::{AttestServer, GateServer, ProbeServer, RealProvider};
use crate::provider::exec::Program;
use crate::provider::streak::{Streak, told};
use crate::provider::{Attestation, CallError, Gate, Probe, Question};

impl AttestServer for spec::ExecAttest {
    fn connect(&self, at: &RealProvider) -> Result<Arc<dyn Question>, CallError> {
        let timeout = self.timeout.map_or(at.deadline, |period| period.get());
        Ok(Arc::new(ExecAttest(Program::plain(&self.argv, timeout))))
    }
}

impl ProbeServer for spec::ExecProbe {
    fn connect(&self, at: &RealProvider) -> Result<Arc<dyn Probe>, CallError> {
        Ok(Arc::new(Program::new(&self.0, at.deadline)))
    }
}

impl GateServer for spec::ExecGate {
    fn connect(&self, at: &RealProvider) -> Result<Arc<dyn Gate>, CallError> {
        let timeout = self.timeout.map_or(at.deadline, |period| period.get());
        Ok(Arc::new(ExecGate::new(Program::plain(&self.argv, timeout), self.failures)))
    }
}

/// A program that asks a consumer's instances.
struct ExecAttest(Program);

#[async_trait]
impl Question for ExecAttest {
    async fn ask(&self) -> Vec<Result<Attestation, CallError>> {
        self.0.attest().await
    }
}

/// A program as a gate: exit status 0 passes, 1 fails, anything else is an error.
#[derive(Debug)]
pub struct ExecGate {
    program: Program,
    streak: Streak,
}

impl ExecGate {
    /// A failure is one after `failures` in a row.
    pub fn new(program: Program, failures: u32) -> Self {
        Self { program, streak: Streak::new(failures) }
    }
}

#[async_trait]
impl Gate for ExecGate {
    async fn preflight(&self, name: &str) -> Vec<Check> {
        let judgement = self.program.judge().await;
        let found = match judgement.verdict {
            Verdict::Error => Err(CallError::rejected(ErrorKind::NoAnswer, judgement.detail)),
            _ => Ok(judgement),
        };
        vec![told(name, found)]
    }

    async fn evaluate(&self) -> Judgement {
        self.streak.count(self.program.judge().await)
    }
}
