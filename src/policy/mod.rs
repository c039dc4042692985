//! The policy: what an organisation demands of every runbook, and who may waive it.
//!
//! Pure: the texts of the policy, of the runbook and of the waivers, and the moment, arrive as values.

mod check;
mod model;
mod rules;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use serde_json::{Value as Json, json};

pub use check::{Checked, check};
pub use model::{Change, Policy, Rule, Waivers};
pub use rules::Violation;
pub(crate) use rules::violations;

static SCHEMA: LazyLock<Json> = LazyLock::new(|| {
    let mut schema = Json::from(schemars::schema_for!(Policy));
    schema["$id"] = json!("urn:stanch:policy:1");
    schema
});

/// The JSON Schema (draft 2020-12) of `policy.yaml`, for editors.
pub fn schema() -> &'static Json {
    &SCHEMA
}
