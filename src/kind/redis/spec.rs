//! The words of a runbook about a connection of type `redis`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kind::spec::{Family, FamilySpec, Kind};

/// A Redis server, version 6 or newer. The password comes from `REDISCLI_AUTH`, as `redis-cli` takes it. Each node has
/// an ACL of its own, so name them all.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// The server's name or address; else the one in `REDIS_URL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its port; else the one in `REDIS_URL`, else 6379.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// The other nodes, each as `HOST:PORT`: replicas, and all nodes of a cluster. Every change is made on each of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// The user to connect as; else the one in `REDIS_URL`, else `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whether to use TLS, with the server's certificate and its name verified; else yes, unless `REDIS_URL` begins with
    /// `redis://`. Without it everything is sent in plain text: anywhere but on this machine stanch warns of it in every phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<bool>,
    /// A file with the CA certificate in PEM; else the machine's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_cert: Option<String>,
    /// A file with the certificate in PEM that stanch shows to the server, and its key: Redis asks for one unless
    /// `tls-auth-clients` is `no`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_cert: Option<String>,
}

impl Family for Redis {
    const KIND: Kind = Kind::named("redis");
}

impl FamilySpec for Redis {
    fn kind(&self) -> &'static Kind {
        &Self::KIND
    }

    fn address(&self) -> Option<&str> {
        None
    }
}
