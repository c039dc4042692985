//! The policy as types. Their doc comments are the descriptions in `stanch policy schema`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

use crate::domain::{Cadence, Day, Freeze, Period, Window};

/// What every runbook must keep to, and who may waive it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "stanch policy")]
pub struct Policy {
    /// The format's version: 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// Counts the changes of this policy, from 1: that of the newest entry of `changelog`.
    #[schemars(range(min = 1))]
    pub revision: u32,
    /// Who answers for the rules that name no owner of their own.
    pub owner: String,
    /// What changed, the newest first.
    pub changelog: Vec<Change>,
    /// The rules.
    #[serde(default)]
    pub rules: Rules,
    /// The deployment windows of every runbook. Where a runbook has windows, too, one of both must be open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
    /// Days on which no window opens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub freezes: Vec<Freeze>,
    /// Who may waive a rule for a runbook; without it, waivers count for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waivers: Option<Waivers>,
}

/// A change of the policy.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The revision that it led to.
    #[schemars(range(min = 1))]
    pub revision: u32,
    /// The day, such as `2026-11-27`.
    pub date: Day,
    /// What changed, and why.
    pub change: String,
}

/// The rules. One that is left out asks for nothing.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rules {
    /// How long a new credential may live, where its issuer's credentials expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ttl: Option<MaxTtl>,
    /// What no scope may hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Scopes>,
    /// How many approvals a phase needs, by the runbook's severity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approvals: Option<Approvals>,
    /// How often a credential is rotated at the least, by the runbook's severity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cadence: Option<MostCadence>,
    /// Who answers for runbooks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owners: Option<Owners>,
}

/// How long a new credential may live.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaxTtl {
    /// The longest `ttl` and `scope.max_ttl`.
    pub most: Period,
    /// Why.
    pub reason: String,
    /// Who answers for this rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

/// Policies, and an audience, without wildcards (`*`, `?`).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scopes {
    /// Policies that no credential may carry, such as `root`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forbidden: Vec<String>,
    /// Why.
    pub reason: String,
    /// Who answers for this rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

/// How many approvals each phase needs.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Approvals {
    /// Per severity: phases, and how many people must approve each. A severity also needs what the lower ones need.
    pub by_severity: BySeverity<BTreeMap<String, u32>>,
    /// Whether a runbook may allow `--break-glass`.
    #[serde(default = "yes")]
    pub break_glass: bool,
    /// Why.
    pub reason: String,
    /// Who answers for this rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

fn yes() -> bool {
    true
}

/// How long the time between two rotations may be.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MostCadence {
    /// Per severity: the longest time between two rotations, such as `90d`. A severity also needs what the lower ones
    /// need.
    pub by_severity: BySeverity<Cadence>,
    /// Why.
    pub reason: String,
    /// Who answers for this rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

/// Who answers for runbooks: every runbook names an owner.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Owners {
    /// The owners that there are; any when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<Vec<String>>,
    /// Why.
    pub reason: String,
    /// Who answers for this rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

/// Something for each severity.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, bound(deserialize = "T: Deserialize<'de>"))]
pub struct BySeverity<T> {
    /// For the severity `low`, and all above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<T>,
    /// For `medium`, and all above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub medium: Option<T>,
    /// For `high`, and `critical`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<T>,
    /// For `critical`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical: Option<T>,
}

/// The severities, the lowest first.
pub(super) const SEVERITIES: [&str; 4] = ["low", "medium", "high", "critical"];

impl<T> BySeverity<T> {
    /// Those that hold for a severity, the lowest first.
    pub(super) fn up_to(&self, severity: &str) -> impl Iterator<Item = &T> {
        let upto = SEVERITIES.iter().position(|name| *name == severity).unwrap_or(SEVERITIES.len() - 1);
        [&self.low, &self.medium, &self.high, &self.critical].into_iter().take(upto + 1).flatten()
    }
}

/// Who may waive a rule for a runbook.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Waivers {
    /// The `allowed_signers` file of OpenSSH with the keys of those who waive. A relative path starts from the policy's
    /// directory.
    pub signers: String,
    /// Their principals, as the file of signers names them.
    pub from: Vec<String>,
    /// The longest time that a waiver may hold.
    pub within: Period,
}

/// A rule's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum Rule {
    /// How long a credential may live.
    MaxTtl,
    /// What no scope may hold.
    Scopes,
    /// How many approvals a phase needs.
    Approvals,
    /// How often to rotate.
    Cadence,
    /// Who answers for a runbook.
    Owners,
}

impl Rule {
    /// As the policy names it.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The rule of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::VARIANTS.iter().copied().find(|rule| rule.name() == name)
    }

    /// The names of all rules.
    pub fn names() -> impl Iterator<Item = &'static str> + Clone {
        Self::VARIANTS.iter().map(|rule| rule.name())
    }
}
