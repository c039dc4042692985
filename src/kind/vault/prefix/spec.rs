//! What `stanch revoke` is told of a prefix, and what the plan remembers of it.

use serde::{Deserialize, Serialize};

use crate::domain::{IssuerTraits, Observation, Scope};
use crate::kind::spec::{
    Bare, Handles, IssuerDoubt, IssuerKind, IssuerLook, IssuerSpec, On, ScopeRules, StandIn, no_findings,
};
use crate::kind::vault::Vault;
use crate::text::shell_word;

/// All tokens that an auth path issued.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultPrefix {
    /// A connection of type `vault`.
    pub connection: On<Vault>,
    /// The accessors of the tokens that it had issued when the plan was made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<String>,
    /// The accessors of tokens that must live on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<String>,
}

/// All leases below a path of a secrets engine.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeasePrefix {
    /// A connection of type `vault`.
    pub connection: On<Vault>,
    /// The leases that were below it when the plan was made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<String>,
    /// Leases that must live on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<String>,
}

/// They are told by path to revoke what is below it, and list what is left.
pub(super) const TRAITS: IssuerTraits = IssuerTraits {
    mints: false,
    disables: false,
    revokes: true,
    coexists: true,
    tries: false,
    issue: Observation::Opaque,
    change: Observation::Readable,
};

const fn kind(name: &'static str, checked: fn(&str) -> Result<String, String>) -> IssuerKind {
    IssuerKind {
        name,
        page: include_str!("page.md"),
        scaffold: "",
        parts: &[],
        scope: ScopeRules::NEVER_EXPIRES,
        delivers: crate::kind::spec::never_delivers,
        bare: Some(Bare { family: "vault", needs: &[], rest: &[], handles: Handles::Prefix(checked) }),
        check: no_findings,
    }
}

impl VaultPrefix {
    pub(in crate::kind) const KIND: IssuerKind = kind("vault-prefix", auth_path);
}

impl LeasePrefix {
    pub(in crate::kind) const KIND: IssuerKind = kind("lease-prefix", lease_path);
}

/// A prefix without the slashes around it, which no two spellings of it share.
fn path(text: &str) -> Result<String, String> {
    let path = text.trim_start_matches('/');
    let path = path.strip_prefix("v1/").unwrap_or(path).trim_end_matches('/');
    if path.is_empty() {
        return Err("it is empty: that is every lease of the server".to_owned());
    }
    let odd = |c: char| !c.is_ascii_graphic() || "?#%*\\\"'".contains(c);
    if path.contains(odd) || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("it is not a path of Vault".to_owned());
    }
    Ok(path.to_owned())
}

/// The path of an auth method, or below one.
fn auth_path(text: &str) -> Result<String, String> {
    let path = path(text)?;
    match path.split_once('/') {
        Some(("auth", _)) => Ok(path),
        _ if path == "auth" => {
            Err("it is every auth method at once: name one, as in auth/approle".to_owned())
        }
        _ => Err("it is not below auth/; leases of other paths: stanch revoke lease-prefix".to_owned()),
    }
}

/// The path of a secrets engine, or below one.
fn lease_path(text: &str) -> Result<String, String> {
    let path = path(text)?;
    match path.split('/').next() {
        Some("auth") => Err("the leases below auth/ are tokens: stanch revoke vault-prefix".to_owned()),
        _ if path == "sys" => Err("it is all of sys/: name a path below it".to_owned()),
        _ => Ok(path),
    }
}

fn look(look: &IssuerLook<'_>) -> String {
    match look.about {
        IssuerDoubt::Issued { .. } => "nothing is issued there".to_owned(),
        IssuerDoubt::Life { handle, .. } => {
            let path = format!("sys/leases/lookup/{}", handle.unwrap_or("(none)"));
            format!("`vault list {}`: it took effect if that lists nothing", shell_word(&path))
        }
    }
}

impl IssuerSpec for VaultPrefix {
    fn kind(&self) -> &'static IssuerKind {
        &Self::KIND
    }

    fn connection(&self) -> Option<&str> {
        Some(self.connection.name())
    }

    fn traits(&self) -> IssuerTraits {
        TRAITS
    }

    fn finds_by_run(&self) -> bool {
        false
    }

    fn look(&self, about: &IssuerLook<'_>) -> String {
        look(about)
    }

    fn gaps(&self, _: &str, _: &Scope) -> Vec<String> {
        Vec::new()
    }

    fn lasting(&self) -> Vec<String> {
        vec![
            "batch tokens have no lease and cannot be listed or revoked: they live until they expire"
                .to_owned(),
            "orphan tokens that were made with one of these tokens live on".to_owned(),
            "the auth method stays: a client that can log in there gets a new token at once".to_owned(),
        ]
    }

    fn stand_in(&self, _: &Scope) -> StandIn {
        StandIn::default()
    }
}

impl IssuerSpec for LeasePrefix {
    fn kind(&self) -> &'static IssuerKind {
        &Self::KIND
    }

    fn connection(&self) -> Option<&str> {
        Some(self.connection.name())
    }

    fn traits(&self) -> IssuerTraits {
        TRAITS
    }

    fn finds_by_run(&self) -> bool {
        false
    }

    fn look(&self, about: &IssuerLook<'_>) -> String {
        look(about)
    }

    fn gaps(&self, _: &str, _: &Scope) -> Vec<String> {
        Vec::new()
    }

    fn lasting(&self) -> Vec<String> {
        vec![
            "stanch asks Vault, not the system behind the secrets engine: look there for what Vault has no lease of"
                .to_owned(),
            "the secrets engine stays: a client that may read it gets a new credential at once".to_owned(),
        ]
    }

    fn stand_in(&self, _: &Scope) -> StandIn {
        StandIn::default()
    }
}

#[cfg(test)]
mod tests {
    use super::{auth_path, lease_path};

    #[test]
    fn a_prefix_has_one_spelling_and_is_never_everything() {
        for text in ["auth/approle", "/auth/approle/", "v1/auth/approle", "/v1/auth/approle//"] {
            assert_eq!(auth_path(text).as_deref(), Ok("auth/approle"), "{text}");
        }
        assert_eq!(auth_path("auth/token/create/app/").as_deref(), Ok("auth/token/create/app"));
        assert_eq!(lease_path("database/creds/app/").as_deref(), Ok("database/creds/app"));
        for text in [
            "",
            "/",
            "//",
            "v1/",
            "auth",
            "auth/",
            "/auth/",
            "database/creds",
            "auth//x",
            "auth/../sys",
            "auth/a b",
        ] {
            assert!(auth_path(text).is_err(), "{text}");
        }
        for text in ["", "/", "sys", "sys/", "auth", "auth/", "auth/approle", "a/../sys", "a/%2e", "a/*"] {
            assert!(lease_path(text).is_err(), "{text}");
        }
    }
}
