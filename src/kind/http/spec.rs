//! The words of a runbook about requests.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{HttpMethod, Period};
use crate::kind::spec::{AttestSpec, GateSpec, Kind, Names, ProbeSpec};
use crate::kind::{every, one};
use crate::runbook::read::finding::Finding;
use crate::runbook::read::span::Span;
use crate::runbook::read::tree::{Entry, Node, Value};

/// A GET request, to every instance.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpAttest {
    /// The address, where there is one instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The addresses, one for each instance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// The JSON pointer to the SHA-256 (lower-case hex) of the value in use.
    pub fingerprint: String,
}

impl HttpAttest {
    pub(in crate::kind) const KIND: Kind = Kind { check: check_attest, ..Kind::named("http") };
}

impl AttestSpec for HttpAttest {
    fn kind(&self) -> &'static Kind {
        &Self::KIND
    }

    fn names(&self) -> Vec<Names<'_>> {
        self.url.iter().chain(&self.urls).map(|url| Names::Address(url)).collect()
    }

    fn instances(&self) -> usize {
        self.urls.len().max(1)
    }
}

fn check_attest(_: &Entry, http: &Node, found: &mut Vec<Finding>) {
    let urls = http.get("urls").filter(|urls| !urls.items().is_empty());
    let message = match (http.get("url"), urls) {
        (None, None) => "`url` or `urls` is missing",
        (Some(_), Some(_)) => "`url` and `urls` are both set",
        _ => return,
    };
    found.push(
        Finding::error("attest-address", http.span, message)
            .hint("use `url` for one instance, or `urls` with one URL per instance"),
    );
}

/// A request that carries the credential.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpProbe {
    /// The method.
    #[serde(default = "get")]
    pub method: HttpMethod,
    /// The address.
    pub url: String,
    /// Sends the credential as `Authorization: Bearer`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bearer: bool,
    /// Sends the credential in this header instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// The status that means *accepted*.
    #[serde(default = "ok")]
    #[schemars(range(min = 100, max = 599))]
    pub expect: u16,
    /// The statuses that mean *refused*. Anything else is inconclusive: a server that
    /// answers 500 refuses nothing.
    #[serde(default = "refusals")]
    pub refuse: Vec<u16>,
}

fn get() -> HttpMethod {
    HttpMethod::Get
}

fn ok() -> u16 {
    200
}

fn refusals() -> Vec<u16> {
    vec![401, 403]
}

impl HttpProbe {
    pub(in crate::kind) const KIND: Kind = Kind { check: check_probe, ..Kind::named("http") };
}

impl ProbeSpec for HttpProbe {
    fn kind(&self) -> &'static Kind {
        &Self::KIND
    }

    fn names(&self) -> Vec<Names<'_>> {
        vec![Names::Address(&self.url)]
    }
}

fn check_probe(_: &Entry, http: &Node, found: &mut Vec<Finding>) {
    let bearer = http.is_true("bearer");
    let header = http.entry("header").filter(|header| header.value.text().is_some());
    match (bearer, header) {
        (false, None) if http.get("bearer").is_none_or(|bearer| bearer.value == Value::Bool(false)) => found
            .push(
                Finding::warning(
                    "probe-without-credential",
                    http.span,
                    "this check does not send the credential, so it proves nothing",
                )
                .hint("add `bearer: true` or `header: NAME`"),
            ),
        (true, Some(header)) => found.push(
            Finding::error("bearer-and-header", header.at, "`bearer` and `header` are both set")
                .hint("keep only one of them"),
        ),
        _ => {}
    }
    carries_to(http.get("url"), found);
    // Whichever of the two is not written has its default.
    let expect = http.get("expect").map_or(Some(ok().into()), |node| node.to_json().as_u64());
    let refuse: Vec<(Option<u64>, Span)> = match http.get("refuse") {
        Some(refuse) => refuse.items().iter().map(|node| (node.to_json().as_u64(), node.span)).collect(),
        None => {
            let at = http.get("expect").map_or(http.span, |node| node.span);
            refusals().into_iter().map(|status| (Some(status.into()), at)).collect()
        }
    };
    if let Some((_, at)) = refuse.iter().find(|(status, _)| status.is_some() && *status == expect) {
        found.push(
            Finding::error("both-answers", *at, "this status cannot mean both accepted and refused")
                .hint("`expect` is 200 and `refuse` is [401, 403] where they are not written: set both"),
        );
    }
}

/// A number from a JSON document, held against bounds. No number is never a pass.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpGate {
    /// The address.
    pub url: String,
    /// The JSON pointer to the number.
    pub json: String,
    /// Fails above this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
    /// Fails below this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// How often it is asked.
    #[serde(default = "every")]
    pub every: Period,
    /// How many failures in a row make a failure.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub failures: u32,
}

impl HttpGate {
    pub(in crate::kind) const KIND: Kind = Kind { check: check_bounds, ..Kind::named("http") };
}

impl GateSpec for HttpGate {
    fn kind(&self) -> &'static Kind {
        &Self::KIND
    }

    fn every(&self) -> Duration {
        self.every.get()
    }

    fn names(&self) -> Vec<Names<'_>> {
        vec![Names::Address(&self.url)]
    }
}

/// A gate that compares a number has at least one bound, and bounds that something can keep.
pub(in crate::kind) fn check_bounds(gate: &Entry, http: &Node, found: &mut Vec<Finding>) {
    let number = |name| http.get(name).and_then(|node: &Node| node.to_json().as_f64());
    match (number("at_least"), number("at_most")) {
        (None, None) if http.kind() == "a mapping" => found.push(
            Finding::error("gate-without-bounds", gate.at, "this gate has no limit, so it would always pass")
                .hint("add `at_most`, `at_least` or both"),
        ),
        (Some(least), Some(most)) if most < least => {
            let at = http.entry("at_most").map_or(gate.at, |entry| entry.at);
            found.push(Finding::error("bounds", at, "`at_most` is below `at_least`: nothing could pass"));
        }
        _ => {}
    }
}

/// Warns where a credential would cross a network in plain text.
pub(crate) fn carries_to(node: Option<&Node>, found: &mut Vec<Finding>) {
    let Some((node, text)) = node.and_then(|node| Some((node, node.text()?))) else { return };
    let Some(("http", host)) = split(text) else { return };
    let local =
        host == "localhost" || host.starts_with("127.") || host == "[::1]" || host.ends_with(".localhost");
    let known = found.iter().any(|finding| finding.code == "plain-http" && finding.at == node.span);
    if !local && !known {
        found.push(
            Finding::warning(
                "plain-http",
                node.span,
                "stanch would send the credential over the network in plain text",
            )
            .hint("use https"),
        );
    }
}

/// Scheme and host of an http address.
pub(crate) fn split(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"))?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let end = if host.starts_with('[') {
        host.find(']').map_or(host.len(), |end| end + 1)
    } else {
        host.find(':').unwrap_or(host.len())
    };
    Some((scheme, &host[..end]))
}
