//! The words of a runbook about a connection of type `gitlab`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kind::spec::{Family, FamilySpec, Kind};

/// A GitLab server. The operator's token comes from an environment variable, never from the file.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gitlab {
    /// The server's address, without `/api/v4`: for example `https://gitlab.example.com`; else `GITLAB_HOST`, as for `glab`.
    /// Plain `http://` is accepted for this machine alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The environment variable with the operator's token; another than `GITLAB_TOKEN` has to begin with `STANCH_`:
    /// programs that stanch starts inherit none of these.
    #[serde(default = "token_variable")]
    pub variable: String,
    /// A file with the CA certificate in PEM; else the machine's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_cert: Option<String>,
}

/// Where GitLab's own `glab` looks.
pub(super) const TOKEN: &str = "GITLAB_TOKEN";

fn token_variable() -> String {
    TOKEN.to_owned()
}

impl Family for Gitlab {
    const KIND: Kind = Kind::named("gitlab");
}

impl FamilySpec for Gitlab {
    fn kind(&self) -> &'static Kind {
        &Self::KIND
    }

    fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }
}
