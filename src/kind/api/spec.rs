//! The words of a runbook about a connection of type `api`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kind::spec::{Family, FamilySpec, Kind};

/// A service with a JSON API. The operator's token comes from an environment variable, never from the file.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// The address that the paths of the calls are added to, for example `https://gitlab.example.com/api/v4`; else
    /// `STANCH_API_ADDRESS`. Plain `http://` is accepted for this machine alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The environment variable with the operator's token. Its name begins with `STANCH_`: programs that stanch starts
    /// inherit no such variable.
    #[serde(default = "token_variable")]
    pub variable: String,
    /// The header that carries a token, the operator's and those that stanch issues.
    #[serde(default = "authorization")]
    pub header: String,
    /// What is before the token in that header; else `Bearer ` in `Authorization`, and nothing in any other header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Other headers that every request has, for example a version of the API. Not for secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// A file with the CA certificate in PEM; else the machine's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_cert: Option<String>,
}

fn token_variable() -> String {
    "STANCH_API_TOKEN".to_owned()
}

fn authorization() -> String {
    "Authorization".to_owned()
}

impl Family for Api {
    const KIND: Kind = Kind::named("api");
}

impl FamilySpec for Api {
    fn kind(&self) -> &'static Kind {
        &Self::KIND
    }

    fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }
}
