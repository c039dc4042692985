//! The scenario as types. Their doc comments are also the descriptions in `stanch drill schema`.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::domain::{Period, Phase, Verdict};

static SCHEMA: LazyLock<Json> = LazyLock::new(|| {
    let mut schema = Json::from(schemars::schema_for!(Scenario));
    schema["$id"] = json!("urn:stanch:drill:1");
    schema
});

/// The JSON Schema (draft 2020-12) of scenarios, for editors.
pub fn schema() -> &'static Json {
    &SCHEMA
}

/// A drill: a runbook that is played in the sandbox, what befalls the people who play it, and what they are expected
/// to do.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "stanch drill")]
pub struct Scenario {
    /// The format's version: 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// A short name. Scores are compared with those of earlier drills of the same name.
    #[schemars(regex(pattern = r"^[a-z0-9][a-z0-9-]{0,62}$"))]
    pub name: String,
    /// One sentence: what this drill trains.
    pub summary: String,
    /// The runbook that is played, from this file's directory on. It may be one for real servers.
    pub runbook: String,
    /// The environment of the runbook whose values are used. The sandbox replaces every connection all the same.
    pub environment: String,
    /// How long each call to the sandbox takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Period>,
    /// What the participants are told at the start.
    pub background: String,
    /// What the participants should reach, measured from the start of the run.
    #[schemars(length(min = 1))]
    pub objectives: Vec<Expectation>,
    /// What befalls them, each when its event is on the record.
    #[serde(default)]
    pub injects: Vec<Inject>,
    /// The manual steps of the runbook that the scripted operator answers with yes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub confirms: Vec<String>,
    /// What the scripted operator types, when nobody plays. `stanch run` begins it.
    #[serde(default)]
    pub operator: Vec<Move>,
}

/// Something that happens to the participants or to the world.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Inject {
    /// A short name, for the facilitator and the record.
    #[schemars(regex(pattern = r"^[a-z0-9][a-z0-9-]{0,62}$"))]
    pub name: String,
    /// The event on the record that it waits for.
    pub when: Condition,
    /// How long after that event, in the drill's time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Period>,
    /// What the participants read. Without it, they notice only the effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What happens to the world.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    /// How long the effect lasts. Without it: once, or until somebody resumes the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Period>,
    /// The answers that participants choose from, where the text asks for a decision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// The right move, for the facilitator's eyes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub right: Option<String>,
    /// More for the facilitator: why, and what to talk about afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
    /// What the participants should do about it, measured from this inject.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<Expectation>,
}

/// Something that participants should do, or should not do. Exactly one of `did` and `never`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// It in one sentence.
    pub text: String,
    /// The record must show this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub did: Option<Condition>,
    /// The record must not show this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub never: Option<Condition>,
    /// Within this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Period>,
    /// Before this event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Condition>,
}

/// What the scripted operator types.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// The event on the record that it answers.
    pub when: Condition,
    /// How long after that event: how long a person takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Period>,
    /// The command without `stanch`: `resume`, `rollback --yes`, `halt --reason TEXT`, `resolve STEP --as applied
    /// --evidence TEXT`, `abandon`, `drill answer NAME CHOICE`. Quote words as in a shell.
    #[schemars(regex(pattern = r"^(resume|rollback|halt|resolve|abandon|drill answer)( .*)?$"))]
    pub types: String,
}

/// An event on the record. The first one that fits counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// The run enters this phase.
    Phase(Phase),
    /// So many consumers use the new credential, with all of their instances.
    Moved(#[schemars(range(min = 1))] u32),
    /// A step ends.
    Step(StepEnds),
    /// A gate gives a verdict.
    Gate(GateSays),
    /// A session stops, and the run stays open.
    Stopped(Why),
    /// A person does this.
    Person(Act),
    /// stanch rolls back automatically, because a gate failed or the new credential was refused.
    RollsBack(Nothing),
    /// This inject happens.
    Inject(String),
    /// A participant answers the question of an inject.
    Answer(Answers),
    /// The run ends. Only for expectations: nothing can happen after it.
    Ended(Ends),
}

/// How a step ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepEnds {
    /// What the step does.
    #[serde(rename = "do")]
    pub action: Doing,
    /// The credential that it does that to; any when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// How it ends; `succeeded` when left out.
    #[serde(default)]
    pub outcome: How,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Doing {
    /// Reads and seals the old value of a store.
    Capture,
    /// Issues the new credential.
    Issue,
    /// Compares the new credential with its scope.
    Inspect,
    /// Writes it into a store, not yet current.
    Stage,
    /// Uses it.
    Accept,
    /// Makes it current in a store.
    Promote,
    /// Tells a consumer to reload.
    Reload,
    /// Disables the old credential.
    Disable,
    /// Revokes the old credential.
    Revoke,
    /// Confirms that the old credential is rejected.
    Reject,
    /// A custom step of the runbook.
    Own,
}

/// How a step ends.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum How {
    /// It took effect.
    #[default]
    Succeeded,
    /// It changed nothing.
    Rejected,
    /// Nobody knows.
    Unknown,
    /// It was undone.
    Undone,
}

/// What a gate says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GateSays {
    /// The gate.
    pub name: String,
    /// Its verdict.
    pub verdict: Verdict,
}

/// Why a session stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Why {
    /// Whatever the cause.
    Any,
    /// A step failed.
    Failed,
    /// The outcome of a step is unknown.
    Unknown,
    /// Gates did not pass in time.
    Inconclusive,
    /// A gate failed where nothing rolls back by itself.
    GateFailed,
    /// The halt is set.
    Halted,
    /// A rollback is stuck.
    Stuck,
    /// A person's answer is missing.
    Unanswered,
    /// Others have changed what this run wrote.
    Overtaken,
    /// Consumers use another value than the new one, or do not say which.
    FellBack,
    /// Rollback reached the phase that it was asked for, or the run stopped as it was told to.
    Asked,
}

/// What a person does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Act {
    /// Sets the halt.
    Halt,
    /// Clears the halt.
    ClearHalt,
    /// Resumes the run.
    Resume,
    /// Rolls the run back.
    Rollback,
    /// Gives a rollback up and goes forward again.
    Forward,
    /// Has a new credential issued once more.
    Reissue,
    /// Has a new credential written once more.
    Rewrite,
    /// Says how a step of unknown outcome ended.
    Resolve,
    /// Closes a run that can neither finish nor roll back.
    Abandon,
}

/// An answer to a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Answers {
    /// The inject that asks.
    pub inject: String,
    /// The answer; any when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choice: Option<String>,
}

/// How a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Ends {
    /// The old credential is dead, and that is proved.
    Done,
    /// Everything was rolled back, by a person or by stanch.
    RolledBack,
    /// A step failed before anything was changed.
    Failed,
    /// Nothing could prove that the old credential is dead.
    NotProved,
    /// A person gave it up.
    Abandoned,
}

/// What happens to the world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// This consumer answers a reload and goes on with the old credential. When the effect is over, somebody
    /// restarts it.
    IgnoresReload(String),
    /// This gate fails.
    GateFails(String),
    /// Servers behind this connection answer that they are not ready: a sealed Vault.
    Unavailable(String),
    /// Servers behind this connection deny everything: the operator's token has expired.
    TokenExpired(String),
    /// The next such call takes effect, and its response is lost.
    ResponseLost(CallOf),
    /// The next such call never arrives, and nobody knows.
    RequestLost(CallOf),
    /// The disk is full: the next write of the journal fails, and the process ends.
    DiskFull(Nothing),
    /// A colleague creates a credential by hand and writes it into the first store of this one.
    Overwritten(String),
    /// A colleague revokes the new version of this credential by hand.
    NewRevoked(String),
    /// A colleague revokes the old version of this credential by hand.
    OldRevoked(String),
}

/// Which call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CallOf {
    /// What the step of the call does.
    #[serde(rename = "do")]
    pub action: Doing,
    /// The credential that it does that to.
    pub credential: String,
}

/// Nothing more to say: `{}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

impl Scenario {
    /// The inject of this name.
    pub fn inject(&self, name: &str) -> Option<&Inject> {
        self.injects.iter().find(|inject| inject.name == name)
    }
}

impl Inject {
    /// What the participants are told when it happens; nothing, where they are to notice the effect.
    pub fn told(&self) -> String {
        let text = self.text.as_deref().unwrap_or_default();
        let mut told = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if !self.choices.is_empty() {
            let choices = self.choices.join(" | ");
            told.push_str(&format!(" To answer: stanch drill answer {} [{choices}]", self.name));
        }
        told
    }
}

impl Condition {
    /// It, for a facilitator.
    pub fn words(&self) -> String {
        match self {
            Self::Phase(phase) => format!("phase {phase}"),
            Self::Moved(least) => format!("{least} consumers moved"),
            Self::Step(step) => {
                let word: &str = step.action.into();
                let of = step.credential.as_ref().map(|name| format!(" of {name}")).unwrap_or_default();
                let how: &str = step.outcome.into();
                format!("step {word}{of} {how}")
            }
            Self::Gate(says) => format!("gate {}: {}", says.name, says.verdict.name()),
            Self::Stopped(why) => format!("the session stops ({})", <&str>::from(why)),
            Self::Person(act) => format!("a person types: {}", <&str>::from(act)),
            Self::RollsBack(_) => "stanch rolls back automatically".into(),
            Self::Inject(name) => format!("inject {name}"),
            Self::Answer(Answers { inject, choice }) => {
                format!(
                    "an answer to {inject}{}",
                    choice.as_ref().map(|c| format!(": {c}")).unwrap_or_default()
                )
            }
            Self::Ended(end) => format!("the run ends ({})", <&str>::from(end)),
        }
    }
}
