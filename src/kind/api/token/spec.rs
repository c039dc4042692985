//! The words of a runbook about a token of a service with an API.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::calls::spec::{Calls, Preset};
use super::rules::spec::{DATE, TAG, TIME, creates_with, mistakes, needs};
use crate::domain::{IssuerTraits, Observation, Period, Scope};
use crate::kind::api::Api;
use crate::kind::spec::{
    Bare, Expires, Handles, IssuerDoubt, IssuerKind, IssuerLook, IssuerSpec, On, Part, ScopeRules, StandIn,
    after,
};
use crate::runbook::read::finding::Finding;
use crate::runbook::read::tree::{Entry, Node};
use crate::text::shell_word;

/// A token of any service with a JSON API. The calls come from a preset, or from the runbook.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenApi {
    /// A connection of type `api`.
    pub connection: On<Api>,
    /// A service whose calls stanch knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// The calls of any other service. Exactly one of `preset` and `calls` is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<Box<Calls>>,
    /// The values for `{NAME}` in the calls. A list or a mapping can only be a whole value of a body.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub with: BTreeMap<String, Value>,
    /// How long a new token lives: the calls send its end as `{expires.date}` or `{expires.time}`. An end that is a date is at the
    /// first minute of that day, UTC, so the token lives up to a day less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Period>,
}

/// What tells a step's token from every other: 64 bits of a digest. It is near the beginning of the name, so that a server
/// may cut the name or change its signs.
pub(super) fn mark(run: &str, step: &str) -> String {
    hex::encode(Sha256::digest(format!("{run}\n{step}")))[..MARK].to_owned()
}

/// How many digits a mark has.
const MARK: usize = 16;

/// The name that a step gives to its token, the same for every attempt. The run is for people.
pub(super) fn tag(run: &str, step: &str) -> String {
    format!("stanch-{}-{run}", mark(run, step))
}

impl TokenApi {
    pub(super) const SECRET: Part = "token";

    pub(in crate::kind) const KIND: IssuerKind = IssuerKind {
        name: "token-api",
        page: include_str!("page.md"),
        scaffold: include_str!("../../../../templates/runbooks/token-api.yaml"),
        parts: &[Self::SECRET],
        scope: ScopeRules { expires: Expires::WithTtl, ignored: &["audience"] },
        delivers: crate::kind::spec::never_delivers,
        bare: Some(Bare { family: "api", needs: &[], rest: &[], handles: Handles::Word }),
        check,
    };

    /// The calls; `None` where the runbook says neither where they come from nor what they are, which is a finding.
    pub(super) fn calls(&self) -> Option<&Calls> {
        match self.preset {
            Some(preset) => Some(&preset.known().calls),
            None => self.calls.as_deref(),
        }
    }

    /// Whether a token whose response was lost is found by its name.
    fn is_listed(&self) -> bool {
        self.calls().is_some_and(|calls| calls.list.is_some() && creates_with(calls, TAG))
    }
}

impl IssuerSpec for TokenApi {
    fn kind(&self) -> &'static IssuerKind {
        &Self::KIND
    }

    fn connection(&self) -> Option<&str> {
        Some(self.connection.name())
    }

    fn traits(&self) -> IssuerTraits {
        let calls = self.calls();
        IssuerTraits {
            mints: true,
            disables: calls.is_some_and(|calls| calls.disable.is_some() && calls.enable.is_some()),
            revokes: true,
            coexists: calls.is_none_or(|calls| calls.coexists),
            tries: true,
            issue: if self.is_listed() { Observation::Listable } else { Observation::Opaque },
            change: Observation::Readable,
        }
    }

    fn finds_by_run(&self) -> bool {
        // Two credentials of one connection may be in two lists.
        false
    }

    fn look(&self, look: &IssuerLook<'_>) -> String {
        let list = self.calls().and_then(|calls| calls.list.as_ref());
        let list = list.map_or_else(
            || "look through the tokens at the server".to_owned(),
            |list| format!("GET {}", shell_word(&list.path)),
        );
        match look.about {
            IssuerDoubt::Issued { .. } if self.is_listed() => {
                format!("{list}: the token of this step is named {}", tag(look.run, look.step))
            }
            IssuerDoubt::Issued { .. } => {
                format!("{list}: the token of this step was created{}", after(look.since))
            }
            IssuerDoubt::Life { handle, wanted } => {
                let handle = shell_word(handle.unwrap_or("(none)"));
                format!("{list}: it took effect if the token with the id {handle} is {wanted}")
            }
        }
    }

    fn gaps(&self, name: &str, scope: &Scope) -> Vec<String> {
        let mut gaps = Vec::new();
        if let Some(known) = self.preset.map(Preset::known) {
            gaps.push(format!(
                "{name}: this preset is not proved against {}: stanch was tested with a server that follows the published description",
                known.server
            ));
            gaps.extend(known.gaps.iter().map(|gap| format!("{name}: {gap}")));
        }
        gaps.push(format!(
            "{name}: stanch cannot check ahead whether the operator's token may create, disable and revoke tokens: a permission that is missing shows when the server refuses"
        ));
        let scopes = self.calls().is_some_and(|calls| calls.inspect.scopes.is_some());
        if scope.policies.is_none() || !scopes {
            gaps.push(format!("{name}: the scopes of the new token are not compared with the runbook (`scope.policies`, and `scopes` of `inspect`)"));
        }
        gaps
    }

    fn lasting(&self) -> Vec<String> {
        vec!["what a token created stays valid: other tokens, keys, sessions".to_owned()]
    }

    fn stand_in(&self, scope: &Scope) -> StandIn {
        StandIn {
            principal: self.preset.map(|preset| preset.name().to_owned()),
            policies: scope.policies.clone().unwrap_or_default(),
            ttl: self.ttl,
            coexist: self.calls().is_some_and(|calls| !calls.coexists).then_some(1),
            ..StandIn::default()
        }
    }
}

fn check(_: &Entry, issuer: &Node, found: &mut Vec<Finding>) {
    // What does not fit the types is reported elsewhere.
    let Ok(spec) = serde_json::from_value::<TokenApi>(fields(issuer)) else { return };
    if spec.preset.is_some() == spec.calls.is_some() {
        let at = issuer.entry("calls").or(issuer.entry("type")).map_or(issuer.span, |entry| entry.at);
        found.push(
            Finding::error("calls", at, "the issuer needs exactly one of `preset` and `calls`")
                .hint("name a preset, or describe the calls of the API"),
        );
        return;
    }
    let Some(calls) = spec.calls() else { return };
    if spec.preset.is_none() {
        for mistake in mistakes(calls) {
            let mut at = issuer.entry("calls").map_or(issuer.span, |entry| entry.at);
            let mut node = issuer.get("calls");
            for key in &mistake.at {
                if let Some(entry) = node.and_then(|node| node.entry(key)) {
                    at = entry.at;
                    node = Some(&entry.value);
                }
            }
            found.push(Finding::error("calls", at, mistake.message).hint(mistake.hint));
        }
    }
    let of = |field: &str| issuer.entry(field).or(issuer.entry("type")).map_or(issuer.span, |entry| entry.at);
    let needed = needs(calls);
    for name in needed.iter().filter(|name| !spec.with.contains_key(*name)) {
        found.push(
            Finding::error("calls", of("with"), format!("the calls need a value for `{{{name}}}`"))
                .hint(format!("write `with: {{{name}: …}}`")),
        );
    }
    for name in spec.with.keys().filter(|name| !needed.contains(*name)) {
        let at = issuer.get("with").and_then(|with| with.entry(name)).map_or(issuer.span, |entry| entry.at);
        found.push(
            Finding::error("calls", at, format!("no call has `{{{name}}}`"))
                .hint("remove the value, or correct its name"),
        );
    }
    let ends = creates_with(calls, DATE) || creates_with(calls, TIME);
    if ends != spec.ttl.is_some() {
        let (message, hint) = if ends {
            ("the calls send when the token expires, and there is no `ttl`", "write for example `ttl: 30d`")
        } else {
            (
                "`ttl` reaches no call",
                "write `{expires.date}` or `{expires.time}` into the body of `create`, or remove it",
            )
        };
        found.push(Finding::error("calls", of("ttl"), message).hint(hint));
    } else if ends && calls.inspect.expires.is_none() {
        let message = "nothing shows when a token expires, so `scope.max_ttl` would be compared with nothing";
        found.push(Finding::error("calls", of("calls"), message).hint("add `expires` to `inspect`"));
    }
    if !spec.is_listed() {
        found.push(
            Finding::warning(
                "unlisted",
                of("calls"),
                "if the response to `create` is lost, stanch cannot find the token: the run stops and asks you",
            )
            .hint("add `list`, and `{tag}` as the name of the token in the body of `create`"),
        );
    }
}

/// The issuer's own fields: `type` says which kind it is.
fn fields(issuer: &Node) -> Value {
    let mut fields = issuer.to_json();
    if let Some(fields) = fields.as_object_mut() {
        fields.remove("type");
    }
    fields
}
