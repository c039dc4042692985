//! What each audience can read: a type each. A template can name the fields of its audience's type, and nothing
//! else.

use serde::Serialize;

use crate::domain::Audience;

/// What those who work on the incident can read.
#[derive(Debug, Clone, Serialize)]
pub struct Technicians {
    /// The run's id.
    pub run: String,
    /// The runbook's name.
    pub runbook: String,
    /// The environment.
    pub environment: String,
    /// The strategy.
    pub strategy: String,
    /// How bad the leak is, as the runbook says.
    pub severity: String,
    /// Whether the run is in the sandbox.
    pub drill: bool,
    /// Why the run was begun; empty where no reason was given.
    pub reason: String,
    /// The person and the machine behind this record.
    pub who: String,
    /// When it was recorded.
    pub at: String,
    /// How long after the run began.
    pub after: String,
    /// Each credential: `name`, and `state` in a sentence.
    pub credentials: Vec<CredentialLine>,
    /// How many credentials there are.
    pub total: usize,
    /// Of how many every store has the new one.
    pub replaced: usize,
    /// How many old ones are proved dead.
    pub dead: usize,
    /// How long the old credentials could be used.
    pub exposure: String,
    /// How long consumers had no valid credential.
    pub outage: String,
    /// Why it stopped, halted or rolled back; empty elsewhere.
    pub why: String,
    /// How the run ended; empty while it is open.
    pub ended: String,
    /// The command to type next.
    pub next: String,
}

/// A credential, for technicians.
#[derive(Debug, Clone, Serialize)]
pub struct CredentialLine {
    /// Its name.
    pub name: String,
    /// What is true of it.
    pub state: String,
}

/// What those who answer for the incident can read.
#[derive(Debug, Clone, Serialize)]
pub struct Management {
    /// The runbook's name.
    pub runbook: String,
    /// The environment.
    pub environment: String,
    /// How bad the leak is, as the runbook says.
    pub severity: String,
    /// Whether the run is in the sandbox.
    pub drill: bool,
    /// When it was recorded.
    pub at: String,
    /// How long after the run began.
    pub after: String,
    /// How many credentials there are.
    pub total: usize,
    /// Of how many every store has the new one.
    pub replaced: usize,
    /// How many old ones are proved dead.
    pub dead: usize,
    /// How long the old credentials could be used.
    pub exposure: String,
    /// How long consumers had no valid credential.
    pub outage: String,
    /// How the run ended; empty while it is open.
    pub ended: String,
}

/// What customers can read. Only times, and the service by the name that customers know: there is no field that
/// could hold a host, a path, a person or a credential.
#[derive(Debug, Clone, Serialize)]
pub struct Customers {
    /// What customers call the service.
    pub service: String,
    /// When it was recorded.
    pub at: String,
    /// When the run began.
    pub began: String,
    /// How long after the run began.
    pub after: String,
    /// Whether consumers had no valid credential for a while, or have none.
    pub interrupted: bool,
}

/// The values of one message.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Values {
    /// For technicians.
    Technicians(Box<Technicians>),
    /// For management.
    Management(Management),
    /// For customers.
    Customers(Customers),
}

impl Values {
    /// Values that every template of an audience must be able to use, all kinds of them.
    pub fn samples(audience: Audience) -> Vec<Self> {
        let text = str::to_owned;
        let (at, after) = (text("2026-11-27 10:00:00 UTC"), text("2m 10s"));
        [true, false]
            .into_iter()
            .map(|full| {
                let maybe = |words: &str| if full { words.to_owned() } else { String::new() };
                match audience {
                    Audience::Technicians => Self::Technicians(Box::new(Technicians {
                        run: text("run"),
                        runbook: text("runbook"),
                        environment: text("environment"),
                        strategy: text("overlap"),
                        severity: text("high"),
                        drill: full,
                        reason: maybe("reason"),
                        who: text("person@machine"),
                        at: at.clone(),
                        after: after.clone(),
                        credentials: vec![CredentialLine { name: text("credential"), state: text("state") }],
                        total: 1,
                        replaced: 1,
                        dead: 0,
                        exposure: after.clone(),
                        outage: after.clone(),
                        why: maybe("why"),
                        ended: maybe("done"),
                        next: text("stanch status run"),
                    })),
                    Audience::Management => Self::Management(Management {
                        runbook: text("runbook"),
                        environment: text("environment"),
                        severity: text("high"),
                        drill: full,
                        at: at.clone(),
                        after: after.clone(),
                        total: 1,
                        replaced: 1,
                        dead: 0,
                        exposure: after.clone(),
                        outage: after.clone(),
                        ended: maybe("done"),
                    }),
                    Audience::Customers => Self::Customers(Customers {
                        service: text("Service"),
                        at: at.clone(),
                        began: at.clone(),
                        after: after.clone(),
                        interrupted: full,
                    }),
                }
            })
            .collect()
    }

    /// The names that a template of an audience can use.
    pub fn names(audience: Audience) -> Vec<String> {
        let sample = Self::samples(audience).into_iter().next();
        let json = sample.and_then(|sample| serde_json::to_value(sample).ok());
        let object = json.as_ref().and_then(serde_json::Value::as_object);
        object.into_iter().flat_map(|fields| fields.keys().cloned()).collect()
    }
}
