//! What can happen in a run. These are the bodies of the journal's records; the state is a fold
//! over them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantNames};

use super::end::{End, Stop};
use super::outcome::{Ended, Facts, Failure, Found, Op};
use super::seen::{Holds, Sight};
use crate::approve::Signed;
use crate::domain::{Check, Phase, Verdict, Who};
use crate::plan::Plan;

/// Something that happened.
#[derive(Debug, Clone, Serialize, Deserialize, IntoStaticStr, VariantNames)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Event {
    /// The run was opened with this plan. Always, and only, the first record.
    Opened {
        /// The plan. Only this one is ever used.
        #[serde(rename = "plan_body")]
        plan: Box<Plan>,
        /// Why, in the words of whoever started it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A process took the run up again. Whatever was under way has an unknown outcome.
    Resumed {},
    /// A phase began.
    Entered {
        /// The phase.
        phase: Phase,
    },
    /// An effect is about to be made. Durable before the call.
    Intent {
        /// The step's id.
        step: String,
        /// What is done with the step.
        op: Op,
        /// Which try it is, from 1.
        attempt: u32,
        /// How often the step was taken back before. Part of the idempotency token.
        round: u32,
    },
    /// How an effect, or a look, ended.
    Outcome {
        /// The step's id.
        step: String,
        /// What was done with it.
        op: Op,
        /// Which try it was.
        attempt: u32,
        /// How it ended.
        result: Ended,
        /// What later steps need to know of it; never a secret.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        facts: Facts,
        /// What was looked at, and found.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        checks: Vec<Check>,
        /// What went wrong.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Failure>,
        /// How long the call took, in milliseconds.
        latency_ms: u64,
    },
    /// An unknown outcome was looked into.
    Settled {
        /// The step's id.
        step: String,
        /// What had been done with it.
        op: Op,
        /// Which try it was.
        attempt: u32,
        /// What was found.
        found: Found,
        /// What later steps need to know of it.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        facts: Facts,
        /// What it was found from.
        detail: String,
    },
    /// A person said what became of a step.
    Resolved {
        /// The step's id.
        step: String,
        /// What the person says.
        applied: bool,
        /// What the person looked at.
        evidence: String,
        /// What follows from it that later steps need to know: the handle of a value that was made here.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        facts: Facts,
    },
    /// A gate's verdict changed.
    Judged {
        /// The gate.
        gate: String,
        /// The verdict.
        verdict: Verdict,
        /// What it was found from.
        detail: String,
    },
    /// A person said of a gate that gives no verdict that its condition holds. Valid until the phase is over.
    Vouched {
        /// The gate.
        gate: String,
        /// The phase that waits for it.
        phase: Phase,
        /// What the person looked at.
        evidence: String,
    },
    /// The number of a consumer's instances that use the wanted version changed.
    Adopted {
        /// The credential.
        credential: String,
        /// The consumer.
        consumer: String,
        /// How many use it.
        instances: usize,
        /// Of how many.
        of: usize,
    },
    /// Rollback begins.
    Turned {
        /// Back to the end of this phase; `None` is all the way.
        to: Option<Phase>,
        /// Why.
        why: String,
        /// Whether the engine decided it, because a gate failed.
        by_gate: bool,
        /// The phase that is undone first. Versions that began in the phase that the run was in left later ones as they
        /// were, and wrote records without this.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Phase>,
    },
    /// Rollback reached the phase that it was to reach.
    Returned {
        /// The phase.
        phase: Phase,
    },
    /// A rollback that could not be finished is given up: the run goes forward again.
    Forward {
        /// Why.
        why: String,
    },
    /// Under `contain`: the new credential took too long, so the old one is killed first.
    Deferred {},
    /// A new credential that was refused or judged too wide is to be revoked and issued anew.
    Reissue {
        /// The credential.
        credential: String,
        /// Whether the way back takes out what was staged before, should issuing again fail. Versions that left it there
        /// wrote records without this.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        takes_back: bool,
    },
    /// A new credential is to be written into its stores again, over whatever they hold now.
    Rewrite {
        /// The credential.
        credential: String,
        /// Whether the way back takes back what was done before, should writing again fail. Versions that forgot it left
        /// consumers with the new credential, and wrote records without this.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        takes_back: bool,
    },
    /// What the world showed of a credential when it was looked at, read-only.
    Seen {
        /// The credential.
        credential: String,
        /// What each of its stores hands out, in the plan's order.
        stores: Vec<Holds>,
        /// The old credential.
        outgoing: Sight,
        /// The new credential.
        incoming: Sight,
    },
    /// A place accepted the old credential after its proof, while the run goes on using it.
    LetIn {
        /// The step of the proof that used it there.
        step: String,
        /// In a sentence.
        detail: String,
    },
    /// Who asked for the run, signed. Whoever did cannot approve it.
    Requested {
        /// Who, as a principal.
        by: String,
        /// The fingerprint of the key.
        key: String,
        /// What was signed.
        signed: Signed,
    },
    /// Somebody lets phases begin, signed.
    Approved {
        /// Who, as a principal.
        by: String,
        /// The fingerprint of the key.
        key: String,
        /// The phases.
        phases: Vec<Phase>,
        /// What was signed: the plan, the reason, the ticket, and until when it holds.
        signed: Signed,
    },
    /// Somebody goes on without the approvals that are missing.
    BrokeGlass {
        /// Who ran the process.
        by: String,
        /// Why.
        reason: String,
        /// Where that is written down.
        ticket: String,
    },
    /// Somebody lets cutover begin outside of the deployment windows. Valid for the next time that it begins.
    WindowOverridden {
        /// Who ran the process.
        by: String,
        /// Why.
        reason: String,
    },
    /// Who runs this process, as its surroundings say. Nobody proved any of it.
    Identified {
        /// Who.
        who: Who,
    },
    /// The process is a part of this trace, as its environment says.
    Traced {
        /// Its place in the trace, as W3C Trace Context writes a `traceparent`.
        parent: String,
    },
    /// The latch was seen.
    Halted {
        /// Who set it.
        by: String,
        /// Why.
        reason: String,
    },
    /// The latch was taken off.
    HaltCleared {
        /// Who did.
        by: String,
    },
    /// Still waiting.
    Heartbeat {},
    /// Something to know that changes nothing.
    Noted {
        /// A sentence.
        text: String,
    },
    /// The run is part of a drill, which began at this moment.
    Drill {
        /// The scenario, as it was written: whoever has the record can score the drill again.
        scenario: String,
        /// When the drill began: its background was told.
        begun: Timestamp,
    },
    /// Something befell the people or the world of a drill.
    Injected {
        /// Its name in the scenario.
        inject: String,
        /// What the people who take part were told.
        text: String,
        /// Who let it happen, where that was done by hand.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// The facilitator of a drill decided that this does not happen.
    Skipped {
        /// Its name in the scenario.
        inject: String,
        /// Who decided it.
        by: String,
    },
    /// A person answered a question of a drill.
    Answered {
        /// What the question was about: its name in the scenario.
        inject: String,
        /// The answer, one of those that the scenario offers.
        answer: String,
        /// Who gave it.
        by: String,
    },
    /// A line that was torn by a crash was cut off.
    Repaired {
        /// How many bytes.
        bytes: u64,
        /// Their SHA-256, in hex.
        sha256: String,
    },
    /// The process ends here; the run stays open.
    Stopped {
        /// Why.
        reason: Stop,
    },
    /// The run is over.
    Closed {
        /// How it ended.
        end: End,
    },
    /// A signed note over the Merkle root of all lines before it.
    Checkpoint {
        /// The note's text.
        note: String,
    },
}

impl Event {
    /// The id of the step that it is about.
    pub fn step(&self) -> Option<&str> {
        match self {
            Self::Intent { step, .. }
            | Self::Outcome { step, .. }
            | Self::Settled { step, .. }
            | Self::Resolved { step, .. }
            | Self::LetIn { step, .. } => Some(step),
            _ => None,
        }
    }

    /// Cleans every text that came from outside: from servers, programs and people. Names, ids and facts are
    /// what later steps work with: they stay.
    pub fn scrub(&mut self, clean: &dyn Fn(&str) -> String) {
        let wash = |text: &mut String| *text = clean(text);
        match self {
            Self::Opened { plan: _, reason } => {
                if let Some(reason) = reason {
                    wash(reason);
                }
            }
            Self::Outcome {
                step: _,
                op: _,
                attempt: _,
                result: _,
                facts: _,
                checks,
                error,
                latency_ms: _,
            } => {
                checks.iter_mut().for_each(|check| check.scrub(clean));
                if let Some(Failure { kind: _, message, hint, request_id, retry_after_ms: _ }) = error {
                    [Some(message), hint.as_mut(), request_id.as_mut()].into_iter().flatten().for_each(wash);
                }
            }
            Self::Settled { step: _, op: _, attempt: _, found: _, facts: _, detail }
            | Self::Judged { gate: _, verdict: _, detail }
            | Self::LetIn { step: _, detail } => wash(detail),
            Self::Resolved { step: _, applied: _, evidence, facts: _ }
            | Self::Vouched { gate: _, phase: _, evidence } => wash(evidence),
            Self::Turned { to: _, why, by_gate: _, from: _ } | Self::Forward { why } => wash(why),
            Self::Halted { by: _, reason } | Self::WindowOverridden { by: _, reason } => wash(reason),
            Self::Noted { text } => wash(text),
            Self::BrokeGlass { by: _, reason, ticket } => [reason, ticket].into_iter().for_each(wash),
            Self::Identified { who } => who.scrub(clean),
            // What is signed is kept word by word, or the signature would not fit; whoever records it makes sure first that it
            // holds no secret.
            Self::Requested { by: _, key: _, signed: _ }
            | Self::Approved { by: _, key: _, phases: _, signed: _ }
            | Self::Resumed {}
            | Self::Entered { phase: _ }
            | Self::Intent { step: _, op: _, attempt: _, round: _ }
            | Self::Adopted { credential: _, consumer: _, instances: _, of: _ }
            | Self::Returned { phase: _ }
            | Self::Deferred {}
            | Self::Reissue { credential: _, takes_back: _ }
            | Self::Rewrite { credential: _, takes_back: _ }
            | Self::Seen { credential: _, stores: _, outgoing: _, incoming: _ }
            | Self::HaltCleared { by: _ }
            // Digits that were read as such.
            | Self::Traced { parent: _ }
            | Self::Heartbeat {}
            // Words of the scenario, which is searched for secrets before a drill begins, and names.
            | Self::Drill { scenario: _, begun: _ }
            | Self::Injected { inject: _, text: _, by: _ }
            | Self::Skipped { inject: _, by: _ }
            | Self::Answered { inject: _, answer: _, by: _ }
            | Self::Repaired { bytes: _, sha256: _ }
            | Self::Stopped { reason: _ }
            | Self::Closed { end: _ }
            | Self::Checkpoint { note: _ } => {}
        }
    }

    /// The names of all types of events, as the journal has them.
    pub const TYPES: &'static [&'static str] = Self::VARIANTS;

    /// The name of its type.
    pub fn name(&self) -> &'static str {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ErrorKind;

    /// Whether serde knows an event of this type, whatever it misses of its fields.
    fn is_known(name: &str) -> bool {
        let read = serde_json::from_value::<Event>(serde_json::json!({ "type": name }));
        read.err().is_none_or(|e| !e.to_string().contains("unknown variant"))
    }

    #[test]
    fn the_names_are_those_of_the_journal() {
        assert!(Event::TYPES.iter().all(|t| is_known(t)) && !is_known("nothing"));
        let others = serde_json::from_value::<Event>(serde_json::json!({ "type": "" })).expect_err("no type");
        assert_eq!(others.to_string().matches('`').count(), 2 * (Event::TYPES.len() + 1), "{others}");
        for event in [Event::Heartbeat {}, Event::HaltCleared { by: "x".into() }] {
            let name = serde_json::to_value(&event).expect("JSON")["type"].clone();
            assert_eq!(name, event.name());
        }
    }

    #[test]
    fn every_text_from_outside_is_cleaned() {
        let said = || "said".to_owned();
        let check = Check { hint: Some(said()), ..Check::pass("said", "said") };
        let error = Failure {
            kind: ErrorKind::Denied,
            message: said(),
            hint: Some(said()),
            request_id: Some(said()),
            retry_after_ms: None,
        };
        let (step, op, attempt) = (|| "a/b/c".to_owned(), Op::Do, 1);
        let facts = Facts::from([("version".to_owned(), "7".to_owned())]);
        for mut event in [
            Event::Outcome {
                step: step(),
                op,
                attempt,
                result: Ended::Rejected,
                facts: facts.clone(),
                checks: vec![check],
                error: Some(error),
                latency_ms: 1,
            },
            Event::Settled { step: step(), op, attempt, found: Found::Applied, facts, detail: said() },
            Event::Judged { gate: "g".into(), verdict: Verdict::Fail, detail: said() },
            Event::Resolved { step: step(), applied: true, evidence: said(), facts: Facts::new() },
            Event::Vouched { gate: "g".into(), phase: Phase::Overlap, evidence: said() },
            Event::Turned { to: None, why: said(), by_gate: false, from: None },
            Event::Halted { by: "me".into(), reason: said() },
            Event::WindowOverridden { by: "me".into(), reason: said() },
            Event::Noted { text: said() },
        ] {
            event.scrub(&|text| text.replace("said", "*"));
            let json = serde_json::to_string(&event).expect("JSON");
            assert!(!json.contains("said") && json.contains('*'), "{json}");
        }
    }

    #[test]
    fn an_event_names_the_step_that_it_is_about() {
        let (step, op, attempt) = (|| "a/b/c".to_owned(), Op::Do, 1);
        let about = [
            Event::Intent { step: step(), op, attempt, round: 0 },
            Event::Resolved { step: step(), applied: true, evidence: "seen".into(), facts: Facts::new() },
        ];
        assert!(about.iter().all(|event| event.step() == Some("a/b/c")));
        assert_eq!(Event::Heartbeat {}.step(), None);
    }
}
