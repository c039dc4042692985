//! The runbook as types. Their doc comments are also the descriptions in `stanch schema`, and
//! the schema drawn from these types is what the structural check enforces: one source for
//! the editor, the check and the program.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::notify::Notify;
use crate::domain::{Cadence, Period, Phase, Window};
pub use crate::domain::{Call, Exec, ExecInput, ExecOptions, HttpCall, HttpMethod, Scope, Strategy};
pub use crate::kind::file::FileFormat;
pub use crate::kind::{Attest, Connection, Gate, Issuer, Probe, Store};

/// A rotation that a person reviewed: what to replace, where it lives, who uses it, and what
/// must hold before each next phase.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "stanch runbook")]
pub struct Runbook {
    /// The format's version: 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// A short name, used in run names and messages.
    #[schemars(regex(pattern = r"^[a-z0-9][a-z0-9-]{0,62}$"))]
    pub name: String,
    /// One sentence: what this rotation replaces and why one would run it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Who answers for this runbook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// How bad a leak of these credentials is.
    #[serde(default)]
    pub severity: Severity,
    /// How often to rotate: days or weeks between two rotations (`90d`, `12w Europe/Berlin`), or a cron expression
    /// and its time zone (`0 9 1 * * Europe/Berlin`). `stanch calendar` says what is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cadence: Option<Cadence>,
    /// The deployment windows: the times in which consumers may be moved to the new credential. Under `overlap`, `cutover`
    /// waits for the next one; under `contain` they are only shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
    /// The environments that this runbook may be run in, each with its own values. `--env` names
    /// one; `${env.KEY}` is replaced by its values. The environment `sandbox` replaces every
    /// connection with the embedded sandbox.
    pub environments: BTreeMap<String, BTreeMap<String, String>>,
    /// The order of the phases: `overlap` avoids an outage, `contain` stops an attacker first.
    #[serde(default)]
    pub strategy: Strategy,
    /// The servers that are talked to, by the names that the rest of the file uses.
    #[serde(default)]
    pub connections: BTreeMap<String, Connection>,
    /// The credentials to rotate, by name.
    pub credentials: BTreeMap<String, Credential>,
    /// What to wait for, and custom steps to take, in each phase.
    #[serde(default)]
    pub phases: Phases,
    /// Conditions that phases wait for, by name. `adopted` is built in: every consumer attests
    /// that it uses the new credential.
    #[serde(default)]
    pub gates: BTreeMap<String, Gate>,
    /// Bounds of the run.
    #[serde(default)]
    pub limits: Limits,
    /// Who must approve which phase before it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approvals: Option<Approvals>,
    /// Who is told what happens, besides the channels of `notify.yaml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<Notify>,
}

/// How bad a leak is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth doing this week.
    Low,
    /// Worth doing today.
    #[default]
    Medium,
    /// Worth doing now.
    High,
    /// Worth waking people for.
    Critical,
}

/// One credential: who issues it, where it is kept, who uses it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// The system that decides whether the credential is valid.
    pub issuer: Issuer,
    /// The widest that the new credential may be. stanch checks it right after issuing.
    #[serde(default)]
    pub scope: Scope,
    /// The places that consumers read it from. The first one is where the old version is
    /// read at the start. Without stores, `outgoing` names the old version, and the issuer or a custom
    /// step delivers the new one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stores: Vec<Store>,
    /// The handle of the old version (an accessor, an access key ID), where no store holds it or
    /// the stores hold another one. `--outgoing` overrides it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^\S+$"))]
    pub outgoing: Option<String>,
    /// What uses it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consumers: Vec<Consumer>,
    /// Checks that the new credential works. After `revoke` the same checks must refuse the
    /// old one, unless `rejects` says otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepts: Vec<Probe>,
    /// Checks that must refuse the old credential at the end; `accepts` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejects: Option<Vec<Probe>>,
    /// Credentials that come first, in every phase.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
}

/// What uses a credential.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Consumer {
    /// Its name.
    pub name: String,
    /// Tells it to read the stores again. Must be harmless to repeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload: Option<Call>,
    /// Asks it which version it uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attest: Option<Attest>,
}

/// Per phase: what to wait for, and custom steps.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Phases {
    /// Issues the new credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepare: Option<PhaseSpec>,
    /// Stages it in every store, not yet current.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distribute: Option<PhaseSpec>,
    /// Checks that it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<PhaseSpec>,
    /// Makes it current and tells the consumers to reload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cutover: Option<PhaseSpec>,
    /// Both are valid while consumers move over. Skipped by the strategy `contain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<PhaseSpec>,
    /// Disables the old credential reversibly, and watches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sunset: Option<PhaseSpec>,
    /// Destroys the old credential: the point of no return.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoke: Option<PhaseSpec>,
    /// Uses the old credential and demands refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<PhaseSpec>,
}

impl Phases {
    /// The custom step with this name.
    pub fn own_step(&self, name: &str) -> Option<&OwnStep> {
        let phases = Phase::ALL.iter().filter_map(|phase| self.of(*phase));
        phases.flat_map(|phase| phase.before.iter().chain(&phase.after)).find(|step| step.name == name)
    }

    /// What the runbook says about a phase.
    pub fn of(&self, phase: Phase) -> Option<&PhaseSpec> {
        match phase {
            Phase::Preflight => None,
            Phase::Prepare => self.prepare.as_ref(),
            Phase::Distribute => self.distribute.as_ref(),
            Phase::Verify => self.verify.as_ref(),
            Phase::Cutover => self.cutover.as_ref(),
            Phase::Overlap => self.overlap.as_ref(),
            Phase::Sunset => self.sunset.as_ref(),
            Phase::Revoke => self.revoke.as_ref(),
            Phase::Proof => self.proof.as_ref(),
        }
    }
}

/// What one phase waits for.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PhaseSpec {
    /// The phase lasts at least this long, by the wall clock, across restarts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<Period>,
    /// If its gates do not pass by then, the run pauses; `at_least` and one hour when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<Period>,
    /// The gates that must pass. For `overlap`, `adopted` when left out and consumers attest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Vec<String>>,
    /// For `verify` and `proof`: how many answers in a row count as one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub times: Option<u32>,
    /// For `verify` and `proof`: how long between two answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Period>,
    /// For `proof`: how long to go on using the old credential after the proof, as the gate `refused`. The phase lasts
    /// at least this long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<Period>,
    /// Custom steps before the phase's steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<OwnStep>,
    /// Custom steps after the phase's steps, before it waits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<OwnStep>,
}

/// A step of the runbook's own. Exactly one of `exec`, `http` and `manual`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnStep {
    /// Its name, unique in the runbook.
    #[schemars(regex(pattern = r"^[a-z0-9][a-z0-9-]{0,62}$"))]
    pub name: String,
    /// A program to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<Exec>,
    /// A request to send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCall>,
    /// The credential whose new version the step delivers: on standard input, or in the request as
    /// `bearer` and `${secret}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// A question that a person answers with yes; without a terminal, `--confirm NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manual: Option<String>,
    /// What undoes the step; `none` says that nothing needs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<Undo>,
    /// How to settle a step whose outcome is unknown.
    #[serde(default)]
    pub class: OwnClass,
    /// A program that tells whether the step took effect: exit status 0 yes, 1 no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observe: Option<Exec>,
}

/// How the unknown outcome of a custom step is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OwnClass {
    /// It cannot be settled: the run stops and asks.
    #[default]
    Opaque,
    /// By repeating it, which is harmless.
    Idempotent,
}

/// What undoes a custom step.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Undo {
    /// Nothing needs to.
    None,
    /// A program.
    Exec(Exec),
    /// A request.
    Http(HttpCall),
    /// A question that a person answers.
    Manual(String),
}

/// Who must approve which phase before it begins.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Approvals {
    /// The `allowed_signers` file of OpenSSH with the keys of everyone who asks for a run or approves one. Its text
    /// becomes part of the plan.
    pub signers: String,
    /// The principals of each role, as the file of signers names them.
    pub roles: BTreeMap<String, Vec<String>>,
    /// What each phase needs before it begins.
    pub phases: ApprovedPhases,
    /// Whether `--break-glass`, with a reason and a ticket, may replace every approval.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub break_glass: bool,
    /// Whether the sandbox needs the approvals as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sandbox: bool,
}

/// The phases that need approvals.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovedPhases {
    /// Before the new credential is issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepare: Option<ApprovalRule>,
    /// Before it is staged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distribute: Option<ApprovalRule>,
    /// Before it is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<ApprovalRule>,
    /// Before it is made current.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cutover: Option<ApprovalRule>,
    /// Before consumers are waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<ApprovalRule>,
    /// Before the old credential is disabled. Under `contain`, that is the kill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sunset: Option<ApprovalRule>,
    /// Before the old credential is destroyed: the point of no return.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoke: Option<ApprovalRule>,
}

impl ApprovedPhases {
    /// What a phase needs.
    pub fn of(&self, phase: Phase) -> Option<&ApprovalRule> {
        match phase {
            Phase::Preflight | Phase::Proof => None,
            Phase::Prepare => self.prepare.as_ref(),
            Phase::Distribute => self.distribute.as_ref(),
            Phase::Verify => self.verify.as_ref(),
            Phase::Cutover => self.cutover.as_ref(),
            Phase::Overlap => self.overlap.as_ref(),
            Phase::Sunset => self.sunset.as_ref(),
            Phase::Revoke => self.revoke.as_ref(),
        }
    }
}

/// What one phase needs.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRule {
    /// How many people must approve.
    #[schemars(range(min = 1, max = 100))]
    pub count: u32,
    /// The roles whose members may approve.
    pub from: Vec<String>,
    /// How long an approval holds; 8h when left out.
    #[serde(default = "eight_hours")]
    pub within: Period,
    /// Whether each approval must be signed with a security key that was touched.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub presence: bool,
    /// Whether each approval must be signed with a security key that took a PIN.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pin: bool,
}

/// A shift.
fn eight_hours() -> Period {
    Period::seconds(8 * 3600)
}

/// Bounds of a run.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// How many calls may be under way at once.
    #[schemars(range(min = 1, max = 1024))]
    pub concurrency: usize,
    /// How long one call may take.
    pub deadline: Period,
    /// How often a call that definitely changed nothing is tried, where trying again can help. A refusal for the
    /// number of requests does not count.
    #[schemars(range(min = 1, max = 20))]
    pub attempts: u32,
}

impl Default for Limits {
    fn default() -> Self {
        // 16 calls keep two stores busy without tripping AWS's default rate limits; 30 s is beyond
        // what a healthy Vault or AWS call takes; 5 tries with doubling waits span about 15 s.
        Self { concurrency: 16, deadline: Period::seconds(30), attempts: 5 }
    }
}
