//! The words of a runbook about a secret id of an AppRole.

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

/// A secret id of an AppRole, watched and destroyed by its accessor. Its logins are revoked with it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproleSecretId {
    /// A connection of type `vault`.
    pub connection: On<Vault>,
    /// The path of the auth method.
    #[serde(default = "approle")]
    pub mount: String,
    /// The role's name.
    pub role: String,
    /// How long it lives; else as long as the role says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Period>,
    /// How often it may be used to log in; 0 is without limit.
    #[serde(default, skip_serializing_if = "is_default")]
    pub num_uses: u32,
    /// The networks that it may be used from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cidr_list: Vec<String>,
}

fn approle() -> String {
    "approle".to_owned()
}

impl ApproleSecretId {
    pub(super) const TRAITS: IssuerTraits = IssuerTraits::MINTING;

    pub(in crate::kind) const KIND: IssuerKind = IssuerKind {
        name: "approle-secret-id",
        page: include_str!("page.md"),
        scaffold: include_str!("../../../../templates/runbooks/approle-secret-id.yaml"),
        parts: &["secret_id"],
        scope: ScopeRules { expires: Expires::WithTtl, ignored: &["audience"] },
        delivers: crate::kind::spec::never_delivers,
        bare: Some(Bare { family: "vault", needs: &["role"], rest: &[], handles: Handles::Word }),
        check: no_findings,
    };
}

impl IssuerSpec for ApproleSecretId {
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
        false
    }

    fn look(&self, look: &IssuerLook<'_>) -> String {
        let path = format!("auth/{}/role/{}", self.mount.trim_matches('/'), self.role);
        let list = shell_word(&format!("{path}/secret-id"));
        let lookup = shell_word(&format!("{path}/secret-id-accessor/lookup"));
        match look.about {
            IssuerDoubt::Issued { .. } => format!(
                "`vault list {list}`, then `vault write {lookup} secret_id_accessor=ACCESSOR` for each: the secret id of this \
                 step has `stanch-run:{}` and `stanch-step:{}` in its metadata",
                look.run, look.step
            ),
            IssuerDoubt::Life { handle, .. } => {
                let accessor = handle.map_or("(none)", |handle| split(handle).0);
                format!(
                    "`vault write {lookup} secret_id_accessor={}`: it took effect if Vault does not find the accessor, and \
                     its logins are revoked",
                    shell_word(accessor)
                )
            }
        }
    }

    fn gaps(&self, name: &str, scope: &Scope) -> Vec<String> {
        let mut gaps = vec![format!(
            "{name}: Vault locks a role after five failed logins in a row (by default, for 15 minutes), and then refuses \
             the new secret id as well; a consumer that retries the dead one does that"
        )];
        if scope.policies.is_none() {
            gaps.push(format!(
                "{name}: `scope.policies` is not set, so stanch does not check the role's policies"
            ));
        }
        if self.ttl.is_none() && scope.max_ttl.is_none() {
            gaps.push(format!(
                "{name}: neither `ttl` nor `scope.max_ttl` is set, so the new secret id may live forever"
            ));
        }
        gaps
    }

    fn lasting(&self) -> Vec<String> {
        vec![
            "Vault locks a role after five failed logins in a row (by default, for 15 minutes), and then refuses its other secret IDs as well; a program that retries the dead one does that".to_owned(),
        ]
    }

    fn stand_in(&self, scope: &Scope) -> StandIn {
        StandIn {
            principal: Some(format!("approle {}", self.role)),
            policies: scope.policies.clone().unwrap_or_default(),
            ttl: self.ttl,
            logins: true,
            ..StandIn::default()
        }
    }
}

/// The accessor in a handle, and the digest of the secret id's metadata where it has any.
pub(super) fn split(handle: &str) -> (&str, &str) {
    handle.split_once('.').unwrap_or((handle, ""))
}
