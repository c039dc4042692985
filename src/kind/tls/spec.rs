//! The words of a runbook about TLS handshakes.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::Period;
use crate::kind::spec::{AttestSpec, Kind, Names, Part, ProbeSpec};
use crate::kind::{ISSUERS, Issuer, is_default, named};
use crate::runbook::read::finding::Finding;
use crate::runbook::read::tree::{Entry, Node};

/// The part of a credential that is shown in a handshake.
pub(super) const CERTIFICATE: Part = "certificate";
/// The part that signs in a handshake, and is never sent.
pub(super) const KEY: Part = "private_key";
/// What signed the certificate.
#[cfg(feature = "tool")]
pub(super) const CHAIN: Part = "ca_chain";

/// A TLS handshake with every instance: the certificate that it serves is the answer. Its names, its dates and who signed
/// it do not matter, and nothing is sent after the handshake.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsAttest {
    /// The addresses, `HOST:PORT`, one for each instance.
    #[schemars(length(min = 1))]
    pub addresses: Vec<String>,
    /// The name to ask for (SNI), where the instances serve several; else the host of each address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// What is said before TLS begins, where the protocol begins without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starttls: Option<StartTls>,
}

/// A protocol in which a client asks for TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StartTls {
    /// PostgreSQL's `SSLRequest`.
    Postgres,
}

impl TlsAttest {
    pub(in crate::kind) const KIND: Kind = Kind { check: check_attest, ..Kind::named("tls") };
}

impl AttestSpec for TlsAttest {
    fn kind(&self) -> &'static Kind {
        &Self::KIND
    }

    fn names(&self) -> Vec<Names<'_>> {
        self.addresses.iter().map(|address| Names::Server(address)).collect()
    }

    fn instances(&self) -> usize {
        self.addresses.len().max(1)
    }
}

/// A TLS handshake in which stanch is the client and shows the certificate, and what the server says then. Only a server that
/// asks for a certificate, and whose own is trusted, is believed. An alert about the certificate is a refusal.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsProbe {
    /// The server, `HOST:PORT`.
    pub address: String,
    /// The server's name, which its certificate must be for; else the host of `address`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// A file with the CA certificates to trust (PEM); else what `http` checks trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_cert: Option<PathBuf>,
    /// A path to ask for by GET, as HTTP/1.1. Without it the server has to speak first: the first byte that it sends means *accepted*.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// With `path`: the status that means *accepted*.
    #[serde(default = "ok", skip_serializing_if = "is_ok")]
    #[schemars(range(min = 100, max = 599))]
    pub expect: u16,
    /// With `path`: statuses that mean *refused*, beside the alerts: a server may end the handshake well and say so
    /// afterwards (nginx answers 400). Anything else is inconclusive.
    #[serde(default, skip_serializing_if = "is_default")]
    pub refuse: Vec<u16>,
    /// How long an attempt may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
}

fn ok() -> u16 {
    200
}

fn is_ok(status: &u16) -> bool {
    *status == ok()
}

impl TlsProbe {
    pub(in crate::kind) const KIND: Kind = Kind { check: check_probe, ..Kind::named("tls") };
}

impl ProbeSpec for TlsProbe {
    fn kind(&self) -> &'static Kind {
        &Self::KIND
    }

    fn names(&self) -> Vec<Names<'_>> {
        vec![Names::Server(&self.address)]
    }
}

/// The host and the port of `HOST:PORT`; an IPv6 address is in brackets.
pub(super) fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']').filter(|host| host.parse::<core::net::Ipv6Addr>().is_ok())?,
        None => host,
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_host = !host.is_empty() && (address.starts_with('[') || host.bytes().all(plain));
    let port = port.parse().ok().filter(|port| *port != 0)?;
    is_host.then_some((host, port))
}

/// Whether a text can be the path of a request.
pub(super) fn is_path(text: &str) -> bool {
    text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A text of a runbook that can be judged now: what an environment fills in is seen when the run is planned, and a
/// placeholder is told elsewhere.
fn certain(node: &Node) -> Option<&str> {
    node.text().filter(|text| !text.contains("${") && !text.contains('<'))
}

fn check_address(node: &Node, found: &mut Vec<Finding>) {
    if certain(node).is_some_and(|text| split(text).is_none()) {
        found.push(
            Finding::error("bad-address", node.span, "this is not an address of the form HOST:PORT")
                .hint("write `web-1.internal:443`, or `[::1]:443`; no scheme and no path"),
        );
    }
}

/// Whether credentials of this issuer have these parts; `true` where that cannot be said.
fn has(credential: &Entry, wanted: &[Part]) -> bool {
    let Some(issuer) = credential.value.get("issuer") else { return true };
    let parts = match serde_json::from_value::<Issuer>(issuer.to_json()) {
        Ok(issuer) => issuer.parts(),
        Err(_) => match named(ISSUERS, issuer.text_of("type")) {
            Some(kind) => kind.parts,
            None => return true,
        },
    };
    wanted.iter().all(|part| parts.contains(part))
}

fn check_attest(credential: &Entry, tls: &Node, found: &mut Vec<Finding>) {
    if !has(credential, &[CERTIFICATE]) {
        found.push(
            Finding::error(
                "no-certificate",
                tls.span,
                "this credential has no part `certificate` that a server could serve",
            )
            .hint("use `http` or `exec`, or an issuer of type `vault-pki`"),
        );
    }
    let addresses = tls.get("addresses").map(Node::items).unwrap_or_default();
    addresses.iter().for_each(|address| check_address(address, found));
}

fn check_probe(credential: &Entry, tls: &Node, found: &mut Vec<Finding>) {
    if !has(credential, &[CERTIFICATE, KEY]) {
        found.push(
            Finding::error(
                "no-certificate",
                tls.span,
                "this credential has no parts `certificate` and `private_key` to show to a server",
            )
            .hint("use `http` or `exec`, or an issuer of type `vault-pki`"),
        );
    }
    tls.get("address").into_iter().for_each(|address| check_address(address, found));
    match tls.get("path") {
        Some(path) if certain(path).is_some_and(|text| !is_path(text)) => found.push(
            Finding::error("bad-path", path.span, "this is not a path that can be asked for")
                .hint("begin with `/`, and encode spaces and what is not ASCII"),
        ),
        Some(_) => {}
        None => {
            let needless = ["expect", "refuse"].into_iter().filter_map(|field| tls.entry(field));
            found.extend(needless.map(|entry| {
                Finding::error("status-without-path", entry.at, "only the answer to a request has a status")
                    .hint("add `path`, or remove this field")
            }));
        }
    }
    let expect = tls.get("expect").map_or(Some(ok().into()), |node| node.to_json().as_u64());
    let refuse = tls.get("refuse").map(Node::items).unwrap_or_default();
    if let Some(both) = refuse.iter().find(|node| expect.is_some() && node.to_json().as_u64() == expect) {
        found.push(
            Finding::error("both-answers", both.span, "this status cannot mean both accepted and refused")
                .hint("`expect` is 200 where it is not written: set both"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        assert_eq!(split("web-1.internal:443"), Some(("web-1.internal", 443)));
        assert_eq!(split("10.0.0.1:8443"), Some(("10.0.0.1", 8443)));
        assert_eq!(split("[::1]:443"), Some(("::1", 443)));
        for bad in [
            "",
            "web",
            "web:",
            ":443",
            "web:0",
            "web:65536",
            "::1:443",
            "[web]:443",
            "[::1]",
            "https://web:443",
            "web:443/",
            "we b:1",
            "a@b:1",
        ] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }
}
