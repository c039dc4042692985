//! The words of a runbook about a generated value.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{Call, IssuerTraits, Observation, Scope};
use crate::kind::call_words;
use crate::kind::spec::{IssuerDoubt, IssuerKind, IssuerLook, IssuerSpec, Names, ScopeRules, StandIn};
use crate::runbook::read::finding::Finding;
use crate::runbook::read::tree::{Entry, Node};
use crate::secret::{Alphabet, Recipe};

/// A value generated here. `apply` tells the authority to accept it as well; without it the
/// stores are the only authority.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Random {
    /// What it is made of.
    #[serde(default)]
    pub alphabet: Alphabet,
    /// How many characters; 112 bits at the least.
    #[serde(default = "default_length")]
    pub length: usize,
    /// Tells the authority to accept the new value. The value goes to standard input, or
    /// into the request's body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apply: Option<Call>,
    /// Tells the authority to refuse the old value forever. Gets the old value.
    /// On rollback it gets the new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoke: Option<Call>,
}

fn default_length() -> usize {
    40
}

impl Random {
    pub(super) const fn traits_of(apply: bool, revoke: bool) -> IssuerTraits {
        IssuerTraits {
            mints: false,
            disables: false,
            revokes: revoke,
            // An authority that can be told to drop the old value holds both until then. One that
            // cannot has replaced the old by the new.
            coexists: revoke || !apply,
            tries: false,
            issue: if apply { Observation::Opaque } else { Observation::Idempotent },
            change: if revoke { Observation::Opaque } else { Observation::Idempotent },
        }
    }

    pub(in crate::kind) const KIND: IssuerKind = IssuerKind {
        name: "random",
        page: include_str!("page.md"),
        scaffold: include_str!("../../../templates/runbooks/random.yaml"),
        parts: &["value"],
        scope: ScopeRules::NEVER_EXPIRES,
        delivers: |issuer| issuer.get("apply").is_some(),
        bare: None,
        check,
    };
}

impl IssuerSpec for Random {
    fn kind(&self) -> &'static IssuerKind {
        &Self::KIND
    }

    fn connection(&self) -> Option<&str> {
        None
    }

    fn traits(&self) -> IssuerTraits {
        Self::traits_of(self.apply.is_some(), self.revoke.is_some())
    }

    fn finds_by_run(&self) -> bool {
        false
    }

    fn look(&self, look: &IssuerLook<'_>) -> String {
        match (look.about, &self.apply, &self.revoke) {
            (IssuerDoubt::Issued { .. }, Some(call), _) | (IssuerDoubt::Life { .. }, _, Some(call)) => {
                call_words(call)
            }
            (IssuerDoubt::Issued { .. }, None, _) => {
                "stanch generates the value itself: nothing else can have changed".into()
            }
            (IssuerDoubt::Life { .. }, _, None) => "nothing can have changed".into(),
        }
    }

    fn gaps(&self, _name: &str, _scope: &Scope) -> Vec<String> {
        Vec::new()
    }

    fn stand_in(&self, _scope: &Scope) -> StandIn {
        // `apply` and `revoke` are simulated: the authority is the sandbox.
        StandIn { recipe: Recipe::new(self.alphabet, self.length).ok(), ..StandIn::default() }
    }

    fn names(&self) -> Vec<(&'static str, Names<'_>)> {
        let calls = [("apply", &self.apply), ("revoke", &self.revoke)];
        calls.into_iter().filter_map(|(what, call)| Some((what, Names::Call(call.as_ref()?)))).collect()
    }
}

fn check(credential: &Entry, issuer: &Node, found: &mut Vec<Finding>) {
    let alphabet = issuer
        .get("alphabet")
        .map_or(Some(Alphabet::default()), |node| serde_json::from_value(node.to_json()).ok());
    let length = issuer.get("length").map_or(Some(40), |node| node.to_json().as_u64());
    if let (Some(alphabet), Some(length)) = (alphabet, length)
        && let Err(error) = Recipe::new(alphabet, usize::try_from(length).unwrap_or(usize::MAX))
    {
        let at = issuer.get("length").or(issuer.get("alphabet")).unwrap_or(issuer).span;
        found.push(
            Finding::error("weak-secret", at, error.to_string()).hint("remove `length` for 40 characters"),
        );
    }
    if issuer.get("apply").is_some() && issuer.get("revoke").is_none() {
        let at = issuer.entry("apply").map_or(issuer.span, |entry| entry.at);
        found.push(
            Finding::warning(
                "no-revoke",
                at,
                "the runbook tells the authority to accept the new value, but never to refuse the old value",
            )
            .hint("add `revoke`, or make sure that `apply` replaces the old value"),
        );
    }
    let proven = credential.value.get("accepts").is_some_and(|probes| !probes.items().is_empty());
    if !proven {
        found.push(
            Finding::warning(
                "unproven",
                credential.at,
                "nothing proves that the new value works or that the old value is dead",
            )
            .hint("add a check under `accepts`"),
        );
    }
}
