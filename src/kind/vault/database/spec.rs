//! The words of a runbook about a lease of the database secrets engine.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{IssuerTraits, Period, Scope};
use crate::kind::postgres::Postgres;
use crate::kind::spec::{
    Bare, Expires, Handles, IssuerDoubt, IssuerKind, IssuerLook, IssuerSpec, On, PASSWORD, Part, ScopeRules,
    StandIn, USERNAME, no_findings,
};
use crate::kind::vault::Vault;
use crate::text::shell_word;

/// A database login that the database secrets engine makes for a dynamic role: user name, password and lease. Each
/// rotation gets a new lease beside the old one, and revokes the old lease in the end.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VaultDatabase {
    /// A connection of type `vault`.
    pub connection: On<Vault>,
    /// The path of the secrets engine.
    #[serde(default = "database")]
    pub mount: String,
    /// The dynamic role. A static role cannot be rotated by this kind.
    pub role: String,
    /// The policies of the token that holds the new lease. Together they must allow `read` on `MOUNT/creds/ROLE`.
    #[schemars(length(min = 1))]
    pub policies: Vec<String>,
    /// The token role that makes that token; without one the token is made as an orphan (`create-orphan`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_role: Option<String>,
    /// How long that token lives. The new lease ends with it, renewed or not.
    pub ttl: Period,
    /// Where stanch tries the credential: by a login to PostgreSQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<LoginAt>,
}

/// A database that a credential is tried at.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginAt {
    /// A connection of type `postgres` to the database server.
    pub connection: On<Postgres>,
    /// The database to log in to; else the one of the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
}

fn database() -> String {
    "database".to_owned()
}

impl VaultDatabase {
    /// The handle of the credential: the id of its lease, and the accessor of the token that holds it.
    pub(super) const LEASE: Part = "lease";

    pub(in crate::kind) const KIND: IssuerKind = IssuerKind {
        name: "vault-database",
        page: include_str!("page.md"),
        scaffold: include_str!("../../../../templates/runbooks/vault-database.yaml"),
        parts: &[USERNAME, PASSWORD, Self::LEASE],
        scope: ScopeRules { expires: Expires::Always, ignored: &["audience", "policies"] },
        delivers: crate::kind::spec::never_delivers,
        bare: Some(Bare {
            family: "vault",
            needs: &["role"],
            rest: &[("policies", "[\"default\"]"), ("ttl", "\"1h\"")],
            handles: Handles::Word,
        }),
        check: no_findings,
    };
}

/// The id of the lease in a handle, and the accessor of the token that holds it. Either may be empty: stanch does not
/// know who holds a lease that it did not get, and which lease a token holds whose response was lost.
pub(super) fn split(handle: &str) -> (&str, &str) {
    handle.split_once('@').unwrap_or((handle, ""))
}

/// The tag of the tokens that hold a run's leases. It is another than that of the run's own credentials: a look for
/// tokens of a run must not find these.
pub(super) fn tag(run: &str) -> String {
    format!("{run}/lease")
}

impl IssuerSpec for VaultDatabase {
    fn kind(&self) -> &'static IssuerKind {
        &Self::KIND
    }

    fn connection(&self) -> Option<&str> {
        Some(self.connection.name())
    }

    fn traits(&self) -> IssuerTraits {
        IssuerTraits { tries: self.login.is_some(), ..IssuerTraits::MINTING }
    }

    /// A token that holds a lease is told by run, step and round.
    fn finds_by_run(&self) -> bool {
        false
    }

    fn look(&self, look: &IssuerLook<'_>) -> String {
        match look.about {
            IssuerDoubt::Issued { .. } => format!(
                "`vault list auth/token/accessors`, then `vault token lookup -accessor ACCESSOR` for each: the token of this step has \
                 `stanch-run:{}` in its meta, and a `stanch-step` that begins with `{}`; its lease ends when it is revoked (`vault token revoke -accessor ACCESSOR`)",
                tag(look.run),
                look.step
            ),
            IssuerDoubt::Life { handle, .. } => {
                let (lease, holder) = split(handle.unwrap_or("(none)"));
                let mut places = Vec::new();
                if !lease.is_empty() {
                    places.push(format!("`vault lease lookup {}`", shell_word(lease)));
                }
                if !holder.is_empty() {
                    places.push(format!("`vault token lookup -accessor {}`", shell_word(holder)));
                }
                format!("{}: it took effect if Vault knows nothing there any more", places.join(" and "))
            }
        }
    }

    fn gaps(&self, name: &str, _: &Scope) -> Vec<String> {
        let mut gaps = vec![
            format!(
                "{name}: Vault does not tell which login a lease belongs to: if the part `lease` in the store is that of another login of the \
                 role {}, stanch revokes that one, and only then finds that the old one still works",
                self.role
            ),
            format!(
                "{name}: sessions that the old login began may go on after `revoke`, unless the revocation statements of the role {} end them",
                self.role
            ),
        ];
        if self.login.is_none() {
            gaps.push(format!(
                "{name}: `login` is not set, so stanch logs in to no database itself: only the checks of the runbook do, and else Vault's word \
                 that the lease is gone is all there is"
            ));
        }
        gaps
    }

    fn lasting(&self) -> Vec<String> {
        vec![
            "sessions that the login began may go on, unless the revocation statements of its role end them"
                .to_owned(),
            "a client that may read the role gets a new login at once".to_owned(),
        ]
    }

    fn stand_in(&self, _: &Scope) -> StandIn {
        StandIn {
            principal: Some(format!("database role {}", self.role)),
            ttl: Some(self.ttl),
            ..StandIn::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_names_a_lease_or_its_holder_or_both() {
        assert_eq!(split("database/creds/app/abc"), ("database/creds/app/abc", ""));
        assert_eq!(split("@accessor"), ("", "accessor"));
        assert_eq!(split("database/creds/app/abc@x"), ("database/creds/app/abc", "x"));
        assert_ne!(tag("r"), "r");
    }
}
