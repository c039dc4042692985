//! The words of a runbook about a key that signs JSON Web Tokens.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{IssuerTraits, Period, Scope};
use crate::kind::set::SetPlace;
use crate::kind::spec::{IssuerDoubt, IssuerKind, IssuerLook, IssuerSpec, Names, Part, ScopeRules, StandIn};
use crate::runbook::read::finding::Finding;
use crate::runbook::read::tree::{Entry, Node};
use crate::secret::{Alphabet, Recipe};
use crate::text::shell_word;

/// A key that signs JSON Web Tokens. Its public half is in a JWKS, which verifiers read. Each rotation adds a new
/// public key to the set, and removes the old one in the end; all other keys stay as they are.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JwtSigningKey {
    /// Where the JWKS is, as stanch writes it.
    pub set: SetPlace,
    /// What the new key signs with.
    #[serde(default, skip_serializing_if = "crate::kind::is_default")]
    pub algorithm: Algorithm,
    /// The addresses that verifiers read the JWKS from. stanch reads each one, requires the new key in it before the
    /// key is delivered, and requires that the old one is not in it at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jwks: Vec<String>,
    /// The longest that a verifier uses a JWKS which it has read: the new key is delivered no sooner than this after
    /// it was published, and the old one counts as refused no sooner than this after it was removed. At most `7d`.
    pub cache: Period,
    /// Gives the checks under `accepts` and `rejects` a token in place of the private key: signed for each check by the
    /// key in question, and valid for a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenSpec>,
}

/// What a key signs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Algorithm {
    /// ECDSA with P-256 and SHA-256.
    #[default]
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// RSA of 2048 bits with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
}

/// The claims of the tokens that checks are given, beside `iat` and `exp`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenSpec {
    /// The issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// Whom the token is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// Whom the token is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aud: Option<String>,
    /// Further claims, each a string.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, String>,
}

/// Nothing that is cached for longer can be waited for in an emergency.
pub(super) const MAX_CACHE: Period = Period::seconds(7 * 24 * 60 * 60);

impl JwtSigningKey {
    pub(super) const SECRET: Part = "private_key";
    pub(super) const KID: Part = "kid";

    /// The key pair is made here, and sealed before its public half is published.
    pub(super) const TRAITS: IssuerTraits = IssuerTraits::MADE_HERE;

    pub(in crate::kind) const KIND: IssuerKind = IssuerKind {
        name: "jwt-signing-key",
        page: include_str!("page.md"),
        scaffold: include_str!("../../../templates/runbooks/jwt-signing-key.yaml"),
        parts: &[Self::KID, Self::SECRET],
        scope: ScopeRules::NEVER_EXPIRES,
        delivers: crate::kind::spec::never_delivers,
        bare: None,
        check,
    };
}

impl IssuerSpec for JwtSigningKey {
    fn kind(&self) -> &'static IssuerKind {
        &Self::KIND
    }

    fn connection(&self) -> Option<&str> {
        self.set.connection()
    }

    fn traits(&self) -> IssuerTraits {
        Self::TRAITS
    }

    fn finds_by_run(&self) -> bool {
        false
    }

    fn look(&self, look: &IssuerLook<'_>) -> String {
        let read = self.set.how_to_read();
        match look.about {
            IssuerDoubt::Issued { known: _ } => {
                format!(
                    "{read}: it took effect if `stanch.issued` names a key that was not in `keys` before the run"
                )
            }
            IssuerDoubt::Life { handle, wanted } => format!(
                "{read}: the key with the kid {} is in `keys` while it is active, in `stanch.retired` while it is disabled, and in neither when it \
                 is gone; it took effect if it is {wanted}",
                handle.map_or_else(|| "of this step".to_owned(), shell_word)
            ),
        }
    }

    fn gaps(&self, name: &str, _: &Scope) -> Vec<String> {
        let mut gaps = vec![
            format!(
                "{name}: a token that the old key signed is refused once verifiers read the JWKS without that key: `overlap` must last as long as \
                 such a token lives, and a rollback does the same to the tokens of the new key"
            ),
            format!(
                "{name}: a verifier that uses a JWKS for longer than `cache` ({}) is not waited for, and one that has the old key by other means than \
                 this JWKS goes on accepting it",
                self.cache
            ),
        ];
        if self.jwks.is_empty() {
            gaps.push(format!(
                "{name}: the runbook names no address under `jwks`, so stanch cannot see whether verifiers are given the set that it writes"
            ));
        }
        gaps
    }

    fn settles(&self) -> Period {
        self.cache
    }

    fn stand_in(&self, _: &Scope) -> StandIn {
        StandIn { recipe: Recipe::new(Alphabet::Alphanumeric, 40).ok(), ..StandIn::default() }
    }

    fn names(&self) -> Vec<(&'static str, Names<'_>)> {
        self.jwks.iter().map(|url| ("jwks", Names::Address(url))).collect()
    }
}

fn check(credential: &Entry, issuer: &Node, found: &mut Vec<Finding>) {
    if let Some(cache) = issuer.get("cache")
        && cache.text().and_then(|text| text.parse::<Period>().ok()).is_some_and(|cache| cache > MAX_CACHE)
    {
        found.push(
            Finding::error("long-cache", cache.span, format!("`cache` is longer than {MAX_CACHE}"))
                .hint("let verifiers read the JWKS more often first"),
        );
    }
    let asked = ["accepts", "rejects"]
        .iter()
        .any(|checks| credential.value.get(checks).is_some_and(|checks| !checks.items().is_empty()));
    if !asked && issuer.get("jwks").is_none_or(|urls| urls.items().is_empty()) {
        let at = issuer.entry("set").map_or(issuer.span, |set| set.at);
        let message =
            "nothing shows what verifiers are given, so nothing could prove that the old key is dead";
        found.push(
            Finding::error("no-verifier", at, message)
                .hint("name the address that verifiers read under `jwks`, or add a check under `accepts`"),
        );
    }
    if let Some(token) = issuer.entry("token")
        && !asked
    {
        found.push(
            Finding::warning("token-without-check", token.at, "no check is given the token")
                .hint("add a check under `accepts` that sends it to a verifier"),
        );
    }
}
