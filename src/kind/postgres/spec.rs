//! The words of a runbook about a connection of type `postgres`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kind::spec::{Family, FamilySpec, Kind};

/// A PostgreSQL server, version 12 or newer. The password comes from `PGPASSWORD`, else from the file of passwords
/// that `psql` reads (`PGPASSFILE`, `~/.pgpass`). Connect to the primary itself, not to a pooler.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Postgres {
    /// The server's name or address; else `PGHOST`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its port; else `PGPORT`, else 5432.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// The database to connect to; else `PGDATABASE`, else `postgres`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dbname: Option<String>,
    /// The role to connect as; else `PGUSER`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// How the connection is protected; else `verify-full`, unless `PGSSLMODE` is `disable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sslmode: Option<SslMode>,
    /// A file with the CA certificate in PEM; else `PGSSLROOTCERT`, else the machine's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_cert: Option<String>,
}

/// How a connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// TLS. The server's certificate and its name are verified.
    VerifyFull,
    /// In plain text: for a server on this machine. Anywhere else stanch warns of it in every phase.
    Disable,
}

impl Family for Postgres {
    const KIND: Kind = Kind::named("postgres");
}

impl FamilySpec for Postgres {
    fn kind(&self) -> &'static Kind {
        &Self::KIND
    }

    fn address(&self) -> Option<&str> {
        None
    }
}
