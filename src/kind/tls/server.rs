//! How handshakes are made callable.

use std::sync::Arc;

use super::attest::TlsAsk;
use super::probe::TlsTry;
use super::spec::{TlsAttest, TlsProbe};
use crate::kind::real::{AttestServer, ProbeServer, RealProvider};
use crate::provider::tls::{self, Roots};
use crate::provider::{CallError, Probe, Question};

impl AttestServer for TlsAttest {
    fn connect(&self, at: &RealProvider) -> Result<Arc<dyn Question>, CallError> {
        Ok(Arc::new(TlsAsk::new(self, at.deadline)?))
    }
}

impl ProbeServer for TlsProbe {
    fn connect(&self, at: &RealProvider) -> Result<Arc<dyn Probe>, CallError> {
        let hint = "correct `ca_cert` of the check, or that of the connection";
        let roots = match &self.ca_cert {
            Some(path) => Roots::Only(tls::read(path, hint)?),
            None => Roots::Machine(at.more_roots()?),
        };
        Ok(Arc::new(TlsTry::new(self, tls::verifier(roots, hint)?, at.deadline)?))
    }
}
