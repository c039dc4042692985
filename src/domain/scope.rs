//! How wide a credential may be.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Period;

/// The widest that a credential may be.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// The longest time to live. Required where the issuer's credentials expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ttl: Option<Period>,
    /// The only policies that it may carry. Vault adds `default` to every token; it need not be named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policies: Option<Vec<String>>,
    /// Who it is for. Written into the credential where the issuer can, and checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
}
