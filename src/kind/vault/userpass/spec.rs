//! The words of a runbook about a user with a password.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::domain::{IssuerTraits, Period, Scope};
use crate::kind::is_default;
use crate::kind::spec::{
    Bare, Expires, Handles, IssuerDoubt, IssuerKind, IssuerLook, IssuerSpec, On, PASSWORD, ScopeRules,
    StandIn, USERNAME,
};
use crate::kind::vault::Vault;
use crate::runbook::read::finding::Finding;
use crate::runbook::read::tree::{Entry, Node};
use crate::secret::{Alphabet, Recipe};
use crate::text::shell_word;

/// How many characters a password has: about 238 bits. Vault takes no more than 72.
pub(super) const LENGTH: usize = 40;

/// How many characters of a digest tell a run, and a step, in the name of a user.
const DIGITS: usize = 12;

/// A user of the auth method `userpass`, with its password. A user has one password, so each rotation makes a new user
/// beside the old one, and deletes the old one in the end. Its logins are revoked with it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VaultUserpass {
    /// A connection of type `vault`.
    pub connection: On<Vault>,
    /// The path of the auth method.
    #[serde(default = "userpass")]
    pub mount: String,
    /// What the names of the new users begin with: `app` makes users such as `app-0c1b6e0fb3d2-a91f2c55e0d4`.
    pub name: String,
    /// The policies of the new user's logins. `preflight` refuses where the old user differs in this, or in any field
    /// below.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    /// Leave out the policy `default`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub no_default_policy: bool,
    /// How long a login lives before it is renewed; else as long as the auth method says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Period>,
    /// The longest that a login lives, renewals counted; else as long as the auth method says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ttl: Option<Period>,
    /// The longest that a login lives, renewals counted: neither the auth method nor a period extends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explicit_max_ttl: Option<Period>,
    /// The period of the logins: renewed in time, they never expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<Period>,
    /// How often a login may be used; 0 is without limit.
    #[serde(default, skip_serializing_if = "is_default")]
    pub num_uses: u32,
    /// The networks that the user may log in from, and that its logins may be used from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bound_cidrs: Vec<String>,
    /// When the logins of the old user are revoked. They outlive its disabling.
    #[serde(default, skip_serializing_if = "is_default")]
    pub end_logins: EndLogins,
}

/// When logins are revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EndLogins {
    /// Right after the user is deleted.
    #[default]
    Revoke,
    /// As soon as it is disabled as well, so that a program that still uses it fails while that can be undone.
    Sunset,
}

fn userpass() -> String {
    "userpass".to_owned()
}

impl VaultUserpass {
    /// The password is made here, and sealed before the user is created with it.
    pub(super) const TRAITS: IssuerTraits = IssuerTraits::MADE_HERE;

    pub(in crate::kind) const KIND: IssuerKind = IssuerKind {
        name: "vault-userpass",
        page: include_str!("page.md"),
        scaffold: include_str!("../../../../templates/runbooks/vault-userpass.yaml"),
        parts: &[USERNAME, PASSWORD],
        scope: ScopeRules { expires: Expires::Never, ignored: &["audience"] },
        delivers: crate::kind::spec::never_delivers,
        bare: Some(Bare {
            family: "vault",
            needs: &[],
            rest: &[("name", "\"stanch\"")],
            handles: Handles::Word,
        }),
        check,
    };

    /// The path of a user, or, without one, of all of them.
    pub(super) fn path(&self, user: &str) -> String {
        format!("auth/{}/users/{user}", self.mount.trim_matches('/')).trim_end_matches('/').to_owned()
    }

    /// What the names of a run's users begin with: a user has no other place for a tag.
    pub(super) fn names_of(&self, run: &str) -> String {
        names_of(&self.name, run)
    }
}

/// What the names of a run's users begin with, where the issuer's is `name`.
fn names_of(name: &str, run: &str) -> String {
    format!("{}-{}-", name.to_ascii_lowercase(), digest(run.as_bytes()))
}

/// Whether new users can be called this, with what follows.
pub(super) fn can_begin(name: &str) -> bool {
    is_user(&format!("{}0", names_of(name, "")))
}

/// Whether a name can be a user's, and a part of a path. Vault keeps names in lower case.
pub(super) fn is_user(name: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let inside = |b: u8| word(b) || b == b'-' || b == b'.';
    let bytes = name.as_bytes();
    bytes.len() <= 256
        && bytes.iter().all(|b| inside(*b))
        && bytes.first().is_some_and(|b| word(*b))
        && bytes.last().is_some_and(|b| word(*b))
}

fn check(_: &Entry, issuer: &Node, found: &mut Vec<Finding>) {
    let Some(name) = issuer.get("name") else { return };
    let fits = |text: &str| {
        // What an environment fills in is seen when the run is planned, and a placeholder is told elsewhere.
        text.contains("${") || text.starts_with('<') || can_begin(text)
    };
    if name.text().is_some_and(|text| !fits(text)) {
        let message = "Vault takes no user of this name";
        found.push(
            Finding::error("bad-name", name.span, message)
                .hint("use letters, digits, `_`, `-` and `.`, with a letter or a digit first"),
        );
    }
}

/// The first digits of a digest.
pub(super) fn digest(bytes: &[u8]) -> String {
    let mut text = hex::encode(Sha256::digest(bytes));
    text.truncate(DIGITS);
    text
}

impl IssuerSpec for VaultUserpass {
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
                "`vault list {}`: the names of the users of this run begin with `{}`",
                shell_word(&self.path("")),
                self.names_of(look.run)
            ),
            IssuerDoubt::Life { handle, wanted } => format!(
                "`vault read {}`: the user is disabled while `token_bound_cidrs` is 255.255.255.255 alone, and gone when Vault finds no value and \
                 its logins are revoked; it took effect if the user is {wanted}",
                shell_word(&self.path(handle.unwrap_or("(none)")))
            ),
        }
    }

    fn gaps(&self, name: &str, scope: &Scope) -> Vec<String> {
        let mut gaps = vec![format!(
            "{name}: what goes by the user's name or by its identity entity is not checked: policies with templates, second factors, quotas; \
             the new user has a name and an entity of its own"
        )];
        if self.end_logins == EndLogins::Revoke {
            gaps.push(format!(
                "{name}: logins of the old user go on after it is disabled, an attacker's as well, until `revoke` revokes them; \
                 `end_logins: sunset` revokes them at once, and no rollback brings them back"
            ));
        }
        if scope.policies.is_none() {
            gaps.push(format!(
                "{name}: `scope.policies` is not set, so stanch does not compare the new user's policies with it"
            ));
        }
        gaps
    }

    fn lasting(&self) -> Vec<String> {
        vec!["tokens without a parent that a login created stay valid".to_owned()]
    }

    fn stand_in(&self, _: &Scope) -> StandIn {
        StandIn {
            principal: Some(self.name.clone()),
            policies: self.policies.clone(),
            recipe: Recipe::new(Alphabet::Alphanumeric, LENGTH).ok(),
            logins: true,
            ..StandIn::default()
        }
    }
}
