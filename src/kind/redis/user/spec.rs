//! The words of a runbook about a user of Redis' ACL.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{IssuerTraits, Scope};
use crate::kind::redis::Redis;
use crate::kind::spec::{
    Bare, Handles, IssuerDoubt, IssuerKind, IssuerLook, IssuerSpec, On, Part, ScopeRules, StandIn,
    no_findings,
};
use crate::secret::{Alphabet, Recipe};
use crate::text::shell_word;

/// How many characters a password has: about 238 bits.
pub(super) const PASSWORD: usize = 40;

/// A password of a user of Redis' ACL. Each rotation gives the user a second password beside the old one, and removes
/// the old one in the end. What the user may do stays as it is.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedisAclUser {
    /// A connection of type `redis`.
    pub connection: On<Redis>,
    /// The user's name.
    pub user: String,
    /// When the user's connections are ended. They outlive the password that they were opened with, and Redis does not say
    /// which password that was: all of them are ended, and clients connect again.
    #[serde(default, skip_serializing_if = "crate::kind::is_default")]
    pub end_connections: EndConnections,
}

/// When connections are ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EndConnections {
    /// When the old password is removed for good.
    #[default]
    Revoke,
    /// As soon as it is disabled as well, so that a program that still uses it fails while that can be undone.
    Sunset,
    /// Not at all: a connection that is open stays open.
    Never,
}

impl RedisAclUser {
    /// The password is made here, and sealed before its hash is sent.
    pub(super) const TRAITS: IssuerTraits = IssuerTraits::MADE_HERE;

    pub(super) const SECRET: Part = "password";

    pub(in crate::kind) const KIND: IssuerKind = IssuerKind {
        name: "redis-acl-user",
        page: include_str!("page.md"),
        scaffold: include_str!("../../../../templates/runbooks/redis-acl-user.yaml"),
        parts: &[Self::SECRET],
        scope: ScopeRules::NEVER_EXPIRES,
        delivers: crate::kind::spec::never_delivers,
        bare: Some(Bare {
            family: "redis",
            needs: &[],
            rest: &[("user", "\"stanch\"")],
            handles: Handles::Word,
        }),
        check: no_findings,
    };
}

impl IssuerSpec for RedisAclUser {
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
        let (run, step) = (look.run, look.step);
        match look.about {
            IssuerDoubt::Issued { .. } => format!(
                "`ACL LIST` on each node: the password of this step is the one of the user `stanch:{}:{run}:{step}:…`",
                self.user
            ),
            IssuerDoubt::Life { handle, wanted } => {
                let (user, digits) = handle.and_then(|handle| handle.rsplit_once(':')).unwrap_or_default();
                let user = shell_word(user);
                format!(
                    "`ACL LIST` on each node: the password whose hash begins with {digits} is a password of the user {user} while it is active, \
                     one of a user `stanch:…` alone while it is disabled, and in no line when it is gone; it took effect if it is {wanted}"
                )
            }
        }
    }

    fn gaps(&self, name: &str, _: &Scope) -> Vec<String> {
        let user = &self.user;
        let connections = match self.end_connections {
            EndConnections::Revoke => format!(
                "{name}: connections that were opened with the old password go on after it is disabled, an attacker's as well, until `revoke` ends \
                 every connection of {user}, those with the new password too (their clients must connect again); `end_connections: sunset` ends them at once"
            ),
            EndConnections::Sunset => format!(
                "{name}: when the old password is disabled, and at `revoke`, every connection of {user} is ended, those with the new password too; \
                 their clients must connect again"
            ),
            EndConnections::Never => format!(
                "{name}: connections that were opened with the old password are never ended (`end_connections: never`): an attacker who has one can use it \
                 for as long as it lasts, and no check sees it"
            ),
        };
        let back = match self.end_connections {
            EndConnections::Never => None,
            _ => Some(format!(
                "{name}: a rollback ends every connection of {user} as well, when it removes the new password; their clients must connect again"
            )),
        };
        let mut gaps = vec![connections];
        gaps.extend(back);
        gaps.push(
            format!(
                "{name}: what else writes the users of Redis is not checked: a configuration management, an operator or a pod's file of users that \
                 still has the old password brings it back at the next `ACL LOAD` or restart"
            ),
        );
        gaps
    }

    fn stand_in(&self, _: &Scope) -> StandIn {
        StandIn {
            principal: Some(self.user.clone()),
            recipe: Recipe::new(Alphabet::Alphanumeric, PASSWORD).ok(),
            ..StandIn::default()
        }
    }
}
