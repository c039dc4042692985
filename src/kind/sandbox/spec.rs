//! The words of a runbook about the sandbox.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{IssuerTraits, Observation, Period, Scope, StoreTraits};
use crate::kind::spec::{
    AttestSpec, Expires, Family, FamilySpec, GateSpec, IssuerDoubt, IssuerKind, IssuerLook, IssuerSpec, Kind,
    Names, On, ProbeSpec, ScopeRules, StandIn, StoreKind, StoreLook, StoreSpec, as_written, no_findings,
};
use crate::kind::{every, one, path, server, yes};
use crate::text::shell_word;

/// The embedded sandbox: a small world of issuers, stores and consumers in the state directory.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct World {
    /// How long each of its calls takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Period>,
}

impl Family for World {
    const KIND: Kind = Kind::named("sandbox");
}

impl FamilySpec for World {
    fn kind(&self) -> &'static Kind {
        &Self::KIND
    }

    fn address(&self) -> Option<&str> {
        None
    }

    fn latency(&self) -> Option<Period> {
        self.latency
    }
}

/// An issuer of the sandbox.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SandboxIssuer {
    /// A connection of type `sandbox`.
    pub connection: On<World>,
    /// What the credential may do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    /// How long the credential lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Period>,
    /// How many may be alive at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub coexist: Option<u32>,
    /// Whether the issuer can disable a credential reversibly.
    #[serde(default = "yes")]
    pub can_disable: bool,
}

impl SandboxIssuer {
    pub(in crate::kind) const KIND: IssuerKind = IssuerKind {
        name: "sandbox",
        page: include_str!("issuer.md"),
        scaffold: include_str!("../../../templates/runbooks/sandbox.yaml"),
        parts: &["value"],
        scope: ScopeRules { expires: Expires::WithTtl, ignored: &[] },
        delivers: crate::kind::spec::never_delivers,
        bare: None,
        check: no_findings,
    };
}

impl IssuerSpec for SandboxIssuer {
    fn kind(&self) -> &'static IssuerKind {
        &Self::KIND
    }

    fn connection(&self) -> Option<&str> {
        Some(self.connection.name())
    }

    fn traits(&self) -> IssuerTraits {
        IssuerTraits {
            disables: self.can_disable,
            coexists: self.coexist != Some(1),
            ..IssuerTraits::MINTING
        }
    }

    fn finds_by_run(&self) -> bool {
        false
    }

    fn look(&self, look: &IssuerLook<'_>) -> String {
        match look.about {
            IssuerDoubt::Issued { .. } => "look into the sandbox's data, in the state directory".into(),
            IssuerDoubt::Life { handle, wanted } => {
                let handle = shell_word(handle.unwrap_or("(none)"));
                format!(
                    "look into the sandbox's data, in the state directory: it took effect if {handle} is {wanted}"
                )
            }
        }
    }

    fn gaps(&self, _name: &str, _scope: &Scope) -> Vec<String> {
        Vec::new()
    }

    fn stand_in(&self, _scope: &Scope) -> StandIn {
        StandIn {
            policies: self.policies.clone(),
            ttl: self.ttl,
            coexist: self.coexist.map(|n| n as usize),
            ..StandIn::default()
        }
    }
}

/// A store of the sandbox.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SandboxStore {
    /// A connection of type `sandbox`.
    pub connection: On<World>,
    /// The secret's path.
    pub path: String,
    /// Whether versions carry labels (as in AWS Secrets Manager), or only numbers (as in KV v2).
    #[serde(default = "yes")]
    pub labels: bool,
}

impl SandboxStore {
    pub(in crate::kind) const KIND: StoreKind = StoreKind {
        name: "sandbox",
        page: include_str!("store.md"),
        check: no_findings,
        place: |store, on| Some(vec![server(store, on, &[])?, path(store, "path")?]),
        field: as_written,
    };
}

impl StoreSpec for SandboxStore {
    fn kind(&self) -> &'static StoreKind {
        &Self::KIND
    }

    fn traits(&self) -> StoreTraits {
        let change = if self.labels { Observation::Token } else { Observation::Conditional };
        StoreTraits { stages: self.labels, destroys: false, reads: true, change }
    }

    fn target(&self) -> String {
        format!("sandbox {}", self.path)
    }

    fn stand_in(&self) -> String {
        format!("sandbox:{}", self.path)
    }

    fn look(&self, _look: &StoreLook<'_>) -> String {
        format!("look for {} in the sandbox's data, in the state directory", shell_word(&self.path))
    }
}

/// A consumer of the sandbox.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SandboxAttest {
    /// How many instances it has.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub instances: u32,
}

impl SandboxAttest {
    pub(in crate::kind) const KIND: Kind = Kind::named("sandbox");
}

impl AttestSpec for SandboxAttest {
    fn kind(&self) -> &'static Kind {
        &Self::KIND
    }

    fn names(&self) -> Vec<Names<'_>> {
        Vec::new()
    }

    fn instances(&self) -> usize {
        self.instances as usize
    }
}

/// A relying party of the sandbox.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SandboxProbe {
    /// What it asks the credential for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

impl SandboxProbe {
    pub(in crate::kind) const KIND: Kind = Kind::named("sandbox");
}

impl ProbeSpec for SandboxProbe {
    fn kind(&self) -> &'static Kind {
        &Self::KIND
    }

    fn names(&self) -> Vec<Names<'_>> {
        Vec::new()
    }

    fn policy(&self) -> Option<&str> {
        self.policy.as_deref()
    }
}

/// The share of calls that the sandbox's consumers had refused lately.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SandboxGate {
    /// Fails above this.
    pub at_most: f64,
    /// How often it is asked.
    #[serde(default = "every")]
    pub every: Period,
}

impl SandboxGate {
    pub(in crate::kind) const KIND: Kind = Kind::named("sandbox");
}

impl GateSpec for SandboxGate {
    fn kind(&self) -> &'static Kind {
        &Self::KIND
    }

    fn every(&self) -> Duration {
        self.every.get()
    }

    fn names(&self) -> Vec<Names<'_>> {
        Vec::new()
    }

    fn stand_in(&self) -> f64 {
        self.at_most
    }
}
