//! The words of a runbook about a connection of type `github`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kind::spec::{Family, FamilySpec, Kind};

/// GitHub, or a GitHub Enterprise Server. The operator's token comes from an environment variable, never from the file.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Github {
    /// The address of the API, for an Enterprise Server `https://HOST/api/v3`; else `GITHUB_API_URL`, else
    /// `https://api.github.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The environment variable with the operator's token: `GITHUB_TOKEN`, or one whose name begins with `STANCH_`.
    /// Programs that stanch starts inherit no such variable.
    #[serde(default = "token_variable")]
    pub variable: String,
    /// A file with the CA certificate in PEM; else the machine's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_cert: Option<String>,
}

fn token_variable() -> String {
    "GITHUB_TOKEN".to_owned()
}

impl Family for Github {
    const KIND: Kind = Kind::named("github");
}

impl FamilySpec for Github {
    fn kind(&self) -> &'static Kind {
        &Self::KIND
    }

    fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }
}
