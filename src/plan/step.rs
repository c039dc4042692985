//! What a step is: an action on a target, and what it waits for.

use serde::{Deserialize, Serialize};

use super::Plan;
use crate::domain::{IssuerTraits, Observation, Phase};
use crate::runbook::model::{self, Consumer};

/// One action on one target. The fields stand in the order of their names, as RFC 8785 sorts them,
/// so that the plan's digest need not sort them in every step; a test holds them to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What it does.
    pub action: Action,
    /// The steps of the same phase that must be done before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<usize>,
    /// How a lost reply is settled; `None` when it only looks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Observation>,
    /// Its name, unique in the plan: `cutover/payments-key/promote/kv2`.
    pub id: String,
    /// Whether it cannot be taken back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub irreversible: bool,
    /// The phase that it belongs to.
    pub phase: Phase,
    /// How it is taken back; `None` when it only looks, or cannot be taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<Undo>,
}

/// How a step is taken back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Undo {
    /// The steps of the same phase that must be taken back before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<usize>,
}

/// What a step does. Credentials, stores and consumers are named by their index in the plan. The
/// fields stand in the order of their names, as in [`Step`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(strum::EnumIter))]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are the indexes that the type's comment speaks of")]
pub enum Action {
    /// Looks at a connection.
    Connection { connection: String },
    /// Looks whether the issuer will permit every later step.
    Permission { credential: usize },
    /// Looks at a store, and reads and seals the outgoing value.
    Capture { credential: usize, store: usize },
    /// Uses outgoing before anything is changed, where it must be refused in the end: at its issuer, at a
    /// check under `accepts`, or at one under `rejects`.
    Baseline { credential: usize, probe: Option<usize>, rejects: bool },
    /// Issues the incoming credential.
    Issue { credential: usize },
    /// Compares what the incoming credential may do with what the runbook allows.
    Inspect { credential: usize },
    /// Writes incoming as a version that is not yet current.
    Stage { credential: usize, store: usize },
    /// Uses incoming: at its issuer, or at a relying party.
    Accept { credential: usize, probe: Option<usize> },
    /// Makes incoming current.
    Promote { credential: usize, store: usize },
    /// Tells a consumer to read its store again.
    Reload { consumer: usize, credential: usize },
    /// Disables outgoing, reversibly.
    Disable { credential: usize },
    /// Revokes outgoing and what was minted from it.
    Revoke { credential: usize },
    /// Destroys the version of a store that holds outgoing.
    Destroy { credential: usize, store: usize },
    /// Uses outgoing and demands refusal.
    Reject { credential: usize, probe: Option<usize> },
    /// Looks for credentials that a repeated request made, and revokes them.
    Sweep { credential: usize },
    /// A step of the runbook's own.
    Own { name: String },
}

impl Action {
    /// Whether it asks until it is sure, with a patience of its own.
    pub fn asks(&self) -> bool {
        match self {
            Self::Accept { .. } | Self::Reject { .. } | Self::Baseline { .. } => true,
            Self::Connection { .. }
            | Self::Permission { .. }
            | Self::Capture { .. }
            | Self::Issue { .. }
            | Self::Inspect { .. }
            | Self::Stage { .. }
            | Self::Promote { .. }
            | Self::Reload { .. }
            | Self::Disable { .. }
            | Self::Revoke { .. }
            | Self::Destroy { .. }
            | Self::Sweep { .. }
            | Self::Own { .. } => false,
        }
    }

    /// Whether it changes something that can be taken back; an own step may lack the means.
    pub(crate) fn can_be_undone(&self) -> bool {
        match self {
            Self::Issue { .. }
            | Self::Stage { .. }
            | Self::Promote { .. }
            | Self::Reload { .. }
            | Self::Disable { .. }
            | Self::Own { .. } => true,
            Self::Revoke { .. } | Self::Destroy { .. } => false,
            // What a sweep revokes was never in use.
            Self::Sweep { .. } => false,
            Self::Connection { .. }
            | Self::Permission { .. }
            | Self::Capture { .. }
            | Self::Baseline { .. }
            | Self::Inspect { .. }
            | Self::Accept { .. }
            | Self::Reject { .. } => false,
        }
    }

    /// The index of the credential that it concerns.
    pub fn credential(&self) -> Option<usize> {
        match self {
            Self::Connection { .. } | Self::Own { .. } => None,
            Self::Permission { credential }
            | Self::Capture { credential, .. }
            | Self::Baseline { credential, .. }
            | Self::Issue { credential }
            | Self::Inspect { credential }
            | Self::Stage { credential, .. }
            | Self::Accept { credential, .. }
            | Self::Promote { credential, .. }
            | Self::Reload { credential, .. }
            | Self::Disable { credential }
            | Self::Revoke { credential }
            | Self::Destroy { credential, .. }
            | Self::Reject { credential, .. }
            | Self::Sweep { credential } => Some(*credential),
        }
    }

    /// Whether its names and indexes are the plan's.
    pub(super) fn leads_somewhere(&self, plan: &Plan) -> bool {
        let credential = self.credential().map(|at| {
            let planned = plan.credentials.get(at)?;
            plan.runbook.credentials.get(&planned.name)
        });
        let within = |length: fn(&model::Credential) -> usize, at: &usize| {
            credential.flatten().is_some_and(|c| *at < length(c))
        };
        match self {
            Self::Connection { connection } => plan.runbook.connections.contains_key(connection),
            Self::Own { name } => Phase::ALL
                .iter()
                .filter_map(|phase| plan.runbook.phases.of(*phase))
                .any(|spec| spec.before.iter().chain(&spec.after).any(|own| own.name == *name)),
            Self::Permission { .. }
            | Self::Issue { .. }
            | Self::Inspect { .. }
            | Self::Disable { .. }
            | Self::Sweep { .. }
            | Self::Revoke { .. } => credential.flatten().is_some(),
            Self::Capture { store, .. }
            | Self::Stage { store, .. }
            | Self::Promote { store, .. }
            | Self::Destroy { store, .. } => within(|c| c.stores.len(), store),
            Self::Reload { consumer, .. } => within(|c| c.consumers.len(), consumer),
            Self::Accept { probe, .. } | Self::Baseline { probe, rejects: false, .. } => {
                credential.flatten().is_some() && probe.iter().all(|at| within(|c| c.accepts.len(), at))
            }
            Self::Reject { probe, .. } | Self::Baseline { probe, rejects: true, .. } => {
                credential.flatten().is_some() && probe.iter().all(|at| within(|c| rejects(c).len(), at))
            }
        }
    }
}

impl Step {
    /// Whether it changes anything outside.
    pub fn is_effect(&self) -> bool {
        self.class.is_some()
    }
}

/// The checks that must refuse the outgoing credential.
pub(crate) fn rejects(credential: &model::Credential) -> &[model::Probe] {
    credential.rejects.as_deref().unwrap_or(&credential.accepts)
}

/// Whether the issuer's word on the death of a credential, whose value is not known, can be had.
pub(super) fn told_dead(issuer: &IssuerTraits) -> bool {
    issuer.revokes && issuer.change == Observation::Readable
}

/// The consumers of a credential that can say what they use.
pub(super) fn attesting(credential: &model::Credential) -> impl Iterator<Item = &Consumer> {
    credential.consumers.iter().filter(|c| c.attest.is_some())
}
