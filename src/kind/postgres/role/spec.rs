//! The words of a runbook about a login role.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{IssuerTraits, Scope};
use crate::kind::postgres::Postgres;
use crate::kind::spec::{
    Bare, Expires, Handles, IssuerDoubt, IssuerKind, IssuerLook, IssuerSpec, On, PASSWORD, Part, ScopeRules,
    StandIn, URI, USERNAME, no_findings,
};
use crate::secret::{Alphabet, Recipe};
use crate::text::shell_word;

/// How many characters a password has: about 238 bits.
pub(super) const LENGTH: usize = 40;

/// A login role of PostgreSQL, with a password. Each rotation makes a new role beside the old one, and drops the old
/// one in the end.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresRole {
    /// A connection of type `postgres`.
    pub connection: On<Postgres>,
    /// What the names of the new roles begin with: `app` makes roles such as `app_1f0a93bc2d`.
    pub name: String,
    /// The roles that a new role becomes a member of: they own the objects and hold the privileges. `preflight` refuses
    /// where the old role has more than a new one gets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub member_of: Vec<String>,
    /// Settings of a new role, as `ALTER ROLE … SET` takes them: `{role: app_owner}` makes everything that it creates
    /// belong to `app_owner`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// Attributes of a new role besides `LOGIN`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<Attribute>,
    /// How many sessions a new role may have at once; without it, any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_limit: Option<u32>,
    /// The database that a credential is tried on; else the connection's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Deliver one value in place of user name and password: this connection URI, with both in it, percent-encoded. For example
    /// `postgresql://db.internal:5432/app?sslmode=verify-full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// The role that gets what the old role owns, when that is dropped. Without it stanch refuses to rotate a role that
    /// owns objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reassign_to: Option<String>,
    /// When the sessions of the old role are ended. They outlive `NOLOGIN`.
    #[serde(default, skip_serializing_if = "crate::kind::is_default")]
    pub end_sessions: EndSessions,
}

/// An attribute of a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Attribute {
    /// May create databases.
    CreateDb,
    /// May create roles.
    CreateRole,
    /// May replicate.
    Replication,
    /// Is not held by row security.
    BypassRls,
    /// Does not use the privileges of the roles it is a member of, until it sets one of them.
    NoInherit,
}

/// When sessions are ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EndSessions {
    /// Right before the role is dropped.
    #[default]
    Revoke,
    /// As soon as it is disabled as well, so that a program that still uses it fails while that can be undone.
    Sunset,
}

impl PostgresRole {
    /// The password is made here, and sealed before the role is created with it.
    pub(super) const TRAITS: IssuerTraits = IssuerTraits::MADE_HERE;

    pub(in crate::kind) const KIND: IssuerKind = IssuerKind {
        name: "postgres-role",
        page: include_str!("page.md"),
        scaffold: include_str!("../../../../templates/runbooks/postgres-role.yaml"),
        parts: &[USERNAME, PASSWORD],
        scope: ScopeRules { expires: Expires::Never, ignored: &["audience"] },
        delivers: crate::kind::spec::never_delivers,
        bare: Some(Bare {
            family: "postgres",
            needs: &[],
            rest: &[("name", "\"stanch\"")],
            handles: Handles::Text,
        }),
        check: no_findings,
    };
}

impl IssuerSpec for PostgresRole {
    fn kind(&self) -> &'static IssuerKind {
        &Self::KIND
    }

    fn parts(&self) -> &'static [Part] {
        if self.uri.is_some() { &[URI] } else { Self::KIND.parts }
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
        let (run, step) = (look.run, look.step);
        match look.about {
            IssuerDoubt::Issued { .. } => {
                format!("`\\du+` in psql: the role of this step has the description `stanch {run} {step} …`")
            }
            IssuerDoubt::Life { handle, wanted } => {
                let (name, number) = handle.and_then(|handle| handle.rsplit_once(':')).unwrap_or_default();
                format!(
                    "`select rolname, rolcanlogin from pg_roles where oid = {number}` in psql (the role was named {}): it took effect if the role is {wanted} (disabled is `f`)",
                    shell_word(name)
                )
            }
        }
    }

    fn gaps(&self, name: &str, scope: &Scope) -> Vec<String> {
        let mut gaps = vec![format!(
            "{name}: what admits a role by its name is not checked: pg_hba.conf, a pooler's list of users, a firewall's rules; they must admit the new role as well"
        )];
        if self.end_sessions == EndSessions::Revoke {
            gaps.push(format!(
                "{name}: sessions of the old role go on after it is disabled, until `revoke` ends them; `end_sessions: sunset` ends them at once"
            ));
        }
        if self.attributes.contains(&Attribute::CreateRole) {
            gaps.push(format!(
                "{name}: roles that the old role created with its CREATEROLE stay, and can log in"
            ));
        }
        if scope.policies.is_none() {
            gaps.push(format!(
                "{name}: `scope.policies` is not set, so stanch does not check which roles the new role is a member of"
            ));
        }
        gaps
    }

    fn lasting(&self) -> Vec<String> {
        vec!["roles that a role created with CREATEROLE stay, and can log in".to_owned()]
    }

    fn stand_in(&self, _scope: &Scope) -> StandIn {
        StandIn {
            principal: Some(self.name.clone()),
            policies: self.member_of.clone(),
            recipe: Recipe::new(Alphabet::Alphanumeric, LENGTH).ok(),
            logins: true,
            ..StandIn::default()
        }
    }
}
