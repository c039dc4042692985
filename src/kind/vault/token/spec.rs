//! The words of a runbook about a Vault token.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{IssuerTraits, Period, Scope};
use crate::kind::is_default;
use crate::kind::spec::{
    Bare, Expires, Handles, IssuerDoubt, IssuerKind, IssuerLook, IssuerSpec, On, ScopeRules, StandIn,
    no_findings,
};
use crate::kind::vault::Vault;
use crate::text::shell_word;

/// A Vault token, made through a token role and watched and revoked by its accessor.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VaultToken {
    /// A connection of type `vault`.
    pub connection: On<Vault>,
    /// The token role; without one the token is made as an orphan (`create-orphan`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The token's policies.
    #[schemars(length(min = 1))]
    pub policies: Vec<String>,
    /// How long it lives.
    pub ttl: Period,
    /// How often it may be used; 0 is without limit.
    #[serde(default, skip_serializing_if = "is_default")]
    pub num_uses: u32,
    /// The networks that it may be used from. Set by the role; checked after issuing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bound_cidrs: Vec<String>,
}

impl VaultToken {
    pub(super) const TRAITS: IssuerTraits = IssuerTraits::MINTING;

    pub(in crate::kind) const KIND: IssuerKind = IssuerKind {
        name: "vault-token",
        page: include_str!("page.md"),
        scaffold: include_str!("../../../../templates/runbooks/vault-token.yaml"),
        parts: &["token"],
        scope: ScopeRules { expires: Expires::Always, ignored: &[] },
        delivers: crate::kind::spec::never_delivers,
        bare: Some(Bare {
            family: "vault",
            needs: &[],
            rest: &[("policies", "[\"default\"]"), ("ttl", "\"1m\"")],
            handles: Handles::Word,
        }),
        check: no_findings,
    };
}

impl IssuerSpec for VaultToken {
    fn kind(&self) -> &'static IssuerKind {
        &Self::KIND
    }

    fn connection(&self) -> Option<&str> {
        Some(self.connection.name())
    }

    fn traits(&self) -> IssuerTraits {
        Self::TRAITS
    }

    fn finds_by_run(&self) -> bool {
        true
    }

    fn look(&self, look: &IssuerLook<'_>) -> String {
        match look.about {
            IssuerDoubt::Issued { .. } => format!(
                "`vault list auth/token/accessors`, then `vault token lookup -accessor ACCESSOR` for each: the token of this step has \
                 `stanch-run:{}` and `stanch-step:{}` in its meta",
                look.run, look.step
            ),
            IssuerDoubt::Life { handle, .. } => format!(
                "`vault token lookup -accessor {}`: it took effect if Vault does not know the accessor",
                shell_word(handle.unwrap_or("(none)"))
            ),
        }
    }

    fn gaps(&self, _name: &str, _scope: &Scope) -> Vec<String> {
        Vec::new()
    }

    fn lasting(&self) -> Vec<String> {
        vec!["orphan tokens that were made with a token live on".to_owned()]
    }

    fn stand_in(&self, _scope: &Scope) -> StandIn {
        StandIn { policies: self.policies.clone(), ttl: Some(self.ttl), ..StandIn::default() }
    }
}
