//! The sandbox's kinds with real servers: they are refused, for nothing real could be meant.

use std::sync::Arc;

use async_trait::async_trait;

use super::spec;
use crate::domain::Check;
use crate::kind::real::{
    AttestServer, Client, FamilyServer, GateServer, IssuerServer, ProbeServer, RealProvider, StoreServer,
    sandbox,
};
use crate::provider::{CallError, Gate, Issuer, Probe, Question, Store};
use crate::runbook::model::Credential;

#[async_trait]
impl FamilyServer for spec::World {
    async fn client(&self, _: &RealProvider) -> Result<Client, CallError> {
        Err(sandbox("connection"))
    }

    async fn preflight(&self, _: &str, _: &RealProvider) -> Result<Vec<Check>, CallError> {
        Err(sandbox("connection"))
    }
}

#[async_trait]
impl IssuerServer for spec::SandboxIssuer {
    async fn connect(&self, _: &str, _: &Credential, _: &RealProvider) -> Result<Arc<dyn Issuer>, CallError> {
        Err(sandbox("issuer"))
    }
}

#[async_trait]
impl StoreServer for spec::SandboxStore {
    async fn connect(&self, _: &Credential, _: &RealProvider) -> Result<Arc<dyn Store>, CallError> {
        Err(sandbox("store"))
    }
}

impl AttestServer for spec::SandboxAttest {
    fn connect(&self, _: &RealProvider) -> Result<Arc<dyn Question>, CallError> {
        Err(sandbox("consumer"))
    }
}

impl ProbeServer for spec::SandboxProbe {
    fn connect(&self, _: &RealProvider) -> Result<Arc<dyn Probe>, CallError> {
        Err(sandbox("probe"))
    }
}

impl GateServer for spec::SandboxGate {
    fn connect(&self, _: &RealProvider) -> Result<Arc<dyn Gate>, CallError> {
        Err(sandbox("gate"))
    }
}
