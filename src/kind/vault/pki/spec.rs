//! The words of a runbook about a certificate.

use core::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{IssuerTraits, Period, Scope};
use crate::kind::is_default;
use crate::kind::spec::{
    Bare, Expires, Handles, IssuerDoubt, IssuerKind, IssuerLook, IssuerSpec, On, Part, ScopeRules, StandIn,
};
use crate::kind::vault::Vault;
use crate::runbook::read::finding::Finding;
use crate::runbook::read::tree::{Entry, Node};
use crate::secret::{Alphabet, Recipe};
use crate::text::shell_word;

/// A certificate of a PKI secrets engine, with its private key. stanch makes the key, and the server signs it. Each
/// rotation makes a new key and a new certificate beside the old ones, and revokes the old certificate in the end.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VaultPki {
    /// A connection of type `vault`.
    pub connection: On<Vault>,
    /// The path of the secrets engine.
    #[serde(default = "pki")]
    pub mount: String,
    /// The role that signs.
    pub role: String,
    /// The common name. A host name or an address for mail is a subject alternative name as well.
    pub common_name: String,
    /// Further subject alternative names: host names, and addresses for mail.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alt_names: Vec<String>,
    /// Further subject alternative names: IP addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_sans: Vec<String>,
    /// Further subject alternative names: URIs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uri_sans: Vec<String>,
    /// How long the new certificate is valid.
    pub ttl: Period,
    /// The type of the new key. The role must allow it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub key: KeyType,
    /// Ask the server for new revocation lists (`crl/rotate`) where a revoked certificate is not on the list at once. The
    /// server then makes every list of the secrets engine.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rotate_crl: bool,
}

/// What a new key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KeyType {
    /// An elliptic curve, P-256.
    #[default]
    EcP256,
    /// RSA of 2048 bits.
    Rsa2048,
    /// Ed25519.
    Ed25519,
}

fn pki() -> String {
    "pki".to_owned()
}

impl VaultPki {
    pub(super) const CERTIFICATE: Part = "certificate";
    pub(super) const KEY: Part = "private_key";
    pub(super) const CHAIN: Part = "ca_chain";

    /// The key is made here, and sealed before the server signs it. A revoked certificate is never valid again.
    pub(super) const TRAITS: IssuerTraits = IssuerTraits { disables: false, ..IssuerTraits::MADE_HERE };

    pub(in crate::kind) const KIND: IssuerKind = IssuerKind {
        name: "vault-pki",
        page: include_str!("page.md"),
        scaffold: include_str!("../../../../templates/runbooks/vault-pki.yaml"),
        parts: &[Self::CERTIFICATE, Self::KEY, Self::CHAIN],
        scope: ScopeRules { expires: Expires::Always, ignored: &["audience", "policies"] },
        delivers: crate::kind::spec::never_delivers,
        bare: Some(Bare {
            family: "vault",
            needs: &[],
            rest: &[("role", "\"none\""), ("common_name", "\"none\""), ("ttl", "\"1h\"")],
            handles: Handles::Word,
        }),
        check,
    };

    /// A path below the secrets engine.
    pub(super) fn path(&self, below: &str) -> String {
        format!("{}/{below}", self.mount.trim_matches('/'))
    }
}

/// Whether a text is a host name as the server reads one, perhaps with `*` for its first label.
pub(super) fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        let inside = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(inside)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.strip_prefix("*.").unwrap_or(text).split('.').all(label)
}

/// Whether a text is an address for mail.
pub(super) fn is_mail(text: &str) -> bool {
    let local = |c: char| c.is_ascii_graphic() && !matches!(c, '@' | ',' | '<' | '>' | '"' | '\\');
    text.split_once('@')
        .is_some_and(|(name, host)| !name.is_empty() && name.chars().all(local) && is_host(host))
}

/// What is wrong with a name of a certificate, by the field that it is in; `None` where the server can take it.
pub(super) fn odd_name(field: &str, text: &str) -> Option<&'static str> {
    let scheme = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    let (fits, why) = match field {
        "common_name" => (
            !text.is_empty() && text.trim() == text && !text.contains(char::is_control),
            "this cannot be a common name: it is empty, begins or ends with a space, or has control characters",
        ),
        "alt_names" => {
            (is_host(text) || is_mail(text), "this is neither a host name nor an address for mail")
        }
        "ip_sans" => (text.parse::<IpAddr>().is_ok(), "this is not an IP address"),
        _ => (
            text.chars().all(|c| c.is_ascii_graphic() && c != ',')
                && text.split_once(':').is_some_and(|(name, rest)| scheme(name) && !rest.is_empty()),
            "this is not a URI with a scheme",
        ),
    };
    (!fits).then_some(why)
}

fn check(_: &Entry, issuer: &Node, found: &mut Vec<Finding>) {
    for field in ["common_name", "alt_names", "ip_sans", "uri_sans"] {
        let Some(node) = issuer.get(field) else { continue };
        for node in std::iter::once(node).chain(node.items()) {
            let Some(text) = node.text() else { continue };
            // What an environment fills in is seen when the run is planned, and a placeholder is told elsewhere.
            if text.contains("${") || text.contains('<') {
                continue;
            }
            if let Some(why) = odd_name(field, text) {
                found.push(Finding::error("bad-name", node.span, why).hint("correct the name"));
            }
        }
    }
}

impl IssuerSpec for VaultPki {
    fn kind(&self) -> &'static IssuerKind {
        &Self::KIND
    }

    fn connection(&self) -> Option<&str> {
        Some(self.connection.name())
    }

    fn traits(&self) -> IssuerTraits {
        Self::TRAITS
    }

    /// A certificate is told by its key, of which each credential has another.
    fn finds_by_run(&self) -> bool {
        false
    }

    fn look(&self, look: &IssuerLook<'_>) -> String {
        match look.about {
            IssuerDoubt::Issued { .. } => format!(
                "`vault list {}` and `vault read {}SERIAL`: it took effect if a certificate with the common name {} was signed{}; \
                 revoke one that is in no store",
                shell_word(&self.path("certs")),
                self.path("cert/"),
                shell_word(&self.common_name),
                crate::kind::spec::after(look.since)
            ),
            IssuerDoubt::Life { handle, wanted } => format!(
                "`vault read {}`: the certificate is revoked if `revocation_time` is not 0, and gone when the revocation list of its issuer \
                 names its serial number as well; it took effect if the certificate is {wanted}",
                shell_word(&self.path(&format!("cert/{}", handle.unwrap_or("(none)"))))
            ),
        }
    }

    fn gaps(&self, name: &str, _: &Scope) -> Vec<String> {
        let mut gaps = vec![format!(
            "{name}: the proof is the revocation list that the issuer signs; whether a relying party reads it, and how long it uses an older \
             one, only a check `tls` (or `exec`) of it shows: a relying party without revocation lists accepts the old certificate until it expires"
        )];
        if !self.rotate_crl {
            gaps.push(format!(
                "{name}: where the server does not put revoked certificates on its list at once (`auto_rebuild`), the run ends as done only after \
                 the next list; `rotate_crl: true` asks for a new list at once"
            ));
        }
        gaps
    }

    fn lasting(&self) -> Vec<String> {
        vec![
            "relying parties that read no revocation list accept the certificate until it expires".to_owned(),
            "connections that were made with it go on".to_owned(),
        ]
    }

    fn stand_in(&self, _: &Scope) -> StandIn {
        StandIn {
            principal: Some(self.common_name.clone()),
            ttl: Some(self.ttl),
            recipe: Recipe::new(Alphabet::Alphanumeric, 40).ok(),
            ..StandIn::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_server_refuses_are_found_first() {
        for (field, good, bad) in [
            ("common_name", &["a.test", "Service 7", "a@b.test"][..], &["", " a", "a\n"][..]),
            ("alt_names", &["a", "a.test", "*.a.test", "a@b.test"], &["", "-a", "a_b", "a..b", "a b", "@a"]),
            ("ip_sans", &["10.0.0.1", "::1"], &["10.0.0", "a", ""]),
            ("uri_sans", &["spiffe://a/b", "urn:uuid:1"], &["", "a", ":b", "1a:b", "a:b c", "a:"]),
        ] {
            for text in good {
                assert_eq!(odd_name(field, text), None, "{field} {text}");
            }
            for text in bad {
                assert!(odd_name(field, text).is_some(), "{field} {text}");
            }
        }
    }
}
