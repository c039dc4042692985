//! Alertmanager's API, version 2. One alert a run: it is identified by its labels, which never change in a run.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::domain::Audience;
use crate::follow::notify::message::Message;

pub(super) const PATH: &str = "/api/v2/alerts";
/// How long an alert fires of which no end was sent: a run that nobody touches for longer is another problem.
const FIRES: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The alert of a message.
pub(super) fn alerts(message: &Message) -> Value {
    let run = match message.audience {
        Audience::Technicians => message.run.clone(),
        Audience::Management | Audience::Customers => message.thread(),
    };
    let severity: &str = message.severity.into();
    let ends = match message.is_over() {
        true => message.at,
        false => message.at.checked_add(FIRES).unwrap_or(Timestamp::MAX),
    };
    json!([{
        "labels": {
            "alertname": "StanchRun", "run": run, "severity": severity, "drill": message.drill.to_string(),
            "channel": message.channel,
        },
        "annotations": { "summary": message.title, "description": message.text, "kind": message.kind },
        "startsAt": message.opened,
        "endsAt": ends,
    }])
}
