//! The words of a runbook about a connection of type `mysql`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kind::spec::{Family, FamilySpec, Kind};

/// A MariaDB server, version 10.5 or newer. The password comes from `MYSQL_PWD`, as the client `mariadb` takes it. Connect
/// to the primary itself, not to a proxy. MySQL is refused: its statements differ, and stanch was not tested with it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mysql {
    /// The server's name or address; else `MYSQL_HOST`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its port; else `MYSQL_TCP_PORT`, else 3306.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// The user to connect as; else `MYSQL_USER`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whether to use TLS, with the server's certificate and its name verified; else yes, unless `MYSQL_SSL_MODE` is
    /// `DISABLED`. Without it everything is sent in plain text: anywhere but on this machine stanch warns of it in every phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<bool>,
    /// A file with the CA certificate in PEM; else `MYSQL_SSL_CA`, else the machine's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_cert: Option<String>,
}

impl Family for Mysql {
    const KIND: Kind = Kind::named("mysql");
}

impl FamilySpec for Mysql {
    fn kind(&self) -> &'static Kind {
        &Self::KIND
    }

    fn address(&self) -> Option<&str> {
        None
    }
}
