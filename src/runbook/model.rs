//! The runbook as types. Their doc comments are also the descriptions in `stanch schema`, and
//! the schema drawn from these types is what the structural check enforces: one source for
//! the editor, the check and the program.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::domain::{Call, Exec, ExecInput, ExecOptions, HttpCall, HttpMethod, Scope, Strategy};
use crate::domain::{Period, Phase};
use crate::secret::Alphabet;

/// A rotation that somebody reviewed: what to replace, where it lives, who uses it, and what
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
    /// The environments that this runbook may be run in, each with its own values. `--env` names
    /// one; `${env.KEY}` stands for its values. The environment `sandbox` replaces every
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
    /// What to wait for, and own steps to take, in each phase.
    #[serde(default)]
    pub phases: Phases,
    /// Conditions that phases wait for, by name. `adopted` is built in: every consumer attests
    /// that it uses the incoming credential.
    #[serde(default)]
    pub gates: BTreeMap<String, Gate>,
    /// Bounds of the run.
    #[serde(default)]
    pub limits: Limits,
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

/// A server, and how to reach it. Tokens and keys never stand here: they come from the
/// environment, as the server's own tools take them.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Connection {
    /// HashiCorp Vault or OpenBao.
    Vault {
        /// The server's address; else `VAULT_ADDR`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<String>,
        /// The namespace; else `VAULT_NAMESPACE`. Refused where the server has none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        /// A file with the CA certificate in PEM; else `VAULT_CACERT`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ca_cert: Option<String>,
    },
    /// Amazon Web Services, or a server that speaks its protocols.
    Aws {
        /// The region; else the AWS default chain.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        region: Option<String>,
        /// The account that the credentials must belong to; compared with STS before any write.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(regex(pattern = r"^(\d{12}|\$\{.*\})$"))]
        account: Option<String>,
        /// The profile of the shared configuration files; else `AWS_PROFILE`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        profile: Option<String>,
        /// Another endpoint for every service; else `AWS_ENDPOINT_URL`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        endpoint_url: Option<String>,
    },
    /// The embedded sandbox: a small world of issuers, stores and consumers in the state folder.
    Sandbox {
        /// How long each of its calls takes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        latency: Option<Period>,
    },
}

/// One credential: who issues it, where it is kept, who uses it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// The system that decides whether the credential is valid.
    pub issuer: Issuer,
    /// The widest that the incoming credential may be. Checked right after it was issued.
    #[serde(default)]
    pub scope: Scope,
    /// The places that consumers read it from. The first one is where the outgoing version is
    /// read at the start.
    #[schemars(length(min = 1))]
    pub stores: Vec<Store>,
    /// What uses it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consumers: Vec<Consumer>,
    /// Checks that the incoming credential works. After `revoke` the same checks must refuse the
    /// outgoing one, unless `rejects` says otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepts: Vec<Probe>,
    /// Checks that must refuse the outgoing credential at the end; `accepts` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejects: Option<Vec<Probe>>,
    /// Credentials that come first, in every phase.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
}

/// Who issues a credential.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Issuer {
    /// An issuer of the sandbox.
    Sandbox {
        /// A connection of type `sandbox`.
        connection: String,
        /// What the credential may do.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        policies: Vec<String>,
        /// How long the credential lives.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ttl: Option<Period>,
        /// How many may be alive at once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(range(min = 1))]
        coexist: Option<u32>,
        /// Whether the issuer can disable a credential reversibly.
        #[serde(default = "yes")]
        can_disable: bool,
    },
    /// A value generated here. `apply` tells the authority to accept it as well; without it the
    /// stores are the only authority.
    Random {
        /// What it is made of.
        #[serde(default)]
        alphabet: Alphabet,
        /// How many characters; 112 bits at the least.
        #[serde(default = "default_length")]
        length: usize,
        /// Tells the authority to accept the incoming value. The value goes to standard input, or
        /// into the request's body.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        apply: Option<Call>,
        /// Tells the authority to refuse the outgoing value, for good. Gets the outgoing value.
        /// On rollback it gets the incoming one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        revoke: Option<Call>,
    },
    /// A Vault token, made through a token role and watched and revoked by its accessor.
    VaultToken {
        /// A connection of type `vault`.
        connection: String,
        /// The token role; without one the token is made as an orphan (`create-orphan`).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        role: Option<String>,
        /// The token's policies.
        #[schemars(length(min = 1))]
        policies: Vec<String>,
        /// How long it lives.
        ttl: Period,
        /// How often it may be used; 0 is without limit.
        #[serde(default, skip_serializing_if = "is_zero")]
        num_uses: u32,
        /// The networks that it may be used from. Set by the role; checked after issuing.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        bound_cidrs: Vec<String>,
    },
    /// An access key of an IAM user. A user may have two.
    IamAccessKey {
        /// A connection of type `aws`.
        connection: String,
        /// The user's name.
        user: String,
    },
}

/// A versioned place that consumers read from.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Store {
    /// A store of the sandbox.
    Sandbox {
        /// A connection of type `sandbox`.
        connection: String,
        /// The secret's path.
        path: String,
        /// Whether versions carry labels (as in AWS Secrets Manager), or only numbers (as in KV v2).
        #[serde(default = "yes")]
        labels: bool,
    },
    /// Vault's KV version 2 engine.
    Kv2 {
        /// A connection of type `vault`.
        connection: String,
        /// The mount's path.
        mount: String,
        /// The secret's path below the mount.
        path: String,
        /// The field to write. Other fields stay as they are.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        field: Option<String>,
        /// For credentials of several parts: `PART: FIELD`, which part goes into which field.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        fields: BTreeMap<String, String>,
        /// Whether `revoke` also destroys the version that holds the outgoing value.
        #[serde(default)]
        destroy_outgoing: bool,
    },
    /// AWS Secrets Manager.
    Secretsmanager {
        /// A connection of type `aws`.
        connection: String,
        /// The secret's name or ARN.
        secret: String,
        /// The JSON field to write; without one the value is the whole string.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        field: Option<String>,
        /// For credentials of several parts: `PART: FIELD`, which part goes into which JSON field.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        fields: BTreeMap<String, String>,
    },
    /// A file on this machine, replaced atomically, its mode kept.
    File {
        /// The file's path.
        path: String,
        /// The file's format.
        format: FileFormat,
        /// The key to write; `/a/b` reaches into JSON and YAML. Not for `text`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
}

/// The format of a file store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FileFormat {
    /// `KEY=value` lines.
    Dotenv,
    /// A JSON document.
    Json,
    /// A YAML document; comments and layout stay.
    Yaml,
    /// The whole file is the value.
    Text,
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

/// How a consumer says which version of a credential it uses.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Attest {
    /// A GET request, to every instance.
    Http {
        /// The address, where there is one instance.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        url: Option<String>,
        /// The addresses, one for each instance.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        urls: Vec<String>,
        /// The JSON pointer to the SHA-256 (lower-case hex) of the value in use.
        fingerprint: String,
    },
    /// A program that prints the SHA-256 of the value in use, one line for each instance.
    Exec {
        /// The program and its arguments; no shell.
        #[schemars(length(min = 1))]
        argv: Vec<String>,
        /// How long it may take.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout: Option<Period>,
    },
    /// A consumer of the sandbox.
    Sandbox {
        /// How many instances it has.
        #[serde(default = "one")]
        #[schemars(range(min = 1, max = 1000))]
        instances: u32,
    },
}

/// A check against a relying party that uses the credential.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Probe {
    /// A request that carries the credential.
    Http {
        /// The method.
        #[serde(default = "get")]
        method: HttpMethod,
        /// The address.
        url: String,
        /// Sends the credential as `Authorization: Bearer`.
        #[serde(default, skip_serializing_if = "is_false")]
        bearer: bool,
        /// Sends the credential in this header instead.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        header: Option<String>,
        /// The status that means *accepted*.
        #[serde(default = "ok")]
        #[schemars(range(min = 100, max = 599))]
        expect: u16,
        /// The statuses that mean *refused*. Anything else is inconclusive: a server that
        /// answers 500 refuses nothing.
        #[serde(default = "refusals")]
        refuse: Vec<u16>,
    },
    /// A program that gets the credential on standard input: exit status 0 is *accepted*, 1 is
    /// *refused*, anything else is inconclusive.
    Exec(Exec),
    /// A relying party of the sandbox.
    Sandbox {
        /// What it asks the credential for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        policy: Option<String>,
    },
}

/// A condition between phases.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Gate {
    /// A number from a JSON document, held against bounds. No number is never a pass.
    Http {
        /// The address.
        url: String,
        /// The JSON pointer to the number.
        json: String,
        /// Fails above this.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_most: Option<f64>,
        /// Fails below this.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_least: Option<f64>,
        /// How often it is asked.
        #[serde(default = "every")]
        every: Period,
        /// How many failures in a row make a failure.
        #[serde(default = "one")]
        #[schemars(range(min = 1))]
        failures: u32,
    },
    /// A program: exit status 0 passes, 1 fails, anything else is an error and does not pass.
    Exec {
        /// The program and its arguments; no shell.
        #[schemars(length(min = 1))]
        argv: Vec<String>,
        /// How often it is run.
        #[serde(default = "every")]
        every: Period,
        /// How long it may take.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout: Option<Period>,
        /// How many failures in a row make a failure.
        #[serde(default = "one")]
        #[schemars(range(min = 1))]
        failures: u32,
    },
    /// The share of calls that the sandbox's consumers had refused lately.
    Sandbox {
        /// Fails above this.
        at_most: f64,
        /// How often it is asked.
        #[serde(default = "every")]
        every: Period,
    },
}

/// Per phase: what to wait for, and own steps.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Phases {
    /// Issues the incoming credential.
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
    /// Disables the outgoing credential reversibly, and watches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sunset: Option<PhaseSpec>,
    /// Destroys the outgoing credential: the point of no return.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoke: Option<PhaseSpec>,
    /// Uses the outgoing credential and demands refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<PhaseSpec>,
}

impl Phases {
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
    /// Own steps before the phase's steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<OwnStep>,
    /// Own steps after the phase's steps, before it waits.
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
    /// A question that a person answers with yes; without a terminal, `--confirm NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manual: Option<String>,
    /// What takes the step back; `none` says that nothing needs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<Undo>,
    /// How to settle a step whose outcome is unknown.
    #[serde(default)]
    pub class: OwnClass,
    /// A program that tells whether the step took effect: exit status 0 yes, 1 no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observe: Option<Exec>,
}

/// How the unknown outcome of an own step is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OwnClass {
    /// It cannot be: the run stops and asks.
    #[default]
    Opaque,
    /// By doing it again, which is harmless.
    Idempotent,
}

/// What takes an own step back.
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

/// Bounds of a run.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// How many calls may be under way at once.
    #[schemars(range(min = 1, max = 1024))]
    pub concurrency: usize,
    /// How long one call may take.
    pub deadline: Period,
    /// How often a call that definitely changed nothing is tried, where trying again can help.
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

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}

fn default_length() -> usize {
    40
}

fn ok() -> u16 {
    200
}

fn refusals() -> Vec<u16> {
    vec![401, 403]
}

fn every() -> Period {
    Period::seconds(5)
}

fn get() -> HttpMethod {
    HttpMethod::Get
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

fn is_false(b: &bool) -> bool {
    !b
}
