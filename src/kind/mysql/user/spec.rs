//! The words of a runbook about a user of MariaDB.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{IssuerTraits, Scope};
use crate::kind::mysql::Mysql;
use crate::kind::spec::{
    Bare, Expires, Handles, IssuerDoubt, IssuerKind, IssuerLook, IssuerSpec, On, PASSWORD, Part, RANDOM,
    ScopeRules, StandIn, URI, USERNAME,
};
use crate::runbook::read::finding::Finding;
use crate::runbook::read::tree::{Entry, Node};
use crate::secret::{Alphabet, Recipe};
use crate::text::shell_word;

/// How many characters a password has: about 238 bits.
pub(super) const LENGTH: usize = 40;

/// A user of MariaDB, with a password. Each rotation makes a new user beside the old one, and drops the old one in the end.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MysqlUser {
    /// A connection of type `mysql`.
    pub connection: On<Mysql>,
    /// What the names of the new users begin with: `app` makes users such as `app_1f0a93bc2d`.
    pub name: String,
    /// The role that holds the privileges. A new user gets it as its default role. `preflight` refuses where the old user
    /// has more than the role.
    pub role: String,
    /// From which hosts a new user may connect, as accounts name them. It must be what the old user has.
    #[serde(default = "everywhere")]
    pub host: String,
    /// How a new user logs in.
    #[serde(default, skip_serializing_if = "crate::kind::is_default")]
    pub authentication: Authentication,
    /// Whether a new user must use TLS (`REQUIRE SSL`).
    #[serde(default, skip_serializing_if = "crate::kind::is_default")]
    pub require_tls: bool,
    /// How many sessions a new user may have at once; without it, as many as the server allows everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_user_connections: Option<u32>,
    /// The database that a credential is tried on; else none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Deliver one value in place of user name and password: this connection URI, with both in it, percent-encoded. For example
    /// `mysql://db.internal:3306/app`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// When the sessions of the old user are ended. They outlive `ACCOUNT LOCK`.
    #[serde(default, skip_serializing_if = "crate::kind::is_default")]
    pub end_sessions: EndSessions,
}

fn everywhere() -> String {
    "%".to_owned()
}

/// How a user logs in. With each the server is given a hash, and never the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Authentication {
    /// What every client knows.
    #[default]
    MysqlNativePassword,
    /// Signatures. The server needs the plugin `auth_ed25519`, and each client must know it.
    Ed25519,
}

impl Authentication {
    /// The plugin's name on the server.
    #[cfg(feature = "tool")]
    pub(super) fn plugin(self) -> &'static str {
        match self {
            Self::MysqlNativePassword => "mysql_native_password",
            Self::Ed25519 => "ed25519",
        }
    }
}

/// When sessions are ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EndSessions {
    /// Right before the user is dropped.
    #[default]
    Revoke,
    /// As soon as it is locked as well, so that a program that still uses it fails while that can be undone.
    Sunset,
}

impl MysqlUser {
    /// The password is made here, and sealed before the user is created with its hash.
    pub(super) const TRAITS: IssuerTraits = IssuerTraits::MADE_HERE;

    pub(in crate::kind) const KIND: IssuerKind = IssuerKind {
        name: "mysql-user",
        page: include_str!("page.md"),
        scaffold: include_str!("../../../../templates/runbooks/mysql-user.yaml"),
        parts: &[USERNAME, PASSWORD],
        scope: ScopeRules { expires: Expires::Never, ignored: &["audience"] },
        delivers: crate::kind::spec::never_delivers,
        bare: Some(Bare {
            family: "mysql",
            needs: &[],
            rest: &[("name", "\"stanch\""), ("role", "\"stanch\"")],
            handles: Handles::Text,
        }),
        check,
    };
}

/// The longest name of a new user, in bytes: it stands in its mark, beside a run and a token.
pub(super) const LONGEST_NEW: usize = 47;
/// The longest name of a host, in bytes.
const LONGEST_HOST: usize = 255;

fn check(_: &Entry, issuer: &Node, found: &mut Vec<Finding>) {
    // `_` and the random digits follow.
    let room = LONGEST_NEW - 1 - RANDOM;
    if let Some(name) = issuer.get("name")
        && name.text().is_some_and(|text| !text.contains("${") && text.len() > room)
    {
        let message = format!("the name of a new user would be longer than {LONGEST_NEW} bytes");
        found.push(Finding::error("long-name", name.span, message).hint(format!("use at most {room} bytes")));
    }
    let fits = |text: &str| {
        // What an environment fills in is seen when the run is planned.
        text.contains("${")
            || text.len() <= LONGEST_HOST
                && text.chars().all(|c| c.is_ascii_alphanumeric() || "%_-.:/".contains(c))
    };
    if let Some(host) = issuer.get("host")
        && host.text().is_some_and(|text| !fits(text))
    {
        let message = "MariaDB takes no host of this name";
        found.push(
            Finding::error("bad-host", host.span, message)
                .hint("use `%`, an address, a network such as `10.0.0.0/255.0.0.0`, or a name"),
        );
    }
}

impl IssuerSpec for MysqlUser {
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
        match look.about {
            IssuerDoubt::Issued { .. } => format!(
                "`SELECT User FROM mysql.global_priv WHERE User LIKE 'stanch:{}:%'`: each line is a role that marks the user whose name it ends with",
                look.run
            ),
            IssuerDoubt::Life { handle, wanted } => {
                let (user, host) = handle.and_then(|handle| handle.rsplit_once('@')).unwrap_or_default();
                format!(
                    "`SHOW CREATE USER` for the user {} with the host {}: it took effect if the user is {wanted} (disabled is `ACCOUNT LOCK`)",
                    shell_word(user),
                    shell_word(host)
                )
            }
        }
    }

    fn gaps(&self, name: &str, scope: &Scope) -> Vec<String> {
        let mut gaps = vec![format!(
            "{name}: what admits a user by its name is not checked: a proxy's list of users (ProxySQL, MaxScale), a firewall's rules; they must admit the new user as well"
        )];
        if self.end_sessions == EndSessions::Revoke {
            gaps.push(format!(
                "{name}: sessions of the old user go on after it is locked, until `revoke` ends them; `end_sessions: sunset` ends them at once"
            ));
        }
        if scope.policies.is_none() {
            gaps.push(format!(
                "{name}: `scope.policies` is not set, so stanch does not check which roles the new user has"
            ));
        }
        gaps
    }

    fn lasting(&self) -> Vec<String> {
        vec!["prepared XA transactions of the user stay, and users that it created with CREATE USER stay and can log in".to_owned()]
    }

    fn stand_in(&self, _scope: &Scope) -> StandIn {
        StandIn {
            principal: Some(self.name.clone()),
            policies: vec![self.role.clone()],
            recipe: Recipe::new(Alphabet::Alphanumeric, LENGTH).ok(),
            logins: true,
            ..StandIn::default()
        }
    }
}
