//! The words of a runbook about the sessions of a role.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::Period;
use crate::kind::every;
use crate::kind::postgres::Postgres;
use crate::kind::spec::{GateSpec, Kind, Names, On};

/// Passes when the old role of a credential has no session any more, as `pg_stat_activity` shows it. It never fails:
/// sessions that go on are waited for.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PgActivity {
    /// A connection of type `postgres`.
    pub connection: On<Postgres>,
    /// The credential whose old role is meant.
    pub credential: String,
    /// How many sessions it may still have.
    #[serde(default, skip_serializing_if = "crate::kind::is_default")]
    pub at_most: u32,
    /// How many looks in a row must find no more: a program that connects for a moment only may be missed by one.
    #[serde(default = "times")]
    #[schemars(range(min = 1))]
    pub times: u32,
    /// How often it is asked.
    #[serde(default = "every")]
    pub every: Period,
}

fn times() -> u32 {
    3
}

impl PgActivity {
    pub(in crate::kind) const KIND: Kind = Kind::named("pg-activity");
}

impl GateSpec for PgActivity {
    fn kind(&self) -> &'static Kind {
        &Self::KIND
    }

    fn every(&self) -> Duration {
        self.every.get()
    }

    fn names(&self) -> Vec<Names<'_>> {
        Vec::new()
    }

    fn about(&self) -> Option<&str> {
        Some(&self.credential)
    }
}
