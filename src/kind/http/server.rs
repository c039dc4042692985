//! How attestations, checks and gates by HTTP are made callable.

use std::sync::Arc;

use super::spec;
use crate::kind::real::{AttestServer, GateServer, ProbeServer, RealProvider};
use crate::provider::{CallError, Gate, Probe, Question};

pub use super::attest::HttpAttest;
pub use super::gate::HttpGate;
pub use super::probe::HttpProbe;

impl AttestServer for spec::HttpAttest {
    fn connect(&self, at: &RealProvider) -> Result<Arc<dyn Question>, CallError> {
        let urls = self.url.iter().chain(&self.urls).cloned().collect();
        Ok(Arc::new(HttpAttest::new(at.transport()?, urls, self.fingerprint.clone())))
    }
}

impl ProbeServer for spec::HttpProbe {
    fn connect(&self, at: &RealProvider) -> Result<Arc<dyn Probe>, CallError> {
        Ok(Arc::new(HttpProbe {
            transport: at.transport()?,
            method: self.method,
            url: self.url.clone(),
            bearer: self.bearer,
            header: self.header.clone(),
            expect: self.expect,
            refuse: self.refuse.clone(),
        }))
    }
}

impl GateServer for spec::HttpGate {
    fn connect(&self, at: &RealProvider) -> Result<Arc<dyn Gate>, CallError> {
        let Self { url, json, at_most, at_least, every: _, failures } = self;
        let gate = HttpGate::new(at.transport()?, url.clone(), json.clone(), *at_most, *at_least, *failures);
        Ok(Arc::new(gate))
    }
}
