//! The plan's digest.

use std::io::{BufWriter, Write as _};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::Plan;

impl Plan {
    /// The plan's digest: SHA-256 over its canonical JSON (RFC 8785), in hex.
    pub fn digest(&self) -> String {
        // Destructured, so that a new field cannot be forgotten.
        let Self {
            approvals,
            checks,
            credentials,
            directory,
            drill,
            environment,
            format,
            phases,
            policy,
            runbook,
            runbook_sha256,
            sandbox,
            steps,
            strategy,
            tool,
            unchecked,
        } = self;
        let mut digest = CanonicalObject::new();
        if let Some(approvals) = approvals {
            digest.field("approvals", approvals);
        }
        digest.field("checks", checks);
        digest.field("credentials", credentials);
        if let Some(directory) = directory {
            digest.field("directory", directory);
        }
        if let Some(drill) = drill {
            digest.field("drill", drill);
        }
        digest.field("environment", environment);
        digest.field("format", format);
        digest.field("phases", phases);
        if let Some(policy) = policy {
            digest.field("policy", policy);
        }
        digest.field("runbook", runbook);
        digest.field("runbook_sha256", runbook_sha256);
        digest.field("sandbox", sandbox);
        digest.field_in_order("steps", steps);
        digest.field("strategy", strategy);
        digest.field("tool", tool);
        digest.field("unchecked", unchecked);
        digest.finish()
    }
}

/// SHA-256 over an object's canonical JSON, field by field. The canonicalizer holds every object in
/// memory to sort it, and reads each name back to do so; both are felt where there are a hundred
/// thousand steps.
struct CanonicalObject {
    hashed: BufWriter<Sha256>,
    /// What comes before the next field.
    before: &'static str,
}

impl CanonicalObject {
    fn new() -> Self {
        Self { hashed: BufWriter::with_capacity(1 << 16, Sha256::new()), before: "{" }
    }

    /// The next field, in the order of their names.
    fn field(&mut self, name: &str, value: &impl Serialize) {
        self.name(name);
        serde_json_canonicalizer::to_writer(value, &mut self.hashed).expect("a plan is always JSON");
    }

    /// The next field, whose value has its own fields in order, and no number but indexes.
    fn field_in_order(&mut self, name: &str, value: &impl Serialize) {
        self.name(name);
        serde_json::to_writer(&mut self.hashed, value).expect("a plan is always JSON");
    }

    fn name(&mut self, name: &str) {
        write!(self.hashed, "{}\"{name}\":", self.before).expect("a hasher takes everything");
        self.before = ",";
    }

    fn finish(mut self) -> String {
        write!(self.hashed, "}}").expect("a hasher takes everything");
        let hasher = self
            .hashed
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error)
            .expect("a hasher takes everything");
        hex::encode(hasher.finalize())
    }
}
