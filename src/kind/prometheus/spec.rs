//! The words of a runbook about a query of Prometheus.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::Period;
use crate::kind::http::check_bounds;
use crate::kind::spec::{GateSpec, Kind, Names};
use crate::kind::{every, one};

/// The result of an instant query, held against bounds. Anything but one finite, fresh number is never a pass.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrometheusGate {
    /// The server's address, without `/api/v1/query`.
    pub url: String,
    /// The query, in PromQL.
    #[schemars(regex(pattern = r"\S"))]
    pub query: String,
    /// Fails above this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
    /// Fails below this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// Which series counts where the query has several. Without it, several are inconclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<Which>,
    /// How old the result may be.
    #[serde(default = "fresh")]
    pub max_age: Period,
    /// How often it is asked.
    #[serde(default = "every")]
    pub every: Period,
    /// How many failures in a row make a failure.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub failures: u32,
}

/// Which of several series counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Which {
    /// The largest.
    Max,
    /// The smallest.
    Min,
}

/// Longer than a scrape and its evaluation usually take; shorter than the five minutes for which Prometheus hands out
/// the last sample of a series that has gone away.
fn fresh() -> Period {
    Period::seconds(60)
}

impl PrometheusGate {
    pub(in crate::kind) const KIND: Kind = Kind { check: check_bounds, ..Kind::named("prometheus") };
}

impl GateSpec for PrometheusGate {
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
